//! What [7] needs to know of a link to send by it: read for every transport in every turn, so it lies
//! in a dense table by the transport's place, and nothing else does.

use ironcast_protocol::media::MediaKind;

use crate::{
    batch::{Class, PathId},
    srtp::Suite,
};

/// How media leaves for one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    /// The connected socket.
    pub(crate) path: PathId,
    /// It is a connection: what leaves may find no room there, and is given up by its worth.
    pub(crate) is_stream: bool,
    /// What seals, with the key at the transport's place in [`crate::worker::SealKeys`]; none where
    /// packets leave as they are.
    pub(crate) suite: Option<Suite>,
}

impl Way {
    /// What media of a kind is worth.
    pub(crate) fn class_of(&self, kind: MediaKind) -> Class {
        match kind {
            _ if !self.is_stream => Class::default(),
            MediaKind::Audio => Class::Audio,
            MediaKind::Video => Class::Video,
        }
    }

    /// Bytes behind a packet's payload.
    pub(crate) fn tag_len(&self) -> usize {
        self.suite.map_or(0, Suite::rtp_tag_len)
    }
}

/// The ways of all transports, by their place; none where nothing can leave.
#[derive(Debug, Default)]
pub(crate) struct Ways(Vec<Option<Way>>);

impl Ways {
    /// Of the transport at that place.
    #[inline]
    pub(crate) fn of(&self, index: usize) -> Option<Way> {
        *self.0.get(index)?
    }

    pub(crate) fn set(&mut self, index: usize, way: Option<Way>) {
        if self.0.len() <= index {
            if way.is_none() {
                return;
            }
            self.0.resize(index + 1, None);
        }
        self.0[index] = way;
    }

    pub(crate) fn trim(&mut self) {
        crate::worker::trim(&mut self.0);
    }
}
