//! What our own server counts at the two edges of a window, read from its metrics: whether a worker
//! died in between, and which way its datagrams went. Called by [`crate::measure`]; other servers
//! have no such figures, and nothing is said of them.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use ironcast_load::http::PlainHttp;

use crate::load::Target;

/// Figures of one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Edge {
    /// By worker and name.
    counts: BTreeMap<(String, String), u64>,
    /// Workers that do not run.
    stopped: Vec<String>,
    routers: u64,
    /// Consumers that the control plane knows.
    pub(crate) consumers: u64,
    /// Datagrams that came, by how long they were in the server at most, ns; all workers together,
    /// and each count holds those before it.
    delays: BTreeMap<u64, u64>,
}

/// How long datagrams were in the server between two edges, from the kernel's stamp to the submission
/// of what was made of them. The load's own lateness is not in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Inside {
    /// How many came.
    pub(crate) datagrams: u64,
    /// Of them, those that took more than 2,097 us: the server counts by powers of two.
    pub(crate) over_2_ms: u64,
    /// The count's bound that 99 of 100 stay below, us.
    pub(crate) p99_us: u64,
    /// The same for all of them.
    pub(crate) max_us: u64,
}

/// The bound next to 2 ms, ns.
const TWO_MS: u64 = (1 << 21) - 1;

/// What happened between two edges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Between {
    /// Why what was measured is no result.
    pub(crate) broken: Option<String>,
    /// Datagrams that left as whole frames (AF_XDP).
    pub(crate) xdp_datagrams: u64,
    /// Interfaces that failed under them.
    pub(crate) xdp_failures: u64,
}

/// Asks the server; none if it is not ours.
pub(crate) fn read(target: &Target) -> Result<Edge> {
    let api = match target {
        Target::ApiSocket(path) | Target::Signaling(_, path) => PlainHttp::unix(path),
        Target::Api(address) => PlainHttp::new(*address),
        Target::Reflector(_) => return Ok(Edge::default()),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let answer = runtime.block_on(api.send("GET", "/v1/metrics", &[], &[]))?;
    ensure!(answer.status == 200, "the server's metrics: status {}", answer.status);
    Ok(Edge::of(&answer.text()))
}

impl Edge {
    /// From the text of `GET /v1/metrics`.
    fn of(text: &str) -> Self {
        let mut edge = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            let Ok(value) = value.parse::<f64>() else { continue };
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let worker = || label(labels, "worker").unwrap_or_default();
            match name {
                "ironcast_worker_total" => {
                    let count = label(labels, "name").unwrap_or_default();
                    *edge.counts.entry((worker(), count)).or_default() += value as u64;
                }
                "ironcast_worker_forwarding_delay_seconds_bucket" => {
                    let bound = label(labels, "le").and_then(|bound| bound.parse::<f64>().ok());
                    let bound = bound.filter(|bound| bound.is_finite());
                    let ns = bound.map_or(u64::MAX, |bound| (bound * 1e9).round() as u64);
                    *edge.delays.entry(ns).or_default() += value as u64;
                }
                "ironcast_worker_running" if value == 0.0 => edge.stopped.push(worker()),
                "ironcast_resources" => match label(labels, "kind").as_deref() {
                    Some("router") => edge.routers = value as u64,
                    Some("consumer") => edge.consumers = value as u64,
                    _ => {}
                },
                _ => {}
            }
        }
        edge
    }

    /// How long datagrams were in the server until a later edge.
    pub(crate) fn inside(&self, later: &Self) -> Inside {
        let before = |bound| self.delays.get(bound).copied().unwrap_or(0);
        let grown: Vec<(u64, u64)> = later
            .delays
            .iter()
            .map(|(bound, count)| (*bound, count.saturating_sub(before(bound))))
            .collect();
        let datagrams = grown.last().map_or(0, |(_, count)| *count);
        let up_to = |bound: u64| {
            let below = grown.iter().rev().find(|(each, _)| *each <= bound);
            below.map_or(0, |(_, count)| *count)
        };
        let bound_of = |count: u64| {
            let first = grown.iter().find(|(_, sum)| *sum >= count && count > 0);
            first.map_or(0, |(bound, _)| bound.div_ceil(1_000))
        };
        Inside {
            datagrams,
            over_2_ms: datagrams - up_to(TWO_MS),
            p99_us: bound_of(datagrams - datagrams / 100),
            max_us: bound_of(datagrams),
        }
    }

    /// From this edge to a later one.
    pub(crate) fn until(&self, later: &Self) -> Between {
        let grown = |wanted: &str| {
            let named = later.counts.iter().filter(|((_, name), _)| name == wanted);
            named
                .map(|(key, count)| {
                    count.saturating_sub(self.counts.get(key).copied().unwrap_or(0))
                })
                .sum()
        };
        // A worker that starts again counts from nothing.
        let again = |key: &(String, String), count: &u64| {
            key.1 == "turns" && later.counts.get(key).is_some_and(|later| later < count)
        };
        let restarted = self.counts.iter().find(|(key, count)| again(key, count));
        let broken = match (restarted, later.stopped.first()) {
            (_, Some(worker)) => Some(format!("worker {worker} does not run")),
            (Some(((worker, _), _)), _) => Some(format!("worker {worker} was started again")),
            _ if later.routers < self.routers => {
                Some(format!("{} rooms were lost", self.routers - later.routers))
            }
            _ => None,
        };
        Between {
            broken,
            xdp_datagrams: grown("xdp_datagrams"),
            xdp_failures: grown("xdp_failures"),
        }
    }
}

/// The value of one label.
fn label(labels: &str, name: &str) -> Option<String> {
    let mut pairs = labels.trim_end_matches('}').split(',');
    pairs.find_map(|pair| {
        let value = pair.strip_prefix(name)?.strip_prefix("=\"")?;
        Some(value.trim_end_matches('"').to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_those_between_two_edges() {
        let edge = |counts: [u64; 4]| {
            let bounds = ["0.000001023", "0.002097151", "0.004194303", "+Inf"];
            let lines = bounds.iter().zip(counts).map(|(bound, count)| {
                let name = "ironcast_worker_forwarding_delay_seconds_bucket";
                format!("{name}{{worker=\"0\",le=\"{bound}\"}} {count}\n")
            });
            Edge::of(&lines.collect::<String>())
        };
        let (first, second) = (edge([10, 10, 10, 10]), edge([10, 1_007, 1_010, 1_010]));
        let inside = Inside { datagrams: 1_000, over_2_ms: 3, p99_us: 2_098, max_us: 4_195 };
        assert_eq!(first.inside(&second), inside);
        assert_eq!(second.inside(&second), Inside::default());
    }

    fn edge(running: u8, turns: u64, frames: u64, routers: u64) -> Edge {
        Edge::of(&format!(
            "# HELP ironcast_worker_total Everything\n\
             ironcast_worker_running{{worker=\"0\"}} {running}\n\
             ironcast_resources{{kind=\"router\"}} {routers}\n\
             ironcast_resources{{kind=\"transport\"}} 9\n\
             ironcast_worker_total{{worker=\"0\",name=\"turns\"}} {turns}\n\
             ironcast_worker_total{{worker=\"0\",name=\"xdp_datagrams\"}} {frames}\n\
             ironcast_worker_total{{worker=\"0\",name=\"xdp_failures\"}} 1\n"
        ))
    }

    #[test]
    fn counts_that_only_grow_are_a_sound_window() {
        let between = edge(1, 100, 7, 3).until(&edge(1, 150, 57, 3));
        assert_eq!(between, Between { broken: None, xdp_datagrams: 50, xdp_failures: 0 });
        let between = Edge::default().until(&Edge::default());
        assert_eq!(between, Between::default());
    }

    #[test]
    fn a_worker_that_died_is_named() {
        let before = edge(1, 100, 7, 3);
        let broken = |later: Edge| before.until(&later).broken.unwrap_or_default();
        assert_eq!(broken(edge(0, 100, 7, 3)), "worker 0 does not run");
        assert_eq!(broken(edge(1, 12, 7, 3)), "worker 0 was started again");
        assert_eq!(broken(edge(1, 150, 7, 1)), "2 rooms were lost");
    }
}
