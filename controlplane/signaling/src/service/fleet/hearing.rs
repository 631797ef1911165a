//! What the other nodes tell, and what it changes for the people of this one.

use std::sync::Arc;
use std::time::Instant;

use ironcast_api::Id;
use serde_json::json;

use super::{AGAIN_FIRST, AGAIN_LONGEST, Fleet};
use crate::events::Signal;
use crate::rooms::{Cell, Departed, Locked, Participant, Place, Producer, Seat};
use crate::service::Service;
use crate::store::hub::{Heard, Member, News, Relayed, Told};

/// Listens for ever. What was missed while the connection was lost is looked up afterwards.
pub(super) async fn listen(service: Arc<Service>) {
    let Some(fleet) = &service.fleet else { return };
    let mut again = AGAIN_FIRST;
    loop {
        let heard = hear(&service, fleet).await;
        fleet.link_down();
        if heard {
            again = AGAIN_FIRST;
            tracing::warn!("the other nodes are not heard any more");
        }
        tokio::time::sleep(again).await;
        again = (again * 2).min(AGAIN_LONGEST);
    }
}

/// Until the connection ends; gives whether there was one.
async fn hear(service: &Arc<Service>, fleet: &Fleet) -> bool {
    let Ok(mut ear) = fleet.hub.listen().await else { return false };
    let mut subscriber = ear.sink();
    let rooms: Vec<Id> = service.rooms.all().iter().map(|cell| cell.id.clone()).collect();
    if subscriber.subscribe(&rooms).await.is_err() {
        return false;
    }
    let was_lost = fleet.link_up(subscriber);
    tracing::info!("the other nodes are heard");
    if was_lost {
        service.write_all_again(fleet);
    }
    fleet.look_now.notify_one();
    // A node hears itself, too: silence means that the connection is dead.
    while let Ok(Some(heard)) = tokio::time::timeout(fleet.times.node, ear.next()).await {
        match heard {
            Heard::Node(node) => fleet.heard_of(&node),
            Heard::Room(room_id, told) => service.hear(fleet, &room_id, *told),
        }
    }
    true
}

impl Fleet {
    fn link_up(&self, subscriber: super::Subscriber) -> bool {
        // Nobody could be heard meanwhile.
        let now = Instant::now();
        self.nodes().values_mut().for_each(|at| *at = now);
        let mut link = self.link();
        link.subscriber = Some(subscriber);
        link.since = Some(now);
        self.metrics.fleet_link.set(1);
        self.linked.notify_waiters();
        link.was_lost
    }

    fn link_down(&self) {
        let mut link = self.link();
        link.was_lost |= link.since.take().is_some();
        link.subscriber = None;
        self.metrics.fleet_link.set(0);
    }
}

impl Service {
    /// Redis may have forgotten all.
    fn write_all_again(&self, fleet: &Fleet) {
        for cell in self.rooms.all() {
            let mut room = cell.lock();
            let mode = room.ways.mode;
            let seats: Vec<Seat> = room
                .people_here()
                .map(|(id, participant)| room.seat_of(id, &participant.session))
                .collect();
            for seat in &seats {
                fleet.note_changed(&mut room, seat);
            }
            if !seats.is_empty() {
                self.note_mode(&room, mode);
            }
        }
    }

    fn hear(self: &Arc<Self>, fleet: &Fleet, room_id: &Id, told: Told) {
        if told.node == fleet.hub.node {
            return;
        }
        fleet.heard_of(&told.node);
        let Some(cell) = self.rooms.room(room_id) else { return };
        match told.news {
            News::UserJoined(member) | News::UserChanged(member) => {
                self.apply_member(&mut cell.lock(), &member);
            }
            News::UserLeft { participant_id, session, version, reason } => {
                let seat = cell.lock().seat_of(&participant_id, &session);
                self.apply_left(&seat, version, &reason);
            }
            News::Offer(relayed) => self.hand_on(&cell, Signal::Offer, &relayed),
            News::Answer(relayed) => self.hand_on(&cell, Signal::Answer, &relayed),
            News::Ice(relayed) => self.hand_on(&cell, Signal::Candidate, &relayed),
            News::Muted { participant_id, producer_ids, by } => {
                if let Some(seat) = seat_here(&cell, &participant_id) {
                    tokio::spawn(Arc::clone(self).mute_here(seat, producer_ids, by));
                }
            }
            News::PutOut { participant_id, session, by } => {
                if let Some(seat) = seat_here(&cell, &participant_id)
                    && seat.session == session
                {
                    self.put_out(&seat, &by);
                }
            }
            News::Ended { by } => self.ended(&cell, &by),
            News::Broadcast { show, more } => {
                self.hear_show(fleet, &cell, &told.node, &show, more);
            }
            News::StopBroadcast { broadcast_id } => self.hear_stop(room_id, &broadcast_id),
            News::Chat(message) => {
                let service = Arc::clone(self);
                tokio::spawn(async move { service.hear_message(&cell, message).await });
            }
        }
    }

    fn hand_on(&self, cell: &Arc<Cell>, signal: Signal, relayed: &Relayed) {
        let room = cell.lock();
        let socket = room.participants.get(&relayed.to).and_then(|one| one.socket);
        let Some(socket) = socket else { return };
        let told = json!({ "from": relayed.from, signal.key(): relayed.content });
        for name in signal.names() {
            self.emit(socket, name, &told);
        }
    }

    /// A record that may be newer than what is known here.
    pub(super) fn apply_member(self: &Arc<Self>, room: &mut Locked<'_>, member: &Member) {
        let (Some(fleet), who) = (&self.fleet, &member.who) else { return };
        let is_over = room.is_closed() || room.has_left(&who.session, member.version);
        if is_over || who.node == fleet.hub.node {
            return;
        }
        let seat = room.seat_of(&who.participant_id, &who.session);
        let known = room.participants.get(&who.participant_id);
        match known.map(|known| (known.session.clone(), known.version)) {
            None => self.add_copy(room, &seat, member),
            Some((session, version)) if session == who.session => {
                if version < member.version {
                    self.renew_copy(room, &seat, member);
                } else if let Ok(known) = room.participant_mut(&seat)
                    && let Place::There { missing_since, .. } = &mut known.place
                {
                    *missing_since = None;
                }
            }
            Some((session, version)) => {
                if (version, &session) < (member.version, &who.session) {
                    let old = room.seat_of(&who.participant_id, &session);
                    self.depart(room, &old, member.version, "replaced");
                    self.add_copy(room, &seat, member);
                }
            }
        }
        self.look_at_ways(room);
    }

    fn add_copy(self: &Arc<Self>, room: &mut Locked<'_>, seat: &Seat, member: &Member) {
        room.add_participant(seat, self.copy(room, member));
        self.tell_arrival(room, seat);
        self.take_tracks(room, seat, member);
    }

    /// Somebody of another node, as that one says.
    fn copy(&self, room: &Locked<'_>, member: &Member) -> Participant {
        let place = Place::There {
            node: member.who.node.clone(),
            connected: member.connected,
            missing_since: None,
        };
        let branch = member.branch.as_deref().and_then(|written| self.slot(written).ok());
        // As it is known here, if it is.
        let branch = branch.map(|it| room.router_named(&it.id).cloned().unwrap_or(it));
        Participant {
            name: member.who.name.clone(),
            id_is_chosen: member.id_is_chosen,
            p2p: member.p2p,
            branch: branch.filter(|branch| branch.id != room.router.id),
            version: member.version,
            place,
            ..Participant::away(member.who.session.clone())
        }
    }

    /// The same session as before, perhaps at another node.
    fn renew_copy(self: &Arc<Self>, room: &mut Locked<'_>, seat: &Seat, member: &Member) {
        let Ok(known) = room.participant_mut(seat) else { return };
        let was_here = known.is_here();
        let producers = known.producers.clone();
        let renewed = Participant { producers, ..self.copy(room, member) };
        // He is at another node now, with all that he has.
        if let Some(socket) = room.replace_participant(seat, renewed) {
            self.outbox.close(socket);
        }
        if was_here && room.people_here().next().is_none() {
            let (cell, arrival) = (Arc::clone(&seat.room), room.arrival);
            self.close_room_later(cell, arrival, self.settings.empty_room_grace);
        }
        self.take_tracks(room, seat, member);
    }

    /// What he sends, as his node says.
    fn take_tracks(self: &Arc<Self>, room: &mut Locked<'_>, seat: &Seat, member: &Member) {
        let Ok(known) = room.participant(seat) else { return };
        let is_told = |id: &Id| member.producers.iter().any(|track| track.id == *id);
        let gone: Vec<Id> = known.producers.keys().filter(|id| !is_told(id)).cloned().collect();
        let gone: Vec<Id> = gone.into_iter().filter(|id| room.remove_producer(seat, id)).collect();
        self.tell_closed(room, seat, &gone);
        for track in &member.producers {
            let known = room.participant(seat).is_ok_and(|it| it.producers.contains_key(&track.id));
            if known {
                if room.set_paused(seat, &track.id, track.paused) == Ok(true) {
                    self.tell_paused(room, seat, &track.id, track.paused);
                }
                continue;
            }
            let app_data = track.app_data.clone();
            let mut new =
                Producer::new(&track.id, &seat.participant_id, track.kind, track.paused, app_data);
            new.mime.clone_from(&track.mime);
            room.add_copy(seat, &track.id, new.clone());
            self.tell_new_producer(room, seat, &track.id, &new);
        }
    }

    /// Somebody left, wherever he was.
    pub(super) fn apply_left(self: &Arc<Self>, seat: &Seat, version: u64, reason: &str) {
        let mut room = seat.room.lock();
        room.note_left(&seat.session, version, Instant::now());
        let Ok(known) = room.participant(seat) else { return };
        // Taken for lost by another node, or he said goodbye there.
        if known.is_here()
            && reason != "left"
            && let Some(socket) = known.socket
        {
            self.tell_rejoin(socket, "the connection to this service was lost; join again");
        }
        self.depart(&mut room, seat, version, reason);
        self.look_at_ways(&mut room);
    }

    /// Removes somebody because another node says so: the people of this one are told, and what he
    /// had is freed by who had him.
    pub(super) fn depart(
        self: &Arc<Self>,
        room: &mut Locked<'_>,
        seat: &Seat,
        version: u64,
        reason: &str,
    ) {
        let Some(departed) = room.leave(seat) else { return };
        room.note_left(&seat.session, version.max(departed.version), Instant::now());
        self.tell_departure(room, &departed, reason);
        if departed.place == Place::Here {
            let is_replaced = reason == "replaced";
            let socket = departed.socket.filter(|_| is_replaced);
            self.clear_up_after(Departed { socket, ..departed });
        }
    }
}

/// The place of somebody who is at this node.
fn seat_here(cell: &Arc<Cell>, participant_id: &Id) -> Option<Seat> {
    let room = cell.lock();
    let here = room.participants.get(participant_id).filter(|one| one.is_here())?;
    Some(room.seat_of(participant_id, &here.session))
}
