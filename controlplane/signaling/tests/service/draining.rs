//! The media server is taken out of service: people are told, and nobody is moved.

use ironcast_signaling::media::{Draining, MediaEvent};
use serde_json::json;

use crate::stage::Stage;

#[tokio::test]
async fn everybody_is_told_when_the_media_server_drains() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    stage.media.report(MediaEvent::Draining(Draining::Until(Some(77))));
    let told = ada.event("server-draining").await;
    assert_eq!(told, json!({ "what": "media", "deadline": 77 }));
    // Also who comes later.
    let (mut bob, _) = stage.join("bob").await;
    assert_eq!(bob.event("server-draining").await["deadline"], 77);
    stage.media.report(MediaEvent::Draining(Draining::No));
    ada.event("server-undrained").await;
    bob.event("server-undrained").await;
    assert_eq!(stage.service.count(), (1, 2), "the call goes on");
}
