//! One supervised process: started, watched, started again with growing pauses when it ends by
//! itself, and ended on demand. `up` owns three of them; each lives alone, so that one that crashes
//! never takes another along.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context;
use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};

use crate::probe::Probe;

const PAUSE_MIN: Duration = Duration::from_millis(250);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// One that ran for so long was healthy: its next end is a new story.
const HEALTHY: Duration = Duration::from_secs(30);
/// How long a service may take to end by itself.
const GRACE: Duration = Duration::from_millis(1_400);

/// What a service ends with when another one has taken its place: started again, the two would take
/// it from each other for ever.
const REPLACED: i32 = 3;

/// What is to run, and how it shows that it is ready.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    /// Short, for people.
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) log: PathBuf,
    pub(crate) probe: Probe,
}

impl Service {
    /// Starts the process in a group of its own, so that Ctrl-C in the terminal reaches only `up`,
    /// which then ends the three in order.
    pub(crate) fn start(&self) -> anyhow::Result<Child> {
        let own = std::env::current_exe().context("this program's own path")?;
        let log = self.open_log().with_context(|| format!("{}", self.log.display()))?;
        let child = Command::new(own)
            .args(["child", "--parent", &std::process::id().to_string(), "--"])
            .arg(&self.program)
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0)
            .spawn();
        child.with_context(|| format!("{} cannot be started", self.program.display()))
    }

    fn open_log(&self) -> io::Result<File> {
        OpenOptions::new().create(true).append(true).open(&self.log)
    }

    /// Asks until the service is ready, or says how it ended.
    pub(crate) async fn wait_until_ready(
        &self,
        child: &mut Child,
        patience: Duration,
    ) -> Result<(), NotReady> {
        let ready = async {
            while !self.probe.passes().await {
                sleep(Duration::from_millis(25)).await;
            }
        };
        tokio::select! {
            outcome = timeout(patience, ready) => outcome.map_err(|_| NotReady::Late),
            status = child.wait() => Err(NotReady::Ended(status.ok())),
        }
    }

    /// Watches over a running child until told to stop, then ends it. A hang-up is passed on: it
    /// reads its configuration again.
    pub(crate) async fn supervise(
        self,
        mut child: Child,
        mut stop: watch::Receiver<Stop>,
        mut hangups: watch::Receiver<()>,
    ) {
        let mut pause = PAUSE_MIN;
        let mut started = Instant::now();
        loop {
            tokio::select! {
                status = child.wait() => {
                    let status = status.ok();
                    if status.and_then(|status| status.code()) == Some(REPLACED) {
                        println!("{}: another one has taken its place; it stays ended", self.name);
                        return told(&mut stop).await;
                    }
                    let ended = describe(status);
                    println!("{} {ended}; starting it again. Log: {}", self.name, self.log.display());
                }
                // Nobody else can tell when there is nobody left.
                Ok(()) = hangups.changed() => {
                    signal(&child, Signal::SIGHUP);
                    continue;
                }
                () = told(&mut stop) => {
                    if *stop.borrow() == Stop::Patiently {
                        signal(&child, Signal::SIGTERM);
                        let at_once = stop.wait_for(|stop| *stop == Stop::AtOnce);
                        tokio::select! {
                            _ = child.wait() => return,
                            // Nobody is left to say so: it goes on as it was told.
                            told = at_once => drop(told),
                        }
                    }
                    return end(&mut child).await;
                }
            }
            if started.elapsed() > HEALTHY {
                pause = PAUSE_MIN;
            }
            child = loop {
                tokio::select! {
                    () = sleep(pause) => {}
                    () = told(&mut stop) => return,
                }
                pause = (pause * 2).min(PAUSE_MAX);
                started = Instant::now();
                match self.start() {
                    Ok(child) => break child,
                    Err(error) => println!("{}: {error:#}", self.name),
                }
            };
        }
    }

    /// The end of the log, for an operator who must know why.
    pub(crate) fn log_tail(&self, lines: usize) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let all: Vec<&str> = text.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }
}

/// Why a service is not ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    Late,
    Ended(Option<ExitStatus>),
}

impl NotReady {
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Late => "does not get ready".into(),
            Self::Ended(status) => describe(*status),
        }
    }
}

fn describe(status: Option<ExitStatus>) -> String {
    let Some(status) = status else { return "ended".into() };
    if status.signal() == Some(Signal::SIGKILL as i32) {
        return format!(
            "was killed ({status}); the kernel does so where memory runs out: see dmesg"
        );
    }
    format!("ended ({status})")
}

/// How a service is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Not yet.
    Not,
    /// It may wait for what it has to wait for.
    Patiently,
    /// Now.
    AtOnce,
}

/// Also when nobody is left to tell.
async fn told(stop: &mut watch::Receiver<Stop>) {
    stop.wait_for(|stop| *stop != Stop::Not).await.ok();
}

/// Asks politely, in the form in which the dataplane does not wait for its rooms, then insists.
pub(crate) async fn end(child: &mut Child) {
    signal(child, Signal::SIGINT);
    if timeout(GRACE, child.wait()).await.is_err() {
        signal(child, Signal::SIGKILL);
        // A killed process always ends; if its wait fails there is nobody left to wait for.
        child.wait().await.ok();
    }
}

fn signal(child: &Child, signal: Signal) {
    // Without an id the child was already waited for.
    let Some(id) = child.id().and_then(|id| i32::try_from(id).ok()) else { return };
    // It may have ended between the two lines: then there is nothing to do.
    killpg(Pid::from_raw(id), signal).ok();
}

/// Whether a file is one of ours to start.
pub(crate) fn exists(program: &Path) -> bool {
    program.is_file()
}
