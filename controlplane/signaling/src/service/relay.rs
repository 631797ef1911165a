//! What browsers say to each other to talk directly: read for its shape, and handed on.

use ironcast_api::Id;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::events::Signal;
use crate::failure::Failure;
use crate::payload::{Relayed, parse};
use crate::rooms::{Room, Seat};
use crate::store::hub::{self, News};

/// Longest session description, bytes.
const SDP_BYTES_MAX: usize = 64 * 1024;

/// Longest candidate, bytes.
const CANDIDATE_BYTES_MAX: usize = 2 * 1024;

/// Media sections whose content is said.
const SOURCES_MAX: usize = 32;

fn content(signal: Signal, wanted: &Relayed) -> Result<Value, Failure> {
    let missing = || Failure::invalid(format!("missing field `{}`", signal.key()));
    let description = match signal {
        Signal::Offer => &wanted.offer,
        Signal::Answer => &wanted.answer,
        Signal::Candidate => {
            let candidate = wanted.candidate.as_ref().ok_or_else(missing)?;
            let content = json!(candidate);
            if content.to_string().len() > CANDIDATE_BYTES_MAX {
                let message = format!("a candidate has at most {CANDIDATE_BYTES_MAX} bytes");
                return Err(Failure::invalid(message));
            }
            return Ok(content);
        }
    };
    let description = description.as_ref().ok_or_else(missing)?;
    let words = description.sources.iter().flat_map(|(mid, source)| [mid, source]);
    if description.sources.len() > SOURCES_MAX || words.into_iter().any(|word| word.len() > 64) {
        return Err(Failure::invalid("sources has a word for each media section"));
    }
    if description.sdp.len() > SDP_BYTES_MAX {
        let message = format!("a session description has at most {SDP_BYTES_MAX} bytes");
        return Err(Failure::invalid(message));
    }
    Ok(json!(description))
}

/// Where the one is whom it is for.
enum Receiver {
    /// At a socket of this node.
    Here(Sid),
    /// At another node.
    There(Id),
}

/// The one it is for: named, or the only other one.
fn receiver(room: &Room, seat: &Seat, wanted: &Relayed) -> Result<Receiver, Failure> {
    let to = match &wanted.to {
        Some(id) if *id == seat.participant_id => {
            return Err(Failure::invalid("`to` is yourself"));
        }
        Some(id) => id,
        None => {
            let mut others = room.participants.keys().filter(|id| **id != seat.participant_id);
            match (others.next(), others.next()) {
                (Some(only), None) => only,
                _ => return Err(Failure::invalid("say to whom: missing field `to`")),
            }
        }
    };
    let there = room.participants.get(to).ok_or_else(|| Failure::not_found("participant", to))?;
    if !there.is_here() {
        return Ok(Receiver::There(to.clone()));
    }
    there.socket.map(Receiver::Here).ok_or_else(|| {
        Failure::new("wrong_state", format!("participant {to} is away for a moment; try again"))
    })
}

impl Service {
    fn relay_to_node(&self, seat: &Seat, signal: Signal, relayed: hub::Relayed) {
        let Some(fleet) = &self.fleet else { return };
        let news = match signal {
            Signal::Offer => News::Offer(relayed),
            Signal::Answer => News::Answer(relayed),
            Signal::Candidate => News::Ice(relayed),
        };
        fleet.tell(&seat.room.id, news);
    }

    pub(super) fn relay(
        &self,
        socket: Sid,
        signal: Signal,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: Relayed = parse(payload)?;
        let content = content(signal, &wanted)?;
        let seat = self.rooms.seat(socket)?;
        let room = seat.room.lock();
        room.participant(&seat)?;
        let receiver = match receiver(&room, &seat, &wanted)? {
            Receiver::Here(socket) => socket,
            Receiver::There(to) => {
                let from = seat.participant_id.clone();
                self.relay_to_node(&seat, signal, hub::Relayed { from, to, content });
                return Ok(json!({}));
            }
        };
        let told = json!({ "from": seat.participant_id, signal.key(): content });
        for name in signal.names() {
            self.emit(receiver, name, &told);
        }
        Ok(json!({}))
    }
}
