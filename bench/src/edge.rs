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
}

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
        Target::ApiSocket(path) => PlainHttp::unix(path),
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
