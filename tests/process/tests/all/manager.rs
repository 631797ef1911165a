//! What the processes tell a service manager: ready, alive as long as what has to move moves, and
//! that they end.

use std::time::Duration;

use ironcast_process_tests::{Manager, Pair, PairBuilder, eventually};
use ironcast_protocol::{Command, command::CreateRouter};

/// Idle workers turn once a second: half of this is enough for them on a slow machine too.
const WATCHDOG: Duration = Duration::from_secs(8);

fn manager(name: &str) -> Manager {
    let name = format!("ironcast-manager-{name}-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let _ = std::fs::remove_file(&path);
    Manager::listen(&path)
}

fn told_to(manager: &Manager) -> PairBuilder {
    let environment = manager.environment(WATCHDOG);
    environment.iter().fold(Pair::builder(), |builder, (name, value)| builder.env(name, value))
}

#[tokio::test]
async fn a_dataplane_is_ready_alive_and_then_ends() {
    let mut manager = manager("dataplane");
    let mut pair = told_to(&manager).set("dataplane.workers", 2).without_control().start().await;
    manager.wait_for("READY=1", 1);
    let status = "STATUS=2 workers, ";
    assert!(manager.told().iter().any(|line| line.starts_with(status)), "{:?}", manager.told());
    manager.wait_for("WATCHDOG=1", 3);
    assert!(!manager.told().iter().any(|line| line == "STOPPING=1"));
    assert!(pair.end_dataplane().await.success());
    manager.wait_for("STOPPING=1", 1);
    assert_eq!(manager.told().iter().filter(|line| *line == "READY=1").count(), 1);
}

#[tokio::test]
async fn a_worker_that_is_stuck_ends_the_signs_of_life() {
    let mut manager = manager("stuck");
    let builder = told_to(&manager).env("IRONCAST_TEST_HOOKS", "1");
    let pair = builder.without_control().start().await;
    manager.wait_for("WATCHDOG=1", 1);
    let mut us = pair.attach("us").await;
    let room = CreateRouter {
        id: "__stuck".to_owned(),
        worker: 0,
        selection: Default::default(),
        note: Vec::new(),
    };
    let stuck = Command::CreateRouter(room);
    let answer = us.command(&stuck);
    let noticed = eventually("it is noticed", || async {
        pair.log("dataplane").contains("worker 0 is stuck")
    });
    // The hub answers in its place.
    let (answer, ()) = tokio::join!(answer, noticed);
    assert!(answer.is_err(), "the worker is not stuck: {answer:?}");
    manager.forget();
    let looks = || pair.log("dataplane").matches("worker 0 is stuck").count();
    let before = looks();
    eventually("it is looked at again", || async { looks() > before }).await;
    assert!(manager.told().is_empty(), "{:?}", manager.told());
}

/// The dataplane has the same socket here: what the control plane says is known by its words.
#[tokio::test]
async fn a_control_plane_is_ready_and_says_when_it_is_attached() {
    let mut manager = manager("control");
    let mut pair = told_to(&manager).start().await;
    manager.wait_for("STATUS=attached to the dataplane", 1);
    manager.wait_for("READY=1", 2);
    assert!(pair.end_dataplane().await.success());
    manager.wait_for("STOPPING=1", 1);
    manager.forget();
    manager.wait_for("WATCHDOG=1", 2);
    assert!(pair.end_control().await.success());
    manager.wait_for("STOPPING=1", 1);
}

#[tokio::test]
async fn signaling_is_ready_and_says_when_the_media_server_is_there() {
    let mut manager = manager("signaling");
    let pair = Pair::start().await;
    let mut signaling = pair.start_signaling_in("signaling", &manager.environment(WATCHDOG)).await;
    manager.wait_for("READY=1", 1);
    manager.wait_for("STATUS=the media server is there", 1);
    manager.wait_for("WATCHDOG=1", 2);
    assert!(signaling.terminate().await.success());
    manager.wait_for("STOPPING=1", 1);
}
