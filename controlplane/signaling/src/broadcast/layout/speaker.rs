//! One picture on the whole canvas: a screen that is shared, or else who speaks. Who has it keeps it
//! for a while, also when others cough. Always one input, so a change of who is shown is another
//! source for it, not another FFmpeg.

use std::time::{Duration, Instant};

use ironcast_api::Id;

use super::{Layout, Scene, Size, boxed};

/// Whoever is shown stays for so long.
const STAY: Duration = Duration::from_secs(2);

/// The layout.
#[derive(Debug, Default)]
pub(super) struct Speaker {
    shown: Option<(Id, Instant)>,
}

impl Layout for Speaker {
    fn choose(&mut self, scene: &Scene, now: Instant) -> Vec<Option<Id>> {
        let on = || scene.pictures().filter(|track| !track.is_off);
        let screen = on().find(|track| track.is_screen);
        let of = |who: &Id| on().find(|track| track.participant == *who);
        let speaking = screen.or_else(|| scene.speakers.iter().find_map(of));
        let shown = self.shown.as_ref().and_then(|(id, since)| {
            on().find(|track| track.producer == *id).map(|track| (track, *since))
        });
        let next = match (shown, speaking) {
            (Some((shown, since)), Some(speaking)) => {
                // A screen is what everybody looks at, at once.
                let may = now.duration_since(since) >= STAY || speaking.is_screen;
                if may && !shown.is_screen { speaking } else { shown }
            }
            (Some((shown, _)), None) => shown,
            (None, Some(speaking)) => speaking,
            (None, None) => match on().next() {
                Some(first) => first,
                None => {
                    self.shown = None;
                    return vec![None];
                }
            },
        };
        if self.shown.as_ref().is_none_or(|(id, _)| *id != next.producer) {
            self.shown = Some((next.producer.clone(), now));
        }
        vec![Some(next.producer.clone())]
    }

    fn filter(&self, _: usize, size: Size, fps: u32) -> String {
        format!("{}[v]", boxed(0, size, fps))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{names, picture, scene};
    use super::*;

    #[test]
    fn who_speaks_is_shown_and_stays_for_a_while() {
        let (mut layout, begun) = (Speaker::default(), Instant::now());
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        assert_eq!(names(&layout.choose(&scene(&[], &[]), at(0))), ["-"]);
        let both = ["ada", "bob"];
        assert_eq!(names(&layout.choose(&scene(&both, &[]), at(0))), ["ada-camera"]);
        assert_eq!(names(&layout.choose(&scene(&both, &["bob"]), at(1))), ["ada-camera"]);
        assert_eq!(names(&layout.choose(&scene(&both, &["bob"]), at(3))), ["bob-camera"]);
        assert_eq!(
            names(&layout.choose(&scene(&both, &[]), at(9))),
            ["bob-camera"],
            "the last one"
        );
        assert_eq!(names(&layout.choose(&scene(&["ada"], &[]), at(9))), ["ada-camera"], "at once");
    }

    #[test]
    fn a_screen_comes_first_and_who_is_off_is_not_shown() {
        let (mut layout, now) = (Speaker::default(), Instant::now());
        let mut scene = scene(&["ada", "bob"], &["ada"]);
        scene.tracks[1].is_screen = true;
        assert_eq!(names(&layout.choose(&scene, now)), ["bob-camera"]);
        scene.tracks[1].is_off = true;
        assert_eq!(names(&layout.choose(&scene, now)), ["ada-camera"]);
        scene.tracks.push(picture("cem"));
        scene.tracks[0].is_off = true;
        assert_eq!(names(&layout.choose(&scene, now)), ["cem-camera"]);
    }

    #[test]
    fn the_picture_keeps_its_shape() {
        let filter = Speaker::default().filter(1, Size { width: 1280, height: 720 }, 25);
        assert!(filter.starts_with("[0:v:0]fps=25,scale=1280:720:"), "{filter}");
        assert!(filter.ends_with("setsar=1[v]"), "{filter}");
    }
}
