//! What browsers are told without having asked. Every notice leaves while the room is locked,
//! or right after the change that it reports, so that all see changes in one order.

use std::sync::Arc;
use std::time::Duration;

use ironcast_api::Id;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{Service, raw};
use crate::rooms::{Cell, Departed, DueList, Locked, Producer, Room, Seat};

/// Bytes of lists that a room is told in a second; above, its next list waits for longer. A large
/// room in which much changes must not fill everybody's line with lists.
const LIST_BYTES_PER_S: f64 = 16e6;

/// Turning cameras off would help everybody here.
const AUDIO_ONLY: &str = "recommend-audio-only";

impl Service {
    /// To all of a room but one participant.
    pub(super) fn tell_others(&self, room: &Room, seat: &Seat, event: &str, payload: &Value) {
        let payload = raw(payload);
        for (_, socket) in room.sockets_but(Some(&seat.participant_id)) {
            self.outbox.emit(socket, event, &payload);
        }
    }

    /// The list of what there is to receive changed. It is told a moment later, once for all that
    /// changes until then.
    pub(crate) fn tell_producers(self: &Arc<Self>, room: &mut Locked<'_>, seat: &Seat) {
        self.broadcasts.poke(&seat.room.id);
        if room.list_is_due(seat) {
            tokio::spawn(tell_lists(Arc::clone(self), Arc::clone(&seat.room)));
        }
    }

    /// Each browser gets the list without its own tracks; gives the bytes that were sent.
    fn tell_list(&self, list: &DueList) -> usize {
        let mut bytes = 0;
        let mut whole: Option<Box<RawValue>> = None;
        let senders: std::collections::BTreeSet<&Id> =
            list.entries.iter().map(|(owner, _)| owner).collect();
        for (viewer, socket) in &list.viewers {
            let own;
            let payload = if senders.contains(viewer) {
                own = list_without(list, Some(viewer));
                &own
            } else {
                whole.get_or_insert_with(|| list_without(list, None))
            };
            bytes += payload.get().len();
            self.outbox.emit(*socket, "roomProducersChanged", payload);
        }
        bytes
    }

    pub(super) fn tell_arrival(&self, room: &Room, seat: &Seat) {
        self.broadcasts.poke(&seat.room.id);
        let Ok(participant) = room.participant(seat) else { return };
        let payload = json!({ "participantId": seat.participant_id, "name": participant.name });
        for event in ["call:participant-joined", "user_joined"] {
            self.tell_others(room, seat, event, &payload);
        }
        self.tell_if_crowded(room, seat);
    }

    /// A room in which cameras are many: everybody is told once when it grows beyond that, and then
    /// whoever comes.
    fn tell_if_crowded(&self, room: &Room, newcomer: &Seat) {
        let (people, enough) = (room.participants.len(), self.settings.audio_only_above);
        if enough == 0 || people <= enough {
            return;
        }
        let payload = json!({ "participants": people });
        self.tell(room, newcomer, AUDIO_ONLY, &payload);
        if people == enough + 1 {
            self.tell_others(room, newcomer, AUDIO_ONLY, &payload);
        }
    }

    pub(super) fn tell_departure(
        self: &Arc<Self>,
        room: &mut Locked<'_>,
        departed: &Departed,
        reason: &str,
    ) {
        let seat = &departed.seat;
        self.note_gone(departed, reason);
        self.broadcasts.poke(&seat.room.id);
        self.tell_closed(room, seat, &departed.producer_ids);
        let payload = json!({ "participantId": seat.participant_id, "reason": reason });
        for event in ["call:participant-left", "user_left"] {
            self.tell_others(room, seat, event, &payload);
        }
    }

    pub(super) fn tell_new_producer(
        self: &Arc<Self>,
        room: &mut Locked<'_>,
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
        self.tell_others(room, seat, "new-producer", &payload);
        self.note_changed(room, seat);
        self.tell_producers(room, seat);
    }

    /// Who speaks, the loudest first; nobody.
    pub(crate) fn tell_speakers(&self, room: &Locked<'_>) {
        self.broadcasts.poke(&room.cell().id);
        let payload = raw(&speaking(&room.speakers));
        for (_, socket) in room.sockets_but(None) {
            self.outbox.emit(socket, "active-speaker", &payload);
        }
    }

    /// These producers of a participant are gone.
    pub(crate) fn tell_closed(
        self: &Arc<Self>,
        room: &mut Locked<'_>,
        seat: &Seat,
        producer_ids: &[Id],
    ) {
        for id in producer_ids {
            let payload = json!({ "producerId": id, "participantId": seat.participant_id });
            self.tell_others(room, seat, "producer-closed", &payload);
        }
        if !producer_ids.is_empty() {
            self.note_changed(room, seat);
            self.tell_producers(room, seat);
        }
    }

    pub(super) fn tell_paused(
        self: &Arc<Self>,
        room: &mut Locked<'_>,
        seat: &Seat,
        id: &Id,
        paused: bool,
    ) {
        let event = if paused { "producer-paused" } else { "producer-resumed" };
        let payload = json!({ "producerId": id, "participantId": seat.participant_id });
        self.tell_others(room, seat, event, &payload);
        self.note_changed(room, seat);
        self.tell_producers(room, seat);
    }

    /// To one participant, if his socket is there.
    pub(crate) fn tell(&self, room: &Room, seat: &Seat, event: &str, payload: &Value) {
        if let Some(socket) = room.participant(seat).ok().and_then(|p| p.socket) {
            self.emit(socket, event, payload);
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
        self.emit(socket, "error", &payload);
    }
}

/// `active-speaker`.
pub(super) fn speaking(speakers: &[Id]) -> Value {
    json!({ "participantId": speakers.first(), "participantIds": speakers })
}

/// Tells a room's list for as long as changes come, each time after a pause.
async fn tell_lists(service: Arc<Service>, room: Arc<Cell>) {
    let mut pause = service.settings.list_delay;
    loop {
        tokio::time::sleep(pause).await;
        let list = room.lock().take_list();
        let Some(list) = list else { return };
        // Without the lock: the room goes on meanwhile.
        let bytes = service.tell_list(&list);
        let on_the_line = Duration::from_secs_f64(bytes as f64 / LIST_BYTES_PER_S);
        pause = service.settings.list_delay.max(on_the_line);
    }
}

fn list_without(list: &DueList, viewer: Option<&Id>) -> Box<RawValue> {
    let shown = list.entries.iter().filter(|(owner, _)| Some(owner) != viewer);
    let entries: Vec<&str> = shown.map(|(_, entry)| entry.get()).collect();
    let text = format!("{{\"producers\":[{}]}}", entries.join(","));
    RawValue::from_string(text).expect("a list of JSON values")
}
