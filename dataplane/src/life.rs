//! Signs of life: each worker counts its turns, the hub answers a question now and then, and a
//! thread of its own looks whether all of them go on. It tells the service manager that the process is
//! ready, when every worker has made a turn, and that it is alive; it tells the hub who is stuck; and
//! where that is wanted it ends the process. A worker that has ended and will be started again is not
//! stuck: the others carry rooms. One that is stuck can only be ended with the process.

use std::{
    collections::BTreeSet,
    fmt,
    io::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use ironcast_protocol::WorkerId;

use crate::{
    counters::{Counter, Counters},
    messages::ToHub,
};

/// Looks within the time after which who has not moved is stuck.
const LOOKS: u32 = 4;
/// Of the watchdog's time, who has not moved for this part is stuck at the latest. An idle worker
/// turns once a second.
const STUCK: u32 = 2;

/// On a cache line of its own: it is written in each turn.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Beat {
    count: AtomicU64,
    runs: AtomicBool,
}

impl Beat {
    /// By one thread only.
    fn count(&self) {
        self.count.store(self.count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Of all threads that may get stuck.
#[derive(Debug)]
pub struct Lives {
    workers: Box<[Beat]>,
    hub: Beat,
    first_turns: Sender<WorkerId>,
}

/// One run of a worker. When it is dropped, the worker does not run.
#[derive(Debug)]
pub struct Pulse {
    lives: Arc<Lives>,
    worker: WorkerId,
    has_turned: bool,
}

impl Lives {
    /// Of so many workers, and what tells of each one's first turn.
    #[must_use]
    pub fn new(workers: usize) -> (Arc<Self>, Receiver<WorkerId>) {
        let (first_turns, told) = channel();
        let workers = (0..workers).map(|_| Beat::default()).collect();
        let hub = Beat { runs: AtomicBool::new(true), ..Beat::default() };
        (Arc::new(Self { workers, hub, first_turns }), told)
    }

    /// For a run of a worker.
    #[must_use]
    pub fn pulse(self: &Arc<Self>, worker: WorkerId) -> Pulse {
        Pulse { lives: Arc::clone(self), worker, has_turned: false }
    }

    /// The hub answers [`ToHub::Sign`].
    pub fn hub_answers(&self) {
        self.hub.count();
    }

    fn beats(&self) -> impl Iterator<Item = (Who, &Beat)> {
        let workers = self.workers.iter().enumerate();
        let workers = workers.map(|(index, beat)| (Who::Worker(index as WorkerId), beat));
        workers.chain([(Who::Hub, &self.hub)])
    }
}

impl Pulse {
    /// The worker makes a turn; true for its first.
    pub fn turn(&mut self) -> bool {
        let Some(beat) = self.lives.workers.get(usize::from(self.worker)) else { return false };
        beat.count();
        let is_first = !std::mem::replace(&mut self.has_turned, true);
        if is_first {
            beat.runs.store(true, Ordering::Relaxed);
            // Nobody listens where no service manager does.
            let _ = self.lives.first_turns.send(self.worker);
        }
        is_first
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        if let Some(beat) = self.lives.workers.get(usize::from(self.worker)) {
            beat.runs.store(false, Ordering::Relaxed);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
    Worker(WorkerId),
    Hub,
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Worker(worker) => write!(f, "worker {worker}"),
            Self::Hub => f.write_str("the hub"),
        }
    }
}

/// What was seen of everybody, and when it last was something new.
struct Watch {
    seen: Vec<(u64, Instant)>,
    patience: Duration,
}

impl Watch {
    fn new(lives: &Lives, patience: Duration, now: Instant) -> Self {
        // Nobody has counted so far yet.
        Self { seen: lives.beats().map(|_| (u64::MAX, now)).collect(), patience }
    }

    /// Whatever was seen is as good as new.
    fn forgive(&mut self, now: Instant) {
        self.seen.iter_mut().for_each(|(_, at)| *at = now);
    }

    /// Who runs, and has not moved for too long.
    fn stuck(&mut self, lives: &Lives, now: Instant) -> Vec<Who> {
        let mut stuck = Vec::new();
        for ((who, beat), (seen, at)) in lives.beats().zip(&mut self.seen) {
            let count = beat.count.load(Ordering::Relaxed);
            if count != *seen || !beat.runs.load(Ordering::Relaxed) {
                (*seen, *at) = (count, now);
            } else if now.duration_since(*at) >= self.patience {
                stuck.push(who);
            }
        }
        stuck
    }
}

/// What is done about who is stuck.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Who has not moved for so long is stuck.
    pub time: Duration,
    /// Then the process ends, to be started again.
    pub ends: bool,
}

/// Watches over the process's life, on a thread of its own.
pub fn watch(
    lives: Arc<Lives>,
    first_turns: Receiver<WorkerId>,
    hub: Sender<ToHub>,
    counters: Arc<Counters>,
    status: String,
    patience: Patience,
) -> std::io::Result<()> {
    let tell = move || {
        let mut missing: BTreeSet<WorkerId> =
            (0..lives.workers.len()).map(|worker| worker as WorkerId).collect();
        while !missing.is_empty() {
            let Ok(worker) = first_turns.recv() else { return };
            missing.remove(&worker);
        }
        ironcast_notify::ready(&status);
        let is_watched = ironcast_notify::watchdog();
        let time = is_watched.map_or(patience.time, |all| patience.time.min(all / STUCK));
        let mut watch = Watch::new(&lives, time, Instant::now());
        let mut asked = None;
        let mut before: Vec<Who> = Vec::new();
        loop {
            let answers = lives.hub.count.load(Ordering::Relaxed);
            // A hub that is behind is not asked again.
            if asked != Some(answers) {
                asked = Some(answers);
                if hub.send(ToHub::Sign).is_err() {
                    return;
                }
            }
            let stuck = watch.stuck(&lives, Instant::now());
            if !tell_hub(&hub, &counters, &before, &stuck) {
                return;
            }
            match (stuck.first(), is_watched) {
                (None, Some(_)) => ironcast_notify::alive(),
                (Some(who), Some(_)) => {
                    tracing::error!("{who} is stuck: the service manager is not told");
                }
                _ => {}
            }
            if let Some(who) = stuck.first().filter(|_| patience.ends) {
                // By standard error itself: nobody waits for the log's thread. The core that this
                // leaves shows where it is stuck.
                let _ = writeln!(
                    std::io::stderr(),
                    "ironcast-dataplane: {who} has made no turn for {} s: the process ends, to be \
                     started again (dataplane.ends_when_stuck)",
                    time.as_secs()
                );
                std::process::abort();
            }
            before = stuck;
            // Workers that were started again are nothing to wake for.
            let pause = Instant::now() + time / LOOKS;
            while let Some(left) = pause.checked_duration_since(Instant::now()) {
                if first_turns.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
            // The whole process did not run: a machine that was paused, a debugger.
            if pause.elapsed() > time / 2 {
                watch.forgive(Instant::now());
            }
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(tell).map(drop)
}

/// Says who is stuck now and was not, and who moves again. False: there is no hub any more.
fn tell_hub(hub: &Sender<ToHub>, counters: &Counters, before: &[Who], now: &[Who]) -> bool {
    for who in now.iter().filter(|who| !before.contains(who)) {
        tracing::error!("{who} is stuck: it has made no turn for too long");
        let told = match *who {
            Who::Worker(worker) => hub.send(ToHub::Stuck { worker }).is_ok(),
            Who::Hub => {
                counters.count(Counter::WorkersStuck);
                true
            }
        };
        if !told {
            return false;
        }
    }
    let mut moving = before.iter().filter(|who| !now.contains(who));
    moving.all(|who| match *who {
        Who::Worker(worker) => hub.send(ToHub::Moves { worker }).is_ok(),
        Who::Hub => true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[test]
    fn who_does_not_move_is_stuck_and_who_has_ended_is_not() {
        let (lives, _first_turns) = Lives::new(2);
        let start = Instant::now();
        let mut watch = Watch::new(&lives, PATIENCE, start);
        let mut pulses = [lives.pulse(0), lives.pulse(1)];
        let mut stuck = |seconds| watch.stuck(&lives, start + Duration::from_secs(seconds));
        assert!(pulses.iter_mut().all(Pulse::turn), "each makes its first turn");
        lives.hub_answers();
        assert_eq!(stuck(0), []);
        assert_eq!(stuck(4), []);
        pulses[0].turn();
        lives.hub_answers();
        assert_eq!(stuck(6), [Who::Worker(1)]);
        pulses[1].turn();
        assert_eq!(stuck(7), []);
        let [first, second] = pulses;
        drop(second);
        lives.hub_answers();
        assert_eq!(stuck(13), [Who::Worker(0)]);
        drop(first);
        assert_eq!(stuck(14), []);
        assert_eq!(stuck(19), [Who::Hub]);
    }

    #[test]
    fn after_a_pause_of_the_whole_process_nobody_is_stuck() {
        let (lives, _first_turns) = Lives::new(1);
        let start = Instant::now();
        let mut watch = Watch::new(&lives, PATIENCE, start);
        let mut pulse = lives.pulse(0);
        pulse.turn();
        assert_eq!(watch.stuck(&lives, start), []);
        watch.forgive(start + 10 * PATIENCE);
        assert_eq!(watch.stuck(&lives, start + 10 * PATIENCE), []);
        assert_eq!(watch.stuck(&lives, start + 11 * PATIENCE), [Who::Worker(0), Who::Hub]);
    }

    #[test]
    fn a_worker_that_runs_again_may_get_stuck_again() {
        let (lives, first_turns) = Lives::new(1);
        let start = Instant::now();
        let mut watch = Watch::new(&lives, PATIENCE, start);
        for run in 0..2 {
            let mut pulse = lives.pulse(0);
            let since = start + Duration::from_secs(100 * run);
            lives.hub_answers();
            pulse.turn();
            assert_eq!(watch.stuck(&lives, since), []);
            lives.hub_answers();
            assert_eq!(watch.stuck(&lives, since + PATIENCE), [Who::Worker(0)]);
        }
        assert_eq!(first_turns.try_iter().collect::<Vec<_>>(), [0, 0]);
    }
}
