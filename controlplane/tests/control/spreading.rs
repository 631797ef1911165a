//! A room on two workers: the parts that it is made of at the dataplane, that the API shows one room, and
//! that nothing is left over.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use ironcast_api::events::{EventData, TransportClosedReason};
use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, command::Selection, snapshot::Resource,
};
use serde_json::{Value, json};

use crate::stage::{Stage, chromium, eventually, produce};

fn transport(id: &str, worker: &str) -> Value {
    json!({
        "id": id, "routerId": "room", "type": "webrtc", "workerId": worker,
        "participantId": id.split('-').next(), "rtpCapabilities": chromium("rtpCapabilities"),
    })
}

fn consume(id: &str, transport: &str, producer: &str) -> Value {
    json!({ "id": id, "transportId": transport, "producerId": producer })
}

/// Alice sends on the room's home, worker 0; bob and carol are on worker 1.
async fn room() -> Stage {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room", "workerId": "0" })).await;
    stage.ok("POST", "/v1/transports", transport("alice-send", "0")).await;
    for id in ["bob-recv", "carol-recv", "bob-send"] {
        let made = stage.ok("POST", "/v1/transports", transport(id, "1")).await;
        assert_eq!(made["workerId"], "1");
    }
    for (id, track) in [("mic", "opus"), ("cam", "vp8-simulcast")] {
        stage.ok("POST", "/v1/producers", produce(id, "alice-send", track)).await;
    }
    stage
}

/// Names of resources at the dataplane, the API's own left out.
fn parts(stage: &Stage) -> BTreeSet<String> {
    let names = stage.fake.resources().into_iter().map(|resource| match resource {
        Resource::Router { create, .. } => format!("router {}", create.id),
        Resource::Hop { create, .. } => format!("hop {}", create.id),
        Resource::Producer { create, .. } => format!("producer {}", create.id),
        Resource::Consumer { create, .. } => format!("consumer {}", create.id),
        _ => String::new(),
    });
    names.filter(|name| name.contains('~')).collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

const HOP: [&str; 3] = ["router room~1", "hop room~0~1", "hop room~1~0"];
const CAM: [&str; 2] = ["consumer cam~0~1", "producer cam~1"];

#[tokio::test]
async fn what_is_consumed_on_another_worker_is_carried_there_once() {
    let stage = room().await;
    assert_eq!(parts(&stage), set(&["router room~1"]));
    stage.ok("POST", "/v1/consumers", consume("bob-cam", "bob-recv", "cam")).await;
    assert_eq!(parts(&stage), set(&[&HOP[..], &CAM].concat()));
    stage.ok("POST", "/v1/consumers", consume("carol-cam", "carol-recv", "cam")).await;
    assert_eq!(parts(&stage), set(&[&HOP[..], &CAM].concat()));
    // The other way, over the same hop.
    stage.ok("POST", "/v1/producers", produce("bob-mic", "bob-send", "opus")).await;
    stage.ok("POST", "/v1/transports", transport("alice-recv", "0")).await;
    stage.ok("POST", "/v1/consumers", consume("alice-mic", "alice-recv", "bob-mic")).await;
    let back = ["consumer bob-mic~1~0", "producer bob-mic~0"];
    assert_eq!(parts(&stage), set(&[&HOP[..], &CAM, &back].concat()));
    // Who is on the same worker is served there.
    stage.ok("POST", "/v1/consumers", consume("carol-mic", "carol-recv", "bob-mic")).await;
    assert_eq!(parts(&stage).len(), 7);
    let resources = stage.fake.resources();
    let create = |id: &str| {
        let found = resources.iter().find_map(|one| match one {
            Resource::Consumer { create, .. } if create.id == id => Some(create.clone()),
            _ => None,
        });
        found.expect("a consumer")
    };
    assert_eq!(create("bob-cam").producer, "cam~1");
    assert_eq!(create("carol-mic").producer, "bob-mic");
    // All layers go, each with its own SSRC, and what comes out is what went in.
    let pipe = create("cam~0~1");
    assert_eq!((pipe.transport.as_str(), pipe.producer.as_str()), ("room~0~1", "cam"));
    assert_eq!(pipe.rtp_parameters.encodings.len(), 3);
    let mirror = resources.iter().find_map(|one| match one {
        Resource::Producer { create, .. } if create.id == "cam~1" => Some(create.clone()),
        _ => None,
    });
    let mirror = mirror.expect("a mirror");
    assert_eq!(mirror.transport, "room~1~0");
    let ssrcs = |encodings: &[ironcast_protocol::media::RtpEncoding]| {
        encodings.iter().flat_map(|one| [one.ssrc, one.rtx_ssrc]).collect::<Option<BTreeSet<_>>>()
    };
    let sent = ssrcs(&pipe.rtp_parameters.encodings).expect("all SSRCs");
    assert_eq!(sent.len(), 6);
    assert_eq!(Some(sent), ssrcs(&mirror.rtp_parameters.encodings));
    // The API has one room.
    let room = stage.ok("GET", "/v1/routers/room", Value::Null).await;
    assert_eq!(room["workers"], json!(["0", "1"]));
    assert_eq!(room["workerId"], "0");
    assert_eq!(room["transports"].as_array().unwrap().len(), 5);
    assert_eq!(room["producers"], json!(["bob-mic", "cam", "mic"]));
    assert_eq!(room["consumers"].as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_part_of_a_room_counts_as_one_on_its_worker() {
    let stage = Stage::with(|config| config.limits.routers_per_worker_max = 2).await;
    for (id, worker) in [("room", "0"), ("a", "1"), ("b", "1")] {
        stage.ok("POST", "/v1/routers", json!({ "id": id, "workerId": worker })).await;
    }
    let refused = stage.refused("POST", "/v1/transports", transport("there", "1")).await;
    assert_eq!((refused.0, &*refused.1), (503, "no_capacity"));
    stage.ok("DELETE", "/v1/routers/a", Value::Null).await;
    stage.ok("POST", "/v1/transports", transport("there", "1")).await;
    // The room is there now, and others find no place.
    stage.ok("POST", "/v1/transports", transport("another", "1")).await;
    let body = json!({ "id": "c", "workerId": "1" });
    assert_eq!(stage.refused("POST", "/v1/routers", body.clone()).await.1, "no_capacity");
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    stage.ok("POST", "/v1/routers", body).await;
}

#[tokio::test]
async fn what_goes_takes_its_parts_along() {
    let stage = room().await;
    for (id, to, producer) in [("a", "bob-recv", "cam"), ("b", "carol-recv", "mic")] {
        stage.ok("POST", "/v1/consumers", consume(id, to, producer)).await;
    }
    let pause = |is_paused: bool| {
        let resources = stage.fake.resources();
        let found = resources.iter().find_map(|one| match one {
            Resource::Producer { create, state } if create.id == "cam~1" => Some(state.paused),
            _ => None,
        });
        async move { found == Some(is_paused) }
    };
    stage.ok("POST", "/v1/producers/cam/pause", Value::Null).await;
    eventually("the mirror pauses", || pause(true)).await;
    stage.ok("POST", "/v1/producers/cam/resume", Value::Null).await;
    eventually("the mirror goes on", || pause(false)).await;
    stage.ok("DELETE", "/v1/producers/cam", Value::Null).await;
    let left = set(&[&HOP[..], &["consumer mic~0~1", "producer mic~1"]].concat());
    eventually("the mirror is gone", || async { parts(&stage) == left }).await;
    assert_eq!(stage.call("GET", "/v1/consumers/a", Value::Null).await.0, 404);
    // Nobody takes it any more.
    stage.ok("DELETE", "/v1/consumers/b", Value::Null).await;
    eventually("the idle mirror goes", || async { parts(&stage) == set(&HOP) }).await;
    // And again.
    stage.ok("POST", "/v1/consumers", consume("c", "carol-recv", "mic")).await;
    assert_eq!(parts(&stage), left);
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    eventually("nothing is left", || async { stage.fake.resources().is_empty() }).await;
}

#[tokio::test]
async fn many_at_once_make_each_part_once() {
    let stage = room().await;
    let transports = (0..20).map(|number| async move { format!("guest{number}-recv") });
    let ids = futures::future::join_all(transports).await;
    let made = ids.iter().map(|id| stage.ok("POST", "/v1/transports", transport(id, "1")));
    futures::future::join_all(made).await;
    let consumers = ids.iter().flat_map(|id| {
        let stage = &stage;
        ["cam", "mic"].map(|producer| async move {
            let body = consume(&format!("{id}-{producer}"), id, producer);
            stage.ok("POST", "/v1/consumers", body).await
        })
    });
    futures::future::join_all(consumers).await;
    let count = |name| stage.fake.count(name);
    assert_eq!((count("CreateRouter"), count("CreateHop"), count("ConnectHop")), (2, 2, 2));
    assert_eq!((count("Produce"), count("Consume")), (2 + 2, 40 + 2));
}

#[tokio::test]
async fn a_control_plane_that_comes_back_knows_the_parts() {
    let mut stage = room().await;
    for (id, to, producer) in [("a", "bob-recv", "cam"), ("b", "carol-recv", "mic")] {
        stage.ok("POST", "/v1/consumers", consume(id, to, producer)).await;
    }
    stage.ok("POST", "/v1/producers", produce("bob-mic", "bob-send", "opus")).await;
    let observer = json!({ "id": "ears", "routerId": "room", "type": "audiolevel" });
    stage.ok("POST", "/v1/observers", observer).await;
    for producer in ["mic", "bob-mic"] {
        let path = format!("/v1/observers/ears/producers/{producer}");
        stage.ok("POST", &path, Value::Null).await;
    }
    let (state, made) = (stage.state().await, parts(&stage));
    assert_eq!(made.len(), 3 + 3 * 2);
    // What a lost connection may leave half made.
    let mut resources = stage.fake.resources();
    let half = |resources: &[Resource], id: &str, new: &str| {
        let mut copy = resources
            .iter()
            .find(|one| matches!(one, Resource::Producer { create, .. } if create.id == id))
            .cloned()
            .expect("a producer");
        if let Resource::Producer { create, .. } = &mut copy {
            create.id = new.to_owned();
        }
        copy
    };
    resources.push(half(&resources, "cam~1", "cam~0"));
    stage.fake.set_resources(resources);
    stage.replace_server().await;
    assert_eq!(stage.state().await, state);
    eventually("what is half is closed", || async { parts(&stage) == made }).await;
    // It goes on as before.
    stage.ok("POST", "/v1/consumers", consume("c", "carol-recv", "cam")).await;
    assert_eq!(parts(&stage), made);
    stage.ok("DELETE", "/v1/transports/alice-send", Value::Null).await;
    let left = set(&[&HOP[..], &["consumer bob-mic~1~0", "producer bob-mic~0"]].concat());
    eventually("mirrors go with the producers", || async { parts(&stage) == left }).await;
}

#[tokio::test]
async fn a_worker_that_ends_takes_what_was_on_it_and_the_room_stays() {
    let stage = room().await;
    for (id, to, producer) in [("a", "bob-recv", "cam"), ("b", "carol-recv", "mic")] {
        stage.ok("POST", "/v1/consumers", consume(id, to, producer)).await;
    }
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut stream = stage.client.events(Some(seq), None);
    let routers = vec!["room~1".to_owned()];
    stage.fake.emit(Event::WorkerDied { worker: 1, routers, reason: "a test".into() });
    eventually("its transports are gone", || async {
        let room = stage.ok("GET", "/v1/routers/room", Value::Null).await;
        room["transports"] == json!(["alice-send"]) && room["workers"] == json!(["0"])
    })
    .await;
    eventually("the other end of the hop goes", || async { parts(&stage).is_empty() }).await;
    let mut closed = 0;
    let died = loop {
        let event = stream.next().await.expect("an event").expect("an event");
        match event.data {
            EventData::TransportClosed(closed_one) => {
                assert_eq!(closed_one.reason, TransportClosedReason::WorkerDied);
                closed += 1;
            }
            EventData::WorkerDied(died) => break died,
            _ => {}
        }
    };
    assert_eq!((closed, died.router_ids.len()), (3, 0));
    assert_eq!(stage.call("GET", "/v1/producers/cam", Value::Null).await.0, 200);
    // It runs again: the room comes back to it when it is asked to.
    stage.fake.emit(Event::WorkerRestarted { worker: 1 });
    eventually("it takes transports", || async {
        stage.call("POST", "/v1/transports", transport("dave-recv", "1")).await.0 == 201
    })
    .await;
    stage.ok("POST", "/v1/consumers", consume("d", "dave-recv", "cam")).await;
    assert_eq!(parts(&stage), set(&[&HOP[..], &CAM].concat()));
    // The home's end is the room's.
    let routers = vec!["room".to_owned()];
    stage.fake.emit(Event::WorkerDied { worker: 0, routers, reason: "a test".into() });
    eventually("the branch goes too", || async { stage.fake.resources().is_empty() }).await;
    assert_eq!(stage.call("GET", "/v1/routers/room", Value::Null).await.0, 404);
}

#[tokio::test]
async fn what_fails_half_way_is_taken_back_and_made_when_it_is_asked_for_again() {
    let stage = room().await;
    for command in ["CreateHop", "ConnectHop", "Produce"] {
        let full = CommandError::new(ErrorCode::NoCapacity, "no room for it");
        stage.fake.turn(|knobs| knobs.refuse.push((command, full)));
        let body = consume("bob-cam", "bob-recv", "cam");
        let (status, code, _) = stage.refused("POST", "/v1/consumers", body).await;
        assert_eq!((status, code.as_str()), (503, "no_capacity"), "{command}");
        let left: &[&str] = if command == "Produce" { &HOP } else { &HOP[..1] };
        eventually("it is taken back", || async { parts(&stage) == set(left) }).await;
        stage.fake.turn(|knobs| knobs.refuse.clear());
    }
    stage.ok("POST", "/v1/consumers", consume("bob-cam", "bob-recv", "cam")).await;
    assert_eq!(parts(&stage), set(&[&HOP[..], &CAM].concat()));
}

#[tokio::test]
async fn a_part_hears_and_sees_as_its_room() {
    let stage = Stage::new().await;
    let room = json!({ "id": "room", "workerId": "0", "lastN": 9, "loudestN": 3 });
    let made = stage.ok("POST", "/v1/routers", room).await;
    assert_eq!((&made["lastN"], &made["loudestN"]), (&json!(9), &json!(3)));
    stage.ok("POST", "/v1/transports", transport("bob-recv", "1")).await;
    let parts = stage.fake.resources().into_iter().filter_map(|resource| match resource {
        Resource::Router { create, .. } => Some((create.id, create.selection)),
        _ => None,
    });
    let both = Selection { loudest: 3, last: 9 };
    let parts: Vec<_> = parts.collect();
    assert_eq!(parts, [("room".to_owned(), both), ("room~1".to_owned(), both)]);
}

#[tokio::test]
async fn a_room_spreads_by_itself_when_its_home_has_much_to_do() {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room", "workerId": "0" })).await;
    let create = |id: &str| json!({ "id": id, "routerId": "room", "type": "webrtc" });
    let made = stage.ok("POST", "/v1/transports", create("a")).await;
    assert_eq!(made["workerId"], "0");
    stage.fake.turn(|knobs| knobs.workers[0].cpu_busy = 0.8);
    let mut number = 0;
    let mut place = || {
        number += 1;
        let body = create(&format!("b{number}"));
        let stage = &stage;
        async move { stage.ok("POST", "/v1/transports", body).await["workerId"] == "1" }
    };
    eventually("it goes elsewhere", &mut place).await;
    // Where nobody has room, at home.
    stage.fake.turn(|knobs| knobs.workers[1].cpu_busy = 0.8);
    eventually("it stays", || {
        let placed = place();
        async { !placed.await }
    })
    .await;
    let body = json!({ "routerId": "room", "type": "webrtc", "workerId": "7" });
    let refused = stage.refused("POST", "/v1/transports", body).await;
    assert_eq!(refused, (404, "not_found".into(), "/workerId".into()));
}

/// Its receivers elsewhere count where it is published: what a mirror tells is the dataplane's own affair.
#[tokio::test]
async fn what_nobody_watches_is_told_of_the_producer_alone() {
    let stage = room().await;
    stage.ok("POST", "/v1/consumers", consume("bob-cam", "bob-recv", "cam")).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut stream = stage.client.events(Some(seq), None);
    for (producer, encodings) in [("cam~1", vec![0, 1, 2]), ("cam", vec![2])] {
        let producer = producer.to_owned();
        stage.fake.emit(Event::ProducerLayersUnwatched { producer, encodings });
    }
    let told = loop {
        let event = stream.next().await.expect("an event").expect("an event");
        if let EventData::ProducerLayersUnwatched(told) = event.data {
            break told;
        }
    };
    assert_eq!((told.producer.producer_id.as_str(), told.encodings), ("cam", vec![2]));
    let shown = stage.ok("GET", "/v1/producers/cam", Value::Null).await;
    assert_eq!(shown["layersUnwatched"], json!([2]));
}

/// Ids of the API can never be those of parts.
#[tokio::test]
async fn nobody_names_a_part() {
    let stage = room().await;
    stage.ok("POST", "/v1/consumers", consume("bob-cam", "bob-recv", "cam")).await;
    let commands = stage.fake.commands().len();
    for (method, path) in [
        ("GET", "/v1/routers/room~1"),
        ("DELETE", "/v1/routers/room~1"),
        ("DELETE", "/v1/transports/room~0~1"),
        ("POST", "/v1/producers/cam~1/pause"),
        ("DELETE", "/v1/consumers/cam~0~1"),
    ] {
        let status = stage.call(method, path, Value::Null).await.0;
        assert!(matches!(status, 400 | 404), "{method} {path}: {status}");
    }
    let body = json!({ "id": "room~2" });
    assert_eq!(stage.refused("POST", "/v1/routers", body).await.0, 400);
    let asked = |commands: &[Command]| {
        commands.iter().filter(|one| !matches!(one, Command::Workers | Command::Process)).count()
    };
    assert_eq!(asked(&stage.fake.commands()[commands..]), 0);
}
