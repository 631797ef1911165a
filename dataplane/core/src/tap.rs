//! Taps: packets in the clear, in their order and with what is known of each, for readers inside the process:
//! a capture, a trace, whatever records. Owns their queues. A queue has a bound: what finds no room is
//! dropped and counted, and nothing ever waits for who reads.
//!
//! | tap of | takes | where |
//! |---|---|---|
//! | a transport | its RTP and RTCP, both ways | when opened ([3], `reports.rs`), before it is sealed ([7]) |
//! | a consumer | RTP that leaves for it, repeats too | before it is sealed ([7]) |
//! | a producer | each of its packets once, without RTX and RED | [5], a subscriber beside consumers |
//!
//! A producer's tap takes what its history takes, whatever receivers there are and want; it wants nothing
//! itself: who records asks for key frames and layers as any receiver does. Without any tap a packet that
//! comes and a portion that leaves cost one comparison each; a tapped packet is copied, and allocates
//! nothing once its queue has its size.

use ironcast_protocol::{CommandError, ErrorCode, media::MediaKind, snapshot::ResourceKind};

use crate::{
    Nanos,
    arena::Arena,
    batch::Batch,
    key::{ConsumerKey, OfTap, ProducerKey, TapKey, TransportKey},
    numbers::PacketIndex,
    producer::{Producer, Subscriber},
    srtp::SealJob,
    transport::demux::StreamRef,
    wire::{describe, rtp, u32_at},
    worker::Worker,
};

/// Taps of a worker.
pub const TAPS_MAX: usize = 128;
/// What a packet takes of a queue beside its bytes.
pub const RECORD_BYTES: usize = 64;

/// What is tapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A peer.
    Transport(TransportKey),
    /// A received track.
    Producer(ProducerKey),
    /// A sent track, or a part of a pipe.
    Consumer(ConsumerKey),
}

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// RTP of a track.
    Media(MediaKind),
    /// A compound of RTCP: all of it is the head.
    Rtcp,
}

/// Whose a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// Received; which, and which of its streams.
    Producer(ProducerKey, u8),
    /// Sent.
    Consumer(ConsumerKey),
}

/// What is known of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    /// When it came, or the turn in which it leaves: nanoseconds since 1970.
    pub at_unix_ns: u64,
    /// Its number where nothing wraps: of a producer's tap that of the history, else what it is sealed
    /// with. 0 for RTCP.
    pub number: u64,
    /// By which it came or leaves.
    pub transport: TransportKey,
    /// None for RTCP.
    pub track: Option<Track>,
    /// Bytes of all of it, without a tag.
    pub len: u32,
    /// Media of a kind, or RTCP.
    pub kind: Kind,
    /// We send it.
    pub is_sent: bool,
    /// It comes, or came, as RTX.
    pub is_rtx: bool,
    /// Its payload is of a key frame. Of a transport's received packets nothing is known of that yet.
    pub is_key_frame: bool,
    /// The same: a key frame begins with it.
    pub begins_key_frame: bool,
    /// The same.
    pub temporal_layer: u8,
}

/// A packet as a reader gets it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// What is known of it.
    pub about: About,
    /// Its header with all extensions; of a producer's tap the fixed header alone, as the stream's own
    /// packets have it. RTCP whole.
    pub head: &'a [u8],
    /// The rest; nothing where only heads are wanted.
    pub payload: &'a [u8],
}

/// What a tap keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// What RTP carries, too.
    pub payload: bool,
    /// Bytes between two readings, [`RECORD_BYTES`] a packet included.
    pub bytes_max: usize,
}

/// How a reading ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// Packets for which there was no room since the reading before.
    pub dropped: u64,
    /// What was tapped is gone: nothing comes any more.
    pub has_ended: bool,
}

#[derive(Debug, Clone, Copy)]
struct Record {
    about: About,
    head_len: u16,
    payload_len: u16,
}

const _: () = assert!(size_of::<Record>() <= RECORD_BYTES);

/// One queue.
#[derive(Debug)]
struct Tap {
    of: Subject,
    keep: Keep,
    records: Vec<Record>,
    /// Heads and payloads, in the records' order.
    bytes: Vec<u8>,
    dropped: u64,
}

impl Tap {
    /// False where there is no room.
    fn push(&mut self, about: About, head: &[u8], payload: &[u8]) -> bool {
        let payload = if self.keep.payload { payload } else { &[] };
        let (head_len, payload_len) = (u16::try_from(head.len()), u16::try_from(payload.len()));
        let used = self.bytes.len() + self.records.len() * RECORD_BYTES;
        let more = head.len() + payload.len() + RECORD_BYTES;
        let (Ok(head_len), Ok(payload_len), true) =
            (head_len, payload_len, used + more <= self.keep.bytes_max)
        else {
            self.dropped += 1;
            return false;
        };
        self.bytes.extend_from_slice(head);
        self.bytes.extend_from_slice(payload);
        self.records.push(Record { about, head_len, payload_len });
        true
    }

    fn read(&mut self, mut each: impl FnMut(Packet<'_>)) -> u64 {
        let mut rest = self.bytes.as_slice();
        for record in self.records.drain(..) {
            let head;
            let payload;
            (head, rest) = rest.split_at(record.head_len.into());
            (payload, rest) = rest.split_at(record.payload_len.into());
            each(Packet { about: record.about, head, payload });
        }
        self.bytes.clear();
        std::mem::take(&mut self.dropped)
    }
}

/// All taps of a worker.
#[derive(Debug, Default)]
pub(crate) struct Taps {
    all: Arena<Tap, OfTap>,
    /// Those that look at what passes a transport: its own, and its consumers'.
    passing: Vec<(TransportKey, TapKey)>,
    /// For which no tap had room.
    pub(crate) dropped: u64,
}

impl Taps {
    /// Whether any looks at what passes a transport: asked for each packet, before anything else.
    #[inline]
    pub(crate) fn look_at_transports(&self) -> bool {
        !self.passing.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// For every tap of that transport itself.
    fn note(&mut self, about: About, head: &[u8], payload: &[u8]) {
        for (_, key) in self.passing.iter().filter(|one| one.0 == about.transport) {
            if let Some(tap) = self.all.get_mut(*key)
                && tap.of == Subject::Transport(about.transport)
            {
                self.dropped += u64::from(!tap.push(about, head, payload));
            }
        }
    }

    /// A producer's packets that were not fanned out yet, for a tap among its subscribers.
    #[cold]
    pub(crate) fn take_new(&mut self, key: TapKey, producer: &Producer, unix_offset_ns: Nanos) {
        let Some(tap) = self.all.get_mut(key) else { return };
        let Subject::Producer(of) = tap.of else { return };
        for fresh in producer.new_packets() {
            let stream = &producer.streams[usize::from(fresh.stream)];
            let Some(stored) = stream.history.packet(fresh.seq) else { continue };
            let (meta, mut head) = (&stored.meta, [0; rtp::FIXED_HEADER_BYTES]);
            let fields = rtp::Fields {
                marker: meta.marker,
                payload_type: producer.payload_type,
                sequence_number: fresh.seq.0 as u16,
                timestamp: meta.timestamp,
                ssrc: stream.ssrc.unwrap_or_default(),
                ..rtp::Fields::default()
            };
            let written = rtp::write_header(&mut head, &fields, false);
            debug_assert_eq!(written, Ok(head.len()));
            let about = About {
                at_unix_ns: meta.arrival.moment() + unix_offset_ns,
                number: fresh.seq.0.into(),
                transport: producer.transport,
                track: Some(Track::Producer(of, fresh.stream)),
                len: (head.len() + stored.payload().len()) as u32,
                kind: Kind::Media(producer.kind),
                is_sent: false,
                is_rtx: fresh.rtx,
                is_key_frame: meta.info.key_frame,
                begins_key_frame: meta.info.key_frame && meta.info.start_of_frame,
                temporal_layer: meta.info.temporal_layer,
            };
            self.dropped += u64::from(!tap.push(about, &head, stored.payload()));
        }
    }
}

impl Worker {
    /// What a tap of a resource would be of: a pipe has several parts. Nothing where it is unknown, or of
    /// a kind that has no packets.
    #[must_use]
    pub fn subjects(&self, kind: ResourceKind, id: &str) -> Vec<Subject> {
        let one = match kind {
            ResourceKind::Transport => self.transport_ids.get(id).copied().map(Subject::Transport),
            ResourceKind::Producer => self.producer_ids.get(id).copied().map(Subject::Producer),
            ResourceKind::Consumer => {
                let parts = self.parts(id).unwrap_or_default();
                return parts.into_iter().map(Subject::Consumer).collect();
            }
            ResourceKind::Router | ResourceKind::Observer => None,
        };
        one.into_iter().collect()
    }

    /// Begins to take packets.
    ///
    /// # Errors
    /// `NotFound`: that is gone. `NoCapacity`.
    pub fn open_tap(&mut self, of: Subject, keep: Keep) -> Result<TapKey, CommandError> {
        if self.taps.len() >= TAPS_MAX {
            let message = format!("{TAPS_MAX} taps of this worker are open already");
            return Err(CommandError::new(ErrorCode::NoCapacity, message));
        }
        if !self.is_there(of) {
            return Err(CommandError::new(ErrorCode::NotFound, "what is to be tapped is gone"));
        }
        let (records, bytes) = (Vec::new(), Vec::new());
        let key = self.taps.all.insert(Tap { of, keep, records, bytes, dropped: 0 });
        match of {
            Subject::Transport(transport) => self.taps.passing.push((transport, key)),
            Subject::Consumer(consumer) => {
                let transport = self.consumers.get(consumer).map(|consumer| consumer.transport);
                self.taps.passing.extend(transport.map(|transport| (transport, key)));
            }
            Subject::Producer(producer) => {
                if let Some(producer) = self.producers.get_mut(producer) {
                    producer.subscribers.push(Subscriber::Tap(key));
                }
            }
        }
        Ok(key)
    }

    /// From now on it keeps this.
    pub(crate) fn keep_of_tap(&mut self, key: TapKey, keep: Keep) {
        if let Some(tap) = self.taps.all.get_mut(key) {
            tap.keep = keep;
        }
    }

    /// Takes all that has come, in its order; what came before its subject went is there, too. None where
    /// the tap was closed.
    pub fn read_tap(&mut self, key: TapKey, each: impl FnMut(Packet<'_>)) -> Option<Read> {
        let of = self.taps.all.get(key)?.of;
        let has_ended = !self.is_there(of);
        let dropped = self.taps.all.get_mut(key)?.read(each);
        Some(Read { dropped, has_ended })
    }

    /// Ends a tap; what it still has is gone.
    pub fn close_tap(&mut self, key: TapKey) {
        let Some(tap) = self.taps.all.remove(key) else { return };
        self.taps.passing.retain(|(_, of)| *of != key);
        if let Subject::Producer(producer) = tap.of {
            self.unsubscribe_tap(producer, key);
        }
    }

    pub(crate) fn is_there(&self, subject: Subject) -> bool {
        match subject {
            Subject::Transport(key) => self.transports.get(key).is_some(),
            Subject::Producer(key) => self.producers.get(key).is_some(),
            Subject::Consumer(key) => self.consumers.get(key).is_some(),
        }
    }

    /// RTP that came, opened: `plain` is the packet as its publisher made it.
    #[cold]
    #[inline(never)]
    pub(crate) fn tap_received(
        &mut self,
        transport: TransportKey,
        found: StreamRef,
        index: PacketIndex,
        (plain, header_len): (&[u8], usize),
        at: Nanos,
    ) {
        let Some(kind) = self.producers.get(found.producer).map(|producer| producer.kind) else {
            return;
        };
        let about = About {
            number: index.0,
            track: Some(Track::Producer(found.producer, found.stream)),
            kind: Kind::Media(kind),
            is_rtx: found.rtx,
            ..bare(transport, plain.len(), at + self.unix_offset_ns)
        };
        if let Some((head, payload)) = plain.split_at_checked(header_len) {
            self.taps.note(about, head, payload);
        }
    }

    /// A compound of RTCP in the clear.
    pub(crate) fn tap_rtcp(
        &mut self,
        transport: TransportKey,
        compound: &[u8],
        is_sent: bool,
        at: Nanos,
    ) {
        if self.taps.look_at_transports() {
            let at_unix_ns = at + self.unix_offset_ns;
            let about = About { is_sent, ..bare(transport, compound.len(), at_unix_ns) };
            self.taps.note(about, compound, &[]);
        }
    }

    /// RTP that leaves: what is about to be sealed, or goes as it is.
    #[cold]
    #[inline(never)]
    pub(crate) fn tap_sent(&mut self, batch: &Batch, now: Nanos) {
        let Taps { all, passing, dropped } = &mut self.taps;
        for job in self.seal_jobs.iter().chain(&self.clear_jobs) {
            let of_job = |one: &&(TransportKey, TapKey)| one.0.index() as u32 == job.transport;
            for &(key, tap) in passing.iter().filter(of_job) {
                let Some(tap) = all.get_mut(tap) else { continue };
                let Some((head, payload)) = plain_of(batch, job) else { continue };
                let ssrc = u32_at(head, 8).unwrap_or_default();
                // Another transport may have the place of one that is gone.
                let Some(transport) = self.transports.get(key) else { continue };
                let Some(&consumer_key) = transport.consumer_ssrcs.get(&ssrc) else { continue };
                let Some(consumer) = self.consumers.get(consumer_key) else { continue };
                let wanted = [Subject::Transport(key), Subject::Consumer(consumer_key)];
                if !wanted.contains(&tap.of) {
                    continue;
                }
                let is_rtx = ssrc != consumer.ssrc;
                // RFC 4588 section 4: behind the number that it had.
                let media = payload.get(if is_rtx { 2 } else { 0 }..).unwrap_or_default();
                let codec = self.producers.get(consumer.producer).map(|producer| producer.codec);
                let info = codec.and_then(|codec| describe(codec, media, None));
                let info = info.unwrap_or_default();
                let at_unix_ns = now + self.unix_offset_ns;
                let about = About {
                    number: job.index.0,
                    track: Some(Track::Consumer(consumer_key)),
                    kind: Kind::Media(consumer.kind),
                    is_sent: true,
                    is_rtx,
                    is_key_frame: info.key_frame,
                    begins_key_frame: info.key_frame && info.start_of_frame,
                    temporal_layer: info.temporal_layer,
                    ..bare(key, head.len() + payload.len(), at_unix_ns)
                };
                *dropped += u64::from(!tap.push(about, head, payload));
            }
        }
    }
}

/// A packet of which nothing is known but this: a received compound of RTCP.
fn bare(transport: TransportKey, len: usize, at_unix_ns: u64) -> About {
    About {
        at_unix_ns,
        number: 0,
        transport,
        track: None,
        len: len as u32,
        kind: Kind::Rtcp,
        is_sent: false,
        is_rtx: false,
        is_key_frame: false,
        begins_key_frame: false,
        temporal_layer: 0,
    }
}

/// Header and payload of a packet that is not sealed yet.
fn plain_of<'a>(batch: &'a Batch, job: &SealJob) -> Option<(&'a [u8], &'a [u8])> {
    let slab = batch.filled.get(job.slab as usize)?;
    let start = job.offset as usize;
    let header_end = start + usize::from(job.header_len);
    let end = header_end + usize::from(job.payload_len);
    Some((slab.bytes.get(start..header_end)?, slab.bytes.get(header_end..end)?))
}
