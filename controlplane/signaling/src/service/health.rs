//! Whether the media hosts are there. One is away when its health check has failed for a while; until
//! the check passes nothing is asked of it, so that nobody waits. Its rooms go to another host,
//! whose people join again. Where there is none they are told once, and those that can do without go
//! on from browser to browser (the rules are `rooms::mode`'s).

use std::sync::Arc;
use std::time::{Duration, Instant};

use socketioxide::socket::Sid;

use super::{Service, raw};
use crate::events::Action;
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::media::MediaError;
use crate::rooms::mode::Mode;
use crate::rooms::{Cell, Locked, Room, RouterSlot, Seat};

/// A check that is not answered by then has failed.
const CHECK_TIME_MAX: Duration = Duration::from_secs(1);

impl Action {
    /// Whether the media server is asked for it.
    fn needs_media(self) -> bool {
        matches!(
            self,
            Self::RouterCapabilities
                | Self::CreateTransport(_)
                | Self::ConnectTransport(_)
                | Self::RestartIce
                | Self::Produce
                | Self::PauseProducer
                | Self::ResumeProducer
                | Self::Consume
                | Self::ResumeConsumer
                | Self::PauseConsumer
                | Self::SetPreferredLayers
                | Self::RequestKeyFrame
        )
    }
}

impl Service {
    /// Whether a room has no media server: its hosts are away, and there is no other for it.
    pub(super) fn is_without(&self, room: &Room) -> bool {
        self.is_all_away(room) && !self.hosts.has_other(room.router.host, Instant::now())
    }

    fn is_all_away(&self, room: &Room) -> bool {
        room.routers().all(|router| self.host(router.host).is_away())
    }

    /// What somebody in a room needs the media server for is refused at once while that is away.
    pub(super) fn check_media(&self, socket: Sid, action: Action) -> Result<(), Failure> {
        if !action.needs_media() {
            return Ok(());
        }
        let Ok(seat) = self.rooms.seat(socket) else { return Ok(()) };
        if self.is_without(&seat.room.lock()) {
            return Err(Failure::media_unavailable());
        }
        Ok(())
    }

    /// The way of somebody who comes now, if there is one for him.
    pub(super) fn way_of_newcomer(&self, room: &Room, p2p: bool) -> Result<Mode, Failure> {
        let wanted = self.wanted(room, Some(p2p));
        if !self.is_without(room) {
            return Ok(room.ways.of_newcomer(wanted));
        }
        // A room without anybody goes any way.
        let is_empty = room.participants.is_empty();
        let way = if is_empty { wanted } else { room.ways.of_newcomer(wanted) };
        if way == Mode::Sfu { Err(Failure::media_unavailable()) } else { Ok(way) }
    }

    /// Who came back to a room that waits for the media server may not have heard it.
    pub(super) fn tell_if_away(&self, socket: Sid, seat: &Seat) {
        let room = seat.room.lock();
        if room.ways.needs_server() && self.is_without(&room) {
            self.emit(socket, "error", &Failure::media_unavailable().to_event(None));
        }
    }

    /// Looks at a host. Gives whether it takes new rooms.
    pub(crate) async fn check_health(self: &Arc<Self>, id: HostId) -> bool {
        let host = self.host(id);
        let began = Instant::now();
        let asked = tokio::time::timeout(CHECK_TIME_MAX, self.media(id).ready()).await;
        // Whoever refuses is there.
        let is_there = !matches!(asked, Err(_) | Ok(Err(MediaError::Unavailable(_))));
        match host.checked(began, is_there, self.settings.media_away) {
            Some(true) => {
                tracing::warn!(%host, "the media server is away");
                self.hosts.note_change();
                self.look_at_rooms_without(Some(id));
            }
            Some(false) => {
                tracing::info!(%host, "the media server is back");
                self.look_at_rooms_without(None);
            }
            // Another one may take its rooms by now.
            None if host.is_away() => self.move_rooms_of(id),
            None => {}
        }
        let is_ready = matches!(asked, Ok(Ok(())));
        if is_ready
            && self.hosts.ids().nth(1).is_some()
            && let Ok(Ok(load)) = tokio::time::timeout(CHECK_TIME_MAX, self.media(id).load()).await
        {
            host.set_load(load);
        }
        host.set_ready(is_ready);
        is_ready
    }

    /// A host went away (`gone`), or is there again.
    pub(crate) fn look_at_rooms_without(self: &Arc<Self>, gone: Option<HostId>) {
        for cell in self.rooms.all() {
            if self.move_if_lost(&cell) {
                continue;
            }
            let mut room = cell.lock();
            let is_its = |gone: HostId| room.routers().any(|router| router.host == gone);
            if !self.is_all_away(&room) {
                self.look_at_ways(&mut room);
            } else if gone.is_some_and(is_its) {
                self.go_on_without(&mut room);
            }
        }
    }

    fn move_rooms_of(self: &Arc<Self>, host: HostId) {
        for cell in self.rooms.all() {
            let is_there = cell.lock().routers().any(|router| router.host == host);
            if is_there {
                self.move_if_lost(&cell);
            }
        }
    }

    /// What a room has at a host that is away goes to another one that takes it; gives whether any does.
    fn move_if_lost(self: &Arc<Self>, cell: &Arc<Cell>) -> bool {
        let lost: Vec<Arc<RouterSlot>> = {
            let room = cell.lock();
            if self.is_without(&room) {
                return false;
            }
            let is_lost = |router: &&Arc<RouterSlot>| {
                self.host(router.host).is_away() && (router.is_made() || router.is_branch())
            };
            room.routers().filter(is_lost).cloned().collect()
        };
        for router in &lost {
            tracing::info!(room_id = %cell.id, host = %self.host(router.host), "a room goes to another media host");
            // What it has there is freed should it come back with it.
            self.host(router.host).set_out_of_step();
            self.router_died(cell, &router.id);
        }
        !lost.is_empty()
    }

    /// A room's people are told; who can talks directly.
    fn go_on_without(self: &Arc<Self>, room: &mut Locked<'_>) {
        if !room.ways.needs_server() {
            return;
        }
        let told = raw(&Failure::media_unavailable().to_event(None));
        let goes_on = self.wanted(room, None) == Mode::P2p;
        let ahead: Vec<_> = room.ways.ahead().filter(|_| goes_on).cloned().collect();
        for participant in room.participants.values() {
            let Some(socket) = participant.socket else { continue };
            // The others have each other; he has nobody.
            if ahead.contains(&participant.session) {
                self.tell_rejoin(socket, "the media server is away; join again");
            } else {
                self.outbox.emit(socket, "error", &told);
            }
        }
        room.ways.hurry();
        self.look_at_ways(room);
    }

    /// Makes a room's router, at another host where this one takes none. Not where others of the room
    /// may have it.
    pub(super) async fn make_router(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        region: Option<&str>,
    ) -> Result<(), Failure> {
        let mut tried = Vec::new();
        loop {
            let router = Arc::clone(&cell.lock().router);
            let Err(failure) = self.router_of(&router, &cell.id).await else { return Ok(()) };
            match &*failure.code {
                "no_capacity" => self.host(router.host).set_full(Instant::now()),
                "draining" | "media_unavailable" => {}
                _ => return Err(failure),
            }
            let is_tried = tried.contains(&router.host);
            tried.push(router.host);
            let next = self.hosts.place(&cell.id, region, &tried, Instant::now());
            let (Ok(next), false) = (next, is_tried) else { return Err(failure) };
            if !self.move_unused(cell, &router, next).await? {
                return Err(failure);
            }
        }
    }

    /// The room's router is another one, at another host; gives whether that could be.
    async fn move_unused(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        old: &Arc<RouterSlot>,
        host: HostId,
    ) -> Result<bool, Failure> {
        let is_unused = |room: &Locked<'_>| {
            let mut others = room.participants.values().filter(|one| !one.is_here());
            !room.is_closed() && !room.router.is_made() && others.next().is_none()
        };
        if !is_unused(&cell.lock()) {
            return Ok(false);
        }
        let next = self.agree_on_router(cell, old, RouterSlot::new(&cell.id, host)).await?;
        let mut room = cell.lock();
        // Somebody else may have been faster.
        if room.router.id == old.id {
            if !is_unused(&room) {
                return Ok(false);
            }
            room.set_router(next);
        }
        drop(room);
        // The request that failed may have arrived.
        self.free_router(old);
        Ok(true)
    }
}
