//! The document says what is: examples are read into the types that they are examples of, no
//! reference leads nowhere, each call has its words and its errors.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;
use crate::routes::ROUTES;

/// What was on the wire is read into its type and written again without a difference.
fn is_real(what: &str, shape: &Shape, example: Option<&Value>) {
    let example = example.unwrap_or_else(|| panic!("{what} has no example"));
    let again = (shape.again)(example).unwrap_or_else(|error| panic!("{what}: {error}"));
    // Numbers may be written in two ways, and defaults may be left out of a request.
    assert!(contains(&again, example), "{what}: {example} is read as {again}");
}

fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => {
            part.iter().all(|(name, part)| whole.get(name).is_some_and(|one| contains(one, part)))
        }
        (Value::Array(whole), Value::Array(part)) => {
            whole.len() == part.len() && whole.iter().zip(part).all(|(a, b)| contains(a, b))
        }
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (whole, part) => whole == part,
    }
}

#[test]
fn examples_are_of_their_types() {
    let mut named = BTreeSet::new();
    for route in described() {
        let id = operation_id(route.op);
        let example = |part: &str| EXAMPLES.get(&id).and_then(|example| example.get(part));
        if let Some(body) = shapes::body_of(route.op) {
            is_real(&format!("the body of {id}"), &body, example("request"));
        }
        if let Good::Json(shape) | Good::Made(shape) = shapes::answer_of(route.op) {
            is_real(&format!("the answer of {id}"), &shape, example("answer"));
        }
        named.insert(id);
    }
    for id in EXAMPLES.keys() {
        assert!(named.contains(id), "there is no call {id}");
    }
}

fn all_references(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            out.extend(map.get("$ref").and_then(Value::as_str).map(str::to_owned));
            map.values().for_each(|one| all_references(one, out));
        }
        Value::Array(all) => all.iter().for_each(|one| all_references(one, out)),
        _ => {}
    }
}

#[test]
fn references_lead_somewhere_and_ids_are_unique() {
    let mut references = Vec::new();
    all_references(document(), &mut references);
    assert!(references.len() > 500, "{}", references.len());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("within the document");
        assert!(document().pointer(pointer).is_some(), "{reference}");
    }
    let ids: Vec<String> = described().map(|route| operation_id(route.op)).collect();
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
    assert!(ids.len() < ROUTES.len(), "what is not in this version is not described");
}

#[test]
fn every_call_says_its_errors_and_no_other_answer_is_open() {
    for route in described() {
        let path = path_of(route);
        let method = route.method.to_lowercase();
        let operation = &document()["paths"][&path][&method];
        let responses = operation["responses"].as_object().expect("responses");
        assert!(!responses.contains_key("default"), "{method} {path}");
        for status in ["401", "403", "429", "500"] {
            assert!(responses.contains_key(status), "{method} {path} {status}");
        }
        let words = operation["description"].as_str().unwrap_or_default();
        assert!(words.len() > 10, "{method} {path} has no description");
        assert!(operation["tags"][0].is_string(), "{method} {path}");
    }
    let codes = |path: &str, status: &str| {
        let reference = document().pointer(&format!("/paths/{path}/responses/{status}/$ref"));
        let pointer =
            reference.and_then(Value::as_str).expect("a reference").trim_start_matches('#');
        let pointer = format!("{pointer}/content/application~1problem+json/schema/allOf/1");
        document().pointer(&pointer).expect("a schema")["properties"]["code"]["enum"].clone()
    };
    let made = "~1v1~1routers/post";
    assert_eq!(codes(made, "409"), json!(["already_exists", "wrong_state"]));
    assert_eq!(codes(made, "503"), json!(["no_capacity", "draining", "dataplane_unavailable"]));
    assert_eq!(codes("~1v1~1events/get", "410"), json!(["events_lost"]));
}

#[test]
fn limits_are_those_of_the_server() {
    let of = |schema: &str, field: &str| {
        document()["components"]["schemas"][format!("ironcast_api.{schema}")]["properties"][field]
            .clone()
    };
    let deadline = of("resources.drain.DrainRequest", "deadlineS");
    assert_eq!(deadline["maximum"].as_f64(), Some(api::DRAIN_DEADLINE_S_MAX as f64));
    let calls = of("resources.host.Batch", "calls");
    assert_eq!(calls["maxItems"], api::BATCH_CALLS_MAX);
    let types = of("resources.traces.TraceTypes", "types");
    assert_eq!(types["maxItems"], api::TRACE_TYPES_MAX);
    let id = of("resources.routers.RouterInfo", "id");
    assert_eq!(id["maxLength"], api::id::ID_CHARACTERS_MAX);
    assert_eq!(
        of("resources.consumers.PatchConsumer", "priority")["maximum"].as_f64(),
        Some(255.0)
    );
}
