//! Counts of the control plane and figures of the dataplane, as Prometheus text. Written by `doors`
//! and the event streams, read by `GET /metrics`.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use ironcast_api::ErrorCode;

use crate::{admission::Admission, engine::Engine};

/// Counts since the start.
#[derive(Default)]
pub struct Metrics {
    /// By HTTP status.
    answers: Mutex<BTreeMap<u16, u64>>,
    /// By code.
    problems: Mutex<BTreeMap<&'static str, u64>>,
    /// Event streams that are open.
    pub streams: AtomicUsize,
    /// Event streams that were cut because they read too slowly.
    pub streams_cut: AtomicU64,
    /// Panics that were caught.
    pub panics: AtomicU64,
    /// The doors' connections.
    doors: Mutex<Vec<(&'static str, Arc<Admission>)>>,
}

impl Metrics {
    /// An answer was given.
    pub fn count_answer(&self, status: u16) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() +=
            1;
    }

    /// A door's connections are counted.
    pub fn watch_door(&self, name: &'static str, admission: Arc<Admission>) {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner).push((name, admission));
    }

    /// A problem was answered.
    pub fn count_problem(&self, code: ErrorCode) {
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        *problems.entry(code.as_str()).or_default() += 1;
    }
}

/// One metric: its help line, its type, its values by label.
fn family<V: std::fmt::Display>(
    text: &mut String,
    name: &str,
    kind: &str,
    help: &str,
    values: impl IntoIterator<Item = (String, V)>,
) {
    // Writing to a string cannot fail.
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    for (labels, value) in values {
        let _ = writeln!(text, "{name}{labels} {value}");
    }
}

fn label(name: &str, value: impl std::fmt::Display) -> String {
    format!("{{{name}=\"{value}\"}}")
}

/// A name that the dataplane gave: nothing in it may end the label.
fn safe(name: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    name.chars().map(|c| if is_plain(c) { c } else { '_' }).collect()
}

/// All of it.
#[must_use]
pub fn text(engine: &Engine) -> String {
    let mut text = String::new();
    of_control_plane(engine, &mut text);
    of_workers(engine, &mut text);
    text
}

fn of_control_plane(engine: &Engine, text: &mut String) {
    let one = |value: u64| [(String::new(), value)];
    let metrics = &engine.metrics;
    let answers = metrics.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let answers = answers.iter().map(|(status, count)| (label("status", status), *count));
    family(text, "ironcast_control_answers_total", "counter", "Answers by HTTP status", answers);
    let problems = metrics.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let problems = problems.iter().map(|(code, count)| (label("code", code), *count));
    let help = "Problems by code; limits that are reached are among them";
    family(text, "ironcast_control_problems_total", "counter", help, problems);
    let streams = metrics.streams.load(Ordering::Relaxed) as u64;
    family(text, "ironcast_control_event_streams", "gauge", "Open event streams", one(streams));
    let cut = one(metrics.streams_cut.load(Ordering::Relaxed));
    let help = "Event streams that read too slowly";
    family(text, "ironcast_control_event_streams_cut_total", "counter", help, cut);
    let panics = one(metrics.panics.load(Ordering::Relaxed));
    family(text, "ironcast_control_panics_total", "counter", "Panics that were caught", panics);
    of_doors(metrics, text);
    let uptime = one(engine.started.elapsed().as_secs());
    family(text, "ironcast_control_uptime_seconds", "gauge", "Since the start", uptime);

    let state = engine.lock();
    let attached = one(u64::from(state.link.is_some()));
    let help = "1 while attached to the dataplane";
    family(text, "ironcast_control_dataplane_attached", "gauge", help, attached);
    let waiting = state.link.as_ref().map_or(0, crate::dataplane::Link::waiting) as u64;
    let help = "Commands that wait for the dataplane's answer";
    family(text, "ironcast_control_commands_waiting", "gauge", help, one(waiting));
    let events = one(state.events.head().number);
    family(text, "ironcast_control_events", "gauge", "Events of this epoch", events);
    let bytes = one(state.events.bytes() as u64);
    family(text, "ironcast_control_events_kept_bytes", "gauge", "Kept for resuming", bytes);
    let registry = &state.registry;
    let counts = [
        ("router", registry.routers.len()),
        ("transport", registry.transports.len()),
        ("producer", registry.producers.len()),
        ("consumer", registry.consumers.len()),
    ];
    let counts = counts.map(|(kind, count)| (label("kind", kind), count));
    family(text, "ironcast_resources", "gauge", "What exists", counts);
}

fn of_doors(metrics: &Metrics, text: &mut String) {
    let doors = metrics.doors.lock().unwrap_or_else(PoisonError::into_inner).clone();
    type Figure = fn(&Admission) -> u64;
    let figures: [(&str, &str, &str, Figure); 3] = [
        ("ironcast_control_connections", "gauge", "Open connections", |one| one.count() as u64),
        (
            "ironcast_control_connections_refused_total",
            "counter",
            "Connections of addresses that had enough",
            |one| one.refused.load(Ordering::Relaxed),
        ),
        (
            "ironcast_control_connections_unproven_total",
            "counter",
            "Connections that ended because nothing good was shown",
            |one| one.unproven.load(Ordering::Relaxed),
        ),
    ];
    for (name, kind, help, figure) in figures {
        let values = doors.iter().map(|(door, admission)| (label("door", door), figure(admission)));
        family(text, name, kind, help, values);
    }
}

fn of_workers(engine: &Engine, text: &mut String) {
    let workers = engine.lock().workers.clone();
    type Figure = fn(&crate::placement::Worker) -> f64;
    let figures: [(&str, &str, Figure); 9] = [
        ("ironcast_worker_running", "1 while it runs", |one| one.stats.running.into()),
        ("ironcast_worker_busy_ratio", "Share of the last second", |one| one.stats.cpu_busy),
        ("ironcast_worker_load_ratio", "What placement goes by", |one| one.load()),
        ("ironcast_worker_routers", "Rooms", |one| one.stats.routers.into()),
        ("ironcast_worker_transports", "Transports", |one| one.stats.transports.into()),
        ("ironcast_worker_consumers", "Sent tracks", |one| one.stats.consumers.into()),
        ("ironcast_worker_packets_out_per_second", "Sent", |one| {
            one.stats.packets_out_per_s as f64
        }),
        ("ironcast_worker_bits_out_per_second", "Sent", |one| one.stats.bitrate_out_bps as f64),
        ("ironcast_worker_forwarding_delay_p99_seconds", "Arrival to submit", |one| {
            f64::from(one.stats.forwarding_delay_us_p99) / 1e6
        }),
    ];
    for (name, help, figure) in figures {
        let values = workers.iter().map(|one| (label("worker", one.stats.id), figure(one)));
        family(text, name, "gauge", help, values);
    }
    let counters = workers.iter().flat_map(|one| {
        let id = one.stats.id;
        one.stats.counters.iter().map(move |(name, count)| {
            let name = safe(name);
            (format!("{{worker=\"{id}\",name=\"{name}\"}}"), *count)
        })
    });
    let process = engine.lock().process.clone();
    let told = process.counters.iter().map(|(name, count)| (label("name", safe(name)), *count));
    let help = "Everything that the dataplane's process counts beside its workers, by name";
    family(text, "ironcast_dataplane_total", "counter", help, told);
    let help = "Everything that a worker counts, by name";
    family(text, "ironcast_worker_total", "counter", help, counters);
}
