//! The two layers of plaintext DTLS that we look into before the library does: records (RFC 6347
//! section 4.1) and the handshake messages in them, whole or cut (section 4.2.2). Reads and writes
//! bytes; knows nothing of what a message says.

/// Length of a record's header.
pub(crate) const RECORD_HEADER_BYTES: usize = 13;
/// Length of a handshake message's header.
const HANDSHAKE_HEADER_BYTES: usize = 12;
/// Content type of alerts.
pub(crate) const CONTENT_ALERT: u8 = 21;
/// Content type of handshake messages.
pub(crate) const CONTENT_HANDSHAKE: u8 = 22;
/// What we write into a record's header (DTLS 1.3 says the same in the clear).
const VERSION_DTLS12: [u8; 2] = [0xfe, 0xfd];
/// The level of an alert that ends the connection.
pub(crate) const LEVEL_FATAL: u8 = 2;

/// A record in the clear.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) content: u8,
    pub(crate) sequence: [u8; 6],
    pub(crate) body: &'a [u8],
}

/// A part of a handshake message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fragment<'a> {
    pub(crate) kind: u8,
    pub(crate) message_seq: u16,
    /// Of the whole message.
    pub(crate) length: usize,
    pub(crate) offset: usize,
    pub(crate) bytes: &'a [u8],
}

impl Fragment<'_> {
    /// True when it is the message.
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == 0 && self.bytes.len() == self.length
    }
}

/// The first record of a datagram if it is in the clear (epoch 0), and what follows it.
pub(crate) fn split_record(datagram: &[u8]) -> Option<(Record<'_>, &[u8])> {
    let (header, rest) = datagram.split_at_checked(RECORD_HEADER_BYTES)?;
    let length = u16::from_be_bytes([header[11], header[12]]);
    let (body, next) = rest.split_at_checked(length.into())?;
    let plain = header[1] == 0xfe && header[3..5] == [0, 0];
    let mut sequence = [0; 6];
    sequence.copy_from_slice(&header[5..11]);
    plain.then_some((Record { content: header[0], sequence, body }, next))
}

/// The first part of a message in a record's body, and what follows it. `None` when there is none
/// that makes sense.
pub(crate) fn split_fragment(body: &[u8]) -> Option<(Fragment<'_>, &[u8])> {
    let (header, rest) = body.split_at_checked(HANDSHAKE_HEADER_BYTES)?;
    let (bytes, next) = rest.split_at_checked(u24(&header[9..]))?;
    let fragment = Fragment {
        kind: header[0],
        message_seq: u16::from_be_bytes([header[4], header[5]]),
        length: u24(&header[1..]),
        offset: u24(&header[6..]),
        bytes,
    };
    (fragment.offset + bytes.len() <= fragment.length).then_some((fragment, next))
}

/// A datagram with one record.
pub(crate) fn write_record(content: u8, sequence: [u8; 6], body: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(RECORD_HEADER_BYTES + body.len());
    datagram.push(content);
    datagram.extend(VERSION_DTLS12);
    datagram.extend([0, 0]);
    datagram.extend(sequence);
    datagram.extend((body.len() as u16).to_be_bytes());
    datagram.extend(body);
    datagram
}

/// A datagram with one part of a message. What it carries is shorter than a record may be.
pub(crate) fn write_fragment(sequence: [u8; 6], fragment: &Fragment<'_>) -> Vec<u8> {
    let number = |value: usize| [(value >> 16) as u8, (value >> 8) as u8, value as u8];
    let mut body = vec![fragment.kind];
    body.extend(number(fragment.length));
    body.extend(fragment.message_seq.to_be_bytes());
    body.extend(number(fragment.offset));
    body.extend(number(fragment.bytes.len()));
    body.extend(fragment.bytes);
    write_record(CONTENT_HANDSHAKE, sequence, &body)
}

/// The description of a fatal alert in the clear.
pub(crate) fn fatal_alert(datagram: &[u8]) -> Option<u8> {
    let (record, _) = split_record(datagram)?;
    match *record.body {
        [LEVEL_FATAL, description] if record.content == CONTENT_ALERT => Some(description),
        _ => None,
    }
}

/// True for a ServerHello or a HelloVerifyRequest in the clear: what a server says first.
pub(crate) fn is_first_answer(datagram: &[u8]) -> bool {
    const SERVER_HELLO: u8 = 2;
    const HELLO_VERIFY_REQUEST: u8 = 3;
    split_record(datagram).is_some_and(|(record, _)| {
        let kind = record.body.first();
        record.content == CONTENT_HANDSHAKE
            && kind.is_some_and(|kind| [SERVER_HELLO, HELLO_VERIFY_REQUEST].contains(kind))
    })
}

fn u24(bytes: &[u8]) -> usize {
    usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2])
}
