//! The OpenAPI document, generated from the table of calls and the API's types. Served at
//! `/openapi.json`; made once. `shapes` says what each call takes and gives, `errors` what can go
//! wrong, `words` what people read, `examples.json` what really went over the wire once.

mod errors;
mod shapes;
mod tidy;
mod words;

use std::sync::{LazyLock, OnceLock};

use ironcast_api as api;
use salvo::oapi::{Components, ToSchema as _};
use serde_json::{Map, Value, json};

use crate::{
    auth::Scope,
    routes::{Op, ROUTES, Route},
};
use errors::Responses;
use shapes::{Good, Shape};

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(make)
}

/// Names of the security schemes.
const BEARER: &str = "bearer";
const CERTIFICATE: &str = "certificate";

/// Requests and answers as they were, by the operation's id.
static EXAMPLES: LazyLock<Map<String, Value>> =
    LazyLock::new(|| match serde_json::from_str(include_str!("openapi/examples.json")) {
        Ok(Value::Object(examples)) => examples,
        other => {
            tracing::error!(?other, "the examples cannot be read");
            Map::new()
        }
    });

/// The rows that are described: those that do something.
fn described() -> impl Iterator<Item = &'static Route> {
    ROUTES.iter().filter(|route| route.op != Op::Unsupported)
}

fn make() -> Value {
    let mut components = Components::new();
    let mut responses = Responses::default();
    let mut paths = Map::new();
    for route in described() {
        let path = path_of(route);
        let item = paths.entry(path).or_insert_with(|| json!({}));
        item[route.method.to_lowercase()] = operation(route, &mut components, &mut responses);
    }
    let events = shapes::events(&mut components);
    api::Problem::to_schema(&mut components);
    let mut components = json!(components);
    components["schemas"][shapes::EVENTS] = events;
    components["responses"] = responses.into_json();
    components["headers"] = words::headers();
    components["securitySchemes"] = json!({
        BEARER: { "type": "http", "scheme": "bearer", "description": words::BEARER },
        CERTIFICATE: { "type": "mutualTLS", "description": words::CERTIFICATE },
    });
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Ironcast control API",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Rooms, transports, producers and consumers of an Ironcast media server.",
            "description": words::ABOUT,
            "license": { "name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT" },
        },
        "servers": [{ "url": "/", "description": "This server" }],
        "tags": words::tags(),
        "paths": paths,
        "webhooks": { "events": { "post": shapes::webhook() } },
        "components": components,
    });
    tidy::tidy(&mut document);
    document
}

fn operation(route: &Route, components: &mut Components, responses: &mut Responses) -> Value {
    let id = operation_id(route.op);
    let example = |part: &str| EXAMPLES.get(&id).and_then(|example| example.get(part));
    // Either is enough, or both are needed: that is configured. The names are of the scope.
    let security = [BEARER, CERTIFICATE].map(|scheme| json!({ scheme: [scope(route)] }));
    let mut operation = json!({
        "operationId": id,
        "summary": route.summary,
        "description": words::description(route),
        "tags": [words::tag(route)],
        "responses": good(route, components, example("answer")),
        "security": security,
    });
    let parameters = parameters(route, components);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = shapes::body_of(route.op) {
        let mut content = json!({ "schema": (body.schema)(components) });
        if let Some(example) = example("request") {
            content["example"] = example.clone();
        }
        // An empty body is read as an object without fields.
        operation["requestBody"] = json!({
            "required": body.is_needed,
            "content": { "application/json": content },
        });
    }
    for (status, response) in responses.of(route) {
        operation["responses"][status] = response;
    }
    operation
}

/// As in the document, where the ids in a path have names.
fn path_of(route: &Route) -> String {
    let path = route.path.replacen("{}", "{id}", 1).replacen("{}", "{producerId}", 1);
    format!("/v1{path}")
}

fn scope(route: &Route) -> &'static str {
    Scope::as_str(route.scope())
}

fn parameters(route: &Route, components: &mut Components) -> Vec<Value> {
    let mut parameters = Vec::new();
    if route.path.contains("{}") {
        parameters.push(json!({
            "name": "id",
            "in": "path",
            "required": true,
            "description": words::id_of(route),
            "schema": api::Id::to_schema(components),
        }));
    }
    if route.path.matches("{}").count() > 1 {
        parameters.push(json!({
            "name": "producerId",
            "in": "path",
            "required": true,
            "description": "The producer's id.",
            "schema": api::Id::to_schema(components),
        }));
    }
    for field in shapes::query_of(route.op) {
        parameters.push(json!({
            "name": field.name,
            "in": "query",
            "required": field.is_needed,
            "description": field.description,
            "schema": (field.schema)(components),
        }));
    }
    if route.op == Op::Events {
        parameters.push(json!({
            "name": "Last-Event-ID",
            "in": "header",
            "required": false,
            "description": words::LAST_EVENT_ID,
            "schema": api::EventSeq::to_schema(components),
        }));
    }
    parameters
}

/// The answers that are no problems, by status.
fn good(route: &Route, components: &mut Components, example: Option<&Value>) -> Value {
    let headers = json!({ "Ironcast-Seq": { "$ref": "#/components/headers/Ironcast-Seq" } });
    let json_content = |shape: &Shape, components: &mut Components| {
        let mut content = json!({ "schema": (shape.schema)(components) });
        if let Some(example) = example {
            content["example"] = example.clone();
        }
        json!({ "application/json": content })
    };
    let answer = |description: &str, content: Value| {
        let mut answer = json!({ "description": description, "headers": headers });
        if !content.is_null() {
            answer["content"] = content;
        }
        answer
    };
    match shapes::answer_of(route.op) {
        Good::Json(shape) => {
            json!({ "200": answer(words::OK, json_content(&shape, components)) })
        }
        Good::Made(shape) => {
            let content = json_content(&shape, components);
            json!({
                "201": answer(words::MADE, content.clone()),
                "200": answer(words::WAS_THERE, content),
            })
        }
        Good::Nothing => json!({ "204": answer(words::DONE, Value::Null) }),
        Good::Object => {
            let content = json!({ "application/json": { "schema": { "type": "object" } } });
            json!({ "200": answer(words::OK, content) })
        }
        Good::Bytes(media_type) => {
            // OpenAPI 3.1: bytes have no schema.
            json!({ "200": answer(words::OK, json!({ media_type: {} })) })
        }
        Good::Text(media_type, example) => {
            let content = json!({ "schema": { "type": "string" }, "example": example });
            json!({ "200": answer(words::OK, json!({ media_type: content })) })
        }
    }
}

/// `create_router` from `CreateRouter`.
fn operation_id(op: Op) -> String {
    let mut id = String::new();
    for letter in format!("{op:?}").chars() {
        if letter.is_ascii_uppercase() && !id.is_empty() {
            id.push('_');
        }
        id.push(letter.to_ascii_lowercase());
    }
    id
}

#[cfg(test)]
mod tests;
