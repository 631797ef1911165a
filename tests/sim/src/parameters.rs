//! RTP parameters as negotiation would have made them. The two sides use different ids of header
//! extensions and different payload types, so that a test sees whether they were rewritten.

use ironcast_core::wire::{
    Codec,
    extension::{ExtensionKind, ExtensionMap},
};
use ironcast_protocol::media::{
    MediaKind, RtcpFeedback, RtcpParameters, RtpCodec, RtpEncoding, RtpHeaderExtension,
    RtpParameters,
};

/// Ids that publishers use.
pub const PUBLISHER_EXTENSIONS: [(u8, ExtensionKind); 8] = [
    (1, ExtensionKind::AudioLevel),
    (2, ExtensionKind::AbsSendTime),
    (3, ExtensionKind::TransportWideCc),
    (4, ExtensionKind::Mid),
    (8, ExtensionKind::AbsCaptureTime),
    (10, ExtensionKind::Rid),
    (11, ExtensionKind::RepairedRid),
    (13, ExtensionKind::VideoOrientation),
];
/// Ids that receivers use.
pub const RECEIVER_EXTENSIONS: [(u8, ExtensionKind); 5] = [
    (1, ExtensionKind::Mid),
    (4, ExtensionKind::AbsSendTime),
    (6, ExtensionKind::VideoOrientation),
    (9, ExtensionKind::AudioLevel),
    (12, ExtensionKind::AbsCaptureTime),
];

/// Ids by kind.
#[must_use]
pub fn extension_map(extensions: &[(u8, ExtensionKind)]) -> ExtensionMap {
    extensions.iter().map(|(id, kind)| (*id, kind.uri())).collect()
}

/// `video/VP8`, ...
#[must_use]
pub fn mime_type(codec: Codec) -> &'static str {
    match codec {
        Codec::Opus => "audio/opus",
        Codec::H264 => "video/H264",
        Codec::H265 => "video/H265",
        Codec::Vp9 => "video/VP9",
        _ => "video/VP8",
    }
}

/// Audio or video.
#[must_use]
pub fn kind(codec: Codec) -> MediaKind {
    if codec == Codec::Opus { MediaKind::Audio } else { MediaKind::Video }
}

/// RTP clock, Hz.
#[must_use]
pub fn clock_rate(codec: Codec) -> u32 {
    if codec == Codec::Opus { 48_000 } else { 90_000 }
}

/// What feedback a side speaks.
#[derive(Debug, Clone, Copy)]
pub struct Feedback {
    /// NACK.
    pub nack: bool,
    /// PLI.
    pub pli: bool,
    /// FIR.
    pub fir: bool,
    /// REMB.
    pub remb: bool,
    /// Transport-wide feedback.
    pub transport_cc: bool,
}

impl Feedback {
    /// What a browser speaks as a publisher.
    pub const ALL: Self = Self { nack: true, pli: true, fir: true, remb: true, transport_cc: true };
}

/// The same with RED of that payload type around the first codec.
#[must_use]
pub fn with_red(mut parameters: RtpParameters, payload_type: Option<u8>) -> RtpParameters {
    parameters.codecs.extend(payload_type.map(|payload_type| RtpCodec {
        mime_type: "audio/red".into(),
        payload_type,
        clock_rate: clock_rate(Codec::Opus),
        ..RtpCodec::default()
    }));
    parameters
}

/// Parameters with one media codec, RTX if `rtx_payload_type` is there.
#[must_use]
pub fn parameters(
    codec: Codec,
    mid: Option<&str>,
    payload_type: u8,
    rtx_payload_type: Option<u8>,
    feedback: Feedback,
    extensions: &[(u8, ExtensionKind)],
    encodings: Vec<RtpEncoding>,
) -> RtpParameters {
    let named = [
        (feedback.nack, "nack", ""),
        (feedback.pli, "nack", "pli"),
        (feedback.fir, "ccm", "fir"),
        (feedback.remb, "goog-remb", ""),
        (feedback.transport_cc, "transport-cc", ""),
    ];
    let rtcp_feedback = named
        .iter()
        .filter(|(on, _, _)| *on)
        .map(|(_, kind, parameter)| RtcpFeedback {
            kind: (*kind).into(),
            parameter: (*parameter).into(),
        })
        .collect();
    let media = RtpCodec {
        mime_type: mime_type(codec).into(),
        payload_type,
        clock_rate: clock_rate(codec),
        rtcp_feedback,
        ..RtpCodec::default()
    };
    let rtx = rtx_payload_type.map(|rtx| RtpCodec {
        mime_type: if codec == Codec::Opus { "audio/rtx" } else { "video/rtx" }.into(),
        payload_type: rtx,
        clock_rate: clock_rate(codec),
        parameters: [("apt".to_owned(), payload_type.to_string())].into(),
        ..RtpCodec::default()
    });
    RtpParameters {
        mid: mid.map(str::to_owned),
        codecs: [Some(media), rtx].into_iter().flatten().collect(),
        header_extensions: extensions
            .iter()
            .map(|(id, kind)| RtpHeaderExtension { uri: kind.uri().into(), id: *id })
            .collect(),
        encodings,
        rtcp: RtcpParameters { cname: "sim".into(), reduced_size: true },
        msid: None,
    }
}
