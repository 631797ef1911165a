//! Participants, what each of them sends, and who wants to become one. Plain values: `locked`
//! changes them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use ironcast_api::{AppData, Id, MediaKind, RtpCapabilities};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use super::{RouterSlot, Seat};
use crate::events::Direction;
use crate::failure::Failure;
use crate::limits::{Bucket, Turn};

/// Where somebody's socket is, or was last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// At this node: what he has is written here alone.
    Here,
    /// At another one: a copy of what it says.
    There {
        /// Which; empty if none is known.
        node: String,
        /// His socket is open there.
        connected: bool,
        /// Since when he is missing among the room's records.
        missing_since: Option<Instant>,
    },
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
    /// He can talk directly to another browser.
    pub p2p: bool,
    /// The router that has his media, if it is not the room's own: a branch, or one that is lost.
    pub branch: Option<Arc<RouterSlot>>,
    /// How much he may write yet.
    pub chat: Option<Bucket>,
    /// The turn of his requests over HTTP.
    pub turn: Turn,
    /// Whoever pauses or resumes a track of his holds it, from the question to the media server until
    /// the answer is taken down: what was done last there holds here.
    pub pausing: Arc<tokio::sync::Mutex<()>>,
    /// Whoever makes a track of his holds it, until that is there or freed.
    pub producing: Arc<tokio::sync::Mutex<()>>,
    /// Where he is.
    pub place: Place,
    /// Counts the changes that other nodes are told.
    pub version: u64,
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
            p2p: false,
            branch: None,
            chat: None,
            turn: Turn::default(),
            pausing: Arc::default(),
            producing: Arc::default(),
            place: Place::Here,
            version: 0,
        }
    }

    /// Whether this node has him.
    pub fn is_here(&self) -> bool {
        self.place == Place::Here
    }

    /// Whether only the media server knows him.
    pub fn is_nobodys(&self) -> bool {
        matches!(&self.place, Place::There { node, .. } if node.is_empty())
    }

    /// The track of a media section of his.
    pub fn track_at(&self, kind: MediaKind, mid: Option<&str>) -> Option<&Id> {
        let mid = mid?;
        let is_it = |it: &Producer| it.kind == kind && it.mid.as_deref() == Some(mid);
        self.producers.iter().find(|(_, producer)| is_it(producer)).map(|(id, _)| id)
    }

    /// Whether a transport is still his: it may have been lost, or replaced, while something was made
    /// on it.
    pub(super) fn check_transport(&self, id: &Id) -> Result<(), Failure> {
        let is_his = self.transports.values().any(|own| own == id);
        if is_his { Ok(()) } else { Err(Failure::not_found("transport", id)) }
    }

    fn is_connected(&self) -> bool {
        match self.place {
            Place::Here => self.socket.is_some(),
            Place::There { connected, .. } => connected,
        }
    }

    /// Everything of his that the media server knows.
    pub fn owned(&self) -> impl Iterator<Item = &Id> {
        let tracks = self.producers.keys().chain(self.consumers.keys());
        self.transports.values().chain(tracks)
    }

    /// An id that its owner chose names him, on whatever machine he sits: he may come back under
    /// it at once. Not so with a token that is not his: that is how two browsers of one person
    /// would oust each other for ever. An id that we made up comes back by its token only.
    pub(super) fn gives_way_to(&self, who: &Arrival<'_>) -> bool {
        self.id_is_chosen && !(who.shows_token && self.is_connected())
    }
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
    /// What it carries, where that is known: `video/VP8`.
    pub mime: Option<String>,
    /// Its media section in its owner's browser, where it says so.
    pub mid: Option<String>,
    /// The same as a list shows it, written once for all who read it.
    pub(super) listed: Arc<RawValue>,
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
        Self { kind, paused, unwatched: Vec::new(), app_data, mime: None, mid: None, listed }
    }

    /// Gives whether that is new.
    pub(super) fn set_paused(&mut self, id: &Id, owner: &Id, paused: bool) -> bool {
        if self.paused == paused {
            return false;
        }
        self.paused = paused;
        self.listed = listed(id, owner, self.kind, paused, &self.app_data);
        true
    }

    /// As browsers are told.
    pub(super) fn entry(&self, id: &Id, owner: &Id) -> Value {
        entry(id, owner, self.kind, self.paused, &self.app_data)
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

/// Who wants to join.
#[derive(Debug, Clone, Copy)]
pub struct Arrival<'a> {
    /// His own choice of an id.
    pub participant_id: Option<&'a Id>,
    /// What others shall read.
    pub name: Option<&'a str>,
    /// He shows a resume token, good or not.
    pub shows_token: bool,
    /// The session that the token proves.
    pub session: Option<&'a Id>,
    /// He can talk directly to another browser.
    pub p2p: bool,
    /// Limit of the room.
    pub participants_max: usize,
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

/// What a participant left behind: to be told to others and freed at the media server.
#[derive(Debug)]
pub struct Departed {
    /// Where he sat.
    pub seat: Seat,
    /// The router that had his media.
    pub router: Arc<RouterSlot>,
    /// What he sent.
    pub producer_ids: Vec<Id>,
    /// His socket, if he still had one.
    pub socket: Option<Sid>,
    /// Set when nobody of the room is here any more: its `arrival`.
    pub room_empty: Option<u64>,
    /// Where he was.
    pub place: Place,
    /// Newer than all that was told of him.
    pub version: u64,
}

/// A list that a room's sockets have to be told.
#[derive(Debug)]
pub struct DueList {
    /// Who is told.
    pub viewers: Vec<(Id, Sid)>,
    /// All tracks with their owners.
    pub entries: Vec<(Id, Arc<RawValue>)>,
}
