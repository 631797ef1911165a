//! Between the media server and FFmpeg. FFmpeg knows inputs that never change while it runs (slots);
//! people come, go, mute and switch cameras. Here each slot is given one person's packets with
//! numbers and times that go on without a break, or a filler while there is none. So only what
//! changes an input's codec, or how many there are, needs another FFmpeg.
//!
//! ```text
//!   source (SSRC)  --RTP-->  slot: not live --key frame--> live  --RTP-->  port of FFmpeg
//!   sender reports ------->  one clock for all sources           (a filler while not live)
//! ```
//!
//! Bytes and `now` in, datagrams out: no socket, no clock. Times are microseconds since the
//! mixer was made; FFmpeg's begin with its run.

use std::collections::BTreeMap;

use ironcast_api::Id;

use super::filler;
use super::rtp::{self, Codec, Report, Rtp};

/// So much later than now a filler is sent: what comes from people is newer, also over a bad network.
pub const HOLD_US: i64 = 300_000;

/// A picture that stands for so long is taken for a camera that stopped.
const STILL_US_MAX: i64 = 2_000_000;

/// A stream that is off its reported time by more than this is put right.
const OFF_US_MAX: i64 = 15_000;

/// While a picture that is late comes nearer, frames are so far apart at least.
const FRAME_US_MIN: i64 = 5_000;

/// Sound off by less than this is taken as the next piece.
const SNAP_US: i64 = 10_000;

/// A moment later than this from now is a mistake of its sender's clock.
const FUTURE_US_MAX: i64 = 500_000;

/// Packets that are missing for so long do not come any more.
const MISSING_US_MAX: i64 = 300_000;

/// What the smallest delay of the reports is forgotten by with each: clocks drift apart.
const DRIFT_US: i64 = 20;

/// Where the RTP times of a slot begin.
const TIMESTAMP_BASE: u32 = 1_000;

/// The moment that FFmpeg's clock begins at, by the reports that it gets.
const RUN_UNIX_US: i64 = 1_700_000_000_000_000;

/// Packets of pictures that are older than the newest by this are not taken any more.
const LATE_S_MAX: u32 = 2;

/// After a picture of a person the filler waits for this at least.
const PICTURE_US: i64 = 40_000;

/// An input of FFmpeg.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// Its port for RTP; RTCP has the next one.
    pub port: u16,
    /// What comes there.
    pub codec: Codec,
    /// How FFmpeg is told it.
    pub payload_type: u8,
    /// Something is sent while nobody sends.
    pub is_filled: bool,
}

/// To a port of FFmpeg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// Which.
    pub port: u16,
    /// What.
    pub bytes: Vec<u8>,
}

/// A moment of a stream's clock.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    timestamp: u32,
    us: i64,
}

/// A consumer's stream.
#[derive(Debug)]
struct Source {
    producer: Id,
    codec: Codec,
    anchor: Option<Anchor>,
    last_packet_us: Option<i64>,
    highest: Option<u16>,
    missing: u32,
    missing_since_us: Option<i64>,
}

impl Source {
    /// When a packet was captured.
    fn moment_us(&mut self, timestamp: u32, now_us: i64) -> i64 {
        let anchor = *self.anchor.get_or_insert(Anchor { timestamp, us: now_us });
        let ticks = i64::from(timestamp.wrapping_sub(anchor.timestamp) as i32);
        let moment = anchor.us + ticks * 1_000_000 / i64::from(self.codec.clock_rate());
        if moment > now_us + FUTURE_US_MAX { now_us } else { moment }
    }

    fn count(&mut self, packet: &Rtp<'_>, now_us: i64) {
        self.last_packet_us = Some(now_us);
        let Some(highest) = self.highest else {
            self.highest = Some(packet.sequence);
            return;
        };
        let step = packet.sequence.wrapping_sub(highest) as i16;
        if step > 0 {
            self.highest = Some(packet.sequence);
            self.missing += u32::from(step.unsigned_abs()) - 1;
        } else {
            self.missing = self.missing.saturating_sub(1);
        }
        if self.missing == 0 {
            self.missing_since_us = None;
        } else {
            self.missing_since_us.get_or_insert(now_us);
        }
    }

    fn is_whole(&mut self) {
        self.missing = 0;
        self.missing_since_us = None;
    }

    fn is_silent(&self, now_us: i64) -> bool {
        self.last_packet_us.is_none_or(|last| now_us - last > STILL_US_MAX)
    }
}

/// An input of FFmpeg, and what it is given.
#[derive(Debug)]
struct Slot {
    target: Target,
    ssrc: u32,
    source: Option<u32>,
    is_live: bool,
    /// The end of what was sent, on FFmpeg's clock.
    next_us: i64,
    sequence: u16,
    /// Of the source that is live: what its numbers and times are moved by, its newest time, and
    /// the oldest that is still taken.
    sequence_add: u16,
    timestamp_add: u32,
    newest: u32,
    floor: u32,
}

impl Slot {
    fn ticks(&self, us: i64) -> u32 {
        let ticks = us * i64::from(self.target.codec.clock_rate()) / 1_000_000;
        // The clock wraps around, as RTP's do.
        TIMESTAMP_BASE.wrapping_add(ticks as u32)
    }

    fn us_between(&self, from: u32, to: u32) -> i64 {
        let ticks = i64::from(to.wrapping_sub(from) as i32);
        ticks * 1_000_000 / i64::from(self.target.codec.clock_rate())
    }

    fn send(&self, packet: &Rtp<'_>, out: &mut Vec<Datagram>) {
        let packet = Rtp { ssrc: self.ssrc, ..*packet };
        let bytes = packet.write(self.target.payload_type);
        out.push(Datagram { port: self.target.port, bytes });
    }

    fn fill(&mut self, out: &mut Vec<Datagram>) {
        let payloads = filler::packets(self.target.codec);
        let timestamp = self.ticks(self.next_us);
        for (index, payload) in payloads.iter().enumerate() {
            let marker = self.target.codec.is_video() && index + 1 == payloads.len();
            let packet = Rtp { marker, sequence: self.sequence, timestamp, ssrc: 0, payload };
            self.send(&packet, out);
            self.sequence = self.sequence.wrapping_add(1);
        }
        self.next_us += filler::every_us(self.target.codec);
    }

    /// Sound: each piece begins where the one before ended, with silence between them.
    fn hear(&mut self, packet: &Rtp<'_>, at_us: i64, out: &mut Vec<Datagram>) {
        let Some(length_us) = rtp::opus_us(packet.payload).filter(|us| *us > 0) else { return };
        if at_us < self.next_us - SNAP_US {
            return;
        }
        self.is_live = true;
        while self.next_us + filler::every_us(Codec::Opus) <= at_us {
            self.fill(out);
        }
        let begin_us = if at_us < self.next_us + SNAP_US { self.next_us } else { at_us };
        let timestamp = self.ticks(begin_us);
        self.send(&Rtp { sequence: self.sequence, timestamp, marker: false, ..*packet }, out);
        self.sequence = self.sequence.wrapping_add(1);
        self.next_us = begin_us + length_us;
    }

    /// Pictures: from a key frame on all of them, numbers that are missing included.
    fn see(&mut self, packet: &Rtp<'_>, at_us: i64, out: &mut Vec<Datagram>) {
        if !self.is_live {
            if !rtp::begins_key_frame(self.target.codec, packet.payload) {
                return;
            }
            self.is_live = true;
            self.floor = packet.timestamp;
            self.sequence_add = self.sequence.wrapping_sub(packet.sequence);
            self.timestamp_add = self.ticks(at_us.max(self.next_us)).wrapping_sub(packet.timestamp);
            self.newest = packet.timestamp;
        } else if self.us_between(self.floor, packet.timestamp) < 0 {
            // From before its key frame, or much too late.
            return;
        } else if self.us_between(self.newest, packet.timestamp) > 0 {
            self.put_right(packet.timestamp, at_us);
            self.newest = packet.timestamp;
            let late = packet.timestamp.wrapping_sub(LATE_S_MAX * self.target.codec.clock_rate());
            if self.us_between(self.floor, late) > 0 {
                self.floor = late;
            }
        }
        let timestamp = packet.timestamp.wrapping_add(self.timestamp_add);
        let sequence = packet.sequence.wrapping_add(self.sequence_add);
        self.send(&Rtp { sequence, timestamp, ..*packet }, out);
        let after = sequence.wrapping_add(1);
        if after.wrapping_sub(self.sequence) as i16 > 0 {
            self.sequence = after;
        }
        let out_us = at_us + self.us_between(self.ticks(at_us), timestamp);
        self.next_us = self.next_us.max(out_us + PICTURE_US);
    }

    /// The first packet of a frame: its time is what the reports say. One that is shown too late
    /// comes nearer with each frame: time does not go back.
    fn put_right(&mut self, timestamp: u32, at_us: i64) {
        let wanted = self.ticks(at_us);
        let has = timestamp.wrapping_add(self.timestamp_add);
        if self.us_between(has, wanted).abs() <= OFF_US_MAX {
            return;
        }
        let last = self.newest.wrapping_add(self.timestamp_add);
        let step = FRAME_US_MIN * i64::from(self.target.codec.clock_rate()) / 1_000_000;
        let earliest = last.wrapping_add(step as u32);
        let next = if self.us_between(earliest, wanted) > 0 { wanted } else { earliest };
        // Not later than it is, where frames follow each other that closely.
        if self.us_between(has, next) < 0 || self.us_between(has, wanted) > 0 {
            self.timestamp_add = next.wrapping_sub(timestamp);
        }
    }
}

/// All sources and slots of a broadcast.
#[derive(Debug, Default)]
pub struct Mixer {
    sources: BTreeMap<u32, Source>,
    slots: Vec<Slot>,
    run_us: i64,
    /// From the media server's wall clock to ours: the smallest delay of a report.
    clock_us: Option<i64>,
}

impl Mixer {
    /// FFmpeg listens: its clock begins now, with the same moment for all inputs.
    pub fn begin(&mut self, targets: &[Target], now_us: i64) -> Vec<Datagram> {
        self.run_us = now_us;
        let slot = |(target, ssrc): (&Target, u32)| Slot {
            target: *target,
            ssrc,
            source: None,
            is_live: false,
            next_us: 0,
            sequence: 0,
            sequence_add: 0,
            timestamp_add: 0,
            newest: 0,
            floor: 0,
        };
        self.slots = targets.iter().zip(1..).map(slot).collect();
        let report = |slot: &Slot| Datagram {
            port: slot.target.port + 1,
            bytes: rtp::write_report(slot.ssrc, RUN_UNIX_US, TIMESTAMP_BASE),
        };
        self.slots.iter().map(report).collect()
    }

    /// FFmpeg is gone.
    pub fn end(&mut self) {
        self.slots.clear();
    }

    /// A consumer was made.
    pub fn add(&mut self, ssrc: u32, producer: Id, codec: Codec) {
        let source = Source {
            producer,
            codec,
            anchor: None,
            last_packet_us: None,
            highest: None,
            missing: 0,
            missing_since_us: None,
        };
        self.sources.insert(ssrc, source);
    }

    /// A consumer is gone.
    pub fn remove(&mut self, producer: &Id) {
        self.sources.retain(|_, source| source.producer != *producer);
        for slot in &mut self.slots {
            if slot.source.is_some_and(|ssrc| !self.sources.contains_key(&ssrc)) {
                slot.source = None;
                slot.is_live = false;
            }
        }
    }

    /// Whose packets each slot gets. One that is of another codec waits for an FFmpeg that knows it.
    pub fn assign(&mut self, producers: &[Option<Id>]) {
        for (slot, producer) in self.slots.iter_mut().zip(producers) {
            let found = self.sources.iter().find(|(_, source)| {
                Some(&source.producer) == producer.as_ref() && source.codec == slot.target.codec
            });
            let ssrc = found.map(|(ssrc, _)| *ssrc);
            if slot.source != ssrc {
                slot.source = ssrc;
                slot.is_live = false;
            }
        }
    }

    /// A datagram of the media server.
    pub fn receive(&mut self, bytes: &[u8], now_us: i64, out: &mut Vec<Datagram>) {
        if rtp::is_rtcp(bytes) {
            for report in rtp::sender_reports(bytes) {
                self.hear_report(&report, now_us);
            }
            return;
        }
        let Some(packet) = Rtp::parse(bytes).filter(|packet| !packet.payload.is_empty()) else {
            return;
        };
        let Some(source) = self.sources.get_mut(&packet.ssrc) else { return };
        source.count(&packet, now_us);
        let at_us = source.moment_us(packet.timestamp, now_us) - self.run_us;
        if rtp::begins_key_frame(source.codec, packet.payload) {
            source.is_whole();
        }
        for slot in self.slots.iter_mut().filter(|slot| slot.source == Some(packet.ssrc)) {
            if slot.target.codec.is_video() {
                slot.see(&packet, at_us, out);
            } else {
                slot.hear(&packet, at_us, out);
            }
        }
    }

    fn hear_report(&mut self, report: &Report, now_us: i64) {
        let delay_us = now_us - report.unix_us;
        let clock_us = match self.clock_us {
            Some(known) => delay_us.min(known + DRIFT_US),
            None => delay_us,
        };
        self.clock_us = Some(clock_us);
        if let Some(source) = self.sources.get_mut(&report.ssrc) {
            let us = report.unix_us + clock_us;
            source.anchor = Some(Anchor { timestamp: report.timestamp, us });
        }
    }

    /// Fills what nobody sends.
    pub fn tick(&mut self, now_us: i64, out: &mut Vec<Datagram>) {
        let due_us = now_us - self.run_us - HOLD_US;
        for slot in &mut self.slots {
            let source = slot.source.and_then(|ssrc| self.sources.get(&ssrc));
            if slot.target.codec.is_video() {
                if source.is_none_or(|source| source.is_silent(now_us)) {
                    slot.is_live = false;
                }
                if slot.is_live || !slot.target.is_filled {
                    continue;
                }
            }
            while slot.next_us <= due_us {
                slot.fill(out);
            }
        }
    }

    /// Whose key frame is missing: it has a slot, and does not come or came in pieces.
    pub fn without_key_frame(&self, now_us: i64) -> Vec<Id> {
        let lacks = |slot: &&Slot| {
            let source = slot.source.and_then(|ssrc| self.sources.get(&ssrc));
            let is_late = |since| now_us - since > MISSING_US_MAX;
            let has_gap = source.and_then(|one| one.missing_since_us).is_some_and(is_late);
            slot.target.codec.is_video() && source.is_some() && (!slot.is_live || has_gap)
        };
        let sources = self.slots.iter().filter(lacks).filter_map(|slot| slot.source);
        let producers = sources.filter_map(|ssrc| self.sources.get(&ssrc));
        producers.map(|source| source.producer.clone()).collect()
    }

    /// Whose pictures are being shown.
    pub fn live(&self) -> Vec<Id> {
        let live = self.slots.iter().filter(|slot| slot.is_live && slot.target.codec.is_video());
        let sources = live.filter_map(|slot| self.sources.get(&slot.source?));
        sources.map(|source| source.producer.clone()).collect()
    }
}

#[cfg(test)]
mod tests;
