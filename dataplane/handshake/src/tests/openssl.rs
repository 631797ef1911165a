//! OpenSSL's command as the peer, over real sockets, with the kinds of certificates that are about:
//! GStreamer and older gateways make RSA ones. Compares the keys that both sides export.

use std::{
    io::{BufRead, BufReader, Read},
    net::{SocketAddr, UdpSocket},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use super::*;

const WAIT: Duration = Duration::from_secs(20);
/// What both sides may use: OpenSSL's names.
const PROFILES: &str = "SRTP_AEAD_AES_256_GCM:SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80";

/// A certificate and its key in files of their own.
struct Identity {
    folder: PathBuf,
    fingerprint: Fingerprint,
}

impl Identity {
    fn new(key: &[&str]) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("ironcast-openssl-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let made = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=peer"])
            .args(key)
            .args(["-keyout", "key.pem", "-out", "cert.pem"])
            .current_dir(&folder)
            .output()
            .expect("openssl is installed (tests/run does it)");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let der = Command::new("openssl")
            .args(["x509", "-in", "cert.pem", "-outform", "DER"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, &der.stdout);
        Self { folder, fingerprint }
    }
}

impl Drop for Identity {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The running command; ended when this is dropped.
struct Peer {
    child: Child,
    /// It ends when its input does.
    _stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
}

impl Peer {
    fn start(identity: &Identity, arguments: &[&str]) -> Self {
        let mut child = Command::new("openssl")
            .args(arguments)
            .args(["-dtls1_2", "-cert", "cert.pem", "-key", "key.pem", "-use_srtp", PROFILES])
            .args(["-keymatexport", "EXTRACTOR-dtls_srtp", "-keymatexportlen", "88"])
            .current_dir(&identity.folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { _stdin: child.stdin.take(), child, lines }
    }

    /// What follows these words in a line that it has said or says soon.
    fn says(&self, words: &str) -> String {
        let (give_up, mut all) = (Instant::now() + WAIT, Vec::new());
        while Instant::now() < give_up {
            let Ok(line) = self.lines.recv_timeout(Duration::from_secs(1)) else { continue };
            if let Some((_, rest)) = line.split_once(words) {
                return rest.trim().to_owned();
            }
            all.push(line);
        }
        panic!("OpenSSL did not say {words:?}: {all:#?}");
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs our side until it has keys, or fails.
fn shake(ours: &mut DtlsAssociation, socket: &UdpSocket, mut to: Option<SocketAddr>) -> Output {
    let start = Instant::now();
    let now = || start.elapsed().as_nanos() as Nanos;
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = [0; 2_048];
    while start.elapsed() < WAIT {
        let mut result = None;
        while let Some(output) = ours.poll() {
            match output {
                Output::Datagram(bytes) => {
                    let to = to.expect("a client begins with somebody to speak to");
                    socket.send_to(&bytes, to).unwrap();
                }
                output => result = Some(output),
            }
        }
        if let Some(result) = result {
            return result;
        }
        if let Ok((len, from)) = socket.recv_from(&mut buffer) {
            to = Some(from);
            ours.handle_datagram(&buffer[..len], now());
        }
        if ours.deadline().is_some_and(|at| at <= now()) {
            ours.handle_timeout(now());
        }
    }
    panic!("neither keys nor a failure");
}

fn connects(key: &[&str], role: Role) {
    let theirs = Identity::new(key);
    let own = Certificate::generate().unwrap();
    let expected = [theirs.fingerprint.clone()];
    let mut ours = DtlsAssociation::new(&Config::default(), &own, role, &expected, 0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (peer, to) = if role == Role::Client {
        // Asks for our certificate, and takes one that nobody has signed.
        let peer = Peer::start(&theirs, &["s_server", "-accept", "127.0.0.1:0", "-verify", "1"]);
        let address = peer.says("ACCEPT").parse().unwrap();
        (peer, Some(address))
    } else {
        let address = socket.local_addr().unwrap().to_string();
        (Peer::start(&theirs, &["s_client", "-connect", &address]), None)
    };
    let Output::Connected(keys) = shake(&mut ours, &socket, to) else { panic!("no keys") };
    assert_eq!((keys.version, keys.suite), (Version::Dtls12, Suite::AeadAes256Gcm));
    let exported = peer.says("Keying material:");
    let byte = |at: usize| u8::from_str_radix(&exported[at..at + 2], 16).unwrap();
    let exported: Vec<u8> = (0..exported.len()).step_by(2).map(byte).collect();
    let (client, server) = MasterKey::from_dtls_export(keys.suite, &exported).unwrap();
    let expected = if role == Role::Client { (client, server) } else { (server, client) };
    assert_eq!((keys.local, keys.remote), expected);
}

#[test]
fn a_peer_with_an_rsa_certificate_connects_in_both_roles() {
    for key in ["rsa:2048", "rsa:4096"] {
        connects(&["-newkey", key], Role::Server);
        connects(&["-newkey", key], Role::Client);
    }
}

#[test]
fn a_peer_with_an_ecdsa_certificate_connects_in_both_roles() {
    for curve in ["ec_paramgen_curve:P-256", "ec_paramgen_curve:P-384"] {
        connects(&["-newkey", "ec", "-pkeyopt", curve], Role::Server);
        connects(&["-newkey", "ec", "-pkeyopt", curve], Role::Client);
    }
}

#[test]
fn another_certificate_than_the_signalled_one_is_refused() {
    let theirs = Identity::new(&["-newkey", "rsa:2048"]);
    let own = Certificate::generate().unwrap();
    let mut ours =
        DtlsAssociation::new(&Config::default(), &own, Role::Server, &own.fingerprints(), 0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let peer = Peer::start(&theirs, &["s_client", "-connect", &address]);
    assert_eq!(shake(&mut ours, &socket, None), Output::Failed(Failure::Fingerprint));
    drop(peer);
}
