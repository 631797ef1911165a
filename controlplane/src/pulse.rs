//! Whether the server lives, for a service manager's watchdog: a look at the state on the threads that
//! serve. Where the lock is never given back, or no thread takes up a task, it does not end.

use std::{sync::Arc, time::Duration};

use crate::engine::Engine;

/// Between two looks at whether there is a dataplane.
const LOOK: Duration = Duration::from_millis(20);

/// See the file's head.
pub struct Pulse {
    engine: Arc<Engine>,
}

impl Pulse {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine }
    }

    /// Ends when there is a dataplane.
    pub async fn attached(&self) {
        while self.engine.lock().link.is_none() {
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Ends when a task got its turn and the state.
    pub async fn sign(&self) {
        let engine = Arc::clone(&self.engine);
        // A panic under the lock is a bug of one call; this takes it for what it is.
        let _ = tokio::spawn(async move { drop(engine.lock()) }).await;
    }
}
