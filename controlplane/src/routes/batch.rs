//! `POST /batch`: many calls in one round trip. Each is done as if it had come alone. Neighbours of
//! one kind that cannot depend on each other (fifty consumers) wait for the dataplane together;
//! their commands still go out in order.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use futures::future::join_all;
use ironcast_api::{Batch, BatchCall, ErrorCode, Problem};

use super::{Found, Op, dispatch, find};
use crate::{
    call::{Answer, Body, Call, JSON},
    engine::Engine,
};

/// `POST /batch`.
pub async fn batch(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let batch = call.body::<Batch>()?;
    let limits = engine.limits();
    let max = limits.batch_calls_max;
    if batch.calls.len() > max {
        let detail = format!("a batch has at most {max} calls, this one has {}", batch.calls.len());
        return Err(Problem::invalid("/calls", detail));
    }
    // The batch itself was counted as one.
    let more = u32::try_from(batch.calls.len()).unwrap_or(u32::MAX).saturating_sub(1);
    let (caller, now) = (&call.caller.caller, Instant::now());
    engine.callers.check(caller, more, limits.requests_per_s_of(caller), now)?;
    let calls = batch.calls.into_iter().map(|one| to_call(one, call));
    let calls: Vec<One> = calls.collect();
    let mut answers = Answers::default();
    let mut rest = calls.as_slice();
    while !rest.is_empty() {
        let count = if batch.stop_on_error { 1 } else { independent(rest) };
        let (now, later) = rest.split_at(count);
        rest = later;
        let results = if answers.are_too_large() {
            now.iter().map(|_| Err(too_large())).collect()
        } else {
            join_all(now.iter().map(|call| one(engine, call))).await
        };
        let has_failed = results.last().is_some_and(Result::is_err);
        results.into_iter().for_each(|result| answers.add(engine, result));
        if batch.stop_on_error && has_failed {
            break;
        }
    }
    let (body, seq) = (answers.finish(), engine.seq());
    Ok(Answer { status: 200, body, media_type: JSON, seq, about: None })
}

/// Behind so many bytes of answers no further call is done.
const ANSWERS_BYTES_MAX: usize = 16 << 20;

fn too_large() -> Problem {
    let detail = "the answers before this call are too large already: it was not done";
    Problem::new(ErrorCode::TooLarge, detail)
}

/// The answers, put together as they are: each body is JSON already.
#[derive(Default)]
struct Answers(Vec<u8>);

impl Answers {
    fn are_too_large(&self) -> bool {
        self.0.len() > ANSWERS_BYTES_MAX
    }

    fn add(&mut self, engine: &Engine, result: Result<Answer, Problem>) {
        let (status, body) = match result {
            Ok(answer) => (answer.status, answer.body),
            Err(problem) => {
                engine.metrics.count_problem(problem.code);
                (problem.status, serde_json::to_vec(&problem).unwrap_or_default().into())
            }
        };
        let before = if self.0.is_empty() { "{\"answers\":[" } else { "," };
        self.0.extend_from_slice(format!("{before}{{\"status\":{status}").as_bytes());
        if !body.is_empty() {
            self.0.extend_from_slice(b",\"body\":");
            self.0.extend_from_slice(&body);
        }
        self.0.push(b'}');
    }

    fn finish(mut self) -> Bytes {
        if self.0.is_empty() {
            self.0.extend_from_slice(b"{\"answers\":[");
        }
        self.0.extend_from_slice(b"]}");
        self.0.into()
    }
}

/// A call of the batch, and where it leads.
type One = (Call, Result<Found, Problem>);

fn to_call(one: BatchCall, batch: &Call) -> One {
    let mut call = Call::new(&one.method, &one.path, Body::Value(one.body), batch.caller.clone());
    call.parent = batch.parent.clone();
    let found = find(&call).map_err(|not_found| not_found.into_problem(&call));
    (call, found)
}

/// How many calls at the beginning are of one kind that may wait together; at least 1.
fn independent(calls: &[One]) -> usize {
    let op = |(_, found): &One| found.as_ref().ok().map(|found| found.op);
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
    calls.iter().take_while(|one| op(one) == Some(first)).count()
}

async fn one(engine: &Arc<Engine>, (call, found): &One) -> Result<Answer, Problem> {
    let found = found.as_ref().map_err(Clone::clone)?;
    if matches!(
        found.op,
        Op::Batch | Op::Events | Op::Snapshot | Op::Capture | Op::OpenApi | Op::Metrics
    ) {
        let detail = format!("{} cannot be part of a batch", call.path);
        return Err(Problem::new(ErrorCode::Unsupported, detail));
    }
    dispatch(engine, call, found).await
}
