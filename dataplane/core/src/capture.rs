//! Copies of the packets of a transport, in the clear, for whoever looks for a fault. Off but for the
//! few transports that somebody asks for, bounded, and ended by itself when nobody asks any more.
//! Where nothing is captured it costs a packet that comes and a portion that leaves one comparison.

use std::collections::BTreeMap;

use ironcast_protocol::{
    Reply,
    capture::{BYTES_MAX, CAPTURES_MAX, Captured, IDLE_S, PACKET_BYTES, Packet, TakeCapture},
    command::{CommandError, ErrorCode},
};

use crate::{Nanos, SECOND, batch::Batch, key::TransportKey, srtp::SealJob, worker::Worker};

/// Those that run now, by the transport's place in its table.
#[derive(Debug, Default)]
pub(crate) struct Captures(BTreeMap<u32, Capture>);

#[derive(Debug)]
struct Capture {
    transport: TransportKey,
    with_payload: bool,
    until: Nanos,
    taken: Captured,
    bytes: usize,
}

impl Capture {
    /// A packet of `len` bytes: `head` and then `rest`, of which the head alone may be wanted.
    fn add(&mut self, at_unix_ns: u64, is_sent: bool, head: &[u8], rest: &[u8]) {
        let len = head.len() + rest.len();
        let rest = if self.with_payload { rest } else { &[] };
        let kept = head.len() + rest.len() + PACKET_BYTES;
        if self.bytes + kept > BYTES_MAX {
            self.taken.dropped += 1;
            return;
        }
        self.bytes += kept;
        let bytes = [head, rest].concat();
        self.taken.packets.push(Packet { at_unix_ns, is_sent, len: len as u32, bytes });
    }
}

impl Captures {
    /// Whether there is none: looked at for each packet, before anything else.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ends those that nobody has asked for lately.
    pub(crate) fn expire(&mut self, now: Nanos) {
        self.0.retain(|_, capture| now < capture.until);
    }

    /// A packet of a transport, if that is captured: its header and the rest of it.
    #[inline]
    pub(crate) fn note(
        &mut self,
        key: TransportKey,
        at_unix_ns: u64,
        is_sent: bool,
        head: &[u8],
        rest: &[u8],
    ) {
        if self.is_empty() {
            return;
        }
        let capture = self.0.get_mut(&(key.index() as u32));
        if let Some(capture) = capture.filter(|capture| capture.transport == key) {
            capture.add(at_unix_ns, is_sent, head, rest);
        }
    }
}

impl Worker {
    /// What was captured since the question before; the first one begins.
    ///
    /// # Errors
    /// `NotFound`; `NoCapacity` where too many are captured already.
    pub fn take_capture(&mut self, take: &TakeCapture, now: Nanos) -> Result<Reply, CommandError> {
        let key = self.transport_key(&take.id)?;
        let tuple = self.transports.get(key).and_then(|transport| transport.link.tuple());
        self.captures.expire(now);
        let all = &mut self.captures.0;
        let place = key.index() as u32;
        // Another transport that had this place has gone, and its capture with it.
        let before = all.remove(&place).filter(|capture| capture.transport == key);
        if before.is_none() && !take.is_last && all.len() >= CAPTURES_MAX {
            let message = format!("{CAPTURES_MAX} transports of this worker are captured already");
            return Err(CommandError::new(ErrorCode::NoCapacity, message));
        }
        if !take.is_last {
            let capture = Capture {
                transport: key,
                with_payload: take.payload,
                until: now + IDLE_S * SECOND,
                taken: Captured::default(),
                bytes: 0,
            };
            all.insert(place, capture);
        }
        let taken = before.map(|capture| capture.taken).unwrap_or_default();
        Ok(Reply::Captured(Captured { tuple, ..taken }))
    }

    /// RTP that we send: what is about to be sealed, or leaves as it is.
    pub(crate) fn capture_jobs(&mut self, batch: &Batch, now: Nanos) {
        let at = now + self.unix_offset_ns;
        for job in self.seal_jobs.iter().chain(&self.clear_jobs) {
            let Some(capture) = self.captures.0.get_mut(&job.transport) else { continue };
            if self.transports.get(capture.transport).is_none() {
                continue;
            }
            if let Some((head, rest)) = plain_of(batch, job) {
                capture.add(at, true, head, rest);
            }
        }
    }
}

/// Header and payload of a packet that is not sealed yet.
pub(crate) fn plain_of<'a>(batch: &'a Batch, job: &SealJob) -> Option<(&'a [u8], &'a [u8])> {
    let slab = batch.filled.get(job.slab as usize)?;
    let start = job.offset as usize;
    let header_end = start + usize::from(job.header_len);
    let end = header_end + usize::from(job.payload_len);
    Some((slab.bytes.get(start..header_end)?, slab.bytes.get(header_end..end)?))
}
