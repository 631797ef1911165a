//! The load of a reflector: the same frames at the same sizes, without crypto.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Result;
use ironcast_load::{
    AudioOptions, VideoOptions, clock,
    link::Link,
    payload,
    peer::marshal_rtp,
    rtp::packet::Packet,
    sequence::SequenceTracker,
    source::{Outgoing, Source},
    webrtc_util::marshal::Unmarshal,
};
use tokio::time::MissedTickBehavior;

use super::{
    Counts, Media, Plan, Sample, Tally,
    pauses::{Meter, Traffic},
};
use crate::reflector::JOIN;

/// What sealing with AES-GCM adds: the datagrams are to be as long as an SFU's.
const SEAL_BYTES: usize = 16;

/// Receivers and sender of a reflector.
pub(super) struct PlainLoad {
    streams: Vec<Arc<Mutex<Option<SequenceTracker>>>>,
    sent: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

impl PlainLoad {
    pub(super) async fn start(plan: &Plan, to: SocketAddr, tally: &Tally) -> Result<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        let mut streams = Vec::new();
        for number in 0..plan.receivers {
            let link = Arc::new(Link::bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED))?);
            let stream: Arc<Mutex<Option<SequenceTracker>>> = Arc::default();
            streams.push(Arc::clone(&stream));
            let phase = (number % usize::from(tally.period)) as u64;
            let receiver = Receiver {
                link: Arc::clone(&link),
                stream: Arc::clone(&stream),
                bytes: Arc::clone(&bytes),
                tally: tally.clone(),
                phase,
            };
            tokio::spawn(receiver.run());
            tokio::spawn(join(link, stream, to));
        }
        let sent = Arc::new(AtomicU64::new(0));
        tokio::spawn(send(source(plan.media), to, Arc::clone(&sent)));
        Ok(Self { streams, sent, bytes })
    }

    /// Streams that came, and all.
    pub(super) fn receiving(&self) -> (usize, usize) {
        let come = self.streams.iter().filter(|one| locked(one).is_some()).count();
        (come, self.streams.len())
    }

    /// Each receiver against the sender.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let sent = self.sent.load(Ordering::Relaxed);
        self.streams.iter().map(|one| Sample::of(sent, locked(one).as_ref(), 0)).collect()
    }

    /// Packets sent and bytes that arrived.
    pub(super) fn meter(&self) -> Meter {
        let (sent, bytes) = (Arc::clone(&self.sent), Arc::clone(&self.bytes));
        Box::new(move || Traffic {
            sent: sent.load(Ordering::Relaxed),
            received: bytes.load(Ordering::Relaxed),
        })
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        for stream in &self.streams {
            if let Some(stream) = &*locked(stream) {
                counts.received += stream.distinct();
                counts.duplicates += stream.duplicates;
            }
        }
        counts.sent = self.sent.load(Ordering::Relaxed) * self.streams.len() as u64;
        counts.bytes = self.bytes.load(Ordering::Relaxed);
    }
}

fn locked(
    stream: &Mutex<Option<SequenceTracker>>,
) -> std::sync::MutexGuard<'_, Option<SequenceTracker>> {
    stream.lock().expect("no panic while locked")
}

/// The source of a plan, the same for every server.
pub(super) fn source(media: Media) -> Source {
    match media {
        Media::Audio { payload_bytes } => Source::audio(audio(payload_bytes), clock::now_ns()),
        _ => Source::video(video(media), clock::now_ns()),
    }
}

/// A camera as all scenarios send it.
pub(super) fn video(media: Media) -> VideoOptions {
    let (options, frame_rate) = match media {
        Media::Video { bitrate_bps, frame_rate } => (VideoOptions::single(bitrate_bps), frame_rate),
        _ => (VideoOptions::default(), 30.0),
    };
    VideoOptions { frame_rate, key_frame_interval: Some(Duration::from_secs(10)), ..options }
}

/// A microphone as all scenarios send it.
pub(super) fn audio(payload_bytes: usize) -> AudioOptions {
    AudioOptions { payload_bytes, ..AudioOptions::default() }
}

struct Receiver {
    link: Arc<Link>,
    stream: Arc<Mutex<Option<SequenceTracker>>>,
    bytes: Arc<AtomicU64>,
    tally: Tally,
    phase: u64,
}

impl Receiver {
    async fn run(self) {
        loop {
            let received = self.link.receive(|_, datagram, at_ns| self.take(datagram, at_ns)).await;
            if received.is_err() {
                tokio::task::yield_now().await;
            }
        }
    }

    fn take(&self, datagram: &[u8], at_ns: u64) {
        let [_, _, high, low, ..] = datagram else { return };
        self.bytes.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        let sequence = u16::from_be_bytes([*high, *low]);
        let index = match &mut *locked(&self.stream) {
            Some(stream) => stream.receive(sequence).0,
            empty => {
                let (index, stream) = SequenceTracker::new(sequence);
                *empty = Some(stream);
                index
            }
        };
        if (index >> 4) % u64::from(self.tally.period) != self.phase {
            return;
        }
        // The last byte says how much was added (see `equal_sizes`).
        let added = usize::from(*datagram.last().unwrap_or(&0));
        let Some(mut plain) = datagram.len().checked_sub(added).map(|end| &datagram[..end]) else {
            return;
        };
        if let Ok(packet) = Packet::unmarshal(&mut plain) {
            self.tally.look_at(&packet.payload, at_ns);
        }
    }
}

/// Asks to be sent to until something comes.
async fn join(link: Arc<Link>, stream: Arc<Mutex<Option<SequenceTracker>>>, to: SocketAddr) {
    while locked(&stream).is_none() {
        // What is lost is said again.
        let _ = link.send(JOIN, to).await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn send(mut source: Source, to: SocketAddr, sent: Arc<AtomicU64>) {
    let Ok(link) = Link::bind(IpAddr::V4(Ipv4Addr::UNSPECIFIED)) else { return };
    let mut ticks = tokio::time::interval(source.interval());
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        for datagram in equal_sizes(source.frame(clock::now_ns())) {
            if link.send(&datagram, to).await.is_ok() {
                sent.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The packets of a frame, each as long as the longest and a seal; the marker bit ends a frame.
fn equal_sizes(frame: Vec<Outgoing>) -> Vec<Vec<u8>> {
    let last = frame.len().saturating_sub(1);
    let mut packets: Vec<Vec<u8>> = frame
        .into_iter()
        .enumerate()
        .filter_map(|(at, mut outgoing)| {
            payload::finish(&mut outgoing.payload[outgoing.stamp_at..], clock::now_ns());
            outgoing.header.marker = at == last;
            let packet = Packet { header: outgoing.header, payload: outgoing.payload.into() };
            marshal_rtp(&packet).ok().map(|bytes| bytes.to_vec())
        })
        .collect();
    let length = packets.iter().map(Vec::len).max().unwrap_or(0) + SEAL_BYTES;
    for packet in &mut packets {
        let added = length - packet.len();
        packet.resize(length, 0);
        packet[length - 1] = added as u8;
    }
    packets
}
