//! The load of rooms: each participant has a sending and a receiving transport, a camera of three
//! layers and a microphone; sees some of the others large and the rest small, and hears those who
//! talk. For the scenarios `meeting` and `memory`. Sources can be paused together.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use ironcast_load::{
    AudioOptions, Control, PeerHandle, ReceiveMode, VideoOptions,
    call::{Transport, open_peer},
    http::PlainHttp,
    ortc::{self, Device},
    session::SourceId,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Counts, Said, Sample, Tally,
    api::{Stream, give_feedback, join_options, produce, verify},
    say,
};

/// Joins under way at once.
const JOINS_MAX: usize = 8;

/// Who is in the rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rooms {
    /// How many rooms.
    pub(crate) rooms: usize,
    /// Participants of each.
    pub(crate) people: usize,
    /// Participants of each room who talk; the others' microphones are silent.
    pub(crate) talkers: usize,
    /// Tiles that each sees in the highest layer; the rest in the lowest.
    pub(crate) large: usize,
    /// Bits per second of the layers, lowest first.
    pub(crate) layers_bps: [u64; 3],
    /// Nothing is sent before the command `play`.
    pub(crate) silent: bool,
}

impl Rooms {
    /// Everybody.
    pub(crate) fn participants(&self) -> usize {
        self.rooms * self.people
    }

    /// Streams that are received: every camera by all others, and those who talk.
    pub(crate) fn consumers(&self) -> usize {
        let talkers = self.talkers.min(self.people);
        self.rooms * (self.people + talkers) * (self.people - 1)
    }
}

/// A running load.
pub(super) struct RoomsLoad {
    api: Arc<PlainHttp>,
    talkers: usize,
    people: Vec<Person>,
    rooms: usize,
    /// Of them, so many play.
    playing: usize,
}

struct Person {
    send: Transport,
    camera: (String, SourceId),
    microphone: (String, SourceId),
    receive: PeerHandle,
    receive_id: String,
    streams: Vec<Expected>,
}

/// What a person receives, and of whom.
struct Expected {
    stream: Stream,
    /// Place of the person who sends it.
    sender: usize,
    what: Track,
}

#[derive(Clone, Copy)]
enum Track {
    /// This layer of the camera.
    Camera(usize),
    Microphone,
}

fn room(number: usize) -> String {
    format!("bench-{number}")
}

impl RoomsLoad {
    pub(super) async fn start(
        plan: &Rooms,
        cipher: &str,
        api: PlainHttp,
        tally: &Tally,
    ) -> Result<Self> {
        let api = Arc::new(api);
        let mut load = Self {
            api,
            talkers: plan.talkers,
            people: Vec::new(),
            rooms: plan.rooms,
            playing: if plan.silent { 0 } else { plan.rooms },
        };
        let mut joining = tokio::task::JoinSet::new();
        let mut people: Vec<Option<Person>> = Vec::new();
        people.resize_with(plan.participants(), || None);
        let mut device = None;
        for number in 0..plan.rooms {
            let body = json!({ "id": room(number) });
            let made = load.api.call("POST", "/v1/routers", Some(body)).await?;
            device = Some(Device::load(&made["rtpCapabilities"])?);
        }
        let device = Arc::new(device.context("no rooms")?);
        let mut joined = 0;
        let mut done = |one: Option<Result<Result<(usize, Person)>, tokio::task::JoinError>>| {
            if let Some(one) = one {
                let (at, person) = one??;
                people[at] = Some(person);
                joined += 1;
                say(&Said::Joined(joined));
            }
            anyhow::Ok(())
        };
        for at in 0..plan.participants() {
            if joining.len() == JOINS_MAX {
                done(joining.join_next().await)?;
            }
            let (api, device, plan) = (Arc::clone(&load.api), Arc::clone(&device), plan.clone());
            let (cipher, tally) = (cipher.to_owned(), tally.clone());
            joining.spawn(async move {
                let name = format!("person-{at}");
                let person = join(&api, &device, &plan, at, &cipher, &tally).await;
                Ok((at, person.with_context(|| format!("{name} cannot join"))?))
            });
        }
        while let Some(one) = joining.join_next().await {
            done(Some(one))?;
        }
        load.people = people.into_iter().flatten().collect();
        load.subscribe_all(plan, &device).await?;
        Ok(load)
    }

    /// Everybody gets everybody else's camera, and the microphones of those who talk.
    async fn subscribe_all(&mut self, plan: &Rooms, device: &Device) -> Result<()> {
        let capabilities = device.rtp_capabilities();
        for viewer in 0..self.people.len() {
            let first = viewer / plan.people * plan.people;
            for step in 1..plan.people {
                let other = first + (viewer - first + step) % plan.people;
                let source = &self.people[other];
                let layer = if step <= plan.large { 2 } else { 0 };
                let talks = other - first < plan.talkers;
                let tracks = [
                    Some((source.camera.0.clone(), Track::Camera(layer))),
                    talks.then(|| (source.microphone.0.clone(), Track::Microphone)),
                ];
                for (producer, what) in tracks.into_iter().flatten() {
                    let mut body = json!({
                        "transportId": self.people[viewer].receive_id,
                        "producerId": producer,
                        "rtpCapabilities": capabilities,
                    });
                    if let Track::Camera(layer) = what {
                        body["preferredLayers"] = json!({ "spatialLayer": layer });
                    }
                    let answer = self.api.call("POST", "/v1/consumers", Some(body)).await?;
                    let expected = ortc::receive_options(&answer["rtpParameters"])?;
                    let person = &mut self.people[viewer];
                    let stream = Stream {
                        handle: person.receive.clone(),
                        ssrc: expected.ssrc,
                        rtx_ssrc: expected.rtx_ssrc,
                    };
                    person.streams.push(Expected { stream, sender: other, what });
                }
            }
            say(&Said::Subscribed(viewer + 1));
        }
        let all = self.people.iter().flat_map(|person| &person.streams);
        tokio::spawn(give_feedback(all.map(|one| one.stream.clone()).collect()));
        Ok(())
    }

    /// Lets the sources of so many rooms send, and no others.
    pub(super) fn play(&mut self, rooms: usize) {
        self.playing = rooms;
        for (at, person) in self.people.iter().enumerate() {
            let (plays, talks) = (at < self.heard(), at % self.room_size() < self.talkers);
            person.send.session.pause_source(person.camera.1, !plays);
            person.send.session.pause_source(person.microphone.1, !(plays && talks));
        }
    }

    fn room_size(&self) -> usize {
        self.people.len() / self.rooms
    }

    /// People of rooms that play.
    fn heard(&self) -> usize {
        self.playing.min(self.rooms) * self.room_size()
    }

    /// Streams that should come, and that came.
    pub(super) fn receiving(&self) -> (usize, usize) {
        let (mut come, mut all) = (0, 0);
        for person in &self.people[..self.heard()] {
            let known = person.receive.streams();
            come +=
                person.streams.iter().filter(|one| known.contains_key(&one.stream.ssrc)).count();
            all += person.streams.len();
        }
        (come, all)
    }

    /// Each received stream against the track and layer that was asked for.
    pub(super) fn samples(&self) -> Vec<Sample> {
        let sent: Vec<Sent> = self.people.iter().map(Person::sent).collect();
        let mut samples = Vec::new();
        for person in &self.people {
            let streams = person.receive.streams();
            let of = |one: &Expected| one.stream.sample(sent[one.sender].of(one.what), &streams);
            samples.extend(person.streams.iter().map(of));
        }
        samples
    }

    /// The publishers' transports.
    pub(super) fn senders(&self) -> Vec<PeerHandle> {
        self.people.iter().map(|person| person.send.session.peer().clone()).collect()
    }

    /// The receivers' transports.
    pub(super) fn handles(&self) -> Vec<PeerHandle> {
        self.people.iter().map(|person| person.receive.clone()).collect()
    }

    pub(super) fn add_to(&self, counts: &mut Counts) {
        let sent: Vec<Sent> = self.people.iter().map(Person::sent).collect();
        for person in &self.people {
            let streams = person.receive.streams();
            for one in &person.streams {
                counts.sent += sent[one.sender].of(one.what);
                one.stream.add_to(&streams, counts);
            }
            let counters = person.receive.counters();
            counts.bytes += counters.bytes_in.load(Ordering::Relaxed);
        }
    }

    /// All leave, by the API.
    pub(super) async fn leave(&self) -> Result<()> {
        for number in 0..self.rooms {
            self.api.call("DELETE", &format!("/v1/routers/{}", room(number)), None).await?;
        }
        Ok(())
    }
}

/// Packets that one person sent.
struct Sent {
    /// Lowest layer first.
    layers: Vec<u64>,
    microphone: u64,
}

impl Sent {
    fn of(&self, what: Track) -> u64 {
        match what {
            Track::Camera(layer) => self.layers.get(layer).copied().unwrap_or(0),
            Track::Microphone => self.microphone,
        }
    }
}

impl Person {
    fn sent(&self) -> Sent {
        let packets = |source| -> Vec<u64> {
            let reports = self.send.session.source_reports(source);
            reports.iter().map(|stream| stream.packets).collect()
        };
        Sent { layers: packets(self.camera.1), microphone: packets(self.microphone.1).iter().sum() }
    }
}

async fn join(
    api: &Arc<PlainHttp>,
    device: &Device,
    plan: &Rooms,
    at: usize,
    cipher: &str,
    tally: &Tally,
) -> Result<Person> {
    let (room, name) = (room(at / plan.people), format!("person-{at}"));
    let profile = cipher.parse().map_err(anyhow::Error::msg)?;
    let sends = join_options(profile, ReceiveMode::Deliver).directed("send");
    let send = Transport::open(api.as_ref(), &room, &name, &sends).await?;
    let mut video = VideoOptions {
        key_frame_interval: Some(Duration::from_secs(10)),
        ..VideoOptions::default()
    };
    for (layer, bps) in video.layers.iter_mut().zip(plan.layers_bps) {
        layer.bitrate_bps = bps;
    }
    let mut audio = AudioOptions::default();
    let parameters = device.video_parameters(&mut video)?;
    let camera = produce(api, &send.id, "video", parameters).await?;
    let parameters = device.audio_parameters(&mut audio)?;
    let microphone = produce(api, &send.id, "audio", parameters).await?;
    let camera = (camera, send.session.send_video(video));
    let microphone = (microphone, send.session.send_audio(audio));
    let talks = at % plan.people < plan.talkers;
    send.session.pause_source(camera.1, plan.silent);
    send.session.pause_source(microphone.1, plan.silent || !talks);
    let phase = (at % usize::from(tally.period)) as u16;
    let mode = ReceiveMode::Sample { period: tally.period, phase };
    let receives = join_options(profile, mode).directed("receive");
    let (receive_id, peer, _) = open_peer(api.as_ref(), &room, &name, &receives).await?;
    let receive = peer.handle();
    tokio::spawn(verify(peer, None, tally.clone(), Arc::default()));
    Ok(Person { send, camera, microphone, receive, receive_id, streams: Vec::new() })
}
