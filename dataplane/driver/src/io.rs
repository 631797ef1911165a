//! What a worker's engine can do with the outside: open and close sockets, fill the batch, read the
//! counts and the clock. Owns the ring, the file table and the slabs.
//!
//! A socket lives in the ring's table of registered files, at the index of its slot; its descriptor
//! is closed at once, so RLIMIT_NOFILE limits nothing but the size of that table. On older kernels it
//! stays a descriptor, and the limit counts them all: see `files`.
//!
//! ```text
//! slot    free --open--> open, to be armed --arm--> open, armed --receive ended--> to be armed
//!           ^                 |                         |
//!           '--- generation + 1, receive cancelled -----'   (close)
//! ```
//! A completion carries slot and generation: what an older generation left behind is ignored.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
    sync::Arc,
};

use io_uring::{opcode, squeue};
use ironcast_core::{
    MS, Nanos, SECOND,
    batch::{Batch, ListenerId, PathId, SLAB_BYTES, Slab},
};

use crate::{
    DriverConfig, Inbound, Statistics, Transmit,
    buffers::{self, Buffers},
    claim,
    clock::Clock,
    files::{File, on},
    hops::{FarEnd, Hops},
    mailbox::Bell,
    ring::{self, Operation, Ring},
    sockets,
    streams::{Stream, StreamLimits, Streams},
    xdp::Xdp,
};

/// What is behind a slot of the file table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SlotUse {
    Free,
    Listener {
        local: SocketAddr,
    },
    Path {
        remote: SocketAddr,
    },
    StreamListener {
        local: SocketAddr,
        /// Other workers listen there, too.
        is_shared: bool,
    },
    /// A connection: see [`Slot::stream`].
    Stream,
    /// An end of what leads to another worker; there is no socket.
    Hop {
        to: Option<FarEnd>,
    },
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) usage: SlotUse,
    /// A receive is queued or in the kernel.
    pub(crate) armed: bool,
    /// Receives that ended with an error since the last datagram.
    pub(crate) failures: u32,
    /// When the first of them was; `None` once the engine was told that the path fails.
    pub(crate) failing_since: Option<Nanos>,
    /// Segmentation was refused for this path: single sends from then on.
    pub(crate) single: bool,
    /// Kept only where system calls send ([`Transmit::Sendmmsg`]), of connections and their
    /// listeners, and where requests name it.
    pub(crate) socket: Option<OwnedFd>,
    /// There: the slot of the listener that a path's datagrams leave by, many in one call.
    pub(crate) via: Option<u32>,
    pub(crate) stream: Option<Box<Stream>>,
}

/// Headers that a multishot receive is described by; at one address for the ring's whole life.
pub(crate) struct ReceiveHeaders {
    pub(crate) listener: libc::msghdr,
    pub(crate) path: libc::msghdr,
}

/// Control bytes of a received datagram: one time stamp.
const CONTROL_BYTES: usize = 64;
/// `struct io_uring_recvmsg_out`.
const RECEIVED_HEADER_BYTES: usize = 16;
/// A port carries eight peers before another one is opened, and has one or two addresses.
const PATHS_PER_LISTENER: u32 = 4;
/// Entries of the file table beyond that.
const FILES_SPARE: u32 = 256;
/// Slabs that are free before a portion of output is written (if the limit allows): grows with what
/// portions use, and falls again.
const SLABS_LENT: usize = 16;
/// So many slots are not worth giving back.
const SLOTS_KEPT: usize = 1_024;
/// Memory is given back this often.
const TRIM_NS: Nanos = SECOND;

/// See the file's head.
///
/// Dropped in three steps, also when the engine panics: `drop` ends all requests and waits for that,
/// then the ring goes (first field), then the memory that the kernel wrote to or read from.
pub struct Io {
    pub(crate) ring: Ring,
    pub(crate) buffers: Buffers,
    pub(crate) headers: Box<ReceiveHeaders>,
    pub(crate) batch: Batch,
    pub(crate) clock: Clock,
    pub(crate) statistics: Statistics,
    pub(crate) transmit: Transmit,
    pub(crate) path_failure: Nanos,
    pub(crate) segmentation: bool,
    /// There where it was asked for ([`Transmit::Xdp`]).
    pub(crate) xdp: Option<Box<Xdp>>,
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    pub(crate) streams: Streams,
    pub(crate) hops: Hops,
    /// Slots of the open listeners.
    listeners: BTreeMap<SocketAddr, u32>,
    /// Of slots that are made now: above that of every slot that was given back.
    generation: u32,
    files: u32,
    /// Slots and generations whose receive is to be armed (again).
    pub(crate) unarmed: Vec<(u32, u32)>,
    /// The same, but not before a moment: their receive failed again and again.
    pub(crate) resting: Vec<(Nanos, u32, u32)>,
    /// Paths that failed since the engine was last told.
    pub(crate) failed: Vec<(PathId, io::ErrorKind)>,
    pub(crate) strays: VecDeque<(Inbound, Vec<u8>)>,
    /// Of all receives that are armed: see `ring`.
    pub(crate) epoch: u32,
    slabs_lent: usize,
    /// Most that one portion has used since memory was given back last.
    slabs_used: usize,
    trimmed_at: Nanos,
    slabs_made: u32,
    slabs_max: u32,
}

impl Io {
    pub(crate) fn new(config: &DriverConfig, bell: &Arc<Bell>) -> io::Result<Self> {
        let ring = Ring::open(config.without)?;
        let files = files(config.paths, config.streams.connections)?;
        if ring.has_file_table {
            ring.submitter().register_files_sparse(files)?;
        }
        let count = config.receive_buffers.clamp(16, 32_768).next_power_of_two() as u16;
        let mut buffers = Buffers::new(count, config.receive_buffer_bytes as usize)?;
        buffers.register(&ring.submitter())?;
        // SAFETY: a zeroed msghdr is a valid one: no name, no data, no control.
        let header = |name: usize| unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_namelen = name as libc::socklen_t;
            header.msg_controllen = CONTROL_BYTES as _;
            header
        };
        let headers =
            ReceiveHeaders { listener: header(size_of::<libc::sockaddr_in6>()), path: header(0) };
        let slabs = config.slabs as usize;
        let mut batch =
            Batch::new(Vec::with_capacity(slabs)).with_portions_of(config.portion_bytes as usize);
        batch.filled.reserve(slabs);
        Ok(Self {
            ring,
            buffers,
            headers: Box::new(headers),
            batch,
            clock: Clock::new(),
            statistics: Statistics::default(),
            transmit: config.transmit,
            path_failure: Nanos::from(config.path_failure_ms) * MS,
            segmentation: config.segmentation && !config.without.segmentation,
            xdp: match config.transmit {
                Transmit::Xdp => Some(Box::new(Xdp::new(config.without)?)),
                Transmit::IoUring | Transmit::Sendmmsg => None,
            },
            slots: Vec::new(),
            free: Vec::new(),
            streams: Streams::new(StreamLimits {
                connections: connections_max(config.streams.connections, config.paths, files),
                ..config.streams
            }),
            hops: config.exchange.join(config.number, bell, config.hop_ring_bytes as usize),
            listeners: BTreeMap::new(),
            generation: 0,
            files,
            unarmed: Vec::new(),
            resting: Vec::new(),
            failed: Vec::new(),
            strays: VecDeque::new(),
            epoch: 0,
            slabs_lent: SLABS_LENT,
            slabs_used: 0,
            trimmed_at: 0,
            slabs_made: 0,
            slabs_max: config.slabs,
        })
    }

    /// Listens on a specific address.
    ///
    /// # Errors
    /// As of `bind`; `AddrInUse` when somebody else has the port.
    pub fn open_listener(&mut self, local: SocketAddr) -> io::Result<ListenerId> {
        // Shared with ourselves only: with a stranger we would take each other's packets.
        claim::require_free(local)?;
        let socket = sockets::listener(local)?;
        // Port 0 asks for any: what counts is what was given.
        let local = socket.local_addr()?.as_socket().unwrap_or(local);
        self.adopt_listener(socket.into(), local)
    }

    /// Takes a listener that was opened elsewhere.
    ///
    /// # Errors
    /// The file table is full.
    pub fn adopt_listener(&mut self, socket: OwnedFd, local: SocketAddr) -> io::Result<ListenerId> {
        let slot = self.register(socket, SlotUse::Listener { local }, None)?;
        self.listeners.insert(local, slot);
        Ok(ListenerId(slot))
    }

    /// Closes a listener.
    pub fn close_listener(&mut self, listener: ListenerId) {
        if let Some(local) = self.local_addr(listener) {
            if self.listeners.get(&local) == Some(&listener.0) {
                self.listeners.remove(&local);
            }
            self.unregister(listener.0);
        }
    }

    /// The address of an open listener.
    #[must_use]
    pub fn local_addr(&self, listener: ListenerId) -> Option<SocketAddr> {
        match self.slots.get(listener.0 as usize)?.usage {
            SlotUse::Listener { local } | SlotUse::StreamListener { local, .. } => Some(local),
            _ => None,
        }
    }

    /// A connected socket for one peer, at once.
    ///
    /// # Errors
    /// As of `bind` and `connect`, or the file table is full.
    pub fn open_path(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<PathId> {
        let connected = sockets::connect(local, remote)?;
        let via = match self.transmit {
            Transmit::IoUring | Transmit::Xdp => None,
            Transmit::Sendmmsg => self.listeners.get(&local).copied(),
        };
        let source = connected.local;
        let slot = self.register(connected.socket, SlotUse::Path { remote }, via)?;
        if let Some(xdp) = &mut self.xdp {
            xdp.open(slot, source, remote);
        }
        self.statistics.strays_dropped += connected.dropped;
        for (from, bytes) in connected.strays {
            self.strays.push_back((Inbound::Listener { local, remote: from }, bytes));
        }
        Ok(PathId { slot, generation: self.slots[slot as usize].generation })
    }

    /// Closes a path; an older generation of its slot is ignored.
    pub fn close_path(&mut self, path: PathId) {
        if self.path(path).is_some() {
            self.unregister(path.slot);
        }
    }

    /// What to send at the end of this turn; free slabs are in it.
    pub fn batch(&mut self) -> &mut Batch {
        while self.batch.free.len() < self.slabs_lent && self.slabs_made < self.slabs_max {
            let bytes = vec![0; SLAB_BYTES].into_boxed_slice();
            self.batch.free.push(Slab { bytes });
            self.slabs_made += 1;
        }
        &mut self.batch
    }

    /// What there is now, and how much there may be.
    pub fn gauges(&self) -> impl Iterator<Item = (&'static str, u64)> {
        [
            ("sockets", (self.slots.len() - self.free.len()) as u64),
            ("sockets_max", self.files.into()),
            ("slabs", self.slabs_made.into()),
            ("slabs_max", self.slabs_max.into()),
        ]
        .into_iter()
        .chain(self.streams.gauges())
    }

    /// After a turn that used so many slabs: the next one may use twice as many.
    pub(crate) fn lend_for(&mut self, used: usize) {
        self.slabs_used = self.slabs_used.max(used);
        self.slabs_lent = self.slabs_lent.max(used * 2);
    }

    /// Once a second: gives back what was not needed since the last time.
    pub(crate) fn trim(&mut self) {
        let now = self.clock.now();
        if now < self.trimmed_at + TRIM_NS {
            return;
        }
        self.trimmed_at = now;
        self.slabs_lent = SLABS_LENT.max(2 * std::mem::take(&mut self.slabs_used));
        let kept = self.batch.free.len().min(self.slabs_lent);
        self.slabs_made -= (self.batch.free.len() - kept) as u32;
        self.batch.free.truncate(kept);
        self.trim_slots();
        self.expire_streams(now);
    }

    /// The free slots at the end, where most are free.
    fn trim_slots(&mut self) {
        let is_oversized =
            self.slots.len() > SLOTS_KEPT && self.free.len() >= self.slots.len() / 4 * 3;
        if !is_oversized || self.slots.last().is_none_or(|slot| slot.usage != SlotUse::Free) {
            return;
        }
        while self.slots.len() > SLOTS_KEPT
            && let Some(slot) = self.slots.pop_if(|slot| slot.usage == SlotUse::Free)
        {
            self.generation = self.generation.max(slot.generation);
        }
        self.statistics.table_trims += 1;
        let slots = self.slots.len();
        self.slots.shrink_to_fit();
        self.free.retain(|&slot| (slot as usize) < slots);
        self.free.shrink_to_fit();
        if let Some(xdp) = &mut self.xdp {
            xdp.trim(slots);
        }
    }

    /// The longest frame of a connection: what the longest datagram may have.
    pub(crate) fn frame_bytes_max(&self) -> usize {
        self.buffers.bytes() - CONTROL_BYTES - RECEIVED_HEADER_BYTES
    }

    /// Counts since the start.
    #[must_use]
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// Nanoseconds since 1970, as of this turn.
    #[must_use]
    pub fn wall_clock_ns(&self) -> u64 {
        self.clock.wall_clock_ns()
    }

    /// Monotonic time of this turn.
    #[must_use]
    pub fn now(&self) -> Nanos {
        self.clock.now()
    }

    /// The slot of an open path.
    pub(crate) fn path(&mut self, path: PathId) -> Option<&mut Slot> {
        self.slots.get_mut(path.slot as usize).filter(|slot| {
            slot.generation == path.generation
                && matches!(
                    slot.usage,
                    SlotUse::Path { .. } | SlotUse::Stream | SlotUse::Hop { .. }
                )
        })
    }

    pub(crate) fn register(
        &mut self,
        socket: OwnedFd,
        usage: SlotUse,
        via: Option<u32>,
    ) -> io::Result<u32> {
        let slot = self.take_slot()?;
        let has_table = self.ring.has_file_table;
        if has_table
            && let Err(error) =
                self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()])
        {
            if (slot as usize) < self.slots.len() {
                self.free.push(slot);
            }
            return Err(error);
        }
        // A table holds the socket now; then its own descriptor is of use to system calls only.
        let is_kept = match usage {
            SlotUse::Stream | SlotUse::StreamListener { .. } => true,
            _ => !has_table || self.transmit == Transmit::Sendmmsg,
        };
        let socket = is_kept.then_some(socket);
        let generation = self.occupy(slot, usage, socket, via);
        self.unarmed.push((slot, generation));
        Ok(slot)
    }

    /// A free slot; [`Io::occupy`] makes it somebody's.
    pub(crate) fn take_slot(&mut self) -> io::Result<u32> {
        match self.free.pop() {
            Some(slot) => Ok(slot),
            None if (self.slots.len() as u32) < self.files => Ok(self.slots.len() as u32),
            None => {
                let text = "the table of sockets is full: raise LimitNOFILE or add workers";
                Err(io::Error::new(io::ErrorKind::QuotaExceeded, text))
            }
        }
    }

    /// Makes a free slot somebody's. Returns its generation.
    pub(crate) fn occupy(
        &mut self,
        slot: u32,
        usage: SlotUse,
        socket: Option<OwnedFd>,
        via: Option<u32>,
    ) -> u32 {
        let known = self.slots.get(slot as usize).map(|slot| slot.generation);
        let generation = known.unwrap_or(self.generation);
        let opened = Slot {
            generation,
            usage,
            armed: false,
            failures: 0,
            failing_since: None,
            single: false,
            socket,
            via,
            stream: None,
        };
        match self.slots.get_mut(slot as usize) {
            Some(place) => *place = opened,
            None => self.slots.push(opened),
        }
        generation
    }

    pub(crate) fn unregister(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        let (generation, epoch) = (entry.generation, self.epoch);
        let receive = Operation::Receive { slot, generation, epoch }.user_data();
        let armed = entry.armed;
        let stream = entry.stream.take();
        let is_hop = matches!(entry.usage, SlotUse::Hop { .. });
        entry.usage = SlotUse::Free;
        let socket = entry.socket.take();
        entry.armed = false;
        entry.generation = entry.generation.wrapping_add(1);
        if let Some(xdp) = &mut self.xdp {
            xdp.close(slot);
        }
        if armed {
            let cancel = opcode::AsyncCancel::new(receive).build();
            self.push(cancel.user_data(Operation::Other.user_data()));
        }
        if let Some(stream) = stream {
            self.streams.forget(&stream);
            if stream.is_polled() {
                let room = Operation::Room { slot, generation }.user_data();
                let cancel = opcode::AsyncCancel::new(room).build();
                self.push(cancel.user_data(Operation::Other.user_data()));
            }
        }
        if is_hop {
            self.hop_closed();
            self.free.push(slot);
            return;
        }
        // What is queued names this slot or descriptor: it has to leave before that is used again.
        let _ = self.ring.submit();
        drop(socket);
        if self.ring.has_file_table {
            let _ = self.ring.submitter().register_files_update(slot, &[-1]);
        }
        self.free.push(slot);
    }

    /// What requests name a slot's socket by.
    pub(crate) fn file(&self, slot: u32) -> File {
        let socket = self.slots.get(slot as usize).and_then(|entry| entry.socket.as_ref());
        File::new(self.ring.has_file_table, slot, socket)
    }

    /// Queues a submission; a full queue is submitted first. False: the kernel takes nothing more,
    /// which the next wait reports.
    pub(crate) fn push(&mut self, entry: squeue::Entry) -> bool {
        // SAFETY: everything an entry points to (receive headers, frames of sends, slabs) lives
        // until its completion: see the order of the fields, and `tx.rs`.
        unsafe { self.ring.push(&entry) }.is_ok()
    }

    /// After all requests were ended: every open socket is to be armed again, with all buffers.
    pub(crate) fn begin_epoch(&mut self) -> io::Result<()> {
        self.epoch = (self.epoch + 1) % ring::EPOCHS;
        self.buffers.register_anew(&self.ring.submitter())?;
        self.resting.clear();
        self.unarmed.clear();
        for (slot, entry) in self.slots.iter_mut().enumerate() {
            entry.armed = false;
            if !matches!(entry.usage, SlotUse::Free | SlotUse::Hop { .. }) {
                self.unarmed.push((slot as u32, entry.generation));
            }
            if let Some(stream) = &mut entry.stream {
                stream.poll_has_ended();
            }
        }
        for slot in 0..self.slots.len() {
            let generation = self.slots[slot].generation;
            self.poll_for_room(PathId { slot: slot as u32, generation });
        }
        Ok(())
    }

    /// Arms the receive of every slot that has none.
    pub(crate) fn arm(&mut self) {
        let now = self.clock.now();
        let mut index = 0;
        while let Some(&(at, slot, generation)) = self.resting.get(index) {
            if at <= now {
                self.unarmed.push((slot, generation));
                self.resting.swap_remove(index);
            } else {
                index += 1;
            }
        }
        while let Some((slot, generation)) = self.unarmed.pop() {
            let Some(entry) = self.slots.get_mut(slot as usize) else { continue };
            if entry.generation != generation || entry.armed {
                continue;
            }
            let file = File::new(self.ring.has_file_table, slot, entry.socket.as_ref());
            let datagrams = |header: &libc::msghdr| {
                on!(file, |file| opcode::RecvMsgMulti::new(file, header, buffers::GROUP).build())
            };
            let receive = match entry.usage {
                SlotUse::Free | SlotUse::Hop { .. } => continue,
                SlotUse::Listener { .. } => datagrams(&self.headers.listener),
                SlotUse::Path { .. } => datagrams(&self.headers.path),
                SlotUse::StreamListener { .. } => {
                    on!(file, |file| opcode::PollAdd::new(file, libc::POLLIN as u32).build())
                }
                SlotUse::Stream if entry.stream.as_ref().is_none_or(|one| one.is_over()) => {
                    continue;
                }
                SlotUse::Stream if entry.stream.as_ref().is_some_and(|one| one.is_anybodys()) => {
                    let events = (libc::POLLIN | libc::POLLRDHUP) as u32;
                    on!(file, |file| opcode::PollAdd::new(file, events).build())
                }
                SlotUse::Stream => {
                    on!(file, |file| opcode::RecvMulti::new(file, buffers::GROUP).build())
                }
            };
            entry.armed = true;
            let operation = Operation::Receive { slot, generation, epoch: self.epoch };
            self.push(receive.user_data(operation.user_data()));
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        if !self.ring.shut_down() {
            // The kernel may still use this memory: better lost than reused.
            std::mem::forget(std::mem::take(&mut self.batch));
            self.buffers.leak();
        }
    }
}

/// Entries of the file table for `paths` sockets, so many connections, and the listeners beside them,
/// as far as the hard limit of files and the kernel's of a table allow.
fn files(paths: u32, connections: u32) -> io::Result<u32> {
    let limit = sockets::raise_file_limit()?.min(u64::from(ring::FILES_MAX)) as u32;
    let peers = paths.saturating_add(connections);
    let listeners = peers / PATHS_PER_LISTENER;
    Ok(peers.saturating_add(listeners).saturating_add(FILES_SPARE).min(limit).max(64))
}

/// How many of the `wanted` connections there may be beside so many paths: where the table is smaller
/// than it should be, strangers' connections do not fill it.
fn connections_max(wanted: u32, paths: u32, files: u32) -> u32 {
    let others = paths.saturating_add(paths / PATHS_PER_LISTENER).saturating_add(FILES_SPARE);
    wanted.min(files.saturating_sub(others).max(files / 4)).max(1)
}

/// How many of the `wanted` paths the file table will have room for.
///
/// # Errors
/// The limit of open files cannot be read.
pub fn paths_max(wanted: u32) -> io::Result<u32> {
    let files = u64::from(files(wanted, 0)?.saturating_sub(FILES_SPARE));
    let per = u64::from(PATHS_PER_LISTENER);
    Ok(wanted.min((files * per / (per + 1)) as u32).max(16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_paths_and_their_listeners() {
        assert_eq!(paths_max(100).unwrap(), 100);
        for wanted in [0, 1, 100, 20_000, 1_000_000, u32::MAX] {
            let paths = paths_max(wanted).unwrap();
            let listeners = paths / PATHS_PER_LISTENER;
            for connections in [0, 10, 10_000] {
                let all = files(wanted, connections).unwrap();
                let most = connections_max(connections, wanted, all);
                let rest = all.saturating_sub(wanted.saturating_add(listeners)).max(all / 4);
                assert!(most <= connections.max(1) && most <= rest, "{wanted} {connections}");
            }
            assert!(paths <= 16 || paths + listeners <= files(wanted, 0).unwrap(), "{wanted}");
        }
    }
}
