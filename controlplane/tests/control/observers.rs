//! Observers: made, told whom to listen to, and what they tell.

use ironcast_api::{EventData, ObserverType};
use ironcast_client::ListPage;
use ironcast_protocol::{CommandError, ErrorCode, Event, observer::Volume};
use serde_json::{Value, json};

use crate::{
    stage::{Stage, call, eventually, id, produce},
    streams::next,
};

fn create(id: &str) -> Value {
    json!({ "id": id, "routerId": "room", "type": "audiolevel" })
}

fn volumes(observer: &str, of: &[(&str, i8)]) -> Event {
    let volumes = of.iter().map(|(id, volume)| Volume { producer: (*id).into(), volume: *volume });
    Event::ObserverVolumes { observer: observer.into(), volumes: volumes.collect() }
}

#[tokio::test]
async fn an_observer_from_its_creation_to_its_end() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let made = stage.ok("POST", "/v1/observers", create("o")).await;
    let expected = json!({ "id": "o", "routerId": "room", "type": "audiolevel", "threshold": -80,
        "interval": 1000, "maxEntries": 1, "paused": false, "producerIds": [], "appData": {},
        "createdAt": made["createdAt"] });
    assert_eq!(made, expected);
    let (status, again) = stage.call("POST", "/v1/observers", create("o")).await;
    assert_eq!((status, &again), (200, &made));
    let other = json!({ "id": "o", "routerId": "room", "type": "activespeaker" });
    assert_eq!(stage.refused("POST", "/v1/observers", other).await.1, "already_exists");
    // Safe to repeat.
    for _ in 0..2 {
        let listens = stage.client.observe_producer(&id("o"), &id("room-mic")).await.unwrap();
        assert_eq!(listens.producer_ids, [id("room-mic")]);
    }
    stage.client.pause_observer(&id("o")).await.unwrap();
    assert!(stage.client.observer(&id("o")).await.unwrap().paused);
    stage.client.resume_observer(&id("o")).await.unwrap();
    let list = stage.client.observers(&ListPage::default()).await.unwrap().items;
    assert_eq!(list.len(), 1);
    assert!(!list[0].paused && list[0].observer_type == ObserverType::AudioLevel);
    let room = stage.ok("GET", "/v1/routers/room", Value::Null).await;
    assert_eq!(room["observers"], json!(["o"]));
    assert!(stage.client.observer_dump(&id("o")).await.unwrap()["observer"].is_object());
    // A producer that is closed is out of it.
    stage.client.delete_producer(&id("room-mic")).await.unwrap();
    assert!(stage.client.observer(&id("o")).await.unwrap().producer_ids.is_empty());
    for _ in 0..2 {
        stage.client.unobserve_producer(&id("o"), &id("room-mic")).await.unwrap();
        stage.client.delete_observer(&id("o")).await.unwrap();
    }
    assert_eq!(stage.refused("GET", "/v1/observers/o", Value::Null).await.1, "not_found");
    assert_eq!(stage.refused("POST", "/v1/observers", create("o")).await.1, "wrong_state");
}

#[tokio::test]
async fn wrong_observers_are_refused_where_they_are_wrong() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.call_of_two("other").await;
    for (field, value) in [
        ("threshold", json!(1)),
        ("threshold", json!(-128)),
        ("maxEntries", json!(0)),
        ("routerId", json!("nowhere")),
        ("type", json!("loudest")),
        ("volume", json!(3)),
    ] {
        let mut body = create("wrong");
        body[field] = value.clone();
        let pointer = stage.refused("POST", "/v1/observers", body).await.2;
        assert!(pointer.starts_with(&format!("/{field}")), "{field} {value}: {pointer}");
    }
    let mut body = json!({ "id": "speaker", "routerId": "room", "type": "activespeaker" });
    body["threshold"] = json!(-50);
    assert_eq!(stage.refused("POST", "/v1/observers", body).await.1, "invalid_request");
    // mediasoup's bounds, silently.
    for (asked, taken) in [(1, 100), (100_000, 5_000)] {
        let made = json!({ "routerId": "room", "type": "activespeaker", "interval": asked });
        assert_eq!(stage.ok("POST", "/v1/observers", made).await["interval"], taken);
    }
    stage.ok("POST", "/v1/observers", create("o")).await;
    for (producer, code) in
        [("room-cam", "invalid_request"), ("other-mic", "invalid_request"), ("no", "not_found")]
    {
        let path = format!("/v1/observers/o/producers/{producer}");
        assert_eq!(stage.refused("POST", &path, Value::Null).await.1, code, "{producer}");
    }
    let path = "/v1/observers/none/producers/room-mic";
    assert_eq!(stage.refused("POST", path, Value::Null).await.1, "not_found");
}

#[tokio::test]
async fn it_listens_to_no_more_than_allowed_however_many_ask_at_once() {
    let stage = Stage::with(|config| config.limits.producers_per_observer_max = 1).await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/producers", produce("second", "room-bob-send", "opus")).await;
    stage.ok("POST", "/v1/observers", create("o")).await;
    // The first one's answer does not come yet.
    stage.fake.turn(|knobs| knobs.mute.insert("ObserveProducer"));
    let client = stage.client.clone();
    let first = tokio::spawn(async move {
        call(&client, "POST", "/v1/observers/o/producers/room-mic", Value::Null).await
    });
    eventually("the first one is on its way", || async {
        stage.fake.count("ObserveProducer") == 1
    })
    .await;
    let second = stage.refused("POST", "/v1/observers/o/producers/second", Value::Null).await;
    assert_eq!((second.0, second.1.as_str()), (503, "no_capacity"));
    assert_eq!(stage.fake.count("ObserveProducer"), 1);
    first.abort();
}

#[tokio::test]
async fn what_it_hears_is_told_with_the_participants() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/observers", create("o")).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut events = stage.client.events(Some(seq), None);
    stage.ok("POST", "/v1/observers/o/producers/room-mic", Value::Null).await;
    stage.ok("POST", "/v1/observers/o/pause", Value::Null).await;
    assert_eq!(next(&mut events).await.name(), "observer.paused");
    stage.fake.emit(volumes("o", &[("room-mic", -30), ("gone", -40)]));
    let EventData::ObserverVolumes(told) = next(&mut events).await.data else { panic!() };
    let volumes = serde_json::to_value(told.volumes).unwrap();
    let alice = json!([{ "producerId": "room-mic", "participantId": "alice", "volume": -30 }]);
    assert_eq!(volumes, alice);
    stage.fake.emit(Event::ObserverSilence { observer: "o".into() });
    assert_eq!(next(&mut events).await.name(), "observer.silence");
    let speaks =
        |producer: &str| Event::DominantSpeaker { observer: "o".into(), producer: producer.into() };
    stage.fake.emit(speaks("gone"));
    stage.fake.emit(speaks("room-mic"));
    let EventData::ObserverDominantSpeaker(told) = next(&mut events).await.data else { panic!() };
    assert_eq!((told.producer_id, told.participant_id), (id("room-mic"), Some(id("alice"))));
    stage.ok("DELETE", "/v1/observers/o", Value::Null).await;
    assert_eq!(next(&mut events).await.name(), "observer.closed");
    // Of one that is gone nothing is told.
    stage.fake.emit(Event::ObserverSilence { observer: "o".into() });
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    assert_eq!(next(&mut events).await.name(), "router.closed");
}

/// Who reads late is told the newest, and who comes back is told nothing of what was.
#[tokio::test]
async fn only_the_newest_is_kept() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/observers", create("o")).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut live = stage.client.events(Some(seq), None);
    for volume in -100..-50 {
        stage.fake.emit(volumes("o", &[("room-mic", volume)]));
    }
    stage.fake.emit(Event::ObserverSilence { observer: "o".into() });
    stage.ok("POST", "/v1/observers/o/pause", Value::Null).await;
    while next(&mut live).await.name() != "observer.paused" {}
    let mut late = stage.client.events(Some(seq), None);
    assert_eq!(next(&mut late).await.name(), "observer.paused");
}

#[tokio::test]
async fn the_end_of_a_room_implies_that_of_its_observers() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    stage.ok("POST", "/v1/observers", create("o")).await;
    let seq = stage.client.snapshot(None).await.unwrap().seq;
    let mut children = stage.client.events_with_children(Some(seq), None);
    stage.ok("POST", "/v1/observers/o/pause", Value::Null).await;
    assert_eq!(next(&mut children).await.name(), "observer.paused");
    stage.ok("DELETE", "/v1/routers/room", Value::Null).await;
    let mut names = Vec::new();
    while names.last() != Some(&"router.closed") {
        names.push(next(&mut children).await.name());
    }
    assert!(names.contains(&"observer.closed"), "{names:?}");
    assert_eq!(stage.refused("GET", "/v1/observers/o", Value::Null).await.1, "not_found");
}

#[tokio::test]
async fn a_dataplane_without_observers_says_so() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let unknown = CommandError::new(ErrorCode::UnknownCommand, "not here");
    stage.fake.turn(|knobs| knobs.refuse.push(("CreateObserver", unknown)));
    let refused = stage.refused("POST", "/v1/observers", create("o")).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "unsupported"));
}
