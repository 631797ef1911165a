//! What the process counts beside its workers. Shared by all its threads; the hub answers with it
//! when it is asked, under the names that the metrics show.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ironcast_protocol::stats::{Distribution, ProcessStats};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident => $label:literal,)*) => {
        /// What is counted here.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Counter {
            $($(#[$doc])* $name,)*
        }

        impl Counter {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$name, $label),)*];
        }
    };
}

counters! {
    /// Faults of the hub that were contained.
    HubPanics => "hub_panics",
    /// Controllers that read too slowly.
    ControllersCutOff => "controllers_cut_off",
    /// Connections beyond the number that is served.
    ConnectionsRefused => "control_connections_refused",
    /// Connections that the system did not give, for want of descriptors.
    AcceptsFailed => "control_accepts_failed",
    /// Runs of workers that ended by a fault.
    WorkerFailures => "worker_failures",
    /// Times that a worker, or the hub, ran and did not move for too long.
    WorkersStuck => "workers_stuck",
}

/// Gives counts that are kept elsewhere.
type CountReader = Box<dyn Fn(&mut dyn FnMut(&str, u64)) + Send>;
type SpreadReader = (&'static str, Box<dyn Fn() -> Distribution + Send>);

/// See the file's head.
#[derive(Default)]
pub struct Counters {
    own: [AtomicU64; Counter::ALL.len()],
    readers: Mutex<Vec<CountReader>>,
    spreads: Mutex<Vec<SpreadReader>>,
}

impl Counters {
    /// One more.
    pub fn count(&self, counter: Counter) {
        self.own[counter as usize].fetch_add(1, Relaxed);
    }

    /// Counts that somebody else keeps.
    pub fn add_reader(&self, reader: impl Fn(&mut dyn FnMut(&str, u64)) + Send + 'static) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.push(Box::new(reader));
    }

    /// How values are spread that somebody else records; the unit is last in the name.
    pub fn add_spread(
        &self,
        name: &'static str,
        reader: impl Fn() -> Distribution + Send + 'static,
    ) {
        let mut spreads = self.spreads.lock().unwrap_or_else(PoisonError::into_inner);
        spreads.push((name, Box::new(reader)));
    }

    /// All of them.
    #[must_use]
    pub fn process_stats(&self) -> ProcessStats {
        let own = Counter::ALL.iter();
        let mut counters: BTreeMap<String, u64> = own
            .map(|(counter, name)| ((*name).to_owned(), self.own[*counter as usize].load(Relaxed)))
            .collect();
        let readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        for reader in readers.iter() {
            reader(&mut |name, count| {
                counters.insert(name.to_owned(), count);
            });
        }
        let spreads = self.spreads.lock().unwrap_or_else(PoisonError::into_inner);
        let told = spreads.iter().map(|(name, read)| ((*name).to_owned(), read()));
        ProcessStats { counters, distributions: told.collect(), ..ProcessStats::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_counts_and_those_of_others_are_told_by_name() {
        let counters = Counters::default();
        counters.add_reader(|tell| tell("log_lines_dropped", 7));
        counters.count(Counter::HubPanics);
        let told = counters.process_stats().counters;
        assert_eq!(told["log_lines_dropped"], 7);
        assert_eq!((told["hub_panics"], told["controllers_cut_off"]), (1, 0));
        assert_eq!(told.len(), Counter::ALL.len() + 1);
    }
}
