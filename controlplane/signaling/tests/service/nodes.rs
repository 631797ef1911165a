//! A fleet for a test: nodes that share a Redis server, a media server, messages and a key. Each
//! runs in a runtime of its own, which can be ended at once: then all that it was doing stops in
//! the middle, and its sockets are gone, as when a process is killed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_signaling::hosts::MediaHost;
use ironcast_signaling::identity::Tokens;
use ironcast_signaling::settings::{FleetTimes, Settings};
use ironcast_signaling::store::hub::Hub;
use ironcast_signaling::store::memory::Memory;
use ironcast_signaling::store::{Lasting, Stores};
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::redis::RedisServer;
use crate::stage::{Stage, quick, video};

pub(crate) struct Fleet {
    pub(crate) redis: RedisServer,
    pub(crate) media: Arc<FakeMedia>,
    pub(crate) messages: Arc<dyn Lasting>,
    pub(crate) settings: Settings,
    /// Where there are several.
    pub(crate) hosts: Vec<MediaHost>,
}

pub(crate) struct Node {
    pub(crate) stage: Stage,
    pub(crate) name: String,
    runtime: Option<Runtime>,
}

impl Fleet {
    pub(crate) async fn new() -> Self {
        let settings = Settings {
            instance: "fleet test".to_owned(),
            tokens: Tokens::new(b"the same at all nodes of the fleet"),
            reconnect_window: Duration::from_millis(500),
            takeover_window: Duration::from_secs(2),
            requests_per_socket_burst: 1_000,
            chat_per_participant_per_s: 0,
            media_patience: Duration::from_secs(2),
            media_away: Duration::from_secs(2),
            fleet: FleetTimes {
                beat: Duration::from_millis(50),
                node: Duration::from_secs(2),
                look: Duration::from_millis(50),
                settle: Duration::from_millis(300),
            },
            ..quick()
        };
        let (redis, media) = (RedisServer::start().await, FakeMedia::new());
        let hosts = vec![MediaHost::only(Arc::clone(&media) as _)];
        Self { redis, media, messages: Arc::new(Memory::default()), settings, hosts }
    }

    pub(crate) async fn node(&self, name: &str) -> Node {
        self.node_at(name, self.redis.url()).await
    }

    pub(crate) async fn node_at(&self, name: &str, redis: String) -> Node {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (settings, media) = (self.settings.clone(), Arc::clone(&self.media));
        let hosts = self.hosts.clone();
        let (messages, node) = (Arc::clone(&self.messages), name.to_owned());
        let starting = runtime.spawn(async move {
            let hub = Some(Hub::connect(&redis, node).await.unwrap());
            let stores = Stores { hub, lasting: messages, ..Stores::in_memory() };
            Stage::start_at(settings, hosts, media, stores).await
        });
        let stage = starting.await.unwrap();
        stage.until_ready().await;
        Node { stage, name: name.to_owned(), runtime: Some(runtime) }
    }

    /// Waits until all that a room had is gone.
    pub(crate) async fn until_over(&self) {
        self.media.until("all routers are gone", |inside| inside.routers.is_empty()).await;
        let gone = async {
            while !self.redis.keys("room:*").is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let gone = tokio::time::timeout(Duration::from_secs(10), gone).await;
        gone.unwrap_or_else(|_| panic!("left: {:?}", self.redis.keys("*")));
    }
}

impl Node {
    /// In the middle of whatever it does.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        self.stage.metric(name)
    }

    /// Waits until somebody who asks sees these people and so many tracks in room `r`.
    pub(crate) async fn until_seen(&self, client: &mut Client, people: &[&str], tracks: usize) {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let seen = self.seen(client).await;
            let producers = client.must("listProducers", json!({})).await["producers"].clone();
            if seen == people && producers.as_array().unwrap().len() == tracks {
                return;
            }
            assert!(Instant::now() < end, "at {}: {seen:?} and {producers}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Who is in room `r`, as one of them is told.
    pub(crate) async fn seen(&self, client: &mut Client) -> Vec<String> {
        let joined = client.must("joinRoom", json!({ "roomId": "r" })).await;
        let people = joined["participants"].as_array().unwrap().iter();
        people.map(|one| one["participantId"].as_str().unwrap().to_owned()).collect()
    }

    /// Comes to room `r` with a token.
    pub(crate) async fn come_back(&self, joined: &Value) -> (Client, Value) {
        let mut client = self.stage.connect().await;
        let wanted = json!({
            "roomId": "r",
            "participantId": joined["participantId"],
            "name": joined["participantId"],
            "resumeToken": joined["resumeToken"],
        });
        let joined = client.must("joinRoom", wanted).await;
        (client, joined)
    }

    pub(crate) async fn send_video(&self, client: &mut Client) -> String {
        client.must("createProducerTransport", json!({})).await;
        client.must("produce", video()).await["id"].as_str().unwrap().to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
