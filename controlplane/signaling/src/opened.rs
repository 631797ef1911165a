//! Which sockets there are: from before their first message until nothing of theirs is worked on any
//! more. The library gives the next socket of a connection the id of the one before, whose last message
//! may take a while: an id is free when that is over, or the end of the one would be taken for that of
//! the other. And how many there are: who polls has no connection by which he could be counted. What
//! comes before a socket, and may never become one, is a session: those are counted from the request
//! that opens them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use socketioxide::socket::Sid;
use tokio::sync::Notify;

use crate::failure::Failure;
use crate::limits::group;

/// All of them.
#[derive(Debug)]
pub(crate) struct Opened {
    inside: Mutex<Inside>,
    all_max: usize,
    of_address_max: usize,
}

#[derive(Debug, Default)]
struct Inside {
    sockets: HashMap<Sid, One>,
    /// Those that are not gone.
    of_address: Tally,
    sessions: usize,
    sessions_of_address: Tally,
}

/// How many each address has.
#[derive(Debug, Default)]
struct Tally(HashMap<IpAddr, usize>);

impl Tally {
    fn of(&self, address: IpAddr) -> usize {
        self.0.get(&address).copied().unwrap_or_default()
    }

    fn add(&mut self, address: IpAddr) {
        *self.0.entry(address).or_default() += 1;
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some(count) = self.0.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(&address);
            }
        }
    }
}

#[derive(Debug)]
struct One {
    address: IpAddr,
    ready: Arc<Notify>,
    is_gone: bool,
}

/// Of one socket, for as long as anything of it is worked on.
#[derive(Debug)]
pub(crate) struct Place {
    opened: Arc<Opened>,
    socket: Sid,
    /// Told when the client is told that it is connected.
    pub(crate) ready: Arc<Notify>,
}

/// Of one session, for as long as anything of it is left: the session keeps the request that opened it,
/// and this is in the request's extensions.
#[derive(Debug)]
pub(crate) struct Session {
    opened: Arc<Opened>,
    address: IpAddr,
}

impl Opened {
    /// None yet.
    pub(crate) fn new(all_max: usize, of_address_max: usize) -> Arc<Self> {
        Arc::new(Self { inside: Mutex::default(), all_max, of_address_max })
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().expect("nobody panics with it")
    }

    /// A socket comes.
    pub(crate) fn begin(self: &Arc<Self>, socket: Sid, address: IpAddr) -> Result<Place, Failure> {
        let address = group(address);
        let mut inside = self.inside();
        if inside.sockets.contains_key(&socket) {
            let message = "your last socket of this connection is still at work; try again";
            return Err(Failure::new("wrong_state", message));
        }
        let of_address = inside.of_address.of(address);
        if of_address >= self.of_address_max || inside.sockets.len() >= self.all_max {
            return Err(Failure::no_capacity("too many sockets; try again"));
        }
        let ready = Arc::new(Notify::new());
        let one = One { address, ready: Arc::clone(&ready), is_gone: false };
        inside.sockets.insert(socket, one);
        inside.of_address.add(address);
        Ok(Place { opened: Arc::clone(self), socket, ready })
    }

    /// A session is asked for. There may be as many as sockets.
    pub(crate) fn begin_session(self: &Arc<Self>, address: IpAddr) -> Result<Session, Failure> {
        let address = group(address);
        let mut inside = self.inside();
        let of_address = inside.sessions_of_address.of(address);
        if of_address >= self.of_address_max || inside.sessions >= self.all_max {
            return Err(Failure::no_capacity("too many sockets; try again"));
        }
        inside.sessions += 1;
        inside.sessions_of_address.add(address);
        Ok(Session { opened: Arc::clone(self), address })
    }

    /// Whether it is there, and not gone.
    pub(crate) fn is_open(&self, socket: Sid) -> bool {
        self.inside().sockets.get(&socket).is_some_and(|one| !one.is_gone)
    }

    /// The client is told that it is connected.
    pub(crate) fn set_ready(&self, socket: Sid) {
        if let Some(one) = self.inside().sockets.get(&socket) {
            one.ready.notify_one();
        }
    }

    /// It is lost. Its last message may still be worked on.
    pub(crate) fn set_gone(&self, socket: Sid) {
        let mut inside = self.inside();
        let Some(one) = inside.sockets.get_mut(&socket) else { return };
        if !std::mem::replace(&mut one.is_gone, true) {
            let address = one.address;
            inside.of_address.remove(address);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.opened.set_gone(self.socket);
        self.opened.inside().sockets.remove(&self.socket);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let mut inside = self.opened.inside();
        inside.sessions -= 1;
        inside.sessions_of_address.remove(self.address);
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use socketioxide::socket::Sid;

    use super::Opened;

    #[test]
    fn an_id_is_free_when_nothing_of_it_is_worked_on() {
        let opened = Opened::new(9, 9);
        let (socket, address) = (Sid::new(), IpAddr::from([127, 0, 0, 1]));
        let place = opened.begin(socket, address).unwrap();
        assert!(opened.is_open(socket));
        assert_eq!(opened.begin(socket, address).unwrap_err().code, "wrong_state");
        opened.set_gone(socket);
        assert!(!opened.is_open(socket));
        assert_eq!(opened.begin(socket, address).unwrap_err().code, "wrong_state");
        drop(place);
        let _next = opened.begin(socket, address).unwrap();
        assert!(opened.is_open(socket));
    }

    #[test]
    fn an_address_has_so_many_and_all_have_so_many() {
        let opened = Opened::new(3, 2);
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let (first, second) = (Sid::new(), Sid::new());
        let place = opened.begin(first, address(1)).unwrap();
        let second_place = opened.begin(second, address(1)).unwrap();
        assert_eq!(opened.begin(Sid::new(), address(1)).unwrap_err().code, "no_capacity");
        // Who is gone is not counted for his address any more, whatever is still worked on.
        opened.set_gone(first);
        let third_place = opened.begin(Sid::new(), address(1)).unwrap();
        assert_eq!(opened.begin(Sid::new(), address(2)).unwrap_err().code, "no_capacity");
        drop(place);
        let fourth_place = opened.begin(Sid::new(), address(2)).unwrap();
        drop((second_place, third_place, fourth_place));
        let inside = opened.inside();
        assert!(inside.sockets.is_empty() && inside.of_address.0.is_empty());
    }

    #[test]
    fn sessions_are_as_many_as_sockets() {
        let opened = Opened::new(3, 2);
        let address = |last: u8| IpAddr::from([127, 0, 0, last]);
        let first = opened.begin_session(address(1)).unwrap();
        let second = opened.begin_session(address(1)).unwrap();
        assert_eq!(opened.begin_session(address(1)).unwrap_err().code, "no_capacity");
        let third = opened.begin_session(address(2)).unwrap();
        assert_eq!(opened.begin_session(address(2)).unwrap_err().code, "no_capacity");
        drop(first);
        let fourth = opened.begin_session(address(1)).unwrap();
        drop((second, third, fourth));
        let inside = opened.inside();
        assert!(inside.sessions == 0 && inside.sessions_of_address.0.is_empty());
    }
}
