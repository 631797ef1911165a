//! What each event does. The gateway hands over one message of a socket after the other; the
//! answer goes back the same way. State is changed under the lock of `rooms`, the media server is
//! asked without it, and what was asked for is thrown away again if its owner left meanwhile.

mod joining;
mod tell;
mod tracks;
mod transports;

pub(crate) use joining::NOTE_INSTANCE;

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socketioxide::socket::Sid;

use crate::events::Action;
use crate::failure::Failure;
use crate::media::{Media, MediaError, MediaResult};
use crate::rooms::Rooms;
use crate::settings::Settings;

/// First wait before a request is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest wait before a request is tried again.
const RETRY_LONGEST: Duration = Duration::from_millis(500);

/// How often something is freed before we leave it to the next look at everything.
const CLEAN_UP_TRIES_MAX: u32 = 8;

/// Where messages to browsers go. Never waits: a socket that cannot take more is closed.
pub trait Outbox: Send + Sync + 'static {
    /// Sends an event to one socket.
    fn emit(&self, socket: Sid, event: &str, payload: &Value);
    /// Closes a socket.
    fn close(&self, socket: Sid);
}

/// The service: one for the process, shared by all sockets.
pub struct Service {
    /// Limits and waiting times.
    pub settings: Settings,
    media: Arc<dyn Media>,
    outbox: Box<dyn Outbox>,
    rooms: Mutex<Rooms>,
    /// Since when the media server has not answered; none while it does.
    away_since: Mutex<Option<Instant>>,
    /// Something could not be freed: both sides must be compared.
    out_of_step: AtomicBool,
    /// Whether the event stream is open.
    connected: AtomicBool,
    /// Whether the media server said so last.
    media_ready: AtomicBool,
}

impl Service {
    /// A service without rooms.
    pub fn new(settings: Settings, media: Arc<dyn Media>, outbox: Box<dyn Outbox>) -> Arc<Self> {
        Arc::new(Self {
            settings,
            media,
            outbox,
            rooms: Mutex::default(),
            away_since: Mutex::default(),
            out_of_step: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            media_ready: AtomicBool::new(false),
        })
    }

    /// Does what an event asks for.
    pub async fn handle(
        self: &Arc<Self>,
        socket: Sid,
        action: Action,
        payload: Value,
    ) -> Result<Value, Failure> {
        match action {
            Action::CreateRoom => self.create_room(payload),
            Action::JoinRoom => self.join_room(socket, payload).await,
            Action::LeaveRoom => self.leave_room(socket),
            Action::RouterCapabilities => self.router_capabilities(socket).await,
            Action::CreateTransport(direction) => {
                self.create_transport(socket, direction, payload).await
            }
            Action::ConnectTransport(direction) => {
                self.connect_transport(socket, direction, payload).await
            }
            Action::RestartIce => self.restart_ice(socket, payload).await,
            Action::Produce => self.produce(socket, payload).await,
            Action::PauseProducer => self.pause_producer(socket, payload, true).await,
            Action::ResumeProducer => self.pause_producer(socket, payload, false).await,
            Action::StopProducing => self.stop_producing(socket, payload),
            Action::ListProducers => self.list_producers(socket),
            Action::Consume => self.consume(socket, payload).await,
            Action::PauseConsumer => self.pause_consumer(socket, payload, true).await,
            Action::ResumeConsumer => self.pause_consumer(socket, payload, false).await,
            Action::SetPreferredLayers => self.prefer_layers(socket, payload).await,
            Action::RequestKeyFrame => self.request_key_frame(socket, payload).await,
            Action::Heartbeat => self.heartbeat(socket),
        }
    }

    /// Whether the media server is there: what `/ready` says.
    pub fn is_ready(&self) -> bool {
        self.connected.load(Ordering::Relaxed) && self.media_ready.load(Ordering::Relaxed)
    }

    /// How many rooms and participants there are.
    pub fn count(&self) -> (usize, usize) {
        self.rooms().count()
    }

    /// Sends an event to one socket.
    pub fn emit(&self, socket: Sid, event: &str, payload: &Value) {
        self.outbox.emit(socket, event, payload);
    }

    /// Closes a socket.
    pub fn close_socket(&self, socket: Sid) {
        self.outbox.close(socket);
    }

    fn heartbeat(&self, socket: Sid) -> Result<Value, Failure> {
        self.rooms().seat(socket)?;
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let now_ms = since_1970.map_or(0, |time| time.as_millis() as u64);
        Ok(json!({ "time": now_ms }))
    }

    pub(crate) fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().expect("nobody panics while holding the rooms")
    }

    pub(crate) fn media(&self) -> &dyn Media {
        &*self.media
    }

    pub(crate) fn set_connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.media_ready.store(is_ready, Ordering::Relaxed);
    }

    pub(crate) fn take_out_of_step(&self) -> bool {
        self.out_of_step.swap(false, Ordering::Relaxed)
    }

    pub(crate) fn set_out_of_step(&self) {
        self.out_of_step.store(true, Ordering::Relaxed);
    }

    /// Asks the media server, again and again while it does not answer and patience lasts. Patience
    /// is counted from the first failure of anybody, so that a queue of requests does not wait
    /// one after the other.
    async fn ask<T, F, A>(&self, request: F) -> MediaResult<T>
    where
        F: Fn() -> A,
        A: Future<Output = MediaResult<T>>,
    {
        let mut wait = RETRY_FIRST;
        loop {
            let reason = match request().await {
                Err(MediaError::Unavailable(reason)) => reason,
                answer => {
                    *self.away_since.lock().expect("no panic inside") = None;
                    return answer;
                }
            };
            let since =
                *self.away_since.lock().expect("no panic inside").get_or_insert_with(Instant::now);
            if since.elapsed() + wait > self.settings.media_patience {
                return Err(MediaError::Unavailable(reason));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Frees something at the media server, without anybody waiting for it.
    fn clean_up<F, A>(self: &Arc<Self>, what: &'static str, request: F)
    where
        F: Fn(Arc<dyn Media>) -> A + Send + 'static,
        A: Future<Output = MediaResult<()>> + Send,
    {
        let service = Arc::clone(self);
        tokio::spawn(async move {
            let mut wait = RETRY_FIRST;
            for _ in 0..CLEAN_UP_TRIES_MAX {
                match request(Arc::clone(&service.media)).await {
                    Ok(()) => return,
                    Err(MediaError::Refused { code, .. }) if code == "not_found" => return,
                    Err(MediaError::Refused { code, message }) => {
                        tracing::warn!(what, code, message, "the media server did not free it");
                        break;
                    }
                    Err(MediaError::Unavailable(_)) => tokio::time::sleep(wait).await,
                }
                wait = (wait * 2).min(RETRY_LONGEST);
            }
            service.set_out_of_step();
        });
    }
}
