//! The things that can be looked at, and finding one by its id or by the beginning of it.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use ironcast_api::{ErrorCode, Id, LIST_LIMIT_MAX, Problem};
use ironcast_client::ClientError;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::remote::{Failure, Remote};

/// Candidates that are shown when the beginning of an id is not unique.
const CANDIDATES: usize = 5;

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    #[value(name = "workers", aliases = ["worker", "w"])]
    Workers,
    #[value(name = "routers", aliases = ["router", "r", "rooms", "room"])]
    Routers,
    #[value(name = "transports", aliases = ["transport", "t"])]
    Transports,
    #[value(name = "participants", aliases = ["participant", "people", "p"])]
    Participants,
    #[value(name = "producers", aliases = ["producer"])]
    Producers,
    #[value(name = "consumers", aliases = ["consumer"])]
    Consumers,
}

impl Kind {
    /// As in paths of the API.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::Workers => "workers",
            Self::Routers => "routers",
            Self::Transports => "transports",
            Self::Participants => "participants",
            Self::Producers => "producers",
            Self::Consumers => "consumers",
        }
    }

    pub(crate) fn singular(self) -> &'static str {
        self.plural().trim_end_matches('s')
    }
}

/// One of them, as a command is given it.
#[derive(Args, Debug)]
pub(crate) struct Which {
    /// What kind of thing
    #[arg(value_enum)]
    pub(crate) kind: Kind,
    /// Its id, or the beginning of it
    id: String,
    /// The router, where a participant is in several
    #[arg(long, short, value_name = "ID")]
    router: Option<String>,
}

impl Which {
    pub(crate) async fn find(&self, remote: &Remote) -> Result<Found, Failure> {
        let router = remote.find_router(self.router.as_deref()).await?;
        remote.find(self.kind, &self.id, router.as_ref()).await
    }
}

/// A page, or all pages, of a list.
pub(crate) struct Listed {
    pub(crate) items: Vec<Value>,
    /// There are more than were asked for.
    pub(crate) has_more: bool,
}

/// What was found for an id, or for the beginning of one.
pub(crate) struct Found {
    pub(crate) id: Id,
    pub(crate) value: Value,
    /// The whole id was given.
    pub(crate) is_exact: bool,
}

impl Remote {
    /// `GET` of a path behind `/v1`.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.call("GET", path).await
    }

    /// A call without a body.
    pub(crate) async fn call(&self, method: &str, path: &str) -> Result<Value, Failure> {
        let method = method.parse().map_err(|_| Failure::Other(anyhow::anyhow!("a method")))?;
        let answer = self.client.request(method, &format!("/v1{path}"), None).await;
        let answer = answer.map_err(|error| self.failure(error))?;
        let unclear =
            |error: serde_json::Error| self.failure(ClientError::Answer(error.to_string()));
        if answer.status >= 300 {
            let problem: Problem = serde_json::from_slice(&answer.body).map_err(unclear)?;
            return Err(self.failure(ClientError::Problem(Box::new(problem))));
        }
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&answer.body).map_err(unclear)
    }

    /// The first so many of a kind, of one router if given.
    pub(crate) async fn list(
        &self,
        kind: Kind,
        router: Option<&Id>,
        limit: usize,
    ) -> Result<Listed, Failure> {
        match kind {
            Kind::Workers => {
                let Value::Array(items) = self.get("/workers").await? else {
                    return Ok(Listed { items: Vec::new(), has_more: false });
                };
                return Ok(Listed { items, has_more: false });
            }
            Kind::Participants => return self.participants(router, limit).await,
            _ => {}
        }
        let router = router.map(|id| format!("&routerId={id}")).unwrap_or_default();
        let mut items = Vec::new();
        let mut after = String::new();
        loop {
            let count = (limit - items.len()).min(LIST_LIMIT_MAX as usize);
            let path = format!("/{}?limit={count}{after}{router}", kind.plural());
            let mut page = self.get(&path).await?;
            if let Value::Array(more) = page["items"].take() {
                items.extend(more);
            }
            match page["nextAfter"].as_str() {
                None => return Ok(Listed { items, has_more: false }),
                Some(_) if items.len() >= limit => return Ok(Listed { items, has_more: true }),
                Some(next) => after = format!("&after={next}"),
            }
        }
    }

    /// Those who have transports; each with its ids.
    async fn participants(&self, router: Option<&Id>, limit: usize) -> Result<Listed, Failure> {
        let transports = Box::pin(self.list(Kind::Transports, router, usize::MAX)).await?;
        let mut all: BTreeMap<(String, String), Vec<Value>> = BTreeMap::new();
        for transport in transports.items {
            let text = |name: &str| transport[name].as_str().map(str::to_owned);
            if let (Some(participant), Some(router)) = (text("participantId"), text("routerId")) {
                all.entry((participant, router)).or_default().push(transport);
            }
        }
        let has_more = all.len() > limit;
        let items = all.into_iter().take(limit).map(|((id, router), transports)| {
            json!({ "id": id, "routerId": router, "transports": transports })
        });
        Ok(Listed { items: items.collect(), has_more })
    }

    /// One thing, by its id or by the beginning of it, if only one begins so.
    pub(crate) async fn find(
        &self,
        kind: Kind,
        text: &str,
        router: Option<&Id>,
    ) -> Result<Found, Failure> {
        let Ok(id) = Id::new(text) else {
            let what = "an id has 1 to 64 characters of A-Z a-z 0-9 . _ : -";
            return Err(Failure::NotFound(format!(
                "there is no {} {text:?}: {what}",
                kind.singular()
            )));
        };
        if kind == Kind::Participants {
            return self.find_participant(&id, router).await;
        }
        let whole = async |id: &Id| self.get(&format!("/{}/{id}", kind.plural())).await;
        match whole(&id).await {
            Err(Failure::Client(error, _)) if error.code() == Some(ErrorCode::NotFound) => {}
            found => return Ok(Found { id, value: found?, is_exact: true }),
        }
        let candidates = if kind == Kind::Workers {
            self.list(kind, None, usize::MAX).await?.items
        } else {
            // Ids are in order, and whatever begins with this one comes right behind it.
            let count = CANDIDATES + 1;
            let path = format!("/{}?after={id}&limit={count}", kind.plural());
            match self.get(&path).await?["items"].take() {
                Value::Array(items) => items,
                _ => Vec::new(),
            }
        };
        let ids = candidates.iter().filter_map(|one| Id::new(one["id"].as_str()?).ok());
        let id = unique(kind, text, ids.filter(|one| one.as_str().starts_with(text)).collect())?;
        Ok(Found { value: whole(&id).await?, id, is_exact: false })
    }

    /// The router that a call is about, if one is named.
    pub(crate) async fn find_router(&self, text: Option<&str>) -> Result<Option<Id>, Failure> {
        match text {
            None => Ok(None),
            Some(text) => Ok(Some(self.find(Kind::Routers, text, None).await?.id)),
        }
    }

    async fn find_participant(&self, id: &Id, router: Option<&Id>) -> Result<Found, Failure> {
        let all = self.participants(router, usize::MAX).await?.items;
        let name = |one: &Value| one["id"].as_str().unwrap_or_default().to_owned();
        let exact: Vec<&Value> = all.iter().filter(|one| name(one) == id.as_str()).collect();
        let is_exact = !exact.is_empty();
        let found = match is_exact {
            true => exact,
            false => all.iter().filter(|one| name(one).starts_with(id.as_str())).collect(),
        };
        if let [first, second, ..] = found.as_slice()
            && name(first) == name(second)
        {
            let routers = found.iter().filter_map(|one| one["routerId"].as_str());
            let routers: Vec<&str> = routers.take(CANDIDATES).collect();
            return Err(Failure::NotFound(format!(
                "{} is in several routers: --router {}",
                name(first),
                routers.join(" or ")
            )));
        }
        let ids = found.iter().filter_map(|one| Id::new(name(one)).ok()).collect();
        let id = unique(Kind::Participants, id.as_str(), ids)?;
        let value = found.first().map(|one| (*one).clone()).unwrap_or_default();
        Ok(Found { id, value, is_exact })
    }
}

/// The only one of them, or in words why not.
fn unique(kind: Kind, text: &str, mut ids: Vec<Id>) -> Result<Id, Failure> {
    let what = kind.singular();
    match ids.len() {
        0 => Err(Failure::NotFound(format!(
            "there is no {what} {text:?}, and none whose id begins so; `ironcast ls {}` shows them",
            kind.plural()
        ))),
        1 => Ok(ids.swap_remove(0)),
        count => {
            let shown: Vec<&str> = ids.iter().take(CANDIDATES).map(Id::as_str).collect();
            let more = if count > CANDIDATES { ", ..." } else { "" };
            Err(Failure::NotFound(format!(
                "several {}s begin with {text:?}: {}{more}",
                what,
                shown.join(", ")
            )))
        }
    }
}

/// An answer of the API as its type.
pub(crate) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Failure> {
    T::deserialize(value).map_err(|error| {
        Failure::Other(anyhow::anyhow!("the control plane's answer cannot be understood: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(texts: &[&str]) -> Vec<Id> {
        texts.iter().map(|text| Id::new(*text).unwrap()).collect()
    }

    fn said(result: Result<Id, Failure>) -> String {
        result.err().map(|error| error.to_string()).unwrap_or_default()
    }

    #[test]
    fn the_beginning_of_an_id_is_enough_if_only_one_begins_so() {
        assert_eq!(unique(Kind::Routers, "ro", ids(&["room"])).unwrap(), "room");
        let none = said(unique(Kind::Routers, "x", ids(&[])));
        assert!(none.starts_with("there is no router \"x\""), "{none}");
        let two = said(unique(Kind::Transports, "a", ids(&["a1", "a2"])));
        assert_eq!(two, "several transports begin with \"a\": a1, a2");
        let many = said(unique(Kind::Transports, "a", ids(&["a1", "a2", "a3", "a4", "a5", "a6"])));
        assert!(many.ends_with("a5, ..."), "{many}");
    }
}
