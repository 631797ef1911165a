//! The sections of the file: every key with its meaning and its default, each written once. The
//! comments here are what `ironcast config` prints. Add a key here and nowhere else.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use ipnet::IpNet;

use crate::{
    check::{
        Between, Check, HeaderName, IceUrls, LogFilter, OtherNames, PostgresUrl, RealPort,
        RedisUrl, ScopeWords, Url, Urls,
    },
    value::{
        Announced, Door, Expected, HostPlacement, LogFormat, MediaHost, PortRange, Raw, Require,
        Sealer, Transmit, Value,
    },
};

/// One key of a section.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) doc: &'static [&'static str],
}

/// What the loader and the printer need of a section.
pub(crate) trait Section {
    fn name(&self) -> &'static str;
    fn doc(&self) -> Vec<&'static str>;
    fn keys(&self) -> &'static [Setting];
    fn set(&mut self, key: &str, raw: Raw<'_>) -> Result<(), Expected>;
    fn show(&self, key: &str) -> Option<String>;
}

macro_rules! section {
    ($(#[doc = $about:literal])* $Section:ident = $name:literal {
        $($(#[doc = $doc:literal])* $key:ident: $kind:ty = $default:expr $(, $check:expr)?;)*
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $Section {
            $($(#[doc = $doc])* pub $key: $kind,)*
        }

        impl Default for $Section {
            fn default() -> Self {
                Self { $($key: $default,)* }
            }
        }

        impl Section for $Section {
            fn name(&self) -> &'static str {
                $name
            }
            fn doc(&self) -> Vec<&'static str> {
                [$($about),*].iter().map(|line: &&str| line.trim()).collect()
            }
            fn keys(&self) -> &'static [Setting] {
                &[$(Setting { name: stringify!($key), doc: &[$($doc),*] }),*]
            }
            fn set(&mut self, key: &str, raw: Raw<'_>) -> Result<(), Expected> {
                match key {
                    $(stringify!($key) => {
                        let value = <$kind as Value>::read(raw)?;
                        $($check.check(&value)?;)?
                        self.$key = value;
                        Ok(())
                    })*
                    _ => Err(Expected("expected a known key".into())),
                }
            }
            fn show(&self, key: &str) -> Option<String> {
                match key {
                    $(stringify!($key) => self.$key.show(),)*
                    _ => None,
                }
            }
        }
    };
}

const MIB: u64 = 1024 * 1024;

fn loopback_networks() -> Vec<IpNet> {
    let loopback = [IpAddr::from([127, 0, 0, 0]), Ipv6Addr::LOCALHOST.into()];
    loopback.into_iter().zip([8, 128]).filter_map(|(ip, len)| IpNet::new(ip, len).ok()).collect()
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

section! {
    /// Where media arrives, and what browsers are told about it.
    Rtc = "rtc" {
        /// First and last UDP port. Each worker gets an equal part of them.
        /// MEDIASOUP_RTC_MIN_PORT and MEDIASOUP_RTC_MAX_PORT in the environment are understood.
        ports: PortRange = PortRange { first: 40_000, last: 49_999 };
        /// One port for everybody instead of the range, such as 3478; TCP too where that is enabled.
        single_port: Option<u16> = None, RealPort;
        /// Participants at once in single-port mode: beyond, creation answers no_capacity, because
        /// an unknown packet costs time for each of them.
        single_port_peers_max: u32 = 2_048, Between(1, 1_000_000);
        /// Connected peers on one port of the range.
        peers_per_port_max: u32 = 64, Between(1, 65_536);
        /// What candidates carry: the public addresses, such as ["203.0.113.7"]. Empty: every global
        /// address of this machine, and loopback only if there is none. With single_port an entry
        /// may carry the port that a router in front maps: ["203.0.113.7:3478"].
        /// MEDIASOUP_ANNOUNCED_IP in the environment is understood.
        announced_address: Vec<Announced> = Vec::new();
        /// Addresses to listen on. Empty: every address of this machine, IPv4 and IPv6.
        listen: Vec<IpAddr> = Vec::new();
        /// UDP candidates for transports whose creator does not say enableUdp.
        enable_udp: bool = true;
        /// TCP candidates (RFC 6544, passive) for transports whose creator does not say enableTcp: for
        /// those behind firewalls that let no UDP through. On the same ports, so these have to be open
        /// for TCP too.
        enable_tcp: bool = false;
        /// First and last UDP port of plain transports, which have one or two of their own. Each worker
        /// gets an equal part of them; a transport that asks for its port may have any other, too.
        plain_ports: PortRange = PortRange { first: 28_000, last: 28_999 };
        /// Where plain transports may send to, and what they may learn their peer's address from:
        /// networks, or single addresses. Bare RTP asks nobody for consent, so it is this machine
        /// alone unless you say more, such as ["127.0.0.0/8", "10.20.0.0/16"].
        plain_allow: Vec<IpNet> = loopback_networks();
        /// A peer that sends no valid connectivity check for so long is disconnected (RFC 7675): nothing
        /// is sent to it until it checks again.
        consent_timeout_s: u32 = 30, Between(1, 3_600);
        /// A peer that stays disconnected for so long is gone: its transport is closed. 0: it is kept,
        /// so that an ICE restart works at any time.
        disconnected_timeout_s: u32 = 0, Between(0, 86_400);
        /// The DTLS handshake may begin within connectivity checks (draft-hancke-webrtc-sped), with those
        /// who begin it so: they are connected a round trip earlier. A draft, which browsers try.
        dtls_in_stun: bool = false;
        /// A handshake that is not done by then is given up.
        handshake_timeout_s: u32 = 30, Between(1, 600);
        /// Bitrate assumed towards a new receiver until its network says otherwise.
        initial_outgoing_bitrate_bps: u32 = 600_000, Between(30_000, 1_000_000_000);
    }
}

section! {
    /// The process that moves packets: ironcast-dataplane.
    Dataplane = "dataplane" {
        /// Threads that move packets, each on a core of its own. 0: one for each core; where there are
        /// more than four, one core is left for everything else.
        workers: u32 = 0, Between(0, 256);
        /// The cores for them, such as [2, 3, 4]. Empty: the first ones.
        cores: Vec<u32> = Vec::new();
        /// Unix socket towards the control plane. Not set: dataplane.sock in the state directory.
        socket: Option<PathBuf> = None;
        /// Threads for DTLS handshakes, so that a join never delays a packet: they run when a core has
        /// nothing else to do, and where there are cores without a worker, on these.
        handshake_threads: u32 = 1, Between(1, 64);
        /// Handshakes that may run at once. Others begin when there is room, and are counted.
        handshakes_max: u32 = 4_096, Between(1, 1_000_000);
        /// Buffers for received packets of each worker, a power of two. When they run out, packets
        /// wait in the sockets, and that is counted.
        receive_buffers: u32 = 4_096, Between(64, 32_768);
        /// Pieces of memory for packets to be sent, each of 64 KiB, of each worker.
        slabs: u32 = 256, Between(8, 16_384);
        /// Connected sockets of each worker, one for a transport. The limit of open files
        /// (LimitNOFILE) has to be a quarter higher; where it is not, there are fewer. The default fits
        /// where 20,000 are allowed.
        paths_max: u32 = 15_000, Between(4, 1_000_000);
        /// TCP connections of each worker, beside those sockets. When there are so many, the oldest that
        /// has sent no valid connectivity check makes room; such a one is closed after 10 seconds anyhow.
        tcp_connections_max: u32 = 10_000, Between(1, 500_000);
        /// Of one address, or of one /64 of IPv6: everybody behind one router is one address.
        tcp_connections_per_address_max: u32 = 256, Between(1, 500_000);
        /// Bytes of each worker that wait because a TCP peer reads too slowly. Video never waits.
        tcp_waiting_bytes_max: u32 = 67_108_864, Between(65_536, 1_073_741_824);
        /// Bytes of the ring in memory from one worker to another, made when a room first spreads over
        /// both. What does not fit is dropped, counted, and asked for again.
        hop_ring_bytes: u32 = 2_097_152, Between(65_536, 268_435_456);
        /// A busy worker may hold a turn open for so long, to send more at once.
        turn_hold_us: u32 = 100, Between(0, 2_000);
        /// Output is handed to the kernel in portions of so many bytes, while they are in the cache
        /// of the core.
        portion_bytes: u32 = 262_144, Between(65_536, 67_108_864);
        /// At SIGTERM the dataplane waits for so long until its rooms are empty, and tells the control
        /// plane, which takes no new ones meanwhile; a second signal ends the waiting, and SIGINT does
        /// not wait. 0: it ends at once. A service manager has to wait for longer than this before
        /// it kills (TimeoutStopSec, terminationGracePeriodSeconds).
        drain_s: u32 = 20, Between(0, 86_400);
        /// A worker that has made no turn for so long is stuck: that is logged and counted, its rooms
        /// answer with an error, and it gets no new ones. Under systemd's watchdog half of its time
        /// is enough.
        stuck_s: u32 = 10, Between(2, 3_600);
        /// The process ends (SIGABRT) when a worker is stuck, and takes the calls of the others
        /// along, so that whoever supervises it starts it again. systemd's watchdog (WatchdogSec) ends
        /// it without this.
        ends_when_stuck: bool = false;
        /// Workers never sleep: each spends its whole core for a shorter delay.
        busy_poll: bool = false;
        /// How packets are handed to the kernel: "io_uring", "sendmmsg", or "xdp": what cannot leave
        /// many at once (audio, thumbnails) then leaves as whole frames at a third of the cost. That
        /// wants CAP_NET_RAW, and passes by the firewall's and traffic control's rules for what
        /// leaves this host.
        transmit: Transmit = Transmit::IoUring;
        /// What seals packets: "software", or "ipsec-mb", Intel's library, in a dataplane that was
        /// built with the feature of that name.
        sealer: Sealer = Sealer::Software;
        /// Rooms of each worker.
        routers_max: u32 = 5_000, Between(1, 1_000_000);
        /// Transports of each worker.
        transports_max: u32 = 20_000, Between(1, 1_000_000);
        /// Received tracks of each worker.
        producers_max: u32 = 40_000, Between(1, 1_000_000);
        /// Sent tracks of each worker.
        consumers_max: u32 = 200_000, Between(1, 10_000_000);
        /// Packets that each worker keeps for retransmission, all streams together.
        packets_max: u32 = 400_000, Between(1_024, 10_000_000);
        /// Runs of SSRCs that one transport remembers as used up: none is used again with the same keys.
        /// SSRCs are given out in their order, so that some runs do for a call of any length; a control
        /// plane that chooses them otherwise needs one for each, and 8 MB for all of these.
        sent_ssrcs_per_transport_max: u32 = 500_000, Between(1_024, 10_000_000);
        /// Packets that one peer may ask for again in one turn.
        repeats_waiting_max: u32 = 1_000, Between(16, 100_000);
        /// Bytes of one turn of a worker that are not media: answers to checks, reports, DTLS.
        answers_bytes_max: u32 = 4_194_304, Between(65_536, 67_108_864);
        /// Commands of the control plane that may wait for a worker.
        commands_waiting_max: u32 = 4_096, Between(16, 1_000_000);
        /// Answers and events that may wait for a control plane that reads slowly; beyond, it is cut
        /// off and takes the whole state anew.
        control_queue_bytes: u64 = 64 * MIB, Between(16 * MIB, 4_096 * MIB);
    }
}

section! {
    /// The process that takes commands: ironcast-controlplane.
    Control = "control" {
        /// HTTP/3 over QUIC, and HTTP/2 and HTTP/1.1 over TLS, on the same port number.
        listen: SocketAddr = loopback(7443);
        /// Plain HTTP/1.1 beside it, on a loopback address or a unix socket:
        /// "127.0.0.1:7480" or "unix:/run/ironcast/control.sock".
        plain: Option<Door> = None;
        /// Health, readiness and metrics over plain HTTP, for probes.
        ops: SocketAddr = loopback(7444);
        /// Sockets, development certificates and logs. IRONCAST_STATE_DIR in the environment is
        /// understood.
        state_dir: PathBuf = PathBuf::from("./.run");
        /// Certificate, PEM. Not set: a development certificate is made at the first start.
        tls_cert: Option<PathBuf> = None;
        /// Its private key, PEM.
        tls_key: Option<PathBuf> = None;
        /// Callers prove who they are by a certificate that this one signed, PEM.
        client_ca: Option<PathBuf> = None;
        /// Certificates of it that were revoked: its list (CRL), PEM.
        client_crl: Option<PathBuf> = None;
        /// What a certificate may do whose subject has no organizational unit (OU) called "read",
        /// "control" or "admin". Each includes those before it.
        client_scopes: Vec<String> = vec!["control".into()], ScopeWords;
        /// Callers prove who they are by a token that stands in this file. A line is NAME SCOPES
        /// TOKEN, such as: signaling control s3cret (or sha256: and the token's hash in its place).
        /// It is read again when it changes.
        token_file: Option<PathBuf> = None;
        /// Callers prove who they are by a JSON Web Token (EdDSA, ES256, RS256) that one of the
        /// public keys in this file has signed: a JWK Set, or PEM. Its `sub` is the name, its `scope`
        /// has the scopes.
        jwt_keys: Option<PathBuf> = None;
        /// The audience (`aud`) of such tokens.
        jwt_audience: String = "ironcast".into();
        /// Their issuer (`iss`). Not set: any.
        jwt_issuer: Option<String> = None;
        /// With a certificate and one of the others: "any" is enough, or "all" are needed.
        require: Require = Require::Any;
        /// A file for the audit: who created, closed and drained what, a line of JSON each. Not set: the
        /// last entries are kept in memory alone. It is opened anew at a reload.
        audit_file: Option<PathBuf> = None;
        /// A file that says what single principals may have, in place of the limits for all. For each:
        /// [[quota]], principal = "token:name", "cert:name" or "jwt:name", and what differs of routers,
        /// transports, participants, streams, bits_per_s, requests_per_s (0: no limit). It is read
        /// again at a reload.
        quotas: Option<PathBuf> = None;
        /// A file that says whom events are sent to (webhooks). For each receiver, relative paths being
        /// beside this file: [[webhook]], name = "billing", url = "https://...", secret_file =
        /// "billing.secret", and if wanted events = ["router.*"], principal = "token:name" (only its
        /// routers), ca = "ca.pem". It is read again at a reload.
        webhooks: Option<PathBuf> = None;
        /// An OpenTelemetry collector that is sent a trace of each call, by OTLP over HTTP as JSON, such as
        /// "http://127.0.0.1:4318". Not set: there are no traces.
        traces: Option<String> = None;
        /// HTTP/3. Without it there are HTTP/2 and HTTP/1.1 only; the signaling service needs it.
        quic: bool = true;
        /// When a newer control plane has attached to the dataplane, this one stands by: it looks each
        /// second whether one is attached, and attaches when none was for so long. 0: the process
        /// ends then, with status 3, and whoever supervises it must not start it again.
        stand_by_s: u32 = 5, Between(0, 3_600);
        /// A call waits for the dataplane for so long, then answers timeout.
        dataplane_timeout_ms: u32 = 5_000, Between(100, 60_000);
    }
}

section! {
    /// What the control API allows its callers. 0: no limit.
    Limits = "limits" {
        /// Largest body of a call.
        body_bytes_max: u64 = MIB, Between(1_024, 64 * MIB);
        /// Calls of one caller in a second: of a name or, where nobody is asked who he is, of an
        /// address. Each call of a batch counts.
        requests_per_s: u32 = 50_000;
        /// Calls of one address in a second that do not show who calls.
        unauthenticated_per_s: u32 = 100;
        /// JSON Web Tokens that are remembered until they expire, so that a signature is checked once.
        jwt_remembered_max: u32 = 10_000, Between(16, 1_000_000);
        /// Connections of one door of the control API at once.
        connections_max: u32 = 10_000, Between(1, 1_000_000);
        /// Connections of one address to one door.
        connections_per_address_max: u32 = 1_000;
        /// Resources made in one router in a second.
        creations_per_router_per_s: u32 = 2_000;
        /// Calls in one batch. The signaling service sends up to 64.
        batch_calls_max: u32 = 300, Between(64, 10_000);
        /// Rooms on this host.
        routers_max: u32 = 10_000;
        /// Rooms on one worker, and parts there of rooms that live on others. 0: what it measures decides
        /// (50 is what mediasoup users often set).
        routers_per_worker_max: u32 = 0;
        /// Transports in one room; pipes may be 16 more, so that a full room can be at another host too.
        transports_per_router_max: u32 = 2_000;
        /// Received tracks of one transport; of a pipe as many as the next one says.
        producers_per_transport_max: u32 = 64;
        /// Sent tracks of one transport.
        consumers_per_transport_max: u32 = 2_000;
        /// Observers of one room.
        observers_per_router_max: u32 = 8, Between(1, 1_000);
        /// Received tracks that one observer listens to.
        producers_per_observer_max: u32 = 2_000, Between(1, 2_000);
        /// Received tracks of one worker.
        producers_per_worker_max: u32 = 0;
        /// Sent tracks of one worker, above which it takes no new rooms either. 0: what it measures
        /// decides (500 is what mediasoup users often set).
        consumers_per_worker_max: u32 = 0;
        /// Rooms of one principal (a name of a token, certificate or JSON Web Token).
        routers_per_principal_max: u32 = 0;
        /// Transports of one principal, in all of its rooms.
        transports_per_principal_max: u32 = 0;
        /// Participants of one principal, in all of its rooms.
        participants_per_principal_max: u32 = 0;
        /// Bits of media in a second, both ways, above which a principal gets no more transports,
        /// producers and consumers. It is measured over some seconds.
        bits_per_principal_per_s_max: u64 = 0;
        /// Event streams of one principal at once.
        streams_per_principal_max: u32 = 128;
        /// Entries of the audit that are kept in memory.
        audit_entries_max: u32 = 10_000, Between(1, 1_000_000);
        /// A worker that was busy for more than this share of the time takes no new rooms, percent.
        worker_busy_max_percent: u32 = 90, Between(1, 100);
        /// Above this load, percent, a worker is second choice for rooms that are placed by a key.
        worker_busy_soft_percent: u32 = 70, Between(1, 100);
        /// A worker that sends so many packets a second gets no new transports of rooms that live on it
        /// while another worker sends fewer: the room spreads. 0: by the busy share and delay alone.
        worker_packets_soft: u32 = 0, Between(0, 100_000_000);
        /// Forwarding delay (99 of 100 packets, from arrival to sending) that a worker may have: one
        /// that was within a quarter of it for some seconds takes no new rooms. 0: no limit.
        worker_delay_max_ms: u32 = 50, Between(0, 10_000);
    }
}

section! {
    /// The event stream.
    Events = "events" {
        /// Events are kept for so long, so that a caller that lost its stream can resume.
        keep_s: u32 = 60, Between(1, 3_600);
        /// Memory for them; beyond, the oldest are dropped.
        keep_bytes: u64 = 64 * MIB, Between(64 * 1024, 1_024 * MIB);
        /// Callers that listen at once.
        streams_max: u32 = 256, Between(1, 100_000);
        /// Events that may wait for one caller who takes nothing for 2 s; then he is cut off.
        waiting_max: u32 = 8_192, Between(16, 1_000_000);
        /// Receivers of webhooks, of the file and made by POST /webhooks.
        webhooks_max: u32 = 16, Between(1, 1_000);
        /// Events that may wait for one of them, and no more bytes than keep_bytes; beyond, the oldest
        /// are dropped, and it is told so.
        webhook_waiting_max: u32 = 10_000, Between(16, 1_000_000);
        /// Events of one delivery.
        webhook_batch_max: u32 = 100, Between(1, 10_000);
        /// A receiver answers within so long, or the delivery is repeated.
        webhook_answer_s: u32 = 10, Between(1, 300);
        /// Longest pause between two attempts.
        webhook_pause_max_s: u32 = 300, Between(1, 86_400);
        /// Networks, or single addresses, that receivers made by POST /webhooks may have beside public
        /// addresses, such as ["10.20.0.0/16"]: whoever may make them chooses what this host
        /// connects to. Those of the file of control.webhooks may be anywhere.
        webhook_allow: Vec<IpNet> = Vec::new();
    }
}

section! {
    /// The reference signaling service and its page: ironcast-signaling.
    Signaling = "signaling" {
        /// The page and its socket. Browsers give a page the camera on localhost or over TLS.
        listen: SocketAddr = loopback(8080);
        /// Serve over TLS, with a development certificate unless tls_cert is set.
        tls: bool = false;
        /// Certificate, PEM.
        tls_cert: Option<PathBuf> = None;
        /// Its private key, PEM.
        tls_key: Option<PathBuf> = None;
        /// The control API. Not set: where control.listen says.
        control_url: Option<String> = None, Url;
        /// What is trusted there, PEM. Not set: the certificate of this machine's control plane.
        control_ca: Option<PathBuf> = None;
        /// A file with the token to show there. Not set: no token.
        control_token_file: Option<PathBuf> = None;
        /// A client certificate to show there, PEM. Not set: none.
        control_cert: Option<PathBuf> = None;
        /// Its private key, PEM.
        control_key: Option<PathBuf> = None;
        /// Several media hosts, each with a control API of its own, instead of the one at
        /// control_url: rooms are spread over them, and go to another one when theirs is lost. Such as
        /// [{ name = "media-1", url = "https://media-1.example:7443", region = "eu" }]. A name stays:
        /// a room's record has it. Without a name it is the address. "ca" is what is trusted there,
        /// instead of control_ca; the other proofs above are shown to all. "pipe_url" is where the other
        /// hosts find it, as it is in their pipes.remotes; without it that is "url".
        hosts: Vec<MediaHost> = Vec::new(), OtherNames;
        /// Where a new room goes: "least_loaded", or by its name ("hash"). To a host of the region that
        /// who makes it has named, if one there takes rooms.
        placement: HostPlacement = HostPlacement::default();
        /// People of one room at one media host, as long as another one takes the next of them: then
        /// the room is at both, and what is seen from the one at the other is piped (see pipes.remotes
        /// of the hosts). 0: a room goes to a second host only when its first one takes nobody.
        people_per_host: u32 = 0, Between(0, 100_000);
        /// The header in which a reverse proxy says where a browser is, such as "CF-IPCountry": the
        /// region of a room that it makes and of who joins, where nobody names one. Whoever comes past
        /// the proxy says there what he likes. Not set: none.
        region_header: Option<String> = None, HeaderName;
        /// A media server whose health check fails for so long is away: its rooms go to another host,
        /// or wait.
        media_away_ms: u32 = 2_000, Between(500, 600_000);
        /// Marks this service's rooms at the media server: a name that no other service there has,
        /// and that stays. Not set: one is made up and kept in the state directory.
        instance: Option<String> = None;
        /// Rooms at once.
        rooms_max: u32 = 1_000, Between(1, 1_000_000);
        /// Participants of a room.
        participants_per_room_max: u32 = 100, Between(2, 100_000);
        /// In a room of more people than this, browsers are told that turning cameras off would help
        /// (recommend-audio-only); 0: never.
        audio_only_above: u32 = 40, Between(0, 100_000);
        /// Whose videos are forwarded in a room: those of so many who spoke last; 0: all.
        last_n: u32 = 0, Between(0, 1_000);
        /// How many voices are forwarded in a room, the loudest; 0: all.
        loudest_n: u32 = 0, Between(0, 1_000);
        /// A participant whose socket was lost keeps media and place for so long.
        reconnect_window_ms: u32 = 5_000, Between(0, 600_000);
        /// Requests of one browser that may wait for their turn.
        requests_per_socket_max: u32 = 512, Between(16, 65_536);
        /// Requests of one browser that are done in a second, four times as many at once; what is
        /// above waits.
        requests_per_socket_per_s: u32 = 50, Between(1, 1_000_000);
        /// Sockets that one address opens in a second, ten times as many at once; 0 for no limit.
        /// Behind a proxy all browsers have the proxy's address.
        sockets_per_address_per_s: u32 = 100, Between(0, 1_000_000);
        /// Joins of one address in a second, ten times as many at once; 0 for no limit. Behind a
        /// proxy all browsers have the proxy's address.
        joins_per_address_per_s: u32 = 20, Between(0, 1_000_000);
        /// Rooms that one address makes in a second, ten times as many at once; 0 for no limit.
        rooms_per_address_per_s: u32 = 5, Between(0, 1_000_000);
        /// Connections at once.
        connections_max: u32 = 10_000, Between(16, 1_000_000);
        /// Connections of one address at once.
        connections_per_address_max: u32 = 2_000, Between(1, 1_000_000);
        /// Two people talk directly, from browser to browser, and through this server when a third
        /// one comes. Clients that cannot say so when they join (p2p: false).
        p2p: bool = false;
        /// Going back to talking directly waits for so long after the last change.
        p2p_pause_s: u32 = 10, Between(0, 3_600);
        /// Where chat messages are kept: a PostgreSQL database, such as
        /// "postgres://ironcast:s3cret@db.example.org/ironcast". Not set: a file in the state
        /// directory (SQLite).
        database: Option<String> = None, PostgresUrl;
        /// A Redis server in which it is written down who is where, for other services to read:
        /// "redis://cache.example.org:6379". Not set: in memory.
        redis: Option<String> = None, RedisUrl;
        /// Several of these services serve the same rooms, as nodes of a fleet of this name: at one
        /// control plane, with one redis, one PostgreSQL database and one fleet_key_file. Not set:
        /// this one serves its rooms alone.
        fleet: Option<String> = None;
        /// A file with a secret of at least 32 characters, the same at all nodes: whoever lost his
        /// socket at one comes back at another.
        fleet_key_file: Option<PathBuf> = None;
        /// Who may join, and as what, is in tokens (JSON Web Tokens) that one of the public keys in
        /// this file has signed: a JWK Set, or PEM (RS256, ES256, EdDSA). Not set: everybody may.
        jwt_keys: Option<PathBuf> = None;
        /// The audience (aud) of such tokens. Not set: any.
        jwt_audience: Option<String> = None;
        /// Their issuer (iss). Not set: any.
        jwt_issuer: Option<String> = None;
        /// Messages that one participant may write in a second, five times as many at once; 0 for
        /// no limit.
        chat_per_participant_per_s: u32 = 2, Between(0, 1_000);
        /// Older messages of a room than so many are forgotten.
        chat_kept_per_room_max: u32 = 10_000, Between(1, 10_000_000);
        /// Messages are forgotten after so many days.
        chat_kept_days: u32 = 30, Between(1, 36_500);
        /// Rooms that are watched (HLS) or recorded at once; 0: none. Each is an FFmpeg that takes
        /// about one core at 720p; the pictures of one person in H.264 are passed on as they are.
        broadcasts_max: u32 = 4, Between(0, 1_000);
        /// Where segments and recordings are written. Not set: broadcasts in the state directory.
        broadcast_dir: Option<PathBuf> = None;
        /// FFmpeg 5.1 or newer, with libx264 and libvpx: a path, or a name in PATH.
        broadcast_ffmpeg: PathBuf = "ffmpeg".into();
        /// The processors for it, such as [2, 3]: others than those of dataplane.cores. Empty: any.
        broadcast_cpus: Vec<u32> = Vec::new();
        /// Length of a segment. Shorter ones are seen sooner: about three of them are the delay.
        broadcast_segment_ms: u32 = 1_000, Between(500, 20_000);
        /// Segments in a live playlist.
        broadcast_window: u32 = 10, Between(3, 10_000);
        /// Segments that left the window are kept, for a playlist of the whole at the end.
        broadcast_keep_all: bool = true;
        /// Height of what is made anew, in pixels; it is 16:9.
        broadcast_height: u32 = 720, Between(90, 2_160);
        /// Its bitrate.
        broadcast_bitrate_bps: u32 = 1_500_000, Between(50_000, 100_000_000);
        /// Bytes of all broadcasts on the disk. A recording that reaches it ends; of what is watched
        /// the oldest segments go first.
        broadcast_disk_bytes_max: u64 = 10_240 * MIB, Between(MIB, 1_024 * 1_024 * 1_024 * MIB);
        /// Recordings, and what was watched, are deleted after so long.
        broadcast_kept_hours: u32 = 168, Between(1, 876_000);
        /// The address at which this service takes media from the media server. On another host it
        /// has to be in that one's rtc.plain_allow.
        broadcast_ip: IpAddr = IpAddr::from([127, 0, 0, 1]);
        /// The media server's address that it sends from. Not set: its loopback.
        broadcast_media_ip: Option<IpAddr> = None;
        /// STUN servers that browsers are told of, such as ["stun:stun.example.org:3478"]. Browsers
        /// need none to reach this server.
        stun_servers: Vec<String> = Vec::new(), IceUrls(["stun:", "stuns:"]);
        /// TURN servers that browsers are told of, such as
        /// ["turn:turn.example.org:3478", "turns:turn.example.org:443?transport=tcp"].
        turn_servers: Vec<String> = Vec::new(), IceUrls(["turn:", "turns:"]);
        /// A file with the secret that these servers know (coturn: use-auth-secret,
        /// static-auth-secret): each browser gets credentials of its own.
        turn_secret_file: Option<PathBuf> = None;
        /// How long such credentials hold.
        turn_credentials_s: u32 = 3_600, Between(60, 86_400);
    }
}

section! {
    /// Pipes: what one host sends to another, so that a room spreads over both (`POST /pipes`).
    Pipes = "pipes" {
        /// Where pipe transports listen that name no address: one of this host that the others reach.
        /// Theirs have to be in rtc.plain_allow.
        listen: IpAddr = IpAddr::from([127, 0, 0, 1]);
        /// The control APIs of the other hosts, such as ["https://media-2.example:7443"]. Nothing is
        /// piped to any other.
        remotes: Vec<String> = Vec::new(), Urls;
        /// What is trusted there, PEM: a CA, or their own certificates. Not set: the certificate of this
        /// machine's control plane.
        ca: Option<PathBuf> = None;
        /// A file with the token to show there, of an admin or of who owns the rooms. Not set: no
        /// token.
        token_file: Option<PathBuf> = None;
        /// A client certificate to show there, PEM. Not set: none.
        cert: Option<PathBuf> = None;
        /// Its private key, PEM.
        key: Option<PathBuf> = None;
        /// Media between the hosts is sealed (SRTP, AES-256-GCM) with keys that the control planes
        /// exchange.
        srtp: bool = true;
        /// Another host answers a call within so long, or the pipe is refused.
        answer_s: u32 = 5, Between(1, 60);
    }
}

section! {
    /// What is written to the logs.
    Log = "log" {
        /// "error", "warn", "info", "debug" or "trace"; for one part: "info,ironcast_core=debug".
        level: String = "info".into(), LogFilter;
        /// "text" for people, or "json": one object a line, with the fields of each line by name. What is
        /// about a room has its id in the field `router`.
        format: LogFormat = LogFormat::Text;
    }
}
