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

mod cpu;
mod fanout;
mod interrupt;
mod load;
mod measure;
mod reflector;
mod report;
mod servers;
mod statistics;
mod table;
mod topology;

use std::net::SocketAddr;

use anyhow::Result;
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

#[derive(Debug, Parser)]
#[command(version, about = "Loads an SFU and measures what a forwarded packet costs")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Debug, Subcommand)]
enum Scenario {
    /// One camera (2.5 Mb/s), N receivers.
    Fanout(fanout::Options),
    /// One microphone, N listeners.
    Audio(fanout::Options),
    /// One page from the newest results.
    Report(report::Options),
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
    },
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    match Arguments::parse().scenario {
        Scenario::Fanout(options) => measured("fanout", fanout::VIDEO, options),
        Scenario::Audio(options) => measured("audio", fanout::AUDIO, options),
        Scenario::Report(options) => report::run(&options),
        Scenario::Load => runtime()?.block_on(load::run()),
        Scenario::Reflect { listen, method } => reflector::run(listen, method),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// Runs a scenario on a thread of its own, so that Ctrl-C can end it; everything that it set up is
/// taken down by its owners.
fn measured(name: &'static str, media: load::Media, options: fanout::Options) -> Result<()> {
    runtime()?.block_on(async move {
        let mut running = tokio::task::spawn_blocking(move || fanout::run(name, media, &options));
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
