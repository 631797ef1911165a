//! A track of one of a room's routers in another one: being made, made, or not to be had just now.
//! Who needs it waits; who makes it is `service::piping`.

use std::time::{Duration, Instant};

use ironcast_api::Id;
use tokio::sync::watch;

use crate::failure::Failure;

/// What could not be made is not tried again before.
const AGAIN: Duration = Duration::from_millis(500);

/// How far it is.
#[derive(Debug, Clone)]
pub enum PipeState {
    /// Somebody makes it.
    Making,
    /// It is there, under this id.
    Made(Id),
    /// It could not be made.
    Failed(Failure, Instant),
}

/// See the file's head.
#[derive(Debug, Clone)]
pub struct Pipe(watch::Receiver<PipeState>);

impl Pipe {
    /// One that is begun; whoever makes it says how that goes.
    pub fn begin() -> (watch::Sender<PipeState>, Self) {
        let (told, state) = watch::channel(PipeState::Making);
        (told, Self(state))
    }

    /// Whether it may be begun anew: it failed a while ago, or nobody makes it any more.
    pub fn is_over(&self) -> bool {
        match &*self.0.borrow() {
            PipeState::Made(_) => false,
            PipeState::Failed(_, at) => at.elapsed() >= AGAIN,
            PipeState::Making => self.0.has_changed().is_err(),
        }
    }

    /// What comes of it; none if nobody makes it any more.
    pub async fn outcome(mut self) -> Option<Result<Id, Failure>> {
        let is_settled = |state: &PipeState| !matches!(state, PipeState::Making);
        match &*self.0.wait_for(is_settled).await.ok()? {
            PipeState::Made(id) => Some(Ok(id.clone())),
            PipeState::Failed(failure, _) => Some(Err(failure.clone())),
            PipeState::Making => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::{Pipe, PipeState};
    use crate::failure::Failure;

    #[tokio::test]
    async fn all_who_wait_are_told_and_what_failed_is_begun_again_after_a_while() {
        let (told, pipe) = Pipe::begin();
        let waiting = [pipe.clone(), pipe.clone()].map(|one| tokio::spawn(one.outcome()));
        assert!(!pipe.is_over());
        told.send_replace(PipeState::Made("p".parse().unwrap()));
        for one in waiting {
            assert_eq!(one.await.unwrap(), Some(Ok("p".parse().unwrap())));
        }
        drop(told);
        assert!(!pipe.is_over(), "it is there");
        let (told, pipe) = Pipe::begin();
        told.send_replace(PipeState::Failed(Failure::media_unavailable(), Instant::now()));
        assert!(!pipe.is_over(), "not at once");
        let long_ago = Instant::now().checked_sub(super::AGAIN).unwrap();
        told.send_replace(PipeState::Failed(Failure::media_unavailable(), long_ago));
        assert!(pipe.is_over());
        let (told, pipe) = Pipe::begin();
        drop(told);
        assert!(pipe.is_over(), "nobody makes it");
        assert_eq!(pipe.outcome().await, None);
    }
}
