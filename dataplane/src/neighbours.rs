//! Pipes between rooms of this process: their ends know each other by address, as those of two hosts do, and
//! find here that they need no network. An end of a hop takes the place of each one's socket, and the
//! second that is connected brings both together. Used by the engines when a pipe is made or goes, never on the
//! way of a packet.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use ironcast_core::batch::PathId;
use ironcast_protocol::WorkerId;

/// Where a pipe's socket is bound.
#[derive(Debug, Clone, Copy)]
struct Place {
    worker: WorkerId,
    /// Once it is connected: the address that it is connected to, and its end of the hop.
    end: Option<(SocketAddr, PathId)>,
}

/// See the file's head.
#[derive(Debug, Clone, Default)]
pub struct Neighbours(Arc<Mutex<BTreeMap<SocketAddr, Place>>>);

impl Neighbours {
    fn places(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A pipe's socket is bound by a worker.
    pub fn add(&self, local: SocketAddr, worker: WorkerId) {
        self.places().insert(local, Place { worker, end: None });
    }

    /// It goes.
    pub fn remove(&self, local: SocketAddr) {
        self.places().remove(&local);
    }

    /// A worker begins, perhaps again: those of the one before are gone.
    pub fn forget(&self, worker: WorkerId) {
        self.places().retain(|_, place| place.worker != worker);
    }

    /// Whether both are bound by pipes of this process.
    #[must_use]
    pub fn are_both_here(&self, local: SocketAddr, remote: SocketAddr) -> bool {
        let places = self.places();
        places.contains_key(&local) && places.contains_key(&remote)
    }

    /// The pipe at `local` is connected to `remote`, by that end of a hop. Returns the other end and whose
    /// it is, if that one is connected to this one.
    pub fn meet(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        end: PathId,
    ) -> Option<(WorkerId, PathId)> {
        let mut places = self.places();
        places.get_mut(&local)?.end = Some((remote, end));
        let far = places.get(&remote)?;
        let (to, far_end) = far.end?;
        (to == local).then_some((far.worker, far_end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_meet_that_are_connected_to_each_other() {
        let neighbours = Neighbours::default();
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let end = |slot| PathId { slot, generation: 0 };
        neighbours.add(a, 0);
        neighbours.add(b, 1);
        assert!(neighbours.are_both_here(a, b));
        assert!(!neighbours.are_both_here(a, c) && !neighbours.are_both_here(c, a));
        assert_eq!(neighbours.meet(a, b, end(7)), None, "the other one is not connected yet");
        assert_eq!(neighbours.meet(b, a, end(8)), Some((0, end(7))));
        // One that wants another.
        neighbours.add(c, 2);
        assert_eq!(neighbours.meet(c, b, end(9)), None);
        // What is gone is not met, nor what was there before.
        neighbours.remove(a);
        assert_eq!(neighbours.meet(b, a, end(8)), None);
        neighbours.add(a, 0);
        assert_eq!(neighbours.meet(b, a, end(8)), None);
        neighbours.forget(1);
        assert!(!neighbours.are_both_here(a, b));
        assert_eq!(neighbours.meet(b, a, end(8)), None);
    }
}
