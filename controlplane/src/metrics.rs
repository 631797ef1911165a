//! Counts of the control plane and figures of the dataplane, as Prometheus text. Counted where
//! things happen; what can be looked at is looked at when somebody asks.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use ironcast_api::ErrorCode;
use ironcast_protocol::stats::{Distribution, ProcessStats};
use prometheus_client::{
    collector::Collector,
    encoding::{
        DescriptorEncoder, EncodeLabelSet, EncodeMetric, NoLabelSet, prometheus_text::encode,
    },
    metrics::{
        MetricType, TypedMetric,
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};

use crate::{
    admission::Admission,
    auth::Principal,
    dataplane::Link,
    engine::Engine,
    placement::Worker,
    registry::Holdings,
    routes::{Route, top},
    webhooks::Figures,
};

pub use prometheus_client::encoding::prometheus_text::CONTENT_TYPE;

type Label<V> = [(&'static str, V); 1];
type Times<const LABELS: usize> =
    Family<[(&'static str, &'static str); LABELS], Histogram, fn() -> Histogram>;

/// Counts since the start.
pub struct Metrics {
    registry: Registry,
    answers: Family<Label<u16>, Counter>,
    problems: Family<Label<&'static str>, Counter>,
    /// 1 while another control plane has the dataplane.
    pub stands_by: Gauge,
    /// Event streams that are open.
    pub streams: Gauge,
    /// Event streams that were cut because they read too slowly.
    pub streams_cut: Counter,
    /// Panics that were caught.
    pub panics: Counter,
    /// Times that the token file could not be read again.
    pub token_reads_failed: Counter,
    calls: Times<3>,
    commands: Histogram,
    state_held: Histogram,
    /// From an event to the moment that a stream takes it.
    pub event_lag: Histogram,
    /// Pipe transports that lead to other hosts and are followed.
    pub pipes: Gauge,
    /// Times that the other end of a pipe could not be looked at.
    pub pipe_retries: Counter,
    /// Captures that run.
    pub captures: Gauge,
    /// How late a timer of this process is.
    pub loop_lag: Histogram,
    /// The doors' connections.
    doors: Mutex<Vec<(&'static str, Arc<Admission>)>>,
}

/// Statuses of answers, as labels.
const STATUSES: &[(u16, &str)] = &[
    (200, "200"),
    (201, "201"),
    (204, "204"),
    (400, "400"),
    (401, "401"),
    (403, "403"),
    (404, "404"),
    (409, "409"),
    (410, "410"),
    (413, "413"),
    (415, "415"),
    (422, "422"),
    (429, "429"),
    (500, "500"),
    (503, "503"),
    (504, "504"),
];

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
            stands_by: Gauge::default(),
            streams: Gauge::default(),
            streams_cut: Counter::default(),
            panics: Counter::default(),
            token_reads_failed: Counter::default(),
            calls: Family::new_with_constructor(times),
            commands: times(),
            // Most are over within microseconds.
            state_held: Histogram::new(exponential_buckets(0.000_002, 2.0, 18)),
            event_lag: times(),
            pipes: Gauge::default(),
            pipe_retries: Counter::default(),
            captures: Gauge::default(),
            loop_lag: times(),
            doors: Mutex::default(),
        };
        let mut registry = Registry::with_prefix("ironcast_control");
        registry.register("answers", "Answers by HTTP status", metrics.answers.clone());
        let help = "Problems by code; limits that are reached are among them";
        registry.register("problems", help, metrics.problems.clone());
        let help = "1 while another control plane has the dataplane and this one stands by";
        registry.register("stands_by", help, metrics.stands_by.clone());
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
        let help = "How long a call or an answer held the state, for which others wait";
        registry.register("state_held_seconds", help, metrics.state_held.clone());
        let help = "Time from an event to the moment that a stream takes it";
        registry.register("event_lag_seconds", help, metrics.event_lag.clone());
        let help = "Pipe transports that lead to other hosts";
        registry.register("pipes", help, metrics.pipes.clone());
        let help = "Times that the other end of a pipe could not be reached";
        registry.register("pipe_retries", help, metrics.pipe_retries.clone());
        registry.register("captures", "Captures that run", metrics.captures.clone());
        let help = "How late a timer of this process is";
        registry.register("loop_lag_seconds", help, metrics.loop_lag.clone());
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
    pub fn time_call(&self, route: &Route, status: u16, took: Duration) {
        let status = STATUSES.iter().find(|(number, _)| *number == status);
        let status = status.map_or("other", |(_, text)| text);
        let labels = [("method", route.method), ("path", route.path), ("status", status)];
        self.calls.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// The dataplane has answered.
    pub fn time_command(&self, took: Duration) {
        self.commands.observe(took.as_secs_f64());
    }

    /// The state was held for so long.
    pub fn time_state(&self, held: Duration) {
        self.state_held.observe(held.as_secs_f64());
    }

    /// A door's connections are counted.
    pub fn watch_door(&self, name: &'static str, admission: Arc<Admission>) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).push((name, admission));
    }
}

/// All of it, as far as it is for whoever asks.
#[must_use]
pub fn text(engine: &Engine, who: &Principal) -> String {
    let mut text = String::new();
    let mut seen = Registry::default();
    seen.register_collector(Box::new(Seen::of(engine, who)));
    for registry in [&engine.metrics.registry, &seen] {
        // Writing to a string cannot fail.
        let _ = encode(&mut text, registry);
    }
    text
}

/// What a principal has of a kind, and may have.
type Held = (&'static str, u64, u64);

/// What there was to see at one moment.
#[derive(Debug)]
struct Seen {
    uptime_s: u64,
    is_attached: bool,
    /// Entries, and lines that were dropped.
    audit: (u64, u64),
    quota_refusals: u64,
    /// Lines of the log that were lost, by reason.
    log: [(&'static str, u64); 3],
    is_draining: bool,
    commands_waiting: usize,
    commands_refused: u64,
    events: u64,
    event_bytes: usize,
    resources: [(&'static str, u32); 4],
    /// Open, refused, unproven and failed connections of each door.
    doors: Vec<(&'static str, [u64; 4])>,
    /// Of principals with a quota of their own.
    principals: Vec<(String, [Held; 4])>,
    webhooks: Vec<Figures>,
    workers: Vec<Worker>,
    process: ProcessStats,
}

impl Seen {
    fn of(engine: &Engine, who: &Principal) -> Self {
        // Somebody with a name of his own who is no admin is told of no other's.
        let sees_all = who.is_admin() || who.owner().is_none();
        let doors = engine.metrics.doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let doors = doors.into_iter().map(|(name, door)| {
            let count = door.count() as u64;
            let counts = [&door.refused, &door.unproven, &door.accepts_failed];
            let [refused, unproven, failed] = counts.map(|count| count.load(Ordering::Relaxed));
            (name, [count, refused, unproven, failed])
        });
        let doors = doors.collect();
        let audit = engine.audit.counts();
        let webhooks = if sees_all { engine.reloader.webhooks.figures() } else { Vec::new() };
        let state = engine.lock();
        let registry = &state.registry;
        let principals = state.limits.quotas.principals();
        let principals = principals.filter(|name| sees_all || **name == *who.name).map(|name| {
            let quota = state.limits.quota_of(name);
            let has = registry.holdings(name);
            let has = |of: fn(&Holdings) -> u64| has.map_or(0, of);
            let kinds = [
                ("router", has(|one| one.routers.len() as u64), quota.routers.into()),
                ("transport", has(|one| one.transports as u64), quota.transports.into()),
                ("participant", has(|one| one.participants as u64), quota.participants.into()),
                ("bit_per_s", has(|one| one.bps), quota.bits_per_s),
            ];
            (name.to_owned(), kinds)
        });
        let principals = principals.collect();
        let totals = registry.totals();
        Self {
            uptime_s: engine.started.elapsed().as_secs(),
            is_attached: state.link.is_some(),
            audit,
            quota_refusals: state.quota_refusals,
            log: engine.config.log.all(),
            is_draining: state.drain.is_some(),
            commands_waiting: state.link.as_ref().map_or(0, Link::waiting),
            commands_refused: state.link.as_ref().map_or(0, Link::refused),
            events: state.events.head().number,
            event_bytes: state.events.bytes(),
            resources: [
                ("router", u32::try_from(registry.routers.len()).unwrap_or(u32::MAX)),
                ("transport", totals.transports),
                ("producer", totals.producers),
                ("consumer", totals.consumers),
            ],
            doors,
            principals,
            webhooks,
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
        let help = "1 while no new rooms are taken";
        gauge(encoder, "ironcast_control_draining", help, self.is_draining.into())?;
        let help = "Commands that wait for the dataplane's answer";
        gauge(encoder, "ironcast_control_commands_waiting", help, self.commands_waiting as u64)?;
        gauge(encoder, "ironcast_control_events", "Events of this epoch", self.events)?;
        let help = "Commands for which too many others waited";
        let counts = [
            ("commands_refused", help, self.commands_refused),
            ("audit_entries", "Entries of the audit", self.audit.0),
            ("audit_lines_dropped", "Audit entries that the file did not take", self.audit.1),
            ("quota_refusals", "Calls of principals that had enough", self.quota_refusals),
        ];
        let log = self.log.map(|(name, value)| (name, "Lines that the log has not", value));
        for (name, help, value) in counts.into_iter().chain(log) {
            let no_labels: [(&str, &str); 0] = [];
            let values = [(no_labels, ConstCounter::new(value))];
            family(encoder, &format!("ironcast_control_{name}"), help, values)?;
        }
        let help = "Kept for resuming";
        gauge(encoder, "ironcast_control_events_kept_bytes", help, self.event_bytes as u64)?;
        let values = self
            .resources
            .map(|(kind, count)| ([("kind", kind)], ConstGauge::new(u64::from(count))));
        family(encoder, "ironcast_resources", "What exists", values)?;
        self.encode_doors(encoder)?;
        self.encode_principals(encoder)?;
        self.encode_webhooks(encoder)?;
        self.encode_workers(encoder)
    }
}

/// One histogram of the dataplane; `unit` values are one of what is shown.
fn spread(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, f64),
    values: &[(Vec<(&'static str, String)>, &Distribution)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Histogram)?;
    for (labels, told) in values {
        // What is above all bounds is in the count only: the encoder adds the bucket `+Inf` itself.
        let bounds = told.bounds.iter().map(|bound| *bound as f64 / unit);
        let buckets: Vec<(f64, u64)> = bounds.zip(told.counts.iter().copied()).collect();
        let count = told.counts.iter().sum();
        let mut metric = family.encode_family(labels)?;
        metric.encode_histogram::<NoLabelSet>(told.sum as f64 / unit, count, &buckets, None)?;
    }
    Ok(())
}

/// Of a worker: its name there, its name here, what it is, how many of its units are one of ours.
type SpreadRow = (&'static str, &'static str, &'static str, f64);

const SPREADS: &[SpreadRow] = &[
    ("forwarding_delay_ns", "forwarding_delay_seconds", "Arrival to submit", 1e9),
    ("turn_ns", "turn_seconds", "A turn of the loop, without waits", 1e9),
    ("turn_receive_ns", "turn_receive_seconds", "Of a turn: receiving", 1e9),
    ("turn_work_ns", "turn_work_seconds", "Of a turn: commands, timers, sockets", 1e9),
    ("turn_send_ns", "turn_send_seconds", "Of a turn: building and sending output", 1e9),
    ("lag_ns", "lag_seconds", "How late a turn is that was wanted at a time", 1e9),
    ("run_datagrams", "run_datagrams", "Datagrams that left by one send", 1.0),
];

/// What a worker has, and how much it may have.
const GAUGES: &[(&str, &str)] = &[
    ("sockets", "Sockets that are open"),
    ("sockets_max", "Sockets that may be open"),
    ("tcp_connections", "Connections of peers (ICE over TCP)"),
    ("tcp_connections_max", "Connections of peers that there may be"),
    ("tcp_waiting_bytes", "Bytes that wait because a peer reads its connection too slowly"),
    ("slabs", "Pieces of memory for output"),
    ("slabs_max", "Pieces of memory for output that there may be"),
    ("history_packets", "Packets kept for retransmission"),
    ("history_packets_max", "Packets that may be kept for retransmission"),
];

impl Seen {
    fn encode_gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help) in GAUGES {
            let values = self.workers.iter().filter_map(|one| {
                let value = one.stats.gauges.get(*name)?;
                Some(([("worker", u64::from(one.stats.id))], ConstGauge::new(*value)))
            });
            family(encoder, &format!("ironcast_worker_{name}"), help, values)?;
        }
        Ok(())
    }

    fn encode_distributions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        for (theirs, ours, help, unit) in SPREADS {
            let values: Vec<_> = self
                .workers
                .iter()
                .filter_map(|one| {
                    let told = one.stats.distributions.get(*theirs)?;
                    Some((vec![("worker", one.stats.id.to_string())], told))
                })
                .collect();
            spread(encoder, (&format!("ironcast_worker_{ours}"), help, *unit), &values)?;
        }
        let told = self.process.distributions.get("handshake_ns");
        let values: Vec<_> = told.into_iter().map(|told| (Vec::new(), told)).collect();
        let help = "DTLS handshakes that were completed, from the peer's first message";
        spread(encoder, ("ironcast_dataplane_handshake_seconds", help, 1e9), &values)
    }

    fn encode_principals(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Figure = fn(&Held) -> u64;
        let figures: [(&str, &str, Figure); 2] = [
            ("has", "What a principal with a quota of its own has", |(_, has, _)| *has),
            ("may_have", "What it may have; 0 is no limit", |(_, _, max)| *max),
        ];
        for (name, help, figure) in figures {
            let values = self.principals.iter().flat_map(|(principal, kinds)| {
                kinds.iter().map(move |one| {
                    let labels = [("principal", principal.clone()), ("kind", one.0.to_owned())];
                    (labels, ConstGauge::new(figure(one)))
                })
            });
            family(encoder, &format!("ironcast_control_principal_{name}"), help, values)?;
        }
        Ok(())
    }

    fn encode_webhooks(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let label = |one: &Figures| [("webhook", one.name.clone())];
        let waiting = self.webhooks.iter().map(|one| (label(one), ConstGauge::new(one.waiting)));
        let help = "Events that wait for a receiver of webhooks";
        family(encoder, "ironcast_control_webhook_events_waiting", help, waiting)?;
        type Count = fn(&Figures) -> u64;
        let counts: [(&str, &str, Count); 3] = [
            ("events_delivered", "Events that a receiver took", |one| one.delivered),
            ("events_dropped", "Events that were too many to wait", |one| one.dropped),
            ("failures", "Deliveries that failed and were tried again", |one| one.failures),
        ];
        for (name, help, count) in counts {
            let values =
                self.webhooks.iter().map(|one| (label(one), ConstCounter::new(count(one))));
            family(encoder, &format!("ironcast_control_webhook_{name}"), help, values)?;
        }
        Ok(())
    }

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
        family(encoder, "ironcast_control_connections_unproven", help, unproven)?;
        let help = "Times that the system gave no connection, as for want of descriptors";
        let failed = of(3).map(|(door, value)| (door, ConstCounter::new(value)));
        family(encoder, "ironcast_control_accepts_failed", help, failed)
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
        self.encode_gauges(encoder)?;
        self.encode_distributions(encoder)?;
        let dropped = self.workers.iter().flat_map(|one| {
            let id = u64::from(one.stats.id);
            top::drops(&one.stats.counters).map(move |(reason, count)| {
                let labels = [("worker", id.to_string()), ("reason", reason)];
                (labels, ConstCounter::new(count))
            })
        });
        let help = "Datagrams that were dropped, by reason";
        family(encoder, "ironcast_worker_dropped_datagrams", help, dropped)?;
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
