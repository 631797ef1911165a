//! The forward path alone, for callgrind and quick looks: one publisher, N receivers, video frames of
//! ten packets, without sockets. `forward [receivers] [frames] [seal|null]` prints time per packet and
//! consumer; under `valgrind --tool=callgrind --toggle-collect='*drain*'` instructions can be counted.

use std::time::Instant;

use ironcast_core::{
    MS, Nanos,
    batch::{Batch, PathId, SLAB_BYTES, Slab},
    srtp::{KeySource, MasterKey, SealJob, SealKey, Sealer, SoftwareSealer, Suite},
    transport::ice::Credentials,
    wire::stun,
    worker::{Action, Limits, Source, Worker},
};
use ironcast_protocol::{
    command::{Consume, CreateRouter, CreateWebRtcTransport, DtlsRole, Produce},
    media::{
        MediaKind, RtcpFeedback, RtpCodec, RtpEncoding, RtpHeaderExtension, RtpParameters, RtpType,
    },
};

/// Leaves packets as they are: what remains is choose, renumber, write.
struct NullSealer;

impl Sealer for NullSealer {
    fn seal<K: KeySource + ?Sized>(&mut self, _: &K, _: &[SealJob], _: &mut [Slab]) -> usize {
        0
    }
}

struct Bench {
    worker: Worker,
    batch: Batch,
    slabs: u32,
    now: Nanos,
}

impl Bench {
    fn turn(&mut self, sealer: &mut impl Sealer) -> u64 {
        self.worker.expire(self.now);
        let mut datagrams = 0;
        loop {
            let has_more = self.worker.drain(&mut self.batch, sealer, self.now);
            datagrams += self.batch.sends.iter().map(|send| u64::from(send.count)).sum::<u64>();
            self.batch.free.append(&mut self.batch.filled);
            self.batch.clear();
            if !has_more {
                return datagrams;
            }
        }
    }

    fn join(&mut self, id: &str, key: u8) -> PathId {
        let credentials =
            Credentials { username_fragment: format!("00{id}"), password: "p".repeat(24) };
        let create = CreateWebRtcTransport {
            id: id.into(),
            router: "room".into(),
            consent_timeout_s: 0,
            initial_available_outgoing_bitrate_bps: 0,
            note: Vec::new(),
        };
        let token = self
            .worker
            .apply_create_transport(&create, credentials.clone(), self.now)
            .expect("a transport");
        self.worker.apply_connect_transport(id, DtlsRole::Server, self.now).expect("connect");
        let mut check = [0; stun::MESSAGE_BYTES_MAX];
        let username = format!("{}:x", credentials.username_fragment);
        let request = stun::Request {
            transaction_id: [7; 12],
            username: &username,
            priority: 1,
            role: stun::Role::Controlling(1),
            use_candidate: true,
            nomination: None,
        };
        let len = stun::write_request(&mut check, &request, credentials.password.as_bytes())
            .expect("room");
        let local = ([10, 0, 0, 1], 40_000).into();
        let remote = ([10, 0, 0, 2], 10_000 + self.slabs as u16).into();
        self.slabs += 1;
        let path = PathId { slot: self.slabs, generation: 0 };
        self.worker.receive(Source::Listener { local, remote }, &check[..len], self.now);
        let actions = std::mem::take(self.worker.actions());
        assert!(matches!(actions[..], [Action::OpenPath { .. }]), "{actions:?}");
        self.worker.path_opened(token, local, remote, Some(path), self.now);
        let master = MasterKey::new(Suite::AeadAes128Gcm, &[key; 16], &[key; 12]).expect("key");
        self.worker.dtls_connected(token, &master, &master, self.now);
        path
    }
}

fn codec(payload_type: u8) -> RtpCodec {
    let feedback = |kind: &str, parameter: &str| RtcpFeedback {
        kind: kind.into(),
        parameter: parameter.into(),
    };
    RtpCodec {
        mime_type: "video/VP8".into(),
        payload_type,
        clock_rate: 90_000,
        rtcp_feedback: vec![feedback("nack", ""), feedback("nack", "pli")],
        ..RtpCodec::default()
    }
}

fn parameters(payload_type: u8, mid: &str, ssrc: u32) -> RtpParameters {
    let extension = |uri: &str, id| RtpHeaderExtension { uri: uri.into(), id };
    RtpParameters {
        mid: Some(mid.into()),
        codecs: vec![codec(payload_type)],
        header_extensions: vec![
            extension("urn:ietf:params:rtp-hdrext:sdes:mid", 1),
            extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 4),
        ],
        encodings: vec![RtpEncoding { ssrc: Some(ssrc), ..RtpEncoding::default() }],
        ..RtpParameters::default()
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let receivers: u32 = arguments.next().map_or(300, |a| a.parse().expect("receivers"));
    let frames: u32 = arguments.next().map_or(300, |a| a.parse().expect("frames"));
    let null = arguments.next().is_some_and(|a| a == "null");
    let free =
        (0..256).map(|id| Slab { id, bytes: vec![0; SLAB_BYTES].into_boxed_slice() }).collect();
    let mut bench = Bench {
        worker: Worker::new(0, Limits::default()),
        batch: Batch::new(free),
        slabs: 0,
        now: 1_000 * MS,
    };
    let router = CreateRouter { id: "room".into(), worker: 0, note: Vec::new() };
    bench.worker.apply_create_router(&router).expect("a router");
    let publisher = bench.join("publisher", 1);
    let produce = Produce {
        id: "camera".into(),
        transport: "publisher".into(),
        kind: MediaKind::Video,
        rtp_parameters: parameters(96, "0", 1_111),
        rtp_mapping: Default::default(),
        paused: false,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    bench.worker.apply_produce(&produce).expect("a producer");
    for i in 0..receivers {
        let id = format!("r{i}");
        bench.join(&id, 2);
        let consume = Consume {
            id: id.clone(),
            transport: id,
            producer: "camera".into(),
            rtp_parameters: parameters(101, "0", 5_000 + i),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        bench.worker.apply_consume(&consume, 100, bench.now).expect("a consumer");
    }
    bench.turn(&mut SoftwareSealer);

    let master = MasterKey::new(Suite::AeadAes128Gcm, &[1; 16], &[1; 12]).expect("key");
    let seal = SealKey::new(&master);
    let (mut seq, mut sent, mut spent) = (1u32, 0u64, std::time::Duration::ZERO);
    for frame in 0..frames {
        bench.now += 33 * MS;
        for packet in 0..10u32 {
            let mut bytes = [0u8; 1_200];
            let len = 12 + 1_080;
            bytes[0] = 0x80;
            bytes[1] = 96 | u8::from(packet == 9) << 7;
            bytes[2..4].copy_from_slice(&(seq as u16).to_be_bytes());
            bytes[4..8].copy_from_slice(&(frame * 3_000).to_be_bytes());
            bytes[8..12].copy_from_slice(&1_111u32.to_be_bytes());
            // VP8: extended, 15-bit picture id; a key frame's first byte now and then.
            let start = u8::from(packet == 0);
            bytes[12] = 0x80 | start << 4;
            bytes[13] = 0x80;
            bytes[14..16].copy_from_slice(&(0x8000 | frame as u16 & 0x7fff).to_be_bytes());
            bytes[16] = u8::from(frame % 90 != 0);
            bytes[19..22].copy_from_slice(&[0x9d, 0x01, 0x2a]);
            let total = seal.seal_rtp(&mut bytes, 12, len - 12, u64::from(seq));
            bench.worker.receive(Source::Path(publisher), &bytes[..total], bench.now);
            seq += 1;
        }
        let began = Instant::now();
        sent += if null { bench.turn(&mut NullSealer) } else { bench.turn(&mut SoftwareSealer) };
        spent += began.elapsed();
    }
    let discarded: Vec<_> = bench.worker.discards.iter().filter(|(_, count)| *count > 0).collect();
    println!(
        "{receivers} receivers, {frames} frames of 10: {sent} datagrams, {:.0} ns each; dropped {discarded:?}",
        spent.as_nanos() as f64 / sent as f64
    );
}
