//! Client certificates at every door: none, of another CA, expired, revoked, right.

use std::path::Path;

use ironcast_client::{Client, Trust};
use ironcast_controlplane::Server;
use serde_json::{Value, json};

use crate::{
    http::{self, Identity, Way},
    stage::{self, call},
};

/// A CA for tests.
pub struct Ca {
    pub pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl Ca {
    pub fn new() -> Self {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages =
            vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { pem, issuer: rcgen::Issuer::new(params, key) }
    }

    /// A certificate for a name, with organizational units.
    pub fn issue(&self, name: &str, units: &[&str]) -> Identity {
        self.issue_with(name, units, |_| {})
    }

    pub fn issue_with(
        &self,
        name: &str,
        units: &[&str],
        change: impl FnOnce(&mut rcgen::CertificateParams),
    ) -> Identity {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        for unit in units {
            params.distinguished_name.push(rcgen::DnType::OrganizationalUnitName, *unit);
        }
        change(&mut params);
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Identity { cert, key: key.serialize_pem() }
    }

    /// A list of revoked certificates, by their serial numbers.
    pub fn revoke(&self, serials: &[u64]) -> String {
        let now = rcgen::date_time_ymd(2025, 1, 1);
        let revoked = serials.iter().map(|serial| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = rcgen::CertificateRevocationListParams {
            this_update: now,
            next_update: rcgen::date_time_ymd(2099, 1, 1),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }
}

/// Makes a router over one door as whom the certificate names: its owner, or why not.
async fn owner_by(
    door: &str,
    server: &Server,
    trust: &Path,
    identity: Option<&Identity>,
    folder: &Path,
) -> Result<Value, String> {
    let way = match door {
        "HTTP/1.1" => Way::Http1,
        "HTTP/2" => Way::Http2,
        _ => {
            let mut builder = Client::builder(format!("https://{}", server.address))
                .trust(Trust::File(trust.to_owned()));
            if let Some(identity) = identity {
                let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
                std::fs::write(&cert, &identity.cert).unwrap();
                std::fs::write(&key, &identity.key).unwrap();
                builder = builder.identity(cert, key);
            }
            let client = builder.timeout(stage::LIMIT).build().unwrap();
            client.health().await.map_err(|error| error.to_string())?;
            let (status, answer) = call(&client, "POST", "/v1/routers", json!({})).await;
            assert_eq!(status, 201, "{answer}");
            return Ok(answer["owner"].clone());
        }
    };
    let trust = std::fs::read(trust).unwrap();
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| error.to_string();
    let mut sender = http::connect(way, server.address, &trust, identity).await.map_err(failed)?;
    let request = http::request("POST", "/v1/routers", "{}");
    let answer = http::read(sender.send_one(server.address, request).await.map_err(failed)?).await;
    match answer.status {
        201 => Ok(answer.json()["owner"].clone()),
        status => Err(format!("{status}: {}", answer.json())),
    }
}

#[tokio::test]
async fn a_certificate_counts_at_every_door_and_only_a_good_one() {
    let folder = stage::folder();
    let (ca, other_ca) = (Ca::new(), Ca::new());
    let mut config = stage::config(&folder);
    config.plain = None;
    let file = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    config.proofs.client_ca = file("ca.pem", ca.pem.clone());
    config.proofs.client_crl = file("revoked.pem", ca.revoke(&[77]));
    let fake = crate::fake::Fake::start(&config.dataplane_socket);
    let server = Server::start(config.clone()).await.unwrap();
    let good = ca.issue("ada", &[]);
    stage::eventually("attached", || async {
        owner_by("HTTP/1.1", &server, &config.tls_cert, Some(&good), &folder).await.is_ok()
    })
    .await;
    let expired = ca.issue_with("ada", &[], |params| {
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    });
    let not_yet = ca.issue_with("ada", &[], |params| {
        params.not_before = rcgen::date_time_ymd(2098, 1, 1);
        params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    });
    let revoked = ca.issue_with("ada", &[], |params| params.serial_number = Some(77u64.into()));
    let nameless = ca.issue_with("", &[], |params| {
        params.distinguished_name = rcgen::DistinguishedName::new();
    });
    let foreign = other_ca.issue("ada", &[]);
    for door in ["HTTP/1.1", "HTTP/2", "HTTP/3"] {
        let owner = async |identity: Option<&Identity>| {
            owner_by(door, &server, &config.tls_cert, identity, &folder).await
        };
        assert_eq!(owner(Some(&good)).await, Ok("cert:ada".into()), "{door}");
        for (what, identity) in [
            ("none", None),
            ("of another CA", Some(&foreign)),
            ("expired", Some(&expired)),
            ("not valid yet", Some(&not_yet)),
            ("revoked", Some(&revoked)),
            ("without a name", Some(&nameless)),
        ] {
            let refused = owner(identity).await;
            assert!(refused.is_err(), "{door}, {what}: {refused:?}");
        }
        // Nothing of that has changed what is right.
        assert_eq!(owner(Some(&good)).await, Ok("cert:ada".into()), "{door}");
    }
    drop(fake);
    server.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn units_of_a_certificate_are_its_scopes() {
    let folder = stage::folder();
    let ca = Ca::new();
    let mut config = stage::config(&folder);
    config.plain = None;
    std::fs::write(folder.join("ca.pem"), &ca.pem).unwrap();
    config.proofs.client_ca = Some(folder.join("ca.pem"));
    config.proofs.client_scopes = vec!["read".to_owned()];
    let server = Server::start(config.clone()).await.unwrap();
    let trust = std::fs::read(&config.tls_cert).unwrap();
    for (units, method, path, expected) in [
        (&[][..], "GET", "/v1/health", 200),
        (&[], "POST", "/v1/routers", 403),
        (&["Sales"], "POST", "/v1/routers", 403),
        (&["Sales", "control"], "POST", "/v1/routers/x/can-consume", 503),
        (&["control"], "POST", "/v1/routers", 503),
        (&["control"], "POST", "/v1/admin/drain", 403),
        (&["read", "admin"], "POST", "/v1/routers", 503),
    ] {
        let identity = ca.issue("ada", units);
        let body = if path.ends_with("consume") {
            "{\"producerId\":\"x\",\"rtpCapabilities\":{}}"
        } else if method == "POST" {
            "{}"
        } else {
            ""
        };
        let request = http::request(method, path, body);
        let sender = http::connect(Way::Http2, server.address, &trust, Some(&identity)).await;
        let answer = sender.unwrap().send(server.address, request).await.unwrap();
        // Without a dataplane: who may gets as far as that.
        assert_eq!(answer.status().as_u16(), expected, "{units:?} {method} {path}");
    }
    server.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}
