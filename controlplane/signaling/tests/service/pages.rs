//! HTTP: health, the goodbye of a page, and a server that stops.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::stage::Stage;

/// One request; gives status and body.
async fn http(port: u16, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
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
async fn a_stopping_service_says_so_and_leaves_nothing() {
    let stage = Stage::new().await;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    stage.service.stop().await;
    ada.event("server-draining").await;
    let inside = stage.media.inside();
    assert!(inside.routers.is_empty() && inside.transports.is_empty());
}
