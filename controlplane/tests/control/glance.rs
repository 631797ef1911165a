//! The host at a glance: what moves the most, the page that draws it, the figures in between.

use ironcast_protocol::stats::{
    Distribution, Hottest, RouterRates, TransportRates, TransportStats,
};
use serde_json::{Value, json};

use crate::{
    fake::transport_stats,
    http::{self, Way},
    stage::{Stage, eventually},
};

fn rates(transport: &str, router: &str, send_bitrate: u64) -> TransportRates {
    let stats = TransportStats {
        bytes_received: 0,
        recv_bitrate: 10,
        bytes_sent: 0,
        send_bitrate,
        available_outgoing_bitrate: Some(900_000),
        rtp_packet_loss_sent: Some(0.25),
        ..transport_stats()
    };
    TransportRates { id: transport.into(), router: router.into(), stats }
}

#[tokio::test]
async fn what_moves_the_most_comes_first() {
    let stage = Stage::new().await;
    stage.call_of_two("quiet").await;
    stage.call_of_two("loud").await;
    let router =
        |id: &str, send_bitrate| RouterRates { id: id.into(), recv_bitrate: 5, send_bitrate };
    stage.fake.turn(|knobs| {
        // In the order of the workers, `loud` on two of them; one is gone already.
        knobs.hottest = Hottest {
            routers: vec![
                router("quiet", 1_000),
                router("loud~0", 4_500),
                router("gone", 9_000),
                router("loud", 500),
            ],
            transports: vec![
                rates("quiet-bob-recv", "quiet", 1_000),
                rates("loud-bob-recv", "loud", 5_000),
            ],
        };
        knobs.workers[0].counters.insert("discarded_srtp_replayed".into(), 3);
        knobs.workers[0].counters.insert("discarded_oversized".into(), 0);
        knobs.workers[0].counters.insert("eagain_drops".into(), 4);
    });
    eventually("the worker's figures", || async {
        let top = stage.ok("GET", "/v1/top", Value::Null).await;
        top["workers"][0]["drops"] == json!({ "srtp_replayed": 3, "send_buffer_full": 4 })
    })
    .await;
    let top = stage.ok("GET", "/v1/top?count=2", Value::Null).await;
    let ids: Vec<_> = top["routers"].as_array().unwrap().iter().map(|one| &one["id"]).collect();
    assert_eq!(ids, ["loud", "quiet"]);
    assert_eq!(top["routers"][0]["counts"]["participants"], 2);
    let loud = &top["routers"][0];
    assert_eq!((&loud["recvBitrate"], &loud["sendBitrate"]), (&json!(10), &json!(5_000)));
    let first = &top["transports"][0];
    assert_eq!(
        (&first["transportId"], &first["participantId"]),
        (&json!("loud-bob-recv"), &json!("bob"))
    );
    assert_eq!((&first["sendBitrate"], &first["rtpPacketLossSent"]), (&json!(5_000), &json!(0.25)));
    assert_eq!((&top["host"]["routers"], &top["consumers"]), (&json!(2), &json!(4)));
    let one = stage.client.top(1).await.unwrap();
    assert_eq!((one.routers.len(), one.transports.len()), (1, 1));
    let refused = stage.refused("GET", "/v1/top?count=0", Value::Null).await;
    assert_eq!((refused.0, refused.2.as_str()), (400, "?count"));
}

#[tokio::test]
async fn the_pages_are_for_everybody_and_what_they_show_is_not() {
    let stage = Stage::new().await;
    for (path, kind) in [
        ("/status", "text/html"),
        ("/status.css", "text/css"),
        ("/status.js", "text/javascript"),
        ("/docs", "text/html"),
        ("/docs.css", "text/css"),
        ("/docs.js", "text/javascript"),
    ] {
        for way in [Way::Plain, Way::Http1, Way::Http2] {
            let answer = stage.send(way, "GET", path, "").await;
            assert_eq!(answer.status, 200, "{path}");
            assert!(answer.header("content-type").starts_with(kind), "{path}");
            assert!(answer.header("content-security-policy").contains("default-src 'none'"));
            let text = String::from_utf8(answer.body.to_vec()).unwrap();
            assert!(!text.contains("https://"), "{path} has an address outside");
        }
    }
    let answer = stage.send(Way::Http1, "POST", "/status", "").await;
    assert_eq!(answer.status, 404);
    let ops = stage.server().ops.unwrap();
    let answer = http::send(Way::Plain, ops, &[], http::request("GET", "/status", "")).await;
    assert_eq!(answer.status, 404, "the ops door has figures and no page");

    let folder = crate::stage::folder();
    let mut config = crate::stage::config(&folder);
    let tokens = folder.join("tokens");
    std::fs::write(&tokens, "a-token-that-is-long-enough-for-all\n").unwrap();
    config.proofs.token_file = Some(tokens);
    let server = ironcast_controlplane::Server::start(config.clone()).await.expect("a server");
    let plain = server.plain.expect("a plain door");
    let get =
        |path: &'static str| http::send(Way::Plain, plain, &[], http::request("GET", path, ""));
    assert_eq!(get("/status").await.status, 200);
    assert_eq!(get("/v1/top").await.status, 401);
    assert_eq!(get("/docs").await.status, 200);
    assert_eq!(get("/openapi.json").await.status, 401);
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn figures_of_workers_are_histograms_and_gauges() {
    let stage = Stage::new().await;
    stage.fake.turn(|knobs| {
        let worker = &mut knobs.workers[1];
        let told = Distribution { bounds: vec![1_023, 2_047], counts: vec![2, 3, 1], sum: 9_000 };
        worker.distributions.insert("turn_ns".into(), told);
        worker.gauges.insert("sockets".into(), 12);
        worker.counters.insert("discarded_oversized".into(), 7);
    });
    stage.refused("GET", "/v1/routers/none", Value::Null).await;
    let ops = stage.server().ops.unwrap();
    let wanted = [
        "ironcast_worker_turn_seconds_bucket{worker=\"1\",le=\"1.023e-06\"} 2",
        "ironcast_worker_turn_seconds_bucket{worker=\"1\",le=\"2.047e-06\"} 5",
        "ironcast_worker_turn_seconds_bucket{worker=\"1\",le=\"+Inf\"} 6",
        "ironcast_worker_turn_seconds_count{worker=\"1\"} 6",
        "ironcast_worker_turn_seconds_sum{worker=\"1\"} 0.000009",
        "ironcast_worker_sockets{worker=\"1\"} 12",
        "ironcast_worker_dropped_datagrams_total{worker=\"1\",reason=\"oversized\"} 7",
        "ironcast_control_request_seconds_count{method=\"GET\",path=\"/routers/{}\",status=\"404\"}",
    ];
    let text = std::sync::Mutex::new(String::new());
    let all = async {
        loop {
            let answer =
                http::send(Way::Plain, ops, &[], http::request("GET", "/metrics", "")).await;
            *text.lock().unwrap() = String::from_utf8(answer.body.to_vec()).unwrap();
            let text = text.lock().unwrap().clone();
            if wanted.iter().all(|line| text.contains(line)) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let seen = tokio::time::timeout(crate::stage::LIMIT, all).await;
    let text = text.lock().unwrap().clone();
    let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(**line)).collect();
    assert!(seen.is_ok(), "{missing:?} of\n{text}");
}
