//! AV1 payloads (AOM, "RTP Payload Format For AV1" v1.0): the aggregation header, and enough of the
//! OBUs to see where a coded video sequence begins. Never changes a payload.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! |Z|Y| W |N| RSV |   aggregation header (section 4.4)
//! ```

use super::{PayloadInfo, dependency::Dependency};

const Z: u8 = 0x80;
const N: u8 = 0x08;
/// OBU types (AV1 specification, section 6.2.2).
const SEQUENCE_HEADER: u8 = 1;
const FRAME_HEADER: u8 = 3;
const FRAME: u8 = 6;

/// `None` for an empty payload or OBU elements that are cut short.
#[must_use]
pub fn describe(payload: &[u8], dependency: Option<&Dependency<'_>>) -> Option<PayloadInfo> {
    let mut info = elements(payload)?;
    if let Some(Dependency { descriptor, .. }) = dependency {
        info.start_of_frame = descriptor.start_of_frame;
        info.key_frame |= descriptor.start_of_frame && descriptor.has_templates;
    }
    info.layer_sync = info.key_frame || info.temporal_layer == 0;
    Some(info)
}

/// Walks the OBU elements: each has its length before it, but the last if W counts them.
fn elements(payload: &[u8]) -> Option<PayloadInfo> {
    let (&header, mut rest) = payload.split_first()?;
    let continues = header & Z != 0;
    let count = usize::from(header >> 4 & 0x03);
    let mut info = PayloadInfo {
        key_frame: header & N != 0 && !continues,
        start_of_frame: !continues,
        ..PayloadInfo::default()
    };
    let mut index = 0usize;
    while !rest.is_empty() {
        index += 1;
        let element = if index == count {
            std::mem::take(&mut rest)
        } else {
            let (len, used) = leb128(rest)?;
            let element = rest.get(used..used.checked_add(len)?)?;
            rest = &rest[used + len..];
            element
        };
        if index > 1 || !continues {
            obu(element, &mut info);
        }
    }
    (index > 0).then_some(info)
}

/// |forbidden|type 4|extension|has_size|reserved| |temporal 3|spatial 2|reserved 3|
fn obu(bytes: &[u8], info: &mut PayloadInfo) {
    let Some(&header) = bytes.first() else { return };
    let kind = header >> 3 & 0x0f;
    info.key_frame |= kind == SEQUENCE_HEADER;
    if matches!(kind, FRAME_HEADER | FRAME)
        && header & 0x04 != 0
        && let Some(&layers) = bytes.get(1)
    {
        info.temporal_layer = layers >> 5;
        info.spatial_layer = layers >> 3 & 0x03;
    }
}

/// AV1 specification, section 4.10.5: up to eight bytes, of which the last may add nothing.
fn leb128(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().take(8).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, index + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_sequence_begins_with_the_n_bit_or_a_sequence_header() {
        // W=2: a sequence header with its length, then a frame without.
        let both = [0x28, 3, 0x08, 0, 0, 0x30, 1, 2];
        assert!(describe(&both, None).unwrap().key_frame);
        let without_n = [0x20, 3, 0x08, 0, 0, 0x30, 1, 2];
        assert!(describe(&without_n, None).unwrap().key_frame);
        let delta = [0x10, 0x34, 0x48, 2];
        let info = describe(&delta, None).unwrap();
        assert!(!info.key_frame && info.start_of_frame);
        assert_eq!((info.temporal_layer, info.spatial_layer), (2, 1));
        // What continues an earlier packet is no OBU header.
        assert!(!describe(&[0x90, 0x08, 1], None).unwrap().key_frame);
    }

    #[test]
    fn cut_short_is_malformed() {
        for payload in [&[][..], &[0x00], &[0x00, 5, 1], &[0x00, 0x80], &[0x20, 0xff, 0xff, 0xff]] {
            assert_eq!(describe(payload, None), None, "{payload:x?}");
        }
    }

    #[test]
    fn a_length_may_be_longer_than_it_need_be() {
        let padded = [0x20, 0x83, 0x80, 0x80, 0x00, 0x08, 0, 0, 0x30, 1, 2];
        assert!(describe(&padded, None).unwrap().key_frame);
        let largest = [&[0x20][..], &[0xff; 7], &[0x7f, 1]].concat();
        assert_eq!(describe(&largest, None), None);
        assert_eq!(describe(&[&[0x20][..], &[0x80; 8], &[0, 1]].concat(), None), None);
    }

    #[test]
    fn many_empty_elements_are_counted() {
        // W=0: more elements than a byte counts, then one that is cut short.
        let mut payload = vec![0; 600];
        assert!(describe(&payload, None).is_some());
        payload.push(5);
        assert_eq!(describe(&payload, None), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = describe(&payload, None);
        }
    }
}
