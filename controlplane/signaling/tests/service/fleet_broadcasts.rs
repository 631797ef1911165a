//! Broadcasts and recordings of a room whose people are at several nodes: one node makes each of them, all know of
//! it, and anybody ends it. A program that only listens stands for FFmpeg.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::broadcasts::{SCRIPT, changed, settings};
use crate::client::Client;
use crate::nodes::{Fleet, Node};
use crate::stage::until;

/// A fleet, and the folder that its nodes write to, each in one of its own.
struct Place {
    fleet: Fleet,
    folder: PathBuf,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Place {
    async fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("ironcast-fleet-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("ffmpeg"), SCRIPT).unwrap();
        let can_run = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.join("ffmpeg"), can_run).unwrap();
        Self { fleet: Fleet::new().await, folder }
    }

    async fn node(&mut self, name: &str) -> Node {
        let mut broadcast = settings(&self.folder.join(name));
        broadcast.ffmpeg = self.folder.join("ffmpeg");
        self.fleet.settings.broadcast = broadcast;
        self.fleet.node(name).await
    }

    /// What is written of broadcasts of room `r`.
    fn written(&self) -> Vec<Value> {
        let lines = self.fleet.redis.ask(&["HVALS", "room:r:broadcasts"]);
        lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    async fn until_nothing_is_written(&self) {
        until("nothing is written of it", || self.written().is_empty()).await;
    }
}

/// Two nodes, ada at the first and bob at the second, in one room.
async fn two() -> (Place, Node, Node, Client, Client) {
    let mut place = Place::new().await;
    let (one, two) = (place.node("one").await, place.node("two").await);
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    one.until_seen(&mut ada, &["bob"], 0).await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    (place, one, two, ada, bob)
}

/// How often somebody was told of a state until now.
async fn told(client: &mut Client, state: &str) -> usize {
    let events = client.events_seen().await.into_iter();
    events.filter(|(name, it)| name == "broadcast-changed" && it["state"] == state).count()
}

#[tokio::test]
async fn all_nodes_know_of_it_and_anybody_ends_it() {
    let (place, one, two, mut ada, mut bob) = two().await;
    let begun = ada.must("startBroadcast", json!({ "kind": "hls" })).await;
    let id = begun["broadcastId"].clone();
    let starting = changed(&mut bob, "starting").await;
    assert_eq!((&starting["broadcastId"], &starting["by"]), (&id, &json!("ada")));
    for client in [&mut ada, &mut bob] {
        let live = changed(client, "live").await;
        assert_eq!((&live["broadcastId"], &live["url"]), (&id, &begun["url"]));
        assert!(live.get("by").is_none());
    }
    let (mut cleo, joined) = two.stage.join("cleo").await;
    assert_eq!(
        (&joined["broadcasts"][0]["broadcastId"], &joined["broadcasts"][0]["state"]),
        (&id, &json!("live"))
    );
    // One of a kind in a room, wherever it is made.
    assert_eq!(cleo.refused("startBroadcast", json!({ "kind": "hls" })).await, "already_exists");
    assert_eq!(two.stage.service.broadcasts.count(), 0);
    let recorded = bob.must("startBroadcast", json!({ "kind": "recording" })).await;
    let begins = |it: &Value| it["kind"] == "recording" && it["state"] == "starting";
    assert_eq!(ada.event_where("broadcast-changed", begins).await["by"], "bob");
    assert_eq!(changed(&mut ada, "live").await["broadcastId"], recorded["broadcastId"]);
    let stopped = cleo.must("stopBroadcast", json!({ "kind": "hls" })).await;
    assert_eq!(stopped, json!({ "stopped": true, "broadcastId": id }));
    for client in [&mut ada, &mut bob, &mut cleo] {
        let ended = changed(client, "ended").await;
        assert_eq!((&ended["broadcastId"], &ended["reason"]), (&id, &json!("asked")));
    }
    assert_eq!(cleo.refused("stopBroadcast", json!({ "kind": "hls" })).await, "not_found");
    let (_dora, joined) = one.stage.join("dora").await;
    let running: Vec<_> = joined["broadcasts"].as_array().unwrap().iter().collect();
    assert!(running.len() == 1 && running[0]["kind"] == "recording", "{running:?}");
    ada.must("stopBroadcast", json!({ "kind": "recording" })).await;
    let ended = changed(&mut bob, "ended").await;
    let at_other = changed(&mut ada, "ended").await;
    assert_eq!((&at_other["url"], &at_other["aboutUrl"]), (&ended["url"], &ended["aboutUrl"]));
    place.until_nothing_is_written().await;
    assert_eq!(told(&mut cleo, "failed").await, 0);
}

#[tokio::test]
async fn of_two_who_begin_at_once_one_does() {
    let (place, one, two, mut ada, mut bob) = two().await;
    for _ in 0..5 {
        let wanted = || json!({ "kind": "hls" });
        let (a, b) =
            tokio::join!(ada.ask("startBroadcast", wanted()), bob.ask("startBroadcast", wanted()));
        let refused: Vec<_> = [&a, &b].into_iter().filter(|it| it["error"].is_object()).collect();
        assert_eq!(refused.len(), 1, "{a} {b}");
        assert_eq!(refused[0]["error"]["code"], "already_exists");
        for client in [&mut ada, &mut bob] {
            changed(client, "live").await;
        }
        bob.must("stopBroadcast", wanted()).await;
        for client in [&mut ada, &mut bob] {
            changed(client, "ended").await;
        }
        // Its place at its own node is free a moment after that.
        place.until_nothing_is_written().await;
        let count = || one.stage.service.broadcasts.count() + two.stage.service.broadcasts.count();
        until("it is free", || count() == 0).await;
    }
}

#[tokio::test]
async fn it_goes_on_for_people_at_other_nodes_alone() {
    let (place, one, two, mut ada, mut bob) = two().await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut bob, "live").await;
    ada.must("leaveRoom", json!({})).await;
    // A room that empties after it is closed by now, and this one is not.
    ada.must("joinRoom", json!({ "roomId": "other" })).await;
    ada.must("leaveRoom", json!({})).await;
    one.stage.until_rooms_are(1).await;
    // What is new at the other node comes into its picture.
    let track = two.send_video(&mut bob).await;
    let media = &place.fleet.media;
    media
        .until("it is shown", |inside| inside.consumers.values().any(|it| it.producer == track))
        .await;
    bob.must("stopBroadcast", json!({})).await;
    assert_eq!(changed(&mut bob, "ended").await["reason"], "asked");
    one.stage.until_rooms_are(0).await;
    // The last one ends it.
    let (mut ada, _) = one.stage.join("ada").await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut bob, "live").await;
    ada.must("leaveRoom", json!({})).await;
    bob.must("leaveRoom", json!({})).await;
    place.until_nothing_is_written().await;
    place.fleet.until_over().await;
}

#[tokio::test]
async fn a_killed_node_leaves_no_broadcast() {
    let mut place = Place::new().await;
    let (mut one, two, three) =
        (place.node("one").await, place.node("two").await, place.node("three").await);
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    let (mut cleo, _) = three.stage.join("cleo").await;
    two.until_seen(&mut bob, &["ada", "cleo"], 0).await;
    for kind in ["hls", "recording"] {
        ada.must("startBroadcast", json!({ "kind": kind })).await;
        changed(&mut bob, "live").await;
        changed(&mut cleo, "live").await;
    }
    assert_eq!(place.written().len(), 2);
    one.kill();
    for client in [&mut bob, &mut cleo] {
        for _ in 0..2 {
            let failed = changed(client, "failed").await;
            assert_eq!(failed["error"]["code"], "broadcast_failed", "{failed}");
        }
    }
    place.until_nothing_is_written().await;
    let media = &place.fleet.media;
    media.until("nothing is sent for it", |inside| inside.plain_ports.is_empty()).await;
    let (_dora, joined) = two.stage.join("dora").await;
    assert_eq!(joined["broadcasts"], json!([]));
    // Another one begins, and nobody is told of the old one again.
    bob.must("startBroadcast", json!({})).await;
    changed(&mut cleo, "live").await;
    bob.must("stopBroadcast", json!({})).await;
    changed(&mut cleo, "ended").await;
    for client in [&mut bob, &mut cleo] {
        assert_eq!(told(client, "failed").await, 0, "told once");
    }
}

#[tokio::test]
async fn a_node_that_stops_ends_what_it_makes() {
    let (place, one, _two, mut ada, mut bob) = two().await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut bob, "live").await;
    one.stage.service.stop().await;
    assert!(place.written().is_empty(), "{:?}", place.written());
    changed(&mut bob, "ended").await;
}

#[tokio::test]
async fn redis_comes_back_empty_and_it_goes_on() {
    let (mut place, one, two, mut ada, mut bob) = two().await;
    ada.must("startBroadcast", json!({})).await;
    let id = changed(&mut bob, "live").await["broadcastId"].clone();
    place.fleet.redis.stop();
    until("it is noticed", || one.metric("fleet_link") + two.metric("fleet_link") == 0).await;
    // Whether another node records it cannot be known.
    let refused = bob.refused("startBroadcast", json!({ "kind": "recording" })).await;
    assert_eq!((&*refused, two.stage.service.broadcasts.count()), ("store_unavailable", 0));
    assert_eq!(bob.refused("stopBroadcast", json!({})).await, "store_unavailable");
    place.fleet.redis.start_again().await;
    until("it is written again", || !place.written().is_empty()).await;
    let (_cleo, joined) = two.stage.join("cleo").await;
    assert_eq!(joined["broadcasts"][0]["broadcastId"], id);
    two.until_seen(&mut bob, &["ada", "cleo"], 0).await;
    bob.must("stopBroadcast", json!({})).await;
    changed(&mut bob, "ended").await;
    assert_eq!(told(&mut bob, "failed").await, 0);
}
