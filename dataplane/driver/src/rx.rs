//! [1] Receive: the kernel has put datagrams into provided buffers; each goes to the engine with
//! its arrival time, and its buffer back to the kernel. Next: [2] `core/worker.rs`.
//!
//! Any completion without the "more" flag has ended its multishot receive: it is armed again at the
//! end of the round, when the buffers of the round are free again. A receive that fails again and
//! again without a datagram in between rests for a moment, so that it cannot fill a core.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use io_uring::{cqueue, types::RecvMsgOut};
use ironcast_core::{Arrival, MS, Nanos, batch::PathId};

use crate::{
    Engine, Inbound,
    io::{Io, SlotUse},
    ring::Completion,
};

/// Failures without a datagram in between after which a receive rests before it is armed again.
const FAILURES_MAX: u32 = 8;
pub(crate) const REST: Nanos = 20 * MS;

impl Io {
    /// One completion of a receive.
    pub(crate) fn receive<E: Engine>(
        &mut self,
        slot: u32,
        generation: u32,
        completion: Completion,
        engine: &mut E,
    ) {
        let entry = self.slots.get_mut(slot as usize);
        let entry =
            entry.filter(|entry| entry.generation == generation && entry.usage != SlotUse::Free);
        let buffer = cqueue::buffer_select(completion.flags);
        let Some(entry) = entry else {
            self.statistics.late_completions += 1;
            if let Some(bid) = buffer {
                self.buffers.give_back(bid);
            }
            return;
        };
        let usage = entry.usage;
        if completion.result >= 0 {
            entry.failures = 0;
        }
        let ended = !cqueue::more(completion.flags);
        if ended {
            entry.armed = false;
        }
        let id = PathId { slot, generation };
        match usage {
            SlotUse::StreamListener { local, is_shared } => {
                return self.accept(id, (local, is_shared), completion.result);
            }
            SlotUse::Stream if self.is_anybodys(id) => {
                return self.receive_first(id, completion.result, engine);
            }
            SlotUse::Stream => return self.receive_stream(id, completion, engine),
            SlotUse::Free
            | SlotUse::Listener { .. }
            | SlotUse::Path { .. }
            | SlotUse::Hop { .. } => {}
        }
        if let Some(bid) = buffer {
            if completion.result >= 0 {
                let len = completion.result as usize;
                self.deliver(id, usage, bid, len, engine);
            }
            self.buffers.give_back(bid);
        }
        if ended {
            self.ended(id, completion.result);
        }
    }

    /// A receive has ended: counts why, and has it armed again.
    fn ended(&mut self, id: PathId, result: i32) {
        self.statistics.rearms += 1;
        let rests = match -result {
            // The completion queue was full, or the kernel had enough: nothing is wrong.
            error if error <= 0 => false,
            // We ended it ourselves, to begin anew.
            libc::ECANCELED => false,
            // The socket queues meanwhile, and buffers come back this very turn.
            libc::ENOBUFS => {
                self.statistics.buffer_exhaustions += 1;
                false
            }
            error => self.failed_receive(id, error),
        };
        if rests {
            self.resting.push((self.clock.now() + REST, id.slot, id.generation));
        } else {
            self.unarmed.push((id.slot, id.generation));
        }
    }

    /// Counts an error. True when there have been too many in a row.
    fn failed_receive(&mut self, id: PathId, error: i32) -> bool {
        match error {
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH => {
                self.statistics.connections_refused += 1;
            }
            _ => self.statistics.receive_errors += 1,
        }
        let now = self.clock.now();
        let entry = &mut self.slots[id.slot as usize];
        entry.failures = entry.failures.saturating_add(1);
        if entry.failures == 1 {
            entry.failing_since = Some(now);
        }
        // A peer that changes its network is unreachable for a moment, too: time decides.
        let lasts = |since: &mut Nanos| now.saturating_sub(*since) >= self.path_failure;
        let is_path = matches!(entry.usage, SlotUse::Path { .. });
        if is_path && entry.failing_since.take_if(lasts).is_some() {
            self.failed.push((id, std::io::Error::from_raw_os_error(error).kind()));
        }
        entry.failures >= FAILURES_MAX
    }

    fn deliver<E: Engine>(
        &mut self,
        id: PathId,
        usage: SlotUse,
        bid: u16,
        len: usize,
        engine: &mut E,
    ) {
        let header = match usage {
            SlotUse::Listener { .. } => &self.headers.listener,
            _ => &self.headers.path,
        };
        let now = self.clock.now();
        let bytes = self.buffers.filled(bid, len);
        let Ok(message) = RecvMsgOut::parse(bytes, header) else {
            self.statistics.truncated += 1;
            return;
        };
        if message.is_payload_truncated() {
            self.statistics.truncated += 1;
            return;
        }
        let arrival = stamp(message.control_data());
        let arrival = arrival.map_or_else(|| Arrival::at(now), |ns| self.clock.arrival(ns));
        let source = match usage {
            SlotUse::Listener { local } => match address(message.name_data()) {
                Some(remote) => Inbound::Listener { local, remote },
                None => return,
            },
            _ => Inbound::Path(id),
        };
        let payload_len = message.payload_data().len();
        let start = bytes.len() - payload_len;
        self.statistics.datagrams_in += 1;
        self.statistics.bytes_in += payload_len as u64;
        engine.receive(source, &mut bytes[start..], arrival, now);
    }
}

/// The kernel's stamp out of the control messages, nanoseconds since 1970.
fn stamp(control: &[u8]) -> Option<Nanos> {
    let header = size_of::<libc::cmsghdr>();
    let data = control.get(header..header + size_of::<libc::timespec>())?;
    let level = i32::from_ne_bytes(control.get(8..12)?.try_into().ok()?);
    let kind = i32::from_ne_bytes(control.get(12..16)?.try_into().ok()?);
    if (level, kind) != (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
        return None;
    }
    let seconds = i64::from_ne_bytes(data[..8].try_into().ok()?);
    let nanos = i64::from_ne_bytes(data[8..16].try_into().ok()?);
    Some((seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(nanos as u64))
}

/// An address as the kernel writes it.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(ip), port).into())
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            // Not zero for link-local addresses only: `connect` needs it there.
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            Some(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope).into())
        }
        _ => None,
    }
}
