//! The control plane: takes commands from signaling over HTTP/3, HTTP/2 and HTTP/1.1, negotiates,
//! places rooms on workers, tells the dataplane what to do, and reports what happens as events.
//! It moves no packet, and when it stops, media flows on.
//!
//! A request's way: `doors` (HTTP, who may) -> `routes` (which call) -> `engine` (look at the
//! state, send a command) -> `dataplane` (the socket) -> the answer's closure (change the state, tell the
//! event) -> back. What the dataplane reports by itself: `dataplane` -> `apply` -> `events`.
#![forbid(unsafe_code)]

mod admission;
mod apply;
mod attach;
mod audit;
mod auth;
mod bounded;
mod call;
pub mod config;
mod convert;
mod dataplane;
mod doors;
mod drain;
mod engine;
mod events;
pub mod limits;
mod metrics;
mod note;
mod openapi;
mod patience;
mod pcap;
mod pipes;
mod placement;
mod pulse;
mod quic;
mod quotas;
mod rebuild;
mod registry;
mod reload;
mod routes;
mod sdp;
mod spread;
mod status;
mod telemetry;
#[cfg(test)]
mod tests;
mod tls;
mod webhooks;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use ironcast_api::{Problem, Reloaded};
use ironcast_config::{Door as DoorAddress, explain};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use audit::Audit;
use auth::{Gate, ProofError, Proofs, Way};
pub use config::{EventsConfig, ProofsConfig, ServerConfig};
use doors::{Door, Open, Reach};
use engine::Engine;
pub use pulse::Pulse;
use quotas::Quotas;
pub use reload::Reload;
use reload::Reloader;
use telemetry::Telemetry;
pub use webhooks::Settings as WebhookSettings;
use webhooks::{Hooks, Made};

/// When we stop, calls have so long to be answered.
const ANSWERS_MAX: Duration = Duration::from_secs(1);
/// Then clients have so long to close their connections.
const FAREWELL_MAX: Duration = Duration::from_millis(200);

/// And then the last traces to be sent.
const TRACES_MAX: Duration = Duration::from_secs(1);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// An address or a socket.
    #[error("cannot listen on {0}: {1}")]
    Bind(String, String),
    /// The same, where it is known what to do.
    #[error("{0}")]
    Explained(String),
    /// Certificates.
    #[error("the certificate (control.tls_cert, control.tls_key) cannot be used: {0}")]
    Tls(String),
    /// What callers could prove who they are by.
    #[error("{0}: {1}")]
    Proofs(&'static str, ProofError),
    /// Who is sent events.
    #[error(transparent)]
    Webhooks(#[from] webhooks::FileError),
    /// What single principals may have.
    #[error("control.quotas: {0}")]
    Quotas(#[from] quotas::FileError),
    /// Open to everybody on the network.
    #[error(
        "{0} can be reached from other machines, but callers would not have to show who they are: \
         set control.client_ca, control.token_file or control.jwt_keys, or listen on loopback \
         (control.plain has to, always)"
    )]
    Unprotected(SocketAddr),
    /// Nothing can be proven there.
    #[error(
        "control.plain is a TCP address, where no certificate can be shown, but control.client_ca \
         asks for one: set control.token_file or control.jwt_keys with control.require = \"any\", or \
         make it a unix socket"
    )]
    Unproven,
}

impl ServerError {
    fn address(key: &str, address: SocketAddr, error: &std::io::Error) -> Self {
        Self::Explained(explain::address(key, address, error))
    }

    fn bind(address: SocketAddr, error: &dyn std::fmt::Display) -> Self {
        Self::Bind(address.to_string(), error.to_string())
    }
}

/// A running server.
pub struct Server {
    /// HTTP/3, HTTP/2 and HTTP/1.1 over TLS.
    pub address: SocketAddr,
    /// Plain HTTP/1.1, if switched on and on TCP.
    pub plain: Option<SocketAddr>,
    /// Health, readiness and metrics.
    pub ops: Option<SocketAddr>,
    engine: Arc<Engine>,
    doors: Vec<Open>,
    /// Ends only when a newer control plane has taken the dataplane over.
    attached: JoinHandle<()>,
    background: [JoinHandle<()>; 5],
    stopping: watch::Sender<bool>,
}

impl Server {
    /// Opens all doors, then attaches to the dataplane as soon as there is one.
    pub async fn start(mut config: ServerConfig) -> Result<Self, ServerError> {
        if let Some(address) = config.unprotected() {
            return Err(ServerError::Unprotected(address));
        }
        if config.unproven_plain() {
            return Err(ServerError::Unproven);
        }
        if !config.has_auth() {
            tracing::warn!(
                "callers do not have to show who they are: listening on loopback only \
                 (control.client_ca, control.token_file and control.jwt_keys change that)"
            );
        }
        let proofs = Proofs::read(&config.proofs)
            .map_err(|error| ServerError::Proofs(config.proofs.setting_of(error.path()), error))?;
        let gate = Arc::new(Gate::new(proofs, config.proofs.token_file.clone()));
        let lines = config.audit_file.as_deref().map(|path| {
            audit::Lines::open(path).map_err(|error| {
                ServerError::Explained(explain::file("control.audit_file", path, &error))
            })
        });
        let audit = Audit::new(config.limits.audit_entries_max, lines.transpose()?);
        let hooks = Hooks::read(config.webhooks.file.as_deref(), config.webhooks.count_max)?;
        let made = Made::read(&config.state_dir)?;
        config.limits.quotas = Quotas::read(config.quotas.as_deref())?;
        doors::require_free(&config)?;
        // Nothing was made so far: a start that is refused leaves nothing behind.
        if config.may_make_cert {
            make_folder(&config.state_dir)?;
        }
        let key = tls::load(&config.tls_cert, &config.tls_key, config.may_make_cert);
        let key = key.map_err(|error| match error {
            tls::TlsError::File { path, error } if config.may_make_cert => {
                ServerError::Explained(explain::state(&path, &error))
            }
            error => ServerError::Tls(error.to_string()),
        })?;
        make_folder(&config.state_dir)?;
        let in_tls = Arc::new(tls::DoorTls::new(key, Arc::clone(&gate)));
        let (stopping, is_stopping) = watch::channel(false);
        let reloader = Reloader::new(&config, Arc::clone(&gate), Arc::clone(&in_tls));
        let engine = Engine::new(config, audit, reloader);
        if let Some(url) = &engine.config.traces {
            let traces = Telemetry::start(url)
                .map_err(|what| ServerError::Explained(format!("control.traces: {what}")))?;
            // It is the first.
            let _ = engine.traces.set(Arc::new(traces));
        }
        let config = engine.config.clone();
        let door = |name, way, reach| Door {
            engine: Arc::clone(&engine),
            gate: Arc::clone(&gate),
            admission: doors::new_admission(&engine, name),
            way,
            reach,
            stopping: is_stopping.clone(),
        };
        let tls = door("tls", Way::Tls, Reach::All);
        let mut doors = doors::open_tls(tls, config.listen, &in_tls).await?;
        let address = doors.first().and_then(|door| door.address).unwrap_or(config.listen);
        let mut plain = None;
        match &config.plain {
            None => {}
            Some(DoorAddress::Tcp(address)) => {
                let door = door("plain", Way::Plain, Reach::All);
                let open = doors::open_plain(door, "control.plain", *address).await?;
                plain = open.address;
                doors.push(open);
            }
            Some(DoorAddress::Unix(path)) => {
                doors.push(doors::open_unix(door("unix", Way::Unix, Reach::All), path).await?);
            }
        }
        let mut ops = None;
        if let Some(address) = config.ops {
            let door = door("ops", Way::Plain, Reach::Ops);
            let open = doors::open_plain(door, "control.ops", address).await?;
            ops = open.address;
            doors.push(open);
        }
        tracing::info!(%address, ?plain, ?ops, "listening");
        // Before anything happens that they are told of.
        engine.reloader.webhooks.start(&engine, hooks.hooks, made);
        let attached = tokio::spawn(attach::stay_attached(Arc::clone(&engine)));
        let background = tokio::spawn(expire(Arc::clone(&engine), gate));
        let sampling = tokio::spawn(quotas::sample(Arc::clone(&engine)));
        let draining = tokio::spawn(drain::watch(Arc::clone(&engine)));
        let sweeping = {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move { engine.sweep().await })
        };
        let piping = tokio::spawn(pipes::watch(Arc::clone(&engine)));
        let background = [background, sampling, draining, sweeping, piping];
        Ok(Self { address, plain, ops, engine, doors, attached, background, stopping })
    }

    /// What shows that it lives.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        Pulse::new(Arc::clone(&self.engine))
    }

    /// Waits until a newer control plane has taken the dataplane over. This one can do nothing any
    /// more then: every call answers 503, and attaching again would take it from the other.
    pub async fn replaced(&mut self) {
        if !self.attached.is_finished() {
            let _ = (&mut self.attached).await;
        }
    }

    /// Reads the configuration again, as `POST /admin/reload` does: for SIGHUP. Gives what was
    /// changed, or why nothing was.
    pub async fn reload(&self) -> Result<Reloaded, Problem> {
        let reloaded = self.engine.reloader.reload(&self.engine).await?;
        self.engine.audit.note_signal("reload");
        Ok(reloaded)
    }

    /// Ends event streams, lets calls finish, closes the doors. Media is not touched.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        for door in &self.doors {
            door.end.graceful();
        }
        let mut calls = self.engine.calls.subscribe();
        // Who has no answer by then repeats his call: all calls are safe to repeat.
        let _ = timeout(ANSWERS_MAX, calls.wait_for(|calls| *calls == 0)).await;
        let (ends, tasks): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.doors).into_iter().map(|door| (door.end, door.task)).unzip();
        // A door that panicked has nothing left to stop.
        let mut closing = futures::future::join_all(tasks);
        // A client that has vanished, or never said anything, does not close its connection.
        if timeout(FAREWELL_MAX, &mut closing).await.is_err() {
            ends.iter().for_each(doors::End::forceful);
            closing.await;
        }
        self.engine.reloader.webhooks.stop(&self.engine);
        if let Some(traces) = self.engine.traces.get().cloned() {
            let _ = timeout(TRACES_MAX, tokio::task::spawn_blocking(move || traces.stop())).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.attached.abort();
        self.engine.reloader.webhooks.abort();
        self.background.iter().for_each(JoinHandle::abort);
        for door in &self.doors {
            door.task.abort();
        }
    }
}

fn make_folder(path: &Path) -> Result<(), ServerError> {
    std::fs::create_dir_all(path)
        .map_err(|error| ServerError::Explained(explain::state(path, &error)))
}

/// Forgets what is too old, each second, and reads the tokens again.
async fn expire(engine: Arc<Engine>, gate: Arc<Gate>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let due = tick.tick().await;
        engine.metrics.loop_lag.observe(due.elapsed().as_secs_f64());
        if !gate.refresh() {
            engine.metrics.token_reads_failed.inc();
        }
        let now = std::time::Instant::now();
        let mut state = engine.lock();
        state.events.expire(now);
        state.registry.expire(now);
    }
}
