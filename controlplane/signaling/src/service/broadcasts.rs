//! What browsers ask of broadcasts, and what broadcasts ask of rooms: who is there and what he sends,
//! at one moment. What a broadcast does is in `crate::broadcast`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use ironcast_api::{AppData, Id, MediaKind};
use serde_json::{Map, Value, json};
use socketioxide::socket::Sid;

use super::{Aside, Service, raw};
use crate::broadcast::director::direct;
use crate::broadcast::{self, Show};
use crate::failure::Failure;
use crate::payload::{StartBroadcast, StopBroadcast, parse};
use crate::rooms::{Locked, RouterSlot};
use crate::store::hub::Shown;
use crate::store::now_ms;

/// The key of the note on a broadcast's transport.
const NOTE_BROADCAST: &str = "broadcast";

/// Between two looks for what is too old to be kept.
const EXPIRE_AGAIN: Duration = Duration::from_secs(3_600);

/// A track that a broadcast may show.
#[derive(Debug, Clone)]
pub(crate) struct SceneTrack {
    pub(crate) producer: Id,
    pub(crate) participant: Id,
    pub(crate) is_video: bool,
    pub(crate) is_screen: bool,
    pub(crate) is_paused: bool,
    /// Its codec, where its maker said it.
    pub(crate) mime: Option<String>,
}

/// A room at one moment.
#[derive(Debug, Clone)]
pub(crate) struct RoomScene {
    /// None while people talk directly.
    pub(crate) router: Option<Arc<RouterSlot>>,
    pub(crate) people: BTreeMap<Id, String>,
    pub(crate) tracks: Vec<SceneTrack>,
    pub(crate) speakers: Vec<Id>,
}

impl Service {
    pub(super) async fn start_broadcast(
        self: &Arc<Self>,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: StartBroadcast = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        seat.room.lock().participant(&seat)?;
        if self.broadcasts.settings.at_once_max == 0 {
            return Err(Failure::new("unsupported", "this server makes no broadcasts"));
        }
        let program = self.broadcasts.program().map_err(|trouble| {
            tracing::warn!(%trouble, "no broadcast");
            let told = trouble.to_json();
            Failure::new(trouble.code(), told["message"].as_str().unwrap_or_default())
        })?;
        let (kind, room_id) = (wanted.kind, seat.room.id.clone());
        let show = broadcast::show(room_id, kind, wanted.layout, wanted.format, now_ms());
        let show = self.broadcasts.add(show)?;
        let by = Map::from_iter([("by".to_owned(), json!(seat.participant_id))]);
        let mut place = Place { service: self, show: Some(&*show) };
        self.begin_show(&show, by.clone()).await?;
        place.show = None;
        self.metrics.count_broadcast_start(kind.name());
        self.tell_broadcast_here(&show, &by);
        tokio::spawn(direct(Arc::clone(self), Arc::clone(&show), program));
        Ok(show.to_json())
    }

    pub(super) async fn stop_broadcast(
        &self,
        socket: Sid,
        payload: Value,
    ) -> Result<Value, Failure> {
        let wanted: StopBroadcast = parse(payload)?;
        let seat = self.rooms.seat(socket)?;
        let elsewhere = {
            let room = seat.room.lock();
            room.participant(&seat)?;
            room.shows.one(wanted.kind).cloned()
        };
        let stopped = |id: String| json!({ "stopped": true, "broadcastId": id });
        if let Some(show) = self.broadcasts.one(&seat.room.id, wanted.kind) {
            show.stop();
            return Ok(stopped(show.id.to_string()));
        }
        let Some(shown) = elsewhere else {
            let message = format!("there is no {} of this room", wanted.kind.name());
            return Err(Failure::new("not_found", message));
        };
        self.stop_show(&seat.room.id, &shown).await?;
        Ok(stopped(shown.broadcast_id))
    }

    pub(super) fn list_recordings(&self, socket: Sid) -> Result<Aside, Failure> {
        let room_id = self.rooms.seat(socket)?.room.id.clone();
        let shelf = self.broadcasts.shelf.clone();
        let reading = async move {
            let listed = tokio::task::spawn_blocking(move || shelf.recordings(&room_id)).await;
            Ok(json!({ "recordings": listed.unwrap_or_default() }))
        };
        Ok(reading.boxed())
    }

    /// Those that run in a room, as browsers are told.
    pub(super) fn broadcasts_of(&self, room: &Locked<'_>) -> Value {
        let here = self.broadcasts.of_room(&room.cell().id);
        let elsewhere = room.shows.running().map(|shown| Value::Object(shown.told.clone()));
        here.iter().map(|show| show.to_json()).chain(elsewhere).collect()
    }

    /// To everybody in its room, wherever they are.
    pub(crate) fn tell_broadcast(&self, show: &Show, more: Value) {
        let Value::Object(more) = more else { return };
        self.tell_broadcast_here(show, &more);
        if let Some(fleet) = &self.fleet {
            fleet.note_show(show, more);
        }
    }

    fn tell_broadcast_here(&self, show: &Show, more: &Map<String, Value>) {
        let mut payload = show.to_json();
        if let Some(payload) = payload.as_object_mut() {
            payload.extend(more.clone());
        }
        let Some(cell) = self.rooms.room(&show.room_id) else { return };
        let payload = raw(&payload);
        for (_, socket) in cell.lock().sockets_but(None) {
            self.outbox.emit(socket, "broadcast-changed", &payload);
        }
    }

    /// The room of a broadcast, if it is there. It stays with the media server from now on.
    pub(crate) fn scene(self: &Arc<Self>, room_id: &Id) -> Option<RoomScene> {
        let cell = self.rooms.room(room_id)?;
        let mut room = cell.lock();
        if !std::mem::replace(&mut room.is_broadcast, true) {
            self.look_at_ways(&mut room);
        }
        Some(scene(&room))
    }

    /// Nothing of it is left.
    pub(crate) fn broadcast_is_over(self: &Arc<Self>, show: &Show) {
        self.broadcasts.remove(show);
        if let Some(cell) = self.rooms.room(&show.room_id)
            && self.broadcasts.of_room(&show.room_id).is_empty()
        {
            let mut room = cell.lock();
            room.is_broadcast = false;
            self.look_at_ways(&mut room);
        }
    }

    /// Whose a producer is.
    pub(crate) fn owner_of(&self, producer: &Id) -> Option<Id> {
        self.rooms.owner(producer).map(|seat| seat.participant_id)
    }

    /// Noted on its transport, so that the next start knows whose it was.
    pub(crate) fn broadcast_note(show: &Show) -> AppData {
        let entry = (NOTE_BROADCAST.to_owned(), json!(show.id.to_string()));
        AppData::new([entry].into_iter().collect::<Map<_, _>>()).unwrap_or_default()
    }

    /// Whether a transport was made for a broadcast of another node.
    pub(super) fn is_of_show(app_data: &Value, shown: &Shown) -> bool {
        app_data[NOTE_BROADCAST] == json!(shown.broadcast_id)
    }

    /// Whether a transport was made for a broadcast that is over.
    pub(crate) fn is_of_no_broadcast(&self, transport: &str, app_data: &Value) -> bool {
        // Another node may have it: then it ends with the room's router.
        !self.is_fleet()
            && app_data[NOTE_BROADCAST].is_string()
            && !self.broadcasts.has_transport(transport)
    }

    /// Puts right what an earlier start left on the disk, and deletes what is old, now and then.
    pub fn tend_broadcasts(self: &Arc<Self>) {
        if self.broadcasts.settings.at_once_max == 0 {
            return;
        }
        // Before anybody can start one.
        self.broadcasts.shelf.tidy();
        let (shelf, kept) = (self.broadcasts.shelf.clone(), self.broadcasts.settings.kept);
        tokio::spawn(async move {
            loop {
                let shelf = shelf.clone();
                let _ = tokio::task::spawn_blocking(move || shelf.expire(kept)).await;
                tokio::time::sleep(EXPIRE_AGAIN).await;
            }
        });
    }
}

/// One that does not begin after all gives its place away.
struct Place<'a> {
    service: &'a Service,
    show: Option<&'a Show>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(show) = self.show {
            self.service.broadcasts.remove(show);
        }
    }
}

fn scene(room: &Locked<'_>) -> RoomScene {
    let mut tracks = Vec::new();
    for (participant, one) in &room.participants {
        for (producer, track) in &one.producers {
            let source = track.app_data.as_map().get("source").and_then(Value::as_str);
            tracks.push(SceneTrack {
                producer: producer.clone(),
                participant: participant.clone(),
                is_video: track.kind == MediaKind::Video,
                is_screen: source == Some("screen"),
                is_paused: track.paused,
                mime: track.mime.clone(),
            });
        }
    }
    let needs_server = room.ways.needs_server();
    RoomScene {
        router: needs_server.then(|| Arc::clone(room.main_router())),
        people: room.participants.iter().map(|(id, one)| (id.clone(), one.name.clone())).collect(),
        tracks,
        speakers: room.speakers.clone(),
    }
}
