//! Connectivity: restart, a client that changes its address, consent, single-port mode.

use std::{net::UdpSocket, time::Duration};

use ironcast_load::{
    PeerOptions, VideoOptions,
    call::{ConsumeOptions, JoinOptions},
    clock, ortc,
    stun::{self, Check},
};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean, good_network, sees};

#[tokio::test]
async fn an_ice_restart_keeps_the_media() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 15).await;
    for transport in [&call.alice.send, &call.bob.receive] {
        for _ in 0..2 {
            transport.restart_ice(call.pair.control.as_ref()).await.expect("restarted");
            let frames = call.bob.stats(&call.seen).decodable_frames;
            call.bob_sees("more frames", |stats| stats.decodable_frames > frames + 20).await;
        }
    }
    assert_clean(&call.bob.stats(&call.seen));
    let answered = &call.bob.receive.session.peer().counters().checks_answered;
    let before = answered.load(std::sync::atomic::Ordering::Relaxed);
    call.bob.receive.session.peer().check_now();
    eventually("a check with the new credentials is answered", || async {
        answered.load(std::sync::atomic::Ordering::Relaxed) > before
    })
    .await;
}

#[tokio::test]
async fn a_client_that_changes_its_address_keeps_its_call() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 15).await;
    for session in [&call.bob.receive.session, &call.alice.send.session] {
        for address in [None, Some("127.0.0.2".parse().expect("an address"))] {
            let moved_ns = clock::now_ns();
            session.peer().rebind(address).expect("a free port");
            let stats = call
                .bob_sees("a frame after the change", |stats| {
                    stats.last_frame_ns.is_some_and(|last| last > moved_ns + 1_500_000_000)
                })
                .await;
            assert_eq!(stats.corrupt, 0);
        }
    }
    let path = format!("/v1/transports/{}", call.bob.receive.id);
    let shown = call.pair.call("GET", &path, Value::Null).await;
    assert_eq!(shown["iceSelectedTuple"]["remoteIp"], "127.0.0.2", "{shown}");
}

#[tokio::test]
async fn a_client_that_vanishes_is_disconnected_and_then_given_up() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let mut options = good_network();
    options.transport = Some(json!({ "iceConsentTimeout": 2, "iceDisconnectedTimeout": 1 }));
    let alice = pair.join_with("room", "alice", &options).await;
    let bob = pair.join_with("room", "bob", &options).await;
    let mut events = pair.control.events(None).await.expect("events");
    let id = alice.send.id.clone();
    drop(alice);
    let event = tokio::time::timeout(LIMIT, async {
        while let Some(event) = events.next().await {
            if event.event == "transport.closed" && event.data["transportId"] == *id {
                return event.data["reason"].clone();
            }
        }
        Value::Null
    })
    .await;
    assert_eq!(event.expect("the transport is closed in time"), "consent_lost");
    eventually("the transport is gone", || async {
        let path = format!("/v1/transports/{id}");
        !matches!(pair.control.send("GET", &path, &[], &[]).await, Ok(answer) if answer.status == 200)
    })
    .await;
    let path = format!("/v1/transports/{}", bob.send.id);
    let shown = pair.call("GET", &path, Value::Null).await;
    assert_eq!(shown["iceState"], "completed", "who keeps checking stays");
}

#[tokio::test]
async fn one_port_serves_two_workers() {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    drop(socket);
    let pair =
        Pair::builder().set("rtc.single_port", port).set("dataplane.workers", 2).start().await;
    let workers = pair.call("GET", "/v1/workers", Value::Null).await;
    let workers = workers.as_array().expect("a list").clone();
    assert_eq!(workers.len(), 2);
    let mut calls = Vec::new();
    for worker in &workers {
        let room = format!("room-{}", worker["id"].as_str().expect("an id"));
        let body = json!({ "id": room, "workerId": worker["id"] });
        pair.call("POST", "/v1/routers", body).await;
        let alice = pair.join_with(&room, "alice", &good_network()).await;
        let bob = pair.join_with(&room, "bob", &good_network()).await;
        let camera = VideoOptions::single(500_000);
        let video = alice.publish_video(camera).await.expect("a camera");
        let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
        calls.push((room, alice, bob, seen));
    }
    for (_, alice, bob, seen) in &calls {
        assert_eq!(alice.send.session.peer().remote_addr().expect("connected").port(), port);
        let stats = sees(bob, seen, "frames", |stats| stats.decodable_frames >= 30).await;
        assert_clean(&stats);
    }
    let rooms: Vec<&str> = calls.iter().map(|call| call.0.as_str()).collect();
    a_check_on_the_wrong_core_reaches_its_owner(&pair, &rooms).await;
}

/// The kernel's steering looks for the username among the first attributes. Behind many others it
/// is not found, the kernel takes any worker, and that one hands the check over.
async fn a_check_on_the_wrong_core_reaches_its_owner(pair: &Pair, rooms: &[&str]) {
    const CHECKS: u8 = 24;
    let before = pair.metric("handed_over").await;
    let filler: Vec<(u16, &[u8])> = (0..12).map(|number| (0xC100 + number, &b"none"[..])).collect();
    for number in 0..CHECKS {
        let room = rooms[usize::from(number) % rooms.len()];
        let body = json!({ "routerId": room, "type": "webrtc" });
        let transport = pair.call("POST", "/v1/transports", body).await;
        let remote = ortc::remote(&transport).expect("a transport");
        let username = format!("{}:abcd", remote.ice.username_fragment);
        let check = Check {
            transaction: [number; 12],
            username: &username,
            password: &remote.ice.password,
            priority: 1,
            tie_breaker: 7,
            use_candidate: false,
        };
        let check = stun::binding_request_behind(&check, &filler);
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
        socket.send_to(&check, remote.candidates[0]).await.expect("loopback takes it");
        let mut answer = [0; 1_500];
        let answered = tokio::time::timeout(LIMIT, socket.recv(&mut answer)).await;
        let length = answered.unwrap_or_else(|_| panic!("check {number} has no answer"));
        let answer = &answer[..length.expect("received")];
        let message = stun::read(answer).expect("STUN");
        assert!(message.is_authentic(&remote.ice.password));
        assert_eq!(message.mapped, Some(socket.local_addr().expect("bound")));
    }
    eventually("some checks came to the wrong core", || async {
        pair.metric("handed_over").await > before
    })
    .await;
}

#[tokio::test]
async fn a_second_address_of_the_server_works_too() {
    let pair = Pair::builder().set("rtc.listen", "127.0.0.1,127.0.0.3").start().await;
    pair.create_room("room").await;
    let body = json!({ "routerId": "room", "type": "webrtc" });
    let transport = pair.call("POST", "/v1/transports", body).await;
    let addresses: Vec<&str> = transport["iceCandidates"]
        .as_array()
        .expect("candidates")
        .iter()
        .filter_map(|one| one["address"].as_str())
        .collect();
    assert!(addresses.contains(&"127.0.0.1") && addresses.contains(&"127.0.0.3"), "{transport}");
    for bind in ["127.0.0.1", "127.0.0.5"] {
        let options = JoinOptions {
            bind: Some(bind.parse().expect("an address")),
            peer: PeerOptions {
                consent_interval: Duration::from_millis(500),
                ..PeerOptions::default()
            },
            ..JoinOptions::default()
        };
        pair.join_with("room", "alice", &options).await.leave().await.expect("leaves");
    }
}
