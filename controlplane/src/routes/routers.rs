//! Routers: one for each room.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use ironcast_api::{
    CanConsume, CanConsumeAnswer, CreateRouter, ErrorCode, Id, Problem, RouterDetails, RouterInfo,
    events::{EventData, RouterClosedReason, RouterCreated},
};
use ironcast_negotiate::{
    can_consume as negotiate, default_media_codecs, generate_router_rtp_capabilities,
};
use ironcast_protocol::{Command, Reply, WorkerId, command};

use super::id_or_new;
use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert, drain,
    engine::{Creation, Engine, Place, State, Step, unavailable, unexpected},
    events::unix_ms,
    limits::{check_count, rate_limited},
    note::{self, BodyHash, Common, RouterNote},
    rebuild::new_router,
    registry::Kind,
};

/// Largest `lastN` and `loudestN`.
const SELECTION_MAX: u16 = 1_000;

/// An answer and whether something was made for it.
type Made<T> = (bool, T);

/// `POST /routers`.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let (mut create, hash) = call.hashed_body::<CreateRouter>()?;
    for (field, value) in [("lastN", create.last_n), ("loudestN", create.loudest_n)] {
        if value.is_some_and(|value| !(1..=SELECTION_MAX).contains(&value)) {
            let detail = format!("{field} is 1 to {SELECTION_MAX}; without it there is no limit");
            return Err(
                Problem::new(ErrorCode::InvalidRequest, detail).with_pointer(format!("/{field}"))
            );
        }
    }
    let id = id_or_new(create.id.take())?;
    let media_codecs = create.media_codecs.take().unwrap_or_else(default_media_codecs);
    let rtp_capabilities = generate_router_rtp_capabilities(&media_codecs)
        .map_err(|error| error.into_problem("/mediaCodecs"))?;
    let common = Common {
        created_at: unix_ms(),
        app_data: create.app_data.take().unwrap_or_default(),
        hash,
    };
    let owner = call.caller.owner().map(|name| name.to_string());
    let note = RouterNote {
        common: common.clone(),
        media_codecs: Some(media_codecs.clone()),
        owner: owner.clone(),
    };
    let note = note::write(&note)?;
    let info = RouterInfo {
        id: id.clone(),
        // Chosen below, when the place is free.
        worker_id: convert::worker_id(0),
        workers: Vec::new(),
        rtp_capabilities,
        media_codecs,
        last_n: create.last_n,
        loudest_n: create.loudest_n,
        owner,
        created_at: common.created_at,
        app_data: common.app_data,
    };
    let ((is_new, info), seq) =
        engine.run(|state| place(state, &call.caller, &create, &info, &note, hash)).await?;
    Answer::made(is_new, &info, &info.id, &info.id, seq)
}

fn place(
    state: &mut State,
    who: &Principal,
    create: &CreateRouter,
    info: &RouterInfo,
    note: &[u8],
    hash: BodyHash,
) -> Result<Step<Made<RouterInfo>>, Problem> {
    let id = &info.id;
    let existing = |state: &State| Some((false, state.registry.router(who, id).ok()?.whole_info()));
    if let Some(step) = state.check_id(Kind::Router, id, hash, existing)? {
        return Ok(step);
    }
    drain::check(state)?;
    // Right after the dataplane's start: repeated a moment later, it is done.
    if let Some(why) = state.workers.why_none_runs() {
        return Err(unavailable(why));
    }
    let count = state.registry.routers.len() + state.on_their_way(Kind::Router, Place::Host);
    check_count(count, state.limits.routers_max, "routers on this host")?;
    let owner = info.owner.as_deref().map(Arc::from);
    state.check_routers(&owner)?;
    let placement = create.placement.unwrap_or_default();
    let full = state.full();
    let key = create.placement_key.as_ref().unwrap_or(id).as_str();
    let worker = state.workers.place(key, create.worker_id.as_ref(), placement, &full)?;
    let worker_id = convert::worker_id(worker);
    let info = RouterInfo { workers: vec![worker_id.clone()], worker_id, ..info.clone() };
    let command = Command::CreateRouter(command::CreateRouter {
        id: id.to_string(),
        worker,
        selection: convert::selection(&info),
        note: note.to_vec(),
    });
    let places =
        [Place::Host, Place::Worker(worker)].into_iter().chain(owner.map(Place::Owner)).collect();
    let creation = Creation { kind: Kind::Router, id: Some(id.clone()), places };
    Ok(Step::create(creation, command, move |state, reply| {
        created(state, info, worker, hash, reply)
    }))
}

fn created(
    state: &mut State,
    info: RouterInfo,
    worker: WorkerId,
    hash: BodyHash,
    reply: Result<Reply, Problem>,
) -> Result<Made<RouterInfo>, Problem> {
    match reply? {
        Reply::Done => {}
        other => return Err(unexpected(&other)),
    }
    let router = new_router(info.clone(), worker, hash);
    state.events.own(&info.id, router.owner.as_ref());
    state.registry.insert_router(router);
    let event = RouterCreated { worker_id: info.worker_id.clone() };
    state.events.publish(Some(&info.id), EventData::RouterCreated(event));
    Ok((true, info))
}

/// `GET /routers/{id}`.
pub async fn get(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let ((packed, details), seq) = engine
        .run(|state| {
            let router = state.registry.router(&call.caller, id)?;
            let ids = |ids: &BTreeSet<Id>| ids.iter().cloned().collect::<Vec<Id>>();
            let below =
                [&router.transports, &router.producers, &router.consumers, &router.observers];
            let below = below.map(ids);
            Ok(Step::Done((router.packed_info(), below)))
        })
        .await?;
    let (router, [transports, producers, consumers, observers]) = (packed.unpack(), details);
    let details = RouterDetails { router, transports, producers, consumers, observers };
    Answer::json(200, &details, seq)
}

/// `DELETE /routers/{id}`.
pub async fn delete(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (was_there, seq) = engine
        .run(|state| {
            // Another's is not there, and what is not there is deleted.
            if state.registry.router(&call.caller, id).is_err() {
                return Ok(Step::Done(false));
            }
            let command = Command::CloseRouter(command::Named { id: id.to_string() });
            let id = id.clone();
            Ok(Step::ask(command, move |state, reply| {
                super::closed(reply)?;
                let reason = RouterClosedReason::Request;
                state.registry.close_router(&id, reason, &mut state.events);
                Ok(true)
            }))
        })
        .await?;
    Ok(Answer::closed(id, was_there.then_some(id), seq))
}

/// `POST /routers/{id}/can-consume`.
pub async fn can_consume(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let asked = call.body::<CanConsume>()?;
    let (consumable, seq) = engine
        .run(|state| {
            let registry = &state.registry;
            registry.router(&call.caller, id)?;
            let producer = registry.producers.get(&asked.producer_id);
            let producer = producer.filter(|producer| producer.info.router_id == *id);
            let producer = producer.ok_or_else(|| {
                Problem::not_found("producer", &asked.producer_id).with_pointer("/producerId")
            })?;
            Ok(Step::Done(Arc::clone(&producer.consumable)))
        })
        .await?;
    let can_consume = negotiate(&consumable, &asked.rtp_capabilities)
        .map_err(|error| error.into_problem("/rtpCapabilities"))?;
    Answer::json(200, &CanConsumeAnswer { can_consume }, seq)
}

/// Counts something that is to be made in a router against its rate.
pub fn check_rate(state: &mut State, router: &Id) -> Result<(), Problem> {
    let per_s = state.limits.creations_per_router_per_s;
    let Some(router) = state.registry.routers.get_mut(router) else {
        return Err(Problem::not_found("router", router).with_pointer("/routerId"));
    };
    if router.creations.take(per_s, Instant::now()) {
        Ok(())
    } else {
        Err(rate_limited("creations in this router", per_s))
    }
}
