//! Who speaks in a room: observers listen to the levels that publishers write into their audio
//! packets (RFC 6464) and tell, at most once an interval, who is loudest ([`audio_level`]) or who
//! dominates ([`active_speaker`]).
//!
//! ```text
//! [3] -> Producer::observed: [ observer, what it heard of this producer ]     each packet: a few sums
//!                                  ^ read once an interval: tick -> events
//! ```
//! What is heard of a producer lies with the producer, so that a packet touches what it touches
//! anyway, and a producer without an observer pays for a look at an empty list. An observer that has
//! nothing to tell, because nobody sends, has no timer either: the next packet sets it.

mod active_speaker;
mod audio_level;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    ops::Range,
};

use ironcast_protocol::{
    CommandError, ErrorCode, Event, Id, Reply,
    media::MediaKind,
    observer::{CreateObserver, Method, Observe, ObserverState},
};

use crate::{
    Arrival, MS, Nanos,
    arena::Arena,
    key::{ObserverKey, OfObserver, OfProducer, ProducerKey, RouterKey},
    next_of,
    observer::{active_speaker::ActiveSpeaker, audio_level::AudioLevel},
    producer::Producer,
    wire::{Codec, opus},
    worker::Worker,
};

pub use active_speaker::Speech;
pub use audio_level::Sum;

/// Levels are 0 (silence) to this (as loud as can be): 127 more than their dBov.
pub const LOUDEST: u8 = 127;

/// Producers that observers look at in one turn: some 200 us. The others are looked at in the next one.
const PRODUCERS_AT_ONCE: usize = 512;
/// A look counts as so many.
const LOOK: usize = 4;
/// Before all that is due.
const AT_ONCE: Nanos = 0;

type Outcome<T> = Result<T, CommandError>;

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Outcome<T> {
    Err(CommandError::new(code, message))
}

fn not_found(what: &str, id: &str) -> CommandError {
    CommandError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
}

/// What one observer heard of one producer.
#[derive(Debug)]
pub struct Observed {
    observer: ObserverKey,
    heard: Heard,
}

/// What is kept of levels, by what the observer tells.
#[derive(Debug)]
enum Heard {
    Sum(Sum),
    Speech(Box<Speech>),
}

impl Heard {
    fn note(&mut self, level: u8, at: Arrival) {
        match self {
            Self::Sum(sum) => sum.note(level),
            Self::Speech(speech) => speech.note(level, at),
        }
    }
}

/// How an observer finds out what it tells.
#[derive(Debug)]
enum Finder {
    AudioLevel(AudioLevel),
    ActiveSpeaker(ActiveSpeaker),
}

impl Finder {
    fn new(method: Method) -> Self {
        let interval = Nanos::from(method.interval_ms()) * MS;
        match method {
            Method::AudioLevel { threshold, entries_max, .. } => {
                Self::AudioLevel(AudioLevel::new(threshold, interval, entries_max.into()))
            }
            Method::ActiveSpeaker { .. } => Self::ActiveSpeaker(ActiveSpeaker::default()),
        }
    }

    fn begin(&self) -> Heard {
        match self {
            Self::AudioLevel(_) => Heard::Sum(Sum::default()),
            Self::ActiveSpeaker(_) => Heard::Speech(Box::default()),
        }
    }

    /// Looks at some of an observer's producers; a look begins with the first.
    fn look(
        &mut self,
        key: ObserverKey,
        producers: &[ProducerKey],
        some: Range<usize>,
        table: &mut Arena<Producer, OfProducer>,
        now: Nanos,
    ) {
        match self {
            Self::AudioLevel(audio_level) => {
                if some.start == 0 {
                    audio_level.begin();
                }
                audio_level.look(key, &producers[some], table);
            }
            Self::ActiveSpeaker(active_speaker) => {
                if some.start == 0 {
                    active_speaker.begin(key, producers, table, now);
                }
                active_speaker.look(key, &producers[some], table, now);
            }
        }
    }

    fn tell(&mut self, id: &str, table: &Arena<Producer, OfProducer>) -> News {
        match self {
            Self::AudioLevel(audio_level) => audio_level.tell(id, table),
            Self::ActiveSpeaker(active_speaker) => active_speaker.tell(id, table),
        }
    }
}

/// One observer.
#[derive(Debug)]
pub(crate) struct Observer {
    id: Id,
    router: RouterKey,
    finder: Finder,
    interval: Nanos,
    paused: bool,
    /// In the order in which they were added.
    producers: Vec<ProducerKey>,
    /// When it looks next at what it heard; `Nanos::MAX` while there is nothing to look at.
    due: Nanos,
    /// It looks in the next turn, too: the one who dominated is gone.
    at_once: bool,
    /// In a look that is under way: so many of the producers were looked at.
    looked: usize,
}

/// The observers of a worker.
#[derive(Debug, Default)]
pub(crate) struct Observers {
    table: Arena<Observer, OfObserver>,
    ids: BTreeMap<Id, ObserverKey>,
    timers: BinaryHeap<Reverse<(Nanos, ObserverKey)>>,
}

impl Observers {
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// When the first of them looks at what it heard.
    pub(crate) fn deadline(&self) -> Option<Nanos> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    fn schedule(&mut self, key: ObserverKey, at: Nanos) {
        if let Some(observer) = self.table.get_mut(key)
            && at < observer.due
        {
            observer.due = at;
            self.timers.push(Reverse((at, key)));
        }
    }

    /// A look beside those that are an interval apart.
    fn look_at_once(&mut self, key: ObserverKey) {
        if let Some(observer) = self.table.get_mut(key)
            && !std::mem::replace(&mut observer.at_once, true)
        {
            self.timers.push(Reverse((AT_ONCE, key)));
        }
    }

    /// The look that was taken last is not complete.
    fn put_back(&mut self, key: ObserverKey, due: Nanos) {
        if due == AT_ONCE {
            self.look_at_once(key);
        } else {
            self.schedule(key, due);
        }
    }

    /// One that is due, and since when.
    fn take_due(&mut self, now: Nanos) -> Option<(Nanos, ObserverKey)> {
        loop {
            let &Reverse((at, key)) = self.timers.peek().filter(|Reverse((at, _))| *at <= now)?;
            self.timers.pop();
            let Some(observer) = self.table.get_mut(key) else { continue };
            if at == AT_ONCE {
                if std::mem::take(&mut observer.at_once) {
                    return Some((at, key));
                }
            } else if observer.due == at {
                observer.due = Nanos::MAX;
                return Some((at, key));
            }
        }
    }
}

impl Worker {
    /// An observer of a room, which listens to nobody yet.
    ///
    /// # Errors
    /// `NotFound` (router), `AlreadyExists`, `NoCapacity`, `Invalid`.
    pub fn apply_create_observer(&mut self, create: &CreateObserver) -> Outcome<Reply> {
        if self.observers.ids.contains_key(&create.id) {
            return refuse(ErrorCode::AlreadyExists, format!("observer {:?} exists", create.id));
        }
        check(create.method)?;
        let router_key = self.router_ids.get(&create.router);
        let router_key = *router_key.ok_or_else(|| not_found("router", &create.router))?;
        let Some(router) = self.routers.get_mut(router_key) else {
            return Err(not_found("router", &create.router));
        };
        if router.observers.len() >= self.limits.observers_per_router_max {
            return refuse(ErrorCode::NoCapacity, "this router has its maximum of observers");
        }
        let observer = Observer {
            id: create.id.clone(),
            router: router_key,
            finder: Finder::new(create.method),
            interval: Nanos::from(create.method.interval_ms()) * MS,
            paused: false,
            producers: Vec::new(),
            due: Nanos::MAX,
            at_once: false,
            looked: 0,
        };
        let key = self.observers.table.insert(observer);
        self.observers.ids.insert(create.id.clone(), key);
        router.observers.push(key);
        Ok(Reply::Done)
    }

    /// An observer listens to one more producer.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (video, another room's), `NoCapacity`.
    pub fn apply_observe(&mut self, observe: &Observe, now: Nanos) -> Outcome<Reply> {
        let key = self.observer_key(&observe.id)?;
        let producer_key = self.producer_ids.get(&observe.producer).copied();
        let producer = producer_key.and_then(|key| Some((key, self.producers.get_mut(key)?)));
        let (producer_key, producer) =
            producer.ok_or_else(|| not_found("producer", &observe.producer))?;
        let Some(observer) = self.observers.table.get_mut(key) else {
            return Err(not_found("observer", &observe.id));
        };
        if producer.kind != MediaKind::Audio {
            return refuse(ErrorCode::Invalid, "observers listen to audio alone");
        }
        if producer.router != observer.router {
            return refuse(ErrorCode::Invalid, "the producer is in another router");
        }
        if producer.observed.iter().any(|observed| observed.observer == key) {
            return Ok(Reply::Done);
        }
        if observer.producers.len() >= self.limits.producers_per_observer_max {
            return refuse(ErrorCode::NoCapacity, "this observer has its maximum of producers");
        }
        observer.producers.push(producer_key);
        producer.observed.push(Observed { observer: key, heard: observer.finder.begin() });
        if !observer.paused {
            let at = now + observer.interval;
            self.observers.schedule(key, at);
        }
        Ok(Reply::Done)
    }

    /// The reverse; of one that it does not listen to, nothing.
    ///
    /// # Errors
    /// `NotFound` (observer).
    pub fn apply_unobserve(&mut self, observe: &Observe) -> Outcome<Reply> {
        let key = self.observer_key(&observe.id)?;
        if let Some(&producer_key) = self.producer_ids.get(&observe.producer) {
            if let Some(producer) = self.producers.get_mut(producer_key) {
                producer.observed.retain(|observed| observed.observer != key);
            }
            self.forget_producer(key, producer_key);
        }
        Ok(Reply::Done)
    }

    /// Pauses or resumes an observer. What it heard before a pause counts for nothing after it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_pause_observer(&mut self, id: &str, paused: bool, now: Nanos) -> Outcome<Reply> {
        let key = self.observer_key(id)?;
        let Some(observer) = self.observers.table.get_mut(key) else {
            return Err(not_found("observer", id));
        };
        if observer.paused == paused {
            return Ok(Reply::Done);
        }
        observer.paused = paused;
        if !paused {
            let at = now + observer.interval;
            self.observers.schedule(key, at);
            return Ok(Reply::Done);
        }
        (observer.due, observer.at_once, observer.looked) = (Nanos::MAX, false, 0);
        for &producer in &observer.producers {
            let producer = self.producers.get_mut(producer);
            let mut observed = producer.into_iter().flat_map(|producer| &mut producer.observed);
            if let Some(observed) = observed.find(|observed| observed.observer == key) {
                observed.heard = observer.finder.begin();
            }
        }
        if let Finder::AudioLevel(audio_level) = &mut observer.finder
            && audio_level.fall_silent()
        {
            self.events.push(Event::ObserverSilence { observer: observer.id.clone() });
        }
        Ok(Reply::Done)
    }

    /// Closes an observer.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_close_observer(&mut self, id: &str) -> Outcome<Reply> {
        let key = self.observer_key(id)?;
        if let Some(observer) = self.remove_observer(key)
            && let Some(router) = self.routers.get_mut(observer.router)
        {
            router.observers.retain(|one| *one != key);
        }
        Ok(Reply::Done)
    }

    /// Takes an observer away, but for its place in its router's list.
    pub(crate) fn remove_observer(&mut self, key: ObserverKey) -> Option<Observer> {
        let observer = self.observers.table.remove(key)?;
        self.observers.ids.remove(&observer.id);
        for &producer in &observer.producers {
            if let Some(producer) = self.producers.get_mut(producer) {
                producer.observed.retain(|observed| observed.observer != key);
            }
        }
        Some(observer)
    }

    /// A producer is gone: whoever listened to it does so no more.
    pub(crate) fn leave_observers(&mut self, key: ProducerKey, observed: Vec<Observed>) {
        for observed in observed {
            self.forget_producer(observed.observer, key);
        }
    }

    fn forget_producer(&mut self, key: ObserverKey, producer: ProducerKey) {
        let Some(observer) = self.observers.table.get_mut(key) else { return };
        let Some(at) = observer.producers.iter().position(|one| *one == producer) else { return };
        observer.producers.remove(at);
        observer.looked -= usize::from(at < observer.looked);
        // Who dominated is followed at once.
        if let Finder::ActiveSpeaker(active_speaker) = &mut observer.finder
            && active_speaker.forget(producer)
            && !observer.paused
        {
            self.observers.look_at_once(key);
        }
    }

    /// State of an observer.
    #[must_use]
    pub fn observer_state(&self, id: &str) -> Option<ObserverState> {
        let observer = self.observers.table.get(*self.observers.ids.get(id)?)?;
        let id = |key: &ProducerKey| Some(self.producers.get(*key)?.id.clone());
        let dominant = match &observer.finder {
            Finder::AudioLevel(_) => None,
            Finder::ActiveSpeaker(active_speaker) => active_speaker.dominant(),
        };
        Some(ObserverState {
            paused: observer.paused,
            producers: observer.producers.iter().filter_map(id).collect(),
            dominant: dominant.as_ref().and_then(id),
        })
    }

    /// An observer of the room itself: nobody is told what it finds, the room acts by it.
    pub(crate) fn add_own_observer(&mut self, router: RouterKey, method: Method) -> ObserverKey {
        self.observers.table.insert(Observer {
            id: Id::new(),
            router,
            finder: Finder::new(method),
            interval: Nanos::from(method.interval_ms()) * MS,
            paused: false,
            producers: Vec::new(),
            due: Nanos::MAX,
            at_once: false,
            looked: 0,
        })
    }

    /// It listens to one more.
    pub(crate) fn observe_own(&mut self, key: ObserverKey, producer_key: ProducerKey) {
        let Some(observer) = self.observers.table.get_mut(key) else { return };
        let Some(producer) = self.producers.get_mut(producer_key) else { return };
        observer.producers.push(producer_key);
        producer.observed.push(Observed { observer: key, heard: observer.finder.begin() });
    }

    /// A packet of a producer that is observed, or ranked. `level` is the extension's value; an
    /// encoder that says it has nothing to say is silent, whatever stands there.
    #[inline(never)]
    pub(crate) fn listen(
        &mut self,
        key: ProducerKey,
        level: Option<u8>,
        payload_len: usize,
        at: Arrival,
    ) {
        let Some(value) = level else { return };
        let Some(producer) = self.producers.get(key) else { return };
        let is_silence = producer.codec == Codec::Opus && opus::is_silence(payload_len);
        let value = if is_silence { LOUDEST } else { value };
        self.rank(key, value, at);
        let level = LOUDEST - (value & LOUDEST);
        let Some(producer) = self.producers.get_mut(key) else { return };
        for observed in &mut producer.observed {
            let Some(observer) = self.observers.table.get(observed.observer) else { continue };
            if observer.paused {
                continue;
            }
            observed.heard.note(level, at);
            if observer.due == Nanos::MAX {
                let due = at + observer.interval;
                self.observers.schedule(observed.observer, due);
            }
        }
    }

    /// Observers that are due look at what they heard, as many as there is time for.
    pub(crate) fn tick_observers(&mut self, now: Nanos) {
        let mut left = PRODUCERS_AT_ONCE;
        while left > 0
            && let Some((due, key)) = self.observers.take_due(now)
        {
            let Some(observer) = self.observers.table.get_mut(key) else { continue };
            let (from, to) =
                (observer.looked, observer.producers.len().min(observer.looked + left));
            observer.finder.look(key, &observer.producers, from..to, &mut self.producers, now);
            left = left.saturating_sub(LOOK + to - from);
            if to < observer.producers.len() {
                observer.looked = to;
                self.observers.put_back(key, due);
                break;
            }
            observer.looked = 0;
            let news = observer.finder.tell(&observer.id, &self.producers);
            if news.goes_on && due != AT_ONCE {
                // Half an interval is the least in which enough is heard.
                let at = next_of(due, observer.interval, now + observer.interval / 2);
                self.observers.schedule(key, at);
            }
            match news.event {
                // A room's own observer has no name.
                Some(Event::DominantSpeaker { observer, producer }) if observer.is_empty() => {
                    if let Some(&producer) = self.producer_ids.get(&producer) {
                        self.note_speaker(producer);
                    }
                }
                event => self.events.extend(event),
            }
        }
    }

    fn observer_key(&self, id: &str) -> Outcome<ObserverKey> {
        self.observers.ids.get(id).copied().ok_or_else(|| not_found("observer", id))
    }
}

/// What a look gives.
struct News {
    event: Option<Event>,
    /// Something was heard, or has to be told later: there is a next look.
    goes_on: bool,
}

/// What an observer heard of a producer.
fn heard_of(observed: &mut [Observed], observer: ObserverKey) -> Option<&mut Heard> {
    let mut observed = observed.iter_mut();
    observed.find(|one| one.observer == observer).map(|one| &mut one.heard)
}

fn check(method: Method) -> Outcome<()> {
    let (least, what) = match method {
        Method::AudioLevel { threshold, entries_max, .. } => {
            if !(-127..=0).contains(&threshold) {
                return refuse(ErrorCode::Invalid, "threshold is -127 to 0 dBov");
            }
            if entries_max == 0 {
                return refuse(ErrorCode::Invalid, "maxEntries is at least 1");
            }
            (250, "interval is 250 to 5000 ms")
        }
        Method::ActiveSpeaker { .. } => (100, "interval is 100 to 5000 ms"),
    };
    if !(least..=5_000).contains(&method.interval_ms()) {
        return refuse(ErrorCode::Invalid, what);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
