//! The file that `control.quotas` names: what single principals may have, in place of what all may.
//! TOML; read whole and checked before any of it counts.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use serde::Deserialize;

use crate::auth::is_whole_name;

/// Principals in the file: each has figures of its own in `/metrics`.
const PRINCIPALS_MAX: usize = 1_000;

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {what}")]
pub struct FileError {
    path: String,
    what: String,
}

/// What a principal may have. 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub routers: u32,
    pub transports: u32,
    pub participants: u32,
    pub streams: u32,
    pub bits_per_s: u64,
    pub requests_per_s: u32,
}

/// What is not said is as for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    principal: String,
    routers: Option<u32>,
    transports: Option<u32>,
    participants: Option<u32>,
    streams: Option<u32>,
    bits_per_s: Option<u64>,
    requests_per_s: Option<u32>,
}

impl Row {
    /// Where everybody has `usual`.
    #[must_use]
    pub fn over(&self, usual: Quota) -> Quota {
        Quota {
            routers: self.routers.unwrap_or(usual.routers),
            transports: self.transports.unwrap_or(usual.transports),
            participants: self.participants.unwrap_or(usual.participants),
            streams: self.streams.unwrap_or(usual.streams),
            bits_per_s: self.bits_per_s.unwrap_or(usual.bits_per_s),
            requests_per_s: self.requests_per_s.unwrap_or(usual.requests_per_s),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    quota: Vec<Row>,
}

/// The rows of the file, by principal. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Quotas(Arc<BTreeMap<String, Row>>);

impl Quotas {
    /// Reads the file, if there is one.
    pub fn read(path: Option<&Path>) -> Result<Self, FileError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let wrong = |what: String| FileError { path: path.display().to_string(), what };
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Self::parse(&text).map_err(wrong)
    }

    /// From the file's text.
    pub fn parse(text: &str) -> Result<Self, String> {
        let written: Written =
            toml::from_str(text).map_err(|error| error.to_string().trim().to_owned())?;
        if written.quota.len() > PRINCIPALS_MAX {
            return Err(format!("at most {PRINCIPALS_MAX} principals"));
        }
        let mut rows = BTreeMap::new();
        for row in written.quota {
            let name = row.principal.clone();
            if !is_whole_name(&name) {
                return Err(format!("{name:?} is no principal: token:, cert: or jwt: and a name"));
            }
            if rows.insert(name.clone(), row).is_some() {
                return Err(format!("{name} stands in it twice"));
            }
        }
        Ok(Self(Arc::new(rows)))
    }

    /// What is said of a principal.
    #[must_use]
    pub fn of(&self, principal: &str) -> Option<&Row> {
        self.0.get(principal)
    }

    /// Who stands in it.
    pub fn principals(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether somebody's bits are limited.
    #[must_use]
    pub fn limit_bits(&self) -> bool {
        self.0.values().any(|row| row.bits_per_s.is_some_and(|bits| bits > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USUAL: Quota = Quota {
        routers: 1,
        transports: 2,
        participants: 3,
        streams: 4,
        bits_per_s: 5,
        requests_per_s: 6,
    };

    #[test]
    fn what_is_not_said_is_as_for_everybody() {
        let text = "[[quota]]\nprincipal = \"token:big\"\nrouters = 100\nbits_per_s = 0\n\n\
                    [[quota]]\nprincipal = \"cert:small\"\nrequests_per_s = 10\nstreams = 1\n";
        let quotas = Quotas::parse(text).unwrap();
        let big = quotas.of("token:big").unwrap().over(USUAL);
        assert_eq!(big, Quota { routers: 100, bits_per_s: 0, ..USUAL });
        let small = quotas.of("cert:small").unwrap().over(USUAL);
        assert_eq!(small, Quota { requests_per_s: 10, streams: 1, ..USUAL });
        assert!(quotas.of("token:small").is_none());
        assert!(!quotas.limit_bits(), "no limit is none");
        let limited = Quotas::parse("[[quota]]\nprincipal = \"jwt:x\"\nbits_per_s = 1\n").unwrap();
        assert!(limited.limit_bits());
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, what) in [
            ("[[quota]]\nrouters = 1\n", "missing field `principal`"),
            ("[[quota]]\nprincipal = \"big\"\n", "\"big\" is no principal"),
            ("[[quota]]\nprincipal = \"token:\"\n", "is no principal"),
            ("[[quota]]\nprincipal = \"token:a\"\nrooms = 1\n", "unknown field `rooms`"),
            ("[[quota]]\nprincipal = \"token:a\"\nrouters = -1\n", "routers = -1"),
            (
                "[[quota]]\nprincipal = \"jwt:a\"\n[[quota]]\nprincipal = \"jwt:a\"\n",
                "jwt:a stands in it twice",
            ),
        ] {
            let error = Quotas::parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
