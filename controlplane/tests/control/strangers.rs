//! Callers that have not shown who they are, or cannot: what they may hold, and which proof is enough.

use std::{path::PathBuf, time::Duration};

use ironcast_client::{Client, Token, Trust};
use ironcast_config::{Door, Require};
use ironcast_controlplane::{Server, ServerConfig, ServerError};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{
    certificates::Ca,
    http::{self, Way},
    stage::{self, LIMIT, Stage},
};

/// A folder with a CA, a certificate of it, and tokens.
struct Proofs {
    folder: PathBuf,
    config: ServerConfig,
    identity: (PathBuf, PathBuf),
}

impl Proofs {
    fn new() -> Self {
        let folder = stage::folder();
        let mut config = stage::config(&folder);
        config.plain = None;
        let ca = Ca::new();
        let caller = ca.issue("caller", &[]);
        let file = |name: &str, text: String| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        config.proofs.client_ca = Some(file("ca.pem", ca.pem.clone()));
        config.proofs.token_file = Some(file("tokens", "secret\n".into()));
        let identity = (file("caller.pem", caller.cert), file("caller-key.pem", caller.key));
        Self { folder, config, identity }
    }

    fn client(&self, server: &Server, has_certificate: bool, token: Option<&str>) -> Client {
        let mut builder = Client::builder(format!("https://{}", server.address))
            .trust(Trust::File(self.config.tls_cert.clone()));
        if has_certificate {
            builder = builder.identity(&self.identity.0, &self.identity.1);
        }
        if let Some(token) = token {
            builder = builder.token(Token::Text(token.into()));
        }
        builder.build().unwrap()
    }
}

impl Drop for Proofs {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

#[tokio::test]
async fn a_client_certificate_is_needed_where_only_that_is_configured() {
    let mut proofs = Proofs::new();
    proofs.config.proofs.token_file = None;
    let server = Server::start(proofs.config.clone()).await.unwrap();
    proofs.client(&server, true, None).health().await.unwrap();
    assert!(proofs.client(&server, false, Some("secret")).health().await.is_err());
    let trust = std::fs::read(&proofs.config.tls_cert).unwrap();
    for way in [Way::Http1, Way::Http2] {
        let request = http::request("GET", "/v1/health", "");
        assert!(http::open(way, server.address, &trust, request).await.is_err(), "{way:?}");
    }
}

#[tokio::test]
async fn a_certificate_or_a_token_is_enough_unless_both_are_required() {
    let mut proofs = Proofs::new();
    for (require, one_is_enough) in [(Require::Any, true), (Require::All, false)] {
        proofs.config.proofs.require = require;
        let server = Server::start(proofs.config.clone()).await.unwrap();
        let may = async |has_certificate: bool, token: Option<&str>| {
            proofs.client(&server, has_certificate, token).health().await.is_ok()
        };
        assert!(may(true, Some("secret")).await, "{require:?}");
        assert_eq!(may(true, None).await, one_is_enough, "{require:?}");
        assert_eq!(may(false, Some("secret")).await, one_is_enough, "{require:?}");
        assert!(!may(false, None).await, "{require:?}");
        assert!(!may(false, Some("guess")).await, "{require:?}");
        // The same over TCP, where there is no certificate in this test.
        let trust = std::fs::read(&proofs.config.tls_cert).unwrap();
        let mut request = http::request("GET", "/v1/health", "");
        request.headers_mut().insert("authorization", "Bearer secret".parse().unwrap());
        let answer = http::open(Way::Http2, server.address, &trust, request).await;
        assert_eq!(answer.is_ok_and(|answer| answer.status() == 200), one_is_enough);
    }
}

#[tokio::test]
async fn a_plain_door_where_nothing_can_be_shown_is_not_opened() {
    let mut proofs = Proofs::new();
    proofs.config.plain = Some(Door::Tcp("127.0.0.1:0".parse().unwrap()));
    let tokens = proofs.config.proofs.token_file.clone();
    for (token_file, require, opens) in [
        (None, Require::Any, false),
        (tokens.clone(), Require::All, false),
        (tokens, Require::Any, true),
    ] {
        proofs.config.proofs.token_file = token_file;
        proofs.config.proofs.require = require;
        match Server::start(proofs.config.clone()).await {
            Ok(server) => {
                assert!(opens);
                let request = http::request("GET", "/v1/health", "");
                let answer = http::send(Way::Plain, server.plain.unwrap(), &[], request).await;
                assert_eq!(answer.status, 401);
            }
            Err(error) => assert!(!opens && matches!(error, ServerError::Unproven), "{error}"),
        }
    }
}

#[tokio::test]
async fn guesses_are_slowed_down_and_known_callers_are_not() {
    let mut proofs = Proofs::new();
    proofs.config.limits.unauthenticated_per_s = 1;
    let server = Server::start(proofs.config.clone()).await.unwrap();
    let guesser = proofs.client(&server, false, Some("guess"));
    let ask = async |client: &Client| {
        let answer = client.request("GET".parse().unwrap(), "/v1/health", None).await.unwrap();
        (answer.status, answer.retry_after)
    };
    let mut seen = Vec::new();
    for _ in 0..20 {
        seen.push(ask(&guesser).await);
    }
    assert_eq!(seen[0], (401, None));
    assert!(seen.contains(&(429, Some(1))), "{seen:?}");
    // From the same address.
    let known = proofs.client(&server, false, Some("secret"));
    for _ in 0..20 {
        assert_eq!(ask(&known).await.0, 200);
    }
}

#[tokio::test]
async fn a_connection_that_shows_nothing_ends() {
    let stage = Stage::with(|config| config.proof_time = Duration::from_millis(300)).await;
    let (address, plain) = (stage.server().address, stage.server().plain.unwrap());
    let quic = http::quic(address, &stage.trust(), 1 << 20).await;
    let mut silent = TcpStream::connect(plain).await.unwrap();
    // The preface and the settings of HTTP/2, and nothing more.
    let mut in_tls = TcpStream::connect(address).await.unwrap();
    in_tls.write_all(b"\x16\x03\x01").await.unwrap();
    let mut bytes = Vec::new();
    let ending = async {
        quic.closed().await;
        let _ = silent.read_to_end(&mut bytes).await;
        let _ = in_tls.read_to_end(&mut bytes).await;
    };
    tokio::time::timeout(LIMIT, ending).await.expect("they end");
    // One that has asked for something stays, longer than one that came after it and did not.
    let mut requests = http::http3(http::quic(address, &stage.trust(), 1 << 20).await).await;
    assert_eq!(http::get(&mut requests, "/v1/health").await.0, 200);
    let silent = http::quic(address, &stage.trust(), 1 << 20).await;
    tokio::time::timeout(LIMIT, silent.closed()).await.expect("it ends");
    assert_eq!(http::get(&mut requests, "/v1/health").await.0, 200);
}

#[tokio::test]
async fn one_address_has_only_so_many_connections() {
    let stage = Stage::with(|config| config.limits.connections_per_address_max = 2).await;
    let (address, plain) = (stage.server().address, stage.server().plain.unwrap());
    let ask = async |stream: &mut TcpStream| {
        let request = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let mut answer = [0; 12];
        let asked = stream.write_all(request).await.is_ok();
        asked && stream.read_exact(&mut answer).await.is_ok() && answer.ends_with(b"200")
    };
    let mut first = TcpStream::connect(plain).await.unwrap();
    let mut second = TcpStream::connect(plain).await.unwrap();
    assert!(ask(&mut first).await && ask(&mut second).await);
    let mut third = TcpStream::connect(plain).await.unwrap();
    assert!(!ask(&mut third).await);
    drop(first);
    stage::eventually("its place is free", || async {
        let mut again = TcpStream::connect(plain).await.unwrap();
        ask(&mut again).await
    })
    .await;
    // The stage's own client has one.
    let trust = stage.trust();
    let held = http::quic(address, &trust, 1 << 20).await;
    assert!(http::try_quic(address, &trust, 1 << 20).await.is_err());
    drop(held);
}

#[tokio::test]
async fn an_announced_header_is_not_kept_without_end() {
    let stage = Stage::new().await;
    let connection = http::quic(stage.server().address, &stage.trust(), 1 << 20).await;
    // HEADERS of 2^40 bytes, and a frame that nobody knows (RFC 9114 section 7.2.8) as long.
    for kind in [1_u8, 0x21] {
        let (mut send, _receive) = connection.open_bi().await.unwrap();
        let length = (1_u64 << 40 | 0xC0 << 56).to_be_bytes();
        send.write_all(&[&[kind][..], &length].concat()).await.unwrap();
        let sending = async {
            for _ in 0..512 {
                send.write_all(&[0; 64 << 10]).await?;
            }
            Ok::<_, quinn::WriteError>(())
        };
        let sent = tokio::time::timeout(LIMIT, sending).await.expect("it is refused or taken");
        assert!(sent.is_err(), "32 MiB were taken");
    }
    stage.ok("POST", "/v1/routers", json!({ "id": "fine" })).await;
}

#[tokio::test]
async fn web_pages_are_refused() {
    let stage = Stage::new().await;
    let plain = stage.server().plain.unwrap();
    let send = async |name: &'static str, value: &'static str, body: &'static str| {
        let mut stream = TcpStream::connect(plain).await.unwrap();
        let host = if name == "host" { value } else { "localhost:1" };
        let kind = if name == "content-type" { value } else { "application/json; charset=utf-8" };
        let origin = if name == "origin" { format!("Origin: {value}\r\n") } else { String::new() };
        let text = format!(
            "POST /v1/routers HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n{origin}\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer.split(' ').nth(1).and_then(|status| status.parse::<u16>().ok()).unwrap()
    };
    for (name, value, status) in [
        ("origin", "https://elsewhere.example", 403),
        ("origin", "null", 403),
        ("host", "rebound.example", 403),
        ("host", "rebound.example:7480", 403),
        ("host", "127.0.0.1.example", 403),
        ("content-type", "text/plain", 415),
        ("content-type", "application/x-www-form-urlencoded", 415),
        ("host", "[::1]:7480", 201),
        ("host", "127.0.0.1", 201),
        ("host", "localhost:7480", 201),
        ("content-type", "Application/JSON", 201),
    ] {
        assert_eq!(send(name, value, "{}").await, status, "{name}: {value}");
    }
}

#[tokio::test]
async fn probes_may_ask_by_head() {
    let stage = Stage::new().await;
    for path in ["/v1/health", "/v1/ready", "/v1/metrics", "/v1/routers", "/v1/snapshot"] {
        for way in [Way::Plain, Way::Http2] {
            let answer = stage.send(way, "HEAD", path, "").await;
            assert_eq!((answer.status, answer.body.len()), (200, 0), "{way:?} {path}");
        }
    }
    assert_eq!(stage.send(Way::Http1, "HEAD", "/v1/events", "").await.status, 405);
}
