//! Clients of one room at several nodes: each sees what all do, once, in one order.

use std::collections::BTreeSet;

use ironcast_signaling::media::MediaEvent;
use ironcast_signaling::rooms::mode::Rules;
use serde_json::{Value, json};

use crate::client::Client;
use crate::nodes::{Fleet, Node};
use crate::pages::http;
use crate::stage::{capabilities, until, video};

async fn three() -> (Fleet, Node, Node, Node) {
    let fleet = Fleet::new().await;
    let (one, two, three) = tokio::join!(fleet.node("one"), fleet.node("two"), fleet.node("three"));
    (fleet, one, two, three)
}

/// What somebody is told of another: arrival, departure, tracks.
async fn told_of(client: &mut Client, name: &str) -> Vec<String> {
    let events = client.events_seen().await.into_iter();
    let of_him = events.filter(|(event, payload)| {
        payload["participantId"] == name && event.starts_with("call:") || event == "new-producer"
    });
    of_him.map(|(event, _)| event).collect()
}

#[tokio::test]
async fn people_at_three_nodes_are_in_one_call() {
    let (fleet, one, two, three) = three().await;
    let (mut ada, _) = one.stage.join("ada").await;
    let track = one.send_video(&mut ada).await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.until_seen(&mut bob, &["ada"], 1).await;
    assert_eq!(ada.event("call:participant-joined").await["participantId"], "bob");
    assert_eq!(ada.event("user_joined").await["name"], "bob");
    let (mut cleo, joined) = three.stage.join("cleo").await;
    assert_eq!(joined["mode"], "sfu");
    three.until_seen(&mut cleo, &["ada", "bob"], 1).await;
    assert_eq!(fleet.media.inside().routers.len(), 1, "all have one router");

    // What is sent at one node is received at another.
    cleo.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumed = cleo.must("consume", json!({ "producerId": track })).await;
    assert_eq!(consumed["participantId"], "ada");
    // It is hers alone.
    assert_eq!(cleo.refused("pauseProducer", json!({ "producerId": track })).await, "not_yours");
    ada.must("pauseProducer", json!({ "producerId": track })).await;
    for client in [&mut bob, &mut cleo] {
        assert_eq!(client.event("producer-paused").await["producerId"], track);
    }
    ada.must("resumeProducer", json!({ "producerId": track })).await;
    bob.event("producer-resumed").await;
    let seen = |list: &Value| list["producers"].as_array().is_some_and(|list| list.len() == 1);
    bob.event_where("roomProducersChanged", seen).await;
    let second = two.send_video(&mut bob).await;
    for client in [&mut ada, &mut cleo] {
        let told = client.event("new-producer").await;
        assert_eq!((&told["producerId"], &told["participantId"]), (&json!(second), &json!("bob")));
        assert_eq!(told["appData"]["source"], "camera");
    }
    ada.must("stopProducing", json!({})).await;
    for client in [&mut bob, &mut cleo] {
        assert_eq!(client.event("producer-closed").await["producerId"], track);
    }
    bob.must("leaveRoom", json!({})).await;
    for client in [&mut ada, &mut cleo] {
        assert_eq!(client.event("producer-closed").await["producerId"], second);
        let told = client.event("call:participant-left").await;
        assert_eq!(told, json!({ "participantId": "bob", "reason": "left" }));
    }
    one.until_seen(&mut ada, &["cleo"], 0).await;
    until("all are counted", || one.metric("fleet_nodes") == 3).await;
    // The last one closes the room, for all.
    ada.must("leaveRoom", json!({})).await;
    cleo.must("leaveRoom", json!({})).await;
    fleet.until_over().await;
    let calls = fleet.media.inside().calls.clone();
    // A node that looked in that moment may say it once more.
    let deleted = calls.iter().filter(|it| it.starts_with("delete router"));
    assert_eq!(deleted.collect::<BTreeSet<_>>().len(), 1);
}

#[tokio::test]
async fn a_call_ends_with_the_last_who_is_in_it_at_any_node() {
    let (_fleet, one, two, three) = three().await;
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    let record = async || {
        let (_, record) = http(three.stage.port, "GET", "/api/calls/r", "").await;
        serde_json::from_str::<Value>(&record).unwrap()
    };
    ada.must("leaveRoom", json!({})).await;
    one.stage.until_rooms_are(0).await;
    two.until_seen(&mut bob, &[], 0).await;
    assert_eq!(record().await["endedMs"], json!(null));
    bob.must("leaveRoom", json!({})).await;
    let ended = async {
        while !record().await["endedMs"].is_number() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), ended).await.expect("it has ended");
    for one in record().await["participants"].as_array().unwrap() {
        assert_eq!(one["status"], "disconnected", "{one}");
    }
}

#[tokio::test]
async fn news_come_at_once_and_not_by_looking() {
    let mut fleet = Fleet::new().await;
    fleet.settings.fleet.look = std::time::Duration::from_secs(3_600);
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    assert_eq!(ada.event("call:participant-joined").await["participantId"], "bob");
    let track = two.send_video(&mut bob).await;
    assert_eq!(ada.event("new-producer").await["producerId"], track);
    bob.must("pauseProducer", json!({ "producerId": track })).await;
    assert_eq!(ada.event("producer-paused").await["producerId"], track);
    bob.must("stopProducing", json!({})).await;
    assert_eq!(ada.event("producer-closed").await["producerId"], track);
    bob.must("leaveRoom", json!({})).await;
    assert_eq!(ada.event("call:participant-left").await["participantId"], "bob");
}

#[tokio::test]
async fn rooms_that_two_nodes_open_at_once_have_one_router_each() {
    let (fleet, one, two, _three) = three().await;
    let join = async |node: &Node, room: String, name: &'static str| {
        let mut client = node.stage.connect().await;
        let wanted = json!({ "roomId": room, "participantId": name });
        client.must("joinRoom", wanted).await;
        client
    };
    for number in 0..7 {
        let room = format!("room-{number}");
        let (mut ada, mut bob) =
            tokio::join!(join(&one, room.clone(), "ada"), join(&two, room.clone(), "bob"));
        let wanted = json!({ "roomId": room });
        for (client, other) in [(&mut ada, "bob"), (&mut bob, "ada")] {
            let seen = async {
                loop {
                    let joined = client.must("joinRoom", wanted.clone()).await;
                    if joined["participants"][0]["participantId"] == other {
                        return;
                    }
                }
            };
            tokio::time::timeout(std::time::Duration::from_secs(10), seen).await.expect("seen");
        }
        let inside = fleet.media.inside();
        let of_room = inside.routers.values().filter(|note| note["roomId"] == room);
        assert_eq!(of_room.count(), 1);
    }
}

#[tokio::test]
async fn a_room_that_empties_while_somebody_comes_elsewhere_is_one_room() {
    let (fleet, one, two, _three) = three().await;
    let nodes = [&one, &two];
    for round in 0..20 {
        let (here, there) = (nodes[round % 2], nodes[(round + 1) % 2]);
        let (mut ada, _) = here.stage.join("ada").await;
        here.send_video(&mut ada).await;
        let leaving = async {
            ada.must("leaveRoom", json!({})).await;
            ada
        };
        let (_ada, (mut bob, _)) = tokio::join!(leaving, there.stage.join("bob"));
        // Whoever is in a room can be heard in it.
        let made = there.send_video(&mut bob).await;
        assert!(fleet.media.inside().producers.contains_key(&made));
        there.until_seen(&mut bob, &[], 0).await;
        bob.must("leaveRoom", json!({})).await;
    }
    fleet.until_over().await;
}

#[tokio::test]
async fn all_read_messages_in_one_order() {
    let (_fleet, one, two, three) = three().await;
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    let (mut cleo, _) = three.stage.join("cleo").await;
    let write = async |client: &mut Client, name: &str| {
        for number in 0..30 {
            let content = format!("{name} {number}");
            client
                .must(
                    "chat_message",
                    json!({ "content": content, "clientId": content.replace(' ', "-") }),
                )
                .await;
        }
    };
    tokio::join!(write(&mut ada, "ada"), write(&mut bob, "bob"));
    let mut orders = Vec::new();
    for (client, name) in [(&mut ada, "ada"), (&mut bob, "bob"), (&mut cleo, "cleo")] {
        let mut ids = Vec::new();
        for _ in 0..60 {
            let message = client.event("chat_message").await;
            ids.push(message["id"].as_str().unwrap().parse::<u64>().unwrap());
            let is_own = message["senderId"] == name;
            assert_eq!(message["clientId"].is_string(), is_own, "known again by its writer alone");
        }
        orders.push(ids);
    }
    let wanted: Vec<u64> = (1..=60).collect();
    for order in orders {
        assert_eq!(order, wanted);
    }
    // Who comes later finds them.
    let (mut dora, _) = three.stage.join("dora").await;
    let page = dora.must("listMessages", json!({ "limit": 100 })).await;
    assert_eq!(page["messages"].as_array().unwrap().len(), 60);
    assert!(!dora.names_seen().await.contains(&"chat_message".to_owned()), "not told again");
}

#[tokio::test]
async fn who_speaks_is_told_everywhere_and_what_is_watched_to_its_sender() {
    let (fleet, one, two, _three) = three().await;
    let (mut ada, _) = one.stage.join("ada").await;
    let track = one.send_video(&mut ada).await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.until_seen(&mut bob, &["ada"], 1).await;
    let router_id = fleet.media.inside().routers.keys().next().unwrap().clone();
    let producers = vec![(track.clone(), -30)];
    fleet.media.report(MediaEvent::Speakers { router_id, producers });
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("active-speaker").await["participantId"], "ada");
    }
    let producer_id = track.clone();
    fleet.media.report(MediaEvent::LayersUnwatched { producer_id, encodings: vec![1, 2] });
    assert_eq!(ada.event("layers-unwatched").await["encodings"], json!([1, 2]));
    assert!(!bob.names_seen().await.contains(&"layers-unwatched".to_owned()));
    // What the media server closes is closed for all.
    fleet.media.report(MediaEvent::ProducerClosed { producer_id: track.clone() });
    assert_eq!(bob.event("producer-closed").await["producerId"], track);
}

#[tokio::test]
async fn browsers_at_two_nodes_can_talk_to_each_other() {
    let (_fleet, one, two, _three) = three().await;
    let (mut ada, _) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    one.until_seen(&mut ada, &["bob"], 0).await;
    let offer = json!({ "type": "offer", "sdp": "v=0", "sources": { "0": "mic" } });
    bob.must("webrtc:offer", json!({ "to": "ada", "offer": offer })).await;
    for name in ["webrtc:offer", "webrtc_offer"] {
        assert_eq!(ada.event(name).await, json!({ "from": "bob", "offer": offer }));
    }
    ada.must("webrtc_answer", json!({ "answer": { "type": "answer", "sdp": "v=0" } })).await;
    assert_eq!(bob.event("webrtc:answer").await["answer"]["type"], "answer");
    for number in 0..20 {
        let candidate = json!({ "candidate": format!("candidate:{number}"), "sdpMid": "0" });
        bob.must("webrtc:ice-candidate", json!({ "candidate": candidate })).await;
    }
    for number in 0..20 {
        let told = ada.event("webrtc:ice-candidate").await;
        assert_eq!(told["candidate"]["candidate"], format!("candidate:{number}"));
    }
    assert_eq!(
        bob.refused("webrtc:offer", json!({ "to": "eve", "offer": offer })).await,
        "not_found"
    );
}

#[tokio::test]
async fn one_id_is_one_person_wherever_he_sits() {
    let (fleet, one, two, three) = three().await;
    let (mut cleo, _) = three.stage.join("cleo").await;
    let (mut first, _) = one.stage.join("ada").await;
    one.send_video(&mut first).await;
    three.until_seen(&mut cleo, &["ada"], 1).await;
    let (mut second, joined) = two.stage.join("ada").await;
    assert_eq!(joined["resumed"], false);
    first.closed().await;
    three.until_seen(&mut cleo, &["ada"], 0).await;
    two.until_seen(&mut second, &["cleo"], 0).await;
    fleet
        .media
        .until("what the first one had is freed", |inside| inside.transports.is_empty())
        .await;
    // At once, at two nodes, again and again: one is left, and he is the same for all.
    for _ in 0..10 {
        let _both = tokio::join!(one.stage.join("eve"), two.stage.join("eve"));
        three.until_seen(&mut cleo, &["ada", "eve"], 0).await;
        let here = fleet.redis.ask(&["HGET", "room:r:presence", "eve"]).join("");
        let record: Value = serde_json::from_str(&here).unwrap();
        let session = record["session"].as_str().unwrap().to_owned();
        assert!(session.starts_with("eve."));
    }
}

#[tokio::test]
async fn who_comes_back_at_another_node_keeps_his_place_and_media() {
    let (fleet, one, two, three) = three().await;
    let (mut ada, joined) = one.stage.join("ada").await;
    let track = one.send_video(&mut ada).await;
    let (mut cleo, _) = three.stage.join("cleo").await;
    let other = three.send_video(&mut cleo).await;
    one.until_seen(&mut ada, &["cleo"], 1).await;
    ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumer = ada.must("consume", json!({ "producerId": other })).await["id"].clone();
    three.until_seen(&mut cleo, &["ada"], 1).await;
    cleo.events_seen().await;
    let before: BTreeSet<_> = fleet.media.inside().transports.keys().cloned().collect();

    // Back and forth, with a lost socket and with one that the old node takes for open.
    ada.cut();
    let (mut ada, joined) = two.come_back(&joined).await;
    assert_eq!((&joined["resumed"], &joined["producerIds"]), (&json!(true), &json!([track])));
    let (mut again, joined) = one.come_back(&joined).await;
    assert_eq!((&joined["resumed"], &joined["producerIds"]), (&json!(true), &json!([track])));
    ada.closed().await;
    again.must("pauseProducer", json!({ "producerId": track })).await;
    assert_eq!(cleo.event("producer-paused").await["producerId"], track);
    again.must("resumeConsumer", json!({ "consumerId": consumer })).await;
    assert_eq!(told_of(&mut cleo, "ada").await, Vec::<String>::new(), "nobody noticed");
    let after: BTreeSet<_> = fleet.media.inside().transports.keys().cloned().collect();
    assert_eq!(before, after);
    // The first one may not have heard yet that she had gone when she came back.
    assert!(two.metric("fleet_moved_total") == 1 && one.metric("fleet_moved_total") <= 1);
    // The windows at the nodes that he left pass without a word.
    again.must("leaveRoom", json!({})).await;
    assert_eq!(cleo.event("call:participant-left").await["reason"], "left");
    fleet.media.until("his media is freed", |inside| inside.transports.len() == 1).await;
    assert_eq!(told_of(&mut cleo, "ada").await, Vec::<String>::new(), "told once");
}

#[tokio::test]
async fn who_does_not_come_back_is_gone_everywhere() {
    let (fleet, one, two, _three) = three().await;
    let (ada, joined) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    ada.cut();
    assert_eq!(bob.event("call:participant-left").await["reason"], "disconnected");
    assert!(fleet.redis.keys("*:ada*").is_empty());
    // Too late: he is somebody new.
    let (_ada, joined) = two.come_back(&joined).await;
    assert_eq!(joined["resumed"], false);
    // A token of another fleet proves nothing.
    let forged = json!({ "roomId": "r", "resumeToken": "bob.1.00", "participantId": "bob" });
    let mut eve = one.stage.connect().await;
    assert_eq!(eve.refused("joinRoom", forged).await, "already_exists");
}

#[tokio::test]
async fn a_goodbye_counts_at_any_node() {
    let (fleet, one, two, _three) = three().await;
    let (ada, joined) = one.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    let goodbye = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    two.stage.service.goodbye(&salvo::http::HeaderMap::new(), goodbye).unwrap();
    assert_eq!(bob.event("call:participant-left").await["reason"], "left");
    one.stage.until_rooms_are(0).await;
    drop((ada, fleet));
}

#[tokio::test]
async fn people_at_two_nodes_are_with_the_media_server() {
    let mut fleet = Fleet::new().await;
    let stay = std::time::Duration::from_millis(30);
    fleet.settings.ways = Rules { p2p: true, stay, ..Rules::default() };
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, joined) = one.stage.join("ada").await;
    assert_eq!(joined["mode"], "p2p");
    let (mut bob, joined) = one.stage.join("bob").await;
    assert_eq!(joined["mode"], "p2p");
    let (mut cleo, joined) = two.stage.join("cleo").await;
    assert_eq!((&joined["mode"], fleet.media.inside().routers.len()), (&json!("sfu"), 1));
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("call:mode-switch").await["mode"], "sfu");
        client.must("createProducerTransport", json!({})).await;
        client.must("produce", video()).await;
        client.must("call:mode-switched", json!({ "mode": "sfu" })).await;
    }
    assert_eq!(ada.event("call:mode-switched").await["success"], true);
    two.until_seen(&mut cleo, &["ada", "bob"], 2).await;
    bob.must("leaveRoom", json!({})).await;
    // Two are left, at two nodes: they stay.
    one.until_seen(&mut ada, &["cleo"], 0).await;
    assert!(!ada.names_seen().await.contains(&"call:mode-switch".to_owned()));
    // Two are left at one: they go back.
    let (mut dora, _) = one.stage.join("dora").await;
    cleo.must("leaveRoom", json!({})).await;
    for client in [&mut ada, &mut dora] {
        assert_eq!(client.event("call:mode-switch").await["mode"], "p2p");
        client.must("call:mode-switched", json!({ "mode": "p2p" })).await;
    }
    assert_eq!(dora.event("call:mode-switched").await["mode"], "p2p");
    fleet.media.until("their media is freed", |inside| inside.transports.is_empty()).await;
}
