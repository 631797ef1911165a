//! Reading a request's body: JSON to one of this crate's types, with an error that names the field.
//! The server calls it for every body and for every call of a batch. What is right is read once, and
//! only what is wrong a second time, to find the field: keeping its path costs as much as reading.

use std::sync::LazyLock;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::problem::Problem;

/// Reads JSON. An empty body is read as `{}`, because most calls have optional fields only.
pub fn parse_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let body = match body.trim_ascii() {
        [] => b"{}",
        body => body,
    };
    check_is_object(body.starts_with(b"{"))?;
    if let Ok(value) = serde_json::from_slice(body) {
        return Ok(value);
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(problem_at)?;
    deserializer.end().map_err(|error| Problem::invalid("", error.to_string()))?;
    Ok(value)
}

/// Reads a value that is JSON already, such as the body of a call in a batch.
pub fn parse_value<T: DeserializeOwned>(value: &Value) -> Result<T, Problem> {
    static EMPTY: LazyLock<Value> = LazyLock::new(|| Value::Object(Map::new()));
    let value = if value.is_null() { &EMPTY } else { value };
    check_is_object(value.is_object())?;
    T::deserialize(value).or_else(|_| serde_path_to_error::deserialize(value).map_err(problem_at))
}

/// `serde` would also read the fields of a struct from an array, by position.
fn check_is_object(is_object: bool) -> Result<(), Problem> {
    if is_object { Ok(()) } else { Err(Problem::invalid("", "the body is a JSON object")) }
}

fn problem_at(error: serde_path_to_error::Error<serde_json::Error>) -> Problem {
    let pointer = json_pointer(error.path());
    Problem::invalid(pointer, error.into_inner().to_string())
}

/// RFC 6901.
fn json_pointer(path: &serde_path_to_error::Path) -> String {
    let mut pointer = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } => {
                pointer.push('/');
                pointer.push_str(&key.replace('~', "~0").replace('/', "~1"));
            }
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    pointer
}
