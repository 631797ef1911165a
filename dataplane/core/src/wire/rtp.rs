//! RTP packets (RFC 3550 section 5.1, RFC 8285): a view of the header, writers of headers and of
//! extension blocks, and arithmetic on numbers that wrap. Called once per received and once per
//! sent packet; never keeps the packet, never allocates.

use std::ops::Range;

use super::{Full, array_at, u16_at, u32_at, writer::Writer};
use crate::Discard;

/// Bytes of the fixed header.
pub const FIXED_HEADER_BYTES: usize = 12;
/// The largest packet that is looked at: a UDP datagram's.
pub const PACKET_BYTES_MAX: usize = 65_535;

const VERSION_2: u8 = 0x80;
const PADDING: u8 = 0x20;
const EXTENSION: u8 = 0x10;
const MARKER: u8 = 0x80;
/// RFC 8285 section 4.2.
const PROFILE_ONE_BYTE: u16 = 0xbede;
/// RFC 8285 section 4.3: 0x100 and four bits for the application.
const PROFILE_TWO_BYTE: u16 = 0x1000;

/// The fields of one packet's header, and where things lie in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// M.
    pub marker: bool,
    /// 7 bits.
    pub payload_type: u8,
    /// As on the wire.
    pub sequence_number: u16,
    /// As on the wire.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
    /// Contributing sources, 0 to 15.
    pub csrc_count: u8,
    /// The padding bit.
    pub has_padding: bool,
    /// Bytes of padding at the end, the count itself included; 0 before it was resolved.
    pub padding_len: u8,
    /// "Defined by profile" of the extension block; 0 without one.
    pub extension_profile: u16,
    extension_offset: u16,
    extension_len: u16,
    header_len: u16,
    payload_end: u16,
}

impl Header {
    /// Parses a packet in plain text: header and padding.
    ///
    /// # Errors
    /// [`Discard::RtpMalformed`] when anything would lie outside of the packet,
    /// [`Discard::Oversized`] above 65,535 bytes.
    pub fn parse(packet: &[u8]) -> Result<Self, Discard> {
        let mut header = Self::parse_protected(packet)?;
        header.resolve_padding(packet)?;
        Ok(header)
    }

    /// Parses the header of an SRTP packet, which is in plain text; the payload then ends with the
    /// packet (its tag included), and its padding is unknown: see [`Self::resolve_padding`].
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_protected(packet: &[u8]) -> Result<Self, Discard> {
        let payload_end = u16::try_from(packet.len()).map_err(|_| Discard::Oversized)?;
        Self::fixed(packet, payload_end)
            .and_then(|header| header.with_extension(packet))
            .filter(|header| usize::from(header.header_len) <= packet.len())
            .ok_or(Discard::RtpMalformed)
    }

    fn fixed(packet: &[u8], payload_end: u16) -> Option<Self> {
        let fixed: [u8; FIXED_HEADER_BYTES] = array_at(packet, 0)?;
        let [first, second, ..] = fixed;
        if first & 0xc0 != VERSION_2 {
            return None;
        }
        let csrc_count = first & 0x0f;
        Some(Self {
            marker: second & MARKER != 0,
            payload_type: second & 0x7f,
            sequence_number: u16_at(&fixed, 2)?,
            timestamp: u32_at(&fixed, 4)?,
            ssrc: u32_at(&fixed, 8)?,
            csrc_count,
            has_padding: first & PADDING != 0,
            padding_len: 0,
            extension_profile: 0,
            extension_offset: 0,
            extension_len: 0,
            header_len: FIXED_HEADER_BYTES as u16 + 4 * u16::from(csrc_count),
            payload_end,
        })
    }

    fn with_extension(mut self, packet: &[u8]) -> Option<Self> {
        if packet.first()? & EXTENSION == 0 {
            return Some(self);
        }
        let at = usize::from(self.header_len);
        self.extension_profile = u16_at(packet, at)?;
        let len = usize::from(u16_at(packet, at + 2)?) * 4;
        let end = at + 4 + len;
        // The packet has at most 65,535 bytes, so that what lies inside fits 16 bits.
        packet.get(..end)?;
        self.extension_offset = (at + 4) as u16;
        self.extension_len = len as u16;
        self.header_len = end as u16;
        Some(self)
    }

    /// Reads the padding of a packet that is in plain text now (its tag cut off).
    ///
    /// # Errors
    /// [`Discard::RtpMalformed`] for a count of zero or above the payload (RFC 3550 section 5.1).
    pub fn resolve_padding(&mut self, packet: &[u8]) -> Result<(), Discard> {
        let end = u16::try_from(packet.len()).map_err(|_| Discard::Oversized)?;
        if end < self.header_len {
            return Err(Discard::RtpMalformed);
        }
        self.padding_len = 0;
        if self.has_padding {
            let count = packet.last().copied().unwrap_or(0);
            if count == 0 || u16::from(count) > end - self.header_len {
                return Err(Discard::RtpMalformed);
            }
            self.padding_len = count;
        }
        self.payload_end = end - u16::from(self.padding_len);
        Ok(())
    }

    /// Bytes of the header: fixed part, contributing sources, extensions.
    #[must_use]
    pub fn header_len(&self) -> usize {
        usize::from(self.header_len)
    }

    /// Where the payload lies, without padding.
    #[must_use]
    pub fn payload_range(&self) -> Range<usize> {
        usize::from(self.header_len)..usize::from(self.payload_end)
    }

    /// The payload, without padding; empty if `packet` is shorter than the one that was parsed.
    #[must_use]
    pub fn payload<'a>(&self, packet: &'a [u8]) -> &'a [u8] {
        packet.get(self.payload_range()).unwrap_or(&[])
    }

    /// Where the extension block's elements lie (its four bytes of header not included).
    #[must_use]
    pub fn extension_range(&self) -> Range<usize> {
        let start = usize::from(self.extension_offset);
        start..start + usize::from(self.extension_len)
    }

    /// The extension elements of the packet that this header was parsed from.
    #[must_use]
    pub fn extensions<'a>(&self, packet: &'a [u8]) -> Extensions<'a> {
        let form = match self.extension_profile {
            PROFILE_ONE_BYTE => Form::OneByte,
            profile if profile & 0xfff0 == PROFILE_TWO_BYTE => Form::TwoByte,
            _ => {
                return Extensions { block: &[], offset: 0, at: 0, form: Form::OneByte };
            }
        };
        let block = packet.get(self.extension_range()).unwrap_or(&[]);
        Extensions { block, offset: usize::from(self.extension_offset), at: 0, form }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    OneByte,
    TwoByte,
}

/// Extension elements: id and value. Ends at the first element that is cut short or reserved
/// (RFC 8285 section 4.2), as if the rest were not there.
#[derive(Debug, Clone)]
pub struct Extensions<'a> {
    block: &'a [u8],
    offset: usize,
    at: usize,
    form: Form,
}

impl<'a> Extensions<'a> {
    /// The same with each value's offset in the packet, for who keeps the packet.
    pub fn with_offsets(mut self) -> impl Iterator<Item = (u8, usize, &'a [u8])> {
        std::iter::from_fn(move || {
            let (id, value) = self.next()?;
            Some((id, self.offset + self.at - value.len(), value))
        })
    }

    fn step(&mut self) -> Option<(u8, &'a [u8])> {
        loop {
            let first = *self.block.get(self.at)?;
            if first == 0 {
                self.at += 1;
                continue;
            }
            let (id, header, len) = match self.form {
                Form::OneByte => (first >> 4, 1, usize::from(first & 0x0f) + 1),
                Form::TwoByte => (first, 2, usize::from(*self.block.get(self.at + 1)?)),
            };
            if self.form == Form::OneByte && (id == 0 || id == 15) {
                return None;
            }
            let start = self.at + header;
            let value = self.block.get(start..start + len)?;
            self.at = start + len;
            return Some((id, value));
        }
    }
}

impl<'a> Iterator for Extensions<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let element = self.step();
        if element.is_none() {
            self.at = self.block.len();
        }
        element
    }
}

/// What a sent packet's fixed header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    /// M.
    pub marker: bool,
    /// The padding bit: the caller appends padding that ends with its own length.
    pub padding: bool,
    /// 7 bits.
    pub payload_type: u8,
    /// 16 bits.
    pub sequence_number: u16,
    /// RTP clock.
    pub timestamp: u32,
    /// Synchronisation source.
    pub ssrc: u32,
}

/// Writes the fixed header; `extension` says that an extension block follows. Returns its length.
///
/// # Errors
/// [`Full`] for less than 12 bytes.
pub fn write_header(buffer: &mut [u8], fields: &Fields, extension: bool) -> Result<usize, Full> {
    let fixed: &mut [u8; FIXED_HEADER_BYTES] = buffer.first_chunk_mut().ok_or(Full)?;
    fixed[0] = VERSION_2;
    fixed[0] |= if fields.padding { PADDING } else { 0 };
    fixed[0] |= if extension { EXTENSION } else { 0 };
    fixed[1] = fields.payload_type & 0x7f | if fields.marker { MARKER } else { 0 };
    fixed[2..4].copy_from_slice(&fields.sequence_number.to_be_bytes());
    fixed[4..8].copy_from_slice(&fields.timestamp.to_be_bytes());
    fixed[8..12].copy_from_slice(&fields.ssrc.to_be_bytes());
    Ok(FIXED_HEADER_BYTES)
}

/// Writes a whole header: fixed part first, then extensions one by one.
///
/// ```
/// use ironcast_core::wire::rtp::{Fields, HeaderWriter};
///
/// let mut packet = [0; 64];
/// let fields = Fields { payload_type: 96, sequence_number: 7, ..Fields::default() };
/// let mut header = HeaderWriter::begin(&mut packet, &fields)?;
/// header.push(3, &[1, 2, 3])?;
/// assert_eq!(header.finish()?, 12 + 4 + 4);
/// # Ok::<(), ironcast_core::wire::Full>(())
/// ```
#[derive(Debug)]
pub struct HeaderWriter<'a> {
    first: &'a mut u8,
    extensions: ExtensionWriter<'a>,
}

impl<'a> HeaderWriter<'a> {
    /// # Errors
    /// [`Full`] for less than 12 bytes.
    pub fn begin(buffer: &'a mut [u8], fields: &Fields) -> Result<Self, Full> {
        write_header(buffer, fields, false)?;
        let (fixed, rest) = buffer.split_at_mut(FIXED_HEADER_BYTES);
        let first = fixed.first_mut().ok_or(Full)?;
        Ok(Self { first, extensions: ExtensionWriter::begin(rest) })
    }

    /// Appends an extension; see [`ExtensionWriter::push`].
    ///
    /// # Errors
    /// As [`ExtensionWriter::push`].
    pub fn push(&mut self, id: u8, value: &[u8]) -> Result<(), Full> {
        self.extensions.push(id, value)
    }

    /// Bytes of the whole header; the payload follows.
    ///
    /// # Errors
    /// [`Full`] when the last padding does not fit.
    pub fn finish(self) -> Result<usize, Full> {
        let len = self.extensions.finish()?;
        if len > 0 {
            *self.first |= EXTENSION;
        }
        Ok(FIXED_HEADER_BYTES + len)
    }
}

/// Writes an extension block (RFC 8285): in one-byte form as long as every id and length allow
/// it, else in two-byte form, which the receiver must have agreed to (`extmap-allow-mixed`).
#[derive(Debug)]
pub struct ExtensionWriter<'a> {
    writer: Writer<'a>,
    form: Form,
    failed: bool,
}

impl<'a> ExtensionWriter<'a> {
    /// Begins where the block shall lie: after the fixed header (and contributing sources).
    #[must_use]
    pub fn begin(buffer: &'a mut [u8]) -> Self {
        let mut writer = Writer::new(buffer);
        let failed = writer.u32(u32::from(PROFILE_ONE_BYTE) << 16).is_err();
        Self { writer, form: Form::OneByte, failed }
    }

    /// Appends an element. On an error the block stays as it was before.
    ///
    /// # Errors
    /// [`Full`] when it does not fit, for id 0, and for values above 255 bytes.
    pub fn push(&mut self, id: u8, value: &[u8]) -> Result<(), Full> {
        let len = u8::try_from(value.len()).map_err(|_| Full)?;
        if id == 0 || self.failed {
            return Err(Full);
        }
        if self.form == Form::OneByte && !(id <= 14 && (1..=16).contains(&len)) {
            self.widen()?;
        }
        let before = self.writer.len();
        let header = match self.form {
            Form::OneByte => self.writer.u8(id << 4 | (len - 1)),
            Form::TwoByte => self.writer.u16(u16::from_be_bytes([id, len])),
        };
        let result = header.and_then(|()| self.writer.put(value));
        if result.is_err() {
            self.writer.truncate(before);
        }
        result
    }

    /// Turns what was written into two-byte form: each element's header grows by one byte.
    fn widen(&mut self) -> Result<(), Full> {
        let elements = Extensions {
            block: &self.writer.written()[4..],
            offset: 0,
            at: 0,
            form: Form::OneByte,
        }
        .count();
        let before = self.writer.len();
        for _ in 0..elements {
            if self.writer.u8(0).is_err() {
                self.writer.truncate(before);
                return Err(Full);
            }
        }
        let bytes = self.writer.written_mut();
        bytes[0..2].copy_from_slice(&PROFILE_TWO_BYTE.to_be_bytes());
        let (mut at, mut end) = (4, before);
        while at < end {
            let (id, len) = (bytes[at] >> 4, (bytes[at] & 0x0f) + 1);
            bytes.copy_within(at + 1..end, at + 2);
            bytes[at..at + 2].copy_from_slice(&[id, len]);
            at += 2 + usize::from(len);
            end += 1;
        }
        self.form = Form::TwoByte;
        Ok(())
    }

    /// Pads to 32 bits, sets the length, and returns the block's bytes; 0 when nothing was pushed:
    /// then there is no block, and the header's extension bit stays clear.
    ///
    /// # Errors
    /// [`Full`] when the padding does not fit.
    pub fn finish(mut self) -> Result<usize, Full> {
        if self.failed || self.writer.len() == 4 {
            return Ok(0);
        }
        self.writer.pad_to_word()?;
        let len = self.writer.len();
        self.writer.set_u16(2, ((len - 4) / 4) as u16);
        Ok(len)
    }
}

/// True when `a` comes after `b` on the circle of 2^16 (half of it lies ahead).
#[must_use]
pub fn is_newer(a: u16, b: u16) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000
}

/// True when `a` comes after `b` on the circle of 2^32.
#[must_use]
pub fn is_newer_timestamp(a: u32, b: u32) -> bool {
    a != b && a.wrapping_sub(b) < 0x8000_0000
}

/// The extended number with these lower 16 bits that is nearest to `reference`.
#[must_use]
pub fn extend(seq: u16, reference: u32) -> u32 {
    let distance = seq.wrapping_sub(reference as u16).cast_signed();
    reference.wrapping_add_signed(i32::from(distance))
}

/// Extends the sequence numbers of one received stream. The first number is put one cycle above
/// zero, so that packets which were overtaken by the very first one do not wrap below it.
#[derive(Debug, Clone, Copy, Default)]
pub struct SequenceExtender {
    highest: Option<u32>,
}

impl SequenceExtender {
    /// The extended number of a received one; moves on if it is the newest.
    pub fn extend(&mut self, seq: u16) -> u32 {
        let extended = self.peek(seq);
        if self.highest.is_none_or(|highest| extended > highest) {
            self.highest = Some(extended);
        }
        extended
    }

    /// The extended number, without remembering it: for packets that are not verified yet.
    #[must_use]
    pub fn peek(&self, seq: u16) -> u32 {
        extend(seq, self.highest.unwrap_or_else(|| 0x1_0000 | u32::from(seq)))
    }

    /// The newest one.
    #[must_use]
    pub fn highest(&self) -> Option<u32> {
        self.highest
    }
}

#[cfg(test)]
mod tests;
