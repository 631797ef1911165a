//! A signaling service that shows a client certificate, and a configuration that is read again.

use ironcast_process_tests::{Pair, eventually};
use serde_json::{Value, json};

/// A certificate authority and a certificate of it, with its key, PEM.
fn certificates() -> [String; 3] {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![]).expect("parameters");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a certificate").pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::new(vec![]).expect("parameters");
    params.distinguished_name.push(rcgen::DnType::CommonName, "signaling");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    [ca, certificate.pem(), key.serialize_pem()]
}

#[tokio::test]
async fn signaling_may_call_by_its_certificate() {
    let folder = std::env::temp_dir().join(format!("ironcast-proofs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let [ca, certificate, key] = certificates();
    // The plain door, by which the tests ask, takes a token: either proof is enough.
    let pair = Pair::builder()
        .set("control.client_ca", file("ca.pem", &ca))
        .set("control.token_file", file("tokens", "ops admin ops-secret\n"))
        .start()
        .await;
    let settings = [
        ("signaling.control_cert", file("cert.pem", &certificate)),
        ("signaling.control_key", file("key.pem", &key)),
    ];
    // Ready is who may ask the control plane, over HTTP/3.
    drop(pair.start_signaling_with("here", &settings).await);
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}

#[tokio::test]
async fn a_signal_brings_new_settings_to_both_processes() {
    let folder = std::env::temp_dir().join(format!("ironcast-reload-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("ironcast.toml");
    let write = |address: &str| {
        let text = format!("[rtc]\nannounced_address = [\"{address}\"]\n");
        std::fs::write(&file, text).expect("a file");
    };
    write("203.0.113.7");
    let path = file.display().to_string();
    let pair = Pair::builder().env("IRONCAST_CONFIG", &path).start().await;
    pair.call("POST", "/v1/routers", json!({ "id": "room" })).await;
    let address_of_new = async || {
        let body = json!({ "routerId": "room", "type": "webrtc" });
        let made = pair.call("POST", "/v1/transports", body).await;
        made["iceCandidates"][0]["address"].as_str().expect("an address").to_owned()
    };
    assert_eq!(address_of_new().await, "203.0.113.7");
    write("203.0.113.9");
    pair.hang_up_control();
    eventually("it was read again", || async {
        let audit = pair.call("GET", "/v1/audit", Value::Null).await;
        let items = audit["items"].as_array().expect("a list");
        items.iter().any(|one| one["principal"] == "signal" && one["action"] == "reload")
    })
    .await;
    assert_eq!(address_of_new().await, "203.0.113.9");
    // What is wrong changes nothing, and nothing ends.
    std::fs::write(&file, "[rtc]\nannounced_address = 7\n").expect("a file");
    let (status, _) = pair.refused("POST", "/v1/admin/reload", json!({})).await;
    assert_eq!((status, address_of_new().await.as_str()), (400, "203.0.113.9"));
    std::fs::remove_dir_all(&folder).expect("the folder can be removed");
}
