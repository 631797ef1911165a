//! Figures. Names and units follow mediasoup's stats records; counts are since creation.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    Id, WorkerId,
    command::{DtlsRole, Tuple},
    event::{DtlsState, IceState, LayersReason},
    media::MediaKind,
};

/// One worker.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WorkerStats {
    /// Its number.
    pub id: WorkerId,
    /// The core it is pinned to.
    pub core: u32,
    /// False while it restarts.
    pub running: bool,
    /// First and last port of its slice.
    pub ports: (u16, u16),
    /// Resources on it.
    pub routers: u32,
    /// Resources on it.
    pub transports: u32,
    /// Resources on it.
    pub producers: u32,
    /// Resources on it.
    pub consumers: u32,
    /// Share of the last second spent working, 0 to 1.
    pub cpu_busy: f64,
    /// Sent packets per second, over the last second.
    pub packets_out_per_s: u64,
    /// Sent bits per second, over the last second.
    pub bitrate_out_bps: u64,
    /// From the kernel's arrival stamp to the submit of the turn, microseconds.
    pub forwarding_delay_us_p50: u32,
    /// The same.
    pub forwarding_delay_us_p99: u32,
    /// Everything that is counted, by name: packets in and out, dropped by reason, turns, ...
    pub counters: BTreeMap<String, u64>,
    /// What there is now, by name: sockets, slabs, packets that are kept, and how many there may be.
    pub gauges: BTreeMap<String, u64>,
    /// How values are spread, by name, the unit last in it: `turn_ns`, `run_datagrams`, ...
    pub distributions: BTreeMap<String, Distribution>,
}

/// How values are spread, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// Upper bounds, ascending, each included.
    pub bounds: Vec<u64>,
    /// How many values were at most so large, but larger than the bound before; one more than there
    /// are bounds: what is above all of them.
    pub counts: Vec<u64>,
    /// Of all values.
    pub sum: u64,
}

/// The process: what no worker counts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProcessStats {
    /// Everything that is counted, by name: handshakes, log lines dropped, connections refused, ...
    pub counters: BTreeMap<String, u64>,
    /// How values are spread, by name, the unit last in it.
    pub distributions: BTreeMap<String, Distribution>,
    /// It was told to end, and waits for its rooms until then: wall time, ms since 1970.
    pub drains_until_ms: Option<u64>,
}

/// One transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransportStats {
    /// Wall time, ms since 1970.
    pub timestamp_ms: u64,
    /// ICE.
    pub ice_state: IceState,
    /// Where the peer is.
    pub tuple: Option<Tuple>,
    /// Where its RTCP is, if elsewhere.
    pub rtcp_tuple: Option<Tuple>,
    /// DTLS.
    pub dtls_state: DtlsState,
    /// Our role.
    pub dtls_local_role: Option<DtlsRole>,
    /// All datagrams.
    pub bytes_received: u64,
    /// bits/s, last second.
    pub recv_bitrate: u64,
    /// All datagrams.
    pub bytes_sent: u64,
    /// bits/s, last second.
    pub send_bitrate: u64,
    /// RTP without retransmissions.
    pub rtp_bytes_received: u64,
    /// bits/s, last second.
    pub rtp_recv_bitrate: u64,
    /// RTP without retransmissions.
    pub rtp_bytes_sent: u64,
    /// bits/s, last second.
    pub rtp_send_bitrate: u64,
    /// Retransmissions.
    pub rtx_bytes_received: u64,
    /// bits/s, last second.
    pub rtx_recv_bitrate: u64,
    /// Retransmissions.
    pub rtx_bytes_sent: u64,
    /// bits/s, last second.
    pub rtx_send_bitrate: u64,
    /// What the peer can receive, as far as known.
    pub available_outgoing_bitrate: Option<u64>,
    /// What we let the peer send, as far as said.
    pub available_incoming_bitrate: Option<u64>,
    /// 0 is none.
    pub max_incoming_bitrate: u32,
    /// 0 is none.
    pub max_outgoing_bitrate: u32,
    /// 0 is none.
    pub min_outgoing_bitrate: u32,
    /// Share lost, 0 to 1.
    pub rtp_packet_loss_received: Option<f64>,
    /// Share lost, 0 to 1, as the peer reports it.
    pub rtp_packet_loss_sent: Option<f64>,
}

/// What moves the most.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Hottest {
    /// The busiest first, of each worker.
    pub routers: Vec<RouterRates>,
    /// The busiest first, of each worker.
    pub transports: Vec<TransportRates>,
}

/// A router's traffic, all transports together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RouterRates {
    /// Which.
    pub id: Id,
    /// bits/s, last second.
    pub recv_bitrate: u64,
    /// bits/s, last second.
    pub send_bitrate: u64,
}

/// A transport's figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransportRates {
    /// Which.
    pub id: Id,
    /// Its room.
    pub router: Id,
    /// All of them.
    pub stats: TransportStats,
}

/// What received and sent streams share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StreamStats {
    /// Wall time, ms since 1970.
    pub timestamp_ms: u64,
    /// Of the stream.
    pub ssrc: u32,
    /// Of its retransmissions.
    pub rtx_ssrc: Option<u32>,
    /// Of the stream.
    pub rid: Option<String>,
    /// Audio or video.
    pub kind: MediaKind,
    /// `video/VP8`, ...
    pub mime_type: String,
    /// May be negative with duplicates (RFC 3550).
    pub packets_lost: i64,
    /// Last report, 0 to 255 of 256.
    pub fraction_lost: u8,
    /// RTP clock units.
    pub jitter: u32,
    /// Dropped on purpose or by reason.
    pub packets_discarded: u64,
    /// Sent or received again.
    pub packets_retransmitted: u64,
    /// Gaps filled by a retransmission.
    pub packets_repaired: u64,
    /// NACK messages.
    pub nack_count: u64,
    /// Packets named in them.
    pub nack_packet_count: u64,
    /// PLI messages.
    pub pli_count: u64,
    /// FIR messages.
    pub fir_count: u64,
    /// ms.
    pub round_trip_time: Option<f64>,
    /// 0 to 10.
    pub score: u8,
    /// RTP packets.
    pub packet_count: u64,
    /// RTP bytes, headers included, without SRTP's tag.
    pub byte_count: u64,
    /// bits/s, last second.
    pub bitrate: u64,
}

/// One received stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProducerStats {
    /// The stream.
    pub stream: StreamStats,
    /// Key: `spatial.temporal`, where the spatial one is 0 for each stream of a simulcast. Up to that
    /// layer; empty for a track without layers.
    #[serde(default)]
    pub bitrate_by_layer: BTreeMap<String, u64>,
}

/// One sent stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConsumerStats {
    /// The sent stream.
    pub outbound: StreamStats,
    /// The stream it is made from now.
    pub inbound: Option<StreamStats>,
    /// Why it sends the layers that it sends; none for a track without layers.
    #[serde(default)]
    pub layers_reason: Option<LayersReason>,
    /// Of a pipe: the sent streams of the producer's other encodings, in their order.
    #[serde(default)]
    pub others: Vec<StreamStats>,
}
