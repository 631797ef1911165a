//! What is special about plain and pipe transports: their options, their connect, and the SDP for
//! whoever receives from a plain one. Everything else about a transport is in `transports.rs`.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use ironcast_api::{
    ConnectTransport, CreateTransport, ErrorCode, EventSeq, Id, PlainConnectAnswer, Problem,
    SrtpCryptoSuite, TransportLink, TransportTuple, TransportType,
};
use ironcast_protocol::{
    Command, Reply,
    plain::{ConnectPlainTransport, CreatePlainTransport, PlainTransportCreated},
};

use super::transports::{connected_already, find, seen};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    convert,
    engine::{Engine, State, Step, unexpected},
    note::{self, BodyHash, ConnectNote},
    registry::{PackedInfo, Transport},
    sdp,
};

/// Media type of SDP (RFC 8866 section 8.1).
pub const SDP: &str = "application/sdp";

/// The options of a plain or pipe transport, checked.
pub struct Wanted {
    listen: Option<IpAddr>,
    port: Option<u16>,
    rtcp_mux: bool,
    comedia: bool,
    suite: Option<SrtpCryptoSuite>,
    is_pipe: bool,
}

impl Wanted {
    /// Out of those of any transport.
    pub fn read(create: &CreateTransport) -> Result<Self, Problem> {
        let listen = create.listen_address.as_deref().map(|text| ip(text, "/listenAddress"));
        let is_sealed = create.enable_srtp == Some(true);
        let is_pipe = create.kind == TransportType::Pipe;
        // As with mediasoup: between two servers there is nothing to negotiate.
        let usual = if is_pipe { SrtpCryptoSuite::AeadAes256Gcm } else { Default::default() };
        Ok(Self {
            listen: listen.transpose()?,
            // As with mediasoup, 0 leaves the choice to us.
            port: create.port.filter(|port| *port != 0),
            rtcp_mux: create.rtcp_mux != Some(false),
            comedia: create.comedia == Some(true),
            suite: is_sealed.then(|| create.srtp_crypto_suite.unwrap_or(usual)),
            is_pipe,
        })
    }

    /// For the dataplane.
    pub fn command(&self, state: &State, id: &Id, router: String, note: Vec<u8>) -> Command {
        let usual = self.is_pipe.then_some(state.pipes_listen);
        Command::CreatePlainTransport(CreatePlainTransport {
            id: id.to_string(),
            router,
            listen: self.listen.or(usual),
            port: self.port,
            rtcp_mux: self.rtcp_mux,
            comedia: self.comedia,
            srtp_suite: self.suite.map(|suite| suite.as_str().to_owned()),
            pipe: self.is_pipe,
            note,
        })
    }
}

/// Names the field that the dataplane refused: an address that is not ours, a port that is taken.
pub fn about_sockets(problem: Problem) -> Problem {
    match problem.code {
        ErrorCode::WrongState if problem.pointer.is_none() => problem.with_pointer("/port"),
        _ => problem.about("/listenAddress"),
    }
}

fn ip(text: &str, pointer: &str) -> Result<IpAddr, Problem> {
    let wrong = |_| Problem::invalid(pointer, "an IPv4 or IPv6 address is needed");
    text.parse().map_err(wrong)
}

/// Refuses what only a plain transport is told.
pub fn refuse_plain(connect: &ConnectTransport) -> Result<(), Problem> {
    let given = [
        ("ip", connect.ip.is_some()),
        ("port", connect.port.is_some()),
        ("rtcpPort", connect.rtcp_port.is_some()),
        ("srtpParameters", connect.srtp_parameters.is_some()),
    ];
    match given.iter().find(|(_, is_given)| *is_given) {
        None => Ok(()),
        Some((field, _)) => {
            let detail = format!("a webrtc transport is not told {field}");
            Err(Problem::invalid(format!("/{field}"), detail))
        }
    }
}

/// What the links without ICE have in common.
struct Link<'a> {
    tuple: &'a TransportTuple,
    is_sealed: bool,
    rtcp_mux: bool,
    comedia: bool,
}

impl<'a> Link<'a> {
    fn of(transport: &'a Transport) -> Result<Self, Problem> {
        match &transport.info.link {
            TransportLink::Plain(link) => Ok(Self {
                tuple: &link.tuple,
                is_sealed: link.srtp_parameters.is_some(),
                rtcp_mux: link.rtcp_mux,
                comedia: link.comedia,
            }),
            TransportLink::Pipe(link) => Ok(Self {
                tuple: &link.tuple,
                is_sealed: link.srtp_parameters.is_some(),
                rtcp_mux: true,
                comedia: false,
            }),
            TransportLink::Webrtc(_) => Err(not_plain()),
        }
    }
}

/// What a plain or pipe transport is told of its peer.
struct Peer {
    remote: Option<SocketAddr>,
    rtcp_remote: Option<SocketAddr>,
}

impl Peer {
    /// As far as it fits the transport: the errors are those of mediasoup.
    fn read(connect: &ConnectTransport, transport: &Transport) -> Result<Self, Problem> {
        let link = Link::of(transport)?;
        if connect.dtls_parameters.is_some() {
            let detail = "only a webrtc transport has DTLS";
            return Err(Problem::invalid("/dtlsParameters", detail));
        }
        match (&connect.srtp_parameters, link.is_sealed) {
            (None, true) => {
                let detail = "enableSrtp is on: the peer's srtpParameters are needed";
                return Err(Problem::invalid("/srtpParameters", detail));
            }
            (Some(_), false) => {
                let detail = "enableSrtp is off: there is no use for srtpParameters";
                return Err(Problem::invalid("/srtpParameters", detail));
            }
            _ => {}
        }
        let given = [
            ("/ip", connect.ip.is_some()),
            ("/port", connect.port.is_some()),
            ("/rtcpPort", connect.rtcp_port.is_some()),
        ];
        if link.comedia {
            if let Some((pointer, _)) = given.iter().find(|(_, is_given)| *is_given) {
                let detail = "comedia is on: the peer's address is learned from its packets";
                return Err(Problem::invalid(*pointer, detail));
            }
            return Ok(Self { remote: None, rtcp_remote: None });
        }
        if link.rtcp_mux && connect.rtcp_port.is_some() {
            return Err(Problem::invalid("/rtcpPort", "rtcpMux is on: RTCP has the port of RTP"));
        }
        let needed = given.iter().filter(|(pointer, _)| *pointer != "/rtcpPort" || !link.rtcp_mux);
        if let Some((pointer, _)) = needed.clone().find(|(_, is_given)| !is_given) {
            let detail = "needed where comedia is off";
            return Err(Problem::invalid(*pointer, detail));
        }
        let ip = ip(connect.ip.as_deref().unwrap_or_default(), "/ip")?;
        let own: IpAddr = self::ip(&link.tuple.local_address, "/ip")?;
        if ip.is_ipv4() != own.is_ipv4() {
            let detail = format!("the transport listens on {own}: an address of that family");
            return Err(Problem::invalid("/ip", detail));
        }
        let at = |port: Option<u16>| port.map(|port| SocketAddr::new(ip, port));
        Ok(Self { remote: at(connect.port), rtcp_remote: at(connect.rtcp_port) })
    }
}

fn not_plain() -> Problem {
    Problem::new(ErrorCode::WrongState, "this is not a plain transport")
}

/// `POST /transports/{id}/connect` of a plain or pipe transport.
pub async fn connect(
    engine: &Arc<Engine>,
    who: &Principal,
    id: &Id,
    connect: &ConnectTransport,
    hash: BodyHash,
) -> Result<(PlainConnectAnswer, EventSeq), Problem> {
    let wrong = || {
        let detail = "key and salt as base64, as long as the suite says";
        Problem::invalid("/srtpParameters/keyBase64", detail)
    };
    let srtp = connect.srtp_parameters.as_ref();
    let srtp = srtp.map(|srtp| convert::srtp(srtp).ok_or_else(wrong)).transpose()?;
    let note = note::write(&ConnectNote { hash })?;
    engine
        .run(|state| {
            let transport = state.registry.transport(who, id)?;
            match transport.connect_hash {
                Some(other) if other == hash => return Ok(Step::Done(answer(transport)?)),
                Some(_) => return Err(connected_already()),
                None => {}
            }
            let Peer { remote, rtcp_remote } = Peer::read(connect, transport)?;
            let command = Command::ConnectPlainTransport(ConnectPlainTransport {
                id: id.to_string(),
                remote,
                rtcp_remote,
                srtp: srtp.clone(),
                note: note.clone(),
            });
            let id = id.clone();
            Ok(Step::ask(command, move |state, reply| {
                connected(state, &id, hash, (remote, rtcp_remote), reply)
            }))
        })
        .await
}

fn connected(
    state: &mut State,
    id: &Id,
    hash: BodyHash,
    (remote, rtcp_remote): (Option<SocketAddr>, Option<SocketAddr>),
    reply: Result<Reply, Problem>,
) -> Result<PlainConnectAnswer, Problem> {
    let created = match reply {
        Ok(Reply::PlainTransportConnected(created)) => created,
        Ok(other) => return Err(unexpected(&other)),
        Err(problem) if problem.code == ErrorCode::WrongState => {
            // The same call may have been on its way twice.
            let transport = find(state, id)?;
            if transport.connect_hash == Some(hash) {
                return answer(transport);
            }
            return Err(problem);
        }
        Err(problem) if problem.code == ErrorCode::Forbidden => {
            return Err(problem.with_pointer("/ip"));
        }
        Err(problem) => return Err(problem.about("/ip")),
    };
    let PlainTransportCreated { local, rtcp_local, srtp } = created;
    let transport = find(state, id)?;
    transport.connect_hash = Some(hash);
    transport.srtp_profile = srtp.as_ref().map(|srtp| srtp.suite.clone());
    let tuple = |local, remote| {
        use ironcast_protocol::command::Tuple;
        Some(convert::tuple(Tuple { local, remote: remote?, protocol: Default::default() }))
    };
    let (ends, srtp) = (tuple(local, remote), srtp.as_ref().and_then(convert::api_srtp));
    match &mut transport.info.link {
        TransportLink::Plain(link) => {
            link.tuple = ends.unwrap_or_else(|| link.tuple.clone());
            if let Some(tuple) = rtcp_local.and_then(|local| tuple(local, rtcp_remote)) {
                link.rtcp_tuple = Some(tuple);
            }
            link.srtp_parameters = srtp;
        }
        TransportLink::Pipe(link) => {
            link.tuple = ends.unwrap_or_else(|| link.tuple.clone());
            link.srtp_parameters = srtp;
        }
        TransportLink::Webrtc(_) => return Err(not_plain()),
    }
    answer(transport)
}

fn answer(transport: &Transport) -> Result<PlainConnectAnswer, Problem> {
    let (tuple, rtcp_tuple, srtp_parameters) = match &transport.info.link {
        TransportLink::Plain(link) => (&link.tuple, link.rtcp_tuple.clone(), &link.srtp_parameters),
        TransportLink::Pipe(link) => (&link.tuple, None, &link.srtp_parameters),
        TransportLink::Webrtc(_) => return Err(not_plain()),
    };
    let (tuple, srtp_parameters) = (tuple.clone(), srtp_parameters.clone());
    Ok(PlainConnectAnswer { tuple, rtcp_tuple, srtp_parameters })
}

/// `GET /transports/{id}/sdp`.
pub async fn sdp(engine: &Arc<Engine>, call: &Call, id: &Id) -> Result<Answer, Problem> {
    let ((link, packed), seq) = engine
        .run(|state| {
            let transport = seen(state, call, id)?;
            let link = transport.info.plain().ok_or_else(not_plain)?.clone();
            let consumers = transport.consumers.iter();
            let consumers = consumers.filter_map(|id| state.registry.consumers.get(id));
            let packed: Vec<_> = consumers.map(|one| one.packed_info()).collect();
            Ok(Step::Done((link, packed)))
        })
        .await?;
    // Without the lock: a transport may have thousands of them.
    let unpack = |one: PackedInfo| {
        let info = one.unpack();
        (info.kind, info.rtp_parameters)
    };
    let sent: Vec<_> = packed.into_iter().map(unpack).collect();
    let text = sdp::write(id, &link, &sent)?;
    Ok(Answer { status: 200, body: text.into(), media_type: SDP, seq, about: None })
}
