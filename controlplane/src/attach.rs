//! Being attached to a dataplane: connects again and again, takes its whole state when attached,
//! then applies what it reports. Stands by where a newer control plane is attached. The only writer
//! of [`State::link`].
//!
//! Another run of the dataplane (another boot id) has none of the old routers: they are reported as
//! dead in the running stream of events. The same run after a lost connection has gone on without
//! us, and what happened meanwhile is in its snapshot but in no event: so a new epoch begins.

use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::FutureExt as _;
use ironcast_api::{
    Id,
    events::{EventData, WorkerEvent},
};
use ironcast_protocol::{Command, Event, Reply, WorkerId, frame::Welcome, snapshot::Resource};
use tokio::sync::oneshot;

use crate::{
    apply,
    dataplane::{self, LinkError, Receiver, Refusal, Session},
    drain,
    engine::{Engine, State},
    rebuild::Rebuild,
    registry::Registry,
};

const RETRY_MIN: Duration = Duration::from_millis(50);
const RETRY_MAX: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_secs(1);
/// While no worker runs: a dataplane that has just started has some in a moment.
const POLL_SOON: Duration = Duration::from_millis(100);
/// One that stands by looks this often.
const WATCH: Duration = Duration::from_secs(1);
/// An answer that is late by so many call timeouts will not come.
const SILENCE_TIMEOUTS: u32 = 3;

/// How a session ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The socket closed or broke.
    Lost,
    /// The dataplane cannot give its whole state now.
    Refused,
    /// A newer control plane has taken over.
    Fenced,
}

/// Stays attached for as long as the process lives, and stands by while a newer control plane is.
/// Returns only when that has taken over and this one does not stand by ([`ServerConfig::stand_by`]).
///
/// [`ServerConfig::stand_by`]: crate::ServerConfig::stand_by
pub async fn stay_attached(engine: Arc<Engine>) {
    let (mut retry, mut told, mut gives_way) = (RETRY_MIN, false, false);
    loop {
        let (socket, name) = (&engine.config.dataplane_socket, &engine.config.name);
        match Session::connect(socket, name, gives_way).await {
            Ok(session) => {
                told = false;
                // After a panic nobody knows what was applied: the next snapshot does.
                let attached = AssertUnwindSafe(attached(&engine, session)).catch_unwind().await;
                let end = attached.unwrap_or_else(|_| {
                    engine.fault("applying what the dataplane says");
                    End::Lost
                });
                let was_attached = engine.lock().link.take().is_some();
                if end == End::Fenced {
                    let Some(time) = engine.config.stand_by else {
                        tracing::error!(
                            "another control plane has attached to the dataplane: this one does \
                             nothing any more and can be stopped"
                        );
                        return;
                    };
                    stand_by(&engine, time).await;
                    gives_way = true;
                    continue;
                }
                // Who has been attached is one like others again.
                gives_way &= !was_attached;
                if end == End::Lost {
                    retry = RETRY_MIN;
                }
                tracing::warn!("the dataplane is away");
            }
            Err(error) if !told => {
                told = true;
                let socket = engine.config.dataplane_socket.display();
                tracing::warn!(%socket, %error, "waiting for the dataplane");
            }
            Err(_) => {}
        }
        tokio::time::sleep(retry).await;
        retry = (retry * 2).min(RETRY_MAX);
    }
}

/// Returns when no control plane has been attached for so long. Only looks: whoever takes a
/// dataplane over again and again while another one does the same serves nobody.
async fn stand_by(engine: &Engine, time: Duration) {
    tracing::warn!(
        "another control plane has attached to the dataplane: this one stands by until none was \
         attached for {} s",
        time.as_secs()
    );
    engine.metrics.stands_by.set(1);
    let mut free_since = None;
    loop {
        tokio::time::sleep(WATCH.min(time)).await;
        match dataplane::who_is_attached(&engine.config.dataplane_socket).await {
            Ok(None) => {
                let since = *free_since.get_or_insert_with(Instant::now);
                if since.elapsed() >= time {
                    break;
                }
            }
            // A dataplane that is away has not been left by the other one.
            Ok(Some(_)) | Err(_) => free_since = None,
        }
    }
    engine.metrics.stands_by.set(0);
    tracing::warn!("no control plane is attached to the dataplane: this one attaches again");
}

/// From the first command until the connection ends.
async fn attached(engine: &Arc<Engine>, mut session: Session) -> End {
    let link = session.link.clone();
    let (workers, mut got_workers) = oneshot::channel();
    let (done, mut got_snapshot) = oneshot::channel();
    let asked =
        link.send(&Command::Workers, Box::new(move |reply| drop(workers.send(reply)))).and_then(
            |()| link.send(&Command::Snapshot, Box::new(move |reply| drop(done.send(reply)))),
        );
    if asked.is_err() {
        return End::Lost;
    }
    let mut incoming =
        Incoming { engine: Arc::clone(engine), attaching: Some(Attaching::default()) };
    let silence_max = engine.config.dataplane_timeout * SILENCE_TIMEOUTS;
    let welcome = session.welcome.clone();
    // First everything that is there.
    let answers = {
        let reading = session.run(&mut incoming, silence_max);
        let attached = async { ((&mut got_workers).await, (&mut got_snapshot).await) };
        tokio::select! {
            ended = reading => return end_of(ended),
            answers = attached => answers,
        }
    };
    match answers {
        (Ok(Ok(Reply::Workers(workers))), Ok(Ok(Reply::Snapshot { event_seq, counts }))) => {
            let Attaching { rebuild, events } = incoming.attaching.take().unwrap_or_default();
            // With less than everything we would make again what exists.
            let Some(registry) = rebuild.finish(counts) else { return End::Refused };
            let mut state = engine.lock();
            let before = begin(&mut state, &welcome, workers, registry);
            drain::attached(&mut state, &engine.config.state_dir);
            for (_, event) in events.into_iter().filter(|(number, _)| *number > event_seq) {
                apply::apply(&mut state, event);
            }
            state.link = Some(link.clone());
            drop(state);
            drop(before);
        }
        (Ok(Err(refusal)), _) | (_, Ok(Err(refusal))) => {
            tracing::error!(%refusal, "the dataplane refuses to be attached to");
            return End::Refused;
        }
        _ => return End::Lost,
    }
    tracing::info!(
        release = welcome.release,
        boot_id = welcome.boot_id,
        "attached to the dataplane"
    );
    let poll = tokio::spawn(poll_workers(Arc::clone(engine), link));
    let end = end_of(session.run(&mut incoming, silence_max).await);
    poll.abort();
    // Ends the calls that still wait, before the next snapshot replaces what they know.
    drop(session);
    end
}

fn end_of(ended: Result<(), LinkError>) -> End {
    match ended {
        Ok(()) => End::Lost,
        Err(LinkError::Fenced) => End::Fenced,
        Err(error) => {
            tracing::warn!(%error, "the connection to the dataplane broke");
            End::Lost
        }
    }
}

/// What arrives before the snapshot is complete.
#[derive(Default)]
struct Attaching {
    rebuild: Rebuild,
    events: BTreeMap<u64, Event>,
}

struct Incoming {
    engine: Arc<Engine>,
    attaching: Option<Attaching>,
}

impl Receiver for Incoming {
    fn receive_event(&mut self, number: u64, event: Event) {
        match &mut self.attaching {
            Some(attaching) => {
                attaching.events.insert(number, event);
            }
            None => apply::apply(&mut self.engine.lock(), event),
        }
    }

    fn receive_part(&mut self, resources: Vec<Resource>) {
        if let Some(attaching) = &mut self.attaching {
            attaching.rebuild.add(resources);
        }
    }
}

/// Takes over what the dataplane has; gives back what was known before.
fn begin(
    state: &mut State,
    welcome: &Welcome,
    workers: Vec<ironcast_protocol::stats::WorkerStats>,
    registry: Registry,
) -> Registry {
    let is_restarted = state.boot_id.as_ref().is_some_and(|boot| *boot != welcome.boot_id);
    if is_restarted {
        report_restart(state);
    } else if state.boot_id.is_some() {
        state.events.begin_epoch();
    }
    state.boot_id = Some(welcome.boot_id.clone());
    state.dataplane_version = Some(welcome.release.clone());
    let before = state.registry.replace(registry);
    let routers = state.registry.routers.iter().map(|(id, router)| (id, router.owner.as_ref()));
    state.events.own_all(routers);
    update_workers(state, workers);
    before
}

/// Every worker of the old run is dead, with all that was on it.
fn report_restart(state: &mut State) {
    let mut routers: BTreeMap<WorkerId, Vec<Id>> =
        state.workers.iter().map(|worker| (worker.stats.id, Vec::new())).collect();
    for router in state.registry.routers.values() {
        routers.entry(router.worker).or_default().push(router.info.id.clone());
    }
    let workers: Vec<_> = routers.keys().copied().collect();
    for (worker, routers) in routers {
        apply::worker_died(state, worker, routers, "the dataplane was started again".to_owned());
    }
    for worker in workers {
        let worker_id = crate::convert::worker_id(worker);
        let reason = "the dataplane was started again".to_owned();
        let event = WorkerEvent { worker_id, router_ids: Vec::new(), reason };
        state.events.publish(None, EventData::WorkerRestarted(event));
    }
}

/// Asks for the workers' figures each second: placement goes by them. Sooner while none runs.
async fn poll_workers(engine: Arc<Engine>, link: dataplane::Link) {
    loop {
        let none_runs = engine.lock().workers.why_none_runs().is_some();
        tokio::time::sleep(if none_runs { POLL_SOON } else { POLL }).await;
        let (engine, process) = (Arc::clone(&engine), Arc::clone(&engine));
        let on_reply = Box::new(move |reply: Result<Reply, Refusal>| {
            if let Ok(Reply::Workers(workers)) = reply {
                update_workers(&mut engine.lock(), workers);
            }
        });
        // A dataplane of an earlier release does not know the question.
        let on_process = Box::new(move |reply: Result<Reply, Refusal>| {
            if let Ok(Reply::Process(stats)) = reply {
                let mut state = process.lock();
                drain::follow_dataplane(&mut state, stats.drains_until_ms);
                state.process = stats;
            }
        });
        let asked = link
            .send(&Command::Workers, on_reply)
            .and_then(|()| link.send(&Command::Process, on_process));
        // Where too many others wait it is asked the next time.
        if asked == Err(Refusal::Lost) {
            return;
        }
    }
}

fn update_workers(state: &mut State, workers: Vec<ironcast_protocol::stats::WorkerStats>) {
    use ironcast_api::events::CapacityEvent;
    state.registry.close_idle_mirrors(Instant::now());
    let full = state.full();
    let change = state.workers.update(workers, &full);
    if !change.exhausted.is_empty() {
        let event = CapacityEvent { worker_ids: change.exhausted };
        state.events.publish(None, EventData::CapacityExhausted(event));
    }
    if !change.available.is_empty() {
        let event = CapacityEvent { worker_ids: change.available };
        state.events.publish(None, EventData::CapacityAvailable(event));
    }
}
