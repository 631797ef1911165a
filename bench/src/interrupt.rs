//! Ctrl-C: everything that waits looks here and fails, so that whoever set something up takes it
//! down on the way out.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
const STEP: Duration = Duration::from_millis(50);

/// From now on every wait fails.
pub(crate) fn set() {
    INTERRUPTED.store(true, Ordering::Relaxed);
}

/// An error once the run was interrupted.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}

/// Waits.
pub(crate) fn pause(length: Duration) -> Result<()> {
    let end = Instant::now() + length;
    loop {
        check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Waits for a message.
pub(crate) fn receive<T>(from: &Receiver<T>, limit: Duration) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        check()?;
        match from.recv_timeout(STEP) {
            Ok(message) => return Ok(message),
            Err(RecvTimeoutError::Disconnected) => bail!("the process has ended"),
            Err(RecvTimeoutError::Timeout) if Instant::now() > end => bail!("not within {limit:?}"),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
