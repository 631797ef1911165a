//! Whose pictures are shown, and where on the canvas. A layout is a file: it chooses (with as
//! little change as it can, because another number of inputs is another FFmpeg), and it writes the
//! filter that FFmpeg draws with. No clock but the `now` that it is given.

mod grid;
mod speaker;

use std::time::Instant;

use ironcast_api::Id;
use serde::{Deserialize, Serialize};

use super::rtp::Codec;

/// What is behind the pictures.
const BACKGROUND: &str = "0x101318";

/// The layouts there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LayoutName {
    /// One picture: who speaks, or what is shared.
    #[default]
    Speaker,
    /// All pictures, as many as fit.
    Grid,
}

impl LayoutName {
    /// Makes it.
    pub fn make(self) -> Box<dyn Layout> {
        match self {
            Self::Speaker => Box::<speaker::Speaker>::default(),
            Self::Grid => Box::<grid::Grid>::default(),
        }
    }
}

/// A track that may be shown or heard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    /// The producer.
    pub producer: Id,
    /// Whose it is.
    pub participant: Id,
    /// What it carries.
    pub codec: Codec,
    /// A screen, not a camera.
    pub is_screen: bool,
    /// Nothing comes: muted, or its camera stopped.
    pub is_off: bool,
}

/// What there is to see and hear in a room.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scene {
    /// All tracks, in an order that stays.
    pub tracks: Vec<Track>,
    /// Who speaks, the loudest first.
    pub speakers: Vec<Id>,
}

impl Scene {
    /// The pictures.
    pub fn pictures(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| track.codec.is_video())
    }

    /// The sounds.
    pub fn sounds(&self) -> impl Iterator<Item = &Track> {
        self.tracks.iter().filter(|track| !track.codec.is_video())
    }
}

/// The canvas, pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Even.
    pub width: u32,
    /// Even.
    pub height: u32,
}

/// One way to show a room.
pub trait Layout: Send + Sync {
    /// The producer of each slot.
    fn choose(&mut self, scene: &Scene, now: Instant) -> Vec<Option<Id>>;

    /// Draws so many inputs (`[0:v:0]`, ...) onto the canvas, `[v]`.
    fn filter(&self, inputs: usize, size: Size, fps: u32) -> String;
}

/// One input in a box of its own, its shape kept.
fn boxed(input: usize, size: Size, fps: u32) -> String {
    let Size { width, height } = size;
    format!(
        "[0:v:{input}]fps={fps},scale={width}:{height}:force_original_aspect_ratio=decrease,\
         pad={width}:{height}:-1:-1:color={BACKGROUND},setsar=1"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn picture(who: &str) -> Track {
        let id = |text: String| Id::new(text).unwrap();
        Track {
            producer: id(format!("{who}-camera")),
            participant: id(who.to_owned()),
            codec: Codec::Vp8,
            is_screen: false,
            is_off: false,
        }
    }

    pub(super) fn scene(pictures: &[&str], speakers: &[&str]) -> Scene {
        let speakers = speakers.iter().map(|who| Id::new(*who).unwrap()).collect();
        Scene { tracks: pictures.iter().map(|who| picture(who)).collect(), speakers }
    }

    pub(super) fn names(chosen: &[Option<Id>]) -> Vec<&str> {
        let name = |one: &Option<Id>| one.as_ref().map_or("-", |id| id.as_str()).to_owned();
        let names: Vec<String> = chosen.iter().map(name).collect();
        names.into_iter().map(|name| &*name.leak()).collect()
    }
}
