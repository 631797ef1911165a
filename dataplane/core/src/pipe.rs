//! Pipes: consumers that carry a whole track to another router. One takes every stream of its producer
//! with all layers, each under an SSRC of its own, and chooses nothing: the receivers' side does. In
//! this core it is several parts, each an ordinary [`Consumer`] that is bound to one stream, so that
//! numbers, repeats and reports are what they are; under one id they are paused, closed and described
//! together.

use ironcast_protocol::{
    CommandError, ErrorCode, Id,
    command::{Consume, ConsumerScore},
    media::RtpType,
};

use crate::{Nanos, consumer::Consumer, key::ConsumerKey, producer::Producer, worker::Worker};

/// Which streams the parts of a new consumer are bound to: one part that is bound to none, but of a
/// pipe.
///
/// # Errors
/// `Invalid`: a pipe with other streams than its producer.
pub(crate) fn parts_of(create: &Consume, streams: usize) -> Result<Vec<Option<u8>>, CommandError> {
    if create.rtp_type != RtpType::Pipe {
        return Ok(vec![None]);
    }
    let encodings = create.rtp_parameters.encodings.len();
    if encodings != streams {
        let message = format!("a pipe of {encodings} encodings, and a producer of {streams}");
        return Err(CommandError::new(ErrorCode::Invalid, message));
    }
    Ok((0..streams as u8).map(Some).collect())
}

/// Quality of a consumer, of a pipe that of all its parts: as good as the worst of them arrives, and as
/// the best of the streams is.
pub(crate) fn score<'a>(
    parts: impl Iterator<Item = &'a Consumer>,
    producer: &Producer,
) -> ConsumerScore {
    let scores = parts.map(|part| part.score(producer));
    let both = scores.reduce(|all, one| ConsumerScore {
        score: all.score.min(one.score),
        producer_score: all.producer_score.max(one.producer_score),
        ..all
    });
    both.unwrap_or_default()
}

impl Worker {
    /// A consumer's parts have this name, and get packets, from now on.
    pub(crate) fn name_consumer(&mut self, id: &Id, parts: Vec<ConsumerKey>, now: Nanos) {
        for &key in &parts {
            let Some(consumer) = self.consumers.get(key) else { continue };
            if let Some(transport) = self.transports.get_mut(consumer.transport) {
                transport.consumer_ssrcs.extend(consumer.ssrcs().map(|ssrc| (ssrc, key)));
            }
            self.subscribe(key, now);
        }
        self.consumer_ids.extend(parts.first().map(|first| (id.clone(), *first)));
        if parts.len() > 1 {
            self.pipes.insert(id.clone(), parts);
        }
    }

    /// A part goes, and the name with it: others of it go next, or the name is another's by then.
    pub(crate) fn unname_consumer(&mut self, key: ConsumerKey, id: &str) {
        let Some((name, first)) = self.consumer_ids.remove_entry(id) else { return };
        if first == key || self.pipes.get(id).is_some_and(|parts| parts.contains(&key)) {
            self.pipes.remove(id);
        } else {
            self.consumer_ids.insert(name, first);
        }
    }

    /// The parts of a consumer, in the order of their streams.
    pub(crate) fn parts(&self, id: &str) -> Option<Vec<ConsumerKey>> {
        let first = *self.consumer_ids.get(id)?;
        Some(self.pipes.get(id).cloned().unwrap_or_else(|| vec![first]))
    }

    /// The score of a consumer as a whole; none for a part that does not speak for it.
    pub(crate) fn whole_score(&self, key: ConsumerKey) -> Option<ConsumerScore> {
        let consumer = self.consumers.get(key)?;
        let producer = self.producers.get(consumer.producer)?;
        let Some(parts) = self.pipes.get(&consumer.id) else {
            return Some(consumer.score(producer));
        };
        let parts = parts.first().filter(|first| **first == key).map(|_| parts)?;
        Some(score(parts.iter().filter_map(|key| self.consumers.get(*key)), producer))
    }
}
