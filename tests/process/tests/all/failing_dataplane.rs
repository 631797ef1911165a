//! The dataplane dies, or one of its workers panics or gets stuck: whose rooms are gone is said, and
//! nobody else notices.

use std::{collections::BTreeSet, os::unix::process::ExitStatusExt as _};

use ironcast_load::{
    Control as _, VideoOptions,
    call::ConsumeOptions,
    http::{Event, EventStream, PlainHttp},
};
use ironcast_process_tests::{LIMIT, Pair, PairBuilder, eventually};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean};

const SIGABRT: i32 = 6;

/// Reads events until one satisfies.
async fn until(events: &mut EventStream, what: &str, mut so: impl FnMut(&Event) -> bool) {
    let reading = async {
        while let Some(event) = events.next().await {
            if so(&event) {
                return;
            }
        }
        panic!("the events ended before {what}");
    };
    assert!(tokio::time::timeout(LIMIT, reading).await.is_ok(), "never: {what}");
}

fn strings(value: &Value) -> impl Iterator<Item = String> {
    let all = value.as_array().into_iter().flatten();
    all.filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>().into_iter()
}

async fn room_on(pair: &Pair, id: &str, worker: &str) {
    pair.call("POST", "/v1/routers", json!({ "id": id, "workerId": worker })).await;
}

#[tokio::test]
async fn a_killed_dataplane_is_told_with_all_its_rooms_and_the_next_takes_new_ones() {
    let mut pair = Pair::builder().set("dataplane.workers", 2).start().await;
    let rooms = [("a", "0"), ("b", "1"), ("c", "1")];
    for (room, worker) in rooms {
        room_on(&pair, room, worker).await;
    }
    let mut events = pair.control.events(None).await.expect("events");
    pair.kill_dataplane();
    eventually("it is noticed", || async {
        let body = json!({ "id": "new" });
        let answer = pair.control.request("POST", "/v1/routers", Some(body)).await;
        answer.is_ok_and(|(status, problem)| {
            status == 503 && problem["code"] == "dataplane_unavailable"
        })
    })
    .await;
    let took = pair.start_dataplane_again().await;
    eprintln!("rooms can be made {} ms after the dataplane was started again", took.as_millis());

    let (mut died, mut closed, mut back) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    until(&mut events, "everything that died, and the workers that are back", |event| {
        match event.event.as_str() {
            "worker.died" => died.extend(strings(&event.data["routerIds"])),
            "router.closed" => {
                assert_eq!(event.data["reason"], "worker_died");
                closed.extend(event.data["routerId"].as_str().map(str::to_owned));
            }
            "worker.restarted" => {
                back.extend(event.data["workerId"].as_str().map(str::to_owned));
            }
            _ => {}
        }
        died.len() == 3 && closed.len() == 3 && back.len() == 2
    })
    .await;
    let all: BTreeSet<String> = rooms.iter().map(|(room, _)| (*room).to_owned()).collect();
    assert_eq!((&died, &closed), (&all, &all));

    let snapshot = pair.call("GET", "/v1/snapshot", Value::Null).await;
    assert_eq!(snapshot["routers"], json!([]));
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start_on(pair, video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
}

/// Two workers: one carries a call, the other one a room called `other`. The hooks are on.
async fn call_beside_another(builder: PairBuilder) -> (OneToOne, String) {
    let builder = builder.set("dataplane.workers", 2).env("IRONCAST_TEST_HOOKS", "1");
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start_on(builder.start().await, video, &consume).await;
    let room = call.pair.call("GET", "/v1/routers/room", Value::Null).await;
    let other = if room["workerId"] == "0" { "1" } else { "0" };
    room_on(&call.pair, "other", other).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    (call, other.to_owned())
}

async fn goes_on(call: &OneToOne) {
    let frames = call.bob.stats(&call.seen).decodable_frames;
    call.bob_sees("more of the picture", |stats| stats.decodable_frames > frames + 30).await;
    assert_clean(&call.bob.stats(&call.seen));
}

#[tokio::test]
async fn a_panic_in_one_worker_costs_no_packet_of_the_others() {
    let (call, other) = call_beside_another(Pair::builder()).await;
    let mut events = call.pair.control.events(None).await.expect("events");
    let body = json!({ "id": "__panic", "workerId": other });
    let (status, _) = call.pair.refused("POST", "/v1/routers", body).await;
    assert_eq!(status, 503);
    let mut died = Vec::new();
    until(&mut events, "the worker is back", |event| {
        if event.event == "worker.died" {
            assert_eq!(event.data["workerId"], other);
            died.extend(strings(&event.data["routerIds"]));
        }
        event.event == "worker.restarted"
    })
    .await;
    assert!(died.contains(&"other".to_owned()) && !died.contains(&"room".to_owned()), "{died:?}");
    goes_on(&call).await;
    room_on(&call.pair, "other", &other).await;
    eventually("it is counted", || async { call.pair.metric("\"worker_failures\"").await == 1.0 })
        .await;
}

#[tokio::test]
async fn a_worker_that_cannot_start_is_tried_less_and_less_often_and_readiness_says_why() {
    let pair = Pair::builder().env("IRONCAST_TEST_HOOKS", "1").start().await;
    let mut events = pair.control.events(None).await.expect("events");
    // It can open nothing any more.
    pair.limit_files(pair.dataplane_pid(), 3);
    let begun = std::time::Instant::now();
    pair.refused("POST", "/v1/routers", json!({ "id": "__panic" })).await;
    eventually("it was tried five times", || async {
        pair.metric("\"worker_failures\"").await >= 5.0
    })
    .await;
    // 100, 200, 400, 800 ms: without pauses it would be a thousand times.
    assert!(begun.elapsed().as_millis() >= 1_400, "{:?}", begun.elapsed());
    let ops = PlainHttp::new(pair.ops);
    let ready = ops.send("GET", "/ready", &[], &[]).await.expect("an answer");
    assert_eq!(ready.status, 503, "{}", ready.text());
    assert!(ready.text().contains("no worker runs; worker 0: "), "{}", ready.text());
    assert!(ready.text().contains("Too many open files"), "{}", ready.text());
    let said = pair.log("dataplane");
    assert_eq!(said.matches("Too many open files").count(), 1, "{said}");

    pair.limit_files(pair.dataplane_pid(), 1_000);
    pair.control_is_ready().await;
    pair.create_room("room").await;
    let mut told = Vec::new();
    until(&mut events, "the room", |event| {
        told.extend(event.event.starts_with("worker.").then(|| event.event.clone()));
        event.event == "router.created"
    })
    .await;
    assert_eq!(told, ["worker.died", "worker.restarted"]);
}

#[tokio::test]
async fn a_stuck_worker_is_said_to_be_and_holds_up_nobody_else() {
    let (mut call, other) = call_beside_another(Pair::builder().set("dataplane.stuck_s", 4)).await;
    let pair = &call.pair;
    let body = json!({ "id": "__stuck", "workerId": other });
    // Its caller has an answer when the control plane has waited for long enough.
    let (status, _) = pair.refused("POST", "/v1/routers", body).await;
    assert!(matches!(status, 503 | 504), "{status}");
    let path = format!("/v1/workers/{other}");
    eventually("it is seen", || async {
        pair.call("GET", &path, Value::Null).await["status"] != "running"
    })
    .await;
    let stuck = format!("worker {other} is stuck");
    eventually("it is logged", || async { pair.log("dataplane").contains(&stuck) }).await;
    eventually("it is counted", || async { pair.metric("\"workers_stuck\"").await == 1.0 }).await;
    // Whatever is asked of it is refused at once, and whatever is new goes elsewhere.
    let (_, code) = pair.refused("DELETE", "/v1/routers/other", Value::Null).await;
    assert_eq!(code, "dataplane_unavailable");
    let body = json!({ "id": "there", "workerId": other });
    assert_eq!(pair.refused("POST", "/v1/routers", body).await.1, "no_capacity");
    for room in ["d", "e", "f"] {
        pair.create_room(room).await;
        let room = pair.call("GET", &format!("/v1/routers/{room}"), Value::Null).await;
        assert_ne!(room["workerId"], other);
    }
    goes_on(&call).await;
    assert_eq!(pair.metric("ironcast_control_dataplane_attached").await, 1.0);
    // A control plane that comes now knows what is there, too.
    call.pair.kill_control();
    call.pair.start_control().await;
    let pair = &call.pair;
    assert_eq!(pair.call("GET", "/v1/routers/other", Value::Null).await["workerId"], other);
    room_on(pair, "other", &other).await;
    let body = json!({ "id": "other" });
    assert_eq!(pair.refused("POST", "/v1/routers", body).await, (409, "already_exists".into()));
    let (_, code) = pair.refused("DELETE", "/v1/routers/other", Value::Null).await;
    assert_eq!(code, "dataplane_unavailable");
    goes_on(&call).await;
}

#[tokio::test]
async fn where_it_is_wanted_a_stuck_worker_ends_the_process() {
    let builder = Pair::builder().set("dataplane.stuck_s", 2).env("IRONCAST_TEST_HOOKS", "1");
    let mut pair = builder.set("dataplane.ends_when_stuck", true).start().await;
    let control = std::sync::Arc::clone(&pair.control);
    let body = json!({ "id": "__stuck" });
    // Nobody answers this any more.
    let asked =
        tokio::spawn(async move { control.request("POST", "/v1/routers", Some(body)).await });
    assert_eq!(pair.dataplane_exit().await.signal(), Some(SIGABRT));
    let said = pair.log("dataplane");
    assert!(said.contains("worker 0 has made no turn for 2 s: the process ends"), "{said}");
    let answered = asked.await.expect("no panic");
    assert!(answered.is_ok_and(|(status, _)| status == 503), "its caller is told");
    pair.start_dataplane_again().await;
    pair.create_room("room").await;
}
