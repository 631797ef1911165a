//! How bytes reach a peer, whatever they are: [`Link`] is the part of a transport that knows sockets'
//! paths and keys; what is sent and received over it is the rest of [`crate::transport`]. Each kind of
//! link is a file or folder here, and a new one is a variant of [`Kind`]: the compiler then names the
//! places that have to know it.
//!
//! | here | kind | finds the peer by | has keys from |
//! |---|---|---|---|
//! | `webrtc/` | [`Kind::WebRtc`] | ICE | DTLS |
//! | `plain.rs` | [`Kind::Plain`] | its address, given or learned; of a pipe to another host given | signalling, if any |
//! | `hop.rs` | [`Kind::Hop`] | its worker, in this process | nobody: packets are in the clear |
//!
//! `way.rs` is the hot half: what [7] needs of a link, in one dense table, kept current by
//! [`Worker::renew_way`] wherever a path is chosen or keys come. `paths.rs` says whose a socket is.

pub mod hop;
pub(crate) mod paths;
pub mod plain;
mod protection;
pub(crate) mod way;
pub mod webrtc;

use ironcast_protocol::command::{TransportProtocol, Tuple};

use self::{
    hop::Hop,
    plain::Plain,
    way::Way,
    webrtc::{WebRtc, ice},
};
pub(crate) use self::{
    protection::{Opener, Protection},
    way::Ways,
};
use crate::{Arrival, Nanos, batch::PathId, key::TransportKey, srtp::Suite, worker::Worker};

/// How bytes reach one peer.
#[derive(Debug)]
pub struct Link {
    pub(crate) kind: Kind,
    pub(crate) protection: Protection,
}

/// What is known of the way to the peer, by kind.
#[derive(Debug)]
pub(crate) enum Kind {
    /// By ICE and DTLS.
    WebRtc(Box<WebRtc>),
    /// By address.
    Plain(Box<Plain>),
    /// To another worker.
    Hop(Hop),
}

impl Link {
    /// By ICE and DTLS; nothing passes before the handshake is done.
    #[must_use]
    pub fn webrtc(webrtc: WebRtc) -> Self {
        Self { kind: Kind::WebRtc(Box::new(webrtc)), protection: Protection::Awaited }
    }

    /// By address; `protection` is [`Protection::Awaited`] where keys are to come.
    pub(crate) fn plain(plain: Plain, protection: Protection) -> Self {
        Self { kind: Kind::Plain(Box::new(plain)), protection }
    }

    /// To another worker.
    pub(crate) fn hop(hop: Hop) -> Self {
        Self { kind: Kind::Hop(hop), protection: Protection::None }
    }

    pub(crate) fn as_webrtc(&self) -> Option<&WebRtc> {
        match &self.kind {
            Kind::WebRtc(webrtc) => Some(webrtc),
            Kind::Plain(_) | Kind::Hop(_) => None,
        }
    }

    pub(crate) fn as_webrtc_mut(&mut self) -> Option<&mut WebRtc> {
        match &mut self.kind {
            Kind::WebRtc(webrtc) => Some(webrtc),
            Kind::Plain(_) | Kind::Hop(_) => None,
        }
    }

    /// True where another router is at the other end: on another host, or another worker.
    pub(crate) fn is_pipe(&self) -> bool {
        match &self.kind {
            Kind::WebRtc(_) => false,
            Kind::Plain(plain) => plain.is_pipe,
            Kind::Hop(_) => true,
        }
    }

    /// Where media leaves, once that is known.
    #[must_use]
    pub fn path(&self) -> Option<PathId> {
        match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.ice.selected().map(|path| path.id),
            Kind::Plain(plain) => plain.path(),
            Kind::Hop(hop) => hop.path(),
        }
    }

    /// Where RTCP leaves.
    pub(crate) fn rtcp_path(&self) -> Option<PathId> {
        match &self.kind {
            Kind::WebRtc(_) | Kind::Hop(_) => self.path(),
            Kind::Plain(plain) => plain.rtcp_path(),
        }
    }

    /// All sockets' paths, those that are not used now included.
    pub(crate) fn paths(&self) -> Vec<PathId> {
        match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.ice.paths().iter().map(|path| path.id).collect(),
            Kind::Plain(plain) => plain.paths(),
            Kind::Hop(hop) => vec![hop.end()],
        }
    }

    /// Both ends of it.
    #[must_use]
    pub fn tuple(&self) -> Option<Tuple> {
        match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.ice.selected().map(ice::Path::tuple),
            Kind::Plain(plain) => plain.tuple(),
            Kind::Hop(_) => None,
        }
    }

    /// The same of RTCP, where that has its own.
    #[must_use]
    pub fn rtcp_tuple(&self) -> Option<Tuple> {
        match &self.kind {
            Kind::WebRtc(_) | Kind::Hop(_) => None,
            Kind::Plain(plain) => plain.rtcp_tuple(),
        }
    }

    /// What seals packets; none while there are no keys, or where none are used.
    #[must_use]
    pub fn suite(&self) -> Option<Suite> {
        self.protection.suite()
    }

    /// How media leaves, once it can.
    #[must_use]
    pub(crate) fn way(&self) -> Option<Way> {
        if matches!(self.protection, Protection::Awaited) {
            return None;
        }
        let (path, is_stream) = match &self.kind {
            Kind::WebRtc(webrtc) => {
                let path = webrtc.ice.selected()?;
                (path.id, path.protocol == TransportProtocol::Tcp)
            }
            Kind::Plain(plain) => (plain.path()?, false),
            Kind::Hop(hop) => (hop.path()?, false),
        };
        Some(Way { path, is_stream, suite: self.suite() })
    }

    /// True when a path was of no use for so long that another transport may have it.
    pub(crate) fn is_silent_on(&self, path: PathId, now: Nanos) -> bool {
        match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.ice.is_silent_on(path, now),
            Kind::Plain(_) | Kind::Hop(_) => false,
        }
    }

    /// A stream that is silent for so long may be followed by another SSRC without a word.
    pub(crate) fn silent_after(&self) -> Nanos {
        match &self.kind {
            Kind::WebRtc(_) | Kind::Hop(_) => webrtc::SILENT_AFTER,
            // Nobody like FFmpeg sends a MID, or says that it ends: it is there again, or it is not.
            Kind::Plain(_) => plain::SILENCE / 2,
        }
    }

    /// When [`Worker::serve_link`] has something to do.
    pub(crate) fn deadline(&self, now: Nanos) -> Nanos {
        match &self.kind {
            Kind::WebRtc(webrtc) => webrtc.deadline(now),
            Kind::Plain(plain) => plain.deadline(now),
            Kind::Hop(_) => Nanos::MAX,
        }
    }
}

impl Worker {
    /// What [7] knows of a transport's way, after anything that may have changed it.
    pub(crate) fn renew_way(&mut self, key: TransportKey) {
        let way = self.transports.get(key).and_then(|transport| transport.link.way());
        self.ways.set(key.index(), way);
    }

    /// What a link needs now and then. False when nothing else is to be done for its transport now.
    pub(crate) fn serve_link(&mut self, key: TransportKey, now: Nanos) -> bool {
        let Some(transport) = self.transports.get(key) else { return false };
        match transport.link.kind {
            Kind::WebRtc(_) => self.serve_webrtc(key, now),
            Kind::Plain(_) => {
                self.serve_plain(key);
                true
            }
            Kind::Hop(_) => true,
        }
    }

    /// Something that the peer alone can have sent came by that path.
    #[inline]
    pub(crate) fn hear(&mut self, key: TransportKey, path: PathId, arrival: Arrival) {
        let Some(transport) = self.transports.get_mut(key) else { return };
        match &mut transport.link.kind {
            // Media goes where the peer's media comes from: it says so sooner than a check.
            Kind::WebRtc(webrtc) => {
                if let Some(change) = webrtc.ice.hear(path, arrival) {
                    self.report_ice(key, change);
                }
            }
            Kind::Plain(plain) => plain.hear(path, arrival),
            Kind::Hop(_) => {}
        }
    }
}
