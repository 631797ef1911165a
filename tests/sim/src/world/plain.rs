//! Peers that are known by their address (plain transports): what they send is in the clear, and made by the
//! test; what comes to them is kept as it is.

use std::net::SocketAddr;

use ironcast_core::{Nanos, link::plain::Sockets};
use ironcast_protocol::plain::{ConnectPlainTransport, CreatePlainTransport};

use super::{ROOM, World};

/// Where they are; `plain_allow` of the limits has to say so.
pub const NETWORK: &str = "10.0.9.0/24";

impl World {
    /// A peer of the first worker. Returns its address.
    ///
    /// # Panics
    /// When it is refused.
    pub fn join_plain(&mut self, id: &str) -> SocketAddr {
        let number = self.plain.len() as u8;
        let local = SocketAddr::from(([192, 0, 2, 1], 28_000 + u16::from(number)));
        let remote = SocketAddr::from(([10, 0, 9, 1 + number], 5_004));
        let create = CreatePlainTransport {
            id: id.into(),
            router: ROOM.into(),
            listen: None,
            port: None,
            rtcp_mux: true,
            comedia: false,
            srtp_suite: None,
            pipe: false,
            note: Vec::new(),
        };
        let connect = ConnectPlainTransport {
            id: id.into(),
            remote: Some(remote),
            rtcp_remote: None,
            srtp: None,
            note: Vec::new(),
        };
        let (sockets, now) = (Sockets { rtp: local, rtcp: None }, self.now);
        let worker = self.worker();
        worker.apply_create_plain_transport(&create, sockets, None, now).expect("made");
        worker.apply_connect_plain_transport(&connect, None, None, now).expect("connected");
        self.plain.insert(remote, Vec::new());
        self.run(0);
        remote
    }

    /// A datagram of such a peer arrives now.
    pub fn send_plain(&mut self, remote: SocketAddr, datagram: &[u8]) {
        self.send_to_socket(0, remote, datagram);
    }

    /// What comes to that address is kept from now on, whoever is there.
    pub fn listen_at(&mut self, remote: SocketAddr) {
        self.plain.entry(remote).or_default();
    }

    /// What came to it since this was asked last, and when.
    pub fn take_plain(&mut self, remote: SocketAddr) -> Vec<(Nanos, Vec<u8>)> {
        self.plain.get_mut(&remote).map(std::mem::take).unwrap_or_default()
    }
}
