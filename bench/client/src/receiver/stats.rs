//! The figures of one received stream.

use hdrhistogram::Histogram;

/// What takes longer is recorded as this.
const DELAY_US_MAX: u64 = 60_000_000;

/// A change of the sent stream (layer) behind a received one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Switch {
    /// [`crate::clock::now_ns`] at the arrival of the first packet of the new one.
    pub at_ns: u64,
    /// Number in the stamps before.
    pub from: u32,
    /// Number in the stamps after.
    pub to: u32,
    /// The new one began with a key frame.
    pub at_key_frame: bool,
}

/// Figures since the first packet.
#[derive(Debug, Clone)]
pub struct ReceiveStats {
    /// Of the stream, doubles and repeats too.
    pub packets: u64,
    /// RTP bytes without repeats by RTX.
    pub bytes: u64,
    /// Seen more than once.
    pub duplicates: u64,
    /// Not in order (repeats too).
    pub reordered: u64,
    /// Never came.
    pub lost: u64,
    /// Came after they were asked for, or by RTX.
    pub recovered: u64,
    /// Full number of the highest sequence number.
    pub highest_sequence: u64,
    /// Packets of the retransmission stream.
    pub rtx_packets: u64,
    /// Of them without content.
    pub rtx_padding: u64,
    /// NACK messages.
    pub nacks: u64,
    /// Packets named in them.
    pub nacked_packets: u64,
    /// RTP clock units.
    pub jitter: u32,
    /// Received.
    pub sender_reports: u64,
    /// Last sender report: how far it puts a frame from when that was sent.
    pub report_error_ms: Option<f64>,
    /// Worst of all.
    pub report_error_ms_max: f64,
    /// Payloads whose checksum was right.
    pub verified: u64,
    /// Payloads whose checksum was wrong.
    pub corrupt: u64,
    /// Payloads without a stamp.
    pub foreign: u64,
    /// Complete frames, in order.
    pub frames: u64,
    /// Of them key frames.
    pub key_frames: u64,
    /// Complete frames that could be decoded: nothing missing since a key frame.
    pub decodable_frames: u64,
    /// Frames with a packet missing.
    pub broken_frames: u64,
    /// Longest time between the arrivals of two decodable frames.
    pub frame_gap_ns_max: u64,
    /// Arrival of the first decodable frame.
    pub first_frame_ns: Option<u64>,
    /// Arrival of the last decodable frame.
    pub last_frame_ns: Option<u64>,
    /// Number in the stamps of the stream that arrives now.
    pub stream: Option<u32>,
    /// Picture size of the last key frame.
    pub size: Option<(u16, u16)>,
    /// Highest temporal layer of the last 8 frames.
    pub temporal: u8,
    /// Changes of the stream behind this one.
    pub switches: Vec<Switch>,
    /// Sequence numbers, timestamps or picture ids that do not continue; at most 32 are kept.
    pub anomalies: Vec<String>,
    /// From sending to arrival, microseconds.
    pub delay_us: Histogram<u64>,
}

impl Default for ReceiveStats {
    fn default() -> Self {
        Self {
            packets: 0,
            bytes: 0,
            duplicates: 0,
            reordered: 0,
            lost: 0,
            recovered: 0,
            highest_sequence: 0,
            rtx_packets: 0,
            rtx_padding: 0,
            nacks: 0,
            nacked_packets: 0,
            jitter: 0,
            sender_reports: 0,
            report_error_ms: None,
            report_error_ms_max: 0.0,
            verified: 0,
            corrupt: 0,
            foreign: 0,
            frames: 0,
            key_frames: 0,
            decodable_frames: 0,
            broken_frames: 0,
            frame_gap_ns_max: 0,
            first_frame_ns: None,
            last_frame_ns: None,
            stream: None,
            size: None,
            temporal: 0,
            switches: Vec::new(),
            anomalies: Vec::new(),
            delay_us: Histogram::new_with_bounds(1, DELAY_US_MAX, 2).expect("allowed bounds"),
        }
    }
}
