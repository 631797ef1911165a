//! What is asked of Redis: a script for each thing that has to happen as a whole, with its keys and its
//! arguments, and what is only written ([`Write`]). Asks nothing itself.

use std::time::Duration;

use ironcast_api::Id;
use redis::Cmd;
use serde::Serialize;

use super::Look;
use super::news::{Member, Shown, Stop, Told};
use crate::store::{PRESENCE_TIME, Present, ROOM_TIME};

/// Where nodes say that they are there.
pub(super) const NODES: &str = "channel:nodes";

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

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(super) fn channel(room_id: &Id) -> String {
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

/// Whether a record may be written that was at another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Claim {
    No,
    Known,
    Unknown,
}

impl Write {
    pub(super) fn command(&self) -> Cmd {
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

pub(super) fn enter(member: &Member, told: Option<&Told>, window: Duration, claim: Claim) -> Cmd {
    let who = &member.who;
    let mut command = script(ENTER, &member_keys(who));
    command.arg(who.participant_id.as_str()).arg(text(member)).arg(who.session.as_str());
    command.arg(&who.node).arg(PRESENCE_TIME.as_secs()).arg(member.version);
    command.arg(u8::from(member.connected)).arg(window.as_secs().max(1));
    command.arg(told.map(text).unwrap_or_default()).arg(claim as u8);
    command
}

pub(super) fn leave(who: &Present, node: &str, told: &Told) -> Cmd {
    let mut command = script(LEAVE, &member_keys(who));
    command.arg(who.participant_id.as_str()).arg(who.session.as_str()).arg(node).arg(text(told));
    command
}

/// This node serves a room.
pub(super) fn look(Look { room_id, router }: &Look, node: &str, dead: &[String]) -> Cmd {
    let keys = [room_keys(room_id), vec![broadcasts_key(room_id)]].concat();
    let mut command = script(LOOK, &keys);
    command.arg(router).arg(node);
    command.arg(format!("presence:{room_id}:")).arg(ROOM_TIME.as_secs());
    command.arg(PRESENCE_TIME.as_secs()).arg(dead);
    command
}

/// A room is at a host, too.
pub(super) fn branch(room_id: &Id, host: &str, router: &str, dead: &[String]) -> Cmd {
    let mut command = script(BRANCH, &[branches_key(room_id)]);
    command.arg(host).arg(router).arg(ROOM_TIME.as_secs()).arg(dead);
    command
}

/// This node does not serve a room any more.
pub(super) fn close(room_id: &Id, node: &str, router: &str, nodes: &[String]) -> Cmd {
    let mut command = script(CLOSE, &room_keys(room_id));
    command.arg(node).arg(router).arg(nodes);
    command
}

/// Gives 1 if it was written, or was there.
pub(super) fn show(room: &Id, shown: &Shown, told: &Told, claim: Option<&[String]>) -> Cmd {
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

/// The node of a broadcast is to end it.
pub(super) fn stop(room_id: &Id, shown: &Shown, told: &Told) -> Cmd {
    let word = Stop { stop: shown.broadcast_id.clone() };
    let mut command = script(STOP, &[broadcasts_key(room_id), channel(room_id)]);
    command.arg(shown.kind.name()).arg(&shown.broadcast_id).arg(text(&word)).arg(text(told));
    command
}
