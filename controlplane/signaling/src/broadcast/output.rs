//! What FFmpeg's work becomes: playlists of segments, or parts that are joined to a recording, with
//! its JSON beside it. Files only; when what is written is decided elsewhere.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::command::{self, Output};
use super::ffmpeg::Program;
use super::mixer::HOLD_US;
use super::playlist::{Playlist, Segment, read_line};
use super::shelf;
use super::timeline::Timeline;
use super::{Kind, Settings, Show};
use crate::store::now_ms;

/// Parts are joined within this time.
const JOIN_TIME_MAX: Duration = Duration::from_secs(1_800);

/// How much FFmpeg has after a time: fillers come a little later than now.
fn written_by(time: Duration) -> Duration {
    time.saturating_sub(Duration::from_micros(HOLD_US.unsigned_abs()))
}

/// The output of one broadcast.
pub struct Written {
    folder: PathBuf,
    segment_s: f64,
    playlist: Playlist,
    /// How many FFmpegs there have been.
    runs: u64,
    /// When the running one's clock began.
    run: Option<(Instant, u64)>,
    /// Of this run: how much is in segments already.
    run_ms: f64,
    is_first_of_run: bool,
    /// What all earlier ones have written.
    media: Duration,
    /// How long the whole became.
    joined: Option<Duration>,
}

impl Written {
    /// Nothing yet.
    pub fn new(settings: &Settings, folder: &Path) -> Self {
        let segment_s = settings.segment.as_secs_f64();
        Self {
            folder: folder.to_owned(),
            segment_s,
            playlist: Playlist::new(segment_s, settings.window, settings.keeps_all),
            runs: 0,
            run: None,
            run_ms: 0.0,
            is_first_of_run: true,
            media: Duration::ZERO,
            joined: None,
        }
    }

    /// What the next FFmpeg writes.
    pub fn next(&self, show: &Show) -> Output {
        match show.kind {
            Kind::Hls => {
                // Another broadcast of the same room has other names: they may be cached for ever.
                let tag: String = show.id.simple().to_string().chars().take(8).collect();
                let pattern = PathBuf::from(format!("{tag}-%05d.ts"));
                let number = self.playlist.count();
                Output::Segments { pattern, number, seconds: self.segment_s }
            }
            Kind::Recording => {
                let name = format!("part-{}.{}", self.runs, show.format.ending());
                Output::File { path: PathBuf::from(name), format: show.format }
            }
        }
    }

    /// FFmpeg's clock began.
    pub fn begin_run(&mut self, began: (Instant, u64)) {
        self.runs += 1;
        self.run = Some(began);
        self.run_ms = 0.0;
        self.is_first_of_run = true;
    }

    /// FFmpeg has ended; `written` is what it said at its end.
    pub fn end_run(&mut self, written: Option<Duration>) {
        if let Some((began, _)) = self.run.take() {
            self.media += written.unwrap_or_else(|| written_by(began.elapsed()));
        }
    }

    /// How much there is of it.
    pub fn media_ms(&self) -> u64 {
        let running = self.run.map_or(Duration::ZERO, |(began, _)| written_by(began.elapsed()));
        u64::try_from((self.media + running).as_millis()).unwrap_or(u64::MAX)
    }

    /// How much there is at the end, by what was written.
    pub fn whole_ms(&self) -> u64 {
        let listed = self.has_segments().then(|| self.playlist.seconds());
        let known = self.joined.or_else(|| listed.map(Duration::from_secs_f64));
        known.map_or_else(|| self.media_ms(), |it| u64::try_from(it.as_millis()).unwrap_or(0))
    }

    /// A line of FFmpeg's list; gives whether there is a new segment.
    pub fn add_line(&mut self, line: &str) -> bool {
        let Some((name, seconds)) = read_line(line) else { return false };
        let began_ms = self.run.map_or_else(now_ms, |(_, began_ms)| began_ms);
        let segment = Segment {
            name,
            seconds,
            time_ms: began_ms + self.run_ms as u64,
            is_break: self.is_first_of_run && self.playlist.count() > 0,
        };
        self.run_ms += seconds * 1_000.0;
        self.is_first_of_run = false;
        let gone = self.playlist.add(segment);
        self.delete(gone);
        self.write_playlists();
        true
    }

    /// Makes room; gives whether there was anything to delete.
    pub fn shrink(&mut self) -> bool {
        let gone = self.playlist.shrink();
        let has_gone = !gone.is_empty();
        self.delete(gone);
        has_gone
    }

    fn delete(&self, names: Vec<String>) {
        for name in names {
            let _ = fs::remove_file(self.folder.join(name));
        }
    }

    fn write_playlists(&self) {
        let whole = || match self.playlist.whole() {
            Some(whole) => shelf::write(&self.folder.join(shelf::WHOLE), &whole),
            None => Ok(()),
        };
        let live = shelf::write(&self.folder.join(shelf::LIVE), &self.playlist.live());
        let written = live.and_then(|()| whole());
        if let Err(error) = written {
            tracing::warn!(%error, "a playlist could not be written");
        }
    }

    /// Whether there is something to watch.
    pub fn has_segments(&self) -> bool {
        self.playlist.count() > 0
    }

    /// Nothing comes any more.
    pub fn end_playlists(&mut self) {
        self.playlist.end();
        if self.has_segments() {
            self.write_playlists();
        }
    }

    /// What is known of a recording.
    pub fn write_about(&self, show: &Show, state: &str, timeline: &Timeline, more: &Value) {
        let mut about = show.to_json();
        about["state"] = state.into();
        about["roomId"] = json!(show.room_id);
        about["durationMs"] = self.whole_ms().into();
        about["participants"] = json!(timeline.participants);
        about["speaking"] = json!(timeline.speaking);
        if let (Some(about), Some(more)) = (about.as_object_mut(), more.as_object()) {
            about.extend(more.clone());
        }
        if let Err(error) = shelf::write(&self.folder.join(shelf::ABOUT), &about.to_string()) {
            tracing::warn!(%error, "what is known of a recording could not be written");
        }
    }

    /// The parts that are there.
    pub fn parts(&self, show: &Show) -> Vec<String> {
        let names = (0..self.runs).map(|run| format!("part-{run}.{}", show.format.ending()));
        let is_there =
            |name: &String| self.folder.join(name).metadata().is_ok_and(|it| it.len() > 0);
        names.filter(is_there).collect()
    }

    /// Makes one file of a recording's parts. Gives its name, and the parts that are left if that
    /// did not work.
    pub async fn join(&mut self, show: &Show, program: &Program) -> (Option<String>, Vec<String>) {
        let parts = self.parts(show);
        if parts.is_empty() {
            return (None, parts);
        }
        let list: String = parts.iter().map(|name| format!("file '{name}'\n")).collect();
        let (list_path, name) =
            (Path::new(shelf::PARTS), format!("recording.{}", show.format.ending()));
        let words = command::join(list_path, show.format, Path::new(&name));
        let joined = match fs::write(self.folder.join(list_path), list) {
            Ok(()) => {
                program.run(&words, &self.folder, JOIN_TIME_MAX).await.map_err(|it| it.to_string())
            }
            Err(error) => Err(error.to_string()),
        };
        let _ = fs::remove_file(self.folder.join(list_path));
        match joined {
            Ok(written) => {
                self.joined = written;
                self.delete(parts);
                (Some(name), Vec::new())
            }
            Err(error) => {
                tracing::warn!(error, "the parts of a recording stay as they are");
                let _ = fs::remove_file(self.folder.join(name));
                (None, parts)
            }
        }
    }
}
