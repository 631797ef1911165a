//! The loop of one worker thread: harvest what is ready, let the engine work, submit its output,
//! sleep until the next completion, message or deadline. One wait point for all of them.

use std::{collections::VecDeque, io, net::SocketAddr, os::fd::OwnedFd};

use io_uring::{opcode, types};
use ironcast_core::{Nanos, batch::PathId};

use crate::{
    io::Io,
    mailbox::Receiver,
    ring::Operation,
    rx::Completion,
    tx::Frames,
};

/// Sleeps are no longer than this, so that time stays synchronised.
const SLEEP_MAX: Nanos = 1_000_000_000;
/// Rounds of asking for more before the output is built: DEFER_TASKRUN returns some ten datagrams
/// each time.
const HARVESTS_MAX: u32 = 256;
/// Datagrams in one turn from which on the worker counts as busy.
const BUSY_DATAGRAMS: usize = 4;

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

    /// Everything that was ready is received: time for timers, sockets and output.
    fn turn(&mut self, io: &mut Io, now: Nanos);

    /// When the engine wants its next turn at the latest.
    fn deadline(&self) -> Option<Nanos>;

    /// A path's socket is of no use any more.
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
    /// How long a turn may be held open under load, microseconds.
    pub turn_hold_us: u32,
    /// How datagrams leave.
    pub transmit: Transmit,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            receive_buffers: 4_096,
            receive_buffer_bytes: 2_048,
            slabs: 256,
            paths: 8_192,
            turn_hold_us: 250,
            transmit: Transmit::IoUring,
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
/// # Errors
/// The ring cannot be set up, or fails.
pub fn run<E: Engine>(
    config: &DriverConfig,
    mut engine: E,
    mailbox: Receiver<E::Message>,
    listeners: Vec<(OwnedFd, SocketAddr)>,
) -> Result<(), DriverError> {
    let mut io = Io::new(config).map_err(DriverError::Setup)?;
    for (socket, local) in listeners {
        io.adopt_listener(socket, local).map_err(DriverError::Setup)?;
    }
    let mut worker = Loop {
        frames: Frames::new(),
        completions: Vec::with_capacity(1_024),
        messages: VecDeque::new(),
        wake: Box::new(0),
        waker_armed: false,
        hold_us: config.turn_hold_us,
        received: 0,
    };
    while !mailbox.is_stopped() {
        worker.turn(&mut io, &mut engine, &mailbox)?;
    }
    Ok(())
}

struct Loop<M> {
    frames: Frames,
    completions: Vec<Completion>,
    messages: VecDeque<M>,
    /// Where the wake's eventfd is read into; the ring is dropped before it (see `run`).
    wake: Box<u64>,
    waker_armed: bool,
    hold_us: u32,
    received: usize,
}

impl<M> Loop<M> {
    fn turn<E: Engine<Message = M>>(
        &mut self,
        io: &mut Io,
        engine: &mut E,
        mailbox: &Receiver<M>,
    ) -> Result<(), DriverError> {
        let began = io.clock.tick();
        self.sleep(io, engine, mailbox)?;
        let woke = io.clock.synchronise();
        io.statistics.idle_ns += woke - began;
        io.statistics.turns += 1;
        self.received = 0;
        for _ in 0..HARVESTS_MAX {
            let harvested = self.harvest(io, engine);
            self.received += harvested;
            io.arm();
            if harvested == 0 {
                break;
            }
            io.ring.submit_and_wait(0).map_err(DriverError::Wait)?;
        }
        mailbox.take_all(&mut self.messages);
        let now = io.clock.now();
        while let Some(message) = self.messages.pop_front() {
            io.statistics.messages += 1;
            engine.message(message, io, now);
        }
        while let Some((source, mut bytes)) = io.strays.pop_front() {
            engine.receive(source, &mut bytes, now, now);
        }
        engine.turn(io, now);
        io.transmit(&mut self.frames);
        io.arm();
        let done = io.clock.tick();
        io.statistics.busy_ns += done - woke;
        Ok(())
    }

    /// All completions that are in the queue. Returns how many datagrams came.
    fn harvest<E: Engine>(&mut self, io: &mut Io, engine: &mut E) -> usize {
        let before = io.statistics.datagrams_in;
        self.completions.clear();
        self.completions.append(&mut io.postponed);
        for completion in io.ring.completion() {
            self.completions.push(Completion {
                user_data: completion.user_data(),
                result: completion.result(),
                flags: completion.flags(),
            });
        }
        for &completion in &self.completions {
            match Operation::parse(completion.user_data) {
                Operation::Receive { slot, generation } => {
                    io.receive(slot, generation, completion, engine);
                }
                Operation::Wake => {
                    io.statistics.wakes += 1;
                    self.waker_armed = false;
                }
                Operation::Send { .. } | Operation::Other => {}
            }
        }
        (io.statistics.datagrams_in - before) as usize
    }

    /// Waits for a completion, a message or the engine's deadline. Under load the turn is held open
    /// for a moment, so that more datagrams share it.
    fn sleep<E: Engine<Message = M>>(
        &mut self,
        io: &mut Io,
        engine: &E,
        mailbox: &Receiver<M>,
    ) -> Result<(), DriverError> {
        if !self.waker_armed {
            self.waker_armed = true;
            let read = opcode::Read::new(
                types::Fd(mailbox.event()),
                (&raw mut *self.wake).cast(),
                size_of::<u64>() as u32,
            );
            io.push(read.build().user_data(Operation::Wake.user_data()));
        }
        let now = io.clock.now();
        let until = engine.deadline().map_or(SLEEP_MAX, |at| at.saturating_sub(now).min(SLEEP_MAX));
        if until == 0 || !io.postponed.is_empty() || !mailbox.prepare_sleep() {
            io.ring.submit().map_err(DriverError::Wait)?;
            return Ok(());
        }
        io.statistics.waits += 1;
        let time = types::Timespec::new()
            .sec(until / 1_000_000_000)
            .nsec((until % 1_000_000_000) as u32);
        let mut arguments = types::SubmitArgs::new().timespec(&time);
        let mut want = 1;
        if self.received >= BUSY_DATAGRAMS && self.hold_us > 0 {
            arguments = arguments.min_wait_usec(self.hold_us);
            want = 64;
        }
        let waited = io.ring.submitter().submit_with_args(want, &arguments);
        mailbox.awake();
        match waited {
            Ok(_) => Ok(()),
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME | libc::EINTR | libc::EBUSY) => Ok(()),
                _ => Err(DriverError::Wait(error)),
            },
        }
    }
}
