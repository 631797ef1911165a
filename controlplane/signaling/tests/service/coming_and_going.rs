//! Joining, leaving, getting lost and coming back.

use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::time::Duration;

use http_body_util::BodyExt;
use ironcast_signaling::gateway::{self, Sockets};
use ironcast_signaling::hosts::MediaHost;
use ironcast_signaling::settings::Settings;
use ironcast_signaling::store::Stores;
use salvo::http::{Method, ReqBody};
use salvo::hyper;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::stage::{Stage, capabilities, quick, video_at};

/// Someone in room `r` as a reconnecting page would join.
fn returning(joined: &Value) -> Value {
    json!({ "roomId": "r", "resumeToken": joined["resumeToken"] })
}

#[tokio::test]
async fn others_are_told_who_comes_and_goes() {
    let stage = Stage::new().await;
    let (mut ada, joined) = stage.join("ada").await;
    assert_eq!(joined["mode"], "sfu");
    assert_eq!(joined["participants"], json!([]));
    let (mut bob, joined, producer) = stage.join_sending("bob").await;
    assert_eq!(joined["participants"], json!([{ "participantId": "ada", "name": "ada" }]));

    let who = json!({ "participantId": "bob", "name": "bob" });
    assert_eq!(ada.event("call:participant-joined").await, who);
    assert_eq!(ada.event("user_joined").await, who);
    let new = ada.event("new-producer").await;
    assert_eq!(new["producerId"], json!(producer));
    assert_eq!(new["appData"], json!({ "source": "camera" }));
    let list = ada.event("roomProducersChanged").await["producers"].clone();
    assert_eq!(list[0]["producerId"], json!(producer));
    assert_eq!(list[0]["participantId"], "bob");

    bob.must("pauseProducer", json!({ "producerId": producer })).await;
    assert_eq!(ada.event("producer-paused").await["producerId"], json!(producer));
    bob.must("resumeProducer", json!({ "producerId": producer })).await;
    assert_eq!(ada.event("producer-resumed").await["producerId"], json!(producer));

    bob.must("leaveRoom", json!({})).await;
    assert_eq!(ada.event("producer-closed").await["producerId"], json!(producer));
    let left = json!({ "participantId": "bob", "reason": "left" });
    assert_eq!(ada.event("call:participant-left").await, left);
    assert_eq!(ada.event("user_left").await, left);
    stage.media.until("bob's media is freed", |i| i.transports.is_empty()).await;
    assert_eq!(bob.refused("listProducers", json!({})).await, "not_in_room");
}

#[tokio::test]
async fn nobody_is_told_of_himself() {
    let stage = Stage::new().await;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    assert_eq!(ada.must("listProducers", json!({})).await["producers"], json!([]));
    assert_eq!(ada.names_seen().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_lost_socket_that_comes_back_finds_its_media() {
    let mut settings = quick();
    settings.reconnect_window = Duration::from_secs(60);
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (ada, joined, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.cut();
    let mut ada = stage.connect().await;
    let again = ada.must("joinRoom", returning(&joined)).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(again["participantId"], "ada");
    assert_eq!(stage.media.inside().producers.len(), 1);
    // It is still his, and still works.
    ada.must("pauseProducer", json!({ "producerId": producer })).await;
    bob.event("producer-paused").await;
    let told = bob.names_seen().await;
    assert!(!told.iter().any(|name| name == "user_left" || name == "user_joined"), "{told:?}");
}

#[tokio::test]
async fn after_the_window_he_is_gone() {
    let stage = Stage::new().await;
    let (ada, joined, _) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.cut();
    let left = bob.event("call:participant-left").await;
    assert_eq!(left, json!({ "participantId": "ada", "reason": "disconnected" }));
    stage.media.until("ada's media is freed", |i| i.producers.is_empty()).await;
    let mut ada = stage.connect().await;
    let again = ada.must("joinRoom", returning(&joined)).await;
    assert_eq!(again["resumed"], false);
    assert_ne!(again["resumeToken"], joined["resumeToken"]);
}

#[tokio::test]
async fn a_second_socket_takes_the_place_of_the_first() {
    let stage = Stage::new().await;
    let (mut old, joined, producer) = stage.join_sending("ada").await;
    let mut new = stage.connect().await;
    assert_eq!(new.must("joinRoom", returning(&joined)).await["resumed"], true);
    old.closed().await;
    new.must("resumeProducer", json!({ "producerId": producer })).await;
    // The first one's loss must not count against the second: whoever is lost after it has gone.
    let (eve, _) = stage.join("eve").await;
    eve.cut();
    let left = new.event("call:participant-left").await;
    assert_eq!(left["participantId"], "eve");
    new.must("resumeProducer", json!({ "producerId": producer })).await;
}

#[tokio::test]
async fn a_wrong_token_brings_back_nobody() {
    let stage = Stage::new().await;
    let (_ada, _) = stage.join("ada").await;
    let mut other = stage.connect().await;
    let wanted = json!({ "roomId": "r", "resumeToken": "guessed", "participantId": "ada" });
    assert_eq!(other.refused("joinRoom", wanted).await, "already_exists");
}

#[tokio::test]
async fn an_empty_room_loses_its_router() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    assert_eq!(stage.media.inside().routers.len(), 1);
    ada.must("leaveRoom", json!({})).await;
    stage.media.until("the router is gone", |i| i.routers.is_empty()).await;
    assert_eq!(stage.service.count(), (0, 0));
    // Another call in the room of the same name is another router.
    ada.must("joinRoom", json!({ "roomId": "r" })).await;
    let calls = stage.media.inside().calls.clone();
    let made: Vec<_> = calls.iter().filter(|call| call.starts_with("create router")).collect();
    assert_eq!(made.len(), 2);
    assert_ne!(made[0], made[1]);
}

#[tokio::test]
async fn a_room_that_nobody_joins_is_dropped() {
    let stage = Stage::new().await;
    let mut ada = stage.connect().await;
    let made = ada.must("createRoom", json!({})).await;
    assert!(made["roomId"].is_string());
    assert_eq!(stage.service.count().0, 1);
    let gone = async {
        while stage.service.count().0 > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("the room is dropped");
}

#[tokio::test]
async fn rooms_and_participants_have_limits() {
    let stage = Stage::new().await;
    let mut people = Vec::new();
    for name in ["a", "b", "c", "d"] {
        people.push(stage.join(name).await);
    }
    let mut late = stage.connect().await;
    assert_eq!(late.refused("joinRoom", json!({ "roomId": "r" })).await, "no_capacity");
    for number in 0..quick().rooms_max - 1 {
        late.must("createRoom", json!({ "roomId": format!("room-{number}") })).await;
    }
    assert_eq!(late.refused("createRoom", json!({ "roomId": "more" })).await, "no_capacity");
    assert_eq!(late.refused("joinRoom", json!({ "roomId": "more" })).await, "no_capacity");
}

#[tokio::test]
async fn tracks_have_limits() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    for mid in 1..quick().producers_per_participant_max {
        ada.must("produce", video_at(&mid.to_string())).await;
    }
    assert_eq!(ada.refused("produce", video_at("more")).await, "no_capacity");
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    for _ in 0..quick().consumers_per_participant_max {
        bob.must("consume", json!({ "producerId": producer })).await;
    }
    assert_eq!(bob.refused("consume", json!({ "producerId": producer })).await, "no_capacity");
}

/// Whoever sends more than is handled in time is told so, and his socket and the others' live on.
#[tokio::test]
async fn a_flood_of_messages_is_refused() {
    let settings = Settings { requests_per_socket_max: 2, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.flood("heartbeat", json!({}), 5_000).await;
    ada.flood("no-such-event", json!({}), 5_000).await;
    let refused = ada.event("error").await;
    assert_eq!(refused["code"], "rate_limited");
    bob.must("heartbeat", json!({})).await;
    // What still waits is handled, then there is room again.
    let again = async { while ada.ask("heartbeat", json!({})).await.get("error").is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("the socket works again");
}

#[tokio::test]
async fn a_socket_that_cannot_take_its_answers_is_closed() {
    let settings = Settings { messages_out_per_socket_max: 64, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.flood_of_questions("heartbeat", json!({}), 2_000).await;
    ada.closed().await;
    assert_eq!(bob.event("user_left").await["participantId"], "ada");
}

#[tokio::test]
async fn joining_another_room_leaves_the_first() {
    let stage = Stage::new().await;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.must("joinRoom", json!({ "roomId": "elsewhere" })).await;
    assert_eq!(bob.event("user_left").await["participantId"], "ada");
    stage.media.until("ada's media is freed", |i| i.producers.is_empty()).await;
}

#[tokio::test]
async fn a_new_transport_replaces_the_old_one() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.must("createProducerTransport", json!({})).await;
    assert_eq!(bob.event("producer-closed").await["producerId"], json!(producer));
    stage.media.until("one transport is left", |i| i.transports.len() == 1).await;
    assert_eq!(ada.refused("pauseProducer", json!({ "producerId": producer })).await, "not_found");
}

#[tokio::test]
async fn stop_producing_stops_all_or_some() {
    let stage = Stage::new().await;
    let (mut ada, _, first) = stage.join_sending("ada").await;
    let second = ada.must("produce", video_at("1")).await["id"].clone();
    let (mut bob, _) = stage.join("bob").await;
    ada.must("stopProducing", json!({ "producerIds": [first] })).await;
    let is_one = |list: &Value| list["producers"].as_array().map(Vec::len) == Some(1);
    let left = bob.event_where("roomProducersChanged", is_one).await["producers"].clone();
    assert_eq!(left[0]["producerId"], second);
    ada.must("stopProducing", json!({})).await;
    bob.event_where("roomProducersChanged", |list| list["producers"] == json!([])).await;
    stage.media.until("nothing is sent", |i| i.producers.is_empty()).await;
}

#[tokio::test]
async fn a_join_whose_socket_is_gone_leaves_nobody() {
    let stage = Stage::new().await;
    let closed = stage.media.gate.clone().write_owned().await;
    let mut ada = stage.connect().await;
    ada.emit("joinRoom", json!({ "roomId": "r", "name": "Ada" })).await;
    stage.media.until("it is asked for", |i| i.calls.iter().any(|c| c.starts_with("create"))).await;
    // Its id is the same, and belongs to what is still asked for.
    assert!(!ada.be_another_socket(None).await);
    drop(closed);
    stage.media.until("the router is gone", |inside| inside.routers.is_empty()).await;
    assert_eq!(stage.service.count(), (0, 0));
    // The end of the first is not the second's.
    ada.enter_at_last(None).await;
    ada.must("joinRoom", json!({ "roomId": "r", "participantId": "ada" })).await;
    tokio::time::sleep(stage.service.settings.reconnect_window * 2).await;
    assert_eq!(stage.service.count(), (1, 1));
    ada.must("leaveRoom", json!({})).await;
    // Nor does one that is cut off while it waits keep the room.
    for _ in 0..3 {
        let mut eve = stage.connect().await;
        eve.emit("joinRoom", json!({ "roomId": "r" })).await;
        eve.cut();
    }
    stage.until_rooms_are(0).await;
}

#[tokio::test]
async fn who_comes_back_under_his_own_id_takes_his_place() {
    let stage = Stage::new().await;
    let (mut old, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let session = stage.media.inside().transports.values().next().unwrap().session.clone();
    let (mut new, joined, _) = stage.join_sending("ada").await;
    assert_eq!(joined["resumed"], false);
    old.closed().await;
    assert_eq!(bob.event("producer-closed").await["producerId"], json!(producer));
    assert_eq!(bob.event("call:participant-left").await["reason"], "replaced");
    assert_eq!(bob.event("call:participant-joined").await["participantId"], "ada");
    let leave = format!("leave {session}");
    stage.media.until("the old one is freed", |i| i.calls.contains(&leave)).await;
    stage.media.until("the new one stays", |i| i.transports.len() == 1).await;
    assert_ne!(stage.media.inside().transports.values().next().unwrap().session, session);
    new.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    assert_eq!(stage.service.count(), (1, 2));
}

#[tokio::test]
async fn an_id_that_nobody_chose_is_not_given_away() {
    let stage = Stage::new().await;
    let mut ada = stage.connect().await;
    let joined = ada.must("joinRoom", json!({ "roomId": "r" })).await;
    let mut eve = stage.connect().await;
    let wanted = json!({ "roomId": "r", "participantId": joined["participantId"] });
    assert_eq!(eve.refused("joinRoom", wanted).await, "already_exists");
    ada.must("heartbeat", json!({})).await;
}

#[tokio::test]
async fn what_waits_has_a_size() {
    let settings = Settings { message_bytes_max: 4_096, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let closed = stage.media.gate.clone().write_owned().await;
    ada.emit("createProducerTransport", json!({})).await;
    // Far fewer than may wait, and each as large as allowed.
    ada.flood("heartbeat", json!({ "filler": "x".repeat(4_000) }), 40).await;
    assert_eq!(ada.event("error").await["code"], "rate_limited");
    drop(closed);
    ada.event("transport-created").await;
    let again = async { while ada.ask("heartbeat", json!({})).await.get("error").is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.expect("the socket works again");
}

#[tokio::test]
async fn what_waits_to_be_read_has_a_size() {
    let settings = Settings {
        bytes_out_per_socket_max: 256 * 1024,
        ping_interval: Duration::from_millis(300),
        ..quick()
    };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let mut bob = Client::connect_narrowly(stage.port).await;
    bob.must("joinRoom", json!({ "roomId": "r", "participantId": "bob" })).await;
    let deaf = tokio::spawn(bob.be_deaf());
    // Far fewer than may wait.
    let description = json!({ "type": "offer", "sdp": "x".repeat(60_000) });
    for _ in 0..100 {
        ada.ask("webrtc:offer", json!({ "to": "bob", "offer": description })).await;
    }
    assert_eq!(stage.metric("slow_sockets_total"), 1);
    // It is gone, whatever it says of itself.
    assert_eq!(ada.event("call:participant-left").await["reason"], "disconnected");
    tokio::time::timeout(Duration::from_secs(10), deaf)
        .await
        .expect("its connection ends")
        .unwrap();
}

#[tokio::test]
async fn an_address_has_limits() {
    let settings = Settings {
        joins_per_address_per_s: 1,
        rooms_per_address_per_s: 1,
        rooms_max: 100,
        ..quick()
    };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let mut ada = stage.connect().await;
    let mut refused = 0;
    for number in 0..30 {
        let made = ada.ask("createRoom", json!({ "roomId": format!("room-{number}") })).await;
        refused += u32::from(made["error"]["code"] == "rate_limited");
    }
    assert!((15..=20).contains(&refused), "{refused}");
    let mut refused = 0;
    for number in 0..30 {
        let room = json!({ "roomId": format!("room-{}", number % 10) });
        refused += u32::from(ada.ask("joinRoom", room).await["error"]["code"] == "rate_limited");
    }
    assert!((15..=20).contains(&refused), "{refused}");
}

#[tokio::test]
async fn asking_again_for_a_room_costs_nothing() {
    let settings = Settings { unjoined_room_grace: Duration::from_secs(3600), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let mut ada = stage.connect().await;
    ada.must("createRoom", json!({ "roomId": "r" })).await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    for _ in 0..100 {
        ada.must("createRoom", json!({ "roomId": "r" })).await;
    }
    assert!(tasks() < before + 20, "{} tasks more", tasks() - before);
}

#[tokio::test]
async fn nothing_is_told_when_nothing_changed() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let this = json!({ "producerId": producer });
    for _ in 0..3 {
        ada.must("pauseProducer", this.clone()).await;
    }
    ada.must("resumeProducer", this).await;
    bob.event("producer-resumed").await;
    let told = bob.names_seen().await;
    assert_eq!(told.iter().filter(|name| *name == "producer-paused").count(), 1, "{told:?}");
}

#[tokio::test]
async fn many_changes_are_one_list() {
    let settings = Settings { list_delay: Duration::from_millis(500), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let (mut eve, _, _) = stage.join_sending("eve").await;
    for _ in 0..10 {
        ada.must("pauseProducer", json!({ "producerId": producer })).await;
        ada.must("resumeProducer", json!({ "producerId": producer })).await;
    }
    ada.must("pauseProducer", json!({ "producerId": producer })).await;
    let is_last = |list: &Value| {
        let all = list["producers"].as_array().unwrap();
        all.iter().any(|each| each["producerId"] == json!(producer) && each["paused"] == true)
    };
    let list = bob.event_where("roomProducersChanged", is_last).await;
    assert_eq!(list["producers"].as_array().map(Vec::len), Some(2));
    let told = bob.names_seen().await;
    let lists = told.iter().filter(|name| *name == "roomProducersChanged").count();
    assert!(lists <= 3, "{lists} lists for 21 changes");
    // Nobody is shown what he sends himself.
    let list = eve.event_where("roomProducersChanged", is_last).await;
    assert_eq!(list["producers"].as_array().map(Vec::len), Some(1));
}

/// However late the tasks of a new socket begin.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn the_first_message_of_a_socket_is_answered() {
    let stage = Arc::new(Stage::new().await);
    let asking = (0..400).map(|_| {
        let stage = Arc::clone(&stage);
        tokio::spawn(async move {
            let mut somebody = stage.connect().await;
            let code = somebody.refused("heartbeat", json!({})).await;
            // Nor is a socket taken for slow that wants no acknowledgement.
            let mut other = stage.connect().await;
            other.emit("heartbeat", json!({})).await;
            assert_eq!(other.event("error").await["code"], "not_in_room");
            other.refused("heartbeat", json!({})).await;
            code
        })
    });
    for answer in futures::future::join_all(asking).await {
        assert_eq!(answer.unwrap(), "not_in_room");
    }
}

/// Stops who wakes it first until it is told to go on.
struct Held(Mutex<Option<(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>)>>);

impl Wake for Held {
    fn wake(self: Arc<Self>) {
        let held = self.0.lock().unwrap().take();
        if let Some((stopped, go_on)) = held {
            let _ = stopped.send(());
            // A test that has failed says nothing more.
            let _ = tokio::task::block_in_place(|| go_on.recv());
        }
    }
}

/// The library tells a socket that it is connected before it takes it for connected. Here it is stopped
/// between the two: what tells the socket so has to wake who listens.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_message_that_comes_before_its_socket_counts_as_connected_is_answered() {
    let hosts = vec![MediaHost::only(FakeMedia::new() as _)];
    let Sockets { http, service, .. } = gateway::sockets(quick(), hosts, Stores::in_memory());
    let ask = |session: &str, said: Option<&'static str>| {
        let uri = format!("/socket.io/?EIO=4&transport=polling{session}");
        let method = if said.is_some() { Method::POST } else { Method::GET };
        let body = said.map_or(ReqBody::None, |said| ReqBody::Once(said.into()));
        let answer = http(hyper::Request::builder().method(method).uri(uri).body(body).unwrap());
        Box::pin(async move {
            let body = answer.await.into_body().collect().await.unwrap().to_bytes();
            String::from_utf8(body.to_vec()).unwrap()
        })
    };
    let hello: Value = serde_json::from_str(&ask("", None).await[1..]).unwrap();
    let session = format!("&sid={}", hello["sid"].as_str().unwrap());
    let ((stopped, is_stopped), (go_on, goes_on)) =
        (oneshot::channel(), std::sync::mpsc::channel());
    let held = Arc::new(Held(Mutex::new(Some((stopped, goes_on))))).into();
    let mut listening = ask(&session, None);
    assert!(listening.as_mut().poll(&mut Context::from_waker(&held)).is_pending());
    assert_eq!(ask(&session, Some("40")).await, "ok");
    is_stopped.await.unwrap();
    assert_eq!(ask(&session, Some(r#"42["heartbeat",{}]"#)).await, "ok");
    // Long enough to work for it, if that may begin before.
    let worked = async {
        while !service.metrics_text().contains("requests_total{event=\"heartbeat\"") {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_millis(200), worked).await;
    go_on.send(()).unwrap();
    let mut heard = listening.await;
    assert!(heard.starts_with("40{"), "{heard}");
    if !heard.contains("42[") {
        heard = tokio::time::timeout(Duration::from_secs(10), ask(&session, None)).await.unwrap();
    }
    assert!(heard.contains("not_in_room"), "{heard}");
    assert!(service.metrics_text().contains("slow_sockets_total 0\n"));
}
