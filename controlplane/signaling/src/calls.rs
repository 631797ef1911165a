//! The steps of a call over HTTP, for who has no socket, or uses it for notices alone: the routes, and
//! what each of them asks the service for. Whoever joins gets a `resumeToken`; every later request
//! shows it, in the header `Ironcast-Resume-Token` or as `resumeToken` in its body. Rights and
//! errors are those of the events.

use ironcast_api::{ErrorCode, Id, Problem};
use salvo::http::{Method, StatusCode};
use salvo::{Request, Response};
use serde_json::{Map, Value, json};

use crate::events::Action;
use crate::failure::Failure;
use crate::service::Service;
use crate::web;

/// Shows who asks.
const RESUME_TOKEN: &str = "ironcast-resume-token";

/// What a request asks for.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Step<'a> {
    /// Come in, or come back.
    Join,
    /// A room with its router.
    Create,
    /// What is kept of the call.
    Record,
    /// How much flows.
    Stats,
    /// Something of the participant who asks; an id of the path goes into the body.
    Ask(Action, Option<(&'static str, &'a str)>),
    /// Himself, or somebody whom he may remove.
    Leave(&'a str),
}

/// The method that a path takes, the room it names, and what it asks for.
fn route(path: &str) -> Option<(Method, &str, Step<'_>)> {
    let mut parts = path.strip_prefix("/api/")?.split('/');
    let (kind, room_id) = (parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    let own = |action| Step::Ask(action, None);
    let (method, step) = match (kind, &*rest) {
        ("calls", []) => (Method::GET, Step::Record),
        ("calls", ["participants"]) => (Method::POST, Step::Join),
        ("calls", ["leave"]) => (Method::POST, own(Action::LeaveRoom)),
        ("calls", ["heartbeat"]) => (Method::POST, own(Action::Heartbeat)),
        ("rooms", ["create"]) => (Method::POST, Step::Create),
        ("rooms", ["stats"]) => (Method::GET, Step::Stats),
        ("rooms", ["producers"]) => (Method::GET, own(Action::ListProducers)),
        ("rooms", ["transports"]) => (Method::POST, own(Action::CreateTransport(None))),
        ("rooms", ["transports", id, what]) => {
            let action = match *what {
                "connect" => Action::ConnectTransport(None),
                "produce" => Action::Produce,
                "restart-ice" => Action::RestartIce,
                _ => return None,
            };
            (Method::POST, Step::Ask(action, Some(("transportId", id))))
        }
        ("rooms", ["producers", id, what]) => {
            let action = match *what {
                "pause" => Action::PauseProducer,
                "resume" => Action::ResumeProducer,
                _ => return None,
            };
            (Method::POST, Step::Ask(action, Some(("producerId", id))))
        }
        ("rooms", ["consume"]) => (Method::POST, own(Action::Consume)),
        ("rooms", ["consumers", id, what]) => {
            let action = match *what {
                "pause" => Action::PauseConsumer,
                "resume" => Action::ResumeConsumer,
                "preferred-layers" => Action::SetPreferredLayers,
                "key-frame" => Action::RequestKeyFrame,
                _ => return None,
            };
            (Method::POST, Step::Ask(action, Some(("consumerId", id))))
        }
        ("rooms", ["participants", id, "leave"]) => (Method::POST, Step::Leave(id)),
        _ => return None,
    };
    Some((method, room_id, step))
}

/// Answers a request whose path is one of ours; gives whether it is.
pub(crate) async fn serve(
    service: &std::sync::Arc<Service>,
    path: &str,
    request: &mut Request,
    response: &mut Response,
) -> bool {
    let Some((method, room_id, step)) = route(path) else { return false };
    if *request.method() != method && !(*request.method() == Method::HEAD && method == Method::GET)
    {
        web::refuse_method(response, method.as_str());
        return true;
    }
    match answer(service, room_id, step, request).await {
        Ok(value) => {
            let is_new = matches!(step, Step::Join | Step::Create);
            let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
            web::write_json(response, status, &value);
        }
        Err(problem) => web::write_problem(response, &problem),
    }
    true
}

async fn answer(
    service: &std::sync::Arc<Service>,
    room_id: &str,
    step: Step<'_>,
    request: &mut Request,
) -> Result<Value, Problem> {
    let room_id = Id::new(room_id).map_err(|_| Problem::invalid("", "this is no room's id"))?;
    let mut body = body(request, service.settings.message_bytes_max).await?;
    let address = web::address_of(request);
    let headers = request.headers().clone();
    let token = headers.get(RESUME_TOKEN).and_then(|value| value.to_str().ok());
    let token = token.map(str::to_owned).or_else(|| {
        let said = body.get("resumeToken").and_then(Value::as_str);
        said.map(str::to_owned)
    });
    let ask = async |action, payload: Map<String, Value>| {
        let token = token.as_deref().ok_or_else(|| {
            let message = "show the resumeToken of your join: in the header \
                 Ironcast-Resume-Token, or in the body";
            Failure::new("unauthorized", message)
        })?;
        let (who, payload) = ((&room_id, token), Value::Object(payload));
        service.ask_by_http(address, &headers, who, action, payload).await
    };
    let answered = match step {
        Step::Join => {
            body.insert("roomId".to_owned(), json!(room_id));
            if let Some(token) = &token {
                body.insert("resumeToken".to_owned(), json!(token));
            }
            service.join_by_http(address, &headers, Value::Object(body)).await
        }
        Step::Create => {
            body.insert("roomId".to_owned(), json!(room_id));
            service.create_by_http(address, &headers, room_id, Value::Object(body)).await
        }
        Step::Record => match service.admit_request(&headers, Some(&room_id)) {
            Ok(()) => service.call_record(&room_id).await,
            Err(failure) => Err(failure),
        },
        Step::Stats => match service.admit_request(&headers, Some(&room_id)) {
            Ok(()) => service.room_stats(&room_id).await,
            Err(failure) => Err(failure),
        },
        Step::Ask(action, id) => {
            if let Some((key, id)) = id {
                body.insert(key.to_owned(), json!(id));
            }
            ask(action, body).await
        }
        Step::Leave(id) => {
            let is_own = token.as_deref().is_some_and(|token| {
                service.participant_of(&room_id, token).is_some_and(|own| *own == *id)
            });
            if is_own {
                ask(Action::LeaveRoom, body).await
            } else {
                body.insert("participantId".to_owned(), json!(id));
                ask(Action::RemoveParticipant, body).await
            }
        }
    };
    answered.map_err(web::problem)
}

/// The body, an object; nothing at all is an empty one.
async fn body(request: &mut Request, bytes_max: usize) -> Result<Map<String, Value>, Problem> {
    let bytes = match request.payload_with_max_size(bytes_max).await {
        Ok(bytes) => bytes,
        Err(salvo::http::ParseError::PayloadTooLarge) => {
            let detail = format!("a body has at most {bytes_max} bytes");
            return Err(Problem::new(ErrorCode::TooLarge, detail));
        }
        Err(error) => return Err(Problem::invalid("", error.to_string())),
    };
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(Map::new());
    }
    match serde_json::from_slice(bytes) {
        Ok(Value::Object(body)) => Ok(body),
        Ok(_) => Err(Problem::invalid("", "the body is a JSON object")),
        Err(error) => Err(Problem::invalid("", error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use salvo::http::Method;

    use super::{Step, route};
    use crate::events::Action;

    #[test]
    fn a_path_says_what_is_asked_for() {
        let (method, room, step) = route("/api/rooms/r/transports/t/produce").unwrap();
        let asked = Step::Ask(Action::Produce, Some(("transportId", "t")));
        assert_eq!((method, room, step), (Method::POST, "r", asked));
        assert_eq!(route("/api/calls/r").unwrap().2, Step::Record);
        for path in [
            "/api/calls",
            "/api/calls/r/participants/x",
            "/api/rooms/r",
            "/api/rooms/r/",
            "/api/rooms/r/transports/t/close",
            "/api/rooms/r/transports/t/connect/again",
            "/api/goodbye",
        ] {
            assert_eq!(route(path), None, "{path}");
        }
    }
}
