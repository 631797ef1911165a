//! The one place where state is changed. A call looks at the state and sends its command under one
//! short lock; what the answer changes is done by a closure when the answer arrives, in the order
//! in which the dataplane wrote answers and events. So a caller that has gone away, or has waited too
//! long, never leaves anything half done, and two callers cannot interleave within one step.
//!
//! Used by every route. Never waits for the dataplane while it holds the lock.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    ops::{Deref, DerefMut},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use ironcast_api::{ErrorCode, EventSeq, Id, Problem};
use ironcast_protocol::{Command, Reply, WorkerId, command::CandidateKinds, stats::ProcessStats};
use tokio::{
    sync::{Notify, oneshot, watch},
    time::timeout_at,
};

use crate::{
    audit::Audit,
    call,
    config::ServerConfig,
    convert,
    dataplane::{Link, Refusal},
    drain::Drain,
    events::{EventLog, EventReader, Keep},
    limits::{Callers, Limits},
    metrics::Metrics,
    pipes::Pipes,
    placement::{Full, Workers},
    registry::{self, Kind, Registry},
    reload::Reloader,
    telemetry::Telemetry,
};

/// Everything that changes.
pub struct State {
    pub registry: Registry,
    pub events: EventLog,
    pub workers: Workers,
    /// What the dataplane's process last said that it counts.
    pub process: ProcessStats,
    /// While attached.
    pub link: Option<Link>,
    /// Of the last dataplane.
    pub dataplane_version: Option<String>,
    pub boot_id: Option<String>,
    /// While the host is being taken out of service.
    pub drain: Option<Drain>,
    pub limits: Limits,
    /// Defaults of new transports.
    pub candidates: CandidateKinds,
    pub consent_timeout_s: u32,
    pub disconnected_timeout_s: u32,
    pub initial_outgoing_bitrate_bps: u32,
    /// Where pipe transports listen that say nothing else.
    pub pipes_listen: IpAddr,
    /// Ids whose creation waits for its answer: whoever repeats it waits too.
    creating: BTreeMap<(Kind, Id), watch::Sender<()>>,
    /// How many of them there are in each place: limits count them as if they existed.
    on_their_way: HashMap<(Kind, Place), usize>,
    /// Times that a principal had enough of something.
    pub quota_refusals: u64,
}

/// Where something is made, for a limit that counts there.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// This host.
    Host,
    /// A worker.
    Worker(WorkerId),
    /// A router or a transport.
    Parent(Id),
    /// What a principal has.
    Owner(Arc<str>),
    /// Participants of a principal's routers who have no transport there yet.
    Newcomers(Arc<str>),
}

/// What a command makes, and where it counts until it is there.
#[derive(Debug, Clone)]
pub struct Creation {
    pub kind: Kind,
    /// None: it is a part of something, and the API does not name it.
    pub id: Option<Id>,
    pub places: Vec<Place>,
}

/// The state, for a moment. What was published meanwhile wakes the streams once, at the end.
pub struct Guard<'a> {
    state: MutexGuard<'a, State>,
    since: Instant,
    metrics: &'a Metrics,
    sweep: &'a Notify,
}

impl Deref for Guard<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Guard<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if self.state.registry.has_errands() {
            self.state.run_errands();
        }
        self.state.events.wake();
        if self.state.registry.has_remains() {
            self.sweep.notify_one();
        }
        self.metrics.time_state(self.since.elapsed());
    }
}

impl State {
    /// How many of a kind are being made in a place.
    #[must_use]
    pub fn on_their_way(&self, kind: Kind, place: Place) -> usize {
        self.on_their_way.get(&(kind, place)).copied().unwrap_or_default()
    }

    /// What goes with something else, on another worker. Nobody waits for the answers: what is not there
    /// any more is as it should be. What finds no room is sent later, and until then nothing is made that
    /// it could be meant for ([`Self::finish_errands`]).
    fn run_errands(&mut self) {
        let link = self.link.as_ref();
        self.registry.run_errands(|command| {
            // Tried again and again: that is not a refusal each time.
            if link.is_some_and(|link| !link.has_room()) {
                return false;
            }
            match link.map_or(Err(Refusal::Lost), |link| link.send(command, Box::new(drop))) {
                Err(Refusal::Busy) => return false,
                // What is left over there after a lost connection is closed when all is taken over.
                Err(error) => tracing::debug!(%error, "an errand was not sent"),
                Ok(()) => {}
            }
            true
        });
    }

    /// Sends what the dataplane had no room for; false where some of it is still to be sent.
    #[must_use]
    pub fn finish_errands(&mut self) -> bool {
        self.run_errands();
        !self.registry.has_errands()
    }

    fn begin_creation(&mut self, creation: &Creation) {
        for place in &creation.places {
            *self.on_their_way.entry((creation.kind, place.clone())).or_default() += 1;
        }
        if let Some(id) = &creation.id {
            self.creating.insert((creation.kind, id.clone()), watch::Sender::new(()));
        }
    }

    fn end_creation(&mut self, creation: &Creation) {
        for place in &creation.places {
            let key = (creation.kind, place.clone());
            if let Some(count) = self.on_their_way.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.on_their_way.remove(&key);
                }
            }
        }
        if let Some(id) = &creation.id {
            self.creating.remove(&(creation.kind, id.clone()));
        }
    }

    /// Rooms on a worker, and those that come there.
    #[must_use]
    pub fn rooms_on(&self, worker: WorkerId) -> usize {
        self.registry.rooms_on(worker) + self.on_their_way(Kind::Router, Place::Worker(worker))
    }

    /// Limits of placement.
    #[must_use]
    pub fn full(&self) -> Full {
        let limits = &self.limits;
        let ids = self.workers.iter().map(|worker| worker.stats.id);
        let limited = ids.filter(|_| limits.routers_per_worker_max > 0);
        Full {
            load: limits.worker_busy_max,
            soft: limits.worker_busy_soft,
            delay_us: limits.worker_delay_max_us,
            packets_per_s: limits.worker_packets_soft.into(),
            routers: limits.routers_per_worker_max,
            rooms: limited.map(|id| (id, self.rooms_on(id))).collect(),
            consumers: limits.consumers_per_worker_max,
        }
    }
}

/// What a look at the state leads to.
pub enum Step<T> {
    /// Nothing has to be done.
    Done(T),
    /// The dataplane has to do something.
    Ask(Box<Ask<T>>),
    /// The same id is being created: look again when that has ended.
    Wait(watch::Receiver<()>),
}

/// A command and what its answer changes.
pub struct Ask<T> {
    pub command: Command,
    /// What is created.
    pub creates: Option<Creation>,
    pub then: Then<T>,
}

/// What the dataplane answered.
type Answered = Result<Reply, Problem>;
type Then<T> = Box<dyn FnOnce(&mut State, Answered) -> Result<T, Problem> + Send>;
/// Gives what the closure made of it, and the last event that includes.
type Waiting<T> = oneshot::Receiver<Result<(T, EventSeq), Problem>>;

impl<T> Step<T> {
    /// A command.
    pub fn ask(
        command: Command,
        then: impl FnOnce(&mut State, Answered) -> Result<T, Problem> + Send + 'static,
    ) -> Self {
        Self::Ask(Box::new(Ask { command, creates: None, then: Box::new(then) }))
    }

    /// A command that creates something.
    pub fn create(
        creation: Creation,
        command: Command,
        then: impl FnOnce(&mut State, Answered) -> Result<T, Problem> + Send + 'static,
    ) -> Self {
        Self::Ask(Box::new(Ask { command, creates: Some(creation), then: Box::new(then) }))
    }
}

/// Shared by all tasks.
pub struct Engine {
    state: Mutex<State>,
    /// What streams read: without the state's lock.
    pub events: EventReader,
    pub metrics: Metrics,
    /// Requests that are not answered yet.
    pub calls: watch::Sender<usize>,
    /// Rates of the callers.
    pub callers: Callers,
    /// Rates of the addresses that do not show who calls.
    pub strangers: Callers,
    /// Who has done what.
    pub audit: Audit,
    /// Reads the configuration again.
    pub reloader: Reloader,
    /// What goes to other hosts.
    pub pipes: Pipes,
    limits: RwLock<Arc<Limits>>,
    /// Closed routers have left something behind.
    sweep: Notify,
    /// Set at the start, where they are wanted.
    pub traces: OnceLock<Arc<Telemetry>>,
    /// Open event streams of each principal.
    streams: Mutex<HashMap<Arc<str>, usize>>,
    pub config: ServerConfig,
    pub started: Instant,
}

impl State {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let keep = Keep { time: config.events.keep, bytes: config.events.keep_bytes };
        Self {
            registry: Registry::default(),
            events: EventLog::new(keep),
            workers: Workers::default(),
            process: ProcessStats::default(),
            link: None,
            dataplane_version: None,
            boot_id: None,
            drain: None,
            limits: config.limits.clone(),
            consent_timeout_s: config.consent_timeout_s,
            candidates: config.candidates,
            disconnected_timeout_s: config.disconnected_timeout_s,
            initial_outgoing_bitrate_bps: config.initial_outgoing_bitrate_bps,
            pipes_listen: config.pipes.listen,
            creating: BTreeMap::new(),
            on_their_way: HashMap::new(),
            quota_refusals: 0,
        }
    }
}

impl Engine {
    /// Without a dataplane yet.
    #[must_use]
    pub fn new(config: ServerConfig, audit: Audit, reloader: Reloader) -> Arc<Self> {
        let state = State::new(&config);
        Arc::new(Self {
            events: state.events.reader(),
            state: Mutex::new(state),
            metrics: Metrics::default(),
            calls: watch::Sender::new(0),
            callers: Callers::default(),
            strangers: Callers::default(),
            audit,
            reloader,
            pipes: Pipes::default(),
            limits: RwLock::new(Arc::new(config.limits.clone())),
            sweep: Notify::new(),
            traces: OnceLock::new(),
            streams: Mutex::default(),
            config,
            started: Instant::now(),
        })
    }

    /// The state, for a moment. A panic under the lock is a bug of one call: what it left is still
    /// as consistent as its last finished step, so others go on.
    pub fn lock(&self) -> Guard<'_> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        Guard { state, since: Instant::now(), metrics: &self.metrics, sweep: &self.sweep }
    }

    /// Takes away what closed routers held, in portions, between which others have their turn. Does
    /// not end by itself.
    pub async fn sweep(&self) {
        loop {
            self.sweep.notified().await;
            // The guard asks for the next portion, if there is one.
            self.lock().registry.sweep(registry::PORTION);
            tokio::task::yield_now().await;
        }
    }

    /// The limits that hold now.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// How many event streams each principal has open.
    pub fn streams(&self) -> MutexGuard<'_, HashMap<Arc<str>, usize>> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Others hold from now on.
    pub fn set_limits(&self, limits: Limits) {
        self.lock().limits = limits.clone();
        *self.limits.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(limits);
    }

    /// Something panicked: it is counted, and whoever waits for it is told this.
    pub fn fault(&self, doing: &str) -> Problem {
        self.metrics.panics.inc();
        tracing::error!(doing, "a panic was caught");
        call::internal("this is a fault of the server; it was noted")
    }

    /// The last event that an answer given now includes.
    #[must_use]
    pub fn seq(&self) -> EventSeq {
        self.events.head()
    }

    /// Does one call: `look` decides on the state what is to be done, as often as it has to.
    pub async fn run<T: Send + 'static>(
        self: &Arc<Self>,
        mut look: impl FnMut(&mut State) -> Result<Step<T>, Problem> + Send,
    ) -> Result<(T, EventSeq), Problem> {
        let limit = self.config.dataplane_timeout;
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let waited = {
                let mut state = self.lock();
                if state.link.is_none() {
                    return Err(unavailable("there is no dataplane at the moment"));
                }
                match look(&mut state)? {
                    Step::Done(value) => return Ok((value, state.events.head())),
                    Step::Ask(ask) => Err(self.send(&mut state, *ask)),
                    Step::Wait(wait) => Ok(wait),
                }
            };
            match waited {
                Ok(mut wait) => {
                    // The sender is dropped when the creation has ended.
                    let ended = timeout_at(deadline, wait.changed()).await;
                    ended.map_err(|_| late(limit)).map(drop)?;
                }
                Err(answer) => {
                    let answer = timeout_at(deadline, answer).await.map_err(|_| late(limit))?;
                    return answer.unwrap_or_else(|_| Err(lost()));
                }
            }
        }
    }

    /// Sends a command; its answer is applied whether somebody still waits for it or not. One that
    /// cannot be sent is answered at once: what `look` has taken for it is given back as after a
    /// refusal.
    fn send<T: Send + 'static>(self: &Arc<Self>, state: &mut State, ask: Ask<T>) -> Waiting<T> {
        let (sender, receiver) = oneshot::channel();
        let engine = Arc::clone(self);
        let Ask { command, creates, then } = ask;
        let link = state.link.clone();
        let ready = link.as_ref().ok_or(Refusal::Lost).and_then(|link| link.prepare(&command));
        let ready = match ready {
            Ok(ready) => ready,
            Err(refusal) => {
                let result = then(state, Err(refused(&refusal)));
                let seq = state.events.head();
                let _ = sender.send(result.map(|value| (value, seq)));
                return receiver;
            }
        };
        let created = creates.clone();
        let sent = Instant::now();
        ready.send(Box::new(move |answer: Result<Reply, Refusal>| {
            engine.metrics.time_command(sent.elapsed());
            let mut state = engine.lock();
            if let Some(creation) = &created {
                state.end_creation(creation);
            }
            let answer = answer.map_err(|refusal| refused(&refusal));
            // We are on the task that all answers and events come by: it goes on, whatever this is.
            let result = catch_unwind(AssertUnwindSafe(|| then(&mut state, answer)));
            let result = result.unwrap_or_else(|_| Err(engine.fault("applying an answer")));
            let seq = state.events.head();
            drop(state);
            // Nobody waits any more after a timeout.
            let _ = sender.send(result.map(|value| (value, seq)));
        }));
        if let Some(creation) = &creates {
            state.begin_creation(creation);
        }
        receiver
    }
}

impl State {
    /// What the id of a create means now: `Ok(None)` is free, `Ok(Some(step))` was decided here.
    /// `existing` gives what is there already, if the caller sees it.
    pub fn check_id<T>(
        &self,
        kind: Kind,
        id: &Id,
        hash: crate::note::BodyHash,
        existing: impl FnOnce(&Self) -> Option<T>,
    ) -> Result<Option<Step<T>>, Problem> {
        if let Some(creating) = self.creating.get(&(kind, id.clone())) {
            return Ok(Some(Step::Wait(creating.subscribe())));
        }
        let what = kind.as_str();
        let found = self.registry.hash_of(kind, id);
        let existing = if found == Some(hash) { existing(self) } else { None };
        match found {
            // Ids are of the host: one that another principal has taken is taken, too.
            Some(other) if other == hash && existing.is_some() => Ok(existing.map(Step::Done)),
            Some(_) => {
                let detail = format!("another {what} has the id {id:?}", id = id.as_str());
                Err(Problem::new(ErrorCode::AlreadyExists, detail).with_pointer("/id"))
            }
            None if self.registry.was_deleted(kind, id, Instant::now()) => {
                let detail = format!("the {what} {:?} was deleted a moment ago", id.as_str());
                Err(Problem::new(ErrorCode::WrongState, detail).with_pointer("/id"))
            }
            None => Ok(None),
        }
    }
}

/// An answer of another kind than the command asks for: a dataplane that is broken.
#[must_use]
pub fn unexpected(reply: &Reply) -> Problem {
    tracing::error!(?reply, "the dataplane gave an answer of another kind");
    unavailable("the dataplane gave an answer of another kind")
}

/// A command was not carried out.
#[must_use]
pub fn refused(refusal: &Refusal) -> Problem {
    match refusal {
        Refusal::Command(error) => convert::problem(error),
        Refusal::Lost => lost(),
        // It passes: who repeats it a moment later is served.
        Refusal::Busy => {
            Problem::new(ErrorCode::RateLimited, refusal.to_string()).with_retry_after(1)
        }
        Refusal::Encode(_) => Problem::new(ErrorCode::TooLarge, refusal.to_string()),
    }
}

/// No dataplane.
#[must_use]
pub fn unavailable(detail: impl Into<String>) -> Problem {
    Problem::new(ErrorCode::DataplaneUnavailable, detail).with_retry_after(1)
}

fn lost() -> Problem {
    unavailable("the connection to the dataplane was lost; repeat the call with the same id")
}

fn late(limit: Duration) -> Problem {
    let detail = format!(
        "the dataplane did not answer within {} ms; repeat the call with the same id",
        limit.as_millis()
    );
    Problem::new(ErrorCode::Timeout, detail)
}
