//! The dataplane's unix socket: versions, two controllers, and frames that nobody should send.

use ironcast_process_tests::{AttachError, Attachment, Pair};
use ironcast_protocol::{
    Command, ErrorCode, FrameKind, Reply,
    command::{CreateRouter, CreateWebRtcTransport, Dump, Named},
    frame::{Hello, MAGIC, MAX_FRAME_BYTES, VERSION},
    snapshot::Resource,
};
use serde_json::json;

async fn dataplane() -> Pair {
    Pair::builder().without_control().start().await
}

fn router(id: &str) -> Command {
    Command::CreateRouter(CreateRouter {
        id: id.to_owned(),
        worker: 0,
        selection: Default::default(),
        note: b"a note".to_vec(),
    })
}

fn dump(id: &str) -> Command {
    Command::Dump(Dump { id: id.to_owned(), kind: None })
}

fn hello(version: u16, min_version: u16) -> Hello {
    let (magic, controller) = (MAGIC.to_owned(), "a test".to_owned());
    Hello { magic, version, min_version, controller, gives_way: false }
}

fn code(result: Result<Reply, AttachError>) -> ErrorCode {
    match result {
        Err(AttachError::Refused(error)) => error.code,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn the_newer_controller_fences_the_older() {
    let pair = dataplane().await;
    let mut older = pair.attach("older").await;
    older.command(&router("a")).await.expect("a room");
    let mut newer = pair.attach("newer").await;
    assert_eq!(older.welcome.boot_id, newer.welcome.boot_id);
    newer.command(&router("b")).await.expect("a room");
    match older.command(&router("c")).await {
        Err(AttachError::Refused(error)) => assert_eq!(error.code, ErrorCode::Fenced),
        Err(AttachError::Closed | AttachError::Io(_)) => {}
        other => panic!("the older controller was not fenced: {other:?}"),
    }
    assert!(older.is_closed().await);
    let rooms: Vec<String> = newer
        .snapshot()
        .await
        .expect("a snapshot")
        .into_iter()
        .filter_map(|resource| match resource {
            Resource::Router { create, .. } => {
                assert_eq!(create.note, b"a note");
                Some(create.id)
            }
            _ => None,
        })
        .collect();
    assert_eq!(rooms, ["a", "b"]);
}

#[tokio::test]
async fn versions_that_overlap_agree_and_others_part() {
    let pair = dataplane().await;
    let socket = pair.socket();
    let newer = Attachment::open_with(&socket, &hello(VERSION + 8, VERSION)).await;
    let mut newer = newer.expect("overlaps");
    assert_eq!(newer.welcome.version, VERSION);
    newer.command(&Command::Workers).await.expect("works");
    for (version, min_version) in [(VERSION + 8, VERSION + 8), (0, 0)] {
        let mut parted = Attachment::open_with(&socket, &hello(version, min_version))
            .await
            .expect("a welcome is sent all the same");
        assert_eq!(parted.welcome.version, 0);
        assert!(parted.is_closed().await);
    }
    // Who could not attach has not fenced anybody.
    newer.command(&Command::Workers).await.expect("still works");
}

#[tokio::test]
async fn unknown_commands_and_garbage_bodies_are_answered() {
    let pair = dataplane().await;
    let mut us = pair.attach("us").await;
    let bodies = [
        json!({ "make_coffee": { "sugar": true } }),
        json!({ "create_router": { "id": 7 } }),
        json!(["a", "list"]),
        json!(null),
    ];
    for body in bodies {
        let id = us.send(FrameKind::Request, &body).await.expect("sent");
        let code = code(us.answer(id).await);
        assert!(matches!(code, ErrorCode::UnknownCommand | ErrorCode::Invalid), "{code:?}: {body}");
    }
    // Fields that a newer control plane sends are ignored.
    let body = json!({ "create_router": {
        "id": "room", "worker": 0, "note": [], "colour": "green",
    }});
    let id = us.send(FrameKind::Request, &body).await.expect("sent");
    us.answer(id).await.expect("a room");
    // So are kinds of frames.
    us.send(FrameKind::Unknown, &json!({})).await.expect("sent");
    us.command(&Command::Workers).await.expect("still works");
}

#[tokio::test]
async fn wrong_commands_are_refused_with_their_code() {
    let pair = dataplane().await;
    let mut us = pair.attach("us").await;
    us.command(&router("room")).await.expect("a room");
    assert_eq!(code(us.command(&router("room")).await), ErrorCode::AlreadyExists);
    let nobody = || Named { id: "nobody".to_owned() };
    for command in [
        Command::CloseTransport(nobody()),
        Command::PauseConsumer(nobody()),
        Command::RestartIce(nobody()),
        Command::ProducerStats(nobody()),
        dump("nobody"),
    ] {
        assert_eq!(code(us.command(&command).await), ErrorCode::NotFound, "{command:?}");
    }
    let elsewhere = Command::CreateRouter(CreateRouter {
        id: "x".to_owned(),
        worker: 999,
        selection: Default::default(),
        note: Vec::new(),
    });
    let refused = code(us.command(&elsewhere).await);
    assert!(
        matches!(refused, ErrorCode::NotFound | ErrorCode::Invalid | ErrorCode::WorkerUnavailable),
        "{refused:?}"
    );
    let big = Command::CreateRouter(CreateRouter {
        id: "big".to_owned(),
        worker: 0,
        selection: Default::default(),
        note: vec![0; 64 << 10],
    });
    assert_eq!(code(us.command(&big).await), ErrorCode::TooLarge);
    for id in ["", "with space", &"x".repeat(97)] {
        assert_eq!(code(us.command(&router(id)).await), ErrorCode::Invalid, "{id:?}");
    }
    // The kind of a resource counts too.
    let room = Named { id: "room".to_owned() };
    assert_eq!(code(us.command(&Command::CloseConsumer(room)).await), ErrorCode::NotFound);
}

#[tokio::test]
async fn garbage_ends_the_connection_and_nothing_else() {
    let mut pair = dataplane().await;
    let mut us = pair.attach("us").await;
    us.command(&router("room")).await.expect("a room");
    let too_long = ((MAX_FRAME_BYTES + 1) as u32).to_be_bytes().to_vec();
    let no_frame = [&5u32.to_be_bytes()[..], b"\xC1\xC1\xC1\xC1\xC1"].concat();
    let half = [&100u32.to_be_bytes()[..], b"half"].concat();
    for bytes in [too_long, no_frame, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut stranger = pair.attach("stranger").await;
        stranger.send_bytes(&bytes).await.expect("sent");
        assert!(stranger.is_closed().await, "{bytes:?}");
    }
    // A connection that says nothing, or half a frame, holds up nobody.
    let mut silent = pair.attach("silent").await;
    silent.send_bytes(&half).await.expect("sent");
    let raw = tokio::net::UnixStream::connect(pair.socket()).await.expect("listens");
    let mut us = pair.attach("us").await;
    us.command(&dump("room")).await.expect("the room lives");
    drop((raw, silent));
    assert!(pair.dataplane_runs());
}

#[tokio::test]
async fn a_wrong_hello_is_not_let_in() {
    let pair = dataplane().await;
    let mut us = pair.attach("us").await;
    let stranger = Hello { magic: "something else".to_owned(), ..hello(VERSION, VERSION) };
    match Attachment::open_with(&pair.socket(), &stranger).await {
        Ok(mut attached) => {
            assert_eq!(attached.welcome.version, 0);
            assert!(attached.is_closed().await);
        }
        Err(AttachError::Closed | AttachError::Io(_)) => {}
        Err(other) => panic!("{other}"),
    }
    us.command(&Command::Workers).await.expect("still attached");
}

#[tokio::test]
async fn transports_survive_their_controller() {
    let pair = dataplane().await;
    let mut us = pair.attach("first").await;
    us.command(&router("room")).await.expect("a room");
    let create = CreateWebRtcTransport {
        id: "transport".to_owned(),
        router: "room".to_owned(),
        consent_timeout_s: 30,
        disconnected_timeout_s: 0,
        initial_available_outgoing_bitrate_bps: 600_000,
        candidates: Default::default(),
        note: b"alice".to_vec(),
    };
    let created = us.command(&Command::CreateWebRtcTransport(create.clone())).await;
    let Ok(Reply::TransportCreated(created)) = created else { panic!("{created:?}") };
    assert!(!created.ice_candidates.is_empty());
    drop(us);
    let mut next = pair.attach("next").await;
    let resources = next.snapshot().await.expect("a snapshot");
    let found = resources.iter().find_map(|resource| match resource {
        Resource::WebRtcTransport { create, created, .. } => Some((create, created)),
        _ => None,
    });
    let (same, ours) = found.expect("the transport is still there");
    assert_eq!((&**same, &**ours), (&create, &created));
    next.command(&Command::CloseRouter(Named { id: "room".to_owned() })).await.expect("closed");
    assert!(next.snapshot().await.expect("a snapshot").is_empty());
}

#[tokio::test]
async fn a_panic_in_one_worker_leaves_the_others() {
    use ironcast_protocol::Event;
    let pair = Pair::builder()
        .without_control()
        .set("dataplane.workers", 2)
        .env("IRONCAST_TEST_HOOKS", "1")
        .start()
        .await;
    let mut us = pair.attach("us").await;
    let room = |id: &str, worker| {
        Command::CreateRouter(CreateRouter {
            id: id.to_owned(),
            worker,
            selection: Default::default(),
            note: Vec::new(),
        })
    };
    us.command(&room("here", 0)).await.expect("a room");
    us.command(&room("there", 1)).await.expect("a room");
    // The hook: a room of this name makes its worker panic.
    us.send(FrameKind::Request, &room("__panic", 1)).await.expect("sent");
    let (mut died, mut restarted) = (false, false);
    while !(died && restarted) {
        match us.event().await.expect("an event").1 {
            Event::WorkerDied { worker, routers, .. } => {
                assert_eq!(worker, 1);
                assert!(routers.contains(&"there".to_owned()), "{routers:?}");
                assert!(!routers.contains(&"here".to_owned()), "{routers:?}");
                died = true;
            }
            Event::WorkerRestarted { worker } => {
                assert_eq!(worker, 1);
                restarted = true;
            }
            _ => {}
        }
    }
    us.command(&dump("here")).await.expect("it lives");
    let gone = us.command(&dump("there")).await;
    assert_eq!(code(gone), ErrorCode::NotFound);
    us.command(&room("there", 1)).await.expect("the worker takes rooms again");
}
