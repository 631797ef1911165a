//! Who is where, as others read it.

use std::sync::Arc;
use std::time::Duration;

use ironcast_signaling::media::MediaEvent;
use ironcast_signaling::store::redis::Redis;
use ironcast_signaling::store::{Shared, Stores};
use serde_json::json;

use crate::fake_media::FakeMedia;
use crate::redis::RedisServer;
use crate::stage::{Stage, quick, until};

async fn stage(shared: Arc<dyn Shared>) -> Stage {
    let mut settings = quick();
    settings.reconnect_window = Duration::from_secs(60);
    Stage::start_with(settings, FakeMedia::new(), Stores { shared, ..Stores::in_memory() }).await
}

/// Waits until these are in room `r`.
async fn there(shared: &dyn Shared, wanted: &[&str]) {
    let waiting = async {
        loop {
            let present = shared.present("r".parse().unwrap()).await.unwrap_or_default();
            let mut names: Vec<_> = present.into_iter().map(|who| who.name).collect();
            names.sort();
            if names == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("they are there");
}

/// Neither the router's end nor who does not come back leaves anybody written down.
#[tokio::test]
async fn a_lost_router_leaves_no_ghosts() {
    let shared = Stores::in_memory().shared;
    let stage = stage(Arc::clone(&shared)).await;
    let (mut ada, _) = stage.join("ada").await;
    let (_bob, _) = stage.join("bob").await;
    there(&*shared, &["ada", "bob"]).await;
    let router_ids: Vec<_> = stage.media.inside().routers.keys().cloned().collect();
    stage.media.inside().routers.clear();
    stage.media.report(MediaEvent::RoutersDied { router_ids, reason: "worker died".to_owned() });
    assert_eq!(ada.event("error").await["rejoin"], true);
    there(&*shared, &[]).await;
    let again = json!({ "roomId": "r", "participantId": "ada", "name": "ada" });
    assert_eq!(ada.must("joinRoom", again).await["participants"], json!([]));
    there(&*shared, &["ada"]).await;
    let record = shared.room("r".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(record.value.mode, "sfu");
}

async fn comes_and_goes(shared: Arc<dyn Shared>) {
    let stage = stage(Arc::clone(&shared)).await;
    let (mut ada, _) = stage.join("ada").await;
    let (bob, joined) = stage.join("bob").await;
    there(&*shared, &["ada", "bob"]).await;
    let node = shared.node_of("ada".parse().unwrap()).await.unwrap();
    assert_eq!(node.as_deref(), Some("test"));
    let record = shared.room("r".parse().unwrap()).await.unwrap().unwrap();
    assert_eq!(record.value.mode, "sfu");
    // Lost, back, and gone.
    bob.cut();
    let mut bob = stage.connect().await;
    let returning = json!({ "roomId": "r", "resumeToken": joined["resumeToken"], "name": "Bob" });
    assert_eq!(bob.must("joinRoom", returning).await["resumed"], true);
    there(&*shared, &["Bob", "ada"]).await;
    ada.must("leaveRoom", json!({})).await;
    there(&*shared, &["Bob"]).await;
    bob.must("leaveRoom", json!({})).await;
    there(&*shared, &[]).await;
    let gone = async {
        while shared.room("r".parse().unwrap()).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.expect("its record is gone");
}

#[tokio::test]
async fn in_memory() {
    comes_and_goes(Stores::in_memory().shared).await;
}

#[tokio::test]
async fn in_redis() {
    let server = RedisServer::start().await;
    comes_and_goes(Arc::new(server.connect().await)).await;
}

#[tokio::test]
async fn redis_that_is_away_is_missed_by_nobody() {
    let mut server = RedisServer::start().await;
    let redis: Arc<Redis> = Arc::new(server.connect().await);
    let stage = stage(Arc::clone(&redis) as _).await;
    let (mut ada, _) = stage.join("ada").await;
    there(&*redis, &["ada"]).await;
    server.stop();
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createProducerTransport", json!({})).await;
    ada.must("chat_message", json!({ "content": "still here" })).await;
    until("it is counted", || stage.metric("presence_lost_total") > 0).await;
    // It comes back empty: the next heartbeats say who is there, each once.
    server.start_again().await;
    let again = async {
        loop {
            ada.must("heartbeat", json!({})).await;
            bob.must("heartbeat", json!({})).await;
            let present = redis.present("r".parse().unwrap()).await.unwrap_or_default();
            if present.len() == 2 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("they are there again");
    assert_eq!(server.ask(&["HGET", "room:r:nodes", "test"]), ["2"]);
}
