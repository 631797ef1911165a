//! The UDP socket of one peer: receives in batches (recvmmsg and receive offload where the kernel
//! has them), sends, and can be exchanged for one on another port while the peer lives. Called by
//! [`crate::peer`], and by benches for floors without crypto; knows nothing of what the datagrams mean.

use std::{
    cell::RefCell,
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
    sync::{Arc, RwLock},
};

use quinn_udp::{BATCH_SIZE, RecvMeta, UdpSocketState};
use tokio::{io::Interest, net::UdpSocket, sync::Notify};

/// One message may be a run of datagrams that the kernel has glued together.
const MESSAGE_BYTES: usize = 65_535;
/// A frame for a big key frame burst of all layers, and for a busy load client.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

thread_local! {
    // Shared by all sockets of a thread: with hundreds of peers, one set each would not fit the
    // cache, and a receive never waits while it holds the buffers.
    static BUFFERS: RefCell<Vec<u8>> = RefCell::new(vec![0; BATCH_SIZE * MESSAGE_BYTES]);
}

#[derive(Debug)]
struct Bound {
    io: UdpSocket,
    state: UdpSocketState,
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

    /// Waits for datagrams and hands each to `each`; returns after one batch, or when the socket
    /// was exchanged.
    pub async fn receive(&self, mut each: impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
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
    fn receive_batch(&self, each: &mut impl FnMut(SocketAddr, &[u8])) -> io::Result<()> {
        BUFFERS.with_borrow_mut(|buffers| {
            let mut metas = [RecvMeta::default(); BATCH_SIZE];
            let count = {
                let mut chunks = buffers.chunks_exact_mut(MESSAGE_BYTES);
                let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                    IoSliceMut::new(chunks.next().expect("one chunk a message"))
                });
                self.state.recv((&self.io).into(), &mut slices, &mut metas)?
            };
            for (meta, message) in metas[..count].iter().zip(buffers.chunks_exact(MESSAGE_BYTES)) {
                for datagram in message[..meta.len].chunks(meta.stride.max(1)) {
                    each(meta.addr, datagram);
                }
            }
            Ok(())
        })
    }
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
    let io = UdpSocket::from_std(socket.into())?;
    let state = UdpSocketState::new((&io).into())?;
    Ok(Bound { io, state })
}
