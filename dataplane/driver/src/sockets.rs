//! How sockets are made: listeners of datagrams and connections, and the connected sockets of peers (paths), where the order of
//! bind and connect matters. Called by `Io` and `steering`; keeps none of them.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use socket2::{Domain, Protocol, Socket, Type};

/// Kernel memory for what waits to be read: a burst of key frames must fit.
const RECEIVE_BYTES: usize = 4 << 20;
/// The same for listeners: only connectivity checks come there.
const LISTENER_RECEIVE_BYTES: usize = 1 << 20;
/// Strangers' datagrams that are handed on.
const STRAYS_MAX: usize = 64;
/// For what waits to be sent.
const SEND_BYTES: usize = 4 << 20;
/// What a connection may have on its way, and of it what has not left yet: the second is how old media
/// gets in a queue, half a second of a video call.
const STREAM_SEND_BYTES: usize = 1 << 20;
const STREAM_UNSENT_BYTES_MAX: u32 = 128 << 10;
/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// Raises RLIMIT_NOFILE to its hard limit and returns that: the file table may not be larger.
pub(crate) fn raise_file_limit() -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is valid for the call to write.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: `limit` is valid for the call to read.
    let raised = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } == 0;
    // Failing is no harm: the old limit holds.
    Ok(if raised { limit.rlim_max } else { soft })
}

/// Whether something ran out that may be there again later: descriptors, memory, the file table.
#[must_use]
pub fn is_shortage(error: &io::Error) -> bool {
    let codes = [libc::EMFILE, libc::ENFILE, libc::ENOMEM, libc::ENOBUFS];
    let is_full = matches!(error.kind(), io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory);
    is_full || error.raw_os_error().is_some_and(|code| codes.contains(&code))
}

fn udp(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // The kernel's arrival time with every datagram.
    set_option(&socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, &1i32)?;
    Ok(socket)
}

/// Sets an option that no library knows.
pub(crate) fn set_option<T>(
    socket: &impl AsFd,
    level: i32,
    name: i32,
    value: &T,
) -> io::Result<()> {
    // SAFETY: a valid descriptor, and `size_of` readable bytes at `value`, which the kernel copies.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A listener on one specific address: the wildcard is for peers' sockets.
pub(crate) fn listener(address: SocketAddr) -> io::Result<Socket> {
    let socket = udp(address)?;
    socket.set_recv_buffer_size(LISTENER_RECEIVE_BYTES)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// A listener for connections on one specific address, which other workers may share. What is accepted
/// has its options.
pub(crate) fn stream_listener(address: SocketAddr, is_shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Connections of before a restart may still be closing.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(is_shared)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(STREAM_SEND_BYTES)?;
    set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, &STREAM_UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

/// What has come of a connection, which stays where it is. Does not wait.
pub(crate) fn peek(socket: &impl AsFd, buffer: &mut [u8]) -> io::Result<usize> {
    let (fd, flags) = (socket.as_fd().as_raw_fd(), libc::MSG_PEEK | libc::MSG_DONTWAIT);
    // SAFETY: a valid descriptor, and `buffer` is valid for its length for the call to write.
    let got = unsafe { libc::recv(fd, buffer.as_mut_ptr().cast(), buffer.len(), flags) };
    usize::try_from(got).map_err(|_| io::Error::last_os_error())
}

/// A connection is readable when so many bytes have come.
pub(crate) fn wake_at(socket: &impl AsFd, bytes: usize) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, &(bytes as i32))
}

/// A connected socket, and what had come to it before it was connected (its sender and bytes).
pub(crate) struct Connected {
    pub(crate) socket: OwnedFd,
    /// What it sends from.
    pub(crate) local: SocketAddr,
    pub(crate) strays: Vec<(SocketAddr, Vec<u8>)>,
    /// Those that were too many to be kept.
    pub(crate) dropped: u64,
}

/// A socket from `local` to `remote`. Bound to the wildcard first: between bind and connect such a
/// socket takes no datagram from the listeners. Where the route then chooses another source address
/// (a peer on this host that talks to loopback from its interface's address), it is bound to
/// `local` itself, and what came in between is handed over.
pub(crate) fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<Connected> {
    let wildcard: IpAddr = match local {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = udp(local)?;
    socket.bind(&SocketAddr::new(wildcard, local.port()).into())?;
    let connected = socket.connect(&remote.into());
    let chosen = socket.local_addr()?.as_socket();
    let fits =
        chosen.is_some_and(|chosen| chosen.ip() == local.ip() || local.ip().is_unspecified());
    if connected.is_ok() && fits {
        return finish(socket, remote);
    }
    drop(socket);
    let socket = udp(local)?;
    socket.bind(&local.into())?;
    socket.connect(&remote.into())?;
    finish(socket, remote)
}

fn finish(socket: Socket, remote: SocketAddr) -> io::Result<Connected> {
    // Limits of the system may cap these; the kernel then takes what it allows.
    socket.set_recv_buffer_size(RECEIVE_BYTES)?;
    socket.set_send_buffer_size(SEND_BYTES)?;
    let mut strays = Vec::new();
    let socket = std::net::UdpSocket::from(socket);
    let local = socket.local_addr()?;
    let mut buffer = [0; 2_048];
    let mut dropped = 0;
    // Datagrams of the peer itself stay queued for the ring; only strangers' are taken out here,
    // and those are at the front. None may stay: it would pass for the peer's.
    while let Ok((_, from)) = socket.peek_from(&mut buffer) {
        if from == remote {
            break;
        }
        match socket.recv_from(&mut buffer) {
            Ok((len, from)) if strays.len() < STRAYS_MAX => {
                strays.push((from, buffer[..len].to_vec()));
            }
            _ => dropped += 1,
        }
    }
    Ok(Connected { socket: socket.into(), local, strays, dropped })
}
