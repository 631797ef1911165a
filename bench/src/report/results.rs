//! What the report is made from: the files that runs have left in their folder, the newest of each
//! kind. Reads only; a file that cannot be read is named, not guessed.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use serde_json::Value;

/// One run of a scenario.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) scenario: String,
    /// The last line that it printed.
    pub(super) line: Value,
    /// Raw windows.
    pub(super) windows: Vec<Value>,
    /// Unix seconds.
    pub(super) made: u64,
    pub(super) machine: Value,
}

/// Costs of one server in one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cost {
    pub(super) server: String,
    /// CPU-seconds a million packets, with its interval.
    pub(super) value: f64,
    pub(super) low: f64,
    pub(super) high: f64,
    /// Ours over this one; none for ours.
    pub(super) ratio: Option<[f64; 3]>,
}

/// In this order they are shown.
const SERVERS: [(&str, &str); 7] = [
    ("ironcast", "Ironcast"),
    ("ironcast-xdp", "Ironcast, AF_XDP"),
    ("ironcast-busy-poll", "Ironcast, busy polling"),
    ("mediasoup", "mediasoup"),
    ("janus", "Janus"),
    ("reflector-sendmmsg", "floor, single sends"),
    ("reflector-segmented", "floor, segmented"),
];

/// A server's name for people.
pub(super) fn label(server: &str) -> &str {
    SERVERS.iter().find(|(name, _)| *name == server).map_or(server, |(_, label)| label)
}

fn rank(server: &str) -> usize {
    SERVERS.iter().position(|(name, _)| *name == server).unwrap_or(SERVERS.len())
}

/// The newest run of each scenario, cipher, size, and with or without segmentation; the second are
/// files that could not be read.
pub(super) fn newest(folder: &Path) -> Result<(Vec<Run>, Vec<String>)> {
    let entries = fs::read_dir(folder)
        .with_context(|| format!("no results in {}: run a scenario first", folder.display()))?;
    let (mut newest, mut unreadable) = (BTreeMap::<_, Run>::new(), Vec::new());
    for path in entries.flatten().map(|entry| entry.path()) {
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let read = fs::read_to_string(&path).map_err(anyhow::Error::from);
        let Ok(run) = read.and_then(|text| parsed(&text)) else {
            unreadable.push(path.display().to_string());
            continue;
        };
        for run in run.by_size() {
            let size = run.line["consumers"].as_u64().unwrap_or(0);
            let cipher = run.line["cipher"].as_str().unwrap_or("").to_owned();
            let key = (run.scenario.clone(), cipher, size, run.is_segmented());
            if newest.get(&key).is_none_or(|other| other.made <= run.made) {
                newest.insert(key, run);
            }
        }
    }
    unreadable.sort();
    Ok((newest.into_values().collect(), unreadable))
}

fn parsed(text: &str) -> Result<Run> {
    let mut file: Value = serde_json::from_str(text)?;
    let line = file["line"].take();
    let scenario = line["scenario"].as_str().context("no scenario")?.to_owned();
    let windows = match file["windows"].take() {
        Value::Array(windows) => windows,
        _ => Vec::new(),
    };
    let made = file["made"].as_u64().unwrap_or(0);
    Ok(Run { scenario, line, windows, made, machine: file["machine"].take() })
}

impl Run {
    /// A run over several sizes is as many runs.
    fn by_size(self) -> Vec<Self> {
        let Some(sizes) = self.line["by_consumers"].as_array().filter(|all| !all.is_empty()) else {
            return vec![self];
        };
        let of_size = |line: &Value| {
            let mut line = line.clone();
            for field in ["scenario", "cipher", "topology", "segmentation", "left_out"] {
                if line[field].is_null() {
                    line[field] = self.line[field].clone();
                }
            }
            let size = &line["consumers"];
            let windows = self
                .windows
                .iter()
                .filter(|window| sizes.len() == 1 || window["consumers"] == *size)
                .cloned()
                .collect();
            Self { line, windows, ..self.clone() }
        };
        sizes.iter().map(of_size).collect()
    }

    pub(super) fn consumers(&self) -> u64 {
        self.line["consumers"].as_u64().unwrap_or(0)
    }

    /// Whether the devices segmented, as they do unless the bench switched it off.
    pub(super) fn is_segmented(&self) -> bool {
        self.line["segmentation"] != false
    }

    /// Of this kind, on devices that segment.
    pub(super) fn is(&self, scenario: &str, cipher: &str) -> bool {
        self.is_segmented() && self.is_of(scenario, cipher)
    }

    /// Of this kind, on whatever devices.
    pub(super) fn is_of(&self, scenario: &str, cipher: &str) -> bool {
        self.scenario == scenario && self.line["cipher"].as_str().is_none_or(|one| one == cipher)
    }

    /// Every server of this run: ours is the line itself.
    pub(super) fn servers(&self) -> Vec<(&str, &Value)> {
        let ours = (!self.line["cpu_s_per_million"].is_null()).then_some(("ironcast", &self.line));
        let peers = self.line["peers"].as_object();
        let peers = peers.into_iter().flatten().map(|(name, values)| (name.as_str(), values));
        let mut all: Vec<(&str, &Value)> = ours.into_iter().chain(peers).collect();
        all.sort_by_key(|(name, _)| rank(name));
        all
    }

    pub(super) fn costs(&self) -> Vec<Cost> {
        self.servers().into_iter().filter_map(|(name, values)| cost(name, values)).collect()
    }

    /// Delays of one server over all windows that count: microseconds and how often, upwards.
    pub(super) fn delays(&self, server: &str) -> Vec<(u64, u64)> {
        let mut all = BTreeMap::new();
        for window in &self.windows {
            let counts = window["disturbed"] != true && window["broken"].is_null();
            if window["server"] != server || !counts {
                continue;
            }
            for pair in window["delay_us"].as_array().into_iter().flatten() {
                if let (Some(us), Some(count)) = (pair[0].as_u64(), pair[1].as_u64()) {
                    *all.entry(us).or_insert(0) += count;
                }
            }
        }
        all.into_iter().collect()
    }

    /// Who could not run, and why.
    pub(super) fn left_out(&self) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        self.line["left_out"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|one| (text(&one["server"]), text(&one["why"])))
            .collect()
    }
}

fn cost(server: &str, values: &Value) -> Option<Cost> {
    let value = values["cpu_s_per_million"].as_f64()?;
    let interval = &values["cpu_s_per_million_interval"];
    let ratio = &values["ironcast_over_this"];
    let ratio = match (ratio["median"].as_f64(), ratio["low"].as_f64(), ratio["high"].as_f64()) {
        (Some(median), Some(low), Some(high)) => Some([median, low, high]),
        _ => None,
    };
    Some(Cost {
        server: server.to_owned(),
        value,
        low: interval[0].as_f64().unwrap_or(value),
        high: interval[1].as_f64().unwrap_or(value),
        ratio: ratio.filter(|_| server != "ironcast"),
    })
}

/// Shares of packets and the delay that they stay below.
pub(super) fn distribution(delays: &[(u64, u64)]) -> Vec<(f64, f64)> {
    let all: u64 = delays.iter().map(|(_, count)| count).sum();
    let mut below = 0;
    delays
        .iter()
        .map(|(us, count)| {
            let share = below as f64 / all as f64;
            below += count;
            (share, *us as f64)
        })
        .filter(|(share, _)| *share < 0.9999)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(consumers: u64, cost: f64, made: u64) -> String {
        let peer = json!({
            "cpu_s_per_million": 2.0,
            "cpu_s_per_million_interval": [1.9, 2.1],
            "ironcast_over_this": { "median": 0.5, "low": 0.4, "high": 0.6 },
        });
        let line = json!({
            "scenario": "fanout", "consumers": consumers, "cipher": "GCM",
            "cpu_s_per_million": cost, "peers": { "reflector-sendmmsg": peer, "janus": peer },
        });
        json!({ "line": line, "windows": [], "made": made }).to_string()
    }

    #[test]
    fn the_newest_of_each_size_counts() {
        let folder = std::env::temp_dir().join(format!("ironcast-results-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder");
        let files = [("a", file(50, 1.0, 10)), ("b", file(50, 3.0, 20)), ("c", file(100, 2.0, 5))];
        for (name, text) in &files {
            fs::write(folder.join(format!("{name}.json")), text).expect("a file");
        }
        // Devices that do not segment are another question, not a newer answer.
        let single = file(100, 9.0, 30).replace("\"cipher\"", "\"segmentation\":false,\"cipher\"");
        fs::write(folder.join("e.json"), single).expect("a file");
        fs::write(folder.join("d.json"), "{").expect("a file");
        let (runs, unreadable) = newest(&folder).expect("results");
        fs::remove_dir_all(&folder).expect("the folder goes");
        let found: Vec<(u64, f64)> =
            runs.iter().map(|run| (run.consumers(), run.costs()[0].value)).collect();
        assert_eq!(found, [(50, 3.0), (100, 9.0), (100, 2.0)]);
        assert!(!runs[1].is("fanout", "GCM") && runs[1].is_of("fanout", "GCM"));
        assert!(unreadable.len() == 1 && unreadable[0].ends_with("d.json"));
    }

    #[test]
    fn servers_come_in_their_order_with_their_ratios() {
        let run = parsed(&file(50, 1.0, 1)).expect("a run");
        let costs = run.costs();
        let names: Vec<&str> = costs.iter().map(|one| one.server.as_str()).collect();
        assert_eq!(names, ["ironcast", "janus", "reflector-sendmmsg"]);
        assert_eq!((costs[0].ratio, costs[1].ratio), (None, Some([0.5, 0.4, 0.6])));
        assert_eq!((costs[1].low, costs[1].high), (1.9, 2.1));
    }

    #[test]
    fn several_sizes_in_one_run_are_several_runs() {
        let one = |consumers: u64| json!({ "consumers": consumers, "cpu_s_per_million": 1.0 });
        let line =
            json!({ "scenario": "fanout", "cipher": "GCM", "by_consumers": [one(50), one(100)] });
        let window = |consumers: u64| json!({ "server": "ironcast", "consumers": consumers });
        let windows = [window(50), window(100), window(100)];
        let text = json!({ "line": line, "windows": windows }).to_string();
        let runs = parsed(&text).expect("a run").by_size();
        let sizes: Vec<(u64, usize)> =
            runs.iter().map(|run| (run.consumers(), run.windows.len())).collect();
        assert_eq!(sizes, [(50, 1), (100, 2)]);
        assert!(runs[0].is("fanout", "GCM"));
    }

    #[test]
    fn a_distribution_rises() {
        let points = distribution(&[(100, 90), (200, 9), (400, 1)]);
        assert_eq!(points, [(0.0, 100.0), (0.9, 200.0), (0.99, 400.0)]);
    }
}
