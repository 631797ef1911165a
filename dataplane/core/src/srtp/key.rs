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
            return Err(KeyLengthError { suite, expected, actual: key.len() + salt.len() });
        }
        let mut master = Self { suite, key: [0; KEY_BYTES_MAX], salt: [0; SALT_BYTES_MAX] };
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
            return Err(KeyLengthError { suite, expected, actual: bytes.len() });
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
        let mut derived = Derived { key: [0; 32], auth: [0; 20], salt: [0; 14] };
        prf.apply(&self.prf_iv(label), &mut derived.key[..self.suite.key_len()]);
        prf.apply(&self.prf_iv(label + 1), &mut derived.auth);
        prf.apply(&self.prf_iv(label + 2), &mut derived.salt[..self.suite.salt_len()]);
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
        f.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    fn derived(suite: Suite, key: &str, salt: &str) -> [Vec<u8>; 3] {
        let mut master = MasterKey { suite, key: [0; KEY_BYTES_MAX], salt: [0; SALT_BYTES_MAX] };
        master.key[..suite.key_len()].copy_from_slice(&hex(key));
        master.salt.copy_from_slice(&hex(salt));
        let derived = master.derive_rtp();
        let key = derived.key[..suite.key_len()].to_vec();
        [key, derived.auth.to_vec(), derived.salt[..suite.salt_len()].to_vec()]
    }

    #[test]
    fn rfc_3711_appendix_b_3() {
        let keys = derived(
            Suite::AesCm128HmacSha1_80,
            "e1f97a0d3e018be0d64fa32c06de4139",
            "0ec675ad498afeebb6960b3aabe6",
        );
        let expected = [
            "c61e7a93744f39ee10734afe3ff7a087",
            "cebe321f6ff7716b6fd4ab49af256a156d38baa4",
            "30cbbc08863d8c85d49db34a9ae1",
        ];
        assert_eq!(keys, expected.map(hex));
    }

    /// The vector has a salt of 112 bits; a suite of 96 takes the first part of the session salt.
    #[test]
    fn rfc_6188_section_7_4() {
        let keys = derived(
            Suite::AeadAes256Gcm,
            "f0f04914b513f2763a1b1fa130f10e2998f6f6e43e4309d1e622a0e332b9f1b6",
            "3b04803de51ee7c96423ab5b78d2",
        );
        let expected = [
            "5ba1064e30ec51613cad926c5a28ef731ec7fb397f70a960653caf06554cd8c4",
            "fd9c32d39ed5fbb5a9dc96b30818454d1313dc05",
            "fa31791685ca444a9e07c6c6",
        ];
        assert_eq!(keys, expected.map(hex));
    }

    #[test]
    fn lengths_are_checked_and_exports_are_cut_in_the_right_order() {
        let suite = Suite::AeadAes128Gcm;
        let bytes: Vec<u8> = (0..56).collect();
        let (client, server) = MasterKey::from_dtls_export(suite, &bytes).unwrap();
        assert_eq!((client.key()[0], server.key()[0]), (0, 16));
        assert_eq!((client.salt()[0], server.salt()[0]), (32, 44));
        assert_ne!(client, server);
        assert_eq!(MasterKey::from_key_and_salt(suite, &bytes[..28]).unwrap().salt()[0], 16);
        assert!(MasterKey::from_dtls_export(suite, &bytes[1..]).is_err());
        assert!(MasterKey::from_key_and_salt(suite, &bytes[..3]).is_err());
        assert!(MasterKey::new(suite, &bytes[..16], &bytes[..14]).is_err());
        assert!(!format!("{client:?}").contains('['));
    }
}
