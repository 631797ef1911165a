//! The host as a whole: health, readiness, workers, the snapshot, metrics, the OpenAPI document.

use std::sync::Arc;

use ironcast_api::{
    DataplaneHealth, DataplaneStatus, Health, HealthStatus, Id, Problem, RouterSnapshot, Snapshot,
    TransportSnapshot,
};

use crate::{
    call::{Answer, Call},
    engine::{Engine, State, Step, unavailable},
    metrics, openapi,
    registry::{Router, Transport},
};

/// `GET /health`: 200 as long as this process works.
pub fn health(engine: &Engine) -> Result<Answer, Problem> {
    let state = engine.lock();
    let is_attached = state.link.is_some();
    let health = Health {
        status: if is_attached { HealthStatus::Ok } else { HealthStatus::DataplaneUnavailable },
        version: env!("CARGO_PKG_VERSION").to_owned(),
        uptime_s: engine.started.elapsed().as_secs(),
        dataplane: DataplaneHealth {
            status: if is_attached {
                DataplaneStatus::Connected
            } else {
                DataplaneStatus::Disconnected
            },
            version: state.dataplane_version.clone(),
        },
    };
    Answer::json(200, &health, state.events.head())
}

/// `GET /ready`: 503 while no room can be made.
pub fn ready(engine: &Engine) -> Result<Answer, Problem> {
    if engine.lock().link.is_none() {
        return Err(unavailable("there is no dataplane at the moment"));
    }
    health(engine)
}

/// `GET /workers`.
pub async fn workers(engine: &Arc<Engine>) -> Result<Answer, Problem> {
    let (workers, seq) = engine.run(|state| Ok(Step::Done(state.workers.infos()))).await?;
    Answer::json(200, &workers, seq)
}

/// `GET /workers/{id}`.
pub async fn worker(engine: &Arc<Engine>, id: &Id) -> Result<Answer, Problem> {
    let (worker, seq) = engine
        .run(|state| {
            let worker = state.workers.infos().into_iter().find(|worker| worker.id == *id);
            worker.map(Step::Done).ok_or_else(|| Problem::not_found("worker", id))
        })
        .await?;
    Answer::json(200, &worker, seq)
}

/// `GET /snapshot`.
pub async fn snapshot(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let router_id = call.query(&["routerId"])?.id("routerId")?;
    let (snapshot, seq) = engine
        .run(|state| {
            let routers = match &router_id {
                Some(id) => {
                    let router = state.registry.routers.get(id);
                    vec![router.ok_or_else(|| Problem::not_found("router", id))?]
                }
                None => state.registry.routers.values().collect(),
            };
            Ok(Step::Done(Snapshot {
                seq: state.events.head(),
                workers: state.workers.infos(),
                routers: routers.into_iter().map(|router| of_router(state, router)).collect(),
            }))
        })
        .await?;
    Answer::json(200, &snapshot, seq)
}

fn of_router(state: &State, router: &Router) -> RouterSnapshot {
    let transports = router.transports.iter();
    let transports = transports.filter_map(|id| state.registry.transports.get(id));
    RouterSnapshot {
        router: router.info.clone(),
        transports: transports.map(|transport| of_transport(state, transport)).collect(),
    }
}

fn of_transport(state: &State, transport: &Transport) -> TransportSnapshot {
    let registry = &state.registry;
    let producers = transport.producers.iter().filter_map(|id| registry.producers.get(id));
    let consumers = transport.consumers.iter().filter_map(|id| registry.consumers.get(id));
    TransportSnapshot {
        transport: transport.whole_info(),
        producers: producers.map(|producer| producer.info.clone()).collect(),
        consumers: consumers.map(|one| one.whole_info()).collect(),
    }
}

/// `GET /metrics`.
pub fn metrics(engine: &Engine) -> Result<Answer, Problem> {
    Ok(Answer {
        status: 200,
        body: metrics::text(engine).into(),
        media_type: "text/plain; version=0.0.4",
        seq: engine.seq(),
    })
}

/// `GET /openapi.json`.
pub fn openapi(engine: &Engine) -> Result<Answer, Problem> {
    Answer::json(200, openapi::document(), engine.seq())
}
