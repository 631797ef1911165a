//! The link of a browser: ICE finds the path (`ice.rs`, fed by the checks that `stun.rs` reads), DTLS
//! gives the keys (`dtls.rs`).

pub(crate) mod dtls;
pub mod ice;
pub(crate) mod stun;

use ironcast_protocol::{
    command::{CandidateKinds, DtlsRole, TransportProtocol},
    event::{DtlsState, TransportCloseReason},
};

use self::ice::{Change, Ice};
use crate::{MS, Nanos, SECOND, key::TransportKey, pace::Pace, worker::Worker};

/// A browser says that another SSRC takes a stream's place, by its MID.
pub(super) const SILENT_AFTER: Nanos = 10 * SECOND;

/// Peers that are disconnected in one turn: the sockets of each take the kernel some 10 us. A whole
/// office goes at once.
const LOST_MAX: u32 = 16;
/// Datagrams of a peer that the handshake threads, which are everybody's, are given: so many at once, then
/// one in such a time. A handshake has some ten, and repeats them some times.
const DTLS_AT_ONCE: u64 = 64;
const DTLS_EVERY: Nanos = 25 * MS;

/// See the file's head.
#[derive(Debug)]
pub struct WebRtc {
    /// Paths, checks, consent.
    pub(crate) ice: Ice,
    /// Of what it has candidates.
    pub(crate) candidates: CandidateKinds,
    /// DTLS, as the handshake reports it.
    pub(crate) dtls_state: DtlsState,
    /// Our role, once connected by the API.
    pub(crate) dtls_role: Option<DtlsRole>,
    /// The handshake was told to begin.
    dtls_started: bool,
    pub(crate) dtls_pace: Pace,
    /// Tells the peer that we close; sealed in advance, empty before the handshake is done.
    goodbye: Box<[u8]>,
}

impl WebRtc {
    /// With our credentials, before any check.
    #[must_use]
    pub fn new(ice: Ice, candidates: CandidateKinds) -> Self {
        Self {
            ice,
            candidates,
            dtls_state: DtlsState::New,
            dtls_role: None,
            dtls_started: false,
            dtls_pace: Pace::new(DTLS_AT_ONCE, DTLS_EVERY),
            goodbye: Box::default(),
        }
    }

    /// Whether it has candidates of that protocol.
    pub(super) fn accepts(&self, protocol: TransportProtocol) -> bool {
        match protocol {
            TransportProtocol::Udp => self.candidates.udp,
            TransportProtocol::Tcp => self.candidates.tcp,
        }
    }

    /// When [`Worker::serve_webrtc`] has something to do.
    pub(super) fn deadline(&self, now: Nanos) -> Nanos {
        let consent = self.ice.consent_deadline().unwrap_or(Nanos::MAX);
        if self.ice.paths().len() > 1 { consent.min(now + SECOND) } else { consent }
    }
}

impl Worker {
    /// Consent, and paths that nobody uses. False when nothing else is to be done for it now: the peer is
    /// gone for good, or many are gone and it has to wait.
    pub(super) fn serve_webrtc(&mut self, key: TransportKey, now: Nanos) -> bool {
        let Some(webrtc) = self.webrtc_mut(key) else { return false };
        if webrtc.ice.is_over(now) {
            self.close_by_itself(key, TransportCloseReason::ConsentLost);
            return false;
        }
        if webrtc.ice.consent_lost(now) {
            self.lost += 1;
            if self.lost > LOST_MAX {
                let later = Nanos::from(self.lost / LOST_MAX);
                self.schedule(key, now + later * MS);
                return false;
            }
            self.disconnect(key, now);
        }
        if let Some(idle) = self.webrtc_mut(key).and_then(|webrtc| webrtc.ice.idle_path(now)) {
            self.leave_path(key, idle);
        }
        true
    }

    /// The peer is not there any more, as far as ICE can tell.
    pub(crate) fn disconnect(&mut self, key: TransportKey, now: Nanos) {
        let Some(webrtc) = self.webrtc_mut(key) else { return };
        let paths = webrtc.ice.disconnect(now);
        self.report_ice(key, Change { state: true, ..Change::default() });
        paths.into_iter().for_each(|path| self.leave_path(key, path));
    }

    pub(crate) fn webrtc(&self, key: TransportKey) -> Option<&WebRtc> {
        self.transports.get(key)?.link.as_webrtc()
    }

    pub(crate) fn webrtc_mut(&mut self, key: TransportKey) -> Option<&mut WebRtc> {
        self.transports.get_mut(key)?.link.as_webrtc_mut()
    }
}
