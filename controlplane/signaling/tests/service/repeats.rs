//! What is asked for once more because its answer was lost, or late: it is there once.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use crate::stage::{Stage, video, video_at};

#[tokio::test]
async fn a_track_that_is_sent_again_is_the_same() {
    let stage = Stage::new().await;
    let (mut ada, joined, track) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    for _ in 0..2 {
        assert_eq!(ada.must("produce", video()).await["producerId"], track.as_str());
    }
    // Also by another socket, and when he sends as many as he may.
    ada.cut();
    let mut ada = stage.connect().await;
    let token = &joined["resumeToken"];
    ada.must("joinRoom", json!({ "roomId": "r", "resumeToken": token })).await;
    let mut others = Vec::new();
    for mid in ["1", "2"] {
        others.push(ada.must("produce", video_at(mid)).await["id"].clone());
    }
    assert_eq!(ada.must("produce", video()).await["id"], track.as_str());
    for other in &others {
        assert_eq!(bob.event("new-producer").await["producerId"], *other);
    }
    assert!(!bob.names_seen().await.contains(&"new-producer".to_owned()));
    assert_eq!(stage.media.inside().producers.len(), 3);
    // What has ended is not there any more.
    ada.must("stopProducing", json!({ "producerIds": [track] })).await;
    stage.media.until("it is freed", |inside| inside.producers.len() == 2).await;
    assert_ne!(ada.must("produce", video()).await["id"], track.as_str());
}

#[tokio::test]
async fn a_track_that_is_sent_again_while_it_is_made_is_the_same() {
    let stage = Stage::new().await;
    let (mut ada, joined) = stage.join("ada").await;
    ada.must("createProducerTransport", json!({})).await;
    let (mut bob, _) = stage.join("bob").await;
    let held = stage.media.gate.clone().write_owned().await;
    ada.emit("produce", video()).await;
    stage.media.until("it is asked for", |inside| inside.producers.len() == 1).await;
    let mut again = stage.connect().await;
    let token = &joined["resumeToken"];
    again.must("joinRoom", json!({ "roomId": "r", "resumeToken": token })).await;
    let opening = async {
        // Long enough to be asked for, if that does not wait.
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(held);
    };
    let (made, ()) = tokio::join!(again.must("produce", video()), opening);
    assert_eq!(bob.event("new-producer").await["producerId"], made["id"]);
    assert!(!bob.names_seen().await.contains(&"new-producer".to_owned()));
    let made = made["id"].as_str().unwrap();
    assert!(stage.media.inside().producers.keys().eq([made]));
}

/// What was made in vain has its place at the media server until it is freed.
#[tokio::test]
async fn a_track_that_could_not_be_made_is_sent_again_when_it_is_freed() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    ada.must("createProducerTransport", json!({})).await;
    let busy = |busy| stage.media.keeps_producers.store(busy, Ordering::SeqCst);
    busy(true);
    stage.media.lose_answers(true);
    assert_eq!(ada.refused("produce", video()).await, "media_unavailable");
    stage.media.lose_answers(false);
    let later = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        busy(false);
    };
    let (made, ()) = tokio::join!(ada.must("produce", video()), later);
    let made = made["id"].as_str().unwrap();
    assert!(stage.media.inside().producers.keys().eq([made]));
}
