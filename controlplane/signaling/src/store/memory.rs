//! The stores of a single node: everything in memory. What expires elsewhere by itself is looked
//! through when somebody comes.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use futures::FutureExt;
use ironcast_api::Id;

use super::calls::{CallParticipant, CallRecord, CallSession, PARTICIPANTS_SHOWN_MAX, Status};
use super::{
    Answer, Kept, Lasting, Message, NewMessage, PRESENCE_TIME, Present, RoomRecord, Shared,
    StoreError, Versioned,
};

/// Those who expired are forgotten so often.
const LOOK_THROUGH: Duration = Duration::from_secs(1);

/// Keeps all in memory.
#[derive(Debug, Default)]
pub struct Memory {
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    rooms: HashMap<Id, Versioned<RoomRecord>>,
    present: BTreeMap<(Id, Id), (Present, Instant)>,
    nodes: HashMap<Id, (String, Instant)>,
    /// When those who expired were forgotten last.
    looked_through: Option<Instant>,
    chats: HashMap<Id, Chat>,
    calls: HashMap<Id, Call>,
}

#[derive(Debug)]
struct Call {
    session: CallSession,
    participants: VecDeque<CallParticipant>,
}

#[derive(Debug, Default)]
struct Chat {
    last_number: u64,
    messages: VecDeque<(Option<Id>, Message)>,
}

impl Chat {
    fn add(&mut self, new: NewMessage) -> Result<Kept, StoreError> {
        let same = |(client_id, _): &&(Option<Id>, Message)| {
            client_id.is_some() && *client_id == new.client_id
        };
        if let Some((_, message)) = self.messages.iter().find(same) {
            if message.content != new.content {
                return Err(StoreError::Taken);
            }
            return Ok(Kept { message: message.clone(), is_new: false });
        }
        self.last_number += 1;
        let last_ms = self.messages.back().map_or(0, |(_, last)| last.time_ms);
        let message = Message {
            number: self.last_number,
            sender_id: new.sender_id,
            sender_name: new.sender_name,
            content: new.content,
            time_ms: new.time_ms.max(last_ms),
        };
        self.messages.push_back((new.client_id, message.clone()));
        while self.messages.len() > new.kept_max as usize {
            self.messages.pop_front();
        }
        Ok(Kept { message, is_new: true })
    }

    fn before(&self, before: Option<u64>, limit: u32) -> Vec<Message> {
        let older = self.messages.iter().rev().map(|(_, message)| message);
        let older = older.filter(|message| before.is_none_or(|before| message.number < before));
        let mut page: Vec<_> = older.take(limit as usize).cloned().collect();
        page.reverse();
        page
    }
}

impl Memory {
    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("nobody panics with it")
    }

    fn now<T: Send + 'static>(&self, run: impl FnOnce(&mut Inside) -> T) -> Answer<'_, T> {
        let value = run(&mut self.inside());
        async move { Ok(value) }.boxed()
    }
}

impl Inside {
    fn seen_until(&mut self, who: Present, time: Duration) {
        let now = Instant::now();
        self.look_through(now);
        self.nodes.insert(who.participant_id.clone(), (who.node.clone(), now + time));
        self.present.insert((who.room_id.clone(), who.participant_id.clone()), (who, now + time));
    }

    /// Who expired needs no memory. Not with each word: all are looked at, and everybody says a word
    /// now and then.
    fn look_through(&mut self, now: Instant) {
        if self.looked_through.is_some_and(|at| now.duration_since(at) < LOOK_THROUGH) {
            return;
        }
        self.looked_through = Some(now);
        self.present.retain(|_, (_, until)| *until > now);
        self.nodes.retain(|_, (_, until)| *until > now);
    }
}

impl Inside {
    fn note_call(&mut self, record: CallRecord) {
        match record {
            CallRecord::Session(new) => {
                let Some(there) = self.calls.get_mut(&new.call_id) else {
                    let call = Call { session: new, participants: VecDeque::new() };
                    self.calls.insert(call.session.call_id.clone(), call);
                    return;
                };
                let is_same = there.session.ended_ms.is_none();
                let started_ms = if is_same { there.session.started_ms } else { new.started_ms };
                there.session = CallSession { started_ms, ..new };
                there.participants.retain(|who| who.joined_ms >= started_ms);
            }
            CallRecord::Ended { call_id, ended_ms } => {
                let call = self.calls.get_mut(&call_id);
                if let Some(call) = call.filter(|call| call.session.started_ms <= ended_ms) {
                    call.session.ended_ms.get_or_insert(ended_ms);
                }
            }
            CallRecord::Participant(new) => {
                let Some(call) = self.calls.get_mut(&new.call_id) else { return };
                let there = call.participants.iter_mut().find(|who| who.session == new.session);
                match there {
                    // Who left stays so.
                    Some(there) if there.left_ms.is_some() => {}
                    Some(there) => {
                        *there = CallParticipant { joined_ms: there.joined_ms, ..new };
                    }
                    None => call.participants.push_back(new),
                }
                while call.participants.len() > PARTICIPANTS_SHOWN_MAX as usize {
                    call.participants.pop_front();
                }
            }
            CallRecord::Left { call_id, session, left_ms } => {
                let Some(call) = self.calls.get_mut(&call_id) else { return };
                if let Some(who) = call.participants.iter_mut().find(|who| who.session == session) {
                    who.status = Status::Disconnected;
                    who.left_ms = Some(left_ms);
                }
            }
        }
    }
}

impl Shared for Memory {
    fn room(&self, id: Id) -> Answer<'_, Option<Versioned<RoomRecord>>> {
        self.now(|inside| inside.rooms.get(&id).cloned())
    }

    fn set_room(&self, id: Id, expected: Option<u64>, record: RoomRecord) -> Answer<'_, bool> {
        self.now(|inside| {
            let there = inside.rooms.get(&id).map(|there| there.version);
            if there != expected {
                return false;
            }
            let version = there.unwrap_or(0) + 1;
            inside.rooms.insert(id, Versioned { version, value: record });
            true
        })
    }

    fn forget_room(&self, id: Id) -> Answer<'_, ()> {
        self.now(|inside| {
            inside.rooms.remove(&id);
        })
    }

    fn enter(&self, who: Present) -> Answer<'_, ()> {
        self.now(|inside| inside.seen_until(who, PRESENCE_TIME))
    }

    fn leave(&self, who: Present) -> Answer<'_, ()> {
        self.now(|inside| {
            let key = (who.room_id, who.participant_id);
            let is_his = |(there, _): &(Present, Instant)| there.session == who.session;
            if inside.present.get(&key).is_some_and(is_his) {
                inside.present.remove(&key);
                inside.nodes.remove(&key.1);
            }
        })
    }

    fn disconnecting(&self, who: Present, window: Duration) -> Answer<'_, ()> {
        self.now(|inside| inside.seen_until(who, window))
    }

    fn present(&self, room_id: Id) -> Answer<'_, Vec<Present>> {
        let now = Instant::now();
        self.now(|inside| {
            let all = inside.present.iter().filter(|((room, _), _)| *room == room_id);
            all.filter(|(_, (_, until))| *until > now).map(|(_, (who, _))| who.clone()).collect()
        })
    }

    fn node_of(&self, participant_id: Id) -> Answer<'_, Option<String>> {
        let now = Instant::now();
        self.now(|inside| {
            let there = inside.nodes.get(&participant_id).filter(|(_, until)| *until > now);
            there.map(|(node, _)| node.clone())
        })
    }
}

impl Lasting for Memory {
    fn add_message(&self, new: NewMessage) -> Answer<'_, Kept> {
        let kept = self.inside().chats.entry(new.room_id.clone()).or_default().add(new);
        async move { kept }.boxed()
    }

    fn messages(&self, room_id: Id, before: Option<u64>, limit: u32) -> Answer<'_, Vec<Message>> {
        self.now(|inside| {
            inside.chats.get(&room_id).map_or_else(Vec::new, |chat| chat.before(before, limit))
        })
    }

    fn note_calls(&self, records: Vec<CallRecord>) -> Answer<'_, ()> {
        self.now(|inside| {
            for record in records {
                inside.note_call(record);
            }
        })
    }

    fn call(&self, call_id: Id) -> Answer<'_, Option<(CallSession, Vec<CallParticipant>)>> {
        self.now(|inside| {
            let call = inside.calls.get(&call_id)?;
            Some((call.session.clone(), call.participants.iter().cloned().collect()))
        })
    }

    fn forget_before(&self, time_ms: u64) -> Answer<'_, ()> {
        self.now(|inside| {
            inside.calls.retain(|_, call| call.session.ended_ms.is_none_or(|at| at >= time_ms));
            for chat in inside.chats.values_mut() {
                chat.messages.retain(|(_, message)| message.time_ms >= time_ms);
            }
            inside.chats.retain(|_, chat| !chat.messages.is_empty());
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Memory, Present, Shared};

    fn who(number: usize) -> Present {
        Present {
            room_id: format!("r{}", number / 10).parse().unwrap(),
            participant_id: format!("p{number}").parse().unwrap(),
            session: format!("p{number}.1").parse().unwrap(),
            name: String::new(),
            node: "n".to_owned(),
        }
    }

    /// Each of them costs the same, however many there are: else this does not end.
    #[tokio::test]
    async fn thousands_say_that_they_are_here() {
        const PEOPLE: usize = 20_000;
        let memory = Memory::default();
        for _ in 0..2 {
            for number in 0..PEOPLE {
                memory.enter(who(number)).await.unwrap();
            }
        }
        for number in [0, PEOPLE / 2, PEOPLE - 1] {
            let there = memory.present(who(number).room_id).await.unwrap();
            assert_eq!(there.len(), 10);
            let node = memory.node_of(who(number).participant_id).await.unwrap();
            assert_eq!(node.as_deref(), Some("n"));
        }
    }

    #[tokio::test]
    async fn who_does_not_come_back_is_nowhere() {
        let memory = Memory::default();
        memory.disconnecting(who(1), Duration::ZERO).await.unwrap();
        memory.enter(who(2)).await.unwrap();
        memory.leave(who(2)).await.unwrap();
        memory.enter(who(3)).await.unwrap();
        for (number, node) in [(1, None), (2, None), (3, Some("n"))] {
            let there = memory.node_of(who(number).participant_id).await.unwrap();
            assert_eq!(there.as_deref(), node, "{number}");
        }
        let there = memory.present(who(3).room_id).await.unwrap();
        assert_eq!(there, [who(3)]);
    }
}
