//! A look at the peer's first message, before the handshake begins. The server has to know which
//! SRTP profiles the client offers, and in which order, to choose the version of DTLS:
//!
//! The library takes GCM as a DTLS 1.2 server whenever it is offered, but as a DTLS 1.3 server it
//! takes the client's first choice, and Chromium puts AES-CM first, which costs five times as much
//! per packet. So DTLS 1.3 is chosen only where that does not lose GCM.
//!
//! Owns the fragments of that one message (RFC 6347 section 4.2.3), bounded in size;
//! Chromium's message comes in two datagrams. Knows nothing of what follows it.

use ironcast_core::srtp::Suite;

use crate::{
    Version,
    reassembly::Message,
    records::{self, CONTENT_HANDSHAKE},
};

/// Largest message: with post-quantum key shares some 2 KiB.
const BODY_BYTES_MAX: usize = 8 << 10;
const MESSAGE_CLIENT_HELLO: u8 = 1;
const EXTENSION_USE_SRTP: u16 = 14;
const EXTENSION_SUPPORTED_VERSIONS: u16 = 43;
const VERSION_DTLS12: u16 = 0xfefd;
const VERSION_DTLS13: u16 = 0xfefc;

/// What the library can do, in the order in which it prefers as a DTLS 1.2 server.
const LIBRARY_SUITES: [Suite; 3] =
    [Suite::AeadAes256Gcm, Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80];

/// Collects a ClientHello.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    message_seq: u16,
    message: Message,
}

impl Collector {
    /// Takes a datagram. Returns the offer once the message is complete.
    pub(crate) fn push(&mut self, datagram: &[u8]) -> Option<Offer> {
        let mut rest = datagram;
        while let Some((record, next)) = records::split_record(rest) {
            if record.content == CONTENT_HANDSHAKE {
                self.take_record(record.body);
            }
            rest = next;
        }
        let body = self.message.body().filter(|body| !body.is_empty())?;
        let offer = Offer::parse(body);
        if offer.is_none() {
            // What comes next is to be read anew, not mixed with this.
            *self = Self::default();
        }
        offer
    }

    /// The message as one uncut datagram: the library does not see how often, and where, it was cut.
    pub(crate) fn into_datagram(self) -> Vec<u8> {
        records::write_fragment([0; 6], &self.message.whole(self.message_seq))
    }

    fn take_record(&mut self, mut record: &[u8]) {
        while let Some((fragment, next)) = records::split_fragment(record) {
            record = next;
            let fits = (1..=BODY_BYTES_MAX).contains(&fragment.length);
            if fragment.kind != MESSAGE_CLIENT_HELLO || !fits {
                continue;
            }
            if self.message_seq != fragment.message_seq {
                *self = Self { message_seq: fragment.message_seq, ..Self::default() };
            }
            self.message.take(&fragment);
        }
    }
}

/// What the client can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Offer {
    /// In the client's order; those that we do not know are left out.
    pub(crate) suites: Vec<Suite>,
    pub(crate) dtls12: bool,
    pub(crate) dtls13: bool,
}

impl Offer {
    /// RFC 8446 section 4.1.2, RFC 9147 section 5.3. `None` when malformed.
    fn parse(body: &[u8]) -> Option<Self> {
        let mut reader = Reader(body);
        reader.take(2 + 32)?;
        reader.vector8()?;
        reader.vector8()?;
        reader.vector16()?;
        reader.vector8()?;
        let mut offer = Self { dtls12: true, ..Self::default() };
        if reader.0.is_empty() {
            return Some(offer);
        }
        let mut extensions = Reader(reader.vector16()?);
        while !extensions.0.is_empty() {
            let kind = extensions.u16()?;
            let data = Reader(extensions.vector16()?);
            match kind {
                EXTENSION_USE_SRTP => offer.suites = suites(data)?,
                EXTENSION_SUPPORTED_VERSIONS => {
                    let versions = versions(data)?;
                    offer.dtls12 = versions.contains(&VERSION_DTLS12);
                    offer.dtls13 = versions.contains(&VERSION_DTLS13);
                }
                _ => {}
            }
        }
        Some(offer)
    }

    /// True when one of these versions is offered.
    pub(crate) fn has_any(&self, versions: &[Version]) -> bool {
        versions.iter().any(|version| match version {
            Version::Dtls12 => self.dtls12,
            Version::Dtls13 => self.dtls13,
        })
    }

    /// The version, of those that we allow, that leads to the best profile that we allow; the newer
    /// one of equals. `None` when no version leads to one.
    pub(crate) fn choose(&self, suites: &[Suite], versions: &[Version]) -> Option<Version> {
        let known = |suite: &&Suite| LIBRARY_SUITES.contains(suite);
        let with12 = LIBRARY_SUITES.iter().find(|suite| self.suites.contains(suite));
        let with13 = self.suites.iter().find(known);
        let candidates =
            [(self.dtls13, with13, Version::Dtls13), (self.dtls12, with12, Version::Dtls12)];
        candidates
            .into_iter()
            .filter(|(offered, _, version)| *offered && versions.contains(version))
            .filter_map(|(_, suite, version)| Some((suite?, version)))
            .filter(|(suite, _)| suites.contains(suite))
            .min_by_key(|(suite, _)| !suite.is_gcm())
            .map(|(_, version)| version)
    }
}

/// RFC 5764 section 4.1.1.
fn suites(mut data: Reader<'_>) -> Option<Vec<Suite>> {
    let list = data.vector16()?.chunks_exact(2);
    let profiles = list.map(|pair| u16::from_be_bytes([pair[0], pair[1]]));
    Some(profiles.filter_map(Suite::from_dtls_profile).collect())
}

/// RFC 8446 section 4.2.1.
fn versions(mut data: Reader<'_>) -> Option<Vec<u16>> {
    let list = data.vector8()?.chunks_exact(2);
    Some(list.map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect())
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn vector8(&mut self) -> Option<&'a [u8]> {
        let len = self.take(1)?[0];
        self.take(len.into())
    }

    fn vector16(&mut self) -> Option<&'a [u8]> {
        let len = self.u16()?;
        self.take(len.into())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Version; 2] = [Version::Dtls12, Version::Dtls13];
    const CM: u16 = 1;
    const GCM128: u16 = 7;
    const GCM256: u16 = 8;

    fn vector16(bytes: &[u8]) -> Vec<u8> {
        [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }

    /// A ClientHello as browsers send it, as far as it matters here.
    fn body(profiles: &[u16], versions: &[u16]) -> Vec<u8> {
        let list = |numbers: &[u16]| -> Vec<u8> {
            numbers.iter().flat_map(|number| number.to_be_bytes()).collect()
        };
        let mut extensions = vec![0xff, 0x01, 0, 1, 0];
        if !versions.is_empty() {
            let list = list(versions);
            extensions.extend(EXTENSION_SUPPORTED_VERSIONS.to_be_bytes());
            extensions.extend(vector16(&[&[list.len() as u8], &list[..]].concat()));
        }
        extensions.extend(EXTENSION_USE_SRTP.to_be_bytes());
        extensions.extend(vector16(&[vector16(&list(profiles)), vec![0]].concat()));
        let mut body = vec![0xfe, 0xfd];
        body.extend([7; 32]);
        body.extend([0, 0]);
        body.extend(vector16(&[0x13, 0x01, 0xc0, 0x2b]));
        body.extend([1, 0]);
        body.extend(vector16(&extensions));
        body
    }

    fn datagram(body: &[u8], offset: usize, len: usize) -> Vec<u8> {
        let (kind, length, bytes) = (MESSAGE_CLIENT_HELLO, body.len(), &body[offset..offset + len]);
        records::write_fragment(
            [0, 0, 0, 0, 0, offset as u8],
            &records::Fragment { kind, message_seq: 0, length, offset, bytes },
        )
    }

    fn choose(profiles: &[u16], versions: &[u16], suites: &[Suite]) -> Option<Version> {
        let offer = Offer::parse(&body(profiles, versions)).unwrap();
        offer.choose(suites, &ALL)
    }

    #[test]
    fn gcm_decides_the_version() {
        let both = [VERSION_DTLS13, VERSION_DTLS12];
        let all = &LIBRARY_SUITES[..];
        let dtls12 = Some(Version::Dtls12);
        let dtls13 = Some(Version::Dtls13);
        // Chromium's order; a peer that prefers GCM; one that has none; old ones; none at all.
        assert_eq!(choose(&[CM, GCM256, GCM128], &both, all), dtls12);
        assert_eq!(choose(&[GCM128, CM], &both, all), dtls13);
        assert_eq!(choose(&[2, 5, CM], &both, all), dtls13);
        assert_eq!(choose(&[CM, GCM128], &[], all), dtls12);
        assert_eq!(choose(&[CM, GCM128], &[VERSION_DTLS13], all), dtls13);
        assert_eq!(choose(&[2], &both, all), None);
        assert_eq!(choose(&[], &both, all), None);
        // Only AES-CM allowed: 1.2 would give GCM, 1.3 gives what the peer has first.
        let cm = &[Suite::AesCm128HmacSha1_80][..];
        assert_eq!(choose(&[CM, GCM256], &both, cm), dtls13);
        assert_eq!(choose(&[GCM256, CM], &both, cm), None);
        let offer = Offer::parse(&body(&[GCM128], &both)).unwrap();
        assert_eq!(offer.choose(all, &[Version::Dtls12]), dtls12);
    }

    #[test]
    fn fragments_come_in_any_order_and_doubled() {
        let body = body(&[CM, GCM128], &[VERSION_DTLS13]);
        let half = body.len() / 2;
        let (first, second) = (datagram(&body, 0, half), datagram(&body, half, body.len() - half));
        let mut collector = Collector::default();
        assert_eq!(collector.push(&second), None);
        assert_eq!(collector.push(&second), None);
        assert_eq!(collector.push(b"noise"), None);
        assert_eq!(collector.push(&first), Offer::parse(&body));
        assert_eq!(collector.into_datagram(), datagram(&body, 0, body.len()));
    }

    #[test]
    fn a_repeat_may_be_cut_elsewhere() {
        let body = body(&[CM, GCM128], &[VERSION_DTLS13]);
        let len = body.len();
        for cuts in [[(0, 37), (17, len - 17), (0, 0)], [(0, 37), (0, 22), (22, len - 22)]] {
            let mut collector = Collector::default();
            let offers: Vec<_> =
                cuts.iter().map(|(at, len)| collector.push(&datagram(&body, *at, *len))).collect();
            assert!(offers.contains(&Offer::parse(&body)));
            assert_eq!(collector.into_datagram()[13..], datagram(&body, 0, len)[13..]);
        }
    }

    #[test]
    fn a_message_that_makes_no_sense_does_not_spoil_the_next() {
        let body = body(&[CM], &[]);
        let mut collector = Collector::default();
        assert_eq!(collector.push(&datagram(&vec![0xff; body.len()], 0, body.len())), None);
        assert_eq!(collector.push(&datagram(&body, 0, 30)), None);
        assert!(collector.push(&datagram(&body, 20, body.len() - 20)).is_some());
    }

    #[test]
    fn crumbs_are_enough_and_too_much_is_not_taken() {
        let body = body(&[CM], &[]);
        let mut collector = Collector::default();
        for offset in 0..body.len() - 1 {
            assert_eq!(collector.push(&datagram(&body, offset, 1)), None);
        }
        assert!(collector.push(&datagram(&body, body.len() - 1, 1)).is_some());
        let mut collector = Collector::default();
        assert_eq!(collector.push(&datagram(&vec![0; BODY_BYTES_MAX + 1], 0, 1)), None);
        assert!(collector.message.whole(0).bytes.is_empty());
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(
            bytes in prop::collection::vec(any::<u8>(), 0..200),
            cut in any::<prop::sample::Index>(),
            at in any::<prop::sample::Index>(),
        ) {
            let mut collector = Collector::default();
            collector.push(&bytes);
            let _ = Offer::parse(&bytes);
            let body = body(&[CM, GCM128], &[VERSION_DTLS13]);
            let mut datagram = datagram(&body, 0, body.len());
            let index = at.index(datagram.len());
            datagram[index] ^= bytes.first().copied().unwrap_or(1);
            collector.push(&datagram[..cut.index(datagram.len())]);
            collector.push(&datagram);
            let _ = Offer::parse(&body[..cut.index(body.len())]);
        }
    }
}
