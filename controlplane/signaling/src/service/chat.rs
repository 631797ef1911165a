//! What people write. A message is kept first and told then, in the order of its number, so that
//! all see one order; who sends it again after a lost answer gets the answer of the first time.

use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{Aside, Service, raw};
use crate::failure::Failure;
use crate::limits::Bucket;
use crate::payload::{ChatMessage, ListMessages, parse};
use crate::rooms::{Cell, Room, Seat};
use crate::store::hub::News;
use crate::store::{Kept, Message, NewMessage, StoreError, now_ms};

/// So many messages that were missed are told; who wants more of them asks.
const MISSED_MAX: u64 = 100;

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
    pub(super) fn chat_message(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Aside, Failure> {
        let wanted: ChatMessage = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let new = NewMessage {
            room_id: seat.room.id.clone(),
            sender_id: seat.participant_id.clone(),
            sender_name: self.may_write(&seat)?,
            client_id: wanted.client_id,
            content: wanted.content,
            time_ms: now_ms(),
            kept_max: self.settings.chat_kept_per_room_max,
        };
        let service = Arc::clone(self);
        Ok(async move { service.keep_and_tell(&seat, new).await }.boxed())
    }

    async fn keep_and_tell(&self, seat: &Seat, new: NewMessage) -> Result<Value, Failure> {
        let client_id = new.client_id.clone();
        // Held until it is told: who comes next is told next.
        let mut last = seat.room.chat.lock().await;
        let told = match *last {
            Some(told) => told,
            None => self.last_kept(&seat.room).await?,
        };
        *last = Some(told);
        let Kept { message, is_new } = self.stores.lasting.add_message(new).await?;
        // One that is there already may have been kept without an answer in time, and never told.
        if is_new || message.number > told {
            self.tell_before(&seat.room, &mut last, message.number).await;
            self.tell_message(seat, &message, client_id.as_deref());
            *last = Some(message.number);
        } else {
            // Not here: but this node may have read it when it opened the room, before anybody was told.
            self.tell_fleet(&seat.room, News::Chat(message.clone()));
        }
        drop(last);
        Ok(json!({ "id": message.number.to_string(), "timestamp": message.time_ms }))
    }

    /// The number of the last message of a room: it is listed, not told.
    pub(super) async fn last_kept(&self, cell: &Cell) -> Result<u64, StoreError> {
        let last = self.stores.lasting.messages(cell.id.clone(), None, 1).await?;
        Ok(last.first().map_or(0, |message| message.number))
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
        self.tell_fleet(&seat.room, News::Chat(message.clone()));
    }

    /// Somebody at another node wrote.
    pub(super) async fn hear_message(&self, cell: &Arc<Cell>, message: Message) {
        let mut last = cell.chat.lock().await;
        if last.is_some_and(|last| message.number <= last) {
            return;
        }
        self.tell_before(cell, &mut last, message.number).await;
        self.tell_room(&cell.lock(), &message);
        *last = Some(message.number);
    }

    /// Numbers have no gaps: what is missing before one was kept without an answer in time, or was
    /// written at another node, and its news come later, or never. All nodes tell in the order of
    /// numbers.
    async fn tell_before(&self, cell: &Arc<Cell>, last: &mut Option<u64>, number: u64) {
        let Some(told) = *last else { return };
        let missing = number.saturating_sub(told + 1).min(MISSED_MAX);
        if missing == 0 {
            return;
        }
        let asked = self.stores.lasting.messages(cell.id.clone(), Some(number), missing as u32);
        // Who wants to know lists them.
        let Ok(messages) = asked.await else { return };
        let room = cell.lock();
        for message in messages.iter().filter(|message| message.number > told) {
            self.tell_room(&room, message);
            *last = Some(message.number);
        }
    }

    fn tell_room(&self, room: &Room, message: &Message) {
        let payload = raw(&shown(message));
        for (_, socket) in room.sockets_but(None) {
            self.outbox.emit(socket, "chat_message", &payload);
        }
    }

    pub(super) fn list_messages(&self, socket: Sid, payload: Value) -> Result<Aside, Failure> {
        let ListMessages { before, limit } = parse(payload)?;
        let room_id = self.rooms.seat(socket)?.room.id.clone();
        let lasting = Arc::clone(&self.stores.lasting);
        let reading = async move {
            let messages = lasting.messages(room_id, before, limit).await?;
            Ok(json!({ "messages": messages.iter().map(shown).collect::<Vec<_>>() }))
        };
        Ok(reading.boxed())
    }
}
