//! The log of events: numbers them, keeps them for a while so that a caller can resume, and wakes
//! the streams. Owned by the state (so that an event and the change it tells of are one step);
//! streams read it with a cursor of their own, and nobody waits for a slow one.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use ironcast_api::{Event, EventData, EventSeq, Id};
use tokio::sync::watch;

use crate::auth::Principal;

/// Milliseconds of the Unix epoch.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Who follows the implied events says so at least this often.
const FOLLOWED_MIN: Duration = Duration::from_secs(60);

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

/// See the head of this file.
#[derive(Debug)]
pub struct EventLog {
    head: EventSeq,
    keep: Keep,
    /// Without gaps, the last one is `head`. `None`: a score that a newer one replaced.
    entries: VecDeque<(Instant, Option<Arc<Entry>>)>,
    bytes: usize,
    /// The newest score of each resource.
    newest: BTreeMap<ScoreKey, u64>,
    /// Who has made which router; of one that is not here nobody is told but admins.
    owners: HashMap<Id, Arc<str>>,
    /// When somebody last followed the implied events: nobody pays for them otherwise.
    implied_followed: Option<Instant>,
    /// Below this number implied events were left out.
    implied_from: u64,
    wake: watch::Sender<EventSeq>,
    /// Something was published since the streams were woken.
    has_news: bool,
}

impl EventLog {
    /// An empty log of a new epoch.
    #[must_use]
    pub fn new(keep: Keep) -> Self {
        let head = EventSeq::new(unix_ms(), 0);
        Self {
            head,
            keep,
            entries: VecDeque::new(),
            bytes: 0,
            newest: BTreeMap::new(),
            owners: HashMap::new(),
            implied_followed: None,
            implied_from: 0,
            wake: watch::Sender::new(head),
            has_news: false,
        }
    }

    /// The newest event's number.
    #[must_use]
    pub fn head(&self) -> EventSeq {
        self.head
    }

    /// Tells a stream that there is something to read.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<EventSeq> {
        self.wake.subscribe()
    }

    /// Bytes that are kept.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Numbers cannot be continued: everybody has to take a snapshot. A later epoch is greater.
    pub fn begin_epoch(&mut self) {
        self.head = EventSeq::new(unix_ms().max(self.head.epoch + 1), 0);
        self.entries.clear();
        self.newest.clear();
        self.bytes = 0;
        self.implied_from = 0;
        self.has_news = true;
    }

    /// Wakes the streams once for everything that was published since.
    pub fn wake(&mut self) {
        if std::mem::take(&mut self.has_news) {
            self.wake.send_replace(self.head);
        }
    }

    /// Events of a router are for its owner from now on.
    pub fn own(&mut self, router_id: &Id, owner: Option<&Arc<str>>) {
        if let Some(owner) = owner {
            self.owners.insert(router_id.clone(), Arc::clone(owner));
        }
    }

    /// A router has gone, and this was told.
    pub fn disown(&mut self, router_id: &Id) {
        self.owners.remove(router_id);
    }

    /// The same for all routers, whatever was known before.
    pub fn own_all<'a>(&mut self, routers: impl Iterator<Item = (&'a Id, Option<&'a Arc<str>>)>) {
        self.owners.clear();
        routers.for_each(|(router_id, owner)| self.own(router_id, owner));
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
        if self.is_implied_followed(Instant::now()) {
            self.add(Some(router_id), data(), true);
        } else {
            self.implied_from = self.head.number + 1;
        }
    }

    /// Somebody who is at `cursor` follows the implied events, and goes on to do so for a while.
    pub fn follow_implied(&mut self, cursor: EventSeq, now: Instant) -> Result<(), Lost> {
        self.implied_followed = Some(now);
        if cursor.number < self.implied_from { Err(Lost) } else { Ok(()) }
    }

    fn is_implied_followed(&self, now: Instant) -> bool {
        let since = self.implied_followed.map(|at| now.saturating_duration_since(at));
        since.is_some_and(|since| since < self.keep.time.max(FOLLOWED_MIN))
    }

    fn add(&mut self, router_id: Option<&Id>, data: EventData, is_implied: bool) {
        let audience = match router_id {
            None => Audience::Everybody,
            Some(id) => Audience::Owner(self.owners.get(id).cloned()),
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
        let event =
            Event { seq: self.head.next(), time: unix_ms(), router_id: router_id.cloned(), data };
        let name = event.name();
        let json = match serde_json::to_string(&event) {
            Ok(json) => json,
            Err(error) => {
                tracing::error!(name, %error, "an event cannot be written");
                return;
            }
        };
        self.head = event.seq;
        let router = event.router_id.as_ref().map(Id::as_str);
        tracing::debug!(router, event = name, data = json, "told");
        let score_key = score_key(name, &event.data);
        if let Some(key) = &score_key
            && let Some(older) = self.newest.insert(key.clone(), event.seq.number)
        {
            self.forget(older);
        }
        let text = format!("id: {}\nevent: {name}\ndata: {json}\n\n", event.seq).into_boxed_str();
        let number = event.seq.number;
        let router_id = event.router_id;
        let at = Instant::now();
        let entry = Entry { number, name, router_id, audience, is_implied, text, at, score_key };
        self.bytes += entry.bytes();
        self.entries.push_back((at, Some(Arc::new(entry))));
        self.expire(at);
        self.has_news = true;
    }

    /// Drops what is too old or too much.
    pub fn expire(&mut self, now: Instant) {
        while let Some((at, _)) = self.entries.front() {
            let is_over = self.bytes > self.keep.bytes;
            let is_old = now.saturating_duration_since(*at) > self.keep.time;
            if !is_over && !is_old {
                break;
            }
            let Some((_, Some(entry))) = self.entries.pop_front() else { continue };
            self.bytes -= entry.bytes();
            if let Some(key) = &entry.score_key {
                // It was the newest, or it would have been replaced.
                self.newest.remove(key);
            }
        }
        // After the events of a large call.
        if self.entries.capacity() > 4 * self.entries.len().max(1_024) {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    /// Everything behind `after`; at most about `bytes_max`.
    pub fn read(&self, after: EventSeq, bytes_max: usize) -> Result<Vec<Arc<Entry>>, Lost> {
        if after.epoch != self.head.epoch || after.number > self.head.number {
            return Err(Lost);
        }
        let first = self.head.number - self.entries.len() as u64;
        if after.number < first {
            return Err(Lost);
        }
        let skip = usize::try_from(after.number - first).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let mut out = Vec::new();
        for entry in self.entries.iter().skip(skip).filter_map(|(_, entry)| entry.as_ref()) {
            bytes += entry.text.len();
            out.push(Arc::clone(entry));
            if bytes > bytes_max {
                break;
            }
        }
        Ok(out)
    }

    /// How many events are behind `after`.
    #[must_use]
    pub fn lag(&self, after: EventSeq) -> u64 {
        self.head.number.saturating_sub(after.number)
    }

    fn forget(&mut self, number: u64) {
        let first = self.head.number.saturating_sub(1 + self.entries.len() as u64) + 1;
        let Some(index) = number.checked_sub(first).and_then(|i| usize::try_from(i).ok()) else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(index).and_then(|(_, entry)| entry.take()) {
            self.bytes -= entry.bytes();
        }
    }
}

fn score_key(name: &'static str, data: &EventData) -> Option<ScoreKey> {
    match data {
        EventData::ProducerScore(score) => Some((name, score.producer.producer_id.clone())),
        EventData::ConsumerScore(score) => Some((name, score.consumer.consumer_id.clone())),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
