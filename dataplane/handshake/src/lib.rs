//! DTLS off the packet threads: handshakes that give SRTP keys (RFC 5764), behind a trait. Called
//! by the workers through their [`Handshakes`]: they hand over the DTLS datagrams that they receive, and
//! get back datagrams to send, keys, and the end of the association. Owns an association until it
//! closes (retransmissions, alerts, close_notify). Never opens a socket, never sees a media packet,
//! and never makes a packet thread wait.
//!
//! ```text
//! worker --- begin, datagram, remove ---> Pool: N threads, each with its Associations
//!        <-- datagram, connected, ... --'    (callback: posts to the worker's mailbox)
//! ```
//! An [`Association`] by itself does no I/O and reads no clock, so tests run handshakes in memory.
#![forbid(unsafe_code)]

mod association;
mod certificate;
mod client_hello;
mod failure;
mod fingerprint;
mod last_words;
mod pool;
mod reassembly;
mod records;

#[cfg(test)]
mod tests;

use ironcast_core::{MS, Nanos, SECOND, srtp};

pub use association::DtlsAssociation;
pub use certificate::{Certificate, CertificateError};
pub use failure::Failure;
pub use fingerprint::{Fingerprint, FingerprintError, HashAlgorithm};
pub use pool::{Handshakes, Pool, PoolConfig, PoolCounts, PoolFull, TransportToken};

/// One DTLS association with one peer. After each call take all outputs by [`Association::poll`],
/// then call [`Association::handle_timeout`] at [`Association::deadline`] at the latest.
pub trait Association: Send {
    /// A datagram from the peer. Anything that is not DTLS, or damaged, is ignored.
    fn handle_datagram(&mut self, datagram: &[u8], now: Nanos);

    /// Time has come.
    fn handle_timeout(&mut self, now: Nanos);

    /// The next output; `None` when there is nothing more for now.
    fn poll(&mut self) -> Option<Output>;

    /// When [`Association::handle_timeout`] is due; `None` while only the peer can move things.
    fn deadline(&self) -> Option<Nanos>;
}

/// What an association wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this to the peer, on the path that ICE has selected.
    Datagram(Vec<u8>),
    /// The peer has proved to be who signalling said; media can flow.
    Connected(SrtpKeys),
    /// The handshake has failed, for good. Nothing more comes, but what the peer was told when it does
    /// not seem to have heard it.
    Failed(Failure),
    /// The peer has closed. Nothing more comes.
    Closed,
}

/// Keys for both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SrtpKeys {
    /// The negotiated protection profile.
    pub suite: srtp::Suite,
    /// What we seal with.
    pub local: srtp::MasterKey,
    /// What we open with.
    pub remote: srtp::MasterKey,
    /// The version of DTLS that was negotiated.
    pub version: Version,
    /// Whether we were the client.
    pub client: bool,
    /// A datagram that tells the peer that we close (close_notify), sealed in advance: whoever ends
    /// the transport sends it at once, without asking this crate. Empty if it could not be made.
    pub goodbye: Vec<u8>,
}

/// A version of DTLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// RFC 6347.
    Dtls12,
    /// RFC 9147.
    Dtls13,
}

/// Which side of the handshake we are (`setup` in SDP, RFC 8842).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Role {
    /// We prefer to be the server: it is the server that can choose the profile.
    #[default]
    Auto,
    /// We begin.
    Client,
    /// The peer begins.
    Server,
}

/// How handshakes are made.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which profiles are acceptable. DTLS knows no AES_CM_128_HMAC_SHA1_32 here.
    pub suites: Vec<srtp::Suite>,
    /// Which versions are acceptable.
    pub versions: Vec<Version>,
    /// Largest datagram that we send.
    pub mtu: usize,
    /// First retransmission; each further one waits twice as long.
    pub retransmit_delay: Nanos,
    /// The whole handshake.
    pub handshake_time_max: Nanos,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            suites: vec![
                srtp::Suite::AeadAes256Gcm,
                srtp::Suite::AeadAes128Gcm,
                srtp::Suite::AesCm128HmacSha1_80,
            ],
            versions: vec![Version::Dtls12, Version::Dtls13],
            mtu: 1200,
            retransmit_delay: 200 * MS,
            handshake_time_max: 30 * SECOND,
        }
    }
}
