//! Our certificate: self-signed, ECDSA on P-256, made when the process starts and never written
//! anywhere. Peers know it by its fingerprint alone.

use std::fmt;

use dimpl::{DtlsCertificate, certificate::generate_self_signed_certificate};

use crate::{Fingerprint, HashAlgorithm};

/// The system gave no randomness, or the like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no certificate could be made")]
pub struct CertificateError;

/// Certificate and private key.
#[derive(Clone)]
pub struct Certificate {
    dtls: DtlsCertificate,
}

impl Certificate {
    /// A new one.
    pub fn generate() -> Result<Self, CertificateError> {
        let dtls = generate_self_signed_certificate().map_err(|_| CertificateError)?;
        Ok(Self { dtls })
    }

    /// What signalling tells the peers.
    #[must_use]
    pub fn fingerprint(&self, algorithm: HashAlgorithm) -> Fingerprint {
        Fingerprint::of(algorithm, &self.dtls.certificate)
    }

    /// With all hash functions.
    #[must_use]
    pub fn fingerprints(&self) -> Vec<Fingerprint> {
        HashAlgorithm::ALL.into_iter().map(|algorithm| self.fingerprint(algorithm)).collect()
    }

    pub(crate) fn dtls(&self) -> DtlsCertificate {
        self.dtls.clone()
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fingerprint(HashAlgorithm::Sha256).fmt(f)
    }
}
