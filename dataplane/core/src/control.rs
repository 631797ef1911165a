//! Datagrams that are not forwarded media - STUN answers, RTCP, DTLS - from the moment they are made
//! to the end of the turn. Owns their bytes in one buffer that is used again and again.

use crate::batch::{Batch, Class, PathId};

/// See the file's head.
#[derive(Debug)]
pub(crate) struct ControlQueue {
    bytes: Vec<u8>,
    datagrams: Vec<(PathId, u32)>,
    /// Of one turn: what is over it is dropped and counted.
    bytes_max: usize,
    /// Dropped because of the limit.
    pub(crate) dropped: u64,
}

impl ControlQueue {
    /// An empty one.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes: Vec::new(), datagrams: Vec::new(), bytes_max, dropped: 0 }
    }

    /// A datagram for a path.
    pub(crate) fn push(&mut self, path: PathId, datagram: &[u8]) {
        if self.bytes.len() + datagram.len() > self.bytes_max {
            self.dropped += 1;
            return;
        }
        self.bytes.extend_from_slice(datagram);
        self.datagrams.push((path, datagram.len() as u32));
    }

    /// True when nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.datagrams.is_empty()
    }

    /// Moves all into the output.
    pub(crate) fn drain(&mut self, batch: &mut Batch) {
        batch.class = Class::Control;
        let mut at = 0;
        for (path, len) in self.datagrams.drain(..) {
            let len = len as usize;
            if let Some(space) = batch.reserve(len) {
                space[..len].copy_from_slice(&self.bytes[at..at + len]);
                batch.commit(path, len);
            }
            at += len;
        }
        self.bytes.clear();
    }
}
