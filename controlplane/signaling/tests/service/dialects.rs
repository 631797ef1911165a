//! Every event under every name, in both styles of answer.

use ironcast_signaling::access::{Role, check_action};
use ironcast_signaling::broadcast;
use ironcast_signaling::events::{Action, Direction, Row, Signal, TABLE};
use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::stage::{Stage, capabilities, dtls_parameters, quick, rtp_parameters, video};

/// One participant who sends and receives, so that every event has something to act on.
struct Cast {
    ada: Client,
    producer: String,
    theirs: String,
    consumer: String,
    send_transport: String,
}

/// With a program in FFmpeg's place that does nothing, for ever.
async fn broadcasting() -> Stage {
    let folder = std::env::temp_dir().join("ironcast-dialects");
    let broadcast = broadcast::Settings {
        at_once_max: 2,
        folder,
        ffmpeg: "yes".into(),
        ..broadcast::Settings::default()
    };
    Stage::with(Settings { broadcast, ..quick() }, FakeMedia::new()).await
}

async fn cast(stage: &Stage) -> Cast {
    let (mut ada, _) = stage.join("ada").await;
    let (bob, _, theirs) = stage.join_sending("bob").await;
    // Bob's media outlives his socket for the reconnect window only: keep him.
    tokio::spawn(async move {
        let mut bob = bob;
        bob.closed().await;
    });
    let sending = ada.must("createProducerTransport", json!({})).await;
    ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let produced = ada.must("produce", video()).await;
    let consumed = ada.must("consume", json!({ "producerId": theirs })).await;
    // Where there are none this is refused, and nothing of it is asked here.
    ada.ask("startBroadcast", json!({ "kind": "recording" })).await;
    Cast {
        ada,
        producer: text(&produced["id"]),
        theirs,
        consumer: text(&consumed["id"]),
        send_transport: text(&sending["id"]),
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a text: {value}")).to_owned()
}

fn payload(action: Action, cast: &Cast) -> Value {
    match action {
        Action::CreateRoom => json!({ "roomId": "other" }),
        Action::JoinRoom => json!({ "roomId": "r", "name": "Ada" }),
        Action::LeaveRoom
        | Action::RouterCapabilities
        | Action::ListProducers
        | Action::Heartbeat
        | Action::CreateTransport(Some(_)) => json!({}),
        Action::CreateTransport(None) => json!({ "direction": "send" }),
        Action::ConnectTransport(Some(_)) => json!({ "dtlsParameters": dtls_parameters() }),
        Action::ConnectTransport(None) => {
            json!({ "transportId": cast.send_transport, "dtlsParameters": dtls_parameters() })
        }
        Action::RestartIce => json!({ "transportId": cast.send_transport }),
        Action::Produce => json!({ "kind": "video", "rtpParameters": rtp_parameters() }),
        Action::PauseProducer | Action::ResumeProducer => json!({ "producerId": cast.producer }),
        Action::StopProducing => json!({ "producerIds": [cast.producer] }),
        Action::Consume => {
            json!({ "producerId": cast.theirs, "rtpCapabilities": capabilities() })
        }
        Action::PauseConsumer | Action::ResumeConsumer | Action::RequestKeyFrame => {
            json!({ "consumerId": cast.consumer })
        }
        Action::ModeSwitched => json!({ "mode": "sfu" }),
        Action::Relay(Signal::Candidate) => json!({ "candidate": { "candidate": "" } }),
        Action::Relay(signal) => {
            json!({ signal.key(): { "type": signal.key(), "sdp": "v=0" } })
        }
        Action::ChatMessage => json!({ "content": "hello" }),
        Action::MuteParticipant | Action::RemoveParticipant | Action::EndRoom => {
            unreachable!("a moderator's")
        }
        Action::ListMessages => json!({ "limit": 10 }),
        Action::StartBroadcast => json!({ "kind": "hls", "layout": "grid" }),
        Action::StopBroadcast => json!({ "kind": "recording" }),
        Action::ListRecordings => json!({}),
        Action::SetPreferredLayers => {
            json!({ "consumerId": cast.consumer, "spatialLayer": 1, "temporalLayer": 2 })
        }
    }
}

/// What needs no token (`access` has the rest).
fn everybodys() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().filter(|row| check_action(Role::Participant, row.action).is_ok())
}

/// Fields that the answer must have.
fn fields(action: Action) -> &'static [&'static str] {
    match action {
        Action::CreateRoom => &["roomId"],
        Action::JoinRoom => {
            &["roomId", "participantId", "resumeToken", "mode", "participants", "iceServers"]
        }
        Action::RouterCapabilities => &["rtpCapabilities"],
        Action::CreateTransport(_) => &["id", "iceParameters", "iceCandidates", "dtlsParameters"],
        Action::ConnectTransport(_) => &["connected"],
        Action::RestartIce => &["iceParameters"],
        Action::Produce => &["id", "producerId"],
        Action::StopProducing => &["stopped"],
        Action::ListProducers => &["producers"],
        Action::Consume => &[
            "id",
            "producerId",
            "participantId",
            "kind",
            "rtpParameters",
            "type",
            "producerPaused",
            "score",
        ],
        Action::Heartbeat => &["time"],
        Action::ChatMessage => &["id", "timestamp"],
        Action::ListMessages => &["messages"],
        Action::StartBroadcast => &["broadcastId", "kind", "state", "url"],
        Action::StopBroadcast => &["stopped", "broadcastId"],
        Action::ListRecordings => &["recordings"],
        _ => &[],
    }
}

fn check(name: &str, action: Action, answer: &Value) {
    assert!(answer.get("error").is_none(), "{name}: {answer}");
    for field in fields(action) {
        assert!(answer.get(*field).is_some(), "{name} has no {field}: {answer}");
    }
}

#[tokio::test]
async fn every_name_is_acknowledged() {
    for row in everybodys() {
        for name in row.names {
            let stage = broadcasting().await;
            let mut cast = cast(&stage).await;
            let payload = payload(row.action, &cast);
            let answer = cast.ada.ask(name, payload).await;
            check(name, row.action, &answer);
        }
    }
}

#[tokio::test]
async fn every_name_has_its_reply_event() {
    for row in everybodys() {
        for name in row.names {
            let stage = broadcasting().await;
            let mut cast = cast(&stage).await;
            let payload = payload(row.action, &cast);
            cast.ada.emit(name, payload).await;
            match row.reply {
                Some(reply) => check(name, row.action, &cast.ada.event(reply).await),
                // The answers keep their order: when the next one comes, this one worked.
                None => {
                    let seen = cast.ada.names_seen().await;
                    assert!(!seen.iter().any(|seen| seen == "error"), "{name}: {seen:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn errors_come_in_both_styles() {
    let stage = Stage::new().await;
    let mut client = stage.connect().await;
    assert_eq!(
        client.refused("joinRoom", json!({ "roomId": "no blanks" })).await,
        "invalid_request"
    );
    assert_eq!(client.refused("produce", video()).await, "not_in_room");
    client.emit("join_room", json!("r")).await;
    let error = client.event("error").await;
    assert_eq!(error["code"], "invalid_request");
    assert_eq!(error["event"], "join_room");
    assert!(error["message"].is_string());
}

#[tokio::test]
async fn wrong_payloads_are_named() {
    let stage = Stage::new().await;
    let mut cast = cast(&stage).await;
    let ada = &mut cast.ada;
    let wrong = [
        ("joinRoom", json!({ "roomId": "" })),
        ("joinRoom", json!({ "roomId": "x".repeat(65) })),
        ("joinRoom", json!({ "roomId": "r", "name": "n".repeat(65) })),
        ("create-transport", json!({})),
        ("create-transport", json!({ "direction": "up" })),
        ("connect-transport", json!({ "dtlsParameters": dtls_parameters() })),
        ("connectProducerTransport", json!({ "dtlsParameters": {} })),
        ("connectProducerTransport", json!({ "dtlsParameters": { "fingerprints": "x" } })),
        ("produce", json!({ "kind": "smell", "rtpParameters": rtp_parameters() })),
        ("produce", json!({ "kind": "video" })),
        ("produce", json!({ "kind": "video", "rtpParameters": 7 })),
        (
            "produce",
            json!({
                "kind": "video",
                "rtpParameters": rtp_parameters(),
                "appData": { "big": "x".repeat(9000) },
            }),
        ),
        ("consume", json!({})),
        ("setPreferredLayers", json!({ "consumerId": cast.consumer, "spatialLayer": 8 })),
        ("setPreferredLayers", json!({ "consumerId": cast.consumer, "spatialLayer": -1 })),
        ("pauseProducer", json!({ "producerId": ["x"] })),
        ("stopProducing", json!({ "producerIds": "all" })),
    ];
    for (event, payload) in wrong {
        assert_eq!(
            ada.refused(event, payload.clone()).await,
            "invalid_request",
            "{event} {payload}"
        );
    }
}

#[tokio::test]
async fn no_payload_is_an_empty_one() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    assert!(ada.ask_bare("listProducers").await["producers"].is_array());
    assert!(ada.ask_bare("createProducerTransport").await["id"].is_string());
    assert!(ada.ask("heartbeat", Value::Null).await["time"].is_u64());
}

#[tokio::test]
async fn an_unknown_event_is_refused() {
    let stage = Stage::new().await;
    let mut client = stage.connect().await;
    assert_eq!(client.refused("fly", json!({})).await, "unsupported");
    client.emit("fly", json!({})).await;
    assert_eq!(client.event("error").await["code"], "unsupported");
}

#[test]
fn both_directions_have_their_names() {
    let named = |direction| {
        TABLE.iter().filter(|row| row.action == Action::CreateTransport(Some(direction))).count()
    };
    assert_eq!((named(Direction::Send), named(Direction::Receive)), (1, 1));
}
