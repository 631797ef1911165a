//! A room whose people are at several nodes. Each node has its own people, and copies of those of
//! the others, which it learns from their records (`store::hub`); what it tells its own people of
//! the others is the difference that a newer record makes. Nobody waits for Redis but who comes to
//! a room that this node does not serve yet, and who comes back from another node.
//!
//! `hearing` takes what is told, `looking` compares with what is written, and removes who was left
//! by a node that is gone; `moving` opens and closes rooms, and brings people here; `showing` is
//! about broadcasts, each of which is made by one node and told at all.

mod hearing;
mod looking;
mod moving;
mod showing;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use ironcast_api::Id;
use tokio::sync::Notify;

use super::Service;
use crate::failure::Failure;
use crate::hosts::Hosts;
use crate::metrics::Metrics;
use crate::rooms::mode::Mode;
use crate::rooms::{Participant, Producer, Room, Seat};
use crate::settings::FleetTimes;
use crate::store::hub::{Hub, Member, News, Subscriber, Track, Write};
use crate::store::{PRESENCE_TIME, Present, now_ms};

/// News that wait to be told, at most; records of participants are as many as there are people.
const NEWS_MAX: usize = 8_192;

/// What is written in one request.
const WRITES_AT_ONCE: usize = 256;

/// First pause after a failure; it doubles.
const AGAIN_FIRST: Duration = Duration::from_millis(50);

/// Longest pause after failures.
const AGAIN_LONGEST: Duration = Duration::from_secs(1);

/// Dead routers that are remembered.
const DEAD_MAX: usize = 64;

/// Rooms that are opened or closed at once.
const TURNS: usize = 64;

/// Versions count up from the time, so that they do so also where nobody remembers the last one.
fn next_version(last: u64) -> u64 {
    (last + 1).max(now_ms() * 16)
}

/// What waits to be written. Of a participant only the newest counts.
#[derive(Default)]
struct Waiting {
    people: BTreeMap<(Id, Id), Write>,
    others: VecDeque<Write>,
    /// Something is being written, or has failed and may have to wait again.
    is_writing: bool,
}

/// The way to the other nodes.
#[derive(Default)]
struct Link {
    subscriber: Option<Subscriber>,
    since: Option<Instant>,
    /// It was there before: others may have to write again what they know.
    was_lost: bool,
}

/// What this node knows of the others.
pub(crate) struct Fleet {
    hub: Hub,
    times: FleetTimes,
    waiting: Mutex<Waiting>,
    wake: Notify,
    /// All that was said is written.
    written: Notify,
    /// When a node was heard of last.
    nodes: Mutex<HashMap<String, Instant>>,
    /// Those that were gone at the last look.
    gone: Mutex<HashSet<String>>,
    link: Mutex<Link>,
    linked: Notify,
    look_now: Notify,
    turns: Vec<tokio::sync::Mutex<()>>,
    dead: Mutex<VecDeque<String>>,
    /// Sessions that are on their way here, or out of here.
    moving: Mutex<HashSet<Id>>,
    hosts: Arc<Hosts>,
    /// The version of what was said last of a broadcast of this node.
    last_show: Mutex<u64>,
    metrics: Arc<Metrics>,
}

/// Begins to speak and to listen.
pub(super) fn start(service: &Arc<Service>) {
    tokio::spawn(write(Arc::clone(service)));
    tokio::spawn(beat(Arc::clone(service)));
    tokio::spawn(hearing::listen(Arc::clone(service)));
    tokio::spawn(looking::look(Arc::clone(service)));
}

/// Writes what waits, all of it at once, one request after the other.
async fn write(service: Arc<Service>) {
    let Some(fleet) = &service.fleet else { return };
    let mut again = AGAIN_FIRST;
    loop {
        let all = fleet.next_writes().await;
        match fleet.hub.write(&all).await {
            Ok(()) => {
                if again > AGAIN_FIRST {
                    tracing::info!("the other nodes are told again");
                }
                again = AGAIN_FIRST;
            }
            Err(error) => {
                if again == AGAIN_FIRST {
                    tracing::warn!(%error, "the other nodes are not told");
                }
                fleet.keep_for_later(all);
                tokio::time::sleep(again).await;
                again = (again * 2).min(AGAIN_LONGEST);
            }
        }
    }
}

async fn beat(service: Arc<Service>) {
    let Some(fleet) = &service.fleet else { return };
    let mut ticks = tokio::time::interval(fleet.times.beat);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Who hears nothing of us draws his conclusions.
        let _ = fleet.hub.beat().await;
    }
}

impl Fleet {
    pub(super) fn new(
        hub: Hub,
        times: FleetTimes,
        hosts: Arc<Hosts>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            hub,
            times,
            waiting: Mutex::default(),
            wake: Notify::new(),
            written: Notify::new(),
            nodes: Mutex::default(),
            gone: Mutex::default(),
            link: Mutex::default(),
            linked: Notify::new(),
            look_now: Notify::new(),
            turns: (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect(),
            dead: Mutex::default(),
            moving: Mutex::default(),
            hosts,
            last_show: Mutex::default(),
            metrics,
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nobody panics with it")
    }

    fn nodes(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.nodes.lock().expect("nobody panics with it")
    }

    fn gone(&self) -> MutexGuard<'_, HashSet<String>> {
        self.gone.lock().expect("nobody panics with it")
    }

    fn link(&self) -> MutexGuard<'_, Link> {
        self.link.lock().expect("nobody panics with it")
    }

    /// Whoever opens or closes a room holds its turn.
    fn turn(&self, room_id: &Id) -> &tokio::sync::Mutex<()> {
        let hasher: BuildHasherDefault<DefaultHasher> = BuildHasherDefault::default();
        &self.turns[(hasher.hash_one(room_id.as_str()) % TURNS as u64) as usize]
    }

    fn say(&self, write: Write) {
        let mut waiting = self.waiting();
        let who = match &write {
            Write::Member(member, ..) => Some(&member.who),
            Write::Left(who, _) => Some(who),
            _ => None,
        };
        if let Some(who) = who {
            let key = (who.room_id.clone(), who.participant_id.clone());
            // A sign of life does not take back that something is told.
            let is_told_already = matches!(
                (&write, waiting.people.get(&key)),
                (Write::Member(new, None, _), Some(Write::Member(old, Some(_), _)))
                    if new.version == old.version
            );
            if !is_told_already {
                waiting.people.insert(key, write);
            }
        } else if waiting.others.len() < NEWS_MAX {
            waiting.others.push_back(write);
        } else {
            self.metrics.fleet_lost.inc();
        }
        drop(waiting);
        self.wake.notify_one();
    }

    async fn next_writes(&self) -> Vec<Write> {
        loop {
            let woken = self.wake.notified();
            {
                let mut waiting = self.waiting();
                let mut all = Vec::new();
                while all.len() < WRITES_AT_ONCE {
                    let Some((_, write)) = waiting.people.pop_first() else { break };
                    all.push(write);
                }
                let rest = WRITES_AT_ONCE - all.len();
                let others = rest.min(waiting.others.len());
                all.extend(waiting.others.drain(..others));
                waiting.is_writing = !all.is_empty();
                if waiting.is_writing {
                    return all;
                }
            }
            self.written.notify_waiters();
            woken.await;
        }
    }

    /// What could not be written: records wait again unless there are newer ones; what was only to
    /// be told is late by now.
    fn keep_for_later(&self, all: Vec<Write>) {
        let mut waiting = self.waiting();
        // Back to where they were: what waits by now is newer.
        for write in all.into_iter().rev() {
            let who = match &write {
                Write::Member(member, ..) => &member.who,
                Write::Left(who, _) => who,
                Write::News(..) => {
                    self.metrics.fleet_lost.inc();
                    continue;
                }
                Write::Mode(..) | Write::Dead(..) | Write::Show(..) => {
                    waiting.others.push_front(write);
                    continue;
                }
            };
            let key = (who.room_id.clone(), who.participant_id.clone());
            waiting.people.entry(key).or_insert(write);
        }
        drop(waiting);
        self.wake.notify_one();
    }

    /// Whether all that was said is written.
    fn has_written_all(&self) -> bool {
        let waiting = self.waiting();
        waiting.people.is_empty() && waiting.others.is_empty() && !waiting.is_writing
    }

    /// Waits until it is.
    pub(super) async fn until_written(&self) {
        loop {
            let written = self.written.notified();
            if self.has_written_all() {
                return;
            }
            written.await;
        }
    }

    /// Whether something about this participant is still to be written.
    fn is_waiting(&self, room_id: &Id, participant_id: &Id) -> bool {
        self.waiting().people.contains_key(&(room_id.clone(), participant_id.clone()))
    }

    fn heard_of(&self, node: &str) {
        let mut nodes = self.nodes();
        match nodes.get_mut(node) {
            Some(at) => *at = Instant::now(),
            None => {
                nodes.insert(node.to_owned(), Instant::now());
            }
        }
    }

    /// For how long a node is gone; none if it is there. One that was never heard of begins to be
    /// waited for now.
    fn gone_for(&self, node: &str) -> Option<Duration> {
        let mut nodes = self.nodes();
        let at = *nodes.entry(node.to_owned()).or_insert_with(Instant::now);
        at.elapsed().checked_sub(self.times.node).filter(|_| self.is_settled())
    }

    /// Nodes that are there.
    fn nodes_there(&self) -> Vec<String> {
        let nodes = self.nodes();
        let there = nodes.iter().filter(|(_, at)| at.elapsed() < self.times.node);
        there.map(|(node, _)| node.clone()).collect()
    }

    /// Nodes that are gone for sure.
    fn nodes_gone(&self) -> Vec<String> {
        if !self.is_settled() {
            return Vec::new();
        }
        let nodes = self.nodes();
        let gone = nodes.iter().filter(|(_, at)| at.elapsed() >= self.times.node);
        gone.map(|(node, _)| node.clone()).collect()
    }

    /// Whether what is missing is missing indeed.
    fn is_settled(&self) -> bool {
        let link = self.link();
        link.since.is_some_and(|since| !link.was_lost || since.elapsed() >= self.times.settle)
    }

    /// Waits until it is, for a while.
    async fn until_settled(&self, patience: Duration) -> Result<Subscriber, Failure> {
        let end = tokio::time::Instant::now() + patience + self.times.settle;
        loop {
            let linked = self.linked.notified();
            if self.is_settled()
                && let Some(subscriber) = self.link().subscriber.clone()
            {
                return Ok(subscriber);
            }
            let pause = tokio::time::Instant::now() + self.times.settle / 8;
            let _ = tokio::time::timeout_at(pause.min(end), linked).await;
            if tokio::time::Instant::now() >= end {
                let message = "the other nodes of this service are not heard; try again";
                return Err(Failure::new("store_unavailable", message));
            }
        }
    }

    fn note_dead(&self, router: String) {
        let mut dead = self.dead.lock().expect("nobody panics with it");
        dead.push_back(router);
        if dead.len() > DEAD_MAX {
            dead.pop_front();
        }
    }

    fn dead(&self) -> Vec<String> {
        self.dead.lock().expect("nobody panics with it").iter().cloned().collect()
    }

    fn present(&self, room_id: &Id, id: &Id, participant: &Participant) -> Present {
        Present {
            room_id: room_id.clone(),
            participant_id: id.clone(),
            session: participant.session.clone(),
            name: participant.name.clone(),
            node: self.hub.node.clone(),
        }
    }

    fn member(&self, room_id: &Id, id: &Id, participant: &Participant) -> Member {
        let track = |(id, producer): (&Id, &Producer)| Track {
            id: id.clone(),
            kind: producer.kind,
            paused: producer.paused,
            app_data: producer.app_data.clone(),
            mime: producer.mime.clone(),
        };
        Member {
            who: self.present(room_id, id, participant),
            version: participant.version,
            connected: participant.socket.is_some(),
            p2p: participant.p2p,
            id_is_chosen: participant.id_is_chosen,
            branch: participant.branch.as_ref().map(|it| self.hosts.write(&it.id, it.host)),
            producers: participant.producers.iter().map(track).collect(),
        }
    }

    /// Writes down how somebody of this node is.
    fn note(&self, room: &Room, seat: &Seat, window: Duration, news: Option<fn(Member) -> News>) {
        let Ok(participant) = room.participant(seat) else { return };
        if !participant.is_here() {
            return;
        }
        let member = self.member(&seat.room.id, &seat.participant_id, participant);
        let told = news.map(|news| self.hub.told(news(member.clone())));
        self.say(Write::Member(Box::new(member), told, window));
    }

    /// The same, newer than before.
    fn note_new(&self, room: &mut Room, seat: &Seat, window: Duration, news: fn(Member) -> News) {
        let Ok(participant) = room.participant_mut(seat) else { return };
        if participant.is_here() {
            participant.version = next_version(participant.version);
            self.note(room, seat, window, Some(news));
        }
    }

    pub(super) fn note_joined(&self, room: &mut Room, seat: &Seat) {
        self.note_new(room, seat, PRESENCE_TIME, News::UserJoined);
    }

    pub(super) fn note_changed(&self, room: &mut Room, seat: &Seat) {
        self.note_new(room, seat, PRESENCE_TIME, News::UserChanged);
    }

    pub(super) fn note_lost(&self, room: &mut Room, seat: &Seat, window: Duration) {
        self.note_new(room, seat, window, News::UserChanged);
    }

    /// He is still there.
    pub(super) fn note_here(&self, room: &Room, seat: &Seat) {
        self.note(room, seat, PRESENCE_TIME, None);
    }

    pub(super) fn note_gone(&self, seat: &Seat, version: u64, reason: &str) {
        let who = Present {
            room_id: seat.room.id.clone(),
            participant_id: seat.participant_id.clone(),
            session: seat.session.clone(),
            name: String::new(),
            node: self.hub.node.clone(),
        };
        let news = News::UserLeft {
            participant_id: seat.participant_id.clone(),
            session: seat.session.clone(),
            version,
            reason: reason.to_owned(),
        };
        self.say(Write::Left(who, self.hub.told(news)));
    }

    pub(super) fn note_mode(&self, room_id: &Id, mode: Mode, media_host: Option<String>) {
        self.say(Write::Mode(room_id.clone(), mode.name(), media_host));
    }

    /// Told to the room's other nodes.
    pub(super) fn tell(&self, room_id: &Id, news: News) {
        self.say(Write::News(room_id.clone(), self.hub.told(news)));
    }
}
