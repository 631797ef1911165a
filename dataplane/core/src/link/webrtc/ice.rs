//! ICE-lite (RFC 8445 section 2.5): the peer checks, we answer. Owns the credentials, the paths on
//! which checks were authenticated, the selected one, and consent (RFC 7675). Reads no bytes:
//! `stun.rs` has parsed and authenticated a check before it comes here.

use std::net::SocketAddr;

use ironcast_protocol::{
    command::{TransportProtocol, Tuple},
    event::IceState,
};

use crate::{Arrival, MS, Nanos, SECOND, batch::PathId, pace::Pace};

/// Paths of one transport; a peer with more interfaces replaces its oldest.
pub const PATHS_MAX: usize = 4;
/// A path that is not selected and sees no check for so long is closed.
const PATH_IDLE: Nanos = 10 * SECOND;
/// Browsers check a path that they use every 2.5 s; what is older may go to another transport.
const PATH_SILENT: Nanos = 3 * SECOND;
/// Paths that one transport has opened: so many at once, then one in such a time. A browser with
/// three interfaces needs three.
const OPENINGS: u64 = 4;
const OPENING_EVERY: Nanos = SECOND / 2;
/// The same of nominations that are followed: each one is told to the control plane.
const SWITCHES: u64 = 8;
const SWITCH_EVERY: Nanos = SECOND / 2;
/// Media follows what comes on another path when nothing came on the selected one for so long.
const QUIET: Nanos = 300 * MS;
/// Some peers nominate every pair that works with each check: a nomination does not go back to a path
/// so soon after it was left.
const SWING: Nanos = 2 * SECOND;

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
    /// The connected socket, or the connection.
    pub id: PathId,
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// By datagrams or a connection.
    pub protocol: TransportProtocol,
    /// Last authenticated check.
    pub checked_at: Arrival,
    /// A check was answered with success: media may go there.
    is_valid: bool,
    /// When another one was selected in its place.
    left_at: Option<Arrival>,
}

impl Path {
    /// A path whose first check has come and is not answered yet.
    #[must_use]
    pub fn new(id: PathId, local: SocketAddr, remote: SocketAddr, arrival: Arrival) -> Self {
        let protocol = TransportProtocol::Udp;
        Self { id, local, remote, protocol, checked_at: arrival, is_valid: false, left_at: None }
    }

    /// The same by another protocol.
    #[must_use]
    pub fn by(self, protocol: TransportProtocol) -> Self {
        Self { protocol, ..self }
    }

    /// Both ends.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        Tuple { local: self.local, remote: self.remote, protocol: self.protocol }
    }
}

/// Whether a check nominates its pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nomination {
    /// It does not.
    None,
    /// USE-CANDIDATE (RFC 8445 section 7.3.1.5).
    Plain,
    /// NOMINATION: the highest number wins (draft-thatcher-ice-renomination-01).
    Numbered(u32),
}

/// How long a peer may be silent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// Without a check, media or RTCP for so long it is disconnected: nothing is sent to it any more
    /// (RFC 7675 section 5.1). 0: never.
    pub consent: Nanos,
    /// Disconnected for so long, its transport is closed. 0: never.
    pub disconnected: Nanos,
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
    /// There was no path before: the peer has missed what was not sent meanwhile.
    pub resumed: bool,
}

/// See the file's head.
#[derive(Debug)]
pub struct Ice {
    credentials: Credentials,
    former: Option<Credentials>,
    paths: Vec<Path>,
    selected: Option<PathId>,
    /// When verified media or RTCP came on the selected path.
    heard_at: Arrival,
    /// Highest number of a nomination.
    nomination: u32,
    openings: Pace,
    switches: Pace,
    state: IceState,
    /// When the last check came.
    checked_at: Arrival,
    timeouts: Timeouts,
    disconnected_at: Option<Nanos>,
}

impl Ice {
    /// Without any path.
    #[must_use]
    pub fn new(credentials: Credentials, timeouts: Timeouts) -> Self {
        Self {
            credentials,
            former: None,
            paths: Vec::new(),
            selected: None,
            heard_at: Arrival::default(),
            nomination: 0,
            openings: Pace::new(OPENINGS, OPENING_EVERY),
            switches: Pace::new(SWITCHES, SWITCH_EVERY),
            state: IceState::New,
            checked_at: Arrival::default(),
            timeouts,
            disconnected_at: None,
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

    /// The path by datagrams of an address pair.
    #[must_use]
    pub fn path(&self, local: SocketAddr, remote: SocketAddr) -> Option<&Path> {
        let wanted = Tuple { local, remote, protocol: TransportProtocol::Udp };
        self.paths.iter().find(|path| path.tuple() == wanted)
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

    /// True when a new path may be opened for it now; that is one less.
    pub fn take_opening(&mut self, arrival: Arrival) -> bool {
        self.openings.take(arrival)
    }

    /// True when the peer has not checked that path for longer than a browser waits.
    #[must_use]
    pub fn is_silent_on(&self, id: PathId, now: Nanos) -> bool {
        let path = self.paths.iter().find(|path| path.id == id);
        path.is_none_or(|path| now > path.checked_at + PATH_SILENT)
    }

    /// An authenticated check on a path, which is answered with success.
    pub fn receive_check(
        &mut self,
        id: PathId,
        username_fragment: &str,
        nomination: Nomination,
        arrival: Arrival,
    ) -> Change {
        let mut change = Change::default();
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else {
            return change;
        };
        (path.checked_at, path.is_valid) = (arrival, true);
        let left_at = path.left_at;
        self.checked_at = arrival;
        if username_fragment == self.credentials.username_fragment && self.former.take().is_some() {
            change.restarted = true;
            self.nomination = 0;
        }
        let wins = match nomination {
            Nomination::None => false,
            Nomination::Plain => left_at.is_none_or(|at| arrival.since(at) > SWING),
            Nomination::Numbered(number) => number > self.nomination,
        };
        // One that is not followed now is so when the peer checks again.
        let moves = wins && self.selected.is_some_and(|selected| selected != id);
        let wins = wins && (!moves || self.switches.take(arrival));
        if let (true, Nomination::Numbered(number)) = (wins, nomination) {
            self.nomination = number;
        }
        if self.selected.is_none() || (wins && self.selected != Some(id)) {
            change.resumed = self.selected.is_none();
            self.select(id, arrival);
            change.selected = true;
        }
        let was_over = self.disconnected_at.take().is_some();
        let completed = self.state == IceState::Completed && !was_over;
        let state = if nomination != Nomination::None || completed {
            IceState::Completed
        } else {
            IceState::Connected
        };
        change.state = self.state != state;
        self.state = state;
        change
    }

    fn select(&mut self, id: PathId, arrival: Arrival) {
        let before = self.selected.replace(id);
        for path in &mut self.paths {
            if Some(path.id) == before {
                path.left_at = Some(arrival);
            }
        }
        self.heard_at = arrival;
    }

    /// Verified media or RTCP came on a path. Another one than the selected is followed where that
    /// one is quiet: the peer has moved, and its next check would say so only seconds later.
    #[inline]
    pub fn hear(&mut self, id: PathId, arrival: Arrival) -> Option<Change> {
        if self.selected == Some(id) {
            self.heard_at = arrival;
            return None;
        }
        let is_quiet = self.selected.is_some() && arrival.since(self.heard_at) > QUIET;
        let is_valid = self.paths.iter().any(|path| path.id == id && path.is_valid);
        (is_quiet && is_valid).then(|| {
            self.select(id, arrival);
            Change { selected: true, ..Change::default() }
        })
    }

    /// The socket of a path does not work any more. Where it was the selected one, the one that was
    /// checked last is used.
    pub fn remove_path(&mut self, id: PathId) -> Change {
        self.paths.retain(|path| path.id != id);
        if self.selected != Some(id) {
            return Change::default();
        }
        let others = self.paths.iter().filter(|path| path.is_valid);
        self.selected = others.max_by_key(|path| path.checked_at).map(|path| path.id);
        Change { selected: self.selected.is_some(), ..Change::default() }
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

    /// When the peer has shown last that it is there and wants to be sent to. RFC 7675 knows checks
    /// alone, but libnice checks no more once it has a path; and media and RTCP that were verified,
    /// and are no repeats, are no weaker a sign.
    fn consent_at(&self) -> Arrival {
        self.checked_at.max(self.heard_at)
    }

    /// True when the peer has given no consent for too long.
    #[must_use]
    pub fn consent_lost(&self, now: Nanos) -> bool {
        self.timeouts.consent > 0
            && matches!(self.state, IceState::Connected | IceState::Completed)
            && now > self.consent_at() + self.timeouts.consent
    }

    /// Nothing is sent any more; a check connects again. Returns the paths, which are over.
    pub fn disconnect(&mut self, now: Nanos) -> Vec<PathId> {
        self.state = IceState::Disconnected;
        self.disconnected_at = Some(now);
        self.selected = None;
        self.paths.drain(..).map(|path| path.id).collect()
    }

    /// True when the peer has been disconnected for too long.
    #[must_use]
    pub fn is_over(&self, now: Nanos) -> bool {
        self.over_at().is_some_and(|at| now >= at)
    }

    fn over_at(&self) -> Option<Nanos> {
        let timeout = Some(self.timeouts.disconnected).filter(|timeout| *timeout > 0)?;
        self.disconnected_at.map(|at| at + timeout)
    }

    /// When [`Self::consent_lost`] or [`Self::is_over`] is to be looked at.
    #[must_use]
    pub fn consent_deadline(&self) -> Option<Nanos> {
        let running = matches!(self.state, IceState::Connected | IceState::Completed);
        let consent = (self.timeouts.consent > 0 && running)
            .then(|| self.consent_at() + self.timeouts.consent + MS);
        consent.or_else(|| self.over_at())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LASTING: Timeouts = Timeouts { consent: 30 * SECOND, disconnected: 0 };

    fn credentials(name: &str) -> Credentials {
        Credentials { username_fragment: name.into(), password: format!("{name}-secret") }
    }

    fn at(moment: Nanos) -> Arrival {
        Arrival::at(moment)
    }

    fn path(slot: u32, now: Nanos) -> Path {
        let address = |port: u32| SocketAddr::from(([127, 0, 0, 1], port as u16));
        Path::new(id(slot), address(1), address(1_000 + slot), at(now))
    }

    fn id(slot: u32) -> PathId {
        PathId { slot, generation: 0 }
    }

    /// Paths 1 and 2, both checked at 0, the first nominated.
    fn two_paths() -> Ice {
        let mut ice = Ice::new(credentials("a"), LASTING);
        for slot in [1, 2] {
            ice.add_path(path(slot, 0));
            ice.receive_check(id(slot), "a", Nomination::None, at(0));
        }
        ice.receive_check(id(1), "a", Nomination::Plain, at(0));
        ice
    }

    fn selected(ice: &Ice) -> PathId {
        ice.selected().unwrap().id
    }

    #[test]
    fn the_first_path_is_used_and_a_nominated_one_replaces_it() {
        let mut ice = Ice::new(credentials("a"), LASTING);
        ice.add_path(path(1, 0));
        let change = ice.receive_check(id(1), "a", Nomination::None, at(0));
        assert!(change.selected && change.state);
        ice.add_path(path(2, 0));
        assert_eq!(ice.receive_check(id(2), "a", Nomination::None, at(1)), Change::default());
        let change = ice.receive_check(id(2), "a", Nomination::Plain, at(2));
        assert!(change.selected && change.state);
        assert_eq!((selected(&ice), ice.state()), (id(2), IceState::Completed));
    }

    #[test]
    fn the_highest_nomination_wins_with_or_without_use_candidate() {
        let mut ice = two_paths();
        for (slot, number, expected) in [(2, 5, 2), (1, 4, 2), (1, 5, 2), (2, 5, 2), (1, 6, 1)] {
            ice.receive_check(id(slot), "a", Nomination::Numbered(number), at(1));
            assert_eq!(selected(&ice), id(expected), "{slot} {number}");
        }
        assert_eq!(ice.state(), IceState::Completed);
        // A restart counts anew.
        ice.restart(credentials("b"));
        assert!(ice.receive_check(id(2), "b", Nomination::Numbered(1), at(2)).selected);
    }

    #[test]
    fn nominations_of_two_paths_in_turn_do_not_swing() {
        let mut ice = two_paths();
        let turns = (0..200u64).map(|turn| {
            let slot = 1 + (turn % 2) as u32;
            ice.receive_check(id(slot), "a", Nomination::Plain, at(1 + turn * 10 * MS)).selected
        });
        assert_eq!(turns.filter(|changed| *changed).count(), 1);
    }

    #[test]
    fn media_is_followed_where_the_selected_path_is_quiet() {
        let mut ice = two_paths();
        assert_eq!(ice.hear(id(1), at(SECOND)), None);
        assert_eq!(ice.hear(id(2), at(SECOND + QUIET)), None);
        assert!(ice.hear(id(2), at(SECOND + QUIET + 1)).unwrap().selected);
        // A late one of the old path changes nothing.
        assert_eq!(ice.hear(id(1), at(SECOND + QUIET + 2)), None);
        assert_eq!(selected(&ice), id(2));
        // Nor does one of a path whose check was never answered with success.
        ice.add_path(path(3, 0));
        assert_eq!(ice.hear(id(3), at(100 * SECOND)), None);
    }

    #[test]
    fn when_the_selected_path_fails_the_one_checked_last_is_used() {
        let mut ice = two_paths();
        ice.add_path(path(3, 0));
        ice.receive_check(id(3), "a", Nomination::None, at(SECOND));
        ice.add_path(path(4, 2 * SECOND));
        assert!(ice.remove_path(id(1)).selected);
        assert_eq!(selected(&ice), id(3));
        assert_eq!(ice.remove_path(id(4)), Change::default());
        assert!(ice.remove_path(id(3)).selected && !ice.remove_path(id(2)).selected);
        assert_eq!(ice.selected(), None);
    }

    /// A nomination is a datagram, and following it is told to everybody who listens.
    #[test]
    fn a_peer_that_nominates_without_end_is_followed_now_and_then() {
        let mut ice = two_paths();
        let start = 50 * SECOND;
        let turns = (0..100_000u32).filter(|turn| {
            let (slot, nomination) = (2 - turn % 2, Nomination::Numbered(1 + turn));
            let arrival = at(start + u64::from(*turn) * MS / 10);
            ice.receive_check(id(slot), "a", nomination, arrival).selected
        });
        assert_eq!(turns.count(), SWITCHES as usize + 19);
        // What it says last holds when it says it again.
        let last = Nomination::Numbered(200_000);
        let other = if selected(&ice) == id(1) { id(2) } else { id(1) };
        assert!(ice.receive_check(other, "a", last, at(start + 20 * SECOND)).selected);
    }

    #[test]
    fn at_most_four_paths_and_the_selected_one_stays() {
        let mut ice = Ice::new(credentials("a"), Timeouts::default());
        for slot in 0..4 {
            assert_eq!(ice.add_path(path(slot, u64::from(slot))), None);
        }
        ice.receive_check(id(0), "a", Nomination::Plain, at(0));
        assert_eq!(ice.add_path(path(9, 9)), Some(id(1)));
        assert_eq!(selected(&ice), id(0));
    }

    #[test]
    fn both_passwords_hold_until_the_new_one_is_used() {
        let mut ice = Ice::new(credentials("a"), Timeouts::default());
        ice.add_path(path(1, 0));
        ice.receive_check(id(1), "a", Nomination::Plain, at(0));
        assert_eq!(ice.restart(credentials("b")), None);
        assert!(ice.password("a").is_some() && ice.password("b").is_some());
        assert!(ice.receive_check(id(1), "b", Nomination::Plain, at(1)).restarted);
        assert_eq!((ice.password("a"), ice.password("b")), (None, Some("b-secret")));
    }

    #[test]
    fn verified_media_on_the_selected_path_is_consent() {
        let timeouts = Timeouts { consent: 30 * SECOND, disconnected: 0 };
        let mut ice = Ice::new(credentials("a"), timeouts);
        ice.add_path(path(1, 0));
        ice.receive_check(id(1), "a", Nomination::Plain, at(SECOND));
        ice.hear(id(1), at(25 * SECOND));
        assert!(!ice.consent_lost(55 * SECOND));
        assert_eq!(ice.consent_deadline(), Some(55 * SECOND + MS));
        // Of a path that no check has opened it says nothing.
        ice.hear(id(2), at(54 * SECOND));
        assert!(ice.consent_lost(55 * SECOND + MS));
    }

    #[test]
    fn consent_ends_and_comes_back() {
        let timeouts = Timeouts { consent: 30 * SECOND, disconnected: 60 * SECOND };
        let mut ice = Ice::new(credentials("a"), timeouts);
        assert!(!ice.consent_lost(100 * SECOND));
        ice.add_path(path(1, 0));
        ice.receive_check(id(1), "a", Nomination::Plain, at(SECOND));
        assert!(!ice.consent_lost(31 * SECOND));
        let lost = ice.consent_deadline().unwrap();
        assert!(ice.consent_lost(lost));
        assert_eq!((ice.disconnect(lost), ice.state()), (vec![id(1)], IceState::Disconnected));
        assert!(ice.selected().is_none() && !ice.consent_lost(lost + SECOND));
        assert_eq!(ice.consent_deadline(), Some(lost + 60 * SECOND));
        ice.add_path(path(2, 0));
        let change = ice.receive_check(id(2), "a", Nomination::None, at(lost + 59 * SECOND));
        assert!(change.selected && change.state);
        assert_eq!(ice.state(), IceState::Connected);
        assert!(!ice.is_over(lost + 61 * SECOND));
        ice.disconnect(lost + 100 * SECOND);
        assert!(!ice.is_over(lost + 159 * SECOND) && ice.is_over(lost + 160 * SECOND));
    }
}
