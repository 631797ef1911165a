//! Our own server: dataplane and control plane, both on the server's core, with one worker. The
//! load reaches the control API by a unix socket, which leads into the other namespace too.

use std::{
    fs::File,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use anyhow::{Context, Result};

use super::{Running, wait_until};
use crate::{
    load::Target,
    topology::{Side, Topology},
};

pub(super) fn start(topology: &Topology) -> Result<Running> {
    let folder = std::env::temp_dir().join(format!("ironcast-bench-{}", std::process::id()));
    // Of an earlier block of this run.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder)?;
    let api = folder.join("api.sock");
    let mut running = Running {
        children: Vec::new(),
        target: Target::ApiSocket(api.clone()),
        folder: Some(folder.clone()),
    };
    let settings = settings(topology, &folder);
    running.children.push(spawn(topology, "ironcast-dataplane", &settings, &folder)?);
    let socket = folder.join("dataplane.sock");
    wait_until("the dataplane opens its socket", || UnixStream::connect(&socket).is_ok())
        .with_context(|| last_words(&folder, "ironcast-dataplane"))?;
    running.children.push(spawn(topology, "ironcast-controlplane", &settings, &folder)?);
    wait_until("the control plane opens its door", || UnixStream::connect(&api).is_ok())
        .with_context(|| last_words(&folder, "ironcast-controlplane"))?;
    running.check()?;
    Ok(running)
}

fn settings(topology: &Topology, folder: &Path) -> Vec<String> {
    vec![
        format!("control.state_dir={}", folder.display()),
        format!("control.plain=unix:{}/api.sock", folder.display()),
        "control.listen=127.0.0.1:17443".to_owned(),
        "control.ops=127.0.0.1:17444".to_owned(),
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
    let binary = binary(name)?;
    let log = File::create(folder.join(format!("{name}.log")))?;
    let mut command = topology.command(Side::Server, &binary.display().to_string());
    for setting in settings {
        command.arg("--set").arg(setting);
    }
    command
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .with_context(|| format!("{} cannot be started", binary.display()))
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

fn last_words(folder: &Path, name: &str) -> String {
    let log = std::fs::read_to_string(folder.join(format!("{name}.log"))).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(5)..].join("\n")
}
