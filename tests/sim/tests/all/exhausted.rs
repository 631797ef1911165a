//! Packet numbers do not begin again: a stream that has had 2^32 of them ends, and is told of once.

use ironcast_core::{
    Discard, SECOND,
    numbers::{PacketIndex, SentSeq, SourceSeq},
    wire::Codec,
};
use ironcast_protocol::{Event, event::SentStream};
use ironcast_sim::World;

/// So many packets are left.
const LEFT: u32 = 500;

fn told(world: &World) -> Vec<Event> {
    let is_end = |event: &&Event| {
        matches!(event, Event::ConsumerExhausted { .. } | Event::ProducerExhausted { .. })
    };
    world.events.iter().map(|(_, event)| event).filter(is_end).cloned().collect()
}

#[test]
fn a_sent_stream_ends_with_its_numbers_and_another_takes_its_place() {
    let mut world = World::new(600);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    let begin = SentSeq::MAX.0 - LEFT;
    world.worker().skip_numbers("bob/camera", begin);
    for inbox in world.peers[bob].inboxes.values_mut() {
        let before = PacketIndex(u64::from(begin) - 1);
        inbox.index.commit(before);
        inbox.rtx_index.commit(before);
    }
    world.peers[bob].down.network.loss = 0.02;
    world.run(20 * SECOND);
    world.assert_no_faults();
    let newest = world.peers[bob].inbox(ssrc).index.newest().unwrap();
    let end = u64::from(SentSeq::MAX.0);
    assert!((end - 20..=end).contains(&newest.0), "{newest:?}");
    let consumer = "bob/camera".to_owned();
    let exhausted = [Event::ConsumerExhausted { consumer, stream: SentStream::Media }];
    assert_eq!(told(&world), exhausted);
    // Nor are key frames asked for that nobody would get.
    let asked = world.peers[alice].track("camera").sources[0].asked.len();
    let now = world.now;
    for paused in [true, false] {
        world.worker().apply_pause_consumer("bob/camera", paused, now).unwrap();
    }
    world.run(5 * SECOND);
    assert_eq!(world.peers[alice].track("camera").sources[0].asked.len(), asked);
    world.worker().apply_close_consumer("bob/camera").unwrap();
    let another = world.consume(bob, "camera");
    world.run(2 * SECOND);
    world.assert_no_faults();
    assert_ne!(another, ssrc);
    assert!(world.peers[bob].inbox(another).got.len() > 100);
    assert_eq!(told(&world), exhausted);
}

#[test]
fn a_received_stream_ends_with_its_numbers() {
    let mut world = World::new(601);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let first = world.publish_video(alice, "camera", Codec::Vp8).sources[0].index;
    world.worker().skip_numbers("camera", SourceSeq::MAX.0 - LEFT - first as u32);
    let ssrc = world.consume(bob, "camera");
    world.run(20 * SECOND);
    world.assert_no_faults();
    let got = world.peers[bob].inbox(ssrc).got.len();
    assert!((LEFT as usize - 50..=LEFT as usize + 1).contains(&got), "{got}");
    let exhausted = [Event::ProducerExhausted { producer: "camera".into(), encoding_idx: 0 }];
    assert_eq!(told(&world), exhausted);
    assert!(world.discarded(Discard::NumbersUsedUp) > 500);
    // Another SSRC of it does not begin again either.
    let source = &mut world.peers[alice].track("camera").sources[0];
    (source.ssrc, source.index) = (source.ssrc ^ 0xff, 100);
    world.run(20 * SECOND);
    assert_eq!(world.peers[bob].inbox(ssrc).got.len(), got);
    assert_eq!(told(&world), exhausted);
}
