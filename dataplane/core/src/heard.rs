//! Who of a room is heard and seen, where the room limits it: the voices that are loudest
//! ([`Loudest`]) and the videos of those who spoke last ([`LastSpeakers`]). Decides by what publishers
//! write into their audio packets (RFC 6464); a producer whose packets do not say it is always heard.
//!
//! ```text
//! audio packet -> level -> not heard and louder than the quietest who is? -> takes his place
//! dominant speaker (an observer of the room's own) -> his videos are seen, the oldest speaker's not
//! ```
//! Who is left out costs nothing further on: his consumers follow no stream ([`Consumer::follow`]). A
//! pipe takes everything, since its far end chooses for itself.
//!
//! [`Consumer::follow`]: crate::consumer::Consumer::follow

use std::{collections::BTreeMap, sync::Arc};

use ironcast_protocol::{command::Selection, media::MediaKind, observer::Method};

use crate::{
    Arrival, MS, Nanos,
    arena::Arena,
    key::{OfProducer, ProducerKey, RouterKey},
    observer::LOUDEST,
    producer::{Producer, Subscriber},
    wire::extension::ExtensionKind,
    worker::Worker,
};

/// Above it somebody speaks: -50 dBov.
const SPEECH: u8 = LOUDEST - 50;
/// By so many decibels louder is whoever takes the place of somebody who speaks, too.
const MARGIN: u8 = 6;
/// Who is heard keeps his place for so long, whatever others do, and after his last word.
const HOLD: Nanos = 500 * MS;
/// Whoever becomes heard is heard from so long before: a word is under way until it is known as one.
pub const LEAD_IN: Nanos = 200 * MS;
/// How often the room's own observer looks who dominates.
const SPEAKER_INTERVAL_MS: u32 = 300;

/// How loud a producer is: up within some packets, down within some tens.
#[derive(Debug, Clone, Copy, Default)]
pub struct Voice {
    /// 16 times its level.
    level: u16,
    spoke_at: Option<Arrival>,
    heard_at: Option<Arrival>,
}

impl Voice {
    /// The value of the extension. Its flag of voice activity is not looked at: browsers set it
    /// always.
    fn note(&mut self, value: u8, at: Arrival) {
        let new = u16::from(LOUDEST - (value & LOUDEST)) * 16;
        if new > self.level {
            self.level += (new - self.level).div_ceil(2);
        } else {
            self.level -= (self.level - new).div_ceil(8);
        }
        if self.level() >= SPEECH {
            self.spoke_at = Some(at);
        }
    }

    fn level(&self) -> u8 {
        (self.level / 16) as u8
    }

    fn is_before(at: Option<Arrival>, span: Nanos, now: Arrival) -> bool {
        at.is_none_or(|at| now.since(at) >= span)
    }

    /// How well somebody holds his place: who has said nothing for a while does not at all.
    fn weight(&self, now: Arrival) -> u8 {
        if Self::is_before(self.spoke_at, HOLD, now) { 0 } else { self.level() }
    }
}

/// What a room limits, and who is within.
#[derive(Debug, Default)]
pub struct Heard {
    loudest: Option<Loudest>,
    last: Option<LastSpeakers>,
}

/// Voices that are heard.
#[derive(Debug)]
struct Loudest {
    most: usize,
    heard: Vec<ProducerKey>,
}

/// Videos that are seen, by whose they are.
#[derive(Debug)]
struct LastSpeakers {
    most: usize,
    /// Who spoke last comes first.
    seen: Vec<Arc<str>>,
    /// Videos of all who have any.
    videos: BTreeMap<Arc<str>, Vec<ProducerKey>>,
    dominant: Option<Arc<str>>,
}

/// Videos that are seen from now on, and those that are not any more.
#[derive(Debug, Default, PartialEq)]
struct Change {
    seen: Vec<ProducerKey>,
    unseen: Vec<ProducerKey>,
}

impl Heard {
    /// None where nothing is limited.
    #[must_use]
    pub fn new(selection: Selection) -> Option<Box<Self>> {
        let most = |count: u16| (count > 0).then_some(usize::from(count));
        let loudest = most(selection.loudest).map(|most| Loudest { most, heard: Vec::new() });
        let last = most(selection.last).map(LastSpeakers::new);
        let is_limited = loudest.is_some() || last.is_some();
        is_limited.then(|| Box::new(Self { loudest, last }))
    }

    /// True where it has to be known who dominates.
    #[must_use]
    pub fn wants_speakers(&self) -> bool {
        self.last.is_some()
    }
}

impl Loudest {
    /// Whether somebody who is not heard is from now on, and in whose place.
    fn take_place(
        &mut self,
        key: ProducerKey,
        table: &Arena<Producer, OfProducer>,
        now: Arrival,
    ) -> Option<Option<ProducerKey>> {
        if self.heard.len() < self.most {
            self.heard.push(key);
            return Some(None);
        }
        let voice = |key: ProducerKey| table.get(key).and_then(|producer| producer.voice);
        let level = voice(key)?.level();
        if level < SPEECH {
            return None;
        }
        // Who is gone or paused holds nothing.
        let weight = |key: ProducerKey| {
            let producer = table.get(key).filter(|producer| !producer.paused);
            producer.and_then(|producer| producer.voice).map_or(0, |voice| voice.weight(now))
        };
        let places = self.heard.iter_mut().filter(|place| {
            let heard_at = voice(**place).and_then(|voice| voice.heard_at);
            Voice::is_before(heard_at, HOLD, now)
        });
        let weakest = places.min_by_key(|place| weight(**place))?;
        let held = weight(*weakest);
        if held > 0 && level < held.saturating_add(MARGIN) {
            return None;
        }
        Some(Some(std::mem::replace(weakest, key)))
    }
}

impl LastSpeakers {
    fn new(most: usize) -> Self {
        Self { most, seen: Vec::new(), videos: BTreeMap::new(), dominant: None }
    }

    /// A video comes. It is seen where its speaker is, or there is room for one more.
    fn add(&mut self, speaker: &Arc<str>, key: ProducerKey) -> Change {
        self.videos.entry(Arc::clone(speaker)).or_default().push(key);
        if self.seen.contains(speaker) {
            return Change { seen: vec![key], unseen: Vec::new() };
        }
        if self.dominant.as_ref() == Some(speaker) {
            return self.put_first(speaker);
        }
        if self.seen.len() < self.most {
            self.seen.push(Arc::clone(speaker));
            return Change { seen: vec![key], unseen: Vec::new() };
        }
        Change { seen: Vec::new(), unseen: vec![key] }
    }

    /// A video is gone. The place of somebody who has none left goes to the next in the row.
    fn remove(&mut self, speaker: &Arc<str>, key: ProducerKey) -> Change {
        let Some(videos) = self.videos.get_mut(speaker) else { return Change::default() };
        videos.retain(|one| *one != key);
        if !videos.is_empty() {
            return Change::default();
        }
        self.videos.remove(speaker);
        let before = self.seen.len();
        self.seen.retain(|one| one != speaker);
        // At most as many are passed over as are seen.
        let next = self.videos.iter().find(|(name, _)| !self.seen.contains(name));
        let Some((name, videos)) = next.filter(|_| self.seen.len() < before) else {
            return Change::default();
        };
        self.seen.push(Arc::clone(name));
        Change { seen: videos.clone(), unseen: Vec::new() }
    }

    /// Somebody dominates.
    fn speak(&mut self, speaker: &Arc<str>) -> Change {
        self.dominant = Some(Arc::clone(speaker));
        if !self.videos.contains_key(speaker) {
            return Change::default();
        }
        if let Some(at) = self.seen.iter().position(|one| one == speaker) {
            self.seen[..=at].rotate_right(1);
            return Change::default();
        }
        self.put_first(speaker)
    }

    fn put_first(&mut self, speaker: &Arc<str>) -> Change {
        self.seen.insert(0, Arc::clone(speaker));
        let over = (self.seen.len() > self.most).then(|| self.seen.pop()).flatten();
        let videos =
            |name: &Arc<str>| self.videos.get(name).into_iter().flatten().copied().collect();
        Change { seen: videos(speaker), unseen: over.as_ref().map(videos).unwrap_or_default() }
    }
}

impl Worker {
    /// A room that limits who is seen has an observer of its own, which tells nobody else.
    pub(crate) fn listen_for_speakers(&mut self, key: RouterKey) {
        let heard = self.routers.get(key).and_then(|router| router.heard.as_ref());
        if heard.is_some_and(|heard| heard.wants_speakers()) {
            let method = Method::ActiveSpeaker { interval_ms: SPEAKER_INTERVAL_MS };
            let observer = self.add_own_observer(key, method);
            if let Some(router) = self.routers.get_mut(key) {
                router.observers.push(observer);
            }
        }
    }

    /// A new producer is heard or seen, or has to wait for it.
    pub(crate) fn enter_selection(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let Some(router) = self.routers.get_mut(producer.router) else { return };
        let Some(heard) = &mut router.heard else { return };
        match producer.kind {
            MediaKind::Audio => {
                let says_levels = producer.extensions.id(ExtensionKind::AudioLevel).is_some();
                if heard.loudest.is_some() && says_levels {
                    producer.voice = Some(Voice::default());
                    producer.is_left_out = true;
                }
                let own = router.observers.first().copied();
                if let Some(observer) = own.filter(|_| heard.wants_speakers()) {
                    self.observe_own(observer, key);
                }
            }
            MediaKind::Video => {
                let Some(last) = &mut heard.last else { return };
                let change = last.add(&producer.speaker, key);
                self.change_seen(&change);
            }
        }
    }

    /// A producer that is gone leaves its place to another.
    pub(crate) fn leave_selection(&mut self, key: ProducerKey, producer: &Producer) {
        let router = self.routers.get_mut(producer.router);
        let Some(heard) = router.and_then(|router| router.heard.as_mut()) else { return };
        if let Some(loudest) = &mut heard.loudest {
            loudest.heard.retain(|one| *one != key);
        }
        if let Some(last) = heard.last.as_mut().filter(|_| producer.kind == MediaKind::Video) {
            let change = last.remove(&producer.speaker, key);
            self.change_seen(&change);
        }
    }

    /// A packet of a voice that is ranked. `value` is the extension's.
    pub(crate) fn rank(&mut self, key: ProducerKey, value: u8, at: Arrival) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let Some(voice) = &mut producer.voice else { return };
        voice.note(value, at);
        if !producer.is_left_out {
            return;
        }
        let router = self.routers.get_mut(producer.router);
        let heard = router.and_then(|router| router.heard.as_mut());
        let Some(loudest) = heard.and_then(|heard| heard.loudest.as_mut()) else { return };
        let Some(before) = loudest.take_place(key, &self.producers, at) else { return };
        if let Some(before) = before {
            self.leave_out(before, true);
        }
        self.leave_out(key, false);
        if let Some(voice) = self.producers.get_mut(key).and_then(|one| one.voice.as_mut()) {
            voice.heard_at = Some(at);
        }
    }

    /// A room's own observer says who dominates.
    pub(crate) fn note_speaker(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get(key) else { return };
        let router = self.routers.get_mut(producer.router);
        let heard = router.and_then(|router| router.heard.as_mut());
        let Some(last) = heard.and_then(|heard| heard.last.as_mut()) else { return };
        let change = last.speak(&producer.speaker);
        self.change_seen(&change);
    }

    fn change_seen(&mut self, change: &Change) {
        for (keys, is_left_out) in [(&change.unseen, true), (&change.seen, false)] {
            for &key in keys {
                self.leave_out(key, is_left_out);
            }
        }
    }

    /// Everybody's consumers of a producer rest, or go on: the cost of one packet to all of them.
    fn leave_out(&mut self, key: ProducerKey, is_left_out: bool) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if producer.is_left_out == is_left_out {
            return;
        }
        producer.is_left_out = is_left_out;
        let is_video = producer.kind == MediaKind::Video;
        let streams_count = producer.streams.len();
        for subscriber in &mut producer.subscribers {
            let Subscriber::Consumer { key, streams, .. } = subscriber else { continue };
            let consumer = self.consumers.get_mut(*key).filter(|consumer| !consumer.is_pipe());
            let Some(consumer) = consumer else { continue };
            *streams = consumer.leave_out(is_left_out);
            producer.watched.count_wish(consumer, streams_count);
            consumer.restarts |= !is_left_out && !is_video;
        }
        if is_video {
            self.touch_subscribers(key);
            self.wants_changed(key);
        }
    }
}

#[cfg(test)]
mod tests;
