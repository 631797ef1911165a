//! What is done in the same way with a producer, a consumer and an observer: it is closed, paused and
//! resumed. Each kind says by functions how it is looked up and what is remembered.

use std::sync::Arc;

use ironcast_api::{Id, Problem};
use ironcast_protocol::{Command, command::Named};
use serde::Serialize;

use super::{closed, done};
use crate::{
    auth::Principal,
    call::{Answer, Call},
    engine::{Engine, State, Step},
};

/// The router of one that the caller sees.
pub type See = fn(&State, &Principal, &Id) -> Result<Id, Problem>;

pub fn named(id: &Id) -> Named {
    Named { id: id.to_string() }
}

/// `DELETE /KIND/{id}`.
pub async fn delete(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    see: See,
    command: fn(Named) -> Command,
    forget: fn(&mut State, &Id),
) -> Result<Answer, Problem> {
    let look = |state: &mut State| Ok(close(state, &call.caller, id, see, command, forget));
    let (router_id, seq) = engine.run(look).await?;
    Ok(Answer::closed(id, router_id.as_ref(), seq))
}

/// Another's is not there, and what is not there is closed. Gives the router that it was in.
pub fn close(
    state: &State,
    who: &Principal,
    id: &Id,
    see: See,
    command: fn(Named) -> Command,
    forget: fn(&mut State, &Id),
) -> Step<Option<Id>> {
    let Ok(router_id) = see(state, who, id) else { return Step::Done(None) };
    let id = id.clone();
    Step::ask(command(named(&id)), move |state, reply| {
        closed(reply)?;
        forget(state, &id);
        Ok(Some(router_id))
    })
}

/// `POST /KIND/{id}/pause` and `/resume`. `set` remembers it and tells it if it is new.
pub async fn pause<T: Serialize + Send + 'static>(
    engine: &Arc<Engine>,
    call: &Call,
    id: &Id,
    see: See,
    command: fn(Named) -> Command,
    set: impl Fn(&mut State, &Id) -> Result<T, Problem> + Copy + Send + Sync + 'static,
) -> Result<Answer, Problem> {
    call.no_body()?;
    let (info, seq) = engine
        .run(|state| {
            see(state, &call.caller, id)?;
            let id = id.clone();
            Ok(Step::ask(command(named(&id)), move |state, reply| {
                done(reply)?;
                set(state, &id)
            }))
        })
        .await?;
    Answer::json(200, &info, seq)
}
