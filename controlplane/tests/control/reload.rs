//! The configuration is read again while everything runs: all of it or nothing.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
};

use ironcast_client::{Client, Token, Trust};
use ironcast_config::Config;
use ironcast_controlplane::{Reload, Server, ServerConfig};
use ironcast_protocol::{Command, CommandError, ErrorCode};
use serde_json::{Value, json};

use crate::{
    certificates::Ca,
    fake::Fake,
    http::{self, Way},
    stage::{self, call},
    webhooks::{Receiver, SECRET},
};

/// A server that was started from a file.
struct FromFile {
    folder: PathBuf,
    fake: Fake,
    server: Server,
    client: Client,
    /// Filters that the log was given.
    filters: Arc<Mutex<Vec<String>>>,
}

impl Drop for FromFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl FromFile {
    async fn start(more: &str) -> Self {
        let folder = stage::folder();
        write_config(&folder, more);
        std::fs::write(folder.join("tokens"), "ops admin ops-secret\n").unwrap();
        let path = folder.join("ironcast.toml");
        let load = move || Config::load(Some(&path), [], &[]);
        let filters = Arc::<Mutex<Vec<String>>>::default();
        let set = Arc::clone(&filters);
        let reload = Reload {
            config: load().unwrap(),
            load: Arc::new(load),
            set_log: Arc::new(move |filter| set.lock().unwrap().push(filter.to_string())),
        };
        let config = ServerConfig::from_config(&reload.config);
        let fake = Fake::start(&config.dataplane_socket);
        let server = Server::start(ServerConfig { reload: Some(reload), ..config }).await.unwrap();
        let client = Client::builder(format!("https://{}", server.address))
            .trust(Trust::File(folder.join("control-cert.pem")))
            .token(Token::Text("ops-secret".into()))
            .timeout(stage::LIMIT)
            .build()
            .unwrap();
        stage::eventually("ready", || async { client.ready().await.is_ok() }).await;
        Self { folder, fake, server, client, filters }
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.folder.join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    async fn reload(&self) -> (u16, Value) {
        call(&self.client, "POST", "/v1/admin/reload", json!({})).await
    }

    /// Names of the settings in one of the answer's lists.
    async fn reloaded(&self, list: &str) -> Vec<String> {
        let (status, answer) = self.reload().await;
        assert_eq!(status, 200, "{answer}");
        let settings = answer[list].as_array().unwrap().iter();
        settings.map(|one| one["setting"].as_str().unwrap().to_owned()).collect()
    }

    async fn make_router(&self) -> u16 {
        call(&self.client, "POST", "/v1/routers", json!({})).await.0
    }
}

fn write_config(folder: &std::path::Path, more: &str) {
    let folder_text = folder.display();
    let text = format!(
        "[control]\nlisten = \"127.0.0.1:0\"\nops = \"127.0.0.1:0\"\nstate_dir = \"{folder_text}\"\n\
         token_file = \"{folder_text}/tokens\"\n{more}"
    );
    std::fs::write(folder.join("ironcast.toml"), text).unwrap();
}

#[tokio::test]
async fn what_may_change_counts_at_once_and_is_said() {
    let stage = FromFile::start("").await;
    assert_eq!(stage.reload().await, (200, json!({ "changed": [], "needsRestart": [] })));
    let ca = Ca::new();
    stage.write("ca.pem", &ca.pem);
    let more = format!(
        "client_ca = \"{}\"\naudit_file = \"{}\"\n[limits]\nrouters_max = 1\n[log]\nlevel = \"debug\"\n\
         [rtc]\nannounced_address = [\"203.0.113.7\"]\n[events]\nkeep_s = 7\n",
        stage.path("ca.pem"),
        stage.path("audit"),
    );
    write_config(&stage.folder, &more);
    let (status, answer) = stage.reload().await;
    assert_eq!(status, 200, "{answer}");
    let told = |setting: &str, from: Value, to: Value| {
        let mut one = json!({ "setting": setting });
        for (name, value) in [("from", from), ("to", to)] {
            if !value.is_null() {
                one[name] = value;
            }
        }
        one
    };
    let path = |name: &str| json!(format!("\"{}\"", stage.path(name)));
    assert_eq!(
        answer["changed"],
        json!([
            told("rtc.announced_address", json!("[]"), json!("[\"203.0.113.7\"]")),
            told("control.client_ca", Value::Null, path("ca.pem")),
            told("control.audit_file", Value::Null, path("audit")),
            told("limits.routers_max", json!("10000"), json!("1")),
            told("log.level", json!("\"info\""), json!("\"debug\"")),
        ])
    );
    assert_eq!(answer["needsRestart"], json!([told("events.keep_s", json!("60"), json!("7"))]));
    // The limit holds, the dataplane and the log were told, the audit is written.
    assert_eq!((stage.make_router().await, stage.make_router().await), (201, 503));
    let told: Vec<_> = stage
        .fake
        .commands()
        .into_iter()
        .filter_map(|command| match command {
            Command::SetSettings(settings) => Some(settings),
            _ => None,
        })
        .collect();
    assert_eq!(told.len(), 2);
    assert_eq!((told[0].announced.len(), told[1].announced.len()), (0, 1));
    assert_eq!(told[1].log_filter, "debug");
    assert_eq!(*stage.filters.lock().unwrap(), ["info", "debug"]);
    let trust = std::fs::read(stage.folder.join("control-cert.pem")).unwrap();
    let identity = ca.issue("ada", &[]);
    let sender =
        http::connect(Way::Http2, stage.server.address, &trust, Some(&identity)).await.unwrap();
    let answer = sender.send(stage.server.address, http::request("GET", "/v1/routers", "")).await;
    assert_eq!(answer.unwrap().status(), 200, "the new CA counts");
    stage::eventually("the audit is written", || async {
        let text = std::fs::read_to_string(stage.folder.join("audit")).unwrap_or_default();
        let lines: Vec<Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap_or_default()).collect();
        lines.iter().any(|one| one["action"] == "create" && one["principal"] == "token:ops")
    })
    .await;
}

#[tokio::test]
async fn one_thing_that_is_wrong_leaves_everything_as_it_was() {
    let stage = FromFile::start("").await;
    let (ca, file) = (Ca::new(), |name: &str| stage.path(name));
    stage.write("ca.pem", &ca.pem);
    stage.write("nonsense", "nonsense");
    let before = stage.filters.lock().unwrap().len();
    for (more, what) in [
        ("listen_to = 1\n".to_owned(), "ironcast.toml:6"),
        (format!("client_ca = \"{}\"\n", file("nonsense")), "there is no certificate in it"),
        (format!("client_ca = \"{}\"\n", file("nowhere")), "nowhere"),
        (
            format!("client_ca = \"{}\"\nclient_crl = \"{}\"\n", file("ca.pem"), file("nonsense")),
            "CRL",
        ),
        (format!("jwt_keys = \"{}\"\n", file("nonsense")), "nonsense"),
        (
            format!(
                "tls_cert = \"{}\"\ntls_key = \"{}\"\n",
                file("ca.pem"),
                file("control-key.pem")
            ),
            "control-key.pem",
        ),
        (format!("audit_file = \"{}\"\n", file("no/such/place")), "no/such/place"),
    ] {
        write_config(&stage.folder, &format!("{more}[limits]\nrouters_max = 1\n"));
        let (status, answer) = stage.reload().await;
        assert_eq!((status, answer["code"].as_str()), (400, Some("invalid_request")), "{answer}");
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.contains("nothing was changed") && detail.contains(what), "{detail}");
    }
    // What the dataplane refuses is not done here either.
    let refusal = CommandError::new(ErrorCode::Invalid, "not that".to_owned());
    stage.fake.turn(|knobs| knobs.refuse.push(("SetSettings", refusal)));
    let address = "[rtc]\nannounced_address = [\"203.0.113.7\"]\n[limits]\nrouters_max = 1\n";
    write_config(&stage.folder, address);
    let (status, answer) = stage.reload().await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("not that"), "{answer}");
    assert_eq!((stage.make_router().await, stage.make_router().await), (201, 201));
    assert_eq!(stage.filters.lock().unwrap().len(), before);
    // One that does not know the question is left alone where nothing is for it.
    write_config(&stage.folder, "[limits]\nrouters_max = 2\n");
    assert_eq!(stage.reloaded("changed").await, ["limits.routers_max"]);
    assert_eq!(stage.make_router().await, 503);
}

#[tokio::test]
async fn a_certificate_that_was_revoked_is_refused_on_its_open_connection() {
    let ca = Ca::new();
    let folder = stage::folder();
    std::fs::write(folder.join("ca.pem"), &ca.pem).unwrap();
    std::fs::write(folder.join("revoked.pem"), ca.revoke(&[1])).unwrap();
    let at = folder.display();
    let more = format!("client_ca = \"{at}/ca.pem\"\nclient_crl = \"{at}/revoked.pem\"\n");
    let stage = FromFile::start(&more).await;
    let trust = std::fs::read(stage.folder.join("control-cert.pem")).unwrap();
    let identity = ca.issue_with("ada", &[], |params| params.serial_number = Some(77u64.into()));
    let address = stage.server.address;
    let mut sender = http::connect(Way::Http2, address, &trust, Some(&identity)).await.unwrap();
    let mut ask = async || {
        let request = http::request("GET", "/v1/routers", "");
        sender.send_one(address, request).await.unwrap().status().as_u16()
    };
    assert_eq!(ask().await, 200);
    std::fs::write(folder.join("revoked.pem"), ca.revoke(&[1, 77])).unwrap();
    assert_eq!(stage.reloaded("changed").await, ["control.client_crl"]);
    assert_eq!(ask().await, 401);
    let again = http::connect(Way::Http2, address, &trust, Some(&identity)).await;
    let again = match again {
        Ok(sender) => sender.send(address, http::request("GET", "/v1/routers", "")).await.is_ok(),
        Err(_) => false,
    };
    assert!(!again, "a new handshake is refused, too");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn a_new_server_certificate_is_shown_to_who_comes_next() {
    let stage = FromFile::start("").await;
    let old = std::fs::read(stage.folder.join("control-cert.pem")).unwrap();
    let address = stage.server.address;
    assert!(http::connect(Way::Http2, address, &old, None).await.is_ok());
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".into(), "127.0.0.1".into()]);
    let new = params.unwrap().self_signed(&key).unwrap().pem();
    stage.write("control-cert.pem", &new);
    stage.write("control-key.pem", &key.serialize_pem());
    assert_eq!(stage.reloaded("changed").await, ["control.tls_cert", "control.tls_key"]);
    // Over TCP and over QUIC.
    for (trust, is_good) in [(new.as_bytes(), true), (&old[..], false)] {
        assert_eq!(http::connect(Way::Http2, address, trust, None).await.is_ok(), is_good);
        assert_eq!(http::try_quic(address, trust, 1 << 20).await.is_ok(), is_good);
    }
}

#[tokio::test]
async fn quotas_of_single_principals_are_read_again() {
    let stage = FromFile::start("").await;
    let write = |text: &str| stage.write("quotas.toml", text);
    let row = |count| format!("[[quota]]\nprincipal = \"token:ops\"\nrouters = {count}\n");
    write(&row(1));
    write_config(&stage.folder, &format!("quotas = \"{}\"\n", stage.path("quotas.toml")));
    assert_eq!(stage.reloaded("changed").await, ["control.quotas"]);
    assert_eq!((stage.make_router().await, stage.make_router().await), (201, 503));
    write(&row(2));
    assert_eq!(stage.reloaded("changed").await, ["control.quotas"]);
    assert_eq!((stage.make_router().await, stage.make_router().await), (201, 503));
    write("[[quota]]\nrouters = 9\n");
    let (status, answer) = stage.reload().await;
    let detail = answer["detail"].as_str().unwrap();
    assert!(status == 400 && detail.contains("control.quotas: "), "{answer}");
    assert_eq!(stage.make_router().await, 503);
}

#[tokio::test]
async fn a_signal_does_the_same_and_stands_in_the_audit() {
    let stage = FromFile::start("").await;
    write_config(&stage.folder, "[limits]\nrouters_max = 1\n");
    let reloaded = stage.server.reload().await.unwrap();
    assert_eq!(reloaded.changed[0].setting, "limits.routers_max");
    assert!(stage.client.reload().await.unwrap().changed.is_empty());
    let told = stage.client.audit(100).await.unwrap().items;
    for (one, who) in told.iter().zip(["signal", "token:ops"]) {
        assert_eq!((&*one.principal, &*one.action, &*one.kind), (who, "reload", "host"));
    }
    assert_eq!(told.len(), 2);
    // A server that was not started from a file says so.
    let plain = stage::Stage::new().await;
    let refused = plain.refused("POST", "/v1/admin/reload", Value::Null).await;
    assert_eq!((refused.0, refused.1.as_str()), (422, "unsupported"));
}

#[tokio::test]
async fn receivers_of_webhooks_are_read_again() {
    let receiver = Receiver::start().await;
    let stage = FromFile::start("").await;
    let row = format!(
        "[[webhook]]\nname = \"one\"\nurl = \"http://{}/hook?x=1\"\nsecret_file = \"secret\"\n",
        receiver.address
    );
    stage.write("secret", SECRET);
    stage.write("webhooks.toml", &row);
    let setting = format!("webhooks = \"{}\"\n", stage.path("webhooks.toml"));
    write_config(&stage.folder, &setting);
    assert_eq!(stage.reloaded("changed").await, ["control.webhooks"]);
    assert_eq!(stage.make_router().await, 201);
    receiver.has(1).await;
    assert!(receiver.deliveries().iter().all(|one| one.is_signed()));
    assert!(stage.reloaded("changed").await.is_empty());

    // What is wrong changes nothing.
    stage.write("webhooks.toml", &row.replace("http:", "ftp:"));
    let (status, answer) = stage.reload().await;
    assert_eq!(status, 400, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("webhook \"one\""), "{answer}");
    assert_eq!(stage.make_router().await, 201);
    receiver.has(2).await;

    // Another secret signs what comes from now on.
    stage.write("webhooks.toml", &row);
    stage.write("secret", "another secret that only the two know");
    assert_eq!(stage.reloaded("changed").await, ["control.webhooks"]);
    assert_eq!(stage.make_router().await, 201);
    receiver.has(3).await;
    assert!(receiver.deliveries().iter().any(|one| !one.is_signed()));

    // Who is not named any more is told nothing, and his place is forgotten.
    write_config(&stage.folder, "");
    assert_eq!(stage.reloaded("changed").await, ["control.webhooks"]);
    assert!(!stage.folder.join("webhooks/one.json").exists());
    let metrics = stage.client.request("GET".parse().unwrap(), "/v1/metrics", None).await.unwrap();
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("ironcast_control_event_streams") && !metrics.contains("webhook="));
}
