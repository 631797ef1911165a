//! Packets of a transport in the clear: all of them both ways, headers alone unless more is asked
//! for, never more than there is room for, and none when nobody asks.

use ironcast_core::{
    MS, SECOND,
    wire::{Codec, rtp::Header},
};
use ironcast_protocol::{
    Reply,
    capture::{BYTES_MAX, CAPTURES_MAX, Captured, IDLE_S, PACKET_BYTES, Packet, TakeCapture},
};
use ironcast_sim::{World, media};

fn take(world: &mut World, id: &str, payload: bool, is_last: bool) -> Captured {
    let now = world.now;
    let take = TakeCapture { id: id.to_owned(), payload, is_last };
    match world.worker().take_capture(&take, now) {
        Ok(Reply::Captured(captured)) => captured,
        other => panic!("{other:?}"),
    }
}

/// RTCP has packet types 192 to 223 where RTP has its marker and payload type (RFC 5761).
fn is_rtcp(packet: &Packet) -> bool {
    (192..=223).contains(&packet.bytes[1])
}

fn call(seed: u64) -> (World, u32) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    (world, ssrc)
}

#[test]
fn what_a_peer_gets_and_sends_is_captured_and_nothing_else() {
    let (mut world, ssrc) = call(700);
    assert_eq!(take(&mut world, "bob", true, false).packets, [], "it begins now");
    let before = world.peers[1].inbox(ssrc).got.len();
    let mut packets = Vec::new();
    for _ in 0..20 {
        world.run(100 * MS);
        let captured = take(&mut world, "bob", true, false);
        assert_eq!(captured.dropped, 0);
        assert!(captured.tuple.is_some());
        packets.extend(captured.packets);
    }
    world.assert_no_faults();
    // The last ones are still on their way to him.
    let got = world.peers[1].inbox(ssrc).got.len() - before;
    let sent: Vec<_> = packets.iter().filter(|one| one.is_sent && !is_rtcp(one)).collect();
    assert!(got > 30 && (got..=got + 20).contains(&sent.len()), "{got} {}", sent.len());
    for packet in &sent {
        assert_eq!(packet.bytes[8..12], ssrc.to_be_bytes());
        assert_eq!(packet.bytes.len(), packet.len as usize);
    }
    let numbers: Vec<u16> =
        sent.iter().map(|one| u16::from_be_bytes([one.bytes[2], one.bytes[3]])).collect();
    assert!(numbers.windows(2).all(|two| two[1] == two[0].wrapping_add(1)), "{numbers:?}");
    // His reports come, and ours go.
    assert!(packets.iter().any(|one| !one.is_sent && is_rtcp(one)));
    assert!(packets.iter().any(|one| one.is_sent && is_rtcp(one)));
    assert!(packets.windows(2).all(|two| two[0].at_unix_ns <= two[1].at_unix_ns + SECOND));
}

#[test]
fn what_a_publisher_sends_is_captured_as_it_made_it() {
    let (mut world, _) = call(704);
    take(&mut world, "alice", true, false);
    world.run(SECOND);
    let captured = take(&mut world, "alice", true, false);
    let media: Vec<_> = captured.packets.iter().filter(|one| !is_rtcp(one)).collect();
    assert!(media.len() > 80, "{}", media.len());
    for packet in media {
        let header = Header::parse(&packet.bytes).unwrap();
        assert_eq!(packet.bytes.len(), packet.len as usize);
        media::read(Codec::Vp8, header.payload(&packet.bytes)).expect("her payload, and no more");
    }
}

#[test]
fn without_the_payload_there_are_headers_and_the_whole_length() {
    let (mut world, _) = call(701);
    take(&mut world, "alice", false, false);
    world.run(SECOND);
    let captured = take(&mut world, "alice", false, false);
    let media: Vec<_> = captured.packets.iter().filter(|one| !is_rtcp(one)).collect();
    assert!(media.len() > 20 && media.iter().all(|one| !one.is_sent), "she only sends");
    for packet in media {
        // The fixed header and two or three extensions; a frame of a camera is far longer.
        assert!(packet.bytes.len() <= 64 && packet.len as usize >= packet.bytes.len());
    }
    // Reports are no media: whole.
    let reports = captured.packets.iter().filter(|one| is_rtcp(one));
    reports.for_each(|one| assert_eq!(one.bytes.len(), one.len as usize));
}

#[test]
fn it_is_bounded_and_ends_when_nobody_asks() {
    let (mut world, _) = call(702);
    for name in ["carol", "dave", "erin"] {
        let peer = world.join(name);
        let camera = format!("{name}-camera");
        world.publish_video(peer, &camera, Codec::Vp8);
        world.consume(1, &camera);
    }
    world.run(SECOND);
    take(&mut world, "bob", true, false);
    world.run((IDLE_S - 1) * SECOND);
    let captured = take(&mut world, "bob", true, false);
    let bytes: usize = captured.packets.iter().map(|one| one.bytes.len() + PACKET_BYTES).sum();
    assert!(bytes <= BYTES_MAX && captured.dropped > 0, "{bytes} {}", captured.dropped);
    world.run((IDLE_S + 2) * SECOND);
    assert_eq!(
        take(&mut world, "bob", true, false),
        Captured { tuple: captured.tuple, ..Captured::default() }
    );
    // The last question gives what there is, and the next begins anew.
    world.run(100 * MS);
    assert_ne!(take(&mut world, "bob", true, true).packets, []);
    world.run(100 * MS);
    assert_eq!(take(&mut world, "bob", true, false).packets, []);
}

#[test]
fn a_worker_captures_few_transports_and_none_that_is_gone() {
    let mut world = World::new(703);
    let names: Vec<String> = (0..=CAPTURES_MAX).map(|number| format!("peer-{number}")).collect();
    for name in &names {
        world.join(name);
    }
    for name in &names[..CAPTURES_MAX] {
        take(&mut world, name, false, false);
    }
    let now = world.now;
    let ask = |id: &str| TakeCapture { id: id.to_owned(), payload: false, is_last: false };
    let last = &names[CAPTURES_MAX];
    assert!(world.worker().take_capture(&ask(last), now).is_err());
    assert!(world.worker().take_capture(&ask("nobody"), now).is_err());
    take(&mut world, &names[0], false, true);
    take(&mut world, last, false, false);
    world.worker().apply_close_transport(&names[1]).unwrap();
    assert!(world.worker().take_capture(&ask(&names[1]), now).is_err());
}
