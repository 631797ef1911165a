//! A room while it is locked: every change of who is in it and of what he owns, with the index of
//! ids kept in step. Nothing here walks through what others own: a departure costs what the
//! departing one had. It sends nothing, asks nothing, and knows no time.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};

use ironcast_api::Id;
use socketioxide::socket::Sid;

use super::people::{Arrival, Departed, Joined, Participant, Producer};
use super::{Cell, Directory, Pipe, Room, RouterSlot, Seat, fresh_id, once_only};
use crate::events::Direction;
use crate::failure::Failure;

/// A room that nobody else changes meanwhile.
pub struct Locked<'a> {
    cell: &'a Arc<Cell>,
    room: MutexGuard<'a, Room>,
}

impl Deref for Locked<'_> {
    type Target = Room;

    fn deref(&self) -> &Room {
        &self.room
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Room {
        &mut self.room
    }
}

impl<'a> Locked<'a> {
    pub(super) fn new(cell: &'a Arc<Cell>) -> Self {
        let room = cell.room.lock().expect("nobody panics while holding a room");
        Self { cell, room }
    }

    /// The room as others keep it.
    pub fn cell(&self) -> &'a Arc<Cell> {
        self.cell
    }

    fn directory(&self) -> &'a Directory {
        &self.cell.directory
    }

    /// The place of somebody in this room.
    pub fn seat_of(&self, participant_id: &Id, session: &Id) -> Seat {
        Seat {
            room: Arc::clone(self.cell),
            participant_id: participant_id.clone(),
            session: session.clone(),
        }
    }

    /// The place of a session in this room.
    pub fn seat_of_session(&self, session: &Id) -> Option<Seat> {
        let (id, _) = self.participants.iter().find(|(_, p)| p.session == *session)?;
        Some(self.seat_of(id, session))
    }

    /// Somebody is about to join: the room stays until `end_join`. Gives false if it is closed.
    pub fn begin_join(&mut self) -> bool {
        if self.is_closed {
            return false;
        }
        self.arrival = self.directory().next_arrival();
        self.joining += 1;
        true
    }

    /// He has joined, or has not. A room that nobody is in is removed: gives its router.
    pub fn end_join(&mut self) -> Option<Arc<RouterSlot>> {
        self.joining = self.joining.saturating_sub(1);
        let arrival = self.arrival;
        self.close_if_empty(arrival)
    }

    /// Removes the room if nobody came since `arrival`.
    pub fn close_if_empty(&mut self, arrival: u64) -> Option<Arc<RouterSlot>> {
        if !self.is_unused() || self.is_closed || self.arrival != arrival {
            return None;
        }
        self.close();
        Some(Arc::clone(&self.router))
    }

    /// Removes the room with everybody in it; gives the sockets to tell.
    pub fn close(&mut self) -> Vec<Sid> {
        self.is_closed = true;
        self.directory().remove(self.cell, self.routers().map(|router| &router.id));
        let people = std::mem::take(&mut self.participants);
        self.pipes.clear();
        people.values().filter_map(|participant| self.forget(participant)).collect()
    }

    /// Forgets what a participant owned, who is in no room any more; gives his socket.
    fn forget(&self, participant: &Participant) -> Option<Sid> {
        let directory = self.directory();
        if participant.is_here() {
            directory.participants.fetch_sub(1, Ordering::Relaxed);
        }
        directory.disown(participant.owned());
        let socket = participant.socket?;
        directory.seats().remove(&socket);
        Some(socket)
    }

    /// Seats a socket: a new participant, or the one whose session a resume token proved.
    pub fn join(&mut self, socket: Sid, who: &Arrival<'_>) -> Result<Joined, Failure> {
        if self.is_closed {
            return Err(Failure::new("media_unavailable", "this room was lost; try again"));
        }
        if let Some(seat) = who.session.and_then(|session| self.seat_of_session(session)) {
            return Ok(self.resume(socket, who, seat));
        }
        let taken = who.participant_id.and_then(|id| Some((id, self.participants.get(id)?)));
        let ousted = match taken {
            Some((id, there)) if there.gives_way_to(who) => Some(self.seat_of(id, &there.session)),
            Some((id, _)) => {
                let message = format!("a participant {id} is already in this room");
                return Err(Failure::new("already_exists", message));
            }
            None if self.participants.len() >= who.participants_max => {
                return Err(Failure::no_capacity("this room is full"));
            }
            None => None,
        };
        let ousted = ousted.and_then(|seat| self.leave(&seat));
        let version = ousted.as_ref().map_or(0, |ousted| ousted.version);
        let participant_id = who.participant_id.cloned().unwrap_or_else(fresh_id);
        let seat = self.seat_of(&participant_id, &once_only(&participant_id));
        let participant = Participant {
            name: who.name.unwrap_or("Guest").to_owned(),
            id_is_chosen: who.participant_id.is_some(),
            socket: Some(socket),
            p2p: who.p2p,
            version,
            ..Participant::away(seat.session.clone())
        };
        self.add_participant(&seat, participant);
        self.directory().seats().insert(socket, seat.clone());
        Ok(Joined { seat, resumed: false, replaced: None, ousted })
    }

    fn resume(&mut self, socket: Sid, who: &Arrival<'_>, seat: Seat) -> Joined {
        let participant = self.participants.get_mut(&seat.participant_id).expect("just found");
        let replaced = participant.socket.replace(socket).filter(|old| *old != socket);
        participant.sockets_seen += 1;
        if let Some(name) = who.name {
            participant.name = name.to_owned();
        }
        let mut seats = self.directory().seats();
        if let Some(old) = replaced {
            seats.remove(&old);
        }
        seats.insert(socket, seat.clone());
        Joined { seat, resumed: true, replaced, ousted: None }
    }

    /// Seats someone with all that he owns.
    pub fn add_participant(&mut self, seat: &Seat, participant: Participant) {
        self.directory().own(seat, participant.owned());
        if participant.is_here() {
            self.directory().participants.fetch_add(1, Ordering::Relaxed);
        }
        self.participants.insert(seat.participant_id.clone(), participant);
    }

    /// The same person is somewhere else, or here now: everything that is known of him is replaced.
    /// Gives the socket that he had here.
    pub fn replace_participant(&mut self, seat: &Seat, participant: Participant) -> Option<Sid> {
        let old = self.participants.remove(&seat.participant_id);
        if let Some(old) = &old {
            let is_kept = |id: &&Id| participant.producers.contains_key(*id);
            self.forget_pipes(old.producers.keys().filter(|id| !is_kept(id)));
        }
        let socket = old.and_then(|old| self.forget(&old));
        self.add_participant(seat, participant);
        socket
    }

    /// All nodes have agreed on the room's router.
    pub fn set_router(&mut self, router: Arc<RouterSlot>) {
        if self.router.id != router.id {
            self.replace_router(router);
        }
    }

    /// The same where nothing was asked of the router yet; gives whether that is so.
    pub fn take_unused_router(&mut self, router: Arc<RouterSlot>) -> bool {
        let is_unused = !self.router.is_made();
        if is_unused {
            self.set_router(router);
        }
        is_unused
    }

    /// The room is at another host, too.
    pub fn add_branch(&mut self, branch: Arc<RouterSlot>) {
        if self.is_closed || self.router_named(&branch.id).is_some() {
            return;
        }
        self.directory().routers().insert(branch.id.clone(), Arc::clone(self.cell));
        self.branches.push(branch);
    }

    /// It is not at that one any more.
    pub fn remove_branch(&mut self, id: &Id) -> Option<Arc<RouterSlot>> {
        let index = self.branches.iter().position(|branch| branch.id == *id)?;
        self.directory().routers().remove(id);
        self.forget_router(id);
        Some(self.branches.swap_remove(index))
    }

    /// The room's own router is lost and others are not: another one may be made in its place. Gives
    /// the lost one; those who were there still name it.
    pub fn lose_own_router(&mut self, next: Arc<RouterSlot>) -> Arc<RouterSlot> {
        let lost = self.replace_router(next);
        self.forget_router(&lost.id);
        for participant in self.room.participants.values_mut() {
            participant.branch.get_or_insert_with(|| Arc::clone(&lost));
        }
        lost
    }

    /// Nothing is piped to it any more, and nobody heard there.
    fn forget_router(&mut self, id: &Id) {
        self.pipes.values_mut().for_each(|pipes| drop(pipes.remove(id)));
        self.heard.remove(id);
    }

    /// Somebody's media is at one of the room's routers from now on.
    pub fn put_at(&mut self, seat: &Seat, router: &Arc<RouterSlot>) {
        let branch = (router.id != self.router.id).then(|| Arc::clone(router));
        if let Ok(participant) = self.participant_mut(seat) {
            participant.branch = branch;
        }
    }

    /// Somebody of this node has nothing at his router any more. Gives the producers that he had.
    pub fn lose_media(&mut self, seat: &Seat) -> Vec<Id> {
        let Ok(participant) = self.participant_mut(seat) else { return Vec::new() };
        let transports = std::mem::take(&mut participant.transports);
        self.directory().disown(transports.values());
        self.drop_carried(seat, Direction::Receive);
        self.drop_carried(seat, Direction::Send)
    }

    /// A track of this room is on its way to another of its routers. Not one that is gone by now.
    pub fn add_pipe(&mut self, producer: &Id, router: &Id, pipe: Pipe) -> Result<(), Failure> {
        let is_here = self.owner(producer).is_some() && self.router_named(router).is_some();
        if self.is_closed || !is_here {
            return Err(Failure::not_found("producer", producer));
        }
        self.pipes.entry(producer.clone()).or_default().insert(router.clone(), pipe);
        Ok(())
    }

    fn forget_pipes<'b>(&mut self, producers: impl IntoIterator<Item = &'b Id>) {
        producers.into_iter().for_each(|id| drop(self.pipes.remove(id)));
    }

    fn replace_router(&mut self, next: Arc<RouterSlot>) -> Arc<RouterSlot> {
        let mut routers = self.directory().routers();
        routers.remove(&self.router.id);
        routers.insert(next.id.clone(), Arc::clone(self.cell));
        drop(routers);
        std::mem::replace(&mut self.router, next)
    }

    /// Remembers a track of somebody at another node.
    pub fn add_copy(&mut self, seat: &Seat, id: &Id, new: Producer) {
        // He was looked up under the same lock.
        let _ = self.own_producer(seat, id, new);
    }

    /// A socket went away; its participant stays. Gives his `sockets_seen`, unless he has another
    /// one by now.
    pub(super) fn lose_socket(&mut self, seat: &Seat, socket: Sid) -> Option<u64> {
        let participant = self.participant_mut(seat).ok()?;
        if participant.socket != Some(socket) {
            return None;
        }
        participant.socket = None;
        Some(participant.sockets_seen)
    }

    /// Removes a participant with all that was his.
    pub fn leave(&mut self, seat: &Seat) -> Option<Departed> {
        self.participant(seat).ok()?;
        let participant = self.participants.remove(&seat.participant_id)?;
        let is_empty = self.people_here().next().is_none();
        let room_empty = is_empty.then_some(self.arrival);
        let socket = self.forget(&participant);
        self.forget_pipes(participant.producers.keys());
        Some(Departed {
            seat: seat.clone(),
            router: Arc::clone(self.router_of(&participant)),
            producer_ids: participant.producers.into_keys().collect(),
            socket,
            room_empty,
            place: participant.place,
            version: participant.version + 1,
        })
    }

    /// Why `id` is not among this participant's own.
    pub fn not_mine(&self, seat: &Seat, what: &str, id: &Id) -> Failure {
        match self.directory().owner(id) {
            Some(owner) if Arc::ptr_eq(&owner.room, &seat.room) && owner != *seat => {
                Failure::not_yours(what, id)
            }
            _ => Failure::not_found(what, id),
        }
    }

    /// Who in this room owns a transport, producer or consumer.
    pub fn owner(&self, id: &Id) -> Option<Seat> {
        self.directory().owner(id).filter(|owner| Arc::ptr_eq(&owner.room, self.cell))
    }

    /// A participant's transport: the one named, or the one of the direction.
    pub fn transport(
        &self,
        seat: &Seat,
        id: Option<&Id>,
        direction: Option<Direction>,
    ) -> Result<Id, Failure> {
        let participant = self.participant(seat)?;
        if let Some(id) = id {
            let own = participant.transports.values().find(|own| *own == id);
            return own.cloned().ok_or_else(|| self.not_mine(seat, "transport", id));
        }
        let direction = direction.ok_or_else(|| Failure::invalid("missing field `transportId`"))?;
        participant.transports.get(&direction).cloned().ok_or_else(|| {
            Failure::new("wrong_state", "create a transport for this direction first")
        })
    }

    /// Remembers a new transport; gives the one that it replaces.
    pub fn add_transport(
        &mut self,
        seat: &Seat,
        direction: Direction,
        id: &Id,
    ) -> Result<Option<Id>, Failure> {
        let old = self.participant_mut(seat)?.transports.insert(direction, id.clone());
        self.directory().own(seat, [id]);
        self.directory().disown(&old);
        Ok(old)
    }

    /// Remembers a new producer of a transport.
    pub fn add_producer(
        &mut self,
        seat: &Seat,
        transport: &Id,
        id: &Id,
        new: Producer,
    ) -> Result<(), Failure> {
        self.participant(seat)?.check_transport(transport)?;
        self.own_producer(seat, id, new)
    }

    fn own_producer(&mut self, seat: &Seat, id: &Id, new: Producer) -> Result<(), Failure> {
        self.participant_mut(seat)?.producers.insert(id.clone(), new);
        self.directory().own(seat, [id]);
        Ok(())
    }

    /// Remembers a new consumer of a transport.
    pub fn add_consumer(
        &mut self,
        seat: &Seat,
        transport: &Id,
        id: &Id,
        producer: &Id,
    ) -> Result<(), Failure> {
        let participant = self.participant_mut(seat)?;
        participant.check_transport(transport)?;
        participant.consumers.insert(id.clone(), producer.clone());
        self.directory().own(seat, [id]);
        Ok(())
    }

    /// Forgets a producer; tells whether it was there.
    pub fn remove_producer(&mut self, seat: &Seat, id: &Id) -> bool {
        let Ok(participant) = self.participant_mut(seat) else { return false };
        let was_there = participant.producers.remove(id).is_some();
        if was_there {
            self.directory().disown([id]);
            self.forget_pipes([id]);
        }
        was_there
    }

    /// Forgets a consumer; gives its producer.
    pub fn remove_consumer(&mut self, seat: &Seat, id: &Id) -> Option<Id> {
        let producer = self.participant_mut(seat).ok()?.consumers.remove(id)?;
        self.directory().disown([id]);
        Some(producer)
    }

    /// Forgets a transport and what it carried; gives the producers that went with it.
    pub fn remove_transport(&mut self, seat: &Seat, id: &Id) -> Vec<Id> {
        self.directory().disown([id]);
        let Ok(participant) = self.participant_mut(seat) else { return Vec::new() };
        let found = participant.transports.iter().find(|(_, own)| *own == id);
        let Some(direction) = found.map(|(direction, _)| *direction) else { return Vec::new() };
        participant.transports.remove(&direction);
        self.drop_carried(seat, direction)
    }

    /// Everybody talks directly from now on: what they had at the media server is forgotten. Gives
    /// its routers, its own one first; the next one has another id.
    pub fn leave_server(&mut self) -> Vec<Arc<RouterSlot>> {
        self.forget_media();
        let mut left = vec![self.replace_router(RouterSlot::new(&self.cell.id, self.router.host))];
        let branches: Vec<Id> = self.branches.iter().map(|branch| branch.id.clone()).collect();
        left.extend(branches.iter().filter_map(|id| self.remove_branch(id)));
        left
    }

    /// The same where other nodes use the routers, too: gives the sessions that had something there,
    /// and where.
    pub fn forget_media(&mut self) -> Vec<(Arc<RouterSlot>, Id)> {
        let directory = self.directory();
        let mut sessions = Vec::new();
        let own = Arc::clone(&self.room.router);
        for participant in self.room.participants.values_mut().filter(|one| one.is_here()) {
            directory.disown(participant.owned());
            let router = participant.branch.take().unwrap_or_else(|| Arc::clone(&own));
            if !participant.transports.is_empty() {
                sessions.push((router, participant.session.clone()));
            }
            participant.transports.clear();
            participant.producers.clear();
            participant.consumers.clear();
        }
        self.room.pipes.clear();
        self.room.heard.clear();
        self.room.speakers.clear();
        sessions
    }

    /// Forgets what a direction carried: the producers of a sending transport, the consumers of a
    /// receiving one. Gives the producers.
    pub fn drop_carried(&mut self, seat: &Seat, direction: Direction) -> Vec<Id> {
        let Ok(participant) = self.participant_mut(seat) else { return Vec::new() };
        let (producers, consumers) = match direction {
            Direction::Send => (std::mem::take(&mut participant.producers), BTreeMap::new()),
            Direction::Receive => (BTreeMap::new(), std::mem::take(&mut participant.consumers)),
        };
        self.directory().disown(producers.keys().chain(consumers.keys()));
        self.forget_pipes(producers.keys());
        producers.into_keys().collect()
    }
}
