//! Everything that is published reaches everyone who consumes it: complete, in order, unchanged.

use std::collections::BTreeMap;

use ironcast_core::{
    MS, SECOND,
    wire::{Codec, extension::ExtensionKind},
};
use ironcast_protocol::media::Layers;
use ironcast_sim::{
    Network, World, media, parameters,
    track::{Plain, Source, Track},
    world::Want,
};

/// Longest value of a one-byte extension (RFC 8285 section 4.2).
const ONE_BYTE_MAX: usize = 16;

#[test]
fn a_video_stream_arrives_complete_in_order_and_unchanged() {
    for (seed, codec) in [(1, Codec::Vp8), (2, Codec::H264), (3, Codec::H265)] {
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

#[test]
fn each_layer_of_a_simulcast_arrives_complete() {
    for seed in 10..13 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.publish_simulcast(alice, "camera", 3);
        let mut receivers = Vec::new();
        for layer in 0..3 {
            let bob = world.join(&format!("bob{layer}"));
            let preferred = Some(Layers { spatial: layer, temporal: 2 });
            let want = Want { preferred, ..Want::default() };
            receivers.push((bob, world.consume_as(bob, "camera", want).0));
        }
        world.run(8 * SECOND);
        world.assert_no_faults();
        for (layer, &(bob, ssrc)) in receivers.iter().enumerate() {
            let source = world.peers[alice].track("camera").sources[layer].ssrc;
            let inbox = world.peers[bob].inbox(ssrc);
            assert_eq!(inbox.holes(), [], "seed {seed} layer {layer}");
            let last = inbox.got.values().next_back().unwrap().body;
            assert_eq!(last.source, source, "seed {seed} layer {layer}");
            // In the first seconds the budget rises to what the layer takes.
            let settled = world.now - 5 * SECOND;
            let frames = inbox.frames();
            let of_layer: Vec<_> = frames.iter().filter(|f| f.at > settled).collect();
            assert!(of_layer.iter().all(|frame| frame.body.source == source));
            let numbers: Vec<_> = of_layer.iter().map(|f| f.body.frame).collect();
            let (first, last) = (numbers[0], *numbers.last().unwrap());
            assert_eq!(numbers, (first..=last).collect::<Vec<_>>(), "seed {seed} layer {layer}");
            assert!(of_layer.iter().all(|frame| frame.marker));
            assert!(of_layer.len() > 120, "seed {seed} layer {layer}: {}", of_layer.len());
        }
    }
}

#[test]
fn header_extensions_have_the_receivers_ids() {
    let mut world = World::new(20);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    world.publish_video(alice, "camera", Codec::Vp8).orientation = Some(1);
    let (audio, video) = (world.consume(bob, "mic"), world.consume(bob, "camera"));
    world.run(3 * SECOND);
    world.assert_no_faults();
    let mic = world.peers[bob].inbox(audio);
    assert!(mic.got.len() > 130, "{}", mic.got.len());
    for got in mic.got.values() {
        assert_eq!(got.mid.as_deref(), Some(format!("m{}", audio % 1_000).as_str()));
        assert_eq!(got.audio_level, Some((got.body.frame % 127) as u8 | 0x80));
        assert!(got.send_time.is_some() && got.captured_ntp.is_some());
    }
    for got in world.peers[bob].inbox(video).got.values() {
        assert_eq!(got.mid.as_deref(), Some(format!("m{}", video % 1_000).as_str()));
        assert_eq!((got.audio_level, got.orientation), (None, Some(1)));
        let ntp = world.peers[alice].ntp(got.body.captured);
        assert_eq!(got.captured_ntp, (got.body.packet + 1 == got.body.packets).then_some(ntp));
    }
    let turns = world.events.iter().filter(|(_, event)| {
        matches!(event, ironcast_protocol::Event::VideoOrientationChange { rotation: 90, .. })
    });
    assert_eq!(turns.count(), 1);
}

/// A dependency descriptor that brings its templates is longer than a one-byte extension can be, and ids
/// above 14 are none of theirs: what goes beside them arrives as well, also when it is sent again.
#[test]
fn extensions_of_any_length_and_id_pass_from_end_to_end() {
    use ExtensionKind::{AbsCaptureTime, AbsSendTime, DependencyDescriptor, Mid, PlayoutDelay};
    for (seed, ids, rtx) in [
        (22, [4, 12, 13, 14], true),
        (23, [4, 12, 13, 200], true),
        (24, [20, 5, 30, 3], false),
        (25, [4, 12, 13, 14], false),
    ] {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        let bob = world.join_over("bob", Network::default(), Network::lossy(0.05));
        let mut track = Track::new("camera", Codec::H264, Some("v"), world.now);
        (track.describes_dependencies, track.temporal_layers) = (true, 3);
        track.playout_delay = Some([0x01, 0x20, 0x40]);
        track.extensions.extend([(14, PlayoutDelay), (77, DependencyDescriptor)]);
        let mut source = Source::new(world.ssrc(), None, 5_000);
        source.rtx_ssrc = Some(world.ssrc());
        track.sources.push(source);
        world.publish(alice, track);
        let kinds = [AbsSendTime, AbsCaptureTime, PlayoutDelay, DependencyDescriptor];
        let extensions = [(1, Mid)].into_iter().chain(ids.into_iter().zip(kinds)).collect();
        let want = Want { extensions, rtx, ..Want::default() };
        let ssrc = world.consume_as(bob, "camera", want).0;
        world.run(5 * SECOND);
        world.assert_no_faults();
        let sent = &world.peers[alice].track("camera").sources[0].sent;
        let of = |plain: &Plain| media::read(Codec::H264, &plain.payload).unwrap().0;
        let sent: BTreeMap<_, _> =
            sent.values().map(|(plain, _)| (of(plain), plain.clone())).collect();
        let inbox = world.peers[bob].inbox(ssrc);
        assert!(inbox.got.len() > 200, "seed {seed}: {}", inbox.got.len());
        for got in inbox.got.values() {
            let plain = &sent[&got.body];
            assert_eq!(got.dependency, plain.dependency, "seed {seed}");
            assert_eq!(got.playout_delay.as_deref(), Some(&[0x01, 0x20, 0x40][..]), "seed {seed}");
            assert_eq!(got.captured_ntp, plain.captured_ntp, "seed {seed}");
            assert!(got.mid.is_some() && got.send_time.is_some(), "seed {seed}");
        }
        let longest = inbox.got.values().filter_map(|got| Some(got.dependency.as_ref()?.len()));
        assert!(longest.max() > Some(ONE_BYTE_MAX), "seed {seed}");
    }
}

#[test]
fn packets_of_a_frame_that_differ_by_a_byte_leave_in_one_size() {
    let mut world = World::new(21);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8).sources[0].payload_len = 1_001;
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    world.assert_no_faults();
    let inbox = world.peers[bob].inbox(ssrc);
    assert!(inbox.got.values().all(|got| got.padding == 0));
    assert_eq!(inbox.clock_rate(), parameters::clock_rate(Codec::Vp8));
}
