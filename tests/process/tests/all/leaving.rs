//! Who leaves takes everything along.

use ironcast_load::{AudioOptions, PeerHandle, PeerState, VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::Value;

use crate::common::{OneToOne, good_network, sees};

async fn count(pair: &Pair, what: &str) -> usize {
    let list = pair.call("GET", &format!("/v1/{what}"), Value::Null).await;
    list["items"].as_array().or(list.as_array()).expect("a list").len()
}

#[tokio::test]
async fn leaving_frees_everything_of_a_participant() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let video = alice.publish_video(VideoOptions::default()).await.expect("a camera");
    let audio = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
    bob.consume(&audio.id, &ConsumeOptions::default()).await.expect("heard");
    sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 5).await;
    let counts = (
        count(&pair, "transports").await,
        count(&pair, "producers").await,
        count(&pair, "consumers").await,
    );
    assert_eq!(counts, (4, 2, 2));

    alice.leave().await.expect("alice leaves");
    assert_eq!(count(&pair, "transports").await, 2);
    assert_eq!(count(&pair, "producers").await, 0);
    assert_eq!(count(&pair, "consumers").await, 0, "consumers go with their producer");
    bob.leave().await.expect("bob leaves");
    pair.call("DELETE", "/v1/routers/room", Value::Null).await;
    assert_eq!(count(&pair, "routers").await, 0);
    eventually("the worker has nothing left", || async {
        let workers = pair.call("GET", "/v1/workers", Value::Null).await;
        ["routers", "transports", "producers", "consumers"].iter().all(|what| workers[0][what] == 0)
    })
    .await;
}

#[tokio::test]
async fn close_notify_closes_the_transport() {
    let call = OneToOne::start(VideoOptions::single(500_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let mut events = call.pair.control.events(None).await.expect("events");
    let id = call.alice.send.id.clone();
    call.alice.send.session.peer().close().await;
    let mut closed = Vec::new();
    tokio::time::timeout(LIMIT, async {
        while let Some(event) = events.next().await {
            if event.event == "transport.closed" && event.data["transportId"] == *id {
                assert_eq!(event.data["reason"], "dtls_closed");
                return;
            }
            closed.push(event.event);
        }
    })
    .await
    .expect("the transport is closed in time");
    let (status, code) =
        call.pair.refused("GET", &format!("/v1/transports/{id}"), Value::Null).await;
    assert_eq!((status, code.as_str()), (404, "not_found"));
    assert!(
        closed.iter().any(|event| event == "consumer.closed"),
        "bob's consumer closes before the transport: {closed:?}"
    );
}

async fn hears_a_goodbye(peer: &PeerHandle) {
    let mut state = peer.state();
    let closed = state.wait_for(|state| *state == PeerState::Closed("close_notify"));
    tokio::time::timeout(LIMIT, closed).await.expect("told in time").expect("the peer lives");
}

#[tokio::test]
async fn who_is_sent_away_is_told() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let transport = format!("/v1/transports/{}", alice.send.id);
    pair.call("DELETE", &transport, Value::Null).await;
    hears_a_goodbye(alice.send.session.peer()).await;
    let others = [&alice.receive, &bob.send, &bob.receive];
    assert!(
        others
            .iter()
            .all(|one| { matches!(*one.session.peer().state().borrow(), PeerState::Connected(_)) })
    );
    pair.call("DELETE", "/v1/routers/room", Value::Null).await;
    for other in others {
        hears_a_goodbye(other.session.peer()).await;
    }
}

#[tokio::test]
async fn everybody_is_told_when_the_process_ends() {
    let mut pair = Pair::start().await;
    pair.create_room("room").await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    assert!(pair.end_dataplane().await.success());
    for transport in [&alice.send, &alice.receive] {
        hears_a_goodbye(transport.session.peer()).await;
    }
}

#[tokio::test]
async fn a_hundred_joins_and_leaves_leave_nothing() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let descriptors = |pair: &Pair| {
        let path = format!("/proc/{}/fd", pair.dataplane_pid());
        std::fs::read_dir(path).expect("it runs").count()
    };
    let mut settled = 0;
    for round in 0..50 {
        let alice = pair.join_with("room", "alice", &good_network()).await;
        alice.leave().await.expect("alice leaves");
        if round == 9 {
            settled = descriptors(&pair);
        }
    }
    eventually("descriptors are given back", || async { descriptors(&pair) <= settled + 4 }).await;
    assert_eq!(count(&pair, "transports").await, 0);
}
