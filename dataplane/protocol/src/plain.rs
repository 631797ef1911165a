//! Plain transports: bare RTP, or SRTP with keys that signalling has carried. Their peers are known by
//! address alone. A pipe transport is one of them: its peer is another host's, which is told of and
//! never learned.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
};

use serde::{Deserialize, Serialize};

use crate::Id;

/// A plain transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePlainTransport {
    /// The caller's id.
    pub id: Id,
    /// The room.
    pub router: Id,
    /// An address of this host; loopback without.
    #[serde(default)]
    pub listen: Option<IpAddr>,
    /// Of RTP; without, one of the configured range. RTCP has the next one.
    #[serde(default)]
    pub port: Option<u16>,
    /// RTCP has the port of RTP.
    #[serde(default)]
    pub rtcp_mux: bool,
    /// The peer is where valid packets come from.
    #[serde(default)]
    pub comedia: bool,
    /// SRTP by this suite; in the clear without.
    #[serde(default)]
    pub srtp_suite: Option<String>,
    /// It leads to another host: its consumers are of [`RtpType::Pipe`](crate::media::RtpType::Pipe).
    #[serde(default)]
    pub pipe: bool,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Our side of a new plain transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlainTransportCreated {
    /// Where RTP is taken.
    pub local: SocketAddr,
    /// Where RTCP is, unless at the same place.
    #[serde(default)]
    pub rtcp_local: Option<SocketAddr>,
    /// What we seal with.
    #[serde(default)]
    pub srtp: Option<SrtpParameters>,
}

/// What is known of the peer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectPlainTransport {
    /// The transport.
    pub id: Id,
    /// Where it takes RTP; not where that is learned.
    #[serde(default)]
    pub remote: Option<SocketAddr>,
    /// Where it takes RTCP, unless at the same place.
    #[serde(default)]
    pub rtcp_remote: Option<SocketAddr>,
    /// What it seals with.
    #[serde(default)]
    pub srtp: Option<SrtpParameters>,
    /// Kept and returned as it is (the request's hash, for safe retries).
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Suite and key of one direction.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SrtpParameters {
    /// As in RFC 4568 and RFC 7714: `AES_CM_128_HMAC_SHA1_80`, ...
    pub suite: String,
    /// Master key, and behind it the salt.
    #[serde(with = "serde_bytes")]
    pub key: Vec<u8>,
}

impl fmt::Debug for SrtpParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SrtpParameters").field("suite", &self.suite).finish_non_exhaustive()
    }
}
