//! A room that is watched as HLS, or recorded. The media server sends what is shown to a port of this
//! process; the mixer hands it on to FFmpeg, whose inputs never change while it runs; FFmpeg
//! writes segments or a file. The call knows nothing of all that: what fails here is told, and
//! undone here.
//!
//! ```text
//!   media server --plain transport--> feed (mixer) --loopback--> FFmpeg --> segments, file
//!                                        ^                          ^
//!   room --scene--> planner --plan--> director --steps--> pipeline -+
//! ```
//!
//! [`director`] follows the room and decides; [`pipeline`] takes the steps and undoes them; [`plan`]
//! and [`layout`] say what is shown; [`mixer`], [`feed`], [`rtp`] and [`filler`] carry it;
//! [`command`], [`ffmpeg`], [`sdp`] and [`sockets`] are about FFmpeg; [`playlist`], [`timeline`] and
//! [`shelf`] about what is left at the end; [`http`] hands it out.

pub mod command;
pub(crate) mod director;
pub mod feed;
pub mod ffmpeg;
pub mod filler;
pub mod http;
pub mod layout;
pub mod mixer;
mod output;
pub mod pipeline;
pub mod plan;
pub mod playlist;
pub mod rtp;
pub mod sdp;
pub mod shelf;
pub mod sockets;
pub mod timeline;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ironcast_api::Id;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::failure::Failure;
use crate::media::MediaError;
use command::{Format, Quality};
use ffmpeg::{FfmpegError, Program};
use layout::{LayoutName, Size};
use shelf::Shelf;

/// Limits and places, out of the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Broadcasts and recordings at once; 0: there are none.
    pub at_once_max: usize,
    /// Where they are written.
    pub folder: PathBuf,
    /// FFmpeg, by its path or as `PATH` has it.
    pub ffmpeg: PathBuf,
    /// The processors for it, such as `2,3`; any without.
    pub cpus: Option<String>,
    /// How long a segment is.
    pub segment: Duration,
    /// Segments that a live playlist has.
    pub window: usize,
    /// All segments are kept for a playlist of the whole.
    pub keeps_all: bool,
    /// Bytes of all of it.
    pub disk_bytes_max: u64,
    /// How long it is kept.
    pub kept: Duration,
    /// Of what is made anew.
    pub quality: Quality,
    /// Our address for the media server.
    pub ip: IpAddr,
    /// The media server's address for it, if it is not its loopback.
    pub media_ip: Option<IpAddr>,
    /// A camera that sends no key frame for so long is not waited for.
    pub key_frame_patience: Duration,
    /// A room that is away for so long does not come back.
    pub room_patience: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            at_once_max: 0,
            folder: PathBuf::from("broadcasts"),
            ffmpeg: PathBuf::from("ffmpeg"),
            cpus: None,
            segment: Duration::from_secs(1),
            window: 10,
            keeps_all: true,
            disk_bytes_max: 10 << 30,
            kept: Duration::from_secs(7 * 86_400),
            quality: Quality { size: Size { width: 1280, height: 720 }, bitrate_bps: 1_500_000 },
            ip: Ipv4Addr::LOCALHOST.into(),
            media_ip: None,
            key_frame_patience: Duration::from_secs(5),
            room_patience: Duration::from_secs(10),
        }
    }
}

/// What becomes of a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Segments, to be watched while it goes on.
    Hls,
    /// A file.
    Recording,
}

impl Kind {
    /// As browsers are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Hls => "hls",
            Self::Recording => "recording",
        }
    }
}

/// Why a broadcast ended, or does not begin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// Of FFmpeg.
    #[error(transparent)]
    Ffmpeg(#[from] FfmpegError),
    /// Of the media server.
    #[error(transparent)]
    Media(#[from] MediaError),
    /// There is no more room for it.
    #[error("there is no more room on the disk for broadcasts")]
    DiskFull,
    /// Of this host.
    #[error("{0}")]
    Host(String),
}

impl From<std::io::Error> for Trouble {
    fn from(error: std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::StorageFull {
            return Self::DiskFull;
        }
        Self::Host(error.to_string())
    }
}

impl Trouble {
    /// Stable and documented.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Ffmpeg(FfmpegError::Missing(_)) => "ffmpeg_missing",
            Self::Ffmpeg(error) if error.is_disk_full() => "disk_full",
            Self::Ffmpeg(_) => "ffmpeg_failed",
            Self::Media(_) => "media_unavailable",
            Self::DiskFull => "disk_full",
            Self::Host(_) => "broadcast_failed",
        }
    }

    /// For people: no internals.
    pub fn to_json(&self) -> Value {
        let message = match self.code() {
            "ffmpeg_missing" => "FFmpeg is not installed on the server",
            "ffmpeg_failed" => "FFmpeg ended unexpectedly",
            "media_unavailable" => "the media server does not answer",
            "disk_full" => "there is no more room on the server's disk",
            _ => "the server could not do it",
        };
        json!({ "code": self.code(), "message": message })
    }
}

/// How far a broadcast is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It takes its steps.
    Starting,
    /// It can be watched, or is being written.
    Live,
    /// It goes on in a moment.
    Interrupted,
    /// It is over.
    Ended,
    /// It could not go on.
    Failed,
}

/// One broadcast, as others see it.
#[derive(Debug)]
pub struct Show {
    /// Never used twice, and not to be guessed.
    pub id: Uuid,
    /// Of which room.
    pub room_id: Id,
    /// What it is.
    pub kind: Kind,
    /// What is shown.
    pub layout: LayoutName,
    /// What a recording is written as.
    pub format: Format,
    /// Since when, in ms of the Unix epoch.
    pub started_ms: u64,
    phase: Mutex<Phase>,
    /// The plain transport at the media server.
    transport: Mutex<Option<Id>>,
    /// It is gone.
    is_lost: AtomicBool,
    /// Something in the room changed.
    changed: Notify,
    stop: watch::Sender<bool>,
    over: watch::Sender<bool>,
}

impl Show {
    /// Where it is watched, or will be had.
    pub fn url(&self) -> String {
        match self.kind {
            Kind::Hls => format!("/hls/{}/{}", self.room_id, shelf::LIVE),
            Kind::Recording => {
                format!("/recordings/{}/recording.{}", self.id, self.format.ending())
            }
        }
    }

    /// As browsers are told.
    pub fn to_json(&self) -> Value {
        let mut told = json!({
            "broadcastId": self.id.to_string(),
            "kind": self.kind,
            "state": *self.phase.lock().expect("no panic inside"),
            "layout": self.layout,
            "startedAt": self.started_ms,
        });
        match self.kind {
            Kind::Hls => told["url"] = self.url().into(),
            Kind::Recording => told["format"] = json!(self.format),
        }
        told
    }

    /// Whether nothing becomes of it any more.
    pub(crate) fn is_over(&self) -> bool {
        matches!(*self.phase.lock().expect("no panic inside"), Phase::Ended | Phase::Failed)
    }

    fn set_phase(&self, phase: Phase) {
        *self.phase.lock().expect("no panic inside") = phase;
    }

    fn transport(&self) -> MutexGuard<'_, Option<Id>> {
        self.transport.lock().expect("no panic inside")
    }

    /// It ends as soon as it can.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Waits until nothing of it is left.
    pub async fn over(&self) {
        let mut over = self.over.subscribe();
        let _ = over.wait_for(|is_over| *is_over).await;
    }
}

/// All broadcasts of this service.
#[derive(Debug)]
pub struct Broadcasts {
    /// Limits and places.
    pub settings: Settings,
    /// Where everything is.
    pub shelf: Shelf,
    running: Mutex<BTreeMap<(Id, Kind), Arc<Show>>>,
}

impl Broadcasts {
    /// None yet.
    pub fn new(settings: Settings) -> Self {
        let shelf = Shelf::new(settings.folder.clone());
        Self { settings, shelf, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<(Id, Kind), Arc<Show>>> {
        self.running.lock().expect("nobody panics with it")
    }

    /// FFmpeg, if it is there.
    pub fn program(&self) -> Result<Program, Trouble> {
        let missing = || FfmpegError::Missing(self.settings.ffmpeg.display().to_string());
        let path = ffmpeg::find(&self.settings.ffmpeg).ok_or_else(missing)?;
        Ok(Program { path, cpus: self.settings.cpus.clone() })
    }

    /// Makes one, if none of its kind is there and there may be one more.
    pub fn add(&self, show: Show) -> Result<Arc<Show>, Failure> {
        let mut running = self.running();
        let key = (show.room_id.clone(), show.kind);
        if running.contains_key(&key) {
            let message = "this room has one already; stop it first";
            return Err(Failure::new("already_exists", message));
        }
        if running.len() >= self.settings.at_once_max {
            return Err(Failure::no_capacity("there are as many broadcasts as this server allows"));
        }
        let show = Arc::new(show);
        running.insert(key, Arc::clone(&show));
        Ok(show)
    }

    /// It is over.
    pub(crate) fn remove(&self, show: &Show) {
        self.running().remove(&(show.room_id.clone(), show.kind));
    }

    /// One that runs.
    pub fn one(&self, room_id: &Id, kind: Kind) -> Option<Arc<Show>> {
        self.running().get(&(room_id.clone(), kind)).cloned()
    }

    /// Those of a room.
    pub fn of_room(&self, room_id: &Id) -> Vec<Arc<Show>> {
        [Kind::Hls, Kind::Recording]
            .into_iter()
            .filter_map(|kind| self.one(room_id, kind))
            .collect()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.running().len()
    }

    /// Something changed in a room.
    pub fn poke(&self, room_id: &Id) {
        for show in self.of_room(room_id) {
            show.changed.notify_one();
        }
    }

    /// Whether a transport is one of ours.
    pub fn has_transport(&self, id: &str) -> bool {
        let is_it = |show: &Arc<Show>| show.transport().as_ref().is_some_and(|own| own == id);
        self.running().values().any(is_it)
    }

    /// The media server says that a transport is gone.
    pub fn transport_closed(&self, id: &str) {
        for show in self.running().values() {
            if show.transport().as_ref().is_some_and(|own| own == id) {
                show.is_lost.store(true, Ordering::Relaxed);
                show.changed.notify_one();
            }
        }
    }

    /// Ends all of them, and waits for it.
    pub async fn stop_all(&self) {
        let all: Vec<_> = self.running().values().cloned().collect();
        for show in &all {
            show.stop();
        }
        futures::future::join_all(all.iter().map(|show| show.over())).await;
    }
}

/// A new one.
pub fn show(room_id: Id, kind: Kind, layout: LayoutName, format: Format, started_ms: u64) -> Show {
    Show {
        id: Uuid::new_v4(),
        room_id,
        kind,
        layout,
        format,
        started_ms,
        phase: Mutex::new(Phase::Starting),
        transport: Mutex::default(),
        is_lost: AtomicBool::new(false),
        changed: Notify::new(),
        stop: watch::Sender::new(false),
        over: watch::Sender::new(false),
    }
}
