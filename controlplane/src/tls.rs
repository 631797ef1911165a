//! TLS of the doors: the server's certificate (the configured one, or a development certificate made
//! at the first start) and the question for the client's. Both may change while the doors are
//! open: each handshake looks at what holds then.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature,
        verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject as _},
    server::{
        ClientHello, ResolvesServerCert,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use salvo::conn::IntoConfigStream;

use crate::auth::Gate;

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
    /// A file holds something else.
    #[error("{}: {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// TLS does not take it.
    #[error(transparent)]
    Rustls(#[from] Error),
}

/// Names in the development certificate.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Reads the files. If `may_make` and neither is there, makes a certificate for this machine and
/// keeps it in them, so that clients can trust it across restarts.
pub fn load(cert: &Path, key: &Path, may_make: bool) -> Result<CertifiedKey, TlsError> {
    if may_make && !cert.exists() && !key.exists() {
        make(cert, key)?;
    }
    let wrong = |path: &Path, what: &dyn std::fmt::Display| TlsError::Content {
        path: path.to_owned(),
        what: what.to_string(),
    };
    let pem = read(cert)?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let chain = chain.map_err(|error| wrong(cert, &error))?;
    if chain.is_empty() {
        return Err(wrong(cert, &"there is no certificate in it"));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| wrong(key, &error))?;
    // Also finds out whether the two belong together.
    CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider())
        .map_err(|error| wrong(key, &error))
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

/// TLS of the doors.
pub struct DoorTls {
    provider: Arc<CryptoProvider>,
    shown: Arc<Shown>,
    asked: Arc<Asked>,
}

impl DoorTls {
    /// Shows a certificate, and asks for one as the gate says.
    #[must_use]
    pub fn new(key: CertifiedKey, gate: Arc<Gate>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(key))));
        Self { provider, shown, asked: Arc::new(Asked { gate, algorithms }) }
    }

    /// Shows another certificate from now on.
    pub fn replace(&self, key: CertifiedKey) {
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// HTTP/2 and HTTP/1.1.
    #[must_use]
    pub fn for_tcp(&self) -> Once {
        Once(self.config(rustls::ALL_VERSIONS, &[b"h2", b"http/1.1"]))
    }

    /// HTTP/3.
    pub fn for_quic(&self) -> Result<quinn::ServerConfig, TlsError> {
        let config = self.config(&[&rustls::version::TLS13], &[b"h3"])?;
        let config = quinn::crypto::rustls::QuicServerConfig::try_from(config)
            .map_err(|error| Error::General(error.to_string()))?;
        Ok(quinn::ServerConfig::with_crypto(Arc::new(config)))
    }

    fn config(
        &self,
        versions: &[&'static rustls::SupportedProtocolVersion],
        protocols: &[&[u8]],
    ) -> Result<ServerConfig, Error> {
        let builder = ServerConfig::builder_with_provider(Arc::clone(&self.provider));
        let builder = builder.with_protocol_versions(versions)?;
        let asked: Arc<dyn ClientCertVerifier> = Arc::<Asked>::clone(&self.asked);
        let shown: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&self.shown);
        let mut config = builder.with_client_cert_verifier(asked).with_cert_resolver(shown);
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        Ok(config)
    }
}

/// One configuration for as long as the door is open.
pub struct Once(Result<ServerConfig, Error>);

/// A configuration that may be none, as the web framework takes it.
pub struct Config(Result<ServerConfig, Error>);

impl TryFrom<Config> for ServerConfig {
    type Error = Error;

    fn try_from(config: Config) -> Result<Self, Error> {
        config.0
    }
}

impl IntoConfigStream<Config> for Once {
    type Stream = futures::stream::Once<std::future::Ready<Config>>;

    fn into_stream(self) -> Self::Stream {
        futures::stream::once(std::future::ready(Config(self.0)))
    }
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Asks clients for a certificate, if the gate takes some now. Where a token may be shown instead the
/// handshake goes on without one.
struct Asked {
    gate: Arc<Gate>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Asked")
    }
}

impl ClientCertVerifier for Asked {
    fn offer_client_auth(&self) -> bool {
        self.gate.verifier().is_some()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.gate.needs_certificate()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // They change with the CA: a client shows the certificate that it has.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Taken away since the handshake began.
        let verifier = self.gate.verifier();
        let verifier = verifier.ok_or_else(|| Error::General("no certificates here".to_owned()))?;
        verifier.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
