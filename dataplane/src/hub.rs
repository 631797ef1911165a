//! The hub: between the control plane's connection and the workers. Owns the registry of what
//! exists, numbers events, and knows who is in control: a newer controller fences the older. One
//! thread; never touches a packet, and a worker never waits for it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::Receiver,
    },
};

use ironcast_core::figures::RouterStates;
use ironcast_driver::mailbox::Sender;
use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, Frame, FrameKind, Id, Reply, WorkerId,
    command::{ConnectTransport, MAX_NOTE_BYTES},
    frame,
    snapshot::{Resource, SnapshotPart},
    stats::WorkerStats,
};

use crate::{
    connection::Connection,
    messages::{Answer, ToHub, ToWorker},
    registry::{Entry, Kind, Registry},
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

/// What to do with the answer.
enum Then {
    Relay,
    Create(Kind, Id),
    Connect(Box<ConnectTransport>),
    Restart(Id),
    Dump(Kind, Id),
    Gather(u64),
}

/// Several questions, one answer.
struct Gather {
    connection: u64,
    request: u64,
    left: usize,
    workers: Option<Vec<WorkerStats>>,
    event_seq: u64,
}

/// See the file's head.
pub struct Hub {
    registry: Registry,
    mailboxes: Vec<Option<Sender<ToWorker>>>,
    cores: Vec<u32>,
    controller: Option<Connection>,
    fenced: BTreeMap<u64, Connection>,
    pending: BTreeMap<u64, Pending>,
    gathers: BTreeMap<u64, Gather>,
    next_token: u64,
    event_seq: Arc<AtomicU64>,
}

impl Hub {
    /// `cores`: the core of each worker.
    #[must_use]
    pub fn new(cores: Vec<u32>, event_seq: Arc<AtomicU64>) -> Self {
        Self {
            registry: Registry::default(),
            mailboxes: cores.iter().map(|_| None).collect(),
            cores,
            controller: None,
            fenced: BTreeMap::new(),
            pending: BTreeMap::new(),
            gathers: BTreeMap::new(),
            next_token: 0,
            event_seq,
        }
    }

    /// Works until told to stop.
    pub fn run(mut self, inbox: &Receiver<ToHub>) {
        while let Ok(message) = inbox.recv() {
            match message {
                ToHub::Attached(connection) => self.attach(connection),
                ToHub::Frame { connection, frame } => self.receive(connection, &frame),
                ToHub::Detached { connection } => self.detach(connection),
                ToHub::Answer { token, answer } => self.receive_answer(token, answer),
                ToHub::Events(events) => events.into_iter().for_each(|event| self.report(event)),
                ToHub::Running { worker, mailbox } => self.worker_runs(worker, mailbox),
                ToHub::Died { worker, reason } => self.worker_died(worker, reason),
                ToHub::Stop => break,
            }
        }
        for mailbox in self.mailboxes.iter().flatten() {
            mailbox.stop();
        }
    }

    fn attach(&mut self, connection: Connection) {
        // Connections are told of by threads of their own, so that two which came at once may
        // arrive here in the other order: their numbers say who came last.
        let (newer, older) = match self.controller.take() {
            Some(current) if current.id > connection.id => (current, Some(connection)),
            older => (connection, older),
        };
        tracing::info!(controller = newer.name, "the control plane is attached");
        self.controller = Some(newer);
        if let Some(older) = older {
            tracing::warn!(controller = older.name, "is fenced by a newer controller");
            let message = "a newer controller has attached";
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

    fn receive(&mut self, connection: u64, frame: &Frame) {
        if self.controller.as_ref().is_none_or(|c| c.id != connection)
            || frame.kind != FrameKind::Request
        {
            return;
        }
        match frame::decode_body::<Command>(&frame.body) {
            Ok(command) => {
                if let Err(error) = self.dispatch(connection, frame.id, command) {
                    self.respond(connection, frame.id, Err(error));
                }
            }
            Err(error) => {
                let error = CommandError::new(ErrorCode::UnknownCommand, error.to_string());
                self.respond(connection, frame.id, Err(error));
            }
        }
    }

    /// Sends a command to its worker, or says why not.
    fn dispatch(
        &mut self,
        connection: u64,
        request: u64,
        command: Command,
    ) -> Result<(), CommandError> {
        check_size(&command)?;
        let (worker, then) = match &command {
            Command::Workers => return self.gather_workers(connection, request),
            Command::Snapshot => return self.gather_snapshot(connection, request),
            Command::CreateRouter(create) => {
                if self.mailboxes.get(usize::from(create.worker)).is_none() {
                    let message = format!("there is no worker {}", create.worker);
                    return Err(CommandError::new(ErrorCode::NotFound, message));
                }
                self.create(&command, Kind::Router, &create.id)?
            }
            Command::CreateWebRtcTransport(c) => self.create(&command, Kind::Transport, &c.id)?,
            Command::Produce(c) => self.create(&command, Kind::Producer, &c.id)?,
            Command::Consume(c) => self.create(&command, Kind::Consumer, &c.id)?,
            Command::CloseRouter(named) => self.close(Kind::Router, &named.id)?,
            Command::CloseTransport(named) => self.close(Kind::Transport, &named.id)?,
            Command::CloseProducer(named) => self.close(Kind::Producer, &named.id)?,
            Command::CloseConsumer(named) => self.close(Kind::Consumer, &named.id)?,
            Command::ConnectTransport(connect) => {
                let then = Then::Connect(Box::new(connect.clone()));
                (self.worker_of(Kind::Transport, &connect.id)?, then)
            }
            Command::RestartIce(named) => {
                let then = Then::Restart(named.id.clone());
                (self.worker_of(Kind::Transport, &named.id)?, then)
            }
            Command::SetTransportBitrates(set) => {
                (self.worker_of(Kind::Transport, &set.id)?, Then::Relay)
            }
            Command::TransportStats(named) => {
                (self.worker_of(Kind::Transport, &named.id)?, Then::Relay)
            }
            Command::PauseProducer(named)
            | Command::ResumeProducer(named)
            | Command::ProducerStats(named) => {
                (self.worker_of(Kind::Producer, &named.id)?, Then::Relay)
            }
            Command::PauseConsumer(named)
            | Command::ResumeConsumer(named)
            | Command::RequestKeyFrame(named)
            | Command::ConsumerStats(named) => {
                (self.worker_of(Kind::Consumer, &named.id)?, Then::Relay)
            }
            Command::SetPreferredLayers(set) => {
                (self.worker_of(Kind::Consumer, &set.id)?, Then::Relay)
            }
            Command::SetPriority(set) => (self.worker_of(Kind::Consumer, &set.id)?, Then::Relay),
            Command::Dump(named) => return self.dump(connection, request, &named.id),
        };
        let undo = match &then {
            Then::Create(kind, id) => Some((*kind, id.clone())),
            _ => None,
        };
        let message = |token| ToWorker::Command { token, command: Box::new(command) };
        let asked = self.ask(Pending { connection, request, worker, then }, message);
        if let (Err(_), Some((kind, id))) = (&asked, undo) {
            self.registry.remove(kind, &id);
        }
        asked
    }

    fn create(
        &mut self,
        command: &Command,
        kind: Kind,
        id: &str,
    ) -> Result<(WorkerId, Then), CommandError> {
        if self.registry.entry(kind, id).is_some() {
            return Err(CommandError::new(ErrorCode::AlreadyExists, format!("{id:?} exists")));
        }
        let worker = self.registry.add(command).ok_or_else(|| {
            CommandError::new(ErrorCode::NotFound, format!("what {id:?} belongs to is not there"))
        })?;
        Ok((worker, Then::Create(kind, id.to_owned())))
    }

    fn close(&mut self, kind: Kind, id: &str) -> Result<(WorkerId, Then), CommandError> {
        let worker = self.worker_of(kind, id)?;
        self.registry.remove(kind, id);
        Ok((worker, Then::Relay))
    }

    fn worker_of(&self, kind: Kind, id: &str) -> Result<WorkerId, CommandError> {
        self.registry.entry(kind, id).map(|entry| entry.worker).ok_or_else(|| {
            let what = format!("{kind:?}").to_lowercase();
            CommandError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
        })
    }

    fn ask(
        &mut self,
        pending: Pending,
        message: impl FnOnce(u64) -> ToWorker,
    ) -> Result<(), CommandError> {
        if self.pending.len() >= PENDING_MAX {
            return Err(CommandError::new(ErrorCode::NoCapacity, "too many commands at once"));
        }
        let mailbox = self.mailboxes.get(usize::from(pending.worker)).and_then(Option::as_ref);
        self.next_token += 1;
        let sent = mailbox.map(|mailbox| mailbox.send(message(self.next_token)));
        if !matches!(sent, Some(Ok(()))) {
            let message = format!("worker {} does not take commands now", pending.worker);
            return Err(CommandError::new(ErrorCode::WorkerUnavailable, message));
        }
        self.pending.insert(self.next_token, pending);
        Ok(())
    }

    fn receive_answer(&mut self, token: u64, answer: Result<Answer, CommandError>) {
        let Some(pending) = self.pending.remove(&token) else { return };
        let (connection, request) = (pending.connection, pending.request);
        let reply = match answer {
            Ok(Answer::Reply(reply)) => Ok(reply),
            Ok(Answer::States(states)) => {
                match pending.then {
                    Then::Gather(gather) => self.gather_states(gather, &states),
                    Then::Dump(kind, id) => {
                        self.answer_dump(connection, request, kind, &id, &states)
                    }
                    _ => {}
                }
                return;
            }
            Err(error) => Err(error),
        };
        match (&pending.then, &reply) {
            (Then::Create(_, id), Ok(Reply::TransportCreated(created))) => {
                self.registry.set_created(id, created);
            }
            (Then::Create(kind, id), Err(_)) => self.registry.remove(*kind, id),
            (Then::Connect(connect), Ok(_)) => self.registry.set_connect(connect),
            (Then::Restart(id), Ok(Reply::IceRestarted(parameters))) => {
                let entry = self.registry.entry(Kind::Transport, id);
                if let Some(mut created) = entry.and_then(Entry::created) {
                    created.ice_parameters.clone_from(parameters);
                    self.registry.set_created(id, &created);
                }
            }
            (Then::Gather(gather), _) => {
                let stats = match reply {
                    Ok(Reply::Workers(stats)) => stats,
                    _ => vec![self.stopped(pending.worker)],
                };
                self.gather_stats(*gather, stats);
                return;
            }
            _ => {}
        }
        self.respond(connection, request, reply);
    }

    fn respond(&self, connection: u64, request: u64, reply: Result<Reply, CommandError>) {
        if let Some(controller) = self.controller.as_ref().filter(|c| c.id == connection) {
            controller.send(FrameKind::Response, request, &reply);
        }
    }

    fn report(&mut self, event: Event) {
        if let Event::TransportClosed { transport, .. } = &event {
            self.registry.remove(Kind::Transport, transport);
        }
        let seq = self.event_seq.fetch_add(1, Ordering::SeqCst) + 1;
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
        if let Some(slot) = self.mailboxes.get_mut(usize::from(worker)) {
            *slot = None;
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

    fn stopped(&self, worker: WorkerId) -> WorkerStats {
        let core = self.cores.get(usize::from(worker)).copied().unwrap_or_default();
        WorkerStats { id: worker, core, running: false, ..WorkerStats::default() }
    }

    fn gather_workers(&mut self, connection: u64, request: u64) -> Result<(), CommandError> {
        let gather = self.begin_gather(connection, request, self.mailboxes.len(), Some(Vec::new()));
        for index in 0..self.mailboxes.len() {
            let worker = index as WorkerId;
            let pending = Pending { connection, request, worker, then: Then::Gather(gather) };
            let command = Box::new(Command::Workers);
            if self.ask(pending, |token| ToWorker::Command { token, command }).is_err() {
                let stopped = self.stopped(worker);
                self.gather_stats(gather, vec![stopped]);
            }
        }
        Ok(())
    }

    fn gather_snapshot(&mut self, connection: u64, request: u64) -> Result<(), CommandError> {
        let routers: Vec<(Id, WorkerId)> = self
            .registry
            .of_kind(Kind::Router)
            .map(|(id, entry)| (id.clone(), entry.worker))
            .collect();
        if routers.is_empty() {
            let event_seq = self.event_seq.load(Ordering::SeqCst);
            self.respond(connection, request, Ok(Reply::Snapshot { event_seq }));
            return Ok(());
        }
        let gather = self.begin_gather(connection, request, routers.len(), None);
        for (router, worker) in routers {
            let pending = Pending { connection, request, worker, then: Then::Gather(gather) };
            let name = router.clone();
            if self.ask(pending, |token| ToWorker::States { token, router: name }).is_err() {
                self.gather_states(gather, &RouterStates::default());
            }
        }
        Ok(())
    }

    fn begin_gather(
        &mut self,
        connection: u64,
        request: u64,
        left: usize,
        workers: Option<Vec<WorkerStats>>,
    ) -> u64 {
        self.next_token += 1;
        let event_seq = self.event_seq.load(Ordering::SeqCst);
        let gather = Gather { connection, request, left, workers, event_seq };
        self.gathers.insert(self.next_token, gather);
        self.next_token
    }

    fn gather_stats(&mut self, id: u64, stats: Vec<WorkerStats>) {
        let Some(gather) = self.gathers.get_mut(&id) else { return };
        gather.left -= 1;
        if let Some(workers) = &mut gather.workers {
            workers.extend(stats);
        }
        self.end_gather(id);
    }

    fn gather_states(&mut self, id: u64, states: &RouterStates) {
        let Some(gather) = self.gathers.get_mut(&id) else { return };
        gather.left -= 1;
        let (connection, request) = (gather.connection, gather.request);
        let resources = self.resources(states);
        if let Some(controller) = self.controller.as_ref().filter(|c| c.id == connection) {
            for part in resources.chunks(100) {
                let part = SnapshotPart { resources: part.to_vec() };
                controller.send(FrameKind::SnapshotPart, request, &part);
            }
        }
        self.end_gather(id);
    }

    fn end_gather(&mut self, id: u64) {
        if self.gathers.get(&id).is_none_or(|gather| gather.left > 0) {
            return;
        }
        let Some(gather) = self.gathers.remove(&id) else { return };
        let reply = match gather.workers {
            Some(mut workers) => {
                workers.sort_by_key(|worker| worker.id);
                Reply::Workers(workers)
            }
            None => Reply::Snapshot { event_seq: gather.event_seq },
        };
        self.respond(gather.connection, gather.request, Ok(reply));
    }

    /// A room's resources, parents before children: what was created, with its state now.
    fn resources(&self, states: &RouterStates) -> Vec<Resource> {
        let mut resources = Vec::new();
        let router = self.registry.entry(Kind::Router, &states.router);
        let create = router.and_then(|entry| Some((entry.create.read().ok()?, entry.worker)));
        resources.extend(create.map(|(create, worker)| Resource::Router { create, worker }));
        for (id, state, credentials) in &states.transports {
            let Some(entry) = self.registry.entry(Kind::Transport, id) else { continue };
            let (Some(create), Some(mut created)) = (entry.create.read().ok(), entry.created())
            else {
                continue;
            };
            created.ice_parameters.username_fragment = credentials.username_fragment.clone();
            created.ice_parameters.password = credentials.password.clone();
            let connect = entry.connect.as_ref().and_then(|connect| connect.read().ok());
            let (create, created) = (Box::new(create), Box::new(created));
            let state = state.clone();
            resources.push(Resource::WebRtcTransport { create, created, connect, state });
        }
        for (id, state) in &states.producers {
            let entry = self.registry.entry(Kind::Producer, id);
            let create = entry.and_then(|entry| entry.create.read().ok());
            resources.extend(create.map(|create| Resource::Producer {
                create: Box::new(create),
                state: state.clone(),
            }));
        }
        for (id, state) in &states.consumers {
            let entry = self.registry.entry(Kind::Consumer, id);
            let create = entry.and_then(|entry| entry.create.read().ok());
            resources.extend(create.map(|create| Resource::Consumer {
                create: Box::new(create),
                state: state.clone(),
            }));
        }
        resources
    }

    fn dump(&mut self, connection: u64, request: u64, id: &str) -> Result<(), CommandError> {
        let kinds = [Kind::Consumer, Kind::Producer, Kind::Transport, Kind::Router];
        let found = kinds.into_iter().find(|kind| self.registry.entry(*kind, id).is_some());
        let kind = found.ok_or_else(|| {
            CommandError::new(ErrorCode::NotFound, format!("there is nothing called {id:?}"))
        })?;
        let worker = self.worker_of(kind, id)?;
        let router = self.registry.router_of(kind, id).unwrap_or_default();
        let pending =
            Pending { connection, request, worker, then: Then::Dump(kind, id.to_owned()) };
        self.ask(pending, |token| ToWorker::States { token, router })
    }

    fn answer_dump(
        &self,
        connection: u64,
        request: u64,
        kind: Kind,
        id: &str,
        states: &RouterStates,
    ) {
        let found = self.resources(states).into_iter().find(|resource| match resource {
            Resource::Router { create, .. } => kind == Kind::Router && create.id == id,
            Resource::WebRtcTransport { create, .. } => kind == Kind::Transport && create.id == id,
            Resource::Producer { create, .. } => kind == Kind::Producer && create.id == id,
            Resource::Consumer { create, .. } => kind == Kind::Consumer && create.id == id,
        });
        let reply = found
            .map(|resource| Reply::Resource(Box::new(resource)))
            .ok_or_else(|| CommandError::new(ErrorCode::NotFound, format!("{id:?} is gone")));
        self.respond(connection, request, reply);
    }
}

fn check_size(command: &Command) -> Result<(), CommandError> {
    let (note, id) = match command {
        Command::CreateRouter(create) => (create.note.len(), Some(&create.id)),
        Command::CreateWebRtcTransport(create) => (create.note.len(), Some(&create.id)),
        Command::ConnectTransport(connect) => (connect.note.len(), None),
        Command::Produce(create) => (create.note.len(), Some(&create.id)),
        Command::Consume(create) => (create.note.len(), Some(&create.id)),
        _ => (0, None),
    };
    let allowed = |one: char| one.is_ascii_alphanumeric() || "._:-".contains(one);
    if id.is_some_and(|id| id.is_empty() || id.len() > 64 || !id.chars().all(allowed)) {
        let message = "an id has 1 to 64 characters of A-Z a-z 0-9 . _ : -".to_owned();
        return Err(CommandError::new(ErrorCode::Invalid, message));
    }
    if note > MAX_NOTE_BYTES {
        let message = format!("a note of {note} bytes: at most {MAX_NOTE_BYTES} are kept");
        return Err(CommandError::new(ErrorCode::TooLarge, message));
    }
    Ok(())
}
