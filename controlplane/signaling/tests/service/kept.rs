//! The stores themselves, each with the same demands: in memory, SQLite, a real PostgreSQL.

use std::sync::Arc;

use ironcast_api::Id;
use ironcast_signaling::store::calls::{CallParticipant, CallRecord, CallSession, Status};
use ironcast_signaling::store::memory::Memory;
use ironcast_signaling::store::sql::{self, Sql};
use ironcast_signaling::store::{
    Kept, Lasting, NewMessage, Present, RoomRecord, Shared, StoreError, Stores,
};
use serde_json::json;

use crate::fake_media::FakeMedia;
use crate::postgres::Postgres;
use crate::redis::RedisServer;
use crate::stage::{Stage, quick};

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn message(room: &str, client_id: Option<&str>, content: &str, time_ms: u64) -> NewMessage {
    NewMessage {
        room_id: id(room),
        sender_id: id("ada"),
        sender_name: "Ada 😀".to_owned(),
        client_id: client_id.map(id),
        content: content.to_owned(),
        time_ms,
        kept_max: 5,
    }
}

async fn add(store: &dyn Lasting, new: NewMessage) -> Kept {
    store.add_message(new).await.unwrap()
}

/// Contents before a number.
async fn page(store: &dyn Lasting, room: &str, before: Option<u64>, limit: u32) -> Vec<String> {
    let page = store.messages(id(room), before, limit).await.unwrap();
    page.into_iter().map(|message| message.content).collect()
}

async fn keeps_messages(store: &dyn Lasting) {
    let first =
        add(store, message("r", Some("c1"), "'; DROP TABLE chat_messages; --", 1_000)).await;
    assert_eq!((first.message.number, first.is_new), (1, true));
    let again = message("r", Some("c1"), &first.message.content, 2_000);
    let again = add(store, again).await;
    assert_eq!((&again.message, again.is_new), (&first.message, false));
    let other = store.add_message(message("r", Some("c1"), "other", 2_000)).await;
    assert_eq!(other, Err(StoreError::Taken));
    // A clock that goes back does not take messages with it.
    let second = add(store, message("r", Some("c2"), "zwei\n😀", 500)).await;
    assert_eq!((second.message.number, second.message.time_ms), (2, 1_000));
    // Another room counts for itself, and so do its clients.
    let elsewhere = add(store, message("q", Some("c1"), "elsewhere", 3_000)).await;
    assert_eq!((elsewhere.message.number, elsewhere.is_new), (1, true));
    for number in 3..=7 {
        let kept = add(store, message("r", None, &number.to_string(), 4_000)).await;
        assert_eq!(kept.message.number, number);
    }
    // The newest five are kept.
    assert_eq!(page(store, "r", None, 100).await, ["3", "4", "5", "6", "7"]);
    assert_eq!(page(store, "r", None, 2).await, ["6", "7"]);
    assert_eq!(page(store, "r", Some(6), 2).await, ["4", "5"]);
    assert_eq!(page(store, "r", Some(3), 2).await, Vec::<String>::new());
    assert_eq!(page(store, "nowhere", None, 9).await, Vec::<String>::new());
    store.forget_before(3_500).await.unwrap();
    assert_eq!(page(store, "q", None, 100).await, Vec::<String>::new());
    assert_eq!(page(store, "r", None, 100).await.len(), 5);
}

/// Somebody in the call `r`.
fn somebody(session: &str, joined_ms: u64) -> CallParticipant {
    CallParticipant {
        call_id: id("r"),
        session: id(session),
        participant_id: id("ada"),
        name: "Ada 😀".to_owned(),
        status: Status::Connected,
        joined_ms,
        left_ms: None,
        send_transport_id: None,
        recv_transport_id: Some(id("t")),
        audio_producer_id: None,
        video_producer_id: None,
        media_host: None,
    }
}

async fn keeps_calls(store: &dyn Lasting) {
    let session = |mode: &str, started_ms| CallSession {
        call_id: id("r"),
        mode: mode.to_owned(),
        router_id: (mode == "sfu").then(|| id("router")),
        rtp_capabilities: (mode == "sfu").then(|| json!({ "codecs": [] })),
        started_ms,
        ended_ms: None,
    };
    assert_eq!(store.call(id("r")).await.unwrap(), None);
    let first = somebody("s1", 1_000);
    let begin = CallRecord::Session(session("p2p", 1_000));
    store.note_calls(vec![begin, CallRecord::Participant(first.clone())]).await.unwrap();
    assert_eq!(store.call(id("r")).await.unwrap(), Some((session("p2p", 1_000), vec![first])));
    // It goes on in another way, and his later states keep when he came.
    let later = CallParticipant {
        video_producer_id: Some(id("v")),
        media_host: Some("https://two".to_owned()),
        ..somebody("s1", 2_000)
    };
    let left = CallRecord::Left { call_id: id("r"), session: id("s2"), left_ms: 2_500 };
    let both = vec![
        CallRecord::Session(session("sfu", 2_000)),
        CallRecord::Participant(later.clone()),
        CallRecord::Participant(somebody("s2", 2_000)),
        left,
    ];
    store.note_calls(both).await.unwrap();
    let first = CallParticipant { joined_ms: 1_000, ..later };
    let second = CallParticipant {
        status: Status::Disconnected,
        left_ms: Some(2_500),
        ..somebody("s2", 2_000)
    };
    let people = vec![first, second];
    assert_eq!(store.call(id("r")).await.unwrap(), Some((session("sfu", 1_000), people.clone())));
    // Who left stays so, whatever another node still writes of him.
    let late = CallRecord::Participant(somebody("s2", 2_600));
    store.note_calls(vec![late]).await.unwrap();
    assert_eq!(store.call(id("r")).await.unwrap().unwrap().1, people);
    // An end, and a new call with nobody of the last one.
    let ended = |ended_ms| CallRecord::Ended { call_id: id("r"), ended_ms };
    store.note_calls(vec![ended(900), ended(3_000), ended(3_500)]).await.unwrap();
    assert_eq!(store.call(id("r")).await.unwrap().unwrap().0.ended_ms, Some(3_000));
    let anew = vec![
        CallRecord::Session(session("sfu", 4_000)),
        CallRecord::Participant(somebody("s3", 4_000)),
    ];
    store.note_calls(anew).await.unwrap();
    let now = Some((session("sfu", 4_000), vec![somebody("s3", 4_000)]));
    assert_eq!(store.call(id("r")).await.unwrap(), now);
    store.note_calls(vec![ended(5_000)]).await.unwrap();
    store.forget_before(6_000).await.unwrap();
    assert_eq!(store.call(id("r")).await.unwrap(), None);
}

/// Two nodes write at once: each number is somebody's, once.
async fn counts_for_two(one: Arc<dyn Lasting>, other: Arc<dyn Lasting>) {
    let write = |store: Arc<dyn Lasting>, name: &'static str| async move {
        let mut numbers = Vec::new();
        for _ in 0..50 {
            let new = NewMessage { kept_max: 1_000, ..message("busy", None, name, 1) };
            numbers.push(store.add_message(new).await.unwrap().message.number);
        }
        assert!(numbers.is_sorted());
        numbers
    };
    let (ones, others) = tokio::join!(
        tokio::spawn(write(Arc::clone(&one), "one")),
        tokio::spawn(write(Arc::clone(&other), "other")),
    );
    let mut all = [ones.unwrap(), others.unwrap()].concat();
    all.sort_unstable();
    assert_eq!(all, (1..=100).collect::<Vec<_>>());
    let first = one.messages(id("busy"), None, 100).await.unwrap();
    assert_eq!(first, other.messages(id("busy"), None, 100).await.unwrap());
    // The same message at two nodes, as when its sender came back at another one.
    let sent = || message("busy", Some("again"), "sent again", 2);
    let (here, there) = tokio::join!(one.add_message(sent()), other.add_message(sent()));
    let (here, there) = (here.unwrap(), there.unwrap());
    assert_eq!(here.message, there.message);
    assert!(here.is_new != there.is_new);
}

fn present(room: &str, name: &str, session: &str, node: &str) -> Present {
    Present {
        room_id: id(room),
        participant_id: id(name),
        session: id(session),
        name: name.to_owned(),
        node: node.to_owned(),
    }
}

async fn sessions(store: &dyn Shared, room: &str) -> Vec<String> {
    let there = store.present(id(room)).await.unwrap();
    let mut sessions: Vec<_> = there.into_iter().map(|who| who.session.to_string()).collect();
    sessions.sort();
    sessions
}

async fn shares(one: Arc<dyn Shared>, other: Arc<dyn Shared>) {
    // Of many who change a room at once one does, each time.
    let record = |mode: &str| RoomRecord { mode: mode.to_owned(), media_host: None };
    assert_eq!(one.room(id("r")).await.unwrap(), None);
    assert!(one.set_room(id("r"), None, record("p2p")).await.unwrap());
    assert!(!other.set_room(id("r"), None, record("sfu")).await.unwrap());
    for _ in 0..20 {
        let version = one.room(id("r")).await.unwrap().unwrap().version;
        let (here, there) = tokio::join!(
            one.set_room(id("r"), Some(version), record("sfu")),
            other.set_room(id("r"), Some(version), record("p2p")),
        );
        assert!(here.unwrap() != there.unwrap());
        assert_eq!(other.room(id("r")).await.unwrap().unwrap().version, version + 1);
    }
    one.forget_room(id("r")).await.unwrap();
    assert_eq!(other.room(id("r")).await.unwrap(), None);

    one.enter(present("r", "ada", "ada.1", "here")).await.unwrap();
    one.enter(present("q", "eve", "eve.1", "here")).await.unwrap();
    other.enter(present("r", "bob", "bob.1", "there")).await.unwrap();
    assert_eq!(sessions(&*other, "r").await, ["ada.1", "bob.1"]);
    assert_eq!(other.node_of(id("ada")).await.unwrap().as_deref(), Some("here"));
    // She came back at the other node: what the first one still says of her is about somebody else.
    other.enter(present("r", "ada", "ada.2", "there")).await.unwrap();
    one.leave(present("r", "ada", "ada.1", "here")).await.unwrap();
    assert_eq!(sessions(&*one, "r").await, ["ada.2", "bob.1"]);
    assert_eq!(one.node_of(id("ada")).await.unwrap().as_deref(), Some("there"));
    other.leave(present("r", "ada", "ada.2", "there")).await.unwrap();
    assert_eq!(sessions(&*one, "r").await, ["bob.1"]);
    assert_eq!(one.node_of(id("ada")).await.unwrap(), None);
    // Who does not come back in time is gone.
    let window = std::time::Duration::from_secs(1);
    other.disconnecting(present("r", "bob", "bob.1", "there"), window).await.unwrap();
    assert_eq!(sessions(&*one, "r").await, ["bob.1"]);
    let gone = async { while !sessions(&*one, "r").await.is_empty() {} };
    tokio::time::timeout(std::time::Duration::from_secs(5), gone).await.unwrap();
    assert_eq!(sessions(&*other, "q").await, ["eve.1"]);
}

#[tokio::test]
async fn shared_in_memory() {
    let memory = Arc::new(Memory::default());
    shares(Arc::clone(&memory) as _, memory).await;
}

#[tokio::test]
async fn shared_by_redis() {
    let server = RedisServer::start().await;
    let (one, other) = (server.connect().await, server.connect().await);
    shares(Arc::new(one.clone()), Arc::new(other)).await;
    // Exactly these keys, and each expires.
    one.enter(present("r", "ada", "ada.1", "here")).await.unwrap();
    one.disconnecting(present("r", "bob", "bob.1", "here"), std::time::Duration::from_secs(5))
        .await
        .unwrap();
    let record = RoomRecord { mode: "sfu".to_owned(), media_host: None };
    assert!(one.set_room(id("r"), None, record).await.unwrap());
    let mut keys = server.ask(&["KEYS", "*"]);
    keys.retain(|key| !key.contains("eve") && !key.starts_with("room:q"));
    keys.sort();
    let wanted = [
        "disconnecting:bob",
        "presence:r:ada",
        "presence:r:bob",
        "room:r",
        "room:r:nodes",
        "room:r:presence",
        "user:ada:node",
        "user:bob:node",
    ];
    assert_eq!(keys, wanted);
    for key in wanted {
        let seconds: i64 = server.ask(&["TTL", key])[0].parse().unwrap();
        assert!((1..=3600).contains(&seconds), "{key}: {seconds}");
    }
    assert_eq!(server.ask(&["HGET", "room:r:nodes", "here"]), ["2"]);
    one.leave(present("r", "ada", "ada.1", "here")).await.unwrap();
    assert_eq!(server.ask(&["HGET", "room:r:nodes", "here"]), ["1"]);
    // A server that is away is an error, and soon.
    drop(server);
    let asked = tokio::time::timeout(std::time::Duration::from_secs(10), one.room(id("r"))).await;
    assert!(matches!(asked.unwrap(), Err(StoreError::Unavailable(_))));
}

#[tokio::test]
async fn in_memory() {
    let memory = Arc::new(Memory::default());
    keeps_calls(&*memory).await;
    keeps_messages(&*memory).await;
    counts_for_two(Arc::clone(&memory) as _, memory).await;
}

#[tokio::test]
async fn in_a_file() {
    let folder = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    let path = folder.join(sql::FILE);
    keeps_calls(&Sql::sqlite(&path).await.unwrap()).await;
    keeps_messages(&Sql::sqlite(&path).await.unwrap()).await;
    let (one, other) = (Sql::sqlite(&path).await.unwrap(), Sql::sqlite(&path).await.unwrap());
    assert_eq!(page(&one, "r", None, 100).await.len(), 5, "it is still there");
    counts_for_two(Arc::new(one), Arc::new(other)).await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Two services share a database: a late joiner at one reads what was written at the other.
#[tokio::test]
async fn at_a_server() {
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let url = postgres.url();
    // Both come at once to a database without tables.
    let (one, other) = tokio::join!(Sql::postgres(&url), Sql::postgres(&url));
    let (one, other) = (Arc::new(one.unwrap()), Arc::new(other.unwrap()));
    keeps_calls(&*one).await;
    keeps_messages(&*one).await;
    counts_for_two(Arc::clone(&one) as _, Arc::clone(&other) as _).await;
    let stage = async |lasting: Arc<Sql>| {
        let stores = Stores { lasting, ..Stores::in_memory() };
        Stage::start_with(quick(), FakeMedia::new(), stores).await
    };
    let (first, second) = (stage(one).await, stage(other).await);
    let (mut ada, _) = first.join("ada").await;
    let (mut bob, _) = second.join("bob").await;
    ada.must("chat_message", json!({ "content": "over here" })).await;
    let listed = bob.must("listMessages", json!({ "limit": 1 })).await;
    assert_eq!(listed["messages"][0]["content"], "over here");
    // Without its database a message is refused, and the call goes on.
    drop(postgres);
    let refused = ada.refused("chat_message", json!({ "content": "lost" })).await;
    assert_eq!(refused, "store_unavailable");
    ada.must("createProducerTransport", json!({})).await;
}

/// It takes the connection and the question, and does not answer: here because another one has the
/// tables for itself.
#[tokio::test]
async fn a_database_that_says_nothing_is_away() {
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let store = Sql::postgres(&server.url()).await.unwrap();
    let other = sqlx::PgPool::connect(&server.url()).await.unwrap();
    let mut alone = other.begin().await.unwrap();
    sqlx::query("LOCK TABLE chat_messages, chat_rooms").execute(&mut *alone).await.unwrap();
    let (read, written) = tokio::join!(
        store.messages(id("r"), None, 1),
        store.add_message(message("r", Some("c"), "hello", 1)),
    );
    assert!(matches!(read, Err(StoreError::Unavailable(_))), "{read:?}");
    assert!(matches!(written, Err(StoreError::Unavailable(_))), "{written:?}");
    alone.rollback().await.unwrap();
    // Sent again it is the same message, whatever became of it then.
    let kept = loop {
        match store.add_message(message("r", Some("c"), "hello", 1)).await {
            Ok(kept) => break kept,
            Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
        }
    };
    assert_eq!((kept.message.number, page(&store, "r", None, 9).await.len()), (1, 1));
}
