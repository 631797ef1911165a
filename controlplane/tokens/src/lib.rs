//! JSON Web Tokens (RFC 7519): signed by a key of a file, for whom they are meant, not expired. The
//! file is a JWK Set (RFC 7517) or PEM with public keys; each key has the one algorithm of its kind,
//! so a token cannot choose (RFC 8725 section 3.1). What is in a token besides is its reader's: the
//! control plane takes scopes, the signaling service rooms and roles.
#![forbid(unsafe_code)]

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::{Deserialize, de::DeserializeOwned};
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

/// Keys of one file.
pub const KEYS_MAX: usize = 16;
/// Longest token, bytes.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Clocks differ by so much, seconds.
pub const LEEWAY_S: u64 = 5;

/// What a token has to be like, besides having a subject and an end.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// One of the token's `aud`, if it matters.
    pub audience: Option<String>,
    /// The token's `iss`, if it matters.
    pub issuer: Option<String>,
}

/// The keys of a file.
#[derive(Clone)]
pub struct Keys(Vec<Key>);

#[derive(Clone)]
struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} keys", self.0.len())
    }
}

impl Keys {
    /// From the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let keys =
            if text.trim_start().starts_with('{') { from_set(text) } else { from_pem(text) }?;
        match keys.len() {
            0 => Err("there is no key in it for EdDSA (Ed25519), ES256 or RS256".to_owned()),
            count if count > KEYS_MAX => {
                Err(format!("there are {count} keys in it, at most {KEYS_MAX} are taken"))
            }
            _ => Ok(Self(keys)),
        }
    }

    /// How many there are; never none.
    #[must_use]
    #[allow(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What a token says, if it is as expected.
    pub fn verify<C: DeserializeOwned>(
        &self,
        token: &str,
        expected: &Expected,
    ) -> Result<C, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("this token is longer than 8 KiB");
        }
        let header = decode_header(token).map_err(|_| "this token is not known here")?;
        let is_it = |key: &&Key| {
            let has_id = match (&header.kid, &key.id) {
                (Some(asked), Some(id)) => asked == id,
                _ => true,
            };
            key.algorithm == header.alg && has_id
        };
        let mut failed = "no key here has this token's algorithm and key id";
        for key in self.0.iter().filter(is_it) {
            match decode::<C>(token, &key.key, &validation(expected, key.algorithm)) {
                Ok(decoded) => return Ok(decoded.claims),
                Err(error) => failed = describe(error.kind()),
            }
        }
        Err(failed)
    }
}

fn validation(expected: &Expected, algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.leeway = LEEWAY_S;
    validation.validate_nbf = true;
    let mut required = vec!["exp", "sub"];
    if let Some(audience) = &expected.audience {
        validation.set_audience(&[audience]);
        required.push("aud");
    } else {
        validation.validate_aud = false;
    }
    if let Some(issuer) = &expected.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn describe(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "this token has expired",
        ErrorKind::ImmatureSignature => "this token is not valid yet",
        ErrorKind::InvalidAudience => "this token is for another audience",
        ErrorKind::InvalidIssuer => "this token is of another issuer",
        ErrorKind::InvalidSignature => "this token is signed by another key",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "this token lacks one of exp and sub, or aud or iss where one is configured"
        }
        _ => "this token cannot be read",
    }
}

/// A key that is for something else is left out, as RFC 7517 section 5 wants.
fn from_set(text: &str) -> Result<Vec<Key>, String> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let jwks = set.keys.into_iter().filter_map(|jwk| serde_json::from_value::<Jwk>(jwk).ok());
    let keys = jwks.filter_map(|jwk| {
        let algorithm = algorithm_of(&jwk)?;
        Some((jwk.common.key_id.clone(), algorithm, DecodingKey::from_jwk(&jwk)))
    });
    keys.map(|(id, algorithm, key)| {
        let key = key.map_err(|error| format!("a key cannot be read: {error}"))?;
        Ok(Key { id, algorithm, key })
    })
    .collect()
}

fn algorithm_of(jwk: &Jwk) -> Option<Algorithm> {
    let (algorithm, name) = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => (Algorithm::RS256, KeyAlgorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => {
            (Algorithm::ES256, KeyAlgorithm::ES256)
        }
        AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => {
            (Algorithm::EdDSA, KeyAlgorithm::EdDSA)
        }
        _ => return None,
    };
    let is_for_signatures =
        jwk.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let is_of_algorithm = jwk.common.key_algorithm.is_none_or(|given| given == name);
    (is_for_signatures && is_of_algorithm).then_some(algorithm)
}

fn from_pem(text: &str) -> Result<Vec<Key>, String> {
    let infos = SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes());
    infos
        .map(|der| {
            let der = der.map_err(|error| format!("it is neither a JWK Set nor PEM: {error:?}"))?;
            let (algorithm, key) = read_pem_key(&der)?;
            Ok(Key { id: None, algorithm, key })
        })
        .collect()
}

/// A public key, DER.
pub fn read_pem_key(der: &[u8]) -> Result<(Algorithm, DecodingKey), String> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| error.to_string())?;
    let key = &info.subject_public_key.data;
    Ok(match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => (Algorithm::RS256, DecodingKey::from_rsa_der(key)),
        "1.3.101.112" => (Algorithm::EdDSA, DecodingKey::from_ed_der(key)),
        // A point of P-256, not compressed.
        "1.2.840.10045.2.1" if key.len() == 65 => (Algorithm::ES256, DecodingKey::from_ec_der(key)),
        other => {
            return Err(format!("a key of the kind {other}: Ed25519, P-256 and RSA are taken"));
        }
    })
}
