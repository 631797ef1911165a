//! The connection to the dataplane: frames in and out of its unix socket. Sends commands without
//! waiting for earlier answers, hands every answer to the closure that came with its command, and
//! gives events and answers on in the order in which the dataplane wrote them.
//!
//! Called by `attach`, which connects again and again. Knows nothing of rooms.

use std::{
    collections::BTreeMap,
    io,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use ironcast_protocol::{
    Command, CommandError, ErrorCode, Event, Frame, FrameKind, Reply,
    frame::{self, FrameBuffer, FrameError, Hello, MAGIC, MIN_VERSION, VERSION, Watched, Welcome},
    snapshot::{Resource, SnapshotPart},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::OwnedReadHalf},
    sync::mpsc,
};

/// Commands that may wait for their answers at once.
const WAITING_MAX: usize = 16_384;
/// What is gathered into one write.
const WRITE_BYTES: usize = 256 << 10;
const HELLO_TIME_MAX: Duration = Duration::from_secs(5);

/// What becomes of an answer. Runs on the reading task, in the order of the answers.
pub type OnReply = Box<dyn FnOnce(Result<Reply, Refusal>) + Send>;

/// Why a command was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The dataplane says why.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The connection ended: the command may or may not have been carried out.
    #[error("the connection to the dataplane was lost")]
    Lost,
    /// Too many commands wait already; this one was not sent.
    #[error("too many commands wait for the dataplane")]
    Busy,
    /// The command does not fit into a frame; it was not sent.
    #[error("the command cannot be sent: {0}")]
    Encode(String),
}

/// Why a connection could not be made or ended.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The socket.
    #[error("{0}")]
    Socket(#[from] io::Error),
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// Not a dataplane, or one that we have no version in common with.
    #[error("{0}")]
    Hello(String),
    /// A newer control plane has attached.
    #[error("a newer control plane has attached to the dataplane")]
    Fenced,
}

/// Sends commands. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    bytes: mpsc::UnboundedSender<Vec<u8>>,
    waiting: Arc<Mutex<Waiting>>,
}

#[derive(Default)]
struct Waiting {
    is_closed: bool,
    next: u64,
    /// Commands for which there was no room.
    refused: u64,
    /// When each was sent, or a part of its answer came.
    requests: BTreeMap<u64, (Instant, OnReply)>,
}

/// A command that will be sent: what can fail is behind it. No other one is sent meanwhile.
pub struct Ready<'a> {
    link: &'a Link,
    waiting: MutexGuard<'a, Waiting>,
    id: u64,
    bytes: Vec<u8>,
}

impl Ready<'_> {
    /// Sends it.
    pub fn send(mut self, on_reply: OnReply) {
        self.waiting.next = self.id;
        self.waiting.requests.insert(self.id, (Instant::now(), on_reply));
        // Under the lock, so that ids go out in ascending order. Where nobody writes any more the
        // connection has ended: whoever reads sees that, and ends what waits.
        let _ = self.link.bytes.send(self.bytes);
    }
}

impl Link {
    /// Sends a command. If it could not be sent, `on_reply` is dropped without being called: the
    /// caller may hold the locks that it would take.
    pub fn send(&self, command: &Command, on_reply: OnReply) -> Result<(), Refusal> {
        self.prepare(command)?.send(on_reply);
        Ok(())
    }

    /// The same in two steps, for who has to know whether it can be sent.
    pub fn prepare(&self, command: &Command) -> Result<Ready<'_>, Refusal> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_closed {
            return Err(Refusal::Lost);
        }
        if waiting.requests.len() >= WAITING_MAX {
            waiting.refused += 1;
            return Err(Refusal::Busy);
        }
        let id = waiting.next + 1;
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, FrameKind::Request, id, command)
            .map_err(|error| Refusal::Encode(error.to_string()))?;
        Ok(Ready { link: self, waiting, id, bytes })
    }

    /// Whether there is room for a command.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.waiting() < WAITING_MAX
    }

    /// How many commands found no room, since the connection was made.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).refused
    }

    /// How many commands wait for their answers.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).requests.len()
    }

    /// How long nothing was heard of the one that has been left alone longest.
    fn longest_silence(&self) -> Option<Duration> {
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.requests.values().map(|(heard, _)| heard.elapsed()).max()
    }

    /// A part of its answer has come.
    fn hear(&self, id: u64) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((heard, _)) = waiting.requests.get_mut(&id) {
            *heard = Instant::now();
        }
    }

    fn take(&self, id: u64) -> Option<OnReply> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.requests.remove(&id).map(|(_, on_reply)| on_reply)
    }

    /// Ends everything that still waits.
    fn close(&self) {
        let requests = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.is_closed = true;
            std::mem::take(&mut waiting.requests)
        };
        for (_, (_, on_reply)) in requests {
            on_reply(Err(Refusal::Lost));
        }
    }
}

#[cfg(test)]
impl Link {
    /// As many commands wait as may, until the result is called.
    pub fn fill(&self) -> impl FnOnce() + use<> {
        // Above all that are really sent.
        const FIRST: u64 = 1 << 63;
        let mut waiting = self.waiting.lock().unwrap();
        let missing = WAITING_MAX - waiting.requests.len();
        for id in (FIRST..).take(missing) {
            waiting.requests.insert(id, (Instant::now(), Box::new(drop)));
        }
        let waiting = Arc::clone(&self.waiting);
        move || waiting.lock().unwrap().requests.retain(|id, _| *id < FIRST)
    }
}

/// What is done with what arrives.
pub trait Receiver {
    /// An event with its number.
    fn receive_event(&mut self, number: u64, event: Event);
    /// A part of the answer to `Snapshot`.
    fn receive_part(&mut self, resources: Vec<Resource>);
}

/// An open connection behind its hello.
pub struct Session {
    /// For commands.
    pub link: Link,
    /// What the dataplane said about itself.
    pub welcome: Welcome,
    read: OwnedReadHalf,
    buffer: FrameBuffer,
    writer: tokio::task::JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.link.close();
        self.writer.abort();
    }
}

impl Session {
    /// Connects and says hello. One that gives way fences nobody: where another control plane is
    /// attached, the session ends with [`LinkError::Fenced`].
    pub async fn connect(
        path: &Path,
        controller: &str,
        gives_way: bool,
    ) -> Result<Self, LinkError> {
        let stream = UnixStream::connect(path).await?;
        let (mut read, mut write) = stream.into_split();
        let hello = Hello {
            magic: MAGIC.into(),
            version: VERSION,
            min_version: MIN_VERSION,
            controller: controller.into(),
            gives_way,
        };
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, FrameKind::Hello, 0, &hello)?;
        write.write_all(&bytes).await?;
        let mut buffer = FrameBuffer::default();
        let first = tokio::time::timeout(HELLO_TIME_MAX, read_frame(&mut read, &mut buffer))
            .await
            .map_err(|_| LinkError::Hello("the dataplane does not answer the hello".into()))??;
        let welcome = check_welcome(first)?;
        let (sender, receiver) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write_frames(write, receiver));
        let link = Link { bytes: sender, waiting: Arc::default() };
        Ok(Self { link, welcome, read, buffer, writer })
    }

    /// Reads until the connection ends, or until nothing was heard of a command for `silence_max`:
    /// then nobody knows what the dataplane did, and only a new snapshot can tell. Parts of an
    /// answer count: a large snapshot may take longer.
    pub async fn run(
        &mut self,
        receiver: &mut impl Receiver,
        silence_max: Duration,
    ) -> Result<(), LinkError> {
        let mut tick = tokio::time::interval(Duration::from_millis(250));
        loop {
            tokio::select! {
                frame = read_frame(&mut self.read, &mut self.buffer) => match frame? {
                    Some(frame) => self.receive(frame, receiver)?,
                    None => return Ok(()),
                },
                _ = tick.tick() => {
                    if self.link.longest_silence().is_some_and(|silence| silence > silence_max) {
                        let what = "the dataplane left a command without an answer".to_owned();
                        return Err(LinkError::Hello(what));
                    }
                }
            }
        }
    }

    fn receive(&self, frame: Frame, receiver: &mut impl Receiver) -> Result<(), LinkError> {
        match frame.kind {
            FrameKind::Response => {
                let answer = frame::decode_body::<Result<Reply, CommandError>>(&frame.body);
                let answer = answer.unwrap_or_else(|error| {
                    let message = format!("an answer that this version cannot read: {error}");
                    Err(CommandError::new(ErrorCode::Unknown, message))
                });
                // Told without being asked, or instead of an answer.
                let is_fenced = matches!(&answer, Err(error) if error.code == ErrorCode::Fenced);
                match self.link.take(frame.id) {
                    Some(on_reply) => on_reply(answer.map_err(Refusal::Command)),
                    None if is_fenced => {}
                    None => tracing::warn!(id = frame.id, "an answer to nothing that was asked"),
                }
                if is_fenced {
                    return Err(LinkError::Fenced);
                }
            }
            // An event of a newer dataplane that cannot be read is an event we do not know.
            FrameKind::Event => {
                let event = frame::decode_body(&frame.body).unwrap_or(Event::Unknown);
                receiver.receive_event(frame.id, event);
            }
            FrameKind::SnapshotPart => {
                self.link.hear(frame.id);
                // The answer's counts will not be reached: this snapshot is not used.
                match frame::decode_body::<SnapshotPart>(&frame.body) {
                    Ok(part) => receiver.receive_part(part.resources),
                    Err(error) => tracing::error!(%error, "a part of the snapshot is lost"),
                }
            }
            FrameKind::Hello
            | FrameKind::Welcome
            | FrameKind::Watch
            | FrameKind::Watched
            | FrameKind::Request
            | FrameKind::Unknown => {}
        }
        Ok(())
    }
}

/// Asks the dataplane which control plane is attached, without being one.
pub async fn who_is_attached(path: &Path) -> Result<Option<String>, LinkError> {
    let (mut read, mut write) = UnixStream::connect(path).await?.into_split();
    let mut bytes = Vec::new();
    frame::write_frame(&mut bytes, FrameKind::Watch, 0, &())?;
    write.write_all(&bytes).await?;
    let mut buffer = FrameBuffer::default();
    let first = tokio::time::timeout(HELLO_TIME_MAX, read_frame(&mut read, &mut buffer)).await;
    match first {
        Ok(Ok(Some(Frame { kind: FrameKind::Watched, body, .. }))) => {
            Ok(frame::decode_body::<Watched>(&body)?.controller)
        }
        Ok(Err(error)) => Err(error),
        _ => Err(LinkError::Hello("the dataplane does not say who is attached".into())),
    }
}

/// Safe to drop between frames: what was read stays in `buffer`.
async fn read_frame(
    read: &mut OwnedReadHalf,
    buffer: &mut FrameBuffer,
) -> Result<Option<Frame>, LinkError> {
    loop {
        if let Some(frame) = buffer.take()? {
            return Ok(Some(frame));
        }
        if read.read_buf(buffer.space()).await? == 0 {
            return Ok(None);
        }
    }
}

fn check_welcome(first: Option<Frame>) -> Result<Welcome, LinkError> {
    let Some(Frame { kind: FrameKind::Welcome, body, .. }) = first else {
        return Err(LinkError::Hello("what listens there is not a dataplane".into()));
    };
    let welcome: Welcome = frame::decode_body(&body)?;
    if welcome.magic != MAGIC {
        return Err(LinkError::Hello("what listens there is not a dataplane".into()));
    }
    if !(MIN_VERSION..=VERSION).contains(&welcome.version) {
        return Err(LinkError::Hello(format!(
            "the dataplane (release {}) speaks no version of the protocol from {MIN_VERSION} to \
             {VERSION}",
            welcome.release
        )));
    }
    Ok(welcome)
}

async fn write_frames(
    mut write: tokio::net::unix::OwnedWriteHalf,
    mut frames: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    while let Some(mut bytes) = frames.recv().await {
        while bytes.len() < WRITE_BYTES
            && let Ok(more) = frames.try_recv()
        {
            bytes.extend_from_slice(&more);
        }
        // The reading side sees the end of the connection too, and tells.
        if write.write_all(&bytes).await.is_err() {
            return;
        }
    }
}
