//! `POST /pipes` between two control planes: what is made on both, what is carried over, what each may
//! miss, and what is left when a step is refused.

use ironcast_controlplane::{Server, ServerConfig};
use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, event::TransportCloseReason, snapshot::Resource,
};
use serde_json::{Value, json};

use crate::stage::{self, Stage, call, eventually, produce};

/// Two hosts, the first of which may pipe to the second. Each has a room of its own name.
struct Hosts {
    here: Stage,
    there: Stage,
    url: String,
}

impl Hosts {
    async fn start() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let there = Stage::new().await;
        there.fake.restart("boot-there");
        let address = there.server().address;
        let url = format!("https://{address}");
        let ca = there.config.tls_cert.clone();
        let here = Stage::with(|config| {
            config.pipes.remotes = vec![url.clone()];
            config.pipes.ca = ca;
            change(config);
        });
        let here = here.await;
        here.ok("POST", "/v1/routers", json!({ "id": "here" })).await;
        eventually("the second one is attached again", || async {
            there.call("POST", "/v1/routers", json!({ "id": "there" })).await.0 == 201
        })
        .await;
        let transport = json!({ "id": "alice", "routerId": "here", "type": "webrtc" });
        here.ok("POST", "/v1/transports", transport).await;
        for (id, track) in [("cam", "vp8-simulcast"), ("mic", "opus")] {
            here.ok("POST", "/v1/producers", produce(id, "alice", track)).await;
        }
        Self { here, there, url }
    }

    fn body(&self, producer: &str) -> Value {
        json!({ "producerId": producer, "routerId": "there", "remote": { "url": self.url } })
    }

    async fn pipe(&self, producer: &str) -> (String, String) {
        let piped = self.here.ok("POST", "/v1/pipes", self.body(producer)).await;
        let id = |field: &str| piped[field].as_str().unwrap().to_owned();
        (id("consumerId"), id("producerId"))
    }

    async fn refused(&self, body: Value) -> (u16, String, String) {
        self.here.refused("POST", "/v1/pipes", body).await
    }
}

/// A control plane comes back, at the address that it had.
async fn come_back(stage: &mut Stage) {
    drop(stage.server.take());
    let server = loop {
        match Server::start(stage.config.clone()).await {
            Ok(server) => break server,
            // The one before has not let go of its sockets.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
        }
    };
    stage.client = stage::client(&stage.config, &server, None);
    stage.server = Some(server);
    stage.ready().await;
}

/// Ids of a kind at a stage's dataplane.
fn ids(stage: &Stage, kind: &str) -> Vec<String> {
    let id = |resource: Resource| match (kind, resource) {
        ("transport", Resource::PlainTransport { create, .. }) => Some(create.id),
        ("producer", Resource::Producer { create, .. }) => Some(create.id),
        ("consumer", Resource::Consumer { create, .. }) => Some(create.id),
        _ => None,
    };
    stage.fake.resources().into_iter().filter_map(id).collect()
}

fn is_paused(stage: &Stage, producer: &str) -> Option<bool> {
    stage.fake.resources().into_iter().find_map(|resource| match resource {
        Resource::Producer { create, state } if create.id == producer => Some(state.paused),
        _ => None,
    })
}

#[tokio::test]
async fn a_producer_is_in_both_rooms_with_all_of_its_streams() {
    let hosts = Hosts::start().await;
    let (consumer, producer) = hosts.pipe("cam").await;
    assert_eq!(producer, "cam", "it keeps its id");
    let Hosts { here, there, .. } = &hosts;
    let near = here.ok("GET", &format!("/v1/consumers/{consumer}"), Value::Null).await;
    let far = there.ok("GET", "/v1/producers/cam", Value::Null).await;
    assert_eq!((&near["type"], &far["type"]), (&json!("pipe"), &json!("simulcast")));
    assert_eq!(far["appData"], json!({ "track": "vp8-simulcast" }));
    let encodings = near["rtpParameters"]["encodings"].as_array().unwrap();
    assert_eq!(encodings.len(), 3);
    let ssrcs: std::collections::BTreeSet<u64> = encodings
        .iter()
        .flat_map(|one| [one["ssrc"].as_u64().unwrap(), one["rtx"]["ssrc"].as_u64().unwrap()])
        .collect();
    assert_eq!(ssrcs.len(), 6, "each has its own");
    assert_eq!(far["rtpParameters"]["encodings"], near["rtpParameters"]["encodings"]);
    let codecs = near["rtpParameters"]["codecs"].to_string();
    assert!(!codecs.contains("transport-cc") && !codecs.contains("goog-remb"), "{codecs}");
    assert!(codecs.contains("video/rtx") && codecs.contains("pli"), "{codecs}");
    // Transports are shared, sealed, and know each other.
    hosts.pipe("mic").await;
    let (near, far) = (ids(here, "transport"), ids(there, "transport"));
    assert_eq!((near.len(), far.len()), (1, 1));
    for (stage, id) in [(here, &near[0]), (there, &far[0])] {
        let shown = stage.ok("GET", &format!("/v1/transports/{id}"), Value::Null).await;
        assert_eq!((&shown["type"], &shown["rtx"]), (&json!("pipe"), &json!(true)));
        assert_eq!(shown["srtpParameters"]["cryptoSuite"], "AEAD_AES_256_GCM");
        assert_eq!(shown["tuple"]["remotePort"], 28_000);
    }
    assert_eq!(ids(there, "producer"), ["cam", "mic"]);
    let audit = here.ok("GET", "/v1/audit?routerId=here", Value::Null).await;
    let pipes = audit["items"].as_array().unwrap().iter().filter(|one| one["kind"] == "pipe");
    let noted: Vec<_> = pipes.map(|one| (one["action"].clone(), one["id"].clone())).collect();
    assert_eq!((noted.len(), &noted[0]), (2, &(json!("create"), json!(consumer))));
}

#[tokio::test]
async fn what_is_wrong_is_refused_and_leaves_nothing() {
    let hosts = Hosts::start().await;
    let elsewhere = json!({ "url": "https://127.0.0.1:9" });
    for (change, expected) in [
        (json!({ "producerId": "nobody" }), (404, "not_found", "/producerId")),
        (json!({ "routerId": "nobody" }), (404, "not_found", "/routerId")),
        (json!({ "remote": elsewhere }), (403, "forbidden", "/remote/url")),
        // Its own host has no room of that name.
        (json!({ "remote": null }), (404, "not_found", "/routerId")),
        (json!({ "remote": { "url": "/" } }), (403, "forbidden", "/remote/url")),
        (json!({ "colour": 1 }), (400, "invalid_request", "/colour")),
    ] {
        let mut body = hosts.body("cam");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let (status, code, pointer) = hosts.refused(body).await;
        assert_eq!((status, code.as_str(), pointer.as_str()), expected, "{change}");
    }
    // Each step at either side, one after the other.
    let no = || CommandError::new(ErrorCode::NoCapacity, "it is full");
    for (is_here, step) in [
        (true, "CreatePlainTransport"),
        (false, "CreatePlainTransport"),
        (true, "ConnectPlainTransport"),
        (false, "ConnectPlainTransport"),
        (true, "Consume"),
        (false, "Produce"),
    ] {
        let stage = if is_here { &hosts.here } else { &hosts.there };
        stage.fake.turn(|knobs| knobs.refuse = vec![(step, no())]);
        let refused = hosts.refused(hosts.body("cam")).await;
        assert_eq!((refused.0, refused.1.as_str()), (503, "no_capacity"), "{is_here} {step}");
        stage.fake.turn(|knobs| knobs.refuse.clear());
        eventually("all is undone", || async {
            let left = [&hosts.here, &hosts.there].map(|stage| ids(stage, "transport"));
            left.iter().all(Vec::is_empty) && ids(&hosts.here, "consumer").is_empty()
        })
        .await;
        assert_eq!(ids(&hosts.there, "producer"), [""; 0], "{is_here} {step}");
    }
    hosts.pipe("cam").await;
}

#[tokio::test]
async fn a_host_that_does_not_answer_leaves_nothing_here() {
    let mut hosts = Hosts::with(|config| {
        config.pipes.answer_within = std::time::Duration::from_millis(500);
    })
    .await;
    hosts.there.server.take().unwrap().stop().await;
    let refused = hosts.refused(hosts.body("cam")).await;
    assert_eq!((refused.0, refused.1.as_str()), (504, "timeout"));
    assert_eq!(ids(&hosts.here, "transport"), [""; 0]);
}

#[tokio::test]
async fn a_full_room_can_be_piped_whole() {
    let hosts = Hosts::with(|config| {
        // Hers is there.
        config.limits.transports_per_router_max = 1;
    })
    .await;
    let more = json!({ "id": "bob", "routerId": "here", "type": "webrtc" });
    assert_eq!(hosts.here.refused("POST", "/v1/transports", more).await.1, "no_capacity");
    hosts.pipe("cam").await;
    hosts.pipe("mic").await;
    // Pipes have a limit, too.
    let more = json!({ "routerId": "here", "type": "pipe" });
    let mut made = 1;
    while hosts.here.call("POST", "/v1/transports", more.clone()).await.0 == 201 {
        made += 1;
    }
    assert_eq!(made, 16);
    assert_eq!(hosts.here.refused("POST", "/v1/transports", more).await.1, "no_capacity");
}

#[tokio::test]
async fn a_pipe_takes_more_tracks_than_a_participant_sends() {
    let there = Stage::with(|config| config.limits.producers_per_transport_max = 1).await;
    there.ok("POST", "/v1/routers", json!({ "id": "r" })).await;
    let of = |kind: &str| json!({ "id": kind, "routerId": "r", "type": kind });
    for kind in ["webrtc", "pipe"] {
        there.ok("POST", "/v1/transports", of(kind)).await;
        there.ok("POST", "/v1/producers", produce(&format!("{kind}-1"), kind, "opus")).await;
    }
    let second = produce("webrtc-2", "webrtc", "av1");
    assert_eq!(there.refused("POST", "/v1/producers", second).await.1, "no_capacity");
    there.ok("POST", "/v1/producers", produce("pipe-2", "pipe", "av1")).await;
}

#[tokio::test]
async fn twice_is_refused_and_a_taken_id_is_replaced() {
    let hosts = Hosts::start().await;
    hosts
        .there
        .ok("POST", "/v1/transports", json!({ "id": "bob", "routerId": "there", "type": "webrtc" }))
        .await;
    hosts.there.ok("POST", "/v1/producers", produce("cam", "bob", "opus")).await;
    let mut body = hosts.body("cam");
    body["keepId"] = true.into();
    assert_eq!(hosts.refused(body).await.1, "already_exists");
    let (consumer, producer) = hosts.pipe("cam").await;
    assert_ne!(producer, "cam");
    let twice = hosts.refused(hosts.body("cam")).await;
    let expected = (409, "already_exists".to_owned(), "/producerId".to_owned());
    assert_eq!(twice, expected);
    assert_eq!(ids(&hosts.here, "consumer"), [consumer.as_str()]);
    // After the end of the first it is free again.
    hosts.here.ok("DELETE", &format!("/v1/consumers/{consumer}"), Value::Null).await;
    eventually("its counterpart ends", || async {
        !ids(&hosts.there, "producer").contains(&producer)
    })
    .await;
    let mut body = hosts.body("mic");
    body["keepId"] = false.into();
    let piped = hosts.here.ok("POST", "/v1/pipes", body).await;
    assert_ne!(piped["producerId"], "mic");
    hosts.pipe("cam").await;
}

#[tokio::test]
async fn a_loop_is_refused_by_whom_it_would_come_back_to() {
    let mut hosts = Hosts::start().await;
    hosts.pipe("cam").await;
    // The second one pipes back, under whatever id.
    let there = &mut hosts.there;
    let back = format!("https://{}", hosts.here.server().address);
    there.config.listen = there.server().address;
    there.config.pipes.remotes = vec![back.clone()];
    there.config.pipes.ca = hosts.here.config.tls_cert.clone();
    come_back(there).await;
    for keep_id in [true, false] {
        let body = json!({
            "producerId": "cam", "routerId": "here", "keepId": keep_id, "remote": { "url": back },
        });
        let (status, code, _) = there.refused("POST", "/v1/pipes", body).await;
        assert_eq!((status, code.as_str()), (409, "wrong_state"), "{keep_id}");
    }
    // Into another room of that host it may go.
    hosts.here.ok("POST", "/v1/routers", json!({ "id": "other" })).await;
    let body = json!({
        "producerId": "cam", "routerId": "other", "keepId": false, "remote": { "url": back },
    });
    hosts.there.ok("POST", "/v1/pipes", body).await;
}

#[tokio::test]
async fn pauses_and_ends_are_carried_over_both_ways() {
    let hosts = Hosts::start().await;
    let Hosts { here, there, .. } = &hosts;
    here.ok("POST", "/v1/producers/cam/pause", Value::Null).await;
    let (consumer, _) = hosts.pipe("cam").await;
    assert_eq!(is_paused(there, "cam"), Some(true), "it begins as its source is");
    for paused in [false, true, false] {
        let path = format!("/v1/producers/cam/{}", if paused { "pause" } else { "resume" });
        here.ok("POST", &path, Value::Null).await;
        eventually(&path, || async { is_paused(there, "cam") == Some(paused) }).await;
    }
    // The far side ends it.
    there.ok("DELETE", "/v1/producers/cam", Value::Null).await;
    eventually("the consumer ends", || async { !ids(here, "consumer").contains(&consumer) }).await;
    // The source ends.
    hosts.pipe("mic").await;
    here.ok("DELETE", "/v1/producers/mic", Value::Null).await;
    eventually("the copy ends", || async { ids(there, "producer").is_empty() }).await;
    // The trunk ends at the far side, without anybody's wish.
    let far = ids(there, "transport");
    let (transport, reason) = (far[0].clone(), TransportCloseReason::ConsentLost);
    there.fake.emit(Event::TransportClosed { transport, reason });
    eventually("the trunk ends", || async { ids(here, "transport").is_empty() }).await;
    // The room here ends.
    here.ok("POST", "/v1/producers", produce("cam2", "alice", "vp8-simulcast")).await;
    hosts.pipe("cam2").await;
    here.ok("DELETE", "/v1/routers/here", Value::Null).await;
    eventually("all ends", || async {
        ids(there, "transport").is_empty() && ids(there, "producer").is_empty()
    })
    .await;
}

#[tokio::test]
async fn a_far_room_that_ends_ends_the_trunk() {
    let hosts = Hosts::start().await;
    hosts.pipe("cam").await;
    hosts.there.ok("DELETE", "/v1/routers/there", Value::Null).await;
    eventually("the trunk ends", || async { ids(&hosts.here, "transport").is_empty() }).await;
    assert!(ids(&hosts.here, "consumer").is_empty());
}

#[tokio::test]
async fn either_control_plane_may_be_away_meanwhile() {
    let mut hosts = Hosts::start().await;
    hosts.there.config.listen = hosts.there.server().address;
    let (cam, _) = hosts.pipe("cam").await;
    hosts.pipe("mic").await;
    // The one here comes back: it knows what belongs together.
    hosts.here.replace_server().await;
    hosts.here.ok("POST", "/v1/producers/mic/pause", Value::Null).await;
    eventually("carried over", || async { is_paused(&hosts.there, "mic") == Some(true) }).await;
    assert_eq!(hosts.refused(hosts.body("cam")).await.1, "already_exists");
    // What happens there while none is here.
    let server = hosts.here.server.take();
    drop(server);
    hosts.there.ok("DELETE", "/v1/producers/cam", Value::Null).await;
    hosts.here.replace_server().await;
    eventually("the consumer ends", || async { !ids(&hosts.here, "consumer").contains(&cam) })
        .await;
    // What happens here while none is there.
    drop(hosts.there.server.take());
    hosts.here.ok("POST", "/v1/producers/mic/resume", Value::Null).await;
    come_back(&mut hosts.there).await;
    eventually("carried over", || async { is_paused(&hosts.there, "mic") == Some(false) }).await;
    drop(hosts.there.server.take());
    hosts.here.ok("DELETE", "/v1/producers/mic", Value::Null).await;
    come_back(&mut hosts.there).await;
    eventually("the copy ends", || async { ids(&hosts.there, "producer").is_empty() }).await;
    // The trunk is still the same one.
    hosts.here.ok("POST", "/v1/producers", produce("cam3", "alice", "vp8-simulcast")).await;
    let before = ids(&hosts.here, "transport");
    hosts.pipe("cam3").await;
    assert_eq!(ids(&hosts.here, "transport"), before);
}

#[tokio::test]
async fn a_room_of_somebody_else_is_not_there() {
    let there = Stage::with_tokens("pipes admin p\none control o\ntwo control t\n", "p").await;
    there.fake.restart("boot-there");
    for (token, room) in [("o", "of-one"), ("t", "of-two")] {
        let body = json!({ "id": room });
        let client = there.client_of(token);
        eventually("it is attached again", || async {
            call(&client, "POST", "/v1/routers", body.clone()).await.0 == 201
        })
        .await;
    }
    let url = format!("https://{}", there.server().address);
    let ca = there.config.tls_cert.clone();
    let token_file = there.folder.join("shown");
    std::fs::write(&token_file, "p").unwrap();
    let here = Stage::with_tokens_and("one control o\n", "o", |config| {
        config.pipes.remotes = vec![url.clone()];
        config.pipes.ca = ca;
        config.pipes.token_file = Some(token_file.clone());
    })
    .await;
    here.ok("POST", "/v1/routers", json!({ "id": "here" })).await;
    let transport = json!({ "id": "alice", "routerId": "here", "type": "webrtc" });
    here.ok("POST", "/v1/transports", transport).await;
    here.ok("POST", "/v1/producers", produce("cam", "alice", "vp8-simulcast")).await;
    let body =
        |room: &str| json!({ "producerId": "cam", "routerId": room, "remote": { "url": url } });
    let refused = here.refused("POST", "/v1/pipes", body("of-two")).await;
    assert_eq!(refused, (404, "not_found".into(), "/routerId".into()));
    here.ok("POST", "/v1/pipes", body("of-one")).await;
    // A proof of ours that is not good there is not the caller's fault.
    std::fs::write(&token_file, "q").unwrap();
    let again = Stage::with(|config| {
        config.pipes.remotes = vec![url.clone()];
        config.pipes.ca = there.config.tls_cert.clone();
        config.pipes.token_file = Some(token_file);
    })
    .await;
    again.ok("POST", "/v1/routers", json!({ "id": "here" })).await;
    let transport = json!({ "id": "alice", "routerId": "here", "type": "webrtc" });
    again.ok("POST", "/v1/transports", transport).await;
    again.ok("POST", "/v1/producers", produce("cam", "alice", "vp8-simulcast")).await;
    assert_eq!(again.refused("POST", "/v1/pipes", body("of-one")).await.0, 403);
}

#[tokio::test]
async fn pipe_transports_by_hand() {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    let create = |with: Value| {
        let mut body = json!({ "routerId": "room", "type": "pipe" });
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        body
    };
    for (with, pointer) in [
        (json!({ "rtcpMux": true }), "/rtcpMux"),
        (json!({ "comedia": true }), "/comedia"),
        (json!({ "enableUdp": true }), "/enableUdp"),
        (json!({ "srtpCryptoSuite": "AEAD_AES_128_GCM" }), "/srtpCryptoSuite"),
    ] {
        let refused = stage.refused("POST", "/v1/transports", create(with)).await;
        assert_eq!(refused, (400, "invalid_request".into(), pointer.into()));
    }
    for (id, with, is_sealed) in [
        ("open", json!({ "id": "open" }), false),
        ("sealed", json!({ "id": "sealed", "enableSrtp": true, "enableRtx": true }), true),
    ] {
        let made = stage.ok("POST", "/v1/transports", create(with)).await;
        assert_eq!(made["rtx"], is_sealed);
        assert_eq!(made.get("srtpParameters").is_some(), is_sealed);
        let path = format!("/v1/transports/{id}/connect");
        let mut peer = json!({ "ip": "127.0.0.1", "port": 29_000 });
        if is_sealed {
            assert_eq!(stage.refused("POST", &path, peer.clone()).await.2, "/srtpParameters");
            peer["srtpParameters"] = made["srtpParameters"].clone();
        }
        stage.ok("POST", &path, peer.clone()).await;
        stage.ok("POST", &path, peer).await;
    }
    stage
        .ok(
            "POST",
            "/v1/transports",
            json!({ "id": "alice", "routerId": "room", "type": "webrtc" }),
        )
        .await;
    stage.ok("POST", "/v1/producers", produce("cam", "alice", "vp8-simulcast")).await;
    let consume = |with: Value| {
        let mut body = json!({ "transportId": "sealed", "producerId": "cam" });
        body.as_object_mut().unwrap().extend(with.as_object().unwrap().clone());
        body
    };
    for (with, pointer) in [(json!({ "mid": "0" }), "/mid"), (json!({ "pipe": false }), "/pipe")] {
        let refused = stage.refused("POST", "/v1/consumers", consume(with)).await;
        assert_eq!(refused, (400, "invalid_request".into(), pointer.into()));
    }
    let made = stage.ok("POST", "/v1/consumers", consume(json!({ "id": "out" }))).await;
    assert_eq!((&made["type"], made.get("preferredLayers")), (&json!("pipe"), None));
    // Beside others, to somebody with capabilities: with a MID.
    let body = json!({
        "transportId": "alice", "producerId": "cam", "pipe": true,
        "rtpCapabilities": stage::chromium("rtpCapabilities"),
    });
    let made = stage.ok("POST", "/v1/consumers", body).await;
    assert_eq!((&made["type"], &made["rtpParameters"]["mid"]), (&json!("pipe"), &json!("0")));
    assert_eq!(made["rtpParameters"]["encodings"].as_array().unwrap().len(), 3);
    let consume = stage.fake.commands().into_iter().filter_map(|command| match command {
        Command::Consume(consume) => Some(consume.rtp_parameters.encodings.len()),
        _ => None,
    });
    assert_eq!(consume.collect::<Vec<_>>(), [3, 3]);
}

/// One host with two rooms, and somebody with a camera in the first one.
async fn two_rooms() -> Stage {
    let stage = Stage::new().await;
    for room in ["one", "other"] {
        stage.ok("POST", "/v1/routers", json!({ "id": room })).await;
    }
    let transport = json!({ "id": "alice", "routerId": "one", "type": "webrtc" });
    stage.ok("POST", "/v1/transports", transport).await;
    stage.ok("POST", "/v1/producers", produce("cam", "alice", "vp8-simulcast")).await;
    stage
}

/// The transports of pipes.
fn trunks(stage: &Stage) -> Vec<String> {
    ids(stage, "transport")
}

#[tokio::test]
async fn two_rooms_of_one_host_need_no_address() {
    let mut stage = two_rooms().await;
    let body = json!({ "producerId": "cam", "routerId": "other" });
    let insists = json!({ "producerId": "cam", "routerId": "other", "keepId": true });
    assert_eq!(stage.refused("POST", "/v1/pipes", insists).await.1, "already_exists");
    let piped = stage.ok("POST", "/v1/pipes", body.clone()).await;
    let copy = piped["producerId"].as_str().unwrap().to_owned();
    let shown = stage.ok("GET", &format!("/v1/producers/{copy}"), Value::Null).await;
    assert_eq!((&shown["routerId"], &shown["type"]), (&json!("other"), &json!("simulcast")));
    assert_eq!(trunks(&stage).len(), 2);
    let is_sealed = |command: &Command| match command {
        Command::CreatePlainTransport(create) => create.srtp_suite.is_some(),
        _ => false,
    };
    assert!(!stage.fake.commands().iter().any(is_sealed), "nobody else can read it");
    assert_eq!(stage.refused("POST", "/v1/pipes", body.clone()).await.1, "already_exists");
    // Neither into its own room, nor back to where it came from.
    for (producer, room) in [("cam", "one"), (copy.as_str(), "one")] {
        let body = json!({ "producerId": producer, "routerId": room });
        assert_eq!(stage.refused("POST", "/v1/pipes", body).await.1, "wrong_state", "{producer}");
    }
    eventually("what was tried leaves nothing", || async { trunks(&stage).len() == 2 }).await;
    // Pauses and ends are carried over, also after this control plane was away.
    for paused in [true, false] {
        let path = format!("/v1/producers/cam/{}", if paused { "pause" } else { "resume" });
        stage.ok("POST", &path, Value::Null).await;
        eventually(&path, || async { is_paused(&stage, &copy) == Some(paused) }).await;
        stage.replace_server().await;
    }
    stage.ok("DELETE", &format!("/v1/producers/{copy}"), Value::Null).await;
    eventually("the consumer ends", || async { ids(&stage, "consumer").is_empty() }).await;
    let again = stage.ok("POST", "/v1/pipes", body).await;
    assert_eq!(trunks(&stage).len(), 2, "the same ones");
    stage.ok("DELETE", "/v1/producers/cam", Value::Null).await;
    let copy = again["producerId"].as_str().unwrap();
    eventually("the copy ends", || async { !ids(&stage, "producer").contains(&copy.to_owned()) })
        .await;
    stage.ok("DELETE", "/v1/routers/other", Value::Null).await;
    eventually("the trunk ends", || async { trunks(&stage).is_empty() }).await;
}

#[tokio::test]
async fn a_step_that_fails_at_ones_own_host_leaves_nothing() {
    let stage = two_rooms().await;
    let no = || CommandError::new(ErrorCode::NoCapacity, "it is full");
    for step in ["CreatePlainTransport", "ConnectPlainTransport", "Consume", "Produce"] {
        stage.fake.turn(|knobs| knobs.refuse = vec![(step, no())]);
        let body = json!({ "producerId": "cam", "routerId": "other" });
        assert_eq!(stage.refused("POST", "/v1/pipes", body).await.1, "no_capacity", "{step}");
        stage.fake.turn(|knobs| knobs.refuse.clear());
        eventually("all is undone", || async {
            trunks(&stage).is_empty() && ids(&stage, "consumer").is_empty()
        })
        .await;
        assert_eq!(ids(&stage, "producer"), ["cam"], "{step}");
    }
}
