//! Datagrams that leave as whole frames, by AF_XDP, past the kernel's network stack: a third of
//! the cost of a send by a socket, where nothing is there to segment (audio, thumbnails). Owns the
//! interfaces' sockets and what each path's frames look like; decides which sends go this way.
//!
//! ```text
//! sends of one path | 1 x 180 | 1 x 640 |      --> frames, if a way is known
//!                   | 12 x 1112 | 1 x 300 |    --> the socket (`tx.rs`): one segmented send, one plain
//! ```
//! All that a path has in one batch takes the same way, so that it stays in order. By the socket go:
//! what segments well, what is longer than the MTU, all while the route is not known or the
//! interface has no room, and one batch a second, which tells the kernel that the neighbour is in
//! use and keeps its address fresh. The socket stays open for what arrives, ICMP errors included.
//!
//! What the stack would have done on the way out is not done: netfilter, traffic control, IPsec.

mod header;
mod routes;
mod socket;

use std::{io, net::SocketAddr};

use ironcast_core::{
    MS, Nanos, SECOND,
    batch::{Batch, SendRun},
};

pub(crate) use self::socket::XdpSocket;
use self::{header::Header, routes::Routes, socket::FRAME_BYTES};
use crate::{Statistics, io::Io, tx::bytes_of, without::Without};

/// Frames are cheaper where a send by a socket carries fewer datagrams than this on average: it costs
/// as much as three frames while the receiver's core is idle, and less than two in a large fan-out.
const FRAMES_PER_SEND: usize = 2;
/// A path's socket is used at least this often.
const CONFIRM_NS: Nanos = SECOND;
/// A way is looked up again after this: the kernel says nothing when it learns a path's MTU.
const LOOK_UP_NS: Nanos = 30 * SECOND;
/// Notices of changed routes are read this often.
const NOTICES_NS: Nanos = 100 * MS;
/// Routes looked up in one batch: the rest take their sockets meanwhile.
const LOOKUPS_MAX: u32 = 16;
/// An interface that failed is tried again after this, and after twice as long each time: a try costs
/// a millisecond for each of its queues.
const REST_NS: Nanos = SECOND;
/// Until it is this: nobody says that a queue has become free, or that an interface is up.
const REST_BUSY_MAX: Nanos = 300 * SECOND;
const REST_MAX: Nanos = 16 * SECOND;
/// Frames that found no room are kicked again after this.
pub(crate) const KICK_NS: Nanos = MS;

/// How to make the frames of one path.
struct Way {
    header: Header,
    interface: u32,
    mtu: u32,
}

struct Egress {
    local: SocketAddr,
    remote: SocketAddr,
    /// Of the routes, when `way` was looked up.
    epoch: u32,
    way: Option<Way>,
    /// Then it is looked up again, whatever the epoch.
    look_up_at: Nanos,
    /// Then the socket is used once.
    confirm_at: Nanos,
}

/// An interface: its socket, or when to try to open one again.
enum Interface {
    Open(XdpSocket),
    Resting(Rest),
}

/// Until when nothing is tried, and for how long it is next time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rest {
    until: Nanos,
    next: Nanos,
}

impl Rest {
    const NONE: Self = Self { until: 0, next: REST_NS };

    /// After one more failure.
    fn again(self, now: Nanos, error: &io::Error) -> Self {
        let is_busy = error.kind() == io::ErrorKind::ResourceBusy;
        let max = if is_busy { REST_BUSY_MAX } else { REST_MAX };
        let rest = self.next.min(max);
        Self { until: now + rest, next: rest * 2 }
    }
}

pub(crate) struct Xdp {
    routes: Routes,
    interfaces: Vec<(u32, Interface)>,
    /// By slot of the file table.
    paths: Vec<Option<Egress>>,
    notices_at: Nanos,
    lookups: u32,
    /// Why an interface could not be used, told once.
    told: bool,
    without: Without,
}

impl Xdp {
    pub(crate) fn new(without: Without) -> io::Result<Self> {
        Ok(Self {
            routes: Routes::new()?,
            interfaces: Vec::new(),
            paths: Vec::new(),
            notices_at: 0,
            lookups: 0,
            told: false,
            without,
        })
    }

    pub(crate) fn open(&mut self, slot: u32, local: SocketAddr, remote: SocketAddr) {
        let slot = slot as usize;
        if self.paths.len() <= slot {
            self.paths.resize_with(slot + 1, || None);
        }
        let path = Egress { local, remote, epoch: 0, way: None, look_up_at: 0, confirm_at: 0 };
        self.paths[slot] = Some(path);
    }

    pub(crate) fn close(&mut self, slot: u32) {
        if let Some(path) = self.paths.get_mut(slot as usize) {
            *path = None;
        }
    }

    /// Slots from `slots` on are gone.
    pub(crate) fn trim(&mut self, slots: usize) {
        self.paths.truncate(slots);
        self.paths.shrink_to_fit();
    }

    /// True while frames wait for room in an interface.
    pub(crate) fn is_pending(&self) -> bool {
        self.interfaces.iter().any(|(_, interface)| match interface {
            Interface::Open(socket) => socket.is_pending(),
            Interface::Resting(_) => false,
        })
    }

    /// Takes all sends of one path, or none of them. `calls`: what a socket would need.
    fn take(&mut self, sends: &[SendRun], calls: usize, batch: &Batch, now: Nanos) -> bool {
        let Some(first) = sends.first() else { return false };
        let frames: usize = sends.iter().map(|send| usize::from(send.count)).sum();
        let Some(Some(path)) = self.paths.get_mut(first.path.slot as usize) else { return false };
        if frames >= calls * FRAMES_PER_SEND || now >= path.confirm_at {
            path.confirm_at = now + CONFIRM_NS;
            return false;
        }
        if path.epoch != self.routes.epoch || now >= path.look_up_at {
            if self.lookups >= LOOKUPS_MAX {
                return false;
            }
            self.lookups += 1;
            path.epoch = self.routes.epoch;
            path.look_up_at = now + LOOK_UP_NS;
            path.way = way(&mut self.routes, path.local, path.remote);
        }
        let Some(way) = &path.way else { return false };
        let longest = sends.iter().map(|send| usize::from(send.segment)).max().unwrap_or(0);
        if way.header.packet_len(longest) > way.mtu as usize
            || way.header.frame_len(longest) > FRAME_BYTES
        {
            return false;
        }
        // There are a few at most.
        let known = self.interfaces.iter().position(|(index, _)| *index == way.interface);
        let known = known.unwrap_or_else(|| {
            self.interfaces.push((way.interface, Interface::Resting(Rest::NONE)));
            self.interfaces.len() - 1
        });
        let interface = &mut self.interfaces[known].1;
        let Some(socket) = interface.socket(way.interface, now, self.without, &mut self.told)
        else {
            return false;
        };
        if socket.room() < frames {
            return false;
        }
        for send in sends {
            let Some(bytes) = bytes_of(batch, send) else { continue };
            for datagram in bytes.chunks(usize::from(send.segment.max(1))) {
                let len = way.header.frame_len(datagram.len());
                socket.push(len, |frame| way.header.write(datagram, frame));
            }
        }
        true
    }

    /// Hands the frames of all interfaces to the kernel.
    fn kick(&mut self, now: Nanos, statistics: &mut Statistics) {
        for (index, interface) in &mut self.interfaces {
            let Interface::Open(socket) = interface else { continue };
            if let Err(error) = socket.kick(&mut statistics.xdp_calls) {
                tracing::warn!(interface = index, %error, "AF_XDP: sockets are used for now");
                statistics.xdp_failures += 1;
                *interface = Interface::Resting(Rest::NONE.again(now, &error));
            }
        }
    }
}

impl Interface {
    fn socket(
        &mut self,
        index: u32,
        now: Nanos,
        without: Without,
        told: &mut bool,
    ) -> Option<&mut XdpSocket> {
        if let Self::Resting(rest) = self {
            if now < rest.until {
                return None;
            }
            match XdpSocket::open(index, without) {
                Ok(socket) => *self = Self::Open(socket),
                Err(error) => {
                    if !std::mem::replace(told, true) {
                        tracing::warn!(
                            interface = index,
                            %error,
                            "AF_XDP cannot be used: it wants CAP_NET_RAW, 4 MiB of locked memory \
                             (LimitMEMLOCK) and a free queue of the interface for each worker; \
                             sockets are used instead"
                        );
                    }
                    *self = Self::Resting(rest.again(now, &error));
                    return None;
                }
            }
        }
        match self {
            Self::Open(socket) => Some(socket),
            Self::Resting(_) => None,
        }
    }
}

fn way(routes: &mut Routes, local: SocketAddr, remote: SocketAddr) -> Option<Way> {
    let hop = routes.next_hop(local.ip(), remote.ip())?;
    let header = Header::new((hop.link.address, local), (hop.address, remote))?;
    Some(Way { header, interface: hop.link.index, mtu: hop.mtu })
}

impl Io {
    /// Takes out of `sends` what leaves as frames, and hands that to the kernel.
    pub(crate) fn transmit_by_xdp(&mut self, sends: &mut Vec<SendRun>) {
        let Some(mut xdp) = self.xdp.take() else { return };
        let now = self.clock.now();
        if now >= xdp.notices_at {
            xdp.notices_at = now + NOTICES_NS;
            xdp.routes.read_notices();
        }
        xdp.lookups = 0;
        let (mut start, mut kept) = (0, 0);
        while let Some(first) = sends.get(start) {
            let len = sends[start..].iter().take_while(|send| send.path == first.path).count();
            let group = start..start + len;
            let of_path = &sends[group.clone()];
            let calls = of_path
                .iter()
                .map(|send| if self.is_whole(send) { 1 } else { usize::from(send.count) });
            let calls = calls.sum();
            if xdp.take(of_path, calls, &self.batch, now) {
                let datagrams = of_path.iter().map(|send| u64::from(send.count));
                self.statistics.xdp_datagrams += datagrams.sum::<u64>();
            } else {
                sends.copy_within(group, kept);
                kept += len;
            }
            start += len;
        }
        sends.truncate(kept);
        xdp.kick(now, &mut self.statistics);
        self.xdp = Some(xdp);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_without_a_free_queue_is_tried_ever_more_rarely() {
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let down = io::Error::from_raw_os_error(libc::ENETDOWN);
        for (error, max) in [(busy, REST_BUSY_MAX), (down, REST_MAX)] {
            let (mut rest, mut now, mut tries) = (Rest::NONE, 0, 0u64);
            while now < 3_600 * SECOND {
                let next = rest.again(now, &error);
                assert!(next.until > now && next.until - now <= max);
                (rest, now, tries) = (next, next.until, tries + 1);
            }
            assert!(tries <= 3_600 * SECOND / max + 10, "{tries} tries in an hour");
        }
    }
}
