//! Observers: who of a router's audio producers speaks.

use std::{collections::BTreeSet, sync::Arc};

use ironcast_api::{
    CreateObserver, Id, MediaKind, ObserverInfo, ObserverType, Problem, events::EventData,
};
use ironcast_protocol::{
    Command, Reply,
    observer::{self, Method, Observe},
    snapshot::ResourceKind,
};

use super::{closed, done, id_or_new, routers::check_rate, single};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    engine::{Creation, Engine, Place, State, Step},
    events::unix_ms,
    limits::check_count,
    note::{self, BodyHash, Common, ObserverNote},
    registry::{Kind, Observer, observer_event},
    spread,
};

/// mediasoup's defaults and bounds.
const THRESHOLD_DEFAULT: i8 = -80;
const ENTRIES_DEFAULT: u16 = 1;
const INTERVAL_MAX_MS: u32 = 5_000;

/// `POST /observers`.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let (mut create, hash) = call.hashed_body::<CreateObserver>()?;
    let id = id_or_new(create.id.take())?;
    let method = method_of(&create)?;
    let common = Common {
        created_at: unix_ms(),
        app_data: create.app_data.take().unwrap_or_default(),
        hash,
    };
    let (router_id, note) = (create.router_id, ObserverNote { common: common.clone() });
    let info = new_info(id, router_id, method, &common);
    let command = Command::CreateObserver(observer::CreateObserver {
        id: info.id.to_string(),
        router: info.router_id.to_string(),
        method,
        note: note::write(&note)?,
    });
    let ((is_new, info), seq) =
        engine.run(|state| begin(state, call, &info, &command, hash)).await?;
    Answer::made(is_new, &info, &info.id, &info.router_id, seq)
}

/// As asked for, with defaults, within the bounds.
fn method_of(create: &CreateObserver) -> Result<Method, Problem> {
    let interval =
        |default: u32, min: u32| create.interval.unwrap_or(default).clamp(min, INTERVAL_MAX_MS);
    match create.observer_type {
        ObserverType::AudioLevel => {
            let threshold = create.threshold.unwrap_or(THRESHOLD_DEFAULT);
            if !(-127..=0).contains(&threshold) {
                return Err(Problem::invalid("/threshold", "a threshold is -127 to 0 dBov"));
            }
            let entries_max = create.max_entries.unwrap_or(ENTRIES_DEFAULT);
            if entries_max == 0 {
                return Err(Problem::invalid("/maxEntries", "at least one is told"));
            }
            Ok(Method::AudioLevel { threshold, interval_ms: interval(1_000, 250), entries_max })
        }
        ObserverType::ActiveSpeaker => {
            let detail = "an observer of the type audiolevel has this";
            if create.threshold.is_some() {
                return Err(Problem::invalid("/threshold", detail));
            }
            if create.max_entries.is_some() {
                return Err(Problem::invalid("/maxEntries", detail));
            }
            Ok(Method::ActiveSpeaker { interval_ms: interval(300, 100) })
        }
    }
}

/// As an observer is right after its creation.
#[must_use]
pub fn new_info(id: Id, router_id: Id, method: Method, common: &Common) -> ObserverInfo {
    let (observer_type, threshold, max_entries) = match method {
        Method::AudioLevel { threshold, entries_max, .. } => {
            (ObserverType::AudioLevel, Some(threshold), Some(entries_max))
        }
        Method::ActiveSpeaker { .. } => (ObserverType::ActiveSpeaker, None, None),
    };
    ObserverInfo {
        id,
        router_id,
        observer_type,
        threshold,
        interval: method.interval_ms(),
        max_entries,
        paused: false,
        producer_ids: Vec::new(),
        created_at: common.created_at,
        app_data: common.app_data.clone(),
    }
}

fn begin(
    state: &mut State,
    call: &Call,
    info: &ObserverInfo,
    command: &Command,
    hash: BodyHash,
) -> Result<Step<(bool, ObserverInfo)>, Problem> {
    let (who, id) = (&call.caller, &info.id);
    let existing =
        |state: &State| Some((false, state.registry.observer(who, id).ok()?.whole_info()));
    if let Some(step) = state.check_id(Kind::Observer, id, hash, existing)? {
        return Ok(step);
    }
    let router = state.registry.router(who, &info.router_id);
    let router = router.map_err(|problem| problem.with_pointer("/routerId"))?;
    let place = Place::Parent(info.router_id.clone());
    let count = router.observers.len() + state.on_their_way(Kind::Observer, place.clone());
    check_count(count, state.limits.observers_per_router_max, "observers in this router")?;
    check_rate(state, &info.router_id)?;
    let creation = Creation { kind: Kind::Observer, id: Some(id.clone()), places: vec![place] };
    let info = info.clone();
    Ok(Step::create(creation, command.clone(), move |state, reply| {
        done(reply)?;
        let observer = Observer::new(info.clone(), hash, BTreeSet::new());
        if !state.registry.insert_observer(observer) {
            return Err(Problem::not_found("router", &info.router_id));
        }
        let event = EventData::ObserverCreated(observer_event(&info));
        state.events.publish(Some(&info.router_id), event);
        Ok((true, info))
    }))
}

/// One that the caller sees.
fn seen<'a>(state: &'a State, call: &Call, id: &Id) -> Result<&'a Observer, Problem> {
    state.registry.observer(&call.caller, id)
}

/// One that was looked up for the caller before.
fn find<'a>(state: &'a mut State, id: &Id) -> Result<&'a mut Observer, Problem> {
    state.registry.observers.get_mut(id).ok_or_else(|| Problem::not_found("observer", id))
}

/// `GET /observers/{id}`.
pub async fn get(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| Ok(Step::Done(seen(state, call, id)?.whole_info()));
    let (info, seq) = engine.run(look).await?;
    Answer::json(200, &info, seq)
}

/// The router of one that the caller sees.
fn see(state: &State, who: &Principal, id: &Id) -> Result<Id, Problem> {
    Ok(state.registry.observer(who, id)?.info.router_id.clone())
}

/// `DELETE /observers/{id}`.
pub async fn delete(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    single::delete(engine, call, id, see, Command::CloseObserver, |state, id| {
        state.registry.close_observer(id, &mut state.events);
    })
    .await
}

/// `POST /observers/{id}/pause` and `/resume`.
pub async fn pause(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    is_paused: bool,
) -> Result<Answer, Problem> {
    let command = if is_paused { Command::PauseObserver } else { Command::ResumeObserver };
    let set = move |state: &mut State, id: &Id| set_paused(state, id, is_paused);
    single::pause(engine, call, id, see, command, set).await
}

/// Remembers it, and tells it if it is new.
fn set_paused(state: &mut State, id: &Id, is_paused: bool) -> Result<ObserverInfo, Problem> {
    let observer = find(state, id)?;
    let is_new = observer.info.paused != is_paused;
    observer.info.paused = is_paused;
    let info = observer.whole_info();
    if is_new {
        let event = observer_event(&info);
        let event = if is_paused {
            EventData::ObserverPaused(event)
        } else {
            EventData::ObserverResumed(event)
        };
        state.events.publish(Some(&info.router_id), event);
    }
    Ok(info)
}

/// `POST /observers/{id}/producers/{producerId}`.
pub async fn add_producer(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    producer_id: &Id,
) -> Result<Answer, Problem> {
    call.no_body()?;
    // It listens on the room's home: what arrives elsewhere is brought there.
    let look = |state: &mut State| {
        let observer = seen(state, call, id)?;
        let home = state.registry.routers.get(&observer.info.router_id).map(|one| one.worker);
        let producer = state.registry.producer(&call.caller, producer_id)?;
        let is_ours = producer.info.router_id == observer.info.router_id;
        Ok(Step::Done(home.filter(|_| is_ours && producer.info.kind == MediaKind::Audio)))
    };
    if let Some(home) = engine.run(look).await?.0 {
        spread::reach(engine, producer_id, home).await?;
    }
    let (info, seq) = engine
        .run(|state| {
            let observer = seen(state, call, id)?;
            let producer = state.registry.producer(&call.caller, producer_id)?;
            if producer.info.router_id != observer.info.router_id {
                return Err(Problem::invalid("", "the producer is in another router"));
            }
            if producer.info.kind != MediaKind::Audio {
                return Err(Problem::invalid("", "observers listen to audio alone"));
            }
            if observer.producers.contains(producer_id) {
                return Ok(Step::Done(observer.whole_info()));
            }
            let max = state.limits.producers_per_observer_max;
            check_count(observer.expected(), max, "producers at this observer")?;
            let coming = observer.expect_one();
            let name = name_of(state, &observer.info.router_id, producer_id)?;
            let (id, producer_id) = (id.clone(), producer_id.clone());
            Ok(Step::ask(Command::ObserveProducer(observe(&id, name)), {
                move |state, reply| {
                    drop(coming);
                    done(reply)?;
                    state.registry.observe(&id, &producer_id);
                    Ok(find(state, &id)?.whole_info())
                }
            }))
        })
        .await?;
    Answer::json(200, &info, seq)
}

/// `DELETE /observers/{id}/producers/{producerId}`.
pub async fn remove_producer(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    producer_id: &Id,
) -> Result<Answer, Problem> {
    let ((), seq) = engine
        .run(|state| {
            let is_there = seen(state, call, id).is_ok_and(|o| o.producers.contains(producer_id));
            if !is_there {
                return Ok(Step::Done(()));
            }
            let router_id = seen(state, call, id)?.info.router_id.clone();
            let name = name_of(state, &router_id, producer_id)?;
            let (id, producer_id) = (id.clone(), producer_id.clone());
            Ok(Step::ask(Command::UnobserveProducer(observe(&id, name)), {
                move |state, reply: Result<Reply, Problem>| {
                    closed(reply)?;
                    state.registry.unobserve(&id, &producer_id);
                    Ok(())
                }
            }))
        })
        .await?;
    Ok(Answer::empty(seq))
}

fn observe(id: &Id, producer: String) -> Observe {
    Observe { id: id.to_string(), producer }
}

/// What the dataplane calls a producer on its room's home.
fn name_of(state: &State, router: &Id, producer: &Id) -> Result<String, Problem> {
    let home = state.registry.routers.get(router).map(|one| one.worker);
    let found = state.registry.producers.get(producer);
    let name = found.zip(home).and_then(|(found, home)| found.name_on(home));
    name.ok_or_else(|| Problem::not_found("producer", producer))
}

/// `GET /observers/{id}/dump`.
pub async fn dump(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| seen(state, call, id).map(drop);
    super::dump(engine, ResourceKind::Observer, id, look).await
}
