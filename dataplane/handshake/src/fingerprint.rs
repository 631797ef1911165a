//! Fingerprints of certificates (RFC 8122 section 5): what signalling says about a certificate
//! that nobody has signed. Knows how to write, read and compare them.

use std::fmt;

use aws_lc_rs::digest;
use subtle::ConstantTimeEq;

/// A hash function for fingerprints, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// Offered for old peers, never relied upon.
    Sha1,
    /// SHA-224.
    Sha224,
    /// What browsers send.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlgorithm {
    /// All.
    pub const ALL: [Self; 5] = [Self::Sha1, Self::Sha224, Self::Sha256, Self::Sha384, Self::Sha512];

    /// The name in SDP and in mediasoup's API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha224 => "sha-224",
            Self::Sha256 => "sha-256",
            Self::Sha384 => "sha-384",
            Self::Sha512 => "sha-512",
        }
    }

    /// By name, in any case (RFC 8122 section 5: tokens are case-insensitive).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name().eq_ignore_ascii_case(name))
    }

    fn digest(self, bytes: &[u8]) -> digest::Digest {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha224 => &digest::SHA224,
            Self::Sha256 => &digest::SHA256,
            Self::Sha384 => &digest::SHA384,
            Self::Sha512 => &digest::SHA512,
        };
        digest::digest(algorithm, bytes)
    }

    const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// Not a fingerprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FingerprintError {
    /// No such hash function.
    #[error("unknown hash function")]
    UnknownAlgorithm,
    /// Not as many pairs of hexadecimal digits as the hash has bytes, with colons between them.
    #[error("malformed fingerprint")]
    Malformed,
}

/// A hash of a certificate.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint {
    algorithm: HashAlgorithm,
    value: Vec<u8>,
}

impl Fingerprint {
    /// That of a certificate.
    #[must_use]
    pub fn of(algorithm: HashAlgorithm, certificate_der: &[u8]) -> Self {
        Self { algorithm, value: algorithm.digest(certificate_der).as_ref().to_vec() }
    }

    /// From signalling: `sha-256` and `AB:CD:...`, in any case.
    pub fn parse(algorithm: &str, value: &str) -> Result<Self, FingerprintError> {
        let algorithm =
            HashAlgorithm::from_name(algorithm).ok_or(FingerprintError::UnknownAlgorithm)?;
        if value.len() != 3 * algorithm.len() - 1 {
            return Err(FingerprintError::Malformed);
        }
        let byte = |pair: &str| {
            let hex = pair.len() == 2 && pair.bytes().all(|digit| digit.is_ascii_hexdigit());
            if hex { u8::from_str_radix(pair, 16).ok() } else { None }
        };
        let value: Option<Vec<u8>> = value.split(':').map(byte).collect();
        match value {
            Some(value) if value.len() == algorithm.len() => Ok(Self { algorithm, value }),
            _ => Err(FingerprintError::Malformed),
        }
    }

    /// False for SHA-1, which no longer says whose a certificate is (RFC 8122 section 5.1).
    #[must_use]
    pub fn is_strong(&self) -> bool {
        self.algorithm > HashAlgorithm::Sha1
    }

    /// Which hash.
    #[must_use]
    pub fn algorithm(&self) -> HashAlgorithm {
        self.algorithm
    }

    /// As signalling writes it: `AB:CD:...`.
    #[must_use]
    pub fn value(&self) -> String {
        let pairs: Vec<String> = self.value.iter().map(|byte| format!("{byte:02X}")).collect();
        pairs.join(":")
    }

    /// In constant time.
    fn matches(&self, certificate_der: &[u8]) -> bool {
        self.algorithm.digest(certificate_der).as_ref().ct_eq(&self.value).into()
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm.name(), self.value())
    }
}

/// Those of a peer that count: all of its strongest hash function, which must be better than
/// SHA-1 (RFC 8122 section 5.1). Empty when there is none.
pub(crate) fn strongest(fingerprints: &[Fingerprint]) -> Vec<Fingerprint> {
    let usable = || fingerprints.iter().filter(|f| f.is_strong());
    let strongest = usable().map(|fingerprint| fingerprint.algorithm).max();
    usable().filter(|f| Some(f.algorithm) == strongest).cloned().collect()
}

/// True when the certificate has one of these fingerprints.
pub(crate) fn any_matches(fingerprints: &[Fingerprint], certificate_der: &[u8]) -> bool {
    fingerprints.iter().any(|fingerprint| fingerprint.matches(certificate_der))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_it_writes_in_any_case_and_nothing_else() {
        for algorithm in HashAlgorithm::ALL {
            let fingerprint = Fingerprint::of(algorithm, b"certificate");
            let value = fingerprint.value();
            for (name, value) in [
                (algorithm.name().to_owned(), value.clone()),
                (algorithm.name().to_uppercase(), value.to_lowercase()),
            ] {
                assert_eq!(Fingerprint::parse(&name, &value).as_ref(), Ok(&fingerprint));
            }
            for wrong in ["", "AB", &value[1..], &value.replace(':', "-"), &format!("{value}:AB")] {
                let parsed = Fingerprint::parse(algorithm.name(), wrong);
                assert_eq!(parsed, Err(FingerprintError::Malformed));
            }
            let sign = format!("+1{}", &value[2..]);
            assert!(Fingerprint::parse(algorithm.name(), &sign).is_err());
        }
        assert_eq!(Fingerprint::parse("md5", "AB"), Err(FingerprintError::UnknownAlgorithm));
        // The value of RFC 6234's test "abc".
        assert!(Fingerprint::of(HashAlgorithm::Sha256, b"abc").value().starts_with("BA:78:16:BF"));
    }

    #[test]
    fn only_the_strongest_hash_counts_and_never_sha_1() {
        let sha1 = Fingerprint::of(HashAlgorithm::Sha1, b"a");
        let sha256 = Fingerprint::of(HashAlgorithm::Sha256, b"a");
        let other = Fingerprint::of(HashAlgorithm::Sha512, b"b");
        assert!(strongest(std::slice::from_ref(&sha1)).is_empty());
        assert!(any_matches(&strongest(&[sha1.clone(), sha256.clone()]), b"a"));
        assert!(!any_matches(&strongest(&[sha1, sha256, other]), b"a"));
    }
}
