//! mediasoup: Node with one worker, both on the server's core and both counted. The gateway
//! (`peers/mediasoup`) runs in that Node process, as signaling does where mediasoup is used. The
//! worker's binary must be given: the package does not bring it.

use std::{os::unix::net::UnixStream, path::Path};

use anyhow::{Context, Result};

use super::{Running, process, wait_until};
use crate::{
    load::Target,
    topology::{Side, Topology},
};

const NAME: &str = "mediasoup";

/// Why it cannot run here.
pub(super) fn missing(worker: Option<&Path>) -> Option<String> {
    let Some(worker) = worker else {
        return Some(
            "its worker is a binary of its own: name it with --mediasoup-worker PATH or \
             MEDIASOUP_WORKER_BIN"
                .to_owned(),
        );
    };
    if !worker.is_file() {
        return Some(format!("its worker is not there: {}", worker.display()));
    }
    if !process::found("node") {
        return Some("Node is not there (package nodejs)".to_owned());
    }
    let folder = process::peers_folder().join(NAME);
    if !folder.join("node_modules/mediasoup").is_dir() {
        let folder = folder.display();
        return Some(format!("not installed: run `npm ci --ignore-scripts` in {folder}"));
    }
    None
}

pub(super) fn start(topology: &Topology, worker: &Path) -> Result<Running> {
    let folder = process::folder(NAME)?;
    let api = folder.join("api.sock");
    let mut running = Running::new(Target::ApiSocket(api.clone()), folder.clone());
    let mut command = topology.command(Side::Server, "node");
    command
        .arg(process::peers_folder().join("mediasoup/server.mjs"))
        .arg("--socket")
        .arg(&api)
        .args(["--ip", &topology.server_ip().to_string()])
        .env("MEDIASOUP_WORKER_BIN", worker);
    running.children.push(process::spawn(command, NAME, &folder)?);
    wait_until(&mut running, "mediasoup opens its door", || UnixStream::connect(&api).is_ok())
        .with_context(|| process::last_words(&folder, NAME))?;
    Ok(running)
}
