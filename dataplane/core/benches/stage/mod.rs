//! The stage of the forward path's measurements: one publisher, N receivers, no sockets. Owns the
//! worker and makes the publisher's packets; the bench `forward` and the example of the same name
//! take time around what they name. `receive_frame` and `turn_out` are never inlined: callgrind
//! finds them by their names (`bench/instructions`).

use ironcast_core::{
    Arrival, MS, Nanos,
    batch::{Batch, PathId, SLAB_BYTES, Slab},
    link::webrtc::ice::Credentials,
    numbers::PacketIndex,
    srtp::{KeySource, MasterKey, SealJob, SealKey, Sealer, Suite},
    wire::stun,
    worker::{Action, Ingress, Limits, Worker},
};
use ironcast_protocol::{
    command::{Consume, CreateRouter, CreateWebRtcTransport, DtlsRole, Produce},
    media::{
        MediaKind, RtcpFeedback, RtpCodec, RtpEncoding, RtpHeaderExtension, RtpParameters, RtpType,
    },
};

/// What RED has where receivers take it.
const RED: u8 = 63;
/// Bytes of a packet's payload, of video and of audio.
const PAYLOAD_BYTES: [usize; 2] = [1_080, 120];
const PUBLISHED_SSRC: u32 = 1_111;

/// Leaves packets as they are: what remains is choose, renumber, write.
pub struct NullSealer;

impl Sealer for NullSealer {
    const JOBS_WANTED: usize = 1;

    fn seal<K: KeySource + ?Sized>(&mut self, _: &K, _: &[SealJob], _: &mut [Slab]) -> usize {
        0
    }
}

/// What the publisher sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Media {
    /// VP8 in frames of ten packets, 30 frames a second.
    Video,
    /// Opus, a packet every 20 ms.
    Audio,
    /// The same, for receivers that take RED: each packet goes out with the one before it.
    Red,
}

impl Media {
    /// Packets of one frame.
    pub fn packets(self) -> u32 {
        if self == Self::Video { 10 } else { 1 }
    }

    /// What its publisher sends: RED is the receivers'.
    fn published(self) -> Self {
        if self == Self::Red { Self::Audio } else { self }
    }

    fn interval(self) -> Nanos {
        if self == Self::Video { 33 * MS } else { 20 * MS }
    }
}

/// See the file's head.
pub struct Stage {
    /// For its counters.
    pub worker: Worker,
    batch: Batch,
    now: Nanos,
    media: Media,
    paths: u32,
    publisher: PathId,
    seal: SealKey,
    frame: Vec<Vec<u8>>,
    seq: u32,
    frames: u32,
}

impl Stage {
    /// Everybody is connected and consumes the publisher's only track.
    pub fn new(media: Media, receivers: u32) -> Self {
        let free =
            (0..256).map(|_| Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() }).collect();
        let mut stage = Self {
            worker: Worker::new(0, Limits::default()),
            batch: Batch::new(free),
            now: 1_000 * MS,
            media,
            paths: 0,
            publisher: PathId { slot: 0, generation: 0 },
            seal: SealKey::new(&master(1)),
            frame: Vec::new(),
            seq: 1,
            frames: 0,
        };
        let router = CreateRouter {
            id: "room".into(),
            worker: 0,
            selection: Default::default(),
            note: Vec::new(),
        };
        stage.worker.apply_create_router(&router).expect("a router");
        stage.publisher = stage.join("publisher", 1);
        let produce = Produce {
            id: "track".into(),
            transport: "publisher".into(),
            kind: if media == Media::Video { MediaKind::Video } else { MediaKind::Audio },
            rtp_parameters: parameters(media.published(), 96, PUBLISHED_SSRC),
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        };
        stage.worker.apply_produce(&produce).expect("a producer");
        (0..receivers).for_each(|number| stage.consume(number));
        stage.turn_out(&mut NullSealer);
        stage
    }

    fn consume(&mut self, number: u32) {
        let id = format!("r{number}");
        self.join(&id, 2);
        let consume = Consume {
            id: id.clone(),
            transport: id,
            producer: "track".into(),
            rtp_parameters: parameters(self.media, 101, 5_000 + number),
            rtp_type: RtpType::Simple,
            paused: false,
            preferred_layers: None,
            ignore_dtx: false,
            note: Vec::new(),
        };
        self.worker.apply_consume(&consume, 100, self.now).expect("a consumer");
    }

    fn join(&mut self, id: &str, key: u8) -> PathId {
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
            dtls: None,
        };
        let len = stun::write_request(&mut check, &request, credentials.password.as_bytes())
            .expect("room");
        let local = ([10, 0, 0, 1], 40_000).into();
        let remote = ([10, 0, 0, 2], 10_000 + self.paths as u16).into();
        self.paths += 1;
        let path = PathId { slot: self.paths, generation: 0 };
        self.worker.receive(
            Ingress::Listener { local, remote },
            &check[..len],
            Arrival::at(self.now),
        );
        let actions = std::mem::take(self.worker.actions());
        assert!(matches!(actions[..], [Action::OpenPath { .. }]), "{actions:?}");
        self.worker.path_opened(token, local, remote, Some(path), self.now);
        let begun = std::mem::take(self.worker.actions());
        assert_eq!(begun, [Action::StartDtls { transport: token }]);
        self.worker.dtls_connected(token, &master(key), &master(key), self.now);
        // A turn opens so many sockets and no more.
        self.turn_out(&mut NullSealer);
        path
    }

    /// Makes the publisher's next packets, sealed; the time goes on.
    pub fn next_frame(&mut self) {
        self.now += self.media.interval();
        self.frame.clear();
        let last = self.media.packets() - 1;
        for packet in 0..=last {
            let (mut bytes, header_len) = match self.media {
                Media::Video => video_packet(self.frames, packet == 0, packet == last),
                Media::Audio | Media::Red => audio_packet(self.frames),
            };
            bytes[2..4].copy_from_slice(&(self.seq as u16).to_be_bytes());
            bytes[8..12].copy_from_slice(&PUBLISHED_SSRC.to_be_bytes());
            let payload_len = bytes.len() - header_len;
            bytes.resize(bytes.len() + 16, 0);
            let index = PacketIndex(self.seq.into());
            let sealed = self.seal.seal_rtp(&mut bytes, header_len, payload_len, index);
            assert_eq!(sealed, bytes.len());
            self.frame.push(bytes);
            self.seq += 1;
        }
        self.frames += 1;
    }

    /// [2] to [4] of the path: finds, decrypts and keeps the packets of [`Self::next_frame`].
    #[inline(never)]
    pub fn receive_frame(&mut self) {
        for bytes in &self.frame {
            self.worker.receive(Ingress::Path(self.publisher), bytes, Arrival::at(self.now));
        }
    }

    /// [5] to [7] of the path, with the timers. Returns the number of datagrams.
    #[inline(never)]
    pub fn turn_out(&mut self, sealer: &mut impl Sealer) -> u64 {
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
}

fn master(key: u8) -> MasterKey {
    MasterKey::new(Suite::AeadAes128Gcm, &[key; 16], &[key; 12]).expect("the suite's lengths")
}

/// VP8: extended, 15-bit picture id; a key frame's first byte now and then.
fn video_packet(frame: u32, first: bool, last: bool) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; 12 + PAYLOAD_BYTES[0]];
    bytes[0] = 0x80;
    bytes[1] = 96 | u8::from(last) << 7;
    bytes[4..8].copy_from_slice(&(frame * 3_000).to_be_bytes());
    bytes[12] = 0x80 | u8::from(first) << 4;
    bytes[13] = 0x80;
    bytes[14..16].copy_from_slice(&(0x8000 | frame as u16 & 0x7fff).to_be_bytes());
    bytes[16] = u8::from(!frame.is_multiple_of(90));
    bytes[19..22].copy_from_slice(&[0x9d, 0x01, 0x2a]);
    (bytes, 12)
}

/// Opus with a level in the header.
fn audio_packet(frame: u32) -> (Vec<u8>, usize) {
    let mut bytes = vec![0; 20 + PAYLOAD_BYTES[1]];
    bytes[0] = 0x90;
    bytes[1] = 96;
    bytes[4..8].copy_from_slice(&(frame * 960).to_be_bytes());
    bytes[12..20].copy_from_slice(&[0xbe, 0xde, 0, 1, 10 << 4, 0x80 | 30, 0, 0]);
    (bytes, 20)
}

fn codec(media: Media, payload_type: u8) -> RtpCodec {
    if media != Media::Video {
        return RtpCodec {
            mime_type: "audio/opus".into(),
            payload_type,
            clock_rate: 48_000,
            channels: Some(2),
            ..RtpCodec::default()
        };
    }
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

fn parameters(media: Media, payload_type: u8, ssrc: u32) -> RtpParameters {
    let extension = |uri: &str, id| RtpHeaderExtension { uri: uri.into(), id };
    let red = (media == Media::Red).then(|| RtpCodec {
        mime_type: "audio/red".into(),
        payload_type: RED,
        clock_rate: 48_000,
        channels: Some(2),
        ..RtpCodec::default()
    });
    RtpParameters {
        mid: Some("0".into()),
        codecs: [codec(media, payload_type)].into_iter().chain(red).collect(),
        header_extensions: vec![
            extension("urn:ietf:params:rtp-hdrext:sdes:mid", 1),
            extension("http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time", 4),
            extension("urn:ietf:params:rtp-hdrext:ssrc-audio-level", 10),
        ],
        encodings: vec![RtpEncoding { ssrc: Some(ssrc), ..RtpEncoding::default() }],
        ..RtpParameters::default()
    }
}
