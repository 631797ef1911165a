//! The one configuration file, `ironcast.toml`, for all three processes: its sections with their
//! defaults, and how a value gets there. Every binary calls [`Config::load`] once at start and maps
//! the result to the settings of its own parts. This crate opens no socket, makes no folder, and
//! never guesses: a value that is wrong is named with its line and with what would be right.
//!
//! Later wins: defaults, then the file, then the environment (`IRONCAST_RTC_PORTS`), then flags
//! (`--set rtc.ports=...`).
//!
//! ```
//! let config = ironcast_config::Config::load(None, [], &[("rtc.ports".into(), "41000-41999".into())])?;
//! assert_eq!(config.rtc.ports.first, 41_000);
//! assert_eq!(config.control.listen.port(), 7443);
//! # Ok::<(), ironcast_config::ConfigError>(())
//! ```

#![forbid(unsafe_code)]

mod check;
pub mod explain;
mod flags;
mod layers;
mod problem;
mod sections;
mod suggest;
mod value;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

pub use ipnet::IpNet;

pub use crate::{
    flags::{CONTROLPLANE, DAEMONS, DATAPLANE, Daemon, Flags, SIGNALING},
    problem::{ConfigError, Place, Problem},
    sections::{Control, Dataplane, Events, Limits, Log, Pipes, Rtc, Signaling},
    value::{
        Announced, Door, HostPlacement, LogFormat, MediaHost, PortRange, Require, Sealer, Transmit,
    },
};

/// With more cores than this, one of them is left without a worker.
const CORES_SHARED_MAX: usize = 4;

/// The file that is read when none is named and it is there.
pub const DEFAULT_FILE: &str = "ironcast.toml";

/// The file of an installed system, read when there is none here either.
pub const SYSTEM_FILE: &str = "/etc/ironcast/ironcast.toml";

/// Everything that can be configured. All values have defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Where media arrives, and what browsers are told about it.
    pub rtc: Rtc,
    /// The process that moves packets.
    pub dataplane: Dataplane,
    /// The process that takes commands.
    pub control: Control,
    /// What the control API allows its callers.
    pub limits: Limits,
    /// The event stream.
    pub events: Events,
    /// What one host sends to another.
    pub pipes: Pipes,
    /// The reference signaling service and its page.
    pub signaling: Signaling,
    /// What is written to the logs.
    pub log: Log,
    places: BTreeMap<String, Place>,
}

/// A setting with two values, as the file writes them; `None`: not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `section.key`.
    pub setting: String,
    /// Before.
    pub from: Option<String>,
    /// After.
    pub to: Option<String>,
}

impl Config {
    /// Reads the file, the environment and the flags over the defaults, and checks the whole.
    ///
    /// `path`: the file named by `--config`; without one, `IRONCAST_CONFIG`, else `ironcast.toml`
    /// in the current folder if it is there, else that of an installed system. `environment`: usually `std::env::vars()`.
    /// `overrides`: pairs such as `("rtc.ports", "40000-49999")`, see [`parse_override`].
    ///
    /// # Errors
    /// All problems that were found, at once: each with its place, the text, and what would be
    /// right.
    pub fn load(
        path: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
        overrides: &[(String, String)],
    ) -> Result<Self, ConfigError> {
        let environment: BTreeMap<String, String> = environment.into_iter().collect();
        let named = path
            .map(Path::to_path_buf)
            .or_else(|| environment.get("IRONCAST_CONFIG").map(PathBuf::from));
        let usual = || [DEFAULT_FILE, SYSTEM_FILE].map(PathBuf::from).into_iter();
        let file = named.or_else(|| usual().find(|file| file.exists()));
        let mut loading = layers::Loading::default();
        if let Some(file) = file {
            loading.read_file(&file);
        }
        loading.read_environment(&environment);
        loading.read_overrides(overrides);
        loading.finish()
    }

    /// The same from the text of a file, under `name` in messages.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_text(name: &str, text: &str) -> Result<Self, ConfigError> {
        let mut loading = layers::Loading::default();
        loading.read_text(Path::new(name), text);
        loading.finish()
    }

    /// What a binary calls: the process's environment and its `--set section.key=value` flags.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn load_for_process(path: Option<&Path>, sets: &[String]) -> Result<Self, ConfigError> {
        let overrides = sets.iter().map(|set| parse_override(set)).collect::<Result<Vec<_>, _>>();
        Self::load(path, std::env::vars(), &overrides.map_err(ConfigError::one)?)
    }

    /// All values as a file that can be loaded again: those at their default as comments.
    #[must_use]
    pub fn to_toml(&self) -> String {
        let defaults = Self::default();
        let mut text = String::from(
            "# Ironcast's configuration. A line that begins with # shows a default: remove the #\n\
             # to change it. The environment (IRONCAST_SECTION_KEY) and flags (--set section.key=value)\n\
             # go over this file.\n",
        );
        for (section, default) in self.sections().into_iter().zip(defaults.sections()) {
            text.push_str(&format!("\n# {}\n[{}]\n", section.doc().join("\n# "), section.name()));
            for key in section.keys() {
                for line in key.doc {
                    text.push_str(&format!("# {}\n", line.trim()));
                }
                let (now, usual) = (section.show(key.name), default.show(key.name));
                match now {
                    Some(value) if now_differs(&value, usual.as_ref()) => {
                        text.push_str(&format!("{} = {value}\n", key.name));
                    }
                    Some(value) => text.push_str(&format!("#{} = {value}\n", key.name)),
                    None => text.push_str(&format!("#{} =\n", key.name)),
                }
            }
        }
        text
    }

    /// Settings whose values are others in `newer`, in the order of the file.
    #[must_use]
    pub fn differences(&self, newer: &Self) -> Vec<Difference> {
        let mut differences = Vec::new();
        for (old, new) in self.sections().into_iter().zip(newer.sections()) {
            for key in old.keys() {
                let (from, to) = (old.show(key.name), new.show(key.name));
                if from != to {
                    let setting = format!("{}.{}", old.name(), key.name);
                    differences.push(Difference { setting, from, to });
                }
            }
        }
        differences
    }

    /// Where the value of `section.key` came from.
    #[must_use]
    pub fn place(&self, key: &str) -> Place {
        self.places.get(key).cloned().unwrap_or_default()
    }

    /// Where the three processes keep their sockets, certificates and logs.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.control.state_dir
    }

    /// The unix socket between the control plane and the dataplane.
    #[must_use]
    pub fn dataplane_socket(&self) -> PathBuf {
        self.dataplane.socket.clone().unwrap_or_else(|| self.state_dir().join("dataplane.sock"))
    }

    /// Certificate of the control API, PEM: the configured one, or the development certificate
    /// that the control plane makes at its first start.
    #[must_use]
    pub fn control_cert(&self) -> PathBuf {
        self.control.tls_cert.clone().unwrap_or_else(|| self.state_dir().join("control-cert.pem"))
    }

    /// Private key of [`Config::control_cert`], PEM.
    #[must_use]
    pub fn control_key(&self) -> PathBuf {
        self.control.tls_key.clone().unwrap_or_else(|| self.state_dir().join("control-key.pem"))
    }

    /// What signaling trusts at the control API: a certificate, PEM.
    #[must_use]
    pub fn control_ca(&self) -> PathBuf {
        self.signaling.control_ca.clone().unwrap_or_else(|| self.control_cert())
    }

    /// Where signaling reaches the control API.
    #[must_use]
    pub fn control_url(&self) -> String {
        let configured = self.signaling.control_url.clone();
        configured.unwrap_or_else(|| format!("https://{}", reachable(self.control.listen)))
    }

    /// The media hosts that signaling uses: those that are listed, or the one at its control API.
    #[must_use]
    pub fn media_hosts(&self) -> Vec<MediaHost> {
        if !self.signaling.hosts.is_empty() {
            return self.signaling.hosts.clone();
        }
        let (name, url) = ("default".to_owned(), self.control_url());
        vec![MediaHost { name, url, region: None, ca: None, pipe_url: None }]
    }

    /// The page's address for a browser on this machine.
    #[must_use]
    pub fn page_url(&self) -> String {
        let scheme = if self.signaling_tls() { "https" } else { "http" };
        let listen = reachable(self.signaling.listen);
        // Browsers count `localhost` as secure, which is what gives a page the camera.
        if listen.ip() == IpAddr::V4(Ipv4Addr::LOCALHOST) {
            return format!("{scheme}://localhost:{}/", listen.port());
        }
        format!("{scheme}://{listen}/")
    }

    /// Whether the page and its socket are served over TLS.
    #[must_use]
    pub fn signaling_tls(&self) -> bool {
        self.signaling.tls || self.signaling.tls_cert.is_some()
    }

    /// Certificate of the page, PEM: the configured one, or one made at the first start.
    #[must_use]
    pub fn signaling_cert(&self) -> PathBuf {
        let configured = self.signaling.tls_cert.clone();
        configured.unwrap_or_else(|| self.state_dir().join("signaling-cert.pem"))
    }

    /// Private key of [`Config::signaling_cert`], PEM.
    #[must_use]
    pub fn signaling_key(&self) -> PathBuf {
        let configured = self.signaling.tls_key.clone();
        configured.unwrap_or_else(|| self.state_dir().join("signaling-key.pem"))
    }

    /// The cores that get a worker, given those that this process may run on.
    #[must_use]
    pub fn worker_cores(&self, available: &[u32]) -> Vec<u32> {
        if !self.dataplane.cores.is_empty() {
            return self.dataplane.cores.clone();
        }
        let wanted = match self.dataplane.workers {
            0 if available.len() > CORES_SHARED_MAX => available.len() - 1,
            0 => available.len().max(1),
            workers => workers as usize,
        };
        // More workers than cores share cores: slow, but right, and what tests do.
        let cores = if available.is_empty() { &[0][..] } else { available };
        (0..wanted).map(|index| cores[index % cores.len()]).collect()
    }

    fn sections(&self) -> [&dyn sections::Section; 8] {
        [
            &self.rtc,
            &self.dataplane,
            &self.control,
            &self.limits,
            &self.events,
            &self.pipes,
            &self.signaling,
            &self.log,
        ]
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn sections::Section> {
        let sections: [&mut dyn sections::Section; 8] = [
            &mut self.rtc,
            &mut self.dataplane,
            &mut self.control,
            &mut self.limits,
            &mut self.events,
            &mut self.pipes,
            &mut self.signaling,
            &mut self.log,
        ];
        sections.into_iter().find(|section| section.name() == name)
    }
}

/// Splits `section.key=value`, as given to `--set`.
///
/// # Errors
/// When there is no `=` or no section.
pub fn parse_override(text: &str) -> Result<(String, String), Problem> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok((key.trim().into(), value.trim().into())),
        _ => Err(Problem {
            place: Place::Flag { text: format!("--set {text}") },
            what: format!("`{text}` is not a setting"),
            help: "write section.key=value, such as --set rtc.ports=40000-49999".into(),
        }),
    }
}

fn now_differs(value: &str, usual: Option<&String>) -> bool {
    usual.is_none_or(|usual| usual != value)
}

/// A wildcard address is where a server listens, never where it is reached.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
