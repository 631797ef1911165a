//! The clock, the workers, the peers, and all datagrams between them in one queue by time. Steps from
//! one moment at which something happens to the next; commands go through here, so that their
//! consequences happen in the worker's next turn, as with the real engine.

pub mod plain;
pub mod trunk;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    net::SocketAddr,
};

use ironcast_core::{
    Arrival, MS, Nanos, SECOND,
    batch::{Batch, Class, PathId, SLAB_BYTES, Slab},
    link::webrtc::ice::Credentials,
    srtp::{MasterKey, OpenKey, SealKey, SealedOnce, SoftwareSealer, Suite},
    wire::{self, Codec, Protocol, extension::ExtensionKind, rtp::SequenceExtender, stun::Role},
    worker::{Action, Ingress, Limits, Worker},
};
use ironcast_protocol::{
    Event,
    command::{
        CandidateKinds, Consume, Consumed, CreateRouter, CreateWebRtcTransport, DtlsRole, Produce,
        Reply, TransportProtocol, Tuple,
    },
    media::{Layers, RtpEncoding, RtpType},
};

use crate::{
    inbox::{Inbox, Setup},
    net::{Link, Network},
    parameters::{self, Feedback, RECEIVER_EXTENSIONS},
    peer::{CheckSetup, Outgoing, Parts, Peer},
    rng::Rng,
    track::{Source, Track},
};

/// Wall time at world time 0: some day in 2026.
pub const UNIX_OFFSET: Nanos = 1_790_000_000 * SECOND;
/// The only room that is made by itself.
pub const ROOM: &str = "room";
/// Slabs of each worker.
const SLABS: u32 = 64;

/// How a receiver takes a producer.
#[derive(Debug, Clone)]
pub struct Want {
    /// Asks for what is missing.
    pub nack: bool,
    /// Retransmissions come on a stream of their own.
    pub rtx: bool,
    /// Starts paused.
    pub paused: bool,
    /// Layers.
    pub preferred: Option<Layers>,
    /// Given; else the next free one.
    pub ssrc: Option<u32>,
    /// It takes RED.
    pub red: bool,
    /// Ids of header extensions.
    pub extensions: Vec<(u8, ExtensionKind)>,
}

impl Default for Want {
    fn default() -> Self {
        Self {
            nack: true,
            rtx: true,
            paused: false,
            preferred: None,
            ssrc: None,
            red: false,
            extensions: RECEIVER_EXTENSIONS.to_vec(),
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flight {
    at: Nanos,
    /// Datagrams that arrive at one moment keep their order.
    nth: u64,
    to: To,
    arrival: Nanos,
    transport_seq: Option<u16>,
    bytes: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    Worker {
        peer: usize,
        worker: usize,
        local: SocketAddr,
        remote: SocketAddr,
        is_tcp: bool,
    },
    Peer(usize),
    /// This host, from the other.
    Trunk(usize),
}

/// What left for one transport: the witness of sealing.
#[derive(Debug, Default)]
struct Audit {
    rtp: SealedOnce,
    rtcp: SealedOnce,
    numbers: BTreeMap<u32, SequenceExtender>,
}

impl Host {
    fn new_slot(&mut self) -> PathId {
        let slot = self.free_slots.pop().unwrap_or_else(|| {
            self.generations.push(0);
            self.generations.len() as u32 - 1
        });
        PathId { slot, generation: self.generations[slot as usize] }
    }

    fn free_slot(&mut self, id: PathId) {
        self.generations[id.slot as usize] += 1;
        self.free_slots.push(id.slot);
    }

    /// By what a datagram from there comes in; a connection is made where there is none.
    fn ingress(&mut self, tuple: Tuple) -> Ingress {
        let Tuple { local, remote, protocol } = tuple;
        let id = |(&(slot, generation), _): (&(u32, u32), &Tuple)| PathId { slot, generation };
        if let Some(path) = self.paths.iter().find(|(_, ends)| **ends == tuple).map(id) {
            return Ingress::Path(path);
        }
        if protocol == TransportProtocol::Udp {
            return Ingress::Listener { local, remote };
        }
        let known = self.strangers.iter().find(|(_, ends)| **ends == tuple).map(id);
        let path = known.unwrap_or_else(|| self.new_slot());
        self.strangers.insert((path.slot, path.generation), tuple);
        Ingress::Stream { path, local, remote }
    }
}

/// How long the portions of interrupted output take.
pub const PORTIONS_TIME: Nanos = MS / 2;

/// One worker and what the driver would own for it.
struct Host {
    worker: Worker,
    batch: Batch,
    paths: BTreeMap<(u32, u32), Tuple>,
    /// Connections that the worker does not know.
    strangers: BTreeMap<(u32, u32), Tuple>,
    generations: Vec<u32>,
    free_slots: Vec<u32>,
    due: bool,
    /// Output was interrupted.
    has_output: bool,
    /// Until then it writes, see [`World::byte_time`].
    busy_until: Nanos,
    turned_at: Nanos,
}

fn slabs(count: u32) -> Vec<Slab> {
    (0..count).map(|_| Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() }).collect()
}

/// See the file's head.
pub struct World {
    /// Monotonic time.
    pub now: Nanos,
    /// Everybody.
    pub peers: Vec<Peer>,
    /// What the workers reported.
    pub events: Vec<(Nanos, Event)>,
    /// A worker's turns begin at multiples of this: arrivals are bunched then. 0: at once.
    pub hold: Nanos,
    /// No worker takes a turn before.
    pub stalled_until: Nanos,
    /// See [`World::interrupt_output_after`].
    portions_max: usize,
    /// How long a worker takes to write a byte; until then it does nothing else.
    pub byte_time: Nanos,
    /// Sockets cannot be opened.
    pub no_sockets: bool,
    /// Of transports that are made from now on.
    pub disconnected_timeout_s: u32,
    /// The same.
    pub candidates: CandidateKinds,
    /// The room that is opened, and that peers join, from now on.
    pub room: &'static str,
    /// The seed, for messages.
    pub seed: u64,
    hosts: Vec<Host>,
    queue: BinaryHeap<Reverse<Flight>>,
    nth: u64,
    rng: Rng,
    audits: BTreeMap<(usize, u64), Audit>,
    next_ssrc: u32,
    trunk: Option<trunk::Trunk>,
    /// What came to peers that are known by their address.
    plain: BTreeMap<SocketAddr, Vec<(Nanos, Vec<u8>)>>,
}

impl World {
    /// One worker with an empty room.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self::with_limits(seed, 1, &Limits::default())
    }

    /// Several workers, a room on the first.
    ///
    /// # Panics
    /// When the room is refused.
    #[must_use]
    pub fn with_limits(seed: u64, workers: u16, limits: &Limits) -> Self {
        let host = |number| {
            let free = slabs(SLABS);
            let mut worker = Worker::new(number, limits.clone());
            worker.set_unix_offset(UNIX_OFFSET);
            Host {
                worker,
                // Small portions, so that turns end in the middle of their output.
                batch: Batch::new(free).with_portions_of(3_000),
                paths: BTreeMap::new(),
                strangers: BTreeMap::new(),
                generations: Vec::new(),
                free_slots: Vec::new(),
                due: false,
                has_output: false,
                busy_until: 0,
                turned_at: 0,
            }
        };
        let mut world = Self {
            now: 10 * SECOND,
            peers: Vec::new(),
            events: Vec::new(),
            hold: 0,
            stalled_until: 0,
            portions_max: usize::MAX,
            byte_time: 0,
            no_sockets: false,
            disconnected_timeout_s: 0,
            candidates: CandidateKinds::default(),
            room: ROOM,
            seed,
            hosts: (0..workers).map(host).collect(),
            queue: BinaryHeap::new(),
            nth: 0,
            rng: Rng::new(seed),
            audits: BTreeMap::new(),
            next_ssrc: 70_000,
            trunk: None,
            plain: BTreeMap::new(),
        };
        world.open_room(0);
        world
    }

    /// The room is at a worker, too.
    ///
    /// # Panics
    /// When it is refused.
    pub fn open_room(&mut self, worker: u16) {
        let create = CreateRouter {
            id: self.room.into(),
            worker,
            selection: Default::default(),
            note: Vec::new(),
        };
        let worker = self.worker_at(usize::from(worker));
        worker.apply_create_router(&create).expect("an empty worker takes a room");
    }

    /// The first worker; it takes a turn soon.
    pub fn worker(&mut self) -> &mut Worker {
        self.worker_at(0)
    }

    /// A worker; it takes a turn soon.
    pub fn worker_at(&mut self, index: usize) -> &mut Worker {
        self.hosts[index].due = true;
        &mut self.hosts[index].worker
    }

    /// From now on the first worker has so many slabs for its output.
    pub fn lend_slabs(&mut self, count: u32) {
        self.hosts[0].batch.free = slabs(count);
    }

    /// Dropped for that reason by the first worker.
    #[must_use]
    pub fn discarded(&self, reason: ironcast_core::Discard) -> u64 {
        self.hosts[0].worker.discards.of(reason)
    }

    /// The same by any worker.
    #[must_use]
    pub fn discarded_at(&self, worker: usize, reason: ironcast_core::Discard) -> u64 {
        self.hosts[worker].worker.discards.of(reason)
    }

    /// Open sockets of a worker.
    #[must_use]
    pub fn open_paths(&self, worker: usize) -> usize {
        self.hosts[worker].paths.len()
    }

    /// One of the counters of [`Worker::worker_stats`].
    #[must_use]
    pub fn counter(&self, name: &str) -> u64 {
        self.hosts[0].worker.worker_stats().counters[name]
    }

    /// A peer over a good network.
    pub fn join(&mut self, name: &str) -> usize {
        self.join_over(name, Network::default(), Network::default())
    }

    /// A peer: a transport with keys, whose checks begin at once.
    pub fn join_over(&mut self, name: &str, up: Network, down: Network) -> usize {
        self.join_worker(0, name, up, down)
    }

    /// A peer of a worker.
    ///
    /// # Panics
    /// When the transport is refused.
    pub fn join_worker(&mut self, worker: usize, name: &str, up: Network, down: Network) -> usize {
        let index = self.peers.len();
        let credentials = self.credentials(worker);
        let create = CreateWebRtcTransport {
            id: name.into(),
            router: self.room.into(),
            consent_timeout_s: 30,
            disconnected_timeout_s: self.disconnected_timeout_s,
            initial_available_outgoing_bitrate_bps: 600_000,
            candidates: self.candidates,
            note: Vec::new(),
        };
        let now = self.now;
        let core = self.worker_at(worker);
        let token = core.apply_create_transport(&create, credentials.clone(), now);
        let token = token.expect("a transport");
        core.apply_connect_transport(name, DtlsRole::Server, now).expect("connected once");
        let suite = Suite::ALL[index % 3];
        let ours = self.master(suite);
        let theirs = self.master(suite);
        self.worker_at(worker).dtls_connected(token, &ours, &theirs, now);
        let parts = Parts {
            name: name.into(),
            remote: SocketAddr::from(([10, 0, 1, index as u8], 50_000 + index as u16)),
            local: SocketAddr::from(([192, 0, 2, 1], 40_000)),
            check: CheckSetup {
                username: format!("{}:peer", credentials.username_fragment),
                password: credentials.password,
                nominate: true,
                nomination: None,
                role: Role::Controlling(7),
            },
            up: Link::new(up, self.rng.fork()),
            down: Link::new(down, self.rng.fork()),
            seal: SealKey::new(&theirs),
            open: OpenKey::new(&ours),
            unix_offset: UNIX_OFFSET,
        };
        self.peers.push(Peer::new(parts, worker, token, now));
        index
    }

    /// New credentials of a worker.
    pub fn credentials(&mut self, worker: usize) -> Credentials {
        let (user, password) = (self.rng.next_u64() as u32, self.rng.next_u64());
        Credentials {
            username_fragment: format!("{worker:02x}{user:08x}"),
            password: format!("{password:024x}"),
        }
    }

    fn master(&mut self, suite: Suite) -> MasterKey {
        let bytes = self.rng.bytes(suite.key_len() + suite.salt_len());
        MasterKey::from_key_and_salt(suite, &bytes).expect("the right length")
    }

    /// Opus on MID `a`, with NACK and without RTX.
    pub fn publish_audio(&mut self, peer: usize, id: &str) -> &mut Track {
        let mut track = Track::new(id, Codec::Opus, Some("a"), self.now);
        let mut source = Source::new(self.ssrc(), None, 1_000 + self.rng.below(20_000));
        source.payload_len = 120;
        track.sources.push(source);
        self.publish(peer, track)
    }

    /// Opus on MID `a` that is never sent again, as browsers offer it; as RED of payload type 63 where
    /// `levels` is not 0.
    pub fn publish_voice(&mut self, peer: usize, id: &str, levels: usize) -> &mut Track {
        let mut track = Track::new(id, Codec::Opus, Some("a"), self.now);
        (track.nack, track.red) = (false, (levels > 0).then_some((63, levels)));
        let mut source = Source::new(self.ssrc(), None, 1_000 + self.rng.below(20_000));
        source.payload_len = 120;
        track.sources.push(source);
        self.publish(peer, track)
    }

    /// One stream of video on MID `v`, with RTX.
    pub fn publish_video(&mut self, peer: usize, id: &str, codec: Codec) -> &mut Track {
        let mut track = Track::new(id, codec, Some("v"), self.now);
        let mut source = Source::new(self.ssrc(), None, 1_000 + self.rng.below(20_000));
        source.rtx_ssrc = Some(self.ssrc());
        track.sources.push(source);
        self.publish(peer, track)
    }

    /// VP8 simulcast by RID on MID `s`: `layers` streams, each with three temporal layers.
    pub fn publish_simulcast(&mut self, peer: usize, id: &str, layers: usize) -> &mut Track {
        let track = self.simulcast(id, layers);
        self.publish(peer, track)
    }

    /// The track of [`Self::publish_simulcast`], before it is published.
    pub fn simulcast(&mut self, id: &str, layers: usize) -> Track {
        let mut track = Track::new(id, Codec::Vp8, Some("s"), self.now);
        (track.labels, track.temporal_layers) = (true, 3);
        for layer in 0..layers {
            let rid = format!("r{layer}");
            let first = 1_000 + self.rng.below(20_000);
            let mut source = Source::new(self.ssrc(), Some(&rid), first);
            source.rtx_ssrc = Some(self.ssrc());
            source.packets_per_frame = [1, 2, 5][layer.min(2)];
            source.payload_len = [500, 700, 900][layer.min(2)];
            track.sources.push(source);
        }
        track
    }

    /// A number that no stream has.
    pub fn ssrc(&mut self) -> u32 {
        self.next_ssrc += 10;
        self.next_ssrc
    }

    /// Produces a track.
    ///
    /// # Panics
    /// When it is refused.
    pub fn publish(&mut self, peer: usize, track: Track) -> &mut Track {
        let create = self.produce(peer, &track);
        self.worker_at(self.peers[peer].worker).apply_produce(&create).expect("a producer");
        let tracks = &mut self.peers[peer].tracks;
        tracks.push(track);
        tracks.last_mut().expect("just pushed")
    }

    /// A track whose `produce` comes only after `delay`: its packets are under way before.
    ///
    /// # Panics
    /// When it is refused.
    pub fn publish_late(&mut self, peer: usize, mut track: Track, delay: Nanos) {
        track.next_at = self.now;
        let create = self.produce(peer, &track);
        self.peers[peer].tracks.push(track);
        self.run(delay);
        self.worker_at(self.peers[peer].worker).apply_produce(&create).expect("a producer");
    }

    /// The command that produces a track.
    #[must_use]
    pub fn produce(&self, peer: usize, track: &Track) -> Produce {
        let mode =
            (track.temporal_layers > 1).then(|| format!("L1T{}", track.temporal_layers.min(3)));
        let encodings = track.sources.iter().map(|source| RtpEncoding {
            ssrc: (!track.labels).then_some(source.ssrc),
            rtx_ssrc: source.rtx_ssrc.filter(|_| !track.labels),
            rid: source.rid.clone(),
            scalability_mode: mode.clone(),
            dtx: track.dtx,
            ..RtpEncoding::default()
        });
        let mut parameters = parameters::parameters(
            track.codec,
            track.mid.as_deref(),
            track.payload_type,
            track.rtx_payload_type,
            Feedback { nack: track.nack, ..Feedback::ALL },
            &track.extensions,
            encodings.collect(),
        );
        parameters = parameters::with_red(parameters, track.red.map(|(red, _)| red));
        parameters.rtcp.cname.clone_from(&self.peers[peer].name);
        Produce {
            id: track.id.clone(),
            transport: self.peers[peer].name.clone(),
            kind: parameters::kind(track.codec),
            rtp_parameters: parameters,
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        }
    }

    /// Consumes a producer with retransmissions. Returns the SSRC.
    pub fn consume(&mut self, peer: usize, producer: &str) -> u32 {
        self.consume_as(peer, producer, Want::default()).0
    }

    /// Consumes a producer. The consumer's id is `peer/producer`.
    ///
    /// # Panics
    /// When it is refused.
    pub fn consume_as(&mut self, peer: usize, producer: &str, want: Want) -> (u32, Consumed) {
        let (create, setup) = self.consume_command(peer, producer, &want);
        let (ssrc, now) = (setup.ssrc, self.now);
        let first_seq = self.rng.next_u64() as u16;
        let worker = self.peers[peer].worker;
        let reply = self.worker_at(worker).apply_consume(&create, first_seq, now);
        let Reply::Consumed(consumed) = reply.expect("a consumer") else {
            panic!("the answer to another command")
        };
        // A stream that comes back keeps what its receiver knows of its numbers.
        let inbox = self.peers[peer].inboxes.entry(ssrc).or_insert_with(|| Inbox::new(setup));
        inbox.got.clear();
        inbox.order.clear();
        (ssrc, consumed)
    }

    /// The command that consumes a producer.
    ///
    /// # Panics
    /// When no peer publishes it.
    pub fn consume_command(
        &mut self,
        peer: usize,
        producer: &str,
        want: &Want,
    ) -> (Consume, Setup) {
        let tracks = self.peers.iter().flat_map(|peer| &peer.tracks);
        let track = tracks.into_iter().find(|track| track.id == producer).expect("a track");
        let (codec, streams) = (track.codec, track.sources.len());
        let ssrc = want.ssrc.unwrap_or_else(|| self.ssrc());
        let audio = codec == Codec::Opus;
        let (payload_type, rtx_payload_type) = if audio { (100, 105) } else { (101, 102) };
        let rtx = want.rtx.then_some((ssrc + 1, rtx_payload_type));
        let encoding = RtpEncoding {
            ssrc: Some(ssrc),
            rtx_ssrc: rtx.map(|(ssrc, _)| ssrc),
            ..RtpEncoding::default()
        };
        let mid = format!("m{}", ssrc % 1_000);
        let rtp_parameters = parameters::parameters(
            codec,
            Some(&mid),
            payload_type,
            rtx.map(|(_, payload_type)| payload_type),
            Feedback { nack: want.nack, transport_cc: false, ..Feedback::ALL },
            &want.extensions,
            vec![encoding],
        );
        let red = want.red.then_some(112);
        let rtp_parameters = parameters::with_red(rtp_parameters, red);
        self.peers[peer].extensions_in = parameters::extension_map(&want.extensions);
        let name = self.peers[peer].name.clone();
        let create = Consume {
            id: format!("{name}/{producer}"),
            transport: name,
            producer: producer.into(),
            rtp_parameters,
            rtp_type: if streams > 1 { RtpType::Simulcast } else { RtpType::Simple },
            paused: want.paused,
            preferred_layers: want.preferred,
            ignore_dtx: false,
            note: Vec::new(),
        };
        (create, Setup { ssrc, codec, payload_type, rtx, red, nack: want.nack })
    }

    /// Lets time pass.
    pub fn run(&mut self, span: Nanos) {
        let end = self.now + span;
        while let Some(at) = self.next_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = end;
    }

    /// Lets time pass until something is so, but not longer than `span`. True if it is so.
    pub fn run_until(&mut self, span: Nanos, is_so: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + span;
        while !is_so(self) {
            let Some(at) = self.next_at().filter(|at| *at <= end) else {
                self.now = end;
                return is_so(self);
            };
            self.now = self.now.max(at);
            self.step();
        }
        true
    }

    /// A datagram of a peer leaves now, over its link.
    pub fn send(&mut self, peer: usize, bytes: Vec<u8>) {
        self.fly_up(peer, Outgoing { after: 0, bytes, transport_seq: None });
    }

    /// A datagram of anybody arrives at a worker's listener now.
    pub fn send_from(&mut self, worker: usize, remote: SocketAddr, bytes: &[u8]) {
        let local = SocketAddr::from(([192, 0, 2, 1], 40_000));
        let now = self.now;
        self.worker_at(worker).receive(
            Ingress::Listener { local, remote },
            bytes,
            Arrival::at(now),
        );
    }

    /// Forgets what peers and events have recorded, for calls that are longer than memory.
    pub fn forget(&mut self) {
        self.events.clear();
        for peer in &mut self.peers {
            peer.answers.truncate(1);
            peer.arrived.clear();
            peer.feedback.clear();
            peer.report_blocks.clear();
            peer.rembs.clear();
        }
    }

    /// A datagram of anybody arrives at the socket that a worker has for that address, or at its
    /// listener.
    pub fn send_to_socket(&mut self, worker: usize, remote: SocketAddr, bytes: &[u8]) {
        let found = self.hosts[worker].paths.iter().find(|(_, ends)| ends.remote == remote);
        let Some((&(slot, generation), _)) = found else {
            // The kernel's filter knows the worker by the username.
            let other = usize::from_str_radix(&String::from_utf8_lossy(&bytes[24..26]), 16);
            self.send_from(other.unwrap_or(worker), remote, bytes);
            return;
        };
        let now = self.now;
        self.worker_at(worker).receive(
            Ingress::Path(PathId { slot, generation }),
            bytes,
            Arrival::at(now),
        );
    }

    /// The socket of an address fails, or its connection ends.
    pub fn fail_path(&mut self, worker: usize, remote: SocketAddr) {
        let found = self.hosts[worker].paths.iter().find(|(_, ends)| ends.remote == remote);
        let (&(slot, generation), _) = found.expect("a socket for that address");
        let now = self.now;
        self.worker_at(worker).path_failed(PathId { slot, generation }, now);
    }

    /// The connection of a peer ends.
    ///
    /// # Panics
    /// When it has none.
    pub fn end_connection(&mut self, peer: usize) {
        let (worker, tuple, now) = (self.peers[peer].worker, self.peers[peer].tuple(), self.now);
        let found = self.hosts[worker].paths.iter().find(|(_, ends)| **ends == tuple);
        let (&(slot, generation), _) = found.expect("a connection of that peer");
        self.worker_at(worker).path_failed(PathId { slot, generation }, now);
    }

    /// Sockets that the first worker has opened.
    #[must_use]
    pub fn sockets_opened(&self) -> usize {
        let host = &self.hosts[0];
        host.generations.iter().sum::<u32>() as usize + host.paths.len()
    }

    /// A worker's output is interrupted after so many portions of 3,000 bytes, for [`PORTIONS_TIME`].
    pub fn interrupt_output_after(&mut self, portions: usize) {
        self.portions_max = portions;
    }

    fn next_at(&self) -> Option<Nanos> {
        let flights = self.queue.peek().map(|Reverse(flight)| flight.at);
        let peers = self.peers.iter().map(Peer::deadline).min();
        let hosts = self.hosts.iter().filter_map(|host| {
            if host.due {
                return Some(host.busy_until);
            }
            if host.has_output {
                return Some(host.busy_until.max(host.turned_at + PORTIONS_TIME));
            }
            // The driver does not spin either.
            host.worker.deadline().map(|at| at.max(host.turned_at + MS / 10).max(host.busy_until))
        });
        let hosts = hosts.map(|at| at.max(self.stalled_until));
        hosts.chain(flights).chain(peers).min()
    }

    fn step(&mut self) {
        let now = self.now;
        for peer in 0..self.peers.len() {
            if self.peers[peer].deadline() <= now {
                for outgoing in self.peers[peer].tick(now) {
                    self.fly_up(peer, outgoing);
                }
            }
        }
        while self.queue.peek().is_some_and(|Reverse(flight)| flight.at <= now) {
            if let Some(Reverse(flight)) = self.queue.pop() {
                self.arrive(flight);
            }
        }
        for index in 0..self.hosts.len() {
            let host = &self.hosts[index];
            let timer = host.worker.deadline().is_some_and(|at| at <= now);
            let may = now >= self.stalled_until.max(host.busy_until);
            let has_output = host.has_output && now >= host.turned_at + PORTIONS_TIME;
            if may && (host.due || has_output || timer && now >= host.turned_at + MS / 10) {
                self.turn(index);
            }
        }
    }

    fn fly_up(&mut self, peer: usize, outgoing: Outgoing) {
        let from = &mut self.peers[peer];
        if from.loses(&outgoing.bytes) {
            return;
        }
        let (worker, local, remote) = (from.worker, from.local, from.remote);
        let is_tcp = from.protocol == TransportProtocol::Tcp;
        for arrival in from.up.send(outgoing.bytes.len(), self.now + outgoing.after) {
            let at = arrival.checked_next_multiple_of(self.hold).unwrap_or(arrival);
            self.nth += 1;
            self.queue.push(Reverse(Flight {
                at,
                nth: self.nth,
                to: To::Worker { peer, worker, local, remote, is_tcp },
                arrival,
                transport_seq: outgoing.transport_seq,
                bytes: outgoing.bytes.clone(),
            }));
        }
    }

    fn arrive(&mut self, flight: Flight) {
        match flight.to {
            To::Peer(peer) => {
                for outgoing in self.peers[peer].receive(&flight.bytes, self.now) {
                    self.fly_up(peer, outgoing);
                }
            }
            To::Trunk(host) => {
                let from = trunk::end(1 - host);
                self.arrive_by_trunk(host, from, &flight.bytes, Arrival::at(flight.arrival));
            }
            To::Worker { peer, worker, local, remote, is_tcp } => {
                if let Some(seq) = flight.transport_seq {
                    self.peers[peer].arrived.entry(seq).or_insert(flight.arrival);
                }
                let host = &mut self.hosts[worker];
                let protocol = if is_tcp { TransportProtocol::Tcp } else { TransportProtocol::Udp };
                let source = host.ingress(Tuple { local, remote, protocol });
                host.worker.receive(source, &flight.bytes, Arrival::at(flight.arrival));
                host.due = true;
            }
        }
    }

    fn turn(&mut self, index: usize) {
        let now = self.now;
        (self.hosts[index].due, self.hosts[index].turned_at) = (false, now);
        self.act(index);
        self.hosts[index].worker.expire(now);
        self.act(index);
        let mut left = self.portions_max;
        let mut has_more = true;
        while has_more && left > 0 {
            has_more = self.transmit_portion(index);
            left -= 1;
        }
        let host = &mut self.hosts[index];
        host.has_output = has_more;
        self.events.extend(std::mem::take(host.worker.events()).into_iter().map(|e| (now, e)));
    }

    /// One portion of a turn's output onto the network; true when there is more.
    fn transmit_portion(&mut self, index: usize) -> bool {
        let host = &mut self.hosts[index];
        let has_more = host.worker.drain(&mut host.batch, &mut SoftwareSealer, self.now);
        let sends = std::mem::take(&mut host.batch.sends);
        let filled = std::mem::take(&mut host.batch.filled);
        let written: u32 = sends.iter().map(|send| send.len).sum();
        host.busy_until = host.busy_until.max(self.now) + Nanos::from(written) * self.byte_time;
        for send in &sends {
            let bytes = &filled[send.slab as usize].bytes;
            let (start, end) = (send.offset as usize, (send.offset + send.len) as usize);
            let datagrams = bytes[start..end].chunks(usize::from(send.segment));
            assert_eq!(datagrams.len(), usize::from(send.count), "{send:?}");
            let paths = &self.hosts[index].paths;
            let path = paths.get(&(send.path.slot, send.path.generation)).copied();
            let is_tcp = path.is_some_and(|path| path.protocol == TransportProtocol::Tcp);
            for datagram in datagrams {
                // Only media of connections can be given up one kind before the other.
                let is_media = wire::classify(datagram) == Protocol::Rtp;
                let is_told =
                    path.is_none() || (is_tcp && is_media) == (send.class != Class::Control);
                assert!(is_told, "seed {}: {send:?}", self.seed);
                self.fly_down(index, send.path, datagram);
            }
        }
        let host = &mut self.hosts[index];
        host.batch.free.extend(filled);
        host.batch.clear();
        has_more
    }

    fn act(&mut self, index: usize) {
        while !self.hosts[index].worker.actions().is_empty() {
            for action in std::mem::take(self.hosts[index].worker.actions()) {
                self.carry_out(index, action);
            }
        }
    }

    fn carry_out(&mut self, index: usize, action: Action) {
        let now = self.now;
        let host = &mut self.hosts[index];
        match action {
            Action::OpenPath { transport, local, remote } => {
                let id = (!self.no_sockets).then(|| host.new_slot());
                if let Some(id) = id {
                    let protocol = TransportProtocol::Udp;
                    let tuple = Tuple { local, remote, protocol };
                    host.paths.insert((id.slot, id.generation), tuple);
                }
                host.worker.path_opened(transport, local, remote, id, now);
            }
            Action::KeepStream(id) => {
                let place = (id.slot, id.generation);
                let tuple = host.strangers.remove(&place).expect("a connection");
                host.paths.insert(place, tuple);
            }
            Action::ClosePath(id) => {
                let open = host.paths.remove(&(id.slot, id.generation));
                assert!(open.is_some(), "{id:?} is closed but was not open");
                host.free_slot(id);
            }
            Action::Refuse { local, remote, datagram } => {
                let id = host.new_slot();
                let tuple = Tuple { local, remote, protocol: TransportProtocol::Udp };
                host.paths.insert((id.slot, id.generation), tuple);
                host.worker.refuse_by(id, &datagram);
            }
            Action::HandOver { worker, local, remote, holder, datagram } => {
                let holder = holder.map(|path| (index as u16, path));
                if let Some(other) = self.hosts.get_mut(usize::from(worker)) {
                    let from = Ingress::HandedOver { local, remote, holder };
                    other.worker.receive(from, &datagram, Arrival::at(now));
                    other.due = true;
                }
            }
            Action::YieldPath { worker, path } => {
                if let Some(other) = self.hosts.get_mut(usize::from(worker)) {
                    other.worker.yield_path(path, now);
                    other.due = true;
                }
            }
            Action::Dtls { .. } | Action::StartDtls { .. } | Action::TransportGone { .. } => {}
        }
    }

    fn fly_down(&mut self, worker: usize, path: PathId, datagram: &[u8]) {
        let (host, path) = (&self.hosts[worker], (path.slot, path.generation));
        // A connection is answered before it is a path.
        let tuple = host.paths.get(&path).or_else(|| host.strangers.get(&path));
        let Some(&tuple) = tuple else { return };
        if self.fly_by_trunk(worker, tuple.remote, datagram) {
            return;
        }
        if let Some(got) = self.plain.get_mut(&tuple.remote) {
            got.push((self.now, datagram.to_vec()));
            return;
        }
        // Who sends from that address now, or did before it moved; of several the one that it is for.
        let mut there: Vec<usize> =
            (0..self.peers.len()).filter(|&at| self.peers[at].tuple() == tuple).collect();
        if there.len() > 1 {
            there.retain(|&at| self.peers[at].worker == worker);
            if there.len() > 1 {
                there.retain(|&at| self.peers[at].is_for(datagram));
            }
        }
        let Some(&peer) = there.first() else { return };
        let token = self.peers[peer].token;
        self.witness(worker, token, datagram);
        for at in self.peers[peer].down.send(datagram.len(), self.now) {
            self.nth += 1;
            self.queue.push(Reverse(Flight {
                at,
                nth: self.nth,
                to: To::Peer(peer),
                arrival: at,
                transport_seq: None,
                bytes: datagram.to_vec(),
            }));
        }
    }

    /// No index is sealed twice with other bytes, whatever a test does.
    fn witness(&mut self, worker: usize, token: u64, datagram: &[u8]) {
        let audit = self.audits.entry((worker, token)).or_default();
        let word =
            |at: usize| u32::from_be_bytes(datagram[at..at + 4].try_into().expect("4 bytes"));
        let noted = match wire::classify(datagram) {
            Protocol::Rtp => {
                let seq = u16::from_be_bytes([datagram[2], datagram[3]]);
                let index = audit.numbers.entry(word(8)).or_default().extend(seq);
                audit.rtp.note(word(8), u64::from(index), datagram)
            }
            Protocol::Rtcp => {
                // GCM ends with the index; with HMAC a tag of ten bytes follows it.
                let at = datagram.len() - 4;
                let gcm =
                    Suite::ALL[self.peers.iter().position(|p| p.token == token).unwrap_or(0) % 3];
                let index = word(if gcm.is_gcm() { at } else { at - gcm.rtcp_tag_len() });
                audit.rtcp.note(word(4), u64::from(index & 0x7fff_ffff), datagram)
            }
            _ => Ok(()),
        };
        if let Err(twice) = noted {
            panic!("seed {}: {twice}", self.seed);
        }
    }

    /// How many different packets left for a peer.
    #[must_use]
    pub fn sealed(&self, peer: usize) -> usize {
        let peer = &self.peers[peer];
        self.audits.get(&(peer.worker, peer.token)).map_or(0, |audit| audit.rtp.len())
    }

    /// Fails when any peer saw what may never happen.
    ///
    /// # Panics
    /// Then.
    pub fn assert_no_faults(&self) {
        for peer in &self.peers {
            assert!(peer.faults.is_empty(), "seed {}: {:?}", self.seed, peer.faults);
            let unauthenticated = peer.refused.get("unauthenticated");
            assert_eq!(unauthenticated, None, "seed {}: {}", self.seed, peer.name);
        }
        for host in &self.hosts {
            assert!(host.worker.wishes_are_counted(), "seed {}: wishes", self.seed);
        }
    }
}
