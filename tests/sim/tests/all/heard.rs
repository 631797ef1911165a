//! Rooms that limit who is heard (the loudest) and who is seen (the last speakers).

use ironcast_core::{MS, Nanos, SECOND};
use ironcast_protocol::{
    Event,
    command::{CreateRouter, Selection},
    event::LayersReason,
};
use ironcast_sim::{Network, World};

fn room(seed: u64, loudest: u16, last: u16) -> World {
    let mut world = World::new(seed);
    let worker = world.worker();
    worker.apply_close_router("room").unwrap();
    let selection = Selection { loudest, last };
    let create = CreateRouter { id: "room".into(), worker: 0, selection, note: Vec::new() };
    worker.apply_create_router(&create).unwrap();
    world
}

/// Peers with a microphone each, as quiet as can be, and one who listens to all of them.
fn voices(world: &mut World, names: &[&str], network: &Network) -> (usize, Vec<u32>) {
    for name in names {
        let peer = world.join_over(name, *network, Network::default());
        world.publish_audio(peer, name).level = Some(120);
    }
    let listener = world.join("listener");
    let ssrcs = names.iter().map(|name| world.consume(listener, name)).collect();
    (listener, ssrcs)
}

/// When the packets were captured that came since a moment.
fn captured(world: &mut World, peer: usize, ssrc: u32, since: Nanos) -> Vec<Nanos> {
    let got = &world.peers[peer].inbox(ssrc).got;
    got.values().map(|got| got.body.captured).filter(|at| *at >= since).collect()
}

fn speak(world: &mut World, name: &str, level: u8) {
    let peer = world.peers.iter_mut().find(|peer| peer.name == name).unwrap();
    peer.track(name).level = Some(level);
}

#[test]
fn the_loudest_are_heard_and_no_word_is_cut() {
    for (seed, network) in [(1400, Network::default()), (1401, Network::bad())] {
        let mut world = room(seed, 2, 0);
        let names = ["a", "b", "c", "d"];
        let (listener, ssrcs) = voices(&mut world, &names, &network);
        world.run(2 * SECOND);
        // Two have a place without a word.
        let heard = |world: &mut World, since| {
            let counts = ssrcs.iter().map(|ssrc| captured(world, listener, *ssrc, since).len());
            counts.collect::<Vec<_>>()
        };
        let first = heard(&mut world, 0);
        assert_eq!(first.iter().filter(|count| **count > 0).count(), 2, "seed {seed}: {first:?}");
        for name in ["c", "d", "a", "b"] {
            let (at, began) = (names.iter().position(|one| *one == name).unwrap(), world.now);
            speak(&mut world, name, 25);
            world.run(2 * SECOND);
            let word = captured(&mut world, listener, ssrcs[at], began + 20 * MS);
            // From the first packet of the word on, each once and in order.
            assert!(word[0] <= began + 60 * MS, "seed {seed}: {name} {}", word[0] - began);
            assert!(word.len() >= 90, "seed {seed}: {name} {}", word.len());
            assert!(word.is_sorted_by(|a, b| a < b), "seed {seed}: {name}");
            let since = world.now - SECOND;
            let count = heard(&mut world, since).iter().filter(|count| **count > 0).count();
            assert_eq!(count, 2, "seed {seed}: {name}");
            speak(&mut world, name, 120);
            world.run(SECOND);
        }
        world.assert_no_faults();
    }
}

#[test]
fn who_speaks_is_not_put_out_by_somebody_as_loud() {
    let mut world = room(1410, 1, 0);
    let (listener, ssrcs) = voices(&mut world, &["a", "b"], &Network::default());
    speak(&mut world, "a", 30);
    world.run(2 * SECOND);
    let since = world.now;
    speak(&mut world, "b", 27);
    world.run(3 * SECOND);
    assert!(captured(&mut world, listener, ssrcs[0], since).len() > 140);
    assert_eq!(captured(&mut world, listener, ssrcs[1], since), []);
    // A louder one takes over, and back at once he does not.
    speak(&mut world, "b", 10);
    world.run(SECOND);
    let since = world.now;
    world.run(SECOND);
    assert_eq!(captured(&mut world, listener, ssrcs[0], since), []);
    assert!(captured(&mut world, listener, ssrcs[1], since).len() > 45);
    // Who is paused holds no place.
    world.worker().apply_pause_producer("b", true).unwrap();
    let since = world.now;
    world.run(2 * SECOND);
    assert!(captured(&mut world, listener, ssrcs[0], since).len() > 90);
    world.assert_no_faults();
}

#[test]
fn who_leaves_gives_his_place_to_whoever_is_there() {
    let mut world = room(1420, 1, 0);
    let (listener, ssrcs) = voices(&mut world, &["a", "b"], &Network::default());
    world.run(SECOND);
    let is_heard =
        |world: &mut World, at: usize| !captured(world, listener, ssrcs[at], 0).is_empty();
    let first = usize::from(!is_heard(&mut world, 0));
    assert!(!is_heard(&mut world, 1 - first));
    world.worker().apply_close_producer(["a", "b"][first]).unwrap();
    world.run(SECOND);
    assert!(is_heard(&mut world, 1 - first));
    world.assert_no_faults();
}

#[test]
fn the_videos_of_those_who_spoke_last_are_seen() {
    for (seed, network) in [(1430, Network::default()), (1431, Network::bad())] {
        let mut world = room(seed, 0, 1);
        let watcher = world.join("watcher");
        let mut cameras = Vec::new();
        for name in ["a", "b"] {
            let peer = world.join_over(name, network, Network::default());
            // A little noise: speech is what stands out from it.
            world.publish_audio(peer, name).level = Some(105);
            world.publish_simulcast(peer, &format!("{name}-camera"), 3);
            cameras.push(world.consume(watcher, &format!("{name}-camera")));
        }
        world.run(3 * SECOND);
        let frames = |world: &mut World, at: usize, since: Nanos| {
            let frames = world.peers[watcher].inbox(cameras[at]).frames();
            frames.iter().filter(|frame| frame.body.captured >= since).count()
        };
        assert!(frames(&mut world, 0, 0) > 30, "seed {seed}");
        assert_eq!(frames(&mut world, 1, 0), 0, "seed {seed}");
        // His publisher hears that nobody watches; nobody asks him for key frames.
        let is_unwatched = |(_, event): &(Nanos, Event)| {
            matches!(event, Event::ProducerLayersUnwatched { producer, encodings }
                if producer == "b-camera" && encodings.len() == 3)
        };
        assert!(world.events.iter().any(is_unwatched), "seed {seed}: {:?}", world.events);
        world.events.clear();
        let since = world.now;
        speak(&mut world, "b", 20);
        world.run(3 * SECOND);
        assert!(frames(&mut world, 1, since) > 30, "seed {seed}");
        assert_eq!(frames(&mut world, 0, since + 2 * SECOND), 0, "seed {seed}");
        let told = world.events.iter().filter_map(|(_, event)| match event {
            Event::ConsumerLayersChange { consumer, layers, reason } => {
                Some((consumer.as_str(), layers.is_some(), *reason))
            }
            _ => None,
        });
        let told: Vec<_> = told.collect();
        assert!(
            told.contains(&("watcher/a-camera", false, LayersReason::LastN)),
            "seed {seed}: {told:?}"
        );
        assert!(told.iter().any(|one| one.0 == "watcher/b-camera" && one.1), "seed {seed}");
        // He leaves: the other one is seen again.
        world.worker().apply_close_transport("b").unwrap();
        let since = world.now;
        world.run(2 * SECOND);
        assert!(frames(&mut world, 0, since) > 20, "seed {seed}");
        world.assert_no_faults();
    }
}
