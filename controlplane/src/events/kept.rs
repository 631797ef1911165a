//! What the log keeps: the entries in order, an index of them by router, and who follows which
//! router. Plain data under the log's lock; whatever is asked of it takes a time that does not grow
//! with the number of streams or of rooms.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use ironcast_api::{EventSeq, Id};
use tokio::sync::watch;

use super::{Entry, Keep, Lost, ScoreKey};

/// Who follows the implied events says so at least this often.
const FOLLOWED_MIN: Duration = Duration::from_secs(60);

/// Scores are not sent to who resumes: they are kept only until every stream that keeps pace has
/// read them. A large room has one for each of its consumers.
const SCORES_KEPT: Duration = Duration::from_secs(10);

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Kept {
    head: EventSeq,
    keep: Keep,
    /// Without gaps, the last one is `head`. `None`: a score that a newer one replaced, or that is old.
    entries: VecDeque<(Instant, Option<Arc<Entry>>)>,
    bytes: usize,
    /// The newest score of each resource.
    newest: BTreeMap<ScoreKey, u64>,
    /// Numbers of the scores, in order; some are not kept any more.
    scores: VecDeque<u64>,
    /// Numbers of the entries about each router, replaced ones among them.
    by_router: HashMap<Id, VecDeque<u64>>,
    /// The same of those about none.
    about_none: VecDeque<u64>,
    /// Streams of one router, woken for that one only.
    followers: HashMap<Id, watch::Sender<EventSeq>>,
    /// Followed routers that something was published about since the streams were woken.
    news: Vec<Id>,
    has_news_for_all: bool,
    /// Who has made which router; of one that is not here nobody is told but admins.
    owners: HashMap<Id, Arc<str>>,
    /// When somebody last followed the implied events: nobody pays for them otherwise.
    implied_followed: Option<Instant>,
    /// Below this number implied events were left out.
    implied_from: u64,
}

impl Kept {
    pub(super) fn new(head: EventSeq, keep: Keep) -> Self {
        Self {
            head,
            keep,
            entries: VecDeque::new(),
            bytes: 0,
            newest: BTreeMap::new(),
            scores: VecDeque::new(),
            by_router: HashMap::new(),
            about_none: VecDeque::new(),
            followers: HashMap::new(),
            news: Vec::new(),
            has_news_for_all: false,
            owners: HashMap::new(),
            implied_followed: None,
            implied_from: 0,
        }
    }

    pub(super) fn head(&self) -> EventSeq {
        self.head
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    #[cfg(test)]
    pub(super) fn indexed(&self) -> usize {
        self.about_none.len() + self.by_router.values().map(VecDeque::len).sum::<usize>()
    }

    #[cfg(test)]
    pub(super) fn is_without_index(&self) -> bool {
        self.by_router.is_empty() && self.about_none.is_empty() && self.followers.is_empty()
    }

    pub(super) fn begin_epoch(&mut self, head: EventSeq) {
        self.head = head;
        self.entries.clear();
        self.newest.clear();
        self.scores.clear();
        self.by_router.clear();
        self.about_none.clear();
        self.bytes = 0;
        self.implied_from = 0;
        self.has_news_for_all = true;
    }

    pub(super) fn own(&mut self, router_id: &Id, owner: Option<&Arc<str>>) {
        if let Some(owner) = owner {
            self.owners.insert(router_id.clone(), Arc::clone(owner));
        }
    }

    pub(super) fn disown(&mut self, router_id: &Id) {
        self.owners.remove(router_id);
    }

    pub(super) fn own_all<'a>(
        &mut self,
        routers: impl Iterator<Item = (&'a Id, Option<&'a Arc<str>>)>,
    ) {
        self.owners.clear();
        routers.for_each(|(router_id, owner)| self.own(router_id, owner));
    }

    pub(super) fn owner(&self, router_id: &Id) -> Option<Arc<str>> {
        self.owners.get(router_id).cloned()
    }

    /// Whether an implied event is to be published; one that is not is missing from now on.
    pub(super) fn wants_implied(&mut self, now: Instant) -> bool {
        let since = self.implied_followed.map(|at| now.saturating_duration_since(at));
        let is_followed = since.is_some_and(|since| since < self.keep.time.max(FOLLOWED_MIN));
        if !is_followed {
            self.implied_from = self.head.number + 1;
        }
        is_followed
    }

    pub(super) fn follow_implied(&mut self, cursor: EventSeq, now: Instant) -> Result<(), Lost> {
        self.implied_followed = Some(now);
        if cursor.number < self.implied_from { Err(Lost) } else { Ok(()) }
    }

    /// Somebody follows a router.
    pub(super) fn follow(&mut self, router_id: &Id) -> watch::Receiver<EventSeq> {
        let head = self.head;
        let sender = self.followers.entry(router_id.clone());
        sender.or_insert_with(|| watch::Sender::new(head)).subscribe()
    }

    /// Wakes the streams of routers for what was published about them, or about no router.
    pub(super) fn wake_followers(&mut self) {
        let head = self.head;
        if std::mem::take(&mut self.has_news_for_all) {
            self.news.clear();
            for follower in self.followers.values() {
                follower.send_replace(head);
            }
        }
        for id in self.news.drain(..) {
            if let Some(follower) = self.followers.get(&id) {
                follower.send_replace(head);
            }
        }
    }

    /// Adds the entry of the next number.
    pub(super) fn push(&mut self, seq: EventSeq, mut entry: Entry) {
        let first = self.first();
        self.head = seq;
        if let Some(key) = &entry.score_key
            && let Some(older) = self.newest.insert(key.clone(), seq.number)
        {
            self.forget(older);
        }
        if entry.score_key.is_some() {
            self.scores.push_back(seq.number);
        }
        if let Some(id) = &mut entry.router_id
            && let Some((known, _)) = self.by_router.get_key_value(id)
        {
            *id = known.clone();
        }
        match &entry.router_id {
            None => {
                self.about_none.push_back(seq.number);
                self.has_news_for_all = true;
            }
            Some(id) => {
                match self.by_router.get_mut(id) {
                    Some(numbers) => {
                        // Of a room that tells nothing but scores and who speaks, all but the
                        // newest were replaced: nothing else takes their numbers away.
                        while numbers.front().is_some_and(|number| *number < first) {
                            numbers.pop_front();
                        }
                        numbers.push_back(seq.number);
                    }
                    None => drop(self.by_router.insert(id.clone(), [seq.number].into())),
                }
                if self.news.last() != Some(id) && self.followers.contains_key(id) {
                    self.news.push(id.clone());
                }
            }
        }
        let at = entry.at;
        self.bytes += entry.bytes();
        self.entries.push_back((at, Some(Arc::new(entry))));
        self.drop_old(at);
    }

    /// Drops what is too old or too much, and who does not follow any more.
    pub(super) fn expire(&mut self, now: Instant) {
        self.drop_old(now);
        self.followers.retain(|_, follower| follower.receiver_count() > 0);
        // A stream whose router is quiet moves on, or its place would be dropped under it.
        for follower in self.followers.values() {
            follower.send_replace(self.head);
        }
        // After the events of a large call.
        if self.entries.capacity() > 4 * self.entries.len().max(1_024) {
            self.entries.shrink_to(2 * self.entries.len());
        }
        if self.by_router.capacity() > 4 * self.by_router.len().max(1_024) {
            self.by_router.shrink_to(2 * self.by_router.len());
        }
    }

    fn drop_old(&mut self, now: Instant) {
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
            let numbers = match &entry.router_id {
                None => Some(&mut self.about_none),
                Some(id) => self.by_router.get_mut(id),
            };
            let Some(numbers) = numbers else { continue };
            // Those that were replaced before it go with it: one that replaced them is behind.
            while numbers.front().is_some_and(|number| *number <= entry.number) {
                numbers.pop_front();
            }
            if let Some(id) = &entry.router_id
                && numbers.is_empty()
            {
                self.by_router.remove(id);
            }
        }
        self.drop_old_scores(now);
    }

    fn drop_old_scores(&mut self, now: Instant) {
        while let Some(number) = self.scores.front().copied() {
            let place = number.checked_sub(self.first()).map(index);
            let kept = place.and_then(|place| self.entries.get_mut(place));
            if let Some((at, kept)) = kept
                && kept.is_some()
            {
                if now.saturating_duration_since(*at) <= SCORES_KEPT {
                    break;
                }
                if let Some(entry) = kept.take() {
                    self.bytes -= entry.bytes();
                    // It was the newest, or it would have been replaced.
                    entry.score_key.as_ref().map(|key| self.newest.remove(key));
                }
            }
            self.scores.pop_front();
        }
    }

    /// See [`super::EventReader::read`].
    pub(super) fn read(
        &self,
        after: EventSeq,
        router_id: Option<&Id>,
        bytes_max: usize,
    ) -> Result<Vec<Arc<Entry>>, Lost> {
        let first = self.first();
        if after.epoch != self.head.epoch || !(first - 1..=self.head.number).contains(&after.number)
        {
            return Err(Lost);
        }
        let Some(id) = router_id else {
            let entries = self.entries.range(index(after.number + 1 - first)..);
            return Ok(cut(entries.filter_map(|(_, entry)| entry.as_ref()), bytes_max));
        };
        static NONE: VecDeque<u64> = VecDeque::new();
        let behind =
            |numbers: &'_ VecDeque<u64>| numbers.partition_point(|number| *number <= after.number);
        let of_router = self.by_router.get(id).unwrap_or(&NONE);
        let mut of_router = of_router.range(behind(of_router)..).copied().peekable();
        let about_none = self.about_none.range(behind(&self.about_none)..).copied();
        let mut about_none = about_none.peekable();
        // The smaller of the two first.
        let numbers = std::iter::from_fn(|| match (of_router.peek(), about_none.peek()) {
            (Some(one), Some(other)) if one > other => about_none.next(),
            (Some(_), _) => of_router.next(),
            (None, _) => about_none.next(),
        });
        let entries = numbers.filter_map(|number| {
            let (_, entry) = self.entries.get(index(number.checked_sub(first)?))?;
            entry.as_ref()
        });
        Ok(cut(entries, bytes_max))
    }

    /// The number of the oldest entry, or of the next one where there is none.
    fn first(&self) -> u64 {
        self.head.number + 1 - self.entries.len() as u64
    }

    fn forget(&mut self, number: u64) {
        // The newest entry is not in it yet: `head` is its number already.
        let first = self.first() - 1;
        let Some(index) = number.checked_sub(first).map(index) else { return };
        if let Some(entry) = self.entries.get_mut(index).and_then(|(_, entry)| entry.take()) {
            self.bytes -= entry.bytes();
        }
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The first of them, at most about so many bytes.
fn cut<'a>(entries: impl Iterator<Item = &'a Arc<Entry>>, bytes_max: usize) -> Vec<Arc<Entry>> {
    let (mut bytes, mut out) = (0, Vec::new());
    for entry in entries {
        bytes += entry.text.len();
        out.push(Arc::clone(entry));
        if bytes > bytes_max {
            break;
        }
    }
    out
}
