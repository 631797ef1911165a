//! The mailboxes of all workers, for what came in on the wrong core. Locked only for such datagrams
//! and when a worker starts or ends; never on the way of media.

use std::sync::{Arc, Mutex, PoisonError};

use ironcast_driver::mailbox::Sender;
use ironcast_protocol::WorkerId;

use crate::messages::ToWorker;

/// See the file's head.
#[derive(Clone)]
pub struct Directory(Arc<Vec<Mutex<Option<Sender<ToWorker>>>>>);

impl Directory {
    /// For that many workers, none of which runs yet.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self(Arc::new((0..workers).map(|_| Mutex::new(None)).collect()))
    }

    /// A worker starts or ends.
    pub fn set(&self, worker: WorkerId, mailbox: Option<Sender<ToWorker>>) {
        if let Some(slot) = self.0.get(usize::from(worker)) {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = mailbox;
        }
    }

    /// To a worker that may not exist, not run, or get too many: then the datagram is lost, as on
    /// the wire, and the peer repeats it. False: there is no such worker now.
    pub fn send(&self, worker: WorkerId, message: ToWorker) -> bool {
        let Some(slot) = self.0.get(usize::from(worker)) else { return false };
        let mailbox = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let is_there = mailbox.is_some();
        if let Some(mailbox) = mailbox {
            mailbox.offer(message);
        }
        is_there
    }

    /// What is said once; a worker that has ended has no use for it.
    pub fn deliver(&self, worker: WorkerId, message: ToWorker) {
        let Some(slot) = self.0.get(usize::from(worker)) else { return };
        let mailbox = slot.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(mailbox) = mailbox {
            let _ = mailbox.deliver(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_nobody_is_said_to_be() {
        let directory = Directory::new(2);
        let (mailbox, _receiver) = ironcast_driver::mailbox::mailbox(1).unwrap();
        directory.set(1, Some(mailbox));
        let mail = || ToWorker::States { token: 1, names: Vec::new() };
        assert_eq!(
            [0, 1, 2, 255].map(|worker| directory.send(worker, mail())),
            [false, true, false, false]
        );
        directory.set(1, None);
        assert!(!directory.send(1, mail()));
    }
}
