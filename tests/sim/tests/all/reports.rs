//! RTCP: sender reports name the capture moment, receiver reports and round trips, feedback and limits
//! to publishers.

use ironcast_core::{
    MS, Nanos, SECOND,
    wire::{Codec, rtcp},
};
use ironcast_protocol::{
    command::{SetPreferredLayers, SetTransportBitrates},
    event::Event,
    media::Layers,
};
use ironcast_sim::{
    Network, World,
    inbox::Inbox,
    world::{UNIX_OFFSET, Want},
};

/// What a receiver makes of its reports: the wall time of the capture of each packet, in
/// nanoseconds, against the truth. Reports of a segment before a switch say nothing about it.
fn capture_errors(inbox: &Inbox) -> Vec<i64> {
    let rate = i64::from(inbox.clock_rate());
    let mut errors = Vec::new();
    for got in inbox.got.values() {
        let report = inbox.sender_reports.iter().rfind(|(at, _, _)| *at <= got.at);
        let Some((_, ntp, rtp)) = report else { continue };
        let units = i64::from(got.timestamp.wrapping_sub(*rtp).cast_signed());
        let seconds = (ntp >> 32) - 2_208_988_800;
        let wall = seconds * SECOND + (((ntp & 0xffff_ffff) * SECOND) >> 32);
        let said = wall.cast_signed() + units * 1_000_000_000 / rate;
        errors.push(said - (got.body.captured + UNIX_OFFSET).cast_signed());
    }
    errors
}

fn spread(errors: &[i64]) -> (i64, i64) {
    (*errors.iter().min().unwrap(), *errors.iter().max().unwrap())
}

#[test]
fn sender_reports_name_the_capture_moment_through_switches_and_pauses() {
    for seed in 500..504 {
        let mut world = World::new(seed);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        // The publisher's wall clock is minutes off.
        world.peers[alice].unix_offset = UNIX_OFFSET + (seed - 499) * 77 * SECOND;
        world.publish_simulcast(alice, "camera", 3);
        world.publish_audio(alice, "mic");
        let (video, audio) = (world.consume(bob, "camera"), world.consume(bob, "mic"));
        world.run(4 * SECOND);
        for layer in [0, 2, 1] {
            let now = world.now;
            let layers = Layers { spatial: layer, temporal: 2 };
            let set = SetPreferredLayers { id: "bob/camera".into(), layers };
            world.worker().apply_preferred_layers(&set, now).unwrap();
            world.run(3 * SECOND);
        }
        for paused in [true, false] {
            world.worker().apply_pause_producer("camera", paused).unwrap();
            world.run(3 * SECOND);
        }
        world.assert_no_faults();
        let (v0, v1) = spread(&capture_errors(world.peers[bob].inbox(video)));
        let (a0, a1) = spread(&capture_errors(world.peers[bob].inbox(audio)));
        // One way from the publisher is not known and is the same for all that it sends; a packet
        // between a switch and the next report is off by what the switch could not know.
        let way = (20 * MS).cast_signed();
        let five = (5 * MS).cast_signed();
        for (kind, error) in [("video", v0), ("video", v1), ("audio", a0), ("audio", a1)] {
            assert!((error - way).abs() <= five, "seed {seed}: {kind} {}", error / 1_000);
        }
    }
}

#[test]
fn a_publishers_drifting_clock_is_followed() {
    let mut world = World::new(505);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    let audio = world.consume(bob, "mic");
    world.run(3 * SECOND);
    // 200 ppm for five minutes would be 60 ms.
    for _ in 0..300 {
        world.peers[alice].unix_offset += SECOND / 5_000;
        world.run(SECOND);
    }
    let errors = capture_errors(world.peers[bob].inbox(audio));
    let last = errors.last().unwrap() - (20 * MS).cast_signed();
    assert!(last.abs() <= (5 * MS).cast_signed(), "{}", last / 1_000);
}

#[test]
fn receiver_reports_say_what_was_lost_and_when_the_report_came() {
    for seed in 510..513 {
        let mut world = World::new(seed);
        let alice = world.join("alice");
        world.publish_audio(alice, "mic");
        world.run(3 * SECOND);
        world.peers[alice].up.network.loss = 0.25;
        // No repairs.
        world.peers[alice].track("mic").sources[0].sent.clear();
        world.run(4 * SECOND);
        let ssrc = world.peers[alice].track("mic").sources[0].ssrc;
        let blocks = &world.peers[alice].report_blocks;
        assert!(blocks.len() >= 5 && blocks.iter().all(|(_, b)| b.ssrc == ssrc), "seed {seed}");
        let (first, last) = (blocks[1].1, blocks.last().unwrap().1);
        assert_eq!(first.fraction_lost, 0, "seed {seed}");
        assert!(last.highest_sequence > first.highest_sequence, "seed {seed}");
        // Round trip by the publisher's clock: LSR and DLSR must be true.
        for (at, block) in blocks.iter().filter(|(_, block)| block.last_sender_report != 0) {
            let now = rtcp::ntp_middle(world.peers[alice].ntp(*at));
            let rtt = rtcp::round_trip(now, block.last_sender_report, block.delay).unwrap();
            assert!(rtt.abs_diff(40 * MS) < 2 * MS, "seed {seed}: {rtt}");
        }
    }
}

#[test]
fn the_round_trip_to_a_receiver_is_known() {
    let mut world = World::new(515);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    world.consume(bob, "camera");
    world.run(5 * SECOND);
    let now = world.now;
    let stats = world.worker().consumer_stats("bob/camera", now).unwrap();
    let rtt = stats.outbound.round_trip_time.unwrap();
    assert!((38.0..43.0).contains(&rtt), "{rtt}");
    assert_eq!((stats.outbound.fraction_lost, stats.outbound.score), (0, 10));
    let inbound = stats.inbound.unwrap();
    assert!(inbound.packet_count > 400 && inbound.score == 10, "{inbound:?}");
}

/// In a large room most of what there is to hear and see is silent.
#[test]
fn a_score_is_told_when_it_differs_from_what_the_answer_said() {
    let mut world = World::new(517);
    let (alice, bob, carol) = (world.join("alice"), world.join("bob"), world.join("carol"));
    world.publish_audio(alice, "mic").muted = true;
    let (_, silent) = world.consume_as(bob, "mic", Want::default());
    assert_eq!((silent.score.score, silent.score.producer_score), (10, 0));
    let scores = |world: &World| -> Vec<(String, u8)> {
        let told = world.events.iter().filter_map(|(_, event)| match event {
            Event::ConsumerScore { consumer, score } => {
                Some((consumer.to_string(), score.producer_score))
            }
            _ => None,
        });
        told.collect()
    };
    world.run(5 * SECOND);
    assert_eq!(scores(&world), []);
    world.peers[alice].track("mic").muted = false;
    world.run(5 * SECOND);
    assert_eq!(scores(&world), [("bob/mic".to_owned(), 10)]);
    // Who comes later has heard it with his answer.
    let (_, heard) = world.consume_as(carol, "mic", Want::default());
    assert_eq!((heard.score.score, heard.score.producer_score), (10, 10));
    world.run(5 * SECOND);
    assert_eq!(scores(&world).len(), 1);
}

#[test]
fn a_reference_time_is_answered() {
    let mut world = World::new(516);
    let bob = world.join("bob");
    world.run(SECOND);
    let ntp = world.peers[bob].ntp(world.now);
    let bytes = world.peers[bob].seal_rtcp(|w| w.reference_time(99, ntp));
    world.send(bob, bytes);
    world.run(SECOND);
    let (at, report) = world.peers[bob].dlrrs[0];
    assert_eq!((report.ssrc, report.last_reference_time), (99, rtcp::ntp_middle(ntp)));
    let now = rtcp::ntp_middle(world.peers[bob].ntp(at));
    let rtt = rtcp::round_trip(now, report.last_reference_time, report.delay).unwrap();
    assert!(rtt.abs_diff(40 * MS) < MS, "{rtt}");
    // Once for a datagram, however often it stands there.
    let bytes = world.peers[bob].seal_rtcp(|w| (0..40).try_for_each(|_| w.reference_time(98, ntp)));
    world.send(bob, bytes);
    world.run(SECOND);
    assert_eq!(world.peers[bob].dlrrs.iter().filter(|(_, report)| report.ssrc == 98).count(), 1);
}

/// A turn that took long makes many reports due at once: that passes, and does not stay so.
#[test]
fn reports_that_were_late_together_do_not_stay_together() {
    const VIEWERS: usize = 60;
    let mut world = World::new(517);
    let alice = world.join("alice");
    world.publish_audio(alice, "mic");
    let mut viewers = Vec::new();
    for number in 0..VIEWERS {
        let viewer = world.join(&format!("viewer-{number}"));
        viewers.push((viewer, world.consume(viewer, "mic")));
        world.run(17 * MS);
    }
    world.run(3 * SECOND);
    // Nothing is done for most of a second.
    world.stalled_until = world.now + 800 * MS;
    world.run(4 * SECOND);
    let since = world.now;
    world.run(2 * SECOND);
    let mut moments = std::collections::BTreeMap::<Nanos, usize>::new();
    for (viewer, ssrc) in &viewers {
        let reports = &world.peers[*viewer].inbox(*ssrc).sender_reports;
        let times: Vec<_> = reports.iter().map(|(at, ..)| *at).filter(|at| *at >= since).collect();
        assert!((2..=3).contains(&times.len()), "{}", times.len());
        times.iter().for_each(|at| *moments.entry(at / (5 * MS)).or_default() += 1);
    }
    let most = moments.values().max().unwrap();
    assert!(*most <= 8, "{most} of {VIEWERS} in one moment");
}

/// Who is sent very many tracks has the reports about them in portions: all of them, once a second.
#[test]
fn reports_about_very_many_tracks_leave_in_portions() {
    const TRACKS: usize = 300;
    let mut world = World::new(518);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    world.run(2 * SECOND);
    // He has no room for what he would say of all of them.
    world.peers[bob].reports = false;
    let mut tracks = Vec::new();
    for number in 0..TRACKS {
        let (mut create, setup) = world.consume_command(bob, "mic", &Want::default());
        create.id = number.to_string();
        let now = world.now;
        world.worker().apply_consume(&create, 100, now).unwrap();
        tracks.push(setup.ssrc);
        world.peers[bob].inboxes.insert(setup.ssrc, Inbox::new(setup));
    }
    world.run(100 * MS);
    // What was said of it stays true.
    world.peers[alice].track("mic").muted = true;
    world.run(5 * SECOND);
    let since = world.now;
    world.run(3 * SECOND);
    let mut moments = std::collections::BTreeMap::<Nanos, usize>::new();
    for ssrc in &tracks {
        let reports = &world.peers[bob].inbox(*ssrc).sender_reports;
        let times: Vec<_> = reports.iter().map(|(at, ..)| *at).filter(|at| *at >= since).collect();
        assert_eq!(times.len(), 3, "{times:?}");
        times.iter().for_each(|at| *moments.entry(at / (MS / 2)).or_default() += 1);
    }
    let most = moments.values().max().unwrap();
    assert!(*most <= 64, "{most} of {TRACKS} in one turn");
}

#[test]
fn feedback_is_complete_and_its_times_are_those_of_arrival() {
    for (seed, hold) in [(520, 0), (521, 5 * MS), (522, 20 * MS)] {
        let mut world = World::new(seed);
        world.hold = hold;
        let alice = world.join("alice");
        world.peers[alice].up.network.jitter = 3 * MS;
        world.peers[alice].up.network.loss = 0.05;
        world.publish_simulcast(alice, "camera", 3);
        world.run(6 * SECOND);
        let peer = &world.peers[alice];
        let told: Vec<(u64, i64)> = peer
            .feedback
            .iter()
            .filter_map(|(seq, at)| at.map(|at| (peer.arrived[seq], at)))
            .collect();
        // All but what came in the last interval.
        assert!(told.len() + 80 > peer.arrived.len(), "{} {}", told.len(), peer.arrived.len());
        assert!(told.len() > 1_000, "seed {seed}: {}", told.len());
        // One offset explains all of them, to a tick.
        let offset = |(at, said): &(u64, i64)| said - (at / 1_000).cast_signed();
        let first = offset(&told[0]);
        let worst = told.iter().map(|t| (offset(t) - first).abs()).max().unwrap();
        assert!(worst <= 500, "seed {seed}: {worst} us");
    }
}

#[test]
fn a_publishers_limit_is_said_and_taken_back() {
    let mut world = World::new(530);
    let alice = world.join("alice");
    world.publish_video(alice, "camera", Codec::Vp8);
    world.run(2 * SECOND);
    assert_eq!(world.peers[alice].rembs, []);
    let set = |world: &mut World, bps| {
        let now = world.now;
        let set = SetTransportBitrates {
            id: "alice".into(),
            max_incoming_bps: Some(bps),
            ..SetTransportBitrates::default()
        };
        world.worker().apply_bitrates(&set, now).unwrap();
    };
    set(&mut world, 500_000);
    world.run(2 * SECOND);
    let (_, said) = *world.peers[alice].rembs.last().unwrap();
    assert!(said <= 500_000 && said > 498_000, "{said}");
    set(&mut world, 0);
    world.run(3 * SECOND);
    // The last word is not the old limit: a browser would keep to it for ever.
    let (at, said) = *world.peers[alice].rembs.last().unwrap();
    assert!(said >= 50_000_000, "{said}");
    world.run(5 * SECOND);
    assert!(world.peers[alice].rembs.last().unwrap().0 < at + 4 * SECOND);
}

#[test]
fn a_report_about_a_stream_that_is_gone_spoils_nothing_else() {
    let mut world = World::new(535);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(3 * SECOND);
    let before = world.peers[alice].track("camera").sources[0].asked.len();
    let bytes = world.peers[bob].seal_rtcp(|w| {
        w.nack(5, 12_345, &[1, 2])?;
        w.picture_loss(5, 12_345)?;
        w.picture_loss(5, ssrc)
    });
    world.send(bob, bytes);
    world.run(SECOND);
    assert_eq!(world.peers[alice].track("camera").sources[0].asked.len(), before + 1);
    assert_eq!(world.discarded(ironcast_core::Discard::RtcpUnknownStream), 2);
}

#[test]
fn who_publishes_very_many_streams_still_hears_about_each() {
    let mut world = World::new(536);
    let alice = world.join("alice");
    for i in 0..60 {
        let track = world.simulcast(&format!("t{i}"), 1);
        let track = ironcast_sim::track::Track { mid: Some(format!("{i}")), ..track };
        world.publish(alice, track);
    }
    world.run(4 * SECOND);
    let peer = &mut world.peers[alice];
    let reported: std::collections::BTreeSet<u32> =
        peer.report_blocks.iter().map(|(_, block)| block.ssrc).collect();
    assert_eq!(reported.len(), 60);
    let interval: Nanos = SECOND;
    assert!(peer.report_blocks.iter().all(|(at, _)| *at > 10 * interval));
}

/// A sender report without a wall clock (RFC 3550 section 6.4.1: zero), with the seconds since a camera
/// was switched on, or with another lie each time says nothing about anybody's clock.
#[test]
fn a_track_without_a_wall_clock_spoils_no_other_track() {
    for clock in 0..3u64 {
        let mut world = World::new(540);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8);
        world.publish_audio(alice, "mic");
        let audio = world.consume(bob, "mic");
        world.consume(bob, "camera");
        world.peers[alice].sender_reports = false;
        for second in 0..30u64 {
            let now = world.now;
            let mut reports = Vec::new();
            let (ntp, lie) = (
                world.peers[alice].ntp(now),
                [0, (second + 9) << 32, second.wrapping_mul(0x1234_5678_9abc_def1)][clock as usize],
            );
            for (id, ntp) in [("mic", ntp), ("camera", lie)] {
                let track = world.peers[alice].track(id);
                let rate = track.clock_rate();
                let source = &track.sources[0];
                reports.push(rtcp::SenderInfo {
                    ssrc: source.ssrc,
                    ntp,
                    rtp_timestamp: source.timestamp(now, rate),
                    packet_count: source.packets,
                    octet_count: source.octets,
                });
            }
            for info in reports {
                let bytes = world.peers[alice].seal_rtcp(|w| w.sender_report(&info, &[]));
                world.send(alice, bytes);
            }
            world.run(SECOND);
        }
        world.assert_no_faults();
        let errors = capture_errors(world.peers[bob].inbox(audio));
        assert!(errors.len() > 1_000);
        let (first, last) = spread(&errors);
        let way = (20 * MS).cast_signed();
        let five = (5 * MS).cast_signed();
        assert!(
            (first - way).abs() <= five && (last - way).abs() <= five,
            "{clock}: {first} {last}"
        );
    }
}

/// A sender report with the right wall time, and an RTP time that is none of its track's: 0, the other
/// track's, or its own of an hour ago. Some come before the first packet, some behind a pause.
#[test]
fn a_report_with_an_rtp_time_of_something_else_spoils_nothing() {
    for lie in 0..3 {
        let mut world = World::new(543);
        let (alice, bob) = (world.join("alice"), world.join("bob"));
        world.publish_video(alice, "camera", Codec::Vp8).muted = true;
        world.publish_audio(alice, "mic");
        let (video, audio) = (world.consume(bob, "camera"), world.consume(bob, "mic"));
        world.peers[alice].sender_reports = false;
        let report = |world: &mut World, is_lie: bool| {
            let (now, ntp) = (world.now, world.peers[alice].ntp(world.now));
            let audio = world.peers[alice].track("mic").sources[0].timestamp(now, 48_000);
            let source = &world.peers[alice].track("camera").sources[0];
            let (ssrc, right) = (source.ssrc, source.timestamp(now, 90_000));
            let wrong = [0, audio, right.wrapping_sub(3_600 * 90_000)][lie];
            let rtp_timestamp = if is_lie { wrong } else { right };
            let info = rtcp::SenderInfo { ssrc, ntp, rtp_timestamp, ..Default::default() };
            let bytes = world.peers[alice].seal_rtcp(|w| w.sender_report(&info, &[]));
            world.send(alice, bytes);
            world.run(SECOND);
        };
        report(&mut world, true);
        world.peers[alice].track("camera").muted = false;
        world.run(3 * SECOND);
        for second in 0..30 {
            report(&mut world, second % 3 != 0);
        }
        let counted = world.discarded(ironcast_core::Discard::RtcpWrongTime);
        assert_eq!(counted, 20, "{lie}");
        // The clock of the track goes on through a pause, and begins elsewhere behind another.
        for jump in [0, 900_000_000] {
            world.peers[alice].track("camera").muted = true;
            (0..40).for_each(|_| report(&mut world, true));
            let source = &mut world.peers[alice].track("camera").sources[0];
            source.timestamp_offset = source.timestamp_offset.wrapping_add(jump);
            world.peers[alice].track("camera").muted = false;
            world.run(2 * SECOND);
            (0..5).for_each(|_| report(&mut world, false));
        }
        world.assert_no_faults();
        assert!(world.peers[bob].inbox(audio).got.len() > 1_000);
        let inbox = world.peers[bob].inbox(video);
        assert!(inbox.sender_reports.len() > 50, "{lie}");
        let errors = capture_errors(inbox);
        assert!(errors.len() > 1_000);
        let (way, five) = ((20 * MS).cast_signed(), (5 * MS).cast_signed());
        let near = |error: &&i64| (**error - way).abs() <= five;
        // What was sent just behind the jump has the report before it.
        let far = errors.iter().filter(|error| !near(error)).count();
        assert!(far < 4 * 90, "{lie}: {far} of {}: {:?}", errors.len(), spread(&errors));
        let last = errors.len() - 100;
        assert_eq!(errors[last..].iter().filter(near).count(), 100, "{lie}");
    }
}

/// A browser reports under another SSRC for each of its tracks, received ones too: whoever came last
/// is heard, however many there were, and what came once is not taken again.
#[test]
fn rtcp_of_the_newest_of_very_many_senders_is_heard() {
    let mut world = World::new(541);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_video(alice, "camera", Codec::Vp8);
    let ssrc = world.consume(bob, "camera");
    world.run(2 * SECOND);
    let mut kept = Vec::new();
    for sender in 0..3_000u32 {
        let bytes = world.peers[bob].seal_rtcp(|w| w.picture_loss(100_000 + sender, ssrc));
        if sender % 100 == 0 {
            kept.push(bytes.clone());
        }
        world.send(bob, bytes);
        if sender % 50 == 0 {
            world.run(10 * MS);
        }
    }
    world.run(SECOND);
    let now = world.now;
    let stats = world.worker().consumer_stats("bob/camera", now).unwrap();
    assert_eq!(stats.outbound.pli_count, 3_000);
    let replayed = world.discarded(ironcast_core::Discard::SrtpReplayed);
    let count = kept.len() as u64;
    kept.into_iter().for_each(|bytes| world.send(bob, bytes));
    world.run(SECOND);
    assert_eq!(world.discarded(ironcast_core::Discard::SrtpReplayed), replayed + count);
    world.assert_no_faults();
}

/// A limit that is more than anybody sends is said each second and overflows nothing.
#[test]
fn the_highest_limit_can_be_said_for_ever() {
    let mut world = World::new(542);
    let alice = world.join("alice");
    world.publish_video(alice, "camera", Codec::Vp8).muted = true;
    let set = SetTransportBitrates {
        id: "alice".into(),
        max_incoming_bps: Some(1_000_000_000),
        ..SetTransportBitrates::default()
    };
    let now = world.now;
    world.worker().apply_bitrates(&set, now).unwrap();
    world.run(300 * SECOND);
    assert!(!world.peers[alice].rembs.is_empty());
}

/// Everything that comes within one turn is reported, however much it is.
#[test]
fn a_turn_of_very_many_packets_is_reported_whole() {
    let mut world = World::new(543);
    let alice = world.join("alice");
    world.run(SECOND);
    let track = world.publish_video(alice, "camera", Codec::Vp8);
    (track.sources[0].packets_per_frame, track.interval) = (1_500, SECOND);
    track.sources[0].payload_len = 60;
    world.hold = SECOND / 2;
    world.run(6 * SECOND);
    let peer = &world.peers[alice];
    let due = peer.arrived.iter().filter(|(_, at)| **at + SECOND < world.now);
    let told = |seq: &u16| peer.feedback.get(seq).copied().flatten().is_some();
    let (count, missing) =
        due.fold((0, 0), |(n, missing), (seq, _)| (n + 1, missing + usize::from(!told(seq))));
    assert!(count > 4_000 && missing == 0, "{missing} of {count}");
}

/// Nothing is sent to a publisher that it would report about: its round trip is asked for, known to
/// statistics, and spaces what is asked for again.
#[test]
fn the_round_trip_to_a_publisher_is_known_and_spaces_requests() {
    for (seed, way) in [(580, 5), (581, 40), (582, 150)] {
        let mut world = World::new(seed);
        let network = Network { delay: way * MS, ..Network::default() };
        let alice = world.join_over("alice", network, network);
        let bob = world.join("bob");
        world.publish_video(alice, "camera", Codec::Vp8);
        world.consume(bob, "camera");
        world.run(5 * SECOND);
        let now = world.now;
        let stats = world.worker().producer_stats("camera", now).unwrap();
        let rtt = stats[0].stream.round_trip_time.unwrap();
        assert!((rtt - 2.0 * way as f64).abs() < 3.0, "seed {seed}: {rtt} ms");
        world.peers[alice].up.network.loss = 0.05;
        let (lost, nacked) = (world.peers[alice].up.lost, stats[0].stream.nack_packet_count);
        world.run(10 * SECOND);
        let now = world.now;
        let stats = world.worker().producer_stats("camera", now).unwrap();
        let lost = world.peers[alice].up.lost - lost;
        let nacked = stats[0].stream.nack_packet_count - nacked;
        // Each is asked for once, and once more where the answer was lost, too.
        assert!(nacked > lost * 7 / 10, "seed {seed}: {nacked} of {lost}");
        assert!(nacked < lost * 15 / 10, "seed {seed}: {nacked} of {lost}");
        world.assert_no_faults();
    }
}

/// Figures of a stream count its packets, not what protects them, and layers as mediasoup does.
#[test]
fn figures_are_of_packets_and_by_layer() {
    let mut world = World::new(590);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    world.publish_simulcast(alice, "camera", 2);
    let mic = world.consume(bob, "mic");
    world.consume(bob, "camera");
    world.run(5 * SECOND);
    let now = world.now;
    let audio = world.worker().producer_stats("mic", now).unwrap();
    let video = world.worker().producer_stats("camera", now).unwrap();
    let sent = world.worker().consumer_stats("bob/mic", now).unwrap();
    // All packets of audio are of one size but for their extensions: at most 60 bytes around 120.
    for stats in [&audio[0].stream, &sent.outbound] {
        let each = stats.byte_count as f64 / stats.packet_count as f64;
        let rate = stats.bitrate as f64 / 50.0 / 8.0;
        assert!((rate - each).abs() < 4.0, "{rate} {each}");
    }
    let sealed = world.peers[alice].track("mic").sources[0].sent.values();
    let (count, bytes) = sealed.fold((0, 0), |sum, (_, b)| (sum.0 + 1, sum.1 + b.len() as u64));
    let tag = bytes / count - audio[0].stream.byte_count / audio[0].stream.packet_count;
    assert!([10, 16].contains(&tag), "{tag}");
    assert!(world.peers[bob].inbox(mic).got.len() > 200);
    assert_eq!(audio[0].bitrate_by_layer.len(), 0);
    for stats in &video {
        let layers: Vec<_> = stats.bitrate_by_layer.keys().map(String::as_str).collect();
        assert_eq!(layers, ["0.0", "0.1", "0.2"]);
        assert!(stats.bitrate_by_layer.values().is_sorted());
        assert_eq!(stats.bitrate_by_layer["0.2"], stats.stream.bitrate);
    }
}

/// The worst that was reported lately, of all tracks; nothing of tracks that there are not.
#[test]
fn the_losses_of_a_peer_are_those_of_its_worst_track() {
    let mut world = World::new(519);
    let (alice, bob) = (world.join("alice"), world.join("bob"));
    world.publish_audio(alice, "mic");
    world.publish_voice(bob, "voice", 0);
    world.consume(bob, "mic");
    world.consume(alice, "voice");
    world.run(5 * SECOND);
    let losses = |world: &mut World, peer: &str| {
        let now = world.now;
        let stats = world.worker().transport_stats(peer, now).unwrap();
        (stats.rtp_packet_loss_received, stats.rtp_packet_loss_sent)
    };
    assert_eq!(losses(&mut world, "bob"), (Some(0.0), Some(0.0)));
    world.peers[bob].up.network.loss = 0.2;
    world.peers[bob].down.network.loss = 0.2;
    world.run(10 * SECOND);
    let (received, sent) = losses(&mut world, "bob");
    assert!((0.05..0.4).contains(&received.unwrap()), "{received:?}");
    assert!((0.05..0.4).contains(&sent.unwrap()), "{sent:?}");
    world.worker().apply_close_producer("voice").unwrap();
    world.worker().apply_close_producer("mic").unwrap();
    assert_eq!(losses(&mut world, "bob"), (None, None));
}
