use super::*;

fn heard(levels: impl IntoIterator<Item = u8>) -> Speech {
    let mut speech = Speech::default();
    for (number, level) in (0..).zip(levels) {
        speech.note(level, Arrival::at(number * STEP));
    }
    speech
}

#[test]
fn scores_are_those_of_the_paper() {
    // ln C(13, 13) - 13 ln 2 - ln 0.78 + 0.78 * 13, and so on.
    let expected = [
        (score(13, 13, 0.78), -13.0 * 2f64.ln() - 0.78f64.ln() + 0.78 * 13.0),
        (score(2, 5, 24.0), 10f64.ln() - 5.0 * 2f64.ln() - 24f64.ln() + 48.0),
        (score(1, 10, 47.0), 10f64.ln() - 10.0 * 2f64.ln() - 47f64.ln() + 47.0),
    ];
    for (got, expected) in expected {
        assert!((got - expected).abs() < 1e-9, "{got} and not {expected}");
    }
    assert_eq!(score(0, 5, 24.0), SCORE_MIN);
}

#[test]
fn silence_and_a_steady_noise_are_not_active() {
    assert_eq!(heard([]).scores(), [SCORE_MIN; 3]);
    assert_eq!(heard([0; 100]).scores(), [SCORE_MIN; 3]);
    assert_eq!(heard([90; 2_000]).scores(), [SCORE_MIN; 3]);
}

#[test]
fn speech_above_the_floor_is_active_over_all_lengths() {
    let [immediate, medium, long] = heard([20].into_iter().chain([100; 60])).scores();
    assert!(immediate > 1.0 && medium > 100.0 && long > 400.0, "{immediate} {medium} {long}");
}

#[test]
fn the_floor_falls_at_once_and_rises_slowly() {
    let mut speech = heard([60, 20, 60]);
    assert_eq!(speech.floor, 20);
    for number in 0..u64::from(FLOOR_LEVELS) {
        speech.note(80, Arrival::at((3 + number) * STEP));
    }
    // Half way, in decibels' ratio, to the quietest since.
    assert!((30..=40).contains(&speech.floor), "{}", speech.floor);
}

/// Long packets are what they say; a pause between packets is silence, not what comes after it.
#[test]
fn what_is_not_sent_is_silence() {
    let mut speech = heard([20]);
    for number in 1..20 {
        speech.note(100, Arrival::at(number * 60 * MS));
    }
    assert_eq!(speech.levels.iter().filter(|level| **level == 100).count(), LEVELS);
    speech.note(100, Arrival::at(19 * 60 * MS + 500 * MS));
    assert_eq!(speech.levels.iter().filter(|level| **level == 0).count(), 24);
    speech.pass(19 * 60 * MS + 500 * MS + PACKET_TIME_MAX);
    assert!(!speech.is_over());
    speech.pass(19 * 60 * MS + 1_700 * MS);
    assert!(speech.is_over());
    assert_eq!(speech.scores(), [SCORE_MIN; 3]);
}

#[test]
fn arrivals_that_go_back_change_nothing_but_the_newest_level() {
    let mut speech = heard([20, 100, 100]);
    speech.note(100, Arrival::at(0));
    assert_eq!(speech.until, Some(2 * STEP));
    assert_eq!(speech.levels.iter().filter(|level| **level == 100).count(), 3);
}
