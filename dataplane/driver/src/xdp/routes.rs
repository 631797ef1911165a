//! Where a frame has to go: interface and link-layer address of the next hop, as the kernel's own
//! tables say (rtnetlink(7)). Asks for one address at a time, remembers neighbours and interfaces,
//! and reads the kernel's notices of changes. Decides nothing about routes itself.

use std::{collections::HashMap, io, net::IpAddr};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage as Message,
    link::{LinkAttribute, LinkLayerType, LinkMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::{RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};

use super::header::LinkAddress;

/// Groups of notices (linux/rtnetlink.h): links, neighbours; addresses, routes and rules of IPv4;
/// the same of IPv6.
const GROUPS: [u32; 8] = [1, 3, 5, 7, 8, 9, 11, 19];
/// An answer about one interface may have several kilobytes.
const BUFFER_BYTES: usize = 64 << 10;
/// Remembered neighbours; beyond that all are forgotten and asked for again.
const NEIGHBOURS_MAX: usize = 65_536;
/// Answers to earlier requests that are passed over for one that is waited for.
const LEFT_OVER_MAX: u32 = 64;

/// An interface that carries Ethernet frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) address: LinkAddress,
    pub(crate) mtu: u32,
}

/// The next hop of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NextHop {
    pub(crate) link: Link,
    pub(crate) address: LinkAddress,
    /// Bytes of the longest packet, IP header included.
    pub(crate) mtu: u32,
}

pub(crate) struct Routes {
    requests: Socket,
    notices: Socket,
    buffer: Vec<u8>,
    /// Of the last request.
    sequence: u32,
    /// What was asked for; `None`: not known to the kernel yet.
    neighbours: HashMap<(u32, IpAddr), Option<LinkAddress>>,
    links: HashMap<u32, Option<Link>>,
    /// Grows whenever something changed: what was answered before may be wrong.
    pub(crate) epoch: u32,
}

impl Routes {
    pub(crate) fn new() -> io::Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            io::Result::Ok(socket)
        };
        let (requests, notices) = (open()?, open()?);
        for group in GROUPS {
            notices.add_membership(group)?;
        }
        Ok(Self {
            requests,
            notices,
            buffer: vec![0; BUFFER_BYTES],
            sequence: 0,
            neighbours: HashMap::new(),
            links: HashMap::new(),
            epoch: 1,
        })
    }

    /// The way of a datagram between two addresses. `None` where frames cannot be made: loopback,
    /// tunnels, a neighbour that the kernel has not resolved.
    pub(crate) fn next_hop(&mut self, local: IpAddr, remote: IpAddr) -> Option<NextHop> {
        let mut request = RouteMessage::default();
        request.header.address_family = family(remote);
        request.header.destination_prefix_length = prefix(remote);
        request.header.source_prefix_length = prefix(local);
        request.attributes =
            vec![RouteAttribute::Destination(remote.into()), RouteAttribute::Source(local.into())];
        let Message::NewRoute(route) = self.ask(Message::GetRoute(request))? else { return None };
        if route.header.kind != RouteType::Unicast {
            return None;
        }
        let (mut interface, mut hop, mut mtu) = (None, remote, u32::MAX);
        for attribute in route.attributes {
            match attribute {
                RouteAttribute::Oif(index) => interface = Some(index),
                RouteAttribute::Gateway(RouteAddress::Inet(gateway)) => hop = gateway.into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(gateway)) => hop = gateway.into(),
                RouteAttribute::Metrics(metrics) => {
                    // What the way beyond the next hop carries, where the kernel has learned it.
                    let learned = metrics.iter().find_map(|metric| match metric {
                        RouteMetric::Mtu(bytes) => Some(*bytes),
                        _ => None,
                    });
                    mtu = learned.unwrap_or(mtu);
                }
                // A gateway of the other family, encapsulation: the kernel knows how.
                RouteAttribute::Via(_) | RouteAttribute::Encap(_) => return None,
                _ => {}
            }
        }
        let link = self.link(interface?)?;
        let address = self.neighbour(link.index, hop)?;
        Some(NextHop { link, address, mtu: mtu.min(link.mtu) })
    }

    fn link(&mut self, index: u32) -> Option<Link> {
        if let Some(link) = self.links.get(&index) {
            return *link;
        }
        let mut request = LinkMessage::default();
        request.header.index = index;
        let link = match self.ask(Message::GetLink(request)) {
            Some(Message::NewLink(link)) => parse_link(&link),
            _ => None,
        };
        self.links.insert(index, link);
        link
    }

    fn neighbour(&mut self, interface: u32, hop: IpAddr) -> Option<LinkAddress> {
        if let Some(address) = self.neighbours.get(&(interface, hop)) {
            return *address;
        }
        let mut request = NeighbourMessage::default();
        request.header.family = family(hop);
        request.header.ifindex = interface;
        request.attributes = vec![NeighbourAttribute::Destination(hop.into())];
        let address = match self.ask(Message::GetNeighbour(request)) {
            Some(Message::NewNeighbour(neighbour)) => parse_neighbour(&neighbour).1,
            _ => None,
        };
        if self.neighbours.len() >= NEIGHBOURS_MAX {
            self.forget();
        }
        self.neighbours.insert((interface, hop), address);
        address
    }

    /// Reads what the kernel has to say. Only what changes an earlier answer counts: neighbours
    /// are confirmed all the time.
    pub(crate) fn read_notices(&mut self) {
        loop {
            match self.notices.recv(&mut &mut self.buffer[..], 0) {
                Ok(len) => {
                    let buffer = std::mem::take(&mut self.buffer);
                    for message in parse(&buffer[..len.min(BUFFER_BYTES)]) {
                        self.notice(message);
                    }
                    self.buffer = buffer;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Some were lost (ENOBUFS).
                Err(_) => {
                    self.forget();
                    return;
                }
            }
        }
    }

    fn notice(&mut self, message: Message) {
        let (neighbour, is_gone) = match message {
            Message::NewNeighbour(neighbour) => (neighbour, false),
            Message::DelNeighbour(neighbour) => (neighbour, true),
            // A link, an address or a route.
            Message::NewLink(link) if self.is_known(&link) => return,
            _ => return self.forget(),
        };
        let (address, mut link_address) = parse_neighbour(&neighbour);
        if is_gone {
            link_address = None;
        }
        let Some(address) = address else { return };
        if let Some(known) = self.neighbours.get_mut(&(neighbour.header.ifindex, address))
            && *known != link_address
        {
            *known = link_address;
            self.epoch = self.epoch.wrapping_add(1);
        }
    }

    /// True for a notice that says nothing new about a link, or is about one that nobody uses.
    fn is_known(&self, link: &LinkMessage) -> bool {
        self.links.get(&link.header.index).is_none_or(|known| *known == parse_link(link))
    }

    fn forget(&mut self) {
        self.neighbours.clear();
        self.links.clear();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// One request, one answer: the kernel has it ready when the request is sent. What answers an
    /// earlier request, which could not be read then, is passed over.
    fn ask(&mut self, message: Message) -> Option<Message> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.requests.send(&bytes, 0).ok()?;
        self.answer()
    }

    /// What the kernel answers the last request.
    fn answer(&mut self) -> Option<Message> {
        for _ in 0..LEFT_OVER_MAX {
            let len = self.requests.recv(&mut &mut self.buffer[..], 0).ok()?;
            let bytes = &self.buffer[..len.min(BUFFER_BYTES)];
            let answer = NetlinkMessage::<Message>::deserialize(bytes).ok()?;
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            return match answer.payload {
                NetlinkPayload::InnerMessage(inner) => Some(inner),
                _ => None,
            };
        }
        None
    }
}

/// The messages of one datagram that are not errors.
fn parse(mut bytes: &[u8]) -> impl Iterator<Item = Message> {
    std::iter::from_fn(move || {
        while !bytes.is_empty() {
            let len = bytes.first_chunk().map_or(0, |len| u32::from_ne_bytes(*len) as usize);
            let (message, rest) = bytes
                .split_at_checked(len.next_multiple_of(4))
                .filter(|_| len > 0)
                .unwrap_or((bytes, &[]));
            bytes = rest;
            let message = NetlinkMessage::<Message>::deserialize(message);
            if let Ok(NetlinkMessage { payload: NetlinkPayload::InnerMessage(inner), .. }) = message
            {
                return Some(inner);
            }
        }
        None
    })
}

fn parse_link(link: &LinkMessage) -> Option<Link> {
    let (mut address, mut mtu) = (None, None);
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => address = bytes.as_slice().try_into().ok(),
            LinkAttribute::Mtu(bytes) => mtu = Some(*bytes),
            _ => {}
        }
    }
    let is_ethernet = link.header.link_layer_type == LinkLayerType::Ether;
    is_ethernet.then_some(Link { index: link.header.index, address: address?, mtu: mtu? })
}

/// A neighbour's address and, where the kernel would use it, its link-layer address.
fn parse_neighbour(neighbour: &NeighbourMessage) -> (Option<IpAddr>, Option<LinkAddress>) {
    let (mut address, mut link_address) = (None, None);
    for attribute in &neighbour.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                address = Some(IpAddr::from(*ip));
            }
            NeighbourAttribute::LinkLayerAddress(bytes) => {
                link_address = bytes.as_slice().try_into().ok();
            }
            _ => {}
        }
    }
    let is_valid = matches!(
        neighbour.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
            | NeighbourState::Noarp
    );
    (address, link_address.filter(|_| is_valid))
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_nobody_took_is_not_taken_for_the_next_one() {
        let loopback = |index| {
            let mut request = LinkMessage::default();
            request.header.index = index;
            Message::GetLink(request)
        };
        let mut routes = Routes::new().unwrap();
        for round in 0..3 {
            // Of an interface that is there, and one that is not.
            for index in [1, 999_999] {
                let mut header = NetlinkHeader::default();
                header.flags = NLM_F_REQUEST;
                header.sequence_number = 1_000_000 + round;
                let mut left = NetlinkMessage::new(header, NetlinkPayload::from(loopback(index)));
                left.finalize();
                let mut bytes = vec![0; left.buffer_len()];
                left.serialize(&mut bytes);
                routes.requests.send(&bytes, 0).unwrap();
            }
            let mut request = RouteMessage::default();
            request.header.address_family = AddressFamily::Inet;
            request.header.destination_prefix_length = 32;
            let address = std::net::Ipv4Addr::LOCALHOST.into();
            request.attributes = vec![RouteAttribute::Destination(address)];
            let answer = routes.ask(Message::GetRoute(request));
            assert!(matches!(answer, Some(Message::NewRoute(_))), "{answer:?}");
        }
    }
}
