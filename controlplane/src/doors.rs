//! The doors: HTTP/2 + 1.1 over TLS and HTTP/3 (`quic`) on one port, plain HTTP/1.1 beside them, and
//! the small one for probes. Every request of every door comes through [`Door::handle`], which makes a
//! call of it and an HTTP answer of the result. No route is written here, and none knows of HTTP.

use std::{
    net::{IpAddr, SocketAddr},
    os::unix::fs::PermissionsExt as _,
    panic::AssertUnwindSafe,
    path::Path,
    sync::Arc,
    time::Instant,
};

use futures::{FutureExt as _, StreamExt as _};
use ironcast_api::{ErrorCode, EventSeq, Problem, problem::PROBLEM_MEDIA_TYPE};
use ironcast_config::Door as DoorAddress;
use salvo::{
    Depot, FlowCtrl, Handler, Listener as _, Request, Response, Router, Server, Service,
    async_trait,
    conn::{ConnCtrl, TcpListener, UnixListener, tcp::TcpAcceptor},
    http::{HeaderValue, Method, ParseError, ResBody, StatusCode, Version, header},
    server::ServerHandle,
};
use tokio::{sync::watch, task::JoinHandle};

use crate::{
    ServerConfig, ServerError,
    admission::{Admission, Policy, site},
    auth::{Caller, Gate, Principal, Shown, Way},
    call::{Answer, Body, Call, JSON},
    engine::Engine,
    patience::Patient,
    quic::{self, BreakOff, PeerCertificates, QuicServer},
    routes::{self, NotFound, Op, capture, snapshot, stream},
    status, telemetry,
    tls::DoorTls,
};

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
    pub gate: Arc<Gate>,
    pub admission: Arc<Admission>,
    pub way: Way,
    pub reach: Reach,
    pub stopping: watch::Receiver<bool>,
}

/// An open door.
pub struct Open {
    pub address: Option<SocketAddr>,
    pub end: End,
    pub task: JoinHandle<()>,
}

/// How a door is closed.
#[derive(Debug, Clone)]
pub enum End {
    Http(ServerHandle),
    Quic(quic::Stopping),
}

impl End {
    /// What is under way is finished.
    pub fn graceful(&self) {
        match self {
            Self::Http(server) => server.stop_graceful(None),
            Self::Quic(server) => server.graceful(),
        }
    }

    /// All ends now.
    pub fn forceful(&self) {
        match self {
            Self::Http(server) => server.stop_forceful(),
            Self::Quic(server) => server.forceful(),
        }
    }
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
    Snapshot(snapshot::Opened),
    Capture(capture::Opened),
    Page(&'static status::File),
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
        if request.method() == Method::HEAD {
            response.body(ResBody::None);
        }
    }
}

impl Door {
    async fn serve(&self, request: &mut Request) -> Outcome {
        if let Some(page) = status::file(request.method(), request.uri().path())
            && self.reach == Reach::All
        {
            return self.stranger_may(request).map_or_else(Into::into, |()| Outcome::Page(page));
        }
        match self.read(request).await {
            Ok(call) => self.answer(request, &call).await,
            Err(problem) => problem.into(),
        }
    }

    /// Who may, how often, how much: before anything is looked at.
    async fn read(&self, request: &mut Request) -> Result<Call, Problem> {
        let engine = &self.engine;
        let caller = self.admit(request)?;
        let target =
            request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let method = request.method().as_str().to_owned();
        let max = engine.limits().body_bytes_max;
        let has_no_body = matches!(method.as_str(), "GET" | "DELETE" | "HEAD");
        let body = if has_no_body { bytes::Bytes::new() } else { body_of(request, max).await? };
        if !body.is_empty() && self.reach == Reach::All {
            check_media_type(request)?;
        }
        let mut call = Call::new(&method, &target, Body::Bytes(body), caller);
        if engine.traces.get().is_some() {
            let parent =
                request.headers().get(telemetry::PARENT).and_then(|value| value.to_str().ok());
            call.parent = parent.and_then(telemetry::parent);
        }
        Ok(call)
    }

    /// Whether somebody who need not say who he is does not call too often.
    fn stranger_may(&self, request: &Request) -> Result<(), Problem> {
        let peer = request.remote_addr().clone().into_std();
        let stranger = Caller::Address(peer.map(|peer| site(peer.ip())));
        let per_s = self.engine.limits().unauthenticated_per_s;
        self.engine.strangers.check(&stranger, 1, per_s, Instant::now())
    }

    /// Who calls, if he may and does not call too often.
    fn admit(&self, request: &Request) -> Result<Principal, Problem> {
        let (engine, now) = (&self.engine, Instant::now());
        let peer = request.remote_addr().clone().into_std();
        let address = peer.map(|peer| peer.ip().to_canonical());
        let prove = || peer.into_iter().for_each(|peer| self.admission.prove(peer));
        if self.reach == Reach::Ops {
            prove();
            return Ok(Principal::probe(address));
        }
        let limits = engine.limits();
        let stranger = Caller::Address(address.map(site));
        let refused = |problem: Problem| {
            let limited = engine.strangers.check(&stranger, 1, limits.unauthenticated_per_s, now);
            Err(limited.err().unwrap_or(problem))
        };
        if let Err(problem) = self.check_origin(request) {
            return refused(problem);
        }
        let in_quic = request.extensions().get::<PeerCertificates>();
        let in_quic = in_quic.into_iter().flat_map(|chain| chain.0.iter().map(AsRef::as_ref));
        let in_tls = request.tls_info().into_iter().flat_map(|tls| tls.peer_certificates());
        let chain: Vec<&[u8]> = in_quic.chain(in_tls.map(Vec::as_slice)).collect();
        // What is shown has to be good: what is no text is shown, too.
        let authorization = request.headers().get(header::AUTHORIZATION);
        let caller = self.gate.authenticate(&Shown {
            way: self.way,
            authorization: authorization.map(|value| value.to_str().unwrap_or_default()),
            chain: &chain,
            address,
            may_verify: engine.strangers.has_some(&stranger, limits.unauthenticated_per_s, now),
        });
        match caller {
            Ok(mut caller) => {
                prove();
                caller.address = address;
                let per_s = limits.requests_per_s_of(&caller.caller);
                engine.callers.check(&caller.caller, 1, per_s, now)?;
                Ok(caller)
            }
            Err(problem) => refused(problem),
        }
    }

    /// No web page calls this API: what a browser sends for one, a certificate of its user in hand or
    /// under a name that was made to point here, is refused.
    fn check_origin(&self, request: &Request) -> Result<(), Problem> {
        if request.headers().contains_key(header::ORIGIN) {
            let detail = "this API is not for web pages: a request has no header Origin";
            return Err(Problem::new(ErrorCode::Forbidden, detail));
        }
        if self.way == Way::Unix || !self.gate.asks_nobody() {
            return Ok(());
        }
        let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
        let host = request.uri().authority().map(|authority| authority.as_str()).or(host);
        if host.is_none_or(is_of_this_machine) {
            return Ok(());
        }
        let detail = "here the host of the address is localhost or an IP address";
        Err(Problem::new(ErrorCode::Forbidden, detail))
    }

    async fn answer(&self, request: &Request, call: &Call) -> Outcome {
        #[cfg(test)]
        crate::tests::panic_if_wanted(&self.engine, call);
        let found = routes::find(call);
        let is_for_probes =
            |found: &routes::Found| matches!(found.op, Op::Health | Op::Ready | Op::Metrics);
        if self.reach == Reach::Ops && !found.as_ref().is_ok_and(is_for_probes) {
            let detail = "this door has /health, /ready and /metrics";
            return Problem::new(ErrorCode::NotFound, detail).into();
        }
        let found = match found {
            Ok(found) => found,
            Err(NotFound::Problem(problem)) => return problem.into(),
            Err(NotFound::Method(methods)) => {
                return Outcome::Method(routes::method_problem(call, &methods), methods);
            }
        };
        if found.op == Op::Events {
            return self.open_stream(request, call);
        }
        if found.op == Op::Snapshot {
            return snapshot::open(&self.engine, call).map_or_else(Into::into, Outcome::Snapshot);
        }
        if let (Op::Capture, [id]) = (found.op, found.ids.as_slice()) {
            let opened = capture::open(&self.engine, call, id, self.ends()).await;
            return opened.map_or_else(Into::into, Outcome::Capture);
        }
        match routes::dispatch(&self.engine, call, &found).await {
            Ok(answer) => Outcome::Answer(answer),
            Err(problem) => problem.into(),
        }
    }

    fn open_stream(&self, request: &Request, call: &Call) -> Outcome {
        let last_event_id = request.headers().get("last-event-id");
        let last_event_id = last_event_id.and_then(|value| value.to_str().ok());
        let connection = request.extensions().get::<ConnCtrl>().cloned();
        // Only this stream: other calls of the same client are on the same connection. With HTTP/2
        // it waits, with what little it holds, until the client reads on or goes away.
        let in_quic = request.extensions().get::<BreakOff>().cloned();
        let is_alone = request.version() < Version::HTTP_2;
        let break_off = move || match (in_quic, connection) {
            (Some(stream), _) => stream.now(),
            (None, Some(connection)) if is_alone => connection.abort(),
            _ => {}
        };
        match stream::open(&self.engine, call, last_event_id, self.ends(), break_off) {
            Ok(opened) => Outcome::Stream(opened),
            Err(problem) => problem.into(),
        }
    }

    fn ends(&self) -> stream::Ends {
        stream::Ends { stopping: self.stopping.clone(), gate: Arc::clone(&self.gate) }
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
            Outcome::Snapshot(snapshot::Opened { pieces, seq }) => {
                set(response, "ironcast-seq", &seq.to_string());
                set(response, "content-type", JSON);
                response.stream(pieces.map(Ok::<_, std::convert::Infallible>));
                200
            }
            Outcome::Capture(capture::Opened { pieces, seq }) => {
                set(response, "ironcast-seq", &seq.to_string());
                set(response, "content-type", capture::MEDIA_TYPE);
                set(response, "cache-control", "no-store");
                response.stream(pieces.map(Ok::<_, std::convert::Infallible>));
                200
            }
            Outcome::Stream(stream::Opened { pieces, seq, slot }) => {
                set(response, "ironcast-seq", &seq.to_string());
                set(response, "content-type", "text/event-stream");
                set(response, "cache-control", "no-store");
                let pieces = futures::stream::unfold((pieces, slot), |mut held| async move {
                    held.0.recv().await.map(|piece| (piece, held))
                });
                response.stream(pieces.map(Ok::<_, std::convert::Infallible>));
                200
            }
            Outcome::Page(page) => {
                set(response, "content-type", page.media_type);
                set(response, "content-security-policy", status::POLICY);
                set(response, "x-content-type-options", "nosniff");
                set(response, "referrer-policy", "no-referrer");
                set(response, "cache-control", "no-cache");
                response.body(page.text);
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

/// `localhost`, or an address: names of others can be made to point here (DNS rebinding).
fn is_of_this_machine(authority: &str) -> bool {
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|digit| digit.is_ascii_digit()) => host,
        _ => authority,
    };
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

/// What a form of a web page can send without being asked back is refused.
fn check_media_type(request: &Request) -> Result<(), Problem> {
    let given = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let essence = given.and_then(|value| value.split(';').next()).map(str::trim);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(JSON)) {
        return Ok(());
    }
    let detail = "send the header Content-Type: application/json";
    Err(Problem::new(ErrorCode::UnsupportedMediaType, detail))
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

/// Asks for all addresses before anything is made or taken: the reason is best known here.
pub fn require_free(config: &ServerConfig) -> Result<(), ServerError> {
    let plain = match config.plain {
        Some(DoorAddress::Tcp(address)) => Some(address),
        _ => None,
    };
    let wanted = [
        ("control.listen", Some(config.listen)),
        ("control.plain", plain),
        ("control.ops", config.ops),
    ];
    for (key, address) in wanted {
        let Some(address) = address else { continue };
        let has_quic = config.quic && key == "control.listen";
        std::net::TcpListener::bind(address)
            .and_then(|_| has_quic.then(|| std::net::UdpSocket::bind(address)).transpose())
            .map_err(|error| ServerError::address(key, address, &error))?;
    }
    Ok(())
}

/// HTTP/2 and 1.1 over TLS and, with `quic`, HTTP/3 on the same port number.
pub async fn open_tls(
    door: Door,
    address: SocketAddr,
    tls: &DoorTls,
) -> Result<Vec<Open>, ServerError> {
    let config = &door.engine.config;
    let has_quic = config.quic;
    let address = if address.port() == 0 { free_port(address)? } else { address };
    let failed = |error: &dyn std::fmt::Display| ServerError::bind(address, error);
    let acceptor = TcpListener::new(address).rustls(tls.for_tcp()).try_bind().await;
    let mut open = vec![serve(acceptor.map_err(|error| failed(&error))?, &door, Some(address))];
    if has_quic {
        let quic = tls.for_quic().map_err(|error| ServerError::Tls(error.to_string()))?;
        // Connections over TCP have another count: their ports are others.
        let admission = new_admission(&door.engine, "quic");
        let door = Door { admission: Arc::clone(&admission), ..door };
        let server = QuicServer::bind(quic, address, admission).map_err(|error| failed(&error))?;
        let end = End::Quic(server.stopping());
        let task = tokio::spawn(server.serve(service(&door)));
        open.push(Open { address: Some(address), end, task });
    }
    Ok(open)
}

/// For one door; `/metrics` shows its connections under `name`.
pub fn new_admission(engine: &Engine, name: &'static str) -> Arc<Admission> {
    let (config, limits) = (&engine.config, &engine.config.limits);
    let per_address_max = limits.connections_per_address_max;
    let admission = Admission::new(limits.connections_max, per_address_max, config.proof_time);
    engine.metrics.watch_door(name, Arc::clone(&admission));
    admission
}

/// Plain HTTP/1.1.
pub async fn open_plain(door: Door, key: &str, address: SocketAddr) -> Result<Open, ServerError> {
    let failed = |error| ServerError::address(key, address, &error);
    let listener = tokio::net::TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let acceptor = TcpAcceptor::try_from(listener).map_err(failed)?;
    Ok(serve(acceptor, &door, Some(address)))
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
    Ok(serve(acceptor.map_err(|error| failed(&error))?, &door, None))
}

fn serve<A>(acceptor: A, door: &Door, address: Option<SocketAddr>) -> Open
where
    A: salvo::conn::Acceptor + Send + 'static,
{
    let admission = Arc::clone(&door.admission);
    let server = Server::new(Patient::new(acceptor, Arc::clone(&admission)))
        .max_connections(admission.connections_max)
        .fuse_policy(Policy(Arc::clone(&admission)));
    let end = End::Http(server.handle());
    let service = service(door);
    let task = tokio::spawn(async move {
        if let Err(error) = server.try_serve(service).await {
            tracing::error!(%error, "a door closed");
        }
    });
    Open { address, end, task }
}

/// No routes of salvo's: whatever the path is, the door answers.
fn service(door: &Door) -> Service {
    Service::new(Router::new()).hoop(door.clone())
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
