//! What nodes share, in Redis. Every key expires by itself: a node that is gone leaves nothing.
//!
//! | key | what |
//! |---|---|
//! | `room:{id}` | the record, with its version, as JSON; an hour |
//! | `room:{id}:presence` | hash: participant to what nodes know of him |
//! | `room:{id}:nodes` | hash: node to how many of the room it serves |
//! | `room:{id}:broadcasts` | hash: `hls` or `recording` to who makes it and what is told of it (`hub`); 30 s |
//! | `presence:{roomId}:{userId}` | his session, while he is heard of: 30 s |
//! | `user:{userId}:node` | the node of his socket: 30 s |
//! | `disconnecting:{userId}` | his socket is lost: as long as he may come back |

use std::time::Duration;

use futures::FutureExt;
use ironcast_api::Id;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client, RedisError, Script};
use serde::{Deserialize, Serialize};

use super::{Answer, PRESENCE_TIME, Present, ROOM_TIME, RoomRecord, Shared, StoreError, Versioned};

/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Sets a record if its version is the expected one (empty: not there). Gives 1 if it was.
const SET_ROOM: &str = r"
local there = redis.call('GET', KEYS[1])
local version = ''
if there then version = tostring(cjson.decode(there).version) end
if version ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
";

/// Somebody is there: KEYS presence, his presence, his node, the nodes, disconnecting; ARGV his id,
/// what is known, his session, his node, seconds, 1 if he is there and not on his way out.
const ENTER: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local node = cjson.decode(before).node
  if redis.call('HINCRBY', KEYS[4], node, -1) <= 0 then redis.call('HDEL', KEYS[4], node) end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('HINCRBY', KEYS[4], ARGV[4], 1)
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5])
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
redis.call('EXPIRE', KEYS[1], 3600)
redis.call('EXPIRE', KEYS[4], 3600)
if ARGV[6] == '1' then redis.call('DEL', KEYS[5]) else redis.call('SET', KEYS[5], ARGV[4], 'EX', ARGV[5]) end
return 1
";

/// He left, unless another session has his id by now. The same keys; ARGV his id, his session.
const LEAVE: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before then return 0 end
local there = cjson.decode(before)
if there.session ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('DEL', KEYS[2], KEYS[3], KEYS[5])
if redis.call('HINCRBY', KEYS[4], there.node, -1) <= 0 then redis.call('HDEL', KEYS[4], there.node) end
return 1
";

/// Who is there: the hash without those who were not heard of.
const PRESENT: &str = r"
local all = redis.call('HGETALL', KEYS[1])
local there = {}
for i = 1, #all, 2 do
  local known = cjson.decode(all[i + 1])
  if redis.call('GET', ARGV[1] .. all[i]) == known.session then
    there[#there + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[1], all[i])
    if redis.call('HINCRBY', KEYS[2], known.node, -1) <= 0 then redis.call('HDEL', KEYS[2], known.node) end
  end
end
return there
";

/// A record as it is written.
#[derive(Serialize, Deserialize)]
struct Written {
    version: u64,
    #[serde(flatten)]
    record: RoomRecord,
}

/// A Redis server. Lost connections are made again.
#[derive(Clone)]
pub struct Redis {
    connection: ConnectionManager,
}

impl From<RedisError> for StoreError {
    fn from(error: RedisError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

fn unreadable(error: &serde_json::Error) -> StoreError {
    StoreError::Unavailable(format!("not written by this service: {error}"))
}

fn keys(who: &Present) -> [String; 5] {
    let (room, user) = (&who.room_id, &who.participant_id);
    [
        format!("room:{room}:presence"),
        format!("presence:{room}:{user}"),
        format!("user:{user}:node"),
        format!("room:{room}:nodes"),
        format!("disconnecting:{user}"),
    ]
}

impl Redis {
    /// Connects: `redis://host:port`.
    pub async fn connect(url: &str) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(WAIT_MAX))
            .set_connection_timeout(Some(WAIT_MAX));
        let connection = Client::open(url)?.get_connection_manager_with_config(config).await?;
        Ok(Self { connection })
    }

    fn seen(&self, who: Present, time: Duration, stays: bool) -> Answer<'_, ()> {
        let mut connection = self.connection.clone();
        async move {
            let known = serde_json::to_string(&who).map_err(|error| unreadable(&error))?;
            let script = Script::new(ENTER);
            let mut call = script.prepare_invoke();
            for key in keys(&who) {
                call.key(key);
            }
            call.arg(who.participant_id.as_str()).arg(known).arg(who.session.as_str());
            call.arg(&who.node).arg(time.as_secs().max(1)).arg(u8::from(stays));
            call.invoke_async::<()>(&mut connection).await?;
            Ok(())
        }
        .boxed()
    }
}

impl Shared for Redis {
    fn room(&self, id: Id) -> Answer<'_, Option<Versioned<RoomRecord>>> {
        let mut connection = self.connection.clone();
        async move {
            let text: Option<String> = connection.get(format!("room:{id}")).await?;
            let Some(text) = text else { return Ok(None) };
            let written: Written =
                serde_json::from_str(&text).map_err(|error| unreadable(&error))?;
            Ok(Some(Versioned { version: written.version, value: written.record }))
        }
        .boxed()
    }

    fn set_room(&self, id: Id, expected: Option<u64>, record: RoomRecord) -> Answer<'_, bool> {
        let mut connection = self.connection.clone();
        async move {
            let written = Written { version: expected.unwrap_or(0) + 1, record };
            let text = serde_json::to_string(&written).map_err(|error| unreadable(&error))?;
            let expected = expected.map_or_else(String::new, |version| version.to_string());
            let script = Script::new(SET_ROOM);
            let mut call = script.key(format!("room:{id}"));
            call.arg(expected).arg(text).arg(ROOM_TIME.as_secs());
            Ok(call.invoke_async::<u8>(&mut connection).await? == 1)
        }
        .boxed()
    }

    fn forget_room(&self, id: Id) -> Answer<'_, ()> {
        let mut connection = self.connection.clone();
        async move { Ok(connection.del::<_, ()>(format!("room:{id}")).await?) }.boxed()
    }

    fn enter(&self, who: Present) -> Answer<'_, ()> {
        self.seen(who, PRESENCE_TIME, true)
    }

    fn leave(&self, who: Present) -> Answer<'_, ()> {
        let mut connection = self.connection.clone();
        async move {
            let script = Script::new(LEAVE);
            let mut call = script.prepare_invoke();
            for key in keys(&who) {
                call.key(key);
            }
            call.arg(who.participant_id.as_str()).arg(who.session.as_str());
            call.invoke_async::<()>(&mut connection).await?;
            Ok(())
        }
        .boxed()
    }

    fn disconnecting(&self, who: Present, window: Duration) -> Answer<'_, ()> {
        self.seen(who, window, false)
    }

    fn present(&self, room_id: Id) -> Answer<'_, Vec<Present>> {
        let mut connection = self.connection.clone();
        async move {
            let script = Script::new(PRESENT);
            let mut call = script.key(format!("room:{room_id}:presence"));
            call.key(format!("room:{room_id}:nodes")).arg(format!("presence:{room_id}:"));
            let there: Vec<String> = call.invoke_async(&mut connection).await?;
            let read =
                |text: &String| serde_json::from_str(text).map_err(|error| unreadable(&error));
            there.iter().map(read).collect()
        }
        .boxed()
    }

    fn node_of(&self, participant_id: Id) -> Answer<'_, Option<String>> {
        let mut connection = self.connection.clone();
        async move { Ok(connection.get(format!("user:{participant_id}:node")).await?) }.boxed()
    }
}
