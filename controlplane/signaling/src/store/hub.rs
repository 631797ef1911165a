//! What the nodes of a fleet say to each other, over Redis. Each participant is one record with a
//! version, written by the node that has his socket: the newest is in the hash
//! `room:{id}:presence`, and every change is told on `channel:room:{id}` by the same script that
//! writes it. So whoever reads the hash after subscribing misses nothing, and what comes late or
//! twice is seen by its version. Nodes are heard of on `channel:nodes`.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use ironcast_api::{AppData, Id, MediaKind};
use redis::aio::{ConnectionManager, ConnectionManagerConfig, PubSubSink, PubSubStream};
use redis::{Client, Cmd, FromRedisValue, Pipeline};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Message, PRESENCE_TIME, Present, ROOM_TIME, RoomRecord, StoreError};
use crate::broadcast::Kind;

/// Longest wait for an answer.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// Where nodes say that they are there.
const NODES: &str = "channel:nodes";

/// Rooms that are looked at in one request.
const LOOKS_AT_ONCE: usize = 64;

/// Functions that several scripts begin with.
const COMMON: &str = r"
local function count(nodes, node, by)
  if redis.call('HINCRBY', nodes, node, by) < 0 then redis.call('HSET', nodes, node, 0) end
end
";

/// A participant's record. KEYS presence, his presence, his node, nodes, disconnecting, channel;
/// ARGV his id, the record, his session, his node, seconds, version, 1 if his socket is open,
/// seconds that he may be away, what is told (empty: nothing), whether he is claimed from another
/// node (0 no, 1 yes, 2 yes and he need not be there). Gives 0 if a newer record is there.
const ENTER: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local there = cjson.decode(before)
  local version, mine = tonumber(there.version) or 0, tonumber(ARGV[6])
  if version > mine or (version == mine and there.session > ARGV[3]) then return 0 end
  if ARGV[10] ~= '0' and there.session ~= ARGV[3] then return 0 end
  count(KEYS[4], there.node, -1)
elseif ARGV[10] == '1' then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
count(KEYS[4], ARGV[4], 1)
redis.call('SET', KEYS[2], ARGV[3], 'EX', ARGV[5])
redis.call('SET', KEYS[3], ARGV[4], 'EX', ARGV[5])
redis.call('EXPIRE', KEYS[1], 3600)
redis.call('EXPIRE', KEYS[4], 3600)
if ARGV[7] == '1' then redis.call('DEL', KEYS[5]) else redis.call('SET', KEYS[5], ARGV[4], 'EX', ARGV[8]) end
if ARGV[9] ~= '' then redis.call('PUBLISH', KEYS[6], ARGV[9]) end
return 1
";

/// He left. The same keys; ARGV his id, his session, the node that he must be at (empty: any),
/// what is told. Gives 1, 0 if he is somewhere else or somebody else, -1 if he was not there.
const LEAVE: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
local result = -1
if before then
  local there = cjson.decode(before)
  if there.session ~= ARGV[2] or (ARGV[3] ~= '' and there.node ~= ARGV[3]) then return 0 end
  redis.call('HDEL', KEYS[1], ARGV[1])
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[5])
  count(KEYS[4], there.node, -1)
  result = 1
elseif redis.call('GET', KEYS[2]) == ARGV[2] then
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[5])
end
redis.call('PUBLISH', KEYS[6], ARGV[4])
return result
";

/// This node serves a room, and says so to all if that is new: whoever is killed right afterwards was
/// heard of. KEYS its router, nodes, presence, the record, its branches, broadcasts; ARGV the router
/// that it would take, this node, what begins the names of presence keys, seconds, seconds of
/// broadcasts, and routers that are dead. Gives the router that holds for all, the room's record, its
/// branches (one a line), how many words on broadcasts it has, those, and the records of everybody who
/// is heard of.
const LOOK: &str = r"
local router = redis.call('GET', KEYS[1])
for i = 6, #ARGV do
  if ARGV[i] == router then router = false end
end
if not router then router = ARGV[1] end
redis.call('SET', KEYS[1], router, 'EX', ARGV[4])
if redis.call('HSETNX', KEYS[2], ARGV[2], 0) == 1 then redis.call('PUBLISH', 'channel:nodes', ARGV[2]) end
for i = 2, 5 do redis.call('EXPIRE', KEYS[i], ARGV[4]) end
redis.call('EXPIRE', KEYS[6], ARGV[5])
local branches, there = redis.call('HGETALL', KEYS[5]), {}
for i = 1, #branches, 2 do
  local branch = branches[i + 1]
  for j = 6, #ARGV do
    if ARGV[j] == branch then branch = false end
  end
  if branch then there[#there + 1] = branch else redis.call('HDEL', KEYS[5], branches[i]) end
end
local all = redis.call('HGETALL', KEYS[3])
local shows = redis.call('HVALS', KEYS[6])
local answer = { router, redis.call('GET', KEYS[4]) or '', table.concat(there, '\n'), tostring(#shows) }
for _, show in ipairs(shows) do answer[#answer + 1] = show end
for i = 1, #all, 2 do
  local known = cjson.decode(all[i + 1])
  if redis.call('GET', ARGV[3] .. all[i]) == known.session then
    answer[#answer + 1] = all[i + 1]
  else
    redis.call('HDEL', KEYS[3], all[i])
    count(KEYS[2], known.node, -1)
  end
end
return answer
";

/// The room is at a host, too. KEYS its branches; ARGV the host, the router that would be there, seconds,
/// and routers that are dead. Gives the one that holds for all.
const BRANCH: &str = r"
local there = redis.call('HGET', KEYS[1], ARGV[1])
for i = 4, #ARGV do
  if ARGV[i] == there then there = false end
end
if not there then
  there = ARGV[2]
  redis.call('HSET', KEYS[1], ARGV[1], there)
end
redis.call('EXPIRE', KEYS[1], ARGV[3])
return there
";

/// This node does not serve a room any more. KEYS router, nodes, presence, record, branches; ARGV this
/// node, its router, and all nodes that are there. Gives 1 and its branches if nobody serves it now:
/// it is over.
const CLOSE: &str = r"
redis.call('HDEL', KEYS[2], ARGV[1])
local there = {}
for i = 3, #ARGV do there[ARGV[i]] = true end
for _, node in ipairs(redis.call('HKEYS', KEYS[2])) do
  if there[node] then return { '0' } end
end
local router = redis.call('GET', KEYS[1])
if router and router ~= ARGV[2] then return { '0' } end
local answer = redis.call('HVALS', KEYS[5])
table.insert(answer, 1, '1')
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5])
return answer
";

/// One of a room's routers is dead: the next one gets another. While it has branches its people go on.
/// The same keys; ARGV the router.
const DEAD: &str = r"
local branches = redis.call('HGETALL', KEYS[5])
for i = 1, #branches, 2 do
  if branches[i + 1] == ARGV[1] then redis.call('HDEL', KEYS[5], branches[i]) end
end
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
if redis.call('EXISTS', KEYS[5]) == 0 then redis.call('DEL', KEYS[2], KEYS[3], KEYS[4]) end
return 1
";

/// Sets a room's mode, and keeps what else is in its record.
const MODE: &str = r"
local there = redis.call('GET', KEYS[1])
local record = { version = 0 }
if there then record = cjson.decode(there) end
record.version = record.version + 1
record.mode = ARGV[1]
if ARGV[2] ~= '' then record.media_host = ARGV[2] end
redis.call('SET', KEYS[1], cjson.encode(record), 'EX', ARGV[3])
return 1
";

/// A broadcast's record. KEYS broadcasts, channel; ARGV its kind, the record, its id, what is told, seconds,
/// 1 if it is a new one, and all nodes that are gone. Gives 0 if another one of its kind is there, for
/// a new one: of a node that is not gone.
const SHOW: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
if before then
  local there = cjson.decode(before)
  if there.broadcastId ~= ARGV[3] then
    local is_gone = false
    for i = 7, #ARGV do is_gone = is_gone or ARGV[i] == there.node end
    if ARGV[6] ~= '1' or not is_gone then return 0 end
  end
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if ARGV[6] == '1' then redis.call('HDEL', KEYS[1], 'stop ' .. ARGV[1]) end
redis.call('EXPIRE', KEYS[1], ARGV[5])
redis.call('PUBLISH', KEYS[2], ARGV[4])
return 1
";

/// Somebody ends a broadcast of another node: told, and written beside its record for a node that does
/// not hear it. The same keys; ARGV its kind, its id, the word, what is told. Gives 0 if it is not
/// there.
const STOP: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
if not before or cjson.decode(before).broadcastId ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[1], 'stop ' .. ARGV[1], ARGV[3])
redis.call('PUBLISH', KEYS[2], ARGV[4])
return 1
";

/// A broadcast is over. The same keys; ARGV its kind, its id, what is told. Gives 1 if its record was
/// there.
const SHOWN: &str = r"
local before = redis.call('HGET', KEYS[1], ARGV[1])
local result = 0
if before and cjson.decode(before).broadcastId == ARGV[2] then
  redis.call('HDEL', KEYS[1], ARGV[1], 'stop ' .. ARGV[1])
  result = 1
end
redis.call('PUBLISH', KEYS[2], ARGV[3])
return result
";

/// A track that somebody sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// The producer.
    pub id: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// Muted by its owner.
    pub paused: bool,
    /// Told to the others.
    pub app_data: AppData,
    /// Its codec, where its maker said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
}

/// A participant as all nodes know him.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who, and where.
    #[serde(flatten)]
    pub who: Present,
    /// Counts up with each change, by whichever node.
    pub version: u64,
    /// His socket is open.
    pub connected: bool,
    /// He can talk directly to another browser.
    pub p2p: bool,
    /// He chose his id himself.
    pub id_is_chosen: bool,
    /// The router that has his media, where it is not the room's own: `id@host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What he sends.
    pub producers: Vec<Track>,
}

/// A broadcast or recording, as all nodes know it: `room:{id}:broadcasts`, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The node that makes it.
    pub node: String,
    /// Which; never used twice.
    pub broadcast_id: String,
    /// What it is.
    pub kind: Kind,
    /// Counts up with each change.
    pub version: u64,
    /// As browsers are told.
    pub told: Map<String, Value>,
    /// Nothing is left of it.
    pub is_over: bool,
}

/// Beside its record: a broadcast is to end.
#[derive(Debug, Serialize, Deserialize)]
struct Stop {
    stop: String,
}

/// What is told to a room's nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum News {
    /// Somebody came.
    UserJoined(Member),
    /// Something about him is new: what he sends, his node, his name.
    UserChanged(Member),
    /// He is gone.
    #[serde(rename_all = "camelCase")]
    UserLeft {
        /// Who.
        participant_id: Id,
        /// Which of his sessions.
        session: Id,
        /// Newer than all records of this session.
        version: u64,
        /// `left`, `disconnected`, ...
        reason: String,
    },
    /// A session description for somebody's browser.
    Offer(Relayed),
    /// Another.
    Answer(Relayed),
    /// Where a browser may be reached.
    Ice(Relayed),
    /// Somebody wrote something.
    Chat(Message),
    /// A moderator has paused tracks of somebody.
    #[serde(rename_all = "camelCase")]
    Muted {
        /// Whose.
        participant_id: Id,
        /// Which.
        producer_ids: Vec<Id>,
        /// The moderator.
        by: Id,
    },
    /// A moderator puts somebody out.
    #[serde(rename_all = "camelCase")]
    PutOut {
        /// Whom.
        participant_id: Id,
        /// Which of his sessions.
        session: Id,
        /// The moderator.
        by: Id,
    },
    /// A moderator ends the call for all.
    Ended {
        /// The moderator.
        by: Id,
    },
    /// A broadcast begins, changes or is over.
    #[serde(rename_all = "camelCase")]
    Broadcast {
        /// As it is now.
        show: Shown,
        /// What else browsers are told of it this time.
        more: Map<String, Value>,
    },
    /// Somebody at another node ends a broadcast.
    #[serde(rename_all = "camelCase")]
    StopBroadcast {
        /// Which.
        broadcast_id: String,
    },
}

/// From one browser to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relayed {
    /// Who says it.
    pub from: Id,
    /// To whom.
    pub to: Id,
    /// What.
    pub content: Value,
}

/// News with the node that tells them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The node. (A record has a `node`, too, in the same object.)
    #[serde(rename = "toldBy")]
    pub node: String,
    /// What it tells.
    #[serde(flatten)]
    pub news: News,
}

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// A node is there.
    Node(String),
    /// Something about a room.
    Room(Id, Box<Told>),
}

/// Something to be written.
#[derive(Debug, Clone)]
pub enum Write {
    /// A participant's record, and whether it is told.
    Member(Box<Member>, Option<Told>, Duration),
    /// He left this node.
    Left(Present, Told),
    /// Only told.
    News(Id, Told),
    /// A room's mode, and where its media is.
    Mode(Id, &'static str, Option<String>),
    /// A room's router is dead.
    Dead(Id, String),
    /// A broadcast of this node, and what is told of it.
    Show(Id, Box<Shown>, Box<Told>),
}

/// A room as all nodes see it.
#[derive(Debug, Clone)]
pub struct View {
    /// Its router, and its media host where there are several: `id@host`.
    pub router: String,
    /// `p2p` or `sfu`; none if nobody wrote it lately.
    pub mode: Option<String>,
    /// Its routers at other hosts, as the first.
    pub branches: Vec<String>,
    /// Everybody who is heard of.
    pub members: Vec<Member>,
    /// What is watched or recorded of it.
    pub shows: Vec<Shown>,
    /// Which of that is to end.
    pub stops: Vec<String>,
}

/// A room to look at.
#[derive(Debug, Clone)]
pub struct Look {
    /// Which.
    pub room_id: Id,
    /// Its router if it has none yet.
    pub router: String,
}

/// The way to the other nodes. Lost connections are made again.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    connection: ConnectionManager,
    /// This node's name.
    pub node: String,
}

/// What is heard of the rooms that were subscribed to. Ends when the connection does.
pub struct Ear {
    sink: PubSubSink,
    stream: PubSubStream,
}

fn unreadable(error: impl std::fmt::Display) -> StoreError {
    StoreError::Unavailable(format!("not written by this service: {error}"))
}

fn late<E>(_: E) -> StoreError {
    StoreError::Unavailable("no answer in time".to_owned())
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn channel(room_id: &Id) -> String {
    format!("channel:room:{room_id}")
}

fn script(body: &str, keys: &[String]) -> Cmd {
    let mut command = redis::cmd("EVAL");
    command.arg(format!("{COMMON}{body}")).arg(keys.len()).arg(keys);
    command
}

fn member_keys(who: &Present) -> Vec<String> {
    let (room, user) = (&who.room_id, &who.participant_id);
    vec![
        format!("room:{room}:presence"),
        format!("presence:{room}:{user}"),
        format!("user:{user}:node"),
        format!("room:{room}:nodes"),
        format!("disconnecting:{user}"),
        channel(room),
    ]
}

fn room_keys(room: &Id) -> Vec<String> {
    vec![
        format!("room:{room}:router"),
        format!("room:{room}:nodes"),
        format!("room:{room}:presence"),
        format!("room:{room}"),
        branches_key(room),
    ]
}

fn branches_key(room: &Id) -> String {
    format!("room:{room}:branches")
}

fn broadcasts_key(room: &Id) -> String {
    format!("room:{room}:broadcasts")
}

/// Gives 1 if it was written, or was there.
fn show(room: &Id, shown: &Shown, told: &Told, claim: Option<&[String]>) -> Cmd {
    let keys = [broadcasts_key(room), channel(room)];
    let mut command = script(if shown.is_over { SHOWN } else { SHOW }, &keys);
    command.arg(shown.kind.name());
    if shown.is_over {
        command.arg(&shown.broadcast_id).arg(text(told));
        return command;
    }
    command.arg(text(shown)).arg(&shown.broadcast_id).arg(text(told)).arg(PRESENCE_TIME.as_secs());
    command.arg(u8::from(claim.is_some())).arg(claim.unwrap_or_default());
    command
}

/// Whether a record may be written that was at another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Claim {
    No,
    Known,
    Unknown,
}

/// What became of a record that was to be removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// It was taken away, by nobody but this call.
    Now,
    /// There was none any more.
    Before,
    /// He is at another node.
    NotThere,
}

fn enter(member: &Member, told: Option<&Told>, window: Duration, claim: Claim) -> Cmd {
    let who = &member.who;
    let mut command = script(ENTER, &member_keys(who));
    command.arg(who.participant_id.as_str()).arg(text(member)).arg(who.session.as_str());
    command.arg(&who.node).arg(PRESENCE_TIME.as_secs()).arg(member.version);
    command.arg(u8::from(member.connected)).arg(window.as_secs().max(1));
    command.arg(told.map(text).unwrap_or_default()).arg(claim as u8);
    command
}

fn leave(who: &Present, node: &str, told: &Told) -> Cmd {
    let mut command = script(LEAVE, &member_keys(who));
    command.arg(who.participant_id.as_str()).arg(who.session.as_str()).arg(node).arg(text(told));
    command
}

impl Write {
    fn command(&self) -> Cmd {
        match self {
            Self::Member(member, told, window) => enter(member, told.as_ref(), *window, Claim::No),
            Self::Left(who, told) => leave(who, &who.node, told),
            Self::News(room_id, told) => {
                let mut command = redis::cmd("PUBLISH");
                command.arg(channel(room_id)).arg(text(told));
                command
            }
            Self::Mode(room_id, mode, host) => {
                let mut command = script(MODE, &[format!("room:{room_id}")]);
                command.arg(mode).arg(host.as_deref().unwrap_or("")).arg(ROOM_TIME.as_secs());
                command
            }
            Self::Dead(room_id, router) => {
                let mut command = script(DEAD, &room_keys(room_id));
                command.arg(router);
                command
            }
            Self::Show(room_id, shown, told) => show(room_id, shown, told, None),
        }
    }
}

impl Hub {
    /// Connects as a node: `redis://host:port`.
    pub async fn connect(url: &str, node: String) -> Result<Self, StoreError> {
        let config = ConnectionManagerConfig::new()
            .set_response_timeout(Some(WAIT_MAX))
            .set_connection_timeout(Some(WAIT_MAX))
            .set_max_delay(Duration::from_millis(500));
        let client = Client::open(url)?;
        let connection = client.get_connection_manager_with_config(config).await?;
        Ok(Self { client, connection, node })
    }

    async fn run<T: FromRedisValue>(&self, command: Cmd) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let asked = command.query_async(&mut connection);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    async fn run_all<T: FromRedisValue>(&self, pipeline: &Pipeline) -> Result<T, StoreError> {
        let mut connection = self.connection.clone();
        let asked = pipeline.query_async(&mut connection);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    /// Writes all of it, in order, in one request.
    pub async fn write(&self, all: &[Write]) -> Result<(), StoreError> {
        let mut pipeline = Pipeline::new();
        for write in all {
            pipeline.add_command(write.command()).ignore();
        }
        self.run_all(&pipeline).await
    }

    /// This node is there.
    pub async fn beat(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("PUBLISH");
        command.arg(NODES).arg(&self.node);
        self.run::<i64>(command).await.map(|_| ())
    }

    /// Says that this node serves rooms, and gives how all nodes see them, in the same order.
    pub async fn look(&self, rooms: &[Look], dead: &[String]) -> Result<Vec<View>, StoreError> {
        let mut views = Vec::with_capacity(rooms.len());
        for some in rooms.chunks(LOOKS_AT_ONCE) {
            let mut pipeline = Pipeline::new();
            for Look { room_id, router } in some {
                let keys = [room_keys(room_id), vec![broadcasts_key(room_id)]].concat();
                let mut command = script(LOOK, &keys);
                command.arg(router).arg(&self.node);
                command.arg(format!("presence:{room_id}:")).arg(ROOM_TIME.as_secs());
                command.arg(PRESENCE_TIME.as_secs()).arg(dead);
                pipeline.add_command(command);
            }
            let answers: Vec<Vec<String>> = self.run_all(&pipeline).await?;
            for answer in answers {
                views.push(read_view(&answer)?);
            }
        }
        Ok(views)
    }

    /// A room is at a host, too, by this router there, or by the one that this gives.
    pub async fn branch(
        &self,
        room_id: &Id,
        host: &str,
        router: &str,
        dead: &[String],
    ) -> Result<String, StoreError> {
        let mut command = script(BRANCH, &[branches_key(room_id)]);
        command.arg(host).arg(router).arg(ROOM_TIME.as_secs()).arg(dead);
        self.run(command).await
    }

    /// This node does not serve a room any more; gives its branches if it is over for all. `nodes`:
    /// those that are there.
    pub async fn close(
        &self,
        room_id: &Id,
        router: &str,
        nodes: &[String],
    ) -> Result<Option<Vec<String>>, StoreError> {
        let mut command = script(CLOSE, &room_keys(room_id));
        command.arg(&self.node).arg(router).arg(nodes);
        let mut answer: Vec<String> = self.run(command).await?;
        let is_over = answer.first().is_some_and(|first| first == "1");
        Ok(is_over.then(|| answer.split_off(1)))
    }

    /// Takes a participant over from another node, if he is still there; gives whether he was. Of
    /// one whose node is gone the record may be gone, too.
    pub async fn claim(&self, member: &Member, may_miss: bool) -> Result<bool, StoreError> {
        let told = self.told(News::UserChanged(member.clone()));
        let claim = if may_miss { Claim::Unknown } else { Claim::Known };
        Ok(self.run::<i64>(enter(member, Some(&told), PRESENCE_TIME, claim)).await? == 1)
    }

    /// Removes a participant if he is still at a node.
    pub async fn remove(&self, who: &Present, news: News) -> Result<Removed, StoreError> {
        let told = self.told(news);
        Ok(match self.run::<i64>(leave(who, &who.node, &told)).await? {
            0 => Removed::NotThere,
            1 => Removed::Now,
            _ => Removed::Before,
        })
    }

    /// Begins a broadcast here, unless another one of its kind is at a node that is not `gone`; gives
    /// whether it may.
    pub async fn begin_show(
        &self,
        room_id: &Id,
        shown: &Shown,
        told: &Told,
        gone: &[String],
    ) -> Result<bool, StoreError> {
        Ok(self.run::<i64>(show(room_id, shown, told, Some(gone))).await? == 1)
    }

    /// A broadcast of a node that is gone is over; gives whether this call took its record away.
    pub async fn end_show(
        &self,
        room_id: &Id,
        shown: &Shown,
        told: &Told,
    ) -> Result<bool, StoreError> {
        Ok(self.run::<i64>(show(room_id, shown, told, None)).await? == 1)
    }

    /// Asks the node of a broadcast to end it; gives whether it is there.
    pub async fn stop_show(&self, room_id: &Id, shown: &Shown) -> Result<bool, StoreError> {
        let broadcast_id = shown.broadcast_id.clone();
        let word = Stop { stop: broadcast_id.clone() };
        let told = self.told(News::StopBroadcast { broadcast_id });
        let mut command = script(STOP, &[broadcasts_key(room_id), channel(room_id)]);
        command.arg(shown.kind.name()).arg(&shown.broadcast_id).arg(text(&word)).arg(text(&told));
        Ok(self.run::<i64>(command).await? == 1)
    }

    /// News from here.
    pub fn told(&self, news: News) -> Told {
        Told { node: self.node.clone(), news }
    }

    /// Begins to listen to the nodes.
    pub async fn listen(&self) -> Result<Ear, StoreError> {
        let connecting = async {
            let (mut sink, stream) = self.client.get_async_pubsub().await?.split();
            sink.subscribe(NODES).await?;
            Ok::<_, redis::RedisError>(Ear { sink, stream })
        };
        Ok(tokio::time::timeout(WAIT_MAX, connecting).await.map_err(late)??)
    }
}

impl Ear {
    /// The part that subscribes.
    pub fn sink(&self) -> Subscriber {
        Subscriber(self.sink.clone())
    }

    /// The next thing that is understood; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let message = self.stream.next().await?;
            let payload = message.get_payload_bytes();
            let name = message.get_channel_name();
            if name == NODES {
                return Some(Heard::Node(String::from_utf8_lossy(payload).into_owned()));
            }
            let room_id = name.strip_prefix("channel:room:").and_then(|id| Id::new(id).ok());
            // What another version says, and this one does not know, is none of its business.
            if let (Some(room_id), Ok(told)) = (room_id, serde_json::from_slice(payload)) {
                return Some(Heard::Room(room_id, Box::new(told)));
            }
        }
    }
}

/// Says of which rooms an [`Ear`] hears.
#[derive(Clone)]
pub struct Subscriber(PubSubSink);

impl Subscriber {
    /// From the answer on.
    pub async fn subscribe(&mut self, rooms: &[Id]) -> Result<(), StoreError> {
        let channels: Vec<String> = rooms.iter().map(channel).collect();
        if channels.is_empty() {
            return Ok(());
        }
        let asked = self.0.subscribe(channels);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    /// No more.
    pub async fn unsubscribe(&mut self, room_id: &Id) -> Result<(), StoreError> {
        let asked = self.0.unsubscribe(channel(room_id));
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }
}

fn read_view(answer: &[String]) -> Result<View, StoreError> {
    let [router, record, branches, shows, rest @ ..] = answer else {
        return Err(unreadable("no router"));
    };
    let shows = shows.parse().ok().and_then(|count| rest.split_at_checked(count));
    let Some((shows, members)) = shows else { return Err(unreadable("no broadcasts")) };
    let record: Option<RoomRecord> = serde_json::from_str(record).ok();
    let mut newest: BTreeMap<Id, Member> = BTreeMap::new();
    for member in members {
        // A record that cannot be read is nobody's: it expires.
        if let Ok(member) = serde_json::from_str::<Member>(member) {
            newest.insert(member.who.participant_id.clone(), member);
        }
    }
    let mode = record.map(|record| record.mode);
    let branches = branches.lines().map(str::to_owned).collect();
    let stops = shows.iter().filter_map(|word| serde_json::from_str::<Stop>(word).ok());
    let stops = stops.map(|word| word.stop).collect();
    let shows = shows.iter().filter_map(|show| serde_json::from_str(show).ok()).collect();
    let members = newest.into_values().collect();
    Ok(View { router: router.clone(), mode, branches, members, shows, stops })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Kind, Map, Member, News, Shown, Told};

    fn member() -> Member {
        serde_json::from_value(json!({
            "roomId": "r", "participantId": "ada", "session": "ada.1", "name": "Ada", "node": "n",
            "version": 1_u64 << 45, "connected": true, "p2p": false, "idIsChosen": true,
            "producers": [{ "id": "p", "kind": "video", "paused": false, "appData": {} }],
        }))
        .unwrap()
    }

    #[test]
    fn news_are_read_as_they_were_written() {
        let left = News::UserLeft {
            participant_id: "ada".parse().unwrap(),
            session: "ada.1".parse().unwrap(),
            version: 7,
            reason: "left".to_owned(),
        };
        let show = News::Broadcast {
            show: Shown {
                node: "another".to_owned(),
                broadcast_id: "b".to_owned(),
                kind: Kind::Hls,
                version: 1 << 45,
                told: Map::new(),
                is_over: false,
            },
            more: Map::new(),
        };
        let all =
            [("USER_JOINED", News::UserJoined(member())), ("USER_LEFT", left), ("BROADCAST", show)];
        for (kind, news) in all {
            let told = Told { node: "n".to_owned(), news };
            let written = serde_json::to_value(&told).unwrap();
            assert_eq!(written["type"], kind);
            assert_eq!(serde_json::from_value::<Told>(written).unwrap(), told);
            // As text no name may come twice either.
            let text = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), told);
        }
    }
}
