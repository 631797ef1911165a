//! One AF_XDP socket that only sends: its frames, and the two rings that it shares with the kernel.
//! Used by one thread.
//!
//! ```text
//! free --frame()--> being written --commit()--> transmit ring --kick()--> kernel
//!   ^                                                                        |
//!   '------------------ completion ring <------ it has left the host --------'
//! ```
//! In copy mode the kernel copies a frame inside of the `sendto` that kicks it, without a driver's
//! help, so it works on every interface; what the interface receives stays as it was.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{mapping::Mapping, sockets::set_option, without::Without};

/// Bytes of one frame, headers included.
pub(crate) const FRAME_BYTES: usize = 2_048;
/// Frames of a socket, and entries of both rings: there is always room for every frame.
const FRAMES: u32 = 2_048;
/// Queues of an interface that are looked at for a free one.
const QUEUES_MAX: u32 = 1_024;
/// Frames that one `sendto` may take (XDP_MAX_TX_SKB_BUDGET of newer kernels; 32 without).
const BUDGET: u32 = FRAMES;
const MAX_TX_SKB_BUDGET: libc::c_int = 9;
const SEND_BYTES: libc::c_int = 8 << 20;

/// A ring of which we write one end and the kernel the other.
struct Ring {
    mapping: Mapping,
    offsets: libc::xdp_ring_offset,
}

impl Ring {
    fn index(&self, offset: u64) -> &AtomicU32 {
        // SAFETY: the kernel says where in the mapping, which is as long as the ring, the index
        // lies; both sides touch it by atomic operations only, as long as the mapping lives.
        unsafe { self.mapping.base().add(offset as usize).cast().as_ref() }
    }

    fn producer(&self) -> &AtomicU32 {
        self.index(self.offsets.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.index(self.offsets.consumer)
    }

    /// The entry with this number; `T` is what the ring consists of.
    fn entry<T>(&self, number: u32) -> *mut T {
        let offset = self.offsets.desc as usize + (number % FRAMES) as usize * size_of::<T>();
        // SAFETY: below `FRAMES` entries behind the start of the entries: inside of the mapping.
        unsafe { self.mapping.base().as_ptr().add(offset).cast() }
    }
}

/// See the file's head. Closed before its memory goes; the kernel holds the pages of frames that
/// are still on their way.
pub(crate) struct XdpSocket {
    socket: OwnedFd,
    transmit: Ring,
    completion: Ring,
    frames: Mapping,
    /// Offsets of frames that nobody uses.
    free: Vec<u64>,
    /// Number of the next entry of the transmit ring.
    next: u32,
}

impl XdpSocket {
    /// On the first queue of an interface that no other socket of this kind has.
    ///
    /// # Errors
    /// EPERM without CAP_NET_RAW, EBUSY when all queues are taken, ENOBUFS beyond the limit of
    /// locked memory, EAFNOSUPPORT from a kernel without AF_XDP.
    pub(crate) fn open(interface: u32, without: Without) -> io::Result<Self> {
        let mut queue = 0;
        loop {
            // A socket that failed to bind is of no use for another queue.
            match Self::open_on(interface, queue, without) {
                Err(error) if is(&error, libc::EBUSY) && queue < QUEUES_MAX => queue += 1,
                // Queues that are not there: those that are were busy.
                Err(error) if is(&error, libc::EINVAL) && queue > 0 => {
                    return Err(io::Error::from_raw_os_error(libc::EBUSY));
                }
                result => return result,
            }
        }
    }

    /// Whether one could be opened at all, on whatever interface.
    ///
    /// # Errors
    /// As of [`XdpSocket::open`], but those that an interface is to blame for.
    pub(crate) fn probe() -> io::Result<()> {
        unbound().map(drop)
    }

    fn open_on(interface: u32, queue: u32, without: Without) -> io::Result<Self> {
        let (socket, frames) = unbound()?;
        set_option(&socket, libc::SOL_XDP, libc::XDP_UMEM_COMPLETION_RING, &FRAMES)?;
        // Nothing is received, but memory without this ring is refused.
        set_option(&socket, libc::SOL_XDP, libc::XDP_UMEM_FILL_RING, &1u32)?;
        set_option(&socket, libc::SOL_XDP, libc::XDP_TX_RING, &FRAMES)?;
        // Optional: smaller batches, and a smaller buffer, work too.
        if !without.xdp_budget {
            let _ = set_option(&socket, libc::SOL_XDP, MAX_TX_SKB_BUDGET, &BUDGET);
        }
        if set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BYTES).is_err() {
            let _ = set_option(&socket, libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BYTES);
        }
        let offsets = offsets(&socket)?;
        let ring = |at: libc::off_t, offsets: libc::xdp_ring_offset, entry: usize| {
            let len = offsets.desc as usize + FRAMES as usize * entry;
            Mapping::of(socket.as_fd(), at, len).map(|mapping| Ring { mapping, offsets })
        };
        let transmit = ring(libc::XDP_PGOFF_TX_RING, offsets.tx, size_of::<libc::xdp_desc>())?;
        let at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        let completion = ring(at, offsets.cr, size_of::<u64>())?;
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY,
            sxdp_ifindex: interface,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: 0,
        };
        // SAFETY: a valid descriptor, and an address of the length given.
        let bound = unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        };
        if bound != 0 {
            return Err(io::Error::last_os_error());
        }
        let free = (0..u64::from(FRAMES)).map(|frame| frame * FRAME_BYTES as u64).collect();
        Ok(Self { socket, transmit, completion, frames, free, next: 0 })
    }

    /// How many frames can be written now.
    pub(crate) fn room(&mut self) -> usize {
        let end = self.completion.producer().load(Ordering::Acquire);
        let mut next = self.completion.consumer().load(Ordering::Relaxed);
        // Never more than there are, whatever the index says.
        while next != end && self.free.len() < FRAMES as usize {
            // SAFETY: a valid entry, which the kernel wrote before it moved its index beyond.
            let offset: u64 = unsafe { self.completion.entry::<u64>(next).read() };
            self.free.push(offset % (u64::from(FRAMES) * FRAME_BYTES as u64));
            next = next.wrapping_add(1);
        }
        self.completion.consumer().store(next, Ordering::Release);
        self.free.len()
    }

    /// A frame of `len` bytes for `write` to fill, put in line. False without a free frame.
    pub(crate) fn push(&mut self, len: usize, write: impl FnOnce(&mut [u8])) -> bool {
        if len > FRAME_BYTES {
            return false;
        }
        let Some(offset) = self.free.pop() else { return false };
        // SAFETY: inside of the frames, since offsets are below their length less a frame; a frame
        // that is off the free list is used by nobody else until the kernel completes it.
        let frame = unsafe {
            std::slice::from_raw_parts_mut(self.frames.base().as_ptr().add(offset as usize), len)
        };
        write(frame);
        let entry = libc::xdp_desc { addr: offset, len: len as u32, options: 0 };
        // SAFETY: a valid entry, which the kernel reads only after `kick` has moved our index: as
        // many entries as frames, so none is written while it waits.
        unsafe { self.transmit.entry::<libc::xdp_desc>(self.next).write(entry) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// True while frames wait for a kick.
    pub(crate) fn is_pending(&self) -> bool {
        self.transmit.consumer().load(Ordering::Acquire) != self.next
    }

    /// Sends what is in line; counts its system calls. What finds no room in the interface stays for
    /// the next kick.
    ///
    /// # Errors
    /// ENETDOWN, ENXIO: the interface is down or gone, and this socket with it.
    pub(crate) fn kick(&mut self, calls: &mut u64) -> io::Result<()> {
        self.transmit.producer().store(self.next, Ordering::Release);
        let mut before = self.transmit.consumer().load(Ordering::Acquire);
        while before != self.next {
            *calls += 1;
            // SAFETY: no memory is involved: the kernel reads the ring.
            let result = unsafe {
                libc::sendto(
                    self.socket.as_raw_fd(),
                    std::ptr::null(),
                    0,
                    libc::MSG_DONTWAIT,
                    std::ptr::null(),
                    0,
                )
            };
            if result < 0 {
                let error = io::Error::last_os_error();
                // Not "a batch is done", "no room".
                let is_passing = matches!(
                    error.raw_os_error(),
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS)
                );
                if !is_passing {
                    return Err(error);
                }
            }
            let after = self.transmit.consumer().load(Ordering::Acquire);
            if after == before {
                return Ok(());
            }
            before = after;
        }
        Ok(())
    }
}

/// A socket with its frames.
fn unbound() -> io::Result<(OwnedFd, Mapping)> {
    // SAFETY: no memory is involved.
    let socket = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if socket < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just opened, owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(socket) };
    let frames = Mapping::anonymous(FRAMES as usize * FRAME_BYTES)?;
    // SAFETY: all-zero is valid: no headroom, no flags.
    let mut memory: libc::xdp_umem_reg = unsafe { std::mem::zeroed() };
    memory.addr = frames.base().as_ptr() as u64;
    memory.len = u64::from(FRAMES) * FRAME_BYTES as u64;
    memory.chunk_size = FRAME_BYTES as u32;
    set_option(&socket, libc::SOL_XDP, libc::XDP_UMEM_REG, &memory)?;
    Ok((socket, frames))
}

fn is(error: &io::Error, number: i32) -> bool {
    error.raw_os_error() == Some(number)
}

fn offsets(socket: &OwnedFd) -> io::Result<libc::xdp_mmap_offsets> {
    // SAFETY: plain numbers: all-zero is valid.
    let mut offsets: libc::xdp_mmap_offsets = unsafe { std::mem::zeroed() };
    let mut len = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
    // SAFETY: a valid descriptor, and `len` writable bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            (&raw mut offsets).cast(),
            &raw mut len,
        )
    };
    if result == 0 { Ok(offsets) } else { Err(io::Error::last_os_error()) }
}
