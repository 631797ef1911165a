//! Parsers and writers: the header of a forwarded packet, VP8's descriptor, STUN, RTCP,
//! transport-wide feedback. `cargo bench -p ironcast-core --bench wire`.

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, criterion_group, criterion_main};
use ironcast_core::{
    Arrival, MS,
    numbers::SourceSeq,
    recover::{
        history::{Forwarded, History, Meta},
        pool::Pool,
    },
    template::{HEADER_BYTES_MAX, HeaderFields, Template},
    transport::feedback::TransportFeedback,
    wire::{
        PayloadInfo,
        extension::{ExtensionKind, ExtensionMap},
        rtcp::{self, CompoundWriter, Packet, ReportBlock, SenderInfo},
        stun, vp8,
    },
};

/// What a datagram can carry.
const DATAGRAM_BYTES: usize = 1_200;

fn header(criterion: &mut Criterion) {
    let mut pool = Pool::new(1);
    let meta = Meta {
        seq: SourceSeq(1),
        timestamp: 1,
        arrival: Arrival::at(0),
        payload_offset: 20,
        payload_len: 100,
        padding: 0,
        marker: false,
        info: PayloadInfo::default(),
        extensions: Forwarded { audio_level: Some(30), ..Forwarded::default() },
    };
    let mut history = History::default();
    let buffer = pool.take(120).expect("memory");
    history.insert(meta, buffer, &mut pool).expect("a new number");
    let stored = history.packet(SourceSeq(1)).expect("just inserted");
    let mut map = ExtensionMap::default();
    for (id, kind) in
        [(1, ExtensionKind::Mid), (4, ExtensionKind::AbsSendTime), (10, ExtensionKind::AudioLevel)]
    {
        assert!(map.insert(id, kind));
    }
    let template = Template::new(96, 1_111, Some("0"), &map);
    let mut out = [0; HEADER_BYTES_MAX];
    let mut seq = 0u16;
    criterion.bench_function("header/write", |b| {
        b.iter(|| {
            seq = seq.wrapping_add(1);
            let fields = HeaderFields {
                rtx: None,
                marker: seq.is_multiple_of(10),
                seq,
                timestamp: u32::from(seq),
                abs_send_time: u32::from(seq),
                padding: false,
            };
            template.write(black_box(&mut out), stored, black_box(&fields))
        });
    });
    let mut payload = [0x90, 0xe0, 0x81, 0x02, 7, 0x40, 1, 0, 0, 0];
    criterion.bench_function("vp8/rewrite", |b| {
        b.iter(|| vp8::rewrite(black_box(&mut payload), 3, 1));
    });
    criterion.bench_function("vp8/parse", |b| {
        b.iter(|| vp8::Descriptor::parse(black_box(&payload)).expect("a descriptor"));
    });
}

fn connectivity_check(criterion: &mut Criterion) {
    let password = b"a-password-of-24-letters";
    let request = stun::Request {
        transaction_id: [7; 12],
        username: "0123abcd:wxyz",
        priority: 1,
        role: stun::Role::Controlling(1),
        use_candidate: true,
        nomination: None,
        dtls: None,
    };
    let mut check = [0; stun::MESSAGE_BYTES_MAX];
    let len = stun::write_request(&mut check, &request, password).expect("room");
    criterion.bench_function("stun/parse_and_verify", |b| {
        b.iter(|| {
            let message = stun::Message::parse(black_box(&check[..len])).expect("a check");
            assert!(message.verify_fingerprint() && message.verify_integrity(password));
            message.priority
        });
    });
    let mut answer = [0; stun::MESSAGE_BYTES_MAX];
    let mapped = ([192, 0, 2, 1], 40_000).into();
    criterion.bench_function("stun/write_answer", |b| {
        b.iter(|| stun::write_success(&mut answer, black_box(&[7; 12]), mapped, None, password));
    });
}

/// What a video receiver sends: a receiver report, a NACK, and feedback about 100 packets.
fn compound(buffer: &mut [u8]) -> usize {
    let mut feedback = feedback_of(100);
    let mut writer = CompoundWriter::new(buffer);
    writer.receiver_report(1, &[ReportBlock::default(); 2]).expect("room");
    writer.nack(1, 2, &[10, 11, 15, 40]).expect("room");
    feedback.write(&mut writer, 1, 2).expect("room");
    writer.len()
}

/// Arrivals in bursts; each 20th packet is lost.
fn feedback_of(packets: u16) -> TransportFeedback {
    let mut feedback = TransportFeedback::default();
    for seq in (0..packets).filter(|seq| seq % 20 != 7) {
        let at = 1_000 * MS + u64::from(seq / 10) * 10 * MS + u64::from(seq % 10);
        feedback.receive(seq, Arrival::at(at));
    }
    feedback
}

/// Looks at everything that a transport looks at.
fn read(datagram: &[u8]) -> usize {
    rtcp::packets(datagram)
        .map(|packet| match packet.expect("a well-formed compound") {
            Packet::ReceiverReport(report) => report.reports.iter().count(),
            Packet::Nack(nack) => nack.sequences().count(),
            Packet::TransportFeedback { feedback, .. } => {
                feedback.packets().filter(|status| status.arrival_us.is_some()).count()
            }
            other => panic!("{other:?}"),
        })
        .sum()
}

fn reports(criterion: &mut Criterion) {
    let mut datagram = [0; DATAGRAM_BYTES];
    let len = compound(&mut datagram);
    assert_eq!(read(&datagram[..len]), 2 + 4 + 95);
    criterion.bench_function("rtcp/read_rr_nack_twcc", |b| {
        b.iter(|| read(black_box(&datagram[..len])));
    });
    let mut out = [0; DATAGRAM_BYTES];
    let info = SenderInfo { ssrc: 1, ntp: 2, rtp_timestamp: 3, packet_count: 4, octet_count: 5 };
    criterion.bench_function("rtcp/write_sr_sdes", |b| {
        b.iter(|| {
            let mut writer = CompoundWriter::new(black_box(&mut out));
            writer.sender_report(&info, &[]).expect("room");
            writer.cname(1, "0123456789abcdef").expect("room");
            writer.len()
        });
    });
    let blocks = [ReportBlock::default(); 4];
    criterion.bench_function("rtcp/write_rr_of_4", |b| {
        b.iter(|| {
            let mut writer = CompoundWriter::new(black_box(&mut out));
            writer.receiver_report(1, black_box(&blocks)).expect("room");
            writer.len()
        });
    });
    // The arrivals are noted in the measured time: writing takes them away.
    criterion.bench_function("twcc/note_and_write_100", |b| {
        let (mut feedback, mut seq, mut now) = (TransportFeedback::default(), 0u16, 1_000 * MS);
        b.iter(|| {
            for _ in 0..100 {
                seq = seq.wrapping_add(1);
                now += MS;
                feedback.receive(seq, Arrival::at(now));
            }
            let mut writer = CompoundWriter::new(black_box(&mut out));
            feedback.write(&mut writer, 1, 2).expect("room");
            assert!(!feedback.is_pending());
            writer.len()
        });
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(Duration::from_secs(1));
    targets = header, connectivity_check, reports
}
criterion_main!(benches);
