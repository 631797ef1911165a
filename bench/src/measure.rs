//! One block of a run: a server is started, loaded until all receive, watched for a window, and
//! stopped. And the order of blocks: forward, then backward (ABBA), so that a drift of the machine
//! falls on all alike. Called by the scenarios.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;

use crate::{
    cpu,
    edge::{self, Between, Edge},
    interrupt,
    load::{Counts, Plan, Said, Target},
    servers::{LeftOut, Running, Server},
    topology::{Side, Topology},
};

/// Windows in which the host took away more are thrown out.
const STEAL_MAX: f64 = 0.02;
const JOIN_LIMIT: Duration = Duration::from_secs(180);
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// A window that was disturbed is measured again so often.
const WINDOW_TRIES: usize = 3;
/// A server from which nothing came for so long stood still.
const PAUSE_MAX_MS: u64 = 500;

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Times {
    /// After all receive, before the window.
    pub(crate) warm_up: Duration,
    /// What is measured.
    pub(crate) window: Duration,
}

/// What a window says.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct Window {
    /// Whose.
    pub(crate) server: &'static str,
    /// Streams that the load receives.
    pub(crate) consumers: usize,
    /// Length.
    pub(crate) seconds: f64,
    /// Processor time of all its processes, nanoseconds.
    pub(crate) cpu_ns: u64,
    /// Share of the window that its core worked.
    pub(crate) core_busy: f64,
    /// Share of the window that the load's core worked.
    pub(crate) load_core_busy: f64,
    /// Share of the window that the load's own process worked: near 1, it is the limit.
    pub(crate) load_busy: f64,
    /// Share that the host took away, the worse of both cores.
    pub(crate) steal: f64,
    /// True if too much was taken away: such a window counts for nothing.
    pub(crate) disturbed: bool,
    /// Why it is no result, if it is none: the server died, a worker of it was started again, or it
    /// stood still. Such a window counts for nothing.
    pub(crate) broken: Option<String>,
    /// Longest time in which nothing arrived.
    pub(crate) pause_ms: u64,
    /// Of our server: datagrams that left as whole frames (AF_XDP).
    pub(crate) xdp_datagrams: u64,
    /// Of our server: interfaces that failed under them.
    pub(crate) xdp_failures: u64,
    /// Resident memory of all its processes.
    pub(crate) resident_bytes: u64,
    /// Within the window.
    pub(crate) sent: u64,
    /// Within the window.
    pub(crate) received: u64,
    /// Of what was sent within the window, what never came, of each receiver and stream.
    pub(crate) lost: u64,
    /// Within the window.
    pub(crate) verified: u64,
    /// Within the window.
    pub(crate) corrupt: u64,
    /// Within the window.
    pub(crate) repeats: u64,
    /// Microseconds and how often.
    pub(crate) delay_us: Vec<(u64, u64)>,
}

impl Window {
    /// Whether figures are made of it.
    pub(crate) fn counts(&self) -> bool {
        !self.disturbed && self.broken.is_none()
    }

    /// CPU-seconds of the server's processes for a million received packets.
    pub(crate) fn cpu_s_per_million(&self) -> f64 {
        self.cpu_ns as f64 / 1e9 / (self.received as f64 / 1e6)
    }

    /// The same of its core's working time, the kernel's share outside the process included.
    pub(crate) fn core_s_per_million(&self) -> f64 {
        self.core_busy * self.seconds / (self.received as f64 / 1e6)
    }
}

/// Measures every server in `servers` in `blocks` rounds: forward, backward, forward, ... A peer
/// that fails is left out from then on, and returned with the reason.
pub(crate) fn run_blocks(
    topology: &Topology,
    servers: &[Server],
    plan: &dyn Fn(Target) -> Plan,
    times: Times,
    blocks: usize,
    progress: &ProgressBar,
) -> Result<(Vec<Window>, Vec<LeftOut>)> {
    let (mut windows, mut failed) = (Vec::<Window>::new(), Vec::<LeftOut>::new());
    for block in 0..blocks {
        let mut order = servers.to_vec();
        order.retain(|server| failed.iter().all(|one| one.server != server.name()));
        if block % 2 == 1 {
            order.reverse();
        }
        for server in order {
            let what = format!("{} ({} of {blocks})", server.name(), block + 1);
            match run_block(topology, server, plan, times, progress, &what) {
                Ok(window) => windows.push(window),
                // A load that a peer cannot carry says something of the peer, not of the run.
                Err(error) if server.is_peer() => {
                    interrupt::check()?;
                    windows.retain(|window| window.server != server.name());
                    failed.push(LeftOut { server: server.name(), why: format!("{error:#}") });
                }
                Err(error) => {
                    return Err(error.context(format!("measuring {}", server.name())));
                }
            }
        }
    }
    Ok((windows, failed))
}

/// One server, loaded and watched for one window.
pub(crate) fn run_block(
    topology: &Topology,
    server: Server,
    plan: &dyn Fn(Target) -> Plan,
    times: Times,
    progress: &ProgressBar,
    what: &str,
) -> Result<Window> {
    progress.set_message(format!("{what}: starting"));
    let mut running = server.start(topology)?;
    let mut load = LoadProcess::start(topology, &plan(running.target.clone()))?;
    load.wait_until_ready(|count, how| progress.set_message(format!("{what}: {count} {how}")))?;
    progress.inc(1);
    progress.set_message(format!("{what}: warming up"));
    interrupt::pause(times.warm_up)?;
    progress.inc(1);
    let mut window = None;
    for attempt in 1..=WINDOW_TRIES {
        progress.set_message(format!("{what}: measuring"));
        let measured = watch(topology, server, &mut running, &mut load, times.window)?;
        // What broke stays broken: another window of the same server says nothing.
        let is_last = !measured.disturbed || measured.broken.is_some();
        window = Some(measured);
        if is_last {
            break;
        }
        progress.set_message(format!("{what}: disturbed, attempt {attempt}"));
    }
    progress.inc(1);
    load.stop();
    window.context("no window")
}

/// A window of a load that runs.
pub(crate) fn watch(
    topology: &Topology,
    server: Server,
    running: &mut Running,
    load: &mut LoadProcess,
    length: Duration,
) -> Result<Window> {
    let pids = running.pids();
    let edge_before = server.is_ours().then(|| edge::read(&running.target)).transpose()?;
    let lost_before = load.settle()?;
    let cores = [topology.server_core, topology.load_core];
    let counts_before = load.counts()?;
    let cores_before = cores.map(cpu::core_ticks);
    let load_pid = [load.child.id()];
    let load_before = cpu::process_ns(&load_pid);
    let cpu_before = cpu::process_ns(&pids);
    let start = Instant::now();
    interrupt::pause(length)?;
    let cpu_after = cpu::process_ns(&pids);
    let load_after = cpu::process_ns(&load_pid);
    let cores_after = cores.map(cpu::core_ticks);
    let seconds = start.elapsed().as_secs_f64();
    let counts = load.counts()?;
    let lost = load.settle()?.saturating_sub(lost_before);
    let between = edge_before.map(|before| between(&before, running)).unwrap_or_default();
    let stood_still = (counts.pause_ms > PAUSE_MAX_MS)
        .then(|| format!("nothing came for {} ms", counts.pause_ms));
    let died = running.check().err().map(|error| format!("{error:#}"));
    let shares = [0, 1].map(|at| cpu::core_share(cores_before[at], cores_after[at]));
    let steal = shares[0].steal.max(shares[1].steal);
    Ok(Window {
        server: server.name(),
        consumers: load.consumers,
        seconds,
        cpu_ns: cpu_after.saturating_sub(cpu_before),
        core_busy: shares[0].busy,
        load_core_busy: shares[1].busy,
        load_busy: load_after.saturating_sub(load_before) as f64 / 1e9 / seconds,
        steal,
        disturbed: steal > STEAL_MAX,
        broken: died.or(between.broken).or(stood_still),
        pause_ms: counts.pause_ms,
        xdp_datagrams: between.xdp_datagrams,
        xdp_failures: between.xdp_failures,
        resident_bytes: cpu::resident_bytes(&pids),
        sent: counts.sent.saturating_sub(counts_before.sent),
        received: counts.received.saturating_sub(counts_before.received),
        lost,
        verified: counts.verified.saturating_sub(counts_before.verified),
        corrupt: counts.corrupt.saturating_sub(counts_before.corrupt),
        repeats: counts.repeats.saturating_sub(counts_before.repeats),
        delay_us: counts.delay_us,
    })
}

/// What our server says of the time since its first edge. One that does not answer is broken.
fn between(before: &Edge, running: &Running) -> Between {
    match edge::read(&running.target) {
        Ok(later) => before.until(&later),
        Err(error) => Between { broken: Some(format!("{error:#}")), ..Between::default() },
    }
}

/// Why nothing can be said from these windows.
pub(crate) fn no_result(windows: &[Window]) -> String {
    let why = windows.iter().find_map(|one| one.broken.as_deref());
    let why = why.unwrap_or("the host took the processor away");
    format!("no result: of {} windows none counts ({why})", windows.len())
}

/// Delays of several windows together.
pub(crate) fn merged_delay(windows: &[&Window]) -> Histogram<u64> {
    let mut all = Histogram::new_with_bounds(1, 60_000_000, 3).expect("allowed bounds");
    for (value, count) in windows.iter().flat_map(|window| &window.delay_us) {
        all.saturating_record_n(*value, *count);
    }
    all
}

/// The load's process and its lines.
pub(crate) struct LoadProcess {
    child: Child,
    commands: ChildStdin,
    said: mpsc::Receiver<Said>,
    consumers: usize,
}

impl Drop for LoadProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LoadProcess {
    /// Starts it; it begins to join at once.
    pub(crate) fn start(topology: &Topology, plan: &Plan) -> Result<Self> {
        let own = std::env::current_exe()?;
        let mut child = topology
            .command(Side::Load, &own.display().to_string())
            .arg("load")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("the load cannot be started")?;
        let output = child.stdout.take().context("its output")?;
        let mut commands = child.stdin.take().context("its input")?;
        writeln!(commands, "{}", serde_json::to_string(plan)?)?;
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Ok(what) = serde_json::from_str(&line) else { continue };
                if sender.send(what).is_err() {
                    return;
                }
            }
        });
        Ok(Self { child, commands, said, consumers: plan.consumers() })
    }

    /// Waits until all receive; `joined` hears how many there are and what they do.
    pub(crate) fn wait_until_ready(&mut self, mut joined: impl FnMut(usize, &str)) -> Result<()> {
        let mut progress = Instant::now();
        loop {
            let left = JOIN_LIMIT.saturating_sub(progress.elapsed());
            let said = interrupt::receive(&self.said, left);
            match said.context("the load does not get ready")? {
                Said::Joined(count) => joined(count, "joined"),
                Said::Subscribed(count) => joined(count, "subscribed"),
                Said::Ready => return Ok(()),
                Said::Failed(why) => bail!("the load failed: {why}"),
                _ => {}
            }
            progress = Instant::now();
        }
    }

    /// Counts up to now; delays since the last time.
    pub(crate) fn counts(&mut self) -> Result<Counts> {
        match self.ask("count", ANSWER_LIMIT)? {
            Said::Counts(counts) => Ok(*counts),
            other => bail!("not an answer: {other:?}"),
        }
    }

    /// Waits for what is under way; gives what never came, since the first time.
    pub(crate) fn settle(&mut self) -> Result<u64> {
        match self.ask("settle", ANSWER_LIMIT)? {
            Said::Lost(lost) => Ok(lost),
            other => bail!("not an answer: {other:?}"),
        }
    }

    /// A command and its answer.
    pub(crate) fn ask(&mut self, command: &str, limit: Duration) -> Result<Said> {
        writeln!(self.commands, "{command}")?;
        loop {
            let said = interrupt::receive(&self.said, limit);
            match said.context("the load does not answer: its core is full")? {
                Said::Failed(why) => bail!("the load failed: {why}"),
                Said::Joined(_) | Said::Subscribed(_) | Said::Ready => {}
                answer => return Ok(answer),
            }
        }
    }

    /// It says goodbye and ends.
    pub(crate) fn stop(mut self) {
        if writeln!(self.commands, "stop").is_ok() {
            // It says goodbye to the server, which is stopped next.
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(3) {
                if !matches!(self.child.try_wait(), Ok(None)) {
                    return;
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }
}
