//! The scenarios beside `fanout` and `audio`, a file each. Each sets its stage, runs its load, prints
//! a table and gives the last line.

pub(crate) mod api;
pub(crate) mod calls;
pub(crate) mod capacity;
pub(crate) mod control;
pub(crate) mod join_storm;
pub(crate) mod latency;
pub(crate) mod meeting;
pub(crate) mod memory;
pub(crate) mod switching;

use std::time::Duration;

use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::{
    interrupt,
    load::{Media, Plan, Target},
    measure::{LoadProcess, Window, no_result, watch},
    servers::{Running, Server},
    topology::Topology,
};

/// The profile that all of them use.
pub(crate) const CIPHER: &str = "AEAD_AES_128_GCM";

/// One camera and its receivers.
pub(crate) fn one_to_many(target: Target, receivers: usize, media: Media, period: u16) -> Plan {
    Plan { target, receivers, media, cipher: CIPHER.to_owned(), sample_period: period, rooms: None }
}

/// Our server with one who sends and his receivers, and a window of so long before anything disturbs
/// them.
pub(crate) fn undisturbed(
    topology: &Topology,
    bar: &ProgressBar,
    media: Media,
    receivers: usize,
    length: Duration,
) -> Result<(Running, LoadProcess, Window)> {
    let server = Server::Ironcast;
    let mut running = server.start(topology)?;
    let plan = one_to_many(running.target.clone(), receivers, media, 4);
    let mut load = LoadProcess::start(topology, &plan)?;
    load.wait_until_ready(|count, how| bar.set_message(format!("{count} {how}")))?;
    bar.inc(1);
    bar.set_message("before");
    interrupt::pause(Duration::from_secs(2))?;
    let before = watch(topology, server, &mut running, &mut load, length)?;
    ensure!(before.broken.is_none(), "{}", no_result(std::slice::from_ref(&before)));
    Ok((running, load, before))
}

/// p50, p99, p99.9, max.
pub(crate) fn quantiles(of: &Histogram<u64>) -> Value {
    let at = |share: f64| of.value_at_quantile(share);
    json!({ "p50": at(0.5), "p99": at(0.99), "p999": at(0.999), "max": of.max() })
}

/// The same of single values.
pub(crate) fn spread(values: &[u64]) -> Value {
    let mut all = Histogram::<u64>::new_with_bounds(1, 600_000_000, 3).expect("allowed bounds");
    for value in values {
        all.saturating_record(*value);
    }
    quantiles(&all)
}
