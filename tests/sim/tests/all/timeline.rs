//! The receiver sees one continuous stream through switches, pauses and dropped temporal layers.

use ironcast_core::{
    MS, Nanos, SECOND,
    wire::{Codec, extension::ExtensionKind},
};
use ironcast_protocol::{command::SetPreferredLayers, media::Layers};
use ironcast_sim::{World, inbox::Frame};

fn prefer(world: &mut World, consumer: &str, spatial: u8, temporal: u8) {
    let layers = Layers { spatial, temporal };
    let now = world.now;
    let set = SetPreferredLayers { id: consumer.into(), layers };
    world.worker().apply_preferred_layers(&set, now).unwrap();
}

/// Numbers without holes, picture ids one by one, TL0PICIDX with the base layer, time that runs as
/// the capture did.
fn assert_continuous(frames: &[Frame], clock_rate: u32, tolerance: Nanos, seed: u64) {
    for pair in frames.windows(2) {
        let [a, b] = pair else { unreachable!() };
        assert_eq!(b.index, a.index + u64::from(a.packets), "seed {seed}: {a:?} {b:?}");
        let id = (a.descriptor.picture_id + 1) & 0x7fff;
        assert_eq!(b.descriptor.picture_id, id, "seed {seed}: {a:?} {b:?}");
        let tl0 = a.descriptor.tl0.wrapping_add(u8::from(b.descriptor.temporal == 0));
        assert_eq!(b.descriptor.tl0, tl0, "seed {seed}: {a:?} {b:?}");
        let ahead = b.timestamp.wrapping_sub(a.timestamp);
        assert!(ahead > 0 && ahead < 1 << 31, "seed {seed}: {a:?} {b:?}");
        if a.body.source != b.body.source {
            assert!(b.descriptor.key_frame, "seed {seed}: {a:?} {b:?}");
        }
    }
    let first = frames[0];
    for frame in frames {
        let captured = frame.body.captured - first.body.captured;
        let said = u64::from(frame.timestamp.wrapping_sub(first.timestamp)) * SECOND
            / u64::from(clock_rate);
        assert!(captured.abs_diff(said) <= tolerance, "seed {seed}: {captured} {said} {frame:?}");
    }
}

#[test]
fn low_high_low_is_one_stream() {
    for seed in 200..205 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 3);
        let ssrc = world.consume(bob, "camera");
        prefer(&mut world, "bob/camera", 0, 2);
        world.run(3 * SECOND);
        for layer in [2, 0, 1, 2, 0] {
            prefer(&mut world, "bob/camera", layer, 2);
            world.run(2 * SECOND);
        }
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        let frames = inbox.frames();
        assert_continuous(&frames, 90_000, 20 * MS, seed);
        let switches = frames.windows(2).filter(|w| w[0].body.source != w[1].body.source).count();
        assert!(switches >= 5, "seed {seed}: {switches}");
        // The old layer ran until the new one could take over.
        for pair in frames.windows(2) {
            let gap = pair[1].body.captured - pair[0].body.captured;
            assert!(gap <= SECOND / 30 + MS, "seed {seed}: {gap} {pair:?}");
        }
    }
}

#[test]
fn pauses_at_both_ends_leave_no_hole() {
    for seed in 210..213 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 2);
        world.publish_audio(alice, "mic");
        let (video, audio) = (world.consume(bob, "camera"), world.consume(bob, "mic"));
        world.run(3 * SECOND);
        for id in ["camera", "mic"] {
            for (by_producer, span) in [(true, 700), (false, 900), (true, 2_500)] {
                for paused in [true, false] {
                    let now = world.now;
                    let result = if by_producer {
                        world.worker().apply_pause_producer(id, paused)
                    } else {
                        world.worker().apply_pause_consumer(&format!("bob/{id}"), paused, now)
                    };
                    result.unwrap();
                    world.run(span * MS);
                }
            }
        }
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(video);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        assert_continuous(&inbox.frames(), 90_000, 20 * MS, seed);
        let mic = world.peers[bob].inbox(audio);
        assert_eq!(mic.holes(), [], "seed {seed}");
        let got: Vec<_> = mic.got.values().collect();
        let paused = got.windows(2).filter(|w| w[1].body.frame > w[0].body.frame + 1).count();
        assert!(paused >= 3, "seed {seed}: {paused}");
        for pair in got.windows(2) {
            let captured = (pair[1].body.captured - pair[0].body.captured) * 48 / 1_000_000;
            let said = u64::from(pair[1].timestamp.wrapping_sub(pair[0].timestamp));
            assert!(captured.abs_diff(said) <= 1, "seed {seed}: {pair:?}");
        }
    }
}

#[test]
fn dropped_temporal_layers_close_up() {
    for seed in 220..223 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 2);
        let ssrc = world.consume(bob, "camera");
        prefer(&mut world, "bob/camera", 1, 0);
        world.run(5 * SECOND);
        let settled = world.now - 2 * SECOND;
        let frames = world.peers[bob].inbox(ssrc).frames();
        let late: Vec<_> = frames.iter().filter(|frame| frame.at > settled).collect();
        assert!(late.iter().all(|frame| frame.descriptor.temporal == 0), "seed {seed}");
        assert!((12..=17).contains(&late.len()), "seed {seed}: {}", late.len());
        for temporal in [1, 2, 0, 2] {
            prefer(&mut world, "bob/camera", 1, temporal);
            world.run(2 * SECOND);
        }
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        let frames = inbox.frames();
        assert_continuous(&frames, 90_000, 20 * MS, seed);
        // Going up waits for a frame that refers to nothing that was left out: a frame of layer 2
        // that refers to layer 1 needs the one before it.
        for (at, frame) in frames.iter().enumerate() {
            let layer = frame.descriptor.temporal;
            if layer == 2 && !frame.descriptor.layer_sync {
                let before = frames[at - 1];
                let next = before.body.source == frame.body.source
                    && before.body.frame + 1 == frame.body.frame;
                assert!(
                    next && before.descriptor.temporal == 1,
                    "seed {seed}: {before:?} {frame:?}"
                );
            }
        }
        let highest = frames.iter().rev().take(20).map(|f| f.descriptor.temporal).max();
        assert_eq!(highest, Some(2), "seed {seed}");
    }
}

#[test]
fn numbers_and_times_roll_over() {
    for seed in 230..233 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let track = world.publish_video(alice, "camera", Codec::Vp8);
        let source = &mut track.sources[0];
        source.index = 65_500 - 40 * (seed - 230);
        source.picture_id = 0x7ff0;
        // The RTP clock wraps two seconds from now.
        source.timestamp_offset = 0;
        source.timestamp_offset = 0u32.wrapping_sub(source.timestamp(12 * SECOND, 90_000));
        source.packets_per_frame = 40;
        source.payload_len = 200;
        let ssrc = world.consume(bob, "camera");
        world.peers[bob].down.network.loss = 0.01;
        // 1,200 packets a second: the sent side, which begins below 2^15, wraps as well.
        world.run(60 * SECOND);
        world.peers[alice].track("camera").muted = true;
        world.peers[bob].down.network.loss = 0.0;
        world.run(SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        assert_eq!(inbox.holes(), [], "seed {seed}");
        assert!(inbox.index.newest().unwrap().0 > 66_000, "seed {seed}");
        assert_continuous(&inbox.frames(), 90_000, MS, seed);
    }
}

/// H264 says nothing of its layers; its publisher's dependency descriptors do, and stay here: a receiver
/// takes none, and would find frame numbers missing in them.
#[test]
fn h264_has_the_layers_of_its_dependency_descriptors() {
    for (seed, loss) in (260..266).zip([0.0, 0.01].repeat(3)) {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let mut track = world.simulcast("camera", 2);
        (track.codec, track.describes_dependencies) = (Codec::H264, true);
        track.extensions.push((7, ExtensionKind::DependencyDescriptor));
        world.publish(alice, track);
        let ssrc = world.consume(bob, "camera");
        world.peers[alice].up.network.loss = loss;
        world.run(5 * SECOND);
        // Every second frame is of layer 2, every fourth of layer 1.
        for (temporal, expected) in [(0, 30), (2, 120), (1, 60), (2, 120)] {
            prefer(&mut world, "bob/camera", 1, temporal);
            world.run(6 * SECOND);
            let settled = world.now - 4 * SECOND;
            let frames = world.peers[bob].inbox(ssrc).frames();
            let late: Vec<_> = frames.iter().filter(|frame| frame.at > settled).collect();
            let highest = late.iter().map(|frame| frame.descriptor.temporal).max();
            assert_eq!(highest, Some(temporal), "seed {seed}");
            let few = expected - 5 - (100.0 * loss) as usize * 5;
            assert!((few..=expected + 5).contains(&late.len()), "seed {seed}: {}", late.len());
        }
        let now = world.now;
        let stats = world.worker().producer_stats("camera", now).unwrap();
        for layer in ["0.0", "0.1", "0.2"] {
            assert!(stats[1].bitrate_by_layer[layer] > 0, "{:?}", stats[1].bitrate_by_layer);
        }
        world.peers[alice].track("camera").muted = true;
        world.run(2 * SECOND);
        world.assert_no_faults();
        let inbox = world.peers[bob].inbox(ssrc);
        if loss == 0.0 {
            assert_eq!(inbox.holes(), [], "seed {seed}");
            for pair in inbox.frames().windows(2) {
                let next = pair[0].index + u64::from(pair[0].packets);
                assert_eq!(pair[1].index, next, "seed {seed}: {pair:?}");
            }
            // Up at a frame of the base layer: no key frame was asked for.
            let asked = world.peers[alice].track("camera").sources[1].asked.len();
            assert!(asked <= 2, "seed {seed}: {asked}");
        }
    }
}

/// A frame of layer 1 that refers to the one before it is no place to begin with layer 1.
#[test]
fn temporal_layers_are_entered_one_by_one() {
    for seed in 240..252 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let mut track = world.simulcast("camera", 2);
        track.temporal_layers = 4;
        world.publish(alice, track);
        let ssrc = world.consume(bob, "camera");
        world.run(4 * SECOND);
        prefer(&mut world, "bob/camera", 1, 0);
        world.run(SECOND + (seed - 240) * 33 * MS);
        prefer(&mut world, "bob/camera", 1, 2);
        world.run(2 * SECOND);
        let frames = world.peers[bob].inbox(ssrc).frames();
        let here: std::collections::BTreeSet<_> =
            frames.iter().map(|f| (f.body.source, f.body.frame)).collect();
        let orphan = frames.iter().find(|frame| {
            let d = frame.descriptor;
            let before = (frame.body.source, frame.body.frame.wrapping_sub(4));
            d.temporal == 1 && !d.layer_sync && !here.contains(&before)
        });
        assert_eq!(orphan.map(|frame| frame.body), None, "seed {seed}");
        let highest = frames.iter().rev().take(20).map(|f| f.descriptor.temporal).max();
        assert_eq!(highest, Some(2), "seed {seed}");
    }
}
