//! Every event that a browser may send: what it asks for, all its names, and the reply event for
//! clients without an acknowledgement. One table, read by the gateway; the names come from three
//! dialects (camelCase with acknowledgements, `sfu_*`, kebab-case with reply events).

/// Which way a transport carries media, seen from the browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the browser to us.
    Send,
    /// From us to the browser.
    Receive,
}

impl Direction {
    /// As it is noted at the media server.
    pub fn name(self) -> &'static str {
        match self {
            Self::Send => "send",
            Self::Receive => "receive",
        }
    }

    /// The one of this name.
    pub fn of_name(name: &str) -> Option<Self> {
        [Self::Send, Self::Receive].into_iter().find(|each| each.name() == name)
    }
}

/// What browsers say to each other to talk directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A session description.
    Offer,
    /// Another.
    Answer,
    /// Where one may be reached.
    Candidate,
}

impl Signal {
    /// Where the payload has it.
    pub fn key(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Candidate => "candidate",
        }
    }

    /// All names of its event.
    pub fn names(self) -> [&'static str; 2] {
        match self {
            Self::Offer => ["webrtc:offer", "webrtc_offer"],
            Self::Answer => ["webrtc:answer", "webrtc_answer"],
            Self::Candidate => ["webrtc:ice-candidate", "webrtc_ice_candidate"],
        }
    }
}

/// What an event asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Make a room without joining it.
    CreateRoom,
    /// Join a room, or come back to it with a resume token.
    JoinRoom,
    /// Leave at once.
    LeaveRoom,
    /// What the room's router can receive.
    RouterCapabilities,
    /// A transport; without a direction the payload says it.
    CreateTransport(Option<Direction>),
    /// DTLS of a transport; without a direction the payload's `transportId` says which.
    ConnectTransport(Option<Direction>),
    /// New ICE credentials.
    RestartIce,
    /// Send a track.
    Produce,
    /// Pause an own producer.
    PauseProducer,
    /// Resume an own producer.
    ResumeProducer,
    /// Close own producers.
    StopProducing,
    /// What the others send.
    ListProducers,
    /// Receive somebody's track.
    Consume,
    /// Resume an own consumer.
    ResumeConsumer,
    /// Pause an own consumer.
    PauseConsumer,
    /// Which simulcast layers an own consumer wants at most.
    SetPreferredLayers,
    /// Ask for a key frame.
    RequestKeyFrame,
    /// I am still here.
    Heartbeat,
    /// I have the room's new way for media, or do not get it.
    ModeSwitched,
    /// Something for another browser.
    Relay(Signal),
    /// Write to the room.
    ChatMessage,
    /// What was written in the room.
    ListMessages,
    /// Let the room be watched, or record it.
    StartBroadcast,
    /// No longer.
    StopBroadcast,
    /// What was recorded of the room.
    ListRecordings,
    /// Pause what somebody sends.
    MuteParticipant,
    /// Put somebody out of the room.
    RemoveParticipant,
    /// End the call for all.
    EndRoom,
}

impl Action {
    /// Whether it is begun in its turn and waited for beside what comes after it: a store may be slow, and
    /// a call goes on meanwhile.
    pub fn is_aside(self) -> bool {
        matches!(self, Self::ChatMessage | Self::ListMessages | Self::ListRecordings)
    }

    /// Whether a message may be done together with others of its kind.
    pub fn is_grouped(self) -> bool {
        matches!(self, Self::CreateTransport(_) | Self::Consume | Self::ResumeConsumer)
    }

    /// Whether a message is done together with the one right before it: all transports and
    /// consumers of a join are.
    pub fn goes_with(self, before: Self) -> bool {
        match before {
            Self::CreateTransport(_) => matches!(self, Self::CreateTransport(_) | Self::Consume),
            Self::Consume => self == Self::Consume,
            Self::ResumeConsumer => self == Self::ResumeConsumer,
            _ => false,
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What it asks for.
    pub action: Action,
    /// All names; the first is the canonical one.
    pub names: &'static [&'static str],
    /// The reply event for clients without an acknowledgement; where there is none, silence means
    /// that it worked.
    pub reply: Option<&'static str>,
}

const fn row(action: Action, names: &'static [&'static str], reply: Option<&'static str>) -> Row {
    Row { action, names, reply }
}

use Action as A;
use Direction::{Receive, Send};

/// The table.
pub const TABLE: &[Row] = &[
    row(A::CreateRoom, &["createRoom"], Some("room-created")),
    row(A::JoinRoom, &["joinRoom", "join_room"], Some("call:joined")),
    row(A::LeaveRoom, &["leaveRoom", "leave_room"], Some("left")),
    row(
        A::RouterCapabilities,
        &["getRouterRtpCapabilities", "sfu_get_router_capabilities", "get-rtp-capabilities"],
        Some("rtp-capabilities"),
    ),
    row(A::CreateTransport(Some(Send)), &["createProducerTransport"], TRANSPORT_CREATED),
    row(A::CreateTransport(Some(Receive)), &["createConsumerTransport"], TRANSPORT_CREATED),
    row(A::CreateTransport(None), &["sfu_create_transport", "create-transport"], TRANSPORT_CREATED),
    row(A::ConnectTransport(Some(Send)), &["connectProducerTransport"], TRANSPORT_CONNECTED),
    row(A::ConnectTransport(Some(Receive)), &["connectConsumerTransport"], TRANSPORT_CONNECTED),
    row(
        A::ConnectTransport(None),
        &["sfu_connect_transport", "connect-transport"],
        TRANSPORT_CONNECTED,
    ),
    row(A::RestartIce, &["restartIce"], Some("ice-restarted")),
    row(A::Produce, &["produce", "sfu_produce"], Some("produced")),
    row(A::PauseProducer, &["pauseProducer", "pause-producer"], None),
    row(A::ResumeProducer, &["resumeProducer", "resume-producer"], None),
    row(A::StopProducing, &["stopProducing"], Some("stopped")),
    row(A::ListProducers, &["listProducers"], Some("producers")),
    row(A::Consume, &["consume", "sfu_consume"], Some("consumed")),
    row(A::ResumeConsumer, &["resumeConsumer", "resume-consumer"], None),
    row(A::PauseConsumer, &["pauseConsumer", "pause-consumer"], None),
    row(A::SetPreferredLayers, &["setPreferredLayers"], None),
    row(A::RequestKeyFrame, &["requestKeyFrame"], None),
    row(A::Heartbeat, &["heartbeat"], None),
    row(A::ModeSwitched, &["call:mode-switched"], None),
    row(A::Relay(Signal::Offer), &["webrtc:offer", "webrtc_offer"], None),
    row(A::Relay(Signal::Answer), &["webrtc:answer", "webrtc_answer"], None),
    row(A::Relay(Signal::Candidate), &["webrtc:ice-candidate", "webrtc_ice_candidate"], None),
    row(A::ChatMessage, &["chat_message"], None),
    row(A::ListMessages, &["listMessages"], Some("messages")),
    row(A::StartBroadcast, &["startBroadcast", "start-broadcast"], Some("broadcast-started")),
    row(A::StopBroadcast, &["stopBroadcast", "stop-broadcast"], Some("broadcast-stopped")),
    row(A::ListRecordings, &["listRecordings", "list-recordings"], Some("recordings")),
    row(A::MuteParticipant, &["muteParticipant", "mute-participant"], None),
    row(A::RemoveParticipant, &["removeParticipant", "remove-participant"], None),
    row(A::EndRoom, &["endRoom", "end-room"], None),
];

const TRANSPORT_CREATED: Option<&str> = Some("transport-created");
const TRANSPORT_CONNECTED: Option<&str> = Some("transport-connected");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::TABLE;

    #[test]
    fn no_name_is_used_twice() {
        let names: Vec<_> = TABLE.iter().flat_map(|row| row.names).collect();
        let unique: BTreeSet<_> = names.iter().collect();
        assert_eq!(names.len(), unique.len());
    }
}
