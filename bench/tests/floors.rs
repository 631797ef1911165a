//! The bench's own binary with the floors alone: what it prints, what it says of a server that
//! fails, and what it leaves behind.

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

fn bench() -> Command {
    bench_of("reflector-sendmmsg,reflector-segmented", 2)
}

fn bench_of(servers: &str, blocks: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ironcast-bench"));
    command
        .args(["--results", env!("CARGO_TARGET_TMPDIR")])
        .args(["fanout", "--loopback", "-n", "8", "--blocks", &blocks.to_string()])
        .args(["--peers", "none", "--only", servers]);
    command
}

#[test]
fn the_last_line_is_one_object_with_the_floors() {
    let output = bench()
        .args(["--window", "1", "--warm-up", "0.2", "--sample-period", "4"])
        .output()
        .expect("the bench starts");
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words}");
    assert!(words.contains("LOOPBACK"), "loopback is said loudly: {words}");
    let text = String::from_utf8(output.stdout).expect("text");
    let last: Value = serde_json::from_str(text.lines().last().expect("a line")).expect("JSON");
    assert_eq!((&last["scenario"], &last["consumers"]), (&"fanout".into(), &8.into()));
    assert_eq!(last["topology"], "loopback");
    for (server, floor) in [
        ("reflector-sendmmsg", "floor_cpu_s_per_million"),
        ("reflector-segmented", "floor_gso_cpu_s_per_million"),
    ] {
        let peer = &last["peers"][server];
        assert_eq!(peer["cpu_s_per_million"], last[floor]);
        assert!(peer["cpu_s_per_million"].as_f64().is_some_and(|cost| cost > 0.0), "{peer}");
        let count = |name: &str| peer[name].as_u64().expect("a count");
        assert!(count("received") > 1_000 && count("verified") > 200, "{peer}");
        assert_eq!(count("corrupt"), 0, "{peer}");
        assert!(peer["delay_us"]["p99"].as_u64() >= peer["delay_us"]["p50"].as_u64());
    }
    assert!(last.get("cpu_s_per_million").is_none(), "ours did not run");
}

/// The floor with a fault from its third second on: its output, and whether there was a result.
fn faulty(fault: &str) -> (String, Option<Value>) {
    let output = bench_of("reflector-sendmmsg", 1)
        .args(["--window", "4", "--warm-up", "0.2"])
        .env("IRONCAST_BENCH_FAULT", fault)
        .output()
        .expect("the bench starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
    assert_eq!(output.status.success(), last.is_some(), "{text}");
    (text + &String::from_utf8_lossy(&output.stderr), last)
}

/// What of all packets that were to come was lost.
fn share_lost(last: &Value) -> f64 {
    let peer = &last["peers"]["reflector-sendmmsg"];
    let count = |name: &str| peer[name].as_f64().expect("a count");
    count("lost") / (count("lost") + count("received"))
}

#[test]
fn what_never_comes_is_lost() {
    let (text, last) = faulty("drop");
    let last = last.unwrap_or_else(|| panic!("a result: {text}"));
    assert!(share_lost(&last) > 0.2, "nine of ten frames in half of the window: {text}");
    // One of eight gets nothing any more: he has no gap, and no number that could show one.
    let (text, last) = faulty("forget");
    let last = last.unwrap_or_else(|| panic!("a result: {text}"));
    let share = share_lost(&last);
    assert!(share > 0.02 && share < 0.2, "{share}: {text}");
}

#[test]
fn a_window_in_which_the_server_stands_still_or_dies_is_no_result() {
    let (text, last) = faulty("stall");
    assert!(last.is_none() && text.contains("no result: nothing came for"), "{text}");
    let (text, last) = faulty("die");
    assert!(last.is_none() && text.contains("a process of the server has ended"), "{text}");
}

/// Processes whose parent this is.
fn children(of: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    processes
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            // Behind the name in parentheses: the state, then the parent.
            let fields = stat.rsplit(')').next().unwrap_or_default();
            fields.split_whitespace().nth(1) == Some(of.to_string().as_str())
        })
        .collect()
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !so() {
        assert!(start.elapsed() < Duration::from_secs(30), "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn an_interrupt_leaves_nothing_behind() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let mut running = bench()
            .args(["--window", "60"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the bench starts");
        let mut started = Vec::new();
        wait_until("the reflector and the load run", || {
            started = children(running.id());
            started.len() >= 2
        });
        kill(Pid::from_raw(running.id().cast_signed()), signal).expect("it runs");
        let status = running.wait().expect("it ends");
        assert!(!status.success(), "an interrupted run has no result");
        for pid in started {
            wait_until("its processes are gone", || {
                !std::fs::exists(format!("/proc/{pid}")).unwrap_or(false)
            });
        }
    }
}
