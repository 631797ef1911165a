//! Handshakes in memory: between two of our associations over a link that loses and reorders, with
//! a clock moved by hand; and with `dtls`, an independent implementation, over a pipe.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::Duration,
};

use ::dtls::{
    config::{ClientAuthType, ExtendedMasterSecretType},
    conn::DTLSConn,
    crypto::Certificate as TheirCertificate,
    extension::extension_use_srtp::SrtpProtectionProfile,
};
use ironcast_core::{
    MS, Nanos, SECOND,
    srtp::{MasterKey, Suite},
};
use proptest::prelude::*;
use webrtc_util::{Conn, KeyingMaterialExporter, conn::conn_pipe::pipe};

use super::*;

mod endings;
mod openssl;
mod pool;
mod rsa;

/// A generator that gives the same numbers for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Two associations and what lies between them.
struct Pair {
    now: Nanos,
    sides: [DtlsAssociation; 2],
    outputs: [Vec<Output>; 2],
    /// By arrival, then by a number that keeps them apart: to whom, and what.
    flying: BTreeMap<(Nanos, u64), (usize, Vec<u8>)>,
    sent: u64,
    random: Random,
    loss_percent: u64,
    delay_max: Nanos,
    longest: usize,
    /// Handshake messages in the clear are cut at random on the way, with overlaps and repeats.
    cuts: bool,
}

fn association(
    config: &Config,
    own: &Certificate,
    role: Role,
    peer: &Certificate,
) -> DtlsAssociation {
    DtlsAssociation::new(config, own, role, &peer.fingerprints(), 0)
}

impl Pair {
    /// The first one is the client.
    fn new(client: &Config, server: &Config, seed: u64) -> Self {
        let (a, b) = (Certificate::generate().unwrap(), Certificate::generate().unwrap());
        Self::with(
            [association(client, &a, Role::Client, &b), association(server, &b, Role::Auto, &a)],
            seed,
        )
    }

    fn with(sides: [DtlsAssociation; 2], seed: u64) -> Self {
        Self {
            now: 0,
            sides,
            outputs: [vec![], vec![]],
            flying: BTreeMap::new(),
            sent: 0,
            random: Random(seed.wrapping_mul(2).wrapping_add(1)),
            loss_percent: 0,
            delay_max: 1,
            longest: 0,
            cuts: false,
        }
    }

    fn collect(&mut self) {
        for side in 0..2 {
            while let Some(output) = self.sides[side].poll() {
                let Output::Datagram(bytes) = output else {
                    self.outputs[side].push(output);
                    continue;
                };
                self.longest = self.longest.max(bytes.len());
                let parts = if self.cuts { self.cut(&bytes) } else { vec![bytes] };
                for bytes in parts {
                    self.sent += 1;
                    if self.random.below(100) >= self.loss_percent {
                        let arrival = self.now + 1 + self.random.below(self.delay_max);
                        self.flying.insert((arrival, self.sent), (1 - side, bytes));
                    }
                }
            }
        }
    }

    /// The same messages in other parts: of each some bytes twice, and some parts doubled.
    fn cut(&mut self, datagram: &[u8]) -> Vec<Vec<u8>> {
        let mut parts = vec![];
        let mut rest = datagram;
        while let Some((record, next)) = records::split_record(rest) {
            let whole = rest[..rest.len() - next.len()].to_vec();
            rest = next;
            let fragment = records::split_fragment(record.body);
            let Some((fragment, [])) = fragment.filter(|_| record.content == 22) else {
                parts.push(whole);
                continue;
            };
            let mut at = 0;
            while at < fragment.bytes.len() {
                let len = 1 + self.random.below(fragment.bytes.len() as u64) as usize;
                let from = at.saturating_sub(self.random.below(20) as usize);
                let to = (at + len).min(fragment.bytes.len());
                let (offset, bytes) = (fragment.offset + from, &fragment.bytes[from..to]);
                let part = records::Fragment { offset, bytes, ..fragment };
                for _ in 0..=self.random.below(2) {
                    parts.push(records::write_fragment(record.sequence, &part));
                }
                at = to;
            }
            if fragment.bytes.is_empty() {
                parts.push(whole);
            }
        }
        if !rest.is_empty() {
            parts.push(rest.to_vec());
        }
        parts
    }

    /// One arrival or one timer; false when nothing will happen any more, or too late.
    fn step(&mut self) -> bool {
        self.collect();
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let timer = self.sides.iter().filter_map(Association::deadline).min();
        let Some(next) = arrival.into_iter().chain(timer).min() else { return false };
        if next > 100 * SECOND {
            return false;
        }
        self.now = self.now.max(next);
        if arrival == Some(next) {
            let (_, (side, bytes)) = self.flying.pop_first().unwrap();
            self.sides[side].handle_datagram(&bytes, self.now);
        } else {
            for side in &mut self.sides {
                if side.deadline().is_some_and(|at| at <= self.now) {
                    side.handle_timeout(self.now);
                }
            }
        }
        self.collect();
        true
    }

    fn run(&mut self) {
        for _ in 0..10_000 {
            if self.keys().is_some() || !self.step() {
                return;
            }
        }
        panic!("the handshake does not end");
    }

    /// The keys of both.
    fn keys(&self) -> Option<[SrtpKeys; 2]> {
        let keys = |outputs: &[Output]| match outputs {
            [Output::Connected(keys), ..] => Some(keys.clone()),
            _ => None,
        };
        Some([keys(&self.outputs[0])?, keys(&self.outputs[1])?])
    }

    fn assert_connected(&self, version: Version) {
        let Some([client, server]) = self.keys() else { panic!("{:?}", self.outputs) };
        assert_eq!((client.version, server.version), (version, version));
        assert_eq!(client.suite, server.suite);
        assert_eq!((&client.local, &client.remote), (&server.remote, &server.local));
        assert_ne!(client.local, client.remote);
        assert_eq!((client.client, server.client), (true, false));
    }
}

fn only(version: Version) -> Config {
    Config { versions: vec![version], ..Config::default() }
}

#[test]
fn both_versions_connect_and_the_newer_one_is_preferred() {
    let any = Config::default();
    let (dtls12, dtls13) = (only(Version::Dtls12), only(Version::Dtls13));
    for (client, server, version) in [
        (&any, &any, Version::Dtls13),
        (&any, &dtls12, Version::Dtls12),
        (&dtls12, &any, Version::Dtls12),
        (&dtls13, &any, Version::Dtls13),
    ] {
        let mut pair = Pair::new(client, server, 1);
        pair.run();
        pair.assert_connected(version);
        assert!(pair.keys().unwrap()[0].suite.is_gcm());
        assert!(pair.longest <= any.mtu);
    }
}

#[test]
fn loss_and_disorder_only_cost_time() {
    for seed in 0..40 {
        for version in [Version::Dtls12, Version::Dtls13] {
            let mut pair = Pair::new(&only(version), &Config::default(), seed);
            pair.loss_percent = 25;
            pair.delay_max = 80 * MS;
            pair.run();
            pair.assert_connected(version);
        }
    }
}

#[test]
fn small_datagrams_are_enough() {
    let config = Config { mtu: 400, ..Config::default() };
    let mut pair = Pair::new(&config, &config, 3);
    pair.run();
    pair.assert_connected(Version::Dtls13);
    assert!(pair.longest <= 400);
}

#[test]
fn a_silent_peer_is_given_up() {
    let mut pair = Pair::new(&Config::default(), &Config::default(), 4);
    pair.loss_percent = 100;
    pair.run();
    // A server that never hears anything, too.
    for outputs in &pair.outputs {
        assert_eq!(*outputs, [Output::Failed(Failure::Timeout)]);
    }
    assert!(pair.now <= 31 * SECOND);
}

#[test]
fn a_wrong_certificate_fails_on_either_side() {
    let config = Config::default();
    let [a, b, other] = [(); 3].map(|()| Certificate::generate().unwrap());
    for version in [Version::Dtls12, Version::Dtls13] {
        let only = only(version);
        let client = association(&only, &a, Role::Client, &other);
        let mut pair = Pair::with([client, association(&config, &b, Role::Server, &a)], 5);
        pair.run();
        assert_eq!(pair.outputs[0], [Output::Failed(Failure::Fingerprint)]);
        assert!(!matches!(pair.outputs[1][..], [Output::Connected(_), ..]));

        let client = association(&only, &a, Role::Client, &b);
        let mut pair = Pair::with([client, association(&config, &b, Role::Server, &other)], 5);
        pair.run();
        assert_eq!(pair.outputs[1], [Output::Failed(Failure::Fingerprint)]);
    }
    let weak = [a.fingerprint(HashAlgorithm::Sha1)];
    let mut association = DtlsAssociation::new(&config, &b, Role::Client, &weak, 0);
    assert_eq!(association.poll(), Some(Output::Failed(Failure::NoFingerprint)));
    assert_eq!((association.poll(), association.deadline()), (None, None));
}

#[test]
fn profiles_that_are_not_allowed_fail() {
    let cm = Config { suites: vec![Suite::AesCm128HmacSha1_80], ..Config::default() };
    let mut pair = Pair::new(&Config::default(), &cm, 6);
    pair.run();
    assert_eq!(pair.outputs[1], [Output::Failed(Failure::NoCommonSuite)]);
    let mut pair = Pair::new(&cm, &Config::default(), 6);
    pair.run();
    assert_eq!(pair.outputs[0], [Output::Failed(Failure::NoCommonSuite)]);
}

#[test]
fn noise_between_the_datagrams_changes_nothing() {
    for seed in 0..20 {
        for version in [Version::Dtls12, Version::Dtls13] {
            let mut pair = Pair::new(&only(version), &Config::default(), seed);
            let mut random = Random(seed + 99);
            while pair.keys().is_none() && pair.step() {
                let len = random.below(200);
                let noise: Vec<u8> = (0..len).map(|_| random.below(256) as u8).collect();
                for side in &mut pair.sides {
                    side.handle_datagram(&noise, pair.now);
                    side.handle_datagram(&[], pair.now);
                }
            }
            pair.assert_connected(version);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Damaged copies of real datagrams: the handshake may fail by them, but nothing panics, it ends
    /// in time, and there are never keys on which the two disagree.
    #[test]
    fn damaged_copies_are_survived(
        seed in any::<u32>(),
        version in prop::sample::select(vec![Version::Dtls12, Version::Dtls13]),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..20),
    ) {
        let mut pair = Pair::new(&only(version), &Config::default(), seed.into());
        let mut damage = damage.into_iter();
        for _ in 0..2_000 {
            if pair.keys().is_some() || !pair.step() {
                break;
            }
            let Some((side, mut bytes)) = pair.flying.values().next().cloned() else { continue };
            let Some((at, flip)) = damage.next() else { continue };
            let at = at.index(bytes.len());
            bytes[at] ^= flip;
            pair.sides[side].handle_datagram(&bytes, pair.now);
            pair.sides[side].handle_datagram(&bytes[..at], pair.now);
        }
        if let Some([client, server]) = pair.keys() {
            prop_assert_eq!((client.local, client.remote), (server.remote, server.local));
        }
    }
}

/// After the handshake, what is not authenticated does not end the association.
#[test]
fn a_forged_alert_does_not_end_an_association() {
    for version in [Version::Dtls12, Version::Dtls13] {
        let mut pair = Pair::new(&only(version), &Config::default(), 9);
        pair.run();
        for (level, description) in [(1, 0), (2, 40)] {
            let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 99, 0, 2, level, description];
            for side in &mut pair.sides {
                side.handle_datagram(&alert, pair.now);
            }
        }
        pair.collect();
        assert!(pair.outputs.iter().all(|outputs| outputs.len() == 1), "{:?}", pair.outputs);
    }
}

const LABEL: &str = "EXTRACTOR-dtls_srtp";

fn their_config(certificate: TheirCertificate) -> ::dtls::config::Config {
    ::dtls::config::Config {
        certificates: vec![certificate],
        // Chromium's order.
        srtp_protection_profiles: vec![
            SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
            SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
        ],
        client_auth: ClientAuthType::RequireAnyClientCert,
        extended_master_secret: ExtendedMasterSecretType::Require,
        insecure_skip_verify: true,
        ..Default::default()
    }
}

/// Runs our side over a pipe until it has ended; returns its outputs other than datagrams.
async fn serve(mut ours: DtlsAssociation, conn: impl Conn) -> Vec<Output> {
    let start = tokio::time::Instant::now();
    let now = || start.elapsed().as_nanos() as Nanos;
    let mut outputs = vec![];
    let mut buffer = vec![0; 2048];
    loop {
        while let Some(output) = ours.poll() {
            match output {
                Output::Datagram(bytes) => {
                    // The other side may have gone already.
                    let _ = conn.send(&bytes).await;
                }
                Output::Failed(_) | Output::Closed => {
                    outputs.push(output);
                    return outputs;
                }
                Output::Connected(_) => outputs.push(output),
            }
        }
        let wait = ours.deadline().unwrap_or(Nanos::MAX).saturating_sub(now()).min(SECOND);
        match tokio::time::timeout(Duration::from_nanos(wait), conn.recv(&mut buffer)).await {
            Ok(Ok(len)) => ours.handle_datagram(&buffer[..len], now()),
            Ok(Err(_)) => return outputs,
            Err(_) => ours.handle_timeout(now()),
        }
    }
}

/// One handshake with the other implementation, to its goodbye.
async fn against_theirs(role: Role) -> (SrtpKeys, [MasterKey; 2]) {
    let certificate = Certificate::generate().unwrap();
    let theirs = TheirCertificate::generate_self_signed(vec!["peer".to_owned()]).unwrap();
    let fingerprint = Fingerprint::of(HashAlgorithm::Sha256, &theirs.certificate[0]);
    let ours = DtlsAssociation::new(&Config::default(), &certificate, role, &[fingerprint], 0);
    let (our_end, their_end) = pipe();
    let serving = tokio::spawn(serve(ours, our_end));
    let client = role != Role::Client;
    let conn = DTLSConn::new(Arc::new(their_end), their_config(theirs), client, None);
    let conn = tokio::time::timeout(Duration::from_secs(20), conn).await.unwrap().unwrap();
    let state = conn.connection_state().await;
    let suite = Suite::from_dtls_profile(conn.selected_srtpprotection_profile() as u16).unwrap();
    let len = 2 * (suite.key_len() + suite.salt_len());
    let exported = state.export_keying_material(LABEL, &[], len).await.unwrap();
    conn.close().await.unwrap();
    let outputs = tokio::time::timeout(Duration::from_secs(20), serving).await.unwrap().unwrap();
    let [Output::Connected(keys), Output::Closed] = &outputs[..] else { panic!("{outputs:?}") };
    assert_eq!(keys.suite, suite);
    assert_eq!(keys.version, Version::Dtls12);
    let (client, server) = MasterKey::from_dtls_export(suite, &exported).unwrap();
    (keys.clone(), [client, server])
}

#[tokio::test]
async fn as_a_server_we_choose_gcm_where_the_client_prefers_cm() {
    one_crypto_provider();
    let (keys, [client, server]) = against_theirs(Role::Auto).await;
    assert!(keys.suite.is_gcm() && !keys.client);
    assert_eq!((keys.local, keys.remote), (server, client));
}

#[tokio::test]
async fn as_a_client_we_agree_with_another_server() {
    one_crypto_provider();
    let (keys, [client, server]) = against_theirs(Role::Client).await;
    assert!(keys.client);
    assert_eq!((keys.local, keys.remote), (client, server));
}

/// The independent implementation asks for the process's provider; where several are built in, as in
/// a build of the whole workspace, one has to be named.
fn one_crypto_provider() {
    // An error says that another test was first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}
