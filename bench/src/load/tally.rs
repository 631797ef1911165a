//! What the verified sample of all receivers says, gathered. Owned by [`super`].

use std::sync::{Arc, Mutex};

use hdrhistogram::Histogram;
use ironcast_load::payload::{self, PayloadError};
use serde::{Deserialize, Serialize};

/// Counts since the load began; delays since they were last taken.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Counts {
    /// Packets that the receivers together should get, by what was sent.
    pub(crate) sent: u64,
    /// Packets that they got, by headers.
    pub(crate) received: u64,
    /// Sent and never arrived, of each receiver and stream for itself; what is still under way is
    /// not among them. As of the last settling (see [`super::lag`]).
    pub(crate) lost: u64,
    /// Longest time in which nothing at all arrived, since the last time that counts were taken.
    pub(crate) pause_ms: u64,
    /// Seen twice.
    pub(crate) duplicates: u64,
    /// Retransmissions.
    pub(crate) repeats: u64,
    /// Opened, and their checksum right.
    pub(crate) verified: u64,
    /// Opened, and their checksum wrong, or not opened because the tag was.
    pub(crate) corrupt: u64,
    /// Bytes of datagrams that arrived.
    pub(crate) bytes: u64,
    /// From sending to arrival of the sample: microseconds, and how many.
    pub(crate) delay_us: Vec<(u64, u64)>,
}

/// Shared by all receivers of a load.
#[derive(Debug, Clone)]
pub(crate) struct Tally {
    /// One of so many blocks is looked at.
    pub(crate) period: u16,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    verified: u64,
    corrupt: u64,
    delay_us: Histogram<u64>,
}

impl Tally {
    pub(crate) fn new(period: u16) -> Self {
        let delay_us = Histogram::new_with_bounds(1, 60_000_000, 3).expect("allowed bounds");
        let inner = Inner { verified: 0, corrupt: 0, delay_us };
        Self { period: period.max(1), inner: Arc::new(Mutex::new(inner)) }
    }

    /// An opened payload.
    pub(crate) fn look_at(&self, payload: &[u8], at_ns: u64) {
        // Padding alone, as used for probing.
        if payload.is_empty() {
            return;
        }
        let result = payload::read(payload);
        let mut inner = self.inner.lock().expect("no panic while locked");
        match result {
            Ok(stamp) => {
                inner.verified += 1;
                let delay_us = at_ns.saturating_sub(stamp.sent_ns) / 1_000;
                inner.delay_us.saturating_record(delay_us.max(1));
            }
            Err(PayloadError::Foreign | PayloadError::Corrupt) => inner.corrupt += 1,
        }
    }

    /// The sample's part of the counts; delays begin anew.
    pub(crate) fn take(&self) -> Counts {
        let mut inner = self.inner.lock().expect("no panic while locked");
        let delay_us = inner
            .delay_us
            .iter_recorded()
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        inner.delay_us.reset();
        Counts { verified: inner.verified, corrupt: inner.corrupt, delay_us, ..Counts::default() }
    }
}
