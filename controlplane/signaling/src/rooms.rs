//! Rooms, participants and what each of them owns: the whole state of the service, in memory.
//! Handlers change it under one lock, and never hold that lock while they wait for anything.
//! Nothing here walks through what others own: a departure costs what the departing one had.
//! It sends nothing, asks nothing, and knows no time.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ironcast_api::{AppData, Id, MediaKind, RtpCapabilities};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socketioxide::socket::Sid;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::events::Direction;
use crate::failure::Failure;

/// Longest part of a room's or participant's id that we show in ids at the media server.
const PREFIX_CHARACTERS_MAX: usize = 40;

/// A random id.
pub fn fresh_id() -> Id {
    Id::new(Uuid::new_v4().to_string()).expect("a UUID is a valid id")
}

/// `{id}.{random}`: readable at the media server, and never the same twice.
fn once_only(id: &Id) -> Id {
    let prefix: String = id.chars().take(PREFIX_CHARACTERS_MAX).collect();
    let unique = Uuid::new_v4().simple().to_string();
    Id::new(format!("{prefix}.{}", &unique[..12])).expect("made of valid characters")
}

/// A participant's place: what a socket, a transport or a consumer belongs to. Somebody who comes
/// back under the same id without his resume token gets another seat, so that whatever was begun
/// for the old one never touches the new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// The room.
    pub room_id: Id,
    /// The participant.
    pub participant_id: Id,
    /// What the media server knows him by.
    pub session: Id,
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
        Arc::new(Self { id: once_only(room_id), capabilities: OnceCell::new() })
    }

    /// One that is there already.
    pub fn known(id: Id, capabilities: Value) -> Arc<Self> {
        Arc::new(Self { id, capabilities: OnceCell::new_with(Some(capabilities)) })
    }
}

/// A room.
#[derive(Debug)]
pub struct Room {
    /// Its router.
    pub router: Arc<RouterSlot>,
    /// Who is in it, those included whose socket is away for a moment.
    pub participants: BTreeMap<Id, Participant>,
    /// Who speaks, as was told last; the loudest first.
    pub speakers: Vec<Id>,
    /// The number of the last arrival. Numbers are never used twice, in no room: a timer set for
    /// an empty room sees whether it still holds, also when another room has its name by now.
    pub arrival: u64,
    /// Who is about to join: the room is not empty.
    joining: u32,
    /// Whose change the others have to be told by a list.
    list_due: Vec<Id>,
    /// Somebody sees to it that the list is told.
    list_watched: bool,
}

/// Someone in a room.
#[derive(Debug)]
pub struct Participant {
    /// What others read.
    pub name: String,
    /// What the media server knows him by, and what his resume token proves.
    pub session: Id,
    /// He chose his id himself: whoever joins under it again takes his place.
    pub id_is_chosen: bool,
    /// His socket; none while it is away.
    pub socket: Option<Sid>,
    /// Counts his sockets: a timer set for a lost one sees whether it still holds.
    pub sockets_seen: u64,
    /// What he can receive, as he said it last.
    pub capabilities: Option<RtpCapabilities>,
    /// The same when his receiving transport was made, if this service made it.
    pub transport_capabilities: Option<RtpCapabilities>,
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
    /// Encodings that nobody watches, as its owner was told last.
    pub unwatched: Vec<u32>,
    /// Told to the others.
    pub app_data: AppData,
    /// The same as a list shows it, written once for all who read it.
    listed: Arc<RawValue>,
}

impl Producer {
    /// A track of `participant_id`.
    pub fn new(
        id: &Id,
        participant_id: &Id,
        kind: MediaKind,
        paused: bool,
        app_data: AppData,
    ) -> Self {
        let listed = listed(id, participant_id, kind, paused, &app_data);
        Self { kind, paused, unwatched: Vec::new(), app_data, listed }
    }
}

fn entry(id: &Id, owner: &Id, kind: MediaKind, paused: bool, app_data: &AppData) -> Value {
    json!({
        "producerId": id,
        "participantId": owner,
        "kind": kind,
        "paused": paused,
        "appData": app_data,
    })
}

fn listed(id: &Id, owner: &Id, kind: MediaKind, paused: bool, app_data: &AppData) -> Arc<RawValue> {
    let raw = serde_json::value::to_raw_value(&entry(id, owner, kind, paused, app_data));
    Arc::from(raw.expect("JSON of our own making"))
}

/// How a join ended.
#[derive(Debug)]
pub struct Joined {
    /// Where he sits now.
    pub seat: Seat,
    /// He came back, and his media is still there.
    pub resumed: bool,
    /// The socket he had before, if it is still open: to be closed.
    pub replaced: Option<Sid>,
    /// Who had his id until now.
    pub ousted: Option<Departed>,
}

/// A list that a room's sockets have to be told.
#[derive(Debug)]
pub struct DueList {
    /// Who is told.
    pub viewers: Vec<(Id, Sid)>,
    /// All tracks with their owners.
    pub entries: Vec<(Id, Arc<RawValue>)>,
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
    /// His socket, if he still had one.
    pub socket: Option<Sid>,
    /// Set when the room is empty now: its `arrival`.
    pub room_empty: Option<u64>,
}

/// All rooms.
#[derive(Debug, Default)]
pub struct Rooms {
    rooms: BTreeMap<Id, Room>,
    routers: HashMap<Id, Id>,
    seats: HashMap<Sid, Seat>,
    owners: HashMap<Id, Seat>,
    participants: usize,
    arrivals: u64,
}

impl Rooms {
    /// How many rooms and participants there are.
    pub fn count(&self) -> (usize, usize) {
        (self.rooms.len(), self.participants)
    }

    /// One room.
    pub fn room(&self, id: &Id) -> Option<&Room> {
        self.rooms.get(id)
    }

    /// All rooms.
    pub fn all(&self) -> impl Iterator<Item = (&Id, &Room)> {
        self.rooms.iter()
    }

    /// Makes a room that is not there yet; gives its `arrival`.
    pub fn make(&mut self, id: &Id, rooms_max: usize) -> Result<u64, Failure> {
        if self.rooms.len() >= rooms_max {
            return Err(Failure::no_capacity("this service holds no more rooms"));
        }
        Ok(self.insert(id, RouterSlot::new(id)))
    }

    /// Takes over a room whose router is there already.
    pub fn insert(&mut self, id: &Id, router: Arc<RouterSlot>) -> u64 {
        self.arrivals += 1;
        self.routers.insert(router.id.clone(), id.clone());
        let room = Room {
            router,
            participants: BTreeMap::new(),
            speakers: Vec::new(),
            arrival: self.arrivals,
            joining: 0,
            list_due: Vec::new(),
            list_watched: false,
        };
        self.rooms.insert(id.clone(), room);
        self.arrivals
    }

    /// Somebody is about to join: the room stays until `end_join`.
    pub fn begin_join(&mut self, id: &Id) -> Result<Arc<RouterSlot>, Failure> {
        self.arrivals += 1;
        let room = self.rooms.get_mut(id).ok_or_else(|| Failure::not_found("room", id))?;
        room.arrival = self.arrivals;
        room.joining += 1;
        Ok(Arc::clone(&room.router))
    }

    /// He has joined, or has not. A room that nobody is in is removed: gives its router.
    pub fn end_join(&mut self, id: &Id, router: &Arc<RouterSlot>) -> Option<Arc<RouterSlot>> {
        let room = self.rooms.get_mut(id).filter(|room| Arc::ptr_eq(&room.router, router))?;
        room.joining = room.joining.saturating_sub(1);
        let arrival = room.arrival;
        self.close_if_empty(id, arrival)
    }

    /// Removes a room if nobody came since `arrival`.
    pub fn close_if_empty(&mut self, id: &Id, arrival: u64) -> Option<Arc<RouterSlot>> {
        let room = self.rooms.get(id)?;
        if !room.participants.is_empty() || room.joining > 0 || room.arrival != arrival {
            return None;
        }
        let room = self.rooms.remove(id)?;
        self.routers.remove(&room.router.id);
        Some(room.router)
    }

    /// Removes a room with everybody in it; gives the sockets to tell.
    pub fn close(&mut self, id: &Id) -> Vec<Sid> {
        let Some(room) = self.rooms.remove(id) else { return Vec::new() };
        self.routers.remove(&room.router.id);
        room.participants.values().filter_map(|participant| self.forget(participant)).collect()
    }

    /// Forgets what a participant owned, who is in no room any more; gives his socket.
    fn forget(&mut self, participant: &Participant) -> Option<Sid> {
        self.participants -= 1;
        let transports = participant.transports.values();
        let tracks = participant.producers.keys().chain(participant.consumers.keys());
        for id in transports.chain(tracks) {
            self.owners.remove(id);
        }
        let socket = participant.socket?;
        self.seats.remove(&socket);
        Some(socket)
    }

    /// The room of a router.
    pub fn room_of_router(&self, router_id: &Id) -> Option<&Id> {
        self.routers.get(router_id)
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
            .filter(|participant| participant.session == seat.session)
            .ok_or_else(Failure::not_in_room)
    }

    /// The participant of a seat, to be changed.
    pub fn participant_mut(&mut self, seat: &Seat) -> Result<&mut Participant, Failure> {
        self.rooms
            .get_mut(&seat.room_id)
            .and_then(|room| room.participants.get_mut(&seat.participant_id))
            .filter(|participant| participant.session == seat.session)
            .ok_or_else(Failure::not_in_room)
    }

    /// The router of a seat's room.
    pub fn router(&self, seat: &Seat) -> Result<Arc<RouterSlot>, Failure> {
        self.rooms
            .get(&seat.room_id)
            .map(|room| Arc::clone(&room.router))
            .ok_or_else(Failure::not_in_room)
    }

    /// Seats a socket: a new participant, or the one whose session a resume token proved.
    pub fn join(&mut self, socket: Sid, who: &Arrival<'_>) -> Result<Joined, Failure> {
        let room = self
            .rooms
            .get(who.room_id)
            .filter(|room| Arc::ptr_eq(&room.router, who.router))
            .ok_or_else(|| Failure::new("media_unavailable", "this room was lost; try again"))?;
        let known = who.session.and_then(|session| {
            room.participants.iter().find(|(_, p)| p.session == *session).map(|(id, _)| id.clone())
        });
        if let Some(participant_id) = known {
            return Ok(self.resume(socket, who, participant_id));
        }
        let taken = who.participant_id.and_then(|id| Some((id, room.participants.get(id)?)));
        let ousted = match taken {
            Some((id, there)) if there.gives_way_to(who) => {
                let session = there.session.clone();
                Some(Seat { room_id: who.room_id.clone(), participant_id: id.clone(), session })
            }
            Some((id, _)) => {
                let message = format!("a participant {id} is already in this room");
                return Err(Failure::new("already_exists", message));
            }
            None if room.participants.len() >= who.participants_max => {
                return Err(Failure::no_capacity("this room is full"));
            }
            None => None,
        };
        let ousted = ousted.and_then(|seat| self.leave(&seat));
        let participant_id = who.participant_id.cloned().unwrap_or_else(fresh_id);
        let seat = Seat {
            room_id: who.room_id.clone(),
            session: once_only(&participant_id),
            participant_id,
        };
        let participant = Participant {
            name: who.name.unwrap_or("Guest").to_owned(),
            id_is_chosen: who.participant_id.is_some(),
            ..Participant::away(seat.session.clone())
        };
        self.add_participant(&seat, Participant { socket: Some(socket), ..participant });
        self.seats.insert(socket, seat.clone());
        Ok(Joined { seat, resumed: false, replaced: None, ousted })
    }

    fn resume(&mut self, socket: Sid, who: &Arrival<'_>, participant_id: Id) -> Joined {
        let room = self.rooms.get_mut(who.room_id).expect("just looked at");
        let participant = room.participants.get_mut(&participant_id).expect("just found");
        let replaced = participant.socket.replace(socket).filter(|old| *old != socket);
        participant.sockets_seen += 1;
        if let Some(name) = who.name {
            participant.name = name.to_owned();
        }
        let session = participant.session.clone();
        let seat = Seat { room_id: who.room_id.clone(), participant_id, session };
        if let Some(old) = replaced {
            self.seats.remove(&old);
        }
        self.seats.insert(socket, seat.clone());
        Joined { seat, resumed: true, replaced, ousted: None }
    }

    /// Seats someone in a room that is there, with all that he owns.
    pub fn add_participant(&mut self, seat: &Seat, participant: Participant) {
        let Some(room) = self.rooms.get_mut(&seat.room_id) else { return };
        let transports = participant.transports.values();
        let tracks = participant.producers.keys().chain(participant.consumers.keys());
        for id in transports.chain(tracks) {
            self.owners.insert(id.clone(), seat.clone());
        }
        room.participants.insert(seat.participant_id.clone(), participant);
        self.participants += 1;
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
        self.participant(seat).ok()?;
        let room = self.rooms.get_mut(&seat.room_id)?;
        let participant = room.participants.remove(&seat.participant_id)?;
        let router = Arc::clone(&room.router);
        let room_empty = room.participants.is_empty().then_some(room.arrival);
        let socket = self.forget(&participant);
        Some(Departed {
            seat: seat.clone(),
            router,
            producer_ids: participant.producers.into_keys().collect(),
            socket,
            room_empty,
        })
    }

    /// The seat of a session.
    pub fn seat_of_session(&self, room_id: &Id, session: &Id) -> Option<Seat> {
        let room = self.rooms.get(room_id)?;
        let (id, _) = room.participants.iter().find(|(_, p)| p.session == *session)?;
        Some(Seat {
            room_id: room_id.clone(),
            participant_id: id.clone(),
            session: session.clone(),
        })
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
        if let Some(old) = &old {
            self.owners.remove(old);
        }
        Ok(old)
    }

    /// Remembers a new producer.
    pub fn add_producer(&mut self, seat: &Seat, id: &Id, new: Producer) -> Result<(), Failure> {
        self.participant_mut(seat)?.producers.insert(id.clone(), new);
        self.owners.insert(id.clone(), seat.clone());
        Ok(())
    }

    /// Remembers a new consumer of a transport.
    pub fn add_consumer(
        &mut self,
        seat: &Seat,
        transport: &Id,
        id: &Id,
        producer: &Id,
    ) -> Result<(), Failure> {
        let participant = self.participant_mut(seat)?;
        // The transport may have been lost, or replaced, while the consumer was made.
        if !participant.transports.values().any(|own| own == transport) {
            return Err(Failure::not_found("transport", transport));
        }
        participant.consumers.insert(id.clone(), producer.clone());
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

    /// Remembers that a producer is paused or not; gives whether that is new.
    pub fn set_paused(&mut self, seat: &Seat, id: &Id, paused: bool) -> Result<bool, Failure> {
        let Some(producer) = self.participant_mut(seat)?.producers.get_mut(id) else {
            return Ok(false);
        };
        if producer.paused == paused {
            return Ok(false);
        }
        producer.paused = paused;
        producer.listed =
            listed(id, &seat.participant_id, producer.kind, paused, &producer.app_data);
        Ok(true)
    }

    /// Remembers what nobody watches of a producer; gives whether that is new.
    pub fn set_unwatched(&mut self, seat: &Seat, id: &Id, encodings: &[u32]) -> bool {
        let participant = self.participant_mut(seat).ok();
        let producer = participant.and_then(|one| one.producers.get_mut(id));
        let Some(producer) = producer.filter(|one| one.unwatched != encodings) else {
            return false;
        };
        producer.unwatched = encodings.to_vec();
        true
    }

    /// What this participant sends has changed: his room's list is due. Gives whether the caller
    /// has to see to it that it is told.
    pub fn list_is_due(&mut self, seat: &Seat) -> bool {
        let Some(room) = self.rooms.get_mut(&seat.room_id) else { return false };
        if !room.list_due.contains(&seat.participant_id) {
            room.list_due.push(seat.participant_id.clone());
        }
        !std::mem::replace(&mut room.list_watched, true)
    }

    /// Remembers who speaks in a room; gives whether that is new.
    pub fn set_speakers(&mut self, room_id: &Id, speakers: Vec<Id>) -> bool {
        let Some(room) = self.rooms.get_mut(room_id) else { return false };
        let is_new = room.speakers != speakers;
        room.speakers = speakers;
        is_new
    }

    /// The list that is due, if one is; without one, nobody watches any more. Who alone changed
    /// something is told nothing: what he receives is as before.
    pub fn take_list(&mut self, room_id: &Id) -> Option<DueList> {
        let room = self.rooms.get_mut(room_id)?;
        let changed = std::mem::take(&mut room.list_due);
        if changed.is_empty() {
            room.list_watched = false;
            return None;
        }
        let but = if let [one] = &changed[..] { Some(one) } else { None };
        let entries = room.participants.iter().flat_map(|(id, participant)| {
            participant.producers.values().map(|each| (id.clone(), Arc::clone(&each.listed)))
        });
        let entries = entries.collect();
        Some(DueList { viewers: self.sockets_but(room_id, but), entries })
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
                    entry(producer_id, id, producer.kind, producer.paused, &producer.app_data)
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

impl Participant {
    /// Someone who owns nothing and has no socket.
    pub fn away(session: Id) -> Self {
        Self {
            name: String::new(),
            session,
            id_is_chosen: false,
            socket: None,
            sockets_seen: 1,
            capabilities: None,
            transport_capabilities: None,
            transports: BTreeMap::new(),
            producers: BTreeMap::new(),
            consumers: BTreeMap::new(),
        }
    }

    /// An id that its owner chose names him, on whatever machine he sits: he may come back under
    /// it at once. Not so with a token that is not his: that is how two browsers of one person
    /// would oust each other for ever. An id that we made up comes back by its token only.
    fn gives_way_to(&self, who: &Arrival<'_>) -> bool {
        self.id_is_chosen && !(who.shows_token && self.socket.is_some())
    }
}

/// Who wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// Where.
    pub room_id: &'a Id,
    /// The room's router as it was when he began.
    pub router: &'a Arc<RouterSlot>,
    /// His own choice of an id.
    pub participant_id: Option<&'a Id>,
    /// What others shall read.
    pub name: Option<&'a str>,
    /// He shows a resume token, good or not.
    pub shows_token: bool,
    /// The session that the token proves.
    pub session: Option<&'a Id>,
    /// Limit of the room.
    pub participants_max: usize,
}

#[cfg(test)]
mod tests {
    use ironcast_api::Id;

    use super::{Participant, Rooms, Seat};

    fn id(text: &str) -> Id {
        text.parse().unwrap()
    }

    fn seat(participant: &str, session: &str) -> Seat {
        Seat { room_id: id("r"), participant_id: id(participant), session: id(session) }
    }

    #[test]
    fn an_old_timer_does_not_close_a_younger_room() {
        let mut rooms = Rooms::default();
        let first = rooms.make(&id("r"), 10).unwrap();
        assert!(rooms.close_if_empty(&id("r"), first).is_some());
        let second = rooms.make(&id("r"), 10).unwrap();
        assert!(rooms.close_if_empty(&id("r"), first).is_none());
        assert!(rooms.close_if_empty(&id("r"), second).is_some());
    }

    #[test]
    fn a_room_stays_while_somebody_is_about_to_join() {
        let mut rooms = Rooms::default();
        rooms.make(&id("r"), 10).unwrap();
        let router = rooms.begin_join(&id("r")).unwrap();
        rooms.begin_join(&id("r")).unwrap();
        let arrival = rooms.room(&id("r")).unwrap().arrival;
        assert!(rooms.close_if_empty(&id("r"), arrival).is_none());
        assert!(rooms.end_join(&id("r"), &router).is_none());
        assert!(rooms.end_join(&id("r"), &router).is_some());
        assert_eq!(rooms.count(), (0, 0));
    }

    #[test]
    fn nothing_is_remembered_of_who_has_gone() {
        let mut rooms = Rooms::default();
        for leaves in [true, false] {
            rooms.make(&id("r"), 10).unwrap();
            let ada = seat("ada", "ada.1");
            rooms.add_participant(&ada, Participant::away(id("ada.1")));
            for transport in ["t1", "t2"] {
                let direction = crate::events::Direction::Send;
                rooms.add_transport(&ada, direction, &id(transport)).unwrap();
            }
            rooms.add_consumer(&ada, &id("t2"), &id("c"), &id("p")).unwrap();
            // An answer for a transport that was replaced meanwhile, or for another session of his.
            assert!(rooms.add_consumer(&ada, &id("t1"), &id("c2"), &id("p")).is_err());
            let other = seat("ada", "ada.0");
            assert!(rooms.add_consumer(&other, &id("t2"), &id("c2"), &id("p")).is_err());
            if leaves {
                assert!(rooms.leave(&seat("ada", "ada.0")).is_none());
                rooms.leave(&ada).unwrap();
            }
            rooms.close(&id("r"));
            let Rooms { rooms: all, routers, seats, owners, participants, .. } = &rooms;
            assert!(all.is_empty() && routers.is_empty() && seats.is_empty());
            assert!(owners.is_empty(), "{owners:?}");
            assert_eq!(*participants, 0);
        }
    }
}
