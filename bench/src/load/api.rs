//! The load of an SFU: real participants, whose transports do ICE, DTLS and SRTP. One sends; the
//! receivers count by headers, open a sample, and answer with receiver reports, REMB and NACK.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use ironcast_load::{
    Control, Incoming, Peer, PeerHandle, PeerOptions, ReceiveMode, SrtpProfile,
    call::{JoinOptions, Transport, open_peer},
    http::PlainHttp,
    ortc::{self, Device},
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

use super::{Counts, Media, Plan, Said, Tally, plain, say};

const ROOM: &str = "bench";
/// Says that every receiver's network carries anything.
const REMB_BPS: f32 = 100e6;
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Joins under way at once.
const JOINS_MAX: usize = 8;
const NACK_PACKETS_MAX: usize = 64;
const LOCAL_SSRC: u32 = 0x0042_454E;

/// A running load.
pub(super) struct ApiLoad {
    api: Arc<PlainHttp>,
    sender: Transport,
    source: SourceId,
    receivers: Vec<Receiver>,
}

struct Receiver {
    handle: PeerHandle,
    ssrc: u32,
    rtx_ssrc: Option<u32>,
}

impl ApiLoad {
    pub(super) async fn start(plan: &Plan, api: PlainHttp, tally: &Tally) -> Result<Self> {
        let api = Arc::new(api);
        let profile: SrtpProfile = plan.cipher.parse().map_err(anyhow::Error::msg)?;
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
        let (producer, source) = publish(&api, &device, &sender, plan.media).await?;
        let mut load = Self { api, sender, source, receivers: Vec::new() };
        load.join_all(plan, profile, &device, &producer, tally).await?;
        let handles = load.receivers.iter().map(|one| (one.handle.clone(), one.ssrc)).collect();
        tokio::spawn(give_feedback(handles));
        Ok(load)
    }

    async fn join_all(
        &mut self,
        plan: &Plan,
        profile: SrtpProfile,
        device: &Device,
        producer: &str,
        tally: &Tally,
    ) -> Result<()> {
        let capabilities = device.rtp_capabilities();
        let mut joining = tokio::task::JoinSet::new();
        for number in 0..plan.receivers {
            if joining.len() == JOINS_MAX {
                self.joined(joining.join_next().await)?;
            }
            let phase = (number % usize::from(tally.period)) as u16;
            let mode = ReceiveMode::Sample { period: tally.period, phase };
            joining.spawn(join(
                Arc::clone(&self.api),
                number,
                join_options(profile, mode).directed("receive"),
                producer.to_owned(),
                capabilities.clone(),
                tally.clone(),
            ));
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

    pub(super) fn receiving(&self) -> usize {
        self.receivers.iter().filter(|one| one.handle.streams().contains_key(&one.ssrc)).count()
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        let sent = self.sender.session.source_reports(self.source);
        let packets: u64 = sent.iter().map(|stream| stream.packets).sum();
        counts.sent = packets * self.receivers.len() as u64;
        for receiver in &self.receivers {
            let streams = receiver.handle.streams();
            let repeats = receiver
                .rtx_ssrc
                .and_then(|ssrc| streams.get(&ssrc))
                .map_or(0, SequenceTracker::distinct);
            counts.repeats += repeats;
            if let Some(stream) = streams.get(&receiver.ssrc) {
                counts.received += stream.distinct();
                counts.lost += stream.lost().saturating_sub(repeats);
                counts.duplicates += stream.duplicates;
            }
            let counters = receiver.handle.counters();
            counts.corrupt += counters.unauthenticated.load(Ordering::Relaxed);
            counts.bytes += counters.bytes_in.load(Ordering::Relaxed);
        }
    }

    pub(super) async fn stop(self) {
        // The server is stopped next; this only spares it timeouts.
        let _ = self.api.call("DELETE", &format!("/v1/routers/{ROOM}"), None).await;
    }
}

fn join_options(profile: SrtpProfile, mode: ReceiveMode) -> JoinOptions {
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

async fn publish(
    api: &PlainHttp,
    device: &Device,
    sender: &Transport,
    media: Media,
) -> Result<(String, SourceId)> {
    let produce = async |kind: &str, parameters: Value| {
        let body = json!({ "transportId": sender.id, "kind": kind, "rtpParameters": parameters });
        let answer = api.call("POST", "/v1/producers", Some(body)).await?;
        let id = answer["id"].as_str().context("a producer without id")?;
        Ok::<_, anyhow::Error>(id.to_owned())
    };
    match media {
        Media::Video { bitrate_bps, frame_rate } => {
            let mut options = plain::video(bitrate_bps, frame_rate);
            let id = produce("video", device.video_parameters(&mut options)?).await?;
            Ok((id, sender.session.send_video(options)))
        }
        Media::Audio { payload_bytes } => {
            let mut options = plain::audio(payload_bytes);
            let id = produce("audio", device.audio_parameters(&mut options)?).await?;
            Ok((id, sender.session.send_audio(options)))
        }
    }
}

async fn join(
    api: Arc<PlainHttp>,
    number: usize,
    options: JoinOptions,
    producer: String,
    capabilities: Value,
    tally: Tally,
) -> Result<Receiver> {
    let name = format!("receiver-{number}");
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
    let id = answer["id"].as_str().context("a consumer without id")?;
    let expected = ortc::receive_options(&answer["rtpParameters"])?;
    api.call("POST", &format!("/v1/consumers/{id}/resume"), None).await?;
    let receiver =
        Receiver { handle: peer.handle(), ssrc: expected.ssrc, rtx_ssrc: expected.rtx_ssrc };
    tokio::spawn(verify(peer, expected.ssrc, tally));
    Ok(receiver)
}

/// Looks at the sample of one receiver.
async fn verify(mut peer: Peer, ssrc: u32, tally: Tally) {
    while let Some(incoming) = peer.recv().await {
        match incoming {
            Incoming::Rtp(arrival) if arrival.packet.header.ssrc == ssrc => {
                tally.look_at(&arrival.packet.payload, arrival.at_ns);
            }
            _ => {}
        }
    }
}

/// What a browser says of a stream once a second; and what it misses, at once when it says it.
async fn give_feedback(receivers: Vec<(PeerHandle, u32)>) {
    let mut asked: BTreeMap<usize, u64> = BTreeMap::new();
    let mut before: Vec<(u64, u64)> = vec![(0, 0); receivers.len()];
    // Spread over the second: all at once would be a burst that no real room makes.
    let step = REPORT_INTERVAL / receivers.len().max(1) as u32;
    let mut ticks = tokio::time::interval(step.max(Duration::from_millis(1)));
    for turn in 0usize.. {
        ticks.tick().await;
        let at = turn % receivers.len();
        let (handle, ssrc) = &receivers[at];
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
