//! SSRCs that were a sent track's once, under this transport's keys. An index is sealed once for each
//! (RFC 3711 section 9.1), so that none may begin again. What came last may come back, and goes on where
//! its numbers ended; of all others only that they are used up is remembered, by runs.
//!
//! ```text
//! closed last   [70 next 4,001] [71 next 12]           at most RECENT_MAX
//! before        [10 ..................... 69]          one run, where SSRCs are given out in their order
//! ```
//! Who gives them out in their order needs some runs for a call of any length. Each that stands alone
//! takes one.

use std::collections::BTreeMap;

use super::recent::Recent;
use crate::numbers::SentSeq;

/// SSRCs whose ends are known.
const RECENT_MAX: usize = 128;
/// Runs that lie no further apart are one, and all between is used up: of two SSRCs for each track some
/// are never used.
const NEAR: u32 = 16;

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Retired {
    recent: Recent<SentSeq, RECENT_MAX>,
    /// First and last of each.
    runs: BTreeMap<u32, u32>,
}

impl Retired {
    /// Where its numbers go on; of one that is new, nowhere.
    pub(crate) fn next(&self, ssrc: u32) -> Option<SentSeq> {
        self.recent.peek(ssrc).copied()
    }

    /// True for one that is not to be used again.
    pub(crate) fn is_used_up(&self, ssrc: u32) -> bool {
        let below = self.runs.range(..=ssrc).next_back();
        self.recent.peek(ssrc).is_none() && below.is_some_and(|(_, last)| ssrc <= *last)
    }

    /// A track that ends leaves an SSRC, and the next number of it. Of one whose packets are not sealed
    /// nothing has to be remembered for long.
    pub(crate) fn put(&mut self, ssrc: u32, next: SentSeq, is_sealed: bool) {
        if let Some((ssrc, _)) = self.recent.put(ssrc, next)
            && is_sealed
        {
            self.use_up(ssrc);
        }
    }

    fn use_up(&mut self, ssrc: u32) {
        let (mut first, mut last) = (ssrc, ssrc);
        // The one above, and the one below or around.
        while let Some((&from, &to)) = self.runs.range(..=last.saturating_add(NEAR)).next_back()
            && to >= first.saturating_sub(NEAR)
        {
            self.runs.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.runs.insert(first, last);
    }

    /// What is remembered: SSRCs and runs of them.
    pub(crate) fn len(&self) -> usize {
        self.recent.len() + self.runs.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn put_all(ssrcs: impl IntoIterator<Item = u32>) -> Retired {
        let mut retired = Retired::default();
        ssrcs.into_iter().for_each(|ssrc| retired.put(ssrc, SentSeq(ssrc), true));
        retired
    }

    /// 25 cameras that are switched on and off each minute of a week: two SSRCs each time, of which the
    /// other's repeats have one, and some tracks stay.
    #[test]
    fn a_week_of_ssrcs_in_their_order_is_some_runs() {
        let stay = |ssrc: u32| ssrc % 10_000 < 2;
        let retired = put_all((1..504_001).filter(|ssrc| ssrc % 2 == 0 && !stay(*ssrc)));
        assert_eq!(retired.len(), RECENT_MAX + 1);
        assert!((2..503_000).filter(|ssrc| !stay(*ssrc)).all(|ssrc| retired.is_used_up(ssrc)));
        assert!(!retired.is_used_up(504_002));
    }

    #[test]
    fn what_came_last_goes_on_and_what_came_before_does_not() {
        let retired = put_all((0..200).map(|number| 1_000 * (number + 1)));
        assert_eq!(retired.len(), 200);
        for number in 0..200 {
            let ssrc = 1_000 * (number + 1);
            let is_recent = number >= 200 - RECENT_MAX as u32;
            assert_eq!(retired.next(ssrc), is_recent.then_some(SentSeq(ssrc)));
            assert_eq!(retired.is_used_up(ssrc), !is_recent);
            assert!(!retired.is_used_up(ssrc + NEAR));
        }
        let mut clear = Retired::default();
        (0..1_000).for_each(|ssrc| clear.put(1_000 * ssrc, SentSeq(0), false));
        assert_eq!(clear.len(), RECENT_MAX);
        assert!(!clear.is_used_up(0));
    }

    proptest! {
        #[test]
        fn no_ssrc_is_forgotten_and_runs_lie_apart(
            ssrcs in prop::collection::vec(prop_oneof![0..600u32, any::<u32>(), u32::MAX - 50..], 0..400),
        ) {
            let retired = put_all(ssrcs.iter().copied());
            let all: BTreeSet<_> = ssrcs.into_iter().collect();
            for &ssrc in &all {
                prop_assert!(retired.next(ssrc).is_some() || retired.is_used_up(ssrc));
            }
            let runs: Vec<_> = retired.runs.iter().collect();
            prop_assert!(runs.windows(2).all(|pair| pair[1].0 - pair[0].1 > NEAR));
            // Nothing far from all of them is used up.
            for (first, last) in runs {
                prop_assert!(all.contains(first) && all.contains(last));
                let within: Vec<_> = all.range(first..=last).collect();
                prop_assert!(within.windows(2).all(|pair| pair[1] - pair[0] <= NEAR));
            }
        }
    }
}
