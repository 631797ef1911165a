//! Datagrams that leave as whole frames (AF_XDP), between two networks of their own that a veth
//! pair joins: the worker's thread in the near one, its peers in the far one.

use std::{
    net::{SocketAddr, UdpSocket},
    process::Command,
    sync::mpsc,
    time::Duration,
};

use ironcast_driver::{DriverConfig, Statistics, Transmit};

use crate::{
    harness::{PATIENCE, Running, config, isolate_network, receive, wait_until},
    join_from,
};

const NEAR: &str = "10.9.0.1:0";
const FAR: &str = "10.9.0.2:0";

type Task = Box<dyn FnOnce() + Send>;

/// A thread in a network of its own.
#[derive(Clone)]
struct Network(mpsc::Sender<Task>);

impl Network {
    /// Runs there, and waits for it.
    fn ask<T: Send + 'static>(&self, task: impl FnOnce() -> T + Send + 'static) -> T {
        let (answer, answered) = mpsc::channel();
        self.0.send(Box::new(move || answer.send(task()).unwrap())).unwrap();
        answered.recv_timeout(PATIENCE).unwrap()
    }

    fn ip(&self, arguments: &'static str) {
        self.ask(move || ip(arguments));
    }

    fn client(&self, address: &'static str) -> UdpSocket {
        self.ask(move || crate::harness::client(address))
    }
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A new network, of which the thread that is given its number makes itself a part.
fn network() -> (Network, libc::pid_t) {
    let (tasks, todo) = mpsc::channel::<Task>();
    let (number, numbered) = mpsc::channel();
    std::thread::spawn(move || {
        isolate_network(65_536);
        // SAFETY: a number is all that it gives.
        number.send(unsafe { libc::gettid() }).unwrap();
        todo.into_iter().for_each(|task| task());
    });
    (Network(tasks), numbered.recv().unwrap())
}

/// A worker in the near network, both networks, and the worker's listener.
struct Stage {
    worker: Running,
    near: Network,
    near_number: libc::pid_t,
    far: Network,
    listener: SocketAddr,
}

impl Stage {
    fn new(config: DriverConfig, listen: &str) -> Self {
        let (far, far_number) = network();
        let (near, near_number) = network();
        near.ask(move || {
            ip(&format!("link add near type veth peer name far netns {far_number}"));
            ip("addr add 10.9.0.1/24 dev near");
            ip("addr add fd09::1/64 dev near nodad");
            ip("link set near up");
        });
        far.ask(|| {
            ip("addr add 10.9.0.2/24 dev far");
            ip("addr add fd09::2/64 dev far nodad");
            ip("link set far up");
        });
        let worker = Running::start_with(config, move || enter(near_number));
        let listener = worker.listen(listen);
        Self { worker, near, near_number, far, listener }
    }

    fn join(&self, address: &'static str) -> UdpSocket {
        let client = self.far.client(address);
        join_from(&self.worker, self.listener, client)
    }

    fn counts(&self) -> Statistics {
        self.worker.statistics()
    }

    /// Echoes, one after the other, until some of them have come as frames.
    fn echo_by_frames(&self, socket: &UdpSocket) {
        let before = self.counts().xdp_datagrams;
        let mut number = 0u32;
        wait_until("echoes as frames", || {
            for _ in 0..20 {
                number += 1;
                socket.send(&number.to_be_bytes()).unwrap();
                assert_eq!(receive(socket), number.to_be_bytes());
            }
            self.counts().xdp_datagrams >= before + 20
        });
    }

    /// Sends until much comes back, whatever is lost until then: more than what leaves by the
    /// socket, one a second, while frames go astray.
    fn echo_at_last(&self, socket: &UdpSocket) {
        // One after the other: a flood would push its own echoes out of the socket's queue.
        socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        let mut echoes = 0;
        wait_until("many echoes", || {
            let _ = socket.send(b"there?");
            echoes += u32::from(socket.recv(&mut [0; 100]).is_ok());
            echoes >= 100
        });
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send(b"last").unwrap();
        while receive(socket) != b"last" {}
    }
}

/// The calling thread becomes part of another thread's network.
fn enter(thread: libc::pid_t) {
    use std::os::fd::AsRawFd;
    let network = std::fs::File::open(format!("/proc/self/task/{thread}/ns/net")).unwrap();
    // SAFETY: an open descriptor; only the calling thread changes.
    let result = unsafe { libc::setns(network.as_raw_fd(), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

#[test]
fn single_datagrams_leave_as_frames_of_both_families() {
    for (near, far) in [(NEAR, FAR), ("[fd09::1]:0", "[fd09::2]:0")] {
        let stage = Stage::new(config(Transmit::Xdp), near);
        let sockets: Vec<_> = (0..20).map(|_| stage.join(far)).collect();
        sockets.iter().for_each(|socket| stage.echo_by_frames(socket));
        let counts = stage.counts();
        assert!(counts.xdp_calls > 0 && counts.xdp_calls <= counts.xdp_datagrams, "{counts:?}");
        assert_eq!((counts.xdp_failures, counts.send_errors), (0, 0), "{counts:?}");
        stage.worker.stop();
    }
}

/// Fifty turns of a hundred datagrams each, more than there are frames.
#[test]
fn a_burst_arrives_whole_and_in_order() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    let socket = stage.join(FAR);
    stage.echo_by_frames(&socket);
    let address = socket.local_addr().unwrap();
    for round in 0..50u32 {
        stage.worker.tell(move |engine, _| {
            let path = engine.paths[&address];
            // No two neighbours of one size: nothing to segment.
            for number in 0..100u32 {
                let len = if number.is_multiple_of(2) { 300 } else { 700 + number as usize };
                let mut datagram = vec![round as u8; len];
                datagram[..4].copy_from_slice(&(round * 100 + number).to_be_bytes());
                engine.send(path, &datagram);
            }
        });
        for number in 0..100u32 {
            assert_eq!(receive(&socket)[..4], (round * 100 + number).to_be_bytes());
        }
    }
    assert!(stage.counts().xdp_datagrams > 1_000, "{:?}", stage.counts());
    stage.worker.stop();
}

#[test]
fn what_segments_or_is_too_long_takes_the_socket() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    let socket = stage.join(FAR);
    stage.echo_by_frames(&socket);
    let address = socket.local_addr().unwrap();
    let before = stage.counts();
    stage.worker.tell(move |engine, _| {
        let path = engine.paths[&address];
        for (number, len) in [1_000; 10].into_iter().chain([400]).enumerate() {
            engine.send(path, &vec![number as u8; len]);
        }
    });
    for (number, len) in [1_000; 10].into_iter().chain([400]).enumerate() {
        assert_eq!(receive(&socket), vec![number as u8; len]);
    }
    stage.worker.tell(move |engine, _| engine.send(engine.paths[&address], &[7; 3_000]));
    assert_eq!(receive(&socket), [7; 3_000]);
    let counts = stage.counts();
    assert_eq!(counts.segmented_sends - before.segmented_sends, 1);
    assert_eq!(counts.xdp_datagrams, before.xdp_datagrams);
    stage.worker.stop();
}

#[test]
fn a_neighbour_with_another_address_is_followed() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    let socket = stage.join(FAR);
    stage.echo_by_frames(&socket);
    stage.far.ip("link set far address 02:00:00:00:00:77");
    stage.near.ip("neigh replace 10.9.0.2 lladdr 02:00:00:00:00:77 dev near");
    stage.echo_at_last(&socket);
    stage.echo_by_frames(&socket);
    stage.worker.stop();
}

#[test]
fn a_route_over_a_gateway_is_followed() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    stage.far.ip("addr add 10.20.0.9/32 dev far");
    stage.near.ip("route add 10.20.0.0/16 via 10.9.0.2");
    let socket = stage.join("10.20.0.9:0");
    stage.echo_by_frames(&socket);
    stage.worker.stop();
}

#[test]
fn an_interface_that_was_down_is_used_again() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    let socket = stage.join(FAR);
    stage.echo_by_frames(&socket);
    let address = socket.local_addr().unwrap();
    stage.near.ip("link set near down");
    let worker = &stage.worker;
    wait_until("the loss is noticed", || {
        worker.tell(move |engine, _| engine.send(engine.paths[&address], b"lost"));
        let counts = worker.statistics();
        counts.xdp_failures > 0 || counts.send_errors > 0
    });
    stage.near.ip("link set near up");
    stage.echo_at_last(&socket);
    stage.echo_by_frames(&socket);
    stage.worker.stop();
}

/// The interface has one queue, and one socket takes it.
#[test]
fn a_worker_without_a_free_queue_uses_sockets() {
    let stage = Stage::new(config(Transmit::Xdp), NEAR);
    let first = stage.join(FAR);
    stage.echo_by_frames(&first);
    let near = stage.near_number;
    let other = Running::start_with(config(Transmit::Xdp), move || enter(near));
    let listener = other.listen(NEAR);
    let second = join_from(&other, listener, stage.far.client(FAR));
    for number in 0..200u32 {
        second.send(&number.to_be_bytes()).unwrap();
        assert_eq!(receive(&second), number.to_be_bytes());
    }
    assert_eq!(other.statistics().xdp_datagrams, 0);
    // Once the first is gone its queue is free.
    stage.worker.stop();
    let mut number = 0u32;
    wait_until("the queue is taken over", || {
        number += 1;
        second.send(&number.to_be_bytes()).unwrap();
        assert_eq!(receive(&second), number.to_be_bytes());
        other.statistics().xdp_datagrams > 0
    });
    other.stop();
}

/// Loopback has no neighbours: all goes by sockets, as without.
#[test]
fn loopback_takes_the_socket() {
    let worker = Running::start(config(Transmit::Xdp));
    let listener = worker.listen("127.0.0.1:0");
    let socket = join_from(&worker, listener, crate::harness::client("127.0.0.1:0"));
    for number in 0..100u32 {
        socket.send(&number.to_be_bytes()).unwrap();
        assert_eq!(receive(&socket), number.to_be_bytes());
    }
    assert_eq!(worker.statistics().xdp_datagrams, 0);
    worker.stop();
}
