//! Producers: the tracks that peers send.

use std::sync::Arc;

use ironcast_api::{
    CreateProducer, ErrorCode, Id, PIPED_FROM_MAX, PipedFrom, Problem, ProducerInfo, RtpParameters,
    RtpStreamStatsType, events::EventData,
};
use ironcast_negotiate::{NegotiatedProducer, negotiate_producer};
use ironcast_protocol::{Command, Reply, command, snapshot::ResourceKind};

use super::{
    id_or_new,
    routers::check_rate,
    single::{self, named},
};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert,
    engine::{Creation, Engine, Place, State, Step, unexpected},
    events::unix_ms,
    limits::check_count,
    note::{self, Common, ProducerNote},
    registry::{Codecs, Kind, Producer, Router, Transport, consumer_event, producer_event},
};

/// `POST /producers`: what is needed is looked up, negotiated without holding up others, and then
/// sent to the dataplane.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let (mut create, hash) = call.hashed_body::<CreateProducer>()?;
    let piped_from = create.piped_from.take().unwrap_or_default();
    if piped_from.len() > PIPED_FROM_MAX {
        let detail =
            format!("a track that came through {} routers goes no further", piped_from.len());
        return Err(Problem::invalid("/pipedFrom", detail));
    }
    let id = id_or_new(create.id.take())?;
    let common = Common {
        created_at: unix_ms(),
        app_data: create.app_data.take().unwrap_or_default(),
        hash,
    };
    let wanted = Wanted { id, create, common, piped_from, caller: call.caller.clone() };
    loop {
        let (found, seq) = engine.run(|state| find_inputs(state, &wanted)).await?;
        let inputs = match found {
            Found::Existing(info) => return Answer::json(200, &*info, seq),
            Found::Inputs(inputs) => inputs,
        };
        let negotiated = negotiate(&inputs, &wanted)?;
        let (made, seq) = engine.run(|state| commit(state, &wanted, &inputs, &negotiated)).await?;
        if let Some((is_new, info)) = made {
            return Answer::made(is_new, &info, &info.id, &info.router_id, seq);
        }
    }
}

/// A request, read and checked.
struct Wanted {
    id: Id,
    create: CreateProducer,
    common: Common,
    piped_from: Vec<PipedFrom>,
    caller: Principal,
}

impl Wanted {
    /// How many SSRCs its consumers are made from.
    fn streams(&self) -> usize {
        self.create.rtp_parameters.encodings.len().max(1)
    }
}

/// What a first look gives.
enum Found {
    Existing(Box<ProducerInfo>),
    Inputs(Inputs),
}

/// What is negotiated.
struct Inputs {
    codecs: Arc<Codecs>,
    router_id: Id,
    participant_id: Option<Id>,
    cname: String,
    /// The first that was free.
    ssrc: u32,
}

/// The result.
struct Negotiated {
    info: ProducerInfo,
    consumable: Arc<RtpParameters>,
    command: Command,
}

fn check_id(state: &State, wanted: &Wanted) -> Result<Option<Step<ProducerInfo>>, Problem> {
    let existing = |state: &State| {
        Some(state.registry.producer(&wanted.caller, &wanted.id).ok()?.info.clone())
    };
    state.check_id(Kind::Producer, &wanted.id, wanted.common.hash, existing)
}

/// A track that comes back is refused whatever its id is.
fn check_loop(state: &State, wanted: &Wanted) -> Result<(), Problem> {
    let transport = state.registry.transport(&wanted.caller, &wanted.create.transport_id);
    let Ok(router_id) = transport.map(|transport| &transport.info.router_id) else { return Ok(()) };
    let is_here = |from: &PipedFrom| {
        Some(from.host.as_str()) == state.boot_id.as_deref() && from.router_id == *router_id
    };
    if !wanted.piped_from.iter().any(is_here) {
        return Ok(());
    }
    let detail = format!("this track has come through {:?}: that is a loop", router_id.as_str());
    Err(Problem::new(ErrorCode::WrongState, detail).with_pointer("/pipedFrom"))
}

fn find_inputs(state: &State, wanted: &Wanted) -> Result<Step<Found>, Problem> {
    check_loop(state, wanted)?;
    match check_id(state, wanted)? {
        Some(Step::Done(info)) => return Ok(Step::Done(Found::Existing(Box::new(info)))),
        Some(Step::Wait(wait)) => return Ok(Step::Wait(wait)),
        _ => {}
    }
    let (router, transport) = parents(state, wanted)?;
    Ok(Step::Done(Found::Inputs(Inputs {
        codecs: Arc::clone(&router.codecs),
        router_id: router.info.id.clone(),
        participant_id: transport.info.participant_id.clone(),
        cname: transport.cname.clone(),
        ssrc: free_ssrcs(router, wanted.streams()),
    })))
}

/// The transport and its router, with room for one more.
fn parents<'a>(state: &'a State, wanted: &Wanted) -> Result<(&'a Router, &'a Transport), Problem> {
    let (registry, limits, create) = (&state.registry, &state.limits, &wanted.create);
    let transport = registry.transport(&wanted.caller, &create.transport_id);
    let transport = transport.map_err(|problem| problem.with_pointer("/transportId"))?;
    let router_id = &transport.info.router_id;
    let router = registry.routers.get(router_id);
    let router = router.ok_or_else(|| Problem::not_found("router", router_id))?;
    let [on_transport, on_worker] = places(wanted, transport);
    let count = transport.producers.len() + state.on_their_way(Kind::Producer, on_transport);
    // A pipe brings what a whole room sends.
    let max = match transport.info.pipe() {
        Some(_) => limits.consumers_per_transport_max,
        None => limits.producers_per_transport_max,
    };
    check_count(count, max, "producers on this transport")?;
    if limits.producers_per_worker_max > 0 {
        let (there, _) = registry.on_worker(transport.worker);
        let count = there + state.on_their_way(Kind::Producer, on_worker);
        check_count(count, limits.producers_per_worker_max, "producers on this worker")?;
    }
    Ok((router, transport))
}

fn places(wanted: &Wanted, transport: &Transport) -> [Place; 2] {
    [Place::Parent(wanted.create.transport_id.clone()), Place::Worker(transport.worker)]
}

fn negotiate(inputs: &Inputs, wanted: &Wanted) -> Result<Negotiated, Problem> {
    let create = &wanted.create;
    let negotiated = negotiate_producer(
        create.kind,
        create.rtp_parameters.clone(),
        &inputs.codecs.capabilities,
        inputs.ssrc,
        &inputs.cname,
    )
    .map_err(|error| error.into_problem("/rtpParameters"))?;
    let info = ProducerInfo {
        id: wanted.id.clone(),
        router_id: inputs.router_id.clone(),
        transport_id: create.transport_id.clone(),
        participant_id: inputs.participant_id.clone(),
        kind: create.kind,
        producer_type: negotiated.producer_type,
        rtp_parameters: negotiated.rtp_parameters.clone(),
        paused: create.paused.unwrap_or(false),
        score: Vec::new(),
        layers_unwatched: Vec::new(),
        created_at: wanted.common.created_at,
        app_data: wanted.common.app_data.clone(),
    };
    let command = produce(wanted, &info, &negotiated)?;
    Ok(Negotiated { info, consumable: Arc::new(negotiated.consumable_rtp_parameters), command })
}

/// `None`: what was looked up is not so any more, so it is looked up again.
type Made = Option<(bool, ProducerInfo)>;

fn commit(
    state: &mut State,
    wanted: &Wanted,
    inputs: &Inputs,
    negotiated: &Negotiated,
) -> Result<Step<Made>, Problem> {
    match check_id(state, wanted)? {
        Some(Step::Done(info)) => return Ok(Step::Done(Some((false, info)))),
        Some(Step::Wait(wait)) => return Ok(Step::Wait(wait)),
        _ => {}
    }
    let (router, transport) = parents(state, wanted)?;
    let is_as_it_was =
        router.info.id == inputs.router_id && are_free(router, inputs.ssrc, wanted.streams());
    if !is_as_it_was {
        return Ok(Step::Done(None));
    }
    let places = places(wanted, transport).into();
    let owner = router.owner.clone();
    state.check_traffic(&owner)?;
    check_rate(state, &inputs.router_id)?;
    let creation = Creation { kind: Kind::Producer, id: Some(wanted.id.clone()), places };
    let (info, consumable) = (negotiated.info.clone(), Arc::clone(&negotiated.consumable));
    let (hash, piped_from) = (wanted.common.hash, wanted.piped_from.clone());
    Ok(Step::create(creation, negotiated.command.clone(), move |state, reply| {
        let rtp_type = match reply.map_err(|problem| problem.about("/rtpParameters"))? {
            Reply::Produced { rtp_type } => rtp_type,
            other => return Err(unexpected(&other)),
        };
        let info = ProducerInfo { producer_type: convert::api_producer_type(rtp_type), ..info };
        let producer = Producer::new(info.clone(), hash, consumable, piped_from);
        if !state.registry.insert_producer(producer) {
            return Err(Problem::not_found("transport", &info.transport_id));
        }
        let event = EventData::ProducerCreated(producer_event(&info));
        state.events.publish(Some(&info.router_id), event);
        Ok(Some((true, info)))
    }))
}

fn produce(
    wanted: &Wanted,
    info: &ProducerInfo,
    negotiated: &NegotiatedProducer,
) -> Result<Command, Problem> {
    let create = &wanted.create;
    let note = ProducerNote {
        common: wanted.common.clone(),
        rtp_parameters: convert::lost(&negotiated.rtp_parameters),
        piped_from: wanted.piped_from.clone(),
    };
    Ok(Command::Produce(command::Produce {
        id: info.id.to_string(),
        transport: info.transport_id.to_string(),
        kind: convert::kind(create.kind),
        rtp_parameters: convert::rtp_parameters(&negotiated.rtp_parameters),
        rtp_mapping: convert::rtp_mapping(&negotiated.rtp_mapping),
        paused: info.paused,
        key_frame_request_delay_ms: create.key_frame_request_delay.unwrap_or(0),
        note: note::write(&note)?,
    }))
}

/// The first of so many SSRCs in a row that nobody has on this router.
pub fn free_ssrcs(router: &Router, count: usize) -> u32 {
    loop {
        let first: u32 = rand::random();
        if are_free(router, first, count) {
            return first;
        }
    }
}

/// The same for a consumer: those behind the last ones of its transport, if nobody has them.
pub fn next_ssrcs(router: &Router, transport: &Transport, count: usize) -> u32 {
    let next = transport.next_ssrc;
    if are_free(router, next, count) { next } else { free_ssrcs(router, count) }
}

fn are_free(router: &Router, first: u32, count: usize) -> bool {
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    let Some(end) = first.checked_add(count) else { return false };
    // 0 is no SSRC, and mediasoup-client keeps 1234 for a probing stream of its own.
    let is_special = first == 0 || (first..end).contains(&1234);
    !is_special && router.ssrcs.range(first..end).next().is_none()
}

/// One that was looked up for the caller before, or [`seen`] would have refused it.
fn find<'a>(state: &'a mut State, id: &Id) -> Result<&'a mut Producer, Problem> {
    state.registry.producers.get_mut(id).ok_or_else(|| Problem::not_found("producer", id))
}

/// One that the caller sees.
fn seen<'a>(state: &'a State, call: &Call, id: &Id) -> Result<&'a Producer, Problem> {
    state.registry.producer(&call.caller, id)
}

/// `GET /producers/{id}`.
pub async fn get(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| Ok(Step::Done(seen(state, call, id)?.info.clone()));
    let (info, seq) = engine.run(look).await?;
    Answer::json(200, &info, seq)
}

/// The router of one that the caller sees.
fn see(state: &State, who: &Principal, id: &Id) -> Result<Id, Problem> {
    Ok(state.registry.producer(who, id)?.info.router_id.clone())
}

/// `DELETE /producers/{id}`.
pub async fn delete(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    single::delete(engine, call, id, see, Command::CloseProducer, |state, id| {
        state.registry.close_producer(id, true, &mut state.events);
    })
    .await
}

/// `POST /producers/{id}/pause` and `/resume`.
pub async fn pause(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    is_paused: bool,
) -> Result<Answer, Problem> {
    let command = if is_paused { Command::PauseProducer } else { Command::ResumeProducer };
    let set = move |state: &mut State, id: &Id| set_paused(state, id, is_paused);
    single::pause(engine, call, id, see, command, set).await
}

/// Remembers it, and tells it if it is new: of the producer and of each of its consumers.
fn set_paused(state: &mut State, id: &Id, is_paused: bool) -> Result<ProducerInfo, Problem> {
    let producer = find(state, id)?;
    let is_new = producer.info.paused != is_paused;
    producer.info.paused = is_paused;
    let info = producer.info.clone();
    if !is_new {
        return Ok(info);
    }
    let consumers = producer.consumers.clone();
    state.registry.pause_mirrors(id);
    let event = producer_event(&info);
    let event = if is_paused {
        EventData::ProducerPaused(event)
    } else {
        EventData::ProducerResumed(event)
    };
    state.events.publish(Some(&info.router_id), event);
    for id in consumers {
        let Some(consumer) = state.registry.consumers.get_mut(&id) else { continue };
        consumer.info.producer_paused = is_paused;
        let event = consumer_event(&consumer.info);
        let event = if is_paused {
            EventData::ConsumerProducerPause(event)
        } else {
            EventData::ConsumerProducerResume(event)
        };
        state.events.publish(Some(&info.router_id), event);
    }
    Ok(info)
}

/// `GET /producers/{id}/stats`.
pub async fn stats(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (stats, seq) = engine
        .run(|state| {
            seen(state, call, id)?;
            let id = id.clone();
            Ok(Step::ask(Command::ProducerStats(named(&id)), move |state, reply| {
                let stats = match reply? {
                    Reply::ProducerStats(stats) => stats,
                    other => return Err(unexpected(&other)),
                };
                find(state, &id)?;
                let records = stats.iter().map(|one| {
                    let direction = RtpStreamStatsType::InboundRtp;
                    let mut record = convert::stream_stats(direction, &one.stream);
                    record.bitrate_by_layer = Some(one.bitrate_by_layer.clone());
                    record
                });
                Ok(records.collect::<Vec<_>>())
            }))
        })
        .await?;
    Answer::json(200, &stats, seq)
}

/// `GET /producers/{id}/dump`.
pub async fn dump(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| seen(state, call, id).map(drop);
    super::dump(engine, ResourceKind::Producer, id, look).await
}
