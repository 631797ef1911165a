//! [8] Transmit: the batch, one send per destination, equal sizes as one segmented send.
//!
//! All are submitted together and do not wait (MSG_DONTWAIT). The kernel carries such a send out
//! inside of the submit, or refuses it there: it never keeps one for later. So when `Ring::submit`
//! has returned, every header, vector and slab is ours again, successes need no completion (SKIP),
//! failures lie in the completion queue, and two sends of one socket never change places.
//!
//! ```text
//! sends  | path 7: 10 x 1112 | path 9: 10 x 1112 | path 9: 1 x 180 | ...
//!            |                   |                    '-- send
//!            '-- sendmsg, UDP_SEGMENT = 1112
//! ```
//! Connections (ICE-TCP) and hops to other workers have ways of their own, in `streams.rs` and `hops.rs`. What fails: a full socket (EAGAIN) is a counted drop. Refused segmentation is remembered for
//! the path, and the datagrams leave one by one. After the ICMP error of an earlier datagram a send
//! is tried once more.

use io_uring::{opcode, squeue::Flags};
use ironcast_core::batch::{Batch, SendRun};

use crate::{
    Transmit,
    files::on,
    io::{Io, SlotUse},
    ring::{ENTRIES, Operation},
    sendmmsg::Calls,
};

/// Room for one control message with a u16 (CMSG_SPACE).
pub(crate) const CONTROL_BYTES: usize = 24;
/// Its length without the padding behind it (CMSG_LEN).
const CONTROL_LEN: usize = size_of::<libc::cmsghdr>() + size_of::<u16>();
/// Flags of every send.
pub(crate) const FLAGS: i32 = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;

/// What the kernel reads while a submit runs: the frame of one segmented send.
#[repr(C)]
pub(crate) struct SendMessage {
    pub(crate) header: libc::msghdr,
    vector: libc::iovec,
    control: Control,
}

/// Control messages are aligned like their header.
#[repr(C, align(8))]
struct Control([u8; CONTROL_BYTES]);

impl SendMessage {
    pub(crate) fn new() -> Self {
        // SAFETY: a zeroed header is valid: no name, no data, no control.
        let header = unsafe { std::mem::zeroed() };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        Self { header, vector, control: Control([0; CONTROL_BYTES]) }
    }

    /// Fills the frame; `segment` asks for segmentation. The header then points into `self`, which
    /// stays where it is until the kernel has read it.
    pub(crate) fn fill(&mut self, bytes: &[u8], segment: Option<u16>) -> &mut libc::msghdr {
        self.vector.iov_base = bytes.as_ptr().cast_mut().cast();
        self.vector.iov_len = bytes.len();
        self.header.msg_iov = &raw mut self.vector;
        self.header.msg_iovlen = 1;
        self.header.msg_control = std::ptr::null_mut();
        self.header.msg_controllen = 0;
        if let Some(segment) = segment {
            let control = &mut self.control.0;
            control[..8].copy_from_slice(&CONTROL_LEN.to_ne_bytes());
            control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
            control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
            control[16..18].copy_from_slice(&segment.to_ne_bytes());
            self.header.msg_control = control.as_mut_ptr().cast();
            self.header.msg_controllen = CONTROL_BYTES as _;
        }
        &mut self.header
    }
}

/// Memory for the sends of one submit.
pub(crate) struct SendMessages {
    messages: Box<[SendMessage]>,
    calls: Calls,
}

impl SendMessages {
    pub(crate) fn new() -> Self {
        Self { messages: (0..ENTRIES).map(|_| SendMessage::new()).collect(), calls: Calls::new() }
    }
}

/// The bytes of a send, if it lies within the batch.
pub(crate) fn bytes_of<'a>(batch: &'a Batch, send: &SendRun) -> Option<&'a [u8]> {
    let slab = batch.filled.get(send.slab as usize)?;
    let start = send.offset as usize;
    slab.bytes.get(start..start.checked_add(send.len as usize)?)
}

/// What became of a send that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    Dropped,
    /// Each datagram by itself, now.
    Singly,
}

impl Io {
    /// Sends the batch and takes its slabs back.
    pub(crate) fn transmit(&mut self, messages: &mut SendMessages) {
        let mut sends = std::mem::take(&mut self.batch.sends);
        sends.retain(|send| self.is_valid(send));
        self.transmit_by_streams(&mut sends);
        self.transmit_by_hops(&mut sends);
        match self.transmit {
            Transmit::IoUring | Transmit::Xdp => {
                self.transmit_by_xdp(&mut sends);
                for chunk in sends.chunks(ENTRIES as usize) {
                    self.transmit_chunk(chunk, &mut messages.messages);
                }
            }
            Transmit::Sendmmsg => self.transmit_by_calls(&sends, &mut messages.calls),
        }
        sends.clear();
        self.batch.sends = sends;
        self.batch.clear();
        self.lend_for(self.batch.filled.len());
        let Batch { free, filled, .. } = &mut self.batch;
        free.append(filled);
    }

    /// Counts a send, or its absence: the path may have been closed after it was queued.
    fn is_valid(&mut self, send: &SendRun) -> bool {
        let usage = self.path(send.path).map(|slot| slot.usage);
        if usage.is_none() || bytes_of(&self.batch, send).is_none() {
            self.statistics.stale_sends += u64::from(send.count);
            return false;
        }
        // Counted where it is written.
        if matches!(usage, Some(SlotUse::Hop { .. })) {
            return true;
        }
        self.statistics.datagrams_out += u64::from(send.count);
        self.statistics.bytes_out += u64::from(send.len);
        self.statistics.spread.run.record(send.count.into());
        true
    }

    /// True when a send leaves as one, false when each of its datagrams leaves by itself.
    pub(crate) fn is_whole(&self, send: &SendRun) -> bool {
        send.count <= 1 || (self.segmentation && !self.slots[send.path.slot as usize].single)
    }

    fn transmit_chunk(&mut self, sends: &[SendRun], messages: &mut [SendMessage]) {
        for (index, (send, frame)) in sends.iter().zip(messages).enumerate() {
            let user_data = Operation::Send { index: index as u32 }.user_data();
            if !self.is_whole(send) {
                self.push_singly(send);
                continue;
            }
            let Some(bytes) = bytes_of(&self.batch, send) else { continue };
            self.statistics.sends += 1;
            let file = self.file(send.path.slot);
            let entry = if send.count == 1 {
                on!(file, |file| {
                    opcode::Send::new(file, bytes.as_ptr(), send.len).flags(FLAGS).build()
                })
            } else {
                self.statistics.segmented_sends += 1;
                let header = frame.fill(bytes, Some(send.segment));
                on!(file, |file| opcode::SendMsg::new(file, header).flags(FLAGS as u32).build())
            };
            self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(user_data));
        }
        let _ = self.ring.submit();
        self.reap(sends);
        // What was tried once more has to be done with the slabs, too.
        let _ = self.ring.submit();
    }

    /// One datagram after the other: where segmentation is refused or switched off.
    /// One that fails is a counted drop: which one it was is not known.
    fn push_singly(&mut self, send: &SendRun) {
        let (start, end) = (send.offset, send.offset + send.len);
        for offset in (start..end).step_by(usize::from(send.segment.max(1))) {
            let len = u32::from(send.segment).min(end - offset);
            let part = SendRun { offset, len, count: 1, ..*send };
            let Some(bytes) = bytes_of(&self.batch, &part) else { return };
            let entry = on!(self.file(send.path.slot), |file| {
                opcode::Send::new(file, bytes.as_ptr(), len).flags(FLAGS).build()
            });
            self.statistics.sends += 1;
            let user_data = Operation::LastTry.user_data();
            self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(user_data));
        }
    }

    /// Sends that failed: successes are silent. All other completions stay where they are.
    fn reap(&mut self, sends: &[SendRun]) {
        self.ring.collect();
        for _ in 0..self.ring.completed.len() {
            let Some(completion) = self.ring.completed.pop_front() else { return };
            let Operation::Send { index } = Operation::parse(completion.user_data) else {
                self.ring.completed.push_back(completion);
                continue;
            };
            let Some(send) = sends.get(index as usize) else { continue };
            if self.failed(send, -completion.result, false) == Failure::Singly {
                self.push_singly(send);
            }
        }
    }

    /// Counts a failed send and says what to do.
    pub(crate) fn failed(&mut self, send: &SendRun, error: i32, is_last_try: bool) -> Failure {
        match error {
            libc::EIO | libc::EINVAL | libc::EMSGSIZE if send.count > 1 && !is_last_try => {
                if let Some(slot) = self.path(send.path)
                    && !slot.single
                {
                    slot.single = true;
                    self.statistics.segmentation_refused += 1;
                }
                Failure::Singly
            }
            // The error of an earlier datagram (ICMP): this one has not left yet.
            libc::ECONNREFUSED if !is_last_try => {
                self.statistics.send_retries += 1;
                Failure::Singly
            }
            error => {
                self.dropped(error, u64::from(send.count));
                Failure::Dropped
            }
        }
    }

    /// Counts datagrams that did not leave.
    pub(crate) fn dropped(&mut self, error: i32, datagrams: u64) {
        match error {
            libc::EAGAIN | libc::ENOBUFS => self.statistics.eagain_drops += datagrams,
            _ => self.statistics.send_errors += datagrams,
        }
    }
}
