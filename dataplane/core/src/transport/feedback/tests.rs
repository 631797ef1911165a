use std::collections::BTreeMap;

use proptest::prelude::*;
use webrtc_util::marshal::{Marshal, Unmarshal};

use super::*;
use crate::wire::rtcp::{self, Packet};
use ::rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

/// Drains all messages into datagrams of `room` bytes; each holds one message.
fn drain(feedback: &mut TransportFeedback, room: usize) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    while feedback.is_pending() {
        let mut buffer = vec![0; room];
        let mut compound = CompoundWriter::new(&mut buffer);
        feedback.write(&mut compound, 1, 2).unwrap();
        let len = compound.len();
        datagrams.push(buffer[..len].to_vec());
    }
    datagrams
}

/// What the publisher reads: arrivals in microseconds by number, `None` for lost ones.
fn read(datagrams: &[Vec<u8>]) -> BTreeMap<u16, Option<i64>> {
    let mut all = BTreeMap::new();
    for datagram in datagrams {
        let mut packets = rtcp::packets(datagram);
        let Some(Ok(Packet::TransportFeedback { sender_ssrc, media_ssrc, feedback })) =
            packets.next()
        else {
            panic!("not a feedback message: {datagram:x?}");
        };
        assert_eq!((sender_ssrc, media_ssrc), (1, 2));
        assert!(packets.next().is_none());
        for status in feedback.packets() {
            let known: &mut Option<i64> = all.entry(status.sequence).or_default();
            *known = known.or(status.arrival_us);
        }
    }
    all
}

#[test]
fn arrivals_losses_and_reordering_across_the_wrap() {
    let mut feedback = TransportFeedback::default();
    for (seq, ms) in [(65_534, 1_000), (0, 1_005), (65_535, 1_007), (3, 1_100)] {
        feedback.receive(seq, Arrival::at(ms * MS));
    }
    feedback.receive(0, Arrival::at(2_000 * MS));
    assert_eq!(feedback.deadline(), Some(1_100 * MS));
    let datagrams = drain(&mut feedback, 200);
    assert_eq!(datagrams.len(), 1);
    let expected = [
        (0, Some(1_005_000)),
        (1, None),
        (2, None),
        (3, Some(1_100_000)),
        (65_534, Some(1_000_000)),
        (65_535, Some(1_007_000)),
    ];
    assert_eq!(read(&datagrams), expected.into());
    assert_eq!((feedback.is_pending(), feedback.deadline()), (false, None));
}

#[test]
fn a_late_packet_is_reported_with_all_since_then() {
    let mut feedback = TransportFeedback::default();
    feedback.receive(10, Arrival::at(0));
    feedback.receive(12, Arrival::at(MS));
    assert_eq!(read(&drain(&mut feedback, 200)).get(&11), Some(&None));
    feedback.receive(11, Arrival::at(2 * MS));
    feedback.receive(13, Arrival::at(3 * MS));
    let again = read(&drain(&mut feedback, 200));
    assert_eq!(again.keys().copied().collect::<Vec<_>>(), [11, 12, 13]);
    assert_eq!(again[&11], Some(2_000));
    // Too late, or before the very first: nothing happens.
    feedback.receive(13 + LATE_MAX as u16 + 1, Arrival::at(4 * MS));
    drain(&mut feedback, 200);
    feedback.receive(12, Arrival::at(4 * MS));
    feedback.receive(9, Arrival::at(4 * MS));
    assert!(!feedback.is_pending());
}

#[test]
fn long_silence_starts_a_new_message() {
    let mut feedback = TransportFeedback::default();
    feedback.receive(1, Arrival::at(0));
    feedback.receive(2, Arrival::at(9_000 * MS));
    feedback.receive(3, Arrival::at(9_001 * MS));
    let datagrams = drain(&mut feedback, 200);
    assert_eq!(datagrams.len(), 2);
    assert_eq!(read(&datagrams)[&3], Some(9_001_000));
    let counts: Vec<_> = datagrams.iter().map(|d| d[19]).collect();
    assert_eq!(counts, [0, 1]);
}

#[test]
fn a_crowd_is_reported_at_once_and_the_ring_is_never_exceeded() {
    let mut feedback = TransportFeedback::default();
    for seq in 0..CROWDED as u16 {
        feedback.receive(seq, Arrival::at(Nanos::from(seq) * 1_000));
    }
    assert_eq!(feedback.deadline(), Some(0));
    for seq in CROWDED as u16..5_000 {
        feedback.receive(seq, Arrival::at(Nanos::from(seq) * 1_000));
    }
    let all = read(&drain(&mut feedback, 1_200));
    assert_eq!((all.len(), all.values().flatten().count()), (5_000, 5_000));
    for seq in 5_000..20_000 {
        feedback.receive(seq, Arrival::at(Nanos::from(seq) * 1_000));
    }
    let all = read(&drain(&mut feedback, 1_200));
    assert_eq!(all.len(), CAPACITY_MAX);
    assert_eq!(all.keys().next(), Some(&(20_000 - CAPACITY_MAX as u16)));
    assert_eq!(feedback.ring.len(), CAPACITY);
    // Far jumps, forward and backward.
    feedback.receive(20_000 + 0x7000, Arrival::at(0));
    feedback.receive(17_000, Arrival::at(0));
    assert_eq!(read(&drain(&mut feedback, 1_200)).len(), CAPACITY);
}

#[test]
fn a_buffer_that_is_too_small_loses_nothing() {
    let mut feedback = TransportFeedback::default();
    feedback.receive(1, Arrival::at(0));
    let mut buffer = [0; 20];
    let mut compound = CompoundWriter::new(&mut buffer);
    assert_eq!(feedback.write(&mut compound, 1, 2), Err(Full));
    assert!(feedback.is_pending() && compound.is_empty());
    assert_eq!(read(&drain(&mut feedback, 64)).len(), 1);
}

/// Each long way costs as much as thousands of packets.
#[test]
fn outages_are_reported_and_numbers_that_jump_all_the_time_are_not() {
    let mut feedback = TransportFeedback::default();
    let reported =
        |feedback: &mut TransportFeedback| read(&drain(feedback, 1_200)).values().flatten().count();
    let (mut seq, mut now) = (0_u16, 0);
    let mut told = Vec::new();
    // A second with 1,000 packets, each 8,000 numbers behind the last.
    for _ in 0..1_000 {
        (seq, now) = (seq.wrapping_add(8_000), now + MS);
        feedback.receive(seq, Arrival::at(now));
        told.push(reported(&mut feedback));
    }
    assert!((16..=40).contains(&told.iter().sum::<usize>()), "{}", told.iter().sum::<usize>());
    assert!(feedback.take_ignored() > 500);
    // One that goes on in order is reported whole again, and an outage of 1,000 packets too.
    now += 10 * OUTAGE_EVERY;
    let next = feedback.next as u16;
    for seq in (0..100).chain(1_100..1_200) {
        feedback.receive(next.wrapping_add(seq), Arrival::at(now));
    }
    assert_eq!(reported(&mut feedback), 200);
}

fn arrivals() -> impl Strategy<Value = Vec<(u16, Nanos)>> {
    let step = (prop_oneof![8 => 1u16..3, 1 => 3u16..60], 0u64..30, 0u64..40);
    (any::<u16>(), prop::collection::vec(step, 1..300)).prop_map(|(first, steps)| {
        let (mut seq, mut now) = (first, 5_000u64);
        steps
            .into_iter()
            .map(|(gap, wait, early)| {
                seq = seq.wrapping_add(gap);
                now += wait;
                // Reordering in time: kernel timestamps of two queues.
                (seq, (now - early) * MS)
            })
            .collect()
    })
}

proptest! {
    /// Several messages in datagrams of any size say exactly what came, to a tick; the independent
    /// crate reads the same bytes, and writes the same bytes again.
    #[test]
    fn the_publisher_learns_what_came(arrivals in arrivals(), room in 64usize..1_200) {
        let mut feedback = TransportFeedback::default();
        let mut expected = BTreeMap::new();
        let mut datagrams = Vec::new();
        for chunk in arrivals.chunks(50) {
            for &(seq, arrival) in chunk {
                feedback.receive(seq, Arrival::at(arrival));
                expected.insert(seq, arrival);
            }
            datagrams.extend(drain(&mut feedback, room));
        }
        let read = read(&datagrams);
        for (seq, arrival) in &expected {
            let tick = (arrival / TICK) as i64 * TICK_US;
            prop_assert_eq!(read.get(seq).copied().flatten(), Some(tick), "{}", seq);
        }
        let received = read.values().flatten().count();
        prop_assert_eq!(received, expected.len());
        for datagram in &datagrams {
            let theirs = TransportLayerCc::unmarshal(&mut &datagram[..]).unwrap();
            let Some(Ok(Packet::TransportFeedback { feedback, .. })) =
                rtcp::packets(datagram).next()
            else {
                panic!();
            };
            prop_assert_eq!(theirs.base_sequence_number, feedback.base_sequence);
            prop_assert_eq!(theirs.packet_status_count, feedback.status_count);
            prop_assert_eq!(theirs.reference_time, feedback.reference_time as u32 & 0xff_ffff);
            prop_assert_eq!(theirs.fb_pkt_count, feedback.feedback_count);
            let mut ticks = i64::from(feedback.reference_time) * 64_000;
            let sums: Vec<_> = theirs
                .recv_deltas
                .iter()
                .map(|delta| {
                    ticks += delta.delta;
                    ticks
                })
                .collect();
            let ours: Vec<_> = feedback.packets().filter_map(|p| p.arrival_us).collect();
            prop_assert_eq!(ours, sums);
            // Written again by them and read by us.
            let again = theirs.marshal().unwrap();
            let Some(Ok(Packet::TransportFeedback { feedback: back, .. })) =
                rtcp::packets(&again).next()
            else {
                panic!();
            };
            let statuses = |f: &crate::wire::twcc::Feedback<'_>| f.packets().collect::<Vec<_>>();
            prop_assert_eq!(statuses(&back), statuses(&feedback));
        }
    }

    #[test]
    fn arbitrary_arrivals_never_panic(
        arrivals in prop::collection::vec((any::<u16>(), any::<u64>(), any::<bool>()), 1..100),
    ) {
        let mut feedback = TransportFeedback::default();
        for (seq, arrival, report) in arrivals {
            feedback.receive(seq, Arrival::at(arrival));
            if report {
                read(&drain(&mut feedback, 300));
            }
        }
        let messages = drain(&mut feedback, 300).len();
        prop_assert!(messages <= CAPACITY);
    }
}
