//! The VP8 payload descriptor (RFC 7741 section 4.2) and what of it is rewritten on the way: the
//! picture id and TL0PICIDX, in place, keeping their widths. Never touches the frame itself.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! |X|R|N|S|R| PID |   required
//! |I|L|T|K|  RSV  |   if X
//! |M| PictureID   |   if I; one byte more if M
//! |   TL0PICIDX   |   if L
//! |TID|Y| KEYIDX  |   if T or K
//! ```

use super::{PayloadInfo, u16_at};

const X: u8 = 0x80;
const N: u8 = 0x20;
const S: u8 = 0x10;
const I: u8 = 0x80;
const L: u8 = 0x40;
const T: u8 = 0x20;
const K: u8 = 0x10;
const Y: u8 = 0x20;
const M: u8 = 0x80;

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// N: no other frame refers to this one.
    pub non_reference: bool,
    /// S: first packet of a partition.
    pub start_of_partition: bool,
    /// PID.
    pub partition: u8,
    /// Picture id, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// M: the picture id has 15 bits.
    pub picture_id_15bit: bool,
    /// TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
    /// TID.
    pub temporal_layer: Option<u8>,
    /// Y: depends only on the base layer.
    pub layer_sync: bool,
    /// KEYIDX.
    pub key_index: Option<u8>,
    /// Bytes of the descriptor.
    pub len: u8,
    /// The first packet of a key frame (inverse of the frame header's P, RFC 6386 section 9.1).
    pub key_frame: bool,
    picture_id_offset: u8,
    tl0_offset: u8,
}

impl Descriptor {
    /// `None` when it is cut short or nothing follows it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let first = *payload.first()?;
        let mut this = Self {
            non_reference: first & N != 0,
            start_of_partition: first & S != 0,
            partition: first & 0x07,
            ..Self::default()
        };
        let mut at = 1;
        if first & X != 0 {
            at = this.parse_extended(payload)?;
        }
        this.len = at as u8;
        let header = *payload.get(at)?;
        this.key_frame = this.start_of_frame() && header & 0x01 == 0;
        Some(this)
    }

    /// The optional fields; returns how many bytes the descriptor has.
    fn parse_extended(&mut self, payload: &[u8]) -> Option<usize> {
        let flags = *payload.get(1)?;
        let mut at = 2;
        if flags & I != 0 {
            let id = *payload.get(at)?;
            self.picture_id_offset = at as u8;
            if id & M != 0 {
                self.picture_id_15bit = true;
                self.picture_id = Some(u16_at(payload, at)? & 0x7fff);
                at += 2;
            } else {
                self.picture_id = Some(u16::from(id));
                at += 1;
            }
        }
        if flags & L != 0 {
            self.tl0_offset = at as u8;
            self.tl0_pic_idx = Some(*payload.get(at)?);
            at += 1;
        }
        if flags & (T | K) != 0 {
            let byte = *payload.get(at)?;
            at += 1;
            if flags & T != 0 {
                self.temporal_layer = Some(byte >> 6);
                self.layer_sync = byte & Y != 0;
            }
            self.key_index = (flags & K != 0).then_some(byte & 0x1f);
        }
        Some(at)
    }

    /// First packet of a frame: the start of partition 0.
    #[must_use]
    pub fn start_of_frame(&self) -> bool {
        self.start_of_partition && self.partition == 0
    }

    /// The same in the form that all codecs share.
    #[must_use]
    pub fn info(&self) -> PayloadInfo {
        let temporal_layer = self.temporal_layer.unwrap_or(0);
        PayloadInfo {
            key_frame: self.key_frame,
            start_of_frame: self.start_of_frame(),
            temporal_layer,
            layer_sync: self.key_frame || self.layer_sync || temporal_layer == 0,
            discardable: self.non_reference,
            picture_id: self.picture_id,
            picture_id_15bit: self.picture_id_15bit,
            tl0_pic_idx: self.tl0_pic_idx,
            ..PayloadInfo::default()
        }
    }
}

/// Adds to the picture id and to TL0PICIDX, each modulo its width on the wire. Fields that the
/// payload does not have stay away; a malformed payload stays as it is.
pub fn rewrite(payload: &mut [u8], picture_add: u16, tl0_add: u8) {
    let Some(descriptor) = Descriptor::parse(payload) else {
        return;
    };
    if let Some(id) = descriptor.picture_id {
        let at = usize::from(descriptor.picture_id_offset);
        let id = id.wrapping_add(picture_add);
        if descriptor.picture_id_15bit {
            payload[at..at + 2].copy_from_slice(&(id & 0x7fff | 0x8000).to_be_bytes());
        } else {
            payload[at] = (id & 0x7f) as u8;
        }
    }
    if let Some(tl0) = descriptor.tl0_pic_idx {
        payload[usize::from(descriptor.tl0_offset)] = tl0.wrapping_add(tl0_add);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_field_in_its_place() {
        // X, S; I, L, T, K; 15-bit id 0x1234; TL0 9; TID 2, Y, KEYIDX 5; key frame.
        let payload = [0x90, 0xf0, 0x92, 0x34, 9, 0b1010_0101, 0x10, 0];
        let d = Descriptor::parse(&payload).unwrap();
        assert_eq!((d.picture_id, d.picture_id_15bit), (Some(0x1234), true));
        assert_eq!((d.tl0_pic_idx, d.temporal_layer, d.key_index), (Some(9), Some(2), Some(5)));
        assert!(d.layer_sync && d.key_frame && d.start_of_frame() && !d.non_reference);
        assert_eq!(d.len, 6);
        for cut in 0..=6 {
            assert_eq!(Descriptor::parse(&payload[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn only_the_first_packet_begins_a_frame() {
        let key = |payload: &[u8]| Descriptor::parse(payload).unwrap().info();
        assert!(key(&[0x10, 0x00]).key_frame);
        assert!(!key(&[0x10, 0x01]).key_frame && key(&[0x10, 0x01]).start_of_frame);
        assert!(!key(&[0x00, 0x00]).key_frame && !key(&[0x11, 0x00]).start_of_frame);
        assert!(key(&[0x30, 0x01]).discardable);
        let upper = key(&[0x90, 0x20, 0x40, 0x01]);
        assert_eq!((upper.temporal_layer, upper.layer_sync), (1, false));
    }

    #[test]
    fn numbers_keep_their_widths() {
        let mut narrow = [0x90, 0xc0, 0x7f, 0xff, 0x01];
        rewrite(&mut narrow, 2, 3);
        assert_eq!(narrow, [0x90, 0xc0, 0x01, 0x02, 0x01]);
        let mut wide = [0x90, 0x80, 0xff, 0xff, 0x01];
        rewrite(&mut wide, 2, 3);
        assert_eq!(wide, [0x90, 0x80, 0x80, 0x01, 0x01]);
        let mut without = [0x10, 0x01];
        rewrite(&mut without, 2, 3);
        assert_eq!(without, [0x10, 0x01]);
    }

    proptest! {
        #[test]
        fn rewriting_changes_the_two_numbers_and_nothing_else(
            mut payload in prop::collection::vec(any::<u8>(), 0..30),
            picture_add: u16,
            tl0_add: u8,
        ) {
            let before = Descriptor::parse(&payload);
            let original = payload.clone();
            rewrite(&mut payload, picture_add, tl0_add);
            let Some(before) = before else {
                prop_assert_eq!(payload, original);
                return Ok(());
            };
            let mask = if before.picture_id_15bit { 0x7fff } else { 0x7f };
            let after = Descriptor::parse(&payload).unwrap();
            let expected = Descriptor {
                picture_id: before.picture_id.map(|id| id.wrapping_add(picture_add) & mask),
                tl0_pic_idx: before.tl0_pic_idx.map(|tl0| tl0.wrapping_add(tl0_add)),
                ..before
            };
            prop_assert_eq!(after, expected);
            let len = usize::from(before.len);
            prop_assert_eq!(&payload[len..], &original[len..]);
            rewrite(&mut payload, picture_add.wrapping_neg(), tl0_add.wrapping_neg());
            prop_assert_eq!(payload, original);
        }
    }
}
