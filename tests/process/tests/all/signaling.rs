//! Signaling services come and go; calls stay.

use ironcast_load::{
    AudioOptions, VideoOptions,
    call::{ConsumeOptions, Subscribed},
};
use ironcast_process_tests::{Joined, LIMIT, Member, Pair, Signaling, eventually};
use serde_json::{Value, json};

use crate::common::{assert_clean, brief, good_network};

/// One who sends a camera, and one who sees it.
struct Call {
    alice: Joined,
    bob: Joined,
    seen: Subscribed,
}

impl Call {
    async fn start(service: &Signaling, room: &str) -> Self {
        let alice = service.join(room, "alice", &good_network()).await;
        let bob = service.join(room, "bob", &good_network()).await;
        let video = VideoOptions::single(500_000);
        let video = alice.participant.publish_video(video).await.expect("alice publishes");
        let seen = bob.participant.consume(&video.id, &ConsumeOptions::default()).await;
        let call = Self { alice, bob, seen: seen.expect("bob consumes") };
        call.goes_on().await;
        call
    }

    /// Bob sees a second of pictures more, and none was lost until now.
    async fn goes_on(&self) {
        let bob = &self.bob.participant;
        let frames = bob.stats(&self.seen).decodable_frames;
        let more = bob
            .receive
            .session
            .wait_for(self.seen.ssrc, LIMIT, |stats| stats.decodable_frames >= frames + 25);
        let stats = more.await.unwrap_or_else(|stats| panic!("no pictures: {}", brief(&stats)));
        assert_clean(&stats);
    }

    /// Both come back by new sockets, and have lost nothing.
    async fn come_back(&self) {
        for one in [&self.alice, &self.bob] {
            let joined = one.member.come_back().await;
            assert_eq!(joined["resumed"], true, "{joined}");
            let transports = [&one.participant.send.id, &one.participant.receive.id];
            for id in transports {
                let theirs = joined["transportIds"].as_array().expect("a list");
                assert!(theirs.contains(&json!(id)), "{joined}");
            }
        }
        self.goes_on().await;
    }
}

/// What exists at the control API, by the routers' ids.
async fn routers(pair: &Pair) -> Vec<Value> {
    let listed = pair.call("GET", "/v1/routers", Value::Null).await;
    let items = listed["items"].as_array().expect("a list");
    items.iter().map(|router| router["id"].clone()).collect()
}

#[tokio::test]
async fn a_service_that_is_started_again_finds_its_calls_and_touches_no_others() {
    let pair = Pair::start().await;
    let mut here = pair.start_signaling("here").await;
    let mut there = pair.start_signaling("there").await;
    // Rooms of one name, at two services, are two rooms.
    let ours = Call::start(&here, "room").await;
    let theirs = Call::start(&there, "room").await;
    let both = routers(&pair).await;
    assert_eq!(both.len(), 2);

    assert!(here.terminate().await.success());
    ours.goes_on().await;
    theirs.goes_on().await;
    here.start_again().await;
    ours.come_back().await;
    // All of it is under control as before.
    let alice = &ours.alice.participant;
    let mic = alice.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let heard = ours.bob.participant.consume(&mic.id, &ConsumeOptions::default()).await;
    let heard = heard.expect("bob hears it");
    let sound = ours
        .bob
        .participant
        .receive
        .session
        .wait_for(heard.ssrc, LIMIT, |stats| stats.verified > 10);
    assert!(sound.await.is_ok());

    // Without a word it is the same.
    there.kill();
    theirs.goes_on().await;
    there.start_again().await;
    theirs.come_back().await;
    ours.goes_on().await;
    assert_eq!(routers(&pair).await, both);

    // Each room ends with its own people.
    for Joined { participant, .. } in [theirs.alice, theirs.bob] {
        participant.leave().await.expect("they leave");
    }
    eventually("their room is gone", || async { routers(&pair).await.len() == 1 }).await;
    let left = [&ours.alice.member, &ours.bob.member];
    for member in left {
        assert_eq!(Member::come_back(member).await["resumed"], true);
    }
}

/// Who does not come back is removed, as after any lost socket.
#[tokio::test]
async fn who_does_not_come_back_to_a_service_that_was_started_again_is_gone() {
    let pair = Pair::start().await;
    let mut service = pair.start_signaling("here").await;
    let call = Call::start(&service, "room").await;
    assert!(service.terminate().await.success());
    service.start_again().await;
    let joined = call.bob.member.come_back().await;
    assert_eq!(
        (&joined["resumed"], &joined["participants"][0]["name"]),
        (&json!(true), &json!("alice"))
    );
    let room = async || {
        let snapshot = pair.call("GET", "/v1/snapshot", Value::Null).await;
        snapshot["routers"][0]["transports"].as_array().map(Vec::len)
    };
    assert_eq!(room().await, Some(4));
    eventually("alice is gone", || async { room().await == Some(2) }).await;
}
