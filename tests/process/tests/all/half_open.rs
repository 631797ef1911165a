//! Clients of QUIC that vanish without a word: what was held for them is given back when their time is
//! over, and others do not notice.

use std::{sync::Arc, time::Duration};

use ironcast_load::VideoOptions;
use ironcast_process_tests::{Pair, eventually};

use crate::{common::OneToOne, doors::quic_config};

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
