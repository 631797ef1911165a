//! Who this service is at the media server, also after a restart: the name that marks its routers,
//! and the key that proves resume tokens. Both are kept in the state directory, so that the next
//! start takes over the rooms that the last one left. Two hosts have two state directories, and
//! never take each other's rooms for their own.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use ironcast_api::Id;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Name of the file in the state directory.
pub const FILE: &str = "signaling-instance.json";

#[derive(Serialize, Deserialize)]
struct Kept {
    instance: String,
    secret: String,
}

impl Kept {
    fn new() -> Self {
        let random = || Uuid::new_v4().simple().to_string();
        // Two UUIDs: 244 random bits of the system's own source.
        Self { instance: random(), secret: random() + &random() }
    }
}

/// Reads who this service was last time, or makes it up and keeps it.
pub fn load(state_dir: &Path) -> io::Result<(String, Tokens)> {
    let path = state_dir.join(FILE);
    let kept: Kept = match fs::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let made = Kept::new();
            fs::create_dir_all(state_dir)?;
            // Written beside and linked: what is there is whole. Of several that start at once the
            // first one decides.
            let beside = state_dir.join(format!("{FILE}.{}", Uuid::new_v4().simple()));
            let write = OpenOptions::new().write(true).create_new(true).mode(0o600).clone();
            write.open(&beside)?.write_all(&serde_json::to_vec(&made)?)?;
            let linked = fs::hard_link(&beside, &path);
            fs::remove_file(&beside)?;
            match linked {
                Ok(()) => made,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    serde_json::from_slice(&fs::read(&path)?)?
                }
                Err(error) => return Err(error),
            }
        }
        Err(error) => return Err(error),
    };
    Ok((kept.instance, Tokens::new(kept.secret.as_bytes())))
}

/// Makes and checks resume tokens: `{session}.{signature}`. A token says which session it is of,
/// so that nobody has to keep it.
#[derive(Debug, Clone)]
pub struct Tokens(hmac::Key);

impl Default for Tokens {
    /// With a key of its own, for as long as the process lives.
    fn default() -> Self {
        Self::new(Kept::new().secret.as_bytes())
    }
}

impl Tokens {
    /// With a key of somebody's.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token of a session in a room.
    pub fn issue(&self, room_id: &Id, session: &Id) -> String {
        // Ids have no line breaks: no two pairs give the same text.
        let tag = hmac::sign(&self.0, format!("{room_id}\n{session}").as_bytes());
        let signature =
            tag.as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        format!("{session}.{signature}")
    }

    /// The session that a token proves.
    pub fn session(&self, room_id: &Id, token: &str) -> Option<Id> {
        let (session, _) = token.rsplit_once('.')?;
        let session = Id::new(session).ok()?;
        let right = self.issue(room_id, &session);
        verify_slices_are_equal(right.as_bytes(), token.as_bytes()).ok()?;
        Some(session)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use ironcast_api::Id;

    use super::{FILE, Tokens, load};

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    #[test]
    fn a_token_proves_its_own_session_in_its_own_room_only() {
        let tokens = Tokens::default();
        let token = tokens.issue(&id("room"), &id("ada.1"));
        assert_eq!(tokens.session(&id("room"), &token), Some(id("ada.1")));
        assert_eq!(tokens.session(&id("other"), &token), None);
        assert_eq!(Tokens::default().session(&id("room"), &token), None);
        let forged = token.replace("ada.1", "bob.1");
        for wrong in ["", ".", "ada.1", "ada.1.", &forged, &token[1..], &token[..token.len() - 1]] {
            assert_eq!(tokens.session(&id("room"), wrong), None, "{wrong}");
        }
    }

    #[test]
    fn it_is_the_same_after_a_restart_and_another_elsewhere() {
        let here = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        let there = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        let (first, tokens) = load(&here).unwrap();
        let (second, again) = load(&here).unwrap();
        assert_eq!(first, second);
        let token = tokens.issue(&id("room"), &id("ada.1"));
        assert!(again.session(&id("room"), &token).is_some());
        let (other, others) = load(&there).unwrap();
        assert_ne!(first, other);
        assert!(others.session(&id("room"), &token).is_none());
        let mode = std::fs::metadata(here.join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        for folder in [here, there] {
            std::fs::remove_dir_all(folder).unwrap();
        }
    }

    #[test]
    fn those_that_start_at_once_are_the_same() {
        let here = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        let names: std::collections::BTreeSet<String> = std::thread::scope(|scope| {
            let starting: Vec<_> =
                (0..16).map(|_| scope.spawn(|| load(&here).unwrap().0)).collect();
            starting.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(names.len(), 1);
        assert_eq!(std::fs::read_dir(&here).unwrap().count(), 1);
        std::fs::remove_dir_all(here).unwrap();
    }
}
