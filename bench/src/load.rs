//! The load: one who sends and many who receive, or rooms, in a process of its own on its own core. Started
//! by [`crate::measure`] as `ironcast-bench load`; takes a plan and commands by lines of its
//! standard input and answers by lines of JSON. All streams are counted by their headers; a
//! rotating sample is opened and verified.

mod api;
mod crowd;
mod lag;
mod pauses;
mod plain;
mod rooms;
mod tally;
mod way;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail};
use ironcast_load::http::PlainHttp;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader};
use way::{Signaling, Way};

use lag::{Lags, Sample};
use pauses::Pauses;
pub(crate) use rooms::Rooms;
pub(crate) use tally::Counts;
use tally::Tally;

/// Within this a started server has found all of its parts.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// What was sent and has not arrived so much later is lost.
const SETTLE_LIMIT: Duration = Duration::from_millis(500);
/// The first settling looks so long: longer than from a frame to the next.
const SETTLE_FIRST: Duration = Duration::from_millis(120);
const SETTLE_STEP: Duration = Duration::from_millis(5);

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
    /// Rooms instead of one who sends and many who receive.
    pub(crate) rooms: Option<Rooms>,
}

impl Plan {
    /// Streams that are received, all together.
    pub(crate) fn consumers(&self) -> usize {
        self.rooms.as_ref().map_or(self.receivers, Rooms::consumers)
    }
}

/// A server as the load sees it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Target {
    /// An SFU with the control API on a unix socket.
    ApiSocket(PathBuf),
    /// An SFU with the control API on plain HTTP.
    Api(SocketAddr),
    /// Our signaling service in front of an SFU whose control API is on a unix socket.
    Signaling(SocketAddr, PathBuf),
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
    /// A camera of three layers, 100, 300 and 900 kb/s.
    Layers,
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
    /// So many have what they want to receive.
    Subscribed(usize),
    /// Every receiver receives.
    Ready,
    /// A command was carried out.
    Done,
    /// So many packets never came, between the first settling and this one.
    Lost(u64),
    /// What a join storm brought.
    Storm(Storm),
    /// A crowd is there, with so many consumers.
    Crowd(usize),
    /// Microseconds that each who came needed until he saw everybody.
    Arrived(Vec<u64>),
    /// What changes of layers brought.
    Switches(Switches),
    /// Counts up to now; delays since the last time.
    Counts(Box<Counts>),
    /// It cannot go on.
    Failed(String),
}

/// Many joins into a running room.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Storm {
    /// From the first call to the first packet, of each who joined.
    pub(crate) first_packet_us: Vec<u64>,
    /// Who got nothing.
    pub(crate) failed: u64,
}

/// Changes of layers.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Switches {
    /// From the call to the first packet of the layer, where one receiver changes at a time.
    pub(crate) took_us: Vec<u64>,
    /// The same where all change at once.
    pub(crate) together_us: Vec<u64>,
    /// Layers that did not come.
    pub(crate) failed: u64,
    /// Gaps in the receivers' sequence numbers meanwhile.
    pub(crate) lost: u64,
    /// Between two packets of one receiver.
    pub(crate) longest_pause_us: u64,
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
    let mut load = Load::start(plan, &tally).await?;
    if plan.rooms.as_ref().is_none_or(|rooms| !rooms.silent) {
        load.wait_for_media().await?;
    }
    let pauses = Pauses::watch(load.meter());
    let mut lags = Lags::default();
    say(&Said::Ready);
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split(' ').collect();
        match (words.as_slice(), &mut load) {
            (["count"], _) => {
                let mut counts = load.counts(&tally);
                (counts.lost, counts.pause_ms) = (lags.lost(), pauses.take_ms());
                say(&Said::Counts(Box::new(counts)));
            }
            (["settle"], _) => {
                load.settle(&mut lags).await;
                say(&Said::Lost(lags.lost()));
            }
            (["stop"], _) => break,
            (["play", count], Load::Rooms(rooms)) => {
                rooms.play(count.parse()?);
                load.wait_for_media().await?;
                say(&Said::Done);
            }
            (["leave"], Load::Rooms(rooms)) => {
                rooms.play(0);
                rooms.leave().await?;
                say(&Said::Done);
            }
            (["arrive", count], Load::Rooms(rooms)) => {
                say(&Said::Arrived(rooms.arrive(count.parse()?).await?));
            }
            (["storm", joins, seconds], Load::Api(load)) => {
                say(&Said::Storm(load.storm(joins.parse()?, seconds.parse()?).await));
            }
            (["gather", crowd, people], Load::Api(load)) => {
                say(&Said::Crowd(crowd::gather(load.control(), crowd, people.parse()?).await?));
            }
            (["end", crowd], Load::Api(load)) => {
                crowd::end(load.control(), crowd).await?;
                say(&Said::Done);
            }
            (["switch", rounds], Load::Api(load)) => {
                say(&Said::Switches(load.switch(rounds.parse()?).await));
            }
            _ => bail!("no such command: {line}"),
        }
    }
    load.stop().await;
    Ok(())
}

/// A server opens its door before it has found all of its parts. Gateways of peers do not know the
/// question, and are ready when they answer.
async fn wait_until_ready(api: &PlainHttp) -> Result<()> {
    let ready = async {
        while api.send("GET", "/v1/ready", &[], &[]).await?.status == 503 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    };
    tokio::time::timeout(READY_LIMIT, ready).await.context("the server does not get ready")?
}

enum Load {
    Api(Box<api::ApiLoad>),
    Rooms(Box<rooms::RoomsLoad>),
    Plain(plain::PlainLoad),
}

impl Load {
    async fn start(plan: &Plan, tally: &Tally) -> Result<Self> {
        let api = match &plan.target {
            Target::Reflector(address) => {
                return Ok(Self::Plain(plain::PlainLoad::start(plan, *address, tally).await?));
            }
            Target::ApiSocket(path) | Target::Signaling(_, path) => PlainHttp::unix(path),
            Target::Api(address) => PlainHttp::new(*address),
        };
        wait_until_ready(&api).await?;
        Ok(match &plan.rooms {
            Some(rooms) => {
                let way = match &plan.target {
                    Target::Signaling(address, _) => Way::Signaling(Signaling::new(*address)),
                    _ => Way::Control(api),
                };
                let load = rooms::RoomsLoad::start(rooms, &plan.cipher, way, tally).await?;
                Self::Rooms(Box::new(load))
            }
            None => Self::Api(Box::new(api::ApiLoad::start(plan, api, tally).await?)),
        })
    }

    async fn wait_for_media(&self) -> Result<()> {
        let mut missing = 0;
        for _ in 0..600 {
            let (come, all) = match self {
                Self::Api(load) => load.receiving(),
                Self::Rooms(load) => load.receiving(),
                Self::Plain(load) => load.receiving(),
            };
            if come == all {
                return Ok(());
            }
            missing = all - come;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bail!("{missing} streams have not brought a packet within 30 s")
    }

    /// Looks again and again until nobody is behind, or what is missing is lost.
    async fn settle(&self, lags: &mut Lags) {
        let start = tokio::time::Instant::now();
        let is_first = !lags.has_settled();
        let limit = if is_first { SETTLE_FIRST } else { SETTLE_LIMIT };
        loop {
            lags.look(self.samples());
            if start.elapsed() >= limit || !(is_first || lags.is_behind()) {
                break;
            }
            tokio::time::sleep(SETTLE_STEP).await;
        }
        lags.settle();
    }

    /// Every received stream, always in the same order.
    fn samples(&self) -> Vec<Sample> {
        match self {
            Self::Api(load) => load.samples(),
            Self::Rooms(load) => load.samples(),
            Self::Plain(load) => load.samples(),
        }
    }

    /// What was sent and what arrived up to now.
    fn meter(&self) -> pauses::Meter {
        match self {
            Self::Api(load) => pauses::of_peers(load.senders(), load.handles()),
            Self::Rooms(load) => pauses::of_peers(load.senders(), load.handles()),
            Self::Plain(load) => load.meter(),
        }
    }

    fn counts(&self, tally: &Tally) -> Counts {
        let mut counts = tally.take();
        match self {
            Self::Api(load) => load.add_to(&mut counts),
            Self::Rooms(load) => load.add_to(&mut counts),
            Self::Plain(load) => load.add_to(&mut counts),
        }
        counts
    }

    async fn stop(self) {
        match self {
            Self::Api(load) => load.stop().await,
            // The server is stopped next; this only spares it timeouts.
            Self::Rooms(load) => drop(load.leave().await),
            Self::Plain(_) => {}
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
        tokio::time::sleep(Duration::from_secs(1)).await;
        if std::os::unix::process::parent_id() != parent {
            return;
        }
    }
}
