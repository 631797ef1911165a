//! SRTP profiles and contexts, on `webrtc-srtp`. Called by [`crate::peer`].

use std::fmt;

use dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use crate::PeerError;

/// What protects the media (RFC 3711, RFC 7714).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    /// `AEAD_AES_128_GCM`.
    Gcm128,
    /// `AEAD_AES_256_GCM`.
    Gcm256,
    /// `AES_CM_128_HMAC_SHA1_80`.
    AesCm128,
}

impl SrtpProfile {
    /// All that this client knows.
    pub const ALL: [Self; 3] = [Self::Gcm128, Self::Gcm256, Self::AesCm128];

    /// The name in the registry of DTLS-SRTP.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gcm128 => "AEAD_AES_128_GCM",
            Self::Gcm256 => "AEAD_AES_256_GCM",
            Self::AesCm128 => "AES_CM_128_HMAC_SHA1_80",
        }
    }

    pub(crate) fn offered(self) -> SrtpProtectionProfile {
        match self {
            Self::Gcm128 => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Self::Gcm256 => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            Self::AesCm128 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }

    pub(crate) fn selected(profile: SrtpProtectionProfile) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.offered() == profile)
    }

    pub(crate) fn protection(self) -> ProtectionProfile {
        match self {
            Self::Gcm128 => ProtectionProfile::AeadAes128Gcm,
            Self::Gcm256 => ProtectionProfile::AeadAes256Gcm,
            Self::AesCm128 => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

impl fmt::Display for SrtpProfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for SrtpProfile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|one| one.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| format!("{text} is not one of {:?}", Self::ALL.map(Self::name)))
    }
}

/// Keys of both directions.
pub(crate) struct Contexts {
    pub(crate) profile: SrtpProfile,
    pub(crate) send: Context,
    pub(crate) receive: Context,
}

impl Contexts {
    pub(crate) fn new(
        profile: SrtpProfile,
        keys: &webrtc_srtp::config::SessionKeys,
    ) -> Result<Self, PeerError> {
        let protection = profile.protection();
        let context = |key: &[u8], salt: &[u8]| {
            Context::new(key, salt, protection, None, None)
                .map_err(|error| PeerError::Srtp(error.to_string()))
        };
        Ok(Self {
            profile,
            send: context(&keys.local_master_key, &keys.local_master_salt)?,
            receive: context(&keys.remote_master_key, &keys.remote_master_salt)?,
        })
    }
}
