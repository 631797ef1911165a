//! Tests of the API's shapes: names as mediasoup-client expects them, unknown fields, limits,
//! pointers of errors, events.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::events::{
    ConsumerEvent, ConsumerScoreEvent, LayersChangeReason, ProducerEvent, TransportIceStateChange,
};
use crate::*;

fn parse_value<T: DeserializeOwned>(value: Value) -> Result<T, Problem> {
    body::parse_value(&value)
}

fn id(text: &str) -> Id {
    Id::new(text).expect("the test's ids are valid")
}

#[test]
fn ids_are_1_to_64_of_few_characters() {
    for text in ["a", "room-7", "A.b_c:d-9", &"x".repeat(64)] {
        assert_eq!(Id::new(text).map(Id::into_string).as_deref(), Ok(text));
    }
    for text in ["", " ", "a b", "a/b", "ä", "a\n", "a%20b", &"x".repeat(65)] {
        assert!(Id::new(text).is_err(), "{text:?}");
    }
}

#[test]
fn envelopes_refuse_unknown_fields_and_media_shapes_ignore_them() {
    let problem = parse_body::<CreateRouter>(br#"{"id":"room-7","nmae":1}"#).expect_err("unknown");
    assert_eq!((problem.status, problem.code), (400, ErrorCode::InvalidRequest));
    assert_eq!(problem.pointer.as_deref(), Some("/nmae"));
    let producer: CreateProducer = parse_value(json!({
        "transportId": "t1",
        "kind": "video",
        "rtpParameters": {
            "mid": "1",
            "codecs": [{ "mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000,
                         "name": "VP8" }],
            "encodings": [{ "active": true, "scaleResolutionDownBy": 2.5, "maxBitrate": 300000,
                            "rid": "r0", "networkPriority": "high" }],
            "rtcp": { "cname": "x", "mux": true },
            "stopped": false
        }
    }))
    .expect("browsers add fields of their own");
    assert_eq!(producer.rtp_parameters.encodings[0].max_bitrate, Some(300_000));
}

#[test]
fn errors_point_to_the_field() {
    let cases = [
        (json!({ "mediaCodecs": [{ "mimeType": 7 }] }), "/mediaCodecs/0/mimeType"),
        (
            json!({ "mediaCodecs": [{ "mimeType": "a/b", "clockRate": -1 }] }),
            "/mediaCodecs/0/clockRate",
        ),
        (json!({ "id": "a b" }), "/id"),
        (json!({ "placement": "nearest" }), "/placement"),
        (json!({ "appData": "text" }), "/appData"),
        (json!({ "appData": { "x": "y".repeat(9000) } }), "/appData"),
        (
            json!({ "mediaCodecs": [{ "mimeType": "a/b", "clockRate": 1,
                                   "parameters": { "a/b": true } }] }),
            "/mediaCodecs/0/parameters/a~1b",
        ),
    ];
    for (body, pointer) in cases {
        let text = body.to_string();
        let problem = parse_body::<CreateRouter>(text.as_bytes()).expect_err(&text);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{text}");
        let problem = parse_value::<CreateRouter>(body).expect_err(&text);
        assert_eq!(problem.pointer.as_deref(), Some(pointer), "{text}");
    }
    for text in ["{", "[]", "null", "{} {}", "\"\"", "\u{0}"] {
        assert!(parse_body::<CreateRouter>(text.as_bytes()).is_err(), "{text}");
    }
}

#[test]
fn an_empty_body_is_an_empty_object() {
    assert_eq!(parse_body::<CreateRouter>(b" \n"), Ok(CreateRouter::default()));
    assert_eq!(parse_value::<PatchTransport>(Value::Null), Ok(PatchTransport::default()));
    assert!(parse_body::<CreateProducer>(b"").is_err());
}

#[test]
fn app_data_has_a_limit() {
    let text = |length: usize| json!({ "x": "y".repeat(length) });
    // Braces, quotes and the colon are 8 bytes.
    assert!(serde_json::from_value::<AppData>(text(APP_DATA_BYTES_MAX - 8)).is_ok());
    assert!(serde_json::from_value::<AppData>(text(APP_DATA_BYTES_MAX - 7)).is_err());
    assert!(serde_json::from_value::<AppData>(json!([])).is_err());
    assert!(serde_json::from_value::<AppData>(Value::Null).expect("unset").is_empty());
}

#[test]
fn problems_have_the_shape_and_status_of_their_code() {
    for code in ErrorCode::ALL {
        assert_eq!(serde_json::to_value(code).expect("JSON"), code.as_str());
        assert_eq!(Problem::new(code, "x").status, code.status());
    }
    let problem = Problem::new(ErrorCode::NoCapacity, "every worker is full").with_retry_after(5);
    let expected = json!({
        "type": "urn:ironcast:problem:no_capacity", "title": "Every worker is full",
        "status": 503, "code": "no_capacity", "detail": "every worker is full", "retryAfter": 5
    });
    assert_eq!(serde_json::to_value(&problem).expect("JSON"), expected);
    let back: Problem = serde_json::from_value(expected).expect("a problem");
    assert_eq!(back, problem);
}

#[test]
fn sequence_numbers_are_texts_in_order() {
    let parse = |text: &str| text.parse::<EventSeq>();
    assert_eq!(parse("1732180000-42"), Ok(EventSeq::new(1_732_180_000, 42)));
    for text in ["", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1- 2", "1-99999999999999999999", "a-b"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    assert!(EventSeq::new(1, 9) < EventSeq::new(1, 10));
    assert!(EventSeq::new(1, 10) < EventSeq::new(2, 0));
    assert_eq!(EventSeq::new(1, 9).next().to_string(), "1-10");
    assert_eq!(serde_json::to_value(EventSeq::new(3, 4)).expect("JSON"), "3-4");
}

#[test]
fn events_are_read_as_they_are_written() {
    let consumer = ConsumerEvent {
        consumer_id: id("c1"),
        transport_id: id("t1"),
        participant_id: Some(id("alice")),
        producer_id: id("p1"),
    };
    let score = ConsumerScore { score: 9, producer_score: 10, producer_scores: vec![10, 0] };
    let event = Event {
        seq: EventSeq::new(1, 7),
        time: 1_732_180_000_123,
        router_id: Some(id("room-7")),
        data: EventData::ConsumerScore(ConsumerScoreEvent { consumer, score }),
    };
    let value = serde_json::to_value(&event).expect("JSON");
    let expected = json!({
        "seq": "1-7", "time": 1_732_180_000_123_u64, "routerId": "room-7", "consumerId": "c1",
        "transportId": "t1", "participantId": "alice", "producerId": "p1",
        "score": { "score": 9, "producerScore": 10, "producerScores": [10, 0] }
    });
    assert_eq!(value, expected);
    assert_eq!(event.name(), "consumer.score");
    assert!(event.data.is_coalesced());
    let back = Event::parse("consumer.score", &value.to_string()).expect("an event");
    assert_eq!(back, event);
}

#[test]
fn events_of_one_shape_keep_their_names() {
    let producer = ProducerEvent {
        producer_id: id("p1"),
        transport_id: id("t1"),
        participant_id: None,
        kind: MediaKind::Audio,
    };
    let event = Event {
        seq: EventSeq::new(1, 8),
        time: 1,
        router_id: None,
        data: EventData::ProducerPaused(producer),
    };
    let text = serde_json::to_string(&event).expect("JSON");
    assert_eq!(Event::parse("producer.paused", &text).expect("an event"), event);
    assert_ne!(Event::parse("producer.resumed", &text).expect("an event"), event);
    assert!(matches!(
        Event::parse("producer.invented", &text),
        Err(events::EventError::UnknownName(_))
    ));
    assert!(Event::parse("consumer.created", &text).is_err());
    assert!(EventData::NAMES.contains(&"transport.icestatechange"));
}

#[test]
fn states_are_mediasoups_words() {
    let event = EventData::TransportIceStateChange(TransportIceStateChange {
        transport_id: id("t1"),
        participant_id: None,
        ice_state: IceState::Completed,
    });
    let expected = json!({ "transportId": "t1", "iceState": "completed" });
    assert_eq!(serde_json::to_value(event).expect("JSON"), expected);
    let reason = serde_json::to_value(LayersChangeReason::Bandwidth).expect("JSON");
    assert_eq!(reason, "bandwidth");
}

/// What a test router shows.
fn router_info() -> RouterInfo {
    RouterInfo {
        id: id("room-7"),
        worker_id: id("0"),
        workers: vec![id("0")],
        rtp_capabilities: RtpCapabilities::default(),
        media_codecs: Vec::new(),
        last_n: None,
        loudest_n: None,
        owner: None,
        created_at: 5,
        app_data: AppData::default(),
    }
}

#[test]
fn a_snapshot_nests_what_belongs_together() {
    let snapshot = Snapshot {
        seq: EventSeq::new(1, 0),
        workers: Vec::new(),
        routers: vec![RouterSnapshot {
            router: router_info(),
            transports: Vec::new(),
            observers: Vec::new(),
        }],
        next_after: None,
    };
    let value = serde_json::to_value(&snapshot).expect("JSON");
    assert_eq!(value["routers"][0]["id"], "room-7");
    assert_eq!(value["routers"][0]["transports"], json!([]));
    let back: Snapshot = serde_json::from_value(value).expect("a snapshot");
    assert_eq!(back, snapshot);
}

#[test]
fn a_transport_is_what_mediasoup_client_wants() {
    let candidate = IceCandidate {
        foundation: "udpcandidate".to_owned(),
        priority: 1_076_302_079,
        ip: "192.0.2.1".to_owned(),
        address: "192.0.2.1".to_owned(),
        protocol: TransportProtocol::Udp,
        port: 40000,
        kind: IceCandidateType::Host,
        tcp_type: None,
    };
    let expected = json!({
        "foundation": "udpcandidate", "priority": 1_076_302_079, "ip": "192.0.2.1",
        "address": "192.0.2.1", "protocol": "udp", "port": 40000, "type": "host"
    });
    assert_eq!(serde_json::to_value(candidate).expect("JSON"), expected);
    let body = json!({ "routerId": "room-7", "type": "webrtc", "participantId": "alice" });
    let create: CreateTransport = parse_value(body).expect("a transport");
    let participant_id = Some(id("alice"));
    assert_eq!(create, CreateTransport { participant_id, ..CreateTransport::webrtc(id("room-7")) });
    let plain = json!({ "routerId": "r", "type": "plain", "comedia": true, "rtcpMux": false });
    let create: CreateTransport = parse_value(plain).expect("known, though not supported");
    assert_eq!(create.kind, TransportType::Plain);
    assert!(parse_value::<CreateTransport>(json!({ "routerId": "r", "type": "bus" })).is_err());
}

#[test]
fn fingerprints_are_hex_of_the_right_length() {
    let fingerprint =
        |algorithm, value: &str| DtlsFingerprint { algorithm, value: value.to_owned() };
    let sha1 = vec!["aB"; 20].join(":");
    assert_eq!(fingerprint(FingerprintAlgorithm::Sha1, &sha1).bytes(), Some(vec![0xab; 20]));
    assert_eq!(fingerprint(FingerprintAlgorithm::Sha256, &sha1).bytes(), None);
    for wrong in
        ["", "AB", &sha1.replace(':', ""), &sha1.replace("aB", "+1"), &sha1.replace('B', "é")]
    {
        assert_eq!(fingerprint(FingerprintAlgorithm::Sha1, wrong).bytes(), None, "{wrong}");
    }
    let json = json!({ "fingerprints": [{ "algorithm": "sha-256", "value": "AB" }], "x": 1 });
    let parameters: DtlsParameters = serde_json::from_value(json).expect("unknown is ignored");
    assert_eq!(parameters.role, DtlsRole::Auto);
    // Names are the same in capitals, and one that is new to us harms no other (RFC 8122).
    let algorithm = |name: &str| serde_json::from_value::<FingerprintAlgorithm>(json!(name));
    assert_eq!(algorithm("SHA-256").unwrap(), FingerprintAlgorithm::Sha256);
    assert_eq!(algorithm("Sha-256").unwrap(), FingerprintAlgorithm::Sha256);
    assert_eq!(algorithm("sha3-256").unwrap(), FingerprintAlgorithm::Unknown);
}

#[test]
fn consumers_have_priorities_from_1() {
    let patch = |value| parse_value::<PatchConsumer>(value);
    let layers = json!({ "preferredLayers": { "spatialLayer": 1 }, "priority": 255 });
    let patched = patch(layers).expect("right");
    let layers = ConsumerLayers { spatial_layer: 1, temporal_layer: None };
    assert_eq!((patched.preferred_layers, patched.priority), (Some(layers), Some(255)));
    let problem = patch(json!({ "priority": 0 })).expect_err("0 is none");
    assert_eq!(problem.pointer.as_deref(), Some("/priority"));
    let problem = patch(json!({ "preferredLayers": { "spatial": 1 } })).expect_err("wrong name");
    assert_eq!(problem.pointer.as_deref(), Some("/preferredLayers/spatial"));
}

#[test]
fn codec_parameters_are_numbers_or_texts() {
    let parameters: CodecParameters =
        serde_json::from_value(json!({ "a": 1, "b": "x", "c": null, "d": -1, "e": 0.5 }))
            .expect("right");
    assert_eq!(parameters["a"].as_u64(), Some(1));
    assert_eq!(parameters["c"], ParameterValue::Text(String::new()));
    assert_eq!(parameters["d"].to_string(), "-1");
    let back = serde_json::to_value(&parameters).expect("JSON");
    assert_eq!(back, json!({ "a": 1, "b": "x", "c": "", "d": -1, "e": 0.5 }));
    for wrong in [json!({ "a": true }), json!({ "a": [1] }), json!({ "a": {} })] {
        assert!(serde_json::from_value::<CodecParameters>(wrong).is_err());
    }
}

#[test]
fn statistics_have_mediasoups_names() {
    let stats = TransportStats { transport_id: "t1".to_owned(), ..Default::default() };
    let value = serde_json::to_value(stats).expect("JSON");
    assert_eq!(value["type"], "webrtc-transport");
    assert_eq!(value["rtpRecvBitrate"], 0);
    assert!(value.get("availableOutgoingBitrate").is_none());
    let stream = json!({
        "type": "inbound-rtp", "timestamp": 1, "ssrc": 2, "kind": "video", "mimeType": "video/VP8",
        "packetsLost": -1, "fractionLost": 0, "jitter": 3, "packetsDiscarded": 0,
        "packetsRetransmitted": 0, "packetsRepaired": 0, "nackCount": 0, "nackPacketCount": 0,
        "pliCount": 0, "firCount": 0, "score": 10, "packetCount": 5, "byteCount": 6, "bitrate": 7,
        "bitrateByLayer": { "0.0": 7 }
    });
    let stats: RtpStreamStats = serde_json::from_value(stream.clone()).expect("mediasoup's record");
    assert_eq!(stats.direction, RtpStreamStatsType::InboundRtp);
    assert_eq!(serde_json::to_value(stats).expect("JSON"), stream);
}

#[cfg(feature = "openapi")]
#[test]
fn schemas_say_what_is_read() {
    use salvo_oapi::{Components, ToSchema};
    let mut components = Components::new();
    let _ = Snapshot::to_schema(&mut components);
    let _ = CreateProducer::to_schema(&mut components);
    let _ = Problem::to_schema(&mut components);
    let text = serde_json::to_string(&components).expect("JSON");
    for word in ["rtpCapabilities", "preferredPayloadType", "workerId", "retryAfter", "iceLite"] {
        assert!(text.contains(word), "{word}");
    }
}
