//! Calls outlive this process. What the next start has to know of a room and of who is in it is
//! noted on the resources at the media server; resume tokens prove themselves (`identity`). So
//! rooms are taken over with everybody in them, as if all had lost their sockets at that moment.

use std::collections::BTreeMap;
use std::sync::Arc;

use ironcast_api::{AppData, Id};
use serde_json::{Map, Value, json};

use super::Service;
use super::piping::NOTE_TRACK;
use crate::events::Direction;
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::media::{RouterView, Snapshot};
use crate::rooms::{Cell, Participant, Producer, RouterSlot, Seat};

/// Keys of the note on our routers.
const NOTE_INSTANCE: &str = "signaling";
const NOTE_ROOM: &str = "roomId";

/// Keys of the note on our transports.
const NOTE_PARTICIPANT: &str = "participantId";
const NOTE_NAME: &str = "name";
const NOTE_DIRECTION: &str = "direction";
const NOTE_CHOSEN: &str = "idIsChosen";

impl Service {
    pub(super) fn router_note(&self, room_id: &Id) -> AppData {
        note([(NOTE_INSTANCE, json!(self.settings.instance)), (NOTE_ROOM, json!(room_id))])
    }

    /// What its owner said of a track, and which it is: its copies at other hosts have it, too.
    pub(super) fn track_note(&self, id: &Id, said: &AppData) -> AppData {
        if self.hosts.count() == 1 {
            return said.clone();
        }
        let mut noted = said.as_map().clone();
        noted.insert(NOTE_TRACK.to_owned(), json!(id));
        // Where there is no room for it its copies have its id, as a rule.
        AppData::new(noted).unwrap_or_else(|_| said.clone())
    }

    pub(super) fn transport_note(
        &self,
        seat: &Seat,
        direction: Direction,
    ) -> Result<AppData, Failure> {
        let room = seat.room.lock();
        let participant = room.participant(seat)?;
        Ok(note([
            (NOTE_PARTICIPANT, json!(seat.participant_id)),
            (NOTE_NAME, json!(participant.name)),
            (NOTE_CHOSEN, json!(participant.id_is_chosen)),
            (NOTE_DIRECTION, json!(direction.name())),
        ]))
    }

    pub(crate) fn is_ours(&self, router: &RouterView) -> bool {
        router.app_data[NOTE_INSTANCE] == json!(self.settings.instance)
    }

    /// Whether this service made a transport.
    pub(crate) fn is_noted(app_data: &Value) -> bool {
        app_data[NOTE_PARTICIPANT].is_string()
    }

    /// Takes over what an earlier start left at a host, once; afterwards people may join.
    pub(crate) fn take_over(self: &Arc<Self>, host: HostId, snapshot: &Snapshot) {
        if self.host(host).is_in_step() {
            return;
        }
        if self.fleet.is_some() {
            // Whose they are is known when they are opened.
            let ours = snapshot.routers.iter().filter(|router| self.is_ours(router));
            self.adopt(host, ours.cloned().collect());
            self.hosts.set_in_step(host);
            return;
        }
        let mut ours: Vec<_> = snapshot.routers.iter().filter(|each| self.is_ours(each)).collect();
        // A room may have two after a crash in the wrong moment: the fuller one is the call.
        ours.sort_by_key(|router| std::cmp::Reverse(router.transports.len()));
        for router in ours {
            self.take_over_router(host, router);
        }
        self.hosts.set_in_step(host);
    }

    fn take_over_router(self: &Arc<Self>, host: HostId, router: &RouterView) {
        let (Some(room_id), Ok(router_id)) = (room_of(router), Id::new(router.id.clone())) else {
            return;
        };
        let people = people_of(router);
        if people.is_empty() {
            return;
        }
        let capabilities = router.rtp_capabilities.clone();
        let slot = RouterSlot::known(router_id, host, capabilities);
        let room = match self.rooms.insert(&room_id, Arc::clone(&slot)) {
            Some(room) => room,
            // Taken over from another host, where its other part is.
            None => match self.rooms.room(&room_id) {
                Some(room) if self.is_part(&room, &slot) => room,
                _ => return,
            },
        };
        let seats: Vec<Seat> = {
            let mut room = room.lock();
            room.add_branch(Arc::clone(&slot));
            // Who is back already under his name is somebody new.
            let is_new = |id: &Id| !room.participants.contains_key(id);
            let people: Vec<_> = people.into_iter().filter(|(id, _)| is_new(id)).collect();
            let take = |(participant_id, participant): (Id, Participant)| {
                let seat = room.seat_of(&participant_id, &participant.session);
                room.add_participant(&seat, participant);
                room.put_at(&seat, &slot);
                seat
            };
            people.into_iter().map(take).collect()
        };
        tracing::info!(%room_id, participants = seats.len(), "took over a room");
        for seat in seats {
            self.remove_unless_back(seat, 1, self.settings.takeover_window);
        }
    }

    /// Whether a room that is known has this router, too: one of the two was made as a branch.
    fn is_part(&self, room: &Arc<Cell>, router: &RouterSlot) -> bool {
        let room = room.lock();
        let is_elsewhere = room.routers().all(|known| known.host != router.host);
        is_elsewhere && (router.is_branch() || room.router.is_branch())
    }
}

fn note<const N: usize>(entries: [(&str, Value); N]) -> AppData {
    let entries = entries.into_iter().map(|(key, value)| (key.to_owned(), value));
    // A note has a few short values: far below the limit.
    AppData::new(entries.collect::<Map<_, _>>()).unwrap_or_default()
}

/// A router's room, as it is noted on it.
pub(super) fn room_of(router: &RouterView) -> Option<Id> {
    router.app_data[NOTE_ROOM].as_str().and_then(|id| Id::new(id).ok())
}

/// Who is in a router's room, by what is noted on his transports.
pub(super) fn people_of(router: &RouterView) -> BTreeMap<Id, Participant> {
    let mut people: BTreeMap<Id, Participant> = BTreeMap::new();
    for transport in &router.transports {
        let text = |key: &str| transport.app_data[key].as_str();
        let id = |text: &str| Id::new(text).ok();
        let (Some(session), Some(participant_id), Some(direction), Some(transport_id)) = (
            transport.session.as_deref().and_then(id),
            text(NOTE_PARTICIPANT).and_then(id),
            text(NOTE_DIRECTION).and_then(Direction::of_name),
            id(&transport.id),
        ) else {
            continue;
        };
        let participant = people
            .entry(participant_id.clone())
            .or_insert_with(|| Participant::away(session.clone()));
        // An ousted session of the same person: whoever is left over is freed afterwards.
        if participant.session != session {
            continue;
        }
        participant.name = text(NOTE_NAME).unwrap_or("Guest").to_owned();
        participant.id_is_chosen = transport.app_data[NOTE_CHOSEN] == json!(true);
        participant.transports.insert(direction, transport_id);
        for each in &transport.producers {
            let Some(producer_id) = id(&each.id) else { continue };
            let mut app_data = each.app_data.as_map().clone();
            app_data.remove(NOTE_TRACK);
            let app_data = AppData::new(app_data).unwrap_or_default();
            let mut producer =
                Producer::new(&producer_id, &participant_id, each.kind, each.paused, app_data);
            producer.unwatched.clone_from(&each.unwatched);
            producer.mid.clone_from(&each.mid);
            participant.producers.insert(producer_id, producer);
        }
        for each in &transport.consumers {
            if let (Some(consumer_id), Some(producer_id)) = (id(&each.id), id(&each.producer_id)) {
                participant.consumers.insert(consumer_id, producer_id);
            }
        }
    }
    people
}
