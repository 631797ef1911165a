//! The do-nothing forwarder: what reaches it from one sender goes to everybody who asked, without
//! crypto, state or rewriting. It is the floor under every figure: no server that sends by this
//! system call can be cheaper. A role of the bench's own binary (`ironcast-bench reflect`), started
//! by [`crate::servers`]. Waits for a whole frame (marker bit), then sends it to one destination
//! after the other.

use std::{
    collections::BTreeSet,
    io::IoSlice,
    net::{SocketAddr, SocketAddrV4, UdpSocket},
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg, sendmsg};

/// Messages a system call.
const BATCH: usize = 64;
/// Segments a send (the kernel's limit is 128, and 65,507 bytes in all).
const SEGMENTS_MAX: usize = 64;
const BYTES_MAX: usize = 65_000;
const DATAGRAM_BYTES_MAX: usize = 2_048;
const SOCKET_BUFFER_BYTES: usize = 8 << 20;
/// A receiver says this to be sent to.
pub(crate) const JOIN: &[u8] = b"\x01join";

/// How the reflector sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Method {
    /// One message a packet, 64 a system call.
    Sendmmsg,
    /// One segmented message (UDP_SEGMENT) a frame and destination.
    Segmented,
}

/// What a reflector does wrong, for tests of what the bench says then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Fault {
    /// Passes one frame of ten.
    Drop,
    /// Ends.
    Die,
    /// Stands still for a second.
    Stall,
    /// Forgets the last who asked, for good.
    Forget,
}

/// From the first frame on it does no wrong for so long.
const FAULT_AFTER: Duration = Duration::from_secs(2);
const STALL: Duration = Duration::from_secs(1);

/// Says where it listens, and forwards until it is killed.
pub(crate) fn run(listen: SocketAddr, method: Method, fault: Option<Fault>) -> Result<()> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(listen),
        socket2::Type::DGRAM,
        Some(socket2::Protocol::UDP),
    )?;
    // The kernel may grant less.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    socket.bind(&listen.into()).with_context(|| format!("{listen} cannot be bound"))?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let socket: UdpSocket = socket.into();
    println!("{}", socket.local_addr()?);
    let mut destinations = Destinations::default();
    let mut frame: Vec<Vec<u8>> = Vec::new();
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    let mut faulty = fault.map(Faulty::new);
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let datagram = &buffer[..length];
        if datagram == JOIN {
            destinations.add(from);
            continue;
        }
        frame.push(datagram.to_vec());
        let marker = datagram.get(1).is_some_and(|second| second & 0x80 != 0);
        if marker || frame.len() == SEGMENTS_MAX {
            if let Some(faulty) = &mut faulty
                && !faulty.passes(&mut destinations)
            {
                frame.clear();
                continue;
            }
            match method {
                Method::Sendmmsg => send_messages(&socket, &frame, &destinations.addresses),
                Method::Segmented => send_segmented(&socket, &frame, &destinations.addresses),
            }
            frame.clear();
        }
    }
}

/// A fault on its way.
struct Faulty {
    fault: Fault,
    since: Option<Instant>,
    frames: u64,
    is_done: bool,
}

impl Faulty {
    fn new(fault: Fault) -> Self {
        Self { fault, since: None, frames: 0, is_done: false }
    }

    /// Whether the next frame is sent.
    fn passes(&mut self, destinations: &mut Destinations) -> bool {
        if self.since.get_or_insert_with(Instant::now).elapsed() < FAULT_AFTER {
            return true;
        }
        self.frames += 1;
        let is_first = !std::mem::replace(&mut self.is_done, true);
        match self.fault {
            Fault::Drop => return self.frames.is_multiple_of(10),
            Fault::Die => std::process::exit(1),
            Fault::Stall if is_first => std::thread::sleep(STALL),
            Fault::Forget if is_first => {
                destinations.addresses.pop();
            }
            Fault::Stall | Fault::Forget => {}
        }
        true
    }
}

#[derive(Default)]
struct Destinations {
    known: BTreeSet<SocketAddrV4>,
    addresses: Vec<SockaddrIn>,
}

impl Destinations {
    fn add(&mut self, from: SocketAddr) {
        if let SocketAddr::V4(from) = from
            && self.known.insert(from)
        {
            self.addresses.push(from.into());
        }
    }
}

/// Destination by destination, so that each gets its frame back to back.
fn send_messages(socket: &UdpSocket, frame: &[Vec<u8>], to: &[SockaddrIn]) {
    let slices: Vec<[IoSlice<'_>; 1]> = frame.iter().map(|one| [IoSlice::new(one)]).collect();
    let pairs: Vec<(&[IoSlice<'_>; 1], SockaddrIn)> =
        to.iter().flat_map(|to| slices.iter().map(|slice| (slice, *to))).collect();
    let mut headers = MultiHeaders::<SockaddrIn>::preallocate(BATCH, None);
    for batch in pairs.chunks(BATCH) {
        let addresses: Vec<Option<SockaddrIn>> = batch.iter().map(|(_, to)| Some(*to)).collect();
        let slices = batch.iter().map(|(slice, _)| *slice);
        // A full socket drops: the receivers count it.
        let _ = sendmmsg(
            socket.as_raw_fd(),
            &mut headers,
            slices,
            &addresses,
            [],
            MsgFlags::MSG_DONTWAIT,
        );
    }
}

fn send_segmented(socket: &UdpSocket, frame: &[Vec<u8>], to: &[SockaddrIn]) {
    // A segmented send wants equal sizes; the load sends frames of such.
    let size = frame[0].len();
    let whole = frame.concat();
    let Ok(segment) = u16::try_from(size) else { return };
    for run in whole.chunks(size * (BYTES_MAX / size).clamp(1, SEGMENTS_MAX)) {
        let slices = [IoSlice::new(run)];
        let control = [ControlMessage::UdpGsoSegments(&segment)];
        for to in to {
            let _ =
                sendmsg(socket.as_raw_fd(), &slices, &control, MsgFlags::MSG_DONTWAIT, Some(to));
        }
    }
}
