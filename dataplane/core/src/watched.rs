//! Which of a simulcast's encodings anybody wants, for a publisher that stops sending the others. An
//! encoding is wanted by every receiver that prefers it or a higher one, because it is what is left
//! when a path gets narrow; paused receivers want none. More is told at once, less only when it has
//! lasted: people come, go and rearrange their windows, and each change costs the publisher a key frame.
//! What an encoding cost is remembered meanwhile, so that it can be sent again from its first frame on.
//!
//! A track that came by a pipe or from another worker has its receivers' wishes told to where it comes
//! from (RFC 7728: PAUSE, RESUME), with each change and with each report. A stream that nobody wants there is
//! not sent, and counts as unwanted at its source: so its publisher hears what nobody wants anywhere.

use ironcast_protocol::Event;

use crate::{
    Arrival, Discard, Nanos, SECOND,
    consumer::Consumer,
    key::{ConsumerKey, ProducerKey, TransportKey},
    layers::AT_ONCE,
    producer::Producer,
    transport::reports::OUR_SSRC,
    wire::rtcp::Pause,
    worker::Worker,
};

/// So long nobody has wanted an encoding before that is told.
const UNWANTED_FOR: Nanos = 2 * SECOND;
/// Streams of one message.
const PAUSES_MAX: usize = 100;
/// Encodings of one producer: sets of them have a bit each.
pub(crate) const ENCODINGS_MAX: usize = 8;

/// What is known, and was told, of one producer.
#[derive(Debug, Clone, Copy)]
pub struct Watched {
    /// So many of the lowest encodings are watched, as was told last; at first all.
    told: u8,
    /// When it is told that they are fewer.
    due: Option<Nanos>,
    /// Somebody came, left or chose other layers.
    changed: bool,
    /// Grows with each time that something was told.
    number: u16,
    /// How many receivers want the lowest one and no more, the lowest two, ...
    wishes: [u32; ENCODINGS_MAX],
}

impl Watched {
    /// All of so many encodings.
    #[must_use]
    pub fn all(encodings: usize) -> Self {
        let (told, changed, wishes) = (encodings as u8, encodings > 1, [0; ENCODINGS_MAX]);
        Self { told, due: None, changed, number: 0, wishes }
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

    /// A receiver's wish is counted as it is now. True when it was another.
    pub fn count_wish(&mut self, consumer: &mut Consumer, encodings: usize) -> bool {
        let wants = consumer.wants(encodings as u8);
        let before = std::mem::replace(&mut consumer.counted, wants);
        if let Some(wishes) = self.wishes_for(before) {
            *wishes -= 1;
        }
        if let Some(wishes) = self.wishes_for(wants) {
            *wishes += 1;
        }
        wants != before
    }

    /// A receiver is gone.
    pub fn forget_wish(&mut self, consumer: &Consumer) {
        if let Some(wishes) = self.wishes_for(consumer.counted) {
            *wishes -= 1;
        }
    }

    /// Who wants none is not counted.
    fn wishes_for(&mut self, encodings: u8) -> Option<&mut u32> {
        self.wishes.get_mut(usize::from(encodings).checked_sub(1)?)
    }

    /// How many of the lowest somebody wants.
    fn wanted(&self) -> u8 {
        self.wishes.iter().rposition(|wishes| *wishes > 0).map_or(0, |at| at as u8 + 1)
    }

    /// Whether one more who wants so many may be news.
    fn may_grow_to(&self, wanted: u8) -> bool {
        wanted > self.told || self.due.is_some()
    }

    /// When something may have to be told.
    #[must_use]
    pub fn deadline(&self) -> Option<Nanos> {
        if self.changed { Some(0) } else { self.due }
    }

    /// Whether the number of those who are watched is news now.
    fn update(&mut self, now: Nanos) -> bool {
        let wanted = self.wanted();
        self.changed = false;
        if wanted >= self.told {
            self.due = None;
        } else if now < *self.due.get_or_insert(now + UNWANTED_FOR) {
            return false;
        }
        let is_news = wanted != self.told;
        (self.told, self.due) = (wanted, self.due.filter(|_| !is_news));
        self.number = self.number.wrapping_add(is_news.into());
        is_news
    }
}

impl Producer {
    /// Encodings that nobody watches, as was told last.
    #[must_use]
    pub fn unwatched(&self) -> Vec<u8> {
        (0..self.streams.len() as u8).skip(self.watched.count()).collect()
    }

    /// The same for where it comes from.
    fn pauses(&self) -> impl Iterator<Item = Pause> {
        let several = if self.streams.len() > 1 { &self.streams[..] } else { &[] };
        several.iter().enumerate().filter_map(move |(index, stream)| {
            let (is_paused, number) = (index >= self.watched.count(), self.watched.number);
            Some(Pause { ssrc: stream.ssrc?, is_paused, number })
        })
    }
}

impl Worker {
    /// A receiver of this producer came, who wants so many of its streams: most want what others do.
    pub(crate) fn wants_more(&mut self, key: ProducerKey, wanted: u8) {
        let producer = self.producers.get(key);
        if producer.is_some_and(|producer| producer.watched.may_grow_to(wanted)) {
            self.wants_changed(key);
        }
    }

    /// A receiver may want other layers.
    pub(crate) fn wish_changed(&mut self, key: ConsumerKey) {
        let Some(consumer) = self.consumers.get_mut(key) else { return };
        let Some(producer) = self.producers.get_mut(consumer.producer) else { return };
        if producer.watched.count_wish(consumer, producer.streams.len()) {
            let producer = consumer.producer;
            self.wants_changed(producer);
        }
    }

    /// A receiver of this producer left, or wants other layers.
    pub(crate) fn wants_changed(&mut self, key: ProducerKey) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        if producer.streams.len() > 1 {
            producer.watched.note();
            self.stir(key);
        }
    }

    /// Whether the wishes that are counted are those of the receivers now.
    #[cfg(feature = "audit")]
    #[must_use]
    pub fn wishes_are_counted(&self) -> bool {
        self.producers.iter().all(|(_, producer)| {
            let mut wishes = [0; ENCODINGS_MAX];
            let consumers = producer.consumers().filter_map(|key| self.consumers.get(key));
            for consumer in consumers {
                let wants = usize::from(consumer.wants(producer.streams.len() as u8));
                wants.checked_sub(1).into_iter().for_each(|at| wishes[at] += 1);
            }
            wishes == producer.watched.wishes
        })
    }

    /// Tells what is not watched any more, or again, if that is due.
    pub(crate) fn report_unwatched(&mut self, key: ProducerKey, now: Nanos) {
        let Some(producer) = self.producers.get_mut(key) else { return };
        let is_due = producer.watched.deadline().is_some_and(|at| now >= at);
        if producer.streams.len() < 2 || !is_due {
            return;
        }
        if producer.watched.update(now) {
            let encodings = producer.unwatched();
            for &index in &encodings {
                let stream = &mut producer.streams[usize::from(index)];
                if stream.is_settled(now) {
                    stream.rate_before_bps = Some(stream.rate_bps(u8::MAX, now));
                }
            }
            let (transport, pauses) = (producer.transport, producer.pauses().collect::<Vec<_>>());
            let producer = producer.id.clone();
            self.events.push(Event::ProducerLayersUnwatched { producer, encodings });
            self.write_pauses(transport, &pauses, now);
        }
    }

    /// With the reports to the other end of a pipe: what nobody here wants need not come. Said again and
    /// again, since it may be lost, or who is there may have begun anew.
    pub(crate) fn repeat_pauses(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get(key) else { return };
        if transport.link.is_pipe() {
            let producers = transport.producers.iter().filter_map(|key| self.producers.get(*key));
            let pauses: Vec<_> = producers.flat_map(|producer| producer.pauses()).collect();
            self.write_pauses(key, &pauses, now);
        }
    }

    fn write_pauses(&mut self, key: TransportKey, pauses: &[Pause], now: Nanos) {
        if self.transports.get(key).is_some_and(|transport| transport.link.is_pipe()) {
            for some in pauses.chunks(PAUSES_MAX) {
                self.send_rtcp(key, now, |w| w.pause_resume(OUR_SSRC, some));
            }
        }
    }

    /// Nobody beyond a pipe wants a stream any more, or somebody does again. The last word counts, in
    /// whatever order they came: it is repeated every second.
    pub(crate) fn receive_pause(
        &mut self,
        key: TransportKey,
        pause: Pause,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let consumer = transport.consumer_ssrcs.get(&pause.ssrc);
        let consumer_key = *consumer.ok_or(Discard::RtcpUnknownStream)?;
        let consumer = self.consumers.get_mut(consumer_key).ok_or(Discard::RtcpUnknownStream)?;
        // Receivers say by the API what they want.
        let is_meant = consumer.is_pipe() && consumer.ssrc == pause.ssrc;
        if is_meant && consumer.is_left_out != pause.is_paused {
            consumer.leave_out(pause.is_paused);
            transport.layers_at = AT_ONCE;
            self.follow(consumer_key, arrival.moment());
            self.wish_changed(consumer_key);
            self.touch(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Somebody wants so many.
    fn told(watched: &mut Watched, wanted: usize, now: Nanos) -> bool {
        watched.wishes = std::array::from_fn(|at| u32::from(at + 1 == wanted));
        watched.update(now)
    }

    #[test]
    fn more_is_told_at_once_and_less_when_it_has_lasted() {
        let mut watched = Watched::all(3);
        assert_eq!(watched.deadline(), Some(0));
        assert!(!told(&mut watched, 0, 0));
        // He came in time.
        assert!(!told(&mut watched, 3, SECOND));
        assert_eq!(watched.deadline(), None);
        assert!(!told(&mut watched, 1, SECOND));
        assert!(!told(&mut watched, 2, 2 * SECOND));
        // From when it was less than was told; what is told is what is so then.
        assert_eq!(watched.deadline(), Some(3 * SECOND));
        assert!(told(&mut watched, 2, 3 * SECOND));
        assert_eq!(watched.deadline(), None);
        assert!(told(&mut watched, 3, 3 * SECOND));
        assert!(!told(&mut watched, 3, 4 * SECOND));
    }

    #[test]
    fn who_goes_to_and_fro_is_not_told_of() {
        let mut watched = Watched::all(3);
        for turn in 0..100 {
            assert!(!told(&mut watched, 1, turn * SECOND));
            assert!(!told(&mut watched, 3, turn * SECOND + SECOND / 2));
        }
    }
}
