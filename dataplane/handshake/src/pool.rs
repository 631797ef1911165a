//! The handshake threads: a join storm costs milliseconds of CPU per peer, and none of it on a
//! packet thread. Called by the workers, who never wait here: a full queue is an answer. Each
//! transport's association lives on one thread, chosen by its token, with its timers; outputs go
//! out by the callback, which must not block either.
//!
//! Everything is bounded: associations, queued datagrams, and datagrams of transports whose peer
//! is not known yet (the first ones may be faster than signalling). A panic in one association
//! ends that association only.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ironcast_core::Nanos;

use crate::{
    Association, Certificate, Config, DtlsAssociation, Failure, Fingerprint, Output, Role,
};

/// A transport, as the workers number them.
pub type TransportToken = u64;

/// Longest datagram of a handshake that is taken.
const DATAGRAM_BYTES_MAX: usize = 4 << 10;
/// Commands taken before the timers get their turn.
const COMMANDS_PER_TURN: usize = 64;
/// Longest sleep: only a bound, commands wake the thread.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// Limits of a pool, per thread where nothing else is said.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// How many threads.
    pub threads: usize,
    /// Associations, connected ones included.
    pub associations_max: usize,
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
            associations_max: 1_000_000,
            handshakes_max: 4_096,
            datagrams_max: 4_096,
            commands_max: 16_384,
            early_transports_max: 1_024,
            early_datagrams_max: 4,
            handshake: Config::default(),
        }
    }
}

/// The thread's queue is full; the command was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many commands wait for the handshake thread")]
pub struct PoolFull;

/// What has happened since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PoolCounts {
    /// Handshakes completed.
    pub connected: u64,
    /// Handshakes failed, for whatever reason.
    pub failed: u64,
    /// Of these: the peer's certificate, or its proof, could not be used.
    pub failed_certificate: u64,
    /// Of these: the peer's certificate was not the signalled one.
    pub failed_fingerprint: u64,
    /// Of these: no common cipher suite, version or SRTP profile.
    pub failed_nothing_common: u64,
    /// Of these: no answer in time.
    pub failed_timeout: u64,
    /// Of these: the peer ended it by an alert.
    pub failed_refused: u64,
    /// Datagrams dropped because the queue was full, or oversized.
    pub datagrams_dropped: u64,
    /// Datagrams dropped because their transport was not started and has too many, or because there
    /// are too many such transports.
    pub early_dropped: u64,
    /// Associations refused because of a limit.
    pub associations_refused: u64,
    /// Bugs that were contained.
    pub panics: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connected: AtomicU64,
    failed: AtomicU64,
    failed_certificate: AtomicU64,
    failed_fingerprint: AtomicU64,
    failed_nothing_common: AtomicU64,
    failed_timeout: AtomicU64,
    failed_refused: AtomicU64,
    /// Handshakes that are not done.
    running: AtomicUsize,
    datagrams_dropped: AtomicU64,
    early_dropped: AtomicU64,
    associations_refused: AtomicU64,
    panics: AtomicU64,
}

enum Command {
    Start { token: TransportToken, role: Role, fingerprints: Vec<Fingerprint> },
    Datagram { token: TransportToken, bytes: Vec<u8> },
    Close { token: TransportToken },
    Remove { token: TransportToken },
}

type Factory = dyn Fn(Role, &[Fingerprint], Nanos) -> Box<dyn Association> + Send + Sync;
type Callback = dyn Fn(TransportToken, Output) + Send + Sync;

/// The handle; workers share it by reference or in an [`Arc`]. Dropping it closes all associations
/// and waits for the threads.
pub struct Pool {
    threads: Vec<Handle>,
    datagrams_max: usize,
    counters: Arc<Counters>,
}

struct Handle {
    commands: Option<SyncSender<Command>>,
    datagrams: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads. `output` is called on them, with everything that an association of a
    /// transport wants.
    pub fn start(
        config: PoolConfig,
        certificate: Certificate,
        output: impl Fn(TransportToken, Output) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let handshake = config.handshake.clone();
        let factory = move |role, fingerprints: &[Fingerprint], now| {
            let association =
                DtlsAssociation::new(&handshake, &certificate, role, fingerprints, now);
            Box::new(association) as Box<dyn Association>
        };
        Self::start_with(config, factory, output)
    }

    /// The same with associations of another make.
    pub fn start_with(
        config: PoolConfig,
        factory: impl Fn(Role, &[Fingerprint], Nanos) -> Box<dyn Association> + Send + Sync + 'static,
        output: impl Fn(TransportToken, Output) + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let counters = Arc::new(Counters::default());
        let factory: Arc<Factory> = Arc::new(factory);
        let output: Arc<Callback> = Arc::new(output);
        let start = Instant::now();
        let handle = |number: usize| {
            let (commands, queue) = sync_channel(config.datagrams_max + config.commands_max);
            let datagrams = Arc::new(AtomicUsize::new(0));
            let worker = Worker {
                config: config.clone(),
                factory: factory.clone(),
                output: output.clone(),
                counters: counters.clone(),
                queued: datagrams.clone(),
                start,
                transports: BTreeMap::new(),
                timers: BTreeSet::new(),
                early: BTreeMap::new(),
            };
            let builder = std::thread::Builder::new().name(format!("handshake-{number}"));
            let thread = Some(builder.spawn(move || worker.run(&queue))?);
            Ok(Handle { commands: Some(commands), datagrams, thread })
        };
        let threads: std::io::Result<Vec<Handle>> =
            (0..config.threads.max(1)).map(handle).collect();
        Ok(Self { threads: threads?, datagrams_max: config.datagrams_max, counters })
    }

    /// Begins an association: the peer's fingerprints are known now. Once per token.
    pub fn begin(
        &self,
        token: TransportToken,
        role: Role,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<(), PoolFull> {
        self.command(token, Command::Start { token, role, fingerprints })
    }

    /// Hands over a DTLS datagram that a peer has sent. Never waits; when the thread is behind, the
    /// datagram is dropped and counted, and the peer will repeat it.
    pub fn datagram(&self, token: TransportToken, bytes: &[u8]) {
        let handle = self.handle(token);
        let dropped = bytes.len() > DATAGRAM_BYTES_MAX
            || handle.datagrams.load(Relaxed) >= self.datagrams_max
            || {
                handle.datagrams.fetch_add(1, Relaxed);
                let sent = self.command(token, Command::Datagram { token, bytes: bytes.to_vec() });
                if sent.is_err() {
                    handle.datagrams.fetch_sub(1, Relaxed);
                }
                sent.is_err()
            };
        if dropped {
            self.counters.datagrams_dropped.fetch_add(1, Relaxed);
        }
    }

    /// Says goodbye to the peer: the last outputs of this token follow, [`Output::Closed`] at the
    /// end. [`Pool::remove`] is still needed.
    pub fn close(&self, token: TransportToken) -> Result<(), PoolFull> {
        self.command(token, Command::Close { token })
    }

    /// Forgets the transport, without a word to the peer. Needed for every token of which anything
    /// was said.
    pub fn remove(&self, token: TransportToken) -> Result<(), PoolFull> {
        self.command(token, Command::Remove { token })
    }

    /// What has happened.
    #[must_use]
    pub fn counts(&self) -> PoolCounts {
        let counters = &self.counters;
        PoolCounts {
            connected: counters.connected.load(Relaxed),
            failed: counters.failed.load(Relaxed),
            failed_certificate: counters.failed_certificate.load(Relaxed),
            failed_fingerprint: counters.failed_fingerprint.load(Relaxed),
            failed_nothing_common: counters.failed_nothing_common.load(Relaxed),
            failed_timeout: counters.failed_timeout.load(Relaxed),
            failed_refused: counters.failed_refused.load(Relaxed),
            datagrams_dropped: counters.datagrams_dropped.load(Relaxed),
            early_dropped: counters.early_dropped.load(Relaxed),
            associations_refused: counters.associations_refused.load(Relaxed),
            panics: counters.panics.load(Relaxed),
        }
    }

    fn command(&self, token: TransportToken, command: Command) -> Result<(), PoolFull> {
        let Some(commands) = &self.handle(token).commands else { return Err(PoolFull) };
        commands.try_send(command).map_err(|error| match error {
            TrySendError::Full(_) | TrySendError::Disconnected(_) => PoolFull,
        })
    }

    /// Tokens are indices with generations; a multiplication spreads them over the threads.
    fn handle(&self, token: TransportToken) -> &Handle {
        let mixed = token.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        &self.threads[mixed as usize % self.threads.len()]
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for handle in &mut self.threads {
            handle.commands = None;
        }
        for handle in &mut self.threads {
            // A thread contains panics of associations; one of the callback has been reported.
            let _ = handle.thread.take().map(JoinHandle::join);
        }
    }
}

/// One thread.
struct Worker {
    config: PoolConfig,
    factory: Arc<Factory>,
    output: Arc<Callback>,
    counters: Arc<Counters>,
    /// Datagrams in the queue.
    queued: Arc<AtomicUsize>,
    start: Instant,
    transports: BTreeMap<TransportToken, Transport>,
    timers: BTreeSet<(Nanos, TransportToken)>,
    /// Datagrams of transports that were not started yet.
    early: BTreeMap<TransportToken, Vec<Vec<u8>>>,
}

struct Transport {
    /// `None` once it has ended: further datagrams are ignored.
    association: Option<Box<dyn Association>>,
    timer: Option<Nanos>,
    /// Its handshake is not done: one of those that are counted.
    running: bool,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Command>) {
        loop {
            match queue.recv_timeout(self.sleep()) {
                Ok(command) => {
                    self.handle(command);
                    for command in queue.try_iter().take(COMMANDS_PER_TURN) {
                        self.handle(command);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.expire();
        }
        let tokens: Vec<_> = self.transports.keys().copied().collect();
        for token in tokens {
            self.drive(token, |association, now| association.close(now));
        }
    }

    fn now(&self) -> Nanos {
        Nanos::try_from(self.start.elapsed().as_nanos()).unwrap_or(Nanos::MAX)
    }

    fn sleep(&self) -> Duration {
        self.timers.first().map_or(SLEEP_MAX, |&(at, _)| {
            Duration::from_nanos(at.saturating_sub(self.now())).min(SLEEP_MAX)
        })
    }

    fn handle(&mut self, command: Command) {
        match command {
            Command::Start { token, role, fingerprints } => {
                self.begin(token, role, &fingerprints);
            }
            Command::Datagram { token, bytes } => {
                self.queued.fetch_sub(1, Relaxed);
                if self.transports.contains_key(&token) {
                    self.drive(token, |association, now| association.handle_datagram(&bytes, now));
                } else {
                    self.keep(token, bytes);
                }
            }
            Command::Close { token } => {
                self.early.remove(&token);
                self.drive(token, |association, now| association.close(now));
            }
            Command::Remove { token } => {
                self.early.remove(&token);
                self.handshake_done(token);
                if let Some(Transport { timer: Some(at), .. }) = self.transports.remove(&token) {
                    self.timers.remove(&(at, token));
                }
            }
        }
    }

    fn begin(&mut self, token: TransportToken, role: Role, fingerprints: &[Fingerprint]) {
        if self.transports.contains_key(&token) {
            return;
        }
        let early = self.early.remove(&token).unwrap_or_default();
        let running = self.counters.running.fetch_add(1, Relaxed);
        if self.transports.len() >= self.config.associations_max
            || running >= self.config.handshakes_max
        {
            self.counters.running.fetch_sub(1, Relaxed);
            self.counters.associations_refused.fetch_add(1, Relaxed);
            return self.emit(token, Output::Failed(Failure::LimitReached));
        }
        let now = self.now();
        let made = catch_unwind(AssertUnwindSafe(|| (self.factory)(role, fingerprints, now)));
        let association = made.ok();
        let panicked = association.is_none();
        self.transports.insert(token, Transport { association, timer: None, running: true });
        if panicked {
            return self.contain(token);
        }
        self.drive(token, move |association, now| {
            early.iter().for_each(|datagram| association.handle_datagram(datagram, now));
        });
    }

    /// Keeps a datagram until signalling has told whom it may come from.
    fn keep(&mut self, token: TransportToken, bytes: Vec<u8>) {
        let known = self.early.contains_key(&token);
        if known || self.early.len() < self.config.early_transports_max {
            let datagrams = self.early.entry(token).or_default();
            if datagrams.len() < self.config.early_datagrams_max {
                return datagrams.push(bytes);
            }
        }
        self.counters.early_dropped.fetch_add(1, Relaxed);
    }

    fn expire(&mut self) {
        let now = self.now();
        // Only those that are due now: one that becomes due at once again waits for its turn.
        let due: Vec<_> = self.timers.range(..=(now, TransportToken::MAX)).copied().collect();
        for (_, token) in due {
            self.drive(token, |association, now| association.handle_timeout(now));
        }
    }

    /// Does something with an association, passes its outputs on, and sets its timer.
    fn drive(&mut self, token: TransportToken, act: impl FnOnce(&mut dyn Association, Nanos)) {
        let now = self.now();
        let Some(transport) = self.transports.get_mut(&token) else { return };
        let Some(association) = &mut transport.association else { return };
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(association.as_mut(), now);
            let outputs: Vec<_> = std::iter::from_fn(|| association.poll()).collect();
            (outputs, association.deadline())
        }));
        let Ok((outputs, deadline)) = result else { return self.contain(token) };
        let ended = outputs.iter().any(|o| matches!(o, Output::Failed(_) | Output::Closed));
        let deadline = deadline.filter(|_| !ended);
        let done = ended || outputs.iter().any(|o| matches!(o, Output::Connected(_)));
        if ended {
            transport.association = None;
        }
        let previous = std::mem::replace(&mut transport.timer, deadline);
        if let Some(at) = previous {
            self.timers.remove(&(at, token));
        }
        if let Some(at) = deadline {
            self.timers.insert((at, token));
        }
        if done {
            self.handshake_done(token);
        }
        outputs.into_iter().for_each(|output| self.emit(token, output));
    }

    /// It is not one of those that are limited any more.
    fn handshake_done(&mut self, token: TransportToken) {
        if let Some(transport) = self.transports.get_mut(&token)
            && std::mem::take(&mut transport.running)
        {
            self.counters.running.fetch_sub(1, Relaxed);
        }
    }

    /// An association has panicked: it ends, the thread goes on.
    fn contain(&mut self, token: TransportToken) {
        self.counters.panics.fetch_add(1, Relaxed);
        tracing::error!(token, "an association has panicked");
        let timer = self.transports.get_mut(&token).and_then(|transport| {
            // What a broken association does when it is dropped is not to be trusted either.
            let association = transport.association.take();
            let _ = catch_unwind(AssertUnwindSafe(|| drop(association)));
            transport.timer.take()
        });
        if let Some(at) = timer {
            self.timers.remove(&(at, token));
        }
        self.handshake_done(token);
        self.emit(token, Output::Failed(Failure::Internal));
    }

    fn emit(&self, token: TransportToken, output: Output) {
        let counters = &self.counters;
        match output {
            Output::Connected(_) => counters.connected.fetch_add(1, Relaxed),
            Output::Failed(failure) => {
                match failure {
                    Failure::Certificate => counters.failed_certificate.fetch_add(1, Relaxed),
                    Failure::Fingerprint => counters.failed_fingerprint.fetch_add(1, Relaxed),
                    Failure::NoCommonCipher | Failure::NoCommonSuite => {
                        counters.failed_nothing_common.fetch_add(1, Relaxed)
                    }
                    Failure::Timeout => counters.failed_timeout.fetch_add(1, Relaxed),
                    Failure::Refused(_) => counters.failed_refused.fetch_add(1, Relaxed),
                    _ => 0,
                };
                counters.failed.fetch_add(1, Relaxed)
            }
            Output::Datagram(_) | Output::Closed => 0,
        };
        (self.output)(token, output);
    }
}
