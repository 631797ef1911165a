//! The ORTC parameters that mediasoup-client would make in a browser: a [`Device`] is loaded with
//! the router's capabilities, then makes `rtpCapabilities` for receiving and `rtpParameters` for
//! sending, with payload types and extension ids of its own (those of Chromium), which a server
//! has to map. Pure functions on JSON.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Map, Value, json};

use crate::{
    handshake::Fingerprint,
    peer::{IceCredentials, Remote},
    receiver::ReceiveOptions,
    source::{AudioOptions, ExtensionIds, VideoCodec, VideoOptions},
};

const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const RID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
const REPAIRED_RID: &str = "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
const TRANSPORT_CC: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";

/// Extension ids as Chromium numbers them.
const LOCAL_IDS: [(&str, u8); 6] = [
    (AUDIO_LEVEL, 1),
    (ABS_SEND_TIME, 2),
    (TRANSPORT_CC, 3),
    (MID, 4),
    (RID, 10),
    (REPAIRED_RID, 11),
];

/// What is wrong with an answer of the server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrtcError {
    /// A field is missing or of another type.
    #[error("{0} is missing or wrong")]
    Field(&'static str),
    /// The router does not have the codec.
    #[error("the router does not have {0}")]
    Codec(String),
}

/// A client that knows the router's capabilities.
#[derive(Debug, Clone)]
pub struct Device {
    codecs: Vec<Value>,
    extensions: Vec<Value>,
}

impl Device {
    /// From `rtpCapabilities` of the router.
    pub fn load(capabilities: &Value) -> Result<Self, OrtcError> {
        let list = |name: &'static str| {
            capabilities[name].as_array().cloned().ok_or(OrtcError::Field(name))
        };
        Ok(Self { codecs: list("codecs")?, extensions: list("headerExtensions")? })
    }

    /// `rtpCapabilities` for consuming: what the router has and this client takes.
    #[must_use]
    pub fn rtp_capabilities(&self) -> Value {
        let media: Vec<&Value> =
            self.codecs.iter().filter(|codec| is_known(codec) && !is_rtx(codec)).collect();
        let repeats = self.codecs.iter().filter(|codec| {
            is_rtx(codec)
                && media.iter().any(|one| one["preferredPayloadType"] == codec["parameters"]["apt"])
        });
        let codecs: Vec<Value> =
            media.iter().map(|codec| (*codec).clone()).chain(repeats.cloned()).collect();
        let extensions: Vec<Value> =
            self.extensions.iter().filter(|one| one["direction"] != "recvonly").cloned().collect();
        json!({ "codecs": codecs, "headerExtensions": extensions })
    }

    /// `rtpParameters` of a camera; also sets the payload types and extension ids of `options`.
    pub fn video_parameters(&self, options: &mut VideoOptions) -> Result<Value, OrtcError> {
        let codec = self.find(options.codec.mime_type())?;
        let repeats = options.rtx_payload_type.is_some();
        let (payload_type, rtx_payload_type) = match options.codec {
            VideoCodec::Vp8 => (96, 97),
            VideoCodec::Vp9 => (98, 99),
            VideoCodec::H264 => (102, 103),
        };
        options.payload_type = payload_type;
        options.rtx_payload_type = repeats.then_some(rtx_payload_type);
        options.extensions = self.extension_ids("video");
        let mut codecs = vec![json!({
            "mimeType": codec["mimeType"],
            "payloadType": payload_type,
            "clockRate": 90_000,
            "parameters": codec["parameters"],
            "rtcpFeedback": codec["rtcpFeedback"],
        })];
        if repeats {
            codecs.push(json!({
                "mimeType": "video/rtx",
                "payloadType": rtx_payload_type,
                "clockRate": 90_000,
                "parameters": { "apt": payload_type },
                "rtcpFeedback": [],
            }));
        }
        Ok(json!({
            "mid": options.mid,
            "codecs": codecs,
            "headerExtensions": self.send_extensions("video"),
            "encodings": video_encodings(options),
            "rtcp": { "cname": options.cname, "reducedSize": true },
        }))
    }

    /// `rtpParameters` of a microphone; also sets payload type and extension ids of `options`.
    pub fn audio_parameters(&self, options: &mut AudioOptions) -> Result<Value, OrtcError> {
        let codec = self.find("audio/opus")?;
        options.payload_type = 111;
        options.extensions = self.extension_ids("audio");
        Ok(json!({
            "mid": options.mid,
            "codecs": [{
                "mimeType": "audio/opus",
                "payloadType": options.payload_type,
                "clockRate": 48_000,
                "channels": 2,
                "parameters": { "minptime": 10, "useinbandfec": 1, "usedtx": 1 },
                "rtcpFeedback": codec["rtcpFeedback"],
            }],
            "headerExtensions": self.send_extensions("audio"),
            "encodings": [{ "ssrc": options.ssrc, "dtx": false }],
            "rtcp": { "cname": options.cname, "reducedSize": true },
        }))
    }

    fn find(&self, mime_type: &str) -> Result<&Value, OrtcError> {
        self.codecs
            .iter()
            .find(|codec| {
                codec["mimeType"].as_str().is_some_and(|one| one.eq_ignore_ascii_case(mime_type))
            })
            .ok_or_else(|| OrtcError::Codec(mime_type.to_owned()))
    }

    /// Extensions that this client knows and the router receives.
    fn send_extensions(&self, kind: &str) -> Vec<Value> {
        LOCAL_IDS
            .iter()
            .filter(|(uri, _)| {
                self.extensions.iter().any(|one| {
                    one["uri"] == *uri && one["kind"] == kind && one["direction"] != "sendonly"
                })
            })
            .map(|(uri, id)| json!({ "uri": uri, "id": id, "encrypt": false, "parameters": {} }))
            .collect()
    }

    fn extension_ids(&self, kind: &str) -> ExtensionIds {
        let sent = self.send_extensions(kind);
        let id = |uri: &str| {
            let found = sent.iter().find(|one| one["uri"] == uri)?;
            found["id"].as_u64().map(|id| id as u8)
        };
        ExtensionIds {
            mid: id(MID),
            rid: id(RID),
            repaired_rid: id(REPAIRED_RID),
            abs_send_time: id(ABS_SEND_TIME),
            transport_cc: id(TRANSPORT_CC),
            audio_level: id(AUDIO_LEVEL),
        }
    }
}

fn is_rtx(codec: &Value) -> bool {
    codec["mimeType"].as_str().is_some_and(|mime| mime.to_ascii_lowercase().ends_with("/rtx"))
}

fn is_known(codec: &Value) -> bool {
    let Some(mime) = codec["mimeType"].as_str() else { return false };
    let known = ["audio/opus", "video/vp8", "video/vp9", "video/h264", "video/av1", "video/rtx"];
    known.contains(&mime.to_ascii_lowercase().as_str())
}

/// Chromium names simulcast layers by RID alone, and a single stream by SSRC.
fn video_encodings(options: &VideoOptions) -> Vec<Value> {
    let count = options.layers.len();
    options
        .layers
        .iter()
        .enumerate()
        .map(|(at, layer)| {
            let mut encoding = Map::new();
            match &layer.rid {
                Some(rid) => {
                    encoding.insert("rid".to_owned(), json!(rid));
                    encoding.insert("active".to_owned(), json!(true));
                    let scale = 1 << (count - 1 - at);
                    encoding.insert("scaleResolutionDownBy".to_owned(), json!(scale));
                }
                None => {
                    encoding.insert("ssrc".to_owned(), json!(layer.ssrc));
                    if let (Some(ssrc), Some(_)) = (layer.rtx_ssrc, options.rtx_payload_type) {
                        encoding.insert("rtx".to_owned(), json!({ "ssrc": ssrc }));
                    }
                }
            }
            encoding.insert("maxBitrate".to_owned(), json!(layer.bitrate_bps * 2));
            let mode = format!("L1T{}", options.temporal_layers);
            encoding.insert("scalabilityMode".to_owned(), json!(mode));
            encoding.insert("dtx".to_owned(), json!(false));
            Value::Object(encoding)
        })
        .collect()
}

/// What to expect for a consumer with these `rtpParameters`.
pub fn receive_options(parameters: &Value) -> Result<ReceiveOptions, OrtcError> {
    let codec = &parameters["codecs"][0];
    let encoding = &parameters["encodings"][0];
    let number = |value: &Value, what| value.as_u64().ok_or(OrtcError::Field(what));
    let mime = codec["mimeType"].as_str().ok_or(OrtcError::Field("mimeType"))?;
    let nack = codec["rtcpFeedback"]
        .as_array()
        .is_some_and(|all| all.iter().any(|one| one["type"] == "nack"));
    Ok(ReceiveOptions {
        ssrc: number(&encoding["ssrc"], "ssrc")? as u32,
        rtx_ssrc: encoding["rtx"]["ssrc"].as_u64().map(|ssrc| ssrc as u32),
        payload_type: number(&codec["payloadType"], "payloadType")? as u8,
        clock_hz: number(&codec["clockRate"], "clockRate")? as u32,
        nack,
        vp8: mime.eq_ignore_ascii_case("video/VP8"),
    })
}

/// The server's side of a transport: the answer to `POST /transports`.
pub fn remote(transport: &Value) -> Result<Remote, OrtcError> {
    let text =
        |value: &Value, what| value.as_str().map(str::to_owned).ok_or(OrtcError::Field(what));
    let candidates = candidates(transport, "udp")?;
    let fingerprints = transport["dtlsParameters"]["fingerprints"]
        .as_array()
        .ok_or(OrtcError::Field("fingerprints"))?
        .iter()
        .map(|one| {
            Ok(Fingerprint {
                algorithm: text(&one["algorithm"], "algorithm")?,
                value: text(&one["value"], "value")?,
            })
        })
        .collect::<Result<_, OrtcError>>()?;
    Ok(Remote { ice: ice_credentials(&transport["iceParameters"])?, candidates, fingerprints })
}

/// The addresses of a transport's candidates of `udp` or `tcp`.
pub fn candidates(transport: &Value, protocol: &str) -> Result<Vec<SocketAddr>, OrtcError> {
    let all = transport["iceCandidates"].as_array().ok_or(OrtcError::Field("iceCandidates"))?;
    let address = |candidate: &Value| {
        let address = candidate["address"].as_str().or_else(|| candidate["ip"].as_str())?;
        let port = u16::try_from(candidate["port"].as_u64()?).ok()?;
        Some(SocketAddr::new(address.parse::<IpAddr>().ok()?, port))
    };
    let wanted = all.iter().filter(|candidate| candidate["protocol"] == protocol);
    Ok(wanted.filter_map(address).collect())
}

/// `iceParameters`.
pub fn ice_credentials(parameters: &Value) -> Result<IceCredentials, OrtcError> {
    let text = |name: &'static str| {
        parameters[name].as_str().map(str::to_owned).ok_or(OrtcError::Field(name))
    };
    Ok(IceCredentials { username_fragment: text("usernameFragment")?, password: text("password")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router() -> Value {
        let extension = |kind: &str, uri: &str, direction: &str| json!({ "kind": kind, "uri": uri, "preferredId": 1, "direction": direction });
        json!({
            "codecs": [
                { "kind": "audio", "mimeType": "audio/opus", "clockRate": 48000, "channels": 2,
                  "preferredPayloadType": 100, "parameters": {}, "rtcpFeedback": [] },
                { "kind": "video", "mimeType": "video/VP8", "clockRate": 90000,
                  "preferredPayloadType": 101, "parameters": { "x-google-start-bitrate": 1000 },
                  "rtcpFeedback": [{ "type": "nack", "parameter": "" }] },
                { "kind": "video", "mimeType": "video/rtx", "clockRate": 90000,
                  "preferredPayloadType": 102, "parameters": { "apt": 101 } },
                { "kind": "video", "mimeType": "video/rtx", "clockRate": 90000,
                  "preferredPayloadType": 104, "parameters": { "apt": 103 } },
            ],
            "headerExtensions": [
                extension("video", MID, "sendrecv"),
                extension("video", RID, "recvonly"),
                extension("audio", MID, "sendrecv"),
            ],
        })
    }

    #[test]
    fn simulcast_is_named_by_rid_and_a_single_stream_by_ssrc() {
        let device = Device::load(&router()).expect("capabilities");
        let mut simulcast = VideoOptions::default();
        let parameters = device.video_parameters(&mut simulcast).expect("VP8");
        assert_eq!(parameters["encodings"][2]["rid"], "f");
        assert!(parameters["encodings"][0].get("ssrc").is_none());
        assert_eq!(parameters["codecs"][1]["parameters"]["apt"], 96);
        assert_eq!(simulcast.extensions.rid, Some(10));
        assert_eq!(simulcast.extensions.transport_cc, None, "the router does not have it");

        let mut single = VideoOptions::single(1_000).without_rtx();
        let parameters = device.video_parameters(&mut single).expect("VP8");
        assert_eq!(parameters["encodings"][0]["ssrc"], single.layers[0].ssrc);
        assert_eq!(parameters["codecs"].as_array().expect("codecs").len(), 1);
    }

    #[test]
    fn capabilities_are_those_of_both() {
        let device = Device::load(&router()).expect("capabilities");
        let capabilities = device.rtp_capabilities();
        let types: Vec<u64> = capabilities["codecs"]
            .as_array()
            .expect("codecs")
            .iter()
            .filter_map(|codec| codec["preferredPayloadType"].as_u64())
            .collect();
        assert_eq!(types, [100, 101, 102]);
        assert_eq!(capabilities["headerExtensions"].as_array().expect("a list").len(), 2);
    }

    #[test]
    fn an_unknown_codec_is_refused() {
        let device = Device::load(&router()).expect("capabilities");
        let mut options = VideoOptions { codec: VideoCodec::Vp9, ..VideoOptions::default() };
        let refused = device.video_parameters(&mut options);
        assert_eq!(refused, Err(OrtcError::Codec("video/VP9".to_owned())));
    }
}
