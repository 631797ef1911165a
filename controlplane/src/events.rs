//! The log of events: numbers them, keeps them for a while so that a caller can resume, and wakes
//! the streams. [`EventLog`] is its writing end, owned by the state, so that an event and the change
//! it tells of are one step. Streams have the reading end, [`EventReader`], each with a cursor of
//! its own: they take the log's lock, never the state's, and nobody waits for a slow one.
//! [`kept`] is what is kept.

mod kept;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ironcast_api::{Event, EventData, EventSeq, Id};
use tokio::sync::watch;

use crate::auth::Principal;
use kept::Kept;

/// Room for the data of most events, so that they are written without growing.
const EVENT_BYTES: usize = 512;

/// Milliseconds of the Unix epoch.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Keep {
    /// Events are kept for so long.
    pub time: Duration,
    /// Memory for them, all that comes with an event included.
    pub bytes: usize,
}

/// Whom an event is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Audience {
    /// It is about no router.
    Everybody,
    /// Who has made the router that it is about, if that is known, and admins.
    Owner(Option<Arc<str>>),
    /// Admins: it is about several principals' routers.
    Admins,
    /// One principal: his part of what admins are told whole.
    Part(Arc<str>),
}

impl Audience {
    /// Whether somebody is told.
    #[must_use]
    pub fn has(&self, who: &Principal) -> bool {
        match self {
            Self::Everybody => true,
            Self::Owner(owner) => who.sees(owner.as_ref()),
            Self::Admins => who.is_admin(),
            Self::Part(name) => !who.is_admin() && who.sees(Some(name)),
        }
    }
}

/// One event, written as it goes out.
#[derive(Debug)]
pub struct Entry {
    /// Its number.
    pub number: u64,
    /// Its name.
    pub name: &'static str,
    /// The router it is about.
    pub router_id: Option<Id>,
    /// Who is told.
    pub audience: Audience,
    /// It follows from another one: what hung below something was closed with it.
    pub is_implied: bool,
    /// `id:`, `event:`, `data:` and the empty line.
    pub text: Box<str>,
    /// When it was published.
    pub at: Instant,
    score_key: Option<ScoreKey>,
}

/// A kind of score and the resource it is about.
type ScoreKey = (&'static str, Id);

impl Entry {
    /// What it takes, with its place in the log.
    fn bytes(&self) -> usize {
        let ids = [self.router_id.as_ref(), self.score_key.as_ref().map(|(_, id)| id)];
        let ids: usize = ids.into_iter().flatten().map(|id| id.as_str().len()).sum();
        size_of::<Self>() + size_of::<(Instant, Option<Arc<Self>>)>() + self.text.len() + ids
    }

    /// Scores are not sent to who resumes.
    #[must_use]
    pub fn is_coalesced(&self) -> bool {
        self.score_key.is_some()
    }
}

/// The events that are gone: the reader has to take a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost;

/// The log, as its two ends share it.
#[derive(Debug)]
struct Shared {
    kept: Mutex<Kept>,
    wake: watch::Sender<EventSeq>,
}

impl Shared {
    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The writing end. There is one: a number that it has looked up is still the next one when the
/// event is written.
#[derive(Debug)]
pub struct EventLog {
    shared: Arc<Shared>,
    /// Something was published since the streams were woken.
    has_news: bool,
}

/// A reading end.
#[derive(Debug, Clone)]
pub struct EventReader(Arc<Shared>);

impl EventLog {
    /// An empty log of a new epoch.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        let head = EventSeq::new(unix_ms(), 0);
        let kept = Mutex::new(Kept::new(head, keep));
        let shared = Arc::new(Shared { kept, wake: watch::Sender::new(head) });
        Self { shared, has_news: false }
    }

    /// A reading end.
    #[must_use]
    pub fn reader(&self) -> EventReader {
        EventReader(Arc::clone(&self.shared))
    }

    /// The newest event's number.
    #[must_use]
    pub fn head(&self) -> EventSeq {
        self.shared.kept().head()
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shared.kept().bytes()
    }

    /// Numbers cannot be continued: everybody has to take a snapshot. A later epoch is greater.
    pub fn begin_epoch(&mut self) {
        let mut kept = self.shared.kept();
        let epoch = unix_ms().max(kept.head().epoch + 1);
        kept.begin_epoch(EventSeq::new(epoch, 0));
        self.has_news = true;
    }

    /// Wakes the streams once for everything that was published since: those of one router only if
    /// something is for them.
    pub fn wake(&mut self) {
        if !std::mem::take(&mut self.has_news) {
            return;
        }
        let mut kept = self.shared.kept();
        let head = kept.head();
        kept.wake_followers();
        drop(kept);
        self.shared.wake.send_replace(head);
    }

    /// Events of a router are for its owner from now on.
    pub fn own(&mut self, router_id: &Id, owner: Option<&Arc<str>>) {
        self.shared.kept().own(router_id, owner);
    }

    /// A router has gone, and this was told.
    pub fn disown(&mut self, router_id: &Id) {
        self.shared.kept().disown(router_id);
    }

    /// The same for all routers, whatever was known before.
    pub fn own_all<'a>(&mut self, routers: impl Iterator<Item = (&'a Id, Option<&'a Arc<str>>)>) {
        self.shared.kept().own_all(routers);
    }

    /// Adds an event.
    pub fn publish(&mut self, router_id: Option<&Id>, data: EventData) {
        self.add(router_id, data, false);
    }

    /// Adds an event about several routers.
    pub fn publish_for(&mut self, audience: Audience, data: EventData) {
        self.write(None, audience, data, false);
    }

    /// Adds an event that follows from one that comes right behind it. The end of a large room has
    /// tens of thousands of them: they are made only while somebody follows them.
    pub fn publish_implied(&mut self, router_id: &Id, data: impl FnOnce() -> EventData) {
        if self.wants_implied() {
            self.add(Some(router_id), data(), true);
        }
    }

    /// Whether somebody follows the implied events. If not, they are missing from now on.
    pub fn wants_implied(&mut self) -> bool {
        self.shared.kept().wants_implied(Instant::now())
    }

    /// Drops what is too old or too much.
    pub fn expire(&mut self, now: Instant) {
        self.shared.kept().expire(now);
    }

    fn add(&mut self, router_id: Option<&Id>, data: EventData, is_implied: bool) {
        let audience = match router_id {
            None => Audience::Everybody,
            Some(id) => Audience::Owner(self.shared.kept().owner(id)),
        };
        self.write(router_id, audience, data, is_implied);
    }

    fn write(
        &mut self,
        router_id: Option<&Id>,
        audience: Audience,
        data: EventData,
        is_implied: bool,
    ) {
        let seq = self.head().next();
        let event = Event { seq, time: unix_ms(), router_id: router_id.cloned(), data };
        let name = event.name();
        // Without the log's lock: this takes longer than everything else.
        let text = match event_text(&event) {
            Ok(text) => text,
            Err(error) => {
                tracing::error!(name, %error, "an event cannot be written");
                return;
            }
        };
        let router = event.router_id.as_ref().map(Id::as_str);
        tracing::debug!(router, event = name, text, "told");
        let score_key = score_key(name, &event.data);
        let (number, router_id, at) = (seq.number, event.router_id, Instant::now());
        let entry = Entry { number, name, router_id, audience, is_implied, text, at, score_key };
        self.shared.kept().push(seq, entry);
        self.has_news = true;
    }
}

impl EventReader {
    /// The newest event's number.
    #[must_use]
    pub fn head(&self) -> EventSeq {
        self.0.kept().head()
    }

    /// Tells a stream that there is something to read, of one router if only that is followed.
    #[must_use]
    pub fn subscribe(&self, router_id: Option<&Id>) -> watch::Receiver<EventSeq> {
        match router_id {
            Some(id) => self.0.kept().follow(id),
            None => self.0.wake.subscribe(),
        }
    }

    /// Somebody who is at `cursor` follows the implied events, and goes on to do so for a while.
    pub fn follow_implied(&self, cursor: EventSeq, now: Instant) -> Result<(), Lost> {
        self.0.kept().follow_implied(cursor, now)
    }

    /// What is behind `after`, at most about `bytes_max`, and the newest event's number: all of it,
    /// or what is about one router or none.
    pub fn read(
        &self,
        after: EventSeq,
        router_id: Option<&Id>,
        bytes_max: usize,
    ) -> Result<(Vec<Arc<Entry>>, EventSeq), Lost> {
        let kept = self.0.kept();
        Ok((kept.read(after, router_id, bytes_max)?, kept.head()))
    }

    /// How many events are behind `after`.
    #[must_use]
    pub fn lag(&self, after: EventSeq) -> u64 {
        self.head().number.saturating_sub(after.number)
    }
}

/// An event as it goes out: `id:`, `event:`, `data:` and the empty line.
fn event_text(event: &Event) -> serde_json::Result<Box<str>> {
    let mut text = format!("id: {}\nevent: {}\ndata: ", event.seq, event.name());
    text.reserve(EVENT_BYTES);
    let mut bytes = text.into_bytes();
    serde_json::to_writer(&mut bytes, event)?;
    bytes.extend_from_slice(b"\n\n");
    Ok(String::from_utf8(bytes).map_err(serde::ser::Error::custom)?.into_boxed_str())
}

fn score_key(name: &'static str, data: &EventData) -> Option<ScoreKey> {
    match data {
        EventData::ProducerScore(score) => Some((name, score.producer.producer_id.clone())),
        EventData::ConsumerScore(score) => Some((name, score.consumer.consumer_id.clone())),
        // Volumes and silence are news of one thing.
        EventData::ObserverVolumes(told) => Some(("observer.volumes", told.observer_id.clone())),
        EventData::ObserverSilence(told) => Some(("observer.volumes", told.observer_id.clone())),
        EventData::ObserverDominantSpeaker(told) => Some((name, told.observer_id.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
