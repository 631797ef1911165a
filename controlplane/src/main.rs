//! The process `ironcast-controlplane`: reads the configuration, starts the server, reads the
//! configuration again on SIGHUP, and stops on SIGTERM or SIGINT. Everything else is in the library.
#![forbid(unsafe_code)]

use std::{pin::pin, process::ExitCode, sync::Arc};

use ironcast_config::LogFormat;
use ironcast_controlplane::{Reload, Server, ServerConfig};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

/// Gives memory back to the system when a large call has ended; the C library's keeps it.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Media first: where a core is shared with a worker of the dataplane, this process waits. Otherwise
/// a command that keeps it busy costs packets milliseconds.
const NICE: i32 = 10;

fn main() -> ExitCode {
    // Before there are threads: each has what it was made with. To give way is always allowed.
    let _ = rustix::process::setpriority_process(None, NICE);
    start()
}

#[tokio::main]
async fn start() -> ExitCode {
    let flags = ironcast_config::CONTROLPLANE.flags();
    let config = match flags.load() {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let set_log = log_by(&config.log.level, config.log.format);
    let load = Arc::new(move || flags.load());
    match run(Reload { config, load, set_log }).await {
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

/// Writes the log to standard error, by a filter that can be replaced.
fn log_by(level: &str, format: LogFormat) -> Arc<dyn Fn(EnvFilter) + Send + Sync> {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(EnvFilter::new(level));
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let lines = match format {
        LogFormat::Text => lines.boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(filter).with(lines).init();
    Arc::new(move |filter| {
        if let Err(error) = handle.reload(filter) {
            tracing::error!(%error, "the log's filter stays as it is");
        }
    })
}

/// Until it is stopped; false if it was replaced.
async fn run(reload: Reload) -> anyhow::Result<bool> {
    // Before the doors open, so that no signal is missed.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let config = ServerConfig::from_config(&reload.config);
    let mut server = Server::start(ServerConfig { reload: Some(reload), ..config }).await?;
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
