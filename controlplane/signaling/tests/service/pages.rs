//! HTTP: health, metrics, the goodbye of a page, and what a connection may do.

use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::fake_media::FakeMedia;
use crate::stage::{Stage, quick};

/// One request; gives status and body.
pub(crate) async fn http(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    http_with(port, method, path, &[], body).await
}

/// The same with headers.
pub(crate) async fn http_with(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (u16, String) {
    let (head, body) = exchange(port, method, path, headers, body).await;
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body)
}

/// The same; gives the answer's head and body.
async fn exchange(
    port: u16,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> (String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let headers: String =
        headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.to_owned(), body.to_owned())
}

/// Status, a header of the answer and what its body says.
async fn refusal(stage: &Stage, path: &str, header: &str) -> (String, Option<String>, Value) {
    let (head, body) = exchange(stage.port, "POST", path, &[], "{}").await;
    let mut headers = head.lines().filter_map(|line| line.split_once(": "));
    let found = headers.find(|(name, _)| name.eq_ignore_ascii_case(header));
    let status = head.split(' ').nth(1).unwrap().to_owned();
    (status, found.map(|(_, value)| value.to_owned()), serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn who_is_refused_for_a_moment_is_told_when_to_come_again() {
    let settings = Settings {
        rooms_max: 1,
        joins_per_address_per_s: 1,
        unjoined_room_grace: std::time::Duration::from_secs(3_600),
        ..quick()
    };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    assert_eq!(http(stage.port, "POST", "/api/rooms/one/create", "{}").await.0, 201);
    let full = refusal(&stage, "/api/rooms/two/create", "Retry-After").await;
    assert_eq!((&*full.0, full.1.as_deref()), ("503", Some("1")));
    assert_eq!((&full.2["code"], &full.2["retryAfter"]), (&json!("no_capacity"), &json!(1)));
    let join = "/api/calls/one/participants";
    let often = loop {
        let answer = refusal(&stage, join, "Retry-After").await;
        if answer.2["code"] == "rate_limited" {
            break answer;
        }
    };
    assert_eq!((&*often.0, often.1.as_deref()), ("429", Some("1")));
    assert_eq!(often.2["retryAfter"], 1);
    let wrong = refusal(&stage, "/api/rooms/two/stats", "Retry-After").await;
    assert_eq!((&*wrong.0, wrong.1, &wrong.2["retryAfter"]), ("405", None, &json!(null)));
}

#[tokio::test]
async fn who_shows_no_token_is_told_what_is_wanted() {
    let settings = crate::access::Issuer::new(jsonwebtoken::Algorithm::EdDSA).settings();
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let refused = refusal(&stage, "/api/calls/r/participants", "WWW-Authenticate").await;
    assert_eq!((&*refused.0, refused.1.as_deref()), ("401", Some("Bearer")));
}

#[tokio::test]
async fn health_and_readiness() {
    let stage = Stage::new().await;
    let (_ada, _) = stage.join("ada").await;
    let (status, body) = http(stage.port, "GET", "/health", "").await;
    let report: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &report["status"]), (200, &json!("ok")));
    assert_eq!((&report["rooms"], &report["participants"]), (&json!(1), &json!(1)));
    let ready = async { while http(stage.port, "GET", "/ready", "").await.0 != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), ready).await.unwrap();

    stage.media.go_away();
    let unready = async { while http(stage.port, "GET", "/ready", "").await.0 != 503 {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), unready).await.unwrap();
    let (head, _) = exchange(stage.port, "GET", "/ready", &[], "").await;
    assert!(head.to_ascii_lowercase().contains("\r\nretry-after: 1"), "{head}");
    assert_eq!(http(stage.port, "GET", "/health", "").await.0, 200);
}

#[tokio::test]
async fn a_page_says_goodbye() {
    let stage = Stage::new().await;
    let (_ada, joined, _) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let goodbye = |token: &Value| json!({ "roomId": "r", "resumeToken": token }).to_string();
    let path = "/api/goodbye";
    assert_eq!(http(stage.port, "POST", path, "no json").await.0, 400);
    assert_eq!(http(stage.port, "POST", path, "{}").await.0, 400);
    assert_eq!(http(stage.port, "POST", path, &"x".repeat(2000)).await.0, 413);
    assert_eq!(http(stage.port, "POST", path, &goodbye(&json!("guessed"))).await.0, 404);
    assert_eq!(http(stage.port, "POST", path, &goodbye(&joined["resumeToken"])).await.0, 204);
    let left = bob.event("call:participant-left").await;
    assert_eq!(left, json!({ "participantId": "ada", "reason": "left" }));
}

/// With the page built before, it is in the binary; without, `/` says how to build it.
#[tokio::test]
async fn the_page_is_embedded() {
    let stage = Stage::new().await;
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/web/dist/index.html");
    let (status, body) = http(stage.port, "GET", "/", "").await;
    match std::fs::read_to_string(built) {
        Ok(page) => assert_eq!((status, body), (200, page)),
        Err(_) => assert!(status == 404 && body.contains("npm run build"), "{status} {body}"),
    }
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let stage = Stage::new().await;
    for path in ["/nothing.js", "/../Cargo.toml", "/assets/"] {
        assert_eq!(http(stage.port, "GET", path, "").await.0, 404, "{path}");
    }
}

#[tokio::test]
async fn what_programs_ask_for_is_answered_for_programs() {
    let stage = Stage::new().await;
    for path in ["/api/nothing", "/internal/rooms/r"] {
        let (status, body) = http(stage.port, "GET", path, "").await;
        let problem: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{path}");
    }
    for (method, path) in [("GET", "/api/goodbye"), ("POST", "/health"), ("DELETE", "/")] {
        assert_eq!(http(stage.port, method, path, "").await.0, 405, "{method} {path}");
    }
    for path in ["/health", "/metrics", "/"] {
        let (status, body) = http(stage.port, "HEAD", path, "").await;
        assert!(status != 405 && body.is_empty(), "{path}: {status} {body}");
    }
}

#[tokio::test]
async fn metrics_show_rooms_and_requests() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    ada.refused("produce", crate::stage::video()).await;
    ada.refused("no-such-event", json!({})).await;
    let (status, text) = http(stage.port, "GET", "/metrics", "").await;
    assert_eq!(status, 200);
    for line in [
        "ironcast_signaling_rooms 1",
        "ironcast_signaling_participants 1",
        "ironcast_signaling_sockets 1",
        "ironcast_signaling_requests_total{event=\"joinRoom\",code=\"ok\"} 1",
        "ironcast_signaling_requests_total{event=\"produce\",code=\"wrong_state\"} 1",
        "ironcast_signaling_requests_total{event=\"unknown\",code=\"unsupported\"} 1",
    ] {
        assert!(text.lines().any(|each| each == line), "{line} is not in\n{text}");
    }
}

/// Reads until the other side closes.
async fn closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    let reading = stream.read_to_end(&mut rest);
    let read = tokio::time::timeout(std::time::Duration::from_secs(10), reading).await;
    assert!(read.is_ok(), "it is still open");
}

#[tokio::test]
async fn a_connection_that_brings_no_request_is_closed() {
    let header_time_max = std::time::Duration::from_millis(100);
    let settings = Settings { header_time_max, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let mut ada = stage.connect().await;
    for beginning in ["", "GET / HTTP/1.1\r\nHost: loc"] {
        let mut slow = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
        slow.write_all(beginning.as_bytes()).await.unwrap();
        closed(&mut slow).await;
    }
    // A socket said nothing for longer than that, twice, and stays.
    ada.must("joinRoom", json!({ "roomId": "r" })).await;
}

#[tokio::test]
async fn connections_of_an_address_have_a_limit() {
    let settings = Settings { connections_per_address_max: 2, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let ada = stage.connect().await;
    let _bob = stage.connect().await;
    let mut third = TcpStream::connect(("127.0.0.1", stage.port)).await.unwrap();
    closed(&mut third).await;
    // A place is free again as soon as somebody has gone.
    ada.cut();
    let again = async { while !is_served(stage.port).await {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.expect("a free place");
}

async fn is_served(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else { return false };
    let request = "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut response = Vec::new();
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_to_end(&mut response).await.is_ok_and(|bytes| bytes > 0)
}

const OPENING: &str = "/socket.io/?EIO=4&transport=polling";

/// They need no connection, and nobody knows yet whether they may come in.
#[tokio::test]
async fn sockets_that_do_not_come_in_have_a_limit_and_an_end() {
    let settings = Settings {
        sockets_per_address_per_s: 0,
        connections_per_address_max: 4,
        come_in_time_max: std::time::Duration::from_secs(1),
        ..quick()
    };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    for _ in 0..4 {
        assert_eq!(http(stage.port, "GET", OPENING, "").await.0, 200);
    }
    let (status, body) = http(stage.port, "GET", OPENING, "").await;
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &problem["code"]), (503, &json!("no_capacity")));
    assert_eq!(stage.metric("sockets_refused_total"), 1);
    let again = async { while http(stage.port, "GET", OPENING, "").await.0 != 200 {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), again).await.expect("they end");
}

#[tokio::test]
async fn an_address_opens_so_many_sockets_in_a_second() {
    let settings = Settings { sockets_per_address_per_s: 1, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let mut refused = 0;
    for _ in 0..30 {
        let (status, _) = http(stage.port, "GET", OPENING, "").await;
        assert!([200, 429].contains(&status), "{status}");
        refused += u32::from(status == 429);
    }
    assert!((15..=20).contains(&refused), "{refused}");
    // What is of a socket already is not one more.
    let of_one = format!("{OPENING}&sid=nobodys");
    assert_eq!(http(stage.port, "GET", &of_one, "").await.0, 400);
}
