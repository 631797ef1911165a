//! Who may call: bearer tokens of a file, and client certificates, which TLS has verified by then.
//! Called by `doors` for every request; never logs a token.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use ironcast_api::{ErrorCode, Problem};
use ironcast_config::Require;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

type Hash = [u8; 32];

/// Who calls, as far as it is known. Rates are counted by it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody asked. `None` is whoever comes over a unix socket.
    Address(Option<IpAddr>),
    /// By the hash of the token.
    Token(Hash),
    /// By the hash of the certificate.
    Certificate(Hash),
}

/// How a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Over TLS, where a certificate can be shown.
    Tls,
    /// Plain, over TCP.
    Plain,
    /// Over a unix socket, whose permissions let in whom they do.
    Unix,
}

/// What a request shows.
#[derive(Debug)]
pub struct Shown<'a> {
    pub way: Way,
    pub authorization: Option<&'a str>,
    /// The peer's certificate, DER.
    pub certificate: Option<&'a [u8]>,
    pub address: Option<IpAddr>,
}

/// What has to be shown.
pub struct Gate {
    tokens: Option<TokenFile>,
    wants_certificate: bool,
    require: Require,
}

impl Gate {
    /// Reads the token file, if there is one.
    pub fn new(
        token_file: Option<&Path>,
        wants_certificate: bool,
        require: Require,
    ) -> io::Result<Self> {
        let tokens = token_file.map(TokenFile::read).transpose()?;
        Ok(Self { tokens, wants_certificate, require })
    }

    /// Whether somebody may call without showing anything.
    #[must_use]
    pub fn asks_nobody(&self) -> bool {
        self.tokens.is_none() && !self.wants_certificate
    }

    /// Reads the token file again: who was taken out of it may not call any more. Gives whether
    /// that was possible.
    pub fn refresh(&self) -> bool {
        self.tokens.as_ref().is_none_or(TokenFile::refresh)
    }

    /// Who calls, if he may.
    pub fn authenticate(&self, shown: &Shown<'_>) -> Result<Caller, Problem> {
        let certificate = shown.certificate.filter(|_| self.wants_certificate);
        let certificate = certificate.map(|der| Caller::Certificate(Sha256::digest(der).into()));
        let Some(tokens) = &self.tokens else {
            return match certificate {
                Some(caller) => Ok(caller),
                None if self.wants_certificate && shown.way != Way::Unix => {
                    Err(unauthenticated("show a client certificate"))
                }
                None => Ok(Caller::Address(shown.address)),
            };
        };
        let all = self.require == Require::All && self.wants_certificate;
        match certificate {
            Some(caller) if !all => Ok(caller),
            None if all && shown.way != Way::Unix => {
                Err(unauthenticated("show a client certificate and a token"))
            }
            _ => tokens.check(shown.authorization),
        }
    }
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ErrorCode::Unauthenticated, detail)
}

/// The tokens of a file, as hashes.
struct TokenFile {
    path: PathBuf,
    known: RwLock<Arc<[Hash]>>,
}

impl TokenFile {
    fn read(path: &Path) -> io::Result<Self> {
        let known = RwLock::new(read_tokens(path)?);
        Ok(Self { path: path.to_owned(), known })
    }

    fn known(&self) -> Arc<[Hash]> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn refresh(&self) -> bool {
        match read_tokens(&self.path) {
            Ok(tokens) if *tokens == *self.known() => true,
            Ok(tokens) => {
                tracing::info!(path = %self.path.display(), count = tokens.len(), "new tokens");
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = tokens;
                true
            }
            // Half written, or gone for a moment: what was in it goes on to hold.
            Err(error) => {
                tracing::warn!(path = %self.path.display(), %error, "the tokens stay as they are");
                false
            }
        }
    }

    /// Checks the `Authorization` header.
    fn check(&self, authorization: Option<&str>) -> Result<Caller, Problem> {
        let authorization = authorization
            .ok_or_else(|| unauthenticated("send the header Authorization: Bearer TOKEN"))?;
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                let detail = "the header Authorization is not of the form: Bearer TOKEN";
                return Err(unauthenticated(detail));
            }
        };
        // Hashes of equal length, compared in constant time: nothing about a token leaks by timing.
        let shown = hash(token);
        let known = self.known();
        let is_known =
            known.iter().fold(0u8, |found, known| found | known.ct_eq(&shown).unwrap_u8());
        if is_known == 1 {
            Ok(Caller::Token(shown))
        } else {
            Err(unauthenticated("this token is not known here"))
        }
    }
}

/// One a line; empty lines and those that begin with `#` are left out.
fn read_tokens(path: &Path) -> io::Result<Arc<[Hash]>> {
    let text = std::fs::read_to_string(path)?;
    let lines = text.lines().map(str::trim);
    let tokens: Vec<_> =
        lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(hash).collect();
    if tokens.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "there is no token in it"));
    }
    Ok(tokens.into())
}

fn hash(token: &str) -> Hash {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens() -> TokenFile {
        let known = [hash("one"), hash("two")];
        TokenFile { path: PathBuf::new(), known: RwLock::new(Arc::new(known)) }
    }

    #[test]
    fn tokens_are_compared_whole() {
        let tokens = tokens();
        for good in ["Bearer one", "bearer two", "BEARER  two "] {
            assert!(tokens.check(Some(good)).is_ok(), "{good}");
        }
        for bad in ["Bearer on", "Bearer one two", "Basic one", "one", "", "Bearer"] {
            let problem = tokens.check(Some(bad)).unwrap_err();
            assert_eq!(problem.code, ErrorCode::Unauthenticated, "{bad}");
        }
        assert!(tokens.check(None).is_err());
    }

    #[test]
    fn either_proof_is_enough_unless_all_are_required() {
        let token = || Some(tokens());
        let (none, good, bad) = (None, Some("Bearer one"), Some("Bearer x"));
        let (no, cert) = (None, Some(&b"certificate"[..]));
        // Tokens, certificates, all of them; the way, what is shown; whether that is enough.
        let cases = [
            (None, false, Require::Any, Way::Plain, none, no, true),
            (token(), false, Require::Any, Way::Tls, good, no, true),
            (token(), false, Require::All, Way::Tls, good, no, true),
            (token(), false, Require::Any, Way::Tls, bad, cert, false),
            (token(), false, Require::Any, Way::Unix, none, no, false),
            (None, true, Require::Any, Way::Tls, none, cert, true),
            (None, true, Require::All, Way::Tls, none, cert, true),
            (None, true, Require::Any, Way::Tls, good, no, false),
            (None, true, Require::Any, Way::Plain, good, no, false),
            (None, true, Require::Any, Way::Unix, none, no, true),
            (token(), true, Require::Any, Way::Tls, good, no, true),
            (token(), true, Require::Any, Way::Tls, bad, cert, true),
            (token(), true, Require::Any, Way::Tls, bad, no, false),
            (token(), true, Require::Any, Way::Plain, good, no, true),
            (token(), true, Require::Any, Way::Plain, none, no, false),
            (token(), true, Require::All, Way::Tls, good, no, false),
            (token(), true, Require::All, Way::Tls, none, cert, false),
            (token(), true, Require::All, Way::Tls, good, cert, true),
            (token(), true, Require::All, Way::Plain, good, no, false),
            (token(), true, Require::All, Way::Unix, good, no, true),
        ];
        for (number, case) in cases.into_iter().enumerate() {
            let (tokens, wants_certificate, require, way, authorization, certificate, may) = case;
            let gate = Gate { tokens, wants_certificate, require };
            let shown = Shown { way, authorization, certificate, address: None };
            assert_eq!(gate.authenticate(&shown).is_ok(), may, "case {number}");
        }
    }
}
