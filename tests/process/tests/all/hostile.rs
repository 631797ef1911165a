//! Datagrams that nobody should send: counted by reason and dropped, while the call goes on.

use std::net::{SocketAddr, UdpSocket};

use ironcast_load::{
    VideoOptions,
    call::ConsumeOptions,
    ortc,
    random::Random,
    rtp::packet::Packet,
    stun::{self, Check},
};
use ironcast_process_tests::{Pair, eventually};
use serde_json::json;

use crate::common::OneToOne;

/// Sends until the counter of a reason has grown.
async fn counted(pair: &Pair, reason: &str, mut send: impl AsyncFnMut()) {
    let before = pair.metric(reason).await;
    for _ in 0..100 {
        send().await;
        if pair.metric(reason).await > before {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    panic!("{reason} is not counted; metrics:\n{}", pair.metrics().await);
}

/// A valid one, if the password is right.
pub(crate) fn check(username: &str, password: &str) -> Vec<u8> {
    stun::binding_request(&Check {
        transaction: [9; 12],
        username,
        password,
        priority: 1,
        tie_breaker: 1,
        use_candidate: true,
    })
}

#[tokio::test]
async fn strangers_are_counted_and_dropped() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let body = json!({ "routerId": "room", "type": "webrtc" });
    let transport = call.pair.call("POST", "/v1/transports", body).await;
    let remote = ortc::remote(&transport).expect("a transport");
    let to: SocketAddr = remote.candidates[0];
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let send = |bytes: Vec<u8>| {
        stranger.send_to(&bytes, to).expect("loopback takes it");
    };
    let username = format!("{}:abcd", remote.ice.username_fragment);
    let mut damaged = check(&username, &remote.ice.password);
    damaged.truncate(damaged.len() - 5);
    let cases: [(&str, Vec<u8>); 5] = [
        ("stun_malformed", damaged),
        ("stun_unknown_user", check("nobody:abcd", "a password of 22 chars")),
        ("stun_unauthenticated", check(&username, "not the password at all")),
        ("unknown_source", [&[0x80, 96][..], &[1; 60][..]].concat()),
        ("unknown_", vec![0xFF; 100]),
    ];
    stranger.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("a socket");
    for (reason, bytes) in cases {
        counted(&call.pair, reason, async || send(bytes.clone())).await;
        if reason.starts_with("stun_un") {
            // A binding error response with 401.
            let mut answer = [0; 100];
            let len = stranger.recv(&mut answer).expect("it is refused");
            assert!(len <= bytes.len() && answer[..2] == [1, 0x11], "{:?}", &answer[..len]);
            assert_eq!((&answer[8..20], &answer[24..28]), (&[9; 12][..], &[0, 0, 4, 1][..]));
        }
    }
    let mut random = Random::new(8_166);
    for _ in 0..2_000 {
        let length = random.below(1_400) as usize;
        let bytes: Vec<u8> = (0..length).map(|_| random.next_u32() as u8).collect();
        send(bytes);
    }
    call.goes_on().await;
}

#[tokio::test]
async fn a_participant_gone_wrong_is_counted_and_dropped() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let peer = call.alice.send.session.peer();
    let mut sequence = 0u16;
    let mut packet = |ssrc: u32, payload_type: u8| {
        sequence += 1;
        let mut packet = Packet::default();
        packet.header.version = 2;
        packet.header.ssrc = ssrc;
        packet.header.payload_type = payload_type;
        packet.header.sequence_number = sequence;
        packet.payload = vec![0x10; 40].into();
        packet
    };

    counted(&call.pair, "rtp_unknown_stream", async || {
        peer.send_rtp(&packet(0xDEAD, 96)).await.expect("connected");
    })
    .await;
    let recorded = call.alice.send.session.record_sent(1).await.remove(0);
    counted(&call.pair, "srtp_unauthenticated", async || {
        // Of a stream that is known, with a number that was not there yet: only the tag is wrong.
        let mut forged = recorded.to_vec();
        forged[2] ^= 1;
        peer.send_datagram(&forged).await.expect("connected");
    })
    .await;
    counted(&call.pair, "rtcp_malformed", async || {
        // A report that announces more than the datagram holds.
        let report = [0x81, 201, 0, 60, 0, 0, 0, 1];
        peer.send_rtcp_bytes(&report).await.expect("connected");
    })
    .await;
    // Longer than any packet that we take, and longer than a receive buffer.
    for (reason, length) in [("oversized", 1_900), ("truncated", 4_000)] {
        counted(&call.pair, reason, async || {
            let mut datagram = recorded.to_vec();
            datagram.resize(length, 0);
            peer.send_datagram(&datagram).await.expect("connected");
        })
        .await;
    }
    counted(&call.pair, "unknown_protocol", async || {
        peer.send_datagram(&[0xFF; 40]).await.expect("connected");
        peer.send_datagram(&[100; 40]).await.expect("connected");
    })
    .await;

    call.goes_on().await;
}

#[tokio::test]
async fn replayed_packets_are_counted_and_dropped() {
    let call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let session = &call.alice.send.session;
    // NACKs of a forger: without RTX the publisher answers with the same datagrams again. Here
    // the datagrams of one frame are recorded and sent a second time.
    let recorded = session.record_sent(20).await;
    assert_eq!(recorded.len(), 20);
    let before = call.pair.metric("srtp_replayed").await;
    for datagram in &recorded {
        session.peer().send_datagram(datagram).await.expect("connected");
    }
    eventually("all replays are counted", || async {
        call.pair.metric("srtp_replayed").await >= before + recorded.len() as f64
    })
    .await;
    call.goes_on().await;
}

#[tokio::test]
async fn random_damage_never_ends_the_dataplane() {
    let mut call = OneToOne::start(VideoOptions::single(800_000), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let mut random = Random::new(0x7b28_972b);
    for peer in [call.alice.send.session.peer(), call.bob.receive.session.peer()] {
        for round in 0..2_000u32 {
            // RTCP with a valid tag and damaged content reaches the parsers behind the seal.
            let mut bytes: Vec<u8> =
                (0..8 + random.below(120)).map(|_| random.next_u32() as u8).collect();
            bytes[0] = 0x80 | (random.next_u32() as u8 & 0x3F);
            bytes[1] = 200 + random.below(8) as u8;
            let words = (bytes.len() / 4 - 1) as u16;
            let claimed = if round % 3 == 0 { random.next_u32() as u16 } else { words };
            bytes[2..4].copy_from_slice(&claimed.to_be_bytes());
            // What the sealing side itself refuses is no test of the server.
            let _ = peer.send_rtcp_bytes(&bytes).await;
            let mut packet = Packet::default();
            packet.header.version = 2;
            packet.header.ssrc = random.next_u32() % 4;
            packet.header.payload_type = random.next_u32() as u8 & 0x7F;
            packet.header.sequence_number = round as u16;
            packet.payload = bytes.into();
            let _ = peer.send_rtp(&packet).await;
        }
    }
    let frames = call.bob.stats(&call.seen).decodable_frames;
    call.bob_sees("the call goes on", |stats| stats.decodable_frames > frames + 30).await;
    assert!(call.pair.dataplane_runs());
    let workers = call.pair.call("GET", "/v1/workers", serde_json::Value::Null).await;
    assert_eq!(workers[0]["status"], "running");
}
