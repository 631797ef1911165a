//! What waits to be sent to a client. So many packets may wait, and so many bytes in them: the one that
//! passes the limit is still taken, and none after it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use engineioxide_core::{Packet, PacketBuf};
use tokio::sync::mpsc::{
    self,
    error::{SendError, TryRecvError, TrySendError},
};

pub(crate) fn buffer(packets_max: usize, bytes_max: usize) -> (BufferTx, BufferRx) {
    let (tx, rx) = mpsc::channel(packets_max);
    let bytes = Arc::new(AtomicUsize::new(0));
    let tx = BufferTx {
        packets: tx,
        bytes: bytes.clone(),
        bytes_max,
    };
    (tx, BufferRx { packets: rx, bytes })
}

fn size(packets: &PacketBuf) -> usize {
    let sizes = packets.iter().map(|packet| match packet {
        Packet::Message(msg) => msg.len(),
        Packet::Binary(bin) | Packet::BinaryV3(bin) => bin.len(),
        _ => 0,
    });
    sizes.sum()
}

/// The way into it.
#[derive(Debug)]
pub(crate) struct BufferTx {
    packets: mpsc::Sender<PacketBuf>,
    bytes: Arc<AtomicUsize>,
    bytes_max: usize,
}

impl BufferTx {
    fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) >= self.bytes_max
    }

    pub fn try_send(&self, packets: PacketBuf) -> Result<(), TrySendError<PacketBuf>> {
        match self.try_reserve() {
            Ok(permit) => {
                permit.send(packets);
                Ok(())
            }
            Err(TrySendError::Full(())) => Err(TrySendError::Full(packets)),
            Err(TrySendError::Closed(())) => Err(TrySendError::Closed(packets)),
        }
    }

    pub fn try_reserve(&self) -> Result<BufferPermit<'_>, TrySendError<()>> {
        let inner = self.packets.try_reserve()?;
        if self.is_full() {
            return Err(TrySendError::Full(()));
        }
        Ok(BufferPermit {
            inner,
            bytes: &self.bytes,
        })
    }

    /// Waits for a place among the packets, and does not look at the bytes.
    pub async fn send(&self, packets: PacketBuf) -> Result<(), SendError<()>> {
        let inner = self.packets.reserve().await?;
        let bytes = &self.bytes;
        BufferPermit { inner, bytes }.send(packets);
        Ok(())
    }

    pub fn is_closed(&self) -> bool {
        self.packets.is_closed()
    }

    pub async fn closed(&self) {
        self.packets.closed().await
    }
}

/// A place in it.
pub(crate) struct BufferPermit<'a> {
    inner: mpsc::Permit<'a, PacketBuf>,
    bytes: &'a AtomicUsize,
}

impl BufferPermit<'_> {
    pub fn send(self, packets: PacketBuf) {
        // Before it is sent: whoever takes it out subtracts.
        self.bytes.fetch_add(size(&packets), Ordering::Relaxed);
        self.inner.send(packets);
    }
}

/// The way out of it.
#[derive(Debug)]
pub(crate) struct BufferRx {
    packets: mpsc::Receiver<PacketBuf>,
    bytes: Arc<AtomicUsize>,
}

impl BufferRx {
    fn taken(&self, packets: &PacketBuf) {
        self.bytes.fetch_sub(size(packets), Ordering::Relaxed);
    }

    pub async fn recv(&mut self) -> Option<PacketBuf> {
        let packets = self.packets.recv().await;
        packets.inspect(|packets| self.taken(packets))
    }

    pub fn try_recv(&mut self) -> Result<PacketBuf, TryRecvError> {
        let packets = self.packets.try_recv();
        packets.inspect(|packets| self.taken(packets))
    }

    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<PacketBuf>> {
        let packets = self.packets.poll_recv(cx);
        packets.map(|packets| packets.inspect(|packets| self.taken(packets)))
    }

    pub fn close(&mut self) {
        self.packets.close();
    }
}
