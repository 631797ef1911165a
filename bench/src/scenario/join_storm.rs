//! Scenario `join-storm`: many join a running room within seconds. How long each waits for his first
//! packet, and what it does to the delay of those who were there: before, during it, and when all are
//! there and nobody joins any more, so that what joins cost is told from what a larger room costs.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::control::FIGURES;
use super::{CIPHER, capacity::LOAD_BUSY_MAX, quantiles, spread, undisturbed};
use crate::{
    cpu, edge, fanout, interrupt, keep,
    load::{Counts, Said},
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
    /// A microphone in place of the camera: what the joins themselves cost, without the key frames
    /// that newcomers ask for and that everybody gets.
    #[arg(long)]
    pub(crate) microphone: bool,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(4)?;
    let length = Duration::from_secs_f64(options.seconds);
    let media = if options.microphone { fanout::AUDIO } else { fanout::VIDEO };
    let (mut running, mut load, before) =
        undisturbed(&topology, &bar, media, options.receivers, length)?;
    bar.inc(1);
    bar.set_message(format!("{} join", options.joins));
    let edge_before = edge::read(&running.target)?;
    let cores = [topology.server_core, topology.load_core];
    let ticks = || cores.map(cpu::core_ticks);
    let ticks_before = ticks();
    let limit = length * 4 + Duration::from_secs(60);
    let said = load.ask(&format!("storm {} {}", options.joins, options.seconds), limit)?;
    let Said::Storm(storm) = said else { bail!("not an answer: {said:?}") };
    let during = load.counts()?;
    let ticks_between = ticks();
    interrupt::pause(FIGURES)?;
    let edge_between = edge::read(&running.target)?;
    bar.inc(1);
    // Who came stays: a frame goes to all of them, and takes its time without any join.
    bar.set_message("all are there");
    load.counts()?;
    interrupt::pause(length)?;
    let after = load.counts()?;
    let ticks_after = ticks();
    interrupt::pause(FIGURES)?;
    let edge_after = edge::read(&running.target)?;
    let busy = |before: [cpu::CoreTicks; 2], after: [cpu::CoreTicks; 2]| {
        [0, 1].map(|at| cpu::core_share(before[at], after[at]).busy)
    };
    let busy = [busy(ticks_before, ticks_between), busy(ticks_between, ticks_after)];
    let insides = [edge_before.inside(&edge_between), edge_between.inside(&edge_after)];
    running.check()?;
    bar.finish_and_clear();
    load.stop();
    let window = |counts: Counts| Window {
        delay_us: counts.delay_us,
        pause_ms: counts.pause_ms,
        ..before.clone()
    };
    let windows = [before.clone(), window(during), window(after)];
    let delays = windows.each_ref().map(|one| quantiles(&merged_delay(&[one])));
    let first = spread(&storm.first_packet_us);
    println!(
        "{} joins in {} s: first packet after {} / {} / {} ms (p50 / p99 / max), {} without\n\n\
         {:<28} {:>22} {:>14} {:>18} {:>16} {:>14}",
        options.joins,
        options.seconds,
        ms(&first["p50"]),
        ms(&first["p99"]),
        ms(&first["max"]),
        storm.failed,
        format!("the {} who were there", options.receivers),
        "delay p50 p99 max us",
        "longest pause",
        "inside p99 max us",
        "inside over 2 ms",
        "cores' busy %",
    );
    let names = ["before", "while they join", "when all are there"];
    let rows = [None, Some((insides[0], busy[0])), Some((insides[1], busy[1]))];
    for (((name, window), delay), row) in names.iter().zip(&windows).zip(&delays).zip(rows) {
        let [quantiles, over, busy] = row.map_or_else(Default::default, |(inside, busy)| {
            [
                format!("{} {}", inside.p99_us, inside.max_us),
                format!("{} of {}", inside.over_2_ms, inside.datagrams),
                busy.map(|share| format!("{:.0}", 100.0 * share)).join(" "),
            ]
        });
        println!(
            "{name:<28} {:>22} {:>11} ms {quantiles:>18} {over:>16} {busy:>14}",
            format!("{} {} {}", delay["p50"], delay["p99"], delay["max"]),
            window.pause_ms,
        );
    }
    println!(
        "\ninside: from the kernel's stamp until all that was made of it was handed to the kernel; \
         cores: the server's and the load's"
    );
    for (name, [_, load]) in names[1..].iter().zip(busy) {
        if load > LOAD_BUSY_MAX {
            println!(
                "{name}: the load's core was {:.0} % busy, so that the delay there is the load's own; \
                 what the server did is `inside`",
                100.0 * load
            );
        }
    }
    println!();
    let line = json!({
        "scenario": "join-storm",
        "consumers": options.receivers,
        "joins": options.joins,
        "microphone": options.microphone,
        "seconds": options.seconds,
        "cipher": CIPHER,
        "topology": topology.name(),
        "first_packet_us": first,
        "failed": storm.failed,
        "delay_us_before": delays[0],
        "delay_us_during": delays[1],
        "delay_us_after": delays[2],
        "pause_ms_during": windows[1].pause_ms,
        "inside_during": insides[0],
        "inside_after": insides[1],
        "core_busy_during": busy[0][0],
        "load_core_busy_during": busy[0][1],
        "core_busy_after": busy[1][0],
        "load_core_busy_after": busy[1][1],
    });
    keep::keep(&line, &windows)?;
    Ok(line)
}

fn ms(us: &Value) -> u64 {
    us.as_u64().unwrap_or(0) / 1_000
}
