//! Connectivity checks as an ICE-lite server answers them, and what a change of path does to media.

use std::net::SocketAddr;

use ironcast_core::{
    Discard, MS, SECOND,
    wire::{Codec, stun},
};
use ironcast_protocol::{
    Event,
    event::{IceState, TransportCloseReason},
};
use ironcast_sim::World;

/// A check of a peer with one thing changed.
fn check(world: &mut World, peer: usize, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = world.peers[peer].write_check();
    change(&mut bytes);
    bytes
}

#[test]
fn a_check_is_answered_with_where_it_came_from() {
    for seed in 400..403 {
        let mut world = World::new(seed);
        let bob = world.join("bob");
        world.run(SECOND);
        let peer = &world.peers[bob];
        assert_eq!(peer.answers[0].result, Ok(peer.remote));
        assert!(peer.answers[0].at <= 10 * SECOND + 41 * MS);
        let states = world.events.iter().filter_map(|(_, event)| match event {
            Event::IceStateChange { state, .. } => Some(*state),
            _ => None,
        });
        let states: Vec<_> = states.collect();
        assert_eq!(states, [IceState::Completed], "seed {seed}");
    }
}

#[test]
fn ipv6_is_answered_as_ipv6() {
    let mut world = World::new(404);
    let bob = world.join("bob");
    world.peers[bob].remote = "[2001:db8::7]:5000".parse().unwrap();
    world.peers[bob].local = "[2001:db8::1]:40000".parse().unwrap();
    world.run(SECOND);
    assert_eq!(world.peers[bob].answers[0].result, Ok("[2001:db8::7]:5000".parse().unwrap()));
}

#[test]
fn wrong_checks_are_counted_and_open_nothing() {
    let mut world = World::new(405);
    let bob = world.join("bob");
    world.peers[bob].check_every = None;
    let remote: SocketAddr = "10.9.9.9:9".parse().unwrap();
    let right = world.peers[bob].check.clone();
    world.peers[bob].check.password = "x".repeat(24);
    let wrong_password = check(&mut world, bob, |_| ());
    world.peers[bob].check = right.clone();
    world.peers[bob].check.username = "00zzzzzzzz:peer".into();
    let wrong_user = check(&mut world, bob, |_| ());
    world.peers[bob].check = right;
    let no_fingerprint = check(&mut world, bob, |bytes| {
        bytes.truncate(bytes.len() - 8);
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    });
    let truncated = check(&mut world, bob, |bytes| bytes.truncate(30));
    for (bytes, reason) in [
        (wrong_password, Discard::StunUnauthenticated),
        (wrong_user, Discard::StunUnknownUser),
        (no_fingerprint, Discard::StunUnauthenticated),
        (truncated, Discard::StunMalformed),
    ] {
        let before = world.discarded(reason);
        world.send_from(0, remote, &bytes);
        world.run(10 * MS);
        assert_eq!((world.discarded(reason) - before, world.open_paths(0)), (1, 0), "{reason}");
    }
}

#[test]
fn a_role_conflict_and_unknown_attributes_are_answered() {
    let mut world = World::new(406);
    let bob = world.join("bob");
    world.run(SECOND);
    world.peers[bob].check.role = stun::Role::Controlled(1);
    let conflict = world.peers[bob].write_check();
    world.peers[bob].check.role = stun::Role::Controlling(1);
    world.send(bob, conflict);
    world.run(100 * MS);
    assert_eq!(world.peers[bob].answers.last().unwrap().result, Err(stun::ROLE_CONFLICT));
    // A comprehension-required attribute that nobody knows, written in front of the integrity.
    let password = world.peers[bob].check.password.clone();
    let unknown = with_unknown_attribute(&world.peers[bob].write_check(), password.as_bytes());
    world.send(bob, unknown);
    world.run(100 * MS);
    assert_eq!(world.peers[bob].answers.last().unwrap().result, Err(stun::UNKNOWN_ATTRIBUTE));
    assert_eq!(world.open_paths(0), 1);
}

/// The same check with one more attribute, signed again by way of an error message's writer: the
/// attribute list of such a message is itself an attribute that requests may not carry.
fn with_unknown_attribute(check: &[u8], password: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; stun::MESSAGE_BYTES_MAX];
    let transaction: [u8; 12] = check[8..20].try_into().unwrap();
    let text = String::from_utf8(check[24..24 + usize::from(check[23])].to_vec()).unwrap();
    let request = stun::Request {
        transaction_id: transaction,
        username: &text,
        priority: 1,
        role: stun::Role::Controlling(1),
        use_candidate: false,
        nomination: None,
    };
    let len = stun::write_request(&mut bytes, &request, password).unwrap();
    // PRIORITY becomes a number that is not assigned; then the signature is made anew.
    let at = (20..len).find(|&at| bytes[at..at + 4] == [0, 0x24, 0, 4]).unwrap();
    bytes[at..at + 2].copy_from_slice(&[0x7f, 0xfe]);
    bytes.truncate(len);
    sign_again(&mut bytes, password);
    bytes
}

fn sign_again(message: &mut [u8], password: &[u8]) {
    // Integrity is at 32 bytes from the end, the fingerprint at 8.
    let integrity_at = message.len() - 32;
    let tag = hmac_sha1(password, message, integrity_at);
    message[integrity_at + 4..integrity_at + 24].copy_from_slice(&tag);
    let end = message.len() - 8;
    let crc = crc32(&message[..end]) ^ 0x5354_554e;
    message[end + 4..].copy_from_slice(&crc.to_be_bytes());
}

fn hmac_sha1(key: &[u8], message: &[u8], end: usize) -> [u8; 20] {
    let mut before = message[..end].to_vec();
    let length = (end - 20 + 24) as u16;
    before[2..4].copy_from_slice(&length.to_be_bytes());
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key);
    aws_lc_rs::hmac::sign(&key, &before).as_ref().try_into().unwrap()
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |c, _| if c & 1 == 1 { c >> 1 ^ 0xedb8_8320 } else { c >> 1 },
        )
    })
}

#[test]
fn media_follows_a_nominated_new_address() {
    for seed in 410..413 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        for port in [6_000, 6_001, 6_002] {
            world.peers[bob].remote.set_port(port);
            world.peers[bob].check_at = world.now;
            world.run(2 * SECOND);
        }
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        assert!(inbox.frames().len() > 250, "seed {seed}");
        let moved = world.events.iter().filter(|(_, event)| {
            matches!(event, Event::IceSelectedTupleChange { transport, .. } if transport == "bob")
        });
        assert_eq!(moved.count(), 4, "seed {seed}");
        // The old ways are closed when nobody checks them any more.
        world.run(15 * SECOND);
        assert_eq!(world.open_paths(0), 2, "seed {seed}");
    }
}

#[test]
fn no_more_than_four_ways_to_one_peer() {
    let mut world = World::new(414);
    let bob = world.join("bob");
    world.run(SECOND);
    let home = world.peers[bob].remote;
    world.peers[bob].check.nominate = false;
    for port in 7_000..7_020 {
        let bytes = world.peers[bob].write_check();
        world.send_from(0, SocketAddr::from(([10, 0, 9, 9], port)), &bytes);
        world.run(10 * MS);
        assert!(world.open_paths(0) <= 4);
    }
    let now = world.now;
    let tuple = world.worker().transport_stats("bob", now).unwrap().tuple.unwrap();
    assert_eq!(tuple.remote, home);
}

#[test]
fn who_gives_no_consent_is_closed() {
    let mut world = World::new(415);
    let bob = world.join("bob");
    world.run(5 * SECOND);
    world.peers[bob].check_every = None;
    world.run(25 * SECOND);
    assert!(world.worker().transport_state("bob").is_some());
    world.run(10 * SECOND);
    assert!(world.worker().transport_state("bob").is_none());
    assert_eq!(world.open_paths(0), 0);
    let closed = world.events.iter().filter(|(_, event)| {
        let reason = TransportCloseReason::ConsentLost;
        *event == Event::TransportClosed { transport: "bob".into(), reason }
    });
    assert_eq!(closed.count(), 1);
}

#[test]
fn after_a_restart_the_old_credentials_hold_until_the_new_are_used() {
    for seed in 420..423 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(2 * SECOND);
        let credentials = world.credentials(0);
        world.worker().apply_restart_ice("bob", credentials.clone()).unwrap();
        let answered = world.peers[bob].answers.len();
        world.run(6 * SECOND);
        assert!(world.peers[bob].answers.len() > answered + 1, "seed {seed}");
        let old = world.peers[bob].check.clone();
        world.peers[bob].check.username = format!("{}:peer", credentials.username_fragment);
        world.peers[bob].check.password = credentials.password;
        world.peers[bob].remote.set_port(6_500);
        world.peers[bob].check_at = world.now;
        world.run(3 * SECOND);
        world.peers[bob].check = old;
        let late = world.peers[bob].write_check();
        let refused = world.discarded(Discard::StunUnknownUser);
        world.send(bob, late);
        world.run(SECOND);
        assert_eq!(world.discarded(Discard::StunUnknownUser), refused + 1, "seed {seed}");
        world.assert_no_faults();
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), [], "seed {seed}");
    }
}

#[test]
fn a_check_for_another_worker_is_handed_over() {
    let mut world = World::with_limits(425, 2, &Default::default());
    let room = ironcast_protocol::command::CreateRouter {
        id: ironcast_sim::world::ROOM.into(),
        worker: 1,
        note: Vec::new(),
    };
    world.worker_at(1).apply_create_router(&room).unwrap();
    let network = ironcast_sim::Network::default();
    let bob = world.join_worker(1, "bob", network, network);
    world.peers[bob].check_every = None;
    let bytes = world.peers[bob].write_check();
    let remote = world.peers[bob].remote;
    world.send_from(0, remote, &bytes);
    world.run(SECOND);
    assert_eq!(world.peers[bob].answers.len(), 1);
    assert_eq!((world.open_paths(0), world.open_paths(1)), (0, 1));
    assert_eq!(world.counter("stun_handed_over"), 1);
}

/// Two transports that check from one address in one turn: the second one must not stay waiting for
/// ever for a way that nobody opens.
#[test]
fn two_transports_from_one_address_leave_nothing_waiting() {
    let mut world = World::new(426);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    (world.peers[alice].check_every, world.peers[bob].check_every) = (None, None);
    for i in 0..1_500u32 {
        let remote = SocketAddr::from(([10, 1, (i >> 8) as u8, i as u8], 7_000));
        let checks = [world.peers[alice].write_check(), world.peers[bob].write_check()];
        checks.iter().for_each(|check| world.send_from(0, remote, check));
        world.run(MS);
    }
    // Each turn one of the two was refused, and the next ones are answered as ever.
    assert_eq!(world.discarded(Discard::StunTooManyPaths), 1_500);
    for port in 1..10 {
        let check = world.peers[bob].write_check();
        world.send_from(0, SocketAddr::from(([10, 2, 0, 0], port)), &check);
    }
    world.run(10 * MS);
    assert_eq!(world.discarded(Discard::StunTooManyPaths), 1_500);
}
