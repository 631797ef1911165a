//! A participant, roughly as a browser behaves: checks connectivity, publishes with its own clocks and
//! answers requests, receives, asks for what is missing, reports. Owns both directions' links and
//! keys. Records everything; judges only what may never happen (see [`Peer::faults`]).

use std::{collections::BTreeMap, net::SocketAddr};

use ironcast_core::{
    Arrival, MS, Nanos, SECOND,
    numbers::{PacketIndex, RtcpIndex},
    srtp::{OpenKey, ReplayWindow, SealKey},
    wire::{
        self, Protocol,
        extension::{
            AbsCaptureTime, ExtensionKind, ExtensionMap, abs_send_time, parse_abs_send_time,
        },
        rtcp::{self, CompoundWriter, Packet, ReportBlock, SenderInfo},
        rtp::{Fields, Header, HeaderWriter},
        stun,
        writer::Full,
    },
};
use ironcast_protocol::command::{TransportProtocol, Tuple};

use crate::{
    estimate::Estimate,
    inbox::{Got, Inbox, Setup},
    media,
    net::Link,
    parameters::{PUBLISHER_EXTENSIONS, RECEIVER_EXTENSIONS, extension_map},
    track::{Plain, Source, Track},
};

/// SSRC of the reports of who publishes nothing.
const OWN_SSRC: u32 = 0x51;
/// Time between the packets of one frame.
const PACING: Nanos = MS / 10;

/// A datagram on its way out of a peer.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// Leaves so much later.
    pub after: Nanos,
    /// Content.
    pub bytes: Vec<u8>,
    /// Transport-wide number.
    pub transport_seq: Option<u16>,
}

impl Outgoing {
    fn now(bytes: Vec<u8>) -> Self {
        Self { after: 0, bytes, transport_seq: None }
    }
}

/// An answer to a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// When it came.
    pub at: Nanos,
    /// To which check.
    pub transaction: [u8; 12],
    /// Where the server sees us, or its error code.
    pub result: Result<SocketAddr, u16>,
}

/// A check that tests can bend.
#[derive(Debug, Clone)]
pub struct CheckSetup {
    /// `theirs:ours`.
    pub username: String,
    /// Theirs.
    pub password: String,
    /// Nominate.
    pub nominate: bool,
    /// With that number.
    pub nomination: Option<u32>,
    /// Side.
    pub role: stun::Role,
}

/// See the file's head.
#[derive(Debug)]
pub struct Peer {
    /// The transport's id.
    pub name: String,
    /// Which worker.
    pub worker: usize,
    /// The transport as a number.
    pub token: u64,
    /// Where it sends from.
    pub remote: SocketAddr,
    /// Where it sends to.
    pub local: SocketAddr,
    /// By what: a connection of each pair of addresses, or datagrams.
    pub protocol: TransportProtocol,
    /// Checks.
    pub check: CheckSetup,
    /// Next check.
    pub check_at: Nanos,
    /// Between two checks once one was answered; `None`: no more checks.
    pub check_every: Option<Nanos>,
    /// Answers to checks.
    pub answers: Vec<Answer>,
    /// Ways of the network.
    pub up: Link,
    /// Ways of the network.
    pub down: Link,
    /// SSRC and sequence number of packets that are lost on the way up.
    pub lose: Vec<(u32, u16)>,
    /// Published.
    pub tracks: Vec<Track>,
    /// Received, by SSRC.
    pub inboxes: BTreeMap<u32, Inbox>,
    /// Wall clock, nanoseconds since 1970 at world time 0.
    pub unix_offset: Nanos,
    /// Transport-wide numbers are written.
    pub transport_cc: bool,
    /// What the next REMB says; none is sent without.
    pub remb_bps: Option<u64>,
    /// What it is made from, where it is not given.
    pub estimate: Option<Estimate>,
    /// Reports are sent.
    pub reports: bool,
    /// Sender reports are sent.
    pub sender_reports: bool,
    /// Next reports.
    pub report_at: Nanos,
    /// Arrival of each transport-wide number at the server: the truth.
    pub arrived: BTreeMap<u16, Nanos>,
    /// What feedback said of it, microseconds.
    pub feedback: BTreeMap<u16, Option<i64>>,
    /// Receiver reports about our streams.
    pub report_blocks: Vec<(Nanos, ReportBlock)>,
    /// REMB from the server.
    pub rembs: Vec<(Nanos, u64)>,
    /// Answers to receiver reference times.
    pub dlrrs: Vec<(Nanos, rtcp::DlrrReport)>,
    /// The server's reference time that is answered with the next reports, and when it came.
    reference: Option<(u32, u32, Nanos)>,
    /// Packets that could not be opened, were doubled or of unknown streams, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Things that may never happen.
    pub faults: Vec<String>,
    seal: SealKey,
    open: OpenKey,
    rtcp_windows: BTreeMap<u32, ReplayWindow>,
    rtcp_index: RtcpIndex,
    transport_seq: u16,
    transaction: u64,
    /// Ids of what it receives.
    pub extensions_in: ExtensionMap,
}

/// What a peer is made of.
pub struct Parts {
    /// The transport's id.
    pub name: String,
    /// Where it sends from.
    pub remote: SocketAddr,
    /// Where it sends to.
    pub local: SocketAddr,
    /// Credentials in use.
    pub check: CheckSetup,
    /// To the server.
    pub up: Link,
    /// From the server.
    pub down: Link,
    /// What it seals with.
    pub seal: SealKey,
    /// What it opens with.
    pub open: OpenKey,
    /// Its wall clock.
    pub unix_offset: Nanos,
}

impl Peer {
    /// Both ends, as the server calls them.
    #[must_use]
    pub fn tuple(&self) -> Tuple {
        Tuple { local: self.local, remote: self.remote, protocol: self.protocol }
    }

    /// A peer that begins to check at once.
    #[must_use]
    pub fn new(parts: Parts, worker: usize, token: u64, now: Nanos) -> Self {
        Self {
            name: parts.name,
            worker,
            token,
            remote: parts.remote,
            local: parts.local,
            protocol: TransportProtocol::Udp,
            check: parts.check,
            check_at: now,
            check_every: Some(2_500 * MS),
            answers: Vec::new(),
            up: parts.up,
            down: parts.down,
            lose: Vec::new(),
            tracks: Vec::new(),
            inboxes: BTreeMap::new(),
            unix_offset: parts.unix_offset,
            transport_cc: true,
            remb_bps: None,
            estimate: None,
            reports: true,
            sender_reports: true,
            report_at: now + 300 * MS,
            arrived: BTreeMap::new(),
            feedback: BTreeMap::new(),
            report_blocks: Vec::new(),
            rembs: Vec::new(),
            dlrrs: Vec::new(),
            reference: None,
            refused: BTreeMap::new(),
            faults: Vec::new(),
            seal: parts.seal,
            open: parts.open,
            rtcp_windows: BTreeMap::new(),
            rtcp_index: RtcpIndex(0),
            transport_seq: (token as u16).wrapping_sub(40),
            transaction: token << 32,
            extensions_in: extension_map(&RECEIVER_EXTENSIONS),
        }
    }

    /// The NTP time of a moment by this peer's wall clock.
    #[must_use]
    pub fn ntp(&self, at: Nanos) -> u64 {
        rtcp::ntp_from_unix(at + self.unix_offset)
    }

    /// One of the received streams.
    ///
    /// # Panics
    /// If there is none with that SSRC: a mistake in the test.
    #[must_use]
    pub fn inbox(&self, ssrc: u32) -> &Inbox {
        &self.inboxes[&ssrc]
    }

    /// One of the published tracks.
    ///
    /// # Panics
    /// If there is none with that id: a mistake in the test.
    pub fn track(&mut self, id: &str) -> &mut Track {
        self.tracks.iter_mut().find(|track| track.id == id).expect("a track with that id")
    }

    /// Whether a datagram is one of those that are to be lost.
    #[must_use]
    pub fn loses(&self, datagram: &[u8]) -> bool {
        let header = (!self.lose.is_empty()).then(|| Header::parse_protected(datagram).ok());
        let header = header.flatten();
        header.is_some_and(|h| self.lose.contains(&(h.ssrc, h.sequence_number)))
    }

    /// When [`Self::tick`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Nanos {
        let tracks = self.tracks.iter().map(|track| track.next_at);
        let missing = self.inboxes.values().filter_map(Inbox::deadline);
        let mut at = tracks.chain(missing).min().unwrap_or(Nanos::MAX);
        if self.check_every.is_some() {
            at = at.min(self.check_at);
        }
        if self.reports { at.min(self.report_at) } else { at }
    }

    /// Time passes: checks, frames, requests, reports.
    pub fn tick(&mut self, now: Nanos) -> Vec<Outgoing> {
        let mut out = Vec::new();
        if let Some(every) = self.check_every
            && now >= self.check_at
        {
            out.push(Outgoing::now(self.write_check()));
            self.check_at = now + if self.answers.is_empty() { 100 * MS } else { every };
        }
        self.publish(now, &mut out);
        self.ask(now, &mut out);
        if self.reports && now >= self.report_at {
            self.report_at = now + SECOND;
            self.report(now, &mut out);
        }
        out
    }

    /// A connectivity check as [`Self::check`] says.
    pub fn write_check(&mut self) -> Vec<u8> {
        self.transaction += 1;
        let mut transaction_id = [0; 12];
        transaction_id[4..].copy_from_slice(&self.transaction.to_be_bytes());
        let request = stun::Request {
            transaction_id,
            username: &self.check.username,
            priority: 1,
            role: self.check.role,
            use_candidate: self.check.nominate,
            nomination: self.check.nomination,
            dtls: None,
        };
        let mut bytes = vec![0; stun::MESSAGE_BYTES_MAX];
        let written = stun::write_request(&mut bytes, &request, self.check.password.as_bytes());
        bytes.truncate(written.expect("room for a check"));
        bytes
    }

    fn publish(&mut self, now: Nanos, out: &mut Vec<Outgoing>) {
        let unix = self.unix_offset;
        for at in 0..self.tracks.len() {
            let plains = self.tracks[at].capture(now, |at| rtcp::ntp_from_unix(at + unix));
            for (nth, plain) in (0u64..).zip(&plains) {
                let mut outgoing = self.seal_plain(plain, now);
                outgoing.after = nth * PACING;
                self.tracks[at].note_sent(plain, &outgoing.bytes);
                out.push(outgoing);
            }
        }
    }

    /// Writes the header of a packet and seals it.
    pub fn seal_plain(&mut self, plain: &Plain, now: Nanos) -> Outgoing {
        let mut bytes = vec![0; 2_000];
        let fields = Fields {
            marker: plain.marker,
            padding: plain.padding > 0,
            payload_type: plain.payload_type,
            sequence_number: plain.index as u16,
            timestamp: plain.timestamp,
            ssrc: plain.ssrc,
        };
        let transport_seq = self.transport_cc.then(|| {
            self.transport_seq = self.transport_seq.wrapping_add(1);
            self.transport_seq
        });
        let header_len = self.write_header(&mut bytes, &fields, plain, transport_seq, now);
        let header_len = header_len.expect("room for a header");
        let end = header_len + plain.payload.len();
        bytes[header_len..end].copy_from_slice(&plain.payload);
        let body_len = plain.payload.len() + usize::from(plain.padding);
        if plain.padding > 0 {
            bytes[header_len + body_len - 1] = plain.padding;
        }
        let index = PacketIndex(plain.index);
        let len = self.seal.seal_rtp(&mut bytes, header_len, body_len, index);
        bytes.truncate(len);
        Outgoing { after: 0, bytes, transport_seq }
    }

    fn write_header(
        &self,
        bytes: &mut [u8],
        fields: &Fields,
        plain: &Plain,
        transport_seq: Option<u16>,
        now: Nanos,
    ) -> Result<usize, Full> {
        let named = |track: &&Track| {
            let ssrcs = |s: &Source| s.ssrc == plain.ssrc || s.rtx_ssrc == Some(plain.ssrc);
            track.sources.iter().any(ssrcs)
        };
        let track = self.tracks.iter().find(named);
        let map = extension_map(track.map_or(&PUBLISHER_EXTENSIONS, |track| &track.extensions));
        let id = |kind| map.id(kind).expect("mapped");
        let mut header = HeaderWriter::begin(bytes, fields)?;
        if plain.bare {
            return header.finish();
        }
        if let Some(mid) = &plain.mid {
            header.push(id(ExtensionKind::Mid), mid.as_bytes())?;
        }
        if let Some(rid) = &plain.rid {
            let kind = if plain.repaired { ExtensionKind::RepairedRid } else { ExtensionKind::Rid };
            header.push(id(kind), rid.as_bytes())?;
        }
        header.push(id(ExtensionKind::AbsSendTime), &abs_send_time(now))?;
        if let Some(seq) = transport_seq {
            header.push(id(ExtensionKind::TransportWideCc), &seq.to_be_bytes())?;
        }
        if let Some(level) = plain.audio_level {
            header.push(id(ExtensionKind::AudioLevel), &[level])?;
        }
        if let Some(orientation) = plain.orientation {
            header.push(id(ExtensionKind::VideoOrientation), &[orientation])?;
        }
        if let Some(ntp) = plain.captured_ntp {
            let (value, len) = AbsCaptureTime { ntp, clock_offset: None }.to_bytes();
            header.push(id(ExtensionKind::AbsCaptureTime), &value[..len])?;
        }
        if let Some((value, id)) = plain.playout_delay.zip(map.id(ExtensionKind::PlayoutDelay)) {
            header.push(id, &value)?;
        }
        if let Some((value, id)) =
            plain.dependency.as_deref().zip(map.id(ExtensionKind::DependencyDescriptor))
        {
            header.push(id, value)?;
        }
        header.finish()
    }

    /// Seals a compound.
    ///
    /// # Panics
    /// When it is longer than any that tests write.
    pub fn seal_rtcp(
        &mut self,
        build: impl FnOnce(&mut CompoundWriter<'_>) -> Result<(), Full>,
    ) -> Vec<u8> {
        let mut plain = vec![0; 1_300];
        let mut writer = CompoundWriter::new(&mut plain);
        build(&mut writer).expect("room for a compound");
        let len = writer.len();
        self.seal_rtcp_bytes(&plain[..len])
    }

    /// Seals what is to be RTCP, whatever it is.
    pub fn seal_rtcp_bytes(&mut self, plain: &[u8]) -> Vec<u8> {
        let mut bytes = plain.to_vec();
        bytes.resize(plain.len() + 100, 0);
        let len = self.seal.seal_rtcp(&mut bytes, plain.len(), self.rtcp_index);
        self.rtcp_index = self.rtcp_index.next();
        bytes.truncate(len);
        bytes
    }

    fn ask(&mut self, now: Nanos, out: &mut Vec<Outgoing>) {
        let due: Vec<(u32, Vec<u16>)> =
            self.inboxes.iter_mut().map(|(ssrc, inbox)| (*ssrc, inbox.due(now))).collect();
        for (ssrc, missing) in due {
            for some in missing.chunks(200) {
                out.push(Outgoing::now(self.seal_rtcp(|w| w.nack(OWN_SSRC, ssrc, some))));
            }
        }
    }

    /// Sender reports about what is published, receiver reports, REMB.
    fn report(&mut self, now: Nanos, out: &mut Vec<Outgoing>) {
        let ntp = self.ntp(now);
        let mut infos = Vec::new();
        for track in self.tracks.iter().filter(|track| !track.muted && self.sender_reports) {
            for source in track.sources.iter().filter(|s| s.enabled && s.packets > 0) {
                infos.push(SenderInfo {
                    ssrc: source.ssrc,
                    ntp,
                    rtp_timestamp: source.timestamp(now, track.clock_rate()),
                    packet_count: source.packets,
                    octet_count: source.octets,
                });
            }
        }
        for info in infos {
            out.push(Outgoing::now(self.seal_rtcp(|w| w.sender_report(&info, &[]))));
        }
        if let Some((ssrc, last_reference_time, at)) = self.reference.take() {
            let delay = rtcp::short_from_nanos(now - at);
            let answer = rtcp::DlrrReport { ssrc, last_reference_time, delay };
            out.push(Outgoing::now(self.seal_rtcp(|w| w.dlrr(OWN_SSRC, &[answer]))));
        }
        let inboxes = self.inboxes.values_mut().filter(|inbox| !inbox.got.is_empty());
        let blocks: Vec<_> = inboxes
            .map(|inbox| {
                let (lsr, delay) = inbox.sender_reports.last().map_or((0, 0), |(at, ntp, _)| {
                    (rtcp::ntp_middle(*ntp), rtcp::short_from_nanos(now - at))
                });
                inbox.statistics.report(inbox.setup.ssrc, lsr, delay)
            })
            .collect();
        let remb = self.remb_bps;
        let ssrcs: Vec<u32> = self.inboxes.keys().copied().collect();
        if !blocks.is_empty() || remb.is_some() {
            let bytes = self.seal_rtcp(|w| {
                w.receiver_report(OWN_SSRC, &blocks)?;
                remb.map_or(Ok(()), |bps| w.maximum_bitrate(OWN_SSRC, bps, &ssrcs))
            });
            out.push(Outgoing::now(bytes));
        }
    }

    /// True for a datagram that this peer can make something of, and no other one behind the same
    /// address.
    #[must_use]
    pub fn is_for(&self, datagram: &[u8]) -> bool {
        let word = |at: usize| {
            datagram.get(at..at + 4).map(|b| u32::from_be_bytes([b[0], b[1], b[2], b[3]]))
        };
        match wire::classify(datagram) {
            Protocol::Stun => word(12) == Some(self.token as u32),
            Protocol::Rtp => word(8).is_some_and(|ssrc| {
                let setups = self.inboxes.values().map(|inbox| &inbox.setup);
                let ours = |s: &Setup| s.ssrc == ssrc || s.rtx.is_some_and(|(rtx, _)| rtx == ssrc);
                setups.into_iter().any(ours)
            }),
            _ => self.open.open_rtcp(&mut datagram.to_vec()).is_ok(),
        }
    }

    /// A datagram from the server.
    pub fn receive(&mut self, datagram: &[u8], now: Nanos) -> Vec<Outgoing> {
        let mut out = Vec::new();
        match wire::classify(datagram) {
            Protocol::Stun => self.receive_answer(datagram, now),
            Protocol::Rtp => {
                if let Some(estimate) = &mut self.estimate {
                    let falls = estimate.receive(datagram.len(), self.down.backlog(now), now);
                    self.remb_bps = estimate.bps();
                    self.report_at = if falls { now } else { self.report_at };
                }
                if let Err(reason) = self.receive_rtp(datagram, now) {
                    *self.refused.entry(reason).or_default() += 1;
                }
            }
            Protocol::Rtcp => self.receive_rtcp(datagram, now, &mut out),
            _ => self.faults.push(format!("a datagram of {} bytes is nothing", datagram.len())),
        }
        out
    }

    fn receive_answer(&mut self, datagram: &[u8], now: Nanos) {
        let Ok(message) = stun::Message::parse(datagram) else {
            self.faults.push("a STUN answer that is none".into());
            return;
        };
        if !message.verify_fingerprint()
            || !message.verify_integrity(self.check.password.as_bytes())
        {
            *self.refused.entry("stun").or_default() += 1;
            return;
        }
        let result = match message.class {
            stun::Class::Success => message.mapped_address.ok_or(0),
            _ => Err(message.error_code.unwrap_or(0)),
        };
        self.answers.push(Answer { at: now, transaction: message.transaction_id, result });
    }

    fn receive_rtp(&mut self, datagram: &[u8], now: Nanos) -> Result<(), &'static str> {
        let header = Header::parse_protected(datagram).map_err(|_| "malformed")?;
        let found = self.inboxes.values_mut().find(|inbox| {
            inbox.setup.ssrc == header.ssrc
                || inbox.setup.rtx.is_some_and(|(ssrc, _)| ssrc == header.ssrc)
        });
        let inbox = found.ok_or("unknown stream")?;
        let rtx = inbox.setup.ssrc != header.ssrc;
        let state = if rtx { &mut inbox.rtx_index } else { &mut inbox.index };
        let index = state.estimate(header.sequence_number).map_err(|_| "replayed")?;
        let mut bytes = datagram.to_vec();
        let len = self.open.open_rtp(&mut bytes, header.header_len(), index);
        let len = len.map_err(|_| "unauthenticated")?;
        state.commit(index);
        let result = take_packet(inbox, &self.extensions_in, &bytes[..len], index.0, rtx, now);
        if let Err(fault) = result {
            self.faults.push(format!("{} at {now}: {fault}", self.name));
        }
        Ok(())
    }

    fn receive_rtcp(&mut self, datagram: &[u8], now: Nanos, out: &mut Vec<Outgoing>) {
        let mut bytes = datagram.to_vec();
        let Ok((len, index)) = self.open.open_rtcp(&mut bytes) else {
            *self.refused.entry("rtcp unauthenticated").or_default() += 1;
            return;
        };
        let ssrc = u32::from_be_bytes(bytes[4..8].try_into().expect("opened"));
        let window = self.rtcp_windows.entry(ssrc).or_default();
        let index = PacketIndex(index.0.into());
        if window.check(index).is_err() {
            *self.refused.entry("rtcp replayed").or_default() += 1;
            return;
        }
        window.commit(index);
        for packet in rtcp::packets(&bytes[..len]) {
            match packet {
                Ok(packet) => self.take_rtcp(&packet, now, out),
                Err(_) => self.faults.push("malformed RTCP from the server".into()),
            }
        }
    }

    fn take_rtcp(&mut self, packet: &Packet<'_>, now: Nanos, out: &mut Vec<Outgoing>) {
        match packet {
            Packet::SenderReport(report) => {
                let info = report.info;
                if let Some(inbox) = self.inboxes.get_mut(&info.ssrc) {
                    inbox.sender_reports.push((now, info.ntp, info.rtp_timestamp));
                }
            }
            Packet::ReceiverReport(report) => {
                self.report_blocks.extend(report.reports.iter().map(|block| (now, block)));
            }
            Packet::Nack(nack) => {
                let sequences: Vec<u16> = nack.sequences().collect();
                for seq in sequences {
                    let repeat =
                        self.tracks.iter_mut().find_map(|t| t.repeat(nack.media_ssrc, seq));
                    match repeat {
                        Some(Ok(plain)) => out.push(self.seal_plain(&plain, now)),
                        Some(Err(bytes)) => out.push(Outgoing::now(bytes)),
                        None => {}
                    }
                }
            }
            Packet::PictureLoss { media_ssrc, .. } => self.want_key_frame(*media_ssrc, true, now),
            Packet::FullIntraRequest(fir) => {
                fir.entries().for_each(|(ssrc, _)| self.want_key_frame(ssrc, false, now));
            }
            Packet::TransportFeedback { feedback, .. } => {
                for status in feedback.packets() {
                    let entry = self.feedback.entry(status.sequence).or_default();
                    *entry = entry.or(status.arrival_us);
                }
            }
            Packet::MaximumBitrate(remb) => self.rembs.push((now, remb.bitrate_bps)),
            Packet::ExtendedReport(report) => {
                for block in report.blocks() {
                    if let rtcp::ExtendedBlock::ReceiverReferenceTime(ntp) = block {
                        self.reference = Some((report.ssrc, rtcp::ntp_middle(ntp), now));
                    }
                    if let rtcp::ExtendedBlock::Dlrr(dlrr) = block {
                        self.dlrrs.extend(dlrr.reports().map(|report| (now, report)));
                    }
                }
            }
            _ => {}
        }
    }

    fn want_key_frame(&mut self, ssrc: u32, pli: bool, now: Nanos) {
        let sources = self.tracks.iter_mut().flat_map(|track| &mut track.sources);
        for source in sources.filter(|source| source.ssrc == ssrc) {
            source.key_wanted = true;
            source.asked.push((now, pli));
        }
    }
}

/// A packet that was opened goes into its inbox.
fn take_packet(
    inbox: &mut Inbox,
    extensions: &ExtensionMap,
    packet: &[u8],
    index: u64,
    rtx: bool,
    now: Nanos,
) -> Result<(), String> {
    let header = Header::parse(packet).map_err(|error| error.to_string())?;
    let expected = if rtx {
        inbox.setup.rtx.map(|(_, payload_type)| payload_type)
    } else {
        Some(inbox.setup.payload_type)
    };
    let is_red = !rtx && inbox.setup.red == Some(header.payload_type);
    if Some(header.payload_type) != expected && !is_red {
        return Err(format!("payload type {}", header.payload_type));
    }
    let mut payload = header.payload(packet);
    if is_red {
        let (earlier, newest) = media::read_red(inbox.setup.payload_type, payload)?;
        for (offset, bytes) in earlier {
            let (body, _) = media::read(inbox.setup.codec, bytes)?;
            let timestamp = header.timestamp.wrapping_sub(offset);
            let known = inbox.got.values().rev().take(8).find(|got| got.body == body);
            if known.is_some_and(|got| got.timestamp != timestamp) {
                return Err(format!("frame {} has two times", body.frame));
            }
            inbox.redundant.insert(body.frame, timestamp);
        }
        payload = newest;
    }
    if payload.is_empty() {
        return Ok(());
    }
    let mut index = index;
    if rtx {
        inbox.retransmissions += 1;
        let (original, rest) = payload.split_first_chunk().ok_or("RTX without a number")?;
        let original = u16::from_be_bytes(*original);
        // The first to arrive of a stream may be a repeat.
        let newest = inbox.index.newest().map_or_else(|| original.into(), |newest| newest.0);
        let distance = original.wrapping_sub(newest as u16).cast_signed();
        index = newest.checked_add_signed(i64::from(distance)).ok_or("RTX of what never was")?;
        payload = rest;
    } else {
        let clock_rate = inbox.clock_rate();
        let arrival = Arrival::at(now);
        inbox.statistics.receive(header.sequence_number, header.timestamp, arrival, clock_rate);
    }
    let (body, descriptor) = media::read(inbox.setup.codec, payload)?;
    let mut got = Got {
        at: now,
        rtx,
        timestamp: header.timestamp,
        marker: header.marker,
        mid: None,
        audio_level: None,
        orientation: None,
        captured_ntp: None,
        playout_delay: None,
        dependency: None,
        send_time: None,
        body,
        descriptor,
        padding: header.padding_len,
    };
    for (id, value) in header.extensions(packet) {
        match extensions.kind(id) {
            Some(ExtensionKind::Mid) => {
                got.mid = Some(String::from_utf8_lossy(value).into_owned());
            }
            Some(ExtensionKind::AbsSendTime) => got.send_time = parse_abs_send_time(value),
            Some(ExtensionKind::AudioLevel) => got.audio_level = value.first().copied(),
            Some(ExtensionKind::VideoOrientation) => got.orientation = value.first().copied(),
            Some(ExtensionKind::AbsCaptureTime) => {
                got.captured_ntp = AbsCaptureTime::parse(value).map(|time| time.ntp);
            }
            Some(ExtensionKind::PlayoutDelay) => got.playout_delay = Some(value.to_vec()),
            Some(ExtensionKind::DependencyDescriptor) => got.dependency = Some(value.to_vec()),
            _ => return Err(format!("an extension {id} that nobody agreed to")),
        }
    }
    inbox.put(index, got)
}
