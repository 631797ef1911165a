//! Janus with its VideoRoom: only Janus runs on the server's core and is counted. The gateway
//! (`peers/janus`) speaks to it from the load's core and has no part in the media. Configured to
//! forward only: ICE-lite on the one address, no recording, no cap of the bitrate, one event loop
//! for all participants (there is one core), of plugins and transports only what is used.

use std::{fs, os::unix::net::UnixStream, path::Path};

use anyhow::{Context, Result};

use super::{Running, process, wait_until};
use crate::{
    load::Target,
    topology::{Side, Topology},
};

const API_PORT: u16 = 18_088;
/// Each participant has sockets of its own: as many files as may be.
const START: &str = "ulimit -n $(ulimit -Hn); exec janus \"$@\"";
const PLUGINS: [&str; 11] = [
    "audiobridge",
    "duktape",
    "echotest",
    "lua",
    "nosip",
    "recordplay",
    "sip",
    "streaming",
    "textroom",
    "videocall",
    "voicemail",
];
const TRANSPORTS: [&str; 5] = ["mqtt", "nanomsg", "pfunix", "rabbitmq", "websockets"];

/// Why it cannot run here.
pub(super) fn missing(topology: &Topology) -> Option<String> {
    if !process::found("janus") {
        return Some("it is not installed (package janus)".to_owned());
    }
    if !process::found("node") {
        return Some("Node is not there (package nodejs); its gateway needs it".to_owned());
    }
    let loopback = topology.server_ip().is_loopback();
    loopback.then(|| "its ICE takes no loopback address: it needs the namespaces".to_owned())
}

pub(super) fn start(topology: &Topology) -> Result<Running> {
    let folder = process::folder("janus")?;
    let api = folder.join("api.sock");
    let mut running = Running::new(Target::ApiSocket(api.clone()), folder.clone());
    let ip = topology.server_ip().to_string();
    fs::write(folder.join("janus.jcfg"), settings(&folder, &ip))?;
    fs::write(folder.join("janus.transport.http.jcfg"), transport(&ip))?;
    let mut command = topology.command(Side::Server, "sh");
    command
        .args(["-c", START, "janus", "--disable-colors", "--config"])
        .arg(folder.join("janus.jcfg"))
        .arg("--configs-folder")
        .arg(&folder);
    running.children.push(process::spawn(command, "janus", &folder)?);
    let mut command = topology.command(Side::Load, "node");
    command
        .arg(process::peers_folder().join("janus/gateway.mjs"))
        .arg("--socket")
        .arg(&api)
        .args(["--janus", &format!("http://{ip}:{API_PORT}/janus"), "--ip", &ip]);
    running.helpers.push(process::spawn(command, "gateway", &folder)?);
    wait_until(&mut running, "Janus and its gateway open their door", || {
        UnixStream::connect(&api).is_ok()
    })
    .with_context(|| process::last_words(&folder, "gateway"))
    .with_context(|| process::last_words(&folder, "janus"))?;
    Ok(running)
}

fn settings(folder: &Path, ip: &str) -> String {
    let libraries = |names: &[&str]| {
        names.iter().map(|name| format!("libjanus_{name}.so")).collect::<Vec<_>>().join(",")
    };
    format!(
        "general: {{\n  configs_folder = \"{}\"\n  debug_level = 3\n  event_loops = 1\n}}\n\
         media: {{\n  rtp_port_range = \"20000-40000\"\n}}\n\
         nat: {{\n  ice_lite = true\n  ice_enforce_list = \"{ip}\"\n}}\n\
         plugins: {{\n  disable = \"{}\"\n}}\n\
         transports: {{\n  disable = \"{}\"\n}}\n\
         events: {{\n  broadcast = false\n}}\n",
        folder.display(),
        libraries(&PLUGINS),
        libraries(&TRANSPORTS),
    )
}

fn transport(ip: &str) -> String {
    format!(
        "general: {{\n  json = \"compact\"\n  base_path = \"/janus\"\n  http = true\n  \
         port = {API_PORT}\n  ip = \"{ip}\"\n  https = false\n}}\n\
         admin: {{\n  admin_http = false\n}}\n"
    )
}
