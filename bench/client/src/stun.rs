//! STUN as connectivity checks need it (RFC 8489, RFC 8445): builds and reads binding requests and
//! answers. Called by the ICE half of a peer; never touches a socket.
//!
//! Written apart from the server's own code on purpose: an error would have to be made twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use hmac::{Hmac, Mac};
use sha1::Sha1;

const MAGIC_COOKIE: u32 = 0x2112_A442;
const HEADER_BYTES: usize = 20;
const INTEGRITY_BYTES: usize = 24;
const FINGERPRINT_BYTES: usize = 8;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLING: u16 = 0x802A;

/// Chosen by the sender of a request, repeated in its answer.
pub type TransactionId = [u8; 12];

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A connectivity check.
    Request,
    /// It passed.
    Success,
    /// It was refused.
    Error,
}

/// A message that was read; borrowed from its datagram.
#[derive(Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    /// What it is.
    pub class: Class,
    /// Which request it is or answers.
    pub transaction: TransactionId,
    /// `receiver:sender` username fragments.
    pub username: Option<&'a str>,
    /// The controlling side nominates this path.
    pub use_candidate: bool,
    /// Where the receiver of the request saw it come from.
    pub mapped: Option<SocketAddr>,
    /// Of an error answer.
    pub error_code: Option<u16>,
    integrity_at: Option<usize>,
}

/// What a check carries.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// Chosen by the caller.
    pub transaction: TransactionId,
    /// `receiver:sender` username fragments.
    pub username: &'a str,
    /// The receiver's password.
    pub password: &'a str,
    /// Of the sender's candidate.
    pub priority: u32,
    /// Decides role conflicts.
    pub tie_breaker: u64,
    /// Nominates the path.
    pub use_candidate: bool,
}

/// True if the datagram is for [`read`] (RFC 7983: first byte 0 to 3).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES
        && datagram[0] < 4
        && datagram[4..8] == MAGIC_COOKIE.to_be_bytes()
}

/// A binding request of a controlling agent.
#[must_use]
pub fn binding_request(check: &Check<'_>) -> Vec<u8> {
    binding_request_behind(check, &[])
}

/// The same with other attributes before its own.
#[must_use]
pub fn binding_request_behind(check: &Check<'_>, others: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = header(BINDING_REQUEST, &check.transaction);
    for (kind, value) in others {
        attribute(&mut out, *kind, value);
    }
    attribute(&mut out, USERNAME, check.username.as_bytes());
    attribute(&mut out, ICE_CONTROLLING, &check.tie_breaker.to_be_bytes());
    attribute(&mut out, PRIORITY, &check.priority.to_be_bytes());
    if check.use_candidate {
        attribute(&mut out, USE_CANDIDATE, &[]);
    }
    seal(out, check.password)
}

/// The answer to a binding request that came from `from`.
#[must_use]
pub fn binding_success(transaction: &TransactionId, from: SocketAddr, password: &str) -> Vec<u8> {
    let mut out = header(BINDING_SUCCESS, transaction);
    let port = from.port() ^ (MAGIC_COOKIE >> 16) as u16;
    let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
    value.extend_from_slice(&port.to_be_bytes());
    let mask = xor_mask(transaction);
    match from.ip() {
        IpAddr::V4(ip) => value.extend(ip.octets().iter().zip(mask).map(|(a, b)| a ^ b)),
        IpAddr::V6(ip) => value.extend(ip.octets().iter().zip(mask).map(|(a, b)| a ^ b)),
    }
    attribute(&mut out, XOR_MAPPED_ADDRESS, &value);
    seal(out, password)
}

/// Reads a message; `None` if it is malformed.
#[must_use]
pub fn read(bytes: &[u8]) -> Option<Message<'_>> {
    let class = match u16::from_be_bytes([*bytes.first()?, *bytes.get(1)?]) {
        BINDING_REQUEST => Class::Request,
        BINDING_SUCCESS => Class::Success,
        BINDING_ERROR => Class::Error,
        _ => return None,
    };
    let length = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]) as usize;
    if !is_stun(bytes) || bytes.len() != HEADER_BYTES + length {
        return None;
    }
    let mut message = Message {
        bytes,
        class,
        transaction: bytes[8..20].try_into().ok()?,
        username: None,
        use_candidate: false,
        mapped: None,
        error_code: None,
        integrity_at: None,
    };
    let mut at = HEADER_BYTES;
    while at + 4 <= bytes.len() {
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let length = u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]) as usize;
        let value = bytes.get(at + 4..at + 4 + length)?;
        match kind {
            USERNAME => message.username = Some(std::str::from_utf8(value).ok()?),
            USE_CANDIDATE => message.use_candidate = true,
            XOR_MAPPED_ADDRESS => {
                message.mapped = Some(mapped_address(value, &message.transaction)?);
            }
            ERROR_CODE => {
                let code = value.get(2..4)?;
                message.error_code = Some(u16::from(code[0] & 7) * 100 + u16::from(code[1]));
            }
            // What follows the integrity is not protected (RFC 8489 section 14.5).
            MESSAGE_INTEGRITY => {
                message.integrity_at = Some(at);
                break;
            }
            _ => {}
        }
        at += 4 + length.next_multiple_of(4);
    }
    Some(message)
}

impl Message<'_> {
    /// True if the message was made by somebody who knows `password`.
    #[must_use]
    pub fn is_authentic(&self, password: &str) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let Some(tag) = self.bytes.get(at + 4..at + INTEGRITY_BYTES) else { return false };
        // The hash covers the header as if the message ended with the integrity.
        let mut covered = self.bytes[..at].to_vec();
        let length = (at - HEADER_BYTES + INTEGRITY_BYTES) as u16;
        covered[2..4].copy_from_slice(&length.to_be_bytes());
        mac(password, &covered).verify_slice(tag).is_ok()
    }
}

fn header(kind: u16, transaction: &TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
    out.extend_from_slice(transaction);
    out
}

fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len().next_multiple_of(4), 0);
}

fn mac(password: &str, covered: &[u8]) -> Hmac<Sha1> {
    let mut mac =
        Hmac::<Sha1>::new_from_slice(password.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(covered);
    mac
}

fn set_length(out: &mut [u8], attributes_bytes: usize) {
    out[2..4].copy_from_slice(&(attributes_bytes as u16).to_be_bytes());
}

fn seal(mut out: Vec<u8>, password: &str) -> Vec<u8> {
    let length = out.len() - HEADER_BYTES + INTEGRITY_BYTES;
    set_length(&mut out, length);
    let tag = mac(password, &out).finalize().into_bytes();
    attribute(&mut out, MESSAGE_INTEGRITY, &tag);
    let length = out.len() - HEADER_BYTES + FINGERPRINT_BYTES;
    set_length(&mut out, length);
    let crc = crc32fast::hash(&out) ^ FINGERPRINT_XOR;
    attribute(&mut out, FINGERPRINT, &crc.to_be_bytes());
    out
}

fn xor_mask(transaction: &TransactionId) -> [u8; 16] {
    let mut mask = [0; 16];
    mask[..4].copy_from_slice(&MAGIC_COOKIE.to_be_bytes());
    mask[4..].copy_from_slice(transaction);
    mask
}

fn mapped_address(value: &[u8], transaction: &TransactionId) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*value.get(2)?, *value.get(3)?]) ^ (MAGIC_COOKIE >> 16) as u16;
    let mask = xor_mask(transaction);
    let ip: IpAddr = match value.get(1)? {
        1 => {
            let octets: [u8; 4] = value.get(4..8)?.try_into().ok()?;
            Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| octets[i] ^ mask[i])).into()
        }
        2 => {
            let octets: [u8; 16] = value.get(4..20)?.try_into().ok()?;
            Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| octets[i] ^ mask[i])).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(use_candidate: bool) -> Vec<u8> {
        binding_request(&Check {
            transaction: *b"abcdefghijkl",
            username: "server:client",
            password: "a password",
            priority: 1,
            tie_breaker: 2,
            use_candidate,
        })
    }

    #[test]
    fn a_request_is_read_back() {
        let bytes = check(true);
        let message = read(&bytes).expect("well-formed");
        assert_eq!(message.class, Class::Request);
        assert_eq!(message.username, Some("server:client"));
        assert!(message.use_candidate);
        assert!(message.is_authentic("a password"));
        assert!(!message.is_authentic("another"));
        assert!(!read(&check(false)).expect("well-formed").use_candidate);
    }

    #[test]
    fn an_answer_names_the_address() {
        for address in ["127.0.0.1:5000", "[2001:db8::7]:443"] {
            let address: SocketAddr = address.parse().expect("an address");
            let bytes = binding_success(b"abcdefghijkl", address, "a password");
            let message = read(&bytes).expect("well-formed");
            assert_eq!(message.class, Class::Success);
            assert_eq!(message.mapped, Some(address));
            assert!(message.is_authentic("a password"));
        }
    }

    /// The sample request of RFC 5769 section 2.1, made by somebody else.
    #[test]
    fn the_published_sample_is_authentic() {
        let sample: Vec<u8> = [
            "000100582112a442b7e7a701bc34d686fa87dfae802200105354554e207465737420636c69656e74",
            "002400046e0001ff80290008932ff9b151263b36000600096576746a3a6836765920202000080014",
            "9aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf",
        ]
        .concat()
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex"))
        .collect();
        let message = read(&sample).expect("well-formed");
        assert_eq!(message.username, Some("evtj:h6vY"));
        assert!(message.is_authentic("VOkJxbRl1RmTxUk/WvJxBt"));
    }

    #[test]
    fn truncated_messages_are_refused() {
        let bytes = check(true);
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_none(), "{length} bytes");
        }
    }
}
