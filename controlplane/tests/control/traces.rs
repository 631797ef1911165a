//! Traces of calls, at a collector that listens on a real socket.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use crate::{
    http::{self, Way},
    stage::{Stage, eventually},
};

/// Spans that came.
type Spans = Arc<Mutex<Vec<Value>>>;

/// Takes `POST /v1/traces` of OTLP in JSON. Gives its URL.
async fn collector() -> (String, Spans) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let spans = Spans::default();
    let shared = Arc::clone(&spans);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, Arc::clone(&shared)));
        }
    });
    (url, spans)
}

async fn serve(mut stream: TcpStream, spans: Spans) -> Option<()> {
    let mut text = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = text.windows(4).position(|part| part == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        };
        let head = String::from_utf8(text[..end].to_vec()).unwrap();
        assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n"), "{head}");
        assert!(head.contains("content-type: application/json\r\n"), "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        let length: usize = length.parse().unwrap();
        while text.len() < end + length {
            if stream.read_buf(&mut text).await.ok()? == 0 {
                return None;
            }
        }
        let body: Value = serde_json::from_slice(&text[end..end + length]).unwrap();
        text.drain(..end + length);
        for of_resource in body["resourceSpans"].as_array().unwrap() {
            let resource = &of_resource["resource"]["attributes"];
            assert!(resource.to_string().contains("ironcast-controlplane"), "{resource}");
            for of_scope in of_resource["scopeSpans"].as_array().unwrap() {
                spans.lock().unwrap().extend(of_scope["spans"].as_array().unwrap().clone());
            }
        }
        stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 0\r\n\r\n").await.ok()?;
    }
}

fn attribute<'a>(span: &'a Value, key: &str) -> &'a Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|one| one["key"] == key);
    &found.unwrap_or_else(|| panic!("no {key} in {span}"))["value"]
}

#[tokio::test]
async fn each_call_is_a_span_of_the_trace_that_its_caller_names() {
    let (url, spans) = collector().await;
    let mut stage = Stage::with(|config| config.traces = Some(url)).await;
    let (trace, caller) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let calls = json!({ "calls": [
        { "method": "POST", "path": "/v1/routers", "body": { "id": "room" } },
        { "method": "GET", "path": "/v1/routers/nobody" },
    ] });
    let mut request = http::request("POST", "/v1/batch", calls.to_string());
    let parent = format!("00-{trace}-{caller}-01");
    request.headers_mut().insert("traceparent", parent.parse().unwrap());
    let address = stage.server().address;
    let answer = http::send(Way::Http2, address, &stage.trust(), request).await;
    assert_eq!(answer.status, 200);
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    // What waits is sent at the end.
    stage.server.take().unwrap().stop().await;
    let named = |name: &str| {
        let spans = spans.lock().unwrap();
        let found = spans.iter().find(|span| span["name"] == name).cloned();
        found.unwrap_or_else(|| panic!("no {name} in {spans:?}"))
    };
    let batch = named("POST /v1/batch");
    assert_eq!((&batch["traceId"], &batch["parentSpanId"]), (&json!(trace), &json!(caller)));
    assert_eq!(attribute(&batch, "http.response.status_code")["intValue"], json!("200"));
    let made = named("POST /v1/routers");
    assert_eq!((&made["traceId"], &made["parentSpanId"]), (&json!(trace), &batch["spanId"]));
    assert_eq!(attribute(&made, "http.response.status_code")["intValue"], json!("201"));
    let missed = named("GET /v1/routers/{}");
    assert_eq!(missed["parentSpanId"], batch["spanId"]);
    assert_eq!(attribute(&missed, "error.type")["stringValue"], json!("not_found"));
    assert_eq!(attribute(&missed, "ironcast.id")["stringValue"], json!("nobody"));
    // Who names no trace has one of his own.
    let closed = named("DELETE /v1/routers/{}");
    assert_ne!(closed["traceId"], json!(trace));
}

#[tokio::test]
async fn a_collector_that_is_away_holds_up_nobody() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let mut stage = Stage::with(|config| config.traces = Some(url)).await;
    for number in 0..3_000 {
        stage.ok("POST", "/v1/routers", json!({ "id": format!("room-{number}") })).await;
    }
    let stopping = std::time::Instant::now();
    stage.server.take().unwrap().stop().await;
    assert!(stopping.elapsed() < std::time::Duration::from_secs(10));
    eventually("it is over", || async { stage.server.is_none() }).await;
}
