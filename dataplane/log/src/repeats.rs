//! One place in the code may say only so much in a second: what is above is dropped and counted.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::{Layer, layer::Context};

/// Lines of one place in the code in one second.
const REPEATS_MAX: u64 = 20;
/// Places that are told apart; others share.
const PLACES: usize = 512;

/// Lets one place in the code say only so much a second.
pub struct Repeats {
    start: Instant,
    /// By place: the second, and how many lines of it, in one number.
    places: Box<[AtomicU64]>,
    suppressed: Arc<AtomicU64>,
    /// What is less important is not held back.
    limited: Level,
}

impl Repeats {
    /// Nothing was said yet.
    #[must_use]
    pub fn new(suppressed: Arc<AtomicU64>, limited: Level) -> Self {
        let places = (0..PLACES).map(|_| AtomicU64::new(0)).collect();
        Self { start: Instant::now(), places, suppressed, limited }
    }

    fn admits(&self, place: usize, second: u64) -> bool {
        let slot = &self.places[place % PLACES];
        let (now, before) = (second << 32, slot.load(Relaxed));
        // Two threads that meet here may let one line more pass: that does no harm.
        let said = if before & !0xffff_ffff == now { before & 0xffff_ffff } else { 0 };
        if said >= REPEATS_MAX {
            self.suppressed.fetch_add(1, Relaxed);
            return false;
        }
        slot.store(now | (said + 1), Relaxed);
        true
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _context: Context<'_, S>) -> bool {
        if *event.metadata().level() > self.limited {
            return true;
        }
        // Of one size and alignment, so that neighbours do not share a slot.
        let place = std::ptr::from_ref(event.metadata()) as usize / size_of::<Metadata<'_>>();
        self.admits(place, self.start.elapsed().as_secs())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::mpsc::{Receiver, channel},
    };

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::{LINES_MAX, LogCounts, lines};

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
        let (release, stuck) = channel();
        let (mut lines, _guard) = lines(Stuck(stuck));
        let counts = LogCounts::new(&lines);
        for _ in 0..2 * LINES_MAX {
            writeln!(lines, "a line").unwrap();
        }
        assert!(counts.all()[0].1 >= LINES_MAX as u64 - 2);
        drop(release);
    }

    #[test]
    fn one_place_says_so_much_a_second_and_others_are_heard() {
        let (sender, said) = channel();
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
        let (lines, guard) = lines(Out(sender));
        let suppressed = Arc::<AtomicU64>::default();
        let layer = tracing_subscriber::fmt::layer().with_writer(lines);
        let repeats = Repeats::new(Arc::clone(&suppressed), Level::WARN);
        let all = tracing_subscriber::registry().with(layer).with(repeats);
        tracing::subscriber::with_default(all, || {
            for _ in 0..1_000 {
                tracing::warn!("again");
            }
            tracing::warn!("another");
            for _ in 0..1_000 {
                tracing::info!("unlimited");
            }
        });
        drop(guard);
        // The seconds may change in between.
        let suppressed = suppressed.load(Relaxed);
        assert!((900..1_000).contains(&suppressed), "{suppressed}");
        let all: Vec<u8> = said.iter().flatten().collect();
        let all = String::from_utf8(all).unwrap();
        assert_eq!(all.matches("again").count() as u64, 1_000 - suppressed);
        assert_eq!(all.matches("another").count(), 1);
        assert_eq!(all.matches("unlimited").count(), 1_000);
    }

    #[test]
    fn a_new_second_begins_anew() {
        let repeats = Repeats::new(Arc::default(), Level::TRACE);
        let admitted = |second| (0..100).filter(|_| repeats.admits(7, second)).count() as u64;
        assert_eq!((admitted(1), admitted(1), admitted(2)), (REPEATS_MAX, 0, REPEATS_MAX));
    }
}
