//! Sealing and opening against published vectors, against `webrtc-srtp`, and against damage.

use proptest::prelude::*;
use webrtc_srtp::{context::Context, protection_profile::ProtectionProfile};

use super::{
    KeySource, MasterKey, OpenKey, SealJob, SealKey, SealedOnce, Sealer, SoftwareSealer,
    StreamIndex, Suite, key::Derived,
};
use crate::{
    Discard,
    batch::{SLAB_BYTES, Slab},
    numbers::{PacketIndex, RtcpIndex},
};

pub(super) fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn master(suite: Suite, seed: u8) -> MasterKey {
    let bytes: Vec<u8> = (0..46).map(|i: u8| i.wrapping_mul(seed).wrapping_add(seed)).collect();
    let len = suite.key_len() + suite.salt_len();
    MasterKey::from_key_and_salt(suite, &bytes[..len]).unwrap()
}

fn oracle(master: &MasterKey) -> Context {
    let profile = match master.suite() {
        Suite::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        Suite::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        Suite::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        Suite::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    Context::new(master.key(), master.salt(), profile, None, None).unwrap()
}

/// An RTP packet with CSRCs, perhaps an extension, and a payload; and the length of its header.
fn rtp(
    seq: u16,
    ssrc: u32,
    csrcs: u8,
    extension_words: Option<u8>,
    payload: &[u8],
) -> (Vec<u8>, usize) {
    let mut packet = vec![0x80 | csrcs | u8::from(extension_words.is_some()) << 4, 96];
    packet.extend(seq.to_be_bytes());
    packet.extend(0x1234_5678u32.to_be_bytes());
    packet.extend(ssrc.to_be_bytes());
    (0..csrcs).for_each(|csrc| packet.extend([csrc; 4]));
    if let Some(words) = extension_words {
        packet.extend([0xbe, 0xde, 0, words]);
        // Padding elements: valid for whoever parses one-byte extensions.
        packet.extend(vec![0; usize::from(words) * 4]);
    }
    let header_len = packet.len();
    packet.extend(payload);
    (packet, header_len)
}

fn seal(key: &SealKey, packet: &[u8], header_len: usize, index: u64) -> Vec<u8> {
    let mut sealed = packet.to_vec();
    sealed.resize(packet.len() + super::RTP_TAG_BYTES_MAX, 0xee);
    let len = key.seal_rtp(&mut sealed, header_len, packet.len() - header_len, PacketIndex(index));
    assert_eq!(len, packet.len() + key.suite().rtp_tag_len());
    sealed.truncate(len);
    sealed
}

fn seal_rtcp(key: &SealKey, packet: &[u8], index: u32) -> Vec<u8> {
    let mut sealed = packet.to_vec();
    sealed.resize(packet.len() + super::RTCP_TRAILER_BYTES_MAX, 0xee);
    let len = key.seal_rtcp(&mut sealed, packet.len(), RtcpIndex(index));
    assert_eq!(len, packet.len() + key.suite().rtcp_trailer_len());
    sealed.truncate(len);
    sealed
}

/// RFC 7714 sections 16 and 17: key, sealed RTP, sealed RTCP.
#[test]
fn rfc_7714_sections_16_and_17() {
    let text = "47616c6c696120657374206f6d6e69732064697669736120696e207061727465732074726573";
    let rtp = hex(&format!("8040f17b8041f8d35501a0b2{text}"));
    let rtcp = hex("81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61\
                    deadbeefdeadbeefdeadbeefdeadbeefdeadbeef");
    let vectors = [
        (
            Suite::AeadAes128Gcm,
            "8040f17b8041f8d35501a0b2f24de3a3fb34de6cacba861c9d7e4bcabe633bd50d294e6f42a5f47a51c7\
             d19b36de3adf8833899d7f27beb16a9152cf765ee4390cce",
            "81c8000d4d61727363e94885dcdab67ca727d7662f6b7e997ff5c0f76c06f32dc676a5f1730d6fda4ce0\
             9b4686303ded0bb9275bc84aa45896cf4d2fc5abf87245d9eade800005d4",
        ),
        (
            Suite::AeadAes256Gcm,
            "8040f17b8041f8d35501a0b232b1de78a822fe12ef9f78fa332e33aab18012389a58e2f3b50b2a0276ff\
             ae0f1ba63799b87b7aa3db36dfffd6b0f9bb7878d7a76c13",
            "81c8000d4d617273d50ae4d1f5ce5d304ba297e47d470c282c3ece5dbffe0a50a2eaa5c1110555be8415\
             f658c61de0476f1b6fad1d1eb30c4446839f57ff6f6cb26ac3be800005d4",
        ),
    ];
    for (suite, sealed_rtp, sealed_rtcp) in vectors {
        let mut session = Derived { key: [0; 32], auth: [0; 20], salt: [0; 14] };
        session.key.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i);
        session.salt[..12].copy_from_slice(b"Quid pro quo");
        let (sealer, opener) =
            (SealKey::from_session(suite, &session), OpenKey::from_session(suite, &session));
        assert_eq!(seal(&sealer, &rtp, 12, 0xf17b), hex(sealed_rtp));
        assert_eq!(seal_rtcp(&sealer, &rtcp, 0x5d4), hex(sealed_rtcp));
        let mut packet = hex(sealed_rtp);
        let len = opener.open_rtp(&mut packet, 12, PacketIndex(0xf17b)).unwrap();
        assert_eq!(packet[..len], rtp);
        let mut packet = hex(sealed_rtcp);
        assert_eq!(opener.open_rtcp(&mut packet), Ok((rtcp.len(), RtcpIndex(0x5d4))));
        assert_eq!(packet[..rtcp.len()], rtcp);
    }
}

/// RFC 7714 section 17.3: a tag, but no encryption. Correct, and not for us.
#[test]
fn rtcp_in_the_clear_is_refused() {
    let mut session = Derived { key: [0; 32], auth: [0; 20], salt: [0; 14] };
    session.key.iter_mut().zip(0..).for_each(|(byte, i)| *byte = i);
    session.salt[..12].copy_from_slice(b"Quid pro quo");
    let mut packet = hex(
        "81c8000d4d6172734e5450314e545032525450200000042a0000e9304c756e61deadbeef\
                          deadbeefdeadbeefdeadbeefdeadbeef841dd9683dd78ec92ae58790125f62b3000005d4",
    );
    let opener = OpenKey::from_session(Suite::AeadAes128Gcm, &session);
    assert_eq!(opener.open_rtcp(&mut packet), Err(Discard::SrtpUnauthenticated));
}

#[test]
fn names_and_numbers_lead_back() {
    for suite in Suite::ALL {
        assert_eq!(Suite::from_name(suite.name()), Some(suite));
        assert_eq!(Suite::from_dtls_profile(suite.dtls_profile()), Some(suite));
        assert!(suite.rtp_tag_len() <= super::RTP_TAG_BYTES_MAX);
        assert!(suite.rtcp_trailer_len() <= super::RTCP_TRAILER_BYTES_MAX);
    }
    assert_eq!((Suite::from_name(""), Suite::from_dtls_profile(3)), (None, None));
}

/// Around a rollover, in both directions, an independent implementation understands us.
#[test]
fn webrtc_srtp_agrees_across_a_rollover() {
    for suite in Suite::ALL {
        let master = master(suite, 7);
        let (sealer, opener) = (SealKey::new(&master), OpenKey::new(&master));
        let (mut theirs, mut their_sender) = (oracle(&master), oracle(&master));
        let mut stream = StreamIndex::default();
        for index in 32_000..66_000u64 {
            let (packet, header_len) = rtp(index as u16, 9, 0, None, &index.to_be_bytes());
            // The other one has to see the numbers come to keep its rollover counter.
            if index % 251 == 0 || (65_500..65_600).contains(&index) {
                let sealed = seal(&sealer, &packet, header_len, index);
                assert_eq!(theirs.decrypt_rtp(&sealed).unwrap(), packet);
                let mut sealed = their_sender.encrypt_rtp(&packet).unwrap().to_vec();
                let estimate = stream.estimate(index as u16).unwrap();
                assert_eq!(estimate, PacketIndex(index));
                assert_eq!(opener.open_rtp(&mut sealed, header_len, estimate), Ok(packet.len()));
                stream.commit(estimate);
                assert_eq!(sealed[..packet.len()], packet);
            }
        }
        assert_eq!(stream.newest().map(PacketIndex::roc), Some(1));
    }
}

struct OneKey(SealKey);

impl KeySource for OneKey {
    fn seal_key(&self, transport: u32) -> Option<&SealKey> {
        (transport == 5).then_some(&self.0)
    }
}

#[test]
fn a_turn_is_sealed_in_its_slabs_and_nothing_stays_in_the_clear() {
    let master = master(Suite::AeadAes128Gcm, 3);
    let keys = OneKey(SealKey::new(&master));
    let bytes = vec![0; SLAB_BYTES].into_boxed_slice();
    let mut slabs = [Slab { bytes }];
    let (packet, header_len) = rtp(1, 2, 0, Some(1), &[7; 100]);
    let job = |transport, offset: usize, index| SealJob {
        transport,
        slab: 0,
        offset: offset as u32,
        header_len: header_len as u16,
        payload_len: 100,
        index: PacketIndex(index),
    };
    let last = SLAB_BYTES - packet.len();
    let jobs = [job(5, 0, 1), job(5, 500, 2), job(6, 1000, 3), job(5, last, 4)];
    for job in &jobs {
        slabs[0].bytes[job.offset as usize..][..packet.len()].copy_from_slice(&packet);
    }
    let elsewhere = SealJob { slab: 1, ..jobs[0] };
    let jobs = [&jobs[..], &[elsewhere]].concat();
    assert_eq!(SoftwareSealer.seal(&keys, &jobs, &mut slabs), 3);
    let sealed = |offset: usize| &slabs[0].bytes[offset..][..packet.len() + 16];
    assert_eq!(sealed(0), seal(&keys.0, &packet, header_len, 1));
    assert_eq!(sealed(500), seal(&keys.0, &packet, header_len, 2));
    assert!(sealed(1000).iter().all(|&byte| byte == 0));
    assert!(slabs[0].bytes[last..].iter().all(|&byte| byte == 0));
}

#[test]
fn lengths_that_do_not_fit_change_nothing() {
    for suite in Suite::ALL {
        let key = SealKey::new(&master(suite, 9));
        let (packet, header_len) = rtp(1, 2, 0, None, &[7; 20]);
        let mut bytes = packet.clone();
        assert_eq!(key.seal_rtp(&mut bytes, header_len, 20, PacketIndex(1)), 0);
        assert_eq!(key.seal_rtp(&mut bytes, 4, 1, PacketIndex(1)), 0);
        assert_eq!(key.seal_rtcp(&mut bytes, packet.len(), RtcpIndex(1)), 0);
        assert_eq!(key.seal_rtcp(&mut bytes, 4, RtcpIndex(1)), 0);
        assert_eq!(key.seal_rtcp(&mut bytes, 8, RtcpIndex::MAX.next()), 0);
        assert_eq!(bytes, packet);
    }
}

#[test]
fn the_witness_sees_an_index_that_is_used_for_two_packets() {
    let mut witness = SealedOnce::default();
    assert!(witness.note(1, 1, b"a").is_ok() && witness.note(1, 1, b"a").is_ok());
    assert!(witness.note(2, 1, b"b").is_ok());
    assert!(witness.note(1, 1, b"b").is_err());
    assert_eq!(witness.len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Both ways with the independent implementation, whatever the packet looks like.
    #[test]
    fn webrtc_srtp_agrees_on_rtp(
        suite in prop::sample::select(&Suite::ALL[..]),
        seed in 1u8..,
        (seq, ssrc, csrcs) in (0u16..0x8000, any::<u32>(), 0u8..16),
        extension in prop::option::of(0u8..20),
        payload in prop::collection::vec(any::<u8>(), 0..1300),
    ) {
        let master = master(suite, seed);
        let (packet, header_len) = rtp(seq, ssrc, csrcs, extension, &payload);
        let sealed = seal(&SealKey::new(&master), &packet, header_len, u64::from(seq));
        prop_assert_eq!(&oracle(&master).encrypt_rtp(&packet).unwrap()[..], &sealed[..]);
        prop_assert_eq!(&oracle(&master).decrypt_rtp(&sealed).unwrap()[..], &packet[..]);
        let (opener, index) = (OpenKey::new(&master), PacketIndex(seq.into()));
        let mut out = vec![0; packet.len()];
        let opened = opener.open_rtp_into(&sealed, header_len, index, &mut out);
        prop_assert_eq!(opened, Ok(packet.len()));
        prop_assert_eq!(&out, &packet);
        let mut sealed = sealed;
        prop_assert_eq!(opener.open_rtp(&mut sealed, header_len, index), Ok(packet.len()));
        prop_assert_eq!(&sealed[..packet.len()], &packet[..]);
    }

    #[test]
    fn webrtc_srtp_agrees_on_rtcp(
        suite in prop::sample::select(&Suite::ALL[..]),
        seed in 1u8..,
        words in prop::collection::vec(any::<u32>(), 1..300),
    ) {
        let master = master(suite, seed);
        let mut packet = vec![0x80, 200, 0, words.len() as u8];
        words.iter().for_each(|word| packet.extend(word.to_be_bytes()));
        // The other one counts from 1.
        let sealed = seal_rtcp(&SealKey::new(&master), &packet, 1);
        prop_assert_eq!(&oracle(&master).encrypt_rtcp(&packet).unwrap()[..], &sealed[..]);
        prop_assert_eq!(&oracle(&master).decrypt_rtcp(&sealed).unwrap()[..], &packet[..]);
        let mut sealed = sealed;
        let opener = OpenKey::new(&master);
        prop_assert_eq!(opener.claimed_rtcp_index(&sealed), Ok(RtcpIndex(1)));
        prop_assert_eq!(opener.open_rtcp(&mut sealed), Ok((packet.len(), RtcpIndex(1))));
        prop_assert_eq!(&sealed[..packet.len()], &packet[..]);
    }

    /// One bit of a packet, or another index, and it is refused; the stream's state is untouched.
    #[test]
    fn damage_is_refused(
        suite in prop::sample::select(&Suite::ALL[..]),
        payload in prop::collection::vec(any::<u8>(), 0..200),
        position in any::<prop::sample::Index>(),
        bit in 0u8..8,
    ) {
        let master = master(suite, 11);
        let (packet, header_len) = rtp(77, 88, 1, Some(2), &payload);
        let (sealer, opener) = (SealKey::new(&master), OpenKey::new(&master));
        let sealed = seal(&sealer, &packet, header_len, 77);
        let mut damaged = sealed.clone();
        damaged[position.index(sealed.len())] ^= 1 << bit;
        let mut out = vec![0; sealed.len()];
        let refused = Err(Discard::SrtpUnauthenticated);
        let (right, wrong) = (PacketIndex(77), PacketIndex(77 + (1 << 16)));
        prop_assert_eq!(opener.open_rtp_into(&damaged, header_len, right, &mut out), refused);
        prop_assert_eq!(opener.open_rtp(&mut damaged, header_len, right), refused);
        prop_assert_eq!(opener.open_rtp(&mut sealed.clone(), header_len, wrong), refused);
        prop_assert_eq!(OpenKey::new(&self::master(suite, 12))
            .open_rtp(&mut sealed.clone(), header_len, right), refused);

        let (rtcp, _) = rtp(77, 88, 0, None, &payload);
        let mut damaged = seal_rtcp(&sealer, &rtcp, 5);
        let at = position.index(damaged.len());
        damaged[at] ^= 1 << bit;
        prop_assert!(opener.open_rtcp(&mut damaged).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        suite in prop::sample::select(&Suite::ALL[..]),
        bytes in prop::collection::vec(any::<u8>(), 0..100),
        header_len in 0usize..200,
        index in any::<u64>(),
        room in 0usize..100,
    ) {
        let (opener, rtcp_index) = (OpenKey::new(&master(suite, 13)), RtcpIndex(index as u32));
        let index = PacketIndex(index);
        let mut out = vec![0; room];
        prop_assert!(opener.open_rtp_into(&bytes, header_len, index, &mut out).is_err());
        prop_assert!(opener.open_rtp(&mut bytes.clone(), header_len, index).is_err());
        prop_assert!(opener.open_rtcp(&mut bytes.clone()).is_err());
        let sealer = SealKey::new(&master(suite, 13));
        let _ = sealer.seal_rtp(&mut bytes.clone(), header_len, room, index);
        let _ = sealer.seal_rtcp(&mut bytes.clone(), header_len, rtcp_index);
    }
}
