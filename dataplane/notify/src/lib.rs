//! What the service manager is told by the socket that it names in `NOTIFY_SOCKET` (systemd's
//! `Type=notify`): ready, alive, stopping, and a line for people. Where nobody asks, nothing is
//! said. Each process decides itself when it is ready and what shows that it is alive. And what the
//! service manager allows a process (`LimitNOFILE`) is made use of, and what is no media gives way to it.
#![forbid(unsafe_code)]

use std::time::Duration;

use sd_notify::NotifyState;

#[cfg(feature = "tokio")]
mod report;
#[cfg(feature = "tokio")]
pub use report::report;

/// As many descriptors as the hard limit allows: shells and containers give 1,024, and each connection
/// is one.
pub fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // Where it fails the old limit holds.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// Media first: the calling thread, and those that it starts from now on, wait where they share a core
/// with a worker of the dataplane. What keeps them busy (a command of a control plane, a large room's
/// end) would hold up packets for milliseconds.
pub fn give_way_to_media() {
    const NICE: i32 = 10;
    // To give way is always allowed.
    let _ = rustix::process::setpriority_process(None, NICE);
}

/// It serves; `status` says what, in a line for people.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Another line for people.
pub fn status(status: &str) {
    tell(&[NotifyState::Status(status)]);
}

/// It has begun to end.
pub fn stopping() {
    tell(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// What has to move in it moves.
pub fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How long the service manager waits for [`alive`] before it ends the process; `None` when it
/// does not wait for it.
#[must_use]
pub fn watchdog() -> Option<Duration> {
    sd_notify::watchdog_enabled().filter(|time| !time.is_zero())
}

/// A manager that cannot be told is no reason to stop working.
fn tell(what: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(what) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}
