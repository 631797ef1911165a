//! Every call of the API as a method. All of them are safe to repeat: a create without an id gets
//! one here, so that a repeated request is recognised.

use bytes::Bytes;
use http::Method;
use ironcast_api::{
    Batch, BatchAnswers, CanConsume, CanConsumeAnswer, ConnectAnswer, ConnectTransport,
    ConsumerInfo, ConsumerList, CreateConsumer, CreateObserver, CreatePipe, CreateProducer,
    CreateRouter, CreateTransport, CreateWebhook, CreatedWebhook, DrainRequest, DrainStatus,
    DtlsParameters, EventSeq, Health, Id, LeaveAnswer, ObserverInfo, ObserverList, PatchConsumer,
    PatchTransport, Piped, PlainConnectAnswer, ProducerInfo, ProducerList, RestartIceAnswer,
    RouterDetails, RouterInfo, RouterList, RtpCapabilities, RtpStreamStats, Snapshot, Top,
    TransportInfo, TransportList, TransportStats, WebhookInfo, WebhookList, WorkerInfo,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{Client, ClientError, EventStream, RawAnswer, connection::refusal};

type Answer<T> = Result<T, ClientError>;

/// Routers of one page of the snapshot.
const SNAPSHOT_ROUTERS: u32 = 100;
/// A snapshot that meets a new epoch is begun again so often.
const SNAPSHOT_BEGINNINGS_MAX: u32 = 5;

/// Which page of a list: ids behind `after`, of one router if given.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// The last id of the page before.
    pub after: Option<Id>,
    /// How many.
    pub limit: Option<u32>,
    /// Only of this router.
    pub router_id: Option<Id>,
}

impl ListPage {
    /// Ids need no escaping: their characters are those that a query takes as they are.
    fn query(&self) -> String {
        let mut parts = Vec::new();
        if let Some(after) = &self.after {
            parts.push(format!("after={after}"));
        }
        if let Some(limit) = self.limit {
            parts.push(format!("limit={limit}"));
        }
        if let Some(router_id) = &self.router_id {
            parts.push(format!("routerId={router_id}"));
        }
        if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) }
    }
}

/// A fresh id where the caller gave none.
fn id_or_new(id: &Option<Id>) -> Option<Id> {
    id.clone().or_else(|| Id::new(uuid::Uuid::new_v4().to_string()).ok())
}

impl Client {
    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Answer<T> {
        let answer = self.request_patiently(method, path, body).await?;
        Self::read(answer)
    }

    fn read<T: DeserializeOwned>(answer: RawAnswer) -> Answer<T> {
        if !(200..300).contains(&answer.status) {
            return Err(refusal(answer.status, &answer.body));
        }
        // 204 has no body; it is read as `null`, which is `()`.
        let json = if answer.body.is_empty() { &b"null"[..] } else { &answer.body };
        serde_json::from_slice(json).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Answer<T> {
        self.call(Method::GET, path, None).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Answer<T> {
        let body =
            serde_json::to_vec(body).map_err(|error| ClientError::Settings(error.to_string()))?;
        self.call(method, path, Some(body.into())).await
    }

    async fn act(&self, method: Method, path: &str) -> Answer<()> {
        let _: Value = self.call(method, path, None).await?;
        Ok(())
    }

    /// `GET /health`: answers without a dataplane too.
    pub async fn health(&self) -> Answer<Health> {
        self.get("/v1/health").await
    }

    /// `GET /ready`: a problem while the server takes no new rooms.
    pub async fn ready(&self) -> Answer<Health> {
        // Whoever asks this wants to know it now.
        Self::read(self.request(Method::GET, "/v1/ready", None).await?)
    }

    /// `GET /snapshot`: everything, page by page, or one router. What changed while it was read may
    /// be in it already, and is told again by the events behind its `seq`.
    pub async fn snapshot(&self, router_id: Option<&Id>) -> Answer<Snapshot> {
        if let Some(id) = router_id {
            return self.get(&format!("/v1/snapshot?routerId={id}")).await;
        }
        let mut whole: Option<Snapshot> = None;
        let mut begun = 1;
        loop {
            let after = whole.as_ref().and_then(|whole| whole.next_after.as_ref());
            let after = after.map(|id| format!("&after={id}")).unwrap_or_default();
            let path = format!("/v1/snapshot?limit={SNAPSHOT_ROUTERS}{after}");
            let page: Snapshot = self.get(&path).await?;
            match &mut whole {
                None => whole = Some(page),
                // The numbers of the first page mean nothing any more: from the beginning.
                Some(first) if first.seq.epoch != page.seq.epoch => {
                    begun += 1;
                    if begun > SNAPSHOT_BEGINNINGS_MAX {
                        let what = "the server begins anew again and again";
                        return Err(ClientError::Answer(what.into()));
                    }
                    whole = None;
                    continue;
                }
                Some(first) => {
                    first.routers.extend(page.routers);
                    first.next_after = page.next_after;
                }
            }
            if let Some(done) = whole.take_if(|whole| whole.next_after.is_none()) {
                return Ok(done);
            }
        }
    }

    /// `GET /workers`.
    pub async fn workers(&self) -> Answer<Vec<WorkerInfo>> {
        self.get("/v1/workers").await
    }

    /// `GET /workers/{id}`.
    pub async fn worker(&self, id: &Id) -> Answer<WorkerInfo> {
        self.get(&format!("/v1/workers/{id}")).await
    }

    /// `POST /routers`.
    pub async fn create_router(&self, create: &CreateRouter) -> Answer<RouterInfo> {
        let create = CreateRouter { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/routers", &create).await
    }

    /// `GET /routers`.
    pub async fn routers(&self, page: &ListPage) -> Answer<RouterList> {
        self.get(&format!("/v1/routers{}", page.query())).await
    }

    /// `GET /routers/{id}`.
    pub async fn router(&self, id: &Id) -> Answer<RouterDetails> {
        self.get(&format!("/v1/routers/{id}")).await
    }

    /// `DELETE /routers/{id}`, with all below it.
    pub async fn delete_router(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/routers/{id}")).await
    }

    /// `POST /routers/{id}/can-consume`.
    pub async fn can_consume(
        &self,
        router_id: &Id,
        producer_id: &Id,
        rtp_capabilities: &RtpCapabilities,
    ) -> Answer<bool> {
        let body = CanConsume {
            producer_id: producer_id.clone(),
            rtp_capabilities: rtp_capabilities.clone(),
        };
        let path = format!("/v1/routers/{router_id}/can-consume");
        let answer: CanConsumeAnswer = self.send(Method::POST, &path, &body).await?;
        Ok(answer.can_consume)
    }

    /// `POST /transports`; begin with [`CreateTransport::webrtc`] or [`CreateTransport::plain`].
    pub async fn create_transport(&self, create: &CreateTransport) -> Answer<TransportInfo> {
        let create = CreateTransport { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/transports", &create).await
    }

    /// `POST /transports/{id}/connect`.
    pub async fn connect_transport(
        &self,
        id: &Id,
        dtls_parameters: &DtlsParameters,
    ) -> Answer<ConnectAnswer> {
        let dtls_parameters = Some(dtls_parameters.clone());
        let body = ConnectTransport { dtls_parameters, ..ConnectTransport::default() };
        self.send(Method::POST, &format!("/v1/transports/{id}/connect"), &body).await
    }

    /// `POST /transports/{id}/connect` of a plain transport.
    pub async fn connect_plain_transport(
        &self,
        id: &Id,
        peer: &ConnectTransport,
    ) -> Answer<PlainConnectAnswer> {
        self.send(Method::POST, &format!("/v1/transports/{id}/connect"), peer).await
    }

    /// `GET /transports/{id}/sdp`: what a plain transport sends, for whoever receives it.
    pub async fn transport_sdp(&self, id: &Id) -> Answer<String> {
        let path = format!("/v1/transports/{id}/sdp");
        let answer = self.request_patiently(Method::GET, &path, None).await?;
        if !(200..300).contains(&answer.status) {
            return Err(refusal(answer.status, &answer.body));
        }
        String::from_utf8(answer.body.into())
            .map_err(|error| ClientError::Answer(error.to_string()))
    }

    /// `POST /transports/{id}/restart-ice`.
    pub async fn restart_ice(&self, id: &Id) -> Answer<RestartIceAnswer> {
        self.call(Method::POST, &format!("/v1/transports/{id}/restart-ice"), None).await
    }

    /// `PATCH /transports/{id}`.
    pub async fn patch_transport(&self, id: &Id, patch: &PatchTransport) -> Answer<TransportInfo> {
        self.send(Method::PATCH, &format!("/v1/transports/{id}"), patch).await
    }

    /// `GET /transports`.
    pub async fn transports(&self, page: &ListPage) -> Answer<TransportList> {
        self.get(&format!("/v1/transports{}", page.query())).await
    }

    /// `GET /transports/{id}`.
    pub async fn transport(&self, id: &Id) -> Answer<TransportInfo> {
        self.get(&format!("/v1/transports/{id}")).await
    }

    /// `GET /transports/{id}/stats`.
    pub async fn transport_stats(&self, id: &Id) -> Answer<Vec<TransportStats>> {
        self.get(&format!("/v1/transports/{id}/stats")).await
    }

    /// `GET /transports/{id}/dump`: the dataplane's view.
    pub async fn transport_dump(&self, id: &Id) -> Answer<Value> {
        self.get(&format!("/v1/transports/{id}/dump")).await
    }

    /// `DELETE /transports/{id}`, with its producers and consumers.
    pub async fn delete_transport(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/transports/{id}")).await
    }

    /// `POST /producers`.
    pub async fn create_producer(&self, create: &CreateProducer) -> Answer<ProducerInfo> {
        let create = CreateProducer { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/producers", &create).await
    }

    /// `POST /producers/{id}/pause`.
    pub async fn pause_producer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/producers/{id}/pause")).await
    }

    /// `POST /producers/{id}/resume`.
    pub async fn resume_producer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/producers/{id}/resume")).await
    }

    /// `GET /producers`.
    pub async fn producers(&self, page: &ListPage) -> Answer<ProducerList> {
        self.get(&format!("/v1/producers{}", page.query())).await
    }

    /// `GET /producers/{id}`.
    pub async fn producer(&self, id: &Id) -> Answer<ProducerInfo> {
        self.get(&format!("/v1/producers/{id}")).await
    }

    /// `GET /producers/{id}/stats`.
    pub async fn producer_stats(&self, id: &Id) -> Answer<Vec<RtpStreamStats>> {
        self.get(&format!("/v1/producers/{id}/stats")).await
    }

    /// `GET /producers/{id}/dump`: the dataplane's view.
    pub async fn producer_dump(&self, id: &Id) -> Answer<Value> {
        self.get(&format!("/v1/producers/{id}/dump")).await
    }

    /// `DELETE /producers/{id}`, with its consumers.
    pub async fn delete_producer(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/producers/{id}")).await
    }

    /// `POST /pipes`. What was piped before is `already_exists`: also by this call, where its answer
    /// was lost.
    pub async fn create_pipe(&self, create: &CreatePipe) -> Answer<Piped> {
        self.send(Method::POST, "/v1/pipes", create).await
    }

    /// `POST /observers`.
    pub async fn create_observer(&self, create: &CreateObserver) -> Answer<ObserverInfo> {
        let create = CreateObserver { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/observers", &create).await
    }

    /// `POST /observers/{id}/producers/{producerId}`.
    pub async fn observe_producer(&self, id: &Id, producer_id: &Id) -> Answer<ObserverInfo> {
        let path = format!("/v1/observers/{id}/producers/{producer_id}");
        self.call(Method::POST, &path, None).await
    }

    /// `DELETE /observers/{id}/producers/{producerId}`.
    pub async fn unobserve_producer(&self, id: &Id, producer_id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/observers/{id}/producers/{producer_id}")).await
    }

    /// `POST /observers/{id}/pause`.
    pub async fn pause_observer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/observers/{id}/pause")).await
    }

    /// `POST /observers/{id}/resume`.
    pub async fn resume_observer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/observers/{id}/resume")).await
    }

    /// `GET /observers`.
    pub async fn observers(&self, page: &ListPage) -> Answer<ObserverList> {
        self.get(&format!("/v1/observers{}", page.query())).await
    }

    /// `GET /observers/{id}`.
    pub async fn observer(&self, id: &Id) -> Answer<ObserverInfo> {
        self.get(&format!("/v1/observers/{id}")).await
    }

    /// `GET /observers/{id}/dump`: the dataplane's view.
    pub async fn observer_dump(&self, id: &Id) -> Answer<Value> {
        self.get(&format!("/v1/observers/{id}/dump")).await
    }

    /// `DELETE /observers/{id}`.
    pub async fn delete_observer(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/observers/{id}")).await
    }

    /// `POST /consumers`.
    pub async fn create_consumer(&self, create: &CreateConsumer) -> Answer<ConsumerInfo> {
        let create = CreateConsumer { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/consumers", &create).await
    }

    /// `POST /consumers/{id}/pause`.
    pub async fn pause_consumer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/consumers/{id}/pause")).await
    }

    /// `POST /consumers/{id}/resume`; a video consumer then asks for a key frame by itself.
    pub async fn resume_consumer(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/consumers/{id}/resume")).await
    }

    /// `POST /consumers/{id}/request-key-frame`.
    pub async fn request_key_frame(&self, id: &Id) -> Answer<()> {
        self.act(Method::POST, &format!("/v1/consumers/{id}/request-key-frame")).await
    }

    /// `PATCH /consumers/{id}`.
    pub async fn patch_consumer(&self, id: &Id, patch: &PatchConsumer) -> Answer<ConsumerInfo> {
        self.send(Method::PATCH, &format!("/v1/consumers/{id}"), patch).await
    }

    /// `GET /consumers`.
    pub async fn consumers(&self, page: &ListPage) -> Answer<ConsumerList> {
        self.get(&format!("/v1/consumers{}", page.query())).await
    }

    /// `GET /consumers/{id}`.
    pub async fn consumer(&self, id: &Id) -> Answer<ConsumerInfo> {
        self.get(&format!("/v1/consumers/{id}")).await
    }

    /// `GET /consumers/{id}/stats`.
    pub async fn consumer_stats(&self, id: &Id) -> Answer<Vec<RtpStreamStats>> {
        self.get(&format!("/v1/consumers/{id}/stats")).await
    }

    /// `GET /consumers/{id}/dump`: the dataplane's view.
    pub async fn consumer_dump(&self, id: &Id) -> Answer<Value> {
        self.get(&format!("/v1/consumers/{id}/dump")).await
    }

    /// `DELETE /consumers/{id}`.
    pub async fn delete_consumer(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/consumers/{id}")).await
    }

    /// `POST /participants/{id}/leave?routerId=`: closes all transports of a participant.
    pub async fn leave(&self, router_id: &Id, participant_id: &Id) -> Answer<LeaveAnswer> {
        let path = format!("/v1/participants/{participant_id}/leave?routerId={router_id}");
        self.call(Method::POST, &path, None).await
    }

    /// `GET /top`: the host, and the `count` busiest routers and transports.
    pub async fn top(&self, count: u32) -> Answer<Top> {
        self.get(&format!("/v1/top?count={count}")).await
    }

    /// `POST /webhooks`. Without an id of the caller's a repeated request would make another one, with
    /// another secret: it gets one here.
    pub async fn create_webhook(&self, create: &CreateWebhook) -> Answer<CreatedWebhook> {
        let create = CreateWebhook { id: id_or_new(&create.id), ..create.clone() };
        self.send(Method::POST, "/v1/webhooks", &create).await
    }

    /// `GET /webhooks`.
    pub async fn webhooks(&self) -> Answer<WebhookList> {
        self.get("/v1/webhooks").await
    }

    /// `GET /webhooks/{id}`.
    pub async fn webhook(&self, id: &Id) -> Answer<WebhookInfo> {
        self.get(&format!("/v1/webhooks/{id}")).await
    }

    /// `DELETE /webhooks/{id}`.
    pub async fn delete_webhook(&self, id: &Id) -> Answer<()> {
        self.act(Method::DELETE, &format!("/v1/webhooks/{id}")).await
    }

    /// `GET /admin/drain`.
    pub async fn drain_status(&self) -> Answer<DrainStatus> {
        self.get("/v1/admin/drain").await
    }

    /// `POST /admin/drain`: no new rooms; those that are there are closed at the deadline, if any.
    pub async fn drain(&self, request: &DrainRequest) -> Answer<DrainStatus> {
        self.send(Method::POST, "/v1/admin/drain", request).await
    }

    /// `POST /admin/undrain`: new rooms again.
    pub async fn undrain(&self) -> Answer<DrainStatus> {
        self.call(Method::POST, "/v1/admin/undrain", None).await
    }

    /// `POST /batch`. Give ids to what it creates: a batch is repeated as it is.
    pub async fn batch(&self, batch: &Batch) -> Answer<BatchAnswers> {
        self.send(Method::POST, "/v1/batch", batch).await
    }

    /// `GET /events`: after an event, or from now on; of one router, or of all. Resumes by itself.
    #[must_use]
    pub fn events(&self, after: Option<EventSeq>, router_id: Option<Id>) -> EventStream {
        EventStream::new(self.clone(), after, router_id, false)
    }

    /// The same with what other events imply: `router.closed` and `transport.closed` come behind
    /// the events of all that hung below.
    #[must_use]
    pub fn events_with_children(
        &self,
        after: Option<EventSeq>,
        router_id: Option<Id>,
    ) -> EventStream {
        EventStream::new(self.clone(), after, router_id, true)
    }
}
