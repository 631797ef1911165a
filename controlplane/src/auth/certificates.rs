//! Client certificates: signed by the CA of a file, in their time, not on its list of revoked ones. TLS
//! asks here in the handshake, and `auth` asks again for each request, because a connection outlives
//! all three; what was verified is remembered until the certificate expires.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use sha2::{Digest as _, Sha256};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _};

use super::{
    Hash, ProofError, hash_of,
    principal::{Principal, Proven, Scopes, is_name},
};

/// Verified certificates that are remembered.
const REMEMBERED_MAX: usize = 4_096;

/// See the head of this file.
pub struct Certificates {
    verifier: Arc<dyn ClientCertVerifier>,
    /// Of those whose units name none.
    scopes: Scopes,
    /// Hash of the files and settings.
    source: Hash,
    verified: Mutex<HashMap<Hash, Principal>>,
}

impl Certificates {
    /// Reads the CA's certificates and its list of revoked ones, both PEM.
    pub fn read(ca: &Path, crl: Option<&Path>, scopes: Scopes) -> Result<Self, ProofError> {
        let read = |path: &Path| std::fs::read(path).map_err(|error| ProofError::new(path, error));
        let ca_pem = read(ca)?;
        let crl_pem = crl.map(read).transpose()?;
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(&ca_pem) {
            let certificate = certificate.map_err(|error| ProofError::new(ca, error))?;
            roots.add(certificate).map_err(|error| ProofError::new(ca, error))?;
        }
        if roots.is_empty() {
            return Err(ProofError::new(ca, "there is no certificate in it"));
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        if let (Some(path), Some(pem)) = (crl, &crl_pem) {
            let lists: Result<Vec<_>, _> =
                CertificateRevocationListDer::pem_slice_iter(pem).collect();
            let lists = lists.map_err(|error| ProofError::new(path, error))?;
            if lists.is_empty() {
                return Err(ProofError::new(path, "there is no X509 CRL in it"));
            }
            // Certificates of another CA of the file than the list's have no list.
            builder = builder.with_crls(lists).allow_unknown_revocation_status();
        }
        let verifier =
            builder.build().map_err(|error| ProofError::new(crl.unwrap_or(ca), error))?;
        let source = Sha256::new_with_prefix(&ca_pem)
            .chain_update([u8::from(crl_pem.is_some())])
            .chain_update(crl_pem.unwrap_or_default())
            .chain_update(format!("{scopes:?}"));
        let source = source.finalize().into();
        Ok(Self { verifier, scopes, source, verified: Mutex::default() })
    }

    /// Whether both take the same certificates.
    #[must_use]
    pub fn is_as(&self, other: &Self) -> bool {
        self.source == other.source
    }

    /// For TLS.
    #[must_use]
    pub fn verifier(&self) -> &Arc<dyn ClientCertVerifier> {
        &self.verifier
    }

    /// Whose certificate it is, if it was verified already.
    #[must_use]
    pub fn find(&self, hash: &Hash, now_s: u64) -> Option<Principal> {
        let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        verified.get(hash).filter(|known| !known.has_expired(now_s)).cloned()
    }

    /// Whose certificate it is: the first of the chain, with those that lead to the CA behind it.
    pub fn identify(&self, chain: &[&[u8]], now_s: u64) -> Result<Principal, &'static str> {
        let (first, rest) = chain.split_first().ok_or("show a client certificate")?;
        let hash = hash_of(first);
        if let Some(known) = self.find(&hash, now_s) {
            return Ok(known);
        }
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_s));
        let rest: Vec<_> = rest.iter().map(|der| CertificateDer::from(*der)).collect();
        self.verifier
            .verify_client_cert(&CertificateDer::from(*first), &rest, now)
            .map_err(|_| "this certificate has expired, was revoked or is of another CA")?;
        let principal = principal(first, self.scopes, hash)?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if verified.len() >= REMEMBERED_MAX {
            verified.clear();
        }
        verified.insert(hash, principal.clone());
        Ok(principal)
    }
}

/// Its name is the subject's common name, or else its first alternative name; its scopes are those
/// of the subject's organizational units that are called so.
fn principal(der: &[u8], usual: Scopes, hash: Hash) -> Result<Principal, &'static str> {
    let unreadable = "this certificate cannot be read";
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| unreadable)?;
    let subject = certificate.subject();
    let common = subject.iter_common_name().find_map(|name| name.as_str().ok());
    let alternatives = certificate.subject_alternative_name().ok().flatten();
    let alternative = alternatives.as_ref().and_then(|names| {
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(text) | GeneralName::URI(text) | GeneralName::RFC822Name(text) => {
                Some(*text)
            }
            _ => None,
        })
    });
    let name = common.or(alternative).filter(|name| is_name(name));
    let name = name.ok_or("this certificate has no name of 1 to 128 characters")?;
    let units = subject.iter_organizational_unit().filter_map(|unit| unit.as_str().ok());
    let own = Scopes::of_words(units);
    let scopes = if own.is_empty() { usual } else { own };
    let not_after = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    let proven = Proven { bearer: None, certificate: Some(hash) };
    // The last second counts (RFC 5280 section 4.1.2.5).
    let expires_s = Some(not_after.saturating_add(1));
    Ok(Principal::named(&format!("cert:{name}"), scopes, proven, expires_s))
}

#[cfg(test)]
mod tests {
    use rcgen::{DistinguishedName, DnType, SanType};

    use super::*;
    use crate::auth::{principal::Scope, unix_s};

    /// A CA, in a file, and a way to have certificates of it.
    struct Ca {
        folder: std::path::PathBuf,
        issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
    }

    impl Drop for Ca {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    impl Ca {
        fn new(name: &str) -> Self {
            let folder =
                std::env::temp_dir().join(format!("ironcast-{name}-{}", std::process::id()));
            std::fs::create_dir_all(&folder).unwrap();
            let key = rcgen::KeyPair::generate().unwrap();
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
            let pem = params.self_signed(&key).unwrap().pem();
            std::fs::write(folder.join("ca.pem"), pem).unwrap();
            Self { folder, issuer: rcgen::Issuer::new(params, key) }
        }

        fn read(&self) -> Certificates {
            let scopes = Scopes::of_words(["control"]);
            Certificates::read(&self.folder.join("ca.pem"), None, scopes).unwrap()
        }

        fn issue(&self, change: impl FnOnce(&mut rcgen::CertificateParams)) -> Vec<u8> {
            let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
            params.distinguished_name = DistinguishedName::new();
            change(&mut params);
            let key = rcgen::KeyPair::generate().unwrap();
            params.signed_by(&key, &self.issuer).unwrap().der().to_vec()
        }
    }

    #[test]
    fn a_certificate_names_its_owner_and_its_scopes() {
        let ca = Ca::new("names");
        let certificates = ca.read();
        let who = |change: fn(&mut rcgen::CertificateParams)| {
            let der = ca.issue(change);
            certificates
                .identify(&[der.as_slice()], unix_s())
                .map(|one| (one.name.to_string(), one.scopes))
        };
        let named = who(|params| {
            params.distinguished_name.push(DnType::CommonName, "ada");
            params.subject_alt_names = vec![SanType::DnsName("other".try_into().unwrap())];
        });
        assert_eq!(named, Ok(("cert:ada".into(), Scopes::of_words(["control"]))));
        let by_other_name = who(|params| {
            params.subject_alt_names = vec![SanType::URI("urn:host:7".try_into().unwrap())];
            params.distinguished_name.push(DnType::OrganizationalUnitName, "admin");
        });
        assert_eq!(by_other_name, Ok(("cert:urn:host:7".into(), Scopes::ADMIN)));
        assert!(who(|_| {}).is_err(), "nameless");
        assert!(certificates.identify(&[], unix_s()).is_err());
        assert!(certificates.identify(&[&b"nonsense"[..]], unix_s()).is_err());
    }

    #[test]
    fn one_that_was_good_is_not_any_more_when_its_time_is_over() {
        let ca = Ca::new("times");
        let certificates = ca.read();
        let der = ca.issue(|params| {
            params.distinguished_name.push(DnType::CommonName, "ada");
            params.not_before = rcgen::date_time_ymd(2030, 1, 1);
            params.not_after = rcgen::date_time_ymd(2031, 1, 1);
        });
        let (begin, end) = (1_893_456_000, 1_924_992_000);
        let at = |now_s| certificates.identify(&[der.as_slice()], now_s);
        assert!(at(begin - 1).is_err());
        let ada = at(begin + 1).unwrap();
        assert!(ada.scopes.has(Scope::Control) && ada.expires_s == Some(end + 1));
        assert!(at(end).is_ok(), "remembered");
        assert!(at(end + 1).is_err() && certificates.find(&hash_of(&der), end + 1).is_none());
        let other = Ca::new("others").read();
        assert!(
            other.identify(&[der.as_slice()], begin + 1).is_err() && !other.is_as(&certificates)
        );
        assert!(ca.read().is_as(&certificates));
    }
}
