//! Who asks for key frames, and how often a publisher hears of it.

use ironcast_core::{MS, Nanos, SECOND, wire::Codec};
use ironcast_protocol::{command::SetPreferredLayers, media::Layers};
use ironcast_sim::{
    Network, World,
    track::{Source, Track},
};

#[test]
fn many_joiners_make_few_requests_and_all_have_a_picture_soon() {
    for seed in 300..303 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.publish_video(alice, "camera", Codec::Vp8);
        let peers: Vec<_> = (0..20).map(|i| world.join(&format!("bob{i}"))).collect();
        world.run(2 * SECOND);
        let asked_at = world.now;
        let streams: Vec<_> =
            peers.iter().map(|&bob| (bob, world.consume(bob, "camera"))).collect();
        world.run(2 * SECOND);
        for (bob, ssrc) in streams {
            let at = world.peers[bob].inbox(ssrc).first_picture_at().unwrap();
            // To the publisher, its next frame, back, and to the receiver.
            assert!(at - asked_at < 120 * MS, "seed {seed}: {}", (at - asked_at) / MS);
        }
        let asked = &world.peers[alice].track("camera").sources[0].asked;
        let asked = asked.iter().filter(|(at, _)| *at > asked_at).count();
        assert_eq!(asked, 1, "seed {seed}");
    }
}

#[test]
fn a_request_or_key_frame_that_is_lost_is_asked_for_again() {
    for seed in 310..314 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        world.run(2 * SECOND);
        world.peers[alice].down.network.loss = 1.0;
        let ssrc = world.consume(bob, "camera");
        world.run(400 * MS);
        assert_eq!(world.peers[bob].inbox(ssrc).first_picture_at(), None, "seed {seed}");
        world.peers[alice].down.network.loss = 0.0;
        world.run(SECOND);
        assert!(world.peers[bob].inbox(ssrc).first_picture_at().is_some(), "seed {seed}");
    }
}

#[test]
fn wishes_of_one_receiver_are_throttled() {
    for (seed, fir) in [(320, false), (321, true)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        let before = world.peers[alice].track("camera").sources[0].asked.len();
        for i in 0..100u8 {
            let bytes = world.peers[bob].seal_rtcp(|w| {
                if fir { w.full_intra(5, &[(ssrc, i)]) } else { w.picture_loss(5, ssrc) }
            });
            world.send(bob, bytes);
            world.run(20 * MS);
        }
        let asked = world.peers[alice].track("camera").sources[0].asked.len() - before;
        assert!((4..=8).contains(&asked), "seed {seed}: {asked}");
        let now = world.now;
        let stats = world.worker().consumer_stats("bob/camera", now).unwrap();
        let counted = if fir { stats.outbound.fir_count } else { stats.outbound.pli_count };
        assert_eq!(counted, 100, "seed {seed}");
    }
}

/// For 30 s one receiver asks without end for a key frame; from 10 s on another asks each 5 s, at other
/// times between two of the publisher's key frames. Gives how long each of these waited until the publisher
/// was asked.
pub(crate) fn waits_beside(
    world: &mut World,
    mallory: (usize, u32),
    bob: (usize, u32),
    publisher: usize,
) -> Vec<Nanos> {
    let ask = |world: &mut World, (peer, ssrc): (usize, u32)| {
        let bytes = world.peers[peer].seal_rtcp(|w| w.picture_loss(5, ssrc));
        world.send(peer, bytes);
    };
    let mut wishes = Vec::new();
    for step in 0..1_500 {
        ask(world, mallory);
        if step >= 500 && step % 250 == (step / 250) * 13 {
            ask(world, bob);
            wishes.push(world.now);
        }
        world.run(20 * MS);
    }
    assert_eq!(wishes.len(), 4);
    let asked = &world.peers[publisher].track("camera").sources[0].asked;
    let wait = |wish| asked.iter().find(|(at, _)| *at > wish).unwrap().0 - wish;
    wishes.into_iter().map(wait).collect()
}

/// Who asks without end makes his own wishes wait, by up to 2 s, and not those of the others.
#[test]
fn a_receiver_that_asks_without_end_does_not_keep_another_waiting() {
    for seed in 325..328 {
        let mut world = World::new(seed);
        let (alice, mallory, bob) = (world.join("alice"), world.join("mallory"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        let [theirs, his] = [mallory, bob].map(|peer| (peer, world.consume(peer, "camera")));
        let waits = waits_beside(&mut world, theirs, his, alice);
        assert!(waits.iter().all(|wait| *wait < 720 * MS), "seed {seed}: {waits:?}");
        let asked = &world.peers[alice].track("camera").sources[0].asked;
        let late = asked.windows(2).filter(|pair| pair[1].0 - pair[0].0 > 1_900 * MS).count();
        assert!(late > 0, "seed {seed}: nothing grew");
        world.assert_no_faults();
    }
}

#[test]
fn one_wish_under_heavy_loss_still_gives_a_picture() {
    for seed in 330..336 {
        let mut world = World::new(seed);
        let alice = world.join_over("alice", Network::lossy(0.1), Network::lossy(0.1));
        let bob = world.join_over("bob", Network::lossy(0.1), Network::lossy(0.1));
        world.publish_video(alice, "camera", Codec::H264);
        world.run(2 * SECOND);
        let joined = world.now;
        let ssrc = world.consume(bob, "camera");
        world.run(3 * SECOND);
        world.assert_no_faults();
        let at = world.peers[bob].inbox(ssrc).first_picture_at().unwrap_or(u64::MAX);
        assert!(at < joined + 2 * SECOND, "seed {seed}: {}", at.saturating_sub(joined) / MS);
    }
}

fn asked(world: &mut World, peer: usize, track: &str) -> usize {
    world.peers[peer].track(track).sources.iter().map(|source| source.asked.len()).sum()
}

/// A browser sends a frame a second of a camera that is muted, and some a little less often.
#[test]
fn a_muted_camera_is_not_asked_for_a_key_frame_with_each_frame() {
    for (seed, interval) in [(340, 990), (341, 1_050), (342, 1_500), (343, 3_333)] {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 3);
        let ssrc = world.consume(bob, "camera");
        world.run(6 * SECOND);
        let before = asked(&mut world, alice, "camera");
        world.peers[alice].track("camera").interval = interval * MS;
        world.run(30 * SECOND);
        assert_eq!(asked(&mut world, alice, "camera") - before, 0, "every {interval} ms");
        // It is unmuted: still the highest layer, at once.
        world.peers[alice].track("camera").interval = SECOND / 30;
        world.run(5 * SECOND);
        assert_eq!(asked(&mut world, alice, "camera") - before, 0, "every {interval} ms");
        let top = world.peers[alice].track("camera").sources[2].ssrc;
        let newest = world.peers[bob].inbox(ssrc).got.values().next_back().unwrap();
        assert_eq!(newest.body.source, top, "every {interval} ms");
        world.assert_no_faults();
    }
}

/// A shared screen that rests sends one frame for a new viewer: one request is enough.
#[test]
fn a_join_to_a_resting_screen_asks_once() {
    for seed in 350..353 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "screen", Codec::Vp8);
        world.run(2 * SECOND);
        world.peers[alice].track("screen").muted = true;
        world.run(20 * SECOND);
        let before = asked(&mut world, alice, "screen");
        let ssrc = world.consume(bob, "screen");
        let is_asked = |world: &World| world.peers[alice].tracks[0].sources[0].key_wanted;
        assert!(world.run_until(SECOND, is_asked), "seed {seed}");
        world.peers[alice].track("screen").muted = false;
        let is_sent = |world: &World| !world.peers[alice].tracks[0].sources[0].key_wanted;
        assert!(world.run_until(SECOND, is_sent), "seed {seed}");
        world.peers[alice].track("screen").muted = true;
        world.run(5 * SECOND);
        assert!(world.peers[bob].inbox(ssrc).first_picture_at().is_some(), "seed {seed}");
        assert_eq!(asked(&mut world, alice, "screen") - before, 1, "seed {seed}");
    }
}

#[test]
fn a_request_ends_with_the_one_it_was_for() {
    let mut world = World::new(360);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "screen", Codec::Vp8);
    world.run(2 * SECOND);
    world.peers[alice].track("screen").muted = true;
    world.run(SECOND);
    for leaves in [true, false] {
        world.consume(bob, "screen");
        world.run(100 * MS);
        let before = asked(&mut world, alice, "screen");
        assert!(before > 0);
        let now = world.now;
        if leaves {
            world.worker().apply_close_consumer("bob/screen").unwrap();
        } else {
            world.worker().apply_pause_consumer("bob/screen", true, now).unwrap();
        }
        // What left a moment ago may still be on its way.
        world.run(100 * MS);
        let before = asked(&mut world, alice, "screen").max(before);
        world.run(12 * SECOND);
        assert_eq!(asked(&mut world, alice, "screen"), before, "leaves: {leaves}");
    }
}

/// A wish that comes too soon after another is passed on a little later.
#[test]
fn a_second_wish_waits_and_is_not_forgotten() {
    let mut world = World::new(370);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(3 * SECOND);
    let before = asked(&mut world, alice, "camera");
    for number in [1, 2, 2, 2] {
        let bytes = world.peers[bob].seal_rtcp(|w| w.full_intra(5, &[(ssrc, number)]));
        world.send(bob, bytes);
        world.run(200 * MS);
    }
    world.run(SECOND);
    assert_eq!(asked(&mut world, alice, "camera") - before, 2);
}

/// An IDR slice whose parameter sets were lost is no place to begin: nobody could decode it.
#[test]
fn h264_and_h265_begin_at_their_parameter_sets() {
    for (seed, codec) in (380..384).flat_map(|seed| [(seed, Codec::H264), (seed, Codec::H265)]) {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", codec);
        world.run(SECOND);
        let ssrc = world.consume(bob, "camera");
        let is_asked = |world: &World| world.peers[alice].tracks[0].sources[0].key_wanted;
        assert!(world.run_until(SECOND, is_asked), "seed {seed}");
        let source = &world.peers[alice].track("camera").sources[0];
        world.peers[alice].lose = vec![(source.ssrc, source.index as u16)];
        // Whether it comes again or not.
        world.peers[alice].down.network.loss = f64::from((seed % 2) as u32);
        world.run(SECOND / 4);
        world.peers[alice].down.network.loss = 0.0;
        world.run(SECOND);
        let inbox = world.peers[bob].inbox(ssrc);
        let first = inbox.got.values().next().unwrap();
        assert_eq!(first.body.packet, 0, "seed {seed}");
        assert!(first.descriptor.key_frame, "seed {seed}");
        assert_eq!(inbox.holes(), [], "seed {seed}");
        world.assert_no_faults();
    }
}

/// Temporal layers that were left out are taken up again: at a frame of theirs that needs none of
/// them, behind a frame that says so (VP9), or else at a key frame, which has to be asked for.
#[test]
fn temporal_layers_come_back_whatever_the_stream_shows() {
    for (codec, pattern, asks) in
        [(Codec::Vp8, 3, 0), (Codec::Vp9, 6, 0), (Codec::Vp8, 5, 1), (Codec::H265, 3, 0)]
    {
        let mut world = World::new(390);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let mut track = Track::new("camera", codec, Some("v"), world.now);
        track.sources.push(Source::new(world.ssrc(), None, 1_000));
        track.temporal_layers = pattern;
        world.publish(alice, track);
        let ssrc = world.consume(bob, "camera");
        world.run(SECOND);
        for (temporal, expected) in [(0, 0), (2, asks)] {
            let before = asked(&mut world, alice, "camera");
            let layers = Layers { spatial: 0, temporal };
            let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
            world.worker().apply_preferred_layers(&set, now).unwrap();
            world.run(2 * SECOND);
            let since = world.now;
            world.run(SECOND);
            let inbox = world.peers[bob].inbox(ssrc);
            let got = inbox.got.values().filter(|got| got.at > since);
            let highest = got.map(|got| got.descriptor.temporal).max();
            assert_eq!(highest, Some(temporal), "{codec:?} {pattern}");
            let requests = asked(&mut world, alice, "camera") - before;
            assert_eq!(requests, expected, "{codec:?} {pattern}");
        }
        world.assert_no_faults();
    }
}

fn ask(world: &mut World, peer: usize, ssrc: u32, fir: Option<u8>) {
    let bytes = world.peers[peer].seal_rtcp(|w| match fir {
        Some(number) => w.full_intra(5, &[(ssrc, number)]),
        None => w.picture_loss(5, ssrc),
    });
    world.send(peer, bytes);
    world.run(3 * SECOND);
}

/// A key frame costs everybody: who gets nothing has none made.
#[test]
fn a_paused_receiver_asks_for_nothing() {
    let mut world = World::new(400);
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let bobs = world.consume(bob, "camera");
    let carols = world.consume(carol, "camera");
    world.run(3 * SECOND);
    let now = world.now;
    world.worker().apply_pause_consumer("bob/camera", true, now).unwrap();
    world.run(3 * SECOND);
    let before = asked(&mut world, alice, "camera");
    for fir in [None, Some(1), None, Some(2)] {
        ask(&mut world, bob, bobs, fir);
    }
    assert_eq!(asked(&mut world, alice, "camera"), before);
    ask(&mut world, carol, carols, None);
    assert_eq!(asked(&mut world, alice, "camera"), before + 1);
}

/// A FIR is repeated with its number (RFC 5104 section 4.3.1.2): what led to nothing when it was said
/// first leads to something when it can.
#[test]
fn a_fir_that_led_to_nothing_is_heard_when_it_is_repeated() {
    for case in ["before the first stream", "paused", "producer paused"] {
        let mut world = World::new(401);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_simulcast(alice, "camera", 2);
        let ssrc = world.consume(bob, "camera");
        let pause = |world: &mut World, paused| {
            let now = world.now;
            let worker = world.worker();
            match case {
                "paused" => worker.apply_pause_consumer("bob/camera", paused, now).map(drop),
                "producer paused" => worker.apply_pause_producer("camera", paused).map(drop),
                _ => return,
            }
            .unwrap();
        };
        let muted = case == "before the first stream";
        world.peers[alice].track("camera").muted = muted;
        world.run(3 * SECOND);
        pause(&mut world, true);
        ask(&mut world, bob, ssrc, Some(7));
        pause(&mut world, false);
        world.peers[alice].track("camera").muted = false;
        world.run(5 * SECOND);
        assert!(world.peers[bob].inbox(ssrc).frames().len() > 60, "{case}");
        let before = asked(&mut world, alice, "camera");
        for _ in 0..2 {
            ask(&mut world, bob, ssrc, Some(7));
            assert_eq!(asked(&mut world, alice, "camera"), before + 1, "{case}");
        }
    }
}

/// A stream that so much is missing of that nobody asks for it any more begins again at a key frame, if
/// anybody watches it.
#[test]
fn a_gap_asks_for_a_key_frame_only_where_somebody_watches() {
    let mut world = World::new(402);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_simulcast(alice, "camera", 3);
    world.consume(bob, "camera");
    world.run(6 * SECOND);
    let layers = Layers { spatial: 0, temporal: 2 };
    let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
    world.worker().apply_preferred_layers(&set, now).unwrap();
    world.run(5 * SECOND);
    for (stream, expected) in [(2, 0), (0, 1)] {
        let source = &mut world.peers[alice].track("camera").sources[stream];
        let before = source.asked.len();
        source.index += 2_000;
        world.run(2 * SECOND);
        let asked = world.peers[alice].track("camera").sources[stream].asked.len() - before;
        assert_eq!(asked, expected, "stream {stream}");
    }
    assert!(world.peers[alice].track("camera").sources[2].enabled);
}
