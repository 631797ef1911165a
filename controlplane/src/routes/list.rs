//! Lists: pages of resources in ascending order of ids.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use ironcast_api::{
    ConsumerList, Id, LIST_LIMIT_DEFAULT, LIST_LIMIT_MAX, Problem, ProducerList, RouterList,
    RouterListItem, TransportList,
};

use crate::{
    call::{Answer, Call},
    engine::{Engine, Step},
    registry::{Registry, Transport},
};

/// Which page.
#[derive(Debug, Clone)]
struct Page {
    after: Option<Id>,
    limit: usize,
    router_id: Option<Id>,
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
            after: query.id("after")?,
            limit: limit as usize,
            router_id: query.id("routerId")?,
        })
    }

    /// The page's items and the `after` of the next one.
    fn take<R, I>(
        &self,
        all: &BTreeMap<Id, R>,
        info: impl Fn(&R) -> I,
        router_of: impl Fn(&R) -> &Id,
        id_of: impl Fn(&I) -> &Id,
    ) -> (Vec<I>, Option<Id>) {
        let from = self.after.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut items: Vec<I> = all
            .range::<Id, _>((from, Bound::Unbounded))
            .map(|(_, one)| one)
            .filter(|one| self.router_id.as_ref().is_none_or(|id| router_of(one) == id))
            .take(self.limit + 1)
            .map(info)
            .collect();
        let has_more = items.len() > self.limit;
        items.truncate(self.limit);
        let next_after = items.last().filter(|_| has_more).map(|one| id_of(one).clone());
        (items, next_after)
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
        let (items, next_after) = page.take(
            &registry.routers,
            |one| RouterListItem { router: one.info.clone(), counts: registry.counts(one) },
            |one| &one.info.id,
            |item| &item.router.id,
        );
        RouterList { items, next_after }
    })
    .await
}

/// `GET /transports`.
pub async fn transports(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let all = &registry.transports;
        let (items, next_after) =
            page.take(all, Transport::whole_info, |one| &one.info.router_id, |info| &info.id);
        TransportList { items, next_after }
    })
    .await
}

/// `GET /producers`.
pub async fn producers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let all = &registry.producers;
        let (items, next_after) =
            page.take(all, |one| one.info.clone(), |one| &one.info.router_id, |info| &info.id);
        ProducerList { items, next_after }
    })
    .await
}

/// `GET /consumers`.
pub async fn consumers(engine: &Arc<Engine>, call: &Call) -> Result<Answer, Problem> {
    let page = Page::of(call)?;
    list(engine, move |registry| {
        let all = &registry.consumers;
        let (items, next_after) =
            page.take(all, |one| one.whole_info(), |one| &one.info.router_id, |info| &info.id);
        ConsumerList { items, next_after }
    })
    .await
}
