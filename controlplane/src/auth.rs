//! Who may call, in one place: client certificates, tokens of a file, JSON Web Tokens. `doors` asks for
//! every request and gets a [`Principal`] or a refusal; nothing behind it knows of proofs. Never
//! logs a proof, and keeps none but as a hash.

mod certificates;
mod jwt;
mod principal;
mod tokens;

use std::{
    fmt::Display,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

use ironcast_api::{ErrorCode, Problem};
use ironcast_config::Require;
use rustls::server::danger::ClientCertVerifier;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use crate::config::ProofsConfig;
use certificates::Certificates;
use jwt::{Expected, Jwt};
pub use principal::{Caller, Principal, Proven, Scope, Scopes, is_whole_name};
use tokens::Tokens;

type Hash = [u8; 32];

fn hash_of(bytes: &[u8]) -> Hash {
    Sha256::digest(bytes).into()
}

/// Seconds of the Unix epoch.
#[must_use]
pub fn unix_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A file with proofs cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}: {what}", path.display())]
pub struct ProofError {
    path: PathBuf,
    what: String,
}

impl ProofError {
    fn new(path: &Path, what: impl Display) -> Self {
        Self { path: path.to_owned(), what: what.to_string() }
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
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
    /// The peer's certificate and those that lead to its CA, DER.
    pub chain: &'a [&'a [u8]],
    pub address: Option<IpAddr>,
    /// Whether a signature may be checked for it: that takes time, and strangers have little of it.
    pub may_verify: bool,
}

/// What can be shown. Each is kept when another one changes, with what it has verified.
#[derive(Clone, Default)]
pub struct Proofs {
    tokens: Option<Arc<Tokens>>,
    jwt: Option<Arc<Jwt>>,
    certificates: Option<Arc<Certificates>>,
    require_all: bool,
}

impl Proofs {
    /// Reads all files.
    pub fn read(config: &ProofsConfig) -> Result<Self, ProofError> {
        let tokens = config.token_file.as_deref().map(Tokens::read).transpose()?;
        let expected = || Expected {
            audience: config.jwt_audience.clone(),
            issuer: config.jwt_issuer.clone(),
            remembered_max: config.jwt_remembered_max,
        };
        let jwt = config.jwt_keys.as_deref().map(|path| Jwt::read(path, expected())).transpose()?;
        let scopes = Scopes::of_words(config.client_scopes.iter().map(String::as_str));
        let certificates = config.client_ca.as_deref();
        let certificates = certificates
            .map(|ca| Certificates::read(ca, config.client_crl.as_deref(), scopes))
            .transpose()?;
        Ok(Self {
            tokens: tokens.map(Arc::new),
            jwt: jwt.map(Arc::new),
            certificates: certificates.map(Arc::new),
            require_all: config.require == Require::All,
        })
    }

    fn take_bearers(&self) -> bool {
        self.tokens.is_some() || self.jwt.is_some()
    }

    fn bearer(
        &self,
        authorization: &str,
        may_verify: bool,
        now_s: u64,
    ) -> Result<Principal, Problem> {
        let token = match authorization.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => {
                let detail = "the header Authorization is not of the form: Bearer TOKEN";
                return Err(unauthenticated(detail));
            }
        };
        let hash = hash_of(token.as_bytes());
        let of_file = self.tokens.as_ref().and_then(|tokens| tokens.find(&hash));
        if let Some(known) = of_file {
            return Ok(known);
        }
        let Some(jwt) = &self.jwt else {
            return Err(unauthenticated("this token is not known here"));
        };
        match jwt.find(&hash, now_s) {
            Some(known) => Ok(known),
            None if !may_verify => {
                let detail = "too many calls of this address showed nothing good";
                Err(Problem::new(ErrorCode::RateLimited, detail).with_retry_after(1))
            }
            None => jwt.verify(token, &hash, now_s).map_err(unauthenticated),
        }
    }
}

/// Says who calls. See [`Gate::authenticate`].
pub struct Gate {
    proofs: RwLock<Arc<Proofs>>,
    token_file: Mutex<Option<PathBuf>>,
    /// Counts the changes: who follows events is looked at again then.
    changes: watch::Sender<u64>,
}

impl Gate {
    /// With what was read.
    #[must_use]
    pub fn new(proofs: Proofs, token_file: Option<PathBuf>) -> Self {
        Self {
            proofs: RwLock::new(Arc::new(proofs)),
            token_file: Mutex::new(token_file),
            changes: watch::Sender::new(0),
        }
    }

    fn proofs(&self) -> Arc<Proofs> {
        Arc::clone(&self.proofs.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether somebody may call without showing anything.
    #[must_use]
    pub fn asks_nobody(&self) -> bool {
        let proofs = self.proofs();
        !proofs.take_bearers() && proofs.certificates.is_none()
    }

    /// What TLS asks about a certificate; nothing if there are none here.
    #[must_use]
    pub fn verifier(&self) -> Option<Arc<dyn ClientCertVerifier>> {
        self.proofs().certificates.as_ref().map(|one| Arc::clone(one.verifier()))
    }

    /// Whether nobody may call without a certificate.
    #[must_use]
    pub fn needs_certificate(&self) -> bool {
        let proofs = self.proofs();
        proofs.certificates.is_some() && (proofs.require_all || !proofs.take_bearers())
    }

    /// Tells when proofs have changed.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Takes other proofs from now on; those that are the same stay, with what they have verified.
    pub fn replace(&self, mut proofs: Proofs, token_file: Option<PathBuf>) {
        let mut path = self.token_file.lock().unwrap_or_else(PoisonError::into_inner);
        *path = token_file;
        let old = self.proofs();
        if let (Some(new), Some(old)) = (&mut proofs.jwt, &old.jwt)
            && new.is_as(old)
        {
            *new = Arc::clone(old);
        }
        if let (Some(new), Some(old)) = (&mut proofs.certificates, &old.certificates)
            && new.is_as(old)
        {
            *new = Arc::clone(old);
        }
        self.set(proofs);
    }

    fn set(&self, proofs: Proofs) {
        *self.proofs.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(proofs);
        self.changes.send_modify(|count| *count += 1);
    }

    /// Reads the token file again: who was taken out of it may not call any more. Gives whether
    /// that was possible.
    pub fn refresh(&self) -> bool {
        let path = self.token_file.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(path) = path.as_deref() else { return true };
        let old = self.proofs();
        match Tokens::read(path) {
            Ok(new) if old.tokens.as_ref().is_some_and(|old| old.are_as(&new)) => true,
            Ok(new) => {
                tracing::info!(path = %path.display(), count = new.count(), "new tokens");
                self.set(Proofs { tokens: Some(Arc::new(new)), ..(*old).clone() });
                true
            }
            // Half written, or gone for a moment: what was in it goes on to hold.
            Err(error) => {
                tracing::warn!(%error, "the tokens stay as they are");
                false
            }
        }
    }

    /// Who calls, if he may. Where both a certificate and a token can be shown, the token says who it
    /// is if there is one, and one that is shown has to be good; where both are needed, he may
    /// do what both allow.
    pub fn authenticate(&self, shown: &Shown<'_>) -> Result<Principal, Problem> {
        let (proofs, now_s) = (self.proofs(), unix_s());
        let certificate = match &proofs.certificates {
            Some(certificates) if !shown.chain.is_empty() => {
                let found = certificates.identify(shown.chain, now_s);
                Some(found.map_err(unauthenticated)?)
            }
            _ => None,
        };
        // Over a unix socket none can be shown, and the permissions stand in its place.
        let wants_certificate = proofs.certificates.is_some() && shown.way != Way::Unix;
        if !proofs.take_bearers() {
            return match certificate {
                Some(principal) => Ok(principal),
                None if wants_certificate => Err(unauthenticated("show a client certificate")),
                None => Ok(Principal::local(shown.address)),
            };
        }
        let bearer = shown.authorization;
        let bearer =
            bearer.map(|value| proofs.bearer(value, shown.may_verify, now_s)).transpose()?;
        match (certificate, bearer) {
            (Some(certificate), Some(bearer)) if proofs.require_all => {
                Ok(both(&bearer, &certificate))
            }
            (_, None) | (None, _) if proofs.require_all && wants_certificate => {
                Err(unauthenticated("show a client certificate and a token"))
            }
            (_, Some(bearer)) => Ok(bearer),
            (Some(certificate), None) => Ok(certificate),
            (None, None) => Err(unauthenticated("send the header Authorization: Bearer TOKEN")),
        }
    }

    /// Whether somebody who has shown who he is would still be let in, as the same.
    #[must_use]
    pub fn holds(&self, principal: &Principal) -> bool {
        let (proofs, now_s) = (self.proofs(), unix_s());
        if principal.has_expired(now_s) {
            return false;
        }
        let Proven { bearer, certificate } = principal.proven;
        let scopes = principal.scopes;
        let has_all = |now: &Principal| now.scopes.and(scopes) == scopes;
        let is_bearer_good = bearer.is_none_or(|hash| {
            let of_file = proofs.tokens.as_ref().and_then(|tokens| tokens.find(&hash));
            let of_jwt = || proofs.jwt.as_ref().and_then(|jwt| jwt.find(&hash, now_s));
            let found = of_file.or_else(of_jwt);
            found.is_some_and(|now| now.name == principal.name && has_all(&now))
        });
        let is_certificate_good = certificate.is_none_or(|hash| {
            let found = proofs.certificates.as_ref().and_then(|one| one.find(&hash, now_s));
            found.is_some_and(|now| has_all(&now))
        });
        if bearer.is_none() && certificate.is_none() {
            let in_unix = principal.caller == Caller::Address(None);
            return !proofs.take_bearers() && (in_unix || proofs.certificates.is_none());
        }
        is_bearer_good && is_certificate_good
    }
}

fn both(bearer: &Principal, certificate: &Principal) -> Principal {
    let proven =
        Proven { bearer: bearer.proven.bearer, certificate: certificate.proven.certificate };
    let ends = [bearer.expires_s, certificate.expires_s];
    let expires_s = ends.into_iter().flatten().min();
    let scopes = bearer.scopes.and(certificate.scopes);
    Principal::named(&bearer.name, scopes, proven, expires_s)
}

fn unauthenticated(detail: &str) -> Problem {
    Problem::new(ErrorCode::Unauthenticated, detail)
}

#[cfg(test)]
mod tests;
