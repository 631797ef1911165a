//! Two signaling processes that serve the same rooms: one of them is killed in the middle of a call, its people are
//! back at the other one in time, and nobody sees anything of it but who does not come back.

use std::time::{Duration, Instant};

use ironcast_load::{
    AudioOptions, VideoOptions,
    call::{ConsumeOptions, Published, Subscribed},
};
use ironcast_process_tests::{Joined, LIMIT, Pair, Signaling, Stores, eventually};
use serde_json::{Value, json};

use crate::common::{assert_clean, brief, good_network};

/// For as long a place is kept for who lost his socket.
const WINDOW: Duration = Duration::from_secs(5);

/// Somebody's camera, and who sees it.
struct View<'a> {
    viewer: &'a Joined,
    seen: Subscribed,
}

async fn publish(one: &Joined) -> Published {
    let video = VideoOptions::single(500_000);
    one.participant.publish_video(video).await.expect("the camera is taken")
}

impl<'a> View<'a> {
    async fn open(viewer: &'a Joined, video: &Published) -> Self {
        let seen = viewer.participant.consume(&video.id, &ConsumeOptions::default()).await;
        Self { viewer, seen: seen.expect("it is consumed") }
    }

    /// A second of pictures more comes, and not a packet was lost since the beginning.
    async fn goes_on(&self) {
        let viewer = &self.viewer.participant;
        let frames = viewer.stats(&self.seen).decodable_frames;
        let session = &viewer.receive.session;
        let more =
            session.wait_for(self.seen.ssrc, LIMIT, |stats| stats.decodable_frames >= frames + 25);
        let stats = more.await.unwrap_or_else(|stats| panic!("no pictures: {}", brief(&stats)));
        assert_clean(&stats);
    }
}

async fn go_on(views: &[View<'_>]) {
    for view in views {
        view.goes_on().await;
    }
}

/// Comes back with his token, to the same transports and tracks.
async fn comes_back_at(service: &Signaling, one: &Joined, tracks: &[&Published]) {
    let joined = one.member.come_back_at(service).await;
    assert_eq!(joined["resumed"], true, "{joined}");
    let ids = |list: &Value| {
        let mut ids: Vec<String> = serde_json::from_value(list.clone()).expect("ids");
        ids.sort();
        ids
    };
    let mut transports = vec![one.participant.send.id.clone(), one.participant.receive.id.clone()];
    transports.sort();
    assert_eq!(ids(&joined["transportIds"]), transports);
    let mut producers: Vec<String> = tracks.iter().map(|track| track.id.clone()).collect();
    producers.sort();
    assert_eq!(ids(&joined["producerIds"]), producers);
}

/// Transports of all at the media server.
async fn transports(pair: &Pair) -> usize {
    let snapshot = pair.call("GET", "/v1/snapshot", Value::Null).await;
    let routers = snapshot["routers"].as_array().expect("a list");
    let of_router = |router: &Value| router["transports"].as_array().map_or(0, Vec::len);
    routers.iter().map(of_router).sum()
}

#[tokio::test]
async fn a_killed_process_takes_nobody_with_it() {
    let (pair, stores) = tokio::join!(Pair::start(), Stores::start());
    let settings = stores.settings("main");
    let mut first = pair.start_signaling_with("first", &settings).await;
    let mut second = pair.start_signaling_with("second", &settings).await;
    let network = good_network();
    let alice = first.join("room", "alice", &network).await;
    let bob = first.join("room", "bob", &network).await;
    let dora = first.join("room", "dora", &network).await;
    let cleo = second.join("room", "cleo", &network).await;
    let (of_alice, of_cleo, of_dora) =
        (publish(&alice).await, publish(&cleo).await, publish(&dora).await);
    for (viewer, video) in [(&cleo, &of_alice), (&cleo, &of_dora), (&alice, &of_cleo)] {
        viewer.member.told("new-producer", |told| told["producerId"] == json!(video.id)).await;
    }
    let views = [
        View::open(&bob, &of_alice).await,
        View::open(&bob, &of_cleo).await,
        View::open(&cleo, &of_alice).await,
        View::open(&alice, &of_cleo).await,
    ];
    go_on(&views).await;
    assert_eq!(transports(&pair).await, 8);

    // The first is killed in the middle of it.
    let began = Instant::now();
    first.kill();
    comes_back_at(&second, &alice, &[&of_alice]).await;
    comes_back_at(&second, &bob, &[]).await;
    let took = began.elapsed();
    println!("back at the other process {took:?} after the kill");
    assert!(took < WINDOW, "{took:?}");
    go_on(&views).await;
    // What is theirs is under their control as before.
    let mic = alice.participant.publish_audio(AudioOptions::default()).await.expect("a microphone");
    let heard = bob.participant.consume(&mic.id, &ConsumeOptions::default()).await;
    let heard = heard.expect("bob hears it");
    let session = &bob.participant.receive.session;
    assert!(session.wait_for(heard.ssrc, LIMIT, |stats| stats.verified > 10).await.is_ok());

    // Who does not come back is gone, for all, once, with all that was his.
    let away = dora.member.id();
    let is_away = |told: &Value| told["participantId"] == away;
    let is_away = &is_away;
    // All listen meanwhile: who does not answer pings is gone, too.
    let told = |one: &'static str, joined: &Joined| {
        let member = std::sync::Arc::clone(&joined.member);
        async move { (one, member.told("call:participant-left", is_away).await) }
    };
    for (one, left) in
        futures::future::join_all([told("alice", &alice), told("bob", &bob), told("cleo", &cleo)])
            .await
    {
        assert_eq!(left["reason"], "disconnected", "{one}");
    }
    eventually("what was hers is freed", || async { transports(&pair).await == 6 }).await;
    for one in [&alice, &bob, &cleo] {
        assert_eq!(one.member.count("call:participant-left", |_| true).await, 0, "told once");
    }
    go_on(&views).await;

    // It is started again, and now the other one is killed.
    first.start_again().await;
    let began = Instant::now();
    second.kill();
    comes_back_at(&first, &alice, &[&of_alice, &mic]).await;
    comes_back_at(&first, &bob, &[]).await;
    comes_back_at(&first, &cleo, &[&of_cleo]).await;
    let took = began.elapsed();
    println!("and back again {took:?} after the second kill");
    assert!(took < WINDOW, "{took:?}");
    go_on(&views).await;
    second.start_again().await;
    let eve = second.join("room", "eve", &network).await;
    let view = View::open(&eve, &of_cleo).await;
    view.goes_on().await;
    drop((views, view));
    for Joined { participant, .. } in [alice, bob, cleo, eve] {
        participant.leave().await.expect("they leave");
    }
    eventually("the room is gone", || async {
        let listed = pair.call("GET", "/v1/routers", Value::Null).await;
        listed["items"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}
