//! Who calls, as everything behind the doors sees it: a name, what it may do, and until when. Made by
//! `auth` alone. Holds nothing secret: it may be logged.

use std::{fmt, net::IpAddr, sync::Arc};

use serde::{Deserialize, Serialize};

/// Longest name of a principal, bytes.
const NAME_BYTES_MAX: usize = 128;

/// What a caller may do. Each includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// `GET`.
    Read,
    /// Everything else about its own routers.
    Control,
    /// `/admin` and `/audit`, and everybody's routers.
    Admin,
}

impl Scope {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Read, Self::Control, Self::Admin];

    /// As in files and tokens.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Control => "control",
            Self::Admin => "admin",
        }
    }

    /// `None` for a word that is none of them.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of scopes: as each includes those before it, the greatest says it all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(Option<Scope>);

impl Scopes {
    /// May do nothing.
    pub const NONE: Self = Self(None);
    /// May do everything.
    pub const ADMIN: Self = Self(Some(Scope::Admin));
    /// May look.
    pub const READ: Self = Self(Some(Scope::Read));

    /// Those among the words that are scopes; others are not for us.
    pub fn of_words<'a>(words: impl IntoIterator<Item = &'a str>) -> Self {
        Self(words.into_iter().filter_map(Scope::parse).max())
    }

    /// Whether a scope is among them.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0 >= Some(scope)
    }

    /// What both allow.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.min(other.0))
    }

    /// None at all.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0.is_none()
    }
}

/// What rates are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// Nobody asked. `None` is whoever comes over a unix socket.
    Address(Option<IpAddr>),
    /// A principal's name.
    Name(Arc<str>),
}

/// What somebody has shown, to look at again when proofs change: hashes, never the proof itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Proven {
    /// Of a token or a JWT.
    pub bearer: Option<[u8; 32]>,
    /// Of a certificate.
    pub certificate: Option<[u8; 32]>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub struct Principal {
    /// `token:`, `cert:` or `jwt:` and a name, so that two kinds of proof never name one principal;
    /// `local` where nobody is asked.
    pub name: Arc<str>,
    /// What it may do.
    pub scopes: Scopes,
    /// What rates are counted by.
    pub caller: Caller,
    /// What it has shown.
    pub proven: Proven,
    /// Seconds of the Unix epoch from which it is nobody any more.
    pub expires_s: Option<u64>,
    /// Where it calls from; none over a unix socket.
    pub address: Option<IpAddr>,
}

impl Principal {
    /// Where nobody is asked, everybody may do everything.
    #[must_use]
    pub fn local(address: Option<IpAddr>) -> Self {
        Self::unnamed(address, Scopes::ADMIN)
    }

    /// Who asks the door for probes.
    #[must_use]
    pub fn probe(address: Option<IpAddr>) -> Self {
        Self::unnamed(address, Scopes::READ)
    }

    fn unnamed(address: Option<IpAddr>, scopes: Scopes) -> Self {
        Self {
            name: "local".into(),
            scopes,
            caller: Caller::Address(address),
            proven: Proven::default(),
            expires_s: None,
            address,
        }
    }

    /// Somebody who has shown who he is.
    #[must_use]
    pub fn named(name: &str, scopes: Scopes, proven: Proven, expires_s: Option<u64>) -> Self {
        let name: Arc<str> = name.into();
        let caller = Caller::Name(Arc::clone(&name));
        Self { name, scopes, caller, proven, expires_s, address: None }
    }

    /// Whose the routers are that it makes: where nobody is asked, nobody's.
    #[must_use]
    pub fn owner(&self) -> Option<Arc<str>> {
        match &self.caller {
            Caller::Name(name) => Some(Arc::clone(name)),
            Caller::Address(_) => None,
        }
    }

    /// Sees everybody's routers.
    #[must_use]
    pub fn is_admin(&self) -> bool {
        self.scopes.has(Scope::Admin)
    }

    /// Whether a router of this owner is there for it.
    #[must_use]
    pub fn sees(&self, owner: Option<&Arc<str>>) -> bool {
        self.is_admin() || owner.is_some_and(|owner| **owner == *self.name)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_expired(&self, now_s: u64) -> bool {
        self.expires_s.is_some_and(|expires_s| expires_s <= now_s)
    }
}

/// What stands before a principal's name: how it is proven.
const KINDS: [&str; 3] = ["token:", "cert:", "jwt:"];

/// A name that a principal can have, with how it is proven before it.
#[must_use]
pub fn is_whole_name(text: &str) -> bool {
    KINDS.iter().any(|kind| text.strip_prefix(kind).is_some_and(is_name))
}

/// A name that can be shown to people and in JSON lines.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_scope_includes_those_before_it() {
        let scopes = |words: &str| Scopes::of_words(words.split(' '));
        assert!(scopes("read openid").has(Scope::Read));
        assert!(!scopes("read").has(Scope::Control));
        assert!(scopes("control").has(Scope::Read) && !scopes("control").has(Scope::Admin));
        assert!(Scope::ALL.into_iter().all(|scope| scopes("admin").has(scope)));
        assert!(scopes("openid Admin ").is_empty() && !Scopes::NONE.has(Scope::Read));
        assert_eq!(scopes("admin").and(scopes("read")), Scopes::READ);
        assert_eq!(scopes("admin").and(Scopes::NONE), Scopes::NONE);
    }

    #[test]
    fn everybody_sees_his_own_and_an_admin_sees_all() {
        let one = Principal::named("token:one", Scopes::READ, Proven::default(), None);
        let admin = Principal::named("token:ops", Scopes::ADMIN, Proven::default(), None);
        let (own, other): (Arc<str>, Arc<str>) = ("token:one".into(), "cert:one".into());
        assert!(one.sees(Some(&own)) && !one.sees(Some(&other)) && !one.sees(None));
        assert!(admin.sees(Some(&own)) && admin.sees(None));
        assert!(Principal::local(None).sees(None) && Principal::local(None).owner().is_none());
        // A name is not enough: a probe is called as those are whom nobody asks.
        assert!(!Principal::probe(None).sees(None));
    }

    #[test]
    fn names_can_be_shown() {
        assert!(is_name("Ada Lovelace") && is_name("ädä@example.org"));
        let long = "x".repeat(129);
        for bad in ["", "a\nb", "a\u{7f}", long.as_str()] {
            assert!(!is_name(bad), "{bad:?}");
            assert!(!is_whole_name(&format!("token:{bad}")), "{bad:?}");
        }
        assert!(["token:x", "cert:Ada Lovelace", "jwt:a:b"].into_iter().all(is_whole_name));
        assert!(!["x", "local", "tokens:x", "Token:x"].into_iter().any(is_whole_name));
    }
}
