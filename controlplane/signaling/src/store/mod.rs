//! What is more than one room's lock can hold: what the nodes of a fleet share for a while
//! ([`Shared`]: rooms, who is where), and what lasts ([`Lasting`]: messages, and what became of calls). Handlers ask through
//! these two, and never under a lock. In memory by default (`memory`); `redis` for what is shared,
//! SQL for what lasts (`sql`). Where rooms are spread over several nodes, they talk by `hub`.
//!
//! A store may be slow or away: every answer is a `Result`, and a call goes on without it.

pub mod calls;
pub mod hub;
pub mod memory;
pub mod redis;
pub mod sql;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calls::{CallParticipant, CallRecord, CallSession};
use futures::future::BoxFuture;
use ironcast_api::Id;
use serde::{Deserialize, Serialize};

/// A participant who says nothing for so long is not present any more; he says it every 10 s.
pub const PRESENCE_TIME: Duration = Duration::from_secs(30);

/// A room's record is kept for so long after its last change.
pub const ROOM_TIME: Duration = Duration::from_secs(3600);

/// The store did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// It does not answer, or answers nonsense: another try may help.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
    /// A message of this client's id is there, and says something else.
    #[error("another message has this clientId already")]
    Taken,
}

/// A future answer.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// What a room is, for all nodes: `room:{id}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoomRecord {
    /// `p2p` or `sfu`.
    pub mode: String,
    /// Where its media is: the control plane's address; none in `p2p`.
    pub media_host: Option<String>,
}

/// A record with what it was read as: whoever changes it shows that nobody else did meanwhile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned<T> {
    /// Counts the changes.
    pub version: u64,
    /// What was read.
    pub value: T,
}

/// Somebody in a room, as other nodes know him: `presence:{roomId}:{userId}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Where.
    pub room_id: Id,
    /// Who.
    pub participant_id: Id,
    /// His session: another one under the same id is somebody else.
    pub session: Id,
    /// What others read.
    pub name: String,
    /// The node that his socket is at: `user:{userId}:node`.
    pub node: String,
}

/// What nodes share, and what is forgotten by itself.
pub trait Shared: Send + Sync + 'static {
    /// A room's record; none if nobody wrote one lately.
    fn room(&self, id: Id) -> Answer<'_, Option<Versioned<RoomRecord>>>;
    /// Writes a room's record if it still is at `expected` (none: not there); gives whether it was.
    fn set_room(&self, id: Id, expected: Option<u64>, record: RoomRecord) -> Answer<'_, bool>;
    /// The room is empty.
    fn forget_room(&self, id: Id) -> Answer<'_, ()>;
    /// Somebody is there, or still is: he expires after [`PRESENCE_TIME`].
    fn enter(&self, who: Present) -> Answer<'_, ()>;
    /// He left. Not if another session has his id by now.
    fn leave(&self, who: Present) -> Answer<'_, ()>;
    /// His socket is lost; he may come back on any node within the window.
    fn disconnecting(&self, who: Present, window: Duration) -> Answer<'_, ()>;
    /// Who is in a room.
    fn present(&self, room_id: Id) -> Answer<'_, Vec<Present>>;
    /// The node of somebody, if he is anywhere.
    fn node_of(&self, participant_id: Id) -> Answer<'_, Option<String>>;
}

/// A message that was kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// Counts from 1 in its room: the order that all see.
    pub number: u64,
    /// Who wrote it.
    pub sender_id: Id,
    /// His name when he did.
    pub sender_name: String,
    /// What.
    pub content: String,
    /// When, in ms of the Unix epoch; never before the one before.
    pub time_ms: u64,
}

/// A message to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewMessage {
    /// Where.
    pub room_id: Id,
    /// Who writes it.
    pub sender_id: Id,
    /// His name.
    pub sender_name: String,
    /// Its sender's own id for it: sent again, it is the same message.
    pub client_id: Option<Id>,
    /// What.
    pub content: String,
    /// The sender's node's time.
    pub time_ms: u64,
    /// Older ones of the room than so many are forgotten.
    pub kept_max: u32,
}

/// A message as it is there now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// With its number and time.
    pub message: Message,
    /// False if it was there already.
    pub is_new: bool,
}

/// What lasts.
pub trait Lasting: Send + Sync + 'static {
    /// Keeps a message, or finds the one that was sent under the same client's id.
    fn add_message(&self, new: NewMessage) -> Answer<'_, Kept>;
    /// A room's messages before a number, the last `limit` of them, oldest first.
    fn messages(&self, room_id: Id, before: Option<u64>, limit: u32) -> Answer<'_, Vec<Message>>;
    /// Keeps what became of calls, in this order.
    fn note_calls(&self, records: Vec<CallRecord>) -> Answer<'_, ()>;
    /// A room's call of now, or its last one, with who is in it and was: the newest
    /// [`calls::PARTICIPANTS_SHOWN_MAX`] of them, in the order in which they came.
    fn call(&self, call_id: Id) -> Answer<'_, Option<(CallSession, Vec<CallParticipant>)>>;
    /// Forgets all that was written before.
    fn forget_before(&self, time_ms: u64) -> Answer<'_, ()>;
}

/// Both.
#[derive(Clone)]
pub struct Stores {
    /// What nodes share.
    pub shared: Arc<dyn Shared>,
    /// What lasts.
    pub lasting: Arc<dyn Lasting>,
    /// The way to the other nodes of a fleet; none where there is only this one.
    pub hub: Option<hub::Hub>,
}

impl Stores {
    /// All of it in memory, for as long as the process lives.
    pub fn in_memory() -> Self {
        let memory = Arc::new(memory::Memory::default());
        Self { shared: Arc::clone(&memory) as _, lasting: memory, hub: None }
    }
}

/// Milliseconds of the Unix epoch.
pub fn now_ms() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    since_1970.map_or(0, |time| time.as_millis() as u64)
}
