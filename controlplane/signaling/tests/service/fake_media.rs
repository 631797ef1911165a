//! A media server in memory: it keeps what was made, refuses what the real one would refuse, can
//! go away and come back, and reports events when a test says so.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use futures::future::{BoxFuture, FutureExt};
use futures::stream::StreamExt;
use ironcast_api::{AppData, DtlsParameters, Id};
use ironcast_signaling::media::{
    Answer, Consumed, Events, Media, MediaError, MediaEvent, MediaResult, NewConsumer, NewProducer,
    NewTransport, Numbered, RouterView, Snapshot,
};
use serde_json::{Value, json};
use tokio::sync::{Notify, broadcast};

#[derive(Debug, Clone)]
pub(crate) struct Transport {
    pub(crate) router: String,
    pub(crate) participant: String,
    pub(crate) connected: bool,
    pub(crate) capabilities_given: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Track {
    pub(crate) transport: String,
    pub(crate) paused: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Inside {
    pub(crate) routers: BTreeMap<String, Value>,
    pub(crate) transports: BTreeMap<String, Transport>,
    pub(crate) producers: BTreeMap<String, Track>,
    pub(crate) consumers: BTreeMap<String, Track>,
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

    fn seq(&self, number: u64) -> String {
        format!("{}-{number}", self.epoch.load(Ordering::SeqCst))
    }

    fn answer<T: Send + 'static>(
        &self,
        call: String,
        run: impl FnOnce(&mut Inside) -> MediaResult<T> + Send,
    ) -> BoxFuture<'static, MediaResult<T>> {
        let result = if self.away.load(Ordering::SeqCst) {
            Err(MediaError::Unavailable("away".to_owned()))
        } else {
            let mut inside = self.inside();
            inside.calls.push(call);
            run(&mut inside)
        };
        self.changed.notify_waiters();
        async move { result }.boxed()
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
    let Inside { transports, producers, consumers, .. } = inside;
    producers.retain(|_, track| transports.contains_key(&track.transport));
    consumers.retain(|_, track| transports.contains_key(&track.transport));
}

impl Media for FakeMedia {
    fn create_router(&self, id: Id, app_data: AppData) -> Answer<'_, Value> {
        self.answer(format!("create router {id}"), |inside| {
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

    fn create_transport(&self, new: NewTransport) -> Answer<'_, Value> {
        self.answer(format!("create transport for {}", new.participant_id), |inside| {
            known(&mut inside.routers, &new.router_id)?;
            let transport = Transport {
                router: new.router_id.to_string(),
                participant: new.participant_id.to_string(),
                connected: false,
                capabilities_given: new.rtp_capabilities.is_some(),
            };
            inside.transports.insert(new.id.to_string(), transport);
            Ok(json!({
                "id": new.id,
                "iceParameters": { "usernameFragment": "u", "password": "p", "iceLite": true },
                "iceCandidates": [],
                "dtlsParameters": { "role": "auto", "fingerprints": [] },
            }))
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
            inside.producers.insert(new.id.to_string(), Track { transport, paused: new.paused });
            Ok(())
        })
    }

    fn pause_producer(&self, id: Id, paused: bool) -> Answer<'_, ()> {
        self.answer(format!("pause producer: {paused}"), |inside| {
            known(&mut inside.producers, &id)?.paused = paused;
            Ok(())
        })
    }

    fn delete_producer(&self, id: Id) -> Answer<'_, ()> {
        self.answer(format!("delete producer {id}"), |inside| {
            inside.producers.remove(id.as_str());
            Ok(())
        })
    }

    fn consume(&self, new: NewConsumer) -> Answer<'_, Consumed> {
        self.answer(format!("consume {}", new.producer_id), |inside| {
            known(&mut inside.transports, &new.transport_id)?;
            let producer_paused = known(&mut inside.producers, &new.producer_id)?.paused;
            let transport = new.transport_id.to_string();
            inside.consumers.insert(new.id.to_string(), Track { transport, paused: true });
            Ok(Consumed {
                kind: ironcast_api::MediaKind::Video,
                rtp_parameters: json!({ "mid": "0", "codecs": [], "encodings": [] }),
                kind_of_stream: json!("simulcast"),
                producer_paused,
            })
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

    fn leave(&self, router_id: Id, participant_id: Id) -> Answer<'_, ()> {
        self.answer(format!("leave {participant_id}"), |inside| {
            drop_transports(inside, |_, transport| {
                transport.router == *router_id && transport.participant == *participant_id
            });
            Ok(())
        })
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        let seq = self.seq(self.last_number.load(Ordering::SeqCst));
        self.answer("snapshot".to_owned(), |inside| {
            let on = |router: &str, track: &Track| {
                inside.transports.get(&track.transport).is_some_and(|t| t.router == router)
            };
            let view = |(id, app_data): (&String, &Value)| RouterView {
                id: id.clone(),
                app_data: app_data.clone(),
                transports: inside
                    .transports
                    .iter()
                    .filter(|(_, transport)| transport.router == *id)
                    .map(|(id, transport)| (id.clone(), Some(transport.participant.clone())))
                    .collect(),
                producers: ids(&inside.producers, |track| on(id, track)),
                consumers: ids(&inside.consumers, |track| on(id, track)),
            };
            Ok(Snapshot { seq, routers: inside.routers.iter().map(view).collect() })
        })
    }

    fn ready(&self) -> Answer<'_, ()> {
        self.answer("ready".to_owned(), |_| Ok(()))
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

fn ids(tracks: &BTreeMap<String, Track>, wanted: impl Fn(&Track) -> bool) -> Vec<String> {
    tracks.iter().filter(|(_, track)| wanted(track)).map(|(id, _)| id.clone()).collect()
}
