//! The load of an SFU: real participants, whose transports do ICE, DTLS and SRTP. One sends; the
//! receivers count by headers, open a sample, and answer with receiver reports, REMB and NACK. More
//! can join while it runs, and a camera of three layers can be asked for by layer.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use ironcast_load::{
    Control, Incoming, Peer, PeerHandle, PeerOptions, ReceiveMode, SrtpProfile,
    call::{JoinOptions, Transport, open_peer},
    clock,
    http::PlainHttp,
    ortc::{self, Device},
    payload,
    peer::RtcpPacket,
    rtcp::{
        payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
        receiver_report::ReceiverReport,
        reception_report::ReceptionReport,
        transport_feedbacks::transport_layer_nack::{
            TransportLayerNack, nack_pairs_from_sequence_numbers,
        },
    },
    sequence::SequenceTracker,
    session::SourceId,
};
use serde_json::{Value, json};

use super::{Counts, Media, Plan, Said, Sample, Storm, Switches, Tally, plain, say};

const ROOM: &str = "bench";
/// Says that every receiver's network carries anything.
const REMB_BPS: f32 = 100e6;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Joins under way at once.
const JOINS_MAX: usize = 8;
const NACK_PACKETS_MAX: usize = 64;
const LOCAL_SSRC: u32 = 0x0042_454E;

/// One of so many blocks of a newcomer's packets is opened. All packets of 500 newcomers are more than
/// a core opens, and the delay would be the load's own.
const NEWCOMERS_PERIOD: u16 = 64;
/// How long a newcomer may wait for his first packet.
const FIRST_PACKET_LIMIT: Duration = Duration::from_secs(20);
/// The same for a layer that was asked for.
const LAYER_LIMIT: Duration = Duration::from_secs(5);
/// Between two changes of layers: longer than servers keep between two key frames.
const SWITCH_SPACING: Duration = Duration::from_millis(400);

/// A running load.
pub(super) struct ApiLoad {
    joining: Joining,
    sender: Transport,
    source: SourceId,
    receivers: Vec<Receiver>,
}

/// What a receiver needs to join.
#[derive(Clone)]
struct Joining {
    api: Arc<PlainHttp>,
    profile: SrtpProfile,
    producer: String,
    capabilities: Value,
    /// Number of the lowest layer in the payloads' stamps.
    first_stream: u32,
    /// Of the server, that receivers are spread over; none where it says nothing of them.
    workers: usize,
}

/// One received stream.
#[derive(Clone)]
pub(super) struct Stream {
    pub(super) handle: PeerHandle,
    pub(super) ssrc: u32,
    pub(super) rtx_ssrc: Option<u32>,
}

impl Stream {
    /// What of it came, beside what was sent; `streams` are those of its transport.
    pub(super) fn sample(&self, sent: u64, streams: &BTreeMap<u32, SequenceTracker>) -> Sample {
        Sample::of(sent, streams.get(&self.ssrc), self.repeats(streams))
    }

    pub(super) fn add_to(&self, streams: &BTreeMap<u32, SequenceTracker>, counts: &mut Counts) {
        counts.repeats += self.repeats(streams);
        if let Some(stream) = streams.get(&self.ssrc) {
            counts.received += stream.distinct();
            counts.duplicates += stream.duplicates;
            counts.corrupt += stream.unopened;
        }
    }

    fn repeats(&self, streams: &BTreeMap<u32, SequenceTracker>) -> u64 {
        let stream = self.rtx_ssrc.and_then(|ssrc| streams.get(&ssrc));
        stream.map_or(0, SequenceTracker::distinct)
    }
}

#[derive(Clone)]
struct Receiver {
    consumer: String,
    stream: Stream,
    seen: Arc<Mutex<Seen>>,
}

/// What the opened packets of a stream say.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Which layer came last, as its stamps call it, and since when.
    stream: Option<(u32, u64)>,
    last_ns: u64,
    longest_pause_ns: u64,
}

impl Seen {
    fn look_at(&mut self, payload: &[u8], at_ns: u64) {
        let Ok(stamp) = payload::read(payload) else { return };
        if self.stream.is_none_or(|(stream, _)| stream != stamp.stream) {
            self.stream = Some((stamp.stream, at_ns));
        }
        if self.last_ns > 0 {
            self.longest_pause_ns = self.longest_pause_ns.max(at_ns.saturating_sub(self.last_ns));
        }
        self.last_ns = at_ns;
    }
}

impl ApiLoad {
    pub(super) async fn start(plan: &Plan, api: PlainHttp, tally: &Tally) -> Result<Self> {
        let api = Arc::new(api);
        let profile: SrtpProfile = plan.cipher.parse().map_err(anyhow::Error::msg)?;
        let workers = workers(&api).await;
        let room = api.call("POST", "/v1/routers", Some(json!({ "id": ROOM }))).await?;
        let device = Device::load(&room["rtpCapabilities"])?;
        let sender = Transport::open(
            api.as_ref(),
            ROOM,
            "sender",
            &join_options(profile, ReceiveMode::Deliver).directed("send"),
        )
        .await
        .context("the sender cannot join")?;
        let (producer, source, first_stream) = publish(&api, &device, &sender, plan.media).await?;
        let capabilities = device.rtp_capabilities();
        let joining = Joining { api, profile, producer, capabilities, first_stream, workers };
        let mut load = Self { joining, sender, source, receivers: Vec::new() };
        load.join_all(plan, tally).await?;
        let streams = load.receivers.iter().map(|one| one.stream.clone()).collect();
        tokio::spawn(give_feedback(streams));
        Ok(load)
    }

    async fn join_all(&mut self, plan: &Plan, tally: &Tally) -> Result<()> {
        let mut joining = tokio::task::JoinSet::new();
        for number in 0..plan.receivers {
            if joining.len() == JOINS_MAX {
                self.joined(joining.join_next().await)?;
            }
            joining.spawn(join(self.joining.clone(), number, tally.clone()));
        }
        while let Some(joined) = joining.join_next().await {
            self.joined(Some(joined))?;
        }
        Ok(())
    }

    fn joined(
        &mut self,
        joined: Option<Result<Result<Receiver>, tokio::task::JoinError>>,
    ) -> Result<()> {
        if let Some(joined) = joined {
            self.receivers.push(joined??);
            say(&Said::Joined(self.receivers.len()));
        }
        Ok(())
    }

    /// So many more join, spread over so many seconds. Gives microseconds from the first call to
    /// the first packet of each, and how many got none. They are not counted with the others.
    pub(super) async fn storm(&self, joins: usize, seconds: f64) -> Storm {
        let mut joining = tokio::task::JoinSet::new();
        let mut ticks =
            tokio::time::interval(Duration::from_secs_f64(seconds / joins.max(1) as f64));
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let tally = Tally::new(NEWCOMERS_PERIOD);
        for number in 0..joins {
            ticks.tick().await;
            let (what, tally) = (self.joining.clone(), tally.clone());
            joining.spawn(async move {
                let start_ns = clock::now_ns();
                let joined = join(what, 100_000 + number, tally).await?;
                let first = joined.wait_for(FIRST_PACKET_LIMIT, |seen| seen.stream).await;
                let (_, at_ns) = first.context("no packet")?;
                Ok::<_, anyhow::Error>((at_ns.saturating_sub(start_ns) / 1_000, joined))
            });
        }
        let (mut storm, mut newcomers) = (Storm::default(), Vec::new());
        while let Some(one) = joining.join_next().await {
            match one {
                Ok(Ok((us, joined))) => {
                    storm.first_packet_us.push(us);
                    newcomers.push(joined);
                }
                _ => storm.failed += 1,
            }
        }
        storm
    }

    /// Every receiver asks for the lowest and the highest layer in turn, so many times.
    pub(super) async fn switch(&self, rounds: usize) -> Switches {
        let mut switches = Switches::default();
        let lost = || -> u64 {
            let streams = self.receivers.iter().map(|one| &one.stream);
            streams.filter_map(|one| Some(one.handle.streams().get(&one.ssrc)?.lost())).sum()
        };
        let lost_before = lost();
        for receiver in &self.receivers {
            receiver.seen().longest_pause_ns = 0;
        }
        for round in 0..rounds {
            for receiver in &self.receivers {
                tokio::time::sleep(SWITCH_SPACING).await;
                let came = self.change_layer(receiver, round).await;
                note(&mut switches.took_us, &mut switches.failed, came);
            }
        }
        for round in rounds..rounds * 2 {
            tokio::time::sleep(SWITCH_SPACING).await;
            let all = self.receivers.iter().map(|receiver| self.change_layer(receiver, round));
            for came in futures::future::join_all(all).await {
                note(&mut switches.together_us, &mut switches.failed, came);
            }
        }
        switches.lost = lost() - lost_before;
        let pauses = self.receivers.iter().map(|one| one.seen().longest_pause_ns);
        switches.longest_pause_us = pauses.max().unwrap_or(0) / 1_000;
        switches
    }

    /// One receiver asks for the lowest layer (even rounds) or the highest. How many microseconds
    /// passed from the call to its first packet; none when it did not come.
    async fn change_layer(&self, receiver: &Receiver, round: usize) -> Option<u64> {
        let layer = if round.is_multiple_of(2) { 0 } else { 2 };
        let wanted = self.joining.first_stream + layer;
        let start_ns = clock::now_ns();
        let body = json!({ "preferredLayers": { "spatialLayer": layer } });
        let path = format!("/v1/consumers/{}", receiver.consumer);
        self.joining.api.call("PATCH", &path, Some(body)).await.ok()?;
        let is_wanted = |seen: &Seen| seen.stream.filter(|(at, _)| *at == wanted);
        let (_, at_ns) = receiver.wait_for(LAYER_LIMIT, is_wanted).await?;
        Some(at_ns.saturating_sub(start_ns) / 1_000)
    }

    /// Streams that came, and all.
    pub(super) fn receiving(&self) -> (usize, usize) {
        let streams = self.receivers.iter().map(|one| &one.stream);
        let come = streams.filter(|one| one.handle.streams().contains_key(&one.ssrc)).count();
        (come, self.receivers.len())
    }

    /// What the sender sent of all layers.
    fn sent(&self) -> u64 {
        let sent = self.sender.session.source_reports(self.source);
        sent.iter().map(|stream| stream.packets).sum()
    }

    /// Each receiver against the sender.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let sent = self.sent();
        let streams = self.receivers.iter().map(|one| &one.stream);
        streams.map(|one| one.sample(sent, &one.handle.streams())).collect()
    }

    /// The publisher's transport.
    pub(super) fn senders(&self) -> Vec<PeerHandle> {
        vec![self.sender.session.peer().clone()]
    }

    /// The receivers' transports.
    pub(super) fn handles(&self) -> Vec<PeerHandle> {
        self.receivers.iter().map(|one| one.stream.handle.clone()).collect()
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        counts.sent = self.sent() * self.receivers.len() as u64;
        for receiver in self.receivers.iter().map(|one| &one.stream) {
            receiver.add_to(&receiver.handle.streams(), counts);
            let counters = receiver.handle.counters();
            counts.bytes += counters.bytes_in.load(Ordering::Relaxed);
        }
    }

    /// What speaks to the server's API.
    pub(super) fn control(&self) -> &PlainHttp {
        &self.joining.api
    }

    pub(super) async fn stop(self) {
        // The server is stopped next; this only spares it timeouts.
        let _ = self.joining.api.call("DELETE", &format!("/v1/routers/{ROOM}"), None).await;
    }
}

impl Receiver {
    fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks again every millisecond; none when the time is over.
    async fn wait_for<T>(&self, limit: Duration, find: impl Fn(&Seen) -> Option<T>) -> Option<T> {
        let found = async {
            loop {
                if let Some(found) = find(&self.seen()) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(limit, found).await.ok()
    }
}

fn note(took_us: &mut Vec<u64>, failed: &mut u64, came: Option<u64>) {
    match came {
        Some(us) => took_us.push(us),
        None => *failed += 1,
    }
}

/// How many workers our server has; a peer does not say, and one is as good as none.
async fn workers(api: &PlainHttp) -> usize {
    let workers = api.call("GET", "/v1/workers", None).await.ok();
    workers.as_ref().and_then(Value::as_array).map_or(0, Vec::len)
}

pub(super) fn join_options(profile: SrtpProfile, mode: ReceiveMode) -> JoinOptions {
    JoinOptions {
        peer: PeerOptions {
            profiles: vec![profile],
            mode,
            connect_timeout: Duration::from_secs(30),
            ..PeerOptions::default()
        },
        bind: Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        ipv6: false,
        transport: Some(json!({ "initialAvailableOutgoingBitrate": 100_000_000 })),
    }
}

/// A new producer; gives its id.
pub(super) async fn produce<C: Control>(
    api: &C,
    transport: &str,
    kind: &str,
    parameters: Value,
) -> Result<String> {
    let body = json!({ "transportId": transport, "kind": kind, "rtpParameters": parameters });
    let answer = api.call("POST", "/v1/producers", Some(body)).await?;
    Ok(answer["id"].as_str().context("a producer without id")?.to_owned())
}

async fn publish(
    api: &PlainHttp,
    device: &Device,
    sender: &Transport,
    media: Media,
) -> Result<(String, SourceId, u32)> {
    if let Media::Audio { payload_bytes } = media {
        let mut options = plain::audio(payload_bytes);
        let parameters = device.audio_parameters(&mut options)?;
        let id = produce(api, &sender.id, "audio", parameters).await?;
        let stream = options.stream;
        return Ok((id, sender.session.send_audio(options), stream));
    }
    let mut options = plain::video(media);
    let parameters = device.video_parameters(&mut options)?;
    let id = produce(api, &sender.id, "video", parameters).await?;
    let stream = options.stream;
    Ok((id, sender.session.send_video(options), stream))
}

async fn join(joining: Joining, number: usize, tally: Tally) -> Result<Receiver> {
    let Joining { api, profile, producer, capabilities, workers, .. } = joining;
    let name = format!("receiver-{number}");
    let phase = (number % usize::from(tally.period)) as u16;
    let mode = ReceiveMode::Sample { period: tally.period, phase };
    let mut options = join_options(profile, mode).directed("receive");
    if workers > 1
        && let Some(transport) = &mut options.transport
    {
        transport["workerId"] = json!((number % workers).to_string());
    }
    let (transport, peer, _) = open_peer(api.as_ref(), ROOM, &name, &options)
        .await
        .with_context(|| format!("{name} cannot join"))?;
    let body = json!({
        "transportId": transport,
        "producerId": producer,
        "rtpCapabilities": capabilities,
        "paused": true,
    });
    let answer = api.call("POST", "/v1/consumers", Some(body)).await?;
    let consumer = answer["id"].as_str().context("a consumer without id")?.to_owned();
    let expected = ortc::receive_options(&answer["rtpParameters"])?;
    api.call("POST", &format!("/v1/consumers/{consumer}/resume"), None).await?;
    let (ssrc, rtx_ssrc) = (expected.ssrc, expected.rtx_ssrc);
    let stream = Stream { handle: peer.handle(), ssrc, rtx_ssrc };
    let seen = Arc::default();
    tokio::spawn(verify(peer, Some(ssrc), tally, Arc::clone(&seen)));
    Ok(Receiver { consumer, stream, seen })
}

/// Looks at the sample of one receiver: of one stream, or of all.
pub(super) async fn verify(
    mut peer: Peer,
    ssrc: Option<u32>,
    tally: Tally,
    seen: Arc<Mutex<Seen>>,
) {
    while let Some(incoming) = peer.recv().await {
        match incoming {
            Incoming::Rtp(arrival)
                if ssrc.is_none_or(|ssrc| arrival.packet.header.ssrc == ssrc) =>
            {
                tally.look_at(&arrival.packet.payload, arrival.at_ns);
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.look_at(&arrival.packet.payload, arrival.at_ns);
            }
            _ => {}
        }
    }
}

/// What a browser says of a stream once a second; and what it misses, at once when it says it.
pub(super) async fn give_feedback(receivers: Vec<Stream>) {
    if receivers.is_empty() {
        return;
    }
    let mut asked: BTreeMap<usize, u64> = BTreeMap::new();
    let mut before: Vec<(u64, u64)> = vec![(0, 0); receivers.len()];
    // Spread over the second: all at once would be a burst that no real room makes.
    let step = REPORT_INTERVAL / receivers.len().max(1) as u32;
    let mut ticks = tokio::time::interval(step.max(Duration::from_millis(1)));
    for turn in 0usize.. {
        ticks.tick().await;
        let at = turn % receivers.len();
        let Stream { handle, ssrc, .. } = &receivers[at];
        let Some(stream) = handle.streams().remove(ssrc) else { continue };
        let mut packets: Vec<RtcpPacket> = vec![
            Box::new(ReceiverReport {
                ssrc: LOCAL_SSRC,
                reports: vec![report(*ssrc, &stream, &mut before[at])],
                ..ReceiverReport::default()
            }),
            Box::new(ReceiverEstimatedMaximumBitrate {
                sender_ssrc: LOCAL_SSRC,
                bitrate: REMB_BPS,
                ssrcs: vec![*ssrc],
            }),
        ];
        let from = asked.get(&at).copied().unwrap_or(0);
        let mut missing = stream.missing(from, 1_000);
        missing.truncate(NACK_PACKETS_MAX);
        asked.insert(at, stream.highest());
        if !missing.is_empty() {
            let sequences: Vec<u16> = missing.iter().map(|index| *index as u16).collect();
            packets.push(Box::new(TransportLayerNack {
                sender_ssrc: LOCAL_SSRC,
                media_ssrc: *ssrc,
                nacks: nack_pairs_from_sequence_numbers(&sequences),
            }));
        }
        // A lost report is followed by the next one.
        let _ = handle.send_rtcp(&packets).await;
    }
}

fn report(ssrc: u32, stream: &SequenceTracker, before: &mut (u64, u64)) -> ReceptionReport {
    let now = (stream.expected(), stream.distinct());
    let expected = now.0 - before.0;
    let lost = expected.saturating_sub(now.1 - before.1);
    *before = now;
    ReceptionReport {
        ssrc,
        fraction_lost: (lost * 256).checked_div(expected).unwrap_or(0).min(255) as u8,
        total_lost: stream.lost().min(0x7F_FFFF) as u32,
        last_sequence_number: stream.highest() as u32,
        ..ReceptionReport::default()
    }
}
