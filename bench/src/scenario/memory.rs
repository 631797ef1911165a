//! Scenario `memory`: what a participant costs in memory, the kernel's included: two transports, two
//! producers, and a consumer for each track of the others in his room. Joined and silent, then some
//! of them with media, then after all have left.

use std::{fmt::Write, fs, time::Duration};

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::CIPHER;
use crate::{
    cpu, fanout, interrupt, keep,
    load::{Plan, Rooms, Said},
    measure::LoadProcess,
    memory_group::MemoryGroup,
    servers::{Running, Server},
    stage::{self, Stage},
    topology::Topology,
};

/// People of a room: each receives the camera and the microphone of ten others.
const PEOPLE: usize = 11;

/// When memory is read after all have left: the allocator has given back what is free, then what
/// the control plane keeps for its callers (events, deleted ids: 60 s) is gone as well.
const LEFT_SECONDS: [u64; 2] = [15, 80];

/// Options of `memory`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Participants of each step.
    #[arg(long, value_delimiter = ',', default_values_t = [1_000, 4_000])]
    pub(crate) participants: Vec<usize>,
    /// Of them, so many get media, each all cameras and microphones of his room.
    #[arg(long, default_value_t = 55)]
    pub(crate) active: usize,
}

/// Bytes at one moment.
#[derive(Debug, Clone, Copy, serde::Serialize)]
struct Memory {
    /// Resident, of all processes of the server.
    processes: u64,
    /// The kernel's, for the server's processes; without control groups that of the whole machine,
    /// with the load's sockets: only differences count, and they are then an upper bound.
    kernel: u64,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(options.participants.len() * 5)?;
    let mut steps = Vec::new();
    for participants in &options.participants {
        let rooms = participants.div_ceil(PEOPLE).max(1);
        let active = options.active.div_ceil(PEOPLE).clamp(1, rooms);
        steps.push(step(&topology, rooms, active, &bar)?);
    }
    bar.finish_and_clear();
    println!("{}", table(&steps));
    let idle = |what: &str| {
        let points = steps.iter().filter_map(|one| {
            let more = one["idle"][what].as_f64()? - one["empty"][what].as_f64()?;
            Some((one["participants"].as_f64()?, more))
        });
        slope(&points.collect::<Vec<_>>())
    };
    // What media adds, for each of those who have it.
    let media = |what: &str| {
        let each = steps.iter().filter_map(|one| {
            let more = one["active"][what].as_f64()? - one["idle"][what].as_f64()?;
            Some(more / one["active_participants"].as_f64()?)
        });
        each.sum::<f64>() / steps.len().max(1) as f64
    };
    let sum = |of: &dyn Fn(&str) -> f64| {
        let (processes, kernel) = (of("processes"), of("kernel"));
        json!({ "processes": processes, "kernel": kernel, "sum": processes + kernel })
    };
    let line = json!({
        "scenario": "memory",
        "consumers": steps.last().map(|one| one["consumers"].clone()),
        "cipher": CIPHER,
        "topology": topology.name(),
        "bytes_per_participant_idle": sum(&idle),
        "bytes_per_participant_active": sum(&|what| idle(what) + media(what)),
        "steps": steps,
    });
    let both = steps.iter().any(|one| one["kernel_of_server_only"] == false);
    println!(
        "a participant: {} KB idle, {} KB active{}\n",
        kilobytes(&line["bytes_per_participant_idle"]["sum"]),
        kilobytes(&line["bytes_per_participant_active"]["sum"]),
        if both {
            " (with the kernel's memory for the load's side: no control groups)"
        } else {
            ""
        },
    );
    keep::keep(&line, &Vec::<Value>::new())?;
    Ok(line)
}

fn step(
    topology: &Topology,
    rooms: usize,
    active_rooms: usize,
    bar: &indicatif::ProgressBar,
) -> Result<Value> {
    let group = MemoryGroup::new();
    let running = Server::Ironcast.start(topology)?;
    let group = group.filter(|group| group.take_in(&running.pids()));
    settle()?;
    let empty = read(&running, group.as_ref());
    let rooms = Rooms {
        rooms,
        people: PEOPLE,
        cameras: PEOPLE,
        screens: 0,
        talkers: PEOPLE,
        large: 0,
        layers_bps: [40_000, 80_000, 160_000],
        silent: true,
    };
    let plan = Plan {
        target: running.target.clone(),
        receivers: 0,
        media: fanout::VIDEO,
        cipher: CIPHER.to_owned(),
        sample_period: 64,
        rooms: Some(rooms.clone()),
    };
    let mut load = LoadProcess::start(topology, &plan)?;
    let all = rooms.participants();
    load.wait_until_ready(|count, how| bar.set_message(format!("{count} of {all} {how}")))?;
    bar.inc(1);
    settle()?;
    let idle = read(&running, group.as_ref());
    bar.set_message("media");
    expect_done(load.ask(&format!("play {active_rooms}"), Duration::from_secs(60))?)?;
    interrupt::pause(Duration::from_secs(10))?;
    let active = read(&running, group.as_ref());
    bar.inc(1);
    bar.set_message("all leave");
    expect_done(load.ask("leave", Duration::from_secs(120))?)?;
    bar.inc(1);
    let [soon, later] = LEFT_SECONDS;
    bar.set_message(format!("all have left, waiting {later} s"));
    interrupt::pause(Duration::from_secs(soon))?;
    let left_soon = read(&running, group.as_ref());
    interrupt::pause(Duration::from_secs(later - soon))?;
    let left = read(&running, group.as_ref());
    bar.inc(1);
    load.stop();
    bar.inc(1);
    // Its processes first: a group can be removed only when it is empty.
    drop(running);
    let is_grouped = group.is_some();
    drop(group);
    Ok(json!({
        "participants": all,
        "active_participants": active_rooms * PEOPLE,
        "consumers": rooms.consumers(),
        "kernel_of_server_only": is_grouped,
        "empty": empty,
        "idle": idle,
        "active": active,
        "left_soon": left_soon,
        "left": left,
    }))
}

fn expect_done(said: Said) -> Result<()> {
    match said {
        Said::Done => Ok(()),
        other => bail!("not an answer: {other:?}"),
    }
}

fn settle() -> Result<()> {
    interrupt::pause(Duration::from_secs(2))
}

fn read(running: &Running, group: Option<&MemoryGroup>) -> Memory {
    let kernel = group.and_then(MemoryGroup::kernel_bytes).unwrap_or_else(kernel_of_machine);
    Memory { processes: cpu::resident_bytes(&running.pids()), kernel }
}

fn kernel_of_machine() -> u64 {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = |name: &str| -> u64 {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    };
    (kilobytes("Slab") + kilobytes("KernelStack") + kilobytes("Percpu")) * 1_024
}

/// Least squares.
fn slope(points: &[(f64, f64)]) -> f64 {
    if let [(x, y)] = points {
        return y / x;
    }
    let n = points.len().max(1) as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / n, b + y / n));
    let over: f64 = points.iter().map(|(px, py)| (px - x) * (py - y)).sum();
    let under: f64 = points.iter().map(|(px, _)| (px - x) * (px - x)).sum();
    if under > 0.0 { over / under } else { 0.0 }
}

fn kilobytes(bytes: &Value) -> String {
    format!("{:.0}", bytes.as_f64().unwrap_or(0.0) / 1_024.0)
}

fn table(steps: &[Value]) -> String {
    let [soon, later] = LEFT_SECONDS;
    let mut out = format!(
        "participants  consumers     empty      idle    active left {soon} s left {later} s   (MB, \
         processes + kernel)\n",
    );
    for one in steps {
        let _ = write!(out, "{:>12} {:>10}", one["participants"], one["consumers"]);
        for when in ["empty", "idle", "active", "left_soon", "left"] {
            let of = |what: &str| one[when][what].as_f64().unwrap_or(0.0) / 1_048_576.0;
            let _ = write!(out, " {:>4.0}+{:<4.0}", of("processes"), of("kernel"));
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope() {
        assert_eq!(slope(&[(1.0, 5.0), (2.0, 7.0), (4.0, 11.0)]), 2.0);
        assert_eq!(slope(&[(10.0, 40.0)]), 4.0);
        assert_eq!(slope(&[]), 0.0);
    }
}
