//! Who spoke last, and how loud a voice is. Rooms as a whole are in the simulation (`heard.rs`).

use super::*;
use crate::arena::Arena;

fn keys(count: usize) -> Vec<ProducerKey> {
    let mut table = Arena::<(), OfProducer>::default();
    (0..count).map(|_| table.insert(())).collect()
}

fn name(name: &str) -> Arc<str> {
    Arc::from(name)
}

fn change(seen: &[ProducerKey], unseen: &[ProducerKey]) -> Change {
    Change { seen: seen.to_vec(), unseen: unseen.to_vec() }
}

#[test]
fn the_first_are_seen_and_who_speaks_takes_the_place_of_who_was_silent_longest() {
    let (mut last, k) = (LastSpeakers::new(2), keys(4));
    let [a, b, c] = ["a", "b", "c"].map(name);
    assert_eq!(last.add(&a, k[0]), change(&[k[0]], &[]));
    assert_eq!(last.add(&b, k[1]), change(&[k[1]], &[]));
    assert_eq!(last.add(&c, k[2]), change(&[], &[k[2]]));
    // Who is seen already changes nothing but the row.
    assert_eq!(last.speak(&b), Change::default());
    assert_eq!(last.speak(&c), change(&[k[2]], &[k[0]]));
    assert_eq!(last.speak(&a), change(&[k[0]], &[k[1]]));
    // A second video of somebody who is seen is seen.
    assert_eq!(last.add(&a, k[3]), change(&[k[3]], &[]));
    assert_eq!(last.speak(&b), change(&[k[1]], &[k[2]]));
    assert_eq!(last.speak(&c), change(&[k[2]], &[k[0], k[3]]));
}

#[test]
fn a_place_that_is_left_goes_to_the_next() {
    let (mut last, k) = (LastSpeakers::new(1), keys(3));
    let [a, b] = ["a", "b"].map(name);
    last.add(&a, k[0]);
    assert_eq!(last.add(&b, k[1]), change(&[], &[k[1]]));
    last.add(&a, k[2]);
    assert_eq!(last.remove(&a, k[0]), Change::default());
    assert_eq!(last.remove(&a, k[2]), change(&[k[1]], &[]));
    // Somebody who is not seen leaves no place, and who has nothing leaves nothing.
    last.add(&a, k[0]);
    assert_eq!(last.remove(&a, k[0]), Change::default());
    assert_eq!(last.remove(&a, k[0]), Change::default());
    assert_eq!(last.remove(&b, k[1]), Change::default());
    assert!(last.seen.is_empty() && last.videos.is_empty());
}

#[test]
fn who_speaks_without_a_video_is_seen_as_soon_as_there_is_one() {
    let (mut last, k) = (LastSpeakers::new(1), keys(2));
    let [a, b] = ["a", "b"].map(name);
    last.add(&a, k[0]);
    assert_eq!(last.speak(&b), Change::default());
    assert_eq!(last.add(&b, k[1]), change(&[k[1]], &[k[0]]));
}

#[test]
fn a_voice_is_known_within_the_time_that_is_sent_before_it() {
    let mut voice = Voice::default();
    let at = |packet: u64| Arrival::at(packet * 20 * MS);
    let mut packets = 0;
    while voice.spoke_at.is_none() {
        packets += 1;
        voice.note(30, at(packets));
    }
    assert!(packets * 20 * MS < LEAD_IN / 2, "{packets}");
    // A pause between words is no end; a longer one is.
    for packet in 1..=20 {
        voice.note(127, at(packets + packet));
    }
    assert!(voice.weight(at(packets + 20)) > 0);
    for packet in 21..=50 {
        voice.note(127, at(packets + packet));
    }
    assert_eq!(voice.weight(at(packets + 50)), 0);
}
