//! A worker with a small engine, for the driver's tests and its measurement.

use std::{
    collections::BTreeMap,
    io,
    net::{SocketAddr, UdpSocket},
    os::fd::OwnedFd,
    sync::mpsc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use ironcast_core::{
    Arrival, Nanos, SECOND,
    batch::{Batch, Class, PathId},
};
use ironcast_driver::{
    AcceptedStream, DriverConfig, DriverError, Engine, Home, Inbound, Io, Statistics, Transmit,
    Without,
    mailbox::{Sender, mailbox},
    run,
};

/// How long anything may take before a test gives up.
pub const PATIENCE: Duration = Duration::from_secs(20);

pub type Message = Box<dyn FnOnce(&mut TestEngine, &mut Io) + Send>;

/// Answers `hello` to a listener by opening a path; echoes what comes by a path, or sends it to
/// all paths of `fan`. `part` is the beginning of a frame that the next datagram completes.
#[derive(Default)]
pub struct TestEngine {
    pub paths: BTreeMap<SocketAddr, PathId>,
    pub fan: Vec<PathId>,
    /// Copies of each datagram to each of `fan`: a burst.
    pub copies: usize,
    pub from_listeners: u64,
    pub from_strangers: u64,
    pub from_paths: u64,
    pub odd_arrivals: u64,
    pub failed: Vec<(PathId, io::ErrorKind)>,
    pub alarm: Option<(Nanos, mpsc::SyncSender<i64>)>,
    /// So long each datagram takes.
    pub slow: Duration,
    incomplete: Option<Arrival>,
    hellos: Vec<(SocketAddr, SocketAddr)>,
    /// Connections that said hello.
    newcomers: Vec<(SocketAddr, PathId)>,
    /// Paths that are connections.
    streams: Vec<PathId>,
    queued: Vec<(PathId, Class, usize)>,
    bytes: Vec<u8>,
    /// Connections that said "worker " and another number than this.
    pub others: Vec<AcceptedStream>,
    pub number: u16,
    /// What is sent at the end.
    pub last_words: Option<(PathId, &'static [u8])>,
    /// What is sent to a path once nothing waits for any connection.
    pub send_when_empty: Option<(PathId, &'static [u8])>,
}

impl TestEngine {
    /// Sends with this turn's output.
    pub fn send(&mut self, path: PathId, datagram: &[u8]) {
        self.send_as(path, Class::Control, datagram);
    }

    pub fn send_as(&mut self, path: PathId, class: Class, datagram: &[u8]) {
        self.queued.push((path, class, datagram.len()));
        self.bytes.extend_from_slice(datagram);
    }
}

impl Engine for TestEngine {
    type Message = Message;

    fn receive(&mut self, source: Inbound, datagram: &mut [u8], arrival: Arrival, now: Nanos) {
        self.odd_arrivals +=
            u64::from(arrival > Arrival::at(now) || arrival.age(now) > 10 * SECOND);
        spin(self.slow);
        match source {
            Inbound::Listener { local, remote } if &*datagram == b"hello" => {
                self.from_listeners += 1;
                self.hellos.push((local, remote));
            }
            Inbound::Stream { path, remote, .. }
                if &*datagram == b"hello" || datagram.starts_with(b"worker ") =>
            {
                self.newcomers.push((remote, path));
            }
            // What follows the hello in the same turn.
            Inbound::Stream { path, .. } if self.newcomers.iter().any(|(_, new)| *new == path) => {
                self.send(path, datagram);
            }
            Inbound::Listener { .. } | Inbound::Stream { .. } => self.from_strangers += 1,
            Inbound::Path(path) => {
                self.from_paths += 1;
                self.incomplete = (&*datagram == b"part").then_some(Arrival::at(now));
                if self.fan.is_empty() {
                    self.send(path, datagram);
                    return;
                }
                for index in 0..self.fan.len() {
                    for _ in 0..self.copies {
                        self.send(self.fan[index], datagram);
                    }
                }
            }
        }
    }

    fn message(&mut self, message: Message, io: &mut Io, _now: Nanos) {
        message(self, io);
    }

    /// `worker 7` is for that one, `nobody` for none.
    fn home_of(&self, frame: &[u8]) -> Home {
        let number = frame.strip_prefix(b"worker ").and_then(|text| text.first());
        match number.map(|digit| u16::from(digit - b'0')) {
            Some(number) if number != self.number => Home::Worker(number),
            None if frame == b"nobody" => Home::Nobody,
            _ => Home::Here,
        }
    }

    fn turn(&mut self, io: &mut Io, now: Nanos) {
        self.others.append(&mut io.take_connections_of_others());
        for (local, remote) in std::mem::take(&mut self.hellos) {
            let path = io.open_path(local, remote).unwrap();
            self.paths.insert(remote, path);
            self.send(path, b"hello");
        }
        for (remote, path) in std::mem::take(&mut self.newcomers) {
            if io.keep_stream(path) {
                self.paths.insert(remote, path);
                self.streams.push(path);
                self.queued.insert(0, (path, Class::Control, b"hello".len()));
                self.bytes.splice(0..0, *b"hello");
            }
        }
        self.streams.retain(|path| {
            let has_failed = self.failed.iter().any(|(failed, _)| failed == path);
            if has_failed {
                io.close_path(*path);
                self.paths.retain(|_, open| open != path);
            }
            !has_failed
        });
        let is_empty = io.gauges().any(|gauge| gauge == ("tcp_waiting_bytes", 0));
        if let Some((path, words)) = self.send_when_empty.take_if(|_| is_empty) {
            self.send(path, words);
        }
        if let Some((at, fired)) = self.alarm.take_if(|(at, _)| *at <= now) {
            fired.send(now as i64 - at as i64).unwrap();
        }
    }

    fn end(&mut self) {
        if let Some((path, words)) = self.last_words {
            self.send(path, words);
        }
    }

    fn incomplete_since(&self) -> Option<Arrival> {
        self.incomplete
    }

    fn sent(&mut self, _now: Nanos) {}

    fn fill(&mut self, batch: &mut Batch, _now: Nanos) -> bool {
        let mut start = 0;
        for &(path, class, len) in &self.queued {
            batch.class = class;
            if let Some(space) = batch.reserve(len) {
                space.copy_from_slice(&self.bytes[start..start + len]);
                batch.commit(path, len);
            }
            start += len;
        }
        self.queued.clear();
        self.bytes.clear();
        false
    }

    fn deadline(&self) -> Option<Nanos> {
        self.alarm.as_ref().map(|(at, _)| *at)
    }

    fn path_failed(&mut self, path: PathId, error: io::ErrorKind) {
        self.failed.push((path, error));
    }
}

/// A worker's thread.
pub struct Running {
    sender: Sender<Message>,
    thread: JoinHandle<Result<(), DriverError>>,
}

pub fn config(transmit: Transmit) -> DriverConfig {
    let without = Without::from_environment().unwrap();
    DriverConfig { transmit, receive_buffers: 512, without, ..DriverConfig::default() }
}

impl Running {
    pub fn start(config: DriverConfig) -> Self {
        Self::start_with(config, || {})
    }

    /// `before` runs on the worker's thread.
    pub fn start_with(config: DriverConfig, before: impl FnOnce() + Send + 'static) -> Self {
        Self::spawn(config, before, Vec::new())
    }

    /// With listeners that were opened before.
    pub fn start_on(config: DriverConfig, listeners: Vec<(OwnedFd, SocketAddr)>) -> Self {
        Self::spawn(config, || {}, listeners)
    }

    fn spawn(
        config: DriverConfig,
        before: impl FnOnce() + Send + 'static,
        listeners: Vec<(OwnedFd, SocketAddr)>,
    ) -> Self {
        let (sender, receiver) = mailbox(1_024).unwrap();
        let thread = std::thread::spawn(move || {
            before();
            run(&config, TestEngine::default(), receiver, listeners)
        });
        Self { sender, thread }
    }

    pub fn tell(&self, message: impl FnOnce(&mut TestEngine, &mut Io) + Send + 'static) {
        self.sender.send(Box::new(message)).map_err(|_| "no worker").unwrap();
    }

    pub fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut TestEngine, &mut Io) -> T + Send + 'static,
    ) -> T {
        // A channel with room for the answer: answering allocates nothing.
        let (answer, answered) = mpsc::sync_channel(1);
        self.tell(move |engine, io| answer.send(question(engine, io)).unwrap());
        answered.recv_timeout(PATIENCE).unwrap()
    }

    pub fn statistics(&self) -> Statistics {
        self.ask(|_, io| *io.statistics())
    }

    /// Opens a listener; port 0 becomes a free one.
    pub fn listen(&self, address: &str) -> SocketAddr {
        let address: SocketAddr = address.parse().unwrap();
        self.ask(move |_, io| {
            let listener = io.open_listener(address).unwrap();
            io.local_addr(listener).unwrap()
        })
    }

    /// The same for connections.
    pub fn listen_for_streams(&self, address: &str) -> SocketAddr {
        let address: SocketAddr = address.parse().unwrap();
        self.ask(move |_, io| {
            let listener = io.open_stream_listener(address).unwrap();
            io.local_addr(listener).unwrap()
        })
    }

    /// The same, where other workers listen, too.
    pub fn share_stream_listener(&self, address: SocketAddr) -> SocketAddr {
        self.ask(move |_, io| {
            let listener = io.share_stream_listener(address).unwrap();
            io.local_addr(listener).unwrap()
        })
    }

    pub fn stop(self) {
        self.sender.stop();
        self.join().unwrap().unwrap();
    }

    pub fn join(self) -> std::thread::Result<Result<(), DriverError>> {
        self.thread.join()
    }
}

/// A socket of a peer.
pub fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A bound socket that shares its port.
pub fn shared_socket(address: &str) -> UdpSocket {
    use socket2::{Domain, Socket, Type};
    let address: SocketAddr = address.parse().unwrap();
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket.into()
}

pub fn receive(socket: &UdpSocket) -> Vec<u8> {
    let mut buffer = [0; 65_536];
    loop {
        match socket.recv(&mut buffer) {
            Ok(len) => return buffer[..len].to_vec(),
            // With a time limit a receive is not taken up again after a signal (signal(7)).
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => panic!("{error}"),
        }
    }
}

pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::yield_now();
    }
}

/// Runs a test in a process of its own, since it counts what a whole process has. True in there;
/// false where that process has been waited for.
pub fn is_alone(test: &str) -> bool {
    const ALONE: &str = "IRONCAST_TEST_ALONE";
    if std::env::var_os(ALONE).is_some() {
        return true;
    }
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let output = command.args([test, "--exact"]).env(ALONE, "1").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Takes time.
pub fn spin(duration: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < duration {
        std::hint::spin_loop();
    }
}

/// Descriptors of this process.
pub fn count_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Moves the calling thread to a network of its own, with a loopback of this MTU.
pub fn isolate_network(mtu: i32) {
    // SAFETY: no memory is involved; only the calling thread changes.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "unshare: {}", io::Error::last_os_error());
    // SAFETY: an all-zero request is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *place = *byte as libc::c_char;
    }
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&socket);
    request.ifr_ifru.ifru_mtu = mtu;
    // SAFETY: the descriptor is open and the request valid for this operation.
    let result = unsafe { libc::ioctl(descriptor, libc::SIOCSIFMTU as _, &raw mut request) };
    assert_eq!(result, 0, "set the MTU: {}", io::Error::last_os_error());
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: as above.
    let result = unsafe { libc::ioctl(descriptor, libc::SIOCSIFFLAGS as _, &raw mut request) };
    assert_eq!(result, 0, "bring it up: {}", io::Error::last_os_error());
}
