//! Scenario `api`: what the control API carries. Ten thousand rooms are made, people join rooms of
//! ten at a fixed rate, leave, a room of a hundred ends, and the whole state is read, over one QUIC
//! connection as a signaling service has it. By default beside a dataplane that moves no packet
//! ([`crate::stand_in`]), so that the control plane alone is measured.

mod calls;
mod room;
mod steps;

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tokio::task::LocalSet;

use super::spread;
use crate::{
    keep,
    servers::{Dataplane, Running},
    stage,
    topology::Topology,
};

/// Options of `api`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// What the control plane commands.
    #[arg(long, value_enum, default_value_t = Dataplane::StandIn)]
    pub(crate) dataplane: Dataplane,
    /// Rooms, most of them empty.
    #[arg(long, default_value_t = 10_000)]
    pub(crate) rooms: usize,
    /// Consumers to reach, in rooms of ten people.
    #[arg(long, default_value_t = 100_000)]
    pub(crate) consumers: usize,
    /// Joins a second.
    #[arg(long, default_value_t = 500.0)]
    pub(crate) rate: f64,
    /// People of the room that ends.
    #[arg(long, default_value_t = 100)]
    pub(crate) people: usize,
}

/// One line of the table.
struct Row {
    what: String,
    /// Of each call, microseconds.
    took_us: Vec<u64>,
    /// What else is to be said.
    note: String,
}

/// Figures beside the rows.
#[derive(Default)]
struct Report {
    rows: Vec<Row>,
    figures: serde_json::Map<String, Value>,
}

impl Report {
    fn add(&mut self, what: impl Into<String>, took: &[Duration], note: impl Into<String>) {
        let took_us = took.iter().map(|took| took.as_micros() as u64).collect();
        self.rows.push(Row { what: what.into(), took_us, note: note.into() });
    }

    fn figure(&mut self, name: &str, value: impl Into<Value>) {
        self.figures.insert(name.to_owned(), value.into());
    }

    fn print(&self) -> Vec<Value> {
        println!("{:<34} {:>7} {:>8} {:>8} {:>8}  ms", "", "times", "p50", "p99", "max");
        let ms = |us: &Value| us.as_f64().unwrap_or_default() / 1_000.0;
        let rows = self.rows.iter().map(|row| {
            let took = spread(&row.took_us);
            let (p50, p99, max) = (ms(&took["p50"]), ms(&took["p99"]), ms(&took["max"]));
            let times = row.took_us.len();
            println!("{:<34} {times:>7} {p50:>8.2} {p99:>8.2} {max:>8.2}  {}", row.what, row.note);
            json!({ "what": row.what, "times": times, "took_us": took, "note": row.note })
        });
        rows.collect()
    }
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    // Nothing of it is sent over a network: no namespaces are needed.
    let topology = Topology::new(true, true);
    let bar = stage::progress(8)?;
    let (running, door) = Running::control_plane(&topology, options.dataplane)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut report = Report::default();
    LocalSet::new()
        .block_on(&runtime, steps::run(options, &running, &door, &bar, &mut report))
        .context("the control plane did not do it")?;
    bar.finish_and_clear();
    drop(running);
    println!(
        "one control plane on one core, over QUIC; {} rooms; dataplane: {}\n",
        options.rooms,
        options.dataplane.name()
    );
    let rows = report.print();
    println!();
    for (name, value) in &report.figures {
        println!("{name:<34} {value:>7}");
    }
    println!();
    let line = json!({
        "scenario": "api",
        "dataplane": options.dataplane.name(),
        "rooms": options.rooms,
        "consumers": options.consumers,
        "rate": options.rate,
        "people": options.people,
        "steps": rows,
        "figures": report.figures,
    });
    keep::keep(&line, &Vec::<Value>::new())?;
    Ok(line)
}
