//! Master keys, and the derivation of session keys from them (RFC 3711 section 4.3, RFC 6188 for
//! 256 bits, RFC 7714 section 11). Called once per direction of a transport, never per packet.
//! Key bytes are wiped when dropped and never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{Suite, cipher::AesCtr};

/// Longest master key of the suites.
const KEY_BYTES_MAX: usize = 32;
/// Longest master salt of the suites; also the width of the salt in the derivation.
const SALT_BYTES_MAX: usize = 14;

/// Key or salt are not as long as the suite demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{suite} needs {expected} bytes of key and salt, not {actual}")]
pub struct KeyLengthError {
    /// Which one.
    pub suite: Suite,
    /// Bytes it needs.
    pub expected: usize,
    /// Bytes there were.
    pub actual: usize,
}

/// Master key and salt of one direction, from DTLS or from the signalling of a plain transport.
#[derive(Clone)]
pub struct MasterKey {
    suite: Suite,
    key: [u8; KEY_BYTES_MAX],
    salt: [u8; SALT_BYTES_MAX],
}

impl MasterKey {
    /// From the two parts.
    pub fn new(suite: Suite, key: &[u8], salt: &[u8]) -> Result<Self, KeyLengthError> {
        if (key.len(), salt.len()) != (suite.key_len(), suite.salt_len()) {
            let expected = suite.key_len() + suite.salt_len();
            return Err(KeyLengthError {
                suite,
                expected,
                actual: key.len() + salt.len(),
            });
        }
        let mut master = Self {
            suite,
            key: [0; KEY_BYTES_MAX],
            salt: [0; SALT_BYTES_MAX],
        };
        master.key[..key.len()].copy_from_slice(key);
        master.salt[..salt.len()].copy_from_slice(salt);
        Ok(master)
    }

    /// From key and salt one behind the other, as signalling carries them (RFC 4568 section 6.1).
    pub fn from_key_and_salt(suite: Suite, bytes: &[u8]) -> Result<Self, KeyLengthError> {
        let (key, salt) = bytes.split_at(suite.key_len().min(bytes.len()));
        Self::new(suite, key, salt)
    }

    /// Both directions from what DTLS exports (RFC 5764 section 4.2): what the client writes with,
    /// and what the server writes with.
    pub fn from_dtls_export(suite: Suite, bytes: &[u8]) -> Result<(Self, Self), KeyLengthError> {
        let (key, salt) = (suite.key_len(), suite.salt_len());
        let expected = 2 * (key + salt);
        if bytes.len() != expected {
            return Err(KeyLengthError {
                suite,
                expected,
                actual: bytes.len(),
            });
        }
        let (keys, salts) = bytes.split_at(2 * key);
        let client = Self::new(suite, &keys[..key], &salts[..salt])?;
        let server = Self::new(suite, &keys[key..], &salts[salt..])?;
        Ok((client, server))
    }

    /// Which suite the key is for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key bytes.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key[..self.suite.key_len()]
    }

    /// Salt bytes.
    #[must_use]
    pub fn salt(&self) -> &[u8] {
        &self.salt[..self.suite.salt_len()]
    }

    /// Session keys for RTP.
    pub(super) fn derive_rtp(&self) -> Derived {
        self.derive(0x00)
    }

    /// Session keys for RTCP.
    pub(super) fn derive_rtcp(&self) -> Derived {
        self.derive(0x03)
    }

    /// The three keys whose labels begin at `label` (RFC 3711 section 4.3.2): encryption,
    /// authentication, salt. The index part of the derivation is zero: there is no rate.
    fn derive(&self, label: u8) -> Derived {
        let prf = AesCtr::new(self.key());
        let mut derived = Derived {
            key: [0; 32],
            auth: [0; 20],
            salt: [0; 14],
        };
        prf.apply(
            &self.prf_iv(label),
            &mut derived.key[..self.suite.key_len()],
        );
        prf.apply(&self.prf_iv(label + 1), &mut derived.auth);
        prf.apply(
            &self.prf_iv(label + 2),
            &mut derived.salt[..self.suite.salt_len()],
        );
        derived
    }

    /// RFC 3711 section 4.3.1: the label lies above 48 bits of index, added to the salt. A salt of
    /// 96 bits is multiplied by 2^16 first (RFC 7714 section 11), which the array does by itself.
    fn prf_iv(&self, label: u8) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[..SALT_BYTES_MAX].copy_from_slice(&self.salt);
        iv[7] ^= label;
        iv
    }
}

/// Session keys of RTP or of RTCP.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Derived {
    pub(super) key: [u8; KEY_BYTES_MAX],
    pub(super) auth: [u8; 20],
    pub(super) salt: [u8; SALT_BYTES_MAX],
}

impl Drop for MasterKey {
    fn drop(&mut self) {
        self.key.zeroize();
        self.salt.zeroize();
    }
}

/// In constant time.
impl PartialEq for MasterKey {
    fn eq(&self, other: &Self) -> bool {
        let bytes = self.key.ct_eq(&other.key) & self.salt.ct_eq(&other.salt);
        self.suite == other.suite && bool::from(bytes)
    }
}
impl Eq for MasterKey {}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey")
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}
