//! A small table by SSRC that forgets what was used longest ago. What a peer can make us remember
//! lies in such tables. SSRCs lie apart from what is kept, so that a look-up reads few cache lines.

/// Values by SSRC, at most so many.
#[derive(Debug)]
pub(crate) struct Recent<T, const MAX: usize> {
    ssrcs: Vec<u32>,
    values: Vec<(u64, T)>,
    uses: u64,
}

impl<T, const MAX: usize> Default for Recent<T, MAX> {
    fn default() -> Self {
        Self { ssrcs: Vec::new(), values: Vec::new(), uses: 0 }
    }
}

impl<T, const MAX: usize> Recent<T, MAX> {
    fn at(&self, ssrc: u32) -> Option<usize> {
        self.ssrcs.iter().position(|known| *known == ssrc)
    }

    /// Values now.
    pub(crate) fn len(&self) -> usize {
        self.ssrcs.len()
    }

    /// The value, without a use.
    pub(crate) fn peek(&self, ssrc: u32) -> Option<&T> {
        self.at(ssrc).map(|at| &self.values[at].1)
    }

    /// The value; this is a use.
    pub(crate) fn get_mut(&mut self, ssrc: u32) -> Option<&mut T> {
        let at = self.at(ssrc)?;
        self.uses += 1;
        self.values[at].0 = self.uses;
        Some(&mut self.values[at].1)
    }

    /// The SSRC that was used last.
    pub(crate) fn newest(&self) -> Option<u32> {
        let newest = self.values.iter().enumerate().max_by_key(|(_, (used, _))| *used);
        newest.map(|(at, _)| self.ssrcs[at])
    }

    /// Keeps a value in place of the one before. Returns what had to go for it.
    pub(crate) fn put(&mut self, ssrc: u32, value: T) -> Option<(u32, T)> {
        if let Some(known) = self.get_mut(ssrc) {
            *known = value;
            return None;
        }
        let mut gone = None;
        if self.ssrcs.len() >= MAX {
            let oldest = self.values.iter().enumerate().min_by_key(|(_, (used, _))| *used);
            gone = oldest.map(|(at, _)| self.ssrcs[at]).and_then(|ssrc| {
                let value = self.remove(ssrc)?;
                Some((ssrc, value))
            });
        }
        self.uses += 1;
        self.ssrcs.push(ssrc);
        self.values.push((self.uses, value));
        gone
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, ssrc: u32) -> Option<T> {
        let at = self.at(ssrc)?;
        self.ssrcs.swap_remove(at);
        Some(self.values.swap_remove(at).1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_used_longest_ago_goes() {
        let mut table = Recent::<char, 3>::default();
        for (ssrc, value) in [(1, 'a'), (2, 'b'), (3, 'c')] {
            assert_eq!(table.put(ssrc, value), None);
        }
        assert_eq!(table.get_mut(1), Some(&mut 'a'));
        assert_eq!(table.put(4, 'd'), Some((2, 'b')));
        assert_eq!((table.len(), table.newest(), table.peek(2)), (3, Some(4), None));
        assert_eq!(table.put(1, 'z'), None);
        assert_eq!((table.peek(1), table.newest()), (Some(&'z'), Some(1)));
        assert_eq!((table.remove(3), table.remove(3), table.len()), (Some('c'), None, 2));
    }
}
