//! Tokens: who may come in, into which rooms, and as what.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ironcast_signaling::access::Access;
use ironcast_signaling::settings::Settings;
use ironcast_tokens::Expected;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::nodes::Fleet;
use crate::stage::{Stage, quick, until, video, video_at};

pub(crate) struct Issuer {
    algorithm: Algorithm,
    key: EncodingKey,
    public: String,
}

impl Issuer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let kind = match algorithm {
            Algorithm::EdDSA => &rcgen::PKCS_ED25519,
            _ => &rcgen::PKCS_RSA_SHA256,
        };
        let pair = rcgen::KeyPair::generate_for(kind).unwrap();
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()),
        };
        Self { algorithm, key: key.unwrap(), public: pair.public_key_pem() }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        encode(&Header::new(self.algorithm), claims, &self.key).unwrap()
    }

    /// A token of somebody for room `r`.
    pub(crate) fn token(&self, name: &str, role: &str) -> String {
        self.sign(&json!({ "sub": name, "name": name.to_uppercase(), "room": "r", "role": role, "exp": in_s(600) }))
    }

    pub(crate) fn settings(&self) -> Settings {
        let access = Access::new(&self.public, Expected::default()).unwrap();
        Settings { access: Some(access), ..quick() }
    }
}

pub(crate) fn in_s(seconds: i64) -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    i64::try_from(now).unwrap() + seconds
}

async fn connect(stage: &Stage, token: &str) -> Client {
    let auth = json!({ "token": token });
    Client::connect_with(stage.port, &[], Some(auth)).await.unwrap()
}

async fn join(stage: &Stage, token: &str) -> (Client, Value) {
    let mut client = connect(stage, token).await;
    let joined = client.must("joinRoom", json!({ "roomId": "r", "name": "somebody else" })).await;
    (client, joined)
}

#[tokio::test]
async fn a_token_is_asked_for_and_says_who_somebody_is() {
    for algorithm in [Algorithm::EdDSA, Algorithm::RS256] {
        let issuer = Issuer::new(algorithm);
        let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
        let token = issuer.token("ada", "participant");
        let refused = Client::connect_with(stage.port, &[], None).await.err().unwrap();
        assert!(refused.starts_with("unauthorized: show a token"), "{refused}");
        let stranger = Issuer::new(algorithm).token("ada", "moderator");
        let old = issuer.sign(&json!({ "sub": "ada", "exp": in_s(-60) }));
        let endless = issuer.sign(&json!({ "sub": "ada" }));
        let nobodys = issuer.sign(&json!({ "sub": "", "exp": in_s(60) }));
        let of_no_role = issuer.sign(&json!({ "sub": "ada", "exp": in_s(60), "role": "king" }));
        for (wrong, code) in [
            (stranger, "unauthorized"),
            (old, "token_expired"),
            (endless, "unauthorized"),
            (nobodys, "unauthorized"),
            (of_no_role, "unauthorized"),
            ("a.b.c".to_owned(), "unauthorized"),
            (format!("{token}x"), "unauthorized"),
        ] {
            let auth = json!({ "token": wrong });
            let refused = Client::connect_with(stage.port, &[], Some(auth)).await.err().unwrap();
            assert!(refused.starts_with(code), "{refused}");
        }
        // In each of the three ways; the token says who he is, whatever the client says.
        let bearer = format!("Bearer {token}");
        let cookie = format!("a=b; access_token={token}");
        for headers in [("authorization", &*bearer), ("cookie", &*cookie)] {
            let mut client = Client::connect_with(stage.port, &[headers], None).await.unwrap();
            let wanted = json!({ "roomId": "r", "participantId": "eve", "name": "Eve" });
            let joined = client.must("joinRoom", wanted).await;
            assert_eq!(joined["participantId"], "ada");
            client.must("leaveRoom", json!({})).await;
        }
        let (mut ada, _) = join(&stage, &token).await;
        let (_bob, joined) = join(&stage, &issuer.token("bob", "participant")).await;
        assert_eq!(joined["participants"], json!([{ "participantId": "ada", "name": "ADA" }]));
        for event in ["joinRoom", "createRoom"] {
            assert_eq!(ada.refused(event, json!({ "roomId": "other" })).await, "forbidden");
        }
        assert_eq!(ada.refused("createRoom", json!({})).await, "forbidden");
    }
}

#[tokio::test]
async fn a_resume_token_is_good_for_its_own_person_only() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let (_ada, joined) = join(&stage, &issuer.token("ada", "participant")).await;
    let mut eve = connect(&stage, &issuer.token("eve", "moderator")).await;
    let stolen = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    assert_eq!(eve.refused("joinRoom", stolen.clone()).await, "forbidden");
    let mut again = connect(&stage, &issuer.token("ada", "participant")).await;
    assert_eq!(again.must("joinRoom", stolen).await["resumed"], true);
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    // Clocks may differ by five seconds.
    let token = issuer.sign(&json!({ "sub": "ada", "exp": in_s(-3) }));
    let (mut ada, joined) = join(&stage, &token).await;
    let told = ada.event("error").await;
    assert_eq!(told["code"], "token_expired");
    ada.closed().await;
    // With a new one he comes back to his place.
    let mut ada = connect(&stage, &issuer.token("ada", "participant")).await;
    let wanted = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    assert_eq!(ada.must("joinRoom", wanted).await["resumed"], true);
}

/// The library gives the next socket of a connection the id of the one before: what becomes of the one
/// whose message takes a while takes nothing from the other.
#[tokio::test]
async fn the_next_socket_of_a_connection_has_a_token_of_its_own() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let auth = json!({ "token": issuer.token("eve", "viewer") });
    let mut eve = Client::connect_with(stage.port, &[], Some(auth.clone())).await.unwrap();
    let closed = stage.media.gate.clone().write_owned().await;
    eve.emit("joinRoom", json!({ "roomId": "r" })).await;
    stage.media.until("it is asked for", |i| i.calls.iter().any(|c| c.starts_with("create"))).await;
    let came = eve.be_another_socket(Some(&auth)).await;
    drop(closed);
    if !came {
        eve.enter_at_last(Some(&auth)).await;
    }
    let is_one = || stage.service.metrics_text().contains("ironcast_signaling_sockets 1\n");
    until("one is left", is_one).await;
    assert_eq!(eve.refused("joinRoom", json!({ "roomId": "other" })).await, "forbidden");
    let joined = eve.must("joinRoom", json!({ "roomId": "r", "participantId": "ada" })).await;
    assert_eq!(joined["participantId"], "eve");
    assert_eq!(eve.refused("createProducerTransport", json!({})).await, "forbidden");
}

#[tokio::test]
async fn who_comes_back_as_a_viewer_does_not_go_on_sending() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let (mut ada, joined) = join(&stage, &issuer.token("ada", "participant")).await;
    ada.must("createProducerTransport", json!({})).await;
    let track = ada.must("produce", video()).await["id"].clone();
    let capabilities = crate::stage::capabilities();
    let kept =
        ada.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities })).await["id"]
            .clone();
    let (mut bob, _) = join(&stage, &issuer.token("bob", "participant")).await;
    ada.cut();
    let mut ada = connect(&stage, &issuer.token("ada", "viewer")).await;
    let wanted = json!({ "roomId": "r", "resumeToken": joined["resumeToken"] });
    let joined = ada.must("joinRoom", wanted).await;
    assert_eq!(joined["resumed"], true);
    assert_eq!((&joined["transportIds"], &joined["producerIds"]), (&json!([kept]), &json!([])));
    assert_eq!(bob.event("producer-closed").await["producerId"], track);
    stage.media.until("nothing is sent", |inside| inside.producers.is_empty()).await;
}

#[tokio::test]
async fn what_is_muted_is_told_although_another_track_has_ended() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let (mut ada, _) = join(&stage, &issuer.token("ada", "participant")).await;
    ada.must("createProducerTransport", json!({})).await;
    let mut tracks = Vec::new();
    for mid in ["0", "1", "2"] {
        let track = ada.must("produce", video_at(mid)).await;
        tracks.push(track["id"].as_str().unwrap().to_owned());
    }
    // All are asked for in the order of their ids.
    tracks.sort();
    let (mut boss, _) = join(&stage, &issuer.token("boss", "moderator")).await;
    // It is gone, and nobody has heard of it yet.
    let ended = tracks.remove(1);
    stage.media.inside().producers.remove(&ended);
    let muted = boss.must("muteParticipant", json!({ "participantId": "ada" })).await;
    assert_eq!(muted["producerIds"], json!(tracks));
    assert_eq!(ada.event("muted").await["producerIds"], json!(tracks));
    for track in &tracks {
        boss.event_where("producer-paused", |told| told["producerId"] == **track).await;
    }
}

#[tokio::test]
async fn a_viewer_sends_nothing() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let (mut ada, _) = join(&stage, &issuer.token("ada", "participant")).await;
    ada.must("createProducerTransport", json!({})).await;
    let track = ada.must("produce", video()).await["id"].clone();
    let (mut eve, joined) = join(&stage, &issuer.token("eve", "viewer")).await;
    assert_eq!(joined["role"], "viewer");
    for (event, payload) in [
        ("createProducerTransport", json!({})),
        ("create-transport", json!({ "direction": "send" })),
        ("produce", video()),
        ("webrtc:offer", json!({ "to": "ada", "offer": { "type": "offer", "sdp": "v=0" } })),
        ("muteParticipant", json!({ "participantId": "ada" })),
        ("removeParticipant", json!({ "participantId": "ada" })),
        ("endRoom", json!({})),
    ] {
        assert_eq!(eve.refused(event, payload).await, "forbidden", "{event}");
    }
    let capabilities = crate::stage::capabilities();
    eve.must("createConsumerTransport", json!({ "rtpCapabilities": capabilities })).await;
    eve.must("consume", json!({ "producerId": track })).await;
    eve.must("chat_message", json!({ "content": "hello" })).await;
    assert_eq!(ada.refused("endRoom", json!({})).await, "forbidden");
}

#[tokio::test]
async fn without_keys_nobody_is_a_moderator() {
    let stage = Stage::new().await;
    let (mut ada, _) = stage.join("ada").await;
    let (_bob, _) = stage.join("bob").await;
    let about = json!({ "participantId": "bob" });
    for event in ["muteParticipant", "removeParticipant", "endRoom"] {
        assert_eq!(ada.refused(event, about.clone()).await, "forbidden");
    }
}

#[tokio::test]
async fn a_moderator_mutes_removes_and_ends_at_any_node() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let mut fleet = Fleet::new().await;
    fleet.settings.access = issuer.settings().access;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut boss, _) = join(&one.stage, &issuer.token("boss", "moderator")).await;
    let (mut near, _) = join(&one.stage, &issuer.token("near", "participant")).await;
    let (mut far, _) = join(&two.stage, &issuer.token("far", "participant")).await;
    one.until_seen(&mut boss, &["far", "near"], 0).await;
    for (node, client, name) in [(&one, &mut near, "near"), (&two, &mut far, "far")] {
        let track = node.send_video(client).await;
        assert_eq!(boss.event("new-producer").await["producerId"], track);
        let audio = json!({ "participantId": name, "kind": "audio" });
        assert_eq!(boss.must("muteParticipant", audio).await["producerIds"], json!([]));
        let muted = boss.must("mute-participant", json!({ "participantId": name })).await;
        assert_eq!(muted["producerIds"], json!([track]));
        let told = client.event("muted").await;
        assert_eq!(told, json!({ "by": "boss", "producerIds": [track] }));
        assert_eq!(boss.event("producer-paused").await["producerId"], track);
        assert!(fleet.media.inside().producers[&track].paused);
        // He may speak again.
        client.must("resumeProducer", json!({ "producerId": track })).await;
    }
    let nobody = json!({ "participantId": "nobody" });
    assert_eq!(boss.refused("removeParticipant", nobody).await, "not_found");
    for (client, name) in [(&mut near, "near"), (&mut far, "far")] {
        boss.must("removeParticipant", json!({ "participantId": name })).await;
        assert_eq!(client.event("removed").await["by"], "boss");
        let left = boss.event("call:participant-left").await;
        assert_eq!(left, json!({ "participantId": name, "reason": "removed" }));
        client.must("joinRoom", json!({ "roomId": "r" })).await;
    }
    one.until_seen(&mut boss, &["far", "near"], 0).await;
    boss.must("endRoom", json!({})).await;
    for client in [&mut boss, &mut near, &mut far] {
        assert_eq!(client.event("room-ended").await["by"], "boss");
        assert_eq!(client.refused("listProducers", json!({})).await, "not_in_room");
    }
    fleet.until_over().await;
}

/// Whatever the media server does last is what everybody is told last.
#[tokio::test]
async fn a_mute_and_a_resume_at_once_leave_what_is_so() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let mut fleet = Fleet::new().await;
    fleet.settings.access = issuer.settings().access;
    let (one, two) = tokio::join!(fleet.node("one"), fleet.node("two"));
    let (mut ada, _) = join(&one.stage, &issuer.token("ada", "participant")).await;
    let track = one.send_video(&mut ada).await;
    for node in [&one, &two] {
        let (mut boss, _) = join(&node.stage, &issuer.token("boss", "moderator")).await;
        node.until_seen(&mut boss, &["ada"], 1).await;
        while boss.must("listProducers", json!({})).await["producers"][0]["paused"] != false {}
        let held = fleet.media.pauses.clone().write_owned().await;
        let muting = boss.must("muteParticipant", json!({ "participantId": "ada" }));
        let resuming = async {
            fleet.media.until("it is paused", |inside| inside.producers[&track].paused).await;
            let opening = async {
                // Long enough to be resumed, if that does not wait.
                tokio::time::sleep(Duration::from_millis(50)).await;
                drop(held);
            };
            tokio::join!(ada.must("resumeProducer", json!({ "producerId": track })), opening);
            ada.event("muted").await;
        };
        tokio::join!(muting, resuming);
        let is_paused = fleet.media.inside().producers[&track].paused;
        let (mut bob, joined) = join(&one.stage, &issuer.token("bob", "participant")).await;
        assert_eq!(joined["producers"][0]["paused"], is_paused, "{joined}");
        bob.must("leaveRoom", json!({})).await;
        boss.must("leaveRoom", json!({})).await;
        ada.must("resumeProducer", json!({ "producerId": track })).await;
    }
}

/// An answer over HTTP: its status, and what it says.
async fn get(port: u16, path: &str, token: Option<&str>) -> (u16, Value) {
    let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let bearer = token.map(|it| format!("Authorization: Bearer {it}\r\n")).unwrap_or_default();
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\n{bearer}Connection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    tokio::time::timeout(Duration::from_secs(10), socket.read_to_string(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    let body = answer.split("\r\n\r\n").nth(1).unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[tokio::test]
async fn a_room_is_shown_to_other_services() {
    let issuer = Issuer::new(Algorithm::EdDSA);
    let stage = Stage::with(issuer.settings(), FakeMedia::new()).await;
    let token = issuer.token("ada", "participant");
    let (_ada, _) = join(&stage, &token).await;
    let (status, room) = get(stage.port, "/internal/rooms/r", Some(&token)).await;
    assert_eq!((status, &room["mode"]), (200, &json!("sfu")));
    let shown = json!([{ "participantId": "ada", "name": "ADA", "mediaHost": null }]);
    assert_eq!(room["participants"], shown, "the only media host of a test has no address");
    assert_eq!(get(stage.port, "/internal/rooms/r", None).await.0, 401);
    assert_eq!(get(stage.port, "/internal/rooms/other", Some(&token)).await.0, 403);
    let any = issuer.sign(&json!({ "sub": "ada", "exp": in_s(60) }));
    assert_eq!(get(stage.port, "/internal/rooms/other", Some(&any)).await.0, 404);
    assert_eq!(get(stage.port, "/internal/rooms/a%20b", Some(&any)).await.0, 404);
    // A room that is watched is watched by who may go into it.
    for (path, status) in [
        ("/hls/r/index.m3u8", 404),
        ("/hls/other/index.m3u8", 403),
        ("/hls/a%3Ab/index.m3u8", 403),
        ("/hls/%72/index.m3u8", 404),
    ] {
        assert_eq!(get(stage.port, path, Some(&token)).await.0, status, "{path}");
        assert_eq!(get(stage.port, path, None).await.0, 401, "{path}");
    }
    assert_eq!(get(stage.port, "/ready", None).await.0, 200, "a probe has no token");
}
