//! HTTP/1.1 and HTTP/2 as any other client would speak them: hyper over TLS or plain TCP, with
//! everything about a request in the test's hand.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use serde_json::Value;
use tokio::net::TcpStream;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// How to get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// HTTP/1.1 without TLS.
    Plain,
    /// HTTP/1.1 over TLS.
    Http1,
    /// HTTP/2 over TLS.
    Http2,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A request with a body; `Host` and the URL's origin are added.
pub fn request(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    let body = body.into();
    let mut request = Request::builder().method(method).uri(path);
    if !body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    request.body(Full::new(body)).expect("a request")
}

/// A QUIC connection on which nothing has been said yet. `window`: bytes of a stream that its client
/// takes without reading them.
pub async fn quic(address: SocketAddr, trust: &[u8], window: u32) -> quinn::Connection {
    let connection = try_quic(address, trust, window).await;
    connection.expect("a connection")
}

/// The same, which may be refused.
pub async fn try_quic(
    address: SocketAddr,
    trust: &[u8],
    window: u32,
) -> Result<quinn::Connection, quinn::ConnectionError> {
    let mut tls = tls(trust).expect("settings");
    tls.alpn_protocols = vec![b"h3".to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("settings");
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(window.into());
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address"));
    let endpoint = endpoint.expect("an endpoint");
    endpoint.connect_with(config, address, "localhost").expect("an address").await
}

pub type Http3 = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
pub type Http3Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

/// HTTP/3 on a connection.
pub async fn http3(connection: quinn::Connection) -> Http3 {
    let made = h3::client::new(h3_quinn::Connection::new(connection)).await;
    let (mut driver, requests) = made.expect("HTTP/3");
    tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
    requests
}

/// Sends a `GET` over HTTP/3 and gives the status and the stream of its answer.
pub async fn get(requests: &mut Http3, path: &str) -> (u16, Http3Stream) {
    get_with(requests, path, "").await
}

/// The same, with a token that is shown.
pub async fn get_with(requests: &mut Http3, path: &str, token: &str) -> (u16, Http3Stream) {
    let mut request = Request::get(format!("https://localhost{path}"));
    if !token.is_empty() {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(()).expect("a request");
    let mut stream = requests.send_request(request).await.expect("a stream");
    stream.finish().await.expect("the request is sent");
    let response = stream.recv_response().await.expect("an answer");
    (response.status().as_u16(), stream)
}

/// Sends on a connection of its own and reads the whole answer.
pub async fn send(
    way: Way,
    address: SocketAddr,
    trust: &[u8],
    request: Request<Full<Bytes>>,
) -> Answer {
    read(open(way, address, trust, request).await.expect("an answer")).await
}

/// Reads an answer to its end.
pub async fn read(response: Response<Incoming>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

/// Sends and gives the answer unread.
pub async fn open(
    way: Way,
    address: SocketAddr,
    trust: &[u8],
    request: Request<Full<Bytes>>,
) -> Result<Response<Incoming>, Failure> {
    connect(way, address, trust, None).await?.send(address, request).await
}

/// A certificate and its key, PEM.
#[derive(Debug, Clone)]
pub struct Identity {
    pub cert: String,
    pub key: String,
}

/// A connection that takes requests.
pub enum Sender {
    Http1(hyper::client::conn::http1::SendRequest<Full<Bytes>>),
    Http2(hyper::client::conn::http2::SendRequest<Full<Bytes>>),
}

impl Sender {
    /// Sends a request and gives the answer unread.
    pub async fn send(
        mut self,
        address: SocketAddr,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        self.send_one(address, request).await
    }

    /// The same for one of several on this connection.
    pub async fn send_one(
        &mut self,
        address: SocketAddr,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure> {
        let (authority, path) = (address.to_string(), request.uri().to_string());
        match self {
            Self::Http1(sender) => {
                request.headers_mut().insert("host", authority.parse()?);
                Ok(sender.send_request(request).await?)
            }
            Self::Http2(sender) => {
                *request.uri_mut() = format!("https://{authority}{path}").parse()?;
                Ok(sender.send_request(request).await?)
            }
        }
    }
}

/// A connection, with a certificate if there is one.
pub async fn connect(
    way: Way,
    address: SocketAddr,
    trust: &[u8],
    identity: Option<&Identity>,
) -> Result<Sender, Failure> {
    let tcp = TcpStream::connect(address).await?;
    if way == Way::Plain {
        return http1(TokioIo::new(tcp)).await;
    }
    let mut tls = tls_as(trust, identity)?;
    let protocol: &[u8] = if way == Way::Http2 { b"h2" } else { b"http/1.1" };
    tls.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost")?;
    let tls = tokio_rustls::TlsConnector::from(Arc::new(tls)).connect(name, tcp).await?;
    assert_eq!(tls.get_ref().1.alpn_protocol(), Some(protocol));
    if way == Way::Http1 {
        return http1(TokioIo::new(tls)).await;
    }
    let io = TokioIo::new(tls);
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await?;
    tokio::spawn(connection);
    Ok(Sender::Http2(sender))
}

/// What a client that trusts one certificate needs.
pub fn tls(trust: &[u8]) -> Result<rustls::ClientConfig, Failure> {
    tls_as(trust, None)
}

fn tls_as(trust: &[u8], identity: Option<&Identity>) -> Result<rustls::ClientConfig, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trust) {
        roots.add(certificate?)?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions()?.with_root_certificates(roots);
    let Some(identity) = identity else { return Ok(builder.with_no_client_auth()) };
    let chain = CertificateDer::pem_slice_iter(identity.cert.as_bytes());
    let chain = chain.collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())?;
    Ok(builder.with_client_auth_cert(chain, key)?)
}

async fn http1<T>(io: TokioIo<T>) -> Result<Sender, Failure>
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) = hyper::client::conn::http1::handshake(io).await?;
    tokio::spawn(connection);
    Ok(Sender::Http1(sender))
}
