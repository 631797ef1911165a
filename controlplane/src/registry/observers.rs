//! Observers in the registry: each knows its producers, and each producer its observers.

use std::{collections::BTreeSet, sync::Arc};

use ironcast_api::{
    Id, ObserverInfo,
    events::{EventData, ObserverEvent},
};

use super::{Kind, Registry, Told};
use crate::{events::EventLog, note::BodyHash};

/// Who listens to a room.
#[derive(Debug)]
pub struct Observer {
    /// Without its producers: see [`Observer::whole_info`].
    pub info: ObserverInfo,
    pub hash: BodyHash,
    pub producers: BTreeSet<Id>,
    /// Held by each producer that is on its way to it.
    coming: Arc<()>,
}

impl Observer {
    /// That listens to these.
    #[must_use]
    pub fn new(info: ObserverInfo, hash: BodyHash, producers: BTreeSet<Id>) -> Self {
        Self { info, hash, producers, coming: Arc::default() }
    }

    /// One more is on its way, until this is dropped.
    #[must_use]
    pub fn expect_one(&self) -> Arc<()> {
        Arc::clone(&self.coming)
    }

    /// Those that it listens to, and those on their way.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.producers.len() + Arc::strong_count(&self.coming) - 1
    }

    /// As the API describes it.
    #[must_use]
    pub fn whole_info(&self) -> ObserverInfo {
        let producer_ids = self.producers.iter().cloned().collect();
        ObserverInfo { producer_ids, ..self.info.clone() }
    }
}

impl Registry {
    /// Adds an observer; false if its router is gone.
    pub fn insert_observer(&mut self, observer: Observer) -> bool {
        let Some(router) = self.routers.get_mut(&observer.info.router_id) else { return false };
        let id = observer.info.id.clone();
        router.observers.insert(id.clone());
        let home = router.worker;
        for producer_id in &observer.producers {
            if let Some(producer) = self.producers.get_mut(producer_id) {
                producer.observers.insert(id.clone());
                self.use_mirror(producer_id, home);
            }
        }
        self.observers.insert(id, observer);
        true
    }

    /// An observer listens to a producer, if both are still there.
    pub fn observe(&mut self, id: &Id, producer_id: &Id) {
        let Some(producer) = self.producers.get_mut(producer_id) else { return };
        let Some(observer) = self.observers.get_mut(id) else { return };
        producer.observers.insert(id.clone());
        if observer.producers.insert(producer_id.clone())
            && let Some(router) = self.routers.get(&observer.info.router_id)
        {
            let home = router.worker;
            self.use_mirror(producer_id, home);
        }
    }

    /// The reverse.
    pub fn unobserve(&mut self, id: &Id, producer_id: &Id) {
        if let Some(producer) = self.producers.get_mut(producer_id) {
            producer.observers.remove(id);
        }
        if let Some(observer) = self.observers.get_mut(id)
            && observer.producers.remove(producer_id)
            && let Some(router) = self.routers.get(&observer.info.router_id)
        {
            let home = router.worker;
            self.leave_mirror(producer_id, home);
        }
    }

    /// Closes an observer because a caller asked for it.
    pub fn close_observer(&mut self, id: &Id, log: &mut EventLog) {
        self.remove_observer(id, Told::Itself, log);
        self.remember_deleted(Kind::Observer, id);
    }

    pub(super) fn remove_observer(&mut self, id: &Id, told: Told, log: &mut EventLog) {
        let Some(observer) = self.observers.remove(id) else { return };
        let home = self.routers.get(&observer.info.router_id).map(|router| router.worker);
        for producer_id in &observer.producers {
            if let Some(producer) = self.producers.get_mut(producer_id) {
                producer.observers.remove(id);
            }
            if let Some(home) = home {
                self.leave_mirror(producer_id, home);
            }
        }
        let info = observer.info;
        if let Some(router) = self.routers.get_mut(&info.router_id) {
            router.observers.remove(id);
        }
        told.publish(log, &info.router_id, || EventData::ObserverClosed(observer_event(&info)));
    }
}

/// The fields of every event about an observer's life.
#[must_use]
pub fn observer_event(info: &ObserverInfo) -> ObserverEvent {
    ObserverEvent { observer_id: info.id.clone(), observer_type: info.observer_type }
}
