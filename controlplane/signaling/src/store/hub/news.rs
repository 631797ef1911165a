//! The words of the nodes: records of participants and broadcasts as they are written, and the news that
//! are told. Nodes of other versions read them, too.

use ironcast_api::{AppData, Id, MediaKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::broadcast::Kind;
use crate::store::{Message, Present};

/// A track that somebody sends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Track {
    /// The producer.
    pub id: Id,
    /// Audio or video.
    pub kind: MediaKind,
    /// Muted by its owner.
    pub paused: bool,
    /// Told to the others.
    pub app_data: AppData,
    /// Its codec, where its maker said it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mime: Option<String>,
}

/// A participant as all nodes know him.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// Who, and where.
    #[serde(flatten)]
    pub who: Present,
    /// Counts up with each change, by whichever node.
    pub version: u64,
    /// His socket is open.
    pub connected: bool,
    /// He can talk directly to another browser.
    pub p2p: bool,
    /// He chose his id himself.
    pub id_is_chosen: bool,
    /// The router that has his media, where it is not the room's own: `id@host`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// What he sends.
    pub producers: Vec<Track>,
}

/// A broadcast or recording, as all nodes know it: `room:{id}:broadcasts`, by its kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown {
    /// The node that makes it.
    pub node: String,
    /// Which; never used twice.
    pub broadcast_id: String,
    /// What it is.
    pub kind: Kind,
    /// Counts up with each change.
    pub version: u64,
    /// As browsers are told.
    pub told: Map<String, Value>,
    /// Nothing is left of it.
    pub is_over: bool,
}

/// Beside its record: a broadcast is to end.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Stop {
    pub(super) stop: String,
}

/// What is told to a room's nodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum News {
    /// Somebody came.
    UserJoined(Member),
    /// Something about him is new: what he sends, his node, his name.
    UserChanged(Member),
    /// He is gone.
    #[serde(rename_all = "camelCase")]
    UserLeft {
        /// Who.
        participant_id: Id,
        /// Which of his sessions.
        session: Id,
        /// Newer than all records of this session.
        version: u64,
        /// `left`, `disconnected`, ...
        reason: String,
    },
    /// A session description for somebody's browser.
    Offer(Relayed),
    /// Another.
    Answer(Relayed),
    /// Where a browser may be reached.
    Ice(Relayed),
    /// Somebody wrote something.
    Chat(Message),
    /// A moderator has paused tracks of somebody.
    #[serde(rename_all = "camelCase")]
    Muted {
        /// Whose.
        participant_id: Id,
        /// Which.
        producer_ids: Vec<Id>,
        /// The moderator.
        by: Id,
    },
    /// A moderator puts somebody out.
    #[serde(rename_all = "camelCase")]
    PutOut {
        /// Whom.
        participant_id: Id,
        /// Which of his sessions.
        session: Id,
        /// The moderator.
        by: Id,
    },
    /// A moderator ends the call for all.
    Ended {
        /// The moderator.
        by: Id,
    },
    /// A broadcast begins, changes or is over.
    #[serde(rename_all = "camelCase")]
    Broadcast {
        /// As it is now.
        show: Shown,
        /// What else browsers are told of it this time.
        more: Map<String, Value>,
    },
    /// Somebody at another node ends a broadcast.
    #[serde(rename_all = "camelCase")]
    StopBroadcast {
        /// Which.
        broadcast_id: String,
    },
}

/// From one browser to another.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Relayed {
    /// Who says it.
    pub from: Id,
    /// To whom.
    pub to: Id,
    /// What.
    pub content: Value,
}

/// News with the node that tells them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Told {
    /// The node. (A record has a `node`, too, in the same object.)
    #[serde(rename = "toldBy")]
    pub node: String,
    /// What it tells.
    #[serde(flatten)]
    pub news: News,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn member() -> Member {
        serde_json::from_value(json!({
            "roomId": "r", "participantId": "ada", "session": "ada.1", "name": "Ada", "node": "n",
            "version": 1_u64 << 45, "connected": true, "p2p": false, "idIsChosen": true,
            "producers": [{ "id": "p", "kind": "video", "paused": false, "appData": {} }],
        }))
        .unwrap()
    }

    #[test]
    fn news_are_read_as_they_were_written() {
        let left = News::UserLeft {
            participant_id: "ada".parse().unwrap(),
            session: "ada.1".parse().unwrap(),
            version: 7,
            reason: "left".to_owned(),
        };
        let show = News::Broadcast {
            show: Shown {
                node: "another".to_owned(),
                broadcast_id: "b".to_owned(),
                kind: Kind::Hls,
                version: 1 << 45,
                told: Map::new(),
                is_over: false,
            },
            more: Map::new(),
        };
        let all =
            [("USER_JOINED", News::UserJoined(member())), ("USER_LEFT", left), ("BROADCAST", show)];
        for (kind, news) in all {
            let told = Told { node: "n".to_owned(), news };
            let written = serde_json::to_value(&told).unwrap();
            assert_eq!(written["type"], kind);
            assert_eq!(serde_json::from_value::<Told>(written).unwrap(), told);
            // As text no name may come twice either.
            let text = serde_json::to_string(&told).unwrap();
            assert_eq!(serde_json::from_str::<Told>(&text).unwrap(), told);
        }
    }
}
