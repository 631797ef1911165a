//! Runs tracks on a peer: sends what the sources make, when they make it; hands what arrives to
//! the receivers; answers and asks by RTCP. One task reads and keeps time, one more per source.
//! Tests and benches look at it through [`Session::receive_stats`] and [`Session::wait_for`].

mod feedback;
mod run;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use rtcp::{
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest},
        picture_loss_indication::PictureLossIndication,
    },
    transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    },
};
use tokio::{sync::Notify, task::JoinHandle};

use feedback::Feedback;
pub use feedback::FeedbackStats;

use crate::{
    clock,
    peer::{Peer, PeerError, PeerHandle, RtpArrival},
    receiver::{ReceiveOptions, ReceiveStats, ReceiveStream},
    source::{AudioOptions, Source, StreamReport, VideoOptions},
};

/// Sees each arriving packet before its receiver does.
pub type Tap = Box<dyn FnMut(&RtpArrival) + Send>;

/// Says whether a packet (by its header, before sealing) goes out at all.
pub type SendFilter = Box<dyn FnMut(&rtp::header::Header) -> bool + Send>;

/// Names a source of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceId(usize);

/// What arrived besides known streams.
#[derive(Debug, Clone, Default)]
pub struct SessionStats {
    /// Packets by SSRC that no receiver was told of.
    pub unknown: BTreeMap<u32, u64>,
    /// Compound packets.
    pub rtcp: u64,
    /// Transport-wide feedback about what this side sent.
    pub feedback: FeedbackStats,
    /// Last REMB, bits per second.
    pub remb_bps: Option<u64>,
    /// Packets that could not be sent.
    pub send_errors: u64,
}

struct State {
    sources: Vec<Option<Source>>,
    receivers: BTreeMap<u32, ReceiveStream>,
    rtx: BTreeMap<u32, u32>,
    feedback: Feedback,
    stats: SessionStats,
    remb_bps: Option<u64>,
    fir_sequence: u8,
    tap: Option<Tap>,
    send_filter: Option<SendFilter>,
    record: Option<Vec<Bytes>>,
}

pub(crate) struct Inner {
    handle: PeerHandle,
    local_ssrc: u32,
    cname: String,
    state: Mutex<State>,
    changed: Notify,
}

/// A peer with tracks. Dropping it ends its tasks; nobody is told, as when a client is killed.
pub struct Session {
    inner: Arc<Inner>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Session {
    fn drop(&mut self) {
        for task in self.tasks.lock().expect("no panic while locked").drain(..) {
            task.abort();
        }
    }
}

impl Session {
    /// Takes over a connected peer.
    #[must_use]
    pub fn new(peer: Peer) -> Self {
        let mut random = crate::random::Random::new(crate::random::entropy());
        let inner = Arc::new(Inner {
            handle: peer.handle(),
            local_ssrc: random.next_u32() | 1,
            cname: random.text(16),
            state: Mutex::new(State {
                sources: Vec::new(),
                receivers: BTreeMap::new(),
                rtx: BTreeMap::new(),
                feedback: Feedback::default(),
                stats: SessionStats::default(),
                remb_bps: None,
                fir_sequence: 0,
                tap: None,
                send_filter: None,
                record: None,
            }),
            changed: Notify::new(),
        });
        let reader = tokio::spawn(run::read(Arc::clone(&inner), peer));
        let timer = tokio::spawn(run::keep_time(Arc::clone(&inner)));
        Self { inner, tasks: Mutex::new(vec![reader, timer]) }
    }

    /// The peer beneath.
    #[must_use]
    pub fn peer(&self) -> &PeerHandle {
        &self.inner.handle
    }

    /// Starts a camera.
    pub fn send_video(&self, options: VideoOptions) -> SourceId {
        self.start(Source::video(options, clock::now_ns()))
    }

    /// Starts a microphone.
    pub fn send_audio(&self, options: AudioOptions) -> SourceId {
        self.start(Source::audio(options, clock::now_ns()))
    }

    fn start(&self, source: Source) -> SourceId {
        let interval = source.interval();
        let index = {
            let mut state = self.inner.lock();
            state.sources.push(Some(source));
            state.sources.len() - 1
        };
        let task = tokio::spawn(run::send(Arc::clone(&self.inner), index, interval));
        self.tasks.lock().expect("no panic while locked").push(task);
        SourceId(index)
    }

    /// Ends a source.
    pub fn stop(&self, source: SourceId) {
        self.inner.lock().sources[source.0] = None;
    }

    /// Pauses a source, or lets it go on.
    pub fn pause_source(&self, source: SourceId, paused: bool) {
        if let Some(source) = &mut self.inner.lock().sources[source.0] {
            source.set_paused(paused);
        }
    }

    /// Turns one layer of a source off or on.
    pub fn set_layer_active(&self, source: SourceId, layer: usize, active: bool) {
        if let Some(source) = &mut self.inner.lock().sources[source.0] {
            source.set_layer_active(layer, active);
        }
    }

    /// What the streams of a source sent and heard, lowest layer first; empty once it ended.
    #[must_use]
    pub fn source_reports(&self, source: SourceId) -> Vec<StreamReport> {
        self.inner.lock().sources[source.0].as_ref().map(Source::reports).unwrap_or_default()
    }

    /// When key frames were asked for.
    #[must_use]
    pub fn key_frame_request_times_ns(&self, source: SourceId) -> Vec<u64> {
        let state = self.inner.lock();
        state.sources[source.0]
            .as_ref()
            .map(|source| source.key_frame_request_times_ns.clone())
            .unwrap_or_default()
    }

    /// Expects a stream.
    pub fn receive(&self, options: ReceiveOptions) {
        let mut state = self.inner.lock();
        if let Some(rtx) = options.rtx_ssrc {
            state.rtx.insert(rtx, options.ssrc);
        }
        state.receivers.insert(options.ssrc, ReceiveStream::new(options));
    }

    /// No longer expects a stream.
    pub fn forget(&self, ssrc: u32) {
        let mut state = self.inner.lock();
        state.receivers.remove(&ssrc);
        state.rtx.retain(|_, of| *of != ssrc);
    }

    /// Figures of a received stream.
    #[must_use]
    pub fn receive_stats(&self, ssrc: u32) -> ReceiveStats {
        let state = self.inner.lock();
        state.receivers.get(&ssrc).map(ReceiveStream::stats).unwrap_or_default()
    }

    /// NTP and RTP time of the last sender report about a received stream.
    #[must_use]
    pub fn last_sender_report(&self, ssrc: u32) -> Option<(u64, u32)> {
        self.inner.lock().receivers.get(&ssrc).and_then(ReceiveStream::last_sender_report)
    }

    /// What arrived besides known streams.
    #[must_use]
    pub fn stats(&self) -> SessionStats {
        let state = self.inner.lock();
        let mut stats = state.stats.clone();
        stats.feedback = state.feedback.stats();
        stats
    }

    /// Says twice a second what this side can receive; `None` says nothing any more.
    pub fn set_remb(&self, bps: Option<u64>) {
        self.inner.lock().remb_bps = bps;
    }

    /// Shows each arriving packet to `tap`.
    pub fn set_tap(&self, tap: Option<Tap>) {
        self.inner.lock().tap = tap;
    }

    /// What `filter` answers false to is numbered and kept for repeats, but not sent: lost on the
    /// way to the server. Repeats are not asked about.
    pub fn set_send_filter(&self, filter: Option<SendFilter>) {
        self.inner.lock().send_filter = filter;
    }

    /// Asks for a key frame by PLI.
    pub async fn send_pli(&self, ssrc: u32) -> Result<(), PeerError> {
        let pli = PictureLossIndication { sender_ssrc: self.inner.local_ssrc, media_ssrc: ssrc };
        self.inner.handle.send_rtcp(&[Box::new(pli)]).await
    }

    /// Asks for a key frame by FIR (RFC 5104 section 4.3.1).
    pub async fn send_fir(&self, ssrc: u32) -> Result<(), PeerError> {
        let sequence_number = {
            let mut state = self.inner.lock();
            state.fir_sequence = state.fir_sequence.wrapping_add(1);
            state.fir_sequence
        };
        let fir = FullIntraRequest {
            sender_ssrc: self.inner.local_ssrc,
            media_ssrc: 0,
            fir: vec![FirEntry { ssrc, sequence_number }],
        };
        self.inner.handle.send_rtcp(&[Box::new(fir)]).await
    }

    /// Asks for packets by NACK, whether they arrived or not.
    pub async fn send_nack(&self, ssrc: u32, sequences: &[u16]) -> Result<(), PeerError> {
        let nack = TransportLayerNack {
            sender_ssrc: self.inner.local_ssrc,
            media_ssrc: ssrc,
            nacks: nack_pairs_from_sequence_numbers(sequences),
        };
        self.inner.handle.send_rtcp(&[Box::new(nack)]).await
    }

    /// The next `count` sealed RTP datagrams that the sources send.
    pub async fn record_sent(&self, count: usize) -> Vec<Bytes> {
        self.inner.lock().record = Some(Vec::new());
        let enough =
            || self.inner.lock().record.as_ref().is_none_or(|record| record.len() >= count);
        self.wait_until(Duration::from_secs(20), enough).await;
        let mut record = self.inner.lock().record.take().unwrap_or_default();
        record.truncate(count);
        record
    }

    /// Waits until a received stream's figures satisfy `enough`; gives the figures, or what they
    /// were when the time was over.
    pub async fn wait_for(
        &self,
        ssrc: u32,
        limit: Duration,
        mut enough: impl FnMut(&ReceiveStats) -> bool,
    ) -> Result<ReceiveStats, Box<ReceiveStats>> {
        let satisfied = self.wait_until(limit, || enough(&self.receive_stats(ssrc))).await;
        let stats = self.receive_stats(ssrc);
        if satisfied { Ok(stats) } else { Err(Box::new(stats)) }
    }

    /// Waits until something is so, looking again whenever something arrived or was sent; false
    /// when the time was over.
    pub async fn wait_until(&self, limit: Duration, mut so: impl FnMut() -> bool) -> bool {
        tokio::time::timeout(limit, async {
            loop {
                let changed = self.inner.changed.notified();
                if so() {
                    return;
                }
                changed.await;
            }
        })
        .await
        .is_ok()
    }
}

impl Inner {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no panic while locked")
    }
}
