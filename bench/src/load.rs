//! The load: one who sends and many who receive, in a process of its own on its own core. Started
//! by [`crate::measure`] as `ironcast-bench load`; takes a plan and commands by lines of its
//! standard input and answers by lines of JSON. All streams are counted by their headers; a
//! rotating sample is opened and verified.

mod api;
mod plain;
mod tally;

use std::{net::SocketAddr, path::PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};

pub(crate) use tally::Counts;
use tally::Tally;

/// What a load process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Whom to load.
    pub(crate) target: Target,
    /// How many receive.
    pub(crate) receivers: usize,
    /// What is sent.
    pub(crate) media: Media,
    /// SRTP profile.
    pub(crate) cipher: String,
    /// One of so many blocks of packets is opened and verified.
    pub(crate) sample_period: u16,
}

/// A server as the load sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Target {
    /// An SFU with the control API on a unix socket.
    ApiSocket(PathBuf),
    /// An SFU with the control API on plain HTTP.
    Api(SocketAddr),
    /// A reflector.
    Reflector(SocketAddr),
}

/// What is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) enum Media {
    /// A camera of one stream.
    Video {
        /// Mean.
        bitrate_bps: u64,
        /// Frames per second.
        frame_rate: f64,
    },
    /// A microphone: 50 packets a second.
    Audio {
        /// Of a packet's payload.
        payload_bytes: usize,
    },
}

/// A line of the load.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// So many of all are connected.
    Joined(usize),
    /// Every receiver receives.
    Ready,
    /// Counts up to now; delays since the last time.
    Counts(Box<Counts>),
    /// It cannot go on.
    Failed(String),
}

/// The process. Ends with its standard input.
pub(crate) async fn run() -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let plan = lines.next_line().await?.context("no plan on the standard input")?;
    let plan: Plan = serde_json::from_str(&plan)?;
    let result = tokio::select! {
        result = serve(&plan, &mut lines) => result,
        () = end_of_parent() => Ok(()),
    };
    if let Err(error) = &result {
        say(&Said::Failed(format!("{error:#}")));
    }
    result
}

type Lines = tokio::io::Lines<BufReader<tokio::io::Stdin>>;

async fn serve(plan: &Plan, lines: &mut Lines) -> Result<()> {
    let tally = Tally::new(plan.sample_period);
    let load = match &plan.target {
        Target::Reflector(address) => {
            Load::Plain(plain::PlainLoad::start(plan, *address, &tally).await?)
        }
        Target::ApiSocket(path) => {
            let api = ironcast_load::http::PlainHttp::unix(path);
            Load::Api(Box::new(api::ApiLoad::start(plan, api, &tally).await?))
        }
        Target::Api(address) => {
            let api = ironcast_load::http::PlainHttp::new(*address);
            Load::Api(Box::new(api::ApiLoad::start(plan, api, &tally).await?))
        }
    };
    load.wait_for_media(plan.receivers).await?;
    say(&Said::Ready);
    while let Some(line) = lines.next_line().await? {
        match line.as_str() {
            "count" => say(&Said::Counts(Box::new(load.counts(&tally)))),
            "stop" => break,
            other => bail!("no such command: {other}"),
        }
    }
    load.stop().await;
    Ok(())
}

enum Load {
    Api(Box<api::ApiLoad>),
    Plain(plain::PlainLoad),
}

impl Load {
    async fn wait_for_media(&self, receivers: usize) -> Result<()> {
        for _ in 0..600 {
            let receiving = match self {
                Self::Api(load) => load.receiving(),
                Self::Plain(load) => load.receiving(),
            };
            if receiving == receivers {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        bail!("not every receiver has received something within 30 s")
    }

    fn counts(&self, tally: &Tally) -> Counts {
        let mut counts = tally.take();
        match self {
            Self::Api(load) => load.add_to(&mut counts),
            Self::Plain(load) => load.add_to(&mut counts),
        }
        counts
    }

    async fn stop(self) {
        if let Self::Api(load) = self {
            load.stop().await;
        }
    }
}

/// One line to whoever started this process.
fn say(what: &Said) {
    println!("{}", serde_json::to_string(what).expect("plain data"));
}

/// A killed bench cannot stop its load: the load looks itself.
async fn end_of_parent() {
    let parent = std::os::unix::process::parent_id();
    loop {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        if std::os::unix::process::parent_id() != parent {
            return;
        }
    }
}
