//! [2] Everything that one core owns, and the way from a datagram to its transport. Called by the
//! driver's loop through the binary: `receive` for each datagram, `apply_*` for commands, `expire`
//! and `drain` once a turn. Next: [3] `transport/receive.rs`.
//!
//! ```text
//! receive* -> [3] [4] ... fresh packets     (first phase: everything that came in)
//! expire   -> timers, reports, requests
//! drain    -> [5] [6] [7] -> Batch          (second phase: transport by transport)
//! ```
//! Under `receive` the time is the datagram's [`Arrival`], the kernel's stamp, which may lie behind;
//! under everything else it is `now`, the turn's. What is to happen in a turn's time is touched by the
//! first and done by the second.
//!
//! Methods of [`Worker`] are in the files of what they are about:
//!
//! | file | methods |
//! |---|---|
//! | here | a datagram's way to its transport, timers, the turn's output |
//! | `link/mod.rs` | what a link needs now and then: `serve_link`, `renew_way` |
//! | `link/paths.rs` | whose a connected socket is: `path_opened`, `path_failed` |
//! | `link/plain.rs` | peers by address: `receive_at_plain` |
//! | `link/webrtc/stun.rs` | checks: `receive_stun` |
//! | `link/webrtc/dtls.rs` | when a handshake begins, its results, the goodbye: `dtls_*` |
//! | `transport/receive.rs` | [3] RTP: `receive_rtp` |
//! | `transport/reports.rs` | RTCP both ways: `receive_rtcp`, `write_*` |
//! | `transport/send.rs` | [7] `drain_transport` |
//! | `router.rs` | [5] `fan_out` |
//! | `layers.rs` | which layer each receiver gets: `look` |
//! | `service.rs` | what a transport needs now and then: `service` |
//! | `commands.rs` | what the control plane asks: `apply_*` |
//! | `observer/mod.rs` | who speaks: `observe`, `tick_observers` |
//! | `orientation.rs` | which way up a camera is: `report_orientation` |
//! | `pipe.rs` | consumers of several parts: `parts` |
//! | `tap.rs` | packets in the clear, for readers inside the process: `open_tap`, `tap_*` |
//! | `capture.rs`, `trace.rs` | two such readers, for whoever looks for a fault |
//! | `figures.rs` | what the control plane is told |
//! | `hottest.rs` | what moves the most |

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
};

use ipnet::IpNet;
use ironcast_protocol::{Event, Id};

use crate::{
    Arrival, Discard, Nanos, SECOND,
    arena::Arena,
    batch::{Batch, PathId},
    capture::Captures,
    closing::{Closing, PORTION},
    consumer::Consumer,
    control::ControlQueue,
    discard::Discards,
    divide::Demand,
    key::{
        ConsumerKey, OfConsumer, OfProducer, OfRouter, OfTransport, ProducerKey, RouterKey,
        TransportKey,
    },
    layers::Looks,
    link::{
        Ways,
        paths::Paths,
        webrtc::stun::{From, REFUSAL_EVERY, REFUSALS, WaitingCheck},
    },
    observer::Observers,
    pace::Pace,
    producer::Producer,
    ready::Ready,
    recover::pool::Pool,
    router::Router,
    srtp::{KeySource, SealJob, SealKey, Sealer},
    tap::Taps,
    trace::Traces,
    transport::Transport,
    wire::{self, Protocol},
};

/// Limits of one worker. Over one of them a command is refused; nothing grows without bound.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Rooms.
    pub routers_max: usize,
    /// Peers.
    pub transports_max: usize,
    /// Received tracks.
    pub producers_max: usize,
    /// Sent tracks.
    pub consumers_max: usize,
    /// Packets kept for retransmission, all streams together.
    pub packets_max: usize,
    /// SSRCs of ended tracks, and runs of them, that one transport may remember as used up.
    pub sent_ssrcs_max: usize,
    /// Repeats that one peer can have waiting in a turn.
    pub repeats_waiting_max: usize,
    /// Bytes of one turn that are not media: answers to checks, reports, DTLS.
    pub answers_bytes_max: usize,
    /// Observers of one room.
    pub observers_per_router_max: usize,
    /// Received tracks that one observer listens to.
    pub producers_per_observer_max: usize,
    /// Where plain transports may send to, and whose packets may tell them where to.
    pub plain_allow: Vec<IpNet>,
    /// Peers' connectivity checks may carry their DTLS handshake.
    pub takes_dtls_in_stun: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            routers_max: 5_000,
            transports_max: 20_000,
            producers_max: 40_000,
            consumers_max: 200_000,
            packets_max: 400_000,
            sent_ssrcs_max: 500_000,
            repeats_waiting_max: 1_000,
            answers_bytes_max: 4 << 20,
            observers_per_router_max: 8,
            producers_per_observer_max: 2_000,
            plain_allow: Vec::new(),
            takes_dtls_in_stun: false,
        }
    }
}

/// Where a datagram came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ingress {
    /// A listening socket: from an address that ICE has not accepted.
    Listener {
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
    },
    /// A connected socket, or a connection that was kept.
    Path(PathId),
    /// A connection that ICE may not have accepted yet.
    Stream {
        /// What it is, or will be.
        path: PathId,
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
    },
    /// STUN that another worker handed over.
    HandedOver {
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
        /// The worker and its connected socket that it came by, if it did.
        holder: Option<(u16, PathId)>,
    },
}

/// What the driver, or another thread, is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a connected socket and answer with [`Worker::path_opened`].
    OpenPath {
        /// The transport, as a number.
        transport: u64,
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
    },
    /// A connection is a path from now on ([`Ingress::Stream`]).
    KeepStream(PathId),
    /// Close a socket or a connection.
    ClosePath(PathId),
    /// A datagram for who has no socket and is to get none: by one that is closed at once, see
    /// [`Worker::refuse_by`].
    Refuse {
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// A STUN datagram for another worker.
    HandOver {
        /// Whose.
        worker: u16,
        /// Ours.
        local: SocketAddr,
        /// Theirs.
        remote: SocketAddr,
        /// The connected socket of this worker that it came by, if it did.
        holder: Option<PathId>,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// Another worker has a connected socket to a peer of ours: it is to let go of it, see
    /// [`Worker::yield_path`].
    YieldPath {
        /// Which worker.
        worker: u16,
        /// Its socket.
        path: PathId,
    },
    /// A DTLS record for the handshake.
    Dtls {
        /// The transport, as a number.
        transport: u64,
        /// The datagram.
        datagram: Vec<u8>,
    },
    /// The handshake of a transport begins.
    StartDtls {
        /// The transport, as a number.
        transport: u64,
    },
    /// A transport is gone: its handshake too.
    TransportGone {
        /// The transport, as a number.
        transport: u64,
        /// Port that its candidates named.
        id: Id,
    },
}

/// Counts of one worker beside the discards.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counters {
    /// RTP packets of peers.
    pub rtp_received: u64,
    /// RTCP packets of peers.
    pub rtcp_received: u64,
    /// STUN messages of peers.
    pub stun_received: u64,
    /// RTP packets written for receivers.
    pub forwarded: u64,
    /// Packets sent again.
    pub retransmitted: u64,
    /// Packets not sent again, because their receiver had as many repeats as it may.
    pub repeats_refused: u64,
    /// Packets of publishers that were asked for in vain.
    pub given_up: u64,
    /// Transport-wide numbers of publishers that jump, and are not reported.
    pub feedback_ignored: u64,
    /// Lost packets that came back out of the redundancy of later ones (RED).
    pub recovered: u64,
    /// Datagrams of DTLS handshakes that came in checks.
    pub dtls_in_stun: u64,
    /// STUN handed to other workers.
    pub handed_over: u64,
    /// Looks at the layers of a peer.
    pub looks: u64,
    /// Turns whose time for looks was over before the looks were.
    pub looks_deferred: u64,
}

/// Keys to seal with, by their transport's index. Each lies apart: a table that grows moves none.
#[derive(Debug, Default)]
pub(crate) struct SealKeys(Vec<Option<Box<SealKey>>>);

impl SealKeys {
    pub(crate) fn set(&mut self, index: usize, key: Option<SealKey>) {
        if self.0.len() <= index {
            self.0.resize_with(index + 1, || None);
        }
        self.0[index] = key.map(Box::new);
    }

    fn trim(&mut self) {
        trim(&mut self.0);
    }
}

impl KeySource for SealKeys {
    fn seal_key(&self, transport: u32) -> Option<&SealKey> {
        self.0.get(transport as usize)?.as_deref()
    }
}

/// Gives back the memory of a table by index whose end is unused.
pub(crate) fn trim<T>(table: &mut Vec<Option<T>>) {
    while table.pop_if(|entry| entry.is_none()).is_some() {}
    if table.capacity() > 2 * table.len() {
        table.shrink_to_fit();
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Worker {
    pub(crate) number: u16,
    pub(crate) limits: Limits,
    pub(crate) routers: Arena<Router, OfRouter>,
    pub(crate) transports: Arena<Transport, OfTransport>,
    pub(crate) producers: Arena<Producer, OfProducer>,
    pub(crate) consumers: Arena<Consumer, OfConsumer>,
    pub(crate) router_ids: BTreeMap<Id, RouterKey>,
    pub(crate) transport_ids: BTreeMap<Id, TransportKey>,
    pub(crate) observers: Observers,
    pub(crate) producer_ids: BTreeMap<Id, ProducerKey>,
    pub(crate) consumer_ids: BTreeMap<Id, ConsumerKey>,
    /// All parts of those that have several.
    pub(crate) pipes: BTreeMap<Id, Vec<ConsumerKey>>,
    pub(crate) username_fragments: BTreeMap<String, TransportKey>,
    /// Our sockets of plain transports, and whose each is.
    pub(crate) plain_sockets: BTreeMap<SocketAddr, TransportKey>,
    pub(crate) paths: Paths,
    pub(crate) waiting: Vec<WaitingCheck>,
    /// Paths that were asked for in this turn.
    pub(crate) opened: usize,
    /// STUN that was handed over in this turn, by worker.
    pub(crate) handed_over: BTreeMap<u16, usize>,
    /// How often strangers are told that they are none of ours.
    pub(crate) refusals: Pace,
    /// Keys to seal with, by the transport's index.
    pub(crate) seal_keys: SealKeys,
    /// How media leaves, by the transport's index.
    pub(crate) ways: Ways,
    pub(crate) seal_jobs: Vec<SealJob>,
    /// Packets that leave as they are, while a tap looks.
    pub(crate) clear_jobs: Vec<SealJob>,
    pub(crate) pool: Pool,
    pub(crate) control: ControlQueue,
    /// Paths that are closed when what waits for them was sent.
    pub(crate) leaving: Vec<PathId>,
    pub(crate) fresh_producers: Vec<ProducerKey>,
    /// Those of them with packets that were not fanned out.
    pub(crate) untold_producers: Vec<ProducerKey>,
    pub(crate) ready: Ready,
    /// When something was skipped that had waited for output for too long.
    pub(crate) late_at: Nanos,
    pub(crate) touched: Vec<TransportKey>,
    pub(crate) missing: Vec<u16>,
    /// Of one look at a transport's layers.
    pub(crate) demands: Vec<Demand>,
    pub(crate) looks: Looks,
    timers: BinaryHeap<Reverse<(Nanos, TransportKey)>>,
    housekeeping_at: Nanos,
    pub(crate) unix_offset_ns: u64,
    pub(crate) actions: Vec<Action>,
    /// What is being closed, the innermost last.
    pub(crate) closing: Vec<Closing>,
    /// Resources that may be closed in this turn without being asked for.
    pub(crate) closing_left: usize,
    /// Peers that were found to be gone in this turn.
    pub(crate) lost: u32,
    pub(crate) taps: Taps,
    pub(crate) captures: Captures,
    pub(crate) traces: Traces,
    pub(crate) events: Vec<Event>,
    /// Dropped, by reason.
    pub discards: Discards,
    /// Counts.
    pub counters: Counters,
}

impl Worker {
    /// An empty worker.
    #[must_use]
    pub fn new(number: u16, limits: Limits) -> Self {
        Self {
            number,
            pool: Pool::new(limits.packets_max),
            control: ControlQueue::new(limits.answers_bytes_max),
            limits,
            routers: Arena::default(),
            transports: Arena::default(),
            producers: Arena::default(),
            consumers: Arena::default(),
            router_ids: BTreeMap::new(),
            transport_ids: BTreeMap::new(),
            observers: Observers::default(),
            producer_ids: BTreeMap::new(),
            consumer_ids: BTreeMap::new(),
            pipes: BTreeMap::new(),
            username_fragments: BTreeMap::new(),
            plain_sockets: BTreeMap::new(),
            paths: Paths::default(),
            opened: 0,
            handed_over: BTreeMap::new(),
            refusals: Pace::new(REFUSALS, REFUSAL_EVERY),
            waiting: Vec::new(),
            seal_keys: SealKeys::default(),
            ways: Ways::default(),
            seal_jobs: Vec::new(),
            clear_jobs: Vec::new(),
            leaving: Vec::new(),
            fresh_producers: Vec::new(),
            untold_producers: Vec::new(),
            ready: Ready::default(),
            late_at: 0,
            touched: Vec::new(),
            missing: Vec::new(),
            demands: Vec::new(),
            looks: Looks::default(),
            timers: BinaryHeap::new(),
            housekeeping_at: 0,
            unix_offset_ns: 0,
            actions: Vec::new(),
            closing: Vec::new(),
            closing_left: PORTION,
            lost: 0,
            taps: Taps::default(),
            captures: Captures::default(),
            traces: Traces::default(),
            events: Vec::new(),
            discards: Discards::default(),
            counters: Counters::default(),
        }
    }

    /// What to add to monotonic time to get nanoseconds since 1970: for sender reports.
    pub fn set_unix_offset(&mut self, offset_ns: u64) {
        self.unix_offset_ns = offset_ns;
    }

    /// A datagram. `arrival` is the kernel's stamp. Whatever it is, it is handled or counted.
    pub fn receive(&mut self, source: Ingress, datagram: &[u8], arrival: Arrival) {
        if let Err(reason) = self.receive_datagram(source, datagram, arrival) {
            self.discards.count(reason);
        }
    }

    fn receive_datagram(
        &mut self,
        source: Ingress,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let path = match source {
            Ingress::Path(id) => id,
            Ingress::Listener { local, remote } => {
                if let Some(&key) = self.plain_sockets.get(&local) {
                    return self.receive_at_plain(key, (local, remote), datagram, arrival);
                }
                return self.receive_strange(From::Listener, local, remote, datagram, arrival);
            }
            Ingress::Stream { path, local, remote } if self.paths.owner(path).is_none() => {
                return self.receive_strange(From::Stream(path), local, remote, datagram, arrival);
            }
            Ingress::Stream { path, .. } => path,
            Ingress::HandedOver { local, remote, holder } => {
                let from = From::Worker(holder);
                return self.receive_stun(from, local, remote, datagram, arrival);
            }
        };
        let (key, is_shared) = self.paths.owner(path).ok_or(Discard::UnknownSource)?;
        if is_shared && wire::classify(datagram) != Protocol::Stun {
            return self.receive_shared(path, datagram, arrival);
        }
        self.receive_from(key, path, datagram, arrival)
    }

    /// A datagram of somebody whom nobody knows.
    fn receive_strange(
        &mut self,
        from: From,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        match wire::classify(datagram) {
            Protocol::Stun => self.receive_stun(from, local, remote, datagram, arrival),
            Protocol::Unknown => Err(Discard::UnknownProtocol),
            _ => Err(Discard::UnknownSource),
        }
    }

    /// A datagram on a path of that transport.
    pub(crate) fn receive_from(
        &mut self,
        key: TransportKey,
        path: PathId,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        transport.traffic.received.add(datagram.len(), arrival.moment());
        // RTP first: it is what comes.
        match wire::classify(datagram) {
            Protocol::Rtp => {
                self.counters.rtp_received += 1;
                let result = self.receive_rtp(key, datagram, arrival);
                self.hear_verified(key, path, result, arrival);
                result
            }
            Protocol::Rtcp => {
                self.counters.rtcp_received += 1;
                let result = self.receive_rtcp(key, datagram, arrival);
                self.hear_verified(key, path, result, arrival);
                result
            }
            Protocol::Stun => {
                let webrtc = transport.link.as_webrtc().ok_or(Discard::UnknownProtocol)?;
                let known = webrtc.ice.paths().iter().find(|known| known.id == path);
                let known = *known.ok_or(Discard::UnknownSource)?;
                let from = From::Path(path);
                self.receive_stun(from, known.local, known.remote, datagram, arrival)
            }
            Protocol::Dtls => {
                transport.link.as_webrtc().ok_or(Discard::DtlsUnexpected)?;
                self.receive_dtls(key, datagram, arrival)
            }
            Protocol::Unknown => Err(Discard::UnknownProtocol),
        }
    }

    /// What was verified is the peer's.
    fn hear_verified(
        &mut self,
        key: TransportKey,
        path: PathId,
        result: Result<(), Discard>,
        arrival: Arrival,
    ) {
        if !result.is_err_and(Discard::is_before_verification) {
            self.hear(key, path, arrival);
        }
    }

    /// The transport has something to look at before this turn ends.
    pub(crate) fn touch(&mut self, key: TransportKey) {
        if let Some(transport) = self.transports.get_mut(key)
            && !transport.touched
        {
            transport.touched = true;
            self.touched.push(key);
        }
    }

    /// The producer has something to look at before this turn ends.
    #[inline]
    pub(crate) fn stir(&mut self, key: ProducerKey) {
        if let Some(producer) = self.producers.get_mut(key)
            && !producer.is_stirred
        {
            producer.is_stirred = true;
            let transport = producer.transport;
            if let Some(transport) = self.transports.get_mut(transport) {
                transport.stirred.push(key);
            }
            self.touch(transport);
        }
    }

    pub(crate) fn schedule(&mut self, key: TransportKey, at: Nanos) {
        if let Some(transport) = self.transports.get_mut(key)
            && at < transport.timer_at
        {
            transport.timer_at = at;
            self.timers.push(Reverse((at, key)));
        }
    }

    /// When [`Self::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        let has_more = !self.touched.is_empty() || !self.looks.is_empty() || self.is_closing();
        if has_more || !self.actions.is_empty() {
            return Some(0);
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let timer = timer.into_iter().chain(self.observers.deadline()).min();
        if self.transports.is_empty() && self.pool.spare() == 0 && !self.is_oversized() {
            return timer;
        }
        Some(timer.map_or(self.housekeeping_at, |at| at.min(self.housekeeping_at)))
    }

    /// Timers that are due, and transports that something came for in this turn.
    pub fn expire(&mut self, now: Nanos) {
        self.opened = 0;
        self.handed_over.clear();
        self.lost = 0;
        self.looks.begin();
        let mut left = PORTION;
        self.close_some(&mut left);
        self.closing_left = left;
        while let Some(&Reverse((at, key))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            if let Some(transport) = self.transports.get_mut(key)
                && transport.timer_at == at
            {
                transport.timer_at = Nanos::MAX;
                self.touch(key);
            }
        }
        // Serving one transport can touch another (a viewer's wish is its publisher's work), so in
        // rounds; what is left after the last one is looked at in the next turn.
        for _ in 0..4 {
            self.look(now);
            if self.touched.is_empty() {
                break;
            }
            let mut round = std::mem::take(&mut self.touched);
            for key in round.drain(..) {
                if let Some(transport) = self.transports.get_mut(key) {
                    transport.touched = false;
                    self.service(key, now);
                }
            }
            if self.touched.is_empty() {
                self.touched = round;
            }
        }
        self.counters.looks_deferred += u64::from(!self.looks.is_empty());
        self.tick_observers(now);
        if now >= self.housekeeping_at {
            self.housekeeping_at = now + SECOND;
            self.expire_captures(now);
            self.tick_traces();
            self.pool.trim();
            if self.is_oversized() {
                self.trim_tables();
            }
        }
    }

    fn is_oversized(&self) -> bool {
        self.consumers.is_oversized()
            || self.producers.is_oversized()
            || self.transports.is_oversized()
    }

    /// After a large call: its tables.
    fn trim_tables(&mut self) {
        self.routers.trim();
        self.transports.trim();
        self.producers.trim();
        self.consumers.trim();
        self.seal_keys.trim();
        self.ways.trim();
        self.paths.trim();
        self.ready.trim();
        self.timers.shrink_to(2 * self.timers.len());
    }

    /// When the newest packet came of a frame whose last packet is not here yet, although others of
    /// it are about to be forwarded. Publishers send a frame in one burst: held back for the rest of
    /// it, it leaves in one send for each receiver instead of several.
    #[must_use]
    pub fn frame_open_since(&self) -> Option<Arrival> {
        let fresh = self.fresh_producers.iter().filter_map(|&key| self.producers.get(key));
        let watched = fresh.filter(|producer| !producer.subscribers.is_empty());
        let streams = watched.flat_map(|producer| &producer.streams);
        streams.filter_map(|stream| stream.open_since()).max()
    }

    /// The output of a turn, or a portion of it. Order: answers and reports, then transport by
    /// transport repeats and media, sealed as it is written. True when there is more:
    /// the caller sends the batch, empties it, and asks again. Where that takes long he makes turns
    /// in between: what comes in them is fanned out with the next portion (`ready.rs`).
    #[must_use]
    pub fn drain<S: Sealer>(&mut self, batch: &mut Batch, sealer: &mut S, now: Nanos) -> bool {
        self.control.drain(batch);
        self.actions.extend(self.leaving.drain(..).map(Action::ClosePath));
        self.fan_out();
        self.ready.begin(now);
        while !batch.is_portion()
            && let Some(key) = self.ready.pop()
        {
            self.drain_transport(key, batch, now);
            if self.seal_jobs.len() >= S::JOBS_WANTED {
                self.seal(batch, sealer, now);
            }
        }
        self.seal(batch, sealer, now);
        let exhausted = std::mem::take(&mut batch.exhausted);
        self.discards.add(Discard::OutputExhausted, exhausted);
        let has_more = !self.ready.is_empty();
        if !has_more {
            self.forget_fresh();
        }
        if !self.traces.is_empty() {
            self.trace_tapped();
        }
        has_more
    }

    fn seal(&mut self, batch: &mut Batch, sealer: &mut impl Sealer, now: Nanos) {
        if self.taps.look_at_transports() {
            self.tap_sent(batch, now);
        }
        let refused = sealer.seal(&self.seal_keys, &self.seal_jobs, &mut batch.filled);
        self.discards.add(Discard::OutputExhausted, refused as u64);
        self.seal_jobs.clear();
        self.clear_jobs.clear();
    }

    /// What the driver and the handshake are to do; emptied by the caller.
    pub fn actions(&mut self) -> &mut Vec<Action> {
        &mut self.actions
    }

    /// What the control plane is to know; emptied by the caller.
    pub fn events(&mut self) -> &mut Vec<Event> {
        &mut self.events
    }
}

/// Actions of one turn: over it, datagrams that need one are dropped and counted.
pub(crate) const ACTIONS_MAX: usize = 4_096;
