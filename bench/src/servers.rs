//! What is measured: our server, and the peers it is compared with. Each knows how it is started on
//! the server's side of the topology and how the load reaches it. What cannot run here says why;
//! it is left out of the table, never guessed.

mod ironcast;
mod janus;
mod mediasoup;
mod process;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
pub(crate) use ironcast::{Dataplane, Door};

use crate::{
    interrupt,
    load::Target,
    reflector::Method,
    topology::{Side, Topology},
};

const START_LIMIT: Duration = Duration::from_secs(15);

/// A server that can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Server {
    /// Ours.
    Ironcast,
    /// Ours, with workers that never sleep.
    IroncastBusyPoll,
    /// Ours, with what does not segment sent as whole frames (`dataplane.transmit = "xdp"`).
    IroncastXdp,
    /// Ours, with two workers on the one core: every second receiver is on the other worker than the
    /// sender.
    IroncastSpread,
    /// Ours, with our signaling service in front of it.
    IroncastSignaling,
    /// The floor of a send a packet.
    ReflectorSendmmsg,
    /// The floor of segmented sends.
    ReflectorSegmented,
    /// The peer of which the nouns of our API are.
    Mediasoup {
        /// Its worker's binary.
        worker: &'static Path,
    },
    /// The peer that Debian brings.
    Janus,
}

/// Peers beside ours.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Peers {
    /// Peers to measure beside ours, by commas; without it, all that can run here.
    #[arg(long, value_delimiter = ',')]
    peers: Option<Vec<Peer>>,
    /// The binary of mediasoup's worker.
    #[arg(long, env = "MEDIASOUP_WORKER_BIN", value_name = "PATH")]
    mediasoup_worker: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Peer {
    Mediasoup,
    Janus,
    /// No peer.
    None,
}

/// A peer that cannot run here, or that failed.
#[derive(Debug, Clone, serde::Serialize)]
pub(crate) struct LeftOut {
    /// As [`Server::name`].
    pub(crate) server: &'static str,
    /// In one line.
    pub(crate) why: String,
}

impl LeftOut {
    /// Tells of each.
    pub(crate) fn tell(all: &[Self]) {
        for one in all {
            eprintln!("{} is left out: {}", one.server, one.why);
        }
    }
}

impl Peers {
    /// Those that are asked for and can run here, and those that cannot.
    pub(crate) fn find(&self, topology: &Topology) -> (Vec<Server>, Vec<LeftOut>) {
        let (mut servers, mut left_out) = (Vec::new(), Vec::new());
        let asked = |peer| self.peers.as_ref().is_none_or(|all| all.contains(&peer));
        if asked(Peer::Janus) {
            match janus::missing(topology) {
                None => servers.push(Server::Janus),
                Some(why) => left_out.push(LeftOut { server: "janus", why }),
            }
        }
        if asked(Peer::Mediasoup) {
            let worker = self.mediasoup_worker.as_deref();
            match (mediasoup::missing(worker), worker) {
                (None, Some(worker)) => {
                    // Once a run, and needed to its end.
                    let worker: &'static Path = Box::leak(worker.to_owned().into_boxed_path());
                    servers.push(Server::Mediasoup { worker });
                }
                (why, _) => {
                    let why = why.unwrap_or_default();
                    left_out.push(LeftOut { server: "mediasoup", why });
                }
            }
        }
        (servers, left_out)
    }
}

impl Server {
    /// Our own ways to send: the default, and frames past the network stack where they can be sent.
    pub(crate) fn ours(topology: &Topology) -> (Vec<Self>, Vec<LeftOut>) {
        match ironcast::xdp_missing(topology) {
            None => (vec![Self::Ironcast, Self::IroncastXdp], Vec::new()),
            Some(why) => {
                let server = Self::IroncastXdp.name();
                (vec![Self::Ironcast], vec![LeftOut { server, why }])
            }
        }
    }

    /// Whether it is somebody else's.
    pub(crate) fn is_peer(self) -> bool {
        matches!(self, Self::Mediasoup { .. } | Self::Janus)
    }

    /// Whether it is this project's own, which says what its workers do.
    pub(crate) fn is_ours(self) -> bool {
        matches!(
            self,
            Self::Ironcast
                | Self::IroncastBusyPoll
                | Self::IroncastXdp
                | Self::IroncastSpread
                | Self::IroncastSignaling
        )
    }

    /// For the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ironcast => "ironcast",
            Self::IroncastBusyPoll => "ironcast-busy-poll",
            Self::IroncastXdp => "ironcast-xdp",
            Self::IroncastSpread => "ironcast-spread",
            Self::IroncastSignaling => "ironcast-signaling",
            Self::ReflectorSendmmsg => "reflector-sendmmsg",
            Self::ReflectorSegmented => "reflector-segmented",
            Self::Mediasoup { .. } => "mediasoup",
            Self::Janus => "janus",
        }
    }

    /// Starts it and waits until it takes participants.
    pub(crate) fn start(self, topology: &Topology) -> Result<Running> {
        match self {
            Self::Ironcast => ironcast::start(topology, &[]),
            Self::IroncastBusyPoll => ironcast::start(topology, &["dataplane.busy_poll=true"]),
            Self::IroncastXdp => ironcast::start(topology, &["dataplane.transmit=xdp"]),
            Self::IroncastSpread => {
                let cores = format!("dataplane.cores={0},{0}", topology.server_core);
                ironcast::start(topology, &[&cores])
            }
            Self::IroncastSignaling => ironcast::start_with_signaling(topology),
            Self::ReflectorSendmmsg => start_reflector(topology, Method::Sendmmsg),
            Self::ReflectorSegmented => start_reflector(topology, Method::Segmented),
            Self::Mediasoup { worker } => mediasoup::start(topology, worker),
            Self::Janus => janus::start(topology),
        }
    }
}

/// A running server; its processes end when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    children: Vec<Child>,
    /// Run with it, but are no part of it.
    helpers: Vec<Child>,
    /// How the load reaches it.
    pub(crate) target: Target,
    folder: Option<PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in self.helpers.iter_mut().chain(&mut self.children) {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
        if let Some(folder) = &self.folder {
            let _ = std::fs::remove_dir_all(folder);
        }
    }
}

impl Running {
    fn new(target: Target, folder: PathBuf) -> Self {
        Self { children: Vec::new(), helpers: Vec::new(), target, folder: Some(folder) }
    }

    /// Our control plane alone, with a dataplane on the load's core.
    pub(crate) fn control_plane(topology: &Topology, dataplane: Dataplane) -> Result<(Self, Door)> {
        ironcast::start_control_plane(topology, dataplane)
    }

    /// All processes of the server, and those that they have started.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().flat_map(|child| process::with_children(child.id())).collect()
    }

    /// Kills our control plane and starts it again.
    pub(crate) fn restart_control_plane(&mut self, topology: &Topology) -> Result<()> {
        ironcast::restart_control_plane(self, topology)
    }

    /// An error if one of them has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for child in self.helpers.iter_mut().chain(&mut self.children) {
            if let Some(status) = child.try_wait()? {
                bail!("a process of the server has ended: {status}");
            }
        }
        Ok(())
    }
}

fn start_reflector(topology: &Topology, method: Method) -> Result<Running> {
    let listen = SocketAddr::new(topology.server_ip(), 0);
    let method = match method {
        Method::Sendmmsg => "sendmmsg",
        Method::Segmented => "segmented",
    };
    let own = std::env::current_exe()?;
    let mut child = topology
        .command(Side::Server, &own.display().to_string())
        .args(["reflect", "--listen", &listen.to_string(), "--method", method])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("the reflector cannot be started")?;
    let output = child.stdout.take().context("its output")?;
    let mut running = Running {
        children: vec![child],
        helpers: Vec::new(),
        target: Target::Reflector(listen),
        folder: None,
    };
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse().context("the reflector does not start")?;
    running.target = Target::Reflector(address);
    Ok(running)
}

/// Asks again until the answer is yes, as long as all processes run.
fn wait_until(running: &mut Running, what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !so() {
        running.check()?;
        ensure!(start.elapsed() < START_LIMIT, "{what}: not within {START_LIMIT:?}");
        interrupt::pause(Duration::from_millis(20))?;
    }
    Ok(())
}
