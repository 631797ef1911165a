//! Peers that come by a TCP connection (RFC 6544, RFC 4571), and those who misuse one.

use std::{net::SocketAddr, time::Duration};

use ironcast_load::{
    VideoOptions,
    call::ConsumeOptions,
    ortc,
    stun::{self, Check},
};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};

use crate::common::{OneToOne, assert_clean, good_network, sees};

/// Frames of garbage in a second, from one peer.
const GARBAGE_PER_S: u32 = 50_000;

/// A peer that speaks the framing and nothing more.
struct Raw(TcpStream);

impl Raw {
    async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("the port is open");
        stream.set_nodelay(true).expect("an option");
        Self(stream)
    }

    async fn send(&mut self, datagram: &[u8]) -> std::io::Result<()> {
        self.0.write_all(&framed(datagram)).await
    }

    async fn receive(&mut self) -> Vec<u8> {
        let read = async {
            let len = self.0.read_u16().await.expect("an answer");
            let mut datagram = vec![0; usize::from(len)];
            self.0.read_exact(&mut datagram).await.expect("the whole of it");
            datagram
        };
        timeout(LIMIT, read).await.expect("in time")
    }

    /// Sends a valid check and takes its answer.
    async fn check(&mut self, transport: &Value) {
        let remote = ortc::remote(transport).expect("a transport");
        let check = check(&remote.ice.username_fragment, &remote.ice.password);
        self.send(&check).await.expect("sent");
        let answer = self.receive().await;
        let message = stun::read(&answer).expect("STUN");
        assert!(message.is_authentic(&remote.ice.password));
        assert_eq!(message.mapped, Some(self.0.local_addr().expect("connected")));
    }

    async fn is_closed(&mut self) {
        let read = timeout(LIMIT, self.0.read(&mut [0; 100])).await.expect("closed in time");
        assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    }
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    [&(datagram.len() as u16).to_be_bytes(), datagram].concat()
}

fn check(username_fragment: &str, password: &str) -> Vec<u8> {
    stun::binding_request(&Check {
        transaction: [5; 12],
        username: &format!("{username_fragment}:abcd"),
        password,
        priority: 1,
        tie_breaker: 1,
        use_candidate: true,
    })
}

/// A transport, and its candidate for connections.
async fn transport(pair: &Pair, more: Value) -> (Value, SocketAddr) {
    let mut body = json!({ "routerId": "room", "type": "webrtc", "enableTcp": true });
    body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    let transport = pair.call("POST", "/v1/transports", body).await;
    let candidates = ortc::candidates(&transport, "tcp").expect("a list");
    (transport, candidates[0])
}

#[tokio::test]
async fn a_call_by_tcp_alone() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let mut options = good_network();
    options.transport = Some(json!({
        "initialAvailableOutgoingBitrate": 20_000_000, "enableUdp": false, "enableTcp": true,
    }));
    let alice = pair.join_with("room", "alice", &options).await;
    let bob = pair.join_with("room", "bob", &options).await;
    // One who has UDP, in the same room.
    let carol = pair.join_with("room", "carol", &good_network()).await;
    let video = alice.publish_video(VideoOptions::single(800_000)).await.expect("a camera");
    for viewer in [&bob, &carol] {
        let seen = viewer.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
        let stats = sees(viewer, &seen, "frames", |stats| stats.decodable_frames >= 60).await;
        assert_clean(&stats);
    }
    for (transport, protocol) in
        [(&alice.send, "tcp"), (&bob.receive, "tcp"), (&carol.receive, "udp")]
    {
        let path = format!("/v1/transports/{}", transport.id);
        let shown = pair.call("GET", &path, Value::Null).await;
        assert_eq!(shown["iceSelectedTuple"]["protocol"], protocol, "{shown}");
        let candidates = shown["iceCandidates"].as_array().expect("a list");
        assert!(!candidates.is_empty());
        for candidate in candidates {
            assert_eq!(candidate["protocol"], protocol, "{candidate}");
            let kind = candidate["tcpType"].as_str();
            assert_eq!(kind, (protocol == "tcp").then_some("passive"), "{candidate}");
        }
    }
    eventually("they are counted", || async { pair.metric("tcp_connections{").await >= 3.0 }).await;
}

#[tokio::test]
async fn candidates_are_as_they_were_asked_for() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let protocols = async |more: Value| -> Vec<String> {
        let (transport, _) = transport(&pair, more).await;
        let candidates = transport["iceCandidates"].as_array().expect("a list").clone();
        let mut all: Vec<(u64, String)> = Vec::new();
        for candidate in candidates {
            let protocol = candidate["protocol"].as_str().expect("a word").to_owned();
            all.push((candidate["priority"].as_u64().expect("a number"), protocol));
        }
        all.sort_by(|a, b| b.cmp(a));
        all.into_iter().map(|(_, protocol)| protocol).collect()
    };
    assert_eq!(protocols(json!({})).await, ["udp", "tcp"]);
    assert_eq!(protocols(json!({ "preferUdp": true })).await, ["udp", "tcp"]);
    assert_eq!(protocols(json!({ "preferTcp": true })).await, ["tcp", "udp"]);
    assert_eq!(protocols(json!({ "enableUdp": false })).await, ["tcp"]);
    let neither = json!({ "routerId": "room", "type": "webrtc", "enableUdp": false });
    let refused = pair.refused("POST", "/v1/transports", neither).await;
    assert_eq!((refused.0, refused.1.as_str()), (400, "invalid_request"));
}

/// Whichever worker the kernel gives a connection to: it reaches the one that its check names.
#[tokio::test]
async fn one_port_serves_connections_of_two_workers() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let port = socket.local_addr().expect("bound").port();
    drop(socket);
    let pair =
        Pair::builder().set("rtc.single_port", port).set("dataplane.workers", 2).start().await;
    let mut options = good_network();
    options.transport = Some(json!({
        "initialAvailableOutgoingBitrate": 20_000_000, "enableUdp": false, "enableTcp": true,
    }));
    let mut calls = Vec::new();
    for worker in ["0", "1"] {
        let room = format!("room-{worker}");
        pair.call("POST", "/v1/routers", json!({ "id": room, "workerId": worker })).await;
        let alice = pair.join_with(&room, "alice", &options).await;
        let bob = pair.join_with(&room, "bob", &options).await;
        let video = alice.publish_video(VideoOptions::single(500_000)).await.expect("a camera");
        let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("seen");
        calls.push((alice, bob, seen));
    }
    for (_, bob, seen) in &calls {
        let stats = sees(bob, seen, "frames", |stats| stats.decodable_frames >= 30).await;
        assert_clean(&stats);
    }
    // Many more, for each of the two: about half of them came to the other one.
    let mut kept = Vec::new();
    for number in 0..24 {
        let room = format!("room-{}", number % 2);
        let (mine, to) = transport(&pair, json!({ "routerId": room, "enableUdp": false })).await;
        assert_eq!(to.port(), port);
        let mut raw = Raw::connect(to).await;
        raw.check(&mine).await;
        raw.check(&mine).await;
        kept.push(raw);
    }
    eventually("some were brought home", || async { pair.metric("tcp_adopted").await >= 4.0 })
        .await;
    // Whom nobody knows, and what is no check.
    let (_, to) = transport(&pair, json!({ "routerId": "room-0" })).await;
    for (metric, datagram) in [
        ("stun_unknown_user", check("00nobody", "a password of 22 chars")),
        ("stun_unknown_user", check("01nobody", "a password of 22 chars")),
        ("tcp_strange", check("zznobody", "a password of 22 chars")),
        ("tcp_strange", vec![0xff; 100]),
    ] {
        let before = pair.metric(metric).await;
        let mut stranger = Raw::connect(to).await;
        stranger.send(&datagram).await.expect("sent");
        eventually(metric, || async { pair.metric(metric).await > before }).await;
    }
    // One of a worker that there is not is closed.
    let mut stranger = Raw::connect(to).await;
    stranger.send(&check("07nobody", "a password of 22 chars")).await.expect("sent");
    stranger.is_closed().await;
    for (_, bob, seen) in &calls {
        let frames = bob.stats(seen).decodable_frames;
        let stats = sees(bob, seen, "it goes on", |now| now.decodable_frames > frames + 10).await;
        assert_clean(&stats);
    }
}

#[tokio::test]
async fn who_misuses_a_connection_disturbs_nobody() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    let pair = &call.pair;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let (mine, to) = transport(pair, json!({ "enableUdp": false })).await;
    let (udp_only, _) = transport(pair, json!({})).await;

    // A frame that is longer than any datagram, and half a one that then breaks off.
    let mut oversized = Raw::connect(to).await;
    oversized.0.write_all(&[0xff, 0xff, 1, 2, 3]).await.expect("sent");
    oversized.is_closed().await;
    eventually("it is counted", || async { pair.metric("tcp_oversized").await >= 1.0 }).await;
    let mut half = Raw::connect(to).await;
    half.check(&mine).await;
    half.0.write_all(&framed(&[0x80; 200])[..100]).await.expect("sent");
    drop(half);
    eventually("it is counted", || async { pair.metric("tcp_closed").await >= 1.0 }).await;

    // Checks that are none, or for a transport that has no such candidates.
    let other = json!({ "routerId": "room", "type": "webrtc" });
    let other = pair.call("POST", "/v1/transports", other).await;
    let other = ortc::remote(&other).expect("a transport");
    let own = ortc::remote(&udp_only).expect("a transport");
    for (reason, datagram) in [
        ("stun_wrong_protocol", check(&other.ice.username_fragment, &other.ice.password)),
        ("stun_unauthenticated", check(&own.ice.username_fragment, "not the password at all")),
        ("stun_unknown_user", check("nobody", "a password of 22 chars")),
        ("unknown_protocol", vec![0xff; 100]),
    ] {
        let before = pair.metric(reason).await;
        let mut stranger = Raw::connect(to).await;
        stranger.send(&datagram).await.expect("sent");
        eventually(reason, || async { pair.metric(reason).await > before }).await;
    }

    // Garbage without end: before a check the connection does not last, after it all is counted.
    let mut stranger = Raw::connect(to).await;
    let talks = async { while stranger.send(&[0xff; 50]).await.is_ok() {} };
    timeout(LIMIT, talks).await.expect("it is closed");
    eventually("it is counted", || async { pair.metric("tcp_strange").await >= 1.0 }).await;
    let mut peer = Raw::connect(to).await;
    peer.check(&mine).await;
    let discarded = async || {
        let reasons = ["unknown_protocol", "rtp_malformed", "srtp_no_keys", "stun_malformed"];
        let mut sum = 0.0;
        for reason in reasons {
            sum += pair.metric(&format!("discarded_{reason}")).await;
        }
        sum
    };
    let before = discarded().await;
    let frames = call.bob.stats(&call.seen).decodable_frames;
    let begun = Instant::now();
    for batch in 0..20u32 {
        let mut bytes = Vec::new();
        for number in 0..GARBAGE_PER_S / 20 {
            let first = [0x80, 0x81, 0xff, 2][number as usize % 4];
            bytes.extend(framed(&[first, 0xff, number as u8, batch as u8, 1, 2, 3, 4]));
        }
        peer.0.write_all(&bytes).await.expect("it is read");
        tokio::time::sleep_until(begun + Duration::from_millis(50) * (batch + 1)).await;
    }
    eventually("all of it is counted", || async {
        discarded().await >= before + f64::from(GARBAGE_PER_S)
    })
    .await;
    // Nobody else was disturbed, and who sent it is still connected.
    peer.check(&mine).await;
    let stats =
        call.bob_sees("the call goes on", |stats| stats.decodable_frames > frames + 30).await;
    assert_clean(&stats);
}
