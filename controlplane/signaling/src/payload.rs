//! What each event's payload may hold. Read by the handlers, and only here: after `parse`, ids
//! are ids, sizes are limited and shapes are the API's. Unknown fields are ignored, because the
//! dialects send more than we need (`roomId` in every event, for instance).

use ironcast_api::{AppData, DtlsParameters, Id, MediaKind, RtpCapabilities, RtpParameters};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::failure::Failure;

/// Longest display name, in characters.
pub const NAME_CHARACTERS_MAX: usize = 64;

/// Reads a payload; nothing at all counts as `{}`.
pub fn parse<T: DeserializeOwned>(payload: Value) -> Result<T, Failure> {
    let payload = match payload {
        Value::Null => Value::Object(serde_json::Map::new()),
        Value::Object(_) => payload,
        other => {
            return Err(Failure::invalid(format!(
                "the payload is an object, not {}",
                kind(&other)
            )));
        }
    };
    serde_json::from_value(payload).map_err(|error| Failure::invalid(error.to_string()))
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// `createRoom`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateRoom {
    /// Made up by us if missing.
    pub room_id: Option<Id>,
}

/// `joinRoom`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRoom {
    /// Made on the fly if it is not there.
    pub room_id: Id,
    /// What others read.
    #[serde(default, deserialize_with = "display_name")]
    pub name: Option<String>,
    /// Made up by us if missing.
    pub participant_id: Option<Id>,
    /// Given out at the last join: brings back the same participant with his media.
    pub resume_token: Option<String>,
}

/// `createTransport` in all its names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateTransport {
    /// Only where the event's name does not say it.
    pub direction: Option<DirectionName>,
    /// Default of the consumers made on it.
    pub rtp_capabilities: Option<RtpCapabilities>,
}

/// The two directions as the dialects write them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectionName {
    /// From the browser to us.
    #[serde(alias = "producer")]
    Send,
    /// From us to the browser.
    #[serde(alias = "receive", alias = "consumer")]
    Recv,
}

/// `connectTransport` in all its names.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectTransport {
    /// May be missing where the event's name says which one.
    pub transport_id: Option<Id>,
    /// The browser's fingerprints.
    pub dtls_parameters: DtlsParameters,
}

/// `restartIce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TransportOnly {
    /// Own transport.
    pub transport_id: Id,
}

/// `produce`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Produce {
    /// The own sending transport if missing.
    pub transport_id: Option<Id>,
    /// Audio or video.
    pub kind: MediaKind,
    /// As mediasoup-client makes them.
    pub rtp_parameters: RtpParameters,
    /// Born paused.
    #[serde(default)]
    pub paused: bool,
    /// Told to the others.
    #[serde(default)]
    pub app_data: AppData,
}

/// `pauseProducer`, `resumeProducer`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProducerOnly {
    /// Own producer.
    pub producer_id: Id,
}

/// `stopProducing`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopProducing {
    /// All own ones if missing.
    pub producer_ids: Option<Vec<Id>>,
}

/// `consume`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Consume {
    /// The own receiving transport if missing.
    pub transport_id: Option<Id>,
    /// Somebody's producer in the same room.
    pub producer_id: Id,
    /// Those of the transport if missing.
    pub rtp_capabilities: Option<RtpCapabilities>,
}

/// `resumeConsumer`, `pauseConsumer`, `requestKeyFrame`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerOnly {
    /// Own consumer.
    pub consumer_id: Id,
}

/// `setPreferredLayers`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PreferredLayers {
    /// Own consumer.
    pub consumer_id: Id,
    /// Counted from 0, the smallest.
    pub spatial_layer: u8,
    /// Counted from 0; the highest if missing.
    pub temporal_layer: Option<u8>,
}

/// `POST /api/goodbye`: what a page says on its way out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Goodbye {
    /// The room.
    pub room_id: Id,
    /// Proves who says it.
    pub resume_token: String,
}

/// A name is text that fits on a tile: no control characters, blanks at the ends cut off.
fn display_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let text = text.trim();
    if text.chars().count() > NAME_CHARACTERS_MAX {
        return Err(serde::de::Error::custom(format!(
            "a name has at most {NAME_CHARACTERS_MAX} characters"
        )));
    }
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    Ok((!clean.is_empty()).then_some(clean))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{JoinRoom, parse};

    #[test]
    fn names_are_cleaned_and_limited() {
        let join: JoinRoom = parse(json!({"roomId": "r", "name": "  Ada\u{7} L.  "})).unwrap();
        assert_eq!(join.name.as_deref(), Some("Ada L."));
        let blank: JoinRoom = parse(json!({"roomId": "r", "name": "   "})).unwrap();
        assert_eq!(blank.name, None);
        let long = parse::<JoinRoom>(json!({"roomId": "r", "name": "x".repeat(65)}));
        assert_eq!(long.unwrap_err().code, "invalid_request");
    }

    #[test]
    fn a_payload_is_an_object_with_valid_ids() {
        for wrong in [json!("r"), json!([1]), json!({}), json!({"roomId": "a b"}), json!(7)] {
            assert_eq!(parse::<JoinRoom>(wrong).unwrap_err().code, "invalid_request");
        }
    }
}
