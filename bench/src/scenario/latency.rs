//! Scenario `latency`: how long a packet takes through the server, from the time stamp in its payload
//! to the kernel's time stamp at the receiver, so without the load's own queues. In meetings, at
//! several shares of what the server could carry: frames of many people come at all moments, and
//! each goes to a few. And one camera to some receivers, a load that every server carries: there a
//! frame leaves for one after the other, and the last one's delay is that of the whole frame.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::{CIPHER, one_to_many, quantiles};
use crate::{
    fanout, keep,
    load::{Plan, Rooms, Target},
    measure::{Times, Window, merged_delay, no_result, run_block},
    servers::{LeftOut, Peers, Server},
    stage::{self, Stage},
};

/// People of a room.
const PEOPLE: usize = 10;
/// Rooms of the first look, from which the maximum is told.
const PROBE: usize = 3;
const SHARES: [f64; 3] = [0.25, 0.5, 0.8];
/// The load's core is no busier: else its sources would be late.
const LOAD_BUSY_MAX: f64 = 0.75;
const SAMPLE_PERIOD: u16 = 16;

/// Options of `latency`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers of the camera that all servers are given.
    #[arg(long, default_value_t = 50)]
    pub(crate) common: usize,
    /// Most rooms that are tried, whatever the server could carry.
    #[arg(long, default_value_t = 60)]
    pub(crate) rooms_max: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) window: f64,
    /// Windows of each point.
    #[arg(long, default_value_t = 3)]
    pub(crate) blocks: usize,
    #[command(flatten)]
    pub(crate) peers: Peers,
}

fn meetings(rooms: usize) -> Rooms {
    Rooms {
        rooms,
        people: PEOPLE,
        cameras: PEOPLE,
        screens: 0,
        talkers: 2,
        large: 4,
        layers_bps: [100_000, 300_000, 900_000],
        silent: false,
    }
}

/// A load that is measured.
#[derive(Debug, Clone)]
struct Load {
    name: String,
    /// Meetings, or one camera.
    rooms: Option<Rooms>,
    receivers: usize,
}

impl Load {
    fn meeting(name: String, rooms: usize) -> Self {
        let rooms = meetings(rooms);
        Self { name, receivers: rooms.consumers(), rooms: Some(rooms) }
    }

    fn plan(&self, target: Target) -> Plan {
        let plan = one_to_many(target, self.receivers, fanout::VIDEO, SAMPLE_PERIOD);
        Plan { rooms: self.rooms.clone(), ..plan }
    }
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let (mut modes, mut left_out) = Server::ours(&topology);
    modes.push(Server::IroncastBusyPoll);
    let (peers, without) = options.peers.find(&topology);
    left_out.extend(without);
    LeftOut::tell(&left_out);
    let window = Duration::from_secs_f64(options.window);
    let times = Times { warm_up: Duration::from_secs(2), window };
    let others = [Server::ReflectorSegmented].into_iter().chain(peers);
    let common: Vec<Server> = modes.iter().copied().chain(others).collect();
    let steps = 1 + (modes.len() * SHARES.len() + common.len()) * options.blocks;
    let bar = stage::progress(steps * 3)?;
    let measure = |server: Server, load: &Load| -> Result<Window> {
        let what = format!("{} with {} streams", server.name(), load.receivers);
        run_block(&topology, server, &|target| load.plan(target), times, &bar, &what)
    };
    let probe = measure(Server::Ironcast, &Load::meeting("probe".to_owned(), PROBE))?;
    let of_probe = |share: f64, busy: f64| PROBE as f64 * share / busy.max(0.001);
    let maximum = of_probe(1.0, probe.core_busy);
    let limit = of_probe(LOAD_BUSY_MAX, probe.load_core_busy).min(options.rooms_max as f64);
    let loads = SHARES.map(|share| {
        let wanted = maximum * share;
        let name = if wanted > limit { "the load's most" } else { "" };
        let rooms = wanted.min(limit).round().max(1.0) as usize;
        Load::meeting(format!("{:.0} % {name}", share * 100.0).trim().to_owned(), rooms)
    });
    let (mut points, mut all) = (Vec::new(), Vec::new());
    for load in &loads {
        for &server in &modes {
            points.push(point(server, load, options.blocks, &measure, &mut all)?);
        }
    }
    let camera = Load {
        name: format!("a camera to {}", options.common),
        rooms: None,
        receivers: options.common,
    };
    for server in common {
        points.push(point(server, &camera, options.blocks, &measure, &mut all)?);
    }
    bar.finish_and_clear();
    println!("{}", table(&points));
    let line = json!({
        "scenario": "latency",
        "consumers": options.common,
        "cipher": CIPHER,
        "topology": topology.name(),
        "left_out": left_out,
        "meetings_at_full_core": maximum.round(),
        "points": points,
    });
    keep::keep(&line, &all)?;
    Ok(line)
}

/// One load of one server: all undisturbed windows together, and the best of them.
fn point(
    server: Server,
    load: &Load,
    blocks: usize,
    measure: &dyn Fn(Server, &Load) -> Result<Window>,
    all: &mut Vec<Window>,
) -> Result<Value> {
    let windows = (0..blocks)
        .map(|_| measure(server, load))
        .collect::<Result<Vec<Window>>>()
        .with_context(|| format!("{} with {} streams", server.name(), load.receivers))?;
    let good: Vec<&Window> = windows.iter().filter(|one| one.counts()).collect();
    ensure!(!good.is_empty(), "{}", no_result(&windows));
    let best = good.iter().min_by_key(|one| merged_delay(&[one]).value_at_quantile(0.99));
    let mean =
        |of: fn(&Window) -> f64| good.iter().map(|one| of(one)).sum::<f64>() / good.len() as f64;
    let point = json!({
        "server": server.name(),
        "load": load.name,
        "receivers": load.receivers,
        "meetings": load.rooms.is_some(),
        "core_busy": mean(|one| one.core_busy),
        "load_core_busy": mean(|one| one.load_core_busy),
        "delay_us": quantiles(&merged_delay(&good)),
        "best_delay_us": best.map(|one| quantiles(&merged_delay(&[one]))),
        "lost": good.iter().map(|one| one.lost).sum::<u64>(),
    });
    all.extend(windows);
    Ok(point)
}

fn table(points: &[Value]) -> String {
    let mut out = String::from(
        "server                load                  streams  core  p50 us  p99 us  p99.9 us     max  \
         best window: p50 / p99\n",
    );
    for one in points {
        let delay = |kind: &str, name: &str| one[kind][name].as_u64().unwrap_or(0);
        let _ = writeln!(
            out,
            "{:<21} {:<21} {:>7} {:>3.0} % {:>7} {:>7} {:>9} {:>7}  {} / {}",
            one["server"].as_str().unwrap_or_default(),
            one["load"].as_str().unwrap_or_default(),
            one["receivers"],
            one["core_busy"].as_f64().unwrap_or(0.0) * 100.0,
            delay("delay_us", "p50"),
            delay("delay_us", "p99"),
            delay("delay_us", "p999"),
            delay("delay_us", "max"),
            delay("best_delay_us", "p50"),
            delay("best_delay_us", "p99"),
        );
    }
    out
}
