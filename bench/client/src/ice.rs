//! The ICE half of a peer (RFC 8445): a controlling agent that checks candidates in order and
//! nominates the first that answers, and the answering side that an ICE-lite server is. Called by
//! [`crate::peer`]; sends on its socket, keeps no clock.

use std::{net::SocketAddr, time::Duration};

use crate::{
    peer::{IceCredentials, PeerError, Remote, Shared, count},
    random::Random,
    stun::{self, Check, Class, Message, TransactionId},
};

/// Between two rounds of checks while connecting.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Answers may come to any of so many last checks.
const PENDING_MAX: usize = 64;
/// Priority of a host candidate (RFC 8445 section 5.1.2.1).
const PRIORITY: u32 = (126 << 24) | (65_535 << 8) | 255;

#[derive(Debug)]
struct Pending {
    transaction: TransactionId,
    to: SocketAddr,
    nominating: bool,
}

/// Credentials, candidates and checks under way.
#[derive(Debug)]
pub(crate) struct IceAgent {
    pub(crate) local: IceCredentials,
    remote: IceCredentials,
    candidates: Vec<SocketAddr>,
    tie_breaker: u64,
    random: Random,
    pending: Vec<Pending>,
    /// Answered a check of this (re)start.
    answered: Option<SocketAddr>,
    /// Answered a nominating check of this (re)start.
    nominated: bool,
}

impl IceAgent {
    pub(crate) fn new(random: &mut Random) -> Self {
        Self {
            local: IceCredentials { username_fragment: random.text(8), password: random.text(24) },
            remote: IceCredentials::default(),
            candidates: Vec::new(),
            tie_breaker: random.next_u64(),
            random: Random::new(random.next_u64()),
            pending: Vec::new(),
            answered: None,
            nominated: false,
        }
    }

    /// Takes the controlling role towards `remote`.
    pub(crate) fn control(&mut self, remote: &Remote) {
        self.candidates.clone_from(&remote.candidates);
        self.restart(remote.ice.clone());
    }

    /// The other side has new credentials.
    pub(crate) fn restart(&mut self, remote: IceCredentials) {
        self.remote = remote;
        self.pending.clear();
        self.answered = None;
        self.nominated = false;
    }

    fn check(&mut self, to: SocketAddr, use_candidate: bool) -> Vec<u8> {
        let mut transaction = [0; 12];
        transaction[..8].copy_from_slice(&self.random.next_u64().to_be_bytes());
        transaction[8..].copy_from_slice(&self.random.next_u32().to_be_bytes());
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push(Pending { transaction, to, nominating: use_candidate });
        let username =
            format!("{}:{}", self.remote.username_fragment, self.local.username_fragment);
        stun::binding_request(&Check {
            transaction,
            username: &username,
            password: &self.remote.password,
            priority: PRIORITY,
            tie_breaker: self.tie_breaker,
            use_candidate,
        })
    }

    /// The checks of one round: all candidates until one answered, then that one is nominated.
    fn round(&mut self) -> Vec<(SocketAddr, Vec<u8>)> {
        match self.answered {
            Some(to) => vec![(to, self.check(to, true))],
            None => {
                self.candidates.clone().into_iter().map(|to| (to, self.check(to, false))).collect()
            }
        }
    }

    /// An answer; true if it belongs to a check of ours.
    fn answer(&mut self, message: &Message<'_>) -> bool {
        let Some(at) = self.pending.iter().position(|one| one.transaction == message.transaction)
        else {
            return false;
        };
        if !message.is_authentic(&self.remote.password) {
            return false;
        }
        let pending = self.pending.remove(at);
        if message.class == Class::Success {
            self.answered.get_or_insert(pending.to);
            self.nominated |= pending.nominating;
        }
        true
    }
}

impl Shared {
    /// Checks until a candidate is nominated.
    pub(crate) async fn run_checks(&self, limit: Duration) -> Result<(), PeerError> {
        tokio::time::timeout(limit, async {
            loop {
                let round = {
                    let mut ice = self.ice.lock().expect("no panic while locked");
                    if ice.nominated {
                        return;
                    }
                    ice.round()
                };
                for (to, check) in round {
                    count(&self.counters.checks_sent);
                    // A candidate that cannot be reached is one that does not answer.
                    let _ = self.link.send(&check, to).await;
                }
                let _ = tokio::time::timeout(CHECK_INTERVAL, self.ice_progress.notified()).await;
            }
        })
        .await
        .map_err(|_| PeerError::IceTimeout(limit))
    }

    /// One check on the selected path.
    pub(crate) fn send_consent_check(&self) {
        let Some(to) = *self.selected.lock().expect("no panic while locked") else { return };
        let check = self.ice.lock().expect("no panic while locked").check(to, true);
        count(&self.counters.checks_sent);
        // A full socket is a lost check; the next one follows.
        let _ = self.link.try_send(&check, to);
    }

    pub(crate) fn receive_stun(&self, from: SocketAddr, datagram: &[u8]) {
        let Some(message) = stun::read(datagram) else { return count(&self.counters.malformed) };
        match message.class {
            Class::Request => self.receive_check(from, &message),
            Class::Success | Class::Error => self.receive_answer(&message),
        }
    }

    fn receive_check(&self, from: SocketAddr, message: &Message<'_>) {
        count(&self.counters.checks_received);
        let local = self.ice.lock().expect("no panic while locked").local.clone();
        let for_us = message.username.and_then(|name| name.split(':').next())
            == Some(local.username_fragment.as_str());
        if !for_us || !message.is_authentic(&local.password) {
            return count(&self.counters.unauthenticated);
        }
        let answer = stun::binding_success(&message.transaction, from, &local.password);
        let _ = self.link.try_send(&answer, from);
        if message.use_candidate {
            *self.selected.lock().expect("no panic while locked") = Some(from);
            self.ice_progress.notify_one();
        }
    }

    fn receive_answer(&self, message: &Message<'_>) {
        let mut ice = self.ice.lock().expect("no panic while locked");
        if !ice.answer(message) {
            return count(&self.counters.unauthenticated);
        }
        count(&self.counters.checks_answered);
        if let Some(selected) = ice.answered {
            *self.selected.lock().expect("no panic while locked") = Some(selected);
        }
        drop(ice);
        self.ice_progress.notify_one();
    }
}
