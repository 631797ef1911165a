//! The same API over HTTP/3, HTTP/2 and HTTP/1.1 with TLS: right and wrong input, with clients that
//! are not ours.

use std::sync::Arc;

use bytes::{Buf, Bytes};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ironcast_process_tests::{LIMIT, Pair};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::{Value, json};

const NAME: &str = "localhost";
const DOORS: [Door; 3] = [Door::Http1, Door::Http2, Door::Http3];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Http1,
    Http2,
    Http3,
}

impl Door {
    fn protocol(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
            Self::Http3 => b"h3",
        }
    }

    /// One request on a connection of its own: status, `content-type`, body.
    async fn send(self, pair: &Pair, request: http::Request<Bytes>) -> (u16, String, Value) {
        let exchange = async {
            match self {
                Self::Http3 => by_quic(pair, request).await,
                Self::Http1 | Self::Http2 => by_tcp(self, pair, request).await,
            }
        };
        tokio::time::timeout(LIMIT, exchange)
            .await
            .unwrap_or_else(|_| panic!("{self:?}: no answer"))
    }
}

fn tls(pair: &Pair, door: Door) -> rustls::ClientConfig {
    let path = pair.state_dir().join("control-cert.pem");
    let certificate = CertificateDer::from_pem_file(path).expect("a development certificate");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("known versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![door.protocol().to_vec()];
    config
}

fn parts(status: http::StatusCode, headers: &http::HeaderMap, body: &[u8]) -> (u16, String, Value) {
    let media_type = headers
        .get(http::header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    (status.as_u16(), media_type, serde_json::from_slice(body).unwrap_or(Value::Null))
}

async fn by_tcp(door: Door, pair: &Pair, request: http::Request<Bytes>) -> (u16, String, Value) {
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls(pair, door)));
    let tcp = tokio::net::TcpStream::connect(pair.api).await.expect("the door is open");
    let name = ServerName::try_from(NAME).expect("a name");
    let stream = connector.connect(name, tcp).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(door.protocol()));
    let request = request.map(Full::new);
    let io = TokioIo::new(stream);
    let response = if door == Door::Http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.expect("HTTP/2");
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(io).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let response = response.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    parts(head.status, &head.headers, &body)
}

pub(crate) fn quic_config(pair: &Pair) -> quinn::ClientConfig {
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls(pair, Door::Http3))
        .expect("TLS 1.3 is there");
    quinn::ClientConfig::new(Arc::new(crypto))
}

async fn by_quic(pair: &Pair, request: http::Request<Bytes>) -> (u16, String, Value) {
    let endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).expect("a free port");
    let connecting = endpoint.connect_with(quic_config(pair), pair.api, NAME).expect("an address");
    let connection = connecting.await.expect("QUIC");
    let (mut driver, mut sender) =
        h3::client::new(h3_quinn::Connection::new(connection)).await.expect("HTTP/3");
    tokio::spawn(async move { std::future::poll_fn(|context| driver.poll_close(context)).await });
    let (head, body) = request.into_parts();
    let head = http::Request::from_parts(head, ());
    let mut stream = sender.send_request(head).await.expect("sent");
    if !body.is_empty() {
        // A server that refuses early may stop reading.
        let _ = stream.send_data(body).await;
    }
    let _ = stream.finish().await;
    let response = stream.recv_response().await.expect("an answer");
    let mut body = Vec::new();
    while let Some(mut data) = stream.recv_data().await.expect("a whole body") {
        body.extend_from_slice(&data.copy_to_bytes(data.remaining()));
    }
    parts(response.status(), response.headers(), &body)
}

fn request(door: Door, pair: &Pair, method: &str, path: &str, body: &[u8]) -> http::Request<Bytes> {
    let mut builder = http::Request::builder().method(method);
    // HTTP/1.1 sends the path alone and names the host beside it.
    builder = match door {
        Door::Http1 => builder.uri(path).header(http::header::HOST, NAME),
        _ => builder.uri(format!("https://{NAME}:{}{path}", pair.api.port())),
    };
    if !body.is_empty() {
        builder = builder.header(http::header::CONTENT_TYPE, "application/json");
    }
    builder.body(Bytes::copy_from_slice(body)).expect("a request")
}

pub(crate) async fn call(
    door: Door,
    pair: &Pair,
    method: &str,
    path: &str,
    body: &[u8],
) -> (u16, String, Value) {
    door.send(pair, request(door, pair, method, path, body)).await
}

#[tokio::test]
async fn a_room_through_every_door() {
    let pair = Pair::start().await;
    for door in DOORS {
        let room = format!("room-{door:?}");
        let body = json!({ "id": room }).to_string();
        let (status, _, made) = call(door, &pair, "POST", "/v1/routers", body.as_bytes()).await;
        assert_eq!((status, &made["id"]), (201, &json!(room)), "{door:?}: {made}");
        // The seeds' form without the version is the same.
        let (status, _, shown) = call(door, &pair, "GET", &format!("/routers/{room}"), b"").await;
        assert_eq!(
            (status, &shown["rtpCapabilities"]),
            (200, &made["rtpCapabilities"]),
            "{door:?}"
        );
        let body = json!({ "routerId": room, "type": "webrtc" }).to_string();
        let (status, _, transport) =
            call(door, &pair, "POST", "/v1/transports", body.as_bytes()).await;
        assert_eq!(status, 201, "{door:?}: {transport}");
        assert_eq!(transport["iceParameters"]["iceLite"], true);
        let path = format!("/v1/routers/{room}");
        let (status, _, _) = call(door, &pair, "DELETE", &path, b"").await;
        assert_eq!(status, 204, "{door:?}");
        let (status, media_type, problem) = call(door, &pair, "GET", &path, b"").await;
        assert_eq!((status, &problem["code"]), (404, &json!("not_found")), "{door:?}");
        assert!(media_type.starts_with("application/problem+json"), "{door:?}: {media_type}");
    }
}

#[tokio::test]
async fn wrong_input_through_every_door() {
    let pair = Pair::builder().set("limits.body_bytes_max", 20_000).start().await;
    pair.create_room("room").await;
    let big = json!({ "id": "big", "appData": { "x": "y".repeat(60_000) } }).to_string();
    let cases: [(&str, &[u8], u16); 6] = [
        ("/v1/routers", b"{ not json", 400),
        ("/v1/routers", br#"{"colour":"green"}"#, 400),
        ("/v1/routers", b"\xFF\xFE", 400),
        ("/v1/transports", br#"{"routerId":"nobody","type":"webrtc"}"#, 404),
        ("/v1/transports", br#"{"routerId":"room","type":"webrtc","enableSctp":true}"#, 422),
        ("/v1/routers", big.as_bytes(), 413),
    ];
    for door in DOORS {
        for (path, body, expected) in cases {
            let (status, media_type, problem) = call(door, &pair, "POST", path, body).await;
            let shown = String::from_utf8_lossy(&body[..body.len().min(60)]);
            assert_eq!(status, expected, "{door:?} {path} {shown}: {problem}");
            assert!(media_type.starts_with("application/problem+json"), "{door:?} {path} {shown}");
        }
        let (status, _, _) = call(door, &pair, "PUT", "/v1/routers", b"{}").await;
        assert!((400..500).contains(&status), "{door:?}: {status}");
        let (status, _, _) = call(door, &pair, "GET", "/v1/health", b"").await;
        assert_eq!(status, 200, "{door:?}");
    }
}

/// Bytes that are no HTTP at all, on both transports.
#[tokio::test]
async fn noise_at_the_doors_ends_nothing() {
    use tokio::io::AsyncWriteExt;
    let pair = Pair::start().await;
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let mut random = ironcast_load::random::Random::new(9);
    for _ in 0..50 {
        let bytes: Vec<u8> = (0..1_200).map(|_| random.next_u32() as u8).collect();
        udp.send_to(&bytes, pair.api).expect("loopback takes it");
        let mut tcp = tokio::net::TcpStream::connect(pair.api).await.expect("the door is open");
        // The server may close while we still write.
        let _ = tcp.write_all(&bytes).await;
    }
    for door in DOORS {
        let (status, _, _) = call(door, &pair, "GET", "/v1/health", b"").await;
        assert_eq!(status, 200, "{door:?}");
    }
}

#[tokio::test]
async fn the_ports_of_media_have_one_owner() {
    let pair = Pair::builder().without_control().start().await;
    let elsewhere = pair.state_dir().join("second").display().to_string();
    let state = ("control.state_dir", elsewhere.as_str());
    // Nobody is here, so no port is open yet.
    let said = pair.refused_dataplane(&[state]).await;
    assert!(said.contains("another Ironcast") && said.contains("rtc.ports"), "{said}");
    let others = [state, ("rtc.ports", "1200-1200"), ("dataplane.workers", "2")];
    let said = pair.refused_dataplane(&others).await;
    assert!(said.contains("rtc.ports") && said.contains("2"), "{said}");
    let foreign = [state, ("rtc.listen", "203.0.113.9"), ("rtc.single_port", "3478")];
    let said = pair.refused_dataplane(&foreign).await;
    assert!(said.contains("rtc.listen"), "{said}");
    // The first one goes on.
    assert!(pair.attach("us").await.command(&ironcast_protocol::Command::Workers).await.is_ok());
}
