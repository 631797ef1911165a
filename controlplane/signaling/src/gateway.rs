//! Socket.IO: a socket's messages to the handlers and the answers back. Each socket has a short
//! queue and one task, so that its messages take effect in the order in which it sent them; what
//! does not fit into the queue is refused. Both styles of answer are made here, and only here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, Event, SocketRef, TryData};
use socketioxide::handler::{FromMessageParts, Value as RawValue};
use socketioxide::layer::SocketIoLayer;
use socketioxide::socket::{Sid, Socket};
use socketioxide::{ParserConfig, SocketIo};
use tokio::sync::mpsc;

use crate::events::{Action, Row, TABLE};
use crate::failure::Failure;
use crate::media::Media;
use crate::service::{Outbox, Service};
use crate::settings::Settings;

/// Longest that one message may keep its socket's queue waiting.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(15);

/// A message that waits for its turn.
struct Request {
    /// None for an event that this service does not know.
    action: Option<Action>,
    name: Cow<'static, str>,
    payload: Value,
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
}

impl Queue {
    /// Runs where the message is read, before the next is: that keeps them in order.
    fn push(&self, service: &Service, request: Request) {
        let Err(refused) = self.waiting.try_send(request) else {
            self.is_told.store(false, Ordering::Relaxed);
            return;
        };
        let Request { name, answer, .. } = refused.into_inner();
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
    type Error = std::convert::Infallible;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        _: &mut RawValue,
        ack_id: &Option<i64>,
    ) -> Result<Self, Self::Error> {
        Ok(Self(ack_id.is_some()))
    }
}

/// How often a socket whose way back is full is tried to be told that it is closed.
const CLOSE_AGAIN: Duration = Duration::from_millis(50);

/// Sends through Socket.IO.
struct SocketOutbox {
    io: SocketIo,
    /// Sockets that could not take something and are being closed: nothing more is said to them.
    closing: Arc<Mutex<HashSet<Sid>>>,
}

impl Outbox for SocketOutbox {
    fn emit(&self, socket: Sid, event: &str, payload: &Value) {
        let Some(to) = self.io.get_socket(socket) else { return };
        if self.closing.lock().expect("nobody panics with it").contains(&socket) {
            return;
        }
        // A browser that takes nothing for so long would see a false picture of its room from
        // now on. Without its socket it comes back and asks for all.
        if to.emit(event, payload).is_err() {
            self.close(socket);
        }
    }

    fn close(&self, socket: Sid) {
        let Some(to) = self.io.get_socket(socket) else { return };
        if to.disconnect().is_ok() || !self.closing.lock().expect("as above").insert(socket) {
            return;
        }
        // The farewell needs room on the way back, too, and without it the socket stays. A client
        // that never reads again ends by its missing answers to pings.
        let (io, closing) = (self.io.clone(), Arc::clone(&self.closing));
        tokio::spawn(async move {
            while io.get_socket(socket).is_some_and(|to| to.disconnect().is_err()) {
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
            closing.lock().expect("as above").remove(&socket);
        });
    }
}

/// Socket.IO as a layer around the routes, and the service behind it.
pub fn sockets(settings: Settings, media: Arc<dyn Media>) -> (SocketIoLayer, Arc<Service>) {
    let (layer, io) = SocketIo::builder()
        .max_payload(settings.message_bytes_max as u64)
        .ws_max_message_size(settings.message_bytes_max)
        .ws_max_frame_size(settings.message_bytes_max)
        .max_buffer_size(settings.messages_out_per_socket_max)
        .with_parser(ParserConfig::common().max_incoming_binaries(0))
        .ping_interval(settings.ping_interval)
        .ping_timeout(settings.ping_timeout)
        .build_layer();
    let outbox = SocketOutbox { io: io.clone(), closing: Arc::default() };
    let service = Service::new(settings, media, Box::new(outbox));
    let for_sockets = Arc::clone(&service);
    io.ns("/", move |socket: SocketRef| {
        let service = Arc::clone(&for_sockets);
        async move { welcome(&socket, service) }
    });
    (layer, service)
}

/// Registers all names of all events for a new socket.
fn welcome(socket: &SocketRef, service: Arc<Service>) {
    let (waiting, requests) = mpsc::channel(service.settings.requests_per_socket_max);
    let queue = Arc::new(Queue { waiting, is_told: AtomicBool::new(false) });
    for row in TABLE {
        for name in row.names {
            register(socket, row, name, Arc::clone(&service), Arc::clone(&queue));
        }
    }
    let for_unknown = Arc::clone(&service);
    socket.on_fallback(
        move |Event(name): Event, socket: SocketRef, wants: WantsAck, ack: AckSender| {
            let answer = Answer { socket: socket.id, ack: wants.0.then_some(ack), reply: None };
            let name = Cow::Owned(cut(&name).to_owned());
            let request = Request { action: None, name, payload: Value::Null, answer };
            queue.push(&for_unknown, request);
            async {}
        },
    );
    let for_loss = Arc::clone(&service);
    socket.on_disconnect(move |socket: SocketRef| {
        for_loss.lose_socket(socket.id);
        async {}
    });
    tokio::spawn(work(service, socket.id, requests));
}

/// An unknown name comes from outside: only its beginning is said back.
fn cut(name: &str) -> &str {
    name.char_indices().nth(64).map_or(name, |(end, _)| &name[..end])
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
        let request =
            Request { action: Some(row.action), name: Cow::Borrowed(name), payload, answer };
        queue.push(&service, request);
        async {}
    };
    socket.on(name, handler);
}

/// Does a socket's messages one by one until it is gone.
async fn work(service: Arc<Service>, socket: Sid, mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        let name = &request.name;
        let result = match request.action {
            Some(action) => {
                let handling = service.handle(socket, action, request.payload);
                tokio::time::timeout(REQUEST_TIME_MAX, handling)
                    .await
                    .unwrap_or_else(|_| Err(Failure::new("timeout", "this took too long")))
            }
            None => Err(Failure::new("unsupported", format!("this service has no event {name:?}"))),
        };
        request.answer.send(&service, name, result);
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
            (Err(failure), _) => service.emit(self.socket, "error", &failure.to_event(name)),
        }
    }
}
