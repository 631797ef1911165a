//! The doors: HTTP/3 and HTTP/2 + 1.1 over TLS on one port, plain HTTP/1.1 beside them, and the
//! small one for probes. Every request of every door comes through [`Door::handle`], which makes a
//! call of it and an HTTP answer of the result. No route is written here, and none knows of HTTP.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    panic::AssertUnwindSafe,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{FutureExt as _, StreamExt as _};
use ironcast_api::{ErrorCode, EventSeq, Problem, problem::PROBLEM_MEDIA_TYPE};
use salvo::{
    Depot, FlowCtrl, Handler, Listener as _, Request, Response, Router, Server, Service,
    async_trait,
    conn::{
        ConnCtrl, TcpListener, UnixListener,
        quinn::QuinnListener,
        rustls::{Keycert, RustlsConfig},
        tcp::TcpAcceptor,
    },
    fuse::FuseConfig,
    http::{HeaderValue, ParseError, StatusCode, header},
    server::ServerHandle,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    ServerError,
    auth::Tokens,
    call::{Answer, Body, Call},
    engine::Engine,
    routes::{self, NotFound, Op, stream},
    tls::KeyPair,
};

/// Connections of one door at once.
const CONNECTIONS_MAX: usize = 10_000;
/// Requests of one QUIC connection at once.
const QUIC_STREAMS_MAX: u32 = 1_024;
/// A QUIC connection without a sign of life ends.
const QUIC_IDLE_MAX: Duration = Duration::from_secs(30);

/// What a door lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Everything, for who may.
    All,
    /// Health, readiness and metrics, for everybody.
    Ops,
}

/// Handles requests.
#[derive(Clone)]
pub struct Door {
    pub engine: Arc<Engine>,
    pub tokens: Tokens,
    pub reach: Reach,
    pub stopping: watch::Receiver<bool>,
}

/// An open door.
pub struct Open {
    pub address: Option<SocketAddr>,
    pub handle: ServerHandle,
    pub task: JoinHandle<()>,
}

/// Counts the requests that are not answered yet.
struct UnderWay<'a>(&'a Engine);

impl<'a> UnderWay<'a> {
    fn new(engine: &'a Engine) -> Self {
        engine.calls.send_modify(|calls| *calls += 1);
        Self(engine)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.calls.send_modify(|calls| *calls -= 1);
    }
}

/// What a request comes to.
enum Outcome {
    Answer(Answer),
    Stream(stream::Opened),
    Problem(Problem),
    Method(Problem, Vec<&'static str>),
}

impl From<Problem> for Outcome {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

#[async_trait]
impl Handler for Door {
    async fn handle(
        &self,
        request: &mut Request,
        _: &mut Depot,
        response: &mut Response,
        _: &mut FlowCtrl,
    ) {
        let _under_way = UnderWay::new(&self.engine);
        let serving = AssertUnwindSafe(self.serve(request)).catch_unwind();
        let outcome = serving
            .await
            .unwrap_or_else(|_| Outcome::Problem(self.engine.fault(request.uri().path())));
        self.write(outcome, response);
    }
}

impl Door {
    async fn serve(&self, request: &mut Request) -> Outcome {
        match self.read(request).await {
            Ok(call) => self.answer(request, &call).await,
            Err(problem) => problem.into(),
        }
    }

    /// Who may, how often, how much: before anything is looked at.
    async fn read(&self, request: &mut Request) -> Result<Call, Problem> {
        let engine = &self.engine;
        if self.reach == Reach::All {
            let per_s = engine.config.limits.requests_per_s;
            engine.clients.check(client_of(request), per_s, Instant::now())?;
            let authorization = request.headers().get(header::AUTHORIZATION);
            self.tokens.check(authorization.and_then(|value| value.to_str().ok()))?;
        }
        let target =
            request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let method = request.method().as_str().to_owned();
        let max = engine.config.limits.body_bytes_max;
        let has_no_body = matches!(method.as_str(), "GET" | "DELETE" | "HEAD");
        let body = if has_no_body { bytes::Bytes::new() } else { body_of(request, max).await? };
        Ok(Call::new(&method, &target, Body::Bytes(body)))
    }

    async fn answer(&self, request: &Request, call: &Call) -> Outcome {
        #[cfg(test)]
        crate::tests::panic_if_wanted(&self.engine, call);
        let found = match routes::find(call) {
            Ok(found) => found,
            Err(NotFound::Problem(problem)) => return problem.into(),
            Err(NotFound::Method(methods)) => {
                return Outcome::Method(routes::method_problem(call, &methods), methods);
            }
        };
        if self.reach == Reach::Ops && !matches!(found.op, Op::Health | Op::Ready | Op::Metrics) {
            let detail = "this door has /health, /ready and /metrics";
            return Problem::new(ErrorCode::NotFound, detail).into();
        }
        if found.op == Op::Events {
            return self.open_stream(request, call);
        }
        match routes::dispatch(&self.engine, call).await {
            Ok(answer) => Outcome::Answer(answer),
            Err(problem) => problem.into(),
        }
    }

    fn open_stream(&self, request: &Request, call: &Call) -> Outcome {
        let last_event_id = request.headers().get("last-event-id");
        let last_event_id = last_event_id.and_then(|value| value.to_str().ok());
        let connection = request.extensions().get::<ConnCtrl>().cloned();
        let end_connection = move || {
            if let Some(connection) = connection {
                connection.abort();
            }
        };
        let stopping = self.stopping.clone();
        match stream::open(&self.engine, call, last_event_id, stopping, end_connection) {
            Ok(opened) => Outcome::Stream(opened),
            Err(problem) => problem.into(),
        }
    }

    fn write(&self, outcome: Outcome, response: &mut Response) {
        let status = match outcome {
            Outcome::Answer(answer) => {
                set(response, "ironcast-seq", &answer.seq.to_string());
                if answer.status != 204 {
                    set(response, "content-type", answer.media_type);
                    response.body(answer.body);
                }
                answer.status
            }
            Outcome::Stream(stream::Opened { pieces, seq }) => {
                set(response, "ironcast-seq", &seq.to_string());
                set(response, "content-type", "text/event-stream");
                set(response, "cache-control", "no-store");
                let pieces = futures::stream::unfold(pieces, |mut pieces| async move {
                    pieces.recv().await.map(|piece| (piece, pieces))
                });
                response.stream(pieces.map(Ok::<_, std::convert::Infallible>));
                200
            }
            Outcome::Problem(problem) => self.write_problem(&problem, response),
            Outcome::Method(problem, methods) => {
                set(response, "allow", &methods.join(", "));
                self.write_problem(&problem, response)
            }
        };
        self.engine.metrics.count_answer(status);
        response.status_code = StatusCode::from_u16(status).ok();
    }

    fn write_problem(&self, problem: &Problem, response: &mut Response) -> u16 {
        self.engine.metrics.count_problem(problem.code);
        let seq: EventSeq = self.engine.seq();
        set(response, "ironcast-seq", &seq.to_string());
        set(response, "content-type", PROBLEM_MEDIA_TYPE);
        if let Some(seconds) = problem.retry_after {
            set(response, "retry-after", &seconds.to_string());
        }
        if problem.code == ErrorCode::Unauthenticated {
            set(response, "www-authenticate", "Bearer");
        }
        response.body(serde_json::to_vec(problem).unwrap_or_default());
        problem.status
    }
}

fn set(response: &mut Response, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

fn client_of(request: &Request) -> Option<IpAddr> {
    let address = request.remote_addr().clone().into_std()?;
    Some(address.ip().to_canonical())
}

async fn body_of(request: &mut Request, max: usize) -> Result<bytes::Bytes, Problem> {
    let too_large =
        || Problem::new(ErrorCode::TooLarge, format!("a body has at most {max} bytes here"));
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|bytes| bytes > max as u64) {
        return Err(too_large());
    }
    match request.payload_with_max_size(max).await {
        Ok(body) => Ok(body.clone()),
        Err(ParseError::PayloadTooLarge) => Err(too_large()),
        Err(error) => Err(Problem::invalid("", format!("the body cannot be read: {error}"))),
    }
}

fn fuse() -> FuseConfig {
    // No limit for idle connections: a stream of events may be silent for 15 s at a time.
    FuseConfig::default()
        .with_write_stall_timeout(Duration::from_secs(30))
        .with_request_body_timeout(Duration::from_secs(30))
}

/// HTTP/3, and HTTP/2 and 1.1 over TLS, on the same port number.
pub async fn open_tls(
    door: Door,
    address: SocketAddr,
    keys: KeyPair,
    client_ca: Option<Vec<u8>>,
) -> Result<Open, ServerError> {
    let address = if address.port() == 0 { free_port(address)? } else { address };
    let failed = |error: &dyn std::fmt::Display| ServerError::bind(address, error);
    let keys = Keycert::new().cert(keys.cert_pem).key(keys.key_pem);
    let mut tls = RustlsConfig::new(keys);
    if let Some(client_ca) = client_ca {
        tls = tls.client_auth_required(client_ca);
    }
    let tcp = TcpListener::new(address).rustls(tls.clone());
    let mut quic = tls.build_quinn_config().map_err(|error| ServerError::Tls(error.to_string()))?;
    let mut transport = quinn::TransportConfig::default();
    let idle = QUIC_IDLE_MAX.try_into().map_err(|error| failed(&error))?;
    transport.max_concurrent_bidi_streams(QUIC_STREAMS_MAX.into()).max_idle_timeout(Some(idle));
    quic.transport_config(Arc::new(transport));
    let acceptor = tcp
        .join(QuinnListener::new(quic, address))
        .try_bind()
        .await
        .map_err(|error| failed(&error))?;
    Ok(serve(acceptor, door, Some(address)))
}

/// Plain HTTP/1.1.
pub async fn open_plain(door: Door, address: SocketAddr) -> Result<Open, ServerError> {
    let failed = |error| ServerError::bind(address, &error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let acceptor = TcpAcceptor::try_from(listener).map_err(failed)?;
    Ok(serve(acceptor, door, Some(address)))
}

/// Plain HTTP/1.1 on a unix socket, for the owner and his group.
pub async fn open_unix(door: Door, path: &Path) -> Result<Open, ServerError> {
    let failed = |error: &dyn std::fmt::Display| {
        ServerError::Bind(path.display().to_string(), error.to_string())
    };
    if tokio::net::UnixStream::connect(path).await.is_ok() {
        return Err(failed(&"somebody is listening there already"));
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(&error)),
        _ => {}
    }
    let listener = UnixListener::new(path.to_owned());
    let permissions = std::fs::Permissions::from_mode(0o660);
    let acceptor = listener.permissions(permissions).try_bind().await;
    Ok(serve(acceptor.map_err(|error| failed(&error))?, door, None))
}

fn serve<A>(acceptor: A, door: Door, address: Option<SocketAddr>) -> Open
where
    A: salvo::conn::Acceptor + Send + 'static,
{
    let server = Server::new(acceptor).fuse_config(fuse()).max_connections(CONNECTIONS_MAX);
    let handle = server.handle();
    // No routes of salvo's: whatever the path is, the door answers.
    let service = Service::new(Router::new()).hoop(door);
    let task = tokio::spawn(async move {
        if let Err(error) = server.try_serve(service).await {
            tracing::error!(%error, "a door closed");
        }
    });
    Open { address, handle, task }
}

/// A port that is free for TCP and for UDP.
fn free_port(address: SocketAddr) -> Result<SocketAddr, ServerError> {
    let mut last = String::new();
    for _ in 0..50 {
        let found = std::net::TcpListener::bind(address).and_then(|tcp| {
            let address = tcp.local_addr()?;
            std::net::UdpSocket::bind(address)?;
            Ok(address)
        });
        match found {
            Ok(address) => return Ok(address),
            Err(error) => last = error.to_string(),
        }
    }
    Err(ServerError::bind(address, &last))
}
