//! A room over two hosts: a pipe carries every stream of a track that is wanted beyond it, repairs what the
//! trunk loses, and leaves all choices to the far side.

use ironcast_core::{
    Discard, MS, SECOND,
    wire::{Codec, extension::ExtensionKind},
};
use ironcast_protocol::{
    ErrorCode,
    command::{Consume, SetPreferredLayers},
    media::{Layers, RtpEncoding, RtpType},
};
use ironcast_sim::{
    Network, World,
    world::{
        Want,
        trunk::{TRUNK, end},
    },
};

/// A publisher of three layers on the first host, and the pipe of its camera.
fn piped(seed: u64, network: Network, (sealed, rtx): (bool, bool)) -> (World, usize) {
    let mut world = World::two_hosts(seed, network, sealed);
    let alice = world.join("alice");
    world.publish_simulcast(alice, "camera", 3);
    world.pipe_as("camera", rtx);
    world.run(2 * SECOND);
    (world, alice)
}

fn join_far(world: &mut World, name: &str) -> usize {
    world.join_worker(1, name, Network::default(), Network::default())
}

fn want_layer(spatial: u8) -> Want {
    Want { preferred: Some(Layers { spatial, temporal: 2 }), ..Want::default() }
}

/// Index of the layer of the newest packet.
fn layer(world: &mut World, peer: usize, ssrc: u32) -> usize {
    let source = world.peers[peer].inbox(ssrc).got.values().next_back().unwrap().body.source;
    let sources = &world.peers[0].track("camera").sources;
    sources.iter().position(|one| one.ssrc == source).unwrap()
}

fn asked(world: &mut World) -> Vec<usize> {
    world.peers[0].track("camera").sources.iter().map(|source| source.asked.len()).collect()
}

/// When the frames that a receiver has were captured, each layer's own ones.
fn captured(world: &mut World, peer: usize, ssrc: u32) -> Vec<u64> {
    world.peers[peer].inbox(ssrc).frames().iter().map(|frame| frame.body.captured).collect()
}

#[test]
fn every_frame_of_every_layer_passes_a_trunk_that_loses_packets() {
    for (seed, way) in
        [(1200, (false, true)), (1201, (true, true)), (1202, (false, false)), (1203, (true, false))]
    {
        let (mut world, alice) = piped(seed, Network::lossy(0.02), way);
        let viewers: Vec<_> = (0..3)
            .map(|spatial| {
                let viewer = join_far(&mut world, &format!("viewer{spatial}"));
                (viewer, world.consume_as(viewer, "camera", want_layer(spatial)).0)
            })
            .collect();
        world.run(2 * SECOND);
        let since = world.now;
        world.run(10 * SECOND);
        let until = world.now - SECOND / 2;
        for (spatial, (viewer, ssrc)) in viewers.iter().enumerate() {
            assert_eq!(layer(&mut world, *viewer, *ssrc), spatial, "seed {seed}");
            let frames = captured(&mut world, *viewer, *ssrc);
            let frames = frames.into_iter().filter(|at| (since..until).contains(at));
            let source = &world.peers[alice].track("camera").sources[spatial];
            let sent = source.captures.iter().filter(|at| (since..until).contains(*at));
            assert_eq!(frames.count(), sent.count(), "seed {seed}, layer {spatial}");
            let holes = world.peers[*viewer].inbox(*ssrc).holes();
            assert!(holes.len() < 3, "seed {seed}: {holes:?} are younger than a round trip");
        }
        let now = world.now;
        let lost = world.trunk().links[0].lost;
        assert!(lost > 30, "seed {seed}: {lost}");
        let stats = world.worker_at(1).producer_stats("camera", now).unwrap();
        let repaired: u64 = stats.iter().map(|one| one.stream.packets_repaired).sum();
        assert!(repaired > 0 || !way.1, "seed {seed}");
        let sent = world.worker().consumer_stats("pipe/camera", now).unwrap();
        assert_eq!(sent.others.len(), 2, "one record for each stream");
        let all = [&sent.outbound].into_iter().chain(&sent.others);
        let repeats: u64 = all.map(|one| one.packets_retransmitted).sum();
        assert!(repeats > 20, "seed {seed}: {repeats}");
        // No estimate stands in the way of what is lost.
        let transport = world.worker().transport_stats(TRUNK, now).unwrap();
        assert_eq!(transport.available_outgoing_bitrate, None);
        world.assert_no_faults();
    }
}

#[test]
fn sound_passes_and_is_not_delayed() {
    let mut world = World::two_hosts(1210, Network::lossy(0.02), true);
    let alice = world.join("alice");
    world.publish_audio(alice, "mic");
    world.pipe("mic");
    let bob = join_far(&mut world, "bob");
    let ssrc = world.consume(bob, "mic");
    world.run(10 * SECOND);
    let inbox = world.peers[bob].inbox(ssrc);
    assert!(inbox.got.len() > 480, "{}", inbox.got.len());
    let got = inbox.got.values().next_back().unwrap().clone();
    assert!(got.audio_level.is_some(), "its loudness is carried on");
    let late = got.at - got.body.captured;
    assert!(late < 70 * MS, "{} ms", late / MS);
    world.assert_no_faults();
}

#[test]
fn wishes_of_all_far_receivers_are_one_and_of_one_stream() {
    let (mut world, _) = piped(1220, Network::default(), (true, true));
    world.run(2 * SECOND);
    let viewers: Vec<_> = (0..10).map(|i| join_far(&mut world, &format!("viewer{i}"))).collect();
    world.run(2 * SECOND);
    let before = asked(&mut world);
    let streams: Vec<_> = viewers
        .iter()
        .map(|&one| (one, world.consume_as(one, "camera", want_layer(0)).0))
        .collect();
    world.run(SECOND);
    for &(viewer, ssrc) in &streams {
        assert!(world.peers[viewer].inbox(ssrc).first_picture_at().is_some());
    }
    let after = asked(&mut world);
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [1, 0, 0]);
    // All of them say that they cannot go on.
    world.run(3 * SECOND);
    let before = asked(&mut world);
    for &(viewer, ssrc) in &streams {
        let bytes = world.peers[viewer].seal_rtcp(|w| w.picture_loss(5, ssrc));
        world.send(viewer, bytes);
    }
    world.run(SECOND);
    let after = asked(&mut world);
    assert_eq!([after[0] - before[0], after[1] - before[1], after[2] - before[2]], [1, 0, 0]);
}

#[test]
fn the_far_side_chooses_layers_and_the_trunk_carries_what_is_wanted_there() {
    let (mut world, _) = piped(1230, Network::default(), (false, true));
    let bob = join_far(&mut world, "bob");
    let ssrc = world.consume(bob, "camera");
    world.run(6 * SECOND);
    assert_eq!(layer(&mut world, bob, ssrc), 2);
    for spatial in [0, 1, 2] {
        let layers = Layers { spatial, temporal: 2 };
        let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
        world.worker_at(1).apply_preferred_layers(&set, now).unwrap();
        world.run(4 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), usize::from(spatial));
        let now = world.now;
        let stats = world.worker_at(1).producer_stats("camera", now).unwrap();
        // What may be his when his path gets narrow comes, too.
        let comes: Vec<_> = stats.iter().map(|one| one.stream.bitrate > 50_000).collect();
        assert_eq!(comes, [true, spatial > 0, spatial > 1], "{stats:?}");
    }
    // What cannot be chosen.
    let set =
        SetPreferredLayers { id: "pipe/camera".into(), layers: Layers { spatial: 0, temporal: 0 } };
    let now = world.now;
    let refused = world.worker().apply_preferred_layers(&set, now).unwrap_err();
    assert_eq!(refused.code, ErrorCode::WrongState);
    world.peers[bob].remb_bps = Some(5_000_000);
    world.run(2 * SECOND);
    world.peers[bob].remb_bps = Some(300_000);
    world.peers[bob].report_at = world.now;
    world.run(2 * SECOND);
    assert!(layer(&mut world, bob, ssrc) < 2);
    world.assert_no_faults();
}

#[test]
fn a_pipe_is_paused_and_closed_as_one() {
    let (mut world, _) = piped(1240, Network::default(), (true, true));
    let bob = join_far(&mut world, "bob");
    let ssrc = world.consume(bob, "camera");
    world.run(6 * SECOND);
    let sent = |world: &mut World| {
        let now = world.now;
        let stats = world.worker().consumer_stats("pipe/camera", now).unwrap();
        let others = stats.others.iter().map(|one| one.packet_count);
        [stats.outbound.packet_count].into_iter().chain(others).collect::<Vec<_>>()
    };
    let now = world.now;
    world.worker().apply_pause_consumer("pipe/camera", true, now).unwrap();
    world.run(100 * MS);
    let before = sent(&mut world);
    world.run(2 * SECOND);
    assert_eq!(sent(&mut world), before);
    let now = world.now;
    world.worker().apply_pause_consumer("pipe/camera", false, now).unwrap();
    let since = world.now;
    world.run(5 * SECOND);
    assert!(sent(&mut world).iter().zip(&before).all(|(now, before)| now > before));
    let got = world.peers[bob].inbox(ssrc).got.values().filter(|got| got.at > since);
    assert!(got.clone().count() > 100 && got.clone().any(|got| got.descriptor.key_frame));
    assert_eq!(layer(&mut world, bob, ssrc), 2);
    let counts = world.worker().worker_stats();
    assert_eq!(counts.consumers, 3, "three parts");
    world.worker().apply_close_consumer("pipe/camera").unwrap();
    assert_eq!(world.worker().worker_stats().consumers, 0);
    let refused = world.worker().apply_close_consumer("pipe/camera").unwrap_err();
    assert_eq!(refused.code, ErrorCode::NotFound);
    world.assert_no_faults();
}

#[test]
fn a_pipe_ends_with_its_source_or_its_trunk() {
    for with_trunk in [false, true] {
        let (mut world, _) = piped(1250, Network::default(), (false, true));
        if with_trunk {
            world.worker().apply_close_transport(TRUNK).unwrap();
        } else {
            world.worker().apply_close_producer("camera").unwrap();
        }
        assert_eq!(world.worker().worker_stats().consumers, 0);
        let now = world.now;
        let missing = world.worker().consumer_stats("pipe/camera", now).unwrap_err();
        assert_eq!(missing.code, ErrorCode::NotFound);
        world.run(2 * SECOND);
        world.assert_no_faults();
    }
}

#[test]
fn a_pipe_that_does_not_fit_is_refused_and_leaves_nothing() {
    let mut world = World::two_hosts(1260, Network::default(), false);
    let alice = world.join("alice");
    world.publish_simulcast(alice, "camera", 3);
    world.pipe("camera");
    let want = Want::default();
    let (like, _) = world.consume_command(alice, "camera", &want);
    let pipe = |id: &str, ssrcs: &[u32]| {
        let encoding = |ssrc: &u32| RtpEncoding { ssrc: Some(*ssrc), ..RtpEncoding::default() };
        let mut create = Consume {
            id: id.into(),
            transport: TRUNK.into(),
            rtp_type: RtpType::Pipe,
            ..like.clone()
        };
        create.rtp_parameters.encodings = ssrcs.iter().map(encoding).collect();
        create
    };
    let taken = {
        let now = world.now;
        world.worker().consumer_stats("pipe/camera", now).unwrap().others[1].ssrc
    };
    for (create, code) in [
        (pipe("pipe/camera", &[1, 2, 3]), ErrorCode::AlreadyExists),
        (pipe("two", &[1, 2]), ErrorCode::Invalid),
        (pipe("four", &[1, 2, 3, 4]), ErrorCode::Invalid),
        (pipe("double", &[1, 2, 1]), ErrorCode::Invalid),
        (pipe("taken", &[1, 2, taken]), ErrorCode::Invalid),
    ] {
        let now = world.now;
        let refused = world.worker().apply_consume(&create, 1, now).unwrap_err();
        assert_eq!(refused.code, code, "{}", create.id);
        assert_eq!(world.worker().worker_stats().consumers, 3, "{}", create.id);
    }
    let now = world.now;
    world.worker().apply_consume(&pipe("second", &[1, 2, 3]), 1, now).unwrap();
    assert_eq!(world.worker().worker_stats().consumers, 6);
}

#[test]
fn strangers_and_replays_at_a_trunk_are_counted_and_nothing_else() {
    for sealed in [false, true] {
        let (mut world, alice) = piped(1270, Network::default(), (sealed, true));
        let bob = join_far(&mut world, "bob");
        let ssrc = world.consume(bob, "camera");
        world.run(4 * SECOND);
        let source = world.worker().consumer_stats("pipe/camera", 0).unwrap().outbound.ssrc;
        let mut packet = vec![0x80, 101, 0, 1, 0, 0, 0, 1];
        packet.extend(source.to_be_bytes());
        packet.extend([0x10; 60]);
        let stranger = std::net::SocketAddr::from(([10, 9, 0, 77], 28_000));
        for number in 0..10_000u16 {
            packet[2..4].copy_from_slice(&number.to_be_bytes());
            world.send_to_trunk(1, stranger, &packet);
        }
        assert_eq!(world.discarded_at(1, Discard::PlainWrongSource), 10_000);
        // From the right address: what came before, and what nobody has sealed.
        let last = world.trunk().last_rtp[0].clone();
        let (replayed, refused) = (Discard::SrtpReplayed, Discard::SrtpUnauthenticated);
        let before = [replayed, refused].map(|reason| world.discarded_at(1, reason));
        for _ in 0..3 {
            world.send_to_trunk(1, end(0), &last);
        }
        let mut forged = last;
        let next = u16::from_be_bytes([forged[2], forged[3]]).wrapping_add(50);
        forged[2..4].copy_from_slice(&next.to_be_bytes());
        if sealed {
            world.send_to_trunk(1, end(0), &forged);
            let after = [replayed, refused].map(|reason| world.discarded_at(1, reason));
            // One of them may have been the first, if that was still on its way.
            let [again, unsealed] = [after[0] - before[0], after[1] - before[1]];
            assert!(again >= 2 && unsealed == 1, "{again} {unsealed}");
        }
        let before = world.peers[bob].inbox(ssrc).got.len();
        world.run(2 * SECOND);
        assert!(world.peers[bob].inbox(ssrc).got.len() > before + 100);
        assert_eq!(world.peers[bob].inbox(ssrc).holes(), []);
        assert!(!world.peers[alice].track("camera").muted);
        world.assert_no_faults();
    }
}

#[test]
fn temporal_layers_that_only_a_descriptor_tells_are_chosen_behind_a_trunk() {
    for (seed, loss) in [(1300, 0.0), (1301, 0.02)] {
        let mut world = World::two_hosts(seed, Network::lossy(loss), true);
        let alice = world.join("alice");
        let mut track = world.simulcast("camera", 2);
        (track.codec, track.describes_dependencies) = (Codec::H264, true);
        track.extensions.push((7, ExtensionKind::DependencyDescriptor));
        world.publish(alice, track);
        world.pipe("camera");
        let bob = join_far(&mut world, "bob");
        let ssrc = world.consume(bob, "camera");
        world.run(5 * SECOND);
        for temporal in [0, 2, 1] {
            let layers = Layers { spatial: 1, temporal };
            let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
            world.worker_at(1).apply_preferred_layers(&set, now).unwrap();
            world.run(4 * SECOND);
            let since = world.now - SECOND;
            assert_eq!(layer(&mut world, bob, ssrc), 1, "seed {seed}");
            let mut counts = [0; 4];
            let got = world.peers[bob].inbox(ssrc).got.values().filter(|got| got.at > since);
            got.for_each(|got| counts[usize::from(got.descriptor.temporal)] += 1);
            // What was lost and comes again fills its hole, whatever it is.
            let highest = (0..4).rev().find(|layer| counts[*layer] > 3);
            assert_eq!(highest, Some(usize::from(temporal)), "seed {seed}: {counts:?}");
        }
        world.assert_no_faults();
    }
}

#[test]
fn a_camera_that_turns_is_seen_turned() {
    let mut world = World::two_hosts(1280, Network::default(), true);
    let alice = world.join("alice");
    world.publish_video(alice, "camera", Codec::H264).orientation = Some(1);
    world.pipe("camera");
    let bob = join_far(&mut world, "bob");
    let ssrc = world.consume(bob, "camera");
    world.run(3 * SECOND);
    let got = world.peers[bob].inbox(ssrc).got.values().next_back().unwrap();
    assert_eq!(got.orientation, Some(1));
    let far = world.events.iter().filter(|(_, event)| {
        matches!(
            event,
            ironcast_protocol::Event::VideoOrientationChange { rotation: 270, .. }
                | ironcast_protocol::Event::VideoOrientationChange { rotation: 90, .. }
        )
    });
    assert_eq!(far.count(), 2, "both hosts tell of it");
}

/// Streams that their SSRCs name, without RIDs: what pipes send, and some browsers.
#[test]
fn simulcast_by_ssrc_is_simulcast() {
    for seed in 1290..1293 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        let mut track = world.simulcast("camera", 3);
        track.labels = false;
        for source in &mut track.sources {
            source.rid = None;
        }
        world.publish(alice, track);
        let ssrc = world.consume(bob, "camera");
        world.run(6 * SECOND);
        assert_eq!(layer(&mut world, bob, ssrc), 2, "seed {seed}");
        for spatial in [0, 1] {
            let layers = Layers { spatial, temporal: 2 };
            let (set, now) = (SetPreferredLayers { id: "bob/camera".into(), layers }, world.now);
            world.worker().apply_preferred_layers(&set, now).unwrap();
            world.run(3 * SECOND);
            assert_eq!(layer(&mut world, bob, ssrc), usize::from(spatial), "seed {seed}");
        }
        world.assert_no_faults();
    }
}
