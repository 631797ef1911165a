//! The process `ironcast-controlplane`: reads the configuration, starts the server, and stops it on
//! SIGTERM or SIGINT. Everything else is in the library.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use ironcast_config::Config;
use ironcast_controlplane::{Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let config = match ironcast_config::CONTROLPLANE.flags().load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let level = config.log.level.clone();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .init();
    match run(&config).await {
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
async fn run(config: &Config) -> anyhow::Result<bool> {
    // Before the doors open, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut server = Server::start(ServerConfig::from_config(config)).await?;
    let pulse = server.pulse();
    let status = ("attached to the dataplane", "serving; waits for the dataplane");
    let life = ironcast_notify::report(pulse.attached(), status, || pulse.sign());
    let is_replaced = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = server.replaced() => true,
        never = life => match never {},
    };
    ironcast_notify::stopping();
    tracing::info!("stopping; media flows on");
    server.stop().await;
    Ok(!is_replaced)
}
