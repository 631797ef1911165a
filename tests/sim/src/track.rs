//! What a publisher sends on one track: frames by a capture clock, in one stream or several, cut into
//! packets whose payloads can be recognised; and what it still knows of them when a NACK comes.
//! Plain packets only: the peer writes headers, numbers and seals.

use std::collections::BTreeMap;

use ironcast_core::{
    MS, Nanos, SECOND,
    wire::{Codec, extension::ExtensionKind},
};

use crate::{
    media::{self, Body, Descriptor},
    parameters,
};

/// Three layers in which only every other frame of layer 1 refers to the base layer alone: the
/// others refer to the frame of layer 1 before them.
const LONG_PATTERN: [(u8, bool); 8] =
    [(0, false), (2, true), (1, true), (2, false), (0, false), (2, true), (1, false), (2, false)];
/// Packets that can be asked for again.
const KEPT: usize = 2_000;

/// A packet before its header is written.
#[derive(Debug, Clone)]
pub struct Plain {
    /// Stream.
    pub ssrc: u32,
    /// 7 bits.
    pub payload_type: u8,
    /// Rollover counter and sequence number.
    pub index: u64,
    /// RTP clock.
    pub timestamp: u32,
    /// End of frame.
    pub marker: bool,
    /// MID.
    pub mid: Option<String>,
    /// RID, or repaired RID for retransmissions.
    pub rid: Option<String>,
    /// These are retransmissions.
    pub repaired: bool,
    /// RFC 6464 byte.
    pub audio_level: Option<u8>,
    /// CVO byte.
    pub orientation: Option<u8>,
    /// NTP time of the capture.
    pub captured_ntp: Option<u64>,
    /// Playout delay.
    pub playout_delay: Option<[u8; 3]>,
    /// Dependency descriptor.
    pub dependency: Option<Vec<u8>>,
    /// No header extension is written.
    pub bare: bool,
    /// Bytes of RTP padding.
    pub padding: u8,
    /// Payload.
    pub payload: Vec<u8>,
}

/// One stream of a track.
#[derive(Debug)]
pub struct Source {
    /// Media.
    pub ssrc: u32,
    /// Retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// RID.
    pub rid: Option<String>,
    /// False: nothing is sent, as when an encoder drops a layer.
    pub enabled: bool,
    /// Of each frame; key frames have twice as many.
    pub packets_per_frame: u16,
    /// Of each packet.
    pub payload_len: usize,
    /// Bytes of RTP padding of each.
    pub padding: u8,
    /// Next packet's index.
    pub index: u64,
    /// Next retransmission's index.
    pub rtx_index: u64,
    /// Added to the capture clock.
    pub timestamp_offset: u32,
    /// Next frame.
    pub frame: u32,
    /// Next picture.
    pub picture_id: u16,
    /// Newest base layer frame.
    pub tl0: u8,
    /// The next frame is a key frame.
    pub key_wanted: bool,
    /// When key frames were asked for, and how (true: PLI, false: FIR).
    pub asked: Vec<(Nanos, bool)>,
    /// What was sent, by sequence number: plain and sealed.
    pub sent: BTreeMap<u64, (Plain, Vec<u8>)>,
    /// When each frame's capture was, by frame number.
    pub captures: Vec<Nanos>,
    /// For sender reports.
    pub packets: u32,
    /// For sender reports.
    pub octets: u32,
    /// The newest payloads and their RTP times, for RED.
    spoken: Vec<(u32, Vec<u8>)>,
    pattern: usize,
}

impl Source {
    /// A stream that begins at a sequence number.
    #[must_use]
    pub fn new(ssrc: u32, rid: Option<&str>, index: u64) -> Self {
        Self {
            ssrc,
            rtx_ssrc: None,
            rid: rid.map(str::to_owned),
            enabled: true,
            packets_per_frame: 3,
            payload_len: 1_000,
            padding: 0,
            index,
            rtx_index: 100,
            timestamp_offset: ssrc.wrapping_mul(0x9e37_79b9),
            frame: 0,
            picture_id: (ssrc & 0x7fff) as u16,
            tl0: ssrc as u8,
            key_wanted: true,
            asked: Vec::new(),
            sent: BTreeMap::new(),
            captures: Vec::new(),
            packets: 0,
            octets: 0,
            spoken: Vec::new(),
            pattern: 0,
        }
    }

    /// RTP timestamp of a moment of world time.
    #[must_use]
    pub fn timestamp(&self, at: Nanos, clock_rate: u32) -> u32 {
        let units = u128::from(at) * u128::from(clock_rate) / u128::from(SECOND);
        (units as u32).wrapping_add(self.timestamp_offset)
    }

    /// Bits per second.
    #[must_use]
    pub fn rate_bps(&self, interval: Nanos) -> u64 {
        let bytes = u64::from(self.packets_per_frame) * (self.payload_len as u64 + 40);
        bytes * 8 * SECOND / interval
    }

    /// Temporal layer and whether it refers to the base layer only.
    fn next_layer(&mut self, layers: u8, key_frame: bool) -> (u8, bool) {
        if key_frame {
            self.pattern = 0;
        }
        let at = self.pattern;
        self.pattern += 1;
        match layers {
            0 | 1 => (0, false),
            2 => [(0, false), (1, true)][at % 2],
            3 => [(0, false), (2, true), (1, true), (2, false)][at % 4],
            5 => [(0, false), (2, false), (1, false), (2, false)][at % 4],
            6 => [(0, true), (2, false), (1, false), (2, false)][at % 4],
            _ => LONG_PATTERN[at % LONG_PATTERN.len()],
        }
    }
}

/// One track.
#[derive(Debug)]
pub struct Track {
    /// The producer's id.
    pub id: String,
    /// Codec.
    pub codec: Codec,
    /// MID, written on each packet.
    pub mid: Option<String>,
    /// RIDs are written on each packet; else the parameters name SSRCs.
    pub labels: bool,
    /// Payload type of media.
    pub payload_type: u8,
    /// Payload type of retransmissions.
    pub rtx_payload_type: Option<u8>,
    /// It is sent as RED of that payload type, with so many earlier payloads.
    pub red: Option<(u8, usize)>,
    /// The server may ask for what is missing.
    pub nack: bool,
    /// Between two frames.
    pub interval: Nanos,
    /// Next frame's capture.
    pub next_at: Nanos,
    /// Temporal layers, 1 to 3; 4: three, with a longer pattern; 5: three, of which the upper ones
    /// can be entered at key frames only; 6: three, and the base layer's frames open them.
    pub temporal_layers: u8,
    /// The parameters say that it may be silent.
    pub dtx: bool,
    /// Nothing is captured.
    pub muted: bool,
    /// Its loudness in dB below the loudest (RFC 6464); one of each frame's own without.
    pub level: Option<u8>,
    /// CVO byte, when the publisher sends one.
    pub orientation: Option<u8>,
    /// Playout delay, when the publisher sends one.
    pub playout_delay: Option<[u8; 3]>,
    /// It sends dependency descriptors: of three temporal layers.
    pub describes_dependencies: bool,
    /// Ids of its header extensions.
    pub extensions: Vec<(u8, ExtensionKind)>,
    /// Streams, lowest layer first.
    pub sources: Vec<Source>,
}

impl Track {
    /// A track without streams.
    #[must_use]
    pub fn new(id: &str, codec: Codec, mid: Option<&str>, now: Nanos) -> Self {
        let audio = codec == Codec::Opus;
        Self {
            id: id.into(),
            codec,
            mid: mid.map(str::to_owned),
            labels: false,
            payload_type: if audio { 111 } else { 96 },
            rtx_payload_type: (!audio).then_some(97),
            red: None,
            nack: true,
            interval: if audio { 20 * MS } else { SECOND / 30 },
            next_at: now,
            temporal_layers: 1,
            dtx: false,
            muted: false,
            level: None,
            orientation: None,
            playout_delay: None,
            describes_dependencies: false,
            extensions: parameters::PUBLISHER_EXTENSIONS.to_vec(),
            sources: Vec::new(),
        }
    }

    /// RTP clock.
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        parameters::clock_rate(self.codec)
    }

    /// The packets of all frames that are due. `ntp`: the publisher's wall clock at capture.
    pub fn capture(&mut self, now: Nanos, ntp: impl Fn(Nanos) -> u64) -> Vec<Plain> {
        let mut out = Vec::new();
        while self.next_at <= now {
            let at = self.next_at;
            self.next_at += self.interval;
            if self.muted {
                continue;
            }
            for stream in 0..self.sources.len() {
                if self.sources[stream].enabled {
                    self.frame(stream, at, ntp(at), &mut out);
                }
            }
        }
        out
    }

    fn frame(&mut self, stream: usize, at: Nanos, ntp: u64, out: &mut Vec<Plain>) {
        let (codec, rate, layers) = (self.codec, self.clock_rate(), self.temporal_layers);
        let audio = codec == Codec::Opus;
        let source = &mut self.sources[stream];
        let key_frame = std::mem::take(&mut source.key_wanted) && !audio;
        let (temporal, layer_sync) = source.next_layer(layers, key_frame);
        source.tl0 = source.tl0.wrapping_add(u8::from(temporal == 0));
        let descriptor = Descriptor {
            key_frame,
            picture_id: source.picture_id,
            tl0: source.tl0,
            temporal,
            layer_sync,
        };
        let packets = if audio { 1 } else { source.packets_per_frame * (1 + u16::from(key_frame)) };
        for packet in 0..packets {
            let frame = source.frame;
            let body = Body { source: source.ssrc, frame, packet, packets, captured: at };
            let mut payload = media::write(codec, descriptor, body, source.payload_len);
            if let Some((_, levels)) = self.red {
                let timestamp = source.timestamp(at, rate);
                let newest = payload.clone();
                payload = media::red(self.payload_type, timestamp, &source.spoken, &newest);
                source.spoken.push((timestamp, newest));
                let surplus = source.spoken.len().saturating_sub(levels);
                source.spoken.drain(..surplus);
            }
            source.packets = source.packets.wrapping_add(1);
            source.octets = source.octets.wrapping_add(payload.len() as u32);
            out.push(Plain {
                ssrc: source.ssrc,
                payload_type: self.red.map_or(self.payload_type, |(red, _)| red),
                index: source.index,
                timestamp: source.timestamp(at, rate),
                marker: packet + 1 == packets && !audio,
                mid: self.mid.clone(),
                rid: source.rid.clone().filter(|_| self.labels),
                repaired: false,
                audio_level: audio.then(|| self.level.unwrap_or((frame % 127) as u8) | 0x80),
                orientation: self.orientation,
                captured_ntp: (packet + 1 == packets).then_some(ntp),
                playout_delay: self.playout_delay,
                dependency: self.describes_dependencies.then(|| {
                    media::dependency(
                        descriptor,
                        (packet == 0, packet + 1 == packets),
                        frame as u16,
                    )
                }),
                bare: false,
                padding: source.padding,
                payload,
            });
            source.index += 1;
        }
        source.captures.push(at);
        source.frame += 1;
        source.picture_id = (source.picture_id + 1) & 0x7fff;
    }

    /// Remembers what left.
    pub fn note_sent(&mut self, plain: &Plain, sealed: &[u8]) {
        if let Some(source) = self.sources.iter_mut().find(|s| s.ssrc == plain.ssrc) {
            source.sent.insert(plain.index, (plain.clone(), sealed.to_vec()));
            while source.sent.len() > KEPT {
                source.sent.pop_first();
            }
        }
    }

    /// The retransmission of a packet: to be sealed anew (RTX), or the very bytes.
    pub fn repeat(&mut self, ssrc: u32, seq: u16) -> Option<Result<Plain, Vec<u8>>> {
        let source = self.sources.iter_mut().find(|s| s.ssrc == ssrc)?;
        let (_, (plain, sealed)) =
            source.sent.iter().rev().find(|(index, _)| **index as u16 == seq)?;
        let Some((rtx_ssrc, payload_type)) = source.rtx_ssrc.zip(self.rtx_payload_type) else {
            return Some(Err(sealed.clone()));
        };
        let mut payload = seq.to_be_bytes().to_vec();
        payload.extend(&plain.payload);
        let index = source.rtx_index;
        source.rtx_index += 1;
        let repeat =
            Plain { ssrc: rtx_ssrc, payload_type, index, repaired: true, payload, ..plain.clone() };
        Some(Ok(repeat))
    }
}
