//! A fleet of which something fails: a node is killed, Redis is stopped and comes back empty, or
//! is slow; the media server loses a room. Calls go on, and in the end nobody is doubled or lost.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use ironcast_signaling::media::{Media, MediaEvent};
use ironcast_signaling::store::hub::{Hub, Look};
use serde_json::{Value, json};

use crate::client::Client;
use crate::nodes::{Fleet, Node};
use crate::stage::{capabilities, until};

fn calls(fleet: &Fleet, beginning: &str) -> usize {
    fleet.media.inside().calls.iter().filter(|call| call.starts_with(beginning)).count()
}

async fn count(client: &mut Client, event: &str, name: &str) -> usize {
    let events = client.events_seen().await.into_iter();
    events.filter(|(seen, it)| seen == event && it["participantId"] == name).count()
}

/// Waits until a node hears the others.
async fn until_heard(node: &Node) {
    until("it hears", || node.metric("fleet_link") == 1).await;
}

#[tokio::test]
async fn a_killed_node_takes_nobody_with_it() {
    let fleet = Fleet::new().await;
    let (mut one, two, three) =
        tokio::join!(fleet.node("one"), fleet.node("two"), fleet.node("three"));
    let (mut ada, of_ada) = one.stage.join("ada").await;
    let (mut bob, _) = one.stage.join("bob").await;
    let (mut cleo, _) = two.stage.join("cleo").await;
    let (mut dora, _) = three.stage.join("dora").await;
    let of_cleo = two.send_video(&mut cleo).await;
    let track = one.send_video(&mut ada).await;
    let lost = one.send_video(&mut bob).await;
    one.until_seen(&mut ada, &["bob", "cleo", "dora"], 2).await;
    ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumer = ada.must("consume", json!({ "producerId": of_cleo })).await["id"].clone();
    two.until_seen(&mut cleo, &["ada", "bob", "dora"], 2).await;
    three.until_seen(&mut dora, &["ada", "bob", "cleo"], 3).await;
    cleo.events_seen().await;
    dora.events_seen().await;
    let before: BTreeSet<_> = fleet.media.inside().transports.keys().cloned().collect();

    let began = Instant::now();
    one.kill();
    let (mut ada, joined) = two.come_back(&of_ada).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((&joined["resumed"], &joined["producerIds"]), (&json!(true), &json!([track])));
    assert_eq!(joined["transportIds"].as_array().unwrap().len(), 2);
    let after: BTreeSet<_> = fleet.media.inside().transports.keys().cloned().collect();
    assert_eq!(before, after, "their media is untouched");
    // It is hers as before.
    ada.must("pauseProducer", json!({ "producerId": track })).await;
    ada.must("resumeConsumer", json!({ "consumerId": consumer })).await;
    for client in [&mut cleo, &mut dora] {
        assert_eq!(client.event("producer-paused").await["producerId"], track);
    }
    // Who does not come back is removed, once, and so is his media.
    for client in [&mut ada, &mut cleo, &mut dora] {
        assert_eq!(client.event("producer-closed").await["producerId"], lost);
        let left = client.event("call:participant-left").await;
        assert_eq!(left, json!({ "participantId": "bob", "reason": "disconnected" }));
    }
    fleet.media.until("his media is freed", |inside| !inside.producers.contains_key(&lost)).await;
    two.until_seen(&mut cleo, &["ada", "dora"], 1).await;
    three.until_seen(&mut dora, &["ada", "cleo"], 2).await;
    assert_eq!(calls(&fleet, "leave bob."), 1, "one of the nodes freed it");
    assert_eq!(calls(&fleet, "leave"), 1);
    let removed = two.metric("fleet_removed_total") + three.metric("fleet_removed_total");
    assert_eq!(removed, 1);
    for client in [&mut cleo, &mut dora] {
        assert_eq!(count(client, "call:participant-left", "bob").await, 0, "told once");
    }
    assert!(fleet.redis.keys("*:bob*").is_empty());
    for mut client in [ada, cleo, dora] {
        client.must("leaveRoom", json!({})).await;
    }
    fleet.until_over().await;
}

#[tokio::test]
async fn a_room_that_only_a_killed_node_served_is_cleared_by_the_others() {
    let fleet = Fleet::new().await;
    let (mut one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    until_heard(&two).await;
    let (mut ada, _) = one.stage.join("ada").await;
    one.send_video(&mut ada).await;
    one.kill();
    fleet.until_over().await;
    assert!(fleet.media.inside().transports.is_empty());
    two.stage.until_rooms_are(0).await;
}

/// It has said nothing but that it serves a room, and nobody was written down yet.
#[tokio::test]
async fn a_node_that_is_killed_before_its_first_beat_leaves_nothing() {
    let fleet = Fleet::new().await;
    let two = fleet.node("two").await;
    until_heard(&two).await;
    let ghost = Hub::connect(&fleet.redis.url(), "ghost".to_owned()).await.unwrap();
    let look = Look { room_id: "r".parse().unwrap(), router: "r.1".to_owned() };
    let views = ghost.look(&[look], &[]).await.unwrap();
    assert_eq!(views[0].router, "r.1");
    let note = json!({ "signaling": "fleet test", "roomId": "r" });
    let note = serde_json::from_value(note).unwrap();
    fleet.media.create_router("r.1".parse().unwrap(), note).await.unwrap();
    drop(ghost);
    fleet.until_over().await;
    two.stage.until_rooms_are(0).await;
}

/// What is asked of Redis when a room is opened says that it is served, whatever becomes of the answer.
#[tokio::test]
async fn a_room_that_could_not_be_opened_is_not_served() {
    let fleet = Fleet::new().await;
    let one = fleet.node("one").await;
    until_heard(&one).await;
    // It is at a media host that this node does not know.
    fleet.redis.ask(&["SET", "room:r:router", "r.1@elsewhere"]);
    let mut ada = one.stage.connect().await;
    assert_eq!(ada.refused("joinRoom", json!({ "roomId": "r" })).await, "media_unavailable");
    one.stage.until_rooms_are(0).await;
    until("nobody serves it", || fleet.redis.keys("room:r:nodes").is_empty()).await;
}

#[tokio::test]
async fn all_nodes_and_redis_are_killed_and_the_call_goes_on() {
    let mut fleet = Fleet::new().await;
    fleet.settings.takeover_window = Duration::from_secs(10);
    let (mut one, mut two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, of_ada) = one.stage.join("ada").await;
    let track = one.send_video(&mut ada).await;
    let (mut bob, of_bob) = two.stage.join("bob").await;
    two.send_video(&mut bob).await;
    two.until_seen(&mut bob, &["ada"], 1).await;
    one.kill();
    two.kill();
    fleet.redis.stop();
    fleet.redis.start_again().await;
    let (one, two) = tokio::join!(fleet.node("one-2"), fleet.node("two-2"));
    let (mut ada, joined) = two.come_back(&of_ada).await;
    assert_eq!((&joined["resumed"], &joined["producerIds"]), (&json!(true), &json!([track])));
    let (mut bob, joined) = one.come_back(&of_bob).await;
    assert_eq!(joined["resumed"], true);
    two.until_seen(&mut ada, &["bob"], 1).await;
    one.until_seen(&mut bob, &["ada"], 1).await;
    assert_eq!(calls(&fleet, "leave"), 0);
    assert_eq!(fleet.media.inside().routers.len(), 1);
}

/// What both see of each other, after Redis came back.
async fn whole_again(fleet: &Fleet, nodes: [(&Node, &mut Client, &str); 2], tracks: usize) {
    for (node, client, other) in nodes {
        node.until_seen(client, &[other], tracks).await;
    }
    let is_written = || fleet.redis.ask(&["HLEN", "room:r:presence"]) == ["2"];
    until("all are written again", is_written).await;
}

#[tokio::test]
async fn redis_comes_back_empty_and_nobody_is_doubled_or_lost() {
    let mut fleet = Fleet::new().await;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, _) = one.stage.join("ada").await;
    let track = one.send_video(&mut ada).await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.send_video(&mut bob).await;
    one.until_seen(&mut ada, &["bob"], 1).await;
    two.until_seen(&mut bob, &["ada"], 1).await;
    for client in [&mut ada, &mut bob] {
        client.events_seen().await;
    }
    fleet.redis.stop();
    until("it is noticed", || one.metric("fleet_link") + two.metric("fleet_link") == 0).await;
    // The call goes on, for longer than a node may be silent.
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        let began = Instant::now();
        ada.must("heartbeat", json!({})).await;
        ada.must("pauseProducer", json!({ "producerId": track })).await;
        assert!(began.elapsed() < Duration::from_secs(1), "nobody waits for Redis");
        ada.must("resumeProducer", json!({ "producerId": track })).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Things happen meanwhile: a track ends, another begins, somebody joins where he is known.
    let second = one.send_video(&mut ada).await;
    two.until_seen(&mut bob, &["ada"], 1).await;
    let (mut cleo, joined) = two.stage.join("cleo").await;
    assert_eq!(joined["participants"].as_array().unwrap().len(), 2);
    cleo.must("leaveRoom", json!({})).await;
    // A room that nobody here knows is not opened twice.
    let mut eve = two.stage.connect().await;
    let refused = eve.refused("joinRoom", json!({ "roomId": "other" })).await;
    assert_eq!(refused, "store_unavailable");

    fleet.redis.start_again().await;
    assert_eq!(bob.event("producer-closed").await["producerId"], track);
    assert_eq!(bob.event("new-producer").await["producerId"], second);
    whole_again(&fleet, [(&one, &mut ada, "bob"), (&two, &mut bob, "ada")], 1).await;
    for (client, name) in [(&mut ada, "bob"), (&mut bob, "ada")] {
        for event in ["call:participant-joined", "call:participant-left"] {
            assert_eq!(count(client, event, name).await, 0, "{event} {name}");
        }
        client.must("heartbeat", json!({})).await;
    }
    assert_eq!(calls(&fleet, "leave bob."), 0);
    assert_eq!(fleet.media.inside().routers.len(), 1);
    eve.must("joinRoom", json!({ "roomId": "other" })).await;
}

#[tokio::test]
async fn redis_restarts_in_a_moment_and_nobody_notices() {
    let mut fleet = Fleet::new().await;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, of_ada) = one.stage.join("ada").await;
    one.send_video(&mut ada).await;
    let (mut bob, _) = two.stage.join("bob").await;
    for _ in 0..3 {
        two.until_seen(&mut bob, &["ada"], 1).await;
        fleet.redis.stop();
        fleet.redis.start_again().await;
        two.send_video(&mut bob).await;
        whole_again(&fleet, [(&one, &mut ada, "bob"), (&two, &mut bob, "ada")], 1).await;
        bob.must("stopProducing", json!({})).await;
    }
    // Presence is whole: who loses his socket now can come back elsewhere.
    ada.cut();
    let (_ada, joined) = two.come_back(&of_ada).await;
    assert_eq!(joined["resumed"], true);
    assert_eq!(count(&mut bob, "call:participant-left", "ada").await, 0);
}

#[tokio::test]
async fn a_slow_redis_is_waited_for_by_nobody_who_is_in_a_call() {
    let mut fleet = Fleet::new().await;
    // As an operator would have it: seconds, not half a second.
    fleet.settings.reconnect_window = Duration::from_secs(5);
    fleet.settings.fleet.node = Duration::from_secs(3);
    fleet.settings.media_patience = Duration::from_secs(2);
    let slow = |fleet: &Fleet| fleet.redis.slow_url(Duration::from_millis(250));
    let (first, second) = (slow(&fleet), slow(&fleet));
    let (one, two) = tokio::join!(fleet.node_at("one", first), fleet.node_at("two", second));
    let (mut ada, of_ada) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    let began = Instant::now();
    let track = one.send_video(&mut ada).await;
    for number in 0..50 {
        let event = if number % 2 == 0 { "pauseProducer" } else { "resumeProducer" };
        ada.must(event, json!({ "producerId": track })).await;
        ada.must("heartbeat", json!({})).await;
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    // The newest is told, however much there was.
    assert_eq!(bob.event("new-producer").await["producerId"], track);
    two.until_seen(&mut bob, &["ada"], 1).await;
    let seen = |list: &Value| list["producers"][0]["paused"] == false;
    bob.event_where("roomProducersChanged", seen).await;
    // Who moves waits for it, and is there within his window.
    ada.cut();
    let began = Instant::now();
    let (mut ada, joined) = two.come_back(&of_ada).await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!((&joined["resumed"], &joined["producerIds"]), (&json!(true), &json!([track])));
    two.until_seen(&mut bob, &["ada"], 1).await;
    ada.must("leaveRoom", json!({})).await;
    assert_eq!(bob.event("call:participant-left").await["reason"], "left");
    fleet.media.until("his media is freed", |inside| inside.transports.is_empty()).await;
    assert_eq!(calls(&fleet, "leave"), 1);
}

#[tokio::test]
async fn a_lost_router_is_replaced_by_one_for_all() {
    let fleet = Fleet::new().await;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    one.until_seen(&mut ada, &["bob"], 0).await;
    let router = fleet.media.inside().routers.keys().next().unwrap().clone();
    fleet.media.inside().routers.clear();
    let reason = "a test".to_owned();
    fleet.media.report(MediaEvent::RoutersDied { router_ids: vec![router.clone()], reason });
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("error").await["rejoin"], true);
    }
    // Nothing is written of it, and of nobody in it.
    let cleared = async {
        while !fleet.redis.keys("*").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let cleared = tokio::time::timeout(Duration::from_secs(10), cleared).await;
    cleared.unwrap_or_else(|_| panic!("left: {:?}", fleet.redis.keys("*")));
    let again = async |client: &mut Client, name: &str| {
        client.must("joinRoom", json!({ "roomId": "r", "participantId": name, "name": name })).await
    };
    tokio::join!(again(&mut ada, "ada"), again(&mut bob, "bob"));
    one.until_seen(&mut ada, &["bob"], 0).await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    let routers: Vec<_> = fleet.media.inside().routers.keys().cloned().collect();
    assert_eq!(routers.len(), 1);
    assert_ne!(routers[0], router);
    let written = fleet.redis.ask(&["GET", "room:r:router"]);
    assert_eq!(written, routers);
}
