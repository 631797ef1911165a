//! Session keys: what seals the packets of one direction, and what opens those of the other.
//! Plain functions on byte slices; no stream state. The caller gives the index: for what came see
//! [`StreamIndex`](super::StreamIndex), for what leaves [`SentSeq`](crate::numbers::SentSeq).
//!
//! ```text
//! SRTP    | header (clear) | payload (sealed) | tag |
//! SRTCP   | 8 bytes (clear) | rest (sealed) | E, index | tag (10) |    AES-CM
//!         | 8 bytes (clear) | rest (sealed) | tag (16) | E, index |    GCM, RFC 7714 section 9
//! ```

use std::fmt;

use super::{
    MasterKey, Suite,
    cipher::{AesCtr, AesGcm, HmacSha1},
    key::Derived,
};
use crate::{
    Discard,
    numbers::{PacketIndex, RtcpIndex},
};

/// Bytes of the fixed RTP header.
const RTP_HEADER_BYTES: usize = 12;
/// Bytes of an RTCP packet that stay readable: the first header with the sender's SSRC.
const RTCP_CLEAR_BYTES: usize = 8;
/// The bit that says that an SRTCP packet is encrypted.
const E_BIT: u32 = 1 << 31;

/// Seals what we send on one transport.
pub struct SealKey {
    rtp: Session,
    rtcp: Session,
    #[cfg(feature = "session-keys")]
    derived: Box<Derived>,
}

/// The session keys of RTP, for a sealer that makes schedules of its own from them.
#[cfg(feature = "session-keys")]
#[derive(Clone, Copy)]
pub struct SessionKeys<'a> {
    /// Which suite.
    pub suite: Suite,
    /// AES key.
    pub key: &'a [u8],
    /// HMAC key; means nothing where [`Suite::is_gcm`].
    pub auth: &'a [u8; 20],
}

/// Opens what we receive on one transport.
pub struct OpenKey {
    rtp: Session,
    rtcp: Session,
}

impl SealKey {
    /// Derives the session keys.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        let (rtp, rtcp) = sessions(master);
        Self {
            rtp,
            rtcp,
            #[cfg(feature = "session-keys")]
            derived: Box::new(master.derive_rtp()),
        }
    }

    /// Which suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.rtp.suite
    }

    /// What the packets of RTP are sealed with.
    #[cfg(feature = "session-keys")]
    #[must_use]
    pub fn session_keys(&self) -> SessionKeys<'_> {
        let Derived { key, auth, .. } = &*self.derived;
        SessionKeys { suite: self.rtp.suite, key: &key[..self.rtp.suite.key_len()], auth }
    }

    /// The initialization vector of the RTP packet that begins with these bytes, at least 12: the
    /// nonce of GCM and four zeros, or the first block of the counter mode.
    #[cfg(feature = "session-keys")]
    #[must_use]
    pub fn rtp_iv(&self, packet: &[u8], index: PacketIndex) -> [u8; 16] {
        let ssrc = word(packet, 8);
        match self.rtp.cipher {
            Cipher::Gcm(_) => {
                let mut iv = [0; 16];
                iv[..12].copy_from_slice(&self.rtp.gcm_nonce(ssrc, index.0));
                iv
            }
            Cipher::Cm(_) => self.rtp.cm_iv(ssrc, index.0),
        }
    }

    /// Seals an RTP packet in place: `header_len` bytes of header (with CSRCs and extensions),
    /// then `payload_len` bytes (with padding), then room for the tag. `index` is ROC and sequence
    /// number; it must never come twice with other bytes. Returns the length with the tag, or 0,
    /// with nothing changed, when the packet has no room for it.
    #[must_use]
    pub fn seal_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        payload_len: usize,
        index: PacketIndex,
    ) -> usize {
        let session = &self.rtp;
        let text_end = header_len + payload_len;
        let total = text_end + session.suite.rtp_tag_len();
        if header_len < RTP_HEADER_BYTES || packet.len() < total {
            return 0;
        }
        let ssrc = word(packet, 8);
        let (head, tag) = packet[..total].split_at_mut(text_end);
        match &session.cipher {
            Cipher::Gcm(gcm) => {
                let (header, text) = head.split_at_mut(header_len);
                gcm.seal(session.gcm_nonce(ssrc, index.0), header, text, tag);
            }
            Cipher::Cm(cm) => {
                cm.ctr.apply(&session.cm_iv(ssrc, index.0), &mut head[header_len..]);
                let right = cm.hmac.sign(head, &index.roc().to_be_bytes());
                tag.copy_from_slice(&right.as_ref()[..tag.len()]);
            }
        }
        total
    }

    /// Seals a compound RTCP packet of `len` bytes in place, with room behind it. `index` counts
    /// from 0 up and must never come twice; only 31 bits of it exist. Returns the new length, or
    /// 0, with nothing changed, when there is no room or the index is used up.
    #[must_use]
    pub fn seal_rtcp(&self, packet: &mut [u8], len: usize, index: RtcpIndex) -> usize {
        let session = &self.rtcp;
        let total = len + session.suite.rtcp_trailer_len();
        if len < RTCP_CLEAR_BYTES || packet.len() < total || index > RtcpIndex::MAX {
            return 0;
        }
        let ssrc = word(packet, 4);
        let index_word = (E_BIT | index.0).to_be_bytes();
        let (head, trailer) = packet[..total].split_at_mut(len);
        match &session.cipher {
            Cipher::Gcm(gcm) => {
                let (clear, text) = head.split_at_mut(RTCP_CLEAR_BYTES);
                let (tag, word) = trailer.split_at_mut(session.suite.rtcp_tag_len());
                let nonce = session.gcm_nonce(ssrc, index.0.into());
                gcm.seal(nonce, &rtcp_aad(clear, index_word), text, tag);
                word.copy_from_slice(&index_word);
            }
            Cipher::Cm(cm) => {
                let iv = session.cm_iv(ssrc, index.0.into());
                cm.ctr.apply(&iv, &mut head[RTCP_CLEAR_BYTES..]);
                let (word, tag) = trailer.split_at_mut(4);
                word.copy_from_slice(&index_word);
                let right = cm.hmac.sign(head, word);
                tag.copy_from_slice(&right.as_ref()[..tag.len()]);
            }
        }
        total
    }
}

impl OpenKey {
    /// Derives the session keys.
    #[must_use]
    pub fn new(master: &MasterKey) -> Self {
        let (rtp, rtcp) = sessions(master);
        Self { rtp, rtcp }
    }

    /// Which suite.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.rtp.suite
    }

    /// Verifies and decrypts an RTP packet in place. `header_len` is that of the packet (with CSRCs
    /// and extensions), `index` the estimate for its sequence number. Returns the length without
    /// the tag. When it fails, the payload's bytes are worthless.
    pub fn open_rtp(
        &self,
        packet: &mut [u8],
        header_len: usize,
        index: PacketIndex,
    ) -> Result<usize, Discard> {
        let session = &self.rtp;
        let text_end = session.rtp_text_end(packet.len(), header_len)?;
        let ssrc = word(packet, 8);
        let (head, tag) = packet.split_at_mut(text_end);
        match &session.cipher {
            Cipher::Gcm(gcm) => {
                let (header, text) = head.split_at_mut(header_len);
                verified(gcm.open(session.gcm_nonce(ssrc, index.0), header, text, tag))?;
            }
            Cipher::Cm(cm) => {
                verified(cm.hmac.verify(head, &index.roc().to_be_bytes(), tag))?;
                cm.ctr.apply(&session.cm_iv(ssrc, index.0), &mut head[header_len..]);
            }
        }
        Ok(text_end)
    }

    /// The same from one buffer into another, which needs no more room than the result: straight
    /// into a slot of a history, for example. When it fails, the bytes in `out` are worthless.
    pub fn open_rtp_into(
        &self,
        packet: &[u8],
        header_len: usize,
        index: PacketIndex,
        out: &mut [u8],
    ) -> Result<usize, Discard> {
        let session = &self.rtp;
        let text_end = session.rtp_text_end(packet.len(), header_len)?;
        let ssrc = word(packet, 8);
        let out = out.get_mut(..text_end).ok_or(Discard::Oversized)?;
        let (head, tag) = packet.split_at(text_end);
        let (header, text) = head.split_at(header_len);
        let (header_out, text_out) = out.split_at_mut(header_len);
        match &session.cipher {
            Cipher::Gcm(gcm) => {
                let nonce = session.gcm_nonce(ssrc, index.0);
                verified(gcm.open_into(nonce, header, text, tag, text_out))?;
            }
            Cipher::Cm(cm) => {
                verified(cm.hmac.verify(head, &index.roc().to_be_bytes(), tag))?;
                text_out.copy_from_slice(text);
                cm.ctr.apply(&session.cm_iv(ssrc, index.0), text_out);
            }
        }
        header_out.copy_from_slice(header);
        Ok(text_end)
    }

    /// Verifies and decrypts a compound RTCP packet in place. Returns its length without the
    /// trailer, and its index, which the caller checks for repeats by a
    /// [`ReplayWindow`](super::ReplayWindow) per SSRC. Packets that are not encrypted (E is 0) are
    /// refused: no profile of DTLS-SRTP sends them.
    pub fn open_rtcp(&self, packet: &mut [u8]) -> Result<(usize, RtcpIndex), Discard> {
        let session = &self.rtcp;
        let (text_end, index) = session.rtcp_index(packet)?;
        let ssrc = word(packet, 4);
        let index_word = (E_BIT | index.0).to_be_bytes();
        let (head, trailer) = packet.split_at_mut(text_end);
        match &session.cipher {
            Cipher::Gcm(gcm) => {
                let (clear, text) = head.split_at_mut(RTCP_CLEAR_BYTES);
                let tag = &trailer[..session.suite.rtcp_tag_len()];
                let nonce = session.gcm_nonce(ssrc, index.0.into());
                verified(gcm.open(nonce, &rtcp_aad(clear, index_word), text, tag))?;
            }
            Cipher::Cm(cm) => {
                verified(cm.hmac.verify(head, &index_word, &trailer[4..]))?;
                let iv = session.cm_iv(ssrc, index.0.into());
                cm.ctr.apply(&iv, &mut head[RTCP_CLEAR_BYTES..]);
            }
        }
        Ok((text_end, index))
    }

    /// The index that an SRTCP packet claims, before anything is verified: enough to refuse a
    /// repeat without cryptography.
    pub fn claimed_rtcp_index(&self, packet: &[u8]) -> Result<RtcpIndex, Discard> {
        self.rtcp.rtcp_index(packet).map(|(_, index)| index)
    }
}

/// Published vectors begin at session keys.
#[cfg(test)]
impl SealKey {
    pub(super) fn from_session(suite: Suite, derived: &Derived) -> Self {
        Self {
            rtp: Session::new(suite, derived),
            rtcp: Session::new(suite, derived),
            #[cfg(feature = "session-keys")]
            derived: Box::new(Derived { ..*derived }),
        }
    }
}

#[cfg(test)]
impl OpenKey {
    pub(super) fn from_session(suite: Suite, derived: &Derived) -> Self {
        Self { rtp: Session::new(suite, derived), rtcp: Session::new(suite, derived) }
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("suite", &self.suite()).finish_non_exhaustive()
    }
}

impl fmt::Debug for OpenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenKey").field("suite", &self.suite()).finish_non_exhaustive()
    }
}

/// Session keys of RTP or RTCP in one direction.
struct Session {
    suite: Suite,
    salt: [u8; 14],
    cipher: Cipher,
}

enum Cipher {
    Gcm(AesGcm),
    /// Boxed: its two key schedules and hash states are 1.7 KiB.
    Cm(Box<AesCm>),
}

struct AesCm {
    ctr: AesCtr,
    hmac: HmacSha1,
}

fn sessions(master: &MasterKey) -> (Session, Session) {
    let suite = master.suite();
    (Session::new(suite, &master.derive_rtp()), Session::new(suite, &master.derive_rtcp()))
}

impl Session {
    fn new(suite: Suite, derived: &Derived) -> Self {
        let key = &derived.key[..suite.key_len()];
        let cipher = if suite.is_gcm() {
            Cipher::Gcm(AesGcm::new(key))
        } else {
            Cipher::Cm(Box::new(AesCm {
                ctr: AesCtr::new(key),
                hmac: HmacSha1::new(&derived.auth),
            }))
        };
        Self { suite, salt: derived.salt, cipher }
    }

    /// RFC 7714 section 8.1 and 9.1: two zero bytes, SSRC, then ROC and sequence number, or two
    /// zero bytes and the SRTCP index, which are the same 48 bits; all added to the salt.
    fn gcm_nonce(&self, ssrc: u32, index: u64) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[2..6].copy_from_slice(&ssrc.to_be_bytes());
        nonce[6..].copy_from_slice(&index.to_be_bytes()[2..]);
        nonce.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        nonce
    }

    /// RFC 3711 section 4.1.1: SSRC and 48 bits of index added to the salt, above a block counter.
    fn cm_iv(&self, ssrc: u32, index: u64) -> [u8; 16] {
        let mut iv = [0; 16];
        iv[4..8].copy_from_slice(&ssrc.to_be_bytes());
        iv[8..14].copy_from_slice(&index.to_be_bytes()[2..]);
        iv.iter_mut().zip(&self.salt).for_each(|(byte, salt)| *byte ^= salt);
        iv
    }

    /// Where the payload of an SRTP packet ends and its tag begins.
    fn rtp_text_end(&self, len: usize, header_len: usize) -> Result<usize, Discard> {
        match len.checked_sub(self.suite.rtp_tag_len()) {
            Some(end) if header_len >= RTP_HEADER_BYTES && end >= header_len => Ok(end),
            _ => Err(Discard::SrtpUnauthenticated),
        }
    }

    /// Where the trailer of an SRTCP packet begins, and which index it names.
    fn rtcp_index(&self, packet: &[u8]) -> Result<(usize, RtcpIndex), Discard> {
        let end = packet.len().checked_sub(self.suite.rtcp_trailer_len());
        let Some(end) = end.filter(|&end| end >= RTCP_CLEAR_BYTES) else {
            return Err(Discard::SrtpUnauthenticated);
        };
        let at = if self.suite.is_gcm() { packet.len() - 4 } else { end };
        let index = word(packet, at);
        if index & E_BIT == 0 {
            Err(Discard::SrtpUnauthenticated)
        } else {
            Ok((end, RtcpIndex(index & !E_BIT)))
        }
    }
}

/// RFC 7714 section 9.2: the clear header, then the word with E and the index.
fn rtcp_aad(clear: &[u8], index_word: [u8; 4]) -> [u8; RTCP_CLEAR_BYTES + 4] {
    let mut aad = [0; RTCP_CLEAR_BYTES + 4];
    aad[..RTCP_CLEAR_BYTES].copy_from_slice(clear);
    aad[RTCP_CLEAR_BYTES..].copy_from_slice(&index_word);
    aad
}

/// The big-endian number at `at`; callers have checked the length.
fn word(packet: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]])
}

fn verified(right: bool) -> Result<(), Discard> {
    if right { Ok(()) } else { Err(Discard::SrtpUnauthenticated) }
}
