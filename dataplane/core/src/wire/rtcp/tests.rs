//! Own writer against own reader, and both against the independent `rtcp` crate.

use ::rtcp::{
    extended_report as xr,
    goodbye::Goodbye as TheirGoodbye,
    packet::Packet as TheirPacket,
    payload_feedbacks::{
        full_intra_request::{FirEntry, FullIntraRequest as TheirFir},
        picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport as TheirReceiverReport,
    reception_report::ReceptionReport,
    sender_report::SenderReport as TheirSenderReport,
    source_description::{
        SdesType, SourceDescription as TheirDescription, SourceDescriptionChunk,
        SourceDescriptionItem,
    },
    transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    },
};
use proptest::prelude::*;
use webrtc_util::marshal::Marshal;

use super::*;
use crate::wire::Full;

type Written = Result<(), Full>;

fn compound(write: impl FnOnce(&mut CompoundWriter<'_>) -> Written) -> Vec<u8> {
    let mut buffer = [0xee; 4_000];
    let mut writer = CompoundWriter::new(&mut buffer);
    write(&mut writer).unwrap();
    let len = writer.len();
    buffer[..len].to_vec()
}

fn all(bytes: &[u8]) -> Vec<Packet<'_>> {
    packets(bytes).map(Result::unwrap).collect()
}

fn only(bytes: &[u8]) -> Packet<'_> {
    let all = all(bytes);
    assert_eq!(all.len(), 1);
    all[0]
}

fn theirs<T: TheirPacket + Clone + 'static>(bytes: &[u8]) -> T {
    let packets = ::rtcp::packet::unmarshal(&mut &bytes[..]).unwrap();
    packets[0].as_any().downcast_ref::<T>().unwrap().clone()
}

fn block() -> impl Strategy<Value = ReportBlock> {
    (any::<[u32; 5]>(), any::<u8>(), -0x80_0000i32..0x80_0000).prop_map(
        |([ssrc, highest_sequence, jitter, last_sender_report, delay], fraction_lost, lost)| {
            ReportBlock {
                ssrc,
                fraction_lost,
                cumulative_lost: lost,
                highest_sequence,
                jitter,
                last_sender_report,
                delay,
            }
        },
    )
}

fn their_block(block: &ReportBlock) -> ReceptionReport {
    ReceptionReport {
        ssrc: block.ssrc,
        fraction_lost: block.fraction_lost,
        total_lost: block.cumulative_lost.cast_unsigned() & 0xff_ffff,
        last_sequence_number: block.highest_sequence,
        jitter: block.jitter,
        last_sender_report: block.last_sender_report,
        delay: block.delay,
    }
}

fn info() -> impl Strategy<Value = SenderInfo> {
    (any::<[u32; 4]>(), any::<u64>()).prop_map(
        |([ssrc, rtp_timestamp, packet_count, octet_count], ntp)| SenderInfo {
            ssrc,
            ntp,
            rtp_timestamp,
            packet_count,
            octet_count,
        },
    )
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        kind in 198u8..210,
        honest in any::<bool>(),
    ) {
        if honest && bytes.len() >= 4 {
            bytes.truncate(bytes.len() & !3);
            bytes[0] = bytes[0] & 0x1f | 0x80;
            bytes[1] = kind;
            let words = (bytes.len() / 4 - 1) as u16;
            bytes[2..4].copy_from_slice(&words.to_be_bytes());
        }
        read_all(&bytes);
    }

    #[test]
    fn sender_reports(info in info(), blocks in prop::collection::vec(block(), 0..31)) {
        let ours = compound(|w| w.sender_report(&info, &blocks));
        let Packet::SenderReport(report) = only(&ours) else { panic!() };
        prop_assert_eq!(report.info, info);
        prop_assert_eq!(report.reports.iter().collect::<Vec<_>>(), blocks.clone());
        let expected = TheirSenderReport {
            ssrc: info.ssrc,
            ntp_time: info.ntp,
            rtp_time: info.rtp_timestamp,
            packet_count: info.packet_count,
            octet_count: info.octet_count,
            reports: blocks.iter().map(their_block).collect(),
            profile_extensions: Default::default(),
        };
        prop_assert_eq!(theirs::<TheirSenderReport>(&ours), expected.clone());
        // Their writer takes 24 unsigned bits of losses, as we do.
        prop_assert_eq!(&expected.marshal().unwrap()[..], &ours[..]);
    }

    #[test]
    fn receiver_reports(ssrc: u32, blocks in prop::collection::vec(block(), 0..80)) {
        let ours = compound(|w| w.receiver_report(ssrc, &blocks));
        let mut read = Vec::new();
        for packet in all(&ours) {
            let Packet::ReceiverReport(report) = packet else { panic!() };
            prop_assert_eq!(report.ssrc, ssrc);
            read.extend(report.reports.iter());
        }
        prop_assert_eq!(&read, &blocks);
        prop_assert_eq!(all(&ours).len(), blocks.len().div_ceil(31).max(1));
        let first = theirs::<TheirReceiverReport>(&ours);
        let expected: Vec<_> = blocks.iter().take(31).map(their_block).collect();
        prop_assert_eq!(first.reports, expected);
    }

    #[test]
    fn nacks(set in prop::collection::btree_set(any::<u16>(), 1..100), sender: u32, media: u32) {
        let list: Vec<_> = set.into_iter().collect();
        let ours = compound(|w| w.nack(sender, media, &list));
        let Packet::Nack(nack) = only(&ours) else { panic!() };
        prop_assert_eq!((nack.sender_ssrc, nack.media_ssrc), (sender, media));
        prop_assert_eq!(nack.sequences().collect::<Vec<_>>(), list.clone());
        let nacks = nack_pairs_from_sequence_numbers(&list);
        let expected = TransportLayerNack { sender_ssrc: sender, media_ssrc: media, nacks };
        prop_assert_eq!(theirs::<TransportLayerNack>(&ours), expected.clone());
        let bytes = expected.marshal().unwrap();
        let Packet::Nack(nack) = only(&bytes) else { panic!() };
        prop_assert_eq!(nack.sequences().collect::<Vec<_>>(), list);
    }

    #[test]
    fn key_frame_requests(
        sender: u32,
        media: u32,
        entries in prop::collection::vec(any::<(u32, u8)>(), 1..20),
    ) {
        let ours = compound(|w| {
            w.picture_loss(sender, media)?;
            w.full_intra(sender, &entries)
        });
        let read = all(&ours);
        let Packet::PictureLoss { sender_ssrc, media_ssrc } = read[0] else { panic!() };
        prop_assert_eq!((sender_ssrc, media_ssrc), (sender, media));
        let Packet::FullIntraRequest(fir) = read[1] else { panic!() };
        prop_assert_eq!(fir.entries().collect::<Vec<_>>(), entries.clone());
        let pli = PictureLossIndication { sender_ssrc: sender, media_ssrc: media };
        prop_assert_eq!(theirs::<PictureLossIndication>(&ours), pli.clone());
        prop_assert_eq!(&pli.marshal().unwrap()[..], &ours[..12]);
        let fir = entries.iter().map(|&(ssrc, sequence_number)| FirEntry { ssrc, sequence_number });
        let fir = TheirFir { sender_ssrc: sender, media_ssrc: 0, fir: fir.collect() };
        prop_assert_eq!(&fir.marshal().unwrap()[..], &ours[12..]);
    }

    #[test]
    fn maximum_bitrates(
        sender: u32,
        bitrate: u64,
        ssrcs in prop::collection::vec(any::<u32>(), 0..20),
    ) {
        let ours = compound(|w| w.maximum_bitrate(sender, bitrate, &ssrcs));
        let Packet::MaximumBitrate(remb) = only(&ours) else { panic!() };
        prop_assert_eq!(remb.sender_ssrc, sender);
        prop_assert_eq!(remb.ssrcs().collect::<Vec<_>>(), ssrcs.clone());
        prop_assert!(remb.bitrate_bps <= bitrate);
        prop_assert!(bitrate - remb.bitrate_bps <= bitrate >> 17);
        let read = theirs::<ReceiverEstimatedMaximumBitrate>(&ours);
        prop_assert_eq!(&read.ssrcs, &ssrcs);
        prop_assert_eq!(f64::from(read.bitrate), remb.bitrate_bps as f64);
        let bytes = read.marshal().unwrap();
        let Packet::MaximumBitrate(again) = only(&bytes) else { panic!() };
        prop_assert_eq!(again.bitrate_bps, remb.bitrate_bps);
    }

    #[test]
    fn names_and_goodbyes(
        ssrc: u32,
        name in "[a-z0-9@.]{0,60}",
        gone in prop::collection::vec(any::<u32>(), 1..31),
    ) {
        let ours = compound(|w| {
            w.cname(ssrc, &name)?;
            w.goodbye(&gone)
        });
        let read = all(&ours);
        let Packet::SourceDescription(names) = read[0] else { panic!() };
        prop_assert_eq!(names.cnames().collect::<Vec<_>>(), [(ssrc, name.as_bytes())]);
        let Packet::Goodbye(goodbye) = read[1] else { panic!() };
        prop_assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), gone.clone());
        let item = SourceDescriptionItem {
            sdes_type: SdesType::SdesCname,
            text: name.clone().into_bytes().into(),
        };
        let other = SourceDescriptionItem {
            sdes_type: SdesType::SdesTool,
            text: b"tool".to_vec().into(),
        };
        let chunk = |items| SourceDescriptionChunk { source: ssrc, items };
        let mut expected = TheirDescription { chunks: vec![chunk(vec![item.clone()])] };
        prop_assert_eq!(theirs::<TheirDescription>(&ours), expected.clone());
        expected.chunks.insert(0, chunk(vec![other.clone()]));
        expected.chunks.push(chunk(vec![other, item]));
        let bytes = expected.marshal().unwrap();
        let Packet::SourceDescription(names) = only(&bytes) else { panic!() };
        let found = (ssrc, name.as_bytes());
        prop_assert_eq!(names.cnames().collect::<Vec<_>>(), [found, found]);
        let goodbye = TheirGoodbye { sources: gone.clone(), reason: b"enough".to_vec().into() };
        let bytes = goodbye.marshal().unwrap();
        let Packet::Goodbye(goodbye) = only(&bytes) else { panic!() };
        prop_assert_eq!(goodbye.ssrcs().collect::<Vec<_>>(), gone);
    }

    #[test]
    fn extended_reports(
        ssrc: u32,
        ntp: u64,
        reports in prop::collection::vec(any::<[u32; 3]>(), 0..20),
    ) {
        let reports: Vec<_> = reports
            .into_iter()
            .map(|[ssrc, last_reference_time, delay]| {
                DlrrReport { ssrc, last_reference_time, delay }
            })
            .collect();
        let ours = compound(|w| {
            w.reference_time(ssrc, ntp)?;
            w.dlrr(ssrc, &reports)
        });
        let read = |bytes: &[u8]| {
            let mut times = Vec::new();
            let mut delays = Vec::new();
            for packet in all(bytes) {
                let Packet::ExtendedReport(report) = packet else { panic!() };
                assert_eq!(report.ssrc, ssrc);
                for block in report.blocks() {
                    match block {
                        ExtendedBlock::ReceiverReferenceTime(ntp) => times.push(ntp),
                        ExtendedBlock::Dlrr(dlrr) => delays.extend(dlrr.reports()),
                        ExtendedBlock::Other(_) => panic!(),
                    }
                }
            }
            (times, delays)
        };
        prop_assert_eq!(read(&ours), (vec![ntp], reports.clone()));
        let dlrr = xr::dlrr::DLRRReportBlock {
            reports: reports
                .iter()
                .map(|r| xr::dlrr::DLRRReport {
                    ssrc: r.ssrc,
                    last_rr: r.last_reference_time,
                    dlrr: r.delay,
                })
                .collect(),
        };
        let time = xr::rrt::ReceiverReferenceTimeReportBlock { ntp_timestamp: ntp };
        let expected = xr::ExtendedReport {
            sender_ssrc: ssrc,
            reports: vec![Box::new(time), Box::new(dlrr)],
        };
        prop_assert_eq!(read(&expected.marshal().unwrap()), (vec![ntp], reports));
    }

    /// Whatever does not fit leaves what was there before.
    #[test]
    fn a_full_buffer_keeps_whole_packets(
        room in 0usize..200,
        blocks in prop::collection::vec(block(), 0..5),
    ) {
        let mut buffer = [0; 200];
        let mut writer = CompoundWriter::new(&mut buffer[..room]);
        let mut expected = 0;
        expected += usize::from(writer.sender_report(&SenderInfo::default(), &blocks).is_ok());
        expected += usize::from(writer.cname(1, "someone").is_ok());
        expected += usize::from(writer.nack(1, 2, &[1, 2, 3, 500]).is_ok());
        expected += usize::from(writer.maximum_bitrate(1, 1_000_000, &[1, 2]).is_ok());
        expected += usize::from(writer.goodbye(&[1, 2]).is_ok());
        prop_assert_eq!(writer.is_empty(), expected == 0);
        let len = writer.len();
        prop_assert!(len <= room);
        if expected > 0 {
            prop_assert_eq!(all(&buffer[..len]).len(), expected);
        }
    }
}

/// Walks through everything that a reader could ask.
fn read_all(bytes: &[u8]) {
    for packet in packets(bytes).flatten() {
        match packet {
            Packet::SenderReport(report) => drop(report.reports.iter().count()),
            Packet::ReceiverReport(report) => drop(report.reports.iter().count()),
            Packet::SourceDescription(names) => drop(names.cnames().count()),
            Packet::Goodbye(goodbye) => drop(goodbye.ssrcs().count()),
            Packet::Nack(nack) => drop(nack.sequences().count()),
            Packet::TransportFeedback { feedback, .. } => drop(feedback.packets().count()),
            Packet::PauseResume(pauses) => drop(pauses.requests().count()),
            Packet::FullIntraRequest(request) => drop(request.entries().count()),
            Packet::MaximumBitrate(remb) => drop(remb.ssrcs().count()),
            Packet::ExtendedReport(report) => {
                for block in report.blocks() {
                    if let ExtendedBlock::Dlrr(dlrr) = block {
                        dlrr.reports().count();
                    }
                }
            }
            Packet::PictureLoss { .. } | Packet::Other { .. } => {}
        }
    }
}

#[test]
fn a_broken_structure_ends_the_compound() {
    let good = compound(|w| w.picture_loss(1, 2));
    for (name, tail) in [
        ("cut short", &[0x80, 201, 0, 1][..]),
        ("wrong version", &[0x40, 201, 0, 0]),
        ("three bytes", &[0x80, 201, 0]),
        ("padding of zero", &[0xa0, 204, 0, 1, 0, 0, 0, 0]),
        ("padding above the packet", &[0xa0, 204, 0, 1, 0, 0, 0, 8]),
        ("padding without a place", &[0xa0, 204, 0, 0]),
    ] {
        let bytes = [&good[..], tail].concat();
        let mut read = packets(&bytes);
        assert!(matches!(read.next(), Some(Ok(Packet::PictureLoss { .. }))));
        assert_eq!(read.next().unwrap().err(), Some(Discard::RtcpMalformed), "{name}");
        assert!(read.next().is_none());
    }
    assert_eq!(packets(&[]).next().unwrap().err(), Some(Discard::RtcpMalformed));
}

#[test]
fn what_is_not_known_is_passed_over() {
    let pli = compound(|w| w.picture_loss(1, 2));
    // APP; a sender report that announces more blocks than it has; a NACK without SSRCs.
    let bytes = [
        &[0x81, 204, 0, 2, 0, 0, 0, 1, b'n', b'a', b'm', b'e'][..],
        &[0x85, 200, 0, 1, 0, 0, 0, 1],
        &[0x81, 205, 0, 0],
        &pli,
    ]
    .concat();
    let read = all(&bytes);
    let kind = |packet: &Packet<'_>| match packet {
        Packet::Other { packet_type, count } => Some((*packet_type, *count)),
        _ => None,
    };
    let kinds: Vec<_> = read.iter().map(kind).collect();
    assert_eq!(kinds, [Some((204, 1)), Some((200, 5)), Some((205, 1)), None]);
}

#[test]
fn times_and_round_trips() {
    let ntp = ntp_from_unix(1_500 * crate::MS);
    assert_eq!(ntp, (2_208_988_801 << 32) | 0x8000_0000);
    assert_eq!(ntp_middle(ntp), 0x7e81_8000);
    assert_eq!(short_from_nanos(1_500 * crate::MS), 0x1_8000);
    assert_eq!(nanos_from_short(0x1_8000), 1_500 * crate::MS);
    // RFC 3550, figure 2: 6.125 s.
    let trip = round_trip(0xb710_8000, 0xb705_2000, 0x0005_4000);
    assert_eq!(trip, Some(6_125 * crate::MS));
    assert_eq!(round_trip(5, 0, 0), None);
    assert_eq!(round_trip(1_000, 2_000, 0), None);
    assert_eq!(round_trip(1_000, 1_001, 0), Some(nanos_from_short(1)));
}

#[test]
fn pauses_are_read_back_and_answers_are_passed_over() {
    let pause = |ssrc, is_paused, number| Pause { ssrc, is_paused, number };
    let requests = [pause(7, true, 1), pause(8, false, 65_535), pause(9, true, 300)];
    let bytes = compound(|w| w.pause_resume(1, &requests));
    assert_eq!(bytes[..4], [0x89, 205, 0, 2 + 2 * 3]);
    let read = |bytes: &[u8]| match only(bytes) {
        Packet::PauseResume(packet) => packet.requests().collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    assert_eq!(read(&bytes), requests);
    // PAUSED with a word of its own, which is not for us.
    let mut answered = bytes.clone();
    answered[16..20].copy_from_slice(&[2 << 4, 1, 0, 1]);
    assert_eq!(read(&answered), [pause(0x1000_ffff, true, 9)], "its word is passed over");
    // Cut short in the middle of one, and one whose words are not there.
    let mut short = bytes.clone();
    short.truncate(bytes.len() - 4);
    short[3] -= 1;
    assert_eq!(read(&short), requests[..2]);
    let mut longer = bytes;
    let last = longer.len() - 4;
    longer[last + 1] = 3;
    assert_eq!(read(&longer), requests[..2]);
    assert_eq!(compound(|w| w.pause_resume(1, &[])), []);
}
