//! Connections of those who show nothing: thousands that say nothing, and answers that nobody reads. Others are served as ever, and what was held is given back.

use std::net::{Ipv4Addr, SocketAddr};

use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpSocket, TcpStream},
};

use crate::doors::{Door, call};

/// Beside what this process and the servers have open.
const FILES_SPARE: u64 = 4_000;
const IDLE_MAX: u64 = 10_000;
/// Of one address: below `limits.connections_per_address_max`.
const OF_ONE: u64 = 900;

fn files_max() -> u64 {
    let limits = std::fs::read_to_string("/proc/self/limits").expect("it is there");
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("it is there");
    line.split_whitespace().nth(3).and_then(|soft| soft.parse().ok()).unwrap_or(1_024)
}

async fn connect(number: u64, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 1, 1 + (number / OF_ONE) as u8), 0).into())?;
    socket.connect(to).await
}

#[tokio::test]
async fn thousands_that_say_nothing_keep_nobody_out() {
    let pair = Pair::start().await;
    let count = files_max().saturating_sub(FILES_SPARE).min(IDLE_MAX);
    let mut idle = Vec::new();
    for number in 0..count.max(200) {
        idle.push(connect(number, pair.api).await.expect("the door takes it"));
    }
    // Over all doors, also the one that is crowded.
    for (index, door) in [Door::Http1, Door::Http2, Door::Http3].into_iter().enumerate() {
        let body = format!("{{\"id\":\"room-{index}\"}}");
        let (status, ..) = call(door, &pair, "POST", "/v1/routers", body.as_bytes()).await;
        assert_eq!(status, 201, "{door:?} beside {count}");
    }
    let tls = "ironcast_control_connections{door=\"tls\"}";
    // Half of the places are for those who have shown something.
    eventually("strangers have half", || async { pair.metric(tls).await <= 5_001.0 }).await;
    eventually("and are sent away", || async { pair.metric(tls).await <= 10.0 }).await;
    drop(idle);
}

#[tokio::test]
async fn who_reads_no_answer_holds_up_nobody() {
    let pair = Pair::start().await;
    for number in 0..200 {
        let text = "x".repeat(7_000);
        let body = json!({ "id": format!("room-{number}"), "appData": { "text": text } });
        pair.call("POST", "/v1/routers", body).await;
    }
    let plain = pair.plain;
    let mut deaf = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(plain).await.expect("a connection");
        for _ in 0..20 {
            let request = "GET /v1/snapshot HTTP/1.1\r\nhost: localhost\r\n\r\n";
            stream.write_all(request.as_bytes()).await.expect("sent");
        }
        deaf.push(stream);
    }
    for number in 0..50 {
        let asked = pair.call("POST", "/v1/routers", json!({ "id": format!("more-{number}") }));
        tokio::time::timeout(LIMIT, asked).await.expect("served");
    }
    let snapshot = pair.call("GET", "/v1/snapshot", Value::Null).await;
    assert_eq!(snapshot["routers"].as_array().map(Vec::len), Some(250));
    let memory = |pid: u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it is there");
        line.split_whitespace().nth(1).and_then(|kb| kb.parse::<u64>().ok()).expect("a number")
    };
    // A thousand answers of more than a megabyte wait to be read; none of them is held whole.
    let kilobytes = memory(pair.control_pid());
    assert!(kilobytes < 400 << 10, "{kilobytes} KiB");
    drop(deaf);
}
