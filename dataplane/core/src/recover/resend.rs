//! What a consumer has to remember to answer NACKs: when a packet was last sent again, and, where
//! there is no RTX, what is needed to repeat it byte for byte (a packet index is sealed once; the
//! same index with other bytes would give the key stream away).

use ironcast_protocol::media::MediaKind;

use super::{
    history::{CAPACITY_MAX, KEEP},
    red::{Earlier, LEVELS_MAX},
};
use crate::{MS, Nanos, numbers::SentSeq, producer::PADDING_MAX};

/// Packets remembered of video, as many as its history can keep; and of audio, as many as it keeps
/// at 50 a second.
const VIDEO_MEMORY: u16 = CAPACITY_MAX as u16;
const AUDIO_MEMORY: u16 = 64;
/// A packet is not sent again before this time has passed: NACKs cross with what they ask for.
const SPACING_MIN: Nanos = 10 * MS;
/// How often one packet is sent again at most.
const TIMES_MAX: u8 = 10;

#[derive(Debug, Clone, Copy, Default)]
struct Resent {
    seq: SentSeq,
    times: u8,
    at: Nanos,
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

/// See the file's head. Costs nothing until it is used.
#[derive(Debug)]
pub struct Resends {
    memory: u16,
    resent: Box<[Resent]>,
    /// Numbers, and [`SentParts::packed`].
    sent: Box<[(SentSeq, u32)]>,
}

impl Resends {
    /// As many packets as this kind of media needs.
    #[must_use]
    pub fn new(kind: MediaKind) -> Self {
        let memory = match kind {
            MediaKind::Audio => AUDIO_MEMORY,
            MediaKind::Video => VIDEO_MEMORY,
        };
        Self { memory, resent: Box::default(), sent: Box::default() }
    }

    /// A packet was sent for the first time; to be told only where NACKs are answered with the same
    /// packet, not by RTX.
    pub fn note_sent(&mut self, seq: SentSeq, parts: SentParts) {
        if self.sent.is_empty() {
            let nothing = (SentSeq(u32::MAX), 0);
            self.sent = vec![nothing; usize::from(self.memory)].into();
        }
        self.sent[seq.0 as usize % usize::from(self.memory)] = (seq, parts.packed());
    }

    /// The variable parts of a packet that was sent; `None` when it is too long ago.
    #[must_use]
    pub fn parts(&self, seq: SentSeq) -> Option<SentParts> {
        let (at, parts) = self.sent.get(seq.0 as usize % usize::from(self.memory))?;
        (*at == seq).then_some(SentParts::unpacked(*parts))
    }

    /// True when a packet may be sent again now; remembers that it is.
    pub fn take(&mut self, seq: SentSeq, rtt: Option<Nanos>, now: Nanos) -> bool {
        if self.resent.is_empty() {
            self.resent = vec![Resent::default(); usize::from(self.memory)].into();
        }
        let entry = &mut self.resent[seq.0 as usize % usize::from(self.memory)];
        if entry.times == 0 || entry.seq != seq && now >= entry.at + KEEP {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_sent_again_neither_too_soon_nor_for_ever() {
        let mut resends = Resends::new(MediaKind::Video);
        assert!(resends.take(SentSeq(7), None, 0));
        assert!(!resends.take(SentSeq(7), None, SPACING_MIN - 1));
        let again = (1..100).filter(|i| resends.take(SentSeq(7), None, i * SPACING_MIN)).count();
        assert_eq!(again, usize::from(TIMES_MAX) - 1);
    }

    /// Whoever asks for two packets in turn that share an entry gets each once.
    #[test]
    fn packets_that_share_an_entry_do_not_make_each_other_forgotten() {
        for kind in [MediaKind::Audio, MediaKind::Video] {
            let mut resends = Resends::new(kind);
            for far in [64, 256, 512, 1_024, 2_048] {
                let first = 100_000 * far;
                let taken = (0..200)
                    .filter(|i| resends.take(SentSeq(first + i % 2 * far), None, 0))
                    .count();
                assert!(taken <= 2, "{kind:?} {far}: {taken}");
            }
        }
    }

    #[test]
    fn only_what_is_still_known_can_be_repeated() {
        let mut resends = Resends::new(MediaKind::Audio);
        let parts = SentParts { abs_send_time: 0xff_fffe, padding: 0x3f, earlier: Earlier(0x03) };
        resends.note_sent(SentSeq(7), parts);
        assert_eq!(resends.parts(SentSeq(7)), Some(parts));
        resends.note_sent(SentSeq(7 + u32::from(AUDIO_MEMORY)), SentParts::default());
        assert_eq!(resends.parts(SentSeq(7)), None);
    }
}
