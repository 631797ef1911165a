//! What a browser believes to be able to receive, roughly as libwebrtc's receive-side estimate: down to
//! 0.85 of what arrives when packets wait longer and longer, up by 8 % a second while they do not,
//! and never far above what arrives, since nothing is known of more. Owns no packet.

use std::collections::VecDeque;

use ironcast_core::{MS, Nanos, SECOND};

const WINDOW: Nanos = 500 * MS;
/// Less says nothing about a rate.
const WINDOW_MIN: Nanos = 150 * MS;
/// A queue that packets wait in.
const QUEUE: Nanos = 60 * MS;
/// None.
const NO_QUEUE: Nanos = 15 * MS;
/// It is said at once that it fell, but not more often.
const SPACING: Nanos = 200 * MS;

/// See the file's head.
#[derive(Debug, Default)]
pub struct Estimate {
    arrived: VecDeque<(Nanos, usize)>,
    bps: Option<f64>,
    backlog: Nanos,
    began: Option<Nanos>,
    updated: Nanos,
    fell_at: Nanos,
}

impl Estimate {
    /// What the next REMB says.
    #[must_use]
    pub fn bps(&self) -> Option<u64> {
        self.bps.map(|bps| bps as u64)
    }

    /// A packet of `len` bytes, behind which others wait for so long. True when it is to be said
    /// at once.
    pub fn receive(&mut self, len: usize, backlog: Nanos, now: Nanos) -> bool {
        self.arrived.push_back((now, len));
        while self.arrived.front().is_some_and(|(at, _)| at + WINDOW < now) {
            self.arrived.pop_front();
        }
        let bytes: usize = self.arrived.iter().map(|(_, len)| len).sum();
        let began = *self.began.get_or_insert(now);
        let span = (now - began).clamp(WINDOW_MIN, WINDOW);
        let rate = bytes as f64 * 8.0 * SECOND as f64 / span as f64;
        let since = now.saturating_sub(self.updated).min(SECOND) as f64 / SECOND as f64;
        self.updated = now;
        let grows = backlog >= self.backlog;
        self.backlog = backlog;
        if backlog > QUEUE && grows && now > began + WINDOW_MIN {
            if now < self.fell_at + SPACING {
                return false;
            }
            self.fell_at = now;
            self.bps = Some(self.bps.unwrap_or(f64::MAX).min(rate * 0.85));
            return true;
        }
        if self.bps.is_none() && now > began + 5 * SECOND {
            self.bps = Some(rate);
        }
        if backlog < NO_QUEUE
            && let Some(bps) = &mut self.bps
        {
            *bps = bps.max((*bps * 1.08f64.powf(since)).min(rate * 1.5 + 10_000.0));
        }
        false
    }
}
