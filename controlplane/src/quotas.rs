//! What one principal may have on this host: routers, transports, participants, and bits per second. Asked
//! by the routes when something is to be made; who has too much already keeps it. What transports
//! carry is known by asking the dataplane for some of them each second, and only where it is limited.

mod file;

use std::{ops::Bound, sync::Arc, time::Duration};

use ironcast_api::{ErrorCode, Id, Problem};
use ironcast_protocol::{Command, Reply, command::Named};

use crate::{
    engine::{Engine, Place, State},
    limits::check_count,
    registry::{Kind, Owner},
};

pub use file::{FileError, Quota, Quotas};

/// Transports that are asked for in one second: the figures of more than these are some seconds old.
const SAMPLES_PER_S: usize = 1_000;

impl State {
    /// Whether a principal may have one more router.
    pub fn check_routers(&mut self, owner: &Owner) -> Result<(), Problem> {
        let Some(owner) = owner else { return Ok(()) };
        let there = self.registry.holdings(owner).map_or(0, |one| one.routers.len());
        let coming = self.on_their_way(Kind::Router, Place::Owner(Arc::clone(owner)));
        let max = self.limits.quota_of(owner).routers;
        self.check_quota(there + coming, max, "routers of this principal")
    }

    /// Whether a principal may have one more transport, and perhaps participant, in its routers.
    pub fn check_transports(&mut self, owner: &Owner, is_newcomer: bool) -> Result<(), Problem> {
        let Some(owner) = owner else { return Ok(()) };
        let (transports, participants) =
            self.registry.holdings(owner).map_or((0, 0), |one| (one.transports, one.participants));
        let coming = self.on_their_way(Kind::Transport, Place::Owner(Arc::clone(owner)));
        let quota = self.limits.quota_of(owner);
        self.check_quota(transports + coming, quota.transports, "transports of this principal")?;
        if !is_newcomer {
            return Ok(());
        }
        let coming = self.on_their_way(Kind::Transport, Place::Newcomers(Arc::clone(owner)));
        self.check_quota(
            participants + coming,
            quota.participants,
            "participants of this principal",
        )
    }

    /// Whether what a principal's transports carry leaves room for more.
    pub fn check_traffic(&mut self, owner: &Owner) -> Result<(), Problem> {
        let Some(owner) = owner else { return Ok(()) };
        let max = self.limits.quota_of(owner).bits_per_s;
        let bps = self.registry.holdings(owner).map_or(0, |one| one.bps);
        if max == 0 || bps < max {
            return Ok(());
        }
        self.quota_refusals += 1;
        let detail = format!(
            "the transports of this principal carry {bps} bits per second, {max} are allowed"
        );
        Err(Problem::new(ErrorCode::NoCapacity, detail).with_retry_after(5))
    }

    fn check_quota(&mut self, count: usize, max: u32, what: &str) -> Result<(), Problem> {
        check_count(count, max, what).inspect_err(|_| self.quota_refusals += 1)
    }

    /// The next transports behind one that belong to somebody.
    fn owned_transports(&self, after: Option<&Id>) -> Vec<Id> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.registry.transports.range::<Id, _>((from, Bound::Unbounded));
        let is_owned = |router_id: &Id| {
            self.registry.routers.get(router_id).is_some_and(|router| router.owner.is_some())
        };
        let owned = behind.filter(|(_, one)| is_owned(&one.info.router_id));
        owned.take(SAMPLES_PER_S).map(|(id, _)| id.clone()).collect()
    }
}

/// Asks what transports carry, each second some of them.
pub async fn sample(engine: Arc<Engine>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut after = None;
    loop {
        tick.tick().await;
        let (ids, link) = {
            let state = engine.lock();
            if !state.limits.limit_bits() {
                continue;
            }
            (state.owned_transports(after.as_ref()), state.link.clone())
        };
        let Some(link) = link else { continue };
        after = if ids.len() < SAMPLES_PER_S { None } else { ids.last().cloned() };
        for id in ids {
            let engine = Arc::clone(&engine);
            let command = Command::TransportStats(Named { id: id.to_string() });
            let on_reply = Box::new(move |reply| {
                if let Ok(Reply::TransportStats(stats)) = reply {
                    let bps = stats.send_bitrate.saturating_add(stats.recv_bitrate);
                    engine.lock().registry.set_bps(&id, bps);
                }
            });
            // No room now: it is asked again in its turn.
            if link.send(&command, on_reply).is_err() {
                break;
            }
        }
    }
}
