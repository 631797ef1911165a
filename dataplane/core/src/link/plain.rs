//! The link of a peer that is known by its address: bare RTP, or SRTP with keys from signalling. Owns
//! where the peer is. Each transport has sockets of its own, one or two; what comes there from an
//! unknown address is looked at here, what the peer sends comes by a connected socket as of any other
//! kind of link.
//!
//! With comedia the address is learned. Where packets are sealed, one that verifies says where the
//! peer is now. In the clear nothing tells a stranger from a peer that has moved: the first packet
//! wins, and another address is taken only when nothing came from that one for [`SILENCE`].

use std::net::{IpAddr, SocketAddr};

use ironcast_protocol::{
    Event,
    command::{TransportProtocol, Tuple},
};

use super::Kind;
use crate::{
    Arrival, Discard, Nanos, SECOND,
    batch::PathId,
    key::TransportKey,
    link::Protection,
    pace::Pace,
    wire::{self, Protocol},
    worker::{ACTIONS_MAX, Action, Worker},
};

/// In the clear, a peer that has sent nothing for so long may have moved.
pub const SILENCE: Nanos = 2 * SECOND;
/// Sockets that one transport has opened for addresses that it learned: so many at once, then one in
/// such a time.
const MOVES: u64 = 4;
const MOVE_EVERY: Nanos = SECOND / 2;
/// A socket that could not be opened is asked for again.
const RETRY: Nanos = SECOND;

/// Our sockets of a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sockets {
    /// For RTP.
    pub rtp: SocketAddr,
    /// For RTCP, where that has its own.
    pub rtcp: Option<SocketAddr>,
}

/// One of our sockets, and the peer's.
#[derive(Debug)]
struct Side {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    /// The connected socket.
    path: Option<PathId>,
    /// One was asked for, and is not there yet.
    is_opening: bool,
    heard_at: Option<Arrival>,
}

impl Side {
    fn new(local: SocketAddr) -> Self {
        Self { local, remote: None, path: None, is_opening: false, heard_at: None }
    }

    fn tuple(&self) -> Option<Tuple> {
        Some(Tuple { local: self.local, remote: self.remote?, protocol: TransportProtocol::Udp })
    }

    fn is_silent(&self, arrival: Arrival) -> bool {
        self.heard_at.is_none_or(|at| arrival.since(at) > SILENCE)
    }

    fn wants_path(&self) -> bool {
        self.remote.is_some() && self.path.is_none() && !self.is_opening
    }
}

/// See the file's head.
#[derive(Debug)]
pub struct Plain {
    comedia: bool,
    /// The peer is a pipe's other end.
    pub(crate) is_pipe: bool,
    /// The API has said where the peer is, or what it seals with.
    pub(crate) is_connected: bool,
    rtp: Side,
    rtcp: Option<Side>,
    moves: Pace,
}

impl Plain {
    /// Nobody is known yet.
    #[must_use]
    pub fn new(sockets: Sockets, comedia: bool, is_pipe: bool) -> Self {
        Self {
            comedia,
            is_pipe,
            is_connected: false,
            rtp: Side::new(sockets.rtp),
            rtcp: sockets.rtcp.map(Side::new),
            moves: Pace::new(MOVES, MOVE_EVERY),
        }
    }

    /// Whether the peer's address is learned.
    pub(crate) fn is_comedia(&self) -> bool {
        self.comedia
    }

    /// Where RTCP has a socket of its own.
    pub(crate) fn has_rtcp(&self) -> bool {
        self.rtcp.is_some()
    }

    pub(super) fn path(&self) -> Option<PathId> {
        self.rtp.path
    }

    pub(super) fn rtcp_path(&self) -> Option<PathId> {
        self.rtcp.as_ref().map_or(self.rtp.path, |side| side.path)
    }

    pub(super) fn paths(&self) -> Vec<PathId> {
        self.sides().filter_map(|side| side.path).collect()
    }

    pub(super) fn tuple(&self) -> Option<Tuple> {
        self.rtp.tuple()
    }

    pub(super) fn rtcp_tuple(&self) -> Option<Tuple> {
        self.rtcp.as_ref()?.tuple()
    }

    /// Our sockets.
    pub(crate) fn locals(&self) -> impl Iterator<Item = SocketAddr> {
        self.sides().map(|side| side.local)
    }

    fn sides(&self) -> impl Iterator<Item = &Side> {
        [&self.rtp].into_iter().chain(&self.rtcp)
    }

    fn sides_mut(&mut self) -> impl Iterator<Item = &mut Side> {
        [&mut self.rtp].into_iter().chain(&mut self.rtcp)
    }

    fn side_at(&mut self, local: SocketAddr) -> Option<&mut Side> {
        self.sides_mut().find(|side| side.local == local)
    }

    #[inline]
    pub(super) fn hear(&mut self, path: PathId, arrival: Arrival) {
        if let Some(side) = self.sides_mut().find(|side| side.path == Some(path)) {
            side.heard_at = Some(arrival);
        }
    }

    pub(super) fn deadline(&self, now: Nanos) -> Nanos {
        if self.sides().any(Side::wants_path) { now + RETRY } else { Nanos::MAX }
    }
}

impl Worker {
    pub(crate) fn plain_mut(&mut self, key: TransportKey) -> Option<&mut Plain> {
        match &mut self.transports.get_mut(key)?.link.kind {
            Kind::Plain(plain) => Some(plain),
            Kind::WebRtc(_) | Kind::Hop(_) => None,
        }
    }

    /// Whether the configuration lets plain transports speak with that address.
    pub(crate) fn is_allowed(&self, ip: IpAddr) -> bool {
        // An IPv4 address in the clothes of IPv6 is the same host.
        let ip = ip.to_canonical();
        self.limits.plain_allow.iter().any(|network| network.contains(&ip))
    }

    /// The peer is there: a socket is opened towards it.
    pub(crate) fn open_plain(&mut self, key: TransportKey, local: SocketAddr, remote: SocketAddr) {
        let Some(side) = self.plain_mut(key).and_then(|plain| plain.side_at(local)) else { return };
        (side.remote, side.is_opening) = (Some(remote), true);
        self.actions.push(Action::OpenPath { transport: key.into(), local, remote });
    }

    /// A datagram at the socket of a plain transport, from an address that has no socket yet.
    pub(crate) fn receive_at_plain(
        &mut self,
        key: TransportKey,
        (local, remote): (SocketAddr, SocketAddr),
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let is_allowed = self.is_allowed(remote.ip());
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let is_sealed = !matches!(transport.link.protection, Protection::None);
        let Kind::Plain(plain) = &mut transport.link.kind else {
            return Err(Discard::UnknownSource);
        };
        let comedia = plain.comedia;
        let side = plain.side_at(local).ok_or(Discard::UnknownSource)?;
        let is_new = side.remote != Some(remote);
        if is_new {
            if !comedia {
                return Err(Discard::PlainWrongSource);
            }
            if !is_allowed {
                return Err(Discard::PlainNotAllowed);
            }
            if !is_sealed && side.remote.is_some() && !side.is_silent(arrival) {
                return Err(Discard::PlainWrongSource);
            }
        }
        transport.traffic.received.add(datagram.len(), arrival.moment());
        let result = match wire::classify(datagram) {
            Protocol::Rtp => {
                self.counters.rtp_received += 1;
                self.receive_rtp(key, datagram, arrival)
            }
            Protocol::Rtcp => {
                self.counters.rtcp_received += 1;
                self.receive_rtcp(key, datagram, arrival)
            }
            _ => return Err(Discard::UnknownProtocol),
        };
        if !result.is_err_and(Discard::is_before_verification) {
            self.hear_plain(key, local, remote, arrival);
        }
        result
    }

    /// The peer has sent something from there.
    fn hear_plain(
        &mut self,
        key: TransportKey,
        local: SocketAddr,
        remote: SocketAddr,
        arrival: Arrival,
    ) {
        let has_room = self.actions.len() < ACTIONS_MAX;
        let Some(plain) = self.plain_mut(key) else { return };
        let Some(side) = plain.side_at(local) else { return };
        if side.remote == Some(remote) {
            side.heard_at = Some(arrival);
            return;
        }
        if !has_room || !plain.moves.take(arrival) {
            return;
        }
        if let Some(side) = plain.side_at(local) {
            side.heard_at = Some(arrival);
        }
        self.open_plain(key, local, remote);
        self.report_tuple(key, local);
    }

    fn report_tuple(&mut self, key: TransportKey, local: SocketAddr) {
        let Some(transport) = self.transports.get(key) else { return };
        let Kind::Plain(plain) = &transport.link.kind else { return };
        let is_rtcp = plain.rtp.local != local;
        let side = if is_rtcp { plain.rtcp.as_ref() } else { Some(&plain.rtp) };
        if let Some(tuple) = side.and_then(Side::tuple) {
            let transport = transport.id.clone();
            self.events.push(Event::PlainTupleChange { transport, tuple, is_rtcp });
        }
    }

    /// The socket towards a peer is there, or cannot be had now.
    pub(super) fn plain_path_opened(
        &mut self,
        key: TransportKey,
        local: SocketAddr,
        remote: SocketAddr,
        path: Option<PathId>,
        now: Nanos,
    ) {
        let Some(side) = self.plain_mut(key).and_then(|plain| plain.side_at(local)) else { return };
        let is_wanted = side.remote == Some(remote);
        side.is_opening &= !is_wanted;
        let Some(id) = path else {
            self.discards.count(Discard::SocketRefused);
            self.schedule(key, now + RETRY);
            return;
        };
        if !is_wanted {
            self.actions.push(Action::ClosePath(id));
            return;
        }
        let before = side.path.replace(id);
        self.paths.open(id, TransportProtocol::Udp, key);
        if let Some(before) = before {
            self.leave_path(key, before);
        }
        self.renew_way(key);
        self.look_at_layers(key, now);
    }

    /// Sockets that could not be had are asked for again.
    pub(super) fn serve_plain(&mut self, key: TransportKey) {
        let Some(plain) = self.plain_mut(key) else { return };
        let wanting = plain.sides().filter(|side| side.wants_path());
        let wanting: Vec<_> = wanting.filter_map(|side| Some((side.local, side.remote?))).collect();
        for (local, remote) in wanting {
            self.open_plain(key, local, remote);
        }
    }
}

#[cfg(test)]
mod tests;
