//! Connections of peers (ICE-TCP: RFC 6544, passive): accepted beside the UDP listeners, and paths
//! like theirs from the first valid check on. Whole frames (RFC 4571) go in and out; what of a frame
//! did not come yet, or did not leave, waits here.
//!
//! ```text
//! accepted --frames--> stranger --keep_stream--> path --end, error, stall--> failed --close--> gone
//!                         '--- no valid check in time, too many, too much ---'
//! ```
//! In: a multishot receive into the same buffers as datagrams. Out: one call for what a turn has for
//! a connection, not a request of the ring: whether it was cut has to be known before the next one,
//! and a descriptor in the completion queue would be nobody's when the worker ends.
//!
//! A port that all workers share gives a connection to any of them. Its first frame, a check, names the
//! one that it is for: it is looked at where it lies in the kernel, nothing is taken, and the connection
//! goes there as it is ([`AcceptedStream`]). There it is one that was accepted, with all limits.
//!
//! A peer that reads too slowly fills the kernel's buffer, which is short. Then video is dropped at
//! once, audio and control wait up to a limit of their own, and only the rest of a frame that was cut
//! always stays: what leaves is whole frames, in order.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, IoSlice},
    net::{IpAddr, Ipv6Addr, SocketAddr},
    os::fd::OwnedFd,
};

use io_uring::{cqueue, opcode};
use ironcast_core::{
    Arrival, MS, Nanos,
    batch::{Class, ListenerId, PathId, SendRun},
    framing::{self, PREFIX_BYTES, Reassembly},
};
use socket2::{SockRef, Socket};

use crate::{
    Engine, Home, Inbound, Statistics,
    files::on,
    io::{Io, Slot, SlotUse},
    ring::{Completion, Operation},
    rx::REST,
    sockets,
    tx::{FLAGS, bytes_of},
};

/// Connections that are taken from one listener before others have their turn.
const ACCEPTS_MAX: usize = 16;
/// Frames of one call.
const FRAMES: usize = 64;
/// Frames that nobody knows: a peer's check is the first one.
const STRANGE_FRAMES_MAX: u32 = 64;
/// What may wait of one connection, by class; nothing of video.
const AUDIO_WAITING_MAX: usize = 16 << 10;
const CONTROL_WAITING_MAX: usize = 32 << 10;
/// The longest first frame of a connection that may be another worker's: a check, also one with DTLS in it.
const FIRST_FRAME_BYTES_MAX: usize = 1_500;
/// Connections for other workers of one turn.
const OTHERS_MAX: usize = 64;
/// Connections that are closed in one turn because no valid check came in time: each takes three calls of
/// the kernel.
const TIMED_OUT_MAX: usize = 16;
/// Connections that are gone are kept in the list of strangers until there are so many.
const STRANGERS_KEPT: usize = 1_024;

/// Limits of one worker's connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// At once; the oldest that has sent no valid check makes room.
    pub connections: u32,
    /// Of one address (of one /64 for IPv6).
    pub per_address: u32,
    /// Bytes that wait to leave, of all connections together.
    pub waiting_bytes: u32,
    /// How long one may send no valid check, milliseconds.
    pub stranger_ms: u32,
    /// How long one may take nothing of what waits, milliseconds.
    pub stall_ms: u32,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            per_address: 256,
            waiting_bytes: 64 << 20,
            stranger_ms: 10_000,
            stall_ms: 10_000,
        }
    }
}

/// A connection on its way to the worker that it is for.
#[derive(Debug)]
pub struct AcceptedStream {
    /// Which.
    pub worker: u16,
    socket: OwnedFd,
    local: SocketAddr,
    remote: SocketAddr,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Stream {
    local: SocketAddr,
    remote: SocketAddr,
    /// Nobody knows yet which worker's it is.
    is_anybodys: bool,
    reassembly: Reassembly,
    /// It is a path of the engine's.
    is_kept: bool,
    /// It has ended, and the engine was told.
    is_over: bool,
    /// Frames before it was kept.
    strange: u32,
    /// What the kernel did not take; may begin in the middle of a frame.
    waiting: VecDeque<u8>,
    /// When some of it left.
    moved_at: Nanos,
    /// A poll for room is in the kernel.
    is_polled: bool,
    /// It is in the list of those that something waits for.
    is_listed: bool,
}

/// All connections of a worker.
#[derive(Debug)]
pub(crate) struct Streams {
    limits: StreamLimits,
    open: u32,
    by_address: BTreeMap<IpAddr, u32>,
    /// Slot and generation of those that were accepted, until they have to have been kept.
    strangers: VecDeque<(Nanos, u32, u32)>,
    /// Slot and generation of those that something waits for.
    waiting: Vec<(u32, u32)>,
    waiting_bytes: usize,
    /// For other workers.
    others: Vec<AcceptedStream>,
}

impl Streams {
    pub(crate) fn new(limits: StreamLimits) -> Self {
        Self {
            limits,
            open: 0,
            by_address: BTreeMap::new(),
            strangers: VecDeque::new(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            others: Vec::new(),
        }
    }

    /// A connection is gone.
    pub(crate) fn forget(&mut self, stream: &Stream) {
        self.open -= 1;
        self.waiting_bytes -= stream.waiting.len();
        let address = counted(stream.remote.ip());
        if let Some(count) = self.by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
    }

    pub(crate) fn gauges(&self) -> [(&'static str, u64); 3] {
        [
            ("tcp_connections", self.open.into()),
            ("tcp_connections_max", self.limits.connections.into()),
            ("tcp_waiting_bytes", self.waiting_bytes as u64),
        ]
    }
}

/// What counts as one address: whoever has an IPv6 address has its /64.
fn counted(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
    }
}

/// What of a turn leaves in one call.
struct Frames<'a> {
    prefixes: [[u8; PREFIX_BYTES]; FRAMES],
    datagrams: [(Class, &'a [u8]); FRAMES],
    count: usize,
}

impl<'a> Frames<'a> {
    fn new() -> Self {
        Self {
            prefixes: [[0; PREFIX_BYTES]; FRAMES],
            datagrams: [(Class::Control, &[]); FRAMES],
            count: 0,
        }
    }

    /// The next ones; false where there are none.
    fn fill(&mut self, datagrams: &mut impl Iterator<Item = (Class, &'a [u8])>) -> bool {
        self.count = 0;
        for (class, datagram) in datagrams {
            let Some(prefix) = framing::prefix(datagram.len()) else { continue };
            self.prefixes[self.count] = prefix;
            self.datagrams[self.count] = (class, datagram);
            self.count += 1;
            if self.count == FRAMES {
                break;
            }
        }
        self.count > 0
    }

    fn iter(&self) -> impl Iterator<Item = (Class, &[u8; PREFIX_BYTES], &'a [u8])> {
        let datagrams = &self.datagrams[..self.count];
        datagrams.iter().zip(&self.prefixes).map(|(&(class, bytes), prefix)| (class, prefix, bytes))
    }

    /// Hands all to the kernel. Returns how many bytes it took.
    fn send(&self, socket: SockRef<'_>) -> io::Result<usize> {
        let mut parts = [IoSlice::new(&[]); 2 * FRAMES];
        for (pair, (_, prefix, datagram)) in parts.chunks_exact_mut(2).zip(self.iter()) {
            pair[0] = IoSlice::new(prefix);
            pair[1] = IoSlice::new(datagram);
        }
        retried(|| socket.send_vectored_with_flags(&parts[..2 * self.count], FLAGS))
    }
}

/// A send that does not wait; 0 where the kernel has no room.
fn retried(mut send: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    loop {
        match send() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            result => return result,
        }
    }
}

impl Stream {
    fn new(local: SocketAddr, remote: SocketAddr, is_anybodys: bool) -> Self {
        Self {
            local,
            remote,
            is_anybodys,
            reassembly: Reassembly::default(),
            is_kept: false,
            is_over: false,
            strange: 0,
            waiting: VecDeque::new(),
            moved_at: 0,
            is_polled: false,
            is_listed: false,
        }
    }

    /// True when no receive is to be armed any more.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over
    }

    /// True when its first frame is to be looked at, not received.
    pub(crate) fn is_anybodys(&self) -> bool {
        self.is_anybodys
    }

    /// After all requests were ended.
    pub(crate) fn poll_has_ended(&mut self) {
        self.is_polled = false;
    }

    /// The poll for room, if there is one in the kernel.
    pub(crate) fn is_polled(&self) -> bool {
        self.is_polled
    }

    /// What is left of a frame after the kernel took `taken` bytes of it, and whole frames behind one
    /// that waits: by class, as far as there is room.
    fn wait(
        &mut self,
        (class, prefix, datagram): (Class, &[u8; PREFIX_BYTES], &[u8]),
        taken: usize,
        room: usize,
        statistics: &mut Statistics,
    ) {
        let own = match class {
            Class::Video => 0,
            Class::Audio => AUDIO_WAITING_MAX,
            Class::Control => CONTROL_WAITING_MAX,
        };
        let len = prefix.len() + datagram.len();
        // A frame that was begun has to be ended.
        if taken == 0 && (self.waiting.len() + len > own || len > room) {
            *match class {
                Class::Video => &mut statistics.tcp_dropped_video,
                Class::Audio => &mut statistics.tcp_dropped_audio,
                Class::Control => &mut statistics.tcp_dropped_control,
            } += 1;
            return;
        }
        self.waiting.extend(&prefix[taken.min(prefix.len())..]);
        self.waiting.extend(&datagram[taken.saturating_sub(prefix.len())..]);
    }

    /// Sends what waits, as far as the kernel takes it.
    fn flush(&mut self, socket: SockRef<'_>, now: Nanos) -> io::Result<usize> {
        let mut total = 0;
        while !self.waiting.is_empty() {
            let (front, back) = self.waiting.as_slices();
            let parts = [IoSlice::new(front), IoSlice::new(back)];
            let sent = retried(|| socket.send_vectored_with_flags(&parts, FLAGS))?;
            if sent == 0 {
                break;
            }
            self.waiting.drain(..sent);
            self.moved_at = now;
            total += sent;
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        Ok(total)
    }
}

impl Io {
    /// Listens for connections on a specific address.
    ///
    /// # Errors
    /// As of `bind` and `listen`; `AddrInUse` when somebody has the port.
    pub fn open_stream_listener(&mut self, local: SocketAddr) -> io::Result<ListenerId> {
        self.listen_for_streams(local, false)
    }

    /// The same where other workers listen, too, each for connections of all: see [`Engine::home_of`].
    ///
    /// # Errors
    /// As of `bind` and `listen`; `AddrInUse` when somebody else has the port.
    pub fn share_stream_listener(&mut self, local: SocketAddr) -> io::Result<ListenerId> {
        self.listen_for_streams(local, true)
    }

    fn listen_for_streams(&mut self, local: SocketAddr, is_shared: bool) -> io::Result<ListenerId> {
        let socket = sockets::stream_listener(local, is_shared)?;
        let local = socket.local_addr()?.as_socket().unwrap_or(local);
        let usage = SlotUse::StreamListener { local, is_shared };
        self.register(socket.into(), usage, None).map(ListenerId)
    }

    /// Connections that came here since this was asked last, and are other workers'.
    pub fn take_connections_of_others(&mut self) -> Vec<AcceptedStream> {
        std::mem::take(&mut self.streams.others)
    }

    /// A connection that another worker accepted and that is ours. Closed where there are too many.
    pub fn adopt_stream(&mut self, connection: AcceptedStream) {
        let AcceptedStream { socket, local, remote, .. } = connection;
        match self.admit(socket.into(), (local, false), remote) {
            Ok(()) => self.statistics.tcp_adopted += 1,
            Err(_) => self.statistics.tcp_refused += 1,
        }
    }

    /// A connection that datagrams came by as [`Inbound::Stream`] is a path from now on. False: it
    /// has ended meanwhile.
    pub fn keep_stream(&mut self, path: PathId) -> bool {
        let stream = self.path(path).and_then(|slot| slot.stream.as_mut());
        stream.map(|stream| stream.is_kept = true).is_some()
    }

    /// One completion of a stream listener's poll: takes some connections, and asks again.
    pub(crate) fn accept(&mut self, id: PathId, listener: (SocketAddr, bool), result: i32) {
        if result < 0 && result != -libc::ECANCELED {
            self.statistics.receive_errors += 1;
            self.resting.push((self.clock.now() + REST, id.slot, id.generation));
            return;
        }
        for _ in 0..ACCEPTS_MAX {
            let Some(socket) = self.slots[id.slot as usize].socket.as_ref() else { return };
            match SockRef::from(socket).accept() {
                Ok((socket, remote)) => {
                    self.statistics.tcp_accepted += 1;
                    let remote = remote.as_socket();
                    if remote.is_none_or(|remote| self.admit(socket, listener, remote).is_err()) {
                        self.statistics.tcp_refused += 1;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if sockets::is_shortage(&error) => {
                    // Those that wait, wait in the kernel.
                    self.statistics.tcp_refused += 1;
                    self.resting.push((self.clock.now() + REST, id.slot, id.generation));
                    return;
                }
                // It was gone before it was accepted.
                Err(_) => {}
            }
        }
        self.unarmed.push((id.slot, id.generation));
    }

    fn admit(
        &mut self,
        socket: Socket,
        (local, is_shared): (SocketAddr, bool),
        remote: SocketAddr,
    ) -> io::Result<()> {
        let refused = || Err(io::ErrorKind::QuotaExceeded.into());
        let address = counted(remote.ip());
        let of_address = self.streams.by_address.get(&address).copied().unwrap_or(0);
        if of_address >= self.streams.limits.per_address {
            return refused();
        }
        if self.streams.open >= self.streams.limits.connections && !self.evict() {
            return refused();
        }
        socket.set_nonblocking(true)?;
        let slot = self.register(socket.into(), SlotUse::Stream, None)?;
        let entry = &mut self.slots[slot as usize];
        entry.stream = Some(Box::new(Stream::new(local, remote, is_shared)));
        let generation = entry.generation;
        let streams = &mut self.streams;
        streams.open += 1;
        *streams.by_address.entry(address).or_default() += 1;
        if streams.strangers.len() >= STRANGERS_KEPT.max(2 * streams.open as usize) {
            let slots = &self.slots;
            streams.strangers.retain(|&(_, slot, generation)| is_stranger(slots, slot, generation));
        }
        let until = self.clock.now() + Nanos::from(streams.limits.stranger_ms) * MS;
        streams.strangers.push_back((until, slot, generation));
        Ok(())
    }

    /// The oldest connection that has sent no valid check makes room. False: there is none.
    fn evict(&mut self) -> bool {
        while let Some((_, slot, generation)) = self.streams.strangers.pop_front() {
            if is_stranger(&self.slots, slot, generation) {
                self.statistics.tcp_evicted += 1;
                self.unregister(slot);
                return true;
            }
        }
        false
    }

    /// Whether nobody knows yet which worker's a connection is.
    pub(crate) fn is_anybodys(&self, id: PathId) -> bool {
        let slot = self.slots.get(id.slot as usize);
        slot.and_then(|slot| slot.stream.as_ref()).is_some_and(|stream| stream.is_anybodys)
    }

    /// Something has come of a connection that may be another worker's, or its end.
    pub(crate) fn receive_first<E: Engine>(&mut self, id: PathId, result: i32, engine: &E) {
        let Some(socket) = self.slots[id.slot as usize].socket.as_ref() else { return };
        let mut bytes = [0; PREFIX_BYTES + FIRST_FRAME_BYTES_MAX];
        let got = match sockets::peek(socket, &mut bytes) {
            Ok(got) => got,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.unarmed.push((id.slot, id.generation));
                return;
            }
            Err(_) => 0,
        };
        let prefix = bytes[..got].first_chunk::<PREFIX_BYTES>();
        let frame_len = prefix.map(|prefix| usize::from(u16::from_be_bytes(*prefix)));
        let wanted = PREFIX_BYTES + frame_len.unwrap_or(0);
        let home = match frame_len {
            Some(0 | FIRST_FRAME_BYTES_MAX..) => Home::Nobody,
            Some(_) if got >= wanted => engine.home_of(&bytes[PREFIX_BYTES..wanted]),
            // The rest of it is on its way, unless nothing comes any more.
            _ => {
                let is_over = got == 0 || result & i32::from(libc::POLLRDHUP | libc::POLLHUP) != 0;
                if !is_over && sockets::wake_at(socket, wanted).is_ok() {
                    self.unarmed.push((id.slot, id.generation));
                } else {
                    self.statistics.tcp_closed += 1;
                    self.unregister(id.slot);
                }
                return;
            }
        };
        self.bring_home(id, home);
    }

    /// A connection goes where it belongs.
    fn bring_home(&mut self, id: PathId, home: Home) {
        let Some(entry) = self.slots.get_mut(id.slot as usize) else { return };
        let Some(stream) = entry.stream.as_mut() else { return };
        let socket = entry.socket.as_ref();
        let is_ready = socket.is_some_and(|socket| sockets::wake_at(socket, 1).is_ok());
        let others = &mut self.streams.others;
        match home {
            Home::Here if is_ready => {
                stream.is_anybodys = false;
                self.unarmed.push((id.slot, id.generation));
                return;
            }
            Home::Worker(worker) if is_ready && others.len() < OTHERS_MAX => {
                if let Some(socket) = entry.socket.take() {
                    let (local, remote) = (stream.local, stream.remote);
                    others.push(AcceptedStream { worker, socket, local, remote });
                    self.statistics.tcp_handed_over += 1;
                }
            }
            Home::Here | Home::Worker(_) | Home::Nobody => self.statistics.tcp_strange += 1,
        }
        self.unregister(id.slot);
    }

    /// One completion of a connection's receive.
    pub(crate) fn receive_stream<E: Engine>(
        &mut self,
        id: PathId,
        completion: Completion,
        engine: &mut E,
    ) {
        let result = completion.result;
        let mut fault = None;
        if let Some(bid) = cqueue::buffer_select(completion.flags) {
            if result > 0 {
                fault = self.feed(id, bid, result as usize, engine).err();
            }
            self.buffers.give_back(bid);
        }
        let ended = !cqueue::more(completion.flags);
        match -result {
            _ if fault.is_some() => {}
            0 => {
                self.statistics.tcp_closed += 1;
                fault = Some(io::ErrorKind::UnexpectedEof);
            }
            _ if !ended => {}
            libc::ENOBUFS => self.statistics.buffer_exhaustions += 1,
            libc::ECANCELED => {}
            error if error > 0 => {
                self.statistics.tcp_closed += 1;
                fault = Some(io::Error::from_raw_os_error(error).kind());
            }
            _ => {}
        }
        if let Some(fault) = fault {
            self.end_stream(id, fault);
        } else if ended {
            self.statistics.rearms += 1;
            self.unarmed.push((id.slot, id.generation));
        }
    }

    /// Bytes of a connection: whole frames go to the engine.
    fn feed<E: Engine>(
        &mut self,
        id: PathId,
        bid: u16,
        len: usize,
        engine: &mut E,
    ) -> Result<(), io::ErrorKind> {
        let now = self.clock.now();
        let frame_bytes_max = self.frame_bytes_max();
        let stream = self.slots[id.slot as usize].stream.as_deref_mut();
        let Some(stream) = stream.filter(|stream| !stream.is_over) else { return Ok(()) };
        let source = if stream.is_kept {
            Inbound::Path(id)
        } else {
            Inbound::Stream { path: id, local: stream.local, remote: stream.remote }
        };
        let (mut frames, mut bytes) = (0, 0);
        let chunk = self.buffers.filled(bid, len);
        let result = stream.reassembly.feed(chunk, frame_bytes_max, |frame| {
            frames += 1;
            bytes += frame.len() as u64;
            engine.receive(source, frame, Arrival::at(now), now);
        });
        self.statistics.datagrams_in += frames;
        self.statistics.bytes_in += bytes;
        if result.is_err() {
            self.statistics.tcp_oversized += 1;
            return Err(io::ErrorKind::InvalidData);
        }
        if !stream.is_kept {
            // Those of one chunk may still be a check and what follows it.
            let before = stream.strange;
            stream.strange = before.saturating_add(frames as u32);
            if before > STRANGE_FRAMES_MAX {
                self.statistics.tcp_strange += 1;
                return Err(io::ErrorKind::InvalidData);
            }
        }
        Ok(())
    }

    /// A connection is of no use any more: one of the engine's is said to have failed, and closed by
    /// it; others close now.
    fn end_stream(&mut self, id: PathId, fault: io::ErrorKind) {
        let Some(slot) = self.path(id) else { return };
        match &mut slot.stream {
            Some(stream) if stream.is_kept => {
                if !std::mem::replace(&mut stream.is_over, true) {
                    self.failed.push((id, fault));
                }
            }
            _ => self.unregister(id.slot),
        }
    }

    /// Sends what the batch has for connections, and takes it out of the list.
    pub(crate) fn transmit_by_streams(&mut self, sends: &mut Vec<SendRun>) {
        if self.streams.open == 0 {
            return;
        }
        let mut at = 0;
        while let Some(first) = sends.get(at) {
            let path = first.path;
            let end = at + sends[at..].iter().take_while(|send| send.path == path).count();
            if self.is_stream(path.slot) {
                self.send_by_stream(path, &sends[at..end]);
            }
            at = end;
        }
        sends.retain(|send| !self.is_stream(send.path.slot));
    }

    fn is_stream(&self, slot: u32) -> bool {
        self.slots[slot as usize].stream.is_some()
    }

    fn send_by_stream(&mut self, path: PathId, runs: &[SendRun]) {
        let now = self.clock.now();
        let Self { batch, slots, streams, statistics, .. } = self;
        let entry = &mut slots[path.slot as usize];
        let (Some(stream), Some(socket)) = (&mut entry.stream, &entry.socket) else { return };
        let mut datagrams = runs.iter().flat_map(|run| {
            let bytes = bytes_of(batch, run).unwrap_or_default();
            bytes.chunks(usize::from(run.segment.max(1))).map(|datagram| (run.class, datagram))
        });
        let before = stream.waiting.len();
        let mut fault = None;
        let mut frames = Frames::new();
        while frames.fill(&mut datagrams) {
            let mut taken = 0;
            if stream.is_over || fault.is_some() {
                statistics.send_errors += frames.count as u64;
                continue;
            }
            if stream.waiting.is_empty() {
                statistics.sends += 1;
                match frames.send(SockRef::from(socket)) {
                    Ok(sent) => taken = sent,
                    Err(error) => {
                        statistics.send_errors += frames.count as u64;
                        fault = Some(error.kind());
                        continue;
                    }
                }
            }
            for frame in frames.iter() {
                let len = frame.1.len() + frame.2.len();
                let of_frame = taken.min(len);
                taken -= of_frame;
                if of_frame < len {
                    let held = streams.waiting_bytes + stream.waiting.len() - before;
                    let room = (streams.limits.waiting_bytes as usize).saturating_sub(held);
                    stream.wait(frame, of_frame, room, statistics);
                }
            }
        }
        let after = stream.waiting.len();
        streams.waiting_bytes += after - before;
        if before == 0 && after > 0 {
            stream.moved_at = now;
            if !std::mem::replace(&mut stream.is_listed, true) {
                streams.waiting.push((path.slot, path.generation));
            }
        }
        if let Some(fault) = fault {
            self.end_stream(path, fault);
        } else {
            self.poll_for_room(path);
        }
    }

    /// Asks to be told when a connection takes more, if something waits for that.
    pub(crate) fn poll_for_room(&mut self, path: PathId) {
        let PathId { slot, generation } = path;
        let stream = self.path(path).and_then(|slot| slot.stream.as_mut());
        let waits = |stream: &&mut Box<Stream>| {
            !stream.waiting.is_empty() && !stream.is_polled && !stream.is_over
        };
        if let Some(stream) = stream.filter(waits) {
            stream.is_polled = true;
            let poll = on!(self.file(slot), |file| {
                opcode::PollAdd::new(file, libc::POLLOUT as u32).build()
            });
            self.push(poll.user_data(Operation::Room { slot, generation }.user_data()));
        }
    }

    /// A connection takes more.
    pub(crate) fn has_room(&mut self, path: PathId) {
        let now = self.clock.now();
        let Some(slot) = self.slots.get_mut(path.slot as usize) else { return };
        let is_current = slot.generation == path.generation;
        let (Some(stream), Some(socket), true) = (&mut slot.stream, &slot.socket, is_current)
        else {
            self.statistics.late_completions += 1;
            return;
        };
        stream.is_polled = false;
        match stream.flush(SockRef::from(socket), now) {
            Ok(sent) => {
                self.streams.waiting_bytes -= sent;
                self.poll_for_room(path);
            }
            Err(error) => self.end_stream(path, error.kind()),
        }
    }

    /// Once a turn: those that have sent no valid check in time, some of them.
    pub(crate) fn expire_strangers(&mut self, now: Nanos) {
        let mut left = TIMED_OUT_MAX;
        while left > 0
            && let Some(&(until, slot, generation)) = self.streams.strangers.front()
            && until <= now
        {
            self.streams.strangers.pop_front();
            if is_stranger(&self.slots, slot, generation) {
                left -= 1;
                self.statistics.tcp_timed_out += 1;
                self.unregister(slot);
            }
        }
    }

    /// When there is one.
    pub(crate) fn strangers_due(&self) -> Option<Nanos> {
        self.streams.strangers.front().map(|&(until, ..)| until)
    }

    /// Once a second: those that take nothing.
    pub(crate) fn expire_streams(&mut self, now: Nanos) {
        let stall = Nanos::from(self.streams.limits.stall_ms) * MS;
        let mut waiting = std::mem::take(&mut self.streams.waiting);
        waiting.retain(|&(slot, generation)| {
            let path = PathId { slot, generation };
            let Some(stream) = self.path(path).and_then(|slot| slot.stream.as_mut()) else {
                return false;
            };
            stream.is_listed = !stream.waiting.is_empty();
            let is_stalled = stream.is_listed && now >= stream.moved_at + stall;
            let is_listed = stream.is_listed;
            if is_stalled {
                self.statistics.tcp_stalled += 1;
                self.end_stream(path, io::ErrorKind::TimedOut);
            }
            !is_stalled && is_listed
        });
        self.streams.waiting = waiting;
    }
}

fn is_stranger(slots: &[Slot], slot: u32, generation: u32) -> bool {
    let slot = slots.get(slot as usize).filter(|slot| slot.generation == generation);
    slot.and_then(|slot| slot.stream.as_ref()).is_some_and(|stream| !stream.is_kept)
}
