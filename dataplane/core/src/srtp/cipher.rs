//! The two primitives of AES-CM suites, and AES-GCM: each with a key schedule that is made once, and
//! no allocation per call. Knows no packet.
//!
//! aws-lc does all of it, but for one case: its fast AES-GCM wants AVX-512. Processors that have the
//! wide AES instructions without it (AMD Zen 3, Intel since Alder Lake) are served by ring, which has
//! code for these (one seal of 1,112 B on Zen 3: 0.33 us, aws-lc 0.53 us; of 160 B: 0.15 and 0.21).

use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey},
    hmac,
    iv::FixedLength,
};
use subtle::ConstantTimeEq;

/// AES in counter mode.
pub(super) struct AesCtr(EncryptingKey);

impl AesCtr {
    /// A key of 16 or 32 bytes; the callers' arrays have no other lengths.
    pub(super) fn new(key: &[u8]) -> Self {
        let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
        let key = UnboundCipherKey::new(algorithm, key).expect("16 or 32 bytes");
        Self(EncryptingKey::ctr(key).expect("AES has a counter mode"))
    }

    /// Adds the key stream that begins at `iv`.
    pub(super) fn apply(&self, iv: &[u8; 16], bytes: &mut [u8]) {
        let context = EncryptionContext::Iv128(FixedLength::from(iv));
        self.0.less_safe_encrypt(bytes, context).expect("the mode fits the context");
    }
}

/// HMAC-SHA1 over a packet and four more bytes.
pub(super) struct HmacSha1(hmac::Key);

impl HmacSha1 {
    pub(super) fn new(key: &[u8; 20]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, key))
    }

    /// The whole tag; the suite says how much of it is sent.
    pub(super) fn sign(&self, packet: &[u8], suffix: &[u8]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(packet);
        context.update(suffix);
        context.sign()
    }

    /// True when `tag` is the beginning of the right one; in constant time.
    pub(super) fn verify(&self, packet: &[u8], suffix: &[u8], tag: &[u8]) -> bool {
        let right = self.sign(packet, suffix);
        right.as_ref().get(..tag.len()).is_some_and(|right| right.ct_eq(tag).into())
    }
}

/// AES-GCM, by whichever implementation is the faster one here.
pub(super) enum AesGcm {
    AwsLc(LessSafeKey),
    /// Boxed: it holds its schedule itself, half a KiB.
    Ring(Box<ring::aead::LessSafeKey>),
}

/// True where ring's AES-GCM is the faster one.
fn prefers_ring() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && !is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    false
}

impl AesGcm {
    /// A key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        if prefers_ring() { Self::ring(key) } else { Self::aws_lc(key) }
    }

    fn aws_lc(key: &[u8]) -> Self {
        let algorithm = if key.len() == 32 { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).expect("16 or 32 bytes");
        Self::AwsLc(LessSafeKey::new(key))
    }

    fn ring(key: &[u8]) -> Self {
        use ring::aead::{AES_128_GCM, AES_256_GCM, LessSafeKey, UnboundKey};
        let algorithm = if key.len() == 32 { &AES_256_GCM } else { &AES_128_GCM };
        let key = UnboundKey::new(algorithm, key).expect("16 or 32 bytes");
        Self::Ring(Box::new(LessSafeKey::new(key)))
    }

    /// Encrypts `text` and writes its tag.
    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &mut [u8]) {
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)
                    .expect("a datagram is far below the limit of GCM");
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let right = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), text)
                    .expect("a datagram is far below the limit of GCM");
                tag.copy_from_slice(right.as_ref());
            }
        }
    }

    /// Decrypts in place when the tag is right. Otherwise `text` is worthless.
    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).is_ok()
            }
            Self::Ring(key) => {
                use ring::aead::{Aad, Nonce, Tag};
                let nonce = Nonce::assume_unique_for_key(nonce);
                let Ok(tag) = Tag::try_from(tag) else { return false };
                key.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text, 0..).is_ok()
            }
        }
    }

    /// Decrypts into `out` of the same length when the tag is right.
    pub(super) fn open_into(
        &self,
        nonce: [u8; 12],
        aad: &[u8],
        text: &[u8],
        tag: &[u8],
        out: &mut [u8],
    ) -> bool {
        match self {
            Self::AwsLc(key) => {
                let nonce = Nonce::assume_unique_for_key(nonce);
                key.open_separate_gather(nonce, Aad::from(aad), text, tag, out).is_ok()
            }
            Self::Ring(_) => {
                out.copy_from_slice(text);
                self.open(nonce, aad, out, tag)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::tests::hex;

    /// RFC 3711 appendix B.2, with the session salt in place of the IV.
    #[test]
    fn the_key_stream_of_rfc_3711_appendix_b_2() {
        let ctr = AesCtr::new(&hex("2b7e151628aed2a6abf7158809cf4f3c"));
        let iv: [u8; 16] = hex("f0f1f2f3f4f5f6f7f8f9fafbfcfd0000").try_into().unwrap();
        let mut stream = vec![0; 0xff02 * 16];
        ctr.apply(&iv, &mut stream);
        let blocks = [
            (0x0000, "e03ead0935c95e80e166b16dd92b4eb4"),
            (0x0001, "d23513162b02d0f72a43a2fe4a5f97ab"),
            (0x0002, "41e95b3bb0a2e8dd477901e4fca894c0"),
            (0xfeff, "ec8cdf7398607cb0f2d21675ea9ea1e4"),
            (0xff00, "362b7c3c6773516318a077d7fc5073ae"),
            (0xff01, "6a2cc3787889374fbeb4c81b17ba6c44"),
        ];
        for (at, block) in blocks {
            assert_eq!(stream[at * 16..][..16], hex(block));
        }
    }

    #[test]
    fn both_implementations_of_gcm_give_the_same_and_open_each_others() {
        for (key_len, len) in [(16, 0), (16, 1), (16, 160), (32, 1_112), (16, 1_400), (32, 17)] {
            let key: Vec<u8> = (0..key_len).collect();
            let plain: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let sealed = [AesGcm::aws_lc(&key), AesGcm::ring(&key)].map(|gcm| {
                let (mut text, mut tag) = (plain.clone(), [0; 16]);
                gcm.seal([7; 12], b"header", &mut text, &mut tag);
                (gcm, text, tag)
            });
            let [(aws_lc, text, tag), (ring, other, other_tag)] = sealed;
            assert_eq!((&text, tag), (&other, other_tag));
            for gcm in [aws_lc, ring] {
                let (mut copy, mut out) = (text.clone(), vec![0; plain.len()]);
                assert!(gcm.open([7; 12], b"header", &mut copy, &tag));
                assert!(gcm.open_into([7; 12], b"header", &text, &tag, &mut out));
                assert_eq!((&copy, &out), (&plain, &plain));
                let mut wrong = tag;
                wrong[15] ^= 1;
                assert!(!gcm.open([7; 12], b"header", &mut text.clone(), &wrong));
                assert!(!gcm.open_into([7; 12], b"header", &text, &wrong, &mut out));
            }
        }
    }
}
