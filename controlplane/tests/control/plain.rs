//! Plain transports through the API: their options and errors, connect, the events, the SDP, and that
//! a control plane that comes back knows them.

use futures::StreamExt as _;
use ironcast_api::{ConnectTransport, CreateTransport, EventData, SrtpCryptoSuite, SrtpParameters};
use ironcast_protocol::{Event, command::Tuple};
use serde_json::{Value, json};

use crate::stage::{Stage, chromium, id, produce};

async fn room() -> Stage {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    stage
}

fn create(id: &str, with: Value) -> Value {
    let mut body = json!({ "id": id, "routerId": "room", "type": "plain" });
    body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
    body
}

#[tokio::test]
async fn options_and_answers_are_those_of_its_kind() {
    let stage = room().await;
    let made = stage.ok("POST", "/v1/transports", create("a", json!({}))).await;
    assert_eq!(
        (&made["type"], &made["rtcpMux"], &made["comedia"]),
        (&json!("plain"), &json!(true), &json!(false))
    );
    assert_eq!(made["tuple"]["localPort"], 28_000);
    assert!(made["tuple"].get("remotePort").is_none() && made.get("rtcpTuple").is_none());
    assert!(made.get("iceParameters").is_none() && made.get("srtpParameters").is_none());
    let with = json!({ "listenAddress": "::1", "port": 5_004, "rtcpMux": false, "comedia": true, "enableSrtp": true });
    let made = stage.ok("POST", "/v1/transports", create("b", with)).await;
    assert_eq!(
        (&made["tuple"]["localIp"], &made["rtcpTuple"]["localPort"]),
        (&json!("::1"), &json!(5_005))
    );
    assert_eq!(made["srtpParameters"]["cryptoSuite"], "AES_CM_128_HMAC_SHA1_80");
    assert_eq!(made["srtpParameters"]["keyBase64"].as_str().unwrap().len(), 40);
    for (with, pointer) in [
        (json!({ "listenAddress": "somewhere" }), "/listenAddress"),
        (json!({ "srtpCryptoSuite": "ROT13", "enableSrtp": true }), "/srtpCryptoSuite"),
        (json!({ "iceConsentTimeout": 5 }), "/iceConsentTimeout"),
        (json!({ "enableRtx": true }), "/enableRtx"),
        (json!({ "port": 70_000 }), "/port"),
    ] {
        let refused = stage.refused("POST", "/v1/transports", create("c", with)).await;
        assert_eq!(refused, (400, "invalid_request".into(), pointer.into()));
    }
    let refused =
        stage.refused("POST", "/v1/transports", create("c", json!({ "enableSctp": true }))).await;
    assert_eq!((refused.0, refused.2.as_str()), (422, "/enableSctp"));
    let webrtc = json!({ "routerId": "room", "type": "webrtc", "comedia": true });
    assert_eq!(stage.refused("POST", "/v1/transports", webrtc).await.2, "/comedia");
    // What only a webrtc transport has.
    let refused = stage.refused("POST", "/v1/transports/a/restart-ice", Value::Null).await;
    assert_eq!((refused.0, refused.1.as_str()), (409, "wrong_state"));
    let stats = stage.ok("GET", "/v1/transports/a/stats", Value::Null).await;
    assert_eq!(stats[0]["type"], "plain-rtp-transport");
    assert!(stats[0]["tuple"]["localPort"].is_u64() && stats[0].get("iceState").is_none());
}

#[tokio::test]
async fn connect_is_refused_with_the_field_that_is_wrong() {
    let stage = room().await;
    let transports = [
        ("mux", json!({})),
        ("pair", json!({ "rtcpMux": false })),
        ("comedia", json!({ "comedia": true })),
        ("sealed", json!({ "enableSrtp": true })),
    ];
    for (id, with) in transports {
        stage.ok("POST", "/v1/transports", create(id, with)).await;
    }
    let key = |bytes: usize| {
        use base64::{Engine as _, prelude::BASE64_STANDARD};
        json!({ "cryptoSuite": "AES_CM_128_HMAC_SHA1_80", "keyBase64": BASE64_STANDARD.encode(vec![1; bytes]) })
    };
    let to = |port: u16| json!({ "ip": "127.0.0.1", "port": port });
    let and = |mut body: Value, name: &str, value: Value| {
        body[name] = value;
        body
    };
    for (id, body, status, pointer) in [
        ("mux", json!({}), 400, "/ip"),
        ("mux", json!({ "ip": "127.0.0.1" }), 400, "/port"),
        ("mux", json!({ "ip": "localhost", "port": 1 }), 400, "/ip"),
        ("mux", json!({ "ip": "::1", "port": 1 }), 400, "/ip"),
        ("mux", json!({ "ip": "192.0.2.9", "port": 1 }), 403, "/ip"),
        ("mux", and(to(1), "rtcpPort", 2.into()), 400, "/rtcpPort"),
        ("mux", and(to(1), "srtpParameters", key(30)), 400, "/srtpParameters"),
        ("mux", json!({ "dtlsParameters": crate::stage::dtls("client") }), 400, "/dtlsParameters"),
        ("pair", to(1), 400, "/rtcpPort"),
        ("comedia", to(1), 400, "/ip"),
        ("sealed", to(1), 400, "/srtpParameters"),
        ("sealed", and(to(1), "srtpParameters", key(29)), 400, "/srtpParameters/keyBase64"),
        (
            "sealed",
            and(to(1), "srtpParameters", json!({ "cryptoSuite": "NULL", "keyBase64": "" })),
            400,
            "/srtpParameters/cryptoSuite",
        ),
    ] {
        let path = format!("/v1/transports/{id}/connect");
        let refused = stage.refused("POST", &path, body.clone()).await;
        assert_eq!((refused.0, refused.2.as_str()), (status, pointer), "{id} {body}");
    }
    // Once, and the same again.
    let answer = stage.ok("POST", "/v1/transports/mux/connect", to(6_000)).await;
    assert_eq!(answer["tuple"]["remotePort"], 6_000);
    assert_eq!(stage.ok("POST", "/v1/transports/mux/connect", to(6_000)).await, answer);
    let refused = stage.refused("POST", "/v1/transports/mux/connect", to(6_002)).await;
    assert_eq!((refused.0, refused.1.as_str()), (409, "wrong_state"));
    stage.ok("POST", "/v1/transports/comedia/connect", json!({})).await;
    let sealed = and(to(6_004), "srtpParameters", key(30));
    let answer = stage.ok("POST", "/v1/transports/sealed/connect", sealed).await;
    assert_eq!(answer["srtpParameters"]["keyBase64"].as_str().unwrap().len(), 40);
}

#[tokio::test]
async fn a_control_plane_that_comes_back_knows_where_everybody_is() {
    let mut stage = room().await;
    for (id, with) in [
        ("given", json!({ "rtcpMux": false, "enableSrtp": true })),
        ("learned", json!({ "comedia": true })),
    ] {
        stage.ok("POST", "/v1/transports", create(id, with)).await;
    }
    let peer = ConnectTransport {
        ip: Some("127.0.0.1".into()),
        port: Some(6_000),
        rtcp_port: Some(6_001),
        srtp_parameters: Some(SrtpParameters {
            crypto_suite: SrtpCryptoSuite::AesCm128HmacSha1_32,
            key_base64: "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB".into(),
        }),
        ..ConnectTransport::default()
    };
    stage.client.connect_plain_transport(&id("given"), &peer).await.unwrap();
    stage.client.create_transport(&CreateTransport::plain(id("room"))).await.unwrap();
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut events = stage.client.events(Some(seq), None);
    let tuple = Tuple {
        local: ([127, 0, 0, 1], 28_000).into(),
        remote: ([127, 0, 0, 1], 9_000).into(),
        protocol: Default::default(),
    };
    for is_rtcp in [false, true] {
        let transport = "learned".to_owned();
        stage.fake.emit(Event::PlainTupleChange { transport, tuple, is_rtcp });
    }
    let mut seen = Vec::new();
    while seen.len() < 2 {
        match events.next().await.unwrap().unwrap().data {
            EventData::TransportTupleChange(change) => seen.push(change.tuple.remote_port),
            EventData::TransportRtcpTupleChange(change) => seen.push(change.rtcp_tuple.remote_port),
            _ => {}
        }
    }
    assert_eq!(seen, [Some(9_000), Some(9_000)]);
    let given = stage.ok("GET", "/v1/transports/given", Value::Null).await;
    assert_eq!(given["tuple"]["remotePort"], 6_000);
    let before = stage.state().await;
    stage.replace_server().await;
    let again = stage.ok("GET", "/v1/transports/given", Value::Null).await;
    assert_eq!(
        (&again["tuple"], &again["srtpParameters"]),
        (&given["tuple"], &given["srtpParameters"])
    );
    let ids = |state: &Value| state["routers"][0]["transports"].as_array().unwrap().len();
    assert_eq!((ids(&before), ids(&stage.state().await)), (3, 3));
    // What was carried out before is known, too.
    stage.client.connect_plain_transport(&id("given"), &peer).await.unwrap();
}

#[tokio::test]
async fn what_a_transport_sends_is_told_as_sdp() {
    let stage = room().await;
    stage.ok("POST", "/v1/transports", create("from", json!({ "comedia": true }))).await;
    stage
        .ok("POST", "/v1/transports", create("to", json!({ "rtcpMux": false, "enableSrtp": true })))
        .await;
    stage.ok("POST", "/v1/producers", produce("mic", "from", "opus")).await;
    let path = "/v1/transports/to/sdp";
    assert_eq!(stage.refused("GET", path, Value::Null).await.0, 409);
    let body = json!({ "ip": "127.0.0.1", "port": 6_000, "rtcpPort": 6_001, "srtpParameters": {
        "cryptoSuite": "AES_CM_128_HMAC_SHA1_80", "keyBase64": "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB" } });
    stage.ok("POST", "/v1/transports/to/connect", body).await;
    assert_eq!(stage.refused("GET", path, Value::Null).await.0, 409);
    let body = json!({ "transportId": "to", "producerId": "mic", "rtpCapabilities": chromium("rtpCapabilities") });
    let consumer = stage.ok("POST", "/v1/consumers", body).await;
    let sdp = stage.client.transport_sdp(&id("to")).await.unwrap();
    let parameters = &consumer["rtpParameters"];
    let payload_type = &parameters["codecs"][0]["payloadType"];
    for line in [
        "c=IN IP4 127.0.0.1".to_owned(),
        "a=rtcp:6001".to_owned(),
        format!("a=rtpmap:{payload_type} opus/48000/2"),
        format!(
            "a=ssrc:{} cname:{}",
            parameters["encodings"][0]["ssrc"],
            parameters["rtcp"]["cname"].as_str().unwrap()
        ),
    ] {
        assert!(sdp.lines().any(|one| one == line), "{line} in {sdp}");
    }
    assert!(sdp.contains("m=audio 6000 RTP/SAVP"), "{sdp}");
    assert!(sdp.contains("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"), "{sdp}");
    assert!(sdp.lines().all(|line| line.as_bytes()[1] == b'='), "{sdp}");
    assert_eq!(stage.refused("GET", "/v1/transports/from/sdp", Value::Null).await.0, 409);
}
