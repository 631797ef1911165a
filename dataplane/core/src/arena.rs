//! A table of plain values addressed by keys with generations. Owns nothing but its slots; used
//! on the packet path instead of maps: a look-up is one index and one compare, and a key of
//! something that is gone never finds what came after it.

use std::{fmt, marker::PhantomData};

/// Address of a value in an [`Arena`]; `M` marks the table that it belongs to.
pub struct Key<M> {
    index: u32,
    generation: u32,
    of: PhantomData<fn() -> M>,
}

impl<M> Key<M> {
    /// Position: below the largest number of values there ever was at one time.
    #[must_use]
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl<M> Clone for Key<M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M> Copy for Key<M> {}
impl<M> PartialEq for Key<M> {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.generation) == (other.index, other.generation)
    }
}
impl<M> Eq for Key<M> {}
impl<M> PartialOrd for Key<M> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<M> Ord for Key<M> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.index, self.generation).cmp(&(other.index, other.generation))
    }
}
impl<M> fmt::Debug for Key<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.index, self.generation)
    }
}

/// Key as a number, for the world outside of the core.
impl<M> From<Key<M>> for u64 {
    fn from(key: Key<M>) -> Self {
        Self::from(key.generation) << 32 | Self::from(key.index)
    }
}

/// The reverse; a number that was never a key finds nothing.
impl<M> From<u64> for Key<M> {
    fn from(token: u64) -> Self {
        Self { index: token as u32, generation: (token >> 32) as u32, of: PhantomData }
    }
}

/// So many slots are not worth giving back.
const SLOTS_KEPT: usize = 1_024;

/// The value lies apart, so that a table that grows moves no values, and memory goes back when a
/// large call has ended.
#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<Box<T>>,
}

/// Values by [`Key`].
#[derive(Debug)]
pub struct Arena<T, M = T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    len: usize,
    /// Of slots that are made now: above that of every slot that was given back.
    generation: u32,
    of: PhantomData<fn() -> M>,
}

impl<T, M> Default for Arena<T, M> {
    fn default() -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0, generation: 0, of: PhantomData }
    }
}

impl<T, M> Arena<T, M> {
    /// Values now.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Puts a value in.
    pub fn insert(&mut self, value: T) -> Key<M> {
        self.len += 1;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot { generation: self.generation, value: None });
            (self.slots.len() - 1) as u32
        });
        let slot = &mut self.slots[index as usize];
        slot.value = Some(Box::new(value));
        Key { index, generation: slot.generation, of: PhantomData }
    }

    /// Takes a value out; its key never finds anything again.
    pub fn remove(&mut self, key: Key<M>) -> Option<T> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation != key.generation {
            return None;
        }
        let value = slot.value.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(*value)
    }

    /// True when most slots are free, and there are many.
    #[must_use]
    pub fn is_oversized(&self) -> bool {
        self.slots.len() > SLOTS_KEPT
            && self.free.len() >= self.slots.len() / 4 * 3
            && self.slots.last().is_some_and(|slot| slot.value.is_none())
    }

    /// Gives back the memory of free slots at the end, where most slots are free.
    pub fn trim(&mut self) {
        if !self.is_oversized() {
            return;
        }
        while self.slots.len() > SLOTS_KEPT
            && let Some(slot) = self.slots.pop_if(|slot| slot.value.is_none())
        {
            self.generation = self.generation.max(slot.generation.wrapping_add(1));
        }
        let slots = self.slots.len();
        self.slots.shrink_to_fit();
        self.free.retain(|&index| (index as usize) < slots);
        self.free.shrink_to_fit();
    }

    /// The value.
    #[must_use]
    pub fn get(&self, key: Key<M>) -> Option<&T> {
        let slot = self.slots.get(key.index())?;
        if slot.generation == key.generation { slot.value.as_deref() } else { None }
    }

    /// The value.
    pub fn get_mut(&mut self, key: Key<M>) -> Option<&mut T> {
        let slot = self.slots.get_mut(key.index())?;
        if slot.generation == key.generation { slot.value.as_deref_mut() } else { None }
    }

    /// All, in the order of their slots.
    pub fn iter(&self) -> impl Iterator<Item = (Key<M>, &T)> {
        self.iter_from(0)
    }

    /// The same from a [`Key::index`] on.
    pub fn iter_from(&self, first: usize) -> impl Iterator<Item = (Key<M>, &T)> {
        self.slots.iter().enumerate().skip(first).filter_map(|(index, slot)| {
            let key = Key { index: index as u32, generation: slot.generation, of: PhantomData };
            slot.value.as_deref().map(|value| (key, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_never_finds_what_came_after_its_value() {
        let mut arena = Arena::<_>::default();
        let a = arena.insert('a');
        assert_eq!(arena.remove(a), Some('a'));
        let b = arena.insert('b');
        assert_eq!(a.index(), b.index());
        assert_eq!((arena.get(a), arena.get(b), arena.len()), (None, Some(&'b'), 1));
        assert_eq!(Key::<char>::from(u64::from(b)), b);
        assert_eq!(arena.remove(a), None);
    }

    #[test]
    fn memory_comes_back_and_old_keys_stay_dead() {
        let mut arena = Arena::<_>::default();
        let keys: Vec<_> = (0..10_000).map(|n| arena.insert(n)).collect();
        for &key in &keys[1..] {
            arena.remove(key);
        }
        arena.trim();
        assert!(arena.slots.capacity() <= SLOTS_KEPT && arena.free.len() < SLOTS_KEPT);
        assert_eq!((arena.get(keys[0]), arena.len()), (Some(&0), 1));
        let again: Vec<_> = (0..10_000).map(|n| arena.insert(n)).collect();
        assert!(keys[1..].iter().all(|&key| arena.get(key).is_none()));
        assert!((0..).zip(&again).all(|(n, &key)| arena.get(key) == Some(&n)));
    }
}
