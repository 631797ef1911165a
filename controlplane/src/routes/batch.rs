//! `POST /batch`: many calls in one round trip. Each is done as if it had come alone. Neighbours of
//! one kind that cannot depend on each other (fifty consumers) wait for the dataplane together;
//! their commands still go out in order.

use std::sync::Arc;

use futures::future::join_all;
use ironcast_api::{Batch, BatchAnswer, BatchAnswers, BatchCall, ErrorCode, Problem};
use serde_json::Value;

use super::{Found, Op, dispatch, find};
use crate::{
    call::{Answer, Body, Call},
    engine::Engine,
};

/// `POST /batch`.
pub async fn batch(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let batch = call.body::<Batch>()?;
    let max = engine.config.limits.batch_calls_max;
    if batch.calls.len() > max {
        let detail = format!("a batch has at most {max} calls, this one has {}", batch.calls.len());
        return Err(Problem::invalid("/calls", detail));
    }
    let calls: Vec<Call> = batch.calls.into_iter().map(to_call).collect();
    let mut answers = Vec::with_capacity(calls.len());
    let mut rest = calls.as_slice();
    while !rest.is_empty() {
        let count = if batch.stop_on_error { 1 } else { independent(rest) };
        let (now, later) = rest.split_at(count);
        rest = later;
        answers.extend(join_all(now.iter().map(|call| one(engine, call))).await);
        let has_failed = answers.last().is_some_and(|answer| answer.status >= 400);
        if batch.stop_on_error && has_failed {
            break;
        }
    }
    Answer::json(200, &BatchAnswers { answers }, engine.seq())
}

fn to_call(call: BatchCall) -> Call {
    Call::new(&call.method, &call.path, Body::Value(call.body))
}

/// How many calls at the beginning are of one kind that may wait together; at least 1.
fn independent(calls: &[Call]) -> usize {
    let op = |call: &Call| find(call).ok().map(|found| found.op);
    let Some(first) = calls.first().and_then(op) else { return 1 };
    let may_wait_together = matches!(
        first,
        Op::CreateTransport
            | Op::CreateProducer
            | Op::CreateConsumer
            | Op::PauseConsumer
            | Op::ResumeConsumer
            | Op::RequestKeyFrame
    );
    if !may_wait_together {
        return 1;
    }
    calls.iter().take_while(|call| op(call) == Some(first)).count()
}

async fn one(engine: &Arc<Engine>, call: &Call) -> BatchAnswer {
    let refused = matches!(
        find(call),
        Ok(Found { op: Op::Batch | Op::Events | Op::OpenApi | Op::Metrics, .. })
    );
    let result = if refused {
        let detail = format!("{} cannot be part of a batch", call.path);
        Err(Problem::new(ErrorCode::Unsupported, detail))
    } else {
        dispatch(engine, call).await
    };
    match result {
        Ok(answer) => BatchAnswer {
            status: answer.status,
            body: serde_json::from_slice(&answer.body).unwrap_or(Value::Null),
        },
        Err(problem) => {
            engine.metrics.count_problem(problem.code);
            let status = problem.status;
            BatchAnswer { status, body: serde_json::to_value(problem).unwrap_or(Value::Null) }
        }
    }
}
