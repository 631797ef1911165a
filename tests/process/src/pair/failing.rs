//! What is done to the processes, and taken from them.

use std::{
    fs::{self, File},
    net::SocketAddr,
    process::{Child, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use ironcast_load::http::PlainHttp;

use super::{Pair, binary_dir, exit, send};
use crate::{LIMIT, eventually, ports};

/// One more control plane on the same dataplane. It is killed when this is dropped.
pub struct OtherControl {
    child: Child,
    /// Health, readiness, metrics.
    pub ops: PlainHttp,
    /// The API's plain door.
    pub control: Arc<PlainHttp>,
}

impl Drop for OtherControl {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A process that did not start.
#[derive(Debug)]
pub struct Refusal {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote, both to standard output and to standard error.
    pub said: String,
}

impl Pair {
    /// Kills the dataplane without a word (SIGKILL).
    pub fn kill_dataplane(&mut self) {
        let mut child = self.dataplane.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Starts the dataplane under the control plane that waits for it. Gives how long it took until
    /// rooms can be made.
    pub async fn start_dataplane_again(&mut self) -> Duration {
        let begun = Instant::now();
        self.dataplane = Some(self.spawn("dataplane"));
        self.control_is_ready().await;
        begun.elapsed()
    }

    /// Waits until the control plane is ready.
    pub async fn control_is_ready(&self) {
        let ops = PlainHttp::new(self.ops);
        eventually("the control plane is ready", || async {
            ops.send("GET", "/ready", &[], &[]).await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
    }

    /// Sends the control plane a signal, such as `STOP`.
    pub fn signal_control(&self, signal: &str) {
        send(signal, self.controlplane.as_ref().expect("it was started"));
    }

    /// Waits until the control plane has ended by itself.
    pub async fn control_exit(&mut self) -> ExitStatus {
        exit(self.controlplane.take().expect("it was started")).await
    }

    /// Starts another control plane on the same dataplane, on doors of its own: it fences this one.
    pub async fn start_another_control(&self) -> OtherControl {
        let [listen, plain, ops]: [SocketAddr; 3] = std::array::from_fn(|_| ports::loopback());
        let mut command = self.command("controlplane");
        for (key, address) in [("listen", listen), ("plain", plain), ("ops", ops)] {
            command.arg("--set").arg(format!("control.{key}={address}"));
        }
        let log = File::options().create(true).append(true).open(self.log_path("another"));
        let log = log.expect("a log can be written");
        let child = command.stdin(Stdio::null()).stderr(log).spawn().expect("it starts");
        let (ops, control) = (PlainHttp::new(ops), Arc::new(PlainHttp::new(plain)));
        let other = OtherControl { child, ops, control };
        eventually("the other control plane is ready", || async {
            other.ops.send("GET", "/ready", &[], &[]).await.is_ok_and(|answer| answer.status == 200)
        })
        .await;
        other
    }

    /// Lets a running process have so many descriptors (its hard limit stays).
    pub fn limit_files(&self, pid: u32, files: usize) {
        let status = std::process::Command::new("prlimit")
            .args(["--pid", &pid.to_string(), &format!("--nofile={files}:")])
            .status();
        assert!(status.expect("prlimit(1) is there").success());
    }

    /// Starts a process with this one's settings and some others, by a command that goes before it if
    /// one is given. It has to refuse to run.
    pub async fn refused_start(
        &self,
        name: &str,
        before: &[&str],
        others: &[(&str, &str)],
    ) -> Refusal {
        let log = self.log_path("refused");
        let file = File::create(&log).expect("a log can be written");
        let program = binary_dir().join(format!("ironcast-{name}"));
        let mut words = before.iter().map(|word| (*word).to_owned());
        let program = program.display().to_string();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = std::process::Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => std::process::Command::new(program),
        };
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        for (key, value) in others {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a descriptor")).stderr(file);
        let mut child = command.spawn().expect("it starts");
        let end = Instant::now() + LIMIT;
        let status = loop {
            match child.try_wait().expect("its status") {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        // One that runs after all is ended here.
        let _ = child.kill();
        let said = fs::read_to_string(log).expect("what it said");
        let status = status.unwrap_or_else(|| panic!("{name} was not refused, but said:\n{said}"));
        assert!(!status.success(), "{name} was not refused, but said:\n{said}");
        Refusal { status, said }
    }
}

/// The number that the next descriptor of a process would have.
#[must_use]
pub fn next_file(pid: u32) -> usize {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").flatten();
    let open: Vec<usize> =
        open.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).find(|number| !open.contains(number)).unwrap_or_default()
}
