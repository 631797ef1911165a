//! The steps of a broadcast, in the order in which they have to be taken: whoever sends before FFmpeg
//! listens sends into nothing, and what is left over of an earlier one holds ports. Each step is
//! logged. When one fails, those that were taken with it are undone, the last one first. A change
//! of the room takes again only the steps that it needs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_api::{Id, RtpCapabilities};
use serde_json::Value;

use super::command::{self, Output};
use super::feed::Feed;
use super::ffmpeg::{Ffmpeg, Program};
use super::layout::Layout;
use super::mixer::{HOLD_US, Target};
use super::plan::Plan;
use super::rtp::Codec;
use super::shelf::{self, Shelf, State};
use super::{Show, Trouble, sdp, sockets};
use crate::hosts::HostId;
use crate::media::{MediaError, MediaResult, New, NewConsumer, NewPlainTransport};
use crate::rooms::{RouterSlot, fresh_id};
use crate::service::{Service, Thing};
use crate::store::now_ms;

/// FFmpeg is given so long to come to the end of what it was sent.
const LAG: Duration = Duration::from_micros(HOLD_US.unsigned_abs() + 200_000);

/// It is behind where the host has no time for it: then it is given so much more.
const CATCH_UP_TIME_MAX: Duration = Duration::from_secs(10);

/// FFmpeg listens within this time.
const LISTEN_TIME_MAX: Duration = Duration::from_secs(5);

/// Ports that are free may be taken before FFmpeg has them: then others are tried.
const START_TRIES_MAX: usize = 3;

/// Of the inputs for sound, and of the first one for pictures, as FFmpeg is told.
const SOUND_TYPE: u8 = 100;
const PICTURE_TYPE: u8 = 101;

/// First pause between two requests for key frames; it grows.
const ASK_AGAIN: Duration = Duration::from_millis(250);

/// Longest pause between two requests for key frames.
const ASK_AGAIN_LONGEST: Duration = Duration::from_secs(2);

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// What an earlier broadcast left is ended.
    CleanUp,
    /// Ports for the media server and for FFmpeg.
    Ports,
    /// The plain transport at the media server, not connected yet.
    Transport,
    /// The SDP of FFmpeg's inputs.
    Sdp,
    /// FFmpeg runs and has bound its ports.
    Ffmpeg,
    /// The plain transport sends to our port.
    Connect,
    /// A consumer for each track.
    Consume,
    /// A key frame of each picture, asked for until it came.
    KeyFrames,
    /// What the next start of this service has to know.
    Save,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::CleanUp,
        Self::Ports,
        Self::Transport,
        Self::Sdp,
        Self::Ffmpeg,
        Self::Connect,
        Self::Consume,
        Self::KeyFrames,
        Self::Save,
    ];

    /// Another FFmpeg for the same media.
    pub const FFMPEG: [Self; 6] =
        [Self::Ports, Self::Sdp, Self::Ffmpeg, Self::Consume, Self::KeyFrames, Self::Save];

    /// The same FFmpeg for a room's new router.
    pub const MEDIA: [Self; 5] =
        [Self::Transport, Self::Connect, Self::Consume, Self::KeyFrames, Self::Save];
}

/// What the steps are taken for.
pub struct Job<'a> {
    /// The room's router.
    pub router: Arc<RouterSlot>,
    /// What it can send.
    pub capabilities: RtpCapabilities,
    /// What goes where.
    pub plan: &'a Plan,
    /// How it is drawn.
    pub layout: &'a dyn Layout,
    /// What is written.
    pub output: Output,
}

/// A consumer of ours.
#[derive(Debug)]
struct Consumer {
    id: Id,
    codec: Codec,
}

/// A plain transport of ours.
#[derive(Debug)]
struct Transport {
    id: Id,
    router: Id,
    address: SocketAddr,
}

/// What is there of a broadcast.
pub struct Pipeline {
    service: Arc<Service>,
    show: Arc<Show>,
    program: Program,
    folder: PathBuf,
    /// Where what was made last is.
    host: HostId,
    feed: Option<Feed>,
    targets: Vec<Target>,
    transport: Option<Transport>,
    ffmpeg: Option<Ffmpeg>,
    consumers: BTreeMap<Id, Consumer>,
    asked: BTreeMap<Id, (Instant, Duration)>,
    /// Nothing is expected of them.
    off: BTreeSet<Id>,
    /// What they send is nothing for FFmpeg.
    unfit: BTreeSet<Id>,
    last_lines: Vec<String>,
    /// When FFmpeg's clock began, and whether that was taken.
    began: Option<(Instant, u64)>,
    is_began_taken: bool,
    /// How much the last one has written, if it said that at its end.
    written: Option<Duration>,
}

impl Pipeline {
    /// Nothing yet.
    pub fn new(service: Arc<Service>, show: Arc<Show>, program: Program, folder: PathBuf) -> Self {
        Self {
            service,
            show,
            program,
            folder,
            host: HostId::default(),
            feed: None,
            targets: Vec::new(),
            transport: None,
            ffmpeg: None,
            consumers: BTreeMap::new(),
            asked: BTreeMap::new(),
            off: BTreeSet::new(),
            unfit: BTreeSet::new(),
            last_lines: Vec::new(),
            began: None,
            is_began_taken: true,
            written: None,
        }
    }

    /// Takes these steps. When one fails, those before it are undone.
    pub async fn take(&mut self, steps: &[Step], job: &Job<'_>) -> Result<(), Trouble> {
        for (index, step) in steps.iter().enumerate() {
            let begun = Instant::now();
            let taken = self.step(*step, job).await;
            let (room_id, router) = (&self.show.room_id, &job.router.id);
            let ms = begun.elapsed().as_millis();
            match taken {
                Ok(()) => {
                    tracing::info!(%room_id, %router, kind = self.show.kind.name(), ?step, ms, "broadcast")
                }
                Err(trouble) => {
                    tracing::warn!(%room_id, %router, kind = self.show.kind.name(), ?step, ms, %trouble, "broadcast: undoing its steps");
                    self.undo(&steps[..=index]).await;
                    return Err(trouble);
                }
            }
        }
        Ok(())
    }

    /// Undoes these steps, the last one first.
    pub async fn undo(&mut self, steps: &[Step]) {
        for step in steps.iter().rev() {
            match step {
                Step::CleanUp | Step::KeyFrames | Step::Connect => {}
                Step::Save => Shelf::forget(&self.folder),
                Step::Consume => self.drop_consumers(),
                Step::Ffmpeg => self.end_ffmpeg().await,
                Step::Sdp => {
                    let _ = std::fs::remove_file(self.folder.join(shelf::SDP));
                }
                Step::Transport => self.drop_transport(),
                Step::Ports => self.targets.clear(),
            }
            tracing::debug!(room_id = %self.show.room_id, ?step, "undone");
        }
    }

    /// Nothing is left.
    pub async fn close(&mut self) {
        self.undo(&Step::ALL).await;
        self.feed = None;
    }

    async fn step(&mut self, step: Step, job: &Job<'_>) -> Result<(), Trouble> {
        match step {
            Step::CleanUp => Shelf::clear(&self.folder)?,
            Step::Ports => {
                if self.feed.is_none() {
                    self.feed = Some(Feed::open(self.service.broadcasts.settings.ip).await?);
                }
                self.targets = targets(job.plan)?;
            }
            Step::Transport => self.make_transport(job).await?,
            Step::Sdp => std::fs::write(self.folder.join(shelf::SDP), sdp::write(&self.targets))?,
            Step::Ffmpeg => self.start_ffmpeg(job).await?,
            Step::Connect => self.connect().await?,
            Step::Consume => self.consume(job).await?,
            Step::KeyFrames => self.wait_for_key_frames().await,
            Step::Save => self.save()?,
        }
        Ok(())
    }

    // ---- media ---------------------------------------------------------------------------------

    async fn make_transport(&mut self, job: &Job<'_>) -> Result<(), Trouble> {
        let id = fresh_id();
        *self.show.transport() = Some(id.clone());
        let new = NewPlainTransport {
            id: id.clone(),
            router_id: job.router.id.clone(),
            ip: self.service.broadcasts.settings.media_ip,
            note: Service::broadcast_note(&self.show),
        };
        self.host = job.router.host;
        let make = self.service.ask(self.host, |media| media.create_plain_transport(new.clone()));
        let made = make.await;
        match made {
            Ok(address) => {
                let router = job.router.id.clone();
                self.transport = Some(Transport { id, router, address });
                Ok(())
            }
            Err(error) => {
                *self.show.transport() = None;
                if error.is_temporary() {
                    // It may have been made, and only the answer was lost.
                    self.service.free(self.host, Thing::Transport, id);
                }
                Err(error.into())
            }
        }
    }

    /// The router that the media comes from.
    pub fn router(&self) -> Option<&Id> {
        self.transport.as_ref().map(|transport| &transport.router)
    }

    fn drop_transport(&mut self) {
        self.transport = None;
        // Also one whose creation was cut off.
        if let Some(id) = self.show.transport().take() {
            self.service.free(self.host, Thing::Transport, id);
        }
    }

    async fn connect(&self) -> Result<(), Trouble> {
        let (Some(transport), Some(feed)) = (&self.transport, &self.feed) else {
            return Err(Trouble::Host("there is nothing to connect".to_owned()));
        };
        feed.hear_only(transport.address).await?;
        let address = feed.address();
        let asked = self
            .service
            .ask(self.host, |media| media.connect_plain_transport(transport.id.clone(), address));
        Ok(asked.await?)
    }

    /// Makes the consumers that are missing and drops those that nobody needs; each input of FFmpeg
    /// gets its own.
    pub async fn consume(&mut self, job: &Job<'_>) -> Result<(), Trouble> {
        let wanted: BTreeSet<Id> = job.plan.producers().cloned().collect();
        let needless: Vec<_> =
            self.consumers.keys().filter(|id| !wanted.contains(*id)).cloned().collect();
        for producer in needless {
            if let Some(consumer) = self.consumers.remove(&producer) {
                self.service.free(self.host, Thing::Consumer, consumer.id);
            }
            self.with_feed(|feed| feed.remove(&producer));
        }
        let missing: Vec<Id> =
            wanted.into_iter().filter(|id| !self.consumers.contains_key(id)).collect();
        if !missing.is_empty() {
            self.make_consumers(missing, job).await?;
        }
        let inputs = job.plan.inputs();
        self.with_feed(|feed| feed.assign(&inputs));
        self.ask_for_key_frames().await;
        Ok(())
    }

    async fn make_consumers(&mut self, producers: Vec<Id>, job: &Job<'_>) -> Result<(), Trouble> {
        let Some(transport) = &self.transport else { return Ok(()) };
        let make = |producer_id: &Id| NewConsumer {
            id: fresh_id(),
            transport_id: transport.id.clone(),
            producer_id: producer_id.clone(),
            rtp_capabilities: Some(job.capabilities.clone()),
        };
        let service = Arc::clone(&self.service);
        let mut new = Vec::new();
        for producer in &producers {
            // It may be at another of the room's hosts.
            let at = service.track_at(&self.show.room_id, producer, &job.router).await;
            match at {
                Ok(id) => new.push((producer.clone(), make(&id))),
                Err(failure) if failure.code == "not_found" => {}
                Err(failure) => return Err(MediaError::Unavailable(failure.message).into()),
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let asked = service.ask_all(self.host, new.len(), |media| {
            media.make_all(new.iter().map(|(_, new)| New::Consumer(new.clone())).collect())
        });
        let answers = asked.await;
        let mut resumed = Vec::new();
        for ((producer, new), answer) in new.iter().zip(answers) {
            let made = match answer {
                Ok(crate::media::Made::Consumer(made)) => made,
                Ok(crate::media::Made::Transport(_)) => continue,
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(error) => {
                    // It ended meanwhile, or is of a kind that FFmpeg is not given.
                    tracing::info!(%producer, %error, "not part of the broadcast");
                    if !matches!(&error, MediaError::Refused { code, .. } if code == "not_found") {
                        self.unfit.insert(producer.clone());
                    }
                    continue;
                }
            };
            let Some((ssrc, codec)) = stream(&made.rtp_parameters) else {
                self.unfit.insert(producer.clone());
                self.service.free(self.host, Thing::Consumer, new.id.clone());
                continue;
            };
            self.with_feed(|feed| feed.add(ssrc, producer.clone(), codec));
            resumed.push(new.id.clone());
            self.consumers.insert(producer.clone(), Consumer { id: new.id.clone(), codec });
        }
        let resume = service
            .ask_all(self.host, resumed.len(), |media| media.resume_consumers(resumed.clone()));
        let answers = if resumed.is_empty() { Vec::new() } else { resume.await };
        let temporary = |answer: &MediaResult<()>| {
            answer.as_ref().err().filter(|error| error.is_temporary()).cloned()
        };
        answers.iter().find_map(temporary).map_or(Ok(()), |error| Err(error.into()))
    }

    /// What a producer sends, if that is known: `Some(None)` is nothing that we can take.
    pub fn codec_of(&self, producer: &Id) -> Option<Option<Codec>> {
        if self.unfit.contains(producer) {
            return Some(None);
        }
        self.consumers.get(producer).map(|consumer| Some(consumer.codec))
    }

    fn drop_consumers(&mut self) {
        for (producer, consumer) in std::mem::take(&mut self.consumers) {
            self.with_feed(|feed| feed.remove(&producer));
            self.service.free(self.host, Thing::Consumer, consumer.id);
        }
        self.asked.clear();
    }

    fn with_feed(&self, act: impl FnOnce(&Feed)) {
        if let Some(feed) = &self.feed {
            act(feed);
        }
    }

    // ---- key frames ----------------------------------------------------------------------------

    /// Asks for what is missing, each again after a pause that grows.
    pub async fn ask_for_key_frames(&mut self) {
        let lacking = self.without_key_frame();
        self.asked.retain(|producer, _| lacking.contains(producer));
        let now = Instant::now();
        for producer in lacking {
            let (due, pause) = self.asked.get(&producer).copied().unwrap_or((now, ASK_AGAIN));
            if now < due {
                continue;
            }
            self.asked.insert(producer.clone(), (now + pause, (pause * 2).min(ASK_AGAIN_LONGEST)));
            self.ask_for_key_frame(&producer).await;
        }
    }

    /// Asks for one.
    pub async fn ask_for_key_frame(&self, producer: &Id) {
        if let Some(consumer) = self.consumers.get(producer) {
            // It is asked again: an answer that does not come is nothing.
            let _ = self.service.media(self.host).request_key_frame(consumer.id.clone()).await;
        }
    }

    /// Whose pictures wait for a key frame.
    pub fn without_key_frame(&self) -> Vec<Id> {
        let mut lacking = self.feed.as_ref().map(Feed::without_key_frame).unwrap_or_default();
        lacking.retain(|producer| !self.off.contains(producer));
        lacking
    }

    /// These are muted, or were waited for in vain: nobody waits for their key frames.
    pub fn set_off(&mut self, off: BTreeSet<Id>) {
        self.off = off;
    }

    /// Whose pictures are shown.
    pub fn live(&self) -> Vec<Id> {
        self.feed.as_ref().map(Feed::live).unwrap_or_default()
    }

    async fn wait_for_key_frames(&mut self) {
        let end = Instant::now() + self.service.broadcasts.settings.key_frame_patience;
        while !self.without_key_frame().is_empty() && Instant::now() < end {
            self.ask_for_key_frames().await;
            tokio::time::sleep(ASK_AGAIN / 10).await;
        }
    }

    // ---- FFmpeg --------------------------------------------------------------------------------

    async fn start_ffmpeg(&mut self, job: &Job<'_>) -> Result<(), Trouble> {
        let quality = self.service.broadcasts.settings.quality;
        let sdp = PathBuf::from(shelf::SDP);
        let words = command::words(&sdp, &job.plan.shape, job.layout, quality, &job.output);
        let mut tries = 1;
        let ffmpeg = loop {
            let mut ffmpeg = self.program.start(&words, &self.folder)?;
            let ports: Vec<u16> =
                self.targets.iter().flat_map(|each| [each.port, each.port + 1]).collect();
            match ffmpeg.listens(&ports, LISTEN_TIME_MAX).await {
                Ok(()) => break ffmpeg,
                Err(error) if tries < START_TRIES_MAX && error.to_string().contains("bind") => {
                    tracing::info!(%error, "other ports for FFmpeg");
                    tries += 1;
                    self.targets = targets(job.plan)?;
                    std::fs::write(self.folder.join(shelf::SDP), sdp::write(&self.targets))?;
                }
                Err(error) => return Err(error.into()),
            }
        };
        self.ffmpeg = Some(ffmpeg);
        let targets = self.targets.clone();
        self.with_feed(|feed| feed.begin(&targets));
        self.began = Some((Instant::now(), now_ms()));
        self.is_began_taken = false;
        Ok(())
    }

    /// FFmpeg finishes what it writes; meanwhile it gets what it waits for.
    pub async fn end_ffmpeg(&mut self) {
        if let Some(mut ffmpeg) = self.ffmpeg.take() {
            let media = self.began.map_or(Duration::ZERO, |(began, _)| began.elapsed());
            // What there is by now is in what it writes, also where it lags behind.
            tokio::time::sleep(LAG).await;
            let wanted = media.saturating_sub(Duration::from_micros(HOLD_US.unsigned_abs()));
            ffmpeg.catches_up(wanted, CATCH_UP_TIME_MAX).await;
            self.last_lines.extend(ffmpeg.stop().await);
            self.written = ffmpeg.written();
        }
        self.with_feed(Feed::end);
    }

    /// FFmpeg has ended by itself: what it left is taken away.
    pub fn forget_ffmpeg(&mut self) {
        self.written = self.ffmpeg.take().and_then(|ffmpeg| ffmpeg.written());
        self.with_feed(Feed::end);
    }

    /// The lines of its list that an FFmpeg wrote while it was stopped.
    pub fn take_last_lines(&mut self) -> Vec<String> {
        std::mem::take(&mut self.last_lines)
    }

    /// When the clock of a new FFmpeg began, here and in ms of the Unix epoch.
    pub fn take_began(&mut self) -> Option<(Instant, u64)> {
        let is_new = !std::mem::replace(&mut self.is_began_taken, true);
        self.began.filter(|_| is_new)
    }

    /// How much an FFmpeg has written that has ended.
    pub fn take_written(&mut self) -> Option<Duration> {
        self.written.take()
    }

    /// The running FFmpeg.
    pub fn ffmpeg(&mut self) -> Option<&mut Ffmpeg> {
        self.ffmpeg.as_mut()
    }

    fn save(&self) -> Result<(), Trouble> {
        let pid = self.ffmpeg.as_ref().map_or(0, Ffmpeg::pid);
        let transport_id = self.transport.as_ref().map(|it| it.id.to_string()).unwrap_or_default();
        let state = State {
            pid,
            started: shelf::started(pid).unwrap_or_default(),
            transport_id,
            ports: self.targets.iter().map(|target| target.port).collect(),
        };
        Ok(Shelf::note(&self.folder, &state)?)
    }
}

/// A port for each of FFmpeg's inputs, in their order: sound first.
fn targets(plan: &Plan) -> Result<Vec<Target>, Trouble> {
    let sounds = plan.sounds.iter().map(|_| (Codec::Opus, SOUND_TYPE, true));
    let is_filled = !plan.shape.is_copied;
    let pictures = plan.shape.pictures.iter().map(|codec| (*codec, PICTURE_TYPE, is_filled));
    let inputs: Vec<_> = sounds.chain(pictures).collect();
    let ports = sockets::free_pairs(inputs.len())?;
    let target =
        |(port, (codec, payload_type, is_filled))| Target { port, codec, payload_type, is_filled };
    Ok(ports.into_iter().zip(inputs).map(target).collect())
}

/// The stream of a consumer, and what it carries, if that is something for FFmpeg.
fn stream(rtp_parameters: &Value) -> Option<(u32, Codec)> {
    let ssrc = rtp_parameters["encodings"][0]["ssrc"].as_u64()?;
    let mime = rtp_parameters["codecs"][0]["mimeType"].as_str()?;
    Some((u32::try_from(ssrc).ok()?, Codec::of_mime(mime)?))
}

/// What FFmpeg is given of all that a router can send: without repair, extensions and feedback, which
/// nobody here would answer.
pub fn capabilities(router: &Value) -> RtpCapabilities {
    let mut capabilities: RtpCapabilities = serde_json::from_value(router.clone())
        .unwrap_or(RtpCapabilities { codecs: Vec::new(), header_extensions: Vec::new() });
    capabilities.codecs.retain(|codec| Codec::of_mime(&codec.mime_type).is_some());
    for codec in &mut capabilities.codecs {
        codec.rtcp_feedback.clear();
    }
    capabilities.header_extensions.clear();
    capabilities
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_step_is_taken_once_and_in_order() {
        let place = |step: &Step| Step::ALL.iter().position(|one| one == step).unwrap();
        for steps in [&Step::ALL[..], &Step::FFMPEG, &Step::MEDIA] {
            assert!(steps.is_sorted_by_key(place), "{steps:?}");
        }
        assert!(place(&Step::Ffmpeg) < place(&Step::Connect), "FFmpeg listens before media comes");
    }

    #[test]
    fn a_consumer_says_its_stream() {
        let parameters = json!({
            "codecs": [{ "mimeType": "video/VP8", "payloadType": 101, "clockRate": 90000 }],
            "encodings": [{ "ssrc": 77 }],
        });
        assert_eq!(stream(&parameters), Some((77, Codec::Vp8)));
        assert_eq!(stream(&json!({ "codecs": [], "encodings": [] })), None);
        let other =
            json!({ "codecs": [{ "mimeType": "video/AV1" }], "encodings": [{ "ssrc": 1 }] });
        assert_eq!(stream(&other), None);
    }

    #[test]
    fn ffmpeg_is_given_what_it_can_take() {
        let router = json!({
            "codecs": [
                { "kind": "audio", "mimeType": "audio/opus", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2 },
                { "kind": "video", "mimeType": "video/VP8", "preferredPayloadType": 101, "clockRate": 90000 },
                { "kind": "video", "mimeType": "video/rtx", "preferredPayloadType": 102, "clockRate": 90000, "parameters": { "apt": 101 } },
                { "kind": "video", "mimeType": "video/AV1", "preferredPayloadType": 103, "clockRate": 90000 },
            ],
            "headerExtensions": [{ "kind": "video", "uri": "urn:3gpp:video-orientation", "preferredId": 4 }],
        });
        let given = capabilities(&router);
        let names: Vec<_> = given.codecs.iter().map(|codec| &*codec.mime_type).collect();
        assert_eq!(names, ["audio/opus", "video/VP8"]);
        assert!(given.header_extensions.is_empty());
    }
}
