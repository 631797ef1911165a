//! FFmpeg's process: in a group of its own, with the lowest priority, with a limit to what it may say
//! and to the time that it may take to die. Whoever drops it kills it.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

use super::sockets;

/// The last that it said is kept for whoever asks why it ended, bytes.
const SAID_BYTES_MAX: usize = 4 * 1024;

/// Longest line of its list.
const LINE_BYTES_MAX: usize = 1024;

/// Lines that may wait; it waits when they are not taken.
const LINES_MAX: usize = 64;

/// Everybody else first.
const NICE: i32 = 19;

/// Between two looks at whether it listens.
const LOOK: Duration = Duration::from_millis(10);

/// It may take so long to end by itself, and as long again after SIGTERM.
const DIE_TIME_MAX: Duration = Duration::from_secs(2);

/// It is behind, but goes on, where it says more often than this that it has written more.
const STALL_TIME: Duration = Duration::from_secs(2);

/// Why it does not run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FfmpegError {
    /// There is none.
    #[error("{0} is not installed")]
    Missing(String),
    /// It could not be started.
    #[error("FFmpeg could not be started: {0}")]
    Start(String),
    /// It ended.
    #[error("FFmpeg ended ({how}): {said}")]
    Ended {
        /// Code or signal.
        how: String,
        /// The last that it said.
        said: String,
    },
    /// It does not listen.
    #[error("FFmpeg did not listen in time")]
    Deaf,
}

impl FfmpegError {
    /// There was no room on the disk.
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Ended { said, .. } if said.contains("No space left on device"))
    }
}

/// Where a program is: as named, or in `PATH`.
pub fn find(program: &Path) -> Option<PathBuf> {
    let is_one = |path: &PathBuf| {
        path.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if program.components().count() > 1 {
        return Some(program.to_owned()).filter(is_one);
    }
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join(program)).find(is_one)
}

/// The last of what was said.
#[derive(Debug, Default)]
struct Said(Mutex<VecDeque<u8>>);

impl Said {
    fn add(&self, bytes: &[u8]) {
        let mut said = self.0.lock().expect("no panic inside");
        said.extend(bytes);
        let over = said.len().saturating_sub(SAID_BYTES_MAX);
        said.drain(..over);
    }

    fn text(&self) -> String {
        let said = self.0.lock().expect("no panic inside");
        let bytes: Vec<u8> = said.iter().copied().collect();
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

/// How to run one.
#[derive(Debug, Clone)]
pub struct Program {
    /// The program.
    pub path: PathBuf,
    /// The processors that it may use, as `taskset` reads them; any without.
    pub cpus: Option<String>,
}

impl Program {
    fn command(&self, words: &[String], folder: &Path) -> Command {
        let mut line: Vec<OsString> = vec![self.path.clone().into()];
        if let Some(cpus) = &self.cpus {
            line = ["taskset", "--cpu-list", cpus]
                .map(OsString::from)
                .into_iter()
                .chain(line)
                .collect();
        }
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).args(words).current_dir(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        command
    }

    /// Runs to its end within a time; gives how much it wrote, if its words ask it to tell its
    /// progress.
    pub async fn run(
        &self,
        words: &[String],
        folder: &Path,
        time: Duration,
    ) -> Result<Option<Duration>, FfmpegError> {
        let mut ffmpeg = self.start(words, folder)?;
        ffmpeg.stdin = None;
        let running = async {
            // Its lines end with it.
            while ffmpeg.lines.recv().await.is_some() {}
            ffmpeg.child.wait().await
        };
        match timeout(time, running).await {
            Ok(Ok(status)) if status.success() => Ok(ffmpeg.written()),
            Ok(status) => Err(ffmpeg.ended(status).await),
            Err(_) => {
                ffmpeg.stop().await;
                Err(FfmpegError::Ended { how: "too slow".to_owned(), said: ffmpeg.said.text() })
            }
        }
    }

    /// Starts it; what it reads and writes is relative to the folder.
    pub fn start(&self, words: &[String], folder: &Path) -> Result<Ffmpeg, FfmpegError> {
        let mut child =
            self.command(words, folder).spawn().map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => FfmpegError::Missing(self.path.display().to_string()),
                _ => FfmpegError::Start(error.to_string()),
            })?;
        let pid = child.id().and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(|| FfmpegError::Start("it has no number".to_owned()))?;
        // Its threads inherit it. To give way is always allowed.
        let _ = rustix::process::setpriority_pgrp(Some(pid), NICE);
        let said = Arc::new(Said::default());
        let (lines_in, lines) = mpsc::channel(LINES_MAX);
        let (written_in, written) = watch::channel(None);
        if let Some(errors) = child.stderr.take() {
            tokio::spawn(read_errors(errors, Arc::clone(&said)));
        }
        if let Some(list) = child.stdout.take() {
            tokio::spawn(read_lines(list, lines_in, written_in));
        }
        let stdin = child.stdin.take();
        Ok(Ffmpeg { pid, child, stdin, lines, written, said, is_over: false })
    }
}

async fn read_errors(mut from: impl AsyncRead + Unpin, said: Arc<Said>) {
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        said.add(&buffer[..count]);
    }
}

/// Its list, and between the lines of that its progress: of it only how much it has written.
async fn read_lines(
    mut from: impl AsyncRead + Unpin,
    lines: mpsc::Sender<String>,
    written: watch::Sender<Option<Duration>>,
) {
    let (mut buffer, mut line) = ([0; 1024], Vec::new());
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        for byte in &buffer[..count] {
            if *byte != b'\n' {
                // What is too long is none of ours.
                if line.len() < LINE_BYTES_MAX {
                    line.push(*byte);
                }
                continue;
            }
            let text = String::from_utf8_lossy(&std::mem::take(&mut line)).into_owned();
            let Some((name, value)) = progress(&text) else {
                if lines.send(text).await.is_err() {
                    return;
                }
                continue;
            };
            if let Some(us) = value.parse().ok().filter(|_| name == "out_time_us") {
                let now = Some(Duration::from_micros(us));
                // Said again without more is no progress.
                written.send_if_modified(|before| std::mem::replace(before, now) != now);
            }
        }
    }
}

/// Name and value of a line of `-progress`; names of files in a list have no `=`.
fn progress(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.trim().split_once('=')?;
    (!value.contains(',')).then_some((name, value))
}

/// What it did.
#[derive(Debug)]
pub enum Happening {
    /// It wrote a line of its list.
    Line(String),
    /// It ended.
    Ended(FfmpegError),
}

/// A running FFmpeg.
#[derive(Debug)]
pub struct Ffmpeg {
    pid: Pid,
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    written: watch::Receiver<Option<Duration>>,
    said: Arc<Said>,
    is_over: bool,
}

impl Ffmpeg {
    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw_nonzero().get()
    }

    /// Waits until it has bound all these UDP ports: then nothing that is sent there is lost.
    pub async fn listens(&mut self, ports: &[u16], time: Duration) -> Result<(), FfmpegError> {
        let end = Instant::now() + time;
        while !sockets::has_bound(self.pid(), ports) {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.ended(Ok(status)).await);
            }
            if Instant::now() > end {
                return Err(FfmpegError::Deaf);
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// How much it has written, as far as it has said.
    pub fn written(&self) -> Option<Duration> {
        *self.written.borrow()
    }

    /// Waits until it has written so much. On a host without time for it, it is behind: not longer
    /// than `time`, and not where it does not go on, or says nothing.
    pub async fn catches_up(&mut self, wanted: Duration, time: Duration) {
        let catching_up = async {
            while self.written.borrow_and_update().is_some_and(|written| written < wanted) {
                if !matches!(timeout(STALL_TIME, self.written.changed()).await, Ok(Ok(()))) {
                    break;
                }
            }
        };
        let _ = timeout(time, catching_up).await;
    }

    /// The next that happens. May be dropped and asked again.
    pub async fn next(&mut self) -> Happening {
        tokio::select! {
            biased;
            Some(line) = self.lines.recv() => Happening::Line(line),
            status = self.child.wait() => Happening::Ended(self.ended(status).await),
        }
    }

    async fn ended(&mut self, status: io::Result<ExitStatus>) -> FfmpegError {
        self.kill();
        // What it said last is on its way yet.
        sleep(LOOK).await;
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        FfmpegError::Ended { how, said: self.said.text() }
    }

    /// Asks it to finish its file, then tells it to, then kills it with its group. Gives the lines
    /// that it still wrote.
    pub async fn stop(&mut self) -> Vec<String> {
        let mut last = Vec::new();
        if let Some(mut stdin) = self.stdin.take() {
            let _ = stdin.write_all(b"q").await;
        }
        for signal in [Some(Signal::TERM), Some(Signal::KILL), None] {
            let dying = async {
                let mut gone = false;
                loop {
                    tokio::select! {
                        line = self.lines.recv() => match line {
                            Some(line) => last.push(line),
                            None => break,
                        },
                        _ = self.child.wait(), if !gone => gone = true,
                    }
                }
                let _ = self.child.wait().await;
            };
            if timeout(DIE_TIME_MAX, dying).await.is_ok() {
                break;
            }
            if let Some(signal) = signal {
                tracing::warn!(pid = self.pid(), ?signal, "FFmpeg does not end by itself");
                let _ = rustix::process::kill_process_group(self.pid, signal);
            }
        }
        self.kill();
        last
    }

    /// Nobody of its group is left.
    fn kill(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            let _ = rustix::process::kill_process_group(self.pid, Signal::KILL);
        }
    }
}

impl Drop for Ffmpeg {
    fn drop(&mut self) {
        self.kill();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell() -> Program {
        Program { path: "/bin/sh".into(), cpus: None }
    }

    fn words(script: &str) -> Vec<String> {
        ["-c", script].map(str::to_owned).to_vec()
    }

    fn is_there(pid: i32) -> bool {
        let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = state.rsplit(')').next().unwrap_or_default().trim_start();
        !after.is_empty() && !after.starts_with('Z')
    }

    #[tokio::test]
    async fn it_is_last_in_line_and_alone_in_its_group() {
        let mut one = shell().start(&words("echo ready; sleep 60"), Path::new("/")).unwrap();
        assert!(matches!(one.next().await, Happening::Line(line) if line == "ready"));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", one.pid())).unwrap();
        let fields: Vec<_> = stat.rsplit(") ").next().unwrap().split(' ').collect();
        assert_eq!(fields[2], one.pid().to_string(), "its group");
        assert_eq!(fields[16], "19", "its nice value");
        let pid = one.pid();
        drop(one);
        let gone = async {
            while is_there(pid) {
                sleep(LOOK).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok(), "dropped is killed");
    }

    #[tokio::test]
    async fn one_that_will_not_die_is_killed_with_its_children() {
        let script = "trap '' TERM; sleep 600 & echo $!; wait; wait; while :; do sleep 1; done";
        let mut one = shell().start(&words(script), Path::new("/")).unwrap();
        let Happening::Line(child) = one.next().await else { panic!("it says its child") };
        let (begun, child) = (Instant::now(), child.parse().unwrap());
        one.stop().await;
        assert!(begun.elapsed() < 4 * DIE_TIME_MAX);
        let gone = async {
            while is_there(one.pid()) || is_there(child) {
                sleep(LOOK).await;
            }
        };
        assert!(timeout(Duration::from_secs(10), gone).await.is_ok());
    }

    #[tokio::test]
    async fn how_it_ended_is_told_with_its_last_words() {
        let script = "yes long | head -c 100000 >&2; echo 'x: No space left on device' >&2; exit 3";
        let mut one = shell().start(&words(script), Path::new("/")).unwrap();
        let error = one.listens(&[1], Duration::from_secs(10)).await.unwrap_err();
        assert!(error.is_disk_full(), "{error}");
        assert!(error.to_string().len() < SAID_BYTES_MAX + 100);
        let missing = Program { path: "/no/such/ffmpeg".into(), cpus: None };
        let error = missing.start(&[], Path::new("/")).unwrap_err();
        assert_eq!(error, FfmpegError::Missing("/no/such/ffmpeg".to_owned()));
        assert_eq!(find(Path::new("/no/such/ffmpeg")), None);
        assert!(find(Path::new("sh")).is_some());
    }

    #[tokio::test]
    async fn one_that_is_behind_is_waited_for_while_it_goes_on() {
        let second = Duration::from_secs(1);
        let say = |us: u32| format!("echo frame=1; echo out_time_us={us}; echo progress=continue;");
        // It lists a segment in between; what it has to write is what it says at last.
        let script =
            format!("{} sleep 0.3; echo a.ts,0,1; {} sleep 60", say(500_000), say(2_000_000));
        let mut one = shell().start(&words(&script), Path::new("/")).unwrap();
        one.written.changed().await.unwrap();
        assert_eq!(one.written(), Some(second / 2));
        one.catches_up(2 * second, 60 * second).await;
        assert_eq!(one.written(), Some(2 * second));
        assert!(matches!(one.next().await, Happening::Line(line) if line == "a.ts,0,1"));
        // It stands still.
        assert!(timeout(30 * second, one.catches_up(3 * second, 60 * second)).await.is_ok());
        // It says the same again and again.
        let script = "while :; do echo out_time_us=1; sleep 0.1; done";
        let mut stuck = shell().start(&words(script), Path::new("/")).unwrap();
        stuck.written.changed().await.unwrap();
        assert!(timeout(30 * second, stuck.catches_up(second, 60 * second)).await.is_ok());
        // It never says anything.
        let mut mute = shell().start(&words("sleep 60"), Path::new("/")).unwrap();
        assert!(timeout(second, mute.catches_up(second, 60 * second)).await.is_ok());
        // It goes on, but far too slowly.
        let script = "i=0; while :; do i=$((i+1)); echo out_time_us=$i; sleep 0.1; done";
        let mut slow = shell().start(&words(script), Path::new("/")).unwrap();
        slow.written.changed().await.unwrap();
        assert!(timeout(30 * second, slow.catches_up(second, second)).await.is_ok());
    }

    #[tokio::test]
    async fn one_that_does_not_listen_is_not_waited_for() {
        let mut one = shell().start(&words("sleep 60"), Path::new("/")).unwrap();
        let error = one.listens(&[9], Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(error, FfmpegError::Deaf);
    }
}
