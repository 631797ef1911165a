//! What the peer was told when an association failed: said again when it repeats itself, because the
//! datagram that told it may be lost. All that is left of an association that has failed.

use std::collections::VecDeque;

use ironcast_core::Nanos;

use crate::{
    Association, Failure, Output,
    records::{self, CONTENT_ALERT, CONTENT_HANDSHAKE, LEVEL_FATAL},
};

/// So often: a peer that repeats its flight more often does not listen.
const REPEATS_MAX: u8 = 8;
/// First bytes of the unified header of DTLS 1.3 (RFC 9147 section 4.1), which tells nothing of what is
/// in it.
const UNIFIED: std::ops::RangeInclusive<u8> = 32..=63;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct LastWords {
    datagrams: Vec<Vec<u8>>,
    left: u8,
    outputs: VecDeque<Output>,
}

impl LastWords {
    /// These, as they have been sent once.
    pub(crate) fn new(datagrams: Vec<Vec<u8>>) -> Self {
        Self { datagrams, left: REPEATS_MAX, outputs: VecDeque::new() }
    }

    /// Of an association that cannot say anything any more.
    pub(crate) fn of(failure: Failure) -> Self {
        Self::new(failure.alert().map(plain_alert).into_iter().collect())
    }

    /// What they are.
    pub(crate) fn datagrams(&self) -> impl Iterator<Item = Output> {
        self.datagrams.iter().cloned().map(Output::Datagram)
    }
}

impl Association for LastWords {
    fn handle_datagram(&mut self, datagram: &[u8], _: Nanos) {
        let first = datagram.first().copied().unwrap_or(0);
        // An alert is not answered by another one.
        if (first == CONTENT_HANDSHAKE || UNIFIED.contains(&first)) && self.left > 0 {
            self.left -= 1;
            self.outputs.extend(self.datagrams.iter().cloned().map(Output::Datagram));
        }
    }

    fn handle_timeout(&mut self, _: Nanos) {}

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Nanos> {
        None
    }
}

/// An alert in the clear. The number is one that no record of ours has.
pub(crate) fn plain_alert(description: u8) -> Vec<u8> {
    let body = [LEVEL_FATAL, description];
    records::write_record(CONTENT_ALERT, [0, 0, 0xff, 0, 0, 0], &body)
}
