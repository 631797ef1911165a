//! Transports: the peers' connections, and the leaving of a participant with all of his.

use std::sync::Arc;

use futures::future::join_all;
use ironcast_api::{
    ConnectAnswer, ConnectTransport, CreateTransport, DtlsFingerprint, DtlsParameters, ErrorCode,
    EventSeq, FingerprintAlgorithm, Id, LeaveAnswer, PatchTransport, Problem, RestartIceAnswer,
    RtpCapabilities, TransportInfo, TransportType, WebRtcLink, events::TransportClosedReason,
};
use ironcast_negotiate::validate_and_normalize_rtp_capabilities;
use ironcast_protocol::{Command, Reply, WorkerId, command, snapshot::ResourceKind};

use super::{closed, done, id_or_new, plain, routers::check_rate, single::named};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert,
    engine::{Creation, Engine, Place, State, Step, unavailable, unexpected},
    events::unix_ms,
    limits::check_count,
    note::{self, BodyHash, Common, ConnectNote, Far, TransportNote},
    rebuild::new_transport_info,
    registry::{Kind, Transport},
    spread,
};

/// Browsers send one; nobody needs more than one of each kind.
const FINGERPRINTS_MAX: usize = 16;

/// `POST /transports`.
pub async fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let (create, hash) = call.hashed_body::<CreateTransport>()?;
    let ((is_new, info), seq) = make(engine, &call.caller, create, hash, None).await?;
    Answer::made(is_new, &info, &info.id, &info.router_id, seq)
}

/// Makes a transport; `far` is the other end of one that [`super::pipes`] makes.
pub async fn make(
    engine: &Arc<Engine>,
    who: &Principal,
    mut create: CreateTransport,
    hash: BodyHash,
    far: Option<Far>,
) -> Result<((bool, TransportInfo), EventSeq), Problem> {
    let wanted = Wanted::read(&create)?;
    let id = id_or_new(create.id.take())?;
    if let Some(caps) = &mut create.rtp_capabilities {
        validate_and_normalize_rtp_capabilities(caps)
            .map_err(|error| error.into_problem("/rtpCapabilities"))?;
    }
    let common = Common {
        created_at: unix_ms(),
        app_data: create.app_data.take().unwrap_or_default(),
        hash,
    };
    let (worker, _) = engine.run(|state| place(state, who, &id, &create)).await?;
    spread::branch(engine, &create.router_id, worker).await?;
    let wanted = (&create, &wanted, far.as_ref());
    engine.run(|state| look(state, who, &id, worker, wanted, &common)).await
}

/// A room that takes nobody more can be carried to so many other routers, each way.
const PIPES_SPARE: u32 = 16;

/// Which worker it is to be on; of one that is there already, the one that it is on.
fn place(
    state: &State,
    who: &Principal,
    id: &Id,
    create: &CreateTransport,
) -> Result<Step<WorkerId>, Problem> {
    if let Ok(known) = state.registry.transport(who, id) {
        return Ok(Step::Done(known.worker));
    }
    let router = state.registry.router(who, &create.router_id);
    let router = router.map_err(|problem| problem.with_pointer("/routerId"))?;
    let named = create.worker_id.as_ref().map(|id| state.workers.named(id)).transpose();
    let named = named.map_err(|problem| problem.with_pointer("/workerId"))?;
    Ok(Step::Done(named.unwrap_or_else(|| {
        let of_room: Vec<_> = router.workers().collect();
        state.workers.place_transport(&of_room, &state.full())
    })))
}

/// The link that is to be made.
enum Wanted {
    Webrtc,
    Plain(plain::Wanted),
}

impl Wanted {
    /// Options of what this version does not have, and options of other kinds of transports.
    fn read(create: &CreateTransport) -> Result<Self, Problem> {
        let of_webrtc = [
            ("enableUdp", create.enable_udp.is_some()),
            ("enableTcp", create.enable_tcp.is_some()),
            ("preferUdp", create.prefer_udp.is_some()),
            ("preferTcp", create.prefer_tcp.is_some()),
            (
                "initialAvailableOutgoingBitrate",
                create.initial_available_outgoing_bitrate.is_some(),
            ),
            ("iceConsentTimeout", create.ice_consent_timeout.is_some()),
            ("iceDisconnectedTimeout", create.ice_disconnected_timeout.is_some()),
        ];
        let of_both = [
            ("listenAddress", create.listen_address.is_some()),
            ("port", create.port.is_some()),
            ("enableSrtp", create.enable_srtp.is_some()),
        ];
        let of_plain = [
            ("rtcpMux", create.rtcp_mux.is_some()),
            ("comedia", create.comedia.is_some()),
            ("srtpCryptoSuite", create.srtp_crypto_suite.is_some()),
        ];
        let of_pipe = [("enableRtx", create.enable_rtx.is_some())];
        let (name, foreign): (_, [&[_]; 3]) = match create.kind {
            TransportType::Webrtc => ("webrtc", [&of_both, &of_plain, &of_pipe]),
            TransportType::Plain => ("plain", [&of_webrtc, &of_pipe, &[]]),
            TransportType::Pipe => ("pipe", [&of_webrtc, &of_plain, &[]]),
        };
        if let Some((field, _)) = foreign.into_iter().flatten().find(|(_, is_given)| *is_given) {
            let detail = format!("a {name} transport has no {field}");
            return Err(Problem::invalid(format!("/{field}"), detail));
        }
        if create.enable_sctp == Some(true) {
            let detail = "this version has no data channels";
            return Err(Problem::new(ErrorCode::Unsupported, detail).with_pointer("/enableSctp"));
        }
        Ok(match create.kind {
            TransportType::Plain | TransportType::Pipe => Self::Plain(plain::Wanted::read(create)?),
            TransportType::Webrtc => Self::Webrtc,
        })
    }

    fn command(
        &self,
        state: &State,
        id: &Id,
        router: String,
        create: &CreateTransport,
        note: Vec<u8>,
    ) -> Result<Command, Problem> {
        Ok(match self {
            Self::Plain(wanted) => wanted.command(state, id, router, note),
            Self::Webrtc => Command::CreateWebRtcTransport(command::CreateWebRtcTransport {
                id: id.to_string(),
                router,
                consent_timeout_s: create
                    .ice_consent_timeout
                    .map_or(state.consent_timeout_s, u32::from),
                disconnected_timeout_s: create
                    .ice_disconnected_timeout
                    .map_or(state.disconnected_timeout_s, u32::from),
                initial_available_outgoing_bitrate_bps: create
                    .initial_available_outgoing_bitrate
                    .unwrap_or(state.initial_outgoing_bitrate_bps),
                candidates: candidates(create, state.candidates)?,
                note,
            }),
        })
    }
}

/// Which candidates a transport has, and which come first.
fn candidates(
    create: &CreateTransport,
    defaults: command::CandidateKinds,
) -> Result<command::CandidateKinds, Problem> {
    let kinds = command::CandidateKinds {
        udp: create.enable_udp.unwrap_or(defaults.udp),
        tcp: create.enable_tcp.unwrap_or(defaults.tcp),
        tcp_first: create.prefer_tcp == Some(true) && create.prefer_udp != Some(true),
    };
    if !kinds.udp && !kinds.tcp {
        let detail = "a webrtc transport needs candidates: of UDP, of TCP (enableTcp), or of both";
        return Err(Problem::invalid("/enableUdp", detail));
    }
    Ok(kinds)
}

fn look(
    state: &mut State,
    who: &Principal,
    id: &Id,
    worker: WorkerId,
    (create, wanted, far): (&CreateTransport, &Wanted, Option<&Far>),
    common: &Common,
) -> Result<Step<(bool, TransportInfo)>, Problem> {
    let existing =
        |state: &State| Some((false, state.registry.transport(who, id).ok()?.whole_info()));
    if let Some(step) = state.check_id(Kind::Transport, id, common.hash, existing)? {
        return Ok(step);
    }
    let router = state.registry.router(who, &create.router_id);
    let router = router.map_err(|problem| problem.with_pointer("/routerId"))?;
    let max = match state.limits.transports_per_router_max {
        0 => 0,
        max if create.kind == TransportType::Pipe => max.saturating_add(PIPES_SPARE),
        max => max,
    };
    let place = Place::Parent(create.router_id.clone());
    let count = router.transports.len() + state.on_their_way(Kind::Transport, place.clone());
    check_count(count, max, "transports in this router")?;
    let (owner, is_newcomer) = router.newcomer(create.participant_id.as_ref());
    let caps = create.rtp_capabilities.as_ref();
    let note = TransportNote {
        common: common.clone(),
        participant_id: create.participant_id.clone(),
        rtp_capabilities: caps.map(|caps| cut_down(caps, &router.codecs.capabilities)),
        enable_rtx: create.enable_rtx == Some(true),
        far: far.cloned(),
    };
    let bytes = note::write(&note)?;
    state.check_transports(&owner, is_newcomer)?;
    state.check_traffic(&owner)?;
    check_rate(state, &create.router_id)?;
    let router = state.registry.routers.get(&create.router_id);
    let router = router.filter(|router| router.workers().any(|known| known == worker));
    let router =
        router.ok_or_else(|| unavailable("the worker of this transport has just ended"))?;
    let command = wanted.command(state, id, router.name_on(worker), create, bytes)?;
    let (kind, comedia) = (create.kind, create.comedia == Some(true));
    let (id, router_id) = (id.clone(), create.router_id.clone());
    let newcomer = owner.clone().filter(|_| is_newcomer).map(Place::Newcomers);
    let places = [place].into_iter().chain(owner.map(Place::Owner)).chain(newcomer).collect();
    let creation = Creation { kind: Kind::Transport, id: Some(id.clone()), places };
    Ok(Step::create(creation, command, move |state, reply| {
        let link = match reply.map_err(plain::about_sockets)? {
            Reply::TransportCreated(created) => convert::webrtc_link(&created),
            Reply::PlainTransportCreated(created) if kind == TransportType::Pipe => {
                convert::pipe_link(&created, note.enable_rtx)
            }
            Reply::PlainTransportCreated(created) => convert::plain_link(&created, comedia),
            other => return Err(unexpected(&other)),
        };
        let info = new_transport_info(id, router_id, worker, link, &note);
        if !state.registry.insert_transport(Transport::new(info.clone(), worker, note)) {
            return Err(Problem::not_found("router", &info.router_id));
        }
        Ok((true, info))
    }))
}

/// What of a receiver's capabilities can ever matter on a router: the rest only fills the note.
fn cut_down(caps: &RtpCapabilities, router: &RtpCapabilities) -> RtpCapabilities {
    let is_known =
        |mime: &str| router.codecs.iter().any(|codec| codec.mime_type.eq_ignore_ascii_case(mime));
    let has_uri = |uri: &str| router.header_extensions.iter().any(|one| one.uri == uri);
    RtpCapabilities {
        codecs: caps.codecs.iter().filter(|codec| is_known(&codec.mime_type)).cloned().collect(),
        header_extensions: caps
            .header_extensions
            .iter()
            .filter(|extension| has_uri(&extension.uri))
            .cloned()
            .collect(),
    }
}

/// One that was looked up for the caller before, or [`seen`] would have refused it.
pub(super) fn find<'a>(state: &'a mut State, id: &Id) -> Result<&'a mut Transport, Problem> {
    state.registry.transports.get_mut(id).ok_or_else(|| Problem::not_found("transport", id))
}

/// One that the caller sees.
pub(super) fn seen<'a>(state: &'a State, call: &Call, id: &Id) -> Result<&'a Transport, Problem> {
    state.registry.transport(&call.caller, id)
}

/// `GET /transports/{id}`.
pub async fn get(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| Ok(Step::Done(seen(state, call, id)?.whole_info()));
    let (info, seq) = engine.run(look).await?;
    Answer::json(200, &info, seq)
}

/// `POST /transports/{id}/connect`.
pub async fn connect(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (connect, hash) = call.hashed_body::<ConnectTransport>()?;
    let (kind, _) = engine.run(|state| Ok(Step::Done(seen(state, call, id)?.info.kind()))).await?;
    if kind != TransportType::Webrtc {
        let (answer, seq) = plain::connect(engine, &call.caller, id, &connect, hash).await?;
        return Answer::json(200, &answer, seq);
    }
    plain::refuse_plain(&connect)?;
    let needed = || Problem::invalid("/dtlsParameters", "dtlsParameters are needed");
    let mut parameters = connect.dtls_parameters.ok_or_else(needed)?;
    check_fingerprints(&parameters)?;
    parameters.fingerprints.retain(|one| one.algorithm != FingerprintAlgorithm::Unknown);
    let note = note::write(&ConnectNote { hash })?;
    let (answer, seq) = engine
        .run(|state| {
            let transport = seen(state, call, id)?;
            match transport.connect_hash {
                Some(other) if other == hash => {
                    return Ok(Step::Done(connect_answer(transport)?));
                }
                Some(_) => return Err(connected_already()),
                None => {}
            }
            let command = Command::ConnectTransport(command::ConnectTransport {
                id: id.to_string(),
                role: convert::dtls_role(parameters.role),
                fingerprints: parameters
                    .fingerprints
                    .iter()
                    .map(convert::dtls_fingerprint)
                    .collect(),
                note: note.clone(),
            });
            let id = id.clone();
            Ok(Step::ask(command, move |state, reply| connected(state, &id, hash, reply)))
        })
        .await?;
    Answer::json(200, &answer, seq)
}

fn check_fingerprints(parameters: &DtlsParameters) -> Result<(), Problem> {
    let pointer = "/dtlsParameters/fingerprints";
    if !(1..=FINGERPRINTS_MAX).contains(&parameters.fingerprints.len()) {
        let detail = format!("1 to {FINGERPRINTS_MAX} fingerprints are needed");
        return Err(Problem::invalid(pointer, detail));
    }
    if !parameters.fingerprints.iter().any(|one| one.algorithm.is_strong()) {
        let detail = "one of sha-224 to sha-512 is needed: sha-1 proves nothing (RFC 8122)";
        return Err(Problem::invalid(pointer, detail));
    }
    let is_wrong = |one: &DtlsFingerprint| {
        one.algorithm != FingerprintAlgorithm::Unknown && one.bytes().is_none()
    };
    match parameters.fingerprints.iter().position(is_wrong) {
        None => Ok(()),
        Some(index) => Err(Problem::invalid(
            format!("{pointer}/{index}/value"),
            "as many hex bytes as the algorithm has, with colons between (RFC 8122)",
        )),
    }
}

pub(super) fn connected_already() -> Problem {
    let detail = "the transport was connected with other parameters";
    Problem::new(ErrorCode::WrongState, detail)
}

fn connected(
    state: &mut State,
    id: &Id,
    hash: BodyHash,
    reply: Result<Reply, Problem>,
) -> Result<ConnectAnswer, Problem> {
    let local_role = match reply {
        Ok(Reply::Connected { local_role }) => convert::api_dtls_role(local_role),
        Ok(other) => return Err(unexpected(&other)),
        Err(problem) if problem.code == ErrorCode::WrongState => {
            // The same call may have been on its way twice.
            let transport = find(state, id)?;
            if transport.connect_hash == Some(hash) {
                return connect_answer(transport);
            }
            return Err(problem);
        }
        Err(problem) => return Err(problem.about("/dtlsParameters")),
    };
    let transport = find(state, id)?;
    transport.connect_hash = Some(hash);
    webrtc_mut(transport)?.dtls_parameters.role = local_role;
    connect_answer(transport)
}

fn connect_answer(transport: &Transport) -> Result<ConnectAnswer, Problem> {
    let link = transport.info.webrtc().ok_or_else(not_webrtc)?;
    Ok(ConnectAnswer { dtls_local_role: link.dtls_parameters.role })
}

fn webrtc_mut(transport: &mut Transport) -> Result<&mut WebRtcLink, Problem> {
    transport.info.webrtc_mut().ok_or_else(not_webrtc)
}

fn not_webrtc() -> Problem {
    Problem::new(ErrorCode::WrongState, "this is not a webrtc transport")
}

/// `POST /transports/{id}/restart-ice`.
pub async fn restart_ice(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    call.no_body()?;
    let (answer, seq) = engine
        .run(|state| {
            if seen(state, call, id)?.info.webrtc().is_none() {
                return Err(not_webrtc());
            }
            let id = id.clone();
            Ok(Step::ask(Command::RestartIce(named(&id)), move |state, reply| {
                let ice_parameters = match reply? {
                    Reply::IceRestarted(parameters) => convert::ice_parameters(&parameters),
                    other => return Err(unexpected(&other)),
                };
                webrtc_mut(find(state, &id)?)?.ice_parameters = ice_parameters.clone();
                Ok(RestartIceAnswer { ice_parameters })
            }))
        })
        .await?;
    Answer::json(200, &answer, seq)
}

/// `PATCH /transports/{id}`.
pub async fn patch(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let patch = call.body::<PatchTransport>()?;
    let (info, seq) = engine
        .run(|state| {
            let transport = seen(state, call, id)?;
            if patch == PatchTransport::default() {
                return Ok(Step::Done(transport.whole_info()));
            }
            let command = Command::SetTransportBitrates(command::SetTransportBitrates {
                id: id.to_string(),
                max_incoming_bps: patch.max_incoming_bitrate,
                max_outgoing_bps: patch.max_outgoing_bitrate,
                min_outgoing_bps: patch.min_outgoing_bitrate,
            });
            let id = id.clone();
            // Of the three, the one that can contradict another is named.
            let pointer = if patch.min_outgoing_bitrate.is_some() {
                "/minOutgoingBitrate"
            } else {
                "/maxOutgoingBitrate"
            };
            Ok(Step::ask(command, move |state, reply| {
                done(reply).map_err(|problem| problem.about(pointer))?;
                let transport = find(state, &id)?;
                let info = &mut transport.info;
                let set = |limit: &mut Option<u32>, new: Option<u32>| {
                    if let Some(bps) = new {
                        *limit = convert::limit(bps);
                    }
                };
                set(&mut info.max_incoming_bitrate, patch.max_incoming_bitrate);
                set(&mut info.max_outgoing_bitrate, patch.max_outgoing_bitrate);
                set(&mut info.min_outgoing_bitrate, patch.min_outgoing_bitrate);
                Ok(transport.whole_info())
            }))
        })
        .await?;
    Answer::json(200, &info, seq)
}

/// `DELETE /transports/{id}`.
pub async fn delete(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (router_id, seq) = engine.run(|state| Ok(close(state, &call.caller, id))).await?;
    Ok(Answer::closed(id, router_id.as_ref(), seq))
}

/// Another's is not there, and what is not there is closed. Gives the router that it was in.
pub fn close(state: &mut State, who: &Principal, id: &Id) -> Step<Option<Id>> {
    let Ok(transport) = state.registry.transport(who, id) else { return Step::Done(None) };
    let router_id = transport.info.router_id.clone();
    let command = Command::CloseTransport(named(id));
    let id = id.clone();
    Step::ask(command, move |state, reply| {
        closed(reply)?;
        let reason = TransportClosedReason::Request;
        state.registry.close_transport(&id, reason, &mut state.events);
        Ok(Some(router_id))
    })
}

/// `POST /participants/{id}/leave`.
pub async fn leave(engine: &Arc<Engine>, call: &Call, participant: &Id) -> Result<Answer, Problem> {
    call.no_body()?;
    let router_id = call.query(&["routerId"])?.id("routerId")?;
    let router_id =
        router_id.ok_or_else(|| Problem::invalid("?routerId", "say which router is left"))?;
    let (transport_ids, _) = engine
        .run(|state| {
            // A router that is gone has nobody in it: leaving is safe to repeat.
            let Ok(router) = state.registry.router(&call.caller, &router_id) else {
                return Ok(Step::Done(Vec::new()));
            };
            let transports = router.transports.iter().filter(|id| {
                let transport = state.registry.transports.get(*id);
                transport.is_some_and(|one| one.info.participant_id.as_ref() == Some(participant))
            });
            Ok(Step::Done(transports.cloned().collect::<Vec<Id>>()))
        })
        .await?;
    let who = &call.caller;
    let closing = transport_ids.iter().map(|id| engine.run(move |state| Ok(close(state, who, id))));
    for result in join_all(closing).await {
        result?;
    }
    let has_left = !transport_ids.is_empty();
    let answer = Answer::json(200, &LeaveAnswer { transport_ids }, engine.seq())?;
    Ok(if has_left { answer.about(participant, &router_id) } else { answer })
}

/// `GET /transports/{id}/stats`: a list of one record, as with mediasoup.
pub async fn stats(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let (stats, seq) = engine
        .run(|state| {
            seen(state, call, id)?;
            let id = id.clone();
            Ok(Step::ask(Command::TransportStats(named(&id)), move |state, reply| {
                let stats = match reply? {
                    Reply::TransportStats(stats) => stats,
                    other => return Err(unexpected(&other)),
                };
                let transport = find(state, &id)?;
                let profile = transport.srtp_profile.clone();
                Ok([convert::transport_stats(&transport.info, profile, &stats)])
            }))
        })
        .await?;
    Answer::json(200, &stats, seq)
}

/// `GET /transports/{id}/dump`.
pub async fn dump(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let look = |state: &mut State| seen(state, call, id).map(drop);
    super::dump(engine, ResourceKind::Transport, id, look).await
}
