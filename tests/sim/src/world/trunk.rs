//! Two workers that stand for two hosts, and the trunk between them: a pipe transport on each, with a
//! network of its own each way. Pipes of tracks go from the first to the second. Or two workers of one
//! host, with a hop between them: what its ring has no room for is the loss of that network.

use std::{cmp::Reverse, net::SocketAddr};

use ironcast_core::{
    Arrival,
    batch::PathId,
    link::plain::Sockets,
    srtp::Suite,
    wire::{self, Codec, Protocol, extension::ExtensionKind},
    worker::{Ingress, Limits},
};
use ironcast_protocol::{
    command::{Consume, Produce, Tuple},
    media::{RtpEncoding, RtpParameters, RtpType},
    plain::{ConnectPlainTransport, CreatePlainTransport},
};

use super::{Flight, ROOM, To, World};
use crate::{
    net::{Link, Network},
    parameters::{self, Feedback},
    track::Track,
};

/// The pipe transport's id, on both hosts.
pub const TRUNK: &str = "trunk";
/// What pipes carry on of a packet's extensions.
const EXTENSIONS: [(u8, ExtensionKind); 5] = [
    (8, ExtensionKind::DependencyDescriptor),
    (10, ExtensionKind::AudioLevel),
    (11, ExtensionKind::VideoOrientation),
    (13, ExtensionKind::AbsCaptureTime),
    (14, ExtensionKind::PlayoutDelay),
];

/// See the file's head.
pub struct Trunk {
    /// From each host to the other.
    pub links: [Link; 2],
    /// The last packet of media that each has sent, sealed if anything is.
    pub last_rtp: [Vec<u8>; 2],
}

/// A host's end of the trunk.
#[must_use]
pub fn end(host: usize) -> SocketAddr {
    SocketAddr::from(([10, 9, 0, 1 + host as u8], 28_000))
}

impl World {
    /// Two hosts, each with the room.
    ///
    /// # Panics
    /// When a host refuses it.
    #[must_use]
    pub fn two_hosts(seed: u64, network: Network, is_sealed: bool) -> Self {
        let plain_allow = vec!["10.9.0.0/24".parse().expect("a network")];
        let limits = Limits { plain_allow, ..Limits::default() };
        let mut world = Self::with_limits(seed, 2, &limits);
        world.open_room(1);
        let suite = Suite::AeadAes256Gcm;
        let keys = is_sealed.then(|| [world.master(suite), world.master(suite)]);
        let links = [world.rng.fork(), world.rng.fork()].map(|rng| Link::new(network, rng));
        let now = world.now;
        for host in 0..2 {
            let create = CreatePlainTransport {
                id: TRUNK.into(),
                router: ROOM.into(),
                listen: None,
                port: None,
                rtcp_mux: true,
                comedia: false,
                srtp_suite: None,
                pipe: true,
                note: Vec::new(),
            };
            let sockets = Sockets { rtp: end(host), rtcp: None };
            let connect = ConnectPlainTransport {
                id: TRUNK.into(),
                remote: Some(end(1 - host)),
                rtcp_remote: None,
                srtp: None,
                note: Vec::new(),
            };
            let ours = keys.as_ref().map(|keys| &keys[host]);
            let theirs = keys.as_ref().map(|keys| &keys[1 - host]);
            let worker = world.worker_at(host);
            worker.apply_create_plain_transport(&create, sockets, ours, now).expect("made");
            worker.apply_connect_plain_transport(&connect, theirs, None, now).expect("connected");
        }
        world.trunk = Some(Trunk { links, last_rtp: Default::default() });
        world.run(0);
        world
    }

    /// Two workers of one host, each with the room.
    ///
    /// # Panics
    /// When a worker refuses it.
    #[must_use]
    pub fn two_workers(seed: u64, ring: Network) -> Self {
        let mut world = Self::with_limits(seed, 2, &Limits::default());
        world.open_room(1);
        let links = [world.rng.fork(), world.rng.fork()].map(|rng| Link::new(ring, rng));
        let now = world.now;
        for host in 0..2 {
            let path = world.hosts[host].new_slot();
            let tuple =
                Tuple { local: end(host), remote: end(1 - host), protocol: Default::default() };
            world.hosts[host].paths.insert((path.slot, path.generation), tuple);
            let (worker, id) = (world.worker_at(host), TRUNK.to_owned());
            worker.apply_create_hop(&id, ROOM, path, now).expect("made");
            worker.apply_connect_hop(&id, now).expect("connected");
        }
        world.trunk = Some(Trunk { links, last_rtp: Default::default() });
        world.run(0);
        world
    }

    /// The trunk.
    ///
    /// # Panics
    /// Where there is none.
    pub fn trunk(&mut self) -> &mut Trunk {
        self.trunk.as_mut().expect("two hosts")
    }

    /// Carries a track of the first host to the second, under its own id there. Gives the SSRCs.
    ///
    /// # Panics
    /// When a host refuses it.
    pub fn pipe(&mut self, id: &str) -> Vec<u32> {
        self.pipe_as(id, true)
    }

    /// The same; what is lost is repeated by RTX, or byte for byte.
    ///
    /// # Panics
    /// When a host refuses it.
    pub fn pipe_as(&mut self, id: &str, rtx: bool) -> Vec<u32> {
        let tracks = self.peers.iter().flat_map(|peer| &peer.tracks);
        let track = tracks.into_iter().find(|track| track.id == id).expect("a track");
        let (codec, streams) = (track.codec, track.sources.len());
        let mode = mode_of(track);
        let encodings: Vec<_> = (0..streams)
            .map(|_| {
                let ssrc = self.ssrc();
                RtpEncoding {
                    ssrc: Some(ssrc),
                    rtx_ssrc: rtx.then_some(ssrc + 1),
                    scalability_mode: mode.clone(),
                    ..RtpEncoding::default()
                }
            })
            .collect();
        let ssrcs = encodings.iter().filter_map(|encoding| encoding.ssrc).collect();
        let rtp_parameters = pipe_parameters(codec, rtx, encodings);
        let consume = Consume {
            id: format!("pipe/{id}"),
            transport: TRUNK.into(),
            producer: id.into(),
            rtp_parameters: rtp_parameters.clone(),
            rtp_type: RtpType::Pipe,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        let produce = Produce {
            id: id.into(),
            transport: TRUNK.into(),
            kind: parameters::kind(codec),
            rtp_parameters,
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        };
        let (first_seq, now) = (self.rng.next_u64() as u16, self.now);
        self.worker_at(1).apply_produce(&produce).expect("a producer");
        self.worker_at(0).apply_consume(&consume, first_seq, now).expect("a pipe");
        ssrcs
    }

    /// A datagram of anybody arrives at a host's end of the trunk.
    pub fn send_to_trunk(&mut self, host: usize, remote: SocketAddr, bytes: &[u8]) {
        self.arrive_by_trunk(host, remote, bytes, Arrival::at(self.now));
    }

    pub(super) fn arrive_by_trunk(
        &mut self,
        host: usize,
        remote: SocketAddr,
        bytes: &[u8],
        arrival: Arrival,
    ) {
        let local = end(host);
        let found = self.hosts[host]
            .paths
            .iter()
            .find(|(_, ends)| (ends.local, ends.remote) == (local, remote));
        let source = match found {
            Some((&(slot, generation), _)) => Ingress::Path(PathId { slot, generation }),
            None => Ingress::Listener { local, remote },
        };
        self.worker_at(host).receive(source, bytes, arrival);
    }

    /// A datagram leaves a host by the trunk. False where it is for somebody else.
    pub(super) fn fly_by_trunk(&mut self, host: usize, remote: SocketAddr, bytes: &[u8]) -> bool {
        let now = self.now;
        let Some(trunk) = self.trunk.as_mut().filter(|_| remote == end(1 - host)) else {
            return false;
        };
        if wire::classify(bytes) == Protocol::Rtp {
            trunk.last_rtp[host] = bytes.to_vec();
        }
        for at in trunk.links[host].send(bytes.len(), now) {
            self.nth += 1;
            self.queue.push(Reverse(Flight {
                at,
                nth: self.nth,
                to: To::Trunk(1 - host),
                arrival: at,
                transport_seq: None,
                bytes: bytes.to_vec(),
            }));
        }
        true
    }
}

fn mode_of(track: &Track) -> Option<String> {
    (track.temporal_layers > 1).then(|| format!("L1T{}", track.temporal_layers.min(3)))
}

fn pipe_parameters(codec: Codec, rtx: bool, encodings: Vec<RtpEncoding>) -> RtpParameters {
    let payload_types = if codec == Codec::Opus { (100, 105) } else { (101, 102) };
    parameters::parameters(
        codec,
        None,
        payload_types.0,
        rtx.then_some(payload_types.1),
        Feedback { remb: false, transport_cc: false, ..Feedback::ALL },
        &EXTENSIONS,
        encodings,
    )
}
