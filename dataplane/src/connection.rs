//! Connections on the control socket: accepts them, reads their frames, writes to them without ever
//! waiting. Owns sockets and threads; understands nothing but the hello.

use std::{
    io::{self, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
        mpsc::{Sender, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

use ironcast_protocol::{
    Frame, FrameKind,
    frame::{self, Hello, MAGIC, Welcome},
};
use serde::Serialize;

use crate::messages::ToHub;

/// Connections at one time: one controller, and those that want to be it.
const CONNECTIONS_MAX: usize = 16;
/// Frames that may wait for a controller that reads slowly; then it is cut off.
const QUEUE_MAX: usize = 16_384;
/// Time for the first frame.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
const READ_BYTES: usize = 64 << 10;

/// The hub's end of a connection.
pub struct Connection {
    /// Its number.
    pub id: u64,
    /// What the controller calls itself.
    pub name: String,
    queue: SyncSender<Vec<u8>>,
    stream: UnixStream,
}

impl Connection {
    /// Queues a frame. A controller that does not read is cut off, never waited for.
    pub fn send<T: Serialize>(&self, kind: FrameKind, id: u64, body: &T) {
        let mut bytes = Vec::new();
        if let Err(error) = frame::write_frame(&mut bytes, kind, id, body) {
            tracing::error!(%error, "a frame was not sent");
            return;
        }
        match self.queue.try_send(bytes) {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => {
                tracing::warn!(controller = self.name, "reads too slowly and is cut off");
                self.close();
            }
            Err(TrySendError::Disconnected(_)) => {}
        }
    }

    /// Ends reading; what is queued is still written.
    pub fn close(&self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Read);
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

/// Listens on the control socket; only the owner may connect.
///
/// # Errors
/// The socket cannot be made, or another dataplane answers on it.
pub fn listen(path: &Path, identity: Identity, hub: Sender<ToHub>) -> io::Result<()> {
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
    let open = Arc::new(AtomicUsize::new(0));
    let accept = move || {
        for (id, stream) in (1u64..).zip(listener.incoming()) {
            let Ok(stream) = stream else { continue };
            if open.fetch_add(1, Ordering::Relaxed) >= CONNECTIONS_MAX {
                open.fetch_sub(1, Ordering::Relaxed);
                continue;
            }
            let (identity, hub, counter) = (identity.clone(), hub.clone(), open.clone());
            let serve = move || {
                if let Err(error) = serve(id, stream, &identity, &hub) {
                    tracing::info!(connection = id, %error, "control connection ended");
                }
                let _ = hub.send(ToHub::Detached { connection: id });
                counter.fetch_sub(1, Ordering::Relaxed);
            };
            if std::thread::Builder::new().name("control".into()).spawn(serve).is_err() {
                open.fetch_sub(1, Ordering::Relaxed);
            }
        }
    };
    std::thread::Builder::new().name("control-accept".into()).spawn(accept)?;
    Ok(())
}

fn serve(
    id: u64,
    mut stream: UnixStream,
    identity: &Identity,
    hub: &Sender<ToHub>,
) -> io::Result<()> {
    let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message.to_owned());
    let mut buffer = Vec::new();
    stream.set_read_timeout(Some(HELLO_TIMEOUT))?;
    // Somebody who only asks whether we listen says nothing.
    let Some(first) = read_frame(&mut stream, &mut buffer)? else { return Ok(()) };
    let hello: Hello = match first.kind {
        FrameKind::Hello => frame::decode_body(&first.body).map_err(|e| invalid(&e.to_string()))?,
        _ => return Err(invalid("the first frame is not a hello")),
    };
    let version = frame::common_version(hello.min_version, hello.version);
    let version = version.filter(|_| hello.magic == MAGIC);
    let welcome = Welcome {
        magic: MAGIC.into(),
        version: version.unwrap_or(0),
        release: env!("CARGO_PKG_VERSION").into(),
        boot_id: identity.boot_id.clone(),
        event_seq: identity.event_seq.load(Ordering::SeqCst),
    };
    let mut bytes = Vec::new();
    frame::write_frame(&mut bytes, FrameKind::Welcome, 0, &welcome)
        .map_err(|e| invalid(&e.to_string()))?;
    stream.write_all(&bytes)?;
    if version.is_none() {
        return Err(invalid("no version in common"));
    }
    stream.set_read_timeout(None)?;
    let (queue, frames) = sync_channel::<Vec<u8>>(QUEUE_MAX);
    let mut writer = stream.try_clone()?;
    let write = move || {
        while let Ok(bytes) = frames.recv() {
            if writer.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = writer.shutdown(std::net::Shutdown::Both);
    };
    std::thread::Builder::new().name("control-write".into()).spawn(write)?;
    let connection = Connection { id, name: hello.controller, queue, stream: stream.try_clone()? };
    if hub.send(ToHub::Attached(connection)).is_err() {
        return Ok(());
    }
    while let Some(frame) = read_frame(&mut stream, &mut buffer)? {
        if hub.send(ToHub::Frame { connection: id, frame }).is_err() {
            break;
        }
    }
    Ok(())
}

/// The next frame; `None` at the end of the stream.
fn read_frame(stream: &mut UnixStream, buffer: &mut Vec<u8>) -> io::Result<Option<Frame>> {
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut chunk = vec![0; READ_BYTES];
    loop {
        if let Some(frame) = frame::take_frame(buffer).map_err(invalid)? {
            return Ok(Some(frame));
        }
        match stream.read(&mut chunk)? {
            0 => return Ok(None),
            len => buffer.extend_from_slice(&chunk[..len]),
        }
    }
}
