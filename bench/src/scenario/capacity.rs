//! Scenario `capacity`: how far one core goes. More and more receivers of one camera, until 0.1 % is
//! lost or one of a hundred packets takes longer than 20 ms. Where the load's own core is full
//! before, the figure is what the server's core would carry by its busy share, and says so.

use std::{fmt::Write, time::Duration};

use anyhow::{Context, Result, ensure};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use super::{CIPHER, one_to_many};
use crate::{
    fanout, keep,
    measure::{Times, Window, merged_delay, no_result, run_block},
    servers::Server,
    stage::{self, Stage},
    topology::Topology,
};

const LOSS_MAX: f64 = 0.001;
const P99_MAX_US: u64 = 20_000;
/// The load's process is full.
pub(crate) const LOAD_BUSY_MAX: f64 = 0.92;
/// From step to step.
const FACTOR: f64 = 1.5;
const STEPS_MAX: usize = 10;

/// Options of `capacity`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers of the first step.
    #[arg(long, default_value_t = 100)]
    pub(crate) first: usize,
    /// Receivers of the last step at most.
    #[arg(long, default_value_t = 2_000)]
    pub(crate) receivers_max: usize,
    /// Seconds of a window.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) window: f64,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let servers = [Server::Ironcast, Server::ReflectorSendmmsg];
    let bar = stage::progress(servers.len() * STEPS_MAX * 3)?;
    let (mut results, mut all) = (serde_json::Map::new(), Vec::new());
    for server in servers {
        let (result, windows) = climb(&topology, server, options, &bar)
            .with_context(|| format!("measuring {}", server.name()))?;
        results.insert(server.name().to_owned(), result);
        all.extend(windows);
    }
    bar.finish_and_clear();
    println!("{}", table(&results));
    let rate = |server: Server| results[server.name()]["packets_per_s_at_full_core"].as_f64();
    let ratio = rate(Server::Ironcast).zip(rate(Server::ReflectorSendmmsg)).map(|(a, b)| a / b);
    let line = json!({
        "scenario": "capacity",
        "consumers": results["ironcast"]["receivers"],
        "cipher": CIPHER,
        "topology": topology.name(),
        "ironcast_over_sendmmsg_reflector": ratio,
        "servers": results,
    });
    keep::keep(&line, &all)?;
    Ok(line)
}

/// Steps up one server's load.
fn climb(
    topology: &Topology,
    server: Server,
    options: &Options,
    bar: &ProgressBar,
) -> Result<(Value, Vec<Window>)> {
    let window = Duration::from_secs_f64(options.window);
    let times = Times { warm_up: Duration::from_secs(2), window };
    let (mut good, mut windows): (Option<(usize, usize)>, Vec<Window>) = (None, Vec::new());
    let (mut receivers, mut ended) = (options.first, "the most receivers that were asked for");
    for _ in 0..STEPS_MAX {
        let plan = |target| one_to_many(target, receivers, fanout::VIDEO, 16);
        let what = format!("{} to {receivers}", server.name());
        let one = run_block(topology, server, &plan, times, bar, &what)?;
        ensure!(one.broken.is_none(), "{}", no_result(std::slice::from_ref(&one)));
        let lost = one.lost as f64 / (one.lost + one.received).max(1) as f64;
        let is_late = merged_delay(&[&one]).value_at_quantile(0.99) > P99_MAX_US;
        let load_is_full = one.load_busy > LOAD_BUSY_MAX;
        windows.push(one);
        if load_is_full || lost > LOSS_MAX || is_late {
            ended = match () {
                () if load_is_full => "the load's own core is full",
                () if is_late => "p99 above 20 ms",
                () => "more than 0.1 % lost",
            };
            break;
        }
        good = Some((receivers, windows.len() - 1));
        if receivers >= options.receivers_max {
            break;
        }
        receivers = ((receivers as f64 * FACTOR) as usize).min(options.receivers_max);
    }
    let (receivers, at) = good.context("not even the first step was carried")?;
    let last = &windows[at];
    let rate = last.received as f64 / last.seconds;
    let result = json!({
        "receivers": receivers,
        "packets_per_s": rate.round(),
        "core_busy": last.core_busy,
        "load_busy": last.load_busy,
        "packets_per_s_at_full_core": (rate / last.core_busy.max(0.001)).round(),
        "ended_by": ended,
        "steps": windows.iter().map(|one| json!({
            "receivers": one.consumers,
            "packets_per_s": (one.received as f64 / one.seconds).round(),
            "core_busy": one.core_busy,
            "load_busy": one.load_busy,
            "lost": one.lost,
            "p99_us": merged_delay(&[one]).value_at_quantile(0.99),
        })).collect::<Vec<Value>>(),
    });
    Ok((result, windows))
}

fn table(results: &serde_json::Map<String, Value>) -> String {
    let mut out = String::from(
        "server                receivers  packets/s  core  load  at a full core  ended by\n",
    );
    for (server, one) in results {
        let number = |name: &str| one[name].as_f64().unwrap_or(0.0);
        let _ = writeln!(
            out,
            "{server:<21} {:>9} {:>10.0} {:>3.0} % {:>3.0} % {:>13.0}/s  {}",
            number("receivers"),
            number("packets_per_s"),
            number("core_busy") * 100.0,
            number("load_busy") * 100.0,
            number("packets_per_s_at_full_core"),
            one["ended_by"].as_str().unwrap_or_default(),
        );
    }
    out
}
