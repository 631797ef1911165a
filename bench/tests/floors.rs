//! The bench's own binary with the floors alone: what it prints, what it says of a server that
//! fails, and what it leaves behind.

use std::{
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// One run at a time: each wants the processors for itself.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

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

/// A run's last line, if there was a result, and all that was printed. Windows in which the host
/// took the processor away are thrown out, as they should be: then it is measured again.
fn measured(command: impl Fn() -> Command) -> (Option<Value>, String) {
    for _ in 0..10 {
        let output = command().output().expect("the bench starts");
        let text = String::from_utf8(output.stdout).expect("text");
        let last = text.lines().last().and_then(|line| serde_json::from_str(line).ok());
        let text = text + &String::from_utf8_lossy(&output.stderr);
        assert!(text.contains("LOOPBACK"), "loopback is said loudly: {text}");
        assert_eq!(output.status.success(), last.is_some(), "{text}");
        if !text.contains("disturbed windows (steal time) were thrown out") {
            return (last, text);
        }
    }
    panic!("the host takes the processor away again and again: nothing can be measured here");
}

#[test]
fn the_last_line_is_one_object_with_the_floors() {
    let _alone = alone();
    let (last, text) = measured(|| {
        let mut command = bench();
        command.args(["--window", "1", "--warm-up", "0.2", "--sample-period", "4"]);
        command
    });
    let last = last.unwrap_or_else(|| panic!("a result: {text}"));
    assert_eq!((&last["scenario"], &last["consumers"]), (&"fanout".into(), &8.into()));
    assert_eq!(last["topology"], "loopback");
    for (server, floor) in [
        ("reflector-sendmmsg", "floor_cpu_s_per_million"),
        ("reflector-segmented", "floor_gso_cpu_s_per_million"),
    ] {
        let peer = &last["peers"][server];
        assert_eq!(peer["cpu_s_per_million"], last[floor]);
        assert!(peer["cpu_s_per_million"].as_f64().is_some_and(|cost| cost > 0.0), "{text}");
        let count = |name: &str| peer[name].as_u64().expect("a count");
        assert!(count("received") > 1_000 && count("verified") > 200, "{peer}");
        assert_eq!(count("corrupt"), 0, "{peer}");
        assert!(peer["delay_us"]["p99"].as_u64() >= peer["delay_us"]["p50"].as_u64());
    }
    assert!(last.get("cpu_s_per_million").is_none(), "ours did not run");
}

/// The floor with a fault from its third second on.
fn faulty(fault: &str) -> (Option<Value>, String) {
    measured(|| {
        let mut command = bench_of("reflector-sendmmsg", 1);
        command.args(["--window", "4", "--warm-up", "0.2"]).env("IRONCAST_BENCH_FAULT", fault);
        command
    })
}

/// What of all packets that were to come was lost.
fn share_lost(last: &Value) -> f64 {
    let peer = &last["peers"]["reflector-sendmmsg"];
    let count = |name: &str| peer[name].as_f64().expect("a count");
    count("lost") / (count("lost") + count("received"))
}

#[test]
fn what_never_comes_is_lost() {
    let _alone = alone();
    let (last, text) = faulty("drop");
    let last = last.unwrap_or_else(|| panic!("a result: {text}"));
    assert!(share_lost(&last) > 0.2, "nine of ten frames in half of the window: {text}");
    // One of eight gets nothing any more: he has no gap, and no number that could show one.
    let (last, text) = faulty("forget");
    let last = last.unwrap_or_else(|| panic!("a result: {text}"));
    let share = share_lost(&last);
    assert!(share > 0.02 && share < 0.2, "{share}: {text}");
}

#[test]
fn a_window_in_which_the_server_stands_still_or_dies_is_no_result() {
    let _alone = alone();
    let (last, text) = faulty("stall");
    assert!(last.is_none() && text.contains("no result: nothing came for"), "{text}");
    let (last, text) = faulty("die");
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
    let _alone = alone();
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
