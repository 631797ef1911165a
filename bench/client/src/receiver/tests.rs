use super::*;
use crate::source::{Source, VideoOptions};
use crate::{payload, peer};

/// The frames of one camera without simulcast, as they would arrive.
fn arrivals(frames: u64) -> Vec<RtpArrival> {
    let mut source = Source::video(VideoOptions::single(1_000_000), 0);
    let mut out = Vec::new();
    for frame in 0..frames {
        let now_ns = frame * 33_333_333;
        for mut one in source.frame(now_ns) {
            payload::finish(&mut one.payload[one.stamp_at..], now_ns);
            let packet = Packet { header: one.header, payload: one.payload.into() };
            let raw = peer::marshal_rtp(&packet).expect("can be written");
            out.push(RtpArrival { packet, raw, sealed: None, at_ns: now_ns + 1_000_000 });
        }
    }
    out
}

fn receiver(arrivals: &[RtpArrival]) -> ReceiveStream {
    let header = &arrivals[0].packet.header;
    ReceiveStream::new(ReceiveOptions {
        ssrc: header.ssrc,
        rtx_ssrc: Some(1),
        payload_type: header.payload_type,
        clock_hz: 90_000,
        nack: true,
        vp8: true,
    })
}

#[test]
fn a_clean_stream_is_all_frames_and_no_anomaly() {
    let arrivals = arrivals(30);
    let mut stream = receiver(&arrivals);
    for arrival in &arrivals {
        stream.receive(arrival);
    }
    let stats = stream.stats();
    assert_eq!((stats.frames, stats.decodable_frames, stats.key_frames), (30, 30, 1));
    assert_eq!((stats.lost, stats.corrupt, stats.verified), (0, 0, arrivals.len() as u64));
    assert!(stats.anomalies.is_empty(), "{:?}", stats.anomalies);
    assert_eq!(stats.delay_us.value_at_quantile(0.5) / 10, 100, "1 ms");
}

#[test]
fn a_hole_is_asked_for_and_filled_by_rtx() {
    let arrivals = arrivals(10);
    let mut stream = receiver(&arrivals);
    for (at, arrival) in arrivals.iter().enumerate() {
        if at != 7 {
            stream.receive(arrival);
        }
    }
    assert_eq!(stream.stats().lost, 1);
    let nack = stream.nack(1, 400_000_000).expect("something is missing");
    let nack = nack.as_any().downcast_ref::<TransportLayerNack>().expect("a NACK");
    let sequence = arrivals[7].packet.header.sequence_number;
    assert_eq!(nack.nacks[0].packet_list(), [sequence]);
    assert!(stream.nack(1, 401_000_000).is_none(), "not again at once");

    let mut repeat = arrivals[7].clone();
    repeat.packet.payload = rtx::wrap(&arrivals[7].packet);
    repeat.packet.header.ssrc = 1;
    stream.receive_rtx(&repeat);
    let stats = stream.stats();
    assert_eq!((stats.lost, stats.recovered, stats.frames), (0, 1, 10));
    assert_eq!(stats.decodable_frames, 10);
}

#[test]
fn what_never_comes_breaks_frames_until_a_key_frame() {
    let arrivals = arrivals(10);
    let mut stream = receiver(&arrivals);
    for (at, arrival) in arrivals.iter().enumerate() {
        if at != arrivals.len() - 1 - 4 {
            stream.receive(arrival);
        }
    }
    stream.expire(5_000_000_000);
    let stats = stream.stats();
    assert!(stats.broken_frames >= 1);
    assert!(stats.decodable_frames < 10);
    let report = stream.report(5_000_000_000).expect("packets came");
    assert_eq!(report.total_lost, 1);
    assert!(report.fraction_lost > 0);
}

#[test]
fn a_jump_of_the_picture_id_is_an_anomaly() {
    let mut arrivals = arrivals(3);
    let mut stream = receiver(&arrivals);
    let last = arrivals.last_mut().expect("packets");
    let mut payload = last.packet.payload.to_vec();
    payload[3] = payload[3].wrapping_add(9);
    last.packet.payload = payload.into();
    for arrival in &arrivals {
        stream.receive(arrival);
    }
    assert!(!stream.stats().anomalies.is_empty());
}
