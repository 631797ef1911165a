//! Webhooks: events for those who cannot hold a stream. For each receiver one task copies from the
//! log of events into a bounded queue, and another one sends what is in it. A receiver that is slow
//! or dead costs its queue and nothing else. At least once, in order; what is missing is said.
//!
//! What was not delivered when this process stops is kept in the state directory, and sent by the
//! next one.

mod deliver;
mod file;
mod http;
mod queue;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ironcast_api::{EventSeq, Id};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{Notify, watch},
    task::JoinHandle,
};

use crate::{
    engine::Engine,
    events::{Entry, Lost},
};
pub use file::{FileError, Hook, Hooks};
use queue::{Bounds, Queue, Reason};

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

/// See the head of this file.
#[derive(Default)]
pub struct Webhooks(Mutex<BTreeMap<Id, Running>>);

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
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Id, Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These receivers from now on. Who was there before keeps his queue.
    pub fn replace(&self, engine: &Arc<Engine>, hooks: Vec<Hook>, settings: &Settings) {
        let mut running = self.lock();
        let mut before = std::mem::take(&mut *running);
        for hook in hooks {
            let name = hook.name.clone();
            let one = match before.remove(&name) {
                Some(one) => {
                    one.hook.send_replace(hook);
                    one
                }
                None => start(engine, hook, settings.clone()),
            };
            running.insert(name, one);
        }
        for gone in before.into_values() {
            // Whoever has this name later is somebody else.
            let _ = std::fs::remove_file(&gone.shared.path);
        }
    }

    /// The process ends: what was not delivered is written down.
    pub fn stop(&self, engine: &Engine) {
        for one in std::mem::take(&mut *self.lock()).into_values() {
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
        self.lock().clear();
    }

    /// For the metrics.
    pub fn figures(&self) -> Vec<Figures> {
        let running = self.lock();
        let figures = running.iter().map(|(name, one)| {
            let inner = one.shared.lock();
            Figures {
                name: name.to_string(),
                waiting: inner.queue.waiting() as u64,
                delivered: one.shared.delivered.load(Ordering::Relaxed),
                dropped: inner.queue.dropped,
                failures: one.shared.failures.load(Ordering::Relaxed),
            }
        });
        figures.collect()
    }
}

fn start(engine: &Arc<Engine>, hook: Hook, settings: Settings) -> Running {
    let path = engine.config.state_dir.join("webhooks").join(format!("{}.json", hook.name));
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
