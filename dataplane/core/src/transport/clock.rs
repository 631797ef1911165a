//! The wall clocks of one publisher against ours, from its sender reports (RFC 3550 section 6.4.1).
//! Owns an offset for each clock: tracks whose reports agree share one, so that what is in step at the
//! publisher is in step at the receivers; a track with another clock has its own and moves nobody
//! else's. Called once a second and track.

use crate::{MS, Nanos, SECOND, key::ProducerKey};

/// Reports that differ by less are of one clock.
const SAME_CLOCK: i64 = (SECOND / 2) as i64;
/// One report moves what is known of a clock by no more: 250 ppm at a report a second.
const SLEW: i64 = (MS / 4) as i64;
const NTP_UNIX_SECONDS: i64 = 2_208_988_800;

/// One track.
#[derive(Debug)]
struct Track {
    producer: ProducerKey,
    /// Number of its clock.
    clock: u32,
    /// What its last report said, where that was another clock's: believed when it is said twice.
    doubt: Option<i64>,
}

/// See the file's head.
#[derive(Debug, Default)]
pub(crate) struct Clocks {
    /// Number, and nanoseconds to add to get to our clock.
    clocks: Vec<(u32, i64)>,
    tracks: Vec<Track>,
    made: u32,
}

impl Clocks {
    /// A report of a track. `ntp` is its wall time, `unix` ours. False where it moves nothing: it has
    /// no wall time (RFC 3550 section 6.4.1: zero), or one that jumped and may be nonsense.
    pub(crate) fn receive(&mut self, producer: ProducerKey, ntp: u64, unix: Nanos) -> bool {
        if ntp == 0 {
            return false;
        }
        let offset = (unix as i64).wrapping_sub(unix_from_ntp(ntp));
        let Some(at) = self.tracks.iter().position(|track| track.producer == producer) else {
            let clock = self.clock_near(offset);
            self.tracks.push(Track { producer, clock, doubt: None });
            return true;
        };
        let track = &mut self.tracks[at];
        let own = self.clocks.iter_mut().find(|(number, _)| *number == track.clock);
        if let Some((_, known)) = own
            && is_same(*known, offset)
        {
            // It follows a clock that drifts, and hardly a report that was under way for longer.
            *known += offset.wrapping_sub(*known).clamp(-SLEW, SLEW);
            track.doubt = None;
            return true;
        }
        if !track.doubt.replace(offset).is_some_and(|before| is_same(before, offset)) {
            return false;
        }
        track.doubt = None;
        let clock = self.clock_near(offset);
        self.tracks[at].clock = clock;
        self.forget_unused();
        true
    }

    /// Nanoseconds from the track's wall clock to ours.
    pub(crate) fn offset(&self, producer: ProducerKey) -> Option<i64> {
        let track = self.tracks.iter().find(|track| track.producer == producer)?;
        let clock = self.clocks.iter().find(|(number, _)| *number == track.clock);
        clock.map(|(_, offset)| *offset)
    }

    /// The track is gone.
    pub(crate) fn remove(&mut self, producer: ProducerKey) {
        self.tracks.retain(|track| track.producer != producer);
        self.forget_unused();
    }

    fn clock_near(&mut self, offset: i64) -> u32 {
        if let Some((number, _)) = self.clocks.iter().find(|(_, known)| is_same(*known, offset)) {
            return *number;
        }
        self.made = self.made.wrapping_add(1);
        self.clocks.push((self.made, offset));
        self.made
    }

    fn forget_unused(&mut self) {
        let tracks = &self.tracks;
        self.clocks.retain(|(number, _)| tracks.iter().any(|track| track.clock == *number));
    }
}

fn is_same(a: i64, b: i64) -> bool {
    a.wrapping_sub(b).unsigned_abs() < SAME_CLOCK.unsigned_abs()
}

/// Nanoseconds since 1970 of an NTP time; of a clock that counts from its start, before 1970.
pub(crate) fn unix_from_ntp(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64 - NTP_UNIX_SECONDS;
    seconds * SECOND as i64 + (((ntp & 0xffff_ffff) * SECOND) >> 32) as i64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::rtcp::ntp_from_unix;

    const UNIX: Nanos = 1_790_000_000 * SECOND;

    fn track(number: u64) -> ProducerKey {
        ProducerKey::from(number)
    }

    #[test]
    fn ntp_and_unix_are_the_same_moment() {
        let unix = 1_763_700_000 * SECOND + 123_456_789;
        let back = unix_from_ntp(ntp_from_unix(unix));
        assert!(unix.abs_diff(back as u64) < 2, "{unix} {back}");
    }

    #[test]
    fn a_report_without_a_clock_or_with_nonsense_moves_nothing() {
        let mut clocks = Clocks::default();
        let (video, audio) = (track(1), track(2));
        for second in 0..60u64 {
            let now = UNIX + second * SECOND;
            assert!(clocks.receive(audio, ntp_from_unix(now), now));
            let before = clocks.offset(audio);
            assert!(!clocks.receive(video, 0, now));
            // Another lie each time.
            let nonsense = second.wrapping_mul(0x1234_5678_9abc_def1) | 1 << 40;
            if second > 0 {
                assert!(!clocks.receive(audio, nonsense, now), "{second}");
            }
            assert_eq!(clocks.offset(audio), before);
        }
        assert!(clocks.offset(audio).unwrap().abs() < 10);
        assert_eq!(clocks.offset(video), None);
    }

    #[test]
    fn tracks_of_one_clock_share_an_offset_and_one_of_another_has_its_own() {
        let mut clocks = Clocks::default();
        let (a, b, other) = (track(1), track(2), track(3));
        for second in 0..60u64 {
            let now = UNIX + second * SECOND;
            assert!(clocks.receive(a, ntp_from_unix(now - 77 * SECOND), now));
            assert!(clocks.receive(b, ntp_from_unix(now - 77 * SECOND - 20 * MS), now));
            // Seconds since it was switched on.
            assert!(clocks.receive(other, (second + 5) << 32, now));
            assert_eq!(clocks.offset(a), clocks.offset(b));
            let off = clocks.offset(a).unwrap() - 77 * SECOND as i64;
            assert!((0..=20 * MS as i64).contains(&off), "{off}");
        }
        assert_ne!(clocks.offset(a), clocks.offset(other));
        assert_eq!(clocks.clocks.len(), 2);
        clocks.remove(other);
        assert_eq!((clocks.clocks.len(), clocks.tracks.len()), (1, 2));
    }

    #[test]
    fn a_jump_is_followed_when_it_is_said_twice() {
        let mut clocks = Clocks::default();
        let (a, b) = (track(1), track(2));
        for track in [a, b] {
            assert!(clocks.receive(track, ntp_from_unix(UNIX), UNIX));
        }
        // The publisher's host set its clock: both tracks jump.
        let jump = 10 * SECOND;
        let said: Vec<bool> = (1..3)
            .flat_map(|n| [(n, a), (n, b)])
            .map(|(n, track)| {
                let now = UNIX + n * SECOND;
                clocks.receive(track, ntp_from_unix(now + jump), now)
            })
            .collect();
        assert_eq!(said, [false, false, true, true]);
        assert_eq!(clocks.offset(a), clocks.offset(b));
        assert!((clocks.offset(a).unwrap() + jump as i64).abs() < 10);
        assert_eq!(clocks.clocks.len(), 1);
    }
}
