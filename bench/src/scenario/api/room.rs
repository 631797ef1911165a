//! Rooms of the scenario `api`: who is in which, and the round trips by which somebody joins, leaves,
//! and a room ends.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use http::Method;
use ironcast_client::Client;
use serde_json::{Value, json};

use super::calls::{self, participant};

/// One room; who joins it waits for who joined before.
pub(super) struct Room {
    pub(super) id: String,
    pub(super) people: Vec<usize>,
}

impl Room {
    pub(super) fn new(id: String) -> Self {
        Self { id, people: Vec::new() }
    }

    /// The next one joins. Gives how long it took until all receive him and he all.
    pub(super) async fn join(&mut self, api: &Client, client: &calls::Client) -> Result<Duration> {
        let begun = Instant::now();
        let person = self.people.last().map_or(0, |last| last + 1);
        batch(api, client.enter(&self.id, person, &self.people)).await?;
        batch(api, client.begin(&self.id, person)).await?;
        let received = calls::Client::be_received(&self.id, person, &self.people);
        if !received.is_empty() {
            batch(api, received).await?;
        }
        self.people.push(person);
        Ok(begun.elapsed())
    }

    /// The one who came last leaves.
    pub(super) async fn leave(&mut self, api: &Client) -> Result<Duration> {
        let person = self.people.pop().context("somebody who leaves")?;
        let who = participant(&self.id, person);
        let begun = Instant::now();
        let path = format!("/participants/{who}/leave?routerId={}", self.id);
        call(api, Method::POST, &path, None).await?;
        Ok(begun.elapsed())
    }

    /// The room ends with all that is in it.
    pub(super) async fn end(&mut self, api: &Client) -> Result<Duration> {
        self.people.clear();
        let begun = Instant::now();
        call(api, Method::DELETE, &format!("/routers/{}", self.id), None).await?;
        Ok(begun.elapsed())
    }

    /// Consumers in it.
    pub(super) fn consumers(&self) -> usize {
        let people = self.people.len();
        people * people.saturating_sub(1) * calls::KINDS.len()
    }
}

/// Makes empty rooms.
pub(super) async fn make(api: &Client, ids: &[String]) -> Result<()> {
    let calls =
        ids.iter().map(|id| json!({ "method": "POST", "path": "/routers", "body": { "id": id } }));
    batch(api, calls.collect()).await
}

async fn batch(api: &Client, calls: Vec<Value>) -> Result<()> {
    let count = calls.len();
    let body = json!({ "calls": calls }).to_string();
    let answer = call(api, Method::POST, "/batch", Some(body.into())).await?;
    let answers: Answers = serde_json::from_slice(&answer)?;
    let refused = answers.answers.iter().position(|answer| answer.status >= 300);
    if let Some(number) = refused {
        let whole: Value = serde_json::from_slice(&answer)?;
        bail!("call {number} of a batch was refused: {}", whole["answers"][number]);
    }
    ensure!(answers.answers.len() == count, "a batch was not answered whole");
    Ok(())
}

/// As much of the answers as is looked at.
#[derive(serde::Deserialize)]
struct Answers {
    answers: Vec<Status>,
}

#[derive(serde::Deserialize)]
struct Status {
    status: u16,
}

/// One call; its body if it was done.
pub(super) async fn call(
    api: &Client,
    method: Method,
    path: &str,
    body: Option<Bytes>,
) -> Result<Bytes> {
    let answer = api.request(method, &format!("/v1{path}"), body).await?;
    let text = || String::from_utf8_lossy(&answer.body).into_owned();
    ensure!(answer.status < 300, "{path}: status {}: {}", answer.status, text());
    Ok(answer.body)
}
