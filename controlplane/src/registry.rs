//! Everything that exists: routers, transports, producers, consumers, and how they hang together.
//! Owned by the state, changed when the dataplane has answered, and by its events. Closing one
//! thing closes what hangs below it here, exactly as the dataplane does there, and says so in events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use ironcast_api::{
    ConsumerInfo, DtlsFingerprint, Id, PipedFrom, ProducerInfo, RouterCounts, RouterInfo,
    RtpParameters, TransportInfo,
    events::{
        ConsumerClosed, ConsumerClosedReason, ConsumerEvent, EventData, ProducerEvent,
        RouterClosed, RouterClosedReason, TransportClosed, TransportClosedReason,
    },
};
use ironcast_negotiate::ValidRtpCapabilities;
use ironcast_protocol::{
    Command, WorkerId,
    attic::{Attic, Stored},
};

mod codecs;
mod observers;
mod remains;
pub mod spread;
mod tenants;

pub use codecs::Codecs;
pub use observers::{Observer, observer_event};
pub use remains::PORTION;
pub use tenants::{Holdings, Owner};

use crate::{
    convert,
    events::EventLog,
    limits::Bucket,
    note::{BodyHash, Far, TransportNote},
};

/// An id that was deleted cannot be made again for so long: a late repeat would revive it.
const DELETED_TIME: Duration = Duration::from_secs(60);
/// Deleted ids that are remembered.
const DELETED_MAX: usize = 200_000;

/// The kinds of resources. Each has ids of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A room.
    Router,
    /// A peer's connection.
    Transport,
    /// A received track.
    Producer,
    /// A sent track.
    Consumer,
    /// Who listens to a room.
    Observer,
}

impl Kind {
    /// For messages.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Router => "router",
            Self::Transport => "transport",
            Self::Producer => "producer",
            Self::Consumer => "consumer",
            Self::Observer => "observer",
        }
    }
}

/// A room.
#[derive(Debug)]
pub struct Router {
    /// Without the codecs, which many routers share: see [`Router::whole_info`].
    pub info: RouterInfo,
    pub codecs: Arc<Codecs>,
    /// Its home.
    pub worker: WorkerId,
    /// The others that it is on.
    pub branches: BTreeSet<WorkerId>,
    /// Which of them are connected, the lower number first.
    pub hops: BTreeSet<(WorkerId, WorkerId)>,
    /// Held by whoever makes one of these.
    pub spreading: Arc<tokio::sync::Mutex<()>>,
    pub hash: BodyHash,
    /// Who made it.
    pub owner: Owner,
    pub transports: BTreeSet<Id>,
    /// Those who have a transport, and how many.
    pub participants: BTreeMap<Id, u32>,
    pub producers: BTreeSet<Id>,
    pub consumers: BTreeSet<Id>,
    pub observers: BTreeSet<Id>,
    /// SSRCs that we chose: mapped ones of producers, those of consumers.
    pub ssrcs: BTreeSet<u32>,
    pub creations: Bucket,
}

impl Router {
    /// As the API describes it.
    #[must_use]
    pub fn whole_info(&self) -> RouterInfo {
        self.packed_info().unpack()
    }

    /// The same for later: copying the codecs takes longer than everything else.
    #[must_use]
    pub fn packed_info(&self) -> PackedRouter {
        let workers = self.workers().map(convert::worker_id).collect();
        let info = RouterInfo { workers, ..self.info.clone() };
        PackedRouter { info, codecs: Arc::clone(&self.codecs) }
    }

    /// How much hangs below it.
    #[must_use]
    pub fn counts(&self) -> RouterCounts {
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        RouterCounts {
            participants: count(self.participants.len()),
            transports: count(self.transports.len()),
            producers: count(self.producers.len()),
            consumers: count(self.consumers.len()),
        }
    }
}

/// A router's description that is unpacked without the lock.
pub struct PackedRouter {
    info: RouterInfo,
    codecs: Arc<Codecs>,
}

impl PackedRouter {
    /// As the API describes it.
    #[must_use]
    pub fn unpack(self) -> RouterInfo {
        RouterInfo {
            rtp_capabilities: self.codecs.capabilities.clone(),
            media_codecs: self.codecs.media.clone(),
            ..self.info
        }
    }
}

/// A peer's connection.
#[derive(Debug)]
pub struct Transport {
    /// Without the fingerprints, which all transports share: see [`Transport::whole_info`].
    pub info: TransportInfo,
    fingerprints: Arc<[DtlsFingerprint]>,
    pub worker: WorkerId,
    pub hash: BodyHash,
    /// Of the `connect` that was carried out.
    pub connect_hash: Option<BodyHash>,
    /// Default of its consumers.
    pub rtp_capabilities: Option<Arc<ValidRtpCapabilities>>,
    pub producers: BTreeSet<Id>,
    pub consumers: BTreeSet<Id>,
    /// MIDs of its consumers, those on their way included.
    pub mids: BTreeSet<String>,
    pub next_mid: u32,
    /// SSRCs of its consumers go on here: in a row, so that the dataplane remembers those that are used
    /// up as some runs.
    pub next_ssrc: u32,
    /// What it last carried, both ways, bits per second; known where that is limited.
    pub bps: u64,
    /// Of the producers whose client gives none: those of one peer are played in step.
    pub cname: String,
    pub srtp_profile: Option<String>,
    /// Where a pipe of `POST /pipes` leads.
    pub far: Option<Box<Far>>,
}

impl Transport {
    /// With nothing on it.
    #[must_use]
    pub fn new(info: TransportInfo, worker: WorkerId, note: TransportNote) -> Self {
        // Eight characters, as mediasoup makes them.
        let cname = format!("{:08x}", rand::random::<u32>());
        Self {
            info,
            fingerprints: Arc::default(),
            worker,
            hash: note.common.hash,
            connect_hash: None,
            rtp_capabilities: note
                .rtp_capabilities
                .and_then(|caps| ValidRtpCapabilities::new(caps).ok())
                .map(Arc::new),
            producers: BTreeSet::new(),
            consumers: BTreeSet::new(),
            mids: BTreeSet::new(),
            next_mid: 0,
            next_ssrc: rand::random(),
            bps: 0,
            cname,
            srtp_profile: None,
            far: note.far.map(Box::new),
        }
    }

    /// As the API describes it.
    #[must_use]
    pub fn whole_info(&self) -> TransportInfo {
        let mut info = self.info.clone();
        if let Some(link) = info.webrtc_mut() {
            link.dtls_parameters.fingerprints = self.fingerprints.to_vec();
        }
        info
    }
}

/// A received track.
#[derive(Debug)]
pub struct Producer {
    pub info: ProducerInfo,
    pub hash: BodyHash,
    /// What its consumers are made from.
    pub consumable: Arc<RtpParameters>,
    /// The routers that it has come through.
    pub piped_from: Vec<PipedFrom>,
    pub consumers: BTreeSet<Id>,
    pub observers: BTreeSet<Id>,
    /// That of its transport.
    pub worker: WorkerId,
    /// Its copies on other workers.
    pub mirrors: BTreeMap<WorkerId, spread::Mirror>,
}

impl Producer {
    /// Nobody takes it yet.
    #[must_use]
    pub fn new(
        info: ProducerInfo,
        hash: BodyHash,
        consumable: Arc<RtpParameters>,
        piped_from: Vec<PipedFrom>,
    ) -> Self {
        Self {
            info,
            hash,
            consumable,
            piped_from,
            consumers: BTreeSet::new(),
            observers: BTreeSet::new(),
            // That of its transport, which it is put on next.
            worker: 0,
            mirrors: BTreeMap::new(),
        }
    }
}

/// A sent track.
#[derive(Debug)]
pub struct Consumer {
    /// Without the RTP parameters: see [`Consumer::parameters`].
    pub info: ConsumerInfo,
    pub hash: BodyHash,
    /// That of its transport.
    pub worker: WorkerId,
    pub mid: Option<String>,
    /// Of a pipe of `POST /pipes`: the producer at its other end.
    pub far_producer_id: Option<Box<Id>>,
    /// None when they cannot be encoded, which a test rules out.
    parameters: Option<Arc<Stored>>,
}

impl Consumer {
    /// What it receives.
    #[must_use]
    pub fn parameters(&self) -> RtpParameters {
        self.parameters.as_ref().and_then(|stored| stored.read().ok()).unwrap_or_default()
    }

    /// As the API describes it.
    #[must_use]
    pub fn whole_info(&self) -> ConsumerInfo {
        self.packed_info().unpack()
    }

    /// The same for later: unpacking takes longer than everything else.
    #[must_use]
    pub fn packed_info(&self) -> PackedInfo {
        PackedInfo { info: self.info.clone(), parameters: self.parameters.clone() }
    }
}

/// A consumer's description that is unpacked without the lock.
pub struct PackedInfo {
    info: ConsumerInfo,
    parameters: Option<Arc<Stored>>,
}

impl PackedInfo {
    /// As the API describes it.
    #[must_use]
    pub fn unpack(self) -> ConsumerInfo {
        let parameters = self.parameters.as_ref().and_then(|stored| stored.read().ok());
        ConsumerInfo { rtp_parameters: parameters.unwrap_or_default(), ..self.info }
    }
}

/// How the end of something is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// By an event of its own.
    Itself,
    /// The event of what it hung below implies it.
    Implied,
}

impl Told {
    fn publish(self, log: &mut EventLog, router_id: &Id, data: impl FnOnce() -> EventData) {
        match self {
            Self::Itself => log.publish(Some(router_id), data()),
            Self::Implied => log.publish_implied(router_id, data),
        }
    }
}

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Registry {
    pub routers: BTreeMap<Id, Router>,
    pub transports: BTreeMap<Id, Transport>,
    pub producers: BTreeMap<Id, Producer>,
    /// Boxed: a map's nodes have room for eleven values, and many stay half empty.
    pub consumers: BTreeMap<Id, Box<Consumer>>,
    pub observers: BTreeMap<Id, Observer>,
    /// Transports that lead to other hosts; some may be gone.
    pub trunks: BTreeSet<Id>,
    fingerprints: Arc<[DtlsFingerprint]>,
    codecs: codecs::Shared,
    remains: remains::Remains,
    /// Mirrors that nobody used when they came here.
    idle_mirrors: VecDeque<(Id, WorkerId)>,
    /// What the dataplane is to do: see [`spread`].
    errands: VecDeque<Command>,
    /// By principal.
    holdings: HashMap<Arc<str>, Holdings>,
    /// Routers and branches on each worker that has some.
    rooms: BTreeMap<WorkerId, usize>,
    /// There are more consumers than of everything else, and their parameters are read seldom.
    parameters: Attic,
    /// Hashes of kind and id: few bytes each, because a large call that ends leaves as many.
    deleted: HashMap<u64, Instant>,
    hashes: RandomState,
}

impl Registry {
    /// Takes over what a snapshot says; deleted ids stay deleted. Gives back what was there before:
    /// to drop it takes time.
    #[must_use]
    pub fn replace(&mut self, mut other: Self) -> Self {
        std::mem::swap(&mut self.deleted, &mut other.deleted);
        other.hashes = self.hashes.clone();
        std::mem::replace(self, other)
    }

    /// Hash of the request that made a resource, if there is one.
    #[must_use]
    pub fn hash_of(&self, kind: Kind, id: &Id) -> Option<BodyHash> {
        let (router_id, hash) = match kind {
            Kind::Router => return self.routers.get(id).map(|one| one.hash),
            Kind::Transport => {
                self.transports.get(id).map(|one| (&one.info.router_id, one.hash))?
            }
            Kind::Producer => self.producers.get(id).map(|one| (&one.info.router_id, one.hash))?,
            Kind::Consumer => self.consumers.get(id).map(|one| (&one.info.router_id, one.hash))?,
            Kind::Observer => self.observers.get(id).map(|one| (&one.info.router_id, one.hash))?,
        };
        self.routers.contains_key(router_id).then_some(hash)
    }

    /// Whether an id was deleted a moment ago.
    #[must_use]
    pub fn was_deleted(&self, kind: Kind, id: &Id, now: Instant) -> bool {
        let at = self.deleted.get(&self.hashes.hash_one((kind, id)));
        at.is_some_and(|at| now.saturating_duration_since(*at) < DELETED_TIME)
    }

    /// Forgets ids that were deleted long ago.
    pub fn expire(&mut self, now: Instant) {
        self.deleted.retain(|_, at| now.saturating_duration_since(*at) < DELETED_TIME);
        if self.deleted.capacity() > 4 * self.deleted.len().max(1_024) {
            self.deleted.shrink_to(2 * self.deleted.len());
        }
    }

    fn remember_deleted(&mut self, kind: Kind, id: &Id) {
        // Beyond the limit a late repeat makes the resource again: harmless, it can be deleted.
        if self.deleted.len() < DELETED_MAX {
            self.deleted.insert(self.hashes.hash_one((kind, id)), Instant::now());
        }
    }

    /// How much there is on this host, without what closed routers have left.
    #[must_use]
    pub fn totals(&self) -> RouterCounts {
        let add = |all: RouterCounts, one: RouterCounts| RouterCounts {
            participants: all.participants.saturating_add(one.participants),
            transports: all.transports.saturating_add(one.transports),
            producers: all.producers.saturating_add(one.producers),
            consumers: all.consumers.saturating_add(one.consumers),
        };
        self.routers.values().map(Router::counts).fold(RouterCounts::default(), add)
    }

    /// Adds a router.
    pub fn insert_router(&mut self, mut router: Router) {
        self.sweep_before(&router.info.id);
        router.codecs = self.codecs.share(router.codecs);
        self.count_router(&router.owner, &router.info.id);
        self.count_room(router.worker);
        self.routers.insert(router.info.id.clone(), router);
    }

    /// Adds a transport; false if its router is gone.
    pub fn insert_transport(&mut self, mut transport: Transport) -> bool {
        let Some(router) = self.routers.get_mut(&transport.info.router_id) else { return false };
        // A dataplane has one certificate: the newest one's are nearly always those of this one.
        if let Some(link) = transport.info.webrtc_mut() {
            let fingerprints = std::mem::take(&mut link.dtls_parameters.fingerprints);
            if *self.fingerprints != *fingerprints {
                self.fingerprints = fingerprints.into();
            }
            transport.fingerprints = Arc::clone(&self.fingerprints);
        }
        // What comes with a call names others by texts of its own: theirs are shared.
        transport.info.router_id = router.info.id.clone();
        share_participant(&mut transport.info.participant_id, router);
        router.transports.insert(transport.info.id.clone());
        let (router_id, participant) =
            (transport.info.router_id.clone(), transport.info.participant_id.clone());
        self.count_transport(&router_id, participant.as_ref());
        if transport.far.is_some() {
            self.trunks.insert(transport.info.id.clone());
        }
        self.transports.insert(transport.info.id.clone(), transport);
        true
    }

    /// Adds a producer; false if its transport is gone.
    pub fn insert_producer(&mut self, mut producer: Producer) -> bool {
        let Some(transport) = self.transports.get_mut(&producer.info.transport_id) else {
            return false;
        };
        let Some(router) = self.routers.get_mut(&producer.info.router_id) else { return false };
        producer.worker = transport.worker;
        producer.info.router_id = router.info.id.clone();
        producer.info.transport_id = transport.info.id.clone();
        share_participant(&mut producer.info.participant_id, router);
        let id = &producer.info.id;
        router.producers.insert(id.clone());
        router.ssrcs.extend(ssrcs_of(&producer.consumable));
        if let Some(cname) = &producer.info.rtp_parameters.rtcp.cname
            && transport.producers.is_empty()
        {
            cname.clone_into(&mut transport.cname);
        }
        transport.producers.insert(id.clone());
        self.producers.insert(id.clone(), producer);
        true
    }

    /// Adds a consumer; false if its transport or producer is gone.
    pub fn insert_consumer(
        &mut self,
        mut info: ConsumerInfo,
        hash: BodyHash,
        far_producer_id: Option<Id>,
    ) -> bool {
        let Some(router) = self.routers.get_mut(&info.router_id) else { return false };
        let Some(producer) = self.producers.get_mut(&info.producer_id) else { return false };
        let Some(transport) = self.transports.get_mut(&info.transport_id) else { return false };
        if producer.worker != transport.worker && !producer.mirrors.contains_key(&transport.worker)
        {
            return false;
        }
        let (of, there) = (producer.info.id.clone(), transport.worker);
        info.router_id = router.info.id.clone();
        info.transport_id = transport.info.id.clone();
        info.producer_id = of.clone();
        share_participant(&mut info.participant_id, router);
        router.consumers.insert(info.id.clone());
        let parameters = std::mem::take(&mut info.rtp_parameters);
        router.ssrcs.extend(ssrcs_of(&parameters));
        producer.consumers.insert(info.id.clone());
        transport.consumers.insert(info.id.clone());
        transport.mids.extend(parameters.mid.clone());
        let stored = self.parameters.store(&parameters).ok().map(Arc::new);
        let id = info.id.clone();
        let (mid, far_producer_id) = (parameters.mid, far_producer_id.map(Box::new));
        let consumer =
            Consumer { info, hash, worker: there, mid, far_producer_id, parameters: stored };
        self.consumers.insert(id, Box::new(consumer));
        self.use_mirror(&of, there);
        true
    }

    /// Closes a router with all below it, which its event implies: see [`remains`].
    pub fn close_router(&mut self, id: &Id, reason: RouterClosedReason, log: &mut EventLog) {
        // Removed first: what it holds goes with it and is not taken out of it one by one.
        let Some(router) = self.routers.remove(id) else { return };
        self.uncount_router(&router);
        router.workers().for_each(|worker| self.uncount_room(worker));
        self.close_branches(&router);
        if log.wants_implied() {
            for observer in &router.observers {
                self.remove_observer(observer, Told::Implied, log);
            }
            for transport in &router.transports {
                let reason = TransportClosedReason::RouterClosed;
                self.remove_transport(transport, reason, Told::Implied, log);
            }
        }
        let worker_id = router.info.worker_id.clone();
        log.publish(Some(id), EventData::RouterClosed(RouterClosed { worker_id, reason }));
        log.disown(id);
        if reason == RouterClosedReason::Request {
            self.remember_deleted(Kind::Router, id);
        }
        self.leave(router);
    }

    /// Closes a transport with its producers and consumers, which its event implies. The consumers
    /// that its producers have on other transports are told one by one.
    pub fn close_transport(&mut self, id: &Id, reason: TransportClosedReason, log: &mut EventLog) {
        self.remove_transport(id, reason, Told::Itself, log);
    }

    fn remove_transport(
        &mut self,
        id: &Id,
        reason: TransportClosedReason,
        told: Told,
        log: &mut EventLog,
    ) {
        let Some(transport) = self.transports.remove(id) else { return };
        let is_deleted = reason == TransportClosedReason::Request;
        for consumer in &transport.consumers {
            let reason = ConsumerClosedReason::TransportClosed;
            self.remove_consumer(consumer, reason, is_deleted, Told::Implied, log);
        }
        for producer in &transport.producers {
            self.remove_producer(producer, is_deleted, Told::Implied, told, log);
        }
        let info = transport.info;
        if let Some(router) = self.routers.get_mut(&info.router_id) {
            router.transports.remove(id);
        }
        self.uncount_transport(&info.router_id, info.participant_id.as_ref(), transport.bps);
        told.publish(log, &info.router_id, || {
            EventData::TransportClosed(TransportClosed {
                transport_id: info.id,
                participant_id: info.participant_id,
                reason,
            })
        });
        if is_deleted {
            self.remember_deleted(Kind::Transport, id);
        }
    }

    /// Closes a producer and all of its consumers. `is_deleted`: because a caller asked for it.
    pub fn close_producer(&mut self, id: &Id, is_deleted: bool, log: &mut EventLog) {
        self.remove_producer(id, is_deleted, Told::Itself, Told::Itself, log);
    }

    fn remove_producer(
        &mut self,
        id: &Id,
        is_deleted: bool,
        told: Told,
        of_consumers: Told,
        log: &mut EventLog,
    ) {
        let Some(producer) = self.producers.remove(id) else { return };
        self.close_mirrors(&producer);
        for consumer in &producer.consumers {
            let reason = ConsumerClosedReason::ProducerClosed;
            self.remove_consumer(consumer, reason, is_deleted, of_consumers, log);
        }
        for observer in &producer.observers {
            if let Some(observer) = self.observers.get_mut(observer) {
                observer.producers.remove(id);
            }
        }
        let info = &producer.info;
        if let Some(router) = self.routers.get_mut(&info.router_id) {
            router.producers.remove(id);
            for ssrc in ssrcs_of(&producer.consumable) {
                router.ssrcs.remove(&ssrc);
            }
        }
        if let Some(transport) = self.transports.get_mut(&info.transport_id) {
            transport.producers.remove(id);
        }
        told.publish(log, &info.router_id, || EventData::ProducerClosed(producer_event(info)));
        if is_deleted {
            self.remember_deleted(Kind::Producer, id);
        }
    }

    /// Closes a consumer.
    pub fn close_consumer(
        &mut self,
        id: &Id,
        reason: ConsumerClosedReason,
        is_deleted: bool,
        log: &mut EventLog,
    ) {
        self.remove_consumer(id, reason, is_deleted, Told::Itself, log);
    }

    fn remove_consumer(
        &mut self,
        id: &Id,
        reason: ConsumerClosedReason,
        is_deleted: bool,
        told: Told,
        log: &mut EventLog,
    ) {
        let Some(consumer) = self.consumers.remove(id) else { return };
        let info = &consumer.info;
        if let Some(router) = self.routers.get_mut(&info.router_id) {
            router.consumers.remove(id);
            for ssrc in ssrcs_of(&consumer.parameters()) {
                router.ssrcs.remove(&ssrc);
            }
        }
        if let Some(producer) = self.producers.get_mut(&info.producer_id) {
            producer.consumers.remove(id);
        }
        if let Some(transport) = self.transports.get_mut(&info.transport_id) {
            transport.consumers.remove(id);
            if let Some(mid) = &consumer.mid {
                transport.mids.remove(mid);
            }
        }
        self.leave_mirror(&info.producer_id, consumer.worker);
        told.publish(log, &info.router_id, || {
            EventData::ConsumerClosed(ConsumerClosed { consumer: consumer_event(info), reason })
        });
        if is_deleted {
            self.remember_deleted(Kind::Consumer, id);
        }
    }

    /// Nothing on a transport has this MID any more.
    pub fn free_mid(&mut self, transport: &Id, mid: Option<&str>) {
        if let (Some(transport), Some(mid)) = (self.transports.get_mut(transport), mid) {
            transport.mids.remove(mid);
        }
    }

    /// Routers and branches on a worker.
    #[must_use]
    pub fn rooms_on(&self, worker: WorkerId) -> usize {
        self.rooms.get(&worker).copied().unwrap_or_default()
    }

    fn count_room(&mut self, worker: WorkerId) {
        *self.rooms.entry(worker).or_default() += 1;
    }

    fn uncount_room(&mut self, worker: WorkerId) {
        if let Some(rooms) = self.rooms.get_mut(&worker) {
            *rooms = rooms.saturating_sub(1);
        }
    }

    /// Producers and consumers on a worker.
    #[must_use]
    pub fn on_worker(&self, worker: WorkerId) -> (usize, usize) {
        let mut all = (0, 0);
        for router in self.routers.values() {
            if router.branches.is_empty() && router.worker == worker {
                all.0 += router.producers.len();
                all.1 += router.consumers.len();
            } else if router.branches.contains(&worker) || router.worker == worker {
                let transports = router.transports.iter().filter_map(|id| self.transports.get(id));
                for transport in transports.filter(|transport| transport.worker == worker) {
                    all.0 += transport.producers.len();
                    all.1 += transport.consumers.len();
                }
            }
        }
        all
    }
}

/// Names somebody by the text that his room has of him.
fn share_participant(name: &mut Option<Id>, router: &Router) {
    let known = name.as_ref().and_then(|name| router.participants.get_key_value(name));
    if let Some((known, _)) = known {
        *name = Some(known.clone());
    }
}

/// The SSRCs in parameters that we made.
fn ssrcs_of(params: &RtpParameters) -> impl Iterator<Item = u32> {
    params
        .encodings
        .iter()
        .flat_map(|encoding| [encoding.ssrc, encoding.rtx.map(|rtx| rtx.ssrc)])
        .flatten()
}

/// The fields of every event about a producer.
#[must_use]
pub fn producer_event(info: &ProducerInfo) -> ProducerEvent {
    ProducerEvent {
        producer_id: info.id.clone(),
        transport_id: info.transport_id.clone(),
        participant_id: info.participant_id.clone(),
        kind: info.kind,
    }
}

/// The fields of every event about a consumer.
#[must_use]
pub fn consumer_event(info: &ConsumerInfo) -> ConsumerEvent {
    ConsumerEvent {
        consumer_id: info.id.clone(),
        transport_id: info.transport_id.clone(),
        participant_id: info.participant_id.clone(),
        producer_id: info.producer_id.clone(),
    }
}
