//! Right and wrong RTP parameters and capabilities.

use ironcast_api::{ErrorCode, MediaKind, RtpCapabilities, RtpParameters};
use serde_json::{Value, json};

use super::{read, vp8_params};
use crate::{validate_and_normalize_rtp_capabilities, validate_and_normalize_rtp_parameters};

/// The pointer of the error, or empty if there is none.
fn fault_of(kind: MediaKind, params: &Value) -> String {
    let mut params: RtpParameters = read(params);
    match validate_and_normalize_rtp_parameters(kind, &mut params) {
        Ok(()) => String::new(),
        Err(error) => error.pointer().to_owned(),
    }
}

#[test]
fn right_parameters_pass_and_get_their_normal_form() {
    let mut params: RtpParameters = read(&json!({
        "codecs": [{ "mimeType": "audio/PCMU", "payloadType": 0, "clockRate": 8000,
                     "parameters": null, "rtcpFeedback": null }],
        "encodings": [{ "ssrc": 1, "active": true, "scaleResolutionDownBy": 1.5,
                        "maxBitrate": 64000.4 }]
    }));
    validate_and_normalize_rtp_parameters(MediaKind::Audio, &mut params).expect("valid");
    assert_eq!(params.codecs[0].channels, Some(1));
    assert_eq!(params.encodings[0].max_bitrate, Some(64000));
    assert!(params.rtcp.reduced_size);
    let mut video: RtpParameters = read(&vp8_params());
    video.codecs[0].channels = Some(1);
    validate_and_normalize_rtp_parameters(MediaKind::Video, &mut video).expect("valid");
    assert_eq!(video.codecs[0].channels, None);
}

#[test]
fn wrong_parameters_are_refused_at_the_field() {
    let cases: [(&str, Value, &str); 27] = [
        ("/mid", json!(""), "/mid"),
        ("/mid", json!("seventeen-letters"), "/mid"),
        ("/mid", json!("a b"), "/mid"),
        ("/codecs", json!([]), "/codecs"),
        ("/codecs/0/mimeType", json!("VP8"), "/codecs/0/mimeType"),
        ("/codecs/0/mimeType", json!("audio/VP8"), "/codecs/0/mimeType"),
        ("/codecs/0/payloadType", json!(128), "/codecs/0/payloadType"),
        ("/codecs/0/payloadType", json!(64), "/codecs/0/payloadType"),
        ("/codecs/0/payloadType", json!(97), "/codecs/1/payloadType"),
        ("/codecs/0/payloadType", json!(98), "/codecs/1/parameters/apt"),
        ("/codecs/0/clockRate", json!(0), "/codecs/0/clockRate"),
        ("/codecs/1/parameters", json!({}), "/codecs/1/parameters/apt"),
        ("/codecs/1/parameters", json!({ "apt": "96" }), "/codecs/1/parameters/apt"),
        ("/codecs/1/parameters", json!({ "apt": 97 }), "/codecs/1/parameters/apt"),
        ("/codecs/0/rtcpFeedback/0/type", json!(""), "/codecs/0/rtcpFeedback/0/type"),
        ("/encodings", json!([{}, {}]), "/encodings/0"),
        ("/encodings", json!([{ "ssrc": 1 }, { "ssrc": 1 }]), "/encodings/1/ssrc"),
        ("/encodings", json!([{ "ssrc": 1, "rtx": { "ssrc": 1 } }]), "/encodings/0/rtx/ssrc"),
        ("/encodings", json!([{ "rid": "a" }, { "rid": "a" }]), "/encodings/1/rid"),
        ("/encodings", json!([{ "rid": "" }]), "/encodings/0/rid"),
        ("/encodings", json!([{ "rid": "a/b" }]), "/encodings/0/rid"),
        (
            "/encodings",
            json!([{ "ssrc": 1, "codecPayloadType": 97 }]),
            "/encodings/0/codecPayloadType",
        ),
        (
            "/encodings",
            json!([{ "ssrc": 1, "scalabilityMode": "L".repeat(300) }]),
            "/encodings/0/scalabilityMode",
        ),
        ("/headerExtensions", json!([{ "uri": "urn:x", "id": 0 }]), "/headerExtensions/0/id"),
        (
            "/headerExtensions",
            json!([{ "uri": "urn:x", "id": 1 }, { "uri": "urn:y", "id": 2 }, { "uri": "urn:x", "id": 4 }]),
            "/headerExtensions/2/uri",
        ),
        ("/headerExtensions", json!([{ "uri": "", "id": 1 }]), "/headerExtensions/0/uri"),
        (
            "/headerExtensions",
            json!([{ "uri": "urn:x", "id": 1 }, { "uri": "urn:y", "id": 1 }]),
            "/headerExtensions/1/id",
        ),
    ];
    assert_eq!(fault_of(MediaKind::Video, &vp8_params()), "");
    for (field, value, pointer) in cases {
        let mut params = vp8_params();
        params["headerExtensions"] = json!([]);
        *params.pointer_mut(field).expect("the field is there") = value.clone();
        assert_eq!(fault_of(MediaKind::Video, &params), pointer, "{field} = {value}");
    }
}

#[test]
fn limits_hold() {
    let many = |entry: Value, count: usize| Value::from(vec![entry; count]);
    let mut params = vp8_params();
    params["codecs"] = many(params["codecs"][0].clone(), 257);
    assert_eq!(fault_of(MediaKind::Video, &params), "/codecs");
    let mut params = vp8_params();
    params["encodings"] = many(json!({ "ssrc": 1 }), 9);
    assert_eq!(fault_of(MediaKind::Video, &params), "/encodings");
    let mut params = vp8_params();
    params["headerExtensions"] = many(json!({ "uri": "urn:x", "id": 1 }), 513);
    assert_eq!(fault_of(MediaKind::Video, &params), "/headerExtensions");
    let mut params = vp8_params();
    params["codecs"][0]["rtcpFeedback"] = many(json!({ "type": "nack" }), 33);
    assert_eq!(fault_of(MediaKind::Video, &params), "/codecs/0/rtcpFeedback");
    let mut params = vp8_params();
    params["codecs"][0]["parameters"] = json!({ "x": "y".repeat(1025) });
    assert_eq!(fault_of(MediaKind::Video, &params), "/codecs/0/parameters");
    for field in ["msid", "cname"] {
        let mut params = vp8_params();
        params["msid"] = json!("x".repeat(if field == "msid" { 256 } else { 255 }));
        params["rtcp"]["cname"] = json!("x".repeat(if field == "cname" { 256 } else { 255 }));
        assert!(fault_of(MediaKind::Video, &params).ends_with(field));
    }
}

#[test]
fn capabilities_learn_their_kind_and_may_know_codecs_that_we_do_not() {
    let mut caps: RtpCapabilities = read(&json!({
        "codecs": [
            { "mimeType": "audio/L24", "clockRate": 44100, "preferredPayloadType": 98 },
            { "mimeType": "video/H264", "clockRate": 90000, "preferredPayloadType": 99,
              "parameters": { "profile-level-id": "7a001f" } }
        ],
        "headerExtensions": [{ "kind": "video", "uri": "urn:x", "preferredId": 3 }]
    }));
    validate_and_normalize_rtp_capabilities(&mut caps).expect("valid");
    assert_eq!(caps.codecs[0].kind, Some(MediaKind::Audio));
    assert_eq!(caps.codecs[0].channels, Some(1));
    assert_eq!(caps.codecs[1].kind, Some(MediaKind::Video));
}

#[test]
fn a_device_may_list_an_h264_profile_that_nobody_reads() {
    for id in ["", "42e0", "zzzzzz", "42e01f42e01f"] {
        let codec = json!({ "kind": "video", "mimeType": "video/H264", "clockRate": 90_000,
            "parameters": { "profile-level-id": id } });
        let mut caps: RtpCapabilities = read(&json!({ "codecs": [codec] }));
        assert!(validate_and_normalize_rtp_capabilities(&mut caps).is_ok(), "{id}");
    }
}

#[test]
fn parameters_are_limited_as_a_whole() {
    let mut codecs = Vec::new();
    for payload_type in 96..127 {
        let fmtp: serde_json::Map<String, Value> =
            (0..60).map(|number| (format!("x{number}"), json!("y".repeat(1_000)))).collect();
        codecs.push(json!({ "mimeType": "video/VP8", "payloadType": payload_type,
            "clockRate": 90_000, "parameters": fmtp }));
    }
    let with = |codecs: &[Value]| json!({ "codecs": codecs, "encodings": [{ "ssrc": 1 }] });
    // Each text of them is short enough.
    let mut params: RtpParameters = read(&with(&codecs));
    let error = validate_and_normalize_rtp_parameters(MediaKind::Video, &mut params);
    let problem = error.expect_err("two megabytes").into_problem("/rtpParameters");
    assert_eq!(problem.code, ErrorCode::TooLarge);
    assert_eq!(problem.pointer.as_deref(), Some("/rtpParameters"));
    assert!(problem.detail.contains("16384"), "{}", problem.detail);
    // All that a camera has to say, and a long parameter set besides.
    let mut params = vp8_params();
    params["codecs"][0]["parameters"] = json!({ "sprop-parameter-sets": "z".repeat(1_024) });
    assert_eq!(fault_of(MediaKind::Video, &params), "");
}
