//! Coming and going: rooms made, joined, left, lost and emptied.

use std::sync::Arc;
use std::time::Duration;

use ironcast_api::{AppData, Id};
use serde_json::{Map, Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::failure::Failure;
use crate::payload::{CreateRoom, Goodbye, JoinRoom, parse};
use crate::rooms::{Arrival, RouterSlot, Seat, fresh_id};

/// Keys of the note that we keep on our routers.
pub(crate) const NOTE_INSTANCE: &str = "signaling";
const NOTE_ROOM: &str = "roomId";

impl Service {
    pub(super) fn create_room(self: &Arc<Self>, payload: Value) -> Result<Value, Failure> {
        let wanted: CreateRoom = parse(payload)?;
        let room_id = wanted.room_id.unwrap_or_else(fresh_id);
        let arrivals = self.rooms().open(&room_id, self.settings.rooms_max)?.arrivals;
        self.close_room_later(room_id.clone(), arrivals, self.settings.unjoined_room_grace);
        Ok(json!({ "roomId": room_id }))
    }

    pub(super) async fn join_room(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: JoinRoom = parse(payload)?;
        let here = self.rooms().seat(socket).ok();
        if let Some(seat) = here {
            if seat.room_id == wanted.room_id {
                return self.answer_joined(&seat, true).await;
            }
            self.remove(&seat, "left");
        }
        // The router comes first: nobody is shown in a room that cannot carry media.
        let router = {
            let mut rooms = self.rooms();
            let room = rooms.open(&wanted.room_id, self.settings.rooms_max)?;
            room.arrivals += 1;
            Arc::clone(&room.router)
        };
        if let Err(failure) = self.router_of(&router, &wanted.room_id).await {
            self.close_room_if_empty(&wanted.room_id);
            return Err(failure);
        }
        let joined = {
            let mut rooms = self.rooms();
            rooms.open(&wanted.room_id, self.settings.rooms_max)?;
            rooms.join(
                socket,
                Arrival {
                    room_id: &wanted.room_id,
                    participant_id: wanted.participant_id.as_ref(),
                    name: wanted.name.as_deref(),
                    resume_token: wanted.resume_token.as_deref(),
                    participants_max: self.settings.participants_per_room_max,
                },
            )?
        };
        if let Some(old) = joined.replaced {
            self.outbox.close(old);
        }
        if !joined.resumed {
            self.tell_arrival(&joined.seat);
        }
        self.answer_joined(&joined.seat, joined.resumed).await
    }

    async fn answer_joined(&self, seat: &Seat, resumed: bool) -> Result<Value, Failure> {
        let router = self.rooms().router(seat)?;
        let capabilities = self.router_of(&router, &seat.room_id).await?;
        let rooms = self.rooms();
        Ok(json!({
            "roomId": seat.room_id,
            "participantId": seat.participant_id,
            "resumeToken": rooms.participant(seat)?.resume_token,
            "resumed": resumed,
            "mode": "sfu",
            "participants": rooms.participants_for(&seat.room_id, &seat.participant_id),
            "producers": rooms.producers_for(&seat.room_id, &seat.participant_id),
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

    fn router_note(&self, room_id: &Id) -> AppData {
        let mut note = Map::new();
        note.insert(NOTE_INSTANCE.to_owned(), json!(self.settings.instance));
        note.insert(NOTE_ROOM.to_owned(), json!(room_id));
        AppData::new(note).unwrap_or_default()
    }

    pub(super) fn leave_room(self: &Arc<Self>, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms().seat(socket)?;
        self.remove(&seat, "left");
        Ok(json!({}))
    }

    /// A page says goodbye over HTTP while it unloads.
    pub fn goodbye(self: &Arc<Self>, payload: Value) -> Result<(), Failure> {
        let goodbye: Goodbye = parse(payload)?;
        let seat = self
            .rooms()
            .seat_of_token(&goodbye.room_id, &goodbye.resume_token)
            .ok_or_else(Failure::not_in_room)?;
        self.remove(&seat, "left");
        Ok(())
    }

    /// A socket is gone. Its participant stays for the reconnect window, with all his media.
    pub fn lose_socket(self: &Arc<Self>, socket: Sid) {
        let Some((seat, sockets_seen)) = self.rooms().lose_socket(socket) else { return };
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(service.settings.reconnect_window).await;
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
            self.tell_departure(&rooms, &departed, reason);
            departed
        };
        if departed.router.capabilities.initialized() {
            self.free_participant(departed.router.id.clone(), departed.seat.participant_id.clone());
        }
        if let Some(arrivals) = departed.room_empty {
            let grace = self.settings.empty_room_grace;
            self.close_room_later(departed.seat.room_id, arrivals, grace);
        }
    }

    fn close_room_later(self: &Arc<Self>, room_id: Id, arrivals: u64, grace: Duration) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(grace).await;
            let router = service.rooms().close_if_empty(&room_id, arrivals);
            if let Some(router) = router {
                service.delete_router_id(router.id.clone());
            }
        });
    }

    fn close_room_if_empty(self: &Arc<Self>, room_id: &Id) {
        let router = {
            let mut rooms = self.rooms();
            let Some(arrivals) = rooms.room(room_id).map(|room| room.arrivals) else { return };
            rooms.close_if_empty(room_id, arrivals)
        };
        if let Some(router) = router {
            self.delete_router_id(router.id.clone());
        }
    }

    /// Closes all transports of a participant at the media server.
    pub(crate) fn free_participant(self: &Arc<Self>, router_id: Id, participant_id: Id) {
        self.clean_up("participant", move |media| {
            let (router_id, participant_id) = (router_id.clone(), participant_id.clone());
            async move { media.leave(router_id, participant_id).await }
        });
    }

    /// Also when its creation failed: the request may have arrived, and only its answer was lost.
    pub(crate) fn delete_router_id(self: &Arc<Self>, router_id: Id) {
        self.clean_up("router", move |media| {
            let router_id = router_id.clone();
            async move { media.delete_router(router_id).await }
        });
    }

    /// A room whose router is gone: its browsers are told to join again, which makes a new one.
    pub(crate) fn close_dead_room(&self, room_id: &Id) {
        let sockets = self.rooms().close(room_id);
        tracing::warn!(%room_id, sockets = sockets.len(), "the room's router is gone");
        for socket in sockets {
            self.tell_rejoin(socket, "the media server lost this room; join again");
        }
    }

    /// The service stops: browsers are told, and nothing is left behind at the media server.
    pub async fn stop(&self) {
        let (sockets, routers) = {
            let mut rooms = self.rooms();
            let all: Vec<_> =
                rooms.all().map(|(id, room)| (id.clone(), room.router.id.clone())).collect();
            // Forgotten first: what is deleted on purpose is no news to anybody.
            let sockets: Vec<_> = all.iter().flat_map(|(id, _)| rooms.close(id)).collect();
            (sockets, all.into_iter().map(|(_, router_id)| router_id))
        };
        for socket in sockets {
            self.outbox.emit(socket, "server-draining", &json!({}));
        }
        let deletions = routers.map(|id| self.media.delete_router(id));
        futures::future::join_all(deletions).await;
    }
}
