//! [`Media`] over the control API, by its QUIC client. One call here is one call there; only
//! shapes and errors are translated.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use ironcast_api::{
    AppData, Batch, BatchAnswer, BatchCall, ConnectTransport, ConsumerInfo, ConsumerLayers,
    CreateConsumer, CreateObserver, CreatePipe, CreateProducer, CreateRouter, CreateTransport,
    DataplaneStatus, DtlsParameters, ErrorCode, Event, EventData, EventSeq, HealthStatus, Id,
    MediaKind, ObserverType, PatchConsumer, PipeRemote, Problem, RouterInfo, RouterSnapshot,
    TransportInfo, TransportLink, TransportSnapshot, WorkerStatus,
};
use ironcast_client::{Client, ClientError, EventsError, Token, Trust};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::media::{
    Answer, Bitrates, Consumed, ConsumerView, Draining, Events, Load, Made, Media, MediaError,
    MediaEvent, MediaResult, New, NewConsumer, NewPlainTransport, NewProducer, NewTransport,
    Numbered, ProducerView, RouterView, Snapshot, TransportView,
};

/// Longest time for one call. Browsers wait for the answer: better a clear "try again" soon.
const CALL_TIME_MAX: Duration = Duration::from_secs(3);

/// A connection that does not bring the answer to a look by then is doubted.
const READY_TIME_MAX: Duration = Duration::from_millis(400);

/// From this average on somebody speaks, dBov: words with their pauses are above it, a quiet room is
/// not.
const SPEAKING_MIN_DBOV: i8 = -65;

/// Questions for figures under way at once.
const STATS_AT_ONCE: usize = 8;

/// Who speaks is looked at so often.
const SPEAKING_EVERY_MS: u32 = 400;

/// So many are shown as speaking at once.
const SPEAKERS_MAX: u16 = 4;

/// Where the control API is and what is trusted there.
#[derive(Debug, Clone)]
pub struct Access {
    /// `https://host:port`.
    pub url: String,
    /// Certificate, PEM: a CA's, or the development certificate.
    pub ca: PathBuf,
    /// A file with the bearer token, if one is needed.
    pub token_file: Option<PathBuf>,
    /// A client certificate and its private key, PEM, if one is needed.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// The media server behind a control API.
pub struct ControlMedia {
    client: Client,
    limits: RoomLimits,
}

/// Who is heard and seen in each room; none: all.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoomLimits {
    /// The videos of so many who spoke last.
    pub last_n: Option<u16>,
    /// So many voices, the loudest.
    pub loudest_n: Option<u16>,
}

impl ControlMedia {
    /// Connects when first asked; the server and its certificate need not be there yet.
    pub fn new(access: Access, limits: RoomLimits) -> Result<Self, ClientError> {
        let mut builder =
            Client::builder(access.url).trust(Trust::File(access.ca)).timeout(CALL_TIME_MAX);
        if let Some(file) = access.token_file {
            builder = builder.token(Token::File(file));
        }
        if let Some((certificate, key)) = access.identity {
            builder = builder.identity(certificate, key);
        }
        Ok(Self { client: builder.build()?, limits })
    }
}

/// What the server is not able to do right now is tried again; what it refuses is handed on.
fn translate(error: ClientError) -> MediaError {
    match error {
        ClientError::Problem(problem) => translate_problem(&problem),
        other => MediaError::Unavailable(other.to_string()),
    }
}

fn translate_problem(problem: &Problem) -> MediaError {
    match problem.code {
        ErrorCode::DataplaneUnavailable | ErrorCode::Timeout | ErrorCode::Internal => {
            MediaError::Unavailable(problem.to_string())
        }
        ErrorCode::RateLimited => {
            let seconds = problem.retry_after.unwrap_or(1);
            MediaError::Busy { retry_after: Duration::from_secs(seconds.into()) }
        }
        // Ours, not the browser's: what it can do about it is to try later.
        ErrorCode::Unauthenticated | ErrorCode::Forbidden => {
            tracing::error!(%problem, "the control API does not accept this service");
            MediaError::Unavailable(problem.to_string())
        }
        code => {
            MediaError::Refused { code: code.as_str().to_owned(), message: problem.detail.clone() }
        }
    }
}

/// The same for a pipe: what is forbidden is the other host, not this service.
fn translate_pipe(error: ClientError) -> MediaError {
    match error {
        ClientError::Problem(problem) if problem.code == ErrorCode::Forbidden => {
            MediaError::Refused { code: "forbidden".to_owned(), message: problem.detail }
        }
        other => translate(other),
    }
}

/// What one call of a batch answered.
fn of_batch(answer: BatchAnswer) -> MediaResult<Value> {
    if answer.status < 300 {
        return Ok(answer.body);
    }
    let problem: Problem = read(answer.body)?;
    Err(translate_problem(&problem))
}

fn read<T: DeserializeOwned>(answer: Value) -> MediaResult<T> {
    serde_json::from_value(answer).map_err(|error| MediaError::Unavailable(error.to_string()))
}

fn as_json(value: impl Serialize) -> MediaResult<Value> {
    serde_json::to_value(value).map_err(|error| MediaError::Unavailable(error.to_string()))
}

fn post(path: &str, body: impl Serialize) -> MediaResult<BatchCall> {
    Ok(BatchCall { method: "POST".to_owned(), path: path.to_owned(), body: as_json(body)? })
}

/// Who listens to a room, under the router's id: ids of different kinds are different names.
fn create_observer(router_id: Id) -> CreateObserver {
    CreateObserver {
        id: Some(router_id.clone()),
        router_id,
        observer_type: ObserverType::AudioLevel,
        threshold: Some(SPEAKING_MIN_DBOV),
        interval: Some(SPEAKING_EVERY_MS),
        max_entries: Some(SPEAKERS_MAX),
        app_data: None,
    }
}

fn create_transport(new: NewTransport) -> CreateTransport {
    CreateTransport {
        id: Some(new.id),
        participant_id: Some(new.session),
        rtp_capabilities: new.rtp_capabilities,
        app_data: Some(new.note),
        ..CreateTransport::webrtc(new.router_id)
    }
}

fn create_consumer(new: NewConsumer) -> CreateConsumer {
    CreateConsumer {
        id: Some(new.id),
        transport_id: new.transport_id,
        producer_id: new.producer_id,
        rtp_capabilities: new.rtp_capabilities,
        paused: Some(true),
        preferred_layers: None,
        mid: None,
        // Also for sound, where the default is without repair.
        enable_rtx: Some(true),
        ignore_dtx: None,
        pipe: None,
        app_data: None,
    }
}

fn consumed(made: ConsumerInfo) -> MediaResult<Consumed> {
    Ok(Consumed {
        kind: made.kind,
        rtp_parameters: as_json(made.rtp_parameters)?,
        kind_of_stream: as_json(made.consumer_type)?,
        producer_paused: made.producer_paused,
        score: as_json(made.score)?,
    })
}

fn of(is_transport: bool, answer: Value) -> MediaResult<Made> {
    if is_transport {
        let made: TransportInfo = read(answer)?;
        let TransportLink::Webrtc(link) = made.link else {
            return Err(MediaError::Unavailable(
                "a transport of another kind came back".to_owned(),
            ));
        };
        return Ok(Made::Transport(json!({
            "id": made.id,
            "iceParameters": link.ice_parameters,
            "iceCandidates": link.ice_candidates,
            "dtlsParameters": link.dtls_parameters,
        })));
    }
    consumed(read(answer)?).map(Made::Consumer)
}

impl ControlMedia {
    /// Several calls in one request. One answer for each, in order.
    async fn batch(
        &self,
        calls: impl Iterator<Item = MediaResult<BatchCall>>,
    ) -> Vec<MediaResult<Value>> {
        let calls: Vec<_> = calls.collect();
        let count = calls.len();
        let asked = async {
            let calls = calls.into_iter().collect::<MediaResult<_>>()?;
            self.client.batch(&Batch { calls, stop_on_error: false }).await.map_err(translate)
        };
        let mut answers: Vec<_> = match asked.await {
            Ok(answers) => answers.answers.into_iter().map(of_batch).collect(),
            Err(error) => vec![error; count].into_iter().map(Err).collect(),
        };
        let missing = || Err(MediaError::Unavailable("the batch was not answered whole".into()));
        answers.resize_with(count, missing);
        answers
    }
}

impl Media for ControlMedia {
    fn create_router(&self, id: Id, app_data: AppData) -> Answer<'_, Value> {
        async move {
            let create = CreateRouter {
                id: Some(id.clone()),
                last_n: self.limits.last_n,
                loudest_n: self.limits.loudest_n,
                app_data: Some(app_data),
                ..CreateRouter::default()
            };
            let calls = [post("/routers", create), post("/observers", create_observer(id))];
            let mut answers = self.batch(calls.into_iter()).await;
            // Without it (an earlier media server, a limit) nobody is shown as speaking.
            if let Some(Err(error)) = answers.pop() {
                tracing::debug!(%error, "a room without an observer");
            }
            let router: RouterInfo = read(answers.pop().unwrap_or(Ok(Value::Null))?)?;
            as_json(router.rtp_capabilities)
        }
        .boxed()
    }

    fn delete_router(&self, id: Id) -> Answer<'_, ()> {
        async move { self.client.delete_router(&id).await.map_err(translate) }.boxed()
    }

    fn make_all(&self, new: Vec<New>) -> BoxFuture<'_, Vec<MediaResult<Made>>> {
        async move {
            let are_transports: Vec<_> =
                new.iter().map(|each| matches!(each, New::Transport(_))).collect();
            let calls = new.into_iter().map(|each| match each {
                New::Transport(new) => post("/transports", create_transport(new)),
                New::Consumer(new) => post("/consumers", create_consumer(new)),
            });
            let answers = self.batch(calls).await;
            are_transports
                .into_iter()
                .zip(answers)
                .map(|(is_one, made)| of(is_one, made?))
                .collect()
        }
        .boxed()
    }

    fn create_plain_transport(&self, new: NewPlainTransport) -> Answer<'_, SocketAddr> {
        async move {
            let create = CreateTransport {
                id: Some(new.id),
                app_data: Some(new.note),
                listen_address: new.ip.map(|ip| ip.to_string()),
                rtcp_mux: Some(true),
                comedia: Some(false),
                ..CreateTransport::plain(new.router_id)
            };
            let made = self.client.create_transport(&create).await.map_err(translate)?;
            let other = || MediaError::Unavailable("this is no plain transport".to_owned());
            let tuple = &made.plain().ok_or_else(other)?.tuple;
            let ip = tuple.local_address.parse().map_err(|_| other())?;
            Ok(SocketAddr::new(ip, tuple.local_port))
        }
        .boxed()
    }

    fn connect_plain_transport(&self, id: Id, to: SocketAddr) -> Answer<'_, ()> {
        async move {
            let (ip, port) = (Some(to.ip().to_string()), Some(to.port()));
            let peer = ConnectTransport { ip, port, ..ConnectTransport::default() };
            self.client.connect_plain_transport(&id, &peer).await.map_err(translate)?;
            Ok(())
        }
        .boxed()
    }

    fn connect_transport(&self, id: Id, dtls: DtlsParameters) -> Answer<'_, ()> {
        async move {
            self.client.connect_transport(&id, &dtls).await.map_err(translate)?;
            Ok(())
        }
        .boxed()
    }

    fn restart_ice(&self, id: Id) -> Answer<'_, Value> {
        async move {
            let answer = self.client.restart_ice(&id).await.map_err(translate)?;
            as_json(answer.ice_parameters)
        }
        .boxed()
    }

    fn delete_transport(&self, id: Id) -> Answer<'_, ()> {
        async move { self.client.delete_transport(&id).await.map_err(translate) }.boxed()
    }

    fn produce(&self, new: NewProducer) -> Answer<'_, ()> {
        async move {
            let (router_id, producer_id) = (new.router_id, new.id.clone());
            let create = CreateProducer {
                piped_from: None,
                id: Some(new.id),
                transport_id: new.transport_id,
                kind: new.kind,
                rtp_parameters: new.rtp_parameters,
                paused: Some(new.paused),
                key_frame_request_delay: None,
                app_data: Some(new.app_data),
            };
            if create.kind == MediaKind::Video {
                self.client.create_producer(&create).await.map_err(translate)?;
                return Ok(());
            }
            let listen = BatchCall {
                method: "POST".to_owned(),
                path: format!("/observers/{router_id}/producers/{producer_id}"),
                body: Value::Null,
            };
            let calls = [post("/producers", create), Ok(listen)];
            let mut answers = self.batch(calls.into_iter()).await;
            if let Some(Err(error)) = answers.pop() {
                tracing::debug!(%error, "nobody listens to who speaks");
            }
            answers.pop().unwrap_or(Ok(Value::Null)).map(|_| ())
        }
        .boxed()
    }

    fn pipe(&self, producer_id: Id, router_id: Id, url: String) -> Answer<'_, Id> {
        async move {
            let remote = Some(PipeRemote { url });
            let create = CreatePipe { producer_id, router_id, remote, keep_id: None };
            Ok(self.client.create_pipe(&create).await.map_err(translate_pipe)?.producer_id)
        }
        .boxed()
    }

    fn pause_producer(&self, id: Id, paused: bool) -> Answer<'_, ()> {
        async move {
            let done = if paused {
                self.client.pause_producer(&id).await
            } else {
                self.client.resume_producer(&id).await
            };
            done.map_err(translate)
        }
        .boxed()
    }

    fn delete_producer(&self, id: Id) -> Answer<'_, ()> {
        async move { self.client.delete_producer(&id).await.map_err(translate) }.boxed()
    }

    fn delete_consumer(&self, id: Id) -> Answer<'_, ()> {
        async move { self.client.delete_consumer(&id).await.map_err(translate) }.boxed()
    }

    fn resume_consumers(&self, ids: Vec<Id>) -> BoxFuture<'_, Vec<MediaResult<()>>> {
        async move {
            let calls = ids.into_iter().map(|id| {
                let path = format!("/consumers/{id}/resume");
                Ok(BatchCall { method: "POST".to_owned(), path, body: Value::Null })
            });
            let answers = self.batch(calls).await;
            answers.into_iter().map(|answer| answer.map(|_| ())).collect()
        }
        .boxed()
    }

    fn pause_consumer(&self, id: Id, paused: bool) -> Answer<'_, ()> {
        async move {
            let done = if paused {
                self.client.pause_consumer(&id).await
            } else {
                self.client.resume_consumer(&id).await
            };
            done.map_err(translate)
        }
        .boxed()
    }

    fn prefer_layers(&self, id: Id, spatial: u8, temporal: Option<u8>) -> Answer<'_, ()> {
        async move {
            let layers = ConsumerLayers { spatial_layer: spatial, temporal_layer: temporal };
            let patch = PatchConsumer { preferred_layers: Some(layers), priority: None };
            self.client.patch_consumer(&id, &patch).await.map_err(translate)?;
            Ok(())
        }
        .boxed()
    }

    fn request_key_frame(&self, id: Id) -> Answer<'_, ()> {
        async move { self.client.request_key_frame(&id).await.map_err(translate) }.boxed()
    }

    fn leave(&self, router_id: Id, session: Id) -> Answer<'_, ()> {
        async move {
            self.client.leave(&router_id, &session).await.map_err(translate)?;
            Ok(())
        }
        .boxed()
    }

    /// A process that was started again knows nothing of the connection to the one before, which is
    /// silent then for as long as it is waited for: whether that is so a new one tells.
    fn ready(&self) -> Answer<'_, ()> {
        async move {
            let asked = tokio::time::timeout(READY_TIME_MAX, self.client.ready()).await;
            let answer = match asked {
                Ok(answer) => answer,
                Err(_) => {
                    let answer = self.client.anew().ready().await;
                    if matches!(answer, Ok(_) | Err(ClientError::Problem(_))) {
                        self.client.disconnect();
                    }
                    answer
                }
            };
            answer.map_err(translate)?;
            Ok(())
        }
        .boxed()
    }

    fn load(&self) -> Answer<'_, Load> {
        async move {
            let workers = self.client.workers().await.map_err(translate)?;
            let running = workers.iter().filter(|one| one.status == WorkerStatus::Running);
            let loads: Vec<f64> = running.map(|one| one.load).collect();
            // One without workers is not healthy: nobody goes by this.
            let load = loads.iter().sum::<f64>() / loads.len().max(1) as f64;
            Ok(Load { load, routers: workers.iter().map(|one| one.routers).sum() })
        }
        .boxed()
    }

    fn router(&self, id: Id) -> Answer<'_, RouterView> {
        async move {
            let snapshot = self.client.snapshot(Some(&id)).await.map_err(translate)?;
            let missing = || MediaError::Refused {
                code: ErrorCode::NotFound.as_str().to_owned(),
                message: format!("there is no router {id}"),
            };
            snapshot.routers.first().map(view).ok_or_else(missing)
        }
        .boxed()
    }

    fn bitrates(&self, transport_ids: Vec<Id>) -> BoxFuture<'_, HashMap<String, Bitrates>> {
        let each = futures::stream::iter(transport_ids).map(async |id| {
            let stats = self.client.transport_stats(&id).await.ok()?;
            let stats = stats.first()?;
            let bitrates = Bitrates { received: stats.recv_bitrate, sent: stats.send_bitrate };
            Some((id.to_string(), bitrates))
        });
        let answered = each.buffer_unordered(STATS_AT_ONCE).filter_map(async |each| each);
        answered.collect().boxed()
    }

    fn snapshot(&self) -> Answer<'_, Snapshot> {
        async move {
            // A control plane that has not found its dataplane yet knows of nothing: that must
            // not be taken for everything being gone.
            let health = self.client.health().await.map_err(translate)?;
            if health.dataplane.status != DataplaneStatus::Connected {
                return Err(MediaError::Unavailable("the dataplane is away".to_owned()));
            }
            let snapshot = self.client.snapshot(None).await.map_err(translate)?;
            let routers = snapshot.routers.iter().map(view).collect();
            let draining = match health.status {
                // Until when is worth less than being in step.
                HealthStatus::Draining => {
                    let status = self.client.drain_status().await;
                    Draining::Until(status.ok().and_then(|status| status.deadline))
                }
                _ => Draining::No,
            };
            Ok(Snapshot { seq: snapshot.seq.to_string(), routers, draining })
        }
        .boxed()
    }

    fn events(&self, after: String) -> Events {
        let after: Option<EventSeq> = after.parse().ok();
        self.client
            .events(after, None)
            .map(|item| match item {
                Ok(event) => Ok(numbered(event)),
                Err(EventsError::Lost) => {
                    Err(MediaError::Unavailable("events were lost".to_owned()))
                }
                Err(EventsError::Refused(error)) => Err(translate(error)),
            })
            .boxed()
    }
}

fn view(router: &RouterSnapshot) -> RouterView {
    RouterView {
        id: router.router.id.to_string(),
        app_data: json!(router.router.app_data),
        rtp_capabilities: json!(router.router.rtp_capabilities),
        transports: router.transports.iter().map(view_transport).collect(),
    }
}

fn view_transport(below: &TransportSnapshot) -> TransportView {
    let transport = &below.transport;
    let producers = below.producers.iter().map(|producer| ProducerView {
        id: producer.id.to_string(),
        kind: producer.kind,
        paused: producer.paused,
        unwatched: producer.layers_unwatched.clone(),
        mid: producer.rtp_parameters.mid.clone(),
        app_data: producer.app_data.clone(),
    });
    let consumers = below.consumers.iter().map(|consumer| ConsumerView {
        id: consumer.id.to_string(),
        producer_id: consumer.producer_id.to_string(),
    });
    TransportView {
        id: transport.id.to_string(),
        session: transport.participant_id.as_ref().map(Id::to_string),
        app_data: json!(transport.app_data),
        is_pipe: transport.pipe().is_some(),
        producers: producers.collect(),
        consumers: consumers.collect(),
    }
}

/// A reason as it is written in JSON.
fn word(reason: impl Serialize) -> String {
    match serde_json::to_value(reason) {
        Ok(Value::String(word)) => word,
        _ => String::new(),
    }
}

fn numbered(event: Event) -> Numbered {
    let seq = event.seq.to_string();
    let router_id = event.router_id.map(String::from);
    let event = match event.data {
        EventData::WorkerDied(died) => MediaEvent::RoutersDied {
            router_ids: died.router_ids.into_iter().map(String::from).collect(),
            reason: died.reason,
        },
        EventData::RouterClosed(closed) => MediaEvent::RoutersDied {
            router_ids: router_id.into_iter().collect(),
            reason: word(closed.reason),
        },
        EventData::TransportClosed(closed) => MediaEvent::TransportClosed {
            transport_id: closed.transport_id.into(),
            reason: word(closed.reason),
        },
        EventData::TransportDtlsStateChange(change) => match change.reason {
            Some(reason) => MediaEvent::ConnectionFailed {
                transport_id: change.transport_id.into(),
                reason: word(reason),
            },
            None => MediaEvent::Other,
        },
        EventData::ProducerClosed(closed) => {
            MediaEvent::ProducerClosed { producer_id: closed.producer_id.into() }
        }
        EventData::ProducerLayersUnwatched(told) => MediaEvent::LayersUnwatched {
            producer_id: told.producer.producer_id.into(),
            encodings: told.encodings,
        },
        EventData::ConsumerClosed(closed) => MediaEvent::ConsumerClosed {
            consumer_id: closed.consumer.consumer_id.into(),
            reason: word(closed.reason),
        },
        EventData::ConsumerLayersChange(change) => MediaEvent::LayersChanged {
            consumer_id: change.consumer.consumer_id.into(),
            layers: json!(change.layers),
            reason: Some(word(change.reason)),
        },
        EventData::ObserverVolumes(told) => MediaEvent::Speakers {
            router_id: router_id.unwrap_or_default(),
            producers: told
                .volumes
                .into_iter()
                .map(|one| (one.producer_id.into(), one.volume))
                .collect(),
        },
        EventData::ObserverSilence(_) => {
            MediaEvent::Speakers { router_id: router_id.unwrap_or_default(), producers: Vec::new() }
        }
        EventData::HostDraining(host) => MediaEvent::Draining(Draining::Until(host.deadline)),
        EventData::HostUndrained(_) => MediaEvent::Draining(Draining::No),
        EventData::ConsumerScore(score) => MediaEvent::Score {
            consumer_id: score.consumer.consumer_id.into(),
            score: json!(score.score),
        },
        _ => MediaEvent::Other,
    };
    Numbered { seq, event }
}
