//! The load of rooms: each participant has a sending and a receiving transport, a camera of three
//! layers and a microphone, some a second video (their screen); sees some of the others large and the
//! rest small, and hears those who talk. For the scenarios `meeting`, `calls` and `memory`. Sources
//! can be paused together, and more people may come one by one.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use ironcast_load::{
    AudioOptions, Control, PeerHandle, ReceiveMode, VideoOptions,
    call::{Transport, open_peer},
    ortc::{self, Device},
    session::SourceId,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{
    Counts, Said, Sample, Tally,
    api::{Stream, give_feedback, join_options, produce, verify},
    say,
    way::{PERSON, Way},
};

/// Joins under way at once.
const JOINS_MAX: usize = 8;
/// Of the two videos; the microphone's is between them.
const CAMERA_MID: &str = "0";
const SCREEN_MID: &str = "2";
/// How long somebody who comes may wait until he has everybody's pictures.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(20);
/// Between two looks at what has come.
const LOOK: Duration = Duration::from_millis(2);

/// Who is in the rooms.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Rooms {
    /// How many rooms.
    pub(crate) rooms: usize,
    /// Participants of each.
    pub(crate) people: usize,
    /// Of each room so many have their camera on; the others only watch.
    pub(crate) cameras: usize,
    /// Of those so many send a second video beside it, their screen.
    pub(crate) screens: usize,
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

    /// Streams that are received: every camera and screen by all others, and those who talk.
    pub(crate) fn consumers(&self) -> usize {
        let of = |count: usize| count.min(self.people);
        let tracks = of(self.cameras) + of(self.screens) + of(self.talkers);
        self.rooms * tracks * (self.people - 1)
    }

    /// What somebody sends, by his place among all.
    fn sends(&self, at: usize) -> Sends {
        let place = at % self.people;
        Sends {
            camera: place < self.cameras,
            screen: place < self.screens,
            talks: place < self.talkers,
        }
    }
}

/// What somebody sends. Everybody has a microphone; who does not talk is not heard.
#[derive(Clone, Copy, Default)]
struct Sends {
    camera: bool,
    screen: bool,
    talks: bool,
}

/// A running load.
pub(super) struct RoomsLoad {
    api: Arc<Way>,
    plan: Rooms,
    device: Arc<Device>,
    cipher: String,
    tally: Tally,
    people: Vec<Person>,
    /// So many rooms play.
    playing: usize,
}

struct Person {
    send: Transport,
    camera: Option<Source>,
    screen: Option<Source>,
    microphone: Source,
    receive: PeerHandle,
    receive_id: String,
    streams: Vec<Expected>,
}

/// A sent track: the producer, and where it is in its session.
type Source = (String, SourceId);

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
    /// The lowest layer of the screen.
    Screen,
    Microphone,
}

fn room(number: usize) -> String {
    format!("bench-{number}")
}

impl RoomsLoad {
    pub(super) async fn start(plan: &Rooms, cipher: &str, api: Way, tally: &Tally) -> Result<Self> {
        let api = Arc::new(api);
        let mut device = None;
        for number in 0..plan.rooms {
            let body = json!({ "id": room(number) });
            let made = api.call("POST", "/v1/routers", Some(body)).await?;
            device = Some(Device::load(&made["rtpCapabilities"])?);
        }
        let mut load = Self {
            api,
            plan: plan.clone(),
            device: Arc::new(device.context("no rooms")?),
            cipher: cipher.to_owned(),
            tally: tally.clone(),
            people: Vec::new(),
            playing: if plan.silent { 0 } else { plan.rooms },
        };
        load.join_all().await?;
        load.subscribe_all().await?;
        Ok(load)
    }

    async fn join_all(&mut self) -> Result<()> {
        let mut joining = tokio::task::JoinSet::new();
        let mut people: Vec<Option<Person>> = Vec::new();
        people.resize_with(self.plan.participants(), || None);
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
        for at in 0..self.plan.participants() {
            if joining.len() == JOINS_MAX {
                done(joining.join_next().await)?;
            }
            let newcomer = self.newcomer(at);
            joining.spawn(async move {
                let name = newcomer.name.clone();
                let person = newcomer.join().await;
                Ok((at, person.with_context(|| format!("{name} cannot join"))?))
            });
        }
        while let Some(one) = joining.join_next().await {
            done(Some(one))?;
        }
        self.people = people.into_iter().flatten().collect();
        Ok(())
    }

    fn newcomer(&self, at: usize) -> Newcomer {
        Newcomer {
            api: Arc::clone(&self.api),
            device: Arc::clone(&self.device),
            plan: self.plan.clone(),
            room: room(at / self.plan.people),
            name: format!("{PERSON}{at}"),
            sends: self.plan.sends(at),
            number: at,
            cipher: self.cipher.clone(),
            tally: self.tally.clone(),
        }
    }

    /// Everybody gets everybody else's camera and screen, and the microphones of those who talk.
    async fn subscribe_all(&mut self) -> Result<()> {
        let people = self.plan.people;
        for viewer in 0..self.people.len() {
            let first = viewer / people * people;
            for step in 1..people {
                let sender = first + (viewer - first + step) % people;
                let layer = if step <= self.plan.large { 2 } else { 0 };
                for (producer, what) in self.tracks(sender, layer) {
                    let stream = self.subscribe(&self.people[viewer], &producer, what).await?;
                    self.people[viewer].streams.push(Expected { stream, sender, what });
                }
            }
            say(&Said::Subscribed(viewer + 1));
        }
        let all = self.people.iter().flat_map(|person| &person.streams);
        tokio::spawn(give_feedback(all.map(|one| one.stream.clone()).collect()));
        Ok(())
    }

    /// What others receive of somebody: the producers.
    fn tracks(&self, sender: usize, layer: usize) -> Vec<(String, Track)> {
        let source = &self.people[sender];
        let track = |one: &Source, what| (one.0.clone(), what);
        let camera = source.camera.as_ref().map(|one| track(one, Track::Camera(layer)));
        let screen = source.screen.as_ref().map(|one| track(one, Track::Screen));
        let talks = self.plan.sends(sender).talks;
        let microphone = talks.then(|| track(&source.microphone, Track::Microphone));
        [camera, screen, microphone].into_iter().flatten().collect()
    }

    async fn subscribe(&self, viewer: &Person, producer: &str, what: Track) -> Result<Stream> {
        let mut body = json!({
            "transportId": viewer.receive_id,
            "producerId": producer,
            "rtpCapabilities": self.device.rtp_capabilities(),
        });
        match what {
            Track::Camera(layer) => body["preferredLayers"] = json!({ "spatialLayer": layer }),
            Track::Screen => body["preferredLayers"] = json!({ "spatialLayer": 0 }),
            Track::Microphone => {}
        }
        let answer = self.api.call("POST", "/v1/consumers", Some(body)).await?;
        let expected = ortc::receive_options(&answer["rtpParameters"])?;
        Ok(Stream {
            handle: viewer.receive.clone(),
            ssrc: expected.ssrc,
            rtx_ssrc: expected.rtx_ssrc,
        })
    }

    /// So many come into the first room, one after the other, watch everybody and leave: of each,
    /// microseconds from his first request to the first packet of everything that he watches.
    pub(super) async fn arrive(&self, count: usize) -> Result<Vec<u64>> {
        let mut took = Vec::new();
        for number in 0..count {
            let start = Instant::now();
            let at = self.people.len() + number;
            let newcomer = Newcomer {
                room: room(0),
                // He only watches.
                sends: Sends::default(),
                ..self.newcomer(at)
            };
            let name = newcomer.name.clone();
            let person = newcomer.join().await?;
            let mut streams = Vec::new();
            for sender in 0..self.plan.people {
                for (producer, what) in self.tracks(sender, 0) {
                    streams.push(self.subscribe(&person, &producer, what).await?.ssrc);
                }
            }
            loop {
                let known = person.receive.streams();
                if streams.iter().all(|ssrc| known.contains_key(ssrc)) {
                    break;
                }
                anyhow::ensure!(start.elapsed() < ARRIVAL_LIMIT, "{name} does not see everybody");
                tokio::time::sleep(LOOK).await;
            }
            took.push(start.elapsed().as_micros() as u64);
            let path = format!("/v1/participants/{name}/leave?routerId={}", room(0));
            self.api.call("POST", &path, None).await?;
        }
        Ok(took)
    }

    /// Lets the sources of so many rooms send, and no others.
    pub(super) fn play(&mut self, rooms: usize) {
        self.playing = rooms;
        for (at, person) in self.people.iter().enumerate() {
            let (plays, talks) = (at < self.heard(), self.plan.sends(at).talks);
            for (_, video) in person.camera.iter().chain(&person.screen) {
                person.send.session.pause_source(*video, !plays);
            }
            person.send.session.pause_source(person.microphone.1, !(plays && talks));
        }
    }

    /// People of rooms that play.
    fn heard(&self) -> usize {
        self.playing.min(self.plan.rooms) * self.plan.people
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
        for number in 0..self.plan.rooms {
            self.api.call("DELETE", &format!("/v1/routers/{}", room(number)), None).await?;
        }
        Ok(())
    }
}

/// Packets that one person sent.
struct Sent {
    /// Lowest layer first.
    layers: Vec<u64>,
    /// The same of the screen.
    screen: Vec<u64>,
    microphone: u64,
}

impl Sent {
    fn of(&self, what: Track) -> u64 {
        match what {
            Track::Camera(layer) => self.layers.get(layer).copied().unwrap_or(0),
            Track::Screen => self.screen.first().copied().unwrap_or(0),
            Track::Microphone => self.microphone,
        }
    }
}

impl Person {
    fn sent(&self) -> Sent {
        let packets = |source: &Source| -> Vec<u64> {
            let reports = self.send.session.source_reports(source.1);
            reports.iter().map(|stream| stream.packets).collect()
        };
        Sent {
            layers: self.camera.as_ref().map(packets).unwrap_or_default(),
            screen: self.screen.as_ref().map(packets).unwrap_or_default(),
            microphone: packets(&self.microphone).iter().sum(),
        }
    }
}

/// Somebody who is about to join.
struct Newcomer {
    api: Arc<Way>,
    device: Arc<Device>,
    plan: Rooms,
    room: String,
    name: String,
    sends: Sends,
    /// Among all: which of his packets are opened.
    number: usize,
    cipher: String,
    tally: Tally,
}

impl Newcomer {
    async fn join(self) -> Result<Person> {
        let (api, plan) = (self.api.as_ref(), &self.plan);
        let profile = self.cipher.parse().map_err(anyhow::Error::msg)?;
        let sending = join_options(profile, ReceiveMode::Deliver).directed("send");
        let send = Transport::open(api, &self.room, &self.name, &sending).await?;
        let camera = self.video(&send, CAMERA_MID, self.sends.camera).await?;
        let screen = self.video(&send, SCREEN_MID, self.sends.screen).await?;
        let mut audio = AudioOptions::default();
        let parameters = self.device.audio_parameters(&mut audio)?;
        let microphone = produce(api, &send.id, "audio", parameters).await?;
        let microphone = (microphone, send.session.send_audio(audio));
        send.session.pause_source(microphone.1, plan.silent || !self.sends.talks);
        let phase = (self.number % usize::from(self.tally.period)) as u16;
        let mode = ReceiveMode::Sample { period: self.tally.period, phase };
        let receiving = join_options(profile, mode).directed("receive");
        let (receive_id, peer, _) = open_peer(api, &self.room, &self.name, &receiving).await?;
        let receive = peer.handle();
        tokio::spawn(verify(peer, None, self.tally.clone(), Arc::default()));
        Ok(Person { send, camera, screen, microphone, receive, receive_id, streams: Vec::new() })
    }

    /// A video of three layers, if he sends it.
    async fn video(&self, send: &Transport, mid: &str, is_sent: bool) -> Result<Option<Source>> {
        if !is_sent {
            return Ok(None);
        }
        let mut video = VideoOptions {
            mid: Some(mid.to_owned()),
            key_frame_interval: Some(Duration::from_secs(10)),
            ..VideoOptions::default()
        };
        for (layer, bps) in video.layers.iter_mut().zip(self.plan.layers_bps) {
            layer.bitrate_bps = bps;
        }
        let parameters = self.device.video_parameters(&mut video)?;
        let producer = produce(self.api.as_ref(), &send.id, "video", parameters).await?;
        let source = send.session.send_video(video);
        send.session.pause_source(source, self.plan.silent);
        Ok(Some((producer, source)))
    }
}
