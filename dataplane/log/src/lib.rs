//! The log of all three processes. Lines leave their thread through a bounded queue: whoever logs, a
//! packet thread among them, never waits for the reader of standard error, and never fails where
//! the disk is full. What does not fit, what cannot be written, and what one line of code says too
//! often, is dropped and counted.
#![forbid(unsafe_code)]

mod repeats;
mod steady;

use std::{
    io::{IsTerminal as _, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter, Layer as _, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

pub use crate::{
    repeats::Repeats,
    steady::{Change, Steady},
};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;

/// A log that was begun. What waits is written when this is dropped.
pub struct Log {
    /// What was dropped.
    pub counts: LogCounts,
    /// Takes another filter.
    pub set_filter: Arc<dyn Fn(EnvFilter) + Send + Sync>,
    _writer: WorkerGuard,
}

/// What was dropped.
#[derive(Debug, Clone, Default)]
pub struct LogCounts {
    dropped: Option<ErrorCounter>,
    failed: Arc<AtomicU64>,
    suppressed: Arc<AtomicU64>,
}

impl LogCounts {
    /// Of what goes through this queue; nothing yet.
    #[must_use]
    pub fn new(lines: &NonBlocking) -> Self {
        Self { dropped: Some(lines.error_counter()), ..Self::default() }
    }

    /// Lines that found no room, that could not be written, and that came too often, by name.
    #[must_use]
    pub fn all(&self) -> [(&'static str, u64); 3] {
        let dropped = self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines);
        [
            ("log_lines_dropped", dropped as u64),
            ("log_lines_failed", self.failed.load(Relaxed)),
            ("log_lines_suppressed", self.suppressed.load(Relaxed)),
        ]
    }
}

/// Lines go to standard error from now on, as JSON or as text. A place of the code may only say so
/// much a second at `limited` and above it.
#[must_use]
pub fn start(filter: EnvFilter, is_json: bool, limited: Level) -> Log {
    let (filter, handle) = tracing_subscriber::reload::Layer::new(filter);
    let failed = Arc::<AtomicU64>::default();
    let (lines, writer) = lines(Steady::new(std::io::stderr(), Arc::clone(&failed), |change| {
        // Where nothing can be written, nothing can be said.
        if let Change::GoesOn { lost } = change {
            tracing::warn!(lost, "lines of this log could not be written for a while");
        }
    }));
    let counts = LogCounts { failed, ..LogCounts::new(&lines) };
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(lines)
        .with_ansi(std::io::stderr().is_terminal());
    let layer = match is_json {
        true => layer.json().flatten_event(true).boxed(),
        false => layer.boxed(),
    };
    let repeats = Repeats::new(Arc::clone(&counts.suppressed), limited);
    tracing_subscriber::registry().with(filter).with(layer).with(repeats).init();
    let set_filter = Arc::new(move |filter: EnvFilter| {
        if let Err(error) = handle.reload(filter) {
            tracing::error!(%error, "the log's filter stays as it is");
        }
    });
    Log { counts, set_filter, _writer: writer }
}

/// Where lines go. What waits is written, for a moment, when the guard is dropped.
pub fn lines(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard) {
    let queue = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX);
    queue.thread_name("log").finish(out)
}
