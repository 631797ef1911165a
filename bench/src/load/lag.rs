//! What never came: each received stream against what its sender sent, the end of a window
//! included. Owned by [`super`], which samples the streams; reads no clock and waits for nothing.
//!
//! A stream lags by what was sent and has not arrived: what is lost, and what is under way. What is
//! under way arrives within moments, so that the least lag of several samples is the loss alone.

use ironcast_load::sequence::SequenceTracker;

/// One sample of a stream, counted from any moment on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Sample {
    /// Packets that should come by now.
    pub(super) sent: u64,
    /// Packets that came, repeats that closed gaps among them.
    pub(super) arrived: u64,
}

impl Sample {
    /// Of a stream of which headers say this, and so many different repeats came. Repeats that
    /// nothing was missing for are probes of the server.
    pub(super) fn of(sent: u64, stream: Option<&SequenceTracker>, repeats: u64) -> Self {
        let arrived = stream.map_or(0, |stream| stream.distinct() + repeats.min(stream.lost()));
        Self { sent, arrived }
    }
}

/// All streams of a load, in an order that stays.
#[derive(Debug, Default)]
pub(super) struct Lags {
    /// At the end of the last settling.
    before: Vec<i64>,
    /// Least of the settling that goes on.
    least: Vec<i64>,
    lost: u64,
}

impl Lags {
    /// Packets that never came, between the first settling and the last.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether there was a settling already.
    pub(super) fn has_settled(&self) -> bool {
        !self.before.is_empty()
    }

    /// Whether a stream lags more than at the last settling. True before the first.
    pub(super) fn is_behind(&self) -> bool {
        self.before.len() != self.least.len()
            || self.least.iter().zip(&self.before).any(|(least, before)| least > before)
    }

    /// One look at all streams.
    pub(super) fn look(&mut self, samples: impl IntoIterator<Item = Sample>) {
        for (at, Sample { sent, arrived }) in samples.into_iter().enumerate() {
            let lag = sent.cast_signed() - arrived.cast_signed();
            match self.least.get_mut(at) {
                Some(least) => *least = lag.min(*least),
                None => self.least.push(lag),
            }
        }
    }

    /// Ends a settling: what lags now is lost. The first one only says where counting begins.
    pub(super) fn settle(&mut self) {
        let least = std::mem::take(&mut self.least);
        for (least, before) in least.iter().zip(&self.before) {
            self.lost += least.saturating_sub(*before).max(0).cast_unsigned();
        }
        self.before = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(lags: &mut Lags, looks: &[[(u64, u64); 2]]) {
        for look in looks {
            lags.look(look.map(|(sent, arrived)| Sample { sent, arrived }));
        }
        lags.settle();
    }

    #[test]
    fn what_is_under_way_is_not_lost() {
        let mut lags = Lags::default();
        // The second one joined later: what was sent before is not his.
        settled(&mut lags, &[[(100, 90), (100, 40)], [(110, 110), (110, 60)]]);
        assert_eq!(lags.lost(), 0);
        settled(&mut lags, &[[(500, 480), (500, 445)], [(510, 510), (510, 460)]]);
        assert_eq!(lags.lost(), 0);
    }

    #[test]
    fn what_never_came_is_lost_of_each_stream() {
        let mut lags = Lags::default();
        settled(&mut lags, &[[(100, 100), (100, 100)]]);
        // Nothing more comes to the first; the second misses one, and a third of the next.
        settled(&mut lags, &[[(1_000, 100), (1_000, 999)]]);
        assert_eq!(lags.lost(), 901);
        settled(&mut lags, &[[(1_300, 100), (1_300, 1_199)]]);
        assert_eq!(lags.lost(), 901 + 300 + 100);
    }

    #[test]
    fn what_comes_late_makes_up_for_nothing_of_another_stream() {
        let mut lags = Lags::default();
        settled(&mut lags, &[[(100, 80), (100, 100)]]);
        settled(&mut lags, &[[(200, 200), (200, 180)]]);
        assert_eq!(lags.lost(), 20);
    }

    #[test]
    fn a_settling_may_end_when_nobody_is_behind() {
        let mut lags = Lags::default();
        assert!(!lags.is_behind(), "nobody is there");
        lags.look([Sample { sent: 9, arrived: 9 }]);
        assert!(lags.is_behind(), "nothing to compare with yet");
        lags.settle();
        lags.look([Sample { sent: 19, arrived: 9 }]);
        assert!(lags.is_behind());
        lags.look([Sample { sent: 20, arrived: 20 }]);
        assert!(!lags.is_behind());
    }
}
