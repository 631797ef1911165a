//! The media server reports, goes away, forgets, and comes back.

use ironcast_signaling::media::{Media, MediaEvent};
use serde_json::json;

use crate::fake_media::FakeMedia;
use crate::stage::{Stage, capabilities, quick};

#[tokio::test]
async fn reports_about_consumers_reach_their_owner() {
    let stage = Stage::new().await;
    let (_ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumed = bob.must("consume", json!({ "producerId": producer })).await;
    assert_eq!(consumed["participantId"], "ada");
    let consumer_id = consumed["id"].as_str().unwrap().to_owned();

    let layers = json!({ "spatialLayer": 2, "temporalLayer": 1 });
    stage.media.report(MediaEvent::LayersChanged {
        consumer_id: consumer_id.clone(),
        layers: layers.clone(),
        reason: Some("bandwidth".to_owned()),
    });
    let told = bob.event("consumer-layers-changed").await;
    assert_eq!(told["layers"], layers);
    assert_eq!(told["consumerId"], json!(consumer_id));

    let score = json!({ "score": 9, "producerScore": 10, "producerScores": [10] });
    stage.media.report(MediaEvent::Score { consumer_id: consumer_id.clone(), score });
    assert_eq!(bob.event("consumer-score").await["score"]["score"], 9);

    let reason = "producer_closed".to_owned();
    stage.media.report(MediaEvent::ConsumerClosed { consumer_id: consumer_id.clone(), reason });
    let told = bob.event("consumer-closed").await;
    assert_eq!(told["producerId"], json!(producer));
    assert_eq!(
        bob.refused("pauseConsumer", json!({ "consumerId": consumer_id })).await,
        "not_found"
    );
}

#[tokio::test]
async fn a_producer_closed_elsewhere_is_gone_for_all() {
    let stage = Stage::new().await;
    let (mut ada, _, producer_id) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    stage.media.report(MediaEvent::ProducerClosed { producer_id: producer_id.clone() });
    assert_eq!(bob.event("producer-closed").await["producerId"], json!(producer_id));
    let pause = json!({ "producerId": producer_id });
    assert_eq!(ada.refused("pauseProducer", pause).await, "not_found");
}

#[tokio::test]
async fn a_lost_transport_makes_its_owner_join_again() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let transport_id = stage.media.inside().transports.keys().next().unwrap().clone();
    let reason = "consent_lost".to_owned();
    stage.media.report(MediaEvent::TransportClosed { transport_id, reason });
    let error = ada.event("error").await;
    assert_eq!(error["code"], "media_unavailable");
    assert_eq!(error["rejoin"], true);
    assert_eq!(bob.event("producer-closed").await["producerId"], json!(producer));
}

#[tokio::test]
async fn a_dead_router_makes_everybody_join_again() {
    let stage = Stage::new().await;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let router_ids: Vec<_> = stage.media.inside().routers.keys().cloned().collect();
    stage.media.inside().routers.clear();
    stage.media.report(MediaEvent::RoutersDied { router_ids, reason: "worker died".to_owned() });
    for person in [&mut ada, &mut bob] {
        let error = person.event("error").await;
        assert_eq!((&error["code"], &error["rejoin"]), (&json!("media_unavailable"), &json!(true)));
    }
    let joined = ada.must("joinRoom", json!({ "roomId": "r", "participantId": "ada" })).await;
    assert_eq!(joined["participants"], json!([]));
    ada.must("createProducerTransport", json!({})).await;
}

#[tokio::test]
async fn while_it_is_away_requests_say_so_and_the_call_stays() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    stage.media.go_away();
    let pause = json!({ "producerId": producer });
    assert_eq!(ada.refused("pauseProducer", pause.clone()).await, "media_unavailable");
    let mut late = stage.connect().await;
    let wanted = json!({ "roomId": "another" });
    assert_eq!(late.refused("joinRoom", wanted.clone()).await, "media_unavailable");

    stage.media.come_back();
    late.must("joinRoom", wanted).await;
    ada.must("pauseProducer", pause).await;
    stage
        .media
        .until("both sides were compared", |inside| {
            inside.calls.iter().filter(|call| *call == "snapshot").count() >= 2
        })
        .await;
    assert!(stage.media.inside().producers.contains_key(&producer));
    let (mut bob, joined) = stage.join("bob").await;
    assert_eq!(joined["participants"][0]["participantId"], "ada");
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    bob.must("consume", json!({ "producerId": producer })).await;
}

#[tokio::test]
async fn who_left_while_it_was_away_is_freed_later() {
    let stage = Stage::new().await;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    let (_bob, _, bobs) = stage.join_sending("bob").await;
    stage.media.go_away();
    ada.must("leaveRoom", json!({})).await;
    assert_eq!(stage.media.inside().producers.len(), 2);
    stage.media.come_back();
    stage.media.until("only bob's is left", |i| i.producers.keys().eq([&bobs])).await;
}

#[tokio::test]
async fn what_it_forgot_is_gone_after_it_came_back() {
    let stage = Stage::new().await;
    let (_ada, _, kept) = stage.join_sending("ada").await;
    let (mut bob, _, lost) = stage.join_sending("bob").await;
    let (mut eve, _) = stage.join("eve").await;
    stage.media.go_away();
    {
        let mut inside = stage.media.inside();
        let transport = inside.producers[&lost].transport.clone();
        inside.producers.remove(&lost);
        inside.transports.remove(&transport);
    }
    stage.media.come_back();
    assert_eq!(bob.event("error").await["rejoin"], true);
    assert_eq!(eve.event("producer-closed").await["producerId"], json!(lost));
    let listed = eve.must("listProducers", json!({})).await;
    assert_eq!(listed["producers"].as_array().map(Vec::len), Some(1));
    assert_eq!(listed["producers"][0]["producerId"], json!(kept));
}

#[tokio::test]
async fn a_restarted_service_frees_what_it_left_and_nothing_else() {
    let media = FakeMedia::new();
    for (id, instance) in [("ours.1", "test"), ("theirs.1", "somebody else")] {
        let note = serde_json::from_value(json!({ "signaling": instance })).unwrap();
        media.create_router(id.parse().unwrap(), note).await.unwrap();
    }
    let stage = Stage::with(quick(), media).await;
    stage
        .media
        .until("ours is freed", |inside| inside.routers.keys().eq([&"theirs.1".to_owned()]))
        .await;
}
