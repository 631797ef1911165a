//! What is being made at the media server. Until it is remembered here it is nobody's: when its
//! maker fails, is cut off, or finds its owner gone, it is freed by its id. So an answer that was
//! lost leaves nothing behind.

use std::sync::Arc;

use ironcast_api::Id;
use tokio::sync::OwnedMutexGuard;

use super::Service;
use crate::hosts::HostId;
use crate::media::{MediaError, MediaResult};
use crate::rooms::RouterSlot;

/// What can be freed by its id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thing {
    Transport,
    Producer,
    Consumer,
    Router,
}

/// Frees what it stands for unless it is kept.
pub(super) struct Making {
    service: Arc<Service>,
    host: HostId,
    thing: Thing,
    id: Id,
    is_settled: bool,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Making {
    /// Nobody else's turn comes before it is kept, or freed.
    pub(super) fn holding(mut self, turn: OwnedMutexGuard<()>) -> Self {
        self.turn = Some(turn);
        self
    }

    /// A clear refusal means that nothing was made.
    pub(super) fn answered<T>(&mut self, answer: MediaResult<T>) -> MediaResult<T> {
        if matches!(answer, Err(MediaError::Refused { .. })) {
            self.is_settled = true;
        }
        answer
    }

    /// It has an owner now.
    pub(super) fn keep(mut self) {
        self.is_settled = true;
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        self.service.being_made().remove(&self.id);
        if !self.is_settled {
            self.service.free_in_turn(self.host, self.thing, self.id.clone(), self.turn.take());
        }
    }
}

impl Service {
    pub(super) fn making(self: &Arc<Self>, host: HostId, thing: Thing, id: &Id) -> Making {
        self.being_made().insert(id.clone());
        let (service, id) = (Arc::clone(self), id.clone());
        Making { service, host, thing, id, is_settled: false, turn: None }
    }

    /// Frees it at the media server, without anybody waiting for it.
    pub(crate) fn free(self: &Arc<Self>, host: HostId, thing: Thing, id: Id) {
        self.free_in_turn(host, thing, id, None);
    }

    /// The turn is over when it is gone.
    fn free_in_turn(
        self: &Arc<Self>,
        host: HostId,
        thing: Thing,
        id: Id,
        turn: Option<OwnedMutexGuard<()>>,
    ) {
        self.clean_up(host, thing, move |media| {
            let (id, _turn) = (id.clone(), &turn);
            async move {
                match thing {
                    Thing::Transport => media.delete_transport(id).await,
                    Thing::Producer => media.delete_producer(id).await,
                    Thing::Consumer => media.delete_consumer(id).await,
                    Thing::Router => media.delete_router(id).await,
                }
            }
        });
    }

    /// Frees a room's router.
    pub(crate) fn free_router(self: &Arc<Self>, router: &RouterSlot) {
        self.free(router.host, Thing::Router, router.id.clone());
    }

    /// Closes all transports of a session.
    pub(crate) fn free_session(self: &Arc<Self>, router: &RouterSlot, session: Id) {
        let router_id = router.id.clone();
        self.clean_up(router.host, Thing::Transport, move |media| {
            let (router_id, session) = (router_id.clone(), session.clone());
            async move { media.leave(router_id, session).await }
        });
    }
}
