//! Every call about routers, transports, producers and consumers: right and wrong input.

use ironcast_api::{
    CreateConsumer, CreateRouter, CreateTransport, PatchConsumer, PatchTransport,
    events::LayersChangeReason,
};
use ironcast_client::ListPage;
use ironcast_protocol::{Command, command::DtlsRole, media::RtpType};
use serde_json::{Value, json};

use crate::stage::{self, Stage, chromium, dtls, id, produce};

#[tokio::test]
async fn a_call_of_two_from_the_first_request_to_the_last() {
    let stage = Stage::new().await;
    let client = &stage.client;
    let create = CreateRouter { id: Some(id("room")), ..CreateRouter::default() };
    let router = client.create_router(&create).await.unwrap();
    let mimes: Vec<_> = router.media_codecs.iter().map(|codec| codec.mime_type.as_str()).collect();
    assert_eq!(
        mimes,
        ["audio/opus", "video/VP8", "video/VP9", "video/H264", "video/H264", "video/AV1"]
    );
    let create = CreateTransport {
        participant_id: Some(id("alice")),
        ice_consent_timeout: Some(7),
        ice_disconnected_timeout: Some(90),
        ..CreateTransport::webrtc(id("room"))
    };
    let send = client.create_transport(&create).await.unwrap();
    let link = send.webrtc().unwrap();
    assert!(link.ice_parameters.ice_lite && link.ice_candidates.len() == 1);
    let parameters = serde_json::from_value(dtls("client")).unwrap();
    let connected = client.connect_transport(&send.id, &parameters).await.unwrap();
    assert_eq!(connected.dtls_local_role, ironcast_api::DtlsRole::Server);
    let body = produce("cam", &send.id, "vp8-simulcast");
    let producer = client.create_producer(&serde_json::from_value(body).unwrap()).await.unwrap();
    assert_eq!(producer.producer_type, ironcast_api::ProducerType::Simulcast);
    let caps: ironcast_api::RtpCapabilities =
        serde_json::from_value(chromium("rtpCapabilities")).unwrap();
    assert!(client.can_consume(&id("room"), &id("cam"), &caps).await.unwrap());
    let create = CreateTransport {
        participant_id: Some(id("bob")),
        rtp_capabilities: Some(caps),
        ..CreateTransport::webrtc(id("room"))
    };
    let receive = client.create_transport(&create).await.unwrap();
    let consumer = client
        .create_consumer(&CreateConsumer {
            id: Some(id("seen")),
            transport_id: receive.id.clone(),
            producer_id: id("cam"),
            rtp_capabilities: None,
            paused: Some(true),
            preferred_layers: None,
            mid: None,
            enable_rtx: None,
            ignore_dtx: None,
            pipe: None,
            app_data: None,
        })
        .await
        .unwrap();
    assert!(consumer.paused && consumer.participant_id == Some(id("bob")));
    let parameters = &consumer.rtp_parameters;
    assert_eq!(parameters.mid.as_deref(), Some("0"));
    assert_eq!(parameters.encodings.len(), 1);
    assert!(parameters.encodings[0].rtx.is_some());
    client.resume_consumer(&id("seen")).await.unwrap();
    client.request_key_frame(&id("seen")).await.unwrap();
    let layers = ironcast_api::ConsumerLayers { spatial_layer: 9, temporal_layer: Some(1) };
    let patch = PatchConsumer { preferred_layers: Some(layers), priority: Some(9) };
    let patched = client.patch_consumer(&id("seen"), &patch).await.unwrap();
    assert_eq!((patched.priority, patched.preferred_layers.unwrap().spatial_layer), (9, 2));
    client.pause_producer(&id("cam")).await.unwrap();
    assert!(client.consumer(&id("seen")).await.unwrap().producer_paused);
    client.resume_producer(&id("cam")).await.unwrap();
    client.pause_consumer(&id("seen")).await.unwrap();
    let patch = PatchTransport { max_incoming_bitrate: Some(1_000_000), ..Default::default() };
    let patched = client.patch_transport(&send.id, &patch).await.unwrap();
    assert_eq!(patched.max_incoming_bitrate, Some(1_000_000));
    let patch = PatchTransport { max_incoming_bitrate: Some(0), ..Default::default() };
    let patched = client.patch_transport(&send.id, &patch).await.unwrap();
    assert_eq!(patched.max_incoming_bitrate, None);
    let restarted = client.restart_ice(&send.id).await.unwrap().ice_parameters;
    let now = client.transport(&send.id).await.unwrap();
    assert_eq!(now.webrtc().unwrap().ice_parameters, restarted);
    assert_eq!(client.transport_stats(&send.id).await.unwrap()[0].transport_id, send.id.as_str());
    let stats = client.consumer_stats(&id("seen")).await.unwrap();
    assert_eq!((stats.len(), stats[0].jitter, stats[0].packets_lost), (2, 900, -1));
    assert_eq!(stats[0].layers_reason, Some(LayersChangeReason::Bandwidth));
    assert_eq!(stats[1].layers_reason, None);
    assert_eq!(client.producer_stats(&id("cam")).await.unwrap().len(), 1);
    for dump in [
        client.transport_dump(&send.id).await.unwrap(),
        client.producer_dump(&id("cam")).await.unwrap(),
        client.consumer_dump(&id("seen")).await.unwrap(),
    ] {
        assert!(dump.is_object() && !dump.to_string().contains("\"note\""), "{dump}");
    }
    let details = client.router(&id("room")).await.unwrap();
    assert_eq!(
        (details.transports.len(), details.producers, details.consumers),
        (2, vec![id("cam")], vec![id("seen")])
    );
    let left = client.leave(&id("room"), &id("alice")).await.unwrap();
    assert_eq!(left.transport_ids, [send.id]);
    assert!(client.leave(&id("room"), &id("alice")).await.unwrap().transport_ids.is_empty());
    assert_eq!(stage::code(&client.consumer(&id("seen")).await.unwrap_err()), "not_found");
    client.delete_router(&id("room")).await.unwrap();
    client.delete_router(&id("room")).await.unwrap();
    assert!(stage.fake.resources().is_empty());
    assert_eq!(client.snapshot(None).await.unwrap().routers, []);
    let consent = stage.fake.commands().into_iter().find_map(|command| match command {
        Command::CreateWebRtcTransport(create) => {
            Some((create.consent_timeout_s, create.disconnected_timeout_s))
        }
        _ => None,
    });
    assert_eq!(consent, Some((7, 90)));
}

#[tokio::test]
async fn the_dataplane_gets_final_parameters() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let mut ssrcs = Vec::new();
    for command in stage.fake.commands() {
        match command {
            Command::ConnectTransport(connect) => {
                assert_eq!((connect.role, connect.fingerprints.len()), (DtlsRole::Client, 1));
            }
            Command::Produce(produce) if produce.id == "room-cam" => {
                let rids: Vec<_> = produce
                    .rtp_mapping
                    .encodings
                    .iter()
                    .map(|one| one.rid.clone().unwrap())
                    .collect();
                assert_eq!(rids, ["r0", "r1", "r2"]);
                ssrcs.extend(produce.rtp_mapping.encodings.iter().map(|one| one.mapped_ssrc));
                assert!(!produce.rtp_parameters.rtcp.cname.is_empty());
            }
            Command::Consume(consume) if consume.id == "room-bob-cam" => {
                assert_eq!(consume.rtp_type, RtpType::Simulcast);
                let encoding = &consume.rtp_parameters.encodings[0];
                ssrcs.extend([encoding.ssrc.unwrap(), encoding.rtx_ssrc.unwrap()]);
                let layers = consume.preferred_layers.unwrap();
                assert_eq!((layers.spatial, layers.temporal), (2, 2));
            }
            _ => {}
        }
    }
    let unique: std::collections::BTreeSet<_> = ssrcs.iter().collect();
    assert_eq!((ssrcs.len(), unique.len()), (5, 5), "{ssrcs:?}");
}

/// What a transport has used up is then one run in the dataplane's memory, however long it lasts.
#[tokio::test]
async fn consumers_of_a_transport_have_ssrcs_in_a_row() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    for number in 0..40 {
        let id = format!("again-{number}");
        let producer = ["room-mic", "room-cam"][number % 2];
        let body = json!({ "id": id, "transportId": "room-bob-recv", "producerId": producer });
        stage.ok("POST", "/v1/consumers", body).await;
        stage.ok("DELETE", &format!("/v1/consumers/{id}"), Value::Null).await;
    }
    let first = |command| match command {
        Command::Consume(consume) => consume.rtp_parameters.encodings[0].ssrc,
        _ => None,
    };
    let ssrcs: Vec<u32> = stage.fake.commands().into_iter().filter_map(first).collect();
    assert_eq!(ssrcs.len(), 42);
    // A number that is taken, or special, is passed over: hardly ever.
    let breaks = ssrcs.windows(2).filter(|pair| pair[1].wrapping_sub(pair[0]) != 2).count();
    assert!(breaks <= 1, "{ssrcs:?}");
}

#[tokio::test]
async fn wrong_input_names_its_place() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/routers", json!({ "id": "other" })).await;
    stage
        .ok("POST", "/v1/transports", json!({ "id": "far", "routerId": "other", "type": "webrtc" }))
        .await;
    let caps = chromium("rtpCapabilities");
    let consume = |more: Value| {
        let mut body = json!({ "transportId": "room-bob-recv", "producerId": "room-cam" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let transport = |more: Value| {
        let mut body = json!({ "routerId": "room", "type": "webrtc" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let mut doubled = produce("x", "room-alice-send", "opus");
    doubled["rtpParameters"]["codecs"][0]["payloadType"] = json!(200);
    let mut unknown = produce("x", "room-alice-send", "opus");
    unknown["colour"] = json!(1);
    let big = json!({ "x": "y".repeat(9_000) });
    let connect = "/v1/transports/far/connect";
    let short = json!({ "dtlsParameters": { "fingerprints": [{ "algorithm": "sha-256", "value": "AB" }] } });
    let sha1 = json!({ "dtlsParameters": { "fingerprints": [
        { "algorithm": "sha-1", "value": vec!["AB"; 20].join(":") },
        { "algorithm": "sha3-256", "value": "of tomorrow" },
    ] } });
    let cases = [
        ("POST", "/v1/routers", json!({ "id": "a b" }), 400, "invalid_request", "/id"),
        ("POST", "/v1/routers", json!({ "id": "x".repeat(65) }), 400, "invalid_request", "/id"),
        ("POST", "/v1/routers", json!({ "appData": big }), 400, "invalid_request", "/appData"),
        (
            "POST",
            "/v1/routers",
            json!({ "mediaCodecs": [{ "mimeType": "video/none", "clockRate": 1 }] }),
            422,
            "unsupported",
            "/mediaCodecs/0/mimeType",
        ),
        ("POST", "/v1/routers", json!({ "workerId": "77" }), 404, "not_found", ""),
        ("POST", "/v1/routers", json!({ "lastN": 0 }), 400, "invalid_request", "/lastN"),
        ("POST", "/v1/routers", json!({ "loudestN": 1_001 }), 400, "invalid_request", "/loudestN"),
        ("GET", "/v1/routers?limit=0", Value::Null, 400, "invalid_request", "?limit"),
        ("GET", "/v1/routers?limit=many", Value::Null, 400, "invalid_request", "?limit"),
        ("GET", "/v1/routers?colour=1", Value::Null, 400, "invalid_request", "?colour"),
        ("GET", "/v1/routers/a%20b", Value::Null, 400, "invalid_request", ""),
        ("GET", "/v1/routers/nobody", Value::Null, 404, "not_found", ""),
        ("GET", "/v1/snapshot?routerId=nobody", Value::Null, 404, "not_found", ""),
        ("GET", "/v1/workers/9", Value::Null, 404, "not_found", ""),
        ("POST", "/v1/transports", json!({ "routerId": "room" }), 400, "invalid_request", ""),
        (
            "POST",
            "/v1/transports",
            json!({ "routerId": "no", "type": "webrtc" }),
            404,
            "not_found",
            "/routerId",
        ),
        (
            "POST",
            "/v1/transports",
            transport(json!({ "comedia": true })),
            400,
            "invalid_request",
            "/comedia",
        ),
        (
            "POST",
            "/v1/transports",
            transport(json!({ "enableSctp": true })),
            422,
            "unsupported",
            "/enableSctp",
        ),
        (
            "POST",
            "/v1/transports",
            transport(json!({ "iceConsentTimeout": 300 })),
            400,
            "invalid_request",
            "/iceConsentTimeout",
        ),
        (
            "POST",
            connect,
            json!({ "dtlsParameters": { "fingerprints": [] } }),
            400,
            "invalid_request",
            "/dtlsParameters/fingerprints",
        ),
        ("POST", connect, short, 400, "invalid_request", "/dtlsParameters/fingerprints/0/value"),
        ("POST", connect, sha1, 400, "invalid_request", "/dtlsParameters/fingerprints"),
        (
            "POST",
            "/v1/transports/no/connect",
            json!({ "dtlsParameters": dtls("auto") }),
            404,
            "not_found",
            "",
        ),
        (
            "PATCH",
            "/v1/transports/far",
            json!({ "maxIncomingBitrate": -1 }),
            400,
            "invalid_request",
            "/maxIncomingBitrate",
        ),
        (
            "POST",
            "/v1/producers",
            doubled,
            400,
            "invalid_request",
            "/rtpParameters/codecs/0/payloadType",
        ),
        ("POST", "/v1/producers", unknown, 400, "invalid_request", "/colour"),
        ("POST", "/v1/producers", produce("x", "nobody", "opus"), 404, "not_found", "/transportId"),
        ("POST", "/v1/producers/room-cam/pause", json!({ "x": 1 }), 400, "invalid_request", "/x"),
        (
            "POST",
            "/v1/consumers",
            consume(json!({ "producerId": "no" })),
            404,
            "not_found",
            "/producerId",
        ),
        (
            "POST",
            "/v1/consumers",
            consume(json!({ "transportId": "far", "rtpCapabilities": caps })),
            400,
            "invalid_request",
            "/producerId",
        ),
        (
            "POST",
            "/v1/consumers",
            consume(json!({ "rtpCapabilities": {} })),
            422,
            "unsupported",
            "/rtpCapabilities/codecs",
        ),
        ("POST", "/v1/consumers", consume(json!({ "mid": "0" })), 409, "already_exists", "/mid"),
        (
            "POST",
            "/v1/consumers",
            consume(json!({ "mid": "too long for a one-byte extension" })),
            400,
            "invalid_request",
            "/mid",
        ),
        (
            "PATCH",
            "/v1/consumers/room-bob-cam",
            json!({ "priority": 0 }),
            400,
            "invalid_request",
            "/priority",
        ),
        ("POST", "/v1/participants/alice/leave", Value::Null, 400, "invalid_request", "?routerId"),
        ("POST", "/v1/observers", json!({}), 400, "invalid_request", ""),
        ("PUT", "/v1/consumers/x/trace", json!({}), 400, "invalid_request", ""),
        ("PUT", "/v1/consumers/x/trace", json!({ "types": [] }), 404, "not_found", ""),
        (
            "PUT",
            "/v1/producers/room-cam/trace",
            json!({ "types": ["x"] }),
            400,
            "invalid_request",
            "/types/0",
        ),
        (
            "PUT",
            "/v1/producers/room-cam/trace",
            json!({ "types": vec!["rtp"; 9] }),
            400,
            "invalid_request",
            "/types",
        ),
        ("POST", "/v1/data-producers", json!({}), 422, "unsupported", ""),
    ];
    let before = stage.state().await;
    for (method, path, body, status, code, pointer) in cases {
        let refused = stage.refused(method, path, body.clone()).await;
        let code = code.to_owned();
        assert_eq!(refused.0, status, "{method} {path} {body}: {refused:?}");
        assert_eq!(refused.1, code, "{method} {path} {body}: {refused:?}");
        if !pointer.is_empty() {
            assert_eq!(refused.2, pointer, "{method} {path} {body}");
        }
    }
    assert_eq!(stage.state().await, before, "nothing half made is left");
}

#[tokio::test]
async fn a_consumer_without_capabilities_anywhere_is_refused() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage
        .ok("POST", "/v1/transports", json!({ "id": "bare", "routerId": "room", "type": "webrtc" }))
        .await;
    let body = json!({ "transportId": "bare", "producerId": "room-cam" });
    let refused = stage.refused("POST", "/v1/consumers", body).await;
    assert_eq!(refused, (400, "invalid_request".into(), "/rtpCapabilities".into()));
}

#[tokio::test]
async fn lists_are_paged_by_id() {
    let stage = Stage::new().await;
    for number in 0..25 {
        stage.ok("POST", "/v1/routers", json!({ "id": format!("r{number:02}") })).await;
    }
    let mut page = ListPage { limit: Some(10), ..ListPage::default() };
    let mut ids = Vec::new();
    loop {
        let list = stage.client.routers(&page).await.unwrap();
        assert!(list.items.len() <= 10);
        ids.extend(list.items.into_iter().map(|item| item.router.id.into_string()));
        match list.next_after {
            Some(after) => page.after = Some(after),
            None => break,
        }
    }
    assert_eq!(ids, (0..25).map(|number| format!("r{number:02}")).collect::<Vec<_>>());
    let workers = stage.client.workers().await.unwrap();
    assert_eq!(workers.len(), 2);
    stage.call_of_two("a").await;
    stage.call_of_two("b").await;
    let page = ListPage { router_id: Some(id("b")), ..ListPage::default() };
    let list = stage.client.consumers(&page).await.unwrap().items;
    assert!(list.len() == 2 && list.iter().all(|one| one.router_id == "b"));
    assert_eq!(stage.client.producers(&page).await.unwrap().items.len(), 2);
    assert_eq!(stage.client.transports(&page).await.unwrap().items.len(), 4);
}

#[tokio::test]
async fn limits_are_kept_and_give_way_again() {
    let stage = Stage::with(|config| {
        config.limits.routers_max = 2;
        config.limits.transports_per_router_max = 1;
        config.limits.producers_per_transport_max = 1;
        config.limits.consumers_per_transport_max = 1;
        config.limits.observers_per_router_max = 1;
    })
    .await;
    let router = |id: &str| json!({ "id": id });
    stage.ok("POST", "/v1/routers", router("a")).await;
    stage.ok("POST", "/v1/routers", router("b")).await;
    let full = stage.refused("POST", "/v1/routers", router("c")).await;
    assert_eq!((full.0, full.1.as_str()), (503, "no_capacity"));
    stage.ok("DELETE", "/v1/routers/b", Value::Null).await;
    stage.ok("POST", "/v1/routers", router("c")).await;
    let caps = chromium("rtpCapabilities");
    let transport =
        |id: &str| json!({ "id": id, "routerId": "a", "type": "webrtc", "rtpCapabilities": caps });
    stage.ok("POST", "/v1/transports", transport("t")).await;
    assert_eq!(stage.refused("POST", "/v1/transports", transport("u")).await.1, "no_capacity");
    stage.ok("POST", "/v1/producers", produce("p", "t", "opus")).await;
    let refused = stage.refused("POST", "/v1/producers", produce("q", "t", "av1")).await;
    assert_eq!(refused.1, "no_capacity");
    let consumer = |id: &str| json!({ "id": id, "transportId": "t", "producerId": "p" });
    stage.ok("POST", "/v1/consumers", consumer("s")).await;
    assert_eq!(stage.refused("POST", "/v1/consumers", consumer("r")).await.1, "no_capacity");
    stage.ok("DELETE", "/v1/consumers/s", Value::Null).await;
    stage.ok("POST", "/v1/consumers", consumer("r")).await;
    let observer = |id: &str| json!({ "id": id, "routerId": "a", "type": "activespeaker" });
    stage.ok("POST", "/v1/observers", observer("o")).await;
    assert_eq!(stage.refused("POST", "/v1/observers", observer("n")).await.1, "no_capacity");
    stage.ok("DELETE", "/v1/observers/o", Value::Null).await;
    stage.ok("POST", "/v1/observers", observer("n")).await;
}

#[tokio::test]
async fn rates_are_kept() {
    let stage = Stage::with(|config| config.limits.creations_per_router_per_s = 2).await;
    stage.ok("POST", "/v1/routers", json!({ "id": "a" })).await;
    let mut codes = Vec::new();
    for number in 0..12 {
        let body = json!({ "id": format!("t{number}"), "routerId": "a", "type": "webrtc" });
        let (status, answer) = stage.call("POST", "/v1/transports", body).await;
        if status != 201 {
            codes.push((status, answer["code"].clone(), answer["retryAfter"].clone()));
        }
    }
    let limited = (429, json!("rate_limited"), json!(1));
    assert!(codes.len() > 2 && codes.iter().all(|code| *code == limited), "{codes:?}");
}

#[tokio::test]
async fn a_dataplane_that_refuses_leaves_nothing_behind() {
    use ironcast_protocol::{CommandError, ErrorCode as E};
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let before = stage.state().await;
    let cases = [
        (E::NoCapacity, 503, "no_capacity"),
        (E::Busy, 429, "rate_limited"),
        (E::Invalid, 400, "invalid_request"),
        (E::NotFound, 404, "not_found"),
        (E::AlreadyExists, 409, "already_exists"),
        (E::Unsupported, 422, "unsupported"),
        (E::UnknownCommand, 422, "unsupported"),
        (E::WorkerUnavailable, 503, "dataplane_unavailable"),
    ];
    for (error, status, code) in cases {
        stage.fake.turn(|knobs| {
            let error = CommandError::new(error, "as the test wants it");
            knobs.refuse = ["CreateRouter", "CreateWebRtcTransport", "Produce", "Consume"]
                .map(|name| (name, error.clone()))
                .to_vec();
        });
        for (path, body) in [
            ("/v1/routers", json!({ "id": "new" })),
            ("/v1/transports", json!({ "id": "new", "routerId": "room", "type": "webrtc" })),
            ("/v1/producers", produce("new", "room-bob-send", "opus")),
            (
                "/v1/consumers",
                json!({ "id": "new", "transportId": "room-bob-recv", "producerId": "room-mic" }),
            ),
        ] {
            let refused = stage.refused("POST", path, body).await;
            assert_eq!((refused.0, refused.1.as_str()), (status, code), "{path}");
        }
    }
    stage.fake.turn(|knobs| knobs.refuse.clear());
    assert_eq!(stage.state().await, before);
    stage.ok("POST", "/v1/producers", produce("new", "room-bob-send", "opus")).await;
}

#[tokio::test]
async fn placement_goes_by_what_was_measured() {
    let stage = Stage::new().await;
    stage.fake.turn(|knobs| knobs.workers[0].cpu_busy = 0.6);
    stage::eventually("the load is known", || async {
        stage.client.workers().await.unwrap()[0].cpu_busy > 0.5
    })
    .await;
    for number in 0..3 {
        let made = stage.ok("POST", "/v1/routers", json!({ "id": format!("r{number}") })).await;
        assert_eq!(made["workerId"], "1");
    }
    let made = stage.ok("POST", "/v1/routers", json!({ "workerId": "0" })).await;
    assert_eq!(made["workerId"], "0");
    stage.fake.turn(|knobs| knobs.workers.iter_mut().for_each(|one| one.cpu_busy = 0.95));
    stage::eventually("the host is full", || async {
        let (status, answer) = stage.call("POST", "/v1/routers", json!({})).await;
        status == 503 && answer["code"] == "no_capacity" && answer["retryAfter"].is_u64()
    })
    .await;
}

#[tokio::test]
async fn the_openapi_document_describes_every_call() {
    let stage = Stage::new().await;
    let document = stage.ok("GET", "/v1/openapi.json", Value::Null).await;
    let paths = document["paths"].as_object().unwrap();
    for (path, method) in [
        ("/v1/routers", "post"),
        ("/v1/routers", "get"),
        ("/v1/routers/{id}", "delete"),
        ("/v1/transports/{id}/connect", "post"),
        ("/v1/transports/{id}", "patch"),
        ("/v1/producers", "post"),
        ("/v1/consumers/{id}/request-key-frame", "post"),
        ("/v1/batch", "post"),
        ("/v1/events", "get"),
    ] {
        assert!(paths[path][method].is_object(), "{method} {path}");
    }
    let body = &paths["/v1/consumers"]["post"]["requestBody"]["content"]["application/json"];
    let name = body["schema"]["$ref"].as_str().expect("a reference").rsplit('/').next().unwrap();
    let schema = &document["components"]["schemas"][name.replace("~1", "/")];
    assert!(schema["properties"]["producerId"].is_object(), "{schema}");
    // No reference leads nowhere.
    fn references(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(name, value)| match value {
                Value::String(to) if name == "$ref" => out.push(to.clone()),
                other => references(other, out),
            }),
            Value::Array(all) => all.iter().for_each(|one| references(one, out)),
            _ => {}
        }
    }
    let mut all = Vec::new();
    references(&document, &mut all);
    assert!(all.len() > 50);
    for to in all {
        assert!(document.pointer(to.trim_start_matches('#')).is_some(), "{to}");
    }
}
