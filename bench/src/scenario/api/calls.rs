//! The calls of a join, as a signaling service makes them: what a participant needs for himself in
//! two batches, what the others need of him in a third. Bodies only; [`super::room`] sends them.

use anyhow::{Context, Result};
use ironcast_load::{
    ortc::Device,
    source::{AudioOptions, VideoOptions},
};
use serde_json::{Value, json};

/// What all participants have in common.
pub(super) struct Client {
    capabilities: Value,
    video: Value,
    audio: Value,
}

/// Kinds of what each participant sends.
pub(super) const KINDS: [&str; 2] = ["audio", "video"];

impl Client {
    /// Of routers with these capabilities.
    pub(super) fn new(router: &Value) -> Result<Self> {
        let device = Device::load(router).context("the router's capabilities")?;
        let (mut video, mut audio) = (VideoOptions::default(), AudioOptions::default());
        Ok(Self {
            capabilities: device.rtp_capabilities(),
            video: device.video_parameters(&mut video)?,
            audio: device.audio_parameters(&mut audio)?,
        })
    }

    /// First batch: both transports, and what the participant receives of those who are there.
    pub(super) fn enter(&self, room: &str, person: usize, others: &[usize]) -> Vec<Value> {
        let participant = participant(room, person);
        let transport = |direction: &str| {
            let id = transport(room, person, direction);
            let mut body = json!({
                "type": "webrtc",
                "id": id,
                "routerId": room,
                "participantId": participant,
            });
            if direction == "receive" {
                body["rtpCapabilities"] = self.capabilities.clone();
            }
            post("/transports", body)
        };
        let mut calls = vec![transport("send"), transport("receive")];
        calls.extend(others.iter().flat_map(|other| consumers(room, person, *other)));
        calls
    }

    /// Second batch: both transports are connected, and the participant sends.
    pub(super) fn begin(&self, room: &str, person: usize) -> Vec<Value> {
        let value = ["CD"; 32].join(":");
        let fingerprint = json!({ "algorithm": "sha-256", "value": value });
        let dtls = json!({ "role": "client", "fingerprints": [fingerprint] });
        let connect = |direction: &str| {
            let path = format!("/transports/{}/connect", transport(room, person, direction));
            post(&path, json!({ "dtlsParameters": dtls }))
        };
        let produce = |kind: &str| {
            let parameters = if kind == "audio" { &self.audio } else { &self.video };
            post(
                "/producers",
                json!({
                    "id": producer(room, person, kind),
                    "transportId": transport(room, person, "send"),
                    "kind": kind,
                    "rtpParameters": parameters,
                }),
            )
        };
        vec![connect("send"), connect("receive"), produce(KINDS[0]), produce(KINDS[1])]
    }

    /// Third batch: the others receive him.
    pub(super) fn be_received(room: &str, person: usize, others: &[usize]) -> Vec<Value> {
        others.iter().flat_map(|other| consumers(room, *other, person)).collect()
    }
}

/// What one participant receives of another.
fn consumers(room: &str, receiver: usize, sender: usize) -> impl Iterator<Item = Value> {
    let transport = transport(room, receiver, "receive");
    let room = room.to_owned();
    KINDS.into_iter().map(move |kind| {
        let producer = producer(&room, sender, kind);
        post(
            "/consumers",
            json!({ "transportId": transport, "producerId": producer, "paused": true }),
        )
    })
}

/// The participant's id.
pub(super) fn participant(room: &str, person: usize) -> String {
    format!("{room}-p{person}")
}

fn transport(room: &str, person: usize, direction: &str) -> String {
    format!("{room}-p{person}-{direction}")
}

fn producer(room: &str, person: usize, kind: &str) -> String {
    format!("{room}-p{person}-{kind}")
}

fn post(path: &str, body: Value) -> Value {
    json!({ "method": "POST", "path": path, "body": body })
}
