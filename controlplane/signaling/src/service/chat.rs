//! What people write. A message is kept first and told then, in the order of its number, so that
//! all see one order; who sends it again after a lost answer gets the answer of the first time.

use std::time::Instant;

use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::Service;
use crate::failure::Failure;
use crate::limits::Bucket;
use crate::payload::{ChatMessage, ListMessages, parse};
use crate::rooms::Seat;
use crate::store::{Message, NewMessage, now_ms};

/// What may be written at once, in seconds of the rate.
const BURST_S: f64 = 5.0;

/// As browsers are told.
fn shown(message: &Message) -> Value {
    json!({
        "id": message.number.to_string(),
        "senderId": message.sender_id,
        "name": message.sender_name,
        "content": message.content,
        "timestamp": message.time_ms,
    })
}

impl Service {
    pub(super) async fn chat_message(&self, socket: Sid, payload: Value) -> Result<Value, Failure> {
        let wanted: ChatMessage = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let new = NewMessage {
            room_id: seat.room.id.clone(),
            sender_id: seat.participant_id.clone(),
            sender_name: self.may_write(&seat)?,
            client_id: wanted.client_id.clone(),
            content: wanted.content,
            time_ms: now_ms(),
            kept_max: self.settings.chat_kept_per_room_max,
        };
        // Held until it is told: who comes next is told next.
        let turn = seat.room.chat.lock().await;
        let kept = self.stores.lasting.add_message(new).await?;
        if kept.is_new {
            self.tell_message(&seat, &kept.message, wanted.client_id.as_deref());
        }
        drop(turn);
        let message = kept.message;
        Ok(json!({ "id": message.number.to_string(), "timestamp": message.time_ms }))
    }

    /// Gives the writer's name, if he has not written too much lately.
    fn may_write(&self, seat: &Seat) -> Result<String, Failure> {
        let mut room = seat.room.lock();
        let participant = room.participant_mut(seat)?;
        let per_s = f64::from(self.settings.chat_per_participant_per_s);
        let now = Instant::now();
        let bucket =
            participant.chat.get_or_insert_with(|| Bucket::new(per_s, per_s * BURST_S, now));
        if per_s > 0.0 && !bucket.take(now) {
            self.metrics.chat_refused.inc();
            return Err(Failure::new("rate_limited", "you write faster than allowed; wait a bit"));
        }
        Ok(participant.name.clone())
    }

    /// To all of the room; to its sender with his own id for it, so that he knows it again.
    fn tell_message(&self, seat: &Seat, message: &Message, client_id: Option<&str>) {
        self.metrics.chat_messages.inc();
        let mut payload = shown(message);
        let room = seat.room.lock();
        self.tell_others(&room, seat, "chat_message", &payload);
        if let Some(client_id) = client_id {
            payload["clientId"] = json!(client_id);
        }
        self.tell(&room, seat, "chat_message", &payload);
    }

    pub(super) async fn list_messages(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: ListMessages = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let room_id = seat.room.id.clone();
        let messages = self.stores.lasting.messages(room_id, wanted.before, wanted.limit).await?;
        Ok(json!({ "messages": messages.iter().map(shown).collect::<Vec<_>>() }))
    }
}
