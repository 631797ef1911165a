//! Scenario `calls`: whole calls of several sizes, through our signaling service as browsers come:
//! how long a newcomer waits until he sees and hears everybody, how late packets are, and what a
//! participant costs in processor time and memory, signaling included. Beside it stand the figures
//! that the service was designed for.

use std::{fmt::Write, time::Duration};

use anyhow::{Result, bail, ensure};
use serde_json::{Value, json};

use super::{CIPHER, quantiles, spread};
use crate::{
    cpu, fanout, interrupt, keep,
    load::{Plan, Rooms, Said},
    measure::{LoadProcess, Window, merged_delay, no_result, watch},
    servers::Server,
    stage::{self, Stage},
    topology::Topology,
};

/// What a call was designed for.
const CONNECTED_MS: f64 = 1_500.0;
const DELAY_P50_MS: f64 = 80.0;
const DELAY_P99_MS: f64 = 150.0;
const MEGABYTES: f64 = 60.0;

const WARM_UP: Duration = Duration::from_secs(3);
const ARRIVAL_LIMIT: Duration = Duration::from_secs(300);

/// Options of `calls`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// People of a call, one size after the other.
    #[arg(long, value_delimiter = ',', default_values_t = [3, 10, 25, 50])]
    pub(crate) people: Vec<usize>,
    /// Calls at once.
    #[arg(long, default_value_t = 1)]
    pub(crate) calls: usize,
    /// Of each call at most so many have their camera on; the others watch. As many as the load's
    /// core carries.
    #[arg(long, default_value_t = 50)]
    pub(crate) cameras: usize,
    /// Of those so many send their screen as well.
    #[arg(long, default_value_t = 0)]
    pub(crate) screens: usize,
    /// Of each call so many talk; the other microphones are silent.
    #[arg(long, default_value_t = 2)]
    pub(crate) talkers: usize,
    /// Kilobits a second of the layers, lowest first. Everybody sees the lowest one of each other
    /// and the highest one of one.
    #[arg(long, value_delimiter = ',', default_values_t = [40, 120, 360])]
    pub(crate) layers: Vec<u64>,
    /// Newcomers whose way in is measured, one after the other.
    #[arg(long, default_value_t = 20)]
    pub(crate) newcomers: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) window: f64,
}

impl Options {
    fn rooms(&self, people: usize) -> Result<Rooms> {
        let layers_bps: Result<[u64; 3], _> = self.layers.clone().try_into();
        let layers_bps = layers_bps.map_err(|_| anyhow::anyhow!("--layers takes three rates"))?;
        ensure!(people >= 2 && self.calls >= 1, "a call has people");
        let cameras = self.cameras.min(people);
        Ok(Rooms {
            rooms: self.calls,
            people,
            cameras,
            screens: self.screens.min(cameras),
            talkers: self.talkers,
            large: 1,
            layers_bps: layers_bps.map(|kbps| kbps * 1_000),
            silent: false,
        })
    }
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(options.people.len() * 3)?;
    let (mut points, mut windows) = (Vec::new(), Vec::new());
    for &people in &options.people {
        let rooms = options.rooms(people)?;
        let (point, window) = size(&topology, options, &rooms, &bar)?;
        points.push(point);
        windows.push(window);
    }
    bar.finish_and_clear();
    println!("{}", table(&points));
    let line = json!({
        "scenario": "calls",
        "consumers": points.last().map(|one| one["streams"].clone()),
        "cipher": CIPHER,
        "topology": topology.name(),
        "points": points,
    });
    keep::keep(&line, &windows)?;
    Ok(line)
}

/// Calls of one size.
fn size(
    topology: &Topology,
    options: &Options,
    rooms: &Rooms,
    bar: &indicatif::ProgressBar,
) -> Result<(Value, Window)> {
    let server = Server::IroncastSignaling;
    let (people, all) = (rooms.people, rooms.participants());
    let mut running = server.start(topology)?;
    let pids = running.pids();
    let plan = Plan {
        target: running.target.clone(),
        receivers: 0,
        media: fanout::VIDEO,
        cipher: CIPHER.to_owned(),
        sample_period: 16,
        rooms: Some(rooms.clone()),
    };
    bar.set_message(format!("calls of {people}: everybody joins"));
    let empty_bytes = cpu::resident_bytes(&pids);
    let mut load = LoadProcess::start(topology, &plan)?;
    load.wait_until_ready(|count, how| {
        bar.set_message(format!("calls of {people}: {count} of {all} {how}"));
    })?;
    bar.inc(1);
    interrupt::pause(WARM_UP)?;
    bar.set_message(format!("calls of {people}: measuring"));
    let length = Duration::from_secs_f64(options.window);
    let window = watch(topology, server, &mut running, &mut load, length)?;
    ensure!(window.broken.is_none(), "{}", no_result(std::slice::from_ref(&window)));
    bar.inc(1);
    bar.set_message(format!("calls of {people}: newcomers"));
    let arrived = load.ask(&format!("arrive {}", options.newcomers), ARRIVAL_LIMIT)?;
    let Said::Arrived(took_us) = arrived else { bail!("no answer of those who came") };
    running.check()?;
    load.stop();
    bar.inc(1);
    let more_bytes = window.resident_bytes.saturating_sub(empty_bytes);
    let point = json!({
        "calls": rooms.rooms,
        "people": people,
        "videos": rooms.rooms * (rooms.cameras + rooms.screens),
        "streams": window.consumers,
        "packets_per_s": window.received as f64 / window.seconds,
        "connected_us": spread(&took_us),
        "delay_us": quantiles(&merged_delay(&[&window])),
        "lost": window.lost,
        "core_busy": window.core_busy,
        "load_core_busy": window.load_core_busy,
        "core_per_participant": window.core_busy / all as f64,
        "bytes_per_participant": more_bytes as f64 / all as f64,
    });
    Ok((point, window))
}

fn table(points: &[Value]) -> String {
    let mut out = format!(
        "{:>5} {:>6} {:>6} {:>7} {:>9}  {:>21}  {:>15} {:>6}  {:>5} {:>5} {:>8}  {:>8}\n{:>37}  {:>21}  \
         {:>15} {:>6}  {:>5} {:>5} {:>8}  {:>8}\n",
        "calls",
        "people",
        "videos",
        "streams",
        "packets/s",
        "sees all, p50/p99 ms",
        "delay, p50/p99",
        "lost",
        "core",
        "load",
        "a person",
        "memory",
        "wanted",
        format!("{CONNECTED_MS:.0}"),
        format!("{DELAY_P50_MS:.0} / {DELAY_P99_MS:.0} ms"),
        "",
        "",
        "",
        "1.5 %",
        format!("{MEGABYTES:.0} MB"),
    );
    for one in points {
        let number = |value: &Value| value.as_f64().unwrap_or(0.0);
        let pair = |of: &Value| {
            let of = |name: &str| number(&of[name]) / 1_000.0;
            format!("{:.1} / {:.1}", of("p50"), of("p99"))
        };
        let _ = writeln!(
            out,
            "{:>5} {:>6} {:>6} {:>7} {:>9.0}  {:>21}  {:>15} {:>6}  {:>3.0} % {:>3.0} % {:>6.2} %  {:>5.2} MB",
            number(&one["calls"]),
            number(&one["people"]),
            number(&one["videos"]),
            number(&one["streams"]),
            number(&one["packets_per_s"]),
            pair(&one["connected_us"]),
            pair(&one["delay_us"]),
            number(&one["lost"]),
            number(&one["core_busy"]) * 100.0,
            number(&one["load_core_busy"]) * 100.0,
            number(&one["core_per_participant"]) * 100.0,
            number(&one["bytes_per_participant"]) / 1e6,
        );
    }
    out
}
