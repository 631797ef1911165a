//! Log lines leave their thread through a bounded queue: whoever logs, a packet thread among them,
//! never waits for the reader of standard error. What does not fit, and what one line of code says
//! too often, is dropped and counted.

use std::{
    io::{self, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    time::Instant,
};

use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::{Layer, fmt::MakeWriter, layer::Context};

/// Lines that may wait to be written.
const LINES_MAX: usize = 8_192;
/// Lines of one place in the code in one second.
const REPEATS_MAX: u64 = 20;
/// Places that are told apart; others share.
const PLACES: usize = 512;

/// What was dropped.
#[derive(Debug, Default)]
pub struct LogCounts {
    dropped: AtomicU64,
    suppressed: AtomicU64,
}

impl LogCounts {
    /// Tells each count with its name.
    pub fn tell(&self, tell: &mut dyn FnMut(&str, u64)) {
        tell("log_lines_dropped", self.dropped.load(Relaxed));
        tell("log_lines_suppressed", self.suppressed.load(Relaxed));
    }
}

/// Gives a writer for each line.
#[derive(Clone)]
pub struct Lines {
    queue: SyncSender<Vec<u8>>,
    counts: Arc<LogCounts>,
}

impl Lines {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The thread cannot be made.
    pub fn start(mut out: impl Write + Send + 'static, counts: Arc<LogCounts>) -> io::Result<Self> {
        let (queue, lines) = sync_channel::<Vec<u8>>(LINES_MAX);
        std::thread::Builder::new().name("log".into()).spawn(move || {
            for line in lines {
                // There is nowhere to say that this failed.
                let _ = out.write_all(&line);
            }
        })?;
        Ok(Self { queue, counts })
    }
}

/// One line in the making.
pub struct Line<'a> {
    lines: &'a Lines,
    bytes: Vec<u8>,
}

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        if self.lines.queue.try_send(std::mem::take(&mut self.bytes)).is_err() {
            self.lines.counts.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Line<'a>;

    fn make_writer(&'a self) -> Line<'a> {
        Line { lines: self, bytes: Vec::new() }
    }
}

/// Lets one place in the code say only so much a second.
pub struct Repeats {
    start: Instant,
    /// By place: the second, and how many lines of it, in one number.
    places: Box<[AtomicU64]>,
    counts: Arc<LogCounts>,
}

impl Repeats {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(counts: Arc<LogCounts>) -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { start: Instant::now(), places, counts }
    }

    fn admits(&self, place: usize, second: u64) -> bool {
        let slot = &self.places[place % PLACES];
        let (now, before) = (second << 32, slot.load(Relaxed));
        // Two threads that meet here may let one line more pass: that does no harm.
        let said = if before & !0xffff_ffff == now { before & 0xffff_ffff } else { 0 };
        if said >= REPEATS_MAX {
            self.counts.suppressed.fetch_add(1, Relaxed);
            return false;
        }
        slot.store(now | (said + 1), Relaxed);
        true
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        // Of one size and alignment, so that neighbours do not share a slot.
        let place = std::ptr::from_ref(event.metadata()) as usize / size_of::<Metadata<'_>>();
        self.admits(place, self.start.elapsed().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Takes one line, then waits to be told that it may go on.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_takes_nothing_holds_up_nobody() {
        let counts = Arc::<LogCounts>::default();
        let (release, stuck) = channel();
        let lines = Lines::start(Stuck(stuck), Arc::clone(&counts)).unwrap();
        for _ in 0..2 * LINES_MAX {
            writeln!(lines.make_writer(), "a line").unwrap();
        }
        assert!(counts.dropped.load(Relaxed) >= LINES_MAX as u64 - 1);
        drop(release);
    }

    #[test]
    fn one_place_says_so_much_a_second_and_others_are_heard() {
        let counts = Arc::<LogCounts>::default();
        let (lines, said) = channel();
        struct Out(std::sync::mpsc::Sender<Vec<u8>>);
        impl Write for Out {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let _ = self.0.send(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let lines = Lines::start(Out(lines), Arc::clone(&counts)).unwrap();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines);
        let repeats = Repeats::new(Arc::clone(&counts));
        let all = tracing_subscriber::registry().with(layer).with(repeats);
        tracing::subscriber::with_default(all, || {
            for _ in 0..1_000 {
                tracing::warn!("again");
            }
            tracing::warn!("another");
        });
        // The seconds may change in between.
        let suppressed = counts.suppressed.load(Relaxed);
        assert!((900..1_000).contains(&suppressed), "{suppressed}");
        let all: Vec<u8> = said.iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.matches("again").count() as u64, 1_000 - suppressed);
        assert_eq!(all.matches("another").count(), 1);
    }

    #[test]
    fn a_new_second_begins_anew() {
        let repeats = Repeats::new(Arc::default());
        let admitted = |second| (0..100).filter(|_| repeats.admits(7, second)).count() as u64;
        assert_eq!((admitted(1), admitted(1), admitted(2)), (REPEATS_MAX, 0, REPEATS_MAX));
    }
}
