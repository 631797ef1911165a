//! What a camera and a microphone send. A [`Source`] makes the packets of one track: frames as
//! bursts whose packets differ by at most one byte, sizes that vary around the bitrate, key frames
//! on request or by time, simulcast layers by RID; or a packet of sound every 20 ms. It answers
//! NACK, PLI and FIR, and makes sender reports. Called by [`crate::session`]; never sends by
//! itself and reads no clock but through its arguments.

mod codec;
mod stream;

use std::time::Duration;

use rtp::header::{Extension, Header};

pub use codec::{VideoCodec, Vp8Descriptor};
use stream::SendStream;
pub(crate) use stream::description;
pub use stream::{Outgoing, Repeat, StreamReport};

use crate::{
    payload::STAMPED_BYTES_MIN,
    peer::RtcpPacket,
    random::{Random, entropy},
};

const AUDIO_INTERVAL: Duration = Duration::from_millis(20);
const AUDIO_CLOCK_HZ: u32 = 48_000;
const VIDEO_CLOCK_HZ: u32 = 90_000;
/// A key frame is so many times as large as another.
const KEY_FRAME_FACTOR: f64 = 4.0;
const EXTENSION_PROFILE_ONE_BYTE: u16 = 0xBEDE;

/// Ids of the header extensions in use (RFC 8285), as negotiated.
#[derive(Debug, Clone, Copy, Default)]
pub struct ExtensionIds {
    /// `urn:ietf:params:rtp-hdrext:sdes:mid`.
    pub mid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id`.
    pub rid: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id`.
    pub repaired_rid: Option<u8>,
    /// `http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time`.
    pub abs_send_time: Option<u8>,
    /// `http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01`.
    pub transport_cc: Option<u8>,
    /// `urn:ietf:params:rtp-hdrext:ssrc-audio-level`.
    pub audio_level: Option<u8>,
}

/// One simulcast layer, or the only stream.
#[derive(Debug, Clone)]
pub struct LayerOptions {
    /// RTP stream id; none for a single stream.
    pub rid: Option<String>,
    /// Of the stream.
    pub ssrc: u32,
    /// Of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Mean, payload only.
    pub bitrate_bps: u64,
    /// Picture size in key frames.
    pub size: (u16, u16),
    /// First sequence number; random without.
    pub first_sequence: Option<u16>,
    /// First timestamp; random without.
    pub first_timestamp: Option<u32>,
}

impl LayerOptions {
    /// A layer with a random SSRC (and one for retransmissions).
    #[must_use]
    pub fn new(rid: Option<&str>, bitrate_bps: u64, size: (u16, u16), random: &mut Random) -> Self {
        Self {
            rid: rid.map(str::to_owned),
            ssrc: random.next_u32() | 1,
            rtx_ssrc: Some(random.next_u32() & !1),
            bitrate_bps,
            size,
            first_sequence: None,
            first_timestamp: None,
        }
    }
}

/// A camera.
#[derive(Debug, Clone)]
pub struct VideoOptions {
    /// Number of the first layer in the stamps; the next layers count up.
    pub stream: u32,
    /// How frames are packetized.
    pub codec: VideoCodec,
    /// On the wire.
    pub payload_type: u8,
    /// Without it, repeats are the same datagrams again.
    pub rtx_payload_type: Option<u8>,
    /// Media id.
    pub mid: Option<String>,
    /// Lowest first.
    pub layers: Vec<LayerOptions>,
    /// Frames per second.
    pub frame_rate: f64,
    /// 1 to 3.
    pub temporal_layers: u8,
    /// A key frame at least so often; otherwise only on request.
    pub key_frame_interval: Option<Duration>,
    /// Sizes vary by this share of the mean, 0 to 1.
    pub size_variation: f64,
    /// Largest RTP payload.
    pub payload_bytes_max: usize,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// Canonical name.
    pub cname: String,
    /// Of sizes, SSRCs and numbers.
    pub seed: u64,
}

impl Default for VideoOptions {
    /// VP8 simulcast of three layers, 100/300/900 kb/s.
    fn default() -> Self {
        let seed = entropy();
        let mut random = Random::new(seed);
        let sizes = [(240, 135), (480, 270), (960, 540)];
        let layers = ["q", "h", "f"]
            .into_iter()
            .zip([100_000, 300_000, 900_000])
            .zip(sizes)
            .map(|((rid, bps), size)| LayerOptions::new(Some(rid), bps, size, &mut random))
            .collect();
        Self {
            stream: random.next_u32() & 0x00FF_FF00,
            codec: VideoCodec::Vp8,
            payload_type: 96,
            rtx_payload_type: Some(97),
            mid: Some("0".to_owned()),
            layers,
            frame_rate: 30.0,
            temporal_layers: 1,
            key_frame_interval: None,
            size_variation: 0.2,
            payload_bytes_max: 1_100,
            extensions: ExtensionIds::default(),
            cname: random.text(16),
            seed,
        }
    }
}

impl VideoOptions {
    /// One stream without RID.
    #[must_use]
    pub fn single(bitrate_bps: u64) -> Self {
        let mut options = Self::default();
        let mut random = Random::new(options.seed ^ 1);
        options.layers = vec![LayerOptions::new(None, bitrate_bps, (1_280, 720), &mut random)];
        options
    }

    /// All layers keep at most what their streams carry; without RTX.
    #[must_use]
    pub fn without_rtx(mut self) -> Self {
        self.rtx_payload_type = None;
        for layer in &mut self.layers {
            layer.rtx_ssrc = None;
        }
        self
    }
}

/// A microphone.
#[derive(Debug, Clone)]
pub struct AudioOptions {
    /// Number in the stamps.
    pub stream: u32,
    /// On the wire.
    pub payload_type: u8,
    /// Media id.
    pub mid: Option<String>,
    /// Of the stream.
    pub ssrc: u32,
    /// Size of a packet's payload.
    pub payload_bytes: usize,
    /// Loudness in -dBov (RFC 6464): 0 is loudest, 127 silence.
    pub level: u8,
    /// Header extensions.
    pub extensions: ExtensionIds,
    /// Canonical name.
    pub cname: String,
    /// First sequence number; random without.
    pub first_sequence: Option<u16>,
    /// Of numbers.
    pub seed: u64,
}

impl Default for AudioOptions {
    fn default() -> Self {
        let seed = entropy();
        let mut random = Random::new(seed);
        Self {
            stream: random.next_u32() | 0x8000_0000,
            payload_type: 111,
            mid: Some("1".to_owned()),
            ssrc: random.next_u32() | 1,
            payload_bytes: 120,
            level: 30,
            extensions: ExtensionIds::default(),
            cname: random.text(16),
            first_sequence: None,
            seed,
        }
    }
}

enum Kind {
    Video { codec: VideoCodec, temporal_layers: u8, size_variation: f64, payload_bytes_max: usize },
    Audio { payload_bytes: usize, level: u8 },
}

/// One sent track.
pub struct Source {
    kind: Kind,
    interval: Duration,
    clock_hz: u32,
    mid: Option<String>,
    cname: String,
    extensions: ExtensionIds,
    key_frame_interval: Option<Duration>,
    streams: Vec<SendStream>,
    random: Random,
    paused: bool,
    start_ns: u64,
    /// PLI and FIR received.
    pub key_frame_requests: u64,
    /// When they came.
    pub key_frame_request_times_ns: Vec<u64>,
}

impl Source {
    /// A camera that begins at `now_ns`.
    #[must_use]
    pub fn video(options: VideoOptions, now_ns: u64) -> Self {
        let mut random = Random::new(options.seed);
        let streams = options
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                SendStream::new(
                    options.stream + index as u32,
                    layer,
                    options.payload_type,
                    options.rtx_payload_type,
                    &mut random,
                )
            })
            .collect();
        Self {
            kind: Kind::Video {
                codec: options.codec,
                temporal_layers: options.temporal_layers.clamp(1, 3),
                size_variation: options.size_variation,
                payload_bytes_max: options.payload_bytes_max,
            },
            interval: Duration::from_secs_f64(1.0 / options.frame_rate),
            clock_hz: VIDEO_CLOCK_HZ,
            mid: options.mid,
            cname: options.cname,
            extensions: options.extensions,
            key_frame_interval: options.key_frame_interval,
            streams,
            random,
            paused: false,
            start_ns: now_ns,
            key_frame_requests: 0,
            key_frame_request_times_ns: Vec::new(),
        }
    }

    /// A microphone that begins at `now_ns`.
    #[must_use]
    pub fn audio(options: AudioOptions, now_ns: u64) -> Self {
        let mut random = Random::new(options.seed);
        let bitrate_bps = options.payload_bytes as u64 * 8 * 50;
        let mut layer = LayerOptions::new(None, bitrate_bps, (0, 0), &mut random);
        layer.ssrc = options.ssrc;
        layer.rtx_ssrc = None;
        layer.first_sequence = options.first_sequence;
        let stream =
            SendStream::new(options.stream, &layer, options.payload_type, None, &mut random);
        Self {
            kind: Kind::Audio { payload_bytes: options.payload_bytes, level: options.level },
            interval: AUDIO_INTERVAL,
            clock_hz: AUDIO_CLOCK_HZ,
            mid: options.mid,
            cname: options.cname,
            extensions: options.extensions,
            key_frame_interval: None,
            streams: vec![stream],
            random,
            paused: false,
            start_ns: now_ns,
            key_frame_requests: 0,
            key_frame_request_times_ns: Vec::new(),
        }
    }

    /// Between two frames.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval
    }

    /// While paused, nothing is sent and time goes on.
    pub fn set_paused(&mut self, paused: bool) {
        self.paused = paused;
    }

    /// Turns one layer off or on, as a browser short of bandwidth does.
    pub fn set_layer_active(&mut self, layer: usize, active: bool) {
        if let Some(stream) = self.streams.get_mut(layer) {
            stream.active = active;
            stream.key_frame_wanted |= active;
        }
    }

    /// Id of the stamps, SSRC and counts of each layer.
    #[must_use]
    pub fn reports(&self) -> Vec<StreamReport> {
        self.streams.iter().map(SendStream::report).collect()
    }

    /// The packets of the frame captured at `now_ns`, all layers, lowest first.
    pub fn frame(&mut self, now_ns: u64) -> Vec<Outgoing> {
        if self.paused {
            return Vec::new();
        }
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        let media_time =
            (u128::from(elapsed_ns) * u128::from(self.clock_hz) / 1_000_000_000) as u32;
        let mut out = Vec::new();
        for index in 0..self.streams.len() {
            if self.streams[index].active {
                self.layer_frame(index, media_time, now_ns, &mut out);
            }
        }
        out
    }

    fn layer_frame(&mut self, index: usize, media_time: u32, now_ns: u64, out: &mut Vec<Outgoing>) {
        let with_ids = self.extensions_of(index, false);
        let stream = &mut self.streams[index];
        let (frame, payloads) = match &self.kind {
            Kind::Audio { payload_bytes, .. } => {
                let frame = stream.next_frame(false, 0);
                // Opus TOC: CELT, fullband, 20 ms, mono (RFC 6716 section 3.1).
                let mut payload = vec![0xF8];
                stream.stamp(&mut payload, &frame, (0, 1), *payload_bytes - 1);
                (frame, vec![(payload, 1)])
            }
            Kind::Video { codec, temporal_layers, size_variation, payload_bytes_max } => {
                let due = self.key_frame_interval.is_some_and(|interval| {
                    now_ns.saturating_sub(stream.last_key_ns) >= interval.as_nanos() as u64
                });
                let key = due || stream.key_frame_wanted || stream.is_new();
                let temporal = codec::temporal_layer(stream.frames_sent(), *temporal_layers, key);
                let frame = stream.next_frame(key, temporal);
                if key {
                    stream.key_frame_wanted = false;
                    stream.last_key_ns = now_ns;
                }
                let mean = stream.bitrate_bps as f64 / 8.0 * self.interval.as_secs_f64();
                let variation = 1.0 + size_variation * (2.0 * self.random.unit() - 1.0);
                let factor = if key { KEY_FRAME_FACTOR } else { 1.0 };
                let bytes = (mean * variation * factor) as usize;
                let parts = codec.packetize(stream, &frame, bytes, *payload_bytes_max);
                (frame, parts)
            }
        };
        let last = payloads.len() - 1;
        for (part, (payload, stamp_at)) in payloads.into_iter().enumerate() {
            let marker = match self.kind {
                Kind::Video { .. } => part == last,
                // Set at the beginning of a talk spurt only (RFC 3551 section 4.1).
                Kind::Audio { .. } => frame.number == 0,
            };
            let header = stream.next_header(media_time, marker, with_ids.clone());
            out.push(Outgoing { stream: index, header, payload, stamp_at });
        }
    }

    /// The header extensions of a layer's packets; of its repeats if `repeat`.
    fn extensions_of(&self, index: usize, repeat: bool) -> Vec<Extension> {
        let ids = &self.extensions;
        let stream = &self.streams[index];
        let mut extensions = Vec::new();
        let mut add = |id: Option<u8>, value: &[u8]| {
            if let Some(id) = id {
                let payload = bytes::Bytes::copy_from_slice(value);
                extensions.push(Extension { id, payload });
            }
        };
        add(ids.abs_send_time, &[0; 3]);
        add(ids.transport_cc, &[0; 2]);
        if let Kind::Audio { level, .. } = self.kind {
            add(ids.audio_level, &[0x80 | level]);
        }
        // Names are sent until the other side shows that it knows the stream, as browsers do.
        if repeat || !stream.is_acknowledged() {
            if let Some(mid) = &self.mid {
                add(ids.mid, mid.as_bytes());
            }
            if let Some(rid) = &stream.rid {
                let id = if repeat { ids.repaired_rid } else { ids.rid };
                add(id, rid.as_bytes());
            }
        }
        extensions
    }

    /// Fills in what is known at the moment of sending.
    pub fn stamp_times(&self, header: &mut Header, ntp: u64, transport_sequence: u16) {
        for extension in &mut header.extensions {
            if Some(extension.id) == self.extensions.abs_send_time {
                let value = crate::clock::abs_send_time(ntp);
                extension.payload = bytes::Bytes::copy_from_slice(&value);
            } else if Some(extension.id) == self.extensions.transport_cc {
                let value = transport_sequence.to_be_bytes();
                extension.payload = bytes::Bytes::copy_from_slice(&value);
            }
        }
    }

    /// True if packets carry transport-wide numbers.
    #[must_use]
    pub fn numbers_transport_wide(&self) -> bool {
        self.extensions.transport_cc.is_some()
    }

    /// Keeps a sent packet for repeats; `sealed` for repeats without RTX.
    pub fn sent(&mut self, stream: usize, packet: rtp::packet::Packet, sealed: bytes::Bytes) {
        self.streams[stream].sent(packet, sealed);
    }

    /// Feedback about this track; gives what has to be sent again.
    pub fn receive_rtcp(&mut self, packet: &RtcpPacket, now_ns: u64, ntp: u64) -> Vec<Repeat> {
        use rtcp::{
            payload_feedbacks::{
                full_intra_request::FullIntraRequest,
                picture_loss_indication::PictureLossIndication,
            },
            receiver_report::ReceiverReport,
            transport_feedbacks::transport_layer_nack::TransportLayerNack,
        };
        let any = packet.as_any();
        if let Some(nack) = any.downcast_ref::<TransportLayerNack>() {
            return self.receive_nack(nack);
        }
        if let Some(pli) = any.downcast_ref::<PictureLossIndication>() {
            self.want_key_frame(pli.media_ssrc, now_ns);
        } else if let Some(fir) = any.downcast_ref::<FullIntraRequest>() {
            for entry in &fir.fir {
                self.want_key_frame(entry.ssrc, now_ns);
            }
        } else if let Some(report) = any.downcast_ref::<ReceiverReport>() {
            for block in &report.reports {
                for stream in &mut self.streams {
                    stream.receive_report(block, ntp);
                }
            }
        }
        Vec::new()
    }

    fn want_key_frame(&mut self, ssrc: u32, now_ns: u64) {
        for stream in self.streams.iter_mut().filter(|stream| stream.ssrc == ssrc) {
            stream.key_frame_wanted = true;
            stream.key_frame_requests += 1;
            self.key_frame_requests += 1;
            if self.key_frame_request_times_ns.len() < 4_096 {
                self.key_frame_request_times_ns.push(now_ns);
            }
        }
    }

    fn receive_nack(
        &mut self,
        nack: &rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack,
    ) -> Vec<Repeat> {
        let Some(index) = self.streams.iter().position(|stream| stream.ssrc == nack.media_ssrc)
        else {
            return Vec::new();
        };
        let extensions = self.extensions_of(index, true);
        let stream = &mut self.streams[index];
        nack.nacks
            .iter()
            .flat_map(|pair| pair.packet_list())
            .filter_map(|sequence| stream.repeat(sequence, &extensions))
            .collect()
    }

    /// A compound report for each layer that has sent something (RFC 3550 section 6.4.1).
    #[must_use]
    pub fn sender_reports(&self, now_ns: u64, ntp: u64) -> Vec<RtcpPacket> {
        let elapsed_ns = now_ns.saturating_sub(self.start_ns);
        let media_time =
            (u128::from(elapsed_ns) * u128::from(self.clock_hz) / 1_000_000_000) as u32;
        self.streams
            .iter()
            .filter(|stream| !stream.is_new())
            .flat_map(|stream| stream.sender_report(media_time, ntp, &self.cname))
            .collect()
    }
}

fn header(
    payload_type: u8,
    sequence_number: u16,
    timestamp: u32,
    ssrc: u32,
    marker: bool,
    extensions: Vec<Extension>,
) -> Header {
    Header {
        version: 2,
        marker,
        payload_type,
        sequence_number,
        timestamp,
        ssrc,
        extension: !extensions.is_empty(),
        extension_profile: EXTENSION_PROFILE_ONE_BYTE,
        extensions,
        ..Header::default()
    }
}

/// Splits `bytes` into sizes of at most `max` that differ by at most one, shorter ones first, none
/// too small for a stamp behind `overhead` bytes of codec header.
fn even_sizes(bytes: usize, max: usize, overhead: usize) -> Vec<usize> {
    let bytes = bytes.max(overhead + STAMPED_BYTES_MIN);
    let count = bytes.div_ceil(max);
    let longer = bytes % count;
    (0..count).map(|at| bytes / count + usize::from(at >= count - longer)).collect()
}

#[cfg(test)]
mod tests;
