//! Broadcasts of a room at whichever node. The node that makes one writes its record and tells what
//! becomes of it; the others tell their people the same, show it to who comes later, and ask that node to
//! end it. One whose node is gone is over: its record is taken away, and what the media server still
//! sends for it is freed.

use std::sync::Arc;
use std::time::Instant;

use ironcast_api::Id;
use serde_json::{Map, Value, json};

use super::{Fleet, next_version};
use crate::broadcast::{Phase, Show};
use crate::failure::Failure;
use crate::rooms::{Cell, Locked, Room};
use crate::service::{Service, Thing, raw};
use crate::store::hub::{News, Shown, View, Write};

/// What is said of one whose node does not say it.
fn last_words(phase: Phase) -> Map<String, Value> {
    if phase != Phase::Failed {
        return Map::new();
    }
    let message = "the server that made it is gone";
    object(json!({ "error": { "code": "broadcast_failed", "message": message } }))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

impl Fleet {
    fn shown(&self, show: &Show, is_over: bool) -> Shown {
        let version = {
            let mut last = self.last_show.lock().expect("nobody panics with it");
            *last = next_version(*last);
            *last
        };
        Shown {
            node: self.hub.node.clone(),
            broadcast_id: show.id.to_string(),
            kind: show.kind,
            version,
            told: object(show.to_json()),
            is_over,
        }
    }

    /// To the other nodes, what the people of this one are told of a broadcast of this node.
    pub(in crate::service) fn note_show(&self, show: &Show, more: Map<String, Value>) {
        let shown = self.shown(show, show.is_over());
        let told = self.hub.told(News::Broadcast { show: shown.clone(), more });
        self.say(Write::Show(show.room_id.clone(), Box::new(shown), Box::new(told)));
    }
}

impl Service {
    /// One may begin here if there is none of its kind at another node.
    pub(in crate::service) async fn begin_show(
        &self,
        show: &Show,
        more: Map<String, Value>,
    ) -> Result<(), Failure> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        let shown = fleet.shown(show, false);
        let told = fleet.hub.told(News::Broadcast { show: shown.clone(), more });
        let mut gone = fleet.nodes_gone();
        // Of this node none runs any more, whatever is still written.
        gone.push(fleet.hub.node.clone());
        if fleet.hub.begin_show(&show.room_id, &shown, &told, &gone).await? {
            return Ok(());
        }
        Err(Failure::new("already_exists", "this room has one already; stop it first"))
    }

    /// Asks the node that makes it to end one.
    pub(in crate::service) async fn stop_show(
        &self,
        room_id: &Id,
        shown: &Shown,
    ) -> Result<(), Failure> {
        let Some(fleet) = &self.fleet else { return Ok(()) };
        if fleet.hub.stop_show(room_id, shown).await? {
            return Ok(());
        }
        let message = format!("there is no {} of this room", shown.kind.name());
        Err(Failure::new("not_found", message))
    }

    /// Somebody at another node ends one.
    pub(super) fn hear_stop(&self, room_id: &Id, broadcast_id: &str) {
        for show in self.broadcasts.of_room(room_id) {
            if show.id.to_string() == broadcast_id {
                show.stop();
            }
        }
    }

    /// What a node tells of a broadcast: of its own, or of one whose node is gone.
    pub(super) fn hear_show(
        self: &Arc<Self>,
        fleet: &Fleet,
        cell: &Arc<Cell>,
        told_by: &str,
        shown: &Shown,
        more: Map<String, Value>,
    ) {
        // Taken for gone, which we are not: the next look writes it again.
        if shown.node == fleet.hub.node {
            return;
        }
        let mut room = cell.lock();
        let is_new = if shown.is_over {
            room.shows.end(shown, told_by == shown.node)
        } else {
            room.shows.take(shown, !more.is_empty())
        };
        if is_new {
            self.tell_shown(&room, shown, more);
            self.look_at_ways(&mut room);
        }
    }

    /// To everybody of this node in a room.
    fn tell_shown(&self, room: &Room, shown: &Shown, more: Map<String, Value>) {
        let mut payload = shown.told.clone();
        payload.extend(more);
        let payload = raw(&Value::Object(payload));
        for (_, socket) in room.sockets_but(None) {
            self.outbox.emit(socket, "broadcast-changed", &payload);
        }
    }

    /// Compares what is known of a room's broadcasts with what is written, as it was asked for.
    pub(super) fn look_at_shows(
        self: &Arc<Self>,
        fleet: &Fleet,
        room: &mut Locked<'_>,
        view: &View,
        asked: Instant,
    ) {
        let own = self.broadcasts.of_room(&room.cell().id);
        for id in &view.stops {
            self.hear_stop(&room.cell().id, id);
        }
        for shown in &view.shows {
            if shown.node == fleet.hub.node {
                let runs = own.iter().any(|show| show.id.to_string() == shown.broadcast_id);
                // Its end was not written, and is not about to be.
                if !runs && fleet.has_written_all() {
                    self.take_show_away(room, shown.clone(), Phase::Failed);
                }
            } else if fleet.gone_for(&shown.node).is_some() {
                self.take_show_away(room, shown.clone(), Phase::Failed);
            } else if room.shows.take(shown, false) {
                self.tell_shown(room, shown, Map::new());
            }
        }
        for show in own.iter().filter(|show| !show.is_over()) {
            let id = show.id.to_string();
            match view.shows.iter().find(|shown| shown.kind == show.kind) {
                Some(shown) if shown.broadcast_id == id => {}
                // Lost with Redis, or taken for gone.
                None => fleet.note_show(show, Map::new()),
                // Meanwhile there is another one, of a node that is there.
                Some(shown) if fleet.gone_for(&shown.node).is_none() => show.stop(),
                Some(_) => {}
            }
        }
        self.miss_shows(fleet, room, view, asked);
        self.look_at_ways(room);
    }

    /// Those of which nothing is written, for a while, and those of nodes that are gone.
    fn miss_shows(
        self: &Arc<Self>,
        fleet: &Fleet,
        room: &mut Locked<'_>,
        view: &View,
        asked: Instant,
    ) {
        let is_settled = fleet.is_settled();
        let mut missed = Vec::new();
        for one in room.shows.all_mut() {
            let id = &one.shown.broadcast_id;
            if view.shows.iter().any(|shown| shown.broadcast_id == *id) || !is_settled {
                one.missing_since = None;
                continue;
            }
            let since = *one.missing_since.get_or_insert(asked);
            if fleet.gone_for(&one.shown.node).is_some() {
                missed.push((one.shown.clone(), Phase::Failed));
            } else if since.elapsed() >= fleet.times.node {
                // Its node is there, and has taken its record away.
                missed.push((one.shown.clone(), Phase::Ended));
            }
        }
        for (shown, phase) in missed {
            self.take_show_away(room, shown, phase);
        }
    }

    /// It is over, and its node does not say so. Told here at once; to the others by who takes its
    /// record away.
    fn take_show_away(self: &Arc<Self>, room: &mut Locked<'_>, shown: Shown, phase: Phase) {
        let mut told = shown.told.clone();
        told.insert("state".to_owned(), json!(phase));
        let over = Shown { told, is_over: true, version: next_version(shown.version), ..shown };
        if room.shows.end(&over, false) {
            self.tell_shown(room, &over, last_words(phase));
        }
        let (service, cell) = (Arc::clone(self), Arc::clone(room.cell()));
        tokio::spawn(async move {
            let Some(fleet) = &service.fleet else { return };
            let more = last_words(phase);
            let told = fleet.hub.told(News::Broadcast { show: over.clone(), more });
            // If Redis is away the next look does it.
            if fleet.hub.end_show(&cell.id, &over, &told).await == Ok(true) {
                service.free_show(&cell, &over).await;
            }
        });
    }

    /// What the media server still sends for it.
    async fn free_show(self: &Arc<Self>, cell: &Arc<Cell>, shown: &Shown) {
        let routers: Vec<_> = cell.lock().routers().cloned().collect();
        for router in routers {
            let view = self.ask(router.host, |media| media.router(router.id.clone())).await;
            // Without an answer it ends with the router.
            let transports = view.map(|view| view.transports).unwrap_or_default();
            let its_own = transports.iter().filter(|it| Self::is_of_show(&it.app_data, shown));
            for id in its_own.filter_map(|it| Id::new(it.id.clone()).ok()) {
                self.free(router.host, Thing::Transport, id);
            }
        }
    }
}
