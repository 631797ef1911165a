use super::*;
use crate::payload;

fn options() -> VideoOptions {
    VideoOptions {
        extensions: ExtensionIds {
            mid: Some(1),
            rid: Some(2),
            repaired_rid: Some(3),
            abs_send_time: Some(4),
            transport_cc: Some(5),
            audio_level: None,
        },
        ..VideoOptions::default()
    }
}

#[test]
fn packets_of_a_frame_differ_by_one_byte_at_most() {
    for (bytes, max) in [(1, 1_100), (1_100, 1_100), (1_101, 1_100), (10_417, 1_100), (88, 50)] {
        let sizes = even_sizes(bytes, max, 16);
        assert_eq!(sizes.iter().sum::<usize>(), bytes.max(16 + STAMPED_BYTES_MIN));
        assert!(sizes.iter().all(|&size| size <= max));
        assert!(sizes.is_sorted() && sizes[sizes.len() - 1] - sizes[0] <= 1);
    }
}

#[test]
fn frames_carry_their_layers_and_stamps() {
    let mut source = Source::video(options(), 0);
    let packets = source.frame(33_000_000);
    let rids: Vec<&[u8]> = packets
        .iter()
        .filter_map(|one| one.header.extensions.iter().find(|ext| ext.id == 2))
        .map(|ext| &ext.payload[..])
        .collect();
    assert!([&b"q"[..], b"h", b"f"].iter().all(|rid| rids.contains(rid)));
    for mut outgoing in packets {
        let stamp_at = outgoing.stamp_at;
        payload::finish(&mut outgoing.payload[stamp_at..], 5);
        let stamp = payload::read(&outgoing.payload).expect("a stamp");
        assert!(stamp.key && stamp.frame == 0 && stamp.sent_ns == 5);
        let descriptor = Vp8Descriptor::read(&outgoing.payload).expect("a descriptor");
        assert_eq!(descriptor.start, stamp.part == 0);
        assert_eq!(outgoing.header.marker, stamp.part + 1 == stamp.parts);
    }
    assert!(!payload_of_key(&mut source), "the second frame is no key frame");
    let pli = rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication {
        sender_ssrc: 1,
        media_ssrc: source.streams[0].ssrc,
    };
    let boxed: RtcpPacket = Box::new(pli);
    assert!(source.receive_rtcp(&boxed, 0, 0).is_empty());
    assert!(payload_of_key(&mut source), "the next one after a request is");
}

fn payload_of_key(source: &mut Source) -> bool {
    let packets = source.frame(66_000_000);
    Vp8Descriptor::read(&packets[0].payload).expect("a descriptor").key
}

#[test]
fn a_nack_is_answered_by_rtx_or_by_the_same_datagram() {
    use rtcp::transport_feedbacks::transport_layer_nack::{
        TransportLayerNack, nack_pairs_from_sequence_numbers,
    };
    for rtx in [true, false] {
        let options = if rtx { options() } else { options().without_rtx() };
        let mut source = Source::video(options, 0);
        let first = source.frame(0).remove(0);
        let packet = rtp::packet::Packet { header: first.header, payload: first.payload.into() };
        let sealed = bytes::Bytes::from_static(b"sealed");
        source.sent(first.stream, packet.clone(), sealed.clone());
        let nack: RtcpPacket = Box::new(TransportLayerNack {
            sender_ssrc: 1,
            media_ssrc: packet.header.ssrc,
            nacks: nack_pairs_from_sequence_numbers(&[packet.header.sequence_number]),
        });
        let repeats = source.receive_rtcp(&nack, 0, 0);
        match &repeats[..] {
            [Repeat::Rtx(repeat)] if rtx => {
                let original = crate::rtx::unwrap(repeat, packet.header.ssrc, 96);
                let original = original.expect("not empty");
                assert_eq!(original.payload, packet.payload);
                assert_eq!(original.header.sequence_number, packet.header.sequence_number);
            }
            [Repeat::Sealed(again)] if !rtx => assert_eq!(*again, sealed),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_codec_marks_its_key_frames() {
    for codec in [VideoCodec::Vp8, VideoCodec::H264, VideoCodec::Vp9] {
        let mut source =
            Source::video(VideoOptions { codec, ..VideoOptions::single(2_500_000) }, 0);
        for frame in 0..3u64 {
            let packets = source.frame(frame * 33_000_000);
            let first = &packets[0].payload;
            let key = match codec {
                VideoCodec::Vp8 => first[6] & 1 == 0,
                VideoCodec::H264 => first[0] & 31 == 24,
                VideoCodec::Vp9 => first[0] & 0x48 == 0x08,
            };
            assert_eq!(key, frame == 0, "{codec:?} frame {frame}");
            assert!(packets.len() > 5);
        }
    }
}
