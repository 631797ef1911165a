//! Transports: the peers' connections, and those between routers.

use serde::{Deserialize, Serialize};

use crate::id::{AppData, Id};
use crate::resources::UnixMs;
use crate::rtp::RtpCapabilities;
use crate::transport::{
    DtlsParameters, DtlsRole, DtlsState, IceCandidate, IceParameters, IceRole, IceState,
    SrtpCryptoSuite, SrtpParameters, TransportTuple,
};

/// Kind of transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TransportType {
    /// ICE, DTLS, SRTP: browsers.
    Webrtc,
    /// Bare RTP, or SRTP with keys that the API carries: FFmpeg, GStreamer, telephony.
    Plain,
    /// Between routers of two hosts: all streams of what is consumed on it.
    Pipe,
}

/// `POST /transports`. The fields of kinds that this version does not have are known, so that
/// asking for them is `unsupported` and not a spelling mistake.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateTransport {
    /// Chosen by the caller, or made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<Id>,
    /// On this router.
    pub router_id: Id,
    /// Kind.
    #[serde(rename = "type")]
    pub kind: TransportType,
    /// On this worker. Without it, on the router's home, or on another while that has much to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_id: Option<Id>,
    /// Whose transport it is: `POST /participants/{id}/leave` closes all that carry the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Default of the consumers made on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtp_capabilities: Option<RtpCapabilities>,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_data: Option<AppData>,

    /// webrtc: offer UDP candidates (default `rtc.enable_udp`, which is true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_udp: Option<bool>,
    /// webrtc: offer TCP candidates, passive (RFC 6544), on the same ports (default `rtc.enable_tcp`,
    /// which is false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_tcp: Option<bool>,
    /// webrtc: UDP candidates first, where there are both: so it is without this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer_udp: Option<bool>,
    /// webrtc: TCP candidates first, where there are both; not together with `preferUdp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefer_tcp: Option<bool>,
    /// webrtc: where the estimate begins, bits per second (default 600000).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_available_outgoing_bitrate: Option<u32>,
    /// webrtc: seconds without a check, media or RTCP until the peer counts as disconnected (default
    /// 30, 0 for never). Its transport stays; a check or an ICE restart connects it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_consent_timeout: Option<u8>,
    /// webrtc: seconds that a disconnected peer may take to come back until its transport is closed
    /// (default `rtc.disconnected_timeout_s`; 0 for any time).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_disconnected_timeout: Option<u16>,
    /// Data channels. Not in this version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_sctp: Option<bool>,

    /// plain, pipe: our address, one of this host (default `127.0.0.1`; of a pipe `pipes.listen`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listen_address: Option<String>,
    /// plain, pipe: our port for RTP; RTCP has the next one, of a pipe the same. One of
    /// `rtc.plain_ports` without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// plain: RTCP on the port of RTP (default true).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp_mux: Option<bool>,
    /// plain: the peer's address is where its packets come from (default false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comedia: Option<bool>,
    /// pipe: what is lost on the way is asked for and sent again (default false).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_rtx: Option<bool>,
    /// plain, pipe: SRTP (default false); of a pipe by `AEAD_AES_256_GCM`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_srtp: Option<bool>,
    /// plain: what seals our packets, with `enableSrtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_crypto_suite: Option<SrtpCryptoSuite>,
}

impl CreateTransport {
    /// A webrtc transport with every default.
    pub fn webrtc(router_id: Id) -> Self {
        Self::of(TransportType::Webrtc, router_id)
    }

    /// A plain transport with every default.
    pub fn plain(router_id: Id) -> Self {
        Self::of(TransportType::Plain, router_id)
    }

    /// A pipe transport with every default.
    pub fn pipe(router_id: Id) -> Self {
        Self::of(TransportType::Pipe, router_id)
    }

    fn of(kind: TransportType, router_id: Id) -> Self {
        Self {
            id: None,
            router_id,
            kind,
            worker_id: None,
            participant_id: None,
            rtp_capabilities: None,
            app_data: None,
            enable_udp: None,
            enable_tcp: None,
            prefer_udp: None,
            prefer_tcp: None,
            initial_available_outgoing_bitrate: None,
            ice_consent_timeout: None,
            ice_disconnected_timeout: None,
            enable_sctp: None,
            listen_address: None,
            port: None,
            rtcp_mux: None,
            comedia: None,
            enable_rtx: None,
            enable_srtp: None,
            srtp_crypto_suite: None,
        }
    }
}

/// A transport. `type` says which of the fields that are about its link there are.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportInfo {
    /// Id.
    pub id: Id,
    /// Its router.
    pub router_id: Id,
    /// The one of its router's workers that it is on.
    pub worker_id: Id,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// How bytes reach the peer.
    #[serde(flatten)]
    pub link: TransportLink,
    /// As set by `PATCH`, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_incoming_bitrate: Option<u32>,
    /// As set by `PATCH`, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_outgoing_bitrate: Option<u32>,
    /// As set by `PATCH`, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_outgoing_bitrate: Option<u32>,
    /// When it was made.
    pub created_at: UnixMs,
    /// The caller's own: at most 8 KiB of JSON that the server never looks into.
    #[serde(default)]
    pub app_data: AppData,
}

impl TransportInfo {
    /// Kind.
    pub fn kind(&self) -> TransportType {
        match self.link {
            TransportLink::Webrtc(_) => TransportType::Webrtc,
            TransportLink::Plain(_) => TransportType::Plain,
            TransportLink::Pipe(_) => TransportType::Pipe,
        }
    }

    /// The link of a webrtc transport.
    pub fn webrtc(&self) -> Option<&WebRtcLink> {
        match &self.link {
            TransportLink::Webrtc(link) => Some(link),
            TransportLink::Plain(_) | TransportLink::Pipe(_) => None,
        }
    }

    /// The link of a plain transport.
    pub fn plain(&self) -> Option<&PlainLink> {
        match &self.link {
            TransportLink::Plain(link) => Some(link),
            TransportLink::Webrtc(_) | TransportLink::Pipe(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn plain_mut(&mut self) -> Option<&mut PlainLink> {
        match &mut self.link {
            TransportLink::Plain(link) => Some(link),
            TransportLink::Webrtc(_) | TransportLink::Pipe(_) => None,
        }
    }

    /// The link of a pipe transport.
    pub fn pipe(&self) -> Option<&PipeLink> {
        match &self.link {
            TransportLink::Pipe(link) => Some(link),
            TransportLink::Webrtc(_) | TransportLink::Plain(_) => None,
        }
    }

    /// Both ends of it, once the peer's is known.
    pub fn tuple(&self) -> Option<&TransportTuple> {
        match &self.link {
            TransportLink::Webrtc(link) => link.ice_selected_tuple.as_ref(),
            TransportLink::Plain(link) => {
                Some(&link.tuple).filter(|tuple| tuple.remote_ip.is_some())
            }
            TransportLink::Pipe(link) => {
                Some(&link.tuple).filter(|tuple| tuple.remote_ip.is_some())
            }
        }
    }

    /// The link of a webrtc transport, to be changed.
    pub fn webrtc_mut(&mut self) -> Option<&mut WebRtcLink> {
        match &mut self.link {
            TransportLink::Webrtc(link) => Some(link),
            TransportLink::Plain(_) | TransportLink::Pipe(_) => None,
        }
    }
}

/// How bytes reach a transport's peer, by `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum TransportLink {
    /// ICE, DTLS, SRTP: browsers.
    Webrtc(WebRtcLink),
    /// Bare RTP, or SRTP with keys that the API carries.
    Plain(PlainLink),
    /// The same between routers.
    Pipe(PipeLink),
}

/// Of a pipe transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PipeLink {
    /// Our end, and the other host's once it is known.
    pub tuple: TransportTuple,
    /// What we seal with, with `enableSrtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_parameters: Option<SrtpParameters>,
    /// What is lost on the way is sent again.
    pub rtx: bool,
}

/// Of a plain transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlainLink {
    /// Our end, and the peer's once it is known.
    pub tuple: TransportTuple,
    /// The same of RTCP, without `rtcpMux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp_tuple: Option<TransportTuple>,
    /// What we seal with, with `enableSrtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_parameters: Option<SrtpParameters>,
    /// RTCP has the port of RTP.
    pub rtcp_mux: bool,
    /// The peer's address is learned.
    pub comedia: bool,
}

/// Of a webrtc transport. The fields that mediasoup-client's `createSendTransport` and
/// `createRecvTransport` want have their names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WebRtcLink {
    /// Always `controlled`.
    pub ice_role: IceRole,
    /// Our credentials.
    pub ice_parameters: IceParameters,
    /// Our addresses.
    pub ice_candidates: Vec<IceCandidate>,
    /// ICE.
    pub ice_state: IceState,
    /// The path in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ice_selected_tuple: Option<TransportTuple>,
    /// Our role and fingerprints.
    pub dtls_parameters: DtlsParameters,
    /// DTLS.
    pub dtls_state: DtlsState,
}

/// `GET /transports`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportList {
    /// In ascending order of ids.
    pub items: Vec<TransportInfo>,
    /// `after` of the next page, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_after: Option<Id>,
}

/// `POST /transports/{id}/connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConnectTransport {
    /// webrtc: the peer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dtls_parameters: Option<DtlsParameters>,
    /// plain, pipe: where the peer takes packets; not with `comedia`. Only what `rtc.plain_allow` has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// plain, pipe: its port for RTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// plain: its port for RTCP, without `rtcpMux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp_port: Option<u16>,
    /// plain, pipe: what it seals with, with `enableSrtp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_parameters: Option<SrtpParameters>,
}

/// Answer of [`ConnectTransport`], by the transport's kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(untagged)]
pub enum Connected {
    /// webrtc.
    Webrtc(ConnectAnswer),
    /// plain, pipe.
    Plain(PlainConnectAnswer),
}

/// Answer of [`ConnectTransport`] of a plain or pipe transport.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct PlainConnectAnswer {
    /// Our end, and the peer's if it is known.
    pub tuple: TransportTuple,
    /// The same of RTCP, without `rtcpMux`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtcp_tuple: Option<TransportTuple>,
    /// What we seal with: by the peer's suite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub srtp_parameters: Option<SrtpParameters>,
}

/// Answer of [`ConnectTransport`] of a webrtc transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectAnswer {
    /// Ours.
    pub dtls_local_role: DtlsRole,
}

/// Answer of `POST /transports/{id}/restart-ice`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RestartIceAnswer {
    /// The new credentials.
    pub ice_parameters: IceParameters,
}

/// `PATCH /transports/{id}`: a missing field stays as it is, 0 takes a limit away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PatchTransport {
    /// What we tell the peer to send at most, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_incoming_bitrate: Option<u32>,
    /// What we send at most, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_outgoing_bitrate: Option<u32>,
    /// What we believe the path carries at least, bits per second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_outgoing_bitrate: Option<u32>,
}
