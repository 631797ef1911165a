//! `ironcast-signaling`: reads its configuration, serves the page and its sockets, follows the
//! media server, reads certificate and log filter again on SIGHUP, and on SIGTERM and Ctrl-C leaves
//! its calls to the next start.
#![forbid(unsafe_code)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use futures::channel::mpsc::{UnboundedSender, unbounded};
use ironcast_config::{Config, Flags, LogFormat, explain};
use ironcast_log::Log;
use ironcast_signaling::access::Access;
use ironcast_signaling::broadcast::command::Quality;
use ironcast_signaling::broadcast::layout::Size;
use ironcast_signaling::control::{self, ControlMedia, RoomLimits};
use ironcast_signaling::hosts::MediaHost;
use ironcast_signaling::ice::{IceServers, Turn};
use ironcast_signaling::identity::Tokens;
use ironcast_signaling::rooms::mode::Rules;
use ironcast_signaling::service::Service;
use ironcast_signaling::settings::Settings;
use ironcast_signaling::store::hub::Hub;
use ironcast_signaling::store::redis::Redis;
use ironcast_signaling::store::sql::{self, Sql};
use ironcast_signaling::store::{self, Stores};
use ironcast_signaling::{broadcast, certificate, echo, identity, notices, server, web};
use ironcast_tokens::Expected;
use salvo::conn::rustls::RustlsConfig;
use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::Level;
use tracing_subscriber::EnvFilter;

/// Longest that stopping may take.
const STOP_TIME_MAX: Duration = Duration::from_secs(2);

/// Between two looks at whether the media server is there.
const LOOK: Duration = Duration::from_millis(20);

/// Shortest secret of a fleet, characters.
const FLEET_KEY_MIN: usize = 32;

/// A day, in milliseconds.
const DAY_MS: u64 = 86_400_000;

/// Between two looks for messages that are too old.
const FORGET_AGAIN: Duration = Duration::from_secs(3600);

fn main() {
    // Before there are threads: each has what it was made with.
    ironcast_notify::give_way_to_media();
    ironcast_notify::raise_file_limit();
    if let Err(error) = start() {
        eprintln!("ironcast-signaling: {error:#}");
        std::process::exit(1);
    }
}

fn start() -> anyhow::Result<()> {
    let mut runtime = if is_echo() {
        // What comes first is served first: the suites ask two things at once.
        runtime::Builder::new_current_thread()
    } else {
        runtime::Builder::new_multi_thread()
    };
    let runtime = runtime.enable_all().build()?;
    runtime.block_on(run(&ironcast_config::SIGNALING.flags()))
}

/// Whether the test suites of the protocols are to be served.
fn is_echo() -> bool {
    std::env::var_os(echo::ENVIRONMENT).is_some()
}

async fn run(flags: &Flags) -> anyhow::Result<()> {
    let config = flags.load()?;
    let filter = EnvFilter::try_new(&config.log.level).context("log.level is not understood")?;
    let log = ironcast_log::start(filter, config.log.format == LogFormat::Json, Level::INFO);
    // Before the port opens, so that no signal is missed.
    let mut told_to_stop = std::pin::pin!(told_to_stop()?);
    let mut hangup = signal(SignalKind::hangup())?;

    let listen = config.signaling.listen;
    let listener = std::net::TcpListener::bind(listen)
        .map_err(|error| anyhow::anyhow!(explain::address("signaling.listen", listen, &error)))?;
    if is_echo() {
        return echo_all(listener, told_to_stop).await;
    }
    let identity = (&config.signaling.control_cert, &config.signaling.control_key);
    let access = |host: &ironcast_config::MediaHost| control::Access {
        url: host.url.clone(),
        ca: host.ca.clone().unwrap_or_else(|| config.control_ca()),
        token_file: config.signaling.control_token_file.clone(),
        identity: identity.0.clone().zip(identity.1.clone()),
    };
    let limit = |count: u32| u16::try_from(count).ok().filter(|count| *count > 0);
    let limits = RoomLimits {
        last_n: limit(config.signaling.last_n),
        loudest_n: limit(config.signaling.loudest_n),
    };
    let mut hosts = Vec::new();
    for host in config.media_hosts() {
        let about = || format!("the control API at {}", host.url);
        let media = Arc::new(ControlMedia::new(access(&host), limits).with_context(about)?);
        let url = Some(host.url.clone());
        let pipe_url = host.pipe_url.or_else(|| url.clone());
        hosts.push(MediaHost { name: host.name, region: host.region, url, pipe_url, media });
    }
    let urls: Vec<_> = hosts.iter().filter_map(|host| host.url.clone()).collect();
    let (shown, certificates) = unbounded();
    let shown = config.signaling_tls().then_some(shown);
    if let Some(shown) = &shown {
        shown.unbounded_send(tls_config(&config)?)?;
    }
    let tls = shown.is_some().then_some(certificates);
    let settings = settings(&config)?;
    let stores = stores(&config).await?;
    forget_old_messages(&stores, config.signaling.chat_kept_days);
    let site = web::site(settings, hosts, stores);
    let service = Arc::clone(&site.service);
    service.tend_broadcasts();
    tokio::spawn(notices::follow(Arc::clone(&service)));
    let serving = server::serve(site.clone(), listener, tls).await?;
    tracing::info!("serving {} (media server at {})", config.page_url(), urls.join(", "));
    let mut life = std::pin::pin!(ironcast_notify::report(
        ready(&service),
        ("the media server is there", "serving; waits for the media server"),
        || sign(&service),
    ));
    loop {
        tokio::select! {
            () = &mut told_to_stop => break,
            _ = hangup.recv() => {}
            never = &mut life => match never {},
        }
        match read_again(flags, &log, shown.as_ref()) {
            Ok(()) => tracing::info!("the certificate and the log's filter were read again"),
            Err(error) => tracing::error!("nothing was read again: {error:#}"),
        }
    }
    ironcast_notify::stopping();
    tracing::info!("stopping; calls go on");
    let stopping = async {
        service.stop().await;
        site.close().await;
        serving.stop().await;
    };
    let _ = tokio::time::timeout(STOP_TIME_MAX, stopping).await;
    Ok(())
}

/// For the test suites of the protocols: no service at all.
async fn echo_all(
    listener: std::net::TcpListener,
    told_to_stop: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let settings = echo::settings();
    let echo = echo::Echo::new(&settings);
    let no_tls = None::<futures::stream::Pending<RustlsConfig>>;
    let serving = server::serve_any(echo, &settings, listener, no_tls).await?;
    tracing::warn!("{} is set: nothing is served but what comes in", echo::ENVIRONMENT);
    told_to_stop.await;
    serving.stop().await;
    Ok(())
}

/// Takes what may change while the page is served, all of it or nothing.
fn read_again(
    flags: &Flags,
    log: &Log,
    shown: Option<&UnboundedSender<RustlsConfig>>,
) -> anyhow::Result<()> {
    let config = flags.load()?;
    let filter = EnvFilter::try_new(&config.log.level).context("log.level is not understood")?;
    if let Some(shown) = shown.filter(|_| config.signaling_tls()) {
        shown.unbounded_send(tls_config(&config)?)?;
    }
    (log.set_filter)(filter);
    Ok(())
}

/// Ends when the media server is there.
async fn ready(service: &Service) {
    while !service.is_ready() {
        tokio::time::sleep(LOOK).await;
    }
}

/// Ends when a task got its turn and the rooms: where it does not, the service is stuck.
async fn sign(service: &Arc<Service>) {
    let service = Arc::clone(service);
    let counted = tokio::spawn(async move { service.count() }).await;
    if let Err(error) = counted {
        // The rooms cannot be had any more: the watchdog ends this process.
        tracing::error!(%error, "the rooms cannot be looked at");
        std::future::pending().await
    }
}

fn settings(config: &Config) -> anyhow::Result<Settings> {
    let signaling = &config.signaling;
    let state_dir = config.state_dir();
    let (instance, tokens) = identity::load(state_dir).map_err(|error| {
        anyhow::anyhow!(explain::state(&state_dir.join(identity::FILE), &error))
    })?;
    let fleet = fleet(config)?;
    // Two services with one state directory listen at different addresses.
    let alone = || {
        let made = || format!("{instance} {}", signaling.listen);
        signaling.instance.clone().unwrap_or_else(made)
    };
    let (instance, tokens) = match fleet {
        Some(fleet) => (format!("fleet {}", fleet.name), fleet.tokens),
        None => (alone(), tokens),
    };
    Ok(Settings {
        rooms_max: signaling.rooms_max as usize,
        participants_per_room_max: signaling.participants_per_room_max as usize,
        audio_only_above: signaling.audio_only_above as usize,
        requests_per_socket_max: signaling.requests_per_socket_max as usize,
        requests_per_socket_per_s: signaling.requests_per_socket_per_s,
        requests_per_socket_burst: signaling.requests_per_socket_per_s.saturating_mul(4),
        sockets_per_address_per_s: signaling.sockets_per_address_per_s,
        joins_per_address_per_s: signaling.joins_per_address_per_s,
        rooms_per_address_per_s: signaling.rooms_per_address_per_s,
        connections_max: signaling.connections_max as usize,
        connections_per_address_max: signaling.connections_per_address_max as usize,
        chat_per_participant_per_s: signaling.chat_per_participant_per_s,
        chat_kept_per_room_max: signaling.chat_kept_per_room_max,
        reconnect_window: Duration::from_millis(signaling.reconnect_window_ms.into()),
        ways: Rules {
            p2p: signaling.p2p,
            stay: Duration::from_secs(signaling.p2p_pause_s.into()),
            ..Rules::default()
        },
        ice_servers: ice_servers(config)?,
        broadcast: broadcasts(config),
        instance,
        tokens,
        media_away: Duration::from_millis(signaling.media_away_ms.into()),
        placement: signaling.placement,
        people_per_host: signaling.people_per_host as usize,
        region_header: signaling.region_header.clone(),
        access: access(config)?,
        ..Settings::default()
    })
}

fn broadcasts(config: &Config) -> broadcast::Settings {
    let signaling = &config.signaling;
    let height = signaling.broadcast_height / 2 * 2;
    let folder = signaling.broadcast_dir.clone();
    let cpus: Vec<_> = signaling.broadcast_cpus.iter().map(u32::to_string).collect();
    broadcast::Settings {
        at_once_max: signaling.broadcasts_max as usize,
        folder: folder.unwrap_or_else(|| config.state_dir().join("broadcasts")),
        ffmpeg: signaling.broadcast_ffmpeg.clone(),
        cpus: (!cpus.is_empty()).then(|| cpus.join(",")),
        segment: Duration::from_millis(signaling.broadcast_segment_ms.into()),
        window: signaling.broadcast_window as usize,
        keeps_all: signaling.broadcast_keep_all,
        disk_bytes_max: signaling.broadcast_disk_bytes_max,
        kept: Duration::from_secs(u64::from(signaling.broadcast_kept_hours) * 3_600),
        quality: Quality {
            // 16:9, and even.
            size: Size { width: height * 16 / 9 / 2 * 2, height },
            bitrate_bps: signaling.broadcast_bitrate_bps,
        },
        ip: signaling.broadcast_ip,
        media_ip: signaling.broadcast_media_ip,
        ..broadcast::Settings::default()
    }
}

/// Who may come in.
fn access(config: &Config) -> anyhow::Result<Option<Access>> {
    let signaling = &config.signaling;
    let Some(path) = &signaling.jwt_keys else {
        tracing::warn!("whoever knows a room's name can join it: signaling.jwt_keys is not set");
        return Ok(None);
    };
    let about = || format!("signaling.jwt_keys {}", path.display());
    let keys = std::fs::read_to_string(path).with_context(about)?;
    let expected =
        Expected { audience: signaling.jwt_audience.clone(), issuer: signaling.jwt_issuer.clone() };
    Ok(Some(Access::new(&keys, expected).map_err(anyhow::Error::msg).with_context(about)?))
}

/// What all nodes of a fleet have in common.
struct Fleet {
    name: String,
    redis: String,
    tokens: Tokens,
}

fn fleet(config: &Config) -> anyhow::Result<Option<Fleet>> {
    let signaling = &config.signaling;
    let Some(name) = signaling.fleet.clone() else { return Ok(None) };
    let needs = "signaling.fleet needs signaling.redis, signaling.database and \
                 signaling.fleet_key_file, the same at all nodes";
    let redis = signaling.redis.clone().context(needs)?;
    anyhow::ensure!(signaling.database.is_some(), needs);
    let path = signaling.fleet_key_file.as_ref().context(needs)?;
    let secret = std::fs::read_to_string(path)
        .with_context(|| format!("signaling.fleet_key_file {}", path.display()))?;
    let secret = secret.trim();
    anyhow::ensure!(
        secret.len() >= FLEET_KEY_MIN,
        "signaling.fleet_key_file: at least {FLEET_KEY_MIN} characters are needed"
    );
    Ok(Some(Fleet { name, redis, tokens: Tokens::new(secret.as_bytes()) }))
}

/// A node's name. Each start is another node: what the one before has left is found as that of a
/// node that is gone.
fn node(config: &Config) -> anyhow::Result<String> {
    let state_dir = config.state_dir();
    let (instance, _) = identity::load(state_dir).map_err(|error| {
        anyhow::anyhow!(explain::state(&state_dir.join(identity::FILE), &error))
    })?;
    let name = config.signaling.instance.clone().unwrap_or(instance);
    let start = uuid::Uuid::new_v4().simple().to_string();
    Ok(format!("{name}-{}-{}", config.signaling.listen, &start[..8]))
}

fn ice_servers(config: &Config) -> anyhow::Result<IceServers> {
    let signaling = &config.signaling;
    let stun = signaling.stun_servers.clone();
    // The secret of no server is nobody's.
    let (Some(path), false) = (&signaling.turn_secret_file, signaling.turn_servers.is_empty())
    else {
        return Ok(IceServers { stun, turn: None });
    };
    let secret = std::fs::read_to_string(path)
        .with_context(|| format!("signaling.turn_secret_file {}", path.display()))?;
    let secret = secret.trim().to_owned();
    anyhow::ensure!(!secret.is_empty(), "signaling.turn_secret_file: there is no secret in it");
    let time = Duration::from_secs(signaling.turn_credentials_s.into());
    Ok(IceServers { stun, turn: Some(Turn { urls: signaling.turn_servers.clone(), secret, time }) })
}

/// Where messages are kept: a file, unless a server is named.
async fn stores(config: &Config) -> anyhow::Result<Stores> {
    let lasting = if let Some(url) = &config.signaling.database {
        Sql::postgres(url).await.context("signaling.database")?
    } else {
        let path = config.state_dir().join(sql::FILE);
        Sql::sqlite(&path).await.with_context(|| path.display().to_string())?
    };
    let mut stores = Stores { lasting: Arc::new(lasting), ..Stores::in_memory() };
    if let Some(url) = &config.signaling.redis {
        stores.shared = Arc::new(Redis::connect(url).await.context("signaling.redis")?);
    }
    if let Some(fleet) = fleet(config)? {
        let hub = Hub::connect(&fleet.redis, node(config)?).await.context("signaling.redis")?;
        stores.hub = Some(hub);
    }
    Ok(stores)
}

/// Now, and from then on once in a while.
fn forget_old_messages(stores: &Stores, days: u32) {
    let lasting = Arc::clone(&stores.lasting);
    tokio::spawn(async move {
        loop {
            let oldest_ms = store::now_ms().saturating_sub(u64::from(days) * DAY_MS);
            if let Err(error) = lasting.forget_before(oldest_ms).await {
                tracing::warn!(%error, "old messages are still there");
            }
            tokio::time::sleep(FORGET_AGAIN).await;
        }
    });
}

/// The configured certificate, or one made for development.
fn tls_config(config: &Config) -> anyhow::Result<RustlsConfig> {
    if let Some(made) = &config.signaling.tls_cert {
        return certificate::from_files(made, &config.signaling_key());
    }
    certificate::for_development(
        config.signaling.listen.ip(),
        &config.signaling_cert(),
        &config.signaling_key(),
    )
}

/// Listens from now on.
fn told_to_stop() -> anyhow::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
