//! ICE-lite (RFC 8445 section 2.5): the peer checks, we answer. Owns the credentials, the paths on
//! which checks were authenticated, the selected one, and consent (RFC 7675). Reads no bytes:
//! `stun.rs` has parsed and authenticated a check before it comes here.

use std::net::SocketAddr;

use ironcast_protocol::event::IceState;

use crate::{Nanos, SECOND, batch::PathId};

/// Paths of one transport; a peer with more interfaces replaces its oldest.
pub const PATHS_MAX: usize = 4;
/// A path that is not selected and sees no check for so long is closed.
const PATH_IDLE: Nanos = 10 * SECOND;

/// Username fragment and password.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Begins with the worker's number in two hexadecimal digits.
    pub username_fragment: String,
    /// At least 128 bits of randomness.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, ..)", self.username_fragment)
    }
}

/// An authenticated way to the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// The connected socket.
    pub id: PathId,
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Last authenticated check.
    pub checked_at: Nanos,
}

/// What a check changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Change {
    /// The state is another.
    pub state: bool,
    /// The selected path is another.
    pub selected: bool,
    /// New credentials have been used: the former ones are over.
    pub restarted: bool,
}

/// See the file's head.
#[derive(Debug)]
pub struct Ice {
    credentials: Credentials,
    former: Option<Credentials>,
    paths: Vec<Path>,
    selected: Option<PathId>,
    state: IceState,
    consent_at: Nanos,
    consent_timeout: Nanos,
}

impl Ice {
    /// `consent_timeout` 0: never.
    #[must_use]
    pub fn new(credentials: Credentials, consent_timeout: Nanos) -> Self {
        Self {
            credentials,
            former: None,
            paths: Vec::new(),
            selected: None,
            state: IceState::New,
            consent_at: 0,
            consent_timeout,
        }
    }

    /// Ours now.
    #[must_use]
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Ours before a restart, until the new ones are used.
    #[must_use]
    pub fn former(&self) -> Option<&Credentials> {
        self.former.as_ref()
    }

    /// The password of one of our username fragments.
    #[must_use]
    pub fn password(&self, username_fragment: &str) -> Option<&str> {
        [Some(&self.credentials), self.former.as_ref()]
            .into_iter()
            .flatten()
            .find(|own| own.username_fragment == username_fragment)
            .map(|own| own.password.as_str())
    }

    /// New credentials; media goes on on the selected path meanwhile. Returns credentials that
    /// are over: of a restart that was never used.
    pub fn restart(&mut self, credentials: Credentials) -> Option<Credentials> {
        let former = std::mem::replace(&mut self.credentials, credentials);
        self.former.replace(former)
    }

    /// State.
    #[must_use]
    pub fn state(&self) -> IceState {
        self.state
    }

    /// All paths.
    #[must_use]
    pub fn paths(&self) -> &[Path] {
        &self.paths
    }

    /// The path in use.
    #[must_use]
    pub fn selected(&self) -> Option<&Path> {
        let id = self.selected?;
        self.paths.iter().find(|path| path.id == id)
    }

    /// The path of an address pair.
    #[must_use]
    pub fn path(&self, local: SocketAddr, remote: SocketAddr) -> Option<&Path> {
        self.paths.iter().find(|path| path.local == local && path.remote == remote)
    }

    /// A new path. Returns the one that had to go for it.
    pub fn add_path(&mut self, path: Path) -> Option<PathId> {
        let mut gone = None;
        if self.paths.len() >= PATHS_MAX {
            let oldest = self.paths.iter().enumerate().filter(|(_, p)| Some(p.id) != self.selected);
            let oldest = oldest.min_by_key(|(_, p)| p.checked_at).map(|(index, _)| index);
            gone = oldest.map(|index| self.paths.remove(index).id);
        }
        self.paths.push(path);
        gone
    }

    /// An authenticated check on a path.
    pub fn receive_check(
        &mut self,
        id: PathId,
        username_fragment: &str,
        nominated: bool,
        now: Nanos,
    ) -> Change {
        let mut change = Change::default();
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else {
            return change;
        };
        path.checked_at = now;
        self.consent_at = now;
        if username_fragment == self.credentials.username_fragment {
            change.restarted = self.former.take().is_some();
        }
        if self.selected.is_none() || (nominated && self.selected != Some(id)) {
            self.selected = Some(id);
            change.selected = true;
        }
        let state = if nominated || self.state == IceState::Completed {
            IceState::Completed
        } else {
            IceState::Connected
        };
        change.state = self.state != state;
        self.state = state;
        change
    }

    /// The socket of a path does not work any more. Returns true if it was the selected one.
    pub fn remove_path(&mut self, id: PathId) -> bool {
        self.paths.retain(|path| path.id != id);
        let was = self.selected == Some(id);
        if was {
            self.selected = None;
        }
        was
    }

    /// Paths without checks for a while, but the selected one.
    pub fn idle_path(&mut self, now: Nanos) -> Option<PathId> {
        let selected = self.selected;
        let index = self
            .paths
            .iter()
            .position(|path| Some(path.id) != selected && now > path.checked_at + PATH_IDLE)?;
        Some(self.paths.swap_remove(index).id)
    }

    /// True when the peer has given no consent for too long.
    #[must_use]
    pub fn consent_lost(&self, now: Nanos) -> bool {
        self.consent_timeout > 0
            && matches!(self.state, IceState::Connected | IceState::Completed)
            && now > self.consent_at + self.consent_timeout
    }

    /// When [`Self::consent_lost`] is to be looked at.
    #[must_use]
    pub fn consent_deadline(&self) -> Option<Nanos> {
        let running = matches!(self.state, IceState::Connected | IceState::Completed);
        (self.consent_timeout > 0 && running)
            .then(|| self.consent_at + self.consent_timeout + crate::MS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(name: &str) -> Credentials {
        Credentials { username_fragment: name.into(), password: format!("{name}-secret") }
    }

    fn path(slot: u32, now: Nanos) -> Path {
        let address = |port: u32| SocketAddr::from(([127, 0, 0, 1], port as u16));
        let id = PathId { slot, generation: 0 };
        Path { id, local: address(1), remote: address(1_000 + slot), checked_at: now }
    }

    fn id(slot: u32) -> PathId {
        PathId { slot, generation: 0 }
    }

    #[test]
    fn the_first_path_is_used_and_a_nominated_one_replaces_it() {
        let mut ice = Ice::new(credentials("a"), 30 * SECOND);
        ice.add_path(path(1, 0));
        let change = ice.receive_check(id(1), "a", false, 0);
        assert!(change.selected && change.state);
        ice.add_path(path(2, 0));
        assert_eq!(ice.receive_check(id(2), "a", false, 1), Change::default());
        let change = ice.receive_check(id(2), "a", true, 2);
        assert!(change.selected && change.state);
        assert_eq!((ice.selected().unwrap().id, ice.state()), (id(2), IceState::Completed));
    }

    #[test]
    fn at_most_four_paths_and_the_selected_one_stays() {
        let mut ice = Ice::new(credentials("a"), 0);
        for slot in 0..4 {
            assert_eq!(ice.add_path(path(slot, u64::from(slot))), None);
        }
        ice.receive_check(id(0), "a", true, 0);
        assert_eq!(ice.add_path(path(9, 9)), Some(id(1)));
        assert_eq!(ice.selected().unwrap().id, id(0));
    }

    #[test]
    fn both_passwords_hold_until_the_new_one_is_used() {
        let mut ice = Ice::new(credentials("a"), 0);
        ice.add_path(path(1, 0));
        ice.receive_check(id(1), "a", true, 0);
        assert_eq!(ice.restart(credentials("b")), None);
        assert!(ice.password("a").is_some() && ice.password("b").is_some());
        assert!(ice.receive_check(id(1), "b", true, 1).restarted);
        assert_eq!((ice.password("a"), ice.password("b")), (None, Some("b-secret")));
    }

    #[test]
    fn consent_ends() {
        let mut ice = Ice::new(credentials("a"), 30 * SECOND);
        assert!(!ice.consent_lost(100 * SECOND));
        ice.add_path(path(1, 0));
        ice.receive_check(id(1), "a", true, SECOND);
        assert!(!ice.consent_lost(31 * SECOND));
        assert!(ice.consent_lost(ice.consent_deadline().unwrap()));
    }
}
