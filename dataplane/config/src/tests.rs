//! Each kind of message, and who wins over whom.

use std::path::Path;

use crate::{Config, DEFAULT_FILE, Difference, Door, PortRange, Sealer, Transmit};

fn message(text: &str) -> String {
    Config::from_text(DEFAULT_FILE, text).unwrap_err().to_string()
}

fn flags(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect()
}

fn with(environment: &[(&str, &str)], overrides: &[(&str, &str)]) -> Result<Config, String> {
    let environment = flags(environment);
    Config::load(None, environment, &flags(overrides)).map_err(|error| error.to_string())
}

#[test]
fn defaults_are_valid_and_print_as_a_file_that_loads_to_the_same() {
    let config = Config::from_text(DEFAULT_FILE, "").unwrap();
    assert_eq!(config, Config::default());
    let printed = config.to_toml();
    assert!(printed.contains("#ports = \"40000-49999\""), "{printed}");
    assert!(printed.contains("# First and last UDP port."), "{printed}");
    assert_eq!(Config::from_text(DEFAULT_FILE, &printed).unwrap(), config);
}

#[test]
fn what_was_changed_prints_without_the_comment_sign() {
    let changed = "[rtc]\nports = \"41000-41999\"\nannounced_address = [\"203.0.113.7\"]\n\
                   [dataplane]\ntransmit = \"sendmmsg\"\nsealer = \"ipsec-mb\"\n\
                   [control]\nplain = \"unix:/run/c.sock\"\n";
    let config = Config::from_text(DEFAULT_FILE, changed).unwrap();
    let printed = config.to_toml();
    assert!(printed.contains("\nports = \"41000-41999\"\n"), "{printed}");
    let again = Config::from_text(DEFAULT_FILE, &printed).unwrap();
    assert_eq!(again.rtc, config.rtc);
    assert_eq!(again.dataplane.transmit, Transmit::Sendmmsg);
    assert_eq!(again.dataplane.sealer, Sealer::IpsecMb);
    assert_eq!(again.control.plain, Some(Door::Unix("/run/c.sock".into())));
}

#[test]
fn every_default_can_be_written_out_and_read_back() {
    let printed = Config::default().to_toml();
    let uncommented: String = printed
        .lines()
        .filter(|line| !line.starts_with("# ") && !line.ends_with(" ="))
        .map(|line| format!("{}\n", line.trim_start_matches('#')))
        .collect();
    let config = Config::from_text(DEFAULT_FILE, &uncommented).unwrap();
    assert_eq!(config.to_toml(), printed);
}

#[test]
fn later_wins_file_then_environment_then_flags() {
    let folder = std::env::temp_dir().join(format!("ironcast-config-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("ironcast.toml");
    std::fs::write(&file, "[rtc]\nports = \"41000-41999\"\n[dataplane]\nworkers = 2\n").unwrap();
    let environment = || flags(&[("IRONCAST_DATAPLANE_WORKERS", "3")]);
    let from_file = Config::load(Some(&file), [], &[]).unwrap();
    assert_eq!(from_file.dataplane.workers, 2);
    let over_file = Config::load(Some(&file), environment(), &[]).unwrap();
    assert_eq!(over_file.dataplane.workers, 3);
    assert_eq!(over_file.rtc.ports, PortRange { first: 41_000, last: 41_999 });
    let overrides = flags(&[("dataplane.workers", "4")]);
    let over_all = Config::load(Some(&file), environment(), &overrides).unwrap();
    assert_eq!(over_all.dataplane.workers, 4);
    let by_variable = flags(&[("IRONCAST_CONFIG", file.to_str().unwrap())]);
    assert_eq!(Config::load(None, by_variable, &[]).unwrap().dataplane.workers, 2);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn words_of_the_environment_and_of_flags_need_no_quotes() {
    let config = with(
        &[("IRONCAST_LOG_LEVEL", "debug"), ("IRONCAST_CONTROL_LISTEN", "[::1]:9443")],
        &[
            ("rtc.announced_address", "203.0.113.7, 2001:db8::7"),
            ("signaling.tls", "true"),
            ("dataplane.cores", "2,3"),
        ],
    )
    .unwrap();
    assert_eq!(config.log.level, "debug");
    assert_eq!(config.control_url(), "https://[::1]:9443");
    assert_eq!(config.rtc.announced_address.len(), 2);
    assert!(config.signaling.tls);
    assert_eq!(config.worker_cores(&[0, 1]), [2, 3]);
}

#[test]
fn a_media_host_is_a_table_or_a_word() {
    let text = "[[signaling.hosts]]\nname = \"one\"\nurl = \"https://10.0.0.1:7443\"\nregion = \"eu\"\n\
                [[signaling.hosts]]\nurl = \"https://[::1]:7443\"\nca = \"/b.pem\"\n\
                pipe_url = \"https://10.9.0.1:7443\"\n";
    let tables = Config::from_text("f", text).unwrap();
    let words = "https://10.0.0.1:7443;name=one;region=eu, \
                 https://[::1]:7443;ca=/b.pem;pipe_url=https://10.9.0.1:7443";
    let words = with(&[], &[("signaling.hosts", words)]).unwrap();
    assert_eq!(tables.signaling.hosts, words.signaling.hosts);
    let hosts = tables.media_hosts();
    assert_eq!((&*hosts[0].name, hosts[0].region.as_deref()), ("one", Some("eu")));
    assert_eq!((&*hosts[1].name, hosts[1].ca.as_deref()), ("::1:7443", Some(Path::new("/b.pem"))));
    let pipes = hosts.iter().map(|host| host.pipe_url.as_deref());
    assert_eq!(pipes.collect::<Vec<_>>(), [None, Some("https://10.9.0.1:7443")]);
    let default = Config::default().media_hosts();
    assert_eq!((default.len(), &*default[0].name), (1, "default"));
    assert_eq!(default[0].url, Config::default().control_url());
}

#[test]
fn the_seeds_names_of_the_environment_are_understood() {
    let seeds = [
        ("MEDIASOUP_ANNOUNCED_IP", "203.0.113.7"),
        ("MEDIASOUP_RTC_MIN_PORT", "50000"),
        ("MEDIASOUP_RTC_MAX_PORT", "50999"),
        ("IRONCAST_STATE_DIR", "/var/lib/ironcast"),
    ];
    let config = with(&seeds, &[]).unwrap();
    assert_eq!(config.rtc.announced_address[0].to_string(), "203.0.113.7");
    assert_eq!(config.rtc.ports, PortRange { first: 50_000, last: 50_999 });
    assert_eq!(config.dataplane_socket(), Path::new("/var/lib/ironcast/dataplane.sock"));
    let ours = [("MEDIASOUP_RTC_MIN_PORT", "50000"), ("IRONCAST_RTC_PORTS", "1000-1999")];
    let error = with(&ours, &[]).unwrap_err();
    assert!(error.contains("the first port comes first"), "{error}");
    let both = [("MEDIASOUP_RTC_MIN_PORT", "45000"), ("IRONCAST_RTC_PORTS", "1000-1999")];
    assert_eq!(with(&both, &[]).unwrap().rtc.ports.first, 1_000);
    let wrong = with(&[("MEDIASOUP_RTC_MIN_PORT", "many")], &[]).unwrap_err();
    assert!(wrong.contains("environment MEDIASOUP_RTC_MIN_PORT=many"), "{wrong}");
}

#[test]
fn a_wrong_value_is_shown_in_its_line_with_an_example() {
    let expected = "\
ironcast.toml:3: rtc.ports cannot be \"40000:49999\"
    |
  3 | ports = \"40000:49999\" # ours
    |         ^^^^^^^^^^^^^
  expected the first and the last UDP port, such as \"40000-49999\"";
    assert_eq!(message("# one\n[rtc]\nports = \"40000:49999\" # ours\n"), expected);
}

#[test]
fn a_wrong_kind_of_value_says_which_kind() {
    for (text, help) in [
        ("[dataplane]\nworkers = \"3\"", "write it without quotes: 3"),
        ("[dataplane]\nworkers = 1.5", "expected a whole number"),
        ("[dataplane]\nworkers = -1", "expected a whole number from 0"),
        ("[rtc]\nports = 40000", "such as \"40000-49999\""),
        ("[rtc]\nports = \"49999-40000\"", "the first port comes first: \"40000-49999\""),
        ("[rtc]\nsingle_port = 70000", "expected a whole number from 0 to 65535"),
        ("[rtc]\nsingle_port = 0", "expected a UDP port from 1"),
        ("[rtc]\nannounced_address = \"203.0.113.7\"", "write a list: [\"203.0.113.7\"]"),
        ("[rtc]\nannounced_address = [\"example.org\"]", "names are not looked up"),
        ("[rtc]\nlisten = [\"eth0\"]", "expected an IP address"),
        ("[signaling]\ntls = \"yes\"", "expected true or false"),
        ("[control]\nlisten = \"localhost:7443\"", "write the address itself: \"127.0.0.1:7443\""),
        ("[control]\nlisten = \"127.0.0.1\"", "the port is missing, such as \"127.0.0.1:7443\""),
        ("[control]\nplain = \"0.0.0.0:80\"", "expected a loopback address:port or a unix socket"),
        ("[control]\nstate_dir = 5", "expected a path in quotes"),
        (
            "[dataplane]\ntransmit = \"uring\"",
            "expected one of \"io_uring\", \"sendmmsg\", \"xdp\"",
        ),
        ("[log]\nlevel = \"loud\"", "expected one of \"off\", \"error\""),
        ("[signaling]\ncontrol_url = \"127.0.0.1\"", "\"https://127.0.0.1:7443\""),
        ("[signaling]\nhosts = [{ name = \"a\" }]", "url = \"https://media-1.example:7443\""),
        ("[signaling]\nhosts = [{ url = \"https://a:1\", zone = \"b\" }]", "and no zone"),
        (
            "[signaling]\nhosts = [{ url = \"https://a:1\", name = \"b c\" }]",
            "which \"b c\" has not",
        ),
        ("[signaling]\nhosts = [\"https://a:1\", \"https://a:1\"]", "two hosts are called a:1"),
        (
            "[signaling]\nhosts = [{ url = \"https://a:1\", pipe_url = \"b:1\" }]",
            "url = \"https://media-1.example:7443\"",
        ),
        ("[signaling]\nregion_header = \"a b\"", "such as \"CF-IPCountry\""),
        ("[signaling]\nplacement = \"any\"", "expected one of \"least_loaded\", \"hash\""),
        ("[signaling]\ndatabase = \"mysql://db\"", "postgres://user:password@host/database"),
        ("[signaling]\nredis = \"127.0.0.1:6379\"", "\"redis://127.0.0.1:6379\""),
        ("[signaling]\nstun_servers = [\"stun.example.org\"]", "stun:host.example.org:3478"),
        ("[signaling]\nturn_servers = [\"turn://example.org\"]", "turn:host.example.org:3478"),
        ("[dataplane]\nturn_hold_us = 9000", "expected a whole number from 0 to 2000"),
    ] {
        let message = message(text);
        assert!(message.starts_with("ironcast.toml:2: "), "{message}");
        assert!(message.contains(help), "{text}\n{message}");
    }
}

#[test]
fn an_unknown_key_or_section_says_what_was_meant() {
    for (text, line, help) in [
        ("[rtc]\nport = \"1-2\"", 2, "did you mean `ports`?"),
        ("[rtc]\nannounced_adress = []", 2, "did you mean `announced_address`?"),
        ("[rtc]\nworkers = 2", 2, "`workers` belongs to [dataplane]"),
        ("[rtc]\nzebra = 2", 2, "[rtc] has ports, single_port"),
        ("[datplane]\nworkers = 2", 1, "did you mean [dataplane]?"),
        ("[zebra]\nworkers = 2", 1, "the sections are rtc, dataplane, control"),
        ("workers = 2", 1, "it belongs to [dataplane]: dataplane.workers"),
        ("[rtc.ports]\nfirst = 1", 1, "such as \"40000-49999\""),
    ] {
        let message = message(text);
        assert!(message.starts_with(&format!("ironcast.toml:{line}: ")), "{message}");
        assert!(message.contains(help), "{text}\n{message}");
    }
}

#[test]
fn what_is_not_toml_is_named_with_its_line() {
    let message = message("[rtc]\nports = 40000-49999\n");
    assert!(message.starts_with("ironcast.toml:2: this is not TOML"), "{message}");
    assert!(message.contains("texts are in \"quotes\""), "{message}");
}

#[test]
fn all_problems_are_told_at_once() {
    let message = message("[rtc]\nports = 1\nport = 2\n[dataplane]\nworkers = true\n");
    for line in ["ironcast.toml:2:", "ironcast.toml:3:", "ironcast.toml:5:"] {
        assert!(message.contains(line), "{message}");
    }
}

#[test]
fn values_that_do_not_agree_point_to_the_one_that_was_set() {
    for (text, what) in [
        ("[rtc]\nports = \"5000-5001\"\n[dataplane]\nworkers = 3", "2 ports are too few"),
        ("[dataplane]\nworkers = 3\ncores = [1]", "3 workers on 1 cores"),
        ("[rtc]\nannounced_address = [\"203.0.113.7:3478\"]", "names a port"),
        ("[control]\ntls_cert = \"a.pem\"", "control.tls_key is not"),
        ("[signaling]\ntls_key = \"a.pem\"", "signaling.tls_cert is not"),
        ("[signaling]\ncontrol_key = \"a.pem\"", "signaling.control_cert is not"),
        ("[signaling]\ncontrol_cert = \"a.pem\"", "signaling.control_key is not"),
        ("[signaling]\nturn_servers = [\"turn:a.org\"]", "signaling.turn_secret_file is not"),
        ("[control]\nlisten = \"0.0.0.0:7443\"", "would take commands from anyone"),
    ] {
        let message = message(text);
        assert!(message.starts_with("ironcast.toml:2: "), "{message}");
        assert!(message.contains(what), "{text}\n{message}");
    }
    assert!(
        Config::from_text("f", "[control]\nlisten = \"0.0.0.0:7443\"\ntoken_file = \"t\"").is_ok()
    );
    let single = "[rtc]\nsingle_port = 3478\nannounced_address = [\"203.0.113.7:3478\"]";
    assert!(Config::from_text("f", single).is_ok());
}

#[test]
fn a_wrong_variable_or_flag_is_named() {
    let variable = with(&[("IRONCAST_RTC_PROTS", "1-2")], &[]).unwrap_err();
    assert!(variable.starts_with("environment IRONCAST_RTC_PROTS=1-2: "), "{variable}");
    assert!(variable.contains("did you mean `ports`?"), "{variable}");
    let others = with(&[("IRONCAST_BENCH_PEERS", "5"), ("IRONCAST_X", "")], &[]);
    assert!(others.is_ok(), "a variable of another part is not judged here");
    let flag = with(&[], &[("rtc.ports", "")]).unwrap_err();
    assert!(flag.starts_with("flag --set rtc.ports=: rtc.ports cannot be empty"), "{flag}");
    let section = with(&[], &[("rct.ports", "1-2")]).unwrap_err();
    assert!(section.contains("did you mean [rtc]?"), "{section}");
    let shape = crate::parse_override("rtc.ports").unwrap_err().to_string();
    assert!(shape.contains("write section.key=value"), "{shape}");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Some(Path::new("/nowhere/i.toml")), [], &[]).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/i.toml: the file cannot be read"), "{error}");
    assert!(error.contains("ironcast config > ironcast.toml"), "{error}");
}

#[test]
fn differences_are_named_with_both_values() {
    let old = with(&[], &[("log.level", "warn")]).unwrap();
    let new = with(&[], &[("log.level", "info"), ("control.token_file", "/t")]).unwrap();
    assert!(old.differences(&old).is_empty());
    let told = |setting: &str, from: Option<&str>, to: Option<&str>| Difference {
        setting: setting.into(),
        from: from.map(str::to_owned),
        to: to.map(str::to_owned),
    };
    let expected = [
        told("control.token_file", None, Some("\"/t\"")),
        told("log.level", Some("\"warn\""), Some("\"info\"")),
    ];
    assert_eq!(old.differences(&new), expected);
}

#[test]
fn ports_are_cut_into_equal_parts() {
    let ports = PortRange { first: 40_000, last: 49_999 };
    assert_eq!(ports.slice(0, 2), Some(PortRange { first: 40_000, last: 44_999 }));
    assert_eq!(ports.slice(1, 2), Some(PortRange { first: 45_000, last: 49_999 }));
    assert_eq!(ports.slice(2, 3), Some(PortRange { first: 46_666, last: 49_998 }));
    assert_eq!(ports.slice(2, 2), None);
    assert_eq!(ports.slice(0, 0), None);
    assert_eq!(PortRange { first: 1, last: 65_535 }.count(), 65_535);
    assert_eq!(PortRange { first: 5, last: 6 }.slice(0, 3), None);
}

#[test]
fn places_are_derived_from_the_state_directory() {
    let config = with(&[], &[("control.state_dir", "/s")]).unwrap();
    assert_eq!(config.dataplane_socket(), Path::new("/s/dataplane.sock"));
    assert_eq!(config.control_ca(), Path::new("/s/control-cert.pem"));
    assert_eq!(config.control_key(), Path::new("/s/control-key.pem"));
    assert_eq!(config.page_url(), "http://localhost:8080/");
    let open = with(&[], &[("signaling.listen", "0.0.0.0:443"), ("signaling.tls", "true")]);
    assert_eq!(open.unwrap().page_url(), "https://localhost:443/");
    assert_eq!(config.worker_cores(&[0, 1, 2, 3]), [0, 1, 2, 3]);
    assert_eq!(config.worker_cores(&[0, 1, 2, 3, 8]), [0, 1, 2, 3]);
    let five = with(&[], &[("dataplane.workers", "5")]).unwrap();
    assert_eq!(five.worker_cores(&[0, 1, 2, 3, 8]), [0, 1, 2, 3, 8]);
    let three = with(&[], &[("dataplane.workers", "3")]).unwrap();
    assert_eq!(three.worker_cores(&[4, 5]), [4, 5, 4]);
}

/// The sources of the three processes that read settings; not the table of settings itself.
fn readers(folder: &Path, texts: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        let is_skipped = ["target", "tests", "benches", "node_modules"].contains(&name.as_str())
            || ["tests.rs", "sections.rs"].contains(&name.as_str());
        if is_skipped {
            continue;
        }
        if path.is_dir() {
            readers(&path, texts);
        } else if name.ends_with(".rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            if text.contains("ironcast_config") || path.ends_with("config/src/lib.rs") {
                texts.push(text);
            }
        }
    }
}

/// A setting that nothing reads is a promise that nobody keeps.
#[test]
fn every_setting_is_read_by_something() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut texts = Vec::new();
    for folder in ["dataplane", "controlplane"] {
        readers(&root.join(folder), &mut texts);
    }
    let is_read = |key: &str| {
        let access = format!(".{key}");
        let ends = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_');
        texts
            .iter()
            .any(|text| text.match_indices(&access).any(|(at, _)| ends(&text[at + access.len()..])))
    };
    assert!(!is_read("no_such_setting"));
    let config = Config::default();
    for section in config.sections() {
        for key in section.keys() {
            assert!(is_read(key.name), "nothing reads {}.{}", section.name(), key.name);
        }
    }
}
