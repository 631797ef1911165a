//! The event stream: order, resuming, what is lost, filters, slow readers.

use std::time::Duration;

use futures::StreamExt as _;
use http_body_util::BodyExt as _;
use ironcast_api::{Event, EventData, EventSeq};
use ironcast_client::{EventStream, EventsError};
use ironcast_protocol::{
    command::ConsumerScore,
    event::{Event as Reported, IceState, SentStream, TransportCloseReason},
    snapshot::ResourceKind,
    trace::{Trace, Traced, TracedPacket},
};
use serde_json::{Value, json};

use crate::{
    http::{self, Way},
    stage::{LIMIT, Stage, eventually, id},
};

pub async fn next(events: &mut EventStream) -> Event {
    let event = tokio::time::timeout(LIMIT, events.next()).await.expect("an event in time");
    event.expect("the stream goes on").expect("an event")
}

/// Names of the events up to and with one of a name.
async fn until(events: &mut EventStream, last: &str) -> Vec<&'static str> {
    let mut names = Vec::new();
    loop {
        names.push(next(events).await.name());
        if names.last() == Some(&last) {
            return names;
        }
    }
}

/// A stream that has begun: events from now on are in it.
async fn from_now(stage: &Stage) -> EventStream {
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    stage.client.events(Some(seq), None)
}

#[tokio::test]
async fn everything_that_happens_is_told_in_order() {
    let stage = Stage::new().await;
    let mut events = from_now(&stage).await;
    stage.call_of_two("room").await;
    let made = until(&mut events, "consumer.created").await;
    assert_eq!(made, ["router.created", "producer.created", "consumer.created"]);
    until(&mut events, "consumer.created").await;
    stage.ok("POST", "/v1/producers/room-cam/pause", Value::Null).await;
    stage.ok("POST", "/v1/producers/room-cam/pause", Value::Null).await;
    stage.ok("POST", "/v1/consumers/room-bob-cam/resume", Value::Null).await;
    let names = until(&mut events, "consumer.resumed").await;
    assert_eq!(names, ["producer.paused", "consumer.producerpause", "consumer.resumed"]);
    stage.fake.emit(Reported::IceStateChange {
        transport: "room-alice-send".into(),
        state: IceState::Completed,
    });
    let event = next(&mut events).await;
    let EventData::TransportIceStateChange(change) = &event.data else { panic!("{event:?}") };
    assert_eq!(
        (event.router_id, change.participant_id.clone()),
        (Some(id("room")), Some(id("alice")))
    );
    let producer = "room-cam".to_owned();
    stage.fake.emit(Reported::ProducerExhausted { producer, encoding_idx: 1 });
    let consumer = "room-bob-cam".to_owned();
    stage.fake.emit(Reported::ConsumerExhausted { consumer, stream: SentStream::Media });
    let (of_producer, of_consumer) = (next(&mut events).await, next(&mut events).await);
    let EventData::ProducerExhausted(end) = &of_producer.data else { panic!("{of_producer:?}") };
    assert_eq!((&end.producer.producer_id, end.encoding_idx), (&id("room-cam"), 1));
    let told = serde_json::to_value(&of_consumer.data).unwrap();
    assert_eq!(of_consumer.name(), "consumer.exhausted");
    assert_eq!((&told["consumerId"], &told["stream"]), (&json!("room-bob-cam"), &json!("media")));
    // What is traced, in mediasoup's shape; of what is gone nothing is told.
    let types = json!({ "types": ["keyframe", "sr"] });
    assert_eq!(stage.ok("PUT", "/v1/producers/room-cam/trace", types.clone()).await, types);
    let traced = |id: &str| {
        let packet = TracedPacket { ssrc: 7, is_key_frame: true, ..TracedPacket::default() };
        let (kind, id, what) = (ResourceKind::Producer, id.into(), Trace::KeyFrame(packet));
        Reported::Trace(Traced { kind, id, at_unix_ms: 1_000, is_sent: false, what })
    };
    stage.fake.emit(traced("gone"));
    stage.fake.emit(traced("room-cam"));
    let event = next(&mut events).await;
    assert_eq!((event.name(), &event.router_id), ("trace", &Some(id("room"))));
    let told = serde_json::to_value(&event.data).unwrap();
    assert_eq!(told["producerId"], "room-cam");
    assert_eq!(told.get("consumerId"), None);
    let trace = &told["trace"];
    assert_eq!((&trace["type"], &trace["direction"]), (&json!("keyframe"), &json!("in")));
    assert_eq!((&trace["timestamp"], &trace["info"]["ssrc"]), (&json!(1_000), &json!(7)));
    assert_eq!(trace["info"]["isKeyFrame"], true);
    stage.ok("DELETE", "/v1/producers/room-mic", Value::Null).await;
    let names = until(&mut events, "producer.closed").await;
    assert_eq!(names, ["consumer.closed", "producer.closed"]);
    stage.fake.emit(Reported::TransportClosed {
        transport: "room-alice-send".into(),
        reason: TransportCloseReason::ConsentLost,
    });
    // What hung below the transport is implied, but not its producer's consumer on another one.
    let names = until(&mut events, "transport.closed").await;
    assert_eq!(names, ["consumer.closed", "transport.closed"]);
    assert_eq!(stage.call("GET", "/v1/consumers/room-bob-cam", Value::Null).await.0, 404);
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    assert_eq!(until(&mut events, "router.closed").await, ["router.closed"]);
}

#[tokio::test]
async fn what_other_events_imply_is_told_to_who_asks_for_it() {
    let stage = Stage::new().await;
    stage.call_of_two("before").await;
    let before = stage.client.snapshot(None).await.unwrap().seq;
    stage.ok("DELETE", "/v1/routers/before", Value::Null).await;
    // Nobody followed: what was implied then was not kept.
    let mut late = stage.client.events_with_children(Some(before), None);
    let item = tokio::time::timeout(LIMIT, late.next()).await.unwrap().unwrap();
    assert!(matches!(item, Err(EventsError::Lost)), "{item:?}");
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut children = stage.client.events_with_children(Some(seq), None);
    let mut events = stage.client.events(Some(seq), None);
    stage.call_of_two("room").await;
    for stream in [&mut children, &mut events] {
        until(stream, "consumer.created").await;
        until(stream, "consumer.created").await;
    }
    stage.ok("DELETE", "/v1/transports/room-alice-send", Value::Null).await;
    let told = ["consumer.closed", "consumer.closed"];
    let names = until(&mut children, "transport.closed").await;
    let implied = ["consumer.closed", "producer.closed"];
    assert_eq!(names, [&implied[..], &implied, &["transport.closed"]].concat());
    let names = until(&mut events, "transport.closed").await;
    assert_eq!(names, [&told[..], &["transport.closed"]].concat());
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    let names = until(&mut children, "router.closed").await;
    assert_eq!(names, [&["transport.closed"; 3][..], &["router.closed"]].concat());
    assert_eq!(until(&mut events, "router.closed").await, ["router.closed"]);
    let wrong = stage.refused("GET", "/v1/events?children=yes", Value::Null).await;
    assert_eq!((wrong.0, wrong.2.as_str()), (400, "?children"));
}

async fn streams_cut(stage: &Stage) -> u64 {
    let ops = stage.server().ops.unwrap();
    let metrics = http::send(Way::Plain, ops, &[], http::request("GET", "/metrics", "")).await;
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    let name = "ironcast_control_event_streams_cut_total ";
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric");
    line.parse().expect("a number")
}

/// However much happens at once: who takes what he is given is not slow.
#[tokio::test]
async fn the_end_of_a_large_room_cuts_nobody() {
    let stage = Stage::with(|config| config.events.waiting_max = 16).await;
    stage.call_of_two("room").await;
    for number in 0..100 {
        let body = json!({
            "id": format!("more-{number}"), "transportId": "room-bob-recv",
            "producerId": "room-mic", "paused": true,
        });
        stage.ok("POST", "/v1/consumers", body).await;
    }
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut children = stage.client.events_with_children(Some(seq), None);
    let mut events = stage.client.events(Some(seq), None);
    stage.ok("POST", "/v1/consumers/more-0/resume", Value::Null).await;
    // Both streams are live.
    for stream in [&mut children, &mut events] {
        assert_eq!(next(stream).await.name(), "consumer.resumed");
    }
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    let told = until(&mut children, "router.closed").await;
    assert!(told.len() > 100, "{}", told.len());
    assert_eq!(until(&mut events, "router.closed").await, ["router.closed"]);
    assert_eq!(streams_cut(&stage).await, 0);
}

/// Other calls are on the same connection.
#[tokio::test]
async fn a_stream_that_is_not_read_ends_alone() {
    let stage = Stage::with(|config| config.events.waiting_max = 100).await;
    stage.call_of_two("room").await;
    let address = stage.server().address;
    let connection = http::quic(address, &stage.trust(), 4_096).await;
    let mut requests = http::http3(connection.clone()).await;
    let (status, mut unread) = http::get(&mut requests, "/v1/events").await;
    assert_eq!(status, 200);
    while streams_cut(&stage).await == 0 {
        for number in 0..500 {
            let state = if number % 2 == 0 { IceState::Connected } else { IceState::Disconnected };
            stage.fake.emit(Reported::IceStateChange { transport: "room-bob-recv".into(), state });
        }
        assert_eq!(http::get(&mut requests, "/v1/health").await.0, 200);
    }
    let ended = async { while let Ok(Some(_)) = unread.recv_data().await {} };
    tokio::time::timeout(LIMIT, ended).await.expect("the stream ends");
    assert_eq!(http::get(&mut requests, "/v1/health").await.0, 200);
    assert!(connection.close_reason().is_none());
}

#[tokio::test]
async fn an_answer_and_an_event_right_behind_it_keep_their_order() {
    let stage = Stage::new().await;
    stage.fake.turn(|knobs| {
        let score = ConsumerScore { score: 3, producer_score: 2, producer_scores: vec![2] };
        knobs.follow =
            vec![("Consume", Reported::ConsumerScore { consumer: "room-bob-cam".into(), score })];
    });
    stage.call_of_two("room").await;
    eventually("the score is known", || async {
        stage.client.consumer(&id("room-bob-cam")).await.unwrap().score.score == 3
    })
    .await;
}

#[tokio::test]
async fn a_stream_resumes_behind_any_event() {
    let stage = Stage::new().await;
    let mut events = from_now(&stage).await;
    stage.ok("POST", "/v1/routers", json!({ "id": "first" })).await;
    // From here on the stream is live.
    next(&mut events).await;
    stage.call_of_two("room").await;
    stage.fake.emit(Reported::ConsumerScore {
        consumer: "room-bob-cam".into(),
        score: ConsumerScore::default(),
    });
    stage.ok("POST", "/v1/consumers/room-bob-cam/resume", Value::Null).await;
    let mut all = Vec::new();
    while all.last().is_none_or(|event: &Event| event.name() != "consumer.resumed") {
        all.push(next(&mut events).await);
    }
    drop(events);
    let lasting: Vec<&Event> =
        all.iter().filter(|event| event.name() != "consumer.score").collect();
    assert!(lasting.len() == all.len() - 1, "the score was told once, to who listened");
    for index in 0..lasting.len() - 1 {
        let mut resumed = stage.client.events(Some(lasting[index].seq), None);
        for expected in &lasting[index + 1..] {
            assert_eq!(next(&mut resumed).await, **expected);
        }
    }
    let after = lasting[0].seq;
    for form in [format!("/v1/events?after={after}"), "/v1/events".to_owned()] {
        let mut request = http::request("GET", &form, "");
        request.headers_mut().insert("last-event-id", after.to_string().parse().unwrap());
        let address = stage.server().plain.unwrap();
        let mut response = http::open(Way::Plain, address, &[], request).await.unwrap();
        let mut text = String::new();
        while !text.contains("consumer.resumed") {
            let frame = response.body_mut().frame().await.unwrap().unwrap();
            text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
        }
        assert!(text.contains(&format!("id: {}\nevent: {}\n", lasting[1].seq, lasting[1].name())));
        assert!(!text.contains("router.created"));
    }
}

#[tokio::test]
async fn what_is_lost_is_said() {
    let stage = Stage::with(|config| config.events.keep_bytes = 64 * 1024).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    for round in 0..300 {
        let path = format!("/v1/routers/r{round}");
        stage.ok("POST", "/v1/routers", json!({ "id": format!("r{round}") })).await;
        stage.ok("DELETE", &path, Value::Null).await;
    }
    let other = EventSeq { epoch: seq.epoch - 1, ..seq };
    let ahead = EventSeq { number: 1_000_000, ..seq };
    for lost in [seq, other, ahead] {
        let mut events = stage.client.events(Some(lost), None);
        let item = tokio::time::timeout(LIMIT, events.next()).await.unwrap().unwrap();
        assert!(matches!(item, Err(EventsError::Lost)), "{lost}: {item:?}");
        assert!(events.next().await.is_none());
        let path = format!("/v1/events?after={lost}");
        assert_eq!(stage.refused("GET", &path, Value::Null).await.1, "events_lost");
    }
    for (path, status) in [
        ("/v1/events?after=x-1", 410),
        ("/v1/events?after=x", 400),
        ("/v1/events?types=no.such", 400),
        ("/v1/events?routerId=a%20b", 400),
    ] {
        assert_eq!(stage.refused("GET", path, Value::Null).await.0, status, "{path}");
    }
    let mut events = from_now(&stage).await;
    stage.ok("POST", "/v1/routers", json!({ "id": "next" })).await;
    assert_eq!(next(&mut events).await.name(), "router.created");
}

#[tokio::test]
async fn a_stream_can_be_of_one_router_and_of_some_types() {
    let stage = Stage::with(|config| config.events.comment_every = Duration::from_millis(30)).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut of_b = stage.client.events(Some(seq), Some(id("b")));
    stage.call_of_two("a").await;
    stage.call_of_two("b").await;
    for _ in 0..5 {
        assert_eq!(next(&mut of_b).await.router_id, Some(id("b")));
    }
    let path = format!("/v1/events?after={seq}&types=producer.created,router.created");
    let address = stage.server().plain.unwrap();
    let request = http::request("GET", &path, "");
    let mut response = http::open(Way::Plain, address, &[], request).await.unwrap();
    let mut text = String::new();
    // The comment of a silent stream says where it is, though what came last was left out.
    let head = stage.client.snapshot(None).await.unwrap().seq;
    while !text.contains(&format!(": still here\nid: {head}\n\n")) {
        let frame = response.body_mut().frame().await.unwrap().unwrap();
        text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
    }
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let room = ["router.created", "producer.created", "producer.created"];
    assert_eq!(names, [room, room].concat());
}

#[tokio::test]
async fn a_slow_reader_is_cut_and_nobody_waits_for_it() {
    let stage = Stage::with(|config| {
        config.events.keep_bytes = 256 * 1024;
        config.events.streams_max = 2;
    })
    .await;
    stage.call_of_two("room").await;
    let address = stage.server().plain.unwrap();
    let request = http::request("GET", "/v1/events", "");
    let slow = http::open(Way::Plain, address, &[], request).await.unwrap();
    let mut quick = from_now(&stage).await;
    stage.ok("POST", "/v1/consumers/room-bob-cam/resume", Value::Null).await;
    next(&mut quick).await;
    let third = stage.refused("GET", "/v1/events", Value::Null).await;
    assert_eq!((third.0, third.1.as_str()), (503, "no_capacity"));
    // More than the connection and the log hold together.
    let mut told = 0;
    while streams_cut(&stage).await == 0 {
        for _ in 0..500 {
            let state = if told % 2 == 0 { IceState::Connected } else { IceState::Disconnected };
            stage.fake.emit(Reported::IceStateChange { transport: "room-bob-recv".into(), state });
            told += 1;
        }
        for _ in 0..500 {
            next(&mut quick).await;
        }
        assert!(told < 5_000_000, "it is never cut");
    }
    drop(slow);
}
