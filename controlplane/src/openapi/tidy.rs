//! Makes of the schemas what people and generators read more easily: one object instead of a list
//! of two, and the largest value that a number's type holds.

use serde_json::{Map, Value, json};

/// In place, the whole document.
pub fn tidy(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(map) => {
            for (name, one) in map.iter_mut() {
                // What was on the wire stays as it was.
                if name != "example" && name != "examples" {
                    tidy(one);
                }
            }
            if let Some(Value::String(words)) = map.get_mut("description") {
                *words = readable(words);
            }
            join_description(map);
            join_null(map);
            bound(map);
        }
        _ => {}
    }
}

/// Without links within our code and line breaks within paragraphs.
fn readable(words: &str) -> String {
    let paragraphs = words.split("\n\n").map(|one| one.replace('\n', " "));
    paragraphs.collect::<Vec<_>>().join("\n\n").replace("[`", "`").replace("`]", "`")
}

/// `allOf: [schema, {description}]` is the schema with this description.
fn join_description(map: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = map.get("allOf") else { return };
    let [Value::Object(schema), Value::Object(words)] = parts.as_slice() else { return };
    let are_words_only = words.len() == 1 && words.contains_key("description");
    if map.len() != 1 || !are_words_only {
        return;
    }
    let mut joined = schema.clone();
    joined.extend(words.clone());
    *map = joined;
}

/// `oneOf: [null, {type: string}]` is `type: [string, null]`; what is a reference stays.
fn join_null(map: &mut Map<String, Value>) {
    let Some(Value::Array(parts)) = map.get("oneOf") else { return };
    let [null, Value::Object(schema)] = parts.as_slice() else { return };
    let Some(Value::String(kind)) = schema.get("type") else { return };
    if *null != json!({ "type": "null" }) || schema.contains_key("enum") {
        return;
    }
    let mut joined = schema.clone();
    joined.insert("type".to_owned(), json!([kind, "null"]));
    map.remove("oneOf");
    joined.append(map);
    *map = joined;
}

/// `format: uint8` says nothing to most readers.
fn bound(map: &mut Map<String, Value>) {
    let max = match map.get("format").and_then(Value::as_str) {
        Some("uint8") => u64::from(u8::MAX),
        Some("uint16") => u64::from(u16::MAX),
        Some("uint32") => u64::from(u32::MAX),
        Some("int32") => i32::MAX as u64,
        _ => return,
    };
    map.entry("maximum").or_insert_with(|| json!(max));
}
