//! Speaks the dataplane's own protocol over its unix socket, as a control plane does; also wrongly,
//! where a test wants that.

use std::{collections::VecDeque, path::Path, time::Duration};

use ironcast_protocol::{
    Command, CommandError, Event, Frame, FrameKind, Reply,
    frame::{self, Hello, MAGIC, MIN_VERSION, VERSION, Welcome},
    snapshot::{Resource, SnapshotPart},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

const LIMIT: Duration = Duration::from_secs(10);

/// Why the dataplane did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The socket.
    #[error("socket: {0}")]
    Io(#[from] std::io::Error),
    /// A frame.
    #[error("frame: {0}")]
    Frame(#[from] frame::FrameError),
    /// It ended the connection.
    #[error("the dataplane closed the connection")]
    Closed,
    /// It does not answer.
    #[error("no answer within {LIMIT:?}")]
    Silent,
    /// It refused.
    #[error("refused: {0}")]
    Refused(#[from] CommandError),
}

/// A connection after the hello.
pub struct Attachment {
    stream: UnixStream,
    buffer: Vec<u8>,
    next_id: u64,
    events: VecDeque<(u64, Event)>,
    parts: Vec<Resource>,
    /// What the dataplane said of itself.
    pub welcome: Welcome,
}

impl Attachment {
    /// Connects with the version of this build.
    pub async fn open(socket: &Path, controller: &str) -> Result<Self, AttachError> {
        let hello = Hello {
            magic: MAGIC.to_owned(),
            version: VERSION,
            min_version: MIN_VERSION,
            controller: controller.to_owned(),
            gives_way: false,
        };
        Self::open_with(socket, &hello).await
    }

    /// Connects with any hello.
    pub async fn open_with(socket: &Path, hello: &Hello) -> Result<Self, AttachError> {
        let mut attachment = Self {
            stream: UnixStream::connect(socket).await?,
            buffer: Vec::new(),
            next_id: 1,
            events: VecDeque::new(),
            parts: Vec::new(),
            welcome: Welcome {
                magic: String::new(),
                version: 0,
                release: String::new(),
                boot_id: String::new(),
                event_seq: 0,
            },
        };
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, FrameKind::Hello, 0, hello)?;
        attachment.send_bytes(&bytes).await?;
        let frame = attachment.read_frame().await?;
        attachment.welcome = frame::decode_body(&frame.body)?;
        Ok(attachment)
    }

    /// Sends a command and waits for its answer; events that come before are kept.
    pub async fn command(&mut self, command: &Command) -> Result<Reply, AttachError> {
        let id = self.send(FrameKind::Request, command).await?;
        self.answer(id).await
    }

    /// Sends any body in a frame of any kind; gives its id.
    pub async fn send<T: serde::Serialize>(
        &mut self,
        kind: FrameKind,
        body: &T,
    ) -> Result<u64, AttachError> {
        let id = self.next_id;
        self.next_id += 1;
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, kind, id, body)?;
        self.send_bytes(&bytes).await?;
        Ok(id)
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), AttachError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Waits for the answer to a request.
    pub async fn answer(&mut self, id: u64) -> Result<Reply, AttachError> {
        loop {
            let frame = self.read_frame().await?;
            match frame.kind {
                FrameKind::Response if frame.id == id => {
                    let result: Result<Reply, CommandError> = frame::decode_body(&frame.body)?;
                    return Ok(result?);
                }
                FrameKind::Event => {
                    self.events.push_back((frame.id, frame::decode_body(&frame.body)?));
                }
                FrameKind::SnapshotPart => {
                    let part: SnapshotPart = frame::decode_body(&frame.body)?;
                    self.parts.extend(part.resources);
                }
                _ => {}
            }
        }
    }

    /// All resources, parents before children.
    pub async fn snapshot(&mut self) -> Result<Vec<Resource>, AttachError> {
        self.parts.clear();
        self.command(&Command::Snapshot).await?;
        Ok(std::mem::take(&mut self.parts))
    }

    /// The next event.
    pub async fn event(&mut self) -> Result<(u64, Event), AttachError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            let frame = self.read_frame().await?;
            if frame.kind == FrameKind::Event {
                return Ok((frame.id, frame::decode_body(&frame.body)?));
            }
        }
    }

    /// The next frame, whatever it is; [`AttachError::Closed`] when there is none any more.
    pub async fn read_frame(&mut self) -> Result<Frame, AttachError> {
        let read = async {
            loop {
                if let Some(frame) = frame::take_frame(&mut self.buffer)? {
                    return Ok(frame);
                }
                if self.stream.read_buf(&mut self.buffer).await? == 0 {
                    return Err(AttachError::Closed);
                }
            }
        };
        tokio::time::timeout(LIMIT, read).await.map_err(|_| AttachError::Silent)?
    }

    /// True once the dataplane has closed the connection; what still came is thrown away.
    pub async fn is_closed(&mut self) -> bool {
        loop {
            match self.read_frame().await {
                Ok(_) => {}
                Err(AttachError::Closed) => return true,
                Err(AttachError::Io(error)) => {
                    return error.kind() == std::io::ErrorKind::ConnectionReset
                        || error.kind() == std::io::ErrorKind::BrokenPipe;
                }
                Err(_) => return false,
            }
        }
    }
}
