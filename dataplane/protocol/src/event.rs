//! Events: what the dataplane reports by itself. Each travels in a frame whose id is the event's
//! sequence number; events about one resource arrive in the order in which they happened.

use serde::{Deserialize, Serialize};

use crate::{
    Id, WorkerId,
    command::{ConsumerScore, Tuple},
    media::Layers,
    observer::Volume,
    trace::Traced,
};

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A worker panicked: its routers and all below them are gone.
    WorkerDied {
        /// Which.
        worker: WorkerId,
        /// What it carried.
        routers: Vec<Id>,
        /// What it said.
        reason: String,
    },
    /// It runs again, empty.
    WorkerRestarted {
        /// Which.
        worker: WorkerId,
    },
    /// ICE state of a transport.
    IceStateChange {
        /// Which.
        transport: Id,
        /// Now.
        state: IceState,
    },
    /// ICE selected another address.
    IceSelectedTupleChange {
        /// Which.
        transport: Id,
        /// Now.
        tuple: Tuple,
    },
    /// The peer of a plain transport is there now.
    PlainTupleChange {
        /// Which.
        transport: Id,
        /// Now.
        tuple: Tuple,
        /// Of RTCP, which has its own.
        #[serde(default)]
        is_rtcp: bool,
    },
    /// DTLS state of a transport.
    DtlsStateChange {
        /// Which.
        transport: Id,
        /// Now.
        state: DtlsState,
        /// SRTP profile, once connected, as in RFC 7714: `AEAD_AES_256_GCM`, ...
        #[serde(default)]
        srtp_profile: Option<String>,
        /// Why it failed.
        #[serde(default)]
        reason: Option<DtlsFailure>,
    },
    /// The dataplane closed a transport (and all on it) by itself.
    TransportClosed {
        /// Which.
        transport: Id,
        /// Why.
        reason: TransportCloseReason,
    },
    /// Quality of a producer's streams, in the order of its encodings.
    ProducerScore {
        /// Which.
        producer: Id,
        /// Now.
        scores: Vec<StreamScore>,
    },
    /// The camera was turned.
    VideoOrientationChange {
        /// Which.
        producer: Id,
        /// Back camera.
        camera: bool,
        /// Mirrored.
        flip: bool,
        /// 0, 90, 180 or 270 degrees.
        rotation: u16,
    },
    /// Encodings of a simulcast that nobody watches; none: all are.
    ProducerLayersUnwatched {
        /// Which.
        producer: Id,
        /// Their indexes.
        encodings: Vec<u8>,
    },
    /// Quality of a consumer.
    ConsumerScore {
        /// Which.
        consumer: Id,
        /// Now.
        score: ConsumerScore,
    },
    /// A consumer sends other layers now; none while nothing is sent.
    ConsumerLayersChange {
        /// Which.
        consumer: Id,
        /// Now.
        layers: Option<Layers>,
        /// Why.
        reason: LayersReason,
    },
    /// The packet numbers of a received stream are used up (2^32): nothing of it is forwarded any
    /// more. Its producer is to be made anew. Told once.
    ProducerExhausted {
        /// Which.
        producer: Id,
        /// Index of its encoding.
        encoding_idx: u8,
    },
    /// The packet numbers of a sent stream are used up (2^32). The consumer is to be made anew. Told
    /// once for each kind.
    ConsumerExhausted {
        /// Which.
        consumer: Id,
        /// What is not sent any more.
        stream: SentStream,
    },
    /// An observer's loudest producers of the last interval, the loudest first.
    ObserverVolumes {
        /// Which observer.
        observer: Id,
        /// At least one.
        volumes: Vec<Volume>,
    },
    /// Nobody whom an observer listens to is loud any more.
    ObserverSilence {
        /// Which observer.
        observer: Id,
    },
    /// Another producer dominates.
    DominantSpeaker {
        /// Which observer.
        observer: Id,
        /// Who.
        producer: Id,
    },
    /// Something that is traced has happened.
    Trace(Traced),
    /// An event this build does not know: ignored.
    #[serde(other)]
    Unknown,
}

/// ICE state, mediasoup's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IceState {
    /// No check yet.
    #[default]
    New,
    /// A check passed.
    Connected,
    /// The peer nominated.
    Completed,
    /// Checks stopped.
    Disconnected,
    /// Over.
    Closed,
}

/// DTLS state, mediasoup's names.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtlsState {
    /// Nothing yet.
    #[default]
    New,
    /// Handshake runs.
    Connecting,
    /// Keys are there.
    Connected,
    /// Handshake failed, or a wrong fingerprint.
    Failed,
    /// The peer closed.
    Closed,
}

/// Why a handshake failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DtlsFailure {
    /// The peer's certificate, or its proof that it is its own, cannot be used.
    Certificate,
    /// The peer's certificate is not the one that was signalled.
    Fingerprint,
    /// No common version, cipher suite or key exchange.
    NoCommonCipher,
    /// No common SRTP protection profile.
    NoCommonSrtpProfile,
    /// The peer did not answer in time.
    Timeout,
    /// The peer ended it by an alert.
    Refused,
    /// The peer broke the protocol.
    Protocol,
    /// A fault of ours, or a reason that this build does not know.
    #[serde(other)]
    Internal,
}

/// Why the dataplane closed a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransportCloseReason {
    /// No authenticated check within the consent time.
    ConsentLost,
    /// The peer closed DTLS.
    DtlsClosed,
}

/// Why layers changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LayersReason {
    /// The receiver asked.
    Preferred,
    /// The receiver's network.
    Bandwidth,
    /// The source stopped or started a layer.
    Available,
    /// The room sees others: [`Selection::last`](crate::command::Selection::last).
    LastN,
}

/// One of the streams that a consumer is sent as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SentStream {
    /// The track.
    Media,
    /// Its repeats (RTX).
    Repeats,
}

/// Score of one received stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamScore {
    /// Index of its encoding.
    pub encoding_idx: u8,
    /// Its SSRC.
    pub ssrc: u32,
    /// Its RID.
    #[serde(default)]
    pub rid: Option<String>,
    /// 0 to 10.
    pub score: u8,
}
