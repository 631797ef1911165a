//! One peer: ICE, keys, the tables that find a stream, and what is to be sent. The two ways of a
//! packet are in [3] `receive.rs` and [7] `send.rs`; RTCP in `reports.rs`, STUN in `stun.rs`.

pub mod demux;
pub mod feedback;
pub mod ice;
pub mod receive;
pub mod reports;
pub mod send;
pub(crate) mod stun;

use ironcast_protocol::{
    Id,
    command::{DtlsRole, Tuple},
    event::{DtlsState, IceState},
    snapshot::TransportState,
};

use self::{demux::Demux, feedback::TransportFeedback, ice::Ice};
use crate::{
    Nanos,
    budget::Budget,
    key::{ConsumerKey, ProducerKey, RouterKey},
    meter::Meter,
    srtp::{OpenKey, ReplayWindow, StreamIndex, Suite},
    wire::extension::ExtensionMap,
};

/// RTCP senders of one peer whose replay windows are kept.
pub(crate) const RTCP_SENDERS_MAX: usize = 128;

/// Received SSRCs of one peer that are remembered after their producers closed.
const RETIRED_SOURCES_MAX: usize = 256;

/// Bytes and rate of one kind of traffic.
#[derive(Debug, Clone, Copy, Default)]
pub struct Traffic {
    /// Since creation.
    pub bytes: u64,
    /// Now.
    pub meter: Meter,
}

impl Traffic {
    /// One more datagram.
    pub fn add(&mut self, len: usize, now: Nanos) {
        self.bytes += len as u64;
        self.meter.add(len, now);
    }
}

/// All traffic of a transport, by kind.
#[derive(Debug, Clone, Copy, Default)]
pub struct TrafficCounters {
    /// All that came.
    pub received: Traffic,
    /// All that left.
    pub sent: Traffic,
    /// RTP that came.
    pub rtp_received: Traffic,
    /// RTP that left.
    pub rtp_sent: Traffic,
    /// Retransmissions that came.
    pub rtx_received: Traffic,
    /// Retransmissions that left.
    pub rtx_sent: Traffic,
}

/// One peer.
#[derive(Debug)]
pub struct Transport {
    /// The caller's id.
    pub id: Id,
    /// Its room.
    pub router: RouterKey,
    /// Paths, checks, consent.
    pub ice: Ice,
    /// DTLS, as the handshake reports it.
    pub dtls_state: DtlsState,
    /// Our role, once connected by the API.
    pub dtls_role: Option<DtlsRole>,
    /// SRTP profile in use.
    pub suite: Option<Suite>,
    pub(crate) open_key: Option<Box<OpenKey>>,
    pub(crate) rtcp_windows: Vec<(u32, ReplayWindow)>,
    pub(crate) rtcp_index: u32,
    /// Which stream an SSRC, MID or RID is.
    pub demux: Demux,
    /// Extensions that producers here use, by id.
    pub extensions: ExtensionMap,
    /// Transport-wide feedback to the publisher.
    pub feedback: TransportFeedback,
    /// Received tracks.
    pub producers: Vec<ProducerKey>,
    /// Sent tracks.
    pub consumers: Vec<ConsumerKey>,
    /// SSRCs that were in use once, and the next index of each: nothing that comes back uses an
    /// index again.
    pub(crate) retired: Vec<(u32, u32)>,
    /// Where received SSRCs were when their producers closed: one that comes back goes on there, and
    /// what was sent before is not taken for new. The oldest are forgotten.
    pub(crate) retired_sources: std::collections::VecDeque<(u32, StreamIndex)>,
    /// Sent tracks by SSRC and RTX SSRC.
    pub(crate) consumer_ssrcs: std::collections::BTreeMap<u32, ConsumerKey>,
    /// Consumers with something to send in this turn.
    pub(crate) pending: Vec<ConsumerKey>,
    /// Packets to send again in this turn.
    pub(crate) resends: Vec<(ConsumerKey, u32)>,
    pub(crate) queued: bool,
    pub(crate) touched: bool,
    /// What the peer can receive.
    pub budget: Budget,
    pub(crate) layers_at: Nanos,
    pub(crate) reports_at: Nanos,
    /// Bits per second the peer may send; 0: no limit.
    pub max_incoming_bps: u32,
    /// The REMB that was sent last.
    pub remb_sent_bps: Option<u64>,
    /// How often the publisher was told that there is no limit any more.
    pub(crate) lifted: u8,
    /// The peer's wall clock to ours, nanoseconds to add.
    pub(crate) ntp_offset: Option<i64>,
    /// Bytes by kind.
    pub traffic: TrafficCounters,
    /// The entry of this transport in the worker's timers.
    pub(crate) timer_at: Nanos,
}

impl Transport {
    /// A transport of a room; the credentials are random, from outside.
    #[must_use]
    pub fn new(
        id: Id,
        router: RouterKey,
        ice: Ice,
        initial_bps: u32,
        rtcp_index: u32,
        now: Nanos,
    ) -> Self {
        Self {
            id,
            router,
            ice,
            dtls_state: DtlsState::New,
            dtls_role: None,
            suite: None,
            open_key: None,
            rtcp_windows: Vec::new(),
            rtcp_index,
            demux: Demux::default(),
            extensions: ExtensionMap::default(),
            feedback: TransportFeedback::default(),
            producers: Vec::new(),
            consumers: Vec::new(),
            retired: Vec::new(),
            retired_sources: std::collections::VecDeque::new(),
            consumer_ssrcs: std::collections::BTreeMap::new(),
            pending: Vec::new(),
            resends: Vec::new(),
            queued: false,
            touched: false,
            budget: Budget::new(initial_bps, now),
            layers_at: now,
            reports_at: now + crate::SECOND,
            max_incoming_bps: 0,
            remb_sent_bps: None,
            lifted: 0,
            ntp_offset: None,
            traffic: TrafficCounters::default(),
            timer_at: Nanos::MAX,
        }
    }

    /// Remembers where a received SSRC was.
    pub(crate) fn retire_source(&mut self, ssrc: u32, index: StreamIndex) {
        if index.newest().is_none() {
            return;
        }
        if self.retired_sources.len() >= RETIRED_SOURCES_MAX {
            self.retired_sources.pop_front();
        }
        self.retired_sources.push_back((ssrc, index));
    }

    /// Where a received SSRC was when its producer closed.
    pub(crate) fn retired_source(&self, ssrc: u32) -> Option<&StreamIndex> {
        self.retired_sources.iter().find(|(known, _)| *known == ssrc).map(|(_, index)| index)
    }

    /// Where a received SSRC goes on: at its beginning if it is new.
    pub(crate) fn revive_source(&mut self, ssrc: u32) -> StreamIndex {
        let at = self.retired_sources.iter().position(|(known, _)| *known == ssrc);
        let found = at.and_then(|at| self.retired_sources.remove(at));
        found.map(|(_, index)| index).unwrap_or_default()
    }

    /// True when media can leave.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.suite.is_some() && self.ice.selected().is_some()
    }

    /// Where the peer is.
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        self.ice.selected().map(|path| Tuple { local: path.local, remote: path.remote })
    }

    /// Everything that changes, for snapshots.
    #[must_use]
    pub fn state(&self) -> TransportState {
        TransportState {
            ice_state: self.ice_state(),
            tuple: self.tuple(),
            dtls_state: self.dtls_state,
            dtls_local_role: self.dtls_role,
            srtp_profile: self.suite.map(|suite| suite.name().to_owned()),
            max_incoming_bps: self.max_incoming_bps,
            max_outgoing_bps: self.budget.max_bps,
            min_outgoing_bps: self.budget.min_bps,
        }
    }

    /// ICE state.
    #[must_use]
    pub fn ice_state(&self) -> IceState {
        self.ice.state()
    }
}
