//! Questions that `up` asks a service before it calls it ready. Each answers at once; the caller
//! asks again. Nothing here waits or retries.

use std::{
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    time::Duration,
};

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

/// Whether the TCP port can be had; tells an operator before any process starts.
pub(crate) fn port_is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}
