//! `GET /events`: one task for each stream copies from the log to the response. What counts as slow
//! is what a reader's own connection does not take: however much happens at once, who takes what he
//! is given is not cut. Nobody else notices a slow one.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use ironcast_api::{ErrorCode, EventData, EventSeq, Id, Problem};
use tokio::{
    sync::{mpsc, watch},
    time::timeout,
};

use crate::{
    auth::{Gate, Principal, unix_s},
    call::Call,
    engine::Engine,
    events::{Entry, Lost},
    limits::check_count,
};

/// Events that are written at once.
const PIECE_BYTES: usize = 64 << 10;
/// Pieces between the task and the connection.
const PIECES: usize = 4;
/// A reader who takes nothing for so long is cut.
const STALL_MAX: Duration = Duration::from_secs(20);
/// One who takes nothing for so long, and has too many events before him, too.
const STALL_MAX_BEHIND: Duration = Duration::from_secs(2);
/// How often that is looked at.
const STALL_CHECK: Duration = Duration::from_millis(250);

/// In the contract, but this version never tells it: asking for it is no mistake.
const NOT_YET: &str = "transport.sctpstatechange";

/// A stream as `doors` needs it.
pub struct Opened {
    /// Ends when the stream is cut or the server stops.
    pub pieces: mpsc::Receiver<Bytes>,
    /// Where it begins.
    pub seq: EventSeq,
    /// Held for as long as anything of the stream is: what was written and not taken counts too.
    pub slot: Slot,
}

/// What ends a stream beside its reader.
pub struct Ends {
    /// The server stops.
    pub stopping: watch::Receiver<bool>,
    /// The caller may not call any more.
    pub gate: Arc<Gate>,
}

struct Stream {
    engine: Arc<Engine>,
    caller: Principal,
    gate: Arc<Gate>,
    cursor: EventSeq,
    /// Up to here it is a repetition: without scores.
    replay_end: u64,
    router_id: Option<Id>,
    types: Option<BTreeSet<String>>,
    /// Also the events that others imply.
    with_children: bool,
    wake: watch::Receiver<EventSeq>,
    out: mpsc::Sender<Bytes>,
    stopping: watch::Receiver<bool>,
}

/// Counts the open streams, all of them and those of each principal.
pub struct Slot {
    engine: Arc<Engine>,
    owner: Option<Arc<str>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.engine.metrics.streams.dec();
        let Some(owner) = &self.owner else { return };
        let mut streams = self.engine.streams();
        if let Some(count) = streams.get_mut(owner) {
            *count -= 1;
            if *count == 0 {
                streams.remove(owner);
            }
        }
    }
}

/// Begins a stream. `break_off` is called when the reader takes nothing for too long.
pub fn open(
    engine: &Arc<Engine>,
    call: &Call,
    last_event_id: Option<&str>,
    ends: Ends,
    break_off: impl FnOnce() + Send + 'static,
) -> Result<Opened, Problem> {
    let query = call.query(&["after", "routerId", "types", "children"])?;
    let with_children = query.flag("children")?;
    let router_id = query.id("routerId")?;
    let types = query.get("types").map(types_of).transpose()?;
    // A browser's EventSource repeats its address when it comes back: the header is newer.
    let after = last_event_id.or_else(|| query.get("after").filter(|after| !after.is_empty()));
    let after = after.map(position).transpose()?;
    let slot = take_slot(engine, &call.caller)?;
    // First, so that nothing is missed between it and the head.
    let wake = engine.events.subscribe(router_id.as_ref());
    let head = engine.events.head();
    let cursor = after.unwrap_or(head);
    if engine.events.read(cursor, router_id.as_ref(), 0).is_err() {
        return Err(lost());
    }
    if with_children && engine.events.follow_implied(cursor, Instant::now()).is_err() {
        return Err(lost());
    }
    let (out, pieces) = mpsc::channel(PIECES);
    let stream = Stream {
        engine: Arc::clone(engine),
        caller: call.caller.clone(),
        gate: ends.gate,
        cursor,
        replay_end: head.number,
        router_id,
        types,
        with_children,
        wake,
        out,
        stopping: ends.stopping,
    };
    tokio::spawn(async move {
        if stream.run().await.is_err() {
            break_off();
        }
    });
    Ok(Opened { pieces, seq: cursor, slot })
}

fn take_slot(engine: &Arc<Engine>, who: &Principal) -> Result<Slot, Problem> {
    let open = usize::try_from(engine.metrics.streams.inc()).unwrap_or_default();
    let owner = who.owner();
    let max = owner.as_ref().map_or(0, |owner| engine.limits().quota_of(owner).streams);
    let own = owner.clone().map_or(0, |owner| {
        let mut streams = engine.streams();
        let count = streams.entry(owner).or_default();
        *count += 1;
        *count - 1
    });
    let slot = Slot { engine: Arc::clone(engine), owner };
    check_count(own, max, "event streams of this principal")?;
    if open >= engine.config.events.streams_max {
        let detail = format!("{open} event streams are open already");
        return Err(Problem::new(ErrorCode::NoCapacity, detail).with_retry_after(5));
    }
    Ok(slot)
}

fn lost() -> Problem {
    let detail = "events after this number are not kept any more: take GET /snapshot and go on \
                  from its seq";
    Problem::new(ErrorCode::EventsLost, detail)
}

fn position(text: &str) -> Result<EventSeq, Problem> {
    // What looks like a number of another server is of another epoch.
    text.trim().parse().map_err(|error: ironcast_api::events::InvalidEventSeq| {
        if text.contains('-') { lost() } else { Problem::invalid("?after", error.to_string()) }
    })
}

fn types_of(text: &str) -> Result<BTreeSet<String>, Problem> {
    let types: BTreeSet<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let is_known = |name: &str| EventData::NAMES.contains(&name) || name == NOT_YET;
    match types.iter().find(|name| !is_known(name)) {
        None => Ok(types),
        Some(name) => Err(Problem::invalid("?types", format!("there is no event {name:?}"))),
    }
}

/// The connection takes nothing.
struct Stalled;

impl Stream {
    async fn run(mut self) -> Result<(), Stalled> {
        let mut text = String::from(": ironcast\n\n");
        let mut proofs = self.gate.changes();
        // They may have changed since he was let in.
        proofs.mark_changed();
        let end =
            self.caller.expires_s.map(|end| Duration::from_secs(end.saturating_sub(unix_s())));
        // Further ahead than a timer goes is as good as never.
        let expired = tokio::time::sleep(end.unwrap_or(Duration::MAX));
        tokio::pin!(expired);
        loop {
            if !text.is_empty() && !self.write(Bytes::from(std::mem::take(&mut text))).await? {
                return Ok(());
            }
            self.wake.borrow_and_update();
            match self.read(&mut text) {
                Err(Lost) => {
                    self.count_cut();
                    return Ok(());
                }
                Ok(true) => continue,
                Ok(false) => {}
            }
            let comment_every = self.engine.config.events.comment_every;
            let is_silent = tokio::select! {
                changed = self.wake.changed() => match changed {
                    Ok(()) => false,
                    Err(_) => return Ok(()),
                },
                () = tokio::time::sleep(comment_every) => true,
                () = self.out.closed() => return Ok(()),
                () = &mut expired => return Ok(()),
                Ok(()) = proofs.changed() => {
                    if !self.gate.holds(&self.caller) {
                        return Ok(());
                    }
                    false
                }
                _ = self.stopping.wait_for(|is_stopping| *is_stopping) => return Ok(()),
            };
            if is_silent {
                self.write_comment(&mut text);
            }
        }
    }

    /// Hands a piece to the connection; false if the reader has gone.
    async fn write(&self, piece: Bytes) -> Result<bool, Stalled> {
        let begun = Instant::now();
        loop {
            match timeout(STALL_CHECK, self.out.reserve()).await {
                Ok(Ok(slot)) => {
                    slot.send(piece);
                    return Ok(true);
                }
                Ok(Err(_)) => return Ok(false),
                Err(_) if self.is_stalled(begun.elapsed()) => {
                    self.count_cut();
                    return Err(Stalled);
                }
                Err(_) => {}
            }
        }
    }

    /// Whether the reader has taken nothing for too long. Who repeats what he missed may be far
    /// behind at first.
    fn is_stalled(&self, waited: Duration) -> bool {
        if waited < STALL_MAX_BEHIND {
            return false;
        }
        let lag = self.engine.events.lag(self.cursor);
        let is_behind = lag > self.engine.config.events.waiting_max;
        waited >= STALL_MAX || (is_behind && self.cursor.number >= self.replay_end)
    }

    /// Takes what is next out of the log; false if there is nothing.
    fn read(&mut self, text: &mut String) -> Result<bool, Lost> {
        let events = &self.engine.events;
        if self.with_children {
            events.follow_implied(self.cursor, Instant::now())?;
        }
        let (entries, head) = events.read(self.cursor, self.router_id.as_ref(), PIECE_BYTES)?;
        let Some(last) = entries.last() else {
            // Nothing, or only scores that were replaced.
            self.cursor = head;
            return Ok(false);
        };
        self.cursor.number = last.number;
        for entry in entries.iter().filter(|entry| self.is_wanted(entry)) {
            text.push_str(&entry.text);
            // What is repeated for who resumes is old by intention.
            if entry.number > self.replay_end {
                self.engine.metrics.event_lag.observe(entry.at.elapsed().as_secs_f64());
            }
        }
        Ok(true)
    }

    fn is_wanted(&self, entry: &Entry) -> bool {
        let is_repeated_score = entry.is_coalesced() && entry.number <= self.replay_end;
        let is_of_types = self.types.as_ref().is_none_or(|types| types.contains(entry.name));
        let is_asked_for = self.with_children || !entry.is_implied;
        let is_for_him = entry.audience.has(&self.caller);
        is_for_him && !is_repeated_score && is_of_types && is_asked_for
    }

    /// Also tells where to resume: with a filter, all events since may have been left out.
    fn write_comment(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(text, ": still here\nid: {}\n\n", self.cursor);
    }

    fn count_cut(&self) {
        self.engine.metrics.streams_cut.inc();
    }
}
