//! `GET /transports/{id}/capture`: a file while the call runs, and who may have what.

use ironcast_protocol::Command;
use serde_json::{Value, json};

use crate::{
    http::Way,
    stage::{Stage, call, eventually, id},
};

/// The first block of a file, and the magic of its byte order.
const BEGINNING: [u8; 4] = [0x0a, 0x0d, 0x0d, 0x0a];
/// Its last one here: interface statistics.
const STATISTICS: u32 = 5;

fn ends_with_statistics(bytes: &[u8]) -> bool {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    // A block has its length at its end too.
    let length = word(bytes.len() - 4) as usize;
    word(bytes.len() - length) == STATISTICS
}

#[tokio::test]
async fn a_capture_is_a_file_over_every_version_of_http() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let path = "/v1/transports/room-bob-recv/capture?seconds=1";
    for way in [Way::Plain, Way::Http1, Way::Http2] {
        let answer = stage.send(way, "GET", path, "").await;
        assert_eq!(answer.status, 200, "{way:?}");
        assert_eq!(answer.header("content-type"), "application/x-pcapng");
        assert_eq!(answer.body[..4], BEGINNING, "{way:?}");
        assert!(ends_with_statistics(&answer.body));
    }
    let mut capture = stage.client.capture(&id("room-bob-recv"), true, 1).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = capture.next().await.unwrap() {
        bytes.extend_from_slice(&piece);
    }
    assert!(bytes.len() > 500 && ends_with_statistics(&bytes));
    // The dataplane was told that it is over.
    let commands = stage.fake.commands();
    let takes: Vec<_> = commands
        .iter()
        .filter_map(|command| match command {
            Command::TakeCapture(take) => Some((take.payload, take.is_last)),
            _ => None,
        })
        .collect();
    assert_eq!(takes.last(), Some(&(true, true)));
    assert_eq!(takes.iter().filter(|(_, is_last)| *is_last).count(), 4);
}

#[tokio::test]
async fn a_capture_ends_with_its_transport_or_its_reader() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let mut capture = stage.client.capture(&id("room-bob-recv"), false, 600).await.unwrap();
    assert!(capture.next().await.unwrap().is_some());
    stage.ok("DELETE", "/v1/transports/room-bob-recv", Value::Null).await;
    while capture.next().await.unwrap().is_some() {}
    // One whose reader has gone does not run any more.
    let mut capture = stage.client.capture(&id("room-alice-send"), false, 600).await.unwrap();
    assert!(capture.next().await.unwrap().is_some());
    drop(capture);
    eventually("nothing is captured", || async {
        let metrics = stage.send(Way::Plain, "GET", "/v1/metrics", "").await;
        String::from_utf8_lossy(&metrics.body).contains("\nironcast_control_captures 0\n")
    })
    .await;
}

#[tokio::test]
async fn what_packets_carry_is_for_admins() {
    let tokens = "alice control alice-secret\nbob control bob-secret\nops admin ops-secret\n";
    let stage = Stage::with_tokens(tokens, "alice-secret").await;
    stage.call_of_two("room").await;
    let (bob, ops) = (stage.client_of("bob-secret"), stage.client_of("ops-secret"));
    let path = |more: &str| format!("/v1/transports/room-bob-recv/capture?seconds=1{more}");
    let get = async |client, path: String| call(client, "GET", &path, Value::Null).await.0;
    assert_eq!(get(&stage.client, path("&payload=1")).await, 403);
    assert_eq!(get(&stage.client, path("")).await, 200);
    assert_eq!(get(&ops, path("&payload=1")).await, 200);
    assert_eq!(get(&bob, path("")).await, 404);
    // Who looked into whose packets is noted.
    let (_, audit) = call(&ops, "GET", "/v1/audit?limit=1000", Value::Null).await;
    let items = audit["items"].as_array().unwrap().iter();
    let captured: Vec<_> = items
        .filter(|one| one["action"].as_str().unwrap().starts_with("capture"))
        .map(|one| {
            ["principal", "action", "kind", "id", "routerId"].map(|field| one[field].clone())
        })
        .collect();
    let noted = |who: &str, action: &str| {
        [who, action, "transport", "room-bob-recv", "room"].map(Value::from)
    };
    assert_eq!(captured, [noted("token:alice", "capture"), noted("token:ops", "capture_payload")],);
    for query in ["seconds=0", "seconds=3601", "seconds=x", "payload=2", "x=1"] {
        let path = format!("/v1/transports/room-bob-recv/capture?{query}");
        assert_eq!(get(&stage.client, path).await, 400, "{query}");
    }
    let batch = json!({ "calls": [{ "method": "GET", "path": path("") }] });
    let answers = stage.ok("POST", "/v1/batch", batch).await;
    assert_eq!(answers["answers"][0]["status"], 422);
}
