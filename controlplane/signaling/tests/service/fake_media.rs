//! A media server in memory: it keeps what was made, refuses what the real one would refuse, can
//! go away and come back, and reports events when a test says so.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::StreamExt;
use ironcast_api::{AppData, DtlsParameters, Id};
use ironcast_signaling::media::{
    Answer, Bitrates, Consumed, ConsumerView, Events, Load, Made, Media, MediaError, MediaEvent,
    MediaResult, New, NewConsumer, NewPlainTransport, NewProducer, NewTransport, Numbered,
    ProducerView, RouterView, Snapshot, TransportView,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) router: String,
    pub(crate) session: String,
    pub(crate) note: AppData,
    pub(crate) connected: bool,
    pub(crate) capabilities_given: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) transport: String,
    pub(crate) paused: bool,
    /// What a consumer receives.
    pub(crate) producer: String,
    pub(crate) app_data: AppData,
    /// Of a producer.
    mime: String,
    mid: Option<String>,
}

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) routers: BTreeMap<String, Value>,
    pub(crate) transports: BTreeMap<String, Transport>,
    pub(crate) producers: BTreeMap<String, Track>,
    pub(crate) consumers: BTreeMap<String, Track>,
    /// What is piped to another host: the producer, the host, its router and the producer there.
    pub(crate) pipes: Vec<(String, String, String, String)>,
    /// Ids that copies had.
    were_producers: std::collections::BTreeSet<String>,
    /// Where plain transports send to.
    pub(crate) plain_ports: BTreeMap<String, SocketAddr>,
    /// Everything that was asked, in order.
    pub(crate) calls: Vec<String>,
}

#[derive(Clone)]
enum Report {
    Event(u64, MediaEvent),
    ConnectionLost,
}

pub(crate) struct FakeMedia {
    inside: Mutex<Inside>,
    pub(crate) changed: Notify,
    away: AtomicBool,
    /// Does what it is asked for, but its answers are lost.
    mute: AtomicBool,
    /// So many calls are answered by "too many".
    busy: AtomicU64,
    /// What it says that it has to do.
    pub(crate) load: Mutex<Load>,
    /// Takes no new routers.
    full: AtomicBool,
    /// Takes no new transports.
    pub(crate) crowded: AtomicBool,
    /// Is too busy to free producers.
    pub(crate) keeps_producers: AtomicBool,
    /// Pipes to other hosts cannot be made.
    pub(crate) pipes_fail: AtomicBool,
    /// The other hosts, by their addresses.
    peers: Mutex<BTreeMap<String, Weak<Self>>>,
    /// Answers that something is paused wait here while it is held.
    pub(crate) pauses: Arc<tokio::sync::RwLock<()>>,
    /// Calls wait here while it is held.
    pub(crate) gate: Arc<tokio::sync::RwLock<()>>,
    epoch: AtomicU64,
    last_number: AtomicU64,
    reports: broadcast::Sender<Report>,
}

impl FakeMedia {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            inside: Mutex::default(),
            changed: Notify::new(),
            away: AtomicBool::new(false),
            mute: AtomicBool::new(false),
            busy: AtomicU64::new(0),
            load: Mutex::default(),
            full: AtomicBool::new(false),
            crowded: AtomicBool::new(false),
            keeps_producers: AtomicBool::new(false),
            pipes_fail: AtomicBool::new(false),
            peers: Mutex::default(),
            pauses: Arc::default(),
            gate: Arc::default(),
            epoch: AtomicU64::new(1),
            last_number: AtomicU64::new(0),
            reports: broadcast::channel(256).0,
        })
    }

    pub(crate) fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap()
    }

    /// Waits until the inside looks as wanted.
    pub(crate) async fn until(&self, what: &str, wanted: impl Fn(&Inside) -> bool) {
        let waiting = async {
            loop {
                let changed = self.changed.notified();
                if wanted(&self.inside()) {
                    return;
                }
                changed.await;
            }
        };
        if tokio::time::timeout(std::time::Duration::from_secs(10), waiting).await.is_err() {
            panic!("never happened: {what}; inside: {:#?}", self.inside());
        }
    }

    pub(crate) fn report(&self, event: MediaEvent) {
        let number = self.last_number.fetch_add(1, Ordering::SeqCst) + 1;
        let _ = self.reports.send(Report::Event(number, event));
    }

    /// Does not answer any more; the event stream ends.
    pub(crate) fn go_away(&self) {
        self.away.store(true, Ordering::SeqCst);
        let _ = self.reports.send(Report::ConnectionLost);
    }

    /// Answers again; events are numbered anew, as after a restart.
    pub(crate) fn come_back(&self) {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        self.last_number.store(0, Ordering::SeqCst);
        self.away.store(false, Ordering::SeqCst);
    }

    /// Takes no new routers any more, or does again.
    pub(crate) fn be_full(&self, full: bool) {
        self.full.store(full, Ordering::SeqCst);
    }

    /// Another host, and its address.
    pub(crate) fn meet(&self, url: &str, peer: &Arc<Self>) {
        self.peers.lock().unwrap().insert(url.to_owned(), Arc::downgrade(peer));
    }

    fn peer(&self, url: &str) -> Option<Arc<Self>> {
        self.peers.lock().unwrap().get(url).and_then(Weak::upgrade)
    }

    /// How often this was asked for.
    pub(crate) fn times(&self, call: &str) -> usize {
        self.inside().calls.iter().filter(|one| one.starts_with(call)).count()
    }

    /// Ends the copies of what has ended, as the hosts do by themselves.
    fn end_pipes(&self) {
        let over: Vec<_> = {
            let mut inside = self.inside();
            let Inside { pipes, producers, .. } = &mut *inside;
            let (kept, over) = std::mem::take(pipes)
                .into_iter()
                .partition(|(id, ..): &(String, _, _, _)| producers.contains_key(id));
            *pipes = kept;
            over
        };
        for (_, url, _, copy) in over {
            let Some(peer) = self.peer(&url) else { continue };
            let ended: Vec<String> = {
                let mut inside = peer.inside();
                if inside.producers.remove(&copy).is_none() {
                    continue;
                }
                let its = inside.consumers.iter().filter(|(_, it)| it.producer == copy);
                let its: Vec<String> = its.map(|(id, _)| id.clone()).collect();
                inside.consumers.retain(|id, _| !its.contains(id));
                its
            };
            let reason = "producer_closed".to_owned();
            for consumer_id in ended {
                peer.report(MediaEvent::ConsumerClosed { consumer_id, reason: reason.clone() });
            }
            peer.report(MediaEvent::ProducerClosed { producer_id: copy });
            peer.changed.notify_waiters();
        }
    }

    /// From now on answers are lost, or no longer.
    pub(crate) fn lose_answers(&self, lose: bool) {
        self.mute.store(lose, Ordering::SeqCst);
    }

    /// The next calls are too many.
    pub(crate) fn be_busy(&self, calls: u64) {
        self.busy.store(calls, Ordering::SeqCst);
    }

    fn is_busy(&self) -> bool {
        let less = |left: u64| left.checked_sub(1);
        self.busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok()
    }

    fn seq(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch.load(Ordering::SeqCst))
    }

    fn answer<T: Send + 'static>(
        &self,
        call: String,
        run: impl FnOnce(&mut Inside) -> MediaResult<T> + Send,
    ) -> BoxFuture<'static, MediaResult<T>> {
        let result = if self.away.load(Ordering::SeqCst) {
            self.inside().calls.push("in vain".to_owned());
            Err(MediaError::Unavailable("away".to_owned()))
        } else if self.is_busy() {
            self.inside().calls.push("too many".to_owned());
            Err(MediaError::Busy { retry_after: std::time::Duration::from_millis(20) })
        } else {
            let mut inside = self.inside();
            inside.calls.push(call);
            run(&mut inside)
        };
        self.end_pipes();
        self.changed.notify_waiters();
        let is_lost = self.mute.load(Ordering::SeqCst);
        let gate = Arc::clone(&self.gate);
        async move {
            drop(gate.read().await);
            if is_lost { Err(MediaError::Unavailable("lost".to_owned())) } else { result }
        }
        .boxed()
    }
}

impl FakeMedia {
    fn create_transport(&self, new: NewTransport) -> Answer<'static, Made> {
        let is_crowded = self.crowded.load(Ordering::SeqCst);
        self.answer(format!("create transport for {}", new.session), |inside| {
            if is_crowded {
                return refused("no_capacity");
            }
            known(&mut inside.routers, &new.router_id)?;
            let transport = Transport {
                router: new.router_id.to_string(),
                session: new.session.to_string(),
                note: new.note,
                connected: false,
                capabilities_given: new.rtp_capabilities.is_some(),
            };
            inside.transports.insert(new.id.to_string(), transport);
            Ok(Made::Transport(json!({
                "id": new.id,
                "iceParameters": { "usernameFragment": "u", "password": "p", "iceLite": true },
                "iceCandidates": [],
                "dtlsParameters": { "role": "auto", "fingerprints": [] },
            })))
        })
    }

    fn consume(&self, new: NewConsumer) -> Answer<'static, Made> {
        self.answer(
            format!(
                "consume {}{}",
                new.producer_id,
                if new.rtp_capabilities.is_some() { " for others" } else { "" }
            ),
            |inside| {
                let on = known(&mut inside.transports, &new.transport_id)?;
                let (given, is_plain) = (on.capabilities_given, on.session.is_empty());
                if !given && new.rtp_capabilities.is_none() {
                    return refused("invalid_request");
                }
                let ssrc = inside.calls.len();
                let of = known(&mut inside.producers, &new.producer_id)?;
                let producer_paused = of.paused;
                let mut rtp_parameters = json!({ "mid": "0", "codecs": [], "encodings": [] });
                if is_plain {
                    rtp_parameters["codecs"] = json!([{ "mimeType": of.mime }]);
                    rtp_parameters["encodings"] = json!([{ "ssrc": ssrc }]);
                }
                let transport = new.transport_id.to_string();
                let producer = new.producer_id.to_string();
                let app_data = AppData::default();
                let mime = String::new();
                let mid = None;
                let track = Track { transport, paused: true, producer, app_data, mime, mid };
                inside.consumers.insert(new.id.to_string(), track);
                Ok(Made::Consumer(Consumed {
                    kind: ironcast_api::MediaKind::Video,
                    rtp_parameters,
                    kind_of_stream: json!("simulcast"),
                    producer_paused,
                    score: json!({ "score": 10, "producerScore": 0, "producerScores": [0] }),
                }))
            },
        )
    }
}

fn refused<T>(code: &str) -> MediaResult<T> {
    Err(MediaError::Refused { code: code.to_owned(), message: format!("{code} by the fake") })
}

fn known<'a, T>(map: &'a mut BTreeMap<String, T>, id: &Id) -> MediaResult<&'a mut T> {
    map.get_mut(id.as_str()).map_or_else(|| refused("not_found"), Ok)
}

fn drop_transports(inside: &mut Inside, gone: impl Fn(&str, &Transport) -> bool) {
    inside.transports.retain(|id, transport| !gone(id, transport));
    inside.plain_ports.retain(|id, _| inside.transports.contains_key(id));
    let Inside { transports, producers, consumers, .. } = inside;
    producers.retain(|_, track| transports.contains_key(&track.transport));
    consumers.retain(|_, track| transports.contains_key(&track.transport));
}

impl Media for FakeMedia {
    fn create_router(&self, id: Id, app_data: AppData) -> Answer<'_, Value> {
        let is_full = self.full.load(Ordering::SeqCst);
        self.answer(format!("create router {id}"), |inside| {
            if is_full && !inside.routers.contains_key(id.as_str()) {
                return refused("no_capacity");
            }
            inside.routers.insert(id.to_string(), json!(app_data));
            Ok(json!({ "codecs": [], "headerExtensions": [] }))
        })
    }

    fn delete_router(&self, id: Id) -> Answer<'_, ()> {
        self.answer(format!("delete router {id}"), |inside| {
            inside.routers.remove(id.as_str());
            drop_transports(inside, |_, transport| transport.router == *id);
            Ok(())
        })
    }

    fn make_all(&self, new: Vec<New>) -> BoxFuture<'_, Vec<MediaResult<Made>>> {
        let transports = new.iter().filter(|each| matches!(each, New::Transport(_))).count();
        let consumers = new.len() - transports;
        let call = format!("make {transports} transports and {consumers} consumers at once");
        self.inside().calls.push(call);
        let each = |new| match new {
            New::Transport(new) => self.create_transport(new),
            New::Consumer(new) => self.consume(new),
        };
        join_all(new.into_iter().map(each)).boxed()
    }

    fn create_plain_transport(&self, new: NewPlainTransport) -> Answer<'_, SocketAddr> {
        self.answer("create plain transport".to_owned(), |inside| {
            known(&mut inside.routers, &new.router_id)?;
            let transport = Transport {
                router: new.router_id.to_string(),
                session: String::new(),
                note: new.note,
                connected: false,
                capabilities_given: false,
            };
            inside.transports.insert(new.id.to_string(), transport);
            Ok(([127, 0, 0, 1], 9).into())
        })
    }

    fn connect_plain_transport(&self, id: Id, to: SocketAddr) -> Answer<'_, ()> {
        self.answer("connect plain transport".to_owned(), move |inside| {
            known(&mut inside.transports, &id)?.connected = true;
            inside.plain_ports.insert(id.to_string(), to);
            Ok(())
        })
    }

    fn connect_transport(&self, id: Id, _: DtlsParameters) -> Answer<'_, ()> {
        self.answer(format!("connect {id}"), |inside| {
            known(&mut inside.transports, &id)?.connected = true;
            Ok(())
        })
    }

    fn restart_ice(&self, id: Id) -> Answer<'_, Value> {
        self.answer(format!("restart ice of {id}"), |inside| {
            known(&mut inside.transports, &id)?;
            Ok(json!({ "usernameFragment": "u2", "password": "p2", "iceLite": true }))
        })
    }

    fn delete_transport(&self, id: Id) -> Answer<'_, ()> {
        self.answer(format!("delete transport {id}"), |inside| {
            drop_transports(inside, |other, _| other == id.as_str());
            Ok(())
        })
    }

    fn produce(&self, new: NewProducer) -> Answer<'_, ()> {
        self.answer(format!("produce {}", new.kind), |inside| {
            known(&mut inside.transports, &new.transport_id)?;
            let transport = new.transport_id.to_string();
            let (paused, app_data, mid) = (new.paused, new.app_data, new.rtp_parameters.mid);
            let is_taken = |(id, it): (&String, &Track)| {
                *id != *new.id && it.transport == transport && it.mid == mid
            };
            if mid.is_some() && inside.producers.iter().any(is_taken) {
                return refused("invalid_request");
            }
            let codec = new.rtp_parameters.codecs.first();
            let mime = codec.map(|codec| codec.mime_type.clone()).unwrap_or_default();
            let producer = String::new();
            let track = Track { transport, paused, producer, app_data, mime, mid };
            inside.producers.insert(new.id.to_string(), track);
            Ok(())
        })
    }

    fn pipe(&self, producer_id: Id, router_id: Id, url: String) -> Answer<'_, Id> {
        let (fails, peer) = (self.pipes_fail.load(Ordering::SeqCst), self.peer(&url));
        let call = format!("pipe {producer_id}");
        // Two hosts are locked, the one after the other.
        static TURN: Mutex<()> = Mutex::new(());
        let _turn = TURN.lock().unwrap();
        self.answer(call, |inside| {
            let Some(peer) = peer.filter(|_| !fails) else {
                return Err(MediaError::Unavailable("no way".to_owned()));
            };
            let track = known(&mut inside.producers, &producer_id)?.clone();
            let mut there = peer.inside();
            known(&mut there.routers, &router_id)?;
            let (id, router) = (producer_id.to_string(), router_id.to_string());
            let is_same = |(of, _, to, _): &(String, _, String, _)| *of == id && *to == router;
            if inside.pipes.iter().any(is_same) {
                return refused("already_exists");
            }
            let own = inside.transports[&track.transport].router.clone();
            let trunk = format!("pipe-{own}-{router}");
            there.transports.entry(trunk.clone()).or_insert_with(|| Transport {
                router: router.clone(),
                session: String::new(),
                note: AppData::default(),
                connected: true,
                capabilities_given: true,
            });
            // Another id where its own is taken, or was a moment ago.
            let is_free = there.were_producers.insert(id.clone());
            let copy = if is_free { id.clone() } else { format!("copy-{}", there.calls.len()) };
            there.producers.insert(copy.clone(), Track { transport: trunk, ..track });
            inside.pipes.push((id, url, router, copy.clone()));
            drop(there);
            peer.changed.notify_waiters();
            Ok(Id::new(copy).unwrap())
        })
    }

    fn pause_producer(&self, id: Id, paused: bool) -> Answer<'_, ()> {
        let answer = self.answer(format!("pause producer: {paused}"), |inside| {
            known(&mut inside.producers, &id)?.paused = paused;
            Ok(())
        });
        let pauses = paused.then(|| Arc::clone(&self.pauses));
        async move {
            if let Some(pauses) = pauses {
                drop(pauses.read().await);
            }
            answer.await
        }
        .boxed()
    }

    fn delete_producer(&self, id: Id) -> Answer<'_, ()> {
        if self.keeps_producers.load(Ordering::SeqCst) {
            let retry_after = std::time::Duration::from_millis(20);
            return std::future::ready(Err(MediaError::Busy { retry_after })).boxed();
        }
        let mut ended = Vec::new();
        let answer = self.answer(format!("delete producer {id}"), |inside| {
            let removed = inside.producers.remove(id.as_str());
            // What is told of one's own is not waited for; of a copy it is all that there is.
            if removed.is_some_and(|it| it.transport.starts_with("pipe-")) {
                let its = inside.consumers.iter().filter(|(_, it)| it.producer == *id);
                ended.extend(its.map(|(id, _)| id.clone()));
                inside.consumers.retain(|id, _| !ended.contains(id));
            }
            Ok(())
        });
        for consumer_id in ended {
            let reason = "producer_closed".to_owned();
            self.report(MediaEvent::ConsumerClosed { consumer_id, reason });
        }
        answer
    }

    fn delete_consumer(&self, id: Id) -> Answer<'_, ()> {
        self.answer(format!("delete consumer {id}"), |inside| {
            inside.consumers.remove(id.as_str());
            Ok(())
        })
    }

    fn pause_consumer(&self, id: Id, paused: bool) -> Answer<'_, ()> {
        self.answer(format!("pause consumer: {paused}"), |inside| {
            known(&mut inside.consumers, &id)?.paused = paused;
            Ok(())
        })
    }

    fn prefer_layers(&self, id: Id, spatial: u8, temporal: Option<u8>) -> Answer<'_, ()> {
        self.answer(format!("prefer {spatial} {temporal:?}"), |inside| {
            known(&mut inside.consumers, &id).map(|_| ())
        })
    }

    fn request_key_frame(&self, id: Id) -> Answer<'_, ()> {
        self.answer("key frame".to_owned(), |inside| known(&mut inside.consumers, &id).map(|_| ()))
    }

    fn leave(&self, router_id: Id, session: Id) -> Answer<'_, ()> {
        self.answer(format!("leave {session}"), |inside| {
            drop_transports(inside, |_, transport| {
                transport.router == *router_id && transport.session == *session
            });
            Ok(())
        })
    }

    fn load(&self) -> Answer<'_, Load> {
        let mut load = *self.load.lock().unwrap();
        load.routers += self.inside().routers.len() as u32;
        async move { Ok(load) }.boxed()
    }

    fn router(&self, id: Id) -> Answer<'_, RouterView> {
        self.answer(format!("look at {id}"), |inside| {
            known(&mut inside.routers, &id)?;
            Ok(view_router(inside, id.as_str()))
        })
    }

    fn bitrates(&self, transport_ids: Vec<Id>) -> BoxFuture<'_, HashMap<String, Bitrates>> {
        let of = |id: Id| (id.to_string(), Bitrates { received: 1_000, sent: 20_000 });
        let all = transport_ids.into_iter().map(of).collect();
        async move { all }.boxed()
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        let seq = self.seq(self.last_number.load(Ordering::SeqCst));
        self.answer("snapshot".to_owned(), |inside| {
            let routers = inside.routers.keys().map(|id| view_router(inside, id)).collect();
            Ok(Snapshot { seq, routers, ..Snapshot::default() })
        })
    }

    /// Neither held up nor lost: those are other calls' fates.
    fn ready(&self) -> Answer<'_, ()> {
        let is_away = self.away.load(Ordering::SeqCst);
        let unavailable = || Err(MediaError::Unavailable("away".to_owned()));
        std::future::ready(if is_away { unavailable() } else { Ok(()) }).boxed()
    }

    fn events(&self, after: String) -> Events {
        let receiver = self.reports.subscribe();
        let epoch = self.epoch.load(Ordering::SeqCst);
        self.inside().calls.push("events".to_owned());
        self.changed.notify_waiters();
        if !after.starts_with(&format!("{epoch}-")) {
            return futures::stream::empty().boxed();
        }
        futures::stream::unfold(receiver, move |mut receiver| async move {
            match receiver.recv().await {
                Ok(Report::Event(number, event)) => {
                    Some((Ok(Numbered { seq: format!("{epoch}-{number}"), event }), receiver))
                }
                Ok(Report::ConnectionLost) | Err(_) => None,
            }
        })
        .boxed()
    }
}

fn view_router(inside: &Inside, id: &str) -> RouterView {
    let transports = inside.transports.iter().filter(|(_, transport)| transport.router == id);
    RouterView {
        id: id.to_owned(),
        app_data: inside.routers[id].clone(),
        rtp_capabilities: json!({ "codecs": [], "headerExtensions": [] }),
        transports: transports.map(|(id, it)| view_transport(inside, id, it)).collect(),
    }
}

fn view_transport(inside: &Inside, id: &str, transport: &Transport) -> TransportView {
    let producers = inside.producers.iter().filter(|(_, track)| track.transport == id);
    let consumers = inside.consumers.iter().filter(|(_, track)| track.transport == id);
    TransportView {
        id: id.to_owned(),
        session: Some(transport.session.clone()),
        is_pipe: id.starts_with("pipe-"),
        app_data: json!(transport.note),
        producers: producers
            .map(|(id, track)| ProducerView {
                id: id.clone(),
                kind: ironcast_api::MediaKind::Video,
                paused: track.paused,
                unwatched: Vec::new(),
                mid: track.mid.clone(),
                app_data: track.app_data.clone(),
            })
            .collect(),
        consumers: consumers
            .map(|(id, track)| ConsumerView { id: id.clone(), producer_id: track.producer.clone() })
            .collect(),
    }
}
