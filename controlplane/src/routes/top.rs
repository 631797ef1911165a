//! `GET /top`: the host at a glance, with what moves the most. The rates of routers and transports
//! are measured by the dataplane, and only when somebody asks.

use std::{collections::BTreeMap, sync::Arc};

use ironcast_api::{
    ErrorCode, Id, Problem, TOP_COUNT_MAX, Top, TopRouter, TopTransport, TopWorker,
};
use ironcast_protocol::{
    Command, Reply,
    command::CountMax,
    stats::{Hottest, RouterRates, TransportRates},
};

use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert, drain,
    engine::{Engine, State, Step, unexpected},
    placement::Worker,
    registry::spread,
};

/// Without `?count=`.
const COUNT: u32 = 20;

/// `GET /top`.
pub async fn top(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let count = call.query(&["count"])?.number("count")?.unwrap_or(COUNT);
    if !(1..=TOP_COUNT_MAX).contains(&count) {
        return Err(Problem::invalid("?count", format!("count is 1 to {TOP_COUNT_MAX}")));
    }
    let caller = call.caller.clone();
    let uptime_s = engine.started.elapsed().as_secs();
    let (top, seq) = engine
        .run(|_| {
            let command = Command::Hottest(CountMax { count: count as u16 });
            let caller = caller.clone();
            Ok(Step::ask(command, move |state, reply| {
                let hottest = match reply {
                    Ok(Reply::Hottest(hottest)) => hottest,
                    Ok(other) => return Err(unexpected(&other)),
                    // A dataplane of an earlier release: what is known without it is shown.
                    Err(problem) if problem.code == ErrorCode::Unsupported => Hottest::default(),
                    Err(problem) => return Err(problem),
                };
                Ok(Top { uptime_s, ..of(state, &caller, hottest, count as usize) })
            }))
        })
        .await?;
    Answer::json(200, &top, seq)
}

/// Of routers and transports only what the caller sees is named.
fn of(state: &State, caller: &Principal, hottest: Hottest, count: usize) -> Top {
    let totals = state.registry.totals();
    let mut routers: Vec<_> = whole(hottest.routers)
        .into_iter()
        .filter_map(|(id, (received, sent))| router(state, caller, id, received, sent))
        .collect();
    routers.sort_by_key(|one| std::cmp::Reverse(one.recv_bitrate + one.send_bitrate));
    routers.truncate(count);
    let mut transports: Vec<_> = hottest
        .transports
        .into_iter()
        .filter_map(|rates| transport(state, caller, rates))
        .collect();
    let traffic = |one: &TopTransport| one.stats.recv_bitrate + one.stats.send_bitrate;
    transports.sort_by_key(|one| std::cmp::Reverse(traffic(one)));
    transports.truncate(count);
    Top {
        uptime_s: 0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: drain::status(state),
        producers: totals.producers,
        consumers: totals.consumers,
        workers: state.workers.iter().map(worker).collect(),
        routers,
        transports,
    }
}

fn worker(worker: &Worker) -> TopWorker {
    let counters = &worker.stats.counters;
    let count = |name: &str| counters.get(name).copied().unwrap_or_default();
    TopWorker {
        worker: convert::worker(&worker.stats, worker.load()),
        drops: drops(counters).filter(|(_, count)| *count > 0).collect(),
        datagrams_in: count("datagrams_in"),
        datagrams_out: count("datagrams_out"),
    }
}

/// Counts of the driver that are drops too.
const DRIVER_DROPS: &[(&str, &str)] = &[
    ("eagain_drops", "send_buffer_full"),
    ("send_errors", "send_error"),
    ("stale_sends", "path_closed"),
    ("truncated", "truncated"),
    ("mail_dropped", "mailbox_full"),
    ("strays_dropped", "stray"),
    ("tcp_dropped_video", "tcp_full_video"),
    ("tcp_dropped_audio", "tcp_full_audio"),
    ("tcp_dropped_control", "tcp_full_control"),
];

/// What a worker dropped, by reason, out of everything that it counts.
pub fn drops(counters: &BTreeMap<String, u64>) -> impl Iterator<Item = (String, u64)> {
    let of_core = counters.iter().filter_map(|(name, count)| {
        let reason = name.strip_prefix("discarded_")?;
        Some((reason.to_owned(), *count))
    });
    let of_driver = DRIVER_DROPS.iter().filter_map(|(name, reason)| {
        let count = counters.get(*name)?;
        Some(((*reason).to_owned(), *count))
    });
    of_core.chain(of_driver)
}

/// What each router receives and sends on all of its workers, with what its parts there send each
/// other: to the dataplane each part is a router.
fn whole(parts: Vec<RouterRates>) -> BTreeMap<String, (u64, u64)> {
    let mut routers: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for RouterRates { id, recv_bitrate, send_bitrate } in parts {
        let (received, sent) = routers.entry(spread::own_id(&id).to_owned()).or_default();
        *received += recv_bitrate;
        *sent += send_bitrate;
    }
    routers
}

fn router(
    state: &State,
    caller: &Principal,
    id: String,
    recv_bitrate: u64,
    send_bitrate: u64,
) -> Option<TopRouter> {
    let router = state.registry.router(caller, &Id::new(id).ok()?).ok()?;
    Some(TopRouter {
        id: router.info.id.clone(),
        worker_id: router.info.worker_id.clone(),
        counts: router.counts(),
        recv_bitrate,
        send_bitrate,
    })
}

fn transport(state: &State, caller: &Principal, rates: TransportRates) -> Option<TopTransport> {
    let id = Id::new(rates.id).ok()?;
    let transport = state.registry.transport(caller, &id).ok()?;
    let profile = transport.srtp_profile.clone();
    Some(TopTransport {
        router_id: transport.info.router_id.clone(),
        participant_id: transport.info.participant_id.clone(),
        stats: convert::transport_stats(&transport.info, profile, &rates.stats),
    })
}
