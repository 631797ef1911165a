//! Messages from other threads to a worker: commands, handed-over STUN, output of DTLS. Any number
//! of senders, one receiver (the worker loop). Never used per forwarded packet.
//!
//! There are three queues, so that strangers cannot crowd out what is said only once, and commands
//! hold up no handshake:
//!
//! | by | what | bounded by | when it is full |
//! |---|---|---|---|
//! | [`Sender::offer`] | datagrams | [`DATAGRAMS_MAX`] | the oldest is dropped and counted |
//! | [`Sender::deliver`] | results of handshakes | the associations there are | never |
//! | [`Sender::send`] | commands | the capacity | refused: the sender says so to its caller |
//!
//! The worker takes a queue as a whole, when it has nothing left of that kind. So it has no more than
//! its senders may leave here, and what it does not get to is felt by them.
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
//! What other workers write for this one (`hops.rs`) has a flag of its own beside `waiting`, of the same
//! kind. All four are sequentially consistent, so at least one side sees the other's first step: either
//! the worker finds the message or the sender finds the sleeper. The swap lets only one of many
//! senders pay for the wake.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

/// Datagrams that wait at most: peers repeat what is lost, and what is old is of no use.
pub const DATAGRAMS_MAX: usize = 256;

/// What waits, or was taken: each queue in its order.
#[derive(Debug)]
pub struct Mail<M> {
    /// What may be lost: comes first.
    pub datagrams: VecDeque<M>,
    /// What may not, and has no other way back.
    pub results: VecDeque<M>,
    /// What is refused where too much waits.
    pub commands: VecDeque<M>,
}

impl<M> Mail<M> {
    /// None, and room for so many commands.
    #[must_use]
    pub fn with_room(commands: usize) -> Self {
        Self {
            datagrams: VecDeque::with_capacity(DATAGRAMS_MAX),
            commands: VecDeque::with_capacity(commands),
            ..Self::empty()
        }
    }

    const fn empty() -> Self {
        Self { datagrams: VecDeque::new(), results: VecDeque::new(), commands: VecDeque::new() }
    }

    /// How much there is.
    #[must_use]
    pub fn len(&self) -> usize {
        self.datagrams.len() + self.results.len() + self.commands.len()
    }

    /// True when there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

struct Shared<M> {
    mail: Mutex<Mail<M>>,
    capacity: usize,
    /// Datagrams that were dropped for newer ones.
    dropped: AtomicU64,
    closed: AtomicBool,
    bell: Arc<Bell>,
}

impl<M> Shared<M> {
    fn mail(&self) -> MutexGuard<'_, Mail<M>> {
        self.mail.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes a worker that sleeps: what the file's head says of flags is here.
#[derive(Debug)]
pub(crate) struct Bell {
    /// Messages that wait, readable without the lock.
    waiting: AtomicUsize,
    /// Other workers have written something (see `hops.rs`).
    hops: AtomicBool,
    sleeping: AtomicBool,
    stopped: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    /// Another worker has written something for this one.
    pub(crate) fn hops_came(&self) {
        self.hops.store(true, Ordering::SeqCst);
        self.wake();
    }

    /// This worker has not read all of it.
    pub(crate) fn hops_left(&self) {
        self.hops.store(true, Ordering::SeqCst);
    }

    /// True when something may have been written since this was asked last.
    pub(crate) fn take_hops(&self) -> bool {
        self.hops.load(Ordering::Relaxed) && self.hops.swap(false, Ordering::SeqCst)
    }

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

impl<M> SendError<M> {
    /// The reason alone.
    #[must_use]
    pub fn without_message(self) -> SendError<()> {
        match self {
            Self::Full(_) => SendError::Full(()),
            Self::Closed(_) => SendError::Closed(()),
        }
    }
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

/// A mailbox that holds at most `capacity` commands.
pub fn mailbox<M>(capacity: usize) -> io::Result<(Sender<M>, Receiver<M>)> {
    // SAFETY: no pointers are involved; the result is checked.
    let event = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    if event < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let event = unsafe { OwnedFd::from_raw_fd(event) };
    let bell = Bell {
        waiting: AtomicUsize::new(0),
        hops: AtomicBool::new(false),
        sleeping: AtomicBool::new(false),
        stopped: AtomicBool::new(false),
        event,
    };
    let shared = Arc::new(Shared {
        mail: Mutex::new(Mail::with_room(capacity.min(1_024))),
        capacity,
        dropped: AtomicU64::new(0),
        closed: AtomicBool::new(false),
        bell: Arc::new(bell),
    });
    Ok((Sender(Arc::clone(&shared)), Receiver(shared)))
}

impl<M> Sender<M> {
    /// Puts a command in, and wakes the worker if it sleeps.
    ///
    /// # Errors
    /// Too many wait, or the worker has ended.
    pub fn send(&self, message: M) -> Result<(), SendError<M>> {
        self.put(message, |mail, message| {
            if mail.commands.len() >= self.0.capacity {
                return Err(SendError::Full(message));
            }
            mail.commands.push_back(message);
            Ok(())
        })
    }

    /// Puts in what may not be lost and is said once, however much waits: only for what its source
    /// bounds. Wakes the worker if it sleeps.
    ///
    /// # Errors
    /// The worker has ended.
    pub fn deliver(&self, message: M) -> Result<(), SendError<M>> {
        self.put(message, |mail, message| {
            mail.results.push_back(message);
            Ok(())
        })
    }

    /// Puts in a datagram, in the place of the oldest one if need be, and wakes the worker if it
    /// sleeps. One for a worker that has ended is lost, as on the wire.
    pub fn offer(&self, message: M) {
        let mut oldest = None;
        let offered = self.put(message, |mail, message| {
            if mail.datagrams.len() >= DATAGRAMS_MAX {
                oldest = mail.datagrams.pop_front();
                self.0.dropped.fetch_add(1, Ordering::Relaxed);
            }
            mail.datagrams.push_back(message);
            Ok(())
        });
        // Without the lock: what is dropped may be a socket, which the kernel takes a while to close.
        drop((offered, oldest));
    }

    /// The sender's first step (see the file's head) under the lock, then the second.
    fn put(
        &self,
        message: M,
        push: impl FnOnce(&mut Mail<M>, M) -> Result<(), SendError<M>>,
    ) -> Result<(), SendError<M>> {
        {
            let mut mail = self.0.mail();
            if self.0.closed.load(Ordering::Relaxed) {
                return Err(SendError::Closed(message));
            }
            push(&mut mail, message)?;
            self.0.bell.waiting.store(mail.len(), Ordering::SeqCst);
        }
        self.0.bell.wake();
        Ok(())
    }

    /// Tells the worker to end after its current turn.
    pub fn stop(&self) {
        self.0.bell.stopped.store(true, Ordering::SeqCst);
        self.0.bell.wake();
    }
}

impl<M> Receiver<M> {
    /// Takes what waits of each kind, in order, if there is none of it in `into`. The rest stays where its
    /// bound is felt: senders drop the oldest datagrams, because the kernel takes a while to close a
    /// socket, and are refused commands. False: a sender holds the lock just now, nothing was taken. The
    /// worker does not wait for it: a sender of low rank may not run for long.
    #[must_use]
    pub fn take(&self, into: &mut Mail<M>) -> bool {
        if self.0.bell.waiting.load(Ordering::Acquire) == 0 {
            return true;
        }
        let mut mail = match self.0.mail.try_lock() {
            Ok(mail) => mail,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return false,
        };
        let mail = &mut *mail;
        // All keep their memory: nothing is allocated in the steady state.
        for (waiting, into) in [
            (&mut mail.datagrams, &mut into.datagrams),
            (&mut mail.results, &mut into.results),
            (&mut mail.commands, &mut into.commands),
        ] {
            if into.is_empty() {
                std::mem::swap(waiting, into);
            }
        }
        self.0.bell.waiting.store(mail.len(), Ordering::SeqCst);
        true
    }

    /// Datagrams that were dropped for newer ones.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// True when [`Sender::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.bell.stopped.load(Ordering::Acquire)
    }

    /// True when there is something to do here.
    pub(crate) fn has_mail(&self) -> bool {
        let bell = &self.0.bell;
        bell.waiting.load(Ordering::SeqCst) != 0
            || bell.hops.load(Ordering::SeqCst)
            || bell.stopped.load(Ordering::SeqCst)
    }

    /// What wakes this worker.
    pub(crate) fn bell(&self) -> &Arc<Bell> {
        &self.0.bell
    }

    /// Says that the worker is about to sleep. False: something came meanwhile, do not sleep.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.0.bell.sleeping.store(true, Ordering::SeqCst);
        let idle = !self.has_mail();
        if !idle {
            self.0.bell.sleeping.store(false, Ordering::SeqCst);
        }
        idle
    }

    /// Says that the worker no longer sleeps: senders need not wake it.
    pub(crate) fn awake(&self) {
        self.0.bell.sleeping.store(false, Ordering::SeqCst);
    }

    /// The descriptor that a wake makes readable.
    pub(crate) fn event(&self) -> RawFd {
        self.0.bell.event.as_raw_fd()
    }
}

impl<M> Drop for Receiver<M> {
    fn drop(&mut self) {
        let mut mail = self.0.mail();
        self.0.closed.store(true, Ordering::Relaxed);
        let rest = std::mem::replace(&mut *mail, Mail::empty());
        drop(mail);
        // Messages may own sockets or answers that somebody waits for: they end now. Without the lock,
        // or other workers that have something for this one would wait until the last is closed.
        drop(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_bounded_and_keep_their_order() {
        let (sender, receiver) = mailbox(2).unwrap();
        sender.send(1).unwrap();
        sender.clone().send(2).unwrap();
        assert_eq!(sender.send(3), Err(SendError::Full(3)));
        let mut taken = Mail::with_room(0);
        assert!(receiver.take(&mut taken));
        assert_eq!(taken.commands, [1, 2]);
        drop(receiver);
        assert_eq!(sender.send(5), Err(SendError::Closed(5)));
        assert_eq!(sender.deliver(6), Err(SendError::Closed(6)));
        sender.offer(7);
    }

    #[test]
    fn commands_that_a_worker_does_not_get_to_are_refused_and_results_are_not() {
        let (sender, receiver) = mailbox(2).unwrap();
        let mut taken = Mail::with_room(0);
        for number in [1, 2] {
            sender.send(number).unwrap();
        }
        assert!(receiver.take(&mut taken));
        for turn in 0..10 {
            let sent = [3, 4].map(|number| sender.send(number).is_ok());
            assert_eq!(sent, [turn == 0; 2], "turn {turn}");
            (0..100).for_each(|number| sender.deliver(number).unwrap());
            assert!(receiver.take(&mut taken));
            assert_eq!((&taken.commands, taken.results.len()), (&[1, 2].into(), 100));
            assert!(!receiver.prepare_sleep(), "there is more to do");
            taken.results.clear();
        }
        taken.commands.pop_front();
        assert!(receiver.take(&mut taken));
        assert_eq!(taken.commands, [2]);
        taken.commands.clear();
        assert!(receiver.take(&mut taken));
        assert_eq!(taken.commands, [3, 4]);
        sender.send(5).unwrap();
    }

    /// Asks for the lock when it is dropped, and notes whether a sender would wait for it.
    struct Asks(Sender<Self>, Arc<AtomicUsize>);

    impl Drop for Asks {
        fn drop(&mut self) {
            self.1.fetch_add(usize::from(self.0.0.mail.try_lock().is_err()), Ordering::Relaxed);
        }
    }

    #[test]
    fn nobody_waits_for_what_an_ended_worker_leaves_to_be_dropped() {
        let (sender, receiver) = mailbox(2).unwrap();
        let waits = Arc::new(AtomicUsize::new(0));
        let message = || Asks(sender.clone(), Arc::clone(&waits));
        sender.offer(message());
        assert!(sender.send(message()).is_ok() && sender.deliver(message()).is_ok());
        drop(receiver);
        drop(sender.deliver(message()));
        assert_eq!((waits.load(Ordering::Relaxed), Arc::strong_count(&waits)), (0, 1));
    }

    #[test]
    fn the_worker_waits_for_no_sender() {
        let (sender, receiver) = mailbox(2).unwrap();
        sender.send(1).unwrap();
        let mut taken = Mail::with_room(0);
        let held = sender.0.mail();
        assert!(!receiver.take(&mut taken) && taken.is_empty());
        drop(held);
        assert!(receiver.take(&mut taken));
        assert_eq!(taken.commands, [1]);
    }

    #[test]
    fn what_a_worker_has_not_got_to_is_bounded_and_dropped_by_its_senders() {
        let (sender, receiver) = mailbox(2).unwrap();
        let mut taken = Mail::with_room(0);
        let round = DATAGRAMS_MAX as u32;
        let offer = |numbers: std::ops::Range<u32>| numbers.for_each(|number| sender.offer(number));
        offer(0..round);
        assert!(receiver.take(&mut taken));
        for (second, dropped) in [(1, 0), (2, DATAGRAMS_MAX as u64)] {
            offer(second * round..(second + 1) * round);
            assert!(receiver.take(&mut taken));
            assert!(taken.datagrams.iter().copied().eq(0..round));
            assert_eq!(receiver.dropped(), dropped);
            // There is more to do.
            assert!(!receiver.prepare_sleep());
        }
        taken.datagrams.clear();
        assert!(receiver.take(&mut taken));
        assert!(taken.datagrams.iter().copied().eq(2 * round..3 * round));
        assert!(receiver.prepare_sleep());
    }

    #[test]
    fn a_flood_of_datagrams_or_commands_takes_no_results_place() {
        let (sender, receiver) = mailbox(2).unwrap();
        let flood = DATAGRAMS_MAX as u32 + 3;
        (0..flood).for_each(|number| sender.offer(number));
        sender.send(1).unwrap();
        sender.send(2).unwrap();
        assert_eq!(sender.send(3), Err(SendError::Full(3)));
        sender.deliver(100).unwrap();
        let mut taken = Mail::with_room(0);
        assert!(receiver.take(&mut taken));
        assert_eq!((taken.commands, taken.results), ([1, 2].into(), [100].into()));
        // The newest of the datagrams, in their order.
        assert!(taken.datagrams.iter().copied().eq(3..flood));
        assert_eq!(receiver.dropped(), 3);
        assert!(receiver.prepare_sleep());
        sender.offer(0);
        assert!(!receiver.prepare_sleep());
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
        assert!(receiver.take(&mut Mail::with_room(0)));
        assert!(receiver.prepare_sleep());
        sender.send(2).unwrap();
        sender.send(3).unwrap();
        assert_eq!(signalled(&receiver), 1, "one wake for both");
        receiver.awake();
        sender.stop();
        assert!(receiver.is_stopped() && !receiver.prepare_sleep());
    }
}
