//! Pipes: a track of one host's room in another host's, its layers chosen there.

use ironcast_load::{
    AudioOptions, Control as _, VideoOptions,
    call::{ConsumeOptions, Published},
};
use ironcast_process_tests::{Hosts, Pair, eventually};
use serde_json::{Value, json};

use crate::common::{assert_clean, good_network, sees};

/// A pipe transport on each of two hosts, connected.
async fn trunk(one: &Pair, other: &Pair, more: Value) -> (String, String) {
    let make = async |pair: &Pair| {
        let mut body = json!({ "routerId": "room", "type": "pipe" });
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().unwrap_or_default());
        pair.call("POST", "/v1/transports", body).await
    };
    let (here, there) = (make(one).await, make(other).await);
    for (pair, own, peer) in [(one, &here, &there), (other, &there, &here)] {
        let path = format!("/v1/transports/{}/connect", own["id"].as_str().expect("an id"));
        let mut body =
            json!({ "ip": peer["tuple"]["localAddress"], "port": peer["tuple"]["localPort"] });
        if !peer["srtpParameters"].is_null() {
            body["srtpParameters"] = peer["srtpParameters"].clone();
        }
        let answer = pair.call("POST", &path, body).await;
        assert_eq!(answer["tuple"]["remotePort"], peer["tuple"]["localPort"], "{answer}");
    }
    let id = |transport: &Value| transport["id"].as_str().expect("an id").to_owned();
    (id(&here), id(&there))
}

/// Consumes a track on one host's trunk and produces it on the other's.
async fn pipe(
    one: &Pair,
    other: &Pair,
    (here, there): (&str, &str),
    track: &Published,
    kind: &str,
) -> Value {
    let body = json!({ "transportId": here, "producerId": track.id });
    let consumer = one.call("POST", "/v1/consumers", body).await;
    assert_eq!(consumer["type"], "pipe");
    let body = json!({
        "id": track.id, "transportId": there, "kind": kind,
        "rtpParameters": consumer["rtpParameters"],
    });
    let producer = other.call("POST", "/v1/producers", body).await;
    assert_eq!(producer["type"], track.kind.as_str());
    consumer
}

#[tokio::test]
async fn a_camera_and_a_microphone_pass_a_trunk_that_was_made_by_hand() {
    for more in
        [json!({}), json!({ "enableRtx": true }), json!({ "enableSrtp": true, "enableRtx": true })]
    {
        let (one, other) = (Pair::start().await, Pair::start().await);
        for pair in [&one, &other] {
            pair.create_room("room").await;
        }
        let alice = one.join_with("room", "alice", &good_network()).await;
        let bob = other.join_with("room", "bob", &good_network()).await;
        let video = VideoOptions::default();
        let top = video.stream + 2;
        let video = alice.publish_video(video).await.expect("a camera");
        let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
        let (here, there) = trunk(&one, &other, more.clone()).await;
        let ends = (here.as_str(), there.as_str());
        let consumer = pipe(&one, &other, ends, &video, "video").await;
        pipe(&one, &other, ends, &audio, "audio").await;
        let encodings = consumer["rtpParameters"]["encodings"].as_array().expect("a list");
        assert_eq!(encodings.len(), 3);
        assert!(consumer["rtpParameters"]["mid"].is_null());
        let has_rtx = !more["enableRtx"].is_null();
        assert!(encodings.iter().all(|one| one["rtx"].is_null() != has_rtx), "{consumer}");

        let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("the camera");
        let heard =
            bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("the microphone");
        let stats = sees(&bob, &seen, "60 frames of the top layer", |stats| {
            stats.stream == Some(top) && stats.decodable_frames >= 60
        })
        .await;
        assert_clean(&stats);
        let stats = sees(&bob, &heard, "100 packets of sound", |stats| stats.verified >= 100).await;
        assert_clean(&stats);

        let path = format!("/v1/consumers/{}", consumer["id"].as_str().expect("an id"));
        let stats = one.call("GET", &format!("{path}/stats"), Value::Null).await;
        let records = stats.as_array().expect("a list");
        assert_eq!(records.len(), 3, "{stats}");
        assert!(records.iter().all(|one| one["type"] == "outbound-rtp"), "{stats}");
        let shown = one.call("GET", &format!("/v1/transports/{here}"), Value::Null).await;
        assert_eq!((&shown["type"], &shown["rtx"]), (&json!("pipe"), &json!(has_rtx)));
        let stats = one.call("GET", &format!("/v1/transports/{here}/stats"), Value::Null).await;
        assert_eq!(stats[0]["type"], "pipe-transport");
        let dump = one.call("GET", &format!("{path}/dump"), Value::Null).await;
        assert!(dump.to_string().contains("pipe"));

        // The far side sees how it arrives.
        let far = format!("/v1/producers/{}", video.id);
        eventually("the far side has scores", || async {
            let shown = other.call("GET", &far, Value::Null).await;
            shown["score"].as_array().is_some_and(|all| all.len() == 3)
        })
        .await;
        one.call("DELETE", &format!("/v1/transports/{here}"), Value::Null).await;
        assert_eq!(one.refused("GET", &path, Value::Null).await.0, 404);
    }
}

#[tokio::test]
async fn a_control_plane_that_comes_back_knows_pipes() {
    let (mut one, other) = (Pair::start().await, Pair::start().await);
    for pair in [&one, &other] {
        pair.create_room("room").await;
    }
    let alice = one.join_with("room", "alice", &good_network()).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let more = json!({ "enableSrtp": true, "enableRtx": true });
    let (here, there) = trunk(&one, &other, more).await;
    let consumer = pipe(&one, &other, (&here, &there), &video, "video").await;
    let paths = [
        format!("/v1/transports/{here}"),
        format!("/v1/consumers/{}", consumer["id"].as_str().expect("an id")),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(one.call("GET", path, Value::Null).await);
    }
    one.kill_control();
    one.start_control().await;
    for (path, before) in paths.iter().zip(before) {
        let after = one.call("GET", path, Value::Null).await;
        for field in ["type", "tuple", "srtpParameters", "rtx", "rtpParameters", "producerId"] {
            assert_eq!(after[field], before[field], "{path} {field}");
        }
    }
}

/// A track that a participant of one host has published, piped into the other host's room.
async fn pipe_over(hosts: &Hosts, from: usize, producer: &str) -> Value {
    let body = json!({
        "producerId": producer, "routerId": "room", "remote": { "url": hosts.url(1 - from) },
    });
    hosts.pairs[from].call("POST", "/v1/pipes", body).await
}

#[tokio::test]
async fn one_call_pipes_to_another_host_and_the_pipe_outlives_both_control_planes() {
    let mut hosts = Hosts::start(|builder| builder).await;
    for pair in &hosts.pairs {
        pair.create_room("room").await;
    }
    let alice = hosts.pairs[0].join_with("room", "alice", &hosts.options(0)).await;
    let bob = hosts.pairs[1].join_with("room", "bob", &hosts.options(1)).await;
    let video = VideoOptions::default();
    let top = video.stream + 2;
    let video = alice.publish_video(video).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let camera = pipe_over(&hosts, 0, &video.id).await;
    pipe_over(&hosts, 0, &audio.id).await;
    assert_eq!(camera["producerId"], video.id.as_str());
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("the camera");
    let heard = bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("the microphone");
    let sees_more = async |what: &str| {
        let before = bob.receive.session.receive_stats(seen.ssrc).decodable_frames;
        let stats = sees(&bob, &seen, what, |stats| {
            stats.stream == Some(top) && stats.decodable_frames >= before + 60
        });
        assert_clean(&stats.await);
        let before = bob.receive.session.receive_stats(heard.ssrc).verified;
        let stats = sees(&bob, &heard, what, |stats| stats.verified >= before + 100);
        assert_clean(&stats.await);
    };
    sees_more("it arrives").await;
    for host in [0, 1] {
        hosts.pairs[host].kill_control();
        sees_more("without a control plane").await;
        hosts.pairs[host].start_control().await;
        sees_more("with another one").await;
    }
    // It goes on being followed.
    let paused = async |expected: bool| {
        eventually("carried over", || async {
            let path = format!("/v1/producers/{}", video.id);
            hosts.pairs[1].call("GET", &path, Value::Null).await["paused"] == expected
        })
        .await;
    };
    let path = format!("/v1/producers/{}", video.id);
    hosts.pairs[0].call("POST", &format!("{path}/pause"), Value::Null).await;
    paused(true).await;
    hosts.pairs[0].call("POST", &format!("{path}/resume"), Value::Null).await;
    paused(false).await;
    sees_more("after a pause").await;
    let body = json!({
        "producerId": video.id, "routerId": "room", "remote": { "url": hosts.url(1) },
    });
    assert_eq!(hosts.pairs[0].refused("POST", "/v1/pipes", body).await.1, "already_exists");
    hosts.pairs[1].call("DELETE", &path, Value::Null).await;
    let path = format!("/v1/consumers/{}", camera["consumerId"].as_str().expect("an id"));
    eventually("the far end's end is carried back", || async {
        hosts.pairs[0].control.call("GET", &path, None).await.is_err()
    })
    .await;
}

/// Of each host; with two cores there is room for no more at these bit rates.
const PEOPLE: usize = 20;

#[tokio::test]
async fn a_room_of_twenty_people_on_each_of_two_hosts() {
    let hosts = Hosts::start(|builder| builder).await;
    let mut people = Vec::new();
    for (host, pair) in hosts.pairs.iter().enumerate() {
        pair.create_room("room").await;
        for number in 0..PEOPLE {
            let name = format!("person-{host}-{number}");
            let person = pair.join_with("room", &name, &hosts.options(host)).await;
            people.push((host, person));
        }
    }
    let mut tracks = Vec::new();
    for (host, person) in &people {
        let camera = VideoOptions { frame_rate: 3.0, ..VideoOptions::single(12_000) };
        let camera = person.publish_video(camera).await.expect("a camera");
        pipe_over(&hosts, *host, &camera.id).await;
        tracks.push((*host, camera));
    }
    // Everybody sees everybody else's camera.
    let mut seen = Vec::new();
    for (at, (_, person)) in people.iter().enumerate() {
        for (of, (_, track)) in tracks.iter().enumerate().filter(|(of, _)| *of != at) {
            let stream = person.consume(&track.id, &ConsumeOptions::default()).await;
            seen.push((at, of, stream.expect("a stream")));
        }
    }
    assert_eq!(seen.len(), 2 * PEOPLE * (2 * PEOPLE - 1));
    for (at, of, stream) in &seen {
        let what = format!("{at} sees {of}");
        let stats = sees(&people[*at].1, stream, &what, |stats| stats.decodable_frames >= 10).await;
        assert_clean(&stats);
    }
    // One trunk carries them all each way.
    for pair in &hosts.pairs {
        let listed = pair.call("GET", "/v1/transports?routerId=room&limit=1000", Value::Null).await;
        let items = listed["items"].as_array().expect("a list");
        let pipes = items.iter().filter(|one| one["type"] == "pipe");
        assert_eq!(pipes.count(), 2, "one that was made here, and one that was made there");
    }
}

/// Whichever workers its rooms are on: no packet of it leaves the process.
#[tokio::test]
async fn a_camera_is_in_two_rooms_of_one_host() {
    let pair = Pair::builder().set("dataplane.workers", 2).start().await;
    for (room, worker) in [("one", "0"), ("other", "1"), ("third", "0")] {
        let body = json!({ "id": room, "workerId": worker });
        pair.call("POST", "/v1/routers", body).await;
    }
    let alice = pair.join_with("one", "alice", &good_network()).await;
    let video = VideoOptions::default();
    let top = video.stream + 2;
    let video = alice.publish_video(video).await.expect("a camera");
    let listed = async |room: &str| {
        let path = format!("/v1/transports?routerId={room}");
        let listed = pair.call("GET", &path, Value::Null).await;
        let items = listed["items"].as_array().expect("a list").clone();
        items.into_iter().filter(|one| one["type"] == "pipe").collect::<Vec<_>>()
    };
    for room in ["other", "third"] {
        let carol = pair.join_with(room, &format!("{room}-carol"), &good_network()).await;
        let by_memory = pair.metric("hop_datagrams_in").await;
        let body = json!({ "producerId": video.id, "routerId": room });
        let piped = pair.call("POST", "/v1/pipes", body).await;
        let copy = piped["producerId"].as_str().expect("an id");
        let seen = carol.consume(copy, &ConsumeOptions::default()).await.expect("the camera");
        let stats = sees(&carol, &seen, "60 frames of the top layer", |stats| {
            stats.stream == Some(top) && stats.decodable_frames >= 60
        })
        .await;
        assert_clean(&stats);
        let by_memory = pair.metric("hop_datagrams_in").await - by_memory;
        assert!(by_memory > 200.0, "{room}: {by_memory}");
        let pipes = listed(room).await;
        assert_eq!(pipes.len(), 1, "{room}");
        assert!(pipes[0]["tuple"]["localPort"].is_u64(), "{}", pipes[0]);
    }
    assert_eq!(pair.metric("hop_stale").await, 0.0);
    // Closed and made again: the same, at new sockets.
    let old: Vec<_> = listed("one").await.iter().map(|one| one["id"].clone()).collect();
    assert_eq!(old.len(), 2, "one for each room");
    for id in &old {
        let path = format!("/v1/transports/{}", id.as_str().expect("an id"));
        pair.call("DELETE", &path, Value::Null).await;
    }
    for room in ["other", "third"] {
        eventually("the other end ends", || async { listed(room).await.is_empty() }).await;
    }
    let body = json!({ "producerId": video.id, "routerId": "other" });
    let piped = pair.call("POST", "/v1/pipes", body).await;
    let copy = piped["producerId"].as_str().expect("an id");
    let bob = pair.join_with("other", "bob", &good_network()).await;
    let seen = bob.consume(copy, &ConsumeOptions::default()).await.expect("the camera");
    let stats = sees(&bob, &seen, "60 frames again", |stats| stats.decodable_frames >= 60).await;
    assert_clean(&stats);
}
