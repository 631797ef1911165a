//! Whose the connected sockets are. Owns one entry for each path of the driver's: most belong to one
//! transport. Several transports of one peer behind one socket of his, and a new transport that comes
//! from where an older, silent one was, share the path: a check finds its transport by the username,
//! everything else by its keys.

use std::net::SocketAddr;

use ironcast_protocol::{command::TransportProtocol, event::IceState};

use super::{Kind, Protection, webrtc::ice::Path};
use crate::{
    Arrival, Discard, Nanos,
    batch::PathId,
    key::TransportKey,
    wire,
    worker::{Action, Worker},
};

/// Transports of one path.
const SHARERS_MAX: usize = 4;

/// One connected socket.
#[derive(Debug, Clone)]
struct Entry {
    generation: u32,
    protocol: TransportProtocol,
    first: TransportKey,
    /// Hardly ever any.
    others: Vec<TransportKey>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Paths(Vec<Option<Entry>>);

impl Paths {
    fn entry(&self, path: PathId) -> Option<&Entry> {
        let entry = self.0.get(path.slot as usize)?.as_ref()?;
        (entry.generation == path.generation).then_some(entry)
    }

    fn entry_mut(&mut self, path: PathId) -> Option<&mut Entry> {
        let entry = self.0.get_mut(path.slot as usize)?.as_mut()?;
        (entry.generation == path.generation).then_some(entry)
    }

    /// The transport of a path, and whether it has others.
    pub(crate) fn owner(&self, path: PathId) -> Option<(TransportKey, bool)> {
        self.entry(path).map(|entry| (entry.first, !entry.others.is_empty()))
    }

    /// All transports of a path.
    fn owners(&self, path: PathId) -> Vec<TransportKey> {
        let entry = self.entry(path);
        entry.map_or(Vec::new(), |e| [e.first].into_iter().chain(e.others.clone()).collect())
    }

    /// Whether a path is of datagrams or a connection.
    pub(crate) fn protocol(&self, path: PathId) -> TransportProtocol {
        self.entry(path).map_or(TransportProtocol::Udp, |entry| entry.protocol)
    }

    /// A path is open.
    pub(crate) fn open(&mut self, path: PathId, protocol: TransportProtocol, owner: TransportKey) {
        let slot = path.slot as usize;
        if self.0.len() <= slot {
            self.0.resize(slot + 1, None);
        }
        let generation = path.generation;
        let entry = Entry { generation, protocol, first: owner, others: Vec::new() };
        self.0[slot] = Some(entry);
    }

    /// A transport leaves a path. True when nobody is left: it is to be closed.
    fn leave(&mut self, path: PathId, owner: TransportKey) -> bool {
        let Some(entry) = self.entry_mut(path) else {
            return false;
        };
        entry.others.retain(|other| *other != owner);
        if entry.first == owner {
            if entry.others.is_empty() {
                self.0[path.slot as usize] = None;
                return true;
            }
            entry.first = entry.others.remove(0);
        }
        false
    }

    /// Gives back the memory of an end that is unused.
    pub(crate) fn trim(&mut self) {
        while self.0.pop_if(|entry| entry.is_none()).is_some() {}
        if self.0.capacity() > 2 * self.0.len() {
            self.0.shrink_to_fit();
        }
    }
}

impl Worker {
    /// A transport has no use for a path any more; the last one closes it.
    pub(crate) fn leave_path(&mut self, key: TransportKey, path: PathId) {
        if self.paths.leave(path, key) {
            if self.control.is_empty() {
                self.actions.push(Action::ClosePath(path));
            } else {
                // What was queued may be for this path, and its last words.
                self.leaving.push(path);
            }
        }
    }

    /// A check that was authenticated came on the path of others: it is this transport's, too.
    ///
    /// # Errors
    /// `StunTooManyPaths` where as many as may be use it.
    pub(crate) fn share_path(
        &mut self,
        key: TransportKey,
        id: PathId,
        (local, remote): (SocketAddr, SocketAddr),
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let owners = self.paths.owners(id);
        if owners.len() >= SHARERS_MAX {
            let idle = owners.iter().find(|owner| {
                let transport = self.transports.get(**owner);
                transport.is_none_or(|t| t.link.is_silent_on(id, arrival.moment()))
            });
            let idle = *idle.ok_or(Discard::StunTooManyPaths)?;
            self.lose_path(idle, id, arrival.moment());
        }
        let entry = self.paths.entry_mut(id).ok_or(Discard::UnknownSource)?;
        entry.others.push(key);
        let path = Path::new(id, local, remote, arrival).by(entry.protocol);
        let webrtc = self.webrtc_mut(key).ok_or(Discard::StunUnknownUser)?;
        if let Some(gone) = webrtc.ice.add_path(path) {
            self.leave_path(key, gone);
        }
        Ok(())
    }

    /// A path is of no use to a transport any more: it goes on with another one it has.
    fn lose_path(&mut self, key: TransportKey, path: PathId, now: Nanos) {
        if let Some(transport) = self.transports.get_mut(key) {
            match &mut transport.link.kind {
                Kind::WebRtc(webrtc) => {
                    let change = webrtc.ice.remove_path(path);
                    let is_connected =
                        matches!(webrtc.ice.state(), IceState::Connected | IceState::Completed);
                    let has_left = is_connected && webrtc.ice.paths().is_empty();
                    self.report_ice(key, change);
                    // Whoever ends his last connection does not check any more.
                    if has_left && self.paths.protocol(path) == TransportProtocol::Tcp {
                        self.disconnect(key, now);
                    }
                }
                // Whoever is to receive may begin to listen at any time: nothing is given up.
                Kind::Plain(_) | Kind::Hop(_) => return,
            }
        }
        self.leave_path(key, path);
    }

    /// The driver's answer to [`Action::OpenPath`].
    pub fn path_opened(
        &mut self,
        transport: u64,
        local: SocketAddr,
        remote: SocketAddr,
        path: Option<PathId>,
        now: Nanos,
    ) {
        let key = TransportKey::from(transport);
        match self.transports.get(key).map(|transport| &transport.link.kind) {
            Some(Kind::Plain(_)) => self.plain_path_opened(key, local, remote, path, now),
            Some(Kind::WebRtc(_) | Kind::Hop(_)) | None => {
                self.check_path_opened(key, local, remote, path, now)
            }
        }
    }

    /// The driver says that a path's socket is of no use any more, or that a connection has ended.
    pub fn path_failed(&mut self, path: PathId, now: Nanos) {
        for key in self.paths.owners(path) {
            self.lose_path(key, path, now);
        }
    }

    /// Another worker has authenticated a check that came on this path: the peer's address belongs
    /// to a transport there now. A path that is in use stays.
    pub fn yield_path(&mut self, path: PathId, now: Nanos) {
        let owners = self.paths.owners(path);
        let is_silent = owners.iter().all(|owner| {
            self.transports.get(*owner).is_none_or(|t| t.link.is_silent_on(path, now))
        });
        if is_silent {
            self.path_failed(path, now);
        }
    }

    /// What is not STUN, on a path of several transports.
    pub(crate) fn receive_shared(
        &mut self,
        path: PathId,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let mut owners = self.paths.owners(path);
        let protocol = wire::classify(datagram);
        if let (wire::Protocol::Rtp, Some(ssrc)) = (protocol, wire::u32_at(datagram, 8)) {
            let knows = |key: &TransportKey| {
                self.transports.get(*key).is_some_and(|t| t.demux.by_ssrc(ssrc).is_some())
            };
            owners.sort_by_key(|key| !knows(key));
        }
        if protocol == wire::Protocol::Dtls {
            // Whose handshake it is tells the handshake; those that are done take alerts only.
            let shakes = |key: &TransportKey| {
                let transport = self.transports.get(*key);
                transport.is_some_and(|t| matches!(t.link.protection, Protection::Awaited))
            };
            if owners.iter().any(shakes) {
                owners.retain(shakes);
            }
            for key in owners {
                self.receive_from(key, path, datagram, arrival)?;
            }
            return Ok(());
        }
        let mut result = Err(Discard::UnknownSource);
        for key in owners {
            result = self.receive_from(key, path, datagram, arrival);
            let others = Discard::SrtpUnauthenticated;
            if !matches!(result, Err(r) if r == others || r == Discard::SrtpNoKeys || r == Discard::SrtpReplayed)
            {
                break;
            }
        }
        result
    }
}
