//! What comes is sent back: what the test suites of the Engine.IO and Socket.IO protocols want of a
//! server (`tests/socketio`). Served in place of the service when the environment says so, over the
//! same port and the same sockets; no room, no media server, no page.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engineioxide::Str;
use engineioxide::config::EngineIoConfig;
use engineioxide::handler::EngineIoHandler;
use engineioxide::service::EngineIoService;
use engineioxide::socket::DisconnectReason;
use salvo::http::StatusCode;
use salvo::{Depot, FlowCtrl, Handler, Request, Response, async_trait};
use serde::ser::{Serialize, SerializeTuple, Serializer};
use serde_json::{Map, Value, json};
use socketioxide::ParserConfig;
use socketioxide::adapter::Adapter;
use socketioxide::extract::{AckSender, SocketRef, TryData};
use socketioxide::handler::{FromMessageParts, Value as SocketValue};
use socketioxide::socket::Socket;

use crate::gateway::{SocketHttp, as_http, builder};
use crate::settings::Settings;
use crate::web::{SOCKETS, socket};

/// What says so.
pub const ENVIRONMENT: &str = "IRONCAST_PROTOCOL_ECHO";

/// Where Engine.IO is echoed, without Socket.IO on top.
const ENGINE: &str = "/engine.io/";

/// Parts in binary that one event may have.
const BINARIES_MAX: usize = 10;

/// Between the answer to who comes in and what he is told first.
const PAUSE: Duration = Duration::from_millis(20);

/// What the suites expect to be told.
pub fn settings() -> Settings {
    Settings {
        ping_interval: Duration::from_millis(300),
        ping_timeout: Duration::from_millis(200),
        message_bytes_max: 1_000_000,
        ..Settings::default()
    }
}

/// The whole of it over HTTP.
#[derive(Clone)]
pub struct Echo {
    engine: Arc<SocketHttp>,
    sockets: Arc<SocketHttp>,
}

impl Echo {
    /// Makes it.
    pub fn new(settings: &Settings) -> Self {
        let parser = ParserConfig::common().max_incoming_binaries(BINARIES_MAX);
        let (sockets, io) = builder(settings).with_parser(parser).build_svc();
        for namespace in ["/", "/custom"] {
            io.ns(namespace, welcome);
        }
        let engine = EngineIoConfig::builder()
            .max_payload(settings.message_bytes_max as u64)
            .ping_interval(settings.ping_interval)
            .ping_timeout(settings.ping_timeout)
            .build();
        let engine = EngineIoService::with_config(Arc::new(Engine), engine);
        Self { engine: as_http(engine), sockets: as_http(sockets) }
    }
}

#[async_trait]
impl Handler for Echo {
    async fn handle(
        &self,
        request: &mut Request,
        _: &mut Depot,
        response: &mut Response,
        _: &mut FlowCtrl,
    ) {
        let path = request.uri().path();
        let served = [(SOCKETS, &self.sockets), (ENGINE, &self.engine)];
        match served.into_iter().find(|(prefix, _)| path.starts_with(prefix)) {
            Some((_, by)) => socket(&**by, request, response).await,
            None => response.status_code = Some(StatusCode::NOT_FOUND),
        }
    }
}

/// Says back what it came with, and then all that it sends.
async fn welcome(socket: SocketRef, TryData(auth): TryData<Value>) {
    socket.on("message", async |socket: SocketRef, said: Arguments| {
        let _ = socket.emit("message-back", &said);
    });
    socket.on("message-with-ack", async |said: Arguments, ack: AckSender| {
        let _ = ack.send(&said);
    });
    // The suites read one message after the other, and lose one that comes in the same read.
    tokio::time::sleep(PAUSE).await;
    let auth = auth.ok().filter(Value::is_object).unwrap_or_else(|| json!({}));
    let _ = socket.emit("auth", &auth);
}

/// All that an event carries, however much it is.
struct Arguments {
    values: Vec<Value>,
    binaries: VecDeque<Bytes>,
}

impl<A: Adapter> FromMessageParts<A> for Arguments {
    type Error = Infallible;

    fn from_message_parts(
        _: &Arc<Socket<A>>,
        value: &mut SocketValue,
        _: &Option<i64>,
    ) -> Result<Self, Infallible> {
        let SocketValue::Str(text, binaries) = value else {
            return Ok(Self { values: Vec::new(), binaries: VecDeque::new() });
        };
        // Its name comes first.
        let all: Vec<Value> = serde_json::from_str(text).unwrap_or_default();
        let values = all.into_iter().skip(1).collect();
        Ok(Self { values, binaries: binaries.take().unwrap_or_default() })
    }
}

/// A tuple: each of them is an argument again.
impl Serialize for Arguments {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(self.values.len())?;
        for value in &self.values {
            tuple.serialize_element(&Argument(value, &self.binaries))?;
        }
        tuple.end()
    }
}

/// One of them, with what is binary in it.
struct Argument<'a>(&'a Value, &'a VecDeque<Bytes>);

impl Serialize for Argument<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self(value, binaries) = *self;
        match value {
            Value::Object(map) => match number(map).and_then(|number| binaries.get(number)) {
                Some(binary) => serializer.serialize_bytes(binary),
                None => {
                    serializer.collect_map(map.iter().map(|(key, it)| (key, Self(it, binaries))))
                }
            },
            Value::Array(list) => serializer.collect_seq(list.iter().map(|it| Self(it, binaries))),
            plain => plain.serialize(serializer),
        }
    }
}

/// Which binary part stands here, if one does.
fn number(map: &Map<String, Value>) -> Option<usize> {
    let is_placeholder = map.get("_placeholder") == Some(&Value::Bool(true));
    let number = map.get("num").filter(|_| is_placeholder)?;
    usize::try_from(number.as_u64()?).ok()
}

#[derive(Debug)]
struct Engine;

impl EngineIoHandler for Engine {
    type Data = ();

    fn on_connect(self: Arc<Self>, _: Arc<engineioxide::Socket<()>>) {}

    fn on_disconnect(&self, _: Arc<engineioxide::Socket<()>>, _: DisconnectReason) {}

    fn on_message(self: &Arc<Self>, message: Str, socket: Arc<engineioxide::Socket<()>>) {
        let _ = socket.emit(message);
    }

    fn on_binary(self: &Arc<Self>, message: Bytes, socket: Arc<engineioxide::Socket<()>>) {
        let _ = socket.emit_binary(message);
    }
}
