//! DTLS of one peer, on the `dtls` crate: certificate, fingerprint, handshake in either role, SRTP
//! keys, and the end of the association. Called by [`crate::peer`]; datagrams come and go through
//! a [`Pipe`].

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use dtls::{
    config::{ClientAuthType, Config},
    conn::DTLSConn,
    crypto::Certificate,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use webrtc_util::conn::Conn;

use crate::{
    PeerError,
    link::Link,
    srtp::{Contexts, SrtpProfile},
};

/// Who sends the ClientHello.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// Sends it.
    Client,
    /// Waits for it.
    Server,
}

impl DtlsRole {
    /// As in `dtlsParameters`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

/// A certificate's hash, as in `dtlsParameters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// `sha-256`.
    pub algorithm: String,
    /// `AB:CD:...`.
    pub value: String,
}

/// The datagrams of an association, as the `dtls` crate wants them.
pub(crate) struct Pipe {
    pub(crate) link: Arc<Link>,
    pub(crate) remote: Arc<Mutex<Option<SocketAddr>>>,
    pub(crate) incoming: tokio::sync::Mutex<mpsc::Receiver<Vec<u8>>>,
}

/// What a finished handshake gives.
pub(crate) struct Association {
    pub(crate) conn: DTLSConn,
    pub(crate) contexts: Contexts,
}

pub(crate) fn certificate() -> Result<Certificate, PeerError> {
    // The `dtls` crate verifies with the process's provider; with two of them compiled in, rustls
    // does not choose by itself. An error says that the process has chosen already.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Certificate::generate_self_signed(vec!["ironcast-load".to_owned()])
        .map_err(|error| PeerError::Dtls(error.to_string()))
}

pub(crate) fn fingerprint(der: &[u8]) -> Fingerprint {
    let hex: Vec<String> = Sha256::digest(der).iter().map(|byte| format!("{byte:02X}")).collect();
    Fingerprint { algorithm: "sha-256".to_owned(), value: hex.join(":") }
}

/// Runs the handshake; the peer's certificate must match one of `expected`.
pub(crate) async fn associate(
    pipe: Pipe,
    role: DtlsRole,
    certificate: Certificate,
    profiles: &[SrtpProfile],
    expected: &[Fingerprint],
    limit: Duration,
) -> Result<Association, PeerError> {
    let config = Config {
        certificates: vec![certificate],
        srtp_protection_profiles: profiles.iter().map(|one| one.offered()).collect(),
        client_auth: ClientAuthType::RequireAnyClientCert,
        // Certificates are self-signed: what counts is the fingerprint, below.
        insecure_skip_verify: true,
        flight_interval: Duration::from_millis(200),
        mtu: 1_200,
        server_name: "ironcast".to_owned(),
        ..Config::default()
    };
    let handshake = DTLSConn::new(Arc::new(pipe), config, role == DtlsRole::Client, None);
    let conn = tokio::time::timeout(limit, handshake)
        .await
        .map_err(|_| PeerError::Dtls("the handshake took too long".to_owned()))?
        .map_err(|error| PeerError::Dtls(error.to_string()))?;
    let state = conn.connection_state().await;
    let actual = state.peer_certificates.first().map(|der| fingerprint(der));
    let matches = expected.iter().any(|one| {
        actual.as_ref().is_some_and(|actual| actual.value.eq_ignore_ascii_case(&one.value))
    });
    if !matches {
        // Best effort: the error is reported whether the peer hears of it or not.
        let _ = conn.close().await;
        return Err(PeerError::Fingerprint);
    }
    let profile = SrtpProfile::selected(conn.selected_srtpprotection_profile())
        .ok_or_else(|| PeerError::Dtls("no SRTP profile was negotiated".to_owned()))?;
    let mut keys = webrtc_srtp::config::Config {
        profile: profile.protection(),
        ..webrtc_srtp::config::Config::default()
    };
    keys.extract_session_keys_from_dtls(state, role == DtlsRole::Client)
        .await
        .map_err(|error| PeerError::Srtp(error.to_string()))?;
    Ok(Association { conn, contexts: Contexts::new(profile, &keys.keys)? })
}

#[async_trait]
impl Conn for Pipe {
    async fn connect(&self, _: SocketAddr) -> webrtc_util::Result<()> {
        Ok(())
    }

    async fn recv(&self, buf: &mut [u8]) -> webrtc_util::Result<usize> {
        match self.incoming.lock().await.recv().await {
            Some(datagram) if datagram.len() <= buf.len() => {
                buf[..datagram.len()].copy_from_slice(&datagram);
                Ok(datagram.len())
            }
            Some(_) => Err(webrtc_util::Error::ErrBufferShort),
            None => Err(webrtc_util::Error::ErrBufferClosed),
        }
    }

    async fn recv_from(&self, buf: &mut [u8]) -> webrtc_util::Result<(usize, SocketAddr)> {
        let length = self.recv(buf).await?;
        let from = self.remote_addr().ok_or(webrtc_util::Error::ErrNoRemAddr)?;
        Ok((length, from))
    }

    async fn send(&self, buf: &[u8]) -> webrtc_util::Result<usize> {
        let to = self.remote_addr().ok_or(webrtc_util::Error::ErrNoRemAddr)?;
        self.link.send(buf, to).await?;
        Ok(buf.len())
    }

    async fn send_to(&self, buf: &[u8], target: SocketAddr) -> webrtc_util::Result<usize> {
        self.link.send(buf, target).await?;
        Ok(buf.len())
    }

    fn local_addr(&self) -> webrtc_util::Result<SocketAddr> {
        Ok(self.link.local_addr()?)
    }

    fn remote_addr(&self) -> Option<SocketAddr> {
        *self.remote.lock().expect("no panic while locked")
    }

    async fn close(&self) -> webrtc_util::Result<()> {
        Ok(())
    }

    fn as_any(&self) -> &(dyn std::any::Any + Send + Sync) {
        self
    }
}
