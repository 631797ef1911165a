//! The loop of one worker thread: harvest what is ready, let the engine work, submit its output,
//! sleep until the next completion, message or deadline. One wait point for all of them.

use std::{collections::VecDeque, io, net::SocketAddr, os::fd::OwnedFd};

use io_uring::{opcode, types};
use ironcast_core::{
    Nanos,
    batch::{Batch, PathId},
};

use crate::{
    clock::Clock,
    io::Io,
    mailbox::Receiver,
    ring::{Completion, Operation},
    tx::Frames,
    without::Without,
    xdp::KICK_NS,
};

/// Sleeps are no longer than this, so that time stays synchronised.
const SLEEP_MAX: Nanos = 1_000_000_000;
/// Rounds of asking for more before the output is built: DEFER_TASKRUN returns some ten datagrams
/// each time.
const HARVESTS_MAX: u32 = 256;
/// Datagrams in one turn from which on the worker counts as busy.
const BUSY_DATAGRAMS: u64 = 4;
/// Completions that end a held turn early.
const HELD_COMPLETIONS: u32 = 64;

/// The packets of a frame follow each other closer than this; a longer gap is a loss.
const GAP_MAX: Nanos = 100_000;

/// Where a datagram came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A listener.
    Listener {
        /// Its address.
        local: SocketAddr,
        /// The sender's.
        remote: SocketAddr,
    },
    /// A connected socket.
    Path(PathId),
}

/// What a worker does: implemented by the binary, called by [`run`].
pub trait Engine {
    /// What arrives by the mailbox.
    type Message: Send + 'static;

    /// A datagram; `arrival` is the kernel's stamp.
    fn receive(&mut self, source: Source, datagram: &mut [u8], arrival: Nanos, now: Nanos);

    /// A message from another thread.
    fn message(&mut self, message: Self::Message, io: &mut Io, now: Nanos);

    /// Everything that was ready is received: time for timers and sockets.
    fn turn(&mut self, io: &mut Io, now: Nanos);

    /// When the newest part came of something that leaves cheaper as a whole (a frame): the loop
    /// waits for the rest for a moment before it asks for output.
    fn incomplete_since(&self) -> Option<Nanos>;

    /// Fills the batch with a turn's output, or a portion of it; true when there is more, which is
    /// asked for after the batch was sent.
    fn fill(&mut self, batch: &mut Batch, now: Nanos) -> bool;

    /// When the engine wants its next turn at the latest.
    fn deadline(&self) -> Option<Nanos>;

    /// A path has had nothing but errors (ICMP) for `path_failure_ms`, and no datagram. Told once
    /// until the next datagram; the path stays open.
    fn path_failed(&mut self, path: PathId, error: io::ErrorKind);
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
    /// How datagrams leave.
    pub transmit: Transmit,
    /// Equal sizes to one destination leave as one segmented send. Off only to measure its worth.
    pub segmentation: bool,
    /// What is done as if the kernel had it not: for tests.
    pub without: Without,
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
            transmit: Transmit::IoUring,
            segmentation: true,
            without: Without::default(),
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
    let mut frames = Frames::new();
    let mut io = Io::new(config).map_err(DriverError::Setup)?;
    for (socket, local) in listeners {
        io.adopt_listener(socket, local).map_err(DriverError::Setup)?;
    }
    let mut worker = Loop {
        io: &mut io,
        engine: &mut engine,
        mailbox: &mailbox,
        messages: VecDeque::new(),
        waker_armed: false,
        hold_us: config.turn_hold_us,
        busy_poll: config.busy_poll,
        received: 0,
    };
    // The first turn does not wait: it arms what was adopted.
    while !mailbox.is_stopped() {
        worker.turn(&mut frames).map_err(DriverError::Wait)?;
    }
    Ok(())
}

struct Loop<'a, E: Engine> {
    io: &'a mut Io,
    engine: &'a mut E,
    mailbox: &'a Receiver<E::Message>,
    messages: VecDeque<E::Message>,
    waker_armed: bool,
    hold_us: u32,
    busy_poll: bool,
    /// Datagrams of the last turn.
    received: u64,
}

impl<E: Engine> Loop<'_, E> {
    fn turn(&mut self, frames: &mut Frames) -> io::Result<()> {
        let began = self.io.clock.tick();
        self.sleep()?;
        let woke = self.io.clock.synchronise();
        self.io.statistics.idle_ns += woke - began;
        self.io.statistics.turns += 1;
        let before = self.io.statistics.datagrams_in;
        self.harvest_all()?;
        let held = self.hold(woke)?;
        self.received = self.io.statistics.datagrams_in - before;
        let now = self.io.clock.tick();
        self.io.trim();
        self.mailbox.take_all(&mut self.messages);
        while let Some(message) = self.messages.pop_front() {
            self.io.statistics.messages += 1;
            self.engine.message(message, self.io, now);
        }
        while let Some((path, error)) = self.io.failed.pop() {
            self.engine.path_failed(path, error);
        }
        self.engine.turn(self.io, now);
        loop {
            let has_more = self.engine.fill(self.io.batch(), now);
            self.io.transmit(frames);
            if !has_more {
                break;
            }
        }
        self.io.arm();
        self.io.ring.submit()?;
        let done = self.io.clock.tick();
        self.io.statistics.enters = self.io.ring.enters;
        self.io.statistics.idle_ns += held;
        self.io.statistics.busy_ns += (done - woke).saturating_sub(held);
        Ok(())
    }

    /// Everything that the kernel has, until it is dry.
    fn harvest_all(&mut self) -> io::Result<()> {
        for _ in 0..HARVESTS_MAX {
            self.harvest();
            self.io.arm();
            self.io.ring.submit()?;
            if self.io.ring.completed.is_empty() {
                if !self.io.ring.has_deferred() {
                    break;
                }
                self.io.ring.run_deferred()?;
                // The flag can stay set when nothing is left: work that came up while work was
                // done sets it, is done with it, and only the next work clears it. What really is
                // left is done by the next wait before it sleeps.
                if !self.io.ring.has_completed() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Waits for the rest of what is incomplete. Returns how long, in nanoseconds.
    fn hold(&mut self, woke: Nanos) -> io::Result<Nanos> {
        let end = woke + Nanos::from(self.hold_us) * 1_000;
        let mut held = 0;
        while let Some(since) = self.engine.incomplete_since() {
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

    /// All completions that are in the queue, and datagrams that came before a path was connected.
    fn harvest(&mut self) {
        self.io.ring.collect();
        while let Some(completion) = self.io.ring.completed.pop_front() {
            self.complete(completion);
        }
        let now = self.io.clock.now();
        while let Some((source, mut bytes)) = self.io.strays.pop_front() {
            self.engine.receive(source, &mut bytes, now, now);
        }
    }

    fn complete(&mut self, completion: Completion) {
        match Operation::parse(completion.user_data) {
            Operation::Receive { slot, generation } => {
                self.io.receive(slot, generation, completion, self.engine);
            }
            Operation::Wake => {
                self.io.statistics.wakes += 1;
                if !io_uring::cqueue::more(completion.flags) {
                    self.waker_armed = false;
                }
            }
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
        let deadline = self.engine.deadline().into_iter().chain(rested).chain(pending).min();
        let until = deadline.map_or(SLEEP_MAX, |at| at.saturating_sub(now).min(SLEEP_MAX));
        let has_work = until == 0
            || !self.io.ring.completed.is_empty()
            || !self.io.strays.is_empty()
            || !self.io.unarmed.is_empty();
        if has_work {
            return Ok(());
        }
        if self.busy_poll {
            self.spin(now + until);
            return Ok(());
        }
        if !self.mailbox.prepare_sleep() {
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
