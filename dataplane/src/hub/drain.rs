//! The end of the process with calls in it: told to end, the hub waits until no room is left, or for
//! a while. The control plane hears of it when it next asks for the process's figures, takes no new
//! rooms, and closes at the deadline what is left. It is this process that waits, and not the control
//! plane, because only its end ends calls: a control plane is replaced under running ones.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ironcast_protocol::snapshot::ResourceKind as Kind;

use super::Hub;

/// How often it is looked whether the end has come.
pub(super) const LOOK: Duration = Duration::from_millis(100);
/// The control plane has so long to close what is left at the deadline.
const CLOSING: Duration = Duration::from_secs(2);

/// While the process waits for its rooms.
#[derive(Debug)]
pub(super) struct Drain {
    /// What the control plane is told: wall time, ms since 1970.
    pub(super) deadline_ms: u64,
    deadline: Instant,
    /// It was empty when last looked at: what was said of it then is written meanwhile.
    was_empty: bool,
}

impl Hub {
    /// Told to end.
    pub(super) fn begin_drain(&mut self) {
        let time = self.parts.drain;
        let rooms = self.registry.count(Kind::Router);
        tracing::info!(rooms, seconds = time.as_secs(), "ending; waits for its rooms first");
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() + time;
        self.drain.get_or_insert_with(|| Drain {
            deadline_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            deadline: Instant::now() + time,
            was_empty: false,
        });
    }

    /// Whether the end has come.
    pub(super) fn is_drained(&mut self, now: Instant) -> bool {
        let rooms = self.registry.count(Kind::Router);
        // Without a control plane nobody can join, and nobody closes a room that all have left.
        let is_alone = self.controller.is_none();
        let is_left = is_alone && self.registry.count(Kind::Transport) == 0;
        let is_empty = (rooms == 0 && self.pending.is_empty()) || is_left;
        let Some(drain) = &mut self.drain else { return false };
        let grace = if is_alone { Duration::ZERO } else { CLOSING };
        if now >= drain.deadline + grace {
            tracing::warn!(rooms, "the time to wait for rooms is over");
            return true;
        }
        std::mem::replace(&mut drain.was_empty, is_empty) && is_empty
    }
}
