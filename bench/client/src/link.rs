//! The UDP socket of one peer: receives runs of datagrams (receive offload) with the kernel's time of
//! arrival, sends, and can be exchanged for one on another port while the peer lives. Called by
//! [`crate::peer`], and by benches for floors without crypto; knows nothing of what the datagrams mean.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    os::fd::AsRawFd,
    sync::{Arc, RwLock},
};

use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};

use crate::clock;

/// One message may be a run of datagrams that the kernel has glued together.
const MESSAGE_BYTES: usize = 65_535;
/// Room for a time stamp and the size of a run's datagrams.
const CONTROL_BYTES: usize = 128;
/// Messages between two waits: the other peers of the thread get their turn.
const MESSAGES_MAX: usize = 32;
/// A frame for a big key frame burst of all layers, and for a busy load client.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

thread_local! {
    // Shared by all sockets of a thread: with hundreds of peers, one each would not fit the cache,
    // and a receive never waits while it holds the buffer.
    static BUFFER: RefCell<Vec<u8>> = RefCell::new(vec![0; MESSAGE_BYTES]);
}

#[derive(Debug)]
struct Bound {
    io: UdpSocket,
}

/// The socket, and the way to exchange it.
#[derive(Debug)]
pub struct Link {
    bound: RwLock<Arc<Bound>>,
    exchanged: Notify,
}

impl Link {
    /// Binds a free port of `ip`.
    pub fn bind(ip: IpAddr) -> io::Result<Self> {
        Ok(Self { bound: RwLock::new(Arc::new(bound(ip)?)), exchanged: Notify::new() })
    }

    /// Goes on from a free port of `ip`; the old socket is closed.
    pub fn rebind(&self, ip: IpAddr) -> io::Result<()> {
        let next = Arc::new(bound(ip)?);
        *self.bound.write().expect("no panic while locked") = next;
        self.exchanged.notify_one();
        Ok(())
    }

    /// Where it is bound.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.current().io.local_addr()
    }

    /// Waits for datagrams and hands each to `each`, with the moment (as of [`clock::now_ns`]) at
    /// which the kernel took it from the device; returns after some, or when the socket was
    /// exchanged.
    pub async fn receive(&self, mut each: impl FnMut(SocketAddr, &[u8], u64)) -> io::Result<()> {
        let bound = self.current();
        tokio::select! {
            result = bound.io.async_io(Interest::READABLE, || bound.receive_batch(&mut each)) => {
                result
            }
            () = self.exchanged.notified() => Ok(()),
        }
    }

    /// Sends at once, or drops the datagram if the socket's buffer is full.
    pub fn try_send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.current().io.try_send_to(datagram, to).map(|_| ())
    }

    /// Sends, and waits for room if need be.
    pub async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let bound = self.current();
        match bound.io.try_send_to(datagram, to) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                bound.io.send_to(datagram, to).await.map(|_| ())
            }
            other => other.map(|_| ()),
        }
    }

    fn current(&self) -> Arc<Bound> {
        Arc::clone(&self.bound.read().expect("no panic while locked"))
    }
}

impl Bound {
    fn receive_batch(&self, each: &mut impl FnMut(SocketAddr, &[u8], u64)) -> io::Result<()> {
        BUFFER.with_borrow_mut(|buffer| {
            for number in 0..MESSAGES_MAX {
                match self.receive_message(buffer, each) {
                    // What was received counts; the next call finds the socket empty, or the error.
                    Err(_) if number > 0 => break,
                    other => other?,
                }
            }
            Ok(())
        })
    }

    fn receive_message(
        &self,
        buffer: &mut [u8],
        each: &mut impl FnMut(SocketAddr, &[u8], u64),
    ) -> io::Result<()> {
        let mut control = [0; CONTROL_BYTES];
        let mut slices = [IoSliceMut::new(buffer)];
        let (fd, flags) = (self.io.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let message = recvmsg::<SockaddrStorage>(fd, &mut slices, Some(&mut control), flags)?;
        let (mut at_ns, mut run) = (None, None);
        for one in message.cmsgs()? {
            match one {
                ControlMessageOwned::ScmTimestampns(at) => at_ns = Some(clock::of_wall(at.into())),
                ControlMessageOwned::UdpGroSegments(bytes) => run = usize::try_from(bytes).ok(),
                _ => {}
            }
        }
        let (len, from) = (message.bytes, message.address.as_ref().and_then(address));
        let from = from.ok_or(io::ErrorKind::InvalidData)?;
        let at_ns = at_ns.unwrap_or_else(clock::now_ns);
        for datagram in buffer[..len].chunks(run.unwrap_or(len).max(1)) {
            each(from, datagram, at_ns);
        }
        Ok(())
    }
}

fn address(of: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = of.as_sockaddr_in().map(|v4| SocketAddr::V4((*v4).into()));
    v4.or_else(|| of.as_sockaddr_in6().map(|v6| SocketAddr::V6((*v6).into())))
}

fn bound(ip: IpAddr) -> io::Result<Bound> {
    let address = SocketAddr::new(ip, 0);
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // The kernel may grant less; that is its limit, not an error.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    // Without receive offload (Linux before 5.0) each datagram is a message of its own.
    let _ = setsockopt(&socket, sockopt::UdpGroSegment, &true);
    Ok(Bound { io: UdpSocket::from_std(socket.into())? })
}
