//! Rooms, participants and what each of them owns: the whole state of the service, in memory.
//! Handlers change it under one lock, and never hold that lock while they wait for anything.
//! It sends nothing, asks nothing, and knows no time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ironcast_api::{AppData, Id, MediaKind, RtpCapabilities};
use serde_json::{Value, json};
use socketioxide::socket::Sid;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::events::Direction;
use crate::failure::Failure;

/// Longest part of a room's id that we show in its router's.
const ROUTER_PREFIX_CHARACTERS_MAX: usize = 40;

/// A random id.
pub fn fresh_id() -> Id {
    Id::new(Uuid::new_v4().to_string()).expect("a UUID is a valid id")
}

/// A participant's place: what a socket, a transport or a consumer belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room_id: Id,
    /// The participant.
    pub participant_id: Id,
}

/// The room's router at the media server, made by the first who needs it.
#[derive(Debug)]
pub struct RouterSlot {
    /// Chosen here. A deleted id is not taken again for a while, so that a room that comes back
    /// gets another one.
    pub id: Id,
    /// Its capabilities, once it is there.
    pub capabilities: OnceCell<Value>,
}

impl RouterSlot {
    fn new(room_id: &Id) -> Arc<Self> {
        let prefix: String = room_id.chars().take(ROUTER_PREFIX_CHARACTERS_MAX).collect();
        let unique = Uuid::new_v4().simple().to_string();
        let id = Id::new(format!("{prefix}.{}", &unique[..12])).expect("made of valid characters");
        Arc::new(Self { id, capabilities: OnceCell::new() })
    }
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its router.
    pub router: Arc<RouterSlot>,
    /// Who is in it, those included whose socket is away for a moment.
    pub participants: BTreeMap<Id, Participant>,
    /// Counts how often someone came: a timer set for an empty room sees whether it still holds.
    pub arrivals: u64,
}

/// Someone in a room.
#[derive(Debug)]
pub struct Participant {
    /// What others read.
    pub name: String,
    /// Brings him back after a lost socket.
    pub resume_token: String,
    /// His socket; none while it is away.
    pub socket: Option<Sid>,
    /// Counts his sockets: a timer set for a lost one sees whether it still holds.
    pub sockets_seen: u64,
    /// What he can receive, as he said it last.
    pub capabilities: Option<RtpCapabilities>,
    /// At most one each way.
    pub transports: BTreeMap<Direction, Id>,
    /// What he sends.
    pub producers: BTreeMap<Id, Producer>,
    /// What he receives: consumer to producer.
    pub consumers: BTreeMap<Id, Id>,
}

/// A track that someone sends.
#[derive(Debug, Clone)]
pub struct Producer {
    /// Audio or video.
    pub kind: MediaKind,
    /// Muted by its owner.
    pub paused: bool,
    /// Told to the others.
    pub app_data: AppData,
}

/// How a join ended.
#[derive(Debug)]
pub struct Joined {
    /// Where he sits now.
    pub seat: Seat,
    /// For the next time.
    pub resume_token: String,
    /// He came back, and his media is still there.
    pub resumed: bool,
    /// The socket he had before, if it is still open: to be closed.
    pub replaced: Option<Sid>,
}

/// What a participant left behind: to be told to others and freed at the media server.
#[derive(Debug)]
pub struct Departed {
    /// Where he sat.
    pub seat: Seat,
    /// His room's router.
    pub router: Arc<RouterSlot>,
    /// What he sent.
    pub producer_ids: Vec<Id>,
    /// Set when the room is empty now: its `arrivals`.
    pub room_empty: Option<u64>,
}

/// All rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<Id, Room>,
    seats: HashMap<Sid, Seat>,
    owners: HashMap<Id, Seat>,
}

impl Rooms {
    /// How many rooms and participants there are.
    pub fn count(&self) -> (usize, usize) {
        (self.rooms.len(), self.rooms.values().map(|room| room.participants.len()).sum())
    }

    /// One room.
    pub fn room(&self, id: &Id) -> Option<&Room> {
        self.rooms.get(id)
    }

    /// All rooms.
    pub fn all(&self) -> impl Iterator<Item = (&Id, &Room)> {
        self.rooms.iter()
    }

    /// Makes a room unless it is there.
    pub fn open(&mut self, id: &Id, rooms_max: usize) -> Result<&mut Room, Failure> {
        if !self.rooms.contains_key(id) {
            if self.rooms.len() >= rooms_max {
                return Err(Failure::no_capacity("this service holds no more rooms"));
            }
            let room =
                Room { router: RouterSlot::new(id), participants: BTreeMap::new(), arrivals: 0 };
            self.rooms.insert(id.clone(), room);
        }
        Ok(self.rooms.get_mut(id).expect("just made"))
    }

    /// Removes a room if nobody came since `arrivals`.
    pub fn close_if_empty(&mut self, id: &Id, arrivals: u64) -> Option<Arc<RouterSlot>> {
        let room = self.rooms.get(id)?;
        if !room.participants.is_empty() || room.arrivals != arrivals {
            return None;
        }
        self.rooms.remove(id).map(|room| room.router)
    }

    /// Removes a room with everybody in it; gives the sockets to tell.
    pub fn close(&mut self, id: &Id) -> Vec<Sid> {
        let Some(room) = self.rooms.remove(id) else { return Vec::new() };
        self.owners.retain(|_, seat| seat.room_id != *id);
        self.seats.retain(|_, seat| seat.room_id != *id);
        room.participants.values().filter_map(|participant| participant.socket).collect()
    }

    /// The room of a router.
    pub fn room_of_router(&self, router_id: &str) -> Option<&Id> {
        self.rooms.iter().find(|(_, room)| room.router.id == *router_id).map(|(id, _)| id)
    }

    /// Where a socket sits.
    pub fn seat(&self, socket: Sid) -> Result<Seat, Failure> {
        self.seats.get(&socket).cloned().ok_or_else(Failure::not_in_room)
    }

    /// The participant of a seat.
    pub fn participant(&self, seat: &Seat) -> Result<&Participant, Failure> {
        self.rooms
            .get(&seat.room_id)
            .and_then(|room| room.participants.get(&seat.participant_id))
            .ok_or_else(Failure::not_in_room)
    }

    /// The participant of a seat, to be changed.
    pub fn participant_mut(&mut self, seat: &Seat) -> Result<&mut Participant, Failure> {
        self.rooms
            .get_mut(&seat.room_id)
            .and_then(|room| room.participants.get_mut(&seat.participant_id))
            .ok_or_else(Failure::not_in_room)
    }

    /// The router of a seat's room.
    pub fn router(&self, seat: &Seat) -> Result<Arc<RouterSlot>, Failure> {
        self.rooms
            .get(&seat.room_id)
            .map(|room| Arc::clone(&room.router))
            .ok_or_else(Failure::not_in_room)
    }

    /// Seats a socket: a new participant, or the one whose resume token it shows.
    pub fn join(&mut self, socket: Sid, who: Arrival<'_>) -> Result<Joined, Failure> {
        let room = self
            .rooms
            .get_mut(who.room_id)
            .ok_or_else(|| Failure::not_found("room", who.room_id))?;
        let known = who.resume_token.and_then(|token| {
            room.participants
                .iter()
                .find(|(_, p)| p.resume_token == token)
                .map(|(id, _)| id.clone())
        });
        room.arrivals += 1;
        if let Some(participant_id) = known {
            let participant = room.participants.get_mut(&participant_id).expect("just found");
            let replaced = participant.socket.replace(socket).filter(|old| *old != socket);
            participant.sockets_seen += 1;
            if let Some(name) = who.name {
                participant.name = name.to_owned();
            }
            let resume_token = participant.resume_token.clone();
            let seat = Seat { room_id: who.room_id.clone(), participant_id };
            if let Some(old) = replaced {
                self.seats.remove(&old);
            }
            self.seats.insert(socket, seat.clone());
            return Ok(Joined { seat, resume_token, resumed: true, replaced });
        }
        if room.participants.len() >= who.participants_max {
            return Err(Failure::no_capacity("this room is full"));
        }
        let participant_id = who.participant_id.cloned().unwrap_or_else(fresh_id);
        if room.participants.contains_key(&participant_id) {
            let message = format!("a participant {participant_id} is already in this room");
            return Err(Failure::new("already_exists", message));
        }
        let resume_token = Uuid::new_v4().simple().to_string();
        let participant = Participant {
            name: who.name.unwrap_or("Guest").to_owned(),
            resume_token: resume_token.clone(),
            socket: Some(socket),
            sockets_seen: 1,
            capabilities: None,
            transports: BTreeMap::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
        };
        room.participants.insert(participant_id.clone(), participant);
        let seat = Seat { room_id: who.room_id.clone(), participant_id };
        self.seats.insert(socket, seat.clone());
        Ok(Joined { seat, resume_token, resumed: false, replaced: None })
    }

    /// A socket went away; its participant stays. Gives his seat and his `sockets_seen`.
    pub fn lose_socket(&mut self, socket: Sid) -> Option<(Seat, u64)> {
        let seat = self.seats.remove(&socket)?;
        let participant = self.participant_mut(&seat).ok()?;
        participant.socket = None;
        Some((seat.clone(), participant.sockets_seen))
    }

    /// Whether the participant's socket is still away since `sockets_seen`.
    pub fn is_still_away(&self, seat: &Seat, sockets_seen: u64) -> bool {
        self.participant(seat).is_ok_and(|p| p.socket.is_none() && p.sockets_seen == sockets_seen)
    }

    /// Removes a participant with all that was his.
    pub fn leave(&mut self, seat: &Seat) -> Option<Departed> {
        let room = self.rooms.get_mut(&seat.room_id)?;
        let participant = room.participants.remove(&seat.participant_id)?;
        let departed = Departed {
            seat: seat.clone(),
            router: Arc::clone(&room.router),
            producer_ids: participant.producers.into_keys().collect(),
            room_empty: room.participants.is_empty().then_some(room.arrivals),
        };
        if let Some(socket) = participant.socket {
            self.seats.remove(&socket);
        }
        self.owners.retain(|_, owner| owner != seat);
        Some(departed)
    }

    /// The seat that shows this token.
    pub fn seat_of_token(&self, room_id: &Id, token: &str) -> Option<Seat> {
        let room = self.rooms.get(room_id)?;
        let (id, _) = room.participants.iter().find(|(_, p)| p.resume_token == token)?;
        Some(Seat { room_id: room_id.clone(), participant_id: id.clone() })
    }

    /// Who owns a transport, producer or consumer.
    pub fn owner(&self, id: &Id) -> Option<&Seat> {
        self.owners.get(id)
    }

    /// Why `id` is not among this participant's own.
    pub fn not_mine(&self, seat: &Seat, what: &str, id: &Id) -> Failure {
        match self.owners.get(id) {
            Some(owner) if owner.room_id == seat.room_id && owner != seat => {
                Failure::not_yours(what, id)
            }
            _ => Failure::not_found(what, id),
        }
    }

    /// A participant's transport: the one named, or the one of the direction.
    pub fn transport(
        &self,
        seat: &Seat,
        id: Option<&Id>,
        direction: Option<Direction>,
    ) -> Result<Id, Failure> {
        let participant = self.participant(seat)?;
        if let Some(id) = id {
            let (own, _) = participant
                .transports
                .iter()
                .map(|(own_direction, own)| (own, own_direction))
                .find(|(own, _)| *own == id)
                .ok_or_else(|| self.not_mine(seat, "transport", id))?;
            return Ok(own.clone());
        }
        let direction = direction.ok_or_else(|| Failure::invalid("missing field `transportId`"))?;
        participant.transports.get(&direction).cloned().ok_or_else(|| {
            Failure::new("wrong_state", "create a transport for this direction first")
        })
    }

    /// Remembers a new transport; gives the one that it replaces.
    pub fn add_transport(
        &mut self,
        seat: &Seat,
        direction: Direction,
        id: &Id,
    ) -> Result<Option<Id>, Failure> {
        let old = self.participant_mut(seat)?.transports.insert(direction, id.clone());
        self.owners.insert(id.clone(), seat.clone());
        Ok(old)
    }

    /// Remembers a new producer.
    pub fn add_producer(&mut self, seat: &Seat, id: &Id, new: Producer) -> Result<(), Failure> {
        self.participant_mut(seat)?.producers.insert(id.clone(), new);
        self.owners.insert(id.clone(), seat.clone());
        Ok(())
    }

    /// Remembers a new consumer.
    pub fn add_consumer(&mut self, seat: &Seat, id: &Id, producer: &Id) -> Result<(), Failure> {
        self.participant_mut(seat)?.consumers.insert(id.clone(), producer.clone());
        self.owners.insert(id.clone(), seat.clone());
        Ok(())
    }

    /// Forgets a producer; tells whether it was there.
    pub fn remove_producer(&mut self, seat: &Seat, id: &Id) -> bool {
        let Ok(participant) = self.participant_mut(seat) else { return false };
        let was_there = participant.producers.remove(id).is_some();
        if was_there {
            self.owners.remove(id);
        }
        was_there
    }

    /// Forgets a consumer; gives its producer.
    pub fn remove_consumer(&mut self, seat: &Seat, id: &Id) -> Option<Id> {
        let producer = self.participant_mut(seat).ok()?.consumers.remove(id)?;
        self.owners.remove(id);
        Some(producer)
    }

    /// Forgets a transport and what it carried; gives the producers that went with it.
    pub fn remove_transport(&mut self, seat: &Seat, id: &Id) -> Vec<Id> {
        self.owners.remove(id);
        let Ok(participant) = self.participant_mut(seat) else { return Vec::new() };
        let direction = participant
            .transports
            .iter()
            .find(|(_, own)| *own == id)
            .map(|(direction, _)| *direction);
        let Some(direction) = direction else { return Vec::new() };
        participant.transports.remove(&direction);
        self.drop_carried(seat, direction)
    }

    /// Forgets what a direction carried: the producers of a sending transport, the consumers of a
    /// receiving one. Gives the producers.
    pub fn drop_carried(&mut self, seat: &Seat, direction: Direction) -> Vec<Id> {
        let Ok(participant) = self.participant_mut(seat) else { return Vec::new() };
        let (producers, consumers) = match direction {
            Direction::Send => (std::mem::take(&mut participant.producers), BTreeMap::new()),
            Direction::Receive => (BTreeMap::new(), std::mem::take(&mut participant.consumers)),
        };
        for id in producers.keys().chain(consumers.keys()) {
            self.owners.remove(id);
        }
        producers.into_keys().collect()
    }

    /// Sockets of a room, but for one participant's.
    pub fn sockets_but(&self, room_id: &Id, but: Option<&Id>) -> Vec<(Id, Sid)> {
        let Some(room) = self.rooms.get(room_id) else { return Vec::new() };
        room.participants
            .iter()
            .filter(|(id, _)| Some(*id) != but)
            .filter_map(|(id, participant)| Some((id.clone(), participant.socket?)))
            .collect()
    }

    /// What everyone but `viewer` sends, as browsers are told.
    pub fn producers_for(&self, room_id: &Id, viewer: &Id) -> Value {
        let Some(room) = self.rooms.get(room_id) else { return json!([]) };
        room.participants
            .iter()
            .filter(|(id, _)| *id != viewer)
            .flat_map(|(id, participant)| {
                participant.producers.iter().map(move |(producer_id, producer)| {
                    json!({
                        "producerId": producer_id,
                        "participantId": id,
                        "kind": producer.kind,
                        "paused": producer.paused,
                        "appData": producer.app_data,
                    })
                })
            })
            .collect()
    }

    /// Everyone but `viewer`, as browsers are told.
    pub fn participants_for(&self, room_id: &Id, viewer: &Id) -> Value {
        let Some(room) = self.rooms.get(room_id) else { return json!([]) };
        room.participants
            .iter()
            .filter(|(id, _)| *id != viewer)
            .map(|(id, participant)| json!({ "participantId": id, "name": participant.name }))
            .collect()
    }
}

/// Who wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Where.
    pub room_id: &'a Id,
    /// His own choice of an id.
    pub participant_id: Option<&'a Id>,
    /// What others shall read.
    pub name: Option<&'a str>,
    /// Proof that he was here before.
    pub resume_token: Option<&'a str>,
    /// Limit of the room.
    pub participants_max: usize,
}
