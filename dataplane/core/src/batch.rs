//! What the core fills and the driver empties: datagrams laid back to back in slabs, and the list
//! of sends that cuts them by destination. Owns no socket and frees no memory: a slab leaves with
//! the sends that read it, and the driver brings it back when its last send has completed.
//!
//! ```text
//! slab   | a1 | a2 | a3 | b1 | b2 | c1 |        free space        |
//! sends  '-- path A ----'-- path B-'-C-'
//!           segment 1112   1112     180
//! ```
//! One send is one destination and one size: the driver hands it to the kernel as a single
//! segmented send (UDP_SEGMENT). The last segment may be shorter.

/// A connected socket of one peer, made by the driver. The generation tells a path apart from an
/// older one that had the same slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathId {
    /// Index in the driver's table.
    pub slot: u32,
    /// How often that slot was used before.
    pub generation: u32,
}

/// What a datagram is worth where a peer's connection takes no more: the first is given up first.
/// Only streams are asked; datagrams for all other paths are of the same one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Comes again when it is asked for.
    Video,
    /// Is missed at once.
    Audio,
    /// Answers to checks, RTCP, DTLS: keeps everything else going.
    #[default]
    Control,
}

/// A listening socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub u32);

/// Bytes of one slab: a segmented send is at most 65,507.
pub const SLAB_BYTES: usize = 64 << 10;
/// The kernel's limit of segments in one send (UDP_MAX_SEGMENTS since 6.9 is 128; 64 before).
pub const SEGMENTS_MAX: u16 = 64;
/// The kernel's limit of payload in one send.
pub const SEND_BYTES_MAX: usize = 65_507;

/// What the list of sends is made for from the start: so many bytes of datagrams of audio.
const SENDS_BYTES_MAX: usize = 1 << 20;
const SMALL_DATAGRAM: usize = 100;

/// Memory that outgoing datagrams are written into.
#[derive(Debug)]
pub struct Slab {
    /// `SLAB_BYTES` long, at an address that never changes.
    pub bytes: Box<[u8]>,
}

/// One destination, one size, one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SendRun {
    /// Where to.
    pub path: PathId,
    /// Index in [`Batch::filled`].
    pub slab: u32,
    /// First byte in the slab.
    pub offset: u32,
    /// All bytes.
    pub len: u32,
    /// Bytes of each datagram but the last, which may be shorter; equal to `len` for a single one.
    pub segment: u16,
    /// Datagrams.
    pub count: u16,
    /// Of all of them.
    pub class: Class,
}

/// The output of one turn, or of a part of it.
#[derive(Debug)]
pub struct Batch {
    /// Empty slabs, lent by the driver before the turn.
    pub free: Vec<Slab>,
    /// Slabs with content, in the order in which they were filled.
    pub filled: Vec<Slab>,
    /// What to send, in order.
    pub sends: Vec<SendRun>,
    used: usize,
    written: usize,
    portion_bytes: usize,
    /// Datagrams that found no free slab: counted, dropped.
    pub exhausted: u64,
    /// Of what is committed now.
    pub class: Class,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new(Vec::new())
    }
}

impl Batch {
    /// An empty batch with slabs to fill, in one portion.
    #[must_use]
    pub fn new(free: Vec<Slab>) -> Self {
        Self {
            free,
            filled: Vec::new(),
            sends: Vec::new(),
            used: 0,
            written: 0,
            portion_bytes: usize::MAX,
            exhausted: 0,
            class: Class::default(),
        }
    }

    /// After so many bytes it is time to send what is there, while it is still in the processor's
    /// cache: written, sealed and copied by the kernel without a way to memory in between.
    #[must_use]
    pub fn with_portions_of(mut self, bytes: usize) -> Self {
        self.portion_bytes = bytes;
        // As many as a portion of small datagrams has, so that the list does not grow while
        // packets are forwarded.
        self.sends.reserve(bytes.min(SENDS_BYTES_MAX) / SMALL_DATAGRAM);
        self
    }

    /// What took as long as writing so many bytes, and wrote none.
    pub(crate) fn work(&mut self, bytes: usize) {
        self.written += bytes;
    }

    /// True when enough was written to be sent before more is.
    #[must_use]
    pub fn is_portion(&self) -> bool {
        self.written >= self.portion_bytes
    }

    /// What follows are about `len` bytes for one destination: where the slab has no room for them
    /// they begin in the next one, because no send spans two.
    pub fn begin_run(&mut self, len: usize) {
        if self.used + len > SLAB_BYTES && len <= SLAB_BYTES && !self.free.is_empty() {
            self.used = SLAB_BYTES;
        }
    }

    /// Space for one datagram of at most `len` bytes for `path`; [`Batch::commit`] makes it part
    /// of the output. `None` when all slabs are in flight: the datagram is dropped and counted.
    pub fn reserve(&mut self, len: usize) -> Option<&mut [u8]> {
        if self.filled.is_empty() || self.used + len > SLAB_BYTES {
            let Some(slab) = self.free.pop() else {
                self.exhausted += 1;
                return None;
            };
            self.filled.push(slab);
            self.used = 0;
        }
        let start = self.used;
        self.filled.last_mut()?.bytes.get_mut(start..start + len)
    }

    /// Commits the first `len` bytes of what [`Batch::reserve`] gave as one datagram for `path`.
    /// Returns where they lie: index in `filled`, and offset.
    pub fn commit(&mut self, path: PathId, len: usize) -> (u32, u32) {
        let slab = self.filled.len().saturating_sub(1) as u32;
        let offset = self.used as u32;
        self.used += len;
        self.written += len;
        if let Some(last) = self.sends.last_mut()
            && last.path == path
            && last.class == self.class
            && last.slab == slab
            && last.offset + last.len == offset
            && last.count < SEGMENTS_MAX
            && last.len as usize + len <= SEND_BYTES_MAX
            && last.len == u32::from(last.segment) * u32::from(last.count)
            && len <= last.segment as usize
        {
            last.len += len as u32;
            last.count += 1;
        } else {
            let len16 = len as u16;
            let len = len as u32;
            let class = self.class;
            self.sends.push(SendRun { path, slab, offset, len, segment: len16, count: 1, class });
        }
        (slab, offset)
    }

    /// True when there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sends.is_empty()
    }

    /// Forgets the output after the driver has taken `filled` and `sends`.
    pub fn clear(&mut self) {
        self.sends.clear();
        self.used = 0;
        self.written = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: PathId = PathId { slot: 1, generation: 0 };
    const B: PathId = PathId { slot: 2, generation: 0 };

    fn batch(slabs: u32) -> Batch {
        let free =
            (0..slabs).map(|_| Slab { bytes: vec![0; SLAB_BYTES].into_boxed_slice() }).collect();
        Batch::new(free)
    }

    fn put(batch: &mut Batch, path: PathId, len: usize) {
        assert!(batch.reserve(len).is_some());
        batch.commit(path, len);
    }

    #[test]
    fn equal_sizes_to_one_destination_are_one_send_and_a_shorter_one_ends_it() {
        let mut batch = batch(1);
        for len in [1000, 1000, 990, 1000] {
            put(&mut batch, A, len);
        }
        put(&mut batch, B, 1000);
        let counts: Vec<_> = batch.sends.iter().map(|s| (s.count, s.segment, s.len)).collect();
        assert_eq!(counts, [(3, 1000, 2990), (1, 1000, 1000), (1, 1000, 1000)]);
    }

    #[test]
    fn what_is_of_another_class_is_another_send() {
        let mut batch = batch(1);
        for (class, len) in [(Class::Video, 1000), (Class::Video, 1000), (Class::Audio, 90)] {
            batch.class = class;
            put(&mut batch, A, len);
        }
        let sends: Vec<_> = batch.sends.iter().map(|s| (s.class, s.count)).collect();
        assert_eq!(sends, [(Class::Video, 2), (Class::Audio, 1)]);
    }

    #[test]
    fn a_run_that_does_not_fit_begins_in_the_next_slab() {
        let mut batch = batch(2);
        for _ in 0..3 {
            batch.begin_run(25_000);
            for _ in 0..25 {
                put(&mut batch, A, 1_000);
            }
        }
        let sends: Vec<_> = batch.sends.iter().map(|s| (s.slab, s.offset, s.count)).collect();
        assert_eq!(sends, [(0, 0, 50), (1, 0, 25)]);
        // What no slab can hold is cut wherever a slab ends.
        batch.begin_run(SLAB_BYTES + 1);
        put(&mut batch, A, 1_000);
        assert_eq!(batch.sends.len(), 2);
    }

    #[test]
    fn a_portion_is_full_after_its_bytes() {
        let mut batch = batch(1).with_portions_of(1_500);
        put(&mut batch, A, 1_000);
        assert!(!batch.is_portion());
        put(&mut batch, B, 1_000);
        assert!(batch.is_portion());
        batch.clear();
        assert!(!batch.is_portion());
    }

    #[test]
    fn no_send_spans_two_slabs_and_exhaustion_is_counted() {
        let mut batch = batch(2);
        for _ in 0..(2 * (SLAB_BYTES / 1200)) {
            put(&mut batch, A, 1200);
        }
        assert_eq!(batch.filled.len(), 2);
        assert!(batch.reserve(1200).is_none());
        assert_eq!(batch.exhausted, 1);
        assert!(batch.sends.iter().all(|s| (s.offset + s.len) as usize <= SLAB_BYTES));
        assert!(batch.sends.iter().all(|s| s.count <= SEGMENTS_MAX));
    }
}
