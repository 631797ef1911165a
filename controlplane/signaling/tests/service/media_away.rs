//! The media server reports, goes away, forgets, and comes back.

use std::sync::Arc;
use std::time::Duration;

use ironcast_signaling::media::{Media, MediaEvent};
use ironcast_signaling::settings::Settings;
use serde_json::json;

use crate::fake_media::FakeMedia;
use crate::stage::{Stage, capabilities, quick, video_at};

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

/// All are told, once for each change, and who comes in between learns it by joining.
#[tokio::test]
async fn everybody_is_told_who_speaks() {
    let stage = Stage::new().await;
    let (mut ada, joined, producer) = stage.join_sending("ada").await;
    assert_eq!(joined["speaking"], json!({ "participantId": null, "participantIds": [] }));
    let (mut bob, _) = stage.join("bob").await;
    let router_id = stage.media.inside().routers.keys().next().unwrap().clone();
    let speak = |producer_ids: &[&str]| MediaEvent::Speakers {
        router_id: router_id.clone(),
        producers: producer_ids.iter().map(|&id| (id.to_owned(), -30)).collect(),
    };
    for _ in 0..3 {
        stage.media.report(speak(&[&producer, "unknown"]));
    }
    for person in [&mut ada, &mut bob] {
        let told = person.event("active-speaker").await;
        assert_eq!(told, json!({ "participantId": "ada", "participantIds": ["ada"] }));
    }
    let (_carol, joined) = stage.join("carol").await;
    assert_eq!(joined["speaking"]["participantId"], "ada");
    stage.media.report(speak(&[]));
    for person in [&mut ada, &mut bob] {
        let told = person.event("active-speaker").await;
        assert_eq!(told, json!({ "participantId": null, "participantIds": [] }));
    }
}

/// Whose track it is, and nobody else; and who was away meanwhile.
#[tokio::test]
async fn who_sends_is_told_what_nobody_watches() {
    let settings = Settings { reconnect_window: Duration::from_secs(60), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, joined, producer_id) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let report = |encodings: &[u32]| {
        let (producer_id, encodings) = (producer_id.clone(), encodings.to_vec());
        stage.media.report(MediaEvent::LayersUnwatched { producer_id, encodings });
    };
    report(&[2]);
    report(&[2]);
    report(&[1, 2]);
    for encodings in [json!([2]), json!([1, 2])] {
        let told = ada.event("layers-unwatched").await;
        assert_eq!(told, json!({ "producerId": producer_id, "encodings": encodings }));
    }
    assert!(!bob.names_seen().await.contains(&"layers-unwatched".to_owned()));
    ada.cut();
    report(&[]);
    stage.media.report(MediaEvent::Speakers {
        router_id: stage.media.inside().routers.keys().next().unwrap().clone(),
        producers: vec![(producer_id.clone(), -30)],
    });
    bob.event("active-speaker").await;
    let mut ada = stage.connect().await;
    let resume = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    let joined = ada.must("joinRoom", resume).await;
    assert_eq!(joined["unwatched"], json!([{ "producerId": producer_id, "encodings": [] }]));
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
async fn whose_connection_fails_is_told_why_and_nobody_else() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let transport_id = stage.media.inside().transports.keys().next().unwrap().clone();
    let (id, reason) = (transport_id.clone(), "certificate".to_owned());
    stage.media.report(MediaEvent::ConnectionFailed { transport_id, reason });
    let error = ada.event("error").await;
    assert_eq!(
        (&error["code"], &error["reason"]),
        (&json!("connection_failed"), &json!("certificate"))
    );
    assert_eq!((&error["transportId"], &error["rejoin"]), (&json!(id), &json!(null)));
    assert!(error["message"].as_str().unwrap().contains("certificate cannot be used"));
    // The next that bob hears is something else.
    stage.media.report(MediaEvent::ProducerClosed { producer_id: producer.to_string() });
    bob.event("producer-closed").await;
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
async fn who_comes_back_learns_what_was_lost_meanwhile() {
    let settings = Settings { reconnect_window: Duration::from_secs(60), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, joined, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    let receiving =
        ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let sending = stage.media.inside().producers[&producer].transport.clone();
    ada.cut();
    let reason = "consent_lost".to_owned();
    stage.media.report(MediaEvent::TransportClosed { transport_id: sending, reason });
    bob.event("producer-closed").await;
    let mut ada = stage.connect().await;
    let wanted = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    let again = ada.must("joinRoom", wanted).await;
    assert_eq!(again["resumed"], true);
    assert_eq!(again["transportIds"], json!([receiving["id"]]));
    assert_eq!(again["producerIds"], json!([]));
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
    stage.until_ready().await;
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
async fn everybody_is_told_once_that_it_is_away_and_nothing_is_asked_of_it() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, joined) = stage.join("bob").await;
    let transport =
        bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumer = bob.must("consume", json!({ "producerId": producer })).await["id"].clone();
    stage.media.go_away();
    for client in [&mut ada, &mut bob] {
        let error = client.event("error").await;
        assert_eq!(error["code"], "media_unavailable");
        assert_eq!(
            (&error["message"], &error["event"]),
            (&json!("Media Server Unavailable"), &json!(null))
        );
        assert!(error["help"].as_str().unwrap().contains("try again"));
        assert_eq!(error.get("rejoin"), None, "the room stays");
    }
    let asked = || stage.media.inside().calls.iter().filter(|call| *call == "in vain").count();
    // Only the stream of events is still tried.
    let snapshots = asked();
    let began = std::time::Instant::now();
    let [of_producer, of_consumer] =
        [json!({ "producerId": producer }), json!({ "consumerId": consumer })];
    let connect = json!({ "transportId": transport["id"], "dtlsParameters": crate::stage::dtls_parameters() });
    for (event, payload) in [
        ("sfu_get_router_capabilities", json!({})),
        ("sfu_create_transport", json!({ "direction": "send" })),
        ("create-transport", json!({ "direction": "recv" })),
        ("sfu_connect_transport", connect),
        ("restartIce", json!({ "transportId": transport["id"] })),
        ("sfu_produce", crate::stage::video()),
        ("sfu_consume", of_producer.clone()),
        ("pauseProducer", of_producer.clone()),
        ("resume-producer", of_producer),
        ("pauseConsumer", of_consumer.clone()),
        ("resumeConsumer", of_consumer.clone()),
        ("requestKeyFrame", of_consumer),
        ("createRoom", json!({ "roomId": "new" })),
    ] {
        let refused = bob.ask(event, payload).await["error"].clone();
        assert_eq!(refused["code"], "media_unavailable", "{event}");
        assert_eq!(refused["message"], "Media Server Unavailable", "{event}");
        assert!(refused["help"].is_string(), "{event}");
    }
    let mut eve = stage.connect().await;
    assert_eq!(eve.refused("joinRoom", json!({ "roomId": "r" })).await, "media_unavailable");
    // Without a callback it is the event.
    eve.emit("joinRoom", json!({ "roomId": "r" })).await;
    let error = eve.event("error").await;
    assert_eq!(
        (&error["code"], &error["event"]),
        (&json!("media_unavailable"), &json!("joinRoom"))
    );
    // Thirteen of them, each of which would have waited.
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert!(asked() <= snapshots + 4, "{} after {snapshots}", asked());
    // What needs nothing of it goes on.
    ada.must("chat_message", json!({ "content": "are you there?" })).await;
    bob.event("chat_message").await;
    assert!(
        !ada.names_seen().await.iter().any(|name| name == "error" || name == "call:mode-switch")
    );
    // Who comes back meanwhile has his place, and hears it too.
    bob.cut();
    let mut bob = stage.connect().await;
    let resume = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    assert_eq!(bob.must("joinRoom", resume).await["resumed"], true);
    assert_eq!(bob.event("error").await["code"], "media_unavailable");

    stage.media.come_back();
    stage.until_ready().await;
    bob.must("resumeConsumer", json!({ "consumerId": consumer })).await;
    eve.must("joinRoom", json!({ "roomId": "r" })).await;
    assert!(!ada.names_seen().await.contains(&"error".to_owned()));
}

/// A control plane that is started again is not away.
#[tokio::test]
async fn a_short_absence_is_waited_for_and_told_to_nobody() {
    let settings = Settings { media_patience: Duration::from_secs(5), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    stage.media.go_away();
    let (media, before) = (Arc::clone(&stage.media), stage.media.inside().calls.len());
    tokio::spawn(async move {
        media.until("it was asked in vain", |inside| inside.calls.len() > before + 2).await;
        media.come_back();
    });
    ada.must("pauseProducer", json!({ "producerId": producer })).await;
    assert!(!ada.names_seen().await.contains(&"error".to_owned()));
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

#[tokio::test]
async fn what_was_made_although_its_answer_was_lost_is_freed() {
    let stage = Stage::new().await;
    let (mut ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let lost = [
        ("createProducerTransport", json!({})),
        ("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })),
        ("consume", json!({ "producerId": producer })),
    ];
    for (event, payload) in lost {
        stage.media.lose_answers(true);
        assert_eq!(bob.refused(event, payload).await, "media_unavailable", "{event}");
        stage.media.lose_answers(false);
        stage
            .media
            .until("what was made is freed", |i| i.transports.len() == 2 && i.consumers.is_empty())
            .await;
    }
    stage.media.lose_answers(true);
    assert_eq!(ada.refused("produce", video_at("1")).await, "media_unavailable");
    stage.media.lose_answers(false);
    stage.media.until("one is left", |i| i.producers.keys().eq([&producer])).await;
}

#[tokio::test]
async fn what_belongs_to_nobody_is_freed_when_both_sides_are_compared() {
    let stage = Stage::new().await;
    let (_ada, _, producer) = stage.join_sending("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumer = bob.must("consume", json!({ "producerId": producer })).await["id"].clone();
    stage.media.go_away();
    {
        let mut inside = stage.media.inside();
        let track = inside.producers[&producer].clone();
        inside.producers.insert("lost-producer".to_owned(), track);
        let track = inside.consumers[consumer.as_str().unwrap()].clone();
        let transport = inside.transports[&track.transport].clone();
        inside.consumers.insert("lost-consumer".to_owned(), track);
        inside.transports.insert("lost-transport".to_owned(), transport);
    }
    stage.media.come_back();
    stage
        .media
        .until("only what is known is left", |inside| {
            inside.producers.keys().eq([&producer])
                && inside.consumers.keys().eq([consumer.as_str().unwrap()])
                && inside.transports.len() == 2
        })
        .await;
}

#[tokio::test]
async fn a_busy_media_server_is_asked_again_and_not_looked_through() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    stage.media.be_busy(3);
    ada.must("createProducerTransport", json!({})).await;
    ada.must("produce", crate::stage::video()).await;
    stage.media.be_busy(12);
    ada.must("leaveRoom", json!({})).await;
    stage.media.until("it is freed at last", |inside| inside.transports.is_empty()).await;
    let calls = stage.media.inside().calls.clone();
    assert_eq!(calls.iter().filter(|call| *call == "snapshot").count(), 1, "{calls:?}");
    assert!(calls.iter().filter(|call| *call == "too many").count() >= 12);
}

#[tokio::test]
async fn a_restarted_service_takes_its_calls_over() {
    let settings = Settings { takeover_window: Duration::from_secs(2), ..quick() };
    let stage = Stage::with(settings.clone(), FakeMedia::new()).await;
    let (mut ada, token, producer) = stage.join_sending("ada").await;
    let (mut bob, _, bobs) = stage.join_sending("bob").await;
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    let consumer = bob.must("consume", json!({ "producerId": producer })).await["id"].clone();
    bob.must("pauseProducer", json!({ "producerId": bobs })).await;
    let mut eve = stage.connect().await;
    eve.must("joinRoom", json!({ "roomId": "without-anybody" })).await;
    eve.must("leaveRoom", json!({})).await;

    stage.service.stop().await;
    ada.event("server-draining").await;
    ada.cut();
    bob.cut();
    let inside = format!("{:?}", stage.media.inside().transports);
    assert_eq!(stage.media.inside().routers.len(), 1, "the empty room's is gone");

    let next = Stage::with(settings, Arc::clone(&stage.media)).await;
    let mut ada = next.connect().await;
    let wanted = json!({ "roomId": "r", "resumeToken": token["resumeToken"] });
    let joined = ada.must("joinRoom", wanted).await;
    assert_eq!((&joined["resumed"], &joined["participantId"]), (&json!(true), &json!("ada")));
    assert_eq!(joined["participants"], json!([{ "participantId": "bob", "name": "bob" }]));
    assert_eq!(joined["producers"][0]["producerId"], json!(bobs));
    assert_eq!(joined["producers"][0]["paused"], true);
    assert_eq!(joined["producers"][0]["appData"], json!({ "source": "camera" }));
    assert_eq!(format!("{:?}", next.media.inside().transports), inside, "nothing was touched");
    ada.must("pauseProducer", json!({ "producerId": producer })).await;
    assert_eq!(
        ada.refused("pauseConsumer", json!({ "consumerId": consumer })).await,
        "not_yours",
        "bob is known with all that is his"
    );
    // Bob does not come back.
    assert_eq!(ada.event("call:participant-left").await["participantId"], "bob");
    next.media.until("bob's is freed", |i| i.producers.keys().eq([&producer])).await;
}

#[tokio::test]
async fn nobody_joins_before_the_rooms_of_the_last_start_are_known() {
    let media = FakeMedia::new();
    media.go_away();
    let stage = Stage::start(quick(), media).await;
    let mut ada = stage.connect().await;
    let wanted = json!({ "roomId": "r" });
    assert_eq!(ada.refused("joinRoom", wanted.clone()).await, "media_unavailable");
    assert_eq!(ada.refused("createRoom", wanted.clone()).await, "media_unavailable");
    assert_eq!(stage.service.count(), (0, 0));
    stage.media.come_back();
    let joins = async { while ada.ask("joinRoom", wanted.clone()).await.get("error").is_some() {} };
    tokio::time::timeout(Duration::from_secs(10), joins).await.expect("joined");
}
