//! Who may call: bearer tokens of a file. (Client certificates are checked by TLS, before a request
//! is read.) Called by `doors` for every request; never logs a token.

use std::{io, path::Path};

use ironcast_api::{ErrorCode, Problem};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// Tokens that are accepted, as hashes. Empty: none is needed.
#[derive(Clone, Default)]
pub struct Tokens(Vec<[u8; 32]>);

impl Tokens {
    /// One a line; empty lines and those that begin with `#` are left out.
    pub fn from_file(path: &Path) -> io::Result<Self> {
        let text = std::fs::read_to_string(path)?;
        let tokens: Vec<_> = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(hash)
            .collect();
        if tokens.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no token in it"));
        }
        Ok(Self(tokens))
    }

    /// Whether callers need a token.
    #[must_use]
    pub fn are_needed(&self) -> bool {
        !self.0.is_empty()
    }

    /// Checks the `Authorization` header.
    pub fn check(&self, authorization: Option<&str>) -> Result<(), Problem> {
        if !self.are_needed() {
            return Ok(());
        }
        let refused = |detail| Err(Problem::new(ErrorCode::Unauthenticated, detail));
        let Some(authorization) = authorization else {
            return refused("send the header Authorization: Bearer TOKEN");
        };
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return refused("the header Authorization is not of the form: Bearer TOKEN"),
        };
        // Hashes of equal length, compared in constant time: nothing about a token leaks by timing.
        let shown = hash(token);
        let is_known =
            self.0.iter().fold(0u8, |found, known| found | known.ct_eq(&shown).unwrap_u8());
        if is_known == 1 { Ok(()) } else { refused("this token is not known here") }
    }
}

fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        let tokens = Tokens(vec![hash("one"), hash("two")]);
        for good in ["Bearer one", "bearer two", "BEARER  two "] {
            assert!(tokens.check(Some(good)).is_ok(), "{good}");
        }
        for bad in ["Bearer on", "Bearer one two", "Basic one", "one", "", "Bearer"] {
            let problem = tokens.check(Some(bad)).unwrap_err();
            assert_eq!(problem.code, ErrorCode::Unauthenticated, "{bad}");
        }
        assert!(tokens.check(None).is_err());
        assert!(Tokens::default().check(None).is_ok());
    }
}
