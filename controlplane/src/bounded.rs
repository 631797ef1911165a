//! QUIC streams on which no frame of HTTP/3 but DATA is long. The HTTP/3 library keeps a frame until
//! all of it is there, whatever length it announces, and a header comes before anybody has said who
//! he is. So the frames' heads (RFC 9114 section 7.1) are read here, on their way to the library,
//! and a stream that announces too much ends.

use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h3::{
    error::Code,
    quic::{
        BidiStream, Connection, ConnectionErrorIncoming, OpenStreams, RecvStream, SendStream,
        StreamErrorIncoming, StreamId, WriteBuf,
    },
};

/// Longest frame that is not DATA, and longest header when it is decoded.
pub const FRAME_BYTES_MAX: u64 = 32 << 10;

/// Frame type whose payload is handed on as it comes (RFC 9114 section 7.2.1).
const DATA: u64 = 0;

/// A connection or stream of the QUIC library.
pub struct Bounded<T>(pub T);

/// A stream that is read, with the place in its frames.
pub struct BoundedStream<T> {
    stream: T,
    frames: Frames,
}

impl<T> BoundedStream<T> {
    /// A stream of requests begins with a frame, one in a single direction with its type.
    fn new(stream: T, begins_with_type: bool) -> Self {
        Self { stream, frames: Frames { has_type: begins_with_type, ..Frames::default() } }
    }
}

/// Where in the frames of a stream we are.
#[derive(Debug, Default)]
struct Frames {
    /// The type of a stream in a single direction is still to come.
    has_type: bool,
    /// Nothing on it is a frame.
    is_foreign: bool,
    /// What has come of a frame's head.
    head: [u8; 16],
    head_len: usize,
    /// What is left of its payload.
    payload: u64,
}

/// A frame is too long.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Frames {
    fn pass(&mut self, mut bytes: &[u8]) -> Result<(), TooLong> {
        while let Some((first, rest)) = bytes.split_first() {
            if self.is_foreign {
                return Ok(());
            }
            if self.payload > 0 {
                let skipped =
                    usize::try_from(self.payload).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.payload -= skipped as u64;
                bytes = &bytes[skipped..];
                continue;
            }
            self.head[self.head_len] = *first;
            self.head_len += 1;
            bytes = rest;
            self.take_head()?;
        }
        Ok(())
    }

    fn take_head(&mut self) -> Result<(), TooLong> {
        let Some((kind, rest)) = variable(&self.head[..self.head_len]) else { return Ok(()) };
        if self.has_type {
            // Only the control stream has frames (RFC 9114 section 6.2); others are not kept.
            self.has_type = false;
            self.is_foreign = kind != 0;
            self.head_len = 0;
            return Ok(());
        }
        let Some((length, _)) = variable(rest) else { return Ok(()) };
        if kind != DATA && length > FRAME_BYTES_MAX {
            return Err(TooLong);
        }
        self.payload = length;
        self.head_len = 0;
        Ok(())
    }
}

/// A whole number of variable length (RFC 9000 section 16), and what is behind it.
fn variable(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let len = 1 << (bytes.first()? >> 6);
    let (number, rest) = bytes.split_at_checked(len)?;
    let number = number.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    Some((number & (u64::MAX >> (66 - 8 * len as u32)), rest))
}

impl<T: RecvStream<Buf = Bytes>> RecvStream for BoundedStream<T> {
    type Buf = Bytes;

    fn poll_data(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, StreamErrorIncoming>> {
        let data = ready!(self.stream.poll_data(context))?;
        if let Some(bytes) = &data
            && self.frames.pass(bytes) == Err(TooLong)
        {
            let error_code = Code::H3_EXCESSIVE_LOAD.value();
            self.stream.stop_sending(error_code);
            return Poll::Ready(Err(StreamErrorIncoming::StreamTerminated { error_code }));
        }
        Poll::Ready(Ok(data))
    }

    fn stop_sending(&mut self, error_code: u64) {
        self.stream.stop_sending(error_code);
    }

    fn recv_id(&self) -> StreamId {
        self.stream.recv_id()
    }
}

impl<T: SendStream<B>, B: Buf> SendStream<B> for BoundedStream<T> {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_ready(context)
    }

    fn send_data<D: Into<WriteBuf<B>>>(&mut self, data: D) -> Result<(), StreamErrorIncoming> {
        self.stream.send_data(data)
    }

    fn poll_finish(&mut self, context: &mut Context<'_>) -> Poll<Result<(), StreamErrorIncoming>> {
        self.stream.poll_finish(context)
    }

    fn reset(&mut self, reset_code: u64) {
        self.stream.reset(reset_code);
    }

    fn send_id(&self) -> StreamId {
        self.stream.send_id()
    }
}

impl<T, B: Buf> BidiStream<B> for BoundedStream<T>
where
    T: BidiStream<B> + RecvStream<Buf = Bytes>,
    T::RecvStream: RecvStream<Buf = Bytes>,
{
    type SendStream = T::SendStream;
    type RecvStream = BoundedStream<T::RecvStream>;

    fn split(self) -> (Self::SendStream, Self::RecvStream) {
        let (send, stream) = self.stream.split();
        (send, BoundedStream { stream, frames: self.frames })
    }
}

impl<T, B: Buf> OpenStreams<B> for Bounded<T>
where
    T: OpenStreams<B>,
    T::BidiStream: RecvStream<Buf = Bytes>,
{
    type BidiStream = BoundedStream<T::BidiStream>;
    type SendStream = T::SendStream;

    fn poll_open_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, StreamErrorIncoming>> {
        let stream = ready!(self.0.poll_open_bidi(context))?;
        Poll::Ready(Ok(BoundedStream::new(stream, false)))
    }

    fn poll_open_send(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::SendStream, StreamErrorIncoming>> {
        self.0.poll_open_send(context)
    }

    fn close(&mut self, code: Code, reason: &[u8]) {
        self.0.close(code, reason);
    }
}

impl<T, B: Buf> Connection<B> for Bounded<T>
where
    T: Connection<B>,
    T::BidiStream: RecvStream<Buf = Bytes>,
    T::RecvStream: RecvStream<Buf = Bytes>,
{
    type RecvStream = BoundedStream<T::RecvStream>;
    type OpenStreams = Bounded<T::OpenStreams>;

    fn poll_accept_recv(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::RecvStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.0.poll_accept_recv(context))?;
        Poll::Ready(Ok(BoundedStream::new(stream, true)))
    }

    fn poll_accept_bidi(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Result<Self::BidiStream, ConnectionErrorIncoming>> {
        let stream = ready!(self.0.poll_accept_bidi(context))?;
        Poll::Ready(Ok(BoundedStream::new(stream, false)))
    }

    fn opener(&self) -> Self::OpenStreams {
        Bounded(self.0.opener())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A head with numbers of eight bytes: any size fits.
    fn head(kind: u64, length: u64) -> Vec<u8> {
        let number = |number: u64| (number | 0xC0 << 56).to_be_bytes();
        [number(kind), number(length)].concat()
    }

    fn passes(bytes: &[u8], piece: usize, has_type: bool) -> bool {
        let mut frames = Frames { has_type, ..Frames::default() };
        bytes.chunks(piece).all(|piece| frames.pass(piece).is_ok())
    }

    #[test]
    fn long_frames_are_found_in_any_pieces() {
        let ping = [head(0x21, 3), vec![7; 3]].concat();
        let header = [head(1, 500), vec![0xFF; 500]].concat();
        let data = [head(DATA, 1 << 40), vec![1; 100]].concat();
        let good = [ping.clone(), header.clone(), data].concat();
        let bad = [ping, header, head(1, FRAME_BYTES_MAX + 1)].concat();
        for piece in 1..40 {
            assert!(passes(&good, piece, false), "{piece}");
            assert!(!passes(&bad, piece, false), "{piece}");
            assert!(passes(&[vec![3], bad.clone()].concat(), piece, true), "not frames");
            assert!(!passes(&[vec![0], bad.clone()].concat(), piece, true), "the control stream");
        }
        assert!(passes(&[1, 0x40, 2, 5, 5, 1, 0], 3, false), "short numbers");
        assert!(!passes(&[1, 0x80, 1, 0, 0], 1, false), "65,536 in four bytes");
    }
}
