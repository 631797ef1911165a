//! STUN messages as ICE uses them (RFC 8489, RFC 8445): a view over one message, and writers of
//! binding requests and responses. Called for connectivity checks and consent, never on the path of
//! media. Never decides who a peer is: it only tells whether a password fits.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;

use super::{Full, array_at, u16_at, u32_at, u64_at, writer::Writer};
use crate::Discard;

/// RFC 8489 section 5.
pub const MAGIC_COOKIE: u32 = 0x2112_a442;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 20;
/// Enough for every message that is written here.
pub const MESSAGE_BYTES_MAX: usize = 640;
/// The binding method.
pub const BINDING: u16 = 1;

/// Malformed request.
pub const BAD_REQUEST: u16 = 400;
/// MESSAGE-INTEGRITY missing or wrong.
pub const UNAUTHENTICATED: u16 = 401;
/// Comprehension-required attributes that are not known here.
pub const UNKNOWN_ATTRIBUTE: u16 = 420;
/// Both sides think that they are controlling (RFC 8445 section 7.3.1.1).
pub const ROLE_CONFLICT: u16 = 487;

const MAPPED_ADDRESS: u16 = 0x0001;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
const REALM: u16 = 0x0014;
const NONCE: u16 = 0x0015;
const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;
/// libwebrtc's aggressive renomination (draft-thatcher-ice-renomination).
const NOMINATION: u16 = 0xc001;
/// A datagram of the DTLS handshake, in a check (draft-hancke-webrtc-sped, with libwebrtc's numbers).
const DTLS_IN_STUN: u16 = 0xc070;
/// Which of them have come.
const DTLS_IN_STUN_ACK: u16 = 0xc071;

const INTEGRITY_BYTES: usize = 20;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// RFC 8489 section 14.3.
const USERNAME_BYTES_MAX: usize = 508;
const UNKNOWN_MAX: usize = 8;

/// True when the first bytes are a STUN header: two zero bits, a length in words, the cookie.
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES
        && datagram[0] & 0xc0 == 0
        && datagram[3] & 0x03 == 0
        && u32_at(datagram, 4) == Some(MAGIC_COOKIE)
}

/// RFC 8489 section 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Wants an answer.
    Request,
    /// Wants none.
    Indication,
    /// Answer.
    Success,
    /// Refusal.
    Error,
}

/// Comprehension-required attributes that are not known here; the first few of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UnknownAttributes {
    types: [u16; UNKNOWN_MAX],
    len: u8,
}

impl UnknownAttributes {
    /// Their types.
    #[must_use]
    pub fn as_slice(&self) -> &[u16] {
        &self.types[..usize::from(self.len)]
    }

    /// True without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, kind: u16) {
        if let Some(place) = self.types.get_mut(usize::from(self.len)) {
            *place = kind;
            self.len += 1;
        }
    }
}

/// One parsed message. Of an attribute that comes twice the first counts (RFC 8489 section 5).
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// Request, indication, answer or refusal.
    pub class: Class,
    /// [`BINDING`], or something else.
    pub method: u16,
    /// Chosen by who asks.
    pub transaction_id: [u8; 12],
    /// As on the wire; see [`Self::fragments`].
    pub username: Option<&'a [u8]>,
    /// Priority of a peer-reflexive candidate.
    pub priority: Option<u32>,
    /// The controlling side nominates this pair.
    pub use_candidate: bool,
    /// The sender is controlling: its tie breaker.
    pub controlling: Option<u64>,
    /// The sender is controlled: its tie breaker.
    pub controlled: Option<u64>,
    /// Renomination: the pair with the highest number wins.
    pub nomination: Option<u32>,
    /// A datagram of the DTLS handshake.
    pub dtls: Option<&'a [u8]>,
    /// The sender takes DTLS in STUN, too: hashes of what it has got ([`dtls_hash`]), 4 bytes each.
    pub dtls_ack: Option<&'a [u8]>,
    /// Of a response: what we look like from there.
    pub mapped_address: Option<SocketAddr>,
    /// Of a refusal.
    pub error_code: Option<u16>,
    /// What has to be refused with 420.
    pub unknown: UnknownAttributes,
    integrity_at: Option<usize>,
    fingerprint_at: Option<usize>,
}

impl<'a> Message<'a> {
    /// Parses a whole datagram.
    ///
    /// # Errors
    /// [`Discard::StunMalformed`]: not STUN, a wrong length, an attribute that is cut short or has
    /// a wrong size, or anything after FINGERPRINT.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, Discard> {
        Self::header(datagram).and_then(Message::attributes).ok_or(Discard::StunMalformed)
    }

    fn header(bytes: &'a [u8]) -> Option<Self> {
        let length = usize::from(u16_at(bytes, 2)?);
        if !is_stun(bytes) || bytes.len() != HEADER_BYTES + length {
            return None;
        }
        let kind = u16_at(bytes, 0)?;
        // The method's bits lie around the two of the class: 0b00MMMMMC_MMMCMMMM.
        let method = kind & 0x000f | kind >> 1 & 0x0070 | kind >> 2 & 0x0f80;
        let class = match (kind & 0x0100 != 0, kind & 0x0010 != 0) {
            (false, false) => Class::Request,
            (false, true) => Class::Indication,
            (true, false) => Class::Success,
            (true, true) => Class::Error,
        };
        Some(Self {
            bytes,
            class,
            method,
            transaction_id: array_at(bytes, 8)?,
            username: None,
            priority: None,
            use_candidate: false,
            controlling: None,
            controlled: None,
            nomination: None,
            dtls: None,
            dtls_ack: None,
            mapped_address: None,
            error_code: None,
            unknown: UnknownAttributes::default(),
            integrity_at: None,
            fingerprint_at: None,
        })
    }

    fn attributes(mut self) -> Option<Self> {
        let mut at = HEADER_BYTES;
        while at < self.bytes.len() {
            // FINGERPRINT is the last attribute (RFC 8489 section 14.7).
            if self.fingerprint_at.is_some() {
                return None;
            }
            let kind = u16_at(self.bytes, at)?;
            let len = usize::from(u16_at(self.bytes, at + 2)?);
            let value = self.bytes.get(at + 4..at + 4 + len)?;
            if kind == FINGERPRINT {
                self.fingerprint_at = (len == 4).then_some(at);
                self.fingerprint_at?;
            } else if self.integrity_at.is_none() {
                // What follows MESSAGE-INTEGRITY is not protected and ignored (section 14.5).
                self.attribute(kind, value, at)?;
            }
            at += 4 + len.next_multiple_of(4);
        }
        (at == self.bytes.len()).then_some(self)
    }

    fn attribute(&mut self, kind: u16, value: &'a [u8], at: usize) -> Option<()> {
        match kind {
            USERNAME if self.username.is_none() => {
                self.username = Some(value);
                (value.len() <= USERNAME_BYTES_MAX).then_some(())?;
            }
            PRIORITY if self.priority.is_none() => self.priority = Some(number(value)?),
            USE_CANDIDATE => self.use_candidate = true,
            ICE_CONTROLLING if self.controlling.is_none() => {
                self.controlling = Some(u64_at(value, 0).filter(|_| value.len() == 8)?);
            }
            ICE_CONTROLLED if self.controlled.is_none() => {
                self.controlled = Some(u64_at(value, 0).filter(|_| value.len() == 8)?);
            }
            DTLS_IN_STUN if self.dtls.is_none() => self.dtls = Some(value),
            DTLS_IN_STUN_ACK if self.dtls_ack.is_none() => self.dtls_ack = Some(value),
            NOMINATION if self.nomination.is_none() => self.nomination = Some(number(value)?),
            MESSAGE_INTEGRITY => {
                (value.len() == INTEGRITY_BYTES).then_some(())?;
                self.integrity_at = Some(at);
            }
            XOR_MAPPED_ADDRESS if self.mapped_address.is_none() => {
                self.mapped_address = Some(xor_address(value, &self.transaction_id)?);
            }
            ERROR_CODE if self.error_code.is_none() => {
                let [_, _, class, number] = array_at(value, 0)?;
                self.error_code = Some(u16::from(class & 0x07) * 100 + u16::from(number));
            }
            USERNAME | PRIORITY | XOR_MAPPED_ADDRESS | ERROR_CODE => {}
            MAPPED_ADDRESS | UNKNOWN_ATTRIBUTES | REALM | NONCE | MESSAGE_INTEGRITY_SHA256 => {}
            0x0000..=0x7fff => self.unknown.push(kind),
            _ => {}
        }
        Some(())
    }

    /// True when there is a MESSAGE-INTEGRITY, right or wrong.
    #[must_use]
    pub fn has_integrity(&self) -> bool {
        self.integrity_at.is_some()
    }

    /// True when there is a FINGERPRINT, right or wrong.
    #[must_use]
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint_at.is_some()
    }

    /// The two halves of an ICE username: the fragment of who receives the message, then the
    /// sender's (RFC 8445 section 7.2.2).
    #[must_use]
    pub fn fragments(&self) -> Option<(&'a str, &'a str)> {
        std::str::from_utf8(self.username?).ok()?.split_once(':')
    }

    /// True when there is a MESSAGE-INTEGRITY of that password (RFC 8489 section 14.5, short-term
    /// credentials). Takes the same time wherever the first difference lies.
    #[must_use]
    pub fn verify_integrity(&self, password: &[u8]) -> bool {
        let Some(at) = self.integrity_at else {
            return false;
        };
        let Some(received) = self.bytes.get(at + 4..at + 4 + INTEGRITY_BYTES) else {
            return false;
        };
        let expected = integrity(&self.bytes[..at], password);
        expected.as_ref().ct_eq(received).into()
    }

    /// True when there is a FINGERPRINT and it is right.
    #[must_use]
    pub fn verify_fingerprint(&self) -> bool {
        self.fingerprint_at
            .is_some_and(|at| u32_at(self.bytes, at + 4) == Some(fingerprint(&self.bytes[..at])))
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// HMAC-SHA1 over what precedes the attribute, with a length field that ends with the attribute.
fn integrity(before: &[u8], password: &[u8]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, password);
    let mut context = hmac::Context::with_key(&key);
    let length = (before.len() - HEADER_BYTES + 4 + INTEGRITY_BYTES) as u16;
    context.update(&before[..2]);
    context.update(&length.to_be_bytes());
    context.update(&before[4..]);
    context.sign()
}

/// CRC-32 over what precedes the attribute; the length field must already include it.
fn fingerprint(before: &[u8]) -> u32 {
    crc32(before) ^ FINGERPRINT_XOR
}

const CRC_TABLE: [u32; 256] = crc_table();

/// The reflected table of ITU-T V.42.
const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| crc >> 8 ^ CRC_TABLE[usize::from(crc as u8 ^ byte)])
}

/// RFC 8489 section 14.2: the port and the address xored with the cookie and the transaction id.
fn xor_address(value: &[u8], transaction_id: &[u8; 12]) -> Option<SocketAddr> {
    let port = u16_at(value, 2)? ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match (*value.get(1)?, value.len()) {
        (1, 8) => IpAddr::V4(Ipv4Addr::from_bits(u32_at(value, 4)? ^ MAGIC_COOKIE)),
        (2, 20) => {
            let bits = u128::from_be_bytes(array_at(value, 4)?) ^ xor_mask(transaction_id);
            IpAddr::V6(Ipv6Addr::from_bits(bits))
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn xor_mask(transaction_id: &[u8; 12]) -> u128 {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction_id);
    u128::from_be_bytes(mask)
}

/// Which side decides, with its tie breaker (RFC 8445 section 7.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// ICE-CONTROLLING.
    Controlling(u64),
    /// ICE-CONTROLLED.
    Controlled(u64),
}

/// A binding request to be written.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Unpredictable.
    pub transaction_id: [u8; 12],
    /// `receiver's fragment:sender's fragment`.
    pub username: &'a str,
    /// Priority that a peer-reflexive candidate would have.
    pub priority: u32,
    /// Side.
    pub role: Role,
    /// Nominate this pair.
    pub use_candidate: bool,
    /// Renominate.
    pub nomination: Option<u32>,
    /// A datagram of the DTLS handshake.
    pub dtls: Option<&'a [u8]>,
}

/// Writes a binding request, signed with the receiver's password. Returns its length.
///
/// # Errors
/// [`Full`].
pub fn write_request(
    buffer: &mut [u8],
    request: &Request<'_>,
    password: &[u8],
) -> Result<usize, Full> {
    let mut message = MessageWriter::begin(buffer, 0x0001, &request.transaction_id)?;
    message.attribute(USERNAME, request.username.as_bytes())?;
    message.attribute(PRIORITY, &request.priority.to_be_bytes())?;
    match request.role {
        Role::Controlling(tie) => message.attribute(ICE_CONTROLLING, &tie.to_be_bytes())?,
        Role::Controlled(tie) => message.attribute(ICE_CONTROLLED, &tie.to_be_bytes())?,
    }
    if request.use_candidate {
        message.attribute(USE_CANDIDATE, &[])?;
    }
    if let Some(nomination) = request.nomination {
        message.attribute(NOMINATION, &nomination.to_be_bytes())?;
    }
    if let Some(dtls) = request.dtls {
        message.attribute(DTLS_IN_STUN, dtls)?;
        message.attribute(DTLS_IN_STUN_ACK, &[])?;
    }
    message.finish(Some(password))
}

/// Writes a binding success response: XOR-MAPPED-ADDRESS, MESSAGE-INTEGRITY, FINGERPRINT. An
/// IPv4 address mapped into IPv6 goes out as IPv4. `dtls_ack`: to who takes DTLS in STUN, the hash of
/// what was in the request, if anything was. Returns its length.
///
/// # Errors
/// [`Full`].
pub fn write_success(
    buffer: &mut [u8],
    transaction_id: &[u8; 12],
    mapped: SocketAddr,
    dtls_ack: Option<Option<u32>>,
    password: &[u8],
) -> Result<usize, Full> {
    let mut message = MessageWriter::begin(buffer, 0x0101, transaction_id)?;
    let port = mapped.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let mut value = [0; 20];
    value[2..4].copy_from_slice(&port.to_be_bytes());
    let len = match mapped.ip().to_canonical() {
        IpAddr::V4(ip) => {
            value[1] = 1;
            value[4..8].copy_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
            8
        }
        IpAddr::V6(ip) => {
            value[1] = 2;
            let bits = ip.to_bits() ^ xor_mask(transaction_id);
            value[4..20].copy_from_slice(&bits.to_be_bytes());
            20
        }
    };
    message.attribute(XOR_MAPPED_ADDRESS, &value[..len])?;
    if let Some(hash) = dtls_ack {
        let hash = hash.map(u32::to_be_bytes);
        message.attribute(DTLS_IN_STUN_ACK, hash.as_ref().map_or(&[][..], |hash| &hash[..]))?;
    }
    message.finish(Some(password))
}

/// How a datagram of the DTLS handshake is named once it has come.
#[must_use]
pub fn dtls_hash(datagram: &[u8]) -> u32 {
    crc32(datagram)
}

/// Writes a binding error response: [`BAD_REQUEST`] and [`UNAUTHENTICATED`] go unsigned
/// (`password` is `None`, RFC 8489 section 9.1.3), [`UNKNOWN_ATTRIBUTE`] and [`ROLE_CONFLICT`]
/// signed. `unknown` is listed if it is not empty. Returns the length.
///
/// # Errors
/// [`Full`].
pub fn write_error(
    buffer: &mut [u8],
    transaction_id: &[u8; 12],
    code: u16,
    unknown: &[u16],
    password: Option<&[u8]>,
) -> Result<usize, Full> {
    let reason: &[u8] = match code {
        BAD_REQUEST => b"Bad Request",
        UNAUTHENTICATED => b"Unauthenticated",
        UNKNOWN_ATTRIBUTE => b"Unknown Attribute",
        ROLE_CONFLICT => b"Role Conflict",
        _ => b"",
    };
    let mut message = MessageWriter::begin(buffer, 0x0111, transaction_id)?;
    let mut value = [0; 32];
    value[2] = (code / 100) as u8;
    value[3] = (code % 100) as u8;
    value[4..4 + reason.len()].copy_from_slice(reason);
    message.attribute(ERROR_CODE, &value[..4 + reason.len()])?;
    if !unknown.is_empty() {
        let unknown = &unknown[..unknown.len().min(UNKNOWN_MAX)];
        let mut value = [0; 2 * UNKNOWN_MAX];
        for (place, kind) in value.chunks_exact_mut(2).zip(unknown) {
            place.copy_from_slice(&kind.to_be_bytes());
        }
        message.attribute(UNKNOWN_ATTRIBUTES, &value[..2 * unknown.len()])?;
    }
    message.finish(password)
}

struct MessageWriter<'a>(Writer<'a>);

impl<'a> MessageWriter<'a> {
    fn begin(buffer: &'a mut [u8], kind: u16, transaction_id: &[u8; 12]) -> Result<Self, Full> {
        let mut writer = Writer::new(buffer);
        writer.u16(kind)?;
        writer.u16(0)?;
        writer.u32(MAGIC_COOKIE)?;
        writer.put(transaction_id)?;
        Ok(Self(writer))
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) -> Result<(), Full> {
        self.0.u16(kind)?;
        self.0.u16(u16::try_from(value.len()).map_err(|_| Full)?)?;
        self.0.put(value)?;
        self.0.pad_to_word()?;
        self.set_length(0);
        Ok(())
    }

    fn set_length(&mut self, ahead: usize) {
        let length = (self.0.len() - HEADER_BYTES + ahead) as u16;
        self.0.set_u16(2, length);
    }

    fn finish(mut self, password: Option<&[u8]>) -> Result<usize, Full> {
        if let Some(password) = password {
            let tag = integrity(self.0.written(), password);
            self.attribute(MESSAGE_INTEGRITY, tag.as_ref())?;
        }
        self.set_length(8);
        let crc = fingerprint(self.0.written());
        self.attribute(FINGERPRINT, &crc.to_be_bytes())?;
        Ok(self.0.len())
    }
}

#[cfg(test)]
mod tests;
