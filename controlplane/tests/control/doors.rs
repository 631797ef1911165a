//! The same answers through every door; who may come in; what happens when a door cannot open.

use http_body_util::BodyExt as _;
use ironcast_client::{Client, Token, Trust};
use ironcast_config::Door;
use ironcast_controlplane::{Server, ServerError};
use serde_json::{Value, json};

use crate::{
    http::{self, Way},
    stage::{self, Stage},
};

const WAYS: [Way; 3] = [Way::Plain, Way::Http1, Way::Http2];

#[tokio::test]
async fn every_version_of_http_gives_the_same_answers() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let cases = [
        ("GET", "/v1/routers/room", ""),
        ("GET", "/routers/room", ""),
        ("GET", "/v1/transports/room-alice-send", ""),
        ("GET", "/v1/consumers?routerId=room&limit=1", ""),
        ("GET", "/v1/nothing", ""),
        ("PUT", "/v1/routers", "{}"),
        ("POST", "/v1/routers", "{\"colour\": 1}"),
        ("POST", "/v1/routers", "{"),
        ("POST", "/v1/data-producers", "{}"),
        ("DELETE", "/v1/routers/never", ""),
        ("GET", "/v1/openapi.json", ""),
    ];
    for (method, path, body) in cases {
        let bytes = (!body.is_empty()).then(|| body.to_owned().into());
        let h3 = stage.client.request(method.parse().unwrap(), path, bytes).await.unwrap();
        let h3_json: Value = serde_json::from_slice(&h3.body).unwrap_or(Value::Null);
        assert!(h3.seq.is_some(), "{path}");
        for way in WAYS {
            let answer = stage.send(way, method, path, body).await;
            assert_eq!(
                (answer.status, answer.json()),
                (h3.status, h3_json.clone()),
                "{way:?} {path}"
            );
            assert_eq!(
                answer.header("ironcast-seq"),
                h3.seq.unwrap().to_string(),
                "{way:?} {path}"
            );
            let media_type = if answer.status >= 400 { "problem+json" } else { "application/json" };
            if answer.status != 204 {
                assert!(answer.header("content-type").contains(media_type), "{way:?} {path}");
            }
        }
    }
    let answer = stage.send(Way::Http1, "PUT", "/v1/routers", "").await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, GET"));
}

#[tokio::test]
async fn bodies_have_a_limit_in_every_version() {
    let stage = Stage::with(|config| config.limits.body_bytes_max = 10_000).await;
    let big = json!({ "id": "x", "appData": { "x": "y".repeat(300_000) } });
    for way in WAYS {
        let answer = stage.send(way, "POST", "/v1/routers", &big.to_string()).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (413, Some("too_large")));
    }
    let (status, code, _) = stage.refused("POST", "/v1/routers", big).await;
    assert_eq!((status, code.as_str()), (413, "too_large"));
    stage.ok("POST", "/v1/routers", json!({ "id": "x" })).await;
}

#[tokio::test]
async fn the_ops_door_has_what_probes_need_and_no_more() {
    let stage = Stage::new().await;
    stage.call_of_two("room").await;
    let ops = stage.server().ops.unwrap();
    let get = |path: &'static str| http::send(Way::Plain, ops, &[], http::request("GET", path, ""));
    for path in ["/health", "/v1/health", "/ready"] {
        let answer = get(path).await;
        assert_eq!((answer.status, answer.json()["status"].as_str()), (200, Some("ok")), "{path}");
    }
    let metrics = get("/metrics").await;
    assert_eq!(metrics.status, 200);
    let text = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(text.contains("ironcast_resources{kind=\"consumer\"} 2\n"), "{text}");
    assert!(text.contains("ironcast_control_dataplane_attached 1\n"));
    // How long calls took, and the dataplane's part of it.
    let made = "ironcast_control_request_seconds_count{method=\"POST\",path=\"/consumers\",status=\"201\"} 2\n";
    assert!(text.contains(made), "{text}");
    let buckets = text.lines().filter(|line| line.starts_with("ironcast_control_command_seconds_"));
    assert!(buckets.count() > 10, "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (_, value) = line.rsplit_once(' ').expect("a value");
        value.parse::<f64>().unwrap_or_else(|_| panic!("{line}"));
    }
    assert_eq!(get("/v1/routers").await.status, 404);
    stage.fake.vanish();
    stage::eventually("unready", || async { get("/ready").await.status == 503 }).await;
    let health = get("/health").await.json();
    assert_eq!(health["dataplane"]["status"], "disconnected");
}

#[tokio::test]
async fn a_token_is_needed_where_one_is_configured() {
    let folder = stage::folder();
    let file = folder.join("tokens");
    std::fs::write(&file, "# ours\nada control first-secret\n\nsecond-secret\n").unwrap();
    let mut config = stage::config(&folder);
    config.proofs.token_file = Some(file.clone());
    let server = Server::start(config.clone()).await.unwrap();
    let with = |token: Option<Token>| {
        let mut builder = Client::builder(format!("https://{}", server.address))
            .trust(Trust::File(config.tls_cert.clone()));
        if let Some(token) = token {
            builder = builder.token(token);
        }
        builder.build().unwrap()
    };
    for good in [
        Token::Text("second-secret".into()),
        Token::Text("first-secret".into()),
        Token::File(file.clone()),
    ] {
        with(Some(good)).health().await.unwrap();
    }
    for bad in [None, Some(Token::Text("first".into())), Some(Token::Text("# ours".into()))] {
        let error = with(bad).health().await.unwrap_err();
        assert_eq!(stage::code(&error), "unauthenticated");
    }
    let trust = std::fs::read(&config.tls_cert).unwrap();
    let request = http::request("GET", "/v1/health", "");
    let answer = http::send(Way::Http2, server.address, &trust, request).await;
    assert_eq!((answer.status, answer.header("www-authenticate")), (401, "Bearer"));
    // A new file counts soon; what cannot be read changes nothing.
    std::fs::write(&file, "third-secret\n").unwrap();
    let may = |token: &'static str| {
        let client = with(Some(Token::Text(token.into())));
        async move { client.health().await.is_ok() }
    };
    stage::eventually("the new token counts", || may("third-secret")).await;
    assert!(!may("first-secret").await);
    std::fs::write(&file, "# nothing\n").unwrap();
    let metrics = async || {
        let request = http::request("GET", "/metrics", "");
        let answer = http::send(Way::Plain, server.ops.unwrap(), &[], request).await;
        String::from_utf8(answer.body.to_vec()).unwrap()
    };
    let none = "ironcast_control_token_reads_failed_total 0\n";
    stage::eventually("the file was read", || async { !metrics().await.contains(none) }).await;
    assert!(may("third-secret").await);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[tokio::test]
async fn doors_that_cannot_be_opened_say_why() {
    let stage = Stage::new().await;
    let mut config = stage.config.clone();
    config.listen = stage.server().address;
    let error = Server::start(config).await.err().expect("the port is taken");
    assert!(error.to_string().contains("(control.listen) is taken"), "{error}");
    let everywhere: std::net::SocketAddr = "0.0.0.0:0".parse().unwrap();
    for door in 0..3 {
        let mut config = stage.config.clone();
        match door {
            0 => config.listen = everywhere,
            1 => config.ops = Some(everywhere),
            _ => config.plain = Some(Door::Tcp(everywhere)),
        }
        let error = Server::start(config).await.err().expect("nobody is asked who he is");
        assert!(matches!(error, ServerError::Unprotected(_)), "{error}");
    }
    let mut config = stage.config.clone();
    config.tls_cert = "/proc/no/such/place/cert.pem".into();
    config.tls_key = "/proc/no/such/place/key.pem".into();
    let error = Server::start(config).await.err().expect("no place for state");
    assert!(error.to_string().contains("/proc/no"), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_a_door_too_and_certificates_are_kept() {
    let folder = stage::folder();
    let mut config = stage::config(&folder);
    let socket = folder.join("control.sock");
    config.plain = Some(Door::Unix(socket.clone()));
    let server = Server::start(config.clone()).await.unwrap();
    let stream = tokio::net::UnixStream::connect(&socket).await.unwrap();
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let mut request = http::request("GET", "/v1/health", "");
    request.headers_mut().insert("host", "localhost".parse().unwrap());
    assert_eq!(sender.send_request(request).await.unwrap().status().as_u16(), 200);
    let before = std::fs::read(&config.tls_cert).unwrap();
    drop(sender);
    server.stop().await;
    let server = Server::start(config.clone()).await.unwrap();
    assert_eq!(std::fs::read(&config.tls_cert).unwrap(), before);
    server.stop().await;
    std::fs::remove_dir_all(&folder).unwrap();
}

/// Event streams end as they should, and nobody is waited for who only keeps his connection open.
#[tokio::test]
async fn stopping_waits_for_no_idle_connection() {
    let mut stage = Stage::new().await;
    stage.ok("POST", "/v1/routers", json!({ "id": "room" })).await;
    let (address, plain) = (stage.server().address, stage.server().plain.unwrap());
    let trust = stage.trust();
    let mut streams = Vec::new();
    for (way, address) in [(Way::Plain, plain), (Way::Http1, address), (Way::Http2, address)] {
        let request = http::request("GET", "/v1/events", "");
        let stream = http::open(way, address, &trust, request).await.unwrap();
        streams.push(tokio::spawn(async move { stream.into_body().collect().await.is_ok() }));
    }
    // Open, and never says anything again, as that of a client that has vanished.
    let quic = http::quic(address, &trust, 1 << 20).await;
    let silent = tokio::net::TcpStream::connect(plain).await.unwrap();
    let in_tls = tokio::net::TcpStream::connect(address).await.unwrap();
    let begun = std::time::Instant::now();
    stage.server.take().unwrap().stop().await;
    let took = begun.elapsed();
    drop((quic, silent, in_tls));
    assert!(took < std::time::Duration::from_millis(700), "{took:?}");
    for stream in streams {
        assert!(stream.await.unwrap(), "an event stream broke off");
    }
}
