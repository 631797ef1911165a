//! What the control plane captures: taps of whole transports, for whoever looks for a fault. Read when it
//! asks, and ended by itself when it asks no more. Bounded: a few transports of a worker.

use std::collections::BTreeMap;

use ironcast_protocol::{
    Reply,
    capture::{BYTES_MAX, CAPTURES_MAX, Captured, IDLE_S, PACKET_BYTES, Packet, TakeCapture},
    command::{CommandError, ErrorCode},
};

use crate::{
    Nanos, SECOND,
    key::{TapKey, TransportKey},
    tap::{Keep, RECORD_BYTES, Subject},
    worker::Worker,
};

const _: () = assert!(RECORD_BYTES == PACKET_BYTES, "an answer has room for what a tap keeps");

/// Those that run now.
#[derive(Debug, Default)]
pub(crate) struct Captures(BTreeMap<TransportKey, Capture>);

#[derive(Debug, Clone, Copy)]
struct Capture {
    tap: TapKey,
    until: Nanos,
}

impl Worker {
    /// What was captured since the question before; the first one begins.
    ///
    /// # Errors
    /// `NotFound`; `NoCapacity` where too many are captured already.
    pub fn take_capture(&mut self, take: &TakeCapture, now: Nanos) -> Result<Reply, CommandError> {
        let key = self.transport_key(&take.id)?;
        let tuple = self.transports.get(key).and_then(|transport| transport.link.tuple());
        self.expire_captures(now);
        let keep = Keep { payload: take.payload, bytes_max: BYTES_MAX };
        let mut taken = Captured { tuple, ..Captured::default() };
        let before = self.captures.0.get(&key).map(|capture| capture.tap);
        if let Some(tap) = before {
            let read = self.read_tap(tap, |packet| taken.packets.push(copy(packet)));
            taken.dropped = read.map_or(0, |read| read.dropped);
            self.keep_of_tap(tap, keep);
        }
        if take.is_last {
            self.end_capture(key);
            return Ok(Reply::Captured(taken));
        }
        let tap = match before {
            Some(tap) => tap,
            None if self.captures.0.len() >= CAPTURES_MAX => {
                let message =
                    format!("{CAPTURES_MAX} transports of this worker are captured already");
                return Err(CommandError::new(ErrorCode::NoCapacity, message));
            }
            None => self.open_tap(Subject::Transport(key), keep)?,
        };
        self.captures.0.insert(key, Capture { tap, until: now + IDLE_S * SECOND });
        Ok(Reply::Captured(taken))
    }

    /// Ends those that nobody has asked for lately, and those of transports that are gone.
    pub(crate) fn expire_captures(&mut self, now: Nanos) {
        let is_over = |(key, capture): (&TransportKey, &Capture)| {
            now >= capture.until || self.transports.get(*key).is_none()
        };
        let over: Vec<_> =
            self.captures.0.iter().filter(|one| is_over(*one)).map(|(key, _)| *key).collect();
        over.into_iter().for_each(|key| self.end_capture(key));
    }

    fn end_capture(&mut self, key: TransportKey) {
        if let Some(capture) = self.captures.0.remove(&key) {
            self.close_tap(capture.tap);
        }
    }
}

fn copy(packet: crate::tap::Packet<'_>) -> Packet {
    let about = packet.about;
    Packet {
        at_unix_ns: about.at_unix_ns,
        is_sent: about.is_sent,
        len: about.len,
        bytes: [packet.head, packet.payload].concat(),
    }
}
