//! Puts the peer's handshake messages of DTLS 1.2 together in front of the library, which wants the
//! parts of a message in order and cut once: a repeat may be cut elsewhere, and parts may overlap
//! (RFC 6347 section 4.2.3). Stands between the datagrams of an association and its library; owns
//! what is incomplete, bounded in number and size.
//!
//! Only epoch 0 is looked into. What comes after it (Finished) is never cut: it is 12 bytes long.
//! DTLS 1.3 needs none of this.

use std::collections::BTreeMap;

use crate::records::{self, CONTENT_HANDSHAKE, Fragment};

/// Longest message: what fits a record (RFC 6347 section 4.1), its header included.
const MESSAGE_BYTES_MAX: usize = (16 << 10) - 12;
/// Messages that are incomplete at the same time. A flight has five.
const INCOMPLETE_MAX: usize = 5;
/// A handshake has fewer messages of one side than this.
const MESSAGES_MAX: u16 = 64;

/// A message of which parts are there.
#[derive(Debug, Default)]
pub(crate) struct Message {
    kind: u8,
    body: Vec<u8>,
    /// Which bytes of `body` are there.
    have: Vec<bool>,
}

impl Message {
    /// Takes a part; a newer one counts more than an older one. A part of something else begins
    /// anew.
    pub(crate) fn take(&mut self, fragment: &Fragment<'_>) {
        if self.kind != fragment.kind || self.body.len() != fragment.length {
            let length = fragment.length;
            *self = Self { kind: fragment.kind, body: vec![0; length], have: vec![false; length] };
        }
        let range = fragment.offset..fragment.offset + fragment.bytes.len();
        self.body[range.clone()].copy_from_slice(fragment.bytes);
        self.have[range].fill(true);
    }

    /// The whole message, when it is there.
    pub(crate) fn body(&self) -> Option<&[u8]> {
        self.have.iter().all(|&have| have).then_some(&self.body)
    }

    /// As one part.
    pub(crate) fn whole(&self, message_seq: u16) -> Fragment<'_> {
        let (kind, length) = (self.kind, self.body.len());
        Fragment { kind, message_seq, length, offset: 0, bytes: &self.body }
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    incomplete: BTreeMap<u16, Message>,
}

impl Reassembly {
    /// What of a datagram goes to the library, in this order: each message in the clear by itself
    /// and whole, everything else as it is.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = datagram;
        while let Some((record, next)) = records::split_record(rest) {
            if record.content == CONTENT_HANDSHAKE {
                self.push_record(record.sequence, record.body, &mut out);
            } else {
                out.push(rest[..rest.len() - next.len()].to_vec());
            }
            rest = next;
        }
        if !rest.is_empty() {
            out.push(rest.to_vec());
        }
        out
    }

    fn push_record(&mut self, sequence: [u8; 6], mut body: &[u8], out: &mut Vec<Vec<u8>>) {
        while let Some((fragment, next)) = records::split_fragment(body) {
            if let Some(datagram) = self.take(sequence, &fragment) {
                out.push(datagram);
            }
            body = next;
        }
    }

    fn take(&mut self, sequence: [u8; 6], fragment: &Fragment<'_>) -> Option<Vec<u8>> {
        let seq = fragment.message_seq;
        if fragment.length > MESSAGE_BYTES_MAX || seq >= MESSAGES_MAX {
            return None;
        }
        if fragment.is_whole() {
            self.incomplete.remove(&seq);
            return Some(records::write_fragment(sequence, fragment));
        }
        // A repeat of what was there before is put together again: the library may not have had a use
        // for it, and answers it otherwise.
        let message = self.incomplete.entry(seq).or_default();
        message.take(fragment);
        if message.body().is_some() {
            let message = self.incomplete.remove(&seq)?;
            return Some(records::write_fragment(sequence, &message.whole(seq)));
        }
        if self.incomplete.len() > INCOMPLETE_MAX {
            // The oldest is what remains of a repeat, or comes again.
            self.incomplete.pop_first();
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn part(kind: u8, message_seq: u16, body: &[u8], range: std::ops::Range<usize>) -> Vec<u8> {
        let (length, offset) = (body.len(), range.start);
        let fragment = Fragment { kind, message_seq, length, offset, bytes: &body[range] };
        records::write_fragment([0; 6], &fragment)
    }

    #[test]
    fn what_is_whole_or_protected_passes_as_it_is() {
        let mut reassembly = Reassembly::default();
        let whole = part(11, 1, b"certificate", 0..11);
        let change = records::write_record(20, [0; 6], &[1]);
        let finished = [22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3, 9, 9, 9].to_vec();
        let datagram = [whole.clone(), change.clone(), finished.clone()].concat();
        assert_eq!(reassembly.push(&datagram), [whole, change, finished]);
        let unified = [0x2f, 1, 2, 3].to_vec();
        assert_eq!(reassembly.push(&unified), std::slice::from_ref(&unified));
    }

    #[test]
    fn memory_is_bounded() {
        let mut reassembly = Reassembly::default();
        for seq in 0..200 {
            assert!(reassembly.push(&part(11, seq, &[7; 12_000], 1..3)).is_empty());
            assert!(reassembly.incomplete.len() <= INCOMPLETE_MAX);
        }
        let oversized =
            Fragment { kind: 11, message_seq: 9, length: 1 << 20, offset: 0, bytes: b"x" };
        assert!(reassembly.push(&records::write_fragment([0; 6], &oversized)).is_empty());
    }

    proptest! {
        /// Messages cut at random, overlapping, doubled, in any order: each comes out whole and right
        /// as often as all of its bytes have come, and at the latest when they come in one go.
        #[test]
        fn any_cuts_come_out_whole(
            lengths in prop::collection::vec(1usize..300, 1..5),
            cuts in prop::collection::vec(
                (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1usize..200),
                1..60,
            ),
        ) {
            let bodies: Vec<Vec<u8>> = lengths
                .iter()
                .map(|&length| (0..length).map(|at| (at * 31 + length) as u8).collect())
                .collect();
            let mut reassembly = Reassembly::default();
            let mut have: Vec<Vec<bool>> = bodies.iter().map(|b| vec![false; b.len()]).collect();
            let mut whole = vec![0; bodies.len()];
            let halves = bodies.iter().enumerate().flat_map(|(index, body)| {
                let (len, half) = (body.len(), body.len() / 2);
                [(index, half, len), (index, 0, (half + 1).min(len))]
            });
            let random = cuts.iter().map(|(which, at, len)| {
                let index = which.index(bodies.len());
                let from = at.index(bodies[index].len());
                (index, from, (from + len).min(bodies[index].len()))
            });
            let parts: Vec<_> = random.chain(halves).collect();
            for (index, from, to) in parts {
                let body = &bodies[index];
                have[index][from..to].fill(true);
                let is_complete = have[index].iter().all(|&have| have) || to - from == body.len();
                let out = reassembly.push(&part(11, index as u16, body, from..to));
                prop_assert_eq!(out.len(), usize::from(is_complete));
                for datagram in out {
                    let (record, _) = records::split_record(&datagram).unwrap();
                    let (fragment, _) = records::split_fragment(record.body).unwrap();
                    prop_assert!(fragment.is_whole());
                    prop_assert_eq!(fragment.bytes, &body[..]);
                    have[index].fill(false);
                    whole[index] += 1;
                }
            }
            prop_assert!(whole.iter().all(|&count| count >= 1));
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            Reassembly::default().push(&bytes);
        }
    }
}
