//! Traces of transports, producers and consumers: what is traced is the dataplane's knowledge alone, and
//! ends with the resource.

use std::sync::Arc;

use ironcast_api::{
    ErrorCode, Id, Problem, TRACE_TYPES_MAX, TraceEvent, TraceTypes, events::EventData,
};
use ironcast_protocol::{
    Command,
    snapshot::ResourceKind,
    trace::{SetTrace, Traced},
};

use super::done;
use crate::{
    call::{Answer, Call},
    convert,
    engine::{Engine, State, Step},
};

/// `PUT /KIND/{id}/trace`.
pub async fn set(
    engine: &Arc<Engine>,
    call: &Call,
    kind: ResourceKind,
    id: &Id,
) -> Result<Answer, Problem> {
    let wanted = call.body::<TraceTypes>()?;
    if wanted.types.len() > TRACE_TYPES_MAX {
        let detail = format!("there are {TRACE_TYPES_MAX} types, {} are named", wanted.types.len());
        return Err(Problem::invalid("/types", detail));
    }
    let set = SetTrace {
        kind,
        id: id.to_string(),
        types: wanted.types.iter().copied().map(convert::trace_kind).collect(),
    };
    let ((), seq) = engine
        .run(|state| {
            let (registry, who) = (&state.registry, &call.caller);
            match kind {
                ResourceKind::Transport => registry.transport(who, id).map(drop)?,
                ResourceKind::Producer => registry.producer(who, id).map(drop)?,
                ResourceKind::Consumer => registry.consumer(who, id).map(drop)?,
                _ => return Err(Problem::new(ErrorCode::Unsupported, "it has no traces")),
            }
            Ok(Step::ask(Command::SetTrace(set.clone()), |_, reply| {
                done(reply.map_err(|problem| problem.about("/types")))
            }))
        })
        .await?;
    Answer::json(200, &wanted, seq)
}

/// Something that is traced has happened: told with the router that it is in.
pub fn tell(state: &mut State, traced: Traced) {
    let registry = &state.registry;
    let Some(trace) = convert::trace(&traced) else { return };
    let mut event = TraceEvent { transport_id: None, producer_id: None, consumer_id: None, trace };
    let router_id = match traced.kind {
        ResourceKind::Transport => registry.transports.get(traced.id.as_str()).map(|one| {
            event.transport_id = Some(one.info.id.clone());
            one.info.router_id.clone()
        }),
        ResourceKind::Producer => registry.producers.get(traced.id.as_str()).map(|one| {
            event.producer_id = Some(one.info.id.clone());
            one.info.router_id.clone()
        }),
        ResourceKind::Consumer => registry.consumers.get(traced.id.as_str()).map(|one| {
            event.consumer_id = Some(one.info.id.clone());
            one.info.router_id.clone()
        }),
        _ => None,
    };
    if let Some(router_id) = router_id {
        state.events.publish(Some(&router_id), EventData::Trace(event));
    }
}
