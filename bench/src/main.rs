//! ironcast-bench: loads an SFU with participants of an independent media stack and says what a
//! forwarded packet costs, beside floors that no server can go below. One machine, no
//! configuration:
//!
//! ```text
//! cargo run --release -p ironcast-bench -- fanout
//! ```
//! The last line is one JSON object. [`topology`] sets the stage, [`servers`] are what is measured,
//! [`load`] is who loads, [`measure`] the windows and their order, `fanout` a scenario.
#![forbid(unsafe_code)]

mod compare;
mod cpu;
mod edge;
mod fanout;
mod interrupt;
mod keep;
mod load;
mod measure;
mod memory_group;
mod reflector;
mod report;
mod scenario;
mod servers;
mod stage;
mod stand_in;
mod statistics;
mod table;
mod topology;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use clap::{Parser, Subcommand};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(version, about = "Loads an SFU and measures what a forwarded packet costs")]
struct Arguments {
    /// Where each run leaves its file, for the report.
    #[arg(long, global = true, default_value = "target/bench")]
    results: PathBuf,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// One camera (2.5 Mb/s), N receivers.
    Fanout(fanout::Options),
    /// One microphone, N listeners.
    Audio(fanout::Options),
    /// A room on one worker, and on two: the cost of a packet, and the delay.
    Spread(fanout::Options),
    /// Rooms of people with three layers each.
    Meeting(scenario::meeting::Options),
    /// Whole calls through signaling, of the sizes that a call may have.
    Calls(scenario::calls::Options),
    /// Delay through the server at several loads.
    Latency(scenario::latency::Options),
    /// How far one core goes.
    Capacity(scenario::capacity::Options),
    /// What a participant costs in memory.
    Memory(scenario::memory::Options),
    /// Many join a running room within seconds.
    JoinStorm(scenario::join_storm::Options),
    /// What the making and the end of a large room, and a new control plane, cost those who receive.
    Control(scenario::control::Options),
    /// What the control API carries: joins a second, and how long calls take, with many rooms.
    Api(scenario::api::Options),
    /// Changes between layers.
    Switching(scenario::switching::Options),
    /// All servers in the scenarios that all of them can run, and how we stand to each.
    Compare(compare::Options),
    /// One page from the newest results.
    Report(report::Options),
    /// A dataplane that moves no packet, for the scenario `api`.
    #[command(hide = true)]
    StandIn {
        /// Where it listens.
        #[arg(long)]
        socket: PathBuf,
    },
    /// The load's own process.
    #[command(hide = true)]
    Load,
    /// The reflector's own process.
    #[command(hide = true)]
    Reflect {
        #[arg(long)]
        listen: SocketAddr,
        #[arg(long)]
        method: reflector::Method,
        /// What it does wrong, for tests.
        #[arg(long, env = "IRONCAST_BENCH_FAULT")]
        fault: Option<reflector::Fault>,
    },
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    match arguments.scenario {
        // These measure nothing themselves.
        Scenario::Load
        | Scenario::StandIn { .. }
        | Scenario::Reflect { .. }
        | Scenario::Report(_) => {}
        _ => {
            raise_file_limit();
            keep::set_folder(arguments.results.clone());
        }
    }
    match arguments.scenario {
        Scenario::Fanout(options) => {
            measured(move || fanout::run("fanout", fanout::VIDEO, &options))
        }
        Scenario::Spread(options) => measured(move || fanout::run_spread(&options)),
        Scenario::Audio(options) => measured(move || fanout::run("audio", fanout::AUDIO, &options)),
        Scenario::Meeting(options) => measured(move || scenario::meeting::run(&options)),
        Scenario::Calls(options) => measured(move || scenario::calls::run(&options)),
        Scenario::Latency(options) => measured(move || scenario::latency::run(&options)),
        Scenario::Capacity(options) => measured(move || scenario::capacity::run(&options)),
        Scenario::Memory(options) => measured(move || scenario::memory::run(&options)),
        Scenario::JoinStorm(options) => measured(move || scenario::join_storm::run(&options)),
        Scenario::Control(options) => measured(move || scenario::control::run(&options)),
        Scenario::Api(options) => measured(move || scenario::api::run(&options)),
        Scenario::Switching(options) => measured(move || scenario::switching::run(&options)),
        Scenario::Compare(options) => measured(move || compare::run(&options)),
        Scenario::Report(options) => report::run(&options, &arguments.results),
        Scenario::StandIn { socket } => runtime()?.block_on(stand_in::run(&socket)),
        Scenario::Load => runtime()?.block_on(load::run()),
        Scenario::Reflect { listen, method, fault } => reflector::run(listen, method, fault),
    }
}

/// Each participant is two sockets of the load. Root may pass the hard limit; the children inherit
/// what is reached.
fn raise_file_limit() {
    const WANTED: u64 = 200_000;
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    let more = hard.max(WANTED);
    if setrlimit(Resource::RLIMIT_NOFILE, more, more).is_err() {
        // Failing is no harm: the old limit holds, and who does not fit is told so.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Runs a scenario on a thread of its own, so that Ctrl-C can end it; everything that it set up is
/// taken down by its owners.
fn measured(run: impl FnOnce() -> Result<Value> + Send + 'static) -> Result<()> {
    runtime()?.block_on(async move {
        let mut running = tokio::task::spawn_blocking(run);
        let mut terminate = signal(SignalKind::terminate())?;
        let result = tokio::select! {
            result = &mut running => result,
            _ = tokio::signal::ctrl_c() => {
                interrupt::set();
                running.await
            }
            _ = terminate.recv() => {
                interrupt::set();
                running.await
            }
        };
        println!("{}", result??);
        Ok(())
    })
}
