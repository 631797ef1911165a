//! How a receiver's bandwidth is divided over its videos: which of them are sent at all, and in
//! which layers. Called by `layers.rs` a few times a second with what each video could be and cost.
//! Owns no state: who was shown before is told, so that videos of about the same size do not take
//! turns.

use ironcast_protocol::media::Layers;

use crate::{key::ConsumerKey, producer::TEMPORAL_LAYERS};

/// Streams of a producer, and the temporal layers of its lowest one.
const OPTIONS_MAX: usize = 8 + TEMPORAL_LAYERS - 1;

/// What could be sent of one video, in rising quality, and what each costs in bits per second.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    list: [(Layers, u64); OPTIONS_MAX],
    len: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { list: [(Layers { spatial: 0, temporal: 0 }, 0); OPTIONS_MAX], len: 0 }
    }
}

impl Options {
    /// One more, better than all before. There are never more than fit.
    pub fn push(&mut self, layers: Layers, cost_bps: u64) {
        if let Some(free) = self.list.get_mut(self.len) {
            *free = (layers, cost_bps);
            self.len += 1;
        }
    }
}

impl std::ops::Deref for Options {
    type Target = [(Layers, u64)];

    fn deref(&self) -> &Self::Target {
        &self.list[..self.len]
    }
}

/// A video consumer, as far as the division is concerned.
#[derive(Debug, Clone, Copy)]
pub struct Demand {
    /// Which.
    pub consumer: ConsumerKey,
    /// Weight, 1 to 255.
    pub priority: u8,
    /// It is sent now.
    pub is_shown: bool,
    /// What could be sent.
    pub options: Options,
    /// The answer: an index into the options, or not at all.
    pub chosen: Option<usize>,
}

impl Demand {
    fn cost_bps(&self, option: usize) -> Option<u64> {
        self.options.get(option).map(|(_, cost)| *cost)
    }

    /// What decides between videos of one priority: the smaller first, so that there are many. What
    /// is shown counts less, so that it stays against one of almost its size.
    fn size(&self) -> u64 {
        let cost = self.cost_bps(0).unwrap_or(0);
        if self.is_shown { cost - cost / 4 } else { cost }
    }
}

/// Chooses for each demand. `fits_bps` is what all of them have to fit into, if anybody knows: who
/// does not is not sent at all. Among those that are, each gets its lowest option, then one step up
/// at a time as far as `available_bps` goes, more often for higher priorities (as mediasoup does).
/// Sorts the demands by their right to be sent. Returns what it costs.
pub fn divide(available_bps: u64, fits_bps: Option<u64>, demands: &mut [Demand]) -> u64 {
    demands.sort_unstable_by_key(|demand| {
        (std::cmp::Reverse(demand.priority), demand.size(), demand.consumer.index())
    });
    let mut spent = 0u64;
    for demand in demands.iter_mut() {
        demand.chosen = None;
        let Some(cost) = demand.cost_bps(0) else { continue };
        // Rates waver: what is shown stays up to an eighth above the limit, and what is not comes
        // back an eighth below it.
        let fits = fits_bps.is_none_or(|limit| {
            if demand.is_shown {
                spent + cost <= limit + limit / 8
            } else {
                spent + cost + cost / 8 <= limit
            }
        });
        if fits {
            demand.chosen = Some(0);
            spent += cost;
        }
    }
    loop {
        let mut moved = false;
        for demand in demands.iter_mut() {
            for _ in 0..demand.priority.max(1) {
                let Some(at) = demand.chosen else { break };
                let Some(next) = demand.cost_bps(at + 1) else { break };
                let extra = next.saturating_sub(demand.options[at].1);
                if spent + extra > available_bps {
                    break;
                }
                spent += extra;
                demand.chosen = Some(at + 1);
                moved = true;
            }
        }
        if !moved {
            return spent;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(number: u64, priority: u8, costs: &[u64]) -> Demand {
        let mut options = Options::default();
        for (spatial, cost) in (0..).zip(costs) {
            options.push(Layers { spatial, temporal: 0 }, *cost);
        }
        let consumer = ConsumerKey::from(number);
        Demand { consumer, priority, is_shown: true, options, chosen: None }
    }

    /// In the order in which the demands were given.
    fn divided(available: u64, fits: Option<u64>, demands: &[Demand]) -> Vec<Option<usize>> {
        let mut sorted = demands.to_vec();
        divide(available, fits, &mut sorted);
        let chosen = |one: &Demand| sorted.iter().find(|d| d.consumer == one.consumer);
        demands.iter().map(|one| chosen(one).and_then(|d| d.chosen)).collect()
    }

    #[test]
    fn everyone_has_a_picture_before_anyone_has_a_better_one() {
        let demands = [demand(1, 1, &[100, 300, 900]), demand(2, 1, &[100, 300, 900])];
        assert_eq!(divided(200, None, &demands), [Some(0), Some(0)]);
        assert_eq!(divided(400, None, &demands), [Some(1), Some(0)]);
        assert_eq!(divided(10, None, &demands), [Some(0), Some(0)], "nobody knows that");
        assert_eq!(divided(u64::MAX, None, &demands), [Some(2), Some(2)]);
    }

    #[test]
    fn priority_goes_first() {
        let demands = [demand(1, 1, &[100, 300, 900]), demand(2, 9, &[100, 300, 900])];
        assert_eq!(divided(1_000, None, &demands), [Some(0), Some(2)]);
        assert_eq!(divided(150, Some(150), &demands), [None, Some(0)]);
    }

    #[test]
    fn as_many_as_fit_the_small_ones_first_and_none_takes_anothers_turn() {
        let demands = [demand(1, 1, &[300]), demand(2, 1, &[100]), demand(3, 1, &[150])];
        assert_eq!(divided(260, Some(260), &demands), [None, Some(0), Some(0)]);
        // What is shown and wavers stays; what is not waits until there is room for certain.
        let mut shown = demand(1, 1, &[100]);
        let mut other = demand(2, 1, &[90]);
        other.is_shown = false;
        for cost in 80..=112 {
            shown.options = demand(1, 1, &[cost]).options;
            assert_eq!(divided(100, Some(100), &[shown, other]), [Some(0), None], "{cost}");
        }
        shown.is_shown = false;
        for (limit, chosen) in [(100, None), (112, None), (127, Some(0))] {
            assert_eq!(divided(limit, Some(limit), &[shown]), [chosen], "{limit}");
        }
    }

    proptest! {
        #[test]
        fn nothing_is_given_that_is_not_there(
            costs in prop::collection::vec((1u64..1_000, 1u8..4, any::<bool>()), 0..20),
            limit in 0u64..5_000,
        ) {
            let mut demands: Vec<_> = (0..).zip(&costs).map(|(number, (cost, priority, shown))| {
                let mut one = demand(number, *priority, &[*cost, cost * 3, cost * 9]);
                one.is_shown = *shown;
                one
            }).collect();
            let spent = divide(limit, Some(limit), &mut demands);
            let sum = demands.iter().filter_map(|d| Some(d.options[d.chosen?].1)).sum::<u64>();
            prop_assert_eq!(spent, sum);
            prop_assert!(spent <= limit + limit / 8);
            // Nobody waits who would fit beside all that are sent.
            let waiting = demands.iter().filter(|d| d.chosen.is_none());
            let lowest = |d: &Demand| d.options[0].1;
            let least = demands.iter().filter(|d| d.chosen.is_some()).map(lowest).sum::<u64>();
            for one in waiting {
                prop_assert!(least + lowest(one) + lowest(one) / 8 > limit);
            }
        }
    }
}
