//! Counts of the control plane and figures of the dataplane, as Prometheus text. Counted where
//! things happen; what can be looked at is looked at when somebody asks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use ironcast_api::ErrorCode;
use ironcast_protocol::stats::ProcessStats;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, prometheus_text::encode},
    metrics::{
        TypedMetric,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    admission::Admission, dataplane::Link, engine::Engine, placement::Worker, routes::Route,
};

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

type Label<V> = [(&'static str, V); 1];
type Times = Family<[(&'static str, &'static str); 2], Histogram, fn() -> Histogram>;

/// Counts since the start.
pub struct Metrics {
    registry: Registry,
    answers: Family<Label<u16>, Counter>,
    problems: Family<Label<&'static str>, Counter>,
    /// Event streams that are open.
    pub streams: Gauge,
    /// Event streams that were cut because they read too slowly.
    pub streams_cut: Counter,
    /// Panics that were caught.
    pub panics: Counter,
    /// Times that the token file could not be read again.
    pub token_reads_failed: Counter,
    calls: Times,
    commands: Histogram,
    /// The doors' connections.
    doors: Mutex<Vec<(&'static str, Arc<Admission>)>>,
}

/// From 0.25 ms to 8 s.
fn times() -> Histogram {
    Histogram::new(exponential_buckets(0.000_25, 2.0, 16))
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            registry: Registry::default(),
            answers: Family::default(),
            problems: Family::default(),
            streams: Gauge::default(),
            streams_cut: Counter::default(),
            panics: Counter::default(),
            token_reads_failed: Counter::default(),
            calls: Family::new_with_constructor(times),
            commands: times(),
            doors: Mutex::default(),
        };
        let mut registry = Registry::with_prefix("ironcast_control");
        registry.register("answers", "Answers by HTTP status", metrics.answers.clone());
        let help = "Problems by code; limits that are reached are among them";
        registry.register("problems", help, metrics.problems.clone());
        registry.register("event_streams", "Open event streams", metrics.streams.clone());
        let help = "Event streams that read too slowly";
        registry.register("event_streams_cut", help, metrics.streams_cut.clone());
        registry.register("panics", "Panics that were caught", metrics.panics.clone());
        let help = "Times that the token file could not be read again";
        registry.register("token_reads_failed", help, metrics.token_reads_failed.clone());
        let help = "Time from a call's arrival to its answer, those of batches included";
        registry.register("request_seconds", help, metrics.calls.clone());
        let help = "Time from a command to the dataplane to its answer";
        registry.register("command_seconds", help, metrics.commands.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// An answer was given.
    pub fn count_answer(&self, status: u16) {
        self.answers.get_or_create(&[("status", status)]).inc();
    }

    /// A problem was answered.
    pub fn count_problem(&self, code: ErrorCode) {
        self.problems.get_or_create(&[("code", code.as_str())]).inc();
    }

    /// A call was answered, well or not.
    pub fn time_call(&self, route: &Route, took: Duration) {
        let labels = [("method", route.method), ("path", route.path)];
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The dataplane has answered.
    pub fn time_command(&self, took: Duration) {
        self.commands.observe(took.as_secs_f64());
    }

    /// A door's connections are counted.
    pub fn watch_door(&self, name: &'static str, admission: Arc<Admission>) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).push((name, admission));
    }
}

/// All of it.
#[must_use]
pub fn text(engine: &Engine) -> String {
    let mut text = String::new();
    let mut seen = Registry::default();
    seen.register_collector(Box::new(Seen::of(engine)));
    for registry in [&engine.metrics.registry, &seen] {
        // Writing to a string cannot fail.
        let _ = encode(&mut text, registry);
    }
    text
}

/// What there was to see at one moment.
#[derive(Debug)]
struct Seen {
    uptime_s: u64,
    is_attached: bool,
    /// Entries, and lines that were dropped.
    audit: (u64, u64),
    quota_refusals: u64,
    commands_waiting: usize,
    events: u64,
    event_bytes: usize,
    resources: [(&'static str, usize); 4],
    /// Open, refused and unproven connections of each door.
    doors: Vec<(&'static str, [u64; 3])>,
    workers: Vec<Worker>,
    process: ProcessStats,
}

impl Seen {
    fn of(engine: &Engine) -> Self {
        let doors = engine.metrics.doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let doors = doors.into_iter().map(|(name, door)| {
            let count = door.count() as u64;
            let refused = door.refused.load(Ordering::Relaxed);
            (name, [count, refused, door.unproven.load(Ordering::Relaxed)])
        });
        let doors = doors.collect();
        let audit = engine.audit.counts();
        let state = engine.lock();
        let registry = &state.registry;
        Self {
            uptime_s: engine.started.elapsed().as_secs(),
            is_attached: state.link.is_some(),
            audit,
            quota_refusals: state.quota_refusals,
            commands_waiting: state.link.as_ref().map_or(0, Link::waiting),
            events: state.events.head().number,
            event_bytes: state.events.bytes(),
            resources: [
                ("router", registry.routers.len()),
                ("transport", registry.transports.len()),
                ("producer", registry.producers.len()),
                ("consumer", registry.consumers.len()),
            ],
            doors,
            workers: state.workers.iter().cloned().collect(),
            process: state.process.clone(),
        }
    }
}

/// One metric: its name, its help line, its values by label.
fn family<L: EncodeLabelSet, M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    values: impl IntoIterator<Item = (L, M)>,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, M::TYPE)?;
    for (labels, value) in values {
        value.encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: u64) -> fmt::Result {
    let no_labels: [(&str, &str); 0] = [];
    family(encoder, name, help, [(no_labels, ConstGauge::new(value))])
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let encoder = &mut encoder;
        gauge(encoder, "ironcast_control_uptime_seconds", "Since the start", self.uptime_s)?;
        let help = "1 while attached to the dataplane";
        gauge(encoder, "ironcast_control_dataplane_attached", help, self.is_attached.into())?;
        let help = "Commands that wait for the dataplane's answer";
        gauge(encoder, "ironcast_control_commands_waiting", help, self.commands_waiting as u64)?;
        gauge(encoder, "ironcast_control_events", "Events of this epoch", self.events)?;
        let counts = [
            ("audit_entries", "Entries of the audit", self.audit.0),
            ("audit_lines_dropped", "Audit entries that the file did not take", self.audit.1),
            ("quota_refusals", "Calls of principals that had enough", self.quota_refusals),
        ];
        for (name, help, value) in counts {
            let no_labels: [(&str, &str); 0] = [];
            let values = [(no_labels, ConstCounter::new(value))];
            family(encoder, &format!("ironcast_control_{name}"), help, values)?;
        }
        let help = "Kept for resuming";
        gauge(encoder, "ironcast_control_events_kept_bytes", help, self.event_bytes as u64)?;
        let values =
            self.resources.map(|(kind, count)| ([("kind", kind)], ConstGauge::new(count as u64)));
        family(encoder, "ironcast_resources", "What exists", values)?;
        self.encode_doors(encoder)?;
        self.encode_workers(encoder)
    }
}

impl Seen {
    fn encode_doors(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of = |figure: usize| {
            self.doors.iter().map(move |(name, figures)| ([("door", *name)], figures[figure]))
        };
        let open = of(0).map(|(door, value)| (door, ConstGauge::new(value)));
        family(encoder, "ironcast_control_connections", "Open connections", open)?;
        let help = "Connections of addresses that had enough";
        let refused = of(1).map(|(door, value)| (door, ConstCounter::new(value)));
        family(encoder, "ironcast_control_connections_refused", help, refused)?;
        let help = "Connections that ended because nothing good was shown";
        let unproven = of(2).map(|(door, value)| (door, ConstCounter::new(value)));
        family(encoder, "ironcast_control_connections_unproven", help, unproven)
    }

    fn encode_workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Figure = fn(&Worker) -> f64;
        let figures: [(&str, &str, Figure); 9] = [
            ("running", "1 while it runs", |one| one.stats.running.into()),
            ("busy_ratio", "Share of the last second", |one| one.stats.cpu_busy),
            ("load_ratio", "What placement goes by", |one| one.load()),
            ("routers", "Rooms", |one| one.stats.routers.into()),
            ("transports", "Transports", |one| one.stats.transports.into()),
            ("consumers", "Sent tracks", |one| one.stats.consumers.into()),
            ("packets_out_per_second", "Sent", |one| one.stats.packets_out_per_s as f64),
            ("bits_out_per_second", "Sent", |one| one.stats.bitrate_out_bps as f64),
            ("forwarding_delay_p99_seconds", "Arrival to submit", |one| {
                f64::from(one.stats.forwarding_delay_us_p99) / 1e6
            }),
        ];
        for (name, help, figure) in figures {
            let values = self
                .workers
                .iter()
                .map(|one| ([("worker", u64::from(one.stats.id))], ConstGauge::new(figure(one))));
            family(encoder, &format!("ironcast_worker_{name}"), help, values)?;
        }
        let counts = &self.process.counters;
        let told = counts
            .iter()
            .map(|(name, count)| ([("name", name.as_str())], ConstCounter::new(*count)));
        let help = "Everything that the dataplane's process counts beside its workers, by name";
        family(encoder, "ironcast_dataplane", help, told)?;
        let told = self.workers.iter().flat_map(|one| {
            let id = one.stats.id.to_string();
            one.stats.counters.iter().map(move |(name, count)| {
                let labels = [("worker", id.clone()), ("name", name.clone())];
                (labels, ConstCounter::new(*count))
            })
        });
        family(encoder, "ironcast_worker", "Everything that a worker counts, by name", told)
    }
}
