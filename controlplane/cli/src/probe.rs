//! Questions that `up` asks a service before it calls it ready. Each answers at once; the caller
//! asks again. Nothing here waits or retries.

use std::{
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    path::{Path, PathBuf},
    time::Duration,
};

use ironcast_config::{Config, PortRange, explain};
use ironcast_driver::claim::{PortClaim, require_free};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::timeout,
};

/// How a service shows that it is ready.
#[derive(Debug, Clone)]
pub(crate) enum Probe {
    /// Somebody listens on the unix socket.
    Socket(PathBuf),
    /// `GET path` over plain HTTP answers 200.
    Http(SocketAddr, &'static str),
    /// Somebody listens on the TCP port (a TLS door: its certificate is not ours to judge).
    Port(SocketAddr),
}

const PATIENCE: Duration = Duration::from_secs(2);

impl Probe {
    /// Ready now?
    pub(crate) async fn passes(&self) -> bool {
        let answer = match self {
            Self::Socket(path) => timeout(PATIENCE, socket_listens(path)).await,
            Self::Http(address, path) => timeout(PATIENCE, http_is_ok(*address, path)).await,
            Self::Port(address) => timeout(PATIENCE, port_listens(*address)).await,
        };
        answer.unwrap_or(false)
    }
}

async fn socket_listens(path: &Path) -> bool {
    UnixStream::connect(path).await.is_ok()
}

async fn port_listens(address: SocketAddr) -> bool {
    TcpStream::connect(address).await.is_ok()
}

async fn http_is_ok(address: SocketAddr, path: &str) -> bool {
    let Ok(mut stream) = TcpStream::connect(address).await else { return false };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return false;
    }
    let mut line = [0; 12];
    stream.read_exact(&mut line).await.is_ok() && line.ends_with(b" 200")
}

/// What keeps us from listening on the TCP port, in words; tells an operator before any process
/// starts.
pub(crate) fn require_port(key: &str, address: SocketAddr) -> Result<(), String> {
    TcpListener::bind(address).map(drop).map_err(|error| explain::address(key, address, &error))
}

/// What keeps us from the UDP ports of media, in words.
pub(crate) fn require_media_ports(config: &Config) -> Result<(), String> {
    let rtc = &config.rtc;
    let (key, ports, other) = match rtc.single_port {
        Some(port) => ("rtc.single_port", PortRange { first: port, last: port }, "3479"),
        None => ("rtc.ports", rtc.ports, "50000-59999"),
    };
    for ip in &rtc.listen {
        if let Err(error) = UdpSocket::bind((*ip, 0)) {
            return Err(explain::media_address(*ip, &error));
        }
    }
    if let Err(error) = PortClaim::take(&rtc.listen, ports.first, ports.last) {
        return Err(format!("{ports} ({key}): {error}. Choose others: --set {key}={other}"));
    }
    let all = [IpAddr::from([0, 0, 0, 0])];
    let addresses = if rtc.listen.is_empty() { &all[..] } else { &rtc.listen };
    for ip in addresses {
        let address = SocketAddr::new(*ip, ports.first);
        if let Err(error) = require_free(address) {
            return Err(explain::media_port(key, address, &error));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn media_ports_of_another_server_are_found_while_it_opened_none_of_them() {
        let mut config = Config::default();
        config.rtc.listen = vec![[127, 9, 6, 1].into()];
        config.rtc.ports = PortRange { first: 1_500, last: 1_509 };
        require_media_ports(&config).unwrap();
        let claim = PortClaim::take(&config.rtc.listen, 1_505, 1_515).unwrap();
        let text = require_media_ports(&config).unwrap_err();
        assert!(text.contains("another Ironcast") && text.contains("--set rtc.ports="), "{text}");
        drop(claim);
        let stranger = UdpSocket::bind("127.9.6.1:1500").unwrap();
        let text = require_media_ports(&config).unwrap_err();
        assert!(text.contains("127.9.6.1:1500"), "{text}");
        drop(stranger);
        config.rtc.listen = vec![[203, 0, 113, 9].into()];
        let text = require_media_ports(&config).unwrap_err();
        assert!(text.contains("rtc.listen"), "{text}");
    }
}
