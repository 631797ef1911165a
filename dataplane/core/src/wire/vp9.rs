//! The VP9 payload descriptor (RFC 9628 section 4.2). Never changes a payload.
//!
//! ```text
//!  0 1 2 3 4 5 6 7
//! |I|P|L|F|B|E|V|Z|   required
//! |M| PICTURE ID  |   if I; one byte more if M
//! | TID |U| SID |D|   if L
//! |   TL0PICIDX   |   if L and not F
//! | P_DIFF      |N|   if P and F; up to three, as long as N
//! |  scalability structure |  if V
//! ```

use super::{PayloadInfo, u16_at};

const I: u8 = 0x80;
const P: u8 = 0x40;
const L: u8 = 0x20;
const F: u8 = 0x10;
const B: u8 = 0x08;
const E: u8 = 0x04;
const V: u8 = 0x02;
const Z: u8 = 0x01;

/// A parsed payload descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Descriptor {
    /// B: first packet of a layer's frame.
    pub start_of_frame: bool,
    /// E: last packet of a layer's frame.
    pub end_of_frame: bool,
    /// P: predicted from earlier pictures.
    pub inter_picture: bool,
    /// F: references are listed in the descriptor.
    pub flexible: bool,
    /// Z: no upper spatial layer refers to it.
    pub not_for_upper_layers: bool,
    /// Picture id, 7 or 15 bits.
    pub picture_id: Option<u16>,
    /// M: the picture id has 15 bits.
    pub picture_id_15bit: bool,
    /// TID and SID.
    pub layers: Option<(u8, u8)>,
    /// U: from the next picture on, higher temporal layers depend on no picture of theirs before
    /// this one, so that they can be entered.
    pub switching_up: bool,
    /// D: predicted from the spatial layer below.
    pub inter_layer: bool,
    /// TL0PICIDX.
    pub tl0_pic_idx: Option<u8>,
    /// V: number of spatial layers that the scalability structure announces.
    pub spatial_layers: Option<u8>,
    /// Bytes of the descriptor.
    pub len: u16,
}

impl Descriptor {
    /// `None` when it is cut short or nothing follows it.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Option<Self> {
        let flags = *payload.first()?;
        let mut this = Self {
            start_of_frame: flags & B != 0,
            end_of_frame: flags & E != 0,
            inter_picture: flags & P != 0,
            flexible: flags & F != 0,
            not_for_upper_layers: flags & Z != 0,
            ..Self::default()
        };
        let mut at = 1;
        if flags & I != 0 {
            at = this.parse_picture_id(payload, at)?;
        }
        if flags & L != 0 {
            at = this.parse_layers(payload, at)?;
        }
        if flags & (P | F) == P | F {
            at = skip_references(payload, at)?;
        }
        if flags & V != 0 {
            at = this.parse_structure(payload, at)?;
        }
        payload.get(at)?;
        this.len = u16::try_from(at).ok()?;
        Some(this)
    }

    fn parse_picture_id(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let id = *payload.get(at)?;
        self.picture_id_15bit = id & 0x80 != 0;
        if self.picture_id_15bit {
            self.picture_id = Some(u16_at(payload, at)? & 0x7fff);
            return Some(at + 2);
        }
        self.picture_id = Some(u16::from(id));
        Some(at + 1)
    }

    fn parse_layers(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let byte = *payload.get(at)?;
        self.layers = Some((byte >> 5, byte >> 1 & 0x07));
        self.switching_up = byte & 0x10 != 0;
        self.inter_layer = byte & 0x01 != 0;
        if self.flexible {
            return Some(at + 1);
        }
        self.tl0_pic_idx = Some(*payload.get(at + 1)?);
        Some(at + 2)
    }

    /// Scalability structure: |N_S(3)|Y|G|RSV(3)|, sizes, picture group.
    fn parse_structure(&mut self, payload: &[u8], at: usize) -> Option<usize> {
        let byte = *payload.get(at)?;
        let mut at = at + 1;
        let layers = (byte >> 5) + 1;
        self.spatial_layers = Some(layers);
        if byte & 0x10 != 0 {
            at += 4 * usize::from(layers);
        }
        if byte & 0x08 != 0 {
            let pictures = *payload.get(at)?;
            at += 1;
            for _ in 0..pictures {
                let references = *payload.get(at)? >> 2 & 0x03;
                at += 1 + usize::from(references);
            }
        }
        Some(at)
    }

    /// First packet of a picture that needs no earlier one: lowest spatial layer, not predicted.
    #[must_use]
    pub fn key_frame(&self) -> bool {
        let spatial = self.layers.map_or(0, |(_, spatial)| spatial);
        self.start_of_frame && !self.inter_picture && spatial == 0
    }

    /// The same in the form that all codecs share.
    #[must_use]
    pub fn info(&self) -> PayloadInfo {
        let (temporal_layer, spatial_layer) = self.layers.unwrap_or((0, 0));
        PayloadInfo {
            key_frame: self.key_frame(),
            start_of_frame: self.start_of_frame,
            end_of_frame: self.end_of_frame,
            temporal_layer,
            spatial_layer,
            layer_sync: !self.inter_picture || temporal_layer == 0,
            opens_upper: self.switching_up,
            picture_id: self.picture_id,
            picture_id_15bit: self.picture_id_15bit,
            tl0_pic_idx: self.tl0_pic_idx,
            ..PayloadInfo::default()
        }
    }
}

/// Up to three P_DIFFs, each announcing the next one by N.
fn skip_references(payload: &[u8], mut at: usize) -> Option<usize> {
    for _ in 0..3 {
        let more = payload.get(at)? & 0x01 != 0;
        at += 1;
        if !more {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_key_frame_with_structure() {
        // I, L, B, V; id 0x1234; TID 0, SID 0; TL0 9; two layers with sizes, one picture.
        let payload = [
            0b1010_1010,
            0x92,
            0x34,
            0x00,
            9,
            0b0011_1000,
            1,
            64,
            0,
            180,
            2,
            128,
            1,
            104,
            1,
            0b0000_0100,
            1,
            0xff,
        ];
        let d = Descriptor::parse(&payload).unwrap();
        assert!(d.key_frame() && d.start_of_frame && !d.end_of_frame);
        assert_eq!((d.picture_id, d.picture_id_15bit), (Some(0x1234), true));
        assert_eq!((d.layers, d.tl0_pic_idx), (Some((0, 0)), Some(9)));
        assert_eq!((d.spatial_layers, d.len), (Some(2), 17));
        for cut in 0..payload.len() {
            assert_eq!(Descriptor::parse(&payload[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn flexible_mode_lists_references() {
        // I, P, L, F, E; id 5; TID 2, U, SID 1, D; two references.
        let d = Descriptor::parse(&[0b1111_0100, 5, 0b0101_0011, 0x03, 0x04, 0xaa]).unwrap();
        assert_eq!((d.layers, d.switching_up, d.inter_layer), (Some((2, 1)), true, true));
        assert_eq!((d.len, d.tl0_pic_idx, d.picture_id), (5, None, Some(5)));
        assert!(!d.key_frame() && !d.info().layer_sync && d.end_of_frame);
        assert!(d.info().opens_upper);
        let endless = [0b1101_0000, 5, 0x03, 0x03, 0x03, 0x02, 0xaa];
        assert_eq!(Descriptor::parse(&endless), None);
    }

    #[test]
    fn the_upper_layer_of_a_key_picture_is_not_the_place_to_begin() {
        let d = Descriptor::parse(&[0b1010_1000, 5, 0b0000_0011, 7, 0xaa]).unwrap();
        assert!(!d.key_frame() && d.start_of_frame);
        assert_eq!(d.info().spatial_layer, 1);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(payload in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(d) = Descriptor::parse(&payload) {
                prop_assert!(usize::from(d.len) < payload.len());
            }
        }
    }
}
