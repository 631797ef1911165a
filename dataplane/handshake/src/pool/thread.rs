//! One handshake thread: its queue, its associations, their timers. Outputs leave by the callback of
//! the worker whose transport it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use ironcast_core::Nanos;

use super::{Counters, Factory, Member, PoolConfig, TransportToken};
use crate::{Association, Failure, Fingerprint, Output, Role, last_words::LastWords};

/// Commands taken before the timers get their turn.
const COMMANDS_PER_TURN: usize = 64;
/// Longest sleep: only a bound, commands wake the thread.
const SLEEP_MAX: Duration = Duration::from_secs(60);

/// A command, and whose.
pub(super) struct Order {
    /// The pool's own commands have none.
    pub(super) member: Option<Arc<Member>>,
    pub(super) command: Command,
}

pub(super) enum Command {
    Start {
        token: TransportToken,
        role: Role,
        fingerprints: Vec<Fingerprint>,
    },
    Datagram {
        token: TransportToken,
        bytes: Vec<u8>,
    },
    Remove {
        token: TransportToken,
    },
    /// The worker's run is over: all of its transports are gone.
    Leave,
    /// The process ends.
    Stop,
}

/// A transport among those of all workers: the number of its worker's run, then its token there.
type MemberToken = (u64, TransportToken);

/// See the file's head.
pub(super) struct HandshakeThread {
    config: PoolConfig,
    factory: Arc<Factory>,
    counters: Arc<Counters>,
    /// Datagrams in the queue.
    queued: Arc<AtomicUsize>,
    start: Instant,
    transports: BTreeMap<MemberToken, Transport>,
    timers: BTreeSet<(Nanos, MemberToken)>,
    /// Datagrams of transports that were not started yet.
    early: BTreeMap<MemberToken, Vec<Vec<u8>>>,
    stopped: bool,
}

struct Transport {
    member: Arc<Member>,
    /// `None` once it has closed: further datagrams are ignored. One that has failed says so again.
    association: Option<Box<dyn Association>>,
    timer: Option<Nanos>,
    began: Nanos,
    /// Its handshake is not done: one of those that are counted.
    running: bool,
}

impl HandshakeThread {
    pub(super) fn new(
        config: PoolConfig,
        factory: Arc<Factory>,
        counters: Arc<Counters>,
        queued: Arc<AtomicUsize>,
        start: Instant,
    ) -> Self {
        Self {
            config,
            factory,
            counters,
            queued,
            start,
            transports: BTreeMap::new(),
            timers: BTreeSet::new(),
            early: BTreeMap::new(),
            stopped: false,
        }
    }

    /// Works until the pool ends. A fault in here costs the handshakes that run, not those to come.
    pub(super) fn run(mut self, queue: &Receiver<Order>) {
        while !self.stopped {
            if catch_unwind(AssertUnwindSafe(|| self.work(queue))).is_err() {
                self.counters.thread_failures.fetch_add(1, Relaxed);
                tracing::error!(
                    transports = self.transports.len(),
                    "a handshake thread has failed; it begins anew without its associations"
                );
                self.begin_anew();
            }
        }
    }

    fn work(&mut self, queue: &Receiver<Order>) {
        while !self.stopped {
            match queue.recv_timeout(self.sleep()) {
                Ok(order) => {
                    self.handle(order);
                    for order in queue.try_iter().take(COMMANDS_PER_TURN) {
                        self.handle(order);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.stopped = true,
            }
            self.expire();
        }
    }

    /// Whatever was in order before may not be now: all associations end.
    fn begin_anew(&mut self) {
        self.timers.clear();
        self.early.clear();
        let tokens: Vec<MemberToken> = self.transports.keys().copied().collect();
        for token in tokens {
            let Some(transport) = self.transports.get_mut(&token) else { continue };
            transport.timer = None;
            let (association, running) = (transport.association.take(), transport.running);
            let _ = catch_unwind(AssertUnwindSafe(|| {
                drop(association);
                self.handshake_done(token);
                if running {
                    self.fail(token);
                }
            }));
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

    fn handle(&mut self, Order { member, command }: Order) {
        let Some(member) = member else {
            self.stopped = true;
            return;
        };
        let number = member.number;
        match command {
            Command::Start { token, role, fingerprints } => {
                self.begin(member, token, role, &fingerprints);
            }
            Command::Datagram { token, bytes } => {
                self.queued.fetch_sub(1, Relaxed);
                let token = (number, token);
                if self.transports.contains_key(&token) {
                    self.drive(token, |association, now| association.handle_datagram(&bytes, now));
                } else {
                    self.keep(token, bytes);
                }
            }
            Command::Remove { token } => self.remove((number, token)),
            Command::Leave => {
                let all = (number, 0)..=(number, TransportToken::MAX);
                let early = self.early.range(all.clone()).map(|(token, _)| *token);
                let known = self.transports.range(all).map(|(token, _)| *token);
                let tokens: Vec<MemberToken> = early.chain(known).collect();
                tokens.into_iter().for_each(|token| self.remove(token));
            }
            Command::Stop => self.stopped = true,
        }
    }

    fn remove(&mut self, token: MemberToken) {
        self.early.remove(&token);
        self.handshake_done(token);
        if let Some(Transport { timer: Some(at), .. }) = self.transports.remove(&token) {
            self.timers.remove(&(at, token));
        }
    }

    fn begin(
        &mut self,
        member: Arc<Member>,
        token: TransportToken,
        role: Role,
        fingerprints: &[Fingerprint],
    ) {
        let token = (member.number, token);
        if self.transports.contains_key(&token) {
            // It was counted when it was ordered.
            self.counters.running.fetch_sub(1, Relaxed);
            return;
        }
        let early = self.early.remove(&token).unwrap_or_default();
        let now = self.now();
        let made = catch_unwind(AssertUnwindSafe(|| (self.factory)(role, fingerprints, now)));
        let association = made.ok();
        let panicked = association.is_none();
        let transport = Transport { member, association, timer: None, began: now, running: true };
        self.transports.insert(token, transport);
        if panicked {
            return self.contain(token);
        }
        self.drive(token, move |association, now| {
            early.iter().for_each(|datagram| association.handle_datagram(datagram, now));
        });
    }

    /// Keeps a datagram until signalling has told whom it may come from.
    fn keep(&mut self, token: MemberToken, bytes: Vec<u8>) {
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
        let last = (now, (u64::MAX, TransportToken::MAX));
        let due: Vec<_> = self.timers.range(..=last).copied().collect();
        for (_, token) in due {
            self.drive(token, |association, now| association.handle_timeout(now));
        }
    }

    /// Does something with an association, passes its outputs on, and sets its timer.
    fn drive(&mut self, token: MemberToken, act: impl FnOnce(&mut dyn Association, Nanos)) {
        let now = self.now();
        let Some(transport) = self.transports.get_mut(&token) else { return };
        let Some(association) = &mut transport.association else { return };
        let result = catch_unwind(AssertUnwindSafe(|| {
            act(association.as_mut(), now);
            let outputs: Vec<_> = std::iter::from_fn(|| association.poll()).collect();
            (outputs, association.deadline())
        }));
        let Ok((outputs, deadline)) = result else { return self.contain(token) };
        let closed = outputs.iter().any(|o| matches!(o, Output::Closed));
        let ended = closed || outputs.iter().any(|o| matches!(o, Output::Failed(_)));
        let deadline = deadline.filter(|_| !ended);
        let is_connected = outputs.iter().any(|o| matches!(o, Output::Connected(_)));
        if is_connected {
            self.counters.record_time(now.saturating_sub(transport.began));
        }
        let done = ended || is_connected;
        if closed {
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
    fn handshake_done(&mut self, token: MemberToken) {
        if let Some(transport) = self.transports.get_mut(&token)
            && std::mem::take(&mut transport.running)
        {
            self.counters.running.fetch_sub(1, Relaxed);
        }
    }

    /// An association has panicked: it ends, the thread goes on.
    fn contain(&mut self, token: MemberToken) {
        self.counters.panics.fetch_add(1, Relaxed);
        tracing::error!(token = token.1, "an association has panicked");
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
        self.fail(token);
    }

    /// An association is no more by a fault of ours: the peer is told as well as can be.
    fn fail(&mut self, token: MemberToken) {
        let last_words = LastWords::of(Failure::Internal);
        let told: Vec<Output> = last_words.datagrams().collect();
        if let Some(transport) = self.transports.get_mut(&token) {
            transport.association = Some(Box::new(last_words));
        }
        // First what is counted: the callback may be what is broken.
        self.emit(token, Output::Failed(Failure::Internal));
        told.into_iter().for_each(|output| self.emit(token, output));
    }

    fn emit(&self, token: MemberToken, output: Output) {
        self.counters.count(&output);
        if let Some(transport) = self.transports.get(&token) {
            (transport.member.output)(token.1, output);
        }
    }
}
