//! The media hosts: how each is reached, whether it is there, how much it has to do, and which one a
//! new room goes to. Most services have one. Nothing is asked here: `service::health` looks, and
//! whoever asks a host says here how that went.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use ironcast_api::Id;
use ironcast_config::HostPlacement;
use tokio::sync::{Notify, watch};

use crate::failure::Failure;
use crate::media::{Draining, Load, Media};

/// How often we look whether a host is there.
const LOOK: Duration = Duration::from_secs(1);

/// The same while it seems not to be.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// Between a request that was not answered and the look that it brings about.
const LOOK_SOON: Duration = Duration::from_millis(50);

/// A host that takes no more rooms is not asked for so long.
const FULL_FOR: Duration = Duration::from_secs(2);

/// Loads within such a step count as equal: then the number of rooms decides.
const LOAD_STEP: f64 = 0.05;

/// A media host, by its place among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct HostId(usize);

/// A media host as it is configured.
#[derive(Clone)]
pub struct MediaHost {
    /// As records, metrics and logs have it.
    pub name: String,
    /// Where it is.
    pub region: Option<String>,
    /// Its control API, as others are told.
    pub url: Option<String>,
    /// The same as the other hosts find it.
    pub pipe_url: Option<String>,
    /// The way to it.
    pub media: Arc<dyn Media>,
}

impl MediaHost {
    /// Where there is no other.
    pub fn only(media: Arc<dyn Media>) -> Self {
        Self { name: "default".to_owned(), region: None, url: None, pipe_url: None, media }
    }
}

/// Whether a host is there.
struct Health {
    /// Since when it has not answered; none while it does.
    failing_since: Mutex<Option<Instant>>,
    is_away: AtomicBool,
    look_now: Notify,
}

/// What a room's place is chosen by.
#[derive(Default)]
struct Figures {
    load: Load,
    /// Rooms that it was given since.
    placed: u32,
    /// It takes no rooms before.
    full_until: Option<Instant>,
    /// It takes nobody before, in no room.
    crowded_until: Option<Instant>,
    draining: Draining,
}

/// A media host, and what is known of it.
pub struct Host {
    /// As it is configured.
    pub about: MediaHost,
    health: Health,
    figures: Mutex<Figures>,
    /// Whether the event stream is open.
    is_connected: AtomicBool,
    /// Whether it said so last.
    is_ready: AtomicBool,
    /// Whether the rooms that it had at our start are known.
    is_in_step: AtomicBool,
    /// Something could not be freed: both sides must be compared.
    is_out_of_step: AtomicBool,
}

impl fmt::Display for Host {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.about.name)
    }
}

impl Host {
    fn new(about: MediaHost) -> Self {
        let look_now = Notify::new();
        let (failing_since, is_away) = (Mutex::default(), AtomicBool::new(false));
        Self {
            about,
            health: Health { failing_since, is_away, look_now },
            figures: Mutex::default(),
            is_connected: AtomicBool::new(false),
            is_ready: AtomicBool::new(false),
            is_in_step: AtomicBool::new(false),
            is_out_of_step: AtomicBool::new(false),
        }
    }

    fn failing_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.health.failing_since.lock().expect("no panic inside")
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().expect("no panic inside")
    }

    /// Its health check has failed for a while.
    pub fn is_away(&self) -> bool {
        self.health.is_away.load(Ordering::Relaxed)
    }

    /// It answered.
    pub(crate) fn note_answer(&self) {
        *self.failing_since() = None;
    }

    /// It did not answer; gives since when. It is looked at soon.
    pub(crate) fn note_failure(&self) -> Instant {
        self.health.look_now.notify_one();
        *self.failing_since().get_or_insert_with(Instant::now)
    }

    /// Its health check passed, or did not, that began then; gives whether it is away from now on, if
    /// that is new.
    pub(crate) fn checked(
        &self,
        began: Instant,
        is_there: bool,
        patience: Duration,
    ) -> Option<bool> {
        if is_there {
            self.note_answer();
            return self.health.is_away.swap(false, Ordering::Relaxed).then_some(false);
        }
        let since = *self.failing_since().get_or_insert(began);
        let is_late = since.elapsed() >= patience;
        (is_late && !self.health.is_away.swap(true, Ordering::Relaxed)).then_some(true)
    }

    /// Until it is time to look.
    pub(crate) async fn until_due(&self) {
        let is_failing = self.failing_since().is_some();
        if is_failing {
            return tokio::time::sleep(LOOK_AGAIN).await;
        }
        if tokio::time::timeout(LOOK, self.health.look_now.notified()).await.is_ok() {
            tokio::time::sleep(LOOK_SOON).await;
        }
    }

    pub(crate) fn set_connected(&self, is_connected: bool) {
        self.is_connected.store(is_connected, Ordering::Relaxed);
    }

    pub(crate) fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }

    /// Whether it takes new rooms, and its events are heard.
    pub fn is_ready(&self) -> bool {
        self.is_connected.load(Ordering::Relaxed) && self.is_ready.load(Ordering::Relaxed)
    }

    pub(crate) fn is_in_step(&self) -> bool {
        self.is_in_step.load(Ordering::Relaxed)
    }

    pub(crate) fn set_out_of_step(&self) {
        self.is_out_of_step.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take_out_of_step(&self) -> bool {
        self.is_out_of_step.swap(false, Ordering::Relaxed)
    }

    /// Whether it is being taken out of service.
    pub(crate) fn draining(&self) -> Draining {
        self.figures().draining
    }

    /// Gives whether that is new.
    pub(crate) fn set_draining(&self, draining: Draining) -> bool {
        std::mem::replace(&mut self.figures().draining, draining) != draining
    }

    pub(crate) fn set_load(&self, load: Load) {
        let mut figures = self.figures();
        (figures.load, figures.placed) = (load, 0);
    }

    /// It has refused a room.
    pub(crate) fn set_full(&self, now: Instant) {
        self.figures().full_until = Some(now + FULL_FOR);
    }

    /// It has refused somebody's transport.
    pub(crate) fn set_crowded(&self, now: Instant) {
        self.figures().crowded_until = Some(now + FULL_FOR);
    }

    /// Whether somebody who comes to a room that is here can be here, as far as is known.
    pub(crate) fn takes_people(&self, now: Instant) -> bool {
        let is_crowded = self.figures().crowded_until.is_some_and(|until| now < until);
        !self.is_away() && !is_crowded
    }

    /// Ascending: load in steps, then rooms.
    fn order(&self) -> (u32, u32) {
        let figures = self.figures();
        let step = (figures.load.load.clamp(0.0, 1.0) / LOAD_STEP) as u32;
        (step, figures.load.routers.saturating_add(figures.placed))
    }

    /// Rendezvous hashing: another number of hosts moves as few rooms as possible.
    fn weight(&self, room_id: &Id) -> Vec<u8> {
        // Ids have no line breaks: no two pairs give the same text.
        let text = format!("{room_id}\n{}", self.about.name);
        digest(&SHA256, text.as_bytes()).as_ref().to_vec()
    }
}

/// Why a host gets no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Unfit {
    Away,
    Draining,
    Full,
}

/// All of them; at least one.
pub struct Hosts {
    all: Vec<Host>,
    placement: HostPlacement,
    /// One went away, or its rooms are known now.
    changed: watch::Sender<()>,
}

impl Hosts {
    pub(crate) fn new(hosts: Vec<MediaHost>, placement: HostPlacement) -> Self {
        assert!(!hosts.is_empty(), "there is no media without a media host");
        let all = hosts.into_iter().map(Host::new).collect();
        Self { all, placement, changed: watch::Sender::new(()) }
    }

    /// All of them.
    pub fn ids(&self) -> impl Iterator<Item = HostId> + use<> {
        (0..self.all.len()).map(HostId)
    }

    /// One of them.
    pub fn get(&self, id: HostId) -> &Host {
        // Ids are made here alone.
        &self.all[id.0]
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Host> {
        self.all.iter()
    }

    /// Something that `until_in_step` waits for.
    pub(crate) fn note_change(&self) {
        self.changed.send_replace(());
    }

    /// The rooms that it had at our start are known now; gives whether that is new.
    pub(crate) fn set_in_step(&self, id: HostId) -> bool {
        let is_new = !self.get(id).is_in_step.swap(true, Ordering::Relaxed);
        if is_new {
            self.note_change();
        }
        is_new
    }

    /// Until the rooms of the last start are known a room might be made twice. Those at a host that
    /// is away are lost.
    pub(crate) async fn until_in_step(&self) -> Result<(), Failure> {
        let mut changed = self.changed.subscribe();
        while !self.all.iter().all(|host| host.is_in_step() || host.is_away()) {
            if changed.changed().await.is_err() {
                break;
            }
        }
        let is_any = self.all.iter().any(Host::is_in_step);
        if is_any { Ok(()) } else { Err(Failure::media_unavailable()) }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.all.len()
    }

    /// Whether a host is where somebody is.
    pub(crate) fn is_near(&self, id: HostId, region: Option<&str>) -> bool {
        region.is_some() && self.get(id).about.region.as_deref() == region
    }

    /// A router as all nodes of a fleet know it.
    pub(crate) fn write(&self, router_id: &Id, host: HostId) -> String {
        if self.all.len() == 1 {
            return router_id.to_string();
        }
        format!("{router_id}@{}", self.get(host))
    }

    /// The router, and its host, unless this node does not know it. What names none was written
    /// while there was one.
    pub(crate) fn read(&self, written: &str) -> Option<(Id, HostId)> {
        let (id, host) = match written.split_once('@') {
            Some((id, name)) => {
                (id, HostId(self.all.iter().position(|host| host.about.name == name)?))
            }
            None => (written, HostId(0)),
        };
        Some((Id::new(id).ok()?, host))
    }

    /// Where a new room goes: to a host that is there and takes rooms, of this region if there is
    /// one. `but`: not there.
    pub(crate) fn place(
        &self,
        room_id: &Id,
        region: Option<&str>,
        but: &[HostId],
        now: Instant,
    ) -> Result<HostId, Failure> {
        if self.all.len() == 1 && but.is_empty() {
            return Ok(HostId(0));
        }
        let others = self.ids().filter(|id| !but.contains(id));
        let (fit, unfit): (Vec<_>, Vec<_>) =
            others.map(|id| (id, self.unfit(id, now))).partition(|(_, unfit)| unfit.is_none());
        let near = |id: &HostId| self.is_near(*id, region);
        let is_any_near = fit.iter().any(|(id, _)| near(id));
        let fit = fit.into_iter().map(|(id, _)| id).filter(|id| near(id) || !is_any_near);
        let chosen = match self.placement {
            HostPlacement::LeastLoaded => fit.min_by_key(|id| self.get(*id).order()),
            HostPlacement::Hash => fit.max_by_key(|id| self.get(*id).weight(room_id)),
        };
        let Some(chosen) = chosen else {
            return Err(match unfit.iter().filter_map(|(_, unfit)| *unfit).max() {
                Some(Unfit::Full) => Failure::no_capacity("no media host takes another room now"),
                Some(Unfit::Draining) => {
                    Failure::new("draining", "the media hosts are being taken out of service")
                }
                Some(Unfit::Away) | None => Failure::media_unavailable(),
            });
        };
        self.get(chosen).figures().placed += 1;
        Ok(chosen)
    }

    /// Whether a room could be placed there.
    pub(crate) fn has_other(&self, than: HostId, now: Instant) -> bool {
        self.ids().any(|id| id != than && self.unfit(id, now).is_none())
    }

    fn unfit(&self, id: HostId, now: Instant) -> Option<Unfit> {
        let host = self.get(id);
        // Of one that was not heard of yet nobody knows what it has.
        if host.is_away() || !host.is_in_step() {
            return Some(Unfit::Away);
        }
        let figures = host.figures();
        if figures.draining != Draining::No {
            return Some(Unfit::Draining);
        }
        let untils = [figures.full_until, figures.crowded_until];
        untils.iter().flatten().any(|until| now < *until).then_some(Unfit::Full)
    }
}
