//! Who owns a range of UDP ports. Listeners share their ports (SO_REUSEPORT), so the kernel refuses
//! nobody a second time: two servers on one range would take each other's packets. So a server says
//! what it uses by the name of an abstract unix socket, which is as wide as the network is (a
//! container has its own) and ends with the process, and asks for the names of others before.

use std::{
    fs, io,
    net::{IpAddr, UdpSocket},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

const PREFIX: &str = "ironcast-ports/";
/// Longer lists of addresses are not told apart: the name of a socket has 107 bytes.
const ADDRESSES_BYTES_MAX: usize = 70;
/// Stands for every address.
const ALL: &str = "*";

/// Why ports cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    /// By a server like this one.
    #[error("another Ironcast on this host uses the UDP ports {first}-{last}")]
    Taken {
        /// Its first port.
        first: u16,
        /// Its last port.
        last: u16,
    },
    /// It cannot be known.
    #[error("who uses which UDP ports on this host cannot be told: {0}")]
    Unknown(#[from] io::Error),
}

/// A range that is ours until this is dropped.
#[derive(Debug)]
pub struct PortClaim {
    _name: UnixDatagram,
}

impl PortClaim {
    /// The range on these addresses; on all of them where none is named.
    ///
    /// # Errors
    /// Somebody has a part of it.
    pub fn take(addresses: &[IpAddr], first: u16, last: u16) -> Result<Self, ClaimError> {
        let own = Range { first, last, addresses: listed(addresses) };
        let names = fs::read_to_string("/proc/net/unix")?;
        // A name stands at the end of its line, behind an @.
        let others = names.lines().filter_map(|line| Range::parse(line.split_once('@')?.1));
        if let Some(other) = others.into_iter().find(|other| own.meets(other)) {
            return Err(ClaimError::Taken { first: other.first, last: other.last });
        }
        let name = SocketAddr::from_abstract_name(own.name())?;
        match UnixDatagram::bind_addr(&name) {
            Ok(name) => Ok(Self { _name: name }),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                Err(ClaimError::Taken { first, last })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Whether a UDP port is nobody's, by whom ever it may be shared.
///
/// # Errors
/// As of `bind`: `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
pub fn require_free(address: std::net::SocketAddr) -> io::Result<()> {
    // Without SO_REUSEPORT and SO_REUSEADDR a port that anybody has is refused.
    UdpSocket::bind(address).map(drop)
}

fn listed(addresses: &[IpAddr]) -> String {
    let list: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
    let list = list.join(",");
    let is_all = addresses.iter().any(IpAddr::is_unspecified);
    if list.is_empty() || is_all || list.len() > ADDRESSES_BYTES_MAX { ALL.into() } else { list }
}

/// What a name says.
struct Range {
    first: u16,
    last: u16,
    addresses: String,
}

impl Range {
    fn name(&self) -> String {
        format!("{PREFIX}{}-{}/{}", self.first, self.last, self.addresses)
    }

    fn parse(name: &str) -> Option<Self> {
        let (ports, addresses) = name.strip_prefix(PREFIX)?.split_once('/')?;
        let (first, last) = ports.split_once('-')?;
        let addresses = addresses.trim_end().to_owned();
        Some(Self { first: first.parse().ok()?, last: last.parse().ok()?, addresses })
    }

    fn meets(&self, other: &Self) -> bool {
        let shares_address = self.addresses == ALL
            || other.addresses == ALL
            || self.addresses.split(',').any(|own| other.addresses.split(',').any(|o| o == own));
        shares_address && self.first <= other.last && other.first <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_belong_to_one_at_a_time() {
        // Below what other tests listen on, and never bound here.
        let here: IpAddr = [127, 9, 9, 1].into();
        let there: IpAddr = [127, 9, 9, 2].into();
        let claim = PortClaim::take(&[here], 1_100, 1_199).unwrap();
        for (addresses, first, last) in
            [(vec![here], 1_100, 1_199), (vec![], 1_199, 1_300), (vec![there, here], 1_000, 1_100)]
        {
            let error = PortClaim::take(&addresses, first, last).unwrap_err();
            assert!(error.to_string().contains("1100-1199"), "{error}");
        }
        let beside = PortClaim::take(&[here], 1_200, 1_299).unwrap();
        let elsewhere = PortClaim::take(&[there], 1_100, 1_199).unwrap();
        drop((claim, beside, elsewhere));
        PortClaim::take(&[here], 1_100, 1_250).unwrap();
    }

    #[test]
    fn a_long_list_of_addresses_counts_as_all() {
        let many: Vec<IpAddr> = (1..40).map(|last| [127, 9, 8, last].into()).collect();
        let _claim = PortClaim::take(&many, 1_400, 1_400).unwrap();
        PortClaim::take(&[[127, 9, 7, 1].into()], 1_400, 1_401).unwrap_err();
    }
}
