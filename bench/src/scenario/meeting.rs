//! Scenario `meeting`: rooms of people who see and hear each other, three layers each. What a
//! forwarded packet costs when sizes, sources and layers are mixed.

use anyhow::Result;
use serde_json::Value;

use super::CIPHER;
use crate::{fanout, load::Rooms, servers::Peers};

/// Options of `meeting`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Rooms.
    #[arg(long, default_value_t = 10)]
    pub(crate) rooms: usize,
    /// People in each.
    #[arg(long, default_value_t = 20)]
    pub(crate) people: usize,
    /// Of each room so many talk; the other microphones are silent.
    #[arg(long, default_value_t = 2)]
    pub(crate) talkers: usize,
    /// Tiles that each sees in the highest layer; the rest in the lowest.
    #[arg(long, default_value_t = 1)]
    pub(crate) large: usize,
    /// Kilobits a second of the layers, lowest first. Small by default, so that one core carries
    /// the load.
    #[arg(long, value_delimiter = ',', default_values_t = [40, 120, 360])]
    pub(crate) layers: Vec<u64>,
    /// Seconds of a window.
    #[arg(long, default_value_t = 10.0)]
    pub(crate) window: f64,
    /// Rounds over all servers.
    #[arg(long, default_value_t = 2)]
    pub(crate) blocks: usize,
    /// Only loopback, although namespaces could be made.
    #[arg(long)]
    pub(crate) loopback: bool,
    /// Only these servers: ironcast, ironcast-xdp and peers.
    #[arg(long, value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    #[command(flatten)]
    pub(crate) peers: Peers,
}

impl Options {
    fn plan(&self) -> Result<Rooms> {
        let layers_bps: Result<[u64; 3], _> = self.layers.clone().try_into();
        let layers_bps = layers_bps.map_err(|_| anyhow::anyhow!("--layers takes three rates"))?;
        anyhow::ensure!(self.people >= 2 && self.rooms >= 1, "a meeting has people");
        Ok(Rooms {
            rooms: self.rooms,
            people: self.people,
            cameras: self.people,
            screens: 0,
            talkers: self.talkers,
            large: self.large,
            layers_bps: layers_bps.map(|kbps| kbps * 1_000),
            silent: false,
        })
    }
}

/// Runs it and prints the table.
pub(crate) fn run(options: &Options) -> Result<Value> {
    let rooms = options.plan()?;
    let only = if options.only.is_empty() {
        // The reflectors know one room and one stream.
        ["ironcast", "ironcast-xdp", "mediasoup", "janus"].map(str::to_owned).to_vec()
    } else {
        options.only.clone()
    };
    let windows = fanout::Options {
        receivers: vec![rooms.consumers()],
        cipher: CIPHER.to_owned(),
        window: options.window,
        warm_up: 3.0,
        blocks: options.blocks,
        loopback: options.loopback,
        no_segmentation: false,
        sample_period: 16,
        only,
        peers: options.peers.clone(),
        raw: None,
    };
    fanout::run_plan("meeting", fanout::VIDEO, &windows, Some(&rooms))
}
