//! What waits for one receiver, in order: events as they will be sent, and notices of those that
//! are not there any more. Bounded: what is too much is dropped at the old end, and the notice of it
//! stands where it stood.

use std::collections::VecDeque;

use ironcast_api::EventSeq;
use serde::Serialize;
use serde_json::{Value, json};

/// Why events are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// More waited than may.
    QueueFull,
    /// The control plane was started again, or lost the dataplane for a moment: something may have
    /// happened that nobody saw.
    NewEpoch,
}

/// Events that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// Behind this one, if any came before.
    pub after: Option<EventSeq>,
    /// How many, if that is known.
    pub count: Option<u64>,
    pub reason: Reason,
}

impl Gap {
    /// As it is sent. `id` is that of the event before it, so that ids never go back.
    fn json(&self) -> Value {
        json!({
            "id": format!("{}.lost", self.after.unwrap_or_default()),
            "type": "events_lost",
            "data": { "after": self.after, "count": self.count, "reason": self.reason },
        })
    }
}

#[derive(Debug, Clone)]
enum Item {
    Event(EventSeq, Box<str>),
    Lost(Gap),
    /// Of a run before: an event or a notice, and how it is to be counted.
    Old(Box<str>),
}

impl Item {
    fn bytes(&self) -> usize {
        let text = match self {
            Self::Event(_, text) | Self::Old(text) => text.len(),
            Self::Lost(_) => 0,
        };
        size_of::<Self>() + text
    }

    fn text(&self) -> String {
        match self {
            Self::Event(_, text) | Self::Old(text) => text.to_string(),
            Self::Lost(gap) => gap.json().to_string(),
        }
    }
}

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub events: usize,
    pub bytes: usize,
    /// Of one delivery.
    pub batch: usize,
}

/// See the head of this file.
#[derive(Debug)]
pub struct Queue {
    bounds: Bounds,
    items: VecDeque<Item>,
    bytes: usize,
    /// Taken for a delivery that has not succeeded yet.
    sending: Vec<Item>,
    /// The last event that was delivered or dropped.
    behind: Option<EventSeq>,
    /// Events that were dropped.
    pub dropped: u64,
}

impl Queue {
    /// Nothing waits. `behind` was delivered.
    #[must_use]
    pub fn new(bounds: Bounds, behind: Option<EventSeq>) -> Self {
        Self { bounds, items: VecDeque::new(), bytes: 0, sending: Vec::new(), behind, dropped: 0 }
    }

    /// What a run before had not delivered.
    pub fn restore(&mut self, waiting: &[Value]) {
        for one in waiting {
            self.push(Item::Old(one.to_string().into()));
        }
    }

    /// An event, as JSON.
    pub fn push_event(&mut self, seq: EventSeq, name: &str, data: &str) {
        let text = format!("{{\"id\":\"{seq}\",\"type\":\"{name}\",\"data\":{data}}}");
        self.push(Item::Event(seq, text.into()));
    }

    /// Something is missing here.
    pub fn push_gap(&mut self, reason: Reason) {
        let after = self.last().or(self.behind);
        self.push(Item::Lost(Gap { after, count: None, reason }));
    }

    /// The newest event that waits.
    fn last(&self) -> Option<EventSeq> {
        self.items.iter().chain(&self.sending).rev().find_map(|item| match item {
            Item::Event(seq, _) => Some(*seq),
            _ => None,
        })
    }

    fn push(&mut self, item: Item) {
        self.bytes += item.bytes();
        self.items.push_back(item);
        while self.items.len() > self.bounds.events || self.bytes > self.bounds.bytes {
            if !self.drop_oldest() {
                break;
            }
        }
    }

    /// The oldest event becomes part of a notice; false if there is none to drop.
    fn drop_oldest(&mut self) -> bool {
        if self.items.len() < 2 {
            return false;
        }
        let mut gap = match self.items.front() {
            Some(Item::Lost(gap)) => *gap,
            _ => {
                let after = self.last_taken();
                let gap = Gap { after, count: Some(0), reason: Reason::QueueFull };
                self.bytes += Item::Lost(gap).bytes();
                self.items.push_front(Item::Lost(gap));
                gap
            }
        };
        // Of what an older notice is about the number is not known, nor is it of the sum then.
        match self.items.remove(1) {
            Some(Item::Lost(next)) => {
                self.bytes -= Item::Lost(next).bytes();
                gap.count = gap.count.zip(next.count).map(|(a, b)| a + b);
            }
            Some(item) => {
                self.bytes -= item.bytes();
                gap.count = gap.count.map(|count| count + 1);
                self.dropped += 1;
            }
            None => return false,
        }
        if let Some(front) = self.items.front_mut() {
            *front = Item::Lost(gap);
        }
        self.items.len() > 1
    }

    /// The last event that a receiver has got, or is being sent.
    fn last_taken(&self) -> Option<EventSeq> {
        let sending = self.sending.iter().rev().find_map(|item| match item {
            Item::Event(seq, _) => Some(*seq),
            _ => None,
        });
        sending.or(self.behind)
    }

    /// The body of the next delivery: the same again until [`Self::delivered`] is said.
    pub fn next(&mut self) -> Option<String> {
        if self.sending.is_empty() {
            let count = self.items.len().min(self.bounds.batch);
            self.sending = self.items.drain(..count).collect();
            self.bytes -= self.sending.iter().map(Item::bytes).sum::<usize>();
        }
        if self.sending.is_empty() {
            return None;
        }
        let texts: Vec<String> = self.sending.iter().map(Item::text).collect();
        Some(format!("{{\"events\":[{}]}}", texts.join(",")))
    }

    /// The receiver has it. Gives how many it were.
    pub fn delivered(&mut self) -> u64 {
        self.behind = self.last_taken();
        let count = self.sending.len() as u64;
        self.sending.clear();
        count
    }

    /// How many wait, those of the delivery under way among them.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.items.len() + self.sending.len()
    }

    /// The last event that was delivered.
    #[must_use]
    pub fn behind(&self) -> Option<EventSeq> {
        self.behind
    }

    /// What was not delivered, to be restored.
    #[must_use]
    pub fn undelivered(&self) -> Vec<Value> {
        let items = self.sending.iter().chain(&self.items);
        items.filter_map(|item| serde_json::from_str(&item.text()).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(events: usize, batch: usize) -> Queue {
        Queue::new(Bounds { events, bytes: 1 << 20, batch }, None)
    }

    fn push(queue: &mut Queue, numbers: std::ops::RangeInclusive<u64>) {
        for number in numbers {
            queue.push_event(EventSeq::new(7, number), "router.created", "{}");
        }
    }

    fn ids(body: Option<String>) -> Vec<String> {
        let body: Value = serde_json::from_str(&body.expect("something waits")).expect("JSON");
        let events = body["events"].as_array().expect("a list").iter();
        events.map(|one| one["id"].as_str().expect("an id").to_owned()).collect()
    }

    #[test]
    fn the_same_is_sent_until_it_was_delivered() {
        let mut queue = queue(10, 2);
        assert!(queue.next().is_none());
        push(&mut queue, 1..=3);
        assert_eq!(ids(queue.next()), ["7-1", "7-2"]);
        assert_eq!(ids(queue.next()), ["7-1", "7-2"]);
        assert_eq!((queue.delivered(), queue.behind()), (2, Some(EventSeq::new(7, 2))));
        assert_eq!(ids(queue.next()), ["7-3"]);
        assert_eq!(queue.undelivered().len(), 1);
    }

    #[test]
    fn what_is_too_much_is_a_notice_where_it_stood() {
        let mut queue = queue(4, 10);
        push(&mut queue, 1..=2);
        assert_eq!(ids(queue.next()), ["7-1", "7-2"]);
        push(&mut queue, 3..=12);
        queue.delivered();
        // The notice is one of the four.
        assert_eq!(queue.dropped, 7);
        let body = queue.next();
        assert_eq!(ids(body.clone()), ["7-2.lost", "7-10", "7-11", "7-12"]);
        let body: Value = serde_json::from_str(&body.unwrap()).unwrap();
        let data = json!({ "after": "7-2", "count": 7, "reason": "queue_full" });
        assert_eq!(body["events"][0]["data"], data);
    }

    #[test]
    fn notices_are_joined_and_bytes_are_bounded() {
        let mut queue = Queue::new(Bounds { events: 100, bytes: 2_000, batch: 100 }, None);
        push(&mut queue, 1..=3);
        queue.push_gap(Reason::NewEpoch);
        for number in 1..=500 {
            queue.push_event(EventSeq::new(8, number), "router.closed", "{}");
        }
        assert!(queue.bytes <= 2_000 && queue.waiting() > 5, "{queue:?}");
        let body: Value = serde_json::from_str(&queue.next().unwrap()).unwrap();
        assert_eq!(body["events"][0]["type"], "events_lost");
        assert_eq!(body["events"][0]["data"]["count"], Value::Null, "nobody knows");
        assert_eq!(queue.dropped as usize + queue.waiting() - 1, 503);
        assert_eq!(queue.bytes, 0);
    }

    #[test]
    fn what_was_not_delivered_is_restored_in_order() {
        let mut first = queue(10, 2);
        push(&mut first, 1..=4);
        first.next();
        let mut second = queue(10, 10);
        second.restore(&first.undelivered());
        second.push_gap(Reason::NewEpoch);
        push(&mut second, 5..=5);
        assert_eq!(ids(second.next()), ["7-1", "7-2", "7-3", "7-4", "0-0.lost", "7-5"]);
    }
}
