//! H265 payloads (RFC 7798): finds where key frames and frames begin and which temporal layer they
//! have, in single NAL units, aggregation packets and fragmentation units. Never changes a payload,
//! never looks deeper than the first bit of a slice header. Streams with DONL fields
//! (`sprop-max-don-diff` above 0) are not understood: WebRTC does not allow them.

use super::{PayloadInfo, u16_at};

/// NAL unit types (ITU-T H.265 table 7-1; RFC 7798 section 4.4).
const TSA_N: u8 = 2;
const STSA_R: u8 = 5;
const FIRST_IRAP: u8 = 16;
const LAST_IRAP: u8 = 21;
const LAST_SLICE: u8 = 31;
const VPS: u8 = 32;
const ACCESS_UNIT_DELIMITER: u8 = 35;
const AGGREGATION: u8 = 48;
const FRAGMENTATION: u8 = 49;
const PACI: u8 = 50;

/// Bytes of a NAL unit's header.
const HEADER_BYTES: usize = 2;

/// What one NAL unit adds to what is known of the packet.
#[derive(Debug, Clone, Copy, Default)]
struct Found {
    key_frame: bool,
    irap: bool,
    start_of_frame: bool,
    /// A slice of a picture from which on its temporal layer can be entered.
    sync: bool,
}

/// `None` when an aggregate or fragment is cut short, or the payload is empty.
///
/// A key frame begins with its VPS: who begins at a later part of it sees nothing. Where the parameter
/// sets travel out of band, see [`begins_irap`].
#[must_use]
pub fn describe(payload: &[u8]) -> Option<PayloadInfo> {
    let (found, temporal_layer) = found_in(payload)?;
    Some(PayloadInfo {
        key_frame: found.key_frame,
        start_of_frame: found.start_of_frame,
        temporal_layer,
        layer_sync: found.key_frame || found.sync || temporal_layer == 0,
        ..PayloadInfo::default()
    })
}

/// True for the packet with which a picture begins that needs no other (IRAP): where the receiver has
/// the parameter sets from elsewhere (`sprop-vps` and its like, RFC 7798 section 7.1), it can begin here.
#[must_use]
pub fn begins_irap(payload: &[u8]) -> bool {
    found_in(payload).is_some_and(|(found, _)| found.irap)
}

/// What is in the packet, and its temporal layer: the payload's header has the lowest of all units
/// (RFC 7798 section 4.4.2), and all units of a picture have the same.
fn found_in(payload: &[u8]) -> Option<(Found, u8)> {
    let (kind, temporal_layer) = header(payload)?;
    let mut found = Found::default();
    match kind {
        AGGREGATION => aggregate(&payload[HEADER_BYTES..], &mut found)?,
        FRAGMENTATION => fragment(&payload[HEADER_BYTES..], &mut found)?,
        PACI => extended(&payload[HEADER_BYTES..], &mut found)?,
        _ => unit(payload, &mut found),
    }
    Some((found, temporal_layer))
}

/// Type and temporal layer: |F|type 6|layer 6|temporal id plus 1, 3| (RFC 7798 section 1.1.4).
fn header(unit: &[u8]) -> Option<(u8, u8)> {
    let &[first, second, ..] = unit else { return None };
    Some((first >> 1 & 0x3f, (second & 0x07).saturating_sub(1)))
}

/// RFC 7798 section 4.4.2, behind the header: NAL units with 16-bit lengths.
fn aggregate(units: &[u8], found: &mut Found) -> Option<()> {
    let mut at = 0;
    while at < units.len() {
        let len = usize::from(u16_at(units, at)?);
        unit(units.get(at + 2..at + 2 + len)?, found);
        at += 2 + len;
    }
    (at > 0).then_some(())
}

/// RFC 7798 section 4.4.3, behind the header: the first fragment has the S bit, and the NAL unit's type
/// beside it.
fn fragment(bytes: &[u8], found: &mut Found) -> Option<()> {
    let (&header, rest) = bytes.split_first()?;
    let kind = header & 0x3f;
    if header & 0x80 != 0 {
        nal(kind, rest, found);
    } else {
        found.sync |= (TSA_N..=STSA_R).contains(&kind);
    }
    Some(())
}

/// RFC 7798 section 4.4.4, behind the header: |A|type of the content 6|length of the extension 5|four
/// flags|, the extension, and then the content without its header. None lies in another.
fn extended(bytes: &[u8], found: &mut Found) -> Option<()> {
    let fields = u16_at(bytes, 0)?;
    let kind = (fields >> 9) as u8 & 0x3f;
    let extension = usize::from(fields >> 4 & 0x1f);
    let content = bytes.get(2 + extension..)?;
    match kind {
        AGGREGATION => aggregate(content, found)?,
        FRAGMENTATION => fragment(content, found)?,
        PACI => return None,
        _ => nal(kind, content, found),
    }
    Some(())
}

fn unit(bytes: &[u8], found: &mut Found) {
    if let Some((kind, _)) = header(bytes) {
        nal(kind, &bytes[HEADER_BYTES..], found);
    }
}

fn nal(kind: u8, rest: &[u8], found: &mut Found) {
    match kind {
        ..=LAST_SLICE => {
            // first_slice_segment_in_pic_flag.
            let first = rest.first().is_some_and(|byte| byte & 0x80 != 0);
            found.start_of_frame |= first;
            found.irap |= first && (FIRST_IRAP..=LAST_IRAP).contains(&kind);
            found.sync |= (TSA_N..=STSA_R).contains(&kind);
        }
        VPS => {
            found.key_frame = true;
            found.start_of_frame = true;
        }
        ACCESS_UNIT_DELIMITER => found.start_of_frame = true,
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VPS_UNIT: &[u8] = &[0x40, 0x01, 0x0c];
    const SPS_UNIT: &[u8] = &[0x42, 0x01, 0x01];
    const PPS_UNIT: &[u8] = &[0x44, 0x01, 0xc1];
    const IDR_UNIT: &[u8] = &[0x26, 0x01, 0xaf];

    fn aggregate_of(units: &[&[u8]]) -> Vec<u8> {
        let mut payload = vec![0x60, 0x01];
        for unit in units {
            payload.extend((unit.len() as u16).to_be_bytes());
            payload.extend(*unit);
        }
        payload
    }

    #[test]
    fn key_frames_in_each_form() {
        for payload in [
            VPS_UNIT.to_vec(),
            aggregate_of(&[VPS_UNIT, SPS_UNIT, PPS_UNIT]),
            aggregate_of(&[&[0x46, 0x01, 0x10], VPS_UNIT, SPS_UNIT]),
            aggregate_of(&[VPS_UNIT, SPS_UNIT, PPS_UNIT, IDR_UNIT]),
            // The only unit, with an extension of two bytes before it.
            vec![0x64, 0x01, 0x40, 0x20, 7, 7, 0x0c],
            [&[0x64, 0x01, 0x60, 0x10, 7][..], &aggregate_of(&[VPS_UNIT, SPS_UNIT])[2..]].concat(),
        ] {
            let info = describe(&payload).unwrap();
            assert!(info.key_frame && info.start_of_frame, "{payload:x?}");
        }
        // Its parameter sets were lost, or come from elsewhere: IDR, CRA, the first fragment.
        for payload in
            [IDR_UNIT.to_vec(), vec![0x2a, 0x01, 0x80], vec![0x62, 0x01, 0x80 | 19, 0xaf]]
        {
            let info = describe(&payload).unwrap();
            assert!(!info.key_frame && info.start_of_frame, "{payload:x?}");
            assert!(begins_irap(&payload), "{payload:x?}");
        }
        // A second slice, a middle fragment, a frame that needs others, SPS.
        for payload in [
            vec![0x26, 0x01, 0x2f],
            vec![0x62, 0x01, 19, 0xaf],
            vec![0x02, 0x01, 0xd0],
            SPS_UNIT.to_vec(),
        ] {
            assert!(!begins_irap(&payload) && !describe(&payload).unwrap().key_frame);
        }
    }

    #[test]
    fn each_packet_tells_its_temporal_layer() {
        // TRAIL_R, TSA_N, STSA_R, and a middle fragment of a TSA_N.
        for (payload, layer, start, sync) in [
            (vec![0x02, 0x01, 0xd0], 0, true, true),
            (vec![0x02, 0x02, 0xd0], 1, true, false),
            (vec![0x04, 0x03, 0xd0], 2, true, true),
            (vec![0x0a, 0x02, 0x50], 1, false, true),
            (vec![0x62, 0x03, 0x02, 0x11], 2, false, true),
            (vec![0x62, 0x03, 0x01, 0x11], 2, false, false),
        ] {
            let info = describe(&payload).unwrap();
            let got = (info.temporal_layer, info.start_of_frame, info.layer_sync);
            assert_eq!(got, (layer, start, sync), "{payload:x?}");
        }
    }

    #[test]
    fn cut_short_is_malformed() {
        for payload in [
            &[][..],
            &[0x40],
            &[0x60, 0x01],
            &[0x60, 0x01, 0],
            &[0x60, 0x01, 0, 9, 0x40],
            &[0x62, 0x01],
            &[0x64, 0x01, 0x40],
            &[0x64, 0x01, 0x40, 0x20, 7],
            &[0x64, 0x01, 0x64, 0x00, 7],
        ] {
            assert_eq!(describe(payload), None, "{payload:x?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = describe(&payload);
        }
    }
}
