//! Lists: pages of resources in ascending order of ids.

use std::sync::Arc;

use ironcast_api::{
    ConsumerList, Id, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, ObserverList, Problem, ProducerList,
    RouterCounts, RouterList, RouterListItem, TransportList,
};

use crate::{
    auth::Principal,
    call::{Answer, Call},
    engine::{Engine, Step},
    registry::{Kind, Observer, PackedInfo, PackedRouter, Registry, Transport},
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

/// `take` copies under the lock no more than it has to; `write` makes the answer of it without the
/// lock, because to unpack a thousand takes longer than others should wait.
async fn list<T, L>(
    engine: &Arc<Engine>,
    take: impl Fn(&Registry) -> T + Send + Sync,
    write: impl FnOnce(T) -> L + Send,
) -> Result<Answer, Problem>
where
    T: Send + 'static,
    L: serde::Serialize,
{
    let (taken, seq) = engine.run(|state| Ok(Step::Done(take(&state.registry)))).await?;
    Answer::json(200, &write(taken), seq)
}

/// `GET /routers`.
pub async fn routers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    let take = move |registry: &Registry| {
        let (ids, next_after) = page.ids(registry, Kind::Router);
        let found = ids.iter().filter_map(|id| registry.routers.get(id));
        let packed: Vec<_> = found.map(|one| (one.packed_info(), one.counts())).collect();
        (packed, next_after)
    };
    let write = |(packed, next_after): (Vec<(PackedRouter, RouterCounts)>, _)| {
        let item =
            |(info, counts): (PackedRouter, _)| RouterListItem { router: info.unpack(), counts };
        RouterList { items: packed.into_iter().map(item).collect(), next_after }
    };
    list(engine, take, write).await
}

/// `GET /transports`.
pub async fn transports(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    let take = move |registry: &Registry| {
        let (ids, next_after) = page.ids(registry, Kind::Transport);
        let items = ids.iter().filter_map(|id| registry.transports.get(id));
        TransportList { items: items.map(Transport::whole_info).collect(), next_after }
    };
    list(engine, take, |list| list).await
}

/// `GET /producers`.
pub async fn producers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    let take = move |registry: &Registry| {
        let (ids, next_after) = page.ids(registry, Kind::Producer);
        let items = ids.iter().filter_map(|id| registry.producers.get(id));
        ProducerList { items: items.map(|one| one.info.clone()).collect(), next_after }
    };
    list(engine, take, |list| list).await
}

/// `GET /consumers`.
pub async fn consumers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    let take = move |registry: &Registry| {
        let (ids, next_after) = page.ids(registry, Kind::Consumer);
        let found = ids.iter().filter_map(|id| registry.consumers.get(id));
        let packed: Vec<_> = found.map(|one| one.packed_info()).collect();
        (packed, next_after)
    };
    let write = |(packed, next_after): (Vec<PackedInfo>, _)| ConsumerList {
        items: packed.into_iter().map(PackedInfo::unpack).collect(),
        next_after,
    };
    list(engine, take, write).await
}

/// `GET /observers`.
pub async fn observers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    let take = move |registry: &Registry| {
        let (ids, next_after) = page.ids(registry, Kind::Observer);
        let items = ids.iter().filter_map(|id| registry.observers.get(id));
        ObserverList { items: items.map(Observer::whole_info).collect(), next_after }
    };
    list(engine, take, |list| list).await
}
