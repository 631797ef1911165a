//! Frames on the control socket. Owns the layout of bytes; reads and writes no socket itself.
//!
//! ```text
//! 0        4                          4+length
//! | length |  MessagePack of [`Frame`]  |      length: u32 big endian, at most MAX_FRAME_BYTES
//! ```
//! The first frame of either side is a hello ([`Hello`], [`Welcome`]). The body of every frame is
//! itself MessagePack inside a byte string: whoever cannot understand a body still knows which
//! request it has to refuse.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// First field of the first frame: tells a foreign client apart from one of ours.
pub const MAGIC: &str = "ironcast-dataplane";
/// The newest version this build speaks.
pub const VERSION: u16 = 1;
/// The oldest version this build speaks: N and N-1, from version 2 on.
pub const MIN_VERSION: u16 = 1;
/// Upper bound of one frame, length field not counted.
pub const MAX_FRAME_BYTES: usize = 4 << 20;
/// Bytes of the length field.
pub const LENGTH_BYTES: usize = 4;
/// Room for what a frame has beside its body, and for most bodies: they are written without growing.
const HEAD_BYTES: usize = 64;
const BODY_BYTES: usize = 512;

/// What a frame carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FrameKind {
    /// Control plane to dataplane, first: [`Hello`].
    Hello,
    /// Dataplane to control plane, first: [`Welcome`].
    Welcome,
    /// Instead of a hello, from a control plane that stands by: who is attached? Fences nobody.
    Watch,
    /// Dataplane to who asked: [`Watched`]. The connection then ends.
    Watched,
    /// Control plane to dataplane: [`crate::Command`]; `id` comes back in the response.
    Request,
    /// Dataplane to control plane: `Result<Reply, CommandError>`; `id` is the request's.
    Response,
    /// Dataplane to control plane: [`crate::Event`]; `id` is the event's sequence number.
    Event,
    /// Dataplane to control plane: a part of the answer to `Snapshot`; `id` is the request's.
    /// The response itself follows the last part.
    SnapshotPart,
    /// A kind that this build does not know: ignored.
    #[serde(other)]
    Unknown,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// What `body` holds.
    pub kind: FrameKind,
    /// Request id or event sequence number, see [`FrameKind`].
    #[serde(default)]
    pub id: u64,
    /// MessagePack of the body.
    #[serde(with = "serde_bytes")]
    pub body: Vec<u8>,
}

/// The control plane's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`MAGIC`].
    pub magic: String,
    /// The newest version that the control plane speaks.
    pub version: u16,
    /// The oldest version that the control plane speaks.
    #[serde(default)]
    pub min_version: u16,
    /// Name of the controller, for the log of the one that it fences.
    #[serde(default)]
    pub controller: String,
    /// Where another one is attached, it is this one that is fenced.
    #[serde(default)]
    pub gives_way: bool,
}

/// Who is attached.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watched {
    /// What it calls itself; `None`: nobody is.
    #[serde(default)]
    pub controller: Option<String>,
}

/// The dataplane's first frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// [`MAGIC`].
    pub magic: String,
    /// The version both will speak; 0 when there is none in common (the connection then ends).
    pub version: u16,
    /// The dataplane's release.
    #[serde(default)]
    pub release: String,
    /// Identifies this run of the dataplane: another value means that all state is gone.
    #[serde(default)]
    pub boot_id: String,
    /// Sequence number of the newest event so far.
    #[serde(default)]
    pub event_seq: u64,
}

/// Why a frame could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The length field announces more than [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes: at most {MAX_FRAME_BYTES} are allowed")]
    TooLarge(usize),
    /// Not MessagePack, or not of the expected shape.
    #[error("a frame that cannot be decoded: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
    /// A value that cannot be encoded.
    #[error("a frame that cannot be encoded: {0}")]
    Encode(#[from] rmp_serde::encode::Error),
}

/// MessagePack with named fields.
pub fn encode_body<T: Serialize>(value: &T) -> Result<Vec<u8>, FrameError> {
    let mut body = Vec::with_capacity(BODY_BYTES);
    rmp_serde::encode::write_named(&mut body, value)?;
    Ok(body)
}

/// The reverse of [`encode_body`].
pub fn decode_body<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(rmp_serde::from_slice(body)?)
}

/// Appends a whole frame, length field included, to `out`.
pub fn write_frame<T: Serialize>(
    out: &mut Vec<u8>,
    kind: FrameKind,
    id: u64,
    body: &T,
) -> Result<(), FrameError> {
    let frame = Frame { kind, id, body: encode_body(body)? };
    let begin = out.len();
    out.reserve(LENGTH_BYTES + HEAD_BYTES + frame.body.len());
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    let written = rmp_serde::encode::write_named(out, &frame);
    let length = out.len() - begin - LENGTH_BYTES;
    if let Err(error) = written.map_err(FrameError::from).and_then(|()| check_length(length)) {
        out.truncate(begin);
        return Err(error);
    }
    out[begin..begin + LENGTH_BYTES].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(())
}

fn check_length(length: usize) -> Result<(), FrameError> {
    if length > MAX_FRAME_BYTES { Err(FrameError::TooLarge(length)) } else { Ok(()) }
}

/// Takes the first whole frame out of `buffer`: `None` when more bytes are needed.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<Frame>, FrameError> {
    let Some((frame, end)) = first_frame(buffer)? else { return Ok(None) };
    buffer.drain(..end);
    Ok(Some(frame))
}

/// The first whole frame of `bytes`, and where it ends.
fn first_frame(bytes: &[u8]) -> Result<Option<(Frame, usize)>, FrameError> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = u32::from_be_bytes(*length) as usize;
    check_length(length)?;
    let end = LENGTH_BYTES + length;
    let Some(body) = bytes.get(LENGTH_BYTES..end) else { return Ok(None) };
    Ok(Some((rmp_serde::from_slice(body)?, end)))
}

/// Bytes as they arrive, and the frames in them. A frame that is taken moves no other.
#[derive(Debug, Default)]
pub struct FrameBuffer {
    bytes: Vec<u8>,
    /// What is taken already.
    taken: usize,
}

impl FrameBuffer {
    /// Where bytes that arrive are appended.
    pub fn space(&mut self) -> &mut Vec<u8> {
        if self.taken == self.bytes.len() {
            self.bytes.clear();
            self.taken = 0;
        } else if self.taken > self.bytes.len() / 2 {
            self.bytes.drain(..self.taken);
            self.taken = 0;
        }
        &mut self.bytes
    }

    /// The next whole frame: `None` when more bytes are needed.
    pub fn take(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((frame, end)) = first_frame(&self.bytes[self.taken..])? else { return Ok(None) };
        self.taken += end;
        Ok(Some(frame))
    }
}

/// The version both sides speak, if there is one.
#[must_use]
pub fn common_version(peer_min: u16, peer_max: u16) -> Option<u16> {
    let version = peer_max.min(VERSION);
    (version >= peer_min.max(MIN_VERSION)).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_out_however_their_bytes_arrive() {
        let mut all = Vec::new();
        for id in 0..50 {
            write_frame(&mut all, FrameKind::Request, id, &vec![7u8; 40 * id as usize]).unwrap();
        }
        for step in [1, 3, 100, all.len()] {
            let mut buffer = FrameBuffer::default();
            let mut ids = Vec::new();
            for bytes in all.chunks(step) {
                buffer.space().extend_from_slice(bytes);
                while let Some(frame) = buffer.take().unwrap() {
                    ids.push(frame.id);
                }
            }
            assert_eq!(ids, (0..50).collect::<Vec<_>>(), "{step}");
            assert!(buffer.space().is_empty());
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_refused_before_it_is_there() {
        let mut buffer = FrameBuffer::default();
        buffer.space().extend_from_slice(&(MAX_FRAME_BYTES as u32 + 1).to_be_bytes());
        assert!(matches!(buffer.take(), Err(FrameError::TooLarge(_))));
    }
}
