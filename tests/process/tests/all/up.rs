//! Under `ironcast up`: what is killed is started again, and the others go on.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use ironcast_load::{Control as _, VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};

use crate::common::{OneToOne, assert_clean};

/// What is wanted is a second; machines that run many tests at once are slow.
const BACK_MAX: Duration = Duration::from_secs(5);

async fn call_under_up() -> OneToOne {
    let pair = Pair::builder().start_up().await;
    let (video, consume) = (VideoOptions::default(), ConsumeOptions::default());
    let call = OneToOne::start_on(pair, video, &consume).await;
    call.bob_sees("a picture", |stats| stats.decodable_frames >= 15).await;
    call
}

/// Media went on without a gap, and goes on.
async fn was_undisturbed(call: &OneToOne) {
    let frames = call.bob.stats(&call.seen).decodable_frames;
    call.bob_sees("more", |stats| stats.decodable_frames > frames + 15).await;
    assert_clean(&call.bob.stats(&call.seen));
}

#[tokio::test]
async fn a_killed_control_plane_is_back_soon_and_knows_everything() {
    let call = call_under_up().await;
    let took = call.pair.kill_one("controlplane").await;
    eprintln!("the control plane was back {} ms after SIGKILL", took.as_millis());
    assert!(took < BACK_MAX, "{took:?}");
    let known = call.pair.call("GET", "/v1/snapshot", Value::Null).await.to_string();
    for id in ["room", &call.video.id, &call.seen.id] {
        assert!(known.contains(&format!("\"{id}\"")), "{id} is not known: {known}");
    }
    was_undisturbed(&call).await;
}

#[tokio::test]
async fn a_killed_dataplane_is_back_soon_and_its_rooms_are_told() {
    let pair = Pair::builder().start_up().await;
    let rooms: BTreeSet<String> = (0..3).map(|number| format!("room-{number}")).collect();
    for room in &rooms {
        pair.create_room(room).await;
    }
    let mut events = pair.control.events(None).await.expect("events");
    let begun = Instant::now();
    let took = pair.kill_one("dataplane").await;
    let telling = async {
        loop {
            let event = events.next().await.expect("the stream goes on");
            if event.event == "worker.died" {
                return event.data;
            }
        }
    };
    let told = tokio::time::timeout(LIMIT, telling).await.expect("it is told");
    eprintln!(
        "rooms could be made {} ms after SIGKILL, worker.died was read by {} ms",
        took.as_millis(),
        begun.elapsed().as_millis()
    );
    let died: Vec<String> = serde_json::from_value(told["routerIds"].clone()).expect("ids");
    assert_eq!(died.into_iter().collect::<BTreeSet<_>>(), rooms);
    assert!(took < BACK_MAX, "{took:?}");
    pair.create_room("new").await;
}

/// A group of processes with a limit of memory, of either version of cgroups.
struct MemoryGroup(PathBuf);

impl MemoryGroup {
    /// `None` where none can be made.
    fn new(bytes: u64) -> Option<Self> {
        let name = format!("ironcast-test-{}", std::process::id());
        let (folder, limit) = match Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
            true => (Path::new("/sys/fs/cgroup"), "memory.max"),
            false => (Path::new("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        };
        let group = Self(folder.join(name));
        fs::create_dir(&group.0).ok()?;
        fs::write(group.0.join(limit), bytes.to_string()).ok()?;
        Some(group)
    }

    /// What it takes from now on counts.
    fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("it runs");
    }

    /// How many of its processes the kernel has ended.
    fn kills(&self) -> u32 {
        let files = ["memory.events", "memory.oom_control"];
        let text = files.iter().find_map(|name| fs::read_to_string(self.0.join(name)).ok());
        let text = text.expect("its events");
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill "));
        line.and_then(|count| count.parse().ok()).expect("a number")
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[tokio::test]
async fn a_dataplane_that_reached_its_limit_of_memory_is_started_again() {
    let pair = Pair::builder().start_up().await;
    let Some(group) = MemoryGroup::new(4 << 20) else {
        eprintln!("not tried: no group with a limit of memory can be made here");
        return;
    };
    let before = pair.pid_of("dataplane").expect("it runs");
    group.take(before);
    for number in 0..200 {
        let room = format!("room-{number}");
        if pair.control.call("POST", "/v1/routers", Some(json!({ "id": room }))).await.is_err() {
            break;
        }
        let one = json!({ "method": "POST", "path": "/v1/transports",
            "body": { "routerId": room, "type": "webrtc" } });
        // Which of them is the last to be made, nobody knows.
        let _ =
            pair.control.call("POST", "/v1/batch", Some(json!({ "calls": vec![one; 50] }))).await;
        if group.kills() > 0 {
            break;
        }
    }
    eventually("the kernel has ended it", || async { group.kills() == 1 }).await;
    pair.is_another("dataplane", before).await;
    assert!(pair.log("up").contains("starting it again"), "it is said: {}", pair.log("up"));
    pair.create_room("new").await;
}

#[tokio::test]
async fn a_hang_up_is_passed_on_and_ends_nothing() {
    let pair = Pair::builder().start_up().await;
    let before = ["dataplane", "controlplane", "signaling"].map(|name| pair.pid_of(name));
    pair.signal_up("HUP");
    eventually("both have read it again", || async {
        pair.log("controlplane").contains("the configuration was read again")
            && pair.log("signaling").contains("the log's filter were read again")
    })
    .await;
    let after = ["dataplane", "controlplane", "signaling"].map(|name| pair.pid_of(name));
    assert!(before == after && !before.contains(&None), "{before:?} {after:?}");
    pair.create_room("room").await;
}
