//! Two real processes over real sockets: starts the binaries of the dataplane and the
//! control plane with a state folder and ports of their own, waits until they are ready, ends them
//! with the test. Tests drive them with participants of `ironcast-load`, which share no code with
//! the server. Signaling services can be started beside them. Knows nothing of what the tests assert.
#![forbid(unsafe_code)]

mod attach;
mod clock;
mod hosts;
mod manager;
mod pair;
mod ports;
mod signaling;
mod stores;

pub use attach::{AttachError, Attachment};
pub use clock::SteppedClock;
pub use hosts::Hosts;
pub use manager::Manager;
pub use pair::{OtherControl, Pair, PairBuilder, Refusal, next_file};
pub use signaling::{Joined, Member, Signaling};
pub use stores::Stores;

use std::{future::Future, time::Duration};

/// For everything that has to happen sooner or later; far above what it takes.
pub const LIMIT: Duration = Duration::from_secs(20);

/// Asks again until the answer satisfies; panics with `what` when the time is over.
pub async fn eventually<F, Fut>(what: &str, mut so: F)
where
    F: FnMut() -> Fut,
    Fut: Future<Output = bool>,
{
    let asked = tokio::time::timeout(LIMIT, async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(asked.await.is_ok(), "{what}: not within {LIMIT:?}");
}
