//! What a value must keep beyond its kind: bounds, forms of text, and agreement between values.
//! Called by the sections for one value, and by the loader for the whole at the end.

use std::net::IpAddr;

use crate::{
    Config, Problem,
    value::{Expected, MediaHost},
};

/// A bound that a section sets on one value.
pub(crate) trait Check<T> {
    fn check(&self, value: &T) -> Result<(), Expected>;
}

/// Both ends included.
pub(crate) struct Between<T>(pub(crate) T, pub(crate) T);

impl<T: PartialOrd + std::fmt::Display> Check<T> for Between<T> {
    fn check(&self, value: &T) -> Result<(), Expected> {
        if (&self.0..=&self.1).contains(&value) {
            return Ok(());
        }
        Err(Expected(format!("expected a whole number from {} to {}", self.0, self.1)))
    }
}

/// A port that can be bound.
pub(crate) struct RealPort;

impl Check<Option<u16>> for RealPort {
    fn check(&self, value: &Option<u16>) -> Result<(), Expected> {
        match value {
            Some(0) => Err(Expected("expected a UDP port from 1 to 65535, such as 3478".into())),
            _ => Ok(()),
        }
    }
}

/// What callers of the control API may do.
pub(crate) struct ScopeWords;

impl Check<Vec<String>> for ScopeWords {
    fn check(&self, value: &Vec<String>) -> Result<(), Expected> {
        if value.iter().all(|word| ["read", "control", "admin"].contains(&word.as_str())) {
            return Ok(());
        }
        Err(Expected("expected some of \"read\", \"control\", \"admin\"".into()))
    }
}

/// An address of the control API.
pub(crate) struct Url;

impl Check<Option<String>> for Url {
    fn check(&self, value: &Option<String>) -> Result<(), Expected> {
        let Some(url) = value else { return Ok(()) };
        let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
        match host {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(()),
            _ => Err(Expected("expected an address such as \"https://127.0.0.1:7443\"".into())),
        }
    }
}

/// A header of HTTP.
pub(crate) struct HeaderName;

impl Check<Option<String>> for HeaderName {
    fn check(&self, value: &Option<String>) -> Result<(), Expected> {
        let Some(name) = value else { return Ok(()) };
        let is_fit = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if (1..=64).contains(&name.len()) && name.chars().all(is_fit) {
            return Ok(());
        }
        Err(Expected("expected the name of a header, such as \"CF-IPCountry\"".into()))
    }
}

/// A PostgreSQL database.
pub(crate) struct PostgresUrl;

impl Check<Option<String>> for PostgresUrl {
    fn check(&self, value: &Option<String>) -> Result<(), Expected> {
        let Some(url) = value else { return Ok(()) };
        let is_one = url.starts_with("postgres://") || url.starts_with("postgresql://");
        if is_one && !url.contains(char::is_whitespace) {
            return Ok(());
        }
        Err(Expected("expected such as \"postgres://user:password@host/database\"".into()))
    }
}

/// A Redis server.
pub(crate) struct RedisUrl;

impl Check<Option<String>> for RedisUrl {
    fn check(&self, value: &Option<String>) -> Result<(), Expected> {
        let Some(url) = value else { return Ok(()) };
        let host = url.strip_prefix("redis://").or_else(|| url.strip_prefix("redis+unix://"));
        match host {
            Some(host) if !host.is_empty() && !host.contains(char::is_whitespace) => Ok(()),
            _ => Err(Expected("expected such as \"redis://127.0.0.1:6379\"".into())),
        }
    }
}

/// What helps browsers to find each other: `stun:host:port`, `turn:host:port?transport=udp`.
pub(crate) struct IceUrls(pub(crate) [&'static str; 2]);

impl Check<Vec<String>> for IceUrls {
    fn check(&self, value: &Vec<String>) -> Result<(), Expected> {
        let fits = |url: &String| {
            let host = self.0.iter().find_map(|scheme| url.strip_prefix(scheme));
            host.is_some_and(|host| !host.is_empty() && !host.starts_with('/'))
        };
        if value.iter().all(fits) {
            return Ok(());
        }
        Err(Expected(format!("expected such as [\"{}host.example.org:3478\"]", self.0[0])))
    }
}

/// Addresses of other hosts' control APIs.
pub(crate) struct Urls;

impl Check<Vec<String>> for Urls {
    fn check(&self, value: &Vec<String>) -> Result<(), Expected> {
        let is_url = |url: &String| {
            url.strip_prefix("https://").is_some_and(|host| {
                !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/')
            })
        };
        if value.iter().all(is_url) {
            return Ok(());
        }
        Err(Expected("expected addresses such as \"https://media-2.example:7443\"".into()))
    }
}

/// Media hosts: no name is given twice.
pub(crate) struct OtherNames;

impl Check<Vec<MediaHost>> for OtherNames {
    fn check(&self, value: &Vec<MediaHost>) -> Result<(), Expected> {
        for (index, host) in value.iter().enumerate() {
            if value[..index].iter().any(|other| other.name == host.name) {
                return Err(Expected(format!(
                    "two hosts are called {}: give them names",
                    host.name
                )));
            }
        }
        Ok(())
    }
}

/// A level, or several `part=level` after it.
pub(crate) struct LogFilter;

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

impl Check<String> for LogFilter {
    fn check(&self, value: &String) -> Result<(), Expected> {
        for part in value.split(',') {
            let level = part.rsplit_once('=').map_or(part, |(_, level)| level).trim();
            if !LEVELS.contains(&level) {
                return Err(Expected(format!(
                    "expected one of {}, or such as \"info,ironcast_dataplane=debug\"",
                    LEVELS.map(|level| format!("\"{level}\"")).join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// What only the whole shows.
pub(crate) fn whole(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, what: String, help: &str| {
        let place = config.place(key);
        problems.push(Problem { place, what, help: help.into() });
    };
    let (rtc, dataplane, control) = (&config.rtc, &config.dataplane, &config.control);
    let workers = match dataplane.cores.len() {
        0 => dataplane.workers,
        cores => u32::try_from(cores).unwrap_or(u32::MAX),
    };
    if rtc.single_port.is_none() && rtc.ports.count() < workers {
        let what = format!("{} ports are too few for {workers} workers", rtc.ports.count());
        let help = "each worker has ports of its own: widen rtc.ports, set rtc.single_port, or \
                    lower dataplane.workers";
        refuse("rtc.ports", what, help);
    }
    if !rtc.enable_udp && !rtc.enable_tcp {
        let help = "a browser has nowhere to connect to: set one of the two";
        refuse("rtc.enable_udp", "rtc.enable_udp and rtc.enable_tcp are both off".into(), help);
    }
    if !dataplane.cores.is_empty() && dataplane.workers != 0 && dataplane.workers != workers {
        let what = format!("{} workers on {workers} cores", dataplane.workers);
        refuse("dataplane.workers", what, "set dataplane.workers or dataplane.cores, not both");
    }
    for announced in &rtc.announced_address {
        if announced.port.is_some() && rtc.single_port.is_none() {
            let what = format!("\"{announced}\" names a port, but there is a port for each worker");
            let help = "a port can be announced only with rtc.single_port; else leave it out";
            refuse("rtc.announced_address", what, help);
        }
    }
    let pairs = [
        ("control", &control.tls_cert, &control.tls_key),
        ("signaling", &config.signaling.tls_cert, &config.signaling.tls_key),
    ];
    let signaling = &config.signaling;
    match (&signaling.control_cert, &signaling.control_key) {
        (Some(_), None) => {
            let what = "signaling.control_cert is set, but signaling.control_key is not".into();
            refuse("signaling.control_cert", what, "a certificate and its key belong together");
        }
        (None, Some(_)) => {
            let what = "signaling.control_key is set, but signaling.control_cert is not".into();
            refuse("signaling.control_key", what, "a certificate and its key belong together");
        }
        _ => {}
    }
    if !signaling.turn_servers.is_empty() && signaling.turn_secret_file.is_none() {
        let what = "signaling.turn_servers is set, but signaling.turn_secret_file is not".into();
        let help = "name a file with the secret that the TURN server knows (static-auth-secret)";
        refuse("signaling.turn_servers", what, help);
    }
    match (&config.pipes.cert, &config.pipes.key) {
        (Some(_), None) => {
            let what = "pipes.cert is set, but pipes.key is not".into();
            refuse("pipes.cert", what, "a certificate and its key belong together");
        }
        (None, Some(_)) => {
            let what = "pipes.key is set, but pipes.cert is not".into();
            refuse("pipes.key", what, "a certificate and its key belong together");
        }
        _ => {}
    }
    for (section, cert, key) in pairs {
        let (has, lacks) = match (cert, key) {
            (Some(_), None) => ("tls_cert", "tls_key"),
            (None, Some(_)) => ("tls_key", "tls_cert"),
            _ => continue,
        };
        let what = format!("{section}.{has} is set, but {section}.{lacks} is not");
        refuse(&format!("{section}.{has}"), what, "a certificate and its key belong together");
    }
    let open = |ip: IpAddr| !ip.is_loopback();
    if control.client_crl.is_some() && control.client_ca.is_none() {
        let what = "control.client_crl is set, but control.client_ca is not".into();
        refuse("control.client_crl", what, "name the CA whose certificates it revokes");
    }
    let bearers = control.token_file.is_some() || control.jwt_keys.is_some();
    let authenticated = control.client_ca.is_some() || bearers;
    if open(control.listen.ip()) && !authenticated {
        let what = format!("the control API on {} would take commands from anyone", control.listen);
        let help = "set control.client_ca, control.token_file or control.jwt_keys, or listen on \
                    \"127.0.0.1:7443\"";
        refuse("control.listen", what, help);
    }
    problems
}
