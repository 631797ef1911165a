//! Single-port mode: all workers listen on one port, and a classic BPF program picks the listener of
//! the worker whose number a STUN packet's username begins with. Costs nothing measurable; anything
//! else goes by the kernel's hash and is dropped by whoever gets it.
//!
//! The program sees the UDP payload from offset 0, and returns an index into the group: the order in
//! which the listeners were bound. So these belong to the process, are opened before the workers
//! start, and are never closed: closing one would renumber the others.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsRawFd, OwnedFd},
};

use crate::sockets;

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
    let filter = libc::sock_fprog {
        len: program.len() as u16,
        filter: program.as_ptr().cast_mut(),
    };
    // SAFETY: a valid descriptor; `filter` and the program it points to live through the call, which
    // copies them.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_REUSEPORT_CBPF,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Loads of the instruction set; sizes in the low bits.
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
const AND_K: u16 = 0x54;
const LSH_K: u16 = 0x64;
const OR_X: u16 = 0x4c;
const JEQ_K: u16 = 0x15;
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

/// See the file's head. X holds the offset of the attribute that is looked at.
fn program(workers: u32) -> Vec<libc::sock_filter> {
    let mut program = vec![
        op(LD_ABS_W, 4),
        jump(JEQ_K, MAGIC_COOKIE, 1, 0),
        op(RET_K, NOBODY),
        op(LDX_IMM, 20),
    ];
    for _ in 0..ATTRIBUTES {
        // The type. A username ends the walk by the two digits behind its header; what is not one
        // jumps over these 19 instructions.
        program.push(op(LD_IND_H, 0));
        program.push(jump(JEQ_K, USERNAME, 0, 19));
        digit(&mut program, 4);
        program.push(op(LSH_K, 4));
        program.push(op(ST, 1));
        digit(&mut program, 5);
        // A is the low digit, and the high one comes from memory; X is needed no more.
        program.push(op(LDX_MEM, 1));
        program.push(op(OR_X, 0));
        program.push(jump(JGE_K, workers, 0, 1));
        program.push(op(LD_IMM, NOBODY));
        program.push(op(RET_A, 0));
        // The next attribute: header, length, padding to four.
        program.push(op(LD_IND_H, 2));
        program.push(op(ADD_K, 3 + 4));
        program.push(op(AND_K, !3));
        program.push(op(ADD_X, 0));
        program.push(op(TAX, 0));
    }
    program.push(op(RET_K, NOBODY));
    program
}

/// A = the value of the hexadecimal digit (lower case) at X + offset.
fn digit(program: &mut Vec<libc::sock_filter>, offset: u32) {
    program.push(op(LD_IND_B, offset));
    program.push(jump(JGE_K, u32::from(b'a'), 0, 2));
    program.push(op(SUB_K, u32::from(b'a') - 10));
    program.push(jump(JGE_K, 0, 1, 1));
    program.push(op(SUB_K, u32::from(b'0')));
    program.push(op(AND_K, 0xf));
}
