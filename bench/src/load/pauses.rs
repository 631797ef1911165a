//! The longest time in which nothing arrived at any receiver although something was sent: a server
//! that stands still loses nothing by its sequence numbers. Owned by [`super`]. Counts its own looks
//! and not the clock, and only those between which the load sent, so that a load which stands still
//! itself accuses nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ironcast_load::{PeerHandle, peer::Counters};
use tokio::time::MissedTickBehavior;

const LOOK: Duration = Duration::from_millis(50);

/// What a load has sent and received up to now, in units that only grow.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    pub(super) sent: u64,
    pub(super) received: u64,
}

/// Reads it.
pub(super) type Meter = Box<dyn Fn() -> Traffic + Send>;

/// Watches a load until it is dropped.
#[derive(Debug)]
pub(super) struct Pauses {
    /// In looks.
    longest: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pauses {
    pub(super) fn watch(meter: Meter) -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&longest);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut before, mut looks) = (meter(), 0);
            loop {
                ticks.tick().await;
                let now = meter();
                if now.received != before.received {
                    looks = 0;
                } else if now.sent != before.sent {
                    looks += 1;
                }
                before = now;
                shared.fetch_max(looks, Ordering::Relaxed);
            }
        });
        Self { longest, task }
    }

    /// The longest since the last time.
    pub(super) fn take_ms(&self) -> u64 {
        self.longest.swap(0, Ordering::Relaxed) * LOOK.as_millis() as u64
    }
}

/// The packets of these senders and the bytes that arrived at these receivers.
pub(super) fn of_peers(senders: Vec<PeerHandle>, receivers: Vec<PeerHandle>) -> Meter {
    let sum = |peers: &[PeerHandle], of: fn(&Counters) -> &AtomicU64| -> u64 {
        peers.iter().map(|peer| of(peer.counters()).load(Ordering::Relaxed)).sum()
    };
    Box::new(move || Traffic {
        sent: sum(&senders, |counters| &counters.rtp_out),
        received: sum(&receivers, |counters| &counters.bytes_in),
    })
}
