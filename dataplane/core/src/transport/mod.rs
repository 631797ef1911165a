//! One peer: its link, the tables that find a stream, and what is to be sent. The two ways of a packet
//! are in [3] `receive.rs` and [7] `send.rs`; RTCP in `reports.rs`. How bytes reach the peer is not
//! known here: see [`crate::link`].

mod clock;
pub mod demux;
pub mod feedback;
pub mod receive;
mod recent;
mod replay;
pub mod reports;
mod retired;
mod round_trip;
pub mod send;
mod sources;

use ironcast_protocol::{
    Id,
    event::{DtlsState, IceState},
    snapshot::TransportState,
};

use self::{
    clock::Clocks,
    demux::Demux,
    feedback::TransportFeedback,
    replay::RtcpWindows,
    retired::Retired,
    round_trip::RoundTrip,
    sources::{EarlyNumbers, Sources},
};
use crate::{
    Arrival, Nanos, SECOND,
    budget::Budget,
    key::{ConsumerKey, ProducerKey, RouterKey},
    link::Link,
    meter::Meter,
    numbers::{RtcpIndex, SentSeq},
    pace::Pace,
    recover::allowance::Allowance,
    wire::{extension::parse_transport_sequence, rtp::Header},
};

/// SSRCs that go from one stream to another because their labels say so: so many at once, then one in
/// such a time. A browser that uses a transceiver again moves one.
const MOVES: u64 = 8;
const MOVE_EVERY: Nanos = SECOND / 2;

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
    pub fn add(&mut self, len: usize, at: Nanos) {
        self.bytes += len as u64;
        self.meter.add(len, at);
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

/// How far a round of sender reports is: of very many sent tracks it takes some calls. One that is moved
/// to a place that the round has passed waits for the next round.
#[derive(Debug)]
pub(crate) struct ReportRound {
    /// Place of the next one.
    pub(crate) at: usize,
    /// When the first of those before it is due.
    pub(crate) first: Nanos,
    /// The largest loss that a receiver reported of those before it, of 256.
    pub(crate) lost: u8,
}

impl Default for ReportRound {
    fn default() -> Self {
        Self { at: 0, first: Nanos::MAX, lost: 0 }
    }
}

/// One peer.
#[derive(Debug)]
pub struct Transport {
    /// The caller's id.
    pub id: Id,
    /// Its room, and where it stands in its list.
    pub router: RouterKey,
    pub(crate) at_router: u32,
    /// How bytes reach it.
    pub link: Link,
    pub(crate) rtcp: RtcpWindows,
    pub(crate) rtcp_index: RtcpIndex,
    /// Which stream an SSRC, MID or RID is.
    pub demux: Demux,
    /// SSRCs that no stream has.
    pub(crate) sources: Sources,
    /// How often SSRCs go from one stream to another.
    pub(crate) moves: Pace,
    /// Which extensions carry the transport-wide number, as any producer has said.
    transport_cc_ids: Vec<u8>,
    /// What may be such numbers, until one says it.
    early: EarlyNumbers,
    /// Transport-wide feedback to the publisher.
    pub feedback: TransportFeedback,
    /// Received tracks.
    pub producers: Vec<ProducerKey>,
    /// Sent tracks.
    pub consumers: Vec<ConsumerKey>,
    /// It goes, in portions.
    pub(crate) is_closing: bool,
    /// SSRCs of sent tracks that have ended: nothing that comes back uses an index again.
    pub(crate) retired: Retired,
    /// Sent tracks by SSRC and RTX SSRC.
    pub(crate) consumer_ssrcs: std::collections::BTreeMap<u32, ConsumerKey>,
    /// Consumers with something to send in this turn.
    pub(crate) pending: Vec<ConsumerKey>,
    /// Packets to send again in this turn.
    pub(crate) resends: Vec<(ConsumerKey, SentSeq)>,
    /// How many repeats it gets.
    pub(crate) allowance: Allowance,
    pub(crate) queued: bool,
    pub(crate) touched: bool,
    /// Producers that something came for, and when the first of the others has something to do, or
    /// earlier.
    pub(crate) stirred: Vec<ProducerKey>,
    pub(crate) producers_at: Nanos,
    /// So many producers have had this second's reports.
    pub(crate) reported: usize,
    /// What the peer can receive.
    pub budget: Budget,
    /// What audio takes of it, or took a while ago.
    pub(crate) audio_bps: u64,
    pub(crate) layers_at: Nanos,
    /// It is among those whose layers are to be looked at.
    pub(crate) awaits_look: bool,
    /// When the first sender report of its sent tracks is due, or earlier; or a round of them goes on.
    pub(crate) sender_reports_at: Nanos,
    pub(crate) report_round: ReportRound,
    /// The largest loss of its sent tracks, of 256, and of its received ones: as of the last reports.
    pub(crate) loss_sent: u8,
    pub(crate) loss_received: Option<f64>,
    /// What is done now and then for many of them is done at moments counted from here.
    pub(crate) began: Nanos,
    pub(crate) reports_at: Nanos,
    /// To what the peer publishes.
    pub(crate) publisher_rtt: RoundTrip,
    /// Bits per second the peer may send; 0: no limit.
    pub max_incoming_bps: u32,
    /// The REMB that was sent last.
    pub remb_sent_bps: Option<u64>,
    /// How often the publisher was told that there is no limit any more.
    pub(crate) lifted: u8,
    /// The publisher's wall clocks to ours.
    pub(crate) clocks: Clocks,
    /// Bytes by kind.
    pub traffic: TrafficCounters,
    /// The entry of this transport in the worker's timers.
    pub(crate) timer_at: Nanos,
}

impl Transport {
    /// A transport of a room.
    #[must_use]
    pub fn new(
        id: Id,
        router: RouterKey,
        link: Link,
        initial_bps: u32,
        rtcp_index: RtcpIndex,
        now: Nanos,
    ) -> Self {
        Self {
            id,
            router,
            at_router: 0,
            demux: Demux::new(link.is_pipe()),
            link,
            rtcp: RtcpWindows::default(),
            rtcp_index,
            sources: Sources::default(),
            moves: Pace::new(MOVES, MOVE_EVERY),
            transport_cc_ids: Vec::new(),
            early: EarlyNumbers::default(),
            feedback: TransportFeedback::default(),
            producers: Vec::new(),
            consumers: Vec::new(),
            is_closing: false,
            retired: Retired::default(),
            consumer_ssrcs: std::collections::BTreeMap::new(),
            pending: Vec::new(),
            resends: Vec::new(),
            allowance: Allowance::default(),
            queued: false,
            touched: false,
            stirred: Vec::new(),
            producers_at: 0,
            reported: 0,
            budget: Budget::new(initial_bps, now),
            audio_bps: 0,
            layers_at: now,
            awaits_look: false,
            sender_reports_at: Nanos::MAX,
            report_round: ReportRound::default(),
            loss_sent: 0,
            loss_received: None,
            began: now,
            reports_at: now + SECOND,
            publisher_rtt: RoundTrip::default(),
            max_incoming_bps: 0,
            remb_sent_bps: None,
            lifted: 0,
            clocks: Clocks::default(),
            traffic: TrafficCounters::default(),
            timer_at: Nanos::MAX,
        }
    }

    /// A producer tells which extension carries the transport-wide number: what came before is
    /// reported now.
    pub(crate) fn learn_transport_cc(&mut self, id: u8) {
        if !self.transport_cc_ids.contains(&id) {
            self.transport_cc_ids.push(id);
        }
        self.early.tell(id, &self.demux, &mut self.feedback);
    }

    /// A verified packet that no producer gets has arrived all the same. It may be of a track that is to
    /// come, which most likely numbers its extensions as the others do, but need not:
    /// what is far from the other numbers is none.
    pub(crate) fn acknowledge(&mut self, header: &Header, datagram: &[u8], arrival: Arrival) {
        let number = header.extensions(datagram).find_map(|(id, value)| {
            let carries = self.demux.carries_number(header.payload_type, id);
            carries.unwrap_or_else(|| self.transport_cc_ids.contains(&id)).then_some(())?;
            parse_transport_sequence(value).filter(|seq| self.feedback.is_near(*seq))
        });
        match number {
            Some(seq) => self.feedback.receive(seq, arrival),
            None => self.early.note(header, datagram, arrival),
        }
    }

    /// SSRCs without a stream, and values that may be numbers.
    #[cfg(feature = "audit")]
    pub(crate) fn remembered(&self) -> (usize, usize) {
        (self.sources.len(), self.early.len())
    }

    /// The SSRC that feedback is about: browsers take none about a stranger.
    pub(crate) fn feedback_ssrc(&self) -> u32 {
        self.demux.any_ssrc().or_else(|| self.sources.newest()).unwrap_or_default()
    }

    /// True when media can leave.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.link.way().is_some()
    }

    /// Before repeats: how many there may be now.
    pub(crate) fn fill_allowance(&mut self, now: Nanos) {
        let sent_bps = self.traffic.rtp_sent.meter.rate_bps(now);
        self.allowance.fill(sent_bps, self.budget.is_full(), now);
    }

    /// Everything that changes, for snapshots.
    #[must_use]
    pub fn state(&self) -> TransportState {
        let webrtc = self.link.as_webrtc();
        TransportState {
            ice_state: webrtc.map_or(IceState::New, |webrtc| webrtc.ice.state()),
            tuple: self.link.tuple(),
            rtcp_tuple: self.link.rtcp_tuple(),
            dtls_state: webrtc.map_or(DtlsState::New, |webrtc| webrtc.dtls_state),
            dtls_local_role: webrtc.and_then(|webrtc| webrtc.dtls_role),
            srtp_profile: self.link.suite().map(|suite| suite.name().to_owned()),
            max_incoming_bps: self.max_incoming_bps,
            max_outgoing_bps: self.budget.max_bps,
            min_outgoing_bps: self.budget.min_bps,
        }
    }
}
