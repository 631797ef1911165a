//! The media hosts' event streams, told on to browsers, and the comparison of both sides after a
//! stream broke. One task for each host; it lives as long as the service.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use ironcast_api::Id;
use serde_json::{Value, json};

use crate::hosts::HostId;
use crate::media::{MediaEvent, MediaResult, RouterView, Snapshot};
use crate::rooms::{Cell, Participant, RouterSlot};
use crate::service::{Service, Thing};

/// First wait before the stream is opened again; it doubles.
const REOPEN_FIRST: Duration = Duration::from_millis(100);

/// Longest wait before the stream is opened again.
const REOPEN_LONGEST: Duration = Duration::from_secs(1);

/// Shortest time between two comparisons because something could not be freed.
const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// Longest time between two comparisons because something could not be freed: each one costs the
/// media server a look at everything, and what is left over can wait.
const COMPARE_AGAIN_LONGEST: Duration = Duration::from_secs(60);

/// Follows the event streams for ever, and keeps an eye on each host's readiness.
pub async fn follow(service: Arc<Service>) {
    let service = &service;
    let follow_one = |host| async move {
        tokio::join!(follow_events(service, host), watch(service, host));
    };
    join_all(service.hosts().ids().map(follow_one)).await;
}

/// The stream resumes by itself while it can. When it ends, events were lost: all is compared,
/// and the stream goes on from there.
async fn follow_events(service: &Arc<Service>, host: HostId) {
    let about = service.host(host);
    let mut wait = REOPEN_FIRST;
    let mut said = String::new();
    loop {
        let reason = match compare(service, host).await {
            Ok(seq) => {
                wait = REOPEN_FIRST;
                about.set_connected(true);
                said.clear();
                tracing::info!(host = %about, seq, "in step with the media server");
                read(service, host, seq).await
            }
            Err(error) => error.to_string(),
        };
        about.set_connected(false);
        if reason != said {
            tracing::warn!(host = %about, reason, "no events from the media server; trying until there are");
            said = reason;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(REOPEN_LONGEST);
    }
}

/// Reads until the stream ends; gives the reason.
async fn read(service: &Arc<Service>, host: HostId, after: String) -> String {
    let mut events = service.media(host).events(after);
    loop {
        match events.next().await {
            Some(Ok(numbered)) => service.apply(host, numbered.event),
            Some(Err(error)) => return error.to_string(),
            None => return "the stream ended".to_owned(),
        }
    }
}

async fn watch(service: &Arc<Service>, host: HostId) {
    let about = service.host(host);
    let (mut pause, mut compared) = (COMPARE_AGAIN, Instant::now());
    let mut is_first = true;
    loop {
        if !std::mem::take(&mut is_first) {
            about.until_due().await;
        }
        let is_ready = service.check_health(host).await;
        if !is_ready || compared.elapsed() < pause {
            continue;
        }
        if !about.take_out_of_step() {
            pause = COMPARE_AGAIN;
            continue;
        }
        if compare(service, host).await.is_err() {
            about.set_out_of_step();
        }
        pause = (pause * 2).min(COMPARE_AGAIN_LONGEST);
        compared = Instant::now();
    }
}

/// Compares what we believe with what is there, and puts it right on both sides. What we knew
/// before the snapshot and is not in it is gone; what is in it and nobody's is freed.
async fn compare(service: &Arc<Service>, host: HostId) -> MediaResult<String> {
    let known = service.known(host);
    let snapshot = service.media(host).snapshot().await?;
    service.set_draining(host, snapshot.draining);
    let is_first = !service.host(host).is_in_step();
    service.take_over(host, &snapshot);
    service.settle(host, known, &snapshot);
    if is_first {
        // Now rooms can be placed there.
        service.look_at_rooms_without(None);
    }
    Ok(snapshot.seq)
}

/// Everything that we believed to exist at one moment.
struct Known {
    routers: Vec<Id>,
    transports: Vec<Id>,
    producers: Vec<Id>,
    consumers: Vec<Id>,
}

impl Service {
    /// One event of the media server.
    pub fn apply(self: &Arc<Self>, host: HostId, event: MediaEvent) {
        match event {
            MediaEvent::RoutersDied { router_ids, reason } => {
                for router_id in router_ids {
                    let Ok(router_id) = Id::new(router_id) else { continue };
                    if let Some(room) = self.rooms().room_of_router(&router_id) {
                        tracing::warn!(router = %router_id, reason, "a router died");
                        self.router_died(&room, &router_id);
                    }
                }
            }
            MediaEvent::TransportClosed { transport_id, reason } => {
                self.transport_closed(&transport_id, &reason);
            }
            MediaEvent::ConnectionFailed { transport_id, reason } => {
                self.connection_failed(&transport_id, &reason);
            }
            MediaEvent::ProducerClosed { producer_id } => self.producer_closed(host, &producer_id),
            MediaEvent::LayersUnwatched { producer_id, encodings } => {
                self.layers_unwatched(host, &producer_id, encodings);
            }
            MediaEvent::ConsumerClosed { consumer_id, reason } => {
                self.consumer_closed(&consumer_id, &reason);
            }
            MediaEvent::LayersChanged { consumer_id, layers, reason } => {
                let payload =
                    json!({ "consumerId": consumer_id, "layers": layers, "reason": reason });
                self.tell_owner(&consumer_id, "consumer-layers-changed", &payload);
            }
            MediaEvent::Score { consumer_id, score } => {
                let payload = json!({ "consumerId": consumer_id, "score": score });
                self.tell_owner(&consumer_id, "consumer-score", &payload);
            }
            MediaEvent::Speakers { router_id, producers } => {
                self.speakers_changed(&router_id, &producers);
            }
            MediaEvent::Draining(draining) => self.set_draining(host, draining),
            MediaEvent::Other => {}
        }
    }

    /// Its owner sends no more than is watched. Not of a copy at another host.
    fn layers_unwatched(&self, host: HostId, id: &str, encodings: Vec<u32>) {
        let Ok(id) = Id::new(id) else { return };
        let Some(seat) = self.rooms().owner(&id) else { return };
        let mut room = seat.room.lock();
        if room.router_at(&seat).host != host {
            return;
        }
        if room.set_unwatched(&seat, &id, &encodings) {
            let payload = json!({ "producerId": id, "encodings": encodings });
            self.tell(&room, &seat, "layers-unwatched", &payload);
        }
    }

    /// Told when it is somebody else: the media server tells it again and again.
    fn speakers_changed(&self, router_id: &str, producers: &[(String, i8)]) {
        let Ok(router_id) = Id::new(router_id) else { return };
        let Some(room) = self.rooms().room_of_router(&router_id) else { return };
        let mut room = room.lock();
        let owner = |(id, volume): &(String, i8)| {
            let seat = room.owner(&Id::new(id.as_str()).ok()?)?;
            Some((seat.participant_id, *volume))
        };
        let speakers = producers.iter().filter_map(owner).collect();
        if room.hear(&router_id, speakers) {
            self.tell_speakers(&room);
        }
    }

    fn tell_owner(&self, id: &str, event: &str, payload: &Value) {
        let Ok(id) = Id::new(id) else { return };
        if let Some(seat) = self.rooms().owner(&id) {
            self.tell(&seat.room.lock(), &seat, event, payload);
        }
    }

    /// Our own deletions were forgotten before they were asked for: one that is still known here
    /// was lost with its peer, or taken away by somebody else. Either way its owner joins again.
    fn transport_closed(self: &Arc<Self>, id: &str, reason: &str) {
        self.broadcasts.transport_closed(id);
        let Ok(id) = Id::new(id) else { return };
        let Some(seat) = self.rooms().owner(&id) else { return };
        let mut room = seat.room.lock();
        let producers = room.remove_transport(&seat, &id);
        self.tell_closed(&mut room, &seat, &producers);
        tracing::info!(router = %room.router_at(&seat).id, transport = %id, reason, "a participant's transport is gone");
        let socket = room.participant(&seat).ok().and_then(|participant| participant.socket);
        drop(room);
        if let Some(socket) = socket {
            self.tell_rejoin(socket, "the connection for media was lost; join again");
        }
    }

    /// Tells the one whose it is, in words: trying again would fail in the same way, as a rule.
    fn connection_failed(&self, id: &str, reason: &str) {
        let Ok(id) = Id::new(id) else { return };
        let Some(seat) = self.rooms().owner(&id) else { return };
        let room = seat.room.lock();
        tracing::warn!(router = %room.router_at(&seat).id, transport = %id, reason, "a participant's DTLS handshake failed");
        let why = match reason {
            "certificate" => "the browser's certificate cannot be used",
            "fingerprint" => "the browser's certificate is not the one that it announced",
            "no_common_cipher" => "browser and server have no encryption in common",
            "no_common_srtp_profile" => "browser and server have no media encryption in common",
            "timeout" => "the browser did not answer in time",
            "refused" => "the browser refused it",
            "protocol" => "what the browser sent was not understood",
            _ => "the server could not do it",
        };
        let payload = json!({
            "code": "connection_failed",
            "message": format!("The encrypted connection for media failed: {why}."),
            "event": null,
            "transportId": id,
            "reason": reason,
        });
        self.tell(&room, &seat, "error", &payload);
    }

    fn producer_closed(self: &Arc<Self>, host: HostId, id: &str) {
        let Ok(id) = Id::new(id) else { return };
        let Some(seat) = self.rooms().owner(&id) else { return };
        let mut room = seat.room.lock();
        if room.router_at(&seat).host != host {
            // A copy of it. Who wants it there again has it piped again.
            let there = room.routers().find(|it| it.host == host).map(|it| it.id.clone());
            if let Some(router_id) = there {
                room.forget_pipe(&id, &router_id);
            }
            return;
        }
        // Of whoever is at another node that one tells.
        let is_here = room.participant(&seat).is_ok_and(Participant::is_here);
        if is_here && room.remove_producer(&seat, &id) {
            self.tell_closed(&mut room, &seat, std::slice::from_ref(&id));
        }
    }

    fn consumer_closed(self: &Arc<Self>, id: &str, reason: &str) {
        let Ok(id) = Id::new(id) else { return };
        let Some(seat) = self.rooms().owner(&id) else { return };
        let mut room = seat.room.lock();
        let Some(producer_id) = room.remove_consumer(&seat, &id) else { return };
        let payload = json!({ "consumerId": id, "producerId": producer_id, "reason": reason });
        self.tell(&room, &seat, "consumer-closed", &payload);
        // Not the track has ended, but its way from the other host: who is told the list asks again.
        let Some(sender) = room.owner(&producer_id) else { return };
        let to = Arc::clone(room.router_at(&seat));
        if reason == "producer_closed" && room.router_at(&sender).id != to.id {
            room.forget_pipe(&producer_id, &to.id);
            self.tell_producers(&mut room, &sender);
        }
    }

    fn known(&self, host: HostId) -> Known {
        let mut known = Known {
            routers: Vec::new(),
            transports: Vec::new(),
            producers: Vec::new(),
            consumers: Vec::new(),
        };
        for room in self.rooms().all() {
            let room = room.lock();
            let routers = room.routers().filter(|router| router.host == host && router.is_made());
            known.routers.extend(routers.map(|router| router.id.clone()));
            let theirs = room.people_here().filter(|(_, one)| room.router_of(one).host == host);
            for (_, participant) in theirs {
                known.transports.extend(participant.transports.values().cloned());
                known.producers.extend(participant.producers.keys().cloned());
                known.consumers.extend(participant.consumers.keys().cloned());
            }
        }
        known
    }

    fn settle(self: &Arc<Self>, host: HostId, known: Known, snapshot: &Snapshot) {
        let transports = || snapshot.routers.iter().flat_map(|router| &router.transports);
        let routers: BTreeSet<&str> = snapshot.routers.iter().map(|each| &*each.id).collect();
        let producers = transports().flat_map(|each| &each.producers).map(|each| &*each.id);
        let producers: BTreeSet<&str> = producers.collect();
        let consumers = transports().flat_map(|each| &each.consumers).map(|each| &*each.id);
        let consumers: BTreeSet<&str> = consumers.collect();
        let transports: BTreeSet<&str> = transports().map(|each| &*each.id).collect();
        let gone = |ids: Vec<Id>, there: &BTreeSet<&str>| -> Vec<String> {
            ids.into_iter().map(String::from).filter(|id| !there.contains(&**id)).collect()
        };
        let reason = "missing in the snapshot".to_owned();
        let router_ids = gone(known.routers, &routers);
        self.apply(host, MediaEvent::RoutersDied { router_ids, reason: reason.clone() });
        for transport_id in gone(known.transports, &transports) {
            self.apply(host, MediaEvent::TransportClosed { transport_id, reason: reason.clone() });
        }
        for producer_id in gone(known.producers, &producers) {
            self.apply(host, MediaEvent::ProducerClosed { producer_id });
        }
        for consumer_id in gone(known.consumers, &consumers) {
            self.apply(host, MediaEvent::ConsumerClosed { consumer_id, reason: reason.clone() });
        }
        let of_transports = snapshot.routers.iter().flat_map(|router| &router.transports);
        for producer in of_transports.flat_map(|each| &each.producers) {
            self.layers_unwatched(host, &producer.id, producer.unwatched.clone());
        }
        for router in snapshot.routers.iter().filter(|router| self.is_ours(router)) {
            self.free_strangers(host, router);
        }
    }

    /// Frees what hangs on one of our routers and belongs to nobody here: left from before a
    /// restart, or from a request whose answer was lost.
    fn free_strangers(self: &Arc<Self>, host: HostId, router: &RouterView) {
        let Ok(router_id) = Id::new(router.id.clone()) else { return };
        let Some(room) = self.rooms().room_of_router(&router_id) else {
            if self.is_fleet() {
                return self.adopt(host, vec![router.clone()]);
            }
            tracing::info!(router = %router_id, "freeing a router that no room uses");
            self.free(host, Thing::Router, router_id);
            return;
        };
        let over = router.transports.iter();
        let over = over.filter(|each| self.is_of_no_broadcast(&each.id, &each.app_data));
        for id in over.filter_map(|each| Id::new(each.id.clone()).ok()) {
            self.free(host, Thing::Transport, id);
        }
        let slot = RouterSlot::empty(router_id, host);
        let (sessions, things) = self.strangers(router, &room);
        for session in sessions {
            if self.is_fleet() {
                self.free_session_unless_known(&room, &slot, session);
                continue;
            }
            self.free_session(&slot, session);
        }
        for (thing, id) in things {
            tracing::info!(router = router.id, ?thing, %id, "freeing what belongs to nobody");
            self.free(host, thing, id);
        }
    }

    fn strangers(&self, router: &RouterView, room: &Arc<Cell>) -> (BTreeSet<Id>, Vec<(Thing, Id)>) {
        let (mut sessions, mut things) = (BTreeSet::new(), Vec::new());
        let room = room.lock();
        let being_made = self.being_made();
        let stranger = |id: &str| {
            let id = Id::new(id).ok()?;
            (self.rooms().owner(&id).is_none() && !being_made.contains(&id)).then_some(id)
        };
        for transport in router.transports.iter().filter(|each| Self::is_noted(&each.app_data)) {
            let session = transport.session.as_deref().and_then(|text| Id::new(text).ok());
            let Some(session) = session else { continue };
            let seat = room.seat_of_session(&session);
            // What is another node's is looked after there.
            let is_there = |seat| !room.participant(&seat).is_ok_and(Participant::is_here);
            if seat.clone().is_some_and(is_there) {
                continue;
            }
            if seat.is_none() {
                if stranger(&transport.id).is_some() {
                    sessions.insert(session);
                }
                continue;
            }
            if let Some(id) = stranger(&transport.id) {
                things.push((Thing::Transport, id));
                continue;
            }
            let producers = transport.producers.iter().filter_map(|each| stranger(&each.id));
            things.extend(producers.map(|id| (Thing::Producer, id)));
            let consumers = transport.consumers.iter().filter_map(|each| stranger(&each.id));
            things.extend(consumers.map(|id| (Thing::Consumer, id)));
        }
        (sessions, things)
    }
}
