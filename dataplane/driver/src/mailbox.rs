//! Messages from other threads to a worker: commands, handed-over STUN, output of DTLS. Bounded,
//! any number of senders, one receiver (the worker loop). Never used per forwarded packet.
//!
//! A wake of a sleeping thread is dear (8 us), so it is done only when the worker says that it
//! sleeps. The classic danger is a message that slips between the worker's last look and its
//! sleep. Two flags and one total order prevent it (Dekker's pattern):
//!
//! ```text
//!   sender                               worker
//!   1. push, waiting.store (SeqCst)      1. sleeping.store(true) (SeqCst)
//!   2. sleeping.swap(false) (SeqCst)     2. waiting.load (SeqCst)
//!      was true  -> write the eventfd       not zero -> does not sleep
//! ```
//! All four are sequentially consistent, so at least one side sees the other's first step: either
//! the worker finds the message or the sender finds the sleeper. The swap lets only one of many
//! senders pay for the wake.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

struct Shared<M> {
    queue: Mutex<VecDeque<M>>,
    capacity: usize,
    /// Length of `queue`, readable without the lock.
    waiting: AtomicUsize,
    sleeping: AtomicBool,
    stopped: AtomicBool,
    closed: AtomicBool,
    event: OwnedFd,
}

impl<M> Shared<M> {
    fn wake(&self) {
        if self.sleeping.swap(false, Ordering::SeqCst) {
            self.signal();
        }
    }

    fn signal(&self) {
        let one: u64 = 1;
        // SAFETY: the descriptor lives as long as `self`, and eight bytes are readable at `one`.
        // The eventfd does not block; its only error (a full counter) means a wake is due anyway.
        unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
    }
}

/// Why a message was not taken; it is handed back.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError<M> {
    /// The queue has reached its limit.
    #[error("the worker's mailbox is full")]
    Full(M),
    /// The worker has ended.
    #[error("the worker has ended")]
    Closed(M),
}

/// The senders' end.
pub struct Sender<M>(Arc<Shared<M>>);

impl<M> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// The worker's end.
pub struct Receiver<M>(Arc<Shared<M>>);

/// A mailbox that holds at most `capacity` messages.
pub fn mailbox<M>(capacity: usize) -> io::Result<(Sender<M>, Receiver<M>)> {
    // SAFETY: no pointers are involved; the result is checked.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let shared = Arc::new(Shared {
        queue: Mutex::new(VecDeque::with_capacity(capacity.min(1024))),
        capacity,
        waiting: AtomicUsize::new(0),
        sleeping: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        closed: AtomicBool::new(false),
        event,
    });
    Ok((Sender(Arc::clone(&shared)), Receiver(shared)))
}

impl<M> Sender<M> {
    /// Puts a message in, and wakes the worker if it sleeps.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        {
            let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
            if self.0.closed.load(Ordering::Relaxed) {
                return Err(SendError::Closed(message));
            }
            if queue.len() >= self.0.capacity {
                return Err(SendError::Full(message));
            }
            queue.push_back(message);
            self.0.waiting.store(queue.len(), Ordering::SeqCst);
        }
        self.0.wake();
        Ok(())
    }

    /// Tells the worker to end after its current turn.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}

impl<M> Receiver<M> {
    /// Takes all messages that wait, in order, into `into`.
    pub fn take_all(&self, into: &mut VecDeque<M>) {
        if self.0.waiting.load(Ordering::Acquire) == 0 {
            return;
        }
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if into.is_empty() {
            // Both queues keep their memory: nothing is allocated in the steady state.
            std::mem::swap(&mut *queue, into);
        } else {
            into.extend(queue.drain(..));
        }
        self.0.waiting.store(0, Ordering::SeqCst);
    }

    /// True when [`Sender::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    /// True when there is something to do here.
    pub(crate) fn has_mail(&self) -> bool {
        self.0.waiting.load(Ordering::SeqCst) != 0 || self.0.stopped.load(Ordering::SeqCst)
    }

    /// Says that the worker is about to sleep. False: something came meanwhile, do not sleep.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.0.sleeping.store(true, Ordering::SeqCst);
        let idle = !self.has_mail();
        if !idle {
            self.0.sleeping.store(false, Ordering::SeqCst);
        }
        idle
    }

    /// Says that the worker no longer sleeps: senders need not wake it.
    pub(crate) fn awake(&self) {
        self.0.sleeping.store(false, Ordering::SeqCst);
    }

    /// The descriptor that a wake makes readable.
    pub(crate) fn event(&self) -> RawFd {
        self.0.event.as_raw_fd()
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        let mut queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.closed.store(true, Ordering::Relaxed);
        // Messages may own sockets or answers that somebody waits for: they end now.
        queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_is_bounded_and_keeps_the_order() {
        let (sender, receiver) = mailbox(2).unwrap();
        sender.send(1).unwrap();
        sender.clone().send(2).unwrap();
        assert_eq!(sender.send(3), Err(SendError::Full(3)));
        let mut taken = VecDeque::new();
        receiver.take_all(&mut taken);
        assert_eq!(taken, [1, 2]);
        sender.send(4).unwrap();
        receiver.take_all(&mut taken);
        assert_eq!(taken, [1, 2, 4]);
        drop(receiver);
        assert_eq!(sender.send(5), Err(SendError::Closed(5)));
    }

    #[test]
    fn a_worker_with_mail_does_not_sleep_and_only_a_sleeper_is_woken() {
        let (sender, receiver) = mailbox(8).unwrap();
        let signalled = |receiver: &Receiver<u8>| {
            let mut count = 0u64;
            // SAFETY: eight bytes are writable at `count`.
            let read = unsafe { libc::read(receiver.event(), (&raw mut count).cast(), 8) };
            if read == 8 { count } else { 0 }
        };
        sender.send(1).unwrap();
        assert_eq!(signalled(&receiver), 0, "awake: no system call");
        assert!(!receiver.prepare_sleep());
        receiver.take_all(&mut VecDeque::new());
        assert!(receiver.prepare_sleep());
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        assert_eq!(signalled(&receiver), 1, "one wake for both");
        receiver.awake();
        sender.stop();
        assert!(receiver.is_stopped() && !receiver.prepare_sleep());
    }
}
