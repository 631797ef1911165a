//! What `/metrics` shows. Counted where things happen; rooms and participants are looked at when
//! somebody asks.

use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The media type of the text.
pub const MEDIA_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = [(&'static str, String); 2];
type Label = [(&'static str, String); 1];

/// All figures of the service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    rooms: Gauge,
    participants: Gauge,
    is_ready: Gauge,
    /// Sockets that are open.
    pub sockets: Gauge,
    /// Events that were sent without having been asked for.
    pub notices: Counter,
    /// Sockets that were closed because they did not take what was sent.
    pub slow_sockets: Counter,
    /// Messages that found too many of their socket waiting already.
    pub messages_refused: Counter,
    /// Connections of addresses that had as many as they may.
    pub connections_refused: Counter,
    /// Sockets of addresses that opened them too fast, or had as many as they may.
    pub sockets_refused: Counter,
    /// Words about who is where that could not be written.
    pub presence_lost: Counter,
    /// Records of calls that were not kept.
    pub calls_lost: Counter,
    /// Nodes of the fleet that are heard of.
    pub fleet_nodes: Gauge,
    /// Whether the other nodes are heard.
    pub fleet_link: Gauge,
    /// What could not be told to other nodes in time.
    pub fleet_lost: Counter,
    /// Participants who came from another node with their media.
    pub fleet_moved: Counter,
    /// Participants of nodes that are gone, removed by this one.
    pub fleet_removed: Counter,
    hosts_up: Family<Label, Gauge>,
    rooms_of_hosts: Family<Label, Gauge>,
    /// Rooms at several media hosts.
    pub rooms_spread: Gauge,
    pipes: Family<Label, Counter>,
    /// Headers that named no region.
    pub regions_refused: Counter,
    /// Messages that people wrote.
    pub chat_messages: Counter,
    /// Messages that were too many.
    pub chat_refused: Counter,
    broadcasts_started: Family<Label, Counter>,
    broadcast_restarts: Family<Label, Counter>,
    broadcasts_ended: Family<Labels, Counter>,
    switches: Family<Labels, Counter>,
    requests: Family<Labels, Counter>,
    waits: Histogram,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("ironcast_signaling");
        // From 1 ms to 16 s.
        let waits = Histogram::new(exponential_buckets(0.001, 2.0, 15));
        let metrics = Self {
            rooms: Gauge::default(),
            participants: Gauge::default(),
            is_ready: Gauge::default(),
            sockets: Gauge::default(),
            notices: Counter::default(),
            slow_sockets: Counter::default(),
            messages_refused: Counter::default(),
            connections_refused: Counter::default(),
            sockets_refused: Counter::default(),
            presence_lost: Counter::default(),
            calls_lost: Counter::default(),
            fleet_nodes: Gauge::default(),
            fleet_link: Gauge::default(),
            fleet_lost: Counter::default(),
            fleet_moved: Counter::default(),
            fleet_removed: Counter::default(),
            hosts_up: Family::default(),
            rooms_of_hosts: Family::default(),
            rooms_spread: Gauge::default(),
            pipes: Family::default(),
            regions_refused: Counter::default(),
            chat_messages: Counter::default(),
            chat_refused: Counter::default(),
            broadcasts_started: Family::default(),
            broadcast_restarts: Family::default(),
            broadcasts_ended: Family::default(),
            switches: Family::default(),
            requests: Family::default(),
            waits,
            registry: Registry::default(),
        };
        registry.register("rooms", "Rooms", metrics.rooms.clone());
        registry.register(
            "participants",
            "Participants of all rooms",
            metrics.participants.clone(),
        );
        let about = "Whether the media server takes new rooms";
        registry.register("media_ready", about, metrics.is_ready.clone());
        registry.register("sockets", "Open sockets", metrics.sockets.clone());
        registry.register("notices", "Events sent to browsers unasked", metrics.notices.clone());
        let about = "Sockets closed because they took nothing";
        registry.register("slow_sockets", about, metrics.slow_sockets.clone());
        let about = "Messages refused because too many of their socket were waiting";
        registry.register("messages_refused", about, metrics.messages_refused.clone());
        let about = "Connections refused because their address had too many";
        registry.register("connections_refused", about, metrics.connections_refused.clone());
        let about = "Sockets refused because their address opened too many";
        registry.register("sockets_refused", about, metrics.sockets_refused.clone());
        let about = "Words about who is where that the shared store did not take";
        registry.register("presence_lost", about, metrics.presence_lost.clone());
        let about = "Records of calls that the store did not take";
        registry.register("calls_lost", about, metrics.calls_lost.clone());
        let about = "Nodes of the fleet that are heard of, this one too";
        registry.register("fleet_nodes", about, metrics.fleet_nodes.clone());
        let about = "Whether the other nodes of the fleet are heard";
        registry.register("fleet_link", about, metrics.fleet_link.clone());
        let about = "What could not be told to the other nodes in time";
        registry.register("fleet_lost", about, metrics.fleet_lost.clone());
        let about = "Participants who came from another node with their media";
        registry.register("fleet_moved", about, metrics.fleet_moved.clone());
        let about = "Participants of nodes that are gone, removed by this one";
        registry.register("fleet_removed", about, metrics.fleet_removed.clone());
        let about = "Whether a media host passes its health check";
        registry.register("media_host_up", about, metrics.hosts_up.clone());
        let about = "Rooms whose media is at a host";
        registry.register("media_host_rooms", about, metrics.rooms_of_hosts.clone());
        let about = "Rooms whose media is at several hosts";
        registry.register("rooms_spread", about, metrics.rooms_spread.clone());
        let about = "Tracks that were piped from one media host to another, or were not";
        registry.register("pipes", about, metrics.pipes.clone());
        let about = "Handshakes whose header for the region named none";
        registry.register("region_headers_refused", about, metrics.regions_refused.clone());
        registry.register("chat_messages", "Chat messages", metrics.chat_messages.clone());
        let about = "Chat messages refused because their writer wrote too many";
        registry.register("chat_refused", about, metrics.chat_refused.clone());
        let about = "Broadcasts and recordings that were begun";
        registry.register("broadcasts_started", about, metrics.broadcasts_started.clone());
        let about = "FFmpegs that took the place of another, because the room changed or it ended";
        registry.register("broadcast_restarts", about, metrics.broadcast_restarts.clone());
        let about = "Broadcasts and recordings that are over, by the reason";
        registry.register("broadcasts_ended", about, metrics.broadcasts_ended.clone());
        let about = "Changes of rooms between p2p and sfu, by the mode that held afterwards";
        registry.register("mode_switches", about, metrics.switches.clone());
        let about = "Messages of browsers by event and by the code of the answer";
        registry.register("requests", about, metrics.requests.clone());
        let about = "Time from the beginning of a message's work to its answer";
        registry.register("request_seconds", about, metrics.waits.clone());
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// A message was answered.
    pub fn count_request(&self, event: &str, code: &str, took: Duration) {
        let labels = [("event", event.to_owned()), ("code", code.to_owned())];
        self.requests.get_or_create(&labels).inc();
        self.waits.observe(took.as_secs_f64());
    }

    /// How a media host is. There are as many of them as are configured.
    pub fn set_host(&self, name: &str, is_up: bool, rooms: usize) {
        let label = [("host", name.to_owned())];
        self.hosts_up.get_or_create(&label).set(is_up.into());
        self.rooms_of_hosts.get_or_create(&label).set(rooms as i64);
    }

    /// A track was piped to another host, or was not.
    pub fn count_pipe(&self, success: bool) {
        self.pipes.get_or_create(&[("success", success.to_string())]).inc();
    }

    /// A room changed its mode, or did not.
    pub fn count_switch(&self, mode: &str, success: bool) {
        let labels = [("mode", mode.to_owned()), ("success", success.to_string())];
        self.switches.get_or_create(&labels).inc();
    }

    /// A room is watched or recorded from now on.
    pub fn count_broadcast_start(&self, kind: &str) {
        self.broadcasts_started.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// It needs another FFmpeg.
    pub fn count_broadcast_restart(&self, kind: &str) {
        self.broadcast_restarts.get_or_create(&[("kind", kind.to_owned())]).inc();
    }

    /// It is over.
    pub fn count_broadcast_end(&self, kind: &str, reason: &str) {
        let labels = [("kind", kind.to_owned()), ("reason", reason.to_owned())];
        self.broadcasts_ended.get_or_create(&labels).inc();
    }

    /// The text for a scraper.
    pub fn text(&self, (rooms, participants): (usize, usize), is_ready: bool) -> String {
        self.rooms.set(rooms as i64);
        self.participants.set(participants as i64);
        self.is_ready.set(is_ready.into());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
