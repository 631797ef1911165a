//! `/webhooks`: receivers of events that admins make.

use std::sync::Arc;

use ironcast_api::{CreateWebhook, Id, Problem};

use super::id_or_new;
use crate::{
    call::{About, Answer, Call},
    engine::Engine,
};

/// `POST /webhooks`.
pub fn create(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let mut request = call.body::<CreateWebhook>()?;
    let id = id_or_new(request.id.take())?;
    let (is_new, created) = engine.reloader.webhooks.create(engine, &id, request)?;
    let answer = Answer::json(if is_new { 201 } else { 200 }, &created, engine.seq())?;
    Ok(if is_new { about(answer, id) } else { answer })
}

/// `GET /webhooks`.
pub fn list(engine: &Engine) -> Result<Answer, Problem> {
    Answer::json(200, &engine.reloader.webhooks.list(), engine.seq())
}

/// `GET /webhooks/{id}`.
pub fn get(engine: &Engine, id: &Id) -> Result<Answer, Problem> {
    Answer::json(200, &engine.reloader.webhooks.info(id)?, engine.seq())
}

/// `DELETE /webhooks/{id}`.
pub fn delete(engine: &Engine, id: &Id) -> Result<Answer, Problem> {
    let was_there = engine.reloader.webhooks.delete(id)?;
    let answer = Answer::empty(engine.seq());
    Ok(if was_there { about(answer, id.clone()) } else { answer })
}

/// It belongs to no router.
fn about(answer: Answer, id: Id) -> Answer {
    Answer { about: Some(About { id: Some(id), router_id: None }), ..answer }
}
