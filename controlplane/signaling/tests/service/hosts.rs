//! Several media hosts: which one a room goes to, and what happens when it is lost.

use std::sync::Arc;
use std::time::Duration;

use ironcast_config::HostPlacement;
use ironcast_signaling::hosts::{Host, MediaHost};
use ironcast_signaling::media::{Draining, Load, MediaEvent};
use ironcast_signaling::rooms::mode::Rules;
use ironcast_signaling::settings::Settings;
use ironcast_signaling::store::Stores;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::nodes::Fleet;
use crate::stage::{Stage, capabilities, quick, until, video};

/// A service with two media hosts.
pub(crate) struct Two {
    pub(crate) stage: Stage,
    pub(crate) one: Arc<FakeMedia>,
    pub(crate) two: Arc<FakeMedia>,
}

pub(crate) fn host(name: &str, region: &str, media: &Arc<FakeMedia>) -> MediaHost {
    MediaHost {
        name: name.to_owned(),
        region: Some(region.to_owned()),
        url: Some(format!("https://{name}")),
        pipe_url: Some(format!("https://{name}")),
        media: Arc::clone(media) as _,
    }
}

impl Two {
    async fn new() -> Self {
        Self::with(Settings { rooms_max: 100, rooms_per_address_per_s: 0, ..quick() }, [0.0, 0.0])
            .await
    }

    pub(crate) async fn with(settings: Settings, loads: [f64; 2]) -> Self {
        let [one, two] = loads.map(|load| {
            let media = FakeMedia::new();
            *media.load.lock().unwrap() = Load { load, routers: 0 };
            media
        });
        Self::at(settings, one, two).await
    }

    pub(crate) async fn at(settings: Settings, one: Arc<FakeMedia>, two: Arc<FakeMedia>) -> Self {
        let hosts = vec![host("one", "eu", &one), host("two", "us", &two)];
        one.meet("https://two", &two);
        two.meet("https://one", &one);
        let stores = Stores::in_memory();
        let stage = Stage::start_at(settings, hosts, Arc::clone(&one), stores).await;
        until("both are heard", || stage.service.hosts().iter().all(Host::is_ready)).await;
        Self { stage, one, two }
    }

    /// Somebody in a room.
    pub(crate) async fn join(&self, room: &str, name: &str) -> Client {
        let mut client = self.stage.connect().await;
        client.must("joinRoom", json!({ "roomId": room, "participantId": name })).await;
        client
    }

    fn counts(&self) -> [usize; 2] {
        [&self.one, &self.two].map(|media| media.inside().routers.len())
    }

    pub(crate) fn metric(&self, name: &str) -> [u64; 2] {
        let text = self.stage.service.metrics_text();
        ["one", "two"].map(|host| {
            let beginning = format!("ironcast_signaling_media_host_{name}{{host=\"{host}\"}} ");
            let mut lines = text.lines().filter_map(|line| line.strip_prefix(&*beginning));
            lines.next().unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
        })
    }
}

pub(crate) fn of_room(media: &FakeMedia, room: &str) -> usize {
    media.inside().routers.values().filter(|note| note["roomId"] == room).count()
}

/// Comes again, as a page does when it is told to.
pub(crate) async fn again(client: &mut Client, name: &str) -> Value {
    let error = client.event_where("error", |error| error["rejoin"] == true).await;
    assert_eq!(error["code"], "media_unavailable");
    client.ask("leaveRoom", json!({})).await;
    client.must("joinRoom", json!({ "roomId": "r", "participantId": name, "name": name })).await
}

#[tokio::test]
async fn a_room_goes_to_the_host_that_has_the_least_to_do() {
    let settings = Settings { rooms_max: 100, rooms_per_address_per_s: 0, ..quick() };
    let two = Two::with(settings.clone(), [0.5, 0.1]).await;
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(two.join(&format!("room-{number}"), "ada").await);
    }
    assert_eq!(two.counts(), [0, 4]);
    assert_eq!((two.metric("up"), two.metric("rooms")), ([1, 1], [0, 4]));
    // Among equals it is the number of rooms.
    let two = Two::with(settings, [0.11, 0.12]).await;
    for number in 0..6 {
        people.push(two.join(&format!("room-{number}"), "ada").await);
    }
    assert_eq!(two.counts(), [3, 3]);
}

#[tokio::test]
async fn a_room_goes_to_the_region_of_who_makes_it_if_that_takes_rooms() {
    let two = Two::new().await;
    let mut people = Vec::new();
    let mut join = async |room: &str, region: &str| {
        let mut client = two.stage.connect().await;
        let wanted = json!({ "roomId": room, "region": region });
        let answer = client.ask("joinRoom", wanted).await;
        people.push(client);
        answer
    };
    for room in ["a", "b", "c"] {
        join(room, "us").await;
    }
    assert_eq!(two.counts(), [0, 3]);
    // Whoever comes later comes to where it is.
    join("a", "eu").await;
    assert_eq!(two.counts(), [0, 3]);
    join("d", "eu").await;
    join("nowhere", "mars").await;
    assert_eq!(two.counts().iter().sum::<usize>(), 5);
    assert_eq!(of_room(&two.one, "d"), 1);
    // Made before it is joined.
    let mut client = two.stage.connect().await;
    client.must("createRoom", json!({ "roomId": "made", "region": "us" })).await;
    join("made", "eu").await;
    assert_eq!(of_room(&two.two, "made"), 1);
    // Full, and then both.
    two.two.be_full(true);
    assert!(join("e", "us").await.get("error").is_none());
    assert_eq!(of_room(&two.one, "e"), 1);
    two.one.be_full(true);
    assert_eq!(join("f", "us").await["error"]["code"], "no_capacity");
    two.two.be_full(false);
    // It is asked again after a while.
    let asking = async {
        while join("f", "us").await.get("error").is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking).await.expect("it has a place");
    assert_eq!(of_room(&two.two, "f"), 1);
}

#[tokio::test]
async fn a_host_that_is_drained_takes_no_new_rooms() {
    let two = Two::new().await;
    let mut ada = two.join("r", "ada").await;
    let mut far = two.join("far", "far").await;
    assert_eq!(two.counts(), [1, 1]);
    let (drained, other) =
        if of_room(&two.one, "r") == 1 { (&two.one, &two.two) } else { (&two.two, &two.one) };
    drained.report(MediaEvent::Draining(Draining::Until(Some(7))));
    assert_eq!(ada.event("server-draining").await, json!({ "what": "media", "deadline": 7 }));
    assert!(!far.names_seen().await.contains(&"server-draining".to_owned()), "it is not theirs");
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(two.join(&format!("room-{number}"), "ada").await);
    }
    assert_eq!(other.inside().routers.len(), 5);
    // Its rooms stay where they are.
    let mut bob = two.join("r", "bob").await;
    bob.event("server-draining").await;
    bob.must("createProducerTransport", json!({})).await;
    assert_eq!(drained.inside().transports.len(), 1);
    other.report(MediaEvent::Draining(Draining::Until(None)));
    far.event("server-draining").await;
    let mut late = two.stage.connect().await;
    assert_eq!(late.refused("joinRoom", json!({ "roomId": "late" })).await, "draining");
}

#[tokio::test]
async fn by_its_name_a_room_always_goes_to_the_same_host() {
    let settings = Settings {
        placement: HostPlacement::Hash,
        rooms_max: 100,
        rooms_per_address_per_s: 0,
        ..quick()
    };
    let mut homes = Vec::new();
    // Whatever they have to do.
    for loads in [[0.0, 0.0], [0.8, 0.1], [0.1, 0.8]] {
        let two = Two::with(settings.clone(), loads).await;
        let mut people = Vec::new();
        for number in 0..12 {
            people.push(two.join(&format!("room-{number}"), "ada").await);
        }
        let rooms = (0..12).map(|number| of_room(&two.one, &format!("room-{number}")));
        homes.push(rooms.collect::<Vec<_>>());
    }
    assert_eq!((&homes[0], &homes[0]), (&homes[1], &homes[2]));
    let at_one: usize = homes[0].iter().sum();
    assert!((2..=10).contains(&at_one), "{at_one} of 12");
}

#[tokio::test]
async fn the_rooms_of_a_lost_host_go_to_another() {
    let two = Two::new().await;
    let mut ada = two.join("r", "ada").await;
    let mut bob = two.join("r", "bob").await;
    let mut far = two.join("far", "far").await;
    ada.must("createProducerTransport", json!({})).await;
    ada.must("produce", video()).await;
    let (lost, other) =
        if of_room(&two.one, "r") == 1 { (&two.one, &two.two) } else { (&two.two, &two.one) };
    lost.go_away();
    for (client, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        let joined = again(client, name).await;
        assert_eq!((&joined["resumed"], &joined["mode"]), (&json!(false), &json!("sfu")));
    }
    assert_eq!((of_room(other, "r"), other.inside().routers.len()), (1, 2));
    ada.must("createProducerTransport", json!({})).await;
    let track = ada.must("produce", video()).await["id"].clone();
    bob.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    bob.must("consume", json!({ "producerId": track })).await;
    let (up, rooms) = (two.metric("up"), two.metric("rooms"));
    assert_eq!((up.iter().sum::<u64>(), rooms.iter().max()), (1, Some(&2)));
    let told = far.names_seen().await;
    assert!(!told.contains(&"error".to_owned()), "{told:?}");
    assert!(two.stage.service.is_ready());
    // It comes back with what it had: that is freed, and nothing moves.
    lost.come_back();
    lost.until("what it had is freed", |inside| inside.routers.is_empty()).await;
    assert_eq!(other.inside().producers.len(), 1);
    assert!(!bob.names_seen().await.contains(&"error".to_owned()));
    // Now the other one.
    until("it is there again", || two.stage.service.hosts().iter().all(Host::is_ready)).await;
    other.go_away();
    again(&mut ada, "ada").await;
    assert_eq!(of_room(lost, "r"), 1);
}

#[tokio::test]
async fn a_room_waits_until_any_host_takes_it() {
    let two = Two::new().await;
    let mut ada = two.join("r", "ada").await;
    let (home, other) =
        if of_room(&two.one, "r") == 1 { (&two.one, &two.two) } else { (&two.two, &two.one) };
    other.go_away();
    until("it is noticed", || two.metric("up").iter().sum::<u64>() == 1).await;
    assert!(!ada.names_seen().await.contains(&"error".to_owned()), "it is not hers");
    home.go_away();
    let error = ada.event("error").await;
    assert_eq!((&error["code"], error.get("rejoin")), (&json!("media_unavailable"), None));
    let mut late = two.stage.connect().await;
    assert_eq!(late.refused("joinRoom", json!({ "roomId": "new" })).await, "media_unavailable");
    other.come_back();
    again(&mut ada, "ada").await;
    assert_eq!(of_room(other, "r"), 1);
}

#[tokio::test]
async fn who_talks_directly_needs_no_host_until_a_third_comes() {
    let rules = Rules { p2p: true, stay: Duration::from_millis(30), ..Rules::default() };
    let two = Two::with(Settings { ways: rules, ..quick() }, [0.1, 0.0]).await;
    let mut ada = two.join("r", "ada").await;
    let mut bob = two.join("r", "bob").await;
    // It was to be there.
    two.two.go_away();
    until("it is noticed", || two.metric("up") == [1, 0]).await;
    let mut cleo = two.stage.connect().await;
    let joined = cleo.must("joinRoom", json!({ "roomId": "r", "participantId": "cleo" })).await;
    assert_eq!((&joined["mode"], of_room(&two.one, "r")), (&json!("sfu"), 1));
    for client in [&mut ada, &mut bob] {
        assert_eq!(client.event("call:mode-switch").await["mode"], "sfu");
        assert!(!client.names_seen().await.contains(&"error".to_owned()));
    }
}

#[tokio::test]
async fn a_restarted_service_takes_the_rooms_of_all_hosts_over() {
    let settings = Settings {
        takeover_window: Duration::from_secs(5),
        reconnect_window: Duration::from_secs(60),
        ..quick()
    };
    let two = Two::with(settings.clone(), [0.0, 0.0]).await;
    let mut tokens = Vec::new();
    for room in ["a", "b"] {
        let mut client = two.stage.connect().await;
        let joined =
            client.must("joinRoom", json!({ "roomId": room, "participantId": "ada" })).await;
        client.must("createProducerTransport", json!({})).await;
        tokens.push(json!({ "roomId": room, "resumeToken": joined["resumeToken"] }));
        client.cut();
    }
    assert_eq!(two.counts(), [1, 1]);
    two.stage.service.stop().await;
    let next = Two::at(settings, Arc::clone(&two.one), Arc::clone(&two.two)).await;
    for token in tokens {
        let mut client = next.stage.connect().await;
        let joined = client.must("joinRoom", token).await;
        assert_eq!(joined["resumed"], true);
        assert_eq!(joined["transportIds"].as_array().map(Vec::len), Some(1));
        client.must("produce", video()).await;
    }
    assert_eq!(two.counts(), [1, 1]);
}

#[tokio::test]
async fn all_nodes_of_a_fleet_agree_on_a_rooms_host() {
    let mut fleet = Fleet::new().await;
    fleet.settings.media_away = Duration::from_millis(300);
    let other = FakeMedia::new();
    *other.load.lock().unwrap() = Load { load: 0.5, routers: 3 };
    fleet.hosts = vec![host("one", "eu", &fleet.media), host("two", "us", &other)];
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    for node in [&one, &two] {
        until("both are heard", || node.stage.service.hosts().iter().all(Host::is_ready)).await;
    }
    let (mut ada, _) = one.stage.join("ada").await;
    // A room that is there is joined at a node that could place no other.
    for media in [&fleet.media, &other] {
        media.be_full(true);
    }
    let mut eve = two.stage.connect().await;
    assert_eq!(eve.refused("joinRoom", json!({ "roomId": "new" })).await, "no_capacity");
    let (mut bob, _) = two.stage.join("bob").await;
    for media in [&fleet.media, &other] {
        media.be_full(false);
    }
    one.until_seen(&mut ada, &["bob"], 0).await;
    let written = || fleet.redis.ask(&["GET", "room:r:router"]).join("");
    let routers: Vec<_> = fleet.media.inside().routers.keys().cloned().collect();
    assert_eq!(written(), format!("{}@one", routers[0]));
    assert_eq!((routers.len(), other.inside().routers.len()), (1, 0));
    two.send_video(&mut bob).await;

    fleet.media.go_away();
    for (client, name) in [(&mut ada, "ada"), (&mut bob, "bob")] {
        again(client, name).await;
    }
    one.until_seen(&mut ada, &["bob"], 0).await;
    two.until_seen(&mut bob, &["ada"], 0).await;
    let moved: Vec<_> = other.inside().routers.keys().cloned().collect();
    assert_eq!(moved.len(), 1);
    assert_eq!(written(), format!("{}@two", moved[0]));
    // Where no other host took rooms a moment ago it was told first that it is away.
    for client in [&mut ada, &mut bob] {
        client.names_seen().await;
    }
    let track = two.send_video(&mut bob).await;
    one.until_seen(&mut ada, &["bob"], 1).await;
    ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities() })).await;
    ada.must("consume", json!({ "producerId": track })).await;
    fleet.media.come_back();
    fleet.media.until("what it had is freed", |inside| inside.routers.is_empty()).await;
    assert_eq!(written(), format!("{}@two", moved[0]));
    for mut client in [ada, bob] {
        assert!(!client.names_seen().await.contains(&"error".to_owned()));
        client.must("leaveRoom", json!({})).await;
    }
    other.until("the last one closes it", |inside| inside.routers.is_empty()).await;
    fleet.until_over().await;
}
