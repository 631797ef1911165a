//! Receivers that callers have made (`POST /webhooks`): kept with their secrets in a file of the state
//! directory that its owner alone can read. Written before the caller is answered.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use ironcast_api::{CreateWebhook, Id, WEBHOOK_URL_BYTES_MAX};
use serde::{Deserialize, Serialize};

use super::{
    file::{FileError, Hook, SECRET_PREFIX, endpoint, principal, secret_of, types},
    reach::Reach,
};

/// Bytes of a secret that is made here.
const SECRET_BYTES: usize = 32;
/// Names of events in one request.
const EVENTS_MAX: usize = 100;

/// What is kept of one.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    pub request: CreateWebhook,
    pub secret: String,
}

impl Row {
    /// With a secret of its own.
    pub fn new(request: CreateWebhook) -> Self {
        let bytes: [u8; SECRET_BYTES] = rand::random();
        Self { request, secret: format!("{SECRET_PREFIX}{}", BASE64_STANDARD.encode(bytes)) }
    }

    /// Ready to be delivered to. What is wrong is said with the name of its field before a colon.
    pub fn hook(&self, name: &Id, reach: &Reach) -> Result<Hook, String> {
        let request = &self.request;
        if request.url.len() > WEBHOOK_URL_BYTES_MAX {
            return Err(format!("url: at most {WEBHOOK_URL_BYTES_MAX} bytes"));
        }
        if request.events.as_ref().is_some_and(|events| events.len() > EVENTS_MAX) {
            return Err(format!("events: at most {EVENTS_MAX}"));
        }
        let endpoint = endpoint(&request.url, request.ca.as_ref().map(String::as_bytes), reach)?;
        Ok(Hook {
            name: name.clone(),
            endpoint,
            secret: secret_of(self.secret.as_bytes())?.into(),
            types: types(request.events.as_deref())?,
            principal: principal(request.principal.as_deref())?,
            of: request.principal.clone(),
            is_configured: false,
        })
    }
}

/// All of them.
pub struct Made {
    path: PathBuf,
    pub rows: BTreeMap<Id, Row>,
}

impl Made {
    /// Those that an earlier process has kept.
    pub fn read(state_dir: &Path) -> Result<Self, FileError> {
        let path = state_dir.join("webhooks.json");
        let shown = || path.display().to_string();
        let rows = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| FileError::Form(shown(), error.to_string()))?,
            // Where the folder cannot be made either, that is said when it is to be.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                BTreeMap::new()
            }
            Err(error) => return Err(FileError::Read(shown(), error)),
        };
        Ok(Self { path, rows })
    }

    /// Adds one, or takes one away; then it is on the disk, or nothing has changed.
    pub fn set(&mut self, id: &Id, row: Option<Row>) -> io::Result<()> {
        let mut rows = self.rows.clone();
        match row {
            Some(row) => rows.insert(id.clone(), row),
            None => rows.remove(id),
        };
        self.write(&rows)?;
        self.rows = rows;
        Ok(())
    }

    /// Under another name first, so that nobody reads half a file.
    fn write(&self, rows: &BTreeMap<Id, Row>) -> io::Result<()> {
        let new = self.path.with_extension("new");
        // One that a killed process has left may be everybody's to read.
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(rows)?)?;
        file.sync_all()?;
        fs::rename(&new, &self.path)
    }

    /// Those that can be delivered to; of others it is said why they cannot.
    pub fn hooks(&self, reach: &Reach) -> Vec<Hook> {
        let ready = self.rows.iter().filter_map(|(name, row)| {
            let hook = row.hook(name, reach);
            hook.inspect_err(|why| tracing::error!(webhook = %name, why, "no deliveries")).ok()
        });
        ready.collect()
    }
}

/// What receivers of callers may reach.
pub fn reach_of(allow: &[ipnet::IpNet]) -> Reach {
    Reach::Public(Arc::from(allow))
}
