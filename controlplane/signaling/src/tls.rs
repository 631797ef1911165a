//! HTTPS for the page: browsers give a page camera and microphone only on localhost or over
//! HTTPS, so that other machines of a network need it. Handshakes run beside the accepting, and a
//! slow one delays nobody.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Handshakes at once; further connections wait in the kernel's queue.
const HANDSHAKES_MAX: usize = 64;

/// Longest handshake.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);

/// Connections whose handshake is done.
pub struct TlsListener {
    ready: mpsc::Receiver<(TlsStream<TcpStream>, SocketAddr)>,
    local_address: SocketAddr,
}

impl TlsListener {
    /// Takes over a listening socket.
    pub fn new(listener: TcpListener, config: ServerConfig) -> io::Result<Self> {
        let local_address = listener.local_addr()?;
        let (done, ready) = mpsc::channel(HANDSHAKES_MAX);
        tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(config)), done));
        Ok(Self { ready, local_address })
    }
}

async fn accept(
    mut listener: TcpListener,
    acceptor: TlsAcceptor,
    done: mpsc::Sender<(TlsStream<TcpStream>, SocketAddr)>,
) {
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    while !done.is_closed() {
        let Ok(permit) = Arc::clone(&handshakes).acquire_owned().await else { return };
        // axum's implementation logs errors and waits where waiting helps.
        let (stream, peer) = Listener::accept(&mut listener).await;
        let (acceptor, done) = (acceptor.clone(), done.clone());
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE_TIME_MAX, acceptor.accept(stream)).await;
            drop(permit);
            if let Ok(Ok(stream)) = handshake {
                let _ = done.send((stream, peer)).await;
            }
        });
    }
}

impl Listener for TlsListener {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.ready.recv().await {
            Some(connection) => connection,
            // The accepting task never ends while we are here.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local_address)
    }
}

/// From files in PEM.
pub fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<ServerConfig> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .with_context(|| format!("cannot read the certificate {}", certificate.display()))?;
    let key = PrivateKeyDer::from_pem_file(key)
        .with_context(|| format!("cannot read the key {}", key.display()))?;
    config(chain, key)
}

/// Self-signed, made at the first start and kept, so that a browser that was told to go on need
/// not be told again.
pub fn for_development(
    listen: IpAddr,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<ServerConfig> {
    if !certificate.exists() || !key.exists() {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !listen.is_unspecified() && !listen.is_loopback() {
            names.push(listen.to_string());
        }
        let made = rcgen::generate_simple_self_signed(names)?;
        if let Some(folder) = key.parent() {
            fs::create_dir_all(folder)?;
        }
        let write = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        write
            .open(key)
            .and_then(|mut file| file.write_all(made.signing_key.serialize_pem().as_bytes()))
            .with_context(|| format!("cannot write the key {}", key.display()))?;
        fs::write(certificate, made.cert.pem())
            .with_context(|| format!("cannot write the certificate {}", certificate.display()))?;
    }
    from_files(certificate, key)
}

fn config(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not fit")?;
    // WebSockets need HTTP/1.1, and the page is a handful of files.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
