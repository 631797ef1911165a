//! The SDP (RFC 8866) that FFmpeg is given: where it listens, and for what. It says nothing of
//! people, who come and go while it runs.

use std::fmt::Write as _;

use super::mixer::Target;
use super::rtp::Codec;

/// Of all inputs, in their order.
pub fn write(targets: &[Target]) -> String {
    let mut sdp =
        String::from("v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n");
    for Target { port, codec, payload_type, .. } in targets {
        let (kind, name, more) = match codec {
            Codec::Opus => ("audio", "opus/48000/2", Some("sprop-stereo=1")),
            Codec::Vp8 => ("video", "VP8/90000", None),
            Codec::H264 => ("video", "H264/90000", Some("packetization-mode=1")),
        };
        // Writing to a string does not fail.
        let _ = write!(sdp, "m={kind} {port} RTP/AVP {payload_type}\r\n");
        let _ = write!(sdp, "a=rtpmap:{payload_type} {name}\r\n");
        if let Some(more) = more {
            let _ = write!(sdp, "a=fmtp:{payload_type} {more}\r\n");
        }
    }
    sdp
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_input_has_its_port_and_codec() {
        let target =
            |port, codec, payload_type| Target { port, codec, payload_type, is_filled: true };
        let sdp = write(&[target(4_000, Codec::Opus, 100), target(4_002, Codec::H264, 101)]);
        let lines: Vec<_> = sdp.split("\r\n").collect();
        assert!(lines.contains(&"m=audio 4000 RTP/AVP 100"));
        assert!(lines.contains(&"a=rtpmap:100 opus/48000/2"));
        assert!(lines.contains(&"m=video 4002 RTP/AVP 101"));
        assert!(lines.contains(&"a=fmtp:101 packetization-mode=1"));
        assert_eq!(lines.last(), Some(&""), "it ends with a line's end");
    }
}
