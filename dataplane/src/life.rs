//! Signs of life, for the service manager: each worker counts its turns, the hub answers a question
//! now and then, and a thread of its own says ready when every worker has made a turn, and alive as
//! long as all of them go on. A worker that has ended and will be started again is not stuck: the
//! others carry rooms. One that is stuck can only be ended with the process.

use std::{
    collections::BTreeSet,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::{Duration, Instant},
};

use ironcast_protocol::WorkerId;

use crate::messages::ToHub;

/// Looks within the watchdog's time.
const LOOKS: u32 = 4;
/// What has not moved for this part of the watchdog's time is stuck. An idle worker turns once a
/// second.
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
    /// The worker makes a turn.
    pub fn turn(&mut self) {
        let Some(beat) = self.lives.workers.get(usize::from(self.worker)) else { return };
        beat.count();
        if !self.has_turned {
            self.has_turned = true;
            beat.runs.store(true, Ordering::Relaxed);
            // Nobody listens where no service manager does.
            let _ = self.lives.first_turns.send(self.worker);
        }
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

    /// Who runs, and has not moved for too long.
    fn stuck(&mut self, lives: &Lives, now: Instant) -> Option<Who> {
        let mut stuck = None;
        for ((who, beat), (seen, at)) in lives.beats().zip(&mut self.seen) {
            let count = beat.count.load(Ordering::Relaxed);
            if count != *seen || !beat.runs.load(Ordering::Relaxed) {
                (*seen, *at) = (count, now);
            } else if now.duration_since(*at) >= self.patience {
                stuck = Some(who);
            }
        }
        stuck
    }
}

/// Tells the service manager of the process's life, on a thread of its own.
pub fn watch(
    lives: Arc<Lives>,
    first_turns: Receiver<WorkerId>,
    hub: Sender<ToHub>,
    status: String,
) -> std::io::Result<()> {
    let tell = move || {
        let mut missing: BTreeSet<WorkerId> =
            (0..lives.workers.len()).map(|worker| worker as WorkerId).collect();
        while !missing.is_empty() {
            let Ok(worker) = first_turns.recv() else { return };
            missing.remove(&worker);
        }
        ironcast_notify::ready(&status);
        let Some(time) = ironcast_notify::watchdog() else { return };
        let mut watch = Watch::new(&lives, time / STUCK, Instant::now());
        let mut asked = None;
        loop {
            let answers = lives.hub.count.load(Ordering::Relaxed);
            // A hub that is behind is not asked again.
            if asked != Some(answers) {
                asked = Some(answers);
                if hub.send(ToHub::Sign).is_err() {
                    return;
                }
            }
            match watch.stuck(&lives, Instant::now()) {
                None => ironcast_notify::alive(),
                Some(who) => tracing::error!("{who} is stuck: the service manager is not told"),
            }
            // Workers that were started again are nothing to wake for.
            let pause = Instant::now() + time / LOOKS;
            while let Some(left) = pause.checked_duration_since(Instant::now()) {
                if first_turns.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
                    return;
                }
            }
        }
    };
    std::thread::Builder::new().name("watchdog".into()).spawn(tell).map(drop)
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
        pulses.iter_mut().for_each(Pulse::turn);
        lives.hub_answers();
        assert_eq!(stuck(0), None);
        assert_eq!(stuck(4), None);
        pulses[0].turn();
        lives.hub_answers();
        assert_eq!(stuck(6), Some(Who::Worker(1)));
        pulses[1].turn();
        assert_eq!(stuck(7), None);
        let [first, second] = pulses;
        drop(second);
        lives.hub_answers();
        assert_eq!(stuck(13), Some(Who::Worker(0)));
        drop(first);
        assert_eq!(stuck(14), None);
        assert_eq!(stuck(19), Some(Who::Hub));
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
            assert_eq!(watch.stuck(&lives, since), None);
            lives.hub_answers();
            assert_eq!(watch.stuck(&lives, since + PATIENCE), Some(Who::Worker(0)));
        }
        assert_eq!(first_turns.try_iter().collect::<Vec<_>>(), [0, 0]);
    }
}
