//! Socket.IO: a socket's messages to the handlers and the answers back. Each socket has a short
//! queue and one task, so that its messages take effect in the order in which it sent them and no
//! faster than allowed; what does not fit into the queue is refused. What only the store is asked for is
//! begun there and waited for beside, in a task of its own. Both styles of answer are made here, and only
//! here.

use std::borrow::Cow;
use std::collections::{HashSet, VecDeque};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use salvo::http::{ReqBody, ResBody};
use salvo::hyper;
use serde_json::Value;
use serde_json::value::RawValue;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Event, SocketRef, TryData};
use socketioxide::handler::{ConnectHandler, FromMessageParts, Value as SocketValue};
use socketioxide::socket::{Sid, Socket};
use socketioxide::{ParserConfig, SocketIo, SocketIoBuilder};
use tokio::sync::mpsc;

use crate::events::{Action, Row, TABLE};
use crate::failure::Failure;
use crate::hosts::MediaHost;
use crate::limits::Bucket;
use crate::metrics::Metrics;
use crate::opened::{Opened, Place};
use crate::service::{Aside, From, Outbox, Service};
use crate::settings::Settings;
use crate::store::Stores;

/// Most messages that are done together.
const GROUP_MAX: usize = 64;

/// What a page says at once comes in several pieces, one right behind the other.
const GROUP_TIME: Duration = Duration::from_millis(2);

/// So many of the largest messages may wait in a socket's queue, or more smaller ones.
const MESSAGES_OF_FULL_SIZE_MAX: usize = 16;

/// Between two looks at whether a token still holds.
const TOKEN_LOOK: Duration = Duration::from_secs(60);

/// Longest that one message may keep its socket's queue waiting.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// Longest wait until a socket that was let in is told so.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// A message that waits for its turn.
struct Request {
    /// None for an event that this service does not know.
    action: Option<Action>,
    name: Cow<'static, str>,
    payload: Value,
    /// About how much memory the payload takes.
    bytes: usize,
    answer: Answer,
}

/// Where the answer goes.
struct Answer {
    socket: Sid,
    ack: Option<AckSender>,
    reply: Option<&'static str>,
}

/// The way into a socket's queue.
struct Queue {
    waiting: mpsc::Sender<Request>,
    /// The socket was told that its queue is full and nothing has fitted since. Thousands of
    /// messages can come in one read: an error for each would fill the way back, and a socket
    /// whose way back is full is closed.
    is_told: AtomicBool,
    /// The socket is gone: what still waits is not done any more.
    is_gone: AtomicBool,
    /// Size of what waits.
    bytes: AtomicUsize,
    bytes_max: usize,
}

impl Queue {
    /// Runs where the message is read, before the next is: that keeps them in order.
    fn push(&self, service: &Service, request: Request) {
        let bytes = request.bytes;
        let refused = if self.bytes.load(Ordering::Relaxed) + bytes > self.bytes_max {
            request
        } else {
            // Before it is sent: whoever takes it out subtracts.
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            let Err(refused) = self.waiting.try_send(request) else {
                self.is_told.store(false, Ordering::Relaxed);
                return;
            };
            self.bytes.fetch_sub(bytes, Ordering::Relaxed);
            refused.into_inner()
        };
        let Request { name, answer, .. } = refused;
        service.metrics.messages_refused.inc();
        // An acknowledgement is waited for, so that each gets one.
        if answer.ack.is_none() && self.is_told.swap(true, Ordering::Relaxed) {
            return;
        }
        let failure = Failure::new("rate_limited", "too many messages are waiting already");
        answer.send(service, &name, Err(failure));
    }
}

/// Whether the client waits for an acknowledgement.
struct WantsAck(bool);

impl<A: Adapter> FromMessageParts<A> for WantsAck {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        _: &mut SocketValue,
        ack_id: &Option<i64>,
    ) -> Result<Self, Self::Error> {
        Ok(Self(ack_id.is_some()))
    }
}

/// Where a socket's request came from; put there by who accepted the connection.
#[derive(Debug, Clone, Copy)]
pub struct RemoteAddress(pub IpAddr);

/// How often a socket whose way back is full is tried to be told that it is closed.
const CLOSE_AGAIN: Duration = Duration::from_millis(50);

/// Sends through Socket.IO.
struct SocketOutbox {
    io: SocketIo,
    metrics: Arc<Metrics>,
    /// Sockets that could not take something and are being closed: nothing more is said to them.
    closing: Arc<Mutex<HashSet<Sid>>>,
    opened: Arc<Opened>,
}

impl Outbox for SocketOutbox {
    fn is_open(&self, socket: Sid) -> bool {
        self.opened.is_open(socket)
    }

    fn emit(&self, socket: Sid, event: &str, payload: &RawValue) {
        let Some(to) = self.io.get_socket(socket) else { return };
        if self.closing.lock().expect("nobody panics with it").contains(&socket) {
            return;
        }
        // A browser that takes nothing for so long would see a false picture of its room from
        // now on. Without its socket it comes back and asks for all.
        self.metrics.notices.inc();
        if to.emit(event, payload).is_err() {
            self.metrics.slow_sockets.inc();
            self.close(socket);
        }
    }

    fn close(&self, socket: Sid) {
        if !self.closing.lock().expect("as above").insert(socket) {
            return;
        }
        // In a task of its own, because the library handles the loss before it returns, and whoever
        // closes a socket may hold the lock of its room. The farewell needs room on the way back,
        // too, and without it the socket stays. A client that never reads again ends by its missing
        // answers to pings.
        let (io, closing) = (self.io.clone(), Arc::clone(&self.closing));
        tokio::spawn(async move {
            while io.get_socket(socket).is_some_and(|to| to.disconnect().is_err()) {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
            closing.lock().expect("as above").remove(&socket);
        });
    }
}

/// Answers a request below `/socket.io/`.
pub type SocketHttp =
    dyn Fn(hyper::Request<ReqBody>) -> BoxFuture<'static, hyper::Response<ResBody>> + Send + Sync;

/// Socket.IO, and the service behind it.
pub struct Sockets {
    /// Takes the requests.
    pub http: Arc<SocketHttp>,
    /// Closes all sockets when the process ends.
    pub io: SocketIo,
    /// What the events do.
    pub service: Arc<Service>,
    /// Counts what is opened.
    pub(crate) opened: Arc<Opened>,
}

/// Makes them.
pub fn sockets(settings: Settings, hosts: Vec<MediaHost>, stores: Stores) -> Sockets {
    let parser = ParserConfig::common().max_incoming_binaries(0);
    let (http, io) = builder(&settings).with_parser(parser).build_svc();
    let metrics = Arc::new(Metrics::default());
    let opened = Opened::new(settings.connections_max, settings.connections_per_address_max);
    let outbox = SocketOutbox {
        io: io.clone(),
        metrics: Arc::clone(&metrics),
        closing: Arc::default(),
        opened: Arc::clone(&opened),
    };
    let service = Service::new(settings, hosts, stores, Box::new(outbox), metrics);
    let (for_sockets, waiting) = (Arc::clone(&service), Arc::clone(&opened));
    let counting = Arc::clone(&opened);
    // Before the socket is told that it is connected: a message that came before its handlers are
    // there would be lost without an answer.
    let prepare = move |socket: SocketRef, TryData(auth): TryData<Value>| {
        let admitted = admit(&socket, &for_sockets, &opened, auth.ok().as_ref());
        async move { admitted }
    };
    let connected = move |socket: SocketRef| {
        waiting.set_ready(socket.id);
        async {}
    };
    io.ns("/", connected.with(prepare));
    Sockets { http: as_http(http), io, service, opened: counting }
}

/// Socket.IO with the limits of the settings.
pub(crate) fn builder(settings: &Settings) -> SocketIoBuilder {
    SocketIo::builder()
        .max_payload(settings.message_bytes_max as u64)
        .ws_max_message_size(settings.message_bytes_max)
        .ws_max_frame_size(settings.message_bytes_max)
        .max_buffer_size(settings.messages_out_per_socket_max)
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .connect_timeout(settings.come_in_time_max)
}

/// A service of sockets, as requests are handed to it.
pub(crate) fn as_http<S, B>(service: S) -> Arc<SocketHttp>
where
    S: hyper::service::Service<
            hyper::Request<ReqBody>,
            Response = hyper::Response<B>,
            Error = Infallible,
            Future: Send + 'static,
        > + Send
        + Sync
        + 'static,
    B: hyper::body::Body<Data = bytes::Bytes, Error = Infallible> + Send + Sync + 'static,
{
    Arc::new(move |request| {
        let answer = service.call(request);
        async move {
            let response = answer.await.unwrap_or_else(|never| match never {});
            response.map(|body| ResBody::Boxed(Box::pin(body.map_err(|never| match never {}))))
        }
        .boxed()
    })
}

/// Lets a new socket in if there is room for it, and it may.
fn admit(
    socket: &SocketRef,
    service: &Arc<Service>,
    opened: &Arc<Opened>,
    auth: Option<&Value>,
) -> Result<(), Failure> {
    let parts = socket.req_parts();
    let address = parts.extensions.get::<RemoteAddress>();
    // Without one, as in a test without connections, all share a limit.
    let address = address.map_or_else(|| Ipv4Addr::UNSPECIFIED.into(), |address| address.0);
    let place = opened.begin(socket.id, address)?;
    let until = service.admit(socket.id, auth, &parts.headers)?;
    service.note_region(socket.id, &parts.headers);
    let from = From { socket: socket.id, address };
    welcome(socket, from, Arc::clone(service), opened, place, until);
    Ok(())
}

/// Registers all names of all events for a new socket.
fn welcome(
    socket: &SocketRef,
    from: From,
    service: Arc<Service>,
    opened: &Arc<Opened>,
    place: Place,
    until: Option<SystemTime>,
) {
    let (waiting, requests) = mpsc::channel(service.settings.requests_per_socket_max);
    let (is_told, is_gone) = (AtomicBool::new(false), AtomicBool::new(false));
    let bytes_max = service.settings.message_bytes_max * MESSAGES_OF_FULL_SIZE_MAX;
    let bytes = AtomicUsize::new(0);
    let queue = Arc::new(Queue { waiting, is_told, is_gone, bytes, bytes_max });
    for row in TABLE {
        for name in row.names {
            register(socket, row, name, Arc::clone(&service), Arc::clone(&queue));
        }
    }
    let (for_unknown, its_queue) = (Arc::clone(&service), Arc::clone(&queue));
    socket.on_fallback(
        move |Event(name): Event, socket: SocketRef, wants: WantsAck, ack: AckSender| {
            let answer = Answer { socket: socket.id, ack: wants.0.then_some(ack), reply: None };
            let name = Cow::Owned(cut(&name).to_owned());
            let request = Request { action: None, name, payload: Value::Null, bytes: 0, answer };
            its_queue.push(&for_unknown, request);
            async {}
        },
    );
    let (for_loss, its_queue) = (Arc::clone(&service), Arc::clone(&queue));
    let was_open = Arc::clone(opened);
    socket.on_disconnect(move |socket: SocketRef| {
        // First the marks, then the loss: who is being seated meanwhile is found by one of both.
        its_queue.is_gone.store(true, Ordering::SeqCst);
        was_open.set_gone(socket.id);
        for_loss.lose_socket(socket.id);
        async {}
    });
    let worker = Worker {
        service,
        from,
        // The queue is closed when the last way into it is gone, which this is not.
        queue: Arc::downgrade(&queue),
        requests,
        ahead: VecDeque::new(),
        aside: None,
        until,
    };
    tokio::spawn(async move {
        // What was never told that it is connected is not worked for.
        let _ = tokio::time::timeout(CONNECT_TIME_MAX, place.ready.notified()).await;
        worker.run().await;
        drop(place);
    });
}

/// An unknown name comes from outside: only its beginning is said back.
fn cut(name: &str) -> &str {
    name.char_indices().nth(64).map_or(name, |(end, _)| &name[..end])
}

/// About how much memory a value takes.
fn size(value: &Value) -> usize {
    let below = match value {
        Value::String(text) => text.len(),
        Value::Array(list) => list.iter().map(size).sum(),
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + size(value)).sum(),
        _ => 0,
    };
    size_of::<Value>() + below
}

fn register(
    socket: &SocketRef,
    row: &'static Row,
    name: &'static str,
    service: Arc<Service>,
    queue: Arc<Queue>,
) {
    let handler = move |socket: SocketRef,
                        wants: WantsAck,
                        TryData(payload): TryData<Value>,
                        ack: AckSender| {
        let answer = Answer { socket: socket.id, ack: wants.0.then_some(ack), reply: row.reply };
        // Nothing was sent along: the same as an empty payload.
        let payload = payload.unwrap_or(Value::Null);
        let (name, bytes) = (Cow::Borrowed(name), size(&payload));
        let request = Request { action: Some(row.action), name, payload, bytes, answer };
        queue.push(&service, request);
        async {}
    };
    socket.on(name, handler);
}

/// Ends when a token does.
async fn token_over(until: Option<SystemTime>) {
    let Some(until) = until else { return std::future::pending().await };
    // Clocks are set: it is looked at again.
    while let Ok(left) = until.duration_since(SystemTime::now()) {
        tokio::time::sleep(left.min(TOKEN_LOOK)).await;
    }
}

/// A message that was begun in its turn.
struct Begun {
    name: Cow<'static, str>,
    answer: Answer,
    began: Instant,
    doing: Aside,
}

/// Waits for one after the other, so that they take effect in the order in which they were sent.
async fn wait_for(service: Arc<Service>, queue: Weak<Queue>, mut waiting: mpsc::Receiver<Begun>) {
    while let Some(Begun { name, answer, began, doing }) = waiting.recv().await {
        if is_gone(&queue) {
            break;
        }
        let result = tokio::time::timeout(REQUEST_TIME_MAX, doing).await;
        let result = result.unwrap_or_else(|_| Err(late()));
        let code = result.as_ref().err().map_or("ok", |failure| &failure.code);
        service.metrics.count_request(&name, code, began.elapsed());
        answer.send(&service, &name, result);
    }
}

fn is_gone(queue: &Weak<Queue>) -> bool {
    queue.upgrade().is_none_or(|queue| queue.is_gone.load(Ordering::SeqCst))
}

fn late() -> Failure {
    Failure::new("timeout", "this took too long")
}

/// Does a socket's messages one after the other until it is gone.
struct Worker {
    service: Arc<Service>,
    from: From,
    queue: Weak<Queue>,
    requests: mpsc::Receiver<Request>,
    /// Taken out of the queue to see what comes next.
    ahead: VecDeque<Request>,
    /// Where what is waited for beside goes, since there was any.
    aside: Option<mpsc::Sender<Begun>>,
    /// When the token that it came in with ends.
    until: Option<SystemTime>,
}

impl Worker {
    async fn run(mut self) {
        self.service.metrics.sockets.inc();
        let settings = &self.service.settings;
        let per_s = settings.requests_per_socket_per_s.into();
        let burst = settings.requests_per_socket_burst.into();
        let mut bucket = Bucket::new(per_s, burst, Instant::now());
        let (until, service) = (self.until, Arc::clone(&self.service));
        let mut over = std::pin::pin!(token_over(until));
        loop {
            let group = tokio::select! {
                group = self.next_group() => group,
                () = &mut over => {
                    let told = Failure::new("token_expired", "your token has expired");
                    service.emit(self.from.socket, "error", &told.to_event(Some("")));
                    service.close_socket(self.from.socket);
                    None
                }
            };
            let Some(group) = group else { break };
            let waits = group.iter().map(|_| bucket.take_in_advance(Instant::now()));
            let wait = waits.max().unwrap_or_default();
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            if self.is_gone() {
                break;
            }
            if group.iter().any(|one| one.action.is_some_and(Action::is_aside)) {
                // It has no group.
                group.into_iter().for_each(|one| self.put_aside(one));
            } else {
                self.work(group).await;
            }
            if self.is_gone() {
                break;
            }
        }
        // It may have been seated after its loss was noticed.
        self.service.lose_socket(self.from.socket);
        self.service.forget_user(self.from.socket);
        self.service.metrics.sockets.dec();
    }

    fn is_gone(&self) -> bool {
        is_gone(&self.queue)
    }

    async fn next(&mut self) -> Option<Request> {
        match self.ahead.pop_front() {
            Some(request) => Some(request),
            None => self.requests.recv().await.inspect(|request| self.taken(request)),
        }
    }

    fn taken(&self, request: &Request) {
        if let Some(queue) = self.queue.upgrade() {
            queue.bytes.fetch_sub(request.bytes, Ordering::Relaxed);
        }
    }

    /// The next message, with those behind it that are done together with it.
    async fn next_group(&mut self) -> Option<Vec<Request>> {
        let first = self.next().await?;
        let Some(mut before) = first.action.filter(|action| action.is_grouped()) else {
            return Some(vec![first]);
        };
        let mut group = vec![first];
        let end = tokio::time::Instant::now() + GROUP_TIME;
        while group.len() < GROUP_MAX {
            let next = tokio::time::timeout_at(end, self.requests.recv()).await;
            let Ok(Some(next)) = next else { break };
            self.taken(&next);
            match next.action.filter(|action| action.goes_with(before)) {
                Some(action) => before = action,
                None => {
                    self.ahead.push_back(next);
                    break;
                }
            }
            group.push(next);
        }
        Some(group)
    }

    /// Begins a message, and has it waited for by a task of its own, after those of before.
    fn put_aside(&mut self, request: Request) {
        let (service, began) = (&self.service, Instant::now());
        let Request { action: Some(action), name, payload, answer, .. } = request else { return };
        let begun = service.handle_aside(self.from.socket, action, payload);
        let doing = begun.unwrap_or_else(|failure| std::future::ready(Err(failure)).boxed());
        let aside = self.aside.get_or_insert_with(|| {
            let (aside, waiting) = mpsc::channel(service.settings.requests_per_socket_max);
            tokio::spawn(wait_for(Arc::clone(service), self.queue.clone(), waiting));
            aside
        });
        if let Err(full) = aside.try_send(Begun { name, answer, began, doing }) {
            let Begun { name, answer, .. } = full.into_inner();
            let failure = Failure::new("rate_limited", "too many messages are waiting already");
            service.metrics.count_request(&name, &failure.code, began.elapsed());
            answer.send(service, &name, Err(failure));
        }
    }

    async fn work(&self, group: Vec<Request>) {
        let service = &self.service;
        let began = Instant::now();
        if group.iter().any(|request| request.action.is_none()) {
            for Request { name, answer, .. } in group {
                let message = format!("this service has no event {name:?}");
                service.metrics.count_request("unknown", "unsupported", began.elapsed());
                answer.send(service, &name, Err(Failure::new("unsupported", message)));
            }
            return;
        }
        let (mut asked, mut answers) = (Vec::new(), Vec::new());
        for Request { action, name, payload, answer, .. } in group {
            asked.extend(action.map(|action| (action, payload)));
            answers.push((name, answer));
        }
        let handling = service.handle_all(self.from, asked);
        let results = tokio::time::timeout(REQUEST_TIME_MAX, handling).await;
        let mut results = results.unwrap_or_default().into_iter();
        for (name, answer) in answers {
            let result = results.next().unwrap_or_else(|| Err(late()));
            let code = result.as_ref().err().map_or("ok", |failure| &failure.code);
            service.metrics.count_request(&name, code, began.elapsed());
            answer.send(service, &name, result);
        }
    }
}

impl Answer {
    fn send(self, service: &Service, name: &str, result: Result<Value, Failure>) {
        if let Some(ack) = self.ack {
            let payload = result.unwrap_or_else(|failure| failure.to_ack());
            // The socket is gone, or takes nothing: then it is closed, as by an event.
            if ack.send(&payload).is_err() {
                service.close_socket(self.socket);
            }
            return;
        }
        match (result, self.reply) {
            (Ok(payload), Some(reply)) => service.emit(self.socket, reply, &payload),
            (Ok(_), None) => {}
            (Err(failure), _) => service.emit(self.socket, "error", &failure.to_event(Some(name))),
        }
    }
}
