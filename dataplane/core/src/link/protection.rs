//! What protects the packets of a link, and what opens those that come. What seals those that leave
//! lies in tables of the worker's, see `way.rs`.

use crate::{
    Discard,
    numbers::PacketIndex,
    srtp::{OpenKey, Suite},
};

/// What protects packets, both ways.
#[derive(Debug)]
pub(crate) enum Protection {
    /// Keys are to come: until then nothing passes.
    Awaited,
    /// Packets come and go as they are.
    None,
    /// SRTP; this opens what the peer has sealed.
    Srtp(Box<OpenKey>),
}

/// What opens the packets of one peer.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Opener<'a> {
    Clear,
    Srtp(&'a OpenKey),
}

impl Protection {
    pub(crate) fn suite(&self) -> Option<Suite> {
        match self {
            Self::Srtp(key) => Some(key.suite()),
            Self::Awaited | Self::None => None,
        }
    }

    /// What opens packets.
    ///
    /// # Errors
    /// `SrtpNoKeys` before there is anything.
    #[inline]
    pub(crate) fn opener(&self) -> Result<Opener<'_>, Discard> {
        match self {
            Self::Srtp(key) => Ok(Opener::Srtp(key)),
            Self::None => Ok(Opener::Clear),
            Self::Awaited => Err(Discard::SrtpNoKeys),
        }
    }
}

impl Opener<'_> {
    /// The plain packet into `out`; returns its length. When it fails, the bytes in `out` are worthless.
    #[inline]
    pub(crate) fn open_rtp_into(
        self,
        packet: &[u8],
        header_len: usize,
        index: PacketIndex,
        out: &mut [u8],
    ) -> Result<usize, Discard> {
        match self {
            Self::Srtp(key) => key.open_rtp_into(packet, header_len, index, out),
            Self::Clear => {
                let out = out.get_mut(..packet.len()).ok_or(Discard::Oversized)?;
                out.copy_from_slice(packet);
                Ok(packet.len())
            }
        }
    }
}
