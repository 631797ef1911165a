//! Statistics records in mediasoup's shape: what `GET .../stats` answers. Units are mediasoup's:
//! bit rates in bits per second, `timestamp` in milliseconds of the Unix epoch, round trips in
//! milliseconds, jitter in units of the stream's RTP clock.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::events::LayersChangeReason;
use crate::rtp::MediaKind;
use crate::transport::{DtlsState, IceRole, IceState, TransportTuple};

/// The part of a transport's record that is about its link, by `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(tag = "type")]
pub enum LinkStats {
    /// Of a webrtc transport.
    #[serde(rename = "webrtc-transport")]
    Webrtc(WebRtcLinkStats),
    /// Of a plain transport.
    #[serde(rename = "plain-rtp-transport")]
    Plain(PlainLinkStats),
    /// Of a pipe transport.
    #[serde(rename = "pipe-transport")]
    Pipe(PipeLinkStats),
}

impl Default for LinkStats {
    fn default() -> Self {
        Self::Webrtc(WebRtcLinkStats::default())
    }
}

/// Of a webrtc transport.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebRtcLinkStats {
    /// Always `controlled`.
    pub ice_role: IceRole,
    /// ICE.
    pub ice_state: IceState,
    /// The path in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_selected_tuple: Option<TransportTuple>,
    /// DTLS.
    pub dtls_state: DtlsState,
}

/// Of a plain transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlainLinkStats {
    /// RTCP has the port of RTP.
    pub rtcp_mux: bool,
    /// The peer's address is learned.
    pub comedia: bool,
    /// Our end, and the peer's once it is known.
    pub tuple: TransportTuple,
    /// The same of RTCP, without `rtcpMux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp_tuple: Option<TransportTuple>,
}

/// Of a pipe transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PipeLinkStats {
    /// Our end, and the other host's once it is known.
    pub tuple: TransportTuple,
}

/// A transport's record.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportStats {
    /// Id.
    pub transport_id: String,
    /// Milliseconds of the Unix epoch.
    pub timestamp: u64,
    /// Where the peer is.
    #[serde(flatten)]
    pub link: LinkStats,
    /// All bytes received.
    pub bytes_received: u64,
    /// All bits per second received.
    pub recv_bitrate: u64,
    /// All bytes sent.
    pub bytes_sent: u64,
    /// All bits per second sent.
    pub send_bitrate: u64,
    /// RTP bytes received.
    pub rtp_bytes_received: u64,
    /// RTP received, bits per second.
    pub rtp_recv_bitrate: u64,
    /// RTP bytes sent.
    pub rtp_bytes_sent: u64,
    /// RTP sent, bits per second.
    pub rtp_send_bitrate: u64,
    /// RTX bytes received.
    pub rtx_bytes_received: u64,
    /// RTX received, bits per second.
    pub rtx_recv_bitrate: u64,
    /// RTX bytes sent.
    pub rtx_bytes_sent: u64,
    /// RTX sent, bits per second.
    pub rtx_send_bitrate: u64,
    /// Bytes sent to probe the path.
    pub probation_bytes_sent: u64,
    /// Probing, bits per second.
    pub probation_send_bitrate: u64,
    /// What the path to the peer is believed to carry, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_outgoing_bitrate: Option<u64>,
    /// What the path from the peer is believed to carry, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available_incoming_bitrate: Option<u64>,
    /// As set by `PATCH /transports/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_incoming_bitrate: Option<u64>,
    /// As set by `PATCH /transports/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_outgoing_bitrate: Option<u64>,
    /// As set by `PATCH /transports/{id}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_outgoing_bitrate: Option<u64>,
    /// Share of the RTP packets from the peer that were lost, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_packet_loss_received: Option<f64>,
    /// Share of the RTP packets to the peer that were lost, 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_packet_loss_sent: Option<f64>,
    /// The SRTP profile in use, such as `AEAD_AES_128_GCM` (our addition).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_crypto_suite: Option<String>,
}

/// Which way an RTP stream flows, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RtpStreamStatsType {
    /// From a producer.
    InboundRtp,
    /// To a consumer.
    OutboundRtp,
}

/// An RTP stream's record. A producer answers one `inbound-rtp` for each stream; a consumer answers
/// its `outbound-rtp` followed by the `inbound-rtp` of the stream that it takes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RtpStreamStats {
    /// Which way.
    #[serde(rename = "type")]
    pub direction: RtpStreamStatsType,
    /// Milliseconds of the Unix epoch.
    pub timestamp: u64,
    /// SSRC.
    pub ssrc: u32,
    /// SSRC of its RTX stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx_ssrc: Option<u32>,
    /// RTP stream id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rid: Option<String>,
    /// Audio or video.
    pub kind: MediaKind,
    /// Codec.
    pub mime_type: String,
    /// Packets lost; negative when more arrived than were expected (doubled ones).
    pub packets_lost: i32,
    /// Lost since the last report, in 256ths (RFC 3550 section 6.4.1).
    pub fraction_lost: u8,
    /// Inter-arrival jitter, in units of the stream's RTP clock (RFC 3550 section 6.4.1).
    pub jitter: u32,
    /// Packets not passed on.
    pub packets_discarded: u64,
    /// Packets sent again.
    pub packets_retransmitted: u64,
    /// Lost packets that came by retransmission.
    pub packets_repaired: u64,
    /// NACK messages.
    pub nack_count: u64,
    /// Packets asked for in them.
    pub nack_packet_count: u64,
    /// PLI messages.
    pub pli_count: u64,
    /// FIR messages.
    pub fir_count: u64,
    /// Round trip, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_time: Option<f64>,
    /// RTX packets not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtx_packets_discarded: Option<u64>,
    /// 0 (nothing comes) to 10 (all is well).
    pub score: u8,
    /// Packets.
    pub packet_count: u64,
    /// Bytes.
    pub byte_count: u64,
    /// Bits per second.
    pub bitrate: u64,
    /// Bits per second up to each layer, by `spatial.temporal`; `inbound-rtp` of producers only. Each
    /// stream of a simulcast is a spatial layer 0 of its own; a track without layers shows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bitrate_by_layer: Option<BTreeMap<String, u64>>,
    /// Why these layers are sent; `outbound-rtp` of a track with layers only. Not of mediasoup.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layers_reason: Option<LayersChangeReason>,
}
