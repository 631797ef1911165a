//! What is measured: our server, and the peers it is compared with. Each knows how it is started on
//! the server's side of the topology and how the load reaches it. What cannot run here says why;
//! it is left out of the table, never guessed.

mod ironcast;

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

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
    /// The floor of a send a packet.
    ReflectorSendmmsg,
    /// The floor of segmented sends.
    ReflectorSegmented,
}

impl Server {
    /// For the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ironcast => "ironcast",
            Self::ReflectorSendmmsg => "reflector-sendmmsg",
            Self::ReflectorSegmented => "reflector-segmented",
        }
    }

    /// Starts it and waits until it takes participants.
    pub(crate) fn start(self, topology: &Topology) -> Result<Running> {
        match self {
            Self::Ironcast => ironcast::start(topology),
            Self::ReflectorSendmmsg => start_reflector(topology, Method::Sendmmsg),
            Self::ReflectorSegmented => start_reflector(topology, Method::Segmented),
        }
    }
}

/// A running server; its processes end when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    children: Vec<Child>,
    /// How the load reaches it.
    pub(crate) target: Target,
    folder: Option<std::path::PathBuf>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for child in &mut self.children {
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
    /// All processes of the server.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    /// An error if one of them has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        for child in &mut self.children {
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
    let mut running =
        Running { children: vec![child], target: Target::Reflector(listen), folder: None };
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    let address = line.trim().parse().context("the reflector does not start")?;
    running.target = Target::Reflector(address);
    Ok(running)
}

/// Asks again until the answer is yes.
fn wait_until(what: &str, mut so: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !so() {
        ensure!(start.elapsed() < START_LIMIT, "{what}: not within {START_LIMIT:?}");
        interrupt::pause(Duration::from_millis(20))?;
    }
    Ok(())
}
