//! Thousands of sockets of a few addresses that do what they may not, or too much of what they may: each is told, all of
//! it is counted, and a room of somebody else notices nothing.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::future::join_all;
use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::stage::{Stage, quick, until};

/// Sockets that come, and how many of them come from one address.
const SOCKETS: usize = 5_000;
const OF_ADDRESS: usize = 1_250;

/// What one address may have of them.
const ALLOWED: usize = 1_200;

/// Who joins and leaves all the time, and how often.
const RESTLESS: usize = 100;
const ROUNDS: usize = 10;

/// What one writes at once.
const MESSAGES: u64 = 3_000;

/// How many answers to an event had a code.
fn answers(stage: &Stage, event: &str, code: &str) -> u64 {
    let text = stage.service.metrics_text();
    let label = format!("requests_total{{event=\"{event}\",code=\"{code}\"}} ");
    let line = text.lines().find_map(|line| line.split_once(&label));
    line.and_then(|(_, number)| number.parse().ok()).unwrap_or_default()
}

fn code(answer: &Value) -> &str {
    answer["error"]["code"].as_str().unwrap_or("ok")
}

/// Two who talk until they are told to stop. Gives how long they waited for the slowest answer.
async fn talk(mut ada: Client, mut bob: Client, stop: Arc<tokio::sync::Notify>) -> Duration {
    let mut stopped = std::pin::pin!(stop.notified());
    let mut slowest = Duration::ZERO;
    for number in 0_u64.. {
        let began = Instant::now();
        let content = format!("message {number}");
        ada.must("chat_message", json!({ "content": content })).await;
        assert_eq!(bob.event("chat_message").await["content"], content);
        bob.must("heartbeat", json!({})).await;
        slowest = slowest.max(began.elapsed());
        let pause = tokio::time::timeout(Duration::from_millis(100), &mut stopped).await;
        if pause.is_ok() {
            break;
        }
    }
    for (client, other) in [(&mut ada, "bob"), (&mut bob, "ada")] {
        for (name, told) in client.events_seen().await {
            let is_own =
                name == "chat_message" || told["participantId"] == other || name == "user_joined";
            assert!(is_own, "{name}: {told}");
        }
    }
    slowest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_misbehave_and_another_room_notices_nothing() {
    // Both ends of each socket are in this process.
    ironcast_notify::raise_file_limit();
    let settings = Settings {
        connections_per_address_max: ALLOWED,
        // As fast as they can: what is told here is what they do afterwards.
        sockets_per_address_per_s: 0,
        requests_per_socket_max: 64,
        // They do not answer pings.
        ping_interval: Duration::from_secs(300),
        // The room that is let alone writes ten a second.
        chat_per_participant_per_s: 10,
        participants_per_room_max: RESTLESS,
        ..quick()
    };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (ada, _) = stage.join("ada").await;
    let (bob, _) = stage.join("bob").await;
    let stop = Arc::new(tokio::sync::Notify::new());
    let talking = tokio::spawn(talk(ada, bob, Arc::clone(&stop)));

    // They come from four addresses, more than each may.
    let port = stage.port;
    let coming = (0..SOCKETS).map(|number| {
        let last = u8::try_from(number / OF_ADDRESS + 2).unwrap();
        Client::connect_from(Ipv4Addr::new(127, 0, 0, last), port)
    });
    let came: Vec<_> = futures::stream::iter(coming).buffer_unordered(64).collect().await;
    let refused = came.iter().filter(|one| one.is_none()).count();
    let mut sockets: Vec<_> = came.into_iter().flatten().collect();
    let addresses = SOCKETS / OF_ADDRESS;
    assert_eq!((sockets.len(), refused), (addresses * ALLOWED, addresses * (OF_ADDRESS - ALLOWED)));
    assert_eq!(stage.metric("connections_refused_total"), refused as u64);
    until("all sockets are counted", || stage.metric("sockets") == sockets.len() as u64 + 2).await;

    // A hundred of them join and leave as fast as they can.
    let restless = sockets.drain(..RESTLESS).map(|mut one| async move {
        let mut codes = Vec::new();
        for _ in 0..ROUNDS {
            let joined = one.ask("joinRoom", json!({ "roomId": "storm" })).await;
            codes.push(code(&joined).to_owned());
            let left = one.ask("leaveRoom", json!({})).await;
            let expected = if code(&joined) == "ok" { "ok" } else { "not_in_room" };
            assert_eq!(code(&left), expected, "{joined} {left}");
        }
        codes
    });
    let codes: Vec<String> = join_all(restless).await.into_iter().flatten().collect();
    let count = |wanted: &str| codes.iter().filter(|code| *code == wanted).count() as u64;
    let (joined, limited) = (count("ok"), count("rate_limited"));
    assert_eq!((joined + limited, codes.len()), ((RESTLESS * ROUNDS) as u64, RESTLESS * ROUNDS));
    assert!(joined >= 200 && limited > 0, "{joined} joined, {limited} were too many");
    // Two more joined who are talking.
    assert_eq!(answers(&stage, "joinRoom", "ok"), joined + 2);
    assert_eq!(answers(&stage, "joinRoom", "rate_limited"), limited);

    // One writes without waiting for any answer, one asks for what there is not.
    let mut writer = sockets.pop().unwrap();
    let mut stranger = sockets.pop().unwrap();
    writer.must("joinRoom", json!({ "roomId": "flood" })).await;
    writer.flood("chat_message", json!({ "content": "x" }), MESSAGES as usize).await;
    stranger.flood("no-such-event", json!({}), MESSAGES as usize).await;
    for one in [&mut writer, &mut stranger] {
        one.event_where("error", |told| told["code"] == "rate_limited").await;
    }
    let again = async {
        for one in [&mut writer, &mut stranger] {
            while code(&one.ask("listMessages", json!({})).await) == "rate_limited" {}
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.expect("their sockets work again");
    let waited = stage.metric("messages_refused_total");
    assert!(waited > MESSAGES, "{waited} of {} found no room", 2 * MESSAGES);
    assert!(stage.metric("chat_refused_total") > 0);
    assert!(answers(&stage, "unknown", "unsupported") > 0);

    stop.notify_one();
    let slowest = talking.await.expect("the other room notices nothing");
    println!(
        "{} sockets, {joined} joins, {limited} refused, {waited} messages found no room; \
              the slowest round of the other room took {slowest:?}",
        sockets.len()
    );
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
    drop((sockets, writer, stranger));
    let count = || (stage.metric("sockets"), stage.service.count());
    until("nothing is left of them", || count() == (0, (0, 0))).await;
    stage.media.until("nor at the media server", |inside| inside.routers.is_empty()).await;
}
