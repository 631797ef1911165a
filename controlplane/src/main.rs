//! The process `ironcast-controlplane`: reads the configuration, starts the server, and stops it on
//! SIGTERM or SIGINT. Everything else is in the library.
#![forbid(unsafe_code)]

use std::{path::PathBuf, process::ExitCode};

use clap::Parser;
use ironcast_config::{Config, LogFormat};
use ironcast_controlplane::{Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Takes commands from signaling over QUIC and tells the dataplane what to do.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The configuration file; without it IRONCAST_CONFIG, then ./ironcast.toml if it is there.
    #[arg(long)]
    config: Option<PathBuf>,
    /// One setting over the file and the environment, such as control.listen=127.0.0.1:7443.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let config = match Config::load_for_process(arguments.config.as_deref(), &arguments.sets) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let lines = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .with_env_filter(tracing_subscriber::EnvFilter::new(&config.log.level));
    match config.log.format {
        LogFormat::Text => lines.init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
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
    let is_replaced = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        () = server.replaced() => true,
    };
    tracing::info!("stopping; media flows on");
    server.stop().await;
    Ok(!is_replaced)
}
