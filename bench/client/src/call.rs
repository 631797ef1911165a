//! A whole call by the control API, as signaling and mediasoup-client make it together: load the
//! router's capabilities, two transports, connect, produce, consume, leave. The API is reached
//! through the small trait [`Control`], so that any way of speaking HTTP (or another SFU) fits.

use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    handshake::{DtlsRole, Fingerprint},
    ortc::{self, Device, OrtcError},
    peer::{Peer, PeerError, PeerOptions},
    receiver::ReceiveStats,
    session::{Session, SourceId},
    source::{AudioOptions, VideoOptions},
    srtp::SrtpProfile,
    tunnel,
};

/// Why a call did not work.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The API could not be reached.
    #[error("{method} {path}: {reason}")]
    Unreachable {
        /// HTTP method.
        method: String,
        /// Path.
        path: String,
        /// Why.
        reason: String,
    },
    /// The API refused.
    #[error("{method} {path}: {status} {problem}")]
    Refused {
        /// HTTP method.
        method: String,
        /// Path.
        path: String,
        /// HTTP status.
        status: u16,
        /// The problem document.
        problem: Value,
    },
    /// The answer lacks something.
    #[error("an answer of the server: {0}")]
    Answer(#[from] OrtcError),
    /// The media transport.
    #[error("transport: {0}")]
    Peer(#[from] PeerError),
}

/// Speaks to the control API.
pub trait Control: Send + Sync {
    /// One call; the path begins with `/v1`. Gives status and body (null if empty).
    fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> impl Future<Output = Result<(u16, Value), ControlError>> + Send;

    /// The same; anything but success is an error.
    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> impl Future<Output = Result<Value, ControlError>> + Send {
        async move {
            let (status, answer) = self.request(method, path, body).await?;
            if (200..300).contains(&status) {
                return Ok(answer);
            }
            Err(ControlError::Refused {
                method: method.to_owned(),
                path: path.to_owned(),
                status,
                problem: answer,
            })
        }
    }
}

/// How a participant connects.
#[derive(Debug, Clone, Default)]
pub struct JoinOptions {
    /// Options of both peers; `bind` only counts if [`Self::bind`] is set.
    pub peer: PeerOptions,
    /// Local address; without it, any address of the candidates' family.
    pub bind: Option<IpAddr>,
    /// Only candidates of IPv6 (else only of IPv4).
    pub ipv6: bool,
    /// More fields of the body of `POST /transports`.
    pub transport: Option<Value>,
}

impl JoinOptions {
    /// The same; the transport's `appData` tells what it is for: `send` or `receive`.
    #[must_use]
    pub fn directed(&self, direction: &str) -> Self {
        let mut transport = self.transport.clone().unwrap_or_else(|| json!({}));
        transport["appData"]["direction"] = json!(direction);
        Self { transport: Some(transport), ..self.clone() }
    }
}

/// One transport of a participant.
pub struct Transport {
    /// At the API.
    pub id: String,
    /// What was negotiated.
    pub profile: SrtpProfile,
    /// Runs its tracks.
    pub session: Session,
}

/// A sent track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The producer.
    pub id: String,
    /// `simple`, `simulcast`, `svc`.
    pub kind: String,
    /// In the session of the sending transport.
    pub source: SourceId,
}

/// A received track.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribed {
    /// The consumer.
    pub id: String,
    /// In the session of the receiving transport.
    pub ssrc: u32,
    /// The whole answer of the API.
    pub answer: Value,
}

/// How a track is consumed.
#[derive(Debug, Clone, Default)]
pub struct ConsumeOptions {
    /// More fields of the body of `POST /consumers`.
    pub body: Option<Value>,
    /// Stays paused.
    pub paused: bool,
    /// Does not ask for lost packets.
    pub without_nack: bool,
    /// Capabilities without the codec's repeats: lost packets come again as they were.
    pub without_rtx: bool,
}

/// One who joined a room.
pub struct Participant<C> {
    control: Arc<C>,
    /// The room.
    pub router: String,
    /// The participant's own id.
    pub id: String,
    /// Knows the router's capabilities.
    pub device: Device,
    /// Carries what is sent.
    pub send: Transport,
    /// Carries what is received.
    pub receive: Transport,
}

impl<C: Control> Participant<C> {
    /// Makes and connects both transports.
    pub async fn join(
        control: &Arc<C>,
        router: &str,
        id: &str,
        options: &JoinOptions,
    ) -> Result<Self, ControlError> {
        let room = control.call("GET", &format!("/v1/routers/{router}"), None).await?;
        let device = Device::load(&room["rtpCapabilities"])?;
        let (sends, receives) = (options.directed("send"), options.directed("receive"));
        let (send, receive) = tokio::try_join!(
            Transport::open(control.as_ref(), router, id, &sends),
            Transport::open(control.as_ref(), router, id, &receives),
        )?;
        Ok(Self {
            control: Arc::clone(control),
            router: router.to_owned(),
            id: id.to_owned(),
            device,
            send,
            receive,
        })
    }

    /// Starts a camera.
    pub async fn publish_video(
        &self,
        mut options: VideoOptions,
    ) -> Result<Published, ControlError> {
        let parameters = self.device.video_parameters(&mut options)?;
        let (id, kind) = self.produce("video", parameters).await?;
        Ok(Published { id, kind, source: self.send.session.send_video(options) })
    }

    /// Starts a microphone.
    pub async fn publish_audio(
        &self,
        mut options: AudioOptions,
    ) -> Result<Published, ControlError> {
        let parameters = self.device.audio_parameters(&mut options)?;
        let (id, kind) = self.produce("audio", parameters).await?;
        Ok(Published { id, kind, source: self.send.session.send_audio(options) })
    }

    async fn produce(
        &self,
        kind: &str,
        parameters: Value,
    ) -> Result<(String, String), ControlError> {
        let body = json!({
            "transportId": self.send.id,
            "kind": kind,
            "rtpParameters": parameters,
        });
        let answer = self.control.call("POST", "/v1/producers", Some(body)).await?;
        Ok((text(&answer, "id")?, text(&answer, "type")?))
    }

    /// Receives a track: paused first, then resumed, as clients do.
    pub async fn consume(
        &self,
        producer: &str,
        options: &ConsumeOptions,
    ) -> Result<Subscribed, ControlError> {
        let mut body = json!({
            "transportId": self.receive.id,
            "producerId": producer,
            "rtpCapabilities": self.capabilities(options.without_rtx),
            "paused": true,
        });
        merge(&mut body, options.body.as_ref());
        let answer = self.control.call("POST", "/v1/consumers", Some(body)).await?;
        let id = text(&answer, "id")?;
        let mut expected = ortc::receive_options(&answer["rtpParameters"])?;
        expected.nack &= !options.without_nack;
        let ssrc = expected.ssrc;
        self.receive.session.receive(expected);
        if !options.paused {
            self.control.call("POST", &format!("/v1/consumers/{id}/resume"), None).await?;
        }
        Ok(Subscribed { id, ssrc, answer })
    }

    fn capabilities(&self, without_rtx: bool) -> Value {
        let mut capabilities = self.device.rtp_capabilities();
        if without_rtx && let Some(codecs) = capabilities["codecs"].as_array_mut() {
            codecs.retain(|codec| codec["mimeType"] != "video/rtx");
        }
        capabilities
    }

    /// Figures of a received track.
    #[must_use]
    pub fn stats(&self, track: &Subscribed) -> ReceiveStats {
        self.receive.session.receive_stats(track.ssrc)
    }

    /// Leaves by the API; the transports are gone then.
    pub async fn leave(self) -> Result<(), ControlError> {
        let path = format!("/v1/participants/{}/leave?routerId={}", self.id, self.router);
        self.control.call("POST", &path, None).await.map(|_| ())
    }
}

impl Transport {
    /// Makes a transport and connects it.
    pub async fn open<C: Control>(
        control: &C,
        router: &str,
        participant: &str,
        options: &JoinOptions,
    ) -> Result<Self, ControlError> {
        let (id, peer, profile) = open_peer(control, router, participant, options).await?;
        Ok(Self { id, profile, session: Session::new(peer) })
    }

    /// Asks the API for new ICE credentials and uses them.
    pub async fn restart_ice<C: Control>(&self, control: &C) -> Result<(), ControlError> {
        let path = format!("/v1/transports/{}/restart-ice", self.id);
        let answer = control.call("POST", &path, None).await?;
        let credentials = ortc::ice_credentials(&answer["iceParameters"])?;
        Ok(self.session.peer().restart_ice(credentials).await?)
    }
}

/// Makes a transport at the API and connects a bare peer to it, without a session: gives the
/// transport's id, the peer and what was negotiated. The transport's `appData` tells this side of
/// ICE and DTLS, for what stands before a server that is no ICE-lite one.
pub async fn open_peer<C: Control>(
    control: &C,
    router: &str,
    participant: &str,
    options: &JoinOptions,
) -> Result<(String, Peer, SrtpProfile), ControlError> {
    let any: IpAddr = match options.ipv6 {
        true => Ipv6Addr::UNSPECIFIED.into(),
        false => Ipv4Addr::UNSPECIFIED.into(),
    };
    let bind = options.bind.unwrap_or(any);
    let mut peer = Peer::new(PeerOptions { bind, ..options.peer.clone() })?;
    let dtls = dtls_parameters(peer.role(), &peer.local_fingerprint());
    let mut body = json!({
        "routerId": router,
        "type": "webrtc",
        "participantId": participant,
    });
    merge(&mut body, options.transport.as_ref());
    let ice = peer.local_ice();
    body["appData"]["iceParameters"] =
        json!({ "usernameFragment": ice.username_fragment, "password": ice.password });
    body["appData"]["dtlsParameters"] = dtls.clone();
    let answer = control.call("POST", "/v1/transports", Some(body)).await?;
    let id = text(&answer, "id")?;
    let mut remote = ortc::remote(&answer)?;
    if remote.candidates.is_empty() {
        for candidate in ortc::candidates(&answer, "tcp")? {
            let (address, task) = tunnel::open(candidate).await.map_err(PeerError::from)?;
            remote.candidates.push(address);
            peer.keep(task);
        }
    }
    remote.candidates.retain(|candidate| candidate.is_ipv6() == options.ipv6);
    let path = format!("/v1/transports/{id}/connect");
    control.call("POST", &path, Some(json!({ "dtlsParameters": dtls }))).await?;
    let profile = peer.connect(remote).await?;
    Ok((id, peer, profile))
}

/// `dtlsParameters` of this side.
#[must_use]
pub fn dtls_parameters(role: DtlsRole, fingerprint: &Fingerprint) -> Value {
    json!({
        "role": role.name(),
        "fingerprints": [{
            "algorithm": fingerprint.algorithm,
            "value": fingerprint.value,
        }],
    })
}

/// A field of an answer that has to be there.
///
/// # Errors
/// It is not, or is no text.
pub fn text(answer: &Value, field: &'static str) -> Result<String, ControlError> {
    answer[field].as_str().map(str::to_owned).ok_or_else(|| OrtcError::Field(field).into())
}

fn merge(body: &mut Value, more: Option<&Value>) {
    if let (Some(body), Some(more)) = (body.as_object_mut(), more.and_then(Value::as_object)) {
        body.extend(more.clone());
    }
}
