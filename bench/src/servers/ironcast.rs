//! Our own server: dataplane and control plane, both on the server's core, with one worker. The
//! load reaches the control API by a unix socket, which leads into the other namespace too.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
};

use anyhow::{Context, Result, bail};
use socket2::{Domain, Socket, Type};

use super::{Running, process, wait_until};
use crate::{
    load::Target,
    topology::{Side, Topology},
};

/// The family of sockets for whole frames (linux/socket.h).
const AF_XDP: i32 = 44;

/// Why frames past the network stack cannot be measured here, if they cannot.
pub(super) fn xdp_missing(topology: &Topology) -> Option<String> {
    if topology.fallback.is_some() {
        return Some("loopback carries no frames".to_owned());
    }
    let socket = Socket::new(Domain::from(AF_XDP), Type::RAW, None);
    socket.err().map(|error| format!("no AF_XDP socket can be opened: {error}"))
}

/// With settings beside the usual ones.
pub(super) fn start(topology: &Topology, more: &[&str]) -> Result<Running> {
    let folder = process::folder("ironcast")?;
    let api = folder.join("api.sock");
    let mut running = Running::new(Target::ApiSocket(api.clone()), folder.clone());
    let mut settings = settings(topology, &folder);
    settings.extend(more.iter().map(|&setting| setting.to_owned()));
    running.children.push(spawn(topology, "ironcast-dataplane", &settings, &folder)?);
    let socket = folder.join("dataplane.sock");
    wait_until(&mut running, "the dataplane opens its socket", || {
        UnixStream::connect(&socket).is_ok()
    })
    .with_context(|| process::last_words(&folder, "ironcast-dataplane"))?;
    running.children.push(spawn(topology, "ironcast-controlplane", &settings, &folder)?);
    wait_for_door(&mut running, &api, &folder)?;
    Ok(running)
}

/// The same with our signaling service, which the load goes through, on the same core.
pub(super) fn start_with_signaling(topology: &Topology) -> Result<Running> {
    let listen = SocketAddr::new(topology.server_ip(), free_port());
    let of_signaling = [
        format!("signaling.listen={listen}"),
        "signaling.participants_per_room_max=1000".to_owned(),
        "signaling.sockets_per_address_per_s=0".to_owned(),
        "signaling.joins_per_address_per_s=0".to_owned(),
        "signaling.rooms_per_address_per_s=0".to_owned(),
        "signaling.requests_per_socket_per_s=1000000".to_owned(),
    ];
    // All three read the control plane's address from the same settings.
    let door = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let control = format!("control.listen={door}");
    let mut running = start(topology, &[&control])?;
    let Target::ApiSocket(api) = &running.target else { bail!("a server without a socket") };
    let api = api.clone();
    let folder = running.folder.clone().context("a server with a folder")?;
    let mut settings = settings(topology, &folder);
    settings.push(control);
    settings.extend(of_signaling);
    running.children.push(spawn(topology, "ironcast-signaling", &settings, &folder)?);
    running.target = Target::Signaling(listen, api);
    Ok(running)
}

/// What a control plane commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Dataplane {
    /// Ours.
    Real,
    /// One that moves no packet and answers at once.
    StandIn,
}

impl Dataplane {
    /// For the output.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Real => "real",
            Self::StandIn => "stand-in",
        }
    }
}

/// Where a control plane is reached over QUIC.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) url: String,
    pub(crate) certificate: PathBuf,
}

/// A control plane on the server's core; its dataplane, which is not what is measured, runs on the
/// other one.
pub(super) fn start_control_plane(
    topology: &Topology,
    dataplane: Dataplane,
) -> Result<(Running, Door)> {
    let folder = process::folder("ironcast")?;
    let api = folder.join("api.sock");
    let mut running = Running::new(Target::ApiSocket(api.clone()), folder.clone());
    let mut settings = settings(topology, &folder);
    let listen = settings.iter().find_map(|one| one.strip_prefix("control.listen="));
    let url = format!("https://{}", listen.context("where it listens")?);
    settings.extend([
        format!("dataplane.cores={}", topology.load_core),
        "dataplane.routers_max=20000".to_owned(),
        "limits.routers_max=20000".to_owned(),
        "limits.worker_busy_max_percent=100".to_owned(),
    ]);
    let socket = folder.join("dataplane.sock");
    let helper = match dataplane {
        Dataplane::Real => {
            spawn_on(Side::Load, topology, "ironcast-dataplane", &settings, &folder)?
        }
        Dataplane::StandIn => {
            let own = std::env::current_exe()?;
            let mut command = topology.command(Side::Load, &own.display().to_string());
            command.args(["stand-in", "--socket", &socket.display().to_string()]);
            process::spawn(command, "stand-in", &folder)?
        }
    };
    running.helpers.push(helper);
    wait_until(&mut running, "the dataplane opens its socket", || {
        UnixStream::connect(&socket).is_ok()
    })?;
    running.children.push(spawn(topology, "ironcast-controlplane", &settings, &folder)?);
    wait_for_door(&mut running, &api, &folder)?;
    let certificate = folder.join("control-cert.pem");
    Ok((running, Door { url, certificate }))
}

fn wait_for_door(running: &mut Running, api: &Path, folder: &Path) -> Result<()> {
    wait_until(running, "the control plane opens its door", || UnixStream::connect(api).is_ok())
        .with_context(|| process::last_words(folder, "ironcast-controlplane"))
}

/// Kills the control plane and starts it again; returns when its door is open. The dataplane and
/// its media live on.
pub(super) fn restart_control_plane(running: &mut Running, topology: &Topology) -> Result<()> {
    let folder = running.folder.clone().context("a server with a folder")?;
    let old = running.children.last_mut().context("a control plane")?;
    old.kill()?;
    old.wait()?;
    let api = folder.join("api.sock");
    // Its door stays behind when it is killed.
    let _ = std::fs::remove_file(&api);
    let new = spawn(topology, "ironcast-controlplane", &settings(topology, &folder), &folder)?;
    *running.children.last_mut().context("a control plane")? = new;
    wait_for_door(running, &api, &folder)
}

/// One that was free a moment ago, for QUIC as for TCP.
fn free_port() -> u16 {
    let free = || {
        let tcp = TcpListener::bind("127.0.0.1:0").ok()?;
        let address = tcp.local_addr().ok()?;
        UdpSocket::bind(address).ok().map(|_| address.port())
    };
    (0..100).find_map(|_| free()).unwrap_or(17_443)
}

fn settings(topology: &Topology, folder: &Path) -> Vec<String> {
    vec![
        format!("control.state_dir={}", folder.display()),
        format!("control.plain=unix:{}/api.sock", folder.display()),
        // In a network of its own all ports are free, and nobody asks there.
        format!("control.listen=127.0.0.1:{}", free_port()),
        format!("control.ops=127.0.0.1:{}", free_port()),
        format!("rtc.listen={}", topology.server_ip()),
        "rtc.ports=40000-44999".to_owned(),
        format!("dataplane.cores={}", topology.server_core),
        "limits.requests_per_s=0".to_owned(),
        "limits.creations_per_router_per_s=0".to_owned(),
        "limits.transports_per_router_max=0".to_owned(),
        "log.level=warn".to_owned(),
    ]
}

fn spawn(topology: &Topology, name: &str, settings: &[String], folder: &Path) -> Result<Child> {
    spawn_on(Side::Server, topology, name, settings, folder)
}

fn spawn_on(
    side: Side,
    topology: &Topology,
    name: &str,
    settings: &[String],
    folder: &Path,
) -> Result<Child> {
    let binary = binary(name)?;
    let mut command = topology.command(side, &binary.display().to_string());
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    process::spawn(command, name, folder)
}

/// Beside the bench's own binary, or where IRONCAST_BIN_DIR says.
fn binary(name: &str) -> Result<PathBuf> {
    let folder = match std::env::var_os("IRONCAST_BIN_DIR") {
        Some(folder) => PathBuf::from(folder),
        None => std::env::current_exe()?.parent().context("a folder")?.to_owned(),
    };
    let binary = folder.join(name);
    anyhow::ensure!(
        binary.exists(),
        "{} is not there: build it with `cargo build --release -p {name}`",
        binary.display()
    );
    Ok(binary)
}
