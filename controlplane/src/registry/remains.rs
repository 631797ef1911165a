//! What hung below routers that are closed. A large room's end takes tens of milliseconds, for which
//! everybody would wait: the router goes at once, what it held is taken away in portions. Until then
//! nobody sees it, because every look on behalf of a caller goes by the router.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use ironcast_api::Id;

use super::{Registry, Router};

/// Resources that are taken away at once: some hundred microseconds.
pub const PORTION: usize = 256;

/// Routers that are closed, the oldest first, with what of them is still there.
#[derive(Debug, Default)]
pub(super) struct Remains(VecDeque<Router>);

impl Registry {
    /// Whether something is left to be taken away.
    #[must_use]
    pub fn has_remains(&self) -> bool {
        !self.remains.0.is_empty()
    }

    /// Keeps what a closed router held, to be taken away later.
    pub(super) fn leave(&mut self, router: Router) {
        self.remains.0.push_back(router);
    }

    /// Takes at most so many resources away.
    pub fn sweep(&mut self, mut count: usize) {
        while count > 0
            && let Some(mut router) = self.remains.0.pop_front()
        {
            self.sweep_router(&mut router, &mut count);
            if count == 0 {
                self.remains.0.push_front(router);
            }
        }
    }

    /// A router of this id is made again: what is left of the one before goes first, so that its
    /// children are not taken for those of the new one.
    pub(super) fn sweep_before(&mut self, id: &Id) {
        if let Some(place) = self.remains.0.iter().position(|router| router.info.id == *id)
            && let Some(mut router) = self.remains.0.remove(place)
        {
            let mut all = usize::MAX;
            self.sweep_router(&mut router, &mut all);
        }
    }

    /// Another router may have a child of the same id by now: only its own are taken.
    fn sweep_router(&mut self, router: &mut Router, count: &mut usize) {
        let own = router.info.id.clone();
        while *count > 0 {
            *count -= 1;
            if let Some(id) = router.observers.pop_first() {
                take_if(&mut self.observers, id, |one| one.info.router_id == own);
            } else if let Some(id) = router.consumers.pop_first() {
                take_if(&mut self.consumers, id, |one| one.info.router_id == own);
            } else if let Some(id) = router.producers.pop_first() {
                take_if(&mut self.producers, id, |one| one.info.router_id == own);
            } else if let Some(id) = router.transports.pop_first() {
                take_if(&mut self.transports, id, |one| one.info.router_id == own);
            } else {
                return;
            }
        }
    }
}

/// Takes the resource of an id away, if it is the right one.
fn take_if<T>(resources: &mut BTreeMap<Id, T>, id: Id, is_right: impl Fn(&T) -> bool) {
    if let Entry::Occupied(resource) = resources.entry(id)
        && is_right(resource.get())
    {
        resource.remove();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use ironcast_api::{ConsumerInfo, ProducerInfo, RouterInfo, events::RouterClosedReason};
    use serde::de::DeserializeOwned;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        auth::Principal,
        events::{EventLog, Keep},
        note::{BodyHash, TransportNote},
        rebuild::new_router,
        registry::{Kind, Producer, Transport},
    };

    fn id(text: &str) -> Id {
        Id::new(text).unwrap()
    }

    /// The example of the API's document, with other ids.
    fn example<T: DeserializeOwned>(call: &str, ids: Value) -> T {
        let all: Value = serde_json::from_str(include_str!("../openapi/examples.json")).unwrap();
        let mut info = all[call]["answer"].clone();
        for (name, value) in ids.as_object().unwrap() {
            info[name] = value.clone();
        }
        serde_json::from_value(info).unwrap()
    }

    fn hash() -> BodyHash {
        BodyHash::of(&Value::Null)
    }

    fn transport(room: &str, transport: &str) -> Transport {
        let info = example("get_transport", json!({ "id": transport, "routerId": room }));
        Transport::new(info, 0, TransportNote::default())
    }

    /// A room with a transport, a producer and so many consumers of it.
    fn add(registry: &mut Registry, room: &str, consumers: usize) {
        let (transport_id, producer_id) = (format!("{room}-t"), format!("{room}-p"));
        let info: RouterInfo = example("get_router", json!({ "id": room }));
        registry.insert_router(new_router(info, 0, hash()));
        assert!(registry.insert_transport(transport(room, &transport_id)));
        let ids = json!({ "id": producer_id, "routerId": room, "transportId": transport_id });
        let info: ProducerInfo = example("get_producer", ids);
        let consumable = Arc::new(info.rtp_parameters.clone());
        let producer = Producer::new(info, hash(), consumable, Vec::new());
        assert!(registry.insert_producer(producer));
        let ids =
            json!({ "routerId": room, "transportId": transport_id, "producerId": producer_id });
        let consumer: ConsumerInfo = example("get_consumer", ids);
        for number in 0..consumers {
            let info = ConsumerInfo { id: id(&format!("{room}-c{number:04}")), ..consumer.clone() };
            assert!(registry.insert_consumer(info, hash(), None));
        }
    }

    fn log() -> EventLog {
        EventLog::new(Keep { time: Duration::from_secs(60), bytes: 1 << 20 })
    }

    fn counts(registry: &Registry) -> (usize, usize, usize) {
        (registry.transports.len(), registry.producers.len(), registry.consumers.len())
    }

    #[test]
    fn what_a_closed_router_held_is_not_there_and_goes_in_portions() {
        let (mut registry, mut log) = (Registry::default(), log());
        add(&mut registry, "a", 1_000);
        add(&mut registry, "b", 10);
        let everybody = Principal::local(None);
        registry.close_router(&id("a"), RouterClosedReason::Request, &mut log);
        // One event, and nothing to be seen, although all of it is still kept.
        assert_eq!((log.head().number, counts(&registry)), (1, (2, 2, 1_010)));
        assert!(registry.transport(&everybody, &id("a-t")).is_err());
        assert!(registry.producer(&everybody, &id("a-p")).is_err());
        assert!(registry.consumer(&everybody, &id("a-c0000")).is_err());
        assert_eq!(registry.hash_of(Kind::Consumer, &id("a-c0000")), None);
        let page = registry.page(&everybody, Kind::Consumer, None, None, 100);
        assert!(page.len() == 10 && page.iter().all(|id| id.as_str().starts_with("b-")));
        let mut portions = 0;
        while registry.has_remains() {
            registry.sweep(PORTION);
            portions += 1;
        }
        assert_eq!((portions, counts(&registry)), (1_002 / PORTION + 1, (1, 1, 10)));
    }

    #[test]
    fn ids_are_free_at_once_for_another_router_and_for_the_same() {
        let (mut registry, mut log) = (Registry::default(), log());
        let everybody = Principal::local(None);
        add(&mut registry, "a", 10);
        registry.close_router(&id("a"), RouterClosedReason::WorkerDied, &mut log);
        // In another room a child of the same id, which stays when the rest goes.
        add(&mut registry, "b", 0);
        assert!(registry.insert_transport(transport("b", "a-t")));
        registry.sweep(usize::MAX);
        assert_eq!(counts(&registry), (2, 1, 0));
        assert!(registry.transport(&everybody, &id("a-t")).is_ok());
        // The same room again: what was in it before is not what is in it now.
        registry.close_router(&id("b"), RouterClosedReason::WorkerDied, &mut log);
        add(&mut registry, "b", 3);
        registry.sweep(usize::MAX);
        assert_eq!(counts(&registry), (1, 1, 3));
        assert!(registry.consumer(&everybody, &id("b-c0002")).is_ok());
    }
}
