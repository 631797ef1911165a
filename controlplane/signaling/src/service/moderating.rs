//! What a moderator may do to others: mute them, put them out, and end the call for all. Whom it
//! concerns may sit at another node: that one does it then.

use std::sync::Arc;

use futures::future::join_all;
use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::failure::Failure;
use crate::media::MediaError;
use crate::payload::{MuteParticipant, RemoveParticipant, parse};
use crate::rooms::{Cell, Participant, Seat};
use crate::store::hub::News;

impl Service {
    /// The one whom it is about, and who says it.
    fn about(&self, socket: Sid, participant_id: &Id) -> Result<(Seat, Seat), Failure> {
        let seat = self.rooms.seat(socket)?;
        let room = seat.room.lock();
        room.participant(&seat)?;
        let there = room.participants.get(participant_id);
        let there = there.ok_or_else(|| Failure::not_found("participant", participant_id))?;
        let about = room.seat_of(participant_id, &there.session);
        drop(room);
        Ok((about, seat))
    }

    pub(super) fn tell_fleet(&self, cell: &Arc<Cell>, news: News) {
        if let Some(fleet) = &self.fleet {
            fleet.tell(&cell.id, news);
        }
    }

    pub(super) async fn mute_participant(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: MuteParticipant = parse(payload)?;
        let (about, by) = self.about(socket, &wanted.participant_id)?;
        let turn = Arc::clone(&about.room.lock().participant(&about)?.pausing);
        let turn = turn.lock().await;
        let wanted_ids: Vec<Id> = {
            let room = about.room.lock();
            let there = room.participant(&about)?;
            if let Some(named) = &wanted.producer_ids
                && let Some(id) = named.iter().find(|id| !there.producers.contains_key(*id))
            {
                return Err(Failure::not_found("producer", id));
            }
            let is_meant =
                |id: &Id| wanted.producer_ids.as_ref().is_none_or(|ids| ids.contains(id));
            let producers = there.producers.iter().filter(|(id, producer)| {
                is_meant(id) && !producer.paused && wanted.kind.is_none_or(|it| it == producer.kind)
            });
            producers.map(|(id, _)| id.clone()).collect()
        };
        // All are told of those that are paused now, whatever became of the others.
        let (producer_ids, failed) = self.pause_all(&about, wanted_ids).await;
        let answer = json!({ "producerIds": producer_ids });
        let is_here = about.room.lock().participant(&about).is_ok_and(Participant::is_here);
        if is_here {
            self.muted(&about, &producer_ids, &by.participant_id);
        } else {
            let participant_id = about.participant_id.clone();
            let news = News::Muted { participant_id, producer_ids, by: by.participant_id };
            self.tell_fleet(&about.room, news);
        }
        drop(turn);
        failed.map_or(Ok(answer), |error| Err(error.into()))
    }

    /// Gives those that are paused, and why others are not.
    async fn pause_all(&self, seat: &Seat, ids: Vec<Id>) -> (Vec<Id>, Option<MediaError>) {
        let host = seat.host();
        let pause = |id: Id| async move {
            let asked = self.ask(host, |media| media.pause_producer(id.clone(), true)).await;
            (id, asked)
        };
        let (mut paused, mut failed) = (Vec::new(), None);
        for (id, asked) in join_all(ids.into_iter().map(pause)).await {
            match asked {
                Ok(()) => paused.push(id),
                // It has ended meanwhile.
                Err(MediaError::Refused { code, .. }) if code == "not_found" => {}
                Err(error) => failed = Some(error),
            }
        }
        (paused, failed)
    }

    /// A moderator at another node has paused these. He may have been resumed here since, which that
    /// node does not know: they are paused once more, in turn.
    pub(super) async fn mute_here(self: Arc<Self>, seat: Seat, producer_ids: Vec<Id>, by: Id) {
        let turn = seat.room.lock().participant(&seat).map(|one| Arc::clone(&one.pausing));
        let Ok(turn) = turn else { return };
        let _turn = turn.lock().await;
        // What cannot be asked for now was paused when the moderator did.
        let _ = self.pause_all(&seat, producer_ids.clone()).await;
        self.muted(&seat, &producer_ids, &by);
    }

    /// The media server has paused these already.
    fn muted(self: &Arc<Self>, seat: &Seat, producer_ids: &[Id], by: &Id) {
        let mut room = seat.room.lock();
        let mut muted = Vec::new();
        for id in producer_ids {
            if room.set_paused(seat, id, true) == Ok(true) {
                self.tell_paused(&mut room, seat, id, true);
                muted.push(id);
            }
        }
        if !muted.is_empty() {
            self.tell(&room, seat, "muted", &json!({ "by": by, "producerIds": muted }));
        }
    }

    pub(super) fn remove_participant(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: RemoveParticipant = parse(payload)?;
        let (about, by) = self.about(socket, &wanted.participant_id)?;
        if about == by {
            return Err(Failure::invalid("leave the room instead"));
        }
        let is_here = about.room.lock().participant(&about).is_ok_and(Participant::is_here);
        if is_here {
            self.put_out(&about, &by.participant_id);
        } else {
            let (participant_id, session) = (about.participant_id.clone(), about.session.clone());
            let news = News::PutOut { participant_id, session, by: by.participant_id };
            self.tell_fleet(&about.room, news);
        }
        Ok(json!({}))
    }

    pub(super) fn put_out(self: &Arc<Self>, seat: &Seat, by: &Id) {
        self.tell(&seat.room.lock(), seat, "removed", &json!({ "by": by }));
        self.remove(seat, "removed");
    }

    pub(super) fn end_room(self: &Arc<Self>, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms.seat(socket)?;
        self.tell_fleet(&seat.room, News::Ended { by: seat.participant_id.clone() });
        self.ended(&seat.room, &seat.participant_id);
        Ok(json!({}))
    }

    /// Everybody of this node is out of the room.
    pub(super) fn ended(self: &Arc<Self>, cell: &Arc<Cell>, by: &Id) {
        let seats: Vec<Seat> = {
            let room = cell.lock();
            let payload = super::raw(&json!({ "by": by }));
            for (_, socket) in room.sockets_but(None) {
                self.outbox.emit(socket, "room-ended", &payload);
            }
            room.people_here().map(|(id, one)| room.seat_of(id, &one.session)).collect()
        };
        for seat in seats {
            self.remove(&seat, "ended");
        }
    }
}
