//! H264 payloads (RFC 6184): finds where key frames and frames begin, in single NAL units, STAP-A
//! and FU-A. Never changes a payload, never looks deeper than the first bit of a slice header.

use super::{PayloadInfo, u16_at};

/// NAL unit types (ITU-T H.264 table 7-1; RFC 6184 table 1).
const SLICE: u8 = 1;
const IDR: u8 = 5;
const SPS: u8 = 7;
const ACCESS_UNIT_DELIMITER: u8 = 9;
const PREFIX: u8 = 14;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// What one NAL unit adds to what is known of the packet.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    key_frame: bool,
    idr: bool,
    start_of_frame: bool,
    reference: bool,
    slice: bool,
    temporal_layer: Option<u8>,
}

/// `None` when an aggregate or fragment is cut short, or the payload is empty.
///
/// A key frame begins with its SPS: who begins at an IDR slice whose SPS was lost sees nothing. Where
/// the parameter sets travel out of band, see [`begins_idr`].
#[must_use]
pub fn describe(payload: &[u8]) -> Option<PayloadInfo> {
    let found = found_in(payload)?;
    let temporal_layer = found.temporal_layer.unwrap_or(0);
    Some(PayloadInfo {
        key_frame: found.key_frame,
        start_of_frame: found.start_of_frame,
        temporal_layer,
        layer_sync: found.key_frame || temporal_layer == 0,
        discardable: found.slice && !found.reference,
        ..PayloadInfo::default()
    })
}

/// True for the packet with which an IDR picture begins: where the receiver has the parameter sets
/// from elsewhere (`sprop-parameter-sets`, RFC 6184 section 8.1), it can begin here.
#[must_use]
pub fn begins_idr(payload: &[u8]) -> bool {
    found_in(payload).is_some_and(|found| found.idr)
}

fn found_in(payload: &[u8]) -> Option<Found> {
    let kind = payload.first()? & 0x1f;
    let mut found = Found::default();
    match kind {
        STAP_A => aggregate(payload, &mut found)?,
        FU_A => fragment(payload, &mut found)?,
        _ => unit(payload, &mut found),
    }
    Some(found)
}

/// RFC 6184 section 5.7.1: NAL units with 16-bit lengths.
fn aggregate(payload: &[u8], found: &mut Found) -> Option<()> {
    let mut at = 1;
    while at < payload.len() {
        let len = usize::from(u16_at(payload, at)?);
        let nal = payload.get(at + 2..at + 2 + len)?;
        unit(nal, found);
        at += 2 + len;
    }
    (at > 1).then_some(())
}

/// RFC 6184 section 5.8: the first fragment has the S bit, and the NAL unit's type beside it.
fn fragment(payload: &[u8], found: &mut Found) -> Option<()> {
    let &[indicator, header, ref rest @ ..] = payload else {
        return None;
    };
    let start = header & 0x80 != 0;
    let kind = header & 0x1f;
    if start {
        nal(kind, indicator >> 5 & 0x03, rest, found);
    } else if matches!(kind, SLICE..=IDR) {
        found.slice = true;
        found.reference |= indicator >> 5 & 0x03 != 0;
    }
    Some(())
}

fn unit(bytes: &[u8], found: &mut Found) {
    if let &[header, ref rest @ ..] = bytes {
        nal(header & 0x1f, header >> 5 & 0x03, rest, found);
    }
}

fn nal(kind: u8, reference: u8, rest: &[u8], found: &mut Found) {
    match kind {
        SLICE..=IDR => {
            // first_mb_in_slice is ue(v): a leading 1 bit is the number 0.
            let first = rest.first().is_some_and(|byte| byte & 0x80 != 0);
            // Data partitions B and C (3, 4) begin with a slice_id instead.
            let first = first && !matches!(kind, 3 | 4);
            found.slice = true;
            found.reference |= reference != 0;
            found.start_of_frame |= first;
            found.idr |= first && kind == IDR;
        }
        SPS => {
            found.key_frame = true;
            found.start_of_frame = true;
        }
        ACCESS_UNIT_DELIMITER => found.start_of_frame = true,
        // ITU-T H.264 annex F.7.3.1.1: |svc=1|idr|priority 6| |..8| |temporal_id 3|...
        PREFIX => {
            if let &[first, _, third, ..] = rest
                && first & 0x80 != 0
            {
                found.temporal_layer = Some(third >> 5);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn aggregate_of(units: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x78];
        for unit in units {
            payload.extend((unit.len() as u16).to_be_bytes());
            payload.extend(*unit);
        }
        payload
    }

    #[test]
    fn key_frames_in_each_form() {
        let sps: &[u8] = &[0x67, 0x42, 0xe0, 0x1f];
        let pps: &[u8] = &[0x68, 0xce];
        for payload in [
            sps.to_vec(),
            aggregate_of(&[sps, pps]),
            aggregate_of(&[&[0x09, 0xf0], sps, pps]),
            aggregate_of(&[sps, pps, &[0x65, 0x88]]),
        ] {
            let info = describe(&payload).unwrap();
            assert!(info.key_frame && info.start_of_frame, "{payload:x?}");
        }
        // Its SPS was lost, or comes from elsewhere.
        for payload in [vec![0x65, 0x88, 0x84], vec![0x7c, 0x85, 0x88]] {
            let info = describe(&payload).unwrap();
            assert!(!info.key_frame && info.start_of_frame, "{payload:x?}");
            assert!(begins_idr(&payload));
        }
        for payload in [vec![0x65, 0x10], vec![0x7c, 0x05, 0x88], vec![0x41, 0x9a], pps.to_vec()] {
            assert!(!begins_idr(&payload), "{payload:x?}");
        }
    }

    #[test]
    fn what_does_not_begin_a_key_frame() {
        for (payload, start, discardable) in [
            (vec![0x41, 0x9a], true, false),
            (vec![0x01, 0x9a], true, true),
            (vec![0x41, 0x1a], false, false),
            // The second slice of an IDR picture; a middle and a last fragment; PPS; SEI.
            (vec![0x65, 0x10], false, false),
            (vec![0x7c, 0x05, 0x88], false, false),
            (vec![0x7c, 0x45, 0x88], false, false),
            (vec![0x68, 0xce], false, false),
            (vec![0x06, 0x05], false, false),
            (vec![0x09, 0xf0], true, false),
        ] {
            let info = describe(&payload).unwrap();
            assert!(!info.key_frame, "{payload:x?}");
            assert_eq!((info.start_of_frame, info.discardable), (start, discardable));
        }
    }

    #[test]
    fn a_prefix_unit_tells_the_temporal_layer() {
        let payload = aggregate_of(&[&[0x6e, 0x80, 0x00, 0x40], &[0x41, 0x9a]]);
        let info = describe(&payload).unwrap();
        assert_eq!((info.temporal_layer, info.layer_sync), (2, false));
    }

    #[test]
    fn cut_short_is_malformed() {
        for payload in [&[][..], &[0x78], &[0x78, 0], &[0x78, 0, 9, 0x67], &[0x7c]] {
            assert_eq!(describe(payload), None);
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = describe(&payload);
        }
    }
}
