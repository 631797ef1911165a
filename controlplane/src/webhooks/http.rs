//! One connection to a receiver: HTTP/1.1, over TLS unless it is on this machine. Kept open between
//! deliveries; follows no redirects, and reads of an answer no more than its status and a little.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    client::conn::http1::{self, SendRequest},
    header::HOST,
};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio_rustls::TlsConnector;

use super::reach::Reach;

/// What is read of an answer's body, so that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a delivery did not get an answer.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    #[error("cannot connect: {0}")]
    Connect(#[from] std::io::Error),
    #[error("no HTTP there: {0}")]
    Http(#[from] hyper::Error),
    #[error("the request cannot be made: {0}")]
    Request(#[from] hyper::http::Error),
}

/// Where a receiver is.
#[derive(Clone)]
pub struct Endpoint {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    reach: Reach,
}

/// Without what may stand in a path or query.
impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl Endpoint {
    /// With `roots` over TLS.
    pub fn new(uri: Uri, roots: Option<RootCertStore>, reach: Reach) -> Result<Self, String> {
        let host = uri.host().ok_or("url: it has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let usual = if roots.is_some() { 443 } else { 80 };
        let port = uri.port_u16().unwrap_or(usual);
        let tls = roots.map(|roots| connector(roots, &host)).transpose()?;
        Ok(Self { uri, host, port, tls, reach })
    }

    /// Scheme, host and port.
    #[must_use]
    pub fn origin(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        // An IPv6 address stands in brackets.
        match self.host.contains(':') {
            true => format!("{scheme}://[{}]:{}", self.host, self.port),
            false => format!("{scheme}://{}:{}", self.host, self.port),
        }
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, SendError> {
        let stream = self.reach.connect(&self.host, self.port).await?;
        // A delivery is one write.
        stream.set_nodelay(true)?;
        match &self.tls {
            None => handshake(stream).await,
            Some((connector, name)) => {
                handshake(connector.connect(name.clone(), stream).await?).await
            }
        }
    }
}

fn connector(
    roots: RootCertStore,
    host: &str,
) -> Result<(TlsConnector, ServerName<'static>), String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("url: {error}"))?;
    Ok((TlsConnector::from(Arc::new(config)), name))
}

async fn handshake<S>(stream: S) -> Result<SendRequest<Full<Bytes>>, SendError>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // It ends when the sender is dropped; what goes wrong is told by the request.
    tokio::spawn(async move { drop(connection.await) });
    Ok(sender)
}

/// A connection that is kept between deliveries.
#[derive(Default)]
pub struct Connection(Option<SendRequest<Full<Bytes>>>);

impl Connection {
    /// The one that is there, if it takes more.
    async fn ready(&mut self) -> Option<SendRequest<Full<Bytes>>> {
        let mut sender = self.0.take()?;
        sender.ready().await.is_ok().then_some(sender)
    }

    /// Sends a body and gives the status of the answer.
    pub async fn post(
        &mut self,
        endpoint: &Endpoint,
        headers: &[(&'static str, String)],
        body: String,
    ) -> Result<StatusCode, SendError> {
        let mut sender = match self.ready().await {
            Some(sender) => sender,
            None => endpoint.connect().await?,
        };
        let target = endpoint.uri.path_and_query().map_or("/", |target| target.as_str());
        let host = endpoint.uri.authority().map_or("", |authority| authority.as_str());
        let mut request = Request::post(target).header(HOST, host);
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let answer = sender.send_request(request.body(Full::new(body.into()))?).await?;
        let status = answer.status();
        let rest = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        // With more to say it is not worth waiting for.
        self.0 = rest.is_ok().then_some(sender);
        Ok(status)
    }
}
