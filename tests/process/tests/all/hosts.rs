//! Media hosts that are lost: one of two, whose rooms go to the other, and the only one, which is
//! waited for.

use std::time::{Duration, Instant};

use ironcast_load::{VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{Joined, LIMIT, Pair, Signaling, eventually};
use serde_json::{Value, json};

use crate::common::{brief, good_network};

/// From the loss of a host until people see each other again.
const BACK_WITHIN: Duration = Duration::from_secs(5);

/// One service for two complete installations.
async fn start(pairs: [&Pair; 2]) -> Signaling {
    let hosts = [("one", pairs[0]), ("two", pairs[1])].map(|(name, pair)| {
        let ca = pair.state_dir().join("control-cert.pem");
        format!("https://{};name={name};region={name};ca={}", pair.api, ca.display())
    });
    let more = [("signaling.hosts", hosts.join(","))];
    let service = pairs[0].start_signaling_with("hosts", &more).await;
    eventually("both hosts are up", || async {
        let metrics = service.text("/metrics").await;
        ["one", "two"].iter().all(|name| {
            metrics.contains(&format!("ironcast_signaling_media_host_up{{host=\"{name}\"}} 1"))
        })
    })
    .await;
    service
}

async fn routers(pair: &Pair) -> usize {
    let listed = pair.call("GET", "/v1/routers", Value::Null).await;
    listed["items"].as_array().expect("a list").len()
}

/// Waits until the second sees the first one.
async fn sees(alice: &Joined, bob: &Joined) {
    let video = VideoOptions::single(300_000);
    let video = alice.participant.publish_video(video).await.expect("alice publishes");
    let seen = bob.participant.consume(&video.id, &ConsumeOptions::default()).await;
    let seen = seen.expect("bob consumes");
    let session = &bob.participant.receive.session;
    let stats = session.wait_for(seen.ssrc, LIMIT, |stats| stats.decodable_frames >= 3).await;
    stats.unwrap_or_else(|stats| panic!("no pictures: {}", brief(&stats)));
}

#[tokio::test]
async fn people_of_a_lost_host_are_back_at_another_within_seconds() {
    let (one, two) = (Pair::start().await, Pair::start().await);
    let service = start([&one, &two]).await;
    let alice = service.join("room", "alice", &good_network()).await;
    let bob = service.join("room", "bob", &good_network()).await;
    sees(&alice, &bob).await;
    let at_one = routers(&one).await == 1;
    let (mut lost, other) = if at_one { (one, two) } else { (two, one) };
    assert_eq!(routers(&other).await, 0);

    let began = Instant::now();
    lost.kill_control();
    lost.signal_dataplane("KILL");
    let network = good_network();
    let (alice, bob) =
        tokio::join!(alice.again("room", "alice", &network), bob.again("room", "bob", &network),);
    sees(&alice, &bob).await;
    let took = began.elapsed();
    println!("seen again {took:?} after the host was killed");
    assert!(took < BACK_WITHIN, "{took:?}");
    assert_eq!(routers(&other).await, 1);
    let view = service.read("/internal/rooms/room").await;
    assert_eq!(view["mediaHost"], format!("https://{}", other.api));
    let metrics = service.text("/metrics").await;
    assert_eq!(metrics.matches("ironcast_signaling_media_host_up{").count(), 2);
}

#[tokio::test]
async fn while_the_control_plane_is_away_calls_go_on_and_everything_is_refused_at_once() {
    let mut pair = Pair::start().await;
    let service = pair.start_signaling("away").await;
    let alice = service.join("room", "alice", &good_network()).await;
    let bob = service.join("room", "bob", &good_network()).await;
    sees(&alice, &bob).await;
    pair.kill_control();
    for one in [&alice, &bob] {
        let told = one.member.told("error", |_| true).await;
        assert_eq!(told["code"], "media_unavailable", "{told}");
        assert_eq!(told["message"], "Media Server Unavailable");
    }
    let began = Instant::now();
    for event in ["sfu_get_router_capabilities", "sfu_create_transport", "createProducerTransport"]
    {
        let answer = alice.member.ask(event, json!({ "direction": "send" })).await;
        assert_eq!(answer["error"]["code"], "media_unavailable", "{answer}");
    }
    // Less than one of them would wait.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    pair.start_control().await;
    eventually("it is asked again", || async {
        let answer = alice.member.ask("sfu_get_router_capabilities", json!({})).await;
        answer.get("error").is_none()
    })
    .await;
    sees(&bob, &alice).await;
}
