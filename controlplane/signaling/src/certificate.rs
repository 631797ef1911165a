//! The page's certificate: browsers give a page camera and microphone only on localhost or over
//! HTTPS, so that other machines of a network need one. Either files in PEM, or one made at the
//! first start and kept, so that a browser that was told to go on need not be told again.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use salvo::conn::rustls::{Keycert, RustlsConfig};

/// From files in PEM; what does not fit together is said here, not at the first connection.
pub fn from_files(certificate: &Path, key: &Path) -> anyhow::Result<RustlsConfig> {
    let read = |what: &str, path: &Path| {
        fs::read(path).with_context(|| format!("cannot read the {what} {}", path.display()))
    };
    let (chain, secret) = (read("certificate", certificate)?, read("key", key)?);
    check(&chain, &secret)
        .with_context(|| format!("{} and {}", certificate.display(), key.display()))?;
    let keycert = Keycert::new().cert(chain).key(secret);
    // WebSockets need HTTP/1.1, and the page is a handful of files.
    Ok(RustlsConfig::new(keycert).alpn_protocols(vec![b"http/1.1".to_vec()]))
}

fn check(chain: &[u8], key: &[u8]) -> anyhow::Result<()> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>();
    let chain = chain.context("the certificate is not PEM")?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in PEM in the first");
    let key = PrivateKeyDer::from_pem_slice(key)
        .context("there is no private key in PEM in the second")?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .context("certificate and key do not fit")?;
    Ok(())
}

/// Self-signed.
pub fn for_development(
    listen: IpAddr,
    certificate: &Path,
    key: &Path,
) -> anyhow::Result<RustlsConfig> {
    if !certificate.exists() || !key.exists() {
        let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if !listen.is_unspecified() && !listen.is_loopback() {
            names.push(listen.to_string());
        }
        let made = rcgen::generate_simple_self_signed(names)?;
        if let Some(folder) = key.parent() {
            fs::create_dir_all(folder)?;
        }
        let write = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).clone();
        write
            .open(key)
            .and_then(|mut file| file.write_all(made.signing_key.serialize_pem().as_bytes()))
            .with_context(|| format!("cannot write the key {}", key.display()))?;
        fs::write(certificate, made.cert.pem())
            .with_context(|| format!("cannot write the certificate {}", certificate.display()))?;
    }
    from_files(certificate, key)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::{for_development, from_files};

    #[test]
    fn what_does_not_fit_together_is_said_at_the_start() {
        let folder = std::env::temp_dir().join(format!("ironcast-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = |name: &str| folder.join(name);
        let make = |cert: &str, key: &str| {
            for_development(Ipv4Addr::LOCALHOST.into(), &path(cert), &path(key)).map(|_| ())
        };
        make("a-cert", "a-key").unwrap();
        make("b-cert", "b-key").unwrap();
        std::fs::write(path("nothing"), "nothing").unwrap();
        for (cert, key, said) in [
            ("a-cert", "b-key", "do not fit"),
            ("nothing", "a-key", "no certificate"),
            ("a-cert", "nothing", "no private key"),
            ("missing", "a-key", "cannot read the certificate"),
        ] {
            let error = from_files(&path(cert), &path(key)).unwrap_err();
            let error = format!("{error:#}");
            assert!(error.contains(said), "{cert}, {key}: {error}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}
