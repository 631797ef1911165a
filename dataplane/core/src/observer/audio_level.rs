//! The loudest producers of an interval, by the averages of their packets' levels, as mediasoup's
//! `AudioLevelObserver` tells them. Who sent too little to have an average is not among them: an
//! encoder that stops sending while nobody speaks ends what it said.

use ironcast_protocol::{Event, observer::Volume};

use super::{Heard, LOUDEST, News, heard_of};
use crate::{
    MS, Nanos,
    arena::Arena,
    key::{ObserverKey, OfProducer, ProducerKey},
    producer::Producer,
};

/// Packets that make an average.
const PACKETS_MIN: u32 = 10;
/// In a short interval half of what it has place for is enough.
const PACKET_TIME: Nanos = 20 * MS;

/// Levels of a producer's packets in an interval.
#[derive(Debug, Default, Clone, Copy)]
pub struct Sum {
    levels: u32,
    packets: u32,
}

impl Sum {
    /// A packet.
    pub fn note(&mut self, level: u8) {
        self.levels += u32::from(level);
        self.packets += 1;
    }

    /// Average in dBov, of at least so many packets.
    fn volume(self, packets_min: u32) -> Option<i8> {
        let average = (self.packets >= packets_min)
            .then(|| (self.levels + self.packets / 2).checked_div(self.packets))??;
        Some((average as i32 - i32::from(LOUDEST)) as i8)
    }
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct AudioLevel {
    threshold: i8,
    entries_max: usize,
    packets_min: u32,
    is_silent: bool,
    /// Of one look.
    loud: Vec<(i8, ProducerKey)>,
    has_heard: bool,
}

impl AudioLevel {
    pub(super) fn new(threshold: i8, interval: Nanos, entries_max: usize) -> Self {
        let half = (interval / PACKET_TIME / 2) as u32;
        let packets_min = half.clamp(1, PACKETS_MIN);
        Self {
            threshold,
            entries_max,
            packets_min,
            is_silent: true,
            loud: Vec::new(),
            has_heard: false,
        }
    }

    /// True when it was not silent before.
    pub(super) fn fall_silent(&mut self) -> bool {
        !std::mem::replace(&mut self.is_silent, true)
    }

    /// A look begins anew.
    pub(super) fn begin(&mut self) {
        self.loud.clear();
        self.has_heard = false;
    }

    /// Looks at some of them.
    pub(super) fn look(
        &mut self,
        key: ObserverKey,
        producers: &[ProducerKey],
        table: &mut Arena<Producer, OfProducer>,
    ) {
        for &producer_key in producers {
            let producer = table.get_mut(producer_key);
            let heard = producer.and_then(|producer| heard_of(&mut producer.observed, key));
            let Some(Heard::Sum(sum)) = heard else { continue };
            let sum = std::mem::take(sum);
            self.has_heard |= sum.packets > 0;
            if let Some(volume) = sum.volume(self.packets_min)
                && volume >= self.threshold
            {
                self.loud.push((volume, producer_key));
            }
        }
    }

    /// What it has found, now that it has looked at all.
    pub(super) fn tell(&mut self, id: &str, table: &Arena<Producer, OfProducer>) -> News {
        let goes_on = self.has_heard;
        if self.loud.is_empty() {
            let event =
                self.fall_silent().then(|| Event::ObserverSilence { observer: id.to_owned() });
            return News { event, goes_on };
        }
        self.is_silent = false;
        // Stable: of two that are equally loud the one that was added first.
        self.loud.sort_by_key(|(volume, _)| std::cmp::Reverse(*volume));
        let loudest = self.loud.iter().take(self.entries_max);
        let volumes = loudest.filter_map(|&(volume, producer)| {
            Some(Volume { producer: table.get(producer)?.id.clone(), volume })
        });
        let volumes = volumes.collect();
        News { event: Some(Event::ObserverVolumes { observer: id.to_owned(), volumes }), goes_on }
    }
}
