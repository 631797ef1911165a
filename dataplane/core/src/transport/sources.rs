//! What is known of SSRCs that no stream has: those that send before their `produce`, and those whose
//! producer is closed or that another SSRC has followed. Owns their replay windows, so that nothing
//! that came once is taken for new and a rollover counter goes on; and the transport-wide numbers that
//! came before it was known which header extension carries them.
//! Everything here is of packets whose tag was verified.

use std::collections::VecDeque;

use super::{demux::Demux, feedback::TransportFeedback, recent::Recent};
use crate::{Arrival, Discard, Nanos, SECOND, numbers::PacketIndex, srtp::StreamIndex, wire::rtp};

/// SSRCs of one peer that are remembered.
const SOURCES_MAX: usize = 256;
/// Values of two bytes that may be transport-wide numbers: a second of a fast publisher.
const EARLY_MAX: usize = 2_048;
/// So long after them nobody waits for a report about them.
const EARLY_SPAN: Nanos = 10 * SECOND;

/// An SSRC without a stream.
#[derive(Debug, Clone, Default)]
struct Source {
    index: StreamIndex,
    /// It was a stream's.
    is_former: bool,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Sources(Recent<Source, SOURCES_MAX>);

impl Sources {
    /// The most likely packet index, unless it came already or is too old.
    pub(crate) fn estimate(&self, ssrc: u32, seq: u16) -> Result<PacketIndex, Discard> {
        let first = || Ok(PacketIndex(seq.into()));
        self.0.peek(ssrc).map_or_else(first, |source| source.index.estimate(seq))
    }

    /// True for what was a stream's and is not any more.
    pub(crate) fn is_former(&self, ssrc: u32) -> bool {
        self.0.peek(ssrc).is_some_and(|source| source.is_former)
    }

    /// A packet of an SSRC without a stream, verified.
    pub(crate) fn commit(&mut self, ssrc: u32, index: PacketIndex) {
        if let Some(source) = self.0.get_mut(ssrc) {
            source.index.commit(index);
            return;
        }
        let mut source = Source::default();
        source.index.commit(index);
        self.0.put(ssrc, source);
    }

    /// A stream lets go of its SSRC.
    pub(crate) fn retire(&mut self, ssrc: u32, index: StreamIndex) {
        if index.newest().is_some() {
            self.0.put(ssrc, Source { index, is_former: true });
        }
    }

    /// A stream lets go of an SSRC that another one may take at once.
    pub(crate) fn release(&mut self, ssrc: u32, index: StreamIndex) {
        if index.newest().is_some() {
            self.0.put(ssrc, Source { index, is_former: false });
        }
    }

    /// Nobody took an SSRC that was let go of: without a label it is nobody's.
    pub(crate) fn keep_off(&mut self, ssrc: u32) {
        if let Some(source) = self.0.get_mut(ssrc) {
            source.is_former = true;
        }
    }

    /// A stream takes an SSRC: where it goes on, at its beginning if it is new.
    pub(crate) fn take(&mut self, ssrc: u32) -> StreamIndex {
        self.0.remove(ssrc).map(|source| source.index).unwrap_or_default()
    }

    /// The one that was heard last.
    pub(crate) fn newest(&self) -> Option<u32> {
        self.0.newest()
    }

    /// How many are remembered.
    #[cfg(any(test, feature = "audit"))]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// A value of two bytes that may be a transport-wide number.
#[derive(Debug, Clone, Copy)]
struct EarlyNumber {
    payload_type: u8,
    id: u8,
    value: u16,
    arrival: Arrival,
}

/// What came before a producer told in which extension its packets have the transport-wide number.
#[derive(Debug, Default)]
pub(crate) struct EarlyNumbers(VecDeque<EarlyNumber>);

impl EarlyNumbers {
    /// Every extension of a packet that may be such a number.
    pub(crate) fn note(&mut self, header: &rtp::Header, datagram: &[u8], arrival: Arrival) {
        while self.0.front().is_some_and(|first| arrival.since(first.arrival) > EARLY_SPAN) {
            self.0.pop_front();
        }
        for (id, value) in header.extensions(datagram) {
            if let Ok(value) = <[u8; 2]>::try_from(value) {
                if self.0.len() >= EARLY_MAX {
                    self.0.pop_front();
                }
                let (payload_type, value) = (header.payload_type, u16::from_be_bytes(value));
                self.0.push_back(EarlyNumber { payload_type, id, value, arrival });
            }
        }
    }

    /// A producer has told an id: what came with it is reported like anything else, unless the producers
    /// of its payload type have their numbers elsewhere. What is left may be another one's.
    pub(crate) fn tell(&mut self, id: u8, demux: &Demux, feedback: &mut TransportFeedback) {
        let newest = feedback.newest_at().unwrap_or_default();
        self.0.retain(|early| {
            let is_recent = early.arrival + EARLY_SPAN >= newest;
            let carries = demux.carries_number(early.payload_type, early.id);
            let is_number = carries.unwrap_or(early.id == id) && feedback.is_near(early.value);
            if is_recent && is_number {
                feedback.receive(early.value, early.arrival);
            }
            is_recent && !is_number
        });
    }

    /// Values that wait.
    #[cfg(any(test, feature = "audit"))]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
