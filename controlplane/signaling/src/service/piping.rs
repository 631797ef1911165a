//! Tracks of a room that is at several media hosts. What somebody receives whose router is another one
//! than the sender's is piped there first (`POST /pipes`), when the first one there wants it: once, for
//! however many ask. It is made by a task of its own, without the room's lock; who asks waits for a
//! while, and is told to ask again. A pipe ends with its track, which the hosts see to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ironcast_api::Id;

use super::{RETRY_FIRST, RETRY_LONGEST, Service, Thing};
use crate::failure::Failure;
use crate::media::{MediaError, MediaResult, RouterView};
use crate::rooms::{Cell, Pipe, PipeState, RouterSlot};

/// Pipes that are made at once: a host makes those between two routers one after the other.
pub(super) const AT_ONCE_MAX: usize = 16;

/// On a producer: its id here, which its copies at other hosts have, too.
pub(super) const NOTE_TRACK: &str = "signalingTrack";

/// What one node of a fleet tells the others has heard by then.
const HEARD_WITHIN: Duration = Duration::from_secs(2);

/// From a track's router to the one where it is wanted.
#[derive(Debug, Clone)]
pub(super) struct Passage {
    pub(super) from: Arc<RouterSlot>,
    pub(super) to: Arc<RouterSlot>,
}

/// Not now; those who ask again do so by this code.
pub(super) fn not_yet() -> Failure {
    let message = "this comes from another media host, and does not come from there now; try again";
    Failure::new("media_unavailable", message)
}

/// Tracks of other routers that are in this one: what each is called here, and where it comes from.
fn copies(router: &RouterView) -> impl Iterator<Item = (Id, Id)> {
    let pipes = router.transports.iter().filter(|transport| transport.is_pipe);
    pipes.flat_map(|transport| &transport.producers).filter_map(|copy| {
        let noted = copy.app_data.as_map().get(NOTE_TRACK).and_then(|id| id.as_str());
        let of = noted.unwrap_or(copy.id.as_str());
        Some((Id::new(copy.id.clone()).ok()?, Id::new(of).ok()?))
    })
}

impl Service {
    /// What a track is called at another router of its room, once it is there.
    pub(super) async fn piped(
        self: &Arc<Self>,
        cell: &Arc<Cell>,
        producer: &Id,
        passage: &Passage,
    ) -> Result<Id, Failure> {
        let pipe = {
            let mut room = cell.lock();
            let known = room.pipe(producer, &passage.to.id).filter(|pipe| !pipe.is_over());
            match known {
                Some(pipe) => pipe.clone(),
                None => {
                    let (told, pipe) = Pipe::begin();
                    room.add_pipe(producer, &passage.to.id, pipe.clone())?;
                    let (service, producer) = (Arc::clone(self), producer.clone());
                    let passage = passage.clone();
                    tokio::spawn(async move {
                        let state = service.make_pipe(&producer, &passage).await;
                        told.send_replace(state);
                    });
                    pipe
                }
            }
        };
        let waited = tokio::time::timeout(self.settings.pipe_patience, pipe.outcome()).await;
        waited.ok().flatten().unwrap_or_else(|| Err(not_yet()))
    }

    /// The same for who has a room's name: a track as it is called at a router.
    pub(crate) async fn track_at(
        self: &Arc<Self>,
        room_id: &Id,
        producer: &Id,
        router: &Arc<RouterSlot>,
    ) -> Result<Id, Failure> {
        let missing = || Failure::not_found("producer", producer);
        let cell = self.rooms.room(room_id).ok_or_else(missing)?;
        let from = {
            let room = cell.lock();
            let owner = room.owner(producer).ok_or_else(missing)?;
            Arc::clone(room.router_at(&owner))
        };
        if from.id == router.id {
            return Ok(producer.clone());
        }
        let passage = Passage { from, to: Arc::clone(router) };
        self.piped(&cell, producer, &passage).await
    }

    async fn make_pipe(&self, producer: &Id, passage: &Passage) -> PipeState {
        let began = Instant::now();
        let mut wait = RETRY_FIRST;
        let failed = loop {
            let error = match self.try_to_pipe(producer, passage).await {
                Ok(id) => {
                    self.metrics.count_pipe(true);
                    return PipeState::Made(id);
                }
                Err(error) => error,
            };
            if !error.is_temporary() || began.elapsed() + wait >= self.settings.pipe_patience {
                break error;
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(RETRY_LONGEST);
        };
        self.metrics.count_pipe(false);
        let (from, to) = (self.host(passage.from.host), self.host(passage.to.host));
        tracing::warn!(router = %passage.from.id, %from, %to, %producer, error = %failed, "a track cannot be piped");
        let failure = match &failed {
            MediaError::Busy { .. } => failed.into(),
            _ => not_yet(),
        };
        PipeState::Failed(failure, Instant::now())
    }

    async fn try_to_pipe(&self, producer: &Id, passage: &Passage) -> MediaResult<Id> {
        let Passage { from, to } = passage;
        if let Some(away) = [from.host, to.host].into_iter().find(|id| self.host(*id).is_away()) {
            let away = self.host(away);
            return Err(MediaError::Unavailable(format!("the health check of {away} fails")));
        }
        let no_address = || MediaError::Refused {
            code: "forbidden".to_owned(),
            message: "the other host has no address".to_owned(),
        };
        let url = self.host(to.host).about.pipe_url.clone().ok_or_else(no_address)?;
        let _turn = self.piping.acquire().await;
        let asked = self.media(from.host).pipe(producer.clone(), to.id.clone(), url).await;
        match asked {
            Err(MediaError::Refused { code, .. }) if code == "already_exists" => {
                // By another node, or by this one before it was started again, or its answer was lost.
                let there = self.media(to.host).router(to.id.clone()).await?;
                let not_seen = || MediaError::Unavailable("a pipe is on its way".to_owned());
                let copy = copies(&there).find(|(_, of)| of == producer);
                copy.map(|(copy, _)| copy).ok_or_else(not_seen)
            }
            asked => asked,
        }
    }

    /// One of a room's routers is gone. Who had its tracks elsewhere has them no more: a host that is
    /// lost cannot see to that.
    pub(super) fn clear_copies(self: &Arc<Self>, cell: &Arc<Cell>) {
        let routers: Vec<Arc<RouterSlot>> =
            cell.lock().routers().filter(|router| router.is_made()).cloned().collect();
        for router in routers {
            tokio::spawn(Arc::clone(self).clear_copies_at(Arc::clone(cell), router));
        }
    }

    async fn clear_copies_at(self: Arc<Self>, cell: Arc<Cell>, router: Arc<RouterSlot>) {
        let asked = self.ask(router.host, |media| media.router(router.id.clone())).await;
        let Ok(view) = asked else { return self.host(router.host).set_out_of_step() };
        let is_nobodys = |(_, of): &(Id, Id)| cell.lock().owner(of).is_none();
        let left: Vec<(Id, Id)> = copies(&view).filter(is_nobodys).collect();
        // Of what has just begun at another node this one may not have heard.
        if !left.is_empty() && self.is_fleet() {
            tokio::time::sleep(HEARD_WITHIN).await;
        }
        for (copy, _) in left.into_iter().filter(is_nobodys) {
            self.free(router.host, Thing::Producer, copy);
        }
    }
}
