//! The host as a whole: health, readiness, workers, metrics, the OpenAPI document.

use std::sync::Arc;

use ironcast_api::{
    AuditList, DataplaneHealth, DataplaneStatus, Health, HealthStatus, Id, LIST_LIMIT_DEFAULT,
    LIST_LIMIT_MAX, Problem,
};

use crate::{
    audit::Filter,
    call::{Answer, Call},
    drain,
    engine::{Engine, Step, unavailable},
    metrics, openapi,
};

/// `GET /health`: 200 as long as this process works.
pub fn health(engine: &Engine) -> Result<Answer, Problem> {
    let state = engine.lock();
    let is_attached = state.link.is_some();
    let health = Health {
        status: match (is_attached, &state.drain) {
            (false, _) => HealthStatus::DataplaneUnavailable,
            (true, Some(_)) => HealthStatus::Draining,
            (true, None) => HealthStatus::Ok,
        },
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
    let state = engine.lock();
    if state.link.is_none() {
        let stands_by = engine.metrics.stands_by.get() > 0;
        return Err(unavailable(match stands_by {
            true => "another control plane has the dataplane; this one stands by",
            false => "there is no dataplane at the moment",
        }));
    }
    drain::check(&state)?;
    if let Some(why) = state.workers.why_none_runs() {
        return Err(unavailable(why));
    }
    drop(state);
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

/// `GET /metrics`.
pub fn metrics(engine: &Engine, call: &Call) -> Result<Answer, Problem> {
    Ok(Answer {
        status: 200,
        body: metrics::text(engine, &call.caller).into(),
        media_type: metrics::CONTENT_TYPE,
        seq: engine.seq(),
        about: None,
    })
}

/// `GET /audit`.
pub fn audit(engine: &Engine, call: &Call) -> Result<Answer, Problem> {
    let query = call.query(&["principal", "routerId", "limit"])?;
    let limit = query.number("limit")?.unwrap_or(LIST_LIMIT_DEFAULT);
    if !(1..=LIST_LIMIT_MAX).contains(&limit) {
        return Err(Problem::invalid("?limit", format!("limit is 1 to {LIST_LIMIT_MAX}")));
    }
    let filter = Filter {
        principal: query.get("principal").map(str::to_owned),
        router_id: query.id("routerId")?,
        limit: limit as usize,
    };
    Answer::json(200, &AuditList { items: engine.audit.last(&filter) }, engine.seq())
}

/// `POST /admin/reload`.
pub async fn reload(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    call.no_body()?;
    Answer::json(200, &engine.reloader.reload(engine).await?, engine.seq())
}

/// `GET /openapi.json`.
pub fn openapi(engine: &Engine) -> Result<Answer, Problem> {
    Answer::json(200, openapi::document(), engine.seq())
}
