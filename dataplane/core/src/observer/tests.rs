//! Rooms whose producers' levels are played from tracks, 20 ms a level.

use ironcast_protocol::{
    command::{CreateRouter, CreateWebRtcTransport, Produce},
    media::{RtpCodec, RtpEncoding, RtpParameters},
    observer::Volume,
};

use super::*;
use crate::{SECOND, link::webrtc::ice::Credentials, worker::Limits};

const PACKET: Nanos = 20 * MS;
/// Of a payload that carries sound.
const SOUND: usize = 60;

struct Stage {
    worker: Worker,
    now: Nanos,
}

/// What comes in 20 ms of one producer.
#[derive(Clone, Copy)]
enum Packet {
    Level(u8),
    /// A frame of Opus that says that nothing is said.
    Dtx,
    Nothing,
}

use Packet::{Dtx, Level, Nothing};

impl Stage {
    fn new() -> Self {
        let mut worker = Worker::new(0, Limits::default());
        for room in ["room", "other"] {
            let create = CreateRouter {
                id: room.into(),
                worker: 0,
                selection: Default::default(),
                note: Vec::new(),
            };
            worker.apply_create_router(&create).unwrap();
        }
        let mut stage = Self { worker, now: SECOND };
        for (number, (peer, room)) in
            [("a", "room"), ("b", "room"), ("c", "room"), ("d", "other")].into_iter().enumerate()
        {
            stage.join(peer, room);
            stage.produce(peer, MediaKind::Audio, number as u32 + 1);
        }
        stage
    }

    fn join(&mut self, peer: &str, room: &str) {
        let create = CreateWebRtcTransport {
            id: peer.into(),
            router: room.into(),
            consent_timeout_s: 0,
            disconnected_timeout_s: 0,
            initial_available_outgoing_bitrate_bps: 0,
            candidates: Default::default(),
            note: Vec::new(),
        };
        let credentials =
            Credentials { username_fragment: format!("00{peer}"), password: String::new() };
        self.worker.apply_create_transport(&create, credentials, self.now).unwrap();
    }

    fn produce(&mut self, id: &str, kind: MediaKind, ssrc: u32) {
        let mime_type = if kind == MediaKind::Audio { "audio/opus" } else { "video/VP8" };
        let codec = RtpCodec {
            mime_type: mime_type.into(),
            payload_type: 100 + ssrc as u8,
            clock_rate: 48_000,
            ..RtpCodec::default()
        };
        let rtp_parameters = RtpParameters {
            codecs: vec![codec],
            encodings: vec![RtpEncoding { ssrc: Some(ssrc), ..RtpEncoding::default() }],
            ..RtpParameters::default()
        };
        let create = Produce {
            id: id.into(),
            transport: id[..1].into(),
            kind,
            rtp_parameters,
            rtp_mapping: Default::default(),
            paused: false,
            key_frame_request_delay_ms: 0,
            note: Vec::new(),
        };
        self.worker.apply_produce(&create).unwrap();
    }

    fn listen(&mut self, observer: &str, method: Method, producers: &[&str]) {
        let create =
            CreateObserver { id: observer.into(), router: "room".into(), method, note: Vec::new() };
        self.worker.apply_create_observer(&create).unwrap();
        for producer in producers {
            self.worker.apply_observe(&observe(observer, producer), self.now).unwrap();
        }
    }

    /// Plays a track of each producer; gives the events, each with its millisecond.
    fn play(&mut self, packets: usize, tracks: &[(&str, &dyn Fn(usize) -> Packet)]) -> Vec<Event> {
        let mut events = Vec::new();
        for number in 0..packets {
            for (producer, track) in tracks {
                let (level, len) = match track(number) {
                    Level(level) => (LOUDEST - level, SOUND),
                    // What it says of its level is not believed.
                    Dtx => (0, 2),
                    Nothing => continue,
                };
                let key = self.worker.producer_ids[*producer];
                // The bit of voice activity is not of interest.
                self.worker.listen(key, Some(0x80 | level), len, Arrival::at(self.now));
            }
            events.append(&mut self.pass(PACKET));
        }
        events
    }

    fn pass(&mut self, span: Nanos) -> Vec<Event> {
        self.now += span;
        self.worker.expire(self.now);
        std::mem::take(self.worker.events())
    }
}

fn observe(observer: &str, producer: &str) -> Observe {
    Observe { id: observer.into(), producer: producer.into() }
}

fn loudest(threshold: i8, entries_max: u16) -> Method {
    Method::AudioLevel { threshold, interval_ms: 1_000, entries_max }
}

const DOMINANT: Method = Method::ActiveSpeaker { interval_ms: 300 };

fn volumes(of: &[(&str, i8)]) -> Event {
    let volumes = of.iter().map(|(id, volume)| Volume { producer: (*id).into(), volume: *volume });
    Event::ObserverVolumes { observer: "o".into(), volumes: volumes.collect() }
}

fn silence() -> Event {
    Event::ObserverSilence { observer: "o".into() }
}

fn dominant(producer: &str) -> Event {
    Event::DominantSpeaker { observer: "o".into(), producer: producer.into() }
}

/// Syllables of 200 ms with pauses of 60 ms, over a little noise.
fn speech(level: u8) -> impl Fn(usize) -> Packet {
    move |number| Level(if number % 13 < 10 { level - (number * 7 % 5) as u8 } else { 22 })
}

fn noise(number: usize) -> Packet {
    Level(20 + (number * 5 % 3) as u8)
}

#[test]
fn the_loudest_are_told_once_an_interval_and_silence_once() {
    let mut stage = Stage::new();
    stage.listen("o", loudest(-60, 2), &["a", "b", "c"]);
    let tracks: [(&str, &dyn Fn(usize) -> Packet); 3] =
        [("a", &|_| Level(87)), ("b", &|_| Level(107)), ("c", &|_| Level(97))];
    let events = stage.play(100, &tracks);
    assert_eq!(events, vec![volumes(&[("b", -20), ("c", -30)]); 2]);
    let quiet: [(&str, &dyn Fn(usize) -> Packet); 2] = [("a", &|_| Level(60)), ("b", &noise)];
    assert_eq!(stage.play(150, &quiet), [silence()]);
    // Nobody has to be told of it for as long as nobody sends.
    assert_eq!(stage.pass(10 * SECOND), []);
    assert_eq!(stage.worker.observers.deadline(), None);
}

#[test]
fn who_stops_sending_or_says_nothing_is_silent() {
    let mut stage = Stage::new();
    stage.listen("o", loudest(-60, 1), &["a", "b"]);
    assert_eq!(stage.play(50, &[("a", &|_| Level(100))]), [volumes(&[("a", -27)])]);
    // DTX: a frame each 400 ms that carries nothing.
    let dtx = |number: usize| if number.is_multiple_of(20) { Dtx } else { Nothing };
    assert_eq!(stage.play(50, &[("a", &dtx)]), [silence()]);
    assert_eq!(stage.play(50, &[("a", &|_| Dtx)]), []);
    assert_eq!(stage.play(50, &[("b", &|_| Level(100))]), [volumes(&[("b", -27)])]);
    assert_eq!(stage.pass(SECOND), [silence()]);
}

#[test]
fn the_one_who_speaks_dominates_and_a_cough_changes_nothing() {
    let mut stage = Stage::new();
    stage.listen("o", DOMINANT, &["a", "b", "c"]);
    let events = stage.play(250, &[("a", &noise), ("b", &speech(105)), ("c", &noise)]);
    assert_eq!(events.last(), Some(&dominant("b")), "{events:?}");
    let cough = |number: usize| if number == 100 { Level(115) } else { noise(number) };
    let word =
        |number: usize| if (100..108).contains(&number) { Level(100) } else { noise(number) };
    let while_he_speaks = stage.play(250, &[("a", &cough), ("b", &speech(105)), ("c", &word)]);
    assert_eq!(while_he_speaks, []);
    let next = stage.play(250, &[("a", &speech(100)), ("b", &noise), ("c", &noise)]);
    assert_eq!(next, [dominant("a")]);
}

/// An encoder that sends nothing of silence has ended what it said.
#[test]
fn dtx_ends_a_speaker() {
    let mut stage = Stage::new();
    stage.listen("o", DOMINANT, &["a", "b"]);
    stage.play(250, &[("a", &speech(110)), ("b", &noise)]);
    let dtx = |number: usize| if number.is_multiple_of(20) { Dtx } else { Nothing };
    let nothing = |_| Nothing;
    for ended in [&dtx as &dyn Fn(usize) -> Packet, &nothing] {
        let (mut from, mut to) = ("a", "b");
        for _ in 0..2 {
            let events = stage.play(150, &[(from, ended), (to, &speech(95))]);
            assert_eq!(events, [dominant(to)]);
            (from, to) = (to, from);
        }
    }
}

#[test]
fn a_dominant_speaker_that_leaves_is_followed_at_once() {
    let mut stage = Stage::new();
    stage.listen("o", DOMINANT, &["a", "b", "c"]);
    stage.play(100, &[("a", &noise), ("b", &noise), ("c", &speech(105))]);
    assert_eq!(stage.worker.observer_state("o").unwrap().dominant.as_deref(), Some("c"));
    stage.worker.apply_close_producer("c").unwrap();
    assert_eq!(stage.pass(0), [dominant("a")]);
    stage.worker.apply_unobserve(&observe("o", "a")).unwrap();
    assert_eq!(stage.pass(0), [dominant("b")]);
    stage.worker.apply_unobserve(&observe("o", "b")).unwrap();
    assert_eq!(stage.pass(SECOND), []);
    let state = stage.worker.observer_state("o").unwrap();
    assert_eq!(state, ObserverState::default());
}

#[test]
fn a_paused_producer_does_not_take_over() {
    let mut stage = Stage::new();
    stage.listen("o", DOMINANT, &["a", "b"]);
    stage.play(100, &[("a", &noise), ("b", &noise)]);
    stage.worker.apply_pause_producer("b", true).unwrap();
    assert_eq!(stage.play(100, &[("a", &noise), ("b", &speech(105))]), []);
    stage.worker.apply_pause_producer("b", false).unwrap();
    assert_eq!(stage.play(100, &[("a", &noise), ("b", &speech(105))]), [dominant("b")]);
}

#[test]
fn a_paused_observer_says_that_it_is_silent_and_then_nothing() {
    let mut stage = Stage::new();
    stage.listen("o", loudest(-60, 1), &["a"]);
    stage.play(75, &[("a", &|_| Level(100))]);
    stage.worker.apply_pause_observer("o", true, stage.now).unwrap();
    assert_eq!(std::mem::take(stage.worker.events()), [silence()]);
    assert_eq!(stage.play(100, &[("a", &|_| Level(100))]), []);
    stage.worker.apply_pause_observer("o", false, stage.now).unwrap();
    // Nothing of before the pause.
    assert_eq!(stage.play(50, &[("a", &|_| Level(80))]), [volumes(&[("a", -47)])]);
}

#[test]
fn observers_go_with_their_room_and_leave_nothing_at_producers() {
    let mut stage = Stage::new();
    stage.listen("o", loudest(-60, 1), &["a", "b"]);
    stage.listen("p", DOMINANT, &["a", "b"]);
    let key = stage.worker.producer_ids["a"];
    assert_eq!(stage.worker.producers.get(key).unwrap().observed.len(), 2);
    stage.worker.apply_close_observer("p").unwrap();
    assert_eq!(stage.worker.producers.get(key).unwrap().observed.len(), 1);
    stage.worker.begin_close_router("room").unwrap();
    assert!(stage.worker.producers.get(key).unwrap().observed.is_empty());
    assert_eq!(stage.worker.observers.len(), 0);
    while stage.worker.close_some(&mut 128) {}
    assert_eq!(stage.pass(SECOND), []);
}

#[test]
fn what_an_observer_cannot_listen_to_is_refused() {
    let mut stage = Stage::new();
    stage.listen("o", loudest(-60, 1), &["a"]);
    stage.produce("a-video", MediaKind::Video, 9);
    let now = stage.now;
    let mut code = |observe: &Observe| stage.worker.apply_observe(observe, now).map_err(|e| e.code);
    assert_eq!(code(&observe("o", "a-video")), Err(ErrorCode::Invalid));
    assert_eq!(code(&observe("o", "d")), Err(ErrorCode::Invalid));
    assert_eq!(code(&observe("o", "nobody")), Err(ErrorCode::NotFound));
    assert_eq!(code(&observe("none", "a")), Err(ErrorCode::NotFound));
    // Safe to repeat.
    assert_eq!(code(&observe("o", "a")), Ok(Reply::Done));
    assert_eq!(stage.worker.observer_state("o").unwrap().producers, ["a"]);
    let method = |threshold, interval_ms, entries_max| Method::AudioLevel {
        threshold,
        interval_ms,
        entries_max,
    };
    for method in [
        method(1, 1_000, 1),
        method(-128, 1_000, 1),
        method(-80, 249, 1),
        method(-80, 5_001, 1),
        method(-80, 1_000, 0),
        Method::ActiveSpeaker { interval_ms: 99 },
    ] {
        let create =
            CreateObserver { id: "new".into(), router: "room".into(), method, note: Vec::new() };
        let refused = stage.worker.apply_create_observer(&create).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Invalid, "{method:?}");
    }
}

#[test]
fn observers_and_what_they_listen_to_are_limited() {
    let mut stage = Stage::new();
    stage.worker.limits.observers_per_router_max = 2;
    stage.worker.limits.producers_per_observer_max = 2;
    stage.listen("o", DOMINANT, &["a", "b"]);
    stage.listen("p", DOMINANT, &[]);
    let refused = stage.worker.apply_observe(&observe("o", "c"), stage.now).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoCapacity);
    let create = CreateObserver {
        id: "q".into(),
        router: "room".into(),
        method: DOMINANT,
        note: Vec::new(),
    };
    let refused = stage.worker.apply_create_observer(&create).unwrap_err();
    assert_eq!(refused.code, ErrorCode::NoCapacity);
    stage.worker.apply_close_observer("p").unwrap();
    stage.worker.apply_create_observer(&create).unwrap();
}

/// What one long turn made due together is looked at in portions, and each observer keeps its place.
#[test]
fn looks_that_were_late_together_are_taken_in_portions_and_do_not_stay_together() {
    const OBSERVERS: usize = 180;
    const APART: Nanos = 5 * MS;
    let mut stage = Stage::new();
    stage.worker.limits.observers_per_router_max = OBSERVERS;
    let step = |stage: &mut Stage| {
        let key = stage.worker.producer_ids["a"];
        stage.worker.listen(key, Some(LOUDEST - 100), SOUND, Arrival::at(stage.now));
        stage.pass(APART).len()
    };
    for number in 0..OBSERVERS {
        stage.listen(&number.to_string(), loudest(-60, 1), &["a", "b", "c"]);
        step(&mut stage);
    }
    let even: Vec<_> = (0..400).map(|_| step(&mut stage)).collect();
    assert!(even.iter().all(|looks| *looks <= 1), "{even:?}");
    stage.now += 3 * SECOND;
    let mut late = Vec::new();
    while stage.worker.observers.deadline().is_some_and(|at| at <= stage.now) {
        late.push(stage.pass(0).len());
    }
    assert_eq!(late.iter().sum::<usize>(), OBSERVERS, "{late:?}");
    // Each is a look at three, and counts as seven.
    assert!(late.iter().all(|looks| *looks <= 74), "{late:?}");
    let even: Vec<_> = (0..400).map(|_| step(&mut stage)).collect();
    assert!(even.iter().sum::<usize>() > OBSERVERS, "{even:?}");
    assert!(even.iter().all(|looks| *looks <= 1), "{even:?}");
}

/// A room of very many is looked at in portions too, while people come and go.
#[test]
fn one_look_at_very_many_takes_some_turns() {
    const PRODUCERS: u32 = 1_200;
    for method in [loudest(-60, 1), Method::ActiveSpeaker { interval_ms: 1_000 }] {
        let mut stage = Stage::new();
        // A peer has two hundred.
        let peer = |number: u32| char::from(b'e' + (number / 200) as u8);
        let ids: Vec<_> =
            (0..PRODUCERS).map(|number| format!("{}{number:04}", peer(number))).collect();
        (0..PRODUCERS).step_by(200).for_each(|at| stage.join(&peer(at).to_string(), "room"));
        for (id, number) in ids.iter().zip(1..) {
            stage.produce(id, MediaKind::Audio, number << 8);
        }
        let all: Vec<_> = ids.iter().map(String::as_str).collect();
        stage.listen("o", method, &all);
        let last = ids.last().unwrap().as_str();
        let mut tracks: Vec<(&str, &dyn Fn(usize) -> Packet)> =
            all.iter().map(|id| (*id, &noise as &dyn Fn(usize) -> Packet)).collect();
        let speaks = |number| Level(if number < 5 { 22 } else { 110 });
        tracks.last_mut().unwrap().1 = &speaks;
        let mut events = stage.play(50, &tracks);
        let mut turns = 1;
        while stage.worker.observers.deadline().is_some_and(|at| at <= stage.now) {
            // Who was looked at leaves, and so does who was not.
            for at in [turns, 1_100 + turns] {
                stage.worker.apply_unobserve(&observe("o", &ids[at])).unwrap();
            }
            assert_eq!(events, []);
            events = stage.pass(0);
            turns += 1;
        }
        assert_eq!(turns, 3);
        let told = match method {
            Method::AudioLevel { .. } => volumes(&[(last, -26)]),
            Method::ActiveSpeaker { .. } => dominant(last),
        };
        assert_eq!(events, [told]);
        assert_eq!(stage.worker.observer_state("o").unwrap().producers.len(), 1_196);
    }
}
