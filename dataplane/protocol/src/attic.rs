//! Values that are kept for long and read seldom, in a fraction of their memory: encoded as on the
//! wire, then compressed against earlier values of their kind, from which they differ by little
//! more than ids and SSRCs. Both processes keep a room's hundreds of consumers this way.
//!
//! ```text
//! bases:   [ a camera's consumer, whole ] [ a microphone's consumer, whole ]   few, shared
//! Stored:  -> base, 200 bytes             -> base, 150 bytes                   many
//! ```

use std::{collections::VecDeque, sync::Arc};

use lz4_flex::block::{DecompressError, compress_with_dict, decompress_with_dict};
use serde::{Serialize, de::DeserializeOwned};

use crate::frame::{FrameError, decode_body, encode_body};

/// Kinds of values that look alike: a codec each, with and without simulcast.
const BASES: usize = 8;

/// Why a value cannot be stored, or read again.
#[derive(Debug, thiserror::Error)]
pub enum AtticError {
    /// It cannot be encoded or decoded.
    #[error(transparent)]
    Body(#[from] FrameError),
    /// Its differences cannot be unpacked.
    #[error("kept bytes that cannot be unpacked: {0}")]
    Differences(#[from] DecompressError),
}

/// Stores values of one type. What was stored does not need it any more.
#[derive(Debug, Default)]
pub struct Attic {
    /// Newest first.
    bases: VecDeque<Arc<[u8]>>,
}

/// A stored value.
#[derive(Debug)]
pub struct Stored {
    /// What it was compressed against; itself, when there are no bytes.
    base: Arc<[u8]>,
    /// Length of the encoded value, and its compressed bytes.
    differences: Option<(u32, Box<[u8]>)>,
}

impl Attic {
    /// Stores a value.
    pub fn store<T: Serialize>(&mut self, value: &T) -> Result<Stored, AtticError> {
        let whole = encode_body(value)?;
        let compressed = self.bases.iter().map(|base| (base, compress_with_dict(&whole, base)));
        let best = compressed.min_by_key(|(_, bytes)| bytes.len());
        // What shares less than half with every base begins a kind of its own.
        if let Some((base, bytes)) = best
            && bytes.len() <= whole.len() / 2
            && let Ok(len) = u32::try_from(whole.len())
        {
            let differences = Some((len, bytes.into_boxed_slice()));
            return Ok(Stored { base: Arc::clone(base), differences });
        }
        let base: Arc<[u8]> = whole.into();
        self.bases.truncate(BASES - 1);
        self.bases.push_front(Arc::clone(&base));
        Ok(Stored { base, differences: None })
    }
}

impl Stored {
    /// The value again; its type is the one that was stored.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, AtticError> {
        let Some((len, bytes)) = &self.differences else { return Ok(decode_body(&self.base)?) };
        let whole = decompress_with_dict(bytes, *len as usize, &self.base)?;
        Ok(decode_body(&whole)?)
    }

    /// Bytes that only this value takes; none for a base, which others share.
    #[must_use]
    pub fn own_bytes(&self) -> usize {
        self.differences.as_ref().map_or(0, |(_, bytes)| bytes.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Value = (String, Vec<u32>, String);

    const VIDEO: &str =
        "video/VP8 90000 nack pli ccm fir goog-remb transport-cc urn:ietf:params:rtp-hdrext";
    const AUDIO: &str =
        "audio/opus 48000 channels=2 minptime=10 useinbandfec=1 usedtx ssrc-audio-level";

    fn value(id: u32, codec: &str) -> Value {
        (format!("consumer-{id}"), vec![id, id + 1], codec.to_owned())
    }

    #[test]
    fn values_come_back_and_cost_their_differences() {
        let mut attic = Attic::default();
        let stored: Vec<_> = (0..100)
            .map(|id| {
                let value = value(id, if id % 2 == 0 { VIDEO } else { AUDIO });
                (attic.store(&value).unwrap(), value)
            })
            .collect();
        drop(attic);
        for (stored, value) in &stored {
            assert_eq!(stored.read::<Value>().unwrap(), *value);
            assert!(stored.own_bytes() < 60, "{}", stored.own_bytes());
        }
        let bases = stored.iter().filter(|(stored, _)| stored.differences.is_none()).count();
        assert_eq!(bases, 2);
    }

    #[test]
    fn what_never_looks_alike_is_kept_whole_and_forgotten_as_a_base() {
        let mut attic = Attic::default();
        for id in 0..50_u64 {
            // An avalanche of the number: no two share a run of bytes.
            let noise: Vec<u64> =
                (1..40).map(|i| (id * 40 + i).wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let stored = attic.store(&noise).unwrap();
            assert_eq!(stored.read::<Vec<u64>>().unwrap(), noise);
        }
        assert!(attic.bases.len() <= BASES);
    }

    #[test]
    fn damaged_bytes_are_an_error() {
        let mut attic = Attic::default();
        let _base = attic.store(&value(1, VIDEO)).unwrap();
        let mut stored = attic.store(&value(2, VIDEO)).unwrap();
        stored.differences = Some((10, vec![0xff; 9].into_boxed_slice()));
        assert!(stored.read::<Value>().is_err());
    }
}
