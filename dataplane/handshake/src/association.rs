//! One association by `dimpl`: DTLS 1.2 and 1.3; our certificate is ECDSA, the peer's may be RSA.
//! Owns the library's state machine and decides around it: which version as a server, whether the
//! certificate is the signalled one, whether the negotiated profile is allowed. Keys leave here only
//! after all of these were answered with yes; a no is told to the peer by an alert.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use dimpl::{Dtls, ProtocolVersion, SrtpProfile};
use ironcast_core::{
    Nanos,
    srtp::{MasterKey, Suite},
};

use crate::{
    Association, Certificate, Config, Failure, Fingerprint, Output, Role, SrtpKeys, Version,
    client_hello::Collector,
    failure, fingerprint,
    last_words::{LastWords, plain_alert},
    reassembly::Reassembly,
    records,
};

/// More than any single output of the library: a certificate, or a datagram.
const POLL_BYTES: usize = 4 << 10;
/// What the library may ask for at most instead; a certificate of a peer is bounded by its record
/// layer far below.
const POLL_BYTES_MAX: usize = 128 << 10;
/// Messages kept before the one that decides the version: a flight has five and a ChangeCipherSpec.
const EARLY_MAX: usize = 8;
/// Record types of DTLS 1.2 in the clear, and the unified header of DTLS 1.3 (RFC 9147 section 4.1).
const RECORD_TYPES: [std::ops::RangeInclusive<u8>; 2] = [20..=26, 32..=63];

/// An association with one peer.
pub struct DtlsAssociation {
    config: Config,
    certificate: Certificate,
    /// Those of the peer that count.
    fingerprints: Vec<Fingerprint>,
    client: bool,
    state: State,
    /// What the library does not put together by itself, unless the version is DTLS 1.3.
    reassembly: Reassembly,
    /// What a client got before the message that decides the version.
    early: Vec<Vec<u8>>,
    /// True when the peer's certificate was the right one.
    verified: bool,
    /// True when the handshake is complete, with or without keys.
    established: bool,
    connected: bool,
    outputs: VecDeque<Output>,
    deadline: Option<Nanos>,
    clock: Clock,
}

enum State {
    /// A server without the whole of the client's first message.
    Collecting(Collector),
    Running(Box<Dtls>),
    /// What is said to who repeats itself; nothing where the association was closed.
    Done(LastWords),
}

/// The library counts in [`Instant`]s; this gives it one for each of our times. The zero point is
/// arbitrary, so that reading it does no harm to tests with a clock of their own.
#[derive(Clone, Copy)]
struct Clock {
    instant: Instant,
    nanos: Nanos,
}

impl Clock {
    fn instant(&self, now: Nanos) -> Instant {
        self.instant + Duration::from_nanos(now.saturating_sub(self.nanos))
    }

    fn nanos(&self, instant: Instant) -> Nanos {
        let since = instant.saturating_duration_since(self.instant).as_nanos();
        self.nanos.saturating_add(Nanos::try_from(since).unwrap_or(Nanos::MAX))
    }
}

impl DtlsAssociation {
    /// A new one. As a client its first output is the first datagram.
    #[must_use]
    pub fn new(
        config: &Config,
        certificate: &Certificate,
        role: Role,
        fingerprints: &[Fingerprint],
        now: Nanos,
    ) -> Self {
        let mut association = Self {
            config: config.clone(),
            certificate: certificate.clone(),
            fingerprints: fingerprint::strongest(fingerprints),
            client: role == Role::Client,
            state: State::Collecting(Collector::default()),
            reassembly: Reassembly::default(),
            early: Vec::new(),
            verified: false,
            established: false,
            connected: false,
            outputs: VecDeque::new(),
            deadline: None,
            clock: Clock { instant: Instant::now(), nanos: now },
        };
        if association.fingerprints.is_empty() {
            association.fail(Failure::NoFingerprint);
        } else if association.client {
            let version = match config.versions[..] {
                [version] => Some(version),
                _ => None,
            };
            association.begin(version, None, now);
        } else {
            association.deadline = Some(now.saturating_add(config.handshake_time_max));
        }
        association
    }

    /// Makes the library's state machine, and gives it the client's first message if we are the
    /// server. Without a version, which only a client may leave open, the peer's answer decides.
    fn begin(&mut self, version: Option<Version>, hello: Option<Vec<u8>>, now: Nanos) {
        let config = dimpl::Config::builder()
            .mtu(self.config.mtu)
            .flight_start_rto(Duration::from_nanos(self.config.retransmit_delay))
            .flight_retries(10)
            .handshake_timeout(Duration::from_nanos(self.config.handshake_time_max))
            // ICE has verified the peer's address already, which is all that the cookie is for.
            .use_server_cookie(false)
            .build();
        let Ok(config) = config.map(Arc::new) else { return self.fail(Failure::Internal) };
        let certificate = self.certificate.dtls();
        let instant = self.clock.instant(now);
        let mut dtls = match version {
            Some(Version::Dtls12) => Dtls::new_12(config, certificate, instant),
            Some(Version::Dtls13) => Dtls::new_13(config, certificate, instant),
            None => Dtls::new_auto(config, certificate, instant),
        };
        if self.client {
            dtls.set_active(true);
        }
        self.state = State::Running(Box::new(dtls));
        self.run(now, |dtls| hello.map_or(Ok(()), |hello| dtls.handle_packet(&hello)));
    }

    /// Moves the library's clock, does `act` with it, and takes its outputs.
    fn run(&mut self, now: Nanos, act: impl FnOnce(&mut Dtls) -> Result<(), dimpl::Error>) {
        let instant = self.clock.instant(now);
        let State::Running(dtls) = &mut self.state else { return };
        let result = dtls.handle_timeout(instant).and_then(|()| act(dtls));
        match result {
            // Before the server's first answer the library takes foreign bytes for one.
            Ok(())
            | Err(dimpl::Error::UnexpectedMessage(
                dimpl::UnexpectedMessageError::UnrecognizedAutoServerResponse,
            )) => self.drain(now),
            Err(error) => self.end(&error),
        }
    }

    /// The library has given up.
    fn end(&mut self, error: &dimpl::Error) {
        let (failure, alert) = failure::judge(error);
        tracing::debug!(%error, connected = self.connected, "association ended");
        if self.connected {
            self.send_alert(alert);
            self.finish(Output::Closed);
        } else {
            self.fail_with(failure, alert);
        }
    }

    /// Takes the library's outputs until it waits.
    fn drain(&mut self, now: Nanos) {
        // Not kept: a host has thousands of associations, and few of them have anything to say.
        let mut buffer = vec![0; POLL_BYTES];
        while let State::Running(dtls) = &mut self.state {
            match dtls.poll_output(&mut buffer) {
                dimpl::Output::Packet(bytes) => {
                    self.outputs.push_back(Output::Datagram(bytes.to_vec()));
                }
                dimpl::Output::BufferTooSmall { needed } if needed <= POLL_BYTES_MAX => {
                    buffer.resize(needed, 0);
                }
                dimpl::Output::BufferTooSmall { .. } => self.fail(Failure::Protocol),
                dimpl::Output::PeerCert(der) => {
                    self.verified = fingerprint::any_matches(&self.fingerprints, der);
                    if !self.verified {
                        self.fail(Failure::Fingerprint);
                    }
                }
                dimpl::Output::Connected => self.established = true,
                dimpl::Output::KeyingMaterial(material, profile) => {
                    let version = dtls.protocol_version();
                    self.take_keys(&material, profile, version);
                }
                dimpl::Output::CloseNotify => {
                    self.finish_after_goodbye(&mut buffer);
                }
                // A peer that has chosen no profile is of no use.
                dimpl::Output::Timeout(_) if self.established && !self.connected => {
                    self.fail(Failure::NoCommonSuite);
                }
                dimpl::Output::Timeout(instant) => {
                    // Never in the past: whoever sleeps until then must not spin.
                    self.deadline = Some(self.clock.nanos(instant).max(now + 1));
                    break;
                }
                // Nothing is negotiated that has a use for it.
                _ => {}
            }
        }
    }

    /// Keys are there, so the handshake is complete.
    fn take_keys(
        &mut self,
        material: &[u8],
        profile: SrtpProfile,
        version: Option<ProtocolVersion>,
    ) {
        if !self.verified {
            return self.fail(Failure::Fingerprint);
        }
        let suite = match profile {
            SrtpProfile::AEAD_AES_256_GCM => Suite::AeadAes256Gcm,
            SrtpProfile::AEAD_AES_128_GCM => Suite::AeadAes128Gcm,
            SrtpProfile::AES128_CM_SHA1_80 => Suite::AesCm128HmacSha1_80,
            _ => return self.fail(Failure::NoCommonSuite),
        };
        if !self.config.suites.contains(&suite) {
            return self.fail(Failure::NoCommonSuite);
        }
        let Ok((client, server)) = MasterKey::from_dtls_export(suite, material) else {
            return self.fail(Failure::Internal);
        };
        let (local, remote) = if self.client { (client, server) } else { (server, client) };
        let version = match version {
            Some(ProtocolVersion::DTLS1_3) => Version::Dtls13,
            _ => Version::Dtls12,
        };
        self.connected = true;
        let goodbye = match &mut self.state {
            State::Running(dtls) => dtls.seal_close_notify().ok().flatten(),
            _ => None,
        };
        let goodbye = goodbye.unwrap_or_default();
        let keys = SrtpKeys { suite, local, remote, version, client: self.client, goodbye };
        self.outputs.push_back(Output::Connected(keys));
    }

    /// The peer has closed; our own close_notify may still be in the library.
    fn finish_after_goodbye(&mut self, buffer: &mut [u8]) {
        if let State::Running(dtls) = &mut self.state {
            while let dimpl::Output::Packet(bytes) = dtls.poll_output(buffer) {
                self.outputs.push_back(Output::Datagram(bytes.to_vec()));
            }
        }
        self.finish(Output::Closed);
    }

    fn fail(&mut self, failure: Failure) {
        self.fail_with(failure, failure.alert());
    }

    fn fail_with(&mut self, failure: Failure, alert: Option<u8>) {
        if !self.established {
            // What the library wanted to send would tell the peer that all is well.
            self.outputs.clear();
        }
        let before = self.outputs.len();
        self.send_alert(alert);
        let told = self.outputs.range(before..).filter_map(|output| match output {
            Output::Datagram(bytes) => Some(bytes.clone()),
            _ => None,
        });
        let last_words = LastWords::new(told.collect());
        self.finish(Output::Failed(failure));
        self.state = State::Done(last_words);
    }

    /// Tells the peer that it is over, with the protection that it can read now.
    fn send_alert(&mut self, description: Option<u8>) {
        let Some(description) = description else { return };
        let mut by_library = false;
        if let State::Running(dtls) = &mut self.state {
            let mut buffer = vec![0; POLL_BYTES];
            if dtls.fail(description).is_ok() {
                while let dimpl::Output::Packet(bytes) = dtls.poll_output(&mut buffer) {
                    self.outputs.push_back(Output::Datagram(bytes.to_vec()));
                    by_library = true;
                }
            }
        }
        if !by_library && !self.connected {
            // Nothing was agreed on yet.
            self.outputs.push_back(Output::Datagram(plain_alert(description)));
        }
    }

    /// True while a client waits for the answer that decides the version.
    fn is_version_open(&self) -> bool {
        match &self.state {
            State::Running(dtls) => self.client && dtls.protocol_version().is_none(),
            _ => false,
        }
    }

    /// A datagram for the library.
    fn pass(&mut self, datagram: &[u8], now: Nanos) {
        if self.is_version_open()
            && let Some(description) = records::fatal_alert(datagram)
        {
            // The library would wait for another answer.
            return self.fail(Failure::Refused(description));
        }
        let is_dtls13 = match &self.state {
            State::Running(dtls) => dtls.protocol_version() == Some(ProtocolVersion::DTLS1_3),
            _ => return,
        };
        if is_dtls13 {
            return self.run(now, |dtls| dtls.handle_packet(datagram));
        }
        for part in self.reassembly.push(datagram) {
            if self.is_version_open() && !records::is_first_answer(&part) {
                if self.early.len() < EARLY_MAX {
                    self.early.push(part);
                }
                continue;
            }
            self.run(now, |dtls| dtls.handle_packet(&part));
            if !self.is_version_open() {
                for part in std::mem::take(&mut self.early) {
                    self.run(now, |dtls| dtls.handle_packet(&part));
                }
            }
        }
    }

    fn finish(&mut self, last: Output) {
        (self.early, self.reassembly) = Default::default();
        self.outputs.push_back(last);
        self.state = State::Done(LastWords::default());
        self.deadline = None;
    }
}

impl Association for DtlsAssociation {
    fn handle_datagram(&mut self, datagram: &[u8], now: Nanos) {
        let first = datagram.first().copied().unwrap_or(0);
        if !RECORD_TYPES.iter().any(|range| range.contains(&first)) {
            return;
        }
        match &mut self.state {
            State::Done(last_words) => {
                last_words.handle_datagram(datagram, now);
                self.outputs.extend(std::iter::from_fn(|| last_words.poll()));
            }
            State::Running(_) => self.pass(datagram, now),
            State::Collecting(collector) => {
                let Some(offer) = collector.push(datagram) else { return };
                let hello = std::mem::take(collector).into_datagram();
                match offer.choose(&self.config.suites, &self.config.versions) {
                    Some(version) => self.begin(Some(version), Some(hello), now),
                    None if offer.has_any(&self.config.versions) => {
                        self.fail(Failure::NoCommonSuite);
                    }
                    None => self
                        .fail_with(Failure::NoCommonCipher, Some(failure::alert::PROTOCOL_VERSION)),
                }
            }
        }
    }

    fn handle_timeout(&mut self, now: Nanos) {
        match &self.state {
            State::Collecting(_) if self.deadline.is_some_and(|at| now >= at) => {
                self.fail(Failure::Timeout);
            }
            _ => self.run(now, |_| Ok(())),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Nanos> {
        self.deadline
    }
}
