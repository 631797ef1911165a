//! Single-port mode: all workers listen on one port, and a classic BPF program picks the listener
//! of the worker whose number a STUN packet's username begins with. Costs nothing measurable;
//! anything else goes by the kernel's hash and is dropped by whoever gets it.
//!
//! The program sees the UDP payload from offset 0, and returns an index into the group: the order
//! in which the listeners were bound. So these belong to the process, are opened before the workers
//! start, and are never closed: closing one would renumber the others.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
};

use crate::{claim, sockets};

/// STUN attributes that are walked over before giving up; the username is not always first.
const ATTRIBUTES: usize = 10;
const USERNAME: u32 = 0x0006;
const MAGIC_COOKIE: u32 = 0x2112_a442;

/// The listeners of all workers, by worker.
pub struct SharedListeners {
    workers: Vec<Vec<(OwnedFd, SocketAddr)>>,
}

impl SharedListeners {
    /// Opens a listener a worker on each address, and attaches the program where there are several.
    ///
    /// # Errors
    /// The port is taken, or the program is refused.
    pub fn open(addresses: &[IpAddr], port: u16, workers: usize) -> io::Result<Self> {
        let mut opened: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for address in addresses {
            let local = SocketAddr::new(*address, port);
            claim::require_free(local)?;
            for worker in &mut opened {
                let socket = OwnedFd::from(sockets::listener(local)?);
                worker.push((socket, local));
            }
            if let Some((first, _)) = opened.first().and_then(|worker| worker.last())
                && workers > 1
            {
                attach(first, &program(workers as u32))?;
            }
        }
        Ok(Self { workers: opened })
    }

    /// Descriptors of one worker's listeners, each a duplicate: the originals stay open here.
    ///
    /// # Errors
    /// No descriptors are left.
    pub fn of_worker(&self, worker: usize) -> io::Result<Vec<(OwnedFd, SocketAddr)>> {
        let own = self.workers.get(worker).map_or(&[][..], Vec::as_slice);
        own.iter().map(|(socket, local)| Ok((socket.try_clone()?, *local))).collect()
    }
}

fn attach(socket: &OwnedFd, program: &[libc::sock_filter]) -> io::Result<()> {
    let filter =
        libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
    // The kernel copies the program that `filter` points to.
    sockets::set_option(socket, libc::SOL_SOCKET, libc::SO_ATTACH_REUSEPORT_CBPF, &filter)
}

/// Instructions of classic BPF: A and X are its registers, K the constant.
const LD_LEN: u16 = 0x80;
const LD_ABS_W: u16 = 0x20;
const LD_IND_H: u16 = 0x48;
const LD_IND_B: u16 = 0x50;
const LD_IMM: u16 = 0x00;
const LDX_IMM: u16 = 0x01;
const TAX: u16 = 0x07;
const ST: u16 = 0x02;
const LDX_MEM: u16 = 0x61;
const ADD_K: u16 = 0x04;
const ADD_X: u16 = 0x0c;
const SUB_K: u16 = 0x14;
const SUB_X: u16 = 0x1c;
const AND_K: u16 = 0x54;
const LSH_K: u16 = 0x64;
const OR_X: u16 = 0x4c;
const JA: u16 = 0x05;
const JEQ_K: u16 = 0x15;
const JGT_X: u16 = 0x2d;
const JGE_K: u16 = 0x35;
const RET_K: u16 = 0x06;
const RET_A: u16 = 0x16;

/// An index that no group has: the kernel then takes its hash.
const NOBODY: u32 = u32::MAX;

fn op(code: u16, k: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: 0, jf: 0, k }
}

fn jump(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// See the file's head. X holds the offset of the attribute that is looked at. A load beyond the
/// packet would end the program with 0, worker 0's listener: lengths are checked first, so that
/// broken packets cannot all be aimed at one worker.
fn program(workers: u32) -> Vec<libc::sock_filter> {
    let mut program = vec![
        // A header and one attribute at least (RFC 8489 section 5).
        op(LD_LEN, 0),
        jump(JGE_K, 28, 1, 0),
        op(RET_K, NOBODY),
        op(LD_ABS_W, 4),
        jump(JEQ_K, MAGIC_COOKIE, 1, 0),
        op(RET_K, NOBODY),
        op(LDX_IMM, 20),
    ];
    for _ in 0..ATTRIBUTES {
        // Eight bytes from X on are there: len > X and len - X >= 8.
        program.push(op(LD_LEN, 0));
        program.push(jump(JGT_X, 0, 0, 2));
        program.push(op(SUB_X, 0));
        program.push(jump(JGE_K, 8, 1, 0));
        program.push(op(RET_K, NOBODY));
        let username = username(workers);
        // The type. A username ends the walk; anything else jumps over those instructions.
        program.push(op(LD_IND_H, 0));
        program.push(jump(JEQ_K, USERNAME, 0, username.len() as u8));
        program.extend(username);
        // The next attribute: header, length, padding to four (RFC 8489 section 14).
        program.push(op(LD_IND_H, 2));
        program.push(op(ADD_K, 3 + 4));
        program.push(op(AND_K, !3));
        program.push(op(ADD_X, 0));
        program.push(op(TAX, 0));
    }
    program.push(op(RET_K, NOBODY));
    program
}

/// Returns the worker's number from the username's first two digits.
fn username(workers: u32) -> Vec<libc::sock_filter> {
    let mut program = digit(4);
    program.push(op(LSH_K, 4));
    program.push(op(ST, 1));
    program.extend(digit(5));
    // A is the low digit, and the high one comes from memory; X is needed no more.
    program.push(op(LDX_MEM, 1));
    program.push(op(OR_X, 0));
    program.push(jump(JGE_K, workers, 0, 1));
    program.push(op(LD_IMM, NOBODY));
    program.push(op(RET_A, 0));
    program
}

/// A = the value of the hexadecimal digit (lower case) at X + offset.
fn digit(offset: u32) -> Vec<libc::sock_filter> {
    vec![
        op(LD_IND_B, offset),
        jump(JGE_K, u32::from(b'a'), 0, 3),
        jump(JGE_K, u32::from(b'f') + 1, 6, 0),
        op(SUB_K, u32::from(b'a') - 10),
        op(JA, 5),
        jump(JGE_K, u32::from(b'0'), 0, 3),
        jump(JGE_K, u32::from(b'9') + 1, 2, 0),
        op(SUB_K, u32::from(b'0')),
        op(JA, 1),
        op(RET_K, NOBODY),
    ]
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::Duration;

    use super::*;

    /// A STUN packet with these attributes.
    fn stun(attributes: &[(u16, &[u8])]) -> Vec<u8> {
        let mut packet = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
        packet.extend([7; 12]);
        for (kind, value) in attributes {
            packet.extend(kind.to_be_bytes());
            packet.extend((value.len() as u16).to_be_bytes());
            packet.extend(*value);
            packet.resize(packet.len().next_multiple_of(4), 0);
        }
        let len = (packet.len() - 20) as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        packet
    }

    fn sockets(workers: usize) -> (SharedListeners, Vec<UdpSocket>, u16) {
        let ip = IpAddr::from(Ipv4Addr::LOCALHOST);
        // A free port: bound alone for a moment.
        let port = UdpSocket::bind((ip, 0)).unwrap().local_addr().unwrap().port();
        let shared = SharedListeners::open(&[ip], port, workers).unwrap();
        let sockets = (0..workers)
            .map(|worker| {
                let (socket, _) = shared.of_worker(worker).unwrap().remove(0);
                let socket = UdpSocket::from(socket);
                socket.set_nonblocking(false).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
                socket
            })
            .collect();
        (shared, sockets, port)
    }

    #[test]
    fn the_username_finds_its_worker_wherever_it_stands() {
        let (_shared, sockets, port) = sockets(20);
        let fill: (u16, &[u8]) = (0x8022, b"a filler of odd length!");
        for (worker, socket) in sockets.iter().enumerate() {
            for place in 0..ATTRIBUTES {
                let name = format!("{worker:02x}ABCDEF:remote");
                let mut attributes = vec![fill; place];
                attributes.push((USERNAME as u16, name.as_bytes()));
                attributes.push((0x0008, &[0; 20]));
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.send_to(&stun(&attributes), ("127.0.0.1", port)).unwrap();
                let mut buffer = [0; 2048];
                let (_, from) = socket.recv_from(&mut buffer).unwrap();
                assert_eq!(from, client.local_addr().unwrap(), "{worker} {place}");
            }
        }
    }

    #[test]
    fn what_names_no_worker_is_spread_over_all() {
        let (_shared, sockets, port) = sockets(4);
        sockets.iter().for_each(|socket| socket.set_nonblocking(true).unwrap());
        let mut endless = stun(&[(0x8022, b"x")]);
        endless[22..24].copy_from_slice(&u16::MAX.to_be_bytes());
        let packets = [
            vec![1, 2, 3],
            vec![0x80; 40],
            stun(&[(USERNAME as u16, b"zz:remote")]),
            stun(&[(USERNAME as u16, b"04:remote")]),
            stun(&[(USERNAME as u16, b"0")]),
            stun(&[(0x8022, b"no username here")]),
            endless,
        ];
        for packet in packets {
            for _ in 0..200 {
                let client = UdpSocket::bind("127.0.0.1:0").unwrap();
                client.send_to(&packet, ("127.0.0.1", port)).unwrap();
            }
            // Loopback delivers within the send: what will come is there.
            let counts: Vec<_> = sockets
                .iter()
                .map(|socket| std::iter::from_fn(|| socket.recv_from(&mut [0; 2048]).ok()).count())
                .collect();
            assert_eq!(counts.iter().sum::<usize>(), 200);
            assert!(counts.iter().all(|&count| count > 10), "{counts:?} of {packet:?}");
        }
    }
}
