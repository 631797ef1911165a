//! Rooms that are watched and recorded: real FFmpeg, or a program that only listens as FFmpeg does, and
//! the media server in memory, which sends nothing. What is written is dark and silent, and whole.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_signaling::broadcast;
use ironcast_signaling::broadcast::command::Quality;
use ironcast_signaling::broadcast::layout::Size;
use ironcast_signaling::media::MediaEvent;
use ironcast_signaling::rooms::mode::Rules;
use ironcast_signaling::settings::Settings;
use serde_json::{Value, json};

use crate::client::Client;
use crate::fake_media::FakeMedia;
use crate::hosts::Two;
use crate::pages::http;
use crate::stage::{Stage, quick, rtp_parameters};

/// Binds the ports of its SDP, writes what it is told to write, and ends when it is told to.
pub(crate) const SCRIPT: &str = r#"#!/usr/bin/env python3
import re, select, socket, sys
held = []
for port in re.findall(r"m=\S+ (\d+) ", open("input.sdp").read()):
    for number in (int(port), int(port) + 1):
        one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        one.bind(("127.0.0.1", number))
        held.append(one)
name = sys.argv[-1]
open(name % 0 if "%" in name else name, "w").write("media")
if "%" in name:
    first = int(sys.argv[sys.argv.index("-segment_start_number") + 1])
    open(name % first, "w").write("media")
    print(f"{name % first},0.000000,1.000000", flush=True)
sys.stdin.read(1)
"#;

/// A folder that goes with the test, and a service that writes there.
struct Place {
    folder: PathBuf,
    stage: Stage,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub(crate) fn settings(folder: &Path) -> broadcast::Settings {
    broadcast::Settings {
        at_once_max: 4,
        folder: folder.join("out"),
        segment: Duration::from_millis(500),
        window: 3,
        quality: Quality { size: Size { width: 320, height: 180 }, bitrate_bps: 100_000 },
        key_frame_patience: Duration::from_millis(600),
        room_patience: Duration::from_secs(2),
        ..broadcast::Settings::default()
    }
}

impl Place {
    async fn new(change: impl FnOnce(&mut broadcast::Settings)) -> Self {
        let name = format!("ironcast-broadcasts-{}", uuid::Uuid::new_v4());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let mut broadcast = settings(&folder);
        change(&mut broadcast);
        let settings = Settings { broadcast, ..quick() };
        Self { folder, stage: Stage::with(settings, FakeMedia::new()).await }
    }

    /// With a program in FFmpeg's place.
    async fn scripted(script: &str, change: impl FnOnce(&mut broadcast::Settings)) -> Self {
        let path = std::env::temp_dir().join(format!("ironcast-program-{}", uuid::Uuid::new_v4()));
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut place = Self::new(|settings| {
            settings.ffmpeg.clone_from(&path);
            change(settings);
        })
        .await;
        // It goes with the rest.
        place.folder = move_into(&place.folder, &path);
        place
    }

    /// Those processes that work in our folder.
    fn processes(&self) -> Vec<i32> {
        let all = std::fs::read_dir("/proc").unwrap().flatten();
        let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let is_here = |pid: &i32| {
            let place = std::fs::read_link(format!("/proc/{pid}/cwd"));
            place.is_ok_and(|place| place.starts_with(self.folder.join("out")))
        };
        pids.filter(is_here).collect()
    }

    /// Nothing of any broadcast is left: no process, no transport, no note, no port.
    async fn nothing_is_left(&self) {
        let end = Instant::now() + Duration::from_secs(10);
        loop {
            let transports = self.stage.media.inside().plain_ports.len();
            let running = self.stage.service.broadcasts.count();
            let processes = self.processes();
            let notes = self.find("state.json");
            if transports == 0 && running == 0 && processes.is_empty() && notes.is_empty() {
                return;
            }
            assert!(
                Instant::now() < end,
                "{transports} transports, {running} broadcasts, {processes:?}, {notes:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn find(&self, name: &str) -> Vec<PathBuf> {
        let below = |folder: PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
        let kinds = below(self.folder.join("out")).map(|kind| kind.path());
        let folders = kinds.flat_map(|kind| below(kind).map(|one| one.path()));
        folders.map(|folder| folder.join(name)).filter(|path| path.exists()).collect()
    }
}

fn move_into(folder: &Path, program: &Path) -> PathBuf {
    // A link is enough: the folder's removal leaves no program behind.
    let inside = folder.join("program");
    std::fs::rename(program, &inside).unwrap();
    std::os::unix::fs::symlink(&inside, program).unwrap();
    folder.to_owned()
}

pub(crate) async fn changed(client: &mut Client, state: &str) -> Value {
    let is_awaited = |told: &Value| {
        // A start that failed is nothing to wait behind.
        told["state"] == state || (state == "live" && told["state"] == "failed")
    };
    let told = client.event_where("broadcast-changed", is_awaited).await;
    assert_eq!(told["state"], state, "{told}");
    told
}

fn ffprobe(path: &Path) -> Value {
    let probe = std::process::Command::new("ffprobe")
        .args(["-v", "error", "-show_format", "-show_streams", "-of", "json"])
        .arg(path)
        .output()
        .unwrap();
    assert!(probe.status.success(), "{}", String::from_utf8_lossy(&probe.stderr));
    serde_json::from_slice(&probe.stdout).unwrap()
}

#[tokio::test]
async fn a_room_is_watched_while_it_goes_on_and_afterwards() {
    let place = Place::new(|_| {}).await;
    let stage = &place.stage;
    let (mut ada, _, _) = stage.join_sending("ada").await;
    let started = ada.must("startBroadcast", json!({ "kind": "hls", "layout": "grid" })).await;
    assert_eq!(started["state"], "starting");
    let url = started["url"].as_str().unwrap().to_owned();
    let live = changed(&mut ada, "live").await;
    assert_eq!((&live["url"], &live["layout"]), (&json!(url), &json!("grid")));
    let (mut bob, joined) = stage.join("bob").await;
    assert_eq!(joined["broadcasts"][0]["url"], url, "who comes later knows it too");
    let order: Vec<String> = {
        let wanted = ["create plain", "connect plain", "consume"];
        let is_wanted = |call: &&String| wanted.iter().any(|one| call.starts_with(one));
        stage.media.inside().calls.iter().filter(is_wanted).cloned().collect()
    };
    assert!(order[0].starts_with("create plain") && order[1].starts_with("connect plain"));
    assert!(order[2].starts_with("consume"), "{order:?}");
    let (status, text) = http(stage.port, "GET", &url, "").await;
    assert!(status == 200 && text.contains("#EXTINF:"), "{status} {text}");
    let segment = text.lines().find(|line| line.ends_with(".ts")).unwrap();
    let (status, _) = http(stage.port, "HEAD", &format!("/hls/r/{segment}"), "").await;
    assert_eq!(status, 200);
    bob.must("stopBroadcast", json!({ "kind": "hls" })).await;
    let ended = changed(&mut ada, "ended").await;
    let (_, whole) = http(stage.port, "GET", ended["wholeUrl"].as_str().unwrap(), "").await;
    assert!(whole.contains("#EXT-X-PLAYLIST-TYPE:VOD") && whole.ends_with("#EXT-X-ENDLIST\n"));
    let listed: f64 = whole
        .lines()
        .filter_map(|line| line.strip_prefix("#EXTINF:")?.trim_end_matches(',').parse::<f64>().ok())
        .sum();
    let told = ended["durationMs"].as_f64().unwrap() / 1_000.0;
    assert!((listed - told).abs() < 0.6, "{listed} s of {told} s");
    place.nothing_is_left().await;
}

#[tokio::test]
async fn recordings_have_their_length_and_say_who_was_there() {
    let place = Place::new(|_| {}).await;
    let stage = &place.stage;
    let mut people = Vec::new();
    for (room, format) in [("r1", "mp4"), ("r2", "webm"), ("r3", "mkv")] {
        let mut client = stage.connect().await;
        let wanted = json!({ "roomId": room, "participantId": "ada", "name": "Ada" });
        client.must("joinRoom", wanted).await;
        client.must("startBroadcast", json!({ "kind": "recording", "format": format })).await;
        people.push((client, format));
    }
    for (client, _) in &mut people {
        changed(client, "live").await;
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    for (client, _) in &mut people {
        client.must("stopBroadcast", json!({ "kind": "recording" })).await;
    }
    for (client, format) in &mut people {
        let ended = changed(client, "ended").await;
        let told = ended["durationMs"].as_f64().unwrap() / 1_000.0;
        let url = ended["url"].as_str().unwrap();
        let path = place.folder.join("out").join(url.trim_start_matches('/'));
        let probed = ffprobe(&path);
        let long: f64 = probed["format"]["duration"].as_str().unwrap().parse().unwrap();
        assert!((long - told).abs() < told * 0.05, "{format}: {long} s of {told} s");
        assert_eq!(probed["streams"].as_array().unwrap().len(), 2);
        let (status, about) =
            http(stage.port, "GET", ended["aboutUrl"].as_str().unwrap(), "").await;
        let about: Value = serde_json::from_str(&about).unwrap();
        assert_eq!((status, &about["state"]), (200, &json!("ready")));
        assert_eq!(about["participants"][0]["name"], "Ada");
        let listed = client.must("listRecordings", json!({})).await;
        assert_eq!(listed["recordings"][0]["url"], url);
        assert_eq!(http(stage.port, "HEAD", url, "").await.0, 200);
    }
    place.nothing_is_left().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_said_at_once() {
    let place = Place::new(|settings| settings.ffmpeg = "/no/such/ffmpeg".into()).await;
    let mut nobody = place.stage.connect().await;
    assert_eq!(nobody.refused("startBroadcast", json!({})).await, "not_in_room");
    let (mut ada, _) = place.stage.join("ada").await;
    assert_eq!(ada.refused("startBroadcast", json!({})).await, "ffmpeg_missing");
    assert_eq!(ada.refused("stopBroadcast", json!({})).await, "not_found");
    for wrong in [json!({ "kind": "film" }), json!({ "layout": 3 }), json!({ "format": "avi" })] {
        assert_eq!(ada.refused("startBroadcast", wrong).await, "invalid_request");
    }
    place.nothing_is_left().await;
    let off = Stage::new().await;
    let (mut ada, _) = off.join("ada").await;
    assert_eq!(ada.refused("startBroadcast", json!({})).await, "unsupported");
}

#[tokio::test]
async fn a_room_at_two_media_hosts_is_shown_whole() {
    let folder = std::env::temp_dir().join(format!("ironcast-broadcasts-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let ffmpeg = folder.join("program");
    std::fs::write(&ffmpeg, SCRIPT).unwrap();
    std::fs::set_permissions(&ffmpeg, std::fs::Permissions::from_mode(0o755)).unwrap();
    let broadcast = broadcast::Settings { ffmpeg, ..settings(&folder) };
    let spread = Settings { people_per_host: 1, broadcast, ..quick() };
    let Two { stage, one, two } = Two::with(spread, [0.0, 0.5]).await;
    let place = Place { folder, stage };
    let (mut ada, _, first) = place.stage.join_sending("ada").await;
    let (_bob, _, second) = place.stage.join_sending("bob").await;
    assert_eq!((one.inside().producers.len(), two.inside().producers.len()), (1, 1));
    ada.must("startBroadcast", json!({ "kind": "hls", "layout": "grid" })).await;
    one.until("both are taken at the room's own host", |inside| {
        let seen: Vec<_> = inside.consumers.values().map(|it| it.producer.clone()).collect();
        [&first, &second].iter().all(|track| seen.contains(track))
    })
    .await;
    assert_eq!((two.times(&format!("pipe {second}")), two.inside().consumers.len()), (1, 0));
    ada.must("stopBroadcast", json!({})).await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn there_are_no_more_than_allowed_and_one_of_a_kind() {
    let place = Place::scripted(SCRIPT, |settings| settings.at_once_max = 1).await;
    let (mut ada, _) = place.stage.join("ada").await;
    ada.must("startBroadcast", json!({})).await;
    assert_eq!(ada.refused("startBroadcast", json!({})).await, "already_exists");
    let recording = json!({ "kind": "recording" });
    assert_eq!(ada.refused("startBroadcast", recording).await, "no_capacity");
    ada.must("stopBroadcast", json!({})).await;
    changed(&mut ada, "ended").await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn steps_that_were_taken_are_undone_when_one_fails() {
    // FFmpeg ends at once: the transport that was made before it goes again.
    let script = "#!/bin/sh\necho 'no such option' >&2\nexit 1\n";
    let place = Place::scripted(script, |_| {}).await;
    let (mut ada, _, _) = place.stage.join_sending("ada").await;
    ada.must("startBroadcast", json!({})).await;
    let failed = changed(&mut ada, "failed").await;
    assert_eq!(failed["error"]["code"], "ffmpeg_failed");
    place.nothing_is_left().await;
    assert!(place.find("input.sdp").is_empty());
    place.stage.media.until("the transport is gone", |inside| inside.transports.len() == 1).await;
    // The media server goes away: what runs goes on for a while, and then is told to have failed.
    let place = Place::scripted(SCRIPT, |_| {}).await;
    let (mut ada, _) = place.stage.join("ada").await;
    place.stage.media.go_away();
    ada.must("startBroadcast", json!({})).await;
    let failed = changed(&mut ada, "failed").await;
    assert_eq!(failed["error"]["code"], "media_unavailable");
    place.stage.media.come_back();
    place.nothing_is_left().await;
    // The call is as it was.
    ada.must("heartbeat", json!({})).await;
}

#[tokio::test]
async fn an_ffmpeg_that_is_killed_is_followed_by_another() {
    let place = Place::new(|_| {}).await;
    let (mut ada, _) = place.stage.join("ada").await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut ada, "live").await;
    let pid = place.processes()[0];
    let kill = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(kill.unwrap().success());
    let interrupted = changed(&mut ada, "interrupted").await;
    assert_eq!(interrupted["error"]["code"], "ffmpeg_failed");
    changed(&mut ada, "live").await;
    let (_, text) = http(place.stage.port, "GET", "/hls/r/index.m3u8", "").await;
    assert!(text.contains("#EXT-X-DISCONTINUITY\n"), "{text}");
    ada.must("stopBroadcast", json!({})).await;
    changed(&mut ada, "ended").await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_full_disk_ends_a_recording_and_leaves_what_there_is() {
    let place = Place::new(|settings| settings.disk_bytes_max = 2_000).await;
    let (mut ada, _) = place.stage.join("ada").await;
    ada.must("startBroadcast", json!({ "kind": "recording" })).await;
    let failed = changed(&mut ada, "failed").await;
    assert_eq!(failed["error"]["code"], "disk_full");
    let url = failed["url"].as_str().unwrap().trim_start_matches('/').to_owned();
    ffprobe(&place.folder.join("out").join(url));
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_broadcast_outlives_its_router_and_ends_with_its_room() {
    let place = Place::scripted(SCRIPT, |_| {}).await;
    let media = Arc::clone(&place.stage.media);
    let (mut ada, _) = place.stage.join("ada").await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut ada, "live").await;
    let before = place.processes();
    let router = media.inside().routers.keys().next().unwrap().clone();
    {
        let mut inside = media.inside();
        inside.routers.clear();
        inside.transports.clear();
        inside.plain_ports.clear();
    }
    media.report(MediaEvent::RoutersDied { router_ids: vec![router], reason: "test".into() });
    ada.event_where("error", |error| error["rejoin"] == true).await;
    let (mut ada, joined) = place.stage.join("ada").await;
    assert_eq!(joined["broadcasts"][0]["kind"], "hls");
    media.until("the new router feeds it", |inside| !inside.plain_ports.is_empty()).await;
    assert_eq!(place.processes(), before, "by the same FFmpeg");
    ada.must("leaveRoom", json!({})).await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn who_comes_and_goes_needs_no_other_ffmpeg() {
    let place = Place::scripted(SCRIPT, |_| {}).await;
    let media = Arc::clone(&place.stage.media);
    let (mut ada, _, _) = place.stage.join_sending("ada").await;
    ada.must("startBroadcast", json!({ "layout": "speaker" })).await;
    changed(&mut ada, "live").await;
    let before = place.processes();
    let mut sound = json!({ "kind": "audio", "rtpParameters": rtp_parameters() });
    sound["rtpParameters"]["mid"] = json!("1");
    sound["rtpParameters"]["codecs"][0] =
        json!({ "mimeType": "audio/opus", "payloadType": 100, "clockRate": 48000, "channels": 2 });
    for name in ["bob", "cem"] {
        let (mut other, _, _) = place.stage.join_sending(name).await;
        let produced = other.must("produce", sound.clone()).await;
        let id = produced["id"].as_str().unwrap().to_owned();
        let has = |i: &crate::fake_media::Inside| i.consumers.values().any(|c| c.producer == id);
        media.until("it is consumed", has).await;
        other.must("pauseProducer", json!({ "producerId": id })).await;
        other.must("leaveRoom", json!({})).await;
        media.until("it is not any more", |i| !has(i)).await;
    }
    assert_eq!(place.processes(), before);
    ada.must("stopBroadcast", json!({})).await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn a_camera_that_gives_no_key_frame_is_told_and_not_waited_for() {
    let place = Place::scripted(SCRIPT, |_| {}).await;
    let (mut ada, _, _) = place.stage.join_sending("ada").await;
    ada.must("startBroadcast", json!({})).await;
    changed(&mut ada, "live").await;
    let is_told = |told: &Value| told["error"]["code"] == "no_key_frame";
    let told = ada.event_where("broadcast-changed", is_told).await;
    assert_eq!((&told["participantId"], &told["state"]), (&json!("ada"), &json!("live")));
    let calls = place.stage.media.inside().calls.clone();
    let asked = calls.iter().filter(|call| *call == "key frame").count();
    assert!(asked > 2, "asked for {asked} times");
    ada.must("stopBroadcast", json!({})).await;
    changed(&mut ada, "ended").await;
    place.nothing_is_left().await;
}

#[tokio::test]
async fn two_who_talk_directly_go_through_the_server_while_they_are_watched() {
    let mut place = Place::scripted(SCRIPT, |_| {}).await;
    let settings = Settings {
        broadcast: place.stage.service.broadcasts.settings.clone(),
        ways: Rules { p2p: true, stay: Duration::ZERO, ..Rules::default() },
        ..quick()
    };
    place.stage = Stage::with(settings, FakeMedia::new()).await;
    let (mut ada, joined) = place.stage.join("ada").await;
    let (mut bob, _) = place.stage.join("bob").await;
    assert_eq!(joined["mode"], "p2p");
    ada.must("startBroadcast", json!({})).await;
    for (mode, then) in [("sfu", "stopBroadcast"), ("p2p", "heartbeat")] {
        for one in [&mut ada, &mut bob] {
            let switch = one.event_where("call:mode-switch", |it| it["mode"] == mode).await;
            let has = json!({ "mode": mode, "success": true, "switchId": switch["switchId"] });
            one.must("call:mode-switched", has).await;
        }
        let is_done = |it: &Value| it["mode"] == mode && it["success"] == true;
        ada.event_where("call:mode-switched", is_done).await;
        if mode == "sfu" {
            changed(&mut ada, "live").await;
        }
        ada.must(then, json!({})).await;
    }
    place.nothing_is_left().await;
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

#[tokio::test]
async fn after_a_hundred_random_restarts_nothing_is_left() {
    let place = Arc::new(Place::scripted(SCRIPT, |_| {}).await);
    let rooms = (0..4_u64).map(|number| {
        let place = Arc::clone(&place);
        tokio::spawn(async move {
            let mut dice = Dice(0x1234_5678 + number * 7_919);
            let mut client = place.stage.connect().await;
            client.must("joinRoom", json!({ "roomId": format!("room-{number}") })).await;
            for _ in 0..25 {
                let kind = ["hls", "recording"][usize::try_from(dice.roll(2)).unwrap()];
                let layout = ["speaker", "grid"][usize::try_from(dice.roll(2)).unwrap()];
                let wanted = json!({ "kind": kind, "layout": layout });
                client.must("startBroadcast", wanted).await;
                // At whatever step it is by then.
                tokio::time::sleep(Duration::from_millis(dice.roll(250))).await;
                if dice.roll(4) == 0 {
                    for pid in place.processes() {
                        let pid = pid.to_string();
                        let _ = std::process::Command::new("kill").args(["-9", &pid]).status();
                    }
                }
                client.ask("stopBroadcast", json!({ "kind": kind })).await;
                let is_over = |told: &Value| told["state"] == "ended" || told["state"] == "failed";
                client.event_where("broadcast-changed", is_over).await;
            }
        })
    });
    for room in rooms.collect::<Vec<_>>() {
        room.await.unwrap();
    }
    place.nothing_is_left().await;
    let calls = place.stage.media.inside().calls.clone();
    let made = calls.iter().filter(|call| call.starts_with("create plain")).count();
    assert!(made > 30, "{made} of a hundred came as far as to have a transport");
}
