//! Two complete installations that reach each other over a network: each in a network namespace of its
//! own, with a link to the test's and one between the two. They trust one CA, by whose certificates the
//! callers of both show who they are. Needs root, as network namespaces do.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
};

use ironcast_load::{PeerOptions, call::JoinOptions};
use serde_json::json;

use crate::{Pair, PairBuilder, Signaling, eventually};

/// The control API's port in each namespace.
pub(crate) const API_PORT: u16 = 7_443;
/// Health and metrics.
pub(crate) const OPS_PORT: u16 = 7_444;

/// Where processes run, if not beside the test.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) namespace: String,
    /// As the test reaches it.
    pub(crate) address: Ipv4Addr,
}

/// See the file's head.
pub struct Hosts {
    /// The installations.
    pub pairs: [Pair; 2],
    /// The test's own end of the link to each.
    own: [Ipv4Addr; 2],
    // After the processes in them.
    network: Network,
}

/// Namespaces and links; gone when it is dropped.
struct Network {
    namespaces: Vec<String>,
    folder: PathBuf,
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // Its links go with it.
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {arguments}: is this root?");
}

impl Hosts {
    /// Starts both; `change` adds settings to each.
    pub async fn start(change: impl Fn(PairBuilder) -> PairBuilder) -> Self {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        let (pid, number) = (std::process::id(), NUMBER.fetch_add(3, Ordering::Relaxed));
        let net =
            |link: u8, host: u8| Ipv4Addr::new(10, 100 + (pid % 100) as u8, number + link, host);
        let name = |what: &str| format!("ic{}-{number}{what}", pid % 100_000);
        let folder = std::env::temp_dir().join(name("-hosts"));
        fs::create_dir_all(&folder).expect("a folder");
        let mut network = Network { namespaces: Vec::new(), folder: folder.clone() };
        let namespaces = [name("a"), name("b")];
        for (link, namespace) in (0..).zip(&namespaces) {
            ip(&format!("netns add {namespace}"));
            network.namespaces.push(namespace.clone());
            let (here, there) = (format!("{namespace}h"), format!("{namespace}t"));
            ip(&format!("link add {here} type veth peer name {there} netns {namespace}"));
            ip(&format!("addr add {}/24 dev {here}", net(link, 1)));
            ip(&format!("link set {here} up"));
            ip(&format!("-n {namespace} addr add {}/24 dev {there}", net(link, 2)));
            ip(&format!("-n {namespace} link set {there} up"));
            ip(&format!("-n {namespace} link set lo up"));
        }
        let [a, b] = &namespaces;
        ip(&format!("-n {a} link add trunk type veth peer name trunk netns {b}"));
        for (host, namespace) in (1..).zip(&namespaces) {
            ip(&format!("-n {namespace} addr add {}/24 dev trunk", net(2, host)));
            ip(&format!("-n {namespace} link set trunk up"));
        }
        let proofs = proofs(&folder, &[net(2, 1), net(2, 2), net(0, 2), net(1, 2)]);
        let mut pairs = Vec::new();
        for (link, namespace) in (0..).zip(&namespaces) {
            let (own, other) = (net(2, link + 1), net(2, 2 - link));
            let place = Place { namespace: namespace.clone(), address: net(link, 2) };
            let builder = Pair::builder()
                .at(place)
                .set("rtc.listen", net(link, 2))
                .set("rtc.plain_allow", format!("{}/24", net(2, 0)))
                .set("pipes.listen", own)
                .set("pipes.remotes", format!("https://{other}:{API_PORT}"))
                .set("pipes.ca", proofs.join("ca.pem").display())
                .set("pipes.cert", proofs.join("host.pem").display())
                .set("pipes.key", proofs.join("host.key").display())
                .set("control.tls_cert", proofs.join("host.pem").display())
                .set("control.tls_key", proofs.join("host.key").display())
                .set("control.client_ca", proofs.join("ca.pem").display())
                .set("control.client_scopes", "admin");
            pairs.push(change(builder).start().await);
        }
        let pairs = pairs.try_into().unwrap_or_else(|_| unreachable!("two were started"));
        Self { pairs, own: [net(0, 1), net(1, 1)], network }
    }

    /// The control API of a host, as the other one reaches it.
    #[must_use]
    pub fn url(&self, host: usize) -> String {
        let address = self.own[host].octets();
        // The trunk is the third network.
        let third = address[2] - host as u8 + 2;
        let trunk = Ipv4Addr::new(address[0], address[1], third, host as u8 + 1);
        format!("https://{trunk}:{API_PORT}")
    }

    /// One signaling service for both, `one` and `two`.
    pub async fn start_signaling(&self, more: &[(&str, String)]) -> Signaling {
        let proof = |name: &str| self.network.folder.join(name).display().to_string();
        let hosts =
            ["one", "two"].iter().zip(&self.pairs).enumerate().map(|(host, (name, pair))| {
                let (url, ca, pipe_url) = (pair.api, proof("ca.pem"), self.url(host));
                format!("https://{url};name={name};region={name};ca={ca};pipe_url={pipe_url}")
            });
        let own = [
            ("signaling.hosts", hosts.collect::<Vec<_>>().join(",")),
            ("signaling.control_cert", proof("host.pem")),
            ("signaling.control_key", proof("host.key")),
        ];
        let settings: Vec<_> = own.into_iter().chain(more.iter().cloned()).collect();
        let service = self.pairs[0].start_signaling_with("signaling", &settings).await;
        eventually("both hosts are up", || async {
            let metrics = service.text("/metrics").await;
            metrics.matches("ironcast_signaling_media_host_up{").count() == 2
                && !metrics.lines().any(|line| {
                    line.starts_with("ironcast_signaling_media_host_up{") && line.ends_with(" 0")
                })
        })
        .await;
        service
    }

    /// How a participant reaches a host.
    #[must_use]
    pub fn options(&self, host: usize) -> JoinOptions {
        JoinOptions {
            peer: PeerOptions {
                consent_interval: std::time::Duration::from_millis(500),
                ..PeerOptions::default()
            },
            bind: Some(IpAddr::V4(self.own[host])),
            transport: Some(json!({ "initialAvailableOutgoingBitrate": 20_000_000 })),
            ..JoinOptions::default()
        }
    }
}

/// A CA, and a certificate of it for both hosts, as servers and as callers.
fn proofs(folder: &Path, addresses: &[Ipv4Addr]) -> PathBuf {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    };
    let write = |name: &str, text: String| fs::write(folder.join(name), text).expect("a file");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "test ca");
    let key = KeyPair::generate().expect("a key");
    write("ca.pem", params.self_signed(&key).expect("a certificate").pem());
    let ca = Issuer::new(params, key);
    let names: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("addresses");
    params.distinguished_name.push(DnType::CommonName, "host");
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().expect("a key");
    write("host.pem", params.signed_by(&key, &ca).expect("a certificate").pem());
    write("host.key", key.serialize_pem());
    folder.to_owned()
}
