//! The handshake threads of the process: a join storm costs milliseconds of CPU per peer, and none
//! of it on a packet thread. Each worker has a [`Handshakes`], by which it hands over datagrams and
//! gets outputs, and never waits: a full queue is an answer. Each transport's association lives on
//! one thread (`pool/thread.rs`), chosen by its token, with its timers.
//!
//! ```text
//! Handshakes of worker 0 --.                       .--> output of worker 0 (posts to its mailbox)
//! Handshakes of worker 1 --+--> queue of a thread -+
//! Handshakes of worker 2 --'                       '--> output of worker 2
//! ```
//! Everything is bounded: handshakes, queued commands and datagrams, and datagrams of transports
//! whose peer is not known yet (the first ones may be faster than signalling). A panic in one
//! association ends that association only; one of the thread itself ends its handshakes, and the
//! thread goes on.

mod counts;
mod thread;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Instant,
};

use ironcast_core::{Nanos, histogram::Distribution};

pub use self::counts::PoolCounts;
use self::{
    counts::Counters,
    thread::{Command, HandshakeThread, Order},
};
use crate::{Association, Certificate, Config, DtlsAssociation, Fingerprint, Output, Role};

/// A transport, as its worker numbers them.
pub type TransportToken = u64;

/// Longest datagram of a handshake that is taken.
const DATAGRAM_BYTES_MAX: usize = 4 << 10;

/// Limits of a pool, per thread where nothing else is said.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How many threads.
    pub threads: usize,
    /// Handshakes that are not done, of all threads.
    pub handshakes_max: usize,
    /// Datagrams waiting for the thread.
    pub datagrams_max: usize,
    /// Commands waiting for the thread, besides the datagrams.
    pub commands_max: usize,
    /// Transports that have received datagrams before they were started.
    pub early_transports_max: usize,
    /// Datagrams kept for each of these.
    pub early_datagrams_max: usize,
    /// How handshakes are made.
    pub handshake: Config,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            threads: 1,
            handshakes_max: 4_096,
            datagrams_max: 4_096,
            commands_max: 16_384,
            early_transports_max: 1_024,
            early_datagrams_max: 4,
            handshake: Config::default(),
        }
    }
}

/// Not now: the command was not taken, and may be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PoolFull {
    /// The thread's queue is full.
    #[error("too many commands wait for the handshake thread")]
    Queue,
    /// As many handshakes run as may.
    #[error("too many handshakes run")]
    Handshakes,
}

type Factory = dyn Fn(Role, &[Fingerprint], Nanos) -> Box<dyn Association> + Send + Sync;

/// The threads; dropping it ends them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    members: AtomicU64,
}

struct Shared {
    queues: Vec<Queue>,
    datagrams_max: usize,
    handshakes_max: usize,
    counters: Arc<Counters>,
}

struct Queue {
    commands: SyncSender<Order>,
    /// Datagrams in it.
    datagrams: Arc<AtomicUsize>,
}

impl Pool {
    /// Starts the threads. `prepare` is called on each of them first.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(
        config: PoolConfig,
        certificate: Certificate,
        prepare: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let handshake = config.handshake.clone();
        let factory = move |role, fingerprints: &[Fingerprint], now| {
            let association =
                DtlsAssociation::new(&handshake, &certificate, role, fingerprints, now);
            Box::new(association) as Box<dyn Association>
        };
        Self::start_with(config, factory, prepare)
    }

    /// The same with associations of another make.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start_with(
        config: PoolConfig,
        factory: impl Fn(Role, &[Fingerprint], Nanos) -> Box<dyn Association> + Send + Sync + 'static,
        prepare: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let counters = Arc::<Counters>::default();
        let factory: Arc<Factory> = Arc::new(factory);
        let prepare = Arc::new(prepare);
        let start = Instant::now();
        let (mut queues, mut threads) = (Vec::new(), Vec::new());
        for number in 0..config.threads.max(1) {
            let (commands, queue) = sync_channel(config.datagrams_max + config.commands_max);
            let datagrams = Arc::new(AtomicUsize::new(0));
            let (factory, prepare) = (Arc::clone(&factory), Arc::clone(&prepare));
            let thread = HandshakeThread::new(
                config.clone(),
                factory,
                Arc::clone(&counters),
                Arc::clone(&datagrams),
                start,
            );
            let builder = std::thread::Builder::new().name(format!("handshake-{number}"));
            threads.push(builder.spawn(move || {
                prepare();
                thread.run(&queue);
            })?);
            queues.push(Queue { commands, datagrams });
        }
        let (datagrams_max, handshakes_max) = (config.datagrams_max, config.handshakes_max);
        let shared = Arc::new(Shared { queues, datagrams_max, handshakes_max, counters });
        Ok(Self { shared, threads, members: AtomicU64::new(0) })
    }

    /// What a worker needs; one for each of its runs. `output` is called on the threads with
    /// everything that an association of the worker's transports wants, and must not block.
    pub fn join(
        &self,
        output: impl Fn(TransportToken, Output) + Send + Sync + 'static,
    ) -> Handshakes {
        let number = self.members.fetch_add(1, Relaxed);
        let member = Arc::new(Member { number, output: Box::new(output) });
        Handshakes { shared: Arc::clone(&self.shared), member }
    }

    /// What has happened since the start, whenever it is called.
    pub fn counts(&self) -> impl Fn() -> PoolCounts + Send + 'static {
        let counters = Arc::clone(&self.shared.counters);
        move || counters.read()
    }

    /// How long the handshakes took that were completed, in nanoseconds, whenever it is called.
    pub fn times(&self) -> impl Fn() -> Distribution + Send + 'static {
        let counters = Arc::clone(&self.shared.counters);
        move || counters.times()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for queue in &self.shared.queues {
            // A thread is always there to take it.
            let _ = queue.commands.send(Order { member: None, command: Command::Stop });
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// A worker's run.
struct Member {
    number: u64,
    output: Box<dyn Fn(TransportToken, Output) + Send + Sync>,
}

/// The pool as one run of a worker sees it: tokens are its own. Dropping it forgets all of its
/// transports, without a word to their peers.
pub struct Handshakes {
    shared: Arc<Shared>,
    member: Arc<Member>,
}

impl fmt::Debug for Handshakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handshakes({})", self.member.number)
    }
}

impl Handshakes {
    /// Begins an association: the peer's fingerprints are known now. Once per token.
    ///
    /// # Errors
    /// Not now.
    pub fn begin(
        &self,
        token: TransportToken,
        role: Role,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<(), PoolFull> {
        let (running, max) = (&self.shared.counters.running, self.shared.handshakes_max);
        running
            .fetch_update(Relaxed, Relaxed, |running| (running < max).then_some(running + 1))
            .map_err(|_| PoolFull::Handshakes)?;
        let begun = self.command(token, Command::Start { token, role, fingerprints });
        if begun.is_err() {
            running.fetch_sub(1, Relaxed);
        }
        begun
    }

    /// Hands over a DTLS datagram that a peer has sent. Never waits; when the thread is behind, the
    /// datagram is dropped and counted, and the peer will repeat it.
    pub fn datagram(&self, token: TransportToken, bytes: &[u8]) {
        let datagrams = &self.queue(token).datagrams;
        let has_room = bytes.len() <= DATAGRAM_BYTES_MAX
            && datagrams.fetch_add(1, Relaxed) < self.shared.datagrams_max;
        let taken = has_room
            && self.command(token, Command::Datagram { token, bytes: bytes.to_vec() }).is_ok();
        if !taken {
            if bytes.len() <= DATAGRAM_BYTES_MAX {
                datagrams.fetch_sub(1, Relaxed);
            }
            self.shared.counters.datagrams_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Forgets the transport, without a word to the peer. Needed for every token of which anything
    /// was said.
    ///
    /// # Errors
    /// Not now.
    pub fn remove(&self, token: TransportToken) -> Result<(), PoolFull> {
        self.command(token, Command::Remove { token })
    }

    fn command(&self, token: TransportToken, command: Command) -> Result<(), PoolFull> {
        let order = Order { member: Some(Arc::clone(&self.member)), command };
        self.queue(token).commands.try_send(order).map_err(|_| PoolFull::Queue)
    }

    /// Tokens are indices with generations; a multiplication spreads them over the threads.
    fn queue(&self, token: TransportToken) -> &Queue {
        let mixed = (token ^ self.member.number << 24).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.shared.queues[mixed as usize % self.shared.queues.len()]
    }
}

impl Drop for Handshakes {
    fn drop(&mut self) {
        for queue in &self.shared.queues {
            // Waits for room: once in the life of a worker, and the thread always makes some. It
            // is refused when the pool has ended before.
            let member = Some(Arc::clone(&self.member));
            let _ = queue.commands.send(Order { member, command: Command::Leave });
        }
    }
}
