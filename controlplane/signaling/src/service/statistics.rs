//! What a room has and how much its people send and receive, read from the media server when
//! somebody asks.

use std::collections::{BTreeMap, HashMap};

use ironcast_api::Id;
use serde_json::{Value, json};

use super::Service;
use crate::failure::Failure;
use crate::media::{Bitrates, TransportView};

/// Rooms whose figures are read at once: each is a question for each transport.
pub(super) const AT_ONCE_MAX: usize = 4;

/// What one participant has.
#[derive(Default)]
struct Figures {
    transports: usize,
    producers: usize,
    consumers: usize,
    bitrates: Bitrates,
}

impl Figures {
    fn add(&mut self, transport: &TransportView, bitrates: Bitrates) {
        self.transports += 1;
        self.producers += transport.producers.len();
        self.consumers += transport.consumers.len();
        self.bitrates.received += bitrates.received;
        self.bitrates.sent += bitrates.sent;
    }

    fn show(&self) -> Value {
        json!({
            "transports": self.transports,
            "producers": self.producers,
            "consumers": self.consumers,
            "bitrateIn": self.bitrates.received,
            "bitrateOut": self.bitrates.sent,
        })
    }
}

impl Service {
    /// `GET /api/rooms/{id}/stats`. Bits per second are the media server's: "in" is what people send.
    pub async fn room_stats(&self, room_id: &Id) -> Result<Value, Failure> {
        let cell = self.rooms.room(room_id).ok_or_else(|| Failure::not_found("room", room_id))?;
        let (people, routers) = {
            let room = cell.lock();
            let people: BTreeMap<Id, Id> = room
                .participants
                .iter()
                .map(|(id, participant)| (participant.session.clone(), id.clone()))
                .collect();
            let routers: Vec<_> = room.routers().filter(|it| it.is_made()).cloned().collect();
            (people, routers)
        };
        let mut all = Figures::default();
        let mut each: BTreeMap<&str, Figures> =
            people.keys().map(|session| (session.as_str(), Figures::default())).collect();
        let busy = |_| Failure::new("rate_limited", "too many figures are asked for; try again");
        let _one = self.statistics.try_acquire().map_err(busy)?;
        let (mut transports, mut bitrates) = (Vec::new(), HashMap::new());
        for router in routers {
            let media = self.media(router.host);
            let mut there = media.router(router.id.clone()).await?.transports;
            // What goes from host to host is nobody's.
            there.retain(|transport| !transport.is_pipe);
            let ids = there.iter().filter_map(|transport| Id::new(&*transport.id).ok());
            bitrates.extend(media.bitrates(ids.collect()).await);
            transports.extend(there);
        }
        for transport in &transports {
            // One that ended meanwhile sends nothing.
            let bitrates = bitrates.get(&*transport.id).copied().unwrap_or_default();
            all.add(transport, bitrates);
            let his = transport.session.as_deref().and_then(|session| each.get_mut(session));
            if let Some(his) = his {
                his.add(transport, bitrates);
            }
        }
        let participants = people.iter().map(|(session, participant_id)| {
            let mut shown = each[session.as_str()].show();
            shown["participantId"] = json!(participant_id);
            shown
        });
        let participants: Vec<Value> = participants.collect();
        let mut shown = all.show();
        shown["roomId"] = json!(room_id);
        shown["participantCount"] = json!(people.len());
        shown["participants"] = json!(participants);
        Ok(shown)
    }
}
