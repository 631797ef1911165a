//! Which encodings of a simulcast nobody watches, and what it takes until one is back.

use ironcast_core::{MS, SECOND};
use ironcast_protocol::{Event, command::SetPreferredLayers, media::Layers};
use ironcast_sim::World;

fn told(world: &mut World) -> Vec<Vec<u8>> {
    let events = std::mem::take(&mut world.events).into_iter();
    let encodings = events.filter_map(|(_, event)| match event {
        Event::ProducerLayersUnwatched { producer, encodings } if producer == "camera" => {
            Some(encodings)
        }
        _ => None,
    });
    encodings.collect()
}

fn prefer(world: &mut World, consumer: &str, spatial: u8) {
    let now = world.now;
    let layers = Layers { spatial, temporal: 2 };
    let set = SetPreferredLayers { id: consumer.into(), layers };
    world.worker().apply_preferred_layers(&set, now).unwrap();
}

fn pause(world: &mut World, consumer: &str, paused: bool) {
    let now = world.now;
    world.worker().apply_pause_consumer(consumer, paused, now).unwrap();
}

#[test]
fn what_nobody_wants_is_told_late_and_what_somebody_wants_at_once() {
    let mut world = World::new(920);
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.publish_simulcast(alice, "camera", 3);
    world.publish_video(alice, "screen", ironcast_core::wire::Codec::Vp8);
    world.run(3 * SECOND);
    assert_eq!(told(&mut world), [vec![0, 1, 2]]);
    world.consume(bob, "camera");
    world.run(50 * MS);
    assert_eq!(told(&mut world), [Vec::<u8>::new()]);
    prefer(&mut world, "bob/camera", 1);
    world.run(SECOND);
    assert_eq!(told(&mut world), Vec::<Vec<u8>>::new());
    world.run(2 * SECOND);
    assert_eq!(told(&mut world), [vec![2]]);
    // Another one wants more; the one who wants most decides.
    world.consume(carol, "camera");
    world.run(50 * MS);
    assert_eq!(told(&mut world), [Vec::<u8>::new()]);
    pause(&mut world, "carol/camera", true);
    world.run(3 * SECOND);
    assert_eq!(told(&mut world), [vec![2]]);
    // Windows that are rearranged.
    for _ in 0..10 {
        prefer(&mut world, "bob/camera", 0);
        world.run(300 * MS);
        prefer(&mut world, "bob/camera", 1);
        world.run(300 * MS);
    }
    assert_eq!(told(&mut world), Vec::<Vec<u8>>::new());
    pause(&mut world, "carol/camera", false);
    world.run(50 * MS);
    assert_eq!(told(&mut world), [Vec::<u8>::new()]);
    world.worker().apply_close_consumer("carol/camera").unwrap();
    world.worker().apply_close_consumer("bob/camera").unwrap();
    world.run(3 * SECOND);
    assert_eq!(told(&mut world), [vec![0, 1, 2]]);
    assert_eq!(world.worker().producer_state("camera").unwrap().unwatched, [0, 1, 2]);
}

/// The publisher sends again what somebody wants again: he has it about as soon as a key frame.
#[test]
fn an_encoding_that_was_off_comes_back_at_once() {
    for seed in 930..933 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 3);
        let ssrc = world.consume(bob, "camera");
        world.run(6 * SECOND);
        prefer(&mut world, "bob/camera", 0);
        world.run(4 * SECOND);
        assert_eq!(told(&mut world), [vec![1, 2]], "seed {seed}");
        let top = world.peers[alice].track("camera").sources[2].ssrc;
        for stream in 1..3 {
            world.peers[alice].track("camera").sources[stream].enabled = false;
        }
        world.run(10 * SECOND);
        let asked = world.now;
        prefer(&mut world, "bob/camera", 2);
        world.run(20 * MS);
        assert_eq!(told(&mut world), [Vec::<u8>::new()], "seed {seed}");
        for source in &mut world.peers[alice].track("camera").sources {
            // An encoder that begins again begins with a key frame.
            source.key_wanted |= !source.enabled;
            source.enabled = true;
        }
        let has_top = |world: &World| {
            let newest = world.peers[bob].inbox(ssrc).got.values().next_back();
            newest.is_some_and(|got| got.body.source == top)
        };
        assert!(world.run_until(2 * SECOND, has_top), "seed {seed}");
        let took = world.now - asked;
        assert!(took < 300 * MS, "seed {seed}: {} ms", took / MS);
        world.run(3 * SECOND);
        assert!(has_top(&world), "seed {seed}");
        world.assert_no_faults();
    }
}
