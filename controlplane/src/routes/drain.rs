//! `/admin/drain` and `/admin/undrain`: what the state of draining is, and its beginning and end.

use std::{sync::Arc, time::Duration};

use ironcast_api::{DRAIN_DEADLINE_S_MAX, DrainRequest, Problem};

use crate::{
    call::{Answer, Call},
    drain,
    engine::Engine,
    events::unix_ms,
};

/// `GET /admin/drain`.
pub fn get(engine: &Engine) -> Result<Answer, Problem> {
    let state = engine.lock();
    Answer::json(200, &drain::status(&state), state.events.head())
}

/// `POST /admin/drain`.
pub fn begin(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let request = call.body::<DrainRequest>()?;
    if request.deadline_s.is_some_and(|seconds| seconds > DRAIN_DEADLINE_S_MAX) {
        let detail = format!("at most {DRAIN_DEADLINE_S_MAX} seconds");
        return Err(Problem::invalid("/deadlineS", detail));
    }
    let time = request.deadline_s.map(Duration::from_secs);
    let deadline = time.map(|time| unix_ms() + time.as_millis() as u64);
    let mut state = engine.lock();
    drain::begin(&mut state, deadline);
    drain::keep(&state, &engine.config.state_dir);
    Answer::json(200, &drain::status(&state), state.events.head())
}

/// `POST /admin/undrain`.
pub fn end(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    call.no_body()?;
    let mut state = engine.lock();
    drain::end(&mut state)?;
    drain::keep(&state, &engine.config.state_dir);
    Answer::json(200, &drain::status(&state), state.events.head())
}
