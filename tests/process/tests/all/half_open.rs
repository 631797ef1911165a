//! Clients that vanish without a word, and handshakes that nobody finishes, thousands of them: what is
//! held for them is bounded and given back when their time is over, and others do not notice.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::Arc,
    time::Duration,
};

use ironcast_load::{
    VideoOptions,
    call::dtls_parameters,
    handshake::{DtlsRole, Fingerprint},
    ortc,
};
use ironcast_process_tests::{Pair, eventually};
use serde_json::{Value, json};

use crate::{
    common::{OneToOne, assert_clean, good_network, sees},
    doors::{Door, call, quic_config},
    hostile::check,
};

const CONNECTIONS: &str = "ironcast_control_connections{door=\"quic\"}";
/// The server ends a connection after the shorter of its own idle time and the client's.
const IDLE: Duration = Duration::from_secs(2);

/// Opens these paths on one connection, whose process then is no more: no packet of it is sent or
/// read again.
async fn open_and_vanish(pair: &Pair, requests: Vec<http::Request<()>>) {
    let mut config = quic_config(pair);
    let mut transport = quinn::TransportConfig::default();
    transport.max_idle_timeout(Some(IDLE.try_into().expect("a time")));
    config.transport_config(Arc::new(transport));
    let api = pair.api;
    let client = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let held = runtime.block_on(async move {
            let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a port");
            let connecting = endpoint.connect_with(config, api, "localhost").expect("an address");
            let connection = connecting.await.expect("QUIC");
            let (mut driver, mut sender) =
                h3::client::new(h3_quinn::Connection::new(connection.clone()))
                    .await
                    .expect("HTTP/3");
            tokio::spawn(async move {
                std::future::poll_fn(|context| driver.poll_close(context)).await
            });
            let mut streams = Vec::new();
            for request in requests {
                let mut stream = sender.send_request(request).await.expect("sent");
                stream.finish().await.expect("sent");
                let answer = stream.recv_response().await.expect("an answer");
                assert_eq!(answer.status(), 200);
                streams.push(stream);
            }
            (endpoint, connection, sender, streams)
        });
        // Nothing of it is closed: that would be a word. The runtime ends first, with the socket.
        drop(runtime);
        std::mem::forget(held);
    });
    client.await.expect("no panic");
}

#[tokio::test]
async fn of_a_client_that_vanished_nothing_is_kept() {
    let call = OneToOne::start(VideoOptions::default(), &Default::default()).await;
    let pair = &call.pair;
    let transport = call.bob.receive.id.clone();
    let url = |path: &str| format!("https://localhost:{}{path}", pair.api.port());
    let events = http::Request::get(url("/v1/events")).body(()).expect("a request");
    let capture = http::Request::get(url(&format!("/v1/transports/{transport}/capture")));
    let capture = capture.body(()).expect("a request");
    open_and_vanish(pair, vec![events, capture]).await;
    // It is not known to be gone at once.
    assert_eq!(pair.metric(CONNECTIONS).await, 1.0);
    eventually("its connection, stream and capture are gone", || async {
        pair.metric(CONNECTIONS).await == 0.0
            && pair.metric("ironcast_control_event_streams").await == 0.0
            && pair.metric("ironcast_control_captures").await == 0.0
    })
    .await;
    let stats = call.bob_sees("more", |stats| stats.decodable_frames >= 30).await;
    assert_eq!(stats.lost, 0);
}

/// Kilobytes that a process has in memory.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("it is there");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse().ok()).expect("a number")
}

/// The first words of a DTLS client: one record with a ClientHello of DTLS 1.2 that has all that the
/// server needs (P-256, ECDSA, AES-128-GCM for itself and for SRTP).
fn client_hello(random: u8) -> Vec<u8> {
    let extensions: [(u16, &[u8]); 5] = [
        (10, &[0, 2, 0, 0x17]),
        (11, &[1, 0]),
        (13, &[0, 2, 4, 3]),
        (14, &[0, 2, 0, 7, 0]),
        (23, &[]),
    ];
    let extensions: Vec<u8> = extensions
        .iter()
        .flat_map(|(kind, data)| {
            [&kind.to_be_bytes(), &(data.len() as u16).to_be_bytes(), *data].concat()
        })
        .collect();
    let mut body = vec![0xFE, 0xFD];
    body.extend([random; 32]);
    // No session, no cookie, one cipher suite, no compression.
    body.extend([0, 0, 0, 2, 0xC0, 0x2B, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let length = &(body.len() as u32).to_be_bytes()[1..];
    let message = [&[1][..], length, &[0; 5], length, &body].concat();
    let record = (message.len() as u16).to_be_bytes();
    [&[22, 0xFE, 0xFD][..], &[0; 8], &record, &message].concat()
}

const HALF_DONE: usize = 1_500;

/// Transports of a room by themselves, each of whose peers has shown what it was signalled, said
/// hello, and reads no answer.
async fn begin_handshakes(pair: &Pair) -> Vec<UdpSocket> {
    pair.create_room("crowd").await;
    let nobody = Fingerprint { algorithm: "sha-256".to_owned(), value: ["AB"; 32].join(":") };
    let dtls = dtls_parameters(DtlsRole::Client, &nobody);
    let mut sockets = Vec::new();
    for batch in 0..HALF_DONE / 100 {
        let ids: Vec<String> = (0..100).map(|one| format!("crowd-{batch}-{one}")).collect();
        let make = ids.iter().map(|id| {
            let body = json!({ "id": id, "routerId": "crowd", "type": "webrtc" });
            json!({ "method": "POST", "path": "/v1/transports", "body": body })
        });
        let connect = ids.iter().map(|id| {
            let path = format!("/v1/transports/{id}/connect");
            json!({ "method": "POST", "path": path, "body": { "dtlsParameters": dtls } })
        });
        let calls: Vec<Value> = make.chain(connect).collect();
        let answers = pair.call("POST", "/v1/batch", json!({ "calls": calls })).await;
        let answers = answers["answers"].as_array().expect("answers");
        assert!(answers.iter().all(|one| one["status"].as_u64().unwrap_or_default() < 300));
        for (number, made) in answers[..100].iter().enumerate() {
            let remote = ortc::remote(&made["body"]).expect("a transport");
            let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
            socket.connect(remote.candidates[0]).expect("loopback");
            socket.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket");
            let username = format!("{}:abcd", remote.ice.username_fragment);
            socket.send(&check(&username, &remote.ice.password)).expect("sent");
            socket.recv(&mut [0; 200]).expect("the answer to a check");
            socket.send(&client_hello(number as u8)).expect("sent");
            sockets.push(socket);
        }
    }
    sockets
}

#[tokio::test]
async fn handshakes_that_nobody_finishes_disturb_no_call_and_end_in_time() {
    let builder = Pair::builder().set("rtc.handshake_timeout_s", 8);
    let pair = builder.set("limits.creations_per_router_per_s", 100_000).start().await;
    let call = OneToOne::start_on(pair, VideoOptions::default(), &Default::default()).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    let (pair, pid) = (&call.pair, call.pair.dataplane_pid());
    let before = memory(pid);
    let sockets = begin_handshakes(pair).await;
    // The server has answered, and asks again from time to time.
    let answered = sockets.iter().filter(|socket| socket.recv(&mut [0; 2_000]).is_ok()).count();
    assert!(answered >= HALF_DONE * 9 / 10, "{answered} were answered");
    let grown = memory(pid).saturating_sub(before);
    // With the socket and the state of its transport.
    assert!(grown < HALF_DONE as u64 * 60, "{grown} KiB for {HALF_DONE}");
    let carol = pair.join_with("room", "carol", &good_network()).await;
    let seen = carol.consume(&call.video.id, &Default::default()).await.expect("her consumer");
    sees(&carol, &seen, "a picture beside them", |stats| stats.decodable_frames >= 15).await;
    eventually("all of them are given up and counted", || async {
        pair.metric("\"dtls_failed_timeout\"").await == HALF_DONE as f64
    })
    .await;
    assert_eq!(pair.metric("\"dtls_failed\"").await, HALF_DONE as f64);
    assert_clean(&call.bob_sees("more", |stats| stats.decodable_frames >= 60).await);
}

/// Passes what comes on to the server, and no answer back.
fn one_way(to: SocketAddr) -> SocketAddr {
    let from = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = from.local_addr().expect("its address");
    let onward = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    std::thread::spawn(move || {
        let mut buffer = [0; 2_048];
        while let Ok(len) = from.recv(&mut buffer) {
            // A full queue drops, as a network does.
            let _ = onward.send_to(&buffer[..len], to);
        }
    });
    address
}

#[tokio::test]
async fn connections_of_quic_that_are_never_made_are_bounded() {
    const COUNT: usize = 2_000;
    let pair = Pair::start().await;
    let before = memory(pair.control_pid());
    let relay = one_way(pair.api);
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port");
    let mut half_done = Vec::new();
    for _ in 0..COUNT {
        let config = quic_config(&pair);
        half_done.push(endpoint.connect_with(config, relay, "localhost").expect("an address"));
        tokio::task::yield_now().await;
    }
    eventually("some are waited for", || async { pair.metric(CONNECTIONS).await >= 100.0 }).await;
    for number in 0..20 {
        let body = format!("{{\"id\":\"room-{number}\"}}");
        let (status, ..) = call(Door::Http3, &pair, "POST", "/v1/routers", body.as_bytes()).await;
        assert_eq!(status, 201, "beside them");
        // From a number on, who has shown no address is asked to, and nothing is kept of him.
        let connections = pair.metric(CONNECTIONS).await;
        assert!(connections <= 300.0, "{connections}");
    }
    let grown = memory(pair.control_pid()).saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB");
    drop((half_done, endpoint));
    eventually("they are forgotten", || async { pair.metric(CONNECTIONS).await <= 10.0 }).await;
}
