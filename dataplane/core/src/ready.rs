//! Which transports have something to send, and who is next. The output of a large room takes longer
//! than a packet of another room may wait: rooms take turns of some transports, and the caller
//! interrupts the output after some portions, so that newer packets are fanned out meanwhile.
//!
//! ```text
//! rooms     new     | had nothing to send: first, each for one turn of QUANTUM transports |
//!           old     | have more, or had some a moment ago: a turn each, round after round |
//! in a room newest  | of the newest packets, who was there first is first                 |
//!           waiting | left of earlier output: what was left last is first                 |
//! ```
//! Rooms are the flows of FQ-CoDel (RFC 8290, section 4.2). In a room every fourth one is the one that
//! waits longest: the newest do not wait for all that wait, nor these for all that comes. The packets of a
//! frame come in several turns, and each begins with who was there first. When some wait for
//! [`OUTPUT_LATE`], more comes than leaves, and the oldest are first: receivers that waited get several
//! packets in one send.

use std::collections::VecDeque;

use crate::{
    Nanos, OUTPUT_LATE,
    key::{RouterKey, TransportKey},
};

/// Transports in a turn of a room, which ends early where a portion ends: a frame for so many takes some
/// 0.2 ms.
const QUANTUM: u16 = 32;

/// In a room, of so many one is of those that wait.
const WAITING_EVERY: u8 = 4;

/// In which list a room is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum List {
    #[default]
    None,
    New,
    Old,
}

/// One room.
#[derive(Debug, Default)]
struct Room {
    /// Whose place this is; an index is used again.
    key: Option<RouterKey>,
    newest: Vec<TransportKey>,
    /// So many of them were taken.
    taken: usize,
    /// The oldest in front.
    waiting: VecDeque<TransportKey>,
    /// Since when some wait.
    since: Nanos,
    /// The portion before which something was added last.
    portion: u32,
    list: List,
    /// Transports left of its turn.
    left: u16,
    /// Newest ones since the last one of those that wait.
    count: u8,
}

impl Room {
    /// What is added from now on is newer than what is there.
    fn begin(&mut self, portion: u32, now: Nanos) {
        if self.waiting.is_empty() {
            self.since = now;
        }
        self.waiting.extend(self.newest.drain(..).skip(self.taken).rev());
        (self.taken, self.portion) = (0, portion);
    }

    /// The next one. The first of the newest comes before one that waits: where that takes the rest of a
    /// portion, the newest would wait themselves.
    #[inline]
    fn pop(&mut self, now: Nanos) -> Option<TransportKey> {
        let is_late = now >= self.since + OUTPUT_LATE;
        if (is_late || (self.count >= WAITING_EVERY - 1 && self.taken > 0))
            && let Some(key) = self.waiting.pop_front()
        {
            self.count = 0;
            return Some(key);
        }
        match self.newest.get(self.taken) {
            Some(key) => {
                self.taken += 1;
                self.count = self.count.saturating_add(1);
                Some(*key)
            }
            None => self.waiting.pop_back(),
        }
    }

    /// Forgets what is queued; says how many that were.
    fn clear(&mut self) -> usize {
        let len = self.newest.len() - self.taken + self.waiting.len();
        self.newest.clear();
        self.waiting.clear();
        self.taken = 0;
        len
    }

    fn is_empty(&self) -> bool {
        self.taken == self.newest.len() && self.waiting.is_empty()
    }
}

/// See the head of this file. A transport is in it once.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    /// By the router's index.
    rooms: Vec<Room>,
    new: VecDeque<u32>,
    old: VecDeque<u32>,
    len: usize,
    /// Portions that have begun, and when the last one did.
    portion: u32,
    now: Nanos,
}

impl Ready {
    /// One more of a room.
    #[inline]
    pub(crate) fn push(&mut self, router: RouterKey, key: TransportKey) {
        let index = router.index();
        if index >= self.rooms.len() {
            self.rooms.resize_with(index + 1, Room::default);
        }
        let room = &mut self.rooms[index];
        if room.key != Some(router) {
            // Of the room that had this place before, nobody is there any more.
            self.len -= room.clear();
            room.key = Some(router);
        }
        if room.portion != self.portion {
            room.begin(self.portion, self.now);
        }
        room.newest.push(key);
        self.len += 1;
        if room.list == List::None {
            (room.list, room.left) = (List::New, QUANTUM);
            self.new.push_back(index as u32);
        }
    }

    /// A portion begins: what is added after it is newer. The room in front that had a part of the last one
    /// has had its turn.
    pub(crate) fn begin(&mut self, now: Nanos) {
        (self.portion, self.now) = (self.portion.wrapping_add(1), now);
        if let Some(&index) = self.new.front().or_else(|| self.old.front())
            && self.rooms[index as usize].left < QUANTUM
        {
            self.end_of_turn(index);
        }
    }

    /// The next one of this portion.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<TransportKey> {
        loop {
            let index = *self.new.front().or_else(|| self.old.front())?;
            let room = &mut self.rooms[index as usize];
            if room.left > 0
                && let Some(key) = room.pop(self.now)
            {
                room.left -= 1;
                self.len -= 1;
                return Some(key);
            }
            self.end_of_turn(index);
        }
    }

    /// A room with nothing more to send waits for its next turn too: it would be new again at once
    /// otherwise, and never wait for those that are old.
    fn end_of_turn(&mut self, index: u32) {
        let room = &mut self.rooms[index as usize];
        if room.list == List::New {
            self.new.pop_front()
        } else {
            self.old.pop_front()
        };
        if room.is_empty() && (room.list == List::Old || self.old.is_empty()) {
            room.list = List::None;
            return;
        }
        (room.list, room.left) = (List::Old, QUANTUM);
        self.old.push_back(index);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// After a large call, or many: its memory.
    pub(crate) fn trim(&mut self) {
        while self.rooms.pop_if(|room| room.list == List::None).is_some() {}
        self.rooms.shrink_to_fit();
        for room in &mut self.rooms {
            room.newest.drain(..room.taken);
            room.taken = 0;
            room.newest.shrink_to(2 * room.newest.len());
            room.waiting.shrink_to(2 * room.waiting.len());
        }
        for list in [&mut self.new, &mut self.old] {
            list.shrink_to(2 * list.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        arena::Arena,
        key::{OfRouter, OfTransport},
    };

    /// Transports by number, each of the room of its hundred.
    struct Numbered {
        ready: Ready,
        routers: Vec<RouterKey>,
        transports: Vec<TransportKey>,
    }

    impl Numbered {
        fn new() -> Self {
            let mut routers = Arena::<(), OfRouter>::default();
            let mut transports = Arena::<(), OfTransport>::default();
            Self {
                ready: Ready::default(),
                routers: (0..20).map(|_| routers.insert(())).collect(),
                transports: (0..2_000).map(|_| transports.insert(())).collect(),
            }
        }

        fn push(&mut self, numbers: impl IntoIterator<Item = usize>) {
            for number in numbers {
                self.ready.push(self.routers[number / 100], self.transports[number]);
            }
        }

        fn portion(&mut self, len: usize, now: Nanos) -> Vec<usize> {
            self.ready.begin(now);
            self.take(len)
        }

        fn take(&mut self, len: usize) -> Vec<usize> {
            std::iter::from_fn(|| self.ready.pop()).take(len).map(TransportKey::index).collect()
        }
    }

    #[test]
    fn a_small_room_does_not_wait_for_a_large_one() {
        let mut all = Numbered::new();
        all.push(0..100);
        assert_eq!(all.take(40), Vec::from_iter(0..40));
        // New: at once, even in the middle of the other's turn.
        all.push([100, 101]);
        assert_eq!(all.take(3), [100, 101, 40]);
        // Not new again before the other had its turn, and then they take turns.
        all.push([102]);
        assert_eq!(all.take(24), Vec::from_iter((41..64).chain([102])));
        assert_eq!(all.take(100), Vec::from_iter(64..100));
        assert!(all.ready.is_empty());
    }

    #[test]
    fn in_a_room_the_newest_come_first_and_those_that_wait_come_too() {
        let mut all = Numbered::new();
        all.push(0..6);
        assert_eq!(all.portion(2, 0), [0, 1]);
        all.push(10..20);
        let portions: Vec<_> = (0..5).map(|_| all.portion(2, 0)).collect();
        assert_eq!(portions, [[10, 5], [11, 12], [13, 4], [14, 15], [16, 3]]);
        // What is left of both waits, what was left last is first.
        all.push([20]);
        assert_eq!(all.portion(3, 0), [20, 17, 18]);
        assert_eq!(all.portion(9, 0), [19, 2]);
        assert!(all.ready.is_empty());
    }

    #[test]
    fn the_parts_of_a_frame_come_to_those_first_who_were_there_first() {
        let mut all = Numbered::new();
        all.push(0..60);
        assert_eq!(all.portion(8, 0), Vec::from_iter(0..8));
        // The next part comes while the first one is sent, and the last one right after.
        all.push(0..8);
        assert_eq!(all.portion(4, 0), [0, 59, 1, 2]);
        all.push(0..3);
        let rest = all.portion(60, 0);
        let waiting: Vec<_> = rest.iter().copied().filter(|number| *number < 40).collect();
        assert_eq!(waiting, Vec::from_iter(0..40), "{rest:?}");
    }

    #[test]
    fn a_room_begins_anew_where_another_had_the_same_place() {
        let mut routers = Arena::<(), OfRouter>::default();
        let mut transports = Arena::<(), OfTransport>::default();
        let keys: Vec<_> = (0..100).map(|_| transports.insert(())).collect();
        let before = routers.insert(());
        let mut ready = Ready::default();
        keys[..99].iter().for_each(|&key| ready.push(before, key));
        routers.remove(before);
        let after = routers.insert(());
        assert_eq!(before.index(), after.index());
        ready.push(after, keys[99]);
        assert_eq!(ready.pop(), Some(keys[99]));
        assert!(ready.is_empty() && ready.pop().is_none());
    }

    #[test]
    fn where_more_comes_than_leaves_the_oldest_comes_first() {
        let mut all = Numbered::new();
        all.push(0..6);
        assert_eq!(all.portion(2, 0), [0, 1]);
        all.push([0, 1]);
        assert_eq!(all.portion(1, OUTPUT_LATE - 1), [0]);
        assert_eq!(all.portion(3, OUTPUT_LATE), [5, 4, 3]);
        all.push([0]);
        assert_eq!(all.portion(9, OUTPUT_LATE), [2, 1, 0]);
        // It is over.
        all.push(10..12);
        assert_eq!(all.portion(1, OUTPUT_LATE), [10]);
        all.push([0]);
        assert_eq!(all.portion(9, OUTPUT_LATE), [0, 11]);
    }

    #[test]
    fn another_room_does_not_wait_where_more_comes_than_leaves() {
        let mut all = Numbered::new();
        all.push(0..100);
        all.portion(1, 0);
        all.push(0..1);
        all.push([100]);
        assert_eq!(all.portion(64, 0).iter().position(|&number| number == 100), Some(0));
        all.push([101]);
        let numbers = all.portion(80, OUTPUT_LATE);
        assert!(numbers.iter().position(|&number| number == 101) <= Some(32), "{numbers:?}");
    }

    #[test]
    fn small_rooms_that_never_end_leave_turns_to_a_large_one() {
        let mut all = Numbered::new();
        all.push(0..100);
        let mut of_large = 0;
        for round in 0..40 {
            all.push((1..20).map(|room| room * 100 + round));
            of_large += all.take(20).into_iter().filter(|&number| number < 100).count();
        }
        assert!(of_large >= 40, "{of_large} of 800");
    }

    #[test]
    fn memory_of_rooms_that_are_over_is_given_back() {
        let mut all = Numbered::new();
        all.push([1_900, 0]);
        all.take(2);
        // The lists forget a room when its turn comes.
        assert!(all.take(1).is_empty());
        all.push([100]);
        all.ready.trim();
        assert_eq!(all.ready.rooms.len(), 2);
        assert_eq!(all.ready.rooms[0].newest.capacity(), 0);
        assert_eq!(all.take(2), [100]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_pushed_comes_once_and_at_last(
            steps in proptest::collection::vec((0usize..2_000, 0usize..4), 1..300),
        ) {
            let mut all = Numbered::new();
            let mut inside = std::collections::BTreeSet::new();
            for (number, taken) in steps {
                if inside.insert(number) {
                    all.push([number]);
                }
                for one in all.take(taken) {
                    proptest::prop_assert!(inside.remove(&one));
                }
                proptest::prop_assert_eq!(all.ready.is_empty(), inside.is_empty());
            }
            let rest = std::collections::BTreeSet::from_iter(all.take(2_000));
            proptest::prop_assert_eq!(rest, inside);
        }
    }
}
