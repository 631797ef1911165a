//! Scenario `join-storm`: many join a running room within seconds. How long each waits for his first
//! packet, and what it does to the delay of those who were there.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::control::FIGURES;
use super::{CIPHER, quantiles, spread, undisturbed};
use crate::{
    edge, interrupt, keep,
    load::Said,
    measure::{Window, merged_delay},
    stage::{self, Stage},
};

/// Options of `join-storm`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers that are there before.
    #[arg(long, default_value_t = 50)]
    pub(crate) receivers: usize,
    /// Joins.
    #[arg(long, default_value_t = 500)]
    pub(crate) joins: usize,
    /// Seconds that they are spread over.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(3)?;
    let length = Duration::from_secs_f64(options.seconds);
    let (mut running, mut load, before) = undisturbed(&topology, &bar, options.receivers, length)?;
    bar.inc(1);
    bar.set_message(format!("{} join", options.joins));
    let edge_before = edge::read(&running.target)?;
    let limit = length * 4 + Duration::from_secs(60);
    let said = load.ask(&format!("storm {} {}", options.joins, options.seconds), limit)?;
    let Said::Storm(storm) = said else { bail!("not an answer: {said:?}") };
    let during = load.counts()?;
    interrupt::pause(FIGURES)?;
    let inside = edge_before.inside(&edge::read(&running.target)?);
    running.check()?;
    bar.finish_and_clear();
    load.stop();
    let during = Window { delay_us: during.delay_us, pause_ms: during.pause_ms, ..before.clone() };
    let (before_us, during_us) =
        (quantiles(&merged_delay(&[&before])), quantiles(&merged_delay(&[&during])));
    let first = spread(&storm.first_packet_us);
    println!(
        "{} joins in {} s: first packet after {} / {} / {} ms (p50 / p99 / max), {} without\n\
         delay of the {} who were there, p50 / p99 / max: {} / {} / {} us before, \
         {} / {} / {} us during it; longest pause {} ms\n\
         inside the server, from the kernel's stamp to the submission: p99 {} us, max {} us, \
         over 2 ms {} of {}\n",
        options.joins,
        options.seconds,
        ms(&first["p50"]),
        ms(&first["p99"]),
        ms(&first["max"]),
        storm.failed,
        options.receivers,
        before_us["p50"],
        before_us["p99"],
        before_us["max"],
        during_us["p50"],
        during_us["p99"],
        during_us["max"],
        during.pause_ms,
        inside.p99_us,
        inside.max_us,
        inside.over_2_ms,
        inside.datagrams,
    );
    let line = json!({
        "scenario": "join-storm",
        "consumers": options.receivers,
        "joins": options.joins,
        "seconds": options.seconds,
        "cipher": CIPHER,
        "topology": topology.name(),
        "first_packet_us": first,
        "failed": storm.failed,
        "delay_us_before": before_us,
        "delay_us_during": during_us,
        "pause_ms_during": during.pause_ms,
        "inside_during": inside,
    });
    keep::keep(&line, &[before, during])?;
    Ok(line)
}

fn ms(us: &Value) -> u64 {
    us.as_u64().unwrap_or(0) / 1_000
}
