//! Coming and going: rooms made, joined, left, lost and emptied.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::tell::speaking;
use super::{From, Service, Thing};
use crate::failure::Failure;
use crate::payload::{CreateRoom, Goodbye, JoinRoom, parse};
use crate::rooms::{Arrival, Departed, Joined, Producer, RouterSlot, Seat, fresh_id};

/// Somebody is about to join a room. However that ends, also when his message is cut off, a room
/// that nobody is in afterwards is closed.
struct Visit {
    service: Arc<Service>,
    room_id: Id,
    router: Arc<RouterSlot>,
}

impl Drop for Visit {
    fn drop(&mut self) {
        let emptied = self.service.rooms().end_join(&self.room_id, &self.router);
        if let Some(router) = emptied {
            // Also when its creation failed: the request may have arrived, and only its answer
            // was lost.
            self.service.free(Thing::Router, router.id.clone());
        }
    }
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
        self.wait_until_in_step().await?;
        let room_id = wanted.room_id.unwrap_or_else(fresh_id);
        // A timer for a room that is made, not for each time that somebody asks for it.
        if let Some(arrival) = self.make_room_unless_there(from, &room_id)? {
            self.close_room_later(room_id.clone(), arrival, self.settings.unjoined_room_grace);
        }
        Ok(json!({ "roomId": room_id }))
    }

    fn make_room_unless_there(&self, from: From, room_id: &Id) -> Result<Option<u64>, Failure> {
        let mut rooms = self.rooms();
        if rooms.room(room_id).is_some() {
            return Ok(None);
        }
        self.addresses.make_room(from.address, Instant::now())?;
        rooms.make(room_id, self.settings.rooms_max).map(Some)
    }

    /// Until the rooms of the last start are taken over a room might be made twice.
    async fn wait_until_in_step(&self) -> Result<(), Failure> {
        let mut in_step = self.in_step.subscribe();
        let waiting = in_step.wait_for(|in_step| *in_step);
        match tokio::time::timeout(self.settings.media_patience, waiting).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::new(
                "media_unavailable",
                "the media server does not answer; try again",
            )),
        }
    }

    pub(super) async fn join_room(
        self: &Arc<Self>,
        from: From,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: JoinRoom = parse(payload)?;
        let here = self.rooms().seat(from.socket).ok();
        if let Some(seat) = here.as_ref().filter(|seat| seat.room_id == wanted.room_id) {
            return self.answer_joined(seat, true).await;
        }
        self.addresses.join(from.address, Instant::now())?;
        self.wait_until_in_step().await?;
        if let Some(seat) = here {
            self.remove(&seat, "left");
        }
        // The router comes first: nobody is shown in a room that cannot carry media.
        self.make_room_unless_there(from, &wanted.room_id)?;
        let visit = self.visit(&wanted.room_id)?;
        self.router_of(&visit.router, &wanted.room_id).await?;
        let joined = self.seat(from.socket, &wanted, &visit.router)?;
        drop(visit);
        if let Some(old) = joined.replaced {
            self.outbox.close(old);
        }
        if let Some(ousted) = joined.ousted {
            self.clear_up_after(ousted);
        }
        self.tell_if_draining(from.socket);
        self.answer_joined(&joined.seat, joined.resumed).await
    }

    fn visit(self: &Arc<Self>, room_id: &Id) -> Result<Visit, Failure> {
        let router = self.rooms().begin_join(room_id)?;
        Ok(Visit { service: Arc::clone(self), room_id: room_id.clone(), router })
    }

    /// Gives a socket its place, and tells the others.
    fn seat(
        self: &Arc<Self>,
        socket: Sid,
        wanted: &JoinRoom,
        router: &Arc<RouterSlot>,
    ) -> Result<Joined, Failure> {
        let token = wanted.resume_token.as_deref();
        let session = token.and_then(|token| self.settings.tokens.session(&wanted.room_id, token));
        let mut rooms = self.rooms();
        // Who has gone while he waited would stay in the room for ever.
        if !self.outbox.is_open(socket) {
            return Err(Failure::not_in_room());
        }
        let joined = rooms.join(
            socket,
            &Arrival {
                room_id: &wanted.room_id,
                router,
                participant_id: wanted.participant_id.as_ref(),
                name: wanted.name.as_deref(),
                shows_token: token.is_some(),
                session: session.as_ref(),
                participants_max: self.settings.participants_per_room_max,
            },
        )?;
        if let Some(ousted) = &joined.ousted {
            self.tell_departure(&mut rooms, ousted, "replaced");
        }
        if !joined.resumed {
            self.tell_arrival(&rooms, &joined.seat);
        }
        Ok(joined)
    }

    async fn answer_joined(&self, seat: &Seat, resumed: bool) -> Result<Value, Failure> {
        let router = self.rooms().router(seat)?;
        let capabilities = self.router_of(&router, &seat.room_id).await?;
        let rooms = self.rooms();
        let own = rooms.participant(seat)?;
        Ok(json!({
            "roomId": seat.room_id,
            "participantId": seat.participant_id,
            "resumeToken": self.settings.tokens.issue(&seat.room_id, &seat.session),
            "resumed": resumed,
            // What is still there of his own: some may have been lost while he was away.
            "transportIds": own.transports.values().collect::<Vec<_>>(),
            "producerIds": own.producers.keys().collect::<Vec<_>>(),
            "unwatched": own.producers.iter().map(unwatched).collect::<Vec<_>>(),
            "mode": "sfu",
            "participants": rooms.participants_for(&seat.room_id, &seat.participant_id),
            "producers": rooms.producers_for(&seat.room_id, &seat.participant_id),
            "speaking": rooms.room(&seat.room_id).map(|room| speaking(&room.speakers)),
            "rtpCapabilities": capabilities,
            "iceServers": self.settings.ice_servers,
        }))
    }

    pub(super) async fn router_capabilities(&self, socket: Sid) -> Result<Value, Failure> {
        let (seat, router) = {
            let rooms = self.rooms();
            let seat = rooms.seat(socket)?;
            let router = rooms.router(&seat)?;
            (seat, router)
        };
        let capabilities = self.router_of(&router, &seat.room_id).await?;
        Ok(json!({ "rtpCapabilities": capabilities }))
    }

    /// The router's capabilities; the first who asks makes the router, the others wait for him.
    async fn router_of(&self, slot: &RouterSlot, room_id: &Id) -> Result<Value, Failure> {
        let make = || async {
            let note = self.router_note(room_id);
            self.ask(|| self.media.create_router(slot.id.clone(), note.clone())).await
        };
        Ok(slot.capabilities.get_or_try_init(make).await?.clone())
    }

    pub(super) fn leave_room(self: &Arc<Self>, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms().seat(socket)?;
        self.remove(&seat, "left");
        Ok(json!({}))
    }

    /// A page says goodbye over HTTP while it unloads.
    pub fn goodbye(self: &Arc<Self>, payload: Value) -> Result<(), Failure> {
        let goodbye: Goodbye = parse(payload)?;
        let session = self.settings.tokens.session(&goodbye.room_id, &goodbye.resume_token);
        let seat = session
            .and_then(|session| self.rooms().seat_of_session(&goodbye.room_id, &session))
            .ok_or_else(Failure::not_in_room)?;
        self.remove(&seat, "left");
        Ok(())
    }

    /// A socket is gone. Its participant stays for the reconnect window, with all his media.
    pub fn lose_socket(self: &Arc<Self>, socket: Sid) {
        let Some((seat, sockets_seen)) = self.rooms().lose_socket(socket) else { return };
        if !self.stopping.load(Ordering::Relaxed) {
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
            let gone = service.rooms().is_still_away(&seat, sockets_seen);
            if gone {
                service.remove(&seat, "disconnected");
            }
        });
    }

    /// Removes a participant: for the others at once, at the media server as soon as it answers.
    pub(crate) fn remove(self: &Arc<Self>, seat: &Seat, reason: &str) {
        let departed = {
            let mut rooms = self.rooms();
            let Some(departed) = rooms.leave(seat) else { return };
            self.tell_departure(&mut rooms, &departed, reason);
            departed
        };
        let departed = Departed { socket: None, ..departed };
        self.clear_up_after(departed);
    }

    /// What has to be done when somebody is out of his room; he keeps his socket unless it is
    /// given here.
    fn clear_up_after(self: &Arc<Self>, departed: Departed) {
        if departed.router.capabilities.initialized() {
            self.free_session(departed.router.id.clone(), departed.seat.session);
        }
        if let Some(socket) = departed.socket {
            let told = Failure::new("already_exists", "you have joined from somewhere else");
            self.emit(socket, "error", &told.to_event("joinRoom"));
            self.outbox.close(socket);
        }
        if let Some(arrival) = departed.room_empty {
            let grace = self.settings.empty_room_grace;
            self.close_room_later(departed.seat.room_id, arrival, grace);
        }
    }

    fn close_room_later(self: &Arc<Self>, room_id: Id, arrival: u64, grace: Duration) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            let router = service.rooms().close_if_empty(&room_id, arrival);
            if let Some(router) = router {
                service.free(Thing::Router, router.id.clone());
            }
        });
    }

    /// A room whose router is gone: its browsers are told to join again, which makes a new one.
    pub(crate) fn close_dead_room(&self, room_id: &Id) {
        let (router, sockets) = {
            let mut rooms = self.rooms();
            let router = rooms.room(room_id).map(|room| room.router.id.to_string());
            (router, rooms.close(room_id))
        };
        tracing::warn!(router, %room_id, sockets = sockets.len(), "the room's router is gone");
        for socket in sockets {
            self.tell_rejoin(socket, "the media server lost this room; join again");
        }
    }

    /// The service stops. Calls go on at the media server, and the next start takes them over;
    /// rooms that nobody is in are not left behind.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        let (sockets, empty) = {
            let rooms = self.rooms();
            let people = rooms.all().flat_map(|(_, room)| room.participants.values());
            let sockets: Vec<_> = people.filter_map(|participant| participant.socket).collect();
            let empty = rooms.all().filter(|(_, room)| room.participants.is_empty());
            let made = empty.filter(|(_, room)| room.router.capabilities.initialized());
            (sockets, made.map(|(_, room)| room.router.id.clone()).collect::<Vec<_>>())
        };
        for socket in sockets {
            self.emit(socket, "server-draining", &json!({ "what": "signaling" }));
        }
        let deletions = empty.into_iter().map(|id| self.media.delete_router(id));
        futures::future::join_all(deletions).await;
    }
}
