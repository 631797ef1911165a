//! The two processes and their life.

mod failing;
mod up;

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ironcast_load::{Control, ControlError, Participant, call::JoinOptions, http::PlainHttp};
use ironcast_protocol::{Command, Reply};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

pub use failing::{OtherControl, Refusal, next_file};

use crate::{
    Attachment, LIMIT, Signaling, eventually,
    hosts::{API_PORT, OPS_PORT, Place},
    ports,
};

const PORTS: u16 = 32;
const PLAIN_PORTS: u16 = 32;

/// What differs from the defaults.
#[derive(Debug, Default)]
pub struct PairBuilder {
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    without_control: bool,
    log: Option<PathBuf>,
    place: Option<Place>,
}

impl PairBuilder {
    /// A setting of the configuration: `section.key` and its value.
    #[must_use]
    pub fn set(mut self, key: &str, value: impl ToString) -> Self {
        self.settings.push((key.to_owned(), value.to_string()));
        self
    }

    /// A variable of the environment of both processes.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Only the dataplane is started: the test speaks to it by [`Attachment`].
    #[must_use]
    pub fn without_control(mut self) -> Self {
        self.without_control = true;
        self
    }

    /// Where both processes write their logs, such as `/dev/full`.
    #[must_use]
    pub fn log_to(mut self, path: impl Into<PathBuf>) -> Self {
        self.log = Some(path.into());
        self
    }

    /// In a network namespace; the API's plain door is a unix socket there.
    #[must_use]
    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place = Some(place);
        self
    }

    /// Starts them and waits until they are ready.
    pub async fn start(self) -> Pair {
        let without_control = self.without_control;
        let mut pair = self.prepare();
        pair.start_dataplane().await;
        if !without_control {
            pair.start_control().await;
        }
        pair
    }

    /// A folder and ports for them.
    fn prepare(self) -> Pair {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ironcast-test-{}-{number}", std::process::id());
        let state = std::env::temp_dir().join(name);
        fs::create_dir_all(&state).expect("a folder for the state");
        let first = ports::udp_range(PORTS + PLAIN_PORTS);
        let plain_first = first + PORTS;
        let (mut api, plain, mut ops) = (ports::loopback(), ports::loopback(), ports::loopback());
        let (mut door, mut control) = (plain.to_string(), PlainHttp::new(plain));
        if let Some(place) = &self.place {
            (api, ops) = ((place.address, API_PORT).into(), (place.address, OPS_PORT).into());
            let socket = state.join("door.sock");
            (door, control) = (format!("unix:{}", socket.display()), PlainHttp::unix(socket));
        }
        let listen = |address: SocketAddr| match &self.place {
            Some(_) => SocketAddr::from(([0, 0, 0, 0], address.port())),
            None => address,
        };
        let mut settings = vec![
            ("control.state_dir".to_owned(), state.display().to_string()),
            ("control.listen".to_owned(), listen(api).to_string()),
            ("control.plain".to_owned(), door),
            ("control.ops".to_owned(), listen(ops).to_string()),
            ("rtc.ports".to_owned(), format!("{first}-{}", first + PORTS - 1)),
            (
                "rtc.plain_ports".to_owned(),
                format!("{plain_first}-{}", plain_first + PLAIN_PORTS - 1),
            ),
            ("rtc.listen".to_owned(), "127.0.0.1".to_owned()),
            ("dataplane.workers".to_owned(), "1".to_owned()),
            ("dataplane.receive_buffers".to_owned(), "1024".to_owned()),
            ("dataplane.drain_s".to_owned(), "0".to_owned()),
            ("log.level".to_owned(), "info".to_owned()),
        ];
        settings.extend(self.settings);
        Pair {
            state,
            api,
            ops,
            plain,
            control: Arc::new(control),
            settings,
            environment: self.environment,
            log: self.log,
            place: self.place,
            dataplane: None,
            controlplane: None,
            up: None,
        }
    }
}

/// A running dataplane and control plane. Both are killed when this is dropped; what they wrote is
/// shown if the test failed.
pub struct Pair {
    state: PathBuf,
    /// The API's QUIC and TLS address.
    pub api: SocketAddr,
    /// Health, readiness, metrics.
    pub ops: SocketAddr,
    /// Address of the API's plain door.
    pub plain: SocketAddr,
    /// The API's plain door.
    pub control: Arc<PlainHttp>,
    settings: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    log: Option<PathBuf>,
    place: Option<Place>,
    dataplane: Option<Child>,
    controlplane: Option<Child>,
    /// `ironcast up`, where the processes are its own. They are killed with it.
    up: Option<Child>,
}

impl Drop for Pair {
    fn drop(&mut self) {
        let children = [self.controlplane.take(), self.dataplane.take(), self.up.take()];
        for mut child in children.into_iter().flatten() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            for name in ["dataplane", "controlplane"] {
                let log = fs::read_to_string(self.log_path(name)).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(60)..].join("\n");
                eprintln!("--- last lines of ironcast-{name} ---\n{tail}");
            }
        }
        let _ = fs::remove_dir_all(&self.state);
    }
}

impl Pair {
    /// With defaults.
    pub async fn start() -> Self {
        Self::builder().start().await
    }

    /// With other settings.
    #[must_use]
    pub fn builder() -> PairBuilder {
        PairBuilder::default()
    }

    /// Folder of sockets, certificates and logs.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The unix socket of the dataplane.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.state.join("dataplane.sock")
    }

    /// Process id of the dataplane.
    #[must_use]
    pub fn dataplane_pid(&self) -> u32 {
        self.dataplane.as_ref().expect("it was started").id()
    }

    /// Another value for the processes that are started from now on.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.settings.retain(|(name, _)| name != key);
        self.settings.push((key.to_owned(), value.to_string()));
    }

    /// Process id of the control plane.
    #[must_use]
    pub fn control_pid(&self) -> u32 {
        self.controlplane.as_ref().expect("it was started").id()
    }

    /// True while the control plane runs.
    pub fn control_runs(&mut self) -> bool {
        self.controlplane.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// True while the dataplane runs.
    pub fn dataplane_runs(&mut self) -> bool {
        self.dataplane.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    async fn start_dataplane(&mut self) {
        self.dataplane = Some(self.spawn("dataplane"));
        let socket = self.socket();
        eventually("the dataplane opens its socket", || async {
            tokio::net::UnixStream::connect(&socket).await.is_ok()
        })
        .await;
        eventually("the workers run", || async {
            let mut attachment = self.attach("the test's start").await;
            match attachment.command(&Command::Workers).await {
                Ok(Reply::Workers(workers)) => workers.iter().all(|worker| worker.running),
                _ => false,
            }
        })
        .await;
    }

    /// Starts the control plane (again) and waits until it is ready.
    pub async fn start_control(&mut self) {
        self.controlplane = Some(self.spawn("controlplane"));
        let ops = PlainHttp::new(self.ops);
        eventually("the control plane is ready", || async {
            matches!(ops.request("GET", "/ready", None).await, Ok((200, _)))
        })
        .await;
    }

    /// The same without waiting.
    pub fn start_control_unready(&mut self) {
        self.controlplane = Some(self.spawn("controlplane"));
    }

    /// The same where the host is being taken out of service: it is not ready, and says why.
    pub async fn start_control_draining(&mut self) {
        self.controlplane = Some(self.spawn("controlplane"));
        let ops = PlainHttp::new(self.ops);
        eventually("the control plane drains", || async {
            let answer = ops.send("GET", "/ready", &[], &[]).await;
            answer.is_ok_and(|answer| answer.json()["code"] == "draining")
        })
        .await;
    }

    /// Runs the operator's command with these processes' settings. Gives its exit code, what it wrote
    /// to standard output, and to standard error.
    pub async fn ironcast(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut command = tokio::process::Command::new(binary_dir().join("ironcast"));
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.expect("ironcast ends").expect("ironcast is built");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let code = output.status.code().expect("it ends by itself");
        (code, text(output.stdout), text(output.stderr))
    }

    /// Runs the operator's command on a pseudo-terminal of 80 by 24 until it has shown all of `wanted`,
    /// then presses `keys`. Gives its exit code, and everything that it wrote.
    pub async fn ironcast_on_terminal(
        &self,
        arguments: &str,
        wanted: &[&str],
        keys: &str,
    ) -> (i32, String) {
        let program = binary_dir().join("ironcast").display().to_string();
        let sets = self.settings.iter().map(|(key, value)| format!(" --set {key}={value}"));
        let sets: String = sets.collect();
        let line = format!("stty rows 24 cols 80; exec {program} {arguments}{sets}");
        let mut child = tokio::process::Command::new("script")
            .args(["-qfec", &line, "/dev/null"])
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("script(1) is there");
        let (mut stdin, mut stdout) =
            (child.stdin.take(), child.stdout.take().expect("its output"));
        let (mut shown, mut chunk) = (String::new(), [0; 4_096]);
        let watching = async {
            loop {
                let read = stdout.read(&mut chunk).await.expect("its output");
                if read == 0 {
                    return;
                }
                shown.push_str(&String::from_utf8_lossy(&chunk[..read]));
                if wanted.iter().all(|part| shown.contains(part))
                    && let Some(mut stdin) = stdin.take()
                {
                    stdin.write_all(keys.as_bytes()).await.expect("it reads keys");
                }
            }
        };
        if tokio::time::timeout(LIMIT, watching).await.is_err() {
            panic!("it does not show {wanted:?} and end, but:\n{shown}");
        }
        let status = tokio::time::timeout(LIMIT, child.wait()).await.expect("it ends");
        (status.expect("its status").code().expect("it ends by itself"), shown)
    }

    /// Starts a signaling service on this control plane, with a state folder of its own.
    pub async fn start_signaling(&self, name: &str) -> Signaling {
        let certificate = self.state.join("control-cert.pem").display().to_string();
        Signaling::start(self.state.join(name), self.api, &certificate, &[], &[]).await
    }

    /// The same with more settings of its own.
    pub async fn start_signaling_with(&self, name: &str, more: &[(&str, String)]) -> Signaling {
        let certificate = self.state.join("control-cert.pem").display().to_string();
        Signaling::start(self.state.join(name), self.api, &certificate, more, &[]).await
    }

    /// The same with other variables of the environment.
    pub async fn start_signaling_in(
        &self,
        name: &str,
        environment: &[(String, String)],
    ) -> Signaling {
        let certificate = self.state.join("control-cert.pem").display().to_string();
        Signaling::start(self.state.join(name), self.api, &certificate, &[], environment).await
    }

    /// Has the control plane read its configuration again, as a service manager does (SIGHUP).
    pub fn hang_up_control(&self) {
        let pid = self.controlplane.as_ref().expect("it runs").id().to_string();
        let sent = std::process::Command::new("kill").args(["-HUP", &pid]).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Kills the control plane without a word (SIGKILL).
    pub fn kill_control(&mut self) {
        let mut child = self.controlplane.take().expect("it runs");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
    }

    /// Ends the dataplane as a service manager does (SIGTERM), and waits for it.
    pub async fn end_dataplane(&mut self) -> ExitStatus {
        self.signal_dataplane("TERM");
        self.dataplane_exit().await
    }

    /// Sends the dataplane a signal, such as `TERM`.
    pub fn signal_dataplane(&self, signal: &str) {
        send(signal, self.dataplane.as_ref().expect("it was started"));
    }

    /// Waits until the dataplane has ended by itself.
    pub async fn dataplane_exit(&mut self) -> ExitStatus {
        exit(self.dataplane.take().expect("it was started")).await
    }

    /// Ends the control plane as a service manager does, and waits for it.
    pub async fn end_control(&mut self) -> ExitStatus {
        let child = self.controlplane.take().expect("it was started");
        send("TERM", &child);
        exit(child).await
    }

    fn command(&self, name: &str) -> std::process::Command {
        let program = binary_dir().join(format!("ironcast-{name}"));
        let mut command = match &self.place {
            None => std::process::Command::new(program),
            Some(place) => {
                // It becomes the program: to be signalled like any other.
                let mut command = std::process::Command::new("ip");
                command.args(["netns", "exec", &place.namespace]).arg(program);
                command
            }
        };
        for (key, value) in &self.settings {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        command.envs(self.environment.iter().cloned());
        command
    }

    fn spawn(&self, name: &str) -> Child {
        let binary = binary_dir().join(format!("ironcast-{name}"));
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log.clone().unwrap_or_else(|| self.log_path(name)))
            .expect("a log can be written");
        self.command(name)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| {
                panic!(
                    "{} cannot be started ({error}): build it with \
                     `cargo build --release -p ironcast-{name}`, or name its folder by \
                     IRONCAST_BIN_DIR",
                    binary.display()
                )
            })
    }

    /// Starts another dataplane with this one's settings and some others, which has to refuse to run.
    /// Gives what it says.
    pub async fn refused_dataplane(&self, others: &[(&str, &str)]) -> String {
        self.refused_start("dataplane", &[], others).await.said
    }

    fn log_path(&self, name: &str) -> PathBuf {
        self.state.join(format!("{name}.log"))
    }

    /// What a process has written so far: `dataplane` or `controlplane`.
    #[must_use]
    pub fn log(&self, name: &str) -> String {
        fs::read_to_string(self.log_path(name)).unwrap_or_default()
    }

    /// Attaches to the dataplane beside (and instead of) the control plane.
    pub async fn attach(&self, controller: &str) -> Attachment {
        Attachment::open(&self.socket(), controller).await.expect("the dataplane takes us")
    }

    /// One call of the API that has to succeed.
    pub async fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let body = (!body.is_null()).then_some(body);
        match self.control.call(method, path, body).await {
            Ok(answer) => answer,
            Err(error) => panic!("{error}"),
        }
    }

    /// One call of the API that has to be refused: gives status and `code`.
    pub async fn refused(&self, method: &str, path: &str, body: Value) -> (u16, String) {
        let body = (!body.is_null()).then_some(body);
        match self.control.call(method, path, body).await {
            Ok(answer) => panic!("{method} {path} was not refused: {answer}"),
            Err(ControlError::Refused { status, problem, .. }) => {
                (status, problem["code"].as_str().unwrap_or_default().to_owned())
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Makes a room with the default codecs.
    pub async fn create_room(&self, id: &str) {
        self.call("POST", "/v1/routers", json!({ "id": id })).await;
    }

    /// Joins a room with default options.
    pub async fn join(&self, room: &str, name: &str) -> Participant<PlainHttp> {
        self.join_with(room, name, &JoinOptions::default()).await
    }

    /// Joins a room.
    pub async fn join_with(
        &self,
        room: &str,
        name: &str,
        options: &JoinOptions,
    ) -> Participant<PlainHttp> {
        match Participant::join(&self.control, room, name, options).await {
            Ok(participant) => participant,
            Err(error) => panic!("{name} cannot join: {error}"),
        }
    }

    /// The metrics as text.
    pub async fn metrics(&self) -> String {
        let ops = PlainHttp::new(self.ops);
        ops.send("GET", "/metrics", &[], &[]).await.expect("metrics are served").text()
    }

    /// The sum of all samples of the metrics whose name or labels contain `what`.
    pub async fn metric(&self, what: &str) -> f64 {
        self.metrics()
            .await
            .lines()
            .filter(|line| !line.starts_with('#') && line.contains(what))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }
}

fn send(signal: &str, child: &Child) {
    let (signal, pid) = (format!("-{signal}"), child.id().to_string());
    let sent = std::process::Command::new("kill").args([&signal, &pid]).status();
    assert!(sent.expect("kill runs").success());
}

async fn exit(mut child: Child) -> ExitStatus {
    for _ in 0..LIMIT.as_millis() / 20 {
        if let Some(status) = child.try_wait().expect("its status") {
            return status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let _ = child.kill();
    panic!("it does not end");
}

/// Where the binaries are.
pub(crate) fn binary_dir() -> PathBuf {
    match std::env::var_os("IRONCAST_BIN_DIR") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/release"),
    }
}
