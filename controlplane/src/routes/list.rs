//! Lists: pages of resources in ascending order of ids.

use std::sync::Arc;

use ironcast_api::{
    ConsumerList, Id, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ObserverList, Problem, ProducerList,
    RouterList, RouterListItem, TransportList,
};

use crate::{
    auth::Principal,
    call::{Answer, Call},
    engine::{Engine, Step},
    registry::{Kind, Observer, Registry, Router, Transport},
};

/// Which page.
#[derive(Debug, Clone)]
struct Page {
    after: Option<Id>,
    limit: usize,
    router_id: Option<Id>,
    caller: Principal,
}

impl Page {
    fn of(call: &Call) -> Result<Self, Problem> {
        let query = call.query(&["after", "limit", "routerId"])?;
        let limit = query.number("limit")?.unwrap_or(LIST_LIMIT_DEFAULT);
        if !(1..=LIST_LIMIT_MAX).contains(&limit) {
            let detail = format!("limit is 1 to {LIST_LIMIT_MAX}");
            return Err(Problem::invalid("?limit", detail));
        }
        Ok(Self {
            after: query.after()?,
            limit: limit as usize,
            router_id: query.id("routerId")?,
            caller: call.caller.clone(),
        })
    }

    /// The ids on the page, and the `after` of the next one.
    fn ids(&self, registry: &Registry, kind: Kind) -> (Vec<Id>, Option<Id>) {
        let (only, after) = (self.router_id.as_ref(), self.after.as_ref());
        let mut ids = registry.page(&self.caller, kind, only, after, self.limit + 1);
        let has_more = ids.len() > self.limit;
        ids.truncate(self.limit);
        let next_after = ids.last().filter(|_| has_more).cloned();
        (ids, next_after)
    }
}

async fn list<T: serde::Serialize + Send + 'static>(
    engine: &Arc<Engine>,
    take: impl Fn(&Registry) -> T + Send + Sync,
) -> Result<Answer, Problem> {
    let (list, seq) = engine.run(|state| Ok(Step::Done(take(&state.registry)))).await?;
    Answer::json(200, &list, seq)
}

/// `GET /routers`.
pub async fn routers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let (ids, next_after) = page.ids(registry, Kind::Router);
        let items = ids.iter().filter_map(|id| registry.routers.get(id));
        let item = |one: &Router| RouterListItem {
            router: one.whole_info(),
            counts: registry.counts(one),
        };
        RouterList { items: items.map(item).collect(), next_after }
    })
    .await
}

/// `GET /transports`.
pub async fn transports(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let (ids, next_after) = page.ids(registry, Kind::Transport);
        let items = ids.iter().filter_map(|id| registry.transports.get(id));
        TransportList { items: items.map(Transport::whole_info).collect(), next_after }
    })
    .await
}

/// `GET /producers`.
pub async fn producers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let (ids, next_after) = page.ids(registry, Kind::Producer);
        let items = ids.iter().filter_map(|id| registry.producers.get(id));
        ProducerList { items: items.map(|one| one.info.clone()).collect(), next_after }
    })
    .await
}

/// `GET /consumers`.
pub async fn consumers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let (ids, next_after) = page.ids(registry, Kind::Consumer);
        let items = ids.iter().filter_map(|id| registry.consumers.get(id));
        ConsumerList { items: items.map(|one| one.whole_info()).collect(), next_after }
    })
    .await
}

/// `GET /observers`.
pub async fn observers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let (ids, next_after) = page.ids(registry, Kind::Observer);
        let items = ids.iter().filter_map(|id| registry.observers.get(id));
        ObserverList { items: items.map(Observer::whole_info).collect(), next_after }
    })
    .await
}
