//! Scenario `switching`: receivers of a camera with three layers ask for the lowest and the highest
//! in turn. How long the layer takes to come, and whether the stream has gaps.

use std::time::Duration;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::{CIPHER, one_to_many, spread};
use crate::{
    interrupt, keep,
    load::{Media, Said},
    measure::LoadProcess,
    servers::Server,
    stage::{self, Stage},
};

/// Options of `switching`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    #[command(flatten)]
    pub(crate) stage: Stage,
    /// Receivers.
    #[arg(long, default_value_t = 20)]
    pub(crate) receivers: usize,
    /// Changes of each receiver, one receiver after the other; then as many of all at once.
    #[arg(long, default_value_t = 6)]
    pub(crate) rounds: usize,
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let topology = options.stage.build();
    let bar = stage::progress(2)?;
    let running = Server::Ironcast.start(&topology)?;
    // Every packet is opened: the layers are told apart by what is inside.
    let plan = one_to_many(running.target.clone(), options.receivers, Media::Layers, 1);
    let mut load = LoadProcess::start(&topology, &plan)?;
    load.wait_until_ready(|count, how| bar.set_message(format!("{count} {how}")))?;
    bar.inc(1);
    bar.set_message("changing layers");
    interrupt::pause(Duration::from_secs(3))?;
    let said = load.ask(&format!("switch {}", options.rounds), Duration::from_secs(300))?;
    let Said::Switches(switches) = said else { bail!("not an answer: {said:?}") };
    bar.finish_and_clear();
    load.stop();
    let took = spread(&switches.took_us);
    let together = spread(&switches.together_us);
    println!("from the call to the first packet of the layer (us)         p50 / p99 / max");
    for (how, count, took) in [
        ("one receiver at a time", switches.took_us.len(), &took),
        ("all at once", switches.together_us.len(), &together),
    ] {
        println!(
            "  {how:<22} {count:>4} changes {:>24} / {} / {}",
            took["p50"], took["p99"], took["max"]
        );
    }
    println!(
        "did not come: {}; gaps in the sequence numbers: {}; longest pause of a receiver: {} ms\n",
        switches.failed,
        switches.lost,
        switches.longest_pause_us / 1_000,
    );
    let line = json!({
        "scenario": "switching",
        "consumers": options.receivers,
        "cipher": CIPHER,
        "topology": topology.name(),
        "switches": switches.took_us.len() + switches.together_us.len(),
        "took_us": took,
        "together_us": together,
        "failed": switches.failed,
        "gaps": switches.lost,
        "longest_pause_us": switches.longest_pause_us,
    });
    keep::keep(&line, &[switches.took_us, switches.together_us])?;
    Ok(line)
}
