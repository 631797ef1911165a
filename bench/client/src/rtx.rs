//! Retransmission payloads (RFC 4588): the original sequence number, then the original payload.

use bytes::Bytes;
use rtp::packet::Packet;

const ORIGINAL_SEQUENCE_BYTES: usize = 2;

/// The payload that repeats `packet`.
#[must_use]
pub fn wrap(packet: &Packet) -> Bytes {
    let mut payload = Vec::with_capacity(ORIGINAL_SEQUENCE_BYTES + packet.payload.len());
    payload.extend_from_slice(&packet.header.sequence_number.to_be_bytes());
    payload.extend_from_slice(&packet.payload);
    payload.into()
}

/// The original packet, with the SSRC and payload type that it had; `None` if the repeat is empty
/// (padding, as used for probing).
#[must_use]
pub fn unwrap(repeat: &Packet, ssrc: u32, payload_type: u8) -> Option<Packet> {
    let sequence = repeat.payload.get(..ORIGINAL_SEQUENCE_BYTES)?;
    let mut original = repeat.clone();
    original.header.sequence_number = u16::from_be_bytes([sequence[0], sequence[1]]);
    original.header.ssrc = ssrc;
    original.header.payload_type = payload_type;
    original.payload = repeat.payload.slice(ORIGINAL_SEQUENCE_BYTES..);
    Some(original)
}
