use proptest::prelude::*;
use webrtc_util::marshal::{Marshal, MarshalSize, Unmarshal};

use super::*;

fn packet(hex: &[u8]) -> Header {
    Header::parse(hex).unwrap()
}

#[test]
fn all_parts_of_a_header() {
    let bytes = [
        0xb1, 0xe0, 0x12, 0x34, 0, 0, 0, 5, 0, 0, 0, 6, // P, X, one CSRC; M, 96
        0, 0, 0, 7, // CSRC
        0xbe, 0xde, 0, 2, 0x10, 0xaa, 0x00, 0x31, 1, 2, 0, 0, // two elements
        9, 9, 9, 0, 2, // payload and padding
    ];
    let header = packet(&bytes);
    assert_eq!((header.marker, header.payload_type), (true, 96));
    assert_eq!((header.sequence_number, header.timestamp, header.ssrc), (0x1234, 5, 6));
    assert_eq!((header.csrc_count, header.header_len(), header.padding_len), (1, 28, 2));
    assert_eq!((header.payload_range(), header.extension_range()), (28..31, 20..28));
    assert_eq!(header.payload(&bytes), [9, 9, 9]);
    let elements: Vec<_> = header.extensions(&bytes).collect();
    assert_eq!(elements, [(1, &[0xaa][..]), (3, &[1, 2])]);
    let offsets: Vec<_> = header.extensions(&bytes).with_offsets().map(|e| (e.0, e.1)).collect();
    assert_eq!(offsets, [(1, 21), (3, 24)]);
    for cut in 0..28 {
        assert_eq!(Header::parse(&bytes[..cut]), Err(Discard::RtpMalformed), "{cut}");
    }
}

#[test]
fn padding_is_resolved_after_decryption() {
    let mut bytes = [0u8; 40];
    bytes[..2].copy_from_slice(&[0xa0, 96]);
    bytes[39] = 250;
    assert_eq!(Header::parse(&bytes), Err(Discard::RtpMalformed));
    let mut header = Header::parse_protected(&bytes).unwrap();
    assert_eq!((header.padding_len, header.payload_range()), (0, 12..40));
    bytes[29] = 18;
    header.resolve_padding(&bytes[..30]).unwrap();
    assert_eq!((header.padding_len, header.payload_range()), (18, 12..12));
    for wrong in [0, 19] {
        bytes[29] = wrong;
        assert_eq!(header.resolve_padding(&bytes[..30]), Err(Discard::RtpMalformed));
    }
    assert_eq!(header.resolve_padding(&bytes[..11]), Err(Discard::RtpMalformed));
}

#[test]
fn elements_end_where_they_make_no_sense() {
    let with = |profile: u16, block: &[u8]| {
        let mut bytes = vec![0x90, 96, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend(profile.to_be_bytes());
        bytes.extend(((block.len() / 4) as u16).to_be_bytes());
        bytes.extend(block);
        let header = packet(&bytes);
        header.extensions(&bytes).map(|(id, value)| (id, value.to_vec())).collect::<Vec<_>>()
    };
    assert_eq!(with(0xbede, &[0x10, 1, 0xf0, 2, 0x20, 3, 0, 0]), [(1, vec![1])]);
    assert_eq!(with(0xbede, &[0x10, 1, 0x01, 2]), [(1, vec![1])]);
    assert_eq!(with(0xbede, &[0x10, 1, 0x2f, 2]), [(1, vec![1])]);
    assert_eq!(with(0x1003, &[20, 0, 0, 21, 1, 7, 22, 9]), [(20, vec![]), (21, vec![7])]);
    assert_eq!(with(0x1234, &[0x10, 1, 0, 0]), []);
}

#[test]
fn numbers_wrap() {
    assert!(is_newer(0, 0xffff) && !is_newer(0xffff, 0) && !is_newer(5, 5));
    assert!(is_newer_timestamp(10, u32::MAX) && !is_newer_timestamp(u32::MAX, 10));
    assert_eq!(extend(2, 0x1_ffff), 0x2_0002);
    assert_eq!(extend(0xffff, 0x2_0001), 0x1_ffff);
    let mut extender = SequenceExtender::default();
    let extended: Vec<_> = [3, 0xffff, 4, 2].map(|seq| extender.extend(seq)).into();
    assert_eq!(extended, [0x1_0003, 0xffff, 0x1_0004, 0x1_0002]);
    assert_eq!((extender.highest(), extender.peek(9)), (Some(0x1_0004), 0x1_0009));
}

#[test]
fn a_full_buffer_is_an_error_and_changes_nothing() {
    let mut bytes = [0; 12 + 4 + 8];
    assert!(write_header(&mut bytes[..11], &Fields::default(), false).is_err());
    let mut writer = HeaderWriter::begin(&mut bytes, &Fields::default()).unwrap();
    writer.push(1, &[1, 2, 3]).unwrap();
    assert_eq!(writer.push(2, &[1, 2, 3, 4]), Err(Full));
    assert_eq!(writer.push(0, &[1]), Err(Full));
    // Two-byte form would need one byte more for the first element and fits; its value does not.
    assert_eq!(writer.push(3, &[0; 20]), Err(Full));
    writer.push(2, &[7]).unwrap();
    assert_eq!(writer.finish(), Ok(24));
    let header = packet(&bytes);
    let elements: Vec<_> = header.extensions(&bytes).collect();
    assert_eq!(elements, [(1, &[1, 2, 3][..]), (2, &[7])]);
    let mut tiny = [0; 14];
    let mut writer = HeaderWriter::begin(&mut tiny, &Fields::default()).unwrap();
    assert_eq!(writer.push(1, &[1]), Err(Full));
    assert_eq!(writer.finish(), Ok(12));
}

fn fields() -> impl Strategy<Value = Fields> {
    (any::<bool>(), 0u8..128, any::<u16>(), any::<u32>(), any::<u32>()).prop_map(
        |(marker, payload_type, sequence_number, timestamp, ssrc)| Fields {
            marker,
            padding: false,
            payload_type,
            sequence_number,
            timestamp,
            ssrc,
        },
    )
}

type Elements = Vec<(u8, Vec<u8>)>;

fn elements(id_max: u8, len: Range<usize>) -> impl Strategy<Value = Elements> {
    let ids = prop::collection::btree_set(1..=id_max, 0..8);
    let values = prop::collection::vec(prop::collection::vec(any::<u8>(), len), 8);
    (ids, values).prop_map(|(ids, values)| ids.into_iter().zip(values).collect())
}

fn write(fields: &Fields, elements: &Elements, payload: &[u8]) -> Vec<u8> {
    let mut buffer = [0xee; 2_000];
    let mut writer = HeaderWriter::begin(&mut buffer, fields).unwrap();
    for (id, value) in elements {
        writer.push(*id, value).unwrap();
    }
    let len = writer.finish().unwrap();
    [&buffer[..len], payload].concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..200),
        v2: bool,
    ) {
        if v2 && let Some(first) = bytes.first_mut() {
            *first = *first & 0x3f | 0x80;
        }
        let parsed = [Header::parse(&bytes), Header::parse_protected(&bytes)];
        for header in parsed.into_iter().flatten() {
            prop_assert!(header.payload_range().end <= bytes.len());
            prop_assert!(header.payload_range().start <= header.payload_range().end);
            for (_, at, value) in header.extensions(&bytes).with_offsets() {
                prop_assert_eq!(&bytes[at..at + value.len()], value);
            }
        }
    }

    /// One-byte and two-byte form, and the change from one to the other.
    #[test]
    fn what_was_written_is_read(
        fields in fields(),
        elements in elements(20, 0..40),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let bytes = write(&fields, &elements, &payload);
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!(header.payload(&bytes), payload);
        prop_assert_eq!(header.sequence_number, fields.sequence_number);
        prop_assert_eq!(header.ssrc, fields.ssrc);
        let read: Elements = header.extensions(&bytes).map(|(id, v)| (id, v.to_vec())).collect();
        prop_assert_eq!(read, elements);
    }

    #[test]
    fn the_rtp_crate_reads_what_we_write(
        fields in fields(),
        elements in elements(14, 1..17),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let bytes = write(&fields, &elements, &payload);
        let theirs = ::rtp::packet::Packet::unmarshal(&mut &bytes[..]).unwrap();
        prop_assert_eq!(theirs.header.marker, fields.marker);
        prop_assert_eq!(theirs.header.payload_type, fields.payload_type);
        prop_assert_eq!(theirs.header.sequence_number, fields.sequence_number);
        prop_assert_eq!(theirs.header.timestamp, fields.timestamp);
        prop_assert_eq!(theirs.header.ssrc, fields.ssrc);
        prop_assert_eq!(&theirs.payload[..], &payload[..]);
        for (id, value) in &elements {
            let found = theirs.header.get_extension(*id).unwrap();
            prop_assert_eq!(&found[..], &value[..]);
        }
    }

    #[test]
    fn we_read_what_the_rtp_crate_writes(
        fields in fields(),
        csrc in prop::collection::vec(any::<u32>(), 0..16),
        elements in elements(14, 1..17),
        payload in prop::collection::vec(any::<u8>(), 0..50),
    ) {
        let mut theirs = ::rtp::packet::Packet {
            header: ::rtp::header::Header {
                version: 2,
                marker: fields.marker,
                payload_type: fields.payload_type,
                sequence_number: fields.sequence_number,
                timestamp: fields.timestamp,
                ssrc: fields.ssrc,
                csrc: csrc.clone(),
                ..Default::default()
            },
            payload: payload.clone().into(),
        };
        for (id, value) in &elements {
            theirs.header.set_extension(*id, value.clone().into()).unwrap();
        }
        let mut bytes = vec![0; theirs.marshal_size()];
        let len = theirs.marshal_to(&mut bytes).unwrap();
        bytes.truncate(len);
        let header = Header::parse(&bytes).unwrap();
        prop_assert_eq!(usize::from(header.csrc_count), csrc.len());
        prop_assert_eq!((header.timestamp, header.marker), (fields.timestamp, fields.marker));
        prop_assert_eq!(header.payload(&bytes), payload);
        let read: Elements = header.extensions(&bytes).map(|(id, v)| (id, v.to_vec())).collect();
        prop_assert_eq!(read, elements);
    }

    #[test]
    fn extension_is_the_nearest(seq: u16, reference in 0x1_0000u32..u32::MAX - 0x1_0000) {
        let extended = extend(seq, reference);
        prop_assert_eq!(extended as u16, seq);
        prop_assert!(extended.abs_diff(reference) <= 0x8000);
    }
}
