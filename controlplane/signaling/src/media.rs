//! What signaling asks of the media server: a trait, so that the handlers can be tested against a
//! server in memory. `control` implements it over the control API; it offers nothing that the
//! API's contract does not.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use futures::stream::BoxStream;
use ironcast_api::{AppData, DtlsParameters, Id, MediaKind, RtpCapabilities, RtpParameters};
use serde_json::Value;

/// Why the media server did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// It cannot be reached, or its dataplane is away. Trying again later may help.
    #[error("the media server is unavailable: {0}")]
    Unavailable(String),
    /// It has too much to do, for us or for all. It is there, and nothing was done.
    #[error("the media server is busy")]
    Busy {
        /// When to ask again.
        retry_after: Duration,
    },
    /// It said no.
    #[error("the media server refused ({code}): {message}")]
    Refused {
        /// The control API's stable code.
        code: String,
        /// For people.
        message: String,
    },
}

impl MediaError {
    /// Asking again may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Busy { .. })
    }
}

/// An answer of the media server.
pub type MediaResult<T> = Result<T, MediaError>;

/// A future answer.
pub type Answer<'a, T> = BoxFuture<'a, MediaResult<T>>;

/// A transport to be made.
#[derive(Debug, Clone)]
pub struct NewTransport {
    /// Chosen by us, so that a repeated request is the same request.
    pub id: Id,
    /// The room's router.
    pub router_id: Id,
    /// Whose it is: what `leave` closes. A session, not a participant: see `rooms::Seat`.
    pub session: Id,
    /// What its consumers are made for.
    pub rtp_capabilities: Option<RtpCapabilities>,
    /// Kept on the resource: what the next start of this service has to know of it.
    pub note: AppData,
}

/// A plain transport to be made: what sends to one of our ports.
#[derive(Debug, Clone)]
pub struct NewPlainTransport {
    /// Chosen by us.
    pub id: Id,
    /// The room's router.
    pub router_id: Id,
    /// The media server's own address for it; its loopback without.
    pub ip: Option<IpAddr>,
    /// Kept on the resource.
    pub note: AppData,
}

/// A producer to be made.
#[derive(Debug, Clone)]
pub struct NewProducer {
    /// Chosen by us.
    pub id: Id,
    /// The room's router, whose observer listens to it.
    pub router_id: Id,
    /// A sending transport.
    pub transport_id: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// As the browser gave them.
    pub rtp_parameters: RtpParameters,
    /// Born paused.
    pub paused: bool,
    /// Kept on the resource.
    pub app_data: AppData,
}

/// A consumer to be made, always paused: the browser resumes it when it is ready to receive.
#[derive(Debug, Clone)]
pub struct NewConsumer {
    /// Chosen by us.
    pub id: Id,
    /// A receiving transport.
    pub transport_id: Id,
    /// What to receive.
    pub producer_id: Id,
    /// If they are others than the transport's.
    pub rtp_capabilities: Option<RtpCapabilities>,
}

/// A consumer that was made: what mediasoup-client's `consume()` takes.
#[derive(Debug, Clone)]
pub struct Consumed {
    /// As in the producer.
    pub kind: MediaKind,
    /// Mediasoup's shape, handed on as it is.
    pub rtp_parameters: Value,
    /// `simple`, `simulcast` or `svc`.
    pub kind_of_stream: Value,
    /// Whether the producer is paused.
    pub producer_paused: bool,
    /// Until a [`MediaEvent::Score`] says otherwise.
    pub score: Value,
}

/// What a participant may ask for together with other things.
#[derive(Debug, Clone)]
pub enum New {
    /// A transport.
    Transport(NewTransport),
    /// A consumer, perhaps on a transport that comes before it.
    Consumer(NewConsumer),
}

impl New {
    /// Its id.
    pub fn id(&self) -> &Id {
        match self {
            Self::Transport(new) => &new.id,
            Self::Consumer(new) => &new.id,
        }
    }
}

/// What was made of it.
#[derive(Debug, Clone)]
pub enum Made {
    /// What the browser needs (`id`, `iceParameters`, ...).
    Transport(Value),
    /// A consumer.
    Consumer(Consumed),
}

/// What exists at the media server of one router: for putting both sides in step again.
#[derive(Debug, Clone, Default)]
pub struct RouterView {
    /// The router.
    pub id: String,
    /// What its maker kept on it.
    pub app_data: Value,
    /// What it can receive.
    pub rtp_capabilities: Value,
    /// Its transports.
    pub transports: Vec<TransportView>,
}

/// A transport in a [`RouterView`].
#[derive(Debug, Clone, Default)]
pub struct TransportView {
    /// The transport.
    pub id: String,
    /// Whose it is.
    pub session: Option<String>,
    /// What its maker kept on it.
    pub app_data: Value,
    /// It carries tracks to or from another router of the room.
    pub is_pipe: bool,
    /// What is sent on it.
    pub producers: Vec<ProducerView>,
    /// What is received on it.
    pub consumers: Vec<ConsumerView>,
}

/// A producer in a [`RouterView`].
#[derive(Debug, Clone)]
pub struct ProducerView {
    /// The producer.
    pub id: String,
    /// Audio or video.
    pub kind: MediaKind,
    /// Muted by its owner.
    pub paused: bool,
    /// Encodings that nobody watches.
    pub unwatched: Vec<u32>,
    /// Its media section in its owner's browser.
    pub mid: Option<String>,
    /// What its owner said of it.
    pub app_data: AppData,
}

/// A consumer in a [`RouterView`].
#[derive(Debug, Clone)]
pub struct ConsumerView {
    /// The consumer.
    pub id: String,
    /// What it receives.
    pub producer_id: String,
}

/// All routers at one moment of the event stream.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Events after this one are not in it.
    pub seq: String,
    /// The routers.
    pub routers: Vec<RouterView>,
    /// Whether it takes new ones.
    pub draining: Draining,
}

/// How much a media server has to do.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// 0 (nothing) to 1: the mean of its workers.
    pub load: f64,
    /// Routers of all who use it.
    pub routers: u32,
}

/// Whether the media server is being taken out of service.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Draining {
    /// It takes new rooms.
    #[default]
    No,
    /// It does not, and closes what is left then, in ms of the Unix epoch, if it said when.
    Until(Option<u64>),
}

/// What the media server reports and we tell on.
#[derive(Debug, Clone, PartialEq)]
pub enum MediaEvent {
    /// These routers are gone, with all that hung below them.
    RoutersDied {
        /// Their ids.
        router_ids: Vec<String>,
        /// For the log.
        reason: String,
    },
    /// A transport is gone: asked for, or the peer was lost.
    TransportClosed {
        /// Which.
        transport_id: String,
        /// `request`, `router_closed`, `consent_lost`, `dtls_closed`.
        reason: String,
    },
    /// A transport's encrypted connection could not be made.
    ConnectionFailed {
        /// Which.
        transport_id: String,
        /// `certificate`, `fingerprint`, `no_common_cipher`, `no_common_srtp_profile`, `timeout`,
        /// `refused`, `protocol`, `internal`.
        reason: String,
    },
    /// A producer is gone.
    ProducerClosed {
        /// Which.
        producer_id: String,
    },
    /// Encodings of a producer that nobody watches; none: all are.
    LayersUnwatched {
        /// Which.
        producer_id: String,
        /// Their indexes.
        encodings: Vec<u32>,
    },
    /// A consumer is gone.
    ConsumerClosed {
        /// Which.
        consumer_id: String,
        /// `request`, `transport_closed`, `producer_closed`.
        reason: String,
    },
    /// A consumer sends other layers than before.
    LayersChanged {
        /// Which.
        consumer_id: String,
        /// `{spatialLayer, temporalLayer}`, or null when it sends none.
        layers: Value,
        /// `preferred`, `bandwidth`, `available`.
        reason: Option<String>,
    },
    /// How well a consumer does.
    Score {
        /// Which.
        consumer_id: String,
        /// Mediasoup's shape.
        score: Value,
    },
    /// Who speaks in a room now; nobody if there is none.
    Speakers {
        /// The room's router.
        router_id: String,
        /// What they send, the loudest first, and how loud each is, dBov.
        producers: Vec<(String, i8)>,
    },
    /// It takes no new rooms any more, or does again.
    Draining(Draining),
    /// Something that signaling has no use for.
    Other,
}

/// An event with its number.
#[derive(Debug, Clone)]
pub struct Numbered {
    /// Its number.
    pub seq: String,
    /// The event.
    pub event: MediaEvent,
}

/// The event stream. It resumes by itself; when it ends, events were lost.
pub type Events = BoxStream<'static, MediaResult<Numbered>>;

/// What a transport carries, bits per second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bitrates {
    /// From the browser.
    pub received: u64,
    /// To the browser.
    pub sent: u64,
}

/// The media server, as far as signaling uses it.
pub trait Media: Send + Sync + 'static {
    /// Makes a router, and what listens to who speaks in it; gives its capabilities.
    fn create_router(&self, id: Id, app_data: AppData) -> Answer<'_, Value>;
    /// Deletes a router with all that hangs below it.
    fn delete_router(&self, id: Id) -> Answer<'_, ()>;
    /// Makes transports and consumers in one call, in order, as a join needs them. One answer for
    /// each. All of it is safe to repeat.
    fn make_all(&self, new: Vec<New>) -> BoxFuture<'_, Vec<MediaResult<Made>>>;
    /// Makes a plain transport, RTP and RTCP on one port; gives where it sends from.
    fn create_plain_transport(&self, new: NewPlainTransport) -> Answer<'_, SocketAddr>;
    /// Says where it sends to.
    fn connect_plain_transport(&self, id: Id, to: SocketAddr) -> Answer<'_, ()>;
    /// Gives it the browser's fingerprints.
    fn connect_transport(&self, id: Id, dtls: DtlsParameters) -> Answer<'_, ()>;
    /// New ICE credentials.
    fn restart_ice(&self, id: Id) -> Answer<'_, Value>;
    /// Deletes a transport.
    fn delete_transport(&self, id: Id) -> Answer<'_, ()>;
    /// Makes a producer.
    fn produce(&self, new: NewProducer) -> Answer<'_, ()>;
    /// Has a producer also at another host, in this router there, whose control API the hosts find at
    /// `url`; gives its id there. What is there already is refused with `already_exists`.
    fn pipe(&self, producer_id: Id, router_id: Id, url: String) -> Answer<'_, Id>;
    /// Pauses or resumes a producer.
    fn pause_producer(&self, id: Id, paused: bool) -> Answer<'_, ()>;
    /// Deletes a producer.
    fn delete_producer(&self, id: Id) -> Answer<'_, ()>;
    /// Deletes a consumer.
    fn delete_consumer(&self, id: Id) -> Answer<'_, ()>;
    /// Pauses or resumes a consumer.
    fn pause_consumer(&self, id: Id, paused: bool) -> Answer<'_, ()>;
    /// Resumes several at once. One answer for each, in order.
    fn resume_consumers(&self, ids: Vec<Id>) -> BoxFuture<'_, Vec<MediaResult<()>>> {
        join_all(ids.into_iter().map(|id| self.pause_consumer(id, false))).boxed()
    }
    /// Which layers a consumer wants at most.
    fn prefer_layers(&self, id: Id, spatial: u8, temporal: Option<u8>) -> Answer<'_, ()>;
    /// Asks for a key frame.
    fn request_key_frame(&self, id: Id) -> Answer<'_, ()>;
    /// Closes all transports of a session.
    fn leave(&self, router_id: Id, session: Id) -> Answer<'_, ()>;
    /// Whether it takes new rooms now.
    fn ready(&self) -> Answer<'_, ()>;
    /// How much it has to do.
    fn load(&self) -> Answer<'_, Load>;
    /// One router with all that hangs below it.
    fn router(&self, id: Id) -> Answer<'_, RouterView>;
    /// What transports carry now; without those that do not answer.
    fn bitrates(&self, transport_ids: Vec<Id>) -> BoxFuture<'_, HashMap<String, Bitrates>>;
    /// Everything that is there.
    fn snapshot(&self) -> Answer<'_, Snapshot>;
    /// The event stream after an event.
    fn events(&self, after: String) -> Events;
}
