//! The log by itself: numbers, keeping, forgetting, coalescing.

use ironcast_api::{
    ConsumerScore, EventData, EventSeq, Id,
    events::{ConsumerEvent, ConsumerScoreEvent, RouterCreated},
};

use super::*;

fn id(text: &str) -> Id {
    Id::new(text).unwrap()
}

fn created() -> EventData {
    EventData::RouterCreated(RouterCreated { worker_id: id("0") })
}

fn score(consumer: &str, score: u8) -> EventData {
    EventData::ConsumerScore(ConsumerScoreEvent {
        consumer: ConsumerEvent {
            consumer_id: id(consumer),
            transport_id: id("t"),
            participant_id: None,
            producer_id: id("p"),
        },
        score: ConsumerScore { score, ..ConsumerScore::default() },
    })
}

fn log() -> EventLog {
    EventLog::new(Keep { time: Duration::from_secs(60), bytes: 1 << 20 })
}

fn numbers(log: &EventLog, after: EventSeq) -> Result<Vec<u64>, Lost> {
    of_router(log, after, None)
}

fn of_router(log: &EventLog, after: EventSeq, router: Option<&Id>) -> Result<Vec<u64>, Lost> {
    Ok(read(log, after, router)?.iter().map(|entry| entry.number).collect())
}

fn read(log: &EventLog, after: EventSeq, router: Option<&Id>) -> Result<Vec<Arc<Entry>>, Lost> {
    Ok(log.reader().read(after, router, usize::MAX)?.0)
}

#[test]
fn reading_goes_on_behind_any_number() {
    let mut log = log();
    let start = log.head();
    for _ in 0..5 {
        log.publish(Some(&id("r")), created());
    }
    for after in 0..=5 {
        let seq = EventSeq { number: after, ..start };
        assert_eq!(numbers(&log, seq), Ok((after + 1..=5).collect()));
    }
    assert_eq!(numbers(&log, EventSeq { number: 6, ..start }), Err(Lost), "not there yet");
    assert_eq!(numbers(&log, EventSeq { epoch: start.epoch - 1, number: 2 }), Err(Lost));
}

#[test]
fn old_and_too_many_events_are_forgotten() {
    let mut log = log();
    let start = log.head();
    for _ in 0..3 {
        log.publish(None, created());
    }
    log.expire(Instant::now() + Duration::from_secs(61));
    assert_eq!(log.bytes(), 0);
    assert_eq!(numbers(&log, start), Err(Lost));
    assert_eq!(numbers(&log, log.head()), Ok(vec![]));
    log.publish(None, created());
    assert_eq!(numbers(&log, EventSeq { number: 3, ..start }), Ok(vec![4]));

    let mut log = EventLog::new(Keep { time: Duration::from_secs(60), bytes: 2_000 });
    for _ in 0..100 {
        log.publish(None, created());
    }
    assert!(log.bytes() <= 2_000 && log.shared.kept().len() < 10);
    assert_eq!(numbers(&log, EventSeq { number: 99, ..log.head() }), Ok(vec![100]));
}

#[test]
fn only_the_newest_score_is_kept() {
    let mut log = log();
    let start = log.head();
    log.publish(None, created());
    for value in 0..50 {
        log.publish(None, score("a", value));
        log.publish(None, score("b", value));
    }
    assert_eq!(numbers(&log, start), Ok(vec![1, 100, 101]));
    let entries = read(&log, start, None).unwrap();
    assert!(entries[1].is_coalesced() && entries[1].text.contains("\"score\":49"));
    let kept: usize = entries.iter().map(|entry| entry.bytes()).sum();
    assert_eq!(log.bytes(), kept);
}

#[test]
fn scores_are_kept_for_a_shorter_time() {
    let mut log = log();
    let start = log.head();
    for router in ["a", "b"] {
        log.publish(Some(&id(router)), score(router, 1));
        log.publish(Some(&id(router)), created());
    }
    let soon = Instant::now() + Duration::from_secs(9);
    log.expire(soon);
    assert_eq!(numbers(&log, start), Ok(vec![1, 2, 3, 4]));
    log.expire(soon + Duration::from_secs(2));
    assert_eq!(numbers(&log, start), Ok(vec![2, 4]));
    assert_eq!(of_router(&log, start, Some(&id("b"))), Ok(vec![4]));
    let entries = read(&log, start, None).unwrap();
    assert_eq!(log.bytes(), entries.iter().map(|entry| entry.bytes()).sum::<usize>());
    // A later one of the same resource is told like the first one.
    log.publish(Some(&id("a")), score("a", 2));
    assert_eq!(numbers(&log, start), Ok(vec![2, 4, 5]));
    log.publish(Some(&id("a")), created());
    log.expire(Instant::now() + Duration::from_secs(61));
    assert!(log.shared.kept().is_without_index() && log.bytes() == 0);
}

#[test]
fn a_new_epoch_is_greater_and_ends_the_old_one() {
    let mut log = log();
    log.publish(None, created());
    let before = log.head();
    log.begin_epoch();
    assert!(log.head().epoch > before.epoch);
    assert_eq!(numbers(&log, before), Err(Lost));
    log.begin_epoch();
    assert!(log.head().epoch > before.epoch + 1);
}

#[test]
fn implied_events_are_made_only_while_somebody_follows_them() {
    let mut log = log();
    let start = log.head();
    log.publish_implied(&id("r"), || panic!("nobody follows"));
    log.publish(None, created());
    assert_eq!(numbers(&log, start), Ok(vec![1]));
    // Who is at the beginning has missed one; who is behind it has not.
    let now = Instant::now();
    assert_eq!(log.reader().follow_implied(start, now), Err(Lost));
    assert_eq!(log.reader().follow_implied(log.head(), now), Ok(()));
    log.publish_implied(&id("r"), created);
    log.publish(None, created());
    let implied: Vec<_> =
        read(&log, start, None).unwrap().iter().map(|entry| entry.is_implied).collect();
    assert_eq!(implied, [false, true, false]);
    assert_eq!(log.reader().follow_implied(EventSeq { number: 1, ..start }, now), Ok(()));
}

#[test]
fn streams_are_woken_once_for_what_happened_together() {
    let mut log = log();
    let mut wake = log.reader().subscribe(None);
    for _ in 0..100 {
        log.publish(None, created());
    }
    assert!(!wake.has_changed().unwrap());
    log.wake();
    assert_eq!(*wake.borrow_and_update(), log.head());
    log.wake();
    assert!(!wake.has_changed().unwrap());
}

#[test]
fn the_events_of_one_router_are_found_without_the_others() {
    let mut log = log();
    let start = log.head();
    let (a, b) = (id("a"), id("b"));
    // 1 to 9: of a, of b, of no router, in turn.
    for _ in 0..3 {
        log.publish(Some(&a), created());
        log.publish(Some(&b), created());
        log.publish(None, created());
    }
    assert_eq!(of_router(&log, start, Some(&a)), Ok(vec![1, 3, 4, 6, 7, 9]));
    assert_eq!(of_router(&log, EventSeq { number: 4, ..start }, Some(&b)), Ok(vec![5, 6, 8, 9]));
    assert_eq!(of_router(&log, start, Some(&id("c"))), Ok(vec![3, 6, 9]));
    // In portions as well as at once.
    let (mut cursor, mut seen) = (start, Vec::new());
    loop {
        let (entries, head) = log.reader().read(cursor, Some(&b), 0).unwrap();
        assert_eq!(head, log.head());
        let Some(last) = entries.last() else { break };
        cursor.number = last.number;
        seen.extend(entries.iter().map(|entry| entry.number));
    }
    assert_eq!(seen, [2, 3, 5, 6, 8, 9]);
}

#[test]
fn the_index_forgets_with_the_log() {
    let mut log = log();
    let start = log.head();
    for round in 0..100 {
        for router in ["a", "b"] {
            log.publish(Some(&id(router)), score(router, round));
            log.publish(Some(&id(router)), created());
        }
        log.publish(None, score("c", round));
    }
    let newest = of_router(&log, start, Some(&id("a"))).unwrap();
    // A hundred that were no scores, and the newest score of two.
    assert_eq!(newest.len(), 102);
    log.expire(Instant::now() + Duration::from_secs(61));
    assert!(log.shared.kept().is_without_index());
}

#[test]
fn the_index_does_not_grow_with_scores_alone() {
    // Each event is old when the next one comes.
    let mut log = EventLog::new(Keep { time: Duration::ZERO, bytes: 1 << 20 });
    for round in 0..1_000 {
        log.publish(Some(&id("a")), score("a", (round % 10) as u8));
    }
    assert_eq!(numbers(&log, EventSeq { number: 999, ..log.head() }), Ok(vec![1_000]));
    let indexed = log.shared.kept().indexed();
    assert!(indexed < 5, "{indexed} numbers of {} entries", log.shared.kept().len());
}

#[test]
fn a_stream_of_one_router_sleeps_while_others_are_busy() {
    let mut log = log();
    let reader = log.reader();
    let mut wake = reader.subscribe(Some(&id("a")));
    log.publish(Some(&id("b")), created());
    log.wake();
    assert!(!wake.has_changed().unwrap());
    log.publish(Some(&id("a")), created());
    log.publish(Some(&id("b")), created());
    log.wake();
    assert!(wake.has_changed().unwrap());
    wake.mark_unchanged();
    // About no router: for everybody.
    log.publish(None, created());
    log.wake();
    assert!(wake.has_changed().unwrap());
    wake.mark_unchanged();
    log.begin_epoch();
    log.wake();
    assert!(wake.has_changed().unwrap());
    wake.mark_unchanged();
    // Each second it moves on.
    log.expire(Instant::now());
    assert!(wake.has_changed().unwrap());
    drop(wake);
    log.expire(Instant::now() + Duration::from_secs(61));
    assert!(log.shared.kept().is_without_index());
}
