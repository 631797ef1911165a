//! The link to another worker of this process: packets in the clear, over a ring in memory that the
//! driver owns. Owns its end of it. What is a pipe between hosts is this between cores: a room that
//! outgrows its core has a transport of this kind on each of two workers.

use ironcast_protocol::{CommandError, ErrorCode, Id, command::TransportProtocol};

use super::{Kind, Link};
use crate::{
    Nanos, batch::PathId, key::TransportKey, numbers::RtcpIndex, transport::Transport,
    worker::Worker,
};

/// See the file's head.
#[derive(Debug)]
pub struct Hop {
    path: PathId,
    /// The driver knows where the other end is.
    is_connected: bool,
}

impl Hop {
    pub(super) fn path(&self) -> Option<PathId> {
        self.is_connected.then_some(self.path)
    }

    /// The driver's end, from the start.
    pub(super) fn end(&self) -> PathId {
        self.path
    }
}

impl Worker {
    /// A transport to another worker; `path` is the driver's end of it. Returns it as a number.
    ///
    /// # Errors
    /// `NotFound` (router), `AlreadyExists`, `NoCapacity`.
    pub fn apply_create_hop(
        &mut self,
        id: &Id,
        router: &str,
        path: PathId,
        now: Nanos,
    ) -> Result<u64, CommandError> {
        let router = self.room_for_transport(id, router)?;
        let link = Link::hop(Hop { path, is_connected: false });
        let transport = Transport::new(id.clone(), router, link, 0, RtcpIndex(1), now);
        let key = self.transports.insert(transport);
        self.transport_ids.insert(id.clone(), key);
        self.paths.open(path, TransportProtocol::Udp, key);
        self.enter(key);
        Ok(key.into())
    }

    /// The end of a hop that the driver is to connect.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (connected before, another kind).
    pub fn end_of_hop(&mut self, id: &str) -> Result<PathId, CommandError> {
        let key = self.transport_key(id)?;
        let hop = self.hop_mut(key);
        let hop =
            hop.ok_or_else(|| CommandError::new(ErrorCode::WrongState, "this is not a hop"))?;
        if hop.is_connected {
            let message = "this transport is connected already";
            return Err(CommandError::new(ErrorCode::WrongState, message));
        }
        Ok(hop.end())
    }

    /// The driver has connected it: media leaves from now on.
    ///
    /// # Errors
    /// As of [`Worker::end_of_hop`].
    pub fn apply_connect_hop(&mut self, id: &str, now: Nanos) -> Result<(), CommandError> {
        self.end_of_hop(id)?;
        let key = self.transport_key(id)?;
        if let Some(hop) = self.hop_mut(key) {
            hop.is_connected = true;
        }
        self.renew_way(key);
        self.look_at_layers(key, now);
        Ok(())
    }

    fn hop_mut(&mut self, key: TransportKey) -> Option<&mut Hop> {
        match &mut self.transports.get_mut(key)?.link.kind {
            Kind::Hop(hop) => Some(hop),
            Kind::WebRtc(_) | Kind::Plain(_) => None,
        }
    }
}
