//! `ironcast-dataplane`: the process that moves packets. Reads its configuration, checks the kernel,
//! starts one worker a core, the hub and the control socket, and waits for a signal.
//! README.md beside this folder shows the path of a packet, file by file.
#![forbid(unsafe_code)]

mod addresses;
mod connection;
mod delay;
mod directory;
mod engine;
mod hub;
mod messages;
mod ports;
mod registry;
mod workers;

use std::{
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64, mpsc::channel},
};

use anyhow::Context;
use clap::Parser;
use ironcast_config::{Config, Transmit};

use crate::{connection::Identity, hub::Hub, messages::ToHub, workers::Workers};

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The process that moves packets.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (default: ironcast.toml, if it is there).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over the file's, such as rtc.ports=41000-41999; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

fn main() {
    if let Err(error) = run(&Arguments::parse()) {
        eprintln!("ironcast-dataplane: {error:#}");
        std::process::exit(1);
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load_for_process(arguments.config.as_deref(), &arguments.set)?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .context("log.level is not understood")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    let without = ironcast_driver::Without::from_environment()?;
    ironcast_driver::probe::require(without)?;
    if config.dataplane.transmit == Transmit::Xdp {
        ironcast_driver::probe::require_xdp().context("dataplane.transmit = \"xdp\"")?;
    }

    let (hub, inbox) = channel();
    let workers = Workers::prepare(&config, without, hub.clone())?;
    let event_seq = Arc::new(AtomicU64::new(0));
    let identity = Identity { boot_id: boot_id()?, event_seq: event_seq.clone() };
    let socket = config.dataplane_socket();
    connection::listen(&socket, identity, hub.clone())
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    stop_on_signal(hub)?;

    let cores = workers.cores();
    let threads = workers.start()?;
    tracing::info!(
        workers = cores.len(),
        socket = %socket.display(),
        ports = %config.rtc.ports,
        "the dataplane runs"
    );
    Hub::new(cores, event_seq).run(&inbox);
    for thread in threads {
        let _ = thread.join();
    }
    let _ = std::fs::remove_file(&socket);
    Ok(())
}

/// Another value for every run: tells a control plane that all state is gone.
fn boot_id() -> anyhow::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| anyhow::anyhow!("the system gives no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// SIGTERM and SIGINT end the process after the current turn.
fn stop_on_signal(hub: std::sync::mpsc::Sender<ToHub>) -> anyhow::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([
        signal_hook::consts::SIGTERM,
        signal_hook::consts::SIGINT,
    ])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        if signals.forever().next().is_some() {
            let _ = hub.send(ToHub::Stop);
        }
        // A second signal does not wait for anything.
        if signals.forever().next().is_some() {
            std::process::exit(130);
        }
    })?;
    Ok(())
}
