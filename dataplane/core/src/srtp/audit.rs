//! A witness for tests: no index is sealed twice with different bytes. That would give two texts
//! under one key stream, which is the worst thing an SRTP sender can do (RFC 3711 section 9.1).

use std::collections::{BTreeMap, btree_map::Entry};

/// An index came again with other bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("index {index} of SSRC {ssrc} was sealed twice, with different bytes")]
pub struct SealedTwice {
    /// Of this stream.
    pub ssrc: u32,
    /// The index.
    pub index: u64,
}

/// Remembers what was sealed with one key. Grows without limit: for tests.
#[derive(Debug, Default)]
pub struct SealedOnce {
    sealed: BTreeMap<(u32, u64), u64>,
}

impl SealedOnce {
    /// Notes a packet, in the clear or sealed, but always the same of both.
    pub fn note(&mut self, ssrc: u32, index: u64, bytes: &[u8]) -> Result<(), SealedTwice> {
        let hash = fnv1a(bytes);
        match self.sealed.entry((ssrc, index)) {
            Entry::Vacant(entry) => {
                entry.insert(hash);
                Ok(())
            }
            Entry::Occupied(entry) if *entry.get() == hash => Ok(()),
            Entry::Occupied(_) => Err(SealedTwice { ssrc, index }),
        }
    }

    /// How many different indices were sealed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sealed.len()
    }

    /// True before the first.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sealed.is_empty()
    }
}

/// FNV-1a: good enough to tell packets apart that nobody makes collide.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
