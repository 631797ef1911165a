//! What each call takes and gives, as types: the schemas are made of them, and the examples are read
//! into them by a test.

use ironcast_api as api;
use salvo::oapi::{Components, RefOr, ToSchema, schema::Schema};
#[cfg(test)]
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::routes::Op;

pub type SchemaOf = fn(&mut Components) -> RefOr<Schema>;

/// A body or an answer in JSON.
pub struct Shape {
    pub schema: SchemaOf,
    /// A body without which the call makes no sense.
    pub is_needed: bool,
    /// Reads an example and writes it again.
    #[cfg(test)]
    pub again: fn(&Value) -> serde_json::Result<Value>,
}

#[cfg(test)]
fn shape<T: ToSchema + Serialize + DeserializeOwned>() -> Shape {
    Shape {
        schema: T::to_schema,
        is_needed: true,
        again: |value| serde_json::from_value::<T>(value.clone()).and_then(serde_json::to_value),
    }
}

#[cfg(not(test))]
fn shape<T: ToSchema>() -> Shape {
    Shape { schema: T::to_schema, is_needed: true }
}

/// What a call answers when all is well.
pub enum Good {
    /// 200.
    Json(Shape),
    /// 201, or 200 for who repeats himself.
    Made(Shape),
    /// 204.
    Nothing,
    /// 200 with an object of many forms.
    Object,
    /// 200 of a media type, with an example.
    Text(&'static str, &'static str),
    /// 200 of a media type that is no text.
    Bytes(&'static str),
}

/// The body of a call.
pub fn body_of(op: Op) -> Option<Shape> {
    let optional = |shape| Shape { is_needed: false, ..shape };
    Some(match op {
        Op::CreateRouter => optional(shape::<api::CreateRouter>()),
        Op::CanConsume => shape::<api::CanConsume>(),
        Op::CreateTransport => shape::<api::CreateTransport>(),
        Op::ConnectTransport => shape::<api::ConnectTransport>(),
        Op::PatchTransport => optional(shape::<api::PatchTransport>()),
        Op::CreateProducer => shape::<api::CreateProducer>(),
        Op::CreateConsumer => shape::<api::CreateConsumer>(),
        Op::CreateObserver => shape::<api::CreateObserver>(),
        Op::CreatePipe => shape::<api::CreatePipe>(),
        Op::PatchConsumer => optional(shape::<api::PatchConsumer>()),
        Op::Batch => shape::<api::Batch>(),
        Op::CreateWebhook => shape::<api::CreateWebhook>(),
        Op::TraceTransport | Op::TraceProducer | Op::TraceConsumer => shape::<api::TraceTypes>(),
        Op::Drain => optional(shape::<api::DrainRequest>()),
        _ => return None,
    })
}

/// The answer of a call.
pub fn answer_of(op: Op) -> Good {
    Good::Json(match op {
        Op::Health | Op::Ready => shape::<api::Health>(),
        Op::Snapshot => shape::<api::Snapshot>(),
        Op::Audit => shape::<api::AuditList>(),
        Op::Reload => shape::<api::Reloaded>(),
        Op::Top => shape::<api::Top>(),
        Op::GetDrain | Op::Drain | Op::Undrain => shape::<api::DrainStatus>(),
        Op::Workers => shape::<Vec<api::WorkerInfo>>(),
        Op::Worker => shape::<api::WorkerInfo>(),
        Op::CreateRouter => return Good::Made(shape::<api::RouterInfo>()),
        Op::ListRouters => shape::<api::RouterList>(),
        Op::GetRouter => shape::<api::RouterDetails>(),
        Op::CanConsume => shape::<api::CanConsumeAnswer>(),
        Op::CreateTransport => return Good::Made(shape::<api::TransportInfo>()),
        Op::ListTransports => shape::<api::TransportList>(),
        Op::GetTransport | Op::PatchTransport => shape::<api::TransportInfo>(),
        Op::ConnectTransport => shape::<api::Connected>(),
        Op::RestartIce => shape::<api::RestartIceAnswer>(),
        Op::TraceTransport | Op::TraceProducer | Op::TraceConsumer => shape::<api::TraceTypes>(),
        Op::TransportStats => shape::<Vec<api::TransportStats>>(),
        Op::Leave => shape::<api::LeaveAnswer>(),
        Op::CreateProducer => return Good::Made(shape::<api::ProducerInfo>()),
        Op::ListProducers => shape::<api::ProducerList>(),
        Op::GetProducer | Op::PauseProducer | Op::ResumeProducer => shape::<api::ProducerInfo>(),
        Op::ProducerStats | Op::ConsumerStats => shape::<Vec<api::RtpStreamStats>>(),
        Op::CreateConsumer => return Good::Made(shape::<api::ConsumerInfo>()),
        Op::ListConsumers => shape::<api::ConsumerList>(),
        Op::GetConsumer | Op::PatchConsumer | Op::PauseConsumer | Op::ResumeConsumer => {
            shape::<api::ConsumerInfo>()
        }
        Op::CreateObserver => return Good::Made(shape::<api::ObserverInfo>()),
        Op::CreatePipe => return Good::Made(shape::<api::Piped>()),
        Op::ListObservers => shape::<api::ObserverList>(),
        Op::GetObserver | Op::PauseObserver | Op::ResumeObserver | Op::ObserveProducer => {
            shape::<api::ObserverInfo>()
        }
        Op::Batch => shape::<api::BatchAnswers>(),
        Op::CreateWebhook => return Good::Made(shape::<api::CreatedWebhook>()),
        Op::ListWebhooks => shape::<api::WebhookList>(),
        Op::GetWebhook => shape::<api::WebhookInfo>(),
        Op::Events => return Good::Text("text/event-stream", EVENTS_EXAMPLE),
        Op::Metrics => return Good::Text(crate::metrics::CONTENT_TYPE, METRICS_EXAMPLE),
        Op::TransportSdp => return Good::Text(crate::routes::SDP, SDP_EXAMPLE),
        Op::Capture => return Good::Bytes(crate::routes::capture::MEDIA_TYPE),
        Op::DeleteRouter
        | Op::DeleteTransport
        | Op::DeleteProducer
        | Op::DeleteConsumer
        | Op::DeleteObserver
        | Op::DeleteWebhook
        | Op::UnobserveProducer
        | Op::RequestKeyFrame => return Good::Nothing,
        Op::OpenApi
        | Op::TransportDump
        | Op::ProducerDump
        | Op::ConsumerDump
        | Op::ObserverDump
        | Op::Unsupported => return Good::Object,
    })
}

const EVENTS_EXAMPLE: &str = ": ironcast

id: 1795911870935-1
event: router.created
data: {\"seq\":\"1795911870935-1\",\"time\":1795911872004,\"routerId\":\"room-7\",\"workerId\":\"0\"}

";

const SDP_EXAMPLE: &str = "v=0\r
o=- 0 0 IN IP4 127.0.0.1\r
s=to-ffmpeg\r
c=IN IP4 127.0.0.1\r
t=0 0\r
m=audio 5004 RTP/AVP 100\r
a=rtcp:5005\r
a=sendonly\r
a=rtpmap:100 opus/48000/2\r
a=ssrc:100000 cname:9f2c61aa\r
";

const METRICS_EXAMPLE: &str = "# TYPE ironcast_control_streams gauge
ironcast_control_streams 2
";

/// A field of a query.
pub struct Field {
    pub name: &'static str,
    pub is_needed: bool,
    pub description: &'static str,
    pub schema: SchemaOf,
}

const fn field(name: &'static str, schema: SchemaOf, description: &'static str) -> Field {
    Field { name, is_needed: false, description, schema }
}

/// 1 to `max`.
fn number(max: u32) -> RefOr<Schema> {
    let number = salvo::oapi::Object::new().schema_type(salvo::oapi::BasicType::Integer);
    number.minimum(1.0).maximum(f64::from(max)).into()
}

fn list_limit(_: &mut Components) -> RefOr<Schema> {
    number(api::LIST_LIMIT_MAX)
}

fn top_count(_: &mut Components) -> RefOr<Schema> {
    number(api::TOP_COUNT_MAX)
}

fn capture_seconds(_: &mut Components) -> RefOr<Schema> {
    number(crate::routes::capture::SECONDS_MAX)
}

fn flag(_: &mut Components) -> RefOr<Schema> {
    let flag = salvo::oapi::Object::new().schema_type(salvo::oapi::BasicType::String);
    flag.enum_values(["0", "1", "false", "true"]).into()
}

fn event_types(_: &mut Components) -> RefOr<Schema> {
    let name = api::EventData::NAMES.join("|").replace('.', "\\.");
    let types = salvo::oapi::Object::new().schema_type(salvo::oapi::BasicType::String);
    types.pattern(format!("^({name})(,({name}))*$")).into()
}

fn page_after(_: &mut Components) -> RefOr<Schema> {
    let id = salvo::oapi::Object::new().schema_type(salvo::oapi::BasicType::String);
    id.max_length(api::id::ID_CHARACTERS_MAX).pattern("^[A-Za-z0-9._:-]*$").into()
}

fn event_after(_: &mut Components) -> RefOr<Schema> {
    let seq = salvo::oapi::Object::new().schema_type(salvo::oapi::BasicType::String);
    seq.pattern("^([0-9]+-[0-9]+)?$").into()
}

const AFTER: Field = field(
    "after",
    page_after,
    "The last id of the page before: `nextAfter` of its answer. Empty for the first page.",
);
const LIMIT: Field =
    field("limit", list_limit, "How many there are on a page; 100 if it is not said.");
const OF_ROUTER: Field = field("routerId", api::Id::to_schema, "Only what belongs to this router.");

/// The query of a call.
pub fn query_of(op: Op) -> &'static [Field] {
    match op {
        Op::ListRouters
        | Op::ListTransports
        | Op::ListProducers
        | Op::ListConsumers
        | Op::ListObservers => const { &[AFTER, LIMIT, OF_ROUTER] },
        Op::Snapshot => {
            const {
                &[
                    field("routerId", api::Id::to_schema, "This router alone."),
                    AFTER,
                    field("limit", list_limit, "Routers on a page; all of them if it is not said."),
                ]
            }
        }
        Op::Top => {
            const { &[field("count", top_count, "How many routers and transports; 20 at first.")] }
        }
        Op::Capture => {
            const {
                &[
                    field("payload", flag, "With `1` also what RTP carries (scope `admin`)."),
                    field("seconds", capture_seconds, "How long; 60 if it is not said."),
                ]
            }
        }
        Op::Leave => {
            const {
                &[Field {
                    is_needed: true,
                    ..field("routerId", api::Id::to_schema, "The router that is left.")
                }]
            }
        }
        Op::Audit => {
            const {
                &[
                    field("principal", String::to_schema, "Only what this one did."),
                    field("routerId", api::Id::to_schema, "Only what was done in this router."),
                    field("limit", list_limit, "How many, the newest; 100 if it is not said."),
                ]
            }
        }
        Op::Events => {
            const {
                &[
                    field(
                        "after",
                        event_after,
                        "Begin behind this event. `Last-Event-ID` goes over it. Empty for now.",
                    ),
                    field(
                        "routerId",
                        api::Id::to_schema,
                        "Only events about this router, and \
                        those that are about none.",
                    ),
                    field("types", event_types, "Only events of these names, with commas between."),
                    field(
                        "children",
                        flag,
                        "With `1` also the events that another one implies: \
                        all that was in a router that was closed.",
                    ),
                ]
            }
        }
        _ => &[],
    }
}

/// Name of the schema of all events.
pub const EVENTS: &str = "ironcast_api.events.EventsByName";

/// What stands in `data:` of the stream, by the name that stands in `event:`.
pub fn events(components: &mut Components) -> Value {
    let mut properties = Map::new();
    for (name, description, schema) in api::EventData::schemas(components) {
        let head = json!({
            "type": "object",
            "required": ["seq", "time"],
            "properties": {
                "seq": api::EventSeq::to_schema(components),
                "time": {
                    "type": "integer",
                    "format": "uint64",
                    "description": "Milliseconds of the Unix epoch.",
                },
                "routerId": api::Id::to_schema(components),
            },
        });
        let event = json!({ "description": description.trim(), "allOf": [head, schema] });
        properties.insert(name.to_owned(), event);
    }
    json!({ "type": "object", "description": super::words::EVENTS, "properties": properties })
}

/// What a receiver of webhooks is sent.
pub fn webhook() -> Value {
    let header = |name: &str, description: &str| {
        json!({ "name": name, "in": "header", "required": true, "description": description,
            "schema": { "type": "string" } })
    };
    let event = json!({
        "type": "object",
        "required": ["id", "type", "data"],
        "properties": {
            "id": { "type": "string", "description": "The event's number: the same event has the \
                same in each delivery." },
            "type": { "type": "string", "description": "The event's name, or `events_lost`." },
            "data": { "type": "object", "description": "What stands in `data:` of the stream; of \
                `events_lost` `after`, `count` (`null` if nobody knows) and `reason` (`queue_full` or \
                `new_epoch`)." },
        },
    });
    let schema = json!({
        "type": "object",
        "required": ["events"],
        "properties": { "events": { "type": "array", "minItems": 1, "items": event } },
    });
    let data = json!({
        "seq": "1795911870935-1", "time": 1_795_911_872_004_u64, "routerId": "room-7",
        "workerId": "0",
    });
    let example = json!({
        "events": [{ "id": "1795911870935-1", "type": "router.created", "data": data }],
    });
    json!({
        "operationId": "webhook",
        "summary": "Events for those who hold no stream",
        "description": super::words::WEBHOOK,
        "tags": ["Events"],
        "parameters": [
            header("webhook-id", "Of the delivery: the same in each of its attempts."),
            header("webhook-timestamp", "Seconds of the Unix epoch."),
            header("webhook-signature", "`v1,` and the base64 of HMAC-SHA256 over \
                `ID.TIMESTAMP.BODY`."),
        ],
        "requestBody": {
            "required": true,
            "content": { "application/json": { "schema": schema, "example": example } },
        },
        "responses": { "2XX": { "description": "Taken. All else, and no answer in time, repeats it." } },
    })
}
