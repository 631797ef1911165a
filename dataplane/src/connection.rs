//! Connections on the control socket: accepts them, reads their frames, writes to them without ever
//! waiting. Owns sockets and threads; understands nothing but the hello.
//!
//! Both ways are bounded: frames that the hub has not dealt with make the reader wait, and a
//! controller that leaves too many bytes unread, or takes none for too long, is cut off.

use std::{
    io::{self, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc, Condvar, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use ironcast_protocol::{
    Frame, FrameKind,
    frame::{self, FrameBuffer, FrameError, Hello, MAGIC, Watched, Welcome},
};
use serde::Serialize;

use crate::{
    counters::{Counter, Counters},
    messages::ToHub,
};

/// Connections at one time: one controller, and those that want to be it.
const CONNECTIONS_MAX: usize = 16;
/// Frames of a connection that the hub has not dealt with yet.
const TURNS: usize = 64;
/// A controller is behind when it has so many bytes to read.
const BEHIND_BYTES: usize = 4 << 20;
/// Time for the first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// A controller that takes no byte for so long is gone: it gives up its own commands earlier.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// After a failure to accept: want of descriptors passes, but not at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const READ_BYTES: usize = 64 << 10;

/// What waits to be written.
struct Queue {
    /// Connection's number.
    id: u64,
    bytes: AtomicUsize,
    bytes_max: usize,
    /// The hub wants to know when little is left.
    tell: AtomicBool,
    is_cut_off: AtomicBool,
    counters: Arc<Counters>,
}

impl Queue {
    fn cut_off(&self, stream: &UnixStream) {
        let _ = stream.shutdown(std::net::Shutdown::Both);
        if !self.is_cut_off.swap(true, Ordering::SeqCst) {
            tracing::warn!(connection = self.id, "the control plane reads too slowly: cut off");
            self.counters.count(Counter::ControllersCutOff);
        }
    }
}

/// The hub's end of a connection.
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// What the controller calls itself.
    pub name: String,
    /// It does not want to take another one's place.
    pub gives_way: bool,
    frames: Sender<Vec<u8>>,
    queue: Arc<Queue>,
    stream: UnixStream,
}

impl Connection {
    /// Queues a frame; false if the body is too large for one. A controller that does not read is
    /// cut off, never waited for.
    pub fn send<T: Serialize>(&self, kind: FrameKind, id: u64, body: &T) -> bool {
        let mut bytes = Vec::new();
        match frame::write_frame(&mut bytes, kind, id, body) {
            Ok(()) => {}
            Err(FrameError::TooLarge(_)) => return false,
            Err(error) => {
                tracing::error!(%error, "a frame was not sent");
                return false;
            }
        }
        let waiting = self.queue.bytes.fetch_add(bytes.len(), Ordering::SeqCst) + bytes.len();
        if waiting > self.queue.bytes_max {
            self.queue.bytes.fetch_sub(bytes.len(), Ordering::SeqCst);
            self.queue.cut_off(&self.stream);
        } else {
            // Without a writer the connection is over, and its reader says so.
            let _ = self.frames.send(bytes);
        }
        true
    }

    /// True while much is left to be read; then the hub hears of it when that has changed.
    pub fn is_behind(&self) -> bool {
        // The writer looks at the flag after it has counted down, we look at the count after the
        // flag: one of us sees the other.
        self.queue.tell.store(true, Ordering::SeqCst);
        let behind = self.queue.bytes.load(Ordering::SeqCst) > BEHIND_BYTES;
        if !behind {
            self.queue.tell.store(false, Ordering::SeqCst);
        }
        behind
    }

    /// Ends reading; what is queued is still written.
    pub fn close(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Read);
    }
}

/// One of the frames that may be with the hub at a time.
#[derive(Default)]
pub struct Turn(Arc<Turns>);

#[derive(Default)]
struct Turns {
    taken: Mutex<usize>,
    given: Condvar,
}

impl Turns {
    fn take(self: &Arc<Self>) -> Turn {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.given.wait_while(taken, |taken| *taken >= TURNS);
        *waited.unwrap_or_else(PoisonError::into_inner) += 1;
        Turn(Arc::clone(self))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        *taken = taken.saturating_sub(1);
        drop(taken);
        self.0.given.notify_one();
    }
}

/// What every hello is answered with.
#[derive(Clone)]
pub struct Identity {
    /// Identifies this run.
    pub boot_id: String,
    /// The newest event's number.
    pub event_seq: Arc<AtomicU64>,
}

/// What connections share.
#[derive(Clone)]
pub struct Server {
    /// What every hello is answered with.
    pub identity: Identity,
    /// Bytes that may wait for a controller.
    pub queue_bytes_max: usize,
    /// What the process counts.
    pub counters: Arc<Counters>,
    /// Who understands the frames.
    pub hub: Sender<ToHub>,
}

/// Listens on the control socket; only the owner may connect.
///
/// # Errors
/// The socket cannot be made, or another dataplane answers on it.
pub fn listen(path: &Path, server: Server) -> io::Result<()> {
    if UnixStream::connect(path).is_ok() {
        let message = format!("another dataplane is listening on {}", path.display());
        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
    }
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    let accept = move || server.accept(&listener);
    std::thread::Builder::new().name("control-accept".into()).spawn(accept)?;
    Ok(())
}

impl Server {
    fn accept(&self, listener: &UnixListener) {
        ironcast_notify::give_way_to_media();
        // Each connection's threads hold one of these: it is open for as long as one of them runs.
        let mut open: Vec<Weak<()>> = Vec::new();
        let mut next_id = 1;
        for stream in listener.incoming() {
            let stream = match stream {
                Ok(stream) => stream,
                Err(error) => {
                    self.counters.count(Counter::AcceptsFailed);
                    tracing::warn!(%error, "a control connection cannot be accepted");
                    std::thread::sleep(ACCEPT_PAUSE);
                    continue;
                }
            };
            open.retain(|held| held.strong_count() > 0);
            if open.len() >= CONNECTIONS_MAX {
                self.counters.count(Counter::ConnectionsRefused);
                continue;
            }
            let (server, id, held) = (self.clone(), next_id, Arc::new(()));
            open.push(Arc::downgrade(&held));
            next_id += 1;
            let serve = move || {
                if let Err(error) = server.serve(id, stream, &held) {
                    tracing::info!(connection = id, %error, "control connection ended");
                }
                let _ = server.hub.send(ToHub::Detached { connection: id });
            };
            if let Err(error) = std::thread::Builder::new().name("control".into()).spawn(serve) {
                tracing::warn!(%error, "no thread for a control connection");
                std::thread::sleep(ACCEPT_PAUSE);
            }
        }
    }

    fn serve(&self, id: u64, mut stream: UnixStream, held: &Arc<()>) -> io::Result<()> {
        let mut reader = Reader { frames: FrameBuffer::default(), chunk: vec![0; READ_BYTES] };
        stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
        stream.set_write_timeout(Some(HELLO_TIMEOUT))?;
        // Somebody who only asks whether we listen says nothing.
        let Some(first) = reader.next(&mut stream)? else { return Ok(()) };
        if first.kind == FrameKind::Watch {
            return self.tell_who_is_attached(&mut stream);
        }
        let hello = self.welcome(&first, &mut stream)?;
        stream.set_read_timeout(None)?;
        let mut connection = self.open(id, hello.controller, &stream, held)?;
        connection.gives_way = hello.gives_way;
        if self.hub.send(ToHub::Attached(connection)).is_err() {
            return Ok(());
        }
        let turns = Arc::<Turns>::default();
        while let Some(frame) = reader.next(&mut stream)? {
            let turn = turns.take();
            if self.hub.send(ToHub::Frame { connection: id, frame, turn }).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// The hub's end of a connection, and the thread that writes to it.
    pub fn open(
        &self,
        id: u64,
        name: String,
        stream: &UnixStream,
        held: &Arc<()>,
    ) -> io::Result<Connection> {
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        let (frames, to_write) = channel();
        let queue = Arc::new(Queue {
            id,
            bytes: AtomicUsize::new(0),
            bytes_max: self.queue_bytes_max,
            tell: AtomicBool::new(false),
            is_cut_off: AtomicBool::new(false),
            counters: Arc::clone(&self.counters),
        });
        let writer = Writer { stream: stream.try_clone()?, queue: Arc::clone(&queue) };
        let (hub, held) = (self.hub.clone(), Arc::clone(held));
        let write = move || {
            writer.run(&to_write, &hub);
            drop(held);
        };
        std::thread::Builder::new().name("control-write".into()).spawn(write)?;
        let stream = stream.try_clone()?;
        Ok(Connection { id, name, gives_way: false, frames, queue, stream })
    }

    /// For a control plane that stands by.
    fn tell_who_is_attached(&self, stream: &mut UnixStream) -> io::Result<()> {
        let (tell, told) = channel();
        if self.hub.send(ToHub::Watch(tell)).is_err() {
            return Ok(());
        }
        let controller = told
            .recv_timeout(HELLO_TIMEOUT)
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the hub does not answer"))?;
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, FrameKind::Watched, 0, &Watched { controller })
            .map_err(|error| invalid(&error.to_string()))?;
        stream.write_all(&bytes)
    }

    /// Answers the first frame, which has to be a hello.
    fn welcome(&self, first: &Frame, stream: &mut UnixStream) -> io::Result<Hello> {
        let hello: Hello = match first.kind {
            FrameKind::Hello => {
                frame::decode_body(&first.body).map_err(|error| invalid(&error.to_string()))?
            }
            _ => return Err(invalid("the first frame is not a hello")),
        };
        let version = frame::common_version(hello.min_version, hello.version);
        let version = version.filter(|_| hello.magic == MAGIC);
        let welcome = Welcome {
            magic: MAGIC.into(),
            version: version.unwrap_or(0),
            release: env!("CARGO_PKG_VERSION").into(),
            boot_id: self.identity.boot_id.clone(),
            event_seq: self.identity.event_seq.load(Ordering::SeqCst),
        };
        let mut bytes = Vec::new();
        frame::write_frame(&mut bytes, FrameKind::Welcome, 0, &welcome)
            .map_err(|error| invalid(&error.to_string()))?;
        stream.write_all(&bytes)?;
        version.ok_or_else(|| invalid("no version in common"))?;
        Ok(hello)
    }
}

fn invalid(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.to_owned())
}

/// The thread that writes.
struct Writer {
    stream: UnixStream,
    queue: Arc<Queue>,
}

impl Writer {
    fn run(mut self, frames: &Receiver<Vec<u8>>, hub: &Sender<ToHub>) {
        while let Ok(bytes) = frames.recv() {
            match self.stream.write_all(&bytes) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.queue.cut_off(&self.stream);
                    break;
                }
                Err(_) => break,
            }
            let before = self.queue.bytes.fetch_sub(bytes.len(), Ordering::SeqCst);
            let is_low = before - bytes.len() <= BEHIND_BYTES / 2;
            if is_low && self.queue.tell.swap(false, Ordering::SeqCst) {
                let _ = hub.send(ToHub::Drained { connection: self.queue.id });
            }
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// Frames out of a stream.
struct Reader {
    frames: FrameBuffer,
    chunk: Vec<u8>,
}

impl Reader {
    /// The next frame; `None` at the end of the stream.
    fn next(&mut self, stream: &mut UnixStream) -> io::Result<Option<Frame>> {
        loop {
            let frame = self.frames.take();
            if let Some(frame) = frame.map_err(|error| invalid(&error.to_string()))? {
                return Ok(Some(frame));
            }
            match stream.read(&mut self.chunk)? {
                0 => return Ok(None),
                len => self.frames.space().extend_from_slice(&self.chunk[..len]),
            }
        }
    }
}
