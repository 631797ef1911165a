//! The processes under `ironcast up`, which starts them again when they end.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use ironcast_load::http::PlainHttp;

use super::{Pair, PairBuilder, binary_dir, send};
use crate::{eventually, ports};

impl PairBuilder {
    /// Starts them, with a signaling service, by `ironcast up`, and waits until they are ready.
    pub async fn start_up(self) -> Pair {
        let builder = self.set("signaling.listen", ports::loopback());
        let mut pair = builder.prepare();
        let log = File::create(pair.log_path("up")).expect("a log can be written");
        let mut command = Command::new(binary_dir().join("ironcast"));
        command.arg("up");
        for (key, value) in &pair.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(pair.environment.iter().cloned());
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a descriptor")).stderr(log);
        pair.up = Some(command.spawn().expect("ironcast is built"));
        eventually("ironcast up is ready", || async {
            pair.log("up").contains("Ironcast is ready")
        })
        .await;
        pair
    }
}

impl Pair {
    /// Process id of one of the processes under `ironcast up`, if it runs now: `dataplane`,
    /// `controlplane` or `signaling`.
    #[must_use]
    pub fn pid_of(&self, name: &str) -> Option<u32> {
        let parent = self.up.as_ref().expect("ironcast up runs").id().to_string();
        let program = format!("ironcast-{name}");
        let processes = fs::read_dir("/proc").expect("it is there").flatten();
        let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.find(|pid: &u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let is_ours =
                status.lines().any(|line| line.strip_prefix("PPid:\t") == Some(parent.as_str()));
            let path = fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
            is_ours && path.file_name() == Path::new(&program).file_name()
        })
    }

    /// Kills one of them without a word (SIGKILL), and waits until another one has taken its place and
    /// the control plane is ready. Gives how long that took.
    pub async fn kill_one(&self, name: &str) -> Duration {
        let before = self.pid_of(name).expect("it runs");
        let killed = Command::new("kill").args(["-KILL", &before.to_string()]).status();
        assert!(killed.expect("kill runs").success());
        let begun = Instant::now();
        self.is_another(name, before).await;
        begun.elapsed()
    }

    /// Waits until a process is another one than before and the control plane is ready.
    pub async fn is_another(&self, name: &str, before: u32) {
        eventually("another one has taken its place", || async {
            self.pid_of(name).is_some_and(|now| now != before)
        })
        .await;
        let ops = PlainHttp::new(self.ops);
        eventually("it is ready", || async {
            ops.send("GET", "/ready", &[], &[]).await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Sends `ironcast up` a signal, such as `HUP`.
    pub fn signal_up(&self, signal: &str) {
        send(signal, self.up.as_ref().expect("ironcast up runs"));
    }
}
