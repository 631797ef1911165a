//! Makes what a room needs on a second worker, when it is first needed: a branch for a transport there, a
//! hop between two workers, a mirror of a producer. What these are is in `registry/spread.rs`.
//!
//! All of it takes several commands, one after the other, and one at a time for each room. It goes on
//! when the caller has gone: nothing stays half made. What fails is taken back.

use std::sync::Arc;

use ironcast_api::{ErrorCode, Id, MediaKind, Problem, RtpParameters};
use ironcast_negotiate::{PipeIdentity, get_pipe_consumer_rtp_parameters, negotiate_producer};
use ironcast_protocol::{
    Command, Reply, WorkerId,
    command::{Consume, CreateRouter, Produce, Selection},
    hop::{ConnectHop, CreateHop, HopEnd},
    media::RtpType,
};
use tokio::sync::OwnedMutexGuard;

use crate::{
    call, convert,
    dataplane::Refusal,
    engine::{Creation, Engine, Place, State, Step, refused, unexpected},
    limits::check_count,
    registry::{Codecs, Kind, spread},
    routes::free_ssrcs,
};

/// A room is to be on a worker.
///
/// # Errors
/// The router is gone, the worker does not run, no capacity.
pub async fn branch(engine: &Arc<Engine>, router: &Id, worker: WorkerId) -> Result<(), Problem> {
    let router = router.clone();
    if engine.run(|state| find_branch(state, &router, worker)).await?.0.is_none() {
        return Ok(());
    }
    let engine = Arc::clone(engine);
    in_peace(async move {
        let _alone = alone(&engine, &router).await?;
        let missing = engine.run(|state| find_branch(state, &router, worker)).await?.0;
        let Some(selection) = missing else { return Ok(()) };
        match engine.run(|state| make_branch(state, &router, worker, selection)).await {
            Ok((true, _)) => Ok(()),
            Ok((false, _)) => Err(Problem::not_found("router", &router)),
            // The answer to an earlier try was lost.
            Err(problem) if problem.code == ErrorCode::AlreadyExists => {
                engine.lock().registry.insert_branch(&router, worker);
                Ok(())
            }
            Err(problem) => Err(problem),
        }
    })
    .await
}

/// What a branch is to be made with; none where the room is on that worker.
fn find_branch(
    state: &State,
    router: &Id,
    worker: WorkerId,
) -> Result<Step<Option<Selection>>, Problem> {
    let found = state.registry.routers.get(router);
    let found = found.ok_or_else(|| Problem::not_found("router", router))?;
    let is_there = found.workers().any(|known| known == worker);
    Ok(Step::Done((!is_there).then(|| convert::selection(&found.info))))
}

/// False: the room is gone meanwhile.
fn make_branch(
    state: &State,
    router: &Id,
    worker: WorkerId,
    selection: Selection,
) -> Result<Step<bool>, Problem> {
    let max = state.limits.routers_per_worker_max;
    check_count(state.rooms_on(worker), max, "routers on this worker")?;
    let id = spread::branch(router, worker);
    let create = Command::CreateRouter(CreateRouter { id, worker, selection, note: Vec::new() });
    let places = vec![Place::Worker(worker)];
    let creation = Creation { kind: Kind::Router, id: None, places };
    let router = router.clone();
    Ok(Step::create(creation, create, move |state, reply| match reply? {
        Reply::Done => Ok(state.registry.insert_branch(&router, worker)),
        other => Err(unexpected(&other)),
    }))
}

/// A producer's packets are to be had on a worker that its room is on.
///
/// # Errors
/// The producer is gone, a worker does not run, no capacity.
pub async fn reach(engine: &Arc<Engine>, producer: &Id, worker: WorkerId) -> Result<(), Problem> {
    let producer = producer.clone();
    if engine.run(|state| is_there(state, &producer, worker)).await?.0 {
        return Ok(());
    }
    let engine = Arc::clone(engine);
    in_peace(async move {
        let router = engine.run(|state| router_of(state, &producer)).await?.0;
        let _alone = alone(&engine, &router).await?;
        if engine.run(|state| is_there(state, &producer, worker)).await?.0 {
            return Ok(());
        }
        let (source, _) = engine.run(|state| source(state, &producer, worker)).await?;
        if !source.has_hop {
            connect(&engine, &source).await?;
        }
        let made = mirror(&engine, &source).await;
        if made.is_err() {
            let here = source.here.0;
            engine.lock().registry.close_mirror(&producer, here, worker);
        }
        made
    })
    .await
}

fn is_there(state: &mut State, producer: &Id, worker: WorkerId) -> Result<Step<bool>, Problem> {
    let is_there = state.registry.is_within_reach(producer, worker);
    Ok(Step::Done(is_there.ok_or_else(|| Problem::not_found("producer", producer))?))
}

fn router_of(state: &State, producer: &Id) -> Result<Step<Id>, Problem> {
    let found = state.registry.producers.get(producer);
    let found = found.ok_or_else(|| Problem::not_found("producer", producer))?;
    Ok(Step::Done(found.info.router_id.clone()))
}

/// What a mirror is made from.
struct Source {
    router: Id,
    codecs: Arc<Codecs>,
    producer: Id,
    kind: MediaKind,
    consumable: Arc<RtpParameters>,
    is_paused: bool,
    /// Where it is, and where it is to be, with the names of the room there.
    here: (WorkerId, String),
    there: (WorkerId, String),
    has_hop: bool,
    /// The first of those that its streams have on the way.
    ssrc: u32,
}

fn source(state: &State, producer: &Id, worker: WorkerId) -> Result<Step<Source>, Problem> {
    let registry = &state.registry;
    let found = registry.producers.get(producer);
    let found = found.ok_or_else(|| Problem::not_found("producer", producer))?;
    let router = registry.routers.get(&found.info.router_id);
    let router = router.ok_or_else(|| Problem::not_found("router", &found.info.router_id))?;
    Ok(Step::Done(Source {
        router: router.info.id.clone(),
        codecs: Arc::clone(&router.codecs),
        producer: producer.clone(),
        kind: found.info.kind,
        consumable: Arc::clone(&found.consumable),
        is_paused: found.info.paused,
        here: (found.worker, router.name_on(found.worker)),
        there: (worker, router.name_on(worker)),
        has_hop: router.has_hop(found.worker, worker),
        ssrc: free_ssrcs(router, 2 * found.consumable.encodings.len().max(1)),
    }))
}

/// Both ends of a hop, and each told where the other is.
async fn connect(engine: &Arc<Engine>, source: &Source) -> Result<(), Problem> {
    let (router, (one, one_router), (other, other_router)) =
        (&source.router, &source.here, &source.there);
    let (one_id, other_id) = (spread::hop(router, *one, *other), spread::hop(router, *other, *one));
    let made = async {
        let one_end = end(engine, &one_id, one_router).await?;
        let other_end = end(engine, &other_id, other_router).await?;
        for (id, far) in [(&one_id, other_end), (&other_id, one_end)] {
            let connect = ConnectHop { id: id.clone(), far, note: Vec::new() };
            order(engine, Command::ConnectHop(connect), |_, reply| done(&reply)).await?;
        }
        Ok(())
    };
    let made: Result<(), Problem> = made.await;
    let mut state = engine.lock();
    match made {
        Ok(()) if state.registry.insert_hop(router, *one, *other) => Ok(()),
        Ok(()) => Err(Problem::not_found("router", router)),
        Err(problem) => {
            state.registry.close_hop(router, *one, *other);
            Err(problem)
        }
    }
}

async fn end(engine: &Arc<Engine>, id: &str, router: &str) -> Result<HopEnd, Problem> {
    let create = CreateHop { id: id.to_owned(), router: router.to_owned(), note: Vec::new() };
    order(engine, Command::CreateHop(create), |_, reply| match reply {
        Reply::HopCreated(end) => Ok(end),
        other => Err(unexpected(&other)),
    })
    .await
}

/// A pipe into the hop, and at its other end a producer of what comes out.
async fn mirror(engine: &Arc<Engine>, source: &Source) -> Result<(), Problem> {
    let (here, there) = (source.here.0, source.there.0);
    // In memory nothing is lost but what does not fit: that is repeated by RTX.
    let streams = source.consumable.encodings.len().max(1) as u32;
    let first = PipeIdentity { ssrc: source.ssrc, rtx_ssrc: source.ssrc + streams };
    let parameters = get_pipe_consumer_rtp_parameters(&source.consumable, true, first);
    let consume = Consume {
        id: spread::pipe(&source.producer, here, there),
        transport: spread::hop(&source.router, here, there),
        producer: source.producer.to_string(),
        rtp_parameters: convert::rtp_parameters(&parameters),
        rtp_type: RtpType::Pipe,
        paused: false,
        preferred_layers: None,
        ignore_dtx: false,
        note: Vec::new(),
    };
    order(engine, Command::Consume(consume), |_, reply| match reply {
        Reply::Consumed(_) => Ok(()),
        other => Err(unexpected(&other)),
    })
    .await?;
    let cname = parameters.rtcp.cname.clone().unwrap_or_default();
    let capabilities = &source.codecs.capabilities;
    let negotiated = negotiate_producer(source.kind, parameters, capabilities, 1, &cname)
        .map_err(|error| call::internal(&error.to_string()))?;
    let produce = Produce {
        id: spread::mirror(&source.producer, there),
        transport: spread::hop(&source.router, there, here),
        kind: convert::kind(source.kind),
        rtp_parameters: convert::rtp_parameters(&negotiated.rtp_parameters),
        rtp_mapping: convert::rtp_mapping(&negotiated.rtp_mapping),
        paused: source.is_paused,
        key_frame_request_delay_ms: 0,
        note: Vec::new(),
    };
    let (producer, is_paused) = (source.producer.clone(), source.is_paused);
    let is_there = order(engine, Command::Produce(produce), move |state, reply| match reply {
        Reply::Produced { .. } => {
            Ok(state.registry.insert_mirror(&producer, (here, there), is_paused))
        }
        other => Err(unexpected(&other)),
    })
    .await?;
    if is_there { Ok(()) } else { Err(Problem::not_found("producer", &source.producer)) }
}

/// Sends a command; `then` is what its answer changes.
async fn order<T: Send + 'static>(
    engine: &Arc<Engine>,
    command: Command,
    then: impl FnOnce(&mut State, Reply) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let mut once = Some((command, then));
    let asked = engine.run(move |_| {
        let (command, then) = once.take().ok_or_else(|| call::internal("asked twice"))?;
        Ok(Step::ask(command, move |state, reply| then(state, reply?)))
    });
    Ok(asked.await?.0)
}

fn done(reply: &Reply) -> Result<(), Problem> {
    match reply {
        Reply::Done => Ok(()),
        other => Err(unexpected(other)),
    }
}

/// Nobody else makes anything for this room meanwhile, and what was to be closed has been: it would be
/// taken for what is made.
async fn alone(engine: &Arc<Engine>, router: &Id) -> Result<OwnedMutexGuard<()>, Problem> {
    let lock = engine.lock().registry.routers.get(router).map(|one| Arc::clone(&one.spreading));
    let lock = lock.ok_or_else(|| Problem::not_found("router", router))?.lock_owned().await;
    if engine.lock().finish_errands() { Ok(lock) } else { Err(refused(&Refusal::Busy)) }
}

/// To the end, also when whoever asked for it does not wait any more.
async fn in_peace<T: Send + 'static>(
    work: impl Future<Output = Result<T, Problem>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(work).await.unwrap_or_else(|_| Err(call::internal("this was interrupted")))
}
