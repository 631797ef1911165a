//! The file that `control.webhooks` names: whom events are sent to, of what kind, signed by which
//! secret. TOML, with the files that it names; read whole and checked before any of it counts.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hyper::Uri;
use ironcast_api::{EventData, Id};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use serde::Deserialize;

use super::{http::Endpoint, reach::Reach};
use crate::auth::{Caller, Principal, Proven, Scopes, is_whole_name};

/// A key that is easily guessed signs nothing.
const SECRET_BYTES_MIN: usize = 16;
/// What the standard for webhooks puts before a secret in base64.
pub(super) const SECRET_PREFIX: &str = "whsec_";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file that cannot be read.
    #[error("{0}: {1}")]
    Read(String, std::io::Error),
    /// Not TOML, or not of this form.
    #[error("{0}: {1}")]
    Form(String, String),
    /// A value that is not possible.
    #[error("{path}: webhook {name:?}: {what}")]
    Webhook { path: String, name: String, what: String },
}

/// A receiver of events.
#[derive(Clone)]
pub struct Hook {
    /// Its name here: in the log, in metrics, in the name of its file.
    pub name: Id,
    pub endpoint: Endpoint,
    pub secret: Arc<[u8]>,
    /// Names of events.
    pub types: BTreeSet<&'static str>,
    /// Whose events.
    pub principal: Principal,
    /// The principal that was named.
    pub of: Option<String>,
    /// It stands in the file.
    pub is_configured: bool,
}

/// Without the secret.
impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hook").field("name", &self.name).field("endpoint", &self.endpoint).finish()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    webhook: Vec<Row>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    name: Id,
    url: String,
    secret_file: PathBuf,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    events: Option<Vec<String>>,
    #[serde(default)]
    principal: Option<String>,
}

/// The receivers, and the files that were read for them.
#[derive(Debug, Clone, Default)]
pub struct Hooks {
    pub hooks: Vec<Hook>,
    /// Contents, so that a reload sees what has changed.
    pub files: Vec<Vec<u8>>,
}

impl Hooks {
    /// Reads the file and those that it names; relative ones are beside it.
    pub fn read(path: Option<&Path>, count_max: usize) -> Result<Self, FileError> {
        let Some(path) = path else { return Ok(Self::default()) };
        let shown = || path.display().to_string();
        let bytes = read(path)?;
        let text = String::from_utf8_lossy(&bytes);
        let written: Written = toml::from_str(&text)
            .map_err(|error| FileError::Form(shown(), error.to_string().trim().to_owned()))?;
        let mut names = BTreeSet::new();
        let mut hooks = Self { hooks: Vec::new(), files: vec![bytes.clone()] };
        if written.webhook.len() > count_max {
            let what = format!("at most {count_max} webhooks (events.webhooks_max)");
            return Err(FileError::Form(shown(), what));
        }
        for row in written.webhook {
            let name = row.name.to_string();
            let wrong =
                |what: String| FileError::Webhook { path: shown(), name: name.clone(), what };
            if !names.insert(row.name.clone()) {
                return Err(wrong("two have this name".to_owned()));
            }
            let folder = path.parent().unwrap_or_else(|| Path::new("."));
            let secret = read(&folder.join(&row.secret_file))?;
            let ca = row.ca.as_ref().map(|ca| read(&folder.join(ca))).transpose()?;
            let hook = hook(&row, &secret, ca.as_deref()).map_err(wrong)?;
            hooks.hooks.push(hook);
            hooks.files.push(secret);
            hooks.files.extend(ca);
        }
        Ok(hooks)
    }
}

fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    std::fs::read(path).map_err(|error| FileError::Read(path.display().to_string(), error))
}

fn hook(row: &Row, secret: &[u8], ca: Option<&[u8]>) -> Result<Hook, String> {
    Ok(Hook {
        name: row.name.clone(),
        endpoint: endpoint(&row.url, ca, &Reach::All)?,
        secret: secret_of(secret)?.into(),
        types: types(row.events.as_deref())?,
        principal: principal(row.principal.as_deref())?,
        of: row.principal.clone(),
        is_configured: true,
    })
}

/// Where deliveries go to. What can be told from the address alone is refused here.
pub(super) fn endpoint(url: &str, ca: Option<&[u8]>, reach: &Reach) -> Result<Endpoint, String> {
    let uri: Uri = url.parse().map_err(|error| format!("url: {error}"))?;
    let is_tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err("url: it begins with https://, or with http:// on this machine".to_owned()),
    };
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<std::net::IpAddr>().ok();
    let is_loopback = bare == "localhost" || address.is_some_and(|address| address.is_loopback());
    if !is_tls && matches!(reach, Reach::Public(_)) {
        return Err("url: it begins with https://".to_owned());
    }
    if address.is_some_and(|address| !reach.has(address)) {
        return Err(format!("url: {bare} is not public, nor in events.webhook_allow"));
    }
    if !is_tls && !is_loopback {
        return Err("url: http is for receivers on this machine; others need https".to_owned());
    }
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err("url: no credentials stand in it; deliveries are signed".to_owned());
    }
    let roots = is_tls.then(|| roots(ca)).transpose()?;
    Endpoint::new(uri, roots, reach.clone())
}

/// What is trusted: the CA that is named, else those of the system.
fn roots(ca: Option<&[u8]>) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|error| format!("ca: {error}"))?;
                roots.add(certificate).map_err(|error| format!("ca: {error}"))?;
            }
        }
        None => return system_roots(),
    }
    if roots.is_empty() {
        return Err("ca: there is no certificate to trust".to_owned());
    }
    Ok(roots)
}

/// What this system trusts.
pub fn system_roots() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err("ca: this system trusts no certificate".to_owned());
    }
    Ok(roots)
}

/// `whsec_` and base64, or the text as it is.
pub(super) fn secret_of(file: &[u8]) -> Result<Vec<u8>, String> {
    let text = file.trim_ascii();
    let secret = match text.strip_prefix(SECRET_PREFIX.as_bytes()) {
        Some(encoded) => BASE64_STANDARD.decode(encoded).map_err(|error| {
            format!("secret_file: behind {SECRET_PREFIX} stands base64: {error}")
        })?,
        None => text.to_vec(),
    };
    if secret.len() < SECRET_BYTES_MIN {
        return Err(format!("secret_file: a secret has at least {SECRET_BYTES_MIN} bytes"));
    }
    Ok(secret)
}

/// Scores change each second: who wants them names them.
pub(super) fn types(wanted: Option<&[String]>) -> Result<BTreeSet<&'static str>, String> {
    let is_score = |name: &str| name.ends_with(".score");
    let all = || EventData::NAMES.iter().copied();
    let Some(wanted) = wanted else { return Ok(all().filter(|name| !is_score(name)).collect()) };
    let mut types = BTreeSet::new();
    for word in wanted {
        let found: Vec<&str> = match word.strip_suffix('*') {
            Some(start) => {
                all().filter(|name| name.starts_with(start) && !is_score(name)).collect()
            }
            None => all().filter(|name| name == word).collect(),
        };
        if found.is_empty() {
            return Err(format!("events: there is no event {word:?}"));
        }
        types.extend(found);
    }
    Ok(types)
}

/// Who sees what this principal sees; without a name, what admins do. One that nobody can have
/// would be sent nothing for ever.
pub(super) fn principal(name: Option<&str>) -> Result<Principal, String> {
    if name.is_some_and(|name| !is_whole_name(name)) {
        return Err("principal: it is token:, cert: or jwt: and a name".to_owned());
    }
    let text: Arc<str> = name.unwrap_or("webhook").into();
    Ok(Principal {
        name: Arc::clone(&text),
        scopes: if name.is_some() { Scopes::READ } else { Scopes::ADMIN },
        caller: Caller::Name(text),
        proven: Proven::default(),
        expires_s: None,
        address: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Hooks, FileError> {
        let folder = std::env::temp_dir().join(format!("ironcast-hooks-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("secret"), "a secret of some length\n").unwrap();
        std::fs::write(folder.join("short"), "short").unwrap();
        let path = folder.join("webhooks.toml");
        std::fs::write(&path, text).unwrap();
        let read = Hooks::read(Some(&path), 2);
        std::fs::remove_dir_all(&folder).unwrap();
        read
    }

    fn row(more: &str) -> String {
        let url = if more.contains("url") { "" } else { "url = \"http://127.0.0.1:9/x\"\n" };
        let secret = if more.contains("secret_file") { "" } else { "secret_file = \"secret\"\n" };
        format!("[[webhook]]\nname = \"one\"\n{url}{secret}{more}\n")
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (more, what) in [
            ("url = \"http://192.0.2.1/x\"", "https"),
            ("url = \"ftp://127.0.0.1/x\"", "begins with"),
            ("url = \"https://user:pass@example.org/\"", "credentials"),
            ("secret_file = \"short\"", "at least 16 bytes"),
            ("secret_file = \"nowhere\"", "nowhere"),
            ("events = [\"router.born\"]", "router.born"),
            ("colour = \"green\"", "colour"),
            ("principal = \"billing\"", "token:"),
            ("principal = \"token:\"", "token:"),
        ] {
            let error = read_text(&row(more)).expect_err(more).to_string();
            assert!(error.contains(what), "{more}: {error}");
        }
        let two = row("") + &row("");
        assert!(read_text(&two).expect_err("two").to_string().contains("this name"));
        let three = (0..3).map(|n| row("").replace("one", &n.to_string())).collect::<String>();
        assert!(read_text(&three).expect_err("three").to_string().contains("at most 2"));
        assert!(Hooks::read(None, 1).unwrap().hooks.is_empty());
    }

    #[test]
    fn names_of_events_may_end_in_a_star() {
        let types = |more: &str| read_text(&row(more)).unwrap().hooks.remove(0).types;
        let all = types("");
        assert!(all.contains("router.created") && !all.contains("consumer.score"), "{all:?}");
        let some = types("events = [\"router.*\", \"consumer.score\"]");
        assert_eq!(
            some.into_iter().collect::<Vec<_>>(),
            ["consumer.score", "router.closed", "router.created",]
        );
    }

    #[test]
    fn secrets_are_read_in_both_forms() {
        assert_eq!(secret_of(b"whsec_MDEyMzQ1Njc4OWFiY2RlZg==\n").unwrap(), b"0123456789abcdef");
        assert_eq!(secret_of(b"  0123456789abcdef\n").unwrap(), b"0123456789abcdef");
        assert!(secret_of(b"whsec_!").is_err());
    }
}
