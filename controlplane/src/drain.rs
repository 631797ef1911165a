//! Taking the host out of service: no new routers, those that are there until they are empty or a
//! deadline has passed. Begun by a call, or by a dataplane that was told to end. Owns the state of
//! it and the task that closes what is left; `routes/drain.rs` are its calls.
//!
//! A drain is of one run of the dataplane: it outlives the control plane (by a file in the state
//! directory), and ends when the dataplane was started again, because that is what it was for.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use ironcast_api::{
    DrainStatus, ErrorCode, Id, Problem, RouterCounts,
    events::{EventData, HostEvent, RouterClosedReason},
};
use ironcast_protocol::{Command, command};
use serde::{Deserialize, Serialize};

use crate::{
    engine::{Engine, Place, State, Step},
    events::unix_ms,
    registry::Kind,
};

/// How often it is looked whether something is to be closed.
const LOOK: Duration = Duration::from_millis(250);
/// A router without a transport for so long is empty: services keep theirs for later, and a room
/// that was made a moment ago gets its first transport.
const EMPTY_TIME: Duration = Duration::from_secs(10);
/// Routers that are being closed at once.
const CLOSING_MAX: usize = 64;
/// No deadline is later than this: a century is in no clock's way.
const DUE_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// In the state directory.
const FILE: &str = "drain.json";

/// While the host is being taken out of service.
#[derive(Debug)]
pub struct Drain {
    since: u64,
    /// As callers are told: the wall clock, which may be set at any time.
    deadline: Option<u64>,
    /// When it has come, whatever the wall clock says.
    due: Option<Instant>,
    /// The run of the dataplane that it is of, once there is one.
    boot_id: Option<String>,
    ends_dataplane: bool,
    /// Whether `host.drained` was told.
    is_told: bool,
    /// Routers without a transport, and since when.
    empty: BTreeMap<Id, Instant>,
}

/// What outlives the control plane.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    /// The run of the dataplane.
    boot_id: String,
    since: u64,
    deadline: Option<u64>,
}

/// Refuses what a draining host does not take.
pub fn check(state: &State) -> Result<(), Problem> {
    match &state.drain {
        None => Ok(()),
        Some(_) => {
            let detail = "this host is being taken out of service and takes no new routers";
            Err(Problem::new(ErrorCode::Draining, detail))
        }
    }
}

/// How far it is.
#[must_use]
pub fn status(state: &State) -> DrainStatus {
    let RouterCounts { participants, transports, .. } = state.registry.totals();
    let drain = state.drain.as_ref();
    DrainStatus {
        draining: drain.is_some(),
        drained: drain.is_some() && is_empty(state),
        since: drain.map(|drain| drain.since),
        deadline: drain.and_then(|drain| drain.deadline),
        ends_dataplane: drain.is_some_and(|drain| drain.ends_dataplane),
        routers: u32::try_from(state.registry.routers.len()).unwrap_or(u32::MAX),
        transports,
        participants,
    }
}

/// From now on no new routers; what is left at the deadline is closed.
pub fn begin(state: &mut State, deadline: Option<u64>) {
    let is_new = state.drain.is_none();
    let boot_id = state.boot_id.clone();
    let drain = state.drain.get_or_insert_with(|| Drain {
        since: unix_ms(),
        deadline: None,
        due: None,
        boot_id,
        ends_dataplane: false,
        is_told: false,
        empty: BTreeMap::new(),
    });
    // What the dataplane was told to do is sooner or as it is.
    let deadline = match drain.ends_dataplane {
        true => drain.deadline.into_iter().chain(deadline).min(),
        false => deadline,
    };
    if is_new || drain.deadline != deadline {
        drain.deadline = deadline;
        drain.due = deadline.map(|deadline| {
            Instant::now() + Duration::from_millis(deadline.saturating_sub(unix_ms())).min(DUE_MAX)
        });
        let routers = state.registry.routers.len();
        tracing::info!(routers, deadline, "draining: no new routers");
        state.events.publish(None, EventData::HostDraining(HostEvent { deadline }));
    }
}

/// New routers again.
pub fn end(state: &mut State) -> Result<(), Problem> {
    if state.drain.as_ref().is_some_and(|drain| drain.ends_dataplane) {
        let detail = "the dataplane was told to end: that cannot be taken back";
        return Err(Problem::new(ErrorCode::WrongState, detail));
    }
    if state.drain.take().is_some() {
        tracing::info!("draining has ended: new routers are taken again");
        let event = HostEvent { deadline: None };
        state.events.publish(None, EventData::HostUndrained(event));
    }
    Ok(())
}

/// What the dataplane says of itself, each second: it may have been told to end.
pub fn follow_dataplane(state: &mut State, until: Option<u64>) {
    let Some(until) = until else { return };
    if state.drain.as_ref().is_some_and(|drain| drain.ends_dataplane) {
        return;
    }
    let before = state.drain.as_ref().and_then(|drain| drain.deadline);
    begin(state, before.into_iter().chain([until]).min());
    if let Some(drain) = &mut state.drain {
        drain.ends_dataplane = true;
    }
}

/// A dataplane was attached to: a drain of this run goes on, one of an earlier run is over.
pub fn attached(state: &mut State, folder: &Path) {
    let boot_id = state.boot_id.clone();
    match &mut state.drain {
        Some(drain) if drain.boot_id.as_ref().is_none_or(|of| Some(of) == boot_id.as_ref()) => {
            drain.boot_id = boot_id;
            return;
        }
        Some(drain) => {
            drain.ends_dataplane = false;
            // Without the mark it cannot be refused.
            let _ = end(state);
            keep(state, folder);
            return;
        }
        None => {}
    }
    let kept = std::fs::read(folder.join(FILE)).ok();
    let kept = kept.and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    if let Some(kept) = kept.filter(|kept| Some(&kept.boot_id) == boot_id.as_ref()) {
        begin(state, kept.deadline);
        if let Some(drain) = &mut state.drain {
            drain.since = kept.since;
        }
    }
}

/// Writes down what has to outlive this process, or that there is nothing any more.
pub fn keep(state: &State, folder: &Path) {
    let path = folder.join(FILE);
    let done = match (&state.drain, &state.boot_id) {
        (Some(drain), Some(boot_id)) => {
            let kept =
                Kept { boot_id: boot_id.clone(), since: drain.since, deadline: drain.deadline };
            let new = path.with_extension("new");
            std::fs::write(&new, serde_json::to_vec(&kept).unwrap_or_default())
                .and_then(|()| std::fs::rename(&new, &path))
        }
        _ => match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
    };
    if let Err(error) = done {
        tracing::warn!(path = %path.display(), %error, "a drain will not outlive this process");
    }
}

/// Closes what is to be closed, and tells when nothing is left. Lives as long as the server.
pub async fn watch(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(LOOK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let due = look(&mut engine.lock(), Instant::now());
        let closing = due.into_iter().map(|id| close(&engine, id));
        // What could not be closed is due again at the next look.
        futures::stream::iter(closing).buffer_unordered(CLOSING_MAX).collect::<()>().await;
    }
}

/// The routers that are to be closed now.
fn look(state: &mut State, now: Instant) -> Vec<Id> {
    let is_empty = is_empty(state);
    let is_without = |id: &Id, state: &State| {
        let router = state.registry.routers.get(id);
        router.is_some_and(|router| router.transports.is_empty())
            && state.on_their_way(Kind::Transport, Place::Parent(id.clone())) == 0
    };
    let Some(mut drain) = state.drain.take() else { return Vec::new() };
    let routers = state.registry.routers.keys();
    let due = if drain.due.is_some_and(|due| now >= due) {
        routers.cloned().collect()
    } else {
        drain.empty.retain(|id, _| is_without(id, state));
        for id in routers.filter(|id| is_without(id, state)) {
            drain.empty.entry(id.clone()).or_insert(now);
        }
        let is_due = |since: &Instant| now.saturating_duration_since(*since) >= EMPTY_TIME;
        drain.empty.iter().filter(|(_, since)| is_due(since)).map(|(id, _)| id.clone()).collect()
    };
    if is_empty && !drain.is_told {
        drain.is_told = true;
        tracing::info!("drained: no router is left");
        let event = HostEvent { deadline: drain.deadline };
        state.events.publish(None, EventData::HostDrained(event));
    }
    state.drain = Some(drain);
    due
}

/// No router, and none that is being made.
fn is_empty(state: &State) -> bool {
    state.registry.routers.is_empty() && state.on_their_way(Kind::Router, Place::Host) == 0
}

async fn close(engine: &Arc<Engine>, id: Id) {
    let closed = engine.run(|_| {
        let command = Command::CloseRouter(command::Named { id: id.to_string() });
        let id = id.clone();
        Ok(Step::ask(command, move |state, reply| {
            crate::routes::closed(reply)?;
            let reason = RouterClosedReason::Drained;
            state.registry.close_router(&id, reason, &mut state.events);
            Ok(())
        }))
    });
    if let Err(problem) = closed.await {
        tracing::warn!(router = %id, %problem, "a router was not closed yet");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ServerConfig,
        note::{BodyHash, TransportNote},
        rebuild::{new_router, new_transport_info},
        registry::Transport,
    };

    fn state() -> State {
        State::new(&ServerConfig::in_folder("/nowhere"))
    }

    fn add_router(state: &mut State, id: &str) -> Id {
        let id = Id::new(id).unwrap();
        let info = ironcast_api::RouterInfo {
            id: id.clone(),
            worker_id: crate::convert::worker_id(0),
            workers: Vec::new(),
            rtp_capabilities: ironcast_api::RtpCapabilities::default(),
            media_codecs: Vec::new(),
            last_n: None,
            loudest_n: None,
            created_at: 0,
            owner: None,
            app_data: ironcast_api::AppData::default(),
        };
        let hash = BodyHash::of(&serde_json::Value::Null);
        state.registry.insert_router(new_router(info, 0, hash));
        id
    }

    #[test]
    fn what_a_closed_router_held_is_not_counted() {
        let mut state = state();
        for router in ["one", "two"] {
            let router_id = add_router(&mut state, router);
            for (number, participant) in ["alice", "alice", "bob"].into_iter().enumerate() {
                let created = ironcast_protocol::plain::PlainTransportCreated {
                    local: ([127, 0, 0, 1], 28_000).into(),
                    rtcp_local: None,
                    srtp: None,
                };
                let note = TransportNote {
                    participant_id: Some(Id::new(participant).unwrap()),
                    ..TransportNote::default()
                };
                let id = Id::new(format!("{router}-{number}")).unwrap();
                let link = crate::convert::plain_link(&created, false);
                let info = new_transport_info(id, router_id.clone(), 0, link, &note);
                assert!(state.registry.insert_transport(Transport::new(info, 0, note)));
            }
        }
        let counts = |state: &State| {
            let DrainStatus { routers, transports, participants, .. } = status(state);
            (routers, transports, participants)
        };
        assert_eq!(counts(&state), (2, 6, 4));
        let (id, reason) = (Id::new("one").unwrap(), RouterClosedReason::Drained);
        state.registry.close_router(&id, reason, &mut state.events);
        assert!(state.registry.has_remains());
        assert_eq!(counts(&state), (1, 3, 2));
    }

    #[test]
    fn empty_routers_are_closed_after_a_while_and_all_at_the_deadline() {
        let mut state = state();
        let id = add_router(&mut state, "room");
        let began = Instant::now();
        assert!(look(&mut state, began).is_empty(), "nobody drains");
        begin(&mut state, None);
        assert!(check(&state).is_err());
        assert!(look(&mut state, began).is_empty(), "it may be new");
        assert_eq!(look(&mut state, began + EMPTY_TIME), std::slice::from_ref(&id));
        let hour = Duration::from_secs(3_600);
        begin(&mut state, Some(unix_ms() + 3_600_000));
        let mut state_then = |at| {
            if let Some(drain) = &mut state.drain {
                drain.empty.clear();
            }
            look(&mut state, at)
        };
        assert!(state_then(began + hour / 2).is_empty());
        assert_eq!(state_then(began + hour + EMPTY_TIME), std::slice::from_ref(&id));
        begin(&mut state, Some(1_000));
        assert_eq!(look(&mut state, Instant::now()), [id], "that was long ago");
    }

    #[test]
    fn that_nothing_is_left_is_told_once() {
        let mut state = state();
        begin(&mut state, None);
        let before = state.events.head().number;
        for _ in 0..3 {
            look(&mut state, Instant::now());
        }
        assert_eq!(state.events.head().number, before + 1);
        assert!(status(&state).drained);
    }

    #[test]
    fn a_dataplane_that_was_told_to_end_is_followed_and_not_held() {
        let mut state = state();
        begin(&mut state, Some(500));
        follow_dataplane(&mut state, Some(900));
        assert_eq!(status(&state).deadline, Some(500), "the sooner one");
        begin(&mut state, None);
        assert_eq!(status(&state).deadline, Some(500));
        assert_eq!(end(&mut state).unwrap_err().code, ErrorCode::WrongState);
    }

    #[test]
    fn a_drain_outlives_the_control_plane_but_not_the_dataplane() {
        let folder = std::env::temp_dir().join(format!("ironcast-drain-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut first = state();
        first.boot_id = Some("one".into());
        begin(&mut first, Some(77));
        keep(&first, &folder);
        let mut next = state();
        next.boot_id = Some("one".into());
        attached(&mut next, &folder);
        assert_eq!((status(&next).draining, status(&next).deadline), (true, Some(77)));
        next.boot_id = Some("two".into());
        attached(&mut next, &folder);
        assert!(!status(&next).draining);
        assert!(!folder.join(FILE).exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
