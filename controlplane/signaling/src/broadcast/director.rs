//! One broadcast from its beginning to its end: follows the room, and takes again those steps of the
//! pipeline that a change needs, and no others. A task of its own; the call never waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ironcast_api::Id;
use serde_json::{Value, json};
use tokio::time::{MissedTickBehavior, interval};

use super::ffmpeg::{FfmpegError, Happening, Program};
use super::layout::{Scene, Track};
use super::output::Written;
use super::pipeline::{Job, Pipeline, Step, capabilities};
use super::plan::{Plan, Planner, Shape};
use super::rtp::Codec;
use super::timeline::Timeline;
use super::{Kind, Phase, Show, Trouble};
use crate::media::MediaError;
use crate::service::{RoomScene, Service};

/// Between two looks at the room when nothing is reported, and at key frames.
const LOOK: Duration = Duration::from_millis(250);

/// Between two looks at the disk.
const LOOK_AT_DISK: Duration = Duration::from_secs(2);

/// Another shape is another FFmpeg: it has to be wanted for so long.
const SHAPE_TIME_MIN: Duration = Duration::from_millis(500);

/// FFmpeg may end by itself so often in this time; then the broadcast ends too.
const ENDS_MAX: usize = 5;
const ENDS_TIME: Duration = Duration::from_secs(60);

/// A camera that gave no key frame is not tried again before; each time twice as long.
const TRY_AGAIN: Duration = Duration::from_secs(10);
const TRY_AGAIN_LONGEST: Duration = Duration::from_secs(600);

/// A media server that is there may fail for so many times the patience with a room.
const MEDIA_PATIENCE: u32 = 3;

/// Why it is over.
enum Over {
    /// Somebody said so, or the room ended.
    Asked(&'static str),
    /// It could not go on.
    Broken(Trouble),
}

impl From<Trouble> for Over {
    fn from(trouble: Trouble) -> Self {
        Self::Broken(trouble)
    }
}

/// What is seen next.
enum Seen {
    Stop,
    Room,
    Tick,
    Ffmpeg(Happening),
}

/// A camera that gave no key frame.
struct GivenUp {
    until: Instant,
    pause: Duration,
}

struct Director {
    service: Arc<Service>,
    show: Arc<Show>,
    program: Program,
    pipeline: Pipeline,
    planner: Planner,
    written: Written,
    timeline: Timeline,
    plan: Option<Plan>,
    /// The shape that FFmpeg has, and the one that it should have since when.
    shape: Option<Shape>,
    shape_wanted: Option<(Shape, Instant)>,
    ends: Vec<Instant>,
    room_gone: Option<Instant>,
    /// Since when an assigned camera shows nothing, and who is not tried before when.
    dark: BTreeMap<Id, Instant>,
    given_up: BTreeMap<Id, GivenUp>,
    /// Since when the media server does not do what it is asked.
    media_gone: Option<Instant>,
    told: BTreeSet<Id>,
    key_asked: Instant,
    disk_looked: Instant,
}

/// Runs one to its end.
pub(crate) async fn direct(service: Arc<Service>, show: Arc<Show>, program: Program) {
    let shelf = &service.broadcasts.shelf;
    let folder = match show.kind {
        Kind::Hls => shelf.of_room(&show.room_id),
        Kind::Recording => shelf.of_recording(&show.id),
    };
    let mut director = Director::new(Arc::clone(&service), Arc::clone(&show), program, folder);
    let over = director.run().await;
    director.end(over).await;
    service.broadcast_is_over(&show);
    show.over.send_replace(true);
}

impl Director {
    fn new(service: Arc<Service>, show: Arc<Show>, program: Program, folder: PathBuf) -> Self {
        let settings = &service.broadcasts.settings;
        let written = Written::new(settings, &folder);
        // A recording is one file, whatever people send: its pictures are always made anew.
        let planner = Planner::new(show.layout, show.kind == Kind::Hls);
        let pipeline =
            Pipeline::new(Arc::clone(&service), Arc::clone(&show), program.clone(), folder);
        let now = Instant::now();
        Self {
            service,
            show,
            program,
            pipeline,
            planner,
            written,
            timeline: Timeline::default(),
            plan: None,
            shape: None,
            shape_wanted: None,
            ends: Vec::new(),
            room_gone: None,
            dark: BTreeMap::new(),
            given_up: BTreeMap::new(),
            media_gone: None,
            told: BTreeSet::new(),
            key_asked: now,
            disk_looked: now,
        }
    }

    async fn run(&mut self) -> Over {
        let mut stopped = self.show.stop.subscribe();
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let show = Arc::clone(&self.show);
            let seen = tokio::select! {
                biased;
                _ = stopped.wait_for(|stopped| *stopped) => Seen::Stop,
                happening = next(&mut self.pipeline) => Seen::Ffmpeg(happening),
                () = show.changed.notified() => Seen::Room,
                _ = ticks.tick() => Seen::Tick,
            };
            let mut stopped = self.show.stop.subscribe();
            let done = match seen {
                Seen::Stop => return Over::Asked("asked"),
                Seen::Ffmpeg(Happening::Line(line)) => {
                    self.add_line(&line);
                    Ok(())
                }
                Seen::Ffmpeg(Happening::Ended(error)) => self.ffmpeg_ended(error),
                // A stop does not wait for steps that are slow: they are undone at the end.
                Seen::Room | Seen::Tick => tokio::select! {
                    biased;
                    _ = stopped.wait_for(|stopped| *stopped) => return Over::Asked("asked"),
                    looked = self.look() => looked,
                },
            };
            if let Err(over) = done {
                return over;
            }
        }
    }

    // ---- the room --------------------------------------------------------------------------------

    async fn look(&mut self) -> Result<(), Over> {
        self.look_at_disk().await?;
        let Some(room) = self.service.scene(&self.show.room_id) else {
            return self.room_is_gone().await;
        };
        let now_ms = self.written.media_ms();
        self.timeline.observe(now_ms, &room.people, &room.speakers);
        let Some(router) = &room.router else { return self.room_is_gone().await };
        let capabilities = match self.service.router_of(router, &self.show.room_id).await {
            Ok(router) => capabilities(&router),
            Err(failure) => {
                tracing::info!(%failure, "a broadcast waits for the media server");
                return self.room_is_gone().await;
            }
        };
        self.room_gone = None;
        let scene = self.scene(room.clone());
        let off = scene.pictures().filter(|track| track.is_off);
        self.pipeline.set_off(off.map(|track| track.producer.clone()).collect());
        let plan = self.planner.plan(&scene, Instant::now());
        let is_other_router = self.pipeline.router() != Some(&router.id);
        let is_lost = self.show.is_lost.swap(false, Ordering::Relaxed);
        let has_ffmpeg = self.pipeline.ffmpeg().is_some();
        let shape_is_due = self.shape_is_due(&plan.shape);
        let is_same = self.plan.as_ref() == Some(&plan);
        let job = Job {
            router: Arc::clone(router),
            capabilities,
            plan: &plan,
            layout: self.planner.layout(),
            output: self.written.next(&self.show),
        };
        if self.shape.is_none() {
            self.pipeline.take(&Step::ALL, &job).await?;
            self.ran(&plan);
        } else if is_other_router || is_lost {
            self.pipeline.undo(&[Step::Transport, Step::Consume]).await;
            let taken = self.pipeline.take(&Step::MEDIA, &job).await;
            self.media_is_back(taken)?;
        } else if !has_ffmpeg || shape_is_due {
            self.restart(&room, &plan).await?;
        } else if !is_same {
            self.pipeline.consume(&job).await.or_else(|trouble| self.wait_for_media(trouble))?;
        }
        self.plan = Some(plan);
        self.watch_key_frames().await;
        Ok(())
    }

    /// What there is, by what we know of each track.
    fn scene(&mut self, room: RoomScene) -> Scene {
        let now = Instant::now();
        let track = |one: crate::service::SceneTrack| {
            let known = self.pipeline.codec_of(&one.producer);
            let said = one.mime.as_deref().map(Codec::of_mime);
            // What nobody said is what most send; the consumer says it.
            let usual = if one.is_video { Codec::Vp8 } else { Codec::Opus };
            let codec = known.or(said).unwrap_or(Some(usual))?;
            let is_off =
                one.is_paused || self.given_up.get(&one.producer).is_some_and(|it| it.until > now);
            let (producer, participant) = (one.producer, one.participant);
            Some(Track { producer, participant, codec, is_screen: one.is_screen, is_off })
        };
        Scene {
            tracks: room.tracks.into_iter().filter_map(track).collect(),
            speakers: room.speakers,
        }
    }

    fn shape_is_due(&mut self, wanted: &Shape) -> bool {
        if self.shape.as_ref() == Some(wanted) {
            self.shape_wanted = None;
            return false;
        }
        let now = Instant::now();
        match &self.shape_wanted {
            Some((shape, since)) if shape == wanted => now.duration_since(*since) >= SHAPE_TIME_MIN,
            _ => {
                self.shape_wanted = Some((wanted.clone(), now));
                false
            }
        }
    }

    /// Another FFmpeg, with the media as it is.
    async fn restart(&mut self, room: &RoomScene, plan: &Plan) -> Result<(), Over> {
        let Some(router) = &room.router else { return Ok(()) };
        let capabilities = match self.service.router_of(router, &self.show.room_id).await {
            Ok(router) => capabilities(&router),
            Err(_) => return Ok(()),
        };
        self.service.metrics.count_broadcast_restart(self.show.kind.name());
        self.pipeline.undo(&[Step::Ports, Step::Sdp, Step::Ffmpeg]).await;
        self.finish_run();
        let job = Job {
            router: Arc::clone(router),
            capabilities,
            plan,
            layout: self.planner.layout(),
            output: self.written.next(&self.show),
        };
        match self.pipeline.take(&Step::FFMPEG, &job).await {
            Ok(()) => self.ran(plan),
            // Like one that ended a moment later.
            Err(Trouble::Ffmpeg(error)) => self.ffmpeg_ended(error)?,
            Err(trouble) => self.wait_for_media(trouble)?,
        }
        Ok(())
    }

    /// FFmpeg runs.
    fn ran(&mut self, plan: &Plan) {
        self.shape = Some(plan.shape.clone());
        self.shape_wanted = None;
        self.note_run();
        if self.show.kind == Kind::Recording {
            self.write_about("recording", &json!({}));
            self.tell(Phase::Live, json!({}));
        }
    }

    /// Its clock began when it was started, also if its steps were cut off after that.
    fn note_run(&mut self) {
        if let Some(began) = self.pipeline.take_began() {
            self.written.begin_run(began);
        }
    }

    fn finish_run(&mut self) {
        self.note_run();
        for line in self.pipeline.take_last_lines() {
            self.add_line(&line);
        }
        self.written.end_run(self.pipeline.take_written());
    }

    fn add_line(&mut self, line: &str) {
        if self.written.add_line(line) && self.phase() != Phase::Live {
            self.tell(Phase::Live, json!({}));
        }
    }

    /// The room, its router or the media server is away: FFmpeg gets silence meanwhile.
    async fn room_is_gone(&mut self) -> Result<(), Over> {
        let now = Instant::now();
        let since = *self.room_gone.get_or_insert(now);
        if since == now && self.shape.is_some() {
            self.pipeline.undo(&[Step::Transport, Step::Consume]).await;
            self.plan = None;
        }
        if now.duration_since(since) < self.service.broadcasts.settings.room_patience {
            return Ok(());
        }
        if self.service.scene(&self.show.room_id).is_none() {
            return Err(Over::Asked("room_ended"));
        }
        Err(Trouble::Media(MediaError::Unavailable("for too long".to_owned())).into())
    }

    fn media_is_back(&mut self, taken: Result<(), Trouble>) -> Result<(), Over> {
        match taken {
            Ok(()) => {
                self.media_gone = None;
                if self.written.has_segments() || self.show.kind == Kind::Recording {
                    self.tell(Phase::Live, json!({}));
                }
                Ok(())
            }
            Err(trouble) => self.wait_for_media(trouble).map_err(Over::from),
        }
    }

    /// What the media server did not do is tried again at the next look.
    fn wait_for_media(&mut self, trouble: Trouble) -> Result<(), Trouble> {
        if !matches!(trouble, Trouble::Media(_)) {
            return Err(trouble);
        }
        let since = *self.media_gone.get_or_insert_with(Instant::now);
        if since.elapsed() > self.service.broadcasts.settings.room_patience * MEDIA_PATIENCE {
            return Err(trouble);
        }
        if self.phase() != Phase::Interrupted {
            self.tell(Phase::Interrupted, json!({ "error": trouble.to_json() }));
        }
        self.show.is_lost.store(true, Ordering::Relaxed);
        Ok(())
    }

    // ---- key frames ------------------------------------------------------------------------------

    async fn watch_key_frames(&mut self) {
        self.pipeline.ask_for_key_frames().await;
        let settings = &self.service.broadcasts.settings;
        let now = Instant::now();
        let is_copied = self.shape.as_ref().is_some_and(|shape| shape.is_copied);
        // Only its sender can begin a segment of what is passed on as it came.
        if is_copied && now.duration_since(self.key_asked) >= settings.segment {
            self.key_asked = now;
            for producer in self.plan.iter().flat_map(|plan| plan.pictures.iter().flatten()) {
                self.pipeline.ask_for_key_frame(producer).await;
            }
        }
        let lacking = self.pipeline.without_key_frame();
        let live = self.pipeline.live();
        self.given_up.retain(|producer, _| !live.contains(producer));
        self.dark.retain(|producer, _| lacking.contains(producer) && !live.contains(producer));
        for producer in lacking.into_iter().filter(|producer| !live.contains(producer)) {
            let since = *self.dark.entry(producer.clone()).or_insert(now);
            if now.duration_since(since) < settings.key_frame_patience {
                continue;
            }
            self.dark.remove(&producer);
            let before = self.given_up.get(&producer).map(|it| it.pause * 2);
            let pause = before.unwrap_or(TRY_AGAIN).min(TRY_AGAIN_LONGEST);
            self.given_up.insert(producer.clone(), GivenUp { until: now + pause, pause });
            if self.told.insert(producer.clone()) {
                let participant = self.service.owner_of(&producer);
                let message = "a camera sends no picture that a broadcast could begin with";
                let error = json!({ "code": "no_key_frame", "message": message });
                let phase = self.phase();
                self.tell(phase, json!({ "error": error, "participantId": participant }));
            }
        }
    }

    // ---- FFmpeg, the disk ------------------------------------------------------------------------

    fn ffmpeg_ended(&mut self, error: FfmpegError) -> Result<(), Over> {
        tracing::warn!(room_id = %self.show.room_id, %error, "FFmpeg ended by itself");
        self.pipeline.forget_ffmpeg();
        self.finish_run();
        let trouble = Trouble::Ffmpeg(error);
        let now = Instant::now();
        self.ends.retain(|at| now.duration_since(*at) < ENDS_TIME);
        self.ends.push(now);
        if trouble.code() == "disk_full" || self.ends.len() > ENDS_MAX {
            return Err(trouble.into());
        }
        self.tell(Phase::Interrupted, json!({ "error": trouble.to_json() }));
        self.show.changed.notify_one();
        Ok(())
    }

    async fn look_at_disk(&mut self) -> Result<(), Over> {
        if self.disk_looked.elapsed() < LOOK_AT_DISK {
            return Ok(());
        }
        self.disk_looked = Instant::now();
        let broadcasts = &self.service.broadcasts;
        let (shelf, max) = (broadcasts.shelf.clone(), broadcasts.settings.disk_bytes_max);
        let bytes = tokio::task::spawn_blocking(move || shelf.bytes()).await.unwrap_or(0);
        // What left the window goes first: it is live that counts.
        if bytes > max && !(self.show.kind == Kind::Hls && self.written.shrink()) {
            return Err(Trouble::DiskFull.into());
        }
        Ok(())
    }

    // ---- the end ---------------------------------------------------------------------------------

    async fn end(&mut self, over: Over) {
        self.pipeline.end_ffmpeg().await;
        self.finish_run();
        self.pipeline.close().await;
        let (phase, mut more) = match &over {
            Over::Asked(reason) => (Phase::Ended, json!({ "reason": reason })),
            Over::Broken(trouble) => {
                tracing::warn!(room_id = %self.show.room_id, %trouble, "a broadcast ended");
                (Phase::Failed, json!({ "error": trouble.to_json() }))
            }
        };
        match self.show.kind {
            Kind::Hls => {
                more["durationMs"] = self.written.whole_ms().into();
                self.written.end_playlists();
                if self.written.has_segments() {
                    more["wholeUrl"] =
                        format!("/hls/{}/{}", self.show.room_id, super::shelf::WHOLE).into();
                }
            }
            Kind::Recording => self.finish_recording(&mut more).await,
        }
        self.service.metrics.count_broadcast_end(self.show.kind.name(), code_of(&over));
        self.tell(phase, more);
    }

    async fn finish_recording(&mut self, more: &mut Value) {
        if self.written.parts(&self.show).is_empty() {
            let folder = self.service.broadcasts.shelf.of_recording(&self.show.id);
            let _ = std::fs::remove_dir_all(folder);
            return;
        }
        let (file, parts) = self.written.join(&self.show, &self.program).await;
        let whole_ms = self.written.whole_ms();
        self.timeline.end(whole_ms);
        more["durationMs"] = whole_ms.into();
        let url = |name: &String| format!("/recordings/{}/{name}", self.show.id);
        if let Some(file) = &file {
            more["url"] = url(file).into();
        } else {
            more["parts"] = parts.iter().map(url).collect();
        }
        more["aboutUrl"] = url(&super::shelf::ABOUT.to_owned()).into();
        let state = if more.get("error").is_some() { "failed" } else { "ready" };
        self.write_about(state, more);
    }

    fn write_about(&self, state: &str, more: &Value) {
        self.written.write_about(&self.show, state, &self.timeline, more);
    }

    fn phase(&self) -> Phase {
        *self.show.phase.lock().expect("no panic inside")
    }

    fn tell(&self, phase: Phase, more: Value) {
        self.show.set_phase(phase);
        self.service.tell_broadcast(&self.show, more);
    }
}

fn code_of(over: &Over) -> &'static str {
    match over {
        Over::Asked(reason) => reason,
        Over::Broken(trouble) => trouble.code(),
    }
}

/// The next that FFmpeg does; nothing while there is none.
async fn next(pipeline: &mut Pipeline) -> Happening {
    match pipeline.ffmpeg() {
        Some(ffmpeg) => ffmpeg.next().await,
        None => std::future::pending().await,
    }
}
