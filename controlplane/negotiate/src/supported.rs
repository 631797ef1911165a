//! What this server can forward: codecs, feedback and header extensions, in mediasoup's order and
//! with its ids; and the codecs of a router that names none.

use ironcast_api::{
    CodecParameters, MediaKind, ParameterValue, RtcpFeedback, RtpCapabilities, RtpCodecCapability,
    RtpHeaderExtension, RtpHeaderExtensionDirection,
};

/// URIs of header extensions.
pub mod uri {
    /// Media identification (RFC 9143).
    pub const MID: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
    /// RTP stream id (RFC 8852).
    pub const RTP_STREAM_ID: &str = "urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id";
    /// RTP stream id of what an RTX stream repairs (RFC 8852).
    pub const REPAIRED_RTP_STREAM_ID: &str =
        "urn:ietf:params:rtp-hdrext:sdes:repaired-rtp-stream-id";
    /// Absolute send time: what REMB is made from.
    pub const ABS_SEND_TIME: &str = "http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    /// Transport-wide sequence number.
    pub const TRANSPORT_WIDE_CC: &str =
        "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
    /// Audio level (RFC 6464).
    pub const AUDIO_LEVEL: &str = "urn:ietf:params:rtp-hdrext:ssrc-audio-level";
    /// AV1's dependency descriptor.
    pub const DEPENDENCY_DESCRIPTOR: &str =
        "https://aomediacodec.github.io/av1-rtp-spec/#dependency-descriptor-rtp-header-extension";
    /// Coordination of video orientation (3GPP TS 26.114).
    pub const VIDEO_ORIENTATION: &str = "urn:3gpp:video-orientation";
    /// Transmission time offset (RFC 5450).
    pub const TRANSMISSION_OFFSET: &str = "urn:ietf:params:rtp-hdrext:toffset";
    /// Absolute capture time.
    pub const ABS_CAPTURE_TIME: &str =
        "http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time";
    /// Playout delay.
    pub const PLAYOUT_DELAY: &str = "http://www.webrtc.org/experiments/rtp-hdrext/playout-delay";
}

use MediaKind::{Audio, Video};
use RtpHeaderExtensionDirection::{Recvonly, Sendrecv};

/// Header extensions: kind, URI, id, direction seen from the server.
///
/// Transport-wide feedback is for what we receive only: towards receivers the estimate is made
/// from REMB until there is an estimator of our own, and a receiver that is offered both sends no
/// REMB. Video's direction becomes `sendrecv` with that estimator.
const HEADER_EXTENSIONS: [(MediaKind, &str, u8, RtpHeaderExtensionDirection); 16] = [
    (Audio, uri::MID, 1, Sendrecv),
    (Video, uri::MID, 1, Sendrecv),
    (Video, uri::RTP_STREAM_ID, 2, Recvonly),
    (Video, uri::REPAIRED_RTP_STREAM_ID, 3, Recvonly),
    (Audio, uri::ABS_SEND_TIME, 4, Sendrecv),
    (Video, uri::ABS_SEND_TIME, 4, Sendrecv),
    (Audio, uri::TRANSPORT_WIDE_CC, 5, Recvonly),
    (Video, uri::TRANSPORT_WIDE_CC, 5, Recvonly),
    (Audio, uri::AUDIO_LEVEL, 6, Sendrecv),
    (Video, uri::DEPENDENCY_DESCRIPTOR, 7, Recvonly),
    (Video, uri::VIDEO_ORIENTATION, 8, Sendrecv),
    (Video, uri::TRANSMISSION_OFFSET, 9, Sendrecv),
    (Audio, uri::ABS_CAPTURE_TIME, 10, Sendrecv),
    (Video, uri::ABS_CAPTURE_TIME, 10, Sendrecv),
    (Audio, uri::PLAYOUT_DELAY, 11, Sendrecv),
    (Video, uri::PLAYOUT_DELAY, 11, Sendrecv),
];

/// Audio codecs beside Opus: name, clock, payload type if it is a static one, whether it has
/// transport-wide feedback.
const AUDIO_CODECS: [(&str, u32, Option<u8>, bool); 17] = [
    ("audio/PCMU", 8000, Some(0), true),
    ("audio/PCMA", 8000, Some(8), true),
    ("audio/ISAC", 32000, None, true),
    ("audio/ISAC", 16000, None, true),
    ("audio/G722", 8000, Some(9), true),
    ("audio/iLBC", 8000, None, true),
    ("audio/SILK", 24000, None, true),
    ("audio/SILK", 16000, None, true),
    ("audio/SILK", 12000, None, true),
    ("audio/SILK", 8000, None, true),
    ("audio/CN", 32000, Some(13), false),
    ("audio/CN", 16000, Some(13), false),
    ("audio/CN", 8000, Some(13), false),
    ("audio/telephone-event", 48000, None, false),
    ("audio/telephone-event", 32000, None, false),
    ("audio/telephone-event", 16000, None, false),
    ("audio/telephone-event", 8000, None, false),
];

/// Opus with more than two channels: channels, mapping, streams, coupled streams.
const MULTIOPUS: [(u8, &str, u32, u32); 3] =
    [(4, "0,1,2,3", 2, 2), (6, "0,4,1,2,3,5", 4, 2), (8, "0,6,1,2,3,4,5,7", 5, 3)];

/// Everything that a router may be given. RTX is not in it: every video codec of a router gets it.
pub fn supported_rtp_capabilities() -> RtpCapabilities {
    let mut codecs = vec![audio_codec("audio/opus", 48000, 2, opus_feedback())];
    codecs.push(audio_codec("audio/red", 48000, 2, Vec::new()));
    for (channels, mapping, streams, coupled) in MULTIOPUS {
        let mut codec = audio_codec("audio/multiopus", 48000, channels, opus_feedback());
        codec.parameters = parameters([
            ("channel_mapping", mapping.into()),
            ("num_streams", streams.into()),
            ("coupled_streams", coupled.into()),
        ]);
        codecs.push(codec);
    }
    for (mime_type, clock_rate, payload_type, transport_cc) in AUDIO_CODECS {
        let feedback =
            if transport_cc { vec![RtcpFeedback::new("transport-cc", "")] } else { Vec::new() };
        let mut codec = audio_codec(mime_type, clock_rate, 1, feedback);
        codec.preferred_payload_type = payload_type;
        codecs.push(codec);
    }
    codecs.push(video_codec("video/VP8", []));
    codecs.push(video_codec("video/VP9", []));
    codecs.push(video_codec("video/H264", [("level-asymmetry-allowed", 1.into())]));
    codecs.push(video_codec("video/H265", []));
    codecs.push(video_codec("video/AV1", []));
    let header_extensions = HEADER_EXTENSIONS
        .iter()
        .map(|(kind, uri, id, direction)| RtpHeaderExtension {
            kind: *kind,
            uri: (*uri).to_owned(),
            preferred_id: *id,
            preferred_encrypt: false,
            direction: *direction,
        })
        .collect();
    RtpCapabilities { codecs, header_extensions }
}

/// The codecs of a router that names none. Without `x-google-start-bitrate`: a browser begins its
/// estimate anew at that value with each track that is added, also in the middle of a call.
pub fn default_media_codecs() -> Vec<RtpCodecCapability> {
    let h264 = |profile_level_id: &str| {
        media_codec(
            Video,
            "video/H264",
            90000,
            None,
            [
                ("packetization-mode", 1.into()),
                ("profile-level-id", profile_level_id.into()),
                ("level-asymmetry-allowed", 1.into()),
            ],
        )
    };
    vec![
        media_codec(Audio, "audio/opus", 48000, Some(2), []),
        media_codec(Video, "video/VP8", 90000, None, []),
        media_codec(Video, "video/VP9", 90000, None, [("profile-id", 0.into())]),
        h264("42e01f"),
        h264("4d0032"),
        media_codec(Video, "video/AV1", 90000, None, []),
    ]
}

fn media_codec<const N: usize>(
    kind: MediaKind,
    mime_type: &str,
    clock_rate: u32,
    channels: Option<u8>,
    entries: [(&str, ParameterValue); N],
) -> RtpCodecCapability {
    RtpCodecCapability {
        kind: Some(kind),
        mime_type: mime_type.to_owned(),
        preferred_payload_type: None,
        clock_rate,
        channels,
        parameters: parameters(entries),
        rtcp_feedback: Vec::new(),
    }
}

fn audio_codec(
    mime_type: &str,
    clock_rate: u32,
    channels: u8,
    rtcp_feedback: Vec<RtcpFeedback>,
) -> RtpCodecCapability {
    let codec = media_codec(Audio, mime_type, clock_rate, Some(channels), []);
    RtpCodecCapability { rtcp_feedback, ..codec }
}

fn video_codec<const N: usize>(
    mime_type: &str,
    entries: [(&str, ParameterValue); N],
) -> RtpCodecCapability {
    let codec = media_codec(Video, mime_type, 90000, None, entries);
    let rtcp_feedback = vec![
        RtcpFeedback::new("nack", ""),
        RtcpFeedback::new("nack", "pli"),
        RtcpFeedback::new("ccm", "fir"),
        RtcpFeedback::new("goog-remb", ""),
        RtcpFeedback::new("transport-cc", ""),
    ];
    RtpCodecCapability { rtcp_feedback, ..codec }
}

fn opus_feedback() -> Vec<RtcpFeedback> {
    vec![RtcpFeedback::new("nack", ""), RtcpFeedback::new("transport-cc", "")]
}

fn parameters<const N: usize>(entries: [(&str, ParameterValue); N]) -> CodecParameters {
    entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
