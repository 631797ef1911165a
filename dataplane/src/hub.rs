//! The hub: between the control plane's connection and the workers. Owns the registry of what
//! exists, numbers events, and knows who is in control: a newer controller fences the older. One
//! thread; never touches a packet, and a worker never waits for it.
//!
//! A close is forgotten here as soon as its worker has taken it: a worker works in order, so
//! whatever is asked after it finds the name free. What a worker did not take has changed nothing.

mod drain;
mod presumed;
mod snapshot;
mod stuck;
#[cfg(test)]
mod tests;
mod workers;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use ironcast_driver::mailbox::{SendError, Sender};
use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, Frame, FrameKind, Id, Reply, WorkerId,
    command::{
        ConnectTransport, MAX_COMMAND_BYTES, MAX_ID_BYTES, MAX_NOTE_BYTES, TransportCreated,
    },
    frame,
    hop::ConnectHop,
    plain::ConnectPlainTransport,
    snapshot::ResourceKind as Kind,
    stats::WorkerStats,
};

use self::{drain::Drain, snapshot::Snapshot, workers::Gather};
use crate::{
    connection::Connection,
    counters::{Counter, Counters},
    life::Lives,
    messages::{Answer, ToHub, ToWorker},
    registry::{Entry, Name, Registry},
    settings::Settings,
};

/// Commands on their way at one time.
const PENDING_MAX: usize = 16_384;

/// A question to a worker.
struct Pending {
    connection: u64,
    request: u64,
    worker: WorkerId,
    then: Then,
}

/// What to do with the answer. Numbers are of the commands that made what is spoken of.
enum Then {
    Relay,
    Create(Kind, Id),
    Connect(Box<ConnectTransport>, u64),
    ConnectPlain(Box<ConnectPlainTransport>, u64),
    ConnectHop(ConnectHop, u64),
    Restart(Id, u64),
    Dump(Name),
    /// Of these.
    Snapshot(Arc<[Name]>),
    Gather(u64),
}

/// What a command does to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Effect {
    Creates,
    Closes,
    Changes,
}

/// What the hub is made of.
pub struct Parts {
    /// The core of each worker.
    pub cores: Vec<u32>,
    /// The newest event's number.
    pub event_seq: Arc<AtomicU64>,
    /// What the process counts.
    pub counters: Arc<Counters>,
    /// Where it says that it is alive.
    pub lives: Arc<Lives>,
    /// What may change while it runs.
    pub settings: Arc<Settings>,
    /// Told to end, it waits for its rooms for so long.
    pub drain: Duration,
    /// A room called `__panic_hub` makes the hub panic: for tests of what happens then.
    pub test_hooks: bool,
}

/// See the file's head.
pub struct Hub {
    parts: Parts,
    registry: Registry,
    mailboxes: Vec<Option<Sender<ToWorker>>>,
    /// What each worker last said of itself.
    stats: Vec<Option<WorkerStats>>,
    controller: Option<Connection>,
    fenced: BTreeMap<u64, Connection>,
    pending: BTreeMap<u64, Pending>,
    gathers: BTreeMap<u64, Gather>,
    snapshot: Option<Snapshot>,
    drain: Option<Drain>,
    /// Workers that run and make no turns.
    stuck: BTreeSet<WorkerId>,
    /// Why each worker last ended.
    reasons: BTreeMap<WorkerId, String>,
    next_token: u64,
}

impl Hub {
    /// A hub of workers that do not run yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let workers = parts.cores.len();
        Self {
            parts,
            registry: Registry::default(),
            mailboxes: (0..workers).map(|_| None).collect(),
            stats: (0..workers).map(|_| None).collect(),
            controller: None,
            fenced: BTreeMap::new(),
            pending: BTreeMap::new(),
            gathers: BTreeMap::new(),
            snapshot: None,
            drain: None,
            stuck: BTreeSet::new(),
            reasons: BTreeMap::new(),
            next_token: 0,
        }
    }

    /// Works until told to stop.
    pub fn run(mut self, inbox: &Receiver<ToHub>) {
        let mut looked = Instant::now();
        loop {
            let message = match self.drain {
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => inbox.recv_timeout(drain::LOOK),
            };
            match message {
                Ok(ToHub::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
            if looked.elapsed() >= drain::LOOK {
                looked = Instant::now();
                if self.is_drained(looked) {
                    break;
                }
            }
        }
        for mailbox in self.mailboxes.iter().flatten() {
            mailbox.stop();
        }
    }

    /// One message. A fault in here costs its answer and nothing else: media depends on this
    /// process.
    fn take(&mut self, message: ToHub) {
        let asked = match &message {
            ToHub::Frame { connection, frame, .. } => Some((*connection, frame.id)),
            ToHub::Answer { token, .. } => {
                self.pending.get(token).map(|pending| (pending.connection, pending.request))
            }
            _ => None,
        };
        if catch_unwind(AssertUnwindSafe(|| self.receive(message))).is_ok() {
            return;
        }
        self.parts.counters.count(Counter::HubPanics);
        tracing::error!("a panic of the hub was caught");
        if let Some((connection, request)) = asked {
            self.snapshot.take_if(|snapshot| snapshot.is_of(connection, request));
            let error = CommandError::new(ErrorCode::Internal, "a fault of the dataplane");
            self.respond(connection, request, Err(error));
        }
    }

    fn receive(&mut self, message: ToHub) {
        match message {
            ToHub::Attached(connection) => self.attach(connection),
            ToHub::Watch(tell) => {
                let _ = tell.send(self.controller.as_ref().map(|attached| attached.name.clone()));
            }
            ToHub::Frame { connection, frame, turn } => {
                self.receive_frame(connection, &frame);
                drop(turn);
            }
            ToHub::Drained { connection } => self.resume_snapshot(connection),
            ToHub::Detached { connection } => self.detach(connection),
            ToHub::Answer { token, answer } => self.receive_answer(token, answer),
            ToHub::Events(events) => events.into_iter().for_each(|event| self.report(event)),
            ToHub::Running { worker, mailbox } => self.worker_runs(worker, mailbox),
            ToHub::Died { worker, reason } => self.worker_died(worker, reason),
            ToHub::Stuck { worker } => self.worker_is_stuck(worker),
            ToHub::Moves { worker } => self.worker_moves(worker),
            ToHub::Sign => self.parts.lives.hub_answers(),
            ToHub::Drain => self.begin_drain(),
            ToHub::Stop => {}
        }
    }

    fn attach(&mut self, connection: Connection) {
        // Connections are told of by threads of their own, so that two which came at once may
        // arrive here in the other order: their numbers say who came last.
        let (newer, older) = match self.controller.take() {
            Some(current) if current.id > connection.id || connection.gives_way => {
                (current, Some(connection))
            }
            older => (connection, older),
        };
        tracing::info!(controller = newer.name, "the control plane is attached");
        self.controller = Some(newer);
        if let Some(older) = older {
            tracing::warn!(controller = older.name, "is fenced: another controller is attached");
            let message = "another controller is attached";
            let fenced = CommandError::new(ErrorCode::Fenced, message);
            older.send(FrameKind::Response, 0, &Err::<Reply, _>(fenced));
            older.close();
            self.fenced.insert(older.id, older);
        }
    }

    fn detach(&mut self, connection: u64) {
        self.fenced.remove(&connection);
        if self.controller.as_ref().is_some_and(|c| c.id == connection) {
            tracing::info!("the control plane is gone; media goes on");
            self.controller = None;
        }
    }

    fn receive_frame(&mut self, connection: u64, frame: &Frame) {
        if self.controller.as_ref().is_none_or(|c| c.id != connection)
            || frame.kind != FrameKind::Request
        {
            return;
        }
        let done =
            decode(&frame.body).and_then(|command| self.dispatch(connection, frame.id, command));
        if let Err(error) = done {
            self.respond(connection, frame.id, Err(error));
        }
    }

    fn dispatch(
        &mut self,
        connection: u64,
        request: u64,
        command: Command,
    ) -> Result<(), CommandError> {
        match command {
            Command::Workers | Command::Hottest(_) => {
                self.gather(connection, request, &command);
                Ok(())
            }
            Command::Process => {
                let mut stats = self.parts.counters.process_stats();
                stats.drains_until_ms = self.drain.as_ref().map(|drain| drain.deadline_ms);
                self.respond(connection, request, Ok(Reply::Process(stats)));
                Ok(())
            }
            Command::SetSettings(settings) => {
                self.parts.settings.apply(&settings)?;
                self.respond(connection, request, Ok(Reply::Done));
                Ok(())
            }
            Command::Snapshot => self.begin_snapshot(connection, request),
            Command::Dump(dump) => self.dump(connection, request, &dump),
            command => self.order(connection, request, command),
        }
    }

    /// Sends a command about one resource to its worker, or says why not.
    fn order(
        &mut self,
        connection: u64,
        request: u64,
        command: Command,
    ) -> Result<(), CommandError> {
        check_size(&command)?;
        let Some((kind, id, effect)) = subject(&command) else {
            return Err(CommandError::new(ErrorCode::UnknownCommand, "about no resource"));
        };
        let id = id.clone();
        self.next_token += 1;
        let token = self.next_token;
        let worker = match effect {
            Effect::Creates => self.note(&command, kind, &id, token)?,
            Effect::Closes | Effect::Changes => self.named(kind, &id)?.worker,
        };
        let made_by = self.registry.entry(kind, &id).map_or(token, |entry| entry.made_by);
        let then = match &command {
            _ if effect == Effect::Creates => Then::Create(kind, id.clone()),
            Command::ConnectTransport(connect) => Then::Connect(Box::new(connect.clone()), made_by),
            Command::ConnectPlainTransport(connect) => {
                Then::ConnectPlain(Box::new(connect.clone()), made_by)
            }
            Command::ConnectHop(connect) => Then::ConnectHop(connect.clone(), made_by),
            Command::RestartIce(named) => Then::Restart(named.id.clone(), made_by),
            _ => Then::Relay,
        };
        let message = ToWorker::Command { token, command: Box::new(command) };
        let asked = self.ask(token, Pending { connection, request, worker, then }, message);
        match (&asked, effect) {
            (Err(_), Effect::Creates) => self.registry.remove_made_by(kind, &id, token),
            (Ok(()), Effect::Closes) => self.registry.remove(kind, &id),
            _ => {}
        }
        asked
    }

    /// Notes what a command creates; gives the worker that is to make it.
    fn note(
        &mut self,
        command: &Command,
        kind: Kind,
        id: &Id,
        token: u64,
    ) -> Result<WorkerId, CommandError> {
        if let Command::CreateRouter(create) = command
            && usize::from(create.worker) >= self.mailboxes.len()
        {
            let message = format!("there is no worker {}", create.worker);
            return Err(CommandError::new(ErrorCode::NotFound, message));
        }
        let hooked = self.parts.test_hooks && id == "__panic_hub";
        assert!(!hooked, "asked to by a test");
        if let Some(entry) = self.registry.entry(kind, id) {
            // Whether it will be made by a worker that is stuck nobody can tell.
            self.check_moves(entry.worker)?;
            return Err(CommandError::new(ErrorCode::AlreadyExists, format!("{id:?} exists")));
        }
        self.registry.add(command, token).ok_or_else(|| {
            CommandError::new(ErrorCode::NotFound, format!("what {id:?} belongs to is not there"))
        })
    }

    fn named(&self, kind: Kind, id: &str) -> Result<&Entry, CommandError> {
        self.registry.entry(kind, id).ok_or_else(|| {
            let message = format!("there is no {} {id:?}", kind.as_str());
            CommandError::new(ErrorCode::NotFound, message)
        })
    }

    fn ask(&mut self, token: u64, pending: Pending, message: ToWorker) -> Result<(), CommandError> {
        if self.pending.len() >= PENDING_MAX {
            return Err(CommandError::new(ErrorCode::Busy, "too many commands at once"));
        }
        let worker = pending.worker;
        self.check_moves(worker)?;
        let mailbox = self.mailboxes.get(usize::from(worker)).and_then(Option::as_ref);
        let sent = match mailbox {
            Some(mailbox) => mailbox.send(message).map_err(SendError::without_message),
            None => Err(SendError::Closed(())),
        };
        let (code, message) = match sent {
            Ok(()) => {
                self.pending.insert(token, pending);
                return Ok(());
            }
            Err(SendError::Full(())) => {
                (ErrorCode::Busy, format!("too many commands wait for worker {worker}"))
            }
            Err(SendError::Closed(())) => {
                (ErrorCode::WorkerUnavailable, format!("worker {worker} does not run now"))
            }
        };
        Err(CommandError::new(code, message))
    }

    fn receive_answer(&mut self, token: u64, answer: Result<Answer, CommandError>) {
        let Some(pending) = self.pending.remove(&token) else { return };
        let (connection, request) = (pending.connection, pending.request);
        let reply = match (pending.then, answer) {
            (Then::Snapshot(names), answer) => {
                return self.receive_states(connection, request, &names, answer);
            }
            (Then::Dump(name), answer) => self.describe(&name, answer),
            (Then::Gather(gather), answer) => {
                return self.receive_figures(gather, pending.worker, answer);
            }
            (_, Ok(Answer::States(_))) => {
                Err(CommandError::new(ErrorCode::Internal, "not what was asked for"))
            }
            (then, Ok(Answer::Reply(reply))) => {
                self.note_reply(then, token, &reply);
                Ok(reply)
            }
            (Then::Create(kind, id), Err(error)) => {
                self.registry.remove_made_by(kind, &id, token);
                Err(error)
            }
            (_, Err(error)) => Err(error),
        };
        self.respond(connection, request, reply);
    }

    /// Keeps of an answer what a later control plane will have to know.
    fn note_reply(&mut self, then: Then, token: u64, reply: &Reply) {
        match (then, reply) {
            (Then::Create(_, id), Reply::TransportCreated(created)) => {
                self.registry.set_created(&id, token, created);
            }
            (Then::Create(_, id), Reply::PlainTransportCreated(created)) => {
                self.registry.set_created(&id, token, created);
            }
            (Then::Create(_, id), Reply::HopCreated(end)) => {
                self.registry.set_created(&id, token, end);
            }
            (Then::ConnectHop(connect, made_by), _) => {
                self.registry.set_connect(&connect.id, &connect, made_by);
            }
            (Then::Connect(connect, made_by), _) => {
                self.registry.set_connect(&connect.id, &connect, made_by);
            }
            (Then::ConnectPlain(connect, made_by), Reply::PlainTransportConnected(created)) => {
                self.registry.set_connect(&connect.id, &connect, made_by);
                self.registry.set_created(&connect.id, made_by, created);
            }
            (Then::Restart(id, made_by), Reply::IceRestarted(parameters)) => {
                let entry = self.registry.entry(Kind::Transport, &id);
                if let Some(mut created) = entry.and_then(Entry::created::<TransportCreated>) {
                    created.ice_parameters.clone_from(parameters);
                    self.registry.set_created(&id, made_by, &created);
                }
            }
            _ => {}
        }
    }

    fn respond(&self, connection: u64, request: u64, reply: Result<Reply, CommandError>) {
        let Some(controller) = self.controller.as_ref().filter(|c| c.id == connection) else {
            return;
        };
        if !controller.send(FrameKind::Response, request, &reply) {
            let error = CommandError::new(ErrorCode::TooLarge, "the answer fits into no frame");
            controller.send(FrameKind::Response, request, &Err::<Reply, _>(error));
        }
    }

    fn report(&mut self, event: Event) {
        if let Event::TransportClosed { transport, .. } = &event {
            self.registry.remove(Kind::Transport, transport);
        }
        let seq = self.parts.event_seq.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(controller) = &self.controller {
            controller.send(FrameKind::Event, seq, &event);
        }
    }

    fn worker_runs(&mut self, worker: WorkerId, mailbox: Sender<ToWorker>) {
        let Some(slot) = self.mailboxes.get_mut(usize::from(worker)) else { return };
        *slot = Some(mailbox);
        self.report(Event::WorkerRestarted { worker });
    }

    fn worker_died(&mut self, worker: WorkerId, reason: String) {
        let mailbox = self.mailboxes.get_mut(usize::from(worker)).and_then(Option::take);
        if let Some(stats) = self.stats.get_mut(usize::from(worker)) {
            *stats = None;
        }
        self.stuck.remove(&worker);
        self.parts.counters.count(Counter::WorkerFailures);
        // One that cannot start says so once, however often it is tried.
        let is_new = self.reasons.insert(worker, reason.clone()).is_none_or(|last| last != reason);
        if mailbox.is_none() && !is_new {
            return;
        }
        let routers = self.registry.remove_worker(worker);
        tracing::error!(worker, routers = routers.len(), reason, "a worker died");
        let lost: Vec<u64> =
            self.pending.iter().filter(|(_, p)| p.worker == worker).map(|(t, _)| *t).collect();
        for token in lost {
            let error = CommandError::new(ErrorCode::WorkerUnavailable, "the worker died");
            self.receive_answer(token, Err(error));
        }
        self.report(Event::WorkerDied { worker, routers, reason });
    }
}

fn decode(body: &[u8]) -> Result<Command, CommandError> {
    if body.len() > MAX_COMMAND_BYTES {
        let message = format!("a command has at most {MAX_COMMAND_BYTES} bytes");
        return Err(CommandError::new(ErrorCode::TooLarge, message));
    }
    frame::decode_body(body)
        .map_err(|error| CommandError::new(ErrorCode::UnknownCommand, error.to_string()))
}

/// What a command is about, and what it does to it.
fn subject(command: &Command) -> Option<(Kind, &Id, Effect)> {
    use Effect::{Changes, Closes, Creates};
    Some(match command {
        Command::CreateRouter(create) => (Kind::Router, &create.id, Creates),
        Command::CreateWebRtcTransport(create) => (Kind::Transport, &create.id, Creates),
        Command::CreatePlainTransport(create) => (Kind::Transport, &create.id, Creates),
        Command::CreateHop(create) => (Kind::Transport, &create.id, Creates),
        Command::Produce(create) => (Kind::Producer, &create.id, Creates),
        Command::Consume(create) => (Kind::Consumer, &create.id, Creates),
        Command::CreateObserver(create) => (Kind::Observer, &create.id, Creates),
        Command::CloseRouter(named) => (Kind::Router, &named.id, Closes),
        Command::CloseTransport(named) => (Kind::Transport, &named.id, Closes),
        Command::CloseProducer(named) => (Kind::Producer, &named.id, Closes),
        Command::CloseConsumer(named) => (Kind::Consumer, &named.id, Closes),
        Command::CloseObserver(named) => (Kind::Observer, &named.id, Closes),
        Command::ConnectTransport(connect) => (Kind::Transport, &connect.id, Changes),
        Command::ConnectPlainTransport(connect) => (Kind::Transport, &connect.id, Changes),
        Command::ConnectHop(connect) => (Kind::Transport, &connect.id, Changes),
        Command::SetTransportBitrates(set) => (Kind::Transport, &set.id, Changes),
        Command::TakeCapture(take) => (Kind::Transport, &take.id, Changes),
        Command::SetTrace(set) => (set.kind, &set.id, Changes),
        Command::RestartIce(named) | Command::TransportStats(named) => {
            (Kind::Transport, &named.id, Changes)
        }
        Command::PauseProducer(named)
        | Command::ResumeProducer(named)
        | Command::ProducerStats(named) => (Kind::Producer, &named.id, Changes),
        Command::PauseConsumer(named)
        | Command::ResumeConsumer(named)
        | Command::RequestKeyFrame(named)
        | Command::ConsumerStats(named) => (Kind::Consumer, &named.id, Changes),
        Command::SetPreferredLayers(set) => (Kind::Consumer, &set.id, Changes),
        Command::SetPriority(set) => (Kind::Consumer, &set.id, Changes),
        Command::ObserveProducer(observe) | Command::UnobserveProducer(observe) => {
            (Kind::Observer, &observe.id, Changes)
        }
        Command::PauseObserver(named) | Command::ResumeObserver(named) => {
            (Kind::Observer, &named.id, Changes)
        }
        Command::Workers
        | Command::Process
        | Command::SetSettings(_)
        | Command::Hottest(_)
        | Command::Snapshot
        | Command::Dump(_) => return None,
    })
}

fn check_size(command: &Command) -> Result<(), CommandError> {
    let (note, id) = match command {
        Command::CreateRouter(create) => (create.note.len(), Some(&create.id)),
        Command::CreateWebRtcTransport(create) => (create.note.len(), Some(&create.id)),
        Command::CreatePlainTransport(create) => (create.note.len(), Some(&create.id)),
        Command::ConnectTransport(connect) => (connect.note.len(), None),
        Command::ConnectPlainTransport(connect) => (connect.note.len(), None),
        Command::CreateHop(create) => (create.note.len(), Some(&create.id)),
        Command::ConnectHop(connect) => (connect.note.len(), None),
        Command::Produce(create) => (create.note.len(), Some(&create.id)),
        Command::Consume(create) => (create.note.len(), Some(&create.id)),
        Command::CreateObserver(create) => (create.note.len(), Some(&create.id)),
        _ => (0, None),
    };
    let allowed = |one: char| one.is_ascii_alphanumeric() || "._:-~".contains(one);
    if id.is_some_and(|id| id.is_empty() || id.len() > MAX_ID_BYTES || !id.chars().all(allowed)) {
        let message = format!("an id has 1 to {MAX_ID_BYTES} characters of A-Z a-z 0-9 . _ : - ~");
        return Err(CommandError::new(ErrorCode::Invalid, message));
    }
    if note > MAX_NOTE_BYTES {
        let message = format!("a note of {note} bytes: at most {MAX_NOTE_BYTES} are kept");
        return Err(CommandError::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}
