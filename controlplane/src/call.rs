//! A call and its answer, apart from any HTTP version: what the routes see. Made by `doors` from a
//! request, and by the batch from its list.

use std::borrow::Cow;

use bytes::Bytes;
use ironcast_api::{EventSeq, Id, Problem, body};
use opentelemetry::trace::SpanContext;
use percent_encoding::percent_decode_str;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{auth::Principal, note::BodyHash};

/// A body: as it came, or already JSON (in a batch).
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes.
    Bytes(Bytes),
    /// A value.
    Value(Value),
}

/// One call.
#[derive(Debug, Clone)]
pub struct Call {
    /// `GET`, `POST`, ...
    pub method: String,
    /// Without `/v1` and without the query; begins with `/`.
    pub path: String,
    /// Without `?`.
    pub query: String,
    /// JSON, or nothing.
    pub body: Body,
    /// Who calls.
    pub caller: Principal,
    /// What it is a part of: see `telemetry`.
    pub parent: Option<SpanContext>,
}

/// An answer that is no problem.
#[derive(Debug, Clone)]
pub struct Answer {
    /// 200, 201, 204.
    pub status: u16,
    /// JSON, unless `media_type` says otherwise.
    pub body: Bytes,
    /// Of the body.
    pub media_type: &'static str,
    /// The last event that the answer includes.
    pub seq: EventSeq,
    /// What was made or closed by the call, for the audit.
    pub about: Option<About>,
}

/// Something that was made or closed.
#[derive(Debug, Clone, Default)]
pub struct About {
    pub id: Option<Id>,
    pub router_id: Option<Id>,
}

/// JSON.
pub const JSON: &str = "application/json";

/// Room for most answers, so that they are written without growing.
const ANSWER_BYTES: usize = 2_048;

impl Answer {
    /// JSON.
    pub fn json(status: u16, value: &impl Serialize, seq: EventSeq) -> Result<Self, Problem> {
        let mut body = Vec::with_capacity(ANSWER_BYTES);
        serde_json::to_writer(&mut body, value).map_err(|error| {
            tracing::error!(%error, "an answer cannot be written");
            internal("the answer cannot be written")
        })?;
        Ok(Self { status, body: body.into(), media_type: JSON, seq, about: None })
    }

    /// 204.
    #[must_use]
    pub fn empty(seq: EventSeq) -> Self {
        Self { status: 204, body: Bytes::new(), media_type: JSON, seq, about: None }
    }

    /// This was made or closed, in this router.
    #[must_use]
    pub fn about(self, id: &Id, router_id: &Id) -> Self {
        let about = About { id: Some(id.clone()), router_id: Some(router_id.clone()) };
        Self { about: Some(about), ..self }
    }

    /// 201 with what was made, or 200 with what was there already.
    pub fn made(
        is_new: bool,
        value: &impl Serialize,
        id: &Id,
        router_id: &Id,
        seq: EventSeq,
    ) -> Result<Self, Problem> {
        if is_new {
            Ok(Self::json(201, value, seq)?.about(id, router_id))
        } else {
            Self::json(200, value, seq)
        }
    }

    /// 204 for what is closed: in this router, or it was not there.
    #[must_use]
    pub fn closed(id: &Id, router_id: Option<&Id>, seq: EventSeq) -> Self {
        let empty = Self::empty(seq);
        match router_id {
            Some(router_id) => empty.about(id, router_id),
            None => empty,
        }
    }
}

/// A fault of ours.
#[must_use]
pub fn internal(detail: &str) -> Problem {
    Problem::new(ironcast_api::ErrorCode::Internal, detail)
}

impl Call {
    /// Splits a path and its query, and takes `/v1` away.
    #[must_use]
    pub fn new(method: &str, target: &str, body: Body, caller: Principal) -> Self {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = match path.strip_prefix("/v1") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => rest,
            _ => path,
        };
        let (path, query) = (path.to_owned(), query.to_owned());
        Self { method: method.to_owned(), path, query, body, caller, parent: None }
    }

    /// The body as one of the API's types.
    pub fn body<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        match &self.body {
            Body::Bytes(bytes) => body::parse_body(bytes),
            Body::Value(value) => body::parse_value(value),
        }
    }

    /// The same with the hash of the body.
    pub fn hashed_body<T: DeserializeOwned>(&self) -> Result<(T, BodyHash), Problem> {
        let parsed = self.body()?;
        let hash = match &self.body {
            Body::Bytes(bytes) => {
                BodyHash::of(&serde_json::from_slice(bytes).unwrap_or(Value::Null))
            }
            Body::Value(value) => BodyHash::of(value),
        };
        Ok((parsed, hash))
    }

    /// Refuses a body where none is expected (an empty object is nothing, too).
    pub fn no_body(&self) -> Result<(), Problem> {
        #[derive(serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Nothing {}
        self.body::<Nothing>().map(drop)
    }

    /// The query's fields, percent-decoded; those that the call does not know are refused.
    pub fn query(&self, known: &[&str]) -> Result<Query, Problem> {
        let fields = form_urlencoded::parse(self.query.as_bytes()).into_owned();
        let fields: Vec<(String, String)> = fields.collect();
        if let Some((name, _)) = fields.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            let detail = format!("unknown query field; known here: {}", known.join(", "));
            return Err(Problem::invalid(format!("?{name}"), detail));
        }
        Ok(Query(fields))
    }
}

/// A query.
#[derive(Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    /// A field that is there. An empty one is not the same as none: who filters by what he does not
    /// have must not be shown everything.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let field = self.0.iter().find(|(field, _)| field == name);
        field.map(|(_, value)| value.as_str())
    }

    /// An id.
    pub fn id(&self, name: &str) -> Result<Option<Id>, Problem> {
        self.get(name).map(|text| id(text, &format!("?{name}"))).transpose()
    }

    /// The last id of the page before; an empty one is before all.
    pub fn after(&self) -> Result<Option<Id>, Problem> {
        if self.get("after") == Some("") { Ok(None) } else { self.id("after") }
    }

    /// `1` or `0`.
    pub fn flag(&self, name: &str) -> Result<bool, Problem> {
        match self.get(name) {
            None | Some("0" | "false") => Ok(false),
            Some("1" | "true") => Ok(true),
            Some(_) => Err(Problem::invalid(format!("?{name}"), "1 or 0 is needed")),
        }
    }

    /// A number.
    pub fn number(&self, name: &str) -> Result<Option<u32>, Problem> {
        let parse = |text: &str| {
            // A sign would be taken, too.
            let is_digits = text.bytes().all(|byte| byte.is_ascii_digit());
            let number = text.parse().ok().filter(|_| is_digits);
            number.ok_or_else(|| Problem::invalid(format!("?{name}"), "a whole number is needed"))
        };
        self.get(name).map(parse).transpose()
    }
}

/// An id of the path or query.
pub fn id(text: &str, pointer: &str) -> Result<Id, Problem> {
    Id::new(text).map_err(|error| Problem::invalid(pointer, error.to_string()))
}

/// Percent-decoding (RFC 3986 section 2.1).
pub fn decode(text: &str) -> Result<Cow<'_, str>, Problem> {
    let wrong = |_| Problem::invalid("", "the address is not well percent-encoded");
    percent_decode_str(text).decode_utf8().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(target: &str) -> Call {
        Call::new("GET", target, Body::Value(Value::Null), Principal::local(None))
    }

    #[test]
    fn both_forms_of_a_path_are_one() {
        for (target, path) in [("/v1/routers", "/routers"), ("/routers?x=1", "/routers")] {
            assert_eq!(call(target).path, path);
        }
        assert_eq!(call("/v1").path, "");
        assert_eq!(call("/v11/routers").path, "/v11/routers");
    }

    #[test]
    fn queries_are_decoded_and_checked() {
        let call = call("/routers?after=a%3Ab&limit=7&&x");
        let query = call.query(&["after", "limit", "x"]).unwrap();
        assert_eq!(query.id("after").unwrap().unwrap(), "a:b");
        assert_eq!((query.number("limit").unwrap(), query.get("x")), (Some(7), Some("")));
        for empty in
            [query.id("x").map(drop), query.number("x").map(drop), query.flag("x").map(drop)]
        {
            assert_eq!(empty.unwrap_err().pointer.as_deref(), Some("?x"));
        }
        assert_eq!(call.query(&["after"]).unwrap_err().pointer.as_deref(), Some("?limit"));
        // What is not well encoded is no id, and says so.
        for bad in ["%", "%4", "%zz", "%+1", "%ff"] {
            assert!(decode(bad).and_then(|text| id(&text, "")).is_err(), "{bad}");
            let call = Call::new(
                "GET",
                &format!("/routers?after=a{bad}"),
                Body::Value(Value::Null),
                Principal::local(None),
            );
            let query = call.query(&["after"]).unwrap();
            assert_eq!(query.id("after").unwrap_err().pointer.as_deref(), Some("?after"), "{bad}");
        }
    }
}
