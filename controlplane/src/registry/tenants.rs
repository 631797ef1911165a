//! Whose is what. A router belongs to the principal that made it, and what hangs below a router
//! belongs to it too. Another's is not there: every look on behalf of a caller goes through the
//! functions of this file. Also what each principal has, for its quotas.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::Arc,
};

use ironcast_api::{Id, Problem};

use super::{Consumer, Kind, Observer, Producer, Registry, Router, Transport};
use crate::auth::Principal;

/// Whose a router is: the name of a principal, or nobody's, which only admins see.
pub type Owner = Option<Arc<str>>;

/// What a principal has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    pub routers: BTreeSet<Id>,
    pub transports: usize,
    /// Of each router those that have a transport there.
    pub participants: usize,
    /// What its transports last carried, both ways, bits per second.
    pub bps: u64,
}

impl Router {
    /// Whose a transport would be that is made here, and whether its participant has none yet.
    #[must_use]
    pub fn newcomer(&self, participant: Option<&Id>) -> (Owner, bool) {
        let is_new = participant.is_some_and(|one| !self.participants.contains_key(one));
        (self.owner.clone(), is_new)
    }
}

impl Registry {
    /// A principal's routers, transports and participants.
    #[must_use]
    pub fn holdings(&self, owner: &str) -> Option<&Holdings> {
        self.holdings.get(owner)
    }

    /// Whether a caller sees what hangs below a router.
    #[must_use]
    pub fn sees(&self, who: &Principal, router_id: &Id) -> bool {
        self.routers.get(router_id).is_some_and(|router| who.sees(router.owner.as_ref()))
    }

    /// A router that a caller sees.
    pub fn router(&self, who: &Principal, id: &Id) -> Result<&Router, Problem> {
        let router = self.routers.get(id).filter(|router| who.sees(router.owner.as_ref()));
        router.ok_or_else(|| Problem::not_found(Kind::Router.as_str(), id))
    }

    /// A transport that a caller sees.
    pub fn transport(&self, who: &Principal, id: &Id) -> Result<&Transport, Problem> {
        let transport = self.transports.get(id).filter(|one| self.sees(who, &one.info.router_id));
        transport.ok_or_else(|| Problem::not_found(Kind::Transport.as_str(), id))
    }

    /// A producer that a caller sees.
    pub fn producer(&self, who: &Principal, id: &Id) -> Result<&Producer, Problem> {
        let producer = self.producers.get(id).filter(|one| self.sees(who, &one.info.router_id));
        producer.ok_or_else(|| Problem::not_found(Kind::Producer.as_str(), id))
    }

    /// A consumer that a caller sees.
    pub fn consumer(&self, who: &Principal, id: &Id) -> Result<&Consumer, Problem> {
        let consumer = self.consumers.get(id).filter(|one| self.sees(who, &one.info.router_id));
        let consumer = consumer.map(AsRef::as_ref);
        consumer.ok_or_else(|| Problem::not_found(Kind::Consumer.as_str(), id))
    }

    /// An observer that a caller sees.
    pub fn observer(&self, who: &Principal, id: &Id) -> Result<&Observer, Problem> {
        let observer = self.observers.get(id).filter(|one| self.sees(who, &one.info.router_id));
        observer.ok_or_else(|| Problem::not_found(Kind::Observer.as_str(), id))
    }

    /// The first router behind `after` that a caller sees.
    #[must_use]
    pub fn next_router(&self, who: &Principal, after: Option<&Id>) -> Option<&Router> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = (from, Bound::Unbounded);
        if who.is_admin() {
            return self.routers.range::<Id, _>(behind).next().map(|(_, router)| router);
        }
        let own = &self.holdings.get(&who.name)?.routers;
        self.routers.get(own.range::<Id, _>(behind).next()?)
    }

    /// The first so many ids behind `after`, in order, of one kind in the routers that a caller
    /// sees, or in one of them.
    #[must_use]
    pub fn page(
        &self,
        who: &Principal,
        kind: Kind,
        only: Option<&Id>,
        after: Option<&Id>,
        count: usize,
    ) -> Vec<Id> {
        let behind = (after.map_or(Bound::Unbounded, Bound::Excluded), Bound::Unbounded);
        let routers: Vec<&Router> = match only {
            Some(id) => self.router(who, id).into_iter().collect(),
            None if who.is_admin() => {
                fn first<'a, T: 'a>(
                    all: &'a BTreeMap<Id, T>,
                    behind: (Bound<&Id>, Bound<&Id>),
                    is_there: impl Fn(&T) -> bool + 'a,
                ) -> Box<dyn Iterator<Item = &'a Id> + 'a> {
                    let behind = all.range::<Id, _>(behind);
                    Box::new(behind.filter(move |(_, one)| is_there(one)).map(|(id, _)| id))
                }
                // What a closed router held is not there any more.
                let has = |router_id: &Id| self.routers.contains_key(router_id);
                let ids = match kind {
                    Kind::Router => first(&self.routers, behind, |_| true),
                    Kind::Transport => {
                        first(&self.transports, behind, |one| has(&one.info.router_id))
                    }
                    Kind::Producer => {
                        first(&self.producers, behind, |one| has(&one.info.router_id))
                    }
                    Kind::Consumer => {
                        first(&self.consumers, behind, |one| has(&one.info.router_id))
                    }
                    Kind::Observer => {
                        first(&self.observers, behind, |one| has(&one.info.router_id))
                    }
                };
                return ids.take(count).cloned().collect();
            }
            None => {
                let Some(own) = self.holdings.get(&who.name) else { return Vec::new() };
                if kind == Kind::Router {
                    return own.routers.range::<Id, _>(behind).take(count).cloned().collect();
                }
                own.routers.iter().filter_map(|id| self.routers.get(id)).collect()
            }
        };
        let mut found = BTreeSet::new();
        for router in routers {
            let ids = match kind {
                Kind::Router => {
                    let is_behind = after.is_none_or(|after| router.info.id > *after);
                    found.extend(is_behind.then_some(&router.info.id));
                    continue;
                }
                Kind::Transport => &router.transports,
                Kind::Producer => &router.producers,
                Kind::Consumer => &router.consumers,
                Kind::Observer => &router.observers,
            };
            for id in ids.range::<Id, _>(behind) {
                // A full page: what comes behind its last is not on it, nor the rest of this room.
                if found.len() == count && found.last().is_some_and(|last| id > *last) {
                    break;
                }
                found.insert(id);
                if found.len() > count {
                    found.pop_last();
                }
            }
        }
        found.into_iter().cloned().collect()
    }

    pub(super) fn count_router(&mut self, owner: &Owner, id: &Id) {
        if let Some(owner) = owner {
            self.holdings.entry(Arc::clone(owner)).or_default().routers.insert(id.clone());
        }
    }

    /// What a transport carries now.
    pub fn set_bps(&mut self, transport_id: &Id, bps: u64) {
        let Some(transport) = self.transports.get_mut(transport_id) else { return };
        let before = std::mem::replace(&mut transport.bps, bps);
        let owner = self.routers.get(&transport.info.router_id).and_then(|one| one.owner.as_ref());
        if let Some(holdings) = owner.and_then(|owner| self.holdings.get_mut(owner)) {
            holdings.bps = holdings.bps - before + bps;
        }
    }

    /// A router has gone, with all that hung below it.
    pub(super) fn uncount_router(&mut self, router: &Router) {
        let Some(owner) = &router.owner else { return };
        let transports = router.transports.iter().filter_map(|id| self.transports.get(id));
        let bps: u64 = transports.map(|transport| transport.bps).sum();
        let Some(holdings) = self.holdings.get_mut(owner) else { return };
        holdings.routers.remove(&router.info.id);
        holdings.transports -= router.transports.len();
        holdings.participants -= router.participants.len();
        holdings.bps -= bps;
        if holdings.routers.is_empty() {
            self.holdings.remove(owner);
        }
    }

    pub(super) fn count_transport(&mut self, router_id: &Id, participant: Option<&Id>) {
        let Some(router) = self.routers.get_mut(router_id) else { return };
        let mut is_new = false;
        if let Some(participant) = participant {
            let count = router.participants.entry(participant.clone()).or_default();
            *count += 1;
            is_new = *count == 1;
        }
        let holdings = router.owner.as_ref().and_then(|owner| self.holdings.get_mut(owner));
        if let Some(holdings) = holdings {
            holdings.transports += 1;
            holdings.participants += usize::from(is_new);
        }
    }

    /// A transport has gone from a router that is still there.
    pub(super) fn uncount_transport(&mut self, router_id: &Id, participant: Option<&Id>, bps: u64) {
        let Some(router) = self.routers.get_mut(router_id) else { return };
        let mut is_last = false;
        if let Some(participant) = participant
            && let Some(count) = router.participants.get_mut(participant)
        {
            *count -= 1;
            if *count == 0 {
                router.participants.remove(participant);
                is_last = true;
            }
        }
        let holdings = router.owner.as_ref().and_then(|owner| self.holdings.get_mut(owner));
        if let Some(holdings) = holdings {
            holdings.transports -= 1;
            holdings.participants -= usize::from(is_last);
            holdings.bps -= bps;
        }
    }
}
