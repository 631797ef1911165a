//! What a request names its socket by: an entry of the ring's table of registered files, or its
//! descriptor. Decided once for each ring, by what the kernel does with an entry that is taken out.
//!
//! Before 6.13 every request holds the table's past: what is taken out is let go only when every
//! request has ended that was made before. Ours last as long as their sockets, so a closed
//! connection would stay open for its peer, and a closed path would go on taking its peer's
//! datagrams. A descriptor is let go with the last request of its own socket.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{IoUring, opcode, types};

/// One or the other.
#[derive(Debug, Clone, Copy)]
pub(crate) enum File {
    Registered(types::Fixed),
    Descriptor(types::Fd),
}

impl File {
    /// Of a slot; `socket` is its descriptor, where it is kept.
    pub(crate) fn new(is_registered: bool, slot: u32, socket: Option<&OwnedFd>) -> Self {
        if is_registered {
            return Self::Registered(types::Fixed(slot));
        }
        Self::Descriptor(types::Fd(socket.map_or(-1, AsRawFd::as_raw_fd)))
    }
}

/// The entry of a request on a [`File`]: `on!(file, |file| opcode::Send::new(file, ..).build())`.
macro_rules! on {
    ($file:expr, |$name:ident| $entry:expr) => {
        match $file {
            $crate::files::File::Registered($name) => $entry,
            $crate::files::File::Descriptor($name) => $entry,
        }
    };
}
pub(crate) use on;

/// Whether the kernel lets go of what is taken out of a table while an older request on another
/// entry lasts.
pub(crate) fn table_lets_go() -> io::Result<bool> {
    let mut uring = IoUring::new(2)?;
    uring.submitter().register_files_sparse(2)?;
    let (lasting, _other_end) = io::pipe()?;
    uring.submitter().register_files_update(0, &[lasting.as_raw_fd()])?;
    let poll = opcode::PollAdd::new(types::Fixed(0), libc::POLLIN as u32).build();
    // SAFETY: a poll has no memory.
    unsafe { uring.submission().push(&poll) }.map_err(io::Error::other)?;
    uring.submit()?;
    let (reader, mut writer) = io::pipe()?;
    uring.submitter().register_files_update(1, &[reader.as_raw_fd()])?;
    drop(reader);
    uring.submitter().register_files_update(1, &[-1])?;
    // A pipe that nobody can read any more takes nothing.
    match writer.write(&[0]) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        Err(error) => Err(error),
    }
}
