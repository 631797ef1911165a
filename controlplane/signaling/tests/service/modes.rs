//! From browser to browser and through the media server, and back: what each is told, and that a
//! room comes to rest in the right way whatever people do.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ironcast_signaling::media::MediaEvent;
use ironcast_signaling::rooms::mode::Rules;
use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::stage::{Stage, quick, video};

fn direct() -> Settings {
    let rules = Rules {
        p2p: true,
        stay: Duration::from_millis(30),
        time: Duration::from_millis(500),
        pause: Duration::from_millis(10),
        pause_max: Duration::from_millis(50),
    };
    Settings { ways: rules, ..quick() }
}

async fn stage() -> Stage {
    Stage::with(direct(), FakeMedia::new()).await
}

async fn has(client: &mut Client, mode: &str) {
    client.must("call:mode-switched", json!({ "mode": mode })).await;
}

fn routers(stage: &Stage) -> usize {
    stage.media.inside().routers.len()
}

/// Three people, all of whom are with the media server.
async fn three(stage: &Stage) -> (Client, Client, Client) {
    let ((mut ada, _), (mut bob, _)) = (stage.join("ada").await, stage.join("bob").await);
    let (cleo, joined) = stage.join("cleo").await;
    assert_eq!(joined["mode"], "sfu");
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("call:mode-switch").await["mode"], "sfu");
        has(client, "sfu").await;
    }
    for client in [&mut ada, &mut bob] {
        let told = client.event("call:mode-switched").await;
        assert_eq!(told, json!({ "success": true, "mode": "sfu" }));
    }
    (ada, bob, cleo)
}

#[tokio::test]
async fn two_talk_directly_and_a_third_brings_the_media_server() {
    let stage = stage().await;
    let (mut ada, joined) = stage.join("ada").await;
    assert_eq!(joined["mode"], "p2p");
    assert!(joined.get("rtpCapabilities").is_none());
    let (mut bob, joined) = stage.join("bob").await;
    assert_eq!((&joined["mode"], routers(&stage)), (&json!("p2p"), 0));
    for event in ["createProducerTransport", "getRouterRtpCapabilities"] {
        assert_eq!(bob.refused(event, json!({})).await, "wrong_state");
    }
    let (mut cleo, joined) = stage.join("cleo").await;
    assert_eq!((&joined["mode"], routers(&stage)), (&json!("sfu"), 1));
    assert!(joined["rtpCapabilities"].is_object());
    for client in [&mut ada, &mut bob] {
        let told = client.event("call:mode-switch").await;
        assert_eq!((&told["mode"], told["rtpCapabilities"].is_object()), (&json!("sfu"), true));
        // Both ways at once: the new one is made while the old one is used.
        client.must("createProducerTransport", json!({})).await;
        client.must("produce", video()).await;
    }
    has(&mut ada, "sfu").await;
    assert!(!ada.names_seen().await.contains(&"call:mode-switched".to_owned()), "bob has not");
    has(&mut bob, "sfu").await;
    for client in [&mut ada, &mut bob, &mut cleo] {
        assert_eq!(client.event("call:mode-switched").await["success"], true);
    }
    let producers = cleo.must("listProducers", json!({})).await["producers"].clone();
    assert_eq!(producers.as_array().unwrap().len(), 2);
    assert!(stage.service.metrics_text().contains("mode=\"sfu\",success=\"true\"} 1"));
}

#[tokio::test]
async fn when_two_are_left_they_go_back() {
    let stage = stage().await;
    let (mut ada, mut bob, mut cleo) = three(&stage).await;
    ada.must("createProducerTransport", json!({})).await;
    cleo.must("leaveRoom", json!({})).await;
    let told = [ada.event("call:mode-switch").await, bob.event("call:mode-switch").await];
    assert_eq!((&told[0]["initiator"], &told[1]["initiator"]), (&json!(true), &json!(false)));
    assert_eq!((&told[0]["peerId"], &told[1]["peerId"]), (&json!("bob"), &json!("ada")));
    assert!(told[0]["iceServers"].is_array());
    // What one says comes to the other, in both spellings.
    let offer = json!({ "type": "offer", "sdp": "v=0", "sources": { "0": "mic" } });
    ada.must("webrtc:offer", json!({ "offer": offer })).await;
    for name in ["webrtc:offer", "webrtc_offer"] {
        assert_eq!(bob.event(name).await, json!({ "from": "ada", "offer": offer }));
    }
    bob.must("webrtc_answer", json!({ "answer": { "type": "answer", "sdp": "v=0" } })).await;
    assert_eq!(ada.event("webrtc:answer").await["answer"]["type"], "answer");
    let candidate = json!({ "candidate": "candidate:1", "sdpMid": "0", "sdpMLineIndex": 0 });
    bob.must("webrtc:ice-candidate", json!({ "to": "ada", "candidate": candidate })).await;
    let told = ada.event("webrtc:ice-candidate").await;
    assert_eq!((&told["from"], &told["candidate"]["sdpMid"]), (&json!("bob"), &json!("0")));
    bob.must("webrtc:ice-candidate", json!({ "candidate": null })).await;
    assert_eq!(ada.event("webrtc:ice-candidate").await["candidate"], Value::Null);

    assert_eq!(routers(&stage), 1, "until both have the new way");
    has(&mut ada, "p2p").await;
    has(&mut bob, "p2p").await;
    for client in [&mut ada, &mut bob] {
        let told = client.event("call:mode-switched").await;
        assert_eq!(told, json!({ "success": true, "mode": "p2p" }));
    }
    stage.media.until("the router is freed", |inside| inside.routers.is_empty()).await;
    // Nobody is told to join again because of it.
    assert!(!ada.names_seen().await.contains(&"error".to_owned()));
    // And once more there.
    let (_dora, joined) = stage.join("dora").await;
    assert_eq!((&joined["mode"], routers(&stage)), (&json!("sfu"), 1));
}

#[tokio::test]
async fn who_cannot_talk_directly_keeps_the_room_with_the_media_server() {
    let stage = stage().await;
    let (mut ada, joined) = stage.join("ada").await;
    assert_eq!(joined["mode"], "p2p");
    let mut old = stage.connect().await;
    let wanted = json!({ "roomId": "r", "participantId": "old", "p2p": false });
    assert_eq!(old.must("joinRoom", wanted).await["mode"], "sfu");
    assert_eq!(ada.event("call:mode-switch").await["mode"], "sfu");
    has(&mut ada, "sfu").await;
    ada.event("call:mode-switched").await;
    old.must("leaveRoom", json!({})).await;
    let (mut bob, joined) = stage.join("bob").await;
    assert_eq!(joined["mode"], "sfu", "media first");
    assert_eq!(bob.event("call:mode-switch").await["mode"], "p2p");
}

#[tokio::test]
async fn a_change_that_fails_is_undone_and_tried_again() {
    let stage = stage().await;
    let ((mut ada, _), (mut bob, _)) = (stage.join("ada").await, stage.join("bob").await);
    let (_cleo, _) = stage.join("cleo").await;
    ada.event("call:mode-switch").await;
    bob.event("call:mode-switch").await;
    let why = json!({ "mode": "sfu", "success": false, "error": "no\u{7} way" });
    ada.must("call:mode-switched", why).await;
    let told = bob.event("call:mode-switched").await;
    assert_eq!(told, json!({ "success": false, "mode": "p2p", "error": "no way" }));
    // Who says nothing has not got it.
    assert_eq!(bob.event("call:mode-switch").await["mode"], "sfu");
    has(&mut ada, "sfu").await;
    let told = bob.event("call:mode-switched").await;
    assert_eq!(told["success"], false);
    ada.event("call:mode-switch").await;
    bob.event("call:mode-switch").await;
    has(&mut bob, "sfu").await;
    bob.event_where("call:mode-switch", |told| told["mode"] == "sfu").await;
    has(&mut ada, "sfu").await;
    has(&mut bob, "sfu").await;
    bob.event_where("call:mode-switched", |told| told["success"] == true).await;
}

#[tokio::test]
async fn a_direct_connection_that_is_lost_goes_through_the_media_server() {
    let stage = stage().await;
    let ((mut ada, _), (mut bob, _)) = (stage.join("ada").await, stage.join("bob").await);
    ada.must("call:mode-switched", json!({ "mode": "p2p", "success": false })).await;
    for client in [&mut ada, &mut bob] {
        let told = client.event("call:mode-switch").await;
        assert_eq!((&told["mode"], told["rtpCapabilities"].is_object()), (&json!("sfu"), true));
        has(client, "sfu").await;
    }
    assert_eq!(bob.event("call:mode-switched").await, json!({ "success": true, "mode": "sfu" }));
}

#[tokio::test]
async fn who_was_away_hears_what_he_missed() {
    let mut settings = direct();
    settings.reconnect_window = Duration::from_secs(60);
    settings.ways.time = Duration::from_secs(60);
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (ada, joined) = stage.join("ada").await;
    let (mut bob, _) = stage.join("bob").await;
    ada.cut();
    let (_cleo, _) = stage.join("cleo").await;
    bob.event("call:mode-switch").await;
    has(&mut bob, "sfu").await;
    let mut ada = stage.connect().await;
    let returning = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    let again = ada.must("joinRoom", returning.clone()).await;
    assert_eq!((&again["resumed"], &again["mode"]), (&json!(true), &json!("p2p")));
    assert_eq!(again["modeSwitch"]["mode"], "sfu");
    assert!(again["modeSwitch"]["rtpCapabilities"].is_object());
    has(&mut ada, "sfu").await;
    assert_eq!(bob.event("call:mode-switched").await["success"], true);
    ada.cut();
    let mut ada = stage.connect().await;
    let again = ada.must("joinRoom", returning).await;
    assert_eq!((&again["mode"], again.get("modeSwitch")), (&json!("sfu"), None));
}

#[tokio::test]
async fn a_lost_router_does_not_end_a_direct_call() {
    let stage = stage().await;
    let ((mut ada, _), (mut bob, _)) = (stage.join("ada").await, stage.join("bob").await);
    let (mut cleo, _) = stage.join("cleo").await;
    ada.event("call:mode-switch").await;
    let router = stage.media.inside().routers.keys().next().unwrap().clone();
    stage.media.inside().routers.clear();
    let died = MediaEvent::RoutersDied { router_ids: vec![router], reason: "test".to_owned() };
    stage.media.report(died);
    assert_eq!(bob.event("call:mode-switched").await["success"], false);
    assert_eq!(cleo.event("error").await["rejoin"], true);
    cleo.must("leaveRoom", json!({})).await;
    let again = json!({ "roomId": "r", "participantId": "cleo" });
    assert_eq!(cleo.must("joinRoom", again).await["mode"], "sfu");
    ada.event("call:mode-switch").await;
    for client in [&mut ada, &mut bob] {
        has(client, "sfu").await;
    }
    cleo.event_where("call:mode-switched", |told| told["success"] == true).await;
    assert!(!ada.names_seen().await.contains(&"error".to_owned()));
}

#[tokio::test]
async fn without_the_media_server_three_talk_directly() {
    let stage = stage().await;
    let (mut ada, mut bob, mut cleo) = three(&stage).await;
    ada.must("createProducerTransport", json!({})).await;
    stage.media.go_away();
    for (client, others) in [
        (&mut ada, json!([["bob", true], ["cleo", true]])),
        (&mut bob, json!([["ada", false], ["cleo", true]])),
        (&mut cleo, json!([["ada", false], ["bob", false]])),
    ] {
        assert_eq!(client.event("error").await["code"], "media_unavailable");
        let told = client.event("call:mode-switch").await;
        assert_eq!(told["mode"], "p2p");
        let peers = told["peers"].as_array().unwrap().iter();
        let peers: Value = peers.map(|it| json!([it["peerId"], it["initiator"]])).collect();
        assert_eq!(peers, others);
        assert_eq!((&told["peerId"], &told["initiator"]), (&others[0][0], &others[0][1]));
        has(client, "p2p").await;
    }
    for client in [&mut ada, &mut bob, &mut cleo] {
        client.event_where("call:mode-switched", |it| it["mode"] == "p2p").await;
    }
    let offer = json!({ "type": "offer", "sdp": "v=0" });
    cleo.must("webrtc:offer", json!({ "to": "bob", "offer": offer })).await;
    assert_eq!(bob.event("webrtc:offer").await["from"], "cleo");
    // A fourth would need it, and two can do without.
    let mut dora = stage.connect().await;
    assert_eq!(dora.refused("joinRoom", json!({ "roomId": "r" })).await, "media_unavailable");
    cleo.must("leaveRoom", json!({})).await;
    let (mut dora, joined) = stage.join("dora").await;
    assert_eq!(joined["mode"], "p2p");
    dora.must("createRoom", json!({ "roomId": "other" })).await;
    assert_eq!(cleo.must("joinRoom", json!({ "roomId": "other" })).await["mode"], "p2p");

    stage.media.come_back();
    for client in [&mut ada, &mut bob, &mut dora] {
        let told = client.event("call:mode-switch").await;
        assert_eq!((&told["mode"], told["rtpCapabilities"].is_object()), (&json!("sfu"), true));
        has(client, "sfu").await;
    }
    assert_eq!(dora.event("call:mode-switched").await["mode"], "sfu");
    stage.media.until("the old router is freed", |inside| inside.routers.len() == 1).await;
    assert!(!cleo.names_seen().await.contains(&"call:mode-switch".to_owned()), "two stay");
}

#[tokio::test]
async fn without_the_media_server_who_cannot_talk_directly_waits() {
    let stage = stage().await;
    let (mut ada, _) = stage.join("ada").await;
    let mut old = stage.connect().await;
    let wanted = json!({ "roomId": "r", "participantId": "old", "p2p": false });
    assert_eq!(old.must("joinRoom", wanted).await["mode"], "sfu");
    ada.event("call:mode-switch").await;
    has(&mut ada, "sfu").await;
    ada.event("call:mode-switched").await;
    stage.media.go_away();
    for client in [&mut ada, &mut old] {
        assert_eq!(client.event("error").await["code"], "media_unavailable");
        assert!(!client.names_seen().await.contains(&"call:mode-switch".to_owned()));
    }
}

/// Who was let in by the media server while the others still talked directly has nothing without it.
#[tokio::test]
async fn who_was_ahead_of_his_room_when_the_media_server_went_away_comes_again() {
    let mut settings = direct();
    settings.ways.time = Duration::from_secs(60);
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let ((mut ada, _), (mut bob, _)) = (stage.join("ada").await, stage.join("bob").await);
    let (mut cleo, joined) = stage.join("cleo").await;
    assert_eq!(joined["mode"], "sfu");
    stage.media.go_away();
    assert_eq!(cleo.event("error").await["rejoin"], true);
    cleo.must("leaveRoom", json!({})).await;
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("call:mode-switched").await["success"], false);
    }
    let again = json!({ "roomId": "r", "participantId": "cleo" });
    assert_eq!(cleo.must("joinRoom", again).await["mode"], "p2p");
}

#[tokio::test]
async fn wrong_words_between_browsers_are_refused() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    let offer = json!({ "type": "offer", "sdp": "v=0" });
    let nobody = json!({ "offer": offer });
    assert_eq!(ada.refused("webrtc:offer", nobody.clone()).await, "invalid_request");
    let (mut bob, _) = stage.join("bob").await;
    let (_cleo, _) = stage.join("cleo").await;
    assert_eq!(ada.refused("webrtc:offer", nobody).await, "invalid_request", "which of the two?");
    let to = |to: &str, offer: &Value| json!({ "to": to, "offer": offer });
    assert_eq!(ada.refused("webrtc:offer", to("eve", &offer)).await, "not_found");
    assert_eq!(ada.refused("webrtc:offer", to("ada", &offer)).await, "invalid_request");
    for wrong in [
        json!("v=0"),
        json!({ "type": "wish", "sdp": "" }),
        json!({ "type": "offer", "sdp": 7 }),
        json!({ "type": "offer", "sdp": "x".repeat(65 * 1024) }),
        json!({ "type": "offer", "sources": { "0": "x".repeat(65) } }),
    ] {
        assert_eq!(ada.refused("webrtc:offer", to("bob", &wrong)).await, "invalid_request");
    }
    assert_eq!(ada.refused("webrtc:answer", to("bob", &offer)).await, "invalid_request");
    let long = json!({ "to": "bob", "candidate": { "candidate": "x".repeat(3000) } });
    assert_eq!(ada.refused("webrtc:ice-candidate", long).await, "invalid_request");
    assert_eq!(
        ada.refused("call:mode-switched", json!({ "mode": "tin" })).await,
        "invalid_request"
    );
    let mut other = stage.connect().await;
    other.must("joinRoom", json!({ "roomId": "other" })).await;
    assert_eq!(other.refused("webrtc:offer", to("bob", &offer)).await, "not_found");
    let told = bob.names_seen().await;
    assert!(!told.iter().any(|name| name.starts_with("webrtc")), "{told:?}");
}

/// The same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A browser as far as the rules see it: which ways it has, and which one it believes to hold.
struct Person {
    client: Client,
    token: Value,
    mode: String,
    /// The new way, while both are there.
    next: Option<String>,
    /// What he had is lost: he joins again.
    is_lost: bool,
}

impl Person {
    fn joined(client: Client, joined: &Value) -> Self {
        let mode = joined["mode"].as_str().unwrap().to_owned();
        Self { client, token: joined["resumeToken"].clone(), mode, next: None, is_lost: false }
    }

    async fn switch(&mut self, wanted: &Value, fails: bool) {
        let mode = wanted["mode"].as_str().unwrap();
        self.next = (!fails).then(|| mode.to_owned());
        let id = &wanted["switchId"];
        let said = json!({ "mode": mode, "switchId": id, "success": !fails, "error": "chance" });
        self.client.must("call:mode-switched", said).await;
    }

    /// Reads what was told, and does it. `fails`: does not get the new way; `is_alone`: perhaps, and
    /// then there is nobody to have it to.
    async fn react(&mut self, fails: bool, is_alone: bool) {
        for (name, payload) in self.client.events_seen().await {
            let mode = payload["mode"].as_str().unwrap_or_default().to_owned();
            match &*name {
                "call:mode-switch" if mode == self.mode => self.switch(&payload, false).await,
                "call:mode-switch" => self.switch(&payload, fails).await,
                "call:mode-switched" if payload["success"] == true => {
                    let has = self.mode == mode || self.next.as_ref() == Some(&mode);
                    assert!(has || is_alone, "the old way ends before {mode} is there");
                    self.mode = mode;
                    self.next = None;
                }
                "call:mode-switched" => self.next = None,
                "error" if payload["code"] == "media_unavailable" => {
                    self.is_lost |= payload["rejoin"] == true;
                }
                "error" => panic!("{payload}"),
                _ => {}
            }
        }
    }

    async fn come_back(&mut self, stage: &Stage, is_alone: bool) {
        let lost = std::mem::replace(&mut self.client, stage.connect().await);
        lost.cut();
        let wanted = json!({ "roomId": "r", "resumeToken": self.token });
        let joined = self.client.must("joinRoom", wanted).await;
        assert_eq!(joined["resumed"], true);
        let mode = joined["mode"].as_str().unwrap();
        if mode != self.mode {
            let has = self.next.as_deref() == Some(mode);
            assert!(has || is_alone, "only what he had got");
            self.mode = mode.to_owned();
            self.next = None;
        }
        if joined["modeSwitch"].is_object() {
            self.switch(&joined["modeSwitch"], false).await;
        }
    }
}

async fn act(
    stage: &Stage,
    people: &mut BTreeMap<u64, Person>,
    random: &mut Random,
    number: u64,
    is_absent: bool,
) {
    if is_absent && random.below(4) == 0 {
        if random.below(2) == 0 {
            stage.media.go_away();
        } else {
            stage.media.come_back();
        }
        tokio::time::sleep(Duration::from_millis(random.below(300))).await;
    }
    let who = people.keys().copied().nth(random.below(people.len().max(1) as u64) as usize);
    match (random.below(8), who) {
        (0..=2, _) | (_, None) if people.len() < 4 => {
            let mut client = stage.connect().await;
            let can = random.below(6) > 0;
            let wanted =
                json!({ "roomId": "r", "participantId": format!("p{number}"), "p2p": can });
            let joined = client.ask("joinRoom", wanted).await;
            if joined.get("error").is_some() {
                assert!(is_absent && joined["error"]["code"] == "media_unavailable", "{joined}");
                return;
            }
            people.insert(number, Person::joined(client, &joined));
        }
        (3 | 4, Some(who)) => {
            let mut person = people.remove(&who).unwrap();
            person.client.must("leaveRoom", json!({})).await;
        }
        (5, Some(who)) => people.get_mut(&who).unwrap().come_back(stage, is_absent).await,
        (6, Some(who)) => {
            // Sends something, and mutes it.
            let client = &mut people.get_mut(&who).unwrap().client;
            client.ask("createProducerTransport", json!({})).await;
            let made = client.ask("produce", video()).await;
            client.ask("pauseProducer", json!({ "producerId": made["id"] })).await;
        }
        _ => tokio::time::sleep(Duration::from_millis(random.below(40))).await,
    }
}

/// `is_absent`: the media server, now and then.
async fn sequence(seed: u64, is_absent: bool) {
    let mut settings = direct();
    settings.reconnect_window = Duration::from_secs(60);
    settings.empty_room_grace = Duration::from_millis(5);
    settings.joins_per_address_per_s = 0;
    settings.rooms_per_address_per_s = 0;
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut people: BTreeMap<u64, Person> = BTreeMap::new();
    for number in 0..16 {
        act(&stage, &mut people, &mut random, number, is_absent).await;
        for person in people.values_mut() {
            let fails = random.below(8) == 0;
            person.react(fails, is_absent).await;
        }
        let lost = people.iter().filter(|(_, person)| person.is_lost).map(|(number, _)| *number);
        for number in lost.collect::<Vec<_>>() {
            people.remove(&number).unwrap().client.must("leaveRoom", json!({})).await;
        }
    }
    if is_absent {
        stage.media.come_back();
        stage.until_ready().await;
    }
    // Nobody comes or goes any more: all believe the same, and it is what the room would like.
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        for person in people.values_mut() {
            person.react(false, is_absent).await;
        }
        people.retain(|_, person| !person.is_lost);
        let modes: Vec<_> = people.values().map(|person| &*person.mode).collect();
        let room = stage.service.look_at(&"r".parse().unwrap());
        let Some(room) = room else {
            assert!(people.is_empty(), "seed {seed}");
            break;
        };
        let rests = !room.changes && room.mode == room.wanted || people.len() == 1;
        if rests && modes.iter().all(|mode| *mode == room.mode) && room.people == people.len() {
            let made = usize::from(room.mode == "sfu");
            stage.media.until("no router is left over", |i| i.routers.len() == made).await;
            break;
        }
        assert!(Instant::now() < end, "seed {seed}: {modes:?}, {room:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_people_do_all_agree_in_the_end() {
    for seeds in (1..=100).collect::<Vec<u64>>().chunks(10) {
        let running = seeds.iter().map(|seed| tokio::spawn(sequence(*seed, seed % 10 == 0)));
        for sequence in running.collect::<Vec<_>>() {
            sequence.await.unwrap();
        }
    }
}
