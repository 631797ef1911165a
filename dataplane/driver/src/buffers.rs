//! The memory that datagrams are received into: one mapping, shared with the kernel, which takes
//! a buffer per datagram by itself. Owned by `Io`; `rx.rs` reads a buffer and gives it back.
//!
//! ```text
//! mapping | ring of free buffers, 16 B each | buffer 0 | buffer 1 | ...          |
//!
//!               kernel takes here (its head)       we give back here (tail)
//!                        v                              v
//! ring    | ...taken... | 7 | 3 | 12 | 0 | ... | 5 | 9 | ...taken... |
//!
//! buffer  | header 16 B | source address | control (time stamp) | datagram     |
//! ```
//! A buffer is either free (in the ring, the kernel's) or taken (ours, between its completion and
//! `recycle`). When none is free, receives end with ENOBUFS, and datagrams wait in their sockets.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::{Submitter, types::BufRingEntry};

/// The kernel's limit of buffers in one ring.
pub(crate) const BUFFERS_MAX: u16 = 32_768;
/// The only group of buffers that a worker has.
pub(crate) const GROUP: u16 = 0;

pub(crate) struct Buffers {
    mapping: *mut u8,
    mapping_bytes: usize,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
}

impl Buffers {
    /// Maps `count` (a power of two) buffers, all of them free. The kernel does not know them yet.
    pub(crate) fn new(count: u16, buffer_bytes: usize) -> io::Result<Self> {
        if !count.is_power_of_two() || count > BUFFERS_MAX || buffer_bytes > 1 << 20 {
            let text = "the number of receive buffers must be a power of two up to 32,768, and \
                        each at most 1 MiB";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let mapping_bytes = usize::from(count) * (size_of::<BufRingEntry>() + buffer_bytes);
        // SAFETY: a new anonymous mapping touches no memory of others; the result is checked.
        let mapping = unsafe {
            libc::mmap(
                ptr::null_mut(),
                mapping_bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if mapping == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let mapping = mapping.cast();
        let mut buffers = Self { mapping, mapping_bytes, count, buffer_bytes, tail: 0 };
        for id in 0..count {
            buffers.recycle(id);
        }
        buffers.publish();
        Ok(buffers)
    }

    /// Tells the kernel. The caller keeps `self` until the ring is gone.
    pub(crate) fn register(&self, submitter: &Submitter<'_>) -> io::Result<()> {
        // SAFETY: the mapping begins with `count` entries, is aligned to a page, and outlives the
        // ring (`Io` drops the ring first, and leaks the mapping if requests could not be ended).
        unsafe { submitter.register_buf_ring(self.mapping as u64, self.count, GROUP) }
    }

    /// The first `len` bytes of a taken buffer. Empty if there is no such buffer.
    pub(crate) fn taken(&mut self, id: u16, len: usize) -> &mut [u8] {
        if id >= self.count {
            return &mut [];
        }
        let start = usize::from(self.count) * size_of::<BufRingEntry>()
            + usize::from(id) * self.buffer_bytes;
        // SAFETY: the range lies within the mapping. The kernel writes to a buffer only while it
        // is free, and this one is not: its completion was seen and `recycle` comes later.
        unsafe { std::slice::from_raw_parts_mut(self.mapping.add(start), len.min(self.buffer_bytes)) }
    }

    /// Makes a taken buffer free; the kernel sees it after [`Buffers::publish`].
    pub(crate) fn recycle(&mut self, id: u16) {
        if id >= self.count {
            return;
        }
        let start = usize::from(self.count) * size_of::<BufRingEntry>()
            + usize::from(id) * self.buffer_bytes;
        let place = usize::from(self.tail & (self.count - 1));
        // SAFETY: `place` is below `count`, so the entry lies in the mapping; the kernel does not
        // read entries beyond the published tail. The tail itself shares memory with the reserved
        // field of entry 0, which these setters leave alone.
        unsafe {
            let entry = &mut *self.mapping.cast::<BufRingEntry>().add(place);
            entry.set_addr(self.mapping.add(start) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel what was recycled.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the mapping begins with a valid entry; its tail field is two bytes, aligned, and
        // shared with the kernel, hence atomic. Release: entries are written before the tail.
        unsafe {
            let tail = BufRingEntry::tail(self.mapping.cast()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours and no slice of it is alive; the ring is gone (see `Io`).
        unsafe { libc::munmap(self.mapping.cast(), self.mapping_bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_do_not_overlap_and_unknown_ones_are_empty() {
        let mut buffers = Buffers::new(4, 512).unwrap();
        for id in 0..4 {
            buffers.taken(id, 512).fill(id as u8 + 1);
        }
        for id in 0..4 {
            assert!(buffers.taken(id, 600).iter().all(|&byte| byte == id as u8 + 1));
            assert_eq!(buffers.taken(id, 600).len(), 512);
        }
        assert!(buffers.taken(4, 10).is_empty());
        buffers.recycle(4);
        assert_eq!(buffers.tail, 4);
        assert!(Buffers::new(3, 512).is_err());
    }
}
