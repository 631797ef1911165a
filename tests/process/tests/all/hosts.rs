//! Several media hosts: one of two is lost, whose rooms go to the other, or whose part of a room does;
//! and the only one is lost, which is waited for.

use std::time::{Duration, Instant};

use futures::future::join_all;
use ironcast_load::{
    AudioOptions, VideoOptions,
    call::{ConsumeOptions, JoinOptions, Published},
};
use ironcast_process_tests::{Hosts, Joined, LIMIT, Pair, Signaling, eventually};
use serde_json::{Value, json};

use crate::common::{assert_clean, brief, good_network};

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

/// People at each of two hosts of one room.
const EACH: usize = 4;

/// A camera and a microphone, sent or received (then by their SSRCs).
struct Tracks<T> {
    camera: T,
    sound: T,
}

async fn send(person: &Joined) -> Tracks<Published> {
    let camera = VideoOptions { frame_rate: 10.0, ..VideoOptions::single(30_000) };
    let camera = person.participant.publish_video(camera).await.expect("a camera");
    let sound = person.participant.publish_audio(AudioOptions::default()).await;
    Tracks { camera, sound: sound.expect("a microphone") }
}

async fn receive(person: &Joined, of: &Tracks<Published>) -> Tracks<u32> {
    let consume = async |track: &Published| {
        let consumed = person.participant.consume(&track.id, &ConsumeOptions::default()).await;
        consumed.unwrap_or_else(|error| panic!("{}: {error}", track.id)).ssrc
    };
    Tracks { camera: consume(&of.camera).await, sound: consume(&of.sound).await }
}

/// Waits for more pictures and sound, all of it as it was sent.
async fn gets(person: &Joined, what: &str, seen: &Tracks<u32>, frames: u64) {
    let session = &person.participant.receive.session;
    let before = session.receive_stats(seen.camera).decodable_frames;
    let enough = |stats: &ironcast_load::ReceiveStats| stats.decodable_frames >= before + frames;
    let camera = session.wait_for(seen.camera, LIMIT, enough).await;
    let camera = camera.unwrap_or_else(|stats| panic!("{what}: no pictures: {}", brief(&stats)));
    assert_clean(&camera);
    let before = session.receive_stats(seen.sound).verified;
    let enough = |stats: &ironcast_load::ReceiveStats| stats.verified >= before + 3 * frames;
    let sound = session.wait_for(seen.sound, LIMIT, enough).await;
    let sound = sound.unwrap_or_else(|stats| panic!("{what}: no sound: {}", brief(&stats)));
    assert_clean(&sound);
}

/// Does something while everybody's socket stays alive.
async fn meanwhile<T>(people: &[Joined], work: impl Future<Output = T>) -> T {
    let alive = async {
        loop {
            for person in people {
                person.member.ask("heartbeat", json!({})).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        done = work => done,
        () = alive => unreachable!("it has no end"),
    }
}

/// At which host each participant of the room is.
async fn places(service: &Signaling, hosts: &Hosts) -> Vec<usize> {
    let view = service.read("/internal/rooms/room").await;
    let urls = hosts.pairs.each_ref().map(|pair| json!(format!("https://{}", pair.api)));
    let people = view["participants"].as_array().expect("a list").iter();
    let place = |one: &Value| urls.iter().position(|url| *url == one["mediaHost"]);
    people.map(|one| place(one).unwrap_or_else(|| panic!("{view}"))).collect()
}

#[tokio::test]
async fn a_room_is_at_two_hosts_and_who_was_at_a_lost_one_is_back_within_seconds() {
    let mut hosts = Hosts::start(|builder| builder).await;
    let limit = [("signaling.people_per_host", EACH.to_string())];
    let mut service = hosts.start_signaling(&limit).await;
    let network = JoinOptions { bind: None, ..hosts.options(0) };
    let (mut people, mut sent) = (Vec::new(), Vec::new());
    for number in 0..2 * EACH {
        let person = service.join("room", &format!("person-{number}"), &network).await;
        sent.push(send(&person).await);
        people.push(person);
    }
    let count = |places: &[usize], host: usize| places.iter().filter(|it| **it == host).count();
    let before = places(&service, &hosts).await;
    assert_eq!((count(&before, 0), count(&before, 1)), (EACH, EACH));
    // Everybody sees and hears everybody else.
    let mut all = Vec::new();
    for (at, person) in people.iter().enumerate() {
        for (of, tracks) in sent.iter().enumerate().filter(|(of, _)| *of != at) {
            all.push((at, of, receive(person, tracks).await));
        }
    }
    let watched = all.iter().map(async |(at, of, seen)| {
        gets(&people[*at], &format!("{at} of {of}"), seen, 10).await;
    });
    meanwhile(&people, join_all(watched)).await;
    let metrics = service.text("/metrics").await;
    let pipes = format!("ironcast_signaling_pipes_total{{success=\"true\"}} {}", 4 * EACH);
    assert!(metrics.contains(&pipes), "two tracks of each: {metrics}");

    // The service is started again. Calls go on, and what is piped is not piped twice.
    service.terminate().await;
    service.start_again().await;
    for person in &people {
        let back = person.member.come_back().await;
        assert_eq!(back["resumed"], true, "{back}");
    }
    let late = service.join("room", "late", &network).await;
    let watched = sent.iter().map(async |tracks| {
        gets(&late, "who comes late", &receive(&late, tracks).await, 5).await;
    });
    meanwhile(&people, join_all(watched)).await;
    late.member.ask("leaveRoom", json!({})).await;

    // The first ones are at the room's own host. The other one is lost.
    let home = usize::from(is_own(&hosts.pairs[1]).await);
    let lost = &mut hosts.pairs[1 - home];
    let began = Instant::now();
    lost.kill_control();
    lost.signal_dataplane("KILL");
    let theirs = people.split_off(EACH).into_iter().enumerate().map(|(number, person)| {
        let name = format!("person-{}", EACH + number);
        let network = network.clone();
        async move {
            let person = person.again("room", &name, &network).await;
            let sent = send(&person).await;
            (person, sent)
        }
    });
    let back = join_all(theirs).await;
    let first = &people[0];
    let met = back.iter().map(async |(person, tracks)| {
        let (there, here) = (receive(person, &sent[0]).await, receive(first, tracks).await);
        gets(person, "who is back of the first", &there, 3).await;
        gets(first, "the first of who is back", &here, 3).await;
    });
    join_all(met).await;
    let took = began.elapsed();
    println!("{EACH} people were back {took:?} after their host was killed");
    assert!(took < BACK_WITHIN, "{took:?}");
    // The others never missed anything.
    let kept = all.iter().filter(|(at, of, _)| *at < EACH && *of < EACH);
    let watched = kept.map(async |(at, of, seen)| {
        gets(&people[*at], &format!("{at} of {of} afterwards"), seen, 5).await;
    });
    meanwhile(&people, join_all(watched)).await;
    assert_eq!(count(&places(&service, &hosts).await, home), 2 * EACH);
    eventually("nothing of the lost host is left", || async {
        let listed = hosts.pairs[home].call("GET", "/v1/producers?limit=1000", Value::Null).await;
        listed["items"].as_array().is_some_and(|all| all.len() == 4 * EACH)
    })
    .await;
}

#[tokio::test]
async fn whom_a_host_refuses_is_at_the_other_one_and_does_not_notice() {
    // Two people at each.
    let hosts = Hosts::start(|builder| builder.set("limits.transports_per_router_max", 4)).await;
    let service = hosts.start_signaling(&[]).await;
    let network = JoinOptions { bind: None, ..hosts.options(0) };
    let (mut people, mut sent) = (Vec::new(), Vec::new());
    for number in 0..4 {
        let person = service.join("room", &format!("person-{number}"), &network).await;
        sent.push(send(&person).await);
        people.push(person);
    }
    let at_first = places(&service, &hosts).await.iter().filter(|it| **it == 0).count();
    assert_eq!(at_first, 2);
    for (at, person) in people.iter().enumerate() {
        for (of, tracks) in sent.iter().enumerate().filter(|(of, _)| *of != at) {
            let seen = receive(person, tracks).await;
            meanwhile(&people, gets(person, &format!("{at} of {of}"), &seen, 5)).await;
        }
    }
}

/// Whether a host has the room's own router, and no branch of it.
async fn is_own(pair: &Pair) -> bool {
    let listed = pair.call("GET", "/v1/routers", Value::Null).await;
    let items = listed["items"].as_array().expect("a list");
    items.iter().all(|one| !one["id"].as_str().expect("an id").ends_with(":branch"))
}
