//! What keeps a process from starting is one sentence: what it is, which setting names it, and what to
//! do. Nothing else of the process is left.

use std::{net::UdpSocket, os::unix::fs::PermissionsExt as _, path::Path};

use ironcast_process_tests::{Pair, Refusal};

/// Nobody's address here: of a network that is for documentation.
const FOREIGN: &str = "203.0.113.9";

/// The sentence has all of these words, and no panic is near it.
fn says(refusal: &Refusal, words: &[&str]) {
    let said = &refusal.said;
    for word in words {
        assert!(said.contains(word), "no {word:?} in:\n{said}");
    }
    assert!(!said.contains("panicked") && !said.contains("backtrace"), "{said}");
    let sentences = said.lines().filter(|line| words.iter().any(|word| line.contains(word)));
    assert!(sentences.count() <= 4, "too much to read:\n{said}");
}

/// A pair whose dataplane runs, and nothing else: what is started beside it may not use its ports.
async fn beside() -> Pair {
    Pair::builder().without_control().start().await
}

fn folder(pair: &Pair, name: &str) -> String {
    pair.state_dir().join(name).display().to_string()
}

#[tokio::test]
async fn a_configuration_that_cannot_be_read_or_understood() {
    let pair = beside().await;
    let broken = pair.state_dir().join("broken.toml");
    std::fs::write(&broken, "[rtc\nports = 1\n").expect("a file");
    for name in ["dataplane", "controlplane", "signaling"] {
        let refused = pair.refused_start(name, &[], &[("rtc.prts", "1-2")]).await;
        says(&refused, &[&format!("ironcast-{name}: "), "`prts`", "did you mean `ports`?"]);
        let nowhere = ["env", "IRONCAST_CONFIG=/nowhere/ironcast.toml"];
        let refused = pair.refused_start(name, &nowhere, &[]).await;
        says(&refused, &["/nowhere/ironcast.toml: the file cannot be read", "--config"]);
        let broken = format!("IRONCAST_CONFIG={}", broken.display());
        let refused = pair.refused_start(name, &["env", &broken], &[]).await;
        says(&refused, &["broken.toml:1: this is not TOML"]);
    }
}

#[tokio::test]
async fn a_state_directory_that_cannot_be_written_to() {
    let pair = beside().await;
    // A file stands where a folder would have to be made: refused to everybody, root too.
    for name in ["dataplane", "controlplane", "signaling"] {
        let others = [
            ("control.state_dir", "/proc/version/state"),
            ("rtc.ports", "33000-33009"),
            ("signaling.listen", "127.0.0.1:0"),
        ];
        let refused = pair.refused_start(name, &[], &others).await;
        says(&refused, &["/proc/version/state", "--set control.state_dir="]);
    }
}

#[tokio::test]
async fn addresses_and_ports_that_cannot_be_had() {
    let pair = Pair::start().await;
    let (api, ops) = (pair.api.to_string(), pair.ops.to_string());
    let free = "127.0.0.1:0";
    let taken = [("control.listen", &*api), ("control.ops", &*ops)];
    for (key, address) in taken {
        let mut others = vec![("control.listen", free), ("control.plain", free)];
        others.push(("control.ops", free));
        others.push((key, address));
        let refused = pair.refused_start("controlplane", &[], &others).await;
        says(&refused, &[&format!("{address} ({key}) is taken"), &format!("--set {key}=")]);
    }
    let refused = pair.refused_start("signaling", &[], &[("signaling.listen", &*ops)]).await;
    says(&refused, &["(signaling.listen) is taken", "--set signaling.listen="]);
    let foreign = format!("{FOREIGN}:0");
    let refused = pair.refused_start("signaling", &[], &[("signaling.listen", &*foreign)]).await;
    says(&refused, &[FOREIGN, "(signaling.listen) is not an address of this machine"]);

    let elsewhere = folder(&pair, "elsewhere");
    let dataplane = async |others: &[(&str, &str)]| {
        let mut all = vec![("control.state_dir", &*elsewhere)];
        all.extend_from_slice(others);
        pair.refused_start("dataplane", &[], &all).await
    };
    says(&dataplane(&[("rtc.listen", FOREIGN)]).await, &[FOREIGN, "(rtc.listen)", "Choose"]);
    let few = [("rtc.ports", "33000-33000"), ("dataplane.workers", "2")];
    says(&dataplane(&few).await, &["too few for 2 workers", "widen rtc.ports"]);
    let stranger = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let port = stranger.local_addr().expect("bound").port();
    let range = format!("{port}-{port}");
    let words = [&*format!("127.0.0.1:{port} (rtc.ports) is taken"), "--set rtc.ports="];
    says(&dataplane(&[("rtc.ports", &*range)]).await, &words);
    let single = dataplane(&[("rtc.single_port", &*port.to_string())]).await;
    says(
        &single,
        &[&format!("127.0.0.1:{port} (rtc.single_port) is taken"), "--set rtc.single_port="],
    );
}

#[tokio::test]
async fn another_dataplane_has_the_socket_or_the_ports() {
    let pair = beside().await;
    let refused = pair.refused_start("dataplane", &[], &[("rtc.ports", "33010-33019")]).await;
    says(&refused, &["another dataplane listens on", "dataplane.sock", "--set control.state_dir="]);
    let elsewhere = folder(&pair, "elsewhere");
    let refused = pair.refused_start("dataplane", &[], &[("control.state_dir", &*elsewhere)]).await;
    says(&refused, &["another Ironcast on this host uses the UDP ports", "--set rtc.ports="]);
    let long = folder(&pair, &"x".repeat(120));
    let others = [("rtc.ports", "33010-33019"), ("dataplane.socket", &*long)];
    let refused = pair.refused_start("dataplane", &[], &others).await;
    says(&refused, &["too long for a unix socket", "--set dataplane.socket="]);
}

#[tokio::test]
async fn a_start_that_is_refused_leaves_nothing() {
    let pair = Pair::start().await;
    let (api, ops) = (pair.api.to_string(), pair.ops.to_string());
    let nowhere = folder(&pair, "nowhere/file");
    let state = folder(&pair, "new");
    let free = "127.0.0.1:0";
    let doors = [("control.listen", free), ("control.plain", free), ("control.ops", free)];
    let refused: [(&str, &[(&str, &str)]); 7] = [
        ("controlplane", &[("control.listen", &api)]),
        ("controlplane", &[("control.ops", &ops)]),
        ("controlplane", &[("control.token_file", &nowhere)]),
        ("controlplane", &[("control.quotas", &nowhere)]),
        ("controlplane", &[("control.tls_cert", &nowhere), ("control.tls_key", &nowhere)]),
        ("dataplane", &[("rtc.listen", FOREIGN)]),
        ("signaling", &[("signaling.listen", &ops)]),
    ];
    for (name, others) in refused {
        let mut all = vec![("control.state_dir", &*state)];
        all.extend(doors.iter().filter(|_| name == "controlplane"));
        all.extend(others);
        let refusal = pair.refused_start(name, &[], &all).await;
        assert!(!Path::new(&state).exists(), "{others:?} made a folder: {}", refusal.said);
        assert!(!Path::new(&nowhere).parent().is_some_and(Path::exists), "{others:?}");
    }
}

#[tokio::test]
async fn certificates_and_proofs_that_are_not_there() {
    let pair = beside().await;
    let free = [("control.listen", "127.0.0.1:0"), ("control.ops", "127.0.0.1:0")];
    // In a folder that is not there, which nobody else makes.
    let nowhere = pair.state_dir().join("nowhere/file");
    let nowhere = nowhere.to_str().expect("a name");
    for key in ["token_file", "jwt_keys", "audit_file"] {
        let key = format!("control.{key}");
        let mut others = free.to_vec();
        others.push((&*key, nowhere));
        let refused = pair.refused_start("controlplane", &[], &others).await;
        says(&refused, &[&key, nowhere, "No such file"]);
    }
    let mut others = free.to_vec();
    others.extend([("control.tls_cert", nowhere), ("control.tls_key", nowhere)]);
    let refused = pair.refused_start("controlplane", &[], &others).await;
    says(&refused, &["control.tls_cert", nowhere, "No such file"]);
    let others = [
        ("signaling.listen", "127.0.0.1:0"),
        ("signaling.tls_cert", nowhere),
        ("signaling.tls_key", nowhere),
    ];
    let refused = pair.refused_start("signaling", &[], &others).await;
    says(&refused, &["certificate", nowhere, "No such file"]);
}

/// As somebody who may do nothing. Only root can become nobody.
#[tokio::test]
async fn what_a_user_may_not_do() {
    let pair = beside().await;
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|me| {
        use std::os::unix::fs::MetadataExt as _;
        me.uid() == 0
    });
    let nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let before = if is_root { &nobody[..] } else { &[] };
    // Nobody has to be able to run the program and to come to the folder.
    let open = std::fs::Permissions::from_mode(0o777);
    let reachable = runs_as(before);
    std::fs::set_permissions(pair.state_dir(), open).expect("ours");
    let low = "127.0.0.1:81";
    let may_all = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let is_low = may_all.is_ok_and(|first| first.trim().parse::<u16>().is_ok_and(|port| port > 81));
    if reachable && is_low {
        let state = folder(&pair, "nobody");
        let others = [("control.state_dir", &*state), ("control.listen", low)];
        let refused = pair.refused_start("controlplane", before, &others).await;
        says(
            &refused,
            &["127.0.0.1:81 (control.listen) is not allowed to this user", "CAP_NET_BIND"],
        );
        let others = [("control.state_dir", &*state), ("rtc.ports", "600-609")];
        let refused = pair.refused_start("dataplane", before, &others).await;
        says(&refused, &["(rtc.ports) is not allowed to this user", "--set rtc.ports="]);
    }
    // Locked memory of kernels that count it for rings, descriptors of all.
    let words = ["bash", "-c", "ulimit -n 16; exec \"$0\" \"$@\""];
    let socket = folder(&pair, "s");
    let others = [("rtc.ports", "33020-33029"), ("dataplane.socket", &*socket)];
    let refused = pair.refused_start("dataplane", &words, &others).await;
    says(&refused, &["open files", "LimitNOFILE"]);
}

/// Whether the programs can be run by a command that takes rights away.
fn runs_as(before: &[&str]) -> bool {
    let program = Path::new(&std::env::var_os("IRONCAST_BIN_DIR").unwrap_or_default())
        .join("ironcast-dataplane");
    let Some((first, words)) = before.split_first() else { return true };
    let status = std::process::Command::new(first)
        .args(words)
        .arg(program)
        .arg("--version")
        .stdout(std::process::Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
