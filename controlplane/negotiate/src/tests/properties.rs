//! Properties over arbitrary input: nothing panics, and what we answer holds together.

use ironcast_api::{
    CodecParameters, MediaKind, ParameterValue, RtcpFeedback, RtcpParameters, RtpCapabilities,
    RtpCodecCapability, RtpCodecParameters, RtpEncodingParameters, RtpHeaderExtension,
    RtpHeaderExtensionDirection, RtpHeaderExtensionParameters, RtpParameters, RtxEncoding,
    parse_body,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;

use super::{consume, default_router, identity};
use crate::{
    ConsumerOptions, PipeIdentity, ValidRtpCapabilities, can_consume,
    generate_router_rtp_capabilities, get_consumer_rtp_parameters,
    get_pipe_consumer_rtp_parameters, negotiate_producer, parse_scalability_mode, uri,
    validate_and_normalize_rtp_capabilities, validate_and_normalize_rtp_parameters,
};

/// Any JSON, with the words of the API among its keys and texts.
fn json() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("codecs"),
        Just("encodings"),
        Just("mimeType"),
        Just("payloadType"),
        Just("ssrc"),
        Just("clockRate"),
        Just("parameters"),
        Just("apt"),
        Just("rtx"),
        Just("kind"),
        Just("rtcpFeedback"),
        Just("headerExtensions"),
        Just("video/VP8"),
        Just("video"),
    ]
    .prop_map(ToOwned::to_owned);
    let text = prop_oneof![3 => word, 1 => any::<String>()].boxed();
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (0u8..130).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        text.clone().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            btree_map(text.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn mime_type() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => prop::sample::select(vec![
            "video/VP8", "video/vp9", "video/H264", "video/AV1", "video/rtx", "audio/opus",
            "audio/PCMU", "audio/multiopus", "audio/red", "video/H265", "video/H266", "audio/rtx", "nonsense",
        ]).prop_map(ToOwned::to_owned),
        1 => ".{0,70}",
    ]
}

fn parameters() -> impl Strategy<Value = CodecParameters> {
    let name = prop::sample::select(vec![
        "apt",
        "profile-id",
        "profile-level-id",
        "packetization-mode",
        "level-asymmetry-allowed",
        "profile",
        "num_streams",
        "x",
    ])
    .prop_map(ToOwned::to_owned);
    let value = prop_oneof![
        (0u32..3).prop_map(ParameterValue::from),
        (96u32..105).prop_map(ParameterValue::from),
        prop::sample::select(vec!["42e01f", "4d0032", "640c1f", "42f00b", "zzzzzz", "", "1"])
            .prop_map(ParameterValue::from),
    ];
    btree_map(name, value, 0..5)
}

fn feedback() -> impl Strategy<Value = RtcpFeedback> {
    prop::sample::select(vec![
        ("nack", ""),
        ("nack", "pli"),
        ("ccm", "fir"),
        ("goog-remb", ""),
        ("transport-cc", ""),
        ("", ""),
        ("other", "x"),
    ])
    .prop_map(|(kind, parameter)| RtcpFeedback::new(kind, parameter))
}

fn uris() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        uri::MID,
        uri::RTP_STREAM_ID,
        uri::ABS_SEND_TIME,
        uri::TRANSPORT_WIDE_CC,
        uri::ABS_CAPTURE_TIME,
        uri::AUDIO_LEVEL,
        "urn:x",
        "",
    ])
    .prop_map(ToOwned::to_owned)
}

fn clock_rate() -> impl Strategy<Value = u32> {
    prop_oneof![5 => Just(90000u32), 2 => Just(48000u32), 1 => any::<u32>()]
}

prop_compose! {
    fn codec()(
        mime_type in mime_type(),
        payload_type in prop_oneof![5 => 96u8..105, 1 => any::<u8>()],
        clock_rate in clock_rate(),
        channels in option::of(0u8..3),
        parameters in parameters(),
        rtcp_feedback in vec(feedback(), 0..5),
    ) -> RtpCodecParameters {
        RtpCodecParameters {
            mime_type, payload_type, clock_rate, channels, parameters, rtcp_feedback,
        }
    }
}

prop_compose! {
    fn encoding()(
        ssrc in option::of(0u32..9),
        rid in option::of("[a-z]{0,2}"),
        codec_payload_type in option::weighted(0.1, 96u8..105),
        rtx in option::of(0u32..99),
        scalability_mode in option::of(prop_oneof!["[LS][0-9]{1,3}T[0-9](_KEY)?", ".{0,5}"]),
        max_bitrate in option::of(any::<u32>()),
    ) -> RtpEncodingParameters {
        RtpEncodingParameters {
            ssrc, rid, codec_payload_type, rtx: rtx.map(|ssrc| RtxEncoding { ssrc }),
            dtx: None, scalability_mode, max_bitrate,
        }
    }
}

prop_compose! {
    fn rtp_parameters()(
        mid in option::of("[a-z ]{0,17}"),
        codecs in vec(codec(), 0..4),
        extensions in vec((uris(), 0u8..16), 0..4),
        encodings in vec(encoding(), 0..4),
        cname in option::of("[a-z]{0,3}"),
    ) -> RtpParameters {
        let header_extensions = extensions
            .into_iter()
            .map(|(uri, id)| RtpHeaderExtensionParameters {
                uri, id, encrypt: false, parameters: CodecParameters::new(),
            })
            .collect();
        RtpParameters {
            mid, codecs, header_extensions, encodings,
            rtcp: RtcpParameters { cname, reduced_size: true }, msid: None,
        }
    }
}

prop_compose! {
    fn codec_capability()(codec in codec(), has_payload_type in any::<bool>())
        -> RtpCodecCapability
    {
        RtpCodecCapability {
            kind: None,
            mime_type: codec.mime_type,
            preferred_payload_type: has_payload_type.then_some(codec.payload_type),
            clock_rate: codec.clock_rate,
            channels: codec.channels,
            parameters: codec.parameters,
            rtcp_feedback: codec.rtcp_feedback,
        }
    }
}

prop_compose! {
    fn capabilities()(
        codecs in vec(codec_capability(), 0..6),
        extensions in vec((uris(), 0u8..8, any::<bool>()), 0..6),
    ) -> RtpCapabilities {
        let header_extensions = extensions
            .into_iter()
            .map(|(uri, preferred_id, video)| RtpHeaderExtension {
                kind: if video { MediaKind::Video } else { MediaKind::Audio },
                uri, preferred_id, preferred_encrypt: false,
                direction: RtpHeaderExtensionDirection::Sendrecv,
            })
            .collect();
        RtpCapabilities { codecs, header_extensions }
    }
}

fn kind() -> impl Strategy<Value = MediaKind> {
    prop_oneof![Just(MediaKind::Audio), Just(MediaKind::Video)]
}

/// Parameters that are right more often than not: so that the deep properties see many cases.
fn plausible() -> impl Strategy<Value = RtpParameters> {
    let mode = prop::sample::select(vec![None, Some("L1T1"), Some("L1T2"), Some("L1T3")]);
    let name = prop::sample::select(vec!["video/VP8", "video/H264"]);
    (name, any::<bool>(), 1usize..4, mode, option::of(1u32..5_000_000), 96u8..120).prop_map(
        |(name, has_rtx, streams, mode, max_bitrate, payload_type)| {
            let codec = |mime_type: &str, payload_type, parameters| RtpCodecParameters {
                mime_type: mime_type.to_owned(),
                payload_type,
                clock_rate: 90000,
                channels: None,
                parameters,
                rtcp_feedback: Vec::new(),
            };
            let media = CodecParameters::from([("packetization-mode".to_owned(), 1.into())]);
            let mut codecs = vec![codec(name, payload_type, media)];
            if has_rtx {
                let apt = [("apt".to_owned(), u32::from(payload_type).into())];
                codecs.push(codec("video/rtx", payload_type + 1, apt.into()));
            }
            let encodings = (0..streams)
                .map(|index| RtpEncodingParameters {
                    rid: Some(format!("r{index}")),
                    scalability_mode: mode.map(ToOwned::to_owned),
                    max_bitrate,
                    ..RtpEncodingParameters::default()
                })
                .collect();
            RtpParameters { codecs, encodings, ..RtpParameters::default() }
        },
    )
}

/// What a device that knows less than the router can do.
fn some_of_the_router() -> impl Strategy<Value = RtpCapabilities> {
    let router = default_router();
    let (codecs, extensions) = (router.codecs, router.header_extensions);
    let (codecs_max, extensions_max) = (codecs.len(), extensions.len());
    let codecs = prop::sample::subsequence(codecs, 0..=codecs_max);
    let extensions = prop::sample::subsequence(extensions, 0..=extensions_max);
    (codecs, extensions)
        .prop_map(|(codecs, header_extensions)| RtpCapabilities { codecs, header_extensions })
}

proptest! {
    #[test]
    fn any_json_is_read_or_refused(value in json(), kind in kind()) {
        let text = value.to_string();
        if let Ok(mut params) = parse_body::<RtpParameters>(text.as_bytes()) {
            let _ = validate_and_normalize_rtp_parameters(kind, &mut params);
        }
        if let Ok(mut caps) = parse_body::<RtpCapabilities>(text.as_bytes()) {
            let _ = validate_and_normalize_rtp_capabilities(&mut caps);
        }
    }

    #[test]
    fn any_parameters_are_negotiated_or_refused(params in rtp_parameters(), kind in kind()) {
        let _ = negotiate_producer(kind, params, &default_router(), 1, "x");
    }

    #[test]
    fn any_receiver_gets_valid_parameters_or_none(
        params in plausible(),
        remote in prop_oneof![4 => some_of_the_router(), 1 => capabilities()],
        enable_rtx in any::<bool>(),
        pipe in any::<bool>(),
    ) {
        let producer = negotiate_producer(MediaKind::Video, params, &default_router(), 1, "x")
            .expect("plausible parameters are supported");
        let consumable = &producer.consumable_rtp_parameters;
        let consumer = ValidRtpCapabilities::new(remote.clone()).and_then(|remote| {
            let options = ConsumerOptions {
                consumable_rtp_parameters: consumable,
                remote_rtp_capabilities: &remote,
                pipe,
                enable_rtx,
            };
            get_consumer_rtp_parameters(&options, &identity())
        });
        prop_assert_eq!(can_consume(consumable, &remote) == Ok(true), consumer.is_ok());
        if let Ok(consumer) = consumer {
            let mut normal = consumer.clone();
            validate_and_normalize_rtp_parameters(MediaKind::Video, &mut normal)
                .expect("ours are valid");
            prop_assert_eq!(&normal, &consumer);
            let has_rtx_codec = consumer.codecs.len() == 2;
            prop_assert!(enable_rtx || !has_rtx_codec);
            prop_assert!(consumer.encodings.iter().all(|e| e.rtx.is_some() == has_rtx_codec));
            let feedback = &consumer.codecs[0].rtcp_feedback;
            prop_assert!(feedback.iter().all(|feedback| feedback.kind != "transport-cc"));
            let mut uris = consumer.header_extensions.iter().map(|e| e.uri.as_str());
            prop_assert!(uris.all(|uri| uri != uri::TRANSPORT_WIDE_CC));
        }
    }

    #[test]
    fn any_codecs_make_a_router_or_are_refused(codecs in vec(codec_capability(), 0..6)) {
        if let Ok(caps) = generate_router_rtp_capabilities(&codecs) {
            let mut normal = caps.clone();
            validate_and_normalize_rtp_capabilities(&mut normal).expect("ours are valid");
            prop_assert_eq!(&normal, &caps);
            let mut types: Vec<_> =
                caps.codecs.iter().map(|codec| codec.preferred_payload_type).collect();
            types.sort();
            types.dedup();
            prop_assert_eq!(types.len(), caps.codecs.len());
        }
    }

    #[test]
    fn what_is_produced_is_consumable_by_the_router_itself(params in plausible()) {
        let caps = default_router();
        let streams = params.encodings.len();
        let producer = negotiate_producer(MediaKind::Video, params, &caps, 7, "x")
            .expect("plausible parameters are supported");
        prop_assert_eq!(producer.rtp_mapping.encodings.len(), streams);
        let consumable = producer.consumable_rtp_parameters;
        prop_assert_eq!(can_consume(&consumable, &caps), Ok(true));
        let consumer = consume(MediaKind::Video, &consumable, &caps).expect("consumable");
        prop_assert_eq!(consumer.codecs.len(), 2);
        // What a consumer gets could be produced again (as a pipe does), and consumed again.
        let again = negotiate_producer(MediaKind::Video, consumer, &caps, 9, "y");
        if streams == 1 {
            let again = again.expect("one stream without spatial layers");
            prop_assert_eq!(can_consume(&again.consumable_rtp_parameters, &caps), Ok(true));
        }
        let first = PipeIdentity { ssrc: 100, rtx_ssrc: 200 };
        let pipe = get_pipe_consumer_rtp_parameters(&consumable, true, first);
        let again = negotiate_producer(MediaKind::Video, pipe, &caps, 9, "y")
            .expect("the next router takes what a pipe carries");
        prop_assert_eq!(again.rtp_mapping.encodings.len(), streams);
    }

    #[test]
    fn any_text_is_a_scalability_mode(text in ".{0,12}") {
        let mode = parse_scalability_mode(&text);
        prop_assert!(mode.spatial_layers >= 1 && mode.temporal_layers >= 1);
    }
}

#[test]
fn scalability_modes_have_layers() {
    let layers = |text| {
        let mode = parse_scalability_mode(text);
        (mode.spatial_layers, mode.temporal_layers, mode.ksvc)
    };
    assert_eq!(layers("L1T3"), (1, 3, false));
    assert_eq!(layers("S3T2"), (3, 2, false));
    assert_eq!(layers("L3T3_KEY"), (3, 3, true));
    assert_eq!(layers("L4T7_KEY_SHIFT"), (4, 7, true));
    assert_eq!(layers("L20T3"), (20, 3, false));
    assert_eq!(layers("L0T3"), (1, 1, false));
    assert_eq!(layers("L200T3"), (1, 1, false));
    assert_eq!(layers(""), (1, 1, false));
}
