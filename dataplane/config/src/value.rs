//! The kinds of values and how each is read from TOML or from a word (environment, flag) and
//! written back. Called by the sections; a value that does not fit answers with what would.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;
use toml::de::DeValue;

/// A value as it was given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Raw<'a> {
    /// In the file.
    Toml(&'a DeValue<'a>),
    /// In the environment or a flag.
    Word(&'a str),
}

/// What would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected(pub(crate) String);

pub(crate) trait Value: Sized {
    /// "expected ...", with an example.
    fn expected() -> String;
    /// From a word, or from a string in the file.
    fn from_word(word: &str) -> Result<Self, Expected>;
    /// From the file.
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
        match value {
            DeValue::String(text) => Self::from_word(text),
            _ => Err(Expected(Self::expected())),
        }
    }
    /// As the file writes it; `None`: not set.
    fn show(&self) -> Option<String>;

    fn read(raw: Raw<'_>) -> Result<Self, Expected> {
        match raw {
            Raw::Toml(value) => Self::from_toml(value),
            Raw::Word(word) => Self::from_word(word),
        }
    }
}

fn quoted(text: impl fmt::Display) -> Option<String> {
    Some(toml::Value::String(text.to_string()).to_string())
}

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl Value for $number {
            fn expected() -> String {
                format!("expected a whole number from 0 to {}, without quotes", Self::MAX)
            }
            fn from_word(word: &str) -> Result<Self, Expected> {
                word.replace('_', "").parse().map_err(|_| Expected(Self::expected()))
            }
            fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
                match value {
                    DeValue::Integer(number) => {
                        Self::from_str_radix(number.as_str(), number.radix())
                            .map_err(|_| Expected(Self::expected()))
                    }
                    DeValue::String(text) if Self::from_word(text).is_ok() => {
                        Err(Expected(format!("write it without quotes: {text}")))
                    }
                    _ => Err(Expected(Self::expected())),
                }
            }
            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}
whole_numbers!(u16, u32, u64);

impl Value for bool {
    fn expected() -> String {
        "expected true or false, without quotes".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        word.parse().map_err(|_| Expected(Self::expected()))
    }
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
        value.as_bool().ok_or_else(|| Expected(Self::expected()))
    }
    fn show(&self) -> Option<String> {
        Some(self.to_string())
    }
}

impl Value for String {
    fn expected() -> String {
        "expected text in quotes".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        Ok(word.to_owned())
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for PathBuf {
    fn expected() -> String {
        "expected a path in quotes, such as \"/var/lib/ironcast\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        if word.is_empty() {
            return Err(Expected(Self::expected()));
        }
        Ok(Self::from(word))
    }
    fn show(&self) -> Option<String> {
        quoted(self.display())
    }
}

impl Value for IpAddr {
    fn expected() -> String {
        "expected an IP address, such as \"203.0.113.7\" or \"2001:db8::7\" (names are not looked up)"
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let bare = word.trim_start_matches('[').trim_end_matches(']');
        bare.parse().map_err(|_| Expected(Self::expected()))
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for SocketAddr {
    fn expected() -> String {
        "expected address:port, such as \"127.0.0.1:7443\" or \"[::1]:7443\" (names are not looked up)"
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let port = word.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
        if let Some(port) = port {
            return Err(Expected(format!("write the address itself: \"127.0.0.1:{port}\"")));
        }
        word.parse().map_err(|_| match word.parse::<IpAddr>() {
            Ok(IpAddr::V6(ip)) => Expected(format!("the port is missing, such as \"[{ip}]:7443\"")),
            Ok(ip) => Expected(format!("the port is missing, such as \"{ip}:7443\"")),
            Err(_) => Expected(Self::expected()),
        })
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl<T: Value> Value for Option<T> {
    fn expected() -> String {
        T::expected()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        if word.is_empty() { Ok(None) } else { T::from_word(word).map(Some) }
    }
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
        T::from_toml(value).map(Some)
    }
    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Value::show)
    }
}

impl<T: Value> Value for Vec<T> {
    fn expected() -> String {
        format!("expected a list in brackets; for each entry: {}", T::expected())
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let entries = word.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.map(T::from_word).collect()
    }
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
        match value {
            DeValue::Array(entries) => {
                entries.iter().map(|entry| T::from_toml(entry.get_ref())).collect()
            }
            single => match T::from_toml(single).ok().and_then(|value| value.show()) {
                Some(value) => Err(Expected(format!("write a list: [{value}]"))),
                None => Err(Expected(Self::expected())),
            },
        }
    }
    fn show(&self) -> Option<String> {
        let entries: Vec<String> = self.iter().filter_map(Value::show).collect();
        Some(format!("[{}]", entries.join(", ")))
    }
}

/// A range of UDP ports, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest.
    pub first: u16,
    /// The highest, never below `first`.
    pub last: u16,
}

impl PortRange {
    /// How many ports it holds.
    #[must_use]
    pub fn count(self) -> u32 {
        u32::from(self.last) - u32::from(self.first) + 1
    }

    /// The contiguous part of worker `index` of `workers`: all parts have the same size, and a
    /// remainder at the end stays unused. `None` when there are more workers than ports.
    #[must_use]
    pub fn slice(self, index: u32, workers: u32) -> Option<Self> {
        let size = self.count().checked_div(workers).filter(|size| *size > 0 && index < workers)?;
        let first = u32::from(self.first) + index * size;
        Some(Self {
            first: u16::try_from(first).ok()?,
            last: u16::try_from(first + size - 1).ok()?,
        })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Value for PortRange {
    fn expected() -> String {
        "expected the first and the last UDP port, such as \"40000-49999\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let ends = word.split_once('-').map(|(first, last)| (first.trim(), last.trim()));
        let parsed = ends.and_then(|(first, last)| {
            Some((first.parse::<u16>().ok()?, last.parse::<u16>().ok()?))
        });
        match parsed {
            Some((first, last)) if first > last => {
                Err(Expected(format!("the first port comes first: \"{last}-{first}\"")))
            }
            Some((0, _)) | None => Err(Expected(Self::expected())),
            Some((first, last)) => Ok(Self { first, last }),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

/// An address that candidates carry in place of ours, with the port of a forwarding if it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// As browsers reach it.
    pub ip: IpAddr,
    /// Only where a router in front maps the single port to another.
    pub port: Option<u16>,
}

impl fmt::Display for Announced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl Value for Announced {
    fn expected() -> String {
        "expected an IP address, or address:port where a router maps the port, such as \
         \"203.0.113.7\", \"203.0.113.7:3478\" or \"[2001:db8::7]:3478\" (names are not looked up)"
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
        if let Ok(ip) = bare.parse() {
            return Ok(Self { ip, port: None });
        }
        match word.parse::<SocketAddr>() {
            Ok(address) => Ok(Self { ip: address.ip(), port: Some(address.port()) }),
            Err(_) => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

impl Value for IpNet {
    fn expected() -> String {
        "expected addresses by their prefix, or one address, such as \"10.1.0.0/16\", \"203.0.113.7\" or \
         \"2001:db8::/32\""
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let network = word.parse().or_else(|_| word.parse::<IpAddr>().map(Self::from));
        let network: Self = network.map_err(|_| Expected(Self::expected()))?;
        if network.trunc() != network {
            return Err(Expected(format!(
                "the bits behind the prefix are 0: \"{}\"",
                network.trunc()
            )));
        }
        Ok(network)
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

/// Where a plain HTTP door listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Door {
    /// A TCP address; only loopback is accepted for plain HTTP.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Value for Door {
    fn expected() -> String {
        "expected a loopback address:port or a unix socket, such as \"127.0.0.1:7480\" or \
         \"unix:/run/ironcast/control.sock\""
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        if let Some(path) = word.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        match word.parse::<SocketAddr>() {
            Ok(address) if address.ip().is_loopback() => Ok(Self::Tcp(address)),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(self)
    }
}

/// Which of the configured proofs a caller has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// One of them.
    Any,
    /// Each of them.
    All,
}

impl Value for Require {
    fn expected() -> String {
        "expected one of \"any\", \"all\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        match word {
            "any" => Ok(Self::Any),
            "all" => Ok(Self::All),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(match self {
            Self::Any => "any",
            Self::All => "all",
        })
    }
}

/// How the dataplane hands packets to the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transmit {
    /// Through the ring, with segmentation.
    IoUring,
    /// By `sendmmsg`, with segmentation.
    Sendmmsg,
    /// As by the ring, but what does not segment as whole frames (AF_XDP).
    Xdp,
}

impl Value for Transmit {
    fn expected() -> String {
        "expected one of \"io_uring\", \"sendmmsg\", \"xdp\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        match word {
            "io_uring" => Ok(Self::IoUring),
            "sendmmsg" => Ok(Self::Sendmmsg),
            "xdp" => Ok(Self::Xdp),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(match self {
            Self::IoUring => "io_uring",
            Self::Sendmmsg => "sendmmsg",
            Self::Xdp => "xdp",
        })
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs, one object a line.
    Json,
}

impl Value for LogFormat {
    fn expected() -> String {
        "expected \"text\" or \"json\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        match word {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// What seals the dataplane's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sealer {
    /// The core's own.
    Software,
    /// Intel's IPsec-MB library.
    IpsecMb,
}

impl Value for Sealer {
    fn expected() -> String {
        "expected one of \"software\", \"ipsec-mb\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        match word {
            "software" => Ok(Self::Software),
            "ipsec-mb" => Ok(Self::IpsecMb),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(match self {
            Self::Software => "software",
            Self::IpsecMb => "ipsec-mb",
        })
    }
}

/// How signaling chooses the media host of a new room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostPlacement {
    /// The one that has the least to do.
    #[default]
    LeastLoaded,
    /// The same one for the same room, as long as it is there.
    Hash,
}

impl Value for HostPlacement {
    fn expected() -> String {
        "expected one of \"least_loaded\", \"hash\"".into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        match word {
            "least_loaded" => Ok(Self::LeastLoaded),
            "hash" => Ok(Self::Hash),
            _ => Err(Expected(Self::expected())),
        }
    }
    fn show(&self) -> Option<String> {
        quoted(match self {
            Self::LeastLoaded => "least_loaded",
            Self::Hash => "hash",
        })
    }
}

/// A media host, as signaling reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaHost {
    /// As records and metrics have it.
    pub name: String,
    /// Its control API.
    pub url: String,
    /// Where it is.
    pub region: Option<String>,
    /// What is trusted there, PEM, if it is something else than elsewhere.
    pub ca: Option<PathBuf>,
    /// Its control API as the other hosts reach it, if that is another address.
    pub pipe_url: Option<String>,
}

/// Longest name of a host, and of a region.
const HOST_NAME_MAX: usize = 64;

impl MediaHost {
    fn new(parts: &[(&str, &str)]) -> Result<Self, Expected> {
        let part = |wanted: &str| parts.iter().find(|(key, _)| *key == wanted).map(|(_, it)| *it);
        let is_known = |key: &str| ["name", "url", "region", "ca", "pipe_url"].contains(&key);
        if let Some((key, _)) = parts.iter().find(|(key, _)| !is_known(key)) {
            let known = "a host has name, url, region, ca and pipe_url";
            return Err(Expected(format!("{known}, and no {key}")));
        }
        let address_of = |url: &str| {
            let address = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let is_address = |it: &&str| !it.contains(|c: char| c.is_whitespace() || c == '/');
            let address = address.filter(is_address).filter(|it| !it.is_empty());
            address.map(str::to_owned).ok_or_else(|| Expected(Self::expected()))
        };
        let url = part("url").ok_or_else(|| Expected(Self::expected()))?;
        let address = address_of(url)?;
        let pipe_url = part("pipe_url");
        pipe_url.map(address_of).transpose()?;
        // Brackets of an IPv6 address are no part of a name.
        let named: String = address.chars().filter(|c| !"[]".contains(*c)).collect();
        let name = part("name").unwrap_or(&named).to_owned();
        let region = part("region").map(str::to_owned);
        for word in [Some(&name), region.as_ref()].into_iter().flatten() {
            let fits = |c: char| c.is_ascii_alphanumeric() || "._:-".contains(c);
            if word.is_empty() || word.len() > HOST_NAME_MAX || !word.chars().all(fits) {
                let what = "a name and a region have 1 to 64 of A-Z a-z 0-9 . _ : -";
                return Err(Expected(format!("{what}, which {word:?} has not")));
            }
        }
        Ok(Self {
            name,
            url: url.to_owned(),
            region,
            ca: part("ca").map(PathBuf::from),
            pipe_url: pipe_url.map(str::to_owned),
        })
    }
}

impl Value for MediaHost {
    fn expected() -> String {
        "expected such as { name = \"media-1\", url = \"https://media-1.example:7443\", \
         region = \"eu\" }, or in one word \
         \"https://media-1.example:7443;name=media-1;region=eu\""
            .into()
    }
    fn from_word(word: &str) -> Result<Self, Expected> {
        let mut parts = word.split(';').map(str::trim);
        let url = ("url", parts.next().unwrap_or_default());
        let others =
            parts.map(|part| part.split_once('=').ok_or_else(|| Expected(Self::expected())));
        let parts: Result<Vec<_>, _> = std::iter::once(Ok(url)).chain(others).collect();
        Self::new(&parts?)
    }
    fn from_toml(value: &DeValue<'_>) -> Result<Self, Expected> {
        let table = match value {
            DeValue::String(text) => return Self::from_word(text),
            DeValue::Table(table) => table,
            _ => return Err(Expected(Self::expected())),
        };
        let mut parts = Vec::new();
        for (key, value) in table.iter() {
            let DeValue::String(text) = value.get_ref() else {
                return Err(Expected(Self::expected()));
            };
            parts.push((&**key.get_ref(), &**text));
        }
        Self::new(&parts)
    }
    fn show(&self) -> Option<String> {
        let ca = self.ca.as_ref().map(|ca| ca.display().to_string());
        let parts = [
            ("name", Some(&self.name)),
            ("url", Some(&self.url)),
            ("region", self.region.as_ref()),
            ("ca", ca.as_ref()),
            ("pipe_url", self.pipe_url.as_ref()),
        ];
        let parts =
            parts.iter().filter_map(|(key, text)| Some(format!("{key} = {}", quoted((*text)?)?)));
        Some(format!("{{ {} }}", parts.collect::<Vec<_>>().join(", ")))
    }
}
