//! Where server and load run. Two network namespaces joined by a veth pair, receive packet steering
//! so that each side pays for its own receive, the server pinned to one core and the load to
//! another:
//!
//! ```text
//!  core 0                                core 1
//!  namespace ironcast-server-PID         namespace ironcast-load-PID
//!    server, 10.215.0.1 --- veth pair --- 10.215.0.2, load
//! ```
//! Without the rights for it: loopback, and the caller says so loudly. Owns what it set up and
//! takes it down when it is dropped, after Ctrl-C too; what a killed run left is removed by the
//! next one.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

const SERVER_IP: Ipv4Addr = Ipv4Addr::new(10, 215, 0, 1);
const LOAD_IP: Ipv4Addr = Ipv4Addr::new(10, 215, 0, 2);
const PREFIX: &str = "ironcast-";

/// One side of the topology.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// What is measured.
    Server,
    /// What loads it.
    Load,
}

/// The namespaces, or loopback.
#[derive(Debug)]
pub(crate) struct Topology {
    /// Why there are no namespaces, if there are none.
    pub(crate) fallback: Option<String>,
    /// The server's core.
    pub(crate) server_core: usize,
    /// The load's core.
    pub(crate) load_core: usize,
    namespaces: Option<[String; 2]>,
}

impl Drop for Topology {
    fn drop(&mut self) {
        for name in self.namespaces.iter().flatten() {
            // The devices in it go with it. It may be gone already.
            let _ = ip(&["netns", "del", name]);
        }
    }
}

impl Topology {
    /// Sets it up; `loopback` asks for none, `segmentation` off switches UDP segmentation of the
    /// devices off.
    pub(crate) fn new(loopback: bool, segmentation: bool) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut topology =
            Self { fallback: None, server_core: 0, load_core: cores.min(2) - 1, namespaces: None };
        if loopback {
            topology.fallback = Some("asked for by --loopback".to_owned());
        } else if cores < 2 {
            topology.fallback = Some("this machine has one core only".to_owned());
        } else if let Err(error) = topology.build(segmentation) {
            for name in topology.namespaces.take().iter().flatten() {
                let _ = ip(&["netns", "del", name]);
            }
            topology.fallback = Some(format!("{error:#}"));
        }
        topology
    }

    fn build(&mut self, segmentation: bool) -> Result<()> {
        remove_leftovers();
        let pid = std::process::id();
        let names = [format!("{PREFIX}server-{pid}"), format!("{PREFIX}load-{pid}")];
        self.namespaces = Some(names.clone());
        let [server, load] = &names;
        ip(&["netns", "add", server])?;
        ip(&["netns", "add", load])?;
        ip(&[
            "link", "add", "ib0", "netns", server, "type", "veth", "peer", "name", "ib0", "netns",
            load,
        ])?;
        let sides = [(server, SERVER_IP, self.server_core), (load, LOAD_IP, self.load_core)];
        for (name, address, core) in sides {
            let address = format!("{address}/24");
            ip(&["-n", name, "link", "set", "lo", "up"])?;
            ip(&["-n", name, "addr", "add", &address, "dev", "ib0"])?;
            ip(&["-n", name, "link", "set", "ib0", "up"])?;
            let mask = format!("{:x}", 1u64 << core);
            let steer = format!(
                "for q in /sys/class/net/ib0/queues/rx-*; do echo {mask} > $q/rps_cpus; done"
            );
            ip(&["netns", "exec", name, "sh", "-c", &steer])
                .context("receive packet steering cannot be set")?;
            if !segmentation {
                let switch = ["netns", "exec", name, "ethtool", "-K", "ib0"];
                ip(&[&switch[..], &["tx-udp-segmentation", "off"]].concat())
                    .context("ethtool cannot switch segmentation off")?;
            }
        }
        Ok(())
    }

    /// Where the server is reached.
    pub(crate) fn server_ip(&self) -> IpAddr {
        match self.namespaces {
            Some(_) => SERVER_IP.into(),
            None => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// In one word, for the output.
    pub(crate) fn name(&self) -> &'static str {
        if self.namespaces.is_some() { "veth" } else { "loopback" }
    }

    /// A command that will run on one side, pinned to its core.
    pub(crate) fn command(&self, side: Side, program: &str) -> Command {
        let core = match side {
            Side::Server => self.server_core,
            Side::Load => self.load_core,
        };
        let core = core.to_string();
        match &self.namespaces {
            Some([server, load]) => {
                let name = if side == Side::Server { server } else { load };
                let mut command = Command::new("ip");
                command.args(["netns", "exec", name, "taskset", "-c", &core, program]);
                command
            }
            None => {
                let mut command = Command::new("taskset");
                command.args(["-c", &core, program]);
                command
            }
        }
    }
}

/// Runs `ip`; its words are the error.
fn ip(arguments: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .context("the command `ip` is missing (package iproute2)")?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ip {}: {}", arguments.join(" "), words.trim());
    Ok(())
}

/// Namespaces of runs that were killed.
fn remove_leftovers() {
    let Ok(names) = fs::read_dir("/run/netns") else { return };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let Some(pid) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.strip_prefix("server-").or_else(|| rest.strip_prefix("load-")))
        else {
            continue;
        };
        if !fs::exists(format!("/proc/{pid}")).unwrap_or(true) {
            let _ = ip(&["netns", "del", &name]);
        }
    }
}
