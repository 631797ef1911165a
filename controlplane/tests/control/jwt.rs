//! JSON Web Tokens over the real doors, alone and together with certificates.

use ironcast_client::{Client, Token, Trust};
use ironcast_config::Require;
use ironcast_controlplane::Server;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::json;

use crate::{
    certificates::Ca,
    http::{self, Identity, Way},
    stage,
};

/// Signs tokens; its public key in PEM.
pub struct Issuer {
    key: EncodingKey,
    pub pem: String,
}

impl Issuer {
    pub fn new() -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let key = EncodingKey::from_ed_pem(pair.serialize_pem().as_bytes()).unwrap();
        Self { key, pem: pair.public_key_pem() }
    }

    pub fn sign(&self, subject: &str, scope: &str, lasts_s: i64) -> String {
        let exp = jsonwebtoken::get_current_timestamp() as i64 + lasts_s;
        let claims = json!({ "sub": subject, "scope": scope, "aud": "ironcast", "exp": exp });
        encode(&Header::new(Algorithm::EdDSA), &claims, &self.key).unwrap()
    }
}

fn client(server: &Server, trust: &std::path::Path, token: &str) -> Client {
    Client::builder(format!("https://{}", server.address))
        .trust(Trust::File(trust.to_owned()))
        .token(Token::Text(token.to_owned()))
        .timeout(stage::LIMIT)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_signed_token_is_a_proof_beside_those_of_the_file() {
    let folder = stage::folder();
    let (issuer, stranger) = (Issuer::new(), Issuer::new());
    let mut config = stage::config(&folder);
    std::fs::write(folder.join("keys.pem"), &issuer.pem).unwrap();
    std::fs::write(folder.join("tokens"), "ops admin ops-secret\n").unwrap();
    config.proofs.jwt_keys = Some(folder.join("keys.pem"));
    config.proofs.token_file = Some(folder.join("tokens"));
    let fake = crate::fake::Fake::start(&config.dataplane_socket);
    let server = Server::start(config.clone()).await.unwrap();
    let ops = client(&server, &config.tls_cert, "ops-secret");
    stage::eventually("ready", || async { ops.ready().await.is_ok() }).await;
    let ada = issuer.sign("ada", "control", 600);
    for (way, address) in [
        (Way::Plain, server.plain.unwrap()),
        (Way::Http1, server.address),
        (Way::Http2, server.address),
    ] {
        let trust = std::fs::read(&config.tls_cert).unwrap();
        let ask = async |method: &str, token: &str| {
            let body = if method == "POST" { "{}" } else { "" };
            let mut request = http::request(method, "/v1/routers", body);
            let value = format!("Bearer {token}").parse().unwrap();
            request.headers_mut().insert("authorization", value);
            http::send(way, address, &trust, request).await
        };
        let made = ask("POST", &ada).await;
        assert_eq!((made.status, made.json()["owner"].as_str()), (201, Some("jwt:ada")), "{way:?}");
        assert_eq!(ask("POST", &issuer.sign("eve", "read", 600)).await.status, 403, "{way:?}");
        assert_eq!(ask("GET", &issuer.sign("eve", "read", 600)).await.json()["items"], json!([]));
        for bad in [
            issuer.sign("ada", "control", -60),
            stranger.sign("ada", "control", 600),
            ada.replace('.', ""),
            format!("{ada}x"),
        ] {
            let answer = ask("GET", &bad).await;
            assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
            let text = answer.json().to_string();
            assert!(!text.contains(&bad) && !text.contains("eyJ"), "{text}");
        }
    }
    assert_eq!(
        client(&server, &config.tls_cert, &ada).snapshot(None).await.unwrap().routers.len(),
        3
    );
    assert_eq!(ops.snapshot(None).await.unwrap().routers.len(), 3);
    drop(fake);
    server.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Either is enough, or both are needed; and then he may do what both allow.
#[tokio::test]
async fn a_certificate_and_a_token_together() {
    let folder = stage::folder();
    let (ca, issuer) = (Ca::new(), Issuer::new());
    let mut config = stage::config(&folder);
    config.plain = None;
    std::fs::write(folder.join("ca.pem"), &ca.pem).unwrap();
    std::fs::write(folder.join("keys.pem"), &issuer.pem).unwrap();
    config.proofs.client_ca = Some(folder.join("ca.pem"));
    config.proofs.jwt_keys = Some(folder.join("keys.pem"));
    let certificate = ca.issue("host", &["control"]);
    let (ada, ops) = (issuer.sign("ada", "control", 600), issuer.sign("ops", "admin", 600));
    for (require, of_one) in [(Require::Any, 503), (Require::All, 0)] {
        config.proofs.require = require;
        let server = Server::start(config.clone()).await.unwrap();
        let trust = std::fs::read(&config.tls_cert).unwrap();
        // The status, and 0 where TLS refuses already. 503: he may, but there is no dataplane.
        let ask = async |certificate: Option<&Identity>, path: &str, token: Option<&str>| {
            let mut request = http::request("POST", path, "{}");
            if let Some(token) = token {
                let value =
                    hyper::header::HeaderValue::from_bytes(format!("Bearer {token}").as_bytes());
                request.headers_mut().insert("authorization", value.unwrap());
            }
            let Ok(sender) = http::connect(Way::Http2, server.address, &trust, certificate).await
            else {
                return 0;
            };
            let answer = sender.send(server.address, request).await;
            answer.map_or(0, |answer| answer.status().as_u16())
        };
        let routers = "/v1/routers";
        assert_eq!(ask(Some(&certificate), routers, Some(&ada)).await, 503, "{require:?}");
        assert_eq!(ask(None, routers, Some(&ada)).await, of_one, "{require:?}");
        let without = if require == Require::Any { 503 } else { 401 };
        assert_eq!(ask(Some(&certificate), routers, None).await, without, "{require:?}");
        // What is shown has to be good, also where it is no text.
        for bad in ["guess", "gu\u{e9}ss"] {
            assert_eq!(ask(Some(&certificate), routers, Some(bad)).await, 401, "{require:?} {bad}");
        }
        let drain = ask(Some(&certificate), "/v1/admin/drain", Some(&ops)).await;
        assert_eq!(drain == 403, require == Require::All, "{require:?}: what both allow");
        server.stop().await;
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
