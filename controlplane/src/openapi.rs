//! The OpenAPI document, generated from the table of calls and the API's types. Served at
//! `/openapi.json`; made once.

use std::sync::OnceLock;

use ironcast_api as api;
use salvo::oapi::{
    Components, Content, OpenApi, Operation, Parameter, ParameterIn, PathItem, PathItemType, RefOr,
    RequestBody, Response, ToSchema,
    schema::Schema,
    security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme},
};
use serde_json::Value;

use crate::routes::{Op, ROUTES, Route};

/// The document.
pub fn document() -> &'static Value {
    static DOCUMENT: OnceLock<Value> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut components = Components::new();
        let mut document = OpenApi::new("Ironcast control API", env!("CARGO_PKG_VERSION"));
        for route in ROUTES.iter().filter(|route| route.op != Op::Unsupported) {
            let (path, operation) = operation(route, &mut components);
            let item = PathItem::new(item_type(route.method), operation);
            // One path has several methods: they are merged.
            let entry = document.paths.entry(path).or_default();
            let mut item = item;
            entry.append(&mut item);
        }
        let bearer = Http::new(HttpAuthScheme::Bearer).description(
            "A token of control.token_file, or a JSON Web Token (EdDSA, ES256, RS256) with sub, exp, \
             aud and scope, signed by a key of control.jwt_keys",
        );
        let bearer = RefOr::Type(SecurityScheme::Http(bearer));
        let certificate = "A client certificate of control.client_ca, not on control.client_crl";
        let certificate = SecurityScheme::MutualTls {
            description: Some(certificate.to_owned()),
            deprecated: None,
        };
        document.components = components
            .add_security_scheme(BEARER, bearer)
            .add_security_scheme(CERTIFICATE, RefOr::Type(certificate));
        serde_json::to_value(&document).unwrap_or_else(|error| {
            tracing::error!(%error, "the OpenAPI document cannot be written");
            Value::Null
        })
    })
}

fn item_type(method: &str) -> PathItemType {
    match method {
        "POST" => PathItemType::Post,
        "PATCH" => PathItemType::Patch,
        "DELETE" => PathItemType::Delete,
        "PUT" => PathItemType::Put,
        _ => PathItemType::Get,
    }
}

/// Names of the security schemes.
const BEARER: &str = "bearer";
const CERTIFICATE: &str = "certificate";

type SchemaOf = fn(&mut Components) -> RefOr<Schema>;

fn operation(route: &Route, components: &mut Components) -> (String, Operation) {
    let path = format!("/v1{}", route.path.replace("{}", "{id}"));
    let mut operation =
        Operation::new().summary(route.summary).operation_id(operation_id(route.op));
    if path.contains("{id}") {
        let id = api::Id::to_schema(components);
        let id = Parameter::new("id").location(ParameterIn::Path).required(true).schema(id);
        operation = operation.add_parameter(id);
    }
    for (name, schema) in query_of(route.op) {
        let schema = schema(components);
        let field =
            Parameter::new(*name).location(ParameterIn::Query).required(false).schema(schema);
        operation = operation.add_parameter(field);
    }
    if let Some(body) = body_of(route.op) {
        let body = Content::new(body(components));
        operation =
            operation.request_body(RequestBody::new().add_content("application/json", body));
    }
    let (status, media_type, answer) = answer_of(route.op);
    let mut response = Response::new(route.summary);
    if let Some(answer) = answer {
        response = response.add_content(media_type, Content::new(answer(components)));
    }
    operation.responses.insert(status, response);
    // Either is enough, or both are needed: that is configured. The names are of the scope.
    for scheme in [BEARER, CERTIFICATE] {
        let scopes = [route.scope().as_str()];
        operation = operation.add_security(SecurityRequirement::new(scheme, scopes));
    }
    let problem = Content::new(api::Problem::to_schema(components));
    let problem = Response::new("A problem document (RFC 9457)")
        .add_content(api::problem::PROBLEM_MEDIA_TYPE, problem);
    operation.responses.insert("default", problem);
    (path, operation)
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

fn query_of(op: Op) -> &'static [(&'static str, SchemaOf)] {
    match op {
        Op::ListRouters | Op::ListTransports | Op::ListProducers | Op::ListConsumers => &[
            ("after", api::Id::to_schema),
            ("limit", u32::to_schema),
            ("routerId", api::Id::to_schema),
        ],
        Op::Snapshot => &[
            ("routerId", api::Id::to_schema),
            ("after", api::Id::to_schema),
            ("limit", u32::to_schema),
        ],
        Op::Top => &[("count", u32::to_schema)],
        Op::Leave => &[("routerId", api::Id::to_schema)],
        Op::Audit => &[
            ("principal", String::to_schema),
            ("routerId", api::Id::to_schema),
            ("limit", u32::to_schema),
        ],
        Op::Events => &[
            ("after", api::EventSeq::to_schema),
            ("routerId", api::Id::to_schema),
            ("types", String::to_schema),
            ("children", u32::to_schema),
        ],
        _ => &[],
    }
}

fn body_of(op: Op) -> Option<SchemaOf> {
    Some(match op {
        Op::CreateRouter => api::CreateRouter::to_schema,
        Op::CanConsume => api::CanConsume::to_schema,
        Op::CreateTransport => api::CreateTransport::to_schema,
        Op::ConnectTransport => api::ConnectTransport::to_schema,
        Op::PatchTransport => api::PatchTransport::to_schema,
        Op::CreateProducer => api::CreateProducer::to_schema,
        Op::CreateConsumer => api::CreateConsumer::to_schema,
        Op::PatchConsumer => api::PatchConsumer::to_schema,
        Op::Batch => api::Batch::to_schema,
        Op::Drain => api::DrainRequest::to_schema,
        _ => return None,
    })
}

const JSON: &str = "application/json";

/// Status, media type, schema.
fn answer_of(op: Op) -> (&'static str, &'static str, Option<SchemaOf>) {
    let schema: SchemaOf = match op {
        Op::Health | Op::Ready => api::Health::to_schema,
        Op::Snapshot => api::Snapshot::to_schema,
        Op::Audit => api::AuditList::to_schema,
        Op::Reload => api::Reloaded::to_schema,
        Op::Top => api::Top::to_schema,
        Op::GetDrain | Op::Drain | Op::Undrain => api::DrainStatus::to_schema,
        Op::Workers => Vec::<api::WorkerInfo>::to_schema,
        Op::Worker => api::WorkerInfo::to_schema,
        Op::CreateRouter => return ("201", JSON, Some(api::RouterInfo::to_schema)),
        Op::ListRouters => api::RouterList::to_schema,
        Op::GetRouter => api::RouterDetails::to_schema,
        Op::CanConsume => api::CanConsumeAnswer::to_schema,
        Op::CreateTransport => return ("201", JSON, Some(api::TransportInfo::to_schema)),
        Op::ListTransports => api::TransportList::to_schema,
        Op::GetTransport | Op::PatchTransport => api::TransportInfo::to_schema,
        Op::ConnectTransport => api::ConnectAnswer::to_schema,
        Op::RestartIce => api::RestartIceAnswer::to_schema,
        Op::TransportStats => Vec::<api::WebRtcTransportStats>::to_schema,
        Op::Leave => api::LeaveAnswer::to_schema,
        Op::CreateProducer => return ("201", JSON, Some(api::ProducerInfo::to_schema)),
        Op::ListProducers => api::ProducerList::to_schema,
        Op::GetProducer | Op::PauseProducer | Op::ResumeProducer => api::ProducerInfo::to_schema,
        Op::ProducerStats | Op::ConsumerStats => Vec::<api::RtpStreamStats>::to_schema,
        Op::CreateConsumer => return ("201", JSON, Some(api::ConsumerInfo::to_schema)),
        Op::ListConsumers => api::ConsumerList::to_schema,
        Op::GetConsumer | Op::PatchConsumer | Op::PauseConsumer | Op::ResumeConsumer => {
            api::ConsumerInfo::to_schema
        }
        Op::Batch => api::BatchAnswers::to_schema,
        Op::Events => return ("200", "text/event-stream", Some(String::to_schema)),
        Op::Metrics => return ("200", "text/plain", Some(String::to_schema)),
        Op::DeleteRouter
        | Op::DeleteTransport
        | Op::DeleteProducer
        | Op::DeleteConsumer
        | Op::RequestKeyFrame => return ("204", JSON, None),
        Op::OpenApi | Op::TransportDump | Op::ProducerDump | Op::ConsumerDump | Op::Unsupported => {
            return ("200", JSON, None);
        }
    };
    ("200", JSON, Some(schema))
}
