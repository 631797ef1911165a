//! Payloads that can be recognised: each names its stream, frame and packet and carries a checksum,
//! behind a payload descriptor that looks to an SFU like the codec's.

use ironcast_core::{
    Nanos,
    wire::{Codec, vp8, vp9},
};

const MAGIC: [u8; 4] = *b"sim!";
/// Bytes of the recognisable part.
pub const BODY_BYTES: usize = 4 + 4 + 4 + 2 + 2 + 8 + 4;

/// Which packet of which frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Body {
    /// SSRC at the publisher.
    pub source: u32,
    /// Counts the stream's frames.
    pub frame: u32,
    /// Counts the frame's packets.
    pub packet: u16,
    /// Packets of the frame.
    pub packets: u16,
    /// World time of the capture.
    pub captured: Nanos,
}

/// What the descriptor says.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Descriptor {
    /// First packet of a key frame, or any other of it.
    pub key_frame: bool,
    /// 15 bits.
    pub picture_id: u16,
    /// Base layer index.
    pub tl0: u8,
    /// Temporal layer.
    pub temporal: u8,
    /// Refers to the base layer only; of VP9: its U bit.
    pub layer_sync: bool,
}

fn checksum(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

/// A payload of `len` bytes (at least the descriptor and the recognisable part).
#[must_use]
pub fn write(codec: Codec, descriptor: Descriptor, body: Body, len: usize) -> Vec<u8> {
    let first = body.packet == 0;
    let last = body.packet + 1 == body.packets;
    let mut out = match codec {
        Codec::Vp8 => {
            let id = (0x8000 | descriptor.picture_id & 0x7fff).to_be_bytes();
            let sync = u8::from(descriptor.layer_sync) << 5;
            let start = u8::from(first) << 4;
            let layer = descriptor.temporal << 6 | sync;
            let header = u8::from(!descriptor.key_frame);
            vec![0x80 | start, 0xe0, id[0], id[1], descriptor.tl0, layer, header]
        }
        // A key frame begins with its SPS, in a packet of its own.
        Codec::H264 if descriptor.key_frame && first => vec![0x67, 0x42, 0xe0],
        Codec::H264 => {
            let kind = if descriptor.key_frame { 5 } else { 1 };
            let first = first || descriptor.key_frame && body.packet == 1;
            // The layer is for the receiver's eyes: no SFU finds it here.
            let third = 0x88 | descriptor.temporal << 4;
            vec![0x7c, u8::from(first) << 7 | u8::from(last && !first) << 6 | kind, third]
        }
        // A key frame begins with its VPS, in a packet of its own; then fragments of an IDR picture.
        // Other frames: TSA where the layer can be entered, else TRAIL.
        Codec::H265 if descriptor.key_frame && first => vec![0x40, 0x01, 0x0c, 0x01],
        Codec::H265 => {
            let kind = match (descriptor.key_frame, descriptor.layer_sync) {
                (true, _) => 19,
                (false, true) => 3,
                (false, false) => 1,
            };
            let first = first || descriptor.key_frame && body.packet == 1;
            let flags = u8::from(first) << 7 | u8::from(last && !first) << 6;
            vec![0x62, 1 + descriptor.temporal, flags | kind, 0x80]
        }
        // I, P but for key frames, L, B, E; 15 bits of picture id; TID and U; TL0PICIDX.
        Codec::Vp9 => {
            let id = (0x8000 | descriptor.picture_id & 0x7fff).to_be_bytes();
            let inter = u8::from(!descriptor.key_frame) << 6;
            let flags = 0xa0 | inter | u8::from(first) << 3 | u8::from(last) << 2;
            let layers = descriptor.temporal << 5 | u8::from(descriptor.layer_sync) << 4;
            vec![flags, id[0], id[1], layers, descriptor.tl0]
        }
        _ => vec![0x78],
    };
    let start = out.len();
    out.extend(MAGIC);
    out.extend(body.source.to_be_bytes());
    out.extend(body.frame.to_be_bytes());
    out.extend(body.packet.to_be_bytes());
    out.extend(body.packets.to_be_bytes());
    out.extend(body.captured.to_be_bytes());
    let filling = len.saturating_sub(out.len() + 4);
    out.extend((0..filling).map(|i| (i as u8).wrapping_mul(31) ^ body.frame as u8));
    let sum = checksum(&out[start..]);
    out.extend(sum.to_be_bytes());
    out
}

/// The dependency descriptor of a packet of three temporal layers, as browsers write it: the first
/// packet of a key frame brings the templates, whose ids begin anew each time.
#[must_use]
pub fn dependency(descriptor: Descriptor, (first, last): (bool, bool), frame: u16) -> Vec<u8> {
    const FIRST_ID: u8 = 62;
    let template = if descriptor.key_frame { 0 } else { 1 + descriptor.temporal };
    let id = (FIRST_ID + template) % 64;
    let mut out = vec![u8::from(first) << 7 | u8::from(last) << 6 | id];
    out.extend(frame.to_be_bytes());
    if first && descriptor.key_frame {
        // Four templates of three targets: T0 S S S, T0 S S S, T1 - D S, T2 - - D.
        let templates = 0b10000 << 43 // of 48 bits
            | u64::from(FIRST_ID) << 37
            | 2 << 32
            | 0b00_01_01_11 << 24
            | 0b10_10_10_10_10_10_00_01_10_00_00_01;
        out.extend(&u64::to_be_bytes(templates)[2..]);
        // Browsers describe chains and sizes behind, and are longer than a one-byte extension.
        out.extend([0; 12]);
    }
    out
}

/// RED (RFC 2198) around payloads of one type: those before, each with its RTP time, the oldest first.
#[must_use]
pub fn red(payload_type: u8, timestamp: u32, earlier: &[(u32, Vec<u8>)], newest: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for (at, bytes) in earlier {
        let offset = timestamp.wrapping_sub(*at);
        let word = 1 << 31 | u32::from(payload_type) << 24 | offset << 10 | bytes.len() as u32;
        out.extend(word.to_be_bytes());
    }
    out.push(payload_type);
    earlier.iter().for_each(|(_, bytes)| out.extend(bytes));
    out.extend(newest);
    out
}

/// Takes RED apart: the payloads before, each with how long before, and the newest. All of one type.
///
/// # Errors
/// What is wrong with it.
#[expect(clippy::type_complexity, reason = "read once")]
pub fn read_red(payload_type: u8, payload: &[u8]) -> Result<(Vec<(u32, &[u8])>, &[u8]), String> {
    let (mut rest, mut headers) = (payload, Vec::new());
    while let Some((word, behind)) = rest.split_first_chunk::<4>().filter(|(w, _)| w[0] & 0x80 != 0)
    {
        headers.push(u32::from_be_bytes(*word));
        rest = behind;
    }
    let (last, mut rest) = rest.split_first().ok_or("RED without a newest block")?;
    let types = headers.iter().map(|word| (word >> 24) as u8 & 0x7f).chain([*last]);
    if types.into_iter().any(|kind| kind != payload_type) {
        return Err("RED around another payload type".into());
    }
    let mut earlier = Vec::new();
    for word in headers {
        let (bytes, behind) =
            rest.split_at_checked((word & 0x3ff) as usize).ok_or("RED that is cut short")?;
        earlier.push((word >> 10 & 0x3fff, bytes));
        rest = behind;
    }
    Ok((earlier, rest))
}

/// Reads a payload back.
///
/// # Errors
/// What is wrong with it: nothing may be, whatever the network did.
pub fn read(codec: Codec, payload: &[u8]) -> Result<(Body, Descriptor), String> {
    let (start, descriptor) = match codec {
        Codec::Vp8 => {
            let d = vp8::Descriptor::parse(payload).ok_or("no VP8 descriptor")?;
            let at = usize::from(d.len);
            let descriptor = Descriptor {
                key_frame: payload[at] & 1 == 0,
                picture_id: d.picture_id.ok_or("no picture id")?,
                tl0: d.tl0_pic_idx.ok_or("no TL0PICIDX")?,
                temporal: d.temporal_layer.unwrap_or(0),
                layer_sync: d.layer_sync,
            };
            (at + 1, descriptor)
        }
        Codec::H264 => {
            let kind = payload.first().map_or(0, |byte| byte & 0x1f);
            let of_idr = payload.get(1).is_some_and(|byte| byte & 0x1f == 5);
            let key_frame = kind == 7 || kind == 28 && of_idr;
            let third = payload.get(2).copied().unwrap_or(0);
            let temporal = if kind == 28 { third >> 4 & 0x07 } else { 0 };
            (3, Descriptor { key_frame, temporal, ..Descriptor::default() })
        }
        Codec::H265 => {
            let kind = payload.first().map_or(0, |byte| byte >> 1 & 0x3f);
            let inner = payload.get(2).map_or(0, |byte| byte & 0x3f);
            let temporal = payload.get(1).map_or(0, |byte| (byte & 0x07).saturating_sub(1));
            let key_frame = kind == 32 || kind == 49 && inner == 19;
            let layer_sync = kind == 49 && inner == 3;
            (4, Descriptor { key_frame, temporal, layer_sync, ..Descriptor::default() })
        }
        Codec::Vp9 => {
            let d = vp9::Descriptor::parse(payload).ok_or("no VP9 descriptor")?;
            let descriptor = Descriptor {
                key_frame: !d.inter_picture,
                picture_id: d.picture_id.ok_or("no picture id")?,
                tl0: d.tl0_pic_idx.ok_or("no TL0PICIDX")?,
                temporal: d.layers.map_or(0, |(temporal, _)| temporal),
                layer_sync: d.switching_up,
            };
            (usize::from(d.len), descriptor)
        }
        _ => (1, Descriptor::default()),
    };
    let bytes = payload.get(start..).ok_or("too short")?;
    if bytes.len() < BODY_BYTES || bytes[..4] != MAGIC {
        return Err(format!("not ours: {} bytes", payload.len()));
    }
    let (content, sum) = bytes.split_at(bytes.len() - 4);
    if sum != checksum(content).to_be_bytes() {
        return Err("damaged".into());
    }
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let short = |at: usize| u16::from_be_bytes(bytes[at..at + 2].try_into().expect("2 bytes"));
    let captured = u64::from_be_bytes(bytes[16..24].try_into().expect("8 bytes"));
    let body = Body {
        source: number(4),
        frame: number(8),
        packet: short(12),
        packets: short(14),
        captured,
    };
    Ok((body, descriptor))
}
