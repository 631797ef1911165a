use std::sync::Arc;

use ironcast_api::{AppData, Id, MediaKind};

use super::{Cell, Participant, Producer, Rooms};
use crate::events::Direction;
use crate::hosts::HostId;

fn id(text: &str) -> Id {
    text.parse().unwrap()
}

fn make(rooms: &Rooms) -> (Arc<Cell>, u64) {
    rooms.make(&id("r"), 10, || Ok(HostId::default())).unwrap().unwrap()
}

#[test]
fn an_old_timer_does_not_close_a_younger_room() {
    let rooms = Rooms::default();
    let (first, arrival) = make(&rooms);
    assert!(first.lock().close_if_empty(arrival).is_some());
    let (second, younger) = make(&rooms);
    assert!(first.lock().close_if_empty(arrival).is_none());
    assert!(second.lock().close_if_empty(arrival).is_none());
    assert_eq!(rooms.count(), (1, 0));
    assert!(second.lock().close_if_empty(younger).is_some());
}

#[test]
fn a_room_stays_while_somebody_is_about_to_join() {
    let rooms = Rooms::default();
    let (room, _) = make(&rooms);
    assert!(room.lock().begin_join());
    assert!(room.lock().begin_join());
    let arrival = room.lock().arrival;
    assert!(room.lock().close_if_empty(arrival).is_none());
    assert!(room.lock().end_join().is_none());
    assert!(room.lock().end_join().is_some());
    assert_eq!(rooms.count(), (0, 0));
    assert!(!room.lock().begin_join(), "whoever found it before it closed is told");
}

#[test]
fn a_closed_room_does_not_take_away_another_of_its_name() {
    let rooms = Rooms::default();
    let (first, _) = make(&rooms);
    first.lock().close();
    let (second, _) = make(&rooms);
    first.lock().close();
    assert!(Arc::ptr_eq(&rooms.room(&id("r")).unwrap(), &second));
    let router = second.lock().router.id.clone();
    assert!(rooms.room_of_router(&router).is_some());
}

#[test]
fn a_room_does_not_wait_for_another() {
    let rooms = Rooms::default();
    let (room, _) = make(&rooms);
    let (other, _) = rooms.make(&id("other"), 10, || Ok(HostId::default())).unwrap().unwrap();
    let held = room.lock();
    let seat = other.lock().seat_of(&id("ada"), &id("ada.1"));
    other.lock().add_participant(&seat, Participant::away(id("ada.1")));
    assert_eq!(rooms.count(), (2, 1));
    drop(held);
}

#[test]
fn nothing_is_remembered_of_who_has_gone() {
    let rooms = Rooms::default();
    for leaves in [true, false] {
        let (room, _) = make(&rooms);
        let mut locked = room.lock();
        let ada = locked.seat_of(&id("ada"), &id("ada.1"));
        locked.add_participant(&ada, Participant::away(id("ada.1")));
        for transport in ["t1", "t2"] {
            locked.add_transport(&ada, Direction::Send, &id(transport)).unwrap();
        }
        locked.add_consumer(&ada, &id("t2"), &id("c"), &id("p")).unwrap();
        // An answer for a transport that was replaced meanwhile, or for another session of his.
        assert!(locked.add_consumer(&ada, &id("t1"), &id("c2"), &id("p")).is_err());
        let track =
            || Producer::new(&id("p"), &id("ada"), MediaKind::Video, false, AppData::default());
        locked.add_producer(&ada, &id("t2"), &id("p"), track()).unwrap();
        assert!(locked.add_producer(&ada, &id("t1"), &id("p2"), track()).is_err());
        assert!(locked.owner(&id("p2")).is_none());
        let other = locked.seat_of(&id("ada"), &id("ada.0"));
        assert!(locked.add_consumer(&other, &id("t2"), &id("c2"), &id("p")).is_err());
        if leaves {
            assert!(locked.leave(&other).is_none());
            locked.leave(&ada).unwrap();
        }
        locked.close();
        let directory = &rooms.directory;
        assert!(directory.rooms().is_empty() && directory.routers().is_empty());
        assert!(directory.seats().is_empty());
        assert!(directory.owners().is_empty(), "{:?}", directory.owners());
        assert_eq!(rooms.count(), (0, 0));
    }
}
