//! Consumers: what is left of a producer for a receiver.

use ironcast_api::{
    ConsumerLayers, ConsumerType, MediaKind, ProducerType, RtpCapabilities, RtpParameters,
};
use serde_json::{Value, json};

use super::{consume, default_router, h264_params, identity, negotiate, read, vp8_params};
use crate::{
    ConsumerIdentity, ConsumerOptions, NegotiateError, PipeIdentity, ValidRtpCapabilities,
    can_consume, derive_consumer_type, get_consumer_rtp_parameters,
    get_pipe_consumer_rtp_parameters, normalize_preferred_layers, uri,
};

fn consumable(params: &Value) -> RtpParameters {
    negotiate(MediaKind::Video, params, &default_router())
        .expect("supported")
        .consumable_rtp_parameters
}

/// A receiver of VP8 with RTX and of baseline H264 without.
fn receiver() -> Value {
    let feedback = json!([
        { "type": "nack" }, { "type": "nack", "parameter": "pli" },
        { "type": "ccm", "parameter": "fir" }, { "type": "goog-remb" }, { "type": "transport-cc" },
        { "type": "unheard-of" }
    ]);
    json!({
        "codecs": [
            { "mimeType": "video/VP8", "kind": "video", "preferredPayloadType": 101,
              "clockRate": 90000, "rtcpFeedback": feedback },
            { "mimeType": "video/rtx", "kind": "video", "preferredPayloadType": 102,
              "clockRate": 90000, "parameters": { "apt": 101 } },
            { "mimeType": "video/H264", "kind": "video", "preferredPayloadType": 105,
              "clockRate": 90000, "rtcpFeedback": feedback,
              "parameters": { "packetization-mode": 1, "profile-level-id": "42e01f",
                              "level-asymmetry-allowed": 1 } }
        ],
        "headerExtensions": [
            { "kind": "video", "uri": uri::MID, "preferredId": 1 },
            { "kind": "video", "uri": uri::ABS_SEND_TIME, "preferredId": 4 },
            { "kind": "video", "uri": uri::TRANSPORT_WIDE_CC, "preferredId": 5 },
            { "kind": "video", "uri": uri::VIDEO_ORIENTATION, "preferredId": 3 }
        ]
    })
}

fn caps() -> RtpCapabilities {
    read(&receiver())
}

fn feedback(params: &RtpParameters) -> Vec<(&str, &str)> {
    params.codecs[0]
        .rtcp_feedback
        .iter()
        .map(|feedback| (feedback.kind.as_str(), feedback.parameter.as_str()))
        .collect()
}

#[test]
fn one_stream_with_rtx_and_remb() {
    let consumer = consume(MediaKind::Video, &consumable(&vp8_params()), &caps()).expect("VP8");
    let codecs: Vec<_> =
        consumer.codecs.iter().map(|c| (c.mime_type.as_str(), c.payload_type)).collect();
    assert_eq!(codecs, [("video/VP8", 101), ("video/rtx", 102)]);
    assert_eq!(consumer.mid.as_deref(), Some("7"));
    assert_eq!(consumer.encodings.len(), 1);
    assert_eq!(consumer.encodings[0].ssrc, Some(5000));
    assert_eq!(consumer.encodings[0].rtx.map(|rtx| rtx.ssrc), Some(6000));
    // The receiver offers transport-wide feedback, and does not get it.
    let expected = [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("goog-remb", "")];
    assert_eq!(feedback(&consumer), expected);
    let extensions: Vec<_> =
        consumer.header_extensions.iter().map(|e| (e.uri.as_str(), e.id)).collect();
    assert_eq!(extensions, [(uri::MID, 1), (uri::ABS_SEND_TIME, 4)]);
    assert_eq!(consumer.rtcp.cname.as_deref(), Some("alice"));
}

#[test]
fn without_rtx_there_is_no_nack() {
    let consumable = consumable(&vp8_params());
    let caps = caps();
    let options = ConsumerOptions {
        consumable_rtp_parameters: &consumable,
        remote_rtp_capabilities: &ValidRtpCapabilities::new(caps).expect("valid"),
        pipe: false,
        enable_rtx: false,
    };
    let consumer = get_consumer_rtp_parameters(&options, &identity()).expect("VP8");
    assert_eq!(consumer.codecs.len(), 1);
    assert_eq!(consumer.encodings[0].rtx, None);
    assert_eq!(feedback(&consumer), [("nack", "pli"), ("ccm", "fir"), ("goog-remb", "")]);
}

#[test]
fn a_receiver_without_rtx_for_this_codec_keeps_nack() {
    let params = h264_params(json!({ "packetization-mode": 1, "profile-level-id": "42e01f",
                                     "level-asymmetry-allowed": 1 }));
    let consumer = consume(MediaKind::Video, &consumable(&params), &caps()).expect("H264");
    assert_eq!(consumer.codecs.len(), 1);
    assert_eq!(consumer.encodings[0].rtx, None);
    assert!(feedback(&consumer).contains(&("nack", "")));
}

#[test]
fn without_send_times_there_is_no_bandwidth_feedback() {
    let mut caps = caps();
    caps.header_extensions.retain(|extension| extension.uri != uri::ABS_SEND_TIME);
    let consumer = consume(MediaKind::Video, &consumable(&vp8_params()), &caps).expect("VP8");
    assert_eq!(feedback(&consumer), [("nack", ""), ("nack", "pli"), ("ccm", "fir")]);
}

#[test]
fn where_transport_wide_feedback_is_sent_it_replaces_remb() {
    let mut consumable = consumable(&vp8_params());
    let mut extension = consumable.header_extensions[0].clone();
    (extension.uri, extension.id) = (uri::TRANSPORT_WIDE_CC.to_owned(), 5);
    consumable.header_extensions.push(extension);
    let consumer = consume(MediaKind::Video, &consumable, &caps()).expect("VP8");
    let expected = [("nack", ""), ("nack", "pli"), ("ccm", "fir"), ("transport-cc", "")];
    assert_eq!(feedback(&consumer), expected);
}

#[test]
fn simulcast_becomes_one_stream_with_spatial_layers() {
    let mut params = vp8_params();
    params["encodings"] = json!([
        { "rid": "a", "maxBitrate": 100000, "scalabilityMode": "L1T3" },
        { "rid": "b", "maxBitrate": 900000, "scalabilityMode": "L1T3" }
    ]);
    let consumer = consume(MediaKind::Video, &consumable(&params), &caps()).expect("VP8");
    assert_eq!(consumer.encodings.len(), 1);
    assert_eq!(consumer.encodings[0].scalability_mode.as_deref(), Some("L2T3"));
    assert_eq!(consumer.encodings[0].max_bitrate, Some(900_000));
    params["encodings"] = json!([{ "ssrc": 1 }, { "ssrc": 2 }, { "ssrc": 3 }]);
    let consumer = consume(MediaKind::Video, &consumable(&params), &caps()).expect("VP8");
    assert_eq!(consumer.encodings[0].scalability_mode.as_deref(), Some("L3T1"));
    assert_eq!(consumer.encodings[0].max_bitrate, None);
}

#[test]
fn can_consume_says_what_consuming_would() {
    let vp8 = consumable(&vp8_params());
    let main = consumable(&h264_params(json!({
        "packetization-mode": 1, "profile-level-id": "4d0032", "level-asymmetry-allowed": 1 })));
    let audio = negotiate(
        MediaKind::Audio,
        &json!({ "codecs": [{ "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000,
                              "channels": 2 }], "encodings": [{ "ssrc": 1 }] }),
        &default_router(),
    );
    let audio = audio.expect("Opus").consumable_rtp_parameters;
    assert_eq!(can_consume(&vp8, &caps()), Ok(true));
    assert_eq!(can_consume(&main, &caps()), Ok(false));
    assert_eq!(can_consume(&audio, &caps()), Ok(false));
    assert_eq!(can_consume(&vp8, &RtpCapabilities::default()), Ok(false));
    let error = consume(MediaKind::Video, &main, &caps()).expect_err("nothing in common");
    assert!(matches!(error, NegotiateError::Unsupported { .. }));
    assert_eq!(error.into_problem("/rtpCapabilities").status, 422);
    let mut wrong = receiver();
    wrong["codecs"][0]["mimeType"] = json!("nonsense");
    let error = can_consume(&vp8, &read(&wrong)).expect_err("no MIME type");
    assert_eq!(error.pointer(), "/codecs/0/mimeType");
}

#[test]
fn a_wrong_mid_is_refused() {
    let (consumable, caps) = (consumable(&vp8_params()), caps());
    let options = ConsumerOptions {
        consumable_rtp_parameters: &consumable,
        remote_rtp_capabilities: &ValidRtpCapabilities::new(caps).expect("valid"),
        pipe: false,
        enable_rtx: true,
    };
    let identity = ConsumerIdentity { mid: Some("not a token".to_owned()), ssrc: 1, rtx_ssrc: 2 };
    let error = get_consumer_rtp_parameters(&options, &identity).expect_err("spaces");
    assert_eq!(error.pointer(), "/mid");
}

#[test]
fn pipes_carry_every_stream() {
    let mut params = vp8_params();
    params["encodings"] = json!([{ "rid": "a" }, { "rid": "b" }, { "rid": "c" }]);
    let consumable = consumable(&params);
    let first = PipeIdentity { ssrc: 50, rtx_ssrc: 60 };
    let pipe = get_pipe_consumer_rtp_parameters(&consumable, true, first);
    let ssrcs: Vec<_> =
        pipe.encodings.iter().map(|e| (e.ssrc, e.rtx.map(|rtx| rtx.ssrc))).collect();
    let expected = [(Some(50), Some(60)), (Some(51), Some(61)), (Some(52), Some(62))];
    assert_eq!(ssrcs, expected);
    let uris: Vec<_> = pipe.header_extensions.iter().map(|e| e.uri.as_str()).collect();
    assert!(uris.contains(&uri::DEPENDENCY_DESCRIPTOR));
    assert!(!uris.contains(&uri::MID) && !uris.contains(&uri::ABS_SEND_TIME));
    assert_eq!(feedback(&pipe), [("nack", ""), ("nack", "pli"), ("ccm", "fir")]);
    let pipe = get_pipe_consumer_rtp_parameters(&consumable, false, first);
    assert_eq!(pipe.codecs.len(), 1);
    assert_eq!(feedback(&pipe), [("nack", "pli"), ("ccm", "fir")]);
    assert!(pipe.encodings.iter().all(|encoding| encoding.rtx.is_none()));
}

#[test]
fn consumer_types_follow_producer_types() {
    assert_eq!(derive_consumer_type(ProducerType::Simple, false), ConsumerType::Simple);
    assert_eq!(derive_consumer_type(ProducerType::Simulcast, false), ConsumerType::Simulcast);
    assert_eq!(derive_consumer_type(ProducerType::Svc, false), ConsumerType::Svc);
    assert_eq!(derive_consumer_type(ProducerType::Simulcast, true), ConsumerType::Pipe);
}

#[test]
fn preferred_layers_stay_within_what_there_is() {
    let mut params = vp8_params();
    params["encodings"] = json!([
        { "rid": "a", "scalabilityMode": "L1T3" }, { "rid": "b", "scalabilityMode": "L1T3" }
    ]);
    let consumer = consume(MediaKind::Video, &consumable(&params), &caps()).expect("VP8");
    let layers = |spatial_layer, temporal_layer| ConsumerLayers { spatial_layer, temporal_layer };
    let prefer = |asked| normalize_preferred_layers(ConsumerType::Simulcast, &consumer, asked);
    assert_eq!(prefer(None), Some(layers(1, Some(2))));
    assert_eq!(prefer(Some(layers(0, None))), Some(layers(0, Some(2))));
    assert_eq!(prefer(Some(layers(9, Some(9)))), Some(layers(1, Some(2))));
    assert_eq!(prefer(Some(layers(0, Some(1)))), Some(layers(0, Some(1))));
    let simple = normalize_preferred_layers(ConsumerType::Simple, &consumer, Some(layers(0, None)));
    assert_eq!(simple, None);
}
