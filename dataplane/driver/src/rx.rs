//! [1] Receive: the kernel has put datagrams into provided buffers; each goes to the engine with its
//! arrival time, and its buffer back to the kernel. Next: [2] `core/worker.rs`.
//! Any completion without the "more" flag has ended its multishot receive: it is armed again.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use io_uring::{cqueue, types::RecvMsgOut};
use ironcast_core::{Nanos, batch::PathId};

use crate::{
    Engine, Source,
    io::{File, Io},
};

/// A completion, copied out of the ring.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Completion {
    pub(crate) user_data: u64,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Io {
    /// One completion of a receive.
    pub(crate) fn receive<E: Engine>(
        &mut self,
        slot: u32,
        generation: u32,
        completion: Completion,
        engine: &mut E,
    ) {
        let entry = self.slots.get(slot as usize).copied();
        let current = entry.filter(|entry| entry.generation == generation && entry.file != File::Free);
        if let Some(bid) = cqueue::buffer_select(completion.flags) {
            match current {
                Some(entry) if completion.result >= 0 => {
                    self.deliver(slot, entry.file, generation, bid, completion.result, engine);
                }
                _ => self.statistics.late_completions += 1,
            }
            self.buffers.give_back(bid);
        }
        let Some(_) = current else { return };
        if completion.result < 0 {
            match -completion.result {
                libc::ENOBUFS => self.statistics.buffer_exhaustions += 1,
                libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH => {
                    self.statistics.connections_refused += 1;
                }
                _ => self.statistics.receive_errors += 1,
            }
        }
        if !cqueue::more(completion.flags) {
            self.statistics.rearms += 1;
            self.unarmed.push(slot);
        }
    }

    fn deliver<E: Engine>(
        &mut self,
        slot: u32,
        file: File,
        generation: u32,
        bid: u16,
        len: i32,
        engine: &mut E,
    ) {
        let header = match file {
            File::Listener { .. } => self.headers.listener,
            _ => self.headers.path,
        };
        let now = self.clock.now();
        let bytes = self.buffers.filled(bid, len as usize);
        let Ok(message) = RecvMsgOut::parse(bytes, &header) else { return };
        if message.is_payload_truncated() {
            self.statistics.truncated += 1;
            return;
        }
        let arrival = stamp(message.control_data()).map_or(now, |ns| self.clock.arrival(ns));
        let source = match file {
            File::Listener { local } => match address(message.name_data()) {
                Some(remote) => Source::Listener { local, remote },
                None => return,
            },
            _ => Source::Path(PathId { slot, generation }),
        };
        let payload_len = message.payload_data().len();
        self.statistics.datagrams_in += 1;
        self.statistics.bytes_in += payload_len as u64;
        let end = len as usize;
        engine.receive(source, &mut bytes[end - payload_len..end], arrival, now);
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
    Some(seconds as u64 * 1_000_000_000 + nanos as u64)
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
            Some((Ipv6Addr::from(ip), port).into())
        }
        _ => None,
    }
}
