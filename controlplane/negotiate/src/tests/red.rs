//! RED around Opus: whom it comes from, whom it goes to, and where it stands.

use ironcast_api::{MediaKind, RtpCapabilities, RtpParameters};
use serde_json::{Value, json};

use super::{consume, default_router, negotiate, read, router};
use crate::{
    Fault, NegotiateError, PipeIdentity, can_consume, generate_router_rtp_capabilities,
    get_pipe_consumer_rtp_parameters,
};

fn red_router() -> RtpCapabilities {
    router(json!([
        { "mimeType": "audio/red", "clockRate": 48000, "channels": 2 },
        { "mimeType": "audio/opus", "clockRate": 48000, "channels": 2 },
        { "mimeType": "video/VP8", "clockRate": 90000 }
    ]))
}

/// Chromium's codecs, through a client that knows no parameter without a name.
fn params(codecs: &[(&str, u8)]) -> Value {
    let codecs: Vec<_> = codecs
        .iter()
        .map(|(name, payload_type)| {
            let parameters =
                if *name == "audio/red" { json!({ "111/111": "" }) } else { json!({}) };
            json!({ "mimeType": name, "payloadType": payload_type, "clockRate": 48000, "channels": 2,
                    "parameters": parameters })
        })
        .collect();
    json!({ "codecs": codecs, "encodings": [{ "ssrc": 11 }] })
}

const OPUS: (&str, u8) = ("audio/opus", 111);
const RED: (&str, u8) = ("audio/red", 63);

fn consumable(codecs: &[(&str, u8)], caps: &RtpCapabilities) -> RtpParameters {
    let producer = negotiate(MediaKind::Audio, &params(codecs), caps).expect("supported");
    producer.consumable_rtp_parameters
}

fn names(params: &RtpParameters) -> Vec<(&str, u8)> {
    params.codecs.iter().map(|codec| (codec.mime_type.as_str(), codec.payload_type)).collect()
}

#[test]
fn it_stands_behind_all_others_and_names_the_routers_opus() {
    let caps = red_router();
    let names: Vec<_> = caps.codecs.iter().map(|codec| codec.mime_type.as_str()).collect();
    assert_eq!(names, ["audio/opus", "video/VP8", "video/rtx", "audio/red"]);
    let red = serde_json::to_value(&caps.codecs[3]).expect("JSON");
    assert_eq!(red["parameters"], json!({ "": "101/101" }));
    assert!(default_router().codecs.iter().all(|codec| codec.mime_type != "audio/red"));
}

#[test]
fn a_router_without_opus_has_nothing_for_it() {
    let red = json!({ "mimeType": "audio/red", "clockRate": 48000, "channels": 2 });
    let pcmu = json!({ "mimeType": "audio/PCMU", "clockRate": 8000 });
    for codecs in [json!([red]), json!([red, pcmu])] {
        let codecs: Vec<_> = read(&codecs);
        let error = generate_router_rtp_capabilities(&codecs).expect_err("no Opus");
        let pointer = "/0/mimeType".to_owned();
        assert_eq!(error, NegotiateError::Invalid { pointer, fault: Fault::RedWithoutOpus });
    }
}

/// Whoever takes it gets it, also of a producer that does not send it; and the other way round.
#[test]
fn it_goes_to_who_takes_it() {
    let caps = red_router();
    for codecs in [&[OPUS][..], &[RED, OPUS], &[OPUS, RED]] {
        let consumable = consumable(codecs, &caps);
        let consumer = consume(MediaKind::Audio, &consumable, &caps).expect("Opus");
        assert_eq!(names(&consumer), [("audio/opus", 101), ("audio/red", 100)], "{codecs:?}");
        let mut plain = caps.clone();
        plain.codecs.retain(|codec| codec.mime_type != "audio/red");
        assert_eq!(can_consume(&consumable, &plain), Ok(true));
        let consumer = consume(MediaKind::Audio, &consumable, &plain).expect("Opus");
        assert_eq!(names(&consumer), [("audio/opus", 101)], "{codecs:?}");
        let mut nothing = caps.clone();
        nothing.codecs.retain(|codec| codec.mime_type == "audio/red");
        assert_eq!(can_consume(&consumable, &nothing), Ok(false));
        assert!(consume(MediaKind::Audio, &consumable, &nothing).is_err());
        let first = PipeIdentity { ssrc: 1, rtx_ssrc: 2 };
        let pipe = get_pipe_consumer_rtp_parameters(&consumable, true, first);
        assert_eq!(names(&pipe), [("audio/opus", 101)], "{codecs:?}");
    }
}

#[test]
fn a_producer_of_it_needs_opus_and_a_router_that_has_it() {
    let error = negotiate(MediaKind::Audio, &params(&[RED]), &red_router()).expect_err("no Opus");
    assert_eq!(
        (error.pointer(), matches!(error, NegotiateError::Invalid { .. })),
        ("/codecs", true)
    );
    let error = negotiate(MediaKind::Audio, &params(&[RED, OPUS]), &default_router());
    let error = error.expect_err("the router has none");
    assert_eq!(error.pointer(), "/codecs/0");
    let without = consumable(&[OPUS], &default_router());
    assert_eq!(names(&without), [("audio/opus", 100)]);
}
