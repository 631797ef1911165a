//! The dominant speaker, by I. Volfin and I. Cohen, "Dominant speaker identification for multipoint
//! videoconferencing" (Computer Speech & Language, 2013), with the constants that Jitsi and mediasoup
//! use. Speech is looked at over three lengths of time: a speaker takes over when all three say that
//! he is more active than the one who dominates, so that a cough or a word of assent changes nothing.
//!
//! ```text
//! levels     | 50, one for 20 ms, the newest first: 0 to 127 above silence
//! immediate  | the newest level, in 13 steps above the speaker's own floor of noise
//! medium     | how many of the newest 5 are loud
//! long       | how many of the 10 blocks of 5 are loud throughout
//! ```
//! Time in which no packet comes is silence: an encoder with DTX sends nothing of it.

use ironcast_protocol::Event;

use super::{Heard, LOUDEST, News, heard_of};
use crate::{
    Arrival, MS, Nanos,
    arena::Arena,
    key::{ObserverKey, OfProducer, ProducerKey},
    producer::Producer,
};

/// A level stands for so long.
const STEP: Nanos = 20 * MS;
/// The longest packet of Opus (RFC 6716 section 2.1.4): more time between two is silence.
const PACKET_TIME_MAX: Nanos = 120 * MS;

/// By so much more active than the one who dominates is whoever takes over, of each length of time
/// (the paper's C1, C2, C3).
const MARGINS: [f64; 3] = [3.0, 2.0, 0.0];
/// Steps of the immediate activity.
const IMMEDIATE_STEPS: u8 = 13;
/// Levels in a step.
const STEP_LEVELS: u8 = LOUDEST.div_ceil(IMMEDIATE_STEPS);
/// Levels of the medium length.
const MEDIUM_LEVELS: usize = 5;
/// Mediums of the long length.
const LONG_MEDIUMS: usize = 10;
/// A level is loud above this step.
const LOUD_STEP: u8 = 7;
/// A medium is loud with more than so many loud levels.
const LOUD_LEVELS: u8 = 4;
/// Levels that are kept: one second.
const LEVELS: usize = MEDIUM_LEVELS * LONG_MEDIUMS;
/// The floor of noise follows what was the quietest in so many levels: 15 s.
const FLOOR_LEVELS: u16 = 750;
/// Activity has a logarithm.
const SCORE_MIN: f64 = 1e-10;

/// What was heard of a producer within the last second, and its floor of noise.
#[derive(Debug)]
pub struct Speech {
    /// A ring.
    levels: [u8; LEVELS],
    /// Where the next level goes.
    next: u8,
    /// The quietest that is no silence: 0 before anything was heard.
    floor: u8,
    /// The same of the levels since the floor was set last, and how many they are.
    next_floor: u8,
    next_floor_levels: u16,
    /// Until when `levels` say something.
    until: Option<Nanos>,
}

impl Default for Speech {
    fn default() -> Self {
        Self {
            levels: [0; LEVELS],
            next: 0,
            floor: 0,
            next_floor: 0,
            next_floor_levels: 0,
            until: None,
        }
    }
}

impl Speech {
    /// A packet.
    pub fn note(&mut self, level: u8, at: Arrival) {
        let at = at.moment();
        let gap = at.saturating_sub(self.until.unwrap_or(at));
        // A packet says what it is from the one before on, unless nothing was sent in between.
        let (silent, own) = if gap > PACKET_TIME_MAX { (gap - STEP, STEP) } else { (0, gap) };
        self.push(0, silent);
        self.push(level, own.max(STEP));
        self.follow_floor(level);
        self.until = Some(self.until.map_or(at, |until| until.max(at)));
    }

    /// No packet has come since: that is silence, once it is longer than a packet.
    fn pass(&mut self, now: Nanos) {
        let Some(until) = self.until else { return };
        if now.saturating_sub(until) > PACKET_TIME_MAX {
            self.push(0, now - until);
            self.until = Some(now);
        }
    }

    /// True when the last second was silence.
    fn is_over(&self) -> bool {
        self.levels.iter().all(|level| *level == 0)
    }

    fn push(&mut self, level: u8, span: Nanos) {
        for _ in 0..(span / STEP).min(LEVELS as Nanos) {
            self.levels[usize::from(self.next)] = level;
            self.next = (self.next + 1) % LEVELS as u8;
        }
    }

    /// The floor falls at once, and rises when the quietest of some seconds lies above it.
    fn follow_floor(&mut self, level: u8) {
        if level == 0 {
            return;
        }
        if self.floor == 0 || level < self.floor {
            (self.floor, self.next_floor, self.next_floor_levels) = (level, 0, 0);
            return;
        }
        if self.next_floor == 0 || level < self.next_floor {
            self.next_floor = level;
        }
        self.next_floor_levels += 1;
        if self.next_floor_levels >= FLOOR_LEVELS {
            let (old, new) = (f64::from(self.floor), f64::from(self.next_floor));
            (self.floor, self.next_floor, self.next_floor_levels) =
                ((old * new).sqrt() as u8, 0, 0);
        }
    }

    /// How active it is now, over each of the lengths of time.
    fn scores(&self) -> [f64; 3] {
        let floor = self.floor.saturating_add(STEP_LEVELS);
        let step = |back: usize| {
            let at = (usize::from(self.next) + LEVELS - 1 - back) % LEVELS;
            let level = self.levels[at];
            if level < floor { 0 } else { level / STEP_LEVELS }
        };
        let is_loud = |back: &usize| step(*back) > LOUD_STEP;
        let loud = |medium: usize| {
            let from = medium * MEDIUM_LEVELS;
            (from..from + MEDIUM_LEVELS).filter(is_loud).count() as u8
        };
        let long = (0..LONG_MEDIUMS).filter(|medium| loud(*medium) > LOUD_LEVELS).count() as u8;
        [
            score(step(0), IMMEDIATE_STEPS, 0.78),
            score(loud(0), MEDIUM_LEVELS as u8, 24.0),
            score(long, LONG_MEDIUMS as u8, 47.0),
        ]
    }
}

/// How likely it is that `active` of `all` are speech rather than not: the paper's formula, for a
/// binomial of one half against an exponential of `lambda`.
fn score(active: u8, all: u8, lambda: f64) -> f64 {
    let (k, n) = (f64::from(active), f64::from(all));
    let choices: f64 = (1..=active).map(|i| (n + 1.0 - f64::from(i)) / f64::from(i)).product();
    let score = choices.ln() - n * std::f64::consts::LN_2 - lambda.ln() + lambda * k;
    score.max(SCORE_MIN)
}

/// See the file's head.
#[derive(Debug, Default)]
pub(super) struct ActiveSpeaker {
    dominant: Option<ProducerKey>,
    look: Look,
}

/// What one look has found so far.
#[derive(Debug, Default)]
struct Look {
    /// Whoever dominates until then, and how active he is.
    bar: Option<(ProducerKey, [f64; 3])>,
    /// Who is to take over, and his lead.
    best: Option<(ProducerKey, f64)>,
    has_heard: bool,
}

impl ActiveSpeaker {
    pub(super) fn dominant(&self) -> Option<ProducerKey> {
        self.dominant
    }

    /// True when it was the one who dominated.
    pub(super) fn forget(&mut self, producer: ProducerKey) -> bool {
        let look = &mut self.look;
        look.bar.take_if(|(bar, _)| *bar == producer);
        look.best.take_if(|(best, _)| *best == producer);
        self.dominant.take_if(|dominant| *dominant == producer).is_some()
    }

    /// A look begins, at what these have said. Whoever dominates does until somebody is more active by the
    /// margins; at first, as mediasoup has it, whoever was added first.
    pub(super) fn begin(
        &mut self,
        key: ObserverKey,
        producers: &[ProducerKey],
        table: &mut Arena<Producer, OfProducer>,
        now: Nanos,
    ) {
        let dominant = self.dominant.or_else(|| producers.first().copied());
        let bar = dominant.and_then(|dominant| {
            let speech = speech_of(table, dominant, key)?;
            speech.pass(now);
            Some((dominant, speech.scores()))
        });
        self.look = Look { bar, ..Look::default() };
    }

    /// Looks at some of them.
    pub(super) fn look(
        &mut self,
        key: ObserverKey,
        producers: &[ProducerKey],
        table: &mut Arena<Producer, OfProducer>,
        now: Nanos,
    ) {
        let look = &mut self.look;
        for &producer in producers {
            let is_paused = table.get(producer).is_none_or(|producer| producer.paused);
            let Some(speech) = speech_of(table, producer, key) else { continue };
            speech.pass(now);
            // Nobody takes over who has said nothing.
            if speech.is_over() {
                continue;
            }
            look.has_heard = true;
            let Some((dominant, bar)) = look.bar.filter(|_| !is_paused) else { continue };
            if producer == dominant {
                continue;
            }
            let scores = speech.scores();
            let lead: [f64; 3] = std::array::from_fn(|at| (scores[at] / bar[at]).ln());
            let least = look.best.map_or(MARGINS[1], |(_, lead)| lead);
            if lead.iter().zip(MARGINS).all(|(lead, margin)| *lead > margin) && lead[1] > least {
                look.best = Some((producer, lead[1]));
            }
        }
    }

    /// What it has found, now that it has looked at all.
    pub(super) fn tell(&mut self, id: &str, table: &Arena<Producer, OfProducer>) -> News {
        let Look { bar, best, has_heard: goes_on } = std::mem::take(&mut self.look);
        let next = best.map(|(best, _)| best).or_else(|| bar.map(|(bar, _)| bar));
        if next.is_none() || next == self.dominant {
            return News { event: None, goes_on };
        }
        self.dominant = next;
        let producer = next.and_then(|key| Some(table.get(key)?.id.clone()));
        let event =
            producer.map(|producer| Event::DominantSpeaker { observer: id.to_owned(), producer });
        News { event, goes_on }
    }
}

fn speech_of(
    table: &mut Arena<Producer, OfProducer>,
    producer: ProducerKey,
    observer: ObserverKey,
) -> Option<&mut Speech> {
    match heard_of(&mut table.get_mut(producer)?.observed, observer)? {
        Heard::Speech(speech) => Some(speech),
        Heard::Sum(_) => None,
    }
}

#[cfg(test)]
mod tests;
