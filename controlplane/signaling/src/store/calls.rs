//! What is kept of calls: which way a call's media goes and where, who is in it and was, and what he
//! has at the media server. One record for a room, and one for each session of a participant.

use ironcast_api::Id;
use serde::Serialize;
use serde_json::Value;

/// Participants of a call that are shown at most, the newest.
pub const PARTICIPANTS_SHOWN_MAX: u32 = 1_000;

/// A call. A room that is empty has ended; who joins it later begins a new one.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallSession {
    /// The room.
    pub call_id: Id,
    /// `p2p` or `sfu`.
    pub mode: String,
    /// Its router; none while people talk directly.
    pub router_id: Option<Id>,
    /// What the router can receive, once it is there.
    pub rtp_capabilities: Option<Value>,
    /// When somebody was in it first, in ms of the Unix epoch.
    pub started_ms: u64,
    /// When the last one had left; none while it lasts.
    pub ended_ms: Option<u64>,
}

/// Whether somebody is in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// He is.
    Connected,
    /// His socket is lost, and he may come back.
    Reconnecting,
    /// He is not any more.
    Disconnected,
}

impl Status {
    /// As it is kept.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Reconnecting => "reconnecting",
            Self::Disconnected => "disconnected",
        }
    }

    /// The one of this name; whoever is not known to be there is not.
    pub fn of_name(name: &str) -> Self {
        let all = [Self::Connected, Self::Reconnecting];
        all.into_iter().find(|each| each.name() == name).unwrap_or(Self::Disconnected)
    }
}

/// Somebody in a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CallParticipant {
    /// The room.
    #[serde(skip)]
    pub call_id: Id,
    /// His session: who comes back under his id without his resume token is another record.
    #[serde(skip)]
    pub session: Id,
    /// Who.
    pub participant_id: Id,
    /// What others read.
    pub name: String,
    /// Whether he is there.
    pub status: Status,
    /// When he came, in ms of the Unix epoch.
    pub joined_ms: u64,
    /// When he left.
    pub left_ms: Option<u64>,
    /// What he sends by.
    pub send_transport_id: Option<Id>,
    /// What he receives by.
    pub recv_transport_id: Option<Id>,
    /// His microphone, or the first sound that he sends.
    pub audio_producer_id: Option<Id>,
    /// His camera, or the first picture.
    pub video_producer_id: Option<Id>,
    /// The media host that has all this, by its address.
    pub media_host: Option<String>,
}

/// Something to be kept.
#[derive(Debug, Clone, PartialEq)]
pub enum CallRecord {
    /// A call began, or goes on in another way.
    Session(CallSession),
    /// It ended.
    Ended {
        /// Which.
        call_id: Id,
        /// When.
        ended_ms: u64,
    },
    /// Somebody came, or something of him is new.
    Participant(CallParticipant),
    /// A session ended.
    Left {
        /// In which call.
        call_id: Id,
        /// Whose.
        session: Id,
        /// When.
        left_ms: u64,
    },
}
