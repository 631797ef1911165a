use proptest::prelude::*;

use super::*;

/// RFC 5769 section 2.1.
const SAMPLE_REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74\
    002400046e0001ff80290008932ff9b151263b36\
    000600096576746a3a68367659202020\
    000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2\
    80280004e57a3bcf";
/// RFC 5769 section 2.2.
const SAMPLE_RESPONSE_V4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d7\
    80280004c07d4c96";
/// RFC 5769 section 2.3.
const SAMPLE_RESPONSE_V6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220\
    002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed41\
    80280004c8fb0b4c";
const SAMPLE_PASSWORD: &[u8] = b"VOkJxbRl1RmTxUk/WvJxBt";

const TRANSACTION: [u8; 12] = [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 255, 254];

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
}

fn request() -> Request<'static> {
    Request {
        transaction_id: TRANSACTION,
        username: "ours:theirs",
        priority: 0x6e00_1eff,
        role: Role::Controlling(77),
        use_candidate: true,
        nomination: Some(3),
        dtls: None,
    }
}

#[test]
fn the_sample_request_of_rfc_5769() {
    let datagram = bytes(SAMPLE_REQUEST);
    let message = Message::parse(&datagram).unwrap();
    assert_eq!((message.class, message.method), (Class::Request, BINDING));
    assert_eq!(message.fragments(), Some(("evtj", "h6vY")));
    assert_eq!(message.priority, Some(0x6e00_01ff));
    assert_eq!(message.controlled, Some(0x932f_f9b1_5126_3b36));
    assert!(message.unknown.is_empty());
    assert!(message.verify_integrity(SAMPLE_PASSWORD) && message.verify_fingerprint());
    assert!(!message.verify_integrity(b"VOkJxbRl1RmTxUk/WvJxBu"));
}

#[test]
fn the_sample_responses_of_rfc_5769() {
    for (hex, address) in [
        (SAMPLE_RESPONSE_V4, "192.0.2.1:32853"),
        (SAMPLE_RESPONSE_V6, "[2001:db8:1234:5678:11:2233:4455:6677]:32853"),
    ] {
        let datagram = bytes(hex);
        let message = Message::parse(&datagram).unwrap();
        assert_eq!((message.class, message.method), (Class::Success, BINDING));
        assert_eq!(message.mapped_address, Some(address.parse().unwrap()));
        assert!(message.verify_integrity(SAMPLE_PASSWORD) && message.verify_fingerprint());
    }
}

#[test]
fn a_written_request_is_read_back() {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let len = write_request(&mut buffer, &request(), b"secret").unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!(message.transaction_id, TRANSACTION);
    assert_eq!(message.fragments(), Some(("ours", "theirs")));
    assert_eq!((message.controlling, message.controlled), (Some(77), None));
    assert_eq!((message.use_candidate, message.nomination), (true, Some(3)));
    assert!(message.verify_integrity(b"secret") && !message.verify_integrity(b""));
    assert!(message.verify_fingerprint());
    for room in 0..len {
        assert_eq!(write_request(&mut buffer[..room], &request(), b"secret"), Err(Full));
    }
}

#[test]
fn dtls_in_stun_is_read_back() {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let with = Request { dtls: Some(b"a flight"), ..request() };
    let len = write_request(&mut buffer, &with, b"secret").unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert_eq!((message.dtls, message.dtls_ack), (Some(&b"a flight"[..]), Some(&[][..])));
    assert!(message.verify_integrity(b"secret") && message.unknown.is_empty());
    // CRC-32 of its check value (ITU-T V.42), as libwebrtc computes it.
    assert_eq!(dtls_hash(b"123456789"), 0xcbf4_3926);
    for (ack, found) in
        [(None, None), (Some(None), Some(&[][..])), (Some(Some(0x0102_0304)), Some(&[1, 2, 3, 4]))]
    {
        let address = "203.0.113.9:1".parse().unwrap();
        let len = write_success(&mut buffer, &TRANSACTION, address, ack, b"secret").unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        assert_eq!((message.dtls, message.dtls_ack), (None, found));
        assert!(message.verify_integrity(b"secret") && message.verify_fingerprint());
    }
}

#[test]
fn written_responses_are_read_back() {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    for (address, seen) in [
        ("203.0.113.9:1", "203.0.113.9:1"),
        ("[2001:db8::7]:65535", "[2001:db8::7]:65535"),
        ("[::ffff:10.1.2.3]:500", "10.1.2.3:500"),
    ] {
        let address = address.parse().unwrap();
        let len = write_success(&mut buffer, &TRANSACTION, address, None, b"secret").unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        assert_eq!(message.class, Class::Success);
        assert_eq!(message.mapped_address, Some(seen.parse().unwrap()));
        assert!(message.verify_integrity(b"secret") && message.verify_fingerprint());
    }
    for (code, password) in [
        (BAD_REQUEST, None),
        (UNAUTHENTICATED, None),
        (UNKNOWN_ATTRIBUTE, Some(&b"secret"[..])),
        (ROLE_CONFLICT, Some(b"secret")),
    ] {
        let unknown: &[u16] = if code == UNKNOWN_ATTRIBUTE { &[0x7777, 0x0003] } else { &[] };
        let len = write_error(&mut buffer, &TRANSACTION, code, unknown, password).unwrap();
        let message = Message::parse(&buffer[..len]).unwrap();
        assert_eq!((message.class, message.error_code), (Class::Error, Some(code)));
        assert_eq!(message.has_integrity(), password.is_some());
        assert_eq!(message.verify_integrity(b"secret"), password.is_some());
        assert!(message.verify_fingerprint());
        assert!(
            write_error(&mut buffer[..len - 1], &TRANSACTION, code, unknown, password).is_err()
        );
    }
}

#[test]
fn unknown_attributes_count_when_they_must_be_understood() {
    let mut datagram = bytes("000100102112a442000000000000000000000000");
    datagram.extend(bytes("7777000141000000"));
    datagram.extend(bytes("8abc000141000000"));
    let message = Message::parse(&datagram).unwrap();
    assert_eq!(message.unknown.as_slice(), [0x7777]);
    assert!(!message.verify_fingerprint() && !message.verify_integrity(b""));
    let mut many = bytes("000100502112a442000000000000000000000000");
    many.extend((0..20u16).flat_map(|n| [0x70, n as u8, 0, 0]));
    assert_eq!(Message::parse(&many).unwrap().unknown.as_slice().len(), UNKNOWN_MAX);
}

#[test]
fn what_follows_the_integrity_is_not_believed() {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    let mut message = MessageWriter::begin(&mut buffer, 1, &TRANSACTION).unwrap();
    let tag = integrity(message.0.written(), b"secret");
    message.attribute(MESSAGE_INTEGRITY, tag.as_ref()).unwrap();
    message.attribute(USE_CANDIDATE, &[]).unwrap();
    let len = message.finish(None).unwrap();
    let message = Message::parse(&buffer[..len]).unwrap();
    assert!(message.verify_integrity(b"secret") && message.verify_fingerprint());
    assert!(!message.use_candidate);
}

#[test]
fn structure_is_checked() {
    let good = bytes(SAMPLE_REQUEST);
    let mut longer = good.clone();
    longer.push(0);
    let mut two_fingerprints = good.clone();
    two_fingerprints.extend(bytes("80280004e57a3bcf"));
    two_fingerprints[3] += 8;
    let mut wrong_size = good.clone();
    wrong_size[43] = 3;
    for (name, datagram) in [
        ("longer", longer),
        ("two fingerprints", two_fingerprints),
        ("priority of three bytes", wrong_size),
        ("no cookie", bytes("000100002112a443000000000000000000000000")),
        ("shorter", good[..good.len() - 4].to_vec()),
        ("empty", Vec::new()),
    ] {
        assert_eq!(Message::parse(&datagram).err(), Some(Discard::StunMalformed), "{name}");
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        mut datagram in prop::collection::vec(any::<u8>(), 0..200),
        honest in any::<bool>(),
    ) {
        if honest && datagram.len() >= HEADER_BYTES {
            // A right header, so that the attributes are reached.
            datagram.truncate(datagram.len() & !3);
            datagram[0] &= 0x3f;
            let length = (datagram.len() - HEADER_BYTES) as u16;
            datagram[2..4].copy_from_slice(&length.to_be_bytes());
            datagram[4..8].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
        }
        if let Ok(message) = Message::parse(&datagram) {
            let _ = (message.fragments(), message.verify_fingerprint());
            prop_assert!(!message.verify_integrity(b"nobody knows it"));
        }
    }

    #[test]
    fn a_flipped_bit_is_noticed(at in 0usize..1_000, bit in 0u8..8) {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let len = write_request(&mut buffer, &request(), b"secret").unwrap();
        buffer[at % len] ^= 1 << bit;
        if let Ok(message) = Message::parse(&buffer[..len]) {
            prop_assert!(!message.verify_integrity(b"secret") || !message.verify_fingerprint());
        }
    }
}
