//! The disk is full, descriptors run out: what can go on goes on, it is said once and counted, and
//! everything is as before when there is enough again.

use std::{os::unix::fs::symlink, sync::Arc};

use ironcast_load::{Control as _, VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{Pair, eventually, next_file};
use serde_json::{Value, json};
use tokio::{
    net::{TcpStream, UnixStream},
    sync::Mutex,
};

use crate::common::{OneToOne, assert_clean, good_network, sees};

/// Each write to it fails as on a full disk.
const FULL: &str = "/dev/full";

#[tokio::test]
async fn nobody_needs_a_log() {
    let builder = Pair::builder().log_to(FULL).set("control.audit_file", FULL);
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let mut call = OneToOne::start_on(builder.start().await, video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    // What has to outlive the process cannot be written either.
    symlink(FULL, call.pair.state_dir().join("drain.new")).expect("a link");
    let drain = json!({ "deadlineS": 3_600 });
    assert_eq!(call.pair.call("POST", "/v1/admin/drain", drain).await["draining"], true);
    call.pair.call("POST", "/v1/admin/undrain", json!({})).await;
    call.pair.create_room("more").await;
    eventually("lost lines are counted", || async {
        call.pair.metric("ironcast_control_log_lines_failed").await >= 1.0
            && call.pair.metric("ironcast_control_audit_lines_dropped").await >= 4.0
            && call.pair.metric("\"log_lines_failed\"").await >= 1.0
    })
    .await;
    assert_eq!(call.pair.metric("ironcast_control_panics_total").await, 0.0);
    assert_clean(&call.bob.stats(&call.seen));
    assert!(call.pair.dataplane_runs());
}

#[tokio::test]
async fn an_audit_that_cannot_be_written_is_said_once() {
    let pair = Pair::builder().set("control.audit_file", FULL).start().await;
    for number in 0..20 {
        pair.create_room(&format!("room-{number}")).await;
    }
    eventually("they are counted", || async {
        pair.metric("ironcast_control_audit_lines_dropped").await >= 20.0
    })
    .await;
    let said = pair.log("controlplane");
    assert_eq!(said.matches("audit entries are lost").count(), 1, "{said}");
    let entries = pair.call("GET", "/v1/audit?limit=100", Value::Null).await;
    assert!(entries.to_string().contains("room-19"), "memory has them: {entries}");
}

#[tokio::test]
async fn without_descriptors_the_control_plane_waits_for_some() {
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start(video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    let (pair, pid) = (&call.pair, call.pair.control_pid());
    // Descriptors that are closed meanwhile are taken by more connections.
    let taken = Mutex::new(Vec::new());
    eventually("it says so", || async {
        pair.limit_files(pid, next_file(pid));
        taken.lock().await.push(TcpStream::connect(pair.plain).await.expect("the kernel takes it"));
        pair.log("controlplane").contains("no connection can be accepted now")
    })
    .await;
    let control = Arc::clone(&pair.control);
    let body = json!({ "id": "late" });
    let asked =
        tokio::spawn(async move { control.request("POST", "/v1/routers", Some(body)).await });
    pair.limit_files(pid, 1_000);
    let answered = asked.await.expect("no panic").expect("an answer after all");
    assert_eq!(answered.0, 201);
    assert!(pair.metric("ironcast_control_accepts_failed").await >= 1.0);
    eventually("it says that this is over", || async {
        pair.log("controlplane").contains("connections are accepted again")
    })
    .await;
    let said = pair.log("controlplane");
    let count = said.matches("no connection can be accepted now").count();
    assert!(count < 10, "not each time:\n{said}");
    drop(taken);
    assert_clean(&call.bob.stats(&call.seen));
}

#[tokio::test]
async fn without_descriptors_the_dataplane_serves_who_is_there_and_others_later() {
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start(video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    let (pair, pid) = (&call.pair, call.pair.dataplane_pid());
    // One who asks on its socket is not let in, and carol gets no socket.
    let asking = Mutex::new(Vec::new());
    eventually("nobody is let in", || async {
        pair.limit_files(pid, next_file(pid));
        let mut asking = asking.lock().await;
        if asking.len() < 8 {
            asking.push(UnixStream::connect(pair.socket()).await.expect("the kernel takes it"));
        }
        pair.metric("\"control_accepts_failed\"").await >= 1.0
    })
    .await;
    let carol = async {
        let carol = pair.join_with("room", "carol", &good_network()).await;
        let seen = carol.consume(&call.video.id, &ConsumeOptions::default()).await;
        (carol, seen.expect("her consumer"))
    };
    let enough = async {
        eventually("it is counted", || async { pair.metric("socket_refused\"").await >= 1.0 })
            .await;
        pair.limit_files(pid, 1_000);
    };
    let ((carol, seen), ()) = tokio::join!(carol, enough);
    sees(&carol, &seen, "a picture after all", |stats| stats.decodable_frames >= 15).await;
    drop(asking);
    assert_clean(&call.bob.stats(&call.seen));
}
