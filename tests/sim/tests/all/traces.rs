//! Traces of single resources: packets, key frames and requests as events.

use ironcast_core::SECOND;
use ironcast_protocol::{
    ErrorCode, Event,
    command::SetPreferredLayers,
    media::Layers,
    snapshot::ResourceKind,
    trace::{EVENTS_PER_S_MAX, SetTrace, Trace, TraceKind, Traced},
};
use ironcast_sim::{Network, World};

fn set(
    world: &mut World,
    kind: ResourceKind,
    id: &str,
    types: &[TraceKind],
) -> Result<(), ErrorCode> {
    let set = SetTrace { kind, id: id.into(), types: types.to_vec() };
    world.worker().apply_set_trace(&set).map(drop).map_err(|error| error.code)
}

/// What was told of a resource since this was asked last.
fn take(world: &mut World, id: &str) -> Vec<Traced> {
    let told = world
        .events
        .extract_if(.., |(_, event)| matches!(event, Event::Trace(traced) if traced.id == id));
    let told = told.filter_map(|(_, event)| match event {
        Event::Trace(traced) => Some(traced),
        _ => None,
    });
    told.collect()
}

#[test]
fn packets_key_frames_and_requests_of_both_sides_are_told() {
    let mut world = World::new(1500);
    let alice = world.join_over("alice", Network::lossy(0.02), Network::default());
    world.publish_simulcast(alice, "camera", 3);
    let bob = world.join_over("bob", Network::default(), Network::lossy(0.02));
    let ssrc = world.consume(bob, "camera");
    world.run(SECOND);
    assert!(take(&mut world, "camera").is_empty(), "nobody asked");
    let all = [TraceKind::KeyFrame, TraceKind::Nack, TraceKind::Pli, TraceKind::Sr];
    set(&mut world, ResourceKind::Producer, "camera", &all).unwrap();
    set(&mut world, ResourceKind::Consumer, "bob/camera", &all[..3]).unwrap();
    set(&mut world, ResourceKind::Transport, "bob", &[TraceKind::Bwe]).unwrap();
    // Another layer begins at a key frame, which is asked for.
    let down =
        SetPreferredLayers { id: "bob/camera".into(), layers: Layers { spatial: 0, temporal: 2 } };
    let now = world.now;
    world.run(4 * SECOND);
    world.worker().apply_preferred_layers(&down, now + 4 * SECOND).unwrap();
    world.run(4 * SECOND);
    let of = |told: &[Traced], wanted: fn(&Trace) -> bool, is_sent: bool| {
        told.iter().filter(|one| wanted(&one.what) && one.is_sent == is_sent).count()
    };
    let nack = |what: &Trace| matches!(what, Trace::Nack { packets: 1.., .. });
    let pli = |what: &Trace| matches!(what, Trace::Pli { .. });
    let sr = |what: &Trace| matches!(what, Trace::Sr(report) if report.packets > 0);
    let received = take(&mut world, "camera");
    let is_key = |what: &Trace| matches!(what, Trace::KeyFrame(packet) if packet.is_key_frame);
    assert!(of(&received, nack, true) > 3 && of(&received, pli, true) > 0, "{received:?}");
    assert!(of(&received, sr, false) > 3 && of(&received, is_key, false) > 0, "{received:?}");
    let sent = take(&mut world, "bob/camera");
    assert!(of(&sent, nack, false) > 3 && of(&sent, is_key, true) > 0, "{sent:?}");
    assert!(sent.iter().all(|one| !matches!(&one.what, Trace::KeyFrame(p) if p.ssrc != ssrc)));
    let told = take(&mut world, "bob");
    let bwe = |what: &Trace| matches!(what, Trace::Bwe { desired_bps: 1.., .. });
    assert!(of(&told, bwe, true) > 0, "{told:?}");
    // It ends.
    set(&mut world, ResourceKind::Producer, "camera", &[]).unwrap();
    world.run(2 * SECOND);
    assert!(take(&mut world, "camera").is_empty());
    world.assert_no_faults();
}

#[test]
fn each_packet_is_told_in_order_and_too_many_are_counted() {
    let mut world = World::new(1510);
    let alice = world.join("alice");
    world.publish_audio(alice, "mic");
    let bob = world.join("bob");
    let ssrc = world.consume(bob, "mic");
    set(&mut world, ResourceKind::Producer, "mic", &[TraceKind::Rtp]).unwrap();
    set(&mut world, ResourceKind::Consumer, "bob/mic", &[TraceKind::Rtp]).unwrap();
    world.run(3 * SECOND);
    let numbers = |told: Vec<Traced>| -> Vec<(u16, u32, u32)> {
        let numbers = told.into_iter().filter_map(|one| match one.what {
            Trace::Rtp(packet) => {
                assert!(packet.payload_size > 0 && packet.size > packet.payload_size);
                Some((packet.sequence_number, packet.timestamp, packet.ssrc))
            }
            _ => None,
        });
        numbers.collect()
    };
    let (came, left) = (numbers(take(&mut world, "mic")), numbers(take(&mut world, "bob/mic")));
    assert!(came.len() > 140 && left.len() > 130, "{} {}", came.len(), left.len());
    for told in [&came, &left] {
        assert!(told.windows(2).all(|pair| pair[1].0.wrapping_sub(pair[0].0) == 1), "{told:?}");
    }
    assert!(left.iter().all(|one| one.2 == ssrc));
    // A camera of many packets: no more than the limit of a second, the rest is counted.
    let camera = world.publish_simulcast(alice, "camera", 3);
    camera.sources[2].packets_per_frame = 60;
    world.consume(bob, "camera");
    set(&mut world, ResourceKind::Producer, "camera", &[TraceKind::Rtp]).unwrap();
    world.run(3 * SECOND);
    let told = take(&mut world, "camera").len();
    assert!(told <= 4 * EVENTS_PER_S_MAX as usize, "{told}");
    assert!(world.counter("traces_dropped") > 0);
    world.assert_no_faults();
}

#[test]
fn what_cannot_be_traced_is_refused() {
    let mut world = World::new(1520);
    let alice = world.join("alice");
    world.publish_audio(alice, "mic");
    for (kind, id, types, code) in [
        (ResourceKind::Producer, "no", TraceKind::Rtp, ErrorCode::NotFound),
        (ResourceKind::Transport, "mic", TraceKind::Bwe, ErrorCode::NotFound),
        (ResourceKind::Transport, "alice", TraceKind::Rtp, ErrorCode::Invalid),
        (ResourceKind::Producer, "mic", TraceKind::Bwe, ErrorCode::Invalid),
        (ResourceKind::Router, "room", TraceKind::Rtp, ErrorCode::Invalid),
    ] {
        assert_eq!(set(&mut world, kind, id, &[types]), Err(code), "{kind:?} {id} {types:?}");
    }
    // What is gone leaves room for others.
    for _ in 0..200 {
        world.publish_simulcast(alice, "camera", 3);
        set(&mut world, ResourceKind::Producer, "camera", &[TraceKind::Rtp]).unwrap();
        world.worker().apply_close_producer("camera").unwrap();
    }
}
