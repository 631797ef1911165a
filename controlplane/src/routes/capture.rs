//! `GET /transports/{id}/capture`: the packets of a transport in a running call, in the clear, as a
//! file for Wireshark that is written while they come. The dataplane is asked again and again; when
//! nobody reads any more it ends there by itself.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::BoxStream};
use ironcast_api::{ErrorCode, EventSeq, Id, Problem};
use ironcast_protocol::{
    Command, Reply,
    capture::{Captured, TakeCapture},
};
use tokio::time::{Instant, MissedTickBehavior};

use super::stream::Ends;
use crate::{
    auth::Principal,
    call::{About, Call, internal},
    engine::{Engine, State, Step, unexpected},
    pcap::File,
};

/// Of the body.
pub const MEDIA_TYPE: &str = "application/x-pcapng";
/// Between two questions to the dataplane.
const EVERY: Duration = Duration::from_millis(100);
/// Without `?seconds=`.
const SECONDS: u32 = 60;
/// At most.
pub const SECONDS_MAX: u32 = 3_600;
/// Captures of this host at once.
const CAPTURES_MAX: i64 = 16;

/// A capture as `doors` needs it.
pub struct Opened {
    /// The body.
    pub pieces: BoxStream<'static, Bytes>,
    /// The last event when it began.
    pub seq: EventSeq,
}

/// Counts the running captures.
struct Slot(Arc<Engine>);

impl Slot {
    fn take(engine: &Arc<Engine>) -> Result<Self, Problem> {
        let running = engine.metrics.captures.inc();
        let slot = Self(Arc::clone(engine));
        if running < CAPTURES_MAX {
            return Ok(slot);
        }
        let detail = format!("{CAPTURES_MAX} captures run on this host already");
        Err(Problem::new(ErrorCode::NoCapacity, detail).with_retry_after(5))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.metrics.captures.dec();
    }
}

struct Capture {
    slot: Slot,
    caller: Principal,
    id: Id,
    take: TakeCapture,
    file: File,
    dropped: u64,
    ticks: tokio::time::Interval,
    end: Instant,
    ends: Ends,
}

/// Begins a capture.
pub async fn open(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    ends: Ends,
) -> Result<Opened, Problem> {
    let query = call.query(&["payload", "seconds"])?;
    let payload = query.flag("payload")?;
    let seconds = query.number("seconds")?.unwrap_or(SECONDS);
    if !(1..=SECONDS_MAX).contains(&seconds) {
        return Err(Problem::invalid("?seconds", format!("seconds is 1 to {SECONDS_MAX}")));
    }
    let caller = call.caller.clone();
    if payload && !caller.is_admin() {
        let detail =
            "what packets carry is for the scope admin; without ?payload= their headers come";
        return Err(Problem::new(ErrorCode::Forbidden, detail));
    }
    let slot = Slot::take(engine)?;
    let take = TakeCapture { id: id.to_string(), payload, is_last: false };
    let ((_, router_id), seq) = ask(engine, &caller, id, &take).await?;
    let about = About { id: Some(id.clone()), router_id: Some(router_id) };
    engine.audit.note_capture(&caller, payload, about);
    let file = File::new(id.as_str()).map_err(|error| internal(&error.to_string()))?;
    tracing::info!(transport = id.as_str(), by = &*caller.name, payload, "a capture begins");
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + Duration::from_secs(seconds.into());
    let capture =
        Capture { slot, caller, id: id.clone(), take, file, dropped: 0, ticks, end, ends };
    let pieces = futures::stream::unfold(Some(capture), |capture| async move {
        let mut capture = capture?;
        let (piece, goes_on) = capture.piece().await;
        Some((piece, goes_on.then_some(capture)))
    });
    Ok(Opened { pieces: pieces.boxed(), seq })
}

/// What has come since, and the router that it is in.
async fn ask(
    engine: &Arc<Engine>,
    caller: &Principal,
    id: &Id,
    take: &TakeCapture,
) -> Result<((Captured, Id), EventSeq), Problem> {
    let look = |state: &mut State| {
        let router_id = state.registry.transport(caller, id)?.info.router_id.clone();
        Ok(Step::ask(Command::TakeCapture(take.clone()), |_, reply| match reply? {
            Reply::Captured(captured) => Ok((captured, router_id)),
            other => Err(unexpected(&other)),
        }))
    };
    engine.run(look).await
}

impl Capture {
    /// The next bytes, and whether there will be more.
    async fn piece(&mut self) -> (Bytes, bool) {
        loop {
            self.ticks.tick().await;
            let is_over = *self.ends.stopping.borrow() || !self.ends.gate.holds(&self.caller);
            self.take.is_last = is_over || Instant::now() >= self.end;
            // A transport that is gone ends it too.
            let taken = ask(&self.slot.0, &self.caller, &self.id, &self.take).await.ok();
            let goes_on = taken.is_some() && !self.take.is_last;
            let captured = taken.map(|((captured, _), _)| captured).unwrap_or_default();
            self.dropped += captured.dropped;
            let mut written = self.file.add(&captured);
            if !goes_on {
                let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
                written = written.and_then(|()| self.file.end(now, self.dropped));
            }
            if let Err(error) = written {
                tracing::error!(%error, "a capture ends");
                return (self.file.take().into(), false);
            }
            let bytes = self.file.take();
            if !bytes.is_empty() || !goes_on {
                return (bytes.into(), goes_on);
            }
        }
    }
}
