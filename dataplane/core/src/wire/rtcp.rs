//! RTCP (RFC 3550 section 6, RFC 3611, RFC 4585, RFC 5104, RFC 5506, RFC 7728, REMB): typed views over the
//! packets of a compound, and a writer that appends packets to a buffer. Called per received and
//! per sent RTCP datagram. Never keeps state, never allocates; a packet of a kind that is not known
//! here, or whose inside is wrong, is passed over as [`Packet::Other`] without spoiling the rest.

use super::{array_at, twcc, u16_at, u24_at, u32_at, u64_at};
use crate::{Discard, Nanos, SECOND};

mod write;

pub use write::CompoundWriter;

/// Packet types.
const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const TRANSPORT_FEEDBACK: u8 = 205;
const PAYLOAD_FEEDBACK: u8 = 206;
const EXTENDED_REPORT: u8 = 207;

/// Formats of transport feedback.
const FORMAT_NACK: u8 = 1;
const FORMAT_PAUSE_RESUME: u8 = 9;
const FORMAT_TWCC: u8 = 15;
/// Formats of payload feedback.
const FORMAT_PLI: u8 = 1;
const FORMAT_FIR: u8 = 4;
const FORMAT_APPLICATION: u8 = 15;

/// Extended report blocks (RFC 3611 section 4.4, 4.5).
const XR_RECEIVER_REFERENCE_TIME: u8 = 4;
const XR_DLRR: u8 = 5;

/// Types of pause requests (RFC 7728 section 8.1).
const PAUSE: u8 = 0;
const RESUME: u8 = 1;

const REPORT_BYTES: usize = 24;
const REMB_NAME: &[u8; 4] = b"REMB";

/// Seconds from 1900 to 1970 (RFC 5905).
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// NTP time (32.32 fixed point) of a Unix time.
#[must_use]
pub fn ntp_from_unix(unix: Nanos) -> u64 {
    let seconds = unix / SECOND + NTP_UNIX_SECONDS;
    (seconds << 32) | (((unix % SECOND) << 32) / SECOND)
}

/// The middle 32 bits: what LSR and LRR carry.
#[must_use]
pub fn ntp_middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A duration in 1/65536 s: what DLSR, DLRR carry.
#[must_use]
pub fn short_from_nanos(duration: Nanos) -> u32 {
    let seconds = duration / SECOND;
    ((seconds << 16) | (((duration % SECOND) << 16) / SECOND)) as u32
}

/// The reverse of [`short_from_nanos`].
#[must_use]
pub fn nanos_from_short(short: u32) -> Nanos {
    (u64::from(short) * SECOND) >> 16
}

/// Round trip from a report (RFC 3550 section 6.4.1): `now` is the middle of our NTP time, and the
/// other two come from the report. `None` when the other side has not heard from us yet, or when
/// the result would be negative or above 32 s: then somebody's numbers are wrong.
#[must_use]
pub fn round_trip(now: u32, last_report: u32, delay: u32) -> Option<Nanos> {
    if last_report == 0 {
        return None;
    }
    let elapsed = now.wrapping_sub(last_report).wrapping_sub(delay).cast_signed();
    // One unit is 15 us: clocks that are read twice may disagree by a few of them.
    match elapsed {
        -64..=0 => Some(nanos_from_short(1)),
        1..=0x0020_0000 => Some(nanos_from_short(elapsed.cast_unsigned())),
        _ => None,
    }
}

/// One packet of a compound.
#[derive(Debug, Clone, Copy)]
pub enum Packet<'a> {
    /// RFC 3550 section 6.4.1.
    SenderReport(SenderReport<'a>),
    /// RFC 3550 section 6.4.2.
    ReceiverReport(ReceiverReport<'a>),
    /// RFC 3550 section 6.5.
    SourceDescription(SourceDescription<'a>),
    /// RFC 3550 section 6.6: these left.
    Goodbye(Goodbye<'a>),
    /// RFC 4585 section 6.2.1.
    Nack(Nack<'a>),
    /// RFC 7728: streams that are not wanted now, or again.
    PauseResume(PauseResume<'a>),
    /// Transport-wide feedback.
    TransportFeedback {
        /// Who says it.
        sender_ssrc: u32,
        /// One of the described streams; no meaning.
        media_ssrc: u32,
        /// What arrived when.
        feedback: twcc::Feedback<'a>,
    },
    /// RFC 4585 section 6.3.1: a picture is missing.
    PictureLoss {
        /// Who says it.
        sender_ssrc: u32,
        /// Of which stream.
        media_ssrc: u32,
    },
    /// RFC 5104 section 4.3.1: a key frame is wanted.
    FullIntraRequest(FullIntraRequest<'a>),
    /// draft-alvestrand-rmcat-remb: what the receiver thinks that it can take.
    MaximumBitrate(MaximumBitrate<'a>),
    /// RFC 3611.
    ExtendedReport(ExtendedReport<'a>),
    /// Not known here, or malformed inside.
    Other {
        /// PT.
        packet_type: u8,
        /// RC, FMT or subtype.
        count: u8,
    },
}

/// The packets of a datagram: a compound, or a single one (reduced size, RFC 5506).
#[must_use]
pub fn packets(datagram: &[u8]) -> Packets<'_> {
    Packets { rest: datagram, done: false }
}

/// See [`packets`]. Ends after the first error, [`Discard::RtcpMalformed`]: an empty datagram, a
/// wrong version, a length that exceeds the datagram, impossible padding.
#[derive(Debug, Clone)]
pub struct Packets<'a> {
    rest: &'a [u8],
    done: bool,
}

impl<'a> Iterator for Packets<'a> {
    type Item = Result<Packet<'a>, Discard>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let split = split(self.rest);
        self.rest = split.map_or(&[], |(_, rest)| rest);
        self.done = self.rest.is_empty();
        Some(split.map(|(packet, _)| packet).ok_or(Discard::RtcpMalformed))
    }
}

/// The first packet, and what follows it.
fn split(bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
    let [first, packet_type, length @ ..] = array_at::<4>(bytes, 0)?;
    if first >> 6 != 2 {
        return None;
    }
    let len = (usize::from(u16::from_be_bytes(length)) + 1) * 4;
    let (packet, rest) = bytes.split_at_checked(len)?;
    let mut body = &packet[4..];
    if first & 0x20 != 0 {
        // RFC 3550 section 6.4.1 wants a multiple of four, but transport-wide feedback is padded
        // by single bytes everywhere.
        let padding = usize::from(*body.last()?);
        if padding == 0 {
            return None;
        }
        body = &body[..body.len().checked_sub(padding)?];
    }
    let count = first & 0x1f;
    let parsed = parse(packet_type, count, body);
    Some((parsed.unwrap_or(Packet::Other { packet_type, count }), rest))
}

fn parse(packet_type: u8, count: u8, body: &[u8]) -> Option<Packet<'_>> {
    Some(match packet_type {
        SENDER_REPORT => Packet::SenderReport(SenderReport::parse(body, count)?),
        RECEIVER_REPORT => Packet::ReceiverReport(ReceiverReport {
            ssrc: u32_at(body, 0)?,
            reports: ReportBlocks::parse(body.get(4..)?, count)?,
        }),
        SOURCE_DESCRIPTION => Packet::SourceDescription(SourceDescription { chunks: body, count }),
        GOODBYE => Packet::Goodbye(Goodbye { ssrcs: body.get(..usize::from(count) * 4)? }),
        TRANSPORT_FEEDBACK | PAYLOAD_FEEDBACK => parse_feedback(packet_type, count, body)?,
        EXTENDED_REPORT => {
            Packet::ExtendedReport(ExtendedReport { ssrc: u32_at(body, 0)?, blocks: &body[4..] })
        }
        _ => return None,
    })
}

fn parse_feedback(packet_type: u8, format: u8, body: &[u8]) -> Option<Packet<'_>> {
    let (sender_ssrc, media_ssrc) = (u32_at(body, 0)?, u32_at(body, 4)?);
    let rest = body.get(8..)?;
    Some(match (packet_type, format) {
        (TRANSPORT_FEEDBACK, FORMAT_NACK) => {
            Packet::Nack(Nack { sender_ssrc, media_ssrc, pairs: rest })
        }
        (TRANSPORT_FEEDBACK, FORMAT_PAUSE_RESUME) => {
            Packet::PauseResume(PauseResume { sender_ssrc, requests: rest })
        }
        (TRANSPORT_FEEDBACK, FORMAT_TWCC) => Packet::TransportFeedback {
            sender_ssrc,
            media_ssrc,
            feedback: twcc::Feedback::parse(rest)?,
        },
        (PAYLOAD_FEEDBACK, FORMAT_PLI) => Packet::PictureLoss { sender_ssrc, media_ssrc },
        (PAYLOAD_FEEDBACK, FORMAT_FIR) => {
            Packet::FullIntraRequest(FullIntraRequest { sender_ssrc, entries: rest })
        }
        (PAYLOAD_FEEDBACK, FORMAT_APPLICATION) => {
            Packet::MaximumBitrate(MaximumBitrate::parse(sender_ssrc, rest)?)
        }
        _ => return None,
    })
}

/// A sender report.
#[derive(Debug, Clone, Copy)]
pub struct SenderReport<'a> {
    /// The sender and its clocks.
    pub info: SenderInfo,
    /// What it receives itself.
    pub reports: ReportBlocks<'a>,
}

/// What a sender says about one stream of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// The stream.
    pub ssrc: u32,
    /// NTP time, 32.32.
    pub ntp: u64,
    /// The same instant in the stream's clock.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packet_count: u32,
    /// Bytes of payload sent.
    pub octet_count: u32,
}

impl<'a> SenderReport<'a> {
    fn parse(body: &'a [u8], count: u8) -> Option<Self> {
        let info = SenderInfo {
            ssrc: u32_at(body, 0)?,
            ntp: u64_at(body, 4)?,
            rtp_timestamp: u32_at(body, 12)?,
            packet_count: u32_at(body, 16)?,
            octet_count: u32_at(body, 20)?,
        };
        Some(Self { info, reports: ReportBlocks::parse(body.get(24..)?, count)? })
    }
}

/// A receiver report.
#[derive(Debug, Clone, Copy)]
pub struct ReceiverReport<'a> {
    /// Who says it.
    pub ssrc: u32,
    /// What it receives.
    pub reports: ReportBlocks<'a>,
}

/// Report blocks of a sender or receiver report.
#[derive(Debug, Clone, Copy)]
pub struct ReportBlocks<'a>(&'a [u8]);

impl<'a> ReportBlocks<'a> {
    fn parse(bytes: &'a [u8], count: u8) -> Option<Self> {
        bytes.get(..usize::from(count) * REPORT_BYTES).map(Self)
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len() / REPORT_BYTES
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> + 'a {
        self.0.chunks_exact(REPORT_BYTES).filter_map(ReportBlock::parse)
    }
}

/// What a receiver says of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The stream.
    pub ssrc: u32,
    /// Lost since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Lost since the beginning, signed 24 bits: duplicates can make it negative.
    pub cumulative_lost: i32,
    /// Extended highest sequence number.
    pub highest_sequence: u32,
    /// Interarrival jitter, in the stream's clock.
    pub jitter: u32,
    /// Middle of the NTP time of the last sender report; 0 without one.
    pub last_sender_report: u32,
    /// Time since then, 1/65536 s.
    pub delay: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            ssrc: u32_at(bytes, 0)?,
            fraction_lost: *bytes.get(4)?,
            cumulative_lost: (u24_at(bytes, 5)? << 8).cast_signed() >> 8,
            highest_sequence: u32_at(bytes, 8)?,
            jitter: u32_at(bytes, 12)?,
            last_sender_report: u32_at(bytes, 16)?,
            delay: u32_at(bytes, 20)?,
        })
    }
}

/// Descriptions of sources; only CNAME is looked at.
#[derive(Debug, Clone, Copy)]
pub struct SourceDescription<'a> {
    chunks: &'a [u8],
    count: u8,
}

impl<'a> SourceDescription<'a> {
    /// SSRCs with their canonical names. Ends early where a chunk is cut short.
    pub fn cnames(&self) -> impl Iterator<Item = (u32, &'a [u8])> {
        let (mut rest, mut left) = (self.chunks, self.count);
        std::iter::from_fn(move || {
            while left > 0 {
                left -= 1;
                let (ssrc, cname, used) = chunk(rest)?;
                rest = rest.get(used..).unwrap_or(&[]);
                if let Some(cname) = cname {
                    return Some((ssrc, cname));
                }
            }
            None
        })
    }
}

/// One chunk: SSRC, items up to a zero, then zeroes up to 32 bits.
fn chunk(bytes: &[u8]) -> Option<(u32, Option<&[u8]>, usize)> {
    let ssrc = u32_at(bytes, 0)?;
    let (mut at, mut cname) = (4, None);
    loop {
        let kind = *bytes.get(at)?;
        if kind == 0 {
            return Some((ssrc, cname, (at + 1).next_multiple_of(4)));
        }
        let len = usize::from(*bytes.get(at + 1)?);
        let value = bytes.get(at + 2..at + 2 + len)?;
        if kind == 1 && cname.is_none() {
            cname = Some(value);
        }
        at += 2 + len;
    }
}

/// Streams that ended.
#[derive(Debug, Clone, Copy)]
pub struct Goodbye<'a> {
    ssrcs: &'a [u8],
}

impl<'a> Goodbye<'a> {
    /// Their SSRCs.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.ssrcs.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0))
    }
}

/// Lost packets.
#[derive(Debug, Clone, Copy)]
pub struct Nack<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    /// Of which stream.
    pub media_ssrc: u32,
    pairs: &'a [u8],
}

impl<'a> Nack<'a> {
    /// Their sequence numbers: of each pair the packet id, then those of its bitmask. At most 17
    /// for each four bytes; the caller limits how many it answers.
    pub fn sequences(&self) -> impl Iterator<Item = u16> + 'a {
        self.pairs
            .chunks_exact(4)
            .filter_map(|pair| Some((u16_at(pair, 0)?, u16_at(pair, 2)?)))
            .flat_map(|(first, mask)| {
                let following = (0..16u16)
                    .filter(move |bit| mask >> bit & 1 == 1)
                    .map(move |bit| first.wrapping_add(bit + 1));
                std::iter::once(first).chain(following)
            })
    }
}

/// Which streams a receiver wants.
#[derive(Debug, Clone, Copy)]
pub struct PauseResume<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    requests: &'a [u8],
}

/// One stream that a receiver does not want, or wants again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// Which.
    pub ssrc: u32,
    /// It is not wanted.
    pub is_paused: bool,
    /// PauseID: grows with each change.
    pub number: u16,
}

impl<'a> PauseResume<'a> {
    /// PAUSE and RESUME; answers to them are passed over. Ends early where one is cut short.
    pub fn requests(&self) -> impl Iterator<Item = Pause> + 'a {
        let mut rest = self.requests;
        std::iter::from_fn(move || {
            loop {
                let ssrc = u32_at(rest, 0)?;
                let [kind, words, number @ ..] = array_at::<4>(rest, 4)?;
                rest = rest.get(8 + 4 * usize::from(words)..)?;
                if let kind @ (PAUSE | RESUME) = kind >> 4 {
                    let number = u16::from_be_bytes(number);
                    return Some(Pause { ssrc, is_paused: kind == PAUSE, number });
                }
            }
        })
    }
}

/// Key frame requests.
#[derive(Debug, Clone, Copy)]
pub struct FullIntraRequest<'a> {
    /// Who asks.
    pub sender_ssrc: u32,
    entries: &'a [u8],
}

impl<'a> FullIntraRequest<'a> {
    /// Streams with the requests' numbers: the same number again is the same request.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u8)> + 'a {
        self.entries.chunks_exact(8).filter_map(|e| Some((u32_at(e, 0)?, *e.get(4)?)))
    }
}

/// Receiver estimated maximum bitrate.
#[derive(Debug, Clone, Copy)]
pub struct MaximumBitrate<'a> {
    /// Who says it.
    pub sender_ssrc: u32,
    /// All streams together.
    pub bitrate_bps: u64,
    ssrcs: &'a [u8],
}

impl<'a> MaximumBitrate<'a> {
    /// |R E M B| |num ssrc 8|exp 6|mantissa 18| |ssrc|...
    fn parse(sender_ssrc: u32, bytes: &'a [u8]) -> Option<Self> {
        if bytes.first_chunk() != Some(REMB_NAME) {
            return None;
        }
        let count = usize::from(*bytes.get(4)?);
        let packed = u24_at(bytes, 5)?;
        let (exponent, mantissa) = (packed >> 18, u64::from(packed & 0x3_ffff));
        // What does not fit 64 bits is no bitrate.
        if mantissa != 0 && exponent > mantissa.leading_zeros() {
            return None;
        }
        let bitrate_bps = mantissa.checked_shl(exponent).unwrap_or(0);
        Some(Self { sender_ssrc, bitrate_bps, ssrcs: bytes.get(8..8 + 4 * count)? })
    }

    /// The streams that it is about.
    pub fn ssrcs(&self) -> impl Iterator<Item = u32> + 'a {
        self.ssrcs.chunks_exact(4).filter_map(|bytes| u32_at(bytes, 0))
    }
}

/// An extended report.
#[derive(Debug, Clone, Copy)]
pub struct ExtendedReport<'a> {
    /// Who says it.
    pub ssrc: u32,
    blocks: &'a [u8],
}

/// A block of an extended report.
#[derive(Debug, Clone, Copy)]
pub enum ExtendedBlock<'a> {
    /// RRTR: the NTP time at a receiver that sends nothing; it wants a DLRR back.
    ReceiverReferenceTime(u64),
    /// DLRR: answers to such times.
    Dlrr(Dlrr<'a>),
    /// Not known here.
    Other(u8),
}

impl<'a> ExtendedReport<'a> {
    /// Its blocks. Ends early where a block is cut short.
    pub fn blocks(&self) -> impl Iterator<Item = ExtendedBlock<'a>> {
        let mut rest = self.blocks;
        std::iter::from_fn(move || {
            let kind = *rest.first()?;
            let len = 4 + 4 * usize::from(u16_at(rest, 2)?);
            let (block, after) = rest.split_at_checked(len)?;
            rest = after;
            Some(match kind {
                XR_RECEIVER_REFERENCE_TIME => u64_at(block, 4)
                    .map_or(ExtendedBlock::Other(kind), ExtendedBlock::ReceiverReferenceTime),
                XR_DLRR => ExtendedBlock::Dlrr(Dlrr(&block[4..])),
                _ => ExtendedBlock::Other(kind),
            })
        })
    }
}

/// Delay since the last receiver reference time, per receiver.
#[derive(Debug, Clone, Copy)]
pub struct Dlrr<'a>(&'a [u8]);

impl<'a> Dlrr<'a> {
    /// One by one.
    pub fn reports(&self) -> impl Iterator<Item = DlrrReport> + 'a {
        self.0.chunks_exact(12).filter_map(|bytes| {
            Some(DlrrReport {
                ssrc: u32_at(bytes, 0)?,
                last_reference_time: u32_at(bytes, 4)?,
                delay: u32_at(bytes, 8)?,
            })
        })
    }
}

/// One receiver's part of a DLRR block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DlrrReport {
    /// The receiver.
    pub ssrc: u32,
    /// Middle of the NTP time of its last RRTR.
    pub last_reference_time: u32,
    /// Time since then, 1/65536 s.
    pub delay: u32,
}

#[cfg(test)]
mod tests;
