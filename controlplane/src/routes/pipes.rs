//! `POST /pipes`: a producer in another router as well, of this host or of another one. Here a pipe
//! transport and a consumer that takes every stream are made, there their counterparts, by the other
//! host's control API or by the same routes here; what a step cannot do, those before it undo. That the two stay alike afterwards is the work of
//! [`crate::pipes`].

use std::sync::Arc;

use ironcast_api::{
    AppData, ConnectTransport, ConsumerInfo, CreateConsumer, CreatePipe, CreateProducer,
    CreateTransport, ErrorCode, Id, PipeLink, Piped, PipedFrom, Problem, TransportInfo,
};
use ironcast_client::ClientError;
use serde::Serialize;

use super::{consumers, id_or_new, plain, transports};
use crate::{
    auth::Principal,
    call::{Answer, Call, internal},
    engine::{Engine, State, Step},
    note::{BodyHash, Far},
    pipes::{HERE, Peer, Young},
};

/// Other ids that are tried for a producer whose own is taken.
const IDS_TRIED: usize = 3;

/// `POST /pipes`.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let create = call.body::<CreatePipe>()?;
    let url = create.remote.as_ref().map_or(HERE, |remote| remote.url.trim_end_matches('/'));
    if create.remote.is_some() && url == HERE {
        let problem = Problem::new(ErrorCode::Forbidden, "the other host has no address");
        return Err(problem.with_pointer("/remote/url"));
    }
    let url = url.to_owned();
    let peer = engine.pipes.peer(engine, &call.caller, &url)?;
    let making = Making {
        engine: Arc::clone(engine),
        who: call.caller.clone(),
        peer,
        url,
        create: create.clone(),
    };
    // Whoever asked may go away meanwhile: nothing is left half made.
    let made = tokio::spawn(async move { making.run().await }).await;
    let (piped, router_id) = made.unwrap_or_else(|_| Err(engine.fault("making a pipe")))?;
    Answer::made(true, &piped, &piped.consumer_id, &router_id, engine.seq())
}

/// One pipe in the making.
struct Making {
    engine: Arc<Engine>,
    who: Principal,
    peer: Peer,
    url: String,
    create: CreatePipe,
}

/// What is piped.
struct Source {
    router_id: Id,
    is_paused: bool,
    app_data: AppData,
    piped_from: Vec<PipedFrom>,
}

/// A pipe transport here and its counterpart.
struct Pair {
    here: Id,
    there: Id,
    is_new: bool,
}

impl Making {
    async fn run(self) -> Result<(Piped, Id), Problem> {
        let source = self.source()?;
        self.check_router(&source).await?;
        // One after the other between two routers: the second finds the first one's transports.
        let router_id = source.router_id.clone();
        let pair = (router_id, self.url.clone(), self.create.router_id.clone());
        let turn = self.engine.pipes.turn(pair);
        let _turn = turn.lock().await;
        let pair = self.pair(&source).await?;
        let piped = self.pipe(&source, &pair).await;
        if piped.is_err() && pair.is_new {
            self.undo_pair(&pair).await;
        }
        self.engine.pipes.look_again();
        Ok((piped?, source.router_id))
    }

    fn source(&self) -> Result<Source, Problem> {
        let state = self.engine.lock();
        let producer = state.registry.producer(&self.who, &self.create.producer_id);
        let producer = producer.map_err(|problem| problem.with_pointer("/producerId"))?;
        let host = state.boot_id.clone().unwrap_or_default();
        let router_id = producer.info.router_id.clone();
        let mut piped_from = producer.piped_from.clone();
        piped_from.push(PipedFrom { host, router_id: router_id.clone() });
        Ok(Source {
            router_id,
            is_paused: producer.info.paused,
            app_data: producer.info.app_data.clone(),
            piped_from,
        })
    }

    /// The router there: of the same owner as the one here, unless an admin asks.
    async fn check_router(&self, source: &Source) -> Result<(), Problem> {
        let there = self.peer.router(&self.create.router_id).await;
        let there = there.map_err(|error| {
            let problem = self.refused(error);
            let is_missing = problem.code == ErrorCode::NotFound;
            if is_missing { problem.with_pointer("/routerId") } else { problem }
        })?;
        let own = {
            let state = self.engine.lock();
            let router = state.registry.routers.get(&source.router_id);
            router.and_then(|router| router.owner.clone())
        };
        if !self.who.is_admin() && there.router.owner.as_deref() != own.as_deref() {
            let problem = Problem::not_found("router", &self.create.router_id);
            return Err(problem.with_pointer("/routerId"));
        }
        Ok(())
    }

    /// The transports of before, if they still are, or new ones.
    async fn pair(&self, source: &Source) -> Result<Pair, Problem> {
        if let Some((here, there)) = self.known_pair(&source.router_id) {
            match self.peer.transport(&there).await {
                Ok(_) => return Ok(Pair { here, there, is_new: false }),
                Err(error) if error.code() == Some(ErrorCode::NotFound) => {
                    self.close_here(|state, who| transports::close(state, who, &here)).await;
                }
                Err(error) => return Err(self.refused(error)),
            }
        }
        let pair = Pair { here: id_or_new(None)?, there: id_or_new(None)?, is_new: true };
        let connected = self.connect_pair(source, &pair).await;
        if connected.is_err() {
            self.undo_pair(&pair).await;
        }
        connected.map(|()| pair)
    }

    fn known_pair(&self, router_id: &Id) -> Option<(Id, Id)> {
        let state = self.engine.lock();
        let registry = &state.registry;
        registry.trunks.iter().filter_map(|id| registry.transports.get(id)).find_map(|one| {
            let far = one.far.as_ref()?;
            let is_it = one.info.router_id == *router_id
                && (&far.url, &far.router_id) == (&self.url, &self.create.router_id)
                && one.connect_hash.is_some();
            is_it.then(|| (one.info.id.clone(), far.transport_id.clone()))
        })
    }

    async fn connect_pair(&self, source: &Source, pair: &Pair) -> Result<(), Problem> {
        let create = |id: &Id, router_id: &Id| CreateTransport {
            id: Some(id.clone()),
            enable_rtx: Some(true),
            // Within a process nobody else can read it.
            enable_srtp: Some(self.engine.config.pipes.srtp && self.url != HERE),
            ..CreateTransport::pipe(router_id.clone())
        };
        let far = Far {
            url: self.url.clone(),
            router_id: self.create.router_id.clone(),
            transport_id: pair.there.clone(),
        };
        let here = create(&pair.here, &source.router_id);
        let hash = hash(&here)?;
        let made = transports::make(&self.engine, &self.who, here, hash, Some(far)).await;
        let ((_, here), _) = made.map_err(own)?;
        let there = create(&pair.there, &self.create.router_id);
        let there = self.peer.create_transport(&there).await;
        let there = there.map_err(|error| self.refused(error))?;
        let (to_here, to_there) = (peer(&here)?, peer(&there)?);
        let hash = self::hash(&to_there)?;
        let connected = plain::connect(&self.engine, &self.who, &pair.here, &to_there, hash);
        connected.await.map_err(|problem| self.unreachable_media(own(problem)))?;
        let connected = self.peer.connect_transport(&pair.there, &to_here).await;
        connected.map_err(|error| self.unreachable_media(self.refused(error)))?;
        Ok(())
    }

    /// Both ends have to be let in by the other.
    fn unreachable_media(&self, problem: Problem) -> Problem {
        let settings = "see pipes.listen and rtc.plain_allow of both hosts";
        Problem { detail: format!("{} ({settings})", problem.detail), ..problem }
    }

    /// The consumer here and the producer there.
    async fn pipe(&self, source: &Source, pair: &Pair) -> Result<Piped, Problem> {
        self.check_once(pair)?;
        let is_here = self.url == HERE;
        if is_here && self.create.keep_id == Some(true) {
            let detail = "ids are this host's: a producer of it has the one that is to be kept";
            return Err(Problem::new(ErrorCode::AlreadyExists, detail).with_pointer("/keepId"));
        }
        let mut problem = None;
        for attempt in 0..=IDS_TRIED {
            let own_id = attempt == 0 && self.create.keep_id != Some(false) && !is_here;
            let there = if own_id { self.create.producer_id.clone() } else { id_or_new(None)? };
            let consumer_id = id_or_new(None)?;
            // Until its counterpart is there, nobody misses it.
            let _young = Young::new(&self.engine.pipes, &consumer_id);
            let consumer = self.consume(pair, &consumer_id, &there).await?;
            match self.produce(source, pair, &consumer, &there).await {
                Ok(()) => {
                    self.engine.pipes.was_born(&pair.here, &there);
                    return Ok(Piped { consumer_id, producer_id: there });
                }
                Err(error) => {
                    self.close_here(|state, who| consumers::close(state, who, &consumer_id)).await;
                    let is_taken = is_taken(&error);
                    if may_be_made(&error) {
                        let _ = self.peer.delete_producer(&there).await;
                    }
                    let refused = self.refused(error);
                    if !is_taken || self.create.keep_id == Some(true) {
                        return Err(refused);
                    }
                    problem = Some(refused);
                }
            }
        }
        Err(problem.unwrap_or_else(|| internal("no id is free at the other end")))
    }

    /// Piped into the same router before?
    fn check_once(&self, pair: &Pair) -> Result<(), Problem> {
        let state = self.engine.lock();
        let registry = &state.registry;
        let producer_id = &self.create.producer_id;
        let consumers = registry.transports.get(&pair.here).map(|one| &one.consumers);
        let consumers = consumers.into_iter().flatten().filter_map(|id| registry.consumers.get(id));
        let mut same = consumers
            .filter(|one| one.info.producer_id == *producer_id && one.far_producer_id.is_some());
        let Some(consumer) = same.next() else { return Ok(()) };
        let detail = format!(
            "{producer_id:?} is piped into this router already, by the consumer {:?}",
            consumer.info.id
        );
        Err(Problem::new(ErrorCode::AlreadyExists, detail).with_pointer("/producerId"))
    }

    async fn consume(&self, pair: &Pair, id: &Id, there: &Id) -> Result<ConsumerInfo, Problem> {
        let create = CreateConsumer {
            id: Some(id.clone()),
            transport_id: pair.here.clone(),
            producer_id: self.create.producer_id.clone(),
            rtp_capabilities: None,
            paused: None,
            preferred_layers: None,
            mid: None,
            enable_rtx: None,
            ignore_dtx: None,
            pipe: None,
            app_data: None,
        };
        let (hash, far) = (hash(&create)?, Some(there.clone()));
        let made = consumers::make(&self.engine, &self.who, create, hash, far).await;
        let (consumers::Made::Before(info) | consumers::Made::Now(info), _) = made.map_err(own)?;
        Ok(*info)
    }

    async fn produce(
        &self,
        source: &Source,
        pair: &Pair,
        consumer: &ConsumerInfo,
        id: &Id,
    ) -> Result<(), ClientError> {
        let create = CreateProducer {
            id: Some(id.clone()),
            transport_id: pair.there.clone(),
            kind: consumer.kind,
            rtp_parameters: consumer.rtp_parameters.clone(),
            paused: Some(source.is_paused || consumer.producer_paused),
            key_frame_request_delay: None,
            piped_from: Some(source.piped_from.clone()),
            app_data: Some(source.app_data.clone()),
        };
        self.peer.create_producer(&create).await
    }

    async fn undo_pair(&self, pair: &Pair) {
        self.close_here(|state, who| transports::close(state, who, &pair.here)).await;
        if let Err(error) = self.peer.delete_transport(&pair.there).await {
            let (url, transport) = (&self.url, &pair.there);
            tracing::warn!(url, %transport, %error, "what was half made at the other end is left");
        }
    }

    async fn close_here(
        &self,
        close: impl Fn(&mut State, &Principal) -> Step<Option<Id>> + Send + Sync,
    ) {
        let closed = self.engine.run(|state| Ok(close(state, &self.who))).await;
        if let Err(problem) = closed {
            tracing::warn!(%problem, "what was half made is left");
        }
    }

    /// What the other host says, as our answer.
    fn refused(&self, error: ClientError) -> Problem {
        refused(&self.url, error)
    }
}

/// What another host says, or that it says nothing.
fn refused(url: &str, error: ClientError) -> Problem {
    match error {
        ClientError::Problem(problem) if url == HERE => own(*problem),
        ClientError::Problem(problem) => {
            let detail = format!("{url}: {}", problem.detail);
            let code = match problem.code {
                // Not the caller's proof is refused, but ours.
                ErrorCode::Unauthenticated => ErrorCode::Forbidden,
                ErrorCode::TooLarge | ErrorCode::UnsupportedMediaType | ErrorCode::EventsLost => {
                    ErrorCode::Internal
                }
                code => code,
            };
            let ours = Problem::new(code, detail);
            match problem.retry_after {
                Some(seconds) => ours.with_retry_after(seconds),
                None => ours,
            }
        }
        error => Problem::new(ErrorCode::Timeout, format!("{url}: {error}")),
    }
}

/// A refusal of one of our own steps: what it points at stands in no request.
fn own(problem: Problem) -> Problem {
    Problem { pointer: None, ..problem }
}

/// The id is somebody's, or was a moment ago.
fn is_taken(error: &ClientError) -> bool {
    let ClientError::Problem(problem) = error else { return false };
    let is_about_id = problem.pointer.as_deref() == Some("/id");
    is_about_id && matches!(problem.code, ErrorCode::AlreadyExists | ErrorCode::WrongState)
}

/// Whether nobody knows if it was done. What was refused was not, and under its id may be somebody
/// else's.
fn may_be_made(error: &ClientError) -> bool {
    let unclear = [ErrorCode::Timeout, ErrorCode::Internal, ErrorCode::DataplaneUnavailable];
    error.code().is_none_or(|code| unclear.contains(&code))
}

/// What the other end is told of one.
fn peer(transport: &TransportInfo) -> Result<ConnectTransport, Problem> {
    let not_one = || internal("a pipe transport is of another kind");
    let PipeLink { tuple, srtp_parameters, .. } = transport.pipe().ok_or_else(not_one)?;
    Ok(ConnectTransport {
        ip: Some(tuple.local_address.clone()),
        port: Some(tuple.local_port),
        srtp_parameters: srtp_parameters.clone(),
        ..ConnectTransport::default()
    })
}

fn hash(body: &impl Serialize) -> Result<BodyHash, Problem> {
    let json = serde_json::to_value(body).map_err(|error| internal(&error.to_string()))?;
    Ok(BodyHash::of(&json))
}
