//! The whole state, for a control plane that (re-)attaches, and one resource of it. The hub knows
//! what was created; what changes is asked of the workers, in portions: the next is asked for when
//! the last one is answered and the control plane has read most of what it was sent.
//!
//! ```text
//! registry: [ routers | transports | producers | consumers | observers ]   parents before children
//!                        ^ cursor: 256 names at a time -> their workers -> parts -> connection
//! ```
//! Complete or an error, never less: whatever cannot be asked or sent ends the snapshot. What is on a
//! worker that does not answer now is in it all the same, in the state in which it was made
//! (`presumed.rs`): that it exists is known here.

use std::collections::BTreeMap;
use std::sync::{Arc, atomic::Ordering};

use ironcast_core::figures::ResourceState;
use ironcast_protocol::{
    CommandError, ErrorCode, FrameKind, Reply, WorkerId,
    command::{Dump, TransportCreated},
    snapshot::{Resource, ResourceCounts, ResourceKind as Kind, SnapshotPart},
};

use super::{Hub, Pending, Then};
use crate::{
    messages::{Answer, ToWorker},
    registry::Name,
};

/// Resources that are asked for at once: a worker answers within a fraction of a millisecond.
const NAMES_AT_ONCE: usize = 256;
/// The same of observers: each may name two thousand producers.
const OBSERVERS_AT_ONCE: usize = 8;

/// A snapshot that is being made.
pub(super) struct Snapshot {
    connection: u64,
    request: u64,
    event_seq: u64,
    /// The last name that was asked for.
    cursor: Option<Name>,
    /// Workers that have not answered yet.
    left: usize,
    counts: ResourceCounts,
}

impl Snapshot {
    pub(super) fn is_of(&self, connection: u64, request: u64) -> bool {
        (self.connection, self.request) == (connection, request)
    }
}

impl Hub {
    pub(super) fn begin_snapshot(
        &mut self,
        connection: u64,
        request: u64,
    ) -> Result<(), CommandError> {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.connection == connection) {
            let message = "a snapshot is on its way already";
            return Err(CommandError::new(ErrorCode::NoCapacity, message));
        }
        let event_seq = self.parts.event_seq.load(Ordering::SeqCst);
        let (cursor, counts) = (None, ResourceCounts::default());
        self.snapshot = Some(Snapshot { connection, request, event_seq, cursor, left: 0, counts });
        self.continue_snapshot();
        Ok(())
    }

    /// The control plane has read most of what it was sent.
    pub(super) fn resume_snapshot(&mut self, connection: u64) {
        let waits = |snapshot: &Snapshot| snapshot.connection == connection && snapshot.left == 0;
        if self.snapshot.as_ref().is_some_and(waits) {
            self.continue_snapshot();
        }
    }

    /// Asks for the next portion, or ends.
    fn continue_snapshot(&mut self) {
        while self.ask_portion() {}
    }

    /// True: nobody is left who could answer, and the next portion is to be asked for.
    fn ask_portion(&mut self) -> bool {
        let Some(snapshot) = &mut self.snapshot else { return false };
        let connection = snapshot.connection;
        let controller = self.controller.as_ref().filter(|c| c.id == connection);
        let Some(controller) = controller else {
            self.snapshot = None;
            return false;
        };
        // Where it is behind, `Drained` says when to go on.
        if controller.is_behind() {
            return false;
        }
        let mut names = self.registry.after(snapshot.cursor.as_ref(), NAMES_AT_ONCE);
        // Of one kind: workers answer in any order, and what a room has on one may belong to what it has
        // on another.
        if let Some(((kind, _), _)) = names.first() {
            let kind = *kind;
            let most = if kind == Kind::Observer { OBSERVERS_AT_ONCE } else { NAMES_AT_ONCE };
            let same = names.iter().take(most).take_while(|((of, _), _)| *of == kind);
            names.truncate(same.count());
        }
        let Some((last, _)) = names.last() else {
            let reply =
                Reply::Snapshot { event_seq: snapshot.event_seq, counts: Some(snapshot.counts) };
            self.end_snapshot(Ok(reply));
            return false;
        };
        snapshot.cursor = Some(last.clone());
        let request = snapshot.request;
        let mut by_worker: BTreeMap<WorkerId, Vec<Name>> = BTreeMap::new();
        for (name, worker) in names {
            by_worker.entry(worker).or_default().push(name);
        }
        // We count too, until all are asked.
        snapshot.left = by_worker.len() + 1;
        for (worker, names) in by_worker {
            let asked: Arc<[Name]> = names.as_slice().into();
            let then = Then::Snapshot(Arc::clone(&asked));
            let pending = Pending { connection, request, worker, then };
            if let Err(error) = self.ask_states(pending, names) {
                self.receive_states(connection, request, &asked, Err(error));
            }
        }
        let Some(snapshot) = &mut self.snapshot else { return false };
        snapshot.left -= 1;
        snapshot.left == 0
    }

    fn ask_states(&mut self, pending: Pending, names: Vec<Name>) -> Result<(), CommandError> {
        self.next_token += 1;
        let token = self.next_token;
        self.ask(token, pending, ToWorker::States { token, names })
    }

    pub(super) fn receive_states(
        &mut self,
        connection: u64,
        request: u64,
        names: &[Name],
        answer: Result<Answer, CommandError>,
    ) {
        let ours = self.snapshot.as_mut().filter(|one| one.is_of(connection, request));
        let Some(snapshot) = ours else { return };
        snapshot.left -= 1;
        let ended = snapshot.left == 0;
        // A worker that died has taken its resources along; the event says so. Of a stuck one, a new
        // snapshot tells more when it moves.
        let states = match answer {
            Ok(Answer::States(states)) => states,
            Ok(Answer::Reply(_)) => {
                let error = CommandError::new(ErrorCode::Internal, "not what was asked for");
                return self.end_snapshot(Err(error));
            }
            Err(error) if error.code == ErrorCode::WorkerUnavailable => self.presumed(names),
            Err(error) => return self.end_snapshot(Err(error)),
        };
        let mut resources = Vec::with_capacity(states.len());
        for (name, state) in states {
            resources.extend(self.resource(&name, state));
        }
        if let Err(error) = self.send_part(connection, request, resources) {
            return self.end_snapshot(Err(error));
        }
        if ended {
            self.continue_snapshot();
        }
    }

    /// As many frames as it takes.
    fn send_part(
        &mut self,
        connection: u64,
        request: u64,
        mut resources: Vec<Resource>,
    ) -> Result<(), CommandError> {
        if resources.is_empty() {
            return Ok(());
        }
        let Some(controller) = self.controller.as_ref().filter(|c| c.id == connection) else {
            return Ok(());
        };
        let part = SnapshotPart { resources };
        if controller.send(FrameKind::SnapshotPart, request, &part) {
            if let Some(snapshot) = &mut self.snapshot {
                part.resources.iter().for_each(|one| snapshot.counts.count(one.kind()));
            }
            return Ok(());
        }
        resources = part.resources;
        if resources.len() == 1 {
            let message = "a resource fits into no frame: this state cannot be described";
            return Err(CommandError::new(ErrorCode::TooLarge, message));
        }
        let rest = resources.split_off(resources.len() / 2);
        self.send_part(connection, request, resources)?;
        self.send_part(connection, request, rest)
    }

    fn end_snapshot(&mut self, reply: Result<Reply, CommandError>) {
        let Some(snapshot) = self.snapshot.take() else { return };
        if let Err(error) = &reply {
            tracing::warn!(%error, "a snapshot was given up");
        }
        self.respond(snapshot.connection, snapshot.request, reply);
    }

    /// What was created, with its state now. `None`: it is not complete yet, or gone.
    fn resource(&self, (kind, id): &Name, state: ResourceState) -> Option<Resource> {
        let entry = self.registry.entry(*kind, id)?;
        Some(match state {
            ResourceState::Router => {
                Resource::Router { create: entry.create.read().ok()?, worker: entry.worker }
            }
            ResourceState::WebRtcTransport(state, credentials) => {
                let mut created = Box::new(entry.created::<TransportCreated>()?);
                created.ice_parameters.username_fragment = credentials.username_fragment;
                created.ice_parameters.password = credentials.password;
                let connect = entry.connect.as_ref().and_then(|connect| connect.read().ok());
                let create = entry.create.read().ok()?;
                Resource::WebRtcTransport { create, created, connect, state }
            }
            ResourceState::PlainTransport(state) => {
                let created = Box::new(entry.created()?);
                let connect = entry.connect.as_ref().and_then(|connect| connect.read().ok());
                let create = entry.create.read().ok()?;
                Resource::PlainTransport { create, created, connect, state }
            }
            ResourceState::Hop => {
                let connect = entry.connect.as_ref().and_then(|connect| connect.read().ok());
                let create = entry.create.read().ok()?;
                Resource::Hop { create, created: entry.created()?, connect }
            }
            ResourceState::Producer(state) => {
                Resource::Producer { create: entry.create.read().ok()?, state }
            }
            ResourceState::Consumer(state) => {
                Resource::Consumer { create: entry.create.read().ok()?, state }
            }
            ResourceState::Observer(state) => {
                Resource::Observer { create: entry.create.read().ok()?, state }
            }
        })
    }

    /// One resource, as in the snapshot.
    pub(super) fn dump(
        &mut self,
        connection: u64,
        request: u64,
        dump: &Dump,
    ) -> Result<(), CommandError> {
        let all = [Kind::Observer, Kind::Consumer, Kind::Producer, Kind::Transport, Kind::Router];
        let kinds = dump.kind.as_ref().map_or(&all[..], std::slice::from_ref);
        let found = kinds.iter().find(|kind| self.registry.entry(**kind, &dump.id).is_some());
        let Some(&kind) = found else {
            let what = dump.kind.map_or("resource", Kind::as_str);
            let message = format!("there is no {what} {:?}", dump.id);
            return Err(CommandError::new(ErrorCode::NotFound, message));
        };
        let worker = self.named(kind, &dump.id)?.worker;
        let name = (kind, dump.id.clone());
        let then = Then::Dump(name.clone());
        self.ask_states(Pending { connection, request, worker, then }, vec![name])
    }

    pub(super) fn describe(
        &self,
        name: &Name,
        answer: Result<Answer, CommandError>,
    ) -> Result<Reply, CommandError> {
        let Answer::States(states) = answer? else {
            return Err(CommandError::new(ErrorCode::Internal, "not what was asked for"));
        };
        let state = states.into_iter().find(|(found, _)| found == name);
        let resource = state.and_then(|(_, state)| self.resource(name, state));
        resource
            .map(|resource| Reply::Resource(Box::new(resource)))
            .ok_or_else(|| CommandError::new(ErrorCode::NotFound, format!("{:?} is gone", name.1)))
    }
}
