//! FFmpeg of the distribution on plain transports: it publishes H264, VP8 and Opus by RTP, and another
//! one receives what the SDP of the API describes, in the clear and sealed.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

/// Seconds that are received.
const SECONDS: u32 = 2;
/// Key and salt of the suites of AES-CM, as base64.
const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e";

/// A track that FFmpeg makes.
struct Made {
    name: &'static str,
    kind: &'static str,
    source: &'static str,
    encoder: &'static str,
    codec: Value,
}

fn all() -> [Made; 3] {
    let picture = "testsrc=size=320x240:rate=15";
    let video = |mime: &str, parameters: Value| json!({ "mimeType": mime, "payloadType": 101, "clockRate": 90_000, "parameters": parameters });
    [
        Made {
            name: "vp8",
            kind: "video",
            source: picture,
            encoder: "-c:v libvpx -deadline realtime -cpu-used 8 -b:v 400k -g 15",
            codec: video("video/VP8", json!({})),
        },
        Made {
            name: "h264",
            kind: "video",
            source: picture,
            encoder: "-c:v libx264 -preset ultrafast -tune zerolatency -profile:v baseline \
                -pix_fmt yuv420p -b:v 400k -g 15",
            codec: video(
                "video/H264",
                json!({ "packetization-mode": 1, "profile-level-id": "42e01f", "level-asymmetry-allowed": 1 }),
            ),
        },
        Made {
            name: "opus",
            kind: "audio",
            source: "sine=frequency=440:sample_rate=48000",
            encoder: "-c:a libopus -ac 2 -b:a 48k",
            codec: json!({ "mimeType": "audio/opus", "payloadType": 101, "clockRate": 48_000, "channels": 2 }),
        },
    ]
}

/// What telephones speak, with the payload types that are theirs (RFC 3551 section 6).
fn telephony() -> [Made; 2] {
    let made = |name, encoder, mime: &str| Made {
        name,
        kind: "audio",
        source: "sine=frequency=440:sample_rate=8000",
        encoder,
        codec: json!({ "mimeType": mime, "payloadType": 101, "clockRate": 8_000, "channels": 1 }),
    };
    [
        made("pcm_mulaw", "-c:a pcm_mulaw -ac 1", "audio/PCMU"),
        made("pcm_alaw", "-c:a pcm_alaw -ac 1", "audio/PCMA"),
    ]
}

fn ffmpeg(arguments: &[&str]) -> Child {
    let mut command = Command::new("ffmpeg");
    command.args(["-nostdin", "-hide_banner", "-loglevel", "error"]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().expect("ffmpeg is installed")
}

fn port(answer: &Value, tuple: &str) -> u16 {
    answer[tuple]["localPort"].as_u64().and_then(|port| port.try_into().ok()).expect("a port")
}

/// A transport that is told what it is to know of FFmpeg.
async fn plain(pair: &Pair, id: &str, with: Value, connect: Option<Value>) -> Value {
    let mut body = json!({ "id": id, "routerId": "room", "type": "plain" });
    body.as_object_mut().expect("an object").extend(with.as_object().expect("an object").clone());
    let made = pair.call("POST", "/v1/transports", body).await;
    if let Some(connect) = connect {
        pair.call("POST", &format!("/v1/transports/{id}/connect"), connect).await;
    }
    made
}

/// FFmpeg sends a track; its producer has the track's name.
async fn publish(pair: &Pair, made: &Made, sealed: bool) -> Child {
    let id = format!("{}-from", made.name);
    let with = json!({ "comedia": true, "rtcpMux": false, "enableSrtp": sealed });
    let srtp = json!({ "cryptoSuite": "AES_CM_128_HMAC_SHA1_80", "keyBase64": KEY });
    let connect = sealed.then(|| json!({ "srtpParameters": srtp }));
    let transport = plain(pair, &id, with, connect).await;
    let parameters = json!({ "codecs": [made.codec], "encodings": [{ "ssrc": 4_711 }] });
    let body = json!({ "id": made.name, "transportId": id, "kind": made.kind, "rtpParameters": parameters });
    pair.call("POST", "/v1/producers", body).await;
    let scheme = if sealed { "srtp" } else { "rtp" };
    let url = format!("{scheme}://127.0.0.1:{}?pkt_size=1200", port(&transport, "tuple"));
    let mut arguments = vec!["-re", "-f", "lavfi", "-i", made.source];
    arguments.extend(made.encoder.split_whitespace());
    arguments.extend(["-f", "rtp", "-payload_type", "101", "-ssrc", "4711"]);
    if sealed {
        arguments.extend(["-srtp_out_suite", "AES_CM_128_HMAC_SHA1_80", "-srtp_out_params", KEY]);
    }
    arguments.push(&url);
    ffmpeg(&arguments)
}

/// A UDP port that some process of this machine has open.
pub(crate) fn is_bound(port: u16) -> bool {
    let table = ["/proc/net/udp", "/proc/net/udp6"]
        .map(|table| std::fs::read_to_string(table).unwrap_or_default())
        .concat();
    let wanted = format!(":{port:04X}");
    // `sl: address:port ...`, where the address has 8 or 32 digits.
    table.lines().any(|line| line.split_whitespace().nth(1).is_some_and(|it| it.ends_with(&wanted)))
}

/// FFmpeg receives a producer by the SDP of the API into a file.
async fn receive(pair: &Pair, made: &Made, sealed: bool) -> PathBuf {
    let id = format!("{}-to", made.name);
    let free = free_pair();
    let mut connect = json!({ "ip": "127.0.0.1", "port": free, "rtcpPort": free + 1 });
    if sealed {
        connect["srtpParameters"] =
            json!({ "cryptoSuite": "AES_CM_128_HMAC_SHA1_80", "keyBase64": KEY });
    }
    let with = json!({ "rtcpMux": false, "enableSrtp": sealed });
    plain(pair, &id, with, Some(connect)).await;
    let router = pair.call("GET", "/v1/routers/room", Value::Null).await;
    let capabilities = router["rtpCapabilities"].clone();
    let body = json!({ "id": id, "transportId": id, "producerId": made.name,
        "rtpCapabilities": capabilities, "paused": true });
    pair.call("POST", "/v1/consumers", body).await;
    let answer = pair.control.send("GET", &format!("/v1/transports/{id}/sdp"), &[], &[]).await;
    let answer = answer.expect("reached");
    assert_eq!(answer.status, 200);
    let sdp = pair.state_dir().join(format!("{id}.sdp"));
    std::fs::write(&sdp, &answer.body).expect("the SDP is kept");
    let file = pair.state_dir().join(format!("{id}.mkv"));
    let seconds = SECONDS.to_string();
    let child = ffmpeg(&[
        "-protocol_whitelist",
        "file,udp,rtp,srtp",
        "-i",
        &sdp.display().to_string(),
        "-t",
        &seconds,
        "-c",
        "copy",
        &file.display().to_string(),
    ]);
    eventually("ffmpeg listens", || async { is_bound(free) }).await;
    pair.call("POST", &format!("/v1/consumers/{id}/resume"), Value::Null).await;
    let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
    let output = output.expect("ffmpeg has enough in time").expect("ffmpeg ends");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{}: {said}", made.name);
    file
}

/// Two ports of this machine, one behind the other, the first one even.
fn free_pair() -> u16 {
    let bind = |port: u16| std::net::UdpSocket::bind(("127.0.0.1", port));
    loop {
        let first = bind(0).and_then(|one| one.local_addr()).expect("a free port").port() & !1;
        if bind(first).is_ok() && bind(first + 1).is_ok() {
            return first;
        }
    }
}

pub(crate) async fn probe(file: &Path) -> Value {
    let command = Command::new("ffprobe")
        .args(["-v", "error", "-show_streams", "-show_format", "-of", "json"])
        .arg(file)
        .output();
    let output = command.await.expect("ffprobe is installed");
    serde_json::from_slice(&output.stdout).expect("JSON of ffprobe")
}

/// Right codec, size and duration, and every frame decodes.
async fn is_whole(made: &Made, file: &Path) {
    let found = probe(file).await;
    let stream = &found["streams"][0];
    assert_eq!(stream["codec_name"], made.name, "{found}");
    if made.kind == "video" {
        assert_eq!((&stream["width"], &stream["height"]), (&json!(320), &json!(240)));
    }
    let duration: f64 =
        found["format"]["duration"].as_str().expect("a duration").parse().expect("a number");
    assert!((duration - f64::from(SECONDS)).abs() < 0.5, "{}: {duration} s", made.name);
    let decoded = ffmpeg(&["-i", &file.display().to_string(), "-f", "null", "-"]);
    let output = decoded.wait_with_output().await.expect("ffmpeg ends");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}", made.name);
}

async fn goes_through(sealed: bool) {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    all_go_through(&pair, &all(), sealed).await;
}

async fn all_go_through(pair: &Pair, tracks: &[Made], sealed: bool) {
    let mut senders = Vec::new();
    for made in tracks {
        senders.push(publish(pair, made, sealed).await);
    }
    let received = tracks.iter().map(|made| receive(pair, made, sealed));
    let files = futures::future::join_all(received).await;
    for (made, file) in tracks.iter().zip(&files) {
        is_whole(made, file).await;
        let id = format!("{}-from", made.name);
        let transport = pair.call("GET", &format!("/v1/transports/{id}"), Value::Null).await;
        assert_eq!(transport["tuple"]["remoteIp"], "127.0.0.1", "{transport}");
        assert!(transport["rtcpTuple"]["remotePort"].is_u64(), "its sender reports came");
    }
    drop(senders);
}

#[tokio::test]
async fn what_it_publishes_another_one_receives() {
    goes_through(false).await;
}

#[tokio::test]
async fn telephones_are_understood() {
    let pair = Pair::start().await;
    let codec = |mime: &str, payload_type: u8| json!({ "kind": "audio", "mimeType": mime, "clockRate": 8_000, "preferredPayloadType": payload_type });
    let codecs = [codec("audio/PCMU", 0), codec("audio/PCMA", 8)];
    pair.call("POST", "/v1/routers", json!({ "id": "room", "mediaCodecs": codecs })).await;
    all_go_through(&pair, &telephony(), false).await;
}

#[tokio::test]
async fn the_same_sealed_both_ways() {
    goes_through(true).await;
}

/// It ends and is started anew: another port, another SSRC if none was asked for, numbers that have
/// nothing to do with those before.
#[tokio::test]
async fn a_publisher_that_is_started_again_is_followed() {
    let pair = Pair::start().await;
    pair.create_room("room").await;
    let made = &all()[2];
    let first = publish(&pair, made, false).await;
    let packets = async |pair: &Pair| {
        let stats = pair.call("GET", "/v1/producers/opus/stats", Value::Null).await;
        stats[0]["packetCount"].as_u64().unwrap_or_default()
    };
    eventually("packets come", || async { packets(&pair).await > 20 }).await;
    let transport = pair.call("GET", "/v1/transports/opus-from", Value::Null).await;
    drop(first);
    let url = format!("rtp://127.0.0.1:{}", port(&transport, "tuple"));
    let before = packets(&pair).await;
    let mut arguments = vec!["-re", "-f", "lavfi", "-i", made.source];
    arguments.extend(made.encoder.split_whitespace());
    arguments.extend(["-f", "rtp", "-payload_type", "101", "-ssrc", "4711", &url]);
    let _second = ffmpeg(&arguments);
    let moved = || async {
        let now = pair.call("GET", "/v1/transports/opus-from", Value::Null).await;
        now["tuple"]["remotePort"] != transport["tuple"]["remotePort"]
    };
    eventually("the new one is taken for the peer", moved).await;
    eventually("its packets count", || async { packets(&pair).await > before + 50 }).await;
}
