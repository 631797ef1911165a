//! UDP ports of this host: free ones for FFmpeg, and whether FFmpeg has bound them. That is looked up
//! in `/proc`, so that nobody has to guess by waiting.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};

/// Pairs are looked for so often.
const TRIES_MAX: usize = 200;

/// Pairs of neighbours, the first one even, that nobody has now. They are free again when this
/// returns: who takes one in between makes FFmpeg fail, which is tried again with others.
pub fn free_pairs(count: usize) -> io::Result<Vec<u16>> {
    let mut held = Vec::new();
    let mut firsts = Vec::new();
    for _ in 0..TRIES_MAX * count {
        if firsts.len() == count {
            break;
        }
        let any = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = any.local_addr()?.port();
        let first = port & !1;
        let other =
            UdpSocket::bind((Ipv4Addr::LOCALHOST, if port == first { port + 1 } else { first }));
        if let Ok(other) = other {
            firsts.push(first);
            held.push(other);
        }
        held.push(any);
    }
    if firsts.len() < count {
        return Err(io::Error::other("there are not enough free UDP ports"));
    }
    Ok(firsts)
}

/// The inodes of the UDP sockets that are bound to these ports, by the table of the kernel.
fn inodes(table: &str, ports: &[u16]) -> Vec<(u16, String)> {
    let read = |line: &str| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        let port = u16::from_str_radix(port, 16).ok().filter(|port| ports.contains(port))?;
        Some((port, (*fields.get(9)?).to_owned()))
    };
    table.lines().filter_map(read).collect()
}

/// Whether a process has bound all of these ports.
pub fn has_bound(pid: i32, ports: &[u16]) -> bool {
    let own = own_sockets(pid).unwrap_or_default();
    let mut bound = BTreeSet::new();
    for table in ["udp", "udp6"] {
        let text = std::fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default();
        let of_it = inodes(&text, ports).into_iter().filter(|(_, inode)| own.contains(inode));
        bound.extend(of_it.map(|(port, _)| port));
    }
    ports.iter().all(|port| bound.contains(port))
}

fn own_sockets(pid: i32) -> io::Result<BTreeSet<String>> {
    let mut own = BTreeSet::new();
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(link) = std::fs::read_link(entry?.path()) else { continue };
        let link = link.to_string_lossy();
        own.extend(link.strip_prefix("socket:[").map(|rest| rest.trim_end_matches(']').to_owned()));
    }
    Ok(own)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_are_free_and_apart() {
        let pairs = free_pairs(8).unwrap();
        let all: BTreeSet<u16> = pairs.iter().flat_map(|first| [*first, first + 1]).collect();
        assert_eq!(all.len(), 16);
        assert!(pairs.iter().all(|first| first % 2 == 0));
        for port in all {
            UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        }
    }

    #[test]
    fn who_has_bound_a_port_is_known() {
        let me = i32::try_from(std::process::id()).unwrap();
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert!(has_bound(me, &[port]));
        assert!(!has_bound(1, &[port]), "another process has not");
        assert!(!has_bound(me, &[port, free_pairs(1).unwrap()[0]]));
        drop(socket);
        assert!(!has_bound(me, &[port]));
    }
}
