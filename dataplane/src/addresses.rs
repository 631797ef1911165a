//! Which addresses this host has: where listeners are bound, and what candidates say.

use std::net::IpAddr;

use ironcast_config::Announced;
use ironcast_protocol::command::IceCandidate;

/// Local addresses to listen on: those of the configuration, else all that a peer could use.
/// Link-local ones need a scope that a candidate cannot carry.
///
/// # Errors
/// The interfaces cannot be read.
pub fn local(configured: &[IpAddr]) -> std::io::Result<Vec<IpAddr>> {
    if !configured.is_empty() {
        return Ok(configured.to_vec());
    }
    let mut addresses: Vec<IpAddr> =
        if_addrs::get_if_addrs()?.iter().map(if_addrs::Interface::ip).collect();
    addresses.retain(|address| match address {
        IpAddr::V4(ip) => !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    });
    addresses.sort();
    addresses.dedup();
    Ok(addresses)
}

/// What candidates say: the announced addresses, else all global ones, loopback only if there is
/// nothing else.
#[must_use]
pub fn candidates(local: &[IpAddr], announced: &[Announced], port: u16) -> Vec<IceCandidate> {
    let list: Vec<(String, u16)> = if announced.is_empty() {
        let global: Vec<_> = local.iter().filter(|address| !address.is_loopback()).collect();
        let used = if global.is_empty() { local.iter().collect() } else { global };
        used.into_iter().map(|ip| (ip.to_string(), port)).collect()
    } else {
        announced.iter().map(|a| (a.ip.to_string(), a.port.unwrap_or(port))).collect()
    };
    let last = list.len();
    list.into_iter()
        .enumerate()
        .map(|(index, (address, port))| IceCandidate {
            foundation: format!("udp{index}"),
            // RFC 8445 section 5.1.2.1: host candidates, first address first, component 1.
            priority: 126 << 24 | ((last - index) as u32) << 8 | 255,
            address,
            protocol: "udp".into(),
            port,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn loopback_is_offered_only_when_there_is_nothing_else() {
        let both = [ip("10.0.0.1"), ip("127.0.0.1"), ip("fd00::1"), ip("::1")];
        let said: Vec<_> = candidates(&both, &[], 7).into_iter().map(|c| c.address).collect();
        assert_eq!(said, ["10.0.0.1", "fd00::1"]);
        let said = candidates(&both[1..2], &[], 7);
        assert_eq!((said[0].address.as_str(), said[0].port), ("127.0.0.1", 7));
        assert!(candidates(&both, &[], 7)[0].priority > candidates(&both, &[], 7)[1].priority);
    }
}
