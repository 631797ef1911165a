//! JSON Web Tokens (RFC 7519): signed by a key of a file, for our audience, not expired. The file is a
//! JWK Set (RFC 7517) or PEM with public keys; each key has the one algorithm of its kind, so a token
//! cannot choose (RFC 8725 section 3.1). What was verified is remembered until it expires, and no
//! lock is held while a signature is checked.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, Validation, decode, decode_header,
    errors::ErrorKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse},
};
use rustls::pki_types::{SubjectPublicKeyInfoDer, pem::PemObject as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use x509_parser::{prelude::FromDer as _, x509::SubjectPublicKeyInfo};

use super::{
    Hash, ProofError,
    principal::{Principal, Proven, Scopes, is_name},
};

/// Keys of one file.
const KEYS_MAX: usize = 16;
/// Longest token, bytes.
const TOKEN_BYTES_MAX: usize = 8 << 10;
/// Clocks differ by so much, seconds.
const LEEWAY_S: u64 = 5;

/// What a token has to be like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// One of the token's `aud`.
    pub audience: String,
    /// The token's `iss`, if it matters.
    pub issuer: Option<String>,
    /// Verified tokens that are remembered.
    pub remembered_max: usize,
}

/// See the head of this file.
pub struct Jwt {
    keys: Vec<Key>,
    expected: Expected,
    /// Hash of the file and of what is expected.
    source: Hash,
    verified: Mutex<HashMap<Hash, Principal>>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: f64,
    scope: Option<ScopeClaim>,
}

/// RFC 8693 section 4.2 has words in one text; some issuers write a list.
#[derive(Deserialize)]
#[serde(untagged)]
enum ScopeClaim {
    Text(String),
    List(Vec<String>),
}

impl Jwt {
    /// Reads the keys.
    pub fn read(path: &Path, expected: Expected) -> Result<Self, ProofError> {
        let text = std::fs::read_to_string(path).map_err(|error| ProofError::new(path, error))?;
        Self::parse(&text, expected).map_err(|error| ProofError::new(path, error))
    }

    /// From the file's text.
    pub fn parse(text: &str, expected: Expected) -> Result<Self, String> {
        let keys =
            if text.trim_start().starts_with('{') { from_set(text) } else { from_pem(text) }?;
        match keys.len() {
            0 => Err("there is no key in it for EdDSA (Ed25519), ES256 or RS256".to_owned()),
            count if count > KEYS_MAX => {
                Err(format!("there are {count} keys in it, at most {KEYS_MAX} are taken"))
            }
            _ => {
                let source = Sha256::new_with_prefix(text).chain_update(format!("{expected:?}"));
                let source = source.finalize().into();
                Ok(Self { keys, expected, source, verified: Mutex::default() })
            }
        }
    }

    /// Whether both take the same tokens.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.source == other.source
    }

    /// Whose token it is, if it was verified already.
    #[must_use]
    pub fn find(&self, hash: &Hash, now_s: u64) -> Option<Principal> {
        let found = self.verified().get(hash).cloned()?;
        (!found.has_expired(now_s)).then_some(found)
    }

    /// Verifies a token, and remembers whose it is.
    pub fn verify(&self, token: &str, hash: &Hash, now_s: u64) -> Result<Principal, &'static str> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err("this token is longer than 8 KiB");
        }
        let principal = self.check(token, hash)?;
        let mut verified = self.verified();
        if verified.len() >= self.expected.remembered_max {
            verified.retain(|_, known| !known.has_expired(now_s));
        }
        if verified.len() >= self.expected.remembered_max {
            // More callers than are remembered: any of them is verified once more.
            if let Some(other) = verified.keys().next().copied() {
                verified.remove(&other);
            }
        }
        verified.insert(*hash, principal.clone());
        Ok(principal)
    }

    fn verified(&self) -> MutexGuard<'_, HashMap<Hash, Principal>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, token: &str, hash: &Hash) -> Result<Principal, &'static str> {
        let header = decode_header(token).map_err(|_| "this token is not known here")?;
        let is_it = |key: &&Key| {
            let has_id = match (&header.kid, &key.id) {
                (Some(asked), Some(id)) => asked == id,
                _ => true,
            };
            key.algorithm == header.alg && has_id
        };
        let mut failed = "no key here has this token's algorithm and key id";
        for key in self.keys.iter().filter(is_it) {
            match decode::<Claims>(token, &key.key, &self.validation(key.algorithm)) {
                Ok(decoded) => return principal(decoded.claims, hash),
                Err(error) => failed = describe(error.kind()),
            }
        }
        Err(failed)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.expected.audience]);
        let mut required = vec!["exp", "aud", "sub"];
        if let Some(issuer) = &self.expected.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        validation
    }
}

fn principal(claims: Claims, hash: &Hash) -> Result<Principal, &'static str> {
    let subject = claims.sub.filter(|subject| is_name(subject));
    let subject = subject.ok_or("the subject of this token is no name of 1 to 128 characters")?;
    let scopes = match &claims.scope {
        None => Scopes::NONE,
        Some(ScopeClaim::Text(text)) => Scopes::of_words(text.split(' ')),
        Some(ScopeClaim::List(list)) => Scopes::of_words(list.iter().map(String::as_str)),
    };
    // A cast of what is too large, or below 0, ends at the bound.
    let expires_s = (claims.exp as u64).saturating_add(LEEWAY_S);
    let proven = Proven { bearer: Some(*hash), certificate: None };
    Ok(Principal::named(&format!("jwt:{subject}"), scopes, proven, Some(expires_s)))
}

fn describe(kind: &ErrorKind) -> &'static str {
    match kind {
        ErrorKind::ExpiredSignature => "this token has expired",
        ErrorKind::ImmatureSignature => "this token is not valid yet",
        ErrorKind::InvalidAudience => "this token is for another audience",
        ErrorKind::InvalidIssuer => "this token is of another issuer",
        ErrorKind::InvalidSignature => "this token is signed by another key",
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => {
            "this token lacks one of exp, aud and sub, or iss where an issuer is configured"
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
            from_info(&der)
        })
        .collect()
}

fn from_info(der: &[u8]) -> Result<Key, String> {
    let (_, info) = SubjectPublicKeyInfo::from_der(der).map_err(|error| error.to_string())?;
    let key = &info.subject_public_key.data;
    let (algorithm, key) = match info.algorithm.algorithm.to_id_string().as_str() {
        "1.2.840.113549.1.1.1" => (Algorithm::RS256, DecodingKey::from_rsa_der(key)),
        "1.3.101.112" => (Algorithm::EdDSA, DecodingKey::from_ed_der(key)),
        // A point of P-256, not compressed.
        "1.2.840.10045.2.1" if key.len() == 65 => (Algorithm::ES256, DecodingKey::from_ec_der(key)),
        other => {
            return Err(format!("a key of the kind {other}: Ed25519, P-256 and RSA are taken"));
        }
    };
    Ok(Key { id: None, algorithm, key })
}

#[cfg(test)]
mod tests;
