//! Commands, their answers and their errors. The level is that of mediasoup's worker channel: ids
//! are the caller's, parameters are final, every command is answered exactly once.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::{
    Id, WorkerId,
    capture::{Captured, TakeCapture},
    hop::{ConnectHop, CreateHop, HopEnd},
    media::{Layers, MediaKind, RtpMapping, RtpParameters, RtpType},
    observer::{CreateObserver, Observe},
    plain::{ConnectPlainTransport, CreatePlainTransport, PlainTransportCreated},
    snapshot::{ResourceCounts, ResourceKind},
    stats::{ConsumerStats, Hottest, ProcessStats, ProducerStats, TransportStats, WorkerStats},
    trace::SetTrace,
};

/// Upper bound of an id.
pub const MAX_ID_BYTES: usize = 96;
/// Upper bound of a note, bytes.
pub const MAX_NOTE_BYTES: usize = 16 << 10;
/// Upper bound of one encoded command: a resource as a snapshot describes it fits into a frame.
pub const MAX_COMMAND_BYTES: usize = 256 << 10;

/// What the control plane can ask for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// All workers with their load -> [`Reply::Workers`].
    Workers,
    /// The whole state -> parts of [`crate::snapshot::Resource`], then [`Reply::Snapshot`].
    Snapshot,
    /// A room -> [`Reply::Done`].
    CreateRouter(CreateRouter),
    /// Closes the room and all below it -> [`Reply::Done`].
    CloseRouter(Named),
    /// A WebRTC transport -> [`Reply::TransportCreated`].
    CreateWebRtcTransport(CreateWebRtcTransport),
    /// The peer's DTLS parameters -> [`Reply::Connected`].
    ConnectTransport(ConnectTransport),
    /// A plain transport -> [`Reply::PlainTransportCreated`].
    CreatePlainTransport(CreatePlainTransport),
    /// Where its peer is -> [`Reply::PlainTransportConnected`].
    ConnectPlainTransport(ConnectPlainTransport),
    /// A transport to another worker -> [`Reply::HopCreated`].
    CreateHop(CreateHop),
    /// Where its other end is -> [`Reply::Done`].
    ConnectHop(ConnectHop),
    /// New ICE credentials -> [`Reply::IceRestarted`].
    RestartIce(Named),
    /// Bitrate limits -> [`Reply::Done`].
    SetTransportBitrates(SetTransportBitrates),
    /// Closes the transport and all on it -> [`Reply::Done`].
    CloseTransport(Named),
    /// A received track -> [`Reply::Produced`].
    Produce(Produce),
    /// -> [`Reply::Done`].
    PauseProducer(Named),
    /// -> [`Reply::Done`].
    ResumeProducer(Named),
    /// -> [`Reply::Done`].
    CloseProducer(Named),
    /// A sent track -> [`Reply::Consumed`].
    Consume(Consume),
    /// -> [`Reply::Done`].
    PauseConsumer(Named),
    /// Also asks the producer for a key frame -> [`Reply::Done`].
    ResumeConsumer(Named),
    /// -> [`Reply::Done`].
    SetPreferredLayers(SetPreferredLayers),
    /// -> [`Reply::Done`].
    SetPriority(SetPriority),
    /// -> [`Reply::Done`].
    RequestKeyFrame(Named),
    /// -> [`Reply::Done`].
    CloseConsumer(Named),
    /// Somebody who listens to a room's producers -> [`Reply::Done`].
    CreateObserver(CreateObserver),
    /// It listens to one more; safe to repeat -> [`Reply::Done`].
    ObserveProducer(Observe),
    /// The reverse; safe to repeat -> [`Reply::Done`].
    UnobserveProducer(Observe),
    /// -> [`Reply::Done`].
    PauseObserver(Named),
    /// -> [`Reply::Done`].
    ResumeObserver(Named),
    /// -> [`Reply::Done`].
    CloseObserver(Named),
    /// -> [`Reply::TransportStats`].
    TransportStats(Named),
    /// -> [`Reply::ProducerStats`].
    ProducerStats(Named),
    /// -> [`Reply::ConsumerStats`].
    ConsumerStats(Named),
    /// The current state of one resource, as in the snapshot -> [`Reply::Resource`].
    Dump(Dump),
    /// What the process counts beside its workers -> [`Reply::Process`].
    Process,
    /// Settings that count from now on -> [`Reply::Done`].
    SetSettings(Settings),
    /// What moves the most, of all workers -> [`Reply::Hottest`].
    Hottest(CountMax),
    /// What is traced of a resource -> [`Reply::Done`].
    SetTrace(SetTrace),
    /// Packets of a transport, in the clear -> [`Reply::Captured`].
    TakeCapture(TakeCapture),
}

/// What of the configuration may change while the process runs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// What candidates of new transports carry; none: the addresses of the host.
    pub announced: Vec<Announced>,
    /// The log's filter.
    pub log_filter: String,
}

/// An address that candidates carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announced {
    /// As browsers reach it.
    pub ip: IpAddr,
    /// Only where a router in front maps the single port to another.
    pub port: Option<u16>,
}

/// How many at most, of each worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountMax {
    /// At most [`HOTTEST_MAX`].
    pub count: u16,
}

/// Most that [`Command::Hottest`] gives of each kind and worker.
pub const HOTTEST_MAX: u16 = 100;

/// A command about one existing resource.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Its id.
    pub id: Id,
}

/// Which resource to describe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dump {
    /// Its id.
    pub id: Id,
    /// Ids of different kinds are different names. Without it, the first of the kinds that has
    /// this id: observer, consumer, producer, transport, router.
    #[serde(default)]
    pub kind: Option<ResourceKind>,
}

/// A room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateRouter {
    /// The caller's id.
    pub id: Id,
    /// Where it is to live.
    pub worker: WorkerId,
    /// Who is heard and seen in it.
    #[serde(default)]
    pub selection: Selection,
    /// Kept and returned as it is; at most [`MAX_NOTE_BYTES`].
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Who of a room is heard and seen; 0: all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Selection {
    /// So many voices, the loudest.
    pub loudest: u16,
    /// The videos of so many, those who spoke last. Tracks with the same CNAME are of one.
    pub last: u16,
}

/// A WebRTC transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateWebRtcTransport {
    /// The caller's id.
    pub id: Id,
    /// The room.
    pub router: Id,
    /// Seconds without an authenticated check until the peer counts as disconnected; 0: never.
    #[serde(default = "default_consent_timeout_s")]
    pub consent_timeout_s: u32,
    /// Seconds that a disconnected peer may take to come back until its transport is closed; 0: any.
    #[serde(default)]
    pub disconnected_timeout_s: u32,
    /// First guess of what the peer can receive, bits per second.
    #[serde(default = "default_initial_bitrate_bps")]
    pub initial_available_outgoing_bitrate_bps: u32,
    /// Which candidates it has.
    #[serde(default)]
    pub candidates: CandidateKinds,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Which candidates a transport has: one kind at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CandidateKinds {
    /// UDP.
    pub udp: bool,
    /// TCP, passive (RFC 6544).
    pub tcp: bool,
    /// Where there are both, those of TCP have the higher priority.
    pub tcp_first: bool,
}

impl Default for CandidateKinds {
    fn default() -> Self {
        Self { udp: true, tcp: false, tcp_first: false }
    }
}

fn default_consent_timeout_s() -> u32 {
    30
}

fn default_initial_bitrate_bps() -> u32 {
    600_000
}

/// DTLS role of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtlsRole {
    /// Either: we then are the server.
    Auto,
    /// Sends the ClientHello.
    Client,
    /// Waits for it.
    Server,
}

/// A certificate's hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DtlsFingerprint {
    /// `sha-256`, `sha-384`, `sha-512`, `sha-224`, `sha-1`.
    pub algorithm: String,
    /// `AB:CD:...`, any case.
    pub value: String,
}

/// The peer's DTLS parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectTransport {
    /// The transport.
    pub id: Id,
    /// The peer's role.
    pub role: DtlsRole,
    /// At least one; the peer's certificate must match one that we can compute.
    pub fingerprints: Vec<DtlsFingerprint>,
    /// Kept and returned as it is (the request's hash, for safe retries).
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Bitrate limits; `None` leaves one as it is, 0 removes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SetTransportBitrates {
    /// The transport.
    pub id: Id,
    /// What the peer may send.
    pub max_incoming_bps: Option<u32>,
    /// What we may send.
    pub max_outgoing_bps: Option<u32>,
    /// What we always assume can be sent.
    pub min_outgoing_bps: Option<u32>,
}

/// A received track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Produce {
    /// The caller's id.
    pub id: Id,
    /// The transport it arrives on.
    pub transport: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// What the peer sends.
    pub rtp_parameters: RtpParameters,
    /// How it maps to the router's values.
    #[serde(default)]
    pub rtp_mapping: RtpMapping,
    /// Starts paused.
    #[serde(default)]
    pub paused: bool,
    /// Milliseconds to wait after a consumer's first key frame request.
    #[serde(default)]
    pub key_frame_request_delay_ms: u32,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// A sent track.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Consume {
    /// The caller's id.
    pub id: Id,
    /// The transport it leaves on.
    pub transport: Id,
    /// What is sent.
    pub producer: Id,
    /// How the peer wants it: one encoding with a fixed SSRC (and RTX SSRC), of a pipe one for each
    /// of the producer's.
    pub rtp_parameters: RtpParameters,
    /// How it is made from the producer.
    #[serde(rename = "type")]
    pub rtp_type: RtpType,
    /// Starts paused.
    #[serde(default)]
    pub paused: bool,
    /// Wanted layers; the highest without.
    #[serde(default)]
    pub preferred_layers: Option<Layers>,
    /// Silence of an Opus source with DTX is not forwarded.
    #[serde(default)]
    pub ignore_dtx: bool,
    /// Kept and returned as it is.
    #[serde(default, with = "serde_bytes")]
    pub note: Vec<u8>,
}

/// Wanted layers of a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPreferredLayers {
    /// The consumer.
    pub id: Id,
    /// Wanted; capped at what there is.
    pub layers: Layers,
}

/// Weight of a consumer when the bitrate does not suffice for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPriority {
    /// The consumer.
    pub id: Id,
    /// 1 (default) to 255.
    pub priority: u8,
}

/// Answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Carried out.
    Done,
    /// To `Workers`.
    Workers(Vec<WorkerStats>),
    /// To `Snapshot`, after its parts.
    Snapshot {
        /// Events up to this number are contained in the parts.
        event_seq: u64,
        /// What the parts hold together: who has received less has not received all.
        #[serde(default)]
        counts: Option<ResourceCounts>,
    },
    /// To `CreateWebRtcTransport`.
    TransportCreated(TransportCreated),
    /// To `CreatePlainTransport`.
    PlainTransportCreated(PlainTransportCreated),
    /// To `ConnectPlainTransport`: our side, whose key may be another now.
    PlainTransportConnected(PlainTransportCreated),
    /// To `CreateHop`: where it is.
    HopCreated(HopEnd),
    /// To `ConnectTransport`.
    Connected {
        /// Our role: `Client` or `Server`.
        local_role: DtlsRole,
    },
    /// To `RestartIce`.
    IceRestarted(IceParameters),
    /// To `Produce`.
    Produced {
        /// How it can be consumed.
        rtp_type: RtpType,
    },
    /// To `Consume`.
    Consumed(Consumed),
    /// To `TransportStats`.
    TransportStats(Box<TransportStats>),
    /// To `ProducerStats`: one per received stream.
    ProducerStats(Vec<ProducerStats>),
    /// To `ConsumerStats`: what is sent, and the stream it is made from.
    ConsumerStats(Box<ConsumerStats>),
    /// To `Dump`.
    Resource(Box<crate::snapshot::Resource>),
    /// To `Process`.
    Process(ProcessStats),
    /// To `Hottest`: in no order between workers.
    Hottest(Hottest),
    /// To `TakeCapture`.
    Captured(Captured),
}

/// Our side of a new transport.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportCreated {
    /// Username fragment and password.
    pub ice_parameters: IceParameters,
    /// Where the peer can reach us, best first.
    pub ice_candidates: Vec<IceCandidate>,
    /// Hashes of our certificate.
    pub dtls_fingerprints: Vec<DtlsFingerprint>,
}

/// ICE credentials of our side; we are always ICE-lite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceParameters {
    /// Username fragment.
    pub username_fragment: String,
    /// Password.
    pub password: String,
}

/// A host candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IceCandidate {
    /// Equal for candidates of one base and kind.
    pub foundation: String,
    /// RFC 8445 section 5.1.2.
    pub priority: u32,
    /// Announced address: an IP, or a host name.
    pub address: String,
    /// `udp` or `tcp`, which is always passive.
    pub protocol: String,
    /// Port.
    pub port: u16,
}

/// A new consumer's first state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Consumed {
    /// Paused by its owner.
    pub paused: bool,
    /// Paused at its source.
    pub producer_paused: bool,
    /// Scores.
    pub score: ConsumerScore,
    /// Wanted layers, for simulcast and SVC.
    #[serde(default)]
    pub preferred_layers: Option<Layers>,
}

/// Quality, 0 (dead) to 10.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ConsumerScore {
    /// Of the sent stream.
    pub score: u8,
    /// Of the stream it is made from.
    pub producer_score: u8,
    /// Of all streams of the producer.
    pub producer_scores: Vec<u8>,
}

/// Both ends of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuple {
    /// Ours.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// By datagrams or a connection.
    #[serde(default)]
    pub protocol: TransportProtocol,
}

/// What a tuple is of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransportProtocol {
    /// UDP.
    #[default]
    Udp,
    /// TCP, with the framing of RFC 4571.
    Tcp,
}

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct CommandError {
    /// Stable.
    pub code: ErrorCode,
    /// For people.
    #[serde(default)]
    pub message: String,
}

impl CommandError {
    /// Code and message in one call.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

/// Stable codes of [`CommandError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// A field is wrong.
    Invalid,
    /// No such resource.
    NotFound,
    /// The id is taken.
    AlreadyExists,
    /// Not in this state (connect twice, ...).
    WrongState,
    /// This version does not have it.
    Unsupported,
    /// The configuration does not allow it.
    Forbidden,
    /// A limit is reached.
    NoCapacity,
    /// Too many commands wait at this moment: this one was not begun, and may be repeated.
    Busy,
    /// A note, body or table over its limit.
    TooLarge,
    /// The worker does not answer or has died.
    WorkerUnavailable,
    /// A command this version does not know.
    UnknownCommand,
    /// A newer controller has attached: this connection is over.
    Fenced,
    /// A fault of the dataplane, contained.
    Internal,
    /// A code this build does not know.
    #[serde(other)]
    Unknown,
}
