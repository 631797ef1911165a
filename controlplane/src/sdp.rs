//! The SDP (RFC 8866) of what a plain transport sends: what FFmpeg and GStreamer are given to receive
//! it. A pure function; reads no SDP of others.

use std::fmt::Write as _;

use ironcast_api::{
    ErrorCode, Id, MediaKind, PlainLink, Problem, RtpCodecParameters, RtpParameters, TransportTuple,
};

/// All tracks of a transport, in the order of their ids.
pub fn write(
    id: &Id,
    link: &PlainLink,
    sent: &[(MediaKind, RtpParameters)],
) -> Result<String, Problem> {
    let unknown = || {
        let detail = "nobody knows yet where the peer is: connect it, or let it send (comedia)";
        Problem::new(ErrorCode::WrongState, detail)
    };
    let (to, port) =
        link.tuple.remote_ip.as_ref().zip(link.tuple.remote_port).ok_or_else(unknown)?;
    if sent.is_empty() {
        let detail = "nothing is sent by this transport: it has no consumers";
        return Err(Problem::new(ErrorCode::WrongState, detail));
    }
    let mut sdp = Lines::default();
    sdp.add(format_args!("v=0"));
    sdp.add(format_args!("o=- 0 0 IN {}", address(&link.tuple.local_address)));
    sdp.add(format_args!("s={id}"));
    sdp.add(format_args!("c=IN {}", address(to)));
    sdp.add(format_args!("t=0 0"));
    if sent.len() > 1 {
        let mids: Vec<_> = (0..sent.len()).map(|index| mid(index, sent)).collect();
        sdp.add(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    for (index, (kind, parameters)) in sent.iter().enumerate() {
        track(&mut sdp, link, port, *kind, parameters);
        if sent.len() > 1 {
            sdp.add(format_args!("a=mid:{}", mid(index, sent)));
        }
    }
    Ok(sdp.0)
}

/// Lines that end as RFC 8866 says.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn add(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = write!(self.0, "{line}\r\n");
    }
}

fn address(ip: &str) -> String {
    format!("{} {ip}", if ip.contains(':') { "IP6" } else { "IP4" })
}

fn mid(index: usize, sent: &[(MediaKind, RtpParameters)]) -> String {
    sent[index].1.mid.clone().unwrap_or_else(|| index.to_string())
}

fn track(
    sdp: &mut Lines,
    link: &PlainLink,
    port: u16,
    kind: MediaKind,
    parameters: &RtpParameters,
) {
    let has_feedback = parameters.codecs.iter().any(|codec| !codec.rtcp_feedback.is_empty());
    let secure = if link.srtp_parameters.is_some() { "S" } else { "" };
    let feedback = if has_feedback { "F" } else { "" };
    let name = if kind == MediaKind::Audio { "audio" } else { "video" };
    let types: Vec<_> = parameters.codecs.iter().map(|c| c.payload_type.to_string()).collect();
    sdp.add(format_args!("m={name} {port} RTP/{secure}AVP{feedback} {}", types.join(" ")));
    match link.rtcp_tuple.as_ref().map(|tuple: &TransportTuple| tuple.remote_port) {
        Some(Some(rtcp_port)) => sdp.add(format_args!("a=rtcp:{rtcp_port}")),
        Some(None) => {}
        None => {
            sdp.add(format_args!("a=rtcp:{port}"));
            sdp.add(format_args!("a=rtcp-mux"));
        }
    }
    sdp.add(format_args!("a=sendonly"));
    if let Some(srtp) = &link.srtp_parameters {
        let (suite, key) = (srtp.crypto_suite.as_str(), &srtp.key_base64);
        sdp.add(format_args!("a=crypto:1 {suite} inline:{key}"));
    }
    for codec in &parameters.codecs {
        codec_lines(sdp, codec);
    }
    for extension in &parameters.header_extensions {
        sdp.add(format_args!("a=extmap:{} {}", extension.id, extension.uri));
    }
    for encoding in &parameters.encodings {
        let Some(ssrc) = encoding.ssrc else { continue };
        let rtx = encoding.rtx.as_ref().map(|rtx| rtx.ssrc);
        if let Some(rtx) = rtx {
            sdp.add(format_args!("a=ssrc-group:FID {ssrc} {rtx}"));
        }
        if let Some(cname) = &parameters.rtcp.cname {
            for ssrc in [Some(ssrc), rtx].into_iter().flatten() {
                sdp.add(format_args!("a=ssrc:{ssrc} cname:{cname}"));
            }
        }
    }
}

fn codec_lines(sdp: &mut Lines, codec: &RtpCodecParameters) {
    let payload_type = codec.payload_type;
    let name = codec.mime_type.split_once('/').map_or("", |(_, name)| name);
    let channels = codec.channels.filter(|channels| *channels > 1);
    let channels = channels.map(|channels| format!("/{channels}")).unwrap_or_default();
    sdp.add(format_args!("a=rtpmap:{payload_type} {name}/{}{channels}", codec.clock_rate));
    let parameters: Vec<_> = codec
        .parameters
        .iter()
        .map(|(name, value)| match value.as_str() {
            Some(text) => format!("{name}={text}"),
            None => format!("{name}={value}"),
        })
        .collect();
    if !parameters.is_empty() {
        sdp.add(format_args!("a=fmtp:{payload_type} {}", parameters.join(";")));
    }
    for feedback in &codec.rtcp_feedback {
        let what = [feedback.kind.as_str(), feedback.parameter.as_str()].join(" ");
        sdp.add(format_args!("a=rtcp-fb:{payload_type} {}", what.trim_end()));
    }
}
