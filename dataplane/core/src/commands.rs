//! What the control plane asks of one worker: `apply_*`, one function a command. Parameters are
//! final; what is wrong all the same is refused with nothing half-made. Never on the way of a packet.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use ironcast_protocol::{
    CommandError, ErrorCode, Reply,
    command::{
        Consume, Consumed, CreateRouter, CreateWebRtcTransport, DtlsRole, IceParameters, Produce,
        SetPreferredLayers, SetPriority, SetTransportBitrates,
    },
    media::{Layers, MediaKind},
    plain::{ConnectPlainTransport, CreatePlainTransport},
};

use crate::{
    Arrival, Nanos, SECOND,
    consumer::{Consumer, cap},
    heard::Heard,
    key::{RouterKey, TransportKey},
    link::{
        Kind, Link, Protection,
        plain::{Plain, Sockets},
        webrtc::{
            WebRtc,
            ice::{Credentials, Ice, Timeouts},
        },
    },
    numbers::{RtcpIndex, SentSeq},
    pipe,
    producer::Producer,
    router::Router,
    srtp::{MasterKey, OpenKey, SealKey},
    transport::Transport,
    wire::extension::ExtensionKind,
    worker::Worker,
};

const TRANSPORTS_FULL: &str = "this worker has its maximum of transports: see \
    dataplane.transports_max, dataplane.paths_max and the limit of open files, or add workers";

const NOT_WEBRTC: &str = "this is not a webrtc transport";

type Outcome<T> = Result<T, CommandError>;

fn refuse<T>(code: ErrorCode, message: impl Into<String>) -> Outcome<T> {
    Err(CommandError::new(code, message))
}

fn not_found(what: &str, id: &str) -> CommandError {
    CommandError::new(ErrorCode::NotFound, format!("there is no {what} {id:?}"))
}

/// Whether a datagram from one address can go to the other at all.
fn can_reach(local: SocketAddr, remote: SocketAddr) -> bool {
    let ip = remote.ip();
    local.is_ipv4() == remote.is_ipv4()
        && local != remote
        && remote.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && ip != IpAddr::from(Ipv4Addr::BROADCAST)
}

impl Worker {
    /// A room.
    ///
    /// # Errors
    /// `AlreadyExists`, `NoCapacity`.
    pub fn apply_create_router(&mut self, create: &CreateRouter) -> Outcome<Reply> {
        if self.router_ids.contains_key(&create.id) {
            return refuse(ErrorCode::AlreadyExists, format!("router {:?} exists", create.id));
        }
        if self.routers.len() >= self.limits.routers_max {
            return refuse(ErrorCode::NoCapacity, "this worker has its maximum of routers");
        }
        let id = create.id.clone();
        let heard = Heard::new(create.selection);
        let router = Router { id, transports: Vec::new(), observers: Vec::new(), heard };
        let key = self.routers.insert(router);
        self.router_ids.insert(create.id.clone(), key);
        self.listen_for_speakers(key);
        Ok(Reply::Done)
    }

    /// A peer. The credentials are random, from outside; so is `seed`, where counters start.
    /// Returns the transport as a number, for the driver and the handshake.
    ///
    /// # Errors
    /// `NotFound` (router), `AlreadyExists`, `NoCapacity`.
    pub fn apply_create_transport(
        &mut self,
        create: &CreateWebRtcTransport,
        credentials: Credentials,
        now: Nanos,
    ) -> Outcome<u64> {
        let router_key = self.room_for_transport(&create.id, &create.router)?;
        let fragment = credentials.username_fragment.clone();
        let timeouts = Timeouts {
            consent: Nanos::from(create.consent_timeout_s) * SECOND,
            disconnected: Nanos::from(create.disconnected_timeout_s) * SECOND,
        };
        let link = Link::webrtc(WebRtc::new(Ice::new(credentials, timeouts), create.candidates));
        let initial = create.initial_available_outgoing_bitrate_bps;
        let transport =
            Transport::new(create.id.clone(), router_key, link, initial, RtcpIndex(1), now);
        let key = self.transports.insert(transport);
        self.transport_ids.insert(create.id.clone(), key);
        self.username_fragments.insert(fragment, key);
        self.enter(key);
        Ok(key.into())
    }

    /// The API has given the peer's DTLS parameters; the handshake is the caller's.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (connected before).
    pub fn apply_connect_transport(
        &mut self,
        id: &str,
        local_role: DtlsRole,
        now: Nanos,
    ) -> Outcome<u64> {
        let key = self.transport_key(id)?;
        let Some(webrtc) = self.webrtc_mut(key) else {
            return refuse(ErrorCode::Invalid, NOT_WEBRTC);
        };
        if webrtc.dtls_role.is_some() {
            return refuse(ErrorCode::WrongState, "this transport is connected already");
        }
        webrtc.dtls_role = Some(local_role);
        self.schedule(key, now);
        self.start_dtls(key);
        Ok(key.into())
    }

    /// A peer that is known by its address; `sockets` are open and its own. `ours` is what we seal
    /// with, if anything is sealed. Returns the transport as a number.
    ///
    /// # Errors
    /// `NotFound` (router), `AlreadyExists`, `NoCapacity`.
    pub fn apply_create_plain_transport(
        &mut self,
        create: &CreatePlainTransport,
        sockets: Sockets,
        ours: Option<&MasterKey>,
        now: Nanos,
    ) -> Outcome<u64> {
        let router = self.room_for_transport(&create.id, &create.router)?;
        let plain = Plain::new(sockets, create.comedia, create.pipe);
        let protection = if ours.is_some() { Protection::Awaited } else { Protection::None };
        let link = Link::plain(plain, protection);
        // It objects by nothing but losses: it gets the best there is.
        let transport = Transport::new(create.id.clone(), router, link, 0, RtcpIndex(1), now);
        let key = self.transports.insert(transport);
        self.transport_ids.insert(create.id.clone(), key);
        self.seal_keys.set(key.index(), ours.map(SealKey::new));
        for local in [sockets.rtp].into_iter().chain(sockets.rtcp) {
            self.plain_sockets.insert(local, key);
        }
        self.enter(key);
        Ok(key.into())
    }

    /// The API has said where the peer of a plain transport is, and what it seals with. `ours` is
    /// another key of ours, for a peer of another suite.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (connected before, another kind), `Invalid`, `Forbidden`.
    pub fn apply_connect_plain_transport(
        &mut self,
        connect: &ConnectPlainTransport,
        theirs: Option<&MasterKey>,
        ours: Option<&MasterKey>,
        now: Nanos,
    ) -> Outcome<()> {
        let key = self.transport_key(&connect.id)?;
        let remotes = [connect.remote, connect.rtcp_remote];
        if let Some(other) = remotes.into_iter().flatten().find(|to| !self.is_allowed(to.ip())) {
            let message = format!("{} is not in rtc.plain_allow", other.ip());
            return refuse(ErrorCode::Forbidden, message);
        }
        let Some(transport) = self.transports.get_mut(key) else {
            return Err(not_found("transport", &connect.id));
        };
        let is_sealed = !matches!(transport.link.protection, Protection::None);
        let Kind::Plain(plain) = &mut transport.link.kind else {
            return refuse(ErrorCode::WrongState, "this is not a plain transport");
        };
        if plain.is_connected {
            return refuse(ErrorCode::WrongState, "this transport is connected already");
        }
        if is_sealed != theirs.is_some() {
            let message = if is_sealed { "srtpParameters are missing" } else { "SRTP is not on" };
            return refuse(ErrorCode::Invalid, message);
        }
        let locals: Vec<_> = plain.locals().collect();
        let pairs: Vec<_> = locals.iter().copied().zip(remotes).collect();
        if plain.is_comedia() {
            if remotes.iter().any(Option::is_some) {
                return refuse(ErrorCode::Invalid, "the peer's address is learned (comedia)");
            }
        } else {
            if remotes.iter().flatten().count() != locals.len() {
                let what = if plain.has_rtcp() { "ip, port and rtcpPort" } else { "ip and port" };
                return refuse(ErrorCode::Invalid, format!("{what} are needed, and no more"));
            }
            if pairs.iter().any(|(local, to)| to.is_none_or(|to| !can_reach(*local, to))) {
                let message = "the peer's address is none that can be sent to from there";
                return refuse(ErrorCode::Invalid, message);
            }
        }
        plain.is_connected = true;
        if let Some(theirs) = theirs {
            transport.link.protection = Protection::Srtp(Box::new(OpenKey::new(theirs)));
        }
        if let Some(ours) = ours {
            self.seal_keys.set(key.index(), Some(SealKey::new(ours)));
        }
        for (local, remote) in pairs {
            if let Some(remote) = remote {
                self.open_plain(key, local, remote);
            }
        }
        self.renew_way(key);
        self.look_at_layers(key, now);
        Ok(())
    }

    /// New ICE credentials.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_restart_ice(&mut self, id: &str, credentials: Credentials) -> Outcome<Reply> {
        let key = self.transport_key(id)?;
        let Some(webrtc) = self.webrtc_mut(key) else {
            return refuse(ErrorCode::WrongState, NOT_WEBRTC);
        };
        let answer = IceParameters {
            username_fragment: credentials.username_fragment.clone(),
            password: credentials.password.clone(),
        };
        let fragment = credentials.username_fragment.clone();
        let over = webrtc.ice.restart(credentials);
        self.username_fragments.insert(fragment, key);
        if let Some(over) = over {
            self.username_fragments.remove(&over.username_fragment);
        }
        Ok(Reply::IceRestarted(answer))
    }

    /// Limits of a transport.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (minimum above maximum).
    pub fn apply_bitrates(&mut self, set: &SetTransportBitrates, now: Nanos) -> Outcome<Reply> {
        let key = self.transport_key(&set.id)?;
        let Some(transport) = self.transports.get_mut(key) else {
            return Err(not_found("transport", &set.id));
        };
        let max = set.max_outgoing_bps.unwrap_or(transport.budget.max_bps);
        let min = set.min_outgoing_bps.unwrap_or(transport.budget.min_bps);
        if max > 0 && min > max {
            return refuse(ErrorCode::Invalid, "minOutgoingBitrate is above maxOutgoingBitrate");
        }
        (transport.budget.max_bps, transport.budget.min_bps) = (max, min);
        if let Some(incoming) = set.max_incoming_bps {
            transport.max_incoming_bps = incoming;
        }
        (transport.layers_at, transport.reports_at) = (now, now);
        self.schedule(key, now);
        Ok(Reply::Done)
    }

    /// A received track.
    ///
    /// # Errors
    /// `NotFound` (transport), `AlreadyExists`, `NoCapacity`, `Invalid`.
    pub fn apply_produce(&mut self, create: &Produce) -> Outcome<Reply> {
        if self.producer_ids.contains_key(&create.id) {
            return refuse(ErrorCode::AlreadyExists, format!("producer {:?} exists", create.id));
        }
        if self.producers.len() >= self.limits.producers_max {
            return refuse(ErrorCode::NoCapacity, "this worker has its maximum of producers");
        }
        let transport_key = self.transport_key(&create.transport)?;
        let Some(transport) = self.transports.get_mut(transport_key) else {
            return Err(not_found("transport", &create.transport));
        };
        let invalid = |message| CommandError::new(ErrorCode::Invalid, message);
        let producer = Producer::new(create, transport.router, transport_key).map_err(invalid)?;
        let rtp_type = producer.rtp_type;
        let learned: Vec<_> =
            producer.ssrcs().filter_map(|s| Some((s, transport.demux.learned(s)?))).collect();
        let transport_cc_id = producer.extensions.id(ExtensionKind::TransportWideCc);
        let key = self.producers.insert(producer);
        let added = self.producers.get(key).map(|producer| transport.demux.add(key, producer));
        if let Some(Err(message)) = added {
            self.producers.remove(key);
            return Err(invalid(message));
        }
        // What was learned gives way to what is said.
        for (ssrc, found) in learned {
            self.vacate(transport_key, ssrc, found, Arrival::default());
        }
        let Some(transport) = self.transports.get_mut(transport_key) else {
            return Err(not_found("transport", &create.transport));
        };
        if let Some(producer) = self.producers.get_mut(key) {
            producer.at_transport = transport.producers.len() as u32;
            for stream in &mut producer.streams {
                let sources = &mut transport.sources;
                stream.index = stream.ssrc.map(|ssrc| sources.take(ssrc)).unwrap_or_default();
                stream.rtx_index =
                    stream.rtx_ssrc.map(|ssrc| sources.take(ssrc)).unwrap_or_default();
            }
        }
        if let Some(id) = transport_cc_id {
            transport.learn_transport_cc(id);
        }
        transport.producers.push(key);
        self.producer_ids.insert(create.id.clone(), key);
        self.enter_selection(key);
        self.stir(key);
        Ok(Reply::Produced { rtp_type })
    }

    /// Pauses or resumes a producer.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_pause_producer(&mut self, id: &str, paused: bool) -> Outcome<Reply> {
        let key = *self.producer_ids.get(id).ok_or_else(|| not_found("producer", id))?;
        let Some(producer) = self.producers.get_mut(key) else {
            return Err(not_found("producer", id));
        };
        if producer.paused == paused {
            return Ok(Reply::Done);
        }
        producer.pause(paused);
        for key in producer.consumers() {
            if let Some(consumer) = self.consumers.get_mut(key) {
                consumer.start_over();
            }
        }
        self.touch_subscribers(key);
        Ok(Reply::Done)
    }

    /// A sent track. `first_seq` is random, below 2^15.
    ///
    /// # Errors
    /// `NotFound` (transport, producer), `AlreadyExists`, `NoCapacity`, `Invalid`.
    pub fn apply_consume(
        &mut self,
        create: &Consume,
        first_seq: u16,
        now: Nanos,
    ) -> Outcome<Reply> {
        if self.consumer_ids.contains_key(&create.id) {
            return refuse(ErrorCode::AlreadyExists, format!("consumer {:?} exists", create.id));
        }
        let transport_key = self.transport_key(&create.transport)?;
        let producer_key = *self
            .producer_ids
            .get(&create.producer)
            .ok_or_else(|| not_found("producer", &create.producer))?;
        let Some(producer) = self.producers.get_mut(producer_key) else {
            return Err(not_found("producer", &create.producer));
        };
        let Some(transport) = self.transports.get_mut(transport_key) else {
            return Err(not_found("transport", &create.transport));
        };
        if producer.router != transport.router {
            return refuse(ErrorCode::Invalid, "the producer is in another router");
        }
        let parts = pipe::parts_of(create, producer.streams.len())?;
        if self.consumers.len() + parts.len() > self.limits.consumers_max {
            return refuse(ErrorCode::NoCapacity, "this worker has its maximum of consumers");
        }
        let first_seq = SentSeq(u32::from(first_seq & 0x7fff));
        let make = |part| {
            Consumer::new(create, part, producer_key, producer, transport_key, first_seq, now)
        };
        let made: Result<Vec<_>, _> = parts.into_iter().map(make).collect();
        let mut made = made.map_err(|message| CommandError::new(ErrorCode::Invalid, message))?;
        let mut ours = BTreeSet::new();
        for ssrc in made.iter().flat_map(Consumer::ssrcs) {
            if transport.retired.is_used_up(ssrc) {
                let message = "the consumer's SSRC is used up on this transport";
                return refuse(ErrorCode::Invalid, message);
            }
            if !ours.insert(ssrc) || transport.consumer_ssrcs.contains_key(&ssrc) {
                let message = "the consumer's SSRC is in use on this transport";
                return refuse(ErrorCode::Invalid, message);
            }
        }
        if transport.retired.len() >= self.limits.sent_ssrcs_max {
            return refuse(ErrorCode::NoCapacity, "this transport remembers too many SSRCs");
        }
        for consumer in &mut made {
            if let Some(next) = transport.retired.next(consumer.ssrc) {
                consumer.timeline = crate::timeline::Timeline::new(next);
            }
            let rtx_ssrc = consumer.rtx.map(|(ssrc, _)| ssrc);
            if let Some(next) = rtx_ssrc.and_then(|ssrc| transport.retired.next(ssrc)) {
                consumer.rtx_seq = next;
            }
        }
        let reply = Consumed {
            paused: create.paused,
            producer_paused: producer.paused,
            score: pipe::score(made.iter(), producer),
            preferred_layers: made.first().and_then(|consumer| consumer.preferred),
        };
        if let Some(first) = made.first_mut() {
            first.announced_score = reply.score.clone();
        }
        let keys: Vec<_> = made.into_iter().map(|one| self.consumers.insert(one)).collect();
        self.name_consumer(&create.id, keys, now);
        self.await_look(transport_key);
        Ok(Reply::Consumed(reply))
    }

    /// Pauses or resumes a consumer; a resumed video asks its producer for a key frame.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_pause_consumer(&mut self, id: &str, paused: bool, now: Nanos) -> Outcome<Reply> {
        for key in self.parts(id).ok_or_else(|| not_found("consumer", id))? {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            if consumer.paused != paused {
                consumer.paused = paused;
                consumer.start_over();
            }
            let transport = consumer.transport;
            self.wish_changed(key);
            self.follow(key, now);
            self.look_at_layers(transport, now);
        }
        Ok(Reply::Done)
    }

    /// Wanted layers.
    ///
    /// # Errors
    /// `NotFound`, `WrongState` (a track without layers).
    pub fn apply_preferred_layers(
        &mut self,
        set: &SetPreferredLayers,
        now: Nanos,
    ) -> Outcome<Reply> {
        let key = self.consumer_ids.get(&set.id).copied();
        let consumer = key.and_then(|key| Some((key, self.consumers.get_mut(key)?)));
        let (key, consumer) = consumer.ok_or_else(|| not_found("consumer", &set.id))?;
        if consumer.preferred.is_none() {
            return refuse(ErrorCode::WrongState, "this consumer has no layers to choose from");
        }
        let transport = consumer.transport;
        let top =
            self.producers.get(consumer.producer).map_or(Layers { spatial: 0, temporal: 0 }, |p| {
                let spatial = (p.streams.len() - 1) as u8;
                Layers { spatial, temporal: p.temporal_layers.saturating_sub(1) }
            });
        consumer.preferred = Some(cap(set.layers, top));
        self.wish_changed(key);
        self.look_at_layers(transport, now);
        Ok(Reply::Done)
    }

    /// Weight.
    ///
    /// # Errors
    /// `NotFound`, `Invalid` (0).
    pub fn apply_priority(&mut self, set: &SetPriority, now: Nanos) -> Outcome<Reply> {
        if set.priority == 0 {
            return refuse(ErrorCode::Invalid, "priority is 1 to 255");
        }
        let consumer = self.consumer_mut(&set.id)?;
        consumer.priority = set.priority;
        let transport = consumer.transport;
        self.look_at_layers(transport, now);
        Ok(Reply::Done)
    }

    /// A key frame for a consumer.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn apply_request_key_frame(&mut self, id: &str, now: Nanos) -> Outcome<Reply> {
        for key in self.parts(id).ok_or_else(|| not_found("consumer", id))? {
            let Some(consumer) = self.consumers.get_mut(key) else { continue };
            let wants = consumer.kind == MediaKind::Video && !consumer.paused;
            let stream = consumer.target.filter(|_| wants && !consumer.is_left_out);
            let producer_key = consumer.producer;
            if let (Some(stream), Some(producer)) = (stream, self.producers.get_mut(producer_key)) {
                producer.request_key_frame(stream, consumer.want_repair(now), now);
                self.stir(producer_key);
            }
        }
        Ok(Reply::Done)
    }

    /// A transport as a number.
    #[must_use]
    pub fn transport_number(&self, id: &str) -> Option<u64> {
        self.transport_ids.get(id).map(|key| (*key).into())
    }

    /// The router of a transport that may be made.
    pub(crate) fn room_for_transport(&self, id: &str, router: &str) -> Outcome<RouterKey> {
        if self.transport_ids.contains_key(id) {
            return refuse(ErrorCode::AlreadyExists, format!("transport {id:?} exists"));
        }
        if self.transports.len() >= self.limits.transports_max {
            return refuse(ErrorCode::NoCapacity, TRANSPORTS_FULL);
        }
        self.router_ids.get(router).copied().ok_or_else(|| not_found("router", router))
    }

    pub(crate) fn transport_key(&self, id: &str) -> Outcome<TransportKey> {
        self.transport_ids.get(id).copied().ok_or_else(|| not_found("transport", id))
    }

    fn consumer_mut(&mut self, id: &str) -> Outcome<&mut Consumer> {
        let key = self.consumer_ids.get(id).copied();
        key.and_then(|key| self.consumers.get_mut(key)).ok_or_else(|| not_found("consumer", id))
    }

    pub(crate) fn look_at_layers(&mut self, key: TransportKey, now: Nanos) {
        if let Some(transport) = self.transports.get_mut(key) {
            transport.layers_at = now;
            self.schedule(key, now);
        }
    }
}
