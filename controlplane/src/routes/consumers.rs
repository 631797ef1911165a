//! Consumers: the tracks that we send.

use std::{collections::BTreeSet, sync::Arc};

use ironcast_api::{
    ConsumerInfo, CreateConsumer, ErrorCode, EventSeq, Id, MediaKind, PatchConsumer, Problem,
    RtpParameters, RtpStreamStatsType, RtxEncoding,
    events::{ConsumerClosedReason, EventData},
};
use ironcast_negotiate::{
    ConsumerIdentity, ConsumerOptions, PipeIdentity, ValidRtpCapabilities, default_enable_rtx,
    derive_consumer_type, get_consumer_rtp_parameters, get_pipe_consumer_rtp_parameters,
    normalize_preferred_layers,
};
use ironcast_protocol::{Command, Reply, WorkerId, command, media, snapshot::ResourceKind};

use super::{
    done, id_or_new,
    producers::next_ssrcs,
    routers::check_rate,
    single::{self, named},
};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert,
    engine::{Creation, Engine, Place, State, Step, unavailable, unexpected},
    events::unix_ms,
    limits::check_count,
    note::{self, BodyHash, Common, ConsumerNote},
    registry::{Consumer, Kind, Producer, Router, Transport, consumer_event},
    spread,
};

/// `POST /consumers`: what is needed is looked up, negotiated without holding up others, and then
/// sent to the dataplane.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let (create, hash) = call.hashed_body::<CreateConsumer>()?;
    let (made, seq) = make(engine, &call.caller, create, hash, None).await?;
    match made {
        Made::Before(info) => Answer::json(200, &*info, seq),
        Made::Now(info) => Answer::made(true, &*info, &info.id, &info.router_id, seq),
    }
}

/// A consumer that is there now.
pub enum Made {
    /// The same call has made it before.
    Before(Box<ConsumerInfo>),
    Now(Box<ConsumerInfo>),
}

/// Makes a consumer; `far_producer_id` is at the other end of one that [`super::pipes`] makes.
pub async fn make(
    engine: &Arc<Engine>,
    who: &Principal,
    mut create: CreateConsumer,
    hash: BodyHash,
    far_producer_id: Option<Id>,
) -> Result<(Made, EventSeq), Problem> {
    let caps = create.rtp_capabilities.take().map(ValidRtpCapabilities::new).transpose();
    let caps = caps.map_err(|error| error.into_problem("/rtpCapabilities"))?.map(Arc::new);
    let id = id_or_new(create.id.take())?;
    let common = Common {
        created_at: unix_ms(),
        app_data: create.app_data.take().unwrap_or_default(),
        hash,
    };
    let wanted = Wanted { id, create, caps, common, far_producer_id, caller: who.clone() };
    let (found, seq) = engine.run(|state| find_inputs(state, &wanted)).await?;
    let inputs = match found {
        Found::Existing(info) => return Ok((Made::Before(info), seq)),
        Found::Inputs(inputs) => inputs,
    };
    let negotiated = negotiate(&inputs, &wanted)?;
    spread::reach(engine, &wanted.create.producer_id, inputs.worker).await?;
    let ((is_new, info), seq) = engine.run(|state| commit(state, &wanted, &negotiated)).await?;
    let info = Box::new(info);
    Ok((if is_new { Made::Now(info) } else { Made::Before(info) }, seq))
}

/// A request, read and checked.
struct Wanted {
    id: Id,
    create: CreateConsumer,
    caps: Option<Arc<ValidRtpCapabilities>>,
    common: Common,
    far_producer_id: Option<Id>,
    caller: Principal,
}

/// What a first look gives.
enum Found {
    Existing(Box<ConsumerInfo>),
    Inputs(Inputs),
}

/// What is negotiated: shared with the registry, not copied out of it.
struct Inputs {
    consumable: Arc<RtpParameters>,
    receiver: Receiver,
    kind: MediaKind,
    /// Where it is to be sent from.
    worker: WorkerId,
}

/// Who receives.
enum Receiver {
    /// Somebody with these capabilities: one stream, or all of them.
    Peer(Arc<ValidRtpCapabilities>, bool),
    /// Another router: all streams. What is lost on the way is sent again, or not.
    Router(bool),
}

impl Receiver {
    fn of(transport: &Transport, wanted: &Wanted) -> Result<Self, Problem> {
        let create = &wanted.create;
        let Some(link) = transport.info.pipe() else {
            let caps = wanted.caps.as_ref().or(transport.rtp_capabilities.as_ref());
            let caps = caps.ok_or_else(|| {
                let detail = "rtpCapabilities are needed, here or on the transport";
                Problem::invalid("/rtpCapabilities", detail)
            })?;
            return Ok(Self::Peer(Arc::clone(caps), create.pipe == Some(true)));
        };
        if create.pipe == Some(false) {
            let detail = "what is consumed on a pipe transport is a pipe";
            return Err(Problem::invalid("/pipe", detail));
        }
        if create.mid.is_some() {
            return Err(Problem::invalid("/mid", "on a pipe transport there are no MIDs"));
        }
        Ok(Self::Router(create.enable_rtx.unwrap_or(link.rtx)))
    }

    fn is_pipe(&self) -> bool {
        matches!(self, Self::Router(_) | Self::Peer(_, true))
    }
}

/// The result, for a MID and SSRCs that are chosen last.
struct Negotiated {
    parameters: RtpParameters,
    /// The same for the dataplane.
    wire: media::RtpParameters,
    /// The dataplane's form cannot say all of it.
    is_lossy: bool,
    /// All streams.
    is_pipe: bool,
    /// To another router.
    has_mid: bool,
}

impl Negotiated {
    /// Both forms with what is chosen for this consumer: as many SSRCs in a row as [`Self::ssrcs`].
    fn with(&self, mid: Option<String>, ssrc: u32) -> (RtpParameters, media::RtpParameters) {
        let (mut parameters, mut wire) = (self.parameters.clone(), self.wire.clone());
        wire.mid.clone_from(&mid);
        parameters.mid = mid;
        // Two for each, for the stream and its retransmissions.
        for (encoding, index) in parameters.encodings.iter_mut().zip(0..) {
            let ssrc = ssrc + 2 * index;
            encoding.ssrc = Some(ssrc);
            encoding.rtx = encoding.rtx.map(|_| RtxEncoding { ssrc: ssrc + 1 });
        }
        for (encoding, index) in wire.encodings.iter_mut().zip(0..) {
            let ssrc = ssrc + 2 * index;
            encoding.ssrc = Some(ssrc);
            encoding.rtx_ssrc = encoding.rtx_ssrc.map(|_| ssrc + 1);
        }
        (parameters, wire)
    }

    /// How many SSRCs it takes.
    fn ssrcs(&self) -> usize {
        2 * self.parameters.encodings.len()
    }
}

fn check_id(state: &State, wanted: &Wanted) -> Result<Option<Step<Box<ConsumerInfo>>>, Problem> {
    let existing =
        |state: &State| Some(Box::new(seen(state, &wanted.caller, &wanted.id).ok()?.whole_info()));
    state.check_id(Kind::Consumer, &wanted.id, wanted.common.hash, existing)
}

fn find_inputs(state: &State, wanted: &Wanted) -> Result<Step<Found>, Problem> {
    match check_id(state, wanted)? {
        Some(Step::Done(info)) => return Ok(Step::Done(Found::Existing(info))),
        Some(Step::Wait(wait)) => return Ok(Step::Wait(wait)),
        _ => {}
    }
    let (_, transport, producer) = parents(state, wanted)?;
    Ok(Step::Done(Found::Inputs(Inputs {
        consumable: Arc::clone(&producer.consumable),
        receiver: Receiver::of(transport, wanted)?,
        kind: producer.info.kind,
        worker: transport.worker,
    })))
}

fn negotiate(inputs: &Inputs, wanted: &Wanted) -> Result<Negotiated, Problem> {
    // The SSRCs are chosen last.
    let parameters = match &inputs.receiver {
        Receiver::Router(rtx) => {
            let none = PipeIdentity { ssrc: 0, rtx_ssrc: 0 };
            get_pipe_consumer_rtp_parameters(&inputs.consumable, *rtx, none)
        }
        Receiver::Peer(caps, is_pipe) => {
            let enable_rtx = wanted.create.enable_rtx;
            let options = ConsumerOptions {
                consumable_rtp_parameters: &inputs.consumable,
                remote_rtp_capabilities: caps,
                pipe: *is_pipe,
                enable_rtx: enable_rtx.unwrap_or_else(|| default_enable_rtx(inputs.kind)),
            };
            let mid = wanted.create.mid.clone();
            let identity = ConsumerIdentity { mid, ssrc: 0, rtx_ssrc: 0 };
            get_consumer_rtp_parameters(&options, &identity).map_err(|error| {
                // The mid is the request's own field, everything else is about the capabilities.
                let prefix = if error.pointer() == "/mid" { "" } else { "/rtpCapabilities" };
                error.into_problem(prefix)
            })?
        }
    };
    let wire = convert::rtp_parameters(&parameters);
    let is_lossy = convert::api_rtp_parameters(&wire) != parameters;
    let has_mid = matches!(inputs.receiver, Receiver::Peer(..));
    Ok(Negotiated { parameters, wire, is_lossy, is_pipe: inputs.receiver.is_pipe(), has_mid })
}

fn commit(
    state: &mut State,
    wanted: &Wanted,
    negotiated: &Negotiated,
) -> Result<Step<(bool, ConsumerInfo)>, Problem> {
    match check_id(state, wanted)? {
        Some(Step::Done(info)) => return Ok(Step::Done((false, *info))),
        Some(Step::Wait(wait)) => return Ok(Step::Wait(wait)),
        _ => {}
    }
    let (router, transport, producer) = parents(state, wanted)?;
    let owner = router.owner.clone();
    let worker = transport.worker;
    let source = producer.name_on(worker);
    let source = source.ok_or_else(|| unavailable("a worker of this room has just ended"))?;
    let places = vec![Place::Parent(wanted.create.transport_id.clone()), Place::Worker(worker)];
    let (next_mid, mid) = if negotiated.has_mid {
        let (next_mid, mid) = choose_mid(transport, wanted.create.mid.as_ref())?;
        (next_mid, Some(mid))
    } else {
        (transport.next_mid, None)
    };
    let ssrc = next_ssrcs(router, transport, negotiated.ssrcs());
    let next_ssrc = ssrc.wrapping_add(negotiated.ssrcs() as u32);
    let (parameters, wire) = negotiated.with(mid, ssrc);
    let info = describe(transport, producer, wanted, (parameters, negotiated.is_pipe));
    let note = ConsumerNote {
        common: wanted.common.clone(),
        rtp_parameters: negotiated.is_lossy.then(|| info.rtp_parameters.clone()),
        far_producer_id: wanted.far_producer_id.clone(),
    };
    let command = Command::Consume(command::Consume {
        id: wanted.id.to_string(),
        transport: info.transport_id.to_string(),
        producer: source,
        rtp_parameters: wire,
        rtp_type: convert::consumer_type(info.consumer_type),
        paused: info.paused,
        preferred_layers: info.preferred_layers.map(convert::layers),
        ignore_dtx: wanted.create.ignore_dtx.unwrap_or(false),
        note: note::write(&note)?,
    });
    state.check_traffic(&owner)?;
    check_rate(state, &info.router_id)?;
    if let Some(transport) = state.registry.transports.get_mut(&info.transport_id) {
        // Also when the dataplane refuses: a client must never see a MID again on another track.
        transport.next_mid = next_mid;
        transport.next_ssrc = next_ssrc;
        transport.mids.extend(info.rtp_parameters.mid.clone());
    }
    let made = (wanted.common.hash, wanted.far_producer_id.clone());
    let creation = Creation { kind: Kind::Consumer, id: Some(wanted.id.clone()), places };
    Ok(Step::create(creation, command, move |state, reply| consumed(state, info, made, reply)))
}

/// What the dataplane answered.
fn consumed(
    state: &mut State,
    info: ConsumerInfo,
    (hash, far_producer_id): (BodyHash, Option<Id>),
    reply: Result<Reply, Problem>,
) -> Result<(bool, ConsumerInfo), Problem> {
    let consumed = match reply {
        Ok(Reply::Consumed(consumed)) => consumed,
        other => {
            state.registry.free_mid(&info.transport_id, info.rtp_parameters.mid.as_deref());
            // What the dataplane knows as used up may go on behind these SSRCs.
            if let Some(transport) = state.registry.transports.get_mut(&info.transport_id) {
                transport.next_ssrc = rand::random();
            }
            let refused = |problem: Problem| problem.about("/producerId");
            return Err(other.map_or_else(refused, |reply| unexpected(&reply)));
        }
    };
    let info = ConsumerInfo {
        paused: consumed.paused,
        producer_paused: consumed.producer_paused,
        score: convert::consumer_score(&consumed.score),
        preferred_layers: consumed
            .preferred_layers
            .map_or(info.preferred_layers, |layers| Some(convert::api_layers(layers))),
        ..info
    };
    if !state.registry.insert_consumer(info.clone(), hash, far_producer_id) {
        state.registry.free_mid(&info.transport_id, info.rtp_parameters.mid.as_deref());
        return Err(Problem::not_found("producer", &info.producer_id));
    }
    let event = EventData::ConsumerCreated(consumer_event(&info));
    state.events.publish(Some(&info.router_id), event);
    Ok((true, info))
}

/// The transport, the producer and their common router, with room for one more.
fn parents<'a>(
    state: &'a State,
    wanted: &Wanted,
) -> Result<(&'a Router, &'a Transport, &'a Producer), Problem> {
    let (registry, create, who) = (&state.registry, &wanted.create, &wanted.caller);
    let transport = registry.transport(who, &create.transport_id);
    let transport = transport.map_err(|problem| problem.with_pointer("/transportId"))?;
    let producer = registry.producer(who, &create.producer_id);
    let producer = producer.map_err(|problem| problem.with_pointer("/producerId"))?;
    if producer.info.router_id != transport.info.router_id {
        let detail = "the producer is on another router than the transport";
        return Err(Problem::invalid("/producerId", detail));
    }
    let router_id = &transport.info.router_id;
    let router = registry.routers.get(router_id);
    let router = router.ok_or_else(|| Problem::not_found("router", router_id))?;
    let limits = &state.limits;
    let on_their_way = |place| state.on_their_way(Kind::Consumer, place);
    let place = Place::Parent(create.transport_id.clone());
    let count = transport.consumers.len() + on_their_way(place);
    check_count(count, limits.consumers_per_transport_max, "consumers on this transport")?;
    if limits.consumers_per_worker_max > 0 {
        let (_, there) = registry.on_worker(transport.worker);
        let count = there + on_their_way(Place::Worker(transport.worker));
        check_count(count, limits.consumers_per_worker_max, "consumers on this worker")?;
    }
    Ok((router, transport, producer))
}

/// The MID, and where numbers go on.
fn choose_mid(transport: &Transport, asked: Option<&String>) -> Result<(u32, String), Problem> {
    match asked {
        Some(mid) if transport.mids.contains(mid) => {
            let detail = "another consumer of this transport has this mid";
            Err(Problem::new(ErrorCode::AlreadyExists, detail).with_pointer("/mid"))
        }
        Some(mid) => Ok((behind_mid(mid, transport.next_mid), mid.clone())),
        None => Ok(free_mid(&transport.mids, transport.next_mid)),
    }
}

fn describe(
    transport: &Transport,
    producer: &Producer,
    wanted: &Wanted,
    (rtp_parameters, is_pipe): (RtpParameters, bool),
) -> ConsumerInfo {
    let consumer_type = derive_consumer_type(producer.info.producer_type, is_pipe);
    ConsumerInfo {
        id: wanted.id.clone(),
        router_id: transport.info.router_id.clone(),
        transport_id: transport.info.id.clone(),
        participant_id: transport.info.participant_id.clone(),
        producer_id: producer.info.id.clone(),
        kind: producer.info.kind,
        consumer_type,
        preferred_layers: normalize_preferred_layers(
            consumer_type,
            &rtp_parameters,
            wanted.create.preferred_layers,
        ),
        rtp_parameters,
        paused: wanted.create.paused.unwrap_or(false),
        producer_paused: producer.info.paused,
        priority: 1,
        score: Default::default(),
        current_layers: None,
        created_at: wanted.common.created_at,
        app_data: wanted.common.app_data.clone(),
    }
}

/// The next free MID from a number on, and the number behind it.
fn free_mid(taken: &BTreeSet<String>, mut number: u32) -> (u32, String) {
    loop {
        let mid = number.to_string();
        number = number.wrapping_add(1);
        if !taken.contains(&mid) {
            return (number, mid);
        }
    }
}

/// Where numbers go on behind a MID of the caller's choice: a number that he took is not given out
/// again when its consumer has gone. One far ahead of ours is met after a million consumers only.
fn behind_mid(mid: &str, next: u32) -> u32 {
    match mid.parse::<u32>() {
        Ok(number) if number >= next && number - next < 1_000_000 => number + 1,
        _ => next,
    }
}

/// One that was looked up for the caller before, or [`seen`] would have refused it.
fn find<'a>(state: &'a mut State, id: &Id) -> Result<&'a mut Consumer, Problem> {
    let consumer = state.registry.consumers.get_mut(id).map(Box::as_mut);
    consumer.ok_or_else(|| Problem::not_found("consumer", id))
}

/// One that the caller sees.
fn seen<'a>(state: &'a State, who: &Principal, id: &Id) -> Result<&'a Consumer, Problem> {
    state.registry.consumer(who, id)
}

/// `GET /consumers/{id}`.
pub async fn get(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| Ok(Step::Done(seen(state, &call.caller, id)?.whole_info()));
    let (info, seq) = engine.run(look).await?;
    Answer::json(200, &info, seq)
}

/// The router of one that the caller sees.
fn see(state: &State, who: &Principal, id: &Id) -> Result<Id, Problem> {
    Ok(state.registry.consumer(who, id)?.info.router_id.clone())
}

/// `DELETE /consumers/{id}`.
pub async fn delete(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    single::delete(engine, call, id, see, Command::CloseConsumer, forget).await
}

/// The same without a call.
pub fn close(state: &State, who: &Principal, id: &Id) -> Step<Option<Id>> {
    single::close(state, who, id, see, Command::CloseConsumer, forget)
}

fn forget(state: &mut State, id: &Id) {
    let reason = ConsumerClosedReason::Request;
    state.registry.close_consumer(id, reason, true, &mut state.events);
}

/// `POST /consumers/{id}/pause` and `/resume`.
pub async fn pause(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    is_paused: bool,
) -> Result<Answer, Problem> {
    let command = if is_paused { Command::PauseConsumer } else { Command::ResumeConsumer };
    let set = move |state: &mut State, id: &Id| set_paused(state, id, is_paused);
    single::pause(engine, call, id, see, command, set).await
}

/// Remembers it, and tells it if it is new.
fn set_paused(state: &mut State, id: &Id, is_paused: bool) -> Result<ConsumerInfo, Problem> {
    let consumer = find(state, id)?;
    let is_new = consumer.info.paused != is_paused;
    consumer.info.paused = is_paused;
    let info = consumer.whole_info();
    if is_new {
        let event = consumer_event(&info);
        let event = if is_paused {
            EventData::ConsumerPaused(event)
        } else {
            EventData::ConsumerResumed(event)
        };
        state.events.publish(Some(&info.router_id), event);
    }
    Ok(info)
}

/// `POST /consumers/{id}/request-key-frame`.
pub async fn request_key_frame(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
) -> Result<Answer, Problem> {
    call.no_body()?;
    let ((), seq) = engine
        .run(|state| {
            seen(state, &call.caller, id)?;
            Ok(Step::ask(Command::RequestKeyFrame(named(id)), |_, reply| done(reply)))
        })
        .await?;
    Ok(Answer::empty(seq))
}

/// `PATCH /consumers/{id}`: up to two commands, one after the other.
pub async fn patch(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let patch = call.body::<PatchConsumer>()?;
    if let Some(asked) = patch.preferred_layers {
        engine
            .run(|state| {
                let consumer = seen(state, &call.caller, id)?;
                let layers = normalize_preferred_layers(
                    consumer.info.consumer_type,
                    &consumer.parameters(),
                    Some(asked),
                );
                // As with mediasoup: a consumer without layers ignores them.
                let Some(layers) = layers else { return Ok(Step::Done(())) };
                let command = Command::SetPreferredLayers(command::SetPreferredLayers {
                    id: id.to_string(),
                    layers: convert::layers(layers),
                });
                let id = id.clone();
                Ok(Step::ask(command, move |state, reply| {
                    done(reply)?;
                    find(state, &id)?.info.preferred_layers = Some(layers);
                    Ok(())
                }))
            })
            .await?;
    }
    if let Some(priority) = patch.priority {
        engine
            .run(|state| {
                seen(state, &call.caller, id)?;
                let command =
                    Command::SetPriority(command::SetPriority { id: id.to_string(), priority });
                let id = id.clone();
                Ok(Step::ask(command, move |state, reply| {
                    done(reply)?;
                    find(state, &id)?.info.priority = priority;
                    Ok(())
                }))
            })
            .await?;
    }
    get(engine, call, id).await
}

/// `GET /consumers/{id}/stats`.
pub async fn stats(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (stats, seq) = engine
        .run(|state| {
            seen(state, &call.caller, id)?;
            let id = id.clone();
            Ok(Step::ask(Command::ConsumerStats(named(&id)), move |state, reply| {
                let stats = match reply? {
                    Reply::ConsumerStats(stats) => stats,
                    other => return Err(unexpected(&other)),
                };
                find(state, &id)?;
                let outbound = RtpStreamStatsType::OutboundRtp;
                let sent = [&stats.outbound].into_iter().chain(&stats.others);
                let mut records: Vec<_> =
                    sent.map(|one| convert::stream_stats(outbound, one)).collect();
                records[0].layers_reason = stats.layers_reason.map(convert::layers_reason);
                if let Some(inbound) = &stats.inbound {
                    let direction = RtpStreamStatsType::InboundRtp;
                    records.push(convert::stream_stats(direction, inbound));
                }
                Ok(records)
            }))
        })
        .await?;
    Answer::json(200, &stats, seq)
}

/// `GET /consumers/{id}/dump`.
pub async fn dump(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| seen(state, &call.caller, id).map(drop);
    super::dump(engine, ResourceKind::Consumer, id, look).await
}
