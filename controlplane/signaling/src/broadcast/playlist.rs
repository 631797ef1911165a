//! The playlists of a broadcast (RFC 8216): a window that moves while it is live, all that is left of
//! it at the end. Pure: which segments there are in, texts and what may be deleted out.

use std::fmt::Write as _;

/// Segments stay so many windows longer than they are listed: a player may still be at them.
const GRACE_WINDOWS: usize = 2;

/// What FFmpeg finished.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Its file.
    pub name: String,
    /// How long it is.
    pub seconds: f64,
    /// When it begins, in ms of the Unix epoch.
    pub time_ms: u64,
    /// What is before it was made by another FFmpeg.
    pub is_break: bool,
}

/// All of one broadcast.
#[derive(Debug)]
pub struct Playlist {
    segments: Vec<Segment>,
    /// Segments and breaks that were before the first one here.
    gone: u64,
    breaks_gone: u64,
    gone_s: f64,
    target_s: u64,
    window: usize,
    keeps_all: bool,
    is_over: bool,
}

/// A line of FFmpeg's list: `name,begin,end`.
pub fn read_line(line: &str) -> Option<(String, f64)> {
    let mut fields = line.trim().rsplitn(3, ',');
    let end: f64 = fields.next()?.parse().ok()?;
    let begin: f64 = fields.next()?.parse().ok()?;
    let name = fields.next()?.trim_matches('"');
    let is_plain =
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
    (is_plain && end >= begin).then(|| (name.to_owned(), end - begin))
}

impl Playlist {
    /// Without segments. `window`: how many are listed; `keeps_all`: the others stay for the end.
    pub fn new(segment_s: f64, window: usize, keeps_all: bool) -> Self {
        Self {
            segments: Vec::new(),
            gone: 0,
            breaks_gone: 0,
            gone_s: 0.0,
            target_s: rounded(segment_s),
            window,
            keeps_all,
            is_over: false,
        }
    }

    /// Gives the files that nobody needs any more.
    pub fn add(&mut self, segment: Segment) -> Vec<String> {
        self.target_s = self.target_s.max(rounded(segment.seconds));
        self.segments.push(segment);
        if self.keeps_all {
            return Vec::new();
        }
        self.drop_to(self.window * (1 + GRACE_WINDOWS))
    }

    /// The disk is full of it: only what is listed stays. Gives the files that go.
    pub fn shrink(&mut self) -> Vec<String> {
        self.drop_to(self.window)
    }

    fn drop_to(&mut self, count: usize) -> Vec<String> {
        let going: Vec<_> =
            self.segments.drain(..self.segments.len().saturating_sub(count)).collect();
        self.gone += going.len() as u64;
        self.gone_s += going.iter().map(|each| each.seconds).sum::<f64>();
        self.breaks_gone += going.iter().filter(|each| each.is_break).count() as u64;
        going.into_iter().map(|each| each.name).collect()
    }

    /// Nothing comes after this.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// How long all of it was.
    pub fn seconds(&self) -> f64 {
        self.gone_s + self.segments.iter().map(|each| each.seconds).sum::<f64>()
    }

    /// How many there have been.
    pub fn count(&self) -> u64 {
        self.gone + self.segments.len() as u64
    }

    /// What is to be seen now.
    pub fn live(&self) -> String {
        let skipped = self.segments.len().saturating_sub(self.window);
        self.write(skipped, "")
    }

    /// Everything that is left, once it is over.
    pub fn whole(&self) -> Option<String> {
        self.is_over.then(|| self.write(0, "#EXT-X-PLAYLIST-TYPE:VOD\n"))
    }

    fn write(&self, skipped: usize, kind: &str) -> String {
        let (before, listed) = self.segments.split_at(skipped);
        let number = self.gone + before.len() as u64;
        // A break is counted when its own segment has left the list.
        let breaks = self.breaks_gone + before.iter().filter(|each| each.is_break).count() as u64;
        let mut text = format!(
            "#EXTM3U\n#EXT-X-VERSION:6\n#EXT-X-TARGETDURATION:{}\n#EXT-X-MEDIA-SEQUENCE:{number}\n\
             #EXT-X-DISCONTINUITY-SEQUENCE:{breaks}\n{kind}#EXT-X-INDEPENDENT-SEGMENTS\n",
            self.target_s
        );
        for (index, segment) in listed.iter().enumerate() {
            if segment.is_break {
                text.push_str("#EXT-X-DISCONTINUITY\n");
            }
            if segment.is_break || index == 0 {
                let _ = writeln!(text, "#EXT-X-PROGRAM-DATE-TIME:{}", date(segment.time_ms));
            }
            let _ = writeln!(text, "#EXTINF:{:.6},\n{}", segment.seconds, segment.name);
        }
        if self.is_over {
            text.push_str("#EXT-X-ENDLIST\n");
        }
        text
    }
}

/// To whole seconds, as RFC 8216 section 4.3.3.1 wants the target duration.
fn rounded(seconds: f64) -> u64 {
    // Segments are short, and never negative.
    (seconds.round() as u64).max(1)
}

/// ISO 8601 of a moment.
pub fn date(unix_ms: u64) -> String {
    let (days, ms) = ((unix_ms / 86_400_000) as i64, unix_ms % 86_400_000);
    // Days to a date: Howard Hinnant's algorithm, with years that begin in March.
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32, is_break: bool) -> Segment {
        Segment {
            name: format!("s-{number}.ts"),
            seconds: 1.02,
            time_ms: 1_700_000_000_000 + u64::from(number) * 1_020,
            is_break,
        }
    }

    fn tag<'a>(text: &'a str, name: &str) -> Option<&'a str> {
        text.lines().find_map(|line| line.strip_prefix(name))
    }

    #[test]
    fn the_window_moves_and_its_numbers_rise() {
        let mut list = Playlist::new(1.0, 3, true);
        for number in 0..5 {
            assert!(list.add(segment(number, number == 1 || number == 4)).is_empty());
        }
        let live = list.live();
        assert_eq!(tag(&live, "#EXT-X-MEDIA-SEQUENCE:"), Some("2"));
        assert_eq!(tag(&live, "#EXT-X-DISCONTINUITY-SEQUENCE:"), Some("1"));
        assert_eq!(live.matches(".ts").count(), 3);
        assert_eq!(live.matches("#EXT-X-DISCONTINUITY\n").count(), 1);
        assert!(!live.contains("ENDLIST") && list.whole().is_none());
        list.end();
        assert!(list.live().ends_with("#EXT-X-ENDLIST\n"));
        assert_eq!(tag(&list.live(), "#EXT-X-MEDIA-SEQUENCE:"), Some("2"), "it never falls");
        let whole = list.whole().unwrap();
        assert_eq!(whole.matches(".ts").count(), 5);
        assert_eq!(tag(&whole, "#EXT-X-MEDIA-SEQUENCE:"), Some("0"));
        assert_eq!(tag(&whole, "#EXT-X-PLAYLIST-TYPE:"), Some("VOD"));
    }

    #[test]
    fn what_left_the_window_is_deleted_a_while_later() {
        let mut list = Playlist::new(1.0, 2, false);
        let gone: Vec<_> = (0..10).flat_map(|n| list.add(segment(n, n == 2))).collect();
        assert_eq!(gone, ["s-0.ts", "s-1.ts", "s-2.ts", "s-3.ts"]);
        assert_eq!(tag(&list.live(), "#EXT-X-MEDIA-SEQUENCE:"), Some("8"));
        assert_eq!(tag(&list.live(), "#EXT-X-DISCONTINUITY-SEQUENCE:"), Some("1"));
        assert_eq!(list.shrink(), ["s-4.ts", "s-5.ts", "s-6.ts", "s-7.ts"]);
        assert_eq!(list.count(), 10);
        assert!((list.seconds() - 10.2).abs() < 1e-9, "with what is gone");
    }

    #[test]
    fn ffmpegs_list_is_read_and_nothing_else() {
        assert_eq!(read_line("a-00001.ts,1.000000,2.500000\n"), Some(("a-00001.ts".into(), 1.5)));
        for bad in ["", "a.ts", "a.ts,1", "a.ts,x,2", "../a.ts,0,1", "a.ts,2,1", ",0,1"] {
            assert_eq!(read_line(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_segment_that_became_longer_raises_the_target() {
        let mut list = Playlist::new(1.0, 3, true);
        list.add(Segment { seconds: 2.6, ..segment(0, false) });
        assert_eq!(tag(&list.live(), "#EXT-X-TARGETDURATION:"), Some("3"));
    }

    #[test]
    fn dates_are_dates() {
        assert_eq!(date(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(date(1_700_000_000_250), "2023-11-14T22:13:20.250Z");
        assert_eq!(date(951_782_400_000), "2000-02-29T00:00:00.000Z");
    }
}
