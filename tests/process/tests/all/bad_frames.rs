//! Frames of the control socket that are wrong, at both of its ends: commands that nobody should send,
//! to the dataplane; and everything between the two processes through somebody who damages some of
//! it. When he is gone, both work on.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use ironcast_load::Control as _;
use ironcast_process_tests::{AttachError, Attachment, Pair, eventually};
use ironcast_protocol::{Command, FrameKind, Reply, frame};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream, unix::OwnedReadHalf, unix::OwnedWriteHalf},
    task::JoinHandle,
};

use crate::{bad_requests::a_call_works, mutation::Mutator};

const SEED: u64 = 4_711;
const COMMANDS: usize = 3_000;
/// So many frames are damaged on their way.
const DAMAGED: usize = 80;

/// Bodies of commands as the control plane writes them.
fn commands() -> Vec<Value> {
    let named = json!({ "id": "room" });
    let codec = json!({ "mime_type": "video/VP8", "payload_type": 96, "clock_rate": 90_000,
        "parameters": [], "rtcp_feedback": [] });
    let parameters = json!({ "mid": "0", "codecs": [codec], "encodings": [{ "ssrc": 1_111 }],
        "header_extensions": [], "rtcp": {} });
    vec![
        json!("workers"),
        json!("process"),
        json!("snapshot"),
        json!({ "create_router": { "id": "a", "worker": 0, "note": [1, 2] } }),
        json!({ "close_router": { "id": "a" } }),
        json!({ "create_web_rtc_transport": { "id": "t", "router": "room", "consent_timeout_s": 30,
            "disconnected_timeout_s": 30, "initial_available_outgoing_bitrate_bps": 600_000,
            "note": [] } }),
        json!({ "connect_transport": { "id": "t", "role": "client", "fingerprints": [], "note": [] } }),
        json!({ "restart_ice": { "id": "t" } }),
        json!({ "set_transport_bitrates": { "id": "t", "max_incoming_bps": 1, "max_outgoing_bps": 2 } }),
        json!({ "produce": { "id": "p", "transport": "t", "kind": "video", "rtp_parameters": parameters,
            "rtp_mapping": { "codecs": [], "encodings": [] }, "paused": false,
            "key_frame_request_delay_ms": 0, "note": [] } }),
        json!({ "consume": { "id": "c", "transport": "t", "producer": "p", "rtp_parameters": parameters,
            "rtp_type": "simple", "paused": false, "ignore_dtx": false, "note": [] } }),
        json!({ "set_priority": { "id": "c", "priority": 7 } }),
        json!({ "dump": { "id": "room", "kind": "router" } }),
        json!({ "hottest": { "count": 10 } }),
        json!({ "transport_stats": named }),
        json!({ "close_transport": { "id": "t" } }),
    ]
}

/// Sends a frame that is damaged as a whole; true if the dataplane has had enough of us.
async fn send_damaged(us: &mut Attachment, mutator: &mut Mutator, body: &Value) -> bool {
    let mut bytes = Vec::new();
    frame::write_frame(&mut bytes, FrameKind::Request, 1 << 40, body).expect("a frame");
    mutator.bytes(&mut bytes);
    // What is whole behind it may be read as a part of it.
    us.send_bytes(&bytes).await.is_err() || us.command(&Command::Workers).await.is_err()
}

#[tokio::test]
async fn the_dataplane_answers_commands_that_nobody_should_send() {
    let mut pair = Pair::builder().without_control().set("log.level", "warn").start().await;
    let (mut mutator, commands) = (Mutator::new(SEED), commands());
    let mut us = pair.attach("a test").await;
    let room = json!({ "create_router": { "id": "room", "worker": 0, "note": [] } });
    let id = us.send(FrameKind::Request, &room).await.expect("sent");
    us.answer(id).await.expect("a room");
    let mut refused = 0;
    for number in 0..COMMANDS {
        let mut body = commands[mutator.index(commands.len())].clone();
        if mutator.chance(50) {
            // The length may have become one of a frame that never ends: we go, and come again.
            if send_damaged_within(&mut us, &mut mutator, &body).await {
                us = pair.attach("a test").await;
            }
            continue;
        }
        mutator.value(&mut body);
        let id = us.send(FrameKind::Request, &body).await.expect("sent");
        match us.answer(id).await {
            Ok(_) => {}
            Err(AttachError::Refused(_)) => refused += 1,
            other => panic!("command {number}, {body}: {other:?}"),
        }
    }
    assert!(refused > COMMANDS / 3, "{refused}");
    assert!(matches!(us.command(&Command::Workers).await, Ok(Reply::Workers(_))));
    drop(us);
    pair.start_control().await;
    assert!(pair.dataplane_runs());
    a_call_works(&pair, "call").await;
    assert_eq!(pair.metric("hub_panics").await, 0.0);
}

/// The same, for a moment only.
async fn send_damaged_within(us: &mut Attachment, mutator: &mut Mutator, body: &Value) -> bool {
    let moment = std::time::Duration::from_millis(100);
    tokio::time::timeout(moment, send_damaged(us, mutator, body)).await.unwrap_or(true)
}

/// Who stands between the two and damages every sixth frame.
struct Between {
    task: JoinHandle<()>,
    socket: PathBuf,
    real: PathBuf,
    damaged: Arc<AtomicUsize>,
}

impl Between {
    /// From now on at the dataplane's address.
    fn begin(socket: &Path) -> Self {
        let real = socket.with_extension("real");
        std::fs::rename(socket, &real).expect("the socket moves");
        let listener = UnixListener::bind(socket).expect("its place is free");
        let damaged = Arc::<AtomicUsize>::default();
        let (to, count) = (real.clone(), Arc::clone(&damaged));
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            for seed in SEED.. {
                let Ok((control, _)) = listener.accept().await else { return };
                let Ok(dataplane) = UnixStream::connect(&to).await else { return };
                let (count, (from_control, to_control)) =
                    (Arc::clone(&count), control.into_split());
                let (from_dataplane, to_dataplane) = dataplane.into_split();
                let (one, other) = (Mutator::new(seed), Mutator::new(seed << 32));
                connections.spawn(async move {
                    // When one direction ends, so does the other.
                    tokio::select! {
                        () = pass(from_control, to_dataplane, one, &count) => {}
                        () = pass(from_dataplane, to_control, other, &count) => {}
                    }
                });
            }
        });
        Self { task, socket: socket.to_owned(), real, damaged }
    }

    /// Goes away; the dataplane is at its address again.
    async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
        std::fs::rename(&self.real, &self.socket).expect("the socket moves back");
    }
}

/// Frames of one direction.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut mutator: Mutator,
    damaged: &AtomicUsize,
) {
    let mut bytes = Vec::new();
    loop {
        let mut length = [0; frame::LENGTH_BYTES];
        if from.read_exact(&mut length).await.is_err() {
            return;
        }
        bytes.resize(u32::from_be_bytes(length) as usize, 0);
        if from.read_exact(&mut bytes).await.is_err() {
            return;
        }
        if mutator.chance(6) {
            mutator.bytes(&mut bytes);
            damaged.fetch_add(1, Ordering::Relaxed);
        }
        // In most cases the length is that of what comes.
        let length = bytes.len() as u32 + u32::from(mutator.chance(200));
        if to.write_all(&length.to_be_bytes()).await.is_err() || to.write_all(&bytes).await.is_err()
        {
            return;
        }
    }
}

#[tokio::test]
async fn both_ends_survive_what_is_damaged_between_them() {
    let mut pair = Pair::builder()
        .set("log.level", "warn")
        .set("control.dataplane_timeout_ms", 200)
        .start()
        .await;
    let between = Between::begin(&pair.socket());
    // The control plane is attached to the real one still: another one begins at his.
    pair.kill_control();
    pair.start_control_unready();
    let damaged = Arc::clone(&between.damaged);
    let asking = async {
        let mut number = 0;
        while damaged.load(Ordering::Relaxed) < DAMAGED {
            number += 1;
            let room = format!("room-{}", number % 7);
            for (method, path, body) in [
                ("POST", "/v1/routers".to_owned(), json!({ "id": room })),
                (
                    "POST",
                    "/v1/transports".to_owned(),
                    json!({ "routerId": room, "type": "webrtc" }),
                ),
                ("GET", "/v1/top".to_owned(), Value::Null),
                ("DELETE", format!("/v1/routers/{room}"), Value::Null),
            ] {
                let body = (!body.is_null()).then_some(body);
                // Whatever it is answered, and before the door is open nothing.
                let _ = pair.control.request(method, &path, body).await;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(3 * ironcast_process_tests::LIMIT, asking)
        .await
        .expect("enough is damaged");
    between.end().await;
    // The very same processes do their work again.
    eventually("a room is made", || async {
        let body = json!({ "id": "again" });
        let made = pair.control.request("POST", "/v1/routers", Some(body)).await;
        matches!(made, Ok((200 | 201, _)))
    })
    .await;
    assert!(pair.control_runs() && pair.dataplane_runs());
    // With time for answers, as calls on a busy machine need it.
    pair.set("control.dataplane_timeout_ms", 5_000);
    let ended = pair.end_control().await;
    assert!(ended.success(), "{ended:?}");
    pair.start_control().await;
    a_call_works(&pair, "call").await;
}
