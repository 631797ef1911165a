//! The sockets of QUIC, for the control plane and its client: both read and write in bursts, because
//! many calls are on their way at once, and what the socket has no room for is lost and sent again
//! only after a while.
#![forbid(unsafe_code)]

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use nix::sys::socket::{
    setsockopt,
    sockopt::{RcvBuf, RcvBufForce, SndBuf, SndBufForce},
};

/// Of datagrams that wait in one direction, as the kernel counts them: it adds what it keeps beside
/// each, which is more than a small datagram has, and doubles this figure for that. Nothing of it is
/// taken before it is needed.
const BUFFER_BYTES: usize = 4 << 20;

/// Opens a socket. Its buffers are as large as this process may have them: `net.core.rmem_max` and
/// `wmem_max` are the limit, for those without CAP_NET_ADMIN.
pub fn open(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    // A smaller one carries everything too, only more slowly.
    let _ = setsockopt(&socket, RcvBufForce, &BUFFER_BYTES)
        .or_else(|_| setsockopt(&socket, RcvBuf, &BUFFER_BYTES));
    let _ = setsockopt(&socket, SndBufForce, &BUFFER_BYTES)
        .or_else(|_| setsockopt(&socket, SndBuf, &BUFFER_BYTES));
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use nix::sys::socket::getsockopt;

    use super::*;

    #[test]
    fn buffers_are_as_large_as_the_kernel_lets_them_be() {
        let socket = open((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let may_have = |limit: &str| {
            let limit = std::fs::read_to_string(format!("/proc/sys/net/core/{limit}")).unwrap();
            // The kernel doubles what is asked for.
            2 * limit.trim().parse::<usize>().unwrap().min(BUFFER_BYTES)
        };
        let (receive, send) = (getsockopt(&socket, RcvBuf), getsockopt(&socket, SndBuf));
        assert!(receive.unwrap() >= may_have("rmem_max"), "{receive:?}");
        assert!(send.unwrap() >= may_have("wmem_max"), "{send:?}");
    }
}
