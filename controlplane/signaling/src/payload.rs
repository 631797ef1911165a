//! What each event's payload may hold. Read by the handlers, and only here: after `parse`, ids
//! are ids, sizes are limited and shapes are the API's. Unknown fields are ignored, because the
//! dialects send more than we need (`roomId` in every event, for instance).

use std::collections::BTreeMap;

use ironcast_api::{AppData, DtlsParameters, Id, MediaKind, RtpCapabilities, RtpParameters};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::broadcast::Kind;
use crate::broadcast::command::Format;
use crate::broadcast::layout::LayoutName;
use crate::failure::Failure;

/// Longest display name, in characters.
pub const NAME_CHARACTERS_MAX: usize = 64;

/// Longest message, in bytes of UTF-8.
pub const CONTENT_BYTES_MAX: usize = 4 * 1024;

/// Messages of a page at most.
pub const MESSAGES_MAX: u32 = 100;

/// Messages of a page unless said otherwise.
const MESSAGES_DEFAULT: u32 = 50;

/// What a shared store writes behind a room's id in the names of its keys (`store::redis`, `store::hub`).
const KEY_ENDS: [&str; 5] = [":router", ":nodes", ":presence", ":branches", ":broadcasts"];

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
    #[serde(default, deserialize_with = "new_room_id")]
    pub room_id: Option<Id>,
    /// Where who asks is: its media goes to a host there, if there is one.
    pub region: Option<String>,
}

/// `joinRoom`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JoinRoom {
    /// Made on the fly if it is not there.
    #[serde(deserialize_with = "room_id")]
    pub room_id: Id,
    /// What others read.
    #[serde(default, deserialize_with = "display_name")]
    pub name: Option<String>,
    /// Made up by us if missing.
    pub participant_id: Option<Id>,
    /// Given out at the last join: brings back the same participant with his media.
    pub resume_token: Option<String>,
    /// Whether he can talk directly to another browser.
    #[serde(default = "yes")]
    pub p2p: bool,
    /// Where he is: a new room's media goes to a host there, if there is one.
    pub region: Option<String>,
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

/// `call:mode-switched`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ModeSwitched {
    /// Which way.
    pub mode: ModeName,
    /// Of which change, as `call:mode-switch` said; the one that runs if missing.
    pub switch_id: Option<u64>,
    /// Whether he has it.
    #[serde(default = "yes")]
    pub success: bool,
    /// Why not, for people.
    #[serde(default)]
    pub error: String,
}

/// The two ways of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeName {
    /// From browser to browser.
    P2p,
    /// Through the media server.
    Sfu,
}

/// `webrtc:offer`, `webrtc:answer`, `webrtc:ice-candidate`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relayed {
    /// May be missing where two are in the room.
    pub to: Option<Id>,
    /// Of the first event.
    pub offer: Option<Description>,
    /// Of the second.
    pub answer: Option<Description>,
    /// Of the third; null says that there are no more.
    #[serde(default, deserialize_with = "given")]
    pub candidate: Option<Option<Candidate>>,
}

/// A session description, as browsers have it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Description {
    /// `offer`, `answer`, ...
    #[serde(rename = "type")]
    pub kind: DescriptionKind,
    /// Read by the other browser only.
    #[serde(default)]
    pub sdp: String,
    /// Which media section carries what (`{"0": "mic"}`): the other page has no other way to know.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: BTreeMap<String, String>,
}

/// Kinds of descriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DescriptionKind {
    /// I would like.
    Offer,
    /// Yes, so.
    Answer,
    /// Yes, so, for now.
    Pranswer,
    /// Never mind.
    Rollback,
}

/// An ICE candidate, as browsers have it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    /// Read by the other browser only.
    pub candidate: String,
    /// Which media section.
    pub sdp_mid: Option<String>,
    /// The same by number.
    pub sdp_m_line_index: Option<u16>,
    /// Of which credentials.
    pub username_fragment: Option<String>,
}

/// `chat_message`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// What is written.
    #[serde(deserialize_with = "written")]
    pub content: String,
    /// The sender's own id for it, such as a UUID: sent again, it appears once.
    pub client_id: Option<Id>,
}

/// `listMessages`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMessages {
    /// Only what was written before this message.
    #[serde(default, deserialize_with = "message_number")]
    pub before: Option<u64>,
    /// How many, the newest of them.
    #[serde(default = "page", deserialize_with = "page_size")]
    pub limit: u32,
}

/// `muteParticipant`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MuteParticipant {
    /// Whom.
    pub participant_id: Id,
    /// Only this kind; both if missing.
    pub kind: Option<MediaKind>,
    /// Only these; all that he sends if missing.
    pub producer_ids: Option<Vec<Id>>,
}

/// `removeParticipant`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoveParticipant {
    /// Whom.
    pub participant_id: Id,
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

fn yes() -> bool {
    true
}

/// A room's id. Not one by which a room would have what is kept of another one for its own.
fn room_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
    let id = Id::deserialize(deserializer)?;
    match KEY_ENDS.iter().find(|end| id.ends_with(*end)) {
        Some(end) => Err(serde::de::Error::custom(format!("a room's id does not end in {end}"))),
        None => Ok(id),
    }
}

fn new_room_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Id>, D::Error> {
    #[derive(Deserialize)]
    struct Said(#[serde(deserialize_with = "room_id")] Id);

    Ok(Option::<Said>::deserialize(deserializer)?.map(|said| said.0))
}

/// Null is something that was given.
fn given<'de, T, D>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Option::<T>::deserialize(deserializer).map(Some)
}

fn page() -> u32 {
    MESSAGES_DEFAULT
}

fn page_size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match Option::<u32>::deserialize(deserializer)? {
        None => Ok(page()),
        Some(limit) if (1..=MESSAGES_MAX).contains(&limit) => Ok(limit),
        Some(_) => {
            Err(serde::de::Error::custom(format!("a page has 1 to {MESSAGES_MAX} messages")))
        }
    }
}

/// Ids of messages are numbers in quotes.
fn message_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let number = text.parse().map_err(|_| serde::de::Error::custom("this is no message's id"))?;
    Ok(Some(number))
}

/// `startBroadcast`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StartBroadcast {
    /// Watched or recorded.
    #[serde(default = "watched")]
    pub kind: Kind,
    /// What is shown.
    #[serde(default)]
    pub layout: LayoutName,
    /// What a recording is written as.
    #[serde(default)]
    pub format: Format,
}

/// `stopBroadcast`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StopBroadcast {
    /// Which of them.
    #[serde(default = "watched")]
    pub kind: Kind,
}

fn watched() -> Kind {
    Kind::Hls
}

/// Text of several lines, without what nobody sees; blanks at the ends cut off.
fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > CONTENT_BYTES_MAX {
        return Err(serde::de::Error::custom(format!(
            "a message has at most {CONTENT_BYTES_MAX} bytes"
        )));
    }
    let seen = |sign: &char| !sign.is_control() || matches!(sign, '\n' | '\t');
    let clean: String = text.chars().filter(seen).collect();
    let clean = clean.trim();
    if clean.is_empty() {
        return Err(serde::de::Error::custom("a message says something"));
    }
    Ok(clean.to_owned())
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

    use super::{
        CONTENT_BYTES_MAX, ChatMessage, CreateRoom, JoinRoom, KEY_ENDS, ListMessages, parse,
    };

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
    fn a_message_says_something_in_at_most_so_many_bytes() {
        let content = |text: &str| parse::<ChatMessage>(json!({ "content": text }));
        assert_eq!(content(" a\r\n\tb\0 ").unwrap().content, "a\n\tb");
        assert_eq!(content(&"x".repeat(CONTENT_BYTES_MAX)).unwrap().content.len(), 4096);
        for wrong in ["", " \n ", "\u{7}", &"x".repeat(CONTENT_BYTES_MAX + 1), &"ä".repeat(2049)] {
            assert_eq!(content(wrong).unwrap_err().code, "invalid_request");
        }
    }

    #[test]
    fn a_page_of_messages_has_a_limit() {
        let list = |payload| parse::<ListMessages>(payload);
        let page = list(json!({})).unwrap();
        assert_eq!((page.before, page.limit), (None, 50));
        assert_eq!(list(json!({ "before": "7", "limit": 100 })).unwrap().before, Some(7));
        for wrong in [json!({ "limit": 0 }), json!({ "limit": 101 }), json!({ "before": "x" })] {
            assert_eq!(list(wrong).unwrap_err().code, "invalid_request");
        }
    }

    #[test]
    fn no_room_has_the_keys_of_another() {
        for end in KEY_ENDS {
            let named = json!({ "roomId": format!("standup{end}") });
            for code in [
                parse::<JoinRoom>(named.clone()).unwrap_err().code,
                parse::<CreateRoom>(named).unwrap_err().code,
            ] {
                assert_eq!(code, "invalid_request", "{end}");
            }
        }
        for fine in ["presence", "team:42", "a:presence.b"] {
            let named = json!({ "roomId": fine });
            assert_eq!(*parse::<JoinRoom>(named.clone()).unwrap().room_id, *fine);
            assert_eq!(*parse::<CreateRoom>(named).unwrap().room_id.unwrap(), *fine);
        }
        assert!(parse::<CreateRoom>(json!({ "roomId": null })).unwrap().room_id.is_none());
    }

    #[test]
    fn a_payload_is_an_object_with_valid_ids() {
        for wrong in [json!("r"), json!([1]), json!({}), json!({"roomId": "a b"}), json!(7)] {
            assert_eq!(parse::<JoinRoom>(wrong).unwrap_err().code, "invalid_request");
        }
    }
}
