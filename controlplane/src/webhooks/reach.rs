//! Where deliveries may go to. Whoever may make a receiver by the API chooses an address that this
//! host connects to: without limits he would reach what only this host does. So the addresses that a
//! name stands for are looked at when the connection is made, each time.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use ipnet::IpNet;
use tokio::net::TcpStream;

/// Which addresses.
#[derive(Debug, Clone)]
pub enum Reach {
    /// All: who writes the configuration knows where to.
    All,
    /// Public ones, and those of these networks.
    Public(Arc<[IpNet]>),
}

impl Reach {
    /// Whether deliveries may go there.
    #[must_use]
    pub fn has(&self, address: IpAddr) -> bool {
        match self {
            Self::All => true,
            Self::Public(also) => {
                let address = address.to_canonical();
                is_public(address) || also.iter().any(|network| network.contains(&address))
            }
        }
    }

    /// A connection to one of the addresses that are allowed, in the order of the resolver.
    pub async fn connect(&self, host: &str, port: u16) -> io::Result<TcpStream> {
        let found: Vec<SocketAddr> = tokio::net::lookup_host((host, port)).await?.collect();
        let allowed: Vec<SocketAddr> =
            found.into_iter().filter(|address| self.has(address.ip())).collect();
        if allowed.is_empty() {
            let text = "its address is not a public one, nor in events.webhook_allow";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        TcpStream::connect(&*allowed).await
    }
}

/// Reached by everybody alike. Mapped addresses were made what they stand for before.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => is_public_v4(ip),
        IpAddr::V6(ip) => is_public_v6(ip),
    }
}

fn is_public_v4(ip: Ipv4Addr) -> bool {
    let [a, b, c, _] = ip.octets();
    let is_shared = a == 100 && b & 0xc0 == 64;
    let is_of_protocols = (a, b, c) == (192, 0, 0);
    let is_benchmark = a == 198 && b & 0xfe == 18;
    let is_reserved = a == 0 || a >= 240;
    !(ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_multicast()
        || ip.is_documentation()
        || is_shared
        || is_of_protocols
        || is_benchmark
        || is_reserved)
}

/// Global unicast is 2000::/3. In it: protocols' own with Teredo (2001::/23), documentation, and 6to4,
/// which carries an address of the older kind.
fn is_public_v6(ip: Ipv6Addr) -> bool {
    let [a, b, ..] = ip.segments();
    let is_global = a & 0xe000 == 0x2000;
    let is_of_protocols = a == 0x2001 && b & 0xfe00 == 0;
    let is_documentation = (a, b) == (0x2001, 0xdb8) || a == 0x3fff && b < 0x1000;
    is_global && !is_of_protocols && !is_documentation && a != 0x2002
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_everybody_reaches_is_public() {
        let reach = Reach::Public([].into());
        for text in ["9.9.9.9", "198.51.99.1", "100.128.0.1", "2620:fe::fe", "::ffff:9.9.9.9"] {
            assert!(reach.has(text.parse().unwrap()), "{text}");
        }
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "192.0.0.8",
            "192.0.2.1",
            "198.19.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "fe80::1",
            "fd00::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff:fff::1",
        ] {
            assert!(!reach.has(text.parse().unwrap()), "{text}");
            assert!(Reach::All.has(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn networks_may_be_allowed_beside_them() {
        let reach = Reach::Public(["10.1.0.0/16".parse().unwrap()].into());
        for (text, is_allowed) in
            [("10.1.2.3", true), ("::ffff:10.1.2.3", true), ("10.2.0.1", false)]
        {
            assert_eq!(reach.has(text.parse().unwrap()), is_allowed, "{text}");
        }
    }

    #[tokio::test]
    async fn a_name_is_what_it_stands_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = Reach::Public([].into()).connect("localhost", port).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
        let loopback = Reach::Public(["127.0.0.0/8".parse().unwrap()].into());
        loopback.connect("localhost", port).await.unwrap();
    }
}
