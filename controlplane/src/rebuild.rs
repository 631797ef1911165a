//! The registry from the dataplane's snapshot: the commands that made everything, what has changed
//! since, and the notes. Called by `attach`. What has no note of ours (made by another controller)
//! gets what can be derived from its parameters.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use ironcast_api::{
    ConsumerInfo, DtlsRole, Id, ObserverInfo, ProducerInfo, RouterInfo, TransportInfo,
    TransportLink,
};
use ironcast_negotiate::{
    default_media_codecs, generate_router_rtp_capabilities, get_consumable_rtp_parameters,
};
use ironcast_protocol::{
    WorkerId,
    command::{Consume, CreateRouter, Produce},
    observer::{CreateObserver, ObserverState},
    snapshot::{ConsumerState, ProducerState, Resource, ResourceCounts, TransportState},
};

use crate::{
    convert,
    limits::Bucket,
    note::{
        self, ConnectNote, ConsumerNote, ObserverNote, ProducerNote, RouterNote, TransportNote,
    },
    registry::{
        Codecs, Observer, Producer, Registry, Router, Transport,
        spread::{self, Parts},
    },
    routes::observers::new_info,
};

/// MIDs of consumers that are gone are not known any more, and a client must not see one again on
/// another track: the count goes on so far above those that are known.
const MIDS_SKIPPED: u32 = 1_000;

/// A registry in the making, apart from the one that is in use.
#[derive(Debug, Default)]
pub struct Rebuild {
    registry: Registry,
    counts: ResourceCounts,
    /// Of rooms on several workers.
    parts: Parts,
    /// What uses mirrors, which are complete at the end only.
    waiting: Vec<Resource>,
}

impl Rebuild {
    /// Takes a part of the snapshot. Parents come before their children.
    pub fn add(&mut self, resources: Vec<Resource>) {
        for resource in resources {
            self.counts.count(resource.kind());
            if uses_mirror(&resource) {
                self.waiting.push(resource);
            } else {
                self.add_one(resource);
            }
        }
    }

    fn add_one(&mut self, resource: Resource) {
        let registry = &mut self.registry;
        let what = match resource {
            Resource::Router { create, worker } => match part_of(&create.id) {
                Some((router, _)) => {
                    self.parts.add_branch(router, worker);
                    Some(())
                }
                None => add_router(registry, create, worker),
            },
            Resource::WebRtcTransport { create, created, connect, state } => {
                let made = Made {
                    id: create.id,
                    router: create.router,
                    note: create.note,
                    connect_note: connect.map(|connect| connect.note),
                };
                add_transport(registry, made, convert::webrtc_link(&created), state)
            }
            Resource::PlainTransport { create, created, connect, state } => {
                let note: TransportNote = note::read(&create.note).unwrap_or_default();
                let link = if create.pipe {
                    convert::pipe_link(&created, note.enable_rtx)
                } else {
                    convert::plain_link(&created, create.comedia)
                };
                let made = Made {
                    id: create.id,
                    router: create.router,
                    note: create.note,
                    connect_note: connect.map(|connect| connect.note),
                };
                add_transport(registry, made, link, state)
            }
            Resource::Hop { create, connect, .. } => {
                self.parts.add_hop(create.id, connect.is_some());
                Some(())
            }
            Resource::Producer { create, state } => match part_of(&create.id) {
                Some((producer, at)) => {
                    let there = at.first().copied().unwrap_or_default();
                    self.parts.add_mirror(producer, there, state.paused);
                    Some(())
                }
                None => add_producer(registry, *create, &state),
            },
            Resource::Consumer { create, state } => match part_of(&create.id) {
                Some((producer, at)) => at.first().zip(at.get(1)).map(|(here, there)| {
                    self.parts.add_pipe(producer, *here, *there);
                }),
                None => add_consumer(registry, *create, &state),
            },
            Resource::Observer { create, state } => add_observer(registry, *create, state),
        };
        if what.is_none() {
            tracing::error!("a resource of the snapshot has no parent or no valid id: left out");
        }
    }

    /// What was made of `sent`, the resources that the dataplane says it has sent: older ones do
    /// not say. `None` when something is missing.
    #[must_use]
    pub fn finish(mut self, sent: Option<ResourceCounts>) -> Option<Registry> {
        std::mem::take(&mut self.parts).finish(&mut self.registry);
        for resource in std::mem::take(&mut self.waiting) {
            self.add_one(resource);
        }
        match sent {
            Some(sent) if sent != self.counts => {
                tracing::error!(?sent, received = ?self.counts, "the snapshot is not complete");
                None
            }
            _ => Some(self.registry),
        }
    }
}

/// What a part of a room on several workers is of, and the workers in its name.
fn part_of(name: &str) -> Option<(Id, Vec<WorkerId>)> {
    spread::parse(name).filter(|(_, workers)| !workers.is_empty())
}

/// Whether it takes packets of a producer on another worker.
fn uses_mirror(resource: &Resource) -> bool {
    let is_mirror = |name: &String| part_of(name).is_some();
    match resource {
        Resource::Consumer { create, .. } => is_mirror(&create.producer) && !is_mirror(&create.id),
        Resource::Observer { state, .. } => state.producers.iter().any(is_mirror),
        _ => false,
    }
}

fn add_router(registry: &mut Registry, create: CreateRouter, worker: WorkerId) -> Option<()> {
    let note: RouterNote = note::read(&create.note).unwrap_or_default();
    let media_codecs = note.media_codecs.unwrap_or_else(default_media_codecs);
    let rtp_capabilities = generate_router_rtp_capabilities(&media_codecs).ok()?;
    let info = RouterInfo {
        id: Id::new(create.id).ok()?,
        worker_id: convert::worker_id(worker),
        workers: Vec::new(),
        rtp_capabilities,
        media_codecs,
        last_n: convert::limit(create.selection.last),
        loudest_n: convert::limit(create.selection.loudest),
        owner: note.owner,
        created_at: note.common.created_at,
        app_data: note.common.app_data,
    };
    registry.insert_router(new_router(info, worker, note.common.hash));
    Some(())
}

/// A router with nothing in it.
#[must_use]
pub fn new_router(mut info: RouterInfo, worker: WorkerId, hash: note::BodyHash) -> Router {
    let codecs = Codecs {
        capabilities: std::mem::take(&mut info.rtp_capabilities),
        media: std::mem::take(&mut info.media_codecs),
    };
    Router {
        owner: info.owner.as_deref().map(Arc::from),
        info,
        codecs: Arc::new(codecs),
        worker,
        branches: BTreeSet::new(),
        hops: BTreeSet::new(),
        spreading: Arc::default(),
        hash,
        transports: BTreeSet::new(),
        participants: BTreeMap::new(),
        producers: BTreeSet::new(),
        consumers: BTreeSet::new(),
        observers: BTreeSet::new(),
        ssrcs: BTreeSet::new(),
        // The first use fills it.
        creations: Bucket::new(u32::MAX, Instant::now()),
    }
}

/// What the commands of all kinds of transports say.
struct Made {
    id: String,
    router: String,
    note: Vec<u8>,
    connect_note: Option<Vec<u8>>,
}

fn add_transport(
    registry: &mut Registry,
    made: Made,
    link: TransportLink,
    state: TransportState,
) -> Option<()> {
    let note: TransportNote = note::read(&made.note).unwrap_or_default();
    let connect_hash = made.connect_note.map(|connect| {
        let note: ConnectNote = note::read(&connect).unwrap_or_default();
        note.hash
    });
    let (router_id, on) = spread::parse(&made.router)?;
    let home = registry.routers.get(&router_id)?.worker;
    let worker = on.first().copied().unwrap_or(home);
    let mut info = new_transport_info(Id::new(made.id).ok()?, router_id, worker, link, &note);
    match &mut info.link {
        TransportLink::Webrtc(link) => {
            link.ice_state = convert::ice_state(state.ice_state);
            link.ice_selected_tuple = state.tuple.map(convert::tuple);
            link.dtls_state = convert::dtls_state(state.dtls_state);
            link.dtls_parameters.role =
                state.dtls_local_role.map_or(DtlsRole::Auto, convert::api_dtls_role);
        }
        TransportLink::Pipe(link) => {
            link.tuple = state.tuple.map_or_else(|| link.tuple.clone(), convert::tuple);
        }
        TransportLink::Plain(link) => {
            link.tuple = state.tuple.map_or_else(|| link.tuple.clone(), convert::tuple);
            link.rtcp_tuple =
                state.rtcp_tuple.map(convert::tuple).or_else(|| link.rtcp_tuple.clone());
        }
    }
    info.max_incoming_bitrate = convert::limit(state.max_incoming_bps);
    info.max_outgoing_bitrate = convert::limit(state.max_outgoing_bps);
    info.min_outgoing_bitrate = convert::limit(state.min_outgoing_bps);
    let mut transport = Transport::new(info, worker, note);
    transport.next_mid = MIDS_SKIPPED;
    transport.connect_hash = connect_hash;
    transport.srtp_profile = state.srtp_profile;
    registry.insert_transport(transport).then_some(())
}

/// As a transport is right after its creation.
#[must_use]
pub fn new_transport_info(
    id: Id,
    router_id: Id,
    worker: WorkerId,
    link: TransportLink,
    note: &TransportNote,
) -> TransportInfo {
    TransportInfo {
        id,
        router_id,
        worker_id: convert::worker_id(worker),
        participant_id: note.participant_id.clone(),
        link,
        max_incoming_bitrate: None,
        max_outgoing_bitrate: None,
        min_outgoing_bitrate: None,
        created_at: note.common.created_at,
        app_data: note.common.app_data.clone(),
    }
}

fn add_producer(registry: &mut Registry, create: Produce, state: &ProducerState) -> Option<()> {
    let note: ProducerNote = note::read(&create.note).unwrap_or_default();
    let transport = registry.transports.get(create.transport.as_str())?;
    let router = registry.routers.get(&transport.info.router_id)?;
    let kind = convert::api_kind(create.kind);
    let rtp_parameters =
        note.rtp_parameters.unwrap_or_else(|| convert::api_rtp_parameters(&create.rtp_parameters));
    let mapping = convert::negotiated_mapping(&create.rtp_mapping);
    let caps = &router.codecs.capabilities;
    let consumable = Arc::new(get_consumable_rtp_parameters(kind, &rtp_parameters, caps, &mapping));
    let info = ProducerInfo {
        id: Id::new(create.id).ok()?,
        router_id: transport.info.router_id.clone(),
        transport_id: transport.info.id.clone(),
        participant_id: transport.info.participant_id.clone(),
        kind,
        producer_type: convert::api_producer_type(state.rtp_type),
        rtp_parameters,
        paused: state.paused,
        score: convert::producer_scores(&state.scores),
        layers_unwatched: state.unwatched.iter().copied().map(u32::from).collect(),
        created_at: note.common.created_at,
        app_data: note.common.app_data,
    };
    let hash = note.common.hash;
    let producer = Producer::new(info, hash, consumable, note.piped_from);
    registry.insert_producer(producer).then_some(())
}

fn add_consumer(registry: &mut Registry, create: Consume, state: &ConsumerState) -> Option<()> {
    let note: ConsumerNote = note::read(&create.note).unwrap_or_default();
    let transport = registry.transports.get_mut(create.transport.as_str())?;
    let producer = registry.producers.get(spread::own_id(&create.producer))?;
    let rtp_parameters =
        note.rtp_parameters.unwrap_or_else(|| convert::api_rtp_parameters(&create.rtp_parameters));
    let mid = rtp_parameters.mid.as_deref().and_then(|mid| mid.parse::<u32>().ok());
    if let Some(above) = mid.and_then(|mid| mid.checked_add(MIDS_SKIPPED)) {
        transport.next_mid = transport.next_mid.max(above);
    }
    let info = ConsumerInfo {
        id: Id::new(create.id).ok()?,
        router_id: transport.info.router_id.clone(),
        transport_id: transport.info.id.clone(),
        participant_id: transport.info.participant_id.clone(),
        producer_id: producer.info.id.clone(),
        kind: producer.info.kind,
        consumer_type: convert::api_consumer_type(create.rtp_type),
        rtp_parameters,
        paused: state.paused,
        producer_paused: state.producer_paused,
        priority: state.priority,
        score: convert::consumer_score(&state.score),
        preferred_layers: state.preferred_layers.map(convert::api_layers),
        current_layers: state.current_layers.map(convert::api_layers),
        created_at: note.common.created_at,
        app_data: note.common.app_data,
    };
    registry.insert_consumer(info, note.common.hash, note.far_producer_id).then_some(())
}

fn add_observer(
    registry: &mut Registry,
    create: CreateObserver,
    state: ObserverState,
) -> Option<()> {
    let note: ObserverNote = note::read(&create.note).unwrap_or_default();
    let (id, router_id) = (Id::new(create.id).ok()?, Id::new(create.router).ok()?);
    let info = ObserverInfo {
        paused: state.paused,
        ..new_info(id, router_id, create.method, &note.common)
    };
    let producers = state.producers.iter().filter_map(|id| Id::new(spread::own_id(id)).ok());
    let producers = producers.filter(|id| registry.producers.contains_key(id)).collect();
    let observer = Observer::new(info, note.common.hash, producers);
    registry.insert_observer(observer).then_some(())
}
