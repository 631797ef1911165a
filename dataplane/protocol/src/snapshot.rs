//! The whole state, for a control plane that (re-)attaches: the original create commands as they
//! came, and beside them what has changed since.

use serde::{Deserialize, Serialize};

use crate::{
    WorkerId,
    command::{
        ConnectTransport, Consume, ConsumerScore, CreateRouter, CreateWebRtcTransport, DtlsRole,
        Produce, TransportCreated, Tuple,
    },
    event::{DtlsState, IceState, StreamScore},
    hop::{ConnectHop, CreateHop, HopEnd},
    media::{Layers, RtpType},
    observer::{CreateObserver, ObserverState},
    plain::{ConnectPlainTransport, CreatePlainTransport, PlainTransportCreated},
};

/// A part of a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SnapshotPart {
    /// All of one kind come before those of the next: routers, transports, producers, consumers,
    /// observers.
    pub resources: Vec<Resource>,
}

/// What a resource is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// A room.
    Router,
    /// A peer.
    Transport,
    /// A received track.
    Producer,
    /// A sent track.
    Consumer,
    /// Who listens to a room.
    Observer,
}

impl ResourceKind {
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

/// How many resources there are of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ResourceCounts {
    /// Rooms.
    pub routers: u64,
    /// Peers.
    pub transports: u64,
    /// Received tracks.
    pub producers: u64,
    /// Sent tracks.
    pub consumers: u64,
    /// Observers.
    pub observers: u64,
}

impl ResourceCounts {
    /// One more.
    pub fn count(&mut self, kind: ResourceKind) {
        *match kind {
            ResourceKind::Router => &mut self.routers,
            ResourceKind::Transport => &mut self.transports,
            ResourceKind::Producer => &mut self.producers,
            ResourceKind::Consumer => &mut self.consumers,
            ResourceKind::Observer => &mut self.observers,
        } += 1;
    }
}

/// One resource.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// A room.
    Router {
        /// As created.
        create: CreateRouter,
        /// Where it lives.
        worker: WorkerId,
    },
    /// A WebRTC transport.
    WebRtcTransport {
        /// As created.
        create: Box<CreateWebRtcTransport>,
        /// Our side; after an ICE restart with the new credentials.
        created: Box<TransportCreated>,
        /// As connected, if so.
        connect: Option<ConnectTransport>,
        /// Now.
        state: TransportState,
    },
    /// A plain transport.
    PlainTransport {
        /// As created.
        create: Box<CreatePlainTransport>,
        /// Our side; after a connect with another suite with the new key.
        created: Box<PlainTransportCreated>,
        /// As connected, if so.
        connect: Option<ConnectPlainTransport>,
        /// Now; ICE and DTLS have no part in it.
        state: TransportState,
    },
    /// A transport to another worker.
    Hop {
        /// As created.
        create: CreateHop,
        /// Where it is.
        created: HopEnd,
        /// As connected, if so.
        connect: Option<ConnectHop>,
    },
    /// A received track.
    Producer {
        /// As created.
        create: Box<Produce>,
        /// Now.
        state: ProducerState,
    },
    /// A sent track.
    Consumer {
        /// As created.
        create: Box<Consume>,
        /// Now.
        state: ConsumerState,
    },
    /// Who listens to a room.
    Observer {
        /// As created.
        create: Box<CreateObserver>,
        /// Now.
        state: ObserverState,
    },
}

impl Resource {
    /// Which kind.
    #[must_use]
    pub fn kind(&self) -> ResourceKind {
        match self {
            Self::Router { .. } => ResourceKind::Router,
            Self::WebRtcTransport { .. } | Self::PlainTransport { .. } | Self::Hop { .. } => {
                ResourceKind::Transport
            }
            Self::Producer { .. } => ResourceKind::Producer,
            Self::Consumer { .. } => ResourceKind::Consumer,
            Self::Observer { .. } => ResourceKind::Observer,
        }
    }
}

/// What changes on a transport; the default is a new one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportState {
    /// ICE.
    pub ice_state: IceState,
    /// Where the peer is.
    #[serde(default)]
    pub tuple: Option<Tuple>,
    /// Where its RTCP is, if elsewhere.
    #[serde(default)]
    pub rtcp_tuple: Option<Tuple>,
    /// DTLS.
    pub dtls_state: DtlsState,
    /// Our role, once connected by the API.
    #[serde(default)]
    pub dtls_local_role: Option<DtlsRole>,
    /// SRTP profile in use.
    #[serde(default)]
    pub srtp_profile: Option<String>,
    /// Limits; 0 is none.
    #[serde(default)]
    pub max_incoming_bps: u32,
    /// See [`crate::command::SetTransportBitrates`].
    #[serde(default)]
    pub max_outgoing_bps: u32,
    /// See [`crate::command::SetTransportBitrates`].
    #[serde(default)]
    pub min_outgoing_bps: u32,
}

/// What changes on a producer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProducerState {
    /// How it can be consumed.
    pub rtp_type: RtpType,
    /// By the API.
    pub paused: bool,
    /// Per stream.
    #[serde(default)]
    pub scores: Vec<StreamScore>,
    /// Encodings that nobody watches, as was told last.
    #[serde(default)]
    pub unwatched: Vec<u8>,
}

/// What changes on a consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConsumerState {
    /// By the API.
    pub paused: bool,
    /// At its source.
    pub producer_paused: bool,
    /// 1 to 255.
    pub priority: u8,
    /// Quality.
    #[serde(default)]
    pub score: ConsumerScore,
    /// Wanted.
    #[serde(default)]
    pub preferred_layers: Option<Layers>,
    /// Sent.
    #[serde(default)]
    pub current_layers: Option<Layers>,
}
