//! The two primitives of AES-CM suites, and AES-GCM, as aws-lc offers them: each with a key
//! schedule that is made once, and no allocation per call. Knows no packet.

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

/// AES-GCM.
pub(super) struct AesGcm(LessSafeKey);

impl AesGcm {
    /// A key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Self {
        let algorithm = if key.len() == 32 { &aead::AES_256_GCM } else { &aead::AES_128_GCM };
        Self(LessSafeKey::new(UnboundKey::new(algorithm, key).expect("16 or 32 bytes")))
    }

    /// Encrypts `text` and writes its tag.
    pub(super) fn seal(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &mut [u8]) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)
            .expect("a datagram is far below the limit of GCM");
    }

    /// Decrypts in place when the tag is right. Otherwise `text` is worthless.
    pub(super) fn open(&self, nonce: [u8; 12], aad: &[u8], text: &mut [u8], tag: &[u8]) -> bool {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place_separate_tag(nonce, Aad::from(aad), tag, text).is_ok()
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
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_separate_gather(nonce, Aad::from(aad), text, tag, out).is_ok()
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
}
