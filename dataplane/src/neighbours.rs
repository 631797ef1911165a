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

/// A pipe's end whose other end is in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Met {
    /// Its way: an end of a hop.
    pub end: PathId,
    /// The other end and whose it is, once that one is connected to this one.
    pub far: Option<(WorkerId, PathId)>,
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

    /// The pipe at `local` is connected to `remote`. None where that is no pipe of this process, or where
    /// `open` gives no end of a hop for it.
    pub fn meet(
        &self,
        local: SocketAddr,
        remote: SocketAddr,
        open: impl FnOnce() -> Option<PathId>,
    ) -> Option<Met> {
        let mut places = self.places();
        if !places.contains_key(&remote) {
            return None;
        }
        let near = places.get_mut(&local)?;
        let end = open()?;
        near.end = Some((remote, end));
        let far = places[&remote];
        let to_this = far.end.filter(|(to, _)| *to == local);
        Some(Met { end, far: to_this.map(|(_, far_end)| (far.worker, far_end)) })
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
        let meet = |local, remote, slot| neighbours.meet(local, remote, || Some(end(slot)));
        let waits = |slot| Some(Met { end: end(slot), far: None });
        let not_here = |local, remote| {
            neighbours.meet(local, remote, || unreachable!("no way for who is not here")).is_none()
        };
        assert!(not_here(a, c) && not_here(c, a));
        assert_eq!(meet(a, b, 7), waits(7), "the other one is not connected yet");
        assert_eq!(meet(b, a, 8), Some(Met { end: end(8), far: Some((0, end(7))) }));
        // One that wants another.
        neighbours.add(c, 2);
        assert_eq!(meet(c, b, 9), waits(9));
        // Without a way nobody is met.
        assert_eq!(neighbours.meet(c, b, || None), None);
        // What is gone is not met, nor what was there before.
        neighbours.remove(a);
        assert!(not_here(b, a));
        neighbours.add(a, 0);
        assert_eq!(meet(b, a, 8), waits(8));
        neighbours.forget(1);
        assert!(not_here(a, b) && not_here(b, a));
    }
}
