//! The steps of the scenario `api`, in their order. Each adds its line to the report.

use std::{
    rc::Rc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail};
use futures::{StreamExt as _, future::join_all};
use http::Method;
use indicatif::ProgressBar;
use ironcast_client::{Client, Trust};
use tokio::{
    sync::{Mutex, mpsc},
    time::{MissedTickBehavior, interval, sleep},
};

use super::{Options, Report, calls, room};
use crate::{
    cpu, interrupt,
    servers::{Door, Running},
};

/// Empty rooms that one batch makes.
const ROOMS_PER_BATCH: usize = 50;
/// People in a room.
const PEOPLE: usize = 10;
/// Joins, leaves and probes with nothing beside them.
const IDLE_TIMES: usize = 100;
/// Between two probes.
const PROBE_EVERY: Duration = Duration::from_millis(5);
/// Routers of one page of the snapshot: what the Rust client asks for.
const PAGE: usize = 100;
const TIMEOUT: Duration = Duration::from_secs(60);
const READY_LIMIT: Duration = Duration::from_secs(20);

/// All of them; inside a `LocalSet`.
pub(super) async fn run(
    options: &Options,
    running: &Running,
    door: &Door,
    bar: &ProgressBar,
    report: &mut Report,
) -> Result<()> {
    let api = connect(door)?;
    // Probes come as from another signaling service.
    let other = connect(door)?;
    let next = |what: &'static str| {
        bar.inc(1);
        bar.set_message(what);
        interrupt::pause(Duration::ZERO)
    };
    wait_until_ready(&api).await?;
    let pids = running.pids();
    let before = cpu::resident_bytes(&pids);

    next("empty rooms")?;
    let ids: Vec<String> = (0..options.rooms).map(|number| format!("empty-{number}")).collect();
    let (mut took, begun) = (Vec::new(), Instant::now());
    for ids in ids.chunks(ROOMS_PER_BATCH) {
        let begun = Instant::now();
        room::make(&api, ids).await?;
        took.push(begun.elapsed());
    }
    let each = begun.elapsed() / u32::try_from(options.rooms.max(1))?;
    report.add(
        format!("{ROOMS_PER_BATCH} rooms"),
        &took,
        format!("{} us a room", each.as_micros()),
    );
    let with_rooms = cpu::resident_bytes(&pids);
    report.figure("bytes a room", (with_rooms - before) / options.rooms.max(1) as u64);

    next("joins at rest")?;
    let client = Rc::new(client(&api).await?);
    let mut rooms = rooms(&api, "idle", IDLE_TIMES / PEOPLE).await?;
    let mut took = Vec::new();
    for room in &mut rooms {
        for _ in 0..PEOPLE {
            took.push(room.join(&api, &client).await?);
        }
    }
    report.add("a join, nothing beside it", &took, "three batches");

    next("joins at the rate")?;
    let before = cpu::resident_bytes(&pids);
    let crowd = joins(options, &api, &client, &pids, report, door).await?;
    let consumers: usize = crowd.iter().map(room::Room::consumers).sum();
    let grown = cpu::resident_bytes(&pids).saturating_sub(before);
    report.figure("consumers", consumers as u64);
    report.figure("bytes a consumer, all included", grown / consumers.max(1) as u64);

    next("probes at rest")?;
    let mut took = Vec::new();
    for _ in 0..IDLE_TIMES {
        took.push(probe(&other).await?);
        sleep(PROBE_EVERY).await;
    }
    report.add("GET of a room, nothing beside it", &took, "");

    next("the snapshot")?;
    let ((bytes, took), probed) = while_probing(&other, snapshot(&api)).await?;
    let whole: Duration = took.iter().sum();
    let note = format!("{:.1} s and {:.0} MB in all", whole.as_secs_f64(), bytes as f64 / 1e6);
    report.add(format!("{PAGE} routers of the snapshot"), &took, note);
    report.add("GET of a room meanwhile", &probed, "");

    next("leaves")?;
    let mut took = Vec::new();
    for room in &mut rooms {
        for _ in 0..PEOPLE {
            took.push(room.leave(&api).await?);
        }
    }
    report.add("a leave, nothing beside it", &took, "");

    next("the end of a large room")?;
    let mut large = room::Room::new("large".to_owned());
    room::make(&api, &[large.id.clone()]).await?;
    let mut took = Vec::new();
    for _ in 0..options.people {
        took.push(large.join(&api, &client).await?);
    }
    let consumers = large.consumers();
    report.add("a join into the large room", &took, "");
    let (took, probed) = while_probing(&other, large.end(&api)).await?;
    report.add(format!("its end, {consumers} consumers"), &[took], "");
    report.add("GET of a room meanwhile", &probed, "");
    Ok(())
}

fn connect(door: &Door) -> Result<Client> {
    let trust = Trust::File(door.certificate.clone());
    Ok(Client::builder(door.url.clone()).trust(trust).timeout(TIMEOUT).build()?)
}

async fn wait_until_ready(api: &Client) -> Result<()> {
    let begun = Instant::now();
    while api.ready().await.is_err() {
        if begun.elapsed() > READY_LIMIT {
            bail!("it is not ready after {READY_LIMIT:?}");
        }
        sleep(PROBE_EVERY).await;
    }
    Ok(())
}

async fn client(api: &Client) -> Result<calls::Client> {
    let router = room::call(api, Method::GET, "/routers/empty-0", None).await?;
    let router: serde_json::Value = serde_json::from_slice(&router)?;
    calls::Client::new(&router["rtpCapabilities"])
}

async fn rooms(api: &Client, name: &str, count: usize) -> Result<Vec<room::Room>> {
    let ids: Vec<String> = (0..count).map(|number| format!("{name}-{number}")).collect();
    for ids in ids.chunks(ROOMS_PER_BATCH) {
        room::make(api, ids).await?;
    }
    Ok(ids.into_iter().map(room::Room::new).collect())
}

/// Joins begin at the rate, whatever became of those before; a join counts from when it was due.
async fn joins(
    options: &Options,
    api: &Client,
    client: &Rc<calls::Client>,
    pids: &[u32],
    report: &mut Report,
    door: &Door,
) -> Result<Vec<room::Room>> {
    let per_room = PEOPLE * (PEOPLE - 1) * calls::KINDS.len();
    let count = options.consumers.div_ceil(per_room).max(1);
    let rooms = rooms(api, "crowd", count).await?;
    let rooms: Vec<_> = rooms.into_iter().map(|room| Rc::new(Mutex::new(room))).collect();
    let lags = follow(connect(door)?);
    let (results, mut joined) = mpsc::unbounded_channel();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / options.rate));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (cpu_before, begun) = (cpu::process_ns(pids), Instant::now());
    for (room, mix) in order(count) {
        let due = ticks.tick().await;
        let room = Rc::clone(&rooms[room]);
        let (api, client, results) = (api.clone(), Rc::clone(client), results.clone());
        tokio::task::spawn_local(async move {
            let joined = room.lock().await.join(&api, &client).await;
            // The receiver waits for all of them.
            let _ = results.send(joined.map(|_| (mix, due.elapsed())));
        });
    }
    drop(results);
    let (mut took, mut beside) = (Vec::new(), Vec::new());
    while let Some(one) = joined.recv().await {
        let (mix, one) = one.context("a join failed")?;
        if mix == Mix::Even { took.push(one) } else { beside.push(one) }
    }
    let seconds = begun.elapsed().as_secs_f64();
    let busy = (cpu::process_ns(pids) - cpu_before) as f64 / 1e9 / seconds;
    let rate = (took.len() + beside.len()) as f64 / seconds;
    let note = format!("{rate:.0} joins/s reached, control plane {:.0} % of a core", busy * 100.0);
    report.add(format!("a join at {:.0} joins/s", options.rate), &took, note);
    report.add(
        "the same, the first and last rooms",
        &beside,
        "up to twice as many consumers a join",
    );
    report.figure("joins a second", rate.round());
    report.figure("control plane's share of a core", (busy * 100.0).round() / 100.0);
    let lags = lags.stop().await?;
    report.add("an event, until it is read", &lags, "");
    let rooms = rooms.into_iter().map(|room| Rc::into_inner(room).map(Mutex::into_inner));
    rooms.collect::<Option<Vec<_>>>().context("a join that still runs")
}

/// What is joined beside a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mix {
    /// As many rooms are nearly full as nearly empty.
    Even,
    /// The first rooms begin, or the last ones fill up.
    Uneven,
}

/// Which room is joined when. Rooms begin one after the other, and one is joined again when ten more
/// have begun. The tenth one's join is seven times as much work as the first one's: a rate of joins
/// says something only while both come as often.
fn order(rooms: usize) -> Vec<(usize, Mix)> {
    /// Rooms that begin between two joins of one.
    const BETWEEN: usize = 10;
    let moment = |room: usize, person: usize| (room + person * BETWEEN, room);
    let joins = (0..rooms).flat_map(|room| (0..PEOPLE).map(move |person| moment(room, person)));
    let mut joins: Vec<_> = joins.collect();
    joins.sort_unstable();
    let even = (PEOPLE - 1) * BETWEEN..rooms;
    let mix = |moment| if even.contains(&moment) { Mix::Even } else { Mix::Uneven };
    joins.into_iter().map(|(moment, room)| (room, mix(moment))).collect()
}

/// Reads all events until it is stopped.
struct Follower {
    task: tokio::task::JoinHandle<Result<Vec<Duration>>>,
    stop: tokio::sync::oneshot::Sender<()>,
}

fn follow(api: Client) -> Follower {
    let (stop, mut stopped) = tokio::sync::oneshot::channel();
    let task = tokio::task::spawn_local(async move {
        let mut events = api.events(None, None);
        let mut lags = Vec::new();
        loop {
            tokio::select! {
                _ = &mut stopped => return Ok(lags),
                event = events.next() => {
                    let event = event.context("the event stream ended")??;
                    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
                    lags.push(now.saturating_sub(Duration::from_millis(event.time)));
                }
            }
        }
    });
    Follower { task, stop }
}

impl Follower {
    async fn stop(self) -> Result<Vec<Duration>> {
        // It may have ended by an error, which is what the next line gives.
        let _ = self.stop.send(());
        self.task.await?
    }
}

/// A small call.
async fn probe(api: &Client) -> Result<Duration> {
    let begun = Instant::now();
    room::call(api, Method::GET, "/routers/empty-0", None).await?;
    Ok(begun.elapsed())
}

/// Does something, and what small calls took meanwhile, each from when it was due.
async fn while_probing<T>(
    api: &Client,
    work: impl Future<Output = Result<T>>,
) -> Result<(T, Vec<Duration>)> {
    let mut ticks = interval(PROBE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut under_way = Vec::new();
    let probing = async {
        loop {
            let due = ticks.tick().await;
            let api = api.clone();
            under_way.push(tokio::task::spawn_local(async move {
                probe(&api).await.map(|_| due.elapsed())
            }));
        }
    };
    let done = tokio::select! {
        done = work => done?,
        () = probing => unreachable!("probing has no end"),
    };
    let probed = join_all(under_way).await;
    let probed = probed.into_iter().map(|one| one?).collect::<Result<Vec<Duration>>>()?;
    Ok((done, probed))
}

/// The whole state, page by page. Gives its bytes and the time of each page.
async fn snapshot(api: &Client) -> Result<(usize, Vec<Duration>)> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Page {
        next_after: Option<String>,
    }
    let (mut bytes, mut took, mut after) = (0, Vec::new(), None::<String>);
    loop {
        let from = after.map(|after| format!("&after={after}")).unwrap_or_default();
        let begun = Instant::now();
        let path = format!("/snapshot?limit={PAGE}{from}");
        let page = room::call(api, Method::GET, &path, None).await?;
        took.push(begun.elapsed());
        bytes += page.len();
        let page: Page = serde_json::from_slice(&page)?;
        interrupt::check()?;
        match page.next_after {
            Some(next) => after = Some(next),
            None => return Ok((bytes, took)),
        }
    }
}
