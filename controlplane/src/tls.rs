//! The server's certificate: the configured one, or a development certificate made at the first
//! start. Called once by `doors`; never sends anything.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("{}: {error}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What happened.
        error: io::Error,
    },
    /// It could not be made.
    #[error("the development certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
}

/// Certificate chain and private key, PEM.
pub struct KeyPair {
    /// The server's certificate first.
    pub cert_pem: Vec<u8>,
    /// Its key.
    pub key_pem: Vec<u8>,
}

/// Names in the development certificate.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Reads the files. If `may_make` and neither is there, makes a certificate for this machine and
/// keeps it in them, so that clients can trust it across restarts.
pub fn load(cert: &Path, key: &Path, may_make: bool) -> Result<KeyPair, TlsError> {
    if may_make && !cert.exists() && !key.exists() {
        make(cert, key)?;
    }
    Ok(KeyPair { cert_pem: read(cert)?, key_pem: read(key)? })
}

fn make(cert: &Path, key: &Path) -> Result<(), TlsError> {
    let signing_key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::new(NAMES.map(str::to_owned).to_vec())?;
    params.distinguished_name.push(rcgen::DnType::CommonName, "Ironcast development certificate");
    let certificate = params.self_signed(&signing_key)?;
    // The key first: a certificate without its key would not be made again.
    write(key, signing_key.serialize_pem().as_bytes(), 0o600)?;
    write(cert, certificate.pem().as_bytes(), 0o644)?;
    tracing::info!(cert = %cert.display(), "made a development certificate");
    Ok(())
}

/// Under another name first, so that nobody reads half a file.
fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), TlsError> {
    let failed = |error| TlsError::File { path: path.to_owned(), error };
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let written = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(&temporary)
        .and_then(|mut file| file.write_all(bytes))
        .and_then(|()| fs::rename(&temporary, path));
    written.map_err(failed)
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::File { path: path.to_owned(), error })
}
