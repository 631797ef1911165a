//! Two control planes and one dataplane: the newer one has it, the older one stands by and takes over
//! when the newer is gone. They never fight.

use ironcast_load::{Control as _, VideoOptions, call::ConsumeOptions, http::PlainHttp};
use ironcast_process_tests::{Pair, eventually};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean};

/// The epoch of what a control plane answers.
async fn epoch(control: &PlainHttp) -> String {
    let answer = control.send("GET", "/v1/health", &[], &[]).await.expect("an answer");
    let seq = answer.header("ironcast-seq").expect("every answer carries it").to_owned();
    seq.rsplit_once('-').expect("an epoch").0.to_owned()
}

/// Waits until the older one says that it stands by.
async fn stands_by(pair: &Pair) {
    let ops = PlainHttp::new(pair.ops);
    eventually("it stands by, and says so", || async {
        let answer = ops.send("GET", "/ready", &[], &[]).await.expect("an answer");
        answer.status == 503 && answer.text().contains("stands by")
    })
    .await;
    assert_eq!(pair.metric("ironcast_control_stands_by").await, 1.0);
}

#[tokio::test]
async fn a_fenced_control_plane_takes_over_when_the_newer_one_is_gone() {
    let pair = Pair::builder().set("control.stand_by_s", 2).start().await;
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let mut call = OneToOne::start_on(pair, video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    for round in ["first", "second"] {
        let newer = call.pair.start_another_control().await;
        stands_by(&call.pair).await;
        let body = json!({ "id": round });
        let refused = call.pair.refused("POST", "/v1/routers", body.clone()).await;
        assert_eq!(refused, (503, "dataplane_unavailable".to_owned()));
        let made = newer.control.request("POST", "/v1/routers", Some(body)).await;
        assert_eq!(made.expect("an answer").0, 201);

        // For longer than it would wait for its turn, it only watches.
        let before = epoch(&newer.control).await;
        let frames = call.bob.stats(&call.seen).decodable_frames;
        call.bob_sees("some seconds", |stats| stats.decodable_frames > frames + 100).await;
        assert_eq!(epoch(&newer.control).await, before, "it was never detached");
        assert_eq!(call.pair.metric("ironcast_control_stands_by").await, 1.0);

        drop(newer);
        call.pair.control_is_ready().await;
        let known = call.pair.call("GET", "/v1/snapshot", Value::Null).await.to_string();
        for id in ["room", round, &call.video.id, &call.seen.id] {
            assert!(known.contains(&format!("\"{id}\"")), "{id} is not known: {known}");
        }
    }
    let log = call.pair.log("dataplane");
    assert_eq!(log.matches("is fenced").count(), 2, "once a round:\n{log}");
    assert_clean(&call.bob.stats(&call.seen));
    assert!(call.pair.end_control().await.success());
}

#[tokio::test]
async fn one_that_may_not_stand_by_ends_with_a_status_of_its_own() {
    let mut pair = Pair::builder().set("control.stand_by_s", 0).start().await;
    let newer = pair.start_another_control().await;
    assert_eq!(pair.control_exit().await.code(), Some(3));
    // The one that stays is not disturbed.
    let ready = newer.ops.request("GET", "/ready", None).await;
    assert_eq!(ready.expect("an answer").0, 200);
}
