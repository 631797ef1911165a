//! A room that outgrows its media host: who comes next is at another one, where the room has a second
//! router, a branch. Here it is decided who goes where; branches are made, and go with the last who
//! was there, with their host, or with the room. What goes from one router to another is in `piping`.

use std::sync::Arc;
use std::time::Instant;

use ironcast_api::Id;
use socketioxide::socket::Sid;

use super::Service;
use crate::failure::Failure;
use crate::hosts::HostId;
use crate::rooms::mode::Mode;
use crate::rooms::{Cell, Locked, RouterSlot, Seat};

/// What somebody is told whose media is gone.
const LOST: &str = "the media server lost this room; join again";

/// Where somebody goes who comes now.
pub(super) enum Choice {
    /// To one of the room's routers, made or not.
    There(Arc<RouterSlot>),
    /// To one that the room gets at this host.
    AnotherAt(HostId),
}

impl Service {
    /// Where somebody goes who comes to a room now. `but`: hosts that were tried in vain.
    pub(super) fn choose(&self, room: &Locked<'_>, region: Option<&str>, but: &[HostId]) -> Choice {
        if room.branches.is_empty() && !room.router.is_made() {
            return Choice::There(Arc::clone(&room.router));
        }
        let (now, limit) = (Instant::now(), self.settings.people_per_host);
        let is_open = |id: HostId| !but.contains(&id) && self.host(id).takes_people(now);
        let has_place = |id: HostId| limit == 0 || room.count_at(id) < limit;
        let fit = room.routers().filter(|it| is_open(it.host) && has_place(it.host));
        // One that is there before one that would have to be made.
        let nearest = |it: &&Arc<RouterSlot>| (!self.hosts.is_near(it.host, region), !it.is_made());
        if let Some(router) = fit.min_by_key(nearest) {
            return Choice::There(Arc::clone(router));
        }
        let used: Vec<HostId> = room.routers().map(|it| it.host).chain(but.to_vec()).collect();
        if let Ok(host) = self.hosts.place(&room.cell().id, region, &used, now) {
            return Choice::AnotherAt(host);
        }
        // The limit is there to spread people, not to turn them away.
        let least =
            |it: &&Arc<RouterSlot>| (!is_open(it.host), !it.is_made(), room.count_at(it.host));
        let there = room.routers().filter(|it| !self.host(it.host).is_away());
        Choice::There(Arc::clone(there.min_by_key(least).unwrap_or(&room.router)))
    }

    /// A room is at another host from now on, if nobody was faster.
    pub(super) async fn begin_branch(&self, cell: &Arc<Cell>, host: HostId) -> Result<(), Failure> {
        let branch = self.agree_on_branch(cell, RouterSlot::branch(&cell.id, host)).await?;
        let mut room = cell.lock();
        if !room.routers().any(|known| known.host == branch.host) {
            tracing::info!(room_id = %cell.id, host = %self.host(branch.host), "a room is at another media host, too");
            room.add_branch(branch);
        }
        Ok(())
    }

    /// Makes one of a room's routers. A host that makes none is remembered in `but`: something else is
    /// to be chosen then.
    pub(super) async fn make_chosen(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        chosen: &Arc<RouterSlot>,
        region: Option<&str>,
        but: &mut Vec<HostId>,
    ) -> Result<(), Failure> {
        let is_own = cell.lock().router.id == chosen.id;
        if is_own {
            return self.make_router(cell, region).await;
        }
        let Err(failure) = self.router_of(chosen, &cell.id).await else {
            // Who asked for it may be gone by now.
            self.tend_branch(cell, chosen);
            return Ok(());
        };
        if but.contains(&chosen.host) {
            return Err(failure);
        }
        if failure.code == "no_capacity" {
            self.host(chosen.host).set_full(Instant::now());
        }
        but.push(chosen.host);
        let mut room = cell.lock();
        if room.participants.values().all(|one| room.router_of(one).id != chosen.id)
            && let Some(branch) = room.remove_branch(&chosen.id)
        {
            drop(room);
            self.note_dead_router(&cell.id, &branch);
            // The request that failed may have arrived.
            self.free_router(&branch);
        }
        Ok(())
    }

    /// A branch that nobody is at is freed after a while. Of a fleet's room all are kept to its end:
    /// another node may be sending somebody there.
    pub(super) fn tend_branch(self: &Arc<Self>, cell: &Arc<Cell>, router: &Arc<RouterSlot>) {
        if self.is_fleet() || cell.lock().router.id == router.id {
            return;
        }
        let (service, cell, router) = (Arc::clone(self), Arc::clone(cell), Arc::clone(router));
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(service.settings.empty_room_grace).await;
                let mut room = cell.lock();
                if room.is_closed() || room.router_named(&router.id).is_none() {
                    return;
                }
                if room.is_idle(&router) {
                    room.remove_branch(&router.id);
                    drop(room);
                    tracing::info!(room_id = %cell.id, host = %service.host(router.host), "a room is not at this media host any more");
                    return service.free_router(&router);
                }
                // Its last one will have it looked at again.
                let is_used =
                    room.participants.values().any(|it| room.router_of(it).id == router.id);
                if is_used {
                    return;
                }
            }
        });
    }

    /// The branches of a room that is over.
    pub(super) fn free_branches(self: &Arc<Self>, cell: &Arc<Cell>) {
        let branches = std::mem::take(&mut cell.lock().branches);
        for branch in branches {
            self.free_router(&branch);
        }
    }

    /// His host takes nobody now. Who has nothing there yet is at another one from now on, if there is
    /// one: gives whether he is. Who has something joins again.
    pub(super) async fn move_elsewhere(self: &Arc<Self>, socket: Sid) -> bool {
        let Ok(seat) = self.rooms.seat(socket) else { return false };
        let cell = &seat.room;
        let full = seat.host();
        self.host(full).set_crowded(Instant::now());
        let mut but = vec![full];
        loop {
            let choice = self.choose(&cell.lock(), None, &but);
            let router = match choice {
                Choice::AnotherAt(host) => match self.begin_branch(cell, host).await {
                    Ok(()) => continue,
                    Err(_) => return false,
                },
                Choice::There(router) => router,
            };
            let is_open = self.host(router.host).takes_people(Instant::now());
            if but.contains(&router.host) || !is_open {
                return false;
            }
            if router.is_made() {
                return self.move_to(&seat, &router);
            }
            if self.make_chosen(cell, &router, None, &mut but).await.is_err() {
                return false;
            }
        }
    }

    fn move_to(self: &Arc<Self>, seat: &Seat, router: &Arc<RouterSlot>) -> bool {
        let mut room = seat.room.lock();
        let Ok(participant) = room.participant(seat) else { return false };
        if room.ways.of(&seat.session) != Mode::Sfu || room.router_named(&router.id).is_none() {
            return false;
        }
        let socket = participant.socket;
        // He was told what the one can receive.
        let is_alike = room.router_at(seat).capabilities.get() == router.capabilities.get();
        if !participant.transports.is_empty() || !is_alike {
            if let Some(socket) = socket {
                self.tell_rejoin(socket, "this media server takes no more people; join again");
            }
            return false;
        }
        room.put_at(seat, router);
        self.note_changed(&mut room, seat);
        true
    }

    /// One of a room's routers is gone, or its host is. Who was there joins again, and the others go
    /// on. Gives false if that was the only one that was there.
    pub(super) fn lose_part(self: &Arc<Self>, cell: &Arc<Cell>, router_id: &Id) -> bool {
        let mut room = cell.lock();
        let is_own = room.router.id == *router_id;
        let mut others = room.branches.iter().filter(|it| it.id != *router_id);
        let other = others.find(|it| !self.host(it.host).is_away()).map(|it| it.host);
        let lost = match (is_own, other) {
            (true, Some(host)) if room.ways.mode == Mode::Sfu => {
                room.lose_own_router(RouterSlot::new(&cell.id, host))
            }
            (true, _) => return false,
            (false, _) => match room.remove_branch(router_id) {
                Some(branch) => branch,
                None => return true,
            },
        };
        tracing::warn!(room_id = %cell.id, host = %self.host(lost.host), "a part of a room is gone");
        self.note_dead_router(&cell.id, &lost);
        if is_own {
            // Where it is now.
            let mode = room.ways.mode;
            self.note_mode(&room, mode);
        }
        let people = room
            .people_here()
            .filter(|(_, one)| one.branch.as_ref().is_some_and(|branch| branch.id == lost.id));
        let seats: Vec<Seat> = people.map(|(id, one)| room.seat_of(id, &one.session)).collect();
        for seat in seats {
            let producers = room.lose_media(&seat);
            self.tell_closed(&mut room, &seat, &producers);
            let socket = room.participant(&seat).ok().and_then(|participant| participant.socket);
            if let Some(socket) = socket {
                self.tell_rejoin(socket, LOST);
            }
        }
        self.look_at_ways(&mut room);
        drop(room);
        self.clear_copies(cell);
        true
    }
}
