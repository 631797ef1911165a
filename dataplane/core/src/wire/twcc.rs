//! Transport-wide congestion control feedback on the wire
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1): a view over one message, and
//! a writer. Never keeps arrivals: `transport::feedback` does.
//!
//! ```text
//! | base sequence | status count | reference time (24) | feedback count (8) |
//! | packet chunks, 16 bits each ...      | receive deltas, 8 or 16 bits each ... | padding |
//!   run length    |0|S S|  length 13  |
//!   one bit each  |1|0| 14 symbols    |     0 not received, 1 small delta
//!   two bits each |1|1|  7 symbols    |     2 large or negative delta
//! ```

use super::{Full, u16_at, u24_at, writer::Writer};

/// Receive deltas count in 250 us.
pub const TICK_US: i64 = 250;
/// The reference time counts in 64 ms: so many ticks.
pub const REFERENCE_TICKS: i64 = 256;
/// Longest run that one chunk describes.
const RUN_MAX: usize = 0x1fff;

/// Status symbols (section 3.1.1).
const NOT_RECEIVED: u16 = 0;
const SMALL: u16 = 1;
const LARGE: u16 = 2;

/// One feedback message, its chunks and deltas checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feedback<'a> {
    /// Number of the first packet that is described.
    pub base_sequence: u16,
    /// How many packets are described.
    pub status_count: u16,
    /// Signed 24 bits, in 64 ms: the deltas start here.
    pub reference_time: i32,
    /// Counts messages, modulo 256.
    pub feedback_count: u8,
    chunks: &'a [u8],
    deltas: &'a [u8],
}

impl<'a> Feedback<'a> {
    /// Parses what follows the two SSRCs. `None` when chunks or deltas are cut short, or a symbol
    /// is reserved.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let status_count = u16_at(body, 2)?;
        let reference = u24_at(body, 4)?;
        let rest = body.get(8..)?;
        let (mut left, mut at, mut delta_bytes) = (usize::from(status_count), 0, 0);
        while left > 0 {
            let chunk = Chunk(u16_at(rest, at)?);
            at += 2;
            let count = chunk.len().min(left);
            // An empty run would describe nothing, for ever.
            if count == 0 {
                return None;
            }
            delta_bytes += chunk.delta_bytes(count)?;
            left -= count;
        }
        Some(Self {
            base_sequence: u16_at(body, 0)?,
            status_count,
            reference_time: ((reference << 8).cast_signed()) >> 8,
            feedback_count: *body.get(7)?,
            chunks: &rest[..at],
            deltas: rest.get(at..at + delta_bytes)?,
        })
    }

    /// The packets in the order of their numbers.
    #[must_use]
    pub fn packets(&self) -> Packets<'a> {
        Packets {
            chunks: self.chunks,
            deltas: self.deltas,
            chunk: Chunk(0),
            in_chunk: 0,
            sequence: self.base_sequence,
            left: self.status_count,
            ticks: i64::from(self.reference_time) * REFERENCE_TICKS,
        }
    }
}

/// What the receiver says of one packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketStatus {
    /// Transport-wide sequence number.
    pub sequence: u16,
    /// When it arrived, in the receiver's clock; `None` if it did not.
    pub arrival_us: Option<i64>,
}

/// See [`Feedback::packets`].
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    chunks: &'a [u8],
    deltas: &'a [u8],
    chunk: Chunk,
    in_chunk: usize,
    sequence: u16,
    left: u16,
    ticks: i64,
}

impl Iterator for Packets<'_> {
    type Item = PacketStatus;

    fn next(&mut self) -> Option<PacketStatus> {
        self.left = self.left.checked_sub(1)?;
        if self.in_chunk == 0 || self.in_chunk == self.chunk.len() {
            let (chunk, rest) = self.chunks.split_first_chunk()?;
            (self.chunk, self.chunks, self.in_chunk) = (Chunk(u16::from_be_bytes(*chunk)), rest, 0);
        }
        let symbol = self.chunk.symbol(self.in_chunk);
        self.in_chunk += 1;
        let delta = match symbol {
            SMALL => {
                let (&delta, rest) = self.deltas.split_first()?;
                self.deltas = rest;
                Some(i64::from(delta))
            }
            LARGE => {
                let (delta, rest) = self.deltas.split_first_chunk()?;
                self.deltas = rest;
                Some(i64::from(i16::from_be_bytes(*delta)))
            }
            _ => None,
        };
        self.ticks += delta.unwrap_or(0);
        let sequence = self.sequence;
        self.sequence = sequence.wrapping_add(1);
        Some(PacketStatus { sequence, arrival_us: delta.map(|_| self.ticks * TICK_US) })
    }
}

#[derive(Debug, Clone, Copy)]
struct Chunk(u16);

impl Chunk {
    fn len(self) -> usize {
        match self.0 >> 14 {
            0 | 1 => usize::from(self.0) & RUN_MAX,
            2 => 14,
            _ => 7,
        }
    }

    fn symbol(self, index: usize) -> u16 {
        match self.0 >> 14 {
            0 | 1 => self.0 >> 13 & 0x03,
            2 => self.0 >> (13 - index) & 0x01,
            _ => self.0 >> (12 - 2 * index) & 0x03,
        }
    }

    /// Bytes of deltas of the first `count` symbols; `None` for a reserved symbol.
    fn delta_bytes(self, count: usize) -> Option<usize> {
        let size = |symbol| match symbol {
            NOT_RECEIVED => Some(0),
            SMALL => Some(1),
            LARGE => Some(2),
            _ => None,
        };
        if self.0 >> 15 == 0 {
            return Some(size(self.symbol(0))? * count);
        }
        (0..count).try_fold(0, |sum, index| Some(sum + size(self.symbol(index))?))
    }
}

fn symbol_of(status: Option<i16>) -> u16 {
    match status {
        None => NOT_RECEIVED,
        Some(0..=255) => SMALL,
        Some(_) => LARGE,
    }
}

/// The chunk that describes the beginning of `statuses` within so many bytes (deltas included), and
/// how many statuses it takes; `None` when nothing fits.
fn next_chunk(statuses: &[Option<i16>], room: usize) -> Option<(Chunk, usize)> {
    let first = symbol_of(*statuses.first()?);
    let limit = statuses.len().min(RUN_MAX);
    let run = statuses[..limit].iter().take_while(|&&s| symbol_of(s) == first).count();
    let head = &statuses[..statuses.len().min(14)];
    let large = head.iter().any(|&s| symbol_of(s) == LARGE);
    let room = room.checked_sub(2)?;
    if run >= head.len() || large && run >= 7 {
        let fitting = room.checked_div(usize::from(first)).map_or(run, |fitting| run.min(fitting));
        return (fitting > 0).then_some((Chunk(first << 13 | fitting as u16), fitting));
    }
    let (tag, width, capacity) = if large { (0xc000, 2, 7) } else { (0x8000, 1, 14) };
    let bits = (0..capacity).fold(0, |bits, index| {
        bits << width | statuses.get(index).map_or(NOT_RECEIVED, |&s| symbol_of(s))
    });
    let (chunk, taken) = (Chunk(tag | bits), statuses.len().min(capacity));
    (chunk.delta_bytes(taken)? <= room).then_some((chunk, taken))
}

/// All chunks that fit, with their deltas, into `room`.
fn chunks(mut statuses: &[Option<i16>], mut room: usize) -> impl Iterator<Item = (Chunk, usize)> {
    std::iter::from_fn(move || {
        let (chunk, taken) = next_chunk(statuses, room)?;
        statuses = &statuses[taken..];
        room -= 2 + chunk.delta_bytes(taken)?;
        Some((chunk, taken))
    })
}

/// What a written message says besides its statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Number of the first packet that is described.
    pub base_sequence: u16,
    /// Signed 24 bits, in 64 ms.
    pub reference_time: i32,
    /// Counts messages, modulo 256.
    pub feedback_count: u8,
}

/// Writes the part of a feedback message that follows the two SSRCs, without padding, for as many
/// leading `statuses` as fit into `room` bytes (whole chunks): `None` is a packet that did not
/// come, a number is its delta in ticks to the one that came before it in the list (the first: to
/// the reference time). Returns how many statuses were written.
///
/// # Errors
/// [`Full`] when not even the first chunk fits.
pub(crate) fn write(
    writer: &mut Writer<'_>,
    room: usize,
    head: Head,
    statuses: &[Option<i16>],
) -> Result<usize, Full> {
    let room = room.checked_sub(8).ok_or(Full)?;
    let statuses = &statuses[..statuses.len().min(usize::from(u16::MAX))];
    let count: usize = chunks(statuses, room).map(|(_, taken)| taken).sum();
    if count == 0 {
        return Err(Full);
    }
    writer.u16(head.base_sequence)?;
    writer.u16(count as u16)?;
    writer.u24(head.reference_time.cast_unsigned())?;
    writer.u8(head.feedback_count)?;
    for (chunk, _) in chunks(statuses, room) {
        writer.u16(chunk.0)?;
    }
    for delta in statuses[..count].iter().flatten() {
        match u8::try_from(*delta) {
            Ok(small) => writer.u8(small)?,
            Err(_) => writer.put(&delta.to_be_bytes())?,
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn encode(statuses: &[Option<i16>], room: usize) -> Option<(Vec<u8>, usize)> {
        let mut buffer = [0; 4_000];
        let mut writer = Writer::new(&mut buffer[..room]);
        let head = Head { base_sequence: 65_530, reference_time: -5, feedback_count: 9 };
        let count = write(&mut writer, room, head, statuses).ok()?;
        Some((writer.written().to_vec(), count))
    }

    /// What a reader must find for these statuses.
    fn expected(statuses: &[Option<i16>]) -> Vec<PacketStatus> {
        let mut ticks = -5 * REFERENCE_TICKS;
        (0u16..)
            .zip(statuses)
            .map(|(index, status)| {
                ticks += i64::from(status.unwrap_or(0));
                PacketStatus {
                    sequence: 65_530u16.wrapping_add(index),
                    arrival_us: status.map(|_| ticks * TICK_US),
                }
            })
            .collect()
    }

    #[test]
    fn a_long_run_is_one_chunk() {
        let (bytes, count) = encode(&[Some(1); 500], 1_000).unwrap();
        assert_eq!((bytes.len(), count), (8 + 2 + 500, 500));
        assert_eq!(bytes[8..10], [0x21, 0xf4]);
    }

    #[test]
    fn malformed_messages_are_refused() {
        let (bytes, _) = encode(&[Some(1), None, Some(-3), Some(300)], 100).unwrap();
        assert!(Feedback::parse(&bytes).is_some());
        for cut in 0..bytes.len() {
            assert_eq!(Feedback::parse(&bytes[..cut]), None, "{cut}");
        }
        // A run of nothing, and a reserved symbol.
        assert_eq!(Feedback::parse(&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(Feedback::parse(&[0, 0, 0, 1, 0, 0, 0, 0, 0x60, 1, 0, 0]), None);
    }

    fn status() -> impl Strategy<Value = Option<i16>> {
        prop_oneof![
            3 => Just(None),
            6 => (0i16..256).prop_map(Some),
            1 => any::<i16>().prop_map(Some),
        ]
    }

    /// Runs of equal symbols, so that all kinds of chunks occur.
    fn statuses() -> impl Strategy<Value = Vec<Option<i16>>> {
        prop::collection::vec((status(), 1usize..40), 1..40).prop_map(|runs| {
            runs.into_iter().flat_map(|(status, n)| std::iter::repeat_n(status, n)).collect()
        })
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(statuses in statuses(), room in 10usize..2_000) {
            let Some((bytes, count)) = encode(&statuses, room) else {
                prop_assert!(room < 8 + 2 + 2 * 14);
                return Ok(());
            };
            prop_assert!(bytes.len() <= room && count <= statuses.len());
            let feedback = Feedback::parse(&bytes).unwrap();
            prop_assert_eq!(usize::from(feedback.status_count), count);
            prop_assert_eq!((feedback.reference_time, feedback.feedback_count), (-5, 9));
            let read: Vec<_> = feedback.packets().collect();
            prop_assert_eq!(read, expected(&statuses[..count]));
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(feedback) = Feedback::parse(&body) {
                prop_assert_eq!(feedback.packets().count(), usize::from(feedback.status_count));
            }
        }
    }
}
