//! A room that outgrows its media host spreads over another one: who goes where, what is piped, and
//! what becomes of it when a track, a host, the room or the service ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ironcast_signaling::hosts::Host;
use ironcast_signaling::media::MediaEvent;
use ironcast_signaling::rooms::mode::Rules;
use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::hosts::{Two, again, host, of_room};
use crate::nodes::Fleet;
use crate::stage::{Stage, capabilities, quick, until, video};

/// Two people of a room at each host.
fn spreading() -> Settings {
    Settings {
        people_per_host: 2,
        participants_per_room_max: 20,
        consumers_per_participant_max: 20,
        rooms_per_address_per_s: 0,
        joins_per_address_per_s: 0,
        requests_per_socket_burst: 1_000,
        pipe_patience: Duration::from_millis(600),
        ..quick()
    }
}

/// Somebody in room `r` who sends a camera and can receive.
struct Person {
    client: Client,
    joined: Value,
    track: String,
}

impl Person {
    async fn come(stage: &Stage, name: &str) -> Self {
        let (client, joined) = stage.join(name).await;
        let mut person = Self { client, joined, track: String::new() };
        person.send().await;
        person
    }

    /// Transports, and a camera.
    async fn send(&mut self) {
        self.client.must("createProducerTransport", json!({})).await;
        let receive = json!({ "rtpCapabilities": capabilities() });
        self.client.must("createConsumerTransport", receive).await;
        let produced = self.client.must("produce", video()).await;
        self.track = produced["id"].as_str().unwrap().to_owned();
    }

    async fn sees(&mut self, other: &Self) -> String {
        let seen = self.client.must("consume", json!({ "producerId": other.track })).await;
        assert_eq!(seen["producerId"], other.track, "everybody knows it by this id");
        seen["id"].as_str().unwrap().to_owned()
    }

    async fn is_undisturbed(&mut self) {
        let told = self.client.names_seen().await;
        for trouble in ["error", "consumer-closed"] {
            assert!(!told.contains(&trouble.to_owned()), "{told:?}");
        }
    }
}

/// Four in room `r`: two at its own host, and two at its branch.
struct Four {
    two: Two,
    people: [Person; 4],
}

impl Four {
    async fn new() -> Self {
        Self::with(spreading()).await
    }

    /// The first host is the room's own.
    async fn with(settings: Settings) -> Self {
        let two = Two::with(settings, [0.0, 0.5]).await;
        let mut people = Vec::new();
        for name in ["ada", "bob", "cleo", "dan"] {
            people.push(Person::come(&two.stage, name).await);
        }
        let people = people.try_into().unwrap_or_else(|_| unreachable!("four"));
        Self { two, people }
    }

    /// Everybody sees everybody else.
    async fn see_each_other(&mut self) {
        for at in 0..4 {
            for of in (0..4).filter(|of| *of != at) {
                let track = json!({ "producerId": self.people[of].track });
                self.people[at].client.must("consume", track).await;
            }
        }
    }
}

fn transports(media: &FakeMedia) -> usize {
    media.inside().transports.keys().filter(|id| !id.starts_with("pipe-")).count()
}

#[tokio::test]
async fn who_comes_above_the_limit_is_at_another_host_and_all_see_all() {
    let mut four = Four::new().await;
    let Two { stage, one, two } = &four.two;
    assert_eq!((of_room(one, "r"), of_room(two, "r")), (1, 1));
    assert_eq!((transports(one), transports(two)), (4, 4));
    let view = stage.service.room_view(&"r".parse().unwrap()).await.unwrap();
    let hosts = view["participants"].as_array().unwrap().iter().map(|one| one["mediaHost"].clone());
    let expected = ["https://one", "https://one", "https://two", "https://two"];
    assert_eq!(hosts.collect::<Vec<_>>(), expected);
    assert_eq!(four.two.metric("rooms"), [1, 1]);
    assert!(stage.service.metrics_text().contains("ironcast_signaling_rooms_spread 1"));
    four.see_each_other().await;
    let Two { stage, one, two } = &four.two;
    for (host, people) in [(one, [0, 1]), (two, [2, 3])] {
        let inside = host.inside();
        assert_eq!((inside.consumers.len(), inside.producers.len()), (6, 4));
        drop(inside);
        for person in people {
            let times = host.times(&format!("pipe {}", four.people[person].track));
            assert_eq!(times, 1, "however many see it");
        }
    }
    // There is no third host: the limit is not there to turn people away.
    let (_eve, joined) = stage.join("eve").await;
    assert_eq!((&joined["mode"], of_room(one, "r") + of_room(two, "r")), (&json!("sfu"), 2));
    let figures = stage.service.room_stats(&"r".parse().unwrap()).await.unwrap();
    let count = |what: &str| figures[what].as_u64().unwrap();
    assert_eq!((count("transports"), count("producers"), count("consumers")), (8, 4, 12));
    assert_eq!(count("participantCount"), 5);
}

#[tokio::test]
async fn without_a_limit_a_room_stays_where_it_is_until_that_host_takes_nobody() {
    let two = Two::with(Settings { people_per_host: 0, ..spreading() }, [0.0, 0.5]).await;
    let mut ada = Person::come(&two.stage, "ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    assert_eq!((of_room(&two.one, "r"), of_room(&two.two, "r")), (1, 0));
    // He has nothing there yet, so that nobody has to notice.
    two.one.crowded.store(true, Ordering::SeqCst);
    bob.must("createProducerTransport", json!({})).await;
    bob.must("produce", video()).await;
    assert_eq!((of_room(&two.two, "r"), transports(&two.two)), (1, 1));
    assert!(!bob.names_seen().await.contains(&"error".to_owned()));
    // Who comes next need not be refused first.
    let mut cleo = Person::come(&two.stage, "cleo").await;
    assert_eq!(transports(&two.two), 3);
    cleo.sees(&ada).await;
    // What somebody has at the full host does not move: all of it is made anew elsewhere.
    let receive = json!({ "rtpCapabilities": capabilities() });
    assert_eq!(ada.client.refused("createConsumerTransport", receive).await, "no_capacity");
    again(&mut ada.client, "ada").await;
    ada.send().await;
    assert_eq!(transports(&two.one), 0);
    ada.sees(&cleo).await;
    assert_eq!(two.two.times("pipe"), 0);
    // Nowhere: then it is said so.
    two.two.crowded.store(true, Ordering::SeqCst);
    let (mut dan, _) = two.stage.join("dan").await;
    assert_eq!(dan.refused("createProducerTransport", json!({})).await, "no_capacity");
    let told = dan.events_seen().await;
    assert!(!told.iter().any(|(name, _)| name == "error"), "{told:?}");
}

#[tokio::test]
async fn many_who_want_a_track_at_once_wait_for_one_pipe_and_nobody_else_does() {
    let Four { two, people } = Four::new().await;
    let [mut ada, mut bob, mut cleo, mut dan] = people;
    let held = Arc::clone(&two.one.gate).write_owned().await;
    let wanted = json!({ "producerId": ada.track });
    let pipe = format!("pipe {}", ada.track);
    let meanwhile = async {
        two.one.until("it is asked", |inside| inside.calls.contains(&pipe)).await;
        // The room goes on.
        ada.client.must("listProducers", json!({})).await;
        let (_eve, joined) = two.stage.join("eve").await;
        assert_eq!(joined["participants"].as_array().unwrap().len(), 4);
        bob.client.event("call:participant-joined").await;
        drop(held);
    };
    let (first, second, ()) = tokio::join!(
        cleo.client.ask("consume", wanted.clone()),
        dan.client.ask("consume", wanted.clone()),
        meanwhile,
    );
    for answer in [first, second] {
        assert_eq!(answer["producerId"], ada.track.as_str(), "{answer}");
    }
    assert_eq!(two.one.times("pipe"), 1);
    assert!(two.stage.service.metrics_text().contains("pipes_total{success=\"true\"} 1"));
}

#[tokio::test]
async fn a_pipe_that_fails_is_refused_clearly_and_made_when_it_is_asked_for_again() {
    let Four { two, people } = Four::new().await;
    let [ada, bob, mut cleo, mut dan] = people;
    two.one.pipes_fail.store(true, Ordering::SeqCst);
    let wanted = json!({ "producerId": ada.track });
    let began = Instant::now();
    let refused = cleo.client.ask("consume", wanted.clone()).await;
    assert_eq!(refused["error"]["code"], "media_unavailable", "pages ask again by it");
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("another media host"), "{message}");
    assert!(refused["error"].get("rejoin").is_none());
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    let tries = two.one.times("pipe");
    assert!(tries > 1, "{tries}");
    // Who asks right afterwards is told the same, and the host is left alone.
    assert_eq!(dan.client.refused("consume", wanted.clone()).await, "media_unavailable");
    assert_eq!(two.one.times("pipe"), tries);
    // What was asked for in the same breath is made, and has its own answer.
    let mine = dan.client.ask("consume", json!({ "producerId": cleo.track })).await;
    assert!(mine.get("error").is_none(), "{mine}");
    two.one.pipes_fail.store(false, Ordering::SeqCst);
    let asking = async {
        while cleo.client.ask("consume", wanted.clone()).await.get("error").is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("it is made");
    dan.sees(&ada).await;
    // One that takes too long is there when it is asked for again.
    let held = Arc::clone(&two.one.gate).write_owned().await;
    let wanted = json!({ "producerId": bob.track });
    assert_eq!(cleo.client.refused("consume", wanted.clone()).await, "media_unavailable");
    drop(held);
    cleo.sees(&bob).await;
    assert_eq!(two.one.times(&format!("pipe {}", bob.track)), 1);
}

#[tokio::test]
async fn a_track_that_ends_ends_everywhere() {
    let Four { two, people } = Four::new().await;
    let [mut ada, _bob, mut cleo, _dan] = people;
    let consumer = cleo.sees(&ada).await;
    ada.client.must("pauseProducer", json!({ "producerId": ada.track })).await;
    cleo.client.event("producer-paused").await;
    ada.client.must("stopProducing", json!({})).await;
    let told = cleo.client.event("producer-closed").await;
    assert_eq!(told["producerId"], ada.track.as_str());
    let told = cleo.client.event("consumer-closed").await;
    assert_eq!((&told["consumerId"], &told["producerId"]), (&json!(consumer), &json!(ada.track)));
    two.two.until("its copy is gone", |inside| inside.producers.len() == 2).await;
    let wanted = json!({ "producerId": ada.track });
    assert_eq!(cleo.client.refused("consume", wanted).await, "not_found");
    // The next one is another track.
    let produced = ada.client.must("produce", video()).await;
    ada.track = produced["id"].as_str().unwrap().to_owned();
    cleo.sees(&ada).await;
}

#[tokio::test]
async fn a_pipe_that_ends_by_itself_is_made_anew() {
    let Four { two, people } = Four::new().await;
    let [mut ada, _bob, mut cleo, mut dan] = people;
    let consumer = cleo.sees(&ada).await;
    cleo.client.events_seen().await;
    let copy = ada.track.clone();
    // As its host tells it: not the track has ended.
    two.one.inside().pipes.clear();
    two.two.inside().producers.remove(&copy);
    two.two.inside().consumers.remove(&consumer);
    let reason = "producer_closed".to_owned();
    two.two.report(MediaEvent::ConsumerClosed { consumer_id: consumer, reason });
    two.two.report(MediaEvent::ProducerClosed { producer_id: copy.clone() });
    cleo.client.event("consumer-closed").await;
    let list = cleo.client.event("roomProducersChanged").await;
    assert!(list.to_string().contains(&copy), "it is still sent: {list}");
    cleo.sees(&ada).await;
    // One that is gone unheard is found missing.
    two.one.inside().pipes.clear();
    two.two.inside().producers.retain(|id, _| !id.starts_with("copy-"));
    let wanted = json!({ "producerId": ada.track });
    assert_eq!(dan.client.refused("consume", wanted).await, "media_unavailable");
    dan.sees(&ada).await;
    ada.is_undisturbed().await;
}

#[tokio::test]
async fn the_last_one_at_a_host_ends_its_part_and_the_last_one_of_all_the_room() {
    let Four { two, people } = Four::new().await;
    let [mut ada, mut bob, mut cleo, mut dan] = people;
    cleo.sees(&ada).await;
    ada.sees(&cleo).await;
    cleo.client.must("leaveRoom", json!({})).await;
    dan.client.must("leaveRoom", json!({})).await;
    two.two.until("nothing is left there", |inside| inside.routers.is_empty()).await;
    assert_eq!((of_room(&two.one, "r"), two.metric("rooms")), (1, [1, 0]));
    // Whoever comes then has it again. Its ids may be taken there for a while.
    let mut eve = Person::come(&two.stage, "eve").await;
    eve.sees(&ada).await;
    assert!(two.two.inside().producers.keys().any(|id| id.starts_with("copy-")));
    bob.sees(&eve).await;
    for person in [&mut eve, &mut bob, &mut ada] {
        person.client.must("leaveRoom", json!({})).await;
    }
    for host in [&two.one, &two.two] {
        host.until("nothing is left", |inside| inside.routers.is_empty()).await;
    }
    two.stage.until_rooms_are(0).await;
}

#[tokio::test]
async fn of_a_lost_host_the_people_come_back_and_the_others_go_on() {
    for lost in [1, 0] {
        let mut four = Four::new().await;
        four.see_each_other().await;
        let Four { two, people } = four;
        let [ada, bob, cleo, dan] = people;
        let (gone, kept, mut theirs, mut others) = match lost {
            0 => (&two.one, &two.two, [("ada", ada), ("bob", bob)], [cleo, dan]),
            _ => (&two.two, &two.one, [("cleo", cleo), ("dan", dan)], [ada, bob]),
        };
        for person in &mut others {
            person.client.events_seen().await;
        }
        let before = transports(kept);
        gone.go_away();
        for (name, person) in &mut theirs {
            again(&mut person.client, name).await;
            person.send().await;
        }
        // Nobody there has anything of the lost ones any more.
        kept.until("copies are gone", |inside| inside.producers.len() == 4).await;
        for person in &mut others {
            for _ in 0..2 {
                let told = person.client.event("consumer-closed").await;
                assert_eq!(told["reason"], "producer_closed");
            }
        }
        // The only host there is takes them all.
        assert_eq!((of_room(kept, "r"), transports(kept)), (1, before + 4), "{lost}");
        for (_, person) in &mut theirs {
            person.sees(&others[0]).await;
            others[1].sees(person).await;
        }
        for person in &mut others {
            let told = person.client.names_seen().await;
            assert!(!told.contains(&"error".to_owned()), "{told:?}");
            assert!(told.contains(&"producer-closed".to_owned()), "{told:?}");
        }
        let (up, rooms) = (two.metric("up"), two.metric("rooms"));
        assert_eq!((up[lost], rooms[1 - lost]), (0, 1));
        // What it had is freed when it is there again, and it takes people again.
        gone.come_back();
        gone.until("what it had is freed", |inside| inside.routers.is_empty()).await;
        until("it is ready", || two.stage.service.hosts().iter().all(Host::is_ready)).await;
        let mut eve = Person::come(&two.stage, "eve").await;
        assert_eq!((of_room(gone, "r"), transports(gone)), (1, 2), "{lost}");
        eve.sees(&others[0]).await;
        others[0].sees(&eve).await;
    }
}

#[tokio::test]
async fn a_part_whose_router_dies_is_made_anew_at_the_same_host() {
    let mut four = Four::new().await;
    four.see_each_other().await;
    let Four { two, people } = four;
    let [mut ada, mut bob, mut cleo, mut dan] = people;
    let branch = two.two.inside().routers.keys().next().unwrap().clone();
    for person in [&mut ada, &mut bob] {
        person.client.events_seen().await;
    }
    two.two.inside().routers.clear();
    two.two.inside().transports.clear();
    two.two.inside().producers.clear();
    two.one.inside().pipes.clear();
    let (router_ids, reason) = (vec![branch.clone()], "a crash".to_owned());
    two.two.report(MediaEvent::RoutersDied { router_ids, reason });
    for (person, name) in [(&mut cleo, "cleo"), (&mut dan, "dan")] {
        again(&mut person.client, name).await;
        person.send().await;
    }
    assert_eq!(of_room(&two.two, "r"), 1);
    assert!(!two.two.inside().routers.contains_key(&branch));
    cleo.sees(&ada).await;
    ada.sees(&dan).await;
    for person in [&mut ada, &mut bob] {
        assert!(!person.client.names_seen().await.contains(&"error".to_owned()));
    }
}

#[tokio::test]
async fn a_restarted_service_knows_both_parts_of_a_room_again() {
    let settings = Settings {
        takeover_window: Duration::from_secs(5),
        reconnect_window: Duration::from_secs(60),
        ..spreading()
    };
    let mut four = Four::with(settings.clone()).await;
    four.see_each_other().await;
    let Four { two, people } = four;
    let mut known = Vec::new();
    for person in people {
        let token = json!({ "roomId": "r", "resumeToken": person.joined["resumeToken"] });
        known.push((token, person.track));
        person.client.cut();
    }
    two.stage.service.stop().await;
    let next = Two::at(settings, Arc::clone(&two.one), Arc::clone(&two.two)).await;
    let mut people = Vec::new();
    for (token, track) in known {
        let mut client = next.stage.connect().await;
        let joined = client.must("joinRoom", token).await;
        assert_eq!(joined["resumed"], true);
        assert_eq!(joined["transportIds"].as_array().map(Vec::len), Some(2));
        let app_data = joined["producers"][0]["appData"].clone();
        assert_eq!(app_data, json!({ "source": "camera" }), "notes are nobody's");
        people.push(Person { client, joined, track });
    }
    assert_eq!((of_room(&two.one, "r"), of_room(&two.two, "r")), (1, 1));
    assert_eq!(next.metric("rooms"), [1, 1]);
    // What is piped is found, not piped again.
    let mut eve = Person::come(&next.stage, "eve").await;
    for person in &people {
        eve.sees(person).await;
    }
    let copies = two.two.inside().producers.len() + two.one.inside().producers.len();
    // Hers is seen by nobody yet.
    assert_eq!(copies, 9);
    let consumers = two.two.inside().consumers.len() + two.one.inside().consumers.len();
    assert_eq!(consumers, 16, "what there was, and hers");
    eve.client.must("leaveRoom", json!({})).await;
    for person in &mut people {
        person.client.must("leaveRoom", json!({})).await;
    }
    for host in [&two.one, &two.two] {
        host.until("nothing is left", |inside| inside.routers.is_empty()).await;
    }
}

#[tokio::test]
async fn who_speaks_at_either_host_is_told_to_all_the_loudest_first() {
    let Four { two, people } = Four::new().await;
    let [mut ada, bob, cleo, mut dan] = people;
    let router = |media: &FakeMedia| media.inside().routers.keys().next().unwrap().clone();
    let (home, branch) = (router(&two.one), router(&two.two));
    let speak = |router_id: &String, producers: &[(&Person, i8)]| MediaEvent::Speakers {
        router_id: router_id.clone(),
        producers: producers.iter().map(|(one, it)| (one.track.clone(), *it)).collect(),
    };
    two.one.report(speak(&home, &[(&bob, -40)]));
    two.two.report(speak(&branch, &[(&cleo, -30)]));
    for expected in [json!(["cleo", "bob"]), json!(["cleo"]), json!([])] {
        for client in [&mut ada.client, &mut dan.client] {
            client.event_where("active-speaker", |told| told["participantIds"] == expected).await;
        }
        match expected.as_array().unwrap().len() {
            2 => two.one.report(speak(&home, &[])),
            _ => two.two.report(speak(&branch, &[])),
        }
    }
}

#[tokio::test]
async fn a_proxys_header_says_where_somebody_is_who_does_not_say_so_himself() {
    let settings =
        Settings { region_header: Some("X-Region".to_owned()), rooms_max: 100, ..spreading() };
    let two = Two::with(settings, [0.0, 0.5]).await;
    let mut people = Vec::new();
    let mut join = async |room: &str, header: &str, said: Option<&str>| {
        let headers = [("x-region", header)];
        let client = Client::connect_with(two.stage.port, &headers, None).await;
        let mut client = client.unwrap();
        client.must("joinRoom", json!({ "roomId": room, "region": said })).await;
        people.push(client);
    };
    join("far", "us", None).await;
    assert_eq!(of_room(&two.two, "far"), 1, "though the other one has less to do");
    join("said", "us", Some("eu")).await;
    assert_eq!(of_room(&two.one, "said"), 1);
    // A region that no host has, and what is no region.
    join("mars", "mars", None).await;
    let long = "x".repeat(65);
    for (room, header) in [("blank", "u s"), ("long", &*long), ("sign", "us;drop"), ("empty", "")] {
        join(room, header, None).await;
        assert_eq!(of_room(&two.one, room), 1, "{room}");
    }
    let metrics = two.stage.service.metrics_text();
    assert!(metrics.contains("region_headers_refused_total 4"), "{metrics}");
    // Off, it is a header like any other.
    let two = Two::with(spreading(), [0.0, 0.5]).await;
    let headers = [("x-region", "us")];
    let client = Client::connect_with(two.stage.port, &headers, None).await;
    client.unwrap().must("joinRoom", json!({ "roomId": "far" })).await;
    assert_eq!(of_room(&two.one, "far"), 1);
}

#[tokio::test]
async fn a_third_one_may_be_at_another_host_than_the_two_who_talked_directly() {
    let ways = Rules { p2p: true, stay: Duration::from_millis(30), ..Rules::default() };
    let two = Two::with(Settings { ways, people_per_host: 2, ..spreading() }, [0.0, 0.5]).await;
    let (mut ada, _) = two.stage.join("ada").await;
    let (mut bob, _) = two.stage.join("bob").await;
    let mut cleo = Person::come(&two.stage, "cleo").await;
    assert_eq!((of_room(&two.one, "r"), of_room(&two.two, "r")), (1, 1));
    assert_eq!((transports(&two.one), transports(&two.two)), (0, 2));
    let mut people = Vec::new();
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("call:mode-switch").await["mode"], "sfu");
        client.must("createProducerTransport", json!({})).await;
        people.push(client.must("produce", video()).await["id"].clone());
        client.must("call:mode-switched", json!({ "mode": "sfu" })).await;
    }
    for track in &people {
        cleo.client.must("consume", json!({ "producerId": track })).await;
    }
    cleo.client.must("leaveRoom", json!({})).await;
    for client in [&mut ada, &mut bob] {
        client.event_where("call:mode-switch", |told| told["mode"] == "p2p").await;
        client.must("call:mode-switched", json!({ "mode": "p2p" })).await;
    }
    for host in [&two.one, &two.two] {
        host.until("nobody needs it", |inside| inside.routers.is_empty()).await;
    }
}

/// A fleet whose nodes have both hosts.
async fn fleet() -> (Fleet, Arc<FakeMedia>) {
    let mut fleet = Fleet::new().await;
    fleet.settings = Settings {
        people_per_host: 2,
        participants_per_room_max: 20,
        consumers_per_participant_max: 20,
        joins_per_address_per_s: 0,
        pipe_patience: Duration::from_secs(2),
        ..fleet.settings
    };
    let other = FakeMedia::new();
    other.load.lock().unwrap().load = 0.5;
    fleet.media.meet("https://two", &other);
    other.meet("https://one", &fleet.media);
    fleet.hosts = vec![host("one", "eu", &fleet.media), host("two", "us", &other)];
    (fleet, other)
}

#[tokio::test]
async fn all_nodes_of_a_fleet_agree_on_a_rooms_parts() {
    let (fleet, other) = fleet().await;
    let (mut one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    for node in [&one, &two] {
        until("both are heard", || node.stage.service.hosts().iter().all(Host::is_ready)).await;
    }
    let mut ada = Person::come(&one.stage, "ada").await;
    let mut bob = Person::come(&two.stage, "bob").await;
    one.until_seen(&mut ada.client, &["bob"], 1).await;
    two.until_seen(&mut bob.client, &["ada"], 1).await;
    // Both nodes send somebody to the other host in one moment.
    let (mut cleo, mut dan) =
        tokio::join!(Person::come(&one.stage, "cleo"), Person::come(&two.stage, "dan"));
    assert_eq!((of_room(&fleet.media, "r"), of_room(&other, "r")), (1, 1));
    one.until_seen(&mut cleo.client, &["ada", "bob", "dan"], 3).await;
    two.until_seen(&mut dan.client, &["ada", "bob", "cleo"], 3).await;
    // Both nodes pipe the same track in one moment.
    tokio::join!(cleo.sees(&ada), dan.sees(&ada));
    let producers = other.inside().producers.len();
    assert_eq!(producers, 3, "two of their own, and one copy");
    ada.sees(&dan).await;
    bob.sees(&cleo).await;
    let branch = other.inside().routers.keys().next().unwrap().clone();
    let written = fleet.redis.ask(&["HGET", "room:r:branches", "two"]).join("");
    assert_eq!(written, format!("{branch}@two"));

    // A node is killed: its people come back at the other one, with what they have where they were.
    one.kill();
    let before = (transports(&fleet.media), transports(&other));
    for person in [&ada, &cleo] {
        let (mut client, joined) = two.come_back(&person.joined).await;
        assert_eq!(
            (&joined["resumed"], joined["transportIds"].as_array().unwrap().len()),
            (&json!(true), 2)
        );
        client.must("consume", json!({ "producerId": bob.track })).await;
        client.must("consume", json!({ "producerId": dan.track })).await;
        client.must("leaveRoom", json!({})).await;
    }
    assert_eq!(before, (4, 4));
    for person in [&mut bob, &mut dan] {
        person.client.must("leaveRoom", json!({})).await;
    }
    other.until("nothing is left", |inside| inside.routers.is_empty()).await;
    fleet.until_over().await;
}

#[tokio::test]
async fn nodes_that_were_all_away_find_a_rooms_parts_at_the_hosts() {
    let (mut fleet, other) = fleet().await;
    fleet.settings.takeover_window = Duration::from_secs(10);
    fleet.settings.reconnect_window = Duration::from_secs(10);
    let mut node = fleet.node("one").await;
    until("both are heard", || node.stage.service.hosts().iter().all(Host::is_ready)).await;
    let mut people = Vec::new();
    for name in ["ada", "bob", "cleo", "dan"] {
        people.push(Person::come(&node.stage, name).await);
    }
    let routers = || {
        let of = |media: &FakeMedia| media.inside().routers.keys().cloned().collect::<Vec<_>>();
        (of(&fleet.media), of(&other))
    };
    let before = routers();
    assert_eq!((before.0.len(), before.1.len()), (1, 1));
    node.kill();
    fleet.redis.ask(&["FLUSHALL"]);
    // And something of a room that was there before.
    let stray = "r.000000000000:branch".to_owned();
    let next = fleet.node("two").await;
    until("both are heard", || next.stage.service.hosts().iter().all(Host::is_ready)).await;
    let mut back = Vec::new();
    for person in &people {
        let (client, joined) = next.come_back(&person.joined).await;
        let transports = joined["transportIds"].as_array().unwrap().len();
        assert_eq!((&joined["resumed"], transports), (&json!(true), 2), "{joined}");
        back.push(client);
    }
    assert_eq!(routers(), before);
    for client in &mut back[2..] {
        client.must("consume", json!({ "producerId": people[0].track })).await;
    }
    let note = other.inside().routers[&before.1[0]].clone();
    other.inside().routers.insert(stray.clone(), note);
    other.go_away();
    other.come_back();
    other.until("the stray one is freed", |inside| !inside.routers.contains_key(&stray)).await;
    assert_eq!(routers(), before);
    for client in &mut back {
        client.must("leaveRoom", json!({})).await;
    }
    other.until("nothing is left", |inside| inside.routers.is_empty()).await;
    fleet.until_over().await;
}

#[tokio::test]
async fn when_a_host_is_lost_the_fleets_people_of_the_other_one_go_on() {
    for lost in [0, 1] {
        let (mut fleet, other) = fleet().await;
        fleet.settings.media_away = Duration::from_millis(300);
        let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
        for node in [&one, &two] {
            until("both are heard", || node.stage.service.hosts().iter().all(Host::is_ready)).await;
        }
        let mut ada = Person::come(&one.stage, "ada").await;
        let mut bob = Person::come(&two.stage, "bob").await;
        one.until_seen(&mut ada.client, &["bob"], 1).await;
        let mut cleo = Person::come(&one.stage, "cleo").await;
        two.until_seen(&mut bob.client, &["ada", "cleo"], 2).await;
        let mut dan = Person::come(&two.stage, "dan").await;
        one.until_seen(&mut cleo.client, &["ada", "bob", "dan"], 3).await;
        assert_eq!((transports(&fleet.media), transports(&other)), (4, 4));
        let (gone, kept, theirs, others) = match lost {
            0 => (
                &fleet.media,
                &other,
                [(&mut ada, "ada"), (&mut bob, "bob")],
                [&mut cleo, &mut dan],
            ),
            _ => (
                &other,
                &fleet.media,
                [(&mut cleo, "cleo"), (&mut dan, "dan")],
                [&mut ada, &mut bob],
            ),
        };
        gone.go_away();
        for (person, name) in theirs {
            again(&mut person.client, name).await;
            person.send().await;
        }
        let [third, fourth] = others;
        for (node, person) in [(&one, &mut *third), (&two, &mut *fourth)] {
            let (mut seen, end) = (0, Instant::now() + Duration::from_secs(10));
            // Several looks of both nodes.
            while seen < 20 {
                assert!(Instant::now() < end, "{lost}");
                let people = node.seen(&mut person.client).await.len();
                let listed = person.client.must("listProducers", json!({})).await;
                let tracks = listed["producers"].as_array().unwrap().len();
                seen = if (people, tracks) == (3, 3) { seen + 1 } else { 0 };
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let told = person.client.names_seen().await;
            assert!(!told.contains(&"error".to_owned()), "{lost}: {told:?}");
        }
        assert_eq!((of_room(kept, "r"), transports(kept)), (1, 8), "{lost}");
        for person in [&mut ada, &mut bob, &mut cleo, &mut dan] {
            person.client.must("leaveRoom", json!({})).await;
        }
        kept.until("nothing is left", |inside| inside.routers.is_empty()).await;
        gone.come_back();
        gone.until("what it had is freed", |inside| inside.routers.is_empty()).await;
        fleet.until_over().await;
    }
}
