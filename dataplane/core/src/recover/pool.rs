//! Memory of received packets. Owns buffers of a few sizes that are not in use, lends one per
//! received packet and takes it back when the packet leaves its stream's history: one copy of what
//! came in serves all consumers. Grows with load up to a limit, shrinks again when load goes.

/// The largest packet that is forwarded.
pub const LARGE_BYTES: usize = 1_500;

/// Between audio and full packets lie thumbnails and the parts of evenly cut frames. A packet leaves
/// two fifths of its buffer unused at most.
const SIZES: [usize; 6] = [192, 320, 512, 768, 1_024, LARGE_BYTES];

/// Packet memory.
#[derive(Debug)]
pub struct Pool {
    /// By size.
    spare: [Vec<Box<[u8]>>; SIZES.len()],
    lent: usize,
    lent_max: usize,
}

impl Pool {
    /// At most `lent_max` packets at one time.
    #[must_use]
    pub fn new(lent_max: usize) -> Self {
        Self { spare: Default::default(), lent: 0, lent_max }
    }

    /// A buffer of at least `len` bytes; `None` over the limit or above [`LARGE_BYTES`].
    pub fn take(&mut self, len: usize) -> Option<Box<[u8]>> {
        let class = SIZES.iter().position(|size| len <= *size)?;
        if self.lent >= self.lent_max {
            return None;
        }
        self.lent += 1;
        let buffer = self.spare[class].pop();
        Some(buffer.unwrap_or_else(|| vec![0; SIZES[class]].into_boxed_slice()))
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Box<[u8]>) {
        self.lent -= 1;
        if let Some(class) = SIZES.iter().position(|size| buffer.len() == *size) {
            self.spare[class].push(buffer);
        }
    }

    /// Frees a part of what nobody uses; called about once a second.
    pub fn trim(&mut self) {
        for list in &mut self.spare {
            let keep = list.len() - list.len().div_ceil(4);
            list.truncate(keep.max(64.min(list.len())));
            if list.capacity() > 4 * list.len().max(64) {
                list.shrink_to(2 * list.len());
            }
        }
    }

    /// Packets held now.
    #[must_use]
    pub fn lent(&self) -> usize {
        self.lent
    }

    /// Buffers that nobody uses.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.spare.iter().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_in_their_size_and_the_limit_holds() {
        let mut pool = Pool::new(2);
        let middle = pool.take(400).unwrap();
        assert_eq!(middle.len(), 512);
        pool.give(middle);
        let (a, b) = (pool.take(100).unwrap(), pool.take(1_200).unwrap());
        assert_eq!((a.len(), b.len()), (192, LARGE_BYTES));
        assert!(pool.take(1).is_none());
        pool.give(b);
        assert!(pool.take(LARGE_BYTES + 1).is_none());
        assert_eq!(pool.take(1_500).unwrap().len(), LARGE_BYTES);
        pool.give(a);
        assert_eq!((pool.lent(), pool.spare()), (1, 2));
    }

    #[test]
    fn spare_memory_goes_when_load_goes() {
        let mut pool = Pool::new(10_000);
        let all: Vec<_> = (0..1_000).map(|_| pool.take(1_000).unwrap()).collect();
        all.into_iter().for_each(|buffer| pool.give(buffer));
        for _ in 0..20 {
            pool.trim();
        }
        assert_eq!(pool.spare(), 64);
    }
}
