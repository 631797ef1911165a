//! Notes: what only the control plane knows about a resource, kept by the dataplane so that it
//! survives us. Written by the routes with every create, read by `attach`. MessagePack with names:
//! a later version may add fields, and an earlier one ignores them.

use ironcast_api::{
    AppData, ErrorCode, Id, PipedFrom, Problem, RtpCapabilities, RtpCodecCapability, RtpParameters,
};
use ironcast_protocol::command::MAX_NOTE_BYTES;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// Hash of a request's body: tells a repeated request from another one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BodyHash([u8; 16]);

impl BodyHash {
    /// Of JSON: the order of an object's fields and white space do not count.
    #[must_use]
    pub fn of(body: &Value) -> Self {
        let mut hasher = Sha256::new();
        hash_value(body, &mut hasher);
        let digest: [u8; 32] = hasher.finalize().into();
        let mut hash = [0; 16];
        hash.copy_from_slice(&digest[..16]);
        Self(hash)
    }
}

/// Writes JSON with sorted fields. Texts are written as JSON, so that no two values look alike.
fn hash_value(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(map) => {
            let mut fields: Vec<_> = map.iter().collect();
            fields.sort_by_key(|(name, _)| *name);
            hasher.update(b"{");
            for (name, value) in fields {
                write_json(name, hasher);
                hasher.update(b":");
                hash_value(value, hasher);
                hasher.update(b",");
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                hash_value(item, hasher);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        plain => write_json(plain, hasher),
    }
}

fn write_json(value: &(impl Serialize + ?Sized), hasher: &mut Sha256) {
    // Neither a text or a number nor the hasher refuses.
    let _ = serde_json::to_writer(hasher, value);
}

/// What every resource has.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Common {
    /// Milliseconds of the Unix epoch.
    pub created_at: u64,
    /// The caller's.
    pub app_data: AppData,
    /// Of the request that made it.
    pub hash: BodyHash,
}

/// On a router. Its capabilities follow from the codecs.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RouterNote {
    /// See [`Common`].
    pub common: Common,
    /// As given, or the default set.
    pub media_codecs: Option<Vec<RtpCodecCapability>>,
    /// The name of the principal that made it.
    pub owner: Option<String>,
}

/// On a transport.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TransportNote {
    /// See [`Common`].
    pub common: Common,
    /// Whose it is.
    pub participant_id: Option<Id>,
    /// Default of its consumers, cut down to what the router has.
    pub rtp_capabilities: Option<RtpCapabilities>,
    /// Of a pipe: what is lost on the way is sent again.
    pub enable_rtx: bool,
    /// Of a pipe that `POST /pipes` has made: where it leads.
    pub far: Option<Far>,
}

/// The other end of a pipe transport.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Far {
    /// The other host's control API.
    pub url: String,
    /// Router there.
    pub router_id: Id,
    /// Transport there.
    pub transport_id: Id,
}

/// On a transport's connect.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConnectNote {
    /// Of the request.
    pub hash: BodyHash,
}

/// On a producer. What its consumers are made from follows from it and the router.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProducerNote {
    /// See [`Common`].
    pub common: Common,
    /// In normal form.
    pub rtp_parameters: Option<RtpParameters>,
    /// The routers that it has come through.
    pub piped_from: Vec<PipedFrom>,
}

/// On a consumer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerNote {
    /// See [`Common`].
    pub common: Common,
    /// As answered.
    pub rtp_parameters: Option<RtpParameters>,
    /// Of a pipe that `POST /pipes` has made: the producer at its other end.
    pub far_producer_id: Option<Id>,
}

/// On an observer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ObserverNote {
    /// See [`Common`].
    pub common: Common,
}

/// Bytes for the dataplane; `too_large` if they do not fit.
pub fn write<T: Serialize>(note: &T) -> Result<Vec<u8>, Problem> {
    let too_large = |detail: String| Problem::new(ErrorCode::TooLarge, detail);
    let bytes = rmp_serde::to_vec_named(note).map_err(|error| too_large(error.to_string()))?;
    if bytes.len() > MAX_NOTE_BYTES {
        return Err(too_large(format!(
            "appData and RTP parameters take {} bytes together, {MAX_NOTE_BYTES} can be kept",
            bytes.len()
        )));
    }
    Ok(bytes)
}

/// `None` for what was not written by us (or cannot be read): the resource then has defaults.
#[must_use]
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    rmp_serde::from_slice(bytes).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::convert;

    #[test]
    fn the_hash_sees_values_and_not_their_writing() {
        let one: Value = serde_json::from_str(r#"{"a": 1, "b": {"c": [1, "2"]}}"#).unwrap();
        let same: Value = serde_json::from_str(r#"{"b":{"c":[1,"2"]},"a":1}"#).unwrap();
        assert_eq!(BodyHash::of(&one), BodyHash::of(&same));
        let others = [
            json!({"a": 2, "b": {"c": [1, "2"]}}),
            json!({"a": 1, "b": {"c": [1, 2]}}),
            json!({"a": 1, "b": {"c": ["1,\"2\""]}}),
            json!({"a": 1}),
            json!(null),
        ];
        for other in others {
            assert_ne!(BodyHash::of(&one), BodyHash::of(&other), "{other}");
        }
    }

    #[test]
    fn parameters_survive_and_are_kept_only_where_the_dataplane_cannot_say_them() {
        let parameters = json!({
            "mid": "3",
            "codecs": [
                { "mimeType": "video/H264", "payloadType": 96, "clockRate": 90_000,
                  "parameters": { "packetization-mode": 1, "profile-level-id": "42e01f" },
                  "rtcpFeedback": [{ "type": "nack", "parameter": "" },
                                   { "type": "nack", "parameter": "pli" }] },
                { "mimeType": "video/rtx", "payloadType": 97, "clockRate": 90_000,
                  "parameters": { "apt": 96 }, "rtcpFeedback": [] },
            ],
            "headerExtensions": [{ "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 1,
                                   "encrypt": false, "parameters": {} }],
            "encodings": [{ "ssrc": 7, "rtx": { "ssrc": 8 }, "scalabilityMode": "L3T3" }],
            "rtcp": { "cname": "ada", "reducedSize": true, "mux": true },
        });
        let mut parameters: RtpParameters = serde_json::from_value(parameters).unwrap();
        let kept = |parameters: &RtpParameters| -> RtpParameters {
            let restored = || convert::api_rtp_parameters(&convert::rtp_parameters(parameters));
            read(&write(&convert::lost(parameters)).unwrap()).unwrap_or_else(restored)
        };
        assert_eq!(read::<RtpParameters>(&write(&parameters).unwrap()).unwrap(), parameters);
        assert_eq!(kept(&parameters), parameters);
        // What browsers send is said once.
        parameters.msid = Some("stream track".to_owned());
        assert!(convert::lost(&parameters).is_none());
        assert_eq!(kept(&parameters), parameters);
        let long = "0123456789".into();
        parameters.codecs[0].parameters.insert("a-number-in-quotes".to_owned(), long);
        assert!(convert::lost(&parameters).is_some());
        assert_eq!(kept(&parameters), parameters);
    }

    #[test]
    fn notes_survive_and_tolerate_other_versions() {
        let note = RouterNote {
            common: Common {
                created_at: 7,
                app_data: serde_json::from_value(json!({"a": [1, 2.5, null]})).unwrap(),
                hash: BodyHash::of(&json!(1)),
            },
            media_codecs: Some(ironcast_negotiate::default_media_codecs()),
            owner: Some("token:one".to_owned()),
        };
        assert_eq!(read::<RouterNote>(&write(&note).unwrap()), Some(note.clone()));
        #[derive(Serialize)]
        struct Newer {
            common: Common,
            tomorrow: u8,
        }
        let newer = write(&Newer { common: note.common.clone(), tomorrow: 1 }).unwrap();
        assert_eq!(read::<RouterNote>(&newer).unwrap().common, note.common);
        assert_eq!(read::<RouterNote>(b"made by somebody else"), None);
        assert_eq!(write(&vec![0u64; 20_000]).unwrap_err().code, ErrorCode::TooLarge);
    }
}
