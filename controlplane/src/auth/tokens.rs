//! Static tokens of a file, each with a name and scopes. A line is
//!
//! ```text
//! NAME SCOPES TOKEN
//! ```
//!
//! with scopes separated by commas, as in `signaling control s3cret`. In place of a token stands
//! `sha256:` and its hash in hex, too, so that the file holds no secret. A line with a token alone is an
//! admin's. Empty lines and those that begin with `#` are left out. Only hashes are kept.

use std::{collections::HashMap, path::Path};

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{
    Hash, ProofError,
    principal::{Principal, Proven, Scope, Scopes},
};

/// Tokens of one file.
const TOKENS_MAX: usize = 100_000;
/// Longest name in the file, bytes.
const NAME_BYTES_MAX: usize = 64;

/// See the head of this file.
pub struct Tokens {
    /// Made anew for each process: nobody can choose a token by where its hash leads to, and how
    /// long a look-up takes says nothing of a hash that is known.
    salt: [u8; 32],
    known: HashMap<Hash, Known>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    hash: Hash,
    name: String,
    scopes: Scopes,
}

impl Tokens {
    /// Reads a file.
    pub fn read(path: &Path) -> Result<Self, ProofError> {
        let text = std::fs::read_to_string(path).map_err(|error| ProofError::new(path, error))?;
        Self::parse(&text).map_err(|error| ProofError::new(path, error))
    }

    /// From the file's text. An error names the line, and never what stands in it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut tokens = Self { salt: rand::random(), known: HashMap::new() };
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let number = index + 1;
            let known =
                parse_line(line, number).map_err(|what| format!("line {number}: {what}"))?;
            if tokens.known.len() == TOKENS_MAX {
                return Err(format!("there are more than {TOKENS_MAX} tokens in it"));
            }
            if tokens.known.insert(tokens.key(&known.hash), known).is_some() {
                return Err(format!("line {number}: this token stands in it twice"));
            }
        }
        if tokens.known.is_empty() {
            return Err("there is no token in it".to_owned());
        }
        Ok(tokens)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.len()
    }

    /// Whether both hold the same tokens for the same principals.
    #[must_use]
    pub fn are_as(&self, other: &Self) -> bool {
        let has = |known: &Known| other.known.get(&other.key(&known.hash)) == Some(known);
        self.known.len() == other.known.len() && self.known.values().all(has)
    }

    /// Whose token it is, by its hash.
    #[must_use]
    pub fn find(&self, hash: &Hash) -> Option<Principal> {
        let known = self.known.get(&self.key(hash))?;
        if !bool::from(known.hash.ct_eq(hash)) {
            return None;
        }
        let proven = Proven { bearer: Some(*hash), certificate: None };
        Some(Principal::named(&format!("token:{}", known.name), known.scopes, proven, None))
    }

    fn key(&self, hash: &Hash) -> Hash {
        Sha256::new_with_prefix(self.salt).chain_update(hash).finalize().into()
    }
}

fn parse_line(line: &str, number: usize) -> Result<Known, String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (name, scopes, token) = match words.as_slice() {
        [token] => (format!("line-{number}"), Scopes::ADMIN, *token),
        [name, scopes, token] => ((*name).to_owned(), parse_scopes(scopes)?, *token),
        _ => return Err("a line is NAME SCOPES TOKEN, or a token alone".to_owned()),
    };
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || "._:@-".contains(c);
    if name.len() > NAME_BYTES_MAX || !name.chars().all(is_of_name) {
        let what = format!("a name has 1 to {NAME_BYTES_MAX} of A-Z a-z 0-9 . _ : @ -");
        return Err(what);
    }
    let hash = match token.strip_prefix("sha256:") {
        Some(hex) => parse_hash(hex).ok_or("sha256: is followed by 64 hex digits")?,
        None => super::hash_of(token.as_bytes()),
    };
    Ok(Known { hash, name, scopes })
}

fn parse_scopes(words: &str) -> Result<Scopes, String> {
    match words.split(',').find(|word| Scope::parse(word).is_none()) {
        None => Ok(Scopes::of_words(words.split(','))),
        Some(_) => Err("scopes are read, control and admin, separated by commas".to_owned()),
    }
}

fn parse_hash(hex: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    if hex.len() != 64 || !hex.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, digits) in hash.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::hash_of;

    fn who(tokens: &Tokens, token: &str) -> Option<(String, Scopes)> {
        let principal = tokens.find(&hash_of(token.as_bytes()))?;
        Some((principal.name.to_string(), principal.scopes))
    }

    #[test]
    fn a_line_has_a_name_scopes_and_a_token() {
        // The hash of "secret", as sha256sum writes it.
        let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
        let text = format!(
            "# ours\n\nsignaling control one\n  watch read  two \nfour\nx read,admin sha256:{hash}\n"
        );
        let tokens = Tokens::parse(&text).unwrap();
        let control = Scopes::of_words(["control"]);
        assert_eq!(who(&tokens, "one"), Some(("token:signaling".into(), control)));
        assert_eq!(who(&tokens, "two"), Some(("token:watch".into(), Scopes::READ)));
        assert_eq!(who(&tokens, "four"), Some(("token:line-5".into(), Scopes::ADMIN)));
        assert_eq!(who(&tokens, "secret"), Some(("token:x".into(), Scopes::ADMIN)));
        for unknown in ["on", "one ", "signaling", hash, "", "# ours"] {
            assert_eq!(who(&tokens, unknown), None, "{unknown}");
        }
        assert_eq!(tokens.count(), 4);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line_and_never_shown() {
        for (text, what) in [
            ("", "no token"),
            ("# nothing\n", "no token"),
            ("a read\n", "line 1: a line is"),
            ("a read secret more\n", "line 1: a line is"),
            ("\na write secret\n", "line 2: scopes are"),
            ("a , secret\n", "line 1: scopes are"),
            ("b/c read secret\n", "line 1: a name"),
            ("a read sha256:secret\n", "line 1: sha256:"),
            ("a read sha256:+secret\n", "line 1: sha256:"),
            ("a read secret\nb read secret\n", "line 2: this token stands in it twice"),
        ] {
            let error = Tokens::parse(text).err().expect(text);
            assert!(error.contains(what) && !error.contains("secret"), "{text}: {error}");
        }
    }

    #[test]
    fn the_same_tokens_are_the_same_in_any_order() {
        let parse = |text| Tokens::parse(text).unwrap();
        let tokens = parse("a read one\nb control two\n");
        assert!(tokens.are_as(&parse("b control two\n\na read one")));
        for other in ["a read one", "a read one\nb control three", "a admin one\nb control two"] {
            assert!(!tokens.are_as(&parse(other)), "{other}");
        }
    }
}
