//! Boxes of one size for all pictures, screens first. There are 1, 2, 4, 6 or 9 of them: few
//! numbers, so that somebody who comes or goes seldom needs another FFmpeg, and keeps his box. A
//! muted camera keeps its box too.

use std::time::Instant;

use ironcast_api::Id;

use super::{BACKGROUND, Layout, Scene, Size, boxed};

/// How many boxes there may be, in columns and rows.
const GRIDS: [(usize, usize); 5] = [(1, 1), (2, 1), (2, 2), (3, 2), (3, 3)];

/// The layout.
#[derive(Debug, Default)]
pub(super) struct Grid {
    boxes: Vec<Option<Id>>,
}

fn grid_for(count: usize) -> (usize, usize) {
    let fits = |(columns, rows): &(usize, usize)| columns * rows >= count;
    GRIDS.into_iter().find(fits).unwrap_or(GRIDS[GRIDS.len() - 1])
}

impl Layout for Grid {
    fn choose(&mut self, scene: &Scene, _: Instant) -> Vec<Option<Id>> {
        let screens = scene.pictures().filter(|track| track.is_screen);
        let cameras = scene.pictures().filter(|track| !track.is_screen);
        let mut wanted: Vec<&Id> = screens.chain(cameras).map(|track| &track.producer).collect();
        let (columns, rows) = grid_for(wanted.len());
        let count = columns * rows;
        // Where more are there than boxes, those who speak have one.
        if wanted.len() > count {
            let rank = |id: &Id| {
                let track = scene.pictures().find(|track| track.producer == *id);
                let who = track.map(|track| &track.participant);
                let speaks = scene.speakers.iter().position(|one| Some(one) == who);
                let is_screen = track.is_some_and(|track| track.is_screen);
                let is_shown = self.boxes.iter().flatten().any(|shown| shown == id);
                (!is_screen, speaks.is_none(), !is_shown)
            };
            wanted.sort_by_key(|id| rank(id));
            wanted.truncate(count);
        }
        let mut left: Vec<Id> = Vec::new();
        for (index, shown) in std::mem::take(&mut self.boxes).into_iter().enumerate() {
            let keeps = shown.filter(|id| wanted.contains(&id));
            if index < count {
                self.boxes.push(keeps);
            } else {
                left.extend(keeps);
            }
        }
        self.boxes.resize(count, None);
        let here = |boxes: &[Option<Id>], id: &Id| boxes.iter().flatten().any(|one| one == id);
        for id in left.iter().chain(wanted) {
            if !here(&self.boxes, id)
                && let Some(free) = self.boxes.iter_mut().find(|one| one.is_none())
            {
                *free = Some(id.clone());
            }
        }
        self.boxes.clone()
    }

    fn filter(&self, inputs: usize, size: Size, fps: u32) -> String {
        let (columns, rows) = grid_for(inputs);
        if inputs < 2 {
            return format!("{}[v]", boxed(0, size, fps));
        }
        let even = |length: u32, parts: usize| length / u32::try_from(parts).unwrap_or(1) / 2 * 2;
        let one = Size { width: even(size.width, columns), height: even(size.height, rows) };
        let boxes: Vec<_> =
            (0..inputs).map(|index| format!("{}[b{index}];", boxed(index, one, fps))).collect();
        let names: Vec<_> = (0..inputs).map(|index| format!("[b{index}]")).collect();
        let place = |index: usize| {
            let at = |length: u32, times: usize| length * u32::try_from(times).unwrap_or(0);
            let (x, y) = (at(one.width, index % columns), at(one.height, index / columns));
            format!("{x}_{y}")
        };
        let places: Vec<_> = (0..inputs).map(place).collect();
        let Size { width, height } = size;
        format!(
            "{}{}xstack=inputs={inputs}:layout={},pad={width}:{height}:-1:-1:color={BACKGROUND}[v]",
            boxes.concat(),
            names.concat(),
            places.join("|"),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{names, scene};
    use super::*;

    #[test]
    fn everybody_keeps_his_box() {
        let (mut layout, now) = (Grid::default(), Instant::now());
        assert_eq!(names(&layout.choose(&scene(&[], &[]), now)), ["-"]);
        assert_eq!(names(&layout.choose(&scene(&["a"], &[]), now)), ["a-camera"]);
        let three = layout.choose(&scene(&["a", "b", "c"], &[]), now);
        assert_eq!(names(&three), ["a-camera", "b-camera", "c-camera", "-"]);
        let without_a = layout.choose(&scene(&["b", "c", "d"], &[]), now);
        assert_eq!(names(&without_a), ["d-camera", "b-camera", "c-camera", "-"]);
        let two = layout.choose(&scene(&["c", "d"], &[]), now);
        assert_eq!(names(&two), ["d-camera", "c-camera"], "moved into a smaller grid");
    }

    #[test]
    fn who_speaks_has_a_box_where_there_are_too_few() {
        let (mut layout, now) = (Grid::default(), Instant::now());
        let people: Vec<String> = (0..12).map(|number| format!("p{number}")).collect();
        let people: Vec<&str> = people.iter().map(|name| &**name).collect();
        let first = layout.choose(&scene(&people, &[]), now);
        assert_eq!(first.len(), 9);
        let then = layout.choose(&scene(&people, &["p11"]), now);
        assert_eq!(then.iter().flatten().filter(|id| id.as_str() == "p11-camera").count(), 1);
        let moved = first.iter().zip(&then).filter(|(before, after)| before != after).count();
        assert_eq!(moved, 1, "all others stay where they were");
    }

    #[test]
    fn the_boxes_fill_the_canvas() {
        let filter = Grid::default().filter(6, Size { width: 1280, height: 720 }, 25);
        assert!(filter.contains("layout=0_0|426_0|852_0|0_360|426_360|852_360"), "{filter}");
        assert!(filter.contains("[0:v:5]fps=25,scale=426:360:"), "{filter}");
        assert!(filter.ends_with("pad=1280:720:-1:-1:color=0x101318[v]"), "{filter}");
    }
}
