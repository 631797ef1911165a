//! The longest time in which nothing arrived at any receiver: a server that stands still loses
//! nothing by its sequence numbers. Owned by [`super`]. Counts its own looks and not the clock, so
//! that a load which stands still itself accuses nobody.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use ironcast_load::PeerHandle;
use tokio::time::MissedTickBehavior;

const LOOK: Duration = Duration::from_millis(50);

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
    /// `meter` gives what arrived up to now.
    pub(super) fn watch(meter: Box<dyn Fn() -> u64 + Send>) -> Self {
        let longest = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&longest);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(LOOK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let (mut before, mut looks) = (meter(), 0);
            loop {
                ticks.tick().await;
                let now = meter();
                looks = if now == before { looks + 1 } else { 0 };
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

/// What arrived at these peers.
pub(super) fn of_peers(peers: Vec<PeerHandle>) -> Box<dyn Fn() -> u64 + Send> {
    Box::new(move || {
        peers.iter().map(|peer| peer.counters().bytes_in.load(Ordering::Relaxed)).sum()
    })
}
