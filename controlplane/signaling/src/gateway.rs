//! Socket.IO: a socket's messages to the handlers and the answers back. Each socket has a short
//! queue and one task, so that its messages take effect in the order in which it sent them; what
//! does not fit into the queue is refused. Both styles of answer are made here, and only here.

use std::sync::Arc;
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
    action: Action,
    name: &'static str,
    payload: Value,
    answer: Answer,
}

/// Where the answer goes.
struct Answer {
    socket: Sid,
    ack: Option<AckSender>,
    reply: Option<&'static str>,
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

/// Sends through Socket.IO.
struct SocketOutbox(SocketIo);

impl Outbox for SocketOutbox {
    fn emit(&self, socket: Sid, event: &str, payload: &Value) {
        let Some(socket) = self.0.get_socket(socket) else { return };
        // A browser that takes nothing for so long would see a false picture of its room from
        // now on. Without its socket it comes back and asks for all.
        if socket.emit(event, payload).is_err() {
            let _ = socket.disconnect();
        }
    }

    fn close(&self, socket: Sid) {
        if let Some(socket) = self.0.get_socket(socket) {
            let _ = socket.disconnect();
        }
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
    let service = Service::new(settings, media, Box::new(SocketOutbox(io.clone())));
    let for_sockets = Arc::clone(&service);
    io.ns("/", move |socket: SocketRef| {
        let service = Arc::clone(&for_sockets);
        async move { welcome(&socket, service) }
    });
    (layer, service)
}

/// Registers all names of all events for a new socket.
fn welcome(socket: &SocketRef, service: Arc<Service>) {
    let (queue, requests) = mpsc::channel(service.settings.requests_per_socket_max);
    for row in TABLE {
        for name in row.names {
            register(socket, row, name, Arc::clone(&service), queue.clone());
        }
    }
    let outbox = Arc::clone(&service);
    socket.on_fallback(
        move |Event(name): Event, socket: SocketRef, wants: WantsAck, ack: AckSender| {
            let ack = wants.0.then_some(ack);
            let failure =
                Failure::new("unsupported", format!("this service has no event {:?}", cut(&name)));
            let answer = Answer { socket: socket.id, ack, reply: None };
            answer.send(&outbox, cut(&name), Err(failure));
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

/// The closure runs where the message is read, before the next is: that keeps them in order.
fn register(
    socket: &SocketRef,
    row: &'static Row,
    name: &'static str,
    service: Arc<Service>,
    queue: mpsc::Sender<Request>,
) {
    let handler = move |socket: SocketRef,
                        wants: WantsAck,
                        TryData(payload): TryData<Value>,
                        ack: AckSender| {
        let answer = Answer { socket: socket.id, ack: wants.0.then_some(ack), reply: row.reply };
        // Nothing was sent along: the same as an empty payload.
        let payload = payload.unwrap_or(Value::Null);
        let request = Request { action: row.action, name, payload, answer };
        if let Err(refused) = queue.try_send(request) {
            let failure = Failure::new("rate_limited", "too many messages are waiting already");
            refused.into_inner().answer.send(&service, name, Err(failure));
        }
        async {}
    };
    socket.on(name, handler);
}

/// Does a socket's messages one by one until it is gone.
async fn work(service: Arc<Service>, socket: Sid, mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.recv().await {
        let handling = service.handle(socket, request.action, request.payload);
        let result = tokio::time::timeout(REQUEST_TIME_MAX, handling)
            .await
            .unwrap_or_else(|_| Err(Failure::new("timeout", "this took too long")));
        request.answer.send(&service, request.name, result);
    }
}

impl Answer {
    fn send(self, service: &Service, name: &str, result: Result<Value, Failure>) {
        if let Some(ack) = self.ack {
            let payload = result.unwrap_or_else(|failure| failure.to_ack());
            // The socket is gone: nobody waits any more.
            let _ = ack.send(&payload);
            return;
        }
        match (result, self.reply) {
            (Ok(payload), Some(reply)) => service.emit(self.socket, reply, &payload),
            (Ok(_), None) => {}
            (Err(failure), _) => service.emit(self.socket, "error", &failure.to_event(name)),
        }
    }
}
