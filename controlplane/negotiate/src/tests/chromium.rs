//! What Chromium 156 really sends through mediasoup-client 3.24.1, unchanged. The fixture was
//! recorded with the default router: microphone with DTX, camera in several codecs.

use ironcast_api::{MediaKind, ProducerType, RtpCapabilities};
use serde_json::Value;

use super::{consume, default_router, negotiate, read};
use crate::{NegotiateError, NegotiatedProducer, can_consume, uri};

fn fixture() -> Value {
    serde_json::from_str(include_str!("chromium.json")).expect("the fixture is JSON")
}

fn device() -> RtpCapabilities {
    read(&fixture()["rtpCapabilities"])
}

fn produce(name: &str) -> (MediaKind, Result<NegotiatedProducer, NegotiateError>) {
    let fixture = fixture();
    let producers = fixture["producers"].as_array().expect("a list");
    let producer = producers.iter().find(|p| p["name"] == name).expect("it was recorded");
    let kind = read(&producer["kind"]);
    (kind, negotiate(kind, &producer["rtpParameters"], &default_router()))
}

#[test]
fn its_producers_are_understood() {
    let cases = [
        ("opus", ProducerType::Simple, &[(111, 100)][..]),
        ("vp8-simulcast", ProducerType::Simulcast, &[(96, 101), (97, 102)]),
        ("h264-simulcast", ProducerType::Simulcast, &[(108, 105), (109, 106)]),
        ("vp9", ProducerType::Simple, &[(98, 103), (99, 104)]),
        ("av1", ProducerType::Simple, &[(45, 109), (46, 110)]),
        ("h264-main", ProducerType::Simple, &[(116, 107), (117, 108)]),
    ];
    for (name, producer_type, codecs) in cases {
        let (_, producer) = produce(name);
        let producer = producer.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(producer.producer_type, producer_type, "{name}");
        let mapped: Vec<_> = producer
            .rtp_mapping
            .codecs
            .iter()
            .map(|mapping| (mapping.payload_type, mapping.mapped_payload_type))
            .collect();
        assert_eq!(mapped, codecs, "{name}");
    }
    let (_, svc) = produce("vp9-svc");
    let error = svc.expect_err("not in this version");
    assert_eq!(error.pointer(), "/encodings/0/scalabilityMode");
}

#[test]
fn it_consumes_what_it_produces() {
    for name in ["opus", "vp8-simulcast", "h264-simulcast", "vp9", "av1", "h264-main"] {
        let (kind, producer) = produce(name);
        let consumable = producer.expect("supported").consumable_rtp_parameters;
        assert_eq!(can_consume(&consumable, &device()), Ok(true), "{name}");
        let consumer = consume(kind, &consumable, &device()).expect("consumable");
        let has_rtx = consumer.encodings[0].rtx.is_some();
        assert_eq!(has_rtx, kind == MediaKind::Video, "{name}");
        let has_feedback = |kind: &str| {
            consumer.codecs[0].rtcp_feedback.iter().any(|feedback| feedback.kind == kind)
        };
        assert_eq!(has_feedback("goog-remb"), kind == MediaKind::Video, "{name}");
        assert!(!has_feedback("transport-cc"), "{name}");
        let has_extension =
            |uri: &str| consumer.header_extensions.iter().any(|extension| extension.uri == uri);
        assert!(has_extension(uri::MID) && has_extension(uri::ABS_SEND_TIME), "{name}");
        assert!(!has_extension(uri::TRANSPORT_WIDE_CC), "{name}");
    }
}

#[test]
fn its_simulcast_has_three_by_three_layers() {
    let (kind, producer) = produce("vp8-simulcast");
    let producer = producer.expect("supported");
    let rids: Vec<_> =
        producer.rtp_mapping.encodings.iter().filter_map(|e| e.rid.as_deref()).collect();
    assert_eq!(rids, ["r0", "r1", "r2"]);
    // Chromium gives no CNAME for simulcast.
    assert_eq!(producer.rtp_parameters.rtcp.cname.as_deref(), Some("server"));
    let consumer = consume(kind, &producer.consumable_rtp_parameters, &device()).expect("VP8");
    assert_eq!(consumer.encodings[0].scalability_mode.as_deref(), Some("L3T3"));
}

#[test]
fn its_opus_keeps_what_the_receiver_must_know() {
    let (kind, producer) = produce("opus");
    let consumable = producer.expect("supported").consumable_rtp_parameters;
    let consumer = consume(kind, &consumable, &device()).expect("Opus");
    let parameters = serde_json::to_value(&consumer.codecs[0].parameters).expect("JSON");
    assert_eq!(parameters["usedtx"], 1);
    assert_eq!(parameters["useinbandfec"], 1);
    assert_eq!(parameters["sprop-stereo"], 1);
}
