//! Settings of the server: plain values with defaults, so that tests start a server without files.
//! `main` fills them from the configuration file, the environment and flags.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use ironcast_config::{Config, Door, Require};
use ironcast_log::LogCounts;
use ironcast_protocol::command::CandidateKinds;

use crate::{limits::Limits, quotas::Quotas, reload::Reload, webhooks};

/// See the head of this file.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// What it calls itself towards the dataplane.
    pub name: String,
    /// Where it keeps what has to outlive it.
    pub state_dir: PathBuf,
    /// The dataplane's unix socket.
    pub dataplane_socket: PathBuf,
    /// A call waits for the dataplane for so long.
    pub dataplane_timeout: Duration,
    /// Replaced by a newer control plane, it attaches again when none was attached for so long.
    /// `None`: it ends.
    pub stand_by: Option<Duration>,
    /// HTTP/3, and HTTP/2 and 1.1 over TLS, on the same port number. Port 0: any that is free.
    pub listen: SocketAddr,
    /// Plain HTTP/1.1 beside it.
    pub plain: Option<Door>,
    /// Health, readiness and metrics.
    pub ops: Option<SocketAddr>,
    /// Certificate, PEM.
    pub tls_cert: PathBuf,
    /// Its key, PEM.
    pub tls_key: PathBuf,
    /// Make a development certificate if there is none.
    pub may_make_cert: bool,
    /// How callers prove who they are.
    pub proofs: ProofsConfig,
    /// Where each audit entry is written, beside memory.
    pub audit_file: Option<PathBuf>,
    /// What single principals may have, in place of what `limits` gives all.
    pub quotas: Option<PathBuf>,
    /// How to read all this again while the doors are open.
    pub reload: Option<Reload>,
    /// A collector of traces: its URL.
    pub traces: Option<String>,
    /// What the log has lost.
    pub log: LogCounts,
    /// HTTP/3.
    pub quic: bool,
    /// A connection that has shown nothing good by then ends.
    pub proof_time: Duration,
    /// What callers may have and do.
    pub limits: Limits,
    /// The event stream.
    pub events: EventsConfig,
    /// Events for those who hold no stream.
    pub webhooks: webhooks::Settings,
    /// Default of new transports.
    pub candidates: CandidateKinds,
    /// Default of new transports, seconds.
    pub consent_timeout_s: u32,
    /// Default of new transports, seconds; 0: never.
    pub disconnected_timeout_s: u32,
    /// Default of new transports.
    pub initial_outgoing_bitrate_bps: u32,
    /// What goes to other hosts.
    pub pipes: PipesConfig,
}

/// What goes to other hosts, and how they are spoken with.
#[derive(Debug, Clone)]
pub struct PipesConfig {
    /// Where pipe transports listen that say nothing else.
    pub listen: IpAddr,
    /// Their control APIs: no other is spoken with.
    pub remotes: Vec<String>,
    /// Trusted there, PEM.
    pub ca: PathBuf,
    /// With the token to show there.
    pub token_file: Option<PathBuf>,
    /// Certificate and key to show there, PEM.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// Media is sealed.
    pub srtp: bool,
    /// They answer within so long.
    pub answer_within: Duration,
}

/// How callers prove who they are. Without a CA, tokens or keys nobody is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProofsConfig {
    /// By a certificate of one of these, PEM.
    pub client_ca: Option<PathBuf>,
    /// Certificates that were revoked: lists of the CA's (CRL), PEM.
    pub client_crl: Option<PathBuf>,
    /// Scopes of a certificate that names none.
    pub client_scopes: Vec<String>,
    /// By a token of this file.
    pub token_file: Option<PathBuf>,
    /// By a JSON Web Token that one of these keys has signed: a JWK Set, or PEM.
    pub jwt_keys: Option<PathBuf>,
    /// For this audience.
    pub jwt_audience: String,
    /// Of this issuer.
    pub jwt_issuer: Option<String>,
    /// Verified ones that are remembered.
    pub jwt_remembered_max: usize,
    /// With a certificate and one of the others: whether one of the two is enough.
    pub require: Require,
}

impl ProofsConfig {
    /// From the configuration file.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let control = &config.control;
        Self {
            client_ca: control.client_ca.clone(),
            client_crl: control.client_crl.clone(),
            client_scopes: control.client_scopes.clone(),
            token_file: control.token_file.clone(),
            jwt_keys: control.jwt_keys.clone(),
            jwt_audience: control.jwt_audience.clone(),
            jwt_issuer: control.jwt_issuer.clone(),
            jwt_remembered_max: config.limits.jwt_remembered_max as usize,
            require: control.require,
        }
    }

    /// The setting that names this file.
    #[must_use]
    pub fn setting_of(&self, path: &std::path::Path) -> &'static str {
        let settings = [
            ("control.client_ca", &self.client_ca),
            ("control.client_crl", &self.client_crl),
            ("control.token_file", &self.token_file),
            ("control.jwt_keys", &self.jwt_keys),
        ];
        let named = settings.into_iter().find(|(_, file)| file.as_deref() == Some(path));
        named.map_or("a proof", |(setting, _)| setting)
    }

    /// A token or a JSON Web Token can be shown.
    #[must_use]
    pub fn take_bearers(&self) -> bool {
        self.token_file.is_some() || self.jwt_keys.is_some()
    }
}

/// The event stream.
#[derive(Debug, Clone)]
pub struct EventsConfig {
    /// Events are kept for so long.
    pub keep: Duration,
    /// Memory for them.
    pub keep_bytes: usize,
    /// Streams at once.
    pub streams_max: usize,
    /// Events that may wait for one stream.
    pub waiting_max: u64,
    /// A comment keeps a silent stream alive.
    pub comment_every: Duration,
}

impl ServerConfig {
    /// Defaults, with everything that is kept in a folder in this one.
    #[must_use]
    pub fn in_folder(state_dir: impl Into<PathBuf>) -> Self {
        let mut config = Config::default();
        config.control.state_dir = state_dir.into();
        Self::from_config(&config)
    }

    /// From the configuration file and what goes over it.
    #[must_use]
    pub fn from_config(config: &Config) -> Self {
        let limits = &config.limits;
        let size = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        Self {
            name: format!("ironcast-controlplane pid {}", std::process::id()),
            state_dir: config.state_dir().to_owned(),
            dataplane_socket: config.dataplane_socket(),
            dataplane_timeout: Duration::from_millis(config.control.dataplane_timeout_ms.into()),
            stand_by: Some(config.control.stand_by_s)
                .filter(|seconds| *seconds > 0)
                .map(|seconds| Duration::from_secs(seconds.into())),
            listen: config.control.listen,
            plain: config.control.plain.clone(),
            ops: Some(config.control.ops),
            tls_cert: config.control_cert(),
            tls_key: config.control_key(),
            may_make_cert: config.control.tls_cert.is_none() && config.control.tls_key.is_none(),
            proofs: ProofsConfig::from_config(config),
            audit_file: config.control.audit_file.clone(),
            quotas: config.control.quotas.clone(),
            reload: None,
            traces: config.control.traces.clone(),
            log: LogCounts::default(),
            quic: config.control.quic,
            proof_time: Duration::from_secs(10),
            limits: Limits {
                body_bytes_max: size(limits.body_bytes_max),
                requests_per_s: limits.requests_per_s,
                unauthenticated_per_s: limits.unauthenticated_per_s,
                connections_max: limits.connections_max as usize,
                connections_per_address_max: limits.connections_per_address_max as usize,
                creations_per_router_per_s: limits.creations_per_router_per_s,
                batch_calls_max: limits.batch_calls_max as usize,
                routers_max: limits.routers_max,
                routers_per_worker_max: limits.routers_per_worker_max,
                transports_per_router_max: limits.transports_per_router_max,
                producers_per_transport_max: limits.producers_per_transport_max,
                consumers_per_transport_max: limits.consumers_per_transport_max,
                observers_per_router_max: limits.observers_per_router_max,
                producers_per_observer_max: limits.producers_per_observer_max,
                producers_per_worker_max: limits.producers_per_worker_max,
                consumers_per_worker_max: limits.consumers_per_worker_max,
                routers_per_principal_max: limits.routers_per_principal_max,
                transports_per_principal_max: limits.transports_per_principal_max,
                participants_per_principal_max: limits.participants_per_principal_max,
                bits_per_principal_per_s_max: limits.bits_per_principal_per_s_max,
                streams_per_principal_max: limits.streams_per_principal_max,
                // The file is not read here.
                quotas: Quotas::default(),
                audit_entries_max: limits.audit_entries_max as usize,
                worker_busy_max: f64::from(limits.worker_busy_max_percent) / 100.0,
                worker_packets_soft: limits.worker_packets_soft,
                worker_busy_soft: f64::from(limits.worker_busy_soft_percent) / 100.0,
                worker_delay_max_us: limits.worker_delay_max_ms.saturating_mul(1_000),
            },
            events: EventsConfig {
                keep: Duration::from_secs(config.events.keep_s.into()),
                keep_bytes: size(config.events.keep_bytes),
                streams_max: config.events.streams_max as usize,
                waiting_max: config.events.waiting_max.into(),
                comment_every: Duration::from_secs(15),
            },
            webhooks: webhooks::Settings {
                file: config.control.webhooks.clone(),
                count_max: config.events.webhooks_max as usize,
                waiting_max: config.events.webhook_waiting_max as usize,
                waiting_bytes_max: size(config.events.keep_bytes),
                batch_max: config.events.webhook_batch_max as usize,
                answer_within: Duration::from_secs(config.events.webhook_answer_s.into()),
                pause_max: Duration::from_secs(config.events.webhook_pause_max_s.into()),
                allow: config.events.webhook_allow.clone(),
            },
            candidates: CandidateKinds {
                udp: config.rtc.enable_udp,
                tcp: config.rtc.enable_tcp,
                ..CandidateKinds::default()
            },
            consent_timeout_s: config.rtc.consent_timeout_s,
            disconnected_timeout_s: config.rtc.disconnected_timeout_s,
            initial_outgoing_bitrate_bps: config.rtc.initial_outgoing_bitrate_bps,
            pipes: PipesConfig {
                listen: config.pipes.listen,
                remotes: config.pipes.remotes.clone(),
                ca: config.pipes.ca.clone().unwrap_or_else(|| config.control_cert()),
                token_file: config.pipes.token_file.clone(),
                identity: config.pipes.cert.clone().zip(config.pipes.key.clone()),
                srtp: config.pipes.srtp,
                answer_within: Duration::from_secs(config.pipes.answer_s.into()),
            },
        }
    }

    /// Whether callers have to show who they are.
    #[must_use]
    pub fn has_auth(&self) -> bool {
        self.proofs.client_ca.is_some() || self.proofs.take_bearers()
    }

    /// A plain door over TCP on which callers could not give the proof that is asked for elsewhere.
    #[must_use]
    pub fn unproven_plain(&self) -> bool {
        let is_tcp = matches!(self.plain, Some(Door::Tcp(_)));
        let proofs = &self.proofs;
        let is_enough = proofs.take_bearers() && proofs.require == Require::Any;
        is_tcp && proofs.client_ca.is_some() && !is_enough
    }

    /// Addresses that are reached from other machines while nobody has to show who they are.
    #[must_use]
    pub fn unprotected(&self) -> Option<SocketAddr> {
        let plain = match self.plain {
            Some(Door::Tcp(address)) => Some(address),
            _ => None,
        };
        // The plain door encrypts nothing: not even a token may be sent over a network there.
        if let Some(address) = plain.filter(|address| !address.ip().is_loopback()) {
            return Some(address);
        }
        if self.has_auth() {
            return None;
        }
        let mut addresses = [Some(self.listen), self.ops].into_iter().flatten();
        addresses.find(|address| !address.ip().is_loopback())
    }
}
