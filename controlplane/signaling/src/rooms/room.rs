//! One room: who is in it, and what it is asked for. What changes the index of ids is in `locked`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::mode::{Mode, Rules, Ways, wanted};
use super::people::{DueList, Participant};
use super::shows::Shows;
use super::{Pipe, RouterSlot, Seat};
use crate::failure::Failure;
use crate::hosts::HostId;

/// So many are shown as speaking at once.
const SPEAKERS_MAX: usize = 4;

/// So long it is remembered that somebody left.
const LEFT_TIME: Duration = Duration::from_secs(60);

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its router.
    pub router: Arc<RouterSlot>,
    /// Its routers at other hosts, since it outgrew one: at most one at a host, as a rule.
    pub branches: Vec<Arc<RouterSlot>>,
    /// Tracks that are at other routers than their own, by track and router.
    pub(super) pipes: BTreeMap<Id, BTreeMap<Id, Pipe>>,
    /// Who speaks, by router, and how loud.
    pub(super) heard: BTreeMap<Id, Vec<(Id, i8)>>,
    /// Who is in it, those included whose socket is away for a moment.
    pub participants: BTreeMap<Id, Participant>,
    /// Who speaks, as was told last; the loudest first.
    pub speakers: Vec<Id>,
    /// Which way media goes.
    pub ways: Ways,
    /// It is watched or recorded by this node: its media goes through the media server while that is
    /// there.
    pub is_broadcast: bool,
    /// Somebody looks at the ways again then.
    pub look_again: Option<Instant>,
    /// The number of the last arrival. Numbers are never used twice, in no room: a timer set for
    /// an empty room sees whether it still holds, also when another room has its name by now.
    pub arrival: u64,
    /// Who is about to join: the room is not empty.
    pub(super) joining: u32,
    /// It is in no list any more: whoever still has it comes too late.
    pub(super) is_closed: bool,
    /// Whose change the others have to be told by a list.
    list_due: Vec<Id>,
    /// Somebody sees to it that the list is told.
    list_watched: bool,
    /// Sessions that have left, for a while: what is told of them late does not bring them back.
    left: BTreeMap<Id, (u64, Instant)>,
    /// Since when nobody is here, as the last look at the fleet saw it.
    pub idle_since: Option<Instant>,
    /// What other nodes make of it.
    pub shows: Shows,
}

impl Room {
    pub(super) fn new(router: Arc<RouterSlot>, arrival: u64, ways: Ways) -> Self {
        Self {
            router,
            branches: Vec::new(),
            pipes: BTreeMap::new(),
            heard: BTreeMap::new(),
            participants: BTreeMap::new(),
            speakers: Vec::new(),
            ways,
            is_broadcast: false,
            look_again: None,
            arrival,
            joining: 0,
            is_closed: false,
            list_due: Vec::new(),
            list_watched: false,
            left: BTreeMap::new(),
            idle_since: None,
            shows: Shows::default(),
        }
    }

    /// Those of this node.
    pub fn people_here(&self) -> impl Iterator<Item = (&Id, &Participant)> {
        self.participants.iter().filter(|(_, one)| one.is_here())
    }

    /// Whether nobody is here, or about to be.
    pub fn is_empty_here(&self) -> bool {
        self.joining == 0 && self.people_here().next().is_none()
    }

    /// The same, and nothing is made here of the people at other nodes.
    pub fn is_unused(&self) -> bool {
        self.is_empty_here() && (!self.is_broadcast || self.participants.is_empty())
    }

    /// It is in no list any more.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A session is gone for good.
    pub fn note_left(&mut self, session: &Id, version: u64, now: Instant) {
        self.left.retain(|_, (_, at)| now.saturating_duration_since(*at) < LEFT_TIME);
        self.left.insert(session.clone(), (version, now));
    }

    /// Whether a record is older than its session's end.
    pub fn has_left(&self, session: &Id, version: u64) -> bool {
        self.left.get(session).is_some_and(|(last, _)| version <= *last)
    }

    /// The participant of a seat.
    pub fn participant(&self, seat: &Seat) -> Result<&Participant, Failure> {
        self.participants
            .get(&seat.participant_id)
            .filter(|participant| participant.session == seat.session)
            .ok_or_else(Failure::not_in_room)
    }

    /// The participant of a seat, to be changed.
    pub fn participant_mut(&mut self, seat: &Seat) -> Result<&mut Participant, Failure> {
        self.participants
            .get_mut(&seat.participant_id)
            .filter(|participant| participant.session == seat.session)
            .ok_or_else(Failure::not_in_room)
    }

    /// Whether the media server is asked for anything.
    pub fn has_server(&self) -> Result<(), Failure> {
        if self.ways.needs_server() {
            return Ok(());
        }
        Err(Failure::new("wrong_state", "people talk directly here; wait for call:mode-switch"))
    }

    /// The way that the room would like, for those who are there and perhaps one more.
    /// People at several nodes are with the media server: one node could not keep the rules.
    pub fn wanted(&self, rules: &Rules, is_away: bool, newcomer: Option<bool>) -> Mode {
        let is_shown = (self.is_broadcast || self.shows.running().next().is_some()) && !is_away;
        if is_shown || self.participants.values().any(|one| !one.is_here()) {
            return Mode::Sfu;
        }
        let people = self.participants.values().map(|participant| participant.p2p);
        wanted(rules, is_away, people.chain(newcomer))
    }

    /// Whether the participant's socket is still away since `sockets_seen`.
    pub fn is_still_away(&self, seat: &Seat, sockets_seen: u64) -> bool {
        self.participant(seat).is_ok_and(|p| p.socket.is_none() && p.sockets_seen == sockets_seen)
    }

    /// Remembers that a producer is paused or not; gives whether that is new.
    pub fn set_paused(&mut self, seat: &Seat, id: &Id, paused: bool) -> Result<bool, Failure> {
        let producer = self.participant_mut(seat)?.producers.get_mut(id);
        Ok(producer.is_some_and(|one| one.set_paused(id, &seat.participant_id, paused)))
    }

    /// Remembers what nobody watches of a producer; gives whether that is new.
    pub fn set_unwatched(&mut self, seat: &Seat, id: &Id, encodings: &[u32]) -> bool {
        let participant = self.participant_mut(seat).ok();
        let producer = participant.and_then(|one| one.producers.get_mut(id));
        let Some(producer) = producer.filter(|one| one.unwatched != encodings) else {
            return false;
        };
        producer.unwatched = encodings.to_vec();
        true
    }

    /// All its routers, its own one first.
    pub fn routers(&self) -> impl Iterator<Item = &Arc<RouterSlot>> {
        std::iter::once(&self.router).chain(&self.branches)
    }

    /// Its own router, or another one where that is lost and not made anew.
    pub fn main_router(&self) -> &Arc<RouterSlot> {
        self.routers().find(|router| router.is_made()).unwrap_or(&self.router)
    }

    /// One of its routers.
    pub fn router_named(&self, id: &Id) -> Option<&Arc<RouterSlot>> {
        self.routers().find(|router| router.id == *id)
    }

    /// The router that has somebody's media; of somebody who is not here any more, the room's own.
    pub fn router_at(&self, seat: &Seat) -> &Arc<RouterSlot> {
        self.participant(seat).map_or(&self.router, |participant| self.router_of(participant))
    }

    /// The router that has somebody's media.
    pub fn router_of<'a>(&'a self, participant: &'a Participant) -> &'a Arc<RouterSlot> {
        participant.branch.as_ref().unwrap_or(&self.router)
    }

    /// Whether the router that had somebody's media is none of the room's any more.
    pub fn is_lost(&self, participant: &Participant) -> bool {
        participant.branch.as_ref().is_some_and(|it| self.router_named(&it.id).is_none())
    }

    /// How many are at a host.
    pub fn count_at(&self, host: HostId) -> usize {
        self.participants.values().filter(|one| self.router_of(one).host == host).count()
    }

    /// Whether nobody is at a router.
    pub fn is_idle(&self, router: &RouterSlot) -> bool {
        self.joining == 0
            && !self.participants.values().any(|one| self.router_of(one).id == router.id)
    }

    /// A track at another router.
    pub fn pipe(&self, producer: &Id, router: &Id) -> Option<&Pipe> {
        self.pipes.get(producer)?.get(router)
    }

    /// It is not there any more.
    pub fn forget_pipe(&mut self, producer: &Id, router: &Id) {
        if let Some(pipes) = self.pipes.get_mut(producer) {
            pipes.remove(router);
        }
    }

    /// Who is heard at one of the routers; gives whether that changes who speaks in the room.
    pub fn hear(&mut self, router: &Id, speakers: Vec<(Id, i8)>) -> bool {
        if speakers.is_empty() {
            self.heard.remove(router);
        } else {
            self.heard.insert(router.clone(), speakers);
        }
        let mut all: Vec<_> = self.heard.values().flatten().collect();
        all.sort_by_key(|(_, volume)| std::cmp::Reverse(*volume));
        let mut speakers: Vec<Id> = Vec::new();
        for (id, _) in all {
            if speakers.len() < SPEAKERS_MAX && !speakers.contains(id) {
                speakers.push(id.clone());
            }
        }
        self.set_speakers(speakers)
    }

    /// Remembers who speaks; gives whether that is new.
    fn set_speakers(&mut self, speakers: Vec<Id>) -> bool {
        let is_new = self.speakers != speakers;
        self.speakers = speakers;
        is_new
    }

    /// What this participant sends has changed: the room's list is due. Gives whether the caller
    /// has to see to it that it is told.
    pub fn list_is_due(&mut self, seat: &Seat) -> bool {
        if self.is_closed {
            return false;
        }
        if !self.list_due.contains(&seat.participant_id) {
            self.list_due.push(seat.participant_id.clone());
        }
        !std::mem::replace(&mut self.list_watched, true)
    }

    /// The list that is due, if one is; without one, nobody watches any more. Who alone changed
    /// something is told nothing: what he receives is as before.
    pub fn take_list(&mut self) -> Option<DueList> {
        let changed = std::mem::take(&mut self.list_due);
        if changed.is_empty() {
            self.list_watched = false;
            return None;
        }
        let but = if let [one] = &changed[..] { Some(one) } else { None };
        let entries = self.participants.iter().flat_map(|(id, participant)| {
            participant.producers.values().map(|each| (id.clone(), Arc::clone(&each.listed)))
        });
        let entries = entries.collect();
        Some(DueList { viewers: self.sockets_but(but), entries })
    }

    /// All sockets, but for one participant's.
    pub fn sockets_but(&self, but: Option<&Id>) -> Vec<(Id, Sid)> {
        self.participants
            .iter()
            .filter(|(id, _)| Some(*id) != but)
            .filter_map(|(id, participant)| Some((id.clone(), participant.socket?)))
            .collect()
    }

    /// What everyone but `viewer` sends, as browsers are told.
    pub fn producers_for(&self, viewer: &Id) -> Value {
        let others = self.participants.iter().filter(|(id, _)| *id != viewer);
        others
            .flat_map(|(id, participant)| {
                let tracks = participant.producers.iter();
                tracks.map(move |(producer_id, producer)| producer.entry(producer_id, id))
            })
            .collect()
    }

    /// Everyone but `viewer`, as browsers are told.
    pub fn participants_for(&self, viewer: &Id) -> Value {
        let shown = self.participants.iter().filter(|(id, _)| *id != viewer);
        shown.map(|(id, one)| json!({ "participantId": id, "name": one.name })).collect()
    }
}
