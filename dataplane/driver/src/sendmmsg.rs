//! The other way to transmit, by system calls: many destinations in one `sendmmsg` on the listener
//! whose address they leave from. For comparison in the bench, and where a kernel's io_uring sends
//! badly. Called by `tx.rs`, which says what a send is and counts its failures.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use ironcast_core::batch::SendRun;
use socket2::SockAddr;

use crate::{
    io::{Io, SlotUse},
    tx::{FLAGS, Failure, SendMessage, bytes_of},
};

/// Messages of one call (the kernel's limit is 1,024).
const MESSAGES: usize = 512;

/// Memory for the messages of one call.
pub(crate) struct Calls {
    headers: Box<[SendMessage]>,
    names: Box<[SockAddr]>,
    messages: Box<[libc::mmsghdr]>,
    /// Index of the send behind each message.
    origins: Vec<usize>,
}

impl Calls {
    pub(crate) fn new() -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        // SAFETY: a zeroed message is valid: empty.
        let message = || unsafe { std::mem::zeroed() };
        Self {
            headers: (0..MESSAGES).map(|_| SendMessage::new()).collect(),
            names: (0..MESSAGES).map(|_| SockAddr::from(nowhere)).collect(),
            messages: (0..MESSAGES).map(|_| message()).collect(),
            origins: Vec::with_capacity(MESSAGES),
        }
    }

    fn add(&mut self, origin: usize, bytes: &[u8], segment: Option<u16>, to: Option<SocketAddr>) {
        let index = self.origins.len();
        let header = self.headers[index].fill(bytes, segment);
        (header.msg_name, header.msg_namelen) = (std::ptr::null_mut(), 0);
        if let Some(to) = to {
            let name = &mut self.names[index];
            *name = SockAddr::from(to);
            header.msg_name = name.as_ptr().cast_mut().cast();
            header.msg_namelen = name.len();
        }
        self.messages[index].msg_hdr = *header;
        self.origins.push(origin);
    }

    fn is_full(&self) -> bool {
        self.origins.len() == MESSAGES
    }
}

impl Io {
    pub(crate) fn transmit_by_calls(&mut self, sends: &[SendRun], calls: &mut Calls) {
        let mut current: RawFd = -1;
        for (index, send) in sends.iter().enumerate() {
            let Some((socket, to)) = self.way_out(send) else { continue };
            if socket != current {
                self.call(current, sends, calls);
                current = socket;
            }
            let whole = self.is_whole(send);
            let step = if whole { send.len } else { u32::from(send.segment.max(1)) };
            let end = send.offset + send.len;
            for offset in (send.offset..end).step_by(step.max(1) as usize) {
                if calls.is_full() {
                    self.call(current, sends, calls);
                }
                let part = SendRun { offset, len: step.min(end - offset), ..*send };
                let Some(bytes) = bytes_of(&self.batch, &part) else { continue };
                let segment = (whole && send.count > 1).then_some(send.segment);
                calls.add(index, bytes, segment, to);
                self.statistics.sends += 1;
                self.statistics.segmented_sends += u64::from(segment.is_some());
            }
        }
        self.call(current, sends, calls);
    }

    /// The descriptor that a send leaves by, and where to if that socket is not connected.
    fn way_out(&self, send: &SendRun) -> Option<(RawFd, Option<SocketAddr>)> {
        let path = self.slots.get(send.path.slot as usize)?;
        let SlotUse::Path { remote } = path.usage else { return None };
        let listener = path.via.and_then(|via| self.slots.get(via as usize));
        // A listener's slot may meanwhile be another's: only a listener sends for others.
        let shared = listener.filter(|slot| matches!(slot.usage, SlotUse::Listener { .. }));
        match shared.and_then(|slot| slot.socket.as_ref()) {
            Some(socket) => Some((socket.as_raw_fd(), Some(remote))),
            None => Some((path.socket.as_ref()?.as_raw_fd(), None)),
        }
    }

    /// Hands the messages to the kernel, all of them: one that fails ends a call, the rest follow.
    fn call(&mut self, socket: RawFd, sends: &[SendRun], calls: &mut Calls) {
        let mut done = 0;
        let mut tried_again = false;
        while done < calls.origins.len() {
            let rest = &mut calls.messages[done..calls.origins.len()];
            // SAFETY: `rest` are messages whose headers point to names and slabs that live
            // and stay in place for the call; the kernel writes nothing but their `msg_len`.
            let sent =
                unsafe { libc::sendmmsg(socket, rest.as_mut_ptr(), rest.len() as u32, FLAGS) };
            if sent > 0 {
                done += sent as usize;
                tried_again = false;
                continue;
            }
            let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
            if error == libc::EINTR {
                continue;
            }
            let send = &sends[calls.origins[done]];
            let is_part = calls.headers[done].header.msg_controllen == 0;
            let message = SendRun { count: if is_part { 1 } else { send.count }, ..*send };
            match self.failed(&message, error, tried_again) {
                Failure::Dropped => done += 1,
                Failure::Singly if error == libc::ECONNREFUSED => tried_again = true,
                Failure::Singly => {
                    self.call_singly(socket, send, calls.headers[done].header);
                    done += 1;
                }
            }
            if error != libc::ECONNREFUSED {
                tried_again = false;
            }
        }
        calls.origins.clear();
    }

    /// The datagrams of a send whose segmentation was refused.
    fn call_singly(&mut self, socket: RawFd, send: &SendRun, mut header: libc::msghdr) {
        let end = send.offset + send.len;
        for offset in (send.offset..end).step_by(usize::from(send.segment.max(1))) {
            let part = SendRun { offset, len: u32::from(send.segment).min(end - offset), ..*send };
            let Some(bytes) = bytes_of(&self.batch, &part) else { return };
            let mut vector =
                libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
            header.msg_iov = &raw mut vector;
            header.msg_control = std::ptr::null_mut();
            header.msg_controllen = 0;
            // SAFETY: the header points to a vector and a slab that live for the call, and to a
            // name that `Calls` keeps.
            let sent = unsafe { libc::sendmsg(socket, &raw const header, FLAGS) };
            self.statistics.sends += 1;
            if sent < 0 {
                let error = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
                self.dropped(error, 1);
            }
        }
    }
}
