//! Webhooks: events for those who cannot hold a stream. For each receiver one task copies from the
//! log of events into a bounded queue, and another one sends what is in it. A receiver that is slow
//! or dead costs its queue and nothing else. At least once, in order; what is missing is said.
//!
//! What was not delivered when this process stops is kept in the state directory, and sent by the
//! next one. Receivers stand in the file of `control.webhooks`, or were made by callers.

mod deliver;
mod file;
mod http;
mod made;
mod queue;
mod reach;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ipnet::IpNet;
use ironcast_api::{
    CreateWebhook, CreatedWebhook, ErrorCode, EventSeq, Id, Problem, WebhookInfo, WebhookList,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    call::internal,
    engine::Engine,
    events::{Entry, Lost},
};
pub use file::{FileError, Hook, Hooks, system_roots};
pub use http::{Connection, Endpoint};
pub use made::Made;
use made::{Row, reach_of};
use queue::{Bounds, Queue, Reason};
pub use reach::Reach;

/// In the state directory: what was not delivered, a file for each receiver.
const FOLDER: &str = "webhooks";
/// Events that are copied at once.
const PIECE_BYTES: usize = 256 << 10;
/// How often the place is written down at most.
const KEEP_EVERY: Duration = Duration::from_secs(1);

/// What holds for all receivers.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that says who they are.
    pub file: Option<PathBuf>,
    /// How many there may be.
    pub count_max: usize,
    /// Events that may wait for one of them.
    pub waiting_max: usize,
    /// And their bytes.
    pub waiting_bytes_max: usize,
    /// Events of one delivery.
    pub batch_max: usize,
    /// For the answer to a delivery.
    pub answer_within: Duration,
    /// Longest pause between two attempts.
    pub pause_max: Duration,
    /// Networks beside public ones that callers' receivers may be in.
    pub allow: Vec<IpNet>,
}

/// Of one receiver, for its tasks and for who looks.
struct Shared {
    settings: Settings,
    path: PathBuf,
    inner: Mutex<Inner>,
    /// Something waits.
    news: Notify,
    delivered: AtomicU64,
    failures: AtomicU64,
}

struct Inner {
    queue: Queue,
    /// Up to here the log was copied.
    cursor: EventSeq,
    kept_at: Option<Instant>,
}

/// What outlives the process.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The last event that was delivered.
    delivered: Option<EventSeq>,
    /// What came behind it.
    waiting: Vec<Value>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The body of the next delivery.
    fn next(&self) -> Option<String> {
        self.lock().queue.next()
    }

    fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    /// The delivery was taken.
    fn delivered(&self) {
        let mut inner = self.lock();
        let count = inner.queue.delivered();
        self.delivered.fetch_add(count, Ordering::Relaxed);
        if inner.kept_at.is_none_or(|at| at.elapsed() >= KEEP_EVERY) {
            inner.kept_at = Some(Instant::now());
            let kept = Kept { delivered: inner.queue.behind(), waiting: Vec::new() };
            drop(inner);
            self.keep(&kept);
        }
    }

    /// Copies what is new in the log; false when nothing is left.
    fn copy(&self, engine: &Engine, hook: &Hook) -> bool {
        let mut inner = self.lock();
        match engine.events.read(inner.cursor, None, PIECE_BYTES) {
            Err(Lost) => {
                let head = engine.events.head();
                let begin = EventSeq::new(head.epoch, 0);
                let is_same = inner.cursor.epoch == head.epoch;
                inner.queue.push_gap(if is_same { Reason::QueueFull } else { Reason::NewEpoch });
                inner.cursor = if is_same { head } else { begin };
            }
            Ok((entries, head)) => {
                let Some(last) = entries.last() else {
                    inner.cursor = head;
                    return false;
                };
                inner.cursor.number = last.number;
                for entry in entries.iter().filter(|entry| is_wanted(entry, hook)) {
                    if let Some((seq, data)) = parts(&entry.text) {
                        inner.queue.push_event(seq, entry.name, data);
                    }
                }
            }
        }
        drop(inner);
        self.news.notify_one();
        true
    }

    /// Writes down where the next process goes on.
    fn keep(&self, kept: &Kept) {
        let new = self.path.with_extension("new");
        let folder = self.path.parent().unwrap_or_else(|| Path::new("."));
        let done = std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&new, serde_json::to_vec(kept).unwrap_or_default()))
            .and_then(|()| std::fs::rename(&new, &self.path));
        if let Err(error) = done {
            let path = self.path.display();
            tracing::warn!(%path, %error, "the place of a webhook will not outlive this process");
        }
    }
}

fn is_wanted(entry: &Entry, hook: &Hook) -> bool {
    !entry.is_implied && hook.types.contains(entry.name) && entry.audience.has(&hook.principal)
}

/// Number and data of an event as it is written for streams.
fn parts(text: &str) -> Option<(EventSeq, &str)> {
    let seq = text.strip_prefix("id: ")?.split('\n').next()?.parse().ok()?;
    let data = text.split_once("\ndata: ")?.1;
    Some((seq, data.trim_end()))
}

struct Running {
    hook: watch::Sender<Hook>,
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Running {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Running {
    fn info(&self) -> WebhookInfo {
        let (figures, hook) = (self.figures(), self.hook.borrow());
        WebhookInfo {
            id: hook.name.clone(),
            origin: hook.endpoint.origin(),
            events: hook.types.iter().map(|name| (*name).to_owned()).collect(),
            principal: hook.of.clone(),
            is_configured: hook.is_configured,
            waiting: figures.waiting,
            delivered: figures.delivered,
            dropped: figures.dropped,
            failures: figures.failures,
        }
    }

    fn figures(&self) -> Figures {
        let inner = self.shared.lock();
        Figures {
            name: self.hook.borrow().name.to_string(),
            waiting: inner.queue.waiting() as u64,
            delivered: self.shared.delivered.load(Ordering::Relaxed),
            dropped: inner.queue.dropped,
            failures: self.shared.failures.load(Ordering::Relaxed),
        }
    }

    /// Whoever has this name later is somebody else.
    fn forget(self) {
        let _ = std::fs::remove_file(&self.shared.path);
    }
}

/// See the head of this file.
#[derive(Default)]
pub struct Webhooks(Mutex<All>);

#[derive(Default)]
struct All {
    running: BTreeMap<Id, Running>,
    /// Of the file.
    configured: BTreeSet<Id>,
    /// Of callers; there from the start on.
    made: Option<Made>,
}

/// How one receiver does.
#[derive(Debug, Clone)]
pub struct Figures {
    pub name: String,
    pub waiting: u64,
    pub delivered: u64,
    pub dropped: u64,
    pub failures: u64,
}

impl Webhooks {
    fn lock(&self) -> MutexGuard<'_, All> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The receivers of the file, and those that callers have made.
    pub fn start(&self, engine: &Arc<Engine>, hooks: Vec<Hook>, made: Made) {
        self.lock().made = Some(made);
        self.replace(engine, hooks);
        self.forget_others(&engine.config.state_dir.join(FOLDER));
    }

    /// What waited for receivers that were taken out of the file while no process ran: whoever gets
    /// one of their names is somebody else.
    fn forget_others(&self, folder: &Path) {
        let all = self.lock();
        let is_known = |name: &str| {
            let made = all.made.as_ref();
            all.running.contains_key(name) || made.is_some_and(|made| made.rows.contains_key(name))
        };
        // No folder, no files.
        for file in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = file.path();
            if !path.file_stem().and_then(|name| name.to_str()).is_some_and(is_known) {
                let _ = std::fs::remove_file(path);
            }
        }
    }

    /// These receivers stand in the file from now on. Who was there before keeps his queue.
    pub fn replace(&self, engine: &Arc<Engine>, mut hooks: Vec<Hook>) {
        let mut all = self.lock();
        let settings = &engine.config.webhooks;
        all.configured = hooks.iter().map(|hook| hook.name.clone()).collect();
        for hook in all.made.iter().flat_map(|made| made.hooks(&reach_of(&settings.allow))) {
            match all.configured.contains(&hook.name) {
                true => tracing::warn!(webhook = %hook.name, "the file has another of this name"),
                false => hooks.push(hook),
            }
        }
        let mut before = std::mem::take(&mut all.running);
        for hook in hooks {
            let name = hook.name.clone();
            let one = match before.remove(&name) {
                Some(one) => {
                    one.hook.send_replace(hook);
                    one
                }
                None => start(engine, hook, settings.clone()),
            };
            all.running.insert(name, one);
        }
        before.into_values().for_each(Running::forget);
    }

    /// A receiver of a caller; false if the same request has made it before. Events that happen from
    /// now on are delivered.
    pub fn create(
        &self,
        engine: &Arc<Engine>,
        id: &Id,
        request: CreateWebhook,
    ) -> Result<(bool, CreatedWebhook), Problem> {
        let settings = &engine.config.webhooks;
        let row = Row::new(CreateWebhook { id: Some(id.clone()), ..request });
        let hook = row.hook(id, &reach_of(&settings.allow)).map_err(|what| {
            let (field, what) = what.split_once(": ").unwrap_or(("", &what));
            Problem::invalid(format!("/{field}"), what)
        })?;
        let mut all = self.lock();
        let All { running, configured, made } = &mut *all;
        let Some(made) = made else { return Err(internal("webhooks have not begun")) };
        if let Some(known) = made.rows.get(id)
            && known.request == row.request
            && let Some(one) = running.get(id)
        {
            return Ok((false, CreatedWebhook { webhook: one.info(), secret: None }));
        }
        if made.rows.contains_key(id) || configured.contains(id) {
            let detail = format!("another webhook has the id \"{id}\"");
            return Err(Problem::new(ErrorCode::AlreadyExists, detail).with_pointer("/id"));
        }
        let (count, most) = (made.rows.len() + configured.len(), settings.count_max);
        if count >= most {
            let detail = format!("{count} webhooks, and {most} are allowed (events.webhooks_max)");
            return Err(Problem::new(ErrorCode::NoCapacity, detail).with_retry_after(5));
        }
        keep(made, id, Some(row.clone()))?;
        // Of one before, whose last delivery was just being noted.
        let _ = std::fs::remove_file(file_of(engine, id));
        let one = start(engine, hook, settings.clone());
        let created = CreatedWebhook { webhook: one.info(), secret: Some(row.secret) };
        running.insert(id.clone(), one);
        Ok((true, created))
    }

    /// A caller's receiver is sent nothing more; false if there is none.
    pub fn delete(&self, id: &Id) -> Result<bool, Problem> {
        let mut all = self.lock();
        if all.configured.contains(id) {
            let detail = format!("{id} stands in the file of control.webhooks");
            return Err(Problem::new(ErrorCode::WrongState, detail));
        }
        let Some(made) = all.made.as_mut().filter(|made| made.rows.contains_key(id)) else {
            return Ok(false);
        };
        keep(made, id, None)?;
        if let Some(one) = all.running.remove(id) {
            one.forget();
        }
        Ok(true)
    }

    /// One of them.
    pub fn info(&self, id: &Id) -> Result<WebhookInfo, Problem> {
        let all = self.lock();
        all.running.get(id).map(Running::info).ok_or_else(|| Problem::not_found("webhook", id))
    }

    /// All of them.
    pub fn list(&self) -> WebhookList {
        WebhookList { items: self.lock().running.values().map(Running::info).collect() }
    }

    /// The process ends: what was not delivered is written down.
    pub fn stop(&self, engine: &Engine) {
        for one in std::mem::take(&mut self.lock().running).into_values() {
            one.tasks.iter().for_each(JoinHandle::abort);
            let hook = one.hook.borrow().clone();
            while one.shared.copy(engine, &hook) {}
            let inner = one.shared.lock();
            let (delivered, waiting) = (inner.queue.behind(), inner.queue.undelivered());
            one.shared.keep(&Kept { delivered, waiting });
        }
    }

    /// The tasks end, and nothing is written: as if the process had been killed.
    pub fn abort(&self) {
        self.lock().running.clear();
    }

    /// For the metrics.
    pub fn figures(&self) -> Vec<Figures> {
        self.lock().running.values().map(Running::figures).collect()
    }
}

/// Writes down what there is now.
fn keep(made: &mut Made, id: &Id, row: Option<Row>) -> Result<(), Problem> {
    made.set(id, row).map_err(|error| {
        tracing::error!(%error, "webhooks cannot be written down");
        internal("nothing was changed: the state directory cannot be written to")
    })
}

/// Where the state of a receiver outlives the process.
fn file_of(engine: &Engine, name: &Id) -> PathBuf {
    engine.config.state_dir.join(FOLDER).join(format!("{name}.json"))
}

fn start(engine: &Arc<Engine>, hook: Hook, settings: Settings) -> Running {
    let path = file_of(engine, &hook.name);
    let kept =
        std::fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    let bounds = Bounds {
        events: settings.waiting_max,
        bytes: settings.waiting_bytes_max,
        batch: settings.batch_max,
    };
    let mut queue = Queue::new(bounds, kept.as_ref().and_then(|kept| kept.delivered));
    let mut cursor = engine.events.head();
    if let Some(kept) = kept {
        queue.restore(&kept.waiting);
        // Nobody saw what happened between the two processes.
        queue.push_gap(Reason::NewEpoch);
        cursor.number = 0;
    }
    tracing::info!(webhook = %hook.name, to = ?hook.endpoint, waiting = queue.waiting(), "a webhook");
    let shared = Arc::new(Shared {
        settings,
        path,
        inner: Mutex::new(Inner { queue, cursor, kept_at: None }),
        news: Notify::new(),
        delivered: AtomicU64::default(),
        failures: AtomicU64::default(),
    });
    let (hook, told) = watch::channel(hook);
    let following = tokio::spawn(follow(Arc::clone(engine), Arc::clone(&shared), told.clone()));
    let delivering = tokio::spawn(deliver::deliver(Arc::clone(&shared), told));
    Running { hook, shared, tasks: [following, delivering] }
}

/// Lives until it is aborted.
async fn follow(engine: Arc<Engine>, shared: Arc<Shared>, hook: watch::Receiver<Hook>) {
    let mut wake = engine.events.subscribe(None);
    loop {
        wake.borrow_and_update();
        let to = hook.borrow().clone();
        while shared.copy(&engine, &to) {
            tokio::task::yield_now().await;
        }
        if wake.changed().await.is_err() {
            return;
        }
    }
}
