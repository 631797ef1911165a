//! One worker's engine: the pure core, wired to the driver, the handshake and the hub. Carries out
//! what the core asks for, answers the hub's commands, and measures what only it can see. Runs on
//! the worker's own thread; on the way of a packet it only passes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::SocketAddr,
    sync::{Arc, mpsc::Sender as HubSender},
};

use ironcast_core::{
    Arrival, Nanos, SECOND,
    batch::{Batch, PathId},
    closing::PORTION,
    hottest::Search,
    link::{plain::Sockets, webrtc::ice::Credentials},
    srtp::{MasterKey, Sealer},
    worker::{Action, Ingress, Worker},
};
use ironcast_driver::{Engine, Home, Inbound, Io, Statistics, mailbox::Sender};
use ironcast_handshake::{
    Certificate, Failure, Fingerprint, FingerprintError, Handshakes, Output, Role,
};
use ironcast_protocol::{
    Command, CommandError, ErrorCode, Reply, WorkerId,
    command::{
        ConnectTransport, CreateWebRtcTransport, DtlsFingerprint, DtlsRole, HOTTEST_MAX,
        IceParameters, TransportCreated,
    },
    event::DtlsFailure,
    plain::{ConnectPlainTransport, CreatePlainTransport, PlainTransportCreated},
    stats::WorkerStats,
};

use crate::{
    addresses,
    delay::DelayHistogram,
    directory::Directory,
    hops,
    life::Pulse,
    messages::{Answer, ToHub, ToWorker},
    neighbours::{Met, Neighbours},
    orders::Orders,
    plain::{self, PlainSockets},
    ports::{NoPort, Opening, Ports},
    settings::Settings,
};

/// Characters of a username fragment and a password (RFC 8839 section 5.4 allows these and more).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// 8 characters of 6 bits beside the worker's number: the least is 24 bits.
const USERNAME_CHARS: usize = 8;
/// 24 characters of 6 bits: the least is 128 bits.
const PASSWORD_CHARS: usize = 24;

/// Ports that are tried for TCP before a transport is refused.
const TCP_PORTS_TRIED: usize = 8;

/// What a worker's engine is made of, beside the core.
pub struct Parts {
    /// The worker's number.
    pub number: WorkerId,
    /// Its core.
    pub core: u32,
    /// First and last port of its slice.
    pub slice: (u16, u16),
    /// Local addresses to listen on.
    pub addresses: Vec<std::net::IpAddr>,
    /// What candidates say instead, now.
    pub settings: Arc<Settings>,
    /// Which port a transport gets.
    pub ports: Ports,
    /// All workers share one.
    pub is_single_port: bool,
    /// The sockets of plain transports.
    pub plain: PlainSockets,
    /// The process's certificate.
    pub certificate: Certificate,
    /// DTLS, on threads of its own.
    pub handshakes: Handshakes,
    /// The hub.
    pub hub: HubSender<ToHub>,
    /// The other workers.
    pub directory: Directory,
    /// Pipes that end in this process.
    pub neighbours: Neighbours,
    /// Says that the worker is alive.
    pub pulse: Pulse,
    /// For the hub, when the worker makes its first turn.
    pub mailbox: Option<Sender<ToWorker>>,
    /// `__panic` as a router's id ends the worker, `__stuck` stops it: for tests of what happens
    /// then.
    pub test_hooks: bool,
}

/// See the file's head.
pub struct WorkerEngine<S> {
    core: Worker,
    parts: Parts,
    sealer: S,
    ports_of: BTreeMap<u64, u16>,
    /// Ports that are listened on for connections, too.
    tcp_ports: BTreeSet<u16>,
    arrivals: Vec<Arrival>,
    delays: DelayHistogram,
    rates: Rates,
    /// What is carried out in portions. Commands wait for its end: whoever asked later finds it done.
    long: Option<(u64, Long)>,
    /// What may still be closed in this turn.
    closed_left: usize,
    /// What the handshake threads are told.
    orders: Orders,
    /// What was for workers that are not there.
    for_nobody: u64,
    turned_at: Nanos,
}

/// What takes more than one turn.
enum Long {
    Close,
    Hottest(Search),
}

/// What the last whole second looked like.
#[derive(Default)]
struct Rates {
    at: Nanos,
    before: Statistics,
    busy: f64,
    packets_out: u64,
    bitrate_out: u64,
}

impl<S: Sealer> WorkerEngine<S> {
    /// An engine around an empty core.
    #[must_use]
    pub fn new(core: Worker, parts: Parts, sealer: S) -> Self {
        Self {
            core,
            parts,
            sealer,
            ports_of: BTreeMap::new(),
            tcp_ports: BTreeSet::new(),
            arrivals: Vec::with_capacity(4_096),
            delays: DelayHistogram::default(),
            rates: Rates::default(),
            long: None,
            closed_left: PORTION,
            orders: Orders::default(),
            for_nobody: 0,
            turned_at: 0,
        }
    }

    fn command(
        &mut self,
        command: Command,
        io: &mut Io,
        now: Nanos,
    ) -> Result<Reply, CommandError> {
        let core = &mut self.core;
        match command {
            Command::Workers => Ok(Reply::Workers(vec![self.stats(io)])),
            Command::CreateRouter(create) => {
                let ends = self.parts.test_hooks && create.id == "__panic";
                assert!(!ends, "asked to by a test");
                if self.parts.test_hooks && create.id == "__stuck" {
                    loop {
                        std::thread::park();
                    }
                }
                core.apply_create_router(&create)
            }
            Command::CreateWebRtcTransport(create) => self.create_transport(&create, io, now),
            Command::ConnectTransport(connect) => self.connect_transport(&connect, now),
            Command::CreatePlainTransport(create) => self.create_plain_transport(&create, io, now),
            Command::ConnectPlainTransport(connect) => self.connect_plain_transport(&connect, now),
            Command::CreateHop(create) => hops::create(core, self.parts.number, &create, io, now),
            Command::ConnectHop(connect) => hops::connect(core, &connect, io, now),
            Command::RestartIce(named) => {
                core.apply_restart_ice(&named.id, credentials(self.parts.number)?)
            }
            Command::SetTransportBitrates(set) => core.apply_bitrates(&set, now),
            Command::Produce(create) => core.apply_produce(&create),
            Command::PauseProducer(named) => core.apply_pause_producer(&named.id, true),
            Command::ResumeProducer(named) => core.apply_pause_producer(&named.id, false),
            Command::Consume(create) => {
                let [a, b] = random::<2>()?;
                core.apply_consume(&create, u16::from_be_bytes([a, b]), now)
            }
            Command::PauseConsumer(named) => core.apply_pause_consumer(&named.id, true, now),
            Command::ResumeConsumer(named) => core.apply_pause_consumer(&named.id, false, now),
            Command::SetPreferredLayers(set) => core.apply_preferred_layers(&set, now),
            Command::SetPriority(set) => core.apply_priority(&set, now),
            Command::RequestKeyFrame(named) => core.apply_request_key_frame(&named.id, now),
            Command::CloseConsumer(named) => core.apply_close_consumer(&named.id),
            Command::CreateObserver(create) => core.apply_create_observer(&create),
            Command::ObserveProducer(observe) => core.apply_observe(&observe, now),
            Command::UnobserveProducer(observe) => core.apply_unobserve(&observe),
            Command::PauseObserver(named) => core.apply_pause_observer(&named.id, true, now),
            Command::ResumeObserver(named) => core.apply_pause_observer(&named.id, false, now),
            Command::CloseObserver(named) => core.apply_close_observer(&named.id),
            Command::TransportStats(named) => {
                core.transport_stats(&named.id, now).map(|s| Reply::TransportStats(Box::new(s)))
            }
            Command::ProducerStats(named) => {
                core.producer_stats(&named.id, now).map(Reply::ProducerStats)
            }
            Command::ConsumerStats(named) => {
                core.consumer_stats(&named.id, now).map(|s| Reply::ConsumerStats(Box::new(s)))
            }
            Command::TakeCapture(take) => core.take_capture(&take, now),
            Command::SetTrace(set) => core.apply_set_trace(&set),
            // Begun elsewhere; the hub answers the others by itself.
            Command::CloseRouter(_)
            | Command::CloseTransport(_)
            | Command::CloseProducer(_)
            | Command::Hottest(_)
            | Command::Snapshot
            | Command::Dump(_)
            | Command::Process
            | Command::SetSettings(_) => {
                Err(CommandError::new(ErrorCode::UnknownCommand, "not a worker's command"))
            }
        }
    }

    /// A command, or a question for states.
    fn carry_out(&mut self, order: ToWorker, io: &mut Io, now: Nanos) {
        let (token, answer) = match order {
            ToWorker::Command { token, command } => {
                let core = &mut self.core;
                let begun = match command.as_ref() {
                    Command::CloseRouter(named) => Some(core.begin_close_router(&named.id)),
                    Command::CloseTransport(named) => Some(core.begin_close_transport(&named.id)),
                    Command::CloseProducer(named) => Some(core.begin_close_producer(&named.id)),
                    Command::Hottest(most) => {
                        let count = usize::from(most.count.min(HOTTEST_MAX));
                        self.long = Some((token, Long::Hottest(Search::new(count))));
                        return self.portion(now);
                    }
                    _ => None,
                };
                match begun {
                    Some(Ok(())) => {
                        self.long = Some((token, Long::Close));
                        return self.portion(now);
                    }
                    Some(Err(error)) => (token, Err(error)),
                    None => (token, self.command(*command, io, now).map(Answer::Reply)),
                }
            }
            ToWorker::States { token, names } => {
                let states = names.into_iter().filter_map(|(kind, id)| {
                    let state = self.core.resource_state(kind, &id)?;
                    Some(((kind, id), state))
                });
                (token, Ok(Answer::States(states.collect())))
            }
            ToWorker::Stun { .. }
            | ToWorker::Stream(_)
            | ToWorker::Neighbour { .. }
            | ToWorker::Handshake { .. }
            | ToWorker::YieldPath { .. } => return,
        };
        let _ = self.parts.hub.send(ToHub::Answer { token, answer });
    }

    /// Carries out a portion, and answers when it was the last.
    fn portion(&mut self, now: Nanos) {
        let has_more = match &mut self.long {
            Some((_, Long::Hottest(search))) => self.core.search_hottest(search, now),
            // Peers that are gone by themselves are closed, too.
            Some((_, Long::Close)) | None => self.core.close_some(&mut self.closed_left),
        };
        if has_more {
            return;
        }
        if let Some((token, long)) = self.long.take() {
            let reply = match long {
                Long::Close => Reply::Done,
                Long::Hottest(search) => Reply::Hottest(self.core.hottest(search, now)),
            };
            let _ = self.parts.hub.send(ToHub::Answer { token, answer: Ok(Answer::Reply(reply)) });
        }
    }

    fn create_transport(
        &mut self,
        create: &CreateWebRtcTransport,
        io: &mut Io,
        now: Nanos,
    ) -> Result<Reply, CommandError> {
        let port = self.take_port(create.candidates.tcp, io)?;
        let parts = &mut self.parts;
        let made = credentials(parts.number).and_then(|credentials| {
            let token = self.core.apply_create_transport(create, credentials.clone(), now)?;
            Ok((token, credentials))
        });
        let (token, credentials) = match made {
            Ok(made) => made,
            Err(error) => {
                parts.ports.give(port);
                return Err(error);
            }
        };
        self.ports_of.insert(token, port);
        let fingerprint = |fingerprint: Fingerprint| DtlsFingerprint {
            algorithm: fingerprint.algorithm().name().to_owned(),
            value: fingerprint.value(),
        };
        Ok(Reply::TransportCreated(TransportCreated {
            ice_parameters: IceParameters {
                username_fragment: credentials.username_fragment,
                password: credentials.password,
            },
            ice_candidates: addresses::candidates(
                &parts.addresses,
                &parts.settings.announced(),
                port,
                create.candidates,
            ),
            dtls_fingerprints: parts
                .certificate
                .fingerprints()
                .into_iter()
                .map(fingerprint)
                .collect(),
        }))
    }

    /// A port for a new transport. That somebody else has its TCP half (a connection of this host's, for
    /// a while) says nothing of the next one.
    fn take_port(&mut self, wants_tcp: bool, io: &mut Io) -> Result<u16, CommandError> {
        let Parts { ports, addresses, is_single_port, .. } = &mut self.parts;
        let mut passed_over = Vec::new();
        let taken = loop {
            let open = |port| open_listeners(io, addresses, port);
            let taken = ports.take(&passed_over, open).map_err(Some);
            match taken {
                Ok(port) if wants_tcp && !self.tcp_ports.contains(&port) => {
                    if open_stream_listeners(io, addresses, port, *is_single_port) {
                        self.tcp_ports.insert(port);
                        break Ok(port);
                    }
                    ports.give(port);
                    passed_over.push(port);
                    if *is_single_port || passed_over.len() >= TCP_PORTS_TRIED {
                        break Err(None);
                    }
                }
                other => break other,
            }
        };
        taken.map_err(|reason| {
            let message = match reason {
                Some(NoPort::Full) => {
                    "all ports of this worker carry as many transports as they may"
                }
                Some(NoPort::Taken) => {
                    "the ports of this worker that were tried are another program's"
                }
                Some(NoPort::NotNow) => {
                    "the system gives no socket now: descriptors or memory ran out"
                }
                None => "no port of this worker that was tried can be listened on for TCP",
            };
            CommandError::new(ErrorCode::NoCapacity, message)
        })
    }

    fn connect_transport(
        &mut self,
        connect: &ConnectTransport,
        now: Nanos,
    ) -> Result<Reply, CommandError> {
        let parse = |f: &DtlsFingerprint| Fingerprint::parse(&f.algorithm, &f.value);
        // One of a hash that we do not know says nothing against the others (RFC 8122 section 5).
        let parsed = connect.fingerprints.iter().map(parse);
        let known = parsed.filter(|one| *one != Err(FingerprintError::UnknownAlgorithm));
        let fingerprints: Result<Vec<_>, _> = known.collect();
        let invalid = |message: String| CommandError::new(ErrorCode::Invalid, message);
        let fingerprints = fingerprints.map_err(|error| invalid(error.to_string()))?;
        if !fingerprints.iter().any(Fingerprint::is_strong) {
            let what = "dtlsParameters.fingerprints has none that is better than sha-1";
            return Err(invalid(what.into()));
        }
        // The peer's role; ours is the other one, and the server's wherever it leaves the choice.
        let (local_role, role) = match connect.role {
            DtlsRole::Server => (DtlsRole::Client, Role::Client),
            DtlsRole::Client | DtlsRole::Auto => (DtlsRole::Server, Role::Server),
        };
        let token = self.core.apply_connect_transport(&connect.id, local_role, now)?;
        self.orders.connect(token, role, fingerprints);
        Ok(Reply::Connected { local_role })
    }

    fn create_plain_transport(
        &mut self,
        create: &CreatePlainTransport,
        io: &mut Io,
        now: Nanos,
    ) -> Result<Reply, CommandError> {
        let suite = create.srtp_suite.as_deref().map(plain::suite).transpose()?;
        let (ours, srtp) = suite.map(plain::new_key).transpose()?.unzip();
        let opened = self.parts.plain.open(create, io)?;
        let sockets = opened.sockets;
        let made = self.core.apply_create_plain_transport(create, sockets, ours.as_ref(), now);
        let token = match made {
            Ok(token) => token,
            Err(error) => {
                PlainSockets::give(opened, io);
                return Err(error);
            }
        };
        let Sockets { rtp: local, rtcp: rtcp_local } = sockets;
        if create.pipe {
            self.parts.neighbours.add(local, self.parts.number);
        }
        let created = PlainTransportCreated { local, rtcp_local, srtp };
        self.parts.plain.keep(token, opened, created.clone());
        Ok(Reply::PlainTransportCreated(created))
    }

    fn connect_plain_transport(
        &mut self,
        connect: &ConnectPlainTransport,
        now: Nanos,
    ) -> Result<Reply, CommandError> {
        let not_plain =
            || CommandError::new(ErrorCode::WrongState, "this is not a plain transport");
        let theirs = connect.srtp.as_ref().map(plain::master_key).transpose()?;
        let token = self.core.transport_number(&connect.id);
        let plain = token.and_then(|token| self.parts.plain.created(token));
        let created = plain.ok_or_else(not_plain)?;
        // A peer of another suite than ours has the last word (as with mediasoup).
        let suite = created.srtp.as_ref().map(|ours| ours.suite.as_str());
        let other = theirs.as_ref().filter(|theirs| suite != Some(theirs.suite().name()));
        let other = other.filter(|_| suite.is_some()).map(MasterKey::suite);
        let (ours, srtp) = other.map(plain::new_key).transpose()?.unzip();
        self.core.apply_connect_plain_transport(connect, theirs.as_ref(), ours.as_ref(), now)?;
        if srtp.is_some() {
            created.srtp = srtp;
        }
        Ok(Reply::PlainTransportConnected(created.clone()))
    }

    fn handshake_output(&mut self, transport: u64, output: Output, now: Nanos) {
        match output {
            Output::Datagram(bytes) => self.core.dtls_output(transport, &bytes, now),
            Output::Connected(keys) => {
                self.core.dtls_connected(transport, &keys.local, &keys.remote, now);
                self.core.dtls_goodbye(transport, keys.goodbye);
            }
            Output::Failed(failure) => {
                let transport = self.core.dtls_failed(transport, dtls_failure(failure));
                if let Some(transport) = transport.map(str::to_owned) {
                    let router = self.core.router_of(&transport);
                    tracing::warn!(router, transport, reason = %failure, "a DTLS handshake failed");
                }
            }
            Output::Closed => self.core.dtls_closed(transport),
        }
    }

    /// Carries out what the core wants of the world.
    fn act(&mut self, io: &mut Io, now: Nanos) {
        // Opening a path makes new actions: until none are left.
        while !self.core.actions().is_empty() {
            for action in std::mem::take(self.core.actions()) {
                match action {
                    Action::OpenPath { transport, local, remote } => {
                        let path = self
                            .open_hop(local, remote, io)
                            .map_or_else(|| io.open_path(local, remote), Ok);
                        if let Err(error) = &path {
                            tracing::warn!(%local, %error, "no socket for a peer");
                        }
                        self.core.path_opened(transport, local, remote, path.ok(), now);
                    }
                    Action::KeepStream(path) => {
                        if !io.keep_stream(path) {
                            self.core.path_failed(path, now);
                        }
                    }
                    Action::ClosePath(path) => io.close_path(path),
                    Action::Refuse { local, remote, datagram } => {
                        if let Ok(path) = io.open_path(local, remote) {
                            self.core.refuse_by(path, &datagram);
                        }
                    }
                    Action::HandOver { worker, local, remote, holder, datagram } => {
                        let holder = holder.map(|path| (self.parts.number, path));
                        let message = ToWorker::Stun { local, remote, holder, datagram };
                        self.hand_over(worker, message);
                    }
                    Action::YieldPath { worker, path } => {
                        self.hand_over(worker, ToWorker::YieldPath { path });
                    }
                    Action::Dtls { transport, datagram } => {
                        self.parts.handshakes.datagram(transport, &datagram);
                    }
                    Action::StartDtls { transport } => self.orders.begin(transport),
                    Action::TransportGone { transport, .. } => {
                        if let Some(created) = self.parts.plain.created(transport) {
                            self.parts.neighbours.remove(created.local);
                        }
                        self.parts.plain.close(transport, io);
                        if let Some(port) = self.ports_of.remove(&transport) {
                            self.parts.ports.give(port);
                        }
                        self.orders.forget(transport);
                    }
                }
            }
        }
    }

    /// To another worker, if there is one of that number: strangers name any.
    fn hand_over(&mut self, worker: WorkerId, message: ToWorker) {
        self.for_nobody += u64::from(!self.parts.directory.send(worker, message));
    }

    /// The way of a pipe whose other end is in this process: none where it is not, or where that is not to
    /// be had.
    fn open_hop(&self, local: SocketAddr, remote: SocketAddr, io: &mut Io) -> Option<PathId> {
        let Parts { neighbours, directory, number, .. } = &self.parts;
        let Met { end, far } = neighbours.meet(local, remote, || io.open_hop().ok())?;
        if let Some((worker, far)) = far {
            if let Err(error) = io.connect_hop(end, worker, far) {
                tracing::warn!(%local, %remote, %error, "a pipe takes the way over sockets");
                io.close_path(end);
                return None;
            }
            let met = ToWorker::Neighbour { end: far, worker: *number, far: end };
            directory.deliver(worker, met);
        }
        Some(end)
    }

    fn measure(&mut self, io: &Io, now: Nanos) {
        if now < self.rates.at + SECOND {
            return;
        }
        let statistics = *io.statistics();
        let elapsed = (now - self.rates.at).max(1);
        let before = &self.rates.before;
        let per_second = |count: u64| count.saturating_mul(SECOND) / elapsed;
        let busy = statistics.busy_ns.saturating_sub(before.busy_ns) as f64 / elapsed as f64;
        self.rates = Rates {
            at: now,
            busy: busy.min(1.0),
            packets_out: per_second(statistics.datagrams_out - before.datagrams_out),
            bitrate_out: per_second(statistics.bytes_out - before.bytes_out).saturating_mul(8),
            before: statistics,
        };
        self.delays.roll();
        self.core.set_unix_offset(io.wall_clock_ns().saturating_sub(now));
    }

    fn stats(&self, io: &Io) -> WorkerStats {
        let mut stats = self.core.worker_stats();
        stats.core = self.parts.core;
        stats.ports = self.parts.slice;
        stats.cpu_busy = self.rates.busy;
        stats.packets_out_per_s = self.rates.packets_out;
        stats.bitrate_out_bps = self.rates.bitrate_out;
        stats.forwarding_delay_us_p50 = self.delays.quantile_us(0.5);
        stats.forwarding_delay_us_p99 = self.delays.quantile_us(0.99);
        for (name, count) in io.statistics().iter() {
            stats.counters.insert(name.to_owned(), count);
        }
        stats.counters.insert("dtls_delayed".to_owned(), self.orders.delayed);
        stats.counters.insert("handed_over_to_nobody".to_owned(), self.for_nobody);
        stats.gauges.extend(io.gauges().map(|(name, value)| (name.to_owned(), value)));
        let spread = io.statistics().spread.iter();
        stats.distributions.extend(spread.map(|(name, told)| (name.to_owned(), told)));
        let delays = self.delays.distribution();
        stats.distributions.insert("forwarding_delay_ns".to_owned(), delays);
        stats
    }
}

impl<S: Sealer> Engine for WorkerEngine<S> {
    type Message = ToWorker;

    fn receive(&mut self, source: Inbound, datagram: &mut [u8], arrival: Arrival, _now: Nanos) {
        let source = match source {
            Inbound::Listener { local, remote, .. } => Ingress::Listener { local, remote },
            Inbound::Path(path) => Ingress::Path(path),
            Inbound::Stream { path, local, remote } => Ingress::Stream { path, local, remote },
        };
        if self.arrivals.len() < self.arrivals.capacity() {
            self.arrivals.push(arrival);
        }
        self.core.receive(source, datagram, arrival);
    }

    fn message(&mut self, message: ToWorker, io: &mut Io, now: Nanos) {
        match message {
            ToWorker::YieldPath { path } => self.core.yield_path(path, now),
            ToWorker::Stream(connection) => io.adopt_stream(connection),
            ToWorker::Neighbour { end, worker, far } => {
                // It may be closed by now, or the other worker have ended: both are told otherwise.
                if let Err(error) = io.connect_hop(end, worker, far) {
                    tracing::debug!(%error, "a pipe's other end is gone");
                }
            }
            ToWorker::Stun { local, remote, holder, datagram } => {
                let source = Ingress::HandedOver { local, remote, holder };
                self.core.receive(source, &datagram, Arrival::at(now));
            }
            ToWorker::Handshake { transport, output } => {
                self.handshake_output(transport, output, now);
            }
            order => self.carry_out(order, io, now),
        }
    }

    fn takes_commands(&self) -> bool {
        self.long.is_none()
    }

    fn home_of(&self, frame: &[u8]) -> Home {
        match self.core.home_of(frame) {
            Some(worker) if worker == self.parts.number => Home::Here,
            Some(worker) => Home::Worker(worker),
            None => Home::Nobody,
        }
    }

    fn turn(&mut self, io: &mut Io, now: Nanos) {
        self.turned_at = now;
        if self.parts.pulse.turn()
            && let Some(mailbox) = self.parts.mailbox.take()
        {
            let _ = self.parts.hub.send(ToHub::Running { worker: self.parts.number, mailbox });
        }
        for connection in io.take_connections_of_others() {
            // To one that is not there, or has too many: it is closed, and the peer comes again.
            let worker = connection.worker;
            self.hand_over(worker, ToWorker::Stream(connection));
        }
        self.act(io, now);
        self.core.expire(now);
        self.portion(now);
        self.closed_left = PORTION;
        self.act(io, now);
        self.orders.pass(&self.parts.handshakes);
        if !self.core.events().is_empty() {
            let _ = self.parts.hub.send(ToHub::Events(std::mem::take(self.core.events())));
        }
        self.measure(io, now);
    }

    fn incomplete_since(&self) -> Option<Arrival> {
        self.core.frame_open_since()
    }

    fn fill(&mut self, batch: &mut Batch, now: Nanos) -> bool {
        self.core.drain(batch, &mut self.sealer, now)
    }

    fn sent(&mut self, now: Nanos) {
        for arrival in self.arrivals.drain(..) {
            self.delays.record(arrival.age(now));
        }
    }

    fn deadline(&self) -> Option<Nanos> {
        if self.long.is_some() {
            return Some(0);
        }
        self.core.deadline().into_iter().chain(self.orders.deadline(self.turned_at)).min()
    }

    fn end(&mut self) {
        self.core.say_goodbye_to_all();
    }

    fn path_failed(&mut self, path: PathId, _error: io::ErrorKind) {
        self.core.path_failed(path, self.turned_at);
    }
}

/// A listener on each local address. True if there is one at all.
fn open_listeners(io: &mut Io, addresses: &[std::net::IpAddr], port: u16) -> Opening {
    let mut opened = Vec::new();
    for address in addresses {
        let failed = match io.open_listener(SocketAddr::new(*address, port)) {
            Ok(listener) => {
                opened.push(listener);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Opening::Taken,
            Err(error) => {
                tracing::warn!(%address, port, %error, "cannot listen");
                if !ironcast_driver::is_shortage(&error) {
                    // An address that went away (a removed interface) is not a reason to fail.
                    continue;
                }
                Opening::NotNow
            }
        };
        // Half a port would be a candidate that some peers cannot reach.
        opened.drain(..).for_each(|listener| io.close_listener(listener));
        return failed;
    }
    if opened.is_empty() { Opening::Taken } else { Opening::Open }
}

/// A listener for connections beside each of datagrams. True if there is one at all.
fn open_stream_listeners(
    io: &mut Io,
    addresses: &[std::net::IpAddr],
    port: u16,
    is_shared: bool,
) -> bool {
    let mut opened = Vec::new();
    for address in addresses {
        let local = SocketAddr::new(*address, port);
        let listener = if is_shared {
            io.share_stream_listener(local)
        } else {
            io.open_stream_listener(local)
        };
        match listener {
            Ok(listener) => opened.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            Err(error) => {
                tracing::warn!(%address, port, %error, "cannot listen for TCP");
                opened.drain(..).for_each(|listener| io.close_listener(listener));
                return false;
            }
        }
    }
    !opened.is_empty()
}

fn random<const N: usize>() -> Result<[u8; N], CommandError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| {
        CommandError::new(ErrorCode::WorkerUnavailable, "the system gives no random numbers")
    })?;
    Ok(bytes)
}

fn credentials(worker: WorkerId) -> Result<Credentials, CommandError> {
    let text = |bytes: &[u8]| -> String {
        bytes.iter().map(|byte| char::from(ICE_CHARS[usize::from(byte & 63)])).collect()
    };
    let username = random::<USERNAME_CHARS>()?;
    let password = random::<PASSWORD_CHARS>()?;
    Ok(Credentials {
        username_fragment: format!("{worker:02x}{}", text(&username)),
        password: text(&password),
    })
}

/// What the control plane is told of a handshake that failed.
fn dtls_failure(failure: Failure) -> DtlsFailure {
    match failure {
        Failure::Certificate => DtlsFailure::Certificate,
        Failure::Fingerprint | Failure::NoFingerprint => DtlsFailure::Fingerprint,
        Failure::NoCommonCipher => DtlsFailure::NoCommonCipher,
        Failure::NoCommonSuite => DtlsFailure::NoCommonSrtpProfile,
        Failure::Timeout => DtlsFailure::Timeout,
        Failure::Refused(_) => DtlsFailure::Refused,
        Failure::Protocol => DtlsFailure::Protocol,
        Failure::Internal => DtlsFailure::Internal,
    }
}
