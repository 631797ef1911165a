//! Whether a room's media goes from browser to browser or through the media server, and how it goes
//! over from the one to the other. Rules only: what happened and `now` in, what is to be told out.
//!
//! ```text
//!             Begin              all have it
//!   old way ────────> both ways ────────────> new way      (Done)
//!      ^                  │
//!      └──────────────────┘  somebody has not, time is up, or the room changed its mind (Undone)
//! ```
//!
//! The old way stays until everybody has the new one, so going back is always possible and costs
//! nothing. Two at most, all of whom can, talk directly; everybody else through the media server.
//! To the media server a room goes at once; back only when it has been there for a while. What
//! failed is tried again, each time after twice the pause. While the media server is away three may
//! talk directly, each to each, and nobody waits before he does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ironcast_api::Id;

/// Most who talk directly.
pub const DIRECT_MAX: usize = 2;

/// The same while the media server is away.
pub const DIRECT_WITHOUT_SERVER_MAX: usize = 3;

/// Which way media goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// From browser to browser.
    P2p,
    /// Through the media server.
    Sfu,
}

impl Mode {
    /// As browsers are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::P2p => "p2p",
            Self::Sfu => "sfu",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::P2p => Self::Sfu,
            Self::Sfu => Self::P2p,
        }
    }
}

/// What the operator said.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Whether two may talk directly at all.
    pub p2p: bool,
    /// A room does not go back to p2p sooner after it left it.
    pub stay: Duration,
    /// Everybody has the new way within this time, or it is given up.
    pub time: Duration,
    /// First pause after a failure; it doubles.
    pub pause: Duration,
    /// Longest pause after failures.
    pub pause_max: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            p2p: false,
            stay: Duration::from_secs(10),
            time: Duration::from_secs(10),
            pause: Duration::from_secs(2),
            pause_max: Duration::from_secs(300),
        }
    }
}

/// A change that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// Never used twice in a room: an old timer sees whether it still holds.
    pub number: u64,
    /// Where to.
    pub to: Mode,
    /// Whose sessions do not have the new way yet.
    pub waiting: BTreeSet<Id>,
}

/// What is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Everybody is told to make the new way; look again when its time is up.
    Begin(Switch),
    /// Everybody has it: the old way ends.
    Done(Mode),
    /// It is given up: the old way is the way.
    Undone {
        /// The way that is kept.
        mode: Mode,
        /// For people.
        error: String,
    },
    /// Nothing yet; look again then.
    Later(Instant),
}

/// Why somebody in a room of direct connections has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lack {
    /// He came when the room was on its way to the media server: he is there already.
    Arrived,
    /// His was lost for good.
    Lost,
}

/// How often one way could not be made, and when it is tried again.
#[derive(Debug, Default)]
struct Tries {
    failures: u32,
    not_before: Option<Instant>,
}

impl Tries {
    fn failed(&mut self, rules: &Rules, now: Instant) {
        let factor = 2_u32.saturating_pow(self.failures.min(16));
        let pause = rules.pause.saturating_mul(factor).min(rules.pause_max);
        self.wait_until(now + pause);
        self.failures += 1;
    }

    fn wait_until(&mut self, at: Instant) {
        self.not_before = Some(self.not_before.map_or(at, |before| before.max(at)));
    }
}

/// A room's way.
#[derive(Debug)]
pub struct Ways {
    /// What holds.
    pub mode: Mode,
    /// What is being changed.
    pub switch: Option<Switch>,
    numbers: u64,
    lacking: BTreeMap<Id, Lack>,
    direct: Tries,
    server: Tries,
}

/// What a room would like, for these: whether each can talk directly. `is_away`: the media server.
pub fn wanted(rules: &Rules, is_away: bool, people: impl Iterator<Item = bool>) -> Mode {
    let (mut count, mut all_can) = (0, true);
    for can in people {
        count += 1;
        all_can &= can;
    }
    let max = if is_away { DIRECT_WITHOUT_SERVER_MAX } else { DIRECT_MAX };
    if rules.p2p && all_can && count <= max { Mode::P2p } else { Mode::Sfu }
}

impl Ways {
    /// Of a new room.
    pub fn new(rules: &Rules) -> Self {
        Self {
            mode: if rules.p2p { Mode::P2p } else { Mode::Sfu },
            switch: None,
            numbers: 0,
            lacking: BTreeMap::new(),
            direct: Tries::default(),
            server: Tries::default(),
        }
    }

    /// The way that somebody has who is here: what he is told when he asks again.
    pub fn of(&self, session: &Id) -> Mode {
        let is_there = self.lacking.get(session) == Some(&Lack::Arrived);
        if is_there { Mode::Sfu } else { self.mode }
    }

    /// Who is with the media server while the room is not.
    pub fn ahead(&self) -> impl Iterator<Item = &Id> {
        let arrived = self.lacking.iter().filter(|(_, lack)| **lack == Lack::Arrived);
        arrived.map(|(session, _)| session)
    }

    /// Whether anybody uses the media server, or is about to.
    pub fn needs_server(&self) -> bool {
        let leaves = self.switch.as_ref().is_some_and(|switch| switch.to == Mode::Sfu);
        self.mode == Mode::Sfu || leaves || !self.lacking.is_empty()
    }

    /// The way of somebody who comes now. `wanted`: by the room with him.
    pub fn of_newcomer(&self, wanted: Mode) -> Mode {
        let leaves = self.switch.as_ref().is_some_and(|switch| switch.to == Mode::Sfu);
        if self.mode == Mode::P2p && !leaves && self.lacking.is_empty() {
            wanted
        } else {
            Mode::Sfu
        }
    }

    /// He came.
    pub fn arrive(&mut self, rules: &Rules, session: &Id, way: Mode, is_first: bool, now: Instant) {
        if is_first {
            self.switch = None;
            self.lacking.clear();
            self.mode = way;
        } else if self.mode == Mode::Sfu {
            // Media first: he gets it by the way that is there.
            self.direct.wait_until(now + rules.stay);
        } else if way == Mode::Sfu {
            self.lacking.insert(session.clone(), Lack::Arrived);
        }
    }

    /// The media server is away: the direct way is not waited for.
    pub fn hurry(&mut self) {
        self.direct = Tries::default();
    }

    /// Somebody came or went, or it is time to look again. `wanted`: by all who are there;
    /// `is_away`: the media server.
    pub fn consider(
        &mut self,
        rules: &Rules,
        people: &BTreeSet<Id>,
        wanted: Mode,
        is_away: bool,
        now: Instant,
    ) -> Option<Step> {
        self.lacking.retain(|session, _| people.contains(session));
        // Who has no direct connection is not left behind.
        let wanted = if self.lacking.is_empty() { wanted } else { Mode::Sfu };
        if let Some(switch) = &mut self.switch {
            if switch.to != wanted {
                return self.undo("the room changed its mind");
            }
            switch.waiting.retain(|session| people.contains(session));
            return self.finish_if_all(rules, now);
        }
        // Alone with the media server: who comes next finds it there, if it is there.
        let is_alone = wanted == Mode::P2p && people.len() < DIRECT_MAX;
        if self.mode == wanted || (is_alone && !is_away) {
            return None;
        }
        if let Some(at) = self.tries(wanted).not_before.filter(|at| now < *at) {
            return Some(Step::Later(at));
        }
        let is_there = |session: &&Id| self.lacking.get(*session) == Some(&Lack::Arrived);
        let waiting = people.iter().filter(|session| !is_alone && !is_there(session));
        let waiting = waiting.cloned().collect();
        self.numbers += 1;
        let switch = Switch { number: self.numbers, to: wanted, waiting };
        self.switch = Some(switch.clone());
        if switch.waiting.is_empty() {
            return self.finish_if_all(rules, now);
        }
        Some(Step::Begin(switch))
    }

    /// Somebody has a way, or does not get it, or has lost it. The room is looked at again
    /// afterwards.
    pub fn report(
        &mut self,
        rules: &Rules,
        session: &Id,
        mode: Mode,
        result: Result<(), &str>,
        now: Instant,
    ) -> Option<Step> {
        let Some(switch) = self.switch.as_mut().filter(|switch| switch.to == mode) else {
            if result.is_err() && mode == Mode::P2p && self.mode == mode {
                self.direct.failed(rules, now);
                self.lacking.entry(session.clone()).or_insert(Lack::Lost);
            }
            return None;
        };
        if let Err(error) = result {
            self.tries(mode).failed(rules, now);
            return self.undo(error);
        }
        switch.waiting.remove(session);
        self.finish_if_all(rules, now)
    }

    /// A change cannot be made, or its time is up. Nothing if another one runs by now.
    pub fn fail(&mut self, rules: &Rules, number: u64, why: &str, now: Instant) -> Option<Step> {
        let to = self.switch.as_ref().filter(|switch| switch.number == number)?.to;
        self.tries(to).failed(rules, now);
        self.undo(why)
    }

    fn tries(&mut self, to: Mode) -> &mut Tries {
        match to {
            Mode::P2p => &mut self.direct,
            Mode::Sfu => &mut self.server,
        }
    }

    fn undo(&mut self, error: &str) -> Option<Step> {
        let switch = self.switch.take()?;
        Some(Step::Undone { mode: switch.to.other(), error: error.to_owned() })
    }

    fn finish_if_all(&mut self, rules: &Rules, now: Instant) -> Option<Step> {
        let switch = self.switch.take_if(|switch| switch.waiting.is_empty())?;
        self.mode = switch.to;
        match switch.to {
            Mode::P2p => self.direct = Tries::default(),
            Mode::Sfu => {
                self.lacking.clear();
                self.server = Tries::default();
                self.direct.wait_until(now + rules.stay);
            }
        }
        Some(Step::Done(switch.to))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::{Duration, Instant};

    use ironcast_api::Id;

    use super::{Mode, Rules, Step, Ways, wanted};

    struct Room {
        ways: Ways,
        rules: Rules,
        people: BTreeSet<Id>,
        is_away: bool,
        now: Instant,
    }

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    impl Room {
        fn new() -> Self {
            let rules = Rules { p2p: true, ..Rules::default() };
            let (people, now) = (BTreeSet::new(), Instant::now());
            Self { ways: Ways::new(&rules), rules, people, is_away: false, now }
        }

        /// What the room would like.
        fn wanted(&self) -> Mode {
            wanted(&self.rules, self.is_away, self.people.iter().map(|_| true))
        }

        fn look(&mut self) -> Option<Step> {
            let wanted = self.wanted();
            self.ways.consider(&self.rules, &self.people, wanted, self.is_away, self.now)
        }

        fn lose_server(&mut self) -> Option<Step> {
            self.is_away = true;
            self.ways.hurry();
            self.look()
        }

        fn join(&mut self, name: &str) -> (Mode, Option<Step>) {
            let is_first = self.people.is_empty();
            self.people.insert(id(name));
            let way = self.ways.of_newcomer(self.wanted());
            self.ways.arrive(&self.rules, &id(name), way, is_first, self.now);
            (way, self.look())
        }

        fn leave(&mut self, name: &str) -> Option<Step> {
            self.people.remove(&id(name));
            self.look()
        }

        fn report(&mut self, name: &str, mode: Mode, result: Result<(), &str>) -> Option<Step> {
            self.ways.report(&self.rules, &id(name), mode, result, self.now)
        }

        fn wait(&mut self, seconds: u64) -> Option<Step> {
            self.now += Duration::from_secs(seconds);
            self.look()
        }

        /// Of three, all with the media server.
        fn of_three() -> Self {
            let mut room = Self::new();
            assert_eq!(room.join("a"), (Mode::P2p, None));
            assert_eq!(room.join("b"), (Mode::P2p, None));
            let (way, step) = room.join("c");
            assert_eq!(way, Mode::Sfu);
            let Some(Step::Begin(switch)) = step else { panic!("{step:?}") };
            assert_eq!((switch.to, switch.waiting), (Mode::Sfu, [id("a"), id("b")].into()));
            room
        }
    }

    fn is_begun(step: Option<Step>, to: Mode) -> bool {
        matches!(step, Some(Step::Begin(switch)) if switch.to == to)
    }

    #[test]
    fn the_third_one_brings_the_media_server_and_his_leaving_ends_it() {
        let mut room = Room::of_three();
        assert_eq!(room.ways.mode, Mode::P2p, "until all have the new way");
        assert_eq!(room.report("a", Mode::Sfu, Ok(())), None);
        assert_eq!(room.report("b", Mode::Sfu, Ok(())), Some(Step::Done(Mode::Sfu)));
        assert!(
            matches!(room.leave("c"), Some(Step::Later(_))),
            "not at once: it may be for short"
        );
        assert!(is_begun(room.wait(10), Mode::P2p));
        assert_eq!(room.report("a", Mode::P2p, Ok(())), None);
        assert_eq!(room.report("b", Mode::P2p, Ok(())), Some(Step::Done(Mode::P2p)));
        assert_eq!(room.look(), None);
    }

    #[test]
    fn without_p2p_everything_goes_through_the_media_server() {
        let mut room = Room::new();
        room.rules.p2p = false;
        assert_eq!(room.join("a"), (Mode::Sfu, None));
        assert_eq!(room.join("b"), (Mode::Sfu, None));
        assert_eq!(
            wanted(&Rules { p2p: true, ..Rules::default() }, false, [true, false].into_iter()),
            Mode::Sfu
        );
    }

    #[test]
    fn a_room_that_changes_its_mind_keeps_what_it_has() {
        let mut room = Room::of_three();
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        room.leave("c");
        assert!(is_begun(room.wait(10), Mode::P2p));
        room.report("a", Mode::P2p, Ok(()));
        let (way, step) = room.join("d");
        assert_eq!(way, Mode::Sfu);
        assert!(matches!(step, Some(Step::Undone { mode: Mode::Sfu, .. })), "{step:?}");
        assert_eq!(room.report("b", Mode::P2p, Ok(())), None, "too late");
        assert_eq!((room.ways.mode, room.look()), (Mode::Sfu, None));
    }

    #[test]
    fn who_came_during_a_change_is_not_left_without_a_way() {
        let mut room = Room::of_three();
        // One of those who talk directly leaves: the third has no connection to the other.
        assert_eq!(room.leave("a"), None);
        assert_eq!(room.report("b", Mode::Sfu, Ok(())), Some(Step::Done(Mode::Sfu)));
        assert!(is_begun(room.wait(10), Mode::P2p));

        // The third one leaves: both still have what they had.
        let mut room = Room::of_three();
        room.report("a", Mode::Sfu, Ok(()));
        assert!(matches!(room.leave("c"), Some(Step::Undone { mode: Mode::P2p, .. })));
        assert_eq!(room.look(), None);

        // Who should report has left.
        let mut room = Room::of_three();
        room.report("a", Mode::Sfu, Ok(()));
        assert_eq!(room.leave("b"), Some(Step::Done(Mode::Sfu)));
    }

    #[test]
    fn what_fails_is_tried_again_after_twice_the_pause() {
        let mut room = Room::of_three();
        for pause in [2, 4, 8] {
            let step = room.report("b", Mode::Sfu, Err("no route"));
            let error = "no route".to_owned();
            assert_eq!(step, Some(Step::Undone { mode: Mode::P2p, error }));
            assert!(
                matches!(room.look(), Some(Step::Later(at)) if at == room.now + Duration::from_secs(pause))
            );
            assert!(is_begun(room.wait(pause), Mode::Sfu));
        }
        let number = room.ways.switch.as_ref().unwrap().number;
        let (rules, now) = (room.rules, room.now);
        assert_eq!(room.ways.fail(&rules, number - 1, "late", now), None, "an old timer");
        assert!(matches!(room.ways.fail(&rules, number, "late", now), Some(Step::Undone { .. })));
        assert!(is_begun(room.wait(16), Mode::Sfu));
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        assert_eq!(room.ways.mode, Mode::Sfu);
    }

    #[test]
    fn a_direct_connection_that_is_lost_is_replaced_and_tried_again_later() {
        let mut room = Room::new();
        room.join("a");
        room.join("b");
        assert_eq!(room.report("a", Mode::P2p, Err("failed")), None);
        assert!(is_begun(room.look(), Mode::Sfu));
        // However long it takes: there is nothing to go back to.
        assert_eq!(room.wait(9), None);
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        assert!(matches!(room.look(), Some(Step::Later(_))));
        assert!(is_begun(room.wait(10), Mode::P2p));
    }

    #[test]
    fn alone_nobody_changes_anything() {
        let mut room = Room::of_three();
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        room.leave("c");
        room.leave("b");
        assert_eq!(room.wait(60), None);
        assert_eq!(room.join("d").0, Mode::Sfu);
        assert_eq!(room.ways.switch, None, "he gets media first");
        assert!(is_begun(room.wait(10), Mode::P2p));
    }

    #[test]
    fn without_the_media_server_three_talk_directly_and_a_fourth_does_not() {
        let mut room = Room::of_three();
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        // At once, however short ago somebody came.
        assert!(is_begun(room.lose_server(), Mode::P2p));
        for name in ["a", "b"] {
            assert_eq!(room.report(name, Mode::P2p, Ok(())), None);
        }
        assert_eq!(room.report("c", Mode::P2p, Ok(())), Some(Step::Done(Mode::P2p)));
        room.people.insert(id("d"));
        assert_eq!(room.ways.of_newcomer(room.wanted()), Mode::Sfu);
        room.people.remove(&id("d"));
        // It is back: three belong there, and two do not.
        room.is_away = false;
        assert!(is_begun(room.look(), Mode::Sfu));
        assert!(matches!(room.leave("b"), Some(Step::Undone { mode: Mode::P2p, .. })));
    }

    #[test]
    fn who_is_alone_without_the_media_server_waits_for_nobody() {
        let mut room = Room::of_three();
        for name in ["a", "b"] {
            room.report(name, Mode::Sfu, Ok(()));
        }
        room.leave("c");
        room.leave("b");
        assert_eq!(room.look(), None);
        assert_eq!(room.lose_server(), Some(Step::Done(Mode::P2p)));
        assert_eq!(room.join("d"), (Mode::P2p, None));
    }

    #[test]
    fn a_change_to_a_media_server_that_goes_away_is_undone() {
        let mut room = Room::new();
        room.join("a");
        room.join("b");
        assert_eq!(room.report("a", Mode::P2p, Err("failed")), None);
        assert!(is_begun(room.look(), Mode::Sfu));
        assert_eq!(room.lose_server(), None, "somebody has no direct connection");
        assert!(matches!(room.leave("a"), Some(Step::Undone { mode: Mode::P2p, .. })));
        assert_eq!(room.look(), None);
    }
}
