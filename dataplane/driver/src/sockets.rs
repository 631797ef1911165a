//! Sockets: how listeners and paths are made, and the tables of those that are open. Owned by
//! `Io`; sends and receives nothing (but what a new path got before it was connected).
//!
//! A socket lives in the ring's table of registered files; its descriptor is closed at once, so
//! that RLIMIT_NOFILE limits nothing but the size of that table:
//!
//! ```text
//! table | listener 0 | listener 1 | ... | path 0 | path 1 | ...     |
//!         0                               listeners_max
//! ```
//! A **listener** binds a local address. A **path** binds the wildcard and the same port, connects
//! and checks which source address the route chose: bound to the specific address, it would take
//! the datagrams of strangers from the listener until it is connected. Only where the route chose
//! another source (a peer on this machine, several addresses) it binds the specific address, and
//! what it got before the connect is handed on.
//!
//! ```text
//! path slot   free --open--> open --close--> closing --last completion--> free, generation + 1
//! ```

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use ironcast_core::batch::{ListenerId, PathId};
use socket2::{Domain, Protocol, Socket, Type};

/// Datagrams that a path may have got before it was connected; more are dropped.
const STRAYS_MAX: usize = 64;
/// Generations as they fit into the ring's user data.
pub(crate) const GENERATION_MASK: u32 = 0x0fff_ffff;

/// A datagram that came before the connect, and its source.
pub(crate) type Stray = (SocketAddr, Vec<u8>);

/// Sizes of socket buffers; the kernel caps them at `net.core.rmem_max` and `wmem_max`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BufferSizes {
    pub(crate) receive_bytes: u32,
    pub(crate) send_bytes: u32,
}

/// Raises RLIMIT_NOFILE to its hard limit and returns that.
pub fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the call to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is a valid rlimit.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_max)
}

/// A bound UDP socket that shares its port: for listeners that belong to the process.
pub fn bind_listener(local: SocketAddr) -> io::Result<Socket> {
    bind(local)
}

fn bind(local: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    set_timestamps(&socket)?;
    socket.bind(&local.into())?;
    Ok(socket)
}

pub(crate) fn set_timestamps(socket: &Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the option reads one int, which lives for the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

pub(crate) fn set_buffers(socket: &Socket, sizes: BufferSizes) {
    // Too much is capped by the kernel, not refused; there is nothing to do about other errors.
    let _ = socket.set_recv_buffer_size(sizes.receive_bytes as usize);
    let _ = socket.set_send_buffer_size(sizes.send_bytes as usize);
}

/// A socket of one peer, and what it got from anybody before it was connected.
pub(crate) fn connect(
    local: SocketAddr,
    remote: SocketAddr,
    sizes: BufferSizes,
) -> io::Result<(Socket, Vec<Stray>)> {
    if local.is_ipv4() != remote.is_ipv4() {
        let text = "local and remote address of a path differ in family";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let wildcard: IpAddr = match local {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = connect_from(SocketAddr::new(wildcard, local.port()), remote, sizes)?;
    if !local.ip().is_unspecified() {
        let chosen = socket.local_addr()?.as_socket().map(|address| address.ip());
        if chosen != Some(local.ip()) {
            drop(socket);
            let socket = connect_from(local, remote, sizes)?;
            let strays = drain(&socket);
            return Ok((socket, strays));
        }
    }
    let strays = drain(&socket);
    Ok((socket, strays))
}

fn connect_from(
    local: SocketAddr,
    remote: SocketAddr,
    sizes: BufferSizes,
) -> io::Result<Socket> {
    let socket = bind(local)?;
    socket.connect(&remote.into())?;
    set_buffers(&socket, sizes);
    Ok(socket)
}

fn drain(socket: &Socket) -> Vec<Stray> {
    let mut strays = Vec::new();
    let mut buffer = [MaybeUninit::new(0u8); 2048];
    while strays.len() < STRAYS_MAX
        && let Ok((len, from)) = socket.recv_from_with_flags(&mut buffer, libc::MSG_DONTWAIT)
    {
        // SAFETY: every byte was initialised above, and a receive only ever writes bytes.
        let datagram = buffer[..len].iter().map(|byte| unsafe { byte.assume_init() }).collect();
        if let Some(from) = from.as_socket() {
            strays.push((from, datagram));
        }
    }
    strays
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Open,
    /// Closed, the last completion of its receive is still to come.
    Closing,
}

/// What listeners and paths have in common.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    pub(crate) generation: u32,
    /// A receive is queued or in the kernel.
    pub(crate) armed: bool,
    /// Receives that ended since the last datagram.
    pub(crate) ends: u32,
    /// ICMP errors since the last datagram.
    pub(crate) refusals: u32,
    /// The address of a listener, the source address of a path.
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// False once the kernel refused a segmented send.
    pub(crate) segmentation: bool,
    /// Kept only where system calls send: the descriptor to send by.
    pub(crate) socket: Option<Socket>,
}

/// A table of slots, free ones reused.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    /// Closed without a receive to wait for: free after the next submit, since requests for the
    /// old socket may still be queued.
    retired: Vec<u32>,
    max: u32,
    /// Place of slot 0 in the table of registered files.
    pub(crate) first_file: u32,
}

impl Table {
    pub(crate) fn new(max: u32, first_file: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), retired: Vec::new(), max, first_file }
    }

    /// Takes a free slot.
    pub(crate) fn take(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<u32> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if (self.slots.len() as u32) < self.max => self.slots.len() as u32,
            None => {
                let text = "all sockets of this worker are in use";
                return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text));
            }
        };
        let generation = self
            .slots
            .get(index as usize)
            .map_or(0, |slot| slot.generation.wrapping_add(1) & GENERATION_MASK);
        let slot = Slot {
            state: State::Open,
            generation,
            armed: false,
            ends: 0,
            refusals: 0,
            local,
            remote,
            segmentation: true,
            socket: None,
        };
        match self.slots.get_mut(index as usize) {
            Some(place) => *place = slot,
            None => self.slots.push(slot),
        }
        Ok(index)
    }

    /// The slot, if it is open and of this generation.
    pub(crate) fn open(&mut self, index: u32, generation: u32) -> Option<&mut Slot> {
        self.slots
            .get_mut(index as usize)
            .filter(|slot| slot.state == State::Open && slot.generation == generation)
    }

    /// Closes an open slot. True: its receive has to be cancelled.
    pub(crate) fn close(&mut self, index: u32) -> bool {
        let Some(slot) = self.slots.get_mut(index as usize) else { return false };
        slot.socket = None;
        if slot.armed {
            slot.state = State::Closing;
        } else {
            slot.state = State::Free;
            self.retired.push(index);
        }
        slot.armed
    }

    /// The last completion of a closed slot has come.
    pub(crate) fn finish(&mut self, index: u32) {
        if let Some(slot) = self.slots.get_mut(index as usize)
            && slot.state == State::Closing
        {
            slot.state = State::Free;
            slot.armed = false;
            self.free.push(index);
        }
    }

    /// Everything queued was submitted: slots without a receive are free.
    pub(crate) fn submitted(&mut self) {
        self.free.append(&mut self.retired);
    }

    pub(crate) fn open_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.state == State::Open).count()
    }
}

/// All sockets of a worker.
#[derive(Debug)]
pub(crate) struct Sockets {
    pub(crate) listeners: Table,
    pub(crate) paths: Table,
}

impl Sockets {
    pub(crate) fn new(listeners_max: u32, paths_max: u32) -> Self {
        Self {
            listeners: Table::new(listeners_max, 0),
            paths: Table::new(paths_max, listeners_max),
        }
    }

    pub(crate) fn path(&mut self, id: PathId) -> Option<&mut Slot> {
        self.paths.open(id.slot, id.generation)
    }

    pub(crate) fn listener(&self, id: ListenerId) -> Option<&Slot> {
        self.listeners.slots.get(id.0 as usize).filter(|slot| slot.state == State::Open)
    }

    pub(crate) fn listener_at(&self, local: SocketAddr) -> Option<ListenerId> {
        self.listeners
            .slots
            .iter()
            .position(|slot| slot.state == State::Open && slot.local == local)
            .map(|index| ListenerId(index as u32))
    }

    /// The registered file of a path.
    pub(crate) fn file(&self, path: PathId) -> u32 {
        self.paths.first_file + path.slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

    #[test]
    fn slots_are_reused_only_after_the_last_completion_and_with_a_new_generation() {
        let mut table = Table::new(2, 10);
        let first = table.take(ANY, ANY).unwrap();
        table.open(first, 0).unwrap().armed = true;
        let second = table.take(ANY, ANY).unwrap();
        assert!(table.take(ANY, ANY).is_err());
        assert!(table.close(first));
        assert!(table.open(first, 0).is_none());
        assert!(!table.close(second), "nothing to cancel");
        assert!(table.take(ANY, ANY).is_err(), "neither is free yet");
        table.finish(first);
        assert_eq!(table.take(ANY, ANY).unwrap(), first);
        assert!(table.open(first, 0).is_none() && table.open(first, 1).is_some());
        table.submitted();
        assert_eq!(table.take(ANY, ANY).unwrap(), second);
    }
}
