//! Why a handshake failed, whose it was, and the alert that tells the peer (RFC 5246 section 7.2,
//! RFC 8446 section 6.2). Translates the library's errors.

use dimpl::{CertificateError, CryptoError, CryptoOperation, Error, SecurityError};

/// Why there is no association.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The peer's certificate is not the one that was signalled.
    #[error("the peer's certificate has another fingerprint than was signalled")]
    Fingerprint,
    /// No fingerprint was signalled whose hash is good enough.
    #[error("no usable fingerprint was signalled")]
    NoFingerprint,
    /// The peer has no certificate, one with a kind of key that we do not know, or no proof that it
    /// is its own.
    #[error("the peer's certificate, or its proof, cannot be used")]
    Certificate,
    /// The peer does not offer, or has chosen, what encrypts the handshake as we can.
    #[error("no common version, cipher suite or key exchange")]
    NoCommonCipher,
    /// The peer does not offer a protection profile that we allow.
    #[error("no common SRTP protection profile")]
    NoCommonSuite,
    /// No answer in time.
    #[error("the peer does not answer")]
    Timeout,
    /// The peer has ended the handshake; the number is its alert's.
    #[error("the peer has refused, alert {0}")]
    Refused(u8),
    /// Something that no correct peer sends.
    #[error("the peer broke the protocol")]
    Protocol,
    /// A bug in here, contained.
    #[error("internal error")]
    Internal,
}

/// Descriptions of alerts.
pub(crate) mod alert {
    pub(crate) const UNEXPECTED_MESSAGE: u8 = 10;
    pub(crate) const HANDSHAKE_FAILURE: u8 = 40;
    pub(crate) const BAD_CERTIFICATE: u8 = 42;
    pub(crate) const UNSUPPORTED_CERTIFICATE: u8 = 43;
    pub(crate) const ILLEGAL_PARAMETER: u8 = 47;
    pub(crate) const DECRYPT_ERROR: u8 = 51;
    pub(crate) const PROTOCOL_VERSION: u8 = 70;
    pub(crate) const INTERNAL_ERROR: u8 = 80;
    pub(crate) const CERTIFICATE_REQUIRED: u8 = 116;
}

impl Failure {
    /// What the peer is told, unless the failure itself says it better.
    pub(crate) fn alert(self) -> Option<u8> {
        match self {
            // RFC 5763 section 5.
            Self::Fingerprint => Some(alert::BAD_CERTIFICATE),
            Self::Certificate => Some(alert::UNSUPPORTED_CERTIFICATE),
            Self::NoCommonCipher | Self::NoCommonSuite | Self::Timeout => {
                Some(alert::HANDSHAKE_FAILURE)
            }
            Self::Protocol => Some(alert::UNEXPECTED_MESSAGE),
            Self::Internal => Some(alert::INTERNAL_ERROR),
            // The peer knows, or nothing was said at all.
            Self::Refused(_) | Self::NoFingerprint => None,
        }
    }
}

/// What an error of the library means, and the alert for it.
pub(crate) fn judge(error: &Error) -> (Failure, Option<u8>) {
    use alert::{
        CERTIFICATE_REQUIRED, DECRYPT_ERROR, HANDSHAKE_FAILURE, ILLEGAL_PARAMETER, PROTOCOL_VERSION,
    };
    let of = |failure: Failure| (failure, failure.alert());
    match error {
        Error::Timeout(_) => of(Failure::Timeout),
        Error::SecurityError(security) => match security {
            SecurityError::FatalAlert { description } => (Failure::Refused(*description), None),
            SecurityError::UnsupportedHelloVerifyRequestVersion(_)
            | SecurityError::UnsupportedServerVersion(_)
            | SecurityError::UnsupportedClientVersion(_) => {
                (Failure::NoCommonCipher, Some(PROTOCOL_VERSION))
            }
            SecurityError::NoMutuallyAcceptableCipherSuite
            | SecurityError::NoCommonCipherSuite
            | SecurityError::NoCommonKeyExchangeGroup
            | SecurityError::UnsupportedKeyExchangeAlgorithm
            | SecurityError::ExtendedMasterSecretNotNegotiated => of(Failure::NoCommonCipher),
            SecurityError::ServerSelectedUnknownCipherSuite
            | SecurityError::ServerSelectedIncompatibleCipherSuite(_)
            | SecurityError::ServerSelectedDisallowedCipherSuite(_)
            | SecurityError::HrrSelectedDisallowedCipherSuite => {
                (Failure::NoCommonCipher, Some(ILLEGAL_PARAMETER))
            }
            SecurityError::SignatureTooLarge
            | SecurityError::SignatureSchemeNotOffered(_)
            | SecurityError::SignatureAlgorithmMismatch { .. }
            | SecurityError::UnsupportedSignatureScheme(_)
            | SecurityError::SignatureSchemeCertificateCurveMismatch { .. } => {
                of(Failure::Certificate)
            }
            SecurityError::ServerFinishedVerificationFailed
            | SecurityError::ClientFinishedVerificationFailed => {
                (Failure::Protocol, Some(DECRYPT_ERROR))
            }
            _ => (Failure::Protocol, Some(ILLEGAL_PARAMETER)),
        },
        Error::CertificateError(
            CertificateError::NoServerCertificateReceived
            | CertificateError::NoClientCertificateReceived
            | CertificateError::NoClientCertificateForVerification
            | CertificateError::NoServerCertificateForVerification,
        ) => (Failure::Certificate, Some(CERTIFICATE_REQUIRED)),
        Error::CertificateError(_) => of(Failure::Certificate),
        Error::CryptoError(crypto) => judge_crypto(crypto),
        Error::UnexpectedMessage(_)
        | Error::RenegotiationAttempt
        | Error::TooManyClientHelloFragments
        | Error::ReceiveQueueFull => of(Failure::Protocol),
        Error::IncompleteServerHello => (Failure::Protocol, Some(HANDSHAKE_FAILURE)),
        _ => of(Failure::Internal),
    }
}

fn judge_crypto(error: &CryptoError) -> (Failure, Option<u8>) {
    let of = |failure: Failure| (failure, failure.alert());
    match error {
        CryptoError::SignatureVerificationFailed { .. }
        | CryptoError::OperationFailed(CryptoOperation::VerifySignature)
        | CryptoError::InvalidSignatureFormat => (Failure::Certificate, Some(alert::DECRYPT_ERROR)),
        CryptoError::UnsupportedSignatureAlgorithm(_)
        | CryptoError::SignatureAlgorithmNotOfferedByClient
        | CryptoError::SignatureAlgorithmMismatch { .. }
        | CryptoError::UnsupportedSignaturePair { .. }
        | CryptoError::UnsupportedSignatureVerification { .. }
        | CryptoError::UnsupportedPublicKeyAlgorithm
        | CryptoError::UnsupportedEcCurve
        | CryptoError::CertificateParseFailed
        | CryptoError::MissingEcCurveParameter
        | CryptoError::InvalidEcCurveParameter
        | CryptoError::InvalidSubjectPublicKey => of(Failure::Certificate),
        CryptoError::NoSupportedKeyExchangeGroups
        | CryptoError::KeyExchangeGroupNotFound(_)
        | CryptoError::UnsupportedKeyExchangeGroup(_)
        | CryptoError::UnsupportedEcdheNamedGroup(_)
        | CryptoError::UnsupportedCipherSuite(_) => of(Failure::NoCommonCipher),
        CryptoError::InvalidPublicKey(_)
        | CryptoError::OperationFailed(CryptoOperation::CompleteKeyExchange) => {
            (Failure::Protocol, Some(alert::ILLEGAL_PARAMETER))
        }
        _ => of(Failure::Internal),
    }
}
