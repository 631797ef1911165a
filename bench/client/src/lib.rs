//! A WebRTC participant for loads and tests, on a media stack of its own: the crates `dtls`,
//! `webrtc-srtp`, `rtp` and `rtcp`, never the server's code. So an error of the server is not
//! mirrored here, and any SFU can be measured with it.
//!
//! From the bottom up:
//! - [`peer`]: one transport: ICE ([`stun`]), DTLS ([`handshake`]), SRTP ([`srtp`]) over one UDP
//!   socket; RTP and RTCP in and out.
//! - [`source`]: what a camera and a microphone send; [`receiver`]: what a viewer checks and
//!   answers. Payloads ([`payload`]) carry who sent them, their number, time and checksum.
//! - [`session`]: runs sources and receivers on a peer.
//! - [`ortc`], [`call`]: the parameters that mediasoup-client would make, and a whole call by the
//!   control API ([`call::Control`]).
#![forbid(unsafe_code)]

pub mod call;
pub mod clock;
pub mod handshake;
pub mod http;
mod ice;
pub mod link;
pub mod ortc;
pub mod payload;
pub mod peer;
pub mod random;
pub mod receiver;
pub mod rtx;
pub mod sequence;
pub mod session;
pub mod source;
pub mod srtp;
pub mod stun;
mod tunnel;

pub use bytes::Bytes;
pub use call::{Control, ControlError, Participant};
pub use handshake::{DtlsRole, Fingerprint};
pub use peer::{
    IceCredentials, Incoming, Peer, PeerError, PeerHandle, PeerOptions, PeerState, ReceiveMode,
    Remote,
};
pub use receiver::{ReceiveOptions, ReceiveStats};
pub use rtcp;
pub use rtp;
pub use session::Session;
pub use source::{AudioOptions, VideoOptions};
pub use srtp::SrtpProfile;
pub use webrtc_util;
