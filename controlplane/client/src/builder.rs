//! Settings of a client: where the server is, what is trusted there, what is shown to it.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};

use crate::{Client, ClientError, connection::Settings};

/// Certificates that are trusted at the server.
#[derive(Debug, Clone)]
pub enum Trust {
    /// A file, PEM: a CA, or the server's own certificate (the development certificate). It is
    /// read again for each new connection, because a new one may have been made.
    File(PathBuf),
    /// The same as bytes.
    Pem(Vec<u8>),
}

/// The bearer token.
#[derive(Clone)]
pub enum Token {
    /// As it is.
    Text(String),
    /// The last word of the first line of a file that is neither empty nor a comment (`#`), read
    /// again for each new connection: so the server's own file will do.
    File(PathBuf),
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Token::Text(..)"),
            Self::File(path) => f.debug_tuple("Token::File").field(path).finish(),
        }
    }
}

/// Makes a [`Client`].
#[derive(Debug, Clone)]
pub struct ClientBuilder {
    url: String,
    trust: Vec<Trust>,
    token: Option<Token>,
    identity: Option<(PathBuf, PathBuf)>,
    timeout: Duration,
}

impl ClientBuilder {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            trust: Vec::new(),
            token: None,
            identity: None,
            timeout: Duration::from_secs(10),
        }
    }

    /// Trusts these certificates. Without any, nothing is trusted.
    #[must_use]
    pub fn trust(mut self, trust: Trust) -> Self {
        self.trust.push(trust);
        self
    }

    /// Shows this token.
    #[must_use]
    pub fn token(mut self, token: Token) -> Self {
        self.token = Some(token);
        self
    }

    /// Shows a client certificate: files with the chain and its private key, PEM.
    #[must_use]
    pub fn identity(mut self, cert: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        self.identity = Some((cert.into(), key.into()));
        self
    }

    /// Longest time for one call, connecting included (default 10 s).
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Checks the settings. No connection is made yet; call it inside a tokio runtime.
    pub fn build(self) -> Result<Client, ClientError> {
        let url: http::Uri =
            self.url.parse().map_err(|_| ClientError::Settings("url is no URL".into()))?;
        if url.scheme_str() != Some("https") {
            return Err(ClientError::Settings("url begins with https://".into()));
        }
        let Some(host) = url.host() else {
            return Err(ClientError::Settings("url has no host".into()));
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = url.port_u16().unwrap_or(443);
        let settings = Settings {
            authority: if host.contains(':') {
                format!("[{host}]:{port}")
            } else {
                format!("{host}:{port}")
            },
            host,
            port,
            trust: self.trust,
            token: self.token,
            identity: self.identity,
            timeout: self.timeout,
        };
        Ok(Client::with_settings(settings))
    }
}

impl Settings {
    /// Reads the files anew: certificates may have changed since the last connection.
    pub(crate) fn tls(&self) -> Result<rustls::ClientConfig, ClientError> {
        let mut roots = RootCertStore::empty();
        for trust in &self.trust {
            let pem = match trust {
                Trust::File(path) => read(path)?,
                Trust::Pem(pem) => pem.clone(),
            };
            for certificate in certificates(&pem)? {
                roots.add(certificate).map_err(|error| ClientError::Settings(error.to_string()))?;
            }
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ClientError::Settings(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => {
                let key = PrivateKeyDer::from_pem_slice(&read(key)?)
                    .map_err(|error| ClientError::Settings(format!("private key: {error}")))?;
                builder
                    .with_client_auth_cert(certificates(&read(cert)?)?, key)
                    .map_err(|error| ClientError::Settings(error.to_string()))?
            }
        };
        config.alpn_protocols = vec![b"h3".to_vec()];
        Ok(config)
    }

    /// The value of the `Authorization` header.
    pub(crate) fn authorization(&self) -> Result<Option<http::HeaderValue>, ClientError> {
        let text = match &self.token {
            None => return Ok(None),
            Some(Token::Text(text)) => text.clone(),
            Some(Token::File(path)) => String::from_utf8_lossy(&read(path)?).into_owned(),
        };
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| !line.is_empty() && !line.starts_with('#'));
        let token = line.and_then(|line| line.split_whitespace().last()).unwrap_or_default();
        let mut value = http::HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| {
            ClientError::Settings("the token has characters no header takes".into())
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, ClientError> {
    std::fs::read(path)
        .map_err(|error| ClientError::Settings(format!("{}: {error}", path.display())))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| ClientError::Settings(format!("certificate: {error}")))?;
    if certificates.is_empty() {
        return Err(ClientError::Settings("there is no certificate in the PEM".into()));
    }
    Ok(certificates)
}
