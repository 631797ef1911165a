//! What the pool counts: ends of handshakes by reason, and what was dropped or contained.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use ironcast_core::{
    Nanos,
    histogram::{BUCKETS, Distribution, Times},
};

use crate::{Failure, Output};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What has happened since the start.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct PoolCounts {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl PoolCounts {
            /// All, by name.
            pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name),)*].into_iter()
            }
        }

        #[derive(Debug, Default)]
        pub(super) struct Counters {
            /// Handshakes that are not done.
            pub(super) running: AtomicUsize,
            times: [AtomicU64; BUCKETS],
            times_sum: AtomicU64,
            $(pub(super) $name: AtomicU64,)*
        }

        impl Counters {
            pub(super) fn read(&self) -> PoolCounts {
                PoolCounts { $($name: self.$name.load(Relaxed),)* }
            }
        }
    };
}

counts! {
    /// Handshakes completed.
    connected,
    /// Handshakes failed, for whatever reason.
    failed,
    /// Of these: the peer's certificate, or its proof, could not be used.
    failed_certificate,
    /// Of these: the peer's certificate was not the signalled one.
    failed_fingerprint,
    /// Of these: no common version, cipher suite or key exchange.
    failed_no_common_cipher,
    /// Of these: no common SRTP profile.
    failed_no_common_srtp_profile,
    /// Of these: no answer in time.
    failed_timeout,
    /// Of these: the peer ended it by an alert.
    failed_refused,
    /// Of these: the peer broke the protocol.
    failed_protocol,
    /// Of these: a fault of ours.
    failed_internal,
    /// Datagrams dropped because the queue was full, or oversized.
    datagrams_dropped,
    /// Datagrams dropped because their transport was not started and has too many, or because there
    /// are too many such transports.
    early_dropped,
    /// Faults of associations that were contained.
    panics,
    /// Faults of a thread, which lost its associations and went on.
    thread_failures,
}

impl Counters {
    /// A handshake took so long, in nanoseconds.
    pub(super) fn record_time(&self, time: Nanos) {
        self.times[Times::place(time)].fetch_add(1, Relaxed);
        self.times_sum.fetch_add(time, Relaxed);
    }

    /// How long those took that were completed, in nanoseconds.
    pub(super) fn times(&self) -> Distribution {
        let counts = std::array::from_fn(|place| self.times[place].load(Relaxed));
        Times::distribution_of(counts, self.times_sum.load(Relaxed))
    }

    pub(super) fn count(&self, output: &Output) {
        match output {
            Output::Connected(_) => self.connected.fetch_add(1, Relaxed),
            Output::Failed(failure) => {
                self.failed.fetch_add(1, Relaxed);
                let reason = match failure {
                    Failure::Certificate => &self.failed_certificate,
                    Failure::Fingerprint | Failure::NoFingerprint => &self.failed_fingerprint,
                    Failure::NoCommonCipher => &self.failed_no_common_cipher,
                    Failure::NoCommonSuite => &self.failed_no_common_srtp_profile,
                    Failure::Timeout => &self.failed_timeout,
                    Failure::Refused(_) => &self.failed_refused,
                    Failure::Protocol => &self.failed_protocol,
                    Failure::Internal => &self.failed_internal,
                };
                reason.fetch_add(1, Relaxed)
            }
            Output::Datagram(_) | Output::Closed => 0,
        };
    }
}
