//! Who created, closed, captured and drained what: the last entries in memory for `GET /audit`, all
//! of them as lines of JSON in a file if one is configured. Told by `routes` after each call that
//! has changed something; nobody waits for the file. Holds names and ids, never a proof.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use ironcast_api::{AuditEntry, Id};
use ironcast_log::{Change, Steady};
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

use crate::{
    auth::Principal,
    call::{About, Answer},
    events::unix_ms,
    routes::{Op, Route},
};

/// Lines that may wait for the disk; others are dropped, and counted.
const LINES_WAITING_MAX: usize = 16_384;

/// See the head of this file.
pub struct Audit(Mutex<Inner>);

struct Inner {
    kept: VecDeque<Kept>,
    kept_max: usize,
    /// Of all since the start.
    count: u64,
    file: Option<Lines>,
    /// Of files before this one.
    dropped_before: u64,
}

/// An [`AuditEntry`] in a third of its memory: there are ten thousand, and most names are shared.
#[derive(Clone)]
struct Kept {
    number: u64,
    time: u64,
    principal: Arc<str>,
    address: Option<IpAddr>,
    action: &'static str,
    kind: &'static str,
    about: About,
}

impl From<Kept> for AuditEntry {
    fn from(kept: Kept) -> Self {
        Self {
            number: kept.number,
            time: kept.time,
            principal: kept.principal.to_string(),
            address: kept.address.map(|address| address.to_string()),
            action: kept.action.to_owned(),
            kind: kept.kind.to_owned(),
            id: kept.about.id,
            router_id: kept.about.router_id,
        }
    }
}

/// An open file. What waits for it is written when it is dropped.
pub struct Lines {
    out: NonBlocking,
    dropped: ErrorCounter,
    failed: Arc<AtomicU64>,
    _writer: WorkerGuard,
}

impl Lines {
    /// Opens a file to be written on.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        let builder = NonBlockingBuilder::default().lossy(true);
        let builder = builder.buffered_lines_limit(LINES_WAITING_MAX).thread_name("audit");
        let (failed, path) = (Arc::<AtomicU64>::default(), path.display().to_string());
        let file = Steady::new(file, Arc::clone(&failed), move |change| match change {
            Change::Fails(error) => {
                tracing::error!(path, %error, "audit entries are lost; calls go on");
            }
            Change::GoesOn { lost } => {
                tracing::warn!(path, lost, "audit entries are written again")
            }
        });
        let (out, writer) = builder.finish(file);
        Ok(Self { dropped: out.error_counter(), failed, out, _writer: writer })
    }
}

/// Which entries are asked for.
#[derive(Debug, Default)]
pub struct Filter {
    pub principal: Option<String>,
    pub router_id: Option<Id>,
    pub limit: usize,
}

impl Audit {
    /// Nothing has happened yet; so many entries are kept.
    #[must_use]
    pub fn new(kept_max: usize, file: Option<Lines>) -> Self {
        let inner = Inner { kept: VecDeque::new(), kept_max, count: 0, file, dropped_before: 0 };
        Self(Mutex::new(inner))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps so many from now on, and writes to another file (the same one after it was rotated).
    pub fn replace(&self, kept_max: usize, file: Option<Lines>) {
        let mut inner = self.inner();
        inner.kept_max = kept_max;
        inner.dropped_before = inner.dropped();
        let before = std::mem::replace(&mut inner.file, file);
        drop(inner);
        // Waits for what was not written yet.
        drop(before);
    }

    /// Entries since the start, and lines that were dropped.
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let inner = self.inner();
        (inner.count, inner.dropped())
    }

    /// Notes what a call has done, if that is something to note.
    pub fn note(&self, who: &Principal, route: &Route, answer: &Answer) {
        let about = answer.about.clone();
        let Some((action, kind)) = action_of(route) else { return };
        if about.is_none() && kind != HOST {
            // A repeat, or nothing was there to close.
            return;
        }
        self.note_by(who, (action, kind), about.unwrap_or_default());
    }

    /// Notes that somebody looks into the packets of a transport.
    pub fn note_capture(&self, who: &Principal, with_payload: bool, about: About) {
        let action = if with_payload { "capture_payload" } else { "capture" };
        self.note_by(who, (action, "transport"), about);
    }

    fn note_by(&self, who: &Principal, (action, kind): (&'static str, &'static str), about: About) {
        self.add(Kept {
            number: 0,
            time: unix_ms(),
            principal: Arc::clone(&who.name),
            address: who.address,
            action,
            kind,
            about,
        });
    }

    /// Notes what somebody has done by a signal to the process.
    pub fn note_signal(&self, action: &'static str) {
        self.add(Kept {
            number: 0,
            time: unix_ms(),
            principal: "signal".into(),
            address: None,
            action,
            kind: HOST,
            about: About::default(),
        });
    }

    fn add(&self, mut entry: Kept) {
        let mut inner = self.inner();
        inner.count += 1;
        entry.number = inner.count;
        if let Some(file) = &mut inner.file {
            match serde_json::to_vec(&AuditEntry::from(entry.clone())) {
                Ok(mut line) => {
                    line.push(b'\n');
                    // It is handed to another thread: this cannot fail.
                    let _ = file.out.write_all(&line);
                }
                Err(error) => tracing::error!(%error, "an audit entry cannot be written"),
            }
        }
        while inner.kept.len() >= inner.kept_max.max(1) {
            inner.kept.pop_front();
        }
        inner.kept.push_back(entry);
    }

    /// The last entries, the newest last.
    #[must_use]
    pub fn last(&self, filter: &Filter) -> Vec<AuditEntry> {
        let is_wanted = |entry: &&Kept| {
            let is_his = filter.principal.as_ref().is_none_or(|name| *entry.principal == **name);
            let router_id = entry.about.router_id.as_ref();
            is_his && filter.router_id.as_ref().is_none_or(|id| router_id == Some(id))
        };
        let inner = self.inner();
        let newest = inner.kept.iter().rev().filter(is_wanted).take(filter.limit);
        let mut found: Vec<AuditEntry> = newest.cloned().map(AuditEntry::from).collect();
        found.reverse();
        found
    }
}

impl Inner {
    fn dropped(&self) -> u64 {
        let lost = |file: &Lines| {
            file.dropped.dropped_lines() as u64 + file.failed.load(Ordering::Relaxed)
        };
        self.dropped_before + self.file.as_ref().map_or(0, lost)
    }
}

/// The kind of what is about all.
const HOST: &str = "host";

fn action_of(route: &Route) -> Option<(&'static str, &'static str)> {
    Some(match route.op {
        Op::CreateRouter => ("create", "router"),
        Op::CreateTransport => ("create", "transport"),
        Op::CreateProducer => ("create", "producer"),
        Op::CreateConsumer => ("create", "consumer"),
        Op::CreateObserver => ("create", "observer"),
        Op::CreatePipe => ("create", "pipe"),
        Op::CreateWebhook => ("create", "webhook"),
        Op::DeleteRouter => ("close", "router"),
        Op::DeleteTransport => ("close", "transport"),
        Op::DeleteProducer => ("close", "producer"),
        Op::DeleteConsumer => ("close", "consumer"),
        Op::DeleteObserver => ("close", "observer"),
        Op::DeleteWebhook => ("close", "webhook"),
        Op::Leave => ("close", "participant"),
        _ if route.method == "GET" => return None,
        // `reload`, `drain`, `undrain`.
        _ => (route.path.strip_prefix("/admin/")?, HOST),
    })
}
