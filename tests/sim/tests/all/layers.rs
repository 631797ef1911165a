//! Which layer a receiver gets when its network, its wishes or the source change.

use ironcast_core::{MS, Nanos, SECOND};
use ironcast_protocol::{
    Event,
    command::{SetPreferredLayers, SetPriority, SetTransportBitrates},
    media::Layers,
};
use ironcast_sim::{World, track::Plain, world::Want};

/// A publisher of three layers and a receiver that has the highest: about 100, 350 and 1,100 kb/s.
fn watched(seed: u64) -> (World, usize, usize, u32) {
    let mut world = World::new(seed);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_simulcast(alice, "camera", 3);
    let ssrc = world.consume(bob, "camera");
    world.run(6 * SECOND);
    assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
    (world, alice, bob, ssrc)
}

/// Index of the layer of the newest packet.
fn layer(world: &mut World, bob: usize, ssrc: u32) -> usize {
    let source = world.peers[bob].inbox(ssrc).got.values().next_back().unwrap().body.source;
    let sources = world.peers.iter().flat_map(|p| &p.tracks).map(|t| &t.sources);
    let mut all = sources.filter_map(|s| s.iter().position(|s| s.ssrc == source));
    all.next().unwrap()
}

#[test]
fn a_falling_remb_lowers_at_once_and_the_layer_comes_back() {
    for seed in 600..603 {
        let (mut world, _, bob, ssrc) = watched(seed);
        world.peers[bob].remb_bps = Some(5_000_000);
        world.run(3 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
        world.peers[bob].remb_bps = Some(300_000);
        world.peers[bob].report_at = world.now;
        world.run(SECOND);
        assert!(layer(&mut world, bob, ssrc) < 2, "seed {seed}");
        world.peers[bob].remb_bps = Some(5_000_000);
        world.run(12 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
    }
}

/// One objection, however often it is said, doubles the time to the next try once.
#[test]
fn a_second_objection_does_not_keep_the_layer_away_for_half_a_minute() {
    let (mut world, _, bob, ssrc) = watched(605);
    world.peers[bob].remb_bps = Some(5_000_000);
    world.run(2 * SECOND);
    for _ in 0..2 {
        for step in 0..5u64 {
            world.peers[bob].remb_bps = Some(400_000 - 20_000 * step);
            world.peers[bob].report_at = world.now;
            world.run(SECOND / 5);
        }
        world.peers[bob].remb_bps = Some(5_000_000);
        world.run(9 * SECOND);
    }
    world.run(6 * SECOND);
    assert_eq!(layer(&mut world, bob, ssrc), 2);
}

#[test]
fn a_low_remb_that_creeps_up_is_no_objection() {
    for seed in 610..612 {
        let (mut world, _, bob, ssrc) = watched(seed);
        let mut remb = 200_000u64;
        for _ in 0..20 {
            remb += remb / 12;
            world.peers[bob].remb_bps = Some(remb);
            world.run(SECOND);
            assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}: {remb}");
        }
    }
}

#[test]
fn losses_of_a_twentieth_are_repaired_and_of_a_third_avoided() {
    for seed in 620..623 {
        let (mut world, _, bob, ssrc) = watched(seed);
        world.peers[bob].down.network.loss = 0.05;
        world.run(10 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
        world.peers[bob].down.network.loss = 0.30;
        world.run(12 * SECOND);
        assert!(layer(&mut world, bob, ssrc) < 2, "seed {seed}");
        world.assert_no_faults();
    }
}

#[test]
fn limits_of_the_api_hold() {
    let (mut world, _, bob, ssrc) = watched(630);
    for (min, max, expected) in [(0, 500_000, 1), (0, 120_000, 0), (0, 0, 2)] {
        let now = world.now;
        let set = SetTransportBitrates {
            id: "bob".into(),
            max_incoming_bps: None,
            max_outgoing_bps: Some(max),
            min_outgoing_bps: Some(min),
        };
        world.worker().apply_bitrates(&set, now).unwrap();
        world.run(3 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), expected, "max {max}");
    }
    // What is always assumed to pass outweighs objections.
    let now = world.now;
    let set = SetTransportBitrates {
        id: "bob".into(),
        min_outgoing_bps: Some(3_000_000),
        ..SetTransportBitrates::default()
    };
    world.worker().apply_bitrates(&set, now).unwrap();
    world.peers[bob].remb_bps = Some(3_000_000);
    world.run(2 * SECOND);
    world.peers[bob].remb_bps = Some(100_000);
    world.run(3 * SECOND);
    assert_eq!(layer(&mut world, bob, ssrc), 2);
}

#[test]
fn preferred_layers_hold_and_priority_decides() {
    let mut world = World::new(640);
    let (alice, carol, bob) = (world.join("alice"), world.join("carol"), world.join("bob"));
    world.publish_simulcast(alice, "a", 3);
    world.publish_simulcast(carol, "c", 3);
    let (a, c) = (world.consume(bob, "a"), world.consume(bob, "c"));
    let now = world.now;
    let set = SetTransportBitrates {
        id: "bob".into(),
        max_outgoing_bps: Some(1_600_000),
        ..SetTransportBitrates::default()
    };
    world.worker().apply_bitrates(&set, now).unwrap();
    for (first, second) in [("bob/a", "bob/c"), ("bob/c", "bob/a")] {
        for (id, priority) in [(first, 200), (second, 1)] {
            let now = world.now;
            let set = SetPriority { id: id.into(), priority };
            world.worker().apply_priority(&set, now).unwrap();
        }
        world.run(6 * SECOND);
        let got = (layer(&mut world, bob, a), layer(&mut world, bob, c));
        assert_eq!(got, if first == "bob/a" { (2, 1) } else { (1, 2) });
    }
    let layers = Layers { spatial: 0, temporal: 2 };
    let now = world.now;
    let set = SetPreferredLayers { id: "bob/c".into(), layers };
    world.worker().apply_preferred_layers(&set, now).unwrap();
    world.run(4 * SECOND);
    assert_eq!((layer(&mut world, bob, a), layer(&mut world, bob, c)), (2, 0));
}

#[test]
fn a_layer_that_stops_upstream_is_replaced_and_comes_back() {
    for seed in 650..653 {
        let (mut world, alice, bob, ssrc) = watched(seed);
        world.peers[alice].track("camera").sources[2].enabled = false;
        let stopped = world.now;
        world.run(2 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 1, "seed {seed}");
        let frames = world.peers[bob].inbox(ssrc).frames();
        let next = frames.iter().find(|frame| frame.at > stopped + SECOND / 10).unwrap();
        assert!(next.at < stopped + 3 * SECOND / 2, "seed {seed}: {}", next.at - stopped);
        world.peers[alice].track("camera").sources[2].enabled = true;
        world.run(3 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
        world.assert_no_faults();
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), [], "seed {seed}");
    }
}

/// Chromium's simulcast has temporal layers whether or not the parameters say so: a budget for the
/// lowest one must not let all of them through, and the highest layer costs what it sends.
#[test]
fn temporal_layers_that_nobody_announced_are_seen() {
    let mut world = World::new(660);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let mut track = world.simulcast("camera", 2);
    track.temporal_layers = 1;
    let command = world.produce(alice, &track);
    track.temporal_layers = 3;
    world.worker().apply_produce(&command).unwrap();
    world.peers[alice].tracks.push(track);
    let ssrc = world.consume_as(bob, "camera", Want::default()).0;
    world.run(4 * SECOND);
    // 400 kb/s above: with a limit of 250 the higher layer may not be chosen.
    let now = world.now;
    let limit = |bps| SetTransportBitrates {
        id: "bob".into(),
        max_outgoing_bps: Some(bps),
        ..SetTransportBitrates::default()
    };
    world.worker().apply_bitrates(&limit(250_000), now).unwrap();
    world.run(4 * SECOND);
    assert_eq!(layer(&mut world, bob, ssrc), 0);
    // Less than the lowest layer: only its base.
    let now = world.now;
    world.worker().apply_bitrates(&limit(50_000), now).unwrap();
    world.run(4 * SECOND);
    let since: Nanos = world.now - 2 * SECOND;
    let inbox = world.peers[bob].inbox(ssrc);
    let late = inbox.got.values().filter(|got| got.at > since);
    assert_eq!(late.map(|got| got.descriptor.temporal).max(), Some(0));
}

/// While nothing is sent the layers are said to be none.
#[test]
fn layers_are_reported_as_they_change() {
    let (mut world, _, _, _) = watched(670);
    let said = |world: &World| {
        let said = world.events.iter().rev().find_map(|(_, event)| match event {
            Event::ConsumerLayersChange { layers, .. } => Some(layers.map(|l| l.spatial)),
            _ => None,
        });
        said.flatten()
    };
    for by_producer in [false, true] {
        for paused in [true, false] {
            let now = world.now;
            if by_producer {
                world.worker().apply_pause_producer("camera", paused).unwrap();
            } else {
                world.worker().apply_pause_consumer("bob/camera", paused, now).unwrap();
            }
            world.run(2 * SECOND);
            assert_eq!(said(&world), (!paused).then_some(2));
        }
    }
}

/// When the frames came that a receiver could show, and of which layer they were.
fn shown(world: &mut World, bob: usize, ssrc: u32) -> Vec<(Nanos, usize)> {
    let tracks = world.peers.iter().flat_map(|p| &p.tracks);
    let sources: Vec<Vec<u32>> =
        tracks.map(|t| t.sources.iter().map(|s| s.ssrc).collect()).collect();
    let layer_of = |source| sources.iter().find_map(|s| s.iter().position(|ssrc| *ssrc == source));
    let got = world.peers[bob].inbox(ssrc).got.values();
    let mut shown: Vec<_> =
        got.map(|got| (got.at, layer_of(got.body.source).expect("a layer"))).collect();
    shown.sort_unstable();
    shown
}

/// Longest time without a packet between two moments.
fn longest_gap(shown: &[(Nanos, usize)], since: Nanos, until: Nanos) -> Nanos {
    let within = shown.iter().map(|(at, _)| *at).filter(|at| (since..until).contains(at));
    let moments: Vec<Nanos> = [since].into_iter().chain(within).chain([until]).collect();
    moments.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
}

/// Chromium drops its highest layer for most of a second at the start of a call, and when its
/// processor is too slow.
#[test]
fn a_layer_that_is_left_behind_is_replaced_soon() {
    for (seed, interval) in [(680, SECOND / 30), (681, SECOND / 30), (682, SECOND / 15)] {
        let (mut world, alice, bob, ssrc) = watched(seed);
        world.peers[alice].track("camera").interval = interval;
        world.run(2 * SECOND);
        world.peers[alice].track("camera").sources[2].enabled = false;
        let stopped = world.now;
        world.run(7 * SECOND / 10);
        let gap = longest_gap(&shown(&mut world, bob, ssrc), stopped, world.now);
        assert!(gap < 7 * SECOND / 20 + 2 * interval, "seed {seed}: {gap}");
        world.peers[alice].track("camera").sources[2].enabled = true;
        world.run(2 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
        world.assert_no_faults();
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), [], "seed {seed}");
    }
}

/// A shared screen of five frames a second, a track that rests, and a layer of few frames beside
/// one of many: nothing has been left behind.
#[test]
fn a_slow_layer_is_not_taken_for_a_silent_one() {
    for seed in 690..693 {
        let (mut world, alice, bob, ssrc) = watched(seed);
        let since = world.now;
        world.peers[alice].up.network.jitter = 60 * MS;
        world.peers[alice].track("camera").interval = SECOND / 5;
        world.run(5 * SECOND);
        for _ in 0..5 {
            world.peers[alice].track("camera").muted = true;
            world.run(7 * SECOND / 10);
            world.peers[alice].track("camera").muted = false;
            world.run(SECOND);
        }
        world.peers[alice].up.network.jitter = 0;
        world.peers[alice].track("camera").interval = SECOND / 30;
        for frame in 0..150 {
            world.peers[alice].track("camera").sources[2].enabled = frame % 6 == 0;
            world.run(SECOND / 30);
        }
        let shown = shown(&mut world, bob, ssrc);
        let others = shown.iter().filter(|(at, layer)| *at > since && *layer != 2).count();
        assert_eq!(others, 0, "seed {seed}");
    }
}

/// What a layer costs is not known at first, so nobody is sent up to come down again.
#[test]
fn who_joins_while_a_simulcast_begins_only_goes_up() {
    for seed in 700..710 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.run(SECOND);
        world.publish_simulcast(alice, "camera", 3);
        world.run((seed - 700) * SECOND / 10);
        let bob = world.join("bob");
        let ssrc = world.consume(bob, "camera");
        world.run(5 * SECOND);
        let mut layers: Vec<_> = shown(&mut world, bob, ssrc).iter().map(|(_, l)| *l).collect();
        layers.dedup();
        assert!(layers.is_sorted(), "seed {seed}: {layers:?}");
        assert_eq!(layers.last(), Some(&2), "seed {seed}");
        world.assert_no_faults();
    }
}

/// The first packet of the key frame that a receiver waits for is lost and comes again behind the
/// rest of its frame.
#[test]
fn a_switch_can_begin_at_a_key_frame_that_was_repaired() {
    for seed in 720..726 {
        let (mut world, alice, bob, ssrc) = watched(seed);
        let prefer = |world: &mut World, spatial| {
            let layers = Layers { spatial, temporal: 2 };
            let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
            world.worker().apply_preferred_layers(&set, now).unwrap();
        };
        prefer(&mut world, 0);
        world.run(2 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 0, "seed {seed}");
        prefer(&mut world, 2);
        let is_asked = |world: &World| world.peers[alice].tracks[0].sources[2].key_wanted;
        assert!(world.run_until(SECOND, is_asked), "seed {seed}");
        let source = &world.peers[alice].track("camera").sources[2];
        let (from, first, frame) = (source.ssrc, source.index as u16, source.frame);
        world.peers[alice].lose = vec![(from, first)];
        let since = world.now;
        world.run(2 * SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        let frames = inbox.frames();
        let start = frames.iter().find(|f| f.body.source == from && f.at > since).unwrap();
        assert!(start.descriptor.key_frame, "seed {seed}");
        assert_eq!(start.body.frame, frame, "seed {seed}: it waited for another key frame");
        let late: Vec<_> = frames.iter().map(|f| f.at).filter(|at| *at > since).collect();
        let gap = late.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max();
        assert!(gap.unwrap() < 200 * MS, "seed {seed}: {gap:?}");
    }
}

/// A browser probes for bandwidth with repeats of packets that are here: nobody is sent them, so
/// they are no part of what a layer costs.
#[test]
fn probing_does_not_count_as_what_a_layer_costs() {
    let (mut world, alice, bob, ssrc) = watched(730);
    let now = world.now;
    let set = SetTransportBitrates {
        id: "bob".into(),
        max_outgoing_bps: Some(1_700_000),
        ..SetTransportBitrates::default()
    };
    world.worker().apply_bitrates(&set, now).unwrap();
    for _ in 0..120 {
        let track = world.peers[alice].track("camera");
        let (source, newest) = (track.sources[2].ssrc, track.sources[2].index);
        for back in 1..20 {
            let repeat = world.peers[alice].track("camera").repeat(source, (newest - back) as u16);
            let Some(Ok(plain)) = repeat else { continue };
            let outgoing = world.peers[alice].seal_plain(&plain, world.now);
            world.send(alice, outgoing.bytes);
        }
        world.run(SECOND / 30);
        assert_eq!(layer(&mut world, bob, ssrc), 2);
    }
    let now = world.now;
    let stats = world.worker().producer_stats("camera", now).unwrap();
    assert!(stats.iter().all(|stats| stats.stream.bitrate < 1_400_000));
    // Nor is anything of it lost for anybody.
    assert!(stats.iter().any(|stats| stats.stream.packets_retransmitted > 2_000));
    assert!(stats.iter().all(|stats| stats.stream.packets_discarded == 0));
}

/// Nor is padding, behind payloads or alone: nobody is sent it.
#[test]
fn padding_does_not_count_as_what_a_layer_costs() {
    let mut world = World::new(731);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    let mut track = world.simulcast("camera", 3);
    for source in &mut track.sources {
        source.payload_len = 100;
    }
    // About 170 kb/s, and 480 with its padding.
    track.sources[2].padding = 255;
    world.publish(alice, track);
    let now = world.now;
    let set = SetTransportBitrates {
        id: "bob".into(),
        max_outgoing_bps: Some(250_000),
        ..SetTransportBitrates::default()
    };
    world.worker().apply_bitrates(&set, now).unwrap();
    let ssrc = world.consume(bob, "camera");
    world.run(6 * SECOND);
    for number in 0..90 {
        let track = world.peers[alice].track("camera");
        let source = &mut track.sources[2];
        let sent = source.sent.values().next_back().unwrap().0.clone();
        let (index, marker, bare) = (source.index, false, number % 2 == 0);
        let alone = Plain { index, marker, bare, padding: 224, payload: Vec::new(), ..sent };
        source.index += 1;
        let outgoing = world.peers[alice].seal_plain(&alone, world.now);
        assert_eq!(outgoing.bytes[0], if bare { 0xa0 } else { 0xb0 });
        world.send(alice, outgoing.bytes);
        world.run(SECOND / 30);
        assert_eq!(layer(&mut world, bob, ssrc), 2);
    }
    world.assert_no_faults();
    assert_eq!(world.peers[bob].inbox(ssrc).holes(), []);
    let now = world.now;
    let stats = world.worker().producer_stats("camera", now).unwrap();
    let top = &stats[2].stream;
    assert!((140_000..200_000).contains(&top.bitrate), "{}", top.bitrate);
    assert_eq!(top.packets_discarded, 0);
}

/// A publisher that may be silent (`dtx`): a layer that rests for some seconds has not been left.
#[test]
fn a_layer_with_dtx_may_rest() {
    for (dtx, others_expected) in [(true, false), (false, true)] {
        let mut world = World::new(740);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let mut track = world.simulcast("screen", 3);
        track.dtx = dtx;
        world.publish(alice, track);
        let ssrc = world.consume(bob, "screen");
        world.run(6 * SECOND);
        let since = world.now;
        world.peers[alice].track("screen").sources[2].enabled = false;
        world.run(3 * SECOND);
        world.peers[alice].track("screen").sources[2].enabled = true;
        world.run(SECOND);
        let shown = shown(&mut world, bob, ssrc);
        let others = shown.iter().any(|(at, layer)| *at > since + 100 * MS && *layer != 2);
        assert_eq!(others, others_expected, "dtx {dtx}");
        world.peers[alice].track("screen").muted = true;
        world.run(10 * SECOND);
        let now = world.now;
        let stats = world.worker().producer_stats("screen", now).unwrap();
        assert_eq!(stats.iter().any(|stats| stats.stream.score > 0), dtx);
    }
}
