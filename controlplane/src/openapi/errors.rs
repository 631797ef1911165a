//! What can go wrong with each call: the statuses of its problem documents and the codes that each
//! may have. A caller may build on it, so a test (`tests/api`) plays calls against the server and
//! takes no other answer.

use std::collections::BTreeMap;

use ironcast_api::{ErrorCode, problem::PROBLEM_MEDIA_TYPE};
use serde_json::{Map, Value, json};

use super::shapes;
use crate::routes::{Op, Route};

/// What a call does with the dataplane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asks {
    /// Nothing.
    Nothing,
    /// It has to be there.
    Presence,
    /// A command, whose answer is waited for.
    Command,
}

fn asks(op: Op) -> Asks {
    match op {
        Op::Health | Op::OpenApi | Op::Metrics | Op::Audit | Op::Events => Asks::Nothing,
        Op::GetDrain | Op::Drain | Op::Undrain => Asks::Nothing,
        Op::CreateWebhook | Op::ListWebhooks | Op::GetWebhook | Op::DeleteWebhook => Asks::Nothing,
        // Each call of a batch has an answer of its own.
        Op::Batch => Asks::Nothing,
        Op::Ready | Op::Snapshot | Op::Workers | Op::Worker | Op::CanConsume => Asks::Presence,
        Op::ListRouters
        | Op::ListTransports
        | Op::ListProducers
        | Op::ListConsumers
        | Op::ListObservers => Asks::Presence,
        Op::GetRouter
        | Op::GetTransport
        | Op::TransportSdp
        | Op::GetProducer
        | Op::GetConsumer
        | Op::GetObserver => Asks::Presence,
        _ => Asks::Command,
    }
}

fn is_create(op: Op) -> bool {
    matches!(
        op,
        Op::CreateRouter
            | Op::CreateTransport
            | Op::CreateProducer
            | Op::CreateConsumer
            | Op::CreateObserver
            | Op::CreatePipe
    )
}

/// Every code that a call may answer.
fn codes(route: &Route) -> Vec<ErrorCode> {
    use ErrorCode as Code;
    let (op, method) = (route.op, route.method);
    let mut codes = vec![Code::Unauthenticated, Code::Forbidden, Code::RateLimited, Code::Internal];
    let has_body = matches!(method, "POST" | "PATCH" | "PUT");
    let has_id = route.path.contains("{}");
    if has_body || has_id || !shapes::query_of(op).is_empty() {
        codes.push(Code::InvalidRequest);
    }
    if has_body {
        codes.extend([Code::TooLarge, Code::UnsupportedMediaType]);
    }
    if (has_id && method != "DELETE" && op != Op::Leave) || is_create(op) || op == Op::Snapshot {
        codes.push(Code::NotFound);
    }
    match asks(op) {
        Asks::Nothing => {}
        Asks::Presence => codes.push(Code::DataplaneUnavailable),
        Asks::Command => {
            codes.extend([Code::DataplaneUnavailable, Code::NoCapacity, Code::Timeout]);
            // A dataplane of an earlier release lacks commands.
            codes.push(Code::Unsupported);
        }
    }
    match op {
        _ if is_create(op) => codes.extend([Code::AlreadyExists, Code::WrongState]),
        Op::ConnectTransport
        | Op::RestartIce
        | Op::TransportSdp
        | Op::PatchConsumer
        | Op::DeleteWebhook
        | Op::Undrain => {
            codes.push(Code::WrongState);
        }
        Op::CreateWebhook => codes.extend([Code::AlreadyExists, Code::NoCapacity]),
        Op::Events => codes.extend([Code::EventsLost, Code::NoCapacity]),
        _ => {}
    }
    // Another host may be draining, too.
    if matches!(op, Op::CreateRouter | Op::Ready | Op::CreatePipe) {
        codes.push(Code::Draining);
    }
    codes
}

/// Answers that several calls share, by name.
#[derive(Default)]
pub struct Responses(BTreeMap<String, Value>);

impl Responses {
    /// References to what a call may answer, by status.
    pub fn of(&mut self, route: &Route) -> BTreeMap<String, Value> {
        let mut by_status: BTreeMap<u16, Vec<ErrorCode>> = BTreeMap::new();
        for code in ErrorCode::ALL.into_iter().filter(|code| codes(route).contains(code)) {
            by_status.entry(code.status()).or_default().push(code);
        }
        let reference = |(status, codes): (u16, Vec<ErrorCode>)| {
            let name = codes.iter().map(|code| format!("{code:?}")).collect::<Vec<_>>().join("Or");
            self.0.entry(name.clone()).or_insert_with(|| response(status, &codes));
            let reference = json!({ "$ref": format!("#/components/responses/{name}") });
            (status.to_string(), reference)
        };
        by_status.into_iter().map(reference).collect()
    }

    /// For the components.
    pub fn into_json(self) -> Value {
        self.0.into_iter().collect::<Map<_, _>>().into()
    }
}

fn response(status: u16, codes: &[ErrorCode]) -> Value {
    let meanings: Vec<String> =
        codes.iter().map(|code| format!("`{code}`: {}.", meaning(*code))).collect();
    let names: Vec<&str> = codes.iter().map(|code| code.as_str()).collect();
    let examples = codes.iter().map(|code| {
        let value = json!(example(*code));
        (code.as_str().to_owned(), json!({ "value": value }))
    });
    let examples: Map<String, Value> = examples.collect();
    let header = |name: &str| json!({ "$ref": format!("#/components/headers/{name}") });
    let mut headers = json!({ "Ironcast-Seq": header("Ironcast-Seq") });
    match status {
        401 => headers["WWW-Authenticate"] = header("WWW-Authenticate"),
        429 | 503 => headers["Retry-After"] = header("Retry-After"),
        _ => {}
    }
    let schema = json!({ "allOf": [
        { "$ref": "#/components/schemas/ironcast_api.problem.Problem" },
        { "type": "object", "properties": {
            "status": { "const": status },
            "code": { "enum": names },
        }},
    ]});
    json!({
        "description": meanings.join(" "),
        "headers": headers,
        "content": { PROBLEM_MEDIA_TYPE: { "schema": schema, "examples": examples } },
    })
}

/// What a code means to the caller, and what he does about it.
fn meaning(code: ErrorCode) -> &'static str {
    use ErrorCode as Code;
    match code {
        Code::InvalidRequest => {
            "the request cannot be read, or a value is not possible; `pointer` names the field (a \
             JSON pointer into the body, or `?name` of the query)"
        }
        Code::Unauthenticated => "no credentials were shown, or none that are known",
        Code::Forbidden => "the credentials lack the scope of this call",
        Code::NotFound => "there is no such resource, or it is another principal's",
        Code::MethodNotAllowed => "the path has other methods; `Allow` names them",
        Code::AlreadyExists => "the id, or the `mid`, is taken by something else",
        Code::WrongState => {
            "not possible now: the id was deleted within the last minute, the same was asked before \
             with other parameters, or there are no layers to choose from"
        }
        Code::EventsLost => {
            "the events behind this number are not kept any more; take `GET /snapshot` and go on \
             from its `seq`"
        }
        Code::TooLarge => "the body, or what has to be kept of it, is larger than is configured",
        Code::UnsupportedMediaType => "a body is sent with `Content-Type: application/json`",
        Code::Unsupported => {
            "codecs, capabilities, modes or calls that this version does not have; `pointer` names \
             the field"
        }
        Code::RateLimited => {
            "too many requests, or too much to do at this moment; come again after `Retry-After` \
             seconds"
        }
        Code::Internal => "a fault of the server, which it has noted in its log",
        Code::NoCapacity => {
            "the workers are full, or a limit of this host or principal is reached; come again \
             after `Retry-After` seconds, or use another host"
        }
        Code::Draining => "this host takes no new routers; use another one",
        Code::DataplaneUnavailable => {
            "the process that moves media does not run or is starting; repeat the call with the \
             same id"
        }
        Code::Timeout => {
            "the process that moves media did not answer in time; repeat the call with the same id"
        }
    }
}

fn example(code: ErrorCode) -> ironcast_api::Problem {
    use ErrorCode as Code;
    use ironcast_api::Problem;
    match code {
        Code::InvalidRequest => {
            Problem::invalid("/id", "an id has 1 to 64 characters of A-Z a-z 0-9 . _ : -")
        }
        Code::NotFound => Problem::not_found("router", "room-7"),
        Code::AlreadyExists => {
            Problem::new(code, "another router has the id \"room-7\"").with_pointer("/id")
        }
        Code::WrongState => {
            let detail = "the router \"room-7\" was deleted a moment ago";
            Problem::new(code, detail).with_pointer("/id")
        }
        Code::Unsupported => {
            Problem::new(code, "this version has webrtc transports only").with_pointer("/type")
        }
        Code::RateLimited | Code::DataplaneUnavailable => {
            Problem::new(code, meaning(code)).with_retry_after(1)
        }
        Code::NoCapacity => Problem::new(code, "10000 routers on this host, and 10000 are allowed")
            .with_retry_after(5),
        _ => Problem::new(code, meaning(code)),
    }
}
