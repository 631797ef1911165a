//! Scenario `control`: what those who receive media notice of commands. Beside a running room, one of
//! many people is made, ends with everything in it, is made again, and the control plane is killed
//! and attaches anew to all that the dataplane has. The other room's delay is measured meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{CIPHER, quantiles, undisturbed};
use crate::{
    edge::{self, Inside},
    fanout, interrupt, keep,
    load::Said,
    measure::{LoadProcess, Window, merged_delay},
    servers::Running,
    stage::{self, Stage},
};

const CALL_LIMIT: Duration = Duration::from_secs(300);
/// Until the server's figures have all that was before.
pub(crate) const FIGURES: Duration = Duration::from_millis(1_500);
/// Between two looks at the server.
const LOOK: Duration = Duration::from_millis(20);

/// Options of `control`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers of the room that is measured.
    #[arg(long, default_value_t = 50)]
    pub(crate) receivers: usize,
    /// People of the large room: each takes the camera and the microphone of all others.
    #[arg(long, default_value_t = 100)]
    pub(crate) people: usize,
    /// Seconds of the window before.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) window: f64,
}

/// What happens beside the room that is measured.
#[derive(Debug, Clone, Copy)]
enum Step {
    Gather,
    End,
    GatherAgain,
    NewControlPlane,
}

impl Step {
    const ALL: [Self; 4] = [Self::Gather, Self::End, Self::GatherAgain, Self::NewControlPlane];

    fn name(self) -> &'static str {
        match self {
            Self::Gather => "a room is made",
            Self::End => "it ends",
            Self::GatherAgain => "it is made again",
            Self::NewControlPlane => "a new control plane",
        }
    }
}

/// A step that is done, and the delay meanwhile.
struct Done {
    step: Step,
    took: Duration,
    window: Window,
    inside: Inside,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(5)?;
    let length = Duration::from_secs_f64(options.window);
    let (mut running, mut load, before) =
        undisturbed(&topology, &bar, fanout::VIDEO, options.receivers, length)?;
    let own = edge::read(&running.target)?.consumers;
    let mut done = Vec::new();
    let mut consumers = 0;
    for step in Step::ALL {
        bar.inc(1);
        bar.set_message(step.name());
        // What was measured until now belongs to nothing.
        load.counts()?;
        let edge_before = edge::read(&running.target)?;
        let start = Instant::now();
        match step {
            Step::Gather => consumers = gather(&mut load, "crowd-1", options.people)?,
            Step::End => {
                let Said::Done = load.ask("end crowd-1", CALL_LIMIT)? else { bail!("no end") };
                wait_for_consumers(&running, own)?;
            }
            // A name that ended is free again only a minute after.
            Step::GatherAgain => consumers = gather(&mut load, "crowd-2", options.people)?,
            Step::NewControlPlane => {
                running.restart_control_plane(&topology)?;
                wait_for_consumers(&running, own + consumers as u64)?;
            }
        }
        let took = start.elapsed();
        let counts = load.counts()?;
        let window =
            Window { delay_us: counts.delay_us, pause_ms: counts.pause_ms, ..before.clone() };
        // The server tells its figures once a second.
        interrupt::pause(FIGURES)?;
        let inside = edge_before.inside(&edge::read(&running.target)?);
        done.push(Done { step, took, window, inside });
    }
    running.check()?;
    bar.finish_and_clear();
    load.stop();
    let line = line(options, topology.name(), consumers, &before, &done);
    let windows = std::iter::once(before).chain(done.into_iter().map(|done| done.window));
    keep::keep(&line, &windows.collect::<Vec<_>>())?;
    Ok(line)
}

/// A room of so many: how many sent tracks it has.
fn gather(load: &mut LoadProcess, room: &str, people: usize) -> Result<usize> {
    match load.ask(&format!("gather {room} {people}"), CALL_LIMIT)? {
        Said::Crowd(made) => Ok(made),
        said => bail!("not an answer: {said:?}"),
    }
}

/// Prints the table; gives the last line.
fn line(
    options: &Options,
    topology: &str,
    consumers: usize,
    before: &Window,
    done: &[Done],
) -> Value {
    println!(
        "{} receivers of a camera; beside them a room of {} with {consumers} consumers\n\n\
         {:<22} {:>9} {:>22} {:>14} {:>18} {:>18}",
        options.receivers,
        options.people,
        "",
        "took",
        "delay p50 p99 max us",
        "longest pause",
        "inside p99 max us",
        "inside over 2 ms"
    );
    let show = |name: &str, took: Duration, window: &Window, inside: Option<Inside>| {
        let delay = quantiles(&merged_delay(&[window]));
        let (p50, p99, max) = (&delay["p50"], &delay["p99"], &delay["max"]);
        let (took_ms, pause_ms) = (took.as_millis(), window.pause_ms);
        println!(
            "{name:<22} {took_ms:>6} ms {:>22} {pause_ms:>11} ms {:>18} {:>18}",
            format!("{p50} {p99} {max}"),
            inside.map(|it| format!("{} {}", it.p99_us, it.max_us)).unwrap_or_default(),
            inside.map(|it| format!("{} of {}", it.over_2_ms, it.datagrams)).unwrap_or_default(),
        );
        json!({
            "what": name,
            "took_ms": took_ms as u64,
            "delay_us": delay,
            "pause_ms": pause_ms,
            "inside": inside,
        })
    };
    let first = show("before", Duration::from_secs_f64(before.seconds), before, None);
    let rest =
        done.iter().map(|done| show(done.step.name(), done.took, &done.window, Some(done.inside)));
    let all: Vec<Value> = std::iter::once(first).chain(rest).collect();
    println!();
    json!({
        "scenario": "control",
        "consumers": options.receivers,
        "people": options.people,
        "crowd_consumers": consumers,
        "cipher": CIPHER,
        "topology": topology,
        "steps": all,
    })
}

/// Until the control plane knows so many.
fn wait_for_consumers(running: &Running, wanted: u64) -> Result<()> {
    let start = Instant::now();
    let mut last = None;
    while start.elapsed() < CALL_LIMIT {
        // A control plane that has just started does not answer yet.
        last = edge::read(&running.target).ok().map(|edge| edge.consumers);
        if last == Some(wanted) {
            return Ok(());
        }
        interrupt::pause(LOOK)?;
    }
    bail!("{wanted} consumers should be there, not {last:?}")
}
