//! What an operator sees: the metrics that dashboard and alerts speak of, the command's tables, logs
//! for programs.

use std::{collections::BTreeSet, path::Path};

use ironcast_load::{VideoOptions, call::ConsumeOptions};
use ironcast_process_tests::{Pair, eventually};
use serde_json::{Value, json};

use crate::common::OneToOne;

/// A metric's name, and the values that a label of it is compared with.
fn words(text: &str) -> BTreeSet<String> {
    let is_part = |one: char| one.is_ascii_alphanumeric() || one == '_';
    text.split(|one| !is_part(one)).map(str::to_owned).collect()
}

#[tokio::test]
async fn every_metric_that_the_dashboard_and_the_alerts_name_is_there() {
    let options = VideoOptions::single(500_000);
    let call = OneToOne::start(options, &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    // Something for each counter that begins with its first label.
    call.pair.refused("GET", "/v1/routers/nobody", Value::Null).await;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/prometheus");
    let mut wanted = BTreeSet::new();
    for name in ["ironcast.rules.yml", "dashboard.json"] {
        let text = std::fs::read_to_string(folder.join(name)).expect("it is there");
        wanted.extend(words(&text).into_iter().filter(|word| word.starts_with("ironcast_")));
        // Values of labels that are compared as they are: `name="..."`, `reason="..."`.
        for label in ["name=\"", "name=\\\"", "reason=\""] {
            let values = text.split(label).skip(1).filter_map(|rest| rest.split('"').next());
            wanted.extend(values.map(|value| value.trim_end_matches('\\').to_owned()));
        }
    }
    wanted.retain(|word| !word.is_empty());
    assert!(wanted.len() > 25, "{wanted:?}");
    // Some are known when the worker's figures of a whole second have come.
    eventually("a second is over", || async {
        call.pair.metrics().await.contains("ironcast_worker_forwarding_delay_seconds_count")
            && call.pair.metric("ironcast_worker_packets_out_per_second").await > 0.0
    })
    .await;
    let known = words(&call.pair.metrics().await);
    let missing: Vec<_> = wanted.difference(&known).collect();
    assert!(missing.is_empty(), "no such metric: {missing:?}");
    let metrics = call.pair.metrics().await;
    let delay = "ironcast_worker_forwarding_delay_seconds_count{worker=\"0\"} ";
    let count = metrics.lines().find_map(|line| line.strip_prefix(delay)).expect("a histogram");
    assert!(count.parse::<f64>().expect("a number") > 0.0);
}

#[tokio::test]
async fn the_command_lists_shows_and_closes() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let pair = &call.pair;
    let (code, said, _) = pair.ironcast(&["ls"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("dataplane connected") && said.contains("WORKER"), "{said}");
    let (_, said, _) = pair.ironcast(&["ls", "participants"]).await;
    let people: Vec<_> = said.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(people, ["PARTICIPANT", "alice", "bob"], "{said}");
    let (_, said, _) = pair.ironcast(&["ls", "routers", "--json"]).await;
    let routers: Value = serde_json::from_str(&said).expect("JSON");
    let counts = json!({ "participants": 2, "transports": 4, "producers": 1, "consumers": 1 });
    assert_eq!((&routers[0]["id"], &routers[0]["counts"]), (&json!("room"), &counts));
    // The beginning of an id is enough.
    let (code, said, _) = pair.ironcast(&["show", "router", "ro"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("video/VP8") && said.contains("alice"), "{said}");
    let (code, said, _) = pair.ironcast(&["stats", "participant", "bob"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("b/s") && said.contains("connected"), "{said}");
    let (code, _, complaint) = pair.ironcast(&["show", "router", "nobody"]).await;
    assert_eq!(code, 3);
    assert!(complaint.contains("there is no router \"nobody\""), "{complaint}");
    // Nobody is asked here, so a beginning of an id is not enough to close.
    let (code, _, complaint) = pair.ironcast(&["close", "router", "ro"]).await;
    assert_eq!(code, 3);
    assert!(complaint.contains("--yes"), "{complaint}");
    let (code, said, _) = pair.ironcast(&["close", "participant", "alice"]).await;
    assert_eq!((code, said.trim()), (0, "closed participant alice (2 transports)"));
    let (code, said, _) = pair.ironcast(&["close", "router", "room"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("closed router room (2 transports"), "{said}");
    let (code, _, complaint) = pair.ironcast(&["ls", "--url", "https://127.0.0.1:1"]).await;
    assert_eq!(code, 4, "{complaint}");
}

#[tokio::test]
async fn the_host_is_seen_at_a_glance() {
    let call = OneToOne::start(VideoOptions::default(), &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let send = call.alice.send.id.clone();
    eventually("what moves is on top", || async {
        let top = call.pair.call("GET", "/v1/top", Value::Null).await;
        let is_hot = |one: &Value| one["transportId"] == send && one["recvBitrate"] != 0;
        let transports = top["transports"].as_array().expect("a list");
        top["routers"][0]["id"] == "room" && transports.iter().any(is_hot)
    })
    .await;
    let (code, said, _) = call.pair.ironcast(&["top"]).await;
    assert_eq!(code, 0);
    assert!(said.contains("1 rooms  2 people") && said.contains(&send[..16]), "{said}");
    let wanted = ["serving", "worker", "router", "transport"];
    let (code, shown) = call.pair.ironcast_on_terminal("top", &wanted, "q").await;
    assert_eq!(code, 0, "{shown}");
    assert!(
        shown.contains("\u{1b}[?1049h") && shown.contains("\u{1b}[?1049l"),
        "the screen is given back"
    );
}

/// What tshark makes of a file: a line a packet, the fields between tabs.
fn tshark(file: &Path, filter: &str, fields: &[&str]) -> Vec<Vec<String>> {
    let mut command = std::process::Command::new("tshark");
    command.arg("-r").arg(file).args(["-d", "udp.port==1-65535,rtp", "-Y", filter]);
    command.args(["-T", "fields"]).args(fields.iter().flat_map(|field| ["-e", field]));
    let output = command.output().expect("tshark (tests/run installs it)");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(|line| line.split('\t').map(str::to_owned).collect()).collect()
}

#[tokio::test]
async fn a_transport_is_captured_in_a_running_call() {
    let options = VideoOptions::single(500_000);
    let call = OneToOne::start(options, &ConsumeOptions::default()).await;
    call.bob_sees("frames", |stats| stats.decodable_frames >= 5).await;
    let pair = &call.pair;
    let consumers = pair.call("GET", "/v1/consumers", Value::Null).await;
    let consumer = &consumers["items"][0];
    let ssrc = consumer["rtpParameters"]["encodings"][0]["ssrc"].as_u64().expect("an SSRC");
    let id = consumer["transportId"].as_str().expect("an id");
    let file = pair.state_dir().join("headers.pcapng");
    let name = file.to_str().expect("a name");
    // Headers alone, and with what they carry.
    for more in [None, Some("--payload")] {
        let mut arguments = vec!["capture", "--transport", id, "-o", name, "--time", "2s"];
        arguments.extend(more);
        let (code, _, said) = pair.ironcast(&arguments).await;
        assert_eq!(code, 0, "{said}");
        let fields = ["rtp.seq", "frame.cap_len", "frame.len", "ip.dst"];
        let media = tshark(&file, &format!("rtp.ssrc == {ssrc}"), &fields);
        let numbers: Vec<u16> = media.iter().map(|one| one[0].parse().expect("a number")).collect();
        // 30 frames a second, and a packet each at least.
        assert!(numbers.len() > 10, "{numbers:?}");
        assert!(numbers.windows(2).all(|two| two[1] == two[0].wrapping_add(1)), "{numbers:?}");
        let is_whole = |one: &Vec<String>| one[1] == one[2];
        let whole = media.iter().filter(|one| is_whole(one)).count();
        assert_eq!(whole, if more.is_some() { media.len() } else { 0 });
        assert!(media.iter().all(|one| one[3] == "127.0.0.1"));
    }
    // Bob's reports came in meanwhile.
    let reports = tshark(&file, "rtcp || rtp.p_type >= 72", &["frame.cap_len"]);
    assert!(!reports.is_empty());
    let (code, _, complaint) = pair.ironcast(&["capture", "-t", "nobody", "-o", name]).await;
    assert_eq!(code, 3, "{complaint}");
    assert!(
        tshark(&file, "frame", &["frame.len"]).len() > 10,
        "what was there is not written over"
    );
}

#[tokio::test]
async fn logs_are_for_programs_if_wanted_and_say_which_room() {
    let pair = Pair::builder()
        .set("log.format", "json")
        .set("log.level", "info,ironcast_controlplane::events=debug")
        .start()
        .await;
    pair.create_room("room").await;
    for name in ["dataplane", "controlplane"] {
        // Lines are written by a thread of their own: the last ones may be on their way.
        eventually("it has said what it did", || async {
            let log = pair.log(name);
            let Some((log, _)) = log.rsplit_once('\n') else { return false };
            let lines: Vec<Value> = log
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
                .collect();
            let told = |line: &Value| line["event"] == "router.created" && line["router"] == "room";
            let has_told = name == "dataplane" || lines.iter().any(told);
            has_told && lines.iter().any(|line| line["level"] == "INFO")
        })
        .await;
    }
}
