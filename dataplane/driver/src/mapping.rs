//! Memory mapped for sharing with the kernel. Owns one mapping, gone when it is dropped; who hands
//! it to the kernel sees to the order.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
};

pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    /// Zeroed memory of our own, all of it present.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// What a descriptor has at this offset, shared with the kernel.
    pub(crate) fn of(file: BorrowedFd<'_>, offset: libc::off_t, len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_SHARED, file.as_raw_fd(), offset)
    }

    fn new(len: usize, flags: i32, file: i32, offset: libc::off_t) -> io::Result<Self> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = flags | libc::MAP_POPULATE;
        let anywhere = std::ptr::null_mut();
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let base = unsafe { libc::mmap(anywhere, len, protection, flags, file, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { base, len })
    }

    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Never unmaps: for when the kernel may still write here.
    pub(crate) fn leak(&mut self) {
        self.len = 0;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len == 0 {
            return;
        }
        // SAFETY: exactly what `new` has mapped; nobody uses it any more (see the owner's order).
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
