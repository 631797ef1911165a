//! What a transport has to do with DTLS, which runs elsewhere: when the handshake begins, what it
//! sends, how it ends, and the goodbye (close_notify) that leaves when the transport is closed. Called
//! by the binary for the handshake's results. Never looks into a DTLS record.

use ironcast_protocol::{
    Event,
    event::{DtlsFailure, DtlsState, TransportCloseReason},
};

use crate::{
    Arrival, Discard, Nanos,
    control::ControlQueue,
    key::TransportKey,
    link::{Link, Protection},
    srtp::{MasterKey, OpenKey, SealKey},
    worker::{ACTIONS_MAX, Action, Worker},
};

impl Worker {
    /// Begins the handshake, once, when the API has connected the transport and there is a pair: as
    /// a client we have nobody to speak to before (RFC 5763 section 6.7.1), and as a server nobody whose
    /// time could be measured.
    pub(crate) fn start_dtls(&mut self, key: TransportKey) {
        let Some(webrtc) = self.webrtc_mut(key) else {
            return;
        };
        let is_ready = webrtc.dtls_role.is_some() && webrtc.ice.selected().is_some();
        if is_ready && !std::mem::replace(&mut webrtc.dtls_started, is_ready) {
            self.actions.push(Action::StartDtls { transport: key.into() });
        }
    }

    /// A DTLS datagram of the peer, for the handshake threads.
    pub(crate) fn receive_dtls(
        &mut self,
        key: TransportKey,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let webrtc = self.webrtc_mut(key).ok_or(Discard::DtlsUnexpected)?;
        // Nobody is asked to look at more than a handshake can be long.
        if !webrtc.dtls_pace.take(arrival) {
            return Err(Discard::DtlsTooMany);
        }
        if self.actions.len() >= ACTIONS_MAX {
            return Err(Discard::LimitReached);
        }
        let datagram = datagram.to_vec();
        self.actions.push(Action::Dtls { transport: key.into(), datagram });
        Ok(())
    }

    /// The handshake has something to send.
    pub fn dtls_output(&mut self, transport: u64, datagram: &[u8], now: Nanos) {
        let key = TransportKey::from(transport);
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        if let Some(path) = transport.link.path() {
            transport.traffic.sent.add(datagram.len(), now);
            self.control.push(path, datagram);
        }
        self.set_dtls_state(key, DtlsState::Connecting, None, None);
    }

    /// The handshake is done: these are the keys, ours to seal with and the peer's to open with.
    pub fn dtls_connected(
        &mut self,
        transport: u64,
        ours: &MasterKey,
        theirs: &MasterKey,
        now: Nanos,
    ) {
        let key = TransportKey::from(transport);
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        // Once only: other keys on the same indices are another association's business.
        if !matches!(transport.link.protection, Protection::Awaited) {
            return;
        }
        let suite = ours.suite();
        transport.link.protection = Protection::Srtp(Box::new(OpenKey::new(theirs)));
        self.seal_keys.set(key.index(), Some(SealKey::new(ours)));
        self.renew_way(key);
        self.set_dtls_state(key, DtlsState::Connected, Some(suite.name()), None);
        self.look_at_layers(key, now);
    }

    /// A datagram that tells the peer that we close, sealed in advance: it leaves at once when the
    /// transport is closed, while its path is still there.
    pub fn dtls_goodbye(&mut self, transport: u64, datagram: Vec<u8>) {
        if let Some(webrtc) = self.webrtc_mut(TransportKey::from(transport)) {
            webrtc.goodbye = datagram.into();
        }
    }

    /// The handshake failed. Gives the transport's name.
    pub fn dtls_failed(&mut self, transport: u64, reason: DtlsFailure) -> Option<&str> {
        let key = TransportKey::from(transport);
        self.set_dtls_state(key, DtlsState::Failed, None, Some(reason));
        self.transports.get(key).map(|transport| transport.id.as_str())
    }

    /// The peer said goodbye: the transport is closed.
    pub fn dtls_closed(&mut self, transport: u64) {
        let key = TransportKey::from(transport);
        self.set_dtls_state(key, DtlsState::Closed, None, None);
        self.close_by_itself(key, TransportCloseReason::DtlsClosed);
    }

    /// The process ends: what [`Self::drain`] gives next tells all peers.
    pub fn say_goodbye_to_all(&mut self) {
        for (_, transport) in self.transports.iter() {
            say_goodbye(&transport.link, &mut self.control);
        }
    }

    fn set_dtls_state(
        &mut self,
        key: TransportKey,
        state: DtlsState,
        profile: Option<&str>,
        reason: Option<DtlsFailure>,
    ) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let Some(webrtc) = transport.link.as_webrtc_mut() else {
            return;
        };
        let over = matches!(webrtc.dtls_state, DtlsState::Closed | DtlsState::Failed);
        let back = webrtc.dtls_state == DtlsState::Connected && state == DtlsState::Connecting;
        if webrtc.dtls_state == state || over || back {
            return;
        }
        webrtc.dtls_state = state;
        let transport = transport.id.clone();
        let srtp_profile = profile.map(str::to_owned);
        self.events.push(Event::DtlsStateChange { transport, state, srtp_profile, reason });
    }
}

/// Tells the peer that we close, unless it has closed by itself, never had keys, or is not to be sent
/// to any more (RFC 7675 section 5.1).
pub(crate) fn say_goodbye(link: &Link, control: &mut ControlQueue) {
    if let Some(webrtc) = link.as_webrtc()
        && webrtc.dtls_state == DtlsState::Connected
        && !webrtc.goodbye.is_empty()
        && let Some(path) = webrtc.ice.selected()
    {
        control.push(path.id, &webrtc.goodbye);
    }
}

#[cfg(test)]
mod tests;
