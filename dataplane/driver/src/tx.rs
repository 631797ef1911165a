//! [8] Transmit: the batch, one send per destination, equal sizes as one segmented send. All are
//! submitted together and do not wait (MSG_DONTWAIT), so each is done, or refused, when the submit
//! returns: its slab is free again at once, and two sends of one socket never change places.

use std::io;

use io_uring::{opcode, squeue::Flags, types};
use ironcast_core::batch::Send;

use crate::{
    io::{File, Io},
    ring::{ENTRIES, Operation},
};

/// Room for one control message with a u16.
const CONTROL_BYTES: usize = 24;

/// What the kernel reads while a submit runs: headers, vectors and control messages of one chunk.
pub(crate) struct Frames {
    headers: Vec<libc::msghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<[u8; CONTROL_BYTES]>,
}

impl Frames {
    pub(crate) fn new() -> Self {
        // SAFETY: zeroed headers and vectors are valid: empty.
        let header: libc::msghdr = unsafe { std::mem::zeroed() };
        let vector = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        let entries = ENTRIES as usize;
        Self {
            headers: vec![header; entries],
            vectors: vec![vector; entries],
            controls: vec![segment_control(0); entries],
        }
    }
}

/// A control message that asks for segmentation (UDP_SEGMENT).
fn segment_control(segment: u16) -> [u8; CONTROL_BYTES] {
    let mut control = [0; CONTROL_BYTES];
    let len = size_of::<libc::cmsghdr>() + size_of::<u16>();
    control[..8].copy_from_slice(&len.to_ne_bytes());
    control[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    control[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    control[16..18].copy_from_slice(&segment.to_ne_bytes());
    control
}

impl Io {
    /// Sends the batch and takes its slabs back.
    pub(crate) fn transmit(&mut self, frames: &mut Frames) {
        let sends = std::mem::take(&mut self.batch.sends);
        for chunk in sends.chunks(ENTRIES as usize - 64) {
            self.transmit_chunk(chunk, frames);
        }
        self.batch.sends = sends;
        self.batch.clear();
        let filled = std::mem::take(&mut self.batch.filled);
        self.batch.free.extend(filled);
    }

    fn transmit_chunk(&mut self, sends: &[Send], frames: &mut Frames) {
        for (index, send) in sends.iter().enumerate() {
            let Some(slot) = self.slots.get(send.path.slot as usize) else { continue };
            if slot.generation != send.path.generation || slot.file != File::Path {
                self.statistics.stale_sends += 1;
                continue;
            }
            self.statistics.sends += 1;
            self.statistics.datagrams_out += u64::from(send.count);
            self.statistics.bytes_out += u64::from(send.len);
            if send.count > 1 && slot.single {
                self.send_singly(send);
                continue;
            }
            let slab = &self.batch.filled[send.slab as usize];
            let bytes = &slab.bytes[send.offset as usize..(send.offset + send.len) as usize];
            let user_data = Operation::Send { index: index as u32 }.user_data();
            let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
            let entry = if send.count == 1 {
                opcode::Send::new(types::Fixed(send.path.slot), bytes.as_ptr(), send.len)
                    .flags(flags)
                    .build()
            } else {
                self.statistics.segmented_sends += 1;
                let vector = &mut frames.vectors[index];
                vector.iov_base = bytes.as_ptr().cast_mut().cast();
                vector.iov_len = bytes.len();
                let control = &mut frames.controls[index];
                *control = segment_control(send.segment);
                let header = &mut frames.headers[index];
                header.msg_iov = vector;
                header.msg_iovlen = 1;
                header.msg_control = control.as_mut_ptr().cast();
                header.msg_controllen = (size_of::<libc::cmsghdr>() + 8) as _;
                opcode::SendMsg::new(types::Fixed(send.path.slot), header)
                    .flags(flags as u32)
                    .build()
            };
            self.push(entry.flags(Flags::SKIP_SUCCESS).user_data(user_data));
        }
        let _ = self.ring.submit();
        self.reap_sends(sends);
    }

    /// Sends that failed: successes are silent.
    fn reap_sends(&mut self, sends: &[Send]) {
        let mut failed = Vec::new();
        let mut others = std::mem::take(&mut self.postponed);
        for completion in self.ring.completion() {
            match Operation::parse(completion.user_data()) {
                Operation::Send { index } => failed.push((index, completion.result())),
                _ => others.push(crate::rx::Completion {
                    user_data: completion.user_data(),
                    result: completion.result(),
                    flags: completion.flags(),
                }),
            }
        }
        self.postponed = others;
        for (index, result) in failed {
            let Some(send) = sends.get(index as usize) else { continue };
            match -result {
                libc::EAGAIN | libc::ENOBUFS => self.statistics.eagain_drops += u64::from(send.count),
                libc::EIO | libc::EINVAL | libc::EMSGSIZE if send.count > 1 => {
                    self.statistics.segmentation_refused += 1;
                    if let Some(slot) = self.slots.get_mut(send.path.slot as usize) {
                        slot.single = true;
                    }
                    self.send_singly(send);
                }
                // The error of an earlier datagram (ICMP): this one has not left yet.
                libc::ECONNREFUSED => {
                    self.statistics.send_retries += 1;
                    self.send_singly(send);
                }
                _ => self.statistics.send_errors += 1,
            }
        }
    }

    /// One datagram after the other: the way out where segmentation is refused.
    fn send_singly(&mut self, send: &Send) {
        let path = types::Fixed(send.path.slot);
        let mut offset = send.offset;
        let end = send.offset + send.len;
        while offset < end {
            let len = u32::from(send.segment).min(end - offset);
            let slab = &self.batch.filled[send.slab as usize];
            let bytes = slab.bytes[offset as usize..].as_ptr();
            let entry = opcode::Send::new(path, bytes, len)
                .flags(libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
                .build()
                .flags(Flags::SKIP_SUCCESS)
                .user_data(Operation::Other.user_data());
            self.push(entry);
            offset += len;
        }
        let _: io::Result<usize> = self.ring.submit();
    }
}
