//! Nothing is allocated per forwarded packet: a million packets through the core, from the publisher's
//! datagram to sealed datagrams in the batch, under an allocator that counts.

use ironcast_core::{
    Arrival, MS, Nanos,
    batch::{Batch, PathId, SLAB_BYTES, Slab},
    link::webrtc::ice::Credentials,
    numbers::PacketIndex,
    srtp::{MasterKey, SealKey, SoftwareSealer, Suite},
    tap::Keep,
    wire::stun,
    worker::{Action, Ingress, Limits, Worker},
};
use ironcast_driver::allocator::{self, CountingAllocator};
use ironcast_protocol::{
    command::{Consume, CreateRouter, CreateWebRtcTransport, DtlsRole, Produce},
    media::{
        MediaKind, RtcpFeedback, RtpCodec, RtpEncoding, RtpHeaderExtension, RtpParameters, RtpType,
    },
    snapshot::ResourceKind,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const RECEIVERS: u32 = 300;
const PACKETS_PER_TURN: u32 = 10;
const TURNS: u32 = 340;
const WARM_UP: u32 = 220;
const NOW: Nanos = 1_000 * MS;

fn join(worker: &mut Worker, id: &str, slot: u32) -> PathId {
    let credentials =
        Credentials { username_fragment: format!("00{id}"), password: "p".repeat(24) };
    let create = CreateWebRtcTransport {
        id: id.into(),
        router: "room".into(),
        consent_timeout_s: 0,
        disconnected_timeout_s: 0,
        initial_available_outgoing_bitrate_bps: 0,
        candidates: Default::default(),
        note: Vec::new(),
    };
    let token = worker.apply_create_transport(&create, credentials.clone(), NOW).unwrap();
    worker.apply_connect_transport(id, DtlsRole::Server, NOW).unwrap();
    let username = format!("{}:x", credentials.username_fragment);
    let request = stun::Request {
        transaction_id: [7; 12],
        username: &username,
        priority: 1,
        role: stun::Role::Controlling(1),
        use_candidate: true,
        nomination: None,
        dtls: None,
    };
    let mut check = [0; stun::MESSAGE_BYTES_MAX];
    let len = stun::write_request(&mut check, &request, credentials.password.as_bytes()).unwrap();
    let local = ([10, 0, 0, 1], 40_000).into();
    let remote = ([10, 0, 0, 2], 10_000 + slot as u16).into();
    // A new turn: few sockets are opened in one.
    worker.expire(NOW);
    worker.receive(Ingress::Listener { local, remote }, &check[..len], Arrival::at(NOW));
    assert!(matches!(std::mem::take(worker.actions())[..], [Action::OpenPath { .. }]));
    let path = PathId { slot, generation: 0 };
    worker.path_opened(token, local, remote, Some(path), NOW);
    let begun = std::mem::take(worker.actions());
    assert_eq!(begun, [Action::StartDtls { transport: token }]);
    let master = MasterKey::new(Suite::AeadAes128Gcm, &[slot as u8; 16], &[1; 12]).unwrap();
    worker.dtls_connected(token, &master, &master, NOW);
    path
}

fn parameters(payload_type: u8, ssrc: u32) -> RtpParameters {
    let nack = RtcpFeedback { kind: "nack".into(), parameter: String::new() };
    let uri = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    RtpParameters {
        mid: Some("0".into()),
        codecs: vec![RtpCodec {
            mime_type: "audio/opus".into(),
            payload_type,
            clock_rate: 48_000,
            rtcp_feedback: vec![nack],
            ..RtpCodec::default()
        }],
        header_extensions: vec![RtpHeaderExtension { uri: uri.into(), id: 4 }],
        encodings: vec![RtpEncoding { ssrc: Some(ssrc), ..RtpEncoding::default() }],
        ..RtpParameters::default()
    }
}

fn room(worker: &mut Worker) -> PathId {
    let router = CreateRouter {
        id: "room".into(),
        worker: 0,
        selection: Default::default(),
        note: Vec::new(),
    };
    worker.apply_create_router(&router).unwrap();
    let publisher = join(worker, "publisher", 0);
    let produce = Produce {
        id: "track".into(),
        transport: "publisher".into(),
        kind: MediaKind::Audio,
        rtp_parameters: parameters(96, 1_111),
        rtp_mapping: Default::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    worker.apply_produce(&produce).unwrap();
    for i in 1..=RECEIVERS {
        let id = format!("r{i}");
        join(worker, &id, i);
        let consume = Consume {
            id: id.clone(),
            transport: id,
            producer: "track".into(),
            rtp_parameters: parameters(101, 5_000 + i),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        worker.apply_consume(&consume, 100, NOW).unwrap();
    }
    publisher
}

/// One turn's output, as the driver takes it. Returns the datagrams.
fn drain(worker: &mut Worker, batch: &mut Batch, now: Nanos) -> u64 {
    worker.expire(now);
    assert!(!worker.drain(batch, &mut SoftwareSealer, now), "one portion");
    let datagrams = batch.sends.iter().map(|send| u64::from(send.count)).sum();
    while let Some(slab) = batch.filled.pop() {
        batch.free.push(slab);
    }
    batch.clear();
    datagrams
}

/// Datagrams that left, packets that taps took, and allocations.
fn forward(turns: u32, tapped: &[(ResourceKind, &str)]) -> (u64, u64, u64) {
    let mut worker = Worker::new(0, Limits::default());
    let slab = |_| Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() };
    let mut batch = Batch::new((0..128).map(slab).collect());
    let publisher = room(&mut worker);
    let keep = Keep { payload: true, bytes_max: 1 << 20 };
    let open = |&(kind, id): &(ResourceKind, &str)| {
        let of = worker.subjects(kind, id)[0];
        worker.open_tap(of, keep).unwrap()
    };
    let taps: Vec<_> = tapped.iter().map(open).collect();
    let mut taken = 0;
    drain(&mut worker, &mut batch, NOW);
    let master = MasterKey::new(Suite::AeadAes128Gcm, &[0; 16], &[1; 12]).unwrap();
    let seal = SealKey::new(&master);
    let (mut forwarded, mut allocations, mut seq, mut now) = (0, 0, 0u32, NOW);
    // The first turns fill the pools and the history. Reports are due after a quarter of a second and may allocate:
    // the clock moves on by less.
    for turn in 0..WARM_UP + turns {
        now += MS * 2 / 5;
        let mut arrived = Vec::new();
        for _ in 0..PACKETS_PER_TURN {
            let mut bytes = [0u8; 1_200];
            bytes[..2].copy_from_slice(&[0x80, 96]);
            bytes[2..4].copy_from_slice(&(seq as u16).to_be_bytes());
            bytes[4..8].copy_from_slice(&(turn * 960).to_be_bytes());
            bytes[8..12].copy_from_slice(&1_111u32.to_be_bytes());
            let len = seal.seal_rtp(&mut bytes, 12, 1_080, PacketIndex(seq.into()));
            arrived.push((bytes, len));
            seq += 1;
        }
        let (datagrams, counted) = allocator::count(|| {
            for (bytes, len) in &arrived {
                worker.receive(Ingress::Path(publisher), &bytes[..*len], Arrival::at(now));
            }
            let datagrams = drain(&mut worker, &mut batch, now);
            for &tap in &taps {
                let read =
                    worker.read_tap(tap, |packet| taken += packet.payload.len() as u64 / 1_000);
                assert_eq!(read.map(|read| read.dropped), Some(0));
            }
            datagrams
        });
        if turn >= WARM_UP {
            forwarded += datagrams;
            allocations += counted.calls;
        }
    }
    (forwarded, taken, allocations)
}

#[test]
fn a_million_packets_are_forwarded_without_an_allocation() {
    let (forwarded, _, allocations) = forward(TURNS, &[]);
    assert!(forwarded >= 1_000_000, "{forwarded}");
    assert_eq!(allocations, 0, "allocations over {forwarded} packets");
}

#[test]
fn taps_allocate_nothing_for_a_packet_either() {
    let tapped = [
        (ResourceKind::Producer, "track"),
        (ResourceKind::Consumer, "r7"),
        (ResourceKind::Transport, "r7"),
        (ResourceKind::Transport, "publisher"),
    ];
    let (forwarded, taken, allocations) = forward(60, &tapped);
    let each = u64::from((WARM_UP + 60) * PACKETS_PER_TURN);
    assert_eq!(taken, 4 * each, "each has every packet of a track");
    assert_eq!(allocations, 0, "allocations over {forwarded} packets");
}
