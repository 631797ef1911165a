//! STUN as an ICE-lite server speaks it (RFC 8445 section 7.3, RFC 7675): finds the transport that a
//! check is for, verifies it, has a path opened where there is none, and answers. The state that
//! checks change is in `ice.rs`. Called from [2] `worker.rs`; never on the way of media.

use std::net::SocketAddr;

use ironcast_protocol::Event;

use crate::{
    Discard, Nanos,
    batch::PathId,
    key::TransportKey,
    transport::ice::{Change, Path},
    wire::stun,
    worker::{ACTIONS_MAX, Action, Worker},
};

/// Checks that wait for their path within a turn.
const WAITING_MAX: usize = 1_024;

/// A check that waits for its path.
#[derive(Debug, Clone)]
pub(crate) struct WaitingCheck {
    transport: TransportKey,
    local: SocketAddr,
    remote: SocketAddr,
    check: Check,
}

/// What is needed of an authenticated check.
#[derive(Debug, Clone)]
struct Check {
    transaction: [u8; 12],
    username_fragment: String,
    nominated: bool,
}

impl Worker {
    /// A STUN message (RFC 8445 section 7.3, as the lite side).
    pub(crate) fn receive_stun(
        &mut self,
        path: Option<(TransportKey, Path)>,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
        now: Nanos,
    ) -> Result<(), Discard> {
        self.counters.stun_received += 1;
        let message = stun::Message::parse(datagram)?;
        if (message.class, message.method) != (stun::Class::Request, stun::BINDING) {
            return Err(Discard::StunMalformed);
        }
        let username = message.username.ok_or(Discard::StunMalformed)?;
        let own = username.split(|&byte| byte == b':').next().unwrap_or_default();
        let own = std::str::from_utf8(own).map_err(|_| Discard::StunMalformed)?;
        let Some(&key) = self.username_fragments.get(own) else {
            return self.hand_over(path.is_none(), own, local, remote, datagram);
        };
        if path.is_some_and(|(of, _)| of != key) {
            return Err(Discard::StunUnknownUser);
        }
        let transport = self.transports.get_mut(key).ok_or(Discard::StunUnknownUser)?;
        let password = transport.ice.password(own).ok_or(Discard::StunUnknownUser)?;
        if !message.verify_fingerprint() || !message.verify_integrity(password.as_bytes()) {
            return Err(Discard::StunUnauthenticated);
        }
        let check = Check {
            transaction: message.transaction_id,
            username_fragment: own.to_owned(),
            nominated: message.use_candidate,
        };
        let known =
            path.map(|(_, path)| path).or_else(|| transport.ice.path(local, remote).copied());
        if message.controlled.is_some() {
            // We are lite, so always controlled: the peer has to be the other one (section 7.3.1.1).
            if let Some(known) = known {
                self.answer_error(key, known.id, &check, stun::ROLE_CONFLICT, &[]);
            }
            return Ok(());
        }
        if !message.unknown.is_empty() {
            let unknown = message.unknown;
            if let Some(known) = known {
                self.answer_error(
                    key,
                    known.id,
                    &check,
                    stun::UNKNOWN_ATTRIBUTE,
                    unknown.as_slice(),
                );
            }
            return Err(Discard::StunMalformed);
        }
        if let Some(known) = known {
            self.accept_check(key, known.id, remote, &check, now);
            return Ok(());
        }
        if self.waiting.len() >= WAITING_MAX {
            return Err(Discard::StunTooManyPaths);
        }
        let others = self.waiting.iter().find(|w| w.local == local && w.remote == remote);
        // One address is one peer: who else claims it in the same turn checks again later.
        if others.is_some_and(|waiting| waiting.transport != key) {
            return Err(Discard::StunTooManyPaths);
        }
        let first = others.is_none();
        self.waiting.push(WaitingCheck { transport: key, local, remote, check });
        if first {
            self.actions.push(Action::OpenPath { transport: key.into(), local, remote });
        }
        Ok(())
    }

    /// A username of another worker: its number is in the first two digits.
    fn hand_over(
        &mut self,
        from_listener: bool,
        own: &str,
        local: SocketAddr,
        remote: SocketAddr,
        datagram: &[u8],
    ) -> Result<(), Discard> {
        let worker = own.get(..2).and_then(|digits| u16::from_str_radix(digits, 16).ok());
        let worker = worker.filter(|&worker| from_listener && worker != self.number);
        let worker = worker.ok_or(Discard::StunUnknownUser)?;
        if self.actions.len() >= ACTIONS_MAX {
            return Err(Discard::LimitReached);
        }
        self.counters.handed_over += 1;
        let datagram = datagram.to_vec();
        self.actions.push(Action::HandOver { worker, local, remote, datagram });
        Ok(())
    }

    /// The driver's answer to [`Action::OpenPath`]; the checks that waited are answered by it.
    pub fn path_opened(
        &mut self,
        transport: u64,
        local: SocketAddr,
        remote: SocketAddr,
        path: Option<PathId>,
        now: Nanos,
    ) {
        let key = TransportKey::from(transport);
        let mut checks = Vec::new();
        self.waiting.retain(|waiting| {
            let ours = (waiting.transport, waiting.local, waiting.remote) == (key, local, remote);
            if ours {
                checks.push(waiting.check.clone());
            }
            !ours
        });
        let Some(id) = path else {
            self.discards.count(Discard::StunTooManyPaths);
            return;
        };
        let Some(transport) = self.transports.get_mut(key) else {
            self.actions.push(Action::ClosePath(id));
            return;
        };
        if let Some(gone) = transport.ice.add_path(Path { id, local, remote, checked_at: now }) {
            self.close_path(gone);
        }
        let slot = id.slot as usize;
        if self.paths.len() <= slot {
            self.paths.resize(slot + 1, None);
        }
        self.paths[slot] = Some((id.generation, key));
        for check in checks {
            self.accept_check(key, id, remote, &check, now);
        }
    }

    fn accept_check(
        &mut self,
        key: TransportKey,
        path: PathId,
        remote: SocketAddr,
        check: &Check,
        now: Nanos,
    ) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let own = &check.username_fragment;
        let former = transport.ice.former().map(|former| former.username_fragment.clone());
        let change = transport.ice.receive_check(path, own, check.nominated, now);
        if change.restarted
            && let Some(former) = former
        {
            self.username_fragments.remove(&former);
        }
        let password = transport.ice.password(own).unwrap_or_default();
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        let written =
            stun::write_success(&mut answer, &check.transaction, remote, password.as_bytes());
        if let Ok(len) = written {
            transport.traffic.sent.add(len, now);
            self.control.push(path, &answer[..len]);
        }
        self.report_ice(key, change);
        self.touch(key);
    }

    fn answer_error(
        &mut self,
        key: TransportKey,
        path: PathId,
        check: &Check,
        code: u16,
        unknown: &[u16],
    ) {
        let Some(transport) = self.transports.get(key) else {
            return;
        };
        let password = transport.ice.password(&check.username_fragment).unwrap_or_default();
        let mut answer = [0; stun::MESSAGE_BYTES_MAX];
        let written = stun::write_error(
            &mut answer,
            &check.transaction,
            code,
            unknown,
            Some(password.as_bytes()),
        );
        if let Ok(len) = written {
            self.control.push(path, &answer[..len]);
        }
    }

    pub(crate) fn report_ice(&mut self, key: TransportKey, change: Change) {
        let Some(transport) = self.transports.get(key) else {
            return;
        };
        if change.selected
            && let Some(tuple) = transport.tuple()
        {
            let transport = transport.id.clone();
            self.events.push(Event::IceSelectedTupleChange { transport, tuple });
        }
        if change.state {
            let state = transport.ice_state();
            let transport = transport.id.clone();
            self.events.push(Event::IceStateChange { transport, state });
        }
    }
}
