//! The worker's io_uring: its set-up and the meaning of `user_data`. Owned by the worker's thread
//! alone (SINGLE_ISSUER); completions are delivered only when it asks (DEFER_TASKRUN).

use std::io;

use io_uring::IoUring;

/// Submissions of one batch; more are submitted in several.
pub(crate) const ENTRIES: u32 = 1_024;
const COMPLETIONS: u32 = 16_384;

/// What a completion is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Multishot receive of a file slot.
    Receive { slot: u32, generation: u32 },
    /// A send: index in the turn's list.
    Send { index: u32 },
    /// The mailbox was written to.
    Wake,
    /// Nobody waits for it.
    Other,
}

const RECEIVE: u64 = 1 << 62;
const SEND: u64 = 2 << 62;
const WAKE: u64 = 3 << 62;
/// Slots have 24 bits.
pub(crate) const SLOTS_MAX: u32 = 1 << 24;

impl Operation {
    pub(crate) fn user_data(self) -> u64 {
        match self {
            Self::Receive { slot, generation } => {
                RECEIVE | u64::from(slot) << 32 | u64::from(generation)
            }
            Self::Send { index } => SEND | u64::from(index),
            Self::Wake => WAKE,
            Self::Other => 0,
        }
    }

    pub(crate) fn parse(user_data: u64) -> Self {
        match user_data & WAKE {
            RECEIVE => Self::Receive {
                slot: (user_data >> 32) as u32 & (SLOTS_MAX - 1),
                generation: user_data as u32,
            },
            SEND => Self::Send { index: user_data as u32 },
            WAKE => Self::Wake,
            _ => Self::Other,
        }
    }
}

/// A ring for the calling thread.
pub(crate) fn open() -> io::Result<IoUring> {
    IoUring::builder()
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(COMPLETIONS)
        .build(ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_says_what_it_is_about() {
        for operation in [
            Operation::Receive { slot: SLOTS_MAX - 1, generation: u32::MAX },
            Operation::Send { index: 77 },
            Operation::Wake,
            Operation::Other,
        ] {
            assert_eq!(Operation::parse(operation.user_data()), operation);
        }
    }
}
