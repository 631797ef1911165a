//! STUN as an ICE-lite server speaks it (RFC 8445 section 7.3, RFC 7675): finds the transport that a
//! check is for, verifies it, has a path opened where there is none, and answers. The state that
//! checks change is in `ice.rs`. Called from [2] `worker.rs`; never on the way of media.

use std::net::SocketAddr;

use ironcast_protocol::{Event, command::TransportProtocol};

use crate::{
    Arrival, Discard, Nanos, SECOND,
    batch::PathId,
    key::TransportKey,
    layers::AT_ONCE,
    link::webrtc::ice::{Change, Nomination, Path},
    wire::{Protocol, classify, stun},
    worker::{ACTIONS_MAX, Action, Worker},
};

/// Checks that wait for their path within a turn.
const WAITING_MAX: usize = 64;
/// Sockets that all peers together can have opened in one turn: each costs the packet thread some
/// 25 us. Who is refused checks again.
const OPENED_MAX: usize = 16;
/// Datagrams for one other worker in one turn.
const HANDED_OVER_MAX: usize = 64;
/// Requests that cannot be authenticated and are told so: so many at once, then one in such a time, of
/// all strangers together. Whoever hears nothing gives up later, and no stranger is worth more.
pub(crate) const REFUSALS: u64 = 8;
pub(crate) const REFUSAL_EVERY: Nanos = SECOND / 8;

/// How a STUN message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// By a listening socket.
    Listener,
    /// By a connected one, or by a connection that is a path.
    Path(PathId),
    /// By a connection that is none yet.
    Stream(PathId),
    /// By another worker, which has a connected socket to that address or not.
    Worker(Option<(u16, PathId)>),
}

/// A check that waits for its path.
#[derive(Debug, Clone)]
pub(crate) struct WaitingCheck {
    transport: TransportKey,
    local: SocketAddr,
    remote: SocketAddr,
    check: Check,
    arrival: Arrival,
}

/// What is needed of an authenticated check.
#[derive(Debug, Clone)]
struct Check {
    transaction: [u8; 12],
    username_fragment: String,
    nomination: Nomination,
    /// Why it is refused: the code, and what was not understood.
    refusal: Option<(u16, stun::UnknownAttributes)>,
    /// Of who takes DTLS in STUN: what was in it.
    dtls: Option<Vec<u8>>,
}

impl Check {
    fn new(message: &stun::Message<'_>, own: &str, takes_dtls: bool) -> Self {
        let refusal = if message.controlled.is_some() {
            // We are lite, so always controlled: the peer has to be the other one (section 7.3.1.1).
            Some((stun::ROLE_CONFLICT, stun::UnknownAttributes::default()))
        } else if !message.unknown.is_empty() {
            Some((stun::UNKNOWN_ATTRIBUTE, message.unknown))
        } else {
            None
        };
        Self {
            transaction: message.transaction_id,
            username_fragment: own.to_owned(),
            nomination: match message.nomination {
                Some(number) => Nomination::Numbered(number),
                None if message.use_candidate => Nomination::Plain,
                None => Nomination::None,
            },
            refusal,
            dtls: (takes_dtls && (message.dtls.is_some() || message.dtls_ack.is_some()))
                .then(|| message.dtls.unwrap_or_default().to_vec()),
        }
    }
}

/// The fragment of ours in a username.
fn own_fragment<'a>(message: &stun::Message<'a>) -> Result<&'a str, Discard> {
    let username = message.username.ok_or(Discard::StunMalformed)?;
    let own = username.split(|&byte| byte == b':').next().unwrap_or_default();
    std::str::from_utf8(own).map_err(|_| Discard::StunMalformed)
}

/// The worker that made it: its number is in the first two digits.
fn maker_of(fragment: &str) -> Option<u16> {
    fragment.get(..2).and_then(|digits| u16::from_str_radix(digits, 16).ok())
}

impl Worker {
    /// For which worker a connection is that any of them may have accepted: what comes first is a check,
    /// and its username says that.
    #[must_use]
    pub fn home_of(&self, datagram: &[u8]) -> Option<u16> {
        let message = stun::Message::parse(datagram).ok()?;
        let is_check = (message.class, message.method) == (stun::Class::Request, stun::BINDING);
        let own =
            own_fragment(&message).ok().filter(|_| is_check && message.verify_fingerprint())?;
        if self.username_fragments.contains_key(own) { Some(self.number) } else { maker_of(own) }
    }

    /// A STUN message (RFC 8445 section 7.3, as the lite side). The username says whose it is,
    /// whatever came from that address before.
    pub(crate) fn receive_stun(
        &mut self,
        from: From,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        self.counters.stun_received += 1;
        let message = stun::Message::parse(datagram)?;
        if (message.class, message.method) != (stun::Class::Request, stun::BINDING) {
            return Err(Discard::StunMalformed);
        }
        let own = own_fragment(&message);
        if !message.verify_fingerprint() {
            return own.and(Err(Discard::StunUnauthenticated));
        }
        let refused = (local, remote, datagram.len());
        let own = match own {
            Ok(own) => own,
            Err(reason) => {
                self.refuse(from, refused, &message, arrival);
                return Err(reason);
            }
        };
        let Some(&key) = self.username_fragments.get(own) else {
            let result = self.hand_over(from, own, local, remote, datagram);
            // Another worker's may be right there.
            let is_nobodys = maker_of(own).is_none_or(|worker| worker == self.number);
            if is_nobodys && result == Err(Discard::StunUnknownUser) {
                self.refuse(from, refused, &message, arrival);
            }
            return result;
        };
        let webrtc = self.webrtc(key).ok_or(Discard::StunUnknownUser)?;
        let password = webrtc.ice.password(own).ok_or(Discard::StunUnknownUser)?;
        if !message.verify_integrity(password.as_bytes()) {
            self.refuse(from, refused, &message, arrival);
            return Err(Discard::StunUnauthenticated);
        }
        let protocol = match from {
            From::Path(id) => self.paths.protocol(id),
            From::Stream(_) => TransportProtocol::Tcp,
            From::Listener | From::Worker(_) => TransportProtocol::Udp,
        };
        if !webrtc.accepts(protocol) {
            return Err(Discard::StunWrongProtocol);
        }
        let check = Check::new(&message, own, self.limits.takes_dtls_in_stun);
        if let From::Worker(Some((worker, path))) = from {
            // What is sent to us would go to that socket. The peer checks again.
            return self.act_for_stun(Action::YieldPath { worker, path });
        }
        let known = match from {
            From::Path(id) => {
                if !webrtc.ice.paths().iter().any(|path| path.id == id) {
                    self.share_path(key, id, (local, remote), arrival)?;
                }
                Some(id)
            }
            From::Stream(id) => {
                // As of sockets: who ends one connection after the other is told of each time.
                let webrtc = self.webrtc_mut(key).ok_or(Discard::StunUnknownUser)?;
                if !webrtc.ice.take_opening(arrival) {
                    return Err(Discard::StunTooManyPaths);
                }
                self.act_for_stun(Action::KeepStream(id))?;
                self.enter_path(key, Path::new(id, local, remote, arrival).by(protocol));
                Some(id)
            }
            From::Listener | From::Worker(_) => webrtc.ice.path(local, remote).map(|path| path.id),
        };
        match known {
            Some(id) => self.answer_check(key, id, remote, &check, arrival),
            None => {
                self.ask_for_path(WaitingCheck { transport: key, local, remote, check, arrival })
            }
        }
    }

    /// A request that is nobody's here, or not signed as it should be, is told so (RFC 8489 section 9.1.3):
    /// by no more bytes than it had, and now and then.
    fn refuse(
        &mut self,
        from: From,
        (local, remote, len): (SocketAddr, SocketAddr, usize),
        message: &stun::Message<'_>,
        arrival: Arrival,
    ) {
        let is_whole = message.username.is_some() && message.has_integrity();
        let code = if is_whole { stun::UNAUTHENTICATED } else { stun::BAD_REQUEST };
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        let room = &mut answer[..len.min(stun::MESSAGE_BYTES_MAX)];
        let written = stun::write_error(room, &message.transaction_id, code, &[], None);
        let Ok(len) = written else { return };
        // Another worker has the socket.
        if matches!(from, From::Worker(Some(_))) || !self.refusals.take(arrival) {
            return;
        }
        let datagram = &answer[..len];
        match from {
            From::Path(path) | From::Stream(path) => self.control.push(path, datagram),
            From::Listener | From::Worker(_) => {
                let datagram = datagram.to_vec();
                let _ = self.act_for_stun(Action::Refuse { local, remote, datagram });
            }
        }
    }

    /// The driver's answer to [`Action::Refuse`]: a socket for one datagram.
    pub fn refuse_by(&mut self, path: PathId, datagram: &[u8]) {
        self.control.push(path, datagram);
        self.leaving.push(path);
    }

    /// A check from an address that is new: answered when its path is open, and refused by it, too.
    fn ask_for_path(&mut self, waiting: WaitingCheck) -> Result<(), Discard> {
        let WaitingCheck { transport: key, local, remote, arrival, .. } = waiting;
        let mut same = self.waiting.iter().filter(|w| (w.local, w.remote) == (local, remote));
        // One address is one peer: who else claims it in the same turn checks again later.
        let is_first = match same.next() {
            Some(first) if first.transport != key => return Err(Discard::StunTooManyPaths),
            first => first.is_none(),
        };
        if self.waiting.len() >= WAITING_MAX {
            return Err(Discard::StunTooManyPaths);
        }
        if is_first {
            let opened = self.opened;
            let webrtc = self.webrtc_mut(key).ok_or(Discard::StunUnknownUser)?;
            if opened >= OPENED_MAX || !webrtc.ice.take_opening(arrival) {
                return Err(Discard::StunTooManyPaths);
            }
            self.act_for_stun(Action::OpenPath { transport: key.into(), local, remote })?;
            self.opened += 1;
        }
        self.waiting.push(waiting);
        Ok(())
    }

    /// A username of another worker.
    fn hand_over(
        &mut self,
        from: From,
        own: &str,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let holder = match from {
            From::Listener => None,
            From::Path(path) => Some(path),
            // It would go round and round; and a connection went where its first check is for.
            From::Worker(_) | From::Stream(_) => return Err(Discard::StunUnknownUser),
        };
        let worker = maker_of(own).filter(|&worker| worker != self.number);
        let worker = worker.ok_or(Discard::StunUnknownUser)?;
        let handed_over = self.handed_over.entry(worker).or_default();
        if *handed_over >= HANDED_OVER_MAX {
            return Err(Discard::LimitReached);
        }
        *handed_over += 1;
        let datagram = datagram.to_vec();
        self.act_for_stun(Action::HandOver { worker, local, remote, holder, datagram })?;
        self.counters.handed_over += 1;
        Ok(())
    }

    fn act_for_stun(&mut self, action: Action) -> Result<(), Discard> {
        if self.actions.len() >= ACTIONS_MAX {
            return Err(Discard::LimitReached);
        }
        self.actions.push(action);
        Ok(())
    }

    /// A socket was opened, or could not be; the checks that waited are answered by it.
    pub(crate) fn check_path_opened(
        &mut self,
        key: TransportKey,
        local: SocketAddr,
        remote: SocketAddr,
        path: Option<PathId>,
        now: Nanos,
    ) {
        let mut checks = Vec::new();
        self.waiting.retain(|waiting| {
            let ours = (waiting.transport, waiting.local, waiting.remote) == (key, local, remote);
            if ours {
                checks.push((waiting.check.clone(), waiting.arrival));
            }
            !ours
        });
        let Some(id) = path else {
            self.discards.count(Discard::SocketRefused);
            return;
        };
        if self.webrtc(key).is_none() {
            self.actions.push(Action::ClosePath(id));
            return;
        }
        let arrival = checks.first().map_or_else(|| Arrival::at(now), |(_, arrival)| *arrival);
        self.enter_path(key, Path::new(id, local, remote, arrival));
        for (check, arrival) in checks {
            if let Err(reason) = self.answer_check(key, id, remote, &check, arrival) {
                self.discards.count(reason);
            }
        }
    }

    /// A transport has one more path, perhaps in the place of another.
    fn enter_path(&mut self, key: TransportKey, path: Path) {
        let Some(webrtc) = self.webrtc_mut(key) else { return };
        let gone = webrtc.ice.add_path(path);
        self.paths.open(path.id, path.protocol, key);
        if let Some(gone) = gone {
            self.leave_path(key, gone);
        }
    }

    /// An authenticated check on a path of its transport.
    fn answer_check(
        &mut self,
        key: TransportKey,
        path: PathId,
        remote: SocketAddr,
        check: &Check,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::StunUnknownUser)?;
        let webrtc = transport.link.as_webrtc_mut().ok_or(Discard::StunUnknownUser)?;
        let own = &check.username_fragment;
        let password = webrtc.ice.password(own).unwrap_or_default().to_owned();
        let (id, password) = (&check.transaction, password.as_bytes());
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        let written = match &check.refusal {
            Some((code, unknown)) => {
                stun::write_error(&mut answer, id, *code, unknown.as_slice(), Some(password))
            }
            None => {
                let hash = |dtls: &Vec<u8>| (!dtls.is_empty()).then(|| stun::dtls_hash(dtls));
                let ack = check.dtls.as_ref().map(hash);
                stun::write_success(&mut answer, id, remote, ack, password)
            }
        };
        if let Ok(len) = written {
            transport.traffic.sent.add(len, arrival.moment());
            self.control.push(path, &answer[..len]);
        }
        match check.refusal {
            Some((stun::UNKNOWN_ATTRIBUTE, _)) => return Err(Discard::StunMalformed),
            Some(_) => return Ok(()),
            None => {}
        }
        let former = webrtc.ice.former().map(|former| former.username_fragment.clone());
        let change = webrtc.ice.receive_check(path, own, check.nomination, arrival);
        if change.restarted
            && let Some(former) = former
        {
            self.username_fragments.remove(&former);
        }
        self.report_ice(key, change);
        if change.resumed {
            self.resume_consumers(key);
        }
        self.touch(key);
        self.take_dtls_of(key, check, arrival)
    }

    /// The DTLS of an authenticated check goes where that of a datagram goes: a round trip earlier. What
    /// the handshake says to it follows the answer, as a datagram.
    fn take_dtls_of(
        &mut self,
        key: TransportKey,
        check: &Check,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let Some(datagram) = check.dtls.as_ref().filter(|dtls| !dtls.is_empty()) else {
            return Ok(());
        };
        if classify(datagram) != Protocol::Dtls {
            return Err(Discard::DtlsUnexpected);
        }
        self.counters.dtls_in_stun += 1;
        self.receive_dtls(key, datagram, arrival)
    }

    /// Nothing could be sent for a while: numbers go on where they were, at the next key frame. A
    /// receiver would lose count of the rollovers that it has not seen (RFC 3711 section 3.3.1).
    fn resume_consumers(&mut self, key: TransportKey) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        transport.layers_at = AT_ONCE;
        for consumer in &transport.consumers {
            if let Some(consumer) = self.consumers.get_mut(*consumer) {
                consumer.start_over();
            }
        }
    }

    pub(crate) fn report_ice(&mut self, key: TransportKey, change: Change) {
        self.renew_way(key);
        let Some(transport) = self.transports.get(key) else {
            return;
        };
        if change.selected
            && let Some(tuple) = transport.link.tuple()
        {
            let transport = transport.id.clone();
            self.events.push(Event::IceSelectedTupleChange { transport, tuple });
            self.start_dtls(key);
        }
        if change.state
            && let Some(transport) = self.transports.get(key)
            && let Some(webrtc) = transport.link.as_webrtc()
        {
            let (transport, state) = (transport.id.clone(), webrtc.ice.state());
            self.events.push(Event::IceStateChange { transport, state });
        }
    }
}
