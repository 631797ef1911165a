//! Rooms come to a node and leave it; so do people. A room's router is what the first node that
//! opens it says, and it is deleted by the last one that closes it. Somebody who shows his resume
//! token here and was at another node is brought here with all that the media server has of his.

use std::collections::HashSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use futures::StreamExt;
use ironcast_api::Id;

use super::{Fleet, next_version};
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::media::{MediaError, RouterView};
use crate::rooms::mode::Mode;
use crate::rooms::{Cell, Locked, Participant, Place, RouterSlot};
use crate::service::Service;
use crate::service::takeover::{people_of, room_of};
use crate::store::PRESENCE_TIME;
use crate::store::hub::{Look, Member, News, Removed, Write};

/// Between two tries to say that a room is not served here any more.
const CLOSE_AGAIN: Duration = Duration::from_secs(1);

/// Rooms that are taken over at once.
const ADOPTED_AT_ONCE: usize = 32;

/// He is on his way here, or out of here: no look at the room does anything about him.
pub(in crate::service) struct Moving<'a> {
    fleet: &'a Fleet,
    session: Id,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.fleet.moving().remove(&self.session);
    }
}

impl Fleet {
    pub(super) fn moving(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.moving.lock().expect("nobody panics with it")
    }

    fn begin_move(&self, session: &Id) -> Moving<'_> {
        self.moving().insert(session.clone());
        Moving { fleet: self, session: session.clone() }
    }
}

impl Service {
    /// Before anybody sits in a room this node hears of all who are in it elsewhere.
    pub(in crate::service) async fn open(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
    ) -> Result<(), Failure> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        cell.opened.get_or_try_init(|| self.open_now(fleet, cell)).await.copied()
    }

    async fn open_now(self: &Arc<Self>, fleet: &Fleet, cell: &Arc<Cell>) -> Result<(), Failure> {
        let mut subscriber = fleet.until_settled(self.settings.media_patience).await?;
        let _turn = fleet.turn(&cell.id).lock().await;
        // What is asked from now on has its effect, whether the answer comes in time or not.
        cell.opening.store(true, Ordering::SeqCst);
        subscriber.subscribe(std::slice::from_ref(&cell.id)).await?;
        let look = self.look_of(cell);
        let asked = Instant::now();
        let views = fleet.hub.look(&[look], &fleet.dead()).await?;
        let view = views.into_iter().next().ok_or_else(Failure::not_in_room)?;
        let agreed = self.slot(&view.router)?;
        let last = self.last_kept(cell).await;
        *cell.chat.lock().await = last.ok();
        {
            let mut room = cell.lock();
            if room.router.id != agreed.id {
                // Whom only the media server knew was in another call of this name.
                let nobodys = |one: &Participant| matches!(&one.place, Place::There { node, .. } if node.is_empty());
                let strangers: Vec<_> = room
                    .participants
                    .iter()
                    .filter(|(_, one)| nobodys(one))
                    .map(|(id, one)| room.seat_of(id, &one.session))
                    .collect();
                for seat in strangers {
                    room.leave(&seat);
                }
                room.set_router(agreed);
            }
            self.learn_branches(&mut room, &view.branches);
            if !view.members.is_empty() {
                let is_direct = view.mode.as_deref() == Some(Mode::P2p.name());
                room.ways.mode =
                    if is_direct && self.settings.ways.p2p { Mode::P2p } else { Mode::Sfu };
            }
        }
        self.apply_view(fleet, cell, &view, asked);
        Ok(())
    }

    pub(super) fn look_of(&self, cell: &Arc<Cell>) -> Look {
        let room = cell.lock();
        let router = self.hosts.write(&room.router.id, room.router.host);
        Look { room_id: cell.id.clone(), router }
    }

    /// A router as the nodes have agreed on it.
    pub(super) fn slot(&self, written: &str) -> Result<Arc<RouterSlot>, Failure> {
        let Some((id, host)) = self.hosts.read(written) else {
            tracing::error!(
                router = written,
                "another node knows a media host that this one does not"
            );
            return Err(Failure::media_unavailable());
        };
        Ok(RouterSlot::empty(id, host))
    }

    /// The same of a room's branch.
    pub(in crate::service) async fn agree_on_branch(
        &self,
        cell: &Arc<Cell>,
        branch: Arc<RouterSlot>,
    ) -> Result<Arc<RouterSlot>, Failure> {
        let Some(fleet) = &self.fleet else { return Ok(branch) };
        let (host, written) = (self.host(branch.host), self.hosts.write(&branch.id, branch.host));
        let dead = fleet.dead();
        let agreed = fleet.hub.branch(&cell.id, &host.about.name, &written, &dead).await?;
        if agreed == written { Ok(branch) } else { self.slot(&agreed) }
    }

    /// Where a room is besides, as the nodes have agreed on it.
    pub(super) fn learn_branches(&self, room: &mut Locked<'_>, written: &[String]) {
        for branch in written {
            if let Ok(branch) = self.slot(branch) {
                room.add_branch(branch);
            }
        }
    }

    /// A room's router could not be made: all nodes get another one. Gives what they have agreed on.
    pub(in crate::service) async fn agree_on_router(
        &self,
        cell: &Arc<Cell>,
        old: &RouterSlot,
        next: Arc<RouterSlot>,
    ) -> Result<Arc<RouterSlot>, Failure> {
        let Some(fleet) = &self.fleet else { return Ok(next) };
        fleet.note_dead(self.hosts.write(&old.id, old.host));
        let router = self.hosts.write(&next.id, next.host);
        let look = Look { room_id: cell.id.clone(), router };
        let views = fleet.hub.look(&[look], &fleet.dead()).await?;
        let view = views.into_iter().next().ok_or_else(Failure::not_in_room)?;
        self.slot(&view.router)
    }

    /// Nobody is in a room here any more. Its router goes with the last node that serves it.
    pub(in crate::service) fn close_shared(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        router: Arc<RouterSlot>,
    ) {
        if self.fleet.is_none() {
            // Also when its creation failed: the request may have arrived, and only its answer
            // was lost.
            self.note_empty(&cell.id);
            self.free_router(&router);
            self.free_branches(cell);
            return;
        }
        if !cell.opening.load(Ordering::SeqCst) {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (service, room_id) = (Arc::clone(self), cell.id.clone());
        runtime.spawn(async move {
            while let Err(failure) = service.close_now(&room_id, &router).await {
                tracing::debug!(%failure, "a room cannot be closed yet");
                tokio::time::sleep(CLOSE_AGAIN).await;
            }
        });
    }

    async fn close_now(self: &Arc<Self>, room_id: &Id, router: &RouterSlot) -> Result<(), Failure> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let mut subscriber = fleet.until_settled(CLOSE_AGAIN).await?;
        let _turn = fleet.turn(room_id).lock().await;
        // Somebody came back: it is served again.
        if self.rooms.room(room_id).is_some() {
            return Ok(());
        }
        subscriber.unsubscribe(room_id).await?;
        let written = self.hosts.write(&router.id, router.host);
        if let Some(branches) = fleet.hub.close(room_id, &written, &fleet.nodes_there()).await? {
            self.record_end(room_id);
            self.free_router(router);
            let branches = branches.iter().filter_map(|branch| self.slot(branch).ok());
            branches.for_each(|branch| self.free_router(&branch));
        }
        Ok(())
    }

    /// The service stops: rooms that nobody is in here are not left behind, and of the others the
    /// other nodes take care.
    pub(in crate::service) async fn stop_serving(&self) {
        let Some(fleet) = &self.fleet else { return };
        for cell in self.rooms.all() {
            let router = {
                let room = cell.lock();
                let is_served = cell.opened.initialized();
                (room.is_empty_here() && is_served).then(|| Arc::clone(&room.router))
            };
            let Some(router) = router else { continue };
            let others = fleet.nodes_there();
            let written = self.hosts.write(&router.id, router.host);
            let Ok(Some(branches)) = fleet.hub.close(&cell.id, &written, &others).await else {
                continue;
            };
            let branches = branches.iter().filter_map(|branch| self.slot(branch).ok());
            for router in std::iter::once(router).chain(branches) {
                let _ = self.media(router.host).delete_router(router.id.clone()).await;
            }
        }
    }

    /// A router died: who opens its room next gets another one.
    pub(in crate::service) fn note_dead_router(&self, room_id: &Id, router: &RouterSlot) {
        let Some(fleet) = &self.fleet else { return };
        let written = self.hosts.write(&router.id, router.host);
        fleet.note_dead(written.clone());
        fleet.say(Write::Dead(room_id.clone(), written));
    }

    /// He is about to be removed.
    pub(in crate::service) fn leaving(&self, session: &Id) -> Option<Moving<'_>> {
        self.fleet.as_ref().map(|fleet| fleet.begin_move(session))
    }

    /// His window is over. Gives whether he is gone, and not at another node by now.
    pub(in crate::service) async fn is_gone(&self, seat: &crate::rooms::Seat) -> bool {
        let Some(fleet) = &self.fleet else { return true };
        let (who, news) = {
            let room = seat.room.lock();
            let Ok(known) = room.participant(seat) else { return false };
            if !known.is_here() {
                return false;
            }
            let who = fleet.present(&seat.room.id, &seat.participant_id, known);
            let news = News::UserLeft {
                participant_id: seat.participant_id.clone(),
                session: seat.session.clone(),
                version: next_version(known.version),
                reason: "disconnected".to_owned(),
            };
            (who, news)
        };
        // Without Redis nobody can have come back elsewhere.
        fleet.hub.remove(&who, news).await != Ok(Removed::NotThere)
    }

    /// Who shows the token of a session that is at another node comes here with his media.
    pub(in crate::service) async fn bring_here(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        session: &Id,
    ) -> Result<(), Failure> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let is_here = |session: &Id| {
            let room = cell.lock();
            let seat = room.seat_of_session(session);
            seat.is_some_and(|seat| room.participant(&seat).is_ok_and(Participant::is_here))
        };
        if is_here(session) {
            return Ok(());
        }
        let _moving = fleet.begin_move(session);
        let router = {
            let room = cell.lock();
            let seat = room.seat_of_session(session);
            Arc::clone(seat.map_or(&room.router, |seat| room.router_at(&seat)))
        };
        // Without Redis what is known here has to do.
        let (_, view) = tokio::join!(
            self.look_at_rooms(std::slice::from_ref(cell)),
            self.ask(router.host, |media| media.router(router.id.clone())),
        );
        let view = match view {
            Ok(view) => Some(view),
            Err(MediaError::Refused { code, .. }) if code == "not_found" => None,
            Err(error) => return Err(error.into()),
        };
        let (seat, brought, member, may_miss) = {
            let room = cell.lock();
            let Some(seat) = room.seat_of_session(session) else { return Ok(()) };
            let known = room.participant(&seat)?;
            let Place::There { node, .. } = &known.place else { return Ok(()) };
            let may_miss = node.is_empty() || !fleet.is_settled() || fleet.gone_for(node).is_some();
            let his = view.as_ref().and_then(|view| {
                let people = people_of(view).into_values();
                people.into_iter().find(|one| one.session == *session)
            });
            // What was just seen there is a part of the room, whoever knows of it.
            let branch = known.branch.clone().filter(|_| view.is_some());
            let brought = Participant {
                branch,
                name: known.name.clone(),
                id_is_chosen: known.id_is_chosen,
                p2p: known.p2p,
                version: next_version(known.version),
                ..his.unwrap_or_else(|| Participant::away(session.clone()))
            };
            let member = fleet.member(&cell.id, &seat.participant_id, &brought);
            (seat, brought, Member { connected: true, ..member }, may_miss)
        };
        // False: he has left, or somebody else has his id.
        if fleet.hub.claim(&member, may_miss).await == Ok(false) {
            return Ok(());
        }
        {
            let mut room = cell.lock();
            let is_there = room.participant(&seat).is_ok_and(|known| !known.is_here());
            if room.is_closed() || !is_there {
                return Ok(());
            }
            if let Some(branch) = &brought.branch {
                room.add_branch(Arc::clone(branch));
            }
            let before: Vec<Id> = room.participant(&seat)?.producers.keys().cloned().collect();
            room.replace_participant(&seat, brought);
            // What he had stopped, or lost, meanwhile.
            let now = room.participant(&seat)?;
            let gone: Vec<Id> =
                before.into_iter().filter(|id| !now.producers.contains_key(id)).collect();
            self.tell_closed(&mut room, &seat, &gone);
        }
        self.metrics.fleet_moved.inc();
        self.remove_unless_back(seat, 1, self.settings.reconnect_window);
        Ok(())
    }

    /// What other nodes, or earlier starts, have left at the media server.
    pub(super) async fn adopt_all(self: &Arc<Self>) {
        for host in self.hosts.ids() {
            match self.media(host).snapshot().await {
                Ok(snapshot) => {
                    let ours = snapshot.routers.into_iter().filter(|router| self.is_ours(router));
                    self.adopt(host, ours.collect());
                }
                Err(_) => self.host(host).set_out_of_step(),
            }
        }
    }

    /// Opens rooms that this node does not serve, to see whether anybody does.
    pub(crate) fn adopt(self: &Arc<Self>, host: HostId, routers: Vec<RouterView>) {
        let (branches, routers): (Vec<_>, Vec<_>) = routers
            .into_iter()
            .filter_map(|router| Some((Id::new(router.id.clone()).ok()?, router)))
            .filter(|(id, _)| self.rooms.room_of_router(id).is_none())
            .map(|(id, router)| {
                (RouterSlot::known(id, host, router.rtp_capabilities.clone()), router)
            })
            .partition(|(slot, _)| slot.is_branch());
        for (slot, router) in branches {
            tokio::spawn(Arc::clone(self).adopt_branch(slot, router));
        }
        let adopted = routers.into_iter().filter_map(|(slot, it)| self.adopt_router(slot, &it));
        let cells: Vec<_> = adopted.collect();
        if cells.is_empty() {
            return;
        }
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let opening = futures::stream::iter(cells).map(|(cell, router)| {
                let service = Arc::clone(&service);
                async move { service.open_adopted(&cell, &router).await }
            });
            opening.buffer_unordered(ADOPTED_AT_ONCE).collect::<()>().await;
        });
    }

    async fn open_adopted(self: &Arc<Self>, cell: &Arc<Cell>, router: &RouterSlot) {
        while let Err(failure) = self.open(cell).await {
            if cell.lock().is_closed() {
                return;
            }
            tracing::debug!(%failure, "a room cannot be taken over yet");
            tokio::time::sleep(CLOSE_AGAIN).await;
        }
        // All nodes have another router for this room by now.
        if cell.lock().router.id != router.id {
            self.free_router(router);
        }
    }

    fn adopt_router(
        self: &Arc<Self>,
        slot: Arc<RouterSlot>,
        router: &RouterView,
    ) -> Option<(Arc<Cell>, Arc<RouterSlot>)> {
        let room_id = room_of(router)?;
        let Some(cell) = self.rooms.insert(&room_id, Arc::clone(&slot)) else {
            // The room is served, by another router.
            let served = self.rooms.room(&room_id)?;
            if served.opened.initialized() && served.lock().router.id != slot.id {
                self.free_router(&slot);
            }
            return None;
        };
        seat_nobodys(&mut cell.lock(), &slot, router);
        Some((cell, slot))
    }

    /// A branch that this node does not know: of a room that others serve, of one that nobody serves
    /// any more, or left over.
    async fn adopt_branch(self: Arc<Self>, slot: Arc<RouterSlot>, router: RouterView) {
        let Some(room_id) = room_of(&router) else { return };
        // The room's own router comes first, if there is one at any host.
        let _ = self.hosts.until_in_step().await;
        let cell = match self.rooms.insert(&room_id, Arc::clone(&slot)) {
            Some(cell) => cell,
            None => match self.rooms.room(&room_id) {
                Some(cell) => cell,
                None => return,
            },
        };
        while let Err(failure) = self.open(&cell).await {
            if cell.lock().is_closed() {
                return;
            }
            tracing::debug!(%failure, "a part of a room cannot be taken over yet");
            tokio::time::sleep(CLOSE_AGAIN).await;
        }
        if self.look_at_rooms(std::slice::from_ref(&cell)).await.is_err() {
            // It is found again.
            return self.host(slot.host).set_out_of_step();
        }
        let is_left_over = {
            let mut room = cell.lock();
            let is_nobodys = room.participants.values().all(Participant::is_nobodys);
            if room.is_closed() {
                return;
            }
            let is_known = room.router_named(&slot.id).is_some();
            if !is_known && is_nobodys {
                room.add_branch(Arc::clone(&slot));
            }
            if is_known || is_nobodys {
                seat_nobodys(&mut room, &slot, &router);
            }
            !is_known && !is_nobodys
        };
        if is_left_over {
            return self.free_router(&slot);
        }
        // All nodes may have been away, and what they knew: now they know it again.
        let agreed = self.agree_on_branch(&cell, Arc::clone(&slot)).await;
        if agreed.is_ok_and(|agreed| agreed.id != slot.id) && cell.lock().router.id != slot.id {
            cell.lock().remove_branch(&slot.id);
            self.free_router(&slot);
        }
    }

    /// A session at one of our routers that nobody here knows: its node may not have said it yet.
    /// If nobody knows it a while later it is freed.
    pub(crate) fn free_session_unless_known(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        router: &Arc<RouterSlot>,
        session: Id,
    ) {
        let Some(fleet) = &self.fleet else { return };
        let patience = PRESENCE_TIME.min(fleet.times.node + self.settings.takeover_window);
        let (service, cell, router) = (Arc::clone(self), Arc::clone(cell), Arc::clone(router));
        tokio::spawn(async move {
            tokio::time::sleep(patience).await;
            let looked = service.look_at_rooms(std::slice::from_ref(&cell)).await;
            {
                let room = cell.lock();
                if room.is_closed() || looked.is_err() || room.seat_of_session(&session).is_some() {
                    return;
                }
            }
            service.free_session(&router, session);
        });
    }
}

/// Whom only the media server knows: they may come back.
fn seat_nobodys(room: &mut Locked<'_>, router: &Arc<RouterSlot>, view: &RouterView) {
    for (id, participant) in people_of(view) {
        if room.participants.contains_key(&id) {
            continue;
        }
        let seat = room.seat_of(&id, &participant.session);
        let copy = Participant {
            place: Place::There { node: String::new(), connected: false, missing_since: None },
            transports: std::collections::BTreeMap::new(),
            consumers: std::collections::BTreeMap::new(),
            ..participant
        };
        room.add_participant(&seat, copy);
        room.put_at(&seat, router);
    }
}
