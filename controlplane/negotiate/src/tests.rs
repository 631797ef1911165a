//! Tests of the negotiation: mediasoup's documented behaviour, what Chromium 156 sends through
//! mediasoup-client 3.24.1 (`tests/chromium.json`, recorded with the default router), and
//! properties over arbitrary input.

mod chromium;
mod consumer;
mod h264;
mod producer;
mod properties;
mod red;
mod router;
mod validate;

use ironcast_api::{MediaKind, RtpCapabilities, RtpCodecCapability, RtpParameters};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::{
    ConsumerIdentity, ConsumerOptions, NegotiateError, NegotiatedProducer, ValidRtpCapabilities,
    default_enable_rtx, default_media_codecs, generate_router_rtp_capabilities,
    get_consumer_rtp_parameters, negotiate_producer,
};

/// Reads JSON as the server does.
fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).expect("the test's JSON fits the type")
}

fn default_router() -> RtpCapabilities {
    generate_router_rtp_capabilities(&default_media_codecs()).expect("defaults are supported")
}

/// A router with a few codecs, as `POST /routers` gives them.
fn router(media_codecs: Value) -> RtpCapabilities {
    let codecs: Vec<RtpCodecCapability> = read(&media_codecs);
    generate_router_rtp_capabilities(&codecs).expect("the test's codecs are supported")
}

fn negotiate(
    kind: MediaKind,
    params: &Value,
    caps: &RtpCapabilities,
) -> Result<NegotiatedProducer, NegotiateError> {
    negotiate_producer(kind, read(params), caps, 1000, "server")
}

fn identity() -> ConsumerIdentity {
    ConsumerIdentity { mid: Some("7".to_owned()), ssrc: 5000, rtx_ssrc: 6000 }
}

fn consume(
    kind: MediaKind,
    consumable: &RtpParameters,
    caps: &RtpCapabilities,
) -> Result<RtpParameters, NegotiateError> {
    let caps = ValidRtpCapabilities::new(caps.clone())?;
    let options = ConsumerOptions {
        consumable_rtp_parameters: consumable,
        remote_rtp_capabilities: &caps,
        pipe: false,
        enable_rtx: default_enable_rtx(kind),
    };
    get_consumer_rtp_parameters(&options, &identity())
}

/// One VP8 stream with RTX.
fn vp8_params() -> Value {
    json!({
        "mid": "1",
        "codecs": [
            { "mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
              "rtcpFeedback": [{ "type": "nack" }, { "type": "nack", "parameter": "pli" }] },
            { "mimeType": "video/rtx", "payloadType": 97, "clockRate": 90000,
              "parameters": { "apt": 96 } }
        ],
        "encodings": [{ "ssrc": 11, "rtx": { "ssrc": 12 } }],
        "rtcp": { "cname": "alice" }
    })
}

/// One H264 stream.
fn h264_params(parameters: Value) -> Value {
    json!({
        "codecs": [
            { "mimeType": "video/H264", "payloadType": 111, "clockRate": 90000,
              "parameters": parameters },
        ],
        "encodings": [{ "ssrc": 11 }]
    })
}
