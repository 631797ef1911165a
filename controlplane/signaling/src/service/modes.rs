//! Which way media goes: the rules (`rooms::mode`) at work. A room's change is told while the room
//! is locked, so that all hear of changes in one order; what it needs of the media server is made
//! before it is told, and freed after it is over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_api::Id;
use serde::Serialize;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::failure::Failure;
use crate::payload::{ModeName, ModeSwitched, parse};
use crate::rooms::mode::{Mode, Step, Switch};
use crate::rooms::{Cell, Locked, Room, RouterSlot, Seat};
use crate::store::Present;

/// The old way through the media server lives so long after the new one holds: browsers hear of it
/// first.
const OLD_WAY: Duration = Duration::from_secs(1);

/// Longest reason that somebody may give, characters.
const REASON_MAX: usize = 200;

/// A room's way, for who looks at it from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RoomView {
    /// `p2p` or `sfu`.
    pub mode: &'static str,
    /// What the room would like.
    pub wanted: &'static str,
    /// Whether it is being changed.
    pub changes: bool,
    /// How many are in it.
    pub people: usize,
}

impl Service {
    /// How a room is, if it is there.
    pub fn look_at(&self, room_id: &Id) -> Option<RoomView> {
        let cell = self.rooms.room(room_id)?;
        let room = cell.lock();
        Some(RoomView {
            mode: room.ways.mode.name(),
            wanted: self.wanted(&room, None).name(),
            changes: room.ways.switch.is_some(),
            people: room.participants.len(),
        })
    }

    /// A room's mode and people, from here or as the nodes have written them.
    pub async fn room_view(&self, room_id: &Id) -> Result<Value, Failure> {
        if let Some(cell) = self.rooms.room(room_id) {
            let room = cell.lock();
            if !room.participants.is_empty() {
                return Ok(json!({
                    "roomId": room_id,
                    "mode": room.ways.mode.name(),
                    "mediaHost": self.host(room.main_router().host).about.url,
                    "participants": self.people_of(&room),
                }));
            }
        }
        let record = self.stores.shared.room(room_id.clone()).await?;
        let record = record.ok_or_else(|| Failure::not_found("room", room_id))?.value;
        let present = self.stores.shared.present(room_id.clone()).await?;
        let shown =
            |who: &Present| json!({ "participantId": who.participant_id, "name": who.name });
        Ok(json!({
            "roomId": room_id,
            "mode": record.mode,
            "mediaHost": record.media_host,
            "participants": present.iter().map(shown).collect::<Vec<_>>(),
        }))
    }

    /// Everybody in a room, and at which media host each of them is.
    fn people_of(&self, room: &Room) -> Value {
        let shown = room.participants.iter().map(|(id, participant)| {
            let host = room.router_of(participant).host;
            json!({
                "participantId": id,
                "name": participant.name,
                "mediaHost": self.host(host).about.url,
            })
        });
        shown.collect()
    }

    /// The way that a room would like, for those who are there and perhaps one more.
    pub(super) fn wanted(&self, room: &Room, newcomer: Option<bool>) -> Mode {
        room.wanted(&self.settings.ways, self.is_without(room), newcomer)
    }

    /// Somebody came or went, or it is time.
    pub(super) fn look_at_ways(self: &Arc<Self>, room: &mut Locked<'_>) {
        let rules = self.settings.ways;
        // Each round takes a step; there are no more of them than ways there and back.
        for _ in 0..4 {
            let people = room.people_here().map(|(_, one)| one.session.clone()).collect();
            let wanted = self.wanted(room, None);
            let is_without = self.is_without(room);
            let step = room.ways.consider(&rules, &people, wanted, is_without, Instant::now());
            let Some(step) = step else { break };
            self.take_step(room, step);
        }
        // Also what was made for somebody who has left before it was needed.
        if !room.ways.needs_server() && room.people_here().next().is_some() {
            self.leave_server(room, Duration::ZERO);
        }
    }

    fn take_step(self: &Arc<Self>, room: &mut Locked<'_>, step: Step) {
        match step {
            Step::Begin(switch) => {
                self.give_up_later(room.cell(), switch.number);
                if switch.to == Mode::Sfu && !room.router.is_made() {
                    self.make_router_first(room, switch.number);
                } else {
                    self.tell_switch(room);
                }
            }
            Step::Done(mode) => {
                self.metrics.count_switch(mode.name(), true);
                self.note_mode(room, mode);
                self.tell_all(
                    room,
                    "call:mode-switched",
                    &json!({ "success": true, "mode": mode.name() }),
                );
                if mode == Mode::P2p {
                    self.leave_server(room, OLD_WAY);
                }
            }
            Step::Undone { mode, error } => {
                self.metrics.count_switch(mode.name(), false);
                let payload = json!({ "success": false, "mode": mode.name(), "error": error });
                self.tell_all(room, "call:mode-switched", &payload);
            }
            Step::Later(at) => self.look_again(room, at),
        }
    }

    fn tell_all(&self, room: &Room, event: &str, payload: &Value) {
        let payload = super::raw(payload);
        for (_, socket) in room.sockets_but(None) {
            self.outbox.emit(socket, event, &payload);
        }
    }

    /// To each who has to make the new way.
    fn tell_switch(&self, room: &Locked<'_>) {
        for (id, participant) in &room.participants {
            let (seat, Some(socket)) = (room.seat_of(id, &participant.session), participant.socket)
            else {
                continue;
            };
            if let Some(payload) = self.switch_for(room, &seat) {
                self.emit(socket, "call:mode-switch", &payload);
            }
        }
    }

    /// What somebody is told of a change that waits for him.
    pub(super) fn switch_for(&self, room: &Room, seat: &Seat) -> Option<Value> {
        let Switch { to, waiting, number } = room.ways.switch.as_ref()?;
        if !waiting.contains(&seat.session) {
            return None;
        }
        if *to == Mode::Sfu {
            // Not before its router is there.
            let capabilities = room.router.capabilities.get()?;
            return Some(json!({
                "mode": to.name(),
                "switchId": number,
                "rtpCapabilities": capabilities,
            }));
        }
        let others = room.participants.keys().filter(|id| **id != seat.participant_id);
        let peers =
            others.map(|id| json!({ "peerId": id, "initiator": seat.participant_id < *id }));
        let peers: Vec<Value> = peers.collect();
        // Where there is one, as almost always, it needs no list to be read.
        let first = peers.first()?;
        Some(json!({
            "mode": to.name(),
            "switchId": number,
            "initiator": first["initiator"],
            "peerId": first["peerId"],
            "peers": peers,
            "iceServers": self.settings.ice_servers.of(&seat.session),
        }))
    }

    fn make_router_first(self: &Arc<Self>, room: &Locked<'_>, number: u64) {
        let (service, cell) = (Arc::clone(self), Arc::clone(room.cell()));
        tokio::spawn(async move {
            let made = service.make_router(&cell, None).await;
            let mut room = cell.lock();
            let is_this = room.ways.switch.as_ref().is_some_and(|switch| switch.number == number);
            match made {
                Ok(_) if is_this => service.tell_switch(&room),
                Ok(_) => {}
                Err(failure) => {
                    let rules = service.settings.ways;
                    let step = room.ways.fail(&rules, number, &failure.message, Instant::now());
                    service.take_all(&mut room, step);
                }
            }
        });
    }

    /// A step, and what follows from it.
    fn take_all(self: &Arc<Self>, room: &mut Locked<'_>, step: Option<Step>) {
        if let Some(step) = step {
            self.take_step(room, step);
        }
        self.look_at_ways(room);
    }

    fn give_up_later(self: &Arc<Self>, cell: &Arc<Cell>, number: u64) {
        let (service, cell) = (Arc::clone(self), Arc::clone(cell));
        tokio::spawn(async move {
            let rules = service.settings.ways;
            tokio::time::sleep(rules.time).await;
            let mut room = cell.lock();
            let why = "not everybody got the new connection in time";
            let step = room.ways.fail(&rules, number, why, Instant::now());
            if step.is_some() {
                service.take_all(&mut room, step);
            }
        });
    }

    /// One timer a room, the earliest.
    fn look_again(self: &Arc<Self>, room: &mut Locked<'_>, at: Instant) {
        if room.look_again.is_some_and(|known| known <= at) {
            return;
        }
        room.look_again = Some(at);
        let (service, cell) = (Arc::clone(self), Arc::clone(room.cell()));
        tokio::spawn(async move {
            tokio::time::sleep_until(at.into()).await;
            let mut room = cell.lock();
            if room.look_again == Some(at) {
                room.look_again = None;
                service.look_at_ways(&mut room);
            }
        });
    }

    /// Nobody needs the media server in this room any more.
    fn leave_server(self: &Arc<Self>, room: &mut Locked<'_>, after: Duration) {
        if !room.routers().any(|router| router.is_made()) {
            return;
        }
        if self.fleet.is_some() {
            // Somebody may be on his way to it at another node: it stays until the room ends.
            for (router, session) in room.forget_media() {
                self.free_session_later(router, session, after);
            }
            return;
        }
        for router in room.leave_server() {
            self.free_router_later(router, after);
        }
    }

    fn free_router_later(self: &Arc<Self>, router: Arc<RouterSlot>, after: Duration) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            service.free_router(&router);
        });
    }

    fn free_session_later(self: &Arc<Self>, router: Arc<RouterSlot>, session: Id, after: Duration) {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            service.free_session(&router, session);
        });
    }

    pub(super) fn mode_switched(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let said: ModeSwitched = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let mode = match said.mode {
            ModeName::P2p => Mode::P2p,
            ModeName::Sfu => Mode::Sfu,
        };
        let reason: String =
            said.error.chars().filter(|c| !c.is_control()).take(REASON_MAX).collect();
        let result = if said.success { Ok(()) } else { Err(&*reason) };
        let mut room = seat.room.lock();
        room.participant(&seat)?;
        // What was said of an earlier change says nothing of this one.
        let running = room.ways.switch.as_ref().map(|switch| switch.number);
        if said.switch_id.is_some() && said.switch_id != running {
            return Ok(json!({}));
        }
        let rules = self.settings.ways;
        let step = room.ways.report(&rules, &seat.session, mode, result, Instant::now());
        self.take_all(&mut room, step);
        Ok(json!({}))
    }

    /// A router of a room is gone. Those who talk directly go on, and those at another one;
    /// everybody else joins again.
    pub(crate) fn router_died(self: &Arc<Self>, cell: &Arc<Cell>, router_id: &Id) {
        if self.lose_part(cell, router_id) {
            return;
        }
        let mut room = cell.lock();
        if room.ways.mode == Mode::Sfu {
            let branches = room.branches.clone();
            drop(room);
            branches.iter().for_each(|branch| self.note_dead_router(&cell.id, branch));
            return self.close_dead_room(cell);
        }
        for router in room.leave_server() {
            self.note_dead_router(&cell.id, &router);
            if router.is_branch() {
                self.free_router(&router);
            }
        }
        let number = room.ways.switch.as_ref().map(|switch| switch.number);
        let why = "the media server lost this room";
        let rules = self.settings.ways;
        let step = number.and_then(|it| room.ways.fail(&rules, it, why, Instant::now()));
        // Who had come by it has nothing now.
        for seat in room.ways.ahead().filter_map(|session| room.seat_of_session(session)) {
            let socket = room.participant(&seat).ok().and_then(|participant| participant.socket);
            if let Some(socket) = socket {
                self.tell_rejoin(socket, "the media server lost this room; join again");
            }
        }
        self.take_all(&mut room, step);
    }
}
