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

const USERNAME: u16 = 6;
const INTEGRITY: u16 = 8;

/// A message with a right fingerprint.
fn message(kind: u16, attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut bytes =
        [&kind.to_be_bytes()[..], &[0; 2], &[0x21, 0x12, 0xa4, 0x42], &[7; 12]].concat();
    for (kind, value) in attributes {
        bytes.extend([kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat());
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    let length = (bytes.len() - 20 + 8) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
    let crc = crc32(&bytes) ^ 0x5354_554e;
    bytes.extend([0x80, 0x28, 0, 4]);
    bytes.extend(crc.to_be_bytes());
    bytes
}

/// Who is none of ours, or has not signed as it should be, is told so by an unsigned answer (RFC 8489
/// section 9.1.3) that is no longer than what was sent. What is no request gets none.
#[test]
fn wrong_checks_are_counted_and_refused_and_open_nothing() {
    let mut world = World::new(405);
    let bob = world.join("bob");
    world.peers[bob].check_every = None;
    let right = world.peers[bob].check.clone();
    let username = right.username.clone().into_bytes();
    world.peers[bob].check.password = "x".repeat(24);
    let wrong_password = check(&mut world, bob, |_| ());
    let no_fingerprint = check(&mut world, bob, |bytes| {
        bytes.truncate(bytes.len() - 8);
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
    });
    let damaged = check(&mut world, bob, |bytes| *bytes.last_mut().unwrap() ^= 1);
    let truncated = check(&mut world, bob, |bytes| bytes.truncate(30));
    let mut named = |user: &str| {
        world.peers[bob].check.username = format!("{user}:peer");
        check(&mut world, bob, |_| ())
    };
    let (wrong_user, no_user_of_ours) = (named("00zzzzzzzz"), named("nobody"));
    world.peers[bob].check = right;
    let tag: (u16, &[u8]) = (INTEGRITY, &[9; 20]);
    let user: (u16, &[u8]) = (USERNAME, &username);
    let (unauthenticated, malformed) = (Discard::StunUnauthenticated, Discard::StunMalformed);
    let cases = [
        (wrong_password, unauthenticated, Some(401)),
        (wrong_user, Discard::StunUnknownUser, Some(401)),
        (no_user_of_ours, Discard::StunUnknownUser, Some(401)),
        (message(1, &[(USERNAME, &[0xff; 16]), tag]), malformed, Some(401)),
        (message(1, &[tag]), malformed, Some(400)),
        (message(1, &[user]), unauthenticated, Some(400)),
        (message(1, &[(USERNAME, b"00zzzzzzzz:peer")]), Discard::StunUnknownUser, Some(400)),
        // There is no answer that is as short.
        (message(1, &[]), malformed, None),
        (message(1, &[(USERNAME, b"x:y"), (0x25, &[])]), Discard::StunUnknownUser, None),
        (no_fingerprint, unauthenticated, None),
        (damaged, unauthenticated, None),
        (truncated, malformed, None),
        // An indication, an answer, a refusal, and a request of TURN.
        (message(0x0011, &[user, tag]), malformed, None),
        (message(0x0101, &[user, tag]), malformed, None),
        (message(0x0111, &[user, tag]), malformed, None),
        (message(0x0003, &[user, tag]), malformed, None),
    ];
    for (nth, (bytes, reason, code)) in (0..).zip(cases) {
        let remote = SocketAddr::from(([10, 9, 9, nth], 9));
        world.listen_at(remote);
        let before = world.discarded(reason);
        world.send_from(0, remote, &bytes);
        world.run(200 * MS);
        let got = (world.discarded(reason) - before, world.open_paths(0));
        assert_eq!(got, (1, 0), "{nth}: {reason}");
        let answers = world.take_plain(remote);
        assert_eq!(answers.len(), usize::from(code.is_some()), "{nth}: {reason}");
        for (_, answer) in answers {
            assert!(answer.len() <= bytes.len(), "{nth}: {} for {}", answer.len(), bytes.len());
            let refusal = stun::Message::parse(&answer).unwrap();
            assert_eq!((refusal.class, refusal.method), (stun::Class::Error, stun::BINDING));
            assert_eq!((refusal.error_code, refusal.has_integrity()), (code, false), "{nth}");
            assert_eq!(refusal.transaction_id, bytes[8..20]);
            assert!(refusal.verify_fingerprint());
        }
    }
    // To the letter.
    let remote = SocketAddr::from(([10, 9, 9, 99], 9));
    world.listen_at(remote);
    world.send_from(0, remote, &message(1, &[tag]));
    world.run(200 * MS);
    let reason = [&[0, 0, 4, 0][..], b"Bad Request"].concat();
    assert_eq!(world.take_plain(remote)[0].1, message(0x0111, &[(9, &reason)]));
}

/// What a stranger is told has a rate, and those who are right notice nothing of it. A username of
/// another worker is none of ours to refuse.
#[test]
fn refusals_are_few_and_hinder_nobody() {
    let mut world = World::with_limits(436, 2, &Default::default());
    world.open_room(1);
    let (bob, network) = (world.join("bob"), ironcast_sim::Network::default());
    let carol = world.join_worker(1, "carol", network, network);
    world.run(SECOND);
    for peer in [bob, carol] {
        world.peers[peer].check_every = None;
    }
    let opened = world.sockets_opened();
    let mut heard = 0;
    for nth in 0..1_000u32 {
        let user = if nth % 2 == 0 { "00zzzzzzzz" } else { "nobody" };
        world.peers[bob].check.username = format!("{user}:peer");
        let bytes = world.peers[bob].write_check();
        let remote = SocketAddr::from(([10, 7, (nth >> 8) as u8, nth as u8], 7_000));
        world.listen_at(remote);
        world.send_from(0, remote, &bytes);
        world.run(2 * MS);
        heard += world.take_plain(remote).len();
    }
    assert!((16..=24).contains(&heard), "{heard} in 2 s");
    assert_eq!(world.sockets_opened() - opened, heard);
    assert_eq!(world.discarded(Discard::StunUnknownUser), 1_000);
    assert_eq!((world.open_paths(0), world.open_paths(1)), (1, 1));
    world.run(SECOND);
    // On a way of its own, too, by that way.
    let before = world.peers[bob].refused.get("stun").copied().unwrap_or(0);
    let bytes = world.peers[bob].write_check();
    world.send(bob, bytes);
    world.run(SECOND);
    assert_eq!(world.peers[bob].refused["stun"], before + 1);
    assert_eq!(world.sockets_opened() - opened, heard);
    // Of the other worker: right, wrong, and nobody's there.
    let remote = SocketAddr::from(([10, 7, 7, 7], 7_007));
    world.listen_at(remote);
    let username = world.peers[carol].check.username.clone();
    for (nth, user) in [username.as_str(), "01zzzzzzzz:peer"].into_iter().enumerate() {
        world.peers[carol].check.username = user.into();
        world.peers[carol].check.password.push('x');
        let bytes = world.peers[carol].write_check();
        world.send_from(0, remote, &bytes);
        world.run(SECOND);
        // Said once, and by that worker.
        assert_eq!(world.take_plain(remote).len(), 1, "{user}");
        assert_eq!(world.counter("stun_handed_over"), nth as u64 + 1);
    }
    let told = [Discard::StunUnauthenticated, Discard::StunUnknownUser];
    assert_eq!(told.map(|reason| world.discarded_at(1, reason)), [1, 1]);
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
        dtls: None,
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

/// Who gives no consent is disconnected, and may come back after any time: with the same
/// credentials or with new ones.
#[test]
fn who_gives_no_consent_is_disconnected_and_can_come_back() {
    for restarts in [false, true] {
        let mut world = World::new(415);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(5 * SECOND);
        (world.peers[bob].check_every, world.peers[bob].reports) = (None, false);
        world.run(25 * SECOND);
        let state = |world: &mut World| world.worker().transport_state("bob").unwrap().ice_state;
        assert_eq!(state(&mut world), IceState::Completed);
        world.run(10 * SECOND);
        assert_eq!(state(&mut world), IceState::Disconnected);
        assert_eq!(world.open_paths(0), 1);
        let got = world.peers[bob].inbox(ssrc).got.len();
        world.run(3_600 * SECOND / 4);
        // RFC 7675 section 5.1: nothing is sent without consent.
        assert_eq!(world.peers[bob].inbox(ssrc).got.len(), got);
        if restarts {
            let credentials = world.credentials(0);
            world.worker().apply_restart_ice("bob", credentials.clone()).unwrap();
            world.peers[bob].check.username = format!("{}:peer", credentials.username_fragment);
            world.peers[bob].check.password = credentials.password;
        }
        world.peers[bob].remote.set_port(6_700);
        (world.peers[bob].check_every, world.peers[bob].reports) = (Some(2_500 * MS), true);
        world.peers[bob].check_at = world.now;
        world.run(3 * SECOND);
        assert_eq!(state(&mut world), IceState::Completed);
        assert!(world.peers[bob].inbox(ssrc).got.len() > got + 150);
        let closed = |event: &Event| matches!(event, Event::TransportClosed { .. });
        assert!(!world.events.iter().any(|(_, event)| closed(event)));
    }
}

/// libnice (GStreamer) sends no checks once it has a path: who sends media, or RTCP for what comes,
/// is there.
#[test]
fn who_sends_media_or_rtcp_without_checks_stays_connected() {
    let mut world = World::new(418);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(5 * SECOND);
    world.peers[alice].check_every = None;
    (world.peers[bob].check_every, world.peers[bob].reports) = (None, true);
    world.run(90 * SECOND);
    for id in ["alice", "bob"] {
        let state = world.worker().transport_state(id).unwrap().ice_state;
        assert_eq!(state, IceState::Completed, "{id}");
    }
    let got = world.peers[bob].inbox(ssrc).got.len();
    world.run(SECOND);
    assert!(world.peers[bob].inbox(ssrc).got.len() > got);
}

#[test]
fn who_stays_disconnected_is_closed_where_that_is_wanted() {
    let mut world = World::new(416);
    world.disconnected_timeout_s = 60;
    let bob = world.join("bob");
    world.run(5 * SECOND);
    world.peers[bob].check_every = None;
    world.run(85 * SECOND);
    assert!(world.worker().transport_state("bob").is_some());
    world.run(12 * SECOND);
    assert!(world.worker().transport_state("bob").is_none());
    assert_eq!(world.open_paths(0), 0);
    let reason = TransportCloseReason::ConsentLost;
    let disconnected =
        Event::IceStateChange { transport: "bob".into(), state: IceState::Disconnected };
    let closed = Event::TransportClosed { transport: "bob".into(), reason };
    let said: Vec<_> = world.events.iter().map(|(_, event)| event.clone()).collect();
    assert_eq!(said[said.len() - 2..], [disconnected, closed]);
}

/// Renomination (draft-thatcher-ice-renomination-01): the highest number wins, also without
/// USE-CANDIDATE, which native libwebrtc does not send then.
#[test]
fn the_highest_nomination_wins() {
    let mut world = World::new(417);
    let bob = world.join("bob");
    world.peers[bob].check.nominate = false;
    world.run(SECOND);
    world.peers[bob].check_every = None;
    let home = world.peers[bob].remote;
    for (port, nomination, expected) in
        [(1, Some(5), 1), (2, Some(4), 1), (2, Some(5), 1), (2, None, 1), (2, Some(6), 2)]
    {
        world.peers[bob].remote = SocketAddr::new(home.ip(), port);
        world.peers[bob].check.nomination = nomination;
        let check = world.peers[bob].write_check();
        world.send(bob, check);
        world.run(600 * MS);
        let now = world.now;
        let stats = world.worker().transport_stats("bob", now).unwrap();
        assert_eq!(stats.tuple.unwrap().remote.port(), expected, "{port} {nomination:?}");
        assert_eq!(stats.ice_state, IceState::Completed);
    }
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
    world.open_room(1);
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
    for i in 0..500u32 {
        let remote = SocketAddr::from(([10, 1, (i >> 8) as u8, i as u8], 7_000));
        let checks = [world.peers[alice].write_check(), world.peers[bob].write_check()];
        checks.iter().for_each(|check| world.send_from(0, remote, check));
        world.run(600 * MS);
    }
    // Each turn one of the two was refused, and the next ones are answered as ever.
    assert_eq!(world.discarded(Discard::StunTooManyPaths), 500);
    for port in 1..5 {
        let check = world.peers[bob].write_check();
        world.send_from(0, SocketAddr::from(([10, 2, 0, 0], port)), &check);
    }
    world.run(10 * MS);
    assert_eq!(world.discarded(Discard::StunTooManyPaths), 500);
}

/// Every new address costs a socket: a peer gets a few at once and then two a second, and all peers
/// together sixteen a turn.
#[test]
fn new_addresses_have_a_budget() {
    let mut world = World::new(427);
    let bob = world.join("bob");
    world.run(SECOND);
    let opened = |world: &World| world.sockets_opened();
    let before = opened(&world);
    world.peers[bob].check.nominate = false;
    for i in 0..5_000u32 {
        let bytes = world.peers[bob].write_check();
        let remote = SocketAddr::from(([10, 9, (i >> 8) as u8, i as u8], 7_000));
        world.send_from(0, remote, &bytes);
        world.run(MS);
    }
    let count = opened(&world) - before;
    assert!((10..=14).contains(&count), "{count} sockets in 5 s");
    assert_eq!(world.discarded(Discard::StunTooManyPaths), 5_000 - count as u64);
    // His own way is none the worse for it.
    let answered = world.peers[bob].answers.len();
    world.run(5 * SECOND);
    assert!(world.peers[bob].answers.len() > answered);
    // Many peers in one turn.
    let mut world = World::new(428);
    let peers: Vec<usize> = (0..40).map(|n| world.join(&format!("p{n}"))).collect();
    for &peer in &peers {
        world.peers[peer].check_every = None;
        let bytes = world.peers[peer].write_check();
        let remote = world.peers[peer].remote;
        world.send_from(0, remote, &bytes);
    }
    world.run(MS);
    assert_eq!((world.open_paths(0), world.discarded(Discard::StunTooManyPaths)), (16, 24));
    for &peer in &peers {
        (world.peers[peer].check_every, world.peers[peer].check_at) = (Some(2_500 * MS), world.now);
    }
    world.run(SECOND);
    assert_eq!(world.open_paths(0), 40);
}

/// Whose a check is, its username says: a page that is loaded again comes from where the one before
/// came from, and need not wait until that one's consent ends. Late checks of the one before take
/// nothing away.
#[test]
fn a_new_transport_takes_over_an_older_ones_address() {
    let mut world = World::new(430);
    let (carol, alice) = (world.join("carol"), world.join("alice"));
    world.publish_video(carol, "camera", Codec::Vp8);
    world.publish_audio(alice, "mic");
    world.run(2 * SECOND);
    world.peers[alice].tracks.clear();
    (world.peers[alice].check_every, world.peers[alice].reports) = (None, false);
    let again = world.join("again");
    world.peers[again].remote = world.peers[alice].remote;
    world.publish_audio(again, "mic again");
    let (ssrc, voice) = (world.consume(again, "camera"), world.consume(carol, "mic again"));
    for _ in 0..10 {
        world.run(500 * MS);
        let late = world.peers[alice].write_check();
        world.send(alice, late);
    }
    let first = world.peers[again].answers.first().expect("an answer");
    assert!(first.at < 12 * SECOND + 100 * MS, "{}", first.at);
    assert!(world.peers[again].inbox(ssrc).frames().len() > 100);
    assert!(world.peers[carol].inbox(voice).got.len() > 200);
    world.run(40 * SECOND);
    assert_eq!(world.open_paths(0), 2);
    world.assert_no_faults();
    assert!(world.peers[again].inbox(ssrc).frames().len() > 1_200);
}

/// Two transports of one peer behind one socket of his, both at work for a minute.
#[test]
fn two_transports_behind_one_socket_both_work() {
    let mut world = World::new(431);
    let carol = world.join("carol");
    let (one, two) = (world.join("one"), world.join("two"));
    world.peers[two].remote = world.peers[one].remote;
    world.publish_video(carol, "camera", Codec::Vp8);
    world.publish_audio(one, "mic");
    world.publish_video(two, "own", Codec::H264);
    world.run(SECOND);
    let received = world.consume(one, "camera");
    let sent = [world.consume(carol, "mic"), world.consume(carol, "own")];
    world.run(60 * SECOND);
    world.assert_no_faults();
    assert_eq!(world.open_paths(0), 2);
    assert!(world.peers[one].inbox(received).frames().len() > 1_700);
    assert!(world.peers[carol].inbox(sent[0]).got.len() > 2_900);
    assert!(world.peers[carol].inbox(sent[1]).frames().len() > 1_700);
    assert!(world.peers[two].answers.len() > 20);
    assert_eq!(world.discarded(Discard::StunUnknownUser), 0);
}

/// On one port of several workers an address goes with the transport, too: the worker that has its
/// socket lets go of it when its own transport there is silent, and not before.
#[test]
fn an_address_goes_to_a_transport_of_another_worker() {
    let mut world = World::with_limits(432, 2, &Default::default());
    world.open_room(1);
    let alice = world.join("alice");
    world.run(SECOND);
    let network = ironcast_sim::Network::default();
    let bob = world.join_worker(1, "bob", network, network);
    (world.peers[bob].remote, world.peers[bob].check_every) = (world.peers[alice].remote, None);
    // His checks arrive where the socket of that address is, and that is the first worker's.
    let check = |world: &mut World| {
        let bytes = world.peers[bob].write_check();
        world.send_to_socket(0, world.peers[bob].remote, &bytes);
        world.run(100 * MS);
    };
    for _ in 0..100 {
        check(&mut world);
    }
    assert_eq!((world.open_paths(0), world.open_paths(1)), (1, 0));
    world.peers[alice].check_every = None;
    for _ in 0..40 {
        check(&mut world);
    }
    assert_eq!((world.open_paths(0), world.open_paths(1)), (0, 1));
    assert!(world.peers[bob].answers.iter().any(|answer| answer.result.is_ok()));
}

/// What is handed to another worker is whole and bears a right checksum, and is not too much.
#[test]
fn little_is_handed_over_in_a_turn_and_nothing_damaged() {
    let mut world = World::with_limits(433, 2, &Default::default());
    let bob = world.join("bob");
    world.peers[bob].check_every = None;
    world.peers[bob].check.username = "01abcdefgh:peer".into();
    let check = world.peers[bob].write_check();
    for i in 0..1_000u32 {
        let mut bytes = check.clone();
        if i % 2 == 0 {
            *bytes.last_mut().unwrap() ^= 1;
        }
        world.send_from(0, SocketAddr::from(([10, 3, (i >> 8) as u8, i as u8], 7_000)), &bytes);
    }
    world.run(MS);
    assert_eq!(world.counter("stun_handed_over"), 64);
    assert_eq!(world.discarded(Discard::StunUnauthenticated), 500);
    assert_eq!(world.discarded(Discard::LimitReached), 500 - 64);
}

/// A full ICE peer begins as controlled, or asks for what nobody knows: it is told so at its first
/// check, by a signed answer.
#[test]
fn refusals_reach_an_address_that_is_new() {
    let mut world = World::new(434);
    let bob = world.join("bob");
    world.peers[bob].check.role = stun::Role::Controlled(0);
    world.run(300 * MS);
    assert_eq!(world.peers[bob].answers[0].result, Err(stun::ROLE_CONFLICT));
    // Nothing was selected by it.
    let now = world.now;
    assert_eq!(world.worker().transport_stats("bob", now).unwrap().tuple, None);
    world.peers[bob].check.role = stun::Role::Controlling(9);
    world.peers[bob].check_at = now;
    world.run(SECOND);
    assert!(world.peers[bob].answers.last().unwrap().result.is_ok());
    assert!(world.worker().transport_stats("bob", now).unwrap().tuple.is_some());
    let carol = world.join("carol");
    world.peers[carol].check_every = None;
    let password = world.peers[carol].check.password.clone();
    let unknown = with_unknown_attribute(&world.peers[carol].write_check(), password.as_bytes());
    world.send(carol, unknown);
    world.run(100 * MS);
    assert_eq!(world.peers[carol].answers[0].result, Err(stun::UNKNOWN_ATTRIBUTE));
}

/// Media leaves for where the peer's own comes from, long before a check says so; and when a socket
/// fails, for the address that was checked last.
#[test]
fn media_follows_what_arrives_and_what_is_left() {
    let mut world = World::new(435);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    let home = world.peers[bob].remote;
    let mut away = home;
    away.set_port(6_000);
    // Both work; the new one is not nominated, and no more checks come for long.
    world.peers[bob].check.nominate = false;
    world.peers[bob].remote = away;
    world.peers[bob].check_at = world.now;
    world.run(50 * MS);
    world.peers[bob].remote = home;
    world.run(500 * MS);
    world.peers[bob].check_every = None;
    let tuple = |world: &mut World| {
        let now = world.now;
        world.worker().transport_stats("bob", now).unwrap().tuple.unwrap().remote
    };
    assert_eq!(tuple(&mut world), home);
    // Its reports come from the new one now.
    world.peers[bob].remote = away;
    world.run(2 * SECOND);
    assert_eq!(tuple(&mut world), away);
    let before = world.peers[bob].inbox(ssrc).got.len();
    world.run(SECOND);
    assert!(world.peers[bob].inbox(ssrc).got.len() > before + 80);
    world.peers[bob].reports = false;
    world.run(100 * MS);
    world.fail_path(0, away);
    assert_eq!(tuple(&mut world), home);
    world.assert_no_faults();
}
