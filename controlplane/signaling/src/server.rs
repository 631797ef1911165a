//! The public port: how long a connection may do nothing, how many there may be, and how serving
//! ends. Everybody can reach it, so nothing here waits for a peer without a limit.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::Stream;
use prometheus_client::metrics::counter::Counter;
use salvo::conn::rustls::{RustlsConfig, RustlsListener};
use salvo::conn::tcp::TcpAcceptor;
use salvo::conn::{Acceptor, ConnCtrl, Listener};
use salvo::fuse::{ArcConnObserver, ConnObserver, FuseAction, FuseConfig, FuseInfo, FusePolicy};
use salvo::server::ServerHandle;
use salvo::{Handler, Router, Server, Service, async_trait};
use tokio::task::JoinHandle;

use crate::limits::group;
use crate::settings::Settings;
use crate::web::Site;

/// A connection on which nothing moves for so long ends. Long polls are answered sooner.
const IDLE_TIME_MAX: Duration = Duration::from_secs(60);

/// How long requests that run when the service stops may still take.
const LAST_REQUESTS_MAX: Duration = Duration::from_secs(1);

/// A port that is being served.
pub struct Serving {
    /// Where.
    pub address: SocketAddr,
    handle: ServerHandle,
    task: JoinHandle<()>,
}

/// Serves a site on a listening socket, over TLS if there are certificates: each holds for the
/// handshakes that begin after it came.
pub async fn serve(
    site: Site,
    listener: std::net::TcpListener,
    tls: Option<impl Stream<Item = RustlsConfig> + Send + 'static>,
) -> anyhow::Result<Serving> {
    let service = Arc::clone(&site.service);
    let refused = service.metrics.connections_refused.clone();
    serve_counted(site, &service.settings, refused, listener, tls).await
}

/// The same for whatever answers.
pub async fn serve_any(
    site: impl Handler,
    settings: &Settings,
    listener: std::net::TcpListener,
    tls: Option<impl Stream<Item = RustlsConfig> + Send + 'static>,
) -> anyhow::Result<Serving> {
    serve_counted(site, settings, Counter::default(), listener, tls).await
}

async fn serve_counted(
    site: impl Handler,
    settings: &Settings,
    refused: Counter,
    listener: std::net::TcpListener,
    tls: Option<impl Stream<Item = RustlsConfig> + Send + 'static>,
) -> anyhow::Result<Serving> {
    let address = listener.local_addr()?;
    let limits = Limits {
        fuse: FuseConfig::strict()
            .with_http1_header_timeout(settings.header_time_max)
            .with_connection_idle_timeout(IDLE_TIME_MAX),
        per_address_max: settings.connections_per_address_max,
        open: Arc::default(),
        refused,
    };
    let connections_max = settings.connections_max;
    let listener = Bound(listener);
    Ok(match tls {
        None => spawn(listener.try_bind().await?, site, limits, connections_max, address),
        Some(certificates) => {
            let acceptor = RustlsListener::new(certificates, listener).try_bind().await?;
            spawn(acceptor, site, limits, connections_max, address)
        }
    })
}

/// A socket that listens already: who starts the service learns before anything else whether the
/// port is free.
struct Bound(std::net::TcpListener);

impl Listener for Bound {
    type Acceptor = TcpAcceptor;

    async fn try_bind(self) -> salvo::Result<TcpAcceptor> {
        self.0.set_nonblocking(true)?;
        without_delay(&self.0)?;
        let listener = tokio::net::TcpListener::from_std(self.0)?;
        Ok(TcpAcceptor::try_from(listener)?)
    }
}

/// What is accepted from now on sends at once: of two messages the second would wait for the
/// acknowledgement of the first, which a peer may hold back for 40 ms.
fn without_delay(listener: &std::net::TcpListener) -> std::io::Result<()> {
    socket2::SockRef::from(listener).set_tcp_nodelay(true)
}

fn spawn<A>(
    acceptor: A,
    site: impl Handler,
    limits: Limits,
    connections_max: usize,
    address: SocketAddr,
) -> Serving
where
    A: Acceptor + Send + 'static,
{
    let server = Server::new(acceptor).fuse_policy(limits).max_connections(connections_max);
    let handle = server.handle();
    // No routes of the library's: whatever the path is, the site answers.
    let service = Service::new(Router::new()).hoop(site);
    let task = tokio::spawn(async move {
        if let Err(error) = server.try_serve(service).await {
            tracing::error!(%error, "the port closed");
        }
    });
    Serving { address, handle, task }
}

impl Serving {
    /// Takes no new connection, and waits a moment for the requests that run.
    pub async fn stop(self) {
        self.handle.stop_graceful(LAST_REQUESTS_MAX);
        let _ = self.task.await;
    }
}

/// Who may connect.
struct Limits {
    fuse: FuseConfig,
    per_address_max: usize,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
    refused: Counter,
}

/// Counts a connection for as long as it lives.
struct Counted {
    address: IpAddr,
    open: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl ConnObserver for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut open = self.open.lock().expect("nobody panics with it");
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

fn address_of(info: &FuseInfo) -> Option<IpAddr> {
    Some(group(info.remote_addr.clone().into_std()?.ip()))
}

#[async_trait]
impl FusePolicy for Limits {
    async fn decide(&self, info: &FuseInfo) -> FuseAction {
        let open = self.open.lock().expect("nobody panics with it");
        let count = address_of(info).and_then(|address| open.get(&address).copied());
        if count.unwrap_or(0) >= self.per_address_max {
            self.refused.inc();
            return FuseAction::Reject;
        }
        FuseAction::Accept(self.fuse)
    }

    fn observe(&self, info: &FuseInfo, _: &ConnCtrl) -> Option<ArcConnObserver> {
        let address = address_of(info)?;
        *self.open.lock().expect("nobody panics with it").entry(address).or_default() += 1;
        Some(Arc::new(Counted { address, open: Arc::clone(&self.open) }))
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_is_accepted_sends_at_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        super::without_delay(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(listener.accept().unwrap().0.nodelay().unwrap());
    }
}
