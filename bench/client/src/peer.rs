//! One participant's transport: a UDP socket with ICE, DTLS and SRTP on it. Owns all keys and the
//! task that reads the socket; called by [`crate::session`], tests and benches. Knows nothing of
//! codecs, never paces, never repeats a packet by itself.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use rtp::{header::Header, packet::Packet};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use webrtc_util::marshal::{Marshal, MarshalSize, Unmarshal};

use crate::{
    handshake::{self, Association, DtlsRole, Fingerprint, Pipe},
    ice::IceAgent,
    link::Link,
    random::{Random, entropy},
    sequence::SequenceTracker,
    srtp::{Contexts, SrtpProfile},
    stun,
};

/// Packets that wait for the application; more are dropped and counted.
const INCOMING_MAX: usize = 16_384;
/// Datagrams kept while the handshake has not given keys yet.
const EARLY_MAX: usize = 256;
const DTLS_QUEUE_MAX: usize = 64;

/// Box of one RTCP packet.
pub type RtcpPacket = Box<dyn rtcp::packet::Packet + Send + Sync>;

/// Why a peer could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The socket.
    #[error("socket: {0}")]
    Io(#[from] io::Error),
    /// No candidate answered.
    #[error("no candidate answered a check within {0:?}")]
    IceTimeout(Duration),
    /// Handshake.
    #[error("DTLS: {0}")]
    Dtls(String),
    /// The peer's certificate is not the announced one.
    #[error("the peer's certificate does not match its fingerprint")]
    Fingerprint,
    /// Keys, sealing.
    #[error("SRTP: {0}")]
    Srtp(String),
    /// A packet that cannot be written.
    #[error("packet: {0}")]
    Packet(String),
    /// Before the handshake, or after the end.
    #[error("not connected")]
    NotConnected,
}

/// How a peer behaves.
#[derive(Debug, Clone)]
pub struct PeerOptions {
    /// Local address; the port is always a free one.
    pub bind: IpAddr,
    /// Offered in this order.
    pub profiles: Vec<SrtpProfile>,
    /// DTLS role.
    pub role: DtlsRole,
    /// Time between consent checks (RFC 7675).
    pub consent_interval: Duration,
    /// For candidates to answer, and again for the handshake.
    pub connect_timeout: Duration,
    /// What is done with received RTP.
    pub mode: ReceiveMode,
    /// Keeps the sealed datagram of each RTP packet, to compare repeats byte by byte.
    pub keep_sealed: bool,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            profiles: vec![SrtpProfile::Gcm128, SrtpProfile::Gcm256, SrtpProfile::AesCm128],
            role: DtlsRole::Client,
            consent_interval: Duration::from_millis(2_500),
            connect_timeout: Duration::from_secs(10),
            mode: ReceiveMode::Deliver,
            keep_sealed: false,
        }
    }
}

/// What is done with received RTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReceiveMode {
    /// All is opened and delivered.
    Deliver,
    /// Every stream is counted by its headers; of `period` blocks of 16 packets one is opened and
    /// delivered, block `phase` (less than `period`): cheap, yet every stream is checked.
    Sample {
        /// One block of so many.
        period: u16,
        /// Which of them.
        phase: u16,
    },
}

/// ICE credentials of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IceCredentials {
    /// Username fragment.
    pub username_fragment: String,
    /// Password.
    pub password: String,
}

/// The other side, as its answer to "create transport" describes it.
#[derive(Debug, Clone)]
pub struct Remote {
    /// Its credentials.
    pub ice: IceCredentials,
    /// Where it can be reached, best first; none when it will come to us.
    pub candidates: Vec<SocketAddr>,
    /// Hashes of its certificate.
    pub fingerprints: Vec<Fingerprint>,
}

/// Where a peer is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerState {
    /// Not connected yet.
    New,
    /// Media can flow.
    Connected(SrtpProfile),
    /// Over, and why.
    Closed(&'static str),
}

/// What a peer received.
#[derive(Debug)]
pub enum Incoming {
    /// An RTP packet.
    Rtp(RtpArrival),
    /// A compound RTCP packet.
    Rtcp {
        /// Its parts.
        packets: Vec<RtcpPacket>,
        /// As it came, opened.
        raw: Bytes,
        /// [`clock::now_ns`] at arrival.
        at_ns: u64,
    },
}

/// A received RTP packet.
#[derive(Debug, Clone)]
pub struct RtpArrival {
    /// Opened; padding is taken off the payload.
    pub packet: Packet,
    /// As it came, opened.
    pub raw: Bytes,
    /// As it came on the wire, if [`PeerOptions::keep_sealed`].
    pub sealed: Option<Bytes>,
    /// [`clock::now_ns`] at arrival.
    pub at_ns: u64,
}

/// What a peer counts; all since its start.
#[derive(Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub datagrams_in: AtomicU64,
    pub bytes_in: AtomicU64,
    pub checks_sent: AtomicU64,
    pub checks_answered: AtomicU64,
    pub checks_received: AtomicU64,
    pub rtp_in: AtomicU64,
    pub rtcp_in: AtomicU64,
    pub rtp_out: AtomicU64,
    pub rtcp_out: AtomicU64,
    pub unauthenticated: AtomicU64,
    pub malformed: AtomicU64,
    pub overflow: AtomicU64,
    pub filtered: AtomicU64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

type Filter = Box<dyn FnMut(&Header) -> bool + Send>;

#[derive(Default)]
struct Receiving {
    early: Vec<(Bytes, u64)>,
    filter: Option<Filter>,
    streams: BTreeMap<u32, SequenceTracker>,
}

/// What the tasks of a peer share.
pub(crate) struct Shared {
    pub(crate) link: Arc<Link>,
    pub(crate) options: PeerOptions,
    pub(crate) ice: Mutex<IceAgent>,
    pub(crate) selected: Arc<Mutex<Option<SocketAddr>>>,
    pub(crate) ice_progress: tokio::sync::Notify,
    pub(crate) counters: Counters,
    pub(crate) consent_paused: AtomicBool,
    state: watch::Sender<PeerState>,
    contexts: Mutex<Option<Contexts>>,
    receiving: Mutex<Receiving>,
    dtls_tx: mpsc::Sender<Vec<u8>>,
    incoming_tx: mpsc::Sender<Incoming>,
    transport_sequence: AtomicU16,
    association: tokio::sync::Mutex<Option<Arc<dtls::conn::DTLSConn>>>,
}

/// A participant's transport. Dropping it is a killed client: nobody is told.
pub struct Peer {
    handle: PeerHandle,
    incoming: mpsc::Receiver<Incoming>,
    dtls_rx: Option<mpsc::Receiver<Vec<u8>>>,
    certificate: dtls::crypto::Certificate,
    tasks: Vec<JoinHandle<()>>,
}

/// The part of a peer that many can hold: sending, state, counters.
#[derive(Clone)]
pub struct PeerHandle {
    shared: Arc<Shared>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl std::ops::Deref for Peer {
    type Target = PeerHandle;

    fn deref(&self) -> &PeerHandle {
        &self.handle
    }
}

impl Peer {
    /// Binds a socket and makes a certificate; must be called within a tokio runtime.
    pub fn new(options: PeerOptions) -> Result<Self, PeerError> {
        let certificate = handshake::certificate()?;
        let mut random = Random::new(entropy());
        let (dtls_tx, dtls_rx) = mpsc::channel(DTLS_QUEUE_MAX);
        let (incoming_tx, incoming) = mpsc::channel(INCOMING_MAX);
        let shared = Arc::new(Shared {
            link: Arc::new(Link::bind(options.bind)?),
            ice: Mutex::new(IceAgent::new(&mut random)),
            selected: Arc::default(),
            ice_progress: tokio::sync::Notify::new(),
            counters: Counters::default(),
            consent_paused: AtomicBool::new(false),
            state: watch::Sender::new(PeerState::New),
            contexts: Mutex::new(None),
            receiving: Mutex::default(),
            dtls_tx,
            incoming_tx,
            transport_sequence: AtomicU16::new(random.next_u32() as u16),
            association: tokio::sync::Mutex::new(None),
            options,
        });
        let reader = tokio::spawn(read_socket(Arc::clone(&shared)));
        Ok(Self {
            handle: PeerHandle { shared },
            incoming,
            dtls_rx: Some(dtls_rx),
            certificate,
            tasks: vec![reader],
        })
    }

    /// A task that ends with this peer.
    pub(crate) fn keep(&mut self, task: JoinHandle<()>) {
        self.tasks.push(task);
    }

    /// Hash of this peer's certificate: goes to the server's connect call.
    #[must_use]
    pub fn local_fingerprint(&self) -> Fingerprint {
        handshake::fingerprint(&self.certificate.certificate[0])
    }

    /// The ICE-controlling side: checks the candidates, then the handshake. Returns when media can
    /// flow.
    pub async fn connect(&mut self, remote: Remote) -> Result<SrtpProfile, PeerError> {
        let limit = self.shared.options.connect_timeout;
        self.shared.ice.lock().expect("no panic while locked").control(&remote);
        self.shared.run_checks(limit).await?;
        self.tasks.push(tokio::spawn(keep_consent(Arc::clone(&self.handle.shared))));
        self.associate(&remote.fingerprints).await
    }

    /// The ICE-lite side: waits to be nominated, then the handshake.
    pub async fn accept(&mut self, fingerprints: &[Fingerprint]) -> Result<SrtpProfile, PeerError> {
        let limit = self.shared.options.connect_timeout;
        tokio::time::timeout(limit, async {
            while self.remote_addr().is_none() {
                self.shared.ice_progress.notified().await;
            }
        })
        .await
        .map_err(|_| PeerError::IceTimeout(limit))?;
        self.associate(fingerprints).await
    }

    /// The next packet, in the order of arrival; `None` after [`PeerHandle::close`] or the end.
    pub async fn recv(&mut self) -> Option<Incoming> {
        if let Ok(incoming) = self.incoming.try_recv() {
            return Some(incoming);
        }
        let mut state = self.handle.shared.state.subscribe();
        tokio::select! {
            incoming = self.incoming.recv() => incoming,
            _ = state.wait_for(|state| matches!(state, PeerState::Closed(_))) => None,
        }
    }

    /// For those who send and look on.
    #[must_use]
    pub fn handle(&self) -> PeerHandle {
        self.handle.clone()
    }

    async fn associate(&mut self, expected: &[Fingerprint]) -> Result<SrtpProfile, PeerError> {
        let shared = &self.handle.shared;
        let incoming = self.dtls_rx.take().ok_or(PeerError::NotConnected)?;
        let pipe = Pipe {
            link: Arc::clone(&shared.link),
            remote: Arc::clone(&shared.selected),
            incoming: tokio::sync::Mutex::new(incoming),
        };
        let options = &shared.options;
        let Association { conn, contexts } = handshake::associate(
            pipe,
            options.role,
            self.certificate.clone(),
            &options.profiles,
            expected,
            options.connect_timeout,
        )
        .await?;
        let profile = contexts.profile;
        let conn = Arc::new(conn);
        *shared.association.lock().await = Some(Arc::clone(&conn));
        shared.start_media(contexts);
        self.tasks.push(tokio::spawn(watch_association(Arc::clone(shared), conn)));
        Ok(profile)
    }
}

impl PeerHandle {
    /// Seals and sends an RTP packet.
    pub async fn send_rtp(&self, packet: &Packet) -> Result<(), PeerError> {
        let sealed = self.seal_rtp(packet)?;
        count(&self.shared.counters.rtp_out);
        self.send_datagram(&sealed).await
    }

    /// Seals without sending. The same packet must not be sealed twice with different bytes:
    /// whoever repeats keeps what this gave.
    pub fn seal_rtp(&self, packet: &Packet) -> Result<Bytes, PeerError> {
        let plain = marshal_rtp(packet)?;
        let mut contexts = self.shared.contexts.lock().expect("no panic while locked");
        let contexts = contexts.as_mut().ok_or(PeerError::NotConnected)?;
        contexts.send.encrypt_rtp(&plain).map_err(|error| PeerError::Srtp(error.to_string()))
    }

    /// Seals and sends a compound RTCP packet.
    pub async fn send_rtcp(&self, packets: &[RtcpPacket]) -> Result<(), PeerError> {
        if packets.is_empty() {
            return Ok(());
        }
        let plain =
            rtcp::packet::marshal(packets).map_err(|error| PeerError::Packet(error.to_string()))?;
        self.send_rtcp_bytes(&plain).await
    }

    /// The same for bytes that are already written (or wrong on purpose; the first header must be
    /// one of RTCP).
    pub async fn send_rtcp_bytes(&self, plain: &[u8]) -> Result<(), PeerError> {
        let sealed = {
            let mut contexts = self.shared.contexts.lock().expect("no panic while locked");
            let contexts = contexts.as_mut().ok_or(PeerError::NotConnected)?;
            contexts.send.encrypt_rtcp(plain)
        }
        .map_err(|error| PeerError::Srtp(error.to_string()))?;
        count(&self.shared.counters.rtcp_out);
        self.send_datagram(&sealed).await
    }

    /// Sends bytes as they are to the selected address.
    pub async fn send_datagram(&self, datagram: &[u8]) -> Result<(), PeerError> {
        let to = self.remote_addr().ok_or(PeerError::NotConnected)?;
        Ok(self.shared.link.send(datagram, to).await?)
    }

    /// The next transport-wide sequence number of what this peer sends.
    #[must_use]
    pub fn next_transport_sequence(&self) -> u16 {
        self.shared.transport_sequence.fetch_add(1, Ordering::Relaxed)
    }

    /// Goes on from another port (and address, if another is given) without telling anybody: the
    /// server hears of it with the next consent check.
    pub fn rebind(&self, bind: Option<IpAddr>) -> Result<(), PeerError> {
        Ok(self.shared.link.rebind(bind.unwrap_or(self.shared.options.bind))?)
    }

    /// After the server's ICE restart: new credentials, checked and nominated at once.
    pub async fn restart_ice(&self, remote: IceCredentials) -> Result<(), PeerError> {
        self.shared.ice.lock().expect("no panic while locked").restart(remote);
        self.shared.run_checks(self.shared.options.connect_timeout).await
    }

    /// Sends one check on the selected path now.
    pub fn check_now(&self) {
        self.shared.send_consent_check();
    }

    /// Stops consent checks, as a client that vanished.
    pub fn pause_consent(&self, paused: bool) {
        self.shared.consent_paused.store(paused, Ordering::Relaxed);
    }

    /// `filter` sees each opened RTP header; what it answers false to is dropped as if the network
    /// had lost it.
    pub fn set_filter(&self, filter: Option<Filter>) {
        self.shared.receiving.lock().expect("no panic while locked").filter = filter;
    }

    /// Ends the association with close_notify; [`Peer::recv`] then ends.
    pub async fn close(&self) {
        let association = self.shared.association.lock().await.take();
        if let Some(association) = association {
            // The peer may be gone already; closing is then done all the same.
            let _ = association.close().await;
        }
        self.shared.set_closed("closed here");
    }

    /// This peer's own ICE credentials (the ICE-lite side announces them).
    #[must_use]
    pub fn local_ice(&self) -> IceCredentials {
        self.shared.ice.lock().expect("no panic while locked").local.clone()
    }

    /// Where this peer receives.
    pub fn local_addr(&self) -> Result<SocketAddr, PeerError> {
        Ok(self.shared.link.local_addr()?)
    }

    /// The selected address of the other side.
    #[must_use]
    pub fn remote_addr(&self) -> Option<SocketAddr> {
        *self.shared.selected.lock().expect("no panic while locked")
    }

    /// DTLS role.
    #[must_use]
    pub fn role(&self) -> DtlsRole {
        self.shared.options.role
    }

    /// State, and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<PeerState> {
        self.shared.state.subscribe()
    }

    /// Counts.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// What headers alone say of each received stream, by SSRC (only [`ReceiveMode::Sample`]).
    #[must_use]
    pub fn streams(&self) -> BTreeMap<u32, SequenceTracker> {
        self.shared.receiving.lock().expect("no panic while locked").streams.clone()
    }
}

impl Shared {
    fn set_closed(&self, reason: &'static str) {
        self.state.send_if_modified(|state| {
            let open = !matches!(state, PeerState::Closed(_));
            if open {
                *state = PeerState::Closed(reason);
            }
            open
        });
    }

    fn start_media(&self, contexts: Contexts) {
        let profile = contexts.profile;
        *self.contexts.lock().expect("no panic while locked") = Some(contexts);
        let early =
            std::mem::take(&mut self.receiving.lock().expect("no panic while locked").early);
        for (datagram, at_ns) in early {
            self.receive_media(&datagram, at_ns);
        }
        self.state.send_replace(PeerState::Connected(profile));
    }

    /// One datagram, by its first byte (RFC 7983).
    fn receive(&self, from: SocketAddr, datagram: &[u8], at_ns: u64) {
        count(&self.counters.datagrams_in);
        self.counters.bytes_in.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        match datagram.first() {
            Some(0..=3) if stun::is_stun(datagram) => self.receive_stun(from, datagram),
            Some(20..=63) => {
                if self.dtls_tx.try_send(datagram.to_vec()).is_err() {
                    count(&self.counters.overflow);
                }
            }
            Some(128..=191) if datagram.len() >= 12 => {
                self.receive_media(datagram, at_ns);
            }
            _ => count(&self.counters.malformed),
        }
    }

    fn receive_media(&self, datagram: &[u8], at_ns: u64) {
        // RFC 5761 section 4: RTCP packet types in the second byte.
        if (192..=223).contains(&datagram[1]) {
            self.receive_rtcp(datagram, at_ns);
        } else {
            self.receive_rtp(datagram, at_ns);
        }
    }

    fn receive_rtp(&self, datagram: &[u8], at_ns: u64) {
        count(&self.counters.rtp_in);
        let ssrc = u32::from_be_bytes([datagram[8], datagram[9], datagram[10], datagram[11]]);
        let mut receiving = self.receiving.lock().expect("no panic while locked");
        if let ReceiveMode::Sample { period, phase } = self.options.mode {
            let sequence = u16::from_be_bytes([datagram[2], datagram[3]]);
            let known = receiving.streams.get_mut(&ssrc).map(|stream| stream.receive(sequence).0);
            match known {
                Some(index) if (index >> 4) % u64::from(period) != u64::from(phase) => return,
                Some(_) => {}
                // The first one is always opened: from it the keys know where the cycle begins.
                None => {
                    receiving.streams.insert(ssrc, SequenceTracker::new(sequence).1);
                }
            }
        }
        let mut contexts = self.contexts.lock().expect("no panic while locked");
        let Some(contexts) = contexts.as_mut() else {
            if receiving.early.len() < EARLY_MAX {
                receiving.early.push((Bytes::copy_from_slice(datagram), at_ns));
            }
            return;
        };
        let Ok(raw) = contexts.receive.decrypt_rtp(datagram) else {
            count(&self.counters.unauthenticated);
            if let Some(stream) = receiving.streams.get_mut(&ssrc) {
                stream.unopened += 1;
            }
            return;
        };
        let Ok(packet) = Packet::unmarshal(&mut raw.clone()) else {
            count(&self.counters.malformed);
            return;
        };
        if let Some(filter) = &mut receiving.filter
            && !filter(&packet.header)
        {
            count(&self.counters.filtered);
            return;
        }
        let sealed = self.options.keep_sealed.then(|| Bytes::copy_from_slice(datagram));
        self.deliver(Incoming::Rtp(RtpArrival { packet, raw, sealed, at_ns }));
    }

    fn receive_rtcp(&self, datagram: &[u8], at_ns: u64) {
        count(&self.counters.rtcp_in);
        let raw = {
            let mut contexts = self.contexts.lock().expect("no panic while locked");
            let Some(contexts) = contexts.as_mut() else {
                let early = &mut self.receiving.lock().expect("no panic while locked").early;
                if early.len() < EARLY_MAX {
                    early.push((Bytes::copy_from_slice(datagram), at_ns));
                }
                return;
            };
            match contexts.receive.decrypt_rtcp(datagram) {
                Ok(raw) => raw,
                Err(_) => return count(&self.counters.unauthenticated),
            }
        };
        match rtcp::packet::unmarshal(&mut raw.clone()) {
            Ok(packets) => self.deliver(Incoming::Rtcp { packets, raw, at_ns }),
            Err(_) => count(&self.counters.malformed),
        }
    }

    fn deliver(&self, incoming: Incoming) {
        if self.incoming_tx.try_send(incoming).is_err() {
            count(&self.counters.overflow);
        }
    }
}

/// A packet's bytes before sealing.
pub fn marshal_rtp(packet: &Packet) -> Result<Bytes, PeerError> {
    let mut bytes = vec![0; packet.marshal_size()];
    let written =
        packet.marshal_to(&mut bytes).map_err(|error| PeerError::Packet(error.to_string()))?;
    bytes.truncate(written);
    Ok(bytes.into())
}

async fn read_socket(shared: Arc<Shared>) {
    loop {
        let take = |from, datagram: &[u8], at_ns| shared.receive(from, datagram, at_ns);
        let received = shared.link.receive(take).await;
        if let Err(error) = received {
            // An ICMP error of an earlier send ends up here: the path may come back.
            tracing::debug!(%error, "receive");
            tokio::task::yield_now().await;
        }
    }
}

async fn keep_consent(shared: Arc<Shared>) {
    let mut ticks = tokio::time::interval(shared.options.consent_interval);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if !shared.consent_paused.load(Ordering::Relaxed) {
            shared.send_consent_check();
        }
    }
}

/// Ends the peer when the other side ends the association.
async fn watch_association(shared: Arc<Shared>, conn: Arc<dtls::conn::DTLSConn>) {
    let mut application_data = vec![0; 2_048];
    while let Ok(1..) = conn.read(&mut application_data, None).await {}
    shared.set_closed("close_notify");
}
