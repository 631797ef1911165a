//! What stands in front of a datagram that leaves as a whole frame: Ethernet, IPv4 (RFC 791) or
//! IPv6 (RFC 8200), UDP (RFC 768). Made once for a path, completed for each datagram. Pure.
//!
//! ```text
//! Ethernet  destination 6 | source 6 | type 2
//! IPv4      20 bytes, no options, "do not fragment"        or  IPv6  40 bytes
//! UDP       source 2 | destination 2 | length 2 | checksum 2
//! ```

use std::net::{IpAddr, SocketAddr};

/// A link-layer address (MAC).
pub(crate) type LinkAddress = [u8; 6];

const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP: usize = 8;
const HOPS: u8 = 64;
const PROTOCOL_UDP: u8 = 17;

/// The parts that are the same for all datagrams of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Header {
    bytes: [u8; ETHERNET + IPV6 + UDP],
    len: u8,
    /// Sum over the IPv4 header without its length.
    ip_sum: u32,
    /// Sum over the pseudo header and the ports, without lengths.
    udp_sum: u32,
}

impl Header {
    /// `None` where the two addresses are not of one family.
    pub(crate) fn new(
        (source, local): (LinkAddress, SocketAddr),
        (destination, remote): (LinkAddress, SocketAddr),
    ) -> Option<Self> {
        let mut bytes = [0; ETHERNET + IPV6 + UDP];
        bytes[..6].copy_from_slice(&destination);
        bytes[6..12].copy_from_slice(&source);
        let (kind, ip, addresses) = match (local.ip(), remote.ip()) {
            (IpAddr::V4(local), IpAddr::V4(remote)) => {
                let ip = &mut bytes[ETHERNET..ETHERNET + IPV4];
                // Version 4, five words; then, behind length and identification, "do not fragment".
                ip[0] = 0x45;
                ip[6] = 0x40;
                ip[8] = HOPS;
                ip[9] = PROTOCOL_UDP;
                ip[12..16].copy_from_slice(&local.octets());
                ip[16..20].copy_from_slice(&remote.octets());
                (0x0800u16, IPV4, ETHERNET + 12..ETHERNET + 20)
            }
            (IpAddr::V6(local), IpAddr::V6(remote)) => {
                let ip = &mut bytes[ETHERNET..ETHERNET + IPV6];
                ip[0] = 0x60;
                ip[6] = PROTOCOL_UDP;
                ip[7] = HOPS;
                ip[8..24].copy_from_slice(&local.octets());
                ip[24..40].copy_from_slice(&remote.octets());
                (0x86dd, IPV6, ETHERNET + 8..ETHERNET + 40)
            }
            _ => return None,
        };
        bytes[12..ETHERNET].copy_from_slice(&kind.to_be_bytes());
        let udp = ETHERNET + ip;
        bytes[udp..udp + 2].copy_from_slice(&local.port().to_be_bytes());
        bytes[udp + 2..udp + 4].copy_from_slice(&remote.port().to_be_bytes());
        let ip_sum = if ip == IPV4 { sum(&bytes[ETHERNET..udp]) } else { 0 };
        let udp_sum = sum(&bytes[addresses]) + u32::from(PROTOCOL_UDP) + sum(&bytes[udp..udp + 4]);
        Some(Self { bytes, len: (udp + UDP) as u8, ip_sum, udp_sum })
    }

    /// Bytes of the frame around a payload.
    pub(crate) fn frame_len(&self, payload: usize) -> usize {
        usize::from(self.len) + payload
    }

    /// Bytes that count for the MTU of an interface.
    pub(crate) fn packet_len(&self, payload: usize) -> usize {
        self.frame_len(payload) - ETHERNET
    }

    /// Writes the frame, which has `frame_len` bytes.
    pub(crate) fn write(&self, payload: &[u8], frame: &mut [u8]) {
        let len = usize::from(self.len);
        frame[..len].copy_from_slice(&self.bytes[..len]);
        frame[len..len + payload.len()].copy_from_slice(payload);
        let udp = len - UDP;
        let udp_len = (UDP + payload.len()) as u16;
        if udp == ETHERNET + IPV4 {
            let ip_len = udp_len + IPV4 as u16;
            frame[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&ip_len.to_be_bytes());
            let checksum = !fold(self.ip_sum + u32::from(ip_len));
            frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&checksum.to_be_bytes());
        } else {
            frame[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&udp_len.to_be_bytes());
        }
        frame[udp + 4..udp + 6].copy_from_slice(&udp_len.to_be_bytes());
        // The length is part of the pseudo header and of the header itself.
        let checksum = match !fold(self.udp_sum + 2 * u32::from(udp_len) + sum(payload)) {
            // Zero would say "no checksum".
            0 => u16::MAX,
            checksum => checksum,
        };
        frame[udp + 6..udp + 8].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The ones' complement sum of 16-bit words (RFC 1071), not yet complemented. Added up in the
/// machine's byte order, 32 bits at a time: the order of bytes does not matter until the end.
fn sum(bytes: &[u8]) -> u32 {
    let (words, rest) = bytes.as_chunks::<4>();
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    let words = words.iter().chain([&last]);
    let total: u64 = words.map(|word| u64::from(u32::from_ne_bytes(*word))).sum();
    let total = (total >> 32) + (total & 0xffff_ffff);
    let total = (total >> 32) + (total & 0xffff_ffff);
    u32::from(u16::from_be(fold(total as u32)))
}

fn fold(sum: u32) -> u16 {
    let sum = (sum >> 16) + (sum & 0xffff);
    ((sum >> 16) + (sum & 0xffff)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As RFC 1071 has it, word by word.
    fn plain_sum(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            total = (total >> 16) + (total & 0xffff);
        }
        total as u16
    }

    #[test]
    fn the_sum_is_that_of_rfc_1071() {
        // The example of RFC 1071, section 3.
        assert_eq!(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), 0xddf2);
        let bytes: Vec<u8> = (0..1_500u32).map(|n| ((n * n) >> 3) as u8 | 0x80).collect();
        for len in 0..bytes.len() {
            assert_eq!(fold(sum(&bytes[..len])), plain_sum(&bytes[..len]), "{len}");
        }
        // As large as a datagram can be, all ones.
        assert_eq!(fold(sum(&[0xff; 65_535])), plain_sum(&[0xff; 65_535]));
    }

    #[test]
    fn frames_of_both_families_have_right_lengths_and_checksums() {
        for (local, remote, ip) in
            [("10.1.2.3:4000", "10.1.2.4:50000", 20), ("[fd00::1]:4000", "[fd00::2]:50000", 40)]
        {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let header = Header::new(([2; 6], local), ([4; 6], remote)).unwrap();
            for len in [0usize, 1, 2, 160, 1_200] {
                let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
                let mut frame = vec![0xaa; header.frame_len(len)];
                header.write(&payload, &mut frame);
                assert_eq!((&frame[..6], &frame[6..12]), (&[4; 6][..], &[2; 6][..]));
                let (ip_header, udp) = frame[14..].split_at(ip);
                assert_eq!(udp[..2], 4_000u16.to_be_bytes());
                assert_eq!(udp[2..4], 50_000u16.to_be_bytes());
                assert_eq!(udp[4..6], (8 + len as u16).to_be_bytes());
                assert_eq!(udp[8..], payload);
                // A right checksum makes the sum over what it covers all ones.
                let addresses = if ip == 20 { &ip_header[12..] } else { &ip_header[8..] };
                let pseudo = [addresses, &[0, 17], &udp[4..6]].concat();
                assert_eq!(plain_sum(&[&pseudo[..], udp].concat()), 0xffff, "{local} {len}");
                if ip == 20 {
                    assert_eq!(plain_sum(ip_header), 0xffff);
                    assert_eq!(ip_header[2..4], (28 + len as u16).to_be_bytes());
                } else {
                    assert_eq!(ip_header[4..6], udp[4..6]);
                }
                assert_eq!(header.packet_len(len), ip + 8 + len);
            }
        }
    }

    #[test]
    fn a_checksum_of_zero_is_sent_as_all_ones() {
        let local = "0.0.0.0:0".parse().unwrap();
        let header = Header::new(([0; 6], local), ([0; 6], local)).unwrap();
        // Everything but protocol and twice the length (10) is zero: this payload makes it all ones.
        let payload = (0xffff - 17 - 2 * 10u16).to_be_bytes();
        let mut frame = [0; 44];
        header.write(&payload, &mut frame);
        assert_eq!(frame[40..42], [0xff, 0xff]);
    }

    #[test]
    fn families_do_not_mix() {
        let (v4, v6) = ("10.0.0.1:1".parse().unwrap(), "[::1]:1".parse().unwrap());
        assert_eq!(Header::new(([0; 6], v4), ([0; 6], v6)), None);
    }
}
