//! What browsers are told without having asked. Every notice leaves while the rooms are locked,
//! or right after the change that it reports, so that all see changes in one order.

use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::rooms::{Departed, Producer, Rooms, Seat};

impl Service {
    /// To all of a room but one participant.
    fn tell_others(&self, rooms: &Rooms, seat: &Seat, event: &str, payload: &Value) {
        for (_, socket) in rooms.sockets_but(&seat.room_id, Some(&seat.participant_id)) {
            self.outbox.emit(socket, event, payload);
        }
    }

    /// The list of what there is to receive changed: each browser gets it without its own.
    fn tell_producers(&self, rooms: &Rooms, seat: &Seat) {
        for (viewer, socket) in rooms.sockets_but(&seat.room_id, Some(&seat.participant_id)) {
            let producers = rooms.producers_for(&seat.room_id, &viewer);
            self.outbox.emit(socket, "roomProducersChanged", &json!({ "producers": producers }));
        }
    }

    pub(super) fn tell_arrival(&self, seat: &Seat) {
        let rooms = self.rooms();
        let Ok(participant) = rooms.participant(seat) else { return };
        let payload = json!({ "participantId": seat.participant_id, "name": participant.name });
        for event in ["call:participant-joined", "user_joined"] {
            self.tell_others(&rooms, seat, event, &payload);
        }
    }

    pub(super) fn tell_departure(&self, rooms: &Rooms, departed: &Departed, reason: &str) {
        let seat = &departed.seat;
        self.tell_closed(rooms, seat, &departed.producer_ids);
        let payload = json!({ "participantId": seat.participant_id, "reason": reason });
        for event in ["call:participant-left", "user_left"] {
            self.tell_others(rooms, seat, event, &payload);
        }
    }

    pub(super) fn tell_new_producer(
        &self,
        rooms: &Rooms,
        seat: &Seat,
        id: &Id,
        producer: &Producer,
    ) {
        let payload = json!({
            "producerId": id,
            "participantId": seat.participant_id,
            "kind": producer.kind,
            "paused": producer.paused,
            "appData": producer.app_data,
        });
        self.tell_others(rooms, seat, "new-producer", &payload);
        self.tell_producers(rooms, seat);
    }

    /// These producers of a participant are gone.
    pub(crate) fn tell_closed(&self, rooms: &Rooms, seat: &Seat, producer_ids: &[Id]) {
        for id in producer_ids {
            let payload = json!({ "producerId": id, "participantId": seat.participant_id });
            self.tell_others(rooms, seat, "producer-closed", &payload);
        }
        if !producer_ids.is_empty() {
            self.tell_producers(rooms, seat);
        }
    }

    pub(super) fn tell_paused(&self, rooms: &Rooms, seat: &Seat, id: &Id, paused: bool) {
        let event = if paused { "producer-paused" } else { "producer-resumed" };
        let payload = json!({ "producerId": id, "participantId": seat.participant_id });
        self.tell_others(rooms, seat, event, &payload);
        self.tell_producers(rooms, seat);
    }

    /// To one participant, if his socket is there.
    pub(crate) fn tell(&self, rooms: &Rooms, seat: &Seat, event: &str, payload: &Value) {
        if let Some(socket) = rooms.participant(seat).ok().and_then(|p| p.socket) {
            self.outbox.emit(socket, event, payload);
        }
    }

    /// The socket's media is lost: the page joins again by itself.
    pub(crate) fn tell_rejoin(&self, socket: Sid, message: &str) {
        let payload = json!({
            "code": "media_unavailable",
            "message": message,
            "event": null,
            "rejoin": true,
        });
        self.outbox.emit(socket, "error", &payload);
    }
}
