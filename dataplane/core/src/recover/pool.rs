//! Memory of received packets. Owns buffers of two sizes that are not in use, lends one per
//! received packet and takes it back when the packet leaves its stream's history: one copy of what
//! came in serves all consumers. Grows with load up to a limit, shrinks again when load goes.

/// Fits audio and the last packet of most thumbnails.
pub const SMALL_BYTES: usize = 320;
/// The largest packet that is forwarded.
pub const LARGE_BYTES: usize = 1_500;

/// Packet memory.
#[derive(Debug)]
pub struct Pool {
    small: Vec<Box<[u8]>>,
    large: Vec<Box<[u8]>>,
    lent: usize,
    lent_max: usize,
}

impl Pool {
    /// At most `lent_max` packets at one time.
    #[must_use]
    pub fn new(lent_max: usize) -> Self {
        Self { small: Vec::new(), large: Vec::new(), lent: 0, lent_max }
    }

    /// A buffer of at least `len` bytes; `None` over the limit or above [`LARGE_BYTES`].
    pub fn take(&mut self, len: usize) -> Option<Box<[u8]>> {
        if self.lent >= self.lent_max || len > LARGE_BYTES {
            return None;
        }
        self.lent += 1;
        let (list, size) = if len <= SMALL_BYTES {
            (&mut self.small, SMALL_BYTES)
        } else {
            (&mut self.large, LARGE_BYTES)
        };
        Some(list.pop().unwrap_or_else(|| vec![0; size].into_boxed_slice()))
    }

    /// Takes a buffer back.
    pub fn give(&mut self, buffer: Box<[u8]>) {
        self.lent -= 1;
        match buffer.len() {
            SMALL_BYTES => self.small.push(buffer),
            _ => self.large.push(buffer),
        }
    }

    /// Frees a part of what nobody uses; called about once a second.
    pub fn trim(&mut self) {
        for list in [&mut self.small, &mut self.large] {
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
        self.small.len() + self.large.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_in_their_size_and_the_limit_holds() {
        let mut pool = Pool::new(2);
        let (a, b) = (pool.take(100).unwrap(), pool.take(1_200).unwrap());
        assert_eq!((a.len(), b.len()), (SMALL_BYTES, LARGE_BYTES));
        assert!(pool.take(1).is_none());
        pool.give(b);
        assert!(pool.take(LARGE_BYTES + 1).is_none());
        assert_eq!(pool.take(1_500).unwrap().len(), LARGE_BYTES);
        pool.give(a);
        assert_eq!((pool.lent(), pool.spare()), (1, 1));
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
