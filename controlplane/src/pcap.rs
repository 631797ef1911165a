//! Captured packets as a file for Wireshark: pcapng (draft-ietf-opsawg-pcapng), each packet with the
//! IP and UDP headers that it travels with, and a time in nanoseconds. Bytes in, bytes out; the call
//! is `routes/capture.rs`.

use std::{borrow::Cow, io, net::IpAddr, time::Duration};

use etherparse::PacketBuilder;
use ironcast_protocol::{
    capture::{Captured, Packet},
    command::Tuple,
};
use pcap_file::{
    DataLink, PcapError,
    pcapng::{
        PcapNgWriter,
        blocks::{
            enhanced_packet::{EnhancedPacketBlock, EnhancedPacketOption},
            interface_description::{InterfaceDescriptionBlock, InterfaceDescriptionOption},
            interface_statistics::{InterfaceStatisticsBlock, InterfaceStatisticsOption},
        },
    },
};

/// As a packet of a real network has it.
const HOPS: u8 = 64;
/// A time is in units of 10^-9 s.
const NANOSECONDS: u8 = 9;
/// Flags of a packet: its direction.
const RECEIVED: u32 = 1;
const SENT: u32 = 2;

/// Why a packet cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// Headers around a packet that is too long for them.
    #[error("a packet cannot be wrapped: {0}")]
    Wrap(#[from] etherparse::err::packet::BuildWriteError),
    /// The file's own format.
    #[error("the file cannot be written: {0}")]
    Write(#[from] PcapError),
}

/// A file in the making: what was written since the last look.
pub struct File(PcapNgWriter<Vec<u8>>);

impl File {
    /// With its headers.
    pub fn new(transport: &str) -> Result<Self, FileError> {
        let mut writer = PcapNgWriter::new(Vec::new())?;
        writer.write_pcapng_block(InterfaceDescriptionBlock {
            // An IP header is the first.
            linktype: DataLink::RAW,
            snaplen: 0,
            options: vec![
                InterfaceDescriptionOption::IfName(Cow::Owned(format!("transport {transport}"))),
                InterfaceDescriptionOption::IfTsResol(NANOSECONDS),
            ],
        })?;
        Ok(Self(writer))
    }

    /// Adds packets. Without addresses there are none: nothing came or went.
    pub fn add(&mut self, captured: &Captured) -> Result<(), FileError> {
        let Some(tuple) = captured.tuple else { return Ok(()) };
        for packet in &captured.packets {
            let (data, original_len) = wrap(tuple, packet)?;
            let direction = if packet.is_sent { SENT } else { RECEIVED };
            self.0.write_pcapng_block(EnhancedPacketBlock {
                interface_id: 0,
                timestamp: Duration::from_nanos(packet.at_unix_ns),
                original_len,
                data: Cow::Owned(data),
                options: vec![EnhancedPacketOption::Flags(direction)],
            })?;
        }
        Ok(())
    }

    /// The end: how many packets found no room.
    pub fn end(&mut self, at_unix_ns: u64, dropped: u64) -> Result<(), FileError> {
        let options = vec![InterfaceStatisticsOption::IsbIfDrop(dropped)];
        // This block has its time as two numbers of 32 bits, the upper one first.
        let timestamp = at_unix_ns.rotate_left(32);
        let block = InterfaceStatisticsBlock { interface_id: 0, timestamp, options };
        self.0.write_pcapng_block(block)?;
        Ok(())
    }

    /// What was written since.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(self.0.get_mut())
    }
}

/// A packet with its headers, and how long it is with all that was not captured.
fn wrap(tuple: Tuple, packet: &Packet) -> Result<(Vec<u8>, u32), FileError> {
    let (from, to) =
        if packet.is_sent { (tuple.local, tuple.remote) } else { (tuple.remote, tuple.local) };
    let step = match (from.ip().to_canonical(), to.ip().to_canonical()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), HOPS),
        (from, to) => PacketBuilder::ipv6(octets(from), octets(to), HOPS),
    };
    // The headers say how long the whole is; what was not captured is left out behind it.
    let mut whole = packet.bytes.clone();
    whole.resize(whole.len().max(packet.len as usize), 0);
    let mut data = Vec::new();
    step.udp(from.port(), to.port()).write(&mut data, &whole)?;
    let original_len = data.len();
    data.truncate(original_len - (whole.len() - packet.bytes.len()));
    Ok((data, u32::try_from(original_len).unwrap_or(u32::MAX)))
}

fn octets(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        Self::Write(PcapError::IoError(error))
    }
}

#[cfg(test)]
mod tests {
    use pcap_file::pcapng::{Block, PcapNgReader};

    use super::*;

    fn captured(local: &str, remote: &str) -> Captured {
        let tuple = Tuple {
            local: local.parse().unwrap(),
            remote: remote.parse().unwrap(),
            protocol: Default::default(),
        };
        let packet = |is_sent, len, bytes: &[u8]| Packet {
            at_unix_ns: 1_800_000_000_123_456_789,
            is_sent,
            len,
            bytes: bytes.to_vec(),
        };
        let packets = vec![packet(true, 5, b"whole"), packet(false, 1_000, b"head")];
        Captured { tuple: Some(tuple), packets, dropped: 0 }
    }

    #[test]
    fn a_file_has_each_packet_with_its_addresses_its_time_and_its_length() {
        for (local, remote, headers) in [
            ("192.0.2.1:3478", "198.51.100.7:50000", 28),
            ("[2001:db8::1]:3478", "[2001:db8::7]:50000", 48),
        ] {
            let mut file = File::new("t-1").unwrap();
            file.add(&captured(local, remote)).unwrap();
            file.end(7, 3).unwrap();
            let bytes = file.take();
            assert!(file.take().is_empty());
            let mut reader = PcapNgReader::new(bytes.as_slice()).unwrap();
            let mut packets = Vec::new();
            let mut is_told = false;
            while let Some(block) = reader.next_block() {
                match block.unwrap() {
                    Block::EnhancedPacket(packet) => packets.push(packet.into_owned()),
                    Block::InterfaceStatistics(end) => {
                        is_told = end.options == [InterfaceStatisticsOption::IsbIfDrop(3)];
                    }
                    _ => {}
                }
            }
            assert!(is_told);
            let [sent, received] = packets.try_into().unwrap();
            assert_eq!(sent.timestamp.as_nanos(), 1_800_000_000_123_456_789);
            assert_eq!((sent.data.len(), sent.original_len), (headers + 5, headers as u32 + 5));
            assert!(sent.data.ends_with(b"whole"));
            let lens = (received.data.len(), received.original_len);
            assert_eq!(lens, (headers + 4, headers as u32 + 1_000));
            let ports = |data: &[u8]| data[headers - 8..headers - 4].to_vec();
            let (from, to) = (3_478u16.to_be_bytes(), 50_000u16.to_be_bytes());
            assert_eq!(ports(&sent.data), [from, to].concat());
            assert_eq!(ports(&received.data), [to, from].concat());
        }
    }
}
