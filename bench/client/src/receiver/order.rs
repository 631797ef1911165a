//! Puts a received stream in order and looks at it as a decoder would: frames, their continuity,
//! changes of layer. Owned by a [`super::ReceiveStream`].
//!
//! ```text
//! arrivals --> waiting (by full number) --> in order: one packet after the other --> frames
//!                   \-- missing for too long: skipped
//! ```

use std::collections::{BTreeMap, VecDeque};

use rtp::packet::Packet;

use super::{ReceiveStats, Switch};
use crate::{
    payload::{self, PayloadError, Stamp},
    source::Vp8Descriptor,
};

/// What is missing for longer is given up.
const WAIT_NS_MAX: u64 = 1_000_000_000;
const WAITING_MAX: usize = 4_096;
const ANOMALIES_MAX: usize = 32;
const SWITCHES_MAX: usize = 1_024;
/// A step of the timestamp that no pause of these tests makes, in clock units of 90 kHz.
const TIMESTAMP_STEP_MAX: u32 = 90_000 * 20;

/// What continues from one packet to the next.
#[derive(Debug, Clone, Copy)]
pub struct Continuity {
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8.
    pub descriptor: Option<Vp8Descriptor>,
    /// Ours.
    pub stamp: Option<Stamp>,
}

#[derive(Debug)]
struct Waiting {
    at_ns: u64,
    marker: bool,
    payload_bytes: usize,
    what: Continuity,
}

#[derive(Debug, Default)]
struct FrameState {
    timestamp: u32,
    broken: bool,
    key: bool,
    done: bool,
}

/// The stream in order.
#[derive(Debug)]
pub(super) struct Order {
    vp8: bool,
    next: Option<u64>,
    waiting: BTreeMap<u64, Waiting>,
    before: Option<Continuity>,
    frame: Option<FrameState>,
    /// A key frame came, and nothing is missing since.
    decodable: bool,
    temporal: VecDeque<u8>,
    last_frame_time: Option<(u32, u64)>,
    stats: ReceiveStats,
}

impl Order {
    pub(super) fn new(vp8: bool) -> Self {
        Self {
            vp8,
            next: None,
            waiting: BTreeMap::new(),
            before: None,
            frame: None,
            decodable: false,
            temporal: VecDeque::with_capacity(8),
            last_frame_time: None,
            stats: ReceiveStats::default(),
        }
    }

    /// Timestamp and time of sending of the newest frame.
    pub(super) fn last_frame_time(&self) -> Option<(u32, u64)> {
        self.last_frame_time
    }

    pub(super) fn add_to(&self, stats: &mut ReceiveStats) {
        let from = self.stats.clone();
        stats.verified = from.verified;
        stats.corrupt = from.corrupt;
        stats.foreign = from.foreign;
        stats.frames = from.frames;
        stats.key_frames = from.key_frames;
        stats.decodable_frames = from.decodable_frames;
        stats.broken_frames = from.broken_frames;
        stats.frame_gap_ns_max = from.frame_gap_ns_max;
        stats.first_frame_ns = from.first_frame_ns;
        stats.last_frame_ns = from.last_frame_ns;
        stats.stream = from.stream;
        stats.size = from.size;
        stats.temporal = self.temporal.iter().copied().max().unwrap_or(0);
        stats.switches = from.switches;
        stats.anomalies = from.anomalies;
        stats.delay_us = from.delay_us;
    }

    /// A packet that was not here before.
    pub(super) fn receive(&mut self, index: u64, packet: &Packet, at_ns: u64) {
        let next = *self.next.get_or_insert(index);
        let stamp = match payload::read(&packet.payload) {
            Ok(stamp) => {
                self.stats.verified += 1;
                let delay_us = at_ns.saturating_sub(stamp.sent_ns) / 1_000;
                self.stats.delay_us.saturating_record(delay_us.max(1));
                Some(stamp)
            }
            // Padding alone, as used for probing.
            Err(_) if packet.payload.is_empty() => None,
            Err(PayloadError::Foreign) => {
                self.stats.foreign += 1;
                None
            }
            Err(PayloadError::Corrupt) => {
                self.stats.corrupt += 1;
                None
            }
        };
        if index < next {
            return;
        }
        let descriptor = if self.vp8 { Vp8Descriptor::read(&packet.payload) } else { None };
        let what = Continuity { timestamp: packet.header.timestamp, descriptor, stamp };
        let marker = packet.header.marker;
        let payload_bytes = packet.payload.len();
        self.waiting.insert(index, Waiting { at_ns, marker, payload_bytes, what });
        self.release();
    }

    /// Gives up what has been missing for too long.
    pub(super) fn expire(&mut self, now_ns: u64) {
        while let Some((&index, waiting)) = self.waiting.first_key_value() {
            let overdue = now_ns.saturating_sub(waiting.at_ns) > WAIT_NS_MAX;
            if !overdue && self.waiting.len() <= WAITING_MAX {
                return;
            }
            self.decodable = false;
            if let Some(frame) = &mut self.frame {
                frame.broken = true;
            }
            self.before = None;
            self.next = Some(index);
            self.release();
        }
    }

    fn release(&mut self) {
        while let Some(next) = self.next
            && let Some(waiting) = self.waiting.remove(&next)
        {
            self.next = Some(next + 1);
            if waiting.payload_bytes > 0 {
                self.take(&waiting);
            }
        }
    }

    /// The next packet in order.
    fn take(&mut self, waiting: &Waiting) {
        let what = waiting.what;
        let new_frame = self.frame.as_ref().is_none_or(|frame| frame.timestamp != what.timestamp);
        if new_frame {
            self.begin_frame(&what);
        }
        if let Some(before) = self.before.replace(what) {
            self.compare(&before, &what, new_frame);
        }
        self.note_stream(&what, waiting.at_ns);
        if waiting.marker || !self.vp8 {
            self.end_frame(waiting.at_ns);
        }
    }

    fn begin_frame(&mut self, what: &Continuity) {
        if self.frame.as_ref().is_some_and(|frame| !frame.done) {
            self.stats.broken_frames += 1;
            self.decodable = false;
        }
        let key = what.stamp.is_some_and(|stamp| stamp.key);
        let begins = what.stamp.is_none_or(|stamp| stamp.part == 0);
        self.frame =
            Some(FrameState { timestamp: what.timestamp, broken: !begins, key, done: false });
        if let Some(stamp) = what.stamp {
            self.last_frame_time = Some((what.timestamp, stamp.sent_ns));
            if self.temporal.len() == 8 {
                self.temporal.pop_front();
            }
            self.temporal.push_back(stamp.temporal);
        }
        if let Some(size) = what.descriptor.and_then(|descriptor| descriptor.size) {
            self.stats.size = Some(size);
        }
    }

    fn end_frame(&mut self, at_ns: u64) {
        let Some(frame) = &mut self.frame else { return };
        frame.done = true;
        if frame.broken {
            self.stats.broken_frames += 1;
            self.decodable = false;
            return;
        }
        let key = frame.key;
        self.stats.frames += 1;
        self.stats.key_frames += u64::from(key);
        self.decodable |= key || !self.vp8;
        if self.decodable {
            self.stats.decodable_frames += 1;
            self.stats.first_frame_ns.get_or_insert(at_ns);
            if let Some(before) = self.stats.last_frame_ns.replace(at_ns) {
                let gap = at_ns.saturating_sub(before);
                self.stats.frame_gap_ns_max = self.stats.frame_gap_ns_max.max(gap);
            }
        }
    }

    /// One packet after another without a gap between them: everything has to continue.
    fn compare(&mut self, before: &Continuity, what: &Continuity, new_frame: bool) {
        let step = what.timestamp.wrapping_sub(before.timestamp);
        if step > TIMESTAMP_STEP_MAX {
            self.anomaly(format!("timestamp {} after {}", what.timestamp, before.timestamp));
        }
        if let (Some(old), Some(new)) = (before.descriptor, what.descriptor) {
            let picture = new.picture_id.wrapping_sub(old.picture_id) & 0x7FFF;
            if picture != u16::from(new_frame) {
                self.anomaly(format!("picture id {} after {}", new.picture_id, old.picture_id));
            }
            let base = new.tl0_picture_index.wrapping_sub(old.tl0_picture_index);
            if base != u8::from(new_frame && new.temporal == 0) {
                self.anomaly(format!(
                    "TL0PICIDX {} (temporal layer {}) after {}",
                    new.tl0_picture_index, new.temporal, old.tl0_picture_index
                ));
            }
        }
        if let (Some(old), Some(new)) = (before.stamp, what.stamp)
            && old.stream == new.stream
            && new.frame < old.frame
        {
            self.anomaly(format!("frame {} after {}", new.frame, old.frame));
        }
    }

    fn note_stream(&mut self, what: &Continuity, at_ns: u64) {
        let Some(stamp) = what.stamp else { return };
        let Some(before) = self.stats.stream.replace(stamp.stream) else { return };
        if before != stamp.stream && self.stats.switches.len() < SWITCHES_MAX {
            let at_key_frame = stamp.key && stamp.part == 0;
            self.stats.switches.push(Switch {
                at_ns,
                from: before,
                to: stamp.stream,
                at_key_frame,
            });
        }
    }

    fn anomaly(&mut self, what: String) {
        if self.stats.anomalies.len() < ANOMALIES_MAX {
            self.stats.anomalies.push(what);
        }
    }
}
