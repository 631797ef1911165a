//! Scenario `latency`: how long a packet takes through the server, at several shares of what the
//! server could carry and at one load that all servers carry; by time stamps in the payload, so with
//! sockets and wake-ups of both sides.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{CIPHER, one_to_many, quantiles};
use crate::{
    fanout, keep,
    measure::{Times, Window, merged_delay, run_block},
    servers::Server,
    stage::{self, Stage},
};

/// Receivers of the first look, from which the maximum is told.
const PROBE: usize = 60;
const SHARES: [f64; 3] = [0.25, 0.5, 0.8];

/// Options of `latency`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers of the load that all servers are given.
    #[arg(long, default_value_t = 50)]
    pub(crate) common: usize,
    /// Most receivers that are tried, whatever the server could carry.
    #[arg(long, default_value_t = 600)]
    pub(crate) receivers_max: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) window: f64,
    /// Windows of each point.
    #[arg(long, default_value_t = 3)]
    pub(crate) blocks: usize,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let window = Duration::from_secs_f64(options.window);
    let times = Times { warm_up: Duration::from_secs(2), window };
    let modes = [Server::Ironcast, Server::IroncastBusyPoll];
    let steps = 1 + modes.len() * (SHARES.len() + 1) * options.blocks + options.blocks;
    let bar = stage::progress(steps * 3)?;
    let measure = |server: Server, receivers: usize| -> Result<Window> {
        let plan = |target| one_to_many(target, receivers, fanout::VIDEO, 4);
        let what = format!("{} to {receivers}", server.name());
        run_block(&topology, server, &plan, times, &bar, &what)
    };
    let probe = measure(Server::Ironcast, PROBE)?;
    let maximum = PROBE as f64 / probe.core_busy.max(0.001);
    let mut loads: Vec<(String, usize)> = SHARES
        .iter()
        .map(|share| {
            let receivers = (maximum * share).round() as usize;
            (format!("{:.0} %", share * 100.0), receivers.clamp(1, options.receivers_max))
        })
        .collect();
    loads.push(("common".to_owned(), options.common));
    let (mut points, mut all) = (Vec::new(), Vec::new());
    for server in modes {
        for (name, receivers) in &loads {
            points.push(point(server, name, *receivers, options.blocks, &measure, &mut all)?);
        }
    }
    let floor = Server::ReflectorSegmented;
    points.push(point(floor, "common", options.common, options.blocks, &measure, &mut all)?);
    bar.finish_and_clear();
    println!("{}", table(&points));
    let line = json!({
        "scenario": "latency",
        "consumers": options.common,
        "cipher": CIPHER,
        "topology": topology.name(),
        "receivers_at_full_core": maximum.round(),
        "points": points,
    });
    keep::keep(&line, &all)?;
    Ok(line)
}

/// One load of one server: all undisturbed windows together, and the best of them.
fn point(
    server: Server,
    load: &str,
    receivers: usize,
    blocks: usize,
    measure: &dyn Fn(Server, usize) -> Result<Window>,
    all: &mut Vec<Window>,
) -> Result<Value> {
    let windows = (0..blocks)
        .map(|_| measure(server, receivers))
        .collect::<Result<Vec<Window>>>()
        .with_context(|| format!("{} with {receivers} receivers", server.name()))?;
    let good: Vec<&Window> = windows.iter().filter(|one| !one.disturbed).collect();
    let best = good.iter().min_by_key(|one| merged_delay(&[one]).value_at_quantile(0.99));
    let point = json!({
        "server": server.name(),
        "load": load,
        "receivers": receivers,
        "core_busy": good.iter().map(|one| one.core_busy).sum::<f64>() / good.len().max(1) as f64,
        "delay_us": quantiles(&merged_delay(&good)),
        "best_delay_us": best.map(|one| quantiles(&merged_delay(&[one]))),
        "lost": good.iter().map(|one| one.lost).sum::<u64>(),
    });
    all.extend(windows);
    Ok(point)
}

fn table(points: &[Value]) -> String {
    let mut out = String::from(
        "server                load     receivers  core  p50 us  p99 us  p99.9 us  best window: p50 \
         / p99 us\n",
    );
    for one in points {
        let delay = |kind: &str, name: &str| one[kind][name].as_u64().unwrap_or(0);
        let _ = writeln!(
            out,
            "{:<21} {:<8} {:>9} {:>3.0} % {:>7} {:>7} {:>9}  {} / {}",
            one["server"].as_str().unwrap_or_default(),
            one["load"].as_str().unwrap_or_default(),
            one["receivers"],
            one["core_busy"].as_f64().unwrap_or(0.0) * 100.0,
            delay("delay_us", "p50"),
            delay("delay_us", "p99"),
            delay("delay_us", "p999"),
            delay("best_delay_us", "p50"),
            delay("best_delay_us", "p99"),
        );
    }
    out
}
