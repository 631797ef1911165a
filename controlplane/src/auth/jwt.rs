//! JSON Web Tokens as the control API takes them (`ironcast-tokens` verifies them): the scopes are in
//! the claim `scope`. What was verified is remembered until it expires, and no lock is held while a
//! signature is checked.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ironcast_tokens::{Keys, LEEWAY_S};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::{
    Hash, ProofError,
    principal::{Principal, Proven, Scopes, is_name},
};

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
    keys: Keys,
    expected: ironcast_tokens::Expected,
    remembered_max: usize,
    /// Hash of the file and of what is expected.
    source: Hash,
    verified: Mutex<HashMap<Hash, Principal>>,
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
        let keys = Keys::parse(text)?;
        let source = Sha256::new_with_prefix(text).chain_update(format!("{expected:?}"));
        let source = source.finalize().into();
        let Expected { audience, issuer, remembered_max } = expected;
        let expected = ironcast_tokens::Expected { audience: Some(audience), issuer };
        Ok(Self { keys, expected, remembered_max, source, verified: Mutex::default() })
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
        let principal = principal(self.keys.verify::<Claims>(token, &self.expected)?, hash)?;
        let mut verified = self.verified();
        if verified.len() >= self.remembered_max {
            verified.retain(|_, known| !known.has_expired(now_s));
        }
        if verified.len() >= self.remembered_max {
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

#[cfg(test)]
mod tests;
