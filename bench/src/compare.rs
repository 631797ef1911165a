//! `ironcast-bench compare`: the scenarios that every server can run, one after the other with all
//! servers, and one table of how we stand to each. Called by `main`; measures by the scenarios.

use std::{
    fmt::Write,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{fanout, interrupt, load::Media, scenario::meeting, servers::Peers};

const GCM: &str = "AEAD_AES_128_GCM";
const AES_CM: &str = "AES_CM_128_HMAC_SHA1_80";

/// Options of `compare`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Receivers of the camera [300, quick: 50].
    #[arg(long, short = 'n')]
    receivers: Option<usize>,
    /// Listeners of the microphone [500, quick: 100].
    #[arg(long)]
    listeners: Option<usize>,
    /// Rooms of the meeting, of 20 people each [10, quick: 2 of 6 people].
    #[arg(long)]
    rooms: Option<usize>,
    /// Seconds of a window [10, quick: 3].
    #[arg(long)]
    window: Option<f64>,
    /// Seconds before a window [3, quick: 1].
    #[arg(long)]
    warm_up: Option<f64>,
    /// Rounds over all servers [4, quick: 2].
    #[arg(long)]
    blocks: Option<usize>,
    /// Small and short: shows that everything works, and roughly how we stand.
    #[arg(long)]
    quick: bool,
    /// Only loopback, although namespaces could be made.
    #[arg(long)]
    loopback: bool,
    #[command(flatten)]
    peers: Peers,
}

/// One scenario of the comparison.
struct Step {
    title: String,
    what: What,
}

enum What {
    /// One to many.
    Stream(&'static str, Media, fanout::Options),
    /// Rooms.
    Meeting(meeting::Options),
}

/// Runs them all; prints the table, gives the last line.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let steps = options.steps();
    let (start, count) = (Instant::now(), steps.len());
    let mut runs = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        interrupt::check()?;
        eprintln!("{} of {count}: {}{}", at + 1, step.title, left(start.elapsed(), at, count));
        let line = match &step.what {
            What::Stream(scenario, media, options) => fanout::run(scenario, *media, options),
            What::Meeting(options) => meeting::run(options),
        };
        let line = line.with_context(|| step.title.clone())?;
        runs.push((step.title.clone(), line));
    }
    println!("{}", table(&runs));
    let lines: Vec<Value> = runs.into_iter().map(|(_, line)| line).collect();
    Ok(json!({ "scenario": "compare", "runs": lines }))
}

/// How long the rest will take, if it goes on like this.
fn left(elapsed: Duration, done: usize, all: usize) -> String {
    if done == 0 {
        return String::new();
    }
    let seconds = elapsed.as_secs_f64() / done as f64 * (all - done) as f64;
    format!(", about {:.0} min of all left", (seconds / 60.0).ceil())
}

impl Options {
    fn steps(&self) -> Vec<Step> {
        let receivers = self.or_quick(self.receivers, 300, 50);
        let listeners = self.or_quick(self.listeners, 500, 100);
        let rooms = self.or_quick(self.rooms, 10, 2);
        let stream = |title: String, scenario, media, options| Step {
            title,
            what: What::Stream(scenario, media, options),
        };
        vec![
            stream(
                format!("camera to {receivers}, AES-GCM"),
                "fanout",
                fanout::VIDEO,
                self.stream(receivers, GCM),
            ),
            stream(
                format!("camera to {receivers}, AES-CM"),
                "fanout",
                fanout::VIDEO,
                self.stream(receivers, AES_CM),
            ),
            stream(
                format!("microphone to {listeners}, AES-GCM"),
                "audio",
                fanout::AUDIO,
                self.stream(listeners, GCM),
            ),
            Step {
                title: format!("{rooms} meetings, AES-GCM"),
                what: What::Meeting(self.meeting(rooms)),
            },
        ]
    }

    fn or_quick<T>(&self, asked: Option<T>, normal: T, quick: T) -> T {
        asked.unwrap_or(if self.quick { quick } else { normal })
    }

    fn stream(&self, receivers: usize, cipher: &str) -> fanout::Options {
        fanout::Options {
            receivers: vec![receivers],
            cipher: cipher.to_owned(),
            window: self.or_quick(self.window, 10.0, 3.0),
            warm_up: self.or_quick(self.warm_up, 3.0, 1.0),
            blocks: self.or_quick(self.blocks, 4, 2),
            loopback: self.loopback,
            no_segmentation: false,
            sample_period: 16,
            only: Vec::new(),
            peers: self.peers.clone(),
            raw: None,
        }
    }

    fn meeting(&self, rooms: usize) -> meeting::Options {
        meeting::Options {
            rooms,
            people: self.or_quick(None, 20, 6),
            talkers: 2,
            large: 1,
            layers: vec![40, 120, 360],
            window: self.or_quick(self.window, 10.0, 3.0),
            blocks: self.or_quick(self.blocks, 4, 2),
            loopback: self.loopback,
            // The reflectors know one room and one stream.
            only: ["ironcast", "ironcast-xdp", "mediasoup", "janus"].map(str::to_owned).to_vec(),
            peers: self.peers.clone(),
        }
    }
}

/// A row a scenario, a column a server: our cost over its cost.
fn table(runs: &[(String, Value)]) -> String {
    let mut servers: Vec<&String> = Vec::new();
    for (_, line) in runs {
        for server in line["peers"].as_object().into_iter().flat_map(|peers| peers.keys()) {
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    let mut out = String::from("ironcast's cost over that of\n");
    let _ = write!(out, "{:<30} {:>16}", "", "ours, CPU-s/M");
    for server in &servers {
        let _ = write!(out, "  {server:>22}");
    }
    out.push('\n');
    for (title, line) in runs {
        let ours = line["cpu_s_per_million"].as_f64();
        let ours = ours.map_or_else(|| "-".to_owned(), |cost| format!("{cost:.3}"));
        let _ = write!(out, "{title:<30} {ours:>16}");
        for server in &servers {
            let _ = write!(out, "  {:>22}", ratio(&line["peers"][*server]["ironcast_over_this"]));
        }
        out.push('\n');
        let xdp = &line["peers"]["ironcast-xdp"];
        if let Some(cost) = xdp["cpu_s_per_million"].as_f64() {
            let _ = write!(out, "{:<30} {cost:>16.3}", "  with xdp");
            for server in &servers {
                let over = ratio(&line["peers"][*server]["ironcast_xdp_over_this"]);
                let _ = write!(out, "  {over:>22}");
            }
            out.push('\n');
        }
    }
    out
}

fn ratio(estimate: &Value) -> String {
    let of = |name: &str| estimate[name].as_f64();
    match (of("median"), of("low"), of("high")) {
        (Some(median), Some(low), Some(high)) => format!("{median:.2} x [{low:.2} {high:.2}]"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_of_any_run_has_a_column() {
        let peer = json!({ "ironcast_over_this": { "median": 0.5, "low": 0.45, "high": 0.6 } });
        let runs = [
            ("a".to_owned(), json!({ "cpu_s_per_million": 1.0, "peers": { "janus": peer } })),
            ("b".to_owned(), json!({ "peers": { "mediasoup": peer } })),
        ];
        let table = table(&runs);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[1].contains("janus") && lines[1].contains("mediasoup"));
        assert!(lines[2].contains("1.000") && lines[2].contains("0.50 x [0.45 0.60]"));
        assert!(lines[3].trim_end().ends_with("0.50 x [0.45 0.60]"));
    }

    #[test]
    fn our_other_way_to_send_has_a_line_of_its_own() {
        let over = |median: f64| json!({ "median": median, "low": median, "high": median });
        let peers = json!({
            "ironcast-xdp": { "cpu_s_per_million": 0.7, "ironcast_over_this": over(1.4) },
            "janus": { "ironcast_over_this": over(0.5), "ironcast_xdp_over_this": over(0.3) },
        });
        let runs = [("a".to_owned(), json!({ "cpu_s_per_million": 1.0, "peers": peers }))];
        let table = table(&runs);
        let lines: Vec<&str> = table.lines().collect();
        assert!(lines[2].starts_with("a ") && lines[2].contains("0.50 x [0.50 0.50]"));
        assert!(lines[3].starts_with("  with xdp") && lines[3].contains("0.700"));
        assert!(lines[3].contains("0.30 x [0.30 0.30]"));
    }

    #[test]
    fn what_is_left_follows_what_was_needed() {
        assert_eq!(left(Duration::ZERO, 0, 3), "");
        assert_eq!(left(Duration::from_secs(120), 1, 3), ", about 4 min of all left");
    }
}
