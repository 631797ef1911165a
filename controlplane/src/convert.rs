//! Between the control API's types and the dataplane protocol's: the only place where both meet.
//! Pure functions; what has no counterpart on one side is filled with what that side means by it.

use std::net::SocketAddr;

use base64::{Engine as _, prelude::BASE64_STANDARD as BASE64};
use ironcast_api as api;
use ironcast_negotiate as negotiate;
use ironcast_protocol::{
    self as protocol, command,
    event::{self, StreamScore},
    media, plain,
    stats::{self, WorkerStats},
    trace,
};

/// Id of a worker, as text.
#[must_use]
pub fn worker_id(number: protocol::WorkerId) -> api::Id {
    // Digits are valid characters of an id.
    api::Id::new(number.to_string()).expect("a number is a valid id")
}

/// What of a router limits who is heard and seen.
#[must_use]
pub fn selection(info: &api::RouterInfo) -> command::Selection {
    command::Selection { loudest: info.loudest_n.unwrap_or(0), last: info.last_n.unwrap_or(0) }
}

pub fn kind(kind: api::MediaKind) -> media::MediaKind {
    match kind {
        api::MediaKind::Audio => media::MediaKind::Audio,
        api::MediaKind::Video => media::MediaKind::Video,
    }
}

pub fn api_kind(kind: media::MediaKind) -> api::MediaKind {
    match kind {
        media::MediaKind::Audio => api::MediaKind::Audio,
        media::MediaKind::Video => api::MediaKind::Video,
    }
}

pub fn rtp_parameters(params: &api::RtpParameters) -> media::RtpParameters {
    media::RtpParameters {
        mid: params.mid.clone(),
        codecs: params.codecs.iter().map(codec).collect(),
        header_extensions: params
            .header_extensions
            .iter()
            .map(|extension| media::RtpHeaderExtension {
                uri: extension.uri.clone(),
                id: extension.id,
            })
            .collect(),
        encodings: params.encodings.iter().map(encoding).collect(),
        rtcp: media::RtcpParameters {
            cname: params.rtcp.cname.clone().unwrap_or_default(),
            reduced_size: params.rtcp.reduced_size,
        },
        msid: params.msid.clone(),
    }
}

fn codec(codec: &api::RtpCodecParameters) -> media::RtpCodec {
    media::RtpCodec {
        mime_type: codec.mime_type.clone(),
        payload_type: codec.payload_type,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters: codec
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), value.to_string()))
            .collect(),
        rtcp_feedback: codec
            .rtcp_feedback
            .iter()
            .map(|feedback| media::RtcpFeedback {
                kind: feedback.kind.clone(),
                parameter: feedback.parameter.clone(),
            })
            .collect(),
    }
}

fn encoding(encoding: &api::RtpEncodingParameters) -> media::RtpEncoding {
    media::RtpEncoding {
        ssrc: encoding.ssrc,
        rid: encoding.rid.clone(),
        rtx_ssrc: encoding.rtx.map(|rtx| rtx.ssrc),
        codec_payload_type: encoding.codec_payload_type,
        dtx: encoding.dtx.unwrap_or(false),
        scalability_mode: encoding.scalability_mode.clone(),
        max_bitrate: encoding.max_bitrate,
    }
}

/// What a note has to keep of them: all, if the dataplane's form cannot say it; else nothing.
pub fn lost(params: &api::RtpParameters) -> Option<api::RtpParameters> {
    let restored = api_rtp_parameters(&rtp_parameters(params));
    (restored != *params).then(|| params.clone())
}

/// The way back, for a resource whose note keeps none.
pub fn api_rtp_parameters(params: &media::RtpParameters) -> api::RtpParameters {
    let codec = |codec: &media::RtpCodec| api::RtpCodecParameters {
        mime_type: codec.mime_type.clone(),
        payload_type: codec.payload_type,
        clock_rate: codec.clock_rate,
        channels: codec.channels,
        parameters: codec
            .parameters
            .iter()
            .map(|(name, value)| {
                let number = value.parse::<u32>().ok().map(api::ParameterValue::from);
                (name.clone(), number.unwrap_or_else(|| value.as_str().into()))
            })
            .collect(),
        rtcp_feedback: codec
            .rtcp_feedback
            .iter()
            .map(|feedback| api::RtcpFeedback::new(&feedback.kind, &feedback.parameter))
            .collect(),
    };
    let encoding = |encoding: &media::RtpEncoding| api::RtpEncodingParameters {
        ssrc: encoding.ssrc,
        rid: encoding.rid.clone(),
        codec_payload_type: encoding.codec_payload_type,
        rtx: encoding.rtx_ssrc.map(|ssrc| api::RtxEncoding { ssrc }),
        dtx: encoding.dtx.then_some(true),
        scalability_mode: encoding.scalability_mode.clone(),
        max_bitrate: encoding.max_bitrate,
    };
    api::RtpParameters {
        mid: params.mid.clone(),
        codecs: params.codecs.iter().map(codec).collect(),
        header_extensions: params
            .header_extensions
            .iter()
            .map(|extension| api::RtpHeaderExtensionParameters {
                uri: extension.uri.clone(),
                id: extension.id,
                encrypt: false,
                parameters: Default::default(),
            })
            .collect(),
        encodings: params.encodings.iter().map(encoding).collect(),
        rtcp: api::RtcpParameters {
            cname: Some(params.rtcp.cname.clone()),
            reduced_size: params.rtcp.reduced_size,
        },
        msid: params.msid.clone(),
    }
}

pub fn rtp_mapping(mapping: &negotiate::RtpMapping) -> media::RtpMapping {
    let codec = |codec: &negotiate::CodecMapping| media::CodecMapping {
        payload_type: codec.payload_type,
        mapped_payload_type: codec.mapped_payload_type,
    };
    let encoding = |encoding: &negotiate::EncodingMapping| media::EncodingMapping {
        ssrc: encoding.ssrc,
        rid: encoding.rid.clone(),
        scalability_mode: encoding.scalability_mode.clone(),
        mapped_ssrc: encoding.mapped_ssrc,
    };
    media::RtpMapping {
        codecs: mapping.codecs.iter().map(codec).collect(),
        encodings: mapping.encodings.iter().map(encoding).collect(),
    }
}

pub fn negotiated_mapping(mapping: &media::RtpMapping) -> negotiate::RtpMapping {
    let codec = |codec: &media::CodecMapping| negotiate::CodecMapping {
        payload_type: codec.payload_type,
        mapped_payload_type: codec.mapped_payload_type,
    };
    let encoding = |encoding: &media::EncodingMapping| negotiate::EncodingMapping {
        ssrc: encoding.ssrc,
        rid: encoding.rid.clone(),
        scalability_mode: encoding.scalability_mode.clone(),
        mapped_ssrc: encoding.mapped_ssrc,
    };
    negotiate::RtpMapping {
        codecs: mapping.codecs.iter().map(codec).collect(),
        encodings: mapping.encodings.iter().map(encoding).collect(),
    }
}

pub fn consumer_type(kind: api::ConsumerType) -> media::RtpType {
    match kind {
        api::ConsumerType::Simple => media::RtpType::Simple,
        api::ConsumerType::Simulcast => media::RtpType::Simulcast,
        api::ConsumerType::Svc => media::RtpType::Svc,
        api::ConsumerType::Pipe => media::RtpType::Pipe,
    }
}

pub fn api_consumer_type(kind: media::RtpType) -> api::ConsumerType {
    match kind {
        media::RtpType::Simple => api::ConsumerType::Simple,
        media::RtpType::Simulcast => api::ConsumerType::Simulcast,
        media::RtpType::Svc => api::ConsumerType::Svc,
        media::RtpType::Pipe => api::ConsumerType::Pipe,
    }
}

pub fn api_producer_type(kind: media::RtpType) -> api::ProducerType {
    match kind {
        media::RtpType::Simulcast => api::ProducerType::Simulcast,
        media::RtpType::Svc => api::ProducerType::Svc,
        media::RtpType::Simple | media::RtpType::Pipe => api::ProducerType::Simple,
    }
}

pub fn layers(layers: api::ConsumerLayers) -> media::Layers {
    // Without a temporal layer all of them are wanted; the dataplane caps at what there is.
    media::Layers {
        spatial: layers.spatial_layer,
        temporal: layers.temporal_layer.unwrap_or(u8::MAX),
    }
}

pub fn api_layers(layers: media::Layers) -> api::ConsumerLayers {
    api::ConsumerLayers { spatial_layer: layers.spatial, temporal_layer: Some(layers.temporal) }
}

pub fn dtls_role(role: api::DtlsRole) -> command::DtlsRole {
    match role {
        api::DtlsRole::Auto => command::DtlsRole::Auto,
        api::DtlsRole::Client => command::DtlsRole::Client,
        api::DtlsRole::Server => command::DtlsRole::Server,
    }
}

pub fn api_dtls_role(role: command::DtlsRole) -> api::DtlsRole {
    match role {
        command::DtlsRole::Auto => api::DtlsRole::Auto,
        command::DtlsRole::Client => api::DtlsRole::Client,
        command::DtlsRole::Server => api::DtlsRole::Server,
    }
}

pub fn dtls_fingerprint(fingerprint: &api::DtlsFingerprint) -> command::DtlsFingerprint {
    command::DtlsFingerprint {
        algorithm: fingerprint.algorithm.as_str().to_owned(),
        value: fingerprint.value.clone(),
    }
}

/// Fingerprints of our side; an algorithm that the API does not have is left out.
pub fn api_fingerprints(ours: &[command::DtlsFingerprint]) -> Vec<api::DtlsFingerprint> {
    let convert = |fingerprint: &command::DtlsFingerprint| {
        let algorithm = serde_json::Value::from(fingerprint.algorithm.to_ascii_lowercase());
        Some(api::DtlsFingerprint {
            algorithm: serde_json::from_value(algorithm).ok()?,
            value: fingerprint.value.clone(),
        })
    };
    ours.iter().filter_map(convert).collect()
}

pub fn ice_parameters(ours: &command::IceParameters) -> api::IceParameters {
    api::IceParameters {
        username_fragment: ours.username_fragment.clone(),
        password: ours.password.clone(),
        ice_lite: true,
    }
}

pub fn ice_candidate(ours: &command::IceCandidate) -> api::IceCandidate {
    let is_tcp = ours.protocol.eq_ignore_ascii_case("tcp");
    api::IceCandidate {
        foundation: ours.foundation.clone(),
        priority: ours.priority,
        ip: ours.address.clone(),
        address: ours.address.clone(),
        protocol: if is_tcp { api::TransportProtocol::Tcp } else { api::TransportProtocol::Udp },
        port: ours.port,
        kind: api::IceCandidateType::Host,
        tcp_type: is_tcp.then_some(api::IceCandidateTcpType::Passive),
    }
}

pub fn ice_state(state: event::IceState) -> api::IceState {
    match state {
        event::IceState::New => api::IceState::New,
        event::IceState::Connected => api::IceState::Connected,
        event::IceState::Completed => api::IceState::Completed,
        event::IceState::Disconnected => api::IceState::Disconnected,
        event::IceState::Closed => api::IceState::Closed,
    }
}

pub fn dtls_failure(reason: event::DtlsFailure) -> api::DtlsFailure {
    match reason {
        event::DtlsFailure::Certificate => api::DtlsFailure::Certificate,
        event::DtlsFailure::Fingerprint => api::DtlsFailure::Fingerprint,
        event::DtlsFailure::NoCommonCipher => api::DtlsFailure::NoCommonCipher,
        event::DtlsFailure::NoCommonSrtpProfile => api::DtlsFailure::NoCommonSrtpProfile,
        event::DtlsFailure::Timeout => api::DtlsFailure::Timeout,
        event::DtlsFailure::Refused => api::DtlsFailure::Refused,
        event::DtlsFailure::Protocol => api::DtlsFailure::Protocol,
        event::DtlsFailure::Internal => api::DtlsFailure::Internal,
    }
}

pub fn dtls_state(state: event::DtlsState) -> api::DtlsState {
    match state {
        event::DtlsState::New => api::DtlsState::New,
        event::DtlsState::Connecting => api::DtlsState::Connecting,
        event::DtlsState::Connected => api::DtlsState::Connected,
        event::DtlsState::Failed => api::DtlsState::Failed,
        event::DtlsState::Closed => api::DtlsState::Closed,
    }
}

pub fn tuple(tuple: command::Tuple) -> api::TransportTuple {
    let local = tuple.local.ip().to_canonical().to_string();
    api::TransportTuple {
        local_ip: local.clone(),
        local_address: local,
        local_port: tuple.local.port(),
        remote_ip: Some(tuple.remote.ip().to_canonical().to_string()),
        remote_port: Some(tuple.remote.port()),
        protocol: match tuple.protocol {
            command::TransportProtocol::Udp => api::TransportProtocol::Udp,
            command::TransportProtocol::Tcp => api::TransportProtocol::Tcp,
        },
    }
}

pub fn close_reason(reason: event::TransportCloseReason) -> api::events::TransportClosedReason {
    match reason {
        event::TransportCloseReason::ConsentLost => api::events::TransportClosedReason::ConsentLost,
        event::TransportCloseReason::DtlsClosed => api::events::TransportClosedReason::DtlsClosed,
    }
}

pub fn layers_reason(reason: event::LayersReason) -> api::events::LayersChangeReason {
    match reason {
        event::LayersReason::Preferred => api::events::LayersChangeReason::Preferred,
        event::LayersReason::Bandwidth => api::events::LayersChangeReason::Bandwidth,
        event::LayersReason::Available => api::events::LayersChangeReason::Available,
        event::LayersReason::LastN => api::events::LayersChangeReason::LastN,
    }
}

pub fn trace_kind(kind: api::TraceType) -> trace::TraceKind {
    match kind {
        api::TraceType::Rtp => trace::TraceKind::Rtp,
        api::TraceType::KeyFrame => trace::TraceKind::KeyFrame,
        api::TraceType::Nack => trace::TraceKind::Nack,
        api::TraceType::Pli => trace::TraceKind::Pli,
        api::TraceType::Fir => trace::TraceKind::Fir,
        api::TraceType::Sr => trace::TraceKind::Sr,
        api::TraceType::Probation => trace::TraceKind::Probation,
        api::TraceType::Bwe => trace::TraceKind::Bwe,
    }
}

/// What is traced, in mediasoup's shape; none where this build does not know it.
#[must_use]
pub fn trace(traced: &trace::Traced) -> Option<api::Trace> {
    let none = api::TraceInfo::default();
    let (kind, info) = match &traced.what {
        trace::Trace::Rtp(packet) => (api::TraceType::Rtp, traced_packet(packet)),
        trace::Trace::KeyFrame(packet) => (api::TraceType::KeyFrame, traced_packet(packet)),
        trace::Trace::Nack { ssrc, packets } => {
            let info = api::TraceInfo { ssrc: Some(*ssrc), packets: Some(*packets), ..none };
            (api::TraceType::Nack, info)
        }
        trace::Trace::Pli { ssrc } => {
            (api::TraceType::Pli, api::TraceInfo { ssrc: Some(*ssrc), ..none })
        }
        trace::Trace::Fir { ssrc } => {
            (api::TraceType::Fir, api::TraceInfo { ssrc: Some(*ssrc), ..none })
        }
        trace::Trace::Sr(report) => {
            let info = api::TraceInfo {
                ssrc: Some(report.ssrc),
                ntp_sec: Some((report.ntp >> 32) as u32),
                ntp_frac: Some(report.ntp as u32),
                rtp_ts: Some(report.rtp_timestamp),
                packet_count: Some(report.packets),
                octet_count: Some(report.bytes),
                ..none
            };
            (api::TraceType::Sr, info)
        }
        trace::Trace::Bwe { available_bps, desired_bps, min_bps, max_bps } => {
            let info = api::TraceInfo {
                available_bitrate: *available_bps,
                desired_bitrate: Some(*desired_bps),
                min_bitrate: Some(*min_bps),
                max_bitrate: Some(*max_bps),
                ..none
            };
            (api::TraceType::Bwe, info)
        }
        trace::Trace::Unknown => return None,
    };
    let direction = if traced.is_sent { api::TraceDirection::Out } else { api::TraceDirection::In };
    Some(api::Trace { kind, timestamp: traced.at_unix_ms, direction, info })
}

fn traced_packet(packet: &trace::TracedPacket) -> api::TraceInfo {
    api::TraceInfo {
        ssrc: Some(packet.ssrc),
        payload_type: Some(packet.payload_type),
        sequence_number: Some(packet.sequence_number),
        timestamp: Some(packet.timestamp),
        marker: Some(packet.marker),
        is_key_frame: Some(packet.is_key_frame),
        is_rtx: Some(packet.is_rtx),
        size: Some(packet.size),
        payload_size: Some(packet.payload_size),
        spatial_layer: Some(packet.spatial_layer),
        temporal_layer: Some(packet.temporal_layer),
        ..api::TraceInfo::default()
    }
}

pub fn sent_stream(stream: event::SentStream) -> api::events::SentStream {
    match stream {
        event::SentStream::Media => api::events::SentStream::Media,
        event::SentStream::Repeats => api::events::SentStream::Repeats,
    }
}

pub fn producer_scores(scores: &[StreamScore]) -> Vec<api::ProducerScore> {
    let convert = |score: &StreamScore| api::ProducerScore {
        encoding_idx: score.encoding_idx.into(),
        ssrc: score.ssrc,
        rid: score.rid.clone(),
        score: score.score,
    };
    scores.iter().map(convert).collect()
}

pub fn consumer_score(score: &command::ConsumerScore) -> api::ConsumerScore {
    api::ConsumerScore {
        score: score.score,
        producer_score: score.producer_score,
        producer_scores: score.producer_scores.clone(),
    }
}

/// A limit of 0 is none.
pub fn limit<T: Default + PartialOrd>(most: T) -> Option<T> {
    (most > T::default()).then_some(most)
}

pub fn worker(stats: &WorkerStats, load: f64) -> api::WorkerInfo {
    api::WorkerInfo {
        id: worker_id(stats.id),
        core: Some(stats.core),
        status: if stats.running {
            api::WorkerStatus::Running
        } else {
            api::WorkerStatus::Restarting
        },
        ports: api::PortRange { min: stats.ports.0, max: stats.ports.1 },
        routers: stats.routers,
        transports: stats.transports,
        producers: stats.producers,
        consumers: stats.consumers,
        cpu_busy: stats.cpu_busy,
        packets_out_per_second: stats.packets_out_per_s as f64,
        bitrate_out_bps: stats.bitrate_out_bps,
        load,
        forwarding_delay_us: api::ForwardingDelay {
            p50: stats.forwarding_delay_us_p50.into(),
            p99: stats.forwarding_delay_us_p99.into(),
        },
    }
}

/// Of a transport with this link.
pub fn transport_stats(
    info: &api::TransportInfo,
    srtp_profile: Option<String>,
    stats: &stats::TransportStats,
) -> api::TransportStats {
    let link = match &info.link {
        api::TransportLink::Webrtc(_) => api::LinkStats::Webrtc(api::WebRtcLinkStats {
            ice_role: api::IceRole::Controlled,
            ice_state: ice_state(stats.ice_state),
            ice_selected_tuple: stats.tuple.map(tuple),
            dtls_state: dtls_state(stats.dtls_state),
        }),
        api::TransportLink::Plain(link) => api::LinkStats::Plain(api::PlainLinkStats {
            rtcp_mux: link.rtcp_mux,
            comedia: link.comedia,
            tuple: stats.tuple.map_or_else(|| link.tuple.clone(), tuple),
            rtcp_tuple: stats.rtcp_tuple.map(tuple).or_else(|| link.rtcp_tuple.clone()),
        }),
        api::TransportLink::Pipe(link) => api::LinkStats::Pipe(api::PipeLinkStats {
            tuple: stats.tuple.map_or_else(|| link.tuple.clone(), tuple),
        }),
    };
    api::TransportStats {
        transport_id: info.id.to_string(),
        timestamp: stats.timestamp_ms,
        link,
        bytes_received: stats.bytes_received,
        recv_bitrate: stats.recv_bitrate,
        bytes_sent: stats.bytes_sent,
        send_bitrate: stats.send_bitrate,
        rtp_bytes_received: stats.rtp_bytes_received,
        rtp_recv_bitrate: stats.rtp_recv_bitrate,
        rtp_bytes_sent: stats.rtp_bytes_sent,
        rtp_send_bitrate: stats.rtp_send_bitrate,
        rtx_bytes_received: stats.rtx_bytes_received,
        rtx_recv_bitrate: stats.rtx_recv_bitrate,
        rtx_bytes_sent: stats.rtx_bytes_sent,
        rtx_send_bitrate: stats.rtx_send_bitrate,
        available_outgoing_bitrate: stats.available_outgoing_bitrate,
        available_incoming_bitrate: stats.available_incoming_bitrate,
        max_incoming_bitrate: limit(stats.max_incoming_bitrate).map(u64::from),
        max_outgoing_bitrate: limit(stats.max_outgoing_bitrate).map(u64::from),
        min_outgoing_bitrate: limit(stats.min_outgoing_bitrate).map(u64::from),
        rtp_packet_loss_received: stats.rtp_packet_loss_received,
        rtp_packet_loss_sent: stats.rtp_packet_loss_sent,
        srtp_crypto_suite: srtp_profile,
        ..api::TransportStats::default()
    }
}

pub fn stream_stats(
    direction: api::RtpStreamStatsType,
    stats: &stats::StreamStats,
) -> api::RtpStreamStats {
    api::RtpStreamStats {
        direction,
        timestamp: stats.timestamp_ms,
        ssrc: stats.ssrc,
        rtx_ssrc: stats.rtx_ssrc,
        rid: stats.rid.clone(),
        kind: api_kind(stats.kind),
        mime_type: stats.mime_type.clone(),
        packets_lost: stats.packets_lost.clamp(i32::MIN.into(), i32::MAX.into()) as i32,
        fraction_lost: stats.fraction_lost,
        jitter: stats.jitter,
        packets_discarded: stats.packets_discarded,
        packets_retransmitted: stats.packets_retransmitted,
        packets_repaired: stats.packets_repaired,
        nack_count: stats.nack_count,
        nack_packet_count: stats.nack_packet_count,
        pli_count: stats.pli_count,
        fir_count: stats.fir_count,
        round_trip_time: stats.round_trip_time,
        rtx_packets_discarded: None,
        score: stats.score,
        packet_count: stats.packet_count,
        byte_count: stats.byte_count,
        bitrate: stats.bitrate,
        bitrate_by_layer: None,
        layers_reason: None,
    }
}

/// The link of a new webrtc transport.
pub fn webrtc_link(created: &command::TransportCreated) -> api::TransportLink {
    api::TransportLink::Webrtc(api::WebRtcLink {
        ice_role: api::IceRole::Controlled,
        ice_parameters: ice_parameters(&created.ice_parameters),
        ice_candidates: created.ice_candidates.iter().map(ice_candidate).collect(),
        ice_state: Default::default(),
        ice_selected_tuple: None,
        dtls_parameters: api::DtlsParameters {
            role: api::DtlsRole::Auto,
            fingerprints: api_fingerprints(&created.dtls_fingerprints),
        },
        dtls_state: Default::default(),
    })
}

/// The link of a new plain transport.
pub fn plain_link(created: &plain::PlainTransportCreated, comedia: bool) -> api::TransportLink {
    api::TransportLink::Plain(api::PlainLink {
        tuple: own_tuple(created.local),
        rtcp_tuple: created.rtcp_local.map(own_tuple),
        srtp_parameters: created.srtp.as_ref().and_then(api_srtp),
        rtcp_mux: created.rtcp_local.is_none(),
        comedia,
    })
}

/// The link of a new pipe transport.
pub fn pipe_link(created: &plain::PlainTransportCreated, rtx: bool) -> api::TransportLink {
    api::TransportLink::Pipe(api::PipeLink {
        tuple: own_tuple(created.local),
        srtp_parameters: created.srtp.as_ref().and_then(api_srtp),
        rtx,
    })
}

/// Our end of a path whose other end is not known.
fn own_tuple(local: SocketAddr) -> api::TransportTuple {
    api::TransportTuple {
        local_ip: local.ip().to_string(),
        local_address: local.ip().to_string(),
        local_port: local.port(),
        remote_ip: None,
        remote_port: None,
        protocol: api::TransportProtocol::Udp,
    }
}

/// A key as the API says it; `None` for a suite that it does not have.
pub fn api_srtp(srtp: &plain::SrtpParameters) -> Option<api::SrtpParameters> {
    let crypto_suite = serde_json::from_value(srtp.suite.as_str().into()).ok()?;
    Some(api::SrtpParameters { crypto_suite, key_base64: BASE64.encode(&srtp.key) })
}

/// A key as the dataplane takes it; `None` where it is not base64, or not as long as its suite says.
pub fn srtp(srtp: &api::SrtpParameters) -> Option<plain::SrtpParameters> {
    let key = BASE64.decode(&srtp.key_base64).ok()?;
    let suite = srtp.crypto_suite;
    (key.len() == suite.key_bytes())
        .then(|| plain::SrtpParameters { suite: suite.as_str().to_owned(), key })
}

/// A command that the dataplane refused, as the API answers it.
pub fn problem(error: &protocol::CommandError) -> api::Problem {
    use ironcast_protocol::ErrorCode as Theirs;
    let code = match error.code {
        Theirs::Invalid => api::ErrorCode::InvalidRequest,
        Theirs::NotFound => api::ErrorCode::NotFound,
        Theirs::AlreadyExists => api::ErrorCode::AlreadyExists,
        Theirs::WrongState => api::ErrorCode::WrongState,
        Theirs::Unsupported | Theirs::UnknownCommand => api::ErrorCode::Unsupported,
        Theirs::Forbidden => api::ErrorCode::Forbidden,
        Theirs::NoCapacity => api::ErrorCode::NoCapacity,
        Theirs::Busy => api::ErrorCode::RateLimited,
        Theirs::TooLarge => api::ErrorCode::TooLarge,
        Theirs::WorkerUnavailable | Theirs::Fenced | Theirs::Internal | Theirs::Unknown => {
            api::ErrorCode::DataplaneUnavailable
        }
    };
    let problem = api::Problem::new(code, format!("the dataplane refused: {}", error.message));
    match code {
        api::ErrorCode::RateLimited
        | api::ErrorCode::NoCapacity
        | api::ErrorCode::DataplaneUnavailable => problem.with_retry_after(1),
        _ => problem,
    }
}
