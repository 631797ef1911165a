//! A participant can only touch what is his own, and only see what is in his room.

use serde_json::json;

use crate::stage::{Stage, capabilities, dtls_parameters, rtp_parameters};

#[tokio::test]
async fn what_belongs_to_another_cannot_be_touched() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let transport = bob
        .must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() }))
        .await["id"]
        .clone();
    let consumer = bob.must("consume", json!({ "producerId": producer })).await["id"].clone();
    let (mut eve, _) = stage.join("eve").await;
    let foreign = [
        ("pauseProducer", json!({ "producerId": producer })),
        ("resumeProducer", json!({ "producerId": producer })),
        ("stopProducing", json!({ "producerIds": [producer] })),
        ("pauseConsumer", json!({ "consumerId": consumer })),
        ("resumeConsumer", json!({ "consumerId": consumer })),
        ("requestKeyFrame", json!({ "consumerId": consumer })),
        ("setPreferredLayers", json!({ "consumerId": consumer, "spatialLayer": 0 })),
        ("restartIce", json!({ "transportId": transport })),
        (
            "connect-transport",
            json!({ "transportId": transport, "dtlsParameters": dtls_parameters() }),
        ),
        (
            "produce",
            json!({
                "transportId": transport, "kind": "video", "rtpParameters": rtp_parameters(),
            }),
        ),
        ("consume", json!({ "transportId": transport, "producerId": producer })),
    ];
    for (event, payload) in foreign {
        assert_eq!(eve.refused(event, payload).await, "not_yours", "{event}");
    }
    assert_eq!(ada.names_seen().await.iter().filter(|name| *name == "producer-closed").count(), 0);
    assert!(stage.media.inside().producers.contains_key(&producer));
}

#[tokio::test]
async fn other_rooms_are_out_of_sight() {
    let stage = Stage::new().await;
    let (_ada, _, producer) = stage.join_sending("ada").await;
    let mut eve = stage.connect().await;
    eve.must("joinRoom", json!({ "roomId": "elsewhere" })).await;
    eve.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    assert_eq!(eve.must("listProducers", json!({})).await["producers"], json!([]));
    assert_eq!(eve.refused("consume", json!({ "producerId": producer })).await, "not_found");
    assert_eq!(eve.refused("pauseProducer", json!({ "producerId": producer })).await, "not_found");
}

#[tokio::test]
async fn without_a_room_there_is_nothing() {
    let stage = Stage::new().await;
    let mut eve = stage.connect().await;
    let needs_room = [
        ("leaveRoom", json!({})),
        ("getRouterRtpCapabilities", json!({})),
        ("createProducerTransport", json!({})),
        ("connectProducerTransport", json!({ "dtlsParameters": dtls_parameters() })),
        ("restartIce", json!({ "transportId": "t" })),
        ("listProducers", json!({})),
        ("consume", json!({ "producerId": "p" })),
        ("resumeConsumer", json!({ "consumerId": "c" })),
        ("stopProducing", json!({})),
        ("heartbeat", json!({})),
    ];
    for (event, payload) in needs_room {
        assert_eq!(eve.refused(event, payload).await, "not_in_room", "{event}");
    }
    assert!(stage.media.inside().routers.is_empty());
}

#[tokio::test]
async fn the_order_of_steps_is_kept() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    assert_eq!(ada.refused("produce", crate::stage::video()).await, "wrong_state");
    let early = json!({ "dtlsParameters": dtls_parameters() });
    assert_eq!(ada.refused("connectConsumerTransport", early).await, "wrong_state");
    let (_bob, _, producer) = stage.join_sending("bob").await;
    assert_eq!(ada.refused("consume", json!({ "producerId": producer })).await, "wrong_state");
}

#[tokio::test]
async fn transports_carry_participant_and_capabilities() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let inside = stage.media.inside();
    let transport = inside.transports.values().next().unwrap();
    assert!(transport.session.starts_with("ada."), "{transport:?}");
    assert!(transport.capabilities_given);
}
