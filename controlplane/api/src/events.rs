//! Events of the control API's stream (`GET /events`): their names, data and sequence numbers. The
//! server writes them as server-sent events, clients read them back with [`Event::parse`].

use std::fmt;
use std::str::FromStr;

use serde::de::{self, Deserializer};
use serde::{Deserialize, Serialize, Serializer};

use crate::id::Id;
use crate::resources::{
    ConsumerLayers, ConsumerScore, ObserverType, ProducerScore, TraceEvent, UnixMs,
};
use crate::rtp::MediaKind;
use crate::transport::{DtlsFailure, DtlsState, IceState, TransportTuple};

/// Sequence number of an event, in JSON and headers the text `EPOCH-N`. The epoch changes when
/// numbers cannot be continued; a later one is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EventSeq {
    /// Which series of numbers.
    pub epoch: u64,
    /// Number within it, 0 before the first event.
    pub number: u64,
}

/// A text that is no [`EventSeq`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a sequence number has the form EPOCH-N, such as 1-42")]
pub struct InvalidEventSeq;

impl EventSeq {
    /// From its two halves.
    pub fn new(epoch: u64, number: u64) -> Self {
        Self { epoch, number }
    }

    /// The next one of the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

impl fmt::Display for EventSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.number)
    }
}

impl FromStr for EventSeq {
    type Err = InvalidEventSeq;

    fn from_str(text: &str) -> Result<Self, InvalidEventSeq> {
        let (epoch, number) = text.split_once('-').ok_or(InvalidEventSeq)?;
        Ok(Self { epoch: decimal(epoch)?, number: decimal(number)? })
    }
}

/// Digits only: `u64::from_str` would take a sign.
fn decimal(text: &str) -> Result<u64, InvalidEventSeq> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidEventSeq);
    }
    text.parse().map_err(|_| InvalidEventSeq)
}

impl Serialize for EventSeq {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for EventSeq {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(feature = "openapi")]
impl salvo_oapi::ToSchema for EventSeq {
    fn to_schema(
        _components: &mut salvo_oapi::Components,
    ) -> salvo_oapi::RefOr<salvo_oapi::schema::Schema> {
        salvo_oapi::Object::new()
            .schema_type(salvo_oapi::BasicType::String)
            .pattern("^[0-9]+-[0-9]+$")
            .into()
    }
}

/// One event: what stands in `data:` of the stream. Its name stands in `event:`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Sequence number, also in `id:`.
    pub seq: EventSeq,
    /// When it happened.
    pub time: UnixMs,
    /// The router that it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub router_id: Option<Id>,
    /// The rest.
    #[serde(flatten)]
    pub data: EventData,
}

/// The fields that every event has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EventHead {
    seq: EventSeq,
    time: UnixMs,
    #[serde(default)]
    router_id: Option<Id>,
}

/// An event that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EventError {
    /// A newer server may have events that this client does not know: skip them.
    #[error("there is no event {0:?}")]
    UnknownName(String),
    /// Not the JSON that belongs to the name.
    #[error("the event's data cannot be read: {0}")]
    Data(#[from] serde_json::Error),
}

impl Event {
    /// Reads an event from the `event:` and `data:` of the stream.
    pub fn parse(name: &str, data: &str) -> Result<Self, EventError> {
        let head: EventHead = serde_json::from_str(data)?;
        let data = EventData::parse(name, data)?;
        Ok(Self { seq: head.seq, time: head.time, router_id: head.router_id, data })
    }

    /// The event's name, for `event:`.
    pub fn name(&self) -> &'static str {
        self.data.name()
    }
}

/// Name, meaning, and schema of the data of an event.
#[cfg(feature = "openapi")]
pub type EventSchema = (&'static str, &'static str, salvo_oapi::RefOr<salvo_oapi::schema::Schema>);

/// Writes the enum of all events, their names, and how to read one.
macro_rules! events {
    ($($(#[doc = $doc:literal])* $variant:ident($data:ty) = $name:literal,)*) => {
        /// What an event says beside `seq`, `time` and `routerId`.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[serde(untagged)]
        pub enum EventData {
            $($(#[doc = $doc])* $variant($data),)*
        }

        impl EventData {
            /// Every event's name.
            pub const NAMES: &'static [&'static str] = &[$($name),*];

            /// The event's name.
            pub fn name(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => $name,)*
                }
            }

            /// Of every event its name, what it means, and the schema of its own data.
            #[cfg(feature = "openapi")]
            pub fn schemas(components: &mut salvo_oapi::Components) -> Vec<EventSchema> {
                use salvo_oapi::ToSchema as _;
                vec![$(($name, concat!($($doc),*), <$data>::to_schema(components)),)*]
            }

            fn parse(name: &str, data: &str) -> Result<Self, EventError> {
                match name {
                    $($name => Ok(Self::$variant(serde_json::from_str(data)?)),)*
                    _ => Err(EventError::UnknownName(name.to_owned())),
                }
            }
        }
    };
}

events! {
    /// A worker died, and with it its routers.
    WorkerDied(WorkerEvent) = "worker.died",
    /// It runs again.
    WorkerRestarted(WorkerEvent) = "worker.restarted",
    /// A router was made.
    RouterCreated(RouterCreated) = "router.created",
    /// A router is gone, and with it all below it.
    RouterClosed(RouterClosed) = "router.closed",
    /// ICE.
    TransportIceStateChange(TransportIceStateChange) = "transport.icestatechange",
    /// The path in use.
    TransportIceSelectedTupleChange(TransportIceSelectedTupleChange)
        = "transport.iceselectedtuplechange",
    /// Where a plain transport's peer is, once it was learned.
    TransportTupleChange(TransportTupleChange) = "transport.tuple",
    /// The same of its RTCP, without `rtcpMux`.
    TransportRtcpTupleChange(TransportRtcpTupleChange) = "transport.rtcptuple",
    /// DTLS.
    TransportDtlsStateChange(TransportDtlsStateChange) = "transport.dtlsstatechange",
    /// A transport is gone, and with it its producers and consumers.
    TransportClosed(TransportClosed) = "transport.closed",
    /// A producer was made.
    ProducerCreated(ProducerEvent) = "producer.created",
    /// It is gone, and with it its consumers.
    ProducerClosed(ProducerEvent) = "producer.closed",
    /// Paused through the API.
    ProducerPaused(ProducerEvent) = "producer.paused",
    /// Resumed through the API.
    ProducerResumed(ProducerEvent) = "producer.resumed",
    /// How well it arrives; the newest only.
    ProducerScore(ProducerScoreEvent) = "producer.score",
    /// The camera was turned.
    ProducerVideoOrientationChange(ProducerVideoOrientationChange)
        = "producer.videoorientationchange",
    /// The packet numbers of one of its streams are used up (2^32): nothing more of it is forwarded.
    /// Publish the track anew.
    ProducerExhausted(ProducerExhausted) = "producer.exhausted",
    /// Encodings of a simulcast that no consumer wants, or that one wants again: the list is all that
    /// nobody wants now. That nobody wants one is told when it has been so for two seconds.
    ProducerLayersUnwatched(ProducerLayersUnwatched) = "producer.layersunwatched",
    /// A consumer was made.
    ConsumerCreated(ConsumerEvent) = "consumer.created",
    /// It is gone.
    ConsumerClosed(ConsumerClosed) = "consumer.closed",
    /// Paused through the API.
    ConsumerPaused(ConsumerEvent) = "consumer.paused",
    /// Resumed through the API.
    ConsumerResumed(ConsumerEvent) = "consumer.resumed",
    /// Its producer was paused.
    ConsumerProducerPause(ConsumerEvent) = "consumer.producerpause",
    /// Its producer was resumed.
    ConsumerProducerResume(ConsumerEvent) = "consumer.producerresume",
    /// How well it arrives; the newest only.
    ConsumerScore(ConsumerScoreEvent) = "consumer.score",
    /// Other layers are sent.
    ConsumerLayersChange(ConsumerLayersChange) = "consumer.layerschange",
    /// Its packet numbers are used up (2^32): make another one in its place.
    ConsumerExhausted(ConsumerExhausted) = "consumer.exhausted",
    /// An observer was made.
    ObserverCreated(ObserverEvent) = "observer.created",
    /// It is gone.
    ObserverClosed(ObserverEvent) = "observer.closed",
    /// Paused through the API.
    ObserverPaused(ObserverEvent) = "observer.paused",
    /// Resumed through the API.
    ObserverResumed(ObserverEvent) = "observer.resumed",
    /// The loudest of its producers in the last interval; the newest only.
    ObserverVolumes(ObserverVolumes) = "observer.volumes",
    /// None of its producers is loud any more; the newest of this and of volumes only.
    ObserverSilence(ObserverSilence) = "observer.silence",
    /// Another of its producers dominates; the newest only.
    ObserverDominantSpeaker(ObserverDominantSpeaker) = "observer.dominantspeaker",
    /// Something happened that is traced (`PUT .../trace`): at most 500 a second of a worker, what is
    /// above is left out.
    Trace(TraceEvent) = "trace",
    /// These workers take no more.
    CapacityExhausted(CapacityEvent) = "capacity.exhausted",
    /// They do again.
    CapacityAvailable(CapacityEvent) = "capacity.available",
    /// No new routers are taken.
    HostDraining(HostEvent) = "host.draining",
    /// The last router is gone.
    HostDrained(HostEvent) = "host.drained",
    /// New routers are taken again.
    HostUndrained(HostEvent) = "host.undrained",
}

impl EventData {
    /// Whether only the newest of its kind matters (scores, who speaks): it may be left out when a reader is
    /// slow, and it is never sent again to one that comes back.
    pub fn is_coalesced(&self) -> bool {
        matches!(
            self,
            Self::ProducerScore(_)
                | Self::ConsumerScore(_)
                | Self::ObserverVolumes(_)
                | Self::ObserverSilence(_)
                | Self::ObserverDominantSpeaker(_)
        )
    }
}

/// `worker.died`, `worker.restarted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct WorkerEvent {
    /// Which.
    pub worker_id: Id,
    /// The routers that it had.
    pub router_ids: Vec<Id>,
    /// For people.
    pub reason: String,
}

/// `router.created`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterCreated {
    /// Where.
    pub worker_id: Id,
}

/// `router.closed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct RouterClosed {
    /// Where.
    pub worker_id: Id,
    /// Why.
    pub reason: RouterClosedReason,
}

/// Why a router was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RouterClosedReason {
    /// `DELETE`.
    Request,
    /// Its worker died.
    WorkerDied,
    /// The host's deadline for draining passed.
    Drained,
}

/// `transport.icestatechange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportIceStateChange {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// New state.
    pub ice_state: IceState,
}

/// `transport.iceselectedtuplechange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportIceSelectedTupleChange {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// New path.
    pub ice_selected_tuple: TransportTuple,
}

/// `transport.tuple`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportTupleChange {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Both ends now.
    pub tuple: TransportTuple,
}

/// `transport.rtcptuple`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportRtcpTupleChange {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Both ends now.
    pub rtcp_tuple: TransportTuple,
}

/// `transport.dtlsstatechange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportDtlsStateChange {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// New state.
    pub dtls_state: DtlsState,
    /// Why it is `failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<DtlsFailure>,
}

/// `transport.closed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct TransportClosed {
    /// Which.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Why.
    pub reason: TransportClosedReason,
}

/// Why a transport was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum TransportClosedReason {
    /// `DELETE`, or its participant left.
    Request,
    /// Its router was closed.
    RouterClosed,
    /// The peer stopped its checks (RFC 7675).
    ConsentLost,
    /// The peer closed DTLS.
    DtlsClosed,
    /// The worker that it was on ended, and its router, which lives on another, did not.
    WorkerDied,
}

/// `producer.created`, `closed`, `paused`, `resumed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerEvent {
    /// Which.
    pub producer_id: Id,
    /// Its transport.
    pub transport_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Audio or video.
    pub kind: MediaKind,
}

/// `producer.score`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerScoreEvent {
    /// Which.
    #[serde(flatten)]
    pub producer: ProducerEvent,
    /// Of each stream that has arrived.
    pub score: Vec<ProducerScore>,
}

/// `producer.videoorientationchange` (3GPP TS 26.114, coordination of video orientation).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerVideoOrientationChange {
    /// Which.
    #[serde(flatten)]
    pub producer: ProducerEvent,
    /// The back camera.
    pub camera: bool,
    /// Mirrored.
    pub flip: bool,
    /// 0, 90, 180 or 270 degrees.
    pub rotation: u16,
}

/// `producer.exhausted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerExhausted {
    /// Which.
    #[serde(flatten)]
    pub producer: ProducerEvent,
    /// Index into `rtpParameters.encodings`.
    pub encoding_idx: u32,
}

/// `producer.layersunwatched`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProducerLayersUnwatched {
    /// Which.
    #[serde(flatten)]
    pub producer: ProducerEvent,
    /// Indexes into `rtpParameters.encodings` that nobody watches.
    pub encodings: Vec<u32>,
}

/// `consumer.created`, `paused`, `resumed`, `producerpause`, `producerresume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerEvent {
    /// Which.
    pub consumer_id: Id,
    /// Its transport.
    pub transport_id: Id,
    /// Whose: the receiver.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Its producer.
    pub producer_id: Id,
}

/// `consumer.closed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerClosed {
    /// Which.
    #[serde(flatten)]
    pub consumer: ConsumerEvent,
    /// Why.
    pub reason: ConsumerClosedReason,
}

/// Why a consumer was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum ConsumerClosedReason {
    /// `DELETE`.
    Request,
    /// Its transport was closed.
    TransportClosed,
    /// Its producer was closed.
    ProducerClosed,
}

/// `consumer.score`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerScoreEvent {
    /// Which.
    #[serde(flatten)]
    pub consumer: ConsumerEvent,
    /// How well.
    pub score: ConsumerScore,
}

/// `consumer.layerschange`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerLayersChange {
    /// Which.
    #[serde(flatten)]
    pub consumer: ConsumerEvent,
    /// As sent now; `null` if nothing is sent.
    pub layers: Option<ConsumerLayers>,
    /// Why.
    pub reason: LayersChangeReason,
}

/// `consumer.exhausted`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConsumerExhausted {
    /// Which.
    #[serde(flatten)]
    pub consumer: ConsumerEvent,
    /// What is not sent any more.
    pub stream: SentStream,
}

/// One of the streams that a consumer is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum SentStream {
    /// The track itself.
    Media,
    /// Its retransmissions (RTX); the track goes on without them.
    Repeats,
}

/// Why other layers are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum LayersChangeReason {
    /// The receiver asked.
    Preferred,
    /// The path carries more or less.
    Bandwidth,
    /// The producer began or stopped sending a layer.
    Available,
    /// The router forwards the videos of others: its `lastN`.
    LastN,
}

/// `observer.created`, `closed`, `paused`, `resumed`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverEvent {
    /// Which.
    pub observer_id: Id,
    /// What it tells.
    #[serde(rename = "type")]
    pub observer_type: ObserverType,
}

/// `observer.volumes`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverVolumes {
    /// Which observer.
    pub observer_id: Id,
    /// The loudest first.
    pub volumes: Vec<ObserverVolume>,
}

/// How loud a producer was in the last interval.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverVolume {
    /// Which.
    pub producer_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
    /// Average of its packets, dBov: -127 (silence) to 0.
    pub volume: i8,
}

/// `observer.silence`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverSilence {
    /// Which observer.
    pub observer_id: Id,
}

/// `observer.dominantspeaker`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct ObserverDominantSpeaker {
    /// Which observer.
    pub observer_id: Id,
    /// Who dominates now.
    pub producer_id: Id,
    /// Whose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub participant_id: Option<Id>,
}

/// `capacity.exhausted`, `capacity.available`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct CapacityEvent {
    /// Which workers.
    pub worker_ids: Vec<Id>,
}

/// `host.draining`, `host.drained`, `host.undrained`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(salvo_oapi::ToSchema))]
#[serde(rename_all = "camelCase")]
pub struct HostEvent {
    /// When remaining routers are closed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<UnixMs>,
}
