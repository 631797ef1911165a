//! The driver over real sockets on loopback, with a small engine: what arrives by a listener opens
//! a path, what arrives by a path is echoed or fanned out. Tests talk to the engine by messages that
//! are closures, and wait for conditions, never for time.

mod connections;
mod frames;
mod harness;
mod hops;

use std::{
    collections::BTreeSet,
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    time::Duration,
};

use harness::{Running, client, config, count_files, isolate_network, receive, spin, wait_until};
use ironcast_driver::{Io, Transmit, Without, allocator, steering::SharedListeners};

#[global_allocator]
static ALLOCATOR: allocator::CountingAllocator = allocator::CountingAllocator;

const MODES: [Transmit; 2] = [Transmit::IoUring, Transmit::Sendmmsg];

/// Says hello from a new client and waits for the answer, which comes by the path.
fn join(worker: &Running, listener: SocketAddr, address: &str) -> UdpSocket {
    join_from(worker, listener, client(address))
}

fn join_from(worker: &Running, listener: SocketAddr, socket: UdpSocket) -> UdpSocket {
    socket.connect(listener).unwrap();
    let before = worker.ask(|engine, _| engine.paths.len());
    socket.send(b"hello").unwrap();
    assert_eq!(receive(&socket), b"hello");
    assert_eq!(worker.ask(|engine, _| engine.paths.len()), before + 1);
    socket
}

#[test]
fn a_first_datagram_opens_a_path_and_is_answered_on_it() {
    for transmit in MODES {
        for (local, remote) in [("127.0.0.1:0", "127.0.0.1:0"), ("[::1]:0", "[::1]:0")] {
            let worker = Running::start(config(transmit));
            let listener = worker.listen(local);
            let socket = join(&worker, listener, remote);
            for number in 0..100u32 {
                socket.send(&number.to_be_bytes()).unwrap();
                assert_eq!(receive(&socket), number.to_be_bytes());
            }
            let (from_listener, from_paths, odd_arrivals) = worker
                .ask(|engine, _| (engine.from_listeners, engine.from_paths, engine.odd_arrivals));
            assert_eq!((from_listener, from_paths, odd_arrivals), (1, 100, 0));
            worker.stop();
        }
    }
}

#[test]
fn a_peer_whose_route_back_has_another_source_is_answered_from_the_listeners_address() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        // A socket on the wildcard, connected to 127.0.0.1, would send from 127.0.0.1.
        let listener = worker.listen("127.0.0.2:0");
        // `connect` makes the client refuse any other source than the listener's address.
        let socket = join(&worker, listener, "127.0.0.1:0");
        socket.send(b"again").unwrap();
        assert_eq!(receive(&socket), b"again");
        assert_eq!(worker.ask(|engine, _| engine.from_paths), 1);
        worker.stop();
    }
}

#[test]
fn strangers_reach_only_the_listener_and_do_not_stop_flows() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen("127.0.0.1:0");
    let peers: Vec<_> = (0..64).map(|_| join(&worker, listener, "127.0.0.1:0")).collect();
    // What a peer's socket is between bind and connect: bound to the wildcard, of the same port.
    let unconnected = harness::shared_socket(&format!("0.0.0.0:{}", listener.port()));
    unconnected.set_nonblocking(true).unwrap();
    for round in 0..20u8 {
        for _ in 0..20 {
            client("127.0.0.1:0").send_to(b"junk", listener).unwrap();
        }
        for peer in &peers {
            peer.send(&[round]).unwrap();
        }
        for peer in &peers {
            assert_eq!(receive(peer), [round]);
        }
    }
    wait_until("all strangers", || worker.ask(|engine, _| engine.from_strangers) == 400);
    let (paths, datagrams) = worker.ask(|engine, _| (engine.paths.len(), engine.from_paths));
    assert_eq!((paths, datagrams), (64, 64 * 20));
    assert!(unconnected.recv(&mut [0; 100]).is_err(), "the unconnected socket stole nothing");
    worker.stop();
}

#[test]
fn a_peer_that_is_gone_ends_its_receive_which_is_armed_again() {
    for transmit in MODES {
        let mut config = config(transmit);
        config.path_failure_ms = 100;
        let worker = Running::start(config);
        let listener = worker.listen("127.0.0.1:0");
        let socket = join(&worker, listener, "127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        drop(socket);
        // Two things may learn of the ICMP error: the receive, which ends, or the next send.
        wait_until("the peer's absence is told to the engine", || {
            worker.ask(move |engine, io| {
                engine.send(engine.paths[&address], b"anybody there?");
                let counts = io.statistics();
                // Often enough that the receive rests in between.
                let is_often = counts.connections_refused >= 8 && counts.rearms >= 8;
                is_often && !engine.failed.is_empty()
            })
        });
        // The same peer again: its path still works, both ways, once the receive has rested.
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(harness::PATIENCE)).unwrap();
        socket.connect(listener).unwrap();
        socket.send(b"back").unwrap();
        while receive(&socket) != b"back" {}
        worker.stop();
    }
}

#[test]
fn too_few_receive_buffers_are_survived_and_counted() {
    let mut config = config(Transmit::IoUring);
    config.receive_buffers = 16;
    let worker = Running::start(config);
    let listener = worker.listen("127.0.0.1:0");
    let socket = join(&worker, listener, "127.0.0.1:0");
    // The worker is held while a burst fills its sockets.
    let (held, is_held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    worker.tell(move |_, _| {
        held.send(()).unwrap();
        let _ = released.recv();
    });
    is_held.recv().unwrap();
    for number in 0..150u8 {
        socket.send(&[number]).unwrap();
    }
    release.send(()).unwrap();
    for number in 0..150u8 {
        assert_eq!(receive(&socket), [number]);
    }
    let counts = worker.statistics();
    assert!(counts.buffer_exhaustions > 0 && counts.rearms > 0, "{counts:?}");
    worker.stop();
}

#[test]
fn a_run_leaves_as_one_send_and_arrives_as_its_datagrams() {
    for (transmit, segmentation) in
        [(Transmit::IoUring, true), (Transmit::Sendmmsg, true), (Transmit::IoUring, false)]
    {
        let mut config = config(transmit);
        config.segmentation = segmentation;
        let worker = Running::start(config);
        let listener = worker.listen("127.0.0.1:0");
        let socket = join(&worker, listener, "127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        let before = worker.statistics();
        worker.tell(move |engine, _| {
            let path = engine.paths[&address];
            for (number, len) in [1000; 10].into_iter().chain([400, 1200]).enumerate() {
                engine.send(path, &vec![number as u8; len]);
            }
        });
        for (number, len) in [1000; 10].into_iter().chain([400, 1200]).enumerate() {
            assert_eq!(receive(&socket), vec![number as u8; len]);
        }
        let counts = worker.statistics();
        let sends = counts.sends - before.sends;
        assert_eq!(counts.datagrams_out - before.datagrams_out, 12);
        assert_eq!(counts.segmented_sends, u64::from(segmentation));
        assert_eq!(sends, if segmentation { 2 } else { 12 });
        worker.stop();
    }
}

#[test]
fn refused_segmentation_falls_back_to_single_datagrams_once() {
    for transmit in MODES {
        let worker = Running::start_with(config(transmit), || isolate_network(1500));
        let listener = worker.listen("127.0.0.1:0");
        // Made by the worker's thread, so that it is in the same network.
        let socket = worker.ask(|_, _| client("127.0.0.1:0"));
        socket.connect(listener).unwrap();
        socket.send(b"hello").unwrap();
        assert_eq!(receive(&socket), b"hello");
        let address = socket.local_addr().unwrap();
        for _ in 0..3 {
            worker.tell(move |engine, _| {
                // Segments beyond the MTU: refused as one send, fragmented as single ones.
                for number in 0..5u8 {
                    engine.send(engine.paths[&address], &[number; 3000]);
                }
            });
            for number in 0..5u8 {
                assert_eq!(receive(&socket), [number; 3000]);
            }
        }
        let counts = worker.statistics();
        assert_eq!(counts.segmentation_refused, 1, "{counts:?}");
        assert_eq!((counts.segmented_sends, counts.send_errors), (1, 0), "{counts:?}");
        worker.stop();
    }
}

#[test]
fn the_mailbox_wakes_a_sleeping_and_a_busy_worker() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen("127.0.0.1:0");
    // Sleeping: every question is asked when the worker has nothing else to do. Whether it already
    // sleeps is a matter of who gets a core first: asked until one question has woken it.
    wait_until("a question wakes the worker", || {
        for number in 0..1_000u32 {
            assert_eq!(worker.ask(move |_, _| number), number);
        }
        worker.statistics().wakes > 0
    });
    // Busy: two threads ask while a flow runs.
    let socket = join(&worker, listener, "127.0.0.1:0");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let worker = &worker;
            scope.spawn(move || {
                (0..2_000u32).for_each(|n| assert_eq!(worker.ask(move |_, _| n), n))
            });
        }
        for number in 0..5_000u32 {
            socket.send(&number.to_be_bytes()).unwrap();
            assert_eq!(receive(&socket), number.to_be_bytes());
        }
    });
    worker.stop();
}

#[test]
fn commands_that_take_long_do_not_keep_media_waiting() {
    let worker = Running::start(config(Transmit::IoUring));
    let (turn, turns) = mpsc::channel();
    // While one of them is worked on, all others come.
    let (begin, begun) = mpsc::channel();
    worker.tell(move |_, _| begun.recv_timeout(harness::PATIENCE).unwrap());
    for _ in 0..20 {
        let turn = turn.clone();
        worker.tell(move |_, io| {
            turn.send(io.statistics().turns).unwrap();
            spin(Duration::from_millis(1));
        });
    }
    begin.send(()).unwrap();
    let turns: BTreeSet<u64> =
        (0..20).map(|_| turns.recv_timeout(harness::PATIENCE).unwrap()).collect();
    assert_eq!(turns.len(), 20, "each in a turn of its own");
    assert!(worker.statistics().messages_deferred >= 19);
    worker.stop();
}

#[test]
fn a_flood_does_not_keep_what_leaves_waiting() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen("127.0.0.1:0");
    let socket = join(&worker, listener, "127.0.0.1:0");
    let (turns, deferred) =
        worker.ask(|_, io| (io.statistics().turns, io.statistics().receives_deferred));
    assert_eq!(deferred, 0);
    // While the worker is held, all of them come.
    let ((begin, begun), (hold, held)) = (mpsc::channel(), mpsc::channel());
    worker.tell(move |engine, _| {
        engine.slow = Duration::from_micros(300);
        hold.send(()).unwrap();
        begun.recv_timeout(harness::PATIENCE).unwrap();
    });
    held.recv_timeout(harness::PATIENCE).unwrap();
    for number in 0..100u32 {
        socket.send(&number.to_be_bytes()).unwrap();
    }
    begin.send(()).unwrap();
    (0..100).for_each(|number| assert_eq!(receive_number(&socket), number));
    let counts = worker.statistics();
    assert!(counts.receives_deferred >= 10, "{counts:?}");
    assert!(counts.turns - turns >= 10, "{counts:?}");
    worker.stop();
}

#[test]
fn a_deadline_ends_the_sleep() {
    let worker = Running::start(config(Transmit::IoUring));
    for _ in 0..20 {
        let (fired, has_fired) = mpsc::sync_channel(1);
        worker.tell(move |engine, io| {
            engine.alarm = Some((io.now() + 5_000_000, fired));
        });
        let late_ns = has_fired.recv_timeout(harness::PATIENCE).unwrap();
        assert!(late_ns >= 0, "not before its time");
    }
    worker.stop();
}

#[test]
fn what_is_said_at_the_end_is_still_sent() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen("127.0.0.1:0");
        let socket = join(&worker, listener, "127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        worker.ask(move |engine, _| {
            engine.last_words = Some((engine.paths[&address], b"goodbye"));
        });
        worker.stop();
        assert_eq!(receive(&socket), b"goodbye");
    }
}

#[test]
fn a_turn_is_held_for_the_rest_of_a_frame_and_then_goes_on() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen("127.0.0.1:0");
        let socket = join(&worker, listener, "127.0.0.1:0");
        for _ in 0..50 {
            // The rest never comes, comes at once, and comes late.
            socket.send(b"part").unwrap();
            assert_eq!(receive(&socket), b"part");
            for datagram in [b"part", b"rest"] {
                socket.send(datagram).unwrap();
            }
            assert_eq!((receive(&socket), receive(&socket)), (b"part".into(), b"rest".into()));
        }
        // Many at once: then the worker is busy, and holds its next sleep.
        wait_until("a turn is held", || {
            for round in 0..50u32 {
                for _ in 0..8 {
                    socket.send(&round.to_be_bytes()).unwrap();
                }
                for _ in 0..8 {
                    assert_eq!(receive(&socket), round.to_be_bytes());
                }
            }
            worker.statistics().holds > 0
        });
        worker.stop();
    }
}

#[test]
fn all_this_holds_without_what_an_older_kernel_lacks() {
    // What counts segments says so by its name.
    let skipped = ["all_this_holds", "leaves_as_one_send", "refused_segmentation", "what_segments"];
    let run = |name: &'static str| {
        let skipped = if name == "segmentation" { &skipped[..] } else { &skipped[..1] };
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.env("IRONCAST_TEST_WITHOUT", name);
        command.args(skipped.iter().flat_map(|test| ["--skip", test]));
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && !text.contains(" 0 passed"), "without {name}: {text}");
    };
    // They wait for most of their time: some at once.
    for names in Without::NAMES.chunks(3) {
        std::thread::scope(|scope| {
            for name in names {
                scope.spawn(|| run(name));
            }
        });
    }
}

#[test]
fn thousands_of_paths_come_and_go_without_a_trace() {
    if !harness::is_alone("thousands_of_paths_come_and_go_without_a_trace") {
        return;
    }
    for transmit in MODES {
        let mut config = config(transmit);
        config.paths = 600;
        let worker = Running::start(config);
        let listener = worker.listen("127.0.0.1:0");
        let remote = |n: usize| SocketAddr::from(([127, 0, 0, 1], 20_000 + n as u16));
        let before = count_files();
        for round in 0..10 {
            let opened = worker.ask(move |_, io| {
                (0..500).map(|n| io.open_path(listener, remote(n)).unwrap()).collect::<Vec<_>>()
            });
            let slots: BTreeSet<_> = opened.iter().map(|path| path.slot).collect();
            assert_eq!(slots.len(), 500);
            // Half of them in another turn, half opened and closed within one.
            worker.ask(move |_, io| opened.into_iter().for_each(|path| io.close_path(path)));
            worker.ask(move |_, io| {
                for n in 0..500 {
                    let path = io.open_path(listener, remote(n)).unwrap();
                    io.close_path(path);
                    io.close_path(path);
                    assert!(path.generation > round);
                }
            });
        }
        assert_eq!(count_files(), before);
        // Slots that were used so often still work, and what a closed path had does not.
        let socket = join(&worker, listener, "127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        worker.ask(move |engine, io| {
            let path = engine.paths[&address];
            io.close_path(path);
            engine.send(path, b"late");
        });
        wait_until("the late send is counted", || worker.statistics().stale_sends == 1);
        socket.send(b"to nobody").unwrap();
        wait_until("it goes to the listener", || {
            worker.ask(|engine, _| engine.from_strangers) == 1
        });
        worker.stop();
    }
}

#[test]
fn a_closed_path_leaves_no_socket_while_others_go_on() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen("127.0.0.1:0");
        let stays = join(&worker, listener, "127.0.0.1:0");
        for _ in 0..20 {
            let socket = join(&worker, listener, "127.0.0.1:0");
            let address = socket.local_addr().unwrap();
            worker.ask(move |engine, io| io.close_path(engine.paths.remove(&address).unwrap()));
            // A socket that is left over would take this.
            let before = worker.ask(|engine, _| engine.from_strangers);
            wait_until("its port is the listener's again", || {
                socket.send(b"to nobody").unwrap();
                worker.ask(|engine, _| engine.from_strangers) > before
            });
        }
        wait_until("two sockets are left", || sockets_on(listener.port()) == 2);
        stays.send(b"still here").unwrap();
        assert_eq!(receive(&stays), b"still here");
        worker.stop();
    }
}

/// How many sockets of datagrams the kernel has on a port.
fn sockets_on(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").unwrap();
    let port = format!(":{port:04X}");
    let local = |line: &str| line.split_whitespace().nth(1).is_some_and(|at| at.ends_with(&port));
    table.lines().filter(|line| local(line)).count()
}

/// After a large call the table of sockets is cut; what is made anew in it is told from what was.
#[test]
fn a_table_that_gave_memory_back_never_confuses_its_sockets() {
    let mut config = config(Transmit::IoUring);
    config.paths = 4_000;
    let worker = Running::start(config);
    let listener = worker.listen("127.0.0.1:0");
    let remote = |n: usize| SocketAddr::from(([127, 0, 0, 1], 20_000 + n as u16));
    let open = move |io: &mut Io| {
        (0..3_000).map(|n| io.open_path(listener, remote(n)).unwrap()).collect::<Vec<_>>()
    };
    let first = worker.ask(move |_, io| open(io));
    let closed = first.clone();
    worker.ask(move |_, io| closed.into_iter().for_each(|path| io.close_path(path)));
    wait_until("the table is cut", || worker.statistics().table_trims > 0);
    let second = worker.ask(move |_, io| open(io));
    let old: BTreeSet<_> = first.iter().map(|path| (path.slot, path.generation)).collect();
    assert!(second.iter().all(|path| !old.contains(&(path.slot, path.generation))));
    worker.ask(move |engine, _| first.into_iter().for_each(|path| engine.send(path, b"late")));
    wait_until("late sends are counted", || worker.statistics().stale_sends == 3_000);
    worker.stop();
}

#[test]
fn a_full_table_of_sockets_is_an_error_and_not_the_end() {
    let mut config = config(Transmit::IoUring);
    (config.paths, config.streams.connections) = (1, 0);
    let worker = Running::start(config);
    let listener = worker.listen("127.0.0.1:0");
    let (opened, error) = worker.ask(move |_, io| {
        let mut opened = Vec::new();
        loop {
            match io.open_path(listener, ([127, 0, 0, 1], 9).into()) {
                Ok(path) => opened.push(path),
                Err(error) => break (opened, error),
            }
        }
    });
    assert_eq!(error.kind(), std::io::ErrorKind::QuotaExceeded);
    worker.ask(move |_, io| opened.into_iter().for_each(|path| io.close_path(path)));
    join(&worker, listener, "127.0.0.1:0");
    worker.stop();
}

#[test]
fn a_restarted_worker_gets_its_share_of_the_single_port_again() {
    let local = client("127.0.0.1:0").local_addr().unwrap();
    let shared = SharedListeners::open(&[local.ip()], local.port(), 2).unwrap();
    let start =
        |index| Running::start_on(config(Transmit::IoUring), shared.of_worker(index).unwrap());
    // A binding request whose only attribute is the username (RFC 8489 section 14.3).
    let check = |worker: u8| {
        let mut packet = vec![0, 1, 0, 16, 0x21, 0x12, 0xa4, 0x42];
        packet.extend([0; 12]);
        packet.extend([0, 6, 0, 9]);
        packet.extend(format!("{worker:02x}ab:peer").bytes());
        packet.extend([0; 3]);
        client("127.0.0.1:0").send_to(&packet, local).unwrap();
    };
    let strangers = |worker: &Running| worker.ask(|engine, _| engine.from_strangers);
    let mut workers = vec![start(0), start(1)];
    for round in 1..=3u64 {
        (0..20).for_each(|_| check(0));
        (0..30).for_each(|_| check(1));
        wait_until("worker 1's checks", || strangers(&workers[1]) == 30 * round);
        wait_until("worker 0's checks", || strangers(&workers[0]) == 20);
        // Worker 0 starts again on the same listeners; the order of the group stays.
        workers.remove(0).stop();
        workers.insert(0, start(0));
    }
    workers.into_iter().for_each(Running::stop);
}

#[test]
fn a_panic_of_the_engine_closes_every_socket() {
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen("127.0.0.1:0");
        let socket = join(&worker, listener, "127.0.0.1:0");
        let address = socket.local_addr().unwrap();
        worker.tell(move |engine, _| {
            engine.send(engine.paths[&address], b"never sent");
            panic!("asked to by a test");
        });
        assert!(worker.join().is_err());
        // Bound without sharing: nobody else has the port any more.
        UdpSocket::bind(listener).unwrap();
    }
}

#[test]
fn nothing_is_allocated_per_forwarded_packet() {
    let (_, counted) = allocator::count(|| Box::new([0u8; 100]));
    assert_eq!((counted.calls, counted.bytes), (1, 100), "the allocator counts");
    for transmit in MODES {
        let worker = Running::start(config(transmit));
        let listener = worker.listen("127.0.0.1:0");
        let peers: Vec<_> = (0..4).map(|_| join(&worker, listener, "127.0.0.1:0")).collect();
        let rounds = |count: u32| {
            for number in 0..count {
                for peer in &peers {
                    for _ in 0..8 {
                        peer.send(&number.to_be_bytes()).unwrap();
                    }
                }
                for peer in &peers {
                    for _ in 0..8 {
                        assert_eq!(receive_number(peer), number);
                    }
                }
            }
        };
        rounds(200);
        worker.ask(|_, _| allocator::start());
        rounds(100_000 / 32);
        let counted = worker.ask(|_, _| allocator::stop());
        // The box of the message that ends the count was made by this thread, not by the worker.
        assert_eq!(counted.calls, 0, "{counted:?}");
        worker.stop();
    }
}

#[test]
fn a_turn_takes_few_system_calls() {
    let worker = Running::start(config(Transmit::IoUring));
    let listener = worker.listen("127.0.0.1:0");
    let peers: Vec<_> = (0..32).map(|_| join(&worker, listener, "127.0.0.1:0")).collect();
    let before = worker.statistics();
    for number in 0..1_000_u32 {
        for peer in &peers {
            peer.send(&number.to_be_bytes()).unwrap();
        }
        for peer in &peers {
            assert_eq!(receive_number(peer), number);
        }
    }
    let counts = worker.statistics();
    let (turns, enters) = (counts.turns - before.turns, counts.enters - before.enters);
    // A wait, what the kernel has put off, the sends, receives armed again, a held turn: more is
    // looking for what is not there.
    assert!(enters <= 5 * turns, "{enters} system calls in {turns} turns");
    worker.stop();
}

fn receive_number(socket: &UdpSocket) -> u32 {
    let mut bytes = [0; 4];
    assert_eq!(socket.recv(&mut bytes).unwrap(), 4);
    u32::from_be_bytes(bytes)
}
