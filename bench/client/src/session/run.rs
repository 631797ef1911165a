//! The tasks of a session.

use std::{sync::Arc, time::Duration};

use rtcp::{
    payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    receiver_report::ReceiverReport, sender_report::SenderReport,
    transport_feedbacks::transport_layer_cc::TransportLayerCc,
};
use rtp::packet::Packet;
use tokio::time::MissedTickBehavior;

use super::{Inner, State};
use crate::{
    clock, payload,
    peer::{Incoming, Peer, RtcpPacket},
    source::{Outgoing, Repeat, description},
};

/// Between two looks at what is missing.
const NACK_TICK: Duration = Duration::from_millis(20);
/// Between two reports, and two REMB, in ticks.
const REPORT_TICKS: u64 = 50;
const REMB_TICKS: u64 = 25;

/// Sends a source's frames in time until it is stopped.
pub(super) async fn send(inner: Arc<Inner>, index: usize, interval: Duration) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    loop {
        ticks.tick().await;
        let packets = {
            let mut state = inner.lock();
            let Some(source) = &mut state.sources[index] else { return };
            source.frame(clock::now_ns())
        };
        for outgoing in packets {
            inner.send_one(index, outgoing).await;
        }
        inner.changed.notify_waiters();
    }
}

/// Hands what arrives to those whom it concerns.
pub(super) async fn read(inner: Arc<Inner>, mut peer: Peer) {
    while let Some(incoming) = peer.recv().await {
        match incoming {
            Incoming::Rtp(arrival) => {
                let state = &mut *inner.lock();
                if let Some(tap) = &mut state.tap {
                    tap(&arrival);
                }
                let ssrc = arrival.packet.header.ssrc;
                if let Some(receiver) = state.receivers.get_mut(&ssrc) {
                    receiver.receive(&arrival);
                } else if let Some(receiver) =
                    state.rtx.get(&ssrc).and_then(|of| state.receivers.get_mut(of))
                {
                    receiver.receive_rtx(&arrival);
                } else {
                    *state.stats.unknown.entry(ssrc).or_default() += 1;
                }
            }
            Incoming::Rtcp { packets, at_ns, .. } => {
                let repeats = inner.lock().receive_rtcp(&packets, at_ns);
                for repeat in repeats {
                    inner.send_repeat(repeat).await;
                }
            }
        }
        inner.changed.notify_waiters();
    }
    inner.changed.notify_waiters();
}

/// NACK, reports, REMB.
pub(super) async fn keep_time(inner: Arc<Inner>) {
    let mut ticks = tokio::time::interval(NACK_TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    for tick in 1u64.. {
        ticks.tick().await;
        let now_ns = clock::now_ns();
        let mut compounds = inner.nacks(now_ns);
        if tick.is_multiple_of(REPORT_TICKS) {
            compounds.extend(inner.reports(now_ns));
        }
        if tick.is_multiple_of(REMB_TICKS) {
            compounds.extend(inner.remb());
        }
        for compound in compounds {
            if inner.handle.send_rtcp(&compound).await.is_err() {
                inner.lock().stats.send_errors += 1;
            }
        }
        inner.changed.notify_waiters();
    }
}

impl Inner {
    async fn send_one(&self, index: usize, mut outgoing: Outgoing) {
        payload::finish(&mut outgoing.payload[outgoing.stamp_at..], clock::now_ns());
        let sealed = {
            let mut state = self.lock();
            let Some(source) = &mut state.sources[index] else { return };
            let mut number = None;
            if source.numbers_transport_wide() {
                number = Some(self.handle.next_transport_sequence());
            }
            source.stamp_times(&mut outgoing.header, clock::ntp_now(), number.unwrap_or_default());
            let packet = Packet { header: outgoing.header, payload: outgoing.payload.into() };
            let sealed = self.handle.seal_rtp(&packet).ok();
            let passes = state.send_filter.as_mut().is_none_or(|filter| filter(&packet.header));
            if let Some(sealed) = &sealed {
                state.sent(index, outgoing.stream, packet, sealed, number);
            }
            if !passes {
                return;
            }
            sealed
        };
        self.send_sealed(sealed).await;
    }

    async fn send_repeat(&self, (index, repeat): (usize, Repeat)) {
        let sealed = match repeat {
            Repeat::Sealed(sealed) => Some(sealed),
            Repeat::Rtx(mut packet) => {
                let mut state = self.lock();
                let Some(source) = &state.sources[index] else { return };
                let mut number = None;
                if source.numbers_transport_wide() {
                    number = Some(self.handle.next_transport_sequence());
                }
                source.stamp_times(
                    &mut packet.header,
                    clock::ntp_now(),
                    number.unwrap_or_default(),
                );
                let sealed = self.handle.seal_rtp(&packet).ok();
                if let (Some(number), true) = (number, sealed.is_some()) {
                    state.feedback.sent(number);
                }
                sealed
            }
        };
        self.send_sealed(sealed).await;
    }

    async fn send_sealed(&self, sealed: Option<bytes::Bytes>) {
        let sent = match sealed {
            Some(sealed) => self.handle.send_datagram(&sealed).await.is_ok(),
            None => false,
        };
        if sent {
            crate::peer::count(&self.handle.counters().rtp_out);
        } else {
            self.lock().stats.send_errors += 1;
        }
    }

    fn nacks(&self, now_ns: u64) -> Vec<Vec<RtcpPacket>> {
        let mut state = self.lock();
        let mut out = Vec::new();
        for receiver in state.receivers.values_mut() {
            receiver.expire(now_ns);
            if let Some(nack) = receiver.nack(self.local_ssrc, now_ns) {
                out.push(vec![nack]);
            }
        }
        out
    }

    fn reports(&self, now_ns: u64) -> Vec<Vec<RtcpPacket>> {
        let mut state = self.lock();
        let ntp = clock::ntp_now();
        let mut out: Vec<Vec<RtcpPacket>> = state
            .sources
            .iter()
            .flatten()
            .map(|source| source.sender_reports(now_ns, ntp))
            .filter(|reports| !reports.is_empty())
            .collect();
        let blocks: Vec<_> =
            state.receivers.values_mut().filter_map(|one| one.report(now_ns)).collect();
        // The count of report blocks has five bits (RFC 3550 section 6.4.2).
        for reports in blocks.chunks(31) {
            let report = ReceiverReport {
                ssrc: self.local_ssrc,
                reports: reports.to_vec(),
                ..ReceiverReport::default()
            };
            let name = description(self.local_ssrc, &self.cname);
            out.push(vec![Box::new(report), Box::new(name)]);
        }
        out
    }

    fn remb(&self) -> Option<Vec<RtcpPacket>> {
        let state = self.lock();
        let remb = ReceiverEstimatedMaximumBitrate {
            sender_ssrc: self.local_ssrc,
            bitrate: state.remb_bps? as f32,
            ssrcs: state.receivers.keys().copied().collect(),
        };
        Some(vec![Box::new(remb)])
    }
}

impl State {
    fn sent(
        &mut self,
        index: usize,
        stream: usize,
        packet: Packet,
        sealed: &bytes::Bytes,
        number: Option<u16>,
    ) {
        if let Some(source) = &mut self.sources[index] {
            source.sent(stream, packet, sealed.clone());
        }
        if let Some(number) = number {
            self.feedback.sent(number);
        }
        if let Some(record) = &mut self.record {
            record.push(sealed.clone());
        }
    }

    fn receive_rtcp(&mut self, packets: &[RtcpPacket], at_ns: u64) -> Vec<(usize, Repeat)> {
        self.stats.rtcp += 1;
        let ntp = clock::ntp_now();
        let mut repeats = Vec::new();
        for packet in packets {
            let any = packet.as_any();
            if let Some(report) = any.downcast_ref::<SenderReport>() {
                if let Some(receiver) = self.receivers.get_mut(&report.ssrc) {
                    receiver.receive_sender_report(report, at_ns);
                }
            } else if let Some(message) = any.downcast_ref::<TransportLayerCc>() {
                self.feedback.receive(message);
            } else if let Some(remb) = any.downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                self.stats.remb_bps = Some(remb.bitrate as u64);
            }
            for (index, source) in self.sources.iter_mut().enumerate() {
                if let Some(source) = source {
                    let again = source.receive_rtcp(packet, at_ns, ntp);
                    repeats.extend(again.into_iter().map(|repeat| (index, repeat)));
                }
            }
        }
        repeats
    }
}
