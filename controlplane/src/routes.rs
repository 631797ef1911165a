//! The table of all calls: method, path, what it does, and what the OpenAPI document says of it.
//! `doors` and the batch come in by [`dispatch`]; nothing here knows which HTTP version it was.

mod batch;
pub mod capture;
pub mod consumers;
mod drain;
mod host;
mod list;
pub mod observers;
mod pipes;
mod plain;
mod producers;
mod routers;
mod single;
pub mod snapshot;
pub mod stream;
pub mod top;
pub mod traces;
pub mod transports;
mod webhooks;

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Instant,
};

use futures::future::{BoxFuture, FutureExt as _};
use ironcast_api::{ErrorCode, Id, Problem};
use ironcast_protocol::{Command, Reply, command, snapshot::ResourceKind};

use crate::{
    auth::Scope,
    call::{self, Answer, Call},
    engine::{Engine, State, Step},
};

pub use plain::SDP;
pub use producers::free_ssrcs;

/// What a call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    Health,
    Ready,
    Snapshot,
    Workers,
    Worker,
    OpenApi,
    Metrics,
    Audit,
    Reload,
    Batch,
    Events,
    CreateRouter,
    ListRouters,
    GetRouter,
    DeleteRouter,
    CanConsume,
    CreateTransport,
    ListTransports,
    GetTransport,
    PatchTransport,
    DeleteTransport,
    ConnectTransport,
    RestartIce,
    TraceTransport,
    TransportStats,
    TransportDump,
    TransportSdp,
    Capture,
    Leave,
    CreateProducer,
    ListProducers,
    GetProducer,
    DeleteProducer,
    PauseProducer,
    ResumeProducer,
    TraceProducer,
    ProducerStats,
    ProducerDump,
    CreateConsumer,
    ListConsumers,
    GetConsumer,
    PatchConsumer,
    DeleteConsumer,
    PauseConsumer,
    ResumeConsumer,
    RequestKeyFrame,
    TraceConsumer,
    ConsumerStats,
    ConsumerDump,
    CreateObserver,
    ListObservers,
    GetObserver,
    DeleteObserver,
    PauseObserver,
    ResumeObserver,
    ObserverDump,
    ObserveProducer,
    UnobserveProducer,
    CreatePipe,
    Top,
    CreateWebhook,
    ListWebhooks,
    GetWebhook,
    DeleteWebhook,
    GetDrain,
    Drain,
    Undrain,
    /// In the contract, but not in this version.
    Unsupported,
}

/// A row of the table; `{}` in the path is an id.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub op: Op,
    pub summary: &'static str,
}

impl Route {
    /// What a caller has to have to make this call. A batch changes nothing itself: each of its
    /// calls is looked at.
    #[must_use]
    pub fn scope(&self) -> Scope {
        let is_admin =
            ["/admin/", "/audit", "/webhooks"].iter().any(|prefix| self.path.starts_with(prefix));
        match self.op {
            // A signaling service tells its users until when.
            Op::GetDrain => Scope::Read,
            _ if is_admin => Scope::Admin,
            Op::Batch | Op::CanConsume => Scope::Read,
            _ if self.method == "GET" => Scope::Read,
            _ => Scope::Control,
        }
    }
}

const fn route(method: &'static str, path: &'static str, op: Op, summary: &'static str) -> Route {
    Route { method, path, op, summary }
}

/// Every call of the contract.
pub const ROUTES: &[Route] = &[
    route("GET", "/health", Op::Health, "Whether this process works"),
    route("GET", "/ready", Op::Ready, "Whether it takes new rooms"),
    route("GET", "/snapshot", Op::Snapshot, "Everything that exists"),
    route("GET", "/workers", Op::Workers, "All workers with their load"),
    route("GET", "/workers/{}", Op::Worker, "One worker"),
    route("GET", "/openapi.json", Op::OpenApi, "This document"),
    route("GET", "/metrics", Op::Metrics, "Prometheus text"),
    route("GET", "/audit", Op::Audit, "Who created, closed and drained what: the last entries"),
    route("POST", "/admin/reload", Op::Reload, "Reads the configuration again: all or nothing"),
    route("POST", "/batch", Op::Batch, "Several calls in order"),
    route("GET", "/events", Op::Events, "The event stream (server-sent events)"),
    route("POST", "/routers", Op::CreateRouter, "Makes a router"),
    route("GET", "/routers", Op::ListRouters, "Routers by id"),
    route("GET", "/routers/{}", Op::GetRouter, "A router and the ids below it"),
    route("DELETE", "/routers/{}", Op::DeleteRouter, "Closes a router and all below it"),
    route("POST", "/routers/{}/can-consume", Op::CanConsume, "Whether a receiver can decode"),
    route("POST", "/transports", Op::CreateTransport, "Makes a transport"),
    route("GET", "/transports", Op::ListTransports, "Transports by id"),
    route("GET", "/transports/{}", Op::GetTransport, "A transport"),
    route("PATCH", "/transports/{}", Op::PatchTransport, "Bit rate limits"),
    route("DELETE", "/transports/{}", Op::DeleteTransport, "Closes a transport and all on it"),
    route("POST", "/transports/{}/connect", Op::ConnectTransport, "Who or where the peer is"),
    route("POST", "/transports/{}/restart-ice", Op::RestartIce, "New ICE credentials"),
    route("GET", "/transports/{}/stats", Op::TransportStats, "Statistics, mediasoup's record"),
    route("GET", "/transports/{}/dump", Op::TransportDump, "The dataplane's view"),
    route("GET", "/transports/{}/sdp", Op::TransportSdp, "What a plain transport sends, as SDP"),
    route("GET", "/transports/{}/capture", Op::Capture, "Its packets in the clear, as pcapng"),
    route("POST", "/participants/{}/leave", Op::Leave, "Closes a participant's transports"),
    route("POST", "/producers", Op::CreateProducer, "Makes a producer"),
    route("GET", "/producers", Op::ListProducers, "Producers by id"),
    route("GET", "/producers/{}", Op::GetProducer, "A producer"),
    route("DELETE", "/producers/{}", Op::DeleteProducer, "Closes a producer and its consumers"),
    route("POST", "/producers/{}/pause", Op::PauseProducer, "Nothing is forwarded any more"),
    route("POST", "/producers/{}/resume", Op::ResumeProducer, "Forwards again"),
    route("GET", "/producers/{}/stats", Op::ProducerStats, "Statistics, one record a stream"),
    route("GET", "/producers/{}/dump", Op::ProducerDump, "The dataplane's view"),
    route("POST", "/consumers", Op::CreateConsumer, "Makes a consumer"),
    route("GET", "/consumers", Op::ListConsumers, "Consumers by id"),
    route("GET", "/consumers/{}", Op::GetConsumer, "A consumer"),
    route("PATCH", "/consumers/{}", Op::PatchConsumer, "Preferred layers and priority"),
    route("DELETE", "/consumers/{}", Op::DeleteConsumer, "Closes a consumer"),
    route("POST", "/consumers/{}/pause", Op::PauseConsumer, "Nothing is sent any more"),
    route("POST", "/consumers/{}/resume", Op::ResumeConsumer, "Sends again, from a key frame"),
    route("POST", "/consumers/{}/request-key-frame", Op::RequestKeyFrame, "Asks for a key frame"),
    route("GET", "/consumers/{}/stats", Op::ConsumerStats, "Statistics: sent, then its source"),
    route("GET", "/consumers/{}/dump", Op::ConsumerDump, "The dataplane's view"),
    route("POST", "/observers", Op::CreateObserver, "Makes an observer"),
    route("GET", "/observers", Op::ListObservers, "Observers by id"),
    route("GET", "/observers/{}", Op::GetObserver, "An observer"),
    route("DELETE", "/observers/{}", Op::DeleteObserver, "Closes an observer"),
    route("POST", "/observers/{}/pause", Op::PauseObserver, "It tells nothing any more"),
    route("POST", "/observers/{}/resume", Op::ResumeObserver, "It tells again"),
    route("GET", "/observers/{}/dump", Op::ObserverDump, "The dataplane's view"),
    route("POST", "/observers/{}/producers/{}", Op::ObserveProducer, "It listens to a producer"),
    route("DELETE", "/observers/{}/producers/{}", Op::UnobserveProducer, "It listens no more"),
    route(
        "POST",
        "/pipes",
        Op::CreatePipe,
        "A producer in another router as well, of this host or another one",
    ),
    route("POST", "/data-producers", Op::Unsupported, "Not in this version"),
    route("POST", "/data-consumers", Op::Unsupported, "Not in this version"),
    route("GET", "/observers/{}/stats", Op::Unsupported, "Not in this version"),
    route("PUT", "/transports/{}/trace", Op::TraceTransport, "What is traced of it"),
    route("PUT", "/producers/{}/trace", Op::TraceProducer, "What is traced of it"),
    route("PUT", "/consumers/{}/trace", Op::TraceConsumer, "What is traced of it"),
    route("POST", "/webhooks", Op::CreateWebhook, "Makes a receiver of webhooks"),
    route("GET", "/webhooks", Op::ListWebhooks, "Receivers of webhooks by id"),
    route("GET", "/webhooks/{}", Op::GetWebhook, "A receiver of webhooks, and how it does"),
    route("DELETE", "/webhooks/{}", Op::DeleteWebhook, "It is sent nothing more"),
    route("GET", "/top", Op::Top, "The host, and what moves the most"),
    route("GET", "/admin/drain", Op::GetDrain, "Whether the host drains, and what is left"),
    route("POST", "/admin/drain", Op::Drain, "Takes no new routers"),
    route("POST", "/admin/undrain", Op::Undrain, "Takes new routers again"),
];

/// What a path leads to.
#[derive(Debug)]
pub struct Found {
    pub op: Op,
    pub route: &'static Route,
    /// The ids in the path, in order.
    pub ids: Vec<Id>,
}

/// Why a path leads nowhere.
#[derive(Debug)]
pub enum NotFound {
    /// 404, or an id that is none.
    Problem(Problem),
    /// 405, with the methods that there are.
    Method(Vec<&'static str>),
}

impl NotFound {
    /// As it is answered.
    #[must_use]
    pub fn into_problem(self, call: &Call) -> Problem {
        match self {
            Self::Problem(problem) => problem,
            Self::Method(methods) => method_problem(call, &methods),
        }
    }
}

/// Rows by path.
fn paths() -> &'static matchit::Router<Vec<&'static Route>> {
    static PATHS: LazyLock<matchit::Router<Vec<&Route>>> = LazyLock::new(|| {
        let mut rows: BTreeMap<&str, Vec<&Route>> = BTreeMap::new();
        for route in ROUTES {
            rows.entry(route.path).or_default().push(route);
        }
        let mut paths = matchit::Router::new();
        for (path, rows) in rows {
            let path = path.replacen("{}", "{first}", 1).replacen("{}", "{second}", 1);
            paths.insert(path, rows).expect("no two rows have one path in two forms");
        }
        paths
    });
    &PATHS
}

/// Looks a call up, and whether its caller may make it.
pub fn find(call: &Call) -> Result<Found, NotFound> {
    let Ok(found) = paths().at(&call.path) else {
        let detail = format!("there is no call {} {}", call.method, call.path);
        return Err(NotFound::Problem(Problem::new(ErrorCode::NotFound, detail)));
    };
    // Probes ask by HEAD; of the event stream there is no head alone.
    let is_it = |route: &&&Route| {
        let is_head = call.method == "HEAD" && route.method == "GET" && route.op != Op::Events;
        route.method == call.method || is_head
    };
    let Some(route) = found.value.iter().find(is_it) else {
        return Err(NotFound::Method(found.value.iter().map(|route| route.method).collect()));
    };
    let scope = route.scope();
    if !call.caller.scopes.has(scope) {
        let detail = format!("this call wants the scope {scope}, which {} lacks", call.caller.name);
        return Err(NotFound::Problem(Problem::new(ErrorCode::Forbidden, detail)));
    }
    let ids = found.params.iter().map(|(_, text)| call::id(&call::decode(text)?, ""));
    let ids = ids.collect::<Result<_, _>>().map_err(NotFound::Problem)?;
    Ok(Found { op: route.op, route, ids })
}

/// 405, with the methods that there are.
#[must_use]
pub fn method_problem(call: &Call, methods: &[&str]) -> Problem {
    let detail =
        format!("there is no {} of {}, but {}", call.method, call.path, methods.join(", "));
    Problem::new(ErrorCode::MethodNotAllowed, detail)
}

/// Does a call. [`Op::Events`], [`Op::Snapshot`] and [`Op::Capture`] have no answer of this form:
/// `doors` does them.
pub async fn dispatch(engine: &Arc<Engine>, call: &Call, found: &Found) -> Result<Answer, Problem> {
    let began = Instant::now();
    let traces = engine.traces.get();
    let span = traces.map(|traces| traces.begin(found, &call.caller, call.parent.as_ref()));
    // Calls of a batch are parts of it.
    let within = span.as_ref().filter(|_| found.op == Op::Batch);
    let within = within.map(|span| Call { parent: Some(span.context()), ..call.clone() });
    let call = within.as_ref().unwrap_or(call);
    let answer = match found.ids.as_slice() {
        [] => without_id(engine, call, found.op).await,
        [id] => with_id(engine, call, found.op, id).await,
        [id, below] => with_two_ids(engine, call, found.op, id, below).await,
        _ => Err(unsupported(call)),
    };
    let status = answer.as_ref().map_or_else(|problem| problem.status, |answer| answer.status);
    engine.metrics.time_call(found.route, status, began.elapsed());
    if let Some(span) = span {
        span.end(answer.as_ref());
    }
    if let Ok(answer) = &answer {
        engine.audit.note(&call.caller, found.route, answer);
    }
    answer
}

/// The same for a call that a route makes itself, as one of a type that the compiler knows.
pub fn dispatch_within<'a>(
    engine: &'a Arc<Engine>,
    call: &'a Call,
    found: &'a Found,
) -> BoxFuture<'a, Result<Answer, Problem>> {
    dispatch(engine, call, found).boxed()
}

async fn without_id(engine: &Arc<Engine>, call: &Call, op: Op) -> Result<Answer, Problem> {
    match op {
        Op::Health => host::health(engine),
        Op::Ready => host::ready(engine),
        Op::Workers => host::workers(engine).await,
        Op::OpenApi => host::openapi(engine),
        Op::Metrics => host::metrics(engine, call),
        Op::Audit => host::audit(engine, call),
        Op::Reload => host::reload(engine, call).await,
        Op::Top => top::top(engine, call).await,
        Op::CreateWebhook => webhooks::create(engine, call),
        Op::ListWebhooks => webhooks::list(engine),
        Op::GetDrain => drain::get(engine),
        Op::Drain => drain::begin(engine, call),
        Op::Undrain => drain::end(engine, call),
        Op::Batch => Box::pin(batch::batch(engine, call)).await,
        Op::CreateRouter => routers::create(engine, call).await,
        Op::ListRouters => list::routers(engine, call).await,
        Op::CreateTransport => transports::create(engine, call).await,
        Op::ListTransports => list::transports(engine, call).await,
        Op::CreateProducer => producers::create(engine, call).await,
        Op::ListProducers => list::producers(engine, call).await,
        Op::CreateConsumer => consumers::create(engine, call).await,
        Op::ListConsumers => list::consumers(engine, call).await,
        Op::CreateObserver => observers::create(engine, call).await,
        Op::ListObservers => list::observers(engine, call).await,
        Op::CreatePipe => pipes::create(engine, call).await,
        _ => Err(unsupported(call)),
    }
}

async fn with_id(engine: &Arc<Engine>, call: &Call, op: Op, id: &Id) -> Result<Answer, Problem> {
    match op {
        Op::Worker => host::worker(engine, id).await,
        Op::GetRouter => routers::get(engine, call, id).await,
        Op::DeleteRouter => routers::delete(engine, call, id).await,
        Op::CanConsume => routers::can_consume(engine, call, id).await,
        Op::GetTransport => transports::get(engine, call, id).await,
        Op::PatchTransport => transports::patch(engine, call, id).await,
        Op::DeleteTransport => transports::delete(engine, call, id).await,
        Op::ConnectTransport => transports::connect(engine, call, id).await,
        Op::RestartIce => transports::restart_ice(engine, call, id).await,
        Op::TraceTransport => traces::set(engine, call, ResourceKind::Transport, id).await,
        Op::TraceProducer => traces::set(engine, call, ResourceKind::Producer, id).await,
        Op::TraceConsumer => traces::set(engine, call, ResourceKind::Consumer, id).await,
        Op::TransportStats => transports::stats(engine, call, id).await,
        Op::TransportDump => transports::dump(engine, call, id).await,
        Op::TransportSdp => plain::sdp(engine, call, id).await,
        Op::Leave => transports::leave(engine, call, id).await,
        Op::GetProducer => producers::get(engine, call, id).await,
        Op::DeleteProducer => producers::delete(engine, call, id).await,
        Op::PauseProducer => producers::pause(engine, call, id, true).await,
        Op::ResumeProducer => producers::pause(engine, call, id, false).await,
        Op::ProducerStats => producers::stats(engine, call, id).await,
        Op::ProducerDump => producers::dump(engine, call, id).await,
        Op::GetConsumer => consumers::get(engine, call, id).await,
        Op::PatchConsumer => consumers::patch(engine, call, id).await,
        Op::DeleteConsumer => consumers::delete(engine, call, id).await,
        Op::PauseConsumer => consumers::pause(engine, call, id, true).await,
        Op::ResumeConsumer => consumers::pause(engine, call, id, false).await,
        Op::RequestKeyFrame => consumers::request_key_frame(engine, call, id).await,
        Op::ConsumerStats => consumers::stats(engine, call, id).await,
        Op::ConsumerDump => consumers::dump(engine, call, id).await,
        Op::GetObserver => observers::get(engine, call, id).await,
        Op::DeleteObserver => observers::delete(engine, call, id).await,
        Op::PauseObserver => observers::pause(engine, call, id, true).await,
        Op::ResumeObserver => observers::pause(engine, call, id, false).await,
        Op::ObserverDump => observers::dump(engine, call, id).await,
        Op::GetWebhook => webhooks::get(engine, id),
        Op::DeleteWebhook => webhooks::delete(engine, id),
        _ => Err(unsupported(call)),
    }
}

async fn with_two_ids(
    engine: &Arc<Engine>,
    call: &Call,
    op: Op,
    id: &Id,
    below: &Id,
) -> Result<Answer, Problem> {
    match op {
        Op::ObserveProducer => observers::add_producer(engine, call, id, below).await,
        Op::UnobserveProducer => observers::remove_producer(engine, call, id, below).await,
        _ => Err(unsupported(call)),
    }
}

fn unsupported(call: &Call) -> Problem {
    let detail = format!("this version does not have {} {}", call.method, call.path);
    Problem::new(ErrorCode::Unsupported, detail)
}

/// An id of the caller's choice, or a new one.
fn id_or_new(id: Option<Id>) -> Result<Id, Problem> {
    match id {
        Some(id) => Ok(id),
        None => call::id(&uuid::Uuid::new_v4().to_string(), "/id"),
    }
}

/// What the answer to a close command means: what is not there is closed.
pub fn closed(reply: Result<Reply, Problem>) -> Result<(), Problem> {
    match reply {
        Ok(_) => Ok(()),
        Err(problem) if problem.code == ErrorCode::NotFound => Ok(()),
        Err(problem) => Err(problem),
    }
}

/// The answer to a command that only does something.
pub fn done(reply: Result<Reply, Problem>) -> Result<(), Problem> {
    match reply? {
        Reply::Done => Ok(()),
        other => Err(crate::engine::unexpected(&other)),
    }
}

/// `.../dump`: the dataplane's whole view of a resource, without our own note in it.
async fn dump(
    engine: &Arc<Engine>,
    kind: ResourceKind,
    id: &Id,
    mut look: impl FnMut(&mut State) -> Result<(), Problem> + Send,
) -> Result<Answer, Problem> {
    let (dump, seq) = engine
        .run(|state| {
            look(state)?;
            let dump = command::Dump { id: id.to_string(), kind: Some(kind) };
            let command = Command::Dump(dump);
            Ok(Step::ask(command, |_, reply| match reply? {
                Reply::Resource(resource) => Ok(resource),
                other => Err(crate::engine::unexpected(&other)),
            }))
        })
        .await?;
    let mut dump = serde_json::to_value(&dump).map_err(|error| {
        tracing::error!(%error, "a dump cannot be written");
        call::internal("the dump cannot be written")
    })?;
    remove_notes(&mut dump);
    Answer::json(200, &dump, seq)
}

fn remove_notes(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(map) = value {
        map.remove("note");
        map.values_mut().for_each(remove_notes);
    }
}
