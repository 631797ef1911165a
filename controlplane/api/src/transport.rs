//! ICE, DTLS, SRTP and tuples of a transport, in mediasoup's shapes, so that mediasoup-client
//! takes them as they are. Written by the control plane, read by clients.

use serde::{Deserialize, Serialize};

/// Credentials of our ICE agent (RFC 8445).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct IceParameters {
    /// Username fragment.
    pub username_fragment: String,
    /// Password.
    pub password: String,
    /// Always true: this server only answers checks.
    #[serde(default)]
    pub ice_lite: bool,
}

/// An address at which our ICE agent listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct IceCandidate {
    /// Foundation.
    pub foundation: String,
    /// Priority (RFC 8445 section 5.1.2).
    pub priority: u32,
    /// The address again, for clients written before `address` was there.
    pub ip: String,
    /// IP address or host name.
    pub address: String,
    /// UDP or TCP.
    pub protocol: TransportProtocol,
    /// Port.
    pub port: u16,
    /// Always `host`.
    #[serde(rename = "type")]
    pub kind: IceCandidateType,
    /// Always `passive`; only with TCP (RFC 6544).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp_type: Option<IceCandidateTcpType>,
}

/// UDP or TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum TransportProtocol {
    /// UDP.
    #[default]
    Udp,
    /// TCP with the framing of RFC 4571.
    Tcp,
}

/// Kind of candidate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IceCandidateType {
    /// An address of the server itself.
    #[default]
    Host,
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IceCandidateTcpType {
    /// The client does.
    #[default]
    Passive,
}

/// Role of our ICE agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IceRole {
    /// Always, being ICE-lite.
    #[default]
    Controlled,
    /// Never here.
    Controlling,
}

/// State of ICE.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum IceState {
    /// No valid check yet.
    #[default]
    New,
    /// A valid check came.
    Connected,
    /// A pair was nominated.
    Completed,
    /// Checks stopped (RFC 7675).
    Disconnected,
    /// Over.
    Closed,
}

/// State of DTLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DtlsState {
    /// Nothing happened yet.
    #[default]
    New,
    /// Handshake is running.
    Connecting,
    /// Keys are there.
    Connected,
    /// Handshake failed, or the fingerprint was another.
    Failed,
    /// Closed by the peer or by us.
    Closed,
}

/// Why a DTLS handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum DtlsFailure {
    /// The peer's certificate, or its proof that it is its own, cannot be used.
    Certificate,
    /// The peer's certificate is not the one that was signalled.
    Fingerprint,
    /// No common version, cipher suite or key exchange.
    NoCommonCipher,
    /// No common SRTP protection profile.
    NoCommonSrtpProfile,
    /// The peer did not answer in time.
    Timeout,
    /// The peer ended it by an alert.
    Refused,
    /// The peer broke the protocol.
    Protocol,
    /// A fault of the server.
    Internal,
}

/// Who begins the DTLS handshake (RFC 8842).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum DtlsRole {
    /// Either: the other side decides.
    #[default]
    Auto,
    /// Sends the ClientHello.
    Client,
    /// Waits for it.
    Server,
}

/// DTLS parameters of one side. Unknown fields are ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DtlsParameters {
    /// Role of the side that these parameters describe; `auto` if missing.
    #[serde(default, deserialize_with = "crate::rtp::null_as_default")]
    pub role: DtlsRole,
    /// At least one whose hash is better than SHA-1 (RFC 8122 section 5.1). Those of a hash that is
    /// not known are passed over.
    #[cfg_attr(feature = "openapi", salvo(schema(min_items = 1, max_items = 16)))]
    pub fingerprints: Vec<DtlsFingerprint>,
}

/// Hash of a certificate (RFC 8122).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct DtlsFingerprint {
    /// Hash function.
    pub algorithm: FingerprintAlgorithm,
    /// Upper-case hex with colons.
    pub value: String,
}

/// Hash function of a fingerprint. Its name is read in any case (RFC 8122 section 5: a token).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(from = "String")]
pub enum FingerprintAlgorithm {
    /// SHA-1.
    #[serde(rename = "sha-1")]
    Sha1,
    /// SHA-224.
    #[serde(rename = "sha-224")]
    Sha224,
    /// SHA-256.
    #[serde(rename = "sha-256")]
    Sha256,
    /// SHA-384.
    #[serde(rename = "sha-384")]
    Sha384,
    /// SHA-512.
    #[serde(rename = "sha-512")]
    Sha512,
    /// One that we do not have: such a fingerprint is passed over (RFC 8122 section 5).
    #[serde(rename = "unknown")]
    Unknown,
}

impl From<String> for FingerprintAlgorithm {
    fn from(name: String) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "sha-1" => Self::Sha1,
            "sha-224" => Self::Sha224,
            "sha-256" => Self::Sha256,
            "sha-384" => Self::Sha384,
            "sha-512" => Self::Sha512,
            _ => Self::Unknown,
        }
    }
}

impl FingerprintAlgorithm {
    /// As in SDP: `sha-256`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
            Self::Unknown => "unknown",
        }
    }

    /// False for SHA-1, which no longer says whose a certificate is (RFC 8122 section 5.1), and for
    /// what we do not have.
    pub fn is_strong(self) -> bool {
        !matches!(self, Self::Sha1 | Self::Unknown)
    }

    /// Length of the hash, bytes.
    pub fn hash_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
            Self::Unknown => 0,
        }
    }
}

impl DtlsFingerprint {
    /// The hash's bytes; `None` unless the value is as long as its algorithm says and hex with a
    /// colon between bytes (RFC 8122 section 5; lower case is accepted).
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let bytes = self
            .value
            .split(':')
            .map(|byte| match byte.as_bytes() {
                [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                    u8::from_str_radix(byte, 16).ok()
                }
                _ => None,
            })
            .collect::<Option<Vec<u8>>>()?;
        (bytes.len() == self.algorithm.hash_bytes()).then_some(bytes)
    }
}

/// What seals the packets of a plain transport (RFC 4568, RFC 7714).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
pub enum SrtpCryptoSuite {
    /// AES-GCM, key of 16 bytes and salt of 12.
    #[serde(rename = "AEAD_AES_128_GCM")]
    AeadAes128Gcm,
    /// AES-GCM, key of 32 bytes and salt of 12.
    #[serde(rename = "AEAD_AES_256_GCM")]
    AeadAes256Gcm,
    /// AES-CM, key of 16 bytes and salt of 14.
    #[default]
    #[serde(rename = "AES_CM_128_HMAC_SHA1_80")]
    AesCm128HmacSha1_80,
    /// The same with a short tag.
    #[serde(rename = "AES_CM_128_HMAC_SHA1_32")]
    AesCm128HmacSha1_32,
}

impl SrtpCryptoSuite {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
        }
    }

    /// Bytes of key and salt.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm => 28,
            Self::AeadAes256Gcm => 44,
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 => 30,
        }
    }
}

/// Suite and key of what one side sends.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct SrtpParameters {
    /// Suite.
    pub crypto_suite: SrtpCryptoSuite,
    /// Master key, and behind it the salt, as base64.
    pub key_base64: String,
}

impl std::fmt::Debug for SrtpParameters {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = f.debug_struct("SrtpParameters");
        all.field("crypto_suite", &self.crypto_suite).finish_non_exhaustive()
    }
}

/// The two ends of a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportTuple {
    /// Our address again, for clients written before `localAddress` was there.
    pub local_ip: String,
    /// Our address.
    pub local_address: String,
    /// Our port.
    pub local_port: u16,
    /// The peer's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_ip: Option<String>,
    /// The peer's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote_port: Option<u16>,
    /// UDP or TCP.
    pub protocol: TransportProtocol,
}
