//! Opus (RFC 7587, RFC 6716 section 3): tells silence from sound. Every packet can be decoded on
//! its own, so that each one is a place to begin. Never changes a payload.

use super::PayloadInfo;

/// A packet of at most two bytes carries no audio: with DTX an encoder sends one (TOC and at most
/// one byte) about every 400 ms and nothing in between (RFC 6716 section 2.1.9; libopus documents
/// that a packet of 2 bytes or less need not be sent).
const DTX_LEN_MAX: usize = 2;

/// `None` for an empty payload.
#[must_use]
pub fn describe(payload: &[u8]) -> Option<PayloadInfo> {
    if payload.is_empty() {
        return None;
    }
    Some(PayloadInfo {
        key_frame: true,
        start_of_frame: true,
        end_of_frame: true,
        layer_sync: true,
        silence: is_silence(payload.len()),
        ..PayloadInfo::default()
    })
}

/// True for a payload of that length that carries no audio.
#[must_use]
pub fn is_silence(payload_len: usize) -> bool {
    payload_len <= DTX_LEN_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_bytes_are_silence() {
        assert_eq!(describe(&[]), None);
        assert!(describe(&[0xb0]).unwrap().silence);
        assert!(describe(&[0xb0, 1]).unwrap().silence);
        let sound = describe(&[0xb0, 1, 2]).unwrap();
        assert!(!sound.silence && sound.key_frame);
    }
}
