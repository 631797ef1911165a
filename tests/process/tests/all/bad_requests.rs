//! Ten thousand requests of the control API that are wrong in every way that a seed brings about, over
//! connections that stay open. Each gets an answer of the documentation, nothing of them stays, and
//! calls go on.

use std::{fmt, fs, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, client::conn::http1, header::CONTENT_TYPE};
use hyper_util::rt::TokioIo;
use ironcast_load::{VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{LIMIT, Pair, eventually};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use crate::{
    common::{good_network, sees},
    mutation::Mutator,
};

const SEED: u64 = 20_261_129;
const REQUESTS: usize = 10_000;
/// Behind so many, memory has found its size.
const WARM_UP: usize = 3_000;
/// What 7,000 more requests may add to it.
const GROWTH_MAX: u64 = 12 << 20;
/// The default of `limits.body_bytes_max`.
const BODY_BYTES_MAX: usize = 1 << 20;

/// A connection that is used until the server closes it.
struct Line {
    address: SocketAddr,
    sender: Option<http1::SendRequest<Full<Bytes>>>,
    opened: usize,
    /// Requests whose answer was lost, because the server hung up on a body that it does not read.
    cut: usize,
}

impl Line {
    fn new(address: SocketAddr) -> Self {
        Self { address, sender: None, opened: 0, cut: 0 }
    }

    /// The connection that is there, if it takes more; else another one.
    async fn open(&mut self) -> (http1::SendRequest<Full<Bytes>>, bool) {
        if let Some(mut sender) = self.sender.take()
            && sender.ready().await.is_ok()
        {
            return (sender, true);
        }
        self.opened += 1;
        let stream = TcpStream::connect(self.address).await.expect("the door is open");
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.expect("HTTP");
        tokio::spawn(async move { drop(connection.await) });
        (sender, false)
    }

    /// Status and body; none if the server hung up, as it may where it does not read a body.
    async fn send(&mut self, wrong: &Wrong) -> Option<(u16, Bytes)> {
        let (mut sender, mut is_used) = self.open().await;
        let answer = loop {
            let answering = sender.send_request(wrong.request());
            let answer = tokio::time::timeout(LIMIT, answering).await.expect("an answer in time");
            match answer {
                Ok(answer) => break answer,
                Err(_) if wrong.has_unread_body() => {
                    self.cut += 1;
                    return None;
                }
                // It was closing already, because of what came before.
                Err(_) if is_used => (sender, is_used) = self.open().await,
                Err(error) => panic!("no answer to {wrong:?}: {error}"),
            }
        };
        let status = answer.status().as_u16();
        if status == 200 && wrong.path.contains("/events") {
            // A stream does not end: its connection does.
            return Some((status, Bytes::new()));
        }
        let media_type = answer.headers().get(CONTENT_TYPE).cloned();
        let body = match answer.into_body().collect().await {
            Ok(body) => body.to_bytes(),
            Err(_) if wrong.has_unread_body() => {
                self.cut += 1;
                return None;
            }
            Err(error) => panic!("half an answer to {wrong:?}: {error}"),
        };
        if status >= 400 {
            let media_type = media_type.expect("a media type");
            assert_eq!(media_type, "application/problem+json", "{wrong:?}");
        }
        self.sender = Some(sender);
        Some((status, body))
    }
}

/// A request.
#[derive(Clone)]
struct Wrong {
    method: &'static str,
    path: String,
    media_type: Option<&'static str>,
    body: Bytes,
}

/// With the beginning of the body.
impl fmt::Debug for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (shown, length) = (&self.body[..self.body.len().min(300)], self.body.len());
        let body = String::from_utf8_lossy(shown);
        write!(f, "{} {} {:?}, {length} bytes: {body}", self.method, self.path, self.media_type)
    }
}

impl Wrong {
    fn request(&self) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(self.method).uri(&self.path);
        if let Some(media_type) = self.media_type {
            request = request.header(CONTENT_TYPE, media_type);
        }
        let body = Full::new(self.body.clone());
        request.header("host", "localhost").body(body).expect("a request")
    }

    fn has_unread_body(&self) -> bool {
        let is_never_read = matches!(self.method, "GET" | "DELETE" | "HEAD");
        self.body.len() > BODY_BYTES_MAX || (is_never_read && !self.body.is_empty())
    }
}

/// Every call with a body that would be right. What drains the host, or closes the call that goes on
/// meanwhile, is tested elsewhere; ids of what is closed here are of nothing.
fn calls() -> Vec<(&'static str, &'static str, Value)> {
    let opus = json!({ "kind": "audio", "mimeType": "audio/opus", "clockRate": 48_000, "channels": 2,
        "parameters": { "useinbandfec": 1 }, "rtcpFeedback": [{ "type": "nack", "parameter": "" }] });
    let caps = json!({ "codecs": [opus.clone()], "headerExtensions": [
        { "kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "preferredId": 1 }] });
    let parameters = json!({ "mid": "0", "rtcp": { "cname": "x", "reducedSize": true },
        "codecs": [{ "mimeType": "video/VP8", "payloadType": 96, "clockRate": 90_000,
            "parameters": { "apt": 96 }, "rtcpFeedback": [{ "type": "nack" }] }],
        "encodings": [{ "ssrc": 1_111, "rid": "a", "maxBitrate": 100_000, "rtx": { "ssrc": 7 } }],
        "headerExtensions": [{ "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4 }] });
    let dtls = json!({ "dtlsParameters": { "role": "client", "fingerprints":
        [{ "algorithm": "sha-256", "value": (["AB"; 32].join(":")) }] } });
    let batch = json!({ "calls": [
        { "method": "POST", "path": "/routers", "body": { "id": "room" } },
        { "method": "GET", "path": "/consumers/nobody" },
        { "method": "DELETE", "path": "/v1/routers/nobody" },
    ], "stopOnError": false });
    let nothing = json!({});
    vec![
        (
            "POST",
            "/v1/routers",
            json!({ "id": "mad", "mediaCodecs": [opus], "workerId": "0",
            "placement": "hash", "appData": { "a": [1] } }),
        ),
        (
            "POST",
            "/v1/routers/room/can-consume",
            json!({ "producerId": "x", "rtpCapabilities": caps }),
        ),
        (
            "POST",
            "/v1/transports",
            json!({ "id": "mad", "routerId": "room", "type": "webrtc",
            "participantId": "p", "rtpCapabilities": caps, "enableUdp": true, "appData": {},
            "initialAvailableOutgoingBitrate": 500_000, "iceConsentTimeout": 30 }),
        ),
        ("POST", "/v1/transports/spare/connect", dtls),
        ("POST", "/v1/transports/spare/restart-ice", nothing.clone()),
        (
            "PATCH",
            "/v1/transports/spare",
            json!({ "maxIncomingBitrate": 1_000_000,
            "maxOutgoingBitrate": 1_000_000, "minOutgoingBitrate": 10_000 }),
        ),
        (
            "POST",
            "/v1/producers",
            json!({ "id": "mad", "transportId": "spare", "kind": "video",
            "rtpParameters": parameters, "paused": true, "keyFrameRequestDelay": 5 }),
        ),
        (
            "POST",
            "/v1/consumers",
            json!({ "id": "mad", "transportId": "spare", "producerId": "mad",
            "rtpCapabilities": caps, "paused": true, "mid": "7", "enableRtx": true,
            "preferredLayers": { "spatialLayer": 1, "temporalLayer": 1 } }),
        ),
        (
            "PATCH",
            "/v1/consumers/nobody",
            json!({ "priority": 7,
            "preferredLayers": { "spatialLayer": 1 } }),
        ),
        ("POST", "/v1/consumers/nobody/request-key-frame", nothing.clone()),
        ("POST", "/v1/producers/nobody/pause", nothing.clone()),
        ("POST", "/v1/participants/nobody/leave?routerId=room", nothing.clone()),
        ("POST", "/v1/batch", batch),
        ("POST", "/v1/admin/reload", nothing.clone()),
        ("POST", "/v1/pipes", json!({ "producerId": "x", "routerId": "room" })),
        ("GET", "/v1/routers?after=a&limit=10", nothing.clone()),
        ("GET", "/v1/snapshot?routerId=room&limit=1", nothing.clone()),
        ("GET", "/v1/events?after=1-1&types=router.created&children=1", nothing.clone()),
        ("GET", "/v1/audit?limit=5&principal=local", nothing.clone()),
        ("GET", "/v1/top?count=3", nothing.clone()),
        ("GET", "/v1/transports/spare/stats", nothing.clone()),
        ("GET", "/v1/workers/0", nothing.clone()),
        ("DELETE", "/v1/consumers/nobody", nothing.clone()),
        ("DELETE", "/v1/routers/nobody", nothing),
    ]
}

fn next(mutator: &mut Mutator, calls: &[(&'static str, &'static str, Value)]) -> Wrong {
    let (method, path, right) = &calls[mutator.index(calls.len())];
    let method = if mutator.chance(30) {
        ["GET", "PUT", "PATCH", "OPTIONS", "HEAD", "BREW"][mutator.index(6)]
    } else {
        method
    };
    let body = match method {
        "GET" | "DELETE" | "HEAD" if !mutator.chance(20) => Vec::new(),
        _ if mutator.chance(300) => vec![b' '; BODY_BYTES_MAX + 1],
        _ => mutator.body(right),
    };
    let media_type = match mutator.index(50) {
        0 => None,
        1 => Some("text/plain"),
        _ => Some("application/json"),
    };
    Wrong { method, path: changed_path(mutator, path), media_type, body: body.into() }
}

/// Paths are what a client may send: printable ASCII without spaces.
fn changed_path(mutator: &mut Mutator, path: &str) -> String {
    let odd =
        ["%ff", "%", "%2e%2e", "%00", "..", "//", "?", "&x=1", "?limit=-1", "'", "{}", "%F0%9F"];
    let mut path = path.to_owned();
    if mutator.chance(4) {
        let at = 4 + mutator.index(path.len() - 3);
        path.insert_str(at, odd[mutator.index(odd.len())]);
    }
    if mutator.chance(200) {
        path.push_str(&"a".repeat(3_000));
    }
    path
}

/// Statuses of the documentation. A fault of the server, and an answer that is late, are none.
const KNOWN: [u16; 14] = [200, 201, 204, 400, 404, 405, 409, 410, 413, 414, 415, 422, 429, 503];

fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().expect("a number");
    kib * 1_024
}

/// Ids of everything, by kind.
async fn ids(pair: &Pair) -> Value {
    let mut all = json!({});
    for kind in ["routers", "transports", "producers", "consumers"] {
        let list = pair.call("GET", &format!("/v1/{kind}?limit=1000"), Value::Null).await;
        let items = list["items"].as_array().expect("a list").iter();
        all[kind] = items.map(|one| one["id"].clone()).collect();
    }
    all
}

/// Closes what wrong requests made that were not wrong enough.
async fn clear(pair: &Pair, before: &Value) {
    for kind in ["consumers", "producers", "transports", "routers"] {
        let now = ids(pair).await;
        let known = before[kind].as_array().expect("a list");
        for id in now[kind].as_array().expect("a list").iter().filter(|id| !known.contains(id)) {
            let path = format!("/v1/{kind}/{}", id.as_str().expect("an id"));
            pair.call("DELETE", &path, Value::Null).await;
        }
    }
}

#[tokio::test]
async fn ten_thousand_wrong_requests_leave_no_trace() {
    let mut pair = Pair::builder().set("log.level", "warn").start().await;
    pair.create_room("room").await;
    let spare = json!({ "id": "spare", "routerId": "room", "type": "webrtc" });
    pair.call("POST", "/v1/transports", spare).await;
    let alice = pair.join_with("room", "alice", &good_network()).await;
    let bob = pair.join_with("room", "bob", &good_network()).await;
    let video = alice.publish_video(VideoOptions::single(300_000)).await.expect("alice publishes");
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("bob consumes");
    sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 5).await;
    let before = ids(&pair).await;

    let pids = [pair.control_pid(), pair.dataplane_pid()];
    let plain = pair.plain;
    let (mut mutator, calls, mut line) = (Mutator::new(SEED), calls(), Line::new(plain));
    let mut warm = [0; 2];
    let mut refused = 0;
    for number in 0..REQUESTS {
        if number % 1_000 == 0 {
            clear(&pair, &before).await;
        }
        if number == WARM_UP {
            warm = pids.map(resident_bytes);
        }
        let wrong = next(&mut mutator, &calls);
        let Some((status, body)) = line.send(&wrong).await else { continue };
        assert!(
            KNOWN.contains(&status),
            "request {number} is answered {status}: {wrong:?} {body:?}"
        );
        if status >= 400 && wrong.method != "HEAD" {
            refused += 1;
            let problem: Value = serde_json::from_slice(&body).expect("a problem document");
            assert_eq!(problem["status"], status, "{wrong:?}");
            assert!(problem["code"].is_string() && problem["detail"].is_string(), "{problem}");
        }
    }
    assert!(refused > REQUESTS / 2, "only {refused} were refused");
    // A connection ends when a body is too large to be read to its end, or is a stream.
    assert!(line.opened < REQUESTS / 10, "{} connections", line.opened);
    assert!(line.cut < REQUESTS / 50, "{} answers were lost", line.cut);
    clear(&pair, &before).await;

    let grown: Vec<u64> = pids
        .map(resident_bytes)
        .iter()
        .zip(warm)
        .map(|(now, warm)| now.saturating_sub(warm))
        .collect();
    println!("grown by {grown:?} bytes after {warm:?}, {refused} refused");
    assert!(grown.iter().all(|grown| *grown < GROWTH_MAX), "{grown:?} on {warm:?}");
    assert!(pair.control_runs() && pair.dataplane_runs());
    assert_eq!(ids(&pair).await, before);
    assert_eq!(pair.metric("ironcast_control_panics").await, 0.0);
    let frames = bob.stats(&seen).decodable_frames;
    sees(&bob, &seen, "more frames", |stats| stats.decodable_frames > frames + 10).await;
    a_call_works(&pair, "another").await;
}

/// A call of two from the beginning.
pub(crate) async fn a_call_works(pair: &Pair, room: &str) {
    pair.create_room(room).await;
    let alice = pair.join_with(room, "carol", &good_network()).await;
    let bob = pair.join_with(room, "dave", &good_network()).await;
    let video = alice.publish_video(VideoOptions::single(300_000)).await.expect("carol publishes");
    let seen = bob.consume(&video.id, &ConsumeOptions::default()).await.expect("dave consumes");
    sees(&bob, &seen, "frames", |stats| stats.decodable_frames >= 5).await;
    pair.call("DELETE", &format!("/v1/routers/{room}"), Value::Null).await;
    eventually("the room is gone", || async {
        pair.refused("GET", &format!("/v1/routers/{room}"), Value::Null).await.0 == 404
    })
    .await;
}
