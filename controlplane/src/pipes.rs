//! Keeps pipes between routers, of one host or of two, alike at both ends. For each pipe transport that `POST /pipes` has made one
//! task follows the room here and the room there: it carries pauses and closes of the sources to their
//! counterparts, and what the other host has closed it closes here. It goes by what is, not by what it
//! has seen: whether this control plane or the other one was away meanwhile makes no difference. What
//! belongs together is in the notes that the dataplane keeps. Media flows by the dataplanes alone.

mod peer;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ironcast_api::{ErrorCode, Id, Problem};
use ironcast_client::{Client, ClientError, Token, Trust};
use peer::{Following, News};
pub use peer::{HERE, Peer};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};

use crate::{
    auth::Principal,
    config::PipesConfig,
    engine::Engine,
    note::Far,
    routes::{consumers, transports},
};

/// How often it is looked for transports that nobody follows yet.
const LOOK: Duration = Duration::from_secs(1);
/// Changes of a room are gathered for so long.
const GATHER: Duration = Duration::from_millis(50);
/// All is compared anew so often, whatever was told.
const COMPARE: Duration = Duration::from_secs(30);
/// Between two attempts to reach another host.
const RETRY_MIN: Duration = Duration::from_millis(200);
const RETRY_MAX: Duration = Duration::from_secs(10);

/// A router here, the other one's host, and that one.
type Routers = (Id, String, Id);
/// Held by whoever makes a pipe between two routers.
type Turn = Arc<tokio::sync::Mutex<()>>;

/// What is shared by those who make pipes and those who follow them.
#[derive(Default)]
pub struct Pipes {
    clients: Mutex<BTreeMap<String, Client>>,
    turns: Mutex<BTreeMap<Routers, Turn>>,
    /// Consumers whose counterpart is not there yet.
    young: Mutex<BTreeSet<Id>>,
    /// Producers there that were just made, by the transport here: its follower does not know them yet.
    born: Mutex<BTreeMap<Id, Vec<Id>>>,
    /// Transports that a task follows.
    followed: Mutex<BTreeSet<Id>>,
    news: watch::Sender<()>,
    wake: Notify,
}

/// A consumer whose counterpart is being made.
pub struct Young<'a> {
    pipes: &'a Pipes,
    id: Id,
}

impl<'a> Young<'a> {
    /// Until it is dropped.
    #[must_use]
    pub fn new(pipes: &'a Pipes, id: &Id) -> Self {
        lock(&pipes.young).insert(id.clone());
        Self { pipes, id: id.clone() }
    }
}

impl Drop for Young<'_> {
    fn drop(&mut self) {
        lock(&self.pipes.young).remove(&self.id);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pipes {
    /// The other end: at this host in somebody's name, or at another one.
    pub fn peer(&self, engine: &Arc<Engine>, who: &Principal, url: &str) -> Result<Peer, Problem> {
        if url == HERE {
            return Ok(Peer::Here { engine: Arc::clone(engine), who: who.clone() });
        }
        self.client(&engine.config.pipes, url).map(|client| Peer::Host(Box::new(client)))
    }

    /// A client of another host, if that is one of those that are spoken with.
    fn client(&self, config: &PipesConfig, url: &str) -> Result<Client, Problem> {
        let is_known = config.remotes.iter().any(|known| known.trim_end_matches('/') == url);
        if !is_known {
            let detail = format!("{url} is not in pipes.remotes");
            let problem = Problem::new(ErrorCode::Forbidden, detail);
            return Err(problem.with_pointer("/remote/url"));
        }
        let mut clients = lock(&self.clients);
        if let Some(client) = clients.get(url) {
            return Ok(client.clone());
        }
        let mut builder = Client::builder(url)
            .trust(Trust::File(config.ca.clone()))
            .timeout(config.answer_within);
        if let Some(path) = &config.token_file {
            builder = builder.token(Token::File(path.clone()));
        }
        if let Some((cert, key)) = &config.identity {
            builder = builder.identity(cert, key);
        }
        let client = builder.build().map_err(|error| {
            let problem = Problem::new(ErrorCode::Forbidden, error.to_string());
            problem.with_pointer("/remote/url")
        })?;
        clients.insert(url.to_owned(), client.clone());
        Ok(client)
    }

    /// Whose turn it is to make pipes between two routers.
    pub fn turn(&self, routers: Routers) -> Turn {
        let mut turns = lock(&self.turns);
        turns.retain(|_, turn| Arc::strong_count(turn) > 1);
        Arc::clone(turns.entry(routers).or_default())
    }

    /// A producer was made at the other end of that transport.
    pub fn was_born(&self, transport: &Id, far: &Id) {
        lock(&self.born).entry(transport.clone()).or_default().push(far.clone());
    }

    /// Something was made, or could not be.
    pub fn look_again(&self) {
        self.news.send_replace(());
        self.wake.notify_one();
    }
}

/// Has each pipe transport followed. Does not end by itself.
pub async fn watch(engine: Arc<Engine>) {
    loop {
        for (id, router_id, far) in trunks(&engine) {
            if lock(&engine.pipes.followed).insert(id.clone()) {
                let follower = Follower { engine: Arc::clone(&engine), id, router_id, far };
                tokio::spawn(follower.follow());
            }
        }
        tokio::select! {
            () = engine.pipes.wake.notified() => {}
            () = sleep(LOOK) => {}
        }
    }
}

/// All of them that are there.
fn trunks(engine: &Engine) -> Vec<(Id, Id, Far)> {
    let mut state = engine.lock();
    let registry = &mut state.registry;
    let transports = &registry.transports;
    registry.trunks.retain(|id| transports.contains_key(id));
    let known = registry.trunks.iter().filter_map(|id| transports.get(id));
    let known = known.filter(|one| registry.routers.contains_key(&one.info.router_id));
    known
        .filter_map(|one| {
            let far = one.far.as_deref()?.clone();
            Some((one.info.id.clone(), one.info.router_id.clone(), far))
        })
        .collect()
}

/// Who follows one pipe transport.
struct Follower {
    engine: Arc<Engine>,
    id: Id,
    router_id: Id,
    far: Far,
}

/// A consumer here that has a counterpart.
struct Near {
    id: Id,
    far: Id,
    is_paused: bool,
}

/// Producers at the other end, and whether each is paused, if that is known.
type Told = BTreeMap<Id, Option<bool>>;

/// Why a round is over.
enum Over {
    /// There is nothing left to follow.
    Ended,
    /// Begin again with a look at everything.
    Again,
}

impl Follower {
    async fn follow(self) {
        let (transport, url) = (&self.id, self.far.url.as_str());
        let mut retry = RETRY_MIN;
        let mut is_told = false;
        self.engine.metrics.pipes.inc();
        loop {
            match self.round(&mut retry, &mut is_told).await {
                Ok(Over::Ended) => break,
                Ok(Over::Again) => {}
                Err(error) => {
                    self.engine.metrics.pipe_retries.inc();
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(%transport, url, %error, "the other end of a pipe is away");
                    }
                }
            }
            sleep(retry).await;
            retry = (retry * 2).min(RETRY_MAX);
        }
        self.engine.metrics.pipes.dec();
        lock(&self.engine.pipes.born).remove(&self.id);
        lock(&self.engine.pipes.followed).remove(&self.id);
    }

    /// From a look at everything on, until something is lost.
    async fn round(&self, retry: &mut Duration, is_told: &mut bool) -> Result<Over, ClientError> {
        let who = Principal::local(None);
        let peer = self.engine.pipes.peer(&self.engine, &who, &self.far.url);
        let peer = peer.map_err(not_allowed)?;
        let mut here = self.engine.events.subscribe(Some(&self.router_id));
        let mut news = self.engine.pipes.news.subscribe();
        // Made there before it was connected here.
        let is_connected = self.is_connected();
        let looked = match peer.follow(&self.far.router_id, &self.far.transport_id).await {
            Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                self.close_here().await;
                return Ok(Over::Ended);
            }
            looked => looked?,
        };
        let (producers, mut news_there) = looked;
        if producers.is_none() && is_connected {
            self.close_here().await;
            return Ok(Over::Ended);
        }
        let producers = producers.unwrap_or_default().into_iter();
        let mut told: Told = producers.map(|(id, paused)| (id, Some(paused))).collect();
        loop {
            if !self.compare(&peer, &mut told).await? {
                return Ok(Over::Ended);
            }
            (*retry, *is_told) = (RETRY_MIN, false);
            tokio::select! {
                over = self.listen(&mut news_there, &mut told) => {
                    if let Some(over) = over? {
                        return Ok(over);
                    }
                }
                _ = here.changed() => sleep(GATHER).await,
                _ = news.changed() => {}
                () = sleep(COMPARE) => {}
            }
        }
    }

    /// Until the other end tells something that is about this pipe.
    async fn listen(
        &self,
        news: &mut Following,
        told: &mut Told,
    ) -> Result<Option<Over>, ClientError> {
        loop {
            match news.next().await? {
                News::ProducerClosed(id) if told.remove(&id).is_some() => {
                    self.close_consumer_of(&id).await;
                    return Ok(None);
                }
                News::TransportClosed(id) if id == self.far.transport_id => {
                    self.close_here().await;
                    return Ok(Some(Over::Ended));
                }
                News::RouterClosed => {
                    self.close_here().await;
                    return Ok(Some(Over::Ended));
                }
                News::Lost => return Ok(Some(Over::Again)),
                News::ProducerClosed(_) | News::TransportClosed(_) | News::Other => {}
            }
        }
    }

    /// Makes the other end like this one. False when this end is gone, and the other with it.
    async fn compare(&self, peer: &Peer, told: &mut Told) -> Result<bool, ClientError> {
        // In this order: what was born has its consumer, or had one.
        let born = lock(&self.engine.pipes.born).remove(&self.id).unwrap_or_default();
        for id in born {
            told.entry(id).or_default();
        }
        let Some(near) = self.near() else {
            peer.delete_transport(&self.far.transport_id).await?;
            return Ok(false);
        };
        let gone: Vec<Id> =
            told.keys().filter(|id| near.iter().all(|one| one.far != **id)).cloned().collect();
        for id in gone {
            peer.delete_producer(&id).await?;
            told.remove(&id);
        }
        for Near { id, far, is_paused } in near {
            if lock(&self.engine.pipes.young).contains(&id) {
                continue;
            }
            if told.get(&far).copied().flatten().is_none() {
                match peer.producer(&far).await {
                    Ok(producer) => told.insert(far.clone(), Some(producer.paused)),
                    Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                        told.remove(&far);
                        self.close_consumer(&id).await;
                        continue;
                    }
                    Err(error) => return Err(error),
                };
            }
            if told.get(&far) != Some(&Some(is_paused)) {
                match peer.pause_producer(&far, is_paused).await {
                    Ok(()) => drop(told.insert(far, Some(is_paused))),
                    // It is about to be told that it is closed.
                    Err(error) if error.code() == Some(ErrorCode::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(true)
    }

    /// What has a counterpart; none when the transport is gone.
    fn near(&self) -> Option<Vec<Near>> {
        let state = self.engine.lock();
        let registry = &state.registry;
        registry.routers.get(&self.router_id)?;
        let transport = registry.transports.get(&self.id)?;
        let consumers = transport.consumers.iter().filter_map(|id| registry.consumers.get(id));
        let near = consumers.filter_map(|one| {
            let far = one.far_producer_id.as_deref()?.clone();
            Some(Near { id: one.info.id.clone(), far, is_paused: one.info.producer_paused })
        });
        Some(near.collect())
    }

    fn is_connected(&self) -> bool {
        let state = self.engine.lock();
        let transport = state.registry.transports.get(&self.id);
        transport.is_none_or(|transport| transport.connect_hash.is_some())
    }

    async fn close_consumer_of(&self, far: &Id) {
        let near = self.near().unwrap_or_default();
        if let Some(near) = near.into_iter().find(|one| one.far == *far) {
            self.close_consumer(&near.id).await;
        }
    }

    async fn close_consumer(&self, id: &Id) {
        let who = Principal::local(None);
        let closed = self.engine.run(|state| Ok(consumers::close(state, &who, id))).await;
        self.note(closed.err());
    }

    async fn close_here(&self) {
        let who = Principal::local(None);
        let closed = self.engine.run(|state| Ok(transports::close(state, &who, &self.id))).await;
        self.note(closed.err());
    }

    /// The next round sees that it is there still.
    fn note(&self, problem: Option<Problem>) {
        if let Some(problem) = problem {
            tracing::warn!(transport = %self.id, %problem, "an end of a pipe cannot be closed now");
            self.engine.pipes.look_again();
        }
    }
}

/// The configuration has changed since the pipe was made.
fn not_allowed(problem: Problem) -> ClientError {
    ClientError::Settings(problem.detail)
}
