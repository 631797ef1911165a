//! GStreamer of the distribution on plain transports: VP8, Opus and Opus of six channels by RTP, without
//! any RTCP from it, sealed by AES-GCM, and over IPv6; another one receives what a consumer sends.

use std::{net::UdpSocket, process::Stdio};

use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::ffmpeg::{is_bound, probe};

/// Key and salt of AEAD_AES_128_GCM, as base64 and as GStreamer takes them.
const KEY: (&str, &str) = (
    "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHA==",
    "0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c",
);
/// Buffers that are received: frames of a camera, packets of 20 ms of sound.
const FRAMES: u32 = 30;

struct Track {
    name: &'static str,
    kind: &'static str,
    source: &'static str,
    /// What the receiver's caps say beside the payload type.
    caps: &'static str,
    receiver: &'static str,
    codec: Value,
    /// As ffprobe names it, with what else it is to find.
    found: (&'static str, &'static str, u32),
}

fn tracks() -> [Track; 3] {
    let opus = |mime: &str, channels: u8, parameters: Value| json!({ "mimeType": mime, "payloadType": 101, "clockRate": 48_000, "channels": channels, "parameters": parameters });
    let six = json!({ "num_streams": 4, "coupled_streams": 2, "channel_mapping": "0,4,1,2,3,5" });
    [
        Track {
            name: "camera",
            kind: "video",
            source: "videotestsrc is-live=true ! video/x-raw,width=320,height=240,framerate=15/1 \
                ! vp8enc deadline=1 keyframe-max-dist=15 target-bitrate=400000 ! rtpvp8pay mtu=1200",
            caps: "media=video,clock-rate=90000,encoding-name=VP8",
            receiver: "rtpvp8depay",
            codec: json!({ "mimeType": "video/VP8", "payloadType": 101, "clockRate": 90_000 }),
            found: ("vp8", "width", 320),
        },
        Track {
            name: "microphone",
            kind: "audio",
            source: "audiotestsrc is-live=true ! audio/x-raw,rate=48000,channels=2 ! opusenc \
                ! rtpopuspay",
            caps: "media=audio,clock-rate=48000,encoding-name=OPUS",
            receiver: "rtpopusdepay ! opusparse",
            codec: opus("audio/opus", 2, json!({})),
            found: ("opus", "channels", 2),
        },
        Track {
            name: "surround",
            kind: "audio",
            source: "audiotestsrc is-live=true \
                ! audio/x-raw,rate=48000,channels=6,channel-mask=(bitmask)0x3f ! opusenc \
                ! rtpopuspay",
            caps: "media=audio,clock-rate=48000,encoding-name=MULTIOPUS,encoding-params=(string)6,\
                num_streams=(string)4,coupled_streams=(string)2,channel_mapping=(string)\"0,4,1,2,3,5\"",
            receiver: "rtpopusdepay ! opusparse",
            codec: opus("audio/multiopus", 6, six),
            found: ("opus", "channels", 6),
        },
    ]
}

/// One way from a sender to a file, each to a transport of its own.
struct Way<'a> {
    pair: &'a Pair,
    address: &'static str,
    is_sealed: bool,
}

fn launch(pipeline: &str) -> Child {
    let mut command = Command::new("gst-launch-1.0");
    command.arg("-q").args(pipeline.split_whitespace()).stdin(Stdio::null());
    command.stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().expect("gst-launch-1.0 is installed")
}

impl Way<'_> {
    async fn transport(&self, id: &str, with: Value) -> Value {
        let mut body = json!({
            "id": id, "routerId": "room", "type": "plain", "listenAddress": self.address,
            "enableSrtp": self.is_sealed,
        });
        if self.is_sealed {
            body["srtpCryptoSuite"] = "AEAD_AES_128_GCM".into();
        }
        body.as_object_mut().expect("an object").extend(with.as_object().expect("one").clone());
        self.pair.call("POST", "/v1/transports", body).await
    }

    async fn connect(&self, id: &str, mut peer: Value) -> Value {
        if self.is_sealed {
            peer["srtpParameters"] =
                json!({ "cryptoSuite": "AEAD_AES_128_GCM", "keyBase64": KEY.0 });
        }
        self.pair.call("POST", &format!("/v1/transports/{id}/connect"), peer).await
    }

    async fn publish(&self, track: &Track) -> Child {
        let id = format!("{}-from", track.name);
        let made = self.transport(&id, json!({ "comedia": true })).await;
        if self.is_sealed {
            self.connect(&id, json!({})).await;
        }
        let parameters = json!({ "codecs": [track.codec], "encodings": [{ "ssrc": 4_711 }] });
        let body = json!({ "id": track.name, "transportId": id, "kind": track.kind,
            "rtpParameters": parameters });
        self.pair.call("POST", "/v1/producers", body).await;
        let (source, port) = (track.source, &made["tuple"]["localPort"]);
        let seal = if self.is_sealed {
            let key = KEY.1;
            format!(
                "! srtpenc key={key} rtp-cipher=aes-128-gcm rtp-auth=null rtcp-cipher=aes-128-gcm rtcp-auth=null"
            )
        } else {
            String::new()
        };
        launch(&format!(
            "{source} pt=101 ssrc=4711 {seal} ! udpsink host={} port={port}",
            self.address
        ))
    }

    /// Receives so many buffers, looks at the file, and gives the packets that were lost on the way.
    async fn receive(&self, track: &Track) {
        let id = format!("{}-to", track.name);
        let own = UdpSocket::bind((self.address, 0)).and_then(|one| one.local_addr());
        let port = own.expect("a free port").port();
        let made = self.transport(&id, json!({})).await;
        let peer = json!({ "ip": self.address, "port": port });
        let connected = self.connect(&id, peer).await;
        let router = self.pair.call("GET", "/v1/routers/room", Value::Null).await;
        let body = json!({ "id": id, "transportId": id, "producerId": track.name,
            "rtpCapabilities": router["rtpCapabilities"], "paused": true });
        let consumer = self.pair.call("POST", "/v1/consumers", body).await;
        let parameters = &consumer["rtpParameters"];
        let payload_type = &parameters["codecs"][0]["payloadType"];
        let ssrc = &parameters["encodings"][0]["ssrc"];
        let (caps, receiver) = (track.caps, track.receiver);
        let caps = format!("{caps},payload={payload_type},ssrc=(uint){ssrc}");
        let unseal = if self.is_sealed {
            let shown = if connected["srtpParameters"].is_null() { &made } else { &connected };
            let key = shown["srtpParameters"]["keyBase64"].as_str().expect("a key");
            format!(
                "application/x-srtp,{caps},srtp-key=(buffer){},srtp-cipher=aes-128-gcm,\
                 srtp-auth=null,srtcp-cipher=aes-128-gcm,srtcp-auth=null ! srtpdec",
                hex_of_base64(key)
            )
        } else {
            format!("application/x-rtp,{caps}")
        };
        let file = self.pair.state_dir().join(format!("{id}.mkv"));
        let child = launch(&format!(
            "-e udpsrc address={} port={port} caps={unseal} ! rtpjitterbuffer latency=50 ! {receiver} \
             ! identity eos-after={FRAMES} ! matroskamux ! filesink location={}",
            self.address,
            file.display()
        ));
        eventually("GStreamer listens", || async { is_bound(port) }).await;
        self.pair.call("POST", &format!("/v1/consumers/{id}/resume"), Value::Null).await;
        let output = tokio::time::timeout(LIMIT, child.wait_with_output()).await;
        let output = output.expect("it has enough in time").expect("it ends");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{}: {said}", track.name);
        let found = probe(&file).await;
        let (codec, field, value) = track.found;
        let stream = &found["streams"][0];
        assert_eq!((&stream["codec_name"], &stream[field]), (&json!(codec), &json!(value)));
        let decoded = Command::new("ffmpeg")
            .args(["-nostdin", "-hide_banner", "-loglevel", "error", "-i"])
            .arg(&file)
            .args(["-f", "null", "-"])
            .output()
            .await
            .expect("ffmpeg is installed");
        let said = String::from_utf8_lossy(&decoded.stderr);
        assert!(decoded.status.success() && said.is_empty(), "{}: {said}", track.name);
    }
}

fn hex_of_base64(text: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(text).expect("base64");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn goes_through(address: &'static str, is_sealed: bool) {
    let pair = Pair::start().await;
    let codecs = json!([
        { "kind": "video", "mimeType": "video/VP8", "clockRate": 90_000 },
        { "kind": "audio", "mimeType": "audio/opus", "clockRate": 48_000, "channels": 2 },
        { "kind": "audio", "mimeType": "audio/multiopus", "clockRate": 48_000, "channels": 6,
          "parameters": { "num_streams": 4, "coupled_streams": 2, "channel_mapping": "0,4,1,2,3,5" } },
    ]);
    pair.call("POST", "/v1/routers", json!({ "id": "room", "mediaCodecs": codecs })).await;
    let way = Way { pair: &pair, address, is_sealed };
    let tracks = tracks();
    let mut senders = Vec::new();
    for track in &tracks {
        senders.push(way.publish(track).await);
    }
    futures::future::join_all(tracks.iter().map(|track| way.receive(track))).await;
    for track in &tracks {
        let path = format!("/v1/producers/{}/stats", track.name);
        let stats = pair.call("GET", &path, Value::Null).await;
        assert_eq!(stats[0]["packetsLost"], 0, "{}", track.name);
    }
    drop(senders);
}

#[tokio::test]
async fn what_it_publishes_another_one_receives() {
    goes_through("127.0.0.1", false).await;
}

#[tokio::test]
async fn the_same_sealed_both_ways() {
    goes_through("127.0.0.1", true).await;
}

#[tokio::test]
async fn the_same_over_ipv6() {
    goes_through("::1", false).await;
}
