//! What is heard of the other nodes: a connection of its own, on which they tell that they are there, and
//! what is new in the rooms that it was asked to hear of.

use futures::StreamExt;
use ironcast_api::Id;
use redis::Client;
use redis::aio::{PubSubSink, PubSubStream};

use super::news::Told;
use super::scripts::{NODES, channel};
use super::{WAIT_MAX, late};
use crate::store::StoreError;

/// What was heard.
#[derive(Debug)]
pub enum Heard {
    /// A node is there.
    Node(String),
    /// Something about a room.
    Room(Id, Box<Told>),
}

/// What is heard of the rooms that were subscribed to. Ends when the connection does.
pub struct Ear {
    sink: PubSubSink,
    stream: PubSubStream,
}

impl Ear {
    pub(super) async fn open(client: &Client) -> Result<Self, StoreError> {
        let connecting = async {
            let (mut sink, stream) = client.get_async_pubsub().await?.split();
            sink.subscribe(NODES).await?;
            Ok::<_, redis::RedisError>(Self { sink, stream })
        };
        Ok(tokio::time::timeout(WAIT_MAX, connecting).await.map_err(late)??)
    }

    /// The part that subscribes.
    pub fn sink(&self) -> Subscriber {
        Subscriber(self.sink.clone())
    }

    /// The next thing that is understood; none when the connection has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        loop {
            let message = self.stream.next().await?;
            let payload = message.get_payload_bytes();
            let name = message.get_channel_name();
            if name == NODES {
                return Some(Heard::Node(String::from_utf8_lossy(payload).into_owned()));
            }
            let room_id = name.strip_prefix("channel:room:").and_then(|id| Id::new(id).ok());
            // What another version says, and this one does not know, is none of its business.
            if let (Some(room_id), Ok(told)) = (room_id, serde_json::from_slice(payload)) {
                return Some(Heard::Room(room_id, Box::new(told)));
            }
        }
    }
}

/// Says of which rooms an [`Ear`] hears.
#[derive(Clone)]
pub struct Subscriber(PubSubSink);

impl Subscriber {
    /// From the answer on.
    pub async fn subscribe(&mut self, rooms: &[Id]) -> Result<(), StoreError> {
        let channels: Vec<String> = rooms.iter().map(channel).collect();
        if channels.is_empty() {
            return Ok(());
        }
        let asked = self.0.subscribe(channels);
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }

    /// No more.
    pub async fn unsubscribe(&mut self, room_id: &Id) -> Result<(), StoreError> {
        let asked = self.0.unsubscribe(channel(room_id));
        Ok(tokio::time::timeout(WAIT_MAX, asked).await.map_err(late)??)
    }
}
