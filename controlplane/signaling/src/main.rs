//! `ironcast-signaling`: reads its configuration, serves the page and its sockets, follows the
//! media server, and says goodbye on SIGTERM and Ctrl-C.
#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use ironcast_config::Config;
use ironcast_signaling::control::{Access, ControlMedia};
use ironcast_signaling::settings::Settings;
use ironcast_signaling::tls::{self, TlsListener};
use ironcast_signaling::{notices, web};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

/// Longest that stopping may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// The reference signaling service and its page.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file (default: ironcast.toml, if it is there).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting over the file's, such as signaling.listen=127.0.0.1:9000; may be repeated.
    #[arg(long, value_name = "SECTION.KEY=VALUE")]
    set: Vec<String>,
}

#[tokio::main]
async fn main() {
    if let Err(error) = run(&Arguments::parse()).await {
        eprintln!("ironcast-signaling: {error:#}");
        std::process::exit(1);
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let config = Config::load_for_process(arguments.config.as_deref(), &arguments.set)?;
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log.level)
        .context("log.level is not understood")?;
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();

    let listen = config.signaling.listen;
    let listener = TcpListener::bind(listen)
        .await
        .with_context(|| format!("cannot listen on {listen} (signaling.listen)"))?;
    let media = ControlMedia::new(Access {
        url: config.control_url(),
        ca: config.control_ca(),
        token_file: config.signaling.control_token_file.clone(),
    })
    .context("signaling.control_url")?;
    let (app, service) = web::app(settings(&config), Arc::new(media));
    tokio::spawn(notices::follow(Arc::clone(&service)));
    tracing::info!("serving {} (media server at {})", config.page_url(), config.control_url());
    let serving = async {
        if config.signaling_tls() {
            let listener = TlsListener::new(listener, tls_config(&config)?)?;
            axum::serve(listener, app).await?;
        } else {
            axum::serve(listener, app).await?;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        served = serving => served,
        stopped = told_to_stop() => {
            stopped?;
            tracing::info!("stopping");
            let _ = tokio::time::timeout(STOP_TIME_MAX, service.stop()).await;
            Ok(())
        }
    }
}

fn settings(config: &Config) -> Settings {
    let signaling = &config.signaling;
    let stun = signaling.stun_servers.iter().map(|url| serde_json::json!({ "urls": url }));
    Settings {
        rooms_max: signaling.rooms_max as usize,
        participants_per_room_max: signaling.participants_per_room_max as usize,
        requests_per_socket_max: signaling.requests_per_socket_max as usize,
        reconnect_window: Duration::from_millis(signaling.reconnect_window_ms.into()),
        ice_servers: stun.collect(),
        // Two services on one media server listen at different addresses.
        instance: format!("ironcast-signaling {}", signaling.listen),
        ..Settings::default()
    }
}

/// The configured certificate, or one made for development.
fn tls_config(config: &Config) -> anyhow::Result<rustls::ServerConfig> {
    if let Some(certificate) = &config.signaling.tls_cert {
        return tls::from_files(certificate, &config.signaling_key());
    }
    tls::for_development(
        config.signaling.listen.ip(),
        &config.signaling_cert(),
        &config.signaling_key(),
    )
}

async fn told_to_stop() -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
