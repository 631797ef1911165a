//! What one worker sends to another, without a socket.

use std::thread;

use ironcast_core::batch::PathId;
use ironcast_driver::{DriverConfig, Exchange, Statistics, Transmit};

use crate::{
    MODES,
    harness::{Running, config, receive, wait_until},
    join,
};

const RING_BYTES: u32 = 64 << 10;

fn worker(exchange: &Exchange, number: u16, transmit: Transmit) -> Running {
    let hop_ring_bytes = RING_BYTES;
    let exchange = exchange.clone();
    Running::start(DriverConfig { exchange, number, hop_ring_bytes, ..config(transmit) })
}

/// Two ends, each on its worker: paths there.
fn connect(a: &Running, b: &Running) -> (PathId, PathId) {
    connect_as((a, 0), (b, 1))
}

fn connect_as((a, a_number): (&Running, u16), (b, b_number): (&Running, u16)) -> (PathId, PathId) {
    let [end_a, end_b] = [a, b].map(|worker| worker.ask(|_, io| io.open_hop().unwrap()));
    a.ask(move |_, io| io.connect_hop(end_a, b_number, end_b).unwrap());
    b.ask(move |_, io| io.connect_hop(end_b, a_number, end_a).unwrap());
    (end_a, end_b)
}

fn total(workers: &[&Running], what: impl Fn(&Statistics) -> u64) -> u64 {
    workers.iter().map(|worker| what(&worker.statistics())).sum()
}

#[test]
fn datagrams_arrive_in_order_and_none_is_lost_while_there_is_room() {
    for transmit in MODES {
        let exchange = Exchange::new(2);
        let [a, b] = [0, 1].map(|number| worker(&exchange, number, transmit));
        let (from, _) = connect(&a, &b);
        let listener = b.listen("127.0.0.1:0");
        let receiver = join(&b, listener, "127.0.0.1:0");
        b.ask(|engine, _| {
            engine.fan = engine.paths.values().copied().collect();
            engine.copies = 1;
        });
        for round in 0..200u32 {
            // Of different lengths, so that they are several sends, and frames of equal ones.
            a.ask(move |engine, _| {
                for number in 0..50u32 {
                    let mut datagram = vec![0; 8 + 20 * (number as usize / 10)];
                    datagram[..4].copy_from_slice(&round.to_be_bytes());
                    datagram[4..8].copy_from_slice(&number.to_be_bytes());
                    engine.send(from, &datagram);
                }
            });
            for number in 0..50u32 {
                let datagram = receive(&receiver);
                assert_eq!(datagram.len(), 8 + 20 * (number as usize / 10));
                assert_eq!(datagram[..4], round.to_be_bytes());
                assert_eq!(datagram[4..8], number.to_be_bytes());
            }
        }
        let (out, came) = (a.statistics(), b.statistics());
        assert_eq!((out.hop_datagrams_out, came.hop_datagrams_in), (10_000, 10_000));
        assert_eq!(out.hop_dropped + out.hop_stale + out.stale_sends, 0);
        // No socket was in between, and each turn rang once.
        assert_eq!(out.datagrams_out, 0);
        a.stop();
        b.stop();
    }
}

/// Each wakes the other: a wake that is lost would end it.
#[test]
fn a_ball_goes_to_and_fro() {
    let exchange = Exchange::new(2);
    let [a, b] = [0, 1].map(|number| worker(&exchange, number, Transmit::IoUring));
    let (from, _) = connect(&a, &b);
    a.ask(move |engine, _| engine.send(from, b"ball"));
    wait_until("it comes back", || a.ask(|engine, _| engine.from_paths) > 20_000);
    a.stop();
    b.stop();
}

#[test]
fn a_worker_has_hops_to_itself() {
    let exchange = Exchange::new(1);
    let a = worker(&exchange, 0, Transmit::IoUring);
    let (from, to) = connect_as((&a, 0), (&a, 0));
    a.ask(move |engine, _| {
        engine.fan = vec![to];
        engine.copies = 0;
        engine.send(from, b"to myself");
    });
    wait_until("it arrives", || a.ask(|engine, _| engine.from_paths) == 1);
    a.stop();
}

#[test]
fn a_reader_that_is_slow_costs_what_does_not_fit_and_nothing_else() {
    let exchange = Exchange::new(2);
    let [a, b] = [0, 1].map(|number| worker(&exchange, number, Transmit::IoUring));
    let (from, to) = connect(&a, &b);
    b.ask(move |engine, _| engine.fan = vec![to]);
    // While it waits here it reads nothing.
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let (begin, begun) = std::sync::mpsc::channel::<()>();
    b.tell(move |_, _| {
        begin.send(()).unwrap();
        held.recv().unwrap();
    });
    begun.recv().unwrap();
    for _ in 0..10 {
        a.ask(move |engine, _| (0..100).for_each(|_| engine.send(from, &[0; 1_000])));
    }
    let counts = a.statistics();
    assert_eq!(counts.hop_datagrams_out + counts.hop_dropped, 1_000);
    assert_eq!(counts.hop_datagrams_out, u64::from(RING_BYTES / 1_024));
    go_on.send(()).unwrap();
    wait_until("what fitted is read", || {
        total(&[&b], |counts| counts.hop_datagrams_in) == counts.hop_datagrams_out
    });
    a.ask(move |engine, _| engine.send(from, b"there is room again"));
    wait_until("more is read", || {
        total(&[&b], |counts| counts.hop_datagrams_in) == counts.hop_datagrams_out + 1
    });
    a.stop();
    b.stop();
}

#[test]
fn what_was_for_a_worker_that_ended_reaches_nobody() {
    let exchange = Exchange::new(2);
    let [a, b] = [0, 1].map(|number| worker(&exchange, number, Transmit::IoUring));
    let (from, to) = connect(&a, &b);
    b.ask(move |engine, _| engine.fan = vec![to]);
    a.ask(move |engine, _| engine.send(from, b"one"));
    wait_until("it arrives", || b.ask(|engine, _| engine.from_paths) == 1);
    b.stop();
    a.ask(move |engine, _| engine.send(from, b"two"));
    wait_until("it is given up", || a.statistics().hop_stale == 1);
    let refused = a.ask(move |_, io| io.connect_hop(from, 1, to).unwrap_err().kind());
    assert_eq!(refused, std::io::ErrorKind::NotConnected);
    // It is there again, with an end of the same number that is somebody else's.
    let b = worker(&exchange, 1, Transmit::IoUring);
    wait_until("it runs", || b.ask(|_, io| io.open_hop().unwrap()) == to);
    b.ask(move |engine, _| engine.fan = vec![to]);
    a.ask(move |engine, _| engine.send(from, b"three"));
    wait_until("it is given up", || a.statistics().hop_stale == 2);
    let end = a.ask(|_, io| io.open_hop().unwrap());
    a.ask(move |_, io| io.connect_hop(end, 1, to).unwrap());
    a.ask(move |engine, _| {
        engine.send(from, b"four");
        engine.send(end, b"five");
    });
    wait_until("the new one arrives", || b.ask(|engine, _| engine.from_paths) == 1);
    assert_eq!(a.statistics().hop_stale, 3);
    // An end that is closed takes nothing.
    b.ask(move |_, io| io.close_path(to));
    a.ask(move |engine, _| engine.send(end, b"six"));
    wait_until("it is read", || b.statistics().hop_datagrams_in == 2);
    a.ask(move |_, io| io.close_path(end));
    a.ask(move |engine, _| engine.send(end, b"seven"));
    wait_until("it has no path", || a.statistics().stale_sends == 1);
    a.stop();
    b.stop();
}

/// A hundred pairs of ends between three workers, all at once.
#[test]
fn many_hops_of_many_workers_do_not_mix() {
    let exchange = Exchange::new(3);
    let workers: Vec<_> =
        (0..3).map(|number| worker(&exchange, number, Transmit::IoUring)).collect();
    let mut ends = Vec::new();
    for number in 0..100u32 {
        let (from, to) = (number as usize % 3, (number as usize / 3 + 1) % 3);
        let pair = connect_as((&workers[from], from as u16), (&workers[to], to as u16));
        ends.push((from, to, pair));
    }
    // A ball for each: an echo goes back to where it came from, and nowhere else.
    for (from, _, (end, _)) in &ends {
        let end = *end;
        workers[*from].tell(move |engine, _| engine.send(end, b"ball"));
    }
    let all: Vec<&Running> = workers.iter().collect();
    wait_until("all move", || total(&all, |counts| counts.hop_datagrams_in) > 50_000);
    thread::yield_now();
    assert_eq!(total(&all, |counts| counts.hop_dropped + counts.hop_stale), 0);
    workers.into_iter().for_each(Running::stop);
}
