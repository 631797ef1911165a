//! A TCP candidate (RFC 6544) for a peer that speaks datagrams: a UDP port on loopback, and a connection
//! with the framing of RFC 4571 behind it. Called by [`crate::call`] where a transport has no other
//! candidates; knows nothing of what the datagrams mean.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpStream, UdpSocket,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    task::JoinHandle,
};

/// The longest datagram that a frame can hold.
const DATAGRAM_BYTES_MAX: usize = 65_507;
const PREFIX_BYTES: usize = 2;

/// Connects to a candidate. Returns where its datagrams go to instead, and the task that carries them:
/// the connection ends with it.
pub async fn open(candidate: SocketAddr) -> io::Result<(SocketAddr, JoinHandle<()>)> {
    let stream = TcpStream::connect(candidate).await?;
    stream.set_nodelay(true)?;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = socket.local_addr()?;
    Ok((address, tokio::spawn(async move { drop(carry(stream, socket).await) })))
}

async fn carry(stream: TcpStream, socket: UdpSocket) -> io::Result<()> {
    // Whoever speaks first is the peer.
    let (_, peer) = socket.peek_from(&mut [0; 1]).await?;
    socket.connect(peer).await?;
    let (reader, writer) = stream.into_split();
    tokio::try_join!(frame(&socket, writer), unframe(reader, &socket)).map(drop)
}

async fn frame(socket: &UdpSocket, mut writer: OwnedWriteHalf) -> io::Result<()> {
    let mut frame = vec![0; PREFIX_BYTES + DATAGRAM_BYTES_MAX];
    loop {
        let len = socket.recv(&mut frame[PREFIX_BYTES..]).await?;
        frame[..PREFIX_BYTES].copy_from_slice(&(len as u16).to_be_bytes());
        writer.write_all(&frame[..PREFIX_BYTES + len]).await?;
    }
}

async fn unframe(mut reader: OwnedReadHalf, socket: &UdpSocket) -> io::Result<()> {
    let mut datagram = vec![0; usize::from(u16::MAX)];
    loop {
        let datagram = &mut datagram[..usize::from(reader.read_u16().await?)];
        reader.read_exact(datagram).await?;
        socket.send(datagram).await?;
    }
}
