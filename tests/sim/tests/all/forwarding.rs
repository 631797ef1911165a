//! Everything that is published reaches everyone who consumes it: complete, in order, unchanged.

use ironcast_core::{MS, SECOND, wire::Codec};
use ironcast_sim::World;

#[test]
fn a_video_stream_arrives_complete_in_order_and_unchanged() {
    for (seed, codec) in [(1, Codec::Vp8), (2, Codec::H264), (3, Codec::Vp8)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", codec);
        let ssrc = world.consume(bob, "camera");
        world.run(5 * SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert!(inbox.got.len() > 400, "seed {seed}: {}", inbox.got.len());
        assert_eq!(inbox.holes(), [], "seed {seed}");
        let in_order: Vec<_> = inbox.got.keys().copied().collect();
        assert_eq!(inbox.order, in_order, "seed {seed}");
        assert!(inbox.first_picture_at().unwrap() < 10 * SECOND + 400 * MS);
    }
}
