//! What is done for one transport now and then: consent, requests for retransmissions and key
//! frames, feedback, reports, layers. Called by [`Worker::expire`] when its timer is due, or when
//! something came for it in this turn; says when it wants to be called next.

use ironcast_protocol::{Event, media::MediaKind};

use crate::{
    MS, Nanos, SECOND,
    key::{ConsumerKey, ProducerKey, TransportKey},
    key_frame::Wish,
    next_of,
    producer::Producer,
    worker::Worker,
};

/// Time between two sets of reports to a publisher, and between two reports about a sent track.
const REPORTS_EVERY: Nanos = SECOND;
/// The moments at which a transport has the latter.
const REPORTS_SLOT: Nanos = SECOND / 4;
/// So many producers of one transport are looked at whenever something came for one of them: their
/// deadlines are exact then.
const PRODUCERS_FEW: usize = 16;
/// So many have their reports at once: all that a peer may have. Pipes have more, and those have theirs
/// a moment later.
const REPORTED_AT_ONCE: usize = 128;
/// Sent tracks that a round of such reports passes in one call: some 100 us.
const PASSED_AT_ONCE: usize = 512;
/// One that is reported about counts as so many more.
const REPORT: usize = 7;
/// Before the peer's answers tell.
const RTT_DEFAULT: Nanos = 100 * MS;

impl Worker {
    pub(crate) fn service(&mut self, key: TransportKey, now: Nanos) {
        if !self.serve_link(key, now) {
            return;
        }
        self.serve_producers(key, now);
        self.send_feedback(key, now);
        self.report_to_publisher(key, now);
        self.report_to_receiver(key, now);
        if self.transports.get(key).is_some_and(|transport| now >= transport.layers_at) {
            self.await_look(key);
        }
        let at = self.next_service(key, now);
        self.schedule(key, at);
    }

    /// What is due for producers: for those that something came for, and for all when the first of all
    /// their deadlines may have passed. The other end of a pipe has hundreds.
    fn serve_producers(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let is_ready = transport.is_ready();
        let rtt = transport.publisher_rtt.rtt().unwrap_or(RTT_DEFAULT);
        // An answer is hardly ever faster than a round trip, and seldom much slower.
        let retry = rtt + rtt / 8;
        let mut stirred = std::mem::take(&mut transport.stirred);
        let are_few = transport.producers.len() <= PRODUCERS_FEW;
        let all = is_ready && (are_few || now >= transport.producers_at);
        if all {
            stirred.clear();
            stirred.extend_from_slice(&transport.producers);
        }
        let mut at = if all { Nanos::MAX } else { transport.producers_at };
        for &producer_key in &stirred {
            if let Some(producer) = self.producers.get_mut(producer_key) {
                producer.is_stirred = false;
            }
            if is_ready {
                self.request_repairs(key, producer_key, retry, now);
            }
            self.report_unwatched(producer_key, now);
            at = at.min(self.producers.get(producer_key).map_or(Nanos::MAX, Producer::deadline));
        }
        stirred.clear();
        if let Some(transport) = self.transports.get_mut(key) {
            stirred.append(&mut transport.stirred);
            transport.stirred = stirred;
            transport.producers_at = if is_ready { at } else { 0 };
        }
    }

    /// NACKs for what is missing, PLI or FIR where a key frame is due.
    fn request_repairs(
        &mut self,
        key: TransportKey,
        producer_key: ProducerKey,
        retry: Nanos,
        now: Nanos,
    ) {
        let mut missing = std::mem::take(&mut self.missing);
        let streams = self.producers.get(producer_key).map_or(0, |p| p.streams.len());
        for stream in 0..streams {
            missing.clear();
            let Some(producer) = self.producers.get_mut(producer_key) else {
                break;
            };
            let paused = producer.paused;
            let due = producer.streams[stream].key_frames.deadline();
            // Whoever it was for has left, or gets something else by now.
            if due.is_some_and(|at| now >= at) && !producer.is_watched(stream) {
                producer.streams[stream].key_frames.withdraw();
            }
            let source = &mut producer.streams[stream];
            let Some(ssrc) = source.ssrc else { continue };
            let mut key_frame = source.key_frames.take_due(now);
            let mut is_given_up = false;
            if let Some(nack) = source.nack.as_mut().filter(|_| !paused) {
                nack.due(now, retry, &mut missing);
                is_given_up = nack.take_key_frame_request() && producer.kind == MediaKind::Video;
            }
            if is_given_up && producer.is_watched(stream) {
                let requests = &mut producer.streams[stream].key_frames;
                requests.request(Wish::RepairAgain, 0, now);
                key_frame |= requests.take_due(now);
            }
            let source = &mut producer.streams[stream];
            let repairs = source.nack.is_some() && !paused;
            missing.extend(source.take_lost_tail(now).filter(|_| repairs));
            if !missing.is_empty() {
                source.counters.nacks += 1;
                source.counters.nacked_packets += missing.len() as u64;
            }
            let (pli, fir) = (producer.pli, producer.fir);
            if key_frame {
                source.counters.plis += u64::from(pli);
                source.counters.firs += u64::from(!pli && fir);
            }
            let number = source.counters.firs as u8;
            self.send_requests(
                key,
                ssrc,
                &missing,
                key_frame && pli,
                (key_frame && !pli && fir).then_some(number),
                now,
            );
        }
        self.missing = missing;
    }

    fn next_service(&self, key: TransportKey, now: Nanos) -> Nanos {
        let Some(transport) = self.transports.get(key) else {
            return Nanos::MAX;
        };
        let mut at = transport.link.deadline(now);
        // Without a way, too: what came before leaves after its time.
        if !transport.producers.is_empty() {
            at = at.min(transport.reports_at.max(now + MS));
        }
        if !transport.is_ready() {
            return at;
        }
        if !transport.producers.is_empty() {
            at = at.min(transport.producers_at);
        }
        at = at.min(transport.feedback.deadline().unwrap_or(Nanos::MAX));
        at = at.min(transport.sender_reports_at);
        if !transport.awaits_look {
            at = at.min(transport.layers_at);
        }
        // Not more often than this, whatever is due: a turn is not a busy loop.
        at.max(now + MS)
    }

    /// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01).
    fn send_feedback(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        if transport.is_ready() && transport.feedback.deadline().is_some_and(|at| now >= at) {
            self.write_feedback(key, now);
        }
    }

    /// Once a second: receiver reports, REMB, scores; packets that are old leave.
    fn report_to_publisher(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        if now < transport.reports_at || transport.producers.is_empty() {
            return;
        }
        let is_ready = transport.is_ready();
        self.counters.feedback_ignored += transport.feedback.take_ignored();
        let first = transport.reported.min(transport.producers.len());
        let end = transport.producers.len().min(first + REPORTED_AT_ONCE);
        let is_last = end == transport.producers.len();
        let producers = transport.producers[first..end].to_vec();
        transport.reported = if is_last { 0 } else { end };
        if is_last {
            transport.reports_at = next_of(transport.reports_at, REPORTS_EVERY, now);
        }
        for &producer_key in &producers {
            let Some(producer) = self.producers.get_mut(producer_key) else {
                continue;
            };
            let nacks = producer.streams.iter_mut().filter_map(|stream| stream.nack.as_mut());
            self.counters.given_up += nacks.map(|nack| nack.take_given_up()).sum::<u64>();
            let active: Vec<_> = producer.streams.iter().map(|s| s.score > 0).collect();
            if producer.assess(now, &mut self.pool) {
                let (producer_id, scores) = (producer.id.clone(), producer.scores());
                let changed =
                    producer.streams.iter().zip(&active).any(|(s, was)| (s.score > 0) != *was);
                self.events.push(Event::ProducerScore { producer: producer_id, scores });
                if changed {
                    self.touch_subscribers(producer_key);
                }
            }
            self.report_orientation(producer_key);
        }
        if is_ready {
            self.write_receiver_reports(key, &producers, now);
        }
        if is_ready && is_last {
            self.repeat_pauses(key, now);
        }
    }

    /// Once a second for each consumer: a sender report, and its score if it has changed. As many as
    /// there is time for; the others soon after.
    fn report_to_receiver(&mut self, key: TransportKey, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        if !transport.is_ready() || now < transport.sender_reports_at {
            return;
        }
        // All of one transport have a few moments a second in common, and no two transports any.
        let next = next_of(transport.began, REPORTS_SLOT, now + REPORTS_EVERY - REPORTS_SLOT);
        let mut round = std::mem::take(&mut transport.report_round);
        let mut left = PASSED_AT_ONCE;
        while left > 0
            && let Some(&consumer_key) =
                self.transports.get(key).and_then(|transport| transport.consumers.get(round.at))
        {
            round.at += 1;
            left -= 1;
            let Some(consumer) = self.consumers.get_mut(consumer_key) else {
                continue;
            };
            consumer.resends.rest(now);
            round.lost = round.lost.max(consumer.reported.fraction_lost);
            if consumer.paused {
                continue;
            }
            let is_due = now >= consumer.report_at;
            if is_due {
                consumer.report_at = next;
            }
            // One that is paused begins again with the next look.
            if self.producers.get(consumer.producer).is_some_and(|producer| !producer.paused) {
                round.first = round.first.min(consumer.report_at);
            }
            if is_due {
                left = left.saturating_sub(REPORT);
                self.report_about(key, consumer_key, now);
            }
        }
        let Some(transport) = self.transports.get_mut(key) else { return };
        if round.at < transport.consumers.len() {
            transport.sender_reports_at = now + MS;
            transport.report_round = round;
        } else {
            (transport.sender_reports_at, transport.loss_sent) = (round.first, round.lost);
        }
    }

    fn report_about(&mut self, key: TransportKey, consumer_key: ConsumerKey, now: Nanos) {
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        if let Some(stream) = consumer.take_used_up() {
            let consumer = consumer.id.clone();
            self.events.push(Event::ConsumerExhausted { consumer, stream });
        }
        let score = self.whole_score(consumer_key);
        let Some(consumer) = self.consumers.get_mut(consumer_key) else { return };
        if let Some(score) = score.filter(|score| *score != consumer.announced_score) {
            consumer.announced_score = score.clone();
            let consumer = consumer.id.clone();
            self.events.push(Event::ConsumerScore { consumer, score });
        }
        self.write_sender_report(key, consumer_key, now);
    }
}
