//! Which encodings of a simulcast nobody watches, and what it takes until one is back.

use ironcast_core::{Discard, MS, Nanos, SECOND, wire::rtcp::Pause};
use ironcast_protocol::{Event, command::SetPreferredLayers, media::Layers};
use ironcast_sim::{Network, World, rng::Rng, world::Want};

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

/// Encodings that nobody watches, as a worker last told.
fn unwatched(world: &mut World, worker: usize) -> Vec<u8> {
    world.worker_at(worker).producer_state("camera").unwrap().unwatched
}

/// Packets of each stream that came to a worker.
fn came(world: &mut World, worker: usize) -> Vec<u64> {
    let now = world.now;
    let stats = world.worker_at(worker).producer_stats("camera", now).unwrap();
    stats.iter().map(|one| one.stream.packet_count).collect()
}

fn want(spatial: u8) -> Want {
    Want { preferred: Some(Layers { spatial, temporal: 2 }), ..Want::default() }
}

/// Alice on the first worker or host; her camera is carried to the second.
fn carried(seed: u64, network: Network, is_host: bool) -> World {
    let mut world = if is_host {
        World::two_hosts(seed, network, true)
    } else {
        World::two_workers(seed, Network { delay: 0, ..network })
    };
    let alice = world.join("alice");
    world.publish_simulcast(alice, "camera", 3);
    world.pipe("camera");
    world
}

#[test]
fn what_nobody_wants_on_any_worker_or_host_is_told_to_the_publisher() {
    for (seed, is_host) in [(940, false), (941, true)] {
        let mut world = carried(seed, Network::default(), is_host);
        world.run(5 * SECOND);
        assert_eq!(unwatched(&mut world, 0), [0, 1, 2], "nobody, anywhere");
        let carol = world.join_worker(1, "carol", Network::default(), Network::default());
        let ssrc = world.consume_as(carol, "camera", want(1)).0;
        world.run(SECOND);
        assert_eq!(unwatched(&mut world, 0), [2], "she is on the other one");
        let first = world.peers[carol].inbox(ssrc).first_picture_at();
        assert!(first.is_some_and(|at| at < world.now), "seed {seed}");
        // What she does not want does not come.
        let before = came(&mut world, 1);
        world.run(2 * SECOND);
        let after = came(&mut world, 1);
        assert_eq!(after[2], before[2], "seed {seed}");
        assert!(after[0] > before[0] + 50 && after[1] > before[1] + 100, "{before:?} {after:?}");
        // Somebody on the first wants more, then she does: at once.
        let bob = world.join("bob");
        world.consume_as(bob, "camera", want(2));
        world.run(100 * MS);
        assert_eq!(unwatched(&mut world, 0), []);
        world.worker().apply_close_consumer("bob/camera").unwrap();
        world.run(3 * SECOND);
        assert_eq!(unwatched(&mut world, 0), [2]);
        let now = world.now;
        let set =
            SetPreferredLayers { id: "carol/camera".into(), layers: want(2).preferred.unwrap() };
        world.worker_at(1).apply_preferred_layers(&set, now).unwrap();
        world.run(150 * MS);
        assert_eq!(unwatched(&mut world, 0), []);
        world.run(SECOND);
        let top = world.peers[0].track("camera").sources[2].ssrc;
        let newest = world.peers[carol].inbox(ssrc).got.values().next_back().unwrap().body.source;
        assert_eq!(newest, top, "seed {seed}: she has it");
        let holes = world.peers[carol].inbox(ssrc).holes();
        assert!(holes.is_empty(), "seed {seed}: {holes:?}");
        world.worker_at(1).apply_close_consumer("carol/camera").unwrap();
        world.run(5 * SECOND);
        assert_eq!(unwatched(&mut world, 0), [0, 1, 2]);
        world.assert_no_faults();
    }
}

/// A message that is lost is said again.
#[test]
fn it_is_told_over_a_bad_network_too() {
    for seed in 950..954 {
        let mut world = carried(seed, Network::lossy(0.4), true);
        let carol = world.join_worker(1, "carol", Network::default(), Network::default());
        world.consume_as(carol, "camera", want(0));
        world.run(14 * SECOND);
        assert_eq!(unwatched(&mut world, 0), [1, 2], "seed {seed}");
        world.worker_at(1).apply_close_consumer("carol/camera").unwrap();
        world.consume_as(carol, "camera", want(2));
        world.run(10 * SECOND);
        assert_eq!(unwatched(&mut world, 0), [], "seed {seed}");
        let stats = came(&mut world, 1);
        world.run(SECOND);
        assert!(came(&mut world, 1)[2] > stats[2] + 30, "seed {seed}");
    }
}

/// Only the other end of a pipe says what nobody wants there, and only of what it is sent.
#[test]
fn a_receiver_does_not_pause_by_rtcp() {
    let mut world = carried(960, Network::default(), true);
    let bob = world.join("bob");
    let ssrc = world.consume_as(bob, "camera", want(0)).0;
    world.run(2 * SECOND);
    let unknown = world.discarded(Discard::RtcpUnknownStream);
    let pause = |ssrc| Pause { ssrc, is_paused: true, number: 1 };
    let bytes = world.peers[bob].seal_rtcp(|w| w.pause_resume(5, &[pause(ssrc), pause(4_711)]));
    world.send(bob, bytes);
    world.run(100 * MS);
    assert_eq!(world.discarded(Discard::RtcpUnknownStream), unknown + 1);
    let before = world.peers[bob].inbox(ssrc).got.len();
    world.run(SECOND);
    assert!(world.peers[bob].inbox(ssrc).got.len() > before + 25, "he has it still");
    world.assert_no_faults();
}

/// What is counted of receivers' wishes is what they wish, whatever they do and in whatever order.
#[test]
fn wishes_are_counted_as_they_come_and_go() {
    for seed in 970..976 {
        let mut world = carried(seed, Network::default(), false);
        let mut rng = Rng::new(seed);
        let dave = world.join("dave");
        world.publish_simulcast(dave, "second", 2);
        let viewers: Vec<_> = (0..4)
            .map(|n| {
                let (up, down) = (Network::default(), Network::default());
                world.join_worker(n % 2, &format!("viewer-{n}"), up, down)
            })
            .collect();
        for _ in 0..150 {
            let viewer = viewers[rng.below(4) as usize];
            let worker = world.peers[viewer].worker;
            let track = if worker == 0 && rng.below(3) == 0 { "second" } else { "camera" };
            let id = format!("{}/{track}", world.peers[viewer].name);
            let (spatial, now) = (rng.below(3) as u8, world.now);
            let layers = Layers { spatial, temporal: rng.below(3) as u8 };
            let core = world.worker_at(worker);
            if core.consumer_state(&id).is_none() {
                let (paused, preferred) = (rng.below(4) == 0, Some(layers));
                world.consume_as(viewer, track, Want { paused, preferred, ..Want::default() });
            } else if rng.below(4) == 0 {
                core.apply_close_consumer(&id).unwrap();
            } else if rng.below(2) == 0 {
                core.apply_pause_consumer(&id, rng.below(2) == 0, now).unwrap();
            } else {
                core.apply_preferred_layers(&SetPreferredLayers { id, layers }, now).unwrap();
            }
            world.assert_no_faults();
            world.run(Nanos::from(rng.below(60)) * MS);
        }
        // On one worker, and then on the other.
        world.run(6 * SECOND);
        let mut wanted = 0;
        for worker in [1, 0] {
            for number in (0..4).filter(|number| number % 2 == worker) {
                let id = format!("viewer-{number}/camera");
                let state = world.worker_at(worker).consumer_state(&id);
                let preferred =
                    state.filter(|one| !one.paused).and_then(|one| one.preferred_layers);
                wanted = preferred.map_or(0, |layers| layers.spatial + 1).max(wanted);
            }
            let unwanted: Vec<u8> = (wanted..3).collect();
            assert_eq!(unwatched(&mut world, worker), unwanted, "seed {seed}, worker {worker}");
        }
        world.assert_no_faults();
    }
}
