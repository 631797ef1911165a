//! Peers with RSA certificates, as GStreamer and older tools make them: both roles, both versions.
//! The peer is the library itself with a key that signs by RSA, which we never do.

use std::time::Instant;

use ::aws_lc_rs::{
    rand::SystemRandom,
    signature::{self, RsaEncoding, RsaKeyPair},
};
use dimpl::{
    CryptoError, Dtls, DtlsCertificate,
    crypto::{
        Buf, CryptoProvider, HashAlgorithm, KeyProvider, SignatureAlgorithm, SigningKey, aws_lc_rs,
    },
};

use super::*;

/// Signs with SHA-256 and the padding of a version.
#[derive(Debug)]
struct Keys(Version);

#[derive(Debug)]
struct Key(RsaKeyPair, Version);

static KEYS_12: Keys = Keys(Version::Dtls12);
static KEYS_13: Keys = Keys(Version::Dtls13);

impl KeyProvider for Keys {
    fn load_private_key(&self, der: &[u8]) -> Result<Box<dyn SigningKey>, CryptoError> {
        Ok(Box::new(Key(RsaKeyPair::from_pkcs8(der).unwrap(), self.0)))
    }
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], _: HashAlgorithm, out: &mut Buf) -> Result<(), CryptoError> {
        let encoding: &'static dyn RsaEncoding = match self.1 {
            Version::Dtls12 => &signature::RSA_PKCS1_SHA256,
            Version::Dtls13 => &signature::RSA_PSS_SHA256,
        };
        let mut proof = vec![0; self.0.public_modulus_len()];
        self.0.sign(encoding, &SystemRandom::new(), data, &mut proof).unwrap();
        out.clear();
        out.extend_from_slice(&proof);
        Ok(())
    }
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::RSA
    }
    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }
    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}

fn certificate() -> DtlsCertificate {
    let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let params = rcgen::CertificateParams::new(["peer".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    DtlsCertificate { certificate, private_key: key.serialize_der() }
}

/// The keys of both sides, or how it ended for us.
fn handshake(
    config: &Config,
    role: Role,
    version: Version,
    theirs: DtlsCertificate,
) -> Result<(SrtpKeys, Vec<u8>), Box<Output>> {
    let fingerprint = Fingerprint::of(crate::HashAlgorithm::Sha256, &theirs.certificate);
    let own = Certificate::generate().unwrap();
    let mut ours = DtlsAssociation::new(config, &own, role, &[fingerprint], 0);
    let key_provider: &'static dyn KeyProvider = match version {
        Version::Dtls12 => &KEYS_12,
        Version::Dtls13 => &KEYS_13,
    };
    let provider = CryptoProvider { key_provider, ..aws_lc_rs::default_provider() };
    let builder = dimpl::Config::builder().with_crypto_provider(provider).use_server_cookie(false);
    let their_config = Arc::new(builder.build().unwrap());
    let mut peer = match version {
        Version::Dtls12 => Dtls::new_12(their_config, theirs, Instant::now()),
        Version::Dtls13 => Dtls::new_13(their_config, theirs, Instant::now()),
    };
    peer.set_active(role == Role::Server);
    peer.handle_timeout(Instant::now()).unwrap();
    let (mut keys, mut exported, mut buffer) = (None, None, vec![0; 8 << 10]);
    for _ in 0..100 {
        loop {
            match peer.poll_output(&mut buffer) {
                dimpl::Output::Packet(bytes) => ours.handle_datagram(bytes, 0),
                dimpl::Output::KeyingMaterial(material, _) => exported = Some(material.to_vec()),
                dimpl::Output::Timeout(_) => break,
                _ => {}
            }
        }
        while let Some(output) = ours.poll() {
            match output {
                // It may refuse us in turn; what we said counts.
                Output::Datagram(bytes) => drop(peer.handle_packet(&bytes)),
                Output::Connected(ours) => keys = Some(ours),
                output => return Err(Box::new(output)),
            }
        }
        if let (Some(keys), Some(exported)) = (&keys, &exported) {
            return Ok((keys.clone(), exported.clone()));
        }
    }
    panic!("the handshake does not end: {keys:?} {exported:?}");
}

#[test]
fn a_peer_may_have_an_rsa_certificate_in_both_roles_and_versions() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for role in [Role::Server, Role::Client] {
            for config in [Config::default(), only(version)] {
                let (keys, exported) = handshake(&config, role, version, certificate()).unwrap();
                assert_eq!((keys.version, keys.client), (version, role == Role::Client));
                let (client, server) = MasterKey::from_dtls_export(keys.suite, &exported).unwrap();
                let (ours, theirs) = if keys.client { (client, server) } else { (server, client) };
                assert_eq!((keys.local, keys.remote), (ours, theirs));
            }
        }
    }
}

#[test]
fn a_certificate_whose_key_the_peer_does_not_have_is_refused() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for role in [Role::Server, Role::Client] {
            let stolen = DtlsCertificate {
                certificate: certificate().certificate,
                private_key: certificate().private_key,
            };
            let ended = handshake(&Config::default(), role, version, stolen);
            assert_eq!(ended, Err(Box::new(Output::Failed(Failure::Certificate))));
        }
    }
}

/// DTLS 1.3 peers with RSA keys sign by PSS alone (RFC 8446 section 4.2.3); DTLS 1.2 ones may.
#[test]
fn rsa_signatures_are_verified_by_their_own_scheme_only() {
    let theirs = certificate();
    let key = RsaKeyPair::from_pkcs8(&theirs.private_key).unwrap();
    let verifier = aws_lc_rs::default_provider().signature_verification;
    let schemes: [(u16, &'static dyn RsaEncoding); 6] = [
        (0x0804, &signature::RSA_PSS_SHA256),
        (0x0805, &signature::RSA_PSS_SHA384),
        (0x0806, &signature::RSA_PSS_SHA512),
        (0x0401, &signature::RSA_PKCS1_SHA256),
        (0x0501, &signature::RSA_PKCS1_SHA384),
        (0x0601, &signature::RSA_PKCS1_SHA512),
    ];
    for (signed, encoding) in schemes {
        let mut proof = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), b"handshake", &mut proof).unwrap();
        for (scheme, _) in schemes {
            let [hash, algorithm] = scheme.to_be_bytes();
            let hash = HashAlgorithm::from_u8(hash);
            let algorithm = SignatureAlgorithm::from_u8(algorithm);
            let verify = |data: &[u8]| {
                let certificate = &theirs.certificate;
                verifier.verify_signature(certificate, data, &proof, hash, algorithm).is_ok()
            };
            assert_eq!(verify(b"handshake"), scheme == signed, "{signed:04x} as {scheme:04x}");
            assert!(!verify(b"another"));
        }
    }
}
