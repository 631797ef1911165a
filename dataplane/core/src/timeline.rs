//! One continuous timeline for the receiver, whatever happens upstream: sequence numbers,
//! timestamps, and VP8's picture ids and TL0PICIDX. Owns how the numbers of the sources map to the
//! numbers that are sent; knows no packet and no key.
//!
//! The numbering closes only what we chose not to send. What was lost upstream stays open: a late
//! packet keeps its place, and a broken frame stays recognisable. So the map is a list of segments
//! with constant differences, a new one at each switch and after each deliberate drop:
//!
//! ```text
//! source   A: 10 11 12 13 14 15        B: 500 501
//! choice       s  s  .  s  s  .            s   s        (.: dropped on purpose, 14 not here yet)
//! sent         1  2     3  4               5   6
//! segments  [A 10..11 -9] [A 13..14 -10]  [B 500.. -495]
//! ```
//! The same list, read backwards, answers a NACK: which source packet was number 4, and how was it
//! rewritten?

use std::collections::VecDeque;

use crate::numbers::{SentSeq, SourceSeq};

/// Segments remembered: with every second frame dropped, more than two seconds of 30 frames/s.
const SEGMENTS_MAX: usize = 64;

/// A range of source numbers with constant differences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Segment {
    stream: u8,
    /// Added to TL0PICIDX.
    tl0_add: u8,
    /// Added to the picture id.
    picture_add: u16,
    first: SourceSeq,
    /// Last source number sent or passed over in it; grows while it is the newest.
    last: SourceSeq,
    /// Added to a source number to get the sent one.
    seq_add: u32,
    /// Added to the timestamp.
    timestamp_add: u32,
}

impl Segment {
    fn sent(&self, seq: SourceSeq) -> SentSeq {
        SentSeq(seq.0.wrapping_add(self.seq_add))
    }
}

/// How one packet is rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rewritten {
    /// Its number.
    pub seq: SentSeq,
    /// RTP timestamp.
    pub timestamp: u32,
    /// To be added to the VP8 picture id.
    pub picture_add: u16,
    /// To be added to TL0PICIDX.
    pub tl0_add: u8,
}

/// A packet of the source, as far as numbering is concerned.
#[derive(Debug, Clone, Copy)]
pub struct SourcePacket {
    /// Which stream of the producer.
    pub stream: u8,
    /// Its number.
    pub seq: SourceSeq,
    /// RTP timestamp.
    pub timestamp: u32,
    /// VP8 picture id.
    pub picture_id: Option<u16>,
    /// VP8 TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
}

/// Numbers of one sent stream.
#[derive(Debug)]
pub struct Timeline {
    /// The one that packets go on in; the only one that most packets need.
    newest: Option<Segment>,
    next_seq: SentSeq,
    last_timestamp: u32,
    last_picture: u16,
    dropped_picture: Option<u16>,
    last_tl0: u8,
    /// Those before it.
    #[expect(clippy::box_collection, reason = "a third of the size, in the consumer's hot lines")]
    older: Option<Box<VecDeque<Segment>>>,
}

impl Timeline {
    /// `first_seq`: the first number to send (below 2^15, RFC 3711 section 3.3.1).
    #[must_use]
    pub fn new(first_seq: SentSeq) -> Self {
        Self {
            newest: None,
            next_seq: first_seq,
            last_timestamp: 0,
            last_picture: 0,
            last_tl0: 0,
            dropped_picture: None,
            older: None,
        }
    }

    /// The next number that a new packet gets.
    #[must_use]
    pub fn next_seq(&self) -> SentSeq {
        self.next_seq
    }

    /// True when hardly a number is left. They are packet indices of SRTP and may not begin again
    /// (RFC 3711 section 9.2): the stream ends, after months, and its consumer is to be made anew
    /// with another SSRC.
    #[must_use]
    pub fn is_used_up(&self) -> bool {
        self.next_seq > SentSeq::MAX
    }

    /// The newest sent timestamp.
    #[must_use]
    pub fn last_timestamp(&self) -> u32 {
        self.last_timestamp
    }

    /// Difference between sent and source timestamps now: for sender reports.
    #[must_use]
    pub fn timestamp_add(&self) -> Option<u32> {
        self.newest.as_ref().map(|segment| segment.timestamp_add)
    }

    /// True when the newest segment is of that stream: packets go on in it.
    #[must_use]
    pub fn follows(&self, stream: u8) -> bool {
        self.newest.is_some_and(|segment| segment.stream == stream)
    }

    /// True when `seq` is newer than everything seen of the stream that is being followed.
    #[must_use]
    pub fn is_new(&self, seq: SourceSeq) -> bool {
        self.newest.is_none_or(|segment| seq > segment.last)
    }

    /// Begins to follow a stream at this packet (a key frame, or a resume): it gets the next
    /// sequence number, the timestamp `timestamp`, and the next picture id.
    pub fn switch(&mut self, packet: SourcePacket, timestamp: u32) -> Rewritten {
        let first = self.newest.is_none();
        let picture_add = match packet.picture_id {
            Some(id) if !first => self.last_picture.wrapping_add(1).wrapping_sub(id),
            _ => 0,
        };
        let tl0_add = match packet.tl0_pic_idx {
            Some(tl0) if !first => self.last_tl0.wrapping_add(1).wrapping_sub(tl0),
            _ => 0,
        };
        self.push(Segment {
            stream: packet.stream,
            tl0_add,
            picture_add,
            first: packet.seq,
            last: packet.seq,
            seq_add: self.next_seq.0.wrapping_sub(packet.seq.0),
            timestamp_add: timestamp.wrapping_sub(packet.timestamp),
        });
        self.dropped_picture = None;
        self.advance(packet)
    }

    /// A new packet of the stream that is followed ([`Self::follows`], [`Self::is_new`]).
    pub fn advance(&mut self, packet: SourcePacket) -> Rewritten {
        let Some(segment) = &mut self.newest else {
            return self.switch(packet, packet.timestamp);
        };
        segment.last = packet.seq.max(segment.last);
        let segment = *segment;
        let rewritten = rewrite(&segment, packet.seq, packet.timestamp);
        self.next_seq = rewritten.seq.next();
        self.last_timestamp = rewritten.timestamp;
        if let Some(id) = packet.picture_id {
            self.last_picture = id.wrapping_add(segment.picture_add);
        }
        if let Some(tl0) = packet.tl0_pic_idx {
            self.last_tl0 = tl0.wrapping_add(segment.tl0_add);
        }
        rewritten
    }

    /// A new packet of the stream that is followed is not sent: the numbers close over it, and
    /// what was lost just before it keeps its place.
    pub fn drop_one(&mut self, packet: SourcePacket) {
        let Some(segment) = &mut self.newest else {
            return;
        };
        let mut next = *segment;
        next.first = SourceSeq(packet.seq.0.wrapping_add(1));
        next.last = packet.seq;
        next.seq_add = segment.seq_add.wrapping_sub(1);
        if packet.picture_id.is_some() && packet.picture_id != self.dropped_picture {
            next.picture_add = segment.picture_add.wrapping_sub(1);
            self.dropped_picture = packet.picture_id;
        }
        if segment.last.0.wrapping_add(1) == packet.seq.0 && segment.first == packet.seq {
            // Nothing was sent in it, and nothing is missing: it only moves on.
            *segment = next;
        } else {
            segment.last = SourceSeq(packet.seq.0.wrapping_sub(1));
            self.push(next);
        }
        let next_seq = next.sent(packet.seq).next();
        self.next_seq = self.next_seq.max(next_seq);
    }

    /// The place of a packet that comes late: `None` when it was dropped on purpose, belongs to
    /// the time before a switch that passed it over, or is too old.
    #[must_use]
    pub fn late(&self, stream: u8, seq: SourceSeq, timestamp: u32) -> Option<Rewritten> {
        self.segments()
            .find(|s| s.stream == stream && (s.first..=s.last).contains(&seq))
            .map(|segment| rewrite(segment, seq, timestamp))
    }

    /// Which source packet was sent with that number: its stream and its number there.
    #[must_use]
    pub fn source(&self, sent: SentSeq) -> Option<(u8, SourceSeq)> {
        self.segment_of(sent).map(|(segment, seq)| (segment.stream, seq))
    }

    /// How the packet with that sent number was rewritten; `timestamp`: its source timestamp.
    #[must_use]
    pub fn repeated(&self, sent: SentSeq, timestamp: u32) -> Option<Rewritten> {
        self.segment_of(sent).map(|(segment, seq)| rewrite(segment, seq, timestamp))
    }

    fn segment_of(&self, sent: SentSeq) -> Option<(&Segment, SourceSeq)> {
        self.segments().find_map(|segment| {
            let seq = SourceSeq(sent.0.wrapping_sub(segment.seq_add));
            (segment.first..=segment.last).contains(&seq).then_some((segment, seq))
        })
    }

    /// The extended form of a sent 16-bit number: the newest one that is not in the future.
    #[must_use]
    pub fn extend(&self, sent: u16) -> SentSeq {
        let newest = self.next_seq.0.wrapping_sub(1);
        SentSeq(newest.wrapping_sub(u32::from((newest as u16).wrapping_sub(sent))))
    }

    fn push(&mut self, segment: Segment) {
        let Some(before) = self.newest.replace(segment) else { return };
        let older = self.older.get_or_insert_default();
        if older.len() == SEGMENTS_MAX - 1 {
            older.pop_front();
        }
        older.push_back(before);
    }

    /// The newest first.
    fn segments(&self) -> impl Iterator<Item = &Segment> {
        let older = self.older.iter().flat_map(|older| older.iter().rev());
        self.newest.iter().chain(older)
    }
}

fn rewrite(segment: &Segment, seq: SourceSeq, timestamp: u32) -> Rewritten {
    Rewritten {
        seq: segment.sent(seq),
        timestamp: timestamp.wrapping_add(segment.timestamp_add),
        picture_add: segment.picture_add,
        tl0_add: segment.tl0_add,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn packet(stream: u8, seq: u32) -> SourcePacket {
        let timestamp = seq * 10;
        let seq = SourceSeq(seq);
        SourcePacket { stream, seq, timestamp, picture_id: None, tl0_pic_idx: None }
    }

    #[test]
    fn the_drawing_above() {
        let mut t = Timeline::new(SentSeq(1));
        assert_eq!(t.switch(packet(0, 10), 100).seq.0, 1);
        assert_eq!(t.advance(packet(0, 11)).seq.0, 2);
        t.drop_one(packet(0, 12));
        assert_eq!(t.advance(packet(0, 13)).seq.0, 3);
        t.drop_one(packet(0, 15));
        assert_eq!(t.switch(packet(1, 500), 200).seq.0, 5);
        assert_eq!(t.advance(packet(1, 501)).seq.0, 6);
        assert_eq!(t.late(0, SourceSeq(14), 140).map(|r| r.seq.0), Some(4));
        assert_eq!(
            (
                t.late(0, SourceSeq(12), 0),
                t.late(0, SourceSeq(15), 0),
                t.late(1, SourceSeq(499), 0)
            ),
            (None, None, None)
        );
        let sources: Vec<_> = (1..=7)
            .map(|sent| t.source(SentSeq(sent)).map(|(stream, seq)| (stream, seq.0)))
            .collect();
        let expected = [
            Some((0, 10)),
            Some((0, 11)),
            Some((0, 13)),
            Some((0, 14)),
            Some((1, 500)),
            Some((1, 501)),
            None,
        ];
        assert_eq!(sources, expected);
        assert_eq!(t.extend(4).0, 4);
    }

    /// A key frame that was repaired after a resume can lie before what was sent last: a source
    /// number then has two sent ones, and each repeat must be that of the number asked for.
    #[test]
    fn a_repeat_has_the_number_that_was_asked_for() {
        let mut t = Timeline::new(SentSeq(1));
        t.switch(packet(0, 10), 100);
        for seq in 11..=20 {
            t.advance(packet(0, seq));
        }
        assert_eq!(t.switch(packet(0, 15), 300).seq.0, 12);
        t.advance(packet(0, 21));
        for (sent, source) in [(6, 15), (9, 18), (12, 15), (15, 18)] {
            assert_eq!(t.source(SentSeq(sent)), Some((0, SourceSeq(source))));
            assert_eq!(t.repeated(SentSeq(sent), 0).map(|r| r.seq.0), Some(sent));
        }
        assert_eq!(t.late(0, SourceSeq(18), 0).map(|r| r.seq.0), Some(15));
    }

    #[test]
    fn picture_ids_close_over_dropped_frames_and_go_on_at_a_switch() {
        let with = |stream, seq, id, tl0| SourcePacket {
            picture_id: Some(id),
            tl0_pic_idx: Some(tl0),
            ..packet(stream, seq)
        };
        let mut t = Timeline::new(SentSeq(0));
        let picture = |r: Rewritten, id: u16| id.wrapping_add(r.picture_add);
        assert_eq!(picture(t.switch(with(0, 1, 20, 5), 0), 20), 20);
        t.drop_one(with(0, 2, 21, 5));
        t.drop_one(with(0, 3, 21, 5));
        assert_eq!(picture(t.advance(with(0, 4, 22, 6)), 22), 21);
        let switched = t.switch(with(1, 70, 900, 77), 0);
        assert_eq!(picture(switched, 900), 22);
        assert_eq!(77u8.wrapping_add(switched.tl0_add), 7);
    }

    proptest! {
        /// Whatever is lost, late, dropped on purpose or switched: no number is given to two
        /// packets, every number leads back to its packet, and without losses there is no hole.
        #[test]
        fn numbers_are_unique_and_lead_back(
            steps in prop::collection::vec((0u8..100, 1u32..4), 1..300),
            lossy in any::<bool>(),
        ) {
            let mut t = Timeline::new(SentSeq(100));
            let mut sent: BTreeMap<u32, (u8, u32)> = BTreeMap::new();
            let (mut stream, mut seq) = (0u8, 1_000u32);
            t.switch(packet(stream, seq), 0);
            sent.insert(100, (stream, seq));
            for (choice, gap) in steps {
                if choice < 5 {
                    stream ^= 1;
                    seq += 5_000 * u32::from(choice + 1);
                    let r = t.switch(packet(stream, seq), 0);
                    prop_assert!(sent.insert(r.seq.0, (stream, seq)).is_none());
                    continue;
                }
                let before = seq;
                seq += if lossy { gap } else { 1 };
                if choice < 40 {
                    t.drop_one(packet(stream, seq));
                } else {
                    let r = t.advance(packet(stream, seq));
                    prop_assert!(sent.insert(r.seq.0, (stream, seq)).is_none());
                }
                if choice % 2 == 0 && seq - before > 1 {
                    let late = t.late(stream, SourceSeq(before + 1), 0);
                    prop_assert!(late.is_some());
                    let duplicate = sent.insert(late.unwrap().seq.0, (stream, before + 1));
                    prop_assert!(duplicate.is_none());
                }
            }
            for (number, source) in sent.iter().rev().take(20) {
                let (stream, seq) = *source;
                prop_assert_eq!(t.source(SentSeq(*number)), Some((stream, SourceSeq(seq))));
            }
            if !lossy {
                let newest = *sent.keys().next_back().unwrap();
                prop_assert_eq!(sent.len() as u32, newest - 100 + 1);
            }
        }
    }
}
