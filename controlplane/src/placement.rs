//! Which worker gets a new router: the least loaded one by what it measured in the last second, or
//! always the same one for the same id. Owns the workers' figures, fed once a second.

use ironcast_api::{ErrorCode, Id, Placement, Problem, WorkerInfo};
use ironcast_protocol::{WorkerId, stats::WorkerStats};
use sha2::{Digest as _, Sha256};

use crate::convert;

/// What a router that was just placed counts until its load can be measured.
const LOAD_OF_NEW_ROUTER: f64 = 0.01;
/// Loads within such a step count as equal: then the number of routers decides.
const LOAD_STEP: f64 = 0.05;

/// A worker as last heard of.
#[derive(Debug, Clone)]
pub struct Worker {
    pub stats: WorkerStats,
    /// Placed since it was last heard of.
    pub routers_new: u32,
    /// Whether it was reported as full.
    pub is_full: bool,
}

impl Worker {
    /// 0 (idle) to 1 (full), with what was placed since it was measured.
    #[must_use]
    pub fn load(&self) -> f64 {
        let load = self.stats.cpu_busy + f64::from(self.routers_new) * LOAD_OF_NEW_ROUTER;
        load.clamp(0.0, 1.0)
    }

    fn routers(&self) -> u32 {
        self.stats.routers + self.routers_new
    }
}

/// All workers.
#[derive(Debug, Clone, Default)]
pub struct Workers(Vec<Worker>);

/// Limits that placement keeps.
#[derive(Debug, Clone, Copy)]
pub struct Full {
    /// Above this load a worker takes no new routers.
    pub load: f64,
    /// Nor with so many routers; 0 is no limit.
    pub routers: u32,
}

/// Which workers became full, and which are no longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CapacityChange {
    pub exhausted: Vec<Id>,
    pub available: Vec<Id>,
}

impl Workers {
    /// New figures.
    pub fn update(&mut self, stats: Vec<WorkerStats>, full: Full) -> CapacityChange {
        let mut change = CapacityChange::default();
        let before = std::mem::take(&mut self.0);
        for stats in stats {
            let was_full = before.iter().find(|one| one.stats.id == stats.id);
            let was_full = was_full.is_some_and(|one| one.is_full);
            let mut worker = Worker { stats, routers_new: 0, is_full: false };
            worker.is_full = is_full(&worker, full);
            match (was_full, worker.is_full) {
                (false, true) => change.exhausted.push(convert::worker_id(worker.stats.id)),
                (true, false) => change.available.push(convert::worker_id(worker.stats.id)),
                _ => {}
            }
            self.0.push(worker);
        }
        change
    }

    /// What a worker's end means until the next figures.
    pub fn set_running(&mut self, id: WorkerId, is_running: bool) {
        if let Some(worker) = self.0.iter_mut().find(|worker| worker.stats.id == id) {
            worker.stats.running = is_running;
            if !is_running {
                worker.stats.routers = 0;
                worker.routers_new = 0;
            }
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Worker> {
        self.0.iter()
    }

    /// As the API shows them.
    #[must_use]
    pub fn infos(&self) -> Vec<WorkerInfo> {
        self.0.iter().map(|worker| convert::worker(&worker.stats, worker.load())).collect()
    }

    /// Chooses a worker for a new router and counts it there.
    pub fn place(
        &mut self,
        router: &Id,
        worker: Option<&Id>,
        placement: Placement,
        full: Full,
    ) -> Result<WorkerId, Problem> {
        let chosen = match (worker, placement) {
            (Some(id), _) => self
                .0
                .iter_mut()
                .find(|one| convert::worker_id(one.stats.id) == *id)
                .ok_or_else(|| Problem::not_found("worker", id))?,
            (None, Placement::Hash) => {
                // The second choice is the same for everybody too, while the first one is away.
                let free = self.0.iter_mut().filter(|one| one.stats.running && !is_full(one, full));
                free.max_by_key(|one| weight(router, one.stats.id)).ok_or_else(no_worker)?
            }
            (None, Placement::LeastLoaded) => {
                let free = self.0.iter_mut().filter(|one| one.stats.running && !is_full(one, full));
                free.min_by_key(|one| order(one)).ok_or_else(no_worker)?
            }
        };
        if !chosen.stats.running || is_full(chosen, full) {
            return Err(no_worker());
        }
        chosen.routers_new += 1;
        Ok(chosen.stats.id)
    }
}

/// By what was measured: how much a new router will cost is a guess, good enough to choose by, but
/// not to refuse by.
fn is_full(worker: &Worker, full: Full) -> bool {
    worker.stats.cpu_busy >= full.load || (full.routers > 0 && worker.routers() >= full.routers)
}

/// Ascending: load in steps, then routers, then packets.
fn order(worker: &Worker) -> (u32, u32, u64, WorkerId) {
    let step = (worker.load() / LOAD_STEP) as u32;
    (step, worker.routers(), worker.stats.packets_out_per_s, worker.stats.id)
}

/// Rendezvous hashing: another number of workers moves as few routers as possible.
fn weight(router: &Id, worker: WorkerId) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(router.as_str());
    hasher.update([0]);
    hasher.update(worker.to_be_bytes());
    hasher.finalize().into()
}

fn no_worker() -> Problem {
    Problem::new(ErrorCode::NoCapacity, "no worker takes a router now").with_retry_after(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: Full = Full { load: 0.9, routers: 0 };

    fn stats(id: WorkerId, cpu_busy: f64, routers: u32) -> WorkerStats {
        WorkerStats { id, cpu_busy, routers, running: true, ..WorkerStats::default() }
    }

    fn workers(all: Vec<WorkerStats>) -> Workers {
        let mut workers = Workers::default();
        workers.update(all, FULL);
        workers
    }

    fn id(text: &str) -> Id {
        Id::new(text).unwrap()
    }

    #[test]
    fn the_measured_load_decides_and_then_the_count() {
        let mut two = workers(vec![stats(0, 0.5, 0), stats(1, 0.1, 40)]);
        let place = |workers: &mut Workers| {
            workers.place(&id("r"), None, Placement::LeastLoaded, FULL).unwrap()
        };
        assert_eq!(place(&mut two), 1);
        let mut equal = workers(vec![stats(0, 0.11, 3), stats(1, 0.12, 1)]);
        assert_eq!([place(&mut equal), place(&mut equal), place(&mut equal)], [1, 1, 0]);
    }

    #[test]
    fn a_burst_is_spread_before_anything_is_measured() {
        let mut idle = workers((0..4).map(|id| stats(id, 0.0, 0)).collect());
        let mut counts = [0; 4];
        for number in 0..40 {
            let router = id(&format!("r{number}"));
            let worker = idle.place(&router, None, Placement::LeastLoaded, FULL).unwrap();
            counts[usize::from(worker)] += 1;
        }
        assert_eq!(counts, [10; 4]);
    }

    #[test]
    fn a_burst_on_an_idle_host_is_not_refused() {
        let mut idle = workers(vec![stats(0, 0.0, 0)]);
        for number in 0..500 {
            let router = id(&format!("r{number}"));
            idle.place(&router, None, Placement::LeastLoaded, FULL).unwrap();
        }
    }

    #[test]
    fn full_dead_and_unknown_workers_are_refused() {
        let mut dead = stats(0, 0.0, 0);
        dead.running = false;
        let mut all = workers(vec![dead, stats(1, 0.95, 0)]);
        let refused = |workers: &mut Workers, worker: Option<&Id>| {
            workers.place(&id("r"), worker, Placement::LeastLoaded, FULL).unwrap_err().code
        };
        assert_eq!(refused(&mut all, None), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("0"))), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("1"))), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("2"))), ErrorCode::NotFound);
        let full = Full { load: 0.9, routers: 2 };
        let mut one = workers(vec![stats(0, 0.0, 1)]);
        assert_eq!(one.place(&id("a"), None, Placement::LeastLoaded, full).unwrap(), 0);
        assert!(one.place(&id("b"), None, Placement::LeastLoaded, full).is_err());
    }

    #[test]
    fn the_same_id_goes_to_the_same_worker() {
        let mut all = workers((0..8).map(|id| stats(id, 0.0, 0)).collect());
        let mut used = std::collections::BTreeSet::new();
        for number in 0..100 {
            let router = id(&format!("room-{number}"));
            let first = all.place(&router, None, Placement::Hash, FULL).unwrap();
            all.update((0..8).rev().map(|id| stats(id, 0.3, 5)).collect(), FULL);
            assert_eq!(all.place(&router, None, Placement::Hash, FULL).unwrap(), first);
            used.insert(first);
        }
        assert!(used.len() > 5);
    }

    #[test]
    fn a_room_whose_worker_is_away_goes_to_its_second_choice() {
        let away = |gone: Option<WorkerId>| {
            let mut all: Vec<_> = (0..4).map(|id| stats(id, 0.0, 0)).collect();
            if let Some(gone) = gone {
                all[usize::from(gone)].running = false;
            }
            workers(all).place(&id("room"), None, Placement::Hash, FULL).unwrap()
        };
        let first = away(None);
        let second = away(Some(first));
        assert_ne!(second, first);
        assert_eq!(away(Some(first)), second);
        // Others that are away change nothing.
        let other = (0..4).find(|id| ![first, second].contains(id)).unwrap();
        assert_eq!(away(Some(other)), first);
    }

    #[test]
    fn capacity_is_told_when_it_changes() {
        let mut all = workers(vec![stats(0, 0.1, 0)]);
        let change = all.update(vec![stats(0, 0.95, 0)], FULL);
        assert_eq!(change.exhausted, [id("0")]);
        assert_eq!(all.update(vec![stats(0, 0.97, 0)], FULL), CapacityChange::default());
        assert_eq!(all.update(vec![stats(0, 0.2, 0)], FULL).available, [id("0")]);
    }
}
