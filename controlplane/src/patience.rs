//! Accepting goes on where the system gives no connection, as without free descriptors: it is said once,
//! counted, tried again after a pause, and said when it works again. Wraps a door's listener.

use std::{
    io,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use salvo::{
    conn::{Accepted, Acceptor, Holding},
    fuse::ArcFusePolicy,
};

use crate::admission::Admission;

/// Want of descriptors passes, but not at once.
const PAUSE: Duration = Duration::from_millis(50);

/// See the file's head.
pub struct Patient<A> {
    inner: A,
    admission: Arc<Admission>,
    failed: u64,
}

impl<A> Patient<A> {
    /// Counts there what failed.
    pub fn new(inner: A, admission: Arc<Admission>) -> Self {
        Self { inner, admission, failed: 0 }
    }
}

impl<A: Acceptor + Send> Acceptor for Patient<A> {
    type Coupler = A::Coupler;
    type Stream = A::Stream;

    fn holdings(&self) -> &[Holding] {
        self.inner.holdings()
    }

    async fn accept(
        &mut self,
        policy: Option<ArcFusePolicy>,
    ) -> io::Result<Accepted<Self::Coupler, Self::Stream>> {
        loop {
            let error = match self.inner.accept(policy.clone()).await {
                Ok(accepted) => {
                    if std::mem::take(&mut self.failed) > 0 {
                        tracing::warn!("connections are accepted again");
                    }
                    return Ok(accepted);
                }
                Err(error) => error,
            };
            self.failed += 1;
            self.admission.accepts_failed.fetch_add(1, Ordering::Relaxed);
            if self.failed == 1 {
                tracing::error!(%error, "no connection can be accepted now; it is tried again");
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
