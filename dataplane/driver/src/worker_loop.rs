//! The loop of one worker thread: harvest what is ready, let the engine work, submit its output,
//! sleep until the next completion, message or deadline. One wait point for all of them.

use std::{io, net::SocketAddr, os::fd::OwnedFd};

use io_uring::{opcode, types};
use ironcast_core::{
    Arrival, MS, Nanos, OUTPUT_LATE,
    batch::{Batch, PathId},
};

use crate::{
    clock::Clock,
    hops::Exchange,
    io::Io,
    mailbox::{Mail, Receiver},
    ring::{Completion, Operation},
    streams::StreamLimits,
    tx::SendMessages,
    without::Without,
    xdp::KICK_NS,
};

/// Sleeps are no longer than this, so that time stays synchronised.
const SLEEP_MAX: Nanos = 1_000_000_000;
/// So long a turn receives, however much there is: then the output of what came is built. The rest
/// waits in the sockets.
const HARVEST_NS: Nanos = MS;
/// So long it takes what other workers have sent.
const HOPS_NS: Nanos = 500_000;
/// Completions between two looks at the clock.
const LOOKS_AT_CLOCK: u32 = 8;
/// So long a turn works through messages of all kinds. One of each is always done.
const MESSAGES_NS: Nanos = 500_000;
/// So long a turn sends: a frame for a large room takes longer than a packet of another room may wait.
const OUTPUT_NS: Nanos = 2 * MS;
/// So long at least, and as long as the turn has taken before, when something has come meanwhile: it is
/// fanned out before the rest leaves.
const OUTPUT_NS_MIN: Nanos = 250_000;
/// So long where output waits for longer than [`OUTPUT_LATE`]: three quarters of a turn that takes all
/// that it may for what comes. What there is no time for is skipped when it is too old
/// ([`ironcast_core::OUTPUT_OLD`]).
const OUTPUT_BEHIND_NS: Nanos = 8 * MS;
/// A mailbox whose lock was held is looked at again after this.
const LOCKED_NS: Nanos = 200_000;
/// Paths that the engine is told of in one turn that they have failed: it closes them, which the kernel
/// takes some 10 us for. Those of a whole network fail at once.
const FAILED_AT_ONCE: usize = 16;
/// Rounds in which requests that were ended are said to have.
const ENDING_ROUNDS_MAX: u32 = 100_000;
/// Datagrams in one turn from which on the worker counts as busy.
const BUSY_DATAGRAMS: u64 = 4;
/// Completions that end a held turn early.
const HELD_COMPLETIONS: u32 = 64;

/// The packets of a frame follow each other closer than this; a longer gap is a loss.
const GAP_MAX: Nanos = 100_000;

/// Where a datagram came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// A listener.
    Listener {
        /// Its address.
        local: SocketAddr,
        /// The sender's.
        remote: SocketAddr,
    },
    /// A connected socket, or a connection that was kept.
    Path(PathId),
    /// A connection that [`Io::keep_stream`] has not made a path yet.
    Stream {
        /// What it will be.
        path: PathId,
        /// The listener's address.
        local: SocketAddr,
        /// The peer's.
        remote: SocketAddr,
    },
}

/// What a worker does: implemented by the binary, called by [`run`].
pub trait Engine {
    /// What arrives by the mailbox.
    type Message: Send + 'static;

    /// A datagram; `arrival` is the kernel's stamp.
    fn receive(&mut self, source: Inbound, datagram: &mut [u8], arrival: Arrival, now: Nanos);

    /// A message from another thread.
    fn message(&mut self, message: Self::Message, io: &mut Io, now: Nanos);

    /// False: commands wait, because one is worked on that takes several turns ([`Engine::deadline`] is to
    /// say that there is more to do). Everything else comes meanwhile.
    fn takes_commands(&self) -> bool {
        true
    }

    /// Everything that was ready is received: time for timers and sockets.
    fn turn(&mut self, io: &mut Io, now: Nanos);

    /// When the newest part came of something that leaves cheaper as a whole (a frame): the loop
    /// waits for the rest for a moment before it asks for output.
    fn incomplete_since(&self) -> Option<Arrival>;

    /// Fills the batch with a turn's output, or a portion of it; true when there is more. It is asked
    /// for after the batch was sent, of a large room in later turns.
    fn fill(&mut self, batch: &mut Batch, now: Nanos) -> bool;

    /// Nothing is left of what [`Engine::fill`] was asked for since the last call; or some is, which has
    /// waited for [`OUTPUT_LATE`].
    fn sent(&mut self, now: Nanos);

    /// When the engine wants its next turn at the latest.
    fn deadline(&self) -> Option<Nanos>;

    /// For whom a connection is that came by a port that all workers share ([`Io::share_stream_listener`]):
    /// its first frame says that. It stays where it is, and comes again by [`Engine::receive`] of that
    /// worker: see [`Io::take_connections_of_others`].
    fn home_of(&self, _frame: &[u8]) -> Home {
        Home::Here
    }

    /// The worker ends; what the engine has to say is asked for once more by [`Engine::fill`].
    fn end(&mut self);

    /// A path has had nothing but errors (ICMP) for `path_failure_ms`, and no datagram: told once
    /// until the next datagram. Or a connection has ended. The path stays open until it is closed.
    fn path_failed(&mut self, path: PathId, error: io::ErrorKind);
}

/// For whom a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// This worker.
    Here,
    /// Another one.
    Worker(u16),
    /// It does not say.
    Nobody,
}

/// How datagrams leave.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Transmit {
    /// Through the ring.
    #[default]
    IoUring,
    /// By `sendmmsg`.
    Sendmmsg,
    /// Through the ring what segments well, the rest as whole frames by AF_XDP, past the network
    /// stack. Wants CAP_NET_RAW.
    Xdp,
}

/// Sizes and limits of one worker's driver.
#[derive(Debug, Clone)]
pub struct DriverConfig {
    /// Receive buffers; rounded up to a power of two.
    pub receive_buffers: u32,
    /// Bytes of one, the kernel's headers included.
    pub receive_buffer_bytes: u32,
    /// Slabs of 64 KiB for output, made when needed.
    pub slabs: u32,
    /// Connected sockets.
    pub paths: u32,
    /// Output is handed to the kernel in portions of so many bytes, while they are in the
    /// processor's cache.
    pub portion_bytes: u32,
    /// How long a turn may be held open under load, microseconds.
    pub turn_hold_us: u32,
    /// Never sleep: look for datagrams all the time. Spends a core for a shorter delay; turns are
    /// then not held.
    pub busy_poll: bool,
    /// How long a path has to answer with nothing but ICMP errors before it is said to fail,
    /// milliseconds.
    pub path_failure_ms: u32,
    /// Connections beside that (ICE-TCP).
    pub streams: StreamLimits,
    /// How datagrams leave.
    pub transmit: Transmit,
    /// Equal sizes to one destination leave as one segmented send. Off only to measure its worth.
    pub segmentation: bool,
    /// What is done as if the kernel had it not: for tests.
    pub without: Without,
    /// Where the other workers of the process are.
    pub exchange: Exchange,
    /// Which of them this is.
    pub number: u16,
    /// Bytes of a ring to another worker: made when something is first sent there.
    pub hop_ring_bytes: u32,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            receive_buffers: 4_096,
            receive_buffer_bytes: 2_048,
            slabs: 256,
            paths: 20_000,
            portion_bytes: 256 << 10,
            turn_hold_us: 100,
            busy_poll: false,
            path_failure_ms: 5_000,
            streams: StreamLimits::default(),
            transmit: Transmit::IoUring,
            segmentation: true,
            without: Without::default(),
            exchange: Exchange::default(),
            number: 0,
            hop_ring_bytes: 2 << 20,
        }
    }
}

/// Why a worker could not run.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The ring or its memory could not be made.
    #[error("io_uring cannot be set up: {0}")]
    Setup(io::Error),
    /// Waiting failed.
    #[error("io_uring does not wait any more: {0}")]
    Wait(io::Error),
}

/// Runs a worker on the calling thread until its mailbox says stop. `listeners` were opened before.
///
/// Does not catch a panic of the engine: the ring and all sockets are closed while it unwinds.
///
/// # Errors
/// The ring cannot be set up, or fails.
pub fn run<E: Engine>(
    config: &DriverConfig,
    mut engine: E,
    mailbox: Receiver<E::Message>,
    listeners: Vec<(OwnedFd, SocketAddr)>,
) -> Result<(), DriverError> {
    crate::affinity::wake_on_time();
    crate::affinity::run_soon();
    let mut messages = SendMessages::new();
    let mut io = Io::new(config, mailbox.bell()).map_err(DriverError::Setup)?;
    for (socket, local) in listeners {
        io.adopt_listener(socket, local).map_err(DriverError::Setup)?;
    }
    let mut worker = Loop {
        io: &mut io,
        engine: &mut engine,
        mailbox: &mailbox,
        mail: Mail::with_room(64),
        mail_is_locked: false,
        waker_armed: false,
        hold_us: config.turn_hold_us,
        busy_poll: config.busy_poll,
        received: 0,
        due: None,
        output_since: None,
    };
    while !mailbox.is_stopped() {
        worker.turn(&mut messages).map_err(DriverError::Wait)?;
    }
    worker.engine.end();
    while worker.transmit(&mut messages, 0) {}
    Ok(())
}

struct Loop<'a, E: Engine> {
    io: &'a mut Io,
    engine: &'a mut E,
    mailbox: &'a Receiver<E::Message>,
    mail: Mail<E::Message>,
    /// A sender held the mailbox's lock when it was looked at.
    mail_is_locked: bool,
    waker_armed: bool,
    hold_us: u32,
    busy_poll: bool,
    /// Datagrams of the last turn.
    received: u64,
    /// When the next turn is wanted at the latest.
    due: Option<Nanos>,
    /// Since when there is output that has not left.
    output_since: Option<Nanos>,
}

impl<E: Engine> Loop<'_, E> {
    fn turn(&mut self, messages: &mut SendMessages) -> io::Result<()> {
        let began = self.io.clock.tick();
        self.sleep()?;
        let woke = self.io.clock.synchronise();
        if let Some(due) = self.due.take()
            && woke >= due
        {
            self.io.statistics.spread.lag.record(woke - due);
        }
        self.io.statistics.idle_ns += woke - began;
        self.io.statistics.turns += 1;
        let before = self.io.statistics.datagrams_in;
        self.harvest_all()?;
        // Time of their own: where the sockets have more than a turn takes, others' packets come, too.
        self.io.receive_hops(self.engine, Clock::monotonic() + HOPS_NS);
        let held = self.hold(woke)?;
        self.received = self.io.statistics.datagrams_in - before;
        let now = self.io.clock.tick();
        self.io.trim();
        self.io.expire_strangers(now);
        self.read_mail(now);
        let failed = self.io.failed.len();
        for (path, error) in self.io.failed.drain(failed.saturating_sub(FAILED_AT_ONCE)..) {
            self.engine.path_failed(path, error);
        }
        self.engine.turn(self.io, now);
        let worked = self.io.clock.tick();
        self.transmit(messages, (worked - woke).saturating_sub(held));
        self.io.arm();
        self.io.ring.submit()?;
        let done = self.io.clock.tick();
        // Where output never ends, figures say what there is of it by now.
        if self.output_since.is_none_or(|since| done >= since + OUTPUT_LATE) {
            self.engine.sent(done);
        }
        self.io.statistics.enters = self.io.ring.enters;
        self.io.statistics.idle_ns += held;
        let busy = (done - woke).saturating_sub(held);
        self.io.statistics.busy_ns += busy;
        let spread = &mut self.io.statistics.spread;
        spread.turn.record(busy);
        spread.receive.record((now - woke).saturating_sub(held));
        spread.work.record(worked - now);
        spread.send.record(done - worked);
        Ok(())
    }

    /// The output that the engine has, portion by portion, for a while; true when some of it is left.
    /// `spent`: what the turn has taken before.
    fn transmit(&mut self, messages: &mut SendMessages, spent: Nanos) -> bool {
        let began = self.io.clock.now();
        let is_late = self.output_since.is_some_and(|since| began >= since + OUTPUT_LATE);
        let most = if is_late { OUTPUT_BEHIND_NS } else { OUTPUT_NS };
        let least = if is_late { most } else { OUTPUT_NS_MIN.max(spent) };
        let mut now = began;
        loop {
            let has_more = self.engine.fill(self.io.batch(), now);
            self.io.transmit(messages);
            self.io.ring_bells();
            if !has_more {
                self.output_since = None;
                break;
            }
            now = self.io.clock.tick();
            let took = now - began;
            if took >= most || (took >= least && self.io.ring.has_news()) {
                self.output_since.get_or_insert(began);
                self.io.statistics.outputs_deferred += 1;
                break;
            }
        }
        self.output_since.is_some()
    }

    /// Datagrams and connections from other threads first, then results, then commands, one of each kind
    /// and more while there is time: what is left makes the next turn come at once, and media goes out
    /// in between.
    fn read_mail(&mut self, now: Nanos) {
        self.mail_is_locked = !self.mailbox.take(&mut self.mail);
        self.io.statistics.mail_dropped = self.mailbox.dropped();
        if self.mail.is_empty() {
            return;
        }
        let end = Clock::monotonic() + MESSAGES_NS;
        let Mail { datagrams, results, commands } = &mut self.mail;
        for (queue, are_commands) in [(datagrams, false), (results, false), (commands, true)] {
            while (!are_commands || self.engine.takes_commands())
                && let Some(message) = queue.pop_front()
            {
                self.io.statistics.messages += 1;
                self.engine.message(message, self.io, now);
                if !queue.is_empty() && Clock::monotonic() >= end {
                    self.io.statistics.messages_deferred += 1;
                    break;
                }
            }
        }
    }

    /// Everything that the kernel has, until it is dry or the time is over.
    fn harvest_all(&mut self) -> io::Result<()> {
        let end = self.io.clock.now() + HARVEST_NS;
        loop {
            let is_over = self.harvest(end);
            if std::mem::take(&mut self.io.ring.has_lost) {
                self.recover()?;
            }
            self.io.arm();
            self.io.ring.submit()?;
            if is_over {
                self.io.statistics.receives_deferred += 1;
                return Ok(());
            }
            if self.io.ring.completed.is_empty() {
                if !self.io.ring.has_deferred() {
                    return Ok(());
                }
                self.io.ring.run_deferred()?;
                // The flag can stay set when nothing is left: work that came up while work was
                // done sets it, is done with it, and only the next work clears it. What really is
                // left is done by the next wait before it sleeps.
                if !self.io.ring.has_completed() {
                    return Ok(());
                }
            }
        }
    }

    /// Some completions were dropped by the kernel: nobody knows which receives have ended, and
    /// which buffers are filled. Ends them all, takes what they have brought, and begins anew.
    fn recover(&mut self) -> io::Result<()> {
        self.io.statistics.completions_lost += 1;
        self.io.ring.cancel_all();
        for _ in 0..ENDING_ROUNDS_MAX {
            self.harvest(Nanos::MAX);
            if !self.io.ring.has_deferred() {
                break;
            }
            self.io.ring.run_deferred()?;
            if !self.io.ring.has_completed() {
                break;
            }
        }
        self.waker_armed = false;
        self.io.begin_epoch()
    }

    /// Waits for the rest of what is incomplete. Returns how long, in nanoseconds.
    fn hold(&mut self, woke: Nanos) -> io::Result<Nanos> {
        let end = woke + Nanos::from(self.hold_us) * 1_000;
        let mut held = 0;
        while self.output_since.is_none()
            && let Some(since) = self.engine.incomplete_since()
        {
            let now = self.io.clock.tick();
            let until = (since + GAP_MAX).min(end);
            if now >= until {
                break;
            }
            self.io.statistics.holds += 1;
            if self.busy_poll {
                self.spin(until);
            } else {
                let wait = until - now;
                self.io.ring.wait(HELD_COMPLETIONS, wait, wait)?;
            }
            held += self.io.clock.tick() - now;
            self.harvest_all()?;
        }
        Ok(held)
    }

    /// The completions that are in the queue, and datagrams that came before a path was connected.
    /// True when the time was over first; the rest stays where it is.
    fn harvest(&mut self, end: Nanos) -> bool {
        self.io.ring.collect();
        let mut is_over = false;
        for count in 1u32.. {
            let Some(completion) = self.io.ring.completed.pop_front() else { break };
            self.complete(completion);
            if count % LOOKS_AT_CLOCK == 0 && Clock::monotonic() >= end {
                is_over = true;
                break;
            }
        }
        let now = self.io.clock.now();
        while let Some((source, mut bytes)) = self.io.strays.pop_front() {
            self.engine.receive(source, &mut bytes, Arrival::at(now), now);
        }
        is_over
    }

    fn complete(&mut self, completion: Completion) {
        match Operation::parse(completion.user_data) {
            Operation::Receive { epoch, .. } if epoch != self.io.epoch => {
                self.io.statistics.late_completions += 1;
            }
            Operation::Receive { slot, generation, .. } => {
                self.io.receive(slot, generation, completion, self.engine);
            }
            Operation::Wake => {
                self.io.statistics.wakes += 1;
                if !io_uring::cqueue::more(completion.flags) {
                    self.waker_armed = false;
                }
            }
            Operation::Room { slot, generation } => self.io.has_room(PathId { slot, generation }),
            Operation::LastTry => self.io.dropped(-completion.result, 1),
            // Handled by `tx.rs` right after the submit.
            Operation::Send { .. } | Operation::Other => {}
        }
    }

    /// Waits for a completion, a message or the engine's deadline. Under load the turn is held open
    /// for a moment, so that more datagrams share it.
    fn sleep(&mut self) -> io::Result<()> {
        if !self.waker_armed {
            self.waker_armed = true;
            // A poll needs no memory that would have to outlive the ring. The counter of the
            // eventfd is never read: each write is an edge, and each edge a completion.
            let poll = opcode::PollAdd::new(types::Fd(self.mailbox.event()), libc::POLLIN as u32);
            let poll = poll.multi(true).build();
            self.io.push(poll.user_data(Operation::Wake.user_data()));
            self.io.ring.submit()?;
        }
        let now = self.io.clock.now();
        let rested = self.io.resting.iter().map(|(at, ..)| *at).min();
        let pending = self.io.xdp.as_ref().filter(|xdp| xdp.is_pending()).map(|_| now + KICK_NS);
        let locked = self.mail_is_locked.then_some(now + LOCKED_NS);
        let deadline = self.engine.deadline().into_iter();
        let strangers = self.io.strangers_due().map(|at| if at <= now { 0 } else { at });
        let deadline = deadline.chain(rested).chain(pending).chain(locked).chain(strangers).min();
        let until = deadline.map_or(SLEEP_MAX, |at| at.saturating_sub(now).min(SLEEP_MAX));
        // 0 is as soon as possible.
        self.due = deadline.filter(|at| *at > 0);
        // The first turn arms what was adopted, and by it others know that the worker runs.
        let has_work = self.io.statistics.turns == 0
            || until == 0
            || self.output_since.is_some()
            || !self.io.ring.completed.is_empty()
            || !self.io.strays.is_empty()
            || !self.mail.is_empty()
            || !self.io.failed.is_empty()
            || !self.io.unarmed.is_empty();
        if has_work {
            return Ok(());
        }
        if self.busy_poll {
            self.spin(now + until);
            return Ok(());
        }
        // Where the lock was held, mail waits: it is looked at again after a moment, in which the
        // holder can run.
        if !self.mail_is_locked && !self.mailbox.prepare_sleep() {
            return Ok(());
        }
        self.io.statistics.waits += 1;
        let is_busy = self.received >= BUSY_DATAGRAMS;
        let hold = if is_busy { Nanos::from(self.hold_us) * 1_000 } else { 0 };
        let waited = self.io.ring.wait(HELD_COMPLETIONS, hold, until);
        self.mailbox.awake();
        waited
    }

    /// Looks until there is a completion, a message, or the moment has come. The kernel only sets a
    /// flag in shared memory, so this makes no system call.
    fn spin(&mut self, until: Nanos) {
        while !self.io.ring.is_ready() && !self.mailbox.has_mail() {
            if Clock::monotonic() >= until {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests;
