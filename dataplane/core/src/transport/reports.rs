//! RTCP of one peer, both ways: what it says about our streams and its own, and what we report to
//! it. Cold beside media: a few datagrams a second. Called from [2] `worker.rs` and `service.rs`.

use ironcast_protocol::media::MediaKind;

use crate::{
    Arrival, Discard, Nanos,
    consumer::rtp_units,
    key::{ConsumerKey, ProducerKey, TransportKey},
    layers::AT_ONCE,
    link::{Opener, Protection},
    producer::SenderReport,
    srtp::KeySource,
    transport::{Transport, clock::unix_from_ntp},
    wire::{
        Full,
        rtcp::{self, CompoundWriter, DlrrReport, ExtendedBlock, Packet, ReportBlock, SenderInfo},
    },
    worker::Worker,
};

/// Who reports, when a transport sends no media of its own.
pub(crate) const OUR_SSRC: u32 = 1;
/// RTCP is not longer than this; larger datagrams are dropped.
const RTCP_BYTES_MAX: usize = 1_500;
/// Room for a compound, its trailer not counted.
const COMPOUND_BYTES: usize = 1_200;
const BUFFER_BYTES: usize = COMPOUND_BYTES + 64;
/// What lifts a limit: more than anybody sends.
const NO_LIMIT_BPS: u64 = 1_000_000_000;
/// Report blocks of one compound, numbers of one NACK, and streams of one REMB: so many that they
/// fit whatever they are.
const REPORTS_MAX: usize = 16;
const NACKED_MAX: usize = 280;
/// Packets between two reports of a receiver; more is a mistake of his.
const EXPECTED_MAX: u32 = 20_000;
const REMB_SSRCS_MAX: usize = 180;

impl Worker {
    /// An SRTCP packet of a peer.
    pub(crate) fn receive_rtcp(
        &mut self,
        key: TransportKey,
        datagram: &[u8],
        arrival: Arrival,
    ) -> Result<(), Discard> {
        if datagram.len() > RTCP_BYTES_MAX {
            return Err(Discard::Oversized);
        }
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let opener = transport.link.protection.opener()?;
        let ssrc = crate::wire::u32_at(datagram, 4).ok_or(Discard::RtcpMalformed)?;
        let mut plain = [0; RTCP_BYTES_MAX];
        let plain = &mut plain[..datagram.len()];
        plain.copy_from_slice(datagram);
        let len = match opener {
            Opener::Srtp(open_key) => {
                transport.rtcp.check(ssrc, open_key.claimed_rtcp_index(datagram)?)?;
                let (len, index) = open_key.open_rtcp(plain)?;
                transport.rtcp.commit(ssrc, index);
                len
            }
            Opener::Clear => plain.len(),
        };
        self.tap_rtcp(key, &plain[..len], false, arrival.moment());
        self.trace_rtcp(key, &plain[..len], false, arrival.moment());
        let mut told = Told::default();
        for packet in rtcp::packets(&plain[..len]) {
            // What one packet is about may be gone; the others are none the worse for it.
            if let Err(reason) = self.receive_rtcp_packet(key, &packet?, &mut told, arrival) {
                self.discards.count(reason);
            }
        }
        if let Some(answer) = told.reference {
            self.send_rtcp(key, arrival.moment(), |w| w.dlrr(OUR_SSRC, &[answer]));
        }
        if let Some((lost, expected)) = told.losses.sample()
            && let Some(transport) = self.transports.get_mut(key)
        {
            // Without repeats: they grow with the losses and would hide the fall.
            let at = arrival.moment();
            let sent = transport.traffic.rtp_sent.meter.rate_bps(at);
            if transport.budget.receive_loss(lost, expected, sent, at) {
                transport.layers_at = AT_ONCE;
                self.touch(key);
            }
        }
        Ok(())
    }

    fn receive_rtcp_packet(
        &mut self,
        key: TransportKey,
        packet: &Packet<'_>,
        told: &mut Told,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        match packet {
            Packet::SenderReport(report) => {
                for block in report.reports.iter() {
                    self.receive_report_block(key, &block, &mut told.losses, arrival);
                }
                self.receive_sender_info(key, &report.info, arrival)
            }
            Packet::ReceiverReport(report) => {
                for block in report.reports.iter() {
                    self.receive_report_block(key, &block, &mut told.losses, arrival);
                }
                Ok(())
            }
            Packet::Nack(nack) => self.receive_nack(key, nack),
            Packet::PictureLoss { media_ssrc, .. } => {
                self.receive_key_frame_wish(key, *media_ssrc, None, arrival)
            }
            Packet::FullIntraRequest(fir) => {
                for (ssrc, number) in fir.entries() {
                    if let Err(reason) =
                        self.receive_key_frame_wish(key, ssrc, Some(number), arrival)
                    {
                        self.discards.count(reason);
                    }
                }
                Ok(())
            }
            Packet::PauseResume(pauses) => {
                for pause in pauses.requests() {
                    if let Err(reason) = self.receive_pause(key, pause, arrival) {
                        self.discards.count(reason);
                    }
                }
                Ok(())
            }
            Packet::MaximumBitrate(remb) => {
                let Some(transport) = self.transports.get_mut(key) else {
                    return Ok(());
                };
                let at = arrival.moment();
                let sent = transport.traffic.sent.meter.rate_bps(at);
                if transport.budget.receive_remb(remb.bitrate_bps, sent, at) {
                    transport.layers_at = AT_ONCE;
                    self.touch(key);
                }
                Ok(())
            }
            Packet::ExtendedReport(report) => {
                // One report has one reference time (RFC 3611 section 4.4).
                let reference = report.blocks().find_map(|block| match block {
                    ExtendedBlock::ReceiverReferenceTime(ntp) => Some(rtcp::ntp_middle(ntp)),
                    _ => None,
                });
                if let Some(last_reference_time) = reference {
                    let answer = DlrrReport { ssrc: report.ssrc, last_reference_time, delay: 0 };
                    told.reference = Some(answer);
                }
                self.receive_answers(key, report, arrival);
                Ok(())
            }
            Packet::Goodbye(goodbye) => {
                self.receive_goodbye(key, goodbye);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Answers to times that we said.
    fn receive_answers(
        &mut self,
        key: TransportKey,
        report: &rtcp::ExtendedReport<'_>,
        arrival: Arrival,
    ) {
        let ntp = rtcp::ntp_from_unix(arrival + self.unix_offset_ns);
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        for block in report.blocks() {
            let ExtendedBlock::Dlrr(answers) = block else { continue };
            for answer in answers.reports().filter(|answer| answer.ssrc == OUR_SSRC) {
                let (time, delay) = (answer.last_reference_time, answer.delay);
                transport.publisher_rtt.receive(time, delay, ntp);
            }
        }
    }

    /// The publisher has ended a stream (RFC 3550 section 6.6). It may go on with it all the same;
    /// until then another SSRC may take its place without a word.
    fn receive_goodbye(&mut self, key: TransportKey, goodbye: &rtcp::Goodbye<'_>) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        for ssrc in goodbye.ssrcs() {
            let Some(found) = transport.demux.by_ssrc(ssrc) else { continue };
            if found.rtx {
                transport.demux.end_repairs(ssrc);
            } else if let Some(producer) = self.producers.get_mut(found.producer) {
                producer.streams[usize::from(found.stream)].has_ended = true;
            }
        }
    }

    /// A publisher's clock.
    fn receive_sender_info(
        &mut self,
        key: TransportKey,
        info: &SenderInfo,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let unix = arrival + self.unix_offset_ns;
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let found = transport.demux.by_ssrc(info.ssrc).ok_or(Discard::RtcpUnknownStream)?;
        let producer = self.producers.get_mut(found.producer).ok_or(Discard::RtcpUnknownStream)?;
        if found.rtx {
            return Ok(());
        }
        let stream = &mut producer.streams[usize::from(found.stream)];
        if !stream.may_have(info.rtp_timestamp, arrival, producer.clock_rate) {
            return Err(Discard::RtcpWrongTime);
        }
        if !transport.clocks.receive(found.producer, info.ntp, unix) {
            return Ok(());
        }
        stream.sender_report =
            Some(SenderReport { ntp: info.ntp, rtp: info.rtp_timestamp, arrival });
        Ok(())
    }

    fn receive_report_block(
        &mut self,
        key: TransportKey,
        block: &ReportBlock,
        losses: &mut Losses,
        arrival: Arrival,
    ) {
        let ntp = rtcp::ntp_middle(rtcp::ntp_from_unix(arrival + self.unix_offset_ns));
        let Some(transport) = self.transports.get(key) else {
            return;
        };
        let Some(&consumer_key) = transport.consumer_ssrcs.get(&block.ssrc) else {
            return;
        };
        let Some(consumer) = self.consumers.get_mut(consumer_key) else {
            return;
        };
        if block.ssrc != consumer.ssrc {
            return;
        }
        let reported = &mut consumer.reported;
        reported.fraction_lost = block.fraction_lost;
        reported.packets_lost = i64::from(block.cumulative_lost);
        reported.jitter = block.jitter;
        let reached = reported.highest_sequence.replace(block.highest_sequence);
        // Nonsense of a peer must not outweigh what it says later.
        let expected = reached.map_or(0, |before| block.highest_sequence.wrapping_sub(before));
        let expected = f64::from(if expected > EXPECTED_MAX { 0 } else { expected });
        let ours = consumer.reports_sent.contains(&block.last_sender_report);
        if ours && block.last_sender_report != 0 {
            reported.rtt = rtcp::round_trip(ntp, block.last_sender_report, block.delay);
        }
        // What was lost before us is not the receiver's network.
        let source = consumer.current.map(usize::from);
        let upstream = self
            .producers
            .get(consumer.producer)
            .zip(source)
            .and_then(|(producer, stream)| producer.streams.get(stream))
            .map_or(0.0, |stream| stream.loss_share);
        let share = f64::from(block.fraction_lost) / 256.0 - upstream;
        consumer.note_loss(share.max(0.0), transport.budget.is_full());
        // A pipe sends what it has, whatever is lost of it.
        if !consumer.is_pipe() {
            losses.add(consumer.kind, share.max(0.0) * expected, expected);
        }
    }

    fn receive_nack(&mut self, key: TransportKey, nack: &rtcp::Nack<'_>) -> Result<(), Discard> {
        let transport = self.transports.get_mut(key).ok_or(Discard::UnknownSource)?;
        let consumer_key = transport.consumer_ssrcs.get(&nack.media_ssrc);
        let consumer_key = *consumer_key.ok_or(Discard::RtcpUnknownStream)?;
        let consumer = self.consumers.get_mut(consumer_key);
        // Retransmissions are not sent again themselves (RFC 4588 section 6.3).
        let consumer = consumer.filter(|consumer| consumer.ssrc == nack.media_ssrc);
        let consumer = consumer.ok_or(Discard::RtcpUnknownStream)?;
        consumer.asked.nacks += 1;
        if !consumer.nack {
            return Ok(());
        }
        for seq in nack.sequences() {
            if transport.resends.len() >= self.limits.repeats_waiting_max {
                self.discards.count(Discard::LimitReached);
                break;
            }
            consumer.asked.nacked_packets += 1;
            transport.resends.push((consumer_key, consumer.timeline.extend(seq)));
        }
        if !transport.queued {
            transport.queued = true;
            self.ready.push(transport.router, key);
        }
        Ok(())
    }

    fn receive_key_frame_wish(
        &mut self,
        key: TransportKey,
        ssrc: u32,
        fir: Option<u8>,
        arrival: Arrival,
    ) -> Result<(), Discard> {
        let transport = self.transports.get(key).ok_or(Discard::UnknownSource)?;
        let consumer_key = transport.consumer_ssrcs.get(&ssrc).ok_or(Discard::RtcpUnknownStream)?;
        let consumer = self.consumers.get_mut(*consumer_key).ok_or(Discard::RtcpUnknownStream)?;
        let producer_key = consumer.producer;
        if fir.is_some() {
            consumer.asked.firs += 1;
        } else {
            consumer.asked.plis += 1;
        }
        // Who gets nothing needs no key frame.
        let stream = consumer.current.or(consumer.target).filter(|_| consumer.is_sent());
        // A FIR that leads to nothing is not remembered: its repetition may lead to something.
        if let Some(stream) = stream
            && let Some(producer) = self.producers.get_mut(producer_key)
            && !producer.paused
            && consumer.take_key_frame_wish(fir)
        {
            let wish = consumer.want_repair(arrival.moment());
            producer.request_key_frame(stream, wish, arrival.moment());
            self.stir(producer_key);
        }
        Ok(())
    }

    /// NACK, PLI and FIR for one received stream.
    pub(crate) fn send_requests(
        &mut self,
        key: TransportKey,
        ssrc: u32,
        missing: &[u16],
        pli: bool,
        fir: Option<u8>,
        now: Nanos,
    ) {
        if pli || fir.is_some() {
            self.send_rtcp(key, now, |w| {
                if pli {
                    w.picture_loss(OUR_SSRC, ssrc)?;
                }
                fir.map_or(Ok(()), |number| w.full_intra(OUR_SSRC, &[(ssrc, number)]))
            });
        }
        for some in missing.chunks(NACKED_MAX) {
            self.send_rtcp(key, now, |w| w.nack(OUR_SSRC, ssrc, some));
        }
    }

    /// Receiver reports about the streams of some of a publisher's tracks, and REMB where it has a say.
    pub(crate) fn write_receiver_reports(
        &mut self,
        key: TransportKey,
        producers: &[ProducerKey],
        now: Nanos,
    ) {
        let ntp = rtcp::ntp_from_unix(now + self.unix_offset_ns);
        let Some(transport) = self.transports.get(key) else {
            return;
        };
        let mut blocks = Vec::new();
        let mut media = Vec::new();
        let (mut remb, mut transport_cc, mut loss) = (false, false, 0.0f64);
        let mut active_loss: Option<f64> = None;
        for producer_key in producers {
            let Some(producer) = self.producers.get_mut(*producer_key) else {
                continue;
            };
            remb |= producer.remb;
            transport_cc |= producer.transport_cc;
            for stream in &mut producer.streams {
                let Some(ssrc) = stream.ssrc else { continue };
                media.push(ssrc);
                loss = loss.max(stream.loss_share);
                if stream.is_active() {
                    active_loss = Some(active_loss.unwrap_or(0.0).max(stream.loss_share));
                }
                let report = stream.sender_report;
                let (lsr, delay) = report.map_or((0, 0), |report| {
                    let delay = report.arrival.age(now);
                    (rtcp::ntp_middle(report.ntp), rtcp::short_from_nanos(delay))
                });
                if stream.last_packet_at.is_some() {
                    blocks.push(stream.statistics.report(ssrc, lsr, delay));
                }
            }
        }
        let received = transport.traffic.rtp_received.meter.rate_bps(now);
        let bitrate = remb.then(|| remb_for(transport, received, transport_cc, loss)).flatten();
        if let Some(transport) = self.transports.get_mut(key) {
            // Said three times, in case it is lost.
            let lifted = bitrate == Some(NO_LIMIT_BPS);
            transport.lifted = if lifted { transport.lifted.saturating_add(1) } else { 0 };
            transport.remb_sent_bps = bitrate.filter(|_| transport.lifted < 3);
            transport.publisher_rtt.say(ntp);
            transport.loss_received = active_loss;
        }
        media.truncate(REMB_SSRCS_MAX);
        let (first, more) = blocks.split_at(blocks.len().min(REPORTS_MAX));
        self.send_rtcp(key, now, |w| {
            w.receiver_report(OUR_SSRC, first)?;
            w.reference_time(OUR_SSRC, ntp)?;
            bitrate.map_or(Ok(()), |bps| w.maximum_bitrate(OUR_SSRC, bps, &media))
        });
        for some in more.chunks(REPORTS_MAX) {
            self.send_rtcp(key, now, |w| w.receiver_report(OUR_SSRC, some));
        }
    }

    /// A sender report whose NTP and RTP times name the same moment: the publisher's capture time,
    /// carried over to our clock and to this receiver's timeline.
    pub(crate) fn write_sender_report(
        &mut self,
        key: TransportKey,
        consumer_key: ConsumerKey,
        now: Nanos,
    ) {
        let unix = now + self.unix_offset_ns;
        let Some(consumer) = self.consumers.get_mut(consumer_key) else {
            return;
        };
        let Some(producer) = self.producers.get(consumer.producer) else {
            return;
        };
        let source = consumer.current.and_then(|at| producer.streams.get(usize::from(at)));
        let report = source.and_then(|stream| stream.believed_report(producer.clock_rate));
        let Some(report) = report else {
            return;
        };
        let source = self.transports.get(producer.transport);
        let offset = source.and_then(|t| t.clocks.offset(consumer.producer));
        let Some((offset, timestamp_add)) = offset.zip(consumer.timeline.timestamp_add()) else {
            return;
        };
        let captured = unix_from_ntp(report.ntp).wrapping_add(offset);
        let elapsed = (unix as i64).wrapping_sub(captured);
        let units = rtp_units(elapsed.unsigned_abs(), consumer.clock_rate);
        let rtp = if elapsed < 0 {
            report.rtp.wrapping_sub(units)
        } else {
            report.rtp.wrapping_add(units)
        };
        let info = SenderInfo {
            ssrc: consumer.ssrc,
            ntp: rtcp::ntp_from_unix(unix),
            rtp_timestamp: rtp.wrapping_add(timestamp_add),
            packet_count: consumer.sent.packets as u32,
            octet_count: consumer.sent.payload_bytes as u32,
        };
        consumer.reports_sent = [rtcp::ntp_middle(info.ntp), consumer.reports_sent[0]];
        let cname = consumer.cname.clone();
        self.send_rtcp(key, now, |w| {
            w.sender_report(&info, &[])?;
            w.cname(info.ssrc, &cname)
        });
    }

    /// Transport-wide feedback about all that has arrived since the last time.
    pub(crate) fn write_feedback(&mut self, key: TransportKey, now: Nanos) {
        for _ in 0..8 {
            let Some(transport) = self.transports.get_mut(key) else {
                return;
            };
            if !transport.feedback.is_pending() {
                return;
            }
            let mut buffer = [0; BUFFER_BYTES];
            let mut writer = CompoundWriter::new(&mut buffer[..COMPOUND_BYTES]);
            let media = transport.feedback_ssrc();
            if transport.feedback.write(&mut writer, OUR_SSRC, media).is_err() {
                return;
            }
            let len = writer.len();
            self.seal_rtcp(key, &mut buffer, len, now);
        }
    }

    /// Builds a compound, seals it and queues it for the selected path.
    pub(crate) fn send_rtcp(
        &mut self,
        key: TransportKey,
        now: Nanos,
        build: impl FnOnce(&mut CompoundWriter<'_>) -> Result<(), Full>,
    ) {
        let mut buffer = [0; BUFFER_BYTES];
        let mut writer = CompoundWriter::new(&mut buffer[..COMPOUND_BYTES]);
        // What does not fit is left out; what is there is whole packets.
        if build(&mut writer).is_err() {
            self.discards.count(Discard::OutputExhausted);
        }
        let len = writer.len();
        self.seal_rtcp(key, &mut buffer, len, now);
    }

    fn seal_rtcp(&mut self, key: TransportKey, buffer: &mut [u8], len: usize, now: Nanos) {
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let Some(path) = transport.link.rtcp_path() else {
            return;
        };
        if len == 0 {
            return;
        }
        let is_clear = matches!(transport.link.protection, Protection::None);
        if self.seal_keys.seal_key(key.index() as u32).is_none() && !is_clear {
            return;
        }
        self.tap_rtcp(key, &buffer[..len], true, now);
        self.trace_rtcp(key, &buffer[..len], true, now);
        let Some(transport) = self.transports.get_mut(key) else {
            return;
        };
        let seal_key = self.seal_keys.seal_key(key.index() as u32);
        // Nothing is written once the index is used up: it may not begin again.
        let index = transport.rtcp_index;
        let total = seal_key.map_or(len, |seal_key| seal_key.seal_rtcp(buffer, len, index));
        if total == 0 {
            self.discards.count(Discard::OutputExhausted);
            return;
        }
        transport.rtcp_index = transport.rtcp_index.next();
        transport.traffic.sent.add(total, now);
        self.control.push(path, &buffer[..total]);
    }
}

/// What a publisher may send: the API's limit; and, where it does not understand transport-wide
/// feedback, a plain rule by what arrives and what is lost.
fn remb_for(
    transport: &Transport,
    received_bps: u64,
    transport_cc: bool,
    loss: f64,
) -> Option<u64> {
    let max = u64::from(transport.max_incoming_bps);
    if transport_cc {
        // A limit that was said holds until another is said.
        let lifted = transport.remb_sent_bps.is_some().then_some(NO_LIMIT_BPS);
        return if max > 0 { Some(max) } else { lifted };
    }
    let before = transport.remb_sent_bps.unwrap_or(1_000_000);
    let next = if loss > 0.10 {
        (received_bps as f64 * (1.0 - loss / 2.0)) as u64
    } else if loss < 0.02 {
        before.min(received_bps * 2 + 200_000) * 108 / 100
    } else {
        before
    };
    let next = next.clamp(50_000, 100_000_000);
    Some(if max > 0 { next.min(max) } else { next })
}

/// What one compound tells that is looked at as a whole.
#[derive(Default)]
struct Told {
    losses: Losses,
    /// The answer to its reference time. One, whatever is in it: an answer is a datagram.
    reference: Option<DlrrReport>,
}

/// Losses that one compound reports: those of video count if there are any.
#[derive(Default)]
struct Losses {
    video: (f64, f64),
    audio: (f64, f64),
}

impl Losses {
    fn add(&mut self, kind: MediaKind, lost: f64, expected: f64) {
        let sum = if kind == MediaKind::Video { &mut self.video } else { &mut self.audio };
        *sum = (sum.0 + lost, sum.1 + expected);
    }

    /// Packets lost, of packets expected.
    fn sample(&self) -> Option<(f64, f64)> {
        let sum = if self.video.1 > 0.0 { self.video } else { self.audio };
        (sum.1 > 0.0).then_some(sum)
    }
}
