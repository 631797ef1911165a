//! What the driver alone costs: bursts from one peer to many, segmented or not, by the ring or by
//! `sendmmsg`. Prints datagrams a second and processor time a datagram, and each as a ratio to the
//! first line: compare only within one run. Loopback receives in the sender's time, so the ratios
//! are flatter than on a device.
//!
//! `cargo bench -p ironcast-driver --bench fanout [peers] [copies] [bytes] [bursts]`

#[path = "../tests/harness/mod.rs"]
#[expect(dead_code, reason = "the tests need more of it")]
mod harness;

use std::{net::UdpSocket, time::Instant};

use harness::{Running, client, config, receive, wait_until};
use ironcast_driver::Transmit;

struct Figures {
    per_second: f64,
    cpu_ns: f64,
    sends: u64,
    dropped: u64,
}

fn main() {
    let numbers: Vec<usize> = std::env::args().filter_map(|text| text.parse().ok()).collect();
    let number = |index: usize, otherwise| numbers.get(index).copied().unwrap_or(otherwise);
    let (peers, copies) = (number(0, 300), number(1, 10));
    let (bytes, bursts) = (number(2, 1_112), number(3, 200));
    println!("one to {peers}, bursts of {copies} x {bytes} B, {bursts} bursts");
    let mut first = None;
    for round in 0..2 {
        for (name, transmit, segmentation) in [
            ("ring, segmented", Transmit::IoUring, true),
            ("ring, singles", Transmit::IoUring, false),
            ("sendmmsg, segmented", Transmit::Sendmmsg, true),
            ("sendmmsg, singles", Transmit::Sendmmsg, false),
        ] {
            let measured = measure(transmit, segmentation, peers, copies, bytes, bursts);
            let (speed, cost) = *first.get_or_insert((measured.per_second, measured.cpu_ns));
            println!(
                "{round} {name:20} {:9.0}/s ({:.2})  {:6.0} ns ({:.2})  {} sends, {} dropped",
                measured.per_second,
                measured.per_second / speed,
                measured.cpu_ns,
                measured.cpu_ns / cost,
                measured.sends,
                measured.dropped,
            );
        }
    }
}

fn measure(
    transmit: Transmit,
    segmentation: bool,
    peers: usize,
    copies: usize,
    bytes: usize,
    bursts: usize,
) -> Figures {
    let mut config = config(transmit);
    config.segmentation = segmentation;
    let worker = Running::start(config);
    let listener = worker.listen("127.0.0.1:0");
    let join = || {
        let socket = client("127.0.0.1:0");
        socket.connect(listener).unwrap();
        socket.send(b"hello").unwrap();
        assert_eq!(receive(&socket), b"hello");
        socket
    };
    let publisher = join();
    // Their sockets fill and then drop: nobody reads, so reading costs nothing here.
    let sinks: Vec<UdpSocket> = (0..peers).map(|_| join()).collect();
    let own = publisher.local_addr().unwrap();
    worker.ask(move |engine, _| {
        engine.fan =
            engine.paths.iter().filter(|(to, _)| **to != own).map(|(_, path)| *path).collect();
        engine.copies = copies;
    });
    let burst = |count: u64| {
        publisher.send(&vec![7; bytes]).unwrap();
        wait_until("a burst", || worker.ask(|engine, _| engine.from_paths) == count);
    };
    (1..=20).for_each(burst);
    let before = worker.statistics();
    let (begun, cpu_begun) = (Instant::now(), worker.ask(|_, _| thread_cpu_ns()));
    (21..=20 + bursts as u64).for_each(burst);
    let cpu_ns = worker.ask(|_, _| thread_cpu_ns()) - cpu_begun;
    let elapsed = begun.elapsed().as_secs_f64();
    let after = worker.statistics();
    drop(sinks);
    worker.stop();
    let datagrams = after.datagrams_out - before.datagrams_out;
    Figures {
        per_second: datagrams as f64 / elapsed,
        cpu_ns: cpu_ns as f64 / datagrams as f64,
        sends: after.sends - before.sends,
        dropped: after.eagain_drops + after.send_errors,
    }
}

/// Processor time of the calling thread.
fn thread_cpu_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call to write.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
