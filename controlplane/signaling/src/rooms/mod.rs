//! Rooms, participants and what each of them owns: the state of this process, in memory. Each room
//! is a cell with a lock of its own, so that no room's work waits for another's; handlers never
//! hold it while they wait for anything. What is looked up without a room (a socket, an id of the
//! media server) is in a directory, whose locks are held for one look-up.
//!
//! A cell may be locked first and the directory within it, never the other way round; nobody
//! locks two cells at once.

mod locked;
pub mod mode;
mod people;
mod pipe;
mod room;
mod shows;
#[cfg(test)]
mod tests;

pub use locked::Locked;
pub use people::{Arrival, Departed, DueList, Joined, Participant, Place, Producer};
pub use pipe::{Pipe, PipeState};
pub use room::Room;
pub use shows::Shows;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use ironcast_api::Id;
use serde_json::Value;
use socketioxide::socket::Sid;
use tokio::sync::OnceCell;
use uuid::Uuid;

use crate::failure::Failure;
use crate::hosts::HostId;
use mode::{Mode, Rules, Ways};

/// Longest part of a room's or participant's id that we show in ids at the media server.
const PREFIX_CHARACTERS_MAX: usize = 40;

/// The end of a branch's id: whoever finds one at a host knows it by that.
const BRANCH: &str = ":branch";

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
#[derive(Clone)]
pub struct Seat {
    /// The room.
    pub room: Arc<Cell>,
    /// The participant.
    pub participant_id: Id,
    /// What the media server knows him by.
    pub session: Id,
}

impl Seat {
    /// The media host that has him. Not while the room is locked.
    pub fn host(&self) -> HostId {
        self.room.lock().router_at(self).host
    }
}

impl PartialEq for Seat {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.room, &other.room) && self.session == other.session
    }
}

impl Eq for Seat {}

impl fmt::Debug for Seat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} in {}", self.session, self.room.id)
    }
}

/// One of the room's routers at a media host, made by the first who needs it.
#[derive(Debug)]
pub struct RouterSlot {
    /// Chosen here. A deleted id is not taken again for a while, so that a room that comes back
    /// gets another one.
    pub id: Id,
    /// The media host that it is on.
    pub host: HostId,
    /// Its capabilities, once it is there.
    pub capabilities: OnceCell<Value>,
}

impl RouterSlot {
    /// Another one for a room.
    pub fn new(room_id: &Id, host: HostId) -> Arc<Self> {
        Self::empty(once_only(room_id), host)
    }

    /// The same where the room is too large for another host.
    pub fn branch(room_id: &Id, host: HostId) -> Arc<Self> {
        let id = format!("{}{BRANCH}", once_only(room_id));
        Self::empty(Id::new(id).expect("short, and made of valid characters"), host)
    }

    /// One that may be there already: who needs it asks for it.
    pub fn empty(id: Id, host: HostId) -> Arc<Self> {
        Arc::new(Self { id, host, capabilities: OnceCell::new() })
    }

    /// One that is there already.
    pub fn known(id: Id, host: HostId, capabilities: Value) -> Arc<Self> {
        Arc::new(Self { id, host, capabilities: OnceCell::new_with(Some(capabilities)) })
    }

    /// Whether it was made because its room outgrew another host.
    pub fn is_branch(&self) -> bool {
        self.id.ends_with(BRANCH)
    }

    /// Whether it was made, as far as is known here.
    pub fn is_made(&self) -> bool {
        self.capabilities.initialized()
    }
}

/// A room with its lock.
pub struct Cell {
    /// Its name.
    pub id: Id,
    /// Whose message is kept and told next: the number of the last one that was told here.
    pub chat: tokio::sync::Mutex<Option<u64>>,
    /// Whether this node hears of the room's people at other nodes.
    pub opened: OnceCell<()>,
    /// That was begun: the others may believe that it is served here, whatever became of it.
    pub opening: AtomicBool,
    room: Mutex<Room>,
    directory: Arc<Directory>,
}

impl fmt::Debug for Cell {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "room {}", self.id)
    }
}

impl Cell {
    /// Nobody else changes the room meanwhile.
    pub fn lock(self: &Arc<Self>) -> Locked<'_> {
        Locked::new(self)
    }
}

/// Where everything is.
#[derive(Default)]
struct Directory {
    rooms: Mutex<BTreeMap<Id, Arc<Cell>>>,
    routers: Mutex<HashMap<Id, Arc<Cell>>>,
    seats: Mutex<HashMap<Sid, Seat>>,
    owners: Mutex<HashMap<Id, Seat>>,
    participants: AtomicUsize,
    arrivals: AtomicU64,
}

impl Directory {
    fn rooms(&self) -> MutexGuard<'_, BTreeMap<Id, Arc<Cell>>> {
        self.rooms.lock().expect("nobody panics with it")
    }

    fn routers(&self) -> MutexGuard<'_, HashMap<Id, Arc<Cell>>> {
        self.routers.lock().expect("nobody panics with it")
    }

    fn seats(&self) -> MutexGuard<'_, HashMap<Sid, Seat>> {
        self.seats.lock().expect("nobody panics with it")
    }

    fn owners(&self) -> MutexGuard<'_, HashMap<Id, Seat>> {
        self.owners.lock().expect("nobody panics with it")
    }

    fn next_arrival(&self) -> u64 {
        self.arrivals.fetch_add(1, Ordering::Relaxed) + 1
    }

    fn owner(&self, id: &Id) -> Option<Seat> {
        self.owners().get(id).cloned()
    }

    fn own<'a>(&self, seat: &Seat, ids: impl IntoIterator<Item = &'a Id>) {
        self.owners().extend(ids.into_iter().map(|id| (id.clone(), seat.clone())));
    }

    fn disown<'a>(&self, ids: impl IntoIterator<Item = &'a Id>) {
        let mut owners = self.owners();
        for id in ids {
            owners.remove(id);
        }
    }

    /// Another room may have its name by now.
    fn remove<'a>(&self, cell: &Arc<Cell>, router_ids: impl Iterator<Item = &'a Id>) {
        let mut rooms = self.rooms();
        if rooms.get(&cell.id).is_some_and(|there| Arc::ptr_eq(there, cell)) {
            rooms.remove(&cell.id);
        }
        drop(rooms);
        let mut routers = self.routers();
        router_ids.for_each(|id| drop(routers.remove(id)));
    }
}

/// All rooms.
#[derive(Default)]
pub struct Rooms {
    directory: Arc<Directory>,
    rules: Rules,
}

impl Rooms {
    /// None yet.
    pub fn new(rules: Rules) -> Self {
        Self { directory: Arc::default(), rules }
    }

    /// How many rooms and participants there are.
    pub fn count(&self) -> (usize, usize) {
        (self.directory.rooms().len(), self.directory.participants.load(Ordering::Relaxed))
    }

    /// One room.
    pub fn room(&self, id: &Id) -> Option<Arc<Cell>> {
        self.directory.rooms().get(id).cloned()
    }

    /// All rooms of this moment.
    pub fn all(&self) -> Vec<Arc<Cell>> {
        self.directory.rooms().values().cloned().collect()
    }

    /// All sockets of this moment that sit in a room.
    pub fn sockets(&self) -> Vec<Sid> {
        self.directory.seats().keys().copied().collect()
    }

    /// Makes a room if it is not there and may be made, which says at which host its media will be;
    /// gives it with its `arrival` if it is new.
    pub fn make(
        &self,
        id: &Id,
        rooms_max: usize,
        may: impl FnOnce() -> Result<HostId, Failure>,
    ) -> Result<Option<(Arc<Cell>, u64)>, Failure> {
        if self.room(id).is_some() {
            return Ok(None);
        }
        let host = may()?;
        let mut rooms = self.directory.rooms();
        if rooms.contains_key(id) {
            return Ok(None);
        }
        if rooms.len() >= rooms_max {
            return Err(Failure::no_capacity("this service holds no more rooms"));
        }
        Ok(Some(self.insert_into(&mut rooms, id, RouterSlot::new(id, host))))
    }

    /// Takes over a room whose router is there already; nothing if one of this name is there.
    pub fn insert(&self, id: &Id, router: Arc<RouterSlot>) -> Option<Arc<Cell>> {
        let mut rooms = self.directory.rooms();
        if rooms.contains_key(id) {
            return None;
        }
        let cell = self.insert_into(&mut rooms, id, router).0;
        // Its people are with the media server.
        cell.lock().ways.mode = Mode::Sfu;
        Some(cell)
    }

    fn insert_into(
        &self,
        rooms: &mut BTreeMap<Id, Arc<Cell>>,
        id: &Id,
        router: Arc<RouterSlot>,
    ) -> (Arc<Cell>, u64) {
        let arrival = self.directory.next_arrival();
        let router_id = router.id.clone();
        let cell = Arc::new(Cell {
            id: id.clone(),
            chat: tokio::sync::Mutex::default(),
            opened: OnceCell::new(),
            opening: AtomicBool::new(false),
            room: Mutex::new(Room::new(router, arrival, Ways::new(&self.rules))),
            directory: Arc::clone(&self.directory),
        });
        rooms.insert(id.clone(), Arc::clone(&cell));
        self.directory.routers().insert(router_id, Arc::clone(&cell));
        (cell, arrival)
    }

    /// The room of a router.
    pub fn room_of_router(&self, router_id: &Id) -> Option<Arc<Cell>> {
        self.directory.routers().get(router_id).cloned()
    }

    /// Where a socket sits.
    pub fn seat(&self, socket: Sid) -> Result<Seat, Failure> {
        self.directory.seats().get(&socket).cloned().ok_or_else(Failure::not_in_room)
    }

    /// A socket went away; its participant stays. Gives his seat and his `sockets_seen`.
    pub fn lose_socket(&self, socket: Sid) -> Option<(Seat, u64)> {
        let seat = self.directory.seats().remove(&socket)?;
        let sockets_seen = seat.room.lock().lose_socket(&seat, socket)?;
        Some((seat, sockets_seen))
    }

    /// Who owns a transport, producer or consumer.
    pub fn owner(&self, id: &Id) -> Option<Seat> {
        self.directory.owner(id)
    }
}
