//! Scenario `fanout`: one sends, N receive. What a forwarded packet costs.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    keep,
    load::{Media, Plan, Rooms},
    measure::{Times, Window, merged_delay, no_result, run_blocks},
    servers::{LeftOut, Peers, Server},
    stage::{self, Stage},
    statistics::{Estimate, estimate, ratios},
    table,
    topology::Topology,
};

/// Options of `fanout` and `audio`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// How many receive; several by commas, one after the other.
    #[arg(long, short = 'n', default_values_t = [300], value_delimiter = ',')]
    pub(crate) receivers: Vec<usize>,
    /// SRTP profile: AEAD_AES_128_GCM, AEAD_AES_256_GCM or AES_CM_128_HMAC_SHA1_80.
    #[arg(long, default_value = "AEAD_AES_128_GCM")]
    pub(crate) cipher: String,
    /// Seconds of a window.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) window: f64,
    /// Seconds before a window.
    #[arg(long, default_value_t = 3.0)]
    pub(crate) warm_up: f64,
    /// Rounds over all servers, each in the reverse order of the one before.
    #[arg(long, default_value_t = 4)]
    pub(crate) blocks: usize,
    /// Only loopback, although namespaces could be made.
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Switches UDP segmentation of the devices off, as on a network card without it.
    #[arg(long)]
    pub(crate) no_segmentation: bool,
    /// One of so many blocks of packets is opened and verified.
    #[arg(long, default_value_t = 16)]
    pub(crate) sample_period: u16,
    /// Only these servers: ironcast, ironcast-xdp, reflector-sendmmsg, reflector-segmented, and
    /// peers.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) peers: Peers,
    /// Writes all windows to this file, JSON.
    #[arg(long)]
    pub(crate) raw: Option<std::path::PathBuf>,
}

/// Mean of the video, without overhead.
pub(crate) const VIDEO: Media = Media::Video { bitrate_bps: 2_500_000, frame_rate: 30.0 };
/// One packet every 20 ms.
pub(crate) const AUDIO: Media = Media::Audio { payload_bytes: 160 };

/// Runs it for each size, prints the tables and gives the last line.
pub(crate) fn run(scenario: &str, media: Media, options: &Options) -> Result<Value> {
    let mut lines = Vec::new();
    for receivers in &options.receivers {
        if options.receivers.len() > 1 {
            println!("{receivers} receivers");
        }
        let options = Options { receivers: vec![*receivers], ..options.clone() };
        lines.push(run_plan(scenario, media, &options, None)?);
    }
    let mut line = lines.last().cloned().context("-n takes a number, or several by commas")?;
    if lines.len() > 1 {
        line["by_consumers"] = lines.into();
    }
    Ok(line)
}

/// One camera to receivers on one worker, and on two: the second server's cost over the first's is what a
/// room that spreads pays.
pub(crate) fn run_spread(options: &Options) -> Result<Value> {
    let only = [Server::Ironcast, Server::IroncastSpread].map(|one| one.name().to_owned());
    run("spread", VIDEO, &Options { only: only.to_vec(), ..options.clone() })
}

/// The same for one size; with `rooms` the load is theirs.
pub(crate) fn run_plan(
    scenario: &str,
    media: Media,
    options: &Options,
    rooms: Option<&Rooms>,
) -> Result<Value> {
    let stage = Stage { loopback: options.loopback, no_segmentation: options.no_segmentation };
    let topology = stage.build();
    let (mut ours, mut left_out) = Server::ours(&topology);
    if options.only.iter().any(|name| name == Server::IroncastSpread.name()) {
        ours.push(Server::IroncastSpread);
    }
    let (peers, without) = options.peers.find(&topology);
    left_out.extend(without);
    LeftOut::tell(&left_out);
    let servers: Vec<Server> = [Server::ReflectorSegmented, Server::ReflectorSendmmsg]
        .into_iter()
        .chain(ours)
        .chain(peers)
        .filter(|one| options.only.is_empty() || options.only.iter().any(|name| name == one.name()))
        .collect();
    let times = Times {
        warm_up: Duration::from_secs_f64(options.warm_up),
        window: Duration::from_secs_f64(options.window),
    };
    let progress = stage::progress(servers.len() * options.blocks * 3)?;
    let plan = |target| Plan {
        target,
        receivers: options.receivers[0],
        media,
        cipher: options.cipher.clone(),
        sample_period: options.sample_period,
        rooms: rooms.cloned(),
    };
    let windows = run_blocks(&topology, &servers, &plan, times, options.blocks, &progress);
    progress.finish_and_clear();
    let (windows, failed) = windows?;
    LeftOut::tell(&failed);
    left_out.extend(failed);
    if let Some(path) = &options.raw {
        std::fs::write(path, serde_json::to_string_pretty(&windows)?)?;
    }
    let summaries: Vec<Summary> =
        servers.iter().filter_map(|server| Summary::of(server.name(), &windows)).collect();
    println!("{}", table::of(&summaries, &windows));
    let line = last_line(scenario, options, &topology, &summaries, &left_out);
    keep::keep(&line, &windows)?;
    ensure!(!summaries.is_empty(), "{}", no_result(&windows));
    Ok(line)
}

/// What all windows of one server say together.
#[derive(Debug, Clone)]
pub(crate) struct Summary {
    pub(crate) server: &'static str,
    pub(crate) cpu: Estimate,
    pub(crate) core: Estimate,
    /// Ours over this one, pair by pair; none for ours.
    pub(crate) ours_over_this: Option<Estimate>,
    /// The same of ours with frames past the network stack.
    pub(crate) xdp_over_this: Option<Estimate>,
    pub(crate) load_core_busy: f64,
    pub(crate) load_busy: f64,
    pub(crate) core_busy: f64,
    pub(crate) disturbed: usize,
    /// Windows in which the server died, was started again or stood still.
    pub(crate) broken: usize,
    /// Of what was received, the share that left the server as whole frames.
    pub(crate) by_frames: f64,
    pub(crate) sent: u64,
    pub(crate) received: u64,
    pub(crate) lost: u64,
    pub(crate) verified: u64,
    pub(crate) corrupt: u64,
    /// p50, p99, p99.9, max.
    pub(crate) delay_us: [u64; 4],
}

impl Summary {
    fn of(server: &'static str, windows: &[Window]) -> Option<Self> {
        let all: Vec<&Window> = windows.iter().filter(|one| one.server == server).collect();
        let good: Vec<&Window> = all.iter().copied().filter(|one| one.counts()).collect();
        let costs = |of: &dyn Fn(&Window) -> f64| -> Vec<f64> {
            good.iter().map(|window| of(window)).collect()
        };
        let delay = merged_delay(&good);
        let sum = |of: &dyn Fn(&Window) -> u64| good.iter().map(|window| of(window)).sum::<u64>();
        let mean = |of: &dyn Fn(&Window) -> f64| {
            good.iter().map(|window| of(window)).sum::<f64>() / good.len().max(1) as f64
        };
        let over = |ours: Server| {
            (server != ours.name()).then(|| paired(windows, ours.name(), server)).flatten()
        };
        Some(Self {
            server,
            cpu: estimate(&costs(&Window::cpu_s_per_million))?,
            core: estimate(&costs(&Window::core_s_per_million))?,
            ours_over_this: over(Server::Ironcast),
            xdp_over_this: over(Server::IroncastXdp),
            load_core_busy: mean(&|window| window.load_core_busy),
            load_busy: mean(&|window| window.load_busy),
            core_busy: mean(&|window| window.core_busy),
            disturbed: all.iter().filter(|one| one.disturbed).count(),
            broken: all.iter().filter(|one| one.broken.is_some()).count(),
            by_frames: sum(&|window| window.xdp_datagrams) as f64
                / sum(&|window| window.received).max(1) as f64,
            sent: sum(&|window| window.sent),
            received: sum(&|window| window.received),
            lost: sum(&|window| window.lost),
            verified: sum(&|window| window.verified),
            corrupt: sum(&|window| window.corrupt),
            delay_us: [0.5, 0.99, 0.999, 1.0].map(|at| delay.value_at_quantile(at)),
        })
    }

    /// As in the last line.
    pub(crate) fn json(&self) -> Value {
        let [p50, p99, p999, max] = self.delay_us;
        json!({
            "cpu_s_per_million": self.cpu.median,
            "cpu_s_per_million_interval": [self.cpu.low, self.cpu.high],
            "core_s_per_million": self.core.median,
            "core_busy": self.core_busy,
            "load_core_busy": self.load_core_busy,
            "load_busy": self.load_busy,
            "sent": self.sent,
            "received": self.received,
            "lost": self.lost,
            "verified": self.verified,
            "corrupt": self.corrupt,
            "disturbed_windows": self.disturbed,
            "broken_windows": self.broken,
            "by_frames": self.by_frames,
            "delay_us": { "p50": p50, "p99": p99, "p999": p999, "max": max },
            "ironcast_over_this": self.ours_over_this,
            "ironcast_xdp_over_this": self.xdp_over_this,
        })
    }
}

/// Median of the ratios of windows of the same round.
fn paired(windows: &[Window], ours: &str, theirs: &str) -> Option<Estimate> {
    let of = |server: &str| windows.iter().filter(|one| one.server == server).collect::<Vec<_>>();
    let (ours, theirs) = (of(ours), of(theirs));
    let pairs: Vec<(f64, f64)> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, theirs)| ours.counts() && theirs.counts())
        .map(|(ours, theirs)| (ours.cpu_s_per_million(), theirs.cpu_s_per_million()))
        .collect();
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
    estimate(&ratios(&a, &b))
}

fn last_line(
    scenario: &str,
    options: &Options,
    topology: &Topology,
    summaries: &[Summary],
    left_out: &[LeftOut],
) -> Value {
    let of = |server: Server| summaries.iter().find(|one| one.server == server.name());
    let cost = |server: Server| of(server).map(|summary| summary.cpu.median);
    let mut line = json!({
        "scenario": scenario,
        "consumers": options.receivers[0],
        "cipher": options.cipher,
        "topology": topology.name(),
        "segmentation": !options.no_segmentation,
        "left_out": left_out,
        "floor_cpu_s_per_million": cost(Server::ReflectorSendmmsg),
        "floor_gso_cpu_s_per_million": cost(Server::ReflectorSegmented),
    });
    if let (Some(ours), Some(line)) = (of(Server::Ironcast), line.as_object_mut())
        && let Value::Object(fields) = ours.json()
    {
        line.extend(fields);
    }
    let peers: serde_json::Map<String, Value> = summaries
        .iter()
        .filter(|one| one.server != Server::Ironcast.name())
        .map(|one| (one.server.to_owned(), one.json()))
        .collect();
    line["peers"] = Value::Object(peers);
    line
}
