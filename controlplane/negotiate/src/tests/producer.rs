//! Producers: mapping to the router's values, consumable parameters, types.

use ironcast_api::{MediaKind, ProducerType, RtpCapabilities, RtpParameters};
use serde_json::{Value, json};

use super::{default_router, h264_params, negotiate, read, router, vp8_params};
use crate::{CodecMapping, NegotiateError, NegotiatedProducer, RtpMapping, Unsupported, uri};

fn video(params: &Value) -> Result<NegotiatedProducer, NegotiateError> {
    negotiate(MediaKind::Video, params, &default_router())
}

fn codec_pairs(mapping: &RtpMapping) -> Vec<(u8, u8)> {
    mapping
        .codecs
        .iter()
        .map(|CodecMapping { payload_type, mapped_payload_type }| {
            (*payload_type, *mapped_payload_type)
        })
        .collect()
}

/// VP8 simulcast of three by RID.
fn simulcast() -> Value {
    let mut params = vp8_params();
    params["encodings"] = json!([
        { "rid": "r0", "maxBitrate": 100000, "scalabilityMode": "L1T3" },
        { "rid": "r1", "maxBitrate": 300000, "scalabilityMode": "L1T3" },
        { "rid": "r2", "maxBitrate": 900000, "scalabilityMode": "L1T3", "dtx": true }
    ]);
    params
}

#[test]
fn payload_types_and_ssrcs_are_mapped() {
    let producer = video(&vp8_params()).expect("VP8 is supported");
    assert_eq!(codec_pairs(&producer.rtp_mapping), [(96, 101), (97, 102)]);
    let encoding = &producer.rtp_mapping.encodings[0];
    assert_eq!((encoding.ssrc, encoding.mapped_ssrc), (Some(11), 1000));
    assert_eq!(producer.producer_type, ProducerType::Simple);
    assert_eq!(producer.rtp_parameters.rtcp.cname.as_deref(), Some("alice"));
}

#[test]
fn simulcast_by_rid_is_mapped_stream_by_stream() {
    let producer = video(&simulcast()).expect("simulcast of VP8 is supported");
    assert_eq!(producer.producer_type, ProducerType::Simulcast);
    let encodings: Vec<_> = producer
        .rtp_mapping
        .encodings
        .iter()
        .map(|encoding| (encoding.rid.as_deref(), encoding.ssrc, encoding.mapped_ssrc))
        .collect();
    let expected = [(Some("r0"), None, 1000), (Some("r1"), None, 1001), (Some("r2"), None, 1002)];
    assert_eq!(encodings, expected);
    let consumable = &producer.consumable_rtp_parameters.encodings;
    assert_eq!(consumable.len(), 3);
    assert!(consumable.iter().all(|encoding| encoding.rid.is_none() && encoding.rtx.is_none()));
    assert_eq!(consumable[1].ssrc, Some(1001));
    assert_eq!(consumable[2].max_bitrate, Some(900_000));
    assert_eq!(consumable[2].dtx, Some(true));
}

#[test]
fn consumable_parameters_speak_the_routers_language() {
    let mut params = vp8_params();
    params["codecs"][0]["parameters"] = json!({ "mine": 1 });
    params["msid"] = json!("stream track");
    params["headerExtensions"] = json!([{ "uri": uri::MID, "id": 9 }]);
    let consumable = video(&params).expect("VP8 is supported").consumable_rtp_parameters;
    assert_eq!(consumable.mid, None);
    assert_eq!(consumable.msid.as_deref(), Some("stream track"));
    assert_eq!(consumable.rtcp.cname.as_deref(), Some("alice"));
    let types: Vec<u8> = consumable.codecs.iter().map(|codec| codec.payload_type).collect();
    assert_eq!(types, [101, 102]);
    assert!(consumable.codecs[0].parameters.contains_key("mine"));
    assert_eq!(consumable.codecs[0].rtcp_feedback.len(), 5);
    let extensions: Vec<(&str, u8)> =
        consumable.header_extensions.iter().map(|e| (e.uri.as_str(), e.id)).collect();
    let expected = [
        (uri::MID, 1),
        (uri::ABS_SEND_TIME, 4),
        (uri::VIDEO_ORIENTATION, 8),
        (uri::TRANSMISSION_OFFSET, 9),
        (uri::PLAYOUT_DELAY, 11),
    ];
    assert_eq!(extensions, expected);
}

#[test]
fn capture_times_are_announced_only_if_the_producer_has_them() {
    let mut params = vp8_params();
    params["headerExtensions"] = json!([{ "uri": uri::ABS_CAPTURE_TIME, "id": 9 }]);
    let consumable = video(&params).expect("VP8 is supported").consumable_rtp_parameters;
    let found = consumable.header_extensions.iter().find(|e| e.uri == uri::ABS_CAPTURE_TIME);
    assert_eq!(found.map(|extension| extension.id), Some(10));
}

#[test]
fn a_producer_without_rtx_still_gives_consumers_rtx() {
    let mut params = vp8_params();
    params["codecs"].as_array_mut().expect("a list").pop();
    let producer = video(&params).expect("VP8 is supported");
    assert_eq!(codec_pairs(&producer.rtp_mapping), [(96, 101)]);
    let consumable = &producer.consumable_rtp_parameters;
    assert_eq!(consumable.codecs[1].mime_type, "video/rtx");
}

#[test]
fn a_missing_encoding_is_made_if_mid_says_which_packets() {
    let mut params = vp8_params();
    params["encodings"] = json!([]);
    let producer = video(&params).expect("found by mid");
    assert_eq!(producer.rtp_parameters.encodings.len(), 1);
    assert_eq!(producer.rtp_mapping.encodings[0].ssrc, None);
    params.as_object_mut().expect("an object").remove("mid");
    assert_eq!(video(&params).expect_err("nothing says which").pointer(), "/encodings");
}

#[test]
fn a_missing_cname_is_the_callers() {
    for rtcp in [json!({}), json!({ "cname": "" }), Value::Null] {
        let mut params = vp8_params();
        params["rtcp"] = rtcp;
        let producer = video(&params).expect("VP8 is supported");
        assert_eq!(producer.consumable_rtp_parameters.rtcp.cname.as_deref(), Some("server"));
    }
}

#[test]
fn codecs_that_the_router_lacks_are_unsupported() {
    let caps = router(json!([{ "mimeType": "audio/opus", "clockRate": 48000, "channels": 2 }]));
    let error = negotiate(MediaKind::Video, &vp8_params(), &caps).expect_err("no VP8 there");
    let what = Unsupported::Codec("video/VP8".to_owned());
    assert_eq!(error, NegotiateError::Unsupported { pointer: "/codecs/0".to_owned(), what });
    let wrong_kind = negotiate(MediaKind::Audio, &vp8_params(), &default_router());
    assert_eq!(wrong_kind.expect_err("not audio").pointer(), "/codecs/0/mimeType");
}

#[test]
fn h264_goes_to_the_router_codec_of_its_profile() {
    let producer = |id: &str, mode: u8| {
        video(&h264_params(json!({ "profile-level-id": id, "packetization-mode": mode,
                                   "level-asymmetry-allowed": 1 })))
    };
    let pairs = |id| codec_pairs(&producer(id, 1).expect("supported").rtp_mapping);
    assert_eq!(pairs("42e01f"), [(111, 105)]);
    assert_eq!(pairs("42e034"), [(111, 105)]);
    assert_eq!(pairs("4d001f"), [(111, 107)]);
    assert!(matches!(producer("42e01f", 0), Err(NegotiateError::Unsupported { .. })));
    assert!(matches!(producer("64001f", 1), Err(NegotiateError::Unsupported { .. })));
    assert!(matches!(producer("42001f", 1), Err(NegotiateError::Unsupported { .. })));
    let error = producer("chicken", 1).expect_err("no id");
    assert_eq!(error.pointer(), "/codecs/0/parameters/profile-level-id");
}

#[test]
fn h264_without_asymmetry_is_lowered_to_the_routers_level() {
    let params = h264_params(json!({ "profile-level-id": "42e034", "packetization-mode": 1 }));
    let producer = video(&params).expect("supported");
    let text = |params: &RtpParameters| params.codecs[0].parameters["profile-level-id"].to_string();
    assert_eq!(text(&producer.rtp_parameters), "42e01f");
    assert_eq!(text(&producer.consumable_rtp_parameters), "42e01f");
}

#[test]
fn vp9_and_av1_profiles_must_agree() {
    let params = |name: &str, parameters: Value| {
        json!({ "codecs": [{ "mimeType": name, "payloadType": 96, "clockRate": 90000,
                             "parameters": parameters }], "encodings": [{ "ssrc": 1 }] })
    };
    assert!(video(&params("video/VP9", json!({}))).is_ok());
    assert!(video(&params("video/VP9", json!({ "profile-id": "0" }))).is_ok());
    assert!(video(&params("video/VP9", json!({ "profile-id": 2 }))).is_err());
    assert!(video(&params("video/AV1", json!({ "level-idx": 5, "tier": 0 }))).is_ok());
    assert!(video(&params("video/AV1", json!({ "profile": 1 }))).is_err());
}

/// RFC 7798 section 7.2.2 and what stands for missing values; levels may differ.
#[test]
fn h265_profile_tier_and_mode_must_agree() {
    let main = json!({ "profile-id": 1, "tier-flag": 0, "level-id": 93, "tx-mode": "SRST" });
    let caps = |parameters: &Value| {
        router(json!([{ "mimeType": "video/H265", "clockRate": 90000, "parameters": parameters }]))
    };
    let fits = |caps: &RtpCapabilities, parameters: Value| {
        let params = json!({
            "codecs": [{ "mimeType": "video/H265", "payloadType": 49, "clockRate": 90000,
                         "parameters": parameters }],
            "encodings": [{ "ssrc": 1 }]
        });
        negotiate(MediaKind::Video, &params, caps).is_ok()
    };
    for caps in [caps(&main), caps(&json!({}))] {
        assert!(fits(&caps, json!({})));
        assert!(fits(&caps, json!({ "profile-id": "1", "level-id": "180", "tx-mode": "srst" })));
        for other in [
            json!({ "profile-id": 2 }),
            json!({ "profile-id": "main" }),
            json!({ "tier-flag": 1 }),
            json!({ "tx-mode": "MRST" }),
        ] {
            assert!(!fits(&caps, other.clone()), "{other}");
        }
    }
    let other = caps(&json!({ "profile-id": 2 }));
    assert!(fits(&other, json!({ "profile-id": 2 })) && !fits(&other, json!({})));
}

#[test]
fn types_follow_streams_and_layers() {
    let of = |name: &str, encodings: Value| {
        let params = json!({
            "codecs": [{ "mimeType": name, "payloadType": 96, "clockRate": 90000,
                         "parameters": if name == "video/H264" {
                             json!({ "packetization-mode": 1 }) } else { json!({}) } }],
            "encodings": encodings
        });
        video(&params).map(|producer| producer.producer_type)
    };
    let one = |mode: &str| json!([{ "ssrc": 1, "scalabilityMode": mode }]);
    let two = || json!([{ "ssrc": 1 }, { "ssrc": 2 }]);
    assert_eq!(of("video/VP8", two()), Ok(ProducerType::Simulcast));
    assert_eq!(of("video/H264", two()), Ok(ProducerType::Simulcast));
    assert_eq!(of("video/VP8", one("L1T1")), Ok(ProducerType::Simple));
    assert_eq!(of("video/VP8", one("nonsense")), Ok(ProducerType::Simple));
    assert_eq!(of("video/VP8", one("L1T3")), Ok(ProducerType::Simulcast));
    assert_eq!(of("video/AV1", one("L1T1")), Ok(ProducerType::Simple));
    for (name, encodings, pointer) in [
        ("video/VP9", two(), "/encodings"),
        ("video/AV1", two(), "/encodings"),
        ("video/VP9", one("L3T3_KEY"), "/encodings/0/scalabilityMode"),
        ("video/AV1", one("L1T2"), "/encodings/0/scalabilityMode"),
        ("video/VP8", one("S2T1"), "/encodings/0/scalabilityMode"),
    ] {
        let error = of(name, encodings).expect_err("not in this version");
        assert!(matches!(error, NegotiateError::Unsupported { .. }), "{name}");
        assert_eq!(error.pointer(), pointer, "{name}");
    }
}

#[test]
fn one_codec_for_all_streams() {
    let mut params = vp8_params();
    params["codecs"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "mimeType": "video/H264", "payloadType": 99, "clockRate": 90000,
                "parameters": { "packetization-mode": 1 } }));
    params["encodings"] = json!([{ "ssrc": 1 }, { "ssrc": 2, "codecPayloadType": 99 }]);
    let error = video(&params).expect_err("two codecs");
    assert_eq!(error.pointer(), "/encodings/1/codecPayloadType");
    params["encodings"] = json!([{ "ssrc": 1, "codecPayloadType": 99 }]);
    assert!(video(&params).is_ok());
}

#[test]
fn the_same_codec_twice_is_consumable_once() {
    let mut params = vp8_params();
    params["codecs"]
        .as_array_mut()
        .expect("a list")
        .push(json!({ "mimeType": "video/VP8", "payloadType": 100, "clockRate": 90000 }));
    let producer = video(&params).expect("supported");
    assert_eq!(codec_pairs(&producer.rtp_mapping), [(96, 101), (100, 101), (97, 102)]);
    assert_eq!(producer.consumable_rtp_parameters.codecs.len(), 2);
}

#[test]
fn mapped_ssrcs_wrap_around() {
    let params: RtpParameters = read(&simulcast());
    let producer =
        crate::negotiate_producer(MediaKind::Video, params, &default_router(), u32::MAX, "x");
    let encodings = producer.expect("supported").rtp_mapping.encodings;
    assert_eq!(encodings.iter().map(|e| e.mapped_ssrc).collect::<Vec<_>>(), [u32::MAX, 0, 1]);
}
