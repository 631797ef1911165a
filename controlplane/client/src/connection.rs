//! The connection: made when a call needs it, shared by all calls, dropped when it fails. Owns the
//! QUIC endpoint; knows nothing about the calls themselves.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use bytes::{Buf as _, Bytes, BytesMut};
use http::{HeaderValue, Method, Request, StatusCode, header};
use ironcast_api::{EventSeq, Problem};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{ClientBuilder, ClientError, Token, Trust};

/// Largest answer that is read: a snapshot of a full host is the largest there is.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// A server that says nothing for so long is gone; it is asked in between.
const IDLE_MAX: Duration = Duration::from_secs(4);
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// One of several addresses of a name has so long to answer before the next one is tried too.
const ADDRESS_TIME_MAX: Duration = Duration::from_secs(1);
/// A call that the server has no room for is repeated so often, and only if it says to wait no
/// longer than this.
const REPEATS_MAX: u32 = 2;
const REPEAT_WAIT_MAX: Duration = Duration::from_secs(2);

type Requests = h3::client::SendRequest<h3_quinn::OpenStreams, Bytes>;
pub(crate) type Stream = h3::client::RequestStream<h3_quinn::BidiStream<Bytes>, Bytes>;

pub(crate) struct Settings {
    pub(crate) authority: String,
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) trust: Vec<Trust>,
    pub(crate) token: Option<Token>,
    pub(crate) identity: Option<(PathBuf, PathBuf)>,
    pub(crate) timeout: Duration,
}

/// A client of one control plane. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct Client {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Arc<Settings>,
    current: Mutex<Option<Connected>>,
}

/// An open connection. Dropping the last clone of `requests` closes it.
#[derive(Clone)]
struct Connected {
    quic: quinn::Connection,
    requests: Requests,
    authorization: Option<HeaderValue>,
}

/// An answer as it came.
#[derive(Debug, Clone)]
pub struct RawAnswer {
    /// HTTP status.
    pub status: u16,
    /// The last event that the answer includes (`Ironcast-Seq`).
    pub seq: Option<EventSeq>,
    /// When to try again, in seconds (`Retry-After`).
    pub retry_after: Option<u32>,
    /// JSON, as a rule.
    pub body: Bytes,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("authority", &self.inner.settings.authority).finish()
    }
}

impl Client {
    /// Begins with `https://host:port`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(url)
    }

    pub(crate) fn with_settings(settings: Settings) -> Self {
        Self::over(Arc::new(settings))
    }

    fn over(settings: Arc<Settings>) -> Self {
        Self { inner: Arc::new(Inner { settings, current: Mutex::new(None) }) }
    }

    /// The same with a connection of its own, made when it is first asked: it tells a server that is
    /// gone from one that was started again, which knows nothing of the old connection.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::over(Arc::clone(&self.inner.settings))
    }

    /// Closes the connection; the next call makes another. Calls that wait are repeated by it.
    pub fn disconnect(&self) {
        // Where it is taken another is being made.
        if let Ok(mut current) = self.inner.current.try_lock()
            && let Some(connected) = current.take()
        {
            connected.quic.close(0u32.into(), b"");
        }
    }

    /// Any call, by method, path (with `/v1` and query) and JSON body. The typed methods are built
    /// on it; a problem document is an answer here, not an error.
    pub async fn request(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<RawAnswer, ClientError> {
        let limit = self.inner.settings.timeout;
        timeout(limit, self.request_twice(method, path, body))
            .await
            .unwrap_or_else(|_| Err(ClientError::Timeout(limit.as_millis())))
    }

    /// Every call of the API is safe to repeat, so a connection that broke under one is replaced.
    async fn request_twice(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<RawAnswer, ClientError> {
        match self.request_once(method.clone(), path, body.clone()).await {
            Err(ClientError::Unreachable(reason)) => {
                tracing::debug!(path, reason, "the connection broke, repeating the call");
                self.request_once(method, path, body).await
            }
            other => other,
        }
    }

    async fn request_once(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<RawAnswer, ClientError> {
        let mut stream = self.open(method, path, body, &[]).await?;
        let response = stream.recv_response().await.map_err(unreachable)?;
        let seq = seq_of(response.headers());
        let retry_after = response.headers().get(header::RETRY_AFTER);
        let retry_after = retry_after.and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let status = response.status();
        let body = read_body(&mut stream).await?;
        Ok(RawAnswer { status: status.as_u16(), seq, retry_after, body })
    }

    /// The same, asked again when the server says that it has no room now but soon: at most twice,
    /// and never beyond the time of one call.
    pub(crate) async fn request_patiently(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<RawAnswer, ClientError> {
        let limit = self.inner.settings.timeout;
        let end = Instant::now() + limit;
        let mut repeats = REPEATS_MAX;
        loop {
            let asked = self.request(method.clone(), path, body.clone());
            let answer = timeout_at(end, asked)
                .await
                .unwrap_or_else(|_| Err(ClientError::Timeout(limit.as_millis())))?;
            let is_busy = matches!(answer.status, 429 | 503);
            let wait = answer.retry_after.map(|seconds| Duration::from_secs(seconds.into()));
            match wait {
                Some(wait) if is_busy && repeats > 0 && wait <= REPEAT_WAIT_MAX => {
                    if Instant::now() + wait >= end {
                        return Ok(answer);
                    }
                    sleep(wait).await;
                    repeats -= 1;
                }
                _ => return Ok(answer),
            }
        }
    }

    /// Sends a request and gives its stream, with nothing read yet.
    pub(crate) async fn open(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
        headers: &[(&'static str, String)],
    ) -> Result<Stream, ClientError> {
        let mut connected = self.connected().await?;
        let mut request = Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.inner.settings.authority));
        if let Some(authorization) = &connected.authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        if let Some(body) = &body {
            request = request
                .header(header::CONTENT_TYPE, "application/json")
                .header(header::CONTENT_LENGTH, body.len());
        }
        for (name, value) in headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(())
            .map_err(|error| ClientError::Settings(format!("{path:?}: {error}")))?;
        let mut stream = connected.requests.send_request(request).await.map_err(unreachable)?;
        // A server that refuses early (body too large) may stop reading: its answer says why, so
        // errors of sending are left to the reading side.
        if let Some(body) = body
            && let Err(error) = stream.send_data(body).await
        {
            tracing::debug!(%error, "the body was not taken");
        }
        let _ = stream.finish().await;
        Ok(stream)
    }

    async fn connected(&self) -> Result<Connected, ClientError> {
        let mut current = self.inner.current.lock().await;
        if let Some(connected) = &*current
            && connected.quic.close_reason().is_none()
        {
            return Ok(connected.clone());
        }
        // Dropped first: a new connection must not wait for the old one's goodbye.
        *current = None;
        let connected = timeout(CONNECT_TIME_MAX, connect(&self.inner.settings))
            .await
            .unwrap_or_else(|_| Err(ClientError::Unreachable("no answer".into())))?;
        *current = Some(connected.clone());
        Ok(connected)
    }
}

/// Every address of the name, one after the other: nobody may be listening at the first.
async fn connect(settings: &Settings) -> Result<Connected, ClientError> {
    let addresses = tokio::net::lookup_host((settings.host.as_str(), settings.port)).await;
    let addresses: Vec<SocketAddr> = addresses.map_err(unreachable)?.collect();
    let mut failed = ClientError::Unreachable(format!("{} has no address", settings.host));
    for (number, address) in addresses.iter().enumerate() {
        let is_last = number + 1 == addresses.len();
        let limit = if is_last { CONNECT_TIME_MAX } else { ADDRESS_TIME_MAX };
        match timeout(limit, connect_to(settings, *address)).await {
            Ok(Err(error @ ClientError::Settings(_))) => return Err(error),
            Ok(Err(error)) => failed = error,
            Ok(connected) => return connected,
            Err(_) => failed = ClientError::Unreachable(format!("no answer of {address}")),
        }
    }
    Err(failed)
}

async fn connect_to(settings: &Settings, address: SocketAddr) -> Result<Connected, ClientError> {
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(settings.tls()?)
        .map_err(|error| ClientError::Settings(error.to_string()))?;
    let mut transport = quinn::TransportConfig::default();
    transport
        .max_idle_timeout(Some(IDLE_MAX.try_into().map_err(unreachable)?))
        .keep_alive_interval(Some(KEEP_ALIVE));
    let mut config = quinn::ClientConfig::new(Arc::new(tls));
    config.transport_config(Arc::new(transport));
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = ironcast_udp::open(local).map_err(unreachable)?;
    let runtime = Arc::new(quinn::TokioRuntime);
    let endpoint = quinn::Endpoint::new(quinn::EndpointConfig::default(), None, socket, runtime);
    let endpoint = endpoint.map_err(unreachable)?;
    let quic = endpoint
        .connect_with(config, address, &settings.host)
        .map_err(unreachable)?
        .await
        .map_err(unreachable)?;
    let (mut driver, requests) = h3::client::builder()
        .send_grease(false)
        .build(h3_quinn::Connection::new(quic.clone()))
        .await
        .map_err(unreachable)?;
    let closing = quic.clone();
    tokio::spawn(async move {
        let reason = std::future::poll_fn(|context| driver.poll_close(context)).await;
        tracing::debug!(%reason, "the connection to the control plane ended");
        // A server that says goodbye (GOAWAY) keeps the connection open: we make a new one.
        closing.close(0u32.into(), b"");
        endpoint.wait_idle().await;
    });
    Ok(Connected { quic, requests, authorization: settings.authorization()? })
}

async fn read_body(stream: &mut Stream) -> Result<Bytes, ClientError> {
    let mut body = BytesMut::new();
    while let Some(mut part) = stream.recv_data().await.map_err(unreachable)? {
        if body.len() + part.remaining() > ANSWER_BYTES_MAX {
            return Err(ClientError::Answer("it is too large".into()));
        }
        body.extend_from_slice(&part.copy_to_bytes(part.remaining()));
    }
    Ok(body.freeze())
}

pub(crate) fn seq_of(headers: &http::HeaderMap) -> Option<EventSeq> {
    headers.get("ironcast-seq")?.to_str().ok()?.parse().ok()
}

/// What the server said when it did not do it.
pub(crate) fn refusal(status: u16, body: &[u8]) -> ClientError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ClientError::Problem(Box::new(problem)),
        Err(_) => {
            let status =
                StatusCode::from_u16(status).map_or_else(|_| status.to_string(), |s| s.to_string());
            ClientError::Answer(format!("status {status} without a problem document"))
        }
    }
}

/// Reads what is left of a refused stream.
pub(crate) async fn refusal_of(status: u16, stream: &mut Stream) -> ClientError {
    match read_body(stream).await {
        Ok(body) => refusal(status, &body),
        Err(error) => error,
    }
}

pub(crate) fn unreachable(error: impl std::fmt::Display) -> ClientError {
    ClientError::Unreachable(error.to_string())
}
