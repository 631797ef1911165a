//! Coming and going: rooms made, joined, left, lost and emptied.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ironcast_api::Id;
use salvo::http::HeaderMap;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::branches::Choice;
use super::tell::speaking;
use super::{From, Service, Thing};
use crate::access::{Role, forbidden};
use crate::events::Direction;
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::payload::{CreateRoom, Goodbye, JoinRoom, parse};
use crate::rooms::mode::Mode;
use crate::rooms::{
    Arrival, Cell, Departed, Joined, Participant, Producer, RouterSlot, Seat, fresh_id,
};

/// Somebody is about to join a room. However that ends, also when his message is cut off, a room
/// that nobody is in afterwards is closed.
struct Visit {
    service: Arc<Service>,
    room: Arc<Cell>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let emptied = self.room.lock().end_join();
        if let Some(router) = emptied {
            self.service.close_shared(&self.room, router);
        }
    }
}

/// How far somebody is who joins.
enum Seating {
    /// He sits.
    Done(Box<Joined>),
    /// The router where he goes has to be made.
    Make(Arc<RouterSlot>),
    /// So has one at this host, where the room is not yet.
    Branch(HostId),
}

/// What nobody watches of an own producer.
fn unwatched((id, producer): (&Id, &Producer)) -> Value {
    json!({ "producerId": id, "encodings": producer.unwatched })
}

impl Service {
    pub(super) async fn create_room(
        self: &Arc<Self>,
        from: From,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: CreateRoom = parse(payload)?;
        if let Some(user) = self.user(from.socket) {
            user.check_room(wanted.room_id.as_ref())?;
        }
        self.wait_until_in_step().await?;
        let room_id = wanted.room_id.unwrap_or_else(fresh_id);
        let region = self.region_of(from.socket, wanted.region);
        let region = region.as_deref();
        // A timer for a room that is made, not for each time that somebody asks for it.
        if let Some((room, arrival)) = self.make_room_unless_there(from, &room_id, region)? {
            self.close_room_later(room, arrival, self.settings.unjoined_room_grace);
        }
        Ok(json!({ "roomId": room_id }))
    }

    fn make_room_unless_there(
        &self,
        from: From,
        room_id: &Id,
        region: Option<&str>,
    ) -> Result<Option<(Arc<Cell>, u64)>, Failure> {
        let may = || {
            self.addresses.make_room(from.address, Instant::now())?;
            self.place(room_id, region)
        };
        self.rooms.make(room_id, self.settings.rooms_max, may)
    }

    /// The media host of a new room.
    fn place(&self, room_id: &Id, region: Option<&str>) -> Result<HostId, Failure> {
        let placed = self.hosts.place(room_id, region, &[], Instant::now());
        let any = HostId::default();
        let placed = placed.and_then(|host| match self.host(host).is_away() {
            true => Err(Failure::media_unavailable()),
            false => Ok(host),
        });
        // Where people may talk directly it may never be needed; and other nodes may have the room.
        let is_needed = !self.settings.ways.p2p && !self.is_fleet();
        if is_needed { placed } else { Ok(placed.unwrap_or(any)) }
    }

    /// Until the rooms of the last start are taken over a room might be made twice.
    async fn wait_until_in_step(&self) -> Result<(), Failure> {
        let waiting = self.hosts.until_in_step();
        let waited = tokio::time::timeout(self.settings.media_patience, waiting).await;
        waited.unwrap_or_else(|_| Err(Failure::media_unavailable()))
    }

    pub(super) async fn join_room(
        self: &Arc<Self>,
        from: From,
        payload: Value,
    ) -> Result<Value, Failure> {
        let mut wanted: JoinRoom = parse(payload)?;
        let user = self.user(from.socket);
        if let Some(user) = &user {
            user.check_room(Some(&wanted.room_id))?;
            wanted.participant_id = Some(user.id.clone());
            wanted.name = user.name.clone().or(wanted.name);
            wanted.p2p &= user.role != Role::Viewer;
        }
        wanted.region = self.region_of(from.socket, wanted.region);
        let here = self.rooms.seat(from.socket).ok();
        let has_router = |seat: &&Seat| {
            let room = seat.room.lock();
            !room.participant(seat).is_ok_and(|participant| room.is_lost(participant))
        };
        let is_this = |seat: &&Seat| seat.room.id == wanted.room_id;
        if let Some(seat) = here.as_ref().filter(is_this).filter(has_router) {
            return self.answer_joined(seat, true).await;
        }
        self.addresses.join(from.address, Instant::now())?;
        self.wait_until_in_step().await?;
        if let Some(seat) = here {
            self.remove(&seat, "left");
        }
        let region = wanted.region.as_deref();
        let visit = self.visit(from, &wanted.room_id, region)?;
        self.open(&visit.room).await?;
        let token = wanted.resume_token.as_deref();
        let session = token.and_then(|token| self.settings.tokens.session(&wanted.room_id, token));
        // A resume token is good together with the token of the same person.
        let is_anothers = |session: &Id| {
            let seat = visit.room.lock().seat_of_session(session);
            let user = user.as_ref().map(|user| &user.id);
            seat.is_some_and(|seat| user.is_some_and(|user| *user != seat.participant_id))
        };
        if session.as_ref().is_some_and(is_anothers) {
            return Err(forbidden("this resume token is somebody else's"));
        }
        if let Some(session) = &session {
            self.bring_here(&visit.room, session).await?;
        }
        // The router comes first: nobody is shown in a room that cannot carry his media.
        let mut but = Vec::new();
        let joined = loop {
            match self.seat(from.socket, &wanted, session.as_ref(), &visit, &but)? {
                Seating::Done(joined) => break *joined,
                Seating::Make(router) => {
                    self.make_chosen(&visit.room, &router, region, &mut but).await?;
                }
                // The other nodes cannot be asked: it has to do without.
                Seating::Branch(host) if self.begin_branch(&visit.room, host).await.is_err() => {
                    but.push(host);
                }
                Seating::Branch(_) => {}
            }
        };
        drop(visit);
        if joined.resumed && self.role(from.socket) == Role::Viewer {
            self.silence(&joined.seat);
        }
        if let Some(old) = joined.replaced {
            self.outbox.close(old);
        }
        if let Some(ousted) = joined.ousted {
            self.clear_up_after(ousted);
        }
        self.tell_if_draining(from.socket, &joined.seat);
        self.tell_if_away(from.socket, &joined.seat);
        self.answer_joined(&joined.seat, joined.resumed).await
    }

    /// Who comes back as somebody who sends nothing does not go on with what he sent.
    pub(super) fn silence(self: &Arc<Self>, seat: &Seat) {
        let sending = {
            let mut room = seat.room.lock();
            let Ok(participant) = room.participant_mut(seat) else { return };
            participant.p2p = false;
            let sending = participant.transports.get(&Direction::Send).cloned();
            if let Some(id) = &sending {
                let producers = room.remove_transport(seat, id);
                self.tell_closed(&mut room, seat, &producers);
            }
            self.note_changed(&mut room, seat);
            self.look_at_ways(&mut room);
            sending.map(|id| (room.router_at(seat).host, id))
        };
        if let Some((host, id)) = sending {
            self.free(host, Thing::Transport, id);
        }
    }

    /// The room is made if it is not there. One that closes in this moment is made anew.
    fn visit(
        self: &Arc<Self>,
        from: From,
        room_id: &Id,
        region: Option<&str>,
    ) -> Result<Visit, Failure> {
        loop {
            self.make_room_unless_there(from, room_id, region)?;
            let Some(room) = self.rooms.room(room_id) else { continue };
            let begun = room.lock().begin_join();
            if begun {
                return Ok(Visit { service: Arc::clone(self), room });
            }
        }
    }

    /// Gives a socket its place, and tells the others. Not yet if the router where he goes is not made.
    fn seat(
        self: &Arc<Self>,
        socket: Sid,
        wanted: &JoinRoom,
        session: Option<&Id>,
        visit: &Visit,
        but: &[HostId],
    ) -> Result<Seating, Failure> {
        let mut room = visit.room.lock();
        // Who has gone while he waited would stay in the room for ever. Whoever goes from now on is
        // lost by the end of his queue, which this message holds up.
        if !self.outbox.is_open(socket) && !self.callers.has(socket) {
            return Err(Failure::not_in_room());
        }
        // Who is still at another node could not be brought here: he comes as somebody new.
        let session = session.filter(|session| {
            let seat = room.seat_of_session(session);
            seat.is_none_or(|seat| room.participant(&seat).is_ok_and(Participant::is_here))
        });
        let known = session.and_then(|session| room.seat_of_session(session));
        let way = match &known {
            Some(seat) => room.ways.of(&seat.session),
            None => self.way_of_newcomer(&room, wanted.p2p)?,
        };
        // Where he was, if that is still there.
        let kept = known.as_ref().and_then(|seat| {
            let is_lost = room.participant(seat).is_ok_and(|one| room.is_lost(one));
            (!is_lost).then(|| Arc::clone(room.router_at(seat)))
        });
        let is_placed = kept.is_some();
        let router = match kept {
            _ if way != Mode::Sfu => None,
            Some(router) => Some(router),
            None => match self.choose(&room, wanted.region.as_deref(), but) {
                Choice::There(router) => Some(router),
                Choice::AnotherAt(host) => return Ok(Seating::Branch(host)),
            },
        };
        if let Some(router) = router.as_ref().filter(|router| !router.is_made()) {
            return Ok(Seating::Make(Arc::clone(router)));
        }
        let joined = room.join(
            socket,
            &Arrival {
                participant_id: wanted.participant_id.as_ref(),
                name: wanted.name.as_deref(),
                shows_token: wanted.resume_token.is_some(),
                session,
                p2p: wanted.p2p,
                participants_max: self.settings.participants_per_room_max,
            },
        )?;
        if let Some(router) = router.filter(|_| !is_placed) {
            if joined.resumed {
                let producers = room.lose_media(&joined.seat);
                self.tell_closed(&mut room, &joined.seat, &producers);
            }
            room.put_at(&joined.seat, &router);
        }
        if let Some(ousted) = &joined.ousted {
            self.tell_departure(&mut room, ousted, "replaced");
        }
        if !joined.resumed {
            self.tell_arrival(&room, &joined.seat);
            let (session, is_first) = (&joined.seat.session, room.people_here().count() == 1);
            room.ways.arrive(&self.settings.ways, session, way, is_first, Instant::now());
            if is_first {
                self.note_mode(&room, way);
            }
            self.note_joined(&mut room, &joined.seat);
        } else {
            self.note_changed(&mut room, &joined.seat);
            self.note_here(&room, &joined.seat);
        }
        self.look_at_ways(&mut room);
        Ok(Seating::Done(Box::new(joined)))
    }

    async fn answer_joined(&self, seat: &Seat, resumed: bool) -> Result<Value, Failure> {
        let router = {
            let room = seat.room.lock();
            (room.ways.of(&seat.session) == Mode::Sfu).then(|| Arc::clone(room.router_at(seat)))
        };
        let capabilities = match &router {
            Some(router) => Some(self.router_of(router, &seat.room.id).await?),
            None => None,
        };
        let room = seat.room.lock();
        let own = room.participant(seat)?;
        let mut answer = json!({
            "roomId": seat.room.id,
            "participantId": seat.participant_id,
            "resumeToken": self.settings.tokens.issue(&seat.room.id, &seat.session),
            "resumed": resumed,
            // What is still there of his own: some may have been lost while he was away.
            "transportIds": own.transports.values().collect::<Vec<_>>(),
            "producerIds": own.producers.keys().collect::<Vec<_>>(),
            "unwatched": own.producers.iter().map(unwatched).collect::<Vec<_>>(),
            "mode": room.ways.of(&seat.session).name(),
            "participants": room.participants_for(&seat.participant_id),
            "producers": room.producers_for(&seat.participant_id),
            "speaking": speaking(&room.speakers),
            "broadcasts": self.broadcasts_of(&room),
            "iceServers": self.settings.ice_servers.of(&seat.session),
        });
        if let Some(capabilities) = capabilities {
            answer["rtpCapabilities"] = capabilities;
        }
        if let Some(user) = own.socket.and_then(|socket| self.user(socket)) {
            answer["role"] = json!(user.role);
        }
        // A change that runs, and that he may have missed.
        if let Some(switch) = self.switch_for(&room, seat) {
            answer["modeSwitch"] = switch;
        }
        Ok(answer)
    }

    pub(super) async fn router_capabilities(&self, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms.seat(socket)?;
        Ok(json!({ "rtpCapabilities": self.capabilities_for(&seat).await? }))
    }

    async fn capabilities_for(&self, seat: &Seat) -> Result<Value, Failure> {
        let router = {
            let room = seat.room.lock();
            room.has_server()?;
            Arc::clone(room.router_at(seat))
        };
        self.router_of(&router, &seat.room.id).await
    }

    /// The router's capabilities; the first who asks makes the router, the others wait for him.
    pub(crate) async fn router_of(
        &self,
        slot: &RouterSlot,
        room_id: &Id,
    ) -> Result<Value, Failure> {
        let make = || async {
            let note = self.router_note(room_id);
            self.ask(slot.host, |media| media.create_router(slot.id.clone(), note.clone())).await
        };
        Ok(slot.capabilities.get_or_try_init(make).await?.clone())
    }

    pub(super) fn leave_room(self: &Arc<Self>, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms.seat(socket)?;
        self.remove(&seat, "left");
        Ok(json!({}))
    }

    /// A page says goodbye over HTTP while it unloads.
    pub fn goodbye(self: &Arc<Self>, headers: &HeaderMap, payload: Value) -> Result<(), Failure> {
        let goodbye: Goodbye = parse(payload)?;
        self.admit_request(headers, Some(&goodbye.room_id))?;
        let session = self.settings.tokens.session(&goodbye.room_id, &goodbye.resume_token);
        let room = session.and_then(|session| Some((self.rooms.room(&goodbye.room_id)?, session)));
        let seat = room
            .and_then(|(room, session)| room.lock().seat_of_session(&session))
            .ok_or_else(Failure::not_in_room)?;
        if seat.room.lock().participant(&seat).is_ok_and(Participant::is_here) {
            self.remove(&seat, "left");
        } else {
            self.remove_elsewhere(seat, "left");
        }
        Ok(())
    }

    /// A socket is gone. Its participant stays for the reconnect window, with all his media.
    pub fn lose_socket(self: &Arc<Self>, socket: Sid) {
        let Some((seat, sockets_seen)) = self.rooms.lose_socket(socket) else { return };
        if !self.stopping.load(Ordering::Relaxed) {
            self.note_lost(&mut seat.room.lock(), &seat, self.settings.reconnect_window);
            self.remove_unless_back(seat, sockets_seen, self.settings.reconnect_window);
        }
    }

    pub(super) fn remove_unless_back(
        self: &Arc<Self>,
        seat: Seat,
        sockets_seen: u64,
        window: Duration,
    ) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(window).await;
            let is_away = || seat.room.lock().is_still_away(&seat, sockets_seen);
            // He may have come back here while the other nodes were asked: then his place is told
            // again by the next look.
            let _leaving = service.leaving(&seat.session);
            if is_away() && service.is_gone(&seat).await && is_away() {
                service.remove(&seat, "disconnected");
            }
        });
    }

    /// Removes a participant: for the others at once, at the media server as soon as it answers.
    pub(crate) fn remove(self: &Arc<Self>, seat: &Seat, reason: &str) {
        let departed = {
            let mut room = seat.room.lock();
            let Some(departed) = room.leave(seat) else { return };
            if self.is_fleet() {
                room.note_left(&seat.session, departed.version, Instant::now());
            }
            self.tell_departure(&mut room, &departed, reason);
            self.look_at_ways(&mut room);
            departed
        };
        let departed = Departed { socket: None, ..departed };
        self.clear_up_after(departed);
    }

    /// What has to be done when somebody is out of his room; he keeps his socket unless it is
    /// given here.
    pub(super) fn clear_up_after(self: &Arc<Self>, departed: Departed) {
        if departed.router.is_made() {
            self.free_session(&departed.router, departed.seat.session.clone());
        }
        self.tend_branch(&departed.seat.room, &departed.router);
        if let Some(socket) = departed.socket {
            let told = Failure::new("already_exists", "you have joined from somewhere else");
            self.emit(socket, "error", &told.to_event(Some("joinRoom")));
            self.outbox.close(socket);
        }
        if let Some(arrival) = departed.room_empty {
            let grace = self.settings.empty_room_grace;
            self.close_room_later(departed.seat.room, arrival, grace);
        }
    }

    pub(super) fn close_room_later(
        self: &Arc<Self>,
        room: Arc<Cell>,
        arrival: u64,
        grace: Duration,
    ) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            let router = room.lock().close_if_empty(arrival);
            if let Some(router) = router {
                service.close_shared(&room, router);
            }
        });
    }

    /// A room whose router is gone: its browsers are told to join again, which makes a new one.
    pub(crate) fn close_dead_room(self: &Arc<Self>, room: &Arc<Cell>) {
        let (router, sockets) = {
            let mut room = room.lock();
            self.note_all_gone(&room);
            (Arc::clone(&room.router), room.close())
        };
        // Other nodes may be there; a fleet's last one frees them.
        if !self.is_fleet() {
            self.free_branches(room);
        }
        self.note_dead_router(&room.id, &router);
        tracing::warn!(router = %router.id, room_id = %room.id, sockets = sockets.len(), "the room's router is gone");
        for socket in sockets {
            self.tell_rejoin(socket, "the media server lost this room; join again");
        }
    }

    /// The service stops. Calls go on at the media server, and the next start takes them over;
    /// rooms that nobody is in are not left behind.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        for socket in self.rooms.sockets() {
            self.emit(socket, "server-draining", &json!({ "what": "signaling" }));
        }
        if let Some(fleet) = &self.fleet {
            tokio::join!(self.stop_serving(), self.broadcasts.stop_all());
            fleet.until_written().await;
            return;
        }
        let unused = |room: Arc<Cell>| {
            let room = room.lock();
            let is_unused = room.participants.is_empty();
            let routers = room.routers().filter(|router| is_unused && router.is_made());
            routers.cloned().collect::<Vec<_>>()
        };
        let unused = self.rooms.all().into_iter().flat_map(unused);
        let deletions = unused.map(|router| {
            let media = self.media(router.host);
            media.delete_router(router.id.clone())
        });
        tokio::join!(futures::future::join_all(deletions), self.broadcasts.stop_all());
    }
}
