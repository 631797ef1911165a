//! Which worker a room goes to, with two of them.

use ironcast_process_tests::{LIMIT, Pair};
use serde_json::{Value, json};

async fn place(pair: &Pair, body: Value) -> String {
    let made = pair.call("POST", "/v1/routers", body).await;
    made["workerId"].as_str().expect("a worker").to_owned()
}

#[tokio::test]
async fn rooms_are_spread_and_rooms_of_one_key_stay_together() {
    let pair = Pair::builder().set("dataplane.workers", 2).start().await;
    let mut counts = [0; 2];
    for number in 0..20 {
        let worker = place(&pair, json!({ "id": format!("room-{number}") })).await;
        counts[usize::from(worker == "1")] += 1;
    }
    assert_eq!(counts, [10, 10]);
    let mut used = std::collections::BTreeSet::new();
    for key in 0..16 {
        let one = |n: u32| {
            let (id, key) = (format!("{key}-{n}"), format!("tenant-{key}"));
            json!({ "id": id, "placement": "hash", "placementKey": key })
        };
        let first = place(&pair, one(0)).await;
        for n in 1..4 {
            assert_eq!(place(&pair, one(n)).await, first);
        }
        used.insert(first);
    }
    assert_eq!(used.len(), 2, "16 keys on one worker of two");
}

#[tokio::test]
async fn a_full_host_says_so_once_and_when_it_is_over() {
    let builder = Pair::builder().set("dataplane.workers", 2);
    let pair = builder.set("limits.routers_per_worker_max", 2).start().await;
    let mut events = pair.control.events(None).await.expect("events");
    let mut told = async |wanted: &str| {
        let mut workers = std::collections::BTreeSet::new();
        while workers.len() < 2 {
            let event = tokio::time::timeout(LIMIT, events.next()).await.expect("told in time");
            let event = event.expect("the stream goes on");
            if event.event.starts_with("capacity.") {
                assert_eq!(event.event, wanted);
                for worker in event.data["workerIds"].as_array().expect("workers") {
                    assert!(workers.insert(worker.to_string()), "told twice: {}", event.data);
                }
            }
        }
    };
    for room in ["a", "b", "c", "d"] {
        pair.create_room(room).await;
    }
    for body in [json!({ "id": "e" }), json!({ "id": "f", "workerId": "1" })] {
        let text = body.to_string();
        let json = [("content-type", "application/json")];
        let answer = pair.control.send("POST", "/v1/routers", &json, text.as_bytes()).await;
        let answer = answer.expect("an answer");
        assert_eq!((answer.status, answer.json()["code"].as_str()), (503, Some("no_capacity")));
        let again = answer.header("retry-after").and_then(|text| text.parse::<u32>().ok());
        assert!(again.is_some_and(|seconds| seconds >= 1), "{:?}", answer.headers);
    }
    told("capacity.exhausted").await;
    for room in ["a", "b", "c", "d"] {
        pair.call("DELETE", &format!("/v1/routers/{room}"), Value::Null).await;
    }
    told("capacity.available").await;
    pair.create_room("e").await;
}
