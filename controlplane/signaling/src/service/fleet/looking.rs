//! What is believed is compared with what is written, once in a while and whenever the connection
//! was lost. Who was at a node that is gone, and does not come back in time, is removed here: by
//! one node alone, the one that takes his record away.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::{AGAIN_FIRST, Fleet, next_version};
use crate::rooms::{Cell, Locked, Participant, Place, Seat};
use crate::service::Service;
use crate::store::hub::{Look, News, Removed, View, Write};
use crate::store::{PRESENCE_TIME, Present};

/// Looks for ever.
pub(super) async fn look(service: Arc<Service>) {
    let Some(fleet) = &service.fleet else { return };
    let mut refreshed = Instant::now();
    loop {
        let waited = fleet.look_now.notified();
        let _ = tokio::time::timeout(fleet.times.look, waited).await;
        let cells = service.rooms.all();
        if refreshed.elapsed() >= PRESENCE_TIME / 3 {
            refreshed = Instant::now();
            service.refresh(fleet, &cells);
        }
        if service.look_at_rooms(&cells).await.is_err() {
            // It is said by who writes.
            tokio::time::sleep(AGAIN_FIRST).await;
            continue;
        }
        service.remove_left_behind(fleet, &cells).await;
        service.close_idle(fleet, &cells);
        if service.bury(fleet) {
            service.adopt_all().await;
        }
        fleet.metrics.fleet_nodes.set(fleet.nodes_there().len() as i64);
    }
}

impl Service {
    /// An open socket is a sign of life, also of who does not say it himself.
    fn refresh(&self, fleet: &Fleet, cells: &[Arc<Cell>]) {
        for cell in cells {
            let room = cell.lock();
            for (id, participant) in room.people_here().filter(|(_, one)| one.socket.is_some()) {
                fleet.note_here(&room, &room.seat_of(id, &participant.session));
            }
        }
    }

    /// Compares rooms that are open with what all nodes know of them.
    pub(super) async fn look_at_rooms(
        self: &Arc<Self>,
        cells: &[Arc<Cell>],
    ) -> Result<(), crate::store::StoreError> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let open: Vec<_> = cells.iter().filter(|cell| cell.opened.initialized()).collect();
        let looks: Vec<Look> = open.iter().map(|cell| self.look_of(cell)).collect();
        let began = Instant::now();
        let views = fleet.hub.look(&looks, &fleet.dead()).await?;
        for ((cell, look), view) in open.into_iter().zip(looks).zip(views) {
            // It was closed while it was asked for, which said that it is served here.
            let router = Arc::clone(&cell.lock().router);
            if cell.lock().is_closed() {
                self.close_shared(cell, router);
                continue;
            }
            // It may have another router since.
            if self.hosts.write(&router.id, router.host) != look.router {
                continue;
            }
            if view.router != look.router && fleet.is_settled() {
                // Nobody here has used it yet.
                let agreed = self.slot(&view.router);
                if agreed.is_ok_and(|agreed| cell.lock().take_unused_router(agreed)) {
                    continue;
                }
                tracing::warn!(room_id = %cell.id, "another node has another router for this room");
                if !self.lose_part(cell, &router.id) {
                    self.close_dead_room(cell);
                }
                self.free_router(&router);
                continue;
            }
            self.learn_branches(&mut cell.lock(), &view.branches);
            self.apply_view(fleet, cell, &view, began);
        }
        Ok(())
    }

    /// A room as it was written a moment ago.
    pub(super) fn apply_view(
        self: &Arc<Self>,
        fleet: &Fleet,
        cell: &Arc<Cell>,
        view: &View,
        asked: Instant,
    ) {
        let mut room = cell.lock();
        if room.is_closed() {
            return;
        }
        for member in &view.members {
            self.apply_member(&mut room, member);
            self.put_right(fleet, &room, &member.who);
        }
        self.look_at_shows(fleet, &mut room, view, asked);
        if view.mode.is_none() && room.people_here().next().is_some() {
            self.note_mode(&room, room.ways.mode);
        }
        let settled = fleet.is_settled();
        let mut missing: Vec<(Seat, bool)> = Vec::new();
        for (id, participant) in &room.participants {
            let record = view.members.iter().find(|member| member.who.participant_id == *id);
            let is_written = record.is_some_and(|member| {
                member.who.session == participant.session && member.version >= participant.version
            });
            if !is_written {
                missing.push((room.seat_of(id, &participant.session), participant.is_here()));
            }
        }
        for (seat, is_here) in missing {
            if is_here {
                // Lost on its way, or with Redis.
                let is_moving = fleet.moving().contains(&seat.session);
                if !is_moving && !fleet.is_waiting(&cell.id, &seat.participant_id) {
                    fleet.note(&room, &seat, PRESENCE_TIME, Some(News::UserChanged));
                }
            } else if settled {
                self.miss(fleet, &mut room, &seat, asked);
            }
        }
    }

    /// A record that says that somebody is here who is not: his end was not written.
    fn put_right(&self, fleet: &Fleet, room: &Locked<'_>, who: &Present) {
        let seat = room.seat_of(&who.participant_id, &who.session);
        let is_here = room.participant(&seat).is_ok_and(Participant::is_here);
        let is_mine = who.node == fleet.hub.node;
        let is_moving = || fleet.moving().contains(&who.session);
        if !is_mine || is_here || is_moving() || fleet.is_waiting(&who.room_id, &who.participant_id)
        {
            return;
        }
        let news = News::UserLeft {
            participant_id: who.participant_id.clone(),
            session: who.session.clone(),
            version: next_version(0),
            reason: "disconnected".to_owned(),
        };
        fleet.say(Write::Left(who.clone(), fleet.hub.told(news)));
    }

    /// Nothing is written of somebody at another node. If that stays so he has gone unheard.
    fn miss(self: &Arc<Self>, fleet: &Fleet, room: &mut Locked<'_>, seat: &Seat, asked: Instant) {
        let Ok(known) = room.participant_mut(seat) else { return };
        let version = next_version(known.version);
        let Place::There { node, missing_since, .. } = &mut known.place else { return };
        let since = *missing_since.get_or_insert(asked);
        // Nobody's are those whom only the media server knows.
        let is_nobodys = node.is_empty();
        let patience = if is_nobodys { self.settings.takeover_window } else { fleet.times.node };
        if since.elapsed() < patience || fleet.moving().contains(&seat.session) {
            return;
        }
        let is_owner_gone = is_nobodys || fleet.gone_for(&node.clone()).is_some();
        let router = Arc::clone(room.router_at(seat));
        self.depart(room, seat, version, "disconnected");
        self.look_at_ways(room);
        if is_owner_gone {
            self.free_session(&router, seat.session.clone());
        }
    }

    /// Removes whose node is gone for longer than he may be away.
    async fn remove_left_behind(self: &Arc<Self>, fleet: &Fleet, cells: &[Arc<Cell>]) {
        let window = self.settings.reconnect_window;
        for cell in cells {
            let left_behind: Vec<(Present, Seat)> = {
                let room = cell.lock();
                let people = room.participants.iter().filter_map(|(id, participant)| {
                    let Place::There { node, .. } = &participant.place else { return None };
                    let is_late = fleet.gone_for(node).is_some_and(|time| time >= window);
                    if node.is_empty() || !is_late || fleet.moving().contains(&participant.session)
                    {
                        return None;
                    }
                    let who =
                        Present { node: node.clone(), ..fleet.present(&cell.id, id, participant) };
                    Some((who, room.seat_of(id, &participant.session)))
                });
                people.collect()
            };
            for (who, seat) in left_behind {
                self.remove_one_left_behind(fleet, &who, &seat).await;
            }
        }
    }

    async fn remove_one_left_behind(self: &Arc<Self>, fleet: &Fleet, who: &Present, seat: &Seat) {
        let version = {
            let room = seat.room.lock();
            let Ok(known) = room.participant(seat) else { return };
            next_version(known.version)
        };
        let news = News::UserLeft {
            participant_id: seat.participant_id.clone(),
            session: seat.session.clone(),
            version,
            reason: "disconnected".to_owned(),
        };
        // Not if he is at another node by now, which says so, or another node was faster. If Redis
        // has lost the record, he is missed after a while.
        if fleet.hub.remove(who, news).await != Ok(Removed::Now) {
            return;
        }
        let router = {
            let mut room = seat.room.lock();
            if room.participant(seat).is_ok_and(Participant::is_here) {
                return;
            }
            let router = Arc::clone(room.router_at(seat));
            self.depart(&mut room, seat, version, "disconnected");
            self.look_at_ways(&mut room);
            router
        };
        fleet.metrics.fleet_removed.inc();
        self.free_session(&router, seat.session.clone());
    }

    /// Somebody said goodbye here who is at another node.
    pub(in crate::service) fn remove_elsewhere(self: &Arc<Self>, seat: Seat, reason: &'static str) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let Some(fleet) = &service.fleet else { return };
            let who = {
                let room = seat.room.lock();
                let Ok(known) = room.participant(&seat) else { return };
                let Place::There { node, .. } = &known.place else { return };
                let who = fleet.present(&seat.room.id, &seat.participant_id, known);
                (Present { node: node.clone(), ..who }, next_version(known.version))
            };
            let (who, version) = who;
            let news = News::UserLeft {
                participant_id: seat.participant_id.clone(),
                session: seat.session.clone(),
                version,
                reason: reason.to_owned(),
            };
            if matches!(fleet.hub.remove(&who, news).await, Ok(Removed::Now | Removed::Before)) {
                service.apply_left(&seat, version, reason);
            }
        });
    }

    /// Rooms that nobody of this node is in any more, and nobody of a node that is gone.
    fn close_idle(self: &Arc<Self>, fleet: &Fleet, cells: &[Arc<Cell>]) {
        for cell in cells.iter().filter(|cell| cell.opened.initialized()) {
            let router = {
                let mut room = cell.lock();
                let left_behind = room.participants.values().any(|one| match &one.place {
                    Place::There { node, .. } => node.is_empty() || fleet.gone_for(node).is_some(),
                    Place::Here => false,
                });
                if left_behind || !room.is_unused() {
                    room.idle_since = None;
                    continue;
                }
                let since = *room.idle_since.get_or_insert_with(Instant::now);
                if since.elapsed() < self.settings.empty_room_grace {
                    continue;
                }
                let arrival = room.arrival;
                room.close_if_empty(arrival)
            };
            if let Some(router) = router {
                self.close_shared(cell, router);
            }
        }
    }

    /// Forgets nodes that are gone for long; gives whether one is newly gone.
    fn bury(&self, fleet: &Fleet) -> bool {
        if !fleet.is_settled() {
            return false;
        }
        let mut nodes = fleet.nodes();
        let gone = nodes.iter().filter(|(_, at)| at.elapsed() >= fleet.times.node);
        let gone: HashSet<String> = gone.map(|(node, _)| node.clone()).collect();
        let before = std::mem::replace(&mut *fleet.gone(), gone.clone());
        let is_new = gone.iter().any(|node| !before.contains(node));
        nodes.retain(|_, at| at.elapsed() < PRESENCE_TIME * 4 + fleet.times.node);
        is_new
    }
}
