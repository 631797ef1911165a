//! Which of a simulcast's encodings anybody wants, for a publisher that stops sending the others. An
//! encoding is wanted by every receiver that prefers it or a higher one, because it is what is left
//! when a path gets narrow; paused receivers want none. More is told at once, less only when it has
//! lasted: people come, go and rearrange their windows, and each change costs the publisher a key frame.
//! What an encoding cost is remembered meanwhile, so that it can be sent again from its first frame on.

use ironcast_protocol::Event;

use crate::{Nanos, SECOND, key::ProducerKey, producer::Producer, worker::Worker};

/// So long nobody has wanted an encoding before that is told.
const UNWANTED_FOR: Nanos = 2 * SECOND;

/// What is known, and was told, of one producer.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// So many of the lowest encodings are watched, as was told last; at first all.
    told: u8,
    /// When it is told that they are fewer.
    due: Option<Nanos>,
    /// Somebody came, left or chose other layers.
    changed: bool,
}

impl Watched {
    /// All of so many encodings.
    #[must_use]
    pub fn all(encodings: usize) -> Self {
        Self { told: encodings as u8, due: None, changed: encodings > 1 }
    }

    /// So many of the lowest encodings, as was told last.
    #[must_use]
    pub fn count(&self) -> usize {
        self.told.into()
    }

    /// Something has changed for one that has several encodings.
    pub fn note(&mut self) {
        self.changed = true;
    }

    /// When something may have to be told.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        if self.changed { Some(0) } else { self.due }
    }

    /// Whether the number of those who are watched is news now; `wanted` says how many are.
    fn update(&mut self, wanted: u8, now: Nanos) -> bool {
        self.changed = false;
        if wanted >= self.told {
            self.due = None;
        } else if now < *self.due.get_or_insert(now + UNWANTED_FOR) {
            return false;
        }
        let is_news = wanted != self.told;
        (self.told, self.due) = (wanted, self.due.filter(|_| !is_news));
        is_news
    }
}

impl Producer {
    /// Encodings that nobody watches, as was told last.
    #[must_use]
    pub fn unwatched(&self) -> Vec<u8> {
        (0..self.streams.len() as u8).skip(self.watched.count()).collect()
    }
}

impl Worker {
    /// A receiver of this producer came, left, or wants other layers.
    pub(crate) fn wants_changed(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if producer.streams.len() > 1 {
            producer.watched.note();
            let transport = producer.transport;
            self.touch(transport);
        }
    }

    /// Tells what is not watched any more, or again, if that is due.
    pub(crate) fn report_unwatched(&mut self, key: ProducerKey, now: Nanos) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let is_due = producer.watched.deadline().is_some_and(|at| now >= at);
        if producer.streams.len() < 2 || !is_due {
            return;
        }
        let consumers = producer.consumers().filter_map(|key| self.consumers.get(key));
        let top = producer.streams.len() as u8;
        let wanted = consumers
            .filter(|consumer| !consumer.paused && !consumer.is_left_out)
            .map(|consumer| consumer.preferred.map_or(top, |layers| (layers.spatial + 1).min(top)))
            .max()
            .unwrap_or(0);
        if producer.watched.update(wanted, now) {
            let encodings = producer.unwatched();
            for &index in &encodings {
                let stream = &mut producer.streams[usize::from(index)];
                if stream.is_settled(now) {
                    stream.rate_before_bps = Some(stream.rate_bps(u8::MAX, now));
                }
            }
            let producer = producer.id.clone();
            self.events.push(Event::ProducerLayersUnwatched { producer, encodings });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_is_told_at_once_and_less_when_it_has_lasted() {
        let mut watched = Watched::all(3);
        assert_eq!(watched.deadline(), Some(0));
        assert!(!watched.update(0, 0));
        // He came in time.
        assert!(!watched.update(3, SECOND));
        assert_eq!(watched.deadline(), None);
        assert!(!watched.update(1, SECOND));
        assert!(!watched.update(2, 2 * SECOND));
        // From when it was less than was told; what is told is what is so then.
        assert_eq!(watched.deadline(), Some(3 * SECOND));
        assert!(watched.update(2, 3 * SECOND));
        assert_eq!(watched.deadline(), None);
        assert!(watched.update(3, 3 * SECOND));
        assert!(!watched.update(3, 4 * SECOND));
    }

    #[test]
    fn who_goes_to_and_fro_is_not_told_of() {
        let mut watched = Watched::all(3);
        for turn in 0..100 {
            assert!(!watched.update(1, turn * SECOND));
            assert!(!watched.update(3, turn * SECOND + SECOND / 2));
        }
    }
}
