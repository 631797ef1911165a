//! What people write to each other: one order, kept, paged, once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ironcast_api::Id;
use ironcast_signaling::settings::Settings;
use ironcast_signaling::store::calls::{CallParticipant, CallRecord, CallSession};
use ironcast_signaling::store::memory::Memory;
use ironcast_signaling::store::{Answer, Kept, Lasting, Message, NewMessage, StoreError, Stores};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::nodes::Fleet;
use crate::stage::{Stage, quick, video};

fn text(content: &str) -> Value {
    json!({ "content": content })
}

async fn list(client: &mut Client, payload: Value) -> Vec<String> {
    let listed = client.must("listMessages", payload).await;
    let messages = listed["messages"].as_array().unwrap();
    messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()).collect()
}

fn unlimited() -> Settings {
    Settings { chat_per_participant_per_s: 0, ..quick() }
}

#[tokio::test]
async fn what_is_written_is_told_to_all_and_kept() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let sent = ada.must("chat_message", json!({ "content": " <b>hi</b> ", "clientId": "1" })).await;
    let told = bob.event("chat_message").await;
    assert_eq!(
        (&told["senderId"], &told["content"], &told["name"]),
        (&json!("ada"), &json!("<b>hi</b>"), &json!("ada"))
    );
    assert_eq!((&told["id"], &told["timestamp"]), (&sent["id"], &sent["timestamp"]));
    assert!(told["timestamp"].is_u64());
    assert!(told.get("clientId").is_none(), "a client's own id is told to that client only");
    let own = ada.event("chat_message").await;
    assert_eq!((&own["id"], &own["clientId"]), (&sent["id"], &json!("1")));
    // Who comes later reads it, with the name of then.
    ada.must("leaveRoom", json!({})).await;
    let (mut eve, _) = stage.join("eve").await;
    let listed = eve.must("listMessages", json!({})).await["messages"].clone();
    assert_eq!(listed, json!([told]));
}

#[tokio::test]
async fn who_is_in_no_room_reads_and_writes_nothing() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    ada.must("chat_message", text("here")).await;
    let mut other = stage.connect().await;
    assert_eq!(other.refused("chat_message", text("hi")).await, "not_in_room");
    assert_eq!(other.refused("listMessages", json!({})).await, "not_in_room");
    // Another room is another chat.
    other.must("joinRoom", json!({ "roomId": "elsewhere" })).await;
    assert_eq!(list(&mut other, json!({})).await, Vec::<String>::new());
    other.must("chat_message", text("there")).await;
    assert!(!ada.names_seen().await.contains(&"user_joined".to_owned()));
    assert_eq!(list(&mut ada, json!({})).await, ["here"]);
}

#[tokio::test]
async fn sent_again_it_appears_once() {
    let stage = Stage::with(unlimited(), FakeMedia::new()).await;
    let (mut ada, joined) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let wanted = json!({ "content": "once", "clientId": "6f8a" });
    let first = ada.must("chat_message", wanted.clone()).await;
    ada.cut();
    // The answer was lost with the socket: on another one it is sent again.
    let mut ada = stage.connect().await;
    let token = &joined["resumeToken"];
    ada.must("joinRoom", json!({ "roomId": "r", "resumeToken": token })).await;
    assert_eq!(ada.must("chat_message", wanted.clone()).await, first);
    // Also when he is somebody else by now.
    ada.must("leaveRoom", json!({})).await;
    ada.must("joinRoom", json!({ "roomId": "r" })).await;
    assert_eq!(ada.must("chat_message", wanted.clone()).await, first);
    let other = json!({ "content": "something else", "clientId": "6f8a" });
    assert_eq!(ada.refused("chat_message", other).await, "already_exists");
    ada.must("chat_message", text("twice")).await;
    ada.must("chat_message", text("twice")).await;
    assert_eq!(list(&mut ada, json!({})).await, ["once", "twice", "twice"]);
    for content in ["once", "twice", "twice"] {
        assert_eq!(bob.event("chat_message").await["content"], content);
    }
}

#[tokio::test]
async fn pages_go_back_to_the_beginning() {
    let settings = Settings { chat_kept_per_room_max: 20, ..unlimited() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    for number in 1..=25 {
        ada.must("chat_message", text(&number.to_string())).await;
    }
    let (mut bob, _) = stage.join("bob").await;
    let mut read = Vec::new();
    let mut before = Value::Null;
    loop {
        let page = json!({ "before": before, "limit": 8 });
        let page = bob.must("listMessages", page).await["messages"].clone();
        let page = page.as_array().unwrap().clone();
        let Some(first) = page.first() else { break };
        before = first["id"].clone();
        let contents = page.iter().map(|each| each["content"].as_str().unwrap().to_owned());
        read.splice(0..0, contents);
    }
    // The oldest of more than are kept are gone.
    assert_eq!(read, (6..=25).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[tokio::test]
async fn all_see_one_order() {
    let stage = Stage::with(unlimited(), FakeMedia::new()).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let (mut eve, _) = stage.join("eve").await;
    let both = async |client: &mut Client, name: &str| {
        for number in 0..20 {
            client.emit("chat_message", text(&format!("{name} {number}"))).await;
        }
    };
    tokio::join!(both(&mut ada, "ada"), both(&mut bob, "bob"));
    let mut seen: Vec<Vec<u64>> = Vec::new();
    for client in [&mut ada, &mut bob, &mut eve] {
        let mut ids = Vec::new();
        for _ in 0..40 {
            let id = client.event("chat_message").await["id"].clone();
            ids.push(id.as_str().unwrap().parse().unwrap());
        }
        seen.push(ids);
    }
    assert!(seen[0].is_sorted() && seen[0] == seen[1] && seen[1] == seen[2], "{seen:?}");
}

#[tokio::test]
async fn who_writes_too_much_is_told_and_others_are_not() {
    let stage = Stage::new().await;
    let (mut ada, joined) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let mut refused = 0;
    for number in 0..20 {
        let answer = ada.ask("chat_message", text(&number.to_string())).await;
        refused += usize::from(answer["error"]["code"] == "rate_limited");
    }
    assert!(refused >= 8, "{refused}");
    // A new socket is not a new beginning.
    let mut again = stage.connect().await;
    let token = &joined["resumeToken"];
    again.must("joinRoom", json!({ "roomId": "r", "resumeToken": token })).await;
    assert_eq!(again.refused("chat_message", text("more")).await, "rate_limited");
    bob.must("chat_message", text("a word")).await;
    let told = bob.names_seen().await;
    let told = told.iter().filter(|name| *name == "chat_message").count();
    assert_eq!(told, 20 - refused + 1);
    let metrics = stage.service.metrics_text();
    assert!(metrics.contains(&format!("chat_refused_total {}", refused + 1)), "{metrics}");
}

#[tokio::test]
async fn wrong_messages_are_refused() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    for payload in [
        json!({}),
        text(""),
        text(" \n\u{0} "),
        text(&"x".repeat(4097)),
        json!({ "content": 7 }),
        json!({ "content": "a", "clientId": "a b" }),
        json!({ "content": "a", "clientId": "x".repeat(65) }),
    ] {
        assert_eq!(ada.refused("chat_message", payload.clone()).await, "invalid_request");
    }
    for payload in [json!({ "before": 7 }), json!({ "limit": 1000 }), json!({ "limit": -1 })] {
        assert_eq!(ada.refused("listMessages", payload.clone()).await, "invalid_request");
    }
    assert_eq!(list(&mut ada, json!({})).await, Vec::<String>::new());
}

#[tokio::test]
async fn messages_outlive_the_service() {
    let stores = Stores::in_memory();
    for word in ["one", "two"] {
        let media = FakeMedia::new();
        let stage = Stage::start_with(quick(), Arc::clone(&media), stores.clone()).await;
        let (mut ada, _) = stage.join("ada").await;
        ada.must("chat_message", text(word)).await;
    }
    let stage = Stage::start_with(quick(), FakeMedia::new(), stores).await;
    let (mut bob, _) = stage.join("bob").await;
    assert_eq!(list(&mut bob, json!({})).await, ["one", "two"]);
}

/// Keeps and reads messages when nobody holds its gate.
#[derive(Default)]
struct Slow {
    inside: Memory,
    gate: tokio::sync::RwLock<()>,
    /// Keeps messages, and says so too late.
    is_late: AtomicBool,
}

impl Lasting for Slow {
    fn add_message(&self, new: NewMessage) -> Answer<'_, Kept> {
        Box::pin(async move {
            drop(self.gate.read().await);
            let kept = self.inside.add_message(new).await;
            if self.is_late.load(Ordering::SeqCst) {
                return Err(StoreError::Unavailable("no answer in time".to_owned()));
            }
            kept
        })
    }

    fn messages(&self, room_id: Id, before: Option<u64>, limit: u32) -> Answer<'_, Vec<Message>> {
        Box::pin(async move {
            drop(self.gate.read().await);
            self.inside.messages(room_id, before, limit).await
        })
    }

    fn note_calls(&self, records: Vec<CallRecord>) -> Answer<'_, ()> {
        self.inside.note_calls(records)
    }

    fn call(&self, call_id: Id) -> Answer<'_, Option<(CallSession, Vec<CallParticipant>)>> {
        self.inside.call(call_id)
    }

    fn forget_before(&self, time_ms: u64) -> Answer<'_, ()> {
        self.inside.forget_before(time_ms)
    }
}

#[tokio::test]
async fn a_slow_store_holds_up_messages_alone() {
    let slow = Arc::new(Slow::default());
    let stores = Stores { lasting: Arc::clone(&slow) as _, ..Stores::in_memory() };
    let stage = Stage::start_with(unlimited(), FakeMedia::new(), stores).await;
    let (mut ada, _) = stage.join("ada").await;
    let held = slow.gate.write().await;
    // As a page does that has just joined.
    ada.emit("chat_message", text("one")).await;
    ada.emit("listMessages", json!({})).await;
    ada.emit("chat_message", text("two")).await;
    ada.must("createProducerTransport", json!({})).await;
    let track = ada.must("produce", video()).await["id"].clone();
    ada.must("pauseProducer", json!({ "producerId": track })).await;
    assert!(ada.events_seen().await.iter().all(|(name, _)| name != "chat_message"));
    drop(held);
    assert_eq!(ada.event("chat_message").await["content"], "one");
    let listed = ada.event("messages").await["messages"].clone();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["content"]), (1, &json!("one")));
    assert_eq!(ada.event("chat_message").await["content"], "two");
}

#[tokio::test]
async fn what_was_written_before_leaving_is_told_although_the_store_is_slow() {
    let slow = Arc::new(Slow::default());
    let stores = Stores { lasting: Arc::clone(&slow) as _, ..Stores::in_memory() };
    let stage = Stage::start_with(unlimited(), FakeMedia::new(), stores).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let held = slow.gate.write().await;
    ada.emit("chat_message", text("bye")).await;
    ada.must("leaveRoom", json!({})).await;
    drop(held);
    let told = bob.event("chat_message").await;
    assert_eq!((&told["content"], &told["name"]), (&json!("bye"), &json!("ada")));
    assert_eq!(ada.refused("chat_message", text("too late")).await, "not_in_room");
}

#[tokio::test]
async fn what_was_kept_without_an_answer_is_told_when_it_is_sent_again() {
    let slow = Arc::new(Slow::default());
    let stores = Stores { lasting: Arc::clone(&slow) as _, ..Stores::in_memory() };
    let stage = Stage::start_with(unlimited(), FakeMedia::new(), stores).await;
    let (mut ada, _) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let late = async |client: &mut Client, wanted: &Value| {
        slow.is_late.store(true, Ordering::SeqCst);
        assert_eq!(client.refused("chat_message", wanted.clone()).await, "store_unavailable");
        slow.is_late.store(false, Ordering::SeqCst);
    };
    // The first of its room, and one with others before it.
    for number in 1..=2 {
        let wanted = json!({ "content": format!("{number}"), "clientId": format!("c{number}") });
        late(&mut ada, &wanted).await;
        let answers = [
            ada.must("chat_message", wanted.clone()).await,
            ada.must("chat_message", wanted.clone()).await,
        ];
        let told = bob.event("chat_message").await;
        assert_eq!((&told["content"], &told["id"]), (&wanted["content"], &answers[0]["id"]));
        assert_eq!(answers[0], answers[1]);
        assert_eq!(ada.event("chat_message").await["clientId"], wanted["clientId"]);
    }
    // Somebody else writes before it is sent again: all see one order.
    let wanted = json!({ "content": "three", "clientId": "c3" });
    late(&mut ada, &wanted).await;
    bob.must("chat_message", text("four")).await;
    ada.must("chat_message", wanted).await;
    for client in [&mut ada, &mut bob] {
        for content in ["three", "four"] {
            assert_eq!(client.event("chat_message").await["content"], content);
        }
        assert!(!client.names_seen().await.contains(&"chat_message".to_owned()), "told once");
    }
    // What was written before somebody made the room again is listed.
    drop((ada, bob));
    stage.until_rooms_are(0).await;
    let (mut cem, _) = stage.join("cem").await;
    cem.must("chat_message", json!({ "content": "three", "clientId": "c3" })).await;
    assert!(!cem.names_seen().await.contains(&"chat_message".to_owned()));
}

#[tokio::test]
async fn what_was_kept_without_an_answer_is_told_at_all_nodes() {
    let mut fleet = Fleet::new().await;
    let slow = Arc::new(Slow::default());
    fleet.messages = Arc::clone(&slow) as _;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut bob, _) = two.stage.join("bob").await;
    let (mut ada, _) = one.stage.join("ada").await;
    let wanted = json!({ "content": "late", "clientId": "c" });
    slow.is_late.store(true, Ordering::SeqCst);
    assert_eq!(ada.refused("chat_message", wanted.clone()).await, "store_unavailable");
    slow.is_late.store(false, Ordering::SeqCst);
    // He sends it again at a node that has read it when it opened the room.
    let three = fleet.node("three").await;
    let (mut eve, _) = three.stage.join("eve").await;
    eve.must("chat_message", wanted.clone()).await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("chat_message").await["content"], "late");
    }
    eve.must("chat_message", wanted).await;
    for client in [&mut ada, &mut bob, &mut eve] {
        assert!(!client.names_seen().await.contains(&"chat_message".to_owned()), "told once");
    }
}
