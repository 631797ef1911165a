//! Which RTCP packets of one peer came already (RFC 3711 section 3.3.2). Owns a small window for each
//! SSRC that reports. A browser has one for each track, received ones too, and makes new ones in a
//! long call: the window that was used longest ago goes, and leaves the newest index as a floor.

use super::recent::Recent;
use crate::{Discard, numbers::RtcpIndex};

/// SSRCs of one peer with a window.
const WINDOWS_MAX: usize = 1_024;
/// SSRCs whose window is gone.
const FLOORS_MAX: usize = 4_096;
/// Packets remembered behind the newest one.
const WINDOW: u32 = 64;

/// Bit n of `seen`: `newest - n` came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Window {
    newest: RtcpIndex,
    seen: u64,
}

impl Window {
    fn check(self, index: RtcpIndex) -> Result<(), Discard> {
        let behind = self.newest.0.checked_sub(index.0);
        match behind {
            Some(behind) if behind >= WINDOW || self.seen >> behind & 1 != 0 => {
                Err(Discard::SrtpReplayed)
            }
            _ => Ok(()),
        }
    }

    fn commit(&mut self, index: RtcpIndex) {
        if let Some(behind) = self.newest.0.checked_sub(index.0) {
            self.seen |= 1u64.checked_shl(behind).unwrap_or(0);
            return;
        }
        self.seen = self.seen.checked_shl(index.0 - self.newest.0).unwrap_or(0) | 1;
        self.newest = index;
    }
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct RtcpWindows {
    windows: Recent<Window, WINDOWS_MAX>,
    floors: Recent<RtcpIndex, FLOORS_MAX>,
}

impl RtcpWindows {
    /// Refuses what came already, and what is too old to know.
    ///
    /// # Errors
    /// `SrtpReplayed`.
    pub(crate) fn check(&self, ssrc: u32, index: RtcpIndex) -> Result<(), Discard> {
        if let Some(window) = self.windows.peek(ssrc) {
            return window.check(index);
        }
        match self.floors.peek(ssrc) {
            Some(&floor) if index <= floor => Err(Discard::SrtpReplayed),
            _ => Ok(()),
        }
    }

    /// Remembers an index that [`Self::check`] let pass and whose packet was verified.
    pub(crate) fn commit(&mut self, ssrc: u32, index: RtcpIndex) {
        if let Some(window) = self.windows.get_mut(ssrc) {
            window.commit(index);
            return;
        }
        let mut window = Window { newest: index, seen: 1 };
        if let Some(floor) = self.floors.remove(ssrc) {
            window.seen |= u64::MAX.checked_shl(index.0.saturating_sub(floor.0)).unwrap_or(0);
        }
        if let Some((evicted, window)) = self.windows.put(ssrc, window) {
            self.floors.put(evicted, window.newest);
        }
    }

    /// The SSRC is not in use any more.
    pub(crate) fn remove(&mut self, ssrc: u32) {
        if let Some(window) = self.windows.remove(ssrc) {
            self.floors.put(ssrc, window.newest);
        }
    }

    /// SSRCs with a window, and all that anything is remembered of.
    #[cfg(any(test, feature = "audit"))]
    pub(crate) fn len(&self) -> (usize, usize) {
        (self.windows.len(), self.windows.len() + self.floors.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_evicted_window_leaves_a_floor() {
        let mut windows = RtcpWindows::default();
        for ssrc in 0..20_000 {
            assert_eq!(windows.check(ssrc, RtcpIndex(7)), Ok(()));
            windows.commit(ssrc, RtcpIndex(7));
            assert_eq!(windows.check(ssrc, RtcpIndex(7)), Err(Discard::SrtpReplayed));
        }
        assert_eq!(windows.len(), (WINDOWS_MAX, WINDOWS_MAX + FLOORS_MAX));
        // Gone from the windows, not forgotten.
        let evicted = 20_000 - WINDOWS_MAX as u32 - 5;
        assert_eq!(windows.check(evicted, RtcpIndex(7)), Err(Discard::SrtpReplayed));
        assert_eq!(windows.check(evicted, RtcpIndex(8)), Ok(()));
        windows.commit(evicted, RtcpIndex(8));
        assert_eq!(windows.check(evicted, RtcpIndex(7)), Err(Discard::SrtpReplayed));
        windows.remove(evicted);
        assert_eq!(windows.check(evicted, RtcpIndex(8)), Err(Discard::SrtpReplayed));
        windows.commit(evicted, RtcpIndex(12));
        assert_eq!(
            (8..14).filter(|&i| windows.check(evicted, RtcpIndex(i)).is_ok()).collect::<Vec<_>>(),
            [9, 10, 11, 13]
        );
    }

    proptest! {
        /// The window agrees with a set.
        #[test]
        fn the_window_is_a_set(indices in prop::collection::vec(0u32..300, 1..300)) {
            let mut windows = RtcpWindows::default();
            let mut seen = BTreeSet::new();
            for index in indices {
                let newest = seen.last().copied().unwrap_or(0u32);
                let fresh = !seen.contains(&index) && newest.saturating_sub(index) < WINDOW;
                prop_assert_eq!(windows.check(1, RtcpIndex(index)).is_ok(), fresh);
                if fresh {
                    windows.commit(1, RtcpIndex(index));
                    seen.insert(index);
                }
            }
        }
    }
}
