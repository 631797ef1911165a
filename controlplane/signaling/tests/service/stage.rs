//! What every test begins with: a service on a free port, and people who have joined.

use std::sync::Arc;
use std::time::Duration;

use ironcast_signaling::hosts::MediaHost;
use ironcast_signaling::service::Service;
use ironcast_signaling::settings::Settings;
use ironcast_signaling::store::Stores;
use ironcast_signaling::{notices, server, web};
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;

pub(crate) struct Stage {
    pub(crate) port: u16,
    pub(crate) media: Arc<FakeMedia>,
    pub(crate) service: Arc<Service>,
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut so: impl FnMut() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(20), waiting).await.is_ok(), "never: {what}");
}

/// Short waiting times, small limits.
pub(crate) fn quick() -> Settings {
    Settings {
        rooms_max: 8,
        participants_per_room_max: 4,
        producers_per_participant_max: 3,
        consumers_per_participant_max: 3,
        reconnect_window: Duration::from_millis(300),
        empty_room_grace: Duration::from_millis(50),
        unjoined_room_grace: Duration::from_millis(100),
        takeover_window: Duration::from_millis(300),
        list_delay: Duration::from_millis(20),
        media_patience: Duration::from_millis(200),
        media_away: Duration::from_millis(200),
        instance: "test".to_owned(),
        ..Settings::default()
    }
}

impl Stage {
    pub(crate) async fn new() -> Self {
        Self::with(quick(), FakeMedia::new()).await
    }

    pub(crate) async fn with(settings: Settings, media: Arc<FakeMedia>) -> Self {
        let stage = Self::start(settings, media).await;
        stage.media.until("events are open", |i| i.calls.iter().any(|c| c == "events")).await;
        stage
    }

    /// Without waiting until it has found its media server.
    pub(crate) async fn start(settings: Settings, media: Arc<FakeMedia>) -> Self {
        Self::start_with(settings, media, Stores::in_memory()).await
    }

    /// With stores that others may use too.
    pub(crate) async fn start_with(
        settings: Settings,
        media: Arc<FakeMedia>,
        stores: Stores,
    ) -> Self {
        let hosts = vec![MediaHost::only(Arc::clone(&media) as _)];
        Self::start_at(settings, hosts, media, stores).await
    }

    /// With several media hosts; `media` is one of them.
    pub(crate) async fn start_at(
        settings: Settings,
        hosts: Vec<MediaHost>,
        media: Arc<FakeMedia>,
        stores: Stores,
    ) -> Self {
        let site = web::site(settings, hosts, stores);
        let service = Arc::clone(&site.service);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let serving =
            server::serve(site, listener, None::<futures::stream::Pending<_>>).await.unwrap();
        let port = serving.address.port();
        tokio::spawn(notices::follow(Arc::clone(&service)));
        Self { port, media, service }
    }

    /// Waits until there are so many rooms.
    pub(crate) async fn until_rooms_are(&self, rooms: usize) {
        let waiting = async {
            while self.service.count().0 != rooms {
                tokio::task::yield_now().await;
            }
        };
        let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
        assert!(waited.is_ok(), "{} rooms", self.service.count().0);
    }

    /// Waits until the media server has passed its health check.
    pub(crate) async fn until_ready(&self) {
        until("it is ready", || self.service.is_ready()).await;
    }

    /// One number of `/metrics`.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let text = self.service.metrics_text();
        let beginning = format!("ironcast_signaling_{name} ");
        let number = text.lines().find_map(|line| line.strip_prefix(&beginning)?.parse().ok());
        number.unwrap_or_else(|| panic!("{name} in {text}"))
    }

    pub(crate) async fn connect(&self) -> Client {
        Client::connect(self.port).await
    }

    /// Someone in room `r`.
    pub(crate) async fn join(&self, name: &str) -> (Client, Value) {
        let mut client = self.connect().await;
        let wanted = json!({ "roomId": "r", "participantId": name, "name": name });
        let joined = client.must("joinRoom", wanted).await;
        (client, joined)
    }

    /// Someone in room `r` who sends one video; gives the producer's id.
    pub(crate) async fn join_sending(&self, name: &str) -> (Client, Value, String) {
        let (mut client, joined) = self.join(name).await;
        client.must("createProducerTransport", json!({})).await;
        let produced = client.must("produce", video()).await;
        (client, joined, produced["id"].as_str().unwrap().to_owned())
    }
}

pub(crate) fn video() -> Value {
    json!({ "kind": "video", "rtpParameters": rtp_parameters(), "appData": { "source": "camera" } })
}

/// Another one, of another media section.
pub(crate) fn video_at(mid: &str) -> Value {
    let mut video = video();
    video["rtpParameters"]["mid"] = json!(mid);
    video
}

pub(crate) fn rtp_parameters() -> Value {
    json!({
        "mid": "0",
        "codecs": [{ "mimeType": "video/VP8", "payloadType": 96, "clockRate": 90000 }],
        "encodings": [{ "ssrc": 1111 }],
        "headerExtensions": [],
        "rtcp": { "cname": "c" },
    })
}

pub(crate) fn dtls_parameters() -> Value {
    let value = vec!["AB"; 32].join(":");
    json!({ "role": "client", "fingerprints": [{ "algorithm": "sha-256", "value": value }] })
}

pub(crate) fn capabilities() -> Value {
    json!({ "codecs": [], "headerExtensions": [] })
}
