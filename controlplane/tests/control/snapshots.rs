//! `GET /snapshot`: whole, in pages, and read by the client.

use serde_json::{Value, json};

use crate::stage::{Stage, id};

async fn page(stage: &Stage, query: &str) -> (Vec<String>, Option<String>) {
    let page = stage.ok("GET", &format!("/v1/snapshot?{query}"), Value::Null).await;
    let ids = page["routers"].as_array().unwrap().iter();
    let ids = ids.map(|router| router["id"].as_str().unwrap().to_owned());
    (ids.collect(), page["nextAfter"].as_str().map(str::to_owned))
}

#[tokio::test]
async fn a_snapshot_is_read_in_pages_or_at_once() {
    let stage = Stage::new().await;
    for room in ["a", "b", "c"] {
        stage.call_of_two(room).await;
    }
    stage.ok("POST", "/v1/routers", json!({ "id": "empty" })).await;
    let all = ["a", "b", "c", "empty"].map(str::to_owned);
    assert_eq!(page(&stage, "").await, (all.to_vec(), None));
    assert_eq!(page(&stage, "limit=2").await, (all[..2].to_vec(), Some("b".into())));
    assert_eq!(page(&stage, "limit=2&after=b").await, (all[2..].to_vec(), None));
    assert_eq!(page(&stage, "limit=4").await, (all.to_vec(), None));
    // A router behind which the next page begins may be gone by then.
    assert_eq!(page(&stage, "limit=1&after=bb").await, (all[2..3].to_vec(), Some("c".into())));
    assert_eq!(page(&stage, "routerId=b").await, (all[1..2].to_vec(), None));
    for (query, status) in [
        ("limit=0", 400),
        ("limit=1001", 400),
        ("after=%20", 400),
        ("x=1", 400),
        ("routerId=z", 404),
    ] {
        let refused = stage.refused("GET", &format!("/v1/snapshot?{query}"), Value::Null).await;
        assert_eq!(refused.0, status, "{query}");
    }
    // Everything is in it, as it is told by itself.
    let whole = stage.client.snapshot(None).await.unwrap();
    assert_eq!(whole.routers.len(), 4);
    let b = &whole.routers[1];
    assert_eq!(b.transports.len(), 4);
    let received = b.transports.iter().find(|one| one.transport.id == "b-bob-recv").unwrap();
    for consumer in &received.consumers {
        assert_eq!(*consumer, stage.client.consumer(&consumer.id).await.unwrap());
    }
    assert_eq!(received.consumers.len(), 2);
    let sent = b.transports.iter().find(|one| one.transport.id == "b-alice-send").unwrap();
    assert_eq!(sent.producers[0], stage.client.producer(&sent.producers[0].id).await.unwrap());
    assert_eq!(sent.transport, stage.client.transport(&sent.transport.id).await.unwrap());
    assert_eq!(
        stage.client.snapshot(Some(&id("b"))).await.unwrap().routers,
        std::slice::from_ref(b)
    );
}

#[tokio::test]
async fn the_client_reads_more_routers_than_a_page_has() {
    let stage = Stage::new().await;
    for first in (0..250).step_by(50) {
        let calls: Vec<_> = (first..first + 50)
            .map(|number| {
                let body = json!({ "id": format!("room-{number:03}") });
                json!({ "method": "POST", "path": "/v1/routers", "body": body })
            })
            .collect();
        stage.ok("POST", "/v1/batch", json!({ "calls": calls })).await;
    }
    let whole = stage.client.snapshot(None).await.unwrap();
    let ids: Vec<_> = whole.routers.iter().map(|one| one.router.id.to_string()).collect();
    let expected: Vec<_> = (0..250).map(|number| format!("room-{number:03}")).collect();
    assert_eq!(ids, expected);
    assert!(whole.next_after.is_none());
}
