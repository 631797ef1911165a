//! Rooms on several workers: a room lives on its home worker and may have transports on others. For the
//! dataplane each part is a room of its own; what makes them one is here, and in `spread.rs`, which
//! makes the parts when they are first needed:
//!
//! | part | the dataplane's id | what it is there |
//! |---|---|---|
//! | branch | `{router}~{worker}` | a router on another worker |
//! | hop | `{router}~{here}~{there}` | a transport on worker `here`, to its other end on `there` |
//! | pipe | `{producer}~{here}~{there}` | a pipe consumer on worker `here`, which takes all into the hop |
//! | mirror | `{producer}~{there}` | a producer on worker `there`, of what comes out of the hop |
//!
//! Ids of the API have no `~`, so that none of these is taken for one of theirs. What is to be closed or
//! paused with something is put down as an errand: a command whose answer changes nothing here.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use ironcast_api::{Id, events::TransportClosedReason};
use ironcast_protocol::{Command, WorkerId, command::Named};

use super::{Producer, Registry, Router};
use crate::events::EventLog;

/// A mirror that nobody uses is closed after so long: who leaves often comes back at once.
const IDLE_TIME: Duration = Duration::from_secs(5);

/// A producer's copy on another worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mirror {
    /// Consumers and observers there.
    uses: usize,
    /// Since when there are none.
    idle_since: Option<Instant>,
}

/// A branch's name.
#[must_use]
pub fn branch(router: &Id, worker: WorkerId) -> String {
    format!("{router}~{worker}")
}

/// The name of a hop's end.
#[must_use]
pub fn hop(router: &Id, here: WorkerId, there: WorkerId) -> String {
    format!("{router}~{here}~{there}")
}

/// The name of a producer's way into a hop.
#[must_use]
pub fn pipe(producer: &Id, here: WorkerId, there: WorkerId) -> String {
    format!("{producer}~{here}~{there}")
}

/// A mirror's name.
#[must_use]
pub fn mirror(producer: &Id, worker: WorkerId) -> String {
    format!("{producer}~{worker}")
}

/// What a name is of, and the workers in it: none in a name of the API's own.
#[must_use]
pub fn parse(name: &str) -> Option<(Id, Vec<WorkerId>)> {
    let mut parts = name.split('~');
    let id = Id::new(parts.next()?).ok()?;
    let workers = parts.map(|part| part.parse().ok()).collect::<Option<Vec<_>>>()?;
    Some((id, workers))
}

/// The id that a name of the dataplane's has in the API.
#[must_use]
pub fn own_id(name: &str) -> &str {
    name.split('~').next().unwrap_or(name)
}

impl Router {
    /// The workers that it is on, its home first.
    pub fn workers(&self) -> impl Iterator<Item = WorkerId> {
        [self.worker].into_iter().chain(self.branches.iter().copied())
    }

    /// What the dataplane calls it on a worker.
    #[must_use]
    pub fn name_on(&self, worker: WorkerId) -> String {
        if worker == self.worker { self.info.id.to_string() } else { branch(&self.info.id, worker) }
    }

    /// Whether two of its workers are connected.
    #[must_use]
    pub fn has_hop(&self, one: WorkerId, other: WorkerId) -> bool {
        self.hops.contains(&pair(one, other))
    }
}

impl Producer {
    /// What the dataplane calls it on a worker, if it is there.
    #[must_use]
    pub fn name_on(&self, worker: WorkerId) -> Option<String> {
        if worker == self.worker {
            return Some(self.info.id.to_string());
        }
        self.mirrors.contains_key(&worker).then(|| mirror(&self.info.id, worker))
    }
}

fn pair(one: WorkerId, other: WorkerId) -> (WorkerId, WorkerId) {
    (one.min(other), one.max(other))
}

fn named(id: String) -> Named {
    Named { id }
}

impl Registry {
    /// A room is on another worker, too. False if the room is gone: then the branch goes.
    pub fn insert_branch(&mut self, router: &Id, worker: WorkerId) -> bool {
        let Some(found) = self.routers.get_mut(router).filter(|one| one.worker != worker) else {
            self.errands.push_back(Command::CloseRouter(named(branch(router, worker))));
            return false;
        };
        if found.branches.insert(worker) {
            self.count_room(worker);
        }
        true
    }

    /// Two workers of a room are connected. False if one of them is not there any more.
    pub fn insert_hop(&mut self, router: &Id, one: WorkerId, other: WorkerId) -> bool {
        if let Some(found) = self.routers.get_mut(router)
            && [one, other].iter().all(|worker| found.workers().any(|known| known == *worker))
        {
            found.hops.insert(pair(one, other));
            return true;
        }
        self.close_hop(router, one, other);
        false
    }

    /// Both ends go.
    pub fn close_hop(&mut self, router: &Id, one: WorkerId, other: WorkerId) {
        for (here, there) in [(one, other), (other, one)] {
            self.errands.push_back(Command::CloseTransport(named(hop(router, here, there))));
        }
    }

    /// A producer is on another worker, too. False if it is gone: then the mirror goes.
    pub fn insert_mirror(
        &mut self,
        producer: &Id,
        (here, worker): (WorkerId, WorkerId),
        is_paused: bool,
    ) -> bool {
        let Some(found) = self.producers.get_mut(producer).filter(|one| one.worker == here) else {
            self.close_mirror(producer, here, worker);
            return false;
        };
        let idle_since = Some(Instant::now());
        found.mirrors.insert(worker, Mirror { uses: 0, idle_since });
        self.idle_mirrors.push_back((producer.clone(), worker));
        // It may have been paused or resumed while the mirror was made.
        if found.info.paused != is_paused {
            self.pause_mirrors(producer);
        }
        true
    }

    /// It goes, and the pipe that it gets its packets by.
    pub fn close_mirror(&mut self, producer: &Id, here: WorkerId, there: WorkerId) {
        self.errands.push_back(Command::CloseProducer(named(mirror(producer, there))));
        self.errands.push_back(Command::CloseConsumer(named(pipe(producer, here, there))));
    }

    /// A producer was paused or resumed: so are its mirrors.
    pub fn pause_mirrors(&mut self, producer: &Id) {
        let Some(found) = self.producers.get(producer) else { return };
        for worker in found.mirrors.keys() {
            let named = named(mirror(producer, *worker));
            self.errands.push_back(if found.info.paused {
                Command::PauseProducer(named)
            } else {
                Command::ResumeProducer(named)
            });
        }
    }

    /// One more takes a producer's packets on a worker.
    pub(super) fn use_mirror(&mut self, producer: &Id, worker: WorkerId) {
        let Some(found) = self.producers.get_mut(producer) else { return };
        if let Some(mirror) = found.mirrors.get_mut(&worker) {
            mirror.uses += 1;
            mirror.idle_since = None;
        }
    }

    /// One fewer does.
    pub(super) fn leave_mirror(&mut self, producer: &Id, worker: WorkerId) {
        let Some(found) = self.producers.get_mut(producer) else { return };
        let Some(mirror) = found.mirrors.get_mut(&worker) else { return };
        mirror.uses = mirror.uses.saturating_sub(1);
        if mirror.uses == 0 && mirror.idle_since.replace(Instant::now()).is_none() {
            self.idle_mirrors.push_back((producer.clone(), worker));
        }
    }

    /// Whether a producer is on a worker. Where that is an idle mirror, it stays for as long again: what
    /// is to use it is on its way.
    pub fn is_within_reach(&mut self, producer: &Id, worker: WorkerId) -> Option<bool> {
        let found = self.producers.get_mut(producer)?;
        if let Some(since) = found.mirrors.get_mut(&worker).and_then(|one| one.idle_since.as_mut())
        {
            *since = Instant::now();
        }
        Some(found.name_on(worker).is_some())
    }

    /// Once a second: mirrors that nobody has used for a while.
    pub fn close_idle_mirrors(&mut self, now: Instant) {
        for _ in 0..self.idle_mirrors.len() {
            let Some((producer, worker)) = self.idle_mirrors.pop_front() else { return };
            let Some(found) = self.producers.get_mut(&producer) else { continue };
            let idle = found.mirrors.get(&worker).and_then(|mirror| mirror.idle_since);
            let Some(since) = idle else { continue };
            if now.saturating_duration_since(since) < IDLE_TIME {
                self.idle_mirrors.push_back((producer, worker));
                continue;
            }
            found.mirrors.remove(&worker);
            let here = found.worker;
            self.close_mirror(&producer, here, worker);
        }
    }

    /// A producer is gone, and with it what was made of it on other workers.
    pub(super) fn close_mirrors(&mut self, producer: &Producer) {
        for worker in producer.mirrors.keys() {
            let name = mirror(&producer.info.id, *worker);
            self.errands.push_back(Command::CloseProducer(named(name)));
        }
    }

    /// A room is gone, and with it its branches.
    pub(super) fn close_branches(&mut self, router: &Router) {
        for worker in &router.branches {
            self.errands.push_back(Command::CloseRouter(named(branch(&router.info.id, *worker))));
        }
    }

    /// A worker of a room has ended, not its home: what was on it is gone.
    pub fn lose_branch(&mut self, router: &Id, worker: WorkerId, log: &mut EventLog) {
        let Some(found) = self.routers.get_mut(router) else { return };
        if !found.branches.remove(&worker) {
            return;
        }
        let hops: Vec<_> =
            found.hops.iter().copied().filter(|(a, b)| *a == worker || *b == worker).collect();
        for (one, other) in hops {
            found.hops.remove(&(one, other));
            let left = if one == worker { other } else { one };
            self.errands.push_back(Command::CloseTransport(named(hop(router, left, worker))));
        }
        let transports = found.transports.clone();
        for producer in found.producers.clone() {
            if let Some(producer) = self.producers.get_mut(&producer) {
                producer.mirrors.remove(&worker);
            }
        }
        self.uncount_room(worker);
        for id in transports {
            if self.transports.get(&id).is_some_and(|one| one.worker == worker) {
                self.close_transport(&id, TransportClosedReason::WorkerDied, log);
            }
        }
    }

    /// Does what the dataplane is to do, the oldest first; false of `send` leaves it and what is behind
    /// it for later.
    pub fn run_errands(&mut self, mut send: impl FnMut(&Command) -> bool) {
        while self.errands.pop_front_if(|command| send(command)).is_some() {}
    }

    /// Whether there is something for it to do.
    #[must_use]
    pub fn has_errands(&self) -> bool {
        !self.errands.is_empty()
    }
}

/// Parts that a snapshot names, until it is complete: what lacks its other half is closed.
#[derive(Debug, Default)]
pub struct Parts {
    /// Rooms and the other workers that they are on.
    branches: Vec<(Id, WorkerId)>,
    /// Ends of hops, and whether each is connected.
    hops: BTreeMap<String, bool>,
    /// Pipes into hops: from where and to where.
    pipes: Vec<(Id, (WorkerId, WorkerId))>,
    /// Mirrors, and whether each is paused.
    mirrors: BTreeMap<(Id, WorkerId), bool>,
}

impl Parts {
    /// A room is on another worker, too.
    pub fn add_branch(&mut self, router: Id, worker: WorkerId) {
        self.branches.push((router, worker));
    }

    /// An end of a hop.
    pub fn add_hop(&mut self, name: String, is_connected: bool) {
        self.hops.insert(name, is_connected);
    }

    /// A pipe into a hop.
    pub fn add_pipe(&mut self, producer: Id, here: WorkerId, there: WorkerId) {
        self.pipes.push((producer, (here, there)));
    }

    /// What comes out of it.
    pub fn add_mirror(&mut self, producer: Id, worker: WorkerId, is_paused: bool) {
        self.mirrors.insert((producer, worker), is_paused);
    }

    /// Puts all that is whole into the registry, before what uses it; the rest is to be closed.
    pub fn finish(mut self, registry: &mut Registry) {
        for (router, worker) in std::mem::take(&mut self.branches) {
            registry.insert_branch(&router, worker);
        }
        let names: Vec<String> = self.hops.keys().cloned().collect();
        for name in names {
            let Some((router, workers)) = parse(&name) else { continue };
            let &[here, there] = &workers[..] else { continue };
            let both = [(here, there), (there, here)];
            let ends = both.map(|(a, b)| self.hops.get(&hop(&router, a, b)).copied());
            if ends == [Some(true); 2] {
                if here < there {
                    registry.insert_hop(&router, here, there);
                }
            } else if self.hops.remove(&name).is_some() {
                registry.errands.push_back(Command::CloseTransport(named(name)));
            }
        }
        for (producer, (here, there)) in self.pipes {
            match self.mirrors.remove(&(producer.clone(), there)) {
                Some(is_paused) => {
                    registry.insert_mirror(&producer, (here, there), is_paused);
                }
                None => registry
                    .errands
                    .push_back(Command::CloseConsumer(named(pipe(&producer, here, there)))),
            }
        }
        for (producer, there) in self.mirrors.into_keys() {
            registry.errands.push_back(Command::CloseProducer(named(mirror(&producer, there))));
        }
    }
}
