//! Who speaks, by the levels in the packets of publishers.

use ironcast_core::SECOND;
use ironcast_protocol::{
    Event,
    observer::{CreateObserver, Method, Observe, Volume},
};
use ironcast_sim::{World, net::Network};

/// A room of two who send, and an observer who listens to both.
fn room(seed: u64, method: Method, network: &Network) -> World {
    let mut world = World::new(seed);
    let create = CreateObserver { id: "o".into(), router: "room".into(), method, note: Vec::new() };
    world.worker().apply_create_observer(&create).unwrap();
    for (name, level) in [("alice", 30), ("bob", 50)] {
        let peer = world.join_over(name, *network, Network::default());
        world.publish_audio(peer, name).level = Some(level);
        let observe = Observe { id: "o".into(), producer: name.into() };
        let now = world.now;
        world.worker().apply_observe(&observe, now).unwrap();
    }
    world
}

fn told(world: &World) -> Vec<&Event> {
    let is_told = |event: &&Event| {
        let event = *event;
        matches!(event, Event::ObserverVolumes { .. } | Event::ObserverSilence { .. })
            || matches!(event, Event::DominantSpeaker { .. })
    };
    world.events.iter().map(|(_, event)| event).filter(is_told).collect()
}

fn volumes(of: &[(&str, i8)]) -> Event {
    let volumes = of.iter().map(|(id, volume)| Volume { producer: (*id).into(), volume: *volume });
    Event::ObserverVolumes { observer: "o".into(), volumes: volumes.collect() }
}

#[test]
fn volumes_are_told_each_interval_and_end_with_the_packets() {
    for (seed, network) in [(900, Network::default()), (901, Network::bad())] {
        let method = Method::AudioLevel { threshold: -60, interval_ms: 500, entries_max: 2 };
        let mut world = room(seed, method, &network);
        world.run(4 * SECOND);
        let heard = told(&world);
        assert!((5..=8).contains(&heard.len()), "seed {seed}: {heard:?}");
        let both = volumes(&[("alice", -30), ("bob", -50)]);
        assert!(heard.iter().all(|event| **event == both), "seed {seed}: {heard:?}");
        world.events.clear();
        // DTX: nothing is sent of silence.
        world.peers[0].track("alice").muted = true;
        world.run(2 * SECOND);
        assert_eq!(told(&world).last(), Some(&&volumes(&[("bob", -50)])), "seed {seed}");
        world.peers[1].track("bob").muted = true;
        world.run(2 * SECOND);
        let silence = Event::ObserverSilence { observer: "o".into() };
        assert_eq!(told(&world).last(), Some(&&silence), "seed {seed}");
        world.events.clear();
        world.run(5 * SECOND);
        assert!(told(&world).is_empty(), "seed {seed}");
        world.peers[1].track("bob").muted = false;
        world.run(2 * SECOND);
        assert_eq!(told(&world).last(), Some(&&volumes(&[("bob", -50)])), "seed {seed}");
    }
}

#[test]
fn a_producer_that_is_paused_or_closed_is_heard_no_more() {
    let method = Method::AudioLevel { threshold: -60, interval_ms: 500, entries_max: 2 };
    let mut world = room(910, method, &Network::default());
    world.run(2 * SECOND);
    world.worker().apply_pause_producer("alice", true).unwrap();
    world.run(SECOND);
    assert_eq!(told(&world).last(), Some(&&volumes(&[("bob", -50)])));
    world.worker().apply_close_producer("bob").unwrap();
    world.run(SECOND);
    assert_eq!(told(&world).last(), Some(&&Event::ObserverSilence { observer: "o".into() }));
    assert_eq!(world.worker().observer_state("o").unwrap().producers, ["alice"]);
}
