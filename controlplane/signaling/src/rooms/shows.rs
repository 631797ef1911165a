//! Broadcasts of a room that other nodes of a fleet make, as far as they are known here. What is told late,
//! or was read before it was told, changes nothing: versions and the ids of those that are over say so.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use crate::broadcast::Kind;
use crate::store::hub::Shown;

/// Those that are remembered to be over.
const OVER_MAX: usize = 16;

/// Broadcasts of a room that other nodes make.
#[derive(Debug, Default)]
pub struct Shows {
    running: BTreeMap<Kind, Elsewhere>,
    /// Those that are over, by their ids: what is told of them late does not bring them back.
    over: VecDeque<String>,
}

/// One of them.
#[derive(Debug)]
pub struct Elsewhere {
    /// As its node told it last.
    pub shown: Shown,
    /// Since when nothing is written of it.
    pub missing_since: Option<Instant>,
}

impl Shows {
    /// Those that run.
    pub fn running(&self) -> impl Iterator<Item = &Shown> {
        self.running.values().map(|one| &one.shown)
    }

    /// The one of a kind.
    pub fn one(&self, kind: Kind) -> Option<&Shown> {
        self.running.get(&kind).map(|one| &one.shown)
    }

    /// All of them, to be changed.
    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Elsewhere> {
        self.running.values_mut()
    }

    /// Takes what a node says of a running one; gives whether it is to be told: it is newer, and says
    /// something else than before, or `more`.
    pub fn take(&mut self, shown: &Shown, more: bool) -> bool {
        if self.over.contains(&shown.broadcast_id) {
            return false;
        }
        let known = self.running.get_mut(&shown.kind);
        let Some(known) = known.filter(|known| known.shown.broadcast_id == shown.broadcast_id)
        else {
            let is_older = self.one(shown.kind).is_some_and(|it| it.version >= shown.version);
            if !is_older {
                let new = Elsewhere { shown: shown.clone(), missing_since: None };
                self.running.insert(shown.kind, new);
            }
            return !is_older;
        };
        known.missing_since = None;
        if known.shown.version >= shown.version {
            return false;
        }
        let is_told = more || known.shown.told != shown.told;
        known.shown = shown.clone();
        is_told
    }

    /// It is over, as its own node says (`for_good`) or as others conclude; gives whether that is new.
    pub fn end(&mut self, shown: &Shown, for_good: bool) -> bool {
        let id = &shown.broadcast_id;
        if self.over.contains(id) {
            return false;
        }
        let is_known = self.one(shown.kind).is_some_and(|known| known.broadcast_id == *id);
        if is_known {
            self.running.remove(&shown.kind);
        }
        if for_good {
            self.over.push_back(id.clone());
            if self.over.len() > OVER_MAX {
                self.over.pop_front();
            }
        }
        is_known || for_good
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::*;

    fn shown(id: &str, version: u64) -> Shown {
        Shown {
            node: "n".to_owned(),
            broadcast_id: id.to_owned(),
            kind: Kind::Hls,
            version,
            told: Map::new(),
            is_over: false,
        }
    }

    #[test]
    fn what_comes_late_changes_nothing() {
        let mut shows = Shows::default();
        assert!(shows.take(&shown("a", 2), false));
        assert!(!shows.take(&shown("a", 2), true) && !shows.take(&shown("a", 1), true));
        assert!(!shows.take(&shown("a", 3), false), "it says the same");
        assert!(shows.take(&shown("a", 4), true));
        assert!(!shows.take(&shown("older", 3), true));
        assert!(shows.end(&shown("a", 5), true));
        assert!(!shows.end(&shown("a", 5), true) && !shows.end(&shown("a", 6), false));
        assert!(!shows.take(&shown("a", 7), true), "it does not come back");
        assert!(shows.take(&shown("b", 6), false));
        assert!(!shows.end(&shown("a", 9), true) && shows.one(Kind::Hls).is_some());
    }

    #[test]
    fn one_that_was_taken_for_lost_may_come_back() {
        let mut shows = Shows::default();
        assert!(shows.take(&shown("a", 1), false));
        assert!(shows.end(&shown("a", 1), false));
        assert!(!shows.end(&shown("a", 1), false), "told once");
        assert!(shows.take(&shown("a", 2), false));
    }

    #[test]
    fn no_more_are_remembered_than_allowed() {
        let mut shows = Shows::default();
        for number in 0..OVER_MAX as u64 * 2 {
            assert!(shows.end(&shown(&number.to_string(), number), true));
        }
        assert_eq!(shows.over.len(), OVER_MAX);
    }
}
