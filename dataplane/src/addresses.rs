//! Which addresses this host has: where listeners are bound, and what candidates say.

use std::net::IpAddr;

use ironcast_config::Announced;
use ironcast_protocol::command::{CandidateKinds, IceCandidate};

/// Of host candidates (RFC 8445 section 5.1.2.2), and of those that are to be used only where they do
/// not work: RFC 6544 section 4.2 wants less for TCP, and browsers have this number for their own.
const FIRST_TYPE_PREFERENCE: u32 = 126;
const SECOND_TYPE_PREFERENCE: u32 = 90;
/// Of passive ones, in the local preference of TCP (RFC 6544 section 4.2).
const PASSIVE_DIRECTION: u32 = 4 << 13;

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
/// nothing else; each for UDP and TCP, as wanted.
#[must_use]
pub fn candidates(
    local: &[IpAddr],
    announced: &[Announced],
    port: u16,
    kinds: CandidateKinds,
) -> Vec<IceCandidate> {
    let list: Vec<(String, u16)> = if announced.is_empty() {
        let global: Vec<_> = local.iter().filter(|address| !address.is_loopback()).collect();
        let used = if global.is_empty() { local.iter().collect() } else { global };
        used.into_iter().map(|ip| (ip.to_string(), port)).collect()
    } else {
        announced.iter().map(|a| (a.ip.to_string(), a.port.unwrap_or(port))).collect()
    };
    let last = list.len();
    let of_kind = |is_tcp: bool| {
        let is_first = is_tcp == kinds.tcp_first;
        let kind = if is_first { FIRST_TYPE_PREFERENCE } else { SECOND_TYPE_PREFERENCE };
        let (protocol, direction) = if is_tcp { ("tcp", PASSIVE_DIRECTION) } else { ("udp", 0) };
        let all = list.iter().enumerate();
        all.map(move |(index, (address, port))| IceCandidate {
            foundation: format!("{protocol}{index}"),
            // RFC 8445 section 5.1.2.1: first address first, component 1.
            priority: kind << 24 | (direction + (last - index) as u32) << 8 | 255,
            address: address.clone(),
            protocol: protocol.into(),
            port: *port,
        })
    };
    let is_wanted = |is_tcp: &bool| if *is_tcp { kinds.tcp } else { kinds.udp };
    [kinds.tcp_first, !kinds.tcp_first].into_iter().filter(is_wanted).flat_map(of_kind).collect()
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
        let all = |local: &[IpAddr]| candidates(local, &[], 7, CandidateKinds::default());
        let said: Vec<_> = all(&both).into_iter().map(|c| c.address).collect();
        assert_eq!(said, ["10.0.0.1", "fd00::1"]);
        let said = all(&both[1..2]);
        assert_eq!((said[0].address.as_str(), said[0].port), ("127.0.0.1", 7));
        assert!(all(&both)[0].priority > all(&both)[1].priority);
    }

    #[test]
    fn udp_comes_before_tcp_unless_it_is_wanted_otherwise() {
        let both = [ip("10.0.0.1"), ip("fd00::1")];
        let said = |udp, tcp, tcp_first| -> Vec<String> {
            let kinds = CandidateKinds { udp, tcp, tcp_first };
            let said = candidates(&both, &[], 7, kinds);
            assert!(said.is_sorted_by(|a, b| a.priority > b.priority), "{said:?}");
            said.into_iter().map(|candidate| candidate.foundation).collect()
        };
        assert_eq!(said(true, true, false), ["udp0", "udp1", "tcp0", "tcp1"]);
        assert_eq!(said(true, true, true), ["tcp0", "tcp1", "udp0", "udp1"]);
        assert_eq!(said(false, true, false), ["tcp0", "tcp1"]);
        assert_eq!(said(true, false, true), ["udp0", "udp1"]);
    }
}
