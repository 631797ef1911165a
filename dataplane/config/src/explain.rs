//! Why a process cannot start where an address, a port, a folder or a file of the configuration cannot be
//! had: one sentence that names the setting, and one with what to do. Said by all processes in the same
//! words; opens nothing itself.

use std::{io, net::SocketAddr, path::Path};

/// Where nothing better is known.
const MEDIA_PORTS: &str = "50000-59999";

/// An address of TCP or QUIC that `key` names.
#[must_use]
pub fn address(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    let other =
        SocketAddr::new(address.ip(), port.checked_add(1_000).unwrap_or_else(|| port - 1_000));
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "{address} ({key}) is taken: another program listens there. End it, or choose another: \
             --set {key}={other}"
        ),
        io::ErrorKind::PermissionDenied => {
            let other = SocketAddr::new(address.ip(), 8_000 + port % 1_000);
            format!(
                "{address} ({key}) is not allowed to this user: low ports want \
                 CAP_NET_BIND_SERVICE. Choose a higher one: --set {key}={other}"
            )
        }
        io::ErrorKind::AddrNotAvailable => format!(
            "{address} ({key}) is not an address of this machine. Choose one that is: \
             --set {key}=127.0.0.1:{port}"
        ),
        _ => format!("{address} ({key}) cannot be had: {error}"),
    }
}

/// A UDP port for media.
#[must_use]
pub fn media_port(key: &str, address: SocketAddr, error: &io::Error) -> String {
    let other = if key == "rtc.ports" { MEDIA_PORTS } else { "3479" };
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "UDP port {address} ({key}) is taken: another program has it. End it, or choose \
             others: --set {key}={other}"
        ),
        io::ErrorKind::PermissionDenied => format!(
            "UDP port {address} ({key}) is not allowed to this user: low ports want \
             CAP_NET_BIND_SERVICE. Choose higher ones: --set {key}={other}"
        ),
        _ => format!("UDP port {address} ({key}) cannot be had: {error}"),
    }
}

/// An address to listen on for media.
#[must_use]
pub fn media_address(address: std::net::IpAddr, error: &io::Error) -> String {
    format!(
        "{address} (rtc.listen) cannot be listened on: {error}. Choose addresses of this machine, \
         or none for all of them"
    )
}

/// The state directory, or something in it.
#[must_use]
pub fn state(path: &Path, error: &io::Error) -> String {
    format!(
        "{} in the state directory (control.state_dir) cannot be made: {error}. Let the user of \
         this process write there, or choose another: --set control.state_dir=./.run",
        path.display()
    )
}

/// The dataplane's socket.
#[must_use]
pub fn socket(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another dataplane listens on {}: end it, or give this one another state directory: \
             --set control.state_dir=./.run2",
            path.display()
        ),
        io::ErrorKind::InvalidInput => format!(
            "{} is too long for a unix socket, which has at most 107 bytes: choose a shorter one: \
             --set dataplane.socket=/run/ironcast/dataplane.sock",
            path.display()
        ),
        _ => format!(
            "the socket {} cannot be made: {error}. Let the user of this process write there, or \
             choose another place: --set control.state_dir=./.run",
            path.display()
        ),
    }
}

/// A file that `key` names.
#[must_use]
pub fn file(key: &str, path: &Path, error: &impl std::fmt::Display) -> String {
    format!("{} ({key}): {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_has_its_own_advice() {
        let text = |address: &str, code| {
            let error = io::Error::from_raw_os_error(code);
            super::address("signaling.listen", address.parse().unwrap(), &error)
        };
        let taken = text("127.0.0.1:65000", 98);
        assert!(taken.contains("another program") && taken.contains("127.0.0.1:64000"), "{taken}");
        let low = text("127.0.0.1:80", 13);
        assert!(low.contains("not allowed") && low.contains("127.0.0.1:8080"), "{low}");
        let foreign = text("203.0.113.9:80", 99);
        assert!(foreign.contains("not an address of this machine"), "{foreign}");
        let media = media_port(
            "rtc.ports",
            "0.0.0.0:800".parse().unwrap(),
            &io::Error::from_raw_os_error(13),
        );
        assert!(media.contains("rtc.ports=50000"), "{media}");
    }
}
