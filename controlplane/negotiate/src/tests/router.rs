//! Capabilities of routers.

use ironcast_api::{RtpCapabilities, RtpCodecCapability, RtpHeaderExtensionDirection};
use serde_json::{Value, json};

use super::{default_router, read, router};
use crate::{
    Fault, NegotiateError, Unsupported, generate_router_rtp_capabilities,
    supported_rtp_capabilities, uri, validate_and_normalize_rtp_capabilities,
};

fn refused(media_codecs: Value) -> NegotiateError {
    let codecs: Vec<RtpCodecCapability> = read(&media_codecs);
    generate_router_rtp_capabilities(&codecs).expect_err("the codecs are wrong")
}

fn summary(caps: &RtpCapabilities) -> Vec<(String, u8, Option<u64>)> {
    caps.codecs
        .iter()
        .map(|codec| {
            let payload_type = codec.preferred_payload_type.expect("routers have chosen");
            let apt = codec.parameters.get("apt").and_then(|apt| apt.as_u64());
            (codec.mime_type.clone(), payload_type, apt)
        })
        .collect()
}

#[test]
fn default_codecs_get_payload_types_and_rtx() {
    let expected = [
        ("audio/opus", 100, None),
        ("video/VP8", 101, None),
        ("video/rtx", 102, Some(101)),
        ("video/VP9", 103, None),
        ("video/rtx", 104, Some(103)),
        ("video/H264", 105, None),
        ("video/rtx", 106, Some(105)),
        ("video/H264", 107, None),
        ("video/rtx", 108, Some(107)),
        ("video/AV1", 109, None),
        ("video/rtx", 110, Some(109)),
    ];
    let expected = expected.map(|(name, pt, apt)| (name.to_owned(), pt, apt));
    assert_eq!(summary(&default_router()), expected);
}

#[test]
fn supported_capabilities_are_valid_and_in_normal_form() {
    let supported = supported_rtp_capabilities();
    let mut normal = supported.clone();
    validate_and_normalize_rtp_capabilities(&mut normal).expect("our own are valid");
    assert_eq!(normal, supported);
}

#[test]
fn codecs_keep_their_parameters_and_get_our_feedback() {
    let caps = router(json!([
        { "mimeType": "AUDIO/OPUS", "clockRate": 48000, "channels": 2,
          "parameters": { "useinbandfec": 1, "foo": "bar" } },
        { "kind": "video", "mimeType": "video/H264", "clockRate": 90000,
          "parameters": { "profile-level-id": "42e01f", "packetization-mode": 1 } }
    ]));
    let codecs = serde_json::to_value(&caps.codecs).expect("capabilities are JSON");
    assert_eq!(codecs[0]["mimeType"], "audio/opus");
    assert_eq!(codecs[0]["kind"], "audio");
    assert_eq!(codecs[0]["parameters"], json!({ "useinbandfec": 1, "foo": "bar" }));
    assert_eq!(codecs[1]["parameters"]["level-asymmetry-allowed"], 1);
    assert_eq!(codecs[1]["parameters"]["packetization-mode"], 1);
    let feedback = codecs[1]["rtcpFeedback"].as_array().expect("a list");
    assert!(feedback.contains(&json!({ "type": "nack", "parameter": "pli" })));
    assert!(feedback.contains(&json!({ "type": "transport-cc", "parameter": "" })));
}

#[test]
fn transport_wide_feedback_is_asked_of_senders_only() {
    let caps = default_router();
    let directions: Vec<_> = caps
        .header_extensions
        .iter()
        .filter(|extension| extension.uri == uri::TRANSPORT_WIDE_CC)
        .map(|extension| extension.direction)
        .collect();
    assert_eq!(directions, [RtpHeaderExtensionDirection::Recvonly; 2]);
}

#[test]
fn preferred_payload_types_are_kept_and_never_given_twice() {
    let caps = router(json!([
        { "mimeType": "video/VP8", "clockRate": 90000 },
        { "mimeType": "video/VP9", "clockRate": 90000, "preferredPayloadType": 100 },
        { "mimeType": "audio/PCMU", "clockRate": 8000 },
        { "mimeType": "video/AV1", "clockRate": 90000, "preferredPayloadType": 35 }
    ]));
    let types: Vec<u8> = summary(&caps).iter().map(|(_, payload_type, _)| *payload_type).collect();
    assert_eq!(types, [101, 102, 100, 103, 0, 35, 104]);
    let error = refused(json!([
        { "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 110 },
        { "mimeType": "video/VP9", "clockRate": 90000, "preferredPayloadType": 110 }
    ]));
    assert_eq!(error.pointer(), "/1/preferredPayloadType");
}

#[test]
fn payload_types_run_out() {
    let codec = |n: u32| {
        json!({ "mimeType": "video/H264", "clockRate": 90000,
                "parameters": { "profile-level-id": "42e01f", "x": n } })
    };
    let codecs: Vec<Value> = (0..16).map(codec).collect();
    assert_eq!(router(codecs.into()).codecs.len(), 32);
    let codecs: Vec<Value> = (0..17).map(codec).collect();
    let error = refused(codecs.into());
    assert_eq!(
        error,
        NegotiateError::Unsupported { pointer: "/16".to_owned(), what: Unsupported::PayloadTypes }
    );
}

#[test]
fn multiopus_is_ours_only_with_the_streams_that_we_know() {
    let multiopus = |streams: u32, coupled: u32| {
        json!([{ "mimeType": "audio/multiopus", "clockRate": 48000, "channels": 6,
                 "parameters": { "channel_mapping": "0,4,1,2,3,5", "num_streams": streams,
                                 "coupled_streams": coupled } }])
    };
    assert_eq!(router(multiopus(4, 2)).codecs.len(), 1);
    assert!(matches!(refused(multiopus(4, 3)), NegotiateError::Unsupported { .. }));
    assert!(matches!(refused(multiopus(5, 2)), NegotiateError::Unsupported { .. }));
}

#[test]
fn wrong_codecs_are_refused_by_name() {
    let cases = [
        (json!([{ "mimeType": "chicken", "clockRate": 90000 }]), "/0/mimeType", true),
        (json!([{ "mimeType": "audio/", "clockRate": 90000 }]), "/0/mimeType", true),
        (json!([{ "mimeType": "video/H266", "clockRate": 90000 }]), "/0/mimeType", false),
        (json!([{ "mimeType": "video/rtx", "clockRate": 90000 }]), "/0/mimeType", false),
        (json!([{ "mimeType": "audio/opus", "clockRate": 48000 }]), "/0/mimeType", false),
        (
            json!([{ "mimeType": "audio/opus", "clockRate": 48000, "channels": 1 }]),
            "/0/mimeType",
            false,
        ),
        (
            json!([{ "mimeType": "video/VP8", "clockRate": 90000, "kind": "audio" }]),
            "/0/kind",
            true,
        ),
        (json!([{ "mimeType": "video/VP8", "clockRate": 0 }]), "/0/clockRate", true),
        (
            json!([{ "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 200 }]),
            "/0/preferredPayloadType",
            true,
        ),
        (
            json!([{ "mimeType": "video/VP8", "clockRate": 90000, "preferredPayloadType": 72 }]),
            "/0/preferredPayloadType",
            true,
        ),
        (
            json!([{ "mimeType": "video/H264", "clockRate": 90000,
                  "parameters": { "profile-level-id": "xyz" } }]),
            "/0/parameters/profile-level-id",
            true,
        ),
        (
            json!([{ "mimeType": "video/VP8", "clockRate": 90000, "rtcpFeedback": [{ "type": "" }] }]),
            "/0/rtcpFeedback/0/type",
            true,
        ),
    ];
    for (codecs, pointer, is_invalid) in cases {
        let error = refused(codecs.clone());
        assert_eq!(error.pointer(), pointer, "{codecs}");
        assert_eq!(matches!(error, NegotiateError::Invalid { .. }), is_invalid, "{codecs}");
    }
}

#[test]
fn errors_become_problems_that_point_into_the_request() {
    let problem = refused(json!([{ "mimeType": "video/H266", "clockRate": 90000 }]))
        .into_problem("/mediaCodecs");
    assert_eq!(problem.status, 422);
    assert_eq!(problem.pointer.as_deref(), Some("/mediaCodecs/0/mimeType"));
    let error = NegotiateError::Invalid { pointer: "/mid".to_owned(), fault: Fault::Mid };
    assert_eq!(error.into_problem("/rtpParameters").status, 400);
}
