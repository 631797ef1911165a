//! Connections (ICE-TCP): whole frames in and out whatever the pieces they come in, peers that do not
//! read, break off or say nothing, and the limits of all that.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use ironcast_core::{batch::Class, framing};
use ironcast_driver::{DriverConfig, Statistics, StreamLimits, Transmit};

use crate::{
    MODES,
    harness::{PATIENCE, Running, config, is_alone, receive, wait_until},
    join,
};

/// A peer.
struct Peer(TcpStream);

impl Peer {
    /// Connects, and says nothing.
    fn connect(listener: SocketAddr) -> Self {
        let stream = TcpStream::connect(listener).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self(stream)
    }

    /// Connects, and becomes a path.
    fn join(listener: SocketAddr) -> Self {
        let mut peer = Self::connect(listener);
        peer.send(b"hello");
        assert_eq!(peer.receive(), b"hello");
        peer
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    fn send(&mut self, datagram: &[u8]) {
        self.0.write_all(&framed(datagram)).unwrap();
    }

    fn receive(&mut self) -> Vec<u8> {
        self.try_receive().unwrap()
    }

    fn try_receive(&mut self) -> io::Result<Vec<u8>> {
        let mut prefix = [0; framing::PREFIX_BYTES];
        self.0.read_exact(&mut prefix)?;
        let mut datagram = vec![0; usize::from(u16::from_be_bytes(prefix))];
        self.0.read_exact(&mut datagram)?;
        Ok(datagram)
    }

    /// Fails unless the other side closes.
    fn is_closed(&mut self) {
        match self.0.read(&mut [0; 100]) {
            Ok(0) => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            other => panic!("not closed: {other:?}"),
        }
    }

    /// Ends without a goodbye: what is not read yet is lost.
    fn reset(self) {
        let socket = socket2::Socket::from(self.0);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

fn framed(datagram: &[u8]) -> Vec<u8> {
    [&framing::prefix(datagram.len()).unwrap(), datagram].concat()
}

fn limited(change: impl FnOnce(&mut StreamLimits)) -> DriverConfig {
    let mut config = config(Transmit::IoUring);
    change(&mut config.streams);
    config
}

fn gauge(worker: &Running, name: &'static str) -> u64 {
    worker.ask(move |_, io| io.gauges().find(|(known, _)| *known == name).unwrap().1)
}

#[test]
fn frames_are_whole_whatever_the_pieces_they_come_in() {
    for transmit in MODES {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let worker = Running::start(config(transmit));
            let listener = worker.listen_for_streams(address);
            let mut peer = Peer::connect(listener);
            // Byte by byte: a check, an empty frame, and two more.
            let frames = [&b"hello"[..], b"", b"x", &[7; 1_500]];
            for byte in frames.iter().flat_map(|frame| framed(frame)) {
                peer.0.write_all(&[byte]).unwrap();
            }
            // An empty one means nothing, and is not answered.
            let answers = frames.iter().filter(|frame| !frame.is_empty());
            answers.for_each(|frame| assert_eq!(peer.receive(), *frame));
            // Many at once, and in pieces that end anywhere. No more of them than may wait for a
            // peer that is slower than the worker: here nothing may be dropped.
            let frames: Vec<Vec<u8>> =
                (0..300usize).map(|n| vec![n as u8; 1 + n * 37 % 1_600]).collect();
            for piece in [usize::MAX, 3_001, 1_024] {
                for some in frames.chunks(25) {
                    let bytes: Vec<u8> = some.iter().flat_map(|frame| framed(frame)).collect();
                    bytes.chunks(piece).for_each(|piece| peer.0.write_all(piece).unwrap());
                    some.iter().for_each(|frame| assert_eq!(peer.receive(), *frame));
                }
            }
            let counts = worker.statistics();
            assert_eq!((counts.tcp_accepted, counts.tcp_closed), (1, 0), "{counts:?}");
            assert_eq!(counts.datagrams_in, 4 + 3 * 300, "{counts:?}");
            worker.stop();
        }
    }
}

#[test]
fn a_frame_that_is_too_long_ends_its_connection_alone() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let mut other = Peer::join(listener);
    // From a stranger, and from a path.
    let mut stranger = Peer::connect(listener);
    stranger.0.write_all(&[255, 255, 1]).unwrap();
    stranger.is_closed();
    let mut peer = Peer::join(listener);
    peer.send(b"before");
    assert_eq!(peer.receive(), b"before");
    peer.0.write_all(&[8, 0]).unwrap();
    peer.is_closed();
    other.send(b"still here");
    assert_eq!(other.receive(), b"still here");
    let failed = worker.ask(|engine, _| engine.failed.clone());
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].1, io::ErrorKind::InvalidData);
    assert_eq!(worker.statistics().tcp_oversized, 2);
    assert_eq!(gauge(&worker, "tcp_connections"), 1);
    worker.stop();
}

#[test]
fn a_connection_that_breaks_off_in_the_middle_is_said_to_have_failed() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let mut other = Peer::join(listener);
    for is_reset in [true, false] {
        let mut peer = Peer::join(listener);
        peer.0.write_all(&[0, 200, 1, 2, 3]).unwrap();
        if is_reset { peer.reset() } else { drop(peer) }
    }
    // And one that nobody knew.
    Peer::connect(listener).reset();
    wait_until("all but one are gone", || gauge(&worker, "tcp_connections") == 1);
    wait_until("two were paths", || worker.ask(|engine, _| engine.failed.len()) == 2);
    wait_until("all are counted", || worker.statistics().tcp_closed == 3);
    other.send(b"still here");
    assert_eq!(other.receive(), b"still here");
    worker.stop();
}

/// What is sent: its class and number, in the length of its class.
fn numbered(class: Class, number: u32) -> Vec<u8> {
    let (tag, len) = match class {
        Class::Video => (b'v', 1_100),
        Class::Audio => (b'a', 100),
        Class::Control => (b'c', 40),
    };
    let mut bytes = vec![tag; len];
    bytes[1..5].copy_from_slice(&number.to_be_bytes());
    bytes
}

#[test]
fn a_peer_that_does_not_read_costs_video_first_and_gets_whole_frames_when_it_does() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen_for_streams("127.0.0.1:0");
        let mut peer = Peer::join(listener);
        let mut other = Peer::join(listener);
        let address = peer.address();
        // A frame of video, a voice and a report in each turn, until much has found no room.
        let mut sent = 0;
        let mut turns = |until: &dyn Fn() -> bool| {
            while !until() {
                let number = sent;
                worker.tell(move |engine, _| {
                    let path = engine.paths[&address];
                    for _ in 0..20 {
                        engine.send_as(path, Class::Video, &numbered(Class::Video, number));
                    }
                    engine.send_as(path, Class::Audio, &numbered(Class::Audio, number));
                    engine.send_as(path, Class::Control, &numbered(Class::Control, number));
                });
                sent += 1;
                assert!(sent < 100_000, "{:?}", worker.statistics());
            }
        };
        turns(&|| worker.statistics().tcp_dropped_video > 0);
        let first = worker.statistics();
        assert_eq!((first.tcp_dropped_audio, first.tcp_dropped_control), (0, 0), "{first:?}");
        turns(&|| worker.statistics().tcp_dropped_audio > 0);
        assert_eq!(worker.statistics().tcp_dropped_control, 0);
        turns(&|| worker.statistics().tcp_dropped_control > 10);
        // One frame that was cut, and what waits behind it.
        let waiting = gauge(&worker, "tcp_waiting_bytes");
        assert!((16 << 10..36 << 10).contains(&waiting), "{waiting}");
        other.send(b"not disturbed");
        assert_eq!(other.receive(), b"not disturbed");
        // It reads after all: whole frames, each kind in order, and what is sent from then on.
        worker.tell(move |engine, _| {
            engine.send_when_empty = Some((engine.paths[&address], b"last"))
        });
        let mut newest = std::collections::BTreeMap::new();
        loop {
            let datagram = peer.receive();
            if datagram == b"last" {
                break;
            }
            let number = u32::from_be_bytes(datagram[1..5].try_into().unwrap());
            let class = match datagram[0] {
                b'v' => Class::Video,
                b'a' => Class::Audio,
                _ => Class::Control,
            };
            assert_eq!(datagram, numbered(class, number));
            let before = newest.insert(class, number);
            assert!(before.is_none_or(|before| before <= number), "{class:?} {before:?} {number}");
        }
        assert_eq!(newest.len(), 3);
        assert_eq!(gauge(&worker, "tcp_waiting_bytes"), 0);
        worker.stop();
    }
}

#[test]
fn what_waits_for_all_peers_together_is_limited() {
    let worker = Running::start(limited(|limits| limits.waiting_bytes = 4 << 10));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let peers: Vec<Peer> = (0..3).map(|_| Peer::join(listener)).collect();
    let addresses: Vec<_> = peers.iter().map(Peer::address).collect();
    wait_until("voices find no room", || {
        let addresses = addresses.clone();
        worker.tell(move |engine, _| {
            for address in addresses {
                let path = engine.paths[&address];
                (0..40).for_each(|_| engine.send_as(path, Class::Video, &[1; 1_100]));
                engine.send_as(path, Class::Audio, &[2; 100]);
            }
        });
        worker.statistics().tcp_dropped_audio > 100
    });
    // Beside the limit, each may have a frame that was cut.
    let waiting = gauge(&worker, "tcp_waiting_bytes");
    assert!(waiting <= (4 << 10) + 3 * 1_102, "{waiting}");
    worker.stop();
}

#[test]
fn a_peer_that_takes_nothing_for_too_long_has_failed() {
    let worker = Running::start(limited(|limits| limits.stall_ms = 200));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let peer = Peer::join(listener);
    let address = peer.address();
    wait_until("it stalls", || {
        worker.tell(move |engine, _| {
            let Some(&path) = engine.paths.get(&address) else { return };
            (0..40).for_each(|_| engine.send_as(path, Class::Video, &[1; 1_100]));
            engine.send_as(path, Class::Control, &[3; 100]);
        });
        worker.statistics().tcp_stalled == 1
    });
    wait_until("it is closed", || gauge(&worker, "tcp_connections") == 0);
    assert_eq!(worker.ask(|engine, _| engine.failed[0].1), io::ErrorKind::TimedOut);
    assert_eq!(gauge(&worker, "tcp_waiting_bytes"), 0);
    worker.stop();
}

#[test]
fn who_talks_without_a_check_is_closed() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let mut other = Peer::join(listener);
    let mut stranger = Peer::connect(listener);
    let begun = Instant::now();
    while stranger.0.write_all(&framed(b"junk")).is_ok() {
        assert!(begun.elapsed() < PATIENCE);
    }
    wait_until("it is counted", || worker.statistics().tcp_strange == 1);
    other.send(b"still here");
    assert_eq!(other.receive(), b"still here");
    worker.stop();
}

#[test]
fn connections_over_a_limit_make_room_or_are_refused() {
    let worker = Running::start(limited(|limits| {
        (limits.connections, limits.per_address) = (4, 3);
    }));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let from = |address: &str| {
        let address: SocketAddr = address.parse().unwrap();
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.unwrap();
        socket.bind(&address.into()).unwrap();
        socket.connect(&listener.into()).unwrap();
        let stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Peer(stream)
    };
    let accepted = |count| {
        wait_until("they are accepted", || worker.statistics().tcp_accepted == count);
    };
    // One address has its limit.
    let mut path = Peer::join(listener);
    let mut idle: Vec<Peer> = (0..2).map(|_| from("127.0.0.1:0")).collect();
    accepted(3);
    Peer::connect(listener).is_closed();
    assert_eq!(worker.statistics().tcp_refused, 1);
    // All together have theirs: the oldest that nobody knows gives way, a path never.
    let mut others: Vec<Peer> = (0..3).map(|_| from("127.0.0.2:0")).collect();
    accepted(7);
    idle.iter_mut().for_each(Peer::is_closed);
    assert_eq!(worker.statistics().tcp_evicted, 2);
    for peer in &mut others {
        peer.send(b"hello");
        assert_eq!(peer.receive(), b"hello");
    }
    from("127.0.0.3:0").is_closed();
    assert_eq!(worker.statistics().tcp_refused, 2);
    path.send(b"still here");
    assert_eq!(path.receive(), b"still here");
    // What is gone counts no more.
    drop(others);
    wait_until("they are gone", || gauge(&worker, "tcp_connections") == 1);
    Peer::join(listener);
    worker.stop();
}

/// Raises the limit of open files as far as this process may. Returns it.
fn raise_file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 65_536, rlim_max: 65_536 };
    // SAFETY: `limit` is valid for both calls.
    unsafe {
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) != 0 {
            libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
    limit.rlim_cur
}

#[test]
fn thousands_of_idle_connections_disturb_nobody_and_are_closed_in_time() {
    if !is_alone("connections::thousands_of_idle_connections_disturb_nobody_and_are_closed_in_time")
    {
        return;
    }
    // Both ends are descriptors of this process.
    let count = (raise_file_limit().saturating_sub(1_000) / 2).min(10_000) as usize;
    assert!(count >= 2_000, "{count}");
    let mut config = limited(|limits| {
        *limits = StreamLimits { per_address: 20_000, stranger_ms: 5_000, ..*limits };
    });
    config.paths = 100;
    config.streams.connections = 10_000 + 1;
    let worker = Running::start(config);
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let datagrams = worker.listen("127.0.0.1:0");
    let socket = join(&worker, datagrams, "127.0.0.1:0");
    let mut path = Peer::join(listener);
    let mut idle: Vec<Peer> = (0..count).map(|_| Peer::connect(listener)).collect();
    // On a slow machine the first of them are closed before the last has come.
    wait_until("all have come", || {
        let (there, gone) = (gauge(&worker, "tcp_connections"), worker.statistics().tcp_timed_out);
        there + gone > count as u64
    });
    for number in 0..1_000u32 {
        let bytes = number.to_be_bytes();
        path.send(&bytes);
        assert_eq!(path.receive(), bytes);
        socket.send(&bytes).unwrap();
        assert_eq!(receive(&socket), bytes);
    }
    idle.iter_mut().for_each(Peer::is_closed);
    let counts = worker.statistics();
    assert_eq!((counts.tcp_timed_out, counts.tcp_refused), (count as u64, 0), "{counts:?}");
    assert_eq!(gauge(&worker, "tcp_connections"), 1);
    path.send(b"still here");
    assert_eq!(path.receive(), b"still here");
    worker.stop();
}

#[test]
fn connections_end_with_their_worker() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen_for_streams("127.0.0.1:0");
    let datagrams = worker.listen("127.0.0.1:0");
    let _socket = join(&worker, datagrams, "127.0.0.1:0");
    let mut peers = [Peer::join(listener), Peer::connect(listener)];
    worker.stop();
    peers.iter_mut().for_each(Peer::is_closed);
    TcpStream::connect(listener).unwrap_err();
}

/// Workers that share a port, numbered from 0.
fn sharing(configs: impl IntoIterator<Item = DriverConfig>) -> (Vec<Running>, SocketAddr) {
    let mut address: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let start = |(number, config)| {
        let worker = Running::start(config);
        worker.ask(move |engine, _| engine.number = number);
        address = worker.share_stream_listener(address);
        worker
    };
    let workers = (0..).zip(configs).map(start).collect();
    (workers, address)
}

/// Brings connections where they belong, as the engine of the product does by its mailboxes.
fn pass_on(workers: &[Running]) -> usize {
    let others = workers.iter().flat_map(|one| one.ask(|one, _| std::mem::take(&mut one.others)));
    let others: Vec<_> = others.collect();
    let count = others.len();
    for connection in others {
        workers[usize::from(connection.worker)].tell(|_, io| io.adopt_stream(connection));
    }
    count
}

#[test]
fn a_connection_to_a_shared_port_reaches_the_worker_that_it_names() {
    for transmit in MODES {
        let (workers, listener) = sharing([config(transmit), config(transmit), config(transmit)]);
        let mut peers = Vec::new();
        for number in 0..48usize {
            let mut peer = Peer::connect(listener);
            let name = format!("worker {}", number % 3);
            // At once with what follows it, or byte by byte.
            let bytes = [framed(name.as_bytes()), framed(b"and more")].concat();
            let piece = if number % 4 == 0 { 1 } else { bytes.len() };
            bytes.chunks(piece).for_each(|piece| peer.0.write_all(piece).unwrap());
            peers.push((number % 3, peer));
        }
        let mut moved = 0;
        wait_until("all are where they belong", || {
            moved += pass_on(&workers);
            workers.iter().map(|one| gauge(one, "tcp_connections")).sum::<u64>() == 48
                && workers.iter().all(|one| one.ask(|one, _| one.paths.len()) == 16)
        });
        // The kernel gave a third of them to the right worker, more or less.
        assert!((8..48).contains(&moved), "{moved}");
        for (number, peer) in &mut peers {
            assert_eq!(peer.receive(), b"hello");
            assert_eq!(peer.receive(), b"and more", "nothing is lost on the way");
            let address = peer.address();
            let is_there = workers[*number].ask(move |one, _| one.paths.contains_key(&address));
            assert!(is_there);
            peer.send(b"once more");
            assert_eq!(peer.receive(), b"once more");
        }
        let counts: Vec<_> = workers.iter().map(Running::statistics).collect();
        let sum = |of: fn(&Statistics) -> u64| counts.iter().map(of).sum::<u64>();
        assert_eq!(sum(|one| one.tcp_accepted), 48);
        assert_eq!(sum(|one| one.tcp_handed_over), moved as u64);
        assert_eq!(sum(|one| one.tcp_adopted), moved as u64);
        assert_eq!(sum(|one| one.tcp_strange + one.tcp_refused + one.tcp_closed), 0);
        workers.into_iter().for_each(Running::stop);
    }
}

#[test]
fn what_names_no_worker_is_closed_and_what_says_nothing_does_not_stay() {
    let brief = || limited(|limits| limits.stranger_ms = 3_000);
    let (workers, listener) = sharing([brief(), brief()]);
    let sum = |of: fn(&Statistics) -> u64| -> u64 {
        workers.iter().map(|worker| of(&worker.statistics())).sum()
    };
    // What is nobody's, an empty frame, one longer than a check may be.
    for bytes in [framed(b"nobody"), framed(b""), vec![7, 0, 1, 2, 3], vec![255, 255]] {
        for _ in 0..8 {
            let mut peer = Peer::connect(listener);
            peer.0.write_all(&bytes).unwrap();
            peer.is_closed();
        }
    }
    assert_eq!(sum(|one| one.tcp_strange), 4 * 8);
    // Half a frame, and its end.
    let mut halves = Vec::new();
    for number in 0..8 {
        let mut peer = Peer::connect(listener);
        peer.0.write_all(&framed(b"worker 0")[..1 + number]).unwrap();
        halves.push(peer);
    }
    wait_until("they are there", || sum(|one| one.tcp_accepted) == 5 * 8);
    // What does not come makes nobody look again and again.
    let turns = sum(|one| one.turns);
    std::thread::sleep(Duration::from_millis(100));
    let spent = sum(|one| one.turns) - turns;
    assert!(spent < 200, "{spent} turns");
    for peer in &mut halves[..4] {
        peer.0.shutdown(std::net::Shutdown::Write).unwrap();
        peer.is_closed();
    }
    assert_eq!(sum(|one| one.tcp_closed), 4);
    halves[4..].iter_mut().for_each(Peer::is_closed);
    // And one that never said a word.
    Peer::connect(listener).is_closed();
    assert_eq!(sum(|one| one.tcp_timed_out), 5);
    assert_eq!(workers.iter().map(|one| gauge(one, "tcp_connections")).sum::<u64>(), 0);
    workers.into_iter().for_each(Running::stop);
}

#[test]
fn a_worker_takes_over_no_more_than_it_may_have() {
    let few = limited(|limits| limits.per_address = 2);
    let (workers, listener) = sharing([config(Transmit::IoUring), few]);
    let mut peers: Vec<_> = (0..16).map(|_| Peer::connect(listener)).collect();
    peers.iter_mut().for_each(|peer| peer.send(b"worker 1"));
    let mut passed_on = 0;
    wait_until("all were looked at", || {
        passed_on += pass_on(&workers) as u64;
        let [here, there] = [0, 1].map(|at| workers[at].statistics().tcp_accepted);
        here + there == 16 && passed_on == here
    });
    assert_eq!(
        (gauge(&workers[0], "tcp_connections"), gauge(&workers[1], "tcp_connections")),
        (0, 2)
    );
    let mut answered = peers.iter_mut().filter_map(|peer| peer.try_receive().ok());
    assert_eq!(answered.next().as_deref(), Some(&b"hello"[..]));
    assert_eq!(answered.count(), 1);
    workers.into_iter().for_each(Running::stop);
}
