//! What a consumer has to remember to answer NACKs: when a packet was last sent again, and, where
//! there is no RTX, what is needed to repeat it byte for byte (a packet index is sealed once; the
//! same index with other bytes would give the key stream away).
//!
//! Both lie in tables by number that begin small. One grows when two packets share a place that may both
//! be asked for: so it gets as large as the rate of the stream, and its losses, make it.

use super::{
    history::{CAPACITY_MAX, KEEP},
    red::{Earlier, LEVELS_MAX},
};
use crate::{MS, Nanos, SECOND, numbers::SentSeq, producer::PADDING_MAX};

/// Packets remembered at first: of audio as many as its history keeps at 50 a second.
const MEMORY_MIN: usize = 64;
/// And at most: as many as a history can keep.
const MEMORY_MAX: usize = CAPACITY_MAX;
/// What was sent again is forgotten when nothing has been for so long.
const QUIET: Nanos = 8 * KEEP;
/// A packet is not sent again before this time has passed: NACKs cross with what they ask for.
const SPACING_MIN: Nanos = 10 * MS;
/// How often one packet is sent again at most.
const TIMES_MAX: u8 = 10;

const _: () = assert!(MEMORY_MIN.is_power_of_two() && MEMORY_MAX.is_power_of_two());

/// A packet in a table.
trait Entry: Copy {
    const NOTHING: Self;
    /// None of nothing.
    fn seq(&self) -> Option<SentSeq>;
}

/// Where a packet has its place.
fn place<T>(table: &[T], seq: SentSeq) -> usize {
    seq.0 as usize & (table.len() - 1)
}

/// The packet's place. As long as another is there that is not to be forgotten, the table grows.
fn make_place<T: Entry>(
    table: &mut Box<[T]>,
    seq: SentSeq,
    is_to_be_kept: impl Fn(&T) -> bool,
) -> &mut T {
    let is_taken = |other: &T| other.seq().is_some_and(|of| of != seq) && is_to_be_kept(other);
    while table.is_empty() || table.len() < MEMORY_MAX && is_taken(&table[place(table, seq)]) {
        let mut grown = vec![T::NOTHING; (2 * table.len()).max(MEMORY_MIN)].into_boxed_slice();
        for entry in table.iter() {
            if let Some(seq) = entry.seq() {
                grown[place(&grown, seq)] = *entry;
            }
        }
        *table = grown;
    }
    let at = place(table, seq);
    &mut table[at]
}

#[derive(Debug, Clone, Copy)]
struct Resent {
    seq: SentSeq,
    times: u8,
    at: Nanos,
}

impl Entry for Resent {
    const NOTHING: Self = Self { seq: SentSeq(0), times: 0, at: 0 };

    fn seq(&self) -> Option<SentSeq> {
        (self.times > 0).then_some(self.seq)
    }
}

/// What varied in a packet that was sent, as [`SentParts::packed`].
#[derive(Debug, Clone, Copy)]
struct Varied {
    seq: SentSeq,
    parts: u32,
}

impl Entry for Varied {
    const NOTHING: Self = Self { seq: SentSeq(u32::MAX), parts: 0 };

    fn seq(&self) -> Option<SentSeq> {
        (self.seq != Self::NOTHING.seq).then_some(self.seq)
    }
}

/// The variable parts of a packet that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SentParts {
    /// abs-send-time, 24 bits.
    pub abs_send_time: u32,
    /// Bytes of padding, at most [`PADDING_MAX`].
    pub padding: u8,
    /// What went with it.
    pub earlier: Earlier,
}

impl SentParts {
    fn packed(self) -> u32 {
        self.abs_send_time << 8 | u32::from(self.earlier.0) << 6 | u32::from(self.padding)
    }

    fn unpacked(packed: u32) -> Self {
        let earlier = Earlier((packed >> 6) as u8 & 0x03);
        Self { abs_send_time: packed >> 8, padding: packed as u8 & 0x3f, earlier }
    }
}

const _: () = assert!(PADDING_MAX <= 0x3f && LEVELS_MAX <= 2, "they share a byte");

/// [`KEEP`] in the upper 24 bits, as abs-send-time counts.
const KEEP_PACKED: u32 = (((KEEP << 18) / SECOND) << 8) as u32;

/// See the file's head. Costs nothing until it is used.
#[derive(Debug, Default)]
pub struct Resends {
    resent: Box<[Resent]>,
    /// When a packet was sent again last.
    resent_at: Nanos,
    sent: Box<[Varied]>,
}

impl Resends {
    /// A packet was sent for the first time; to be told only where NACKs are answered with the same
    /// packet, not by RTX.
    pub fn note_sent(&mut self, seq: SentSeq, parts: SentParts) {
        let packed = parts.packed();
        // One that was sent 64 s ago, when this clock begins again, makes the table larger than it need be.
        let is_recent = |other: &Varied| packed.wrapping_sub(other.parts) < KEEP_PACKED;
        *make_place(&mut self.sent, seq, is_recent) = Varied { seq, parts: packed };
    }

    /// The variable parts of a packet that was sent; `None` when it is too long ago.
    #[must_use]
    pub fn parts(&self, seq: SentSeq) -> Option<SentParts> {
        if self.sent.is_empty() {
            return None;
        }
        let varied = &self.sent[place(&self.sent, seq)];
        (varied.seq() == Some(seq)).then_some(SentParts::unpacked(varied.parts))
    }

    /// True when a packet may be sent again now; remembers that it is.
    pub fn take(&mut self, seq: SentSeq, rtt: Option<Nanos>, now: Nanos) -> bool {
        self.resent_at = now;
        let is_recent = |other: &Resent| now < other.at + KEEP;
        let entry = make_place(&mut self.resent, seq, is_recent);
        if entry.times == 0 || entry.seq != seq && !is_recent(entry) {
            *entry = Resent { seq, times: 1, at: now };
            return true;
        }
        // Another packet's entry stays for as long as that packet can be asked for: two numbers that
        // share it would else make each other forgotten, and each be sent for every NACK.
        if entry.seq != seq {
            return false;
        }
        let spacing = SPACING_MIN.max(rtt.unwrap_or(0) / 2);
        if entry.times >= TIMES_MAX || now < entry.at + spacing {
            return false;
        }
        (entry.times, entry.at) = (entry.times + 1, now);
        true
    }

    /// Places in its tables.
    #[cfg(feature = "audit")]
    pub(crate) fn len(&self) -> usize {
        self.resent.len() + self.sent.len()
    }

    /// Now and then: gives back what nobody has needed for a while.
    pub fn rest(&mut self, now: Nanos) {
        if now >= self.resent_at + QUIET {
            self.resent = Box::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::extension::abs_send_time;

    /// A packet every so often, sent at its number's time.
    fn noted(resends: &mut Resends, packets: std::ops::Range<u32>, every: Nanos) {
        for seq in packets {
            let [a, b, c] = abs_send_time(Nanos::from(seq) * every);
            let abs_send_time = u32::from_be_bytes([0, a, b, c]);
            resends.note_sent(SentSeq(seq), SentParts { abs_send_time, ..SentParts::default() });
        }
    }

    #[test]
    fn a_packet_is_sent_again_neither_too_soon_nor_for_ever() {
        let mut resends = Resends::default();
        assert!(resends.take(SentSeq(7), None, 0));
        assert!(!resends.take(SentSeq(7), None, SPACING_MIN - 1));
        let again = (1..100).filter(|i| resends.take(SentSeq(7), None, i * SPACING_MIN)).count();
        assert_eq!(again, usize::from(TIMES_MAX) - 1);
    }

    /// Whoever asks for two packets in turn that share an entry gets each once.
    #[test]
    fn packets_that_share_an_entry_do_not_make_each_other_forgotten() {
        let mut resends = Resends::default();
        for far in [64, 256, 512, 1_024, 2_048, 4_096] {
            let first = 100_000 * far;
            let taken =
                (0..200).filter(|i| resends.take(SentSeq(first + i % 2 * far), None, 0)).count();
            assert!(taken <= 2, "{far}: {taken}");
        }
    }

    /// One that is asked for once costs little; a bad network as much as its packets need, and no longer
    /// than it is bad.
    #[test]
    fn memory_is_as_large_as_what_is_asked_for() {
        let mut resends = Resends::default();
        assert!(resends.take(SentSeq(700), None, 0));
        assert_eq!(resends.resent.len(), MEMORY_MIN);
        // 100 a second, each asked for 300 ms after it was sent, and twice.
        for number in 0..1_000u32 {
            let now = Nanos::from(number) * 10 * MS;
            assert!(resends.take(SentSeq(1_000 + number), None, now), "{number}");
            if number >= 20 {
                assert!(resends.take(SentSeq(980 + number), None, now), "{number}");
            }
        }
        assert!(resends.resent.len() <= 256, "{}", resends.resent.len());
        let last = 1_000 * 10 * MS;
        // 5,000 a second is more than a history keeps.
        for number in 0..6_000u32 {
            resends.take(SentSeq(10_000 + number), None, last + Nanos::from(number) * MS / 5);
        }
        assert_eq!(resends.resent.len(), MEMORY_MAX);
        let last = resends.resent_at;
        resends.rest(last + QUIET - 1);
        assert_eq!(resends.resent.len(), MEMORY_MAX);
        resends.rest(last + QUIET);
        assert!(resends.resent.is_empty());
    }

    #[test]
    fn what_can_be_asked_for_is_still_known() {
        for (every, memory) in [(20 * MS, 64), (10 * MS, 128), (MS, 2_048)] {
            let mut resends = Resends::default();
            noted(&mut resends, 0..10_000, every);
            let kept = (KEEP / every) as u32;
            assert!((10_000 - kept..10_000).all(|seq| resends.parts(SentSeq(seq)).is_some()));
            assert_eq!(resends.sent.len(), memory, "every {} ms", every / MS);
        }
        let mut resends = Resends::default();
        noted(&mut resends, 0..10_000, MS / 10);
        assert_eq!(resends.sent.len(), MEMORY_MAX);
    }

    #[test]
    fn only_what_is_still_known_can_be_repeated() {
        let mut resends = Resends::default();
        assert_eq!(resends.parts(SentSeq(7)), None);
        let parts = SentParts { abs_send_time: 0xff_fffe, padding: 0x3f, earlier: Earlier(0x03) };
        resends.note_sent(SentSeq(7), parts);
        assert_eq!(resends.parts(SentSeq(7)), Some(parts));
        assert_eq!(resends.parts(SentSeq(7 + MEMORY_MIN as u32)), None);
        // 60 s later.
        let later = SentParts { abs_send_time: 60 << 18, ..SentParts::default() };
        resends.note_sent(SentSeq(7 + MEMORY_MIN as u32), later);
        assert_eq!(resends.parts(SentSeq(7)), None);
    }
}
