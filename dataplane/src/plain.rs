//! The sockets of plain transports, which each has for itself, and the ports they are bound to: one
//! that was asked for, or the next free ones of the worker's part of `rtc.plain_ports`. And their
//! SRTP keys, of which the core makes none. Called by the engine, never on the way of a packet.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ironcast_config::PortRange;
use ironcast_core::{
    batch::ListenerId,
    link::plain::Sockets,
    srtp::{MasterKey, Suite},
};
use ironcast_driver::{Io, is_shortage};
use ironcast_protocol::{
    CommandError, ErrorCode,
    plain::{CreatePlainTransport, PlainTransportCreated, SrtpParameters},
};

/// Without the caller's wish: who sends RTP without any proof is best on the same machine.
const LISTEN: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Ports of others that are met before a transport is refused: each takes the kernel some microseconds.
/// The next transport goes on behind them.
const TRIED_MAX: usize = 64;

/// What one transport has open.
#[derive(Debug)]
struct Open {
    listeners: Vec<ListenerId>,
    created: PlainTransportCreated,
}

/// See the file's head.
#[derive(Debug)]
pub struct PlainSockets {
    range: PortRange,
    next: u16,
    /// By the transport's number.
    open: BTreeMap<u64, Open>,
    /// What these are bound to.
    ours: BTreeSet<SocketAddr>,
}

/// Sockets for a transport that is about to be made.
#[derive(Debug)]
pub struct Opened {
    pub sockets: Sockets,
    listeners: Vec<ListenerId>,
}

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Result<T, CommandError> {
    Err(CommandError::new(code, message))
}

impl PlainSockets {
    /// With these ports for whoever asks for none.
    #[must_use]
    pub fn new(range: PortRange) -> Self {
        Self { range, next: range.first, open: BTreeMap::new(), ours: BTreeSet::new() }
    }

    /// Sockets for a new transport.
    ///
    /// # Errors
    /// `Invalid` (an address that is not ours), `WrongState` (a port that somebody has), `NoCapacity`.
    pub fn open(
        &mut self,
        create: &CreatePlainTransport,
        io: &mut Io,
    ) -> Result<Opened, CommandError> {
        let ip = create.listen.unwrap_or(LISTEN);
        if ip.is_unspecified() || ip.is_multicast() {
            return refuse(ErrorCode::Invalid, format!("{ip} is not one address of this host"));
        }
        if let Some(port) = create.port {
            return open_at(io, ip, port, create.rtcp_mux).map_err(|error| {
                let at = SocketAddr::new(ip, port);
                CommandError::new(code_of(&error), format!("{at} cannot be bound: {error}"))
            });
        }
        self.open_next(ip, create.rtcp_mux, |port| open_at(io, ip, port, create.rtcp_mux))
    }

    /// Sockets at the next ports that are free; `open` tries one.
    fn open_next(
        &mut self,
        ip: IpAddr,
        rtcp_mux: bool,
        mut open: impl FnMut(u16) -> io::Result<Opened>,
    ) -> Result<Opened, CommandError> {
        let step = if rtcp_mux { 1 } else { 2 };
        let mut tried = 0;
        for _ in 0..self.range.count() {
            let port = self.next;
            let is_pair = rtcp_mux || (port.is_multiple_of(2) && port < self.range.last);
            let taken = if is_pair { step } else { 1 };
            let after = port.checked_add(taken).filter(|after| *after <= self.range.last);
            self.next = after.unwrap_or(self.range.first);
            let is_ours = |port| self.ours.contains(&SocketAddr::new(ip, port));
            if !is_pair || is_ours(port) || (!rtcp_mux && is_ours(port + 1)) {
                continue;
            }
            match open(port) {
                Ok(opened) => return Ok(opened),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => tried += 1,
                Err(error) => {
                    return refuse(code_of(&error), format!("{ip} cannot be bound: {error}"));
                }
            }
            if tried == TRIED_MAX {
                let message =
                    "the ports for plain transports that were tried are another program's";
                return refuse(ErrorCode::NoCapacity, message);
            }
        }
        let message =
            format!("all ports of this worker for plain transports ({}) are taken", self.range);
        refuse(ErrorCode::NoCapacity, message)
    }

    /// The transport is made.
    pub fn keep(&mut self, transport: u64, opened: Opened, created: PlainTransportCreated) {
        self.ours.extend([Some(created.local), created.rtcp_local].into_iter().flatten());
        self.open.insert(transport, Open { listeners: opened.listeners, created });
    }

    /// It could not be made.
    pub fn give(opened: Opened, io: &mut Io) {
        opened.listeners.into_iter().for_each(|listener| io.close_listener(listener));
    }

    /// Our side of a transport.
    #[must_use]
    pub fn created(&mut self, transport: u64) -> Option<&mut PlainTransportCreated> {
        self.open.get_mut(&transport).map(|open| &mut open.created)
    }

    /// A transport is gone.
    pub fn close(&mut self, transport: u64, io: &mut Io) {
        if let Some(open) = self.open.remove(&transport) {
            for local in [Some(open.created.local), open.created.rtcp_local].into_iter().flatten() {
                self.ours.remove(&local);
            }
            open.listeners.into_iter().for_each(|listener| io.close_listener(listener));
        }
    }
}

fn open_at(io: &mut Io, ip: IpAddr, port: u16, rtcp_mux: bool) -> io::Result<Opened> {
    let beyond = || io::Error::new(io::ErrorKind::AddrInUse, "there is no next port for RTCP");
    let rtcp_port = if rtcp_mux { None } else { Some(port.checked_add(1).ok_or_else(beyond)?) };
    let rtp = SocketAddr::new(ip, port);
    let rtcp = rtcp_port.map(|port| SocketAddr::new(ip, port));
    let first = io.open_listener(rtp)?;
    let mut listeners = vec![first];
    if let Some(rtcp) = rtcp {
        match io.open_listener(rtcp) {
            Ok(second) => listeners.push(second),
            Err(error) => {
                io.close_listener(first);
                return Err(error);
            }
        }
    }
    Ok(Opened { sockets: Sockets { rtp, rtcp }, listeners })
}

fn code_of(error: &io::Error) -> ErrorCode {
    match error.kind() {
        io::ErrorKind::AddrInUse => ErrorCode::WrongState,
        _ if is_shortage(error) => ErrorCode::NoCapacity,
        _ => ErrorCode::Invalid,
    }
}

/// The suite of that name.
///
/// # Errors
/// `Unsupported`.
pub fn suite(name: &str) -> Result<Suite, CommandError> {
    let unknown =
        || CommandError::new(ErrorCode::Unsupported, format!("there is no suite {name:?}"));
    Suite::from_name(name).ok_or_else(unknown)
}

/// A key of a peer.
///
/// # Errors
/// `Unsupported` (the suite), `Invalid` (the length).
pub fn master_key(parameters: &SrtpParameters) -> Result<MasterKey, CommandError> {
    let suite = suite(&parameters.suite)?;
    MasterKey::from_key_and_salt(suite, &parameters.key)
        .map_err(|error| CommandError::new(ErrorCode::Invalid, error.to_string()))
}

/// A new key of ours, and how it is said.
///
/// # Errors
/// The system gives no random numbers.
pub fn new_key(suite: Suite) -> Result<(MasterKey, SrtpParameters), CommandError> {
    let mut key = vec![0; suite.key_len() + suite.salt_len()];
    aws_lc_rs::rand::fill(&mut key).map_err(|_| {
        CommandError::new(ErrorCode::WorkerUnavailable, "the system gives no random numbers")
    })?;
    let parameters = SrtpParameters { suite: suite.name().to_owned(), key };
    Ok((master_key(&parameters)?, parameters))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(port: u16, is_free: bool) -> io::Result<Opened> {
        let rtp = SocketAddr::new(LISTEN, port);
        let opened = Opened { sockets: Sockets { rtp, rtcp: None }, listeners: Vec::new() };
        if is_free { Ok(opened) } else { Err(io::ErrorKind::AddrInUse.into()) }
    }

    /// A transport at the next port that is free, and how many were tried.
    fn take(
        sockets: &mut PlainSockets,
        transport: u64,
        is_free: impl Fn(u16) -> bool,
    ) -> (Option<u16>, usize) {
        let mut tried = 0;
        let opened = sockets.open_next(LISTEN, true, |port| {
            tried += 1;
            open(port, is_free(port))
        });
        let port = opened.ok().map(|opened| {
            let local = opened.sockets.rtp;
            let created = PlainTransportCreated { local, rtcp_local: None, srtp: None };
            sockets.keep(transport, opened, created);
            local.port()
        });
        (port, tried)
    }

    #[test]
    fn a_free_port_is_found_behind_however_many_that_others_have() {
        let mut sockets = PlainSockets::new(PortRange { first: 1_000, last: 1_999 });
        let is_free = |port| port >= 1_200;
        let tries: Vec<_> = (0..4).map(|number| take(&mut sockets, number, is_free)).collect();
        assert_eq!(tries, [(None, 64), (None, 64), (None, 64), (Some(1_200), 9)]);
    }

    #[test]
    fn our_own_ports_are_not_tried() {
        let mut sockets = PlainSockets::new(PortRange { first: 1_000, last: 1_999 });
        (0..999).for_each(|number| assert_eq!(take(&mut sockets, number, |_| true).1, 1));
        for _ in 0..3 {
            assert_eq!(take(&mut sockets, 999, |_| false), (None, 1));
        }
        assert_eq!(take(&mut sockets, 999, |_| true), (Some(1_999), 1));
        assert_eq!(take(&mut sockets, 1_000, |_| true), (None, 0));
    }
}
