//! Which worker gets a new router: the least loaded one by what it measured in the last seconds and by
//! what it was just given, or always the same one for the same key. Owns the workers' figures, fed
//! once a second.
//!
//! A worker's load is the larger of its busy share and of its forwarding delay against the budget for
//! it. Above the soft limit a worker is second choice, above a hard one no choice at all.

use std::collections::{BTreeMap, VecDeque};

use ironcast_api::{ErrorCode, Id, Placement, Problem, WorkerInfo};
use ironcast_protocol::{WorkerId, stats::WorkerStats};
use sha2::{Digest as _, Sha256};

use crate::convert;

/// What a router that was just placed counts until its load can be measured.
const LOAD_OF_NEW_ROUTER: f64 = 0.01;
/// People need so many seconds to come: until then a router counts as just placed.
const NEW_FOR: usize = 10;
/// Loads within such a step count as equal: then the number of routers decides.
const LOAD_STEP: f64 = 0.05;
/// A delay counts when it has lasted for so many seconds: one bad second says nothing of the next.
const DELAYS_KEPT: usize = 5;
/// Of the delay's budget: a worker that is so near to it takes nothing new.
const DELAY_NEAR: f64 = 0.75;
/// A worker that was full is no longer when it is so far below the limit: it would be told again and
/// again.
const RELIEF: f64 = 0.05;

/// A worker as last heard of.
#[derive(Debug, Clone, Default)]
pub struct Worker {
    pub stats: WorkerStats,
    /// Placed in each of the last seconds, the current one first.
    placed: VecDeque<u32>,
    /// The forwarding delay (p99) of the last seconds.
    delays_us: VecDeque<u32>,
    /// The delay's budget when it was last heard of; 0: none.
    delay_max_us: u32,
    /// Whether it was reported as full.
    pub is_full: bool,
    /// Why it ended, until it runs again.
    ended: Option<String>,
}

impl Worker {
    /// 0 (idle) to 1 (full), with what was placed since its load could be measured.
    #[must_use]
    pub fn load(&self) -> f64 {
        let placed: u32 = self.placed.iter().sum();
        (self.measured() + f64::from(placed) * LOAD_OF_NEW_ROUTER).clamp(0.0, 1.0)
    }

    /// What it measured itself: how much a new router will cost is a guess, good enough to choose by,
    /// but not to refuse by.
    fn measured(&self) -> f64 {
        self.stats.cpu_busy.max(self.delay())
    }

    /// Its lasting delay as a share of the budget.
    fn delay(&self) -> f64 {
        let lasting = self.delays_us.iter().min().filter(|_| self.delays_us.len() >= DELAYS_KEPT);
        match (lasting, self.delay_max_us) {
            (Some(delay), max) if max > 0 => f64::from(*delay) / f64::from(max),
            _ => 0.0,
        }
    }

    fn routers(&self) -> u32 {
        self.stats.routers + self.placed.front().copied().unwrap_or_default()
    }

    /// Against all hard limits.
    fn is_full(&self, full: &Full) -> bool {
        let rooms = full.rooms.get(&self.stats.id).copied().unwrap_or_default();
        self.is_busy(full) || (full.routers > 0 && rooms >= full.routers as usize)
    }

    /// Against those on what its rooms do, which for a worker that is full already are a little lower.
    fn is_busy(&self, full: &Full) -> bool {
        let relief = if self.is_full { RELIEF } else { 0.0 };
        self.stats.cpu_busy >= full.load - relief
            || self.delay() >= DELAY_NEAR - relief
            || (full.consumers > 0 && self.stats.consumers >= full.consumers)
    }

    /// A second is over, and this is what it looked like.
    fn hear(&mut self, stats: WorkerStats, full: &Full) {
        self.placed.push_front(0);
        self.placed.truncate(NEW_FOR);
        self.delays_us.push_front(stats.forwarding_delay_us_p99);
        self.delays_us.truncate(DELAYS_KEPT);
        self.delay_max_us = full.delay_us;
        if stats.running {
            self.ended = None;
        }
        self.stats = stats;
    }

    fn count_new(&mut self) {
        match self.placed.front_mut() {
            Some(now) => *now += 1,
            None => self.placed.push_front(1),
        }
    }
}

/// All workers.
#[derive(Debug, Clone, Default)]
pub struct Workers(Vec<Worker>);

/// Limits that placement keeps, and what is counted against them beside the workers' figures.
#[derive(Debug, Clone)]
pub struct Full {
    /// Above this busy share a worker takes no new routers.
    pub load: f64,
    /// Above this load another worker is chosen, if one is below it.
    pub soft: f64,
    /// Near this forwarding delay it takes no new routers; 0 is no limit.
    pub delay_us: u32,
    /// Above so many packets a second another worker is chosen, if one is below it; 0 is no limit.
    pub packets_per_s: u64,
    /// Nor with so many routers; 0 is no limit.
    pub routers: u32,
    /// How many each has, those on their way included: figures are older than what was just placed.
    pub rooms: BTreeMap<WorkerId, usize>,
    /// Nor with so many consumers; 0 is no limit.
    pub consumers: u32,
}

/// Which workers became full, and which are no longer.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct CapacityChange {
    pub exhausted: Vec<Id>,
    pub available: Vec<Id>,
}

impl Workers {
    /// New figures, of the second that is over.
    pub fn update(&mut self, stats: Vec<WorkerStats>, full: &Full) -> CapacityChange {
        let mut change = CapacityChange::default();
        let mut before = std::mem::take(&mut self.0);
        for stats in stats {
            let known = before.iter().position(|one| one.stats.id == stats.id);
            let mut worker = known.map(|at| before.swap_remove(at)).unwrap_or_default();
            let was_full = worker.is_full;
            worker.hear(stats, full);
            worker.is_full = worker.is_full(full);
            match (was_full, worker.is_full) {
                (false, true) => change.exhausted.push(convert::worker_id(worker.stats.id)),
                (true, false) => change.available.push(convert::worker_id(worker.stats.id)),
                _ => {}
            }
            self.0.push(worker);
        }
        change
    }

    /// What a worker's end means until the next figures. False if its end was known.
    pub fn set_ended(&mut self, id: WorkerId, reason: &str) -> bool {
        let Some(worker) = self.0.iter_mut().find(|worker| worker.stats.id == id) else {
            return true;
        };
        worker.stats.running = false;
        worker.stats.routers = 0;
        worker.placed.clear();
        worker.delays_us.clear();
        worker.ended.replace(reason.to_owned()).is_none()
    }

    /// It runs again.
    pub fn set_running(&mut self, id: WorkerId) {
        if let Some(worker) = self.0.iter_mut().find(|worker| worker.stats.id == id) {
            worker.stats.running = true;
            worker.ended = None;
        }
    }

    /// `None` while one of them runs, or none is known yet; else what is known of why.
    #[must_use]
    pub fn why_none_runs(&self) -> Option<String> {
        if self.0.is_empty() || self.0.iter().any(|worker| worker.stats.running) {
            return None;
        }
        let known = self.0.iter().find_map(|one| Some((one.stats.id, one.ended.as_ref()?)));
        Some(match known {
            Some((id, reason)) => format!("no worker runs; worker {id}: {reason}"),
            None => "no worker runs; the dataplane's log says why".to_owned(),
        })
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

    /// Chooses a worker for a new transport of a room, whose workers are given, its home first: the first
    /// of them that has not much to do, or another one that has the least; its home where all have.
    #[must_use]
    pub fn place_transport(&self, of_room: &[WorkerId], full: &Full) -> WorkerId {
        let takes = |one: &&Worker| {
            let packets = one.stats.packets_out_per_s;
            one.stats.running
                && !one.is_busy(full)
                && one.load() < full.soft
                && (full.packets_per_s == 0 || packets < full.packets_per_s)
        };
        let known = |id: &WorkerId| self.0.iter().find(|one| one.stats.id == *id);
        let chosen = of_room.iter().filter_map(known).find(takes);
        let others = self.0.iter().filter(takes).filter(|one| !one.is_full(full));
        let chosen = chosen.or_else(|| others.min_by_key(|one| order(one)));
        chosen.map(|one| one.stats.id).or_else(|| of_room.first().copied()).unwrap_or_default()
    }

    /// The worker that a caller names, which has to run.
    ///
    /// # Errors
    /// `not_found`, `no_capacity`.
    pub fn named(&self, id: &Id) -> Result<WorkerId, Problem> {
        let named = self.0.iter().find(|one| convert::worker_id(one.stats.id) == *id);
        let named = named.ok_or_else(|| Problem::not_found("worker", id))?;
        if named.stats.running { Ok(named.stats.id) } else { Err(no_worker()) }
    }

    /// Chooses a worker for a new router and counts it there. `key` is what `hash` goes by.
    pub fn place(
        &mut self,
        key: &str,
        worker: Option<&Id>,
        placement: Placement,
        full: &Full,
    ) -> Result<WorkerId, Problem> {
        let takes = |one: &Worker| one.stats.running && !one.is_full(full);
        let chosen = match worker {
            Some(id) => {
                let named = self.0.iter_mut().find(|one| convert::worker_id(one.stats.id) == *id);
                Some(named.ok_or_else(|| Problem::not_found("worker", id))?)
            }
            None if placement == Placement::Hash => {
                // The second choice is the same for everybody too, while the first one is away.
                let mut free: Vec<_> = self.0.iter_mut().filter(|one| takes(one)).collect();
                free.sort_by_key(|one| std::cmp::Reverse(weight(key, one.stats.id)));
                let mut free = free.into_iter();
                let (first, second) = (free.next(), free.next());
                match (first, second) {
                    (Some(first), Some(second)) if first.load() >= full.soft => {
                        Some(if second.load() < full.soft { second } else { first })
                    }
                    (first, _) => first,
                }
            }
            None => self.0.iter_mut().filter(|one| takes(one)).min_by_key(|one| order(one)),
        };
        let chosen = chosen.filter(|one| takes(one)).ok_or_else(no_worker)?;
        chosen.count_new();
        Ok(chosen.stats.id)
    }
}

/// Ascending: load in steps, then routers, then packets.
fn order(worker: &Worker) -> (u32, u32, u64, WorkerId) {
    let step = (worker.load() / LOAD_STEP) as u32;
    (step, worker.routers(), worker.stats.packets_out_per_s, worker.stats.id)
}

/// Rendezvous hashing: another number of workers moves as few routers as possible.
fn weight(key: &str, worker: WorkerId) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(key);
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

    const FULL: Full = Full {
        load: 0.9,
        soft: 0.7,
        delay_us: 20_000,
        packets_per_s: 0,
        routers: 0,
        rooms: BTreeMap::new(),
        consumers: 0,
    };

    fn stats(id: WorkerId, cpu_busy: f64, routers: u32) -> WorkerStats {
        WorkerStats { id, cpu_busy, routers, running: true, ..WorkerStats::default() }
    }

    fn workers(all: Vec<WorkerStats>) -> Workers {
        let mut workers = Workers::default();
        workers.update(all, &FULL);
        workers
    }

    fn id(text: &str) -> Id {
        Id::new(text).unwrap()
    }

    #[test]
    fn the_measured_load_decides_and_then_the_count() {
        let mut two = workers(vec![stats(0, 0.5, 0), stats(1, 0.1, 40)]);
        let place = |workers: &mut Workers| {
            workers.place("r", None, Placement::LeastLoaded, &FULL).unwrap()
        };
        assert_eq!(place(&mut two), 1);
        let mut equal = workers(vec![stats(0, 0.11, 3), stats(1, 0.12, 1)]);
        assert_eq!([place(&mut equal), place(&mut equal), place(&mut equal)], [1, 1, 0]);
    }

    #[test]
    fn a_room_stays_at_home_until_that_has_much_to_do() {
        let place = |busy: [f64; 3], of_room: &[WorkerId]| {
            let all = busy.iter().zip(0..).map(|(busy, id)| stats(id, *busy, 0)).collect();
            workers(all).place_transport(of_room, &FULL)
        };
        assert_eq!(place([0.6, 0.0, 0.0], &[0]), 0);
        assert_eq!(place([0.8, 0.2, 0.1], &[0]), 2);
        // Where it is already, rather than on one more.
        assert_eq!(place([0.8, 0.6, 0.1], &[0, 1]), 1);
        assert_eq!(place([0.8, 0.8, 0.1], &[0, 1]), 2);
        // It comes home when there is room again, and stays there when there is none anywhere.
        assert_eq!(place([0.6, 0.2, 0.1], &[0, 1]), 0);
        assert_eq!(place([0.8, 0.8, 0.95], &[0, 1]), 0);
        let mut busy = stats(0, 0.1, 0);
        busy.packets_out_per_s = 1_000;
        let two = workers(vec![busy, stats(1, 0.5, 0)]);
        assert_eq!(two.place_transport(&[0], &Full { packets_per_s: 1_000, ..FULL }), 1);
        assert_eq!(two.place_transport(&[0], &FULL), 0);
    }

    #[test]
    fn a_burst_is_spread_before_anything_is_measured() {
        let mut idle = workers((0..4).map(|id| stats(id, 0.0, 0)).collect());
        let mut counts = [0; 4];
        for number in 0..40 {
            let router = id(&format!("r{number}"));
            let worker = idle.place(router.as_str(), None, Placement::LeastLoaded, &FULL).unwrap();
            counts[usize::from(worker)] += 1;
        }
        assert_eq!(counts, [10; 4]);
    }

    #[test]
    fn a_burst_on_an_idle_host_is_not_refused() {
        let mut idle = workers(vec![stats(0, 0.0, 0)]);
        for number in 0..500 {
            let router = id(&format!("r{number}"));
            idle.place(router.as_str(), None, Placement::LeastLoaded, &FULL).unwrap();
        }
    }

    #[test]
    fn full_dead_and_unknown_workers_are_refused() {
        let mut dead = stats(0, 0.0, 0);
        dead.running = false;
        let mut all = workers(vec![dead, stats(1, 0.95, 0)]);
        let refused = |workers: &mut Workers, worker: Option<&Id>| {
            workers.place("r", worker, Placement::LeastLoaded, &FULL).unwrap_err().code
        };
        assert_eq!(refused(&mut all, None), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("0"))), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("1"))), ErrorCode::NoCapacity);
        assert_eq!(refused(&mut all, Some(&id("2"))), ErrorCode::NotFound);
    }

    /// Whatever the figures say, which are older than what was just placed.
    #[test]
    fn routers_are_counted_exactly() {
        let full = |rooms| Full { routers: 2, rooms: [(0, rooms), (1, 2)].into(), ..FULL };
        let mut two = workers(vec![stats(0, 0.0, 1), stats(1, 0.0, 0)]);
        let place =
            |all: &mut Workers, full| all.place("r", None, Placement::LeastLoaded, &full).ok();
        assert_eq!(place(&mut two, full(1)), Some(0));
        two.update(vec![stats(0, 0.0, 1), stats(1, 0.0, 0)], &full(2));
        assert_eq!(place(&mut two, full(2)), None);
        // One was closed since the figures came.
        two.update(vec![stats(0, 0.0, 2), stats(1, 0.0, 0)], &full(2));
        assert_eq!(place(&mut two, full(1)), Some(0));
        // A room is where it is, and comes to no worker that has enough of them.
        assert_eq!(two.place_transport(&[0], &full(2)), 0);
        two.update(vec![stats(0, 0.8, 2), stats(1, 0.0, 0)], &full(2));
        assert_eq!(two.place_transport(&[0], &full(2)), 0);
    }

    #[test]
    fn that_no_worker_runs_is_said_with_the_reason() {
        let mut all = workers(vec![stats(0, 0.0, 0), stats(1, 0.0, 0)]);
        assert!(all.set_ended(0, "no descriptors"));
        assert!(!all.set_ended(0, "no memory"), "that it has ended was known");
        assert_eq!(all.why_none_runs(), None);
        let mut ended = [stats(0, 0.0, 0), stats(1, 0.0, 0)];
        ended.iter_mut().for_each(|one| one.running = false);
        all.update(ended.to_vec(), &FULL);
        assert_eq!(all.why_none_runs().unwrap(), "no worker runs; worker 0: no memory");
        all.set_running(0);
        assert_eq!(all.why_none_runs(), None);
        assert!(all.set_ended(0, "no memory"), "it ran meanwhile");
        assert_eq!(Workers::default().why_none_runs(), None);
    }

    #[test]
    fn the_same_id_goes_to_the_same_worker() {
        let mut all = workers((0..8).map(|id| stats(id, 0.0, 0)).collect());
        let mut used = std::collections::BTreeSet::new();
        for number in 0..100 {
            let router = id(&format!("room-{number}"));
            let first = all.place(router.as_str(), None, Placement::Hash, &FULL).unwrap();
            all.update((0..8).rev().map(|id| stats(id, 0.3, 5)).collect(), &FULL);
            assert_eq!(all.place(router.as_str(), None, Placement::Hash, &FULL).unwrap(), first);
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
            workers(all).place("room", None, Placement::Hash, &FULL).unwrap()
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
    fn a_first_choice_above_the_soft_limit_yields_to_the_second_below_it() {
        let idle = || workers((0..4).map(|id| stats(id, 0.0, 0)).collect());
        let first = idle().place("room", None, Placement::Hash, &FULL).unwrap();
        let with = |loads: &dyn Fn(WorkerId) -> f64| {
            let mut all = workers((0..4).map(|id| stats(id, loads(id), 0)).collect());
            all.place("room", None, Placement::Hash, &FULL).unwrap()
        };
        let second = with(&|id| if id == first { 0.8 } else { 0.0 });
        assert_ne!(second, first);
        assert_eq!(with(&|_| 0.8), first, "nobody is better");
        assert_eq!(with(&|id| if id == first { 0.69 } else { 0.0 }), first);
        let third = with(&|id| if [first, second].contains(&id) { 0.95 } else { 0.0 });
        assert!(![first, second].contains(&third), "full is no choice");
    }

    #[test]
    fn what_was_just_placed_counts_until_its_load_shows() {
        let figures = || vec![stats(0, 0.02, 0), stats(1, 0.02, 0)];
        let mut two = workers(figures());
        for number in 0..8 {
            let key = format!("r{number}");
            two.place(&key, Some(&id("0")), Placement::LeastLoaded, &FULL).unwrap();
        }
        for _ in 1..NEW_FOR {
            two.update(figures(), &FULL);
            assert!(two.iter().next().unwrap().load() > 0.09);
        }
        assert_eq!(two.place("next", None, Placement::LeastLoaded, &FULL).unwrap(), 1);
        two.update(figures(), &FULL);
        assert!(two.iter().next().unwrap().load() < 0.03, "they did not cost much");
    }

    #[test]
    fn a_worker_near_its_delay_budget_takes_nothing_new() {
        let slow = |delay| {
            let slow = WorkerStats { forwarding_delay_us_p99: delay, ..stats(0, 0.3, 0) };
            vec![slow, stats(1, 0.5, 40)]
        };
        let mut two = workers(slow(15_100));
        for _ in 0..DELAYS_KEPT - 2 {
            assert_eq!(two.update(slow(15_100), &FULL), CapacityChange::default(), "not yet");
        }
        assert_eq!(two.update(slow(15_100), &FULL).exhausted, [id("0")]);
        let mut place = |worker: Option<&Id>| two.place("r", worker, Placement::LeastLoaded, &FULL);
        assert_eq!(place(None).unwrap(), 1);
        assert_eq!(place(Some(&id("0"))).unwrap_err().code, ErrorCode::NoCapacity);
        assert_eq!(two.update(slow(14_900), &FULL), CapacityChange::default(), "too near still");
        assert_eq!(two.update(slow(2_000), &FULL).available, [id("0")]);
        // Below that the slower one is the fuller one.
        for _ in 0..DELAYS_KEPT {
            two.update(slow(12_000), &FULL);
        }
        assert_eq!(two.place("r", None, Placement::LeastLoaded, &FULL).unwrap(), 1);
        let no_limit = Full { delay_us: 0, ..FULL };
        two.update(slow(900_000), &no_limit);
        assert_eq!(two.place("r", None, Placement::LeastLoaded, &no_limit).unwrap(), 0);
    }

    #[test]
    fn counts_are_hard_limits_too() {
        for (rooms, consumers, takes) in [(49, 499, true), (50, 0, false), (0, 500, false)] {
            let rooms = [(0, rooms)].into();
            let full = Full { routers: 50, rooms, consumers: 500, ..FULL };
            let mut one = Workers::default();
            one.update(vec![WorkerStats { consumers, ..stats(0, 0.0, 0) }], &full);
            assert_eq!(one.place("r", None, Placement::LeastLoaded, &full).is_ok(), takes);
        }
    }

    #[test]
    fn a_load_around_the_limit_is_told_once() {
        let mut one = workers(vec![stats(0, 0.91, 0)]);
        for load in [0.89, 0.91, 0.86, 0.9] {
            assert_eq!(one.update(vec![stats(0, load, 0)], &FULL), CapacityChange::default());
        }
        assert_eq!(one.update(vec![stats(0, 0.84, 0)], &FULL).available, [id("0")]);
    }

    #[test]
    fn capacity_is_told_when_it_changes() {
        let mut all = workers(vec![stats(0, 0.1, 0)]);
        let change = all.update(vec![stats(0, 0.95, 0)], &FULL);
        assert_eq!(change.exhausted, [id("0")]);
        assert_eq!(all.update(vec![stats(0, 0.97, 0)], &FULL), CapacityChange::default());
        assert_eq!(all.update(vec![stats(0, 0.2, 0)], &FULL).available, [id("0")]);
    }
}
