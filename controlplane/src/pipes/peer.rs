//! Where a pipe's other end is: at another host, asked by its control API, or at this one, asked by the
//! same routes without a network in between. To those who make and follow pipes both are one.

use std::sync::Arc;

use futures::StreamExt as _;
use ironcast_api::{
    ConnectTransport, CreateProducer, CreateTransport, EventData, EventSeq, Id, Problem,
    ProducerInfo, RouterDetails, TransportInfo, TransportSnapshot, events::TransportClosed,
};
use ironcast_client::{Client, ClientError, EventStream, EventsError};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::sleep};

use super::GATHER;
use crate::{
    auth::Principal,
    call::{Body, Call},
    engine::Engine,
    routes,
};

/// What stands for this host where another one's address would.
pub const HERE: &str = "";

type Answer<T> = Result<T, ClientError>;

/// A refusal, as the other end's.
fn said(problem: Problem) -> ClientError {
    ClientError::Problem(Box::new(problem))
}

/// See the file's head.
pub enum Peer {
    /// Another host.
    Host(Box<Client>),
    /// This one, in somebody's name.
    Here { engine: Arc<Engine>, who: Principal },
}

/// What has become of the other end.
pub enum News {
    /// A producer is closed.
    ProducerClosed(Id),
    /// A transport is.
    TransportClosed(Id),
    /// The whole router is.
    RouterClosed,
    /// Something else, or nothing that is known.
    Other,
    /// All has to be looked at again.
    Lost,
}

/// Tells what becomes of a router there.
pub enum Following {
    /// Another host's events.
    Host(Box<EventStream>),
    /// This one's: that there are some.
    Here(watch::Receiver<EventSeq>),
}

impl Peer {
    /// `GET /routers/{id}`.
    pub async fn router(&self, id: &Id) -> Answer<RouterDetails> {
        match self {
            Self::Host(client) => client.router(id).await,
            Self::Here { .. } => self.ask("GET", &format!("/routers/{id}"), &()).await,
        }
    }

    /// `GET /transports/{id}`.
    pub async fn transport(&self, id: &Id) -> Answer<TransportInfo> {
        match self {
            Self::Host(client) => client.transport(id).await,
            Self::Here { .. } => self.ask("GET", &format!("/transports/{id}"), &()).await,
        }
    }

    /// `POST /transports`.
    pub async fn create_transport(&self, create: &CreateTransport) -> Answer<TransportInfo> {
        match self {
            Self::Host(client) => client.create_transport(create).await,
            Self::Here { .. } => self.ask("POST", "/transports", create).await,
        }
    }

    /// `POST /transports/{id}/connect`.
    pub async fn connect_transport(&self, id: &Id, peer: &ConnectTransport) -> Answer<()> {
        match self {
            Self::Host(client) => client.connect_plain_transport(id, peer).await.map(drop),
            Self::Here { .. } => self.act("POST", &format!("/transports/{id}/connect"), peer).await,
        }
    }

    /// `DELETE /transports/{id}`.
    pub async fn delete_transport(&self, id: &Id) -> Answer<()> {
        match self {
            Self::Host(client) => client.delete_transport(id).await,
            Self::Here { .. } => self.act("DELETE", &format!("/transports/{id}"), &()).await,
        }
    }

    /// `GET /producers/{id}`.
    pub async fn producer(&self, id: &Id) -> Answer<ProducerInfo> {
        match self {
            Self::Host(client) => client.producer(id).await,
            Self::Here { .. } => self.ask("GET", &format!("/producers/{id}"), &()).await,
        }
    }

    /// `POST /producers`.
    pub async fn create_producer(&self, create: &CreateProducer) -> Answer<()> {
        match self {
            Self::Host(client) => client.create_producer(create).await.map(drop),
            Self::Here { .. } => self.act("POST", "/producers", create).await,
        }
    }

    /// `POST /producers/{id}/pause` and `/resume`.
    pub async fn pause_producer(&self, id: &Id, is_paused: bool) -> Answer<()> {
        match self {
            Self::Host(client) if is_paused => client.pause_producer(id).await,
            Self::Host(client) => client.resume_producer(id).await,
            Self::Here { .. } => {
                let what = if is_paused { "pause" } else { "resume" };
                self.act("POST", &format!("/producers/{id}/{what}"), &()).await
            }
        }
    }

    /// `DELETE /producers/{id}`.
    pub async fn delete_producer(&self, id: &Id) -> Answer<()> {
        match self {
            Self::Host(client) => client.delete_producer(id).await,
            Self::Here { .. } => self.act("DELETE", &format!("/producers/{id}"), &()).await,
        }
    }

    /// Whether the router is there, what one of its transports has, and what becomes of them from now.
    pub async fn follow(
        &self,
        router: &Id,
        transport: &Id,
    ) -> Answer<(Option<Vec<(Id, bool)>>, Following)> {
        let paused = |one: &ProducerInfo| (one.id.clone(), one.paused);
        match self {
            Self::Host(client) => {
                let snapshot = client.snapshot(Some(router)).await?;
                let transports = snapshot.routers.iter().flat_map(|router| &router.transports);
                let is_it = |one: &&TransportSnapshot| one.transport.id == *transport;
                let there = transports.into_iter().find(is_it);
                let producers = there.map(|one| one.producers.iter().map(paused).collect());
                let events = client.events(Some(snapshot.seq), Some(router.clone()));
                Ok((producers, Following::Host(Box::new(events))))
            }
            Self::Here { engine, .. } => {
                // First the events, so that nothing falls between.
                let events = engine.events.subscribe(Some(router));
                let state = engine.lock();
                let registry = &state.registry;
                if !registry.routers.contains_key(router) {
                    return Err(said(Problem::not_found("router", router)));
                }
                let there = registry.transports.get(transport);
                let producers = there.map(|one| {
                    let known = one.producers.iter().filter_map(|id| registry.producers.get(id));
                    known.map(|one| paused(&one.info)).collect()
                });
                Ok((producers, Following::Here(events)))
            }
        }
    }

    /// Asks a route of this host, as a door would.
    async fn call(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Answer<crate::call::Answer> {
        let Self::Here { engine, who } = self else {
            return Err(ClientError::Settings("this is another host".to_owned()));
        };
        let body = serde_json::to_value(body);
        let body = body.map_err(|error| ClientError::Answer(error.to_string()))?;
        let call = Call::new(method, path, Body::Value(body), who.clone());
        let found = routes::find(&call).map_err(|not_found| said(not_found.into_problem(&call)))?;
        routes::dispatch_within(engine, &call, &found).await.map_err(said)
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &impl Serialize,
    ) -> Answer<T> {
        let answer = self.call(method, path, body).await?;
        serde_json::from_slice(&answer.body).map_err(|error| ClientError::Answer(error.to_string()))
    }

    async fn act(&self, method: &str, path: &str, body: &impl Serialize) -> Answer<()> {
        self.call(method, path, body).await.map(drop)
    }
}

impl Following {
    /// What is told next.
    pub async fn next(&mut self) -> Answer<News> {
        match self {
            Self::Host(events) => match events.next().await {
                Some(Ok(event)) => Ok(match event.data {
                    EventData::ProducerClosed(closed) => News::ProducerClosed(closed.producer_id),
                    EventData::TransportClosed(TransportClosed { transport_id, .. }) => {
                        News::TransportClosed(transport_id)
                    }
                    EventData::RouterClosed(_) => News::RouterClosed,
                    _ => News::Other,
                }),
                Some(Err(EventsError::Refused(error))) => Err(error),
                Some(Err(EventsError::Lost)) | None => Ok(News::Lost),
            },
            Self::Here(events) => {
                let _ = events.changed().await;
                sleep(GATHER).await;
                // A look costs nothing here.
                Ok(News::Lost)
            }
        }
    }
}
