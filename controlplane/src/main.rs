//! The process `ironcast-controlplane`: reads the configuration, starts the server, reads the
//! configuration again on SIGHUP, and stops on SIGTERM or SIGINT. Everything else is in the library.
#![forbid(unsafe_code)]

use std::{pin::pin, process::ExitCode, sync::Arc};

use ironcast_config::LogFormat;
use ironcast_controlplane::{Reload, Server, ServerConfig};
use ironcast_log::LogCounts;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Before there are threads: each has what it was made with.
    ironcast_notify::give_way_to_media();
    ironcast_notify::raise_file_limit();
    start()
}

#[tokio::main]
async fn start() -> ExitCode {
    let flags = ironcast_config::CONTROLPLANE.flags();
    let config = match flags.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("ironcast-controlplane: {error}");
            return ExitCode::from(2);
        }
    };
    // What is too much at these levels is a fault that repeats itself; events are below them.
    let is_json = config.log.format == LogFormat::Json;
    let log = ironcast_log::start(EnvFilter::new(&config.log.level), is_json, Level::INFO);
    let set_log = Arc::clone(&log.set_filter);
    let load = Arc::new(move || flags.load());
    match run(Reload { config, load, set_log }, log.counts.clone()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REPLACED),
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the process ends with when a newer control plane has taken the dataplane over. Whoever
/// supervises it must not start it again then: the two would take it from each other for ever.
const REPLACED: u8 = 3;

/// Until it is stopped; false if it was replaced.
async fn run(reload: Reload, log: LogCounts) -> anyhow::Result<bool> {
    // Before the doors open, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let config = ServerConfig::from_config(&reload.config);
    let mut server = Server::start(ServerConfig { reload: Some(reload), log, ..config }).await?;
    let pulse = server.pulse();
    let status = ("attached to the dataplane", "serving; waits for the dataplane");
    let mut life = pin!(ironcast_notify::report(pulse.attached(), status, || pulse.sign()));
    let is_replaced = loop {
        tokio::select! {
            _ = terminate.recv() => break false,
            _ = interrupt.recv() => break false,
            () = server.replaced() => break true,
            _ = hangup.recv() => {}
            never = &mut life => match never {},
        }
        if let Err(problem) = server.reload().await {
            tracing::error!(%problem, "the configuration was not read again");
        }
    };
    ironcast_notify::stopping();
    tracing::info!("stopping; media flows on");
    server.stop().await;
    Ok(!is_replaced)
}
