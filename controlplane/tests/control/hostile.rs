//! Bytes of callers that mean no good: refused with a document, and the next caller sees nothing.

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{http::Way, stage::Stage};

#[tokio::test]
async fn malformed_bodies_are_refused_with_a_document() {
    let stage = Stage::new().await;
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies = [
        "{",
        "[]",
        "null",
        "7",
        "\"x\"",
        "{\"id\":",
        "{\"id\":\"a\"}}",
        "{\"id\":7}",
        "\u{feff}{}",
        "{\"id\":\"a\",\"id\":\"b\"}",
        "{\"appData\":[]}",
        "{\"appData\":\"x\"}",
        deep.as_str(),
        "{\"id\":\"\\ud800\"}",
        "{\"mediaCodecs\":{}}",
    ];
    for body in bodies {
        for way in [Way::Plain, Way::Http2] {
            let answer = stage.send(way, "POST", "/v1/routers", body).await;
            let problem = answer.json();
            let start = &body[..body.len().min(40)];
            assert_eq!(
                (answer.status, problem["code"].as_str()),
                (400, Some("invalid_request")),
                "{start}"
            );
            assert!(answer.header("content-type").starts_with("application/problem+json"));
        }
    }
    let not_text = b"{\"id\":\"\xff\xfe\"}".to_vec();
    let answer =
        stage.client.request("POST".parse().unwrap(), "/v1/routers", Some(not_text.into()));
    assert_eq!(answer.await.unwrap().status, 400);
    assert_eq!(stage.state().await["routers"], json!([]));
}

#[tokio::test]
async fn odd_paths_and_methods_are_refused_with_a_document() {
    let stage = Stage::new().await;
    for (method, path, status) in [
        ("GET", "/", 404),
        ("GET", "/v1", 404),
        ("GET", "/v1/", 404),
        ("GET", "/v1//routers", 404),
        ("GET", "/v1/routers/", 404),
        ("GET", "/v2/routers", 404),
        ("GET", "/v1/routers/%", 400),
        ("GET", "/v1/routers/%2e%2e", 404),
        ("GET", "/v1/routers/..%2f..%2fetc", 400),
        ("GET", "/v1/routers/a/b/c", 404),
        ("OPTIONS", "/v1/routers", 405),
        ("BREW", "/v1/routers", 405),
        ("PATCH", "/v1/routers/a", 405),
    ] {
        let answer = stage.send(Way::Plain, method, path, "").await;
        assert_eq!(answer.status, status, "{method} {path}");
        assert_eq!(answer.json()["status"], json!(status), "{method} {path}");
    }
    let long = format!("/v1/routers/{}", "x".repeat(5_000));
    assert_eq!(stage.send(Way::Http2, "GET", &long, "").await.status, 400);
}

#[tokio::test]
async fn connections_full_of_rubbish_harm_nobody() {
    let stage = Stage::new().await;
    let (tls, plain) = (stage.server().address, stage.server().plain.unwrap());
    let pieces: [&[u8]; 4] = [
        b"\x16\x03\x01\xff\xff rubbish",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /v1/routers HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\0\0\0\0\0\0\0\0",
    ];
    for address in [tls, plain] {
        for piece in pieces {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(piece).await.unwrap();
            stream.shutdown().await.unwrap();
            // Ends, one way or another.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
        }
    }
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for piece in pieces {
        socket.send_to(piece, tls).await.unwrap();
        socket.send_to(&[0xc0; 1200], tls).await.unwrap();
    }
    stage.ok("POST", "/v1/routers", json!({ "id": "fine" })).await;
}

#[tokio::test]
async fn callers_that_go_away_leave_nothing_half_done() {
    let stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    let address = stage.server().plain.unwrap();
    for number in 0..20 {
        let body =
            json!({ "id": format!("t{number}"), "routerId": "room", "type": "webrtc" }).to_string();
        let head = format!(
            "POST /v1/transports HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        // Some go before they have said all.
        let end = if number % 4 == 0 { head.len() - 5 } else { head.len() };
        stream.write_all(&head.as_bytes()[..end]).await.unwrap();
        drop(stream);
    }
    crate::stage::eventually("both sides agree", || async {
        let ours = stage.ok("GET", "/v1/transports", Value::Null).await;
        let ours = ours["items"].as_array().unwrap().len();
        let theirs = stage.fake.resources().len() - 1;
        ours == theirs && ours > 0
    })
    .await;
}

#[tokio::test]
async fn one_client_cannot_call_without_end() {
    let stage = Stage::with(|config| config.limits.requests_per_s = 50).await;
    let mut limited = 0;
    for _ in 0..300 {
        let answer =
            stage.client.request("GET".parse().unwrap(), "/v1/health", None).await.unwrap();
        limited += usize::from(answer.status == 429);
    }
    assert!(limited > 0);
    // Probes have a door of their own.
    let ops = stage.server().ops.unwrap();
    let request = crate::http::request("GET", "/health", "");
    assert_eq!(crate::http::send(Way::Plain, ops, &[], request).await.status, 200);
}
