//! Reads the configuration and the files that it names again, and takes what may change while the
//! doors are open: proofs, certificates, limits, announced addresses, the log's filter. All of it or
//! nothing: everything is read and checked first, the dataplane is asked next, and what is left
//! cannot fail. Asked for by `POST /admin/reload` and by SIGHUP.

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

use ironcast_api::{ChangedSetting, ErrorCode, Problem, Reloaded};
use ironcast_config::{Config, ConfigError};
use ironcast_protocol::{Command, command};
use sha2::{Digest as _, Sha256};
use tokio::sync::Mutex;
use tracing_subscriber::EnvFilter;

use crate::{
    audit::Lines,
    auth::{Gate, Proofs},
    config::ServerConfig,
    engine::{Engine, Step},
    quotas::Quotas,
    routes,
    tls::{self, DoorTls},
    webhooks::{Hooks, Webhooks},
};

/// Where the configuration comes from, and what of it is not in this library.
#[derive(Clone)]
pub struct Reload {
    /// As it was read at the start.
    pub config: Config,
    /// Reads it again.
    pub load: Arc<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// Takes another filter for the log.
    pub set_log: Arc<dyn Fn(EnvFilter) + Send + Sync>,
}

impl fmt::Debug for Reload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reload")
    }
}

/// Settings that count from a reload on. Others count from the next start on.
const MAY_CHANGE: &[&str] = &[
    "rtc.announced_address",
    "control.tls_cert",
    "control.tls_key",
    "control.client_ca",
    "control.client_crl",
    "control.client_scopes",
    "control.token_file",
    "control.jwt_keys",
    "control.jwt_audience",
    "control.jwt_issuer",
    "control.require",
    "control.audit_file",
    "control.quotas",
    "control.webhooks",
    "log.level",
];
/// Limits that do not: doors are made with them.
const LIMITS_OF_DOORS: [&str; 2] = ["limits.connections_max", "limits.connections_per_address_max"];

fn may_change(setting: &str) -> bool {
    let is_limit = setting.starts_with("limits.") && !LIMITS_OF_DOORS.contains(&setting);
    is_limit || MAY_CHANGE.contains(&setting)
}

/// See the head of this file.
pub struct Reloader {
    source: Option<Reload>,
    gate: Arc<Gate>,
    tls: Arc<DoorTls>,
    holds: Mutex<Holds>,
    /// Who is sent events.
    pub webhooks: Webhooks,
}

/// What holds now.
struct Holds {
    config: Config,
    files: Files,
}

/// Hashes of the files' contents, by the setting that names them.
type Files = BTreeMap<&'static str, [u8; 32]>;

fn files_of(config: &ServerConfig) -> Files {
    let proofs = &config.proofs;
    let named: [(&'static str, Option<&Path>); 7] = [
        ("control.tls_cert", Some(&config.tls_cert)),
        ("control.tls_key", Some(&config.tls_key)),
        ("control.client_ca", proofs.client_ca.as_deref()),
        ("control.client_crl", proofs.client_crl.as_deref()),
        ("control.token_file", proofs.token_file.as_deref()),
        ("control.jwt_keys", proofs.jwt_keys.as_deref()),
        ("control.quotas", config.quotas.as_deref()),
    ];
    let read = named.into_iter().filter_map(|(setting, path)| {
        Some((setting, Sha256::digest(std::fs::read(path?).ok()?).into()))
    });
    read.collect()
}

/// The same of all files that belong to webhooks.
fn hash_of(hooks: &Hooks) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hooks.files.iter().for_each(|file| hasher.update(Sha256::digest(file)));
    hasher.finalize().into()
}

/// Everything that is read and checked, and not taken yet.
struct Next {
    config: Config,
    server: ServerConfig,
    proofs: Proofs,
    key: rustls::sign::CertifiedKey,
    lines: Option<Lines>,
    filter: EnvFilter,
    hooks: Hooks,
    files: Files,
}

impl Next {
    fn read(source: &Reload, now: &ServerConfig) -> Result<Self, Problem> {
        let wrong = |what: String| Problem::invalid("", format!("nothing was changed: {what}"));
        let config = (source.load)().map_err(|error| wrong(error.to_string()))?;
        let mut server = ServerConfig::from_config(&config);
        // The doors stay where they are.
        let open = ServerConfig { proofs: server.proofs.clone(), ..now.clone() };
        if open.unprotected().is_some() || open.unproven_plain() {
            let what = "callers of an open door would not, or could not, show who they are";
            return Err(wrong(what.to_owned()));
        }
        let proofs = Proofs::read(&server.proofs).map_err(|error| wrong(error.to_string()))?;
        let key = tls::load(&server.tls_cert, &server.tls_key, server.may_make_cert)
            .map_err(|error| wrong(error.to_string()))?;
        let lines = server.audit_file.as_deref().map(|path| {
            Lines::open(path).map_err(|error| wrong(format!("{}: {error}", path.display())))
        });
        let filter = EnvFilter::try_new(&config.log.level);
        let filter = filter.map_err(|error| wrong(format!("log.level: {error}")))?;
        let hooks = Hooks::read(server.webhooks.file.as_deref(), now.webhooks.count_max)
            .map_err(|error| wrong(error.to_string()))?;
        server.limits.quotas = Quotas::read(server.quotas.as_deref())
            .map_err(|error| wrong(format!("control.quotas: {error}")))?;
        let mut files = files_of(&server);
        if server.webhooks.file.is_some() {
            files.insert("control.webhooks", hash_of(&hooks));
        }
        Ok(Self { lines: lines.transpose()?, config, server, proofs, key, filter, hooks, files })
    }

    fn differences(&self, holds: &Holds) -> Reloaded {
        let mut reloaded = Reloaded::default();
        for difference in holds.config.differences(&self.config) {
            let is_taken = may_change(&difference.setting);
            let list = if is_taken { &mut reloaded.changed } else { &mut reloaded.needs_restart };
            list.push(ChangedSetting {
                setting: difference.setting,
                from: difference.from,
                to: difference.to,
            });
        }
        for (setting, hash) in &self.files {
            let is_named = reloaded.changed.iter().any(|one| one.setting == *setting);
            if holds.files.get(setting) != Some(hash) && !is_named {
                let setting = (*setting).to_owned();
                reloaded.changed.push(ChangedSetting { setting, from: None, to: None });
            }
        }
        reloaded
    }
}

impl Reloader {
    /// Knows what was read at the start.
    #[must_use]
    pub fn new(config: &ServerConfig, gate: Arc<Gate>, tls: Arc<DoorTls>) -> Self {
        let source = config.reload.clone();
        let read = source.as_ref().map(|source| source.config.clone()).unwrap_or_default();
        let mut files = files_of(config);
        let settings = &config.webhooks;
        if let Ok(hooks) = Hooks::read(settings.file.as_deref(), settings.count_max)
            && settings.file.is_some()
        {
            files.insert("control.webhooks", hash_of(&hooks));
        }
        let holds = Mutex::new(Holds { config: read, files });
        Self { source, gate, tls, holds, webhooks: Webhooks::default() }
    }

    /// Reads all of it again. Says what is different now, or why nothing is.
    pub async fn reload(&self, engine: &Arc<Engine>) -> Result<Reloaded, Problem> {
        let Some(source) = &self.source else {
            let detail = "this server was started without a configuration that could be read again";
            return Err(Problem::new(ErrorCode::Unsupported, detail));
        };
        // One at a time.
        let mut holds = self.holds.lock().await;
        let next = Next::read(source, &engine.config)?;
        let reloaded = next.differences(&holds);
        let is_of_dataplane =
            |one: &ChangedSetting| ["rtc.announced_address", "log.level"].contains(&&*one.setting);
        let told = tell_dataplane(engine, &next.config).await;
        if reloaded.changed.iter().any(is_of_dataplane) {
            // One of an earlier release does not know the question.
            told.map_err(|problem| Problem {
                detail: format!("nothing was changed, the dataplane did not: {}", problem.detail),
                ..problem
            })?;
        }
        let Next { config, server, proofs, key, lines, filter, hooks, files } = next;
        self.gate.replace(proofs, server.proofs.token_file.clone());
        self.tls.replace(key);
        engine.audit.replace(server.limits.audit_entries_max, lines);
        engine.set_limits(server.limits);
        self.webhooks.replace(engine, hooks.hooks);
        (source.set_log)(filter);
        *holds = Holds { config, files };
        let names = |list: &[ChangedSetting]| {
            list.iter().map(|one| one.setting.as_str()).collect::<Vec<_>>().join(", ")
        };
        tracing::info!(
            changed = names(&reloaded.changed),
            needs_restart = names(&reloaded.needs_restart),
            "the configuration was read again"
        );
        Ok(reloaded)
    }
}

async fn tell_dataplane(engine: &Arc<Engine>, config: &Config) -> Result<(), Problem> {
    let announced = config.rtc.announced_address.iter();
    let announced = announced.map(|one| command::Announced { ip: one.ip, port: one.port });
    let settings =
        command::Settings { announced: announced.collect(), log_filter: config.log.level.clone() };
    let told = engine.run(|_| {
        let command = Command::SetSettings(settings.clone());
        Ok(Step::ask(command, |_, reply| routes::done(reply)))
    });
    told.await.map(|((), _)| ())
}
