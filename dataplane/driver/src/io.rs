//! What a worker's engine can do with the outside: open and close sockets, fill the batch, read the
//! counts and the clock. Owns the ring, the file table and the slabs.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{AsRawFd, OwnedFd},
};

use io_uring::{IoUring, opcode, squeue, types};
use ironcast_core::{
    Nanos,
    batch::{Batch, ListenerId, PathId, SLAB_BYTES, Slab},
};

use crate::{
    DriverConfig, Source, Statistics,
    buffers::{self, Buffers},
    clock::Clock,
    ring::{self, Operation},
    rx::Completion,
    sockets,
};

/// What is behind a slot of the file table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum File {
    Free,
    Listener { local: SocketAddr },
    Path,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Slot {
    pub(crate) generation: u32,
    pub(crate) file: File,
    /// Segmentation was refused for this path: single sends from then on.
    pub(crate) single: bool,
}

/// Headers that a multishot receive is described by; at one address for the ring's whole life.
pub(crate) struct ReceiveHeaders {
    pub(crate) listener: libc::msghdr,
    pub(crate) path: libc::msghdr,
}

/// Control bytes of a received datagram: one time stamp.
const CONTROL_BYTES: usize = 64;

/// See the file's head. Fields are dropped in this order: the ring before the memory that the kernel
/// may still be writing to or reading from.
pub struct Io {
    pub(crate) ring: IoUring,
    pub(crate) buffers: Buffers,
    pub(crate) headers: Box<ReceiveHeaders>,
    pub(crate) batch: Batch,
    pub(crate) clock: Clock,
    pub(crate) statistics: Statistics,
    pub(crate) slots: Vec<Slot>,
    free: Vec<u32>,
    /// Slots whose receive is to be armed (again).
    pub(crate) unarmed: Vec<u32>,
    pub(crate) strays: VecDeque<(Source, Vec<u8>)>,
    /// Completions that came while sends were reaped: handled in the next turn.
    pub(crate) postponed: Vec<Completion>,
    slabs_made: u32,
    slabs_max: u32,
}

impl Io {
    pub(crate) fn new(config: &DriverConfig) -> io::Result<Self> {
        let ring = ring::open()?;
        let files = raise_file_limit(config.paths)?;
        ring.submitter().register_files_sparse(files)?;
        let count = config.receive_buffers.next_power_of_two().clamp(16, 32_768) as u16;
        let mut buffers = Buffers::new(count, config.receive_buffer_bytes as usize)?;
        buffers.register(&ring.submitter())?;
        // SAFETY: a zeroed msghdr is a valid one: no name, no data, no control.
        let header = |name: usize| unsafe {
            let mut header: libc::msghdr = std::mem::zeroed();
            header.msg_namelen = name as libc::socklen_t;
            header.msg_controllen = CONTROL_BYTES as _;
            header
        };
        let headers = ReceiveHeaders {
            listener: header(size_of::<libc::sockaddr_in6>()),
            path: header(0),
        };
        Ok(Self {
            ring,
            buffers,
            headers: Box::new(headers),
            batch: Batch::default(),
            clock: Clock::new(),
            statistics: Statistics::default(),
            slots: Vec::new(),
            free: (0..files).rev().collect(),
            unarmed: Vec::new(),
            strays: VecDeque::new(),
            postponed: Vec::new(),
            slabs_made: 0,
            slabs_max: config.slabs,
        })
    }

    /// Listens on a specific address.
    ///
    /// # Errors
    /// As of `bind`; `AddrInUse` when somebody else has the port.
    pub fn open_listener(&mut self, local: SocketAddr) -> io::Result<ListenerId> {
        let socket = sockets::listener(local)?;
        let slot = self.register(socket.into(), File::Listener { local })?;
        Ok(ListenerId(slot))
    }

    /// Takes a listener that was opened elsewhere.
    ///
    /// # Errors
    /// The file table is full.
    pub fn adopt_listener(&mut self, socket: OwnedFd, local: SocketAddr) -> io::Result<ListenerId> {
        let slot = self.register(socket, File::Listener { local })?;
        Ok(ListenerId(slot))
    }

    /// Closes a listener.
    pub fn close_listener(&mut self, listener: ListenerId) {
        self.unregister(listener.0);
    }

    /// A connected socket for one peer, at once.
    ///
    /// # Errors
    /// As of `bind` and `connect`, or the file table is full.
    pub fn open_path(&mut self, local: SocketAddr, remote: SocketAddr) -> io::Result<PathId> {
        let connected = sockets::connect(local, remote)?;
        for (from, bytes) in connected.strays {
            self.strays.push_back((Source::Listener { local, remote: from }, bytes));
        }
        let slot = self.register(connected.socket, File::Path)?;
        Ok(PathId { slot, generation: self.slots[slot as usize].generation })
    }

    /// Closes a path; an older generation of its slot is ignored.
    pub fn close_path(&mut self, path: PathId) {
        let current = self.slots.get(path.slot as usize);
        if current.is_some_and(|slot| slot.generation == path.generation) {
            self.unregister(path.slot);
        }
    }

    /// What to send at the end of this turn; free slabs are in it.
    pub fn batch(&mut self) -> &mut Batch {
        if self.batch.free.len() < 16 {
            while self.batch.free.len() < 32 && self.slabs_made < self.slabs_max {
                let bytes = vec![0; SLAB_BYTES].into_boxed_slice();
                self.batch.free.push(Slab { id: self.slabs_made, bytes });
                self.slabs_made += 1;
            }
        }
        &mut self.batch
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

    fn register(&mut self, socket: OwnedFd, file: File) -> io::Result<u32> {
        let slot = self.free.pop().ok_or_else(|| {
            io::Error::other("the table of sockets is full: raise LimitNOFILE or add workers")
        })?;
        let update = self.ring.submitter().register_files_update(slot, &[socket.as_raw_fd()]);
        if let Err(error) = update {
            self.free.push(slot);
            return Err(error);
        }
        // The table holds the socket now; its own descriptor is of no more use.
        drop(socket);
        if self.slots.len() <= slot as usize {
            let free = Slot { generation: 0, file: File::Free, single: false };
            self.slots.resize(slot as usize + 1, free);
        }
        let entry = &mut self.slots[slot as usize];
        (entry.file, entry.single) = (file, false);
        self.unarmed.push(slot);
        Ok(slot)
    }

    fn unregister(&mut self, slot: u32) {
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        if entry.file == File::Free {
            return;
        }
        let armed = Operation::Receive { slot, generation: entry.generation }.user_data();
        entry.file = File::Free;
        entry.generation = entry.generation.wrapping_add(1);
        let cancel = opcode::AsyncCancel::new(armed).build();
        self.push(cancel.user_data(Operation::Other.user_data()));
        let _ = self.ring.submitter().submit();
        let _ = self.ring.submitter().register_files_update(slot, &[-1]);
        self.free.push(slot);
    }

    /// Queues a submission; a full queue is submitted first.
    pub(crate) fn push(&mut self, entry: squeue::Entry) {
        loop {
            // SAFETY: everything an entry points to (headers, slabs, the wake's buffer) lives until
            // its completion: see the fields' order and `tx.rs`.
            if unsafe { self.ring.submission().push(&entry) }.is_ok() {
                return;
            }
            let _ = self.ring.submit();
        }
    }

    /// Arms the receive of every slot that has none.
    pub(crate) fn arm(&mut self) {
        while let Some(slot) = self.unarmed.pop() {
            let Some(entry) = self.slots.get(slot as usize).copied() else { continue };
            let header = match entry.file {
                File::Free => continue,
                File::Listener { .. } => &raw const self.headers.listener,
                File::Path => &raw const self.headers.path,
            };
            let receive = opcode::RecvMsgMulti::new(types::Fixed(slot), header, buffers::GROUP)
                .build()
                .user_data(Operation::Receive { slot, generation: entry.generation }.user_data());
            self.push(receive);
        }
    }
}

impl Drop for Io {
    fn drop(&mut self) {
        // What is in flight ends before the memory that it uses goes.
        let any = types::CancelBuilder::any();
        let _ = self.ring.submitter().register_sync_cancel(None, any);
    }
}

/// Descriptors for `paths` sockets, as far as the hard limit allows.
fn raise_file_limit(paths: u32) -> io::Result<u32> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < limit.rlim_max {
        limit.rlim_cur = limit.rlim_max;
        // SAFETY: `limit` is valid for the call to read. Failing is no harm: the old limit holds.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
    let most = limit.rlim_cur.min(u64::from(ring::SLOTS_MAX)) as u32;
    Ok(paths.saturating_add(256).min(most.saturating_sub(64)).max(64))
}
