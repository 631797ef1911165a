//! Handshakes that fail: whose it was and why is said in an event, in the log, and in a counter.

use ironcast_load::{
    Peer, PeerOptions,
    call::dtls_parameters,
    handshake::{DtlsRole, Fingerprint},
    ortc,
};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::json;

/// Lets a peer with that role connect, after another certificate than its own was signalled.
async fn connect_as_somebody_else(pair: &Pair, id: &str, role: DtlsRole) {
    let body = json!({ "id": id, "routerId": "room", "type": "webrtc" });
    let made = pair.call("POST", "/v1/transports", body).await;
    let other = Fingerprint { algorithm: "sha-256".to_owned(), value: vec!["AB"; 32].join(":") };
    let body = json!({ "dtlsParameters": dtls_parameters(role, &other) });
    pair.call("POST", &format!("/v1/transports/{id}/connect"), body).await;
    let bind = std::net::Ipv4Addr::LOCALHOST.into();
    let mut peer = Peer::new(PeerOptions { bind, role, ..PeerOptions::default() }).expect("a peer");
    let mut remote = ortc::remote(&made).expect("a transport");
    remote.candidates.retain(|candidate| candidate.is_ipv4());
    assert!(peer.connect(remote).await.is_err(), "it is refused");
}

#[tokio::test]
async fn whose_handshake_failed_and_why_is_said_everywhere() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let mut events = pair.control.events(None).await.expect("events");
    for (id, role) in [("a", DtlsRole::Client), ("b", DtlsRole::Server)] {
        connect_as_somebody_else(&pair, id, role).await;
        let failed = async {
            while let Some(event) = events.next().await {
                let is_ours = event.event == "transport.dtlsstatechange"
                    && event.data["transportId"] == id
                    && event.data["dtlsState"] == "failed";
                if is_ours {
                    return event.data["reason"].clone();
                }
            }
            panic!("the events ended");
        };
        let reason = tokio::time::timeout(LIMIT, failed).await.expect("told in time");
        assert_eq!(reason, "fingerprint");
    }
    eventually("they are counted", || async {
        pair.metric("\"dtls_failed_fingerprint\"").await == 2.0
            && pair.metric("\"dtls_failed\"").await == 2.0
    })
    .await;
    let log = pair.log("dataplane");
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("handshake failed")).collect();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("transport=\"a\"") && lines[1].contains("transport=\"b\""));
    assert!(lines.iter().all(|line| line.contains("WARN") && line.contains("fingerprint")));
}
