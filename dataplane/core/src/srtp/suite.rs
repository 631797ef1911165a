//! The protection profiles we speak: names, numbers and lengths. Knows no key.

use std::fmt;

/// An SRTP crypto suite, which is also a DTLS-SRTP protection profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Suite {
    /// RFC 7714, the cheapest one: one pass, hardware for both halves.
    AeadAes128Gcm,
    /// RFC 7714.
    AeadAes256Gcm,
    /// RFC 3711 and RFC 5764: what every WebRTC endpoint must have.
    AesCm128HmacSha1_80,
    /// The same with a short tag for RTP; for plain transports only.
    AesCm128HmacSha1_32,
}

impl Suite {
    /// All, in our order of preference.
    pub const ALL: [Self; 4] = [
        Self::AeadAes128Gcm,
        Self::AeadAes256Gcm,
        Self::AesCm128HmacSha1_80,
        Self::AesCm128HmacSha1_32,
    ];

    /// The name that IANA registered for SDP security descriptions; mediasoup's API has the same.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// The suite with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.name() == name)
    }

    /// The number in the `use_srtp` extension (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
    #[must_use]
    pub const fn dtls_profile(self) -> u16 {
        match self {
            Self::AesCm128HmacSha1_80 => 0x0001,
            Self::AesCm128HmacSha1_32 => 0x0002,
            Self::AeadAes128Gcm => 0x0007,
            Self::AeadAes256Gcm => 0x0008,
        }
    }

    /// The suite with that number in `use_srtp`.
    #[must_use]
    pub fn from_dtls_profile(profile: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|suite| suite.dtls_profile() == profile)
    }

    /// True for the suites of RFC 7714.
    #[must_use]
    pub const fn is_gcm(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }

    /// Bytes of the master key, and of a session key for encryption.
    #[must_use]
    pub const fn key_len(self) -> usize {
        match self {
            Self::AeadAes256Gcm => 32,
            _ => 16,
        }
    }

    /// Bytes of the master salt, and of a session salt.
    #[must_use]
    pub const fn salt_len(self) -> usize {
        if self.is_gcm() { 12 } else { 14 }
    }

    /// Bytes that sealing adds to an RTP packet.
    #[must_use]
    pub const fn rtp_tag_len(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::AesCm128HmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 => 4,
        }
    }

    /// Bytes of the tag of an RTCP packet. Never the short one (RFC 5764 section 4.1.2).
    #[must_use]
    pub const fn rtcp_tag_len(self) -> usize {
        if self.is_gcm() { 16 } else { 10 }
    }

    /// Bytes that sealing adds to a compound RTCP packet: the tag and the index word.
    #[must_use]
    pub const fn rtcp_trailer_len(self) -> usize {
        self.rtcp_tag_len() + 4
    }
}

impl fmt::Display for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
