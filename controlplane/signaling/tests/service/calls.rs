//! A call whose steps come over HTTP, and what is kept of it.

use std::time::{Duration, Instant};

use ironcast_signaling::settings::Settings;
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::access::{Issuer, in_s};
use crate::fake_media::FakeMedia;
use crate::pages::{http, http_with};
use crate::stage::{Stage, capabilities, dtls_parameters, quick, video};

/// A request with a JSON body; gives status and answer.
async fn post(stage: &Stage, path: &str, body: Value) -> (u16, Value) {
    let (status, answer) = http(stage.port, "POST", path, &body.to_string()).await;
    (status, serde_json::from_str(&answer).unwrap())
}

async fn get(stage: &Stage, path: &str) -> (u16, Value) {
    let (status, answer) = http(stage.port, "GET", path, "").await;
    (status, serde_json::from_str(&answer).unwrap())
}

/// One that has to work.
async fn must(stage: &Stage, path: &str, body: Value) -> Value {
    let (status, answer) = post(stage, path, body).await;
    assert!(status < 300, "{path}: {status} {answer}");
    answer
}

fn with(mut body: Value, token: &Value) -> Value {
    body["resumeToken"] = token.clone();
    body
}

/// Somebody in room `r`; gives his token.
async fn join(stage: &Stage, name: &str) -> Value {
    let who = json!({ "participantId": name, "name": name });
    must(stage, "/api/calls/r/participants", who).await["resumeToken"].clone()
}

/// Waits until the record of room `r` is as a test wants it.
async fn until_recorded(stage: &Stage, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    let waiting = async {
        loop {
            let (_, record) = get(stage, "/api/calls/r").await;
            if is(&record) {
                return record;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_secs(10), waiting).await;
    waited.unwrap_or_else(|_| panic!("never {what}"))
}

#[tokio::test]
async fn a_call_without_a_socket() {
    let stage = Stage::new().await;
    let created = must(&stage, "/api/rooms/r/create", json!({})).await;
    assert!(created["rtpCapabilities"]["codecs"].is_array(), "{created}");
    let (mut bob, _, _) = stage.join_sending("bob").await;
    let ada = join(&stage, "ada").await;
    assert_eq!(bob.event("call:participant-joined").await["participantId"], json!("ada"));

    let send = must(&stage, "/api/rooms/r/transports", with(json!({ "direction": "send" }), &ada));
    let send = send.await["id"].as_str().unwrap().to_owned();
    let connect = with(json!({ "dtlsParameters": dtls_parameters() }), &ada);
    must(&stage, &format!("/api/rooms/r/transports/{send}/connect"), connect).await;
    let path = format!("/api/rooms/r/transports/{send}/produce");
    let produced = must(&stage, &path, with(video(), &ada)).await["producerId"].clone();
    assert_eq!(bob.event("new-producer").await["producerId"], produced);

    must(&stage, "/api/rooms/r/transports", with(json!({ "direction": "recv" }), &ada)).await;
    let path = "/api/rooms/r/producers";
    let (status, _) = http(stage.port, "GET", path, "").await;
    assert_eq!(status, 401, "nobody said who asks");
    let bobs = stage.media.inside().producers.keys().find(|id| produced != **id).unwrap().clone();
    let wanted = json!({ "producerId": bobs, "rtpCapabilities": capabilities() });
    let consumed = must(&stage, "/api/rooms/r/consume", with(wanted, &ada)).await;
    let consumer = consumed["id"].as_str().unwrap();
    let path = format!("/api/rooms/r/consumers/{consumer}/resume");
    must(&stage, &path, with(json!({}), &ada)).await;
    assert!(!stage.media.inside().consumers[consumer].paused);

    let (status, stats) = get(&stage, "/api/rooms/r/stats").await;
    assert_eq!(status, 200);
    assert_eq!(stats["participantCount"], json!(2));
    assert_eq!((&stats["transports"], &stats["producers"]), (&json!(3), &json!(2)));
    let adas = &stats["participants"].as_array().unwrap();
    let adas = adas.iter().find(|each| each["participantId"] == json!("ada")).unwrap();
    assert_eq!((&adas["bitrateIn"], &adas["bitrateOut"]), (&json!(2_000), &json!(40_000)));

    let has_camera = |record: &Value| {
        let people = record["participants"].as_array();
        people.is_some_and(|people| people.iter().any(|one| one["videoProducerId"] == produced))
    };
    let record = until_recorded(&stage, "with her camera", has_camera).await;
    assert_eq!((&record["mode"], &record["callId"]), (&json!("sfu"), &json!("r")));
    assert_eq!(record["routerId"], created["routerId"]);

    must(&stage, "/api/calls/r/leave", with(json!({}), &ada)).await;
    assert_eq!(bob.event("call:participant-left").await["reason"], json!("left"));
    let (status, gone) = post(&stage, "/api/calls/r/heartbeat", with(json!({}), &ada)).await;
    assert_eq!((status, &gone["code"]), (404, &json!("not_found")));
    drop(bob);
    let ended = until_recorded(&stage, "ended", |record| record["endedMs"].is_number()).await;
    for one in ended["participants"].as_array().unwrap() {
        assert_eq!(one["status"], json!("disconnected"), "{one}");
        assert!(one["leftMs"].as_u64() >= one["joinedMs"].as_u64(), "{one}");
    }
    // Who comes later is in another call.
    let (_carl, _) = stage.join("carl").await;
    let is_new = |record: &Value| record["endedMs"].is_null();
    let anew = until_recorded(&stage, "begun anew", is_new).await;
    assert!(anew["startedMs"].as_u64() >= ended["endedMs"].as_u64());
    let only = |record: &Value| record["participants"].as_array().is_some_and(|it| it.len() == 1);
    until_recorded(&stage, "with nobody of the last one", only).await;
}

#[tokio::test]
async fn a_socket_takes_over_and_requests_go_on() {
    let stage = Stage::new().await;
    let ada = join(&stage, "ada").await;
    let mut socket = stage.connect().await;
    let wanted = json!({ "roomId": "r", "resumeToken": ada });
    let resumed = socket.must("joinRoom", wanted).await;
    assert_eq!((&resumed["resumed"], &resumed["participantId"]), (&json!(true), &json!("ada")));
    let path = "/api/rooms/r/transports";
    let made = must(&stage, path, with(json!({ "direction": "send" }), &ada)).await;
    // By the socket: it is his own.
    let connect = json!({ "transportId": made["id"], "dtlsParameters": dtls_parameters() });
    socket.must("connectProducerTransport", connect).await;
    // Without it he is away, as everybody is whose socket is lost; and he comes back over HTTP.
    drop(socket);
    let (mut status, mut answer) = (200, json!(null));
    while status == 200 {
        (status, answer) = post(&stage, "/api/calls/r/heartbeat", with(json!({}), &ada)).await;
    }
    assert_eq!((status, &answer["code"]), (404, &json!("not_found")));
    let back = must(&stage, "/api/calls/r/participants", json!({ "resumeToken": ada })).await;
    assert_eq!((&back["resumed"], &back["transportIds"]), (&json!(true), &json!([made["id"]])));
}

#[tokio::test]
async fn who_is_silent_is_lost() {
    let settings = Settings { caller_silence_max: Duration::from_millis(200), ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut bob, _) = stage.join("bob").await;
    let ada = join(&stage, "ada").await;
    bob.event("call:participant-joined").await;
    for _ in 0..6 {
        tokio::time::sleep(Duration::from_millis(80)).await;
        must(&stage, "/api/calls/r/heartbeat", with(json!({}), &ada)).await;
    }
    let left = bob.event("call:participant-left").await;
    assert_eq!(left, json!({ "participantId": "ada", "reason": "disconnected" }));
}

#[tokio::test]
async fn bad_requests_are_told_and_leave_nothing() {
    let stage = Stage::new().await;
    let ada = join(&stage, "ada").await;
    let bob = join(&stage, "bob").await;
    let transport =
        must(&stage, "/api/rooms/r/transports", with(json!({"direction": "send"}), &bob));
    let bobs = transport.await["id"].as_str().unwrap().to_owned();
    let big = json!({ "name": "x".repeat(2_000_000) }).to_string();
    for (method, path, body, expected) in [
        ("GET", "/api/calls/r/participants", "", 405),
        ("POST", "/api/calls/r", "{}", 405),
        ("POST", "/api/calls/a b/participants", "{}", 400),
        ("POST", "/api/calls/%20/participants", "{}", 400),
        ("POST", "/api/calls/r/participants", "[]", 400),
        ("POST", "/api/calls/r/participants", "{", 400),
        ("POST", "/api/calls/r/participants", r#"{"name": 7}"#, 400),
        ("POST", "/api/calls/r/participants", &big, 413),
        ("POST", "/api/calls/r/leave", "{}", 401),
        ("POST", "/api/calls/r/leave", r#"{"resumeToken": "guessed"}"#, 404),
        ("POST", "/api/calls/elsewhere/leave", &with(json!({}), &ada).to_string(), 404),
        ("POST", "/api/rooms/q/create", r#"{"region": 7}"#, 400),
        ("POST", "/api/rooms/r/transports", &with(json!({}), &ada).to_string(), 400),
        (
            "POST",
            &format!("/api/rooms/r/transports/{bobs}/connect"),
            &with(json!({ "dtlsParameters": dtls_parameters() }), &ada).to_string(),
            403,
        ),
        ("POST", "/api/rooms/r/consumers/x/resume", &with(json!({}), &ada).to_string(), 404),
        ("POST", "/api/rooms/r/participants/bob/leave", &with(json!({}), &ada).to_string(), 403),
        ("GET", "/api/rooms/nowhere/stats", "", 404),
        ("GET", "/api/calls/nowhere", "", 404),
    ] {
        let (status, answer) = http(stage.port, method, path, body).await;
        if path.contains("a b") {
            // Not even HTTP.
            assert_eq!(status, expected, "{method} {path}");
            continue;
        }
        let problem: Value = serde_json::from_str(&answer).unwrap();
        assert_eq!(status, expected, "{method} {path} {body:.80} {problem}");
    }
    assert_eq!(stage.service.count(), (1, 2));
    assert_eq!(stage.media.inside().transports.len(), 1);
}

#[tokio::test]
async fn one_participant_asks_no_faster_than_a_socket() {
    let settings =
        Settings { requests_per_socket_per_s: 5, requests_per_socket_burst: 3, ..quick() };
    let stage = Stage::with(settings, FakeMedia::new()).await;
    let (ada, bob) = (join(&stage, "ada").await, join(&stage, "bob").await);
    let began = Instant::now();
    let path = "/api/calls/r/heartbeat";
    let many = (0..6).map(|_| must(&stage, path, with(json!({}), &ada)));
    let others = async {
        must(&stage, path, with(json!({}), &bob)).await;
        began.elapsed()
    };
    let (_, others) = tokio::join!(futures::future::join_all(many), others);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(590), "three of them wait 200 ms each: {took:?}");
    assert!(others < took, "nobody else waits: {others:?}");
}

#[tokio::test]
async fn rights_are_those_of_the_events() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let path = "/api/calls/r/participants";
    for path in [path, "/api/rooms/r/create"] {
        assert_eq!(post(&stage, path, json!({})).await.0, 401);
    }
    let bearer = |name, role| format!("Bearer {}", issuer.token(name, role));
    let [ada, eve, mia] = [("ada", "participant"), ("eve", "viewer"), ("mia", "moderator")]
        .map(|(n, r)| bearer(n, r));
    let ask = async |path: &str, who: &str, body: Value| {
        let headers = [("Authorization", who)];
        let body = body.to_string();
        let (status, answer) = http_with(stage.port, "POST", path, &headers, &body).await;
        (status, serde_json::from_str::<Value>(&answer).unwrap())
    };
    let joined = ask(path, &ada, json!({ "participantId": "somebody" })).await;
    assert_eq!((joined.0, &joined.1["participantId"]), (201, &json!("ada")));
    let adas = &joined.1["resumeToken"];
    let (status, _) = ask("/api/calls/q/participants", &ada, json!({})).await;
    assert_eq!(status, 403, "a token for another room");
    // Her resume token is good with her token alone.
    let (status, _) = ask("/api/calls/r/heartbeat", &eve, with(json!({}), adas)).await;
    assert_eq!(status, 403);
    assert_eq!(ask("/api/calls/r/heartbeat", &ada, with(json!({}), adas)).await.0, 200);
    let eves = ask(path, &eve, json!({})).await.1["resumeToken"].clone();
    let send = with(json!({ "direction": "send" }), &eves);
    assert_eq!(ask("/api/rooms/r/transports", &eve, send).await.0, 403, "a viewer");
    let mias = ask(path, &mia, json!({})).await.1["resumeToken"].clone();
    let put_out = "/api/rooms/r/participants/eve/leave";
    assert_eq!(ask(put_out, &ada, with(json!({}), adas)).await.0, 403, "no moderator");
    assert_eq!(ask(put_out, &mia, with(json!({}), &mias)).await.0, 200);
    assert_eq!(stage.service.count(), (1, 2));
}

#[tokio::test]
async fn a_call_over_http_goes_on_with_the_next_token() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let ask = async |path: &str, token: &str, body: Value| {
        let bearer = format!("Bearer {token}");
        let headers = [("Authorization", &*bearer)];
        let answer = http_with(stage.port, "POST", path, &headers, &body.to_string()).await;
        (answer.0, serde_json::from_str::<Value>(&answer.1).unwrap())
    };
    // Clocks may differ by five seconds.
    let first = issuer.sign(&json!({ "sub": "ada", "room": "r", "exp": in_s(-3) }));
    let (status, joined) = ask("/api/calls/r/participants", &first, json!({})).await;
    assert_eq!(status, 201, "{joined}");
    let resume = &joined["resumeToken"];
    let send = json!({ "direction": "send" });
    let transport = ask("/api/rooms/r/transports", &first, with(send, resume)).await;
    let path = format!("/api/rooms/r/transports/{}/produce", transport.1["id"].as_str().unwrap());
    assert_eq!(ask(&path, &first, with(video(), resume)).await.0, 200);
    let heartbeat = "/api/calls/r/heartbeat";
    let over = async { while ask(heartbeat, &first, with(json!({}), resume)).await.0 != 401 {} };
    tokio::time::timeout(Duration::from_secs(10), over).await.expect("the first token ends");
    let second = issuer.token("ada", "participant");
    let (status, answer) = ask(heartbeat, &second, with(json!({}), resume)).await;
    assert_eq!(status, 200, "{answer}");
    // It says as what, too.
    let viewer = issuer.token("ada", "viewer");
    assert_eq!(ask(heartbeat, &viewer, with(json!({}), resume)).await.0, 200);
    assert_eq!(ask(&path, &viewer, with(video(), resume)).await.0, 403);
    stage.media.until("nothing is sent", |inside| inside.producers.is_empty()).await;
}
