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
