//! Free ports for servers that run beside each other on one machine.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
};

const FIRST: u16 = 21_000;
const LAST: u16 = 31_000;

/// A range of `count` UDP ports that nobody uses now, and that no other caller in this process
/// gets.
pub(crate) fn udp_range(count: u16) -> u16 {
    // Test processes that run at once begin in different places.
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let spread = (std::process::id() % 37) as u16 * 256;
    for _ in 0..200 {
        let offset = NEXT.fetch_add(count, Ordering::Relaxed).wrapping_add(spread);
        let first = FIRST + offset % (LAST - FIRST - count);
        if (first..first + count).all(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
        {
            return first;
        }
    }
    panic!("no {count} free UDP ports in a row between {FIRST} and {LAST}");
}

/// A loopback address whose port is free for TCP and UDP.
pub(crate) fn loopback() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free TCP port");
        let address = tcp.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}
