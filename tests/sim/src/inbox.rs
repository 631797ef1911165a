//! What one receiver got of one stream: every packet, opened and recognised, by its SRTP index; what
//! is missing; what its sender reports said. Asks like a browser, judges nothing: tests do.

use std::collections::{BTreeMap, BTreeSet};

use ironcast_core::{
    MS, Nanos, recover::statistics::ReceiverStatistics, srtp::StreamIndex, wire::Codec,
};

use crate::{
    media::{Body, Descriptor},
    parameters,
};

/// Time between two requests for one packet.
const RETRY: Nanos = 60 * MS;
/// Requests for one packet.
const TRIES_MAX: u8 = 12;
/// A packet is not asked for after this.
const AGE_MAX: Nanos = 900 * MS;

/// A packet as the receiver got it.
#[derive(Debug, Clone, PartialEq)]
pub struct Got {
    /// When.
    pub at: Nanos,
    /// It came as a retransmission on the RTX stream.
    pub rtx: bool,
    /// RTP clock.
    pub timestamp: u32,
    /// M.
    pub marker: bool,
    /// MID extension.
    pub mid: Option<String>,
    /// RFC 6464 byte.
    pub audio_level: Option<u8>,
    /// CVO byte.
    pub orientation: Option<u8>,
    /// NTP time of abs-capture-time.
    pub captured_ntp: Option<u64>,
    /// Playout delay.
    pub playout_delay: Option<Vec<u8>>,
    /// Dependency descriptor.
    pub dependency: Option<Vec<u8>>,
    /// abs-send-time was there.
    pub send_time: Option<Nanos>,
    /// Which packet it is.
    pub body: Body,
    /// What its descriptor says after rewriting.
    pub descriptor: Descriptor,
    /// Bytes of RTP padding.
    pub padding: u8,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    since: Nanos,
    next_at: Nanos,
    tries: u8,
}

/// How a receiver takes a stream.
#[derive(Debug, Clone)]
pub struct Setup {
    /// SSRC.
    pub ssrc: u32,
    /// Codec.
    pub codec: Codec,
    /// Payload type.
    pub payload_type: u8,
    /// SSRC and payload type of RTX.
    pub rtx: Option<(u32, u8)>,
    /// Payload type of RED.
    pub red: Option<u8>,
    /// Asks for what is missing.
    pub nack: bool,
}

/// See the file's head.
#[derive(Debug)]
pub struct Inbox {
    /// How.
    pub setup: Setup,
    /// All that came, by index.
    pub got: BTreeMap<u64, Got>,
    /// Indices in the order of their first arrival.
    pub order: Vec<u64>,
    /// Frames that came in the redundancy of later ones, and their RTP times.
    pub redundant: BTreeMap<u32, u32>,
    /// What came again for an index that was there.
    pub repeats: u64,
    /// RTX packets.
    pub retransmissions: u64,
    /// RFC 3550 figures.
    pub statistics: ReceiverStatistics,
    /// Sender reports: arrival, NTP, RTP.
    pub sender_reports: Vec<(Nanos, u64, u32)>,
    /// Indices of received packets.
    pub index: StreamIndex,
    /// The same for RTX.
    pub rtx_index: StreamIndex,
    missing: BTreeMap<u64, Missing>,
}

impl Inbox {
    /// An empty one.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        Self {
            setup,
            got: BTreeMap::new(),
            order: Vec::new(),
            redundant: BTreeMap::new(),
            repeats: 0,
            retransmissions: 0,
            statistics: ReceiverStatistics::default(),
            sender_reports: Vec::new(),
            index: StreamIndex::default(),
            rtx_index: StreamIndex::default(),
            missing: BTreeMap::new(),
        }
    }

    /// RTP clock.
    #[must_use]
    pub fn clock_rate(&self) -> u32 {
        parameters::clock_rate(self.setup.codec)
    }

    /// A packet with that index.
    ///
    /// # Errors
    /// It is another one than before under the same index.
    pub fn put(&mut self, index: u64, got: Got) -> Result<(), String> {
        if let Some(before) = self.got.get(&index) {
            self.repeats += 1;
            if before.body != got.body {
                return Err(format!("index {index} is {:?} and {:?}", before.body, got.body));
            }
            return Ok(());
        }
        self.missing.remove(&index);
        if let Some((&newest, _)) = self.got.last_key_value()
            && self.setup.nack
        {
            for gap in newest + 1..index {
                let missing = Missing { since: got.at, next_at: got.at, tries: 0 };
                self.missing.entry(gap).or_insert(missing);
            }
        }
        self.order.push(index);
        self.got.insert(index, got);
        Ok(())
    }

    /// Numbers to ask for now.
    pub fn due(&mut self, now: Nanos) -> Vec<u16> {
        self.missing.retain(|_, m| m.tries < TRIES_MAX && now < m.since + AGE_MAX);
        let mut due = Vec::new();
        for (index, missing) in &mut self.missing {
            if missing.next_at <= now {
                missing.next_at = now + RETRY;
                missing.tries += 1;
                due.push(*index as u16);
            }
        }
        due
    }

    /// When [`Self::due`] has something.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        self.missing.values().map(|m| m.next_at).min()
    }

    /// The packets' indices that are not here between the first and the last.
    #[must_use]
    pub fn holes(&self) -> Vec<u64> {
        let Some((&first, _)) = self.got.first_key_value() else { return Vec::new() };
        let (&last, _) = self.got.last_key_value().expect("not empty");
        (first..=last).filter(|index| !self.got.contains_key(index)).collect()
    }

    /// Share of the frames between the first and the last that came in no way: of sound.
    #[must_use]
    pub fn share_unheard(&self) -> f64 {
        let own = self.got.values().map(|got| got.body.frame);
        let heard: BTreeSet<u32> = own.chain(self.redundant.keys().copied()).collect();
        let (Some(first), Some(last)) = (heard.first(), heard.last()) else { return 1.0 };
        1.0 - heard.len() as f64 / f64::from(last - first + 1)
    }

    /// Complete frames in the order of their indices: first index, body of the first packet,
    /// descriptor, timestamp, and when the last of their packets came.
    #[must_use]
    pub fn frames(&self) -> Vec<Frame> {
        let mut frames: Vec<Frame> = Vec::new();
        for (&index, got) in &self.got {
            let packet = got.body.packet;
            if packet == 0 {
                frames.push(Frame {
                    index,
                    body: got.body,
                    descriptor: got.descriptor,
                    timestamp: got.timestamp,
                    at: got.at,
                    packets: 1,
                    marker: got.marker,
                });
            } else if let Some(last) = frames.last_mut()
                && (last.body.source, last.body.frame) == (got.body.source, got.body.frame)
                && last.packets == packet
                && last.index + u64::from(packet) == index
            {
                last.packets += 1;
                last.at = last.at.max(got.at);
                last.marker = got.marker;
            }
        }
        frames.retain(|frame| frame.packets == frame.body.packets);
        frames
    }

    /// When the first complete key frame was there.
    #[must_use]
    pub fn first_picture_at(&self) -> Option<Nanos> {
        let frames = self.frames();
        frames.iter().filter(|f| f.descriptor.key_frame).map(|f| f.at).min()
    }
}

/// A complete frame.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Of its first packet.
    pub index: u64,
    /// Of its first packet.
    pub body: Body,
    /// Of its first packet.
    pub descriptor: Descriptor,
    /// RTP clock.
    pub timestamp: u32,
    /// When its last packet came.
    pub at: Nanos,
    /// How many packets.
    pub packets: u16,
    /// Of its last packet.
    pub marker: bool,
}
