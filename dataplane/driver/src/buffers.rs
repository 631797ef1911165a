//! Receive buffers that the kernel picks from (provided buffer ring). Owns their memory; lends one
//! at a time as a slice, between a completion and the moment it is handed back.
//!
//! ```text
//! ring   | addr len bid | addr len bid | ...      tail ->       (shared with the kernel)
//! memory |  buffer 0    |  buffer 1    |  buffer 2  | ...       bid * buffer_bytes
//! ```

use std::{
    io,
    sync::atomic::{AtomicU16, Ordering},
};

use io_uring::{Submitter, types::BufRingEntry};

use crate::mapping::Mapping;

/// See the file's head.
pub(crate) struct Buffers {
    ring: Mapping,
    memory: Mapping,
    count: u16,
    bytes: usize,
    tail: u16,
}

/// The only group that we use.
pub(crate) const GROUP: u16 = 0;

impl Buffers {
    /// `count`: a power of two up to 32,768.
    pub(crate) fn new(count: u16, bytes: usize) -> io::Result<Self> {
        // All of it is there from the start: no page is missing when a datagram comes, and what the
        // process takes does not grow with the first calls.
        let ring = Mapping::anonymous(usize::from(count) * size_of::<BufRingEntry>())?;
        let memory = Mapping::anonymous(usize::from(count) * bytes)?;
        Ok(Self { ring, memory, count, bytes, tail: 0 })
    }

    /// Tells the kernel, and hands all buffers over.
    pub(crate) fn register(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        let address = self.ring.base().as_ptr() as u64;
        self.tail = 0;
        self.publish();
        // SAFETY: the mapping is page aligned, large enough for `count` entries, and outlives the
        // ring: the owner drops the ring first.
        unsafe { submitter.register_buf_ring_with_flags(address, self.count, GROUP, 0)? };
        for bid in 0..self.count {
            self.give_back(bid);
        }
        Ok(())
    }

    /// Bytes of one.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The bytes that the kernel has filled.
    pub(crate) fn filled(&mut self, bid: u16, len: usize) -> &mut [u8] {
        let len = len.min(self.bytes);
        let bid = usize::from(bid % self.count);
        // SAFETY: in bounds of `memory`; the kernel does not touch a buffer between its completion
        // and `give_back`, and `&mut self` keeps this the only slice.
        unsafe {
            std::slice::from_raw_parts_mut(self.memory.base().as_ptr().add(bid * self.bytes), len)
        }
    }

    /// Never unmaps: for when the kernel may still write here.
    pub(crate) fn leak(&mut self) {
        self.ring.leak();
        self.memory.leak();
    }

    /// The kernel may fill it again.
    pub(crate) fn give_back(&mut self, bid: u16) {
        if bid >= self.count {
            return;
        }
        let entries = self.ring.base().cast::<BufRingEntry>();
        let at = usize::from(self.tail & (self.count - 1));
        // SAFETY: `at` is below `count`, so the entry is inside the mapping; the kernel reads an
        // entry only after the tail below has passed it.
        let entry = unsafe { &mut *entries.as_ptr().add(at) };
        let offset = usize::from(bid) * self.bytes;
        entry.set_addr(self.memory.base().as_ptr() as u64 + offset as u64);
        entry.set_len(self.bytes as u32);
        entry.set_bid(bid);
        self.tail = self.tail.wrapping_add(1);
        self.publish();
    }

    /// Takes all buffers back and hands them over again: after completions were lost, nobody knows
    /// which of them the kernel has filled. No receive may be under way, and completions from before
    /// are void.
    pub(crate) fn register_anew(&mut self, submitter: &Submitter<'_>) -> io::Result<()> {
        submitter.unregister_buf_ring(GROUP)?;
        self.register(submitter)
    }

    /// Shows the kernel how many there are.
    fn publish(&self) {
        let entries = self.ring.base().cast::<BufRingEntry>();
        // SAFETY: the tail lies inside the first entry of the mapping; it is shared with the
        // kernel, hence atomic, and released after the entry above.
        unsafe {
            let tail = BufRingEntry::tail(entries.as_ptr()).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
