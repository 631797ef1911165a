//! What each event does. The gateway hands over one message of a socket after the other; the
//! answer goes back the same way. A room is changed under its own lock, the media server is asked
//! without it, and what was asked for is thrown away again if its owner left meanwhile.

mod branches;
mod broadcasts;
mod by_http;
mod chat;
mod draining;
mod fleet;
mod health;
mod joining;
mod making;
mod moderating;
mod modes;
mod piping;
mod presence;
mod records;
mod relay;
mod statistics;
mod takeover;
mod tell;
mod together;
mod tracks;
mod transports;

pub(crate) use broadcasts::{RoomScene, SceneTrack};
pub(crate) use making::Thing;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::net::IpAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use futures::future::BoxFuture;
use ironcast_api::Id;
use serde_json::value::{RawValue, to_raw_value};

use salvo::http::HeaderMap;
use serde_json::{Value, json};
use socketioxide::socket::Sid;

use crate::access::{Role, User, check_action, token_of, unauthorized};
use crate::broadcast::Broadcasts;
use crate::events::Action;
use crate::failure::Failure;
use crate::hosts::{Host, HostId, Hosts, MediaHost};
use crate::limits::Addresses;
use crate::media::{Media, MediaError, MediaResult};
use crate::metrics::Metrics;
use crate::rooms::Rooms;
use crate::settings::Settings;
use crate::store::{Stores, now_ms};

/// First wait before a request is tried again; it doubles.
const RETRY_FIRST: Duration = Duration::from_millis(50);

/// Longest wait before a request is tried again.
const RETRY_LONGEST: Duration = Duration::from_millis(500);

/// How often something is freed before we leave it to the next look at everything.
const CLEAN_UP_TRIES_MAX: u32 = 8;

/// How often a busy media server is asked to free something: nobody waits for it, and a look at
/// everything would cost it more.
const CLEAN_UP_BUSY_TRIES_MAX: u32 = 60;

/// Longest wait between two of these.
const CLEAN_UP_BUSY_LONGEST: Duration = Duration::from_secs(10);

/// A busy media server is asked for this many times the patience with one that is away: it is
/// there, and says when to come again.
const BUSY_PATIENCE: u32 = 3;

/// Where messages to browsers go. Never waits: a socket that cannot take more is closed.
pub trait Outbox: Send + Sync + 'static {
    /// Sends an event to one socket.
    fn emit(&self, socket: Sid, event: &str, payload: &RawValue);
    /// Closes a socket.
    fn close(&self, socket: Sid);
    /// Whether a socket is still there.
    fn is_open(&self, socket: Sid) -> bool;
}

/// Longest region that a header may name, as in the configuration.
const REGION_MAX: usize = 64;

/// What a header says, if it is the name of a region.
fn region(said: &[u8]) -> Option<String> {
    let is_fit = |byte: &u8| byte.is_ascii_alphanumeric() || b"._:-".contains(byte);
    if said.is_empty() || said.len() > REGION_MAX || !said.iter().all(is_fit) {
        return None;
    }
    String::from_utf8(said.to_vec()).ok()
}

/// What is left to be waited for of a message that has begun.
pub type Aside = BoxFuture<'static, Result<Value, Failure>>;

/// Who sent a message.
#[derive(Debug, Clone, Copy)]
pub struct From {
    /// The socket that it came by.
    pub socket: Sid,
    /// The socket's other end.
    pub address: IpAddr,
}

/// The service: one for the process, shared by all sockets.
pub struct Service {
    /// Limits and waiting times.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Rooms that are watched or recorded.
    pub broadcasts: Broadcasts,
    hosts: Arc<Hosts>,
    stores: Stores,
    presence: presence::Writer,
    records: records::Records,
    callers: by_http::Callers,
    fleet: Option<fleet::Fleet>,
    outbox: Box<dyn Outbox>,
    rooms: Rooms,
    addresses: Addresses,
    /// Whoever asks for a room's figures holds one.
    statistics: tokio::sync::Semaphore,
    /// Whoever makes a pipe holds one.
    piping: tokio::sync::Semaphore,
    /// Who sits at a socket, where tokens say it.
    users: Mutex<HashMap<Sid, User>>,
    /// Where a socket is, as its handshake's header says.
    regions: Mutex<HashMap<Sid, String>>,
    /// Ids of what is being made at the media server.
    being_made: Mutex<HashSet<Id>>,
    /// The process ends: lost sockets come back to the next one.
    stopping: AtomicBool,
}

impl Service {
    /// A service without rooms.
    pub fn new(
        settings: Settings,
        hosts: Vec<MediaHost>,
        stores: Stores,
        outbox: Box<dyn Outbox>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let hosts = Arc::new(Hosts::new(hosts, settings.placement));
        let fleet =
            |hub| fleet::Fleet::new(hub, settings.fleet, Arc::clone(&hosts), Arc::clone(&metrics));
        let service = Arc::new(Self {
            fleet: stores.hub.clone().map(fleet),
            addresses: Addresses::new(&settings),
            rooms: Rooms::new(settings.ways),
            broadcasts: Broadcasts::new(settings.broadcast.clone()),
            presence: presence::Writer::new(
                Arc::clone(&stores.shared),
                metrics.presence_lost.clone(),
            ),
            records: records::Records::new(Arc::clone(&stores.lasting), metrics.calls_lost.clone()),
            callers: by_http::Callers::default(),
            statistics: tokio::sync::Semaphore::new(statistics::AT_ONCE_MAX),
            piping: tokio::sync::Semaphore::new(piping::AT_ONCE_MAX),
            regions: Mutex::default(),
            hosts,
            settings,
            metrics,
            stores,
            outbox,
            users: Mutex::default(),
            being_made: Mutex::default(),
            stopping: AtomicBool::new(false),
        });
        if service.fleet.is_some() {
            fleet::start(&service);
        }
        service
    }

    /// Does what several messages ask for that came one after the other. One answer for each.
    pub async fn handle_all(
        self: &Arc<Self>,
        from: From,
        asked: Vec<(Action, Value)>,
    ) -> Vec<Result<Value, Failure>> {
        if let Err(refused) = self.check_user(from.socket) {
            return asked.iter().map(|_| Err(refused.clone())).collect();
        }
        let refused = asked.first().and_then(|(action, _)| {
            // What is done together is asked of the same.
            self.check_media(from.socket, *action).err()
        });
        if let Some(refused) = refused {
            return asked.iter().map(|_| Err(refused.clone())).collect();
        }
        match asked.first() {
            Some((Action::CreateTransport(_) | Action::Consume, _)) => {
                self.make_all(from.socket, asked).await
            }
            Some((Action::ResumeConsumer, _)) => self.resume_consumers(from.socket, asked).await,
            _ => {
                let mut answers = Vec::with_capacity(asked.len());
                for (action, payload) in asked {
                    answers.push(self.handle(from, action, payload).await);
                }
                answers
            }
        }
    }

    /// Begins what is waited for beside other messages ([`Action::is_aside`]).
    pub fn handle_aside(
        self: &Arc<Self>,
        socket: Sid,
        action: Action,
        payload: Value,
    ) -> Result<Aside, Failure> {
        self.check_user(socket)?;
        check_action(self.role(socket), action)?;
        self.begin_aside(socket, action, payload)
    }

    fn begin_aside(
        self: &Arc<Self>,
        socket: Sid,
        action: Action,
        payload: Value,
    ) -> Result<Aside, Failure> {
        match action {
            Action::ChatMessage => self.chat_message(socket, payload),
            Action::ListMessages => self.list_messages(socket, payload),
            _ => self.list_recordings(socket),
        }
    }

    async fn handle(
        self: &Arc<Self>,
        from: From,
        action: Action,
        payload: Value,
    ) -> Result<Value, Failure> {
        let socket = from.socket;
        check_action(self.role(socket), action)?;
        match action {
            Action::CreateRoom => self.create_room(from, payload).await,
            Action::JoinRoom => self.join_room(from, payload).await,
            Action::LeaveRoom => self.leave_room(socket),
            Action::RouterCapabilities => self.router_capabilities(socket).await,
            Action::ConnectTransport(direction) => {
                self.connect_transport(socket, direction, payload).await
            }
            Action::RestartIce => self.restart_ice(socket, payload).await,
            Action::Produce => self.produce(socket, payload).await,
            Action::PauseProducer => self.pause_producer(socket, payload, true).await,
            Action::ResumeProducer => self.pause_producer(socket, payload, false).await,
            Action::StopProducing => self.stop_producing(socket, payload),
            Action::ListProducers => self.list_producers(socket),
            Action::PauseConsumer => self.pause_consumer(socket, payload).await,
            Action::SetPreferredLayers => self.prefer_layers(socket, payload).await,
            Action::RequestKeyFrame => self.request_key_frame(socket, payload).await,
            Action::Heartbeat => self.heartbeat(socket),
            Action::ModeSwitched => self.mode_switched(socket, payload),
            Action::Relay(signal) => self.relay(socket, signal, payload),
            Action::ChatMessage | Action::ListMessages | Action::ListRecordings => {
                self.begin_aside(socket, action, payload)?.await
            }
            Action::StartBroadcast => self.start_broadcast(socket, payload).await,
            Action::StopBroadcast => self.stop_broadcast(socket, payload).await,
            Action::MuteParticipant => self.mute_participant(socket, payload).await,
            Action::RemoveParticipant => self.remove_participant(socket, payload),
            Action::EndRoom => self.end_room(socket),
            Action::CreateTransport(_) | Action::Consume | Action::ResumeConsumer => {
                let answers = Box::pin(self.handle_all(from, vec![(action, payload)])).await;
                answers.into_iter().next().unwrap_or_else(|| Ok(json!({})))
            }
        }
    }

    fn users(&self) -> MutexGuard<'_, HashMap<Sid, User>> {
        self.users.lock().expect("nobody panics with it")
    }

    /// A socket may come in if it shows a token, where tokens are wanted. Gives until when.
    pub fn admit(
        &self,
        socket: Sid,
        auth: Option<&Value>,
        headers: &HeaderMap,
    ) -> Result<Option<SystemTime>, Failure> {
        let Some(access) = &self.settings.access else { return Ok(None) };
        let user = access.user(token_of(auth, headers).as_deref())?;
        let until = user.until;
        self.users().insert(socket, user);
        Ok(Some(until))
    }

    /// Whether an address may open one more socket.
    pub(crate) fn may_open(&self, address: IpAddr) -> Result<(), Failure> {
        self.addresses.open(address, Instant::now())
    }

    /// Whether a request may have something of a room; of no room in particular: whether it shows a
    /// good token.
    pub fn admit_request(&self, headers: &HeaderMap, room_id: Option<&Id>) -> Result<(), Failure> {
        let Some(access) = &self.settings.access else { return Ok(()) };
        let user = access.user(token_of(None, headers).as_deref())?;
        room_id.map_or(Ok(()), |room_id| user.check_room(Some(room_id)))
    }

    /// A socket is gone, or did not come in.
    pub fn forget_user(&self, socket: Sid) {
        self.users().remove(&socket);
        self.regions().remove(&socket);
    }

    fn regions(&self) -> MutexGuard<'_, HashMap<Sid, String>> {
        self.regions.lock().expect("nobody panics with it")
    }

    /// Remembers where a reverse proxy says that a socket is; forgotten with its user.
    pub fn note_region(&self, socket: Sid, headers: &HeaderMap) {
        let Some(name) = &self.settings.region_header else { return };
        let Some(said) = headers.get(name) else { return };
        match region(said.as_bytes()) {
            Some(region) => {
                self.regions().insert(socket, region);
            }
            None => {
                self.metrics.regions_refused.inc();
            }
        }
    }

    /// Where somebody is: as he says, or else as the proxy does.
    fn region_of(&self, socket: Sid, said: Option<String>) -> Option<String> {
        said.or_else(|| self.regions().get(&socket).cloned())
    }

    fn user(&self, socket: Sid) -> Option<User> {
        self.users().get(&socket).cloned()
    }

    /// Where tokens are wanted nothing is done for who has none, whatever became of it.
    fn check_user(&self, socket: Sid) -> Result<(), Failure> {
        match self.user(socket) {
            Some(user) => user.check_time(),
            None if self.settings.access.is_some() => {
                Err(unauthorized("show a token: connect again"))
            }
            None => Ok(()),
        }
    }

    fn role(&self, socket: Sid) -> Role {
        self.users().get(&socket).map(|user| user.role).unwrap_or_default()
    }

    /// Whether a media server is there: what `/ready` says.
    pub fn is_ready(&self) -> bool {
        self.hosts.iter().any(Host::is_ready)
    }

    /// How many rooms and participants there are.
    pub fn count(&self) -> (usize, usize) {
        self.rooms.count()
    }

    /// What `/metrics` shows.
    pub fn metrics_text(&self) -> String {
        let mut rooms: HashMap<HostId, usize> = HashMap::new();
        let mut spread = 0;
        for cell in self.rooms.all() {
            let room = cell.lock();
            let hosts: HashSet<HostId> =
                room.routers().filter(|it| it.is_made()).map(|it| it.host).collect();
            spread += usize::from(hosts.len() > 1);
            for host in hosts {
                *rooms.entry(host).or_default() += 1;
            }
        }
        self.metrics.rooms_spread.set(spread as i64);
        for id in self.hosts.ids() {
            let host = self.host(id);
            let rooms = rooms.get(&id).copied().unwrap_or_default();
            self.metrics.set_host(&host.about.name, !host.is_away(), rooms);
        }
        self.metrics.text(self.count(), self.is_ready())
    }

    /// Sends an event to one socket.
    pub fn emit(&self, socket: Sid, event: &str, payload: &Value) {
        self.outbox.emit(socket, event, &raw(payload));
    }

    /// Closes a socket.
    pub fn close_socket(&self, socket: Sid) {
        self.outbox.close(socket);
    }

    fn heartbeat(&self, socket: Sid) -> Result<Value, Failure> {
        let seat = self.rooms.seat(socket)?;
        self.note_here(&seat.room.lock(), &seat);
        Ok(json!({ "time": now_ms() }))
    }

    /// Whether other nodes serve the same rooms.
    pub(crate) fn is_fleet(&self) -> bool {
        self.fleet.is_some()
    }

    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    pub(crate) fn being_made(&self) -> MutexGuard<'_, HashSet<Id>> {
        self.being_made.lock().expect("nobody panics with it")
    }

    /// The media hosts.
    pub fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(crate) fn host(&self, id: HostId) -> &Host {
        self.hosts.get(id)
    }

    pub(crate) fn media(&self, host: HostId) -> &dyn Media {
        &*self.host(host).about.media
    }

    /// Asks a media server, again and again while it does not answer and patience lasts. Patience
    /// is counted from the first failure of anybody, so that a queue of requests does not wait
    /// one after the other; one that is away is not asked. One that answers that it is busy is asked
    /// again when it says.
    pub(crate) async fn ask<'s, T, F, A>(&'s self, host: HostId, request: F) -> MediaResult<T>
    where
        F: Fn(&'s dyn Media) -> A,
        A: Future<Output = MediaResult<T>>,
    {
        let host = self.host(host);
        let began = Instant::now();
        let mut wait = RETRY_FIRST;
        loop {
            if host.is_away() {
                return Err(MediaError::Unavailable("its health check fails".to_owned()));
            }
            let answer = request(&*host.about.media).await;
            let (since, pause, patience) = match &answer {
                Err(MediaError::Unavailable(_)) => {
                    (host.note_failure(), wait, self.settings.media_patience)
                }
                Err(MediaError::Busy { retry_after }) => {
                    host.note_answer();
                    let patience = self.settings.media_patience * BUSY_PATIENCE;
                    (began, wait.max(*retry_after), patience)
                }
                _ => {
                    host.note_answer();
                    return answer;
                }
            };
            if since.elapsed() + pause > patience {
                return answer;
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        }
    }

    /// Asks for so many things in one call, again and again while one of them fails in passing. Gives
    /// an answer for each.
    pub(crate) async fn ask_all<'s, T, F, A>(
        &'s self,
        host: HostId,
        count: usize,
        request: F,
    ) -> Vec<MediaResult<T>>
    where
        F: Fn(&'s dyn Media) -> A,
        A: Future<Output = Vec<MediaResult<T>>>,
    {
        let last = Mutex::new(Vec::new());
        let (last, request) = (&last, &request);
        let asked = self.ask(host, |media| async move {
            let answers = request(media).await;
            let mut failed = answers.iter().filter_map(|answer| answer.as_ref().err());
            let passing = failed.find(|error| error.is_temporary()).cloned();
            *last.lock().expect("no panic inside") = answers;
            passing.map_or(Ok(()), Err)
        });
        let asked = asked.await;
        // The last answers say what has failed; where there are none nothing was asked.
        let mut answers = std::mem::take(&mut *last.lock().expect("no panic inside"));
        if let Err(error) = asked {
            answers.resize_with(count, || Err(error.clone()));
        }
        answers
    }

    /// Frees something at the media server, without anybody waiting for it.
    fn clean_up<F, A>(self: &Arc<Self>, host: HostId, thing: Thing, request: F)
    where
        F: Fn(Arc<dyn Media>) -> A + Send + 'static,
        A: Future<Output = MediaResult<()>> + Send,
    {
        // A guard may be dropped while the process ends, when there is nothing to spawn on.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let service = Arc::clone(self);
        runtime.spawn(async move {
            let host = service.host(host);
            if !try_to_free(&host.about.media, thing, request).await {
                host.set_out_of_step();
            }
        });
    }
}

/// Gives whether it is gone, or need not be looked after.
async fn try_to_free<F, A>(media: &Arc<dyn Media>, thing: Thing, request: F) -> bool
where
    F: Fn(Arc<dyn Media>) -> A,
    A: Future<Output = MediaResult<()>>,
{
    let (mut wait, mut wait_busy) = (RETRY_FIRST, RETRY_FIRST);
    let (mut failed, mut busy) = (0, 0);
    while failed < CLEAN_UP_TRIES_MAX && busy < CLEAN_UP_BUSY_TRIES_MAX {
        match request(Arc::clone(media)).await {
            Ok(()) => return true,
            Err(MediaError::Refused { code, .. }) if code == "not_found" => return true,
            Err(MediaError::Refused { code, message }) => {
                tracing::warn!(?thing, code, message, "the media server did not free it");
                return false;
            }
            Err(MediaError::Busy { retry_after }) => {
                busy += 1;
                tokio::time::sleep(wait_busy.max(retry_after)).await;
                wait_busy = (wait_busy * 2).min(CLEAN_UP_BUSY_LONGEST);
            }
            Err(MediaError::Unavailable(_)) => {
                failed += 1;
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(RETRY_LONGEST);
            }
        }
    }
    false
}

/// Written once, for however many it is sent to.
pub(crate) fn raw(payload: &Value) -> Box<RawValue> {
    to_raw_value(payload).expect("JSON of our own making")
}
