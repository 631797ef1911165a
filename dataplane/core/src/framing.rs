//! Datagrams on a stream (RFC 4571): two bytes of length before each. Owns what has come of a frame
//! that is not whole yet; gives every other frame out of the bytes that it came in.
//!
//! ```text
//! chunks  | 0 3 a b c 0 2 d | e 0 |          frames  a b c, d e
//!                     '---- kept ----' until the next chunk
//! ```
//! Nothing is kept for a connection on which nothing came, and never more than one frame.

/// Bytes of length before each frame.
pub const PREFIX_BYTES: usize = 2;

/// A frame is longer than any datagram: what follows cannot be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameTooLong;

/// What precedes a datagram; `None` for one that no frame can hold.
#[must_use]
pub fn prefix(datagram_len: usize) -> Option<[u8; PREFIX_BYTES]> {
    u16::try_from(datagram_len).ok().map(u16::to_be_bytes)
}

/// See the file's head.
#[derive(Debug, Default)]
pub struct Reassembly {
    /// The beginning of a frame, its length first; empty between frames.
    partial: Vec<u8>,
}

impl Reassembly {
    /// The next bytes of the stream: calls `take` with each frame that they complete.
    ///
    /// # Errors
    /// A frame says that it has more than `frame_bytes_max`. Those before it were taken; the stream
    /// is over.
    pub fn feed(
        &mut self,
        mut bytes: &mut [u8],
        frame_bytes_max: usize,
        mut take: impl FnMut(&mut [u8]),
    ) -> Result<(), FrameTooLong> {
        if !self.partial.is_empty() {
            bytes = self.complete(bytes, frame_bytes_max, &mut take)?;
        }
        let mut at = 0;
        while let Some(prefix) = bytes[at..].first_chunk::<PREFIX_BYTES>() {
            let start = at + PREFIX_BYTES;
            let end = start + allowed(*prefix, frame_bytes_max)?;
            let Some(frame) = bytes.get_mut(start..end) else { break };
            take(frame);
            at = end;
        }
        self.partial.extend_from_slice(&bytes[at..]);
        Ok(())
    }

    /// Goes on with the frame that is not whole yet. Returns what is behind it.
    fn complete<'a>(
        &mut self,
        bytes: &'a mut [u8],
        frame_bytes_max: usize,
        take: &mut impl FnMut(&mut [u8]),
    ) -> Result<&'a mut [u8], FrameTooLong> {
        let bytes = self.fill(bytes, PREFIX_BYTES);
        let Some(prefix) = self.partial.first_chunk::<PREFIX_BYTES>() else { return Ok(bytes) };
        let whole = PREFIX_BYTES + allowed(*prefix, frame_bytes_max)?;
        let bytes = self.fill(bytes, whole);
        if self.partial.len() == whole {
            take(&mut self.partial[PREFIX_BYTES..]);
            self.partial.clear();
        }
        Ok(bytes)
    }

    /// Moves bytes until there are so many of the frame.
    fn fill<'a>(&mut self, bytes: &'a mut [u8], until: usize) -> &'a mut [u8] {
        let missing = until.saturating_sub(self.partial.len()).min(bytes.len());
        let (now, later) = bytes.split_at_mut(missing);
        self.partial.extend_from_slice(now);
        later
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.partial.len()
    }
}

fn allowed(prefix: [u8; PREFIX_BYTES], frame_bytes_max: usize) -> Result<usize, FrameTooLong> {
    let len = usize::from(u16::from_be_bytes(prefix));
    if len > frame_bytes_max { Err(FrameTooLong) } else { Ok(len) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MAX: usize = 300;

    fn stream_of(frames: &[Vec<u8>]) -> Vec<u8> {
        frames.iter().flat_map(|f| prefix(f.len()).unwrap().into_iter().chain(f.clone())).collect()
    }

    /// What comes out when the stream comes in chunks of these lengths, the last one again and again.
    fn fed(stream: &[u8], chunks: &[usize]) -> (Vec<Vec<u8>>, Result<(), FrameTooLong>, usize) {
        let (mut reassembly, mut frames, mut rest) = (Reassembly::default(), Vec::new(), stream);
        let mut chunks = chunks.iter().copied().chain(std::iter::repeat(*chunks.last().unwrap()));
        while !rest.is_empty() {
            let len = chunks.next().unwrap().clamp(1, rest.len());
            let mut chunk = rest[..len].to_vec();
            rest = &rest[len..];
            let result = reassembly.feed(&mut chunk, MAX, |frame| frames.push(frame.to_vec()));
            assert!(reassembly.kept() < PREFIX_BYTES + MAX);
            if result.is_err() {
                return (frames, result, reassembly.kept());
            }
        }
        (frames, Ok(()), reassembly.kept())
    }

    #[test]
    fn a_frame_that_is_too_long_ends_the_stream_however_it_comes() {
        let mut stream = stream_of(&[vec![1; MAX], vec![]]);
        let whole = stream.len();
        stream.extend(stream_of(&[vec![2; MAX + 1]]));
        for chunk in [1, 2, 3, whole, whole + 1, whole + 2, stream.len()] {
            let (frames, result, _) = fed(&stream, &[chunk]);
            assert_eq!(frames, [vec![1; MAX], vec![]], "chunks of {chunk}");
            assert_eq!(result, Err(FrameTooLong), "chunks of {chunk}");
        }
    }

    #[test]
    fn no_frame_holds_more_than_its_length_can_say() {
        assert_eq!(prefix(65_535), Some([255, 255]));
        assert_eq!(prefix(65_536), None);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_whatever_the_chunks(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..=MAX), 0..20),
            chunks in prop::collection::vec(1usize..700, 1..20),
            cut in 0usize..400,
        ) {
            let stream = stream_of(&frames);
            let cut = cut.min(stream.len());
            let (out, result, kept) = fed(&stream[..stream.len() - cut], &chunks);
            prop_assert_eq!(result, Ok(()));
            prop_assert_eq!(&frames[..out.len()], &out[..]);
            // What is kept is what no frame has had.
            prop_assert_eq!(stream_of(&out).len() + kept, stream.len() - cut);
            prop_assert!(cut > 0 || out.len() == frames.len());
        }
    }
}
