//! What a broadcast shows and plays, and of which shape FFmpeg has to be for it. The same shape is
//! the same FFmpeg: only its sources are other ones. Pure, but for the choice that it remembers.

use std::collections::BTreeMap;
use std::time::Instant;

use ironcast_api::Id;

use super::layout::{Layout, LayoutName, Scene};
use super::rtp::Codec;

/// Voices that are heard at once. FFmpeg has so many inputs for sound, whoever is there.
pub const VOICES: usize = 6;

/// What FFmpeg has to be started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// The codec of each input for pictures.
    pub pictures: Vec<Codec>,
    /// The one picture is passed on as it came, and not made anew.
    pub is_copied: bool,
}

/// What goes where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Of FFmpeg.
    pub shape: Shape,
    /// The producer of each input for pictures.
    pub pictures: Vec<Option<Id>>,
    /// The producer of each input for sound.
    pub sounds: Vec<Option<Id>>,
}

impl Plan {
    /// All producers that are needed.
    pub fn producers(&self) -> impl Iterator<Item = &Id> {
        self.sounds.iter().chain(&self.pictures).flatten()
    }

    /// The producer of each of FFmpeg's inputs, in their order: sound first.
    pub fn inputs(&self) -> Vec<Option<Id>> {
        self.sounds.iter().chain(&self.pictures).cloned().collect()
    }
}

/// Makes plans for one broadcast.
pub struct Planner {
    layout: Box<dyn Layout>,
    may_copy: bool,
    voices: Voices,
    shape: Option<Shape>,
}

impl Planner {
    /// `may_copy`: one person's H.264 may be passed on.
    pub fn new(layout: LayoutName, may_copy: bool) -> Self {
        let may_copy = may_copy && layout == LayoutName::Speaker;
        Self { layout: layout.make(), may_copy, voices: Voices::default(), shape: None }
    }

    /// The layout, for its filter.
    pub fn layout(&self) -> &dyn Layout {
        &*self.layout
    }

    /// For what there is now.
    pub fn plan(&mut self, scene: &Scene, now: Instant) -> Plan {
        let pictures = self.layout.choose(scene, now);
        let codec_of = |id: &Id| scene.tracks.iter().find(|t| t.producer == *id).map(|t| t.codec);
        let before = self.shape.as_ref().map(|shape| &*shape.pictures).unwrap_or_default();
        // An empty input stays what it was.
        let codec = |(index, id): (usize, &Option<Id>)| {
            let known = id.as_ref().and_then(codec_of);
            known.or_else(|| before.get(index).copied()).unwrap_or(Codec::Vp8)
        };
        let codecs: Vec<_> = pictures.iter().enumerate().map(codec).collect();
        let mut on = scene.pictures().filter(|track| !track.is_off);
        let is_alone = on.next().is_some_and(|track| track.codec == Codec::H264);
        let is_copied = self.may_copy && is_alone && on.next().is_none();
        let shape = Shape { pictures: codecs, is_copied };
        self.shape = Some(shape.clone());
        Plan { shape, pictures, sounds: self.voices.choose(scene, now) }
    }
}

/// Who is heard.
#[derive(Debug, Default)]
struct Voices {
    slots: [Option<Id>; VOICES],
    spoke: BTreeMap<Id, Instant>,
}

impl Voices {
    /// Everybody while there are few. Where there are many, who speaks takes the place of the one who
    /// has been silent for longest.
    fn choose(&mut self, scene: &Scene, now: Instant) -> Vec<Option<Id>> {
        let owner = |id: &Id| scene.sounds().find(|track| track.producer == *id);
        for slot in &mut self.slots {
            *slot = slot.take().filter(|id| owner(id).is_some());
        }
        let Self { slots, spoke } = self;
        spoke.retain(|who, _| scene.sounds().any(|track| track.participant == *who));
        for who in &scene.speakers {
            spoke.insert(who.clone(), now);
        }
        let mut waiting: Vec<_> = scene.sounds().collect();
        waiting.retain(|track| !slots.iter().flatten().any(|id| *id == track.producer));
        for track in waiting {
            if let Some(free) = slots.iter_mut().find(|slot| slot.is_none()) {
                *free = Some(track.producer.clone());
            } else if scene.speakers.contains(&track.participant) {
                let silent = |slot: &&mut Option<Id>| {
                    let track = slot.as_ref().and_then(owner);
                    track.and_then(|track| spoke.get(&track.participant)).copied()
                };
                if let Some(longest) = slots.iter_mut().min_by_key(silent)
                    && longest
                        .as_ref()
                        .and_then(owner)
                        .is_some_and(|track| !scene.speakers.contains(&track.participant))
                {
                    *longest = Some(track.producer.clone());
                }
            }
        }
        slots.to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::Track;
    use super::*;

    fn track(who: &str, codec: Codec) -> Track {
        let id = |text: String| Id::new(text).unwrap();
        Track {
            producer: id(format!("{who}-{codec:?}")),
            participant: id(who.to_owned()),
            codec,
            is_screen: false,
            is_off: false,
        }
    }

    fn scene(tracks: Vec<Track>, speakers: &[&str]) -> Scene {
        Scene { tracks, speakers: speakers.iter().map(|who| Id::new(*who).unwrap()).collect() }
    }

    #[test]
    fn who_comes_mutes_or_speaks_changes_no_shape() {
        let mut planner = Planner::new(LayoutName::Speaker, true);
        let now = Instant::now();
        let ada = [track("ada", Codec::Vp8), track("ada", Codec::Opus)];
        let one = planner.plan(&scene(ada.to_vec(), &[]), now);
        assert_eq!(one.sounds.len(), VOICES);
        let bob = [track("bob", Codec::Vp8), track("bob", Codec::Opus)];
        let both = [&ada[..], &bob[..]].concat();
        let two = planner.plan(&scene(both.clone(), &["bob"]), now);
        assert_eq!(one.shape, two.shape);
        assert_eq!(two.sounds.iter().flatten().count(), 2);
        let mut muted = both;
        for track in &mut muted {
            track.is_off = true;
        }
        assert_eq!(planner.plan(&scene(muted, &[]), now).shape, one.shape);
        assert_eq!(planner.plan(&scene(Vec::new(), &[]), now).shape, one.shape);
    }

    #[test]
    fn one_picture_of_h264_is_passed_on_as_it_is() {
        let now = Instant::now();
        let alone = scene(vec![track("ada", Codec::H264)], &[]);
        let plan = Planner::new(LayoutName::Speaker, true).plan(&alone, now);
        assert!(plan.shape.is_copied);
        assert!(!Planner::new(LayoutName::Grid, true).plan(&alone, now).shape.is_copied);
        assert!(!Planner::new(LayoutName::Speaker, false).plan(&alone, now).shape.is_copied);
        let two = scene(vec![track("ada", Codec::H264), track("bob", Codec::H264)], &[]);
        assert!(!Planner::new(LayoutName::Speaker, true).plan(&two, now).shape.is_copied);
        let mut off = alone.clone();
        off.tracks[0].is_off = true;
        assert!(!Planner::new(LayoutName::Speaker, true).plan(&off, now).shape.is_copied);
        let vp8 = scene(vec![track("ada", Codec::Vp8)], &[]);
        assert!(!Planner::new(LayoutName::Speaker, true).plan(&vp8, now).shape.is_copied);
    }

    #[test]
    fn who_speaks_is_heard_among_many() {
        let mut planner = Planner::new(LayoutName::Speaker, true);
        let now = Instant::now();
        let people: Vec<_> =
            (0..9).map(|number| track(&format!("p{number}"), Codec::Opus)).collect();
        let first = planner.plan(&scene(people.clone(), &["p0"]), now).sounds;
        assert_eq!(first.iter().flatten().count(), VOICES);
        let then = planner.plan(&scene(people, &["p8", "p0"]), now).sounds;
        let has = |who: &str| then.iter().flatten().any(|id| id.starts_with(who));
        assert!(has("p8-") && has("p0-"));
        let moved = first.iter().zip(&then).filter(|(before, after)| before != after).count();
        assert_eq!(moved, 1);
    }
}
