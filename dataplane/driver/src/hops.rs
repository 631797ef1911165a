//! Hops: what one worker of the process sends to another, without a socket. Owns the rings between
//! workers: one for each direction of a pair that has anything to say, made when it is first used.
//!
//! ```text
//!   worker 0                                   worker 1
//!   batch -> ring 0->1 (one writer, one reader) -> receive_hops -> engine
//!            | header, datagram | header, ... |
//!   end of the turn: one bell for each ring that was written to
//! ```
//! A hop's end is a path like any other ([`Io::open_hop`]); [`Io::connect_hop`] says where its other
//! end is. Datagrams keep their order. A ring that is full takes nothing more: what does not fit is
//! dropped and counted, and whoever misses it asks for it, as over a network.
//!
//! The bell is the mailbox's: the writer stores `hops` after its last datagram, the reader takes it
//! back before it looks, and both use one total order (see `mailbox.rs`), so none is overlooked.
//!
//! A ring ends with either worker. What was connected through it is dead then, and stays so: a worker
//! that starts again has other paths of the same numbers.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use ironcast_core::{
    Arrival, Nanos,
    batch::{PathId, SendRun},
};
use rtrb::{Consumer, CopyToUninit, Producer, RingBuffer};

use crate::{
    clock::Clock,
    io::{Io, SlotUse},
    mailbox::Bell,
    tx::bytes_of,
    worker_loop::{Engine, Inbound},
};

/// In front of each datagram: its length, the path that it is for, and when it was sent.
const HEADER_BYTES: usize = 24;
/// Datagrams between two looks at the clock.
const LOOKS_AT_CLOCK: u32 = 16;
/// No datagram is longer.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;

/// Where workers find each other: one place each, for the whole process.
#[derive(Debug, Clone, Default)]
pub struct Exchange(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    places: Vec<Mutex<Place>>,
    /// Rings are told apart by it.
    rings: AtomicU32,
}

/// What a worker is reached by.
#[derive(Debug, Default)]
struct Place {
    bell: Option<Arc<Bell>>,
    /// Rings that it has not taken yet.
    rings: Vec<Consumer<u8>>,
}

impl Exchange {
    /// For that many workers.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        let places = (0..workers).map(|_| Mutex::default()).collect();
        Self(Arc::new(Shared { places, rings: AtomicU32::new(0) }))
    }

    /// A worker begins, perhaps again: rings to the one before it end.
    pub(crate) fn join(&self, worker: u16, bell: &Arc<Bell>, ring_bytes: usize) -> Hops {
        self.at(worker, |place| {
            *place = Place { bell: Some(Arc::clone(bell)), rings: Vec::new() };
        });
        Hops {
            exchange: self.clone(),
            worker,
            bell: Arc::clone(bell),
            ring_bytes,
            incoming: Vec::new(),
            first: 0,
            outgoing: BTreeMap::new(),
            written: Vec::new(),
            datagram: Vec::new(),
            open: 0,
        }
    }

    fn leave(&self, worker: u16, bell: &Arc<Bell>) {
        self.at(worker, |place| {
            if place.bell.as_ref().is_some_and(|known| Arc::ptr_eq(known, bell)) {
                *place = Place::default();
            }
        });
    }

    fn at<T>(&self, worker: u16, work: impl FnOnce(&mut Place) -> T) -> Option<T> {
        let place = self.0.places.get(usize::from(worker))?;
        Some(work(&mut place.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// A ring to another worker.
struct Outgoing {
    ring: Producer<u8>,
    bell: Arc<Bell>,
    number: u32,
    /// Written to in this turn.
    is_written: bool,
}

/// The other end of a hop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FarEnd {
    worker: u16,
    path: PathId,
    /// The ring that it was connected through.
    ring: u32,
}

/// One worker's hops.
pub(crate) struct Hops {
    exchange: Exchange,
    worker: u16,
    bell: Arc<Bell>,
    ring_bytes: usize,
    incoming: Vec<Consumer<u8>>,
    /// Which is read first in the next turn.
    first: usize,
    outgoing: BTreeMap<u16, Outgoing>,
    /// Workers that are told at the end of the turn.
    written: Vec<u16>,
    /// The one that is being received.
    datagram: Vec<u8>,
    /// Ends that are open here.
    open: usize,
}

impl Drop for Hops {
    fn drop(&mut self) {
        self.exchange.leave(self.worker, &self.bell);
    }
}

impl Hops {
    /// The number of the ring to a worker, which is made if need be.
    fn ring_to(&mut self, worker: u16) -> io::Result<u32> {
        if let Some(known) = self.outgoing.get(&worker)
            && !known.ring.is_abandoned()
        {
            return Ok(known.number);
        }
        let number = self.exchange.0.rings.fetch_add(1, Ordering::Relaxed);
        let (ring, reader) = RingBuffer::new(self.ring_bytes);
        let bell = self.exchange.at(worker, |place| {
            let bell = place.bell.clone()?;
            place.rings.push(reader);
            Some(bell)
        });
        let bell = bell.flatten().ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotConnected, format!("worker {worker} does not run"))
        })?;
        self.outgoing.insert(worker, Outgoing { ring, bell, number, is_written: false });
        Ok(number)
    }
}

impl Io {
    /// An end of a hop; nothing leaves before [`Io::connect_hop`].
    ///
    /// # Errors
    /// The table of sockets is full.
    pub fn open_hop(&mut self) -> io::Result<PathId> {
        let slot = self.take_slot()?;
        let generation = self.occupy(slot, SlotUse::Hop { to: None }, None, None);
        self.hops.open += 1;
        Ok(PathId { slot, generation })
    }

    /// Says where the other end is: a worker, and its path.
    ///
    /// # Errors
    /// `NotFound`: there is no such end here. `NotConnected`: the worker does not run.
    pub fn connect_hop(&mut self, path: PathId, worker: u16, far: PathId) -> io::Result<()> {
        let is_hop = self.path(path).is_some_and(|slot| matches!(slot.usage, SlotUse::Hop { .. }));
        if !is_hop {
            return Err(io::ErrorKind::NotFound.into());
        }
        let ring = self.hops.ring_to(worker)?;
        if let Some(slot) = self.path(path) {
            slot.usage = SlotUse::Hop { to: Some(FarEnd { worker, path: far, ring }) };
        }
        Ok(())
    }

    /// An end is gone.
    pub(crate) fn hop_closed(&mut self) {
        self.hops.open -= 1;
    }

    /// Writes what the batch has for other workers, and takes it out of the list.
    pub(crate) fn transmit_by_hops(&mut self, sends: &mut Vec<SendRun>) {
        if self.hops.open == 0 {
            return;
        }
        let now = self.clock.now();
        let Self { batch, slots, hops, statistics, .. } = self;
        sends.retain(|send| {
            let SlotUse::Hop { to } = slots[send.path.slot as usize].usage else { return true };
            let count = u64::from(send.count);
            let ring = to.and_then(|to| {
                let outgoing = hops.outgoing.get_mut(&to.worker)?;
                let is_same = outgoing.number == to.ring && !outgoing.ring.is_abandoned();
                is_same.then_some((to, outgoing))
            });
            let Some((to, outgoing)) = ring else {
                statistics.hop_stale += count;
                return false;
            };
            let bytes = bytes_of(batch, send).unwrap_or_default();
            let mut written = 0;
            for datagram in bytes.chunks(usize::from(send.segment.max(1))) {
                if !write(&mut outgoing.ring, to.path, now, datagram) {
                    break;
                }
                written += 1;
            }
            statistics.hop_datagrams_out += written;
            statistics.hop_dropped += count.saturating_sub(written);
            if !std::mem::replace(&mut outgoing.is_written, true) {
                hops.written.push(to.worker);
            }
            false
        });
    }

    /// A portion of output is written: whoever has something to read is told, once.
    pub(crate) fn ring_bells(&mut self) {
        let hops = &mut self.hops;
        for worker in hops.written.drain(..) {
            if let Some(outgoing) = hops.outgoing.get_mut(&worker) {
                outgoing.is_written = false;
                outgoing.bell.hops_came();
            }
        }
    }

    /// What other workers have sent, until there is no more or the time is over: then the rest makes
    /// the next turn come at once.
    pub(crate) fn receive_hops<E: Engine>(&mut self, engine: &mut E, end: Nanos) {
        if !self.hops.bell.take_hops() {
            return;
        }
        let hops = &mut self.hops;
        hops.exchange.at(hops.worker, |place| hops.incoming.append(&mut place.rings));
        let now = self.clock.now();
        let count = hops.incoming.len();
        let mut left = LOOKS_AT_CLOCK;
        for index in 0..count {
            let at = (hops.first + index) % count;
            let ring = &mut hops.incoming[at];
            while let Some((path, sent_at)) = read(ring, &mut hops.datagram) {
                self.statistics.hop_datagrams_in += 1;
                self.statistics.spread.hop.record(now.saturating_sub(sent_at));
                let arrival = Arrival::at(sent_at);
                engine.receive(Inbound::Path(path), &mut hops.datagram, arrival, now);
                left -= 1;
                if left == 0 {
                    left = LOOKS_AT_CLOCK;
                    if Clock::monotonic() >= end {
                        hops.first = at + 1;
                        hops.bell.hops_left();
                        self.statistics.receives_deferred += 1;
                        return;
                    }
                }
            }
        }
        hops.incoming.retain(|ring| !ring.is_abandoned() || !ring.is_empty());
        hops.first = 0;
    }
}

/// Header and datagram into the ring. False where it has no room for both.
fn write(ring: &mut Producer<u8>, to: PathId, at: Nanos, datagram: &[u8]) -> bool {
    let Ok(mut chunk) = ring.write_chunk_uninit(HEADER_BYTES + datagram.len()) else {
        return false;
    };
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(datagram.len() as u32).to_ne_bytes());
    header[4..8].copy_from_slice(&to.slot.to_ne_bytes());
    header[8..12].copy_from_slice(&to.generation.to_ne_bytes());
    header[16..].copy_from_slice(&at.to_ne_bytes());
    let (first, second) = chunk.as_mut_slices();
    let mut at = 0;
    for part in [&header[..], datagram] {
        // A chunk is one piece, or two where the ring begins anew.
        let in_first = first.len().saturating_sub(at).min(part.len());
        if in_first > 0 {
            part[..in_first].copy_to_uninit(&mut first[at..at + in_first]);
        }
        if in_first < part.len() {
            let from = (at + in_first) - first.len();
            part[in_first..].copy_to_uninit(&mut second[from..from + part.len() - in_first]);
        }
        at += part.len();
    }
    // SAFETY: all of the chunk is initialised: header and datagram are as long as it is.
    unsafe { chunk.commit_all() };
    true
}

/// The next datagram, where it goes, and when it was sent.
fn read(ring: &mut Consumer<u8>, into: &mut Vec<u8>) -> Option<(PathId, Nanos)> {
    let mut header = [0; HEADER_BYTES];
    let chunk = ring.read_chunk(HEADER_BYTES).ok()?;
    let (first, second) = chunk.as_slices();
    header[..first.len()].copy_from_slice(first);
    header[first.len()..].copy_from_slice(second);
    let word = |at: usize| {
        let mut bytes = [0; 4];
        bytes.copy_from_slice(&header[at..at + 4]);
        u32::from_ne_bytes(bytes)
    };
    let len = (word(0) as usize).min(DATAGRAM_BYTES_MAX);
    let mut at = [0; 8];
    at.copy_from_slice(&header[16..]);
    let path = PathId { slot: word(4), generation: word(8) };
    // Written in one go with its header: it is there.
    let chunk = ring.read_chunk(HEADER_BYTES + len).ok()?;
    let (first, second) = chunk.as_slices();
    into.clear();
    into.extend_from_slice(first.get(HEADER_BYTES..).unwrap_or_default());
    into.extend_from_slice(&second[HEADER_BYTES.saturating_sub(first.len()).min(second.len())..]);
    chunk.commit_all();
    Some((path, Nanos::from_ne_bytes(at)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: PathId = PathId { slot: 7, generation: 3 };

    #[test]
    fn datagrams_keep_their_order_and_bytes_wherever_the_ring_begins_anew() {
        let (mut writer, mut reader) = RingBuffer::new(1_000);
        let mut datagram = Vec::new();
        let (mut sent, mut taken) = (0u64, 0u64);
        let bytes = |number: u64| vec![number as u8; (number * 37 % 301) as usize];
        while taken < 10_000 {
            while write(&mut writer, PATH, sent, &bytes(sent)) {
                sent += 1;
            }
            // Not all of them: what is left moves the place where the next one begins.
            for _ in 0..2 {
                let Some((path, at)) = read(&mut reader, &mut datagram) else { break };
                assert_eq!((path, at), (PATH, taken));
                assert_eq!(datagram, bytes(taken), "number {taken}");
                taken += 1;
            }
        }
        assert!(sent > taken);
    }

    #[test]
    fn what_does_not_fit_is_not_begun() {
        let (mut writer, mut reader) = RingBuffer::new(100);
        assert!(!write(&mut writer, PATH, 1, &[0; 90]));
        assert!(write(&mut writer, PATH, 2, &[5; 60]));
        assert!(!write(&mut writer, PATH, 3, &[0; 10]));
        let mut datagram = Vec::new();
        assert_eq!(read(&mut reader, &mut datagram), Some((PATH, 2)));
        assert_eq!(datagram, [5; 60]);
        assert_eq!(read(&mut reader, &mut datagram), None);
    }
}
